/*
 * arm64 addresses with a tag in their top byte work in every kind of access: the patch aarch64-tags translates code as
 * if there were none until the first one faults, so each kind is the first one of a process here, and once more after it.
 *
 * test-qemu: arches=arm64 cpus=default,max says='all right'
 */
#pragma GCC target("arch=armv8.2-a")
#include <arm_neon.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAGGED(POINTER) ((void *)((uintptr_t)(POINTER) | 0xa5ull << 56))
#define BYTES 0x0101010101010101ull

static uint64_t data[64] __attribute__((aligned(64)));
static int failed;
static sigjmp_buf fault;
static void *volatile address;

static void check(const char *what, int right)
{
    if (!right) {
        printf("%s\n", what);
        failed = 1;
    }
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    address = info->si_addr;
    siglongjmp(fault, signal);
}

/* Where a store to `to` faults. */
static uintptr_t fault_at(uintptr_t to)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

    sigaction(SIGSEGV, &action, NULL);
    address = NULL;
    if (!sigsetjmp(fault, 1)) {
        *(volatile int *)to = 1;
        check("no fault", 0);
    }
    return (uintptr_t)address;
}

static int increment(int x)
{
    return x + 1;
}

enum { LAST = 21 };

static void try(int which)
{
    uint64_t *p = TAGGED(data), *q = p + 2, v, w;
    uint32_t r;

    for (int i = 0; i < 64; i++) {
        data[i] = i * BYTES;
    }
    switch (which) {
    case 0:
        check("ldr", *(volatile uint64_t *)(p + 3) == 3 * BYTES);
        break;
    case 1:
        *(volatile uint64_t *)(p + 3) = 7;
        check("str", data[3] == 7);
        break;
    case 2:
        __asm__ volatile("ldp %0, %1, [%2], #16" : "=&r"(v), "=&r"(w), "+r"(q) : : "memory");
        check("ldp", v == 2 * BYTES && w == 3 * BYTES && q == p + 4);
        break;
    case 3:
        __asm__ volatile("stp %1, %2, [%0, #16]!" : "+r"(q) : "r"(5ul), "r"(6ul) : "memory");
        check("stp", data[4] == 5 && data[5] == 6 && q == p + 4);
        break;
    case 4: {
        uint64x2_t x = vld1q_u64(p + 8);
        check("ld1", vgetq_lane_u64(x, 0) == 8 * BYTES && vgetq_lane_u64(x, 1) == 9 * BYTES);
        break;
    }
    case 5:
        vst4q_u8((uint8_t *)(p + 16), vld4q_u8((uint8_t *)p));
        check("ld4, st4", !memcmp(data, data + 16, 64));
        break;
    case 6:
        __asm__ volatile("ldaddal %1, %0, [%2]" : "=r"(v) : "r"(10ul), "r"(p + 1) : "memory");
        check("ldadd", v == BYTES && data[1] == BYTES + 10);
        break;
    case 7:
        v = data[1];
        __asm__ volatile("casal %0, %1, [%2]" : "+r"(v) : "r"(9ul), "r"(p + 1) : "memory");
        check("cas", data[1] == 9);
        break;
    case 8:
        do {
            __asm__ volatile("ldaxr %0, [%2]\n\tadd %0, %0, #1\n\tstlxr %w1, %0, [%3]"
                             : "=&r"(v), "=&r"(r) : "r"(data + 1), "r"(p + 1) : "memory");
        } while (r);
        check("ldaxr without, stlxr with a tag", data[1] == BYTES + 1);
        break;
    case 9:
        do {
            __asm__ volatile("ldaxr %0, [%2]\n\tadd %0, %0, #1\n\tstlxr %w1, %0, [%2]"
                             : "=&r"(v), "=&r"(r) : "r"(p + 1) : "memory");
        } while (r);
        check("ldaxr, stlxr", data[1] == BYTES + 1);
        break;
    case 10:
        __asm__ volatile("dc zva, %0" : : "r"(p + 8) : "memory");
        check("dc zva", data[8] == 0 && data[15] == 0);
        break;
    case 11:
        __asm__ volatile("prfm pldl1keep, [%0]" : : "r"(p));
        break;
    case 12: {
        register uint64_t a __asm__("x0") = data[2], b __asm__("x1") = data[3];
        register uint64_t c __asm__("x2") = 1, d __asm__("x3") = 2;
        __asm__ volatile("caspal x0, x1, x2, x3, [%4]" : "+r"(a), "+r"(b) : "r"(c), "r"(d), "r"(q) : "memory");
        check("casp", data[2] == 1 && data[3] == 2);
        break;
    }
    case 13: {
        int (*call)(int) = (int (*)(int))TAGGED(increment);
        check("blr", call(4) == 5);
        break;
    }
    case 14:
        __asm__ volatile("ldar %0, [%1]" : "=r"(v) : "r"(p + 5));
        check("ldar", v == 5 * BYTES);
        break;
    case 15:
        do {
            __asm__ volatile("ldxp %0, %1, [%3]\n\tstxp %w2, %1, %0, [%3]"
                             : "=&r"(v), "=&r"(w), "=&r"(r) : "r"(p + 6) : "memory");
        } while (r);
        check("ldxp, stxp", data[6] == 7 * BYTES && data[7] == 6 * BYTES);
        break;
    case 16:
        memcpy(p + 32, p, 200);
        check("memcpy", !memcmp(data, data + 32, 200));
        break;
    case 17:
        __asm__ volatile("swpal %1, %0, [%2]" : "=&r"(v) : "r"(3ul), "r"(p + 1) : "memory");
        check("swp", data[1] == 3 && v == BYTES);
        break;
    case 18:
        __asm__ volatile("mov %0, sp\n\torr x9, %0, #0x0f00000000000000\n\tmov sp, x9\n\t"
                         "str xzr, [sp, #-16]!\n\tldr x10, [sp], #16\n\tmov sp, %0"
                         : "=&r"(v) : : "x9", "x10", "memory");
        break;
    case 19:
        __asm__ volatile("ldtr %w0, [%1]\n\tldur %w0, [%1, #1]\n\tldrsb %w0, [%1, #2]\n\tldrh %w0, [%1, #2]"
                         : "=&r"(r) : "r"(p));
        check("ldtr, ldur, ldrsb, ldrh", r == 0);
        break;
    case 20:
        __asm__ volatile("ldr q0, [%0]\n\tstr q0, [%0, #32]\n\tldp q3, q4, [%0]\n\tstnp q3, q4, [%0, #64]"
                         : : "r"(q) : "v0", "v3", "v4", "memory");
        check("ldr q, str q, ldp q, stnp q", data[6] == 2 * BYTES && data[7] == 3 * BYTES && data[10] == 2 * BYTES);
        break;
    case LAST:
        check("an address without a tag", fault_at(0x1234) == 0x1234);
        check("an address with a tag", (fault_at((uintptr_t)TAGGED(0x1230)) & 0xffffff) == 0x1230);
        check("a kernel's address", fault_at(0xffff800000001234) == 0xffff800000001234);
        fault_at(0x00ff000000001234);
        break;
    }
}

int main(void)
{
    for (int which = 0; which <= LAST; which++) {
        pid_t child = fork();
        int status;

        if (child == 0) {
            try(which);
            try(which);
            fflush(stdout);
            _exit(failed);
        }
        waitpid(child, &status, 0);
        if (status) {
            printf("case %d ends with status %#x\n", which, status);
            failed = 1;
        }
    }
    for (int which = 0; which <= LAST; which++) {
        try(which);
    }
    puts(failed ? "bad" : "all right");
    return failed;
}
