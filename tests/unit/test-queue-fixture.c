/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The fixture of the tests of turbotap-queue.h. */

#include <config.h>

#include "test-queue.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUARD 16                /* Octets behind each buffer. */

/* Frames. */

void
make_frame(uint8_t *frame, uint32_t seq, size_t size)
{
    uint8_t headers[] = {
        2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        seq >> 8, seq, 0, 80, 0, 0, 0, 0,
        seq >> 24, seq >> 16, seq >> 8, seq,
    };
    unsigned int ip_len = size - 14;

    headers[16] = ip_len >> 8;
    headers[17] = ip_len;
    if (size < sizeof headers) {
        headers[12] = 0x88;
        headers[13] = 0xb5;
    }
    for (size_t i = 0; i < size; i++) {
        frame[i] = i < sizeof headers ? headers[i] : seq + i;
    }
}

uint32_t
frame_seq(const uint8_t *frame)
{
    return ((uint32_t) frame[42] << 24 | frame[43] << 16 | frame[44] << 8
            | frame[45]);
}

void
check_frame(const void *data, size_t size, uint32_t seq, size_t expected_size)
{
    static uint8_t expected[MAX_FRAME];

    assert_int_equal(size, expected_size);
    make_frame(expected, seq, expected_size);
    assert_memory_equal(data, expected, size);
}

/* Set up and tear down. */

struct turbotap_queue *
open_queue(struct fixture *f, enum turbotap_direction direction, int fd)
{
    struct turbotap_queue_config config = {
        .fd = fd,
        .direction = direction,
        .hdr_len = f->hdr_len,
    };
    struct turbotap_queue *queue;

    assert_int_equal(turbotap_queue_open(f->row->class, &config, &queue), 0);
    return queue;
}

void
open_pair(int *ours, int *peer)
{
    int size = SOCKET_BUF;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK
                                | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size,
                                    sizeof size), 0);
    }
    *ours = fds[0];
    *peer = fds[1];
}

void
fixture_open(struct fixture *f, uint32_t hdr_len, uint32_t buf_size)
{
    f->is_open = true;
    f->hdr_len = hdr_len;
    f->buf_size = buf_size;
    f->rx_fd = f->tx_fd = f->rx_peer = f->tx_peer = -1;
    if (f->row->tap) {
        int size = 4 * 1024 * 1024;

        assert_int_equal(turbotap_dev_open(TAP, hdr_len != 0, &f->dev), 0);
        if (hdr_len) {
            assert_int_equal(turbotap_dev_set_vnet_hdr_size(f->dev, hdr_len),
                             0);
        }
        assert_int_equal(turbotap_dev_set_n_txq(f->dev, 1), 0);
        f->rx_fd = turbotap_dev_rxq_fd(f->dev, 0);
        f->tx_fd = turbotap_dev_txq_fd(f->dev, 0);
        host_set_up(TAP, true);
        f->rx_peer = f->tx_peer = host_open_socket(TAP, ETH_P_ALL);
        /* As much as net.core.rmem_max allows. */
        setsockopt(f->tx_peer, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    } else {
        open_pair(&f->rx_fd, &f->rx_peer);
        open_pair(&f->tx_fd, &f->tx_peer);
    }
    f->rx = open_queue(f, TURBOTAP_RX, f->rx_fd);
    f->tx = open_queue(f, TURBOTAP_TX, f->tx_fd);

    for (unsigned int i = 0; i < MAX_BUFS; i++) {
        f->owner[i] = OURS;
    }
}

/* Frees and closes everything, whatever state it is in. */
static void
fixture_release(struct fixture *f)
{
    f->is_open = false;
    if (f->rx) {
        struct turbotap_buf bufs[TURBOTAP_BURST];

        while (turbotap_queue_reclaim(f->rx, bufs, TURBOTAP_BURST)) {
            continue;
        }
    }
    turbotap_queue_close(f->rx);
    turbotap_queue_close(f->tx);
    f->rx = f->tx = NULL;
    for (unsigned int i = 0; i < MAX_BUFS; i++) {
        free(f->data[i]);
        f->data[i] = NULL;
    }
    if (f->tx_peer != f->rx_peer) {
        close(f->tx_peer);
    }
    close(f->rx_peer);
    if (f->row->tap) {
        turbotap_dev_close(f->dev);
        f->dev = NULL;
    } else {
        close(f->rx_fd);
        close(f->tx_fd);
    }
}

void
fixture_close(struct fixture *f)
{
    while (reclaim(f, 7)) {
        continue;
    }
    for (unsigned int i = 0; i < MAX_BUFS; i++) {
        assert_int_equal(f->owner[i], OURS);
    }
    fixture_release(f);
}

void
fixture_open_usual(struct fixture *f)
{
    fixture_open(f, 0, 2048);
}

int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->row = *state;
    f->n_fds = host_count_fds();
    *state = f;
    return 0;
}

int
teardown(void **state)
{
    struct fixture *f = *state;
    int n_leaked;

    if (f->is_open) {
        fixture_release(f);     /* The test failed. */
    }
    n_leaked = host_count_fds() - f->n_fds;
    free(f);
    assert_int_equal(n_leaked, 0);
    return 0;
}

/* The peer's side. */

void
peer_send(struct fixture *f, uint32_t seq, size_t size)
{
    static uint8_t frame[64 + MAX_FRAME];
    size_t hdr_len = f->row->tap ? 0 : f->hdr_len;

    make_frame(frame + hdr_len, seq, size);
    if (send(f->rx_peer, frame, hdr_len + size, 0) != hdr_len + size) {
        fail_msg("peer cannot send: %s", strerror(errno));
    }
}

void
peer_recv(struct fixture *f, uint32_t seq, size_t size)
{
    static uint8_t frame[64 + MAX_FRAME];
    size_t hdr_len = f->row->tap ? 0 : f->hdr_len;
    ssize_t n;

    assert_true(host_wait_readable(f->tx_peer, HOST_PATIENCE));
    n = recv(f->tx_peer, frame, sizeof frame, 0);
    assert_true(n >= (ssize_t) hdr_len);
    check_frame(frame + hdr_len, n - hdr_len, seq, size);
}

void
peer_recv_none(struct fixture *f)
{
    assert_false(host_wait_readable(f->tx_peer, 0));
}

/* Our side. */

unsigned int
count_owned_by_queue(struct fixture *f)
{
    unsigned int n = 0;

    for (unsigned int i = 0; i < MAX_BUFS; i++) {
        n += f->owner[i] == THE_QUEUES;
    }
    return n;
}

unsigned int
fill(struct fixture *f, unsigned int n)
{
    struct turbotap_buf bufs[MAX_BUFS];
    unsigned int n_bufs = 0;
    unsigned int taken;

    for (unsigned int i = 0; i < MAX_BUFS && n_bufs < n; i++) {
        if (f->owner[i] == OURS) {
            if (!f->data[i]) {
                f->data[i] = malloc(f->buf_size + GUARD);
                memset(f->data[i] + f->buf_size, GUARD_BYTE, GUARD);
            }
            memset(f->data[i], 0, f->buf_size);
            bufs[n_bufs].data = f->data[i];
            bufs[n_bufs].size = f->buf_size;
            bufs[n_bufs].cookie = (void *) (uintptr_t) (i + 1);
            n_bufs++;
        }
    }
    assert_int_equal(n_bufs, n);

    taken = turbotap_queue_fill(f->rx, bufs, n);
    assert_true(taken <= n);
    for (unsigned int i = 0; i < taken; i++) {
        f->owner[(uintptr_t) bufs[i].cookie - 1] = THE_QUEUES;
    }
    return taken;
}

void
fill_up(struct fixture *f)
{
    unsigned int room = turbotap_queue_room(f->rx);

    assert_int_equal(fill(f, room), room);
    assert_int_equal(turbotap_queue_room(f->rx), 0);
}

/* Takes note that the queue gave 'buf' back. */
static void
take_back(struct fixture *f, const struct turbotap_buf *buf)
{
    uintptr_t i = (uintptr_t) buf->cookie - 1;

    assert_true(i < MAX_BUFS);
    assert_int_equal(f->owner[i], THE_QUEUES);
    f->owner[i] = OURS;
    assert_ptr_equal(buf->data, f->data[i]);
    for (int j = 0; j < GUARD; j++) {
        assert_int_equal(f->data[i][f->buf_size + j], GUARD_BYTE);
    }
}

unsigned int
receive(struct fixture *f, struct turbotap_buf *bufs, unsigned int n)
{
    unsigned int n_rx = 12345;
    int error = turbotap_queue_recv(f->rx, bufs, n, &n_rx);

    assert_true(n_rx <= n);
    assert_int_equal(error, n_rx ? 0 : EAGAIN);
    for (unsigned int i = 0; i < n_rx; i++) {
        take_back(f, &bufs[i]);
        assert_true(bufs[i].size <= f->buf_size);
    }
    f->n_calls += n_rx > 0;
    f->n_empty += !n_rx;
    return n_rx;
}

unsigned int
reclaim(struct fixture *f, unsigned int n)
{
    struct turbotap_buf bufs[MAX_BUFS];
    unsigned int n_bufs = turbotap_queue_reclaim(f->rx, bufs, n);

    assert_true(n_bufs <= n);
    for (unsigned int i = 0; i < n_bufs; i++) {
        take_back(f, &bufs[i]);
        assert_int_equal(bufs[i].size, f->buf_size);
    }
    return n_bufs;
}

void
receive_all(struct fixture *f, uint32_t seq, unsigned int n, size_t size)
{
    unsigned int n_empty = f->n_empty;

    while (n) {
        struct turbotap_buf bufs[TURBOTAP_BURST];
        unsigned int n_rx;

        assert_true(host_wait_readable(turbotap_queue_poll_fd(f->rx),
                                       HOST_PATIENCE));
        n_rx = receive(f, bufs, TURBOTAP_BURST);
        assert_true(n_rx <= n);
        assert_true(f->n_empty - n_empty < 1000);
        for (unsigned int i = 0; i < n_rx; i++) {
            assert_true(bufs[i].size >= f->hdr_len);
            check_frame((uint8_t *) bufs[i].data + f->hdr_len,
                        bufs[i].size - f->hdr_len, seq++, size);
        }
        n -= n_rx;
        assert_int_equal(fill(f, n_rx), n_rx);
    }
}

void
receive_none(struct fixture *f)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];

    assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 0);
}

struct turbotap_buf *
make_frames(struct fixture *f, uint32_t seq, unsigned int n, size_t size)
{
    struct turbotap_buf *bufs = calloc(n, sizeof *bufs);

    for (unsigned int i = 0; i < n; i++) {
        uint8_t *data = calloc(1, f->hdr_len + size);

        make_frame(data + f->hdr_len, seq + i, size);
        bufs[i].data = data;
        bufs[i].size = f->hdr_len + size;
        bufs[i].error = -1;
        bufs[i].cookie = data;
    }
    return bufs;
}

void
free_frames(struct turbotap_buf *bufs, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        free(bufs[i].cookie);
    }
    free(bufs);
}

uint64_t
count_syscalls(const struct turbotap_queue *queue)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    return stats.syscalls;
}

void
check_stats(const struct turbotap_queue *queue,
            const struct turbotap_queue_stats *expected)
{
    struct turbotap_queue_stats stats;

    memset(&stats, 0xff, sizeof stats);
    turbotap_queue_get_stats(queue, &stats);
    assert_int_equal(stats.packets, expected->packets);
    assert_int_equal(stats.bytes, expected->bytes);
    assert_int_equal(stats.batches, expected->batches);
    assert_int_equal(stats.empty_polls, expected->empty_polls);
    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        if (stats.drops[i] != expected->drops[i]) {
            fail_msg("%s: %llu, not %llu", turbotap_drop_to_string(i),
                     (unsigned long long int) stats.drops[i],
                     (unsigned long long int) expected->drops[i]);
        }
    }
}

void
check_rx_stats(struct fixture *f, struct turbotap_queue_stats expected)
{
    expected.batches = f->n_calls;
    expected.empty_polls = f->n_empty;
    check_stats(f->rx, &expected);
}
