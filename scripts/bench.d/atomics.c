/* Four threads that share counters, locks and a queue: locked instructions among plain loads and stores. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 4, ROUNDS = 20000, SLOTS = 64 };
static _Atomic unsigned total, turn;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned slots[SLOTS];

static void *work(void *which)
{
    unsigned own[SLOTS] = { 0 }, x = (unsigned)(size_t)which;

    for (int i = 0; i < ROUNDS; i++) {
        x = x * 1103515245 + 12345;
        own[x >> 20 & 63] += own[x >> 8 & 63] + i;
        atomic_fetch_add(&total, x >> 30);
        if (i % 8 == 0) {
            pthread_mutex_lock(&lock);
            for (int k = 0; k < SLOTS; k++) slots[k] += own[k];
            pthread_mutex_unlock(&lock);
        }
        unsigned seen = atomic_load(&turn);
        while (!atomic_compare_exchange_weak(&turn, &seen, seen + 1)) continue;
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    printf("%u %u\n", turn, total);
    return turn != THREADS * ROUNDS;
}
