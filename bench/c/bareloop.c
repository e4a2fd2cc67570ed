/* The ceiling: one process writes a buffer to N Unix sockets, N processes
 * read(2) it and look at nothing.
 *
 *   bareloop SUBSCRIBERS RECORDS
 *
 * No table, no protocol, no event loop, nobody who comes late. The buffer is
 * RECORDS records of 40 bytes. It goes out in chunks, one chunk to each socket
 * in turn, with blocking writes: of blocking and polled writes, whole buffers
 * and chunks from 16 to 256 KiB, and reads from 16 to 256 KiB, this was the
 * fastest at 8, 64 and 256 readers.
 *
 * Prints one line: deliveries, nanoseconds from the first write to the last
 * reader's last byte.
 */
#define _GNU_SOURCE
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BYTES = 40, CHUNK_BYTES = 128 * 1024, READ_BYTES = 32 * 1024, CACHE_LINE = 64 };

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void reader(int fd, size_t bytes, int ready, unsigned long long *ended_ns)
{
	char *buffer = malloc(READ_BYTES);
	size_t got = 0;

	if (!buffer)
		err(1, "malloc");
	memset(buffer, 0, READ_BYTES);
	if (write(ready, "r", 1) != 1)
		err(1, "ready");
	while (got < bytes) {
		ssize_t n = read(fd, buffer, READ_BYTES);

		if (n <= 0)
			err(1, "read");
		got += n;
	}
	*ended_ns = now_ns();
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(1, "usage: bareloop SUBSCRIBERS RECORDS");
	int subscribers = atoi(argv[1]);
	size_t bytes = strtoul(argv[2], NULL, 10) * RECORD_BYTES;
	if (subscribers < 1 || !bytes)
		errx(1, "nothing to do");

	char *ended = mmap(NULL, (size_t)subscribers * CACHE_LINE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *buffer = malloc(bytes);
	int *fds = calloc(subscribers, sizeof(*fds));
	int ready[2];
	if (ended == MAP_FAILED || !buffer || !fds || pipe(ready))
		err(1, "set up");
	memset(buffer, 7, bytes);

	for (int i = 0; i < subscribers; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			err(1, "socketpair");
		pid_t pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (int k = 0; k < i; k++)
				close(fds[k]);
			close(pair[0]);
			reader(pair[1], bytes, ready[1],
			       (unsigned long long *)(ended + (size_t)i * CACHE_LINE));
		}
		close(pair[1]);
		fds[i] = pair[0];
	}
	for (int i = 0; i < subscribers; i++) {
		char one;

		if (read(ready[0], &one, 1) != 1)
			err(1, "wait for the readers");
	}

	unsigned long long begun_ns = now_ns();
	for (size_t at = 0; at < bytes; at += CHUNK_BYTES) {
		size_t length = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;

		for (int i = 0; i < subscribers; i++) {
			size_t written = 0;

			while (written < length) {
				ssize_t n = write(fds[i], buffer + at + written, length - written);

				if (n <= 0)
					err(1, "write");
				written += n;
			}
		}
	}

	unsigned long long last_ns = 0;
	for (int i = 0; i < subscribers; i++) {
		int status;

		if (wait(&status) < 0 || status)
			errx(1, "a reader failed");
	}
	for (int i = 0; i < subscribers; i++) {
		unsigned long long ns = *(unsigned long long *)(ended + (size_t)i * CACHE_LINE);

		if (ns > last_ns)
			last_ns = ns;
	}
	printf("%zu %llu\n", subscribers * (bytes / RECORD_BYTES), last_ns - begun_ns);
	return 0;
}
