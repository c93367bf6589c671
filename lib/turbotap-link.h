/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's view of a network device, through rtnetlink (libnl-route-3): what
 * "ip link" shows and sets, and a watch that reports changes.
 *
 * It knows links of any kind by their index, which survives a rename, and no
 * queue or frame.  It must not know Open vSwitch.
 *
 * Locking: one thread at a time may use a struct turbotap_link or a struct
 * turbotap_watch; different ones are independent of each other.  Nothing here
 * logs. */

#ifndef TURBOTAP_LINK_H
#define TURBOTAP_LINK_H 1

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

/* Longest alias, without the terminating null (IFALIASZ - 1 in
 * linux/if_link.h). */
#define TURBOTAP_ALIAS_LEN 255

/* Counters of a link as the *host* sees it: what the host sent out of the
 * device is tx.  In frames or octets (struct rtnl_link_stats64). */
struct turbotap_link_stats {
    uint64_t rx_packets, rx_bytes, rx_errors, rx_dropped;
    uint64_t tx_packets, tx_bytes, tx_errors, tx_dropped;
    uint64_t multicast, collisions;
};

/* A link, at one moment. */
struct turbotap_link_info {
    int ifindex;
    char name[IFNAMSIZ];
    unsigned int mtu;           /* In octets, without the Ethernet header. */
    uint8_t mac[6];
    unsigned int flags;         /* IFF_* of linux/if.h. */
    bool carrier;               /* IFF_LOWER_UP: up, and something attached. */
    char alias[TURBOTAP_ALIAS_LEN + 1]; /* "" if it has none. */
    struct turbotap_link_stats stats;
};

/* A handle for requests. */
struct turbotap_link;

/* Opens a handle for requests in this thread's network namespace and stores it
 * in '*linkp'.  Returns 0 or a positive errno value. */
int turbotap_link_open(struct turbotap_link **linkp);
void turbotap_link_close(struct turbotap_link *link);

/* Stores the index of the link called 'name' in '*ifindex'.  Returns 0 or a
 * positive errno value: ENODEV if there is none. */
int turbotap_link_lookup(struct turbotap_link *link, const char *name,
                         int *ifindex);

/* Reads the link with index 'ifindex' from the kernel into '*info'.  Returns 0
 * or a positive errno value: ENODEV if there is none. */
int turbotap_link_get(struct turbotap_link *link, int ifindex,
                      struct turbotap_link_info *info);

/* Each changes one property of the link with index 'ifindex' and returns 0 or
 * a positive errno value: ENODEV if there is no such link, EPERM, or what the
 * driver says (EINVAL: an MTU out of range, EADDRNOTAVAIL: a MAC that is not
 * a unicast address).  turbotap_link_set_flags() clears the IFF_* flags in
 * 'off' and sets those in 'on'. */
int turbotap_link_set_mtu(struct turbotap_link *link, int ifindex,
                          unsigned int mtu);
int turbotap_link_set_mac(struct turbotap_link *link, int ifindex,
                          const uint8_t mac[6]);
int turbotap_link_set_flags(struct turbotap_link *link, int ifindex,
                            unsigned int off, unsigned int on);
int turbotap_link_set_alias(struct turbotap_link *link, int ifindex,
                            const char *alias);

/* A watch on all links of a network namespace. */
struct turbotap_watch;

enum turbotap_event_type {
    TURBOTAP_LINK_CHANGED,      /* A link is new, or something of it changed.
                                 * 'info' is what it is now. */
    TURBOTAP_LINK_DELETED,      /* A link went away (deleted, or moved to
                                 * another namespace).  Of 'info', 'ifindex'
                                 * and 'name' are valid. */
    TURBOTAP_LINKS_LOST,        /* Events were lost: read again what matters.
                                 * 'info' is not valid. */
};

struct turbotap_event {
    enum turbotap_event_type type;
    struct turbotap_link_info info;     /* 'stats' are not filled in. */
};

/* Opens a watch on this thread's network namespace and stores it in '*watchp'.
 * Changes from now on are reported.  Returns 0 or a positive errno value. */
int turbotap_watch_open(struct turbotap_watch **watchp);
void turbotap_watch_close(struct turbotap_watch *watch);

/* Returns the descriptor that is readable when there is an event. */
int turbotap_watch_fd(const struct turbotap_watch *watch);

/* Takes the next event off 'watch' and stores it in '*event', without waiting.
 * Returns 0, EAGAIN if there is none, or another positive errno value. */
int turbotap_watch_next(struct turbotap_watch *watch,
                        struct turbotap_event *event);

#endif /* turbotap-link.h */
