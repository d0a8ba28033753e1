/*
 * Runs a command, and at its nth system call kills it, or lets the call fail.
 *
 * usage: fault N kill|ERRNO LIST COMMAND [ARGUMENT...]
 *
 * Calls are counted over all threads of the command's own process; processes that it starts are left alone. With N = 0
 * nothing is done to it, and LIST becomes a list of the numbers of its calls, one a line. Threads make the nth call another
 * one in each run: where the kernel never lets it fail like this, the next one fails. Exit status: the command's own,
 * 128 + N where a signal ended it, and standard error then says which call had failed; 125 where it has no nth call; 124
 * where it was not done after five minutes.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* linux/ptrace.h, which does not go together with sys/ptrace.h everywhere. */
#define GET_SYSCALL_INFO 0x420e
struct syscall_info {
    unsigned char op;
    unsigned char pad[3];
    unsigned arch;
    unsigned long long ip, sp, nr, args[6];
};

static int is_thread_of(pid_t tid, pid_t process)
{
    char path[64], line[256];
    int group = 0;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Tgid: %d", &group) == 1)
            break;
    if (file)
        fclose(file);
    return group == process;
}

/*
 * An end always comes, waking always works, brk answers with the old address, and what was closed is closed, whatever
 * close says.
 */
static int can_fail(unsigned long long call)
{
    return call != SYS_exit && call != SYS_exit_group && call != SYS_futex && call != SYS_brk && call != SYS_close;
}

/* What is traced ends with us. */
static void give_up(int signal)
{
    (void)signal;
    _exit(124);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: fault N kill|ERRNO LIST COMMAND [ARGUMENT...]\n");
        return 2;
    }
    long at = atol(argv[1]), count = 0;
    int error = strcmp(argv[2], "kill") ? atoi(argv[2]) : 0;
    FILE *list = at ? NULL : fopen(argv[3], "w");
    signal(SIGALRM, give_up);
    alarm(300);
    pid_t process = fork();
    if (process == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(argv[4], argv + 4);
        _exit(127);
    }
    int status, started = 0;
    waitpid(process, &status, 0);
    ptrace(PTRACE_SETOPTIONS, process, 0,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
               PTRACE_O_EXITKILL);
    ptrace(PTRACE_SYSCALL, process, 0, 0);
    pid_t failing = 0;
    long failed = -1;
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0)
            return 125;
        if (!WIFSTOPPED(status)) {
            if (tid != process)
                continue;
            if (list)
                fclose(list);
            if (at && (error ? failed < 0 : at > count))
                return 125;
            if (error && WIFSIGNALED(status))
                fprintf(stderr, "system call %ld had failed\n", failed);
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
        int stopped = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC)
            started = 1;
        if (stopped == (SIGTRAP | 0x80)) {
            struct syscall_info info = {0};
            ptrace(GET_SYSCALL_INFO, tid, (void *)sizeof info, &info);
            if (info.op == 1 && started) {
                count++;
                if (list)
                    fprintf(list, "%llu\n", info.nr);
                if (count == at && !error)
                    kill(process, SIGKILL);
                if (error && at && count >= at && failed < 0 && can_fail(info.nr)) {
                    /* No such call; its answer is written over when it comes. */
                    ptrace(PTRACE_POKEUSER, tid, (void *)(sizeof(long) * ORIG_RAX), -1L);
                    failing = tid;
                    failed = info.nr;
                }
            } else if (info.op == 2 && tid == failing) {
                ptrace(PTRACE_POKEUSER, tid, (void *)(sizeof(long) * RAX), (long)-error);
                failing = 0;
            }
            stopped = 0;
        } else if (event || stopped == SIGTRAP) {
            stopped = 0;
        } else if (stopped == SIGSTOP) {
            /* A new thread, or a process that is none of ours. */
            stopped = 0;
            if (!is_thread_of(tid, process)) {
                ptrace(PTRACE_DETACH, tid, 0, 0);
                continue;
            }
        }
        ptrace(PTRACE_SYSCALL, tid, 0, (void *)(long)stopped);
    }
}
