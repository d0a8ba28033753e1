/*
 * The child of vfork has its parent's memory, which waits for it; all else is the child's own. The patch
 * behaviour/vfork runs it so, beside threads, signals and other children, and lets it be killed anywhere.
 *
 * test-qemu: says='all right' timeout=300
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
extern char **environ;
static char *const no_arguments[] = {"true", NULL};
static volatile int stored;
static volatile sig_atomic_t signals;
static int *volatile nowhere;

static void count(int signal)
{
    signals++;
}

static void nap(int milliseconds)
{
    struct timespec t = {0, milliseconds * 1000000L};
    while (nanosleep(&t, &t)) {
    }
}

static int wait_for(pid_t pid)
{
    int status;
    pid_t got;
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    CHECK(got == pid);
    return status;
}

/* vfork() itself returns twice in one frame, which compilers may spoil: clone has a stack of its own. */
static pid_t child(int (*run)(void *), void *argument)
{
    enum { SIZE = 65536 };
    char *stack = malloc(SIZE);
    pid_t pid = clone(run, stack + SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, argument);
    int error = errno;
    free(stack);
    errno = error;
    return pid;
}

static void spawns(void)
{
    pid_t pid;
    CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, no_arguments, environ) == ENOENT);
    CHECK(posix_spawn(&pid, "/", NULL, NULL, no_arguments, environ) == EACCES);
    CHECK(posix_spawnp(&pid, "nonexistent", NULL, NULL, no_arguments, environ) == ENOENT);
    CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, no_arguments, environ) == 0);
    CHECK(wait_for(pid) == 0);
    CHECK(posix_spawn(&pid, "/bin/false", NULL, NULL, no_arguments, environ) == 0);
    CHECK(wait_for(pid) == 1 << 8);
}

static void plain(void)
{
    stored = 0;
    pid_t parent = getpid(), pid = vfork();
    if (pid == 0) {
        nap(50);
        stored = getppid() == parent && getpid() != parent;
        _exit(3);
    }
    CHECK(pid > 0);
    CHECK(stored == 1);
    CHECK(wait_for(pid) == 3 << 8);
    CHECK(getpid() == parent);
}

static int fails_to_exec(void *argument)
{
    execve("/nonexistent", no_arguments, environ);
    stored = errno;
    _exit(127);
}

static int execs(void *argument)
{
    execl("/bin/sh", "sh", "-c", "exit 5", NULL);
    _exit(127);
}

static int changes_everything(void *argument)
{
    int *fd = argument;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    stack_t no_stack = {.ss_flags = SS_DISABLE};
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigaction(SIGUSR1, &ignore, NULL);
    sigaction(SIGTERM, &ignore, NULL);
    sigaltstack(&no_stack, NULL);
    kill(getpid(), SIGUSR2);
    CHECK(chdir("/proc") == 0);
    dup2(fd[1], fd[0]);
    close(fd[1]);
    close(2);
    for (int i = 3; i < 1024; i++) {
        close(i);
    }
    stored = 7;
    _exit(0);
}

static void keeps_parent(void)
{
    int fd[2] = {eventfd(5, 0), -1}, pipes[2];
    uint64_t value = 0;
    struct sigaction action = {.sa_handler = count}, now;
    static char stack_memory[65536];
    stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof(stack_memory)}, old;
    char before[4096], after[4096];
    sigset_t mask;

    CHECK(pipe(pipes) == 0);
    fd[1] = pipes[0];
    sigaction(SIGUSR1, &action, NULL);
    sigaltstack(&stack, NULL);
    CHECK(getcwd(before, sizeof(before)));
    stored = 0;
    pid_t pid = child(changes_everything, fd);
    CHECK(pid > 0 && stored == 7);
    CHECK(wait_for(pid) == 0);
    CHECK(getcwd(after, sizeof(after)) && strcmp(before, after) == 0);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGTERM));
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == count);
    CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == stack_memory && !(old.ss_flags & SS_DISABLE));
    signals = 0;
    raise(SIGUSR1);
    CHECK(signals == 1);
    /* Its number is turned into the guest's byte order: only while it is known to be one. */
    CHECK(read(fd[0], &value, sizeof(value)) == sizeof(value) && value == 5);
    CHECK(close(fd[0]) == 0 && close(pipes[0]) == 0 && close(pipes[1]) == 0);
}

static int dies(void *argument)
{
    int signal = *(int *)argument;
    struct rlimit none = {0, 0};
    struct sigaction kills = {.sa_handler = SIG_DFL};
    setrlimit(RLIMIT_CORE, &none);
    sigaction(signal, &kills, NULL);
    if (signal == SIGSEGV) {
        *nowhere = 1;
    } else if (signal == SIGABRT) {
        abort();
    }
    kill(getpid(), signal);
    for (;;) {
        pause();
    }
}

static int handles(void *argument)
{
    struct sigaction action = {.sa_handler = count};
    signals = 0;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    stored = signals;
    _exit(0);
}

static void deaths(void)
{
    static int signal[] = {SIGKILL, SIGTERM, SIGINT, SIGSEGV, SIGABRT, SIGUSR2, SIGPIPE, SIGALRM};
    for (unsigned i = 0; i < sizeof(signal) / sizeof(*signal); i++) {
        pid_t pid = child(dies, &signal[i]);
        CHECK(pid > 0);
        int status = wait_for(pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal[i]);
    }
    stored = 0;
    CHECK(wait_for(child(handles, NULL)) == 0 && stored == 1);
}

static void *stores(void *argument)
{
    stored += 10;
    return NULL;
}

static int has_children(void *argument)
{
    int status;
    stored = 0;
    pid_t own = getpid(), pid = child(fails_to_exec, NULL);
    CHECK(pid > 0 && stored == ENOENT && getpid() == own);
    CHECK(wait_for(pid) == 127 << 8);

    /* A fork has its own memory. */
    pid = fork();
    if (pid == 0) {
        stored = 99;
        pid = child(execs, NULL);
        exit(wait_for(pid) == 5 << 8 ? 4 : 1);
    }
    CHECK(wait_for(pid) == 4 << 8);
    CHECK(stored == ENOENT);

    CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, no_arguments, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    stored = 1;
    if (argument) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, stores, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(stored == 11);
        execs(NULL);
    }
    _exit(0);
}

/* Leaves threads in the middle of everything behind. */
static void *turns(void *argument)
{
    for (;;) {
        free(malloc(100));
        munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
    }
    return NULL;
}

static int has_threads(void *argument)
{
    pthread_t thread;
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, NULL, turns, NULL) == 0);
    }
    nap(2);
    if (argument) {
        _exit(5);
    }
    execs(NULL);
    _exit(127);
}

static void nests(void)
{
    CHECK(wait_for(child(has_children, NULL)) == 0 && stored == 1);
}

static void clears(void)
{
    enum { SIZE = 65536 };
    char *stack = malloc(SIZE);
    static int parent_tid, child_tid, pidfd;
    pid_t pid;

    parent_tid = child_tid = 0;
    pid = clone(fails_to_exec, stack + SIZE,
                CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &parent_tid,
                NULL, &child_tid);
    CHECK(pid > 0 && parent_tid == pid && child_tid == pid);
    CHECK(wait_for(pid) == 127 << 8);

    child_tid = 5;
    pid = clone(execs, stack + SIZE, CLONE_VM | CLONE_VFORK | CLONE_CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL,
                &child_tid);
    CHECK(pid > 0 && child_tid == 0);
    CHECK(wait_for(pid) == 5 << 8);

    pidfd = -1;
    pid = clone(execs, stack + SIZE, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, NULL);
    CHECK(pid > 0 && pidfd >= 0);
    CHECK(fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    CHECK(wait_for(pid) == 5 << 8);
    close(pidfd);

    /* One that says nothing at its end. */
    int status = 0;
    pid = clone(execs, stack + SIZE, CLONE_VM | CLONE_VFORK, NULL);
    CHECK(pid > 0);
    CHECK(waitpid(pid, &status, __WALL) == pid && status == 5 << 8);
    free(stack);
}

/* Signals that come while the parent waits are for it, and come afterwards. */
static void signals_wait(void)
{
    struct sigaction action = {.sa_handler = count};
    struct itimerval soon = {.it_value = {0, 10000}};
    sigaction(SIGALRM, &action, NULL);
    signals = 0;
    setitimer(ITIMER_REAL, &soon, NULL);
    pid_t pid = vfork();
    if (pid == 0) {
        struct timespec t = {0, 100000000};
        nanosleep(&t, NULL);
        stored = signals;
        _exit(0);
    }
    CHECK(stored == 0 && signals == 1);
    CHECK(wait_for(pid) == 0);
}

/* All of it again, by many threads at once, under a rain of signals. */
static atomic_int stop;

static void *churn(void *argument)
{
    unsigned seed = (uintptr_t)argument;
    while (!stop) {
        size_t size = (rand_r(&seed) % 16 + 1) * 65536;
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memory[size / 2] = 1;
        mprotect(memory, size / 2, PROT_READ);
        munmap(memory, size);
        char *text = malloc(rand_r(&seed) % 5000 + 1);
        text[0] = seed;
        free(text);
        qsort(&(int[]){3, 1, 2}, 3, sizeof(int), (int (*)(const void *, const void *))memcmp);
        sched_yield();
    }
    return NULL;
}

static void *spawner(void *argument)
{
    static char *const program[] = {"/bin/true", "/nonexistent", "/bin/false", "/"};
    static const int error[] = {0, ENOENT, 0, EACCES}, status[] = {0, 0, 1 << 8, 0};
    for (int i = 0; i < (int)(intptr_t)argument; i++) {
        pid_t pid;
        posix_spawnattr_t attributes;
        sigset_t all;
        sigfillset(&all);
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        CHECK(posix_spawn(&pid, program[i % 4], NULL, &attributes, no_arguments, environ) == error[i % 4]);
        if (!error[i % 4]) {
            CHECK(wait_for(pid) == status[i % 4]);
        }
        posix_spawnattr_destroy(&attributes);
    }
    return NULL;
}

static void *forks(void *argument)
{
    for (int i = 0; i < (int)(intptr_t)argument; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            int status;
            if (posix_spawn(&pid, "/bin/true", NULL, NULL, no_arguments, environ) == 0 &&
                waitpid(pid, &status, 0) == pid && status == 0) {
                _exit(9);
            }
            _exit(1);
        }
        CHECK(wait_for(pid) == 9 << 8);
    }
    return NULL;
}

static void storm(int rounds)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    pthread_t thread[8];

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    stop = 0;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    }
    for (int i = 2; i < 5; i++) {
        CHECK(pthread_create(&thread[i], NULL, spawner, (void *)(intptr_t)rounds) == 0);
    }
    CHECK(pthread_create(&thread[5], NULL, forks, (void *)(intptr_t)(rounds / 8)) == 0);
    for (int i = 2; i < 6; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
    }
    stop = 1;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

/* A process ends while children of its threads are on their way: none of them must hang. */
static void *spawns_forever(void *argument)
{
    for (;;) {
        pid_t pid;
        if (posix_spawn(&pid, "/bin/true", NULL, NULL, no_arguments, environ) == 0) {
            waitpid(pid, NULL, 0);
        }
    }
    return NULL;
}

static void ends(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int pipes[2];
        char byte;
        pthread_t thread;
        CHECK(pipe(pipes) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            CHECK(pthread_create(&thread, NULL, spawns_forever, NULL) == 0);
            CHECK(pthread_create(&thread, NULL, spawns_forever, NULL) == 0);
            CHECK(pthread_create(&thread, NULL, churn, NULL) == 0);
            nap(i % 20);
            if (i % 2) {
                execl("/bin/true", "true", NULL);
            }
            _exit(0);
        }
        close(pipes[1]);
        CHECK(wait_for(pid) == 0);
        /* Comes to its end only when all that have the other one are gone. */
        CHECK(read(pipes[0], &byte, 1) == 0);
        close(pipes[0]);
    }
}

/* Killed anywhere, translation of new code included. The parent finds all as it was. */
static int busy(void *argument)
{
    stored = getpid();
    for (unsigned i = 0;; i++) {
        char text[100];
        snprintf(text, sizeof(text), "%u %g %s %lx", i, i * 1.5, "text", (long)i);
        free(malloc(i % 3000));
        strtod(text, NULL);
        mprotect((char *)((uintptr_t)busy & -65536), 65536, PROT_READ | PROT_EXEC);
    }
    return 0;
}

static void *kills(void *argument)
{
    int pid;
    while (!(pid = stored)) {
    }
    nap((intptr_t)argument % 3);
    for (volatile int i = 0; i < (intptr_t)argument * 100; i++) {
    }
    kill(pid, SIGKILL);
    return NULL;
}

static void kill_anywhere(int rounds)
{
    pthread_t thread;
    for (int i = 0; i < rounds; i++) {
        stored = 0;
        CHECK(pthread_create(&thread, NULL, kills, (void *)(intptr_t)i) == 0);
        pid_t pid = child(busy, NULL);
        CHECK(pid > 0);
        CHECK(wait_for(pid) == SIGKILL);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK((pid = child(execs, NULL)) > 0 && wait_for(pid) == 5 << 8);
    }
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 400;
    pid_t pid;

    setvbuf(stdout, NULL, _IONBF, 0);
    spawns();
    plain();
    CHECK((pid = child(fails_to_exec, NULL)) > 0 && stored == ENOENT && wait_for(pid) == 127 << 8);
    CHECK((pid = child(execs, NULL)) > 0 && wait_for(pid) == 5 << 8);
    keeps_parent();
    deaths();
    nests();
    clears();
    signals_wait();
    storm(rounds);
    keeps_parent();
    signals_wait();
    CHECK((pid = child(has_children, "and threads")) > 0 && wait_for(pid) == 5 << 8);
    for (int i = 0; i < 20; i++) {
        CHECK((pid = child(has_threads, i % 2 ? "" : NULL)) > 0 && wait_for(pid) == 5 << 8);
    }
    ends(rounds / 10);
    kill_anywhere(rounds / 4);
    storm(rounds / 4);
    puts("all right");
    return 0;
}
