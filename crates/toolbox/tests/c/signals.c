/* The other side of the tests of pipes and signals. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what) { perror(what); exit(1); }
static void nothing(int n) { (void)n; }
static void ready(void) { puts("ready"); fflush(stdout); }
static void wait_for_line(void) { char c; while (read(0, &c, 1) == 1 && c != '\n'); }

static pthread_barrier_t set;

static void *thread(void *arg) {
    (void)arg;
    pthread_setname_np(pthread_self(), "second");
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    sigaddset(&s, SIGRTMIN + 1);
    pthread_sigmask(SIG_SETMASK, &s, NULL);
    raise(SIGUSR2); /* to this thread, held back */
    pthread_barrier_wait(&set);
    wait_for_line();
    exit(0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    if (!strcmp(argv[1], "describe")) { /* number, name, description */
        for (int n = 1; n <= SIGRTMAX; n++)
            if (sigabbrev_np(n)) printf("%d %s %s\n", n, sigabbrev_np(n), sigdescr_np(n));
            else if (n >= SIGRTMIN) printf("%d - %s\n", n, strsignal(n));
    } else if (!strcmp(argv[1], "values")) { /* values COUNT [LIMIT]: held back, then read in order */
        if (argc > 3) {
            struct rlimit l = { atoi(argv[3]), atoi(argv[3]) };
            if (setrlimit(RLIMIT_SIGPENDING, &l)) die("setrlimit");
        }
        sigset_t s;
        sigfillset(&s);
        sigprocmask(SIG_BLOCK, &s, NULL);
        ready();
        wait_for_line();
        for (int n = 0; n < atoi(argv[2]); n++) {
            siginfo_t i;
            if (sigwaitinfo(&s, &i) < 0) die("sigwaitinfo");
            printf("%d %d %d %d\n", i.si_signo - SIGRTMIN, i.si_value.sival_int, i.si_code == SI_QUEUE, i.si_pid);
        }
    } else if (!strcmp(argv[1], "masks")) {
        sigset_t s;
        sigemptyset(&s);
        sigaddset(&s, SIGUSR1);
        sigprocmask(SIG_SETMASK, &s, NULL);
        signal(SIGHUP, SIG_IGN);
        signal(SIGINT, nothing);
        signal(SIGRTMIN + 2, nothing);
        pthread_t t;
        sigaddset(&s, SIGUSR2); /* the second thread begins with more, and sets its own */
        sigprocmask(SIG_SETMASK, &s, NULL);
        pthread_barrier_init(&set, NULL, 2);
        if (pthread_create(&t, NULL, thread, NULL)) die("pthread_create");
        pthread_barrier_wait(&set); /* pthread_create blocks all signals for a moment */
        ready();
        pthread_join(t, NULL);
    } else if (!strcmp(argv[1], "fifo-write")) { /* fifo-write PATH TEXT */
        int fd = open(argv[2], O_WRONLY);
        if (fd < 0) die("open");
        if (write(fd, argv[3], strlen(argv[3])) < 0) die("write");
    } else if (!strcmp(argv[1], "fifo-read")) { /* fifo-read PATH [BYTES]: then the end is closed */
        int fd = open(argv[2], O_RDONLY);
        if (fd < 0) die("open");
        char buffer[4096];
        long left = argc > 3 ? atol(argv[3]) : 1L << 40;
        ssize_t n;
        while (left > 0 && (n = read(fd, buffer, left < 4096 ? left : 4096)) > 0) {
            if (fwrite(buffer, 1, n, stdout) != (size_t)n) die("fwrite");
            left -= n;
        }
    } else if (!strcmp(argv[1], "kill")) { /* kill PID NUMBER VALUE */
        union sigval v = { .sival_int = atoi(argv[4]) };
        if (sigqueue(atoi(argv[2]), atoi(argv[3]), v)) die("sigqueue");
    } else return 2;
    return 0;
}
