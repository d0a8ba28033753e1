/*
 * A jump to code of another page sees that code change, lose its permission, go away and come back: the patch
 * tcg-lookups links blocks of different pages.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "code.h"

#define PAGE 65536

/* Two pages of code: the first jumps to the second, which returns N. */
#define PAIR(N)                                                             \
    __asm__(".text\n.balign 65536\n"                                        \
            ".globl pair" #N "\npair" #N ":\n\t" JUMP "\n"                  \
            "\t.balign 65536\n1:\n\t" RETURN(N) "\n\t.balign 65536\n")
PAIR(1);
PAIR(2);

extern char pair1[], pair2[];
static sigjmp_buf fault;
static int failed;

static void on_fault(int signal)
{
    siglongjmp(fault, signal);
}

/* What the code at `code` returns, or minus the signal it gets; asked often enough for its blocks to be linked. */
static int ask(char *code)
{
    int (*volatile call)(void) = (int (*)(void))code;
    volatile int result = 0;
    int signal = sigsetjmp(fault, 1);

    if (signal) {
        return -signal;
    }
    for (int i = 0; i < 100; i++) {
        result = call();
    }
    return result;
}

static void want(const char *what, int wanted, int got)
{
    if (wanted != got) {
        printf("%s: wanted %d, got %d\n", what, wanted, got);
        failed = 1;
    }
}

static void put(char *to, const char *from, int size)
{
    memcpy(to, from, size);
    __builtin___clear_cache(to, to + size);
}

int main(void)
{
    enum { all = PROT_READ | PROT_WRITE | PROT_EXEC };
    char *code = mmap(NULL, 4 * PAGE, all, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *second = code + PAGE;

    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    put(code, pair1, 2 * PAGE);
    want("first", 1, ask(code));
    put(second, pair2 + PAGE, 64);
    want("written", 2, ask(code));
    mprotect(second, PAGE, PROT_READ | PROT_WRITE);
    want("not executable", -SIGSEGV, ask(code));
    put(second, pair1 + PAGE, 64);
    want("written, not executable", -SIGSEGV, ask(code));
    mprotect(second, PAGE, PROT_READ | PROT_EXEC);
    want("executable again", 1, ask(code));
    mprotect(second, PAGE, PROT_NONE);
    want("no access", -SIGSEGV, ask(code));
    mprotect(second, PAGE, all);
    want("access again", 1, ask(code));
    munmap(second, PAGE);
    want("unmapped", -SIGSEGV, ask(code));
    mmap(second, PAGE, all, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    put(second, pair2 + PAGE, 64);
    want("mapped anew", 2, ask(code));
    put(code + 2 * PAGE, pair1, 2 * PAGE);
    mremap(code + 3 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, second);
    want("moved there", 1, ask(code));
    want("moved away", -SIGSEGV, ask(code + 2 * PAGE));
    mmap(second, PAGE, all, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    put(second, pair2 + PAGE, 64);
    want("replaced", 2, ask(code));
    puts(failed ? "bad" : "all right");
    return failed;
}
