/*
 * Directories are read to their end, and again from any place in them, also by programs of 32 bits where the file system
 * has offsets of 64, as ext4 does: the patch dir-offsets. To be run in a directory of such a file system, as
 * test_directories.py does.
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILES = 3000 };

static int failed;

#define expect(condition, ...) \
    do { \
        if (!(condition)) { \
            printf(__VA_ARGS__); \
            failed = 1; \
        } \
    } while (0)

struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* All names, once each. With readdir of 32-bit offsets, where this program has such. */
static void *read_all(void *unused)
{
    char seen[FILES] = "";
    int count = 0, number;
    DIR *dir = opendir(".");
    struct dirent *entry;

    errno = 0;
    while ((entry = readdir(dir))) {
        if (sscanf(entry->d_name, "file%d", &number) == 1) {
            expect(!seen[number]++, "%s comes twice\n", entry->d_name);
            count++;
        }
    }
    expect(errno == 0, "readdir: %s\n", strerror(errno));
    expect(count == FILES, "readdir gives %d of %d\n", count, FILES);
    closedir(dir);
    return unused;
}

/* Where each name is, and that it is found there again, in any order. */
static void seek_all(void)
{
    static struct {
        long at;
        char name[32];
    } places[FILES + 2];
    int count = 0;
    DIR *dir = opendir(".");
    struct dirent *entry;

    do {
        places[count].at = telldir(dir);
        entry = readdir(dir);
        if (entry)
            strcpy(places[count++].name, entry->d_name);
    } while (entry && count < FILES + 2);
    expect(count == FILES + 2, "telldir and readdir give %d\n", count);
    for (int i = 0; i < 200 && count > 0; i++) {
        int n = i * 7919 % count;

        seekdir(dir, places[n].at);
        expect(telldir(dir) == places[n].at, "telldir after seekdir\n");
        entry = readdir(dir);
        expect(entry && strcmp(entry->d_name, places[n].name) == 0, "at %#lx, there is %s, not %s\n", places[n].at,
            entry ? entry->d_name : "nothing", places[n].name);
    }
    rewinddir(dir);
    entry = readdir(dir);
    expect(entry && strcmp(entry->d_name, places[0].name) == 0, "rewinddir does not\n");
    closedir(dir);
}

/* Reads the names behind a place; @buffer takes a few. */
static const char *name_at(int fd, off_t at, char *buffer, size_t size)
{
    struct entry *entry = (struct entry *)buffer;

    if (lseek(fd, at, SEEK_SET) == -1 || syscall(SYS_getdents64, fd, buffer, size) <= 0)
        return "nothing";
    return entry->name;
}

/* A place is the same by another descriptor, in a child, and in a program that is started. */
static void pass_places(char *self)
{
    int fd = open(".", O_RDONLY | O_DIRECTORY), status, other;
    char buffer[512], again[512], text[32];
    struct entry *entry;
    long length;
    off_t at = 0;
    pid_t child;

    for (int i = 0; i < 30; i++) {
        length = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
        expect(length > 0, "getdents64: %ld\n", length);
        for (long next = 0; next < length; next += entry->size) {
            entry = (struct entry *)(buffer + next);
            expect(sizeof(long) == 8 || entry->next <= INT32_MAX, "an offset of more than 31 bits: %#llx\n", (long long)entry->next);
            at = entry->next;
        }
        /* What comes next is where the last one said. */
        expect(lseek(fd, 0, SEEK_CUR) == at, "lseek says %#llx, not %#llx\n", (long long)lseek(fd, 0, SEEK_CUR), (long long)at);
    }
    strcpy(buffer, name_at(fd, at, again, sizeof again));
    other = dup(fd);
    expect(strcmp(name_at(other, at, again, sizeof again), buffer) == 0, "dup: %s\n", again);
    other = open(".", O_RDONLY | O_DIRECTORY);
    expect(strcmp(name_at(other, at, again, sizeof again), buffer) == 0, "open: %s\n", again);
    child = fork();
    if (child == 0)
        _exit(strcmp(name_at(other, at, again, sizeof again), buffer) != 0);
    expect(waitpid(child, &status, 0) == child && status == 0, "fork: %#x\n", status);
    child = fork();
    if (child == 0) {
        snprintf(text, sizeof text, "%lld", (long long)at);
        execl(self, self, text, buffer, NULL);
        _exit(1);
    }
    expect(waitpid(child, &status, 0) == child && status == 0, "exec: %#x\n", status);
}

int main(int argc, char **argv)
{
    char name[32], again[512], self[4096];
    pthread_t threads[4];

    if (argc == 3)
        return strcmp(name_at(open(".", O_RDONLY | O_DIRECTORY), atoll(argv[1]), again, sizeof again), argv[2]) != 0;
    if (!realpath(argv[0], self))
        return perror(argv[0]), 1;
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "file%d", i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    read_all(NULL);
    seek_all();
    pass_places(self);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, read_all, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    puts(failed ? "failed" : "all right");
    return failed;
}
