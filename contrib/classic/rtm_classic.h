/*
 * What rtmd says on DIR/classic.sock (SOCK_STREAM), in native byte order, and
 * what a client may say there. No library is needed; classic_client.c beside this
 * file is a whole client.
 *
 * After connecting, without a word from the client: the whole routing table as
 * CREATE, the keys of the MAC table as KEY, SYNCED once, then every change as it
 * comes. Shown is the best IPv4 unicast route of each prefix of table 254, by its
 * first next hop; `rtm client list -j` counts what isn't ("not_shown"). The value
 * of a key, its IP address, is in the shared memory that librtm maps.
 *
 * A whole flush (`rtm flush all`): who has registered gets SIGUSR1 first. Then comes
 * DELETE or KEY_GONE for each entry, then what is new. So the signal is a hint: a
 * handler only sets a flag, and whoever empties its table at the flag must take
 * a DELETE of what it doesn't have for nothing. The same DELETE may come to a
 * client that is behind. One that is so far behind that deletes are forgotten is
 * disconnected: it connects anew and begins with an empty table.
 */
#ifndef RTM_CLASSIC_H
#define RTM_CLASSIC_H

#include <stddef.h>
#include <stdint.h>

enum rtm_classic_op {
    CREATE = 0,   /* a row of the routing table */
    UPDATE = 1,   /* the row of this destination and mask is another now */
    DELETE = 2,   /* it is gone; only destination and mask are set */
    SYNCED = 3,   /* the initial table is complete */
    KEY = 4,      /* a key of the MAC table, as text in oif */
    KEY_GONE = 5  /* it is gone */
};

/* From the daemon. Texts end with a NUL, what is unused is zero; no gateway or no
 * interface: an empty text. */
struct rtm_classic {
    int op_code;
    char destination[16];
    char mask;
    char gateway_ip[16];
    char oif[32];
};

enum rtm_classic_client_op {
    REGISTER = 0, /* after SYNCED: getpid(), to be signalled at a whole flush */
    GOODBYE = 1   /* the last; the session and its pid are gone */
};

/* To the daemon. */
struct rtm_classic_client {
    int32_t op;
    int32_t pid;
};

#if defined(__cplusplus)
#define RTM_CLASSIC_ASSERT(what) static_assert(what, #what)
#else
#define RTM_CLASSIC_ASSERT(what) _Static_assert(what, #what)
#endif
RTM_CLASSIC_ASSERT(sizeof(struct rtm_classic) == 72);
RTM_CLASSIC_ASSERT(sizeof(((struct rtm_classic *)0)->op_code) == 4);
RTM_CLASSIC_ASSERT(offsetof(struct rtm_classic, op_code) == 0);
RTM_CLASSIC_ASSERT(offsetof(struct rtm_classic, destination) == 4);
RTM_CLASSIC_ASSERT(offsetof(struct rtm_classic, mask) == 20);
RTM_CLASSIC_ASSERT(offsetof(struct rtm_classic, gateway_ip) == 21);
RTM_CLASSIC_ASSERT(offsetof(struct rtm_classic, oif) == 37);
RTM_CLASSIC_ASSERT(sizeof(struct rtm_classic_client) == 8);
RTM_CLASSIC_ASSERT(offsetof(struct rtm_classic_client, pid) == 4);

#endif
