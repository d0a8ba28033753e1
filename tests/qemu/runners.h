/* Threads that run code which somebody else changes, for programs that do the changing. Once `done` they end. */
#ifndef RUNNERS_H
#define RUNNERS_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "code.h"

enum { RUNNERS = 2 };

/* Code of that name, which is put where the runners look. */
#define CODE(NAME, TEXT)                                                                                         \
    extern char NAME[];                                                                                          \
    __asm__(".text\n.balign 64\n.globl " #NAME "\n" #NAME ":\n\t" TEXT "\n.balign 64\n")
CODE(returns1, RETURN(1));
CODE(returns2, RETURN(2));

static char *code;
static __thread sigjmp_buf fault;
/* What the runners saw last: a number that the code returned, or minus a signal; and how often anything. */
static volatile int seen[RUNNERS], count[RUNNERS], wrong, done;
static pthread_t runners[RUNNERS];

static void on_fault(int signal)
{
    siglongjmp(fault, signal);
}

static void *run(void *argument)
{
    int *which = argument;

    while (!done) {
        int signal = sigsetjmp(fault, 1), got;

        if (signal) {
            got = -signal;
        } else {
            int (*volatile call)(void) = (int (*)(void))code;

            for (int i = 0; i < 50; i++) {
                got = call();
                if (got != 1 && got != 2) {
                    wrong = got;
                }
            }
        }
        seen[*which] = got;
        __atomic_fetch_add(&count[*which], 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* Waits until all runners saw that, more than once; not what was on its way before the change. */
static void expect(const char *what, int round, int wanted)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < RUNNERS; i++) {
        int before = count[i];

        while (count[i] - before < 3 || seen[i] != wanted) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            if (now.tv_sec - start.tv_sec > 20) {
                printf("%s, round %d: wanted %d, got %d\n", what, round, wanted, seen[i]);
                exit(1);
            }
            usleep(100);
        }
    }
}

/* Code that returns 1 is there. */
static void start_runners(void)
{
    static int which[RUNNERS] = { 0, 1 };

    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    for (int i = 0; i < RUNNERS; i++) {
        pthread_create(&runners[i], NULL, run, &which[i]);
    }
    expect("first", 0, 1);
}

/* Returns the exit status. */
static int end_runners(void)
{
    done = 1;
    for (int i = 0; i < RUNNERS; i++) {
        pthread_join(runners[i], NULL);
    }
    if (wrong) {
        printf("the code returned %d\n", wrong);
        return 1;
    }
    puts("all right");
    return 0;
}

#endif
