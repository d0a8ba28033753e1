/*
 * Every kind of loop ends when a signal asks for it, and lets other threads stop the world: the patch
 * tcg-stop-checks looks for such requests only in blocks that jump back and where the next block is looked up.
 *
 * test-qemu: says='all right'
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t done;
static volatile int counter;
static int threads_end;

static void on_alarm(int signal)
{
    (void)signal;
    done = 1;
}

static void itself(void)
{
    while (!done) {
    }
}

static void many_blocks(void)
{
    while (!done) {
        if (counter & 1) {
            counter += 3;
        } else if (counter & 2) {
            counter -= 1;
        } else {
            counter ^= 7;
        }
    }
}

static __attribute__((noinline)) int leaf(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

static void calls(void)
{
    int (*volatile call)(int) = leaf;

    while (!done) {
        counter = call(counter);
    }
}

static __attribute__((noinline)) void recursion(int depth)
{
    if (depth > 0 && !done) {
        recursion(depth - 1);
        recursion(depth - 1);
    }
    __asm__ volatile("");
}

static void returns(void)
{
    while (!done) {
        recursion(40);
    }
}

/* Jumps through a table, with no call and no return. */
static void computed(void)
{
    void *const table[] = { &&one, &&two, &&three };

    goto *table[0];
one:
    if (done) {
        return;
    }
    counter++;
    goto *table[1 + (counter & 1)];
two:
    counter += 2;
    goto *table[0];
three:
    counter -= 2;
    goto *table[0];
}

static void strings(void)
{
    static char from[100000], to[100000];

    while (!done) {
        memmove(to, from, sizeof to);
        memset(from, counter++, sizeof from);
        counter += strlen(to + sizeof to - 1);
    }
}

static void *spin(void *argument)
{
    void (*loop)(void) = (void (*)(void))argument;

    loop();
    __atomic_fetch_add(&threads_end, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void)
{
    static void (*const loops[])(void) = { itself, many_blocks, calls, returns, computed, strings };
    enum { count = sizeof loops / sizeof *loops };
    struct itimerval soon = { .it_value = { .tv_usec = 30000 } };
    pthread_t threads[count];

    signal(SIGALRM, on_alarm);
    for (int i = 0; i < count; i++) {
        /* Once before the blocks are translated and linked, once after. */
        for (int again = 0; again < 2; again++) {
            done = 0;
            setitimer(ITIMER_REAL, &soon, NULL);
            loops[i]();
        }
    }
    done = 0;
    for (int i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, spin, (void *)loops[i])) {
            puts("cannot make a thread");
            return 1;
        }
    }
    /* Mapping code anew while they run: all threads have to stop for it. */
    for (int i = 0; i < 50; i++) {
        void *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        memset(page, i, 65536);
        munmap(page, 65536);
        if (i % 10 == 0) {
            pid_t child = fork();

            if (child == 0) {
                _exit(0);
            }
        }
    }
    done = 1;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    puts(threads_end == count ? "all right" : "some threads did not end");
    return threads_end != count;
}
