// glibc's rules on sizes, alignments and errno. Runs on glibc's own malloc as well, which
// shows that they are its rules.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

// Volatile, so that the compiler neither knows the sizes nor leaves out a call.
static volatile size_t none = 0, huge = (size_t)PTRDIFF_MAX + 1, most = PTRDIFF_MAX, vast = (size_t)1 << 46;

static int aligned(const void *block, size_t align) { return (uintptr_t)block % align == 0; }

static void refuses(void *block) {
    CHECK(block == NULL);
    CHECK(errno == ENOMEM);
    errno = 0;
}

int main(void) {
    for (size_t bytes = 0; bytes < 70000; bytes += bytes < 1100 ? 1 : 997) {
        unsigned char *block = malloc(bytes);
        CHECK(block != NULL && aligned(block, 16));
        size_t usable = malloc_usable_size(block);
        CHECK(usable >= bytes);
        memset(block, 0xa5, usable);
        unsigned char *zeroes = calloc(bytes ? bytes : 1, 1);
        for (size_t at = 0; at < bytes; at++) CHECK(zeroes[at] == 0);
        block = realloc(block, bytes * 3 + 7);
        CHECK(block != NULL && aligned(block, 16));
        for (size_t at = 0; at < bytes; at++) CHECK(block[at] == 0xa5);
        block = realloc(block, bytes / 5 + 1);
        for (size_t at = 0; at < bytes / 5; at++) CHECK(block[at] == 0xa5);
        free(block);
        free(zeroes);
    }

    void *one = malloc(none), *other = malloc(none);
    CHECK(one != NULL && other != NULL && one != other);
    CHECK(realloc(one, none) == NULL);
    free(other);
    void *fresh = realloc(NULL, none);
    CHECK(fresh != NULL);
    free(fresh);
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);

    errno = 0;
    refuses(malloc(huge));
    refuses(malloc(most));
    refuses(calloc(most, 1));
    refuses(realloc(NULL, most));
    refuses(aligned_alloc(4096, most));
    refuses(malloc(SIZE_MAX - none));
    refuses(malloc(vast));
    refuses(calloc(huge, 2));
    refuses(calloc(SIZE_MAX / 2 + none, 3));
    refuses(calloc(vast, 16));
    refuses(reallocarray(NULL, huge, 2));
    refuses(aligned_alloc(64, huge));
    refuses(memalign(64, SIZE_MAX - 4 - none));
    refuses(valloc(huge));
    refuses(pvalloc(SIZE_MAX - none));
    char *kept = malloc(100);
    strcpy(kept, "kept");
    refuses(realloc(kept, huge));
    refuses(realloc(kept, vast));
    refuses(reallocarray(kept, SIZE_MAX / 2 + none, 4));
    CHECK(strcmp(kept, "kept") == 0);
    kept = reallocarray(kept, 1000, 1000);
    CHECK(kept != NULL && strcmp(kept, "kept") == 0);
    free(kept);

    for (size_t align = 8; align <= (size_t)64 << 20; align *= 2) {
        for (size_t bytes = 0; bytes <= 40000; bytes += 9999) {
            void *block = NULL;
            CHECK(posix_memalign(&block, align, bytes) == 0);
            CHECK(block != NULL && aligned(block, align));
            CHECK(malloc_usable_size(block) >= bytes);
            memset(block, 1, bytes);
            block = realloc(block, bytes + 50000);
            CHECK(block != NULL);
            for (size_t at = 0; at < bytes; at++) CHECK(((char *)block)[at] == 1);
            free(block);
            block = memalign(align, bytes);
            CHECK(block != NULL && aligned(block, align));
            free(block);
            block = aligned_alloc(align, bytes);
            CHECK(block != NULL && aligned(block, align));
            free(block);
        }
    }
    // Without bytes, too, blocks are apart, and nobody else gets their address.
    unsigned char *wide[4], *filler[4];
    for (int at = 0; at < 4; at++) {
        wide[at] = memalign((size_t)32 << 20, none);
        CHECK(wide[at] != NULL && aligned(wide[at], (size_t)32 << 20));
        for (int other = 0; other < at; other++) CHECK(wide[at] != wide[other]);
    }
    for (int at = 0; at < 4; at++) {
        filler[at] = malloc((size_t)24 << 20);
        CHECK(filler[at] != NULL);
        memset(filler[at], at, (size_t)24 << 20);
        for (int other = 0; other < 4; other++) {
            CHECK(wide[other] < filler[at] || wide[other] >= filler[at] + ((size_t)24 << 20));
        }
    }
    for (int at = 0; at < 4; at++) {
        free(wide[at]);
        CHECK(filler[at][0] == at && filler[at][((size_t)24 << 20) - 1] == at);
    }
    for (int at = 0; at < 4; at++) free(filler[at]);

    void *place = &errno;
    CHECK(posix_memalign(&place, 4, 100) == EINVAL && place == &errno);
    CHECK(posix_memalign(&place, 48, 100) == EINVAL && place == &errno);
    CHECK(posix_memalign(&place, none, 100) == EINVAL && place == &errno);
    CHECK(posix_memalign(&place, 64, huge) == ENOMEM && place == &errno);
    errno = 0;
    void *odd = memalign(48, 100);
    CHECK(odd != NULL && aligned(odd, 64));
    free(odd);
    // Newer ones than 2.37 refuse to round an alignment up.
    odd = aligned_alloc(48, 96);
    CHECK(odd != NULL ? aligned(odd, 64) : errno == EINVAL);
    free(odd);
    errno = 0;
    CHECK(memalign(SIZE_MAX - none, 100) == NULL && errno == EINVAL);
    void *page = valloc(10), *pages = pvalloc(4097);
    CHECK(aligned(page, 4096) && aligned(pages, 4096) && malloc_usable_size(pages) >= 8192);
    free(page);
    free(pages);

    // A free is seen in errno neither when it is cheap nor when it ends a mapping.
    void *blocks[2000];
    for (int at = 0; at < 2000; at++) blocks[at] = malloc(at * 20);
    void *mapped = malloc((size_t)80 << 20);
    errno = 77;
    for (int at = 0; at < 2000; at++) free(blocks[at]);
    free(mapped);
    CHECK(errno == 77);

    struct mallinfo2 before = mallinfo2();
    void *more[100];
    for (int at = 0; at < 100; at++) more[at] = malloc(9000);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks - before.uordblks >= 900000);
    CHECK(after.uordblks + after.fordblks <= after.arena + after.hblkhd);
    for (int at = 0; at < 100; at++) free(more[at]);
    mapped = malloc((size_t)80 << 20);
    *(volatile char *)mapped = 1;
    struct mallinfo2 with = mallinfo2();
    CHECK(with.hblks == after.hblks + 1);
    CHECK(with.hblkhd >= after.hblkhd + ((size_t)80 << 20));
    free(mapped);
    CHECK(mallinfo2().hblks == after.hblks);
    CHECK(malloc_trim(0) >= 0);
    void *held = malloc(100000);
    CHECK(held != NULL);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    CHECK((size_t)mallinfo().uordblks == mallinfo2().uordblks);
#pragma GCC diagnostic pop
    CHECK(mallinfo2().uordblks >= 100000);
    free(held);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    malloc_stats();

    // Names that this C library may not have.
    void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*at)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (sized != NULL) sized(malloc(100), 100);
    if (at != NULL) at(aligned_alloc(256, 512), 256, 512);
    if (getenv("LD_PRELOAD") != NULL) CHECK(sized != NULL && at != NULL);

    // The name that programs of before 2017 have for `free`.
    void (*old)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    if (old != NULL) old(malloc(100));
    if (getenv("LD_PRELOAD") != NULL) CHECK(old != NULL);

    // Operators that promise not to throw, where there is no C++ library.
    typedef void *(*Nothrow)(size_t, const void *);
    typedef void *(*NothrowAt)(size_t, size_t, const void *);
    Nothrow new = (Nothrow)dlsym(RTLD_DEFAULT, "_ZnwmRKSt9nothrow_t");
    NothrowAt new_at = (NothrowAt)dlsym(RTLD_DEFAULT, "_ZnwmSt11align_val_tRKSt9nothrow_t");
    if (new != NULL) CHECK(new(vast, "") == NULL);
    if (new_at != NULL) CHECK(new_at(vast, 64, "") == NULL);
    if (getenv("LD_PRELOAD") != NULL) CHECK(new != NULL && new_at != NULL);
    return 0;
}
