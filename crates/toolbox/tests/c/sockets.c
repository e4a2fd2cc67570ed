/* The other side of ipc sock, in plain C: client and server of Unix sockets,
 * and a sender of a descriptor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <fcntl.h>
#include <unistd.h>

static void die(const char *what) { perror(what); exit(1); }

static int open_socket(const char *kind, const char *path, struct sockaddr_un *to) {
    int type = !strcmp(kind, "dgram") ? SOCK_DGRAM : !strcmp(kind, "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    strncpy(to->sun_path, path, sizeof to->sun_path - 1);
    int fd = socket(AF_UNIX, type, 0);
    if (fd < 0) die("socket");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct sockaddr_un to;
    int fd = open_socket(argv[2], argv[3], &to);
    char buffer[256];
    ssize_t count;
    if (!strcmp(argv[1], "client")) { /* client KIND PATH TEXT: one message, one answer */
        if (!strcmp(argv[2], "dgram") && bind(fd, (struct sockaddr *)&to, sizeof(sa_family_t))) die("bind");
        if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
        if (write(fd, argv[4], strlen(argv[4])) < 0) die("write");
        if ((count = read(fd, buffer, sizeof buffer)) < 0) die("read");
        fwrite(buffer, 1, count, stdout);
    } else if (!strcmp(argv[1], "server")) { /* server KIND PATH: one message, answered in capitals */
        if (bind(fd, (struct sockaddr *)&to, sizeof to)) die("bind");
        int one = fd;
        struct sockaddr_un from;
        socklen_t len = sizeof from;
        if (strcmp(argv[2], "dgram")) {
            if (listen(fd, 1)) die("listen");
            if ((one = accept(fd, NULL, NULL)) < 0) die("accept");
            len = 0;
        }
        if ((count = recvfrom(one, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &len)) < 0) die("recvfrom");
        for (ssize_t n = 0; n < count; n++) if (buffer[n] >= 'a' && buffer[n] <= 'z') buffer[n] -= 32;
        if (sendto(one, buffer, count, 0, len ? (struct sockaddr *)&from : NULL, len) < 0) die("sendto");
        unlink(argv[3]);
    } else if (!strcmp(argv[1], "pass")) { /* pass KIND PATH FILE COUNT: that many descriptors of FILE */
        int file = open(argv[4], O_RDONLY), howmany = atoi(argv[5]);
        char control[CMSG_SPACE(sizeof(int) * 64)] = { 0 };
        struct iovec iov = { "x", 1 };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                                  .msg_controllen = CMSG_SPACE(sizeof(int) * howmany) };
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * howmany);
        for (int n = 0; n < howmany; n++) memcpy(CMSG_DATA(head) + n * sizeof(int), &file, sizeof(int));
        if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
        if (sendmsg(fd, &message, 0) < 0) die("sendmsg");
    } else return 2;
    return 0;
}
