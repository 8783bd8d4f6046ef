// What the C library allocates for itself, at times when it holds locks of its own or is not
// ready: by dlsym and its errors, stdio, locales, conversions, threads, the environment;
// before main, in threads, and in a thread's first allocation.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <iconv.h>
#include <locale.h>
#include <pthread.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

extern char **environ;
static int rounds = 0;

static void *first_of_a_thread(void *symbol) {
    // Whichever comes first is this thread's first allocation, with the key's block or the
    // error's text.
    if (symbol != NULL) CHECK(dlsym(RTLD_DEFAULT, symbol) == NULL && dlerror() != NULL);
    char text[64];
    CHECK(snprintf(text, sizeof text, "%.3f %ls", 0.5, L"wide") == 10);
    return strdup(text);
}

static void use_everything(void) {
    CHECK(dlsym(RTLD_DEFAULT, "malloc") != NULL && dlsym(RTLD_NEXT, "free") != NULL);
    CHECK(dlsym(RTLD_DEFAULT, "no such symbol") == NULL);
    CHECK(strstr(dlerror(), "no such symbol") != NULL);
    CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == NULL && dlerror() != NULL);

    CHECK(setlocale(LC_ALL, rounds % 2 ? "C" : "C.UTF-8") != NULL);
    locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
    CHECK(locale != NULL);
    locale_t copy = duplocale(locale);
    uselocale(copy);
    uselocale(LC_GLOBAL_LOCALE);
    freelocale(copy);
    freelocale(locale);
    iconv_t conversion = iconv_open("UTF-16", "ISO-8859-1");
    if (conversion != (iconv_t)-1) iconv_close(conversion);

    FILE *file = tmpfile();
    CHECK(file != NULL && setvbuf(file, NULL, _IOFBF, 70000) == 0);
    for (int at = 0; at < 3000; at++) fprintf(file, "%0*d\n", 1 + at % 90, at);
    rewind(file);
    char *line = NULL;
    size_t room = 0;
    int lines = 0;
    while (getline(&line, &room, file) > 0) lines++;
    CHECK(lines == 3000);
    free(line);
    fclose(file);
    char *memory = NULL;
    FILE *stream = open_memstream(&memory, &room);
    for (int at = 0; at < 3000; at++) fprintf(stream, "%d,", at);
    fclose(stream);
    CHECK(strlen(memory) == room);
    free(memory);
    CHECK(setenv("REENTER", "once", 1) == 0 && putenv(strdup("REENTERED=twice")) == 0);

    char *symbols[] = {NULL, "no such symbol, asked by a thread"};
    for (int at = 0; at < 2; at++) {
        pthread_t thread;
        void *text;
        CHECK(pthread_create(&thread, NULL, first_of_a_thread, symbols[at]) == 0);
        CHECK(pthread_join(thread, &text) == 0 && strcmp(text, "0.500 wide") == 0);
        free(text);
    }
    FILE *pipe = popen("exit 7", "r");
    CHECK(pipe != NULL && WEXITSTATUS(pclose(pipe)) == 7);
    char *arguments[] = {"true", NULL};
    pid_t child;
    int status;
    CHECK(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    rounds++;
}

__attribute__((constructor(101))) static void before_main(void) { use_everything(); }

__attribute__((destructor)) static void after_main(void) {
    use_everything();
    CHECK(rounds == 3);
}

int main(void) {
    use_everything();
    return 0;
}
