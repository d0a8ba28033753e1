/* Ends a program of tests/qemu where something is not as it has to be. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define CHECK(WHAT)                                                          \
    do {                                                                     \
        if (!(WHAT)) {                                                       \
            dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #WHAT, errno); \
            _exit(1);                                                        \
        }                                                                    \
    } while (0)

#endif
