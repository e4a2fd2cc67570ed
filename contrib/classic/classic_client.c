/*
 * A client of classic.sock: keeps the routing table and the keys of the MAC table,
 * empties them when it is signalled, prints them and says goodbye when it is told
 * the destination UNTIL (or when the daemon goes).
 *
 *   cc -o classic_client classic_client.c
 *   classic_client /run/rtm/classic.sock [UNTIL [read|between|both]]
 *
 * read: it doesn't register; between: it looks for the signal between structures;
 * both (the default): a signal also wakes it while it waits.
 */
#define _GNU_SOURCE
#include "rtm_classic.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct entry { struct rtm_classic row; struct entry *next; } *table;
static volatile sig_atomic_t flushed;
static unsigned long counts[6], signals;

static void on_signal(int signal) { (void)signal; flushed = 1; }

static void forget(const struct rtm_classic *row) { /* NULL: everything */
    for (struct entry **at = &table, *gone; *at;)
        if (!row || (!strcmp((*at)->row.destination, row->destination) && (*at)->row.mask == row->mask
                     && (row->mask || row->destination[0] || !strcmp((*at)->row.oif, row->oif))))
            gone = *at, *at = gone->next, free(gone);
        else
            at = &(*at)->next;
}

static void look_for_signal(void) {
    if (flushed) flushed = 0, signals++, forget(NULL);
}

int main(int argc, char **argv) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    const char *until = argc > 2 ? argv[2] : "", *how = argc > 3 ? argv[3] : "both";
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(name.sun_path, argc > 1 ? argv[1] : "/run/rtm/classic.sock", sizeof name.sun_path - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name)) return perror(name.sun_path), 3;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = strcmp(how, "both") ? SA_RESTART : 0 };
    sigaction(SIGUSR1, &action, NULL);
    for (struct rtm_classic row;;) {
        for (size_t have = 0; have < sizeof row;) {
            ssize_t count = read(fd, (char *)&row + have, sizeof row - have);
            if (count == 0 || (count < 0 && errno != EINTR)) goto end;
            if (count > 0) have += (size_t)count; else look_for_signal();
        }
        look_for_signal();
        if (row.op_code >= 0 && row.op_code <= KEY_GONE) counts[row.op_code]++;
        if (row.op_code == SYNCED && strcmp(how, "read"))
            send(fd, &(struct rtm_classic_client){ REGISTER, getpid() }, 8, MSG_NOSIGNAL);
        if (row.op_code == SYNCED) { puts("synced"), fflush(stdout); continue; }
        if (row.op_code != CREATE && row.op_code != KEY) forget(&row); /* those are new */
        if (row.op_code == DELETE || row.op_code == KEY_GONE) continue;
        struct entry *entry = malloc(sizeof *entry);
        if (!entry) return perror("classic_client"), 2;
        *entry = (struct entry){ row, table }, table = entry;
        if (*until && !strcmp(row.destination, until)) break;
    }
end:
    send(fd, &(struct rtm_classic_client){ GOODBYE, 0 }, 8, MSG_NOSIGNAL);
    for (struct entry *at = table; at; at = at->next)
        if (at->row.op_code == KEY) printf("key %s\n", at->row.oif);
        else printf("%s/%d %s %s\n", at->row.destination, at->row.mask,
                    at->row.gateway_ip[0] ? at->row.gateway_ip : "-", at->row.oif[0] ? at->row.oif : "-");
    printf("counts create %lu update %lu delete %lu key %lu key_gone %lu signals %lu\n",
           counts[CREATE], counts[UPDATE], counts[DELETE], counts[KEY], counts[KEY_GONE], signals);
    return 0;
}
