// Stacks of a few pages that no one told the library of, as coroutines have: what lies below them
// is another's, and stays as it is. And threads with the smallest stacks that there are.
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <ucontext.h>

#include "check.h"

enum { STACK = 8 << 10, BELOW = 32 << 10, CANARY = 0x5a };

static ucontext_t caller, coroutine;

static void allocate(void) {
    for (size_t round = 0; round < 3000; round++) {
        char *block = malloc(16 + round * 37 % 3000);
        CHECK(block != NULL);
        block[0] = 1;
        free(block);
    }
}

static void *work(void *unused) {
    allocate();
    return unused;
}

int main(void) {
    static char memory[BELOW + STACK] __attribute__((aligned(4096)));
    memset(memory, CANARY, sizeof memory);
    CHECK(getcontext(&coroutine) == 0);
    coroutine.uc_stack.ss_sp = memory + BELOW;
    coroutine.uc_stack.ss_size = STACK;
    coroutine.uc_link = &caller;
    makecontext(&coroutine, allocate, 0);
    CHECK(swapcontext(&caller, &coroutine) == 0);
    for (size_t at = 0; at < BELOW; at++) {
        CHECK(memory[at] == CANARY);
    }

    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN) == 0);
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, &attributes, work, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    return 0;
}
