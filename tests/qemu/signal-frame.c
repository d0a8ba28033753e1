/* Code that unwinds by the kernel's layout finds the state 128 bytes above a handler's caller.
 *
 * test-qemu: arches=ppc64el says='all right' flags=-Wno-frame-address
 */
#include <signal.h>
#include <stdio.h>

static long distance;

static void __attribute__((noinline)) handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    distance = (char *)context - (char *)__builtin_frame_address(1);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    if (distance != 128) {
        printf("it is at %ld\n", distance);
        return 1;
    }
    puts("all right");
}
