/*
 * arm64 addresses with a tag in their top byte work in system calls, once a process has asked for that, and are faults
 * before, as in the kernel's own words on its "tagged address ABI": in arguments, and in what arguments point to.
 *
 * test-qemu: arches=arm64 cpus=default,max says='all right'
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define T(POINTER) ((void *)((uintptr_t)(POINTER) | 0xa5ull << 56))

static int failed;

static void check(const char *what, int right)
{
    if (!right) {
        printf("%s: %s\n", what, strerror(errno));
        failed = 1;
    }
}

/* System calls as they are: the C library must not look at what the pointers point to. */
#define call(...) syscall(__VA_ARGS__)

static volatile sig_atomic_t handled;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    handled = info->si_value.sival_int;
}

static void files(void)
{
    static char name[] = "/tmp/tags-XXXXXX", text[64] = "some words", other[64], link[] = "/proc/self/exe";
    struct stat st;
    struct iovec parts[2] = { { T(text), 5 }, { T(text + 5), 5 } };
    int file = mkstemp(name);

    check("openat", close(call(SYS_openat, AT_FDCWD, T(name), O_RDWR)) == 0);
    check("write", call(SYS_write, file, T(text), 10) == 10);
    check("writev", call(SYS_writev, file, T(parts), 2) == 10);
    check("pwrite64", call(SYS_pwrite64, file, T(text), 10, 20) == 10);
    check("pread64", call(SYS_pread64, file, T(other), 30, 0) == 30 && !memcmp(other + 10, text, 10));
    lseek(file, 0, SEEK_SET);
    memset(other, 0, sizeof other);
    parts[0].iov_base = T(other);
    parts[1].iov_base = T(other + 5);
    check("readv", call(SYS_readv, file, T(parts), 2) == 10 && !strcmp(other, text));
    check("preadv", call(SYS_preadv, file, T(parts), 2, 10, 0) == 10 && !strcmp(other, text));
    check("fstat", call(SYS_fstat, file, T(&st)) == 0 && st.st_size == 30);
    check("newfstatat", call(SYS_newfstatat, AT_FDCWD, T(name), T(&st), 0) == 0 && st.st_size == 30);
    check("readlinkat", call(SYS_readlinkat, AT_FDCWD, T(link), T(other), sizeof other) > 0);
    check("faccessat", call(SYS_faccessat, AT_FDCWD, T(name), R_OK) == 0);
    check("getcwd", call(SYS_getcwd, T(other), sizeof other) > 0 || errno == ERANGE);
    check("unlinkat", call(SYS_unlinkat, AT_FDCWD, T(name), 0) == 0);
    close(file);
    file = open("/proc/self", O_RDONLY | O_DIRECTORY);
    char entries[1024];
    check("getdents64", call(SYS_getdents64, file, T(entries), sizeof entries) > 0);
    close(file);
}

static void waiting(void)
{
    int ends[2], set = epoll_create1(0), number = 0;
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 }, got = { 0 };
    struct pollfd one = { .events = POLLIN };
    struct timespec zero = { 0 }, now = { 0 };
    struct timeval day = { 0 };
    fd_set reads;
    static int word = 5;

    check("pipe2", call(SYS_pipe2, T(ends), 0) == 0);
    check("epoll_ctl", call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, ends[0], T(&event)) == 0);
    write(ends[1], "x", 1);
    check("epoll_pwait", call(SYS_epoll_pwait, set, T(&got), 1, 0, NULL, 8) == 1 && got.data.u64 == 77);
    one.fd = ends[0];
    check("ppoll", call(SYS_ppoll, T(&one), 1, T(&zero), NULL, 8) == 1 && one.revents == POLLIN);
    FD_ZERO(&reads);
    FD_SET(ends[0], &reads);
    check("pselect6", call(SYS_pselect6, ends[0] + 1, T(&reads), NULL, NULL, T(&zero), NULL) == 1);
    check("ioctl", call(SYS_ioctl, ends[0], FIONREAD, T(&number)) == 0 && number == 1);
    check("futex", call(SYS_futex, T(&word), FUTEX_WAIT, 4, T(&zero)) == -1 && errno == EAGAIN);
    check("futex that waits", call(SYS_futex, T(&word), FUTEX_WAIT, 5, T(&zero)) == -1 && errno == ETIMEDOUT);
    check("futex that wakes", call(SYS_futex, T(&word), FUTEX_WAKE, 1) == 0);
    check("clock_gettime", call(SYS_clock_gettime, CLOCK_REALTIME, T(&now)) == 0 && now.tv_sec);
    check("nanosleep", call(SYS_nanosleep, T(&zero), T(&now)) == 0);
    check("gettimeofday", call(SYS_gettimeofday, T(&day), NULL) == 0 && day.tv_sec);
}

static void sockets(void)
{
    int ends[2], value = 0, file = -1;
    socklen_t size = sizeof value;
    char sent[] = "words", got[16] = { 0 }, room[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec part = { T(sent), sizeof sent };
    struct msghdr message = { .msg_iov = T(&part), .msg_iovlen = 1 };
    struct cmsghdr *right = (struct cmsghdr *)room;
    struct sockaddr_un address;

    check("socketpair", call(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, T(ends)) == 0);
    check("getsockopt", call(SYS_getsockopt, ends[0], SOL_SOCKET, SO_TYPE, T(&value), T(&size)) == 0);
    check("what getsockopt got", value == SOCK_DGRAM);
    check("setsockopt", call(SYS_setsockopt, ends[0], SOL_SOCKET, SO_SNDBUF, T(&value), sizeof value) == 0);
    size = sizeof address;
    check("getsockname", call(SYS_getsockname, ends[0], T(&address), T(&size)) == 0);
    check("what getsockname got", address.sun_family == AF_UNIX);
    check("sendto", call(SYS_sendto, ends[0], T(sent), sizeof sent, 0, NULL, 0) == sizeof sent);
    check("recvfrom", call(SYS_recvfrom, ends[1], T(got), sizeof got, 0, NULL, NULL) == sizeof sent);
    check("what recvfrom got", !strcmp(got, sent));
    message.msg_control = T(room);
    message.msg_controllen = sizeof room;
    right->cmsg_len = CMSG_LEN(sizeof(int));
    right->cmsg_level = SOL_SOCKET;
    right->cmsg_type = SCM_RIGHTS;
    *(int *)CMSG_DATA(right) = 0;
    check("sendmsg", call(SYS_sendmsg, ends[0], T(&message), 0) == sizeof sent);
    part.iov_base = T(got);
    memset(room, 0, sizeof room);
    check("recvmsg", call(SYS_recvmsg, ends[1], T(&message), 0) == sizeof sent && right->cmsg_type == SCM_RIGHTS);
    file = *(int *)CMSG_DATA(right);
    check("what recvmsg got", file > 2 && close(file) == 0);
}

static void processes(void)
{
    static char program[] = "/proc/self/exe", argument[] = "child", *arguments[] = { 0, 0, 0 }, *variables[] = { 0, 0 };
    static char variable[] = "A=b", name[17];
    /* As the kernel has it. */
    struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } old, act = { on_signal, SA_SIGINFO };
    struct utsname uts;
    struct rusage usage;
    struct rlimit64 { uint64_t now, most; } limit;
    uint64_t none = 0, mask = 0;
    siginfo_t info = { .si_code = SI_QUEUE, .si_value.sival_int = 42 };
    int status = 0;

    check("rt_sigaction", call(SYS_rt_sigaction, SIGUSR1, T(&act), T(&old), 8) == 0);
    check("rt_sigqueueinfo", call(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, T(&info)) == 0 && handled == 42);
    check("rt_sigprocmask", call(SYS_rt_sigprocmask, SIG_SETMASK, T(&none), T(&mask), 8) == 0);
    check("uname", call(SYS_uname, T(&uts)) == 0 && !strcmp(uts.machine, "aarch64"));
    check("getrusage", call(SYS_getrusage, RUSAGE_SELF, T(&usage)) == 0);
    check("prlimit64", call(SYS_prlimit64, 0, RLIMIT_CORE, NULL, T(&limit)) == 0);
    check("PR_SET_NAME", prctl(PR_SET_NAME, T("tagged"), 0, 0, 0) == 0);
    check("PR_GET_NAME", prctl(PR_GET_NAME, T(name), 0, 0, 0) == 0 && !strcmp(name, "tagged"));
    check("getrandom", call(SYS_getrandom, T(name), 16, 0) == 16);
    if (fork() == 0) {
        arguments[0] = T(program);
        arguments[1] = T(argument);
        variables[0] = T(variable);
        call(SYS_execve, T(program), T(arguments), T(variables));
        /* Where no emulator is registered; a fault would be EFAULT. */
        _exit(errno != ENOEXEC);
    }
    check("wait4", call(SYS_wait4, -1, T(&status), 0, T(&usage)) > 0);
    check("execve", status == 0);
}

static void memory(void)
{
    char *page = mmap(NULL, 131072, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char there[32];
    char from[8] = "abcdefg", to[8] = { 0 };
    struct iovec near = { T(to), 8 }, far = { T(from), 8 };

    check("mprotect", call(SYS_mprotect, T(page), 65536, PROT_READ) == 0);
    check("madvise", call(SYS_madvise, T(page), 65536, MADV_DONTNEED) == 0);
    check("mincore", call(SYS_mincore, T(page), 131072, T(there)) == 0);
    check("msync", call(SYS_msync, T(page), 65536, MS_SYNC) == 0);
    check("mlock", call(SYS_mlock, T(page), 4096) == 0 || errno == ENOMEM || errno == EPERM);
    /* QEMU has it not, and it may be forbidden. */
    if (call(SYS_process_vm_readv, getpid(), T(&near), 1, T(&far), 1, 0) != 8 || strcmp(to, from)) {
        check("process_vm_readv", errno == ENOSYS || errno == EPERM);
    }
    check("munmap", call(SYS_munmap, T(page), 131072) == 0);
}

int main(int count, char **arguments)
{
    char text[] = "x";
    int ends[2];

    if (count == 2) {
        return strcmp(arguments[1], "child") || !getenv("A") || strcmp(getenv("A"), "b");
    }
    pipe(ends);
    check("a fault before", call(SYS_write, ends[1], T(text), 1) == -1 && errno == EFAULT);
    check("PR_SET_TAGGED_ADDR_CTRL", prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0) == 0);
    check("PR_GET_TAGGED_ADDR_CTRL", prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0) == PR_TAGGED_ADDR_ENABLE);
    files();
    waiting();
    sockets();
    processes();
    memory();
    check("PR_SET_TAGGED_ADDR_CTRL off", prctl(PR_SET_TAGGED_ADDR_CTRL, 0, 0, 0, 0) == 0);
    check("a fault after", call(SYS_write, ends[1], T(text), 1) == -1 && errno == EFAULT);
    puts(failed ? "bad" : "all right");
    return failed;
}
