/* The floor of latency: one byte over a Unix socket to another process and back.
 *
 *   pingpong ROUNDS
 *
 * Two blocking processes, free to run wherever the kernel puts them. Prints one
 * line: the median and the 99th percentile of the round trip in nanoseconds.
 */
#define _GNU_SOURCE
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP_ROUNDS = 1000 };

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	unsigned long long x = *(const unsigned long long *)a, y = *(const unsigned long long *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	long rounds = argc == 2 ? atol(argv[1]) : 0;
	int pair[2];
	char byte = 'p';

	if (rounds < 1)
		errx(1, "usage: pingpong ROUNDS");
	unsigned long long *trips = calloc(rounds, sizeof(*trips));
	if (!trips || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		err(1, "set up");
	pid_t pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		while (read(pair[1], &byte, 1) == 1)
			if (write(pair[1], &byte, 1) != 1)
				_exit(1);
		_exit(0);
	}
	close(pair[1]);
	for (long i = -WARM_UP_ROUNDS; i < rounds; i++) {
		unsigned long long begun_ns = now_ns();

		if (write(pair[0], &byte, 1) != 1 || read(pair[0], &byte, 1) != 1)
			err(1, "round %ld", i);
		if (i >= 0)
			trips[i] = now_ns() - begun_ns;
	}
	close(pair[0]);
	waitpid(pid, NULL, 0);
	qsort(trips, rounds, sizeof(*trips), ascending);
	printf("%llu %llu\n", trips[rounds / 2], trips[rounds * 99 / 100]);
	return 0;
}
