// A program that brings a malloc of its own, as one does that links another allocator: the library
// before it may neither serve it nor hand it blocks to free.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 16, MAGIC = 0x5eed };

static char pool[32 << 20] __attribute__((aligned(16)));
static size_t used;

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
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes) {
    return memset(malloc(count * bytes), 0, count * bytes);
}

__attribute__((visibility("default"))) void *realloc(void *block, size_t bytes) {
    char *fresh = malloc(bytes);
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
    return same;
}
