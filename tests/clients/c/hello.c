#include <stdio.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname name;
    uname(&name);
    int one = 1;
    printf("hello from C on %s, %zu-bit, %s-endian\n", name.machine, sizeof(long) * 8,
           *(char *)&one ? "little" : "big");
    return 0;
}
