/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Receiving from a turbotap netdev: frames of the host in, dp_packets out.
 *
 * A frame comes into a buffer that has room for the largest there is.  What
 * the switch gets is a packet of its own, no larger than it must be: a copy
 * or, of a frame that is to be cut, one for each segment.  The buffer goes
 * back to the queue.  Only with userspace-tso-enable the switch takes a large
 * frame whole, in its buffer.
 *
 * One large frame may be more packets than a batch takes.  What is left waits
 * in the queue for the next call, so that other queues have their turn. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "dp-packet.h"
#include "openvswitch/poll-loop.h"
#include "timeval.h"

COVERAGE_DEFINE(turbotap_rx_batch);
COVERAGE_DEFINE(turbotap_rx_malformed);
COVERAGE_DEFINE(turbotap_rx_trim);

struct netdev_rxq_turbotap {
    struct netdev_rxq up;
    struct netdev_turbotap_rxq *rxq;    /* The netdev's. */
};

static struct netdev_rxq_turbotap *
netdev_rxq_turbotap_cast(const struct netdev_rxq *rxq)
{
    ovs_assert(netdev_is_turbotap(rxq->netdev));
    return CONTAINER_OF(rxq, struct netdev_rxq_turbotap, up);
}

/* Makes 'buf' be an empty buffer: that of 'packet'. */
static void
packet_to_buf(struct dp_packet *packet, struct turbotap_buf *buf)
{
    buf->data = (char *) dp_packet_data(packet) - TURBOTAP_VNET_HDR_LEN;
    buf->size = TURBOTAP_VNET_HDR_LEN + NETDEV_TURBOTAP_MAX_BUF;
    buf->cookie = packet;
}

/* Each I/O class has room for as many buffers as a receive queue has. */
BUILD_ASSERT_DECL(NETDEV_TURBOTAP_N_BUFS == TURBOTAP_BURST);

/* Gives the queue of 'rxq' empty buffers, until it has, together with the
 * frames that 'rxq' has, as many as there are, or as are enough while it is
 * idle. */
void
netdev_turbotap_fill_rxq(struct netdev_turbotap_rxq *rxq)
{
    unsigned int most = (rxq->busy ? NETDEV_TURBOTAP_N_BUFS
                         : NETDEV_TURBOTAP_N_IDLE_BUFS);
    unsigned int room = turbotap_queue_room(rxq->queue);
    unsigned int n_used = NETDEV_TURBOTAP_N_BUFS - room + rxq->n_bufs;

    room = most > n_used ? MIN(room, most - n_used) : 0;
    while (room) {
        struct dp_packet *packets[NETDEV_MAX_BURST];
        struct turbotap_buf bufs[NETDEV_MAX_BURST];
        unsigned int n = MIN(room, NETDEV_MAX_BURST);

        netdev_turbotap_new_packets(packets, n, NETDEV_TURBOTAP_MAX_BUF);
        for (unsigned int i = 0; i < n; i++) {
            packet_to_buf(packets[i], &bufs[i]);
        }
        turbotap_queue_fill(rxq->queue, bufs, n);
        room -= n;
    }
}

/* Gives the queue of 'rxq' the buffers of the frames that were received back,
 * all of which have been looked at. */
static void
refill_rxq(struct netdev_turbotap_rxq *rxq)
{
    unsigned int n = 0, n_taken;

    for (unsigned int i = 0; i < rxq->n_bufs; i++) {
        if (rxq->bufs[i].cookie) {
            packet_to_buf(rxq->bufs[i].cookie, &rxq->bufs[n++]);
        }
    }
    rxq->n_bufs = rxq->next_buf = 0;

    n_taken = turbotap_queue_fill(rxq->queue, rxq->bufs, n);
    while (n > n_taken) {
        /* The queue was replaced by one that takes less. */
        dp_packet_delete(rxq->bufs[--n].cookie);
    }
    netdev_turbotap_fill_rxq(rxq);
}

/* Takes the frame in 'buf' of 'rxq', which stands for several packets, and
 * adds as many of them to 'batch' as it has room for.  Returns true if that
 * was all. */
static bool
receive_segments(struct netdev_turbotap_rxq *rxq,
                 struct dp_packet_batch *batch)
{
    size_t room = NETDEV_MAX_BURST - dp_packet_batch_size(batch);
    unsigned int n = MIN(room, turbotap_gso_left(&rxq->gso));
    struct dp_packet *packets[NETDEV_MAX_BURST];

    netdev_turbotap_new_packets(packets, n, turbotap_gso_max_len(&rxq->gso));
    for (unsigned int i = 0; i < n; i++) {
        dp_packet_set_size(packets[i],
                           turbotap_gso_next(&rxq->gso,
                                             dp_packet_data(packets[i])));
        netdev_turbotap_set_csum_good(packets[i]);
        dp_packet_batch_add(batch, packets[i]);
    }
    rxq->cutting = turbotap_gso_left(&rxq->gso) > 0;
    return !rxq->cutting;
}

/* Takes the frame in 'buf' of 'rxq' and adds it, or what it stands for, to
 * 'batch', which has room for a packet.  Returns true if that was all. */
static bool
receive_frame(struct netdev_turbotap_rxq *rxq, struct turbotap_buf *buf,
              struct dp_packet_batch *batch)
{
    uint8_t *frame = (uint8_t *) buf->data + TURBOTAP_VNET_HDR_LEN;
    uint32_t size = buf->size - TURBOTAP_VNET_HDR_LEN;
    struct turbotap_vnet_rx rx = { .seg_size = 0 };
    struct dp_packet *packet;

    if (!turbotap_vnet_is_plain(buf->data)) {
        if (OVS_UNLIKELY(turbotap_vnet_parse(buf->data, frame, size, &rx))) {
            COVERAGE_INC(turbotap_rx_malformed);
            turbotap_queue_drop_received(rxq->queue, 1, size,
                                         TURBOTAP_DROP_MALFORMED);
            return true;
        }
        if (rx.seg_size && !netdev_turbotap_offload_is_whole(&rx)) {
            turbotap_gso_init(&rxq->gso, frame, &rx);
            turbotap_queue_count_gso(rxq->queue, buf,
                                     turbotap_gso_left(&rxq->gso),
                                     turbotap_gso_left_bytes(&rxq->gso));
            return receive_segments(rxq, batch);
        }
        netdev_turbotap_offload_complete(frame, size, &rx);
    }

    if (size <= NETDEV_TURBOTAP_MAX_COPY) {
        netdev_turbotap_new_packets(&packet, 1, size);
        memcpy(dp_packet_data(packet), frame, size);
    } else {
        packet = buf->cookie;
        buf->cookie = NULL;
    }
    dp_packet_set_size(packet, size);
    netdev_turbotap_offload_set_flags(packet, &rx);
    dp_packet_batch_add(batch, packet);
    return true;
}

/* Takes note that there was nothing in the queue of 'rxq', which has been busy
 * since it last was idle. */
static void
note_empty(struct netdev_turbotap_rxq *rxq)
{
    long long int now;

    if (++rxq->n_empty % NETDEV_TURBOTAP_IDLE_POLLS) {
        return;
    }
    now = time_msec();
    if (rxq->n_empty == NETDEV_TURBOTAP_IDLE_POLLS) {
        rxq->empty_since = now;
    } else if (now - rxq->empty_since >= NETDEV_TURBOTAP_IDLE_MS) {
        COVERAGE_INC(turbotap_rx_trim);
        turbotap_queue_trim(rxq->queue);
        rxq->busy = false;
    }
}

/* Receives frames from the queue of 'rxq', all of whose frames have been
 * looked at.  Returns true if there were any. */
static bool
receive_bufs(struct netdev_turbotap_rxq *rxq)
{
    /* A device that is gone has been logged once, not at each poll. */
    if (turbotap_queue_recv(rxq->queue, rxq->bufs, NETDEV_TURBOTAP_N_BUFS,
                            &rxq->n_bufs)) {
        if (OVS_UNLIKELY(rxq->busy)) {
            note_empty(rxq);
        }
        return false;
    }
    if (rxq->n_bufs >= NETDEV_TURBOTAP_N_IDLE_BUFS) {
        rxq->busy = true;
    }
    rxq->n_empty = 0;
    return true;
}

/* Adds to 'batch' as much as it has room for of the frames that 'rxq' has
 * received.  Returns true if that was all. */
static bool
receive_frames(struct netdev_turbotap_rxq *rxq, struct dp_packet_batch *batch)
{
    while (rxq->next_buf < rxq->n_bufs) {
        if (dp_packet_batch_size(batch) == NETDEV_MAX_BURST) {
            return false;
        }
        if (rxq->cutting
            ? receive_segments(rxq, batch)
            : receive_frame(rxq, &rxq->bufs[rxq->next_buf], batch)) {
            rxq->next_buf++;
        }
    }
    refill_rxq(rxq);
    return true;
}

static int
receive_batch(struct netdev_turbotap_rxq *rxq, struct dp_packet_batch *batch)
{
    bool old = rxq->next_buf < rxq->n_bufs;

    netdev_turbotap_reset_batch(batch);
    if (!old && !receive_bufs(rxq)) {
        return EAGAIN;
    }

    /* The rest of a frame makes a small batch, so fill that up.  But only
     * once: a flood of bad frames must not keep the thread here. */
    if (receive_frames(rxq, batch) && old && receive_bufs(rxq)) {
        receive_frames(rxq, batch);
    }
    COVERAGE_INC(turbotap_rx_batch);
    return dp_packet_batch_is_empty(batch) ? EAGAIN : 0;
}

/* Takes frames that the queue of 'rxq', which is stopped, still has, for them
 * to be given out after those that 'rxq' has.  Returns false if there were
 * none. */
bool
netdev_turbotap_take_received(struct netdev_turbotap_rxq *rxq)
{
    unsigned int n, n_left = rxq->n_bufs - rxq->next_buf;

    for (unsigned int i = 0; i < rxq->next_buf; i++) {
        dp_packet_delete(rxq->bufs[i].cookie);
    }
    memmove(rxq->bufs, &rxq->bufs[rxq->next_buf], n_left * sizeof *rxq->bufs);
    rxq->next_buf = 0;
    rxq->n_bufs = n_left;

    turbotap_queue_recv(rxq->queue, &rxq->bufs[n_left],
                        ARRAY_SIZE(rxq->bufs) - n_left, &n);
    rxq->n_bufs += n;
    return n > 0;
}

/* Takes the frames that 'rxq' has received and not given out, and frees them.
 * Stores in '*n' and '*bytes' how many packets, of how many octets, they stand
 * for. */
void
netdev_turbotap_drop_received(struct netdev_turbotap_rxq *rxq,
                              uint64_t *n, uint64_t *bytes)
{
    *n = *bytes = 0;
    for (; rxq->next_buf < rxq->n_bufs; rxq->next_buf++) {
        if (rxq->cutting) {
            *n += turbotap_gso_left(&rxq->gso);
            *bytes += turbotap_gso_left_bytes(&rxq->gso);
            rxq->cutting = false;
        } else {
            *n += 1;
            *bytes += rxq->bufs[rxq->next_buf].size - TURBOTAP_VNET_HDR_LEN;
        }
    }
    for (unsigned int i = 0; i < rxq->n_bufs; i++) {
        dp_packet_delete(rxq->bufs[i].cookie);
    }
    rxq->n_bufs = rxq->next_buf = 0;
}

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
    rx->rxq = tt->rxqs[rxq->queue_id];
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
    int error;

    if (qfill) {
        *qfill = -ENOTSUP;
    }
    error = receive_batch(netdev_rxq_turbotap_cast(rxq)->rxq, batch);
    if (!error) {
        struct netdev_turbotap *tt = netdev_turbotap_cast(rxq->netdev);

        if (OVS_UNLIKELY(netdev_turbotap_is_down(tt))) {
            /* The host sends before the main thread has heard that the link
             * is up, and expects an answer. */
            netdev_turbotap_note_up(tt);
        }
    }
    return error;
}

static void
netdev_turbotap_rxq_wait(struct netdev_rxq *rxq_)
{
    struct netdev_turbotap_rxq *rxq = netdev_rxq_turbotap_cast(rxq_)->rxq;

    if (rxq->next_buf < rxq->n_bufs) {
        poll_immediate_wake();
    } else if (!rxq->queue->gone) {
        poll_fd_wait(turbotap_queue_poll_fd(rxq->queue), POLLIN);
    }
}

static int
netdev_turbotap_rxq_drain(struct netdev_rxq *rxq)
{
    struct netdev_rxq_turbotap *rx = netdev_rxq_turbotap_cast(rxq);
    struct dp_packet_batch batch;

    dp_packet_batch_init(&batch);
    turbotap_queue_wake(rx->rxq->queue);
    for (int i = 0; i < NETDEV_TURBOTAP_MAX_DRAIN; i++) {
        if (receive_batch(rx->rxq, &batch)) {
            break;
        }
        dp_packet_delete_batch(&batch, true);
    }
    return 0;
}

void
netdev_turbotap_receive_init_class(struct netdev_class *class)
{
    class->rxq_alloc = netdev_turbotap_rxq_alloc;
    class->rxq_construct = netdev_turbotap_rxq_construct;
    class->rxq_destruct = netdev_turbotap_rxq_destruct;
    class->rxq_dealloc = netdev_turbotap_rxq_dealloc;
    class->rxq_recv = netdev_turbotap_rxq_recv;
    class->rxq_wait = netdev_turbotap_rxq_wait;
    class->rxq_drain = netdev_turbotap_rxq_drain;
}
