// Ends in which a report is to be written though that is hard: a number of MiB of addresses, all used
// up, or "cancelled" with a cancellation waiting. The exit code is what the program says.
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "check.h"

int main(int count, char **arguments) {
    CHECK(count == 2);
    if (strcmp(arguments[1], "cancelled") != 0) {
        rlim_t bytes = (rlim_t)atoi(arguments[1]) << 20;
        struct rlimit limit = {bytes, bytes};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        while (malloc(5000) != NULL) {
        }
    } else {
        CHECK(pthread_cancel(pthread_self()) == 0);
    }
    exit(0);
}
