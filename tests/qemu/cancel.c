/*
 * A thread is cancelled, at any instruction, in the handler of a signal: what unwinds its stack finds the way through the
 * frames that the emulator makes for signals. The patch vdso-unwind.
 *
 * test-qemu: runs=30 says='all right'
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where it faults again, some unwinders lose their way on the last instructions of the handler's frame, on any machine. */
#if defined(__i386__) || defined(__x86_64__)
#define LAST RETURN
#else
#define LAST CALL
#endif

static enum { LOOP, COUNT, CALL, RETURN } kind;
static volatile int inside;
static volatile char *forbidden;

static void wait_for_end(void)
{
    inside = 1;
    for (;;) {
        if (kind == COUNT)
            inside++;
        if (kind == CALL)
            getppid();
        if (kind == RETURN)
            return;
    }
}

static void plain(int signal)
{
    (void)signal;
    wait_for_end();
}

static void with_information(int signal, siginfo_t *information, void *context)
{
    (void)signal, (void)information, (void)context;
    wait_for_end();
}

static void *fault(void *unused)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    *forbidden = 1;
    return unused;
}

int main(void)
{
    int failed = 0;

    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 8 * (LAST + 1); round++) {
        struct sigaction action;
        pthread_t thread;
        void *result;

        memset(&action, 0, sizeof action);
        if (round % 2)
            action.sa_handler = plain;
        else
            action.sa_sigaction = with_information, action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, NULL);
        kind = round / 2 % (LAST + 1);
        inside = 0;
        if (pthread_create(&thread, NULL, fault, NULL) != 0)
            return 1;
        while (!inside)
            ;
        pthread_cancel(thread);
        pthread_join(thread, &result);
        if (result != PTHREAD_CANCELED) {
            printf("round %d: not cancelled\n", round);
            failed = 1;
        }
    }
    puts(failed ? "failed" : "all right");
    return failed;
}
