/* A logical shift by one of what is all sign makes it positive; the sign of its lower half is that of bit 15.
 *
 * test-qemu: arches=armhf,i386 says='all right'
 */
#include <stdio.h>

int main(void)
{
    int half = -0x7000, whole;
#ifdef __arm__
    asm volatile("sxth %0, %0\n\tasr %0, %0, #15\n\tlsr %0, %0, #1\n\tmov %1, %0\n\tsxth %0, %0" : "+r"(half), "=r"(whole));
#else
    asm volatile("movswl %w0, %0\n\tsarl $15, %0\n\tshrl $1, %0\n\tmovl %0, %1\n\tmovswl %w0, %0" : "+a"(half), "=d"(whole));
#endif
    if (half != -1 || whole != 0x7fffffff) {
        printf("%x is extended to %x\n", whole, half);
        return 1;
    }
    puts("all right");
}
