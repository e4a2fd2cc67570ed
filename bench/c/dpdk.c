/* DPDK's lookup structures as they come with Debian (libdpdk-dev): rte_lpm,
 * rte_fib (dir24_8), rte_lpm6, rte_fib6 (trie). One core, no huge pages.
 *
 *   dpdk KIND DIRECTORY
 *
 * DIRECTORY holds `routes` and for each set of addresses `NAME.addresses` and
 * `NAME.answers` (`src/lookup/sets.rs` writes them). When all routes are in, the
 * program says `ready`; then each line of input is a question, answered by one line:
 *
 *   check SET           ok, or what is wrong
 *   single SET MS       lookups and nanoseconds
 *   batch SET MS        the same, 16 addresses a call
 *   change COUNT SEED   changes and nanoseconds: another next hop for random routes
 *   bytes               of DPDK's heap in use
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>

#define BATCH 16
#define CHUNK 16384
#define ROUTES_MAX (1 << 20)
#define SETS_MAX 3

struct route {
	uint8_t address[16]; /* IPv4: a number of the machine's, in the first four bytes */
	uint32_t length;
	uint32_t hop;
};

struct set {
	char name[32];
	size_t count;
	void *addresses;
	uint32_t *answers;
};

enum kind { LPM, FIB, LPM6, FIB6 };
static enum kind kind;
static struct rte_lpm *lpm;
static struct rte_fib *fib;
static struct rte_lpm6 *lpm6;
static struct rte_fib6 *fib6;
static const char *directory;
static struct route *routes;
static size_t route_count;
static struct set sets[SETS_MAX];

static void fail(const char *what)
{
	fprintf(stderr, "dpdk: %s\n", what);
	exit(1);
}

static void *slurp(const char *name, size_t *bytes)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END))
		fail(path);
	*bytes = ftell(file);
	rewind(file);
	void *data = aligned_alloc(64, (*bytes + 63) / 64 * 64);
	if (!data || fread(data, 1, *bytes, file) != *bytes)
		fail(path);
	fclose(file);
	return data;
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint32_t number(const struct route *r)
{
	uint32_t address;
	memcpy(&address, r->address, 4);
	return address;
}

static void create(void)
{
	if (kind == LPM) {
		struct rte_lpm_config c = { .max_rules = ROUTES_MAX, .number_tbl8s = 1 << 13 };
		lpm = rte_lpm_create("lpm", SOCKET_ID_ANY, &c);
	} else if (kind == LPM6) {
		struct rte_lpm6_config c = { .max_rules = ROUTES_MAX, .number_tbl8s = 1 << 16 };
		lpm6 = rte_lpm6_create("lpm6", SOCKET_ID_ANY, &c);
	} else if (kind == FIB) {
		struct rte_fib_conf c = { .type = RTE_FIB_DIR24_8, .max_routes = ROUTES_MAX };
		c.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
		c.dir24_8.num_tbl8 = 1 << 13;
		fib = rte_fib_create("fib", SOCKET_ID_ANY, &c);
	} else {
		struct rte_fib6_conf c = { .type = RTE_FIB6_TRIE, .max_routes = ROUTES_MAX };
		c.trie.nh_sz = RTE_FIB6_TRIE_4B;
		c.trie.num_tbl8 = 1 << 18; /* it reserves more than it takes */
		fib6 = rte_fib6_create("fib6", SOCKET_ID_ANY, &c);
	}
	if (!lpm && !fib && !lpm6 && !fib6)
		fail("no memory for the structure");
}

static int set_route(const struct route *r, uint32_t hop)
{
	switch (kind) {
	case LPM: return rte_lpm_add(lpm, number(r), r->length, hop);
	case FIB: return rte_fib_add(fib, number(r), r->length, hop);
	case LPM6: return rte_lpm6_add(lpm6, r->address, r->length, hop);
	default: return rte_fib6_add(fib6, r->address, r->length, hop);
	}
}

/* The answers of n <= BATCH addresses, by the call for many. */
static inline __attribute__((always_inline)) void many(enum kind kind, const void *addresses, uint32_t *out, unsigned n)
{
	uint64_t wide[BATCH];
	if (kind == LPM) {
		const uint32_t *a = addresses;
		unsigned i = 0;
		for (; i + 4 <= n; i += 4)
			rte_lpm_lookupx4(lpm, _mm_loadu_si128((const void *)(a + i)), out + i, 0);
		for (; i < n; i++)
			out[i] = rte_lpm_lookup(lpm, a[i], out + i) ? 0 : out[i];
	} else if (kind == LPM6) {
		rte_lpm6_lookup_bulk_func(lpm6, (void *)addresses, (int32_t *)out, n);
		for (unsigned i = 0; i < n; i++)
			out[i] = (int32_t)out[i] < 0 ? 0 : out[i];
	} else {
		if (kind == FIB)
			rte_fib_lookup_bulk(fib, (uint32_t *)addresses, wide, n);
		else
			rte_fib6_lookup_bulk(fib6, (void *)addresses, wide, n);
		for (unsigned i = 0; i < n; i++)
			out[i] = wide[i];
	}
}

static inline __attribute__((always_inline)) uint32_t one(enum kind kind, const void *address)
{
	uint32_t hop;
	uint64_t wide;
	switch (kind) {
	case LPM: return rte_lpm_lookup(lpm, *(const uint32_t *)address, &hop) ? 0 : hop;
	case LPM6: return rte_lpm6_lookup(lpm6, address, &hop) ? 0 : hop;
	case FIB: rte_fib_lookup_bulk(fib, (uint32_t *)address, &wide, 1); return wide;
	default: rte_fib6_lookup_bulk(fib6, (void *)address, &wide, 1); return wide;
	}
}

static struct set *find(const char *name)
{
	size_t width = kind == LPM || kind == FIB ? 4 : 16;
	for (struct set *s = sets; s < sets + SETS_MAX; s++) {
		if (!strcmp(s->name, name))
			return s;
		if (!s->name[0]) {
			char file[64];
			size_t bytes;
			snprintf(s->name, sizeof s->name, "%s", name);
			snprintf(file, sizeof file, "%s.addresses", name);
			s->addresses = slurp(file, &bytes);
			s->count = bytes / width;
			snprintf(file, sizeof file, "%s.answers", name);
			s->answers = slurp(file, &bytes);
			if (bytes / 4 != s->count)
				fail("not as many answers as addresses");
			return s;
		}
	}
	fail("too many sets");
	return NULL;
}

static void check(const char *name)
{
	struct set *s = find(name);
	size_t width = kind == LPM || kind == FIB ? 4 : 16;
	for (size_t i = 0; i < s->count; i += BATCH) {
		uint32_t out[BATCH];
		const char *from = (const char *)s->addresses + i * width;
		many(kind, from, out, BATCH);
		for (unsigned n = 0; n < BATCH; n++) {
			uint32_t alone = one(kind, from + n * width);
			if (out[n] != s->answers[i + n] || alone != s->answers[i + n]) {
				printf("address %zu: %u and %u instead of %u\n", i + n, alone, out[n],
				       s->answers[i + n]);
				return;
			}
		}
	}
	puts("ok");
}

/* One loop for each structure, so that the choice between them isn't in it. */
#define SINGLE(KIND, WIDTH) \
	case KIND: \
		for (size_t i = 0; i < CHUNK; i++) \
			sum += one(KIND, from + i * WIDTH); \
		break;
#define MANY(KIND, WIDTH) \
	case KIND: \
		for (size_t i = 0; i < CHUNK; i += BATCH) { \
			uint32_t out[BATCH]; \
			many(KIND, from + i * WIDTH, out, BATCH); \
			for (unsigned n = 0; n < BATCH; n++) \
				sum += out[n]; \
		} \
		break;

static uint64_t sink;

static void run(const char *name, int batch, uint64_t ms)
{
	struct set *s = find(name);
	size_t width = kind == LPM || kind == FIB ? 4 : 16;
	uint64_t begun = now(), ns, lookups = 0, sum = 0;
	size_t at = 0;
	do {
		const char *from = (const char *)s->addresses + at * width;
		if (batch) {
			switch (kind) { MANY(LPM, 4) MANY(FIB, 4) MANY(LPM6, 16) MANY(FIB6, 16) }
		} else {
			switch (kind) { SINGLE(LPM, 4) SINGLE(FIB, 4) SINGLE(LPM6, 16) SINGLE(FIB6, 16) }
		}
		lookups += CHUNK;
		at = (at + CHUNK) % s->count;
		ns = now() - begun;
	} while (ns < ms * 1000000);
	sink += sum;
	printf("%" PRIu64 " %" PRIu64 "\n", lookups, ns);
}

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void change(uint64_t count, uint64_t seed)
{
	uint64_t begun = now();
	for (uint64_t i = 0; i < count; i++) {
		const struct route *r = routes + random_next(&seed) % route_count;
		if (set_route(r, 1 + random_next(&seed) % 200) < 0)
			fail("a change was refused");
	}
	printf("%" PRIu64 " %" PRIu64 "\n", count, now() - begun);
}

int main(int argc, char **argv)
{
	static char *const names[] = { "rte_lpm", "rte_fib", "rte_lpm6", "rte_fib6" };
	char *eal[] = { "dpdk", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry",
			"--log-level=error", "-m", "2048", "--lcores", "0@(0-1)" };
	if (argc != 3)
		fail("usage: dpdk KIND DIRECTORY");
	while (kind < 4 && strcmp(names[kind], argv[1]))
		kind++;
	if (kind == 4)
		fail("no such kind");
	directory = argv[2];
	if (rte_eal_init(sizeof eal / sizeof *eal, eal) < 0)
		fail("rte_eal_init");
	size_t bytes;
	routes = slurp("routes", &bytes);
	route_count = bytes / sizeof *routes;
	create();
	for (size_t i = 0; i < route_count; i++) {
		int error = set_route(routes + i, routes[i].hop);
		if (error < 0) {
			fprintf(stderr, "dpdk: route %zu of %zu was refused: %d\n", i, route_count, error);
			exit(1);
		}
	}
	puts("ready");
	fflush(stdout);
	char line[256], name[32];
	unsigned long long a, b;
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "check %31s", name) == 1)
			check(name);
		else if (sscanf(line, "single %31s %llu", name, &a) == 2)
			run(name, 0, a);
		else if (sscanf(line, "batch %31s %llu", name, &a) == 2)
			run(name, 1, a);
		else if (sscanf(line, "change %llu %llu", &a, &b) == 2)
			change(a, b);
		else if (!strncmp(line, "bytes", 5)) {
			struct rte_malloc_socket_stats stats;
			rte_malloc_get_socket_stats(0, &stats);
			printf("%zu 0\n", stats.heap_allocsz_bytes);
		} else
			puts("what?");
		fflush(stdout);
	}
	return sink == 1; /* So that no lookup is optimised away. */
}
