/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The queues of a turbotap netdev, and the fast path: dp_packets in and out.
 * Must not know options, nor the link's settings. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "coverage.h"
#include "dp-packet.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_queue);

COVERAGE_DEFINE(turbotap_rx_batch);
COVERAGE_DEFINE(turbotap_tx_batch);
COVERAGE_DEFINE(turbotap_tx_drop);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* Bounds the time that closing a queue takes under a flood, at twice what the
 * device's queue holds by default (1000 frames). */
#define MAX_DRAIN_BATCHES (2 * 1024 / NETDEV_MAX_BURST)

struct netdev_rxq_turbotap {
    struct netdev_rxq up;
    struct turbotap_queue *queue;       /* The netdev's. */
};

static struct netdev_rxq_turbotap *
netdev_rxq_turbotap_cast(const struct netdev_rxq *rxq)
{
    ovs_assert(netdev_is_turbotap(rxq->netdev));
    return CONTAINER_OF(rxq, struct netdev_rxq_turbotap, up);
}

/* Gives 'queue' as many empty packets with room for 'buf_size' octets of data
 * as it takes. */
static void
fill_rxq(struct turbotap_queue *queue, uint32_t buf_size)
{
    unsigned int room = turbotap_queue_room(queue);

    while (room) {
        struct dp_packet *packets[NETDEV_MAX_BURST];
        struct turbotap_buf bufs[NETDEV_MAX_BURST];
        unsigned int n = MIN(room, NETDEV_MAX_BURST);

        netdev_turbotap_new_packets(packets, n, buf_size);
        for (unsigned int i = 0; i < n; i++) {
            bufs[i].data = (char *) dp_packet_data(packets[i])
                           - queue->hdr_len;
            bufs[i].size = queue->hdr_len + buf_size;
            bufs[i].cookie = packets[i];
        }
        turbotap_queue_fill(queue, bufs, n);
        room -= n;
    }
}

static void
delete_packets(const struct turbotap_buf *bufs, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        dp_packet_delete(bufs[i].cookie);
    }
}

/* Receives up to a batch of frames from 'queue' of 'tt' and counts them as
 * lost.  Returns false if there were none, or only bad ones. */
static bool
discard_batch(struct netdev_turbotap *tt, struct turbotap_queue *queue)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_buf bufs[NETDEV_MAX_BURST];
    unsigned int n;

    if (turbotap_queue_recv(queue, bufs, ARRAY_SIZE(bufs), &n)) {
        return false;
    }
    tt->discarded += n;
    for (unsigned int i = 0; i < n; i++) {
        tt->closed_rx.packets--;
        tt->closed_rx.bytes -= bufs[i].size - queue->hdr_len;
    }
    delete_packets(bufs, n);
    return true;
}

/* Closes the receive queue 'queue' of 'tt'.  The frames in it, which would be
 * lost without a trace, are counted as such.  With 'drain', so are those that
 * wait for it in the device; else they are left to the queue that takes its
 * place. */
static void
close_rxq(struct netdev_turbotap *tt, struct turbotap_queue *queue, bool drain)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_buf bufs[NETDEV_MAX_BURST];
    unsigned int n;

    turbotap_queue_wake(queue);
    for (int i = 0; drain && i < MAX_DRAIN_BATCHES; i++) {
        if (!discard_batch(tt, queue)) {
            break;
        }
        fill_rxq(queue, tt->buf_size);
    }

    /* A batch of bad frames looks like none, so see to it that all that there
     * may be were looked at. */
    turbotap_queue_stop(queue);
    for (int i = 0; i <= tt->n_rxq_bufs; i += NETDEV_MAX_BURST) {
        discard_batch(tt, queue);
    }

    while ((n = turbotap_queue_reclaim(queue, bufs, ARRAY_SIZE(bufs)))) {
        delete_packets(bufs, n);
    }
    netdev_turbotap_add_queue_stats(&tt->closed_rx, queue);
    turbotap_queue_close(queue);
}

static void
close_txq(struct netdev_turbotap *tt, struct turbotap_queue *queue)
    OVS_REQUIRES(tt->linux_.mutex)
{
    netdev_turbotap_add_queue_stats(&tt->closed_tx, queue);
    turbotap_queue_close(queue);
}

/* Closes the receive queues of 'tt' from 'n' on, for good. */
void
netdev_turbotap_trim_rxqs(struct netdev_turbotap *tt, unsigned int n)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct netdev *netdev = &tt->linux_.up;

    while (netdev->n_rxq > n) {
        close_rxq(tt, tt->rxqs[--netdev->n_rxq], true);
    }
}

/* Closes the transmit queues of 'tt' from 'n' on, for good. */
void
netdev_turbotap_trim_txqs(struct netdev_turbotap *tt, unsigned int n)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct netdev *netdev = &tt->linux_.up;

    while (netdev->n_txq > n) {
        struct netdev_turbotap_txq *txq = &tt->txqs[--netdev->n_txq];

        close_txq(tt, txq->queue);
        ovs_mutex_destroy(&txq->mutex);
    }
}

/* Opens queues in 'direction' of the device of 'tt' with 'io', and buffers of
 * 'buf_size' octets, in the elements of 'queues' from 'from' to 'to'.  Returns
 * 0 or a positive errno value, and then none of them is open. */
static int
open_queues(const struct netdev_turbotap *tt,
            const struct turbotap_io_class *io, uint32_t buf_size,
            enum turbotap_direction direction,
            struct turbotap_queue **queues, unsigned int from, unsigned int to)
{
    for (unsigned int i = from; i < to; i++) {
        const struct turbotap_queue_config config = {
            .fd = (direction == TURBOTAP_RX
                   ? turbotap_dev_rxq_fd(tt->dev, i)
                   : turbotap_dev_txq_fd(tt->dev, i)),
            .direction = direction,
            .hdr_len = tt->vnet_hdr ? TURBOTAP_VNET_HDR_LEN : 0,
            .max_bufs = buf_size > UINT16_MAX / 2 ? NETDEV_TURBOTAP_N_LARGE
                                                  : 0,
        };
        int error = turbotap_queue_open(io, &config, &queues[i]);

        if (error) {
            while (i > from) {
                turbotap_queue_close(queues[--i]);
            }
            return error;
        }
    }
    return 0;
}

/* Makes 'tt' use 'io', and receive buffers of 'buf_size' octets, on all the
 * descriptors that its device has.  Queues that need no change stay.  Returns
 * 0 or a positive errno value, and then all is as it was. */
int
netdev_turbotap_set_queues(struct netdev_turbotap *tt,
                           const struct turbotap_io_class *io,
                           uint32_t buf_size)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct netdev *netdev = &tt->linux_.up;
    unsigned int n_rxq = turbotap_dev_n_rxq(tt->dev);
    unsigned int n_txq = turbotap_dev_n_txq(tt->dev);
    unsigned int keep_txq = io == tt->io ? netdev->n_txq : 0;
    unsigned int keep_rxq = buf_size == tt->buf_size && keep_txq
                            ? netdev->n_rxq : 0;
    struct turbotap_queue *rxqs[TURBOTAP_MAX_FDS];
    struct turbotap_queue *txqs[TURBOTAP_MAX_FDS];
    unsigned int n_rxq_bufs = tt->n_rxq_bufs;
    int error;

    error = open_queues(tt, io, buf_size, TURBOTAP_RX, rxqs, keep_rxq, n_rxq);
    if (error) {
        return error;
    }
    error = open_queues(tt, io, buf_size, TURBOTAP_TX, txqs, keep_txq, n_txq);
    if (error) {
        for (unsigned int i = keep_rxq; i < n_rxq; i++) {
            turbotap_queue_close(rxqs[i]);
        }
        return error;
    }

    tt->rxqs = xrealloc(tt->rxqs, n_rxq * sizeof *tt->rxqs);
    for (unsigned int i = keep_rxq; i < n_rxq; i++) {
        if (i < netdev->n_rxq) {
            close_rxq(tt, tt->rxqs[i], false);
        }
        n_rxq_bufs = turbotap_queue_room(rxqs[i]);
        fill_rxq(rxqs[i], buf_size);
        tt->rxqs[i] = rxqs[i];
    }

    struct netdev_turbotap_txq *old_txqs = tt->txqs;

    tt->txqs = xzalloc_cacheline(n_txq * sizeof *tt->txqs);
    for (unsigned int i = 0; i < n_txq; i++) {
        ovs_mutex_init(&tt->txqs[i].mutex);
        tt->txqs[i].queue = i < keep_txq ? old_txqs[i].queue : txqs[i];
    }
    for (unsigned int i = 0; i < netdev->n_txq; i++) {
        if (i >= keep_txq) {
            close_txq(tt, old_txqs[i].queue);
        }
        ovs_mutex_destroy(&old_txqs[i].mutex);
    }
    free_cacheline(old_txqs);

    tt->io = io;
    tt->buf_size = buf_size;
    tt->n_rxq_bufs = n_rxq_bufs;
    netdev->n_rxq = n_rxq;
    netdev->n_txq = n_txq;
    return 0;
}

/* Receiving and sending. */

static struct netdev_rxq *
netdev_turbotap_rxq_alloc(void)
{
    struct netdev_rxq_turbotap *rx = xzalloc(sizeof *rx);

    return &rx->up;
}

static int
netdev_turbotap_rxq_construct(struct netdev_rxq *rxq)
{
    struct netdev_rxq_turbotap *rx = netdev_rxq_turbotap_cast(rxq);
    struct netdev_turbotap *tt = netdev_turbotap_cast(rxq->netdev);

    ovs_mutex_lock(&tt->linux_.mutex);
    rx->queue = tt->rxqs[rxq->queue_id];
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

static void
netdev_turbotap_rxq_destruct(struct netdev_rxq *rxq OVS_UNUSED)
{
    /* The queue is the netdev's, and outlives a reconfiguration. */
}

static void
netdev_turbotap_rxq_dealloc(struct netdev_rxq *rxq)
{
    free(netdev_rxq_turbotap_cast(rxq));
}

static int
netdev_turbotap_rxq_recv(struct netdev_rxq *rxq, struct dp_packet_batch *batch,
                         int *qfill)
{
    struct netdev_rxq_turbotap *rx = netdev_rxq_turbotap_cast(rxq);
    struct turbotap_buf bufs[NETDEV_MAX_BURST];
    uint32_t buf_size;
    unsigned int n;

    if (turbotap_queue_recv(rx->queue, bufs, ARRAY_SIZE(bufs), &n)) {
        /* A device that is gone has been logged once, not at each poll. */
        return EAGAIN;
    }

    buf_size = netdev_turbotap_cast(rxq->netdev)->buf_size;
    dp_packet_batch_init(batch);
    if (rx->queue->hdr_len) {
        netdev_turbotap_offload_receive(rx->queue, bufs, n, buf_size, batch);
    } else {
        for (unsigned int i = 0; i < n; i++) {
            struct dp_packet *packet = bufs[i].cookie;

            dp_packet_set_size(packet, bufs[i].size);
            dp_packet_batch_add(batch, packet);
        }
    }
    fill_rxq(rx->queue, buf_size);
    COVERAGE_INC(turbotap_rx_batch);

    if (qfill) {
        *qfill = -ENOTSUP;
    }
    return dp_packet_batch_is_empty(batch) ? EAGAIN : 0;
}

static void
netdev_turbotap_rxq_wait(struct netdev_rxq *rxq)
{
    struct netdev_rxq_turbotap *rx = netdev_rxq_turbotap_cast(rxq);

    if (!rx->queue->gone) {
        poll_fd_wait(turbotap_queue_poll_fd(rx->queue), POLLIN);
    }
}

static int
netdev_turbotap_rxq_drain(struct netdev_rxq *rxq)
{
    struct dp_packet_batch batch;

    turbotap_queue_wake(netdev_rxq_turbotap_cast(rxq)->queue);
    for (int i = 0; i < MAX_DRAIN_BATCHES; i++) {
        if (netdev_turbotap_rxq_recv(rxq, &batch, NULL)) {
            break;
        }
        dp_packet_delete_batch(&batch, true);
    }
    return 0;
}

/* Sends the 'n' frames in 'bufs' on 'queue' and counts those that did not
 * go. */
static void
send_bufs(const struct netdev *netdev, int qid, struct turbotap_queue *queue,
          struct turbotap_buf *bufs, unsigned int n)
{
    unsigned int n_sent = turbotap_queue_send(queue, bufs, n);

    COVERAGE_INC(turbotap_tx_batch);
    if (OVS_LIKELY(n_sent == n)) {
        return;
    }
    COVERAGE_ADD(turbotap_tx_drop, n - n_sent);
    for (unsigned int i = 0; i < n; i++) {
        /* That the host has the device down, or deleted it, is not news for
         * each frame. */
        if (bufs[i].error && bufs[i].error != EIO && !queue->gone) {
            VLOG_WARN_RL(&rl, "%s: txq %d could not send %u of %u frames, the "
                         "first of %"PRIu32" bytes: %s",
                         netdev_get_name(netdev), qid, n - n_sent, n,
                         bufs[i].size, ovs_strerror(bufs[i].error));
            break;
        }
    }
}

static int
netdev_turbotap_send(struct netdev *netdev, int qid,
                     struct dp_packet_batch *batch, bool concurrent_txq)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct turbotap_buf bufs[NETDEV_MAX_BURST];
    struct netdev_turbotap_txq *txq;
    struct dp_packet *packet;
    unsigned int n = 0;
    unsigned int mtu;

    if (OVS_UNLIKELY(!netdev->n_txq)) {
        /* A device that was deleted could not be made again. */
        COVERAGE_ADD(turbotap_tx_drop, dp_packet_batch_size(batch));
        netdev_turbotap_delete_batch(batch);
        return 0;
    }

    atomic_read_relaxed(&tt->mtu, &mtu);
    qid %= netdev->n_txq;
    txq = &tt->txqs[qid];
    if (OVS_UNLIKELY(concurrent_txq)) {
        ovs_mutex_lock(&txq->mutex);
    }
    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        if (!tt->vnet_hdr) {
            bufs[n].data = dp_packet_data(packet);
            bufs[n].size = dp_packet_size(packet);
        } else if (OVS_UNLIKELY(netdev_turbotap_offload_prepare(
                                    &batch->packets[i], mtu, &bufs[n]))) {
            COVERAGE_INC(turbotap_tx_drop);
            turbotap_count_drop(txq->queue, TURBOTAP_DROP_OFFLOAD);
            continue;
        }
        if (++n == ARRAY_SIZE(bufs)) {
            send_bufs(netdev, qid, txq->queue, bufs, n);
            n = 0;
        }
    }
    if (n) {
        send_bufs(netdev, qid, txq->queue, bufs, n);
    }
    if (OVS_UNLIKELY(concurrent_txq)) {
        ovs_mutex_unlock(&txq->mutex);
    }

    netdev_turbotap_delete_batch(batch);
    return 0;
}

void
netdev_turbotap_queue_init_class(struct netdev_class *class)
{
    class->send = netdev_turbotap_send;
    class->rxq_alloc = netdev_turbotap_rxq_alloc;
    class->rxq_construct = netdev_turbotap_rxq_construct;
    class->rxq_destruct = netdev_turbotap_rxq_destruct;
    class->rxq_dealloc = netdev_turbotap_rxq_dealloc;
    class->rxq_recv = netdev_turbotap_rxq_recv;
    class->rxq_wait = netdev_turbotap_rxq_wait;
    class->rxq_drain = netdev_turbotap_rxq_drain;
}
