/* Four threads that allocate and free small blocks of memory. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *work(void *seed)
{
    char *kept[64] = { 0 };
    unsigned x = (unsigned)(size_t)seed;

    for (int i = 0; i < 300000; i++) {
        x = x * 1103515245 + 12345;
        char **slot = &kept[x >> 16 & 63];
        free(*slot);
        *slot = malloc(x >> 24);
        if (*slot) memset(*slot, i, x >> 28);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    return 0;
}
