// Ways to end a process that leave little room for a report: each ends with the status it
// asked for, whatever the reports come to. Also pointers of the C library's own malloc.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

extern void *__libc_malloc(size_t);

static void end(int signal) {
    (void)signal;
    _exit(3);
}

static volatile pid_t forked = -1;

// Parent and child return to what was interrupted, and the parent waits later.
static void fork_here(int signal) {
    (void)signal;
    forked = fork();
}

static void handle_by(void (*handler)(int), int signal, int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    CHECK(sigaction(signal, &action, NULL) == 0);
}

static void handle(int signal, int flags) { handle_by(end, signal, flags); }

// A signal at any instruction of malloc and free.
static void interrupted(int number) {
    handle(SIGALRM, 0);
    ualarm(500 + number * 13, 0);
    void *volatile blocks[100] = {0};
    for (unsigned at = 0;; at++) {
        free(blocks[at % 100]);
        blocks[at % 100] = malloc(at * 7919 % (at % 8 ? 500 : 70000));
    }
}

// A fork by a handler, at any instruction of the same; with one thread, that is allowed.
static void forked_from(int number) {
    handle_by(fork_here, SIGALRM, 0);
    ualarm(500 + number * 13, 0);
    void *volatile blocks[100] = {0};
    for (unsigned at = 0, after = 0; after < 20000; at++) {
        free(blocks[at % 100]);
        blocks[at % 100] = malloc(at * 7919 % (at % 8 ? 500 : 70000));
        if (forked >= 0) after++;
    }
    int status = 3 << 8;
    if (forked > 0) CHECK(waitpid(forked, &status, 0) == forked);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
}

static void *exit_now(void *argument) {
    (void)argument;
    exit(3);
}

static void on_small_stack(int number) {
    (void)number;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    pthread_t thread;
    CHECK(pthread_create(&thread, &attributes, exit_now, NULL) == 0);
    pthread_join(thread, NULL);
}

static void on_signal_stack(int number) {
    (void)number;
    stack_t stack = {.ss_sp = malloc(16384), .ss_size = 16384};
    CHECK(sigaltstack(&stack, NULL) == 0);
    handle(SIGSEGV, SA_ONSTACK);
    *(volatile int *)8 = 1;
}

static void with_foreign_pointers(int number) {
    (void)number;
    for (size_t bytes = 100; bytes < 1000000; bytes *= 10) {
        char *block = __libc_malloc(bytes);
        CHECK(malloc_usable_size(block) >= bytes);
        strcpy(block, "foreign");
        block = realloc(block, bytes * 3);
        CHECK(strcmp(block, "foreign") == 0);
        free(block);
        free(__libc_malloc(bytes));
    }
    exit(3);
}

static void run(void (*work)(int), int number) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        work(number);
        abort();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 3) {
        fprintf(stderr, "number %d: status %x\n", number, status);
        abort();
    }
}

int main(void) {
    for (int number = 0; number < 200; number++) run(interrupted, number);
    for (int number = 0; number < 100; number++) run(forked_from, number);
    run(on_small_stack, 0);
    run(on_signal_stack, 0);
    run(with_foreign_pointers, 0);
    return 0;
}
