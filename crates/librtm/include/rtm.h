/* rtm.h: the tables of rtmd, for C and C++ programs.
 *
 * A handle maps the daemon's routing and neighbour tables read-only. Lookups
 * run in that memory: no system call, no lock, nothing to wait for, and each
 * answer is right for a revision that was visible during the call.
 *
 *     struct rtm *rtm;
 *     if (rtm_open(&rtm, NULL) < 0)
 *         errx(1, "%s", rtm_error(NULL));
 *     struct rtm_answer answer;
 *     if (rtm_lookup4(rtm, ip->daddr, &answer) == 1 && answer.type == RTM_UNICAST)
 *         send_by(answer.group);
 *     rtm_close(rtm);
 *
 * Threads. A handle belongs to one thread at a time; a thread that looks things
 * up opens one of its own (it costs the daemon nothing). Only rtm_interrupt,
 * rtm_error(NULL), rtm_code_name and rtm_version may be called at any time, and
 * rtm_close while another thread is in rtm_wait.
 *
 * The daemon. When its tables moved into a larger object, or it was started
 * anew, the handle attaches the newest by itself: in rtm_next_event and rtm_wait,
 * and for who calls neither, in the lookups, about every millisecond. Without a
 * daemon the last tables keep answering; rtm_state says so.
 *
 * fork. A child may go on with its parent's handle: it keeps the mapping and
 * makes a connection of its own. It then has another descriptor (rtm_fd). After
 * exec nothing is left of a handle: all descriptors are close-on-exec.
 *
 * Returns. Functions that return int give a negative RTM_E_ code when they fail;
 * rtm_error then has one line that says what, where and why. No function ends
 * the process, raises SIGPIPE or prints, nor sets errno for its caller.
 *
 * Structures have explicit padding, which is written as 0. Addresses, MAC
 * addresses and those alone are in network byte order.
 */
#ifndef RTM_H
#define RTM_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; rtm_version() is the library's. */
#define RTM_VERSION "0.1.0"

/* Error codes. */
#define RTM_E_ARGUMENT (-1)    /* a wrong argument: a null pointer, an unknown family or flag */
#define RTM_E_NO_DAEMON (-2)   /* nobody listens there, or the connection broke */
#define RTM_E_NO_ACCESS (-3)   /* the socket is there and may not be used */
#define RTM_E_TIMED_OUT (-4)   /* the daemon did not answer in time */
#define RTM_E_REFUSED (-5)     /* the daemon refused: killed by an admin, too many sessions */
#define RTM_E_NOT_AN_IMAGE (-6) /* what came is not, or not this version's, image */
#define RTM_E_NOT_READY (-7)   /* RTM_OPEN_LATER, and no daemon has been there yet */
#define RTM_E_BUSY (-8)        /* the tables changed eight times during one read: ask again */
#define RTM_E_INTERRUPTED (-9) /* rtm_interrupt or rtm_close was called */
#define RTM_E_SYSTEM (-10)     /* a system call failed: out of descriptors or memory */
#define RTM_E_INTERNAL (-11)   /* a bug of this library; close the handle */

/* A handle. */
struct rtm;

/* ---- Opening ---------------------------------------------------------- */

#define RTM_OPEN_EVENTS 1u /* tell changes: rtm_next_event, woken by a pipe through rtm_fd */
#define RTM_OPEN_FUTEX 2u  /* with RTM_OPEN_EVENTS: woken by a futex, in rtm_wait alone; costs the
                              daemon nothing per handle. A hostile local process can delay a
                              wake-up by 100 ms. */
#define RTM_OPEN_LATER 4u  /* succeed without a daemon; attach when there is one */

/* Zero it, set `size` to sizeof(struct rtm_options), then what differs. */
struct rtm_options {
    size_t size;             /* bytes of this structure, as the program was compiled */
    const char *socket;      /* the daemon's socket; NULL: see runtime_dir */
    const char *runtime_dir; /* the daemon's directory; NULL: RTM_SOCKET, RTM_RUNTIME_DIR, then the
                                user's own directory, then /run/rtm */
    const char *name;        /* what `rtm client list` shows, at most 64 bytes; NULL: "librtm" */
    uint32_t flags;          /* RTM_OPEN_ */
    int32_t timeout_ms;      /* wait at most so long for a daemon that is there; 0: 5000 */
};

/* Connects to the daemon and maps its tables; `*handle` is NULL if it fails.
 * options NULL: all defaults. Returns 0, or RTM_E_ARGUMENT, _NO_DAEMON,
 * _NO_ACCESS, _TIMED_OUT, _REFUSED, _NOT_AN_IMAGE, _SYSTEM. */
int rtm_open(struct rtm **handle, const struct rtm_options *options);

/* Says goodbye and frees the handle; NULL is no handle. If another thread is in
 * rtm_wait, that returns RTM_E_INTERRUPTED first (within 100 ms). */
void rtm_close(struct rtm *handle);

/* One line about the last call on this handle that failed; NULL: about this
 * thread's last rtm_open. Never NULL; valid until the next failing call. */
const char *rtm_error(const struct rtm *handle);

/* The name of a code: "RTM_E_BUSY"; of anything else "unknown". Static. */
const char *rtm_code_name(int code);

/* The library's version: "0.1.0". Static. */
const char *rtm_version(void);

/* ---- Looking up ------------------------------------------------------- */

/* Routing table 254 is main, as in rtnetlink. */
#define RTM_TABLE_MAIN_ID 254u

/* What is to be done with a packet: rtnetlink's RTN_ numbers. */
#define RTM_NO_ROUTE 0
#define RTM_UNICAST 1
#define RTM_LOCAL 2
#define RTM_BROADCAST 3
#define RTM_ANYCAST 4
#define RTM_MULTICAST 5
#define RTM_BLACKHOLE 6
#define RTM_UNREACHABLE 7
#define RTM_PROHIBIT 8
#define RTM_THROW 9

/* 8 bytes. */
struct rtm_answer {
    uint32_t group; /* the next-hop group; 0: the route has none */
    uint8_t type;   /* RTM_UNICAST, ...; RTM_NO_ROUTE: nothing matches */
    uint8_t reserved[3];
};

/* The longest prefix for an address in table main; there tos 0 and the lowest
 * (distance, metric, ordinal). Policy rules are not looked at.
 * Returns 1: found. 0: no route. RTM_E_ARGUMENT, _NOT_READY, _BUSY.
 * rtm_lookup4 takes the address as it stands in a packet (in_addr.s_addr). */
int rtm_lookup4(struct rtm *handle, in_addr_t address, struct rtm_answer *answer);
int rtm_lookup6(struct rtm *handle, const struct in6_addr *address, struct rtm_answer *answer);

/* Several at once, which is faster: `count` addresses and as many answers, each
 * sixteen of them right for the same revision. Returns 0, or as above; after
 * RTM_E_BUSY the answers are not to be used. */
int rtm_lookup4_batch(struct rtm *handle, const in_addr_t *addresses, struct rtm_answer *answers,
                      size_t count);
int rtm_lookup6_batch(struct rtm *handle, const struct in6_addr *addresses,
                      struct rtm_answer *answers, size_t count);

/* 20 bytes: an address of either family. */
struct rtm_address {
    uint32_t family; /* AF_INET, AF_INET6; 0: none */
    union {
        struct in_addr v4;
        struct in6_addr v6;
        uint8_t bytes[16]; /* of an IPv4 address the first four */
    } ip;
};

/* In any table. `family` is AF_INET or AF_INET6, `address` points to a struct
 * in_addr or in6_addr. Returns as rtm_lookup4. */
int rtm_lookup(struct rtm *handle, uint32_t table, int family, const void *address,
               struct rtm_answer *answer);

#define RTM_HOP_DEAD 1u      /* no traffic goes there */
#define RTM_HOP_ONLINK 4u    /* the gateway is on the link though no prefix says so */
#define RTM_HOP_LINKDOWN 16u /* the link has no carrier */

/* 28 bytes: a next hop. */
struct rtm_hop {
    struct rtm_address gateway; /* of either family; family 0: none */
    uint32_t link;              /* the outgoing interface's id (rtm_link); 0: none */
    uint16_t weight;            /* 1 to 256: its share of the flows */
    uint8_t flags;              /* RTM_HOP_ */
    uint8_t reserved;
};

/* A lookup, and the next hop of the flow with this hash: each next hop that
 * isn't dead gets its share of the hashes by its weight. `hop->weight` 0: the
 * route has none that is alive. Returns as rtm_lookup4. */
int rtm_lookup_hop(struct rtm *handle, uint32_t table, int family, const void *address,
                   uint32_t flow_hash, struct rtm_answer *answer, struct rtm_hop *hop);

/* 80 bytes: a route. */
struct rtm_route {
    struct rtm_address destination;
    struct rtm_address prefsrc; /* the source address that this host uses; family 0: not said */
    uint32_t table;
    uint32_t metric;
    uint32_t group; /* its next hops (rtm_group); 0: none */
    uint32_t mtu;   /* bytes; 0: not said */
    uint16_t ordinal;
    uint8_t prefix_len;
    uint8_t type;     /* RTM_UNICAST, ... */
    uint8_t tos;
    uint8_t protocol; /* rtnetlink's RTPROT_ numbers */
    uint8_t scope;    /* rtnetlink's RT_SCOPE_ numbers */
    uint8_t distance; /* trust in its source: the lowest wins */
    uint32_t reserved[4];
};

/* A lookup that gives the whole route. Slower than rtm_lookup: for what people
 * read. Returns 1: found. 0: no route. RTM_E_ARGUMENT, _NOT_READY, _BUSY. */
int rtm_lookup_route(struct rtm *handle, uint32_t table, int family, const void *address,
                     struct rtm_route *route);

/* The next hops of a group, at most `capacity` of them into `hops` (which may be
 * NULL if capacity is 0). Returns how many the group has; 0: no such group.
 * RTM_E_ARGUMENT, _NOT_READY, _BUSY. */
int rtm_group(struct rtm *handle, uint32_t group, struct rtm_hop *hops, size_t capacity);

/* 24 bytes: an interface. */
struct rtm_link {
    uint32_t id;      /* what next hops and neighbours refer to; the daemon's, no ifindex */
    uint32_t ifindex; /* 0: not on this host */
    char name[16];    /* NUL-terminated */
};

/* By id, and by name. Returns 1: found. 0: no such link. RTM_E_ARGUMENT,
 * _NOT_READY, _BUSY. */
int rtm_link(struct rtm *handle, uint32_t id, struct rtm_link *link);
int rtm_link_by_name(struct rtm *handle, const char *name, struct rtm_link *link);

/* 36 bytes: a neighbour. */
struct rtm_neighbour {
    struct rtm_address address;
    uint32_t link;    /* its interface's id; 0: entered by hand without one */
    uint8_t mac[6];   /* meaningful if has_mac */
    uint8_t has_mac;  /* 1, or 0: not known */
    uint8_t flags;    /* rtnetlink's NTF_ bits */
    uint16_t state;   /* rtnetlink's NUD_ bits */
    uint8_t protocol; /* rtnetlink's RTPROT_ numbers; 0: not said */
    uint8_t reserved;
};

/* The neighbour with this address on this link (0: the one without a link).
 * Returns 1: found. 0: no such neighbour. RTM_E_ARGUMENT, _NOT_READY, _BUSY. */
int rtm_neighbour(struct rtm *handle, int family, const void *address, uint32_t link,
                  struct rtm_neighbour *neighbour);

/* All with this address, on any link; all with this MAC address. At most
 * `capacity` of them into `neighbours`. Returns how many there are (counted up
 * to 4096); RTM_E_ARGUMENT, _NOT_READY, _BUSY. */
int rtm_neighbours_by_address(struct rtm *handle, int family, const void *address,
                              struct rtm_neighbour *neighbours, size_t capacity);
int rtm_neighbours_by_mac(struct rtm *handle, const uint8_t mac[6],
                          struct rtm_neighbour *neighbours, size_t capacity);

/* ---- Going through everything ----------------------------------------- */

/* The first and the last revision that entries came from. Equal: they were one
 * state. Otherwise what existed all the time came once, and what came or went
 * meanwhile came or didn't. */
struct rtm_span {
    uint64_t first;
    uint64_t last;
};

/* Called for each entry; any other value than 0 ends the iteration. It may call
 * lookups on the same handle; it must not close it, nor throw. */
typedef int (*rtm_route_fn)(const struct rtm_route *route, void *user);
typedef int (*rtm_neighbour_fn)(const struct rtm_neighbour *neighbour, void *user);

/* Every route, in the order of table, prefix, tos, metric, ordinal; family 0:
 * both; table 0: all. `span` may be NULL. Returns 0, or what the function
 * returned if that ended it; RTM_E_ARGUMENT, _NOT_READY, _BUSY. */
int rtm_each_route(struct rtm *handle, int family, uint32_t table, rtm_route_fn function,
                   void *user, struct rtm_span *span);

/* Every neighbour, in the order of address and link. */
int rtm_each_neighbour(struct rtm *handle, rtm_neighbour_fn function, void *user,
                       struct rtm_span *span);

/* ---- What is there ---------------------------------------------------- */

#define RTM_WRITER_LIVE 1u    /* a daemon writes these tables */
#define RTM_WRITER_MOVED 2u   /* it writes larger ones, which will be attached */
#define RTM_WRITER_STOPPED 3u /* it stopped in order */
#define RTM_WRITER_GONE 4u    /* it was killed, or crashed */

/* 128 bytes. */
struct rtm_state {
    uint64_t epoch;    /* the history that revisions belong to */
    uint64_t revision; /* of the tables as they are visible now */
    uint64_t version;  /* grows by one whenever something becomes visible */
    uint64_t routes4;
    uint64_t routes6;
    uint64_t neighbours;
    uint64_t mac_addresses; /* different ones among the neighbours */
    uint64_t groups;
    uint64_t links;
    uint64_t tables;       /* routing tables */
    uint64_t object_bytes; /* size of the mapping */
    uint64_t used_bytes;   /* of it, for what the tables hold */
    uint64_t repeats;      /* reads of this attachment that were repeated, as the tables changed */
    uint64_t busy;         /* those that ended as RTM_E_BUSY */
    uint32_t writer;       /* RTM_WRITER_ */
    uint32_t connected;    /* 1: the daemon has answered on this handle's connection; 0: not now */
    uint64_t reserved;
};

/* Returns 0, or RTM_E_ARGUMENT, _NOT_READY, _BUSY, _SYSTEM. */
int rtm_state(struct rtm *handle, struct rtm_state *state);

/* ---- Events ----------------------------------------------------------- */

#define RTM_EVENT_ATTACHED 1u       /* new tables: they grew, or another daemon's */
#define RTM_EVENT_LOST 2u           /* no daemon; u.text says why. The tables stay */
#define RTM_EVENT_REREAD 3u         /* not all changes will be told: read the tables again */
#define RTM_EVENT_FLUSHED 4u        /* u.flushed is gone, whole */
#define RTM_EVENT_ROUTE 5u          /* u.route is new or has changed */
#define RTM_EVENT_ROUTE_GONE 6u     /* of u.route only the key is set */
#define RTM_EVENT_NEIGHBOUR 7u      /* u.neighbour is new or has changed */
#define RTM_EVENT_NEIGHBOUR_GONE 8u /* of u.neighbour only address and link are set */
#define RTM_EVENT_LINK 9u           /* u.link is new, or renamed */
#define RTM_EVENT_LINK_GONE 10u     /* of u.link only id is set */
#define RTM_EVENT_GROUP 11u         /* u.group is new, or has other next hops */
#define RTM_EVENT_GROUP_GONE 12u    /* of u.group only id is set */

#define RTM_EVENT_LAST 1u /* in flags: the last change of its transaction */

#define RTM_FLUSHED_ROUTES 1u
#define RTM_FLUSHED_NEIGHBOURS 2u

/* 224 bytes. */
struct rtm_event {
    uint32_t type;     /* RTM_EVENT_; numbers may be added: skip what you don't know */
    uint32_t flags;    /* RTM_EVENT_LAST */
    uint64_t revision; /* of changes and flushes: their transaction; ATTACHED: what they show */
    union {
        struct rtm_route route;
        struct rtm_neighbour neighbour;
        struct rtm_link link;
        struct {
            uint32_t id;
            uint32_t nhid; /* the kernel's next-hop object, or FPM's group; 0: none */
            uint32_t hops; /* how many; rtm_group has them */
        } group;
        uint32_t flushed; /* RTM_FLUSHED_ */
        char text[208];   /* NUL-terminated; cut off if longer */
        uint64_t epoch;   /* ATTACHED: the history; another one means another daemon */
    } u;
};

/* A descriptor for poll, select and epoll: when it can be read, call
 * rtm_next_event until it returns 0. Don't read, write or close it. It stays the
 * same over reconnects; a forked child has another one. RTM_E_ARGUMENT. */
int rtm_fd(struct rtm *handle);

/* What happened next; never waits. Changes (RTM_EVENT_ROUTE and later) come with
 * RTM_OPEN_EVENTS alone, in order, when lookups show them already. Who reads the
 * tables after rtm_open and applies what this tells has the daemon's table.
 * Returns 1: there is one. 0: nothing more now. RTM_E_ARGUMENT; RTM_E_REFUSED: the
 * connection is over for good; RTM_E_SYSTEM. */
int rtm_next_event(struct rtm *handle, struct rtm_event *event);

/* Sleeps until rtm_next_event has something. timeout_ms -1: for ever.
 * Returns 1: it has. 0: not in time, or a signal handler ran. RTM_E_INTERRUPTED;
 * otherwise as rtm_next_event. */
int rtm_wait(struct rtm *handle, int timeout_ms);

/* Makes the rtm_wait that runs in another thread, or the next one, return
 * RTM_E_INTERRUPTED. From any thread, also from a signal handler. Returns 0 or
 * RTM_E_ARGUMENT. */
int rtm_interrupt(struct rtm *handle);

#ifdef __cplusplus
}
#endif

#endif /* RTM_H */
