/*
 * arm64 addresses with a tag in their top byte, where tags.c and tags-calls.c do not have them: instructions of newer CPUs
 * and on caches, stacks, and system calls whose arguments point to structures with addresses. What is no address, as the
 * user's data of epoll and of signals, keeps all its bits.
 *
 * test-qemu: arches=arm64 cpus=default,max says='all right'
 */
#define _GNU_SOURCE
#pragma GCC target("arch=armv8.3-a")
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define T(POINTER) ((void *)((uintptr_t)(POINTER) | 0xa5ull << 56))
#define call(...) syscall(__VA_ARGS__)

static int failed;

static void check(const char *what, int right)
{
    if (!right) {
        printf("%s: %s\n", what, strerror(errno));
        failed = 1;
    }
}

/* What not each kernel has, or allows. */
static void try(const char *what, long result)
{
    check(what, result >= 0 || errno == ENOSYS || errno == EPERM || errno == EOPNOTSUPP || errno == EINVAL);
}

__asm__(".text\n.balign 64\n.globl returns1, returns2\nreturns1:\n\tmov w0, #1\n\tret\n.balign 64\nreturns2:\n\tmov w0, #2\n\tret\n.balign 64\n");
extern char returns1[], returns2[];

static void instructions(void)
{
    static uint64_t data[64] __attribute__((aligned(64)));
    uint64_t *p = T(data), v, w;
    uint8_t *bytes = T(data);
    uint32_t r;

    for (int i = 0; i < 64; i++) {
        data[i] = i;
    }
    __asm__ volatile("ldapr %0, [%1]" : "=r"(v) : "r"(p + 5) : "memory");
    check("ldapr", v == 5);
    __asm__ volatile("ldaddalb %w2, %w0, [%3]\n\tldseth %w2, %w1, [%3]\n\tldclrlb %w2, %w1, [%4]\n\tstsmax %2, [%3]"
                     : "=&r"(v), "=&r"(w) : "r"(3ul), "r"(p + 7), "r"(p + 8) : "memory");
    check("ldaddb, ldseth, ldclrb, stsmax", v == 7 && w == 8 && data[7] == 11 && data[8] == 8);
    __asm__ volatile("casb %w0, %w1, [%2]" : "=&r"(r) : "r"(77), "r"(bytes), "0"(0) : "memory");
    check("casb", bytes[0] == 77);
    /* Not aligned, and over the end of sixteen bytes. */
    *(volatile uint64_t *)(bytes + 13) = 0x1122334455667788;
    check("str, not aligned", *(volatile uint64_t *)((uint8_t *)data + 13) == 0x1122334455667788);
    __asm__ volatile("ld1r {v0.2d}, [%0]\n\tst2 {v0.b, v1.b}[3], [%1]\n\tld3 {v2.8h, v3.8h, v4.8h}, [%0], #48\n\t"
                     "st1 {v2.8b, v3.8b, v4.8b}, [%1], %2"
                     : "+r"(p), "+r"(bytes) : "r"(24ul) : "v0", "v1", "v2", "v3", "v4", "memory");
    check("st1 with an index", bytes == (uint8_t *)T(data) + 24 && p == (uint64_t *)T(data) + 6);
    __asm__ volatile("ldrb %w0, [%1, %2]\n\tldr %w0, [%1, %w3, sxtw #2]" : "=&r"(r) : "r"(T(data + 32)), "r"(-8l), "r"(-2));
    check("ldr with an index", r == 31);
    /* A tag that the index brings with it. */
    __asm__ volatile("ldr %0, [%1, %2]" : "=r"(v) : "r"(data + 32), "r"(0x5aul << 56));
    check("ldr with a tag in the index", v == 32);
    __asm__ volatile("ldr %0, [%1, %2, lsl #3]" : "=r"(v) : "r"(data + 32), "r"(0x14ul << 53));
    check("ldr with a tag in an index that is shifted", v == 32);
    if (getauxval(AT_HWCAP) & HWCAP_SVE) {
        uint64_t at[32];

        for (int i = 0; i < 32; i++) {
            at[i] = (uintptr_t)T(data + i);
        }
        __asm__ volatile(".arch_extension sve\n\tptrue p0.d, vl2\n\tld1d z0.d, p0/z, [%1]\n\tld1d z1.d, p0/z, [z0.d]\n\t"
                         "uaddv d2, p0, z1.d\n\tstr d2, [%0]\n\tst1d z1.d, p0, [z0.d, #80]\n\tldff1d z3.d, p0/z, [z0.d]\n\t"
                         "uaddv d2, p0, z3.d\n\tstr d2, [%0, #8]"
                         : : "r"(T(at + 30)), "r"(T(at)) : "v0", "v1", "v2", "v3", "memory");
        check("ld1d with a vector of addresses", at[30] == data[0] + data[1] && at[31] == at[30]);
        check("st1d with a vector of addresses", data[10] == data[0] && data[11] == data[1]);
    }
    /* Code is written and told of at its tagged address, and returned to there. */
    char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 20; i++) {
        int (*volatile run)(void) = (int (*)(void))(i & 2 ? T(code) : code);

        memcpy(T(code), i & 1 ? returns2 : returns1, 8);
        __asm__ volatile("dc cvau, %0\n\tdc civac, %0\n\tdsb ish\n\tic ivau, %0\n\tdsb ish\n\tisb" : : "r"(T(code)) : "memory");
        check("code", run() == (i & 1) + 1);
    }
    /* Mapped twice. */
    int memory = memfd_create("code", 0);
    ftruncate(memory, 4096);
    char *there = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0);
    for (int i = 0; i < 20; i++) {
        int (*volatile run)(void) = (int (*)(void))T(code);

        memcpy(T(there), i & 1 ? returns2 : returns1, 8);
        __asm__ volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %1\n\tdsb ish\n\tisb" : : "r"(T(there)), "r"(T(code)) : "memory");
        check("code that is mapped twice", run() == (i & 1) + 1);
    }
    __asm__ volatile("adr x9, 1f\n\torr x9, x9, #0x0f00000000000000\n\tmov x30, x9\n\tret\n1:" : : : "x9", "x30");
}

static volatile sig_atomic_t handled;
static void *volatile value;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    value = info->si_value.sival_ptr;
    handled++;
}

static void signals(void)
{
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t alternate = { .ss_sp = T(stack), .ss_size = 65536 }, old;
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    siginfo_t info = { .si_code = SI_QUEUE, .si_value.sival_ptr = (void *)0xa511223344556677 };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
    uint64_t set = 1ul << (SIGUSR2 - 1), old_set;
    struct timespec second = { .tv_sec = 20 };
    struct signalfd_siginfo read_info;
    int timer, file;

    check("sigaltstack", call(SYS_sigaltstack, T(&alternate), T(&old)) == 0);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    check("a handler on a stack with a tag", handled == 1);
    alternate.ss_flags = SS_DISABLE;
    check("sigaltstack off", call(SYS_sigaltstack, T(&alternate), T(&old)) == 0);
    check("rt_sigqueueinfo", call(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, T(&info)) == 0 && value == info.si_value.sival_ptr);
    sigaction(SIGRTMIN, &action, NULL);
    event.sigev_value.sival_ptr = (void *)0xa511223344556677;
    check("timer_create", call(SYS_timer_create, CLOCK_MONOTONIC, T(&event), T(&timer)) == 0);
    value = NULL;
    check("timer_settime", call(SYS_timer_settime, timer, 0, T(&soon), NULL) == 0);
    while (handled < 3) {
        usleep(1000);
    }
    check("a timer's value", value == info.si_value.sival_ptr);
    check("rt_sigprocmask", call(SYS_rt_sigprocmask, SIG_BLOCK, T(&set), T(&old_set), 8) == 0);
    raise(SIGUSR2);
    memset(&info, 0, sizeof info);
    check("rt_sigtimedwait", call(SYS_rt_sigtimedwait, T(&set), T(&info), T(&second), 8) == SIGUSR2 && info.si_signo == SIGUSR2);
    raise(SIGUSR2);
    file = call(SYS_signalfd4, -1, T(&set), 8, 0);
    check("signalfd4", read(file, T(&read_info), sizeof read_info) == sizeof read_info && read_info.ssi_signo == SIGUSR2);
    check("rt_sigpending", call(SYS_rt_sigpending, T(&old_set), 8) == 0 && old_set == 0);
    file = call(SYS_timerfd_create, CLOCK_MONOTONIC, 0);
    check("timerfd_settime", call(SYS_timerfd_settime, file, 0, T(&soon), T(&soon)) == 0);
    check("timerfd_gettime", call(SYS_timerfd_gettime, file, T(&soon)) == 0);
}

static int child_word;

static int child(void *argument)
{
    *(volatile int *)argument = 43;
    return 42;
}

static void processes(void)
{
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static volatile int word, tid;
    struct clone_args args = { .flags = CLONE_CHILD_SETTID | CLONE_PARENT_SETTID, .exit_signal = SIGCHLD };
    siginfo_t info;
    cpu_set_t cpus;
    int status = 0, file;
    pid_t pid;

    pid = clone(child, T(stack + 65536), CLONE_VM | CLONE_VFORK | SIGCHLD, T(&word));
    check("clone", pid > 0 && call(SYS_wait4, pid, T(&status), 0, NULL) == pid);
    check("a child's stack with a tag", WIFEXITED(status) && WEXITSTATUS(status) == 42 && word == 43);
    args.child_tid = args.parent_tid = (uintptr_t)T(&tid);
    pid = call(SYS_clone3, T(&args), sizeof args);
    if (pid == 0) {
        _exit(tid != getpid());
    }
    check("clone3", pid > 0 && tid == pid);
    check("waitid", call(SYS_waitid, P_PID, pid, T(&info), WEXITED, NULL) == 0 && info.si_status == 0 && info.si_pid == pid);
    check("sched_getaffinity", call(SYS_sched_getaffinity, 0, sizeof cpus, T(&cpus)) > 0);
    check("sched_setaffinity", call(SYS_sched_setaffinity, 0, sizeof cpus, T(&cpus)) == 0);
    check("set_tid_address", call(SYS_set_tid_address, T(&child_word)) == getpid());
    check("capget", call(SYS_capget, T(((uint32_t[]){ 0x20080522, 0 })), T((uint32_t[6]){ 0 })) == 0);
    file = call(SYS_memfd_create, T("name"), 0);
    check("memfd_create", file > 0);
    check("execveat", call(SYS_execveat, file, T(""), T(((char *[]){ T("x"), NULL })), T((char *[]){ NULL }), AT_EMPTY_PATH) == -1 &&
                          (errno == ENOEXEC || errno == EACCES));
    call(SYS_set_tid_address, &child_word);
}

static void files(void)
{
    static char name[] = "/tmp/tags-XXXXXX", text[64] = "some words", other[64];
    struct iovec parts[2] = { { T(text), 5 }, { T(text + 5), 5 } };
    struct { uint64_t flags, mode, resolve; } how = { O_RDONLY, 0, 0 };
    struct timespec times[2] = { { 1, 0 }, { 2, 0 } };
    int file = mkstemp(name), queue, ends[2];
    struct { uint64_t offset, length; } range = { 0, 4096 };
    uint64_t counts[5];
    struct statx sx;
    struct statfs fs;
    struct stat st;
    loff_t from = 0, to = 30;

    check("pwritev2", call(SYS_pwritev2, file, T(parts), 2, 0, 0, 0) == 10);
    parts[0].iov_base = T(other);
    parts[1].iov_base = T(other + 5);
    check("preadv2", call(SYS_preadv2, file, T(parts), 2, 0, 0, 0) == 10 && !strcmp(other, text));
    check("statx", call(SYS_statx, AT_FDCWD, T(name), 0, STATX_ALL, T(&sx)) == 0 && sx.stx_size == 10);
    check("openat2", call(SYS_openat2, AT_FDCWD, T(name), T(&how), sizeof how) > 2);
    check("utimensat", call(SYS_utimensat, AT_FDCWD, T(name), T(times), 0) == 0 && fstat(file, &st) == 0 && st.st_mtime == 2);
    check("statfs", call(SYS_statfs, T(name), T(&fs)) == 0 && fs.f_bsize);
    check("truncate", call(SYS_truncate, T(name), 100) == 0);
    check("fchmodat", call(SYS_fchmodat, AT_FDCWD, T(name), 0600) == 0);
    check("faccessat2", call(SYS_faccessat2, AT_FDCWD, T(name), R_OK, 0) == 0);
    try("setxattr", call(SYS_setxattr, T(name), T("user.a"), T("b"), 1, 0));
    try("listxattr", call(SYS_listxattr, T(name), T(other), sizeof other));
    check("copy_file_range", call(SYS_copy_file_range, file, T(&from), file, T(&to), 10, 0) == 10 || errno == EXDEV || errno == EOPNOTSUPP);
    pipe(ends);
    from = 0;
    check("splice", call(SYS_splice, file, T(&from), ends[1], NULL, 10, 0) == 10 && from == 10);
    from = 0;
    check("sendfile", call(SYS_sendfile, ends[1], file, T(&from), 10) == 10 && from == 10);
    parts[0].iov_base = T(text);
    check("vmsplice", call(SYS_vmsplice, ends[1], T(parts), 1, 0) == 5);
    queue = inotify_init1(0);
    check("inotify_add_watch", call(SYS_inotify_add_watch, queue, T(name), IN_ATTRIB) > 0);
    try("cachestat", call(451, file, T(&range), T(counts), 0));
    strcpy(other, name);
    other[strlen(other) - 1] ^= 1;
    check("linkat", call(SYS_linkat, AT_FDCWD, T(name), AT_FDCWD, T(other), 0) == 0);
    check("renameat2", call(SYS_renameat2, AT_FDCWD, T(other), AT_FDCWD, T(name), 0) == 0);
    unlink(other);
    unlink(name);
    check("mount", call(SYS_mount, T("/nosuch"), T("/nosuch"), T("tmpfs"), 0, NULL) == -1 && (errno == ENOENT || errno == EPERM));
    try("landlock_create_ruleset", call(444, T(((uint64_t[]){ 1 })), 8, 0));
    try("add_key", call(SYS_add_key, T("user"), T("tags"), T("x"), 1, -2));
}

static void blocks(void)
{
    static char block[4096] __attribute__((aligned(4096))), name[] = "/tmp/tags-XXXXXX";
    struct iocb one = { .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_nbytes = sizeof block, .aio_data = 0xa511223344556677 };
    struct iocb *list[] = { T(&one) };
    struct io_event event = { 0 };
    aio_context_t context = 0;
    int file = mkstemp(name);

    unlink(name);
    memset(block, 'x', sizeof block);
    one.aio_fildes = file;
    one.aio_buf = (uintptr_t)T(block);
    if (call(SYS_io_setup, 4, T(&context)) < 0) {
        check("io_setup", errno == ENOSYS);
        return;
    }
    check("io_submit", call(SYS_io_submit, context, 1, T(list)) == 1);
    check("io_getevents", call(SYS_io_getevents, context, 1, 1, T(&event), NULL) == 1);
    check("what was submitted", event.res == sizeof block && event.data == one.aio_data && event.obj == (uintptr_t)list[0]);
    one.aio_lio_opcode = IOCB_CMD_PREADV;
    struct iovec part = { T(block), sizeof block };
    one.aio_buf = (uintptr_t)T(&part);
    one.aio_nbytes = 1;
    memset(block, 0, sizeof block);
    check("io_submit of a vector", call(SYS_io_submit, context, 1, T(list)) == 1 &&
                                       call(SYS_io_getevents, context, 1, 1, T(&event), NULL) == 1);
    check("what it read", event.res == sizeof block && block[4095] == 'x');
    call(SYS_io_destroy, context);
}

static void *wake(void *word)
{
    usleep(20000);
    *(volatile int *)word = 1;
    call(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    return NULL;
}

static void waiting(void)
{
    struct { uint64_t value, address; uint32_t flags, none; } waiters[1] = { { 0, 0, FUTEX_PRIVATE_FLAG | 2, 0 } };
    struct epoll_event event = { .events = EPOLLOUT, .data.ptr = (void *)0xa511223344556677 }, got = { 0 };
    struct timespec second = { .tv_sec = 1 }, now;
    struct mmsghdr messages[1] = { 0 };
    struct iovec part = { T("words"), 5 };
    static volatile int word;
    char back[8];
    int ends[2], set = epoll_create1(0);
    pthread_t thread;

    socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
    call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, ends[0], T(&event));
    check("epoll_pwait2", call(SYS_epoll_pwait2, set, T(&got), 1, T(&second), NULL, 8) == 1);
    check("what epoll_pwait2 got", got.data.ptr == event.data.ptr);
    messages[0].msg_hdr.msg_iov = T(&part);
    messages[0].msg_hdr.msg_iovlen = 1;
    check("sendmmsg", call(SYS_sendmmsg, ends[0], T(messages), 1, 0) == 1 && messages[0].msg_len == 5);
    part.iov_base = T(back);
    check("recvmmsg", call(SYS_recvmmsg, ends[1], T(messages), 1, 0, T(&second)) == 1 && messages[0].msg_len == 5);
    check("clock_nanosleep", call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, T((&(struct timespec){ 0 })), T(&now)) == 0);
    /* One waits at the address with a tag, and is woken at the one without. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_sec += 20;
    waiters[0].address = (uintptr_t)T(&word);
    pthread_create(&thread, NULL, wake, (void *)&word);
    long result = call(449, T(waiters), 1, 0, T(&now), CLOCK_MONOTONIC);
    check("futex_waitv", result == 0 || errno == ENOSYS || errno == EAGAIN);
    pthread_join(thread, NULL);
    word = 0;
    pthread_create(&thread, NULL, wake, T(&word));
    second.tv_sec = 20;
    check("futex", call(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, T(&second)) == 0 || errno == EAGAIN);
    pthread_join(thread, NULL);
}

static void memory(void)
{
    char *page = mmap(NULL, 131072, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec part = { T(page), 65536 };
    int status, mode, self = call(434, getpid(), 0);
    void *pages[] = { T(page) };

    page[0] = 1;
    try("mlock2", call(SYS_mlock2, T(page), 4096, 0));
    try("munlock", call(SYS_munlock, T(page), 4096));
    try("process_madvise", call(440, self, T(&part), 1, MADV_COLD, 0));
    try("get_mempolicy", call(SYS_get_mempolicy, T(&mode), NULL, 0, T(page), 2));
    try("mbind", call(SYS_mbind, T(page), 65536, 0, NULL, 0, 0));
    try("move_pages", call(SYS_move_pages, 0, 1, T(pages), NULL, T(&status), 0));
    check("mremap", call(SYS_mremap, T(page), 131072, 65536, 0) == (long)page || errno == EINVAL);
    try("PR_SET_VMA", prctl(0x53564d41, 0, T(page), 65536, T("name")));
    check("munmap", call(SYS_munmap, T(page), 65536) == 0);
}

int main(void)
{
    /* First the instructions, which need not ask for it. */
    instructions();
    check("PR_SET_TAGGED_ADDR_CTRL", prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0) == 0);
    signals();
    processes();
    files();
    blocks();
    waiting();
    memory();
    puts(failed ? "bad" : "all right");
    return failed;
}
