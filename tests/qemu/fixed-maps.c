/*
 * Nothing a program does at addresses of its choice touches the emulator's own memory, and the addresses that programs
 * do choose are theirs: the patches own-memory and more-syscalls, and the link address in scripts/qemu-build.
 *
 * The emulator's ranges are read from /proc/PID/maps by a child: an emulator shows a process its own file in the guest's
 * view, but not that of another process.
 * Addresses are other ones in each run.
 *
 * test-qemu: arches=arm64,armhf,riscv64,s390x,ppc64el,i386,mips64el,sparc64,alpha
 * test-qemu: dynamic=alpha runs=60 says='all right'
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers from 403 on are the same everywhere, but for an offset. */
#if defined(__mips64)
enum { PIDFD_OPEN = 5434, PROCESS_MADVISE = 5440, MSEAL = 5462 };
#elif defined(__mips__)
enum { PIDFD_OPEN = 4434, PROCESS_MADVISE = 4440, MSEAL = 4462 };
#elif defined(__alpha__)
enum { PIDFD_OPEN = 544, PROCESS_MADVISE = 550, MSEAL = 572 };
#else
enum { PIDFD_OPEN = 434, PROCESS_MADVISE = 440, MSEAL = 462 };
#endif
#define MARKER "fixed-maps-marker"
#define KEEP (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define LONG_ADDRESSES (UINTPTR_MAX > 0xffffffffu)

struct range {
    uint64_t start, end;
    char rights[5], name[64];
};
struct list {
    struct range ranges[512];
    int count;
};

static int failed;
static long page;
static char *marker;
/* What the host's addresses of the guest's memory are larger by. */
static uint64_t base;
static struct list own_maps;
static pthread_barrier_t ready;

#define expect(condition, ...) \
    do { \
        if (!(condition)) { \
            printf(__VA_ARGS__); \
            failed = 1; \
        } \
    } while (0)

static void parse(int fd, struct list *list)
{
    FILE *file = fdopen(fd, "r");
    char line[512];

    list->count = 0;
    while (file && fgets(line, sizeof line, file) && list->count < 512) {
        struct range *range = &list->ranges[list->count];
        unsigned long long start, end;

        range->name[0] = 0;
        if (sscanf(line, "%llx-%llx %4s %*s %*s %*s %63s", &start, &end, range->rights, range->name) >= 3) {
            range->start = start;
            range->end = end;
            list->count++;
        }
    }
    fclose(file);
}

/* The ranges that the kernel knows of this process. */
static void real_maps(struct list *list)
{
    int ends[2], status;
    pid_t child;

    if (pipe(ends) != 0 || (child = fork()) < 0) {
        perror("cannot ask a child");
        exit(1);
    }
    if (child == 0) {
        char path[64], bytes[4096];
        ssize_t length;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/maps", getppid());
        fd = open(path, O_RDONLY);
        while ((length = read(fd, bytes, sizeof bytes)) > 0)
            if (write(ends[1], bytes, length) != length)
                _exit(1);
        _exit(length != 0);
    }
    close(ends[1]);
    parse(ends[0], list);
    waitpid(child, &status, 0);
    if (status != 0 || list->count == 0) {
        printf("cannot read the kernel's list of maps\n");
        exit(1);
    }
}

static int overlaps(const struct list *list, uint64_t start, uint64_t end)
{
    for (int i = 0; i < list->count; i++)
        if (start < list->ranges[i].end && list->ranges[i].start < end)
            return 1;
    return 0;
}

/* Those of the emulator, with the guest's addresses, as far as the guest can name them. */
static void foreign_maps(struct list *foreign)
{
    static struct list all;

    parse(open("/proc/self/maps", O_RDONLY), &own_maps);
    real_maps(&all);
    foreign->count = 0;
    for (int i = 0; i < all.count; i++)
        if (strstr(all.ranges[i].name, MARKER))
            base = all.ranges[i].start - (uintptr_t)marker;
    for (int i = 0; i < all.count; i++) {
        struct range range = all.ranges[i];

        /* Where the guest's pages are larger, a part of one is a whole one to it. */
        range.start = (range.start - base) & -page;
        range.end = (range.end - base + page - 1) & -page;
        if (range.start >= UINTPTR_MAX - page || range.end > UINTPTR_MAX || range.start >= range.end)
            continue;
        /* What is kept free for a guest with 32 bits is its own. */
        if (!LONG_ADDRESSES && range.rights[0] == '-' && range.name[0] == 0)
            continue;
        /* The kernel's pages are not in the way of anybody; the stack grows by itself. */
        if (strstr(range.name, "[v"))
            continue;
        if (!overlaps(&own_maps, range.start, range.end))
            foreign->ranges[foreign->count++] = range;
    }
}

/* Code, memory and system calls of the emulator, again and again. The guest maps nothing after the first round. */
static void *work(void *stop)
{
    for (int round = 0; !*(volatile int *)stop; round++) {
        char *text = NULL;

        if (asprintf(&text, "%d %g %s", getpid(), 1.5 * getppid(), MARKER) < 0)
            abort();
        free(text);
        free(malloc(50000));
        if (round == 1)
            pthread_barrier_wait(&ready);
    }
    return NULL;
}

static int refused(void *result)
{
    return result == MAP_FAILED && errno == ENOMEM;
}

/* Everything that could replace, change or remove [start, end). */
static void attack(const struct range *range, void *own, int segment)
{
    char *start = (char *)(uintptr_t)range->start, *end = (char *)(uintptr_t)range->end;
    size_t length = end - start;
    unsigned char *vector = malloc(length / page + 1);
    int zero = open("/dev/zero", O_RDWR), self = syscall(PIDFD_OPEN, getpid(), 0);
    unsigned long nodes[1024 / 8 / sizeof(long)] = {1};
    struct iovec all = {start, length};
    struct {
        char *start, *end;
    } parts[] = {{start, end}, {start, start + page}, {end - page, end}, {start - page, start + page}, {end - page, end + page},
        {start - page, end + page}};

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t size = parts[i].end - parts[i].start;

        /* Not what is the program's own beside it. */
        if (parts[i].end < parts[i].start || parts[i].start == NULL ||
            overlaps(&own_maps, (uintptr_t)parts[i].start, (uintptr_t)parts[i].end))
            continue;
        expect(refused(mmap(parts[i].start, size, PROT_READ | PROT_WRITE, KEEP | MAP_FIXED, -1, 0)),
            "mmap of %p, part %zu of %s: %s\n", parts[i].start, i, range->name, strerror(errno));
        expect(refused(mmap(parts[i].start, size, PROT_NONE, MAP_SHARED | MAP_FIXED, zero, 0)),
            "shared mmap of %p: %s\n", parts[i].start, strerror(errno));
        expect(mremap(own, page, size, MREMAP_MAYMOVE | MREMAP_FIXED, parts[i].start) == MAP_FAILED, "mremap to %p\n", parts[i].start);
        munmap(parts[i].start, size);
    }
    expect(mprotect(start, length, PROT_NONE) == -1 && errno == ENOMEM, "mprotect of %p: %s\n", start, strerror(errno));
    expect(mprotect(start, page, PROT_READ | PROT_WRITE | PROT_EXEC) == -1 && errno == ENOMEM, "mprotect: %s\n", strerror(errno));
    expect(mremap(start, length, length, MREMAP_MAYMOVE) == MAP_FAILED, "mremap of %p\n", start);
    expect(mremap(start, length, page, 0) == MAP_FAILED || length == (size_t)page, "mremap makes %p smaller\n", start);
    expect(mremap(start, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, own) == MAP_FAILED, "mremap of %p to a page\n", start);
    madvise(start, length, MADV_DONTNEED);
    madvise(start, length, MADV_WIPEONFORK);
    expect(mlock(start, length) == -1 && errno == ENOMEM, "mlock of %p: %s\n", start, strerror(errno));
    expect(munlock(start, length) == -1 && errno == ENOMEM, "munlock of %p: %s\n", start, strerror(errno));
    expect(msync(start, length, MS_ASYNC) == -1 && errno == ENOMEM, "msync of %p: %s\n", start, strerror(errno));
    expect(syscall(SYS_mlock2, start, length, 1) == -1 && errno == ENOMEM, "mlock2 of %p: %s\n", start, strerror(errno));
    expect(syscall(SYS_mbind, start, length, 2L, nodes, 1024L, 0L) == -1 && errno == EFAULT, "mbind of %p: %s\n", start,
        strerror(errno));
    expect(syscall(MSEAL, start, length, 0L) == -1 && errno == ENOMEM, "mseal of %p: %s\n", start, strerror(errno));
    expect(syscall(PROCESS_MADVISE, self, &all, 1L, (long)MADV_DONTNEED, 0L) == -1 && errno == EINVAL,
        "process_madvise of %p: %s\n", start, strerror(errno));
    expect(mincore(start, length, vector) == -1 && errno == ENOMEM, "mincore of %p: %s\n", start, strerror(errno));
    expect(read(zero, start, page) == -1 && errno == EFAULT, "read to %p: %s\n", start, strerror(errno));
    for (uintptr_t at = range->start & -SHMLBA; at < range->end; at += (length / 3 + SHMLBA) & -SHMLBA) {
        void *attached = shmat(segment, (void *)at, SHM_REMAP);

        expect(attached == (void *)-1 || at < range->start, "shmat at %p\n", (void *)at);
        if (attached != (void *)-1)
            shmdt(attached);
    }
    close(self);
    close(zero);
    free(vector);
}

/* Memory at an address that the program chooses: it gets it, or is told that there is none. */
static int take(uint64_t start, uint64_t length, int must)
{
    volatile char *got = mmap((void *)(uintptr_t)start, length, PROT_READ | PROT_WRITE, KEEP | MAP_FIXED, -1, 0);

    if (got == MAP_FAILED) {
        expect(!must && (errno == ENOMEM || errno == EPERM), "%#llx bytes at %#llx: %s\n", (unsigned long long)length,
            (unsigned long long)start, strerror(errno));
        return 0;
    }
    got[0] = got[length - 1] = got[length / 2] = 1;
    expect(munmap((void *)got, length) == 0, "munmap of %p: %s\n", got, strerror(errno));
    return 1;
}

static void sweep(void)
{
    static struct list foreign;
    uint64_t limit = LONG_ADDRESSES ? 1ull << 47 : sizeof(long) * 0x1fffffffull;

    foreign_maps(&foreign);
    for (int size = 12; size <= 40; size += 7) {
        uint64_t length = size == 12 ? page : 1ull << size, step = length < 1 << 24 ? 1 << 24 : length;
        int tried = 0;

        for (uint64_t at = 1 << 24; at < limit && at + length <= limit && tried < 400; tried++) {
            if (!overlaps(&own_maps, at, at + length))
                take(at, length, LONG_ADDRESSES && at + length <= 1ull << 32 && !overlaps(&foreign, at, at + length));
            /* The low 4 GiB closely, what is above in strides that reach the end. */
            at += at < 1ull << 32 ? step : at / 8 / step * step + step;
        }
    }
}

static uint64_t start_of(const struct list *list, const struct range *range)
{
    for (int i = 0; i < list->count; i++)
        if (list->ranges[i].start <= range->start && range->end <= list->ranges[i].end &&
            strcmp(list->ranges[i].rights, range->rights) == 0)
            return 1;
    return 0;
}

/*
 * Once they stay as they are: a thread of the emulator's own, which starts when it is needed, makes a heap of twice the size
 * and gives half of it back.
 */
static void settled_maps(struct list *foreign)
{
    static struct list earlier;
    int same = 0;

    foreign_maps(foreign);
    for (int tries = 0; !same && tries < 100; tries++) {
        earlier = *foreign;
        usleep(1000);
        foreign_maps(foreign);
        same = foreign->count == earlier.count;
        for (int i = 0; same && i < earlier.count; i++)
            same = start_of(foreign, &earlier.ranges[i]);
    }
}

int main(int argc, char **argv)
{
    static struct list before, after;
    int fd, stop = 0, segment;
    pthread_t thread;
    void *own;

    (void)argc;
    (void)argv;
    page = sysconf(_SC_PAGESIZE);
    fd = syscall(SYS_memfd_create, MARKER, 0);
    if (fd < 0 || ftruncate(fd, page) != 0)
        return perror("cannot make a marker"), 1;
    marker = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    segment = shmget(IPC_PRIVATE, SHMLBA, IPC_CREAT | 0600);
    if (segment < 0)
        return perror("cannot make a segment"), 1;
    pthread_barrier_init(&ready, NULL, 2);
    if (pthread_create(&thread, NULL, work, &stop) != 0)
        return 1;
    pthread_barrier_wait(&ready);

    settled_maps(&before);
    if (LONG_ADDRESSES) {
        /* At least text, data and heap; without them this test has seen nothing. */
        expect(before.count >= 3, "only %d ranges of the emulator are seen\n", before.count);
        /* As AddressSanitizer on amd64, as Wine, and as programs that are linked or translate at a low address. */
        take(0x7fff0000, 1ull << 31, 1);
        take(0x60000000, 1 << 28, 1);
        take(0x60000000, page, 1);
#if defined(__aarch64__)
        take(0x1000000000, 1ull << 44, 1);
#elif defined(__riscv)
        take(0xd55550000, 1ull << 44, 1);
#elif defined(__powerpc64__)
        take(1ull << 41, 1ull << 44, 1);
#elif defined(__mips__)
        take(1ull << 37, 1ull << 37, 1);
#elif defined(__x86_64__)
        /* Emulators lie within AddressSanitizer's shadow on amd64: asked for alone, as it is known to be refused. */
        if (argc > 1) {
            take(0x7fff8000, 0x10007fff8000 - 0x7fff8000, 1);
            stop = 1;
            pthread_join(thread, NULL);
            puts(failed ? "failed" : "all right");
            return failed;
        }
#endif
    }
    for (int i = 0; i < before.count; i++) {
        own = mmap(NULL, page, PROT_READ | PROT_WRITE, KEEP, -1, 0);
        attack(&before.ranges[i], own, segment);
        munmap(own, page);
    }
    foreign_maps(&after);
    for (int i = 0; i < before.count; i++)
        /* The emulator's heap grows, and pages of its stacks come by use. */
        expect(start_of(&after, &before.ranges[i]), "%llx-%llx %s %s is not what it was\n",
            (unsigned long long)before.ranges[i].start, (unsigned long long)before.ranges[i].end, before.ranges[i].rights,
            before.ranges[i].name);
    sweep();
    sbrk(1 << 24);
    sbrk(-(1 << 24));
    stop = 1;
    pthread_join(thread, NULL);
    shmctl(segment, IPC_RMID, NULL);
    puts(failed ? "failed" : "all right");
    return failed;
}
