/* The loops of `ipc bench` in bare C, for the comparison in the same run.
 * Usage: mechanisms MECHANISM BYTES CORE OTHER TRIPS MESSAGES; prints the p50 of
 * a round trip in nanoseconds and messages a second. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 200
#define WINDOW 16 /* datagrams and signals: so many, then an answer */
static void die(const char *what) { perror(what); exit(1); }
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set)) die("sched_setaffinity");
}

enum how { FDS, QUEUES, SYSV, SLOTS, SIGNALS } how;
static int rd, wr, from_id, to_id;
static mqd_t from_q, to_q;
static int pidfd; /* the other process, to signal it */
struct slot { sem_t full, empty; char data[8192 - 2 * sizeof(sem_t)]; } *from_s, *to_s;
static struct { long type; char text[8192]; } envelope;

static void put(const char *message, size_t len) {
    switch (how) {
    case FDS:
        while (len) { ssize_t n = write(wr, message, len); if (n < 0) die("write"); message += n; len -= n; }
        break;
    case QUEUES: if (mq_send(to_q, message, len, 0)) die("mq_send"); break;
    case SYSV:
        envelope.type = 1;
        memcpy(envelope.text, message, len);
        if (msgsnd(to_id, &envelope, len, 0)) die("msgsnd");
        break;
    case SLOTS:
        while (sem_wait(&to_s->empty)) ;
        memcpy(to_s->data, message, len);
        sem_post(&to_s->full);
        break;
    case SIGNALS: {
        /* as sigqueue(3) fills it; one after the other: the fields are of one union,
         * and of an initialiser only the last would stay */
        siginfo_t info = { .si_signo = SIGRTMIN, .si_code = SI_QUEUE };
        info.si_pid = getpid();
        info.si_uid = getuid();
        info.si_value.sival_int = 7;
        if (syscall(SYS_pidfd_send_signal, pidfd, SIGRTMIN, &info, 0)) die("pidfd_send_signal");
    }
    }
}

static void get(char *message, size_t len) {
    unsigned priority;
    switch (how) {
    case FDS:
        while (len) { ssize_t n = read(rd, message, len); if (n <= 0) die("read"); message += n; len -= n; }
        break;
    case QUEUES: if (mq_receive(from_q, message, len, &priority) < 0) die("mq_receive"); break;
    case SYSV:
        if (msgrcv(from_id, &envelope, sizeof envelope.text, 0, 0) < 0) die("msgrcv");
        memcpy(message, envelope.text, len);
        break;
    case SLOTS:
        while (sem_wait(&from_s->full)) ;
        memcpy(message, from_s->data, len);
        sem_post(&from_s->empty);
        break;
    case SIGNALS: {
        struct signalfd_siginfo info;
        while (read(rd, &info, sizeof info) < 0) {
            struct pollfd fd = { .fd = rd, .events = POLLIN };
            if (poll(&fd, 1, -1) < 0) die("poll");
        }
    }
    }
}

static int compare(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    const char *what = argv[1];
    size_t bytes = atoi(argv[2]);
    long trips = atol(argv[5]), messages = atol(argv[6]);
    int there[2], here[2], theirs_rd = -1, theirs_wr = -1;
    char a[64], b[64];
    snprintf(a, sizeof a, "/ipc-bench-c-%d-a", getpid());
    snprintf(b, sizeof b, "/ipc-bench-c-%d-b", getpid());
    struct slot *slots = NULL;
    if (!strcmp(what, "pipe")) {
        if (pipe(there) || pipe(here)) die("pipe");
        rd = here[0]; wr = there[1]; theirs_rd = there[0]; theirs_wr = here[1];
    } else if (!strcmp(what, "fifo")) {
        char directory[] = "/tmp/ipc-bench-c-XXXXXX", path[2][64];
        if (!mkdtemp(directory)) die("mkdtemp");
        int *ends[2] = { there, here };
        for (int n = 0; n < 2; n++) {
            snprintf(path[n], sizeof path[n], "%s/%d", directory, n);
            if (mkfifo(path[n], 0600)) die("mkfifo");
            ends[n][0] = open(path[n], O_RDONLY | O_NONBLOCK);
            ends[n][1] = open(path[n], O_WRONLY);
            if (ends[n][0] < 0 || ends[n][1] < 0 || fcntl(ends[n][0], F_SETFL, 0)) die("open");
            unlink(path[n]);
        }
        rmdir(directory);
        rd = here[0]; wr = there[1]; theirs_rd = there[0]; theirs_wr = here[1];
    } else if (!strcmp(what, "udp")) {
        struct sockaddr_in at[2] = { 0 };
        socklen_t len = sizeof at[0];
        int fd[2];
        for (int n = 0; n < 2; n++) {
            at[n].sin_family = AF_INET;
            at[n].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            fd[n] = socket(AF_INET, SOCK_DGRAM, 0);
            if (bind(fd[n], (void *)&at[n], len) || getsockname(fd[n], (void *)&at[n], &len)) die("bind");
        }
        if (connect(fd[0], (void *)&at[1], len) || connect(fd[1], (void *)&at[0], len)) die("connect");
        rd = wr = fd[0]; theirs_rd = theirs_wr = fd[1];
    } else if (!strcmp(what, "signal")) {
        how = SIGNALS;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN);
        if (sigprocmask(SIG_BLOCK, &set, NULL)) die("sigprocmask");
        /* each reads the signals of the process that reads */
        rd = signalfd(-1, &set, SFD_NONBLOCK);
        if (rd < 0) die("signalfd");
    } else if (!strncmp(what, "unix-", 5)) {
        int type = !strcmp(what, "unix-stream") ? SOCK_STREAM : !strcmp(what, "unix-dgram") ? SOCK_DGRAM : SOCK_SEQPACKET;
        if (socketpair(AF_UNIX, type, 0, there)) die("socketpair");
        rd = wr = there[0]; theirs_rd = theirs_wr = there[1];
    } else if (!strcmp(what, "tcp")) {
        int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof at;
        if (bind(listener, (void *)&at, len) || listen(listener, 1) || getsockname(listener, (void *)&at, &len)) die("listen");
        rd = wr = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(rd, (void *)&at, len)) die("connect");
        theirs_rd = theirs_wr = accept(listener, NULL, NULL);
        setsockopt(rd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(theirs_rd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    } else if (!strcmp(what, "eventfd")) {
        there[0] = eventfd(0, EFD_SEMAPHORE); here[0] = eventfd(0, EFD_SEMAPHORE);
        rd = here[0]; wr = there[0]; theirs_rd = there[0]; theirs_wr = here[0];
    } else if (!strcmp(what, "mq")) {
        struct mq_attr attr = { .mq_maxmsg = 10, .mq_msgsize = bytes };
        how = QUEUES;
        to_q = mq_open(a, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
        from_q = mq_open(b, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
        mq_unlink(a); mq_unlink(b);
        if (to_q < 0 || from_q < 0) die("mq_open");
    } else if (!strcmp(what, "sysv-mq")) {
        how = SYSV;
        to_id = msgget(IPC_PRIVATE, 0600); from_id = msgget(IPC_PRIVATE, 0600);
        if (to_id < 0 || from_id < 0) die("msgget");
    } else if (!strcmp(what, "shm-sem")) {
        how = SLOTS;
        slots = mmap(NULL, 2 * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        for (int n = 0; n < 2; n++) { sem_init(&slots[n].full, 1, 0); sem_init(&slots[n].empty, 1, 1); }
        to_s = &slots[0]; from_s = &slots[1];
    } else return 2;

    char *message = malloc(bytes);
    memset(message, what[0] == 'e' ? 0 : 'x', bytes);
    if (what[0] == 'e') message[0] = 1;
    int windowed = !strcmp(what, "udp") || how == SIGNALS;
    pid_t parent = getpid(), child = fork();
    pidfd = syscall(SYS_pidfd_open, child ? child : parent, 0);
    if (pidfd < 0) die("pidfd_open");
    if (!child) {
        pin(atoi(argv[4]));
        if (how == FDS) { rd = theirs_rd; wr = theirs_wr; }
        mqd_t q = from_q; from_q = to_q; to_q = q;
        int id = from_id; from_id = to_id; to_id = id;
        struct slot *s = from_s; from_s = to_s; to_s = s;
        put(message, bytes);
        for (long n = 0; n < WARM_UP + trips; n++) { get(message, bytes); put(message, bytes); }
        for (long n = 1; n <= messages; n++) { get(message, bytes); if (windowed && n % WINDOW == 0) put(message, bytes); }
        put(message, bytes);
        _exit(0);
    }
    pin(atoi(argv[3]));
    long *each = malloc(trips * sizeof *each);
    get(message, bytes);
    for (long n = 0; n < WARM_UP + trips; n++) {
        long start = now();
        put(message, bytes);
        get(message, bytes);
        if (n >= WARM_UP) each[n - WARM_UP] = now() - start;
    }
    long start = now();
    for (long n = 1; n <= messages; n++) { put(message, bytes); if (windowed && n % WINDOW == 0) get(message, bytes); }
    get(message, bytes);
    double seconds = (now() - start) / 1e9;
    qsort(each, trips, sizeof *each, compare);
    printf("%ld %.0f\n", each[(trips - 1) / 2], messages / seconds);
    int status;
    waitpid(child, &status, 0);
    if (how == SYSV) { msgctl(to_id, IPC_RMID, NULL); msgctl(from_id, IPC_RMID, NULL); }
    return status != 0;
}
