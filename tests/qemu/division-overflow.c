/* The quotient of the smallest number and -1 does not fit: the program gets SIGFPE, the emulator goes on.
 *
 * test-qemu: arches=s390x says='all right'
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static sigjmp_buf after;

static void handler(int sig) { siglongjmp(after, sig); }

int main(void)
{
    signal(SIGFPE, handler);
    int sig = sigsetjmp(after, 1);
    if (sig == 0) {
        /* The even register has the high half of the dividend, the odd one the low half. */
        asm volatile("lhi %%r2, 0\n\tiilf %%r2, 0x80000000\n\tlhi %%r3, 0\n\tlhi %%r4, -1\n\tdr %%r2, %%r4"
                     :
                     :
                     : "r2", "r3", "r4", "cc");
        puts("there was no signal");
        return 1;
    }
    if (sig != SIGFPE) {
        printf("signal %d\n", sig);
        return 1;
    }
    puts("all right");
}
