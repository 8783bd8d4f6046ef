// Opens a library whose initializer waits for a thread. Argument: the library.
#include <dlfcn.h>
#include <unistd.h>

#include "check.h"

int main(int count, char **arguments) {
    // Of a thread that waits for ever.
    alarm(60);
    CHECK(count == 2);
    void *handle = dlopen(arguments[1], RTLD_NOW);
    CHECK(handle != NULL);
    int (*has_joined)(void) = (int (*)(void))dlsym(handle, "has_joined");
    CHECK(has_joined != NULL && has_joined());
    return 0;
}
