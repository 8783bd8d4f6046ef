// A C++ program that brings a malloc of its own and no operators: theirs are that malloc's, too.
#include <new>
#include <string>
#include <thread>
#include <vector>

#define main program_in_c
extern "C" {
#include "own_malloc.c"

__attribute__((visibility("default"))) size_t malloc_usable_size(void *block) {
    if (((size_t *)block)[-1] != MAGIC) _exit(5);
    return ((size_t *)block)[-2];
}
}
#undef main

int main() {
    size_t before = freed;
    char *letters = new char[1000];
    if (malloc_usable_size(letters) != 1000) return 6;
    delete[] letters;
    void *block = ::operator new(40);
    if (malloc_usable_size(block) != 40) return 7;
    ::operator delete(block, 40);
    block = ::operator new(41, std::nothrow);
    if (malloc_usable_size(block) != 41) return 8;
    free(block);
    ::operator delete(malloc(42));
    ::operator delete[](malloc(43), std::nothrow);
    if (freed < before + 5) return 9;
    std::thread([] {
        std::vector<std::string> texts;
        for (int at = 0; at < 1000; at++) texts.push_back(std::string(at % 100, 'x'));
    }).join();
    return program_in_c();
}
