/*
 * Translations are shared between the processes of a tree, and only ever used for the very bytes they were made from:
 * the patch translation-cache. Its descriptor is not to be seen. Runs itself, so it has to be run by binfmt_misc.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 65536

static const char *self;

static void check(int right, const char *what)
{
    if (!right) {
        printf("wrong: %s (%s)\n", what, strerror(errno));
        exit(1);
    }
}

/* Leaf functions that are copied about: what they return is their bytes. */
#define FUNCTION(name, value)                                                  \
    __attribute__((noinline, noclone, aligned(64), used)) static int name(void) \
    {                                                                          \
        return value;                                                          \
    }
FUNCTION(one, 1)
FUNCTION(two, 2)
FUNCTION(three, 3)

static int (*const functions[])(void) = {one, two, three};

/* Thumb code has an odd address. */
static const char *bytes(int number)
{
    return (const char *)((uintptr_t)functions[number - 1] & ~(uintptr_t)1);
}

static int call(void *at)
{
    return ((int (*)(void))((uintptr_t)at | ((uintptr_t)one & 1)))();
}

static void fill(int file, int number)
{
    check(pwrite(file, bytes(number), 64, 0) == 64, "write code");
}

static int open_code(const char *name)
{
    int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0700);

    check(file >= 0 && ftruncate(file, SIZE) == 0, "make a file");
    return file;
}

static void *map(int file, int protection)
{
    void *at = mmap(NULL, SIZE, protection, MAP_PRIVATE, file, 0);

    check(at != MAP_FAILED, "map a file");
    return at;
}

static int run(const char *what, const char *argument)
{
    int status;
    pid_t child = fork();

    if (!child) {
        execl(self, self, what, argument, (char *)NULL);
        _exit(100);
    }
    check(child > 0 && waitpid(child, &status, 0) == child, "fork");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

/* The same file, at the same address, with other bytes each time. */
static void other_bytes(const char *name)
{
    int file = open_code(name);

    for (int i = 0; i < 60; i++) {
        int number = i % 7 % 3 + 1;

        fill(file, number);
        check(run("call", name) == number, "code of another process's file");
    }
    close(file);
}

/* In the same process: by new maps, by writes to the map, after a fork. */
static void rewritten(const char *name)
{
    int file = open_code(name);

    for (int i = 0; i < 300; i++) {
        int number = i % 3 + 1, other = (i + 1) % 3 + 1, status;
        char *at;
        pid_t child;

        fill(file, number);
        at = map(file, PROT_READ | PROT_WRITE | PROT_EXEC);
        check(call(at) == number, "code of a new map");
        memcpy(at, bytes(other), 64);
        __builtin___clear_cache(at, at + 64);
        check(call(at) == other, "code that was written over");
        if (i % 10 == 0) {
            child = fork();
            if (!child) {
                memcpy(at, bytes(number), 64);
                __builtin___clear_cache(at, at + 64);
                _exit(call(at));
            }
            check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == number, "code that a child wrote");
            check(call(at) == other, "code that only a child wrote over");
        }
        munmap(at, SIZE);
    }
    close(file);
}

static void *maps(void *name)
{
    int file = open_code(name);

    for (int i = 0; i < 400; i++) {
        int number = i % 3 + 1;
        void *at;

        fill(file, number);
        at = map(file, PROT_READ | PROT_EXEC);
        check(call(at) == number, "code that a thread mapped");
        munmap(at, SIZE);
    }
    close(file);
    unlink(name);
    return NULL;
}

static void threads(const char *name)
{
    pthread_t thread[4];
    char own[4][300];

    for (int i = 0; i < 4; i++) {
        snprintf(own[i], sizeof(own[i]), "%s.%d", name, i);
        check(!pthread_create(&thread[i], NULL, maps, own[i]), "make a thread");
    }
    for (int i = 0; i < 20; i++) {
        check(run("nothing", "") == 0, "a program beside threads");
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
    }
}

/* How many descriptors there are, by each way to look. */
static int count(void)
{
    int listed = 0, valid = 0, found = 0;
    DIR *directory = opendir("/proc/self/fd");

    check(directory != NULL, "open /proc/self/fd");
    while (readdir(directory)) {
        listed++;
    }
    for (int i = 0; i < 5000; i++) {
        valid += fcntl(i, F_GETFD) >= 0;
        found += lseek(i, 0, SEEK_CUR) >= 0 || errno != EBADF;
    }
    closedir(directory);
    check(listed - 2 == valid, "as many descriptors in /proc as can be used");
    check(found == valid, "as many can be looked at");
    return valid - 1;
}

static void descriptors(void)
{
    struct rlimit limit = {20, 20};
    int before;

    for (int i = 3; i < 5000; i++) {
        close(i);
    }
    before = count();
    check(before == 3, "three descriptors");
    check(run("count", "") == 3, "three descriptors in a child");
#ifdef SYS_close_range
    check(syscall(SYS_close_range, 3, ~0u, 0) == 0, "close_range");
    check(run("count", "") == 3, "three descriptors after close_range");
    check(syscall(SYS_close_range, 3, ~0u, 4) == 0, "close_range that sets close-on-exec");
    check(run("count", "") == 3, "three descriptors after that");
#endif
    for (int i = 3; i < 5000; i++) {
        check(fcntl(i, F_SETFD, FD_CLOEXEC) < 0 && errno == EBADF, "close-on-exec where nothing is open");
        check(dup(i) < 0 && errno == EBADF, "dup where nothing is open");
    }
    for (int i = 1020; i < 1030 && dup2(1, i) == i; i++) {
    }
    before = count();
    check(before == 13 || before == 7, "descriptors of our own");
    check(run("count", "") == before, "which children inherit");
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0 && run("nothing", "") == 0, "with few descriptors");
}

#ifdef LIBRARIES
#include <dlfcn.h>

static void libraries(void)
{
    static const char *const names[] = {"libm.so.6", "libresolv.so.2", "libutil.so.1"};

    for (int i = 0; i < 300; i++) {
        void *library = dlopen(names[i % 3], RTLD_NOW);
        double (*function)(double);
        int status;

        check(library != NULL, "load a library");
        function = (double (*)(double))dlsym(library, "floor");
        check(i % 3 || function(3.5) == 3, "call a library");
        if (i % 20 == 0) {
            pid_t child = fork();

            if (!child) {
                dlclose(library);
                library = dlopen(names[0], RTLD_NOW);
                function = (double (*)(double))dlsym(library, "floor");
                _exit(function(2.5));
            }
            check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 2, "a library in a child");
        }
        dlclose(library);
    }
}
#endif

int main(int argc, char **argv)
{
    char name[256];

    self = "/proc/self/exe";
    if (argc > 2 && !strcmp(argv[1], "call")) {
        return call(map(open_code(argv[2]), PROT_READ | PROT_EXEC));
    }
    if (argc > 2 && !strcmp(argv[1], "count")) {
        return count();
    }
    if (argc > 2 && !strcmp(argv[1], "nothing")) {
        return 0;
    }
    snprintf(name, sizeof(name), "%s/cache-test.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
    other_bytes(name);
    rewritten(name);
    threads(name);
    unlink(name);
#ifdef LIBRARIES
    libraries();
#endif
    descriptors();
    puts("all right");
    return 0;
}
