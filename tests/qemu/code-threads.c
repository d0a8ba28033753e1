/*
 * One thread runs code that another thread writes, takes the rights of, unmaps and maps anew: the one that runs it sees
 * each change, in time, and runs nothing that was never there.
 *
 * test-qemu: runs=5 says='all right'
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runners.h"

enum { PAGE = 65536, SIZE = 64, ROUNDS = 60, ALL = PROT_READ | PROT_WRITE | PROT_EXEC };

static void put(char *to, char *run_at, const char *from)
{
    memcpy(to, from, SIZE);
    __builtin___clear_cache(run_at, run_at + SIZE);
}

/* Memory in place of what is there, which can be run only once there is code in it. */
static void map_anew(const char *from)
{
    mmap(code, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    put(code, code, from);
    mprotect(code, PAGE, ALL);
}

int main(void)
{
    int memory = memfd_create("code", 0);

    code = mmap(NULL, PAGE, ALL, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    put(code, code, returns1);
    start_runners();
    for (int i = 0; i < ROUNDS; i++) {
        put(code, code, returns2);
        expect("written", i, 2);
        mprotect(code, PAGE, PROT_READ | PROT_WRITE);
        expect("not executable", i, -SIGSEGV);
        put(code, code, returns1);
        expect("written, not executable", i, -SIGSEGV);
        mprotect(code, PAGE, PROT_READ | PROT_EXEC);
        expect("executable again", i, 1);
        mprotect(code, PAGE, PROT_NONE);
        expect("no access", i, -SIGSEGV);
        mprotect(code, PAGE, ALL);
        expect("access again", i, 1);
        munmap(code, PAGE);
        expect("unmapped", i, -SIGSEGV);
        map_anew(returns2);
        expect("mapped anew", i, 2);
        /* Over it, with no moment in which it is not mapped. */
        mmap(code, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        expect("mapped over", i, -SIGSEGV);
        map_anew(returns1);
        expect("mapped over again", i, 1);
        /* Moved away, and another page moved there. */
        char *other = mmap(NULL, PAGE, ALL, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        put(other, other, returns2);
        mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, code);
        expect("moved there", i, 2);
        /* A file's content, of which one page is mapped in two places; no place is written to while it runs. */
        ftruncate(memory, 2 * PAGE);
        pwrite(memory, returns1, SIZE, 0);
        pwrite(memory, returns2, SIZE, PAGE);
        mmap(code, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, memory, 0);
        expect("mapped from a file", i, 1);
        mmap(code, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, memory, PAGE);
        expect("mapped from elsewhere in it", i, 2);
        map_anew(returns1);
        expect("memory again", i, 1);
    }
    return end_runners();
}
