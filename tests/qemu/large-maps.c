/*
 * Programs of 32 bits find most of their addresses in one piece, wherever the emulator puts their files: the patch
 * translation-cache.
 *
 * test-qemu: arches=armhf,i386 dynamic=all runs=20 says='3 of 3'
 */
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
    int found = 0;

    while (found < 3 && mmap(NULL, (size_t)960 << 20, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
        found++;
    printf("%d of 3\n", found);
    return 0;
}
