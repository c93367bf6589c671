/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What happens to a tap device and its queues while there is traffic. */

#include <config.h>

#include "test-queue.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

void
test_link_down(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf *bufs;
    uint64_t n_syscalls;

    fixture_open_usual(f);
    fill_up(f);
    bufs = make_frames(f, 0, 40, 60);
    host_set_up(TAP, false);

    n_syscalls = count_syscalls(f->tx);
    assert_int_equal(turbotap_queue_send(f->tx, bufs, 40), 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(bufs[i].error, EIO);
    }
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .drops[TURBOTAP_DROP_LINK_DOWN] = 40 });
    /* One was enough to know. */
    assert_int_equal(count_syscalls(f->tx), n_syscalls + 1);
    receive_none(f);

    /* Up again, all goes on. */
    host_set_up(TAP, true);
    close(f->rx_peer);
    f->rx_peer = f->tx_peer = host_open_socket(TAP, ETH_P_ALL);
    assert_int_equal(turbotap_queue_send(f->tx, bufs, 40), 40);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(bufs[i].error, 0);
        peer_recv(f, i, 60);
    }
    peer_send(f, 0, 60);
    receive_all(f, 0, 1, 60);
    free_frames(bufs, 40);
    fixture_close(f);
}

void
test_deleted(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf rx_bufs[TURBOTAP_BURST];
    struct turbotap_buf *bufs;
    unsigned int n_rx = 1;
    uint64_t n_syscalls;
    unsigned int room;

    fixture_open_usual(f);
    room = turbotap_queue_room(f->rx);
    fill_up(f);
    peer_send(f, 0, 60);
    receive_all(f, 0, 1, 60);
    host_delete(TAP);

    assert_int_equal(turbotap_queue_recv(f->rx, rx_bufs, 32, &n_rx), ENODEV);
    assert_int_equal(n_rx, 0);
    n_syscalls = count_syscalls(f->rx);
    for (int i = 0; i < 3; i++) {
        n_rx = 1;
        assert_int_equal(turbotap_queue_recv(f->rx, rx_bufs, 32, &n_rx),
                         ENODEV);
        assert_int_equal(n_rx, 0);
    }
    assert_int_equal(count_syscalls(f->rx), n_syscalls);

    bufs = make_frames(f, 0, 40, 60);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(turbotap_queue_send(f->tx, bufs, 40), 0);
        for (int j = 0; j < 40; j++) {
            assert_true(bufs[j].error == EBADFD || bufs[j].error == ENODEV);
            bufs[j].error = 0;
        }
        assert_int_equal(count_syscalls(f->tx), 1);
    }
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .drops[TURBOTAP_DROP_GONE] = 120 });
    free_frames(bufs, 40);

    assert_int_equal(reclaim(f, MAX_BUFS), room);
    fixture_close(f);
}

/* Adding and removing queues under traffic. */

#define MAX_SENT (1024 * 1024)

struct traffic {
    int peer;
    atomic_bool stop;
    uint32_t n_sent;
};

/* Sends one frame after the other, of many flows. */
static void *
send_traffic(void *traffic_)
{
    struct traffic *t = traffic_;
    uint8_t frame[60];

    while (!atomic_load(&t->stop) && t->n_sent < MAX_SENT) {
        make_frame(frame, t->n_sent, sizeof frame);
        if (send(t->peer, frame, sizeof frame, 0) == sizeof frame) {
            t->n_sent++;
        } else {
            struct pollfd pfd = { .fd = t->peer, .events = POLLOUT };

            poll(&pfd, 1, 1);
        }
    }
    return NULL;
}

/* Receives from 'f->rx', and takes note of what came in 'seen'.  Returns how
 * many frames did. */
static unsigned int
receive_traffic(struct fixture *f, bool *seen)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n_rx = receive(f, bufs, TURBOTAP_BURST);

    for (unsigned int i = 0; i < n_rx; i++) {
        uint32_t seq = frame_seq(bufs[i].data);

        assert_true(seq < MAX_SENT);
        check_frame(bufs[i].data, bufs[i].size, seq, 60);
        assert_false(seen[seq]);
        seen[seq] = true;
    }
    assert_int_equal(fill(f, n_rx), n_rx);
    return n_rx;
}

/* Lets 'f->rx' be 'queue', whose buffers count with the others. */
static unsigned int
receive_traffic_from(struct fixture *f, struct turbotap_queue *queue,
                     bool *seen)
{
    struct turbotap_queue *saved = f->rx;
    unsigned int n;

    f->rx = queue;
    n = receive_traffic(f, seen);
    f->rx = saved;
    return n;
}

void
test_queues_under_traffic(void **state)
{
    static const unsigned int steps[] = { 2, 3, 1, 3, 2, 1, 2, 1 };
    struct fixture *f = *state;
    struct turbotap_queue *queues[3];
    struct traffic t = { .stop = false };
    bool *seen = calloc(MAX_SENT, sizeof *seen);
    unsigned int n = 1;
    pthread_t thread;

    fixture_open_usual(f);
    assert_int_equal(fill(f, 32), 32);
    queues[0] = f->rx;
    t.peer = f->rx_peer;
    assert_int_equal(pthread_create(&thread, NULL, send_traffic, &t), 0);

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        unsigned int n_rx[3] = { 0 };
        unsigned int total = 0;

        while (n > steps[i]) {
            struct turbotap_queue *saved = f->rx;

            f->rx = queues[--n];
            while (reclaim(f, 7)) {
                continue;
            }
            f->rx = saved;
            turbotap_queue_close(queues[n]);
        }
        assert_int_equal(turbotap_dev_set_n_rxq(f->dev, steps[i]), 0);
        for (; n < steps[i]; n++) {
            struct turbotap_queue *saved = f->rx;

            f->rx = queues[n] = open_queue(f, TURBOTAP_RX,
                                           turbotap_dev_rxq_fd(f->dev, n));
            assert_int_equal(fill(f, 32), 32);
            f->rx = saved;
        }

        /* Until all queues have received. */
        for (unsigned int all = 0; total < 500 || !all; ) {
            struct pollfd pfds[3];

            all = 1;
            for (unsigned int j = 0; j < n; j++) {
                unsigned int got = receive_traffic_from(f, queues[j], seen);

                n_rx[j] += got;
                total += got;
                all &= n_rx[j] > 0;
                pfds[j].fd = turbotap_queue_poll_fd(queues[j]);
                pfds[j].events = POLLIN;
            }
            if (poll(pfds, n, HOST_PATIENCE) <= 0) {
                fail_msg("no traffic with %u queues", n);
            }
        }
    }
    atomic_store(&t.stop, true);
    pthread_join(thread, NULL);

    /* What is still there, and then a frame that is known to be sent. */
    while (host_wait_readable(turbotap_queue_poll_fd(f->rx), 0)) {
        receive_traffic(f, seen);
    }
    assert_true(t.n_sent < MAX_SENT);
    peer_send(f, 5, 60);
    receive_all(f, 5, 1, 60);
    free(seen);
    fixture_close(f);
}
