// Known functions of C++ that allocate.
#include <memory>
#include <string>
#include <vector>

namespace app {

struct Node {
    std::string name;
    std::unique_ptr<Node> next;
};

__attribute__((noinline)) std::unique_ptr<Node> chain(int length) {
    std::unique_ptr<Node> head;
    for (int at = 0; at < length; at++) {
        auto node = std::make_unique<Node>();
        node->name.assign(100, 'x');
        node->next = std::move(head);
        head = std::move(node);
    }
    return head;
}

template <typename T> struct Table {
    std::vector<T> rows;
    __attribute__((noinline)) void grow(int rows_more) {
        for (int at = 0; at < rows_more; at++) rows.push_back(T(at));
    }
};

} // namespace app

int main() {
    auto head = app::chain(1000);
    app::Table<long> table;
    table.grow(10000);
    // Freed one by one: a chain's destructor would recurse.
    while (head) head = std::move(head->next);
    return 0;
}
