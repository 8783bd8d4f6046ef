// What glibc frees at the end of threads, after their key destructors: tables of thread-local
// storage of stacks that it drops. The threads themselves allocate and free nothing, and their
// stacks are unmapped when this thread forks and asks for the figures of the heap.

#define _GNU_SOURCE
#include "check.h"
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_BYTES = 1 << 18 };

static volatile int ended;

static void *nothing(void *argument) {
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void start(void *stack) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
    if (stack != NULL)
        CHECK(pthread_attr_setstack(&attributes, stack, STACK_BYTES) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, &attributes, nothing, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
}

static void look(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(mallinfo2().uordblks > 0 ? 7 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(mallinfo2().uordblks > 0);
}

int main(void) {
    free(malloc(1000));
    // More than glibc keeps: eight of 8 MiB.
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 12; i++)
            start(NULL);
        usleep(5000);
    }
    while (ended < 48)
        usleep(1000);
    usleep(50000);
    look();
    // On stacks of this program's own each frees the table of its own.
    for (int i = 0; i < 20; i++) {
        void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED);
        int before = ended;
        start(stack);
        while (ended == before)
            usleep(1000);
        usleep(10000);
        CHECK(munmap(stack, STACK_BYTES) == 0);
    }
    look();
    return 0;
}
