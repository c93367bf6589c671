/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The queues of a turbotap netdev, each its own or shared by the threads that
 * send: opened, given another I/O class, closed.  Must not know options, nor
 * the link's settings. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <stdlib.h>

#include "dp-packet.h"

static void
delete_packets(const struct turbotap_buf *bufs, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        dp_packet_delete(bufs[i].cookie);
    }
}

/* Counts what 'rxq' of 'tt' has received and not given out as lost. */
static void
discard_received(struct netdev_turbotap *tt, struct netdev_turbotap_rxq *rxq)
    OVS_REQUIRES(tt->linux_.mutex)
{
    uint64_t n, bytes;

    netdev_turbotap_drop_received(rxq, &n, &bytes);
    tt->discarded += n;
    tt->closed_rx.packets -= n;
    tt->closed_rx.bytes -= bytes;
}

/* Receives up to a batch of frames from the queue of 'rxq' of 'tt' and counts
 * them as lost.  Returns false if there were none, or only bad ones. */
static bool
discard_batch(struct netdev_turbotap *tt, struct netdev_turbotap_rxq *rxq)
    OVS_REQUIRES(tt->linux_.mutex)
{
    if (turbotap_queue_recv(rxq->queue, rxq->bufs, NETDEV_TURBOTAP_N_BUFS,
                            &rxq->n_bufs)) {
        return false;
    }
    discard_received(tt, rxq);
    return true;
}

/* Gives the queue of 'rxq', which is stopped, the buffers that it takes to
 * receive what it has. */
static void
fill_stopped(struct netdev_turbotap_rxq *rxq)
{
    if (rxq->queue->class->holds_frames) {
        netdev_turbotap_fill_rxq(rxq);
    }
}

/* Closes the queue of 'rxq' of 'tt'.  With 'drain', the frames that wait for
 * it in the device, that are in it, and that 'rxq' has received, all of which
 * would be lost without a trace, are counted as such.  Without, the first are
 * left to the queue that takes its place, and the others to be given out. */
static void
close_rxq(struct netdev_turbotap *tt, struct netdev_turbotap_rxq *rxq,
          bool drain)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct netdev_turbotap_rxq closing = { .queue = rxq->queue, .busy = true };
    struct turbotap_buf bufs[NETDEV_MAX_BURST];
    unsigned int n;

    turbotap_queue_wake(rxq->queue);
    if (drain) {
        discard_received(tt, rxq);
        for (int i = 0; i < NETDEV_TURBOTAP_MAX_DRAIN; i++) {
            if (!discard_batch(tt, &closing)) {
                break;
            }
            netdev_turbotap_fill_rxq(&closing);
        }
    }

    turbotap_queue_stop(rxq->queue);
    if (!drain) {
        do {
            fill_stopped(&closing);
        } while (netdev_turbotap_take_received(rxq));
    }
    /* A batch of bad frames looks like none, so see to it that all that there
     * may be were looked at. */
    for (int i = 0; i <= TURBOTAP_MAX_HELD; i += NETDEV_MAX_BURST) {
        fill_stopped(&closing);
        discard_batch(tt, &closing);
    }

    while ((n = turbotap_queue_reclaim(rxq->queue, bufs, ARRAY_SIZE(bufs)))) {
        delete_packets(bufs, n);
    }
    netdev_turbotap_add_queue_stats(&tt->closed_rx, rxq->queue);
    turbotap_queue_close(rxq->queue);
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
        struct netdev_turbotap_rxq *rxq = tt->rxqs[--netdev->n_rxq];

        close_rxq(tt, rxq, true);
        free(rxq);
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

/* Opens queues in 'direction' of the device of 'tt' with 'io' in the elements
 * of 'queues' from 'from' to 'to'.  Returns 0 or a positive errno value, and
 * then none of them is open. */
static int
open_queues(const struct netdev_turbotap *tt,
            const struct turbotap_io_class *io,
            enum turbotap_direction direction,
            struct turbotap_queue **queues, unsigned int from, unsigned int to)
{
    for (unsigned int i = from; i < to; i++) {
        const struct turbotap_queue_config config = {
            .fd = (direction == TURBOTAP_RX
                   ? turbotap_dev_rxq_fd(tt->dev, i)
                   : turbotap_dev_txq_fd(tt->dev, i)),
            .direction = direction,
            .hdr_len = TURBOTAP_VNET_HDR_LEN,
            .max_bufs = NETDEV_TURBOTAP_N_BUFS,
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

/* Makes 'tt' use '*io' on all the descriptors that its device has.  Queues
 * that need no change stay.  Returns 0 or a positive errno value, and then all
 * is as it was. */
int
netdev_turbotap_set_queues(struct netdev_turbotap *tt,
                           const struct turbotap_io *io)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct netdev *netdev = &tt->linux_.up;
    unsigned int n_rxq = turbotap_dev_n_rxq(tt->dev);
    unsigned int n_txq = turbotap_dev_n_txq(tt->dev);
    unsigned int keep_rxq = io->rx == tt->io.rx ? netdev->n_rxq : 0;
    unsigned int keep_txq = io->tx == tt->io.tx ? netdev->n_txq : 0;
    struct turbotap_queue *rxqs[TURBOTAP_MAX_FDS];
    struct turbotap_queue *txqs[TURBOTAP_MAX_FDS];
    int error;

    error = open_queues(tt, io->rx, TURBOTAP_RX, rxqs, keep_rxq, n_rxq);
    if (error) {
        return error;
    }
    error = open_queues(tt, io->tx, TURBOTAP_TX, txqs, keep_txq, n_txq);
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
        } else {
            tt->rxqs[i] = xzalloc(sizeof *tt->rxqs[i]);
        }
        tt->rxqs[i]->queue = rxqs[i];
        netdev_turbotap_fill_rxq(tt->rxqs[i]);
        /* With mlockall() they are there although nobody has used them. */
        turbotap_queue_trim(rxqs[i]);
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

    tt->io = *io;
    netdev->n_rxq = n_rxq;
    netdev->n_txq = n_txq;
    return 0;
}
