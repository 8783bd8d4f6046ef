// Memory goes back to the system: by itself once all threads but one have ended, and with
// malloc_trim. Four threads hold 16 MiB each of blocks of many sizes, free them and end.
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, BYTES = 16 << 20, BLOCKS_MAX = BYTES / 16 };

static pthread_barrier_t all_hold;

static long resident_kib(void) {
    char text[128] = {0};
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file);
    CHECK(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    return atol(strchr(text, ' ')) * (sysconf(_SC_PAGESIZE) / 1024);
}

static size_t fill(void **blocks) {
    size_t count = 0;
    for (size_t bytes = 0; bytes < BYTES; count++) {
        size_t size = 16 + count * 7919 % 40000;
        CHECK(blocks[count] = malloc(size));
        memset(blocks[count], 1, size);
        bytes += size;
    }
    return count;
}

static void empty(void **blocks, size_t count) {
    while (count > 0) {
        free(blocks[--count]);
    }
}

static void *work(void *unused) {
    void **blocks = malloc(BLOCKS_MAX * sizeof *blocks);
    CHECK(blocks);
    size_t count = fill(blocks);
    pthread_barrier_wait(&all_hold);
    pthread_barrier_wait(&all_hold);
    empty(blocks, count);
    free(blocks);
    return unused;
}

int main(void) {
    pthread_t threads[THREADS];
    long before_kib = resident_kib();
    CHECK(pthread_barrier_init(&all_hold, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    }
    pthread_barrier_wait(&all_hold);
    long held_kib = resident_kib() - before_kib;
    CHECK(held_kib >= THREADS * BYTES / 1024);
    pthread_barrier_wait(&all_hold);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(resident_kib() - before_kib < held_kib / 8);

    static void *blocks[BLOCKS_MAX];
    size_t count = fill(blocks);
    held_kib = resident_kib() - before_kib;
    CHECK(held_kib >= BYTES / 1024);
    empty(blocks, count);
    CHECK(malloc_trim(0) == 1);
    CHECK(resident_kib() - before_kib < held_kib / 4);
    return 0;
}
