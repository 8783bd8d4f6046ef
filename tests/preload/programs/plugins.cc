// A program that brings the C++ library and operators of its own, exports them, as compilers do
// for their plugins, and opens libraries: no other C++ library is there to look into.
#include <cstdlib>
#include <dlfcn.h>
#include <new>
#include <string>
#include <vector>

#include "check.h"

static long made = 0;

void *operator new(std::size_t bytes) {
    made++;
    void *block = std::malloc(bytes);
    if (block == nullptr) std::abort();
    return block;
}

void operator delete(void *block) noexcept { std::free(block); }
void operator delete(void *block, std::size_t) noexcept { std::free(block); }

int main() {
    void *math = dlopen("libm.so.6", RTLD_NOW);
    CHECK(math != nullptr && dlsym(math, "cos") != nullptr);
    CHECK(dlopen("libno-such.so.1", RTLD_NOW) == nullptr);
    CHECK(std::string(dlerror()).find("libno-such.so.1") != std::string::npos);
    std::vector<std::string> texts;
    for (int at = 0; at < 1000; at++) texts.push_back(std::string(at, 'x'));
    CHECK(made > 900);
    delete[] new (std::nothrow) std::string[7];
    return 0;
}
