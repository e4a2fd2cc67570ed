/* lookup: where addresses go, by the tables of the running rtmd.
 * cc lookup.c -o lookup $(pkg-config --cflags --libs rtm) */
#include <arpa/inet.h>
#include <rtm.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **words) {
    struct rtm *rtm;
    if (rtm_open(&rtm, NULL) < 0) {
        fprintf(stderr, "lookup: %s\n", rtm_error(NULL));
        return 1;
    }
    for (int i = 1; i < count; i++) {
        unsigned char address[16];
        int family = strchr(words[i], ':') ? AF_INET6 : AF_INET;
        struct rtm_answer answer;
        struct rtm_hop hop;
        struct rtm_link link = {0};
        char gateway[INET6_ADDRSTRLEN] = "-";
        if (inet_pton(family, words[i], address) != 1) {
            fprintf(stderr, "lookup: %s: not an address\n", words[i]);
            continue;
        }
        int found = rtm_lookup_hop(rtm, RTM_TABLE_MAIN_ID, family, address, 0, &answer, &hop);
        if (found < 0)
            fprintf(stderr, "lookup: %s: %s\n", words[i], rtm_error(rtm));
        if (found < 1 || answer.type != RTM_UNICAST) {
            printf("%s unreachable\n", words[i]);
            continue;
        }
        if (hop.gateway.family)
            inet_ntop((int)hop.gateway.family, hop.gateway.ip.bytes, gateway, sizeof gateway);
        rtm_link(rtm, hop.link, &link);
        printf("%s via %s dev %s\n", words[i], gateway, link.name);
    }
    rtm_close(rtm);
    return 0;
}
