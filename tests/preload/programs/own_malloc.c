// A program that brings a malloc of its own, as one does that links another allocator: the library
// before it may neither serve it nor hand it blocks to free.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 16, MAGIC = 0x5eed };

static char pool[32 << 20] __attribute__((aligned(16)));
static size_t used, freed;

__attribute__((visibility("default"))) void *malloc(size_t bytes) {
    size_t at = __atomic_fetch_add(&used, ((bytes + 15) & ~(size_t)15) + HEADER, __ATOMIC_RELAXED);
    size_t *header = (size_t *)(pool + at);
    header[0] = bytes;
    header[1] = MAGIC;
    return pool + at + HEADER;
}

__attribute__((visibility("default"))) void free(void *block) {
    uintptr_t at = (uintptr_t)block, start = (uintptr_t)pool;
    if (block == NULL) {
        return;
    }
    if (at < start || at >= start + sizeof pool || ((size_t *)block)[-1] != MAGIC) {
        static const char message[] = "not a block of this program's own malloc\n";
        write(2, message, sizeof message - 1);
        _exit(3);
    }
    freed++;
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes) {
    return memset(malloc(count * bytes), 0, count * bytes);
}

__attribute__((visibility("default"))) void *realloc(void *block, size_t bytes) {
    char *fresh = (char *)malloc(bytes);
    if (block != NULL) {
        size_t before = ((size_t *)block)[-2];
        memcpy(fresh, block, before < bytes ? before : bytes);
        free(block);
    }
    return fresh;
}

int main(void) {
    char *text = strdup("text");
    int same = strcmp(text, "text");
    free(text);
    // The C library makes this of the program's realloc.
    void *rows = reallocarray(NULL, 10, 10);
    memset(rows, 1, 100);
    rows = reallocarray(rows, 20, 10);
    if (((char *)rows)[99] != 1 || reallocarray(rows, SIZE_MAX / 2, 3) != NULL) {
        return 4;
    }
    free(rows);
    // Names that this C library may not have.
    void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*at)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (sized != NULL) {
        sized(malloc(100), 100);
    }
    if (at != NULL) {
        at(malloc(64), 16, 64);
    }
    return same || freed < (sized == NULL ? 2 : 4);
}
