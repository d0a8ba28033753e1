/*
 * The first process of a PID namespace, as that of each container: signals that it has no handler for do nothing to
 * it, but faults end it. The patch behaviour/init lets both be so.
 *
 * test-qemu: says='all right' timeout=60
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static int *volatile nowhere;
static volatile sig_atomic_t handled;

static void handle(int signal)
{
    handled++;
}

/* How the first process ends that does this. */
static int end_of(void (*first)(void))
{
    int status;
    pid_t namespace = fork();
    if (namespace == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        CHECK(unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            CHECK(getpid() == 1);
            first();
            _exit(0);
        }
        alarm(20);
        CHECK(waitpid(pid, &status, 0) == pid);
        _exit(WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status));
    }
    CHECK(waitpid(namespace, &status, 0) == namespace && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void raises(void)
{
    struct sigaction action = {.sa_handler = handle};
    raise(SIGTERM);
    raise(SIGQUIT);
    raise(SIGSEGV);
    raise(SIGABRT);
    raise(SIGTRAP);
    raise(SIGTSTP);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigaction(SIGQUIT, &action, NULL);
    raise(SIGQUIT);
    _exit(handled == 2 ? 42 : 1);
}

static void reads_nowhere(void)
{
    *nowhere = 1;
}

static void jumps_nowhere(void)
{
    ((void (*)(void))nowhere)();
}

static void reads_beyond_the_end(void)
{
    FILE *file = tmpfile();
    nowhere = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    CHECK(nowhere != MAP_FAILED);
    *nowhere = 1;
}

static void blocks(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    reads_nowhere();
}

/* Its children are like any other process. */
static void has_children(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGTERM);
        _exit(1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    pid = fork();
    if (pid == 0) {
        reads_nowhere();
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    _exit(42);
}

int main(void)
{
    CHECK(end_of(raises) == 42);
    CHECK(end_of(reads_nowhere) == 100 + SIGSEGV);
    CHECK(end_of(jumps_nowhere) == 100 + SIGSEGV);
    CHECK(end_of(reads_beyond_the_end) == 100 + SIGBUS);
    CHECK(end_of(blocks) == 100 + SIGSEGV);
    CHECK(end_of(has_children) == 42);
    puts("all right");
    return 0;
}
