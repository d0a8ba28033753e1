/* Instructions that compilers do not make: the other form of TEST; flags that FCOMI makes zero.
 *
 * test-qemu: arches=i386 says='all right'
 */
#include <stdio.h>

int main(void)
{
    unsigned flags, byte, word;

    /* test $0x0f, %al, then test $0x0f, %eax; ZF is 0x40. */
    asm volatile(".byte 0xf6, 0xc8, 0x0f\n\tpushf\n\tpop %0\n\t.byte 0xf7, 0xc8, 0x0f, 0, 0, 0\n\tpushf\n\tpop %1"
                 : "=&r"(byte), "=&r"(word)
                 : "a"(0xf0)
                 : "cc");
    /* OF, SF and AF (0x890) are set before. */
    asm volatile("fld1\n\tfld1\n\tmovl $0x7fffffff, %%eax\n\taddl $1, %%eax\n\tfcomi %%st(1), %%st\n\tpushf\n\tpop %0\n\t"
                 "fstp %%st\n\tfstp %%st"
                 : "=r"(flags)
                 :
                 : "eax", "cc", "st", "st(1)");
    if (!(byte & 0x40) || !(word & 0x40) || (flags & 0x8d5) != 0x40) {
        printf("flags are %x, %x and %x\n", byte, word, flags);
        return 1;
    }
    puts("all right");
}
