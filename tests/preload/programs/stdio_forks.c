// Children made while threads read lines, which allocates under a stream's lock, and flush all
// streams, which takes every stream's lock. Argument: how many.
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static volatile int stop = 0;
static FILE *lines;

static void *reads(void *shared) {
    while (!stop) {
        FILE *file = shared != NULL ? lines : fopen("/proc/self/status", "r");
        CHECK(file != NULL);
        for (int at = 0; at < 20; at++) {
            char *line = NULL;
            size_t bytes = 0;
            if (getline(&line, &bytes, file) <= 0) rewind(file);
            free(line);
            // Above all that a list holds.
            free(malloc(2 << 20));
        }
        if (shared == NULL) fclose(file);
    }
    return NULL;
}

static void *flushes(void *unused) {
    while (!stop) fflush(NULL);
    return unused;
}

int main(int count, char **arguments) {
    int forks = count > 1 ? atoi(arguments[1]) : 1000;
    // Of a fork that waits for ever.
    alarm(240);
    lines = tmpfile();
    CHECK(lines != NULL);
    for (int at = 0; at < 200; at++) fprintf(lines, "%0*d\n", 100 + at * 50, at);
    fflush(lines);
    rewind(lines);
    pthread_t threads[5];
    for (size_t at = 0; at < 4; at++) {
        CHECK(pthread_create(&threads[at], NULL, reads, at < 2 ? lines : NULL) == 0);
    }
    CHECK(pthread_create(&threads[4], NULL, flushes, NULL) == 0);
    for (int number = 0; number < forks; number++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            // Every lock of the C library is free here.
            FILE *file = fopen("/proc/self/status", "r");
            CHECK(file != NULL);
            char *line = NULL;
            size_t bytes = 0;
            CHECK(getline(&line, &bytes, file) > 0);
            CHECK(fclose(file) == 0);
            free(line);
            pthread_t thread;
            if (number % 4 == 0) {
                stop = 1;
                CHECK(pthread_create(&thread, NULL, flushes, NULL) == 0);
                CHECK(pthread_join(thread, NULL) == 0);
            }
            // And what it asks of a child of its own.
            pid_t grandchild = number % 8 == 1 ? fork() : 0;
            int status = 0;
            if (grandchild > 0) CHECK(waitpid(grandchild, &status, 0) == grandchild);
            _exit(status != 0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    stop = 1;
    for (int at = 0; at < 5; at++) pthread_join(threads[at], NULL);
    return 0;
}
