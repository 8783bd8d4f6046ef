// Libraries with thread-local storage of the kind that must be placed at once: as many can
// be opened with an allocator in place as without. Arguments: the libraries.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <locale.h>
#include <pthread.h>

#include "check.h"

static void *use(void *handle) {
    int *(*counter)(void) = (int *(*)(void))dlsym(handle, "counter");
    CHECK(counter != NULL);
    CHECK(++*counter() == 1);
    free(malloc(100));
    return NULL;
}

int main(int count, char **arguments) {
    setlocale(LC_ALL, "");
    CHECK(dlsym(RTLD_DEFAULT, "there is no such name") == NULL && dlerror() != NULL);
    int opened = 0;
    for (int at = 1; at < count; at++) {
        void *handle = dlopen(arguments[at], RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL) {
            dlerror();
            break;
        }
        opened++;
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, use, handle) == 0);
        pthread_join(thread, NULL);
    }
    printf("%d\n", opened);
    return 0;
}
