/*
 * Code that is mapped twice is written through the one mapping while other threads run it through the other: they see each
 * change in time, also from within a loop that only such a change ends, and run nothing that was never there. Both
 * mappings change their rights, go away and come back meanwhile.
 *
 * test-qemu: runs=5 says='all right'
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runners.h"

enum { PAGE = 65536, SIZE = 64, ROUNDS = 20, RUN = PROT_READ | PROT_EXEC, WRITE = PROT_READ | PROT_WRITE };

CODE(stays, STAY);

static char *writable;
static int memory;

/* At once what the code differs by, its first four bytes: nobody sees half of a change, on any machine. */
static void put(const char *from)
{
    __atomic_store_n((uint32_t *)writable, *(const uint32_t *)from, __ATOMIC_SEQ_CST);
    __builtin___clear_cache(code, code + SIZE);
}

static void put_by_file(const char *from)
{
    pwrite(memory, from, 4, 0);
    __builtin___clear_cache(code, code + SIZE);
}

/* The runners are in a loop that jumps to itself, or will be. */
static void trap(void)
{
    put(stays);
    usleep(3000);
}

static void changes(int round)
{
    put(returns2);
    expect("written", round, 2);
    trap();
    put(returns1);
    expect("written to what stays where it is", round, 1);
    put_by_file(returns2);
    expect("written to the file", round, 2);
    trap();
    put_by_file(returns1);
    expect("written to the file of what stays where it is", round, 1);
    trap();
    mprotect(code, PAGE, PROT_NONE);
    expect("no access", round, -SIGSEGV);
    put(returns2);
    mprotect(code, PAGE, RUN);
    expect("access again", round, 2);
    mprotect(writable, PAGE, PROT_READ);
    expect("not writable", round, 2);
    mprotect(writable, PAGE, WRITE);
    put(returns1);
    expect("writable again", round, 1);
    trap();
    munmap(code, PAGE);
    expect("unmapped", round, -SIGSEGV);
    mmap(code, PAGE, RUN, MAP_SHARED | MAP_FIXED, memory, 0);
    usleep(3000);
    munmap(writable, PAGE);
    writable = mmap(NULL, PAGE, WRITE, MAP_SHARED, memory, 0);
    put(returns2);
    expect("written where it was mapped anew", round, 2);
    trap();
    mprotect(code, PAGE, PROT_READ | PROT_WRITE);
    expect("not executable", round, -SIGSEGV);
    mprotect(code, PAGE, RUN);
    usleep(3000);
    put(returns1);
    expect("executable again", round, 1);
}

static void *write_beside(void *nothing)
{
    (void)nothing;
    for (unsigned i = 0; !done; i++) {
        /* Data of the same page, and a page that is no code. */
        __atomic_store_n((uint32_t *)(writable + 2048), i, __ATOMIC_SEQ_CST);
        if (*(volatile uint32_t *)(code + 2048) > i) {
            wrong = -1000;
        }
        if (i % 64 == 0) {
            usleep(500);
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t beside;

    memory = memfd_create("code", 0);
    ftruncate(memory, PAGE);
    writable = mmap(NULL, PAGE, WRITE, MAP_SHARED, memory, 0);
    code = mmap(NULL, PAGE, RUN, MAP_SHARED, memory, 0);
    memcpy(writable, returns1, SIZE);
    put(returns1);
    start_runners();
    for (int i = 0; i < ROUNDS; i++) {
        changes(i);
    }
    /* Many writes, none of which is waited for, while a thread writes data beside the code. */
    pthread_create(&beside, NULL, write_beside, NULL);
    for (int i = 0; i < 2000; i++) {
        put(i & 1 ? returns1 : returns2);
        if (i % 500 == 499) {
            expect("written often", i, 1);
        }
    }
    done = 1;
    pthread_join(beside, NULL);
    return end_runners();
}
