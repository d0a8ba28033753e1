/*
 * A signal ends a loop that has nothing but indirect jumps, at once and each time: no block of it jumps back by itself,
 * so it is where the next block is looked up that requests have to be seen.
 *
 * test-qemu: runs=3 says='all right'
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "code.h"

void spin_at_one(void);
void spin_between(void);
__asm__(".text\n.balign 64\n.globl spin_at_one\nspin_at_one:\n\t" SPIN_AT_ONE "\n"
        ".balign 64\n.globl spin_between\nspin_between:\n\t" SPIN_BETWEEN "\n");

static __thread sigjmp_buf out;
static volatile int ended;

static void leave(int signal)
{
    siglongjmp(out, signal);
}

/* A timer's signal, in this thread. */
static void by_timer(void (*spin)(void))
{
    struct itimerval soon = { .it_value = { .tv_usec = 2000 } };

    for (volatile int i = 0; i < 100; i++) {
        if (!sigsetjmp(out, 1)) {
            setitimer(ITIMER_REAL, &soon, NULL);
            spin();
        }
    }
}

static void *until_told(void *spin)
{
    if (!sigsetjmp(out, 1)) {
        ((void (*)(void))spin)();
    }
    __atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Another thread's signal, while this one also has all threads stopped again and again. */
static void by_thread(void (*spin)(void))
{
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        int before = ended;
        void *page;

        pthread_create(&thread, NULL, until_told, (void *)spin);
        usleep(2000);
        page = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(page, i, 65536);
        munmap(page, 65536);
        /* It may not have come to its loop. */
        usleep(20000);
        pthread_kill(thread, SIGUSR1);
        pthread_join(thread, NULL);
        if (ended != before + 1) {
            puts("a thread did not end by its signal");
            exit(1);
        }
    }
}

int main(void)
{
    signal(SIGALRM, leave);
    signal(SIGUSR1, leave);
    by_timer(spin_at_one);
    by_timer(spin_between);
    by_thread(spin_at_one);
    by_thread(spin_between);
    puts("all right");
    return 0;
}
