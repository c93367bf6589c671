/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Statistics and status of a turbotap netdev. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <stdio.h>
#include <string.h>

#include "smap.h"

/* Adds the counters of 'queue' to 'sum'. */
void
netdev_turbotap_add_queue_stats(struct turbotap_queue_stats *sum,
                                const struct turbotap_queue *queue)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    sum->packets += stats.packets;
    sum->bytes += stats.bytes;
    sum->gso_frames += stats.gso_frames;
    sum->gso_packets += stats.gso_packets;
    sum->batches += stats.batches;
    sum->empty_polls += stats.empty_polls;
    sum->syscalls += stats.syscalls;
    sum->errors += stats.errors;
    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        sum->drops[i] += stats.drops[i];
    }
}

static uint64_t
sum_drops(const struct turbotap_queue_stats *stats)
{
    uint64_t sum = 0;

    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        sum += stats->drops[i];
    }
    return sum;
}

/* Packets and octets are ours, from the switch's side: received is what the
 * host sent.  Of the frames dropped, the kernel counts those it had no room
 * for, which are not ours, and most but not all that it refused from us. */
static int
netdev_turbotap_get_stats(const struct netdev *netdev,
                          struct netdev_stats *stats)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct turbotap_queue_stats rx, tx;

    memset(stats, 0, sizeof *stats);
    ovs_mutex_lock(&tt->linux_.mutex);
    rx = tt->closed_rx;
    tx = tt->closed_tx;
    for (int i = 0; i < netdev->n_rxq; i++) {
        netdev_turbotap_add_queue_stats(&rx, tt->rxqs[i]->queue);
    }
    for (int i = 0; i < netdev->n_txq; i++) {
        netdev_turbotap_add_queue_stats(&tx, tt->txqs[i].queue);
    }
    stats->rx_packets = rx.packets;
    stats->rx_bytes = rx.bytes;
    stats->rx_dropped = sum_drops(&rx) + tt->discarded;
    stats->rx_length_errors = rx.drops[TURBOTAP_DROP_TRUNCATED]
                              + rx.drops[TURBOTAP_DROP_SHORT];
    stats->tx_packets = tx.packets;
    stats->tx_bytes = tx.bytes;
    stats->tx_dropped = sum_drops(&tx);

    stats->rx_dropped += tt->lost_rx_dropped;
    if (!netdev_turbotap_read_link_stats(tt)) {
        const struct turbotap_link_stats *host = &tt->link.stats;

        stats->rx_dropped += host->tx_dropped - tt->base_tx_dropped;
        stats->tx_dropped = MAX(stats->tx_dropped,
                                host->rx_dropped - tt->base_rx_dropped);
        stats->multicast = host->multicast;
        stats->collisions = host->collisions;
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

/* Adds to 'cs' the counter 'direction'_q'qid'_'name'. */
static void
add_counter(struct netdev_custom_stats *cs, const char *direction, int qid,
            const char *name, const char *suffix, uint64_t value)
{
    struct netdev_custom_counter *counter = &cs->counters[cs->size++];

    snprintf(counter->name, sizeof counter->name, "%s_q%d_%s%s", direction,
             qid, name, suffix);
    counter->value = value;
}

/* Adds to 'cs' the counters of 'queue', number 'qid'. */
static void
add_queue_counters(struct netdev_custom_stats *cs, int qid,
                   const struct turbotap_queue *queue)
{
    bool rx = queue->direction == TURBOTAP_RX;
    const char *direction = rx ? "rx" : "tx";
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    add_counter(cs, direction, qid, "packets", "", stats.packets);
    add_counter(cs, direction, qid, "bytes", "", stats.bytes);
    add_counter(cs, direction, qid, rx ? "gso_frames" : "gro_frames", "",
                stats.gso_frames);
    add_counter(cs, direction, qid, rx ? "gso_packets" : "gro_packets", "",
                stats.gso_packets);
    add_counter(cs, direction, qid, "batches", "", stats.batches);
    add_counter(cs, direction, qid, "syscalls", "", stats.syscalls);
    /* Not the empty polls: a port that is idle would have other statistics
     * each time, all of which would be written to the database. */
    if (rx) {
        add_counter(cs, direction, qid, "errors", "", stats.errors);
    }
    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        if (turbotap_drop_is_possible(i, queue->direction)) {
            add_counter(cs, direction, qid, turbotap_drop_to_string(i),
                        "_drops", stats.drops[i]);
        }
    }
}

static int
netdev_turbotap_get_custom_stats(const struct netdev *netdev,
                                 struct netdev_custom_stats *cs)
{
    enum { MAX_PER_QUEUE = 7 + TURBOTAP_N_DROPS };
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);

    ovs_mutex_lock(&tt->linux_.mutex);
    cs->size = 0;
    cs->counters = xcalloc((netdev->n_rxq + netdev->n_txq) * MAX_PER_QUEUE,
                           sizeof *cs->counters);
    for (int i = 0; i < netdev->n_rxq; i++) {
        add_queue_counters(cs, i, tt->rxqs[i]->queue);
    }
    for (int i = 0; i < netdev->n_txq; i++) {
        add_queue_counters(cs, i, tt->txqs[i].queue);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

static int
netdev_turbotap_get_status(const struct netdev *netdev, struct smap *smap)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);

    smap_add(smap, "driver_name", "turbotap");
    smap_add(smap, "driver_version", TURBOTAP_VERSION);
    ovs_mutex_lock(&tt->linux_.mutex);
    if (tt->io.rx) {
        const struct turbotap_io_class *class
            = tt->io.rx->module_version ? tt->io.rx : tt->io.tx;
        char name[TURBOTAP_IO_NAME_LEN];
        char version[32];

        turbotap_io_format(&tt->io, name);
        smap_add(smap, "io", name);
        if (class->module_version
            && !class->module_version(version, sizeof version)) {
            smap_add(smap, "module_version", version);
        }
        if (tt->io_reason[0]) {
            smap_add(smap, "io_reason", tt->io_reason);
        }
    }
    smap_add_format(smap, "n_rxq", "%d", netdev->n_rxq);
    smap_add_format(smap, "n_txq", "%d", netdev->n_txq);
    netdev_turbotap_offload_get_status(tt, smap);
    netdev_turbotap_link_get_status(tt, smap);
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

void
netdev_turbotap_stats_init_class(struct netdev_class *class)
{
    class->get_stats = netdev_turbotap_get_stats;
    class->get_custom_stats = netdev_turbotap_get_custom_stats;
    class->get_status = netdev_turbotap_get_status;
}
