// The operators new and delete: sizes, alignments, handlers, exceptions, and destructors
// of a thread that allocate.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

struct alignas(512) Wide {
    char bytes[700];
};

// Its destructor runs when the thread ends, and makes another one that is to be destroyed.
struct Late {
    std::string text;
    ~Late();
};
static thread_local std::unique_ptr<Late> latest;
static thread_local Late late;
static std::atomic<int> destroyed{0};

Late::~Late() {
    std::vector<std::string> more(100, text + " and what makes it too long to lie inside");
    CHECK(more[99].size() > 40);
    if (text == "the thread's") latest.reset(new Late{"the last"});
    destroyed++;
}

static volatile std::size_t vast = std::size_t(1) << 46;
// Keeps the compiler from leaving out a call of which nothing is used.
static void *volatile result;
static int asked = 0;

static void give_up() {
    if (++asked == 3) std::set_new_handler(nullptr);
}

template <typename Allocate> static bool throws(Allocate allocate) {
    try {
        allocate();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

int main() {
    for (std::size_t bytes = 0; bytes < 100000; bytes = bytes * 3 / 2 + 1) {
        void *block = ::operator new(bytes);
        CHECK(reinterpret_cast<std::uintptr_t>(block) % 16 == 0);
        std::memset(block, 1, bytes);
        ::operator delete(block);
        ::operator delete(::operator new(bytes), bytes);
        ::operator delete[](::operator new[](bytes));
        ::operator delete[](::operator new[](bytes), bytes);
        ::operator delete(::operator new(bytes, std::nothrow), std::nothrow);
        ::operator delete[](::operator new[](bytes, std::nothrow), std::nothrow);
        for (std::size_t align = 1; align <= 1 << 17; align *= 2) {
            std::align_val_t at{align};
            void *aligned = ::operator new(bytes, at);
            CHECK(reinterpret_cast<std::uintptr_t>(aligned) % align == 0);
            std::memset(aligned, 2, bytes);
            ::operator delete(aligned, at);
            ::operator delete(::operator new(bytes, at), bytes, at);
            ::operator delete[](::operator new[](bytes, at), at);
            ::operator delete[](::operator new[](bytes, at), bytes, at);
            ::operator delete(::operator new(bytes, at, std::nothrow), at, std::nothrow);
            ::operator delete[](::operator new[](bytes, at, std::nothrow), at, std::nothrow);
        }
    }

    CHECK(throws([] { result = ::operator new(vast); }));
    CHECK(throws([] { result = ::operator new[](vast); }));
    CHECK(throws([] { result = ::operator new(vast, std::align_val_t(64)); }));
    CHECK(throws([] { result = ::operator new[](vast, std::align_val_t(64)); }));
    CHECK(::operator new(vast, std::nothrow) == nullptr);
    CHECK(::operator new[](vast, std::nothrow) == nullptr);
    CHECK(::operator new(vast, std::align_val_t(64), std::nothrow) == nullptr);
    std::set_new_handler(give_up);
    CHECK(throws([] { result = ::operator new(vast); }) && asked == 3);

    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; thread++) {
        threads.emplace_back([] {
            late.text = "the thread's";
            std::map<std::string, std::vector<Wide>> wide;
            for (int at = 0; at < 300; at++) {
                wide["a key that is too long for the string itself " + std::to_string(at)]
                    .resize(at % 7);
            }
        });
    }
    for (auto &thread : threads) thread.join();
    CHECK(destroyed == 8);
    return 0;
}
