/* A signal handler may choose how to round: what is interrupted goes on with its own choice.
 *
 * test-qemu: says='all right' flags=-lm
 */
#include <fenv.h>
#include <signal.h>
#include <stdio.h>

static volatile double one = 1, three = 3;
static volatile double within;

static void handler(int sig)
{
    (void)sig;
    fesetround(FE_UPWARD);
    within = one / three;
}

int main(void)
{
    double before = one / three, after;

    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    after = one / three;
    if (within <= before) {
        puts("the handler did not round upwards");
        return 1;
    }
    if (after != before || fegetround() != FE_TONEAREST) {
        printf("%a was %a; the mode is %d\n", after, before, fegetround());
        return 1;
    }
    puts("all right");
}
