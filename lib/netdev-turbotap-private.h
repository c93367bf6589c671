/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What the files netdev-turbotap*.c share, and nobody else includes.
 *
 *     netdev-turbotap.c          configuration and lifecycle, the classes
 *     netdev-turbotap-queue.c    queues: opened, changed, closed
 *     netdev-turbotap-receive.c  receiving: the fast path in
 *     netdev-turbotap-send.c     sending: the fast path out
 *     netdev-turbotap-packet.c   the packets received into
 *     netdev-turbotap-offload.c  checksum and segmentation offload
 *     netdev-turbotap-internal.c what type "internal" stands for
 *     netdev-turbotap-watch.c    what becomes of devices: events, the end
 *     netdev-turbotap-device.c   the device: claimed, made again, given up
 *     netdev-turbotap-guard.c    what others do to it
 *     netdev-turbotap-link.c     the link: where it is, its settings
 *     netdev-turbotap-claim.c    whose device it is
 *     netdev-turbotap-keep.c     what the keeper has, while no switch runs
 *     netdev-turbotap-retry.c    when to try again to get one
 *     netdev-turbotap-unixctl.c  what ovs-appctl shows of all that
 *     netdev-turbotap-inherit.c  what netdev-linux does by a link's name
 *     netdev-turbotap-stats.c    statistics and status
 *     netdev-turbotap-compat.h   what differs between releases
 *
 * Calls go from the top of this list downwards, but that all may tell the
 * first one what is wrong with a port (netdev_turbotap_set_problem()). */

#ifndef NETDEV_TURBOTAP_PRIVATE_H
#define NETDEV_TURBOTAP_PRIVATE_H 1

#include <limits.h>

#include "dpif-netdev.h"
#include "netdev-provider.h"

/* netdev-linux-private.h defines them for each file, of which not all need
 * them. */
struct netdev_linux;
struct netdev_rxq_linux;
static struct netdev_linux *
netdev_linux_cast(const struct netdev *) OVS_UNUSED;
static struct netdev_rxq_linux *
netdev_rxq_linux_cast(const struct netdev_rxq *) OVS_UNUSED;

#include "netdev-linux-private.h"
#include "netdev-turbotap.h"
#include "netdev-turbotap-compat.h"
#include "openvswitch/list.h"
#include "openvswitch/thread.h"
#include "openvswitch/shash.h"
#include "sset.h"
#include "turbotap-dev.h"
#include "turbotap-escape.h"
#include "turbotap-gro.h"
#include "turbotap-gso.h"
#include "turbotap-link.h"
#include "turbotap-place.h"
#include "turbotap-queue.h"
#include "turbotap-vnet.h"
#include "util.h"

/* A receive queue, of the thread that polls it. */
struct netdev_turbotap_rxq {
    struct turbotap_queue *queue;
    bool busy;                  /* Have as many as an idle one has been too
                                 * few, since it was last idle? */
    unsigned int n_empty;       /* If so: how often in a row it had nothing. */
    long long int empty_since;  /* The same, since when, in ms. */

    /* Frames that were received, from 'next_buf' on not looked at yet.  The
     * cookie of each is the dp_packet whose buffer it is in, NULL if that has
     * been passed on.  There may be more than a batch only if they are those
     * of a queue that was replaced by another. */
    unsigned int n_bufs;
    unsigned int next_buf;
    struct turbotap_buf bufs[NETDEV_MAX_BURST + TURBOTAP_MAX_HELD];

    bool cutting;               /* The next one is being cut: */
    struct turbotap_gso gso;
};

/* A transmit queue.  Padded, since each belongs to another thread. */
struct netdev_turbotap_txq {
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        struct ovs_mutex mutex; /* Only for threads that share the queue. */
        struct turbotap_queue *queue;
    );
};

/* What can be wrong with a port that lives on. */
enum netdev_turbotap_problem {
    NETDEV_TURBOTAP_PROBLEM_CONFIG,     /* The options. */
    NETDEV_TURBOTAP_PROBLEM_QUEUES,     /* Their number, or the I/O class. */
    NETDEV_TURBOTAP_PROBLEM_DEVICE,     /* It cannot be made again. */
    NETDEV_TURBOTAP_PROBLEM_STRANGE,    /* Others have queues of it. */
    NETDEV_TURBOTAP_PROBLEM_RECORD,     /* It cannot be recorded. */
    NETDEV_TURBOTAP_PROBLEM_MTU,
    NETDEV_TURBOTAP_PROBLEM_MAC,
    NETDEV_TURBOTAP_PROBLEM_FLAGS,      /* Up or down. */
    NETDEV_TURBOTAP_PROBLEM_POLICING,
    NETDEV_TURBOTAP_PROBLEM_QOS,
    NETDEV_TURBOTAP_PROBLEM_KEEPER,     /* It cannot be reached. */
    NETDEV_TURBOTAP_N_PROBLEMS
};

/* A netdev of class "turbotap", "turbotap-nonpmd" or "turbotap-internal".  It
 * is a netdev_linux, too, to inherit what works by the name of a local link.
 *
 * All is protected by 'linux_.mutex', but for 'rxqs' and 'txqs': these change
 * only in reconfigure(), while no thread receives from or sends to this
 * netdev. */
struct netdev_turbotap {
    struct netdev_linux linux_;         /* Must be first. */

    struct turbotap_dev *dev;   /* NULL until the first good configuration. */
    struct turbotap_dev *new_dev;       /* To take its place. */
    bool owned;                 /* Delete the device in the end? */
    bool gone;                  /* No device yet, or deleted from outside. */
    bool ending;                /* About to go along with its namespace. */
    long long int remake_at;    /* When to try to make it again, in ms. */
    bool unpoliced;             /* It is known to have no policing of ours. */
    bool policed;               /* This run of the switch has policed it. */
    bool without_qos;           /* It came without QoS, and has got none. */
    bool tc_lost;            /* QoS and policing are to be set up anew. */
    char qos_qdisc[IFNAMSIZ];   /* Kind of the queueing discipline that QoS
                                 * stands for which was set, "" if none was. */

    /* What others do to the device. */
    unsigned int n_strange;     /* Queues of it that they had, lately. */
    long long int strange_since;        /* When they had none, in ms. */
    long long int guard_at;     /* When to look again, in ms. */

    /* The link, as last heard of. */
    struct ovs_list list_node;          /* In 'all_turbotaps'. */
    struct turbotap_place place;        /* Where it is. */
    char netns_name[NAME_MAX + 1];      /* The same, for the user, */
    char ifname[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];   /* and its name there. */
    struct turbotap_link_info link;
    atomic_uint mtu;            /* 'link.mtu', for who has no mutex. */
    atomic_uint up_seq;         /* Changes when the link may have come up. */
    atomic_uint down_seq;       /* 'up_seq' before a frame was refused since
                                 * the link was down: until that changes, it
                                 * is. */
    struct eth_addr wanted_mac; /* By the database, zeros if it says none. */
    int mac_error;              /* A positive errno value if the kernel would
                                 * not have it. */
    long long int carrier_resets;
    /* The link's own drops from before we came, and those of links that are no
     * more. */
    uint64_t base_rx_dropped, base_tx_dropped;
    uint64_t lost_rx_dropped;

    /* Configuration requested by the user and by the datapath. */
    unsigned int requested_n_rxq;
    unsigned int requested_n_txq;
    struct turbotap_io requested_io;    /* NULLs: what does best. */
    unsigned int requested_mtu; /* 0: leave it as it is. */
    bool requested_offload;     /* Leave checksums and segmentation to us? */

    /* Configuration in force ('up.n_rxq' and 'up.n_txq' count the queues). */
    struct turbotap_io io;
    struct turbotap_io best_io; /* NULLs: not asked for yet. */
    char io_reason[3 * TURBOTAP_REASON_LEN];    /* Why it is that. */
    bool offload;               /* What was requested, as the host has it. */
    bool uso;                   /* UDP segmentation, too. */
    atomic_uint gro_kinds;      /* What is merged, TURBOTAP_GRO_*. */
    struct netdev_turbotap_rxq **rxqs;
    struct netdev_turbotap_txq *txqs;

    /* What the user should know, NULL if nothing. */
    char *problems[NETDEV_TURBOTAP_N_PROBLEMS];

    /* Counters of the queues that were closed, without what was discarded. */
    struct turbotap_queue_stats closed_rx;
    struct turbotap_queue_stats closed_tx;
    uint64_t discarded;         /* Frames received but lost in closing. */
};

/* Returns whether 'tt' is known to refuse all frames since its link is down,
 * so that a thread that sends to many ports need not ask the kernel for
 * each. */
static inline bool
netdev_turbotap_is_down(struct netdev_turbotap *tt)
{
    unsigned int up_seq, down_seq;

    atomic_read_relaxed(&tt->up_seq, &up_seq);
    atomic_read_relaxed(&tt->down_seq, &down_seq);
    return up_seq == down_seq;
}

/* Takes note that the link of 'tt' may have come up. */
static inline void
netdev_turbotap_note_up(struct netdev_turbotap *tt)
{
    unsigned int old;

    atomic_add_relaxed(&tt->up_seq, 1, &old);
}

static inline struct netdev_turbotap *
netdev_turbotap_cast(const struct netdev *netdev)
{
    ovs_assert(netdev_is_turbotap(netdev));
    return CONTAINER_OF(netdev, struct netdev_turbotap, linux_.up);
}

static inline const char *
tt_name(const struct netdev_turbotap *tt)
{
    return netdev_get_name(&tt->linux_.up);
}

/* Each fills in the functions of 'class' that its file implements. */
void netdev_turbotap_receive_init_class(struct netdev_class *class);
void netdev_turbotap_send_init_class(struct netdev_class *class);
void netdev_turbotap_link_init_class(struct netdev_class *class);
void netdev_turbotap_watch_init_class(struct netdev_class *class);
void netdev_turbotap_inherit_init_class(struct netdev_class *class);
void netdev_turbotap_stats_init_class(struct netdev_class *class);

/* netdev-turbotap-queue.c. */
int netdev_turbotap_set_queues(struct netdev_turbotap *,
                               const struct turbotap_io *);
void netdev_turbotap_trim_rxqs(struct netdev_turbotap *, unsigned int n);
void netdev_turbotap_trim_txqs(struct netdev_turbotap *, unsigned int n);

/* netdev-turbotap-receive.c. */

/* Bounds the batches that draining a queue takes under a flood, at twice what
 * the device's queue holds by default (1000 frames). */
#define NETDEV_TURBOTAP_MAX_DRAIN (2 * 1024 / NETDEV_MAX_BURST)

void netdev_turbotap_fill_rxq(struct netdev_turbotap_rxq *);
bool netdev_turbotap_take_received(struct netdev_turbotap_rxq *);
void netdev_turbotap_drop_received(struct netdev_turbotap_rxq *,
                                   uint64_t *n, uint64_t *bytes);

/* netdev-turbotap-packet.c. */

/* Room before the data of a packet, in octets: what Open vSwitch wants, and a
 * virtio-net header. */
#define NETDEV_TURBOTAP_HEADROOM (DP_NETDEV_HEADROOM + TURBOTAP_VNET_HDR_LEN)

/* Room for data of a packet that can take the largest frame there is, in
 * octets, with the one by which the I/O classes tell a frame that was cut. */
#define NETDEV_TURBOTAP_MAX_BUF (TURBOTAP_FRAME_MAX + 1)

/* Frames of up to so many octets, what an MTU of 9000 needs, are copied, not
 * passed on in a buffer of that size. */
#define NETDEV_TURBOTAP_MAX_COPY 9216

/* How many of the large packets a receive queue has, and a thread keeps at
 * most. */
#define NETDEV_TURBOTAP_N_BUFS NETDEV_MAX_BURST

/* How many a receive queue has until all were filled at once.  Each takes a
 * page even if it stays empty.  More than one, since a multishot read ends
 * when it finds no buffer for the next frame. */
#define NETDEV_TURBOTAP_N_IDLE_BUFS 2

/* A receive queue that has got nothing for so long, in ms, gives the memory of
 * its buffers back.  It looks at the clock once in so many polls. */
#define NETDEV_TURBOTAP_IDLE_MS 1000
#define NETDEV_TURBOTAP_IDLE_POLLS 64

void netdev_turbotap_packet_init(void);
void netdev_turbotap_new_packets(struct dp_packet **, unsigned int n,
                                 uint32_t size);
void netdev_turbotap_delete_batch(struct dp_packet_batch *);

/* netdev-turbotap-offload.c. */
int netdev_turbotap_offload_open(struct netdev_turbotap *,
                                 struct turbotap_dev *);
void netdev_turbotap_offload_get_status(const struct netdev_turbotap *,
                                        struct smap *);
bool netdev_turbotap_offload_is_whole(const struct turbotap_vnet_rx *);
void netdev_turbotap_offload_complete(uint8_t *frame, uint32_t size,
                                      struct turbotap_vnet_rx *);
void netdev_turbotap_offload_set_flags(struct dp_packet *,
                                       const struct turbotap_vnet_rx *);
int netdev_turbotap_offload_prepare(struct dp_packet **, unsigned int mtu,
                                    struct turbotap_buf *);

/* netdev-turbotap.c. */
void netdev_turbotap_get_all(struct shash *netdevs);
extern struct netdev_class netdev_turbotap_internal_class;

void netdev_turbotap_set_problem(struct netdev_turbotap *,
                                 enum netdev_turbotap_problem,
                                 const struct ds *);

/* netdev-turbotap-internal.c. */
void netdev_turbotap_restore_internal(void);

/* netdev-turbotap-device.c. */
int netdev_turbotap_open_device(struct netdev_turbotap *, struct ds *problem);
void netdev_turbotap_remake_device(struct netdev_turbotap *);
int netdev_turbotap_replace_device(struct netdev_turbotap *);
void netdev_turbotap_close_device(struct netdev_turbotap *, bool keep);

/* netdev-turbotap-guard.c. */
void netdev_turbotap_guard_look(struct netdev_turbotap *,
                                const struct turbotap_link_tun *);
void netdev_turbotap_guard(struct netdev_turbotap *,
                           const struct turbotap_link_info *seen);

/* netdev-turbotap-claim.c. */

/* The record's file, in the run-time folder. */
#define NETDEV_TURBOTAP_RECORD "turbotap-devices"

/* A device that was claimed. */
struct netdev_turbotap_claim {
    struct turbotap_dev *dev;
    bool owned;                 /* Ours to delete? */
    bool made;                  /* Was there none?  Also if it failed. */
    const char *how;            /* For the log. */
    struct turbotap_place place;
    struct turbotap_link_info info;
    int ifindex;                /* That it must have, 0 for any. */
};

int netdev_turbotap_claim(const char *name, struct netdev_turbotap_claim *,
                          struct ds *problem);
void netdev_turbotap_release(struct turbotap_dev *, const char *name,
                             bool owned);
void netdev_turbotap_give_up(struct turbotap_dev *, const char *name,
                             bool owned);
void netdev_turbotap_orphan(struct turbotap_dev *, const char *name,
                            bool owned);
void netdev_turbotap_record_place(const struct netdev_turbotap *);
void netdev_turbotap_record_end(const struct netdev_turbotap *);
void netdev_turbotap_format_record_problem(const struct netdev_turbotap *,
                                           struct ds *problem);
void netdev_turbotap_list_devices(struct shash *devices);
int netdev_turbotap_delete_unused(const char *name, struct ds *problem);

/* netdev-turbotap-keep.c. */
void netdev_turbotap_keep(const struct netdev_turbotap *);
int netdev_turbotap_get_kept(const char *name, bool vnet_hdr,
                             struct turbotap_dev **, bool *ownedp);
void netdev_turbotap_forget(const char *name);
void netdev_turbotap_list_kept(struct sset *names);
bool netdev_turbotap_is_kept(const char *name);
bool netdev_turbotap_keeper_wants(const char *name);
void netdev_turbotap_keeper_problem(const char *name, const char *consequence,
                                    struct ds *problem);
bool netdev_turbotap_keeper_run(void);
void netdev_turbotap_keeper_wait(void);

/* netdev-turbotap-retry.c. */
int netdev_turbotap_may_try(const char *name, struct ds *problem);
void netdev_turbotap_note_failure(const char *name, int error,
                                  const char *problem, bool made);
void netdev_turbotap_note_success(const char *name);
void netdev_turbotap_retry_reap(const struct sset *wanted);
void netdev_turbotap_retry_run(void);
void netdev_turbotap_retry_wait(void);

/* netdev-turbotap-link.c. */
int netdev_turbotap_set_link(struct netdev_turbotap *,
                             const struct turbotap_place *,
                             const struct turbotap_link_info *);
int netdev_turbotap_find_link(struct netdev_turbotap *);
int netdev_turbotap_update_link(struct netdev_turbotap *);
int netdev_turbotap_read_link_stats(struct netdev_turbotap *);
int netdev_turbotap_read_qdisc(struct netdev_turbotap *, char kind[IFNAMSIZ]);
void netdev_turbotap_avoid_default_qdisc(struct netdev_turbotap *);
void netdev_turbotap_apply_mtu(struct netdev_turbotap *);
void netdev_turbotap_link_get_status(const struct netdev_turbotap *,
                                     struct smap *);

/* netdev-turbotap-inherit.c. */
void netdev_turbotap_forget_qos(struct netdev_turbotap *);
void netdev_turbotap_forget_tc(struct netdev_turbotap *);

/* netdev-turbotap-watch.c. */

/* How long to wait before a device that was deleted is made again, and between
 * two attempts to do so, in ms. */
#define NETDEV_TURBOTAP_REMAKE_MS 1000

int netdev_turbotap_open_watch(void);
void netdev_turbotap_watch_link(struct netdev_turbotap *);
void netdev_turbotap_unwatch_link(struct netdev_turbotap *);

/* netdev-turbotap-unixctl.c. */
void netdev_turbotap_unixctl_init(void);

/* netdev-turbotap-stats.c. */
void netdev_turbotap_add_queue_stats(struct turbotap_queue_stats *sum,
                                     const struct turbotap_queue *);

#endif /* netdev-turbotap-private.h */
