/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's view of a network device, through rtnetlink (libnl-route-3): what
 * "ip link" shows and sets.
 *
 * It knows links of any kind by the network namespace they are in and their
 * index there, which survives a rename, and no queue or frame.  It must not
 * know Open vSwitch.
 *
 * A namespace is known by its id, a number that the handle's own namespace has
 * for it (RTM_NEWNSID, see ip-netns(8)).  Asking about links in there needs
 * CAP_NET_ADMIN in the user namespace that owns it.  The kernel has no request
 * that changes a link in there: RTM_SETLINK with IFLA_TARGET_NETNSID means
 * that a link from here is to move there (do_setlink() of
 * net/core/rtnetlink.c).
 *
 * Locking: one thread at a time may use a struct turbotap_link; different ones
 * are independent of each other.  Nothing here logs. */

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

/* The id of the network namespace that a handle or a watch was opened in. */
#define TURBOTAP_NSID_SELF -1

/* Of a tap, as it is in the kernel (IFLA_TUN_* of linux/if_link.h), or zeros
 * but for 'owner' of another link. */
struct turbotap_link_tun {
    unsigned int n_queues;      /* Attached ones, whoever has them. */
    unsigned int n_disabled;    /* Detached ones. */
    uint32_t owner;             /* The UID that alone may attach queues without
                                 * CAP_NET_ADMIN, TURBOTAP_LINK_NO_OWNER if
                                 * anybody may. */
    bool persist;               /* Does it outlive its descriptors? */
};
#define TURBOTAP_LINK_NO_OWNER UINT32_MAX

/* A link, at one moment. */
struct turbotap_link_info {
    int ifindex;
    char name[IFNAMSIZ];
    unsigned int mtu;           /* In octets, without the Ethernet header. */
    uint8_t mac[6];
    unsigned int flags;         /* IFF_* of linux/if.h. */
    bool carrier;               /* IFF_LOWER_UP: up, and something attached. */
    uint32_t carrier_changes;   /* How often the kernel has seen the carrier
                                 * come or go (IFLA_CARRIER_CHANGES). */
    char kind[16];              /* IFLA_INFO_KIND, "tun" for a tap, "" if it
                                 * has none. */
    char alias[TURBOTAP_ALIAS_LEN + 1]; /* "" if it has none. */
    char qdisc[IFNAMSIZ];       /* Kind of its queueing discipline, "noop"
                                 * while it was not up since it has none. */
    struct turbotap_link_tun tun;
    struct turbotap_link_stats stats;
};

/* A handle for requests. */
struct turbotap_link;

/* Opens a handle for requests in this thread's network namespace and stores it
 * in '*linkp'.  Returns 0 or a positive errno value. */
int turbotap_link_open(struct turbotap_link **linkp);
void turbotap_link_close(struct turbotap_link *link);

/* Stores in '*nsid' the id of the network namespace that the descriptor
 * 'netns_fd' stands for, and gives it one if it has none yet.  From then on, a
 * watch hears of its links.  The id is good for as long as the namespace
 * lives, which it does not keep alive.  Not for the handle's own namespace,
 * which has no id by itself.  Returns 0 or a positive errno value. */
int turbotap_link_get_nsid(struct turbotap_link *link, int netns_fd,
                           int *nsid);

/* Reads the link called 'name', or the one with index 'ifindex', in the
 * namespace 'nsid' from the kernel into '*info'.  Returns 0 or a positive
 * errno value: ENODEV if there is none; EINVAL if there is no such namespace;
 * EPERM, EACCES. */
int turbotap_link_lookup(struct turbotap_link *link, int nsid,
                         const char *name, struct turbotap_link_info *info);
int turbotap_link_get(struct turbotap_link *link, int nsid, int ifindex,
                      struct turbotap_link_info *info);

/* Each changes one property of the link with index 'ifindex' in the handle's
 * own namespace and returns 0 or a positive errno value: ENODEV if there is no
 * such link, EPERM, or what the driver says (EINVAL: an MTU out of range).
 * turbotap_link_set_flags() clears the IFF_* flags in 'off' and sets those in
 * 'on'. */
int turbotap_link_set_mtu(struct turbotap_link *link, int ifindex,
                          unsigned int mtu);
int turbotap_link_set_flags(struct turbotap_link *link, int ifindex,
                            unsigned int off, unsigned int on);
int turbotap_link_set_alias(struct turbotap_link *link, int ifindex,
                            const char *alias);

/* Deletes the link with index 'ifindex' in the namespace 'nsid'.  Returns 0 or
 * a positive errno value as turbotap_link_get() does. */
int turbotap_link_delete(struct turbotap_link *link, int nsid, int ifindex);

/* Has the link with index 'ifindex', in the handle's own namespace, do without
 * a queueing discipline ("noqueue", as a veth), unless it has one already that
 * is not the kernel's default.  Returns 0 or a positive errno value: EEXIST if
 * it has one, ENODEV, EPERM. */
int turbotap_link_set_noqueue(struct turbotap_link *link, int ifindex);

/* For turbotap-watch: stores what 'msg', RTM_NEWLINK or RTM_DELLINK, says in
 * '*info'.  Returns 0 or a positive errno value. */
struct nl_msg;
int turbotap_link_parse(struct nl_msg *msg, struct turbotap_link_info *info);

#endif /* turbotap-link.h */
