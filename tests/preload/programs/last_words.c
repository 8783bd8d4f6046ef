// Ends in which a report is to be written though that is hard: "full" with no memory left,
// "cancelled" with a cancellation waiting. The exit code is what the program says.
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "check.h"

int main(int count, char **arguments) {
    CHECK(count == 2);
    if (strcmp(arguments[1], "full") == 0) {
        struct rlimit limit = {200 << 20, 200 << 20};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        while (malloc(5000) != NULL) {
        }
    } else {
        CHECK(pthread_cancel(pthread_self()) == 0);
    }
    exit(0);
}
