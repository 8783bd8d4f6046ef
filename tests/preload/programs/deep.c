// Recurses on the main stack: by 5 MiB, or with the argument `edge` to where little of it is left.
#define _GNU_SOURCE
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "check.h"

static char *start;
static void *volatile block;

__attribute__((noinline)) static int deeper(int left) {
    volatile char frame[64 << 10];
    frame[0] = frame[sizeof frame - 1] = 1;
    if (left == 0) {
        block = malloc(70007);
        free(block);
        return frame[0];
    }
    return deeper(left - 1) + frame[0];
}

// Allocates where 9 KiB are left.
__attribute__((noinline)) static int nearer(size_t limit) {
    volatile char frame[1 << 10];
    frame[0] = 1;
    if (limit - (size_t)(start - (char *)frame) < 9 << 10) {
        block = malloc(70007);
        free(block);
        return frame[0];
    }
    return nearer(limit) + frame[0];
}

int main(int count, char **arguments) {
    block = malloc(100);
    free(block);
    if (count > 1 && strcmp(arguments[1], "edge") == 0) {
        struct rlimit limit;
        CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
        // All of the stack but the program's name lies below that.
        start = (char *)getauxval(AT_EXECFN);
        return nearer(limit.rlim_cur) == 0;
    }
    return deeper(80) != 81;
}
