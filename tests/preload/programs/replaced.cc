// A program that replaces two operators alone, by ones whose blocks begin behind a header.
// Every other form must come to them, and none of their blocks to anybody else.
#include <cstdint>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

static const std::uint64_t MARK = 0x5ca1ab1e;
static long made = 0, freed = 0;

void *operator new(std::size_t bytes) {
    auto *block = static_cast<std::uint64_t *>(std::malloc(bytes + 16));
    if (block == nullptr) throw std::bad_alloc();
    block[0] = MARK;
    __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    return block + 2;
}

void operator delete(void *block) noexcept {
    if (block == nullptr) return;
    auto *start = static_cast<std::uint64_t *>(block) - 2;
    CHECK(start[0] == MARK);
    start[0] = 0;
    __atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
    std::free(start);
}

static void passes(void *block, void (*release)(void *)) {
    CHECK(block != nullptr && static_cast<std::uint64_t *>(block)[-2] == MARK);
    long before = freed;
    release(block);
    CHECK(freed == before + 1);
}

int main() {
    passes(::operator new(40), [](void *block) { ::operator delete(block); });
    passes(::operator new(40), [](void *block) { ::operator delete(block, 40); });
    passes(::operator new(40, std::nothrow),
           [](void *block) { ::operator delete(block, std::nothrow); });
    passes(::operator new[](40), [](void *block) { ::operator delete[](block); });
    passes(::operator new[](40), [](void *block) { ::operator delete[](block, 40); });
    passes(::operator new[](40, std::nothrow),
           [](void *block) { ::operator delete[](block, std::nothrow); });
    ::operator delete(::operator new(40, std::align_val_t(64)), std::align_val_t(64));
    ::operator delete[](::operator new[](40, std::align_val_t(64)), 40, std::align_val_t(64));
    // What the C++ library allocates and this program frees, and the other way about.
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; thread++) {
        threads.emplace_back([] {
            std::vector<std::string> texts;
            for (int at = 0; at < 1000; at++) texts.push_back(std::string(at, 'x'));
            delete[] new std::string[7];
        });
    }
    for (auto &thread : threads) thread.join();
    threads.clear();
    CHECK(made > 3900);
    return 0;
}
