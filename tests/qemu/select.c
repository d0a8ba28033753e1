/*
 * select and poll with as many descriptors as the kernel takes, and no more than it looks at.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include "check.h"

#define BITS (8 * (int)sizeof(long))

/* As an fd_set, but larger; what follows it must stay as it is. */
struct set {
    long word[4096 / BITS];
    unsigned char after[8192];
};

static int ends[2];

static void clear(struct set *set)
{
    memset(set->word, 0, sizeof(set->word));
    memset(set->after, 0xa5, sizeof(set->after));
}

static void add(struct set *set, int fd)
{
    set->word[fd / BITS] |= 1ul << fd % BITS;
}

static int has(const struct set *set, int fd)
{
    return set->word[fd / BITS] >> fd % BITS & 1;
}

static int is_whole(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0xa5) {
            return 0;
        }
    }
    return 1;
}

static int wait_for(int n, struct set *r, struct set *w, int p)
{
    if (p) {
        struct timespec time = { 0, 1000000 };
        sigset_t none;
        sigemptyset(&none);
        return pselect(n, (fd_set *)r, (fd_set *)w, NULL, &time, &none);
    }
    struct timeval time = { 0, 1000 };
    return select(n, (fd_set *)r, (fd_set *)w, NULL, &time);
}

static void a_large_number_with_a_small_set(int limit, int p)
{
    static struct { fd_set set; unsigned char after[1 << 17]; } small;
    struct set *r = (struct set *)&small;

    memset(small.after, 0xa5, sizeof(small.after));
    for (int n = FD_SETSIZE; n > 0 && n <= limit; n *= 2) {
        FD_ZERO(&small.set);
        FD_SET(ends[0], &small.set);
        CHECK(wait_for(n, r, NULL, p) == 1 && FD_ISSET(ends[0], &small.set));
        CHECK(is_whole(small.after, sizeof(small.after)));
    }
}

static void high_descriptors(int p)
{
    static struct set r, w;

    CHECK(dup2(ends[0], 1500) == 1500 && dup2(ends[1], 1063) == 1063);
    clear(&r);
    clear(&w);
    add(&r, 1500);
    add(&r, ends[0]);
    add(&w, 1063);
    CHECK(wait_for(1501, &r, &w, p) == 3 && has(&r, 1500) && has(&r, ends[0]) && has(&w, 1063));
    CHECK(is_whole(r.after, sizeof(r.after)) && is_whole(w.after, sizeof(w.after)));
    /* None is ready for the other side. */
    clear(&r);
    clear(&w);
    add(&r, 1063);
    add(&w, 1500);
    CHECK(wait_for(1501, &r, &w, p) == 0 && !has(&r, 1063) && !has(&w, 1500));
    /* What is below the number only counts. */
    clear(&r);
    add(&r, 1500);
    CHECK(wait_for(1500, &r, NULL, p) == 0);
    /* Those that are closed. */
    for (int fd = 1020; fd < 1030; fd++) {
        clear(&r);
        add(&r, fd);
        CHECK(wait_for(1501, &r, NULL, p) == -1 && errno == EBADF);
    }
    close(1500);
    close(1063);
}

static void odd_numbers(int p)
{
    static struct set r;

    clear(&r);
    errno = 0;
    CHECK(wait_for(-1, &r, NULL, p) == -1 && errno == EINVAL);
    CHECK(wait_for(0, (struct set *)16, (struct set *)16, p) == 0);
    CHECK(wait_for(1, (struct set *)16, NULL, p) == -1 && errno == EFAULT);
}

static void *many_to_poll(void *unused)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    size_t count = limit.rlim_cur;
    struct pollfd *fds = calloc(count + 1, sizeof(*fds));

    CHECK(fds);
    for (size_t i = 0; i <= count; i++) {
        fds[i] = (struct pollfd) { .fd = -1 };
    }
    fds[count - 1] = (struct pollfd) { .fd = ends[0], .events = POLLIN };
    CHECK(poll(fds, count, 0) == 1 && fds[count - 1].revents == POLLIN);
    CHECK(poll(fds, count + 1, 0) == -1 && errno == EINVAL);
    free(fds);
    return unused;
}

int main(void)
{
    struct rlimit limit;
    pthread_attr_t attr;
    pthread_t thread;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 2048);
    CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    /* First, as the kernel's table of descriptors does not shrink. */
    for (int p = 0; p < 2; p++) {
        a_large_number_with_a_small_set(limit.rlim_cur < 1 << 20 ? limit.rlim_cur : 1 << 20, p);
    }
    for (int p = 0; p < 2; p++) {
        high_descriptors(p);
        odd_numbers(p);
    }
    CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 128 << 10) == 0);
    CHECK(pthread_create(&thread, &attr, many_to_poll, NULL) == 0 && pthread_join(thread, NULL) == 0);
    puts("all right");
    return 0;
}
