/* Instructions of each architecture, as text, for programs that make code while they run. */
#ifndef CODE_H
#define CODE_H

/* A jump to the label 1 below it; a jump to itself; what returns N, which differs from what returns another N in one
 * instruction's number only; and a loop of nothing but indirect jumps, between two places or at one. */
#if defined(__aarch64__)
#define JUMP "b 1f"
#define STAY "1:\tb 1b"
#define RETURN(N) "mov w0, #" #N "\n\tret"
#define SPIN_AT_ONE "adr x9, 1f\n1:\tbr x9"
#define SPIN_BETWEEN "adr x9, 1f\n\tadr x10, 2f\n1:\tbr x10\n2:\tbr x9"
#elif defined(__arm__)
#define JUMP ".arm\n\tb 1f"
#define STAY ".arm\n1:\tb 1b"
#define RETURN(N) "mov r0, #" #N "\n\tbx lr"
#define SPIN_AT_ONE ".arm\n\tadr r3, 1f\n1:\tbx r3"
#define SPIN_BETWEEN ".arm\n\tadr r3, 1f\n\tadr r2, 2f\n1:\tbx r2\n2:\tbx r3"
#elif defined(__riscv)
#define JUMP "j 1f"
#define STAY ".option push\n\t.option norvc\n1:\tj 1b\n\t.option pop"
#define RETURN(N) ".option push\n\t.option norvc\n\tli a0, " #N "\n\tret\n\t.option pop"
#define SPIN_AT_ONE "la t1, 1f\n1:\tjr t1"
#define SPIN_BETWEEN "la t1, 1f\n\tla t2, 2f\n1:\tjr t2\n2:\tjr t1"
#elif defined(__s390x__)
#define JUMP "jg 1f"
#define STAY "1:\tj 1b"
#define RETURN(N) "lghi %r2, " #N "\n\tbr %r14"
#define SPIN_AT_ONE "larl %r1, 1f\n1:\tbr %r1"
#define SPIN_BETWEEN "larl %r1, 1f\n\tlarl %r2, 2f\n1:\tbr %r2\n2:\tbr %r1"
#elif defined(__powerpc64__) && _CALL_ELF == 2
#define JUMP "b 1f"
#define STAY "1:\tb 1b"
#define RETURN(N) "li 3, " #N "\n\tblr"
#define SPIN_AT_ONE "bcl 20, 31, 3f\n3:\tmflr 4\n\taddi 4, 4, 1f - 3b\n\tmtctr 4\n1:\tbctr"
#define SPIN_BETWEEN                                                                                        \
    "bcl 20, 31, 3f\n3:\tmflr 4\n\taddi 5, 4, 2f - 3b\n\taddi 4, 4, 1f - 3b\n\tmtctr 5\n\tmtlr 4\n" \
    "1:\tbctr\n2:\tblr"
#elif defined(__i386__)
#define JUMP "jmp 1f"
#define STAY "1:\tjmp 1b"
#define RETURN(N) "movl $" #N ", %eax\n\tret"
#define SPIN_AT_ONE "movl $1f, %eax\n1:\tjmp *%eax"
#define SPIN_BETWEEN "movl $1f, %eax\n\tmovl $2f, %ecx\n1:\tjmp *%ecx\n2:\tjmp *%eax"
#elif defined(__x86_64__)
#define JUMP "jmp 1f"
#define STAY "1:\tjmp 1b"
#define RETURN(N) "movl $" #N ", %eax\n\tret"
#define SPIN_AT_ONE "leaq 1f(%rip), %rax\n1:\tjmp *%rax"
#define SPIN_BETWEEN "leaq 1f(%rip), %rax\n\tleaq 2f(%rip), %rcx\n1:\tjmp *%rcx\n2:\tjmp *%rax"
#else
#error "tell this architecture's instructions"
#endif

#endif
