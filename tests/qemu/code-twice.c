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

static void put(const char *from)
{
    memcpy(writable, from, SIZE);
    __builtin___clear_cache(code, code + SIZE);
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
    puts(failed ? "bad" : "all right");
    return failed;
}
