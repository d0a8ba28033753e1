/*
 * A signal that F_SETSIG chose tells which descriptor is ready, and for what: the patch poll-signals.
 *
 * test-qemu: says='all right'
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static siginfo_t told;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    told = *info;
}

static void get(int number, int chosen)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int ends[2];

    memset(&told, 0, sizeof told);
    sigaction(number, &action, NULL);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(fcntl(ends[0], F_SETOWN, getpid()) == 0);
    CHECK(fcntl(ends[0], F_SETSIG, chosen) == 0);
    CHECK(fcntl(ends[0], F_SETFL, O_ASYNC) == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(told.si_signo == number);
    if (chosen) {
        CHECK(told.si_code == POLL_IN);
        CHECK(told.si_fd == ends[0]);
        CHECK(told.si_band & POLLIN);
    }
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    union sigval value = {.sival_int = 1234};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    get(SIGIO, SIGIO);
    get(SIGRTMIN + 1, SIGRTMIN + 1);
    get(SIGUSR1, SIGUSR1);
    get(SIGIO, 0);
    /* What sigqueue sends is as it was. */
    sigaction(SIGRTMIN, &action, NULL);
    CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
    CHECK(told.si_code == SI_QUEUE && told.si_value.sival_int == 1234 && told.si_pid == getpid());
    puts("all right");
    return 0;
}
