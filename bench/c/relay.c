/* The floor of one update to many: a record over a Unix socket to a second
 * process, which sends it to N others.
 *
 *   relay SUBSCRIBERS UPDATES
 *
 * All block; nobody looks at what came, and the next update is written when the
 * last reader has this one. Prints one line: the median and the 99th percentile
 * of the time from the first write to the last reader's in nanoseconds.
 */
#define _GNU_SOURCE
#include <err.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A record and a mark, as rtmd sends them together. */
enum { UPDATE_BYTES = 168, SUBSCRIBERS_MAX = 1000, WARM_UP_UPDATES = 100 };

struct shared {
	_Atomic unsigned long arrived;
	/* Of the present update. */
	_Atomic unsigned long long last_ns;
	_Atomic unsigned turn;
};

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

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void reader(int fd, unsigned long subscribers, struct shared *shared)
{
	char buffer[4096];

	for (unsigned long update = 1; recv(fd, buffer, sizeof(buffer), 0) > 0; update++) {
		unsigned long long ns = now_ns(), last_ns = atomic_load(&shared->last_ns);

		while (ns > last_ns && !atomic_compare_exchange_weak(&shared->last_ns, &last_ns, ns))
			;
		if (atomic_fetch_add(&shared->arrived, 1) + 1 == update * subscribers) {
			atomic_store(&shared->turn, update);
			syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
		}
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	long subscribers = argc == 3 ? atol(argv[1]) : 0, updates = argc == 3 ? atol(argv[2]) : 0;
	int to[SUBSCRIBERS_MAX], pair[2], front[2];
	char update[UPDATE_BYTES] = {0};

	if (subscribers < 1 || subscribers > SUBSCRIBERS_MAX || updates < 1)
		errx(1, "usage: relay SUBSCRIBERS UPDATES (at most %d subscribers)", SUBSCRIBERS_MAX);
	unsigned long long *took_ns = calloc(updates, sizeof(*took_ns));
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!took_ns || shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, front))
		err(1, "set up");
	for (long i = 0; i < subscribers; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			err(1, "socketpair");
		if (!child()) {
			close(pair[0]);
			reader(pair[1], subscribers, shared);
		}
		close(pair[1]);
		to[i] = pair[0];
	}
	if (!child()) {
		close(front[0]);
		while (read(front[1], update, sizeof(update)) == sizeof(update))
			for (long i = 0; i < subscribers; i++)
				if (send(to[i], update, sizeof(update), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
					_exit(1);
		_exit(0);
	}
	close(front[1]);
	for (long i = -WARM_UP_UPDATES; i < updates; i++) {
		unsigned turn = i + WARM_UP_UPDATES;
		unsigned long long begun_ns = now_ns();

		if (write(front[0], update, sizeof(update)) != sizeof(update))
			err(1, "write");
		while (atomic_load(&shared->turn) == turn)
			syscall(SYS_futex, &shared->turn, FUTEX_WAIT, turn, NULL, NULL, 0);
		if (i >= 0)
			took_ns[i] = atomic_load(&shared->last_ns) - begun_ns;
	}
	qsort(took_ns, updates, sizeof(*took_ns), ascending);
	printf("%llu %llu\n", took_ns[updates / 2], took_ns[updates * 99 / 100]);
	return 0;
}
