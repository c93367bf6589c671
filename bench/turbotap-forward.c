/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The bare forwarder of the benchmark: creates two tap devices and moves
 * frames between them, both ways, with turbotap's own queues and nothing else.
 * What it reaches is the limit for any switch on these queues.
 *
 * Frames are plain; or the hosts leave the segmentation of TCP to each other,
 * and large frames cross whole, as with userspace-tso-enable; or they are cut
 * and merged, as turbotap ports do it by default.
 *
 * Runs until SIGTERM and then prints the counters of the queues as one JSON
 * object.  Must not know Open vSwitch. */

#define _GNU_SOURCE 1

#include <getopt.h>
#include <inttypes.h>

#include "bench-program.h"
#include "turbotap-dev.h"
#include "turbotap-gro.h"
#include "turbotap-gso.h"
#include "turbotap-queue.h"
#include "turbotap-vnet.h"

#define PACKET_SIZE 2048        /* Room for a packet, in octets. */

/* The same for a large frame, with the octet by which the I/O classes tell a
 * frame that was cut off. */
#define LARGE_SIZE (TURBOTAP_VNET_HDR_LEN + TURBOTAP_FRAME_MAX + 1)

/* From one buffer to the next, in octets: not such that all begin in the same
 * few sets of the cache. */
#define STRIDE(SIZE) ((SIZE) + 192)

/* After empty polls a direction is left alone for up to this many turns of the
 * main loop, so that the quiet direction does not tax the busy one with its
 * system calls.  64 turns take at most 0.1 ms here. */
#define MAX_PAUSE 64

/* Frames from one device to the other. */
struct direction {
    struct turbotap_queue *rx;
    struct turbotap_queue *tx;
    void *arena;                /* The buffers of 'rx'. */
    unsigned int pause;         /* Turns to leave out next time. */
    unsigned int wait;          /* Turns left of the present pause. */
};

/* What becomes of the hosts' large frames. */
static enum { PLAIN, WHOLE, MERGE } mode;

static unsigned int gro_kinds;  /* What is merged, TURBOTAP_GRO_*. */
static uint32_t hdr_len;        /* Of the virtio-net header, in octets, 0
                                 * without. */
static uint32_t buf_size = PACKET_SIZE; /* Of a receive buffer, in octets. */

/* What is sent at once in mode MERGE: packets, and the frames that they are by
 * themselves, and room for those that were cut. */
struct burst {
    unsigned int n;
    struct turbotap_gro_packet packets[TURBOTAP_GRO_MAX];
    struct turbotap_buf bufs[TURBOTAP_GRO_MAX];
    uint8_t segments[TURBOTAP_GRO_MAX][STRIDE(PACKET_SIZE)];
};

/* Has the host leave to 'dev' what 'mode' says.  Returns 0 or a positive errno
 * value. */
static int
set_offload(struct turbotap_dev *dev)
{
    if (mode == MERGE) {
        gro_kinds = TURBOTAP_GRO_TCP | TURBOTAP_GRO_UDP;
        if (!turbotap_dev_set_offload(dev, TURBOTAP_TSO_OFFLOADS
                                           | TURBOTAP_USO_OFFLOADS)) {
            return 0;
        }
        gro_kinds = TURBOTAP_GRO_TCP;
    }
    return turbotap_dev_set_offload(dev, TURBOTAP_TSO_OFFLOADS);
}

static struct turbotap_dev *
open_dev(const char *name)
{
    struct turbotap_dev *dev;
    int error = turbotap_dev_open(name, hdr_len != 0, &dev);

    if (!error && hdr_len) {
        error = turbotap_dev_set_vnet_hdr_size(dev, hdr_len);
        if (!error) {
            error = set_offload(dev);
        }
    }
    if (!error) {
        error = turbotap_dev_set_n_txq(dev, 1);
    }
    if (error) {
        die_of(name, error);
    }
    return dev;
}

static struct turbotap_queue *
open_queue(const struct turbotap_io_class *class, int fd,
           enum turbotap_direction direction)
{
    const struct turbotap_queue_config config = {
        .fd = fd,
        .direction = direction,
        .hdr_len = hdr_len,
    };
    struct turbotap_queue *queue;
    int error = turbotap_queue_open(class, &config, &queue);

    if (error) {
        die_of(class->name, error);
    }
    return queue;
}

/* Gives the 'n' buffers at 'bufs' back to be received into. */
static void
refill(struct turbotap_queue *rx, struct turbotap_buf *bufs, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        bufs[i].data = bufs[i].cookie;
        bufs[i].size = buf_size;
    }
    if (turbotap_queue_fill(rx, bufs, n) != n) {
        die_of("fill", ENOBUFS);
    }
}

static void
open_direction(struct direction *dir, const struct turbotap_io_class *rx_class,
               const struct turbotap_io_class *tx_class,
               struct turbotap_dev *from, struct turbotap_dev *to)
{
    unsigned int n;

    memset(dir, 0, sizeof *dir);
    dir->rx = open_queue(rx_class, turbotap_dev_rxq_fd(from, 0), TURBOTAP_RX);
    dir->tx = open_queue(tx_class, turbotap_dev_txq_fd(to, 0), TURBOTAP_TX);

    n = turbotap_queue_room(dir->rx);
    dir->arena = aligned_alloc(4096, (size_t) n * STRIDE(buf_size));
    if (!dir->arena) {
        die_of("aligned_alloc", ENOMEM);
    }
    for (unsigned int i = 0; i < n; i++) {
        struct turbotap_buf buf = {
            .cookie = (char *) dir->arena + (size_t) i * STRIDE(buf_size),
        };

        refill(dir->rx, &buf, 1);
    }
}

static void
close_direction(struct direction *dir)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];

    while (turbotap_queue_reclaim(dir->rx, bufs, TURBOTAP_BURST)) {
        continue;
    }
    turbotap_queue_close(dir->rx);
    turbotap_queue_close(dir->tx);
    free(dir->arena);
}

/* Sends 'burst' to 'tx', what can be merged. */
static void
send_burst(struct turbotap_queue *tx, struct burst *burst)
{
    struct turbotap_buf bufs[TURBOTAP_GRO_MAX];
    struct turbotap_gro gro;

    turbotap_gro_merge(&gro, burst->packets, burst->n, gro_kinds);
    for (unsigned int i = 0; i < gro.n_frames; i++) {
        const struct turbotap_gro_frame *frame = &gro.frames[i];

        if (frame->n_packets == 1) {
            bufs[i] = burst->bufs[frame->first];
        } else {
            bufs[i].size = frame->size;
            bufs[i].iov = frame->iov;
            bufs[i].n_iov = frame->n_iov;
        }
    }
    turbotap_queue_send(tx, bufs, gro.n_frames);
    burst->n = 0;
}

/* Adds a packet, 'size' octets with the virtio-net header at 'data', to
 * 'burst', which is sent to 'tx' if it is full then. */
static void
add_packet(struct burst *burst, void *data, uint32_t size, bool csum_good,
           struct turbotap_queue *tx)
{
    struct turbotap_gro_packet *packet = &burst->packets[burst->n];
    struct turbotap_buf *buf = &burst->bufs[burst->n];

    turbotap_vnet_write_plain(data);
    buf->data = data;
    buf->size = size;
    buf->n_iov = 0;
    packet->data = (uint8_t *) data + TURBOTAP_VNET_HDR_LEN;
    packet->size = size - TURBOTAP_VNET_HDR_LEN;
    packet->complete = true;
    packet->csum_start = 0;
    packet->csum_good = csum_good;
    if (++burst->n == TURBOTAP_GRO_MAX) {
        send_burst(tx, burst);
    }
}

/* Adds the packets that the frame in 'buf' stands for to 'burst' for 'tx'. */
static void
cut(struct burst *burst, const struct turbotap_buf *buf,
    struct turbotap_queue *tx)
{
    uint8_t *frame = (uint8_t *) buf->data + TURBOTAP_VNET_HDR_LEN;
    uint32_t size = buf->size - TURBOTAP_VNET_HDR_LEN;
    struct turbotap_vnet_rx rx = { .seg_size = 0 };
    struct turbotap_gso gso;

    if (!turbotap_vnet_is_plain(buf->data)
        && turbotap_vnet_parse(buf->data, frame, size, &rx)) {
        die_of("a frame's header", EINVAL);
    }
    if (!rx.seg_size) {
        if (rx.csum_partial) {
            turbotap_vnet_complete(frame, size, &rx);
        }
        add_packet(burst, buf->data, buf->size,
                   rx.csum_good || rx.csum_partial, tx);
        return;
    }
    turbotap_gso_init(&gso, frame, &rx);
    if (turbotap_gso_max_len(&gso) > PACKET_SIZE - TURBOTAP_VNET_HDR_LEN) {
        die_of("a segment", EMSGSIZE);
    }
    while (turbotap_gso_left(&gso)) {
        uint8_t *segment = burst->segments[burst->n];
        uint32_t len = turbotap_gso_next(&gso,
                                         segment + TURBOTAP_VNET_HDR_LEN);

        add_packet(burst, segment, TURBOTAP_VNET_HDR_LEN + len, true, tx);
    }
}

/* Moves up to a burst of frames. */
static void
forward(struct direction *dir)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n;
    int error;

    if (dir->wait) {
        dir->wait--;
        return;
    }
    error = turbotap_queue_recv(dir->rx, bufs, TURBOTAP_BURST, &n);
    if (error) {
        if (error != EAGAIN) {
            die_of("recv", error);
        }
        dir->pause = dir->pause ? dir->pause * 2 : 1;
        if (dir->pause > MAX_PAUSE) {
            dir->pause = MAX_PAUSE;
        }
        dir->wait = dir->pause;
        return;
    }
    dir->pause = 0;
    if (mode == MERGE) {
        static struct burst burst;

        for (unsigned int i = 0; i < n; i++) {
            cut(&burst, &bufs[i], dir->tx);
        }
        if (burst.n) {
            send_burst(dir->tx, &burst);
        }
    } else {
        turbotap_queue_send(dir->tx, bufs, n);
    }
    refill(dir->rx, bufs, n);
}

static void
print_queue(const char *name, const struct turbotap_queue *queue)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    printf("\"%s\": {\"packets\": %"PRIu64", \"bytes\": %"PRIu64
           ", \"batches\": %"PRIu64", \"empty_polls\": %"PRIu64
           ", \"syscalls\": %"PRIu64,
           name, stats.packets, stats.bytes, stats.batches, stats.empty_polls,
           stats.syscalls);
    for (enum turbotap_drop i = 0; i < TURBOTAP_N_DROPS; i++) {
        printf(", \"%s\": %"PRIu64, turbotap_drop_to_string(i),
               stats.drops[i]);
    }
    printf("}");
}

/* Returns the I/O class called 'name', or exits. */
static const struct turbotap_io_class *
lookup(const char *name)
{
    const struct turbotap_io_class *class = turbotap_io_lookup(name);

    if (!class) {
        fprintf(stderr, "%s: not built in\n", name);
        exit(EXIT_FAILURE);
    }
    return class;
}

/* Returns 'class', or what a port would take in its place, for the tap queue
 * 'fd'.  Exits if it cannot serve that. */
static const struct turbotap_io_class *
check_class(const struct turbotap_io_class *class, int fd)
{
    char reason[TURBOTAP_REASON_LEN];

    if (!class->probe(fd, reason, sizeof reason)) {
        fprintf(stderr, "%s: %s\n", class->name, reason);
        exit(EXIT_FAILURE);
    }
    return turbotap_io_better(class, fd, reason, sizeof reason);
}

int
main(int argc, char *argv[])
{
    const char *name_a = NULL, *name_b = NULL, *tx_io;
    const struct turbotap_io_class *rx_class, *tx_class;
    char *io = NULL;
    struct turbotap_dev *a, *b;
    struct direction ab, ba;
    int opt;

    while ((opt = getopt(argc, argv, "a:b:c:mw")) != -1) {
        switch (opt) {
        case 'a': name_a = optarg; break;
        case 'b': name_b = optarg; break;
        case 'c': io = optarg; break;
        case 'm': mode = MERGE; break;
        case 'w': mode = WHOLE; break;
        default: name_a = NULL; optind = argc; break;
        }
    }
    if (!name_a || !name_b || !io || optind != argc) {
        fprintf(stderr,
                "usage: turbotap-forward -a DEVICE -b DEVICE -c CLASS[,"
                "TX-CLASS] [-m|-w]\n"
                "  -m: cut and merge TCP and UDP, with a virtio-net header\n"
                "  -w: large TCP frames stay whole, with the same\n");
        return EXIT_FAILURE;
    }
    io = strtok(io, ",");
    tx_io = strtok(NULL, ",");
    rx_class = lookup(io);
    tx_class = tx_io ? lookup(tx_io) : rx_class;

    if (mode != PLAIN) {
        hdr_len = TURBOTAP_VNET_HDR_LEN;
        buf_size = LARGE_SIZE;
    }
    a = open_dev(name_a);
    b = open_dev(name_b);
    rx_class = check_class(rx_class, turbotap_dev_rxq_fd(a, 0));
    tx_class = check_class(tx_class, turbotap_dev_rxq_fd(a, 0));
    open_direction(&ab, rx_class, tx_class, a, b);
    open_direction(&ba, rx_class, tx_class, b, a);
    catch_signals();
    puts("{\"ready\": true}");
    fflush(stdout);

    while (!stop) {
        forward(&ab);
        forward(&ba);
    }

    printf("{");
    print_queue("rx", ab.rx);
    printf(", ");
    print_queue("tx", ab.tx);
    printf("}\n");
    close_direction(&ab);
    close_direction(&ba);
    turbotap_dev_close(a);
    turbotap_dev_close(b);
    return 0;
}
