/* drive: does with librtm what the lines of its standard input say, and prints
 * what comes of it, one line each. The end-to-end tests (e2e/tests/librtm.rs)
 * drive it beside a real daemon; so what they see is what a C program sees. */
#include <arpa/inet.h>
#include <linux/rtnetlink.h> /* must not be in rtm.h's way */
#include <poll.h>
#include <pthread.h>
#include <rtm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANDLES 4

static struct rtm *handles[HANDLES];

static int family_of(const char *text) { return strchr(text, ':') ? AF_INET6 : AF_INET; }

static void failed(const char *what, struct rtm *rtm, int code) {
    printf("%s: %s: %s\n", what, rtm_code_name(code), rtm_error(rtm));
}

static const char *text_of(const struct rtm_address *address) {
    static char text[4][INET6_ADDRSTRLEN];
    static int turn;
    char *out = text[turn = (turn + 1) % 4];
    if (!address->family)
        return "-";
    return inet_ntop((int)address->family, address->ip.bytes, out, INET6_ADDRSTRLEN);
}

static void open_handle(int at, uint32_t flags, const char *socket) {
    struct rtm_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.name = "drive";
    options.flags = flags;
    options.timeout_ms = 60000;
    options.socket = socket;
    int code = rtm_open(&handles[at], &options);
    if (code < 0)
        failed("open", NULL, code);
    else
        printf("open: ok\n");
}

static void look_up(struct rtm *rtm, uint32_t table, const char *word) {
    unsigned char address[16];
    struct rtm_answer answer, again, many[3];
    struct rtm_hop hop, hops[8];
    struct rtm_route route;
    inet_pton(family_of(word), word, address);
    int found = rtm_lookup(rtm, table, family_of(word), address, &answer);
    if (found < 0) {
        failed("lookup", rtm, found);
        return;
    }
    if (!found) {
        printf("lookup: %s: none (%d)\n", word, answer.type);
        return;
    }
    /* All ways of asking agree. */
    if (rtm_lookup_hop(rtm, table, family_of(word), address, 0, &again, &hop) != 1 ||
        memcmp(&answer, &again, sizeof answer))
        printf("lookup_hop differs\n");
    if (table == RTM_TABLE_MAIN_ID) {
        if (family_of(word) == AF_INET) {
            in_addr_t in[3];
            for (int i = 0; i < 3; i++)
                memcpy(&in[i], address, 4);
            rtm_lookup4(rtm, in[0], &again);
            rtm_lookup4_batch(rtm, in, many, 3);
        } else {
            struct in6_addr in[3];
            for (int i = 0; i < 3; i++)
                memcpy(&in[i], address, 16);
            rtm_lookup6(rtm, in, &again);
            rtm_lookup6_batch(rtm, in, many, 3);
        }
        if (memcmp(&answer, &again, sizeof answer) || memcmp(&answer, &many[2], sizeof answer))
            printf("single or batch differs\n");
    }
    rtm_lookup_route(rtm, table, family_of(word), address, &route);
    int count = rtm_group(rtm, answer.group, hops, 8);
    printf("lookup: %s: %s/%d type %d via %s weight %d hops %d mtu %u src %s\n", word,
           text_of(&route.destination), route.prefix_len, answer.type, text_of(&hop.gateway),
           hop.weight, count, (unsigned)route.mtu, text_of(&route.prefsrc));
}

static void print_neighbours(const char *what, struct rtm *rtm, int count,
                             const struct rtm_neighbour *list) {
    if (count < 0) {
        failed(what, rtm, count);
        return;
    }
    printf("%s: %d", what, count);
    for (int i = 0; i < count && i < 8; i++) {
        struct rtm_link link = {0};
        rtm_link(rtm, list[i].link, &link);
        printf(" %s@%s=%02x:%02x:%02x:%02x:%02x:%02x", text_of(&list[i].address),
               link.id ? link.name : "-", list[i].mac[0], list[i].mac[1], list[i].mac[2],
               list[i].mac[3], list[i].mac[4], list[i].mac[5]);
    }
    printf("\n");
}

static void events(struct rtm *rtm) {
    struct rtm_event event;
    int code;
    while ((code = rtm_next_event(rtm, &event)) == 1) {
        printf("event: %llu%s ", (unsigned long long)event.revision,
               event.flags & RTM_EVENT_LAST ? "." : "");
        switch (event.type) {
        case RTM_EVENT_ATTACHED: printf("attached\n"); break;
        case RTM_EVENT_LOST: printf("lost: %s\n", event.u.text); break;
        case RTM_EVENT_REREAD: printf("reread\n"); break;
        case RTM_EVENT_FLUSHED: printf("flushed %u\n", (unsigned)event.u.flushed); break;
        case RTM_EVENT_ROUTE:
            printf("route %s/%d table %u\n", text_of(&event.u.route.destination),
                   event.u.route.prefix_len, (unsigned)event.u.route.table);
            break;
        case RTM_EVENT_ROUTE_GONE:
            printf("gone %s/%d\n", text_of(&event.u.route.destination), event.u.route.prefix_len);
            break;
        case RTM_EVENT_NEIGHBOUR: printf("neighbour %s\n", text_of(&event.u.neighbour.address)); break;
        case RTM_EVENT_NEIGHBOUR_GONE:
            printf("neighbour gone %s\n", text_of(&event.u.neighbour.address));
            break;
        case RTM_EVENT_LINK: printf("link %s\n", event.u.link.name); break;
        case RTM_EVENT_GROUP: printf("group of %u\n", (unsigned)event.u.group.hops); break;
        default: printf("type %u\n", (unsigned)event.type);
        }
    }
    if (code < 0)
        failed("events", rtm, code);
    printf("events: done\n");
}

/* The same, of which only the number of changes and the last one are told. */
static void drain(struct rtm *rtm) {
    struct rtm_event event;
    struct rtm_route last;
    unsigned long changes = 0;
    uint64_t revision = 0;
    int in_order = 1;
    memset(&last, 0, sizeof last);
    while (rtm_next_event(rtm, &event) == 1) {
        if (event.type == RTM_EVENT_ATTACHED)
            printf("drain: attached\n");
        if (event.type == RTM_EVENT_REREAD)
            printf("drain: reread\n");
        if (event.type == RTM_EVENT_ROUTE) {
            changes++;
            last = event.u.route;
            in_order = in_order && event.revision >= revision;
            revision = event.revision;
        }
    }
    printf("drain: %lu, in order: %d, last %s\n", changes, in_order, text_of(&last.destination));
}

static int count_routes(const struct rtm_route *route, void *user) {
    struct rtm_answer answer;
    unsigned long *count = user;
    /* Looking up from within an iteration is allowed. */
    if (rtm_lookup(handles[0], route->table, (int)route->destination.family,
                   route->destination.ip.bytes, &answer) != 1)
        return 7;
    return ++*count == 1000000;
}

static void *waits(void *user) {
    struct rtm *rtm = user;
    int code = rtm_wait(rtm, -1);
    printf("wait in a thread: %s\n", rtm_code_name(code));
    return NULL;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void on_alarm(int signal) { (void)signal; }

int main(void) {
    char line[512], *word[8];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        int words = 0;
        for (char *at = strtok(line, " \n"); at && words < 8; at = strtok(NULL, " \n"))
            word[words++] = at;
        if (!words)
            continue;
        int at = words > 1 ? atoi(word[1]) % HANDLES : 0;
        struct rtm *rtm = handles[at];
        if (!strcmp(word[0], "open")) {
            open_handle(at, (uint32_t)atoi(word[2]), words > 3 ? word[3] : NULL);
        } else if (!strcmp(word[0], "lookup")) {
            look_up(rtm, (uint32_t)atoi(word[2]), word[3]);
        } else if (!strcmp(word[0], "until")) {
            /* Looks up over and over, and does nothing else: until there is a route. */
            unsigned char address[16];
            struct rtm_answer answer;
            int found = 0;
            double end = seconds() + 100;
            inet_pton(family_of(word[2]), word[2], address);
            while (found != 1 && seconds() < end)
                found = rtm_lookup(rtm, RTM_TABLE_MAIN_ID, family_of(word[2]), address, &answer);
            printf("until: %s\n", found == 1 ? "found" : "in vain");
        } else if (!strcmp(word[0], "neighbour")) {
            unsigned char address[16];
            struct rtm_link link = {0};
            struct rtm_neighbour neighbour;
            inet_pton(family_of(word[2]), word[2], address);
            if (words > 3 && rtm_link_by_name(rtm, word[3], &link) != 1)
                printf("no such link\n");
            int found = rtm_neighbour(rtm, family_of(word[2]), address, link.id, &neighbour);
            print_neighbours("neighbour", rtm, found, &neighbour);
        } else if (!strcmp(word[0], "address")) {
            unsigned char address[16];
            struct rtm_neighbour list[8];
            inet_pton(family_of(word[2]), word[2], address);
            print_neighbours("address", rtm,
                             rtm_neighbours_by_address(rtm, family_of(word[2]), address, list, 8),
                             list);
        } else if (!strcmp(word[0], "mac")) {
            unsigned int b[6];
            uint8_t mac[6];
            struct rtm_neighbour list[8];
            sscanf(word[2], "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]);
            for (int i = 0; i < 6; i++)
                mac[i] = (uint8_t)b[i];
            print_neighbours("mac", rtm, rtm_neighbours_by_mac(rtm, mac, list, 8), list);
        } else if (!strcmp(word[0], "each")) {
            unsigned long count = 0;
            struct rtm_span span;
            int code = rtm_each_route(rtm, 0, 0, count_routes, &count, &span);
            printf("each: %d, %lu routes, one state: %d\n", code, count, span.first == span.last);
        } else if (!strcmp(word[0], "state")) {
            struct rtm_state state;
            int code = rtm_state(rtm, &state);
            if (code < 0)
                failed("state", rtm, code);
            else
                printf("state: revision %llu writer %u connected %u routes %llu\n",
                       (unsigned long long)state.revision, state.writer, state.connected,
                       (unsigned long long)(state.routes4 + state.routes6));
        } else if (!strcmp(word[0], "events")) {
            events(rtm);
        } else if (!strcmp(word[0], "drain")) {
            drain(rtm);
        } else if (!strcmp(word[0], "poll")) {
            struct pollfd fd = {.fd = rtm_fd(rtm), .events = POLLIN, .revents = 0};
            printf("poll: %d\n", poll(&fd, 1, atoi(word[2])));
        } else if (!strcmp(word[0], "wait")) {
            int code = rtm_wait(rtm, atoi(word[2]));
            if (code < 0)
                failed("wait", rtm, code);
            else
                printf("wait: %d\n", code);
        } else if (!strcmp(word[0], "alarm")) {
            /* A signal handler ends a wait. */
            struct sigaction action;
            struct itimerval in = {{0, 0}, {0, 50000}};
            memset(&action, 0, sizeof action);
            action.sa_handler = on_alarm;
            sigaction(SIGALRM, &action, NULL);
            setitimer(ITIMER_REAL, &in, NULL);
            printf("alarm: %d\n", rtm_wait(rtm, 100000));
        } else if (!strcmp(word[0], "interrupt") || !strcmp(word[0], "close-waiting")) {
            pthread_t thread;
            pthread_create(&thread, NULL, waits, rtm);
            usleep(50000);
            if (word[0][0] == 'i') {
                rtm_interrupt(rtm);
            } else {
                rtm_close(rtm);
                handles[at] = NULL;
                printf("closed\n");
            }
            pthread_join(thread, NULL);
        } else if (!strcmp(word[0], "fork")) {
            /* The child looks up at once, connects by itself, sees new routes. */
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                look_up(rtm, RTM_TABLE_MAIN_ID, word[2]);
                struct rtm_state state;
                double end = seconds() + 100;
                do {
                    rtm_wait(rtm, 100);
                    struct rtm_event event;
                    while (rtm_next_event(rtm, &event) == 1)
                        ;
                    rtm_state(rtm, &state);
                } while (!state.connected && seconds() < end);
                printf("child: connected %u\n", state.connected);
                rtm_close(rtm);
                fflush(stdout);
                _exit(0);
            }
            int status;
            waitpid(child, &status, 0);
            printf("child: %d\n", status);
        } else if (!strcmp(word[0], "close")) {
            rtm_close(rtm);
            handles[at] = NULL;
            printf("closed\n");
        } else if (!strcmp(word[0], "wrong")) {
            struct rtm_answer answer;
            struct rtm_options options;
            memset(&options, 0, sizeof options);
            int code = rtm_lookup4(NULL, 0, &answer);
            failed("null handle", NULL, code);
            failed("null answer", rtm, rtm_lookup4(rtm, 0, NULL));
            failed("null batch", rtm, rtm_lookup4_batch(rtm, NULL, NULL, 3));
            failed("family", rtm, rtm_lookup(rtm, 254, AF_UNIX, "abcd", &answer));
            failed("function", rtm, rtm_each_route(rtm, 0, 0, NULL, NULL, NULL));
            failed("event", rtm, rtm_next_event(rtm, NULL));
            struct rtm *none = rtm;
            failed("size", NULL, rtm_open(&none, &options));
            options.size = sizeof options;
            options.flags = 64;
            failed("flags", NULL, rtm_open(&none, &options));
            options.flags = 0;
            options.socket = "tcp://127.0.0.1:1";
            failed("tcp", NULL, rtm_open(&none, &options));
            options.socket = "\xff";
            failed("text", NULL, rtm_open(&none, &options));
            printf("left %s, open(NULL) %d\n", none ? "something" : "nothing", rtm_open(NULL, NULL));
            rtm_close(NULL);
        } else {
            printf("%s?\n", word[0]);
        }
        printf("=done=\n");
    }
    for (int i = 0; i < HANDLES; i++)
        rtm_close(handles[i]);
    return 0;
}
