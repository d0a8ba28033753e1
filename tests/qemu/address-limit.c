/*
 * Whatever a program gets ends below the limit that its own kernel has, even where the host's addresses go further: the
 * patch address-limit. On amd64 hosts it is mips64, alpha and sparc64 whose addresses are shorter than the host's; amd64
 * programs on arm64 hosts show it, too.
 *
 * test-qemu: arches=arm64,mips64el,alpha,sparc64 dynamic=all runs=10 says='all right'
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What no address reaches. */
#if defined(__x86_64__)
#define LIMIT ((1ull << 47) - 4096)
#elif defined(__aarch64__)
#define LIMIT (1ull << 48)
#elif defined(__mips64)
#define LIMIT (1ull << 40)
#elif defined(__alpha__)
#define LIMIT (1ull << 42)
#elif defined(__sparc__)
#define LIMIT ((1ull << 43) - (1ull << 32))
#elif defined(__riscv) || defined(__powerpc64__) || defined(__loongarch__)
#define LIMIT (1ull << 47)
#endif

#ifndef MAP_FIXED_NOREPLACE
#ifdef __alpha__
#define MAP_FIXED_NOREPLACE 0x200000
#else
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#endif
#define NONE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define GIB (1ull << 30)
/* 64 GiB. */
#define LARGE (1ull << 36)

static int failed;
static size_t page;
/* Read again where it is used, so that no compiler knows what lies there. */
static const volatile uint64_t limit = LIMIT;

#define expect(condition, ...) \
    do { \
        if (!(condition)) { \
            printf("line %d: ", __LINE__); \
            printf(__VA_ARGS__); \
            putchar('\n'); \
            failed = 1; \
        } \
    } while (0)

static void *at(uint64_t address) { return (void *)(uintptr_t)address; }

/* That it is there, and ends where it may. */
static void *good(const char *what, void *start, size_t length)
{
    if (start == MAP_FAILED)
        printf("%s of %zu bytes: %s\n", what, length, strerror(errno)), failed = 1;
    else if ((uintptr_t)start > limit || (uintptr_t)start + length > limit)
        printf("%s: %p to %p\n", what, start, (char *)start + length), failed = 1;
    return start;
}

static void *map(const char *what, size_t length)
{
    return good(what, mmap(NULL, length, PROT_READ | PROT_WRITE, NONE, -1, 0), length);
}

static void refused(const char *what, void *result, int error)
{
    int seen = errno;

    expect(result == MAP_FAILED, "%s: succeeded, at %p", what, result);
    expect(result != MAP_FAILED || seen == error, "%s: %s", what, strerror(seen));
}

static void files(void)
{
    int fd = syscall(SYS_memfd_create, "test", 0);
    char *shared, *private;

    expect(fd >= 0 && ftruncate(fd, 3 * page) == 0, "memfd: %s", strerror(errno));
    expect(pwrite(fd, "two", 4, page) == 4 && pwrite(fd, "three", 6, 2 * page) == 6, "pwrite: %s", strerror(errno));
    shared = good("a file, shared", mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page), 2 * page);
    private = good("a file, private", mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 2 * page), page);
    expect(strcmp(shared, "two") == 0 && strcmp(shared + page, "three") == 0 && strcmp(private, "three") == 0, "other content");
    strcpy(shared, "four");
    expect(pread(fd, shared + 8, 5, page) == 5 && strcmp(shared + 8, "four") == 0, "what is written does not reach the file");
    refused("a file that is none", mmap(NULL, page, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
    munmap(shared, 2 * page);
    munmap(private, page);
    close(fd);
}

static void moves(void)
{
    char *area = map("a page", page), *large = map("what is in the way", page), *moved;

    strcpy(area, "content");
    moved = good("mremap", mremap(area, page, GIB, MREMAP_MAYMOVE), GIB);
    expect(moved != MAP_FAILED && strcmp(moved, "content") == 0, "mremap lost what was there");
    refused("mremap to the limit", mremap(large, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, at(limit)), EINVAL);
    refused("mremap across the limit", mremap(large, page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, at(limit - 2 * page)), EINVAL);
    munmap(moved, GIB);
    munmap(large, page);
}

static void segments(void)
{
    int id = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
    void *got;

    expect(id >= 0, "shmget: %s", strerror(errno));
    for (int i = 0; i < 3; i++)
        good("shmat", shmat(id, NULL, 0), 1 << 20);
    got = shmat(id, at(limit & -SHMLBA), 0);
    expect(got == (void *)-1 && (errno == ENOMEM || errno == EINVAL), "shmat at the limit: %p, %s", got, strerror(errno));
    shmctl(id, IPC_RMID, NULL);
}

static void places(void)
{
    char *area = map("4 pages", 4 * page), *low = at(LIMIT / 4 * 3 / page * page);

    /* An address beyond is no hint, one below is. */
    good("a hint at the limit", mmap(at(limit), page, PROT_READ, NONE, -1, 0), page);
    good("a hint beyond", mmap(at(limit + GIB), page, PROT_READ, NONE, -1, 0), page);
    good("a hint across", mmap(at(limit - page), 2 * page, PROT_READ, NONE, -1, 0), 2 * page);
    good("the last hint", mmap(at(-4 * page), page, PROT_READ, NONE, -1, 0), page);
    good("a hint to what is taken", mmap(area, page, PROT_READ, NONE, -1, 0), page);
    /* Where the host's addresses end before the guest's, it has nothing there. */
    if (LIMIT < 1ull << 47) {
        expect(mmap(low, page, PROT_READ, NONE, -1, 0) == low, "a hint is not taken");
        munmap(low, page);
    }

    refused("fixed, at the limit", mmap(at(limit), page, PROT_READ, NONE | MAP_FIXED, -1, 0), ENOMEM);
    refused("fixed, beyond", mmap(at(limit + GIB), page, PROT_READ, NONE | MAP_FIXED, -1, 0), ENOMEM);
    refused("fixed, across", mmap(at(limit - page), 2 * page, PROT_READ, NONE | MAP_FIXED, -1, 0), ENOMEM);
    refused("not to replace, at the limit", mmap(at(limit), page, PROT_READ, NONE | MAP_FIXED_NOREPLACE, -1, 0), ENOMEM);
    expect(munmap(at(limit), page) == -1 && errno == EINVAL, "munmap beyond: %s", strerror(errno));
    refused("too much", mmap(NULL, LIMIT, PROT_NONE, NONE, -1, 0), ENOMEM);
    expect(mmap(area + page, page, PROT_READ, NONE | MAP_FIXED, -1, 0) == area + page, "fixed: %s", strerror(errno));
    refused("not to replace", mmap(area, page, PROT_READ, NONE | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    munmap(area, 4 * page);
}

/* More than there is, one after the other: what was freed is given away again. */
static void again(void)
{
    char *last = map("the first", page);

    for (int i = 0; i < 1500; i++) {
        char *next = mmap(NULL, 8 * GIB, PROT_READ | PROT_WRITE, NONE, -1, 0);

        if (good("8 GiB", next, 8 * GIB) == MAP_FAILED)
            return;
        expect(next[0] == 0 && next[8 * GIB - 1] == 0, "not empty");
        next[0] = next[8 * GIB - 1] = 1;
        munmap(last, i == 0 ? page : 8 * GIB);
        last = next;
    }
    munmap(last, 8 * GIB);
}

/* All that there is, but for what others have in the way. */
static void all(void)
{
    static void *got[LIMIT / LARGE + 1];
    uint64_t end = LIMIT < 1ull << 47 ? LIMIT : 1ull << 47;
    size_t count = 0;

    while (count < LIMIT / LARGE + 1) {
        void *next = mmap(NULL, LARGE, PROT_NONE, NONE, -1, 0);

        if (next == MAP_FAILED)
            break;
        got[count++] = good("64 GiB", next, LARGE);
        for (size_t i = count < 5 ? 0 : count - 5; i < count - 1; i++)
            expect(got[i] != next, "the same address twice");
    }
    expect(count >= end / LARGE * 3 / 4, "only %zu times 64 GiB", count);
    /* Small ones still find room. */
    for (int i = 0; i < 300; i++)
        map("a page, where it is narrow", page);
    for (size_t i = 0; i < count; i++)
        munmap(got[i], LARGE);
    got[0] = mmap(NULL, LARGE, PROT_NONE, NONE, -1, 0);
    good("64 GiB, afterwards", got[0], LARGE);
    munmap(got[0], LARGE);
}

static void *thread(void *unused)
{
    char *area;

    good("the stack of a thread", &area, 1);
    for (int i = 0; i < 200; i++) {
        size_t length = (i * 7 % 50 + 1) * page;

        area = map("in a thread", length);
        if (area == MAP_FAILED)
            break;
        expect(area[0] == 0 && area[length - 1] == 0, "two threads have the same");
        memset(area, i, length);
        if (i % 3)
            munmap(area, length);
        good("malloc", malloc(100000), 100000);
    }
    return unused;
}

static void threads(void)
{
    pthread_t ids[8];

    for (int i = 0; i < 8; i++)
        expect(pthread_create(&ids[i], NULL, thread, NULL) == 0, "pthread_create: %s", strerror(errno));
    for (int i = 0; i < 8; i++)
        pthread_join(ids[i], NULL);
}

/* What was there from the start. */
static void start(char **argv)
{
    static const int values[] = {AT_PHDR, AT_BASE, AT_ENTRY, AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR};
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long long from, to;
    char line[512], *brk = sbrk(1 << 24);
    int lines = 0;

    good("the stack", &line, sizeof line);
    good("an argument", argv[0], strlen(argv[0]));
    /* Without a translation cache QEMU puts programs where their heap often cannot grow; malloc then does without. */
    if (brk != (void *)-1) {
        good("the heap", brk, 1 << 24);
        brk[(1 << 24) - 1] = 1;
    }
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        good("a value for the program", at(getauxval(values[i])), 1);
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%llx-%llx", &from, &to) == 2 && !strstr(line, "[vsyscall]")) {
            lines++;
            expect(to <= limit, "%s", line);
        }
    expect(lines >= 4, "/proc/self/maps has %d lines", lines);
    if (maps)
        fclose(maps);
}

int main(int argc, char **argv)
{
    (void)argc;
    page = sysconf(_SC_PAGESIZE);
    start(argv);
    files();
    moves();
    segments();
    places();
    again();
    all();
    threads();
    start(argv);
    puts(failed ? "failed" : "all right");
    return failed;
}
