/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What an I/O class costs, measured with files that have the least to do. */

#include <config.h>

#include "turbotap-cost.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "turbotap-queue.h"

#define NULL_PATH "/dev/null"

/* How often a batch is tried.  The least counts. */
#define N_TRIES 64

#define FRAME_SIZE 64           /* Octets. */
#define BUF_SIZE 128            /* Octets, more than that. */

/* A pipe has room for as many packets as it has pages (pipe(7)). */
#define PIPE_SIZE (TURBOTAP_BURST * getpagesize())

static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

/* Tries 'batch' on 'queue' again and again, which returns how long it took, in
 * ns, 0 if it failed.  Returns the least time for a frame, in ns, 0 if it
 * failed once. */
static unsigned int
measure(uint64_t (*batch)(struct turbotap_queue *queue, void *aux),
        struct turbotap_queue *queue, void *aux)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < N_TRIES && least; i++) {
        uint64_t ns = batch(queue, aux);

        least = ns < least ? ns : least;
    }
    return least / TURBOTAP_BURST;
}

/* A queue that receives from a pipe: each packet there is a frame. */
struct receiver {
    int writer;                 /* The pipe's other end. */
    struct turbotap_buf bufs[TURBOTAP_BURST];
    uint8_t data[TURBOTAP_BURST][BUF_SIZE];
};

/* Receives frames that are there before 'queue' has buffers for them, so that
 * none is received while they are written. */
static uint64_t
receive_batch(struct turbotap_queue *queue, void *receiver_)
{
    static const uint8_t frame[FRAME_SIZE];
    struct receiver *r = receiver_;
    unsigned int n_left = TURBOTAP_BURST;
    uint64_t start;

    for (int i = 0; i < TURBOTAP_BURST; i++) {
        if (write(r->writer, frame, sizeof frame) != sizeof frame) {
            return 0;
        }
        r->bufs[i].data = r->data[i];
        r->bufs[i].size = sizeof r->data[i];
    }

    start = now_ns();
    turbotap_queue_fill(queue, r->bufs, TURBOTAP_BURST);
    while (n_left) {
        struct turbotap_buf got[TURBOTAP_BURST];
        unsigned int n;

        if (turbotap_queue_recv(queue, got, n_left, &n)) {
            return 0;
        }
        n_left -= n;
    }
    return now_ns() - start;
}

unsigned int
turbotap_cost_to_receive(const struct turbotap_io_class *class)
{
    struct turbotap_queue_config config = {
        .direction = TURBOTAP_RX,
        .max_bufs = TURBOTAP_BURST,
    };
    struct turbotap_queue *queue;
    unsigned int ns = 0;
    struct receiver r;
    int fds[2];

    if (pipe2(fds, O_DIRECT | O_NONBLOCK | O_CLOEXEC)) {
        return 0;
    }
    memset(&r, 0, sizeof r);
    r.writer = fds[1];
    config.fd = fds[0];
    if (fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE) >= PIPE_SIZE
        && !turbotap_queue_open(class, &config, &queue)) {
        ns = measure(receive_batch, queue, &r);
        while (turbotap_queue_reclaim(queue, r.bufs, TURBOTAP_BURST)) {
            continue;
        }
        turbotap_queue_close(queue);
    }
    close(fds[0]);
    close(fds[1]);
    return ns;
}

static uint64_t
send_batch(struct turbotap_queue *queue, void *aux)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    uint8_t frame[FRAME_SIZE] = { 0 };
    unsigned int n_sent;
    uint64_t start;

    (void) aux;
    memset(bufs, 0, sizeof bufs);
    for (int i = 0; i < TURBOTAP_BURST; i++) {
        bufs[i].data = frame;
        bufs[i].size = sizeof frame;
    }
    start = now_ns();
    n_sent = turbotap_queue_send(queue, bufs, TURBOTAP_BURST);
    return n_sent == TURBOTAP_BURST ? now_ns() - start : 0;
}

unsigned int
turbotap_cost_to_send(const struct turbotap_io_class *class)
{
    struct turbotap_queue_config config = { .direction = TURBOTAP_TX };
    struct turbotap_queue *queue;
    unsigned int ns = 0;

    config.fd = open(NULL_PATH, O_WRONLY | O_CLOEXEC);
    if (config.fd < 0) {
        return 0;
    }
    if (!turbotap_queue_open(class, &config, &queue)) {
        ns = measure(send_batch, queue, NULL);
        turbotap_queue_close(queue);
    }
    close(config.fd);
    return ns;
}
