/* TLS sessions of a process with itself, through the system's OpenSSL. No argument is a file: the library is opened by name.
 *
 * Every message says whose it is and which, so that a reader of all bytes can tell whether one is missing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGE 32

static void *ssl_library;

#define FUNCTION(result, name, ...) static result (*name)(__VA_ARGS__);
#define FUNCTIONS                                                                                                      \
    FUNCTION(void *, TLS_method, void)                                                                                 \
    FUNCTION(void *, SSL_CTX_new, const void *)                                                                        \
    FUNCTION(int, SSL_CTX_set_cipher_list, void *, const char *)                                                       \
    FUNCTION(long, SSL_CTX_ctrl, void *, int, long, void *)                                                            \
    FUNCTION(void *, SSL_new, void *)                                                                                  \
    FUNCTION(void, SSL_free, void *)                                                                                   \
    FUNCTION(void, SSL_set_bio, void *, void *, void *)                                                                \
    FUNCTION(void, SSL_set_connect_state, void *)                                                                      \
    FUNCTION(void, SSL_set_accept_state, void *)                                                                       \
    FUNCTION(int, SSL_do_handshake, void *)                                                                            \
    FUNCTION(int, SSL_shutdown, void *)                                                                                \
    FUNCTION(int, SSL_write, void *, const void *, int)                                                                \
    FUNCTION(int, SSL_read, void *, void *, int)                                                                       \
    FUNCTION(int, SSL_peek, void *, void *, int)                                                                       \
    FUNCTION(int, SSL_write_ex, void *, const void *, size_t, size_t *)                                                \
    FUNCTION(int, SSL_read_ex, void *, void *, size_t, size_t *)                                                       \
    FUNCTION(int, BIO_new_bio_pair, void **, size_t, void **, size_t)
FUNCTIONS

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "failed: %s\n", what);
        _exit(1);
    }
}

static void load(void) {
    ssl_library = dlopen("libssl.so.3", RTLD_NOW);
    check(ssl_library != NULL, "dlopen");
#undef FUNCTION
#define FUNCTION(result, name, ...)                                                                                    \
    name = (result(*)(__VA_ARGS__))dlsym(RTLD_DEFAULT, #name);                                                         \
    if (!name) name = (result(*)(__VA_ARGS__))dlsym(ssl_library, #name);                                               \
    check(name != NULL, #name);
    FUNCTIONS
}

struct pair {
    void *client, *server;
};

/* Without certificates: neither side knows the other. */
static struct pair make_pair(void) {
    void *context = SSL_CTX_new(TLS_method());
    check(context != NULL, "context");
    check(SSL_CTX_ctrl(context, 124, 0x0303, NULL) == 1, "TLS 1.2 at most");
    check(SSL_CTX_set_cipher_list(context, "AECDH-AES128-SHA:@SECLEVEL=0") == 1, "ciphers");
    struct pair pair = {SSL_new(context), SSL_new(context)};
    void *near, *far;
    check(BIO_new_bio_pair(&near, 1 << 16, &far, 1 << 16) == 1, "pair");
    SSL_set_bio(pair.client, near, near);
    SSL_set_bio(pair.server, far, far);
    SSL_set_connect_state(pair.client);
    SSL_set_accept_state(pair.server);
    for (int done = 0; done != 2;)
        done = (SSL_do_handshake(pair.client) == 1) + (SSL_do_handshake(pair.server) == 1);
    return pair;
}

static void free_pair(struct pair pair) {
    SSL_free(pair.client);
    SSL_free(pair.server);
}

/* By one pair of functions and the other in turn. */
static void exchange(struct pair pair, const char *who, int from, int to) {
    char sent[MESSAGE + 1], got[MESSAGE];
    size_t count;
    for (int i = from; i < to; i++) {
        snprintf(sent, sizeof sent, "%-20s %010d\n", who, i);
        if (i % 2) {
            check(SSL_write(pair.client, sent, MESSAGE) == MESSAGE, "SSL_write");
            check(SSL_peek(pair.server, got, MESSAGE) == MESSAGE, "SSL_peek");
            check(SSL_read(pair.server, got, MESSAGE) == MESSAGE, "SSL_read");
            check(SSL_read(pair.server, got, MESSAGE) < 0, "nothing to read");
        } else {
            check(SSL_write_ex(pair.client, sent, MESSAGE, &count) == 1 && count == MESSAGE, "SSL_write_ex");
            check(SSL_read_ex(pair.server, got, MESSAGE, &count) == 1 && count == MESSAGE, "SSL_read_ex");
            check(SSL_read_ex(pair.server, got + 1, 1, &count) == 0, "nothing to read");
        }
        check(memcmp(sent, got, MESSAGE) == 0, "what was sent comes");
    }
}

static int calls;

static void *work(void *number) {
    char who[16];
    snprintf(who, sizeof who, "thread %ld", (long)number);
    struct pair pair = make_pair();
    exchange(pair, who, 0, calls);
    free_pair(pair);
    return NULL;
}

static void threads(int count) {
    pthread_t started[count];
    for (long i = 0; i < count; i++) check(pthread_create(&started[i], NULL, work, (void *)i) == 0, "pthread_create");
    for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
}

/* A copy of the process goes on with a copy of the session; another leaves it by an exec; a third shares the memory. */
static void forks(char *self) {
    struct pair pair = make_pair();
    exchange(pair, "both", 0, 5);
    pid_t child = fork();
    if (child == 0) {
        exchange(pair, "child", 5, 10);
        execl(self, self, "executed", NULL);
        _exit(1);
    }
    exchange(pair, "parent", 5, 10);
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "the child");
    pid_t shares = vfork();
    if (shares == 0) {
        size_t count;
        SSL_write_ex(pair.client, "vforked\n", 8, &count);
        _exit(0);
    }
    check(waitpid(shares, &status, 0) == shares && status == 0, "the one that shares");
    free_pair(pair);
}

/* The whole of it is given at once, and taken as there is room; it counts once. */
static void large(void) {
    size_t size = 3000000, sent = 0, got = 0;
    unsigned char *out = malloc(size), *in = malloc(size);
    for (size_t i = 0; i < size; i++) out[i] = i * 2654435761U >> 13;
    struct pair pair = make_pair();
    while (got < size) {
        if (sent == 0) {
            int count = SSL_write(pair.client, out, size);
            if (count > 0) sent = count;
        }
        int count = SSL_read(pair.server, in + got, size - got);
        if (count > 0) got += count;
    }
    check(sent == size && memcmp(out, in, size) == 0, "all of it comes");
    SSL_shutdown(pair.client);
    check(SSL_read(pair.server, in, 1) == 0, "the end");
    free_pair(pair);
}

static volatile sig_atomic_t traps;

static void trapped(int signal) {
    (void)signal;
    traps++;
}

/* Breakpoints of its own, and the signal from elsewhere. */
static void own(void) {
    struct pair pair = make_pair();
    check(signal(SIGTRAP, trapped) != SIG_ERR, "signal");
    exchange(pair, "before", 0, 2);
#if defined(__x86_64__)
    __asm__ volatile("int3");
#endif
    raise(SIGTRAP);
    exchange(pair, "after", 2, 4);
    check(traps == 2, "its own signals come");
    free_pair(pair);
}

/* Between the two it closes its memory to tracers without rights. */
static void hides(void) {
    struct pair pair = make_pair();
    exchange(pair, "before", 0, 2);
    check(prctl(PR_SET_DUMPABLE, 0) == 0, "prctl");
    exchange(pair, "after", 2, 4);
    free_pair(pair);
}

/* Says that it is ready, and goes on once somebody writes to a FIFO. Its code is then as it was without a recorder. */
static void waits(void) {
    struct pair pair = make_pair();
    unsigned char now = *(volatile unsigned char *)SSL_write;
    exchange(pair, "before", 0, 2);
    close(open("ready", O_WRONLY | O_CREAT, 0600));
    close(open("go", O_RDONLY));
    exchange(pair, "after", 2, 200);
    unsigned char then = *(volatile unsigned char *)SSL_write;
    printf("%s %s\n", now == 0xcc ? "breakpoint" : "code", then == 0xcc ? "breakpoint" : "code");
    free_pair(pair);
}

/* The library goes, and comes again. */
static void again(void) {
    for (int i = 0; i < 3; i++) {
        struct pair pair = make_pair();
        exchange(pair, "again", 2 * i, 2 * i + 2);
        free_pair(pair);
        dlclose(ssl_library);
        load();
    }
}

int main(int argc, char **argv) {
    check(argc > 1, "usage");
    load();
    calls = argc > 3 ? atoi(argv[3]) : 0;
    if (!strcmp(argv[1], "threads")) threads(atoi(argv[2]));
    if (!strcmp(argv[1], "forks")) forks(argv[0]);
    if (!strcmp(argv[1], "large")) large();
    if (!strcmp(argv[1], "own")) own();
    if (!strcmp(argv[1], "again")) again();
    if (!strcmp(argv[1], "hides")) hides();
    if (!strcmp(argv[1], "waits")) waits();
    if (!strcmp(argv[1], "executed")) exchange(make_pair(), "executed", 0, 3);
    return 0;
}
