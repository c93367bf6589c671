/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-queue.h: each test runs for each row of 'rows', an I/O
 * class over a transport that it can serve.  It must not know how any class
 * moves a frame; tests of what only one class does have a program of their
 * own. */

#include <config.h>

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAP "ttq0"
#define MAX_BUFS 1024           /* More than any queue has room for. */
#define MAX_FRAME 65535
#define SOCKET_BUF (200 * 1024) /* The kernel doubles it. */
#define GUARD 16                /* Octets behind each buffer. */
#define GUARD_BYTE 0xa5

struct row {
    const char *name;
    const struct turbotap_io_class *class;
    bool tap;                   /* A tap device, not a pair of sockets. */
    bool batches;               /* A burst to send is one system call. */
};

static const struct row rows[] = {
    { "rw over tap", &turbotap_io_rw, true, false },
    { "rw over socket pair", &turbotap_io_rw, false, false },
    { "socket over tap", &turbotap_io_socket, true, true },
    { "socket over socket pair", &turbotap_io_socket, false, true },
#ifdef HAVE_LIBURING
    { "uring over tap", &turbotap_io_uring, true, true },
#endif
};
#define N_ROWS (sizeof rows / sizeof rows[0])

/* Where a buffer is. */
enum owner { OURS, THE_QUEUES };

/* A queue in each direction, and their peer. */
struct fixture {
    const struct row *row;
    unsigned int n_fds;         /* Before the test. */
    bool is_open;
    uint32_t hdr_len;
    uint32_t buf_size;

    struct turbotap_dev *dev;   /* If 'row->tap'. */
    int rx_fd, tx_fd;           /* What the queues are opened on. */
    int rx_peer, tx_peer;       /* Sends what we receive; receives. */
    struct turbotap_queue *rx, *tx;

    uint8_t *data[MAX_BUFS];    /* Of 'buf_size' octets and a guard. */
    enum owner owner[MAX_BUFS];
    unsigned int n_calls;       /* To turbotap_queue_recv(): with frames, */
    unsigned int n_empty;       /* without. */
};

/* Frames. */

/* Too large for a socket's buffer. */
static uint8_t big_data[2 * SOCKET_BUF + 1];

/* Fills in the 'size' octets at 'frame' as number 'seq': UDP over IPv4 if that
 * fits in, so that the host spreads them over its queues. */
static void
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

/* Returns the number that make_frame() put into 'frame'. */
static uint32_t
frame_seq(const uint8_t *frame)
{
    return ((uint32_t) frame[42] << 24 | frame[43] << 16 | frame[44] << 8
            | frame[45]);
}

static void
check_frame(const void *data, size_t size, uint32_t seq, size_t expected_size)
{
    static uint8_t expected[MAX_FRAME];

    assert_int_equal(size, expected_size);
    make_frame(expected, seq, expected_size);
    assert_memory_equal(data, expected, size);
}

/* Set up and tear down. */

static struct turbotap_queue *
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

static void
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

static void
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

static unsigned int reclaim(struct fixture *, unsigned int n);

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

/* Ends a test that went well: the queue must give all buffers back. */
static void
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

/* Most tests have frames of usual size without a virtio-net header. */
static void
fixture_open_usual(struct fixture *f)
{
    fixture_open(f, 0, 2048);
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->row = *state;
    f->n_fds = host_count_fds();
    *state = f;
    return 0;
}

static int
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

/* Sends frame 'seq' of 'size' octets, header not included, to us. */
static void
peer_send(struct fixture *f, uint32_t seq, size_t size)
{
    static uint8_t frame[64 + MAX_FRAME];
    size_t hdr_len = f->row->tap ? 0 : f->hdr_len;

    make_frame(frame + hdr_len, seq, size);
    if (send(f->rx_peer, frame, hdr_len + size, 0) != hdr_len + size) {
        fail_msg("peer cannot send: %s", strerror(errno));
    }
}

/* Receives a frame from us, which must be number 'seq' of 'size' octets. */
static void
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

static void
peer_recv_none(struct fixture *f)
{
    assert_false(host_wait_readable(f->tx_peer, 0));
}

/* Our side. */

static unsigned int
count_owned_by_queue(struct fixture *f)
{
    unsigned int n = 0;

    for (unsigned int i = 0; i < MAX_BUFS; i++) {
        n += f->owner[i] == THE_QUEUES;
    }
    return n;
}

/* Gives the queue up to 'n' buffers and returns how many it took. */
static unsigned int
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

static void
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

/* Receives up to 'n' frames into 'bufs', takes note and returns their number.
 * If there are none, checks that. */
static unsigned int
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

static unsigned int
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

/* Waits for and receives the frames 'seq' to 'seq' + 'n' - 1, of 'size' octets
 * each, and refills. */
static void
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

static void
receive_none(struct fixture *f)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];

    assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 0);
}

/* Makes 'n' frames from 'seq' on, of 'size' octets each with a header of
 * zeros, in '*bufs', to be freed with free_frames(). */
static struct turbotap_buf *
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

static void
free_frames(struct turbotap_buf *bufs, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        free(bufs[i].cookie);
    }
    free(bufs);
}

static uint64_t
count_syscalls(const struct turbotap_queue *queue)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    return stats.syscalls;
}

/* Asserts that the counters of 'queue' are exactly '*expected', but for the
 * number of system calls, which is the class's own. */
static void
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

/* As check_stats() for the receive queue; how often it was called, receive()
 * has counted. */
static void
check_rx_stats(struct fixture *f, struct turbotap_queue_stats expected)
{
    expected.batches = f->n_calls;
    expected.empty_polls = f->n_empty;
    check_stats(f->rx, &expected);
}

/* Receiving. */

static void
test_rx_batches(void **state)
{
    static const unsigned int sizes[] = { 1, 31, 32, 33, 64, 100 };
    struct fixture *f = *state;
    struct turbotap_queue_stats expected = { 0 };
    uint32_t seq = 0;

    fixture_open_usual(f);
    fill_up(f);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned int j = 0; j < sizes[i]; j++) {
            peer_send(f, seq + j, 60 + i);
        }
        receive_all(f, seq, sizes[i], 60 + i);
        receive_none(f);
        seq += sizes[i];
        expected.packets += sizes[i];
        expected.bytes += sizes[i] * (60 + i);
        check_rx_stats(f, expected);
    }
    check_stats(f->tx, &(struct turbotap_queue_stats) { 0 });
    fixture_close(f);
}

static void
test_rx_partial_batches(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf bufs[TURBOTAP_BURST];

    /* As many as there are, and never more than asked for. */
    fixture_open_usual(f);
    fill_up(f);
    for (uint32_t seq = 0; seq < 15; seq++) {
        peer_send(f, seq, 60);
    }
    assert_int_equal(receive(f, bufs, 5), 5);
    check_frame(bufs[0].data, bufs[0].size, 0, 60);
    check_frame(bufs[4].data, bufs[4].size, 4, 60);
    assert_int_equal(receive(f, bufs, 1), 1);
    check_frame(bufs[0].data, bufs[0].size, 5, 60);
    assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 9);
    check_frame(bufs[0].data, bufs[0].size, 6, 60);
    check_frame(bufs[8].data, bufs[8].size, 14, 60);
    receive_none(f);
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 15, .bytes = 15 * 60 });
    fixture_close(f);
}

static void
test_rx_empty(void **state)
{
    struct fixture *f = *state;
    int fd;

    fixture_open_usual(f);
    fill_up(f);
    fd = turbotap_queue_poll_fd(f->rx);
    receive_none(f);
    receive_none(f);
    assert_false(host_wait_readable(fd, 0));
    peer_send(f, 0, 60);
    assert_true(host_wait_readable(fd, HOST_PATIENCE));
    receive_all(f, 0, 1, 60);
    receive_none(f);
    assert_false(host_wait_readable(fd, 0));
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 1, .bytes = 60 });
    fixture_close(f);
}

static void
test_rx_without_buffers(void **state)
{
    struct fixture *f = *state;

    /* Frames wait in the kernel until there are buffers. */
    fixture_open_usual(f);
    for (uint32_t seq = 0; seq < 3; seq++) {
        peer_send(f, seq, 60);
    }
    receive_none(f);
    fill_up(f);
    receive_all(f, 0, 3, 60);
    fixture_close(f);
}

static void
test_rx_with_few_buffers(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf bufs[TURBOTAP_BURST];
    uint32_t seq = 0;

    /* The order stays, however buffers come and go. */
    fixture_open_usual(f);
    for (uint32_t i = 0; i < 100; i++) {
        peer_send(f, i, 60 + i);
    }
    for (unsigned int round = 0; seq < 100; round++) {
        unsigned int n_rx;

        assert_true(round < 1000);
        fill(f, round % 5);
        n_rx = receive(f, bufs, 1 + round % 3);
        for (unsigned int i = 0; i < n_rx; i++, seq++) {
            check_frame(bufs[i].data, bufs[i].size, seq, 60 + seq);
        }
    }
    receive_none(f);
    fixture_close(f);
}

static void
test_rx_truncated(void **state)
{
    static const size_t sizes[] = { 60, 200, 100, 127, 300, 129, 61 };
    struct fixture *f = *state;
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n_rx = 0;
    unsigned int before;

    /* Those that do not fit are counted, and their buffers stay. */
    fixture_open(f, 0, 128);
    fill_up(f);
    before = count_owned_by_queue(f);
    for (int i = 0; i < 7; i++) {
        peer_send(f, i, sizes[i]);
    }
    while (n_rx < 4) {
        assert_true(f->n_empty < 1000);
        assert_true(host_wait_readable(turbotap_queue_poll_fd(f->rx),
                                       HOST_PATIENCE));
        n_rx += receive(f, bufs + n_rx, TURBOTAP_BURST - n_rx);
    }
    receive_none(f);
    assert_int_equal(n_rx, 4);
    check_frame(bufs[0].data, bufs[0].size, 0, 60);
    check_frame(bufs[1].data, bufs[1].size, 2, 100);
    check_frame(bufs[2].data, bufs[2].size, 3, 127);
    check_frame(bufs[3].data, bufs[3].size, 6, 61);
    assert_int_equal(count_owned_by_queue(f), before - 4);
    assert_int_equal(turbotap_queue_room(f->rx), 4);
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 4, .bytes = 60 + 100 + 127 + 61,
                       .drops[TURBOTAP_DROP_TRUNCATED] = 3 });
    fixture_close(f);
}

static void
test_rx_exact_fit(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf bufs[1];
    struct turbotap_queue_stats stats;

    /* A frame that just fits comes whole, or counts as truncated. */
    fixture_open(f, 0, 128);
    fill_up(f);
    peer_send(f, 0, 128);
    if (receive(f, bufs, 1)) {
        check_frame(bufs[0].data, bufs[0].size, 0, 128);
    }
    turbotap_queue_get_stats(f->rx, &stats);
    assert_int_equal(stats.packets + stats.drops[TURBOTAP_DROP_TRUNCATED], 1);
    fixture_close(f);
}

static void
test_rx_all_bad(void **state)
{
    struct fixture *f = *state;
    unsigned int before;

    /* More of them than there are buffers. */
    fixture_open(f, 0, 128);
    before = fill(f, 8);
    for (int i = 0; i < 70; i++) {
        peer_send(f, i, 200);
    }
    peer_send(f, 70, 60);
    receive_all(f, 70, 1, 60);
    receive_none(f);
    assert_int_equal(count_owned_by_queue(f), before);
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 1, .bytes = 60,
                       .drops[TURBOTAP_DROP_TRUNCATED] = 70 });
    fixture_close(f);
}

static void
test_rx_short(void **state)
{
    struct fixture *f = *state;

    /* A tap's host cannot send those. */
    for (int i = 0; i < 2; i++) {
        const uint32_t hdr_len = i ? 12 : 0;

        fixture_open(f, hdr_len, 2048);
        f->n_calls = f->n_empty = 0;
        fill_up(f);
        peer_send(f, 0, 14);
        peer_send(f, 1, 13);
        assert_int_equal(send(f->rx_peer, big_data, 1, 0), 1);
        assert_int_equal(send(f->rx_peer, big_data, 0, 0), 0);
        peer_send(f, 1, 14);
        receive_all(f, 0, 2, 14);
        receive_none(f);
        check_rx_stats(f, (struct turbotap_queue_stats) {
                           .packets = 2, .bytes = 2 * (hdr_len + 14),
                           .drops[TURBOTAP_DROP_SHORT] = 3 });
        fixture_close(f);
    }
}

static void
test_large_frames(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf *bufs;

    fixture_open(f, 0, MAX_FRAME + 1);
    if (f->row->tap) {
        host_set_mtu(TAP, TURBOTAP_MAX_MTU);
    }
    assert_int_equal(fill(f, 4), 4);
    for (uint32_t seq = 0; seq < 3; seq++) {
        peer_send(f, seq, MAX_FRAME);
    }
    receive_all(f, 0, 3, MAX_FRAME);
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 3, .bytes = 3 * MAX_FRAME });

    for (uint32_t seq = 0; seq < 3; seq++) {
        bufs = make_frames(f, seq, 1, MAX_FRAME);
        assert_int_equal(turbotap_queue_send(f->tx, bufs, 1), 1);
        peer_recv(f, seq, MAX_FRAME);
        free_frames(bufs, 1);
    }
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .packets = 3, .bytes = 3 * MAX_FRAME, .batches = 3 });
    fixture_close(f);
}

static void
test_virtio_net_header(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf *bufs;

    fixture_open(f, 12, 2048);
    fill_up(f);
    for (uint32_t seq = 0; seq < 5; seq++) {
        peer_send(f, seq, 60);
    }
    receive_all(f, 0, 5, 60);
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 5, .bytes = 5 * (12 + 60) });

    bufs = make_frames(f, 0, 5, 60);
    assert_int_equal(turbotap_queue_send(f->tx, bufs, 5), 5);
    for (uint32_t seq = 0; seq < 5; seq++) {
        peer_recv(f, seq, 60);
    }
    free_frames(bufs, 5);
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .packets = 5, .bytes = 5 * (12 + 60), .batches = 1 });
    fixture_close(f);
}

/* The buffers' accounts. */

static void
test_fill_and_reclaim(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int room, left;

    fixture_open_usual(f);
    room = turbotap_queue_room(f->rx);
    assert_in_range(room, TURBOTAP_BURST, MAX_BUFS - 8);
    assert_int_equal(fill(f, 3), 3);
    assert_int_equal(turbotap_queue_room(f->rx), room - 3);
    assert_int_equal(fill(f, 0), 0);

    /* No more than there is room for. */
    assert_int_equal(fill(f, room), room - 3);
    assert_int_equal(turbotap_queue_room(f->rx), 0);
    assert_int_equal(fill(f, 1), 0);

    for (uint32_t seq = 0; seq < 8; seq++) {
        peer_send(f, seq, 60);
    }
    assert_int_equal(receive(f, bufs, 5), 5);
    assert_int_equal(turbotap_queue_room(f->rx), 5);
    assert_int_equal(fill(f, 2), 2);
    assert_int_equal(turbotap_queue_room(f->rx), 3);
    assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 3);
    left = room - 6;
    assert_int_equal(count_owned_by_queue(f), left);

    /* Each comes back once. */
    assert_int_equal(reclaim(f, 0), 0);
    assert_int_equal(reclaim(f, 1), 1);
    assert_int_equal(reclaim(f, 7), 7);
    assert_int_equal(reclaim(f, MAX_BUFS), left - 8);
    assert_int_equal(reclaim(f, MAX_BUFS), 0);
    assert_int_equal(count_owned_by_queue(f), 0);
    fixture_close(f);
}

static void
test_reclaim_with_frames_waiting(void **state)
{
    struct fixture *f = *state;
    unsigned int room;

    fixture_open_usual(f);
    room = turbotap_queue_room(f->rx);
    fill_up(f);
    for (uint32_t seq = 0; seq < 40; seq++) {
        peer_send(f, seq, 60);
    }
    assert_int_equal(reclaim(f, MAX_BUFS), room);
    assert_int_equal(reclaim(f, MAX_BUFS), 0);
    fixture_close(f);
}

static void
test_reclaim_nothing(void **state)
{
    struct fixture *f = *state;

    fixture_open_usual(f);
    assert_int_equal(reclaim(f, MAX_BUFS), 0);
    fixture_close(f);
}

/* Sending. */

static void
test_tx_batches(void **state)
{
    static const unsigned int sizes[] = { 1, 31, 32, 33, 64, 100 };
    struct fixture *f = *state;
    struct turbotap_queue_stats expected = { 0 };
    uint64_t n_syscalls = 0;

    fixture_open_usual(f);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const unsigned int n = sizes[i];
        struct turbotap_buf *bufs = make_frames(f, 1000, n, 60 + i);

        assert_int_equal(turbotap_queue_send(f->tx, bufs, n), n);
        for (unsigned int j = 0; j < n; j++) {
            assert_int_equal(bufs[j].error, 0);
            assert_ptr_equal(bufs[j].data, bufs[j].cookie);
            check_frame(bufs[j].data, bufs[j].size, 1000 + j, 60 + i);
            peer_recv(f, 1000 + j, 60 + i);
        }
        peer_recv_none(f);
        free_frames(bufs, n);
        expected.packets += n;
        expected.bytes += n * (60 + i);
        expected.batches++;
        check_stats(f->tx, &expected);

        n_syscalls += (f->row->batches
                       ? (n + TURBOTAP_BURST - 1) / TURBOTAP_BURST : n);
        assert_int_equal(count_syscalls(f->tx), n_syscalls);
    }
    assert_int_equal(turbotap_queue_send(f->tx, NULL, 0), 0);
    check_stats(f->tx, &expected);
    check_stats(f->rx, &(struct turbotap_queue_stats) { 0 });
    fixture_close(f);
}

/* Sends 'n' frames, of which those whose bit in 'bad' is set cannot go because
 * of 'error': they have the 'size' octets at 'data'. */
static void
check_tx_error(struct fixture *f, unsigned int n, uint64_t bad, int error,
               void *data, uint32_t size)
{
    struct turbotap_buf *bufs = make_frames(f, 7, n, 60);
    unsigned int n_bad = 0;

    for (unsigned int i = 0; i < n; i++) {
        if (bad & UINT64_C(1) << i) {
            bufs[i].data = data;
            bufs[i].size = size;
            n_bad++;
        }
    }
    assert_int_equal(turbotap_queue_send(f->tx, bufs, n), n - n_bad);
    for (unsigned int i = 0; i < n; i++) {
        if (bad & UINT64_C(1) << i) {
            assert_int_equal(bufs[i].error, error);
        } else {
            assert_int_equal(bufs[i].error, 0);
            peer_recv(f, 7 + i, 60);
        }
    }
    peer_recv_none(f);
    free_frames(bufs, n);
}

static void
test_tx_error_in_batch(void **state)
{
    static const struct {
        unsigned int n;
        uint64_t bad;
    } cases[] = {
        { 32, 1 },
        { 32, 1 << 15 },
        { 32, UINT32_C(1) << 31 },
        { 32, 0x18 },
        { 32, 0xaaaaaaaa },
        { 32, 0xffffffff },
        { 3, 4 },
        { 1, 1 },
        { 40, UINT64_C(3) << 31 },
        { 64, ~(UINT64_C(1) << 63) },
    };
    struct fixture *f = *state;
    struct turbotap_queue_stats expected = { 0 };
    void *nowhere;

    fixture_open_usual(f);
    nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(nowhere, MAP_FAILED);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const unsigned int n = cases[i].n;
        const unsigned int n_bad = __builtin_popcountll(cases[i].bad);

        /* A frame shorter than its header, or larger than the socket's
         * buffer. */
        if (f->row->tap) {
            check_tx_error(f, n, cases[i].bad, EINVAL, big_data, 13);
        } else {
            check_tx_error(f, n, cases[i].bad, EMSGSIZE, big_data,
                           sizeof big_data);
        }
        expected.drops[TURBOTAP_DROP_INVALID] += n_bad;
        check_tx_error(f, n, cases[i].bad, EFAULT, nowhere, 60);
        expected.drops[TURBOTAP_DROP_OTHER] += n_bad;

        expected.packets += 2 * (n - n_bad);
        expected.bytes += 2 * 60 * (n - n_bad);
        expected.batches += n > n_bad ? 2 : 0;
        check_stats(f->tx, &expected);
    }
    munmap(nowhere, 4096);
    fixture_close(f);
}

static void
test_tx_no_room(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf *bufs;
    unsigned int n_sent;

    /* Nobody receives; none of the frames that follow is sent, and then
     * again. */
    fixture_open_usual(f);
    bufs = make_frames(f, 0, 2000, 60);
    n_sent = turbotap_queue_send(f->tx, bufs, 2000);
    assert_in_range(n_sent, TURBOTAP_BURST, 1999);
    for (unsigned int i = 0; i < 2000; i++) {
        assert_int_equal(bufs[i].error, i < n_sent ? 0 : EAGAIN);
    }
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .packets = n_sent, .bytes = 60 * n_sent, .batches = 1,
                    .drops[TURBOTAP_DROP_NO_BUFFER] = 2000 - n_sent });

    for (unsigned int i = 0; i < n_sent; i++) {
        peer_recv(f, i, 60);
    }
    peer_recv_none(f);
    assert_int_equal(turbotap_queue_send(f->tx, bufs, 1), 1);
    assert_int_equal(bufs[0].error, 0);
    free_frames(bufs, 2000);
    fixture_close(f);
}

static void
test_tx_peer_gone(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf *bufs;
    int peer;

    fixture_open_usual(f);
    peer = f->tx_peer;
    f->tx_peer = dup(f->rx_peer);
    close(peer);
    bufs = make_frames(f, 0, 2, 60);
    assert_int_equal(turbotap_queue_send(f->tx, bufs, 2), 0);
    assert_int_not_equal(bufs[0].error, 0);
    assert_int_not_equal(bufs[1].error, 0);
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .drops[TURBOTAP_DROP_OTHER] = 2 });
    free_frames(bufs, 2);
    fixture_close(f);
}

/* What happens to a tap device. */

static void
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

static void
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

static void
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

/* What does not depend on the class. */

static void
test_lookup(void **state)
{
    (void) state;
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        assert_ptr_equal(turbotap_io_lookup(turbotap_io_classes[i]->name),
                         turbotap_io_classes[i]);
    }
    assert_ptr_equal(turbotap_io_lookup("rw"), &turbotap_io_rw);
    assert_ptr_equal(turbotap_io_lookup("socket"), &turbotap_io_socket);
    assert_null(turbotap_io_lookup("auto"));
    assert_null(turbotap_io_lookup(""));
}

/* Asserts that turbotap_io_best() names, for 'fd', every class that is better
 * than the one it returns, in order.  Returns that. */
static const struct turbotap_io_class *
check_best(int fd)
{
    const struct turbotap_io_class *class;
    char reason[512] = "x";

    class = turbotap_io_best(fd, reason, sizeof reason);
    assert_non_null(class);
    for (size_t i = 0; turbotap_io_classes[i] != class; i++) {
        char text[64];
        const char *found;

        snprintf(text, sizeof text, "%s: ", turbotap_io_classes[i]->name);
        found = strstr(reason, text);
        assert_non_null(found);
        assert_true(i ? found >= reason + 2 && !strncmp(found - 2, "; ", 2)
                    : found == reason);
    }
    assert_null(strstr(reason, class->name));
    if (class == turbotap_io_classes[0]) {
        assert_string_equal(reason, "");
    }

    /* A reason too long for its room is cut. */
    for (size_t size = 1; size < 64; size++) {
        char cut[64];

        memset(cut, GUARD_BYTE, sizeof cut);
        assert_ptr_equal(turbotap_io_best(fd, cut, size), class);
        assert_true(strnlen(cut, size) < size);
        assert_true(!strncmp(cut, reason, strlen(cut)));
        for (size_t i = size; i < sizeof cut; i++) {
            assert_int_equal((uint8_t) cut[i], GUARD_BYTE);
        }
    }
    return class;
}

static void
test_best(void **state)
{
    struct turbotap_dev *dev;
    int ours, peer;
    int fd;

    /* Sockets are the best there is. */
    (void) state;
    open_pair(&ours, &peer);
    assert_ptr_equal(check_best(ours), &turbotap_io_socket);
    close(ours);
    close(peer);

    /* For a tap it depends. */
    assert_int_equal(turbotap_dev_open(TAP, false, &dev), 0);
    check_best(turbotap_dev_rxq_fd(dev, 0));
    turbotap_dev_close(dev);

    /* What is no tap at all can be read at most. */
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_ptr_equal(check_best(fd), &turbotap_io_rw);
    close(fd);
}

static void
test_open_fails(void **state)
{
    struct turbotap_queue_config config = { .direction = TURBOTAP_RX };
    unsigned int n_fds = host_count_fds();
    struct turbotap_queue *queue = (void *) &config;
    struct rlimit old, low;
    int ours, peer;
    int error;

    (void) state;
    config.fd = -1;
    assert_int_not_equal(turbotap_queue_open(&turbotap_io_socket, &config,
                                             &queue), 0);
    assert_null(queue);

    open_pair(&ours, &peer);
    config.fd = ours;
    queue = (void *) &config;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = peer + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    error = turbotap_queue_open(&turbotap_io_socket, &config, &queue);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(error, EMFILE);
    assert_null(queue);
    close(ours);
    close(peer);
    assert_int_equal(host_count_fds(), n_fds);

    turbotap_queue_close(NULL);
}

static void
test_drop_names(void **state)
{
    (void) state;
    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        const char *name = turbotap_drop_to_string(i);

        assert_string_not_equal(name, "unknown");
        assert_true(turbotap_drop_is_possible(i, TURBOTAP_RX)
                    || turbotap_drop_is_possible(i, TURBOTAP_TX));
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(name, turbotap_drop_to_string(j));
        }
    }
}

/* Which tests there are. */

enum where { ANYWHERE, TAP_ONLY, PAIR_ONLY };

static const struct {
    const char *name;
    CMUnitTestFunction function;
    enum where where;
} class_tests[] = {
#define TEST(NAME, WHERE) { #NAME, NAME, WHERE }
    TEST(test_rx_batches, ANYWHERE),
    TEST(test_rx_partial_batches, ANYWHERE),
    TEST(test_rx_empty, ANYWHERE),
    TEST(test_rx_without_buffers, ANYWHERE),
    TEST(test_rx_with_few_buffers, ANYWHERE),
    TEST(test_rx_truncated, ANYWHERE),
    TEST(test_rx_exact_fit, ANYWHERE),
    TEST(test_rx_all_bad, ANYWHERE),
    TEST(test_rx_short, PAIR_ONLY),
    TEST(test_large_frames, ANYWHERE),
    TEST(test_virtio_net_header, ANYWHERE),
    TEST(test_fill_and_reclaim, ANYWHERE),
    TEST(test_reclaim_with_frames_waiting, ANYWHERE),
    TEST(test_reclaim_nothing, ANYWHERE),
    TEST(test_tx_batches, ANYWHERE),
    TEST(test_tx_error_in_batch, ANYWHERE),
    TEST(test_tx_no_room, PAIR_ONLY),
    TEST(test_tx_peer_gone, PAIR_ONLY),
    TEST(test_link_down, TAP_ONLY),
    TEST(test_deleted, TAP_ONLY),
    TEST(test_queues_under_traffic, TAP_ONLY),
};
#define N_CLASS_TESTS (sizeof class_tests / sizeof class_tests[0])

/* Stands for all tests of a row whose class cannot serve here. */
static void
skip_row(void **state)
{
    print_message("%s\n", (const char *) *state);
    skip();
}

/* Returns true if the class of 'row' can serve, else false and the reason. */
static bool
probe(const struct row *row, char *reason, size_t size)
{
    struct turbotap_dev *dev;
    int ours, peer;
    bool ok;

    if (row->tap) {
        if (turbotap_dev_open(TAP, false, &dev)) {
            snprintf(reason, size, "no tap device");
            return false;
        }
        ok = row->class->probe(turbotap_dev_rxq_fd(dev, 0), reason, size);
        turbotap_dev_close(dev);
    } else {
        if (!host_set_dgram_qlen(MAX_BUFS)) {
            snprintf(reason, size, "net.unix.max_dgram_qlen is too small");
            return false;
        }
        open_pair(&ours, &peer);
        ok = row->class->probe(ours, reason, size);
        close(ours);
        close(peer);
    }
    return ok;
}

int
main(void)
{
    static const struct CMUnitTest common_tests[] = {
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_drop_names),
    };
    int n_failed;

    host_enter_namespace();
    n_failed = cmocka_run_group_tests_name("queue", common_tests, NULL, NULL);

    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *row = &rows[i];
        struct CMUnitTest tests[N_CLASS_TESTS];
        char names[N_CLASS_TESTS][80];
        char reason[TURBOTAP_REASON_LEN];
        bool serves = probe(row, reason, sizeof reason);
        size_t n = 0;

        memset(tests, 0, sizeof tests);
        if (!serves) {
            tests[n].test_func = skip_row;
            tests[n].initial_state = reason;
            tests[n++].name = row->name;
        }
        for (size_t j = 0; serves && j < N_CLASS_TESTS; j++) {
            if (class_tests[j].where == (row->tap ? PAIR_ONLY : TAP_ONLY)) {
                continue;
            }
            snprintf(names[n], sizeof names[n], "%s: %s", row->name,
                     class_tests[j].name);
            tests[n].name = names[n];
            tests[n].test_func = class_tests[j].function;
            tests[n].setup_func = setup;
            tests[n].teardown_func = teardown;
            tests[n].initial_state = (void *) row;
            n++;
        }
        n_failed += _cmocka_run_group_tests(row->name, tests, n, NULL, NULL);
    }
    return n_failed != 0;
}
