/* A small file to compile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word { const char *text; size_t count; };

static int by_count(const void *a, const void *b)
{
    const struct word *x = a, *y = b;

    return x->count < y->count ? 1 : x->count > y->count ? -1 : strcmp(x->text, y->text);
}

int print_words(struct word *words, size_t count)
{
    qsort(words, count, sizeof *words, by_count);
    for (size_t i = 0; i < count; i++) printf("%7zu %s\n", words[i].count, words[i].text);
    return count > 0;
}
