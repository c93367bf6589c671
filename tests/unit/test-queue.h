/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What the files test-queue*.c share: a receive and a transmit queue of some
 * I/O class over some transport, and their peer, with the account of all
 * buffers. */

#ifndef TEST_QUEUE_H
#define TEST_QUEUE_H 1

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#define TAP "ttq0"
#define MAX_BUFS 1024           /* More than any queue has room for. */
#define MAX_FRAME 65535
#define SOCKET_BUF (200 * 1024) /* The kernel doubles it. */
#define GUARD_BYTE 0xa5

/* What the tests run over. */
struct row {
    const char *name;
    const struct turbotap_io_class *class;
    bool tap;                   /* A tap device, not a pair of sockets. */
    bool batches;               /* A burst to send is one system call. */
};

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

/* Fills in the 'size' octets at 'frame' as number 'seq': UDP over IPv4 if that
 * fits in, so that the host spreads them over its queues. */
void make_frame(uint8_t *frame, uint32_t seq, size_t size);

/* Returns the number that make_frame() put into 'frame'. */
uint32_t frame_seq(const uint8_t *frame);

void check_frame(const void *data, size_t size, uint32_t seq,
                 size_t expected_size);

/* Set up and tear down. */

struct turbotap_queue *open_queue(struct fixture *, enum turbotap_direction,
                                  int fd);
void open_pair(int *ours, int *peer);

int setup(void **state);
int teardown(void **state);

/* What a test begins with: the latter for frames of usual size without a
 * virtio-net header. */
void fixture_open(struct fixture *, uint32_t hdr_len, uint32_t buf_size);
void fixture_open_usual(struct fixture *);

/* Ends a test that went well: the queue must give all buffers back. */
void fixture_close(struct fixture *);

/* The peer's side. */

/* Sends frame 'seq' of 'size' octets, header not included, to us. */
void peer_send(struct fixture *, uint32_t seq, size_t size);

/* Receives a frame from us, which must be number 'seq' of 'size' octets. */
void peer_recv(struct fixture *, uint32_t seq, size_t size);
void peer_recv_none(struct fixture *);

/* Our side. */

/* Gives the queue up to 'n' buffers and returns how many it took. */
unsigned int fill(struct fixture *, unsigned int n);
void fill_up(struct fixture *);

/* Receives up to 'n' frames into 'bufs', takes note and returns their number.
 * If there are none, checks that. */
unsigned int receive(struct fixture *, struct turbotap_buf *bufs,
                     unsigned int n);
void receive_none(struct fixture *);

/* Waits for and receives the frames 'seq' to 'seq' + 'n' - 1, of 'size' octets
 * each, and refills. */
void receive_all(struct fixture *, uint32_t seq, unsigned int n, size_t size);

unsigned int reclaim(struct fixture *, unsigned int n);
unsigned int count_owned_by_queue(struct fixture *);

/* Makes 'n' frames from 'seq' on, of 'size' octets each with a header of
 * zeros, to be freed with free_frames(). */
struct turbotap_buf *make_frames(struct fixture *, uint32_t seq,
                                 unsigned int n, size_t size);
void free_frames(struct turbotap_buf *bufs, unsigned int n);

/* Counters. */

uint64_t count_syscalls(const struct turbotap_queue *);

/* Asserts that the counters of a queue are exactly '*expected', but for the
 * number of system calls, which is the class's own. */
void check_stats(const struct turbotap_queue *,
                 const struct turbotap_queue_stats *expected);

/* As check_stats() for the receive queue; how often it was called, receive()
 * has counted. */
void check_rx_stats(struct fixture *, struct turbotap_queue_stats expected);

/* The tests. */

/* test-queue-rx.c. */
void test_rx_batches(void **state);
void test_rx_partial_batches(void **state);
void test_rx_empty(void **state);
void test_rx_without_buffers(void **state);
void test_rx_with_few_buffers(void **state);
void test_rx_truncated(void **state);
void test_rx_exact_fit(void **state);
void test_rx_all_bad(void **state);
void test_rx_short(void **state);
void test_large_frames(void **state);
void test_virtio_net_header(void **state);
void test_fill_and_reclaim(void **state);
void test_reclaim_with_frames_waiting(void **state);
void test_trim(void **state);
void test_reclaim_nothing(void **state);
void test_stop(void **state);

/* test-queue-tx.c. */
void test_tx_batches(void **state);
void test_tx_error_in_batch(void **state);
void test_tx_no_room(void **state);
void test_tx_peer_gone(void **state);

/* test-queue-device.c. */
void test_link_down(void **state);
void test_deleted(void **state);
void test_queues_under_traffic(void **state);

#endif /* test-queue.h */
