/* What memory allows: P processes, each of which fills a bare hash table of its
 * own from one buffer that they share.
 *
 *   hashfill PROCESSES FILE
 *
 * FILE has records of 40 bytes: address (16), prefix length (1), pad (3),
 * gateway (16), link (4). A table is an array of records with open addressing
 * and linear probing, twice as many slots as records, one multiply of a key's
 * words for a hash; it is touched beforehand, so that no page fault is timed.
 * No longest-prefix match, no digest, no deletes, nothing that a replica needs.
 *
 * Prints one line: records in all tables, nanoseconds from the start of all to
 * the end of the last.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CACHE_LINE = 64 };

struct record {
	uint64_t address[2];
	uint8_t length;
	uint8_t pad[3];
	uint8_t gateway[16];
	uint8_t link[4];
};
_Static_assert(sizeof(struct record) == 40, "as the bench writes them");

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static uint64_t hash(const struct record *r)
{
	uint64_t h = (r->address[0] ^ (r->address[1] * 0x9e3779b97f4a7c15ULL) ^ r->length) *
		     0xbf58476d1ce4e5b9ULL;

	return h ^ (h >> 32);
}

static void fill(const struct record *records, size_t count, struct record *slots, size_t mask)
{
	for (size_t i = 0; i < count; i++) {
		const struct record *r = &records[i];
		size_t at = hash(r) & mask;

		/* pad[0] of a used slot is 1. */
		while (slots[at].pad[0] && (slots[at].address[0] != r->address[0] ||
					    slots[at].address[1] != r->address[1] ||
					    slots[at].length != r->length))
			at = (at + 1) & mask;
		slots[at] = *r;
		slots[at].pad[0] = 1;
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(1, "usage: hashfill PROCESSES FILE");
	int processes = atoi(argv[1]);
	int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (processes < 1 || fd < 0 || fstat(fd, &st))
		err(1, "%s", argv[2]);
	size_t count = st.st_size / sizeof(struct record);
	const struct record *records = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	char *ended = mmap(NULL, (size_t)processes * CACHE_LINE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ready[2], go[2];
	if (!count || records == MAP_FAILED || ended == MAP_FAILED || pipe(ready) || pipe(go))
		err(1, "set up");
	size_t slots_count = 1;
	while (slots_count < 2 * count)
		slots_count *= 2;

	for (int i = 0; i < processes; i++) {
		pid_t pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(go[1]);
		/* Populated: a calloc's pages would fault in under the clock. */
		struct record *slots = mmap(NULL, slots_count * sizeof(*slots), PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		char one;
		if (slots == MAP_FAILED)
			err(1, "mmap");
		/* The pipe's end is the start of all. */
		if (write(ready[1], "r", 1) != 1 || read(go[0], &one, 1) != 0)
			err(1, "barrier");
		fill(records, count, slots, slots_count - 1);
		*(unsigned long long *)(ended + (size_t)i * CACHE_LINE) = now_ns();
		_exit(0);
	}
	close(go[0]);
	for (int i = 0; i < processes; i++) {
		char one;

		if (read(ready[0], &one, 1) != 1)
			err(1, "wait for the others");
	}
	unsigned long long begun_ns = now_ns(), last_ns = 0;
	close(go[1]);
	for (int i = 0; i < processes; i++) {
		int status;

		if (wait(&status) < 0 || status)
			errx(1, "a process failed");
	}
	for (int i = 0; i < processes; i++) {
		unsigned long long ns = *(unsigned long long *)(ended + (size_t)i * CACHE_LINE);

		if (ns > last_ns)
			last_ns = ns;
	}
	printf("%zu %llu\n", processes * count, last_ns - begun_ns);
	return 0;
}
