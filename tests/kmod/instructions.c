// SPDX-License-Identifier: Apache-2.0
/*
 * How many instructions a frame costs in each way to move it, in a guest whose
 * time stamp counter counts instructions (QEMU's -icount shift=0, one CPU): see
 * tests/vm/icount.  Prints lines 'count receive|send WAY LENGTH BATCH
 * INSTRUCTIONS', and 'count sender WAY LENGTH 0 INSTRUCTIONS' for what it
 * costs the host to send a frame that is received in that way.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "ring.h"
#include "afxdp.h"
#include <liburing.h>

#define FRAMES 256              /* In a round; fits in any queue. */
#define ROUNDS 15               /* Of which the median counts. */
#define RING_ENTRIES 512u       /* As XSK_ENTRIES. */

static struct batch batch;
static int queue, sock;
static struct ring rx_ring;
static struct io_uring uring;
static struct xsk xsk;

static uint64_t
instructions(void)
{
    uint32_t low, high;

    asm volatile("lfence; rdtsc" : "=a" (low), "=d" (high) : : "memory");
    return (uint64_t) high << 32 | low;
}

/* What a loop of 2,000 instructions counts as. */
static uint64_t
calibrate(void)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 10; i++) {
        long n = 1000;
        uint64_t start = instructions(), spent;

        asm volatile("1: dec %0; jnz 1b" : "+r" (n) : : "cc");
        spent = instructions() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

/* Ways to receive.  Each takes at most 'n' frames, of any length up to 2048,
 * into the buffers of 'batch', and returns how many there were. */

static int
by_read(int n, size_t length)
{
    (void) n;
    (void) length;
    must(read(queue, batch.data[0], sizeof batch.data[0]));
    return 1;
}

static int
by_recvmmsg(int n, size_t length)
{
    (void) length;
    return must(recvmmsg(sock, batch.msgs, n, 0, NULL));
}

/* Has the ring do what was prepared, 'n' requests. */
static int
uring_do(int n)
{
    struct io_uring_cqe *cqes[MAX_BATCH];

    must(io_uring_submit_and_wait(&uring, n) == n ? 0 : -1);
    must(io_uring_peek_batch_cqe(&uring, cqes, n) == (unsigned int) n
         ? 0 : -1);
    for (int i = 0; i < n; i++) {
        must(cqes[i]->res);
    }
    io_uring_cq_advance(&uring, n);
    return n;
}

static int
by_uring_read(int n, size_t length)
{
    (void) length;
    for (int i = 0; i < n; i++) {
        io_uring_prep_read(io_uring_get_sqe(&uring), queue, batch.data[i],
                           sizeof batch.data[i], 0);
    }
    return uring_do(n);
}

static int
by_ring(int n, size_t length)
{
    struct turbotap_ring_head *rx = &rx_ring.rings->rx;
    struct turbotap_ring_head *fill = &rx_ring.rings->fill;
    uint32_t consumer = rx->consumer;
    uint32_t there = __atomic_load_n(&rx->producer, __ATOMIC_ACQUIRE)
                     - consumer;
    uint32_t producer = fill->producer;
    int i;

    (void) length;
    for (i = 0; i < n && there; i++, there--) {
        const struct xdp_desc *desc
            = &rx_ring.rx[consumer++ % RING_ENTRIES];

        memcpy(batch.data[i], rx_ring.area + desc->addr, desc->len);
        rx_ring.fill[producer++ % RING_ENTRIES] = desc->addr;
    }
    __atomic_store_n(&rx->consumer, consumer, __ATOMIC_RELEASE);
    __atomic_store_n(&fill->producer, producer, __ATOMIC_RELEASE);
    return i;
}

static int
by_xsk_receive(int n, size_t length)
{
    (void) length;
    return xsk_receive(&xsk, batch.data[0], sizeof batch.data[0], n);
}

/* Ways to send: 'n' frames of 'length' octets out of 'batch'.  Each returns how
 * many went. */

static int
by_write(int n, size_t length)
{
    (void) n;
    must(write(queue, batch.data[0], length));
    return 1;
}

static int
by_sendmmsg(int n, size_t length)
{
    (void) length;
    return must(sendmmsg(sock, batch.msgs, n, 0));
}

static int
by_uring_write(int n, size_t length)
{
    for (int i = 0; i < n; i++) {
        io_uring_prep_write(io_uring_get_sqe(&uring), queue, batch.data[i],
                            length, 0);
    }
    return uring_do(n);
}

static int
by_ioctl(int n, size_t length)
{
    struct turbotap_frame frames[MAX_BATCH];
    struct turbotap_send request = {
        .frames = (uintptr_t) frames, .n = n,
    };

    for (int i = 0; i < n; i++) {
        frames[i] = (struct turbotap_frame) {
            .addr = (uintptr_t) batch.data[i], .len = length,
        };
    }
    return must(ioctl(sock, TURBOTAP_SEND, &request));
}

static int
by_xsk_send(int n, size_t length)
{
    xsk_send(&xsk, batch.data[0], sizeof batch.data[0], length, n);
    return n;
}

typedef int way(int n, size_t length);

static int
by_size(const void *a_, const void *b_)
{
    const uint64_t *a = a_, *b = b_;

    return *a < *b ? -1 : *a > *b;
}

/* Prints the median of 'spent', a number of instructions for FRAMES frames. */
static void
report(const char *what, const char *name, size_t length, int n,
       uint64_t spent[ROUNDS])
{
    qsort(spent, ROUNDS, sizeof spent[0], by_size);
    printf("# count %s %s %zu %d %.0f\n", what, name, length, n,
           (double) spent[ROUNDS / 2] / FRAMES);
    fflush(stdout);
}

/* Moves FRAMES frames in a way, 'n' at a time; returns the instructions. */
static uint64_t
round_of(way *move, int n, size_t length)
{
    uint64_t start = instructions();

    for (int done = 0; done < FRAMES; ) {
        int moved = move(n, length);

        if (!moved) {
            errno = EIO;
            bail("a frame is missing");
        }
        done += moved;
    }
    return instructions() - start;
}

static const int sizes[] = { 1, 8, 32, 64 };
static const size_t lengths[] = { 64, 1500 };

/* Measures a way to receive what is sent on 'host'. */
static void
measure_receive(const char *name, way *receive, int host, size_t n_sizes)
{
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        uint64_t spent[ROUNDS], sender[ROUNDS];
        uint8_t frame[1500];

        make_frame(frame, lengths[i], 0);
        for (size_t j = 0; j < n_sizes; j++) {
            batch_init(&batch, 2048);
            for (int k = 0; k < ROUNDS; k++) {
                uint64_t start = instructions();

                for (int l = 0; l < FRAMES; l++) {
                    must(send(host, frame, lengths[i], 0));
                }
                sender[k] = instructions() - start;
                spent[k] = round_of(receive, sizes[j], lengths[i]);
            }
            report("receive", name, lengths[i], sizes[j], spent);
        }
        report("sender", name, lengths[i], 0, sender);
    }
}

static void
measure_send(const char *name, way *send_, size_t n_sizes)
{
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        for (size_t j = 0; j < n_sizes; j++) {
            uint64_t spent[ROUNDS];

            batch_frames(&batch, lengths[i], 0);
            for (int k = 0; k < ROUNDS; k++) {
                spent[k] = round_of(send_, sizes[j], lengths[i]);
            }
            report("send", name, lengths[i], sizes[j], spent);
        }
    }
}

/* A tap with a host's socket, which is returned, that receives nothing. */
static int
open_tap(const char *name)
{
    queue = tap_queue(name, 0);
    must(fcntl(queue, F_SETFL, O_RDWR | O_NONBLOCK));
    sock = must(turbotap_socket(queue, TURBOTAP_NONBLOCK));
    link_set(name, true);
    return host_socket(name, ETH_P_ARP);
}

/* Is the kernel's io_uring one that can read a tap without a worker thread?
 * Else that is all that would be measured. */
static bool
uring_is_good(void)
{
    return !access("/proc/sys/kernel/io_uring_disabled", F_OK);
}

int
main(void)
{
    uint64_t loop = calibrate();
    int host;

    if (loop < 2000 || loop > 2020) {
        printf("1..0 # SKIP 2000 instructions count as %llu: no -icount\n",
               (unsigned long long) loop);
        return 0;
    }
    new_netns();
    host = open_tap("count0");
    measure_receive("read", by_read, host, 1);
    measure_receive("recvmmsg", by_recvmmsg, host, ARRAY_SIZE(sizes));
    measure_send("write", by_write, 1);
    measure_send("sendmmsg", by_sendmmsg, ARRAY_SIZE(sizes));
    measure_send("TURBOTAP_SEND", by_ioctl, ARRAY_SIZE(sizes));
    if (uring_is_good()) {
        must(io_uring_queue_init(MAX_BATCH, &uring, 0) ? -1 : 0);
        measure_receive("io_uring", by_uring_read, host, ARRAY_SIZE(sizes));
        measure_send("io_uring", by_uring_write, ARRAY_SIZE(sizes));
    }
    ring_open(&rx_ring, sock, RING_ENTRIES, RING_ENTRIES, 0);
    measure_receive("ring", by_ring, host, ARRAY_SIZE(sizes));

    must(system("modprobe veth") ? -1 : 0);
    veth_add("count1", "count2");
    link_set("count1", true);
    link_set("count2", true);
    xsk_open(&xsk, "count1");
    xsk_redirect("count1", xsk.fd);
    host = host_socket("count2", ETH_P_ARP);
    measure_receive("AF_XDP", by_xsk_receive, host, ARRAY_SIZE(sizes));
    measure_send("AF_XDP", by_xsk_send, ARRAY_SIZE(sizes));

    ok(true, "2000 instructions count as %llu", (unsigned long long) loop);
    return done();
}
