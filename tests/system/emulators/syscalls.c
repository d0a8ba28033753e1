/*
 * System calls that emulators of programs tend to lack, each put to real use: what it does, not only that it is known.
 * Prints a line for each, parted by tabs: its name, the kernel that brought it, and "works", the name of an error, or what
 * is wrong. test_syscalls.py runs it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* Numbers from 403 on are the same everywhere, but for an offset. */
#if defined(__mips__) && _MIPS_SIM == _ABI64
#define COMMON(N) (5000 + (N))
#elif defined(__mips__) && _MIPS_SIM == _ABIN32
#define COMMON(N) (6000 + (N))
#elif defined(__mips__)
#define COMMON(N) (4000 + (N))
#elif defined(__alpha__)
#define COMMON(N) (110 + (N))
#else
#define COMMON(N) (N)
#endif
enum {
    OPEN_TREE = COMMON(428), MOVE_MOUNT = COMMON(429), FSOPEN = COMMON(430), FSCONFIG = COMMON(431),
    FSMOUNT = COMMON(432), FSPICK = COMMON(433), PIDFD_OPEN = COMMON(434), CLONE3 = COMMON(435),
    PROCESS_MADVISE = COMMON(440), EPOLL_PWAIT2 = COMMON(441), MOUNT_SETATTR = COMMON(442), QUOTACTL_FD = COMMON(443),
    LANDLOCK_CREATE_RULESET = COMMON(444), LANDLOCK_ADD_RULE = COMMON(445), LANDLOCK_RESTRICT_SELF = COMMON(446),
    MEMFD_SECRET = COMMON(447), PROCESS_MRELEASE = COMMON(448), FUTEX_WAITV = COMMON(449),
    SET_MEMPOLICY_HOME_NODE = COMMON(450), CACHESTAT = COMMON(451), FCHMODAT2 = COMMON(452), FUTEX2_WAKE = COMMON(454),
    FUTEX2_WAIT = COMMON(455), FUTEX2_REQUEUE = COMMON(456), STATMOUNT = COMMON(457), LISTMOUNT = COMMON(458),
    MSEAL = COMMON(462), SETXATTRAT = COMMON(463), GETXATTRAT = COMMON(464), LISTXATTRAT = COMMON(465),
    REMOVEXATTRAT = COMMON(466), OPEN_TREE_ATTR = COMMON(467), FILE_GETATTR = COMMON(468), FILE_SETATTR = COMMON(469),
};
/* 64-bit numbers in two registers. */
#if __SIZEOF_LONG__ == 8
#define PAIR(N) (long)(N)
#define LOW_HIGH(N) (long)(N), 0L
#elif __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define PAIR(N) (long)((uint64_t)(N) >> 32), (long)(N)
#define LOW_HIGH(N) (long)(N), (long)((uint64_t)(N) >> 32)
#else
#define PAIR(N) (long)(N), (long)((uint64_t)(N) >> 32)
#define LOW_HIGH(N) PAIR(N)
#endif

struct kernel_timespec {
    int64_t seconds, nanoseconds;
};

/* How a probe ends, which is a process of its own. */
static int answer = -1;

static void end(const char *text)
{
    _exit(write(answer, text, strlen(text)) < 0);
}

/* An error where there should be none; CALL names one that the probe is not about. */
static void end_errno(const char *call)
{
    const char *name = strerrorname_np(errno);
    char text[200];
    snprintf(text, sizeof(text), "%s%s%s", call ? call : "", call ? ": " : "", name ? name : "?");
    end(text);
}

#define CALL(WHAT)                                                           \
    ({                                                                       \
        long result_ = (WHAT);                                               \
        if (result_ < 0) {                                                   \
            end_errno(NULL);                                                 \
        }                                                                    \
        result_;                                                             \
    })
#define NEED(WHAT)                                                           \
    ({                                                                       \
        long result_ = (WHAT);                                               \
        if (result_ < 0) {                                                   \
            end_errno(#WHAT);                                                \
        }                                                                    \
        result_;                                                             \
    })
#define CHECK(WHAT)                                                          \
    do {                                                                     \
        if (!(WHAT)) {                                                       \
            end("wrong: not " #WHAT);                                        \
        }                                                                    \
    } while (0)
#define REFUSED(WHAT, ERROR)                                                 \
    do {                                                                     \
        if ((WHAT) != -1 || errno != (ERROR)) {                              \
            end("wrong: " #WHAT " does not fail with " #ERROR);              \
        }                                                                    \
    } while (0)

static char directory[] = "/tmp/syscalls.XXXXXX";

static int file_with(const char *name, const char *text)
{
    int fd = NEED(openat(AT_FDCWD, name, O_RDWR | O_CREAT | O_TRUNC, 0600));
    NEED(write(fd, text, strlen(text)));
    return fd;
}

static void nap(int milliseconds)
{
    struct timespec t = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&t, &t)) {
    }
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct kernel_timespec from_now(int milliseconds)
{
    int64_t t = now() + milliseconds * 1000000LL;
    return (struct kernel_timespec){t / 1000000000, t % 1000000000};
}

/* Files */

static void probe_preadv2(void)
{
    char a[3] = "", b[4] = "";
    struct iovec vec[] = {{a, 2}, {b, 3}};
    int fd = file_with("f", "abcdefghij");
    NEED(lseek(fd, 6, SEEK_SET));
    CHECK(CALL(syscall(SYS_preadv2, fd, vec, 2L, LOW_HIGH(1LL), 0)) == 5);
    CHECK(strcmp(a, "bc") == 0 && strcmp(b, "def") == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == 6);
    CHECK(CALL(syscall(SYS_preadv2, fd, vec, 1L, -1L, -1L, 0)) == 2);
    CHECK(strcmp(a, "gh") == 0 && lseek(fd, 0, SEEK_CUR) == 8);
    REFUSED(syscall(SYS_preadv2, fd, vec, 1L, LOW_HIGH(0LL), 1 << 30), EOPNOTSUPP);
    REFUSED(syscall(SYS_preadv2, 999, vec, 1L, LOW_HIGH(0LL), 0), EBADF);
}

static void probe_pwritev2(void)
{
    char text[8] = "";
    struct iovec vec[] = {{"12", 2}, {"345", 3}};
    int fd = file_with("f", "");
    CHECK(CALL(syscall(SYS_pwritev2, fd, vec, 2L, LOW_HIGH((5LL << 30) + 7), 2)) == 5);
    CHECK(pread64(fd, text, 7, (5LL << 30) + 7) == 5 && strcmp(text, "12345") == 0);
}

static void probe_epoll_pwait2(void)
{
    int pipes[2], epoll = NEED(epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {.u64 = 0x1122334455667788}}, got[2];
    struct kernel_timespec timeout = {0, 30000000};
    int64_t before = now();
    NEED(pipe(pipes));
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event));
    CHECK(CALL(syscall(EPOLL_PWAIT2, epoll, got, 2, &timeout, NULL, 0L)) == 0);
    CHECK(now() - before >= 30000000);
    NEED(write(pipes[1], "x", 1));
    CHECK(CALL(syscall(EPOLL_PWAIT2, epoll, got, 2, NULL, NULL, 0L)) == 1);
    CHECK(got[0].events == EPOLLIN && got[0].data.u64 == 0x1122334455667788);
}

static void probe_fchmodat2(void)
{
    struct stat st;
    file_with("f", "");
    CALL(syscall(FCHMODAT2, AT_FDCWD, "f", 0640, AT_SYMLINK_NOFOLLOW));
    CHECK(stat("f", &st) == 0 && (st.st_mode & 0777) == 0640);
}

static void probe_cachestat(void)
{
    static char text[65536];
    struct {
        uint64_t offset, length;
    } range = {0, 65536};
    struct {
        uint64_t cache, dirty, writeback, evicted, recently_evicted;
    } got = {~0, ~0, ~0, ~0, ~0};
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0600));
    NEED(write(fd, text, sizeof(text)));
    CALL(syscall(CACHESTAT, fd, &range, &got, 0));
    CHECK(got.cache > 0 && got.cache <= 16 && got.dirty <= 16 && got.evicted <= 16);
}

struct xattr_args {
    uint64_t value;
    uint32_t size, flags;
};

static void probe_xattr(void)
{
    char value[8] = "", names[64] = "";
    file_with("f", "");
    int file = NEED(open("f", O_RDWR));
    CALL(setxattr("f", "user.a", "abc", 3, XATTR_CREATE));
    REFUSED(lsetxattr("f", "user.a", "abc", 3, XATTR_CREATE), EEXIST);
    CALL(fsetxattr(file, "user.a", "de", 2, XATTR_REPLACE));
    CHECK(CALL(getxattr("f", "user.a", value, sizeof(value))) == 2 && strcmp(value, "de") == 0);
    CHECK(CALL(lgetxattr("f", "user.a", NULL, 0)) == 2);
    CHECK(CALL(fgetxattr(file, "user.a", value, sizeof(value))) == 2);
    CHECK(CALL(listxattr("f", names, sizeof(names))) >= 7 && memmem(names, sizeof(names), "user.a", 7));
    CHECK(CALL(llistxattr("f", NULL, 0)) == CALL(flistxattr(file, names, sizeof(names))));
    CALL(removexattr("f", "user.a"));
    REFUSED(fremovexattr(file, "user.a"), ENODATA);
    REFUSED(lremovexattr("f", "user.a"), ENODATA);
}

static void probe_xattrat(void)
{
    char value[8] = "", names[64] = "";
    struct xattr_args set = {(uintptr_t) "abc", 3, 0}, get = {(uintptr_t)value, 8, 0};
    file_with("f", "");
    CALL(syscall(SETXATTRAT, AT_FDCWD, "f", 0, "user.a", &set, sizeof(set)));
    CHECK(CALL(syscall(GETXATTRAT, AT_FDCWD, "f", 0, "user.a", &get, sizeof(get))) == 3);
    CHECK(strcmp(value, "abc") == 0);
    CHECK(CALL(syscall(LISTXATTRAT, AT_FDCWD, "f", 0, names, sizeof(names))) >= 7);
    CHECK(memmem(names, sizeof(names), "user.a", 7));
    set.flags = 1; /* XATTR_CREATE */
    REFUSED(syscall(SETXATTRAT, AT_FDCWD, "f", 0, "user.a", &set, sizeof(set)), EEXIST);
    CALL(syscall(REMOVEXATTRAT, AT_FDCWD, "f", 0, "user.a"));
    REFUSED(syscall(GETXATTRAT, AT_FDCWD, "f", 0, "user.a", &get, sizeof(get)), ENODATA);
}

static void probe_file_attr(void)
{
    struct {
        uint64_t xflags;
        uint32_t extsize, nextents, projid, cowextsize;
    } attr;
    file_with("f", "");
    CALL(syscall(FILE_GETATTR, AT_FDCWD, "f", &attr, sizeof(attr), 0));
    CHECK(!(attr.xflags & 0x80));
    attr.xflags |= 0x80; /* FS_XFLAG_NODUMP */
    CALL(syscall(FILE_SETATTR, AT_FDCWD, "f", &attr, sizeof(attr), 0));
    memset(&attr, 0, sizeof(attr));
    CALL(syscall(FILE_GETATTR, AT_FDCWD, "f", &attr, sizeof(attr), 0));
    CHECK((attr.xflags >> 7) & 1);
}

/* Asynchronous I/O */

struct iocb {
    uint64_t data;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint32_t rw_flags, key;
#else
    uint32_t key, rw_flags;
#endif
    uint16_t opcode;
    int16_t priority;
    uint32_t fd;
    uint64_t buffer, size;
    int64_t offset;
    uint64_t reserved;
    uint32_t flags, eventfd;
};

struct io_event {
    uint64_t data, object;
    int64_t result, result2;
};

static long get_events(bool with_mask, unsigned long context, int count, struct io_event *events, int wait)
{
    struct timespec soon = {0, 10000000};
    struct kernel_timespec soon_wide = {0, 10000000};
    sigset_t mask;
    struct {
        sigset_t *mask;
        size_t size;
    } masks = {&mask, _NSIG / 8};
    sigemptyset(&mask);
    (void)soon_wide;
    if (!with_mask) {
        return syscall(SYS_io_getevents, context, (long)wait, (long)count, events, wait ? NULL : &soon);
    }
#ifdef SYS_io_pgetevents_time64
    return syscall(SYS_io_pgetevents_time64, context, (long)wait, (long)count, events, wait ? NULL : &soon_wide,
                   &masks);
#else
    return syscall(SYS_io_pgetevents, context, (long)wait, (long)count, events, wait ? NULL : &soon, &masks);
#endif
}

static void aio(bool with_mask)
{
    unsigned long context = 0;
    static char text[8], first[3], second[4];
    struct iovec vec[] = {{first, 2}, {second, 3}};
    int fd = file_with("f", "abcdefghij"), event = NEED(eventfd(0, 0));
    struct iocb reads = {.data = 0x1122334455667788, .fd = fd, .buffer = (uintptr_t)text, .size = 5, .offset = 1,
                         .flags = 1, .eventfd = event},
                reads_parts = {.data = 2, .opcode = 7, .fd = fd, .buffer = (uintptr_t)vec, .size = 2, .offset = 2},
                writes = {.data = 3, .opcode = 1, .fd = fd, .buffer = (uintptr_t) "XYZ", .size = 3, .offset = 20},
                bad = {.fd = 999, .buffer = (uintptr_t)text, .size = 5};
    struct iocb *all[] = {&reads, &reads_parts, &writes, &bad}, before = reads;
    struct io_event got[4];
    uint64_t events = 0;
    int n = 0;

    CALL(syscall(SYS_io_setup, 16, &context));
    CHECK(context != 0);
    /* libaio looks at it. */
    (void)*(volatile int *)context;
    CHECK(CALL(syscall(SYS_io_submit, context, 4L, all)) == 3);
    CHECK(memcmp(&before, &reads, sizeof(before)) == 0);
    REFUSED(syscall(SYS_io_submit, context, 1L, all + 3), EBADF);
    while (n < 3) {
        long more = CALL(get_events(with_mask, context, 3 - n, got + n, 1));
        CHECK(more > 0 && more <= 3 - n);
        n += more;
    }
    n = 0;
    for (int i = 0; i < 3; i++) {
        struct iocb *done = (struct iocb *)(uintptr_t)got[i].object;
        CHECK(done == &reads || done == &reads_parts || done == &writes);
        CHECK(got[i].data == done->data && got[i].result == (done == &writes ? 3 : 5) && got[i].result2 == 0);
        n += done == &reads ? 1 : done == &writes ? 10 : 100;
    }
    CHECK(n == 111);
    CHECK(strcmp(text, "bcdef") == 0 && strcmp(first, "cd") == 0 && strcmp(second, "efg") == 0);
    CHECK(pread(fd, text, 3, 20) == 3 && memcmp(text, "XYZ", 3) == 0);
    CHECK(read(event, &events, sizeof(events)) == sizeof(events) && events == 1);
    CHECK(get_events(with_mask, context, 1, got, 0) == 0);
    REFUSED(syscall(SYS_io_cancel, context, &reads, got), EINVAL);
    CALL(syscall(SYS_io_destroy, context));
    REFUSED(syscall(SYS_io_submit, context, 1L, all), EINVAL);
}

static void probe_io_setup(void)
{
    aio(false);
}

static void probe_io_pgetevents(void)
{
    aio(true);
}

/* Mounts, in namespaces of their own. */

static void own_mounts(void)
{
    int fd;
    unsigned uid = getuid(), gid = getgid();
    if (uid == 0 && unshare(CLONE_NEWNS) == 0) {
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        return;
    }
    NEED(unshare(CLONE_NEWUSER | CLONE_NEWNS));
    if ((fd = open("/proc/self/setgroups", O_WRONLY)) >= 0) {
        NEED(write(fd, "deny", 4));
        close(fd);
    }
    fd = NEED(open("/proc/self/uid_map", O_WRONLY));
    dprintf(fd, "0 %u 1", uid);
    close(fd);
    fd = NEED(open("/proc/self/gid_map", O_WRONLY));
    dprintf(fd, "0 %u 1", gid);
    close(fd);
}

static int new_tmpfs(void)
{
    own_mounts();
    int fs = CALL(syscall(FSOPEN, "tmpfs", 1));
    CALL(syscall(FSCONFIG, fs, 1, "size", "1m", 0));
    CALL(syscall(FSCONFIG, fs, 6, NULL, NULL, 0));
    int mount = CALL(syscall(FSMOUNT, fs, 1, 0));
    close(fs);
    return mount;
}

/* Mounted on this probe's directory, and gone into. */
static void enter_tmpfs(void)
{
    int mount = new_tmpfs();
    CALL(syscall(MOVE_MOUNT, mount, "", AT_FDCWD, directory, 4));
    close(mount);
    NEED(chdir(directory));
}

static void probe_fsopen(void)
{
    struct statfs st;
    int mount = new_tmpfs();
    CHECK(fcntl(mount, F_GETFD) == FD_CLOEXEC);
    CHECK(fstatfs(mount, &st) == 0 && st.f_type == 0x01021994 && (uint64_t)st.f_blocks * st.f_bsize == 1 << 20);
    REFUSED(syscall(FSOPEN, "nosuchfs", 0), ENODEV);
}

static void probe_move_mount(void)
{
    struct statfs st;
    enter_tmpfs();
    CHECK(statfs(".", &st) == 0 && st.f_type == 0x01021994);
    file_with("f", "");
}

static void probe_open_tree(void)
{
    enter_tmpfs();
    file_with("f", "");
    int tree = CALL(syscall(OPEN_TREE, AT_FDCWD, ".", 1 | O_CLOEXEC));
    CHECK(faccessat(tree, "f", R_OK, 0) == 0 && fcntl(tree, F_GETFD) == FD_CLOEXEC);
}

static void probe_fspick(void)
{
    struct statfs st;
    enter_tmpfs();
    int fs = CALL(syscall(FSPICK, AT_FDCWD, directory, 0));
    CALL(syscall(FSCONFIG, fs, 1, "size", "2m", 0));
    CALL(syscall(FSCONFIG, fs, 7, NULL, NULL, 0));
    CHECK(statfs(".", &st) == 0 && (uint64_t)st.f_blocks * st.f_bsize == 2 << 20);
}

struct mount_attributes {
    uint64_t set, clear, propagation, userns;
};

static void probe_mount_setattr(void)
{
    struct mount_attributes attr = {.set = 1ULL << 50};
    enter_tmpfs();
    close(file_with("before", ""));
    REFUSED(syscall(MOUNT_SETATTR, AT_FDCWD, ".", 0, &attr, sizeof(attr)), EINVAL);
    attr.set = 1; /* MOUNT_ATTR_RDONLY */
    CALL(syscall(MOUNT_SETATTR, AT_FDCWD, ".", 0, &attr, sizeof(attr)));
    REFUSED(open("after", O_CREAT | O_WRONLY, 0600), EROFS);
}

static void probe_open_tree_attr(void)
{
    struct mount_attributes attr = {.set = 1};
    enter_tmpfs();
    int tree = CALL(syscall(OPEN_TREE_ATTR, AT_FDCWD, ".", 1, &attr, sizeof(attr)));
    REFUSED(openat(tree, "f", O_CREAT | O_WRONLY, 0600), EROFS);
}

struct statmount {
    uint32_t size, options;
    uint64_t mask;
    uint32_t major, minor;
    uint64_t magic;
    uint32_t flags, type;
    uint64_t id, parent;
    uint32_t old_id, old_parent;
    uint64_t attr, propagation, peer, master, from;
    uint32_t root, point;
    uint64_t namespace;
    char rest[392];
    char text[];
};

static void probe_statmount(void)
{
    struct {
        uint32_t size, spare;
        uint64_t id, param;
    } request = {24, 0, ~0ULL /* LSMT_ROOT */, 0};
    static uint64_t ids[2000];
    static union {
        struct statmount mount;
        char room[8192];
    } got;
    struct statx st;
    int found = 0;

    enter_tmpfs();
    NEED(statx(AT_FDCWD, ".", 0, 0, &st));
    long n = CALL(syscall(LISTMOUNT, &request, ids, 2000L, 0));
    CHECK(n > 0);
    for (long i = 0; i < n; i++) {
        const char *text = got.mount.text;
        memset(&got, 0xff, sizeof(got));
        request.id = ids[i];
        request.param = 1 | 2 | 8 | 16 | 32; /* SB_BASIC, MNT_BASIC, MNT_ROOT, MNT_POINT, FS_TYPE */
        CALL(syscall(STATMOUNT, &request, &got, sizeof(got), 0));
        CHECK(got.mount.id == ids[i]);
        CHECK(got.mount.size > sizeof(got.mount) && got.mount.size <= sizeof(got));
        if (got.mount.magic == 0x01021994 && strcmp(text + got.mount.point, directory) == 0) {
            found++;
            CHECK(strcmp(text + got.mount.type, "tmpfs") == 0 && strcmp(text + got.mount.root, "/") == 0);
            CHECK(got.mount.mask == request.param);
            CHECK(got.mount.major == st.stx_dev_major && got.mount.minor == st.stx_dev_minor);
            CHECK(got.mount.propagation == MS_PRIVATE && got.mount.attr < 0x1000000);
        }
    }
    CHECK(found == 1);
    REFUSED(syscall(STATMOUNT, &request, &got, 100L, 0), EOVERFLOW);
}

struct quota {
    uint64_t hard, soft, space, inodes_hard, inodes_soft, inodes, time, inodes_time;
    uint32_t valid, id;
};

static void probe_quotactl(void)
{
    CALL(syscall(SYS_quotactl, 0x80000100, NULL, 0, NULL));
    REFUSED(syscall(SYS_quotactl, 0x80000700, "/nonexistent", 0, NULL), ENOENT);
}

static void probe_quotactl_fd(void)
{
    struct quota quota = {.hard = 0x1234, .soft = 0x123, .inodes_hard = 77, .valid = 1 | 4};
    struct {
        uint64_t block, inode;
        uint32_t flags, valid;
    } info = {5000, 6000, 0, 1 | 2};
    uint32_t format = 0;
    if (syscall(QUOTACTL_FD, 999, 0x80000700, 0, &quota) != -1 || errno != EBADF) {
        CALL(-1);
    }
    own_mounts();
    int fs = syscall(FSOPEN, "tmpfs", 1);
    if (fs < 0 || syscall(FSCONFIG, fs, 0, "usrquota", NULL, 0) < 0 || syscall(FSCONFIG, fs, 6, NULL, NULL, 0) < 0) {
        /* There is no file system with quotas. */
        return;
    }
    int mount = NEED(syscall(FSMOUNT, fs, 1, 0));
    CALL(syscall(QUOTACTL_FD, mount, 0x80000400, 0, &format));
    CHECK(format == 5);
    CALL(syscall(QUOTACTL_FD, mount, 0x80000800, 4321, &quota));
    memset(&quota, 0xff, sizeof(quota));
    CALL(syscall(QUOTACTL_FD, mount, 0x80000700, 4321, &quota));
    CHECK(quota.hard == 0x1234 && quota.soft == 0x123 && quota.inodes_hard == 77 && quota.space == 0);
    memset(&quota, 0xff, sizeof(quota));
    CALL(syscall(QUOTACTL_FD, mount, 0x80000900, 1000, &quota));
    CHECK(quota.id == 4321 && quota.hard == 0x1234);
    CALL(syscall(QUOTACTL_FD, mount, 0x80000600, 0, &info));
    memset(&info, 0xff, sizeof(info));
    CALL(syscall(QUOTACTL_FD, mount, 0x80000500, 0, &info));
    CHECK(info.block == 5000 && info.inode == 6000);
}

/* What others do with files */

struct fanotify_event {
    uint32_t size;
    uint8_t version, reserved;
    uint16_t head_size;
    uint64_t mask;
    int32_t fd, pid;
};

static void probe_fanotify(void)
{
    union {
        struct fanotify_event event;
        char room[4096];
    } got;
    NEED(mkdir("d", 0700));
    int fd = CALL(syscall(SYS_fanotify_init, 0x200 | 1 /* FAN_REPORT_FID, FAN_CLOEXEC */, O_RDONLY));
    CALL(syscall(SYS_fanotify_mark, fd, 1, PAIR(0x100LL /* FAN_CREATE */), AT_FDCWD, "d"));
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    file_with("d/f", "");
    long n = NEED(read(fd, &got, sizeof(got)));
    CHECK(n == got.event.size && n > (long)sizeof(got.event) && got.event.version == 3);
    CHECK(got.event.mask == 0x100 && got.event.head_size == sizeof(got.event) && got.event.fd == -1);
    struct {
        uint8_t type, pad;
        uint16_t size;
        uint32_t fsid[2], handle_size, handle_type;
    } *info = (void *)(&got.event + 1);
    CHECK(info->type == 1 && info->size == n - (long)sizeof(got.event) && info->handle_size <= info->size - 20u);
}

/* As virus scanners do. */
static void probe_fanotify_permission(void)
{
    struct fanotify_event event;
    struct {
        int32_t fd;
        uint32_t response;
    } deny;
    int status;
    file_with("f", "");
    int fd = CALL(syscall(SYS_fanotify_init, 4 /* FAN_CLASS_CONTENT */, O_RDONLY));
    CALL(syscall(SYS_fanotify_mark, fd, 1, PAIR(0x10000LL /* FAN_OPEN_PERM */), AT_FDCWD, "f"));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        _exit(open("f", O_RDONLY) < 0 && errno == EPERM ? 5 : 1);
    }
    struct pollfd ready = {fd, POLLIN, 0};
    CHECK(poll(&ready, 1, 5000) == 1);
    CHECK(read(fd, &event, sizeof(event)) == sizeof(event) && event.mask == 0x10000 && event.pid == pid);
    CHECK(event.fd >= 0);
    deny.fd = event.fd;
    deny.response = 2;
    CHECK(write(fd, &deny, sizeof(deny)) == sizeof(deny));
    CHECK(waitpid(pid, &status, 0) == pid && status == 5 << 8);
}

static void probe_landlock(void)
{
    struct {
        uint64_t fs;
    } ruleset = {2 | 0x100}; /* WRITE_FILE, MAKE_REG */
    struct {
        uint64_t access;
        int32_t directory;
    } __attribute__((packed)) rule;
    CHECK(CALL(syscall(LANDLOCK_CREATE_RULESET, NULL, 0L, 1)) >= 1);
    REFUSED(syscall(LANDLOCK_CREATE_RULESET, &ruleset, 4L, 0), EINVAL);
    int fd = CALL(syscall(LANDLOCK_CREATE_RULESET, &ruleset, sizeof(ruleset), 0));
    NEED(mkdir("yes", 0700));
    NEED(mkdir("no", 0700));
    rule.access = ruleset.fs;
    rule.directory = NEED(open("yes", O_PATH));
    CALL(syscall(LANDLOCK_ADD_RULE, fd, 1, &rule, 0));
    rule.access = 1 << 30;
    REFUSED(syscall(LANDLOCK_ADD_RULE, fd, 1, &rule, 0), EINVAL);
    NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CALL(syscall(LANDLOCK_RESTRICT_SELF, fd, 0));
    NEED(open("yes/f", O_CREAT | O_WRONLY, 0600));
    REFUSED(open("no/f", O_CREAT | O_WRONLY, 0600), EACCES);
    NEED(open("no", O_RDONLY));
    int status;
    pid_t pid = NEED(fork());
    if (pid == 0) {
        _exit(open("no/f", O_CREAT | O_WRONLY, 0600) < 0 && errno == EACCES ? 5 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 5 << 8);
}

/* Futexes */

struct waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static uint32_t futexes[2] = {0x11223344, 7};
static long (*waits)(struct kernel_timespec *);
static volatile long woken;

static void *waiter(void *argument)
{
    woken = waits(NULL);
    return NULL;
}

static pthread_t wait_begins(long (*how)(struct kernel_timespec *))
{
    pthread_t thread;
    waits = how;
    woken = -100;
    errno = pthread_create(&thread, NULL, waiter, NULL);
    NEED(errno ? -1 : 0);
    return thread;
}

static long waits_for_both(struct kernel_timespec *until)
{
    struct waitv v[2] = {{futexes[0], (uintptr_t)&futexes[0], 2, 0}, {futexes[1], (uintptr_t)&futexes[1], 2, 0}};
    return syscall(FUTEX_WAITV, v, 2, 0, until, CLOCK_MONOTONIC);
}

static long waits_for_first(struct kernel_timespec *until)
{
    return syscall(FUTEX2_WAIT, &futexes[0], (unsigned long)futexes[0], 0xffffffffUL, 2, until, CLOCK_MONOTONIC);
}

static void probe_futex_waitv(void)
{
    struct waitv other = {1, (uintptr_t)&futexes[0], 2, 0}, large = {1ULL << 32, (uintptr_t)&futexes[0], 2, 0};
    struct kernel_timespec soon = from_now(20);
    if (waits_for_both(&soon) != -1 || errno != ETIMEDOUT) {
        CALL(-1);
    }
    REFUSED(syscall(FUTEX_WAITV, &other, 1, 0, NULL, 0), EAGAIN);
    REFUSED(syscall(FUTEX_WAITV, &large, 1, 0, NULL, 0), EINVAL);
    REFUSED(syscall(FUTEX_WAITV, &other, 0, 0, NULL, 0), EINVAL);
    pthread_t thread = wait_begins(waits_for_both);
    for (int i = 0; i < 1000 && woken == -100; i++) {
        syscall(SYS_futex, &futexes[1], FUTEX_WAKE, 1, NULL, NULL, 0);
        nap(2);
    }
    pthread_join(thread, NULL);
    CHECK(woken == 1);
}

static void probe_futex_wait(void)
{
    struct kernel_timespec soon = from_now(20);
    if (waits_for_first(&soon) != -1 || errno != ETIMEDOUT) {
        CALL(-1);
    }
    REFUSED(syscall(FUTEX2_WAIT, &futexes[0], 1UL, 0xffffffffUL, 2, NULL, CLOCK_MONOTONIC), EAGAIN);
    pthread_t thread = wait_begins(waits_for_first);
    for (int i = 0; i < 1000 && woken == -100; i++) {
        CALL(syscall(FUTEX2_WAKE, &futexes[0], 0xffffffffUL, 1, 2));
        nap(2);
    }
    pthread_join(thread, NULL);
    CHECK(woken == 0);
}

static void probe_futex_requeue(void)
{
    struct waitv v[2] = {{futexes[0], (uintptr_t)&futexes[0], 2, 0}, {0, (uintptr_t)&futexes[1], 2, 0}};
    struct waitv wrong[2] = {{1, (uintptr_t)&futexes[0], 2, 0}, v[1]};
    if (syscall(FUTEX2_REQUEUE, wrong, 0, 0, 1) != -1 || errno != EAGAIN) {
        CALL(-1);
    }
    pthread_t thread = wait_begins(waits_for_first);
    long moved = 0;
    for (int i = 0; i < 1000 && moved != 1; i++) {
        nap(2);
        moved = CALL(syscall(FUTEX2_REQUEUE, v, 0, 0, 1));
    }
    CHECK(moved == 1 && woken == -100);
    CHECK(CALL(syscall(FUTEX2_WAKE, &futexes[0], 0xffffffffUL, 1, 2)) == 0);
    CHECK(CALL(syscall(FUTEX2_WAKE, &futexes[1], 0xffffffffUL, 1, 2)) == 1);
    pthread_join(thread, NULL);
    CHECK(woken == 0);
}

/* Memory */

static char *pages(void)
{
    char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    memory[0] = 7;
    return memory;
}

static void probe_mlock2(void)
{
    char *memory = pages();
    CALL(syscall(SYS_mlock2, memory, 65536L, 1));
    REFUSED(syscall(SYS_mlock2, memory, 65536L, 128), EINVAL);
    CHECK(munlock(memory, 65536) == 0);
}

enum { NODES = 2048 };

static void probe_get_mempolicy(void)
{
    unsigned long nodes[NODES / 8 / sizeof(long)] = {1}, got[NODES / 8 / sizeof(long)];
    int mode = 99;
    memset(got, 0xff, sizeof(got));
    CALL(syscall(SYS_get_mempolicy, &mode, got, (long)NODES, NULL, 0L));
    CHECK(mode == 0 && got[0] == 0 && got[1] == 0);
    CALL(syscall(SYS_set_mempolicy, 2 /* MPOL_BIND */, nodes, (long)NODES));
    CALL(syscall(SYS_get_mempolicy, &mode, got, (long)NODES, NULL, 0L));
    CHECK(mode == 2 && got[0] == 1 && got[1] == 0);
    nodes[0] = 0;
    REFUSED(syscall(SYS_set_mempolicy, 2, nodes, (long)NODES), EINVAL);
}

static void probe_mbind(void)
{
    unsigned long nodes[NODES / 8 / sizeof(long)] = {1}, got[NODES / 8 / sizeof(long)];
    int mode = 99;
    char *memory = pages();
    CALL(syscall(SYS_mbind, memory, 65536L, 2L, nodes, (long)NODES, 0L));
    CALL(syscall(SYS_get_mempolicy, &mode, got, (long)NODES, memory, 2L));
    CHECK(mode == 2 && got[0] == 1);
}

static void probe_home_node(void)
{
    unsigned long nodes[NODES / 8 / sizeof(long)] = {1};
    char *memory = pages();
    if (syscall(SET_MEMPOLICY_HOME_NODE, memory, 65536L, 0L, 1L) != -1 || errno != EINVAL) {
        CALL(-1);
    }
    NEED(syscall(SYS_mbind, memory, 65536L, 2L, nodes, (long)NODES, 0L));
    CALL(syscall(SET_MEMPOLICY_HOME_NODE, memory, 65536L, 0L, 0L));
    REFUSED(syscall(SET_MEMPOLICY_HOME_NODE, memory, 65536L, 4000L, 0L), EINVAL);
}

static void probe_move_pages(void)
{
    char *memory = pages();
    void *where[] = {memory};
    int status[] = {99};
    CALL(syscall(SYS_move_pages, 0, 1L, where, NULL, status, 0));
    CHECK(status[0] == 0);
}

static void probe_migrate_pages(void)
{
    unsigned long nodes[NODES / 8 / sizeof(long)] = {1};
    CHECK(CALL(syscall(SYS_migrate_pages, 0, (long)NODES, nodes, nodes)) == 0);
}

static void probe_process_madvise(void)
{
    char *memory = pages();
    struct iovec vec[] = {{memory, 65536}};
    int self = NEED(syscall(PIDFD_OPEN, getpid(), 0));
    CHECK(CALL(syscall(PROCESS_MADVISE, self, vec, 1L, 20 /* MADV_COLD */, 0)) == 65536);
    CHECK(memory[0] == 7);
}

static void probe_process_mrelease(void)
{
    int self = NEED(syscall(PIDFD_OPEN, getpid(), 0));
    if (syscall(PROCESS_MRELEASE, self, 0) != -1 || errno != EINVAL) {
        CALL(-1);
    }
    REFUSED(syscall(PROCESS_MRELEASE, 999, 0), EBADF);
}

static void probe_memfd_secret(void)
{
    int fd = CALL(syscall(MEMFD_SECRET, O_CLOEXEC));
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    NEED(ftruncate(fd, 65536));
    char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    strcpy(memory, "secret");
    CHECK(strcmp(memory, "secret") == 0);
}

static void probe_mseal(void)
{
    char *memory = pages();
    CALL(syscall(MSEAL, memory, 65536L, 0L));
    REFUSED(munmap(memory, 65536), EPERM);
    REFUSED(mprotect(memory, 65536, PROT_READ), EPERM);
    memory[1] = 8;
    CHECK(memory[0] == 7 && memory[1] == 8);
    REFUSED(syscall(MSEAL, memory, 65536L, 1L), EINVAL);
}

static void probe_pkey_alloc(void)
{
#ifdef SYS_pkey_alloc
    if (syscall(SYS_pkey_mprotect, pages(), 65536L, (long)PROT_READ, 13) != -1 || errno != EINVAL) {
        CALL(-1);
    }
    char *memory = pages();
    CALL(syscall(SYS_pkey_mprotect, memory, 65536L, (long)PROT_READ, -1));
    CHECK(memory[0] == 7);
    REFUSED(syscall(SYS_pkey_alloc, 1L, 0L), EINVAL);
    REFUSED(syscall(SYS_pkey_free, 13), EINVAL);
    int key = syscall(SYS_pkey_alloc, 0L, 0L);
    if (key < 0 && (errno == ENOSPC || errno == EINVAL)) {
        end("works without keys");
    }
    CALL(syscall(SYS_pkey_free, CALL(key)));
#else
    errno = ENOSYS;
    CALL(-1);
#endif
}

/* Keys */

static void probe_keyctl(void)
{
    char text[200] = "";
    int32_t keys[8];
    CALL(syscall(SYS_keyctl, 1, NULL)); /* A session of its own. */
    int key = CALL(syscall(SYS_add_key, "user", "of-a-test", "abc", 3L, -3));
    CHECK(CALL(syscall(SYS_keyctl, 11, key, text, 200L)) == 3 && strcmp(text, "abc") == 0);
    CHECK(CALL(syscall(SYS_keyctl, 6, key, text, 200L)) > 5 && strncmp(text, "user;", 5) == 0);
    CHECK(CALL(syscall(SYS_keyctl, 10, -3, "user", "of-a-test", 0)) == key);
    CHECK(CALL(syscall(SYS_request_key, "user", "of-a-test", NULL, 0)) == key);
    long size = CALL(syscall(SYS_keyctl, 11, -3, keys, sizeof(keys)));
    CHECK(size == 4 && keys[0] == key);
    CALL(syscall(SYS_keyctl, 2, key, "defg", 4L));
    CHECK(CALL(syscall(SYS_keyctl, 11, key, text, 200L)) == 4 && strncmp(text, "defg", 4) == 0);
    CALL(syscall(SYS_keyctl, 3, key));
    REFUSED(syscall(SYS_keyctl, 11, key, text, 200L), EKEYREVOKED);
}

/* Processes */

static char stack[65536];

static int stores_seven(void *argument)
{
    *(volatile int *)argument = 7;
    _exit(0);
}

static void probe_vfork(void)
{
    static volatile int value;
    CALL(clone(stores_seven, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)&value));
    CHECK(value == 7);
}

static int first_of_namespace(void *argument)
{
    _exit(getpid() == 1 ? 9 : 1);
}

static void probe_clone_namespaces(void)
{
    int status;
    pid_t pid = CALL(clone(first_of_namespace, stack + sizeof(stack), CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, NULL));
    CHECK(waitpid(pid, &status, 0) == pid && status == 9 << 8);
}

static void probe_clone3(void)
{
    uint64_t arguments[8] = {[4] = SIGCHLD};
    int status;
    pid_t pid = CALL(syscall(CLONE3, arguments, sizeof(arguments)));
    if (pid == 0) {
        _exit(9);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 9 << 8);
}

static void probe_recvmmsg(void)
{
#ifdef SYS_recvmmsg_time64
    const int number = SYS_recvmmsg_time64;
#else
    const int number = SYS_recvmmsg;
#endif
    int sockets[2];
    char text[2][8] = {"", ""};
    struct iovec vec[2] = {{text[0], 8}, {text[1], 8}};
    struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = &vec[0], .msg_iovlen = 1}},
                                  {.msg_hdr = {.msg_iov = &vec[1], .msg_iovlen = 1}}};
    NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets));
    NEED(send(sockets[0], "abc", 3, 0));
    NEED(send(sockets[0], "de", 2, 0));
    CHECK(CALL(syscall(number, sockets[1], messages, 2, 0, NULL)) == 2);
    CHECK(messages[0].msg_len == 3 && messages[1].msg_len == 2 && strcmp(text[1], "de") == 0);
}

static const struct {
    const char *name;
    /* The kernel that brought it: 100 times the first number, plus the second one. */
    int since;
    void (*probe)(void);
} probes[] = {
    {"clone with CLONE_VM and CLONE_VFORK", 206, probe_vfork},
    {"clone with namespaces", 308, probe_clone_namespaces},
    {"clone3", 503, probe_clone3},
    {"io_setup, io_submit, io_getevents", 206, probe_io_setup},
    {"io_pgetevents", 501, probe_io_pgetevents},
    {"add_key, request_key, keyctl", 206, probe_keyctl},
    {"get_mempolicy, set_mempolicy", 206, probe_get_mempolicy},
    {"mbind", 206, probe_mbind},
    {"migrate_pages", 206, probe_migrate_pages},
    {"move_pages", 206, probe_move_pages},
    {"set_mempolicy_home_node", 517, probe_home_node},
    {"fanotify_*", 513, probe_fanotify},
    {"fanotify_*, for permission", 206, probe_fanotify_permission},
    {"quotactl", 206, probe_quotactl},
    {"quotactl_fd", 514, probe_quotactl_fd},
    {"setxattr, getxattr, listxattr, removexattr", 206, probe_xattr},
    {"mlock2", 404, probe_mlock2},
    {"preadv2", 406, probe_preadv2},
    {"pwritev2", 407, probe_pwritev2},
    {"pkey_alloc, pkey_free, pkey_mprotect", 409, probe_pkey_alloc},
    {"recvmmsg", 501, probe_recvmmsg},
    {"fsopen, fsconfig, fsmount", 502, probe_fsopen},
    {"fspick", 502, probe_fspick},
    {"move_mount", 502, probe_move_mount},
    {"open_tree", 502, probe_open_tree},
    {"process_madvise", 510, probe_process_madvise},
    {"epoll_pwait2", 511, probe_epoll_pwait2},
    {"mount_setattr", 512, probe_mount_setattr},
    {"landlock_*", 513, probe_landlock},
    {"memfd_secret", 514, probe_memfd_secret},
    {"process_mrelease", 515, probe_process_mrelease},
    {"futex_waitv", 516, probe_futex_waitv},
    {"cachestat", 605, probe_cachestat},
    {"fchmodat2", 606, probe_fchmodat2},
    {"futex_wait, futex_wake", 607, probe_futex_wait},
    {"futex_requeue", 607, probe_futex_requeue},
    {"statmount, listmount", 608, probe_statmount},
    {"mseal", 610, probe_mseal},
    {"setxattrat, getxattrat, listxattrat, removexattrat", 613, probe_xattrat},
    {"open_tree_attr", 615, probe_open_tree_attr},
    {"file_getattr, file_setattr", 617, probe_file_attr},
};

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    for (unsigned i = 0; i < sizeof(probes) / sizeof(*probes); i++) {
        char text[200] = "", path[64];
        int pipes[2], status = 0;
        if (argc > 1 && strcmp(argv[1], probes[i].name)) {
            continue;
        }
        strcpy(directory, "/tmp/syscalls.XXXXXX");
        if (pipe(pipes) || !mkdtemp(directory)) {
            perror("syscalls");
            return 1;
        }
        pid_t pid = fork();
        if (pid == 0) {
            answer = fcntl(pipes[1], F_DUPFD_CLOEXEC, 100);
            close(pipes[0]);
            close(pipes[1]);
            alarm(20);
            if (chdir(directory) == 0) {
                probes[i].probe();
                end("works");
            }
            _exit(1);
        }
        close(pipes[1]);
        int n = read(pipes[0], text, sizeof(text) - 1);
        waitpid(pid, &status, 0);
        close(pipes[0]);
        if (n <= 0) {
            sprintf(text, WIFSIGNALED(status) ? "wrong: killed by signal %d" : "wrong: ended with %d",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
        snprintf(path, sizeof(path), "rm -rf %s", directory);
        if (system(path)) {
            perror(path);
        }
        printf("%s\t%d.%d\t%s\n", probes[i].name, probes[i].since / 100, probes[i].since % 100, text);
    }
    return 0;
}
