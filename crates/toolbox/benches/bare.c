/* The same loops in bare C, for the comparison in docs/ipc/benchmarks.md.
 * Usage: bare WHAT COUNT NAME; prints nanoseconds per message (or per round
 * trip). The ring is ours, by its layout (crates/ipc/src/ring/mod.rs) and its
 * rules, written as a C programmer would write it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <mqueue.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LEN 64
static void die(const char *what) { perror(what); exit(1); }
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* ---- the ring ---- */
struct ring {
    _Atomic uint64_t *own, *other;      /* positions */
    _Atomic uint32_t *own_flag, *other_flag, *own_bell, *other_bell;
    unsigned char *data;
    uint64_t at, seen, capacity;
    int writer;
};

static struct ring attach(const char *name, int writer) {
    int fd = shm_open(name, O_RDWR, 0);
    if (fd < 0) die("shm_open");
    off_t size = lseek(fd, 0, SEEK_END);
    unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) die("mmap");
    close(fd);
    if (*(uint32_t *)(p + 12) != 1) { fprintf(stderr, "a ring with full fences\n"); exit(1); }
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0)) die("membarrier");
    struct ring r = { .capacity = size - 4096, .data = p + 4096, .writer = writer };
    r.own = (void *)(p + (writer ? 64 : 128));
    r.other = (void *)(p + (writer ? 128 : 64));
    r.own_flag = (void *)(p + (writer ? 136 : 72));
    r.other_flag = (void *)(p + (writer ? 72 : 136));
    r.own_bell = r.own_flag + 1;
    r.other_bell = r.other_flag + 1;
    r.at = r.seen = atomic_load(r.own);
    return r;
}

static inline uint64_t filled(const struct ring *r) { return r->writer ? r->at - r->seen : r->seen - r->at; }
static inline uint64_t room(const struct ring *r) { return r->writer ? r->capacity - filled(r) : filled(r); }

static void sleep_until(struct ring *r, uint64_t wanted) {
    for (;;) {
        uint32_t bell = atomic_load_explicit(r->own_bell, memory_order_acquire);
        atomic_store_explicit(r->own_flag, 1, memory_order_relaxed);
        if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)) die("membarrier");
        r->seen = atomic_load_explicit(r->other, memory_order_acquire);
        if (room(r) >= wanted) { atomic_store_explicit(r->own_flag, 0, memory_order_relaxed); return; }
        struct timespec most = { 0, 100000000 };
        syscall(SYS_futex, r->own_bell, FUTEX_WAIT, bell, &most, NULL, 0);
        r->seen = atomic_load_explicit(r->other, memory_order_acquire);
        if (room(r) >= wanted) return;
    }
}

static inline void await(struct ring *r, uint64_t wanted) {
    if (room(r) >= wanted) return;
    r->seen = atomic_load_explicit(r->other, memory_order_acquire);
    if (room(r) < wanted) sleep_until(r, wanted);
}

static inline void advance(struct ring *r, uint64_t count) {
    r->at += count;
    atomic_store_explicit(r->own, r->at, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    if (atomic_load_explicit(r->other_flag, memory_order_relaxed) && (r->writer || filled(r) <= r->capacity / 2)) {
        atomic_store_explicit(r->other_flag, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(r->other_bell, 1, memory_order_release);
        syscall(SYS_futex, r->other_bell, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static inline void copy_in(struct ring *r, uint64_t at, const void *from, size_t len) {
    size_t start = at & (r->capacity - 1), first = len < r->capacity - start ? len : r->capacity - start;
    memcpy(r->data + start, from, first);
    if (first < len) memcpy(r->data, (const char *)from + first, len - first);
}
static inline void copy_out(struct ring *r, uint64_t at, void *to, size_t len) {
    size_t start = at & (r->capacity - 1), first = len < r->capacity - start ? len : r->capacity - start;
    memcpy(to, r->data + start, first);
    if (first < len) memcpy((char *)to + first, r->data, len - first);
}
/* The head lies in one piece: messages begin, and the capacity is, at a multiple of 8. */
static inline _Atomic uint64_t *head(struct ring *r) { return (void *)(r->data + (r->at & (r->capacity - 1))); }
static void ring_send(struct ring *r, const void *message, uint64_t len) {
    uint64_t all = (8 + len + 7) & ~7ull;
    if (all > r->capacity / 2) die("too long");
    await(r, all);
    atomic_store_explicit(head(r), len, memory_order_relaxed);
    copy_in(r, r->at + 8, message, len);
    advance(r, all);
}
static uint64_t ring_receive(struct ring *r, void *message) {
    await(r, 8);
    uint64_t len = atomic_load_explicit(head(r), memory_order_relaxed);
    if (len > r->capacity / 2 - 8 || ((8 + len + 7) & ~7ull) > room(r)) die("damaged");
    copy_out(r, r->at + 8, message, len);
    advance(r, (8 + len + 7) & ~7ull);
    return len;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *what = argv[1], *name = argv[3];
    long count = atol(argv[2]);
    size_t len = argc > 4 ? (size_t)atol(argv[4]) : LEN; /* not known when this is compiled, as in ours */
    static unsigned char message[8192];
    char back[256];
    snprintf(back, sizeof back, "%s-back", name);
    double start;
    pid_t child;

    if (!strcmp(what, "ring")) {
        if (!(child = fork())) {
            struct ring r = attach(name, 1);
            for (long n = 0; n < count; n++) { memcpy(message, &n, sizeof n); ring_send(&r, message, len); }
            _exit(0);
        }
        struct ring r = attach(name, 0);
        start = now();
        for (long n = 0; n < count; n++) { long got; ring_receive(&r, message); memcpy(&got, message, sizeof got); if (got != n) die("order"); }
    } else if (!strcmp(what, "ring-trip")) {
        if (!(child = fork())) {
            struct ring in = attach(name, 0), out = attach(back, 1);
            for (long n = 0; n < count; n++) { uint64_t len = ring_receive(&in, message); ring_send(&out, message, len); }
            _exit(0);
        }
        struct ring out = attach(name, 1), in = attach(back, 0);
        start = now();
        for (long n = 0; n < count; n++) { ring_send(&out, message, len); ring_receive(&in, message); }
    } else if (!strcmp(what, "queue") || !strcmp(what, "queue-trip")) {
        int trip = !strcmp(what, "queue-trip");
        mqd_t q = mq_open(name, O_RDWR), b = trip ? mq_open(back, O_RDWR) : 0;
        if (q == (mqd_t)-1 || b == (mqd_t)-1) die("mq_open");
        unsigned priority;
        if (!(child = fork())) {
            for (long n = 0; n < count; n++) {
                if (trip) {
                    ssize_t len = mq_receive(q, (char *)message, sizeof message, &priority);
                    if (len < 0 || mq_send(b, (char *)message, len, 0)) die("trip");
                } else if (mq_send(q, (char *)message, LEN, 0)) die("mq_send");
            }
            _exit(0);
        }
        start = now();
        for (long n = 0; n < count; n++) {
            if (trip && mq_send(q, (char *)message, LEN, 0)) die("mq_send");
            if (mq_receive(trip ? b : q, (char *)message, sizeof message, &priority) < 0) die("mq_receive");
        }
    } else if (!strcmp(what, "pipe")) {
        int fds[2];
        if (pipe(fds)) die("pipe");
        if (!(child = fork())) {
            for (long n = 0; n < count; n++) if (write(fds[1], message, LEN) != LEN) die("write");
            _exit(0);
        }
        start = now();
        for (long n = 0; n < count; n++) if (read(fds[0], message, LEN) != LEN) die("read");
    } else return 2;
    printf("%.1f\n", (now() - start) / count);
    int status;
    waitpid(child, &status, 0);
    return status != 0;
}
