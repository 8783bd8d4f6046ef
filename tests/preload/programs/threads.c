// Threads: many short ones, many at once, destructors that allocate, and the end of the
// process after main.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

static pthread_key_t keys[3];
static pthread_barrier_t everybody;
static __thread char *in_tls;

// Runs in several rounds: each allocates anew, the last leaves nothing.
static void destroy(void *value) {
    char *block = value;
    int round = block[0];
    free(block);
    char *other = malloc(3000);
    memset(other, round, 3000);
    free(other);
    free(in_tls);
    in_tls = malloc(40);
    if (round < 3) {
        char *next = malloc(50 + round);
        next[0] = round + 1;
        pthread_setspecific(keys[round % 3], next);
    } else {
        free(in_tls);
        in_tls = NULL;
    }
}

static void *short_life(void *argument) {
    size_t seed = (uintptr_t)argument;
    char *blocks[20];
    for (int at = 0; at < 20; at++) {
        size_t bytes = (seed * 7919 + at * 127) % 5000;
        blocks[at] = malloc(bytes);
        memset(blocks[at], at, bytes);
    }
    char *value = malloc(10);
    value[0] = 0;
    pthread_setspecific(keys[seed % 3], value);
    for (int at = 0; at < 19; at++) free(blocks[at]);
    return blocks[19];
}

static void *wait_with_others(void *argument) {
    char *held = malloc(1000);
    pthread_barrier_wait(&everybody);
    held[0] = 1;
    pthread_barrier_wait(&everybody);
    free(held);
    return short_life(argument);
}

static void at_exit(void) {
    char *text = NULL;
    CHECK(asprintf(&text, "%d", 12345) == 5);
    free(text);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, short_life, NULL) == 0);
    void *left;
    pthread_join(thread, &left);
    free(left);
}

__attribute__((constructor(101))) static void before_all(void) {
    CHECK(strlen(strdup("before main")) == 11);
}

__attribute__((destructor)) static void after_main(void) {
    void *block = malloc(100000);
    free(block);
    free(strdup("after main"));
}

int main(int count, char **arguments) {
    int short_threads = count > 1 ? atoi(arguments[1]) : 10000;
    int live_threads = count > 2 ? atoi(arguments[2]) : 1000;
    atexit(at_exit);
    for (int key = 0; key < 3; key++) CHECK(pthread_key_create(&keys[key], destroy) == 0);

    for (int at = 0; at < short_threads; at++) {
        pthread_t thread;
        void *left = NULL;
        if (at % 10 == 0) {
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
            pthread_attr_setstacksize(&attributes, 32 << 10);
            while (pthread_create(&thread, &attributes, short_life,
                                  (void *)(uintptr_t)at) != 0) {
            }
            pthread_attr_destroy(&attributes);
            continue;
        }
        CHECK(pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)at) == 0);
        CHECK(pthread_join(thread, &left) == 0);
        free(left);
    }

    pthread_t *threads = calloc(live_threads, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_barrier_init(&everybody, NULL, live_threads + 1);
    for (int at = 0; at < live_threads; at++) {
        void *argument = (void *)(uintptr_t)at;
        CHECK(pthread_create(&threads[at], &attributes, wait_with_others, argument) == 0);
    }
    pthread_barrier_wait(&everybody);
    pthread_barrier_wait(&everybody);
    for (int at = 0; at < live_threads; at++) {
        void *left;
        CHECK(pthread_join(threads[at], &left) == 0);
        free(left);
    }
    free(threads);
    return 0;
}
