/*
 * Code that is mapped twice, once to be written and once to be run, as JIT compilers do it that allow no page both:
 * what is written in one place is what runs in the other, in this thread and in another one.
 *
 * Only arm64 programs tell the emulator, by the instruction that invalidates the cache. For all others QEMU went on to
 * run what was there before, until the patch behaviour/code-twice.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "code.h"

enum { PAGE = 65536, SIZE = 64 };

#define CODE(N)                                                                                  \
    extern char returns##N[];                                                                    \
    __asm__(".text\n.balign 64\n.globl returns" #N "\nreturns" #N ":\n\t" RETURN(N) "\n.balign 64\n")
CODE(1);
CODE(2);

static char *writable, *code;
static int failed;

static int ask(void)
{
    int (*volatile call)(void) = (int (*)(void))code;
    int result = 0;

    for (int i = 0; i < 100; i++) {
        result = call();
    }
    return result;
}

static void *ask_there(void *result)
{
    *(int *)result = ask();
    return NULL;
}

static void want(const char *what, int wanted)
{
    pthread_t thread;
    int here = ask(), there = 0;

    pthread_create(&thread, NULL, ask_there, &there);
    pthread_join(thread, NULL);
    if (here != wanted || there != wanted) {
        printf("%s: wanted %d, got %d here and %d in another thread\n", what, wanted, here, there);
        failed = 1;
    }
}

static void put_at(char *where, const char *from)
{
    memcpy(where, from, SIZE);
    __builtin___clear_cache(code, code + SIZE);
}

static void put(const char *from)
{
    put_at(writable, from);
}

/* Each way in which a page gets an address at which it can be written. */
static void more_addresses(int memory)
{
    char *late = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    char *other = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, memory, 0);

    put_at(late, returns1);
    want("written where it was mapped after it ran", 1);
    mprotect(other, PAGE, PROT_READ | PROT_WRITE);
    put_at(other, returns2);
    want("written where it became writable after it ran", 2);
    put_at(late, returns1);
    want("written at a third address", 1);
    put_at(other, returns2);
    want("and at the second one again", 2);
    char *free = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    other = mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, free);
    put_at(other, returns1);
    want("written where it was moved to", 1);
    other = mremap(late, 0, PAGE, MREMAP_MAYMOVE);
    put_at(other, returns2);
    want("written at a copy of the mapping", 2);
    munmap(late, PAGE);
    put_at(other, returns1);
    want("when the first of both is gone", 1);
    mprotect(other, PAGE, PROT_READ);
    want("when none can be written", 1);
    mprotect(other, PAGE, PROT_READ | PROT_WRITE);
    put_at(other, returns2);
    want("and then one again", 2);
    munmap(other, PAGE);
}

/* The same in a segment of shared memory. */
static void segments(void)
{
    int segment = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
    char *first = shmat(segment, NULL, 0);

    code = shmat(segment, NULL, SHM_RDONLY | SHM_EXEC);
    shmctl(segment, IPC_RMID, NULL);
    put_at(first, returns1);
    want("in a segment", 1);
    put_at(first, returns2);
    want("written elsewhere in a segment", 2);
    shmdt(first);
    shmdt(code);
}

int main(void)
{
    int memory = memfd_create("code", 0);

    ftruncate(memory, PAGE);
    writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    code = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0);
    put(returns1);
    want("first", 1);
    put(returns2);
    want("written elsewhere", 2);
    pwrite(memory, returns1, SIZE, 0);
    __builtin___clear_cache(code, code + SIZE);
    want("written to the file", 1);
    /* What was mapped to be written is gone. */
    put(returns2);
    munmap(writable, PAGE);
    want("written elsewhere, which is gone", 2);
    more_addresses(memory);
    segments();
    puts(failed ? "bad" : "all right");
    return failed;
}
