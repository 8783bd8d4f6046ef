// A library with static thread-local storage; LETTERS is how much.
static __thread __attribute__((tls_model("initial-exec"))) int count;
static __thread __attribute__((tls_model("initial-exec"))) char letters[LETTERS];

int *counter(void) {
    letters[count % LETTERS]++;
    return &count;
}

// For programs that look at stacks through a library opened late.
void *through_library(void *(*call)(unsigned long), unsigned long argument) {
    void *result = call(argument);
    letters[0] += result != 0;
    return result;
}
