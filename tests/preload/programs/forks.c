// Children made while other threads allocate, end, print, read lines and open and close a
// library: each must come to its end. Every kind in turn: fork and exit, fork and _exit,
// vfork, posix_spawn, fork and exec. Argument: how many.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static volatile int stop = 0;
static void *shared[64];
extern char **environ;

static void churn(unsigned *seed, int rounds) {
    void *blocks[100] = {0};
    for (int round = 0; round < rounds; round++) {
        *seed = *seed * 1103515245 + 12345;
        int at = (*seed >> 8) % 100;
        free(blocks[at]);
        blocks[at] = malloc((*seed >> 16) % (round % 50 == 0 ? 200000 : 2000));
        if (round % 16 == 0) {
            // A block that another thread frees.
            free(__atomic_exchange_n(&shared[at % 64], malloc(48), __ATOMIC_ACQ_REL));
        }
    }
    for (int at = 0; at < 100; at++) free(blocks[at]);
}

static void *ends(void *argument) {
    unsigned seed = *(unsigned *)argument;
    churn(&seed, 100);
    return NULL;
}

static void *busy(void *argument) {
    unsigned seed = (unsigned)(size_t)argument;
    FILE *null = fopen("/dev/null", "w");
    while (!stop) {
        churn(&seed, 400);
        fprintf(null, "%u %f\n", seed, seed / 3.0);
        pthread_t thread;
        if (pthread_create(&thread, NULL, ends, &seed) == 0) pthread_join(thread, NULL);
    }
    fclose(null);
    return NULL;
}

// Held while a child is made that calls `exit`: glibc's own lock of what runs then, which
// `dlclose` takes, stays locked in a child.
static pthread_mutex_t closing = PTHREAD_MUTEX_INITIALIZER;
static volatile int exits = 0;

static void *opens(void *argument) {
    while (!stop) {
        while (exits) usleep(20);
        pthread_mutex_lock(&closing);
        void *handle = dlopen(argument, RTLD_NOW | RTLD_LOCAL);
        CHECK(handle != NULL);
        CHECK(dlsym(handle, "cos") != NULL);
        CHECK(dlclose(handle) == 0);
        pthread_mutex_unlock(&closing);
    }
    return NULL;
}

static void *reads(void *argument) {
    char *line = NULL;
    size_t bytes = 0;
    while (!stop) {
        FILE *maps = fopen("/proc/self/maps", "r"), *null = fopen("/dev/null", "w");
        CHECK(maps != NULL && null != NULL);
        while (getline(&line, &bytes, maps) > 0) {
            fputs(line, null);
            fflush(null);
        }
        fclose(null);
        fclose(maps);
        // The next one is allocated anew.
        free(line);
        line = NULL;
        bytes = 0;
    }
    return argument;
}

static void in_child(int number) {
    unsigned seed = number;
    churn(&seed, 200);
    if (number % 4 == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, ends, &seed) == 0);
        pthread_join(thread, NULL);
    }
}

static pid_t start(int number, char *program) {
    char *arguments[] = {program, "child", NULL};
    pid_t child;
    switch (number % 8) {
    case 0:
        CHECK(posix_spawn(&child, program, NULL, NULL, arguments, environ) == 0);
        return child;
    case 1:
        child = vfork();
        if (child == 0) {
            execv(program, arguments);
            _exit(1);
        }
        return child;
    case 2:
        child = vfork();
        if (child == 0) _exit(0);
        return child;
    case 3:
        child = fork();
        if (child == 0) {
            in_child(number);
            execv(program, arguments);
            _exit(1);
        }
        return child;
    case 4:
        child = fork();
        if (child == 0) {
            // A child of its own.
            pid_t grandchild = fork();
            in_child(number);
            if (grandchild == 0) _exit(0);
            int status;
            CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
            exit(0);
        }
        return child;
    default:
        child = fork();
        if (child == 0) {
            in_child(number);
            if (number % 2) exit(0);
            _exit(0);
        }
        return child;
    }
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "child") == 0) return 0;
    int forks = count > 1 ? atoi(arguments[1]) : 1000;
    pthread_t threads[5];
    for (size_t at = 0; at < 3; at++) {
        CHECK(pthread_create(&threads[at], NULL, busy, (void *)(at + 1)) == 0);
    }
    CHECK(pthread_create(&threads[3], NULL, reads, NULL) == 0);
    CHECK(pthread_create(&threads[4], NULL, opens, "libm.so.6") == 0);
    unsigned seed = 4;
    for (int number = 0; number < forks; number++) {
        // The thread that forks allocates, too, and leaves something to free.
        churn(&seed, 50);
        free(__atomic_exchange_n(&shared[number % 64], malloc(48), __ATOMIC_ACQ_REL));
        exits = number % 8 == 4 || number % 8 == 5 || number % 8 == 7;
        if (exits) pthread_mutex_lock(&closing);
        pid_t child = start(number, arguments[0]);
        if (exits) pthread_mutex_unlock(&closing);
        exits = 0;
        CHECK(child > 0);
        // A child that hangs for a minute is a failure, and is left to a debugger.
        int status, waited = 0;
        while (waitpid(child, &status, WNOHANG) == 0) {
            CHECK(++waited < 600000);
            usleep(100);
        }
        if (status != 0) fprintf(stderr, "child %d of kind %d: status %d\n", number, number % 8, status);
        CHECK(status == 0);
    }
    stop = 1;
    for (int at = 0; at < 5; at++) pthread_join(threads[at], NULL);
    return 0;
}
