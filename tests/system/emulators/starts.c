/*
 * Starts itself in each way that there is, and prints what became of it: natively, and where an emulator starts
 * what its programs start, this has to print the same. It is /t/program, and root of a user namespace; what it is
 * started by leaves the numbers of open files alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
#define HERE "/t"
#define SELF HERE "/program"

static int report(int argc, char **argv)
{
    char exe[4096] = "", comm[64] = "";
    int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, comm, sizeof comm - 1) < 0 || readlink("/proc/self/exe", exe, sizeof exe - 1) < 0)
            perror("/proc/self");
        close(fd);
    }
    comm[strcspn(comm, "\n")] = 0;
    /* An emulator starts itself by the path that it knows; before Linux 6.14 what has no path is called by its number. */
    if (argc && (!strcmp(argv[0], "itself") || !strcmp(argv[0], "number")))
        comm[0] = 0;
    printf("  %d:", argc);
    for (int i = 0; i < argc && i < 8; i++)
        printf(" [%.60s]", argv[i]);
    if (argc > 8)
        printf(" ... [%.60s]", argv[argc - 1]);
    printf("\n  exe %s comm %s fds", exe, comm);
    /* In another root the emulator has itself open, as high as it may. */
    for (int i = 3; i < 1001; i++)
        if (fcntl(i, F_GETFD) >= 0)
            printf(" %d", i);
    printf(" env");
    for (char **e = environ; *e; e++)
        printf(" %.40s", *e);
    sigset_t mask;
    struct sigaction action;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigaction(SIGUSR1, NULL, &action);
    printf(" usr1 %s usr2 %s\n", action.sa_handler == SIG_IGN ? "ignored" : "not",
           sigismember(&mask, SIGUSR2) ? "blocked" : "not");
    fflush(stdout);
    return 0;
}

static char *some_env[] = {"A=1", "B=", "PATH=/nowhere", NULL};
static void write_file(const char *name, const char *text, size_t size, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, size) != (ssize_t)size || fchmod(fd, mode))
        perror(name);
    close(fd);
}
static void script(const char *name, const char *text) { write_file(name, text, strlen(text), 0755); }
static void copy(const char *to)
{
    char buf[65536];
    ssize_t n;
    int from = open(SELF, O_RDONLY | O_CLOEXEC), fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    while ((n = read(from, buf, sizeof buf)) > 0)
        if (write(fd, buf, n) != n)
            perror(to);
    close(from);
    close(fd);
}

#define CASE(name, ...)                                      \
    do {                                                     \
        printf("%s\n", name);                                \
        fflush(stdout);                                      \
        pid_t pid = fork();                                  \
        if (!pid) {                                          \
            alarm(120);                                      \
            __VA_ARGS__;                                     \
            printf("  error %s\n", strerror(errno));         \
            fflush(stdout);                                  \
            _exit(0);                                        \
        }                                                    \
        ended(pid);                                          \
    } while (0)
static void ended(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    if (status)
        printf("  status %#x\n", status);
    fflush(stdout);
}
#define ARGS(...) ((char *[]){__VA_ARGS__, NULL})
static int at(int fd, const char *path, char **argv, int flags)
{
    return syscall(SYS_execveat, fd, path, argv, some_env, flags);
}
static char **many(int count, int length)
{
    char **args = calloc(count + 2, sizeof *args), *text = malloc(length + 1);
    memset(text, 'x', length);
    text[length] = 0;
    for (int i = 0; i < count; i++)
        args[i] = text;
    args[0] = "many";
    return args;
}
static void *in_thread(void *args)
{
    execve(SELF, args, some_env);
    printf("  error %s\n", strerror(errno));
    fflush(stdout);
    _exit(0);
}
static void *spawn_in_thread(void *args)
{
    pid_t pid;
    int error = posix_spawn(&pid, SELF, NULL, NULL, args, some_env);
    if (error)
        printf("  spawn %s\n", strerror(error));
    else
        ended(pid);
    return NULL;
}
static void thread(void *(*f)(void *), void *args)
{
    pthread_t t;
    pthread_create(&t, NULL, f, args);
    pthread_join(t, NULL);
    fflush(stdout);
    _exit(0);
}
static int memfd(unsigned flags)
{
    int from = open(SELF, O_RDONLY | O_CLOEXEC), fd = memfd_create("mem", flags);
    char buf[65536];
    ssize_t n;
    while ((n = read(from, buf, sizeof buf)) > 0)
        if (write(fd, buf, n) != n)
            perror("memfd");
    close(from);
    /* What is open for writing cannot be started. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | (flags & MFD_CLOEXEC ? O_CLOEXEC : 0));
    close(fd);
    return again;
}
static const char *in_proc(int fd)
{
    static char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[0], "twice"))
        execve(argv[1], ARGS("once"), some_env);
    if (argc != 2 || strcmp(argv[1], "start-all"))
        return report(argc, argv);
    if (chdir(HERE) || setvbuf(stdout, NULL, _IOFBF, 1 << 16))
        return 1;
    char line[600], path[8192];

    CASE("absolute", execve(SELF, ARGS("name", "a b", ""), some_env));
    CASE("relative", execve("./program", ARGS("name"), some_env));
    CASE("below", chdir("/"), execve("t/program", ARGS("x"), some_env));
    CASE("no name", execve(SELF, ARGS(""), some_env));
    CASE("no arguments", execve(SELF, (char *[]){NULL}, some_env));
    CASE("no vector", syscall(SYS_execve, SELF, NULL, NULL));
    CASE("no environment", execve(SELF, ARGS("x"), (char *[]){NULL}));
    CASE("options as arguments", execve(SELF, ARGS("-0", "-0", "x", "--version", "-h"), some_env));
    CASE("itself", execve("/proc/self/exe", ARGS("itself"), some_env));
    CASE("itself by number", snprintf(path, sizeof path, "/proc/%d/exe", getpid()), execve(path, ARGS("itself"), some_env));
    CASE("signals", signal(SIGUSR1, SIG_IGN); sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR2);
         sigprocmask(SIG_BLOCK, &set, NULL); execve(SELF, ARGS("s"), some_env));
    symlink("program", "link");
    CASE("link", execve("./link", ARGS("l"), some_env));
    CASE("through PATH", setenv("PATH", "/nonesuch:.", 1), execvp("program", ARGS("l")));
    CASE("spawnp", pid_t p; setenv("PATH", HERE, 1); int e = posix_spawnp(&p, "program", NULL, NULL, ARGS("l"), some_env);
         if (!e) ended(p); errno = e);
    CASE("spawn of nothing", pid_t p; errno = posix_spawn(&p, "/nonesuch", NULL, NULL, ARGS("l"), some_env));

    int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CASE("of a directory", at(dir, "program", ARGS("d"), 0));
    CASE("link of a directory", at(dir, "link", ARGS("d"), 0));
    CASE("link not followed", at(dir, "link", ARGS("d"), AT_SYMLINK_NOFOLLOW));
    CASE("absolute of a directory", at(dir, SELF, ARGS("d"), 0));
    CASE("absolute of no descriptor", at(-1, SELF, ARGS("d"), 0));
    CASE("relative of no descriptor", at(77, "program", ARGS("d"), 0));
    CASE("empty path", at(open(SELF, O_RDONLY), "", ARGS("number"), AT_EMPTY_PATH));
    CASE("empty path without the flag", at(open(SELF, O_RDONLY), "", ARGS("number"), 0));
    CASE("empty path, wrong flag", at(open(SELF, O_RDONLY), "", ARGS("number"), 0x10000 | AT_EMPTY_PATH));
    CASE("empty path, close on exec", at(open(SELF, O_RDONLY | O_CLOEXEC), "", ARGS("number"), AT_EMPTY_PATH));
    CASE("empty path, O_PATH", at(open(SELF, O_PATH | O_CLOEXEC), "", ARGS("number"), AT_EMPTY_PATH));
    CASE("fexecve", fexecve(open(SELF, O_RDONLY | O_CLOEXEC), ARGS("number"), some_env));
    CASE("by /proc/self/fd", execve(in_proc(open(SELF, O_RDONLY)), ARGS("f"), some_env));
    CASE("by /proc/self/fd, close on exec", execve(in_proc(open(SELF, O_RDONLY | O_CLOEXEC)), ARGS("f"), some_env));
    CASE("memory", at(memfd(0), "", ARGS("number"), AT_EMPTY_PATH));
    CASE("memory, close on exec", at(memfd(MFD_CLOEXEC), "", ARGS("number"), AT_EMPTY_PATH));
    CASE("memory by /proc/self/fd, close on exec", execve(in_proc(memfd(MFD_CLOEXEC)), ARGS("m"), some_env));
    copy("gone");
    CASE("removed file", int fd = open("gone", O_RDONLY | O_CLOEXEC); unlink("gone"); at(fd, "", ARGS("number"), AT_EMPTY_PATH));
    CASE("descriptor at 0", close(0); at(open(SELF, O_RDONLY | O_CLOEXEC), "", ARGS("number"), AT_EMPTY_PATH));
    CASE("all closed", close_range(3, ~0U, 0), execve(SELF, ARGS("c"), some_env));
    CASE("others open", dup2(1, 50); dup2(1, 1000); execve(SELF, ARGS("c"), some_env));

    script("script", "#!" SELF "\n");
    CASE("script", execve("./script", ARGS("name", "a b"), some_env));
    CASE("script without arguments", execve("./script", (char *[]){NULL}, some_env));
    link("program", "number");
    script("of-number", "#!number\n");
    CASE("script by number", at(open("of-number", O_RDONLY), "", ARGS("s", "x"), AT_EMPTY_PATH));
    CASE("script by number, close on exec", at(open("script", O_RDONLY | O_CLOEXEC), "", ARGS("s", "x"), AT_EMPTY_PATH));
    CASE("script of a directory", at(dir, "script", ARGS("s", "x"), 0));
    CASE("script of an open directory", at(open(".", O_RDONLY | O_DIRECTORY), "script", ARGS("s", "x"), 0));
    script("argument", "#!  " SELF "   one two  \t\nrest\n");
    CASE("script's argument", execve("./argument", ARGS("name", "a"), some_env));
    script("relative", "#!./program\n");
    CASE("relative interpreter", execve("./relative", ARGS("name", "a"), some_env));
    script("bare", "#!program\n");
    CASE("interpreter without a directory", execve("./bare", ARGS("name", "a"), some_env));
    script("cut", "#!" SELF);
    CASE("script without an end of line", execve("./cut", ARGS("name", "a"), some_env));
    script("dos", "#!" SELF "\r\n");
    CASE("script of DOS", execve("./dos", ARGS("name", "a"), some_env));
    snprintf(line, sizeof line, "#!" SELF " %0300d\n", 7);
    script("long", line);
    CASE("script with a long line", execve("./long", ARGS("name", "a"), some_env));
    snprintf(line, sizeof line, "#!/%0300d\n", 7);
    script("longer", line);
    CASE("script with a long name", execve("./longer", ARGS("name", "a"), some_env));
    script("none", "#!\n");
    CASE("script without an interpreter", execve("./none", ARGS("name", "a"), some_env));
    script("nothing", "#!/nonesuch\n");
    CASE("script of nothing", execve("./nothing", ARGS("name", "a"), some_env));
    script("directory", "#!/proc\n");
    CASE("script of a directory", execve("./directory", ARGS("name", "a"), some_env));
    script("s0", "#!./program zero\n");
    for (int i = 1; i < 7; i++) {
        snprintf(line, sizeof line, "#!./s%d %d\n", i - 1, i);
        snprintf(path, sizeof path, "s%d", i);
        script(path, line);
    }
    CASE("scripts of scripts", execve("./s3", ARGS("s", "x"), some_env));
    CASE("as many as there may be", execve("./s4", ARGS("s", "x"), some_env));
    CASE("one too many", execve("./s5", ARGS("s", "x"), some_env));
    write_file("plain", "", 0, 0755);
    CASE("empty file", execve("./plain", ARGS("p"), some_env));
    script("text", "exit 3\n");
    CASE("text", execve("./text", ARGS("p"), some_env));
    CASE("text by a shell's way", execvp("./text", ARGS("p")));
    write_file("mode", "#!./program\n", 12, 0644);
    CASE("may not be executed", execve("./mode", ARGS("p"), some_env));
    CASE("script that may not be executed, by number", at(open("mode", O_RDONLY), "", ARGS("s", "x"), AT_EMPTY_PATH));
    script("ofmode", "#!./mode\n");
    CASE("interpreter may not be executed", execve("./ofmode", ARGS("p"), some_env));
    CASE("directory", execve("/proc", ARGS("p"), some_env));
    CASE("nothing", execve("./nonesuch", ARGS("p"), some_env));
    CASE("empty name", execve("", ARGS("p"), some_env));
    CASE("below a file", execve("program/x", ARGS("p"), some_env));
    memset(path, 'n', 5000), path[5000] = 0;
    CASE("long name", execve(path, ARGS("p"), some_env));
    mkfifo("fifo", 0755);
    CASE("fifo", execve("./fifo", ARGS("p"), some_env));
    mkdir("noexec", 0755);
    if (mount("none", "noexec", "tmpfs", MS_NOEXEC, NULL))
        perror("noexec");
    copy("noexec/program");
    script("noexec/script", "#!./program\n");
    CASE("noexec", execve("noexec/program", ARGS("p"), some_env));
    CASE("noexec script", execve("noexec/script", ARGS("p"), some_env));

    CASE("many arguments", execve(SELF, many(60000, 2), some_env));
    CASE("one long argument", execve(SELF, many(3, 130000), some_env));
    CASE("argument too long", execve(SELF, many(3, 140000), some_env));
    CASE("too much", execve(SELF, many(100, 130000), some_env));
    CASE("from a thread", thread(in_thread, ARGS("t")));
    CASE("many from a thread", thread(in_thread, many(60000, 2)));
    CASE("spawned by a thread", thread(spawn_in_thread, ARGS("t")));
    CASE("many spawned by a thread", thread(spawn_in_thread, many(60000, 2)));

    mkdir("away", 0755);
    CASE("directory is gone", chdir("away"), rmdir("../away"), execve(SELF, ARGS("a"), some_env));
    mkdir("away", 0755);
    CASE("directory is gone, relative", chdir("away"), rmdir("../away"), execve("./program", ARGS("a"), some_env));
    mkdir("root", 0755);
    copy("root/program");
    chdir("root");
    script("script", "#!/program\n");
    chdir("..");
    CASE("another root", chroot("root"), chdir("/"), execve("/program", ARGS("r"), some_env));
    CASE("script in another root", chroot("root"), chdir("/"), execve("/script", ARGS("r"), some_env));
    CASE("another root, by number", int fd = open(SELF, O_RDONLY | O_CLOEXEC); chroot("root"); chdir("/"); at(fd, "", ARGS("r"), AT_EMPTY_PATH));
    CASE("another root, twice", chroot("root"), chdir("/"), execve("/program", ARGS("twice", "/program"), some_env));
    CASE("proc is gone", umount2("/proc", MNT_DETACH), execve(SELF, ARGS("p"), some_env));
    return 0;
}
