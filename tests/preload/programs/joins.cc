// A library that waits, while it is opened, for a thread that uses the operators.
#include <thread>
#include <vector>

static int sum = 0;
static bool joined = [] {
    std::thread thread([] {
        std::vector<int> numbers(1000, 1);
        for (int number : numbers) sum += number;
        delete new int(7);
        delete[] new int[7];
    });
    thread.join();
    return sum == 1000;
}();

extern "C" int has_joined() { return joined; }
