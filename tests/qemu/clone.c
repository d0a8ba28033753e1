/*
 * clone and clone3 with what fork and pthread_create do not ask for: namespaces, other signals at the end, other
 * parents, file descriptors of processes, handlers cleared. The patch behaviour/clone passes them to the host.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/poll.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#define CLEAR_SIGHAND 0x100000000ULL
struct arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static volatile sig_atomic_t signals;

static void count(int signal)
{
    signals++;
}

static long clone3(struct arguments *arguments, size_t size)
{
    return syscall(435, arguments, size);
}

static long like_fork(unsigned long flags, int *parent_tid, int *child_tid)
{
#if defined(__s390x__)
    return syscall(SYS_clone, 0, flags, parent_tid, child_tid, 0);
#elif defined(__x86_64__) || defined(__sh__) || defined(__m68k__)
    return syscall(SYS_clone, flags, 0, parent_tid, child_tid, 0);
#else
    return syscall(SYS_clone, flags, 0, parent_tid, 0, child_tid);
#endif
}

static int wait_for(pid_t pid)
{
    int status;
    pid_t got;
    do {
        got = waitpid(pid, &status, __WALL);
    } while (got < 0 && errno == EINTR);
    CHECK(got == pid);
    return status;
}

static void plain(void)
{
    int parent_tid = 0, child_tid = 0;
    pid_t own = getpid();
    long pid = like_fork(SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, &parent_tid, &child_tid);
    if (pid == 0) {
        CHECK(child_tid == getpid() && getppid() == own);
        _exit(3);
    }
    CHECK(pid > 0 && parent_tid == pid && child_tid == 0);
    CHECK(wait_for(pid) == 3 << 8);
}

static void end_signals(void)
{
    struct sigaction action = {.sa_handler = count};
    int status;
    sigaction(SIGUSR1, &action, NULL);
    signals = 0;
    long pid = like_fork(SIGUSR1, NULL, NULL);
    if (pid == 0) {
        _exit(4);
    }
    CHECK(pid > 0);
    CHECK(wait_for(pid) == 4 << 8);
    CHECK(signals == 1);

    pid = like_fork(0, NULL, NULL);
    if (pid == 0) {
        _exit(5);
    }
    CHECK(pid > 0);
    errno = 0;
    CHECK(waitpid(pid, &status, 0) == -1 && errno == ECHILD);
    CHECK(waitpid(pid, &status, __WCLONE) == pid && status == 5 << 8);
}

static void namespaces(void)
{
    static char before[4096];
    struct utsname name;
    CHECK(uname(&name) == 0);
    strcpy(before, name.nodename);
    long pid = like_fork(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWIPC | SIGCHLD, NULL, NULL);
    if (pid == 0) {
        CHECK(getpid() == 1 && getppid() == 0);
        CHECK(sethostname("elsewhere", 9) == 0);
        CHECK(uname(&name) == 0 && strcmp(name.nodename, "elsewhere") == 0);
        /* A whole process: it has children and threads, and memory to get. */
        pid = fork();
        if (pid == 0) {
            CHECK(getpid() == 2 && getppid() == 1);
            _exit(7);
        }
        CHECK(wait_for(pid) == 7 << 8);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, (void *(*)(void *))malloc, (void *)1000000) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(system("exit 9") == 9 << 8);
        _exit(6);
    }
    CHECK(pid > 0);
    CHECK(wait_for(pid) == 6 << 8);
    CHECK(uname(&name) == 0 && strcmp(name.nodename, before) == 0);
    /* What cannot be is told as such. */
    CHECK(like_fork(CLONE_NEWNS | CLONE_FS | SIGCHLD, NULL, NULL) == -1 && errno == EINVAL);
    CHECK(like_fork(CLONE_SIGHAND | SIGCHLD, NULL, NULL) == -1 && errno == EINVAL);
}

/* Of a process that has had threads. */
static void unshared(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        for (int i = 0; i < 3; i++) {
            CHECK(pthread_create(&thread, NULL, (void *(*)(void *))malloc, (void *)1000) == 0);
            CHECK(pthread_join(thread, NULL) == 0);
        }
        /* The last thread may still be on its way out. */
        int result = -1;
        for (int i = 0; i < 100 && result; i++) {
            struct timespec t = {0, 10000000};
            result = unshare(CLONE_NEWUSER | CLONE_NEWUTS);
            nanosleep(&t, NULL);
        }
        CHECK(result == 0);
        CHECK(sethostname("elsewhere", 9) == 0);
        CHECK(pthread_create(&thread, NULL, (void *(*)(void *))malloc, (void *)1000) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        _exit(8);
    }
    CHECK(wait_for(pid) == 8 << 8);
}

static void parents(void)
{
    pid_t own = getpid();
    int pipes[2];
    pid_t grandchild;
    CHECK(pipe(pipes) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        long sibling = like_fork(CLONE_PARENT | SIGCHLD, NULL, NULL);
        if (sibling == 0) {
            _exit(getppid() == own ? 2 : 1);
        }
        grandchild = sibling;
        CHECK(write(pipes[1], &grandchild, sizeof(grandchild)) == sizeof(grandchild));
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
    CHECK(read(pipes[0], &grandchild, sizeof(grandchild)) == sizeof(grandchild));
    CHECK(wait_for(grandchild) == 2 << 8);
    close(pipes[0]);
    close(pipes[1]);
}

static void pidfds(void)
{
    int pidfd = -1;
    long pid = like_fork(CLONE_PIDFD | SIGCHLD, &pidfd, NULL);
    if (pid == 0) {
        _exit(2);
    }
    CHECK(pid > 0 && pidfd >= 0 && fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    CHECK(poll(&end, 1, 10000) == 1);
    CHECK(wait_for(pid) == 2 << 8);
    close(pidfd);
    CHECK(like_fork(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, &pidfd, NULL) == -1 && errno == EINVAL);
}

static void handlers_cleared(void)
{
    struct sigaction action = {.sa_handler = count}, now, ignored = {.sa_handler = SIG_IGN};
    int pidfd = -1, parent_tid = 0, child_tid = 0;
    struct arguments arguments = {
        .flags = CLEAR_SIGHAND | CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
        .pidfd = (uintptr_t)&pidfd,
        .parent_tid = (uintptr_t)&parent_tid,
        .child_tid = (uintptr_t)&child_tid,
        .exit_signal = SIGCHLD,
    };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &ignored, NULL);
    long pid = clone3(&arguments, 64);
    if (pid == 0) {
        CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
        CHECK(sigaction(SIGUSR2, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
        CHECK(child_tid == getpid());
        raise(SIGUSR1);
        _exit(1);
    }
    CHECK(pid > 0 && pidfd >= 0 && parent_tid == pid && child_tid == 0);
    CHECK(wait_for(pid) == SIGUSR1);
    close(pidfd);
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == count);
}

static void refused(void)
{
    struct arguments arguments = {.exit_signal = SIGCHLD};
    struct {
        struct arguments known;
        uint64_t unknown;
    } longer = {arguments, 1};
    CHECK(clone3(&arguments, 56) == -1 && errno == EINVAL);
    CHECK(clone3(&longer.known, sizeof(longer)) == -1 && errno == E2BIG);
    CHECK(clone3(NULL, 64) == -1 && errno == EFAULT);
    arguments.exit_signal = 1000;
    CHECK(clone3(&arguments, 88) == -1 && errno == EINVAL);
    arguments.exit_signal = SIGCHLD;
    arguments.stack = 4096;
    CHECK(clone3(&arguments, 88) == -1 && errno == EINVAL);
    arguments.stack = 0;
    arguments.flags = SIGCHLD;
    CHECK(clone3(&arguments, 88) == -1 && errno == EINVAL);
    arguments.flags = CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM;
    CHECK(clone3(&arguments, 88) == -1 && errno == EINVAL);
    arguments.flags = 1ULL << 40;
    CHECK(clone3(&arguments, 88) == -1 && errno == EINVAL);
}

/* Threads that get memory while others clone: the child must find the emulator's own usable. */
static volatile int stop;

static void *churn(void *argument)
{
    while (!stop) {
        free(malloc(100000));
        free(malloc(100));
        free(strdup("text"));
    }
    return NULL;
}

static void beside_threads(void)
{
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread[i], NULL, churn, NULL) == 0);
    }
    for (int i = 0; i < 300; i++) {
        long pid = like_fork((i % 2 ? CLONE_NEWUSER | CLONE_NEWPID : 0) | (i % 3 ? SIGCHLD : 0), NULL, NULL);
        if (pid == 0) {
            /* Without a word to the C library, whose own locks may be taken. */
            char *const program[] = {"true", NULL};
            execv("/bin/true", program);
            _exit(1);
        }
        CHECK(pid > 0);
        CHECK(wait_for(pid) == 0);
    }
    stop = 1;
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
    }
}

int main(void)
{
    plain();
    end_signals();
    namespaces();
    unshared();
    parents();
    pidfds();
    handlers_cleared();
    refused();
    beside_threads();
    plain();
    puts("all right");
    return 0;
}
