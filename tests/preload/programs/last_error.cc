// What dlerror tells is of the program's own call, whatever the program allocates in between.
#include <cstdlib>
#include <dlfcn.h>
#include <new>
#include <thread>

#include "check.h"

static void use() {
    ::operator delete(::operator new(40), 40);
    ::operator delete[](::operator new[](40), 40);
    std::free(std::malloc(100));
}

int main() {
    CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == nullptr);
    use();
    CHECK(dlerror() != nullptr);
    std::thread([] {
        CHECK(dlsym(RTLD_DEFAULT, "no such name") == nullptr);
        use();
        CHECK(dlerror() != nullptr);
    }).join();
    return 0;
}
