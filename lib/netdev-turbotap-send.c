/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Sending to a turbotap netdev: dp_packets in, frames to the host out.
 *
 * Consecutive packets of a flow are merged into one frame, which costs the
 * host as much as a single packet (turbotap-gro.h). */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <inttypes.h>

#include "coverage.h"
#include "dp-packet.h"
#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_send);

COVERAGE_DEFINE(turbotap_tx_batch);
COVERAGE_DEFINE(turbotap_tx_drop);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* What is sent at once: packets, and the frames that they are by themselves,
 * with virtio-net headers. */
struct burst {
    unsigned int up_seq;        /* The netdev's, before. */
    unsigned int n;
    struct turbotap_gro_packet packets[TURBOTAP_GRO_MAX];
    struct turbotap_buf bufs[TURBOTAP_GRO_MAX];
};

/* Takes note that 'n' packets of 'burst' could not be sent on 'txq' for the
 * reason that 'buf' says. */
static void
note_failure(struct netdev *netdev, const struct netdev_turbotap_txq *txq,
             const struct burst *burst, const struct turbotap_buf *buf,
             unsigned int n)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);

    COVERAGE_ADD(turbotap_tx_drop, n);
    /* That the host has the device down, or deleted it, is not news for each
     * frame. */
    if (buf->error == EIO) {
        atomic_store_relaxed(&tt->down_seq, burst->up_seq);
    } else if (!txq->queue->gone) {
        VLOG_WARN_RL(&rl, "%s: txq %d could not send a frame of %"PRIu32" "
                     "bytes: %s", netdev_get_name(netdev),
                     (int) (txq - tt->txqs), buf->size,
                     ovs_strerror(buf->error));
    }
}

/* Sends the 'n' frames in 'bufs', which are of 'burst', on 'txq'. */
static void
send_bufs(struct netdev *netdev, const struct netdev_turbotap_txq *txq,
          const struct burst *burst, struct turbotap_buf *bufs, unsigned int n)
{
    COVERAGE_INC(turbotap_tx_batch);
    if (OVS_LIKELY(turbotap_queue_send(txq->queue, bufs, n) == n)) {
        return;
    }
    for (unsigned int i = 0; i < n; i++) {
        if (bufs[i].error) {
            note_failure(netdev, txq, burst, &bufs[i], 1);
        }
    }
}

/* The kernel refused 'frame' of 'gro', which 'buf' is and which is made of
 * packets of 'burst': sends these one by one, and merges no more of this
 * kind. */
static void
send_refused(struct netdev *netdev, const struct netdev_turbotap_txq *txq,
             const struct burst *burst, const struct turbotap_gro *gro,
             const struct turbotap_gro_frame *frame,
             const struct turbotap_buf *buf)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct turbotap_buf bufs[TURBOTAP_GRO_MAX];
    unsigned int i = frame->first;
    unsigned int kinds;

    atomic_and(&tt->gro_kinds, ~frame->kind, &kinds);
    if (kinds & frame->kind) {
        VLOG_WARN("%s: the kernel refuses merged %s packets: merging no more "
                  "of them", netdev_get_name(netdev),
                  frame->kind == TURBOTAP_GRO_TCP ? "TCP" : "UDP");
        ovs_mutex_lock(&tt->linux_.mutex);
        netdev_change_seq_changed(netdev);
        ovs_mutex_unlock(&tt->linux_.mutex);
    }

    turbotap_queue_retract_drop(txq->queue, buf);
    for (unsigned int j = 0; j < frame->n_packets; j++) {
        bufs[j] = burst->bufs[i];
        i = turbotap_gro_next(gro, i);
    }
    send_bufs(netdev, txq, burst, bufs, frame->n_packets);
}

/* Sends the frames of 'gro', made of the packets of 'burst', on 'txq'. */
static void
send_merged(struct netdev *netdev, const struct netdev_turbotap_txq *txq,
            const struct burst *burst, const struct turbotap_gro *gro)
{
    struct turbotap_buf bufs[TURBOTAP_GRO_MAX];

    for (unsigned int i = 0; i < gro->n_frames; i++) {
        const struct turbotap_gro_frame *frame = &gro->frames[i];

        if (frame->n_packets == 1) {
            bufs[i] = burst->bufs[frame->first];
        } else {
            bufs[i].size = frame->size;
            bufs[i].iov = frame->iov;
            bufs[i].n_iov = frame->n_iov;
        }
    }

    COVERAGE_INC(turbotap_tx_batch);
    turbotap_queue_send(txq->queue, bufs, gro->n_frames);
    for (unsigned int i = 0; i < gro->n_frames; i++) {
        const struct turbotap_gro_frame *frame = &gro->frames[i];

        if (frame->n_packets > 1) {
            if (OVS_UNLIKELY(bufs[i].error == EINVAL)) {
                send_refused(netdev, txq, burst, gro, frame, &bufs[i]);
                continue;
            }
            turbotap_queue_count_gso(txq->queue, &bufs[i], frame->n_packets,
                                     turbotap_gro_bytes(frame));
        }
        if (OVS_UNLIKELY(bufs[i].error)) {
            note_failure(netdev, txq, burst, &bufs[i], frame->n_packets);
        }
    }
}

/* Sends 'burst', which may be empty, on 'txq'. */
static void
send_burst(struct netdev *netdev, const struct netdev_turbotap_txq *txq,
           struct burst *burst)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    unsigned int kinds;

    atomic_read_relaxed(&tt->gro_kinds, &kinds);
    if (kinds && burst->n > 1) {
        struct turbotap_gro gro;

        turbotap_gro_merge(&gro, burst->packets, burst->n, kinds);
        if (gro.n_frames < burst->n) {
            send_merged(netdev, txq, burst, &gro);
            return;
        }
    }
    if (burst->n) {
        send_bufs(netdev, txq, burst, burst->bufs, burst->n);
    }
}

/* Adds '*packetp', which it may replace, to 'burst'.  Returns 0, or EINVAL if
 * it cannot be sent to a port of 'mtu'. */
static int
add_packet(struct burst *burst, struct dp_packet **packetp, unsigned int mtu)
{
    struct turbotap_gro_packet *packet = &burst->packets[burst->n];
    struct turbotap_buf *buf = &burst->bufs[burst->n];
    int error = netdev_turbotap_offload_prepare(packetp, mtu, buf);

    if (!error) {
        packet->data = dp_packet_data(*packetp);
        packet->size = dp_packet_size(*packetp);
        packet->csum_start = turbotap_vnet_csum_start(buf->data);
        packet->complete = (packet->csum_start
                            || turbotap_vnet_is_plain(buf->data));
        packet->csum_good = netdev_turbotap_is_csum_good(*packetp);
        burst->n++;
    }
    return error;
}

/* Counts 'n' packets as what 'txq' did not send since the link is down. */
static void
count_down(const struct netdev_turbotap_txq *txq, size_t n)
{
    COVERAGE_ADD(turbotap_tx_drop, n);
    turbotap_count(&txq->queue->counters.drops[TURBOTAP_DROP_LINK_DOWN], n);
}

/* Sends the packets of 'batch', which it may replace, on 'txq'. */
static void
send_batch(struct netdev *netdev, const struct netdev_turbotap_txq *txq,
           struct dp_packet_batch *batch)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct burst burst;
    unsigned int mtu;

    if (OVS_UNLIKELY(netdev_turbotap_is_down(tt))) {
        count_down(txq, dp_packet_batch_size(batch));
        return;
    }

    atomic_read_relaxed(&tt->mtu, &mtu);
    atomic_read_relaxed(&tt->up_seq, &burst.up_seq);
    burst.n = 0;
    for (size_t i = 0; i < dp_packet_batch_size(batch); i++) {
        if (OVS_UNLIKELY(add_packet(&burst, &batch->packets[i], mtu))) {
            COVERAGE_INC(turbotap_tx_drop);
            turbotap_count_drop(txq->queue, TURBOTAP_DROP_OFFLOAD);
        } else if (burst.n == TURBOTAP_GRO_MAX) {
            send_burst(netdev, txq, &burst);
            burst.n = 0;
        }
    }
    send_burst(netdev, txq, &burst);
}

static int
netdev_turbotap_send(struct netdev *netdev, int qid,
                     struct dp_packet_batch *batch, bool concurrent_txq)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct netdev_turbotap_txq *txq;

    if (OVS_UNLIKELY(!netdev->n_txq)) {
        /* A device that was deleted could not be made again. */
        COVERAGE_ADD(turbotap_tx_drop, dp_packet_batch_size(batch));
        netdev_turbotap_delete_batch(batch);
        return 0;
    }

    txq = &tt->txqs[qid % netdev->n_txq];
    if (OVS_UNLIKELY(concurrent_txq)) {
        ovs_mutex_lock(&txq->mutex);
        send_batch(netdev, txq, batch);
        ovs_mutex_unlock(&txq->mutex);
    } else {
        send_batch(netdev, txq, batch);
    }

    netdev_turbotap_delete_batch(batch);
    return 0;
}

void
netdev_turbotap_send_init_class(struct netdev_class *class)
{
    class->send = netdev_turbotap_send;
}
