/* Objects of every kind, made and held by plain C: objects NAME KEY DIRECTORY.
 * Prints `KIND ID` for each, `ready`, then waits for the end of its standard
 * input, and removes everything. Children wait in every call that can be known. */
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t children[8];
static int count;
#define CHECK(call) do { if ((long)(call) == -1) { perror(#call); exit(1); } } while (0)

/* A child that waits, and what for. */
static int waits(const char *kind) {
    pid_t parent = getpid(), child = fork();
    if (child) { printf("waits-%s %d\n", kind, child); children[count++] = child; return 0; }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    return 1;
}

static unsigned long inode(int fd) {
    struct stat st;
    CHECK(fstat(fd, &st));
    return st.st_ino;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const char *name = argv[1];
    key_t key = atoi(argv[2]);
    char fifo[256];
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    snprintf(fifo, sizeof fifo, "%s/fifo", argv[3]);
    snprintf(at.sun_path, sizeof at.sun_path, "%s/socket", argv[3]);
    setvbuf(stdout, NULL, _IONBF, 0);

    struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 16 };
    mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &attr);
    CHECK(q);
    int shm = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(shm);
    CHECK(ftruncate(shm, 12288));
    CHECK(mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, shm, 0));
    close(shm); /* held by the map alone */
    sem_t *sem = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(sem == SEM_FAILED ? -1 : 0);
    int msg = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(msg);
    int seg = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0604);
    CHECK(seg);
    CHECK(shmat(seg, NULL, 0));
    int set = semget(key, 1, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(set);
    CHECK(semctl(set, 0, SETVAL, 0));
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), a = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&at, sizeof at));
    CHECK(listen(listener, 5));
    CHECK(connect(a, (struct sockaddr *)&at, sizeof at));
    int b = accept(listener, NULL, NULL);
    CHECK(b);
    CHECK(mkfifo(fifo, 0600));
    int f = open(fifo, O_RDWR), p[2];
    CHECK(f);
    CHECK(pipe(p));
    int mem = memfd_create("objects-memfd", 0);
    CHECK(mem);
    CHECK(ftruncate(mem, 4096));
    int event = eventfd(7, EFD_SEMAPHORE);
    CHECK(event);
    CHECK(write(f, "12345", 5));
    printf("sysv-mq %d\nsysv-shm %d\nsysv-sem %d\n", msg, seg, set);
    printf("pipe %lu\nmemfd %lu\nlistener %lu\nclient %lu\naccepted %lu\n", inode(p[0]), inode(mem), inode(listener), inode(a), inode(b));

    char buffer[64];
    unsigned priority;
    struct { long type; char text[16]; } message;
    struct sembuf down = { 0, -1, 0 };
    if (waits("mq")) _exit(mq_receive(q, buffer, sizeof buffer, &priority) < 0);
    if (waits("sem")) _exit(sem_wait(sem));
    if (waits("sysv-mq")) _exit(msgrcv(msg, &message, sizeof message.text, 1, 0) < 0);
    if (waits("sysv-sem")) _exit(semop(set, &down, 1));
    if (waits("pipe")) { close(p[1]); _exit(read(p[0], buffer, 1) != 1); }
    if (waits("unix")) _exit(accept(listener, NULL, NULL) < 0);
    printf("ready\n");
    while (read(0, buffer, sizeof buffer) > 0) ;
    for (int n = 0; n < count; n++) { kill(children[n], SIGKILL); waitpid(children[n], NULL, 0); }
    mq_unlink(name);
    shm_unlink(name);
    sem_unlink(name);
    msgctl(msg, IPC_RMID, NULL);
    shmctl(seg, IPC_RMID, NULL);
    semctl(set, 0, IPC_RMID);
    unlink(fifo);
    unlink(at.sun_path);
    return 0;
}
