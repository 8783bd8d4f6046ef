// The limit on the address space, met in the middle: null and ENOMEM, nothing else, on
// every thread; and what is freed can be allocated again. Arguments: the limit, and what
// blocks of each size must get of it, both in MiB.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "check.h"

struct Link {
    struct Link *next;
};

static size_t fill(struct Link **chain, size_t bytes) {
    size_t blocks = 0;
    for (;;) {
        errno = 0;
        struct Link *link = blocks % 3 ? malloc(bytes) : calloc(1, bytes);
        if (link == NULL) {
            CHECK(errno == ENOMEM);
            return blocks;
        }
        link->next = *chain;
        *chain = link;
        blocks++;
    }
}

static void drop(struct Link *chain) {
    while (chain != NULL) {
        struct Link *next = chain->next;
        free(chain);
        chain = next;
    }
}

static void *use(void *argument) {
    size_t bytes = (size_t)argument;
    struct Link *chain = NULL;
    size_t first = fill(&chain, bytes);
    CHECK(realloc(chain, bytes + ((size_t)1 << 32)) == NULL && errno == ENOMEM);
    // A block that shrinks asks for nothing, so there is always enough for it.
    struct Link *rest = chain->next;
    for (size_t fewer = bytes / 2; fewer >= sizeof *chain; fewer /= 2) {
        struct Link *smaller = realloc(chain, fewer);
        CHECK(smaller != NULL && smaller->next == rest);
        chain = smaller;
    }
    drop(chain);
    return (void *)first;
}

int main(int count, char **arguments) {
    size_t all = (size_t)(count > 1 ? atoi(arguments[1]) : 700) << 20;
    size_t least = (size_t)(count > 2 ? atoi(arguments[2]) : 150) << 20;
    // What a thread needs is there before there is none left.
    struct rlimit limit = {all, all};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    size_t sizes[] = {16, 100, 5000, 20000, 100000, 3 << 20, 40 << 20};
    for (int at = 0; at < 7; at++) {
        size_t blocks = (size_t)use((void *)sizes[at]);
        CHECK(blocks * sizes[at] >= least);
    }
    pthread_t threads[4];
    int started = 0;
    for (int at = 0; at < 4; at++) {
        started += pthread_create(&threads[started], NULL, use, (void *)(size_t)(500 << at)) == 0;
    }
    for (int at = 0; at < started; at++) pthread_join(threads[at], NULL);
    return 0;
}
