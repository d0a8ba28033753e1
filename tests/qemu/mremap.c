/*
 * mremap as Linux does it, where the emulator has its own idea of what is free: the patch own-memory.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DONTUNMAP 4

static int failed;

#define expect(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s, errno %d (%s)\n", __LINE__, #condition, errno, strerror(errno)); \
            failed = 1; \
        } \
    } while (0)

static char *map(size_t length, int sharing)
{
    char *got = mmap(NULL, length, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

    expect(got != MAP_FAILED);
    return got;
}

int main(int argc, char **argv)
{
    size_t page = sysconf(_SC_PAGESIZE), steps = 1;
    char *area, *moved, *top = (char *)((uintptr_t)argv & -page);

    (void)argc;
    /*
     * musl finds the end of the main thread's stack so: what is mapped cannot grow, as the next page is there, and what is
     * not is no address. Where this says ENOMEM for each free page, Node takes seconds to start, or for ever.
     */
    while (mremap(top - steps * page, page, 2 * page, 0) == MAP_FAILED && errno == ENOMEM)
        steps++;
    expect(errno == EFAULT);
    expect(steps * page <= (size_t)64 << 20);

    /* Grows in place where there is room, and only there. */
    area = map(8 * page, MAP_PRIVATE);
    memset(area, 1, 8 * page);
    expect(mremap(area, 2 * page, 4 * page, 0) == MAP_FAILED && errno == ENOMEM);
    munmap(area + 4 * page, 4 * page);
    expect(mremap(area, 4 * page, 8 * page, 0) == area);
    expect(area[3 * page] == 1 && area[5 * page] == 0);
    memset(area, 2, 8 * page);

    /* Gets smaller, and what is cut off is gone. */
    expect(mremap(area, 8 * page, 3 * page, 0) == area);
    expect(mremap(area + 3 * page, page, page, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    expect(mremap(area, 3 * page, 3 * page, MREMAP_MAYMOVE) == area);

    /* Moves, with what is in it. */
    moved = mremap(area, 3 * page, 5000 * page, MREMAP_MAYMOVE);
    expect(moved != MAP_FAILED && moved[3 * page - 1] == 2 && moved[3 * page] == 0);
    if (moved != area)
        expect(mprotect(area, page, PROT_READ) == -1 && errno == ENOMEM);
    munmap(moved, 5000 * page);

    /* To a place that is taken, by the program itself. */
    area = map(4 * page, MAP_PRIVATE);
    moved = map(4 * page, MAP_PRIVATE);
    memset(area, 3, 4 * page);
    expect(mremap(area, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, moved + page) == moved + page);
    expect(moved[page] == 3 && moved[0] == 0);
    expect(mremap(area, 2 * page, page, MREMAP_MAYMOVE | MREMAP_FIXED, moved) == MAP_FAILED && errno == EFAULT);
    expect(mremap(area + page, page, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    expect(mremap(area + page + 1, page, page, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    expect(mremap(area + page, page, page, MREMAP_FIXED, moved) == MAP_FAILED && errno == EINVAL);

    /* What is moved and yet stays, since Linux 5.7. */
    moved = mremap(area + page, page, page, MREMAP_MAYMOVE | DONTUNMAP, NULL);
    if (moved != MAP_FAILED) {
        expect(moved[0] == 3 && area[page] == 0);
        expect(mprotect(area + page, page, PROT_READ) == 0);
        expect(mmap(area + page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area + page);
    } else {
        expect(errno == EINVAL);
    }

    /* Shared memory once more. */
    area = map(page, MAP_SHARED);
    area[0] = 4;
    moved = mremap(area, 0, page, MREMAP_MAYMOVE);
    expect(moved != MAP_FAILED && moved != area && moved[0] == 4);
    moved[0] = 5;
    expect(area[0] == 5);

    /* mprotect changes what comes before a gap. */
    area = map(3 * page, MAP_PRIVATE);
    munmap(area + page, page);
    expect(mprotect(area, 3 * page, PROT_READ) == -1 && errno == ENOMEM);
    expect(mprotect(area + page, page, PROT_READ) == -1 && errno == ENOMEM);
    area[2 * page] = 1;

    puts(failed ? "failed" : "all right");
    return failed;
}
