/* The other side of the toolbox's interoperation tests, by the plain C calls.
 * Usage: interop VERB ARGUMENTS...; prints what it got; exits 1 with perror. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what) { perror(what); exit(1); }
static int is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static void *segment(const char *name, size_t size) {
    int fd = shm_open(name, O_RDWR, 0);
    if (fd < 0) fail("shm_open");
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) fail("mmap");
    close(fd);
    return p;
}

struct message { long type; char text[8192]; };

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *verb = argv[1], *name = argv[2];
    long number = argc > 3 ? strtol(argv[3], NULL, 0) : 0;

    if (is(verb, "mq_create")) {
        struct mq_attr attr = { .mq_maxmsg = 10, .mq_msgsize = 2048 };
        if (mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attr) == (mqd_t)-1) fail("mq_open");
    } else if (is(verb, "mq_send")) {
        mqd_t q = mq_open(name, O_WRONLY);
        if (q == (mqd_t)-1) fail("mq_open");
        if (mq_send(q, argv[4], strlen(argv[4]), number)) fail("mq_send");
    } else if (is(verb, "mq_receive")) {
        mqd_t q = mq_open(name, O_RDONLY);
        if (q == (mqd_t)-1) fail("mq_open");
        char text[8192]; unsigned priority;
        ssize_t n = mq_receive(q, text, sizeof text, &priority);
        if (n < 0) fail("mq_receive");
        printf("%.*s %u\n", (int)n, text, priority);
    } else if (is(verb, "mq_unlink")) {
        if (mq_unlink(name)) fail("mq_unlink");
    } else if (is(verb, "msg_send")) {
        int q = msgget(atoi(name), 0);
        if (q < 0) fail("msgget");
        struct message m = { .type = number };
        strcpy(m.text, argv[4]);
        if (msgsnd(q, &m, strlen(argv[4]), 0)) fail("msgsnd");
    } else if (is(verb, "msg_receive")) {
        int q = msgget(atoi(name), IPC_CREAT | 0600);
        if (q < 0) fail("msgget");
        struct message m;
        ssize_t n = msgrcv(q, &m, sizeof m.text, number, 0);
        if (n < 0) fail("msgrcv");
        printf("%.*s %ld\n", (int)n, m.text, m.type);
    } else if (is(verb, "shm_create")) {
        int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
        if (fd < 0 || ftruncate(fd, number)) fail("shm_open");
    } else if (is(verb, "shm_write")) {
        strcpy((char *)segment(name, 4096) + number, argv[4]);
    } else if (is(verb, "shm_read")) {
        printf("%s\n", (char *)segment(name, 4096) + number);
    } else if (is(verb, "shmat_create")) {
        int id = shmget(atoi(name), number, IPC_CREAT | IPC_EXCL | 0600);
        if (id < 0) fail("shmget");
        printf("%d\n", id);
    } else if (is(verb, "shmat_write")) {
        char *p = shmat(shmget(atoi(name), 0, 0), NULL, 0);
        if (p == (void *)-1) fail("shmat");
        strcpy(p + number, argv[4]);
    } else if (is(verb, "shmat_read")) {
        char *p = shmat(shmget(atoi(name), 0, 0), NULL, SHM_RDONLY);
        if (p == (void *)-1) fail("shmat");
        printf("%s\n", p + number);
    } else if (is(verb, "shmat_hold")) {
        char *p = shmat(shmget(atoi(name), 0, 0), NULL, SHM_RDONLY);
        if (p == (void *)-1) fail("shmat");
        printf("attached\n"); fflush(stdout);
        getchar();
        printf("%c\n", p[0]);
    } else if (is(verb, "ftok")) {
        printf("%d\n", ftok(name, number));
    } else if (is(verb, "sem_create")) {
        if (sem_open(name, O_CREAT | O_EXCL, 0600, (unsigned)number) == SEM_FAILED) fail("sem_open");
    } else if (is(verb, "sem_post") || is(verb, "sem_wait") || is(verb, "sem_value")) {
        sem_t *s = sem_open(name, 0);
        if (s == SEM_FAILED) fail("sem_open");
        int value;
        if (is(verb, "sem_post") ? sem_post(s) : is(verb, "sem_wait") ? sem_wait(s) : 0) fail(verb);
        if (sem_getvalue(s, &value)) fail("sem_getvalue");
        printf("%d\n", value);
    } else if (is(verb, "unnamed_init")) {
        if (sem_init((sem_t *)((char *)segment(name, 4096) + number), 1, 2)) fail("sem_init");
    } else if (is(verb, "unnamed_post") || is(verb, "unnamed_wait")) {
        sem_t *s = (sem_t *)((char *)segment(name, 4096) + number);
        int value;
        if (is(verb, "unnamed_post") ? sem_post(s) : sem_wait(s)) fail(verb);
        sem_getvalue(s, &value);
        printf("%d\n", value);
    } else if (is(verb, "semset_wait") || is(verb, "semset_post")) {
        struct sembuf op = { 0, is(verb, "semset_post") ? 1 : -1, argc > 3 ? SEM_UNDO : 0 };
        if (semop(semget(atoi(name), 0, 0), &op, 1)) fail("semop");
        if (argc > 3) { printf("taken\n"); fflush(stdout); pause(); }
    } else if (is(verb, "mutex_init")) {
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        if (pthread_mutex_init((pthread_mutex_t *)((char *)segment(name, 4096) + number), &attr)) fail("mutex_init");
    } else if (is(verb, "mutex_hold")) {
        /* Holds it until killed. */
        pthread_mutex_t *m = (pthread_mutex_t *)((char *)segment(name, 4096) + number);
        if (pthread_mutex_lock(m)) fail("mutex_lock");
        printf("held\n"); fflush(stdout);
        for (;;) pause();
    } else if (is(verb, "mutex_lock")) {
        pthread_mutex_t *m = (pthread_mutex_t *)((char *)segment(name, 4096) + number);
        int rc = pthread_mutex_lock(m);
        if (rc == EOWNERDEAD) { pthread_mutex_consistent(m); printf("owner died\n"); }
        else printf("%s\n", rc ? strerror(rc) : "locked");
        if (rc == 0 || rc == EOWNERDEAD) pthread_mutex_unlock(m);
    } else {
        return 2;
    }
    return 0;
}
