// Known functions that allocate known amounts, and children that do, by fork and by exec.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void *volatile held[4100];
extern char **environ;

__attribute__((noinline)) static void *leaf(size_t bytes) {
    void *block = malloc(bytes);
    memset(block, 1, bytes);
    return block;
}

__attribute__((noinline)) static void hold_thousand(void) {
    for (int at = 0; at < 1000; at++) held[at] = leaf(200);
}

__attribute__((noinline)) static void free_half(void) {
    for (int at = 0; at < 1000; at += 2) {
        free(held[at]);
        held[at] = NULL;
    }
}

// In their blocks, which are of 160 bytes.
__attribute__((noinline)) static void hold_grown(void) {
    for (int at = 4000; at < 4100; at++) {
        void *before = leaf(145);
        held[at] = realloc(before, 160);
        CHECK(held[at] == before);
    }
}

__attribute__((noinline)) static void only_in_child(void) {
    for (int at = 1000; at < 1100; at++) held[at] = leaf(1000);
}

__attribute__((noinline)) static void by_library(const char *path) {
    void *handle = dlopen(path, RTLD_NOW);
    CHECK(handle != NULL);
    typedef void *(*Through)(void *(*)(unsigned long), unsigned long);
    Through through = (Through)dlsym(handle, "through_library");
    for (int at = 1100; at < 4000; at++) held[at] = through(leaf, 64);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "executed") == 0) {
        only_in_child();
        return 0;
    }
    hold_thousand();
    free_half();
    hold_grown();
    int status;
    pid_t child = fork();
    if (child == 0) {
        only_in_child();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    char *again[] = {arguments[0], "executed", NULL};
    CHECK(posix_spawn(&child, arguments[0], NULL, NULL, again, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    if (count > 1) by_library(arguments[1]);
    return 0;
}
