/*
 * A signal that comes while another thread changes what is to be done with it meets the one way or the other, and never
 * a mixture of both: what CPython's test_stress_modifying_handlers does.
 *
 * QEMU read the action twice, and called an address like that of SIG_IGN, before the patch behaviour/handlers.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

static volatile int done, wrong;

static void on_signal(int number)
{
    (void)number;
}

static void on_signal_with_more(int number, siginfo_t *info, void *context)
{
    if (number != SIGUSR1 || info->si_signo != number || !context) {
        wrong = 1;
    }
}

static void *raise_them(void *argument)
{
    while (!done) {
        raise(SIGUSR1);
    }
    return argument;
}

int main(void)
{
    struct sigaction actions[] = {
        { .sa_handler = on_signal },
        { .sa_handler = SIG_IGN },
        { .sa_sigaction = on_signal_with_more, .sa_flags = SA_SIGINFO },
        { .sa_handler = SIG_IGN },
    };
    time_t end = time(NULL) + 3;
    pthread_t thread;

    sigaction(SIGUSR1, &actions[0], NULL);
    pthread_create(&thread, NULL, raise_them, NULL);
    while (time(NULL) < end) {
        for (int i = 0; i < 1000; i++) {
            sigaction(SIGUSR1, &actions[i % 4], NULL);
        }
    }
    done = 1;
    pthread_join(thread, NULL);
    puts(wrong ? "a handler got another one's arguments" : "all right");
    return wrong;
}
