/*
 * One thread forks while others make and unmake mappings, and hand addresses to the kernel that are mapped just then,
 * or not: who looks for an address must not keep the one who forks waiting, for whom it waits.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static atomic_int done;

static void *look(void *nothing)
{
    while (!done) {
        struct timespec *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED);
        CHECK(clock_gettime(CLOCK_MONOTONIC, page) == 0);
        CHECK(munmap(page, 4096) == 0);
        /* No address of any program's. Not through glibc, which looks at it where the kernel knows two times. */
        CHECK(syscall(SYS_nanosleep, (struct timespec *)16, NULL) == -1 && errno == EFAULT);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    time_t end = time(NULL) + 10;

    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, look, NULL) == 0);
    }
    for (int i = 0; i < 1000 && time(NULL) < end; i++) {
        int status;
        pid_t child = fork();

        CHECK(child >= 0);
        if (child == 0) {
            _exit(7);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    done = 1;
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    puts("all right");
}
