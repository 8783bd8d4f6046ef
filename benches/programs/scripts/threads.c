// Four threads at work, in a shape that the first argument names: prints the peak of
// resident memory, what is left once everything was freed and the threads have ended, both
// in KiB, and milliseconds of processor time.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define THREADS 4
#define PLACES 65536

// Replaces blocks at random: so many places of the thread's own, or ones that all threads
// share; so often; by sizes up to a largest one, even, or the smaller the likelier.
struct shape {
    const char *name;
    int own, shared, steps;
    size_t largest;
    int rather_small;
};

static const struct shape shapes[] = {
    {"small", 20000, 0, 1000000, 1000, 0},
    {"small, handed over", 0, 65536, 1000000, 1000, 0},
    {"all sizes", 2000, 0, 500000, 32768, 1},
    {"all sizes, handed over", 0, 8192, 500000, 32768, 1},
    {"medium", 1000, 0, 500000, 16000, 0},
    {"medium, handed over", 0, 4096, 300000, 32000, 0},
    {"up to large", 200, 0, 500000, 60000, 0},
};

static const struct shape *shape;
static void *shared[PLACES];

static unsigned draw(unsigned *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static size_t draw_size(unsigned *seed) {
    if (!shape->rather_small) return 1 + draw(seed) % shape->largest;
    size_t below = (size_t)32 << draw(seed) % 11;
    return 1 + draw(seed) % (below < shape->largest ? below : shape->largest);
}

static void *work(void *argument) {
    unsigned seed = (unsigned)(size_t)argument * 7919 + 1;
    void **own = calloc(shape->own + 1, sizeof *own);
    for (int step = 0; step < shape->steps; step++) {
        size_t bytes = draw_size(&seed);
        char *fresh = malloc(bytes);
        memset(fresh, 1, bytes);
        if (shape->shared) {
            void **place = &shared[draw(&seed) % shape->shared];
            free(__atomic_exchange_n(place, fresh, __ATOMIC_ACQ_REL));
        } else {
            void **place = &own[draw(&seed) % shape->own];
            free(*place);
            *place = fresh;
        }
    }
    for (int place = 0; place < shape->own; place++) free(own[place]);
    free(own);
    return NULL;
}

int main(int count, char **arguments) {
    for (size_t at = 0; at < sizeof shapes / sizeof *shapes; at++) {
        if (count < 2) puts(shapes[at].name);
        else if (strcmp(shapes[at].name, arguments[1]) == 0) shape = &shapes[at];
    }
    if (shape == NULL) return count < 2 ? 0 : 1;
    pthread_t threads[THREADS];
    for (size_t at = 0; at < THREADS; at++) pthread_create(&threads[at], NULL, work, (void *)at);
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], NULL);
    for (int place = 0; place < PLACES; place++) free(shared[place]);

    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) return 1;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    long ms = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
              (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
    printf("%ld %ld %ld\n", used.ru_maxrss, pages * 4, ms);
    return 0;
}
