// A program that replaces malloc and free alone, by ones that hand on to the C library's: those of
// their relatives that it leaves out must be of the same kind.
#define _GNU_SOURCE
#include <malloc.h>
#include <string.h>

#include "check.h"

void *__libc_malloc(size_t bytes);
void __libc_free(void *block);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);
void *__libc_valloc(size_t bytes);
void *__libc_pvalloc(size_t bytes);

static long made = 0, freed = 0;

__attribute__((visibility("default"))) void *malloc(size_t bytes) {
    made++;
    return __libc_malloc(bytes);
}

__attribute__((visibility("default"))) void free(void *block) {
    freed += block != NULL;
    __libc_free(block);
}

// Keeps the compiler from leaving out a pair of calls.
static void give(void *block) {
    static void *volatile kept;
    CHECK(block != NULL);
    kept = block;
    free(kept);
}

int main(void) {
    give(malloc(100));
    give(calloc(10, 10));
    give(realloc(malloc(100), 5000));
    give(realloc(NULL, 100));
    give(reallocarray(calloc(3, 7), 70, 9));
    give(strdup("text"));
    void *block = NULL;
    CHECK(posix_memalign(&block, 256, 100) == 0);
    CHECK(malloc_usable_size(block) >= 100);
    give(block);
    give(aligned_alloc(128, 128));
    give(memalign(64, 100));
    CHECK(freed >= 9 && made >= 3);

    char *zeroes = __libc_calloc(10, 10);
    CHECK(zeroes != NULL && zeroes[0] == 0 && zeroes[99] == 0);
    zeroes = __libc_realloc(zeroes, 10000);
    CHECK(zeroes != NULL && zeroes[99] == 0);
    give(zeroes);
    give(__libc_memalign(64, 100));
    give(__libc_valloc(100));
    give(__libc_pvalloc(100));
    return 0;
}
