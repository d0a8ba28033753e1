/*
 * The first process of a PID namespace, as a container's program is one, ends by its own faults like any other: the
 * kernel lets a fault end it, but no signal that it sends itself.
 *
 * QEMU sent itself the signal, and then waited for ever. The patch behaviour/init makes the fault itself.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed;

static void by_store(void)
{
    volatile int *volatile nowhere = NULL;

    *nowhere = 1;
}

static void by_trap(void)
{
    __builtin_trap();
}

static void try(const char *what, void (*fault)(void))
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        fault();
        _exit(0);
    }
    for (int i = 0; i < 20 && waitpid(child, &status, WNOHANG) == 0; i++) {
        usleep(100000);
    }
    if (!WIFSIGNALED(status)) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        printf("%s: it does not end by a signal\n", what);
        failed = 1;
    }
}

/* Each in a namespace of its own, where it is the first process. */
static void try_apart(const char *what, void (*fault)(void))
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        if (unshare(CLONE_NEWPID)) {
            perror("unshare");
            exit(2);
        }
        try(what, fault);
        exit(failed);
    }
    waitpid(child, &status, 0);
    failed |= status != 0;
}

int main(void)
{
    setbuf(stdout, NULL);
    try_apart("store", by_store);
    try_apart("trap", by_trap);
    try_apart("abort", abort);
    puts(failed ? "bad" : "all right");
    return failed;
}
