/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Receiving, and the account of the buffers that one receives into. */

#include <config.h>

#include "test-queue.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Receiving. */

void
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

void
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

void
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

void
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

void
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

void
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

void
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

void
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

void
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
        assert_int_equal(send(f->rx_peer, "x", 1, 0), 1);
        assert_int_equal(send(f->rx_peer, "", 0, 0), 0);
        peer_send(f, 1, 14);
        receive_all(f, 0, 2, 14);
        receive_none(f);
        check_rx_stats(f, (struct turbotap_queue_stats) {
                           .packets = 2, .bytes = 2 * 14,
                           .drops[TURBOTAP_DROP_SHORT] = 3 });
        fixture_close(f);
    }
}

void
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

void
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
                       .packets = 5, .bytes = 5 * 60 });

    /* One that turns out to be bad was not received. */
    turbotap_queue_drop_received(f->rx, 1, 60, TURBOTAP_DROP_MALFORMED);
    check_rx_stats(f, (struct turbotap_queue_stats) {
                       .packets = 4, .bytes = 4 * 60,
                       .drops[TURBOTAP_DROP_MALFORMED] = 1 });

    bufs = make_frames(f, 0, 5, 60);
    assert_int_equal(turbotap_queue_send(f->tx, bufs, 5), 5);
    for (uint32_t seq = 0; seq < 5; seq++) {
        peer_recv(f, seq, 60);
    }
    free_frames(bufs, 5);
    check_stats(f->tx, &(struct turbotap_queue_stats) {
                    .packets = 5, .bytes = 5 * 60, .batches = 1 });
    fixture_close(f);
}

/* The buffers' accounts. */

void
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

void
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

/* Returns the resident pages that the queue's buffers have to themselves. */
static unsigned int
count_resident(const struct fixture *f)
{
    uintptr_t page = getpagesize();
    unsigned int n = 0;

    for (unsigned int i = 0; i < MAX_BUFS; i++) {
        uintptr_t start = ((uintptr_t) f->data[i] + page - 1) / page * page;
        uintptr_t end = ((uintptr_t) f->data[i] + f->buf_size) / page * page;
        unsigned char resident;

        for (; f->owner[i] == THE_QUEUES && start < end; start += page) {
            assert_int_equal(mincore((void *) start, page, &resident), 0);
            n += resident & 1;
        }
    }
    return n;
}

void
test_trim(void **state)
{
    struct fixture *f = *state;
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n;

    fixture_open(f, 0, MAX_FRAME + 1);
    if (f->row->tap) {
        host_set_mtu(TAP, TURBOTAP_MAX_MTU);
    }
    assert_int_equal(fill(f, 4), 4);
    n = 4 * (MAX_FRAME / getpagesize() - 1);
    assert_true(count_resident(f) >= n);
    turbotap_queue_trim(f->rx);
    assert_int_equal(count_resident(f), 0);

    /* It receives as before, as often as this is done. */
    for (uint32_t seq = 0; seq < 6; seq++) {
        peer_send(f, seq, MAX_FRAME);
        assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 1);
        check_frame(bufs[0].data, bufs[0].size, seq, MAX_FRAME);
        assert_int_equal(fill(f, 1), 1);
        if (seq % 2) {
            assert_true(count_resident(f) > 0);
            turbotap_queue_trim(f->rx);
            assert_int_equal(count_resident(f), 0);
        }
    }

    /* Locked memory, too.  (AddressSanitizer's mlock() does nothing.) */
    for (unsigned int i = 0; i < 4; i++) {
        assert_int_equal(syscall(SYS_mlock, f->data[i], f->buf_size), 0);
    }
    assert_true(count_resident(f) >= n);
    turbotap_queue_trim(f->rx);
    assert_int_equal(count_resident(f), 0);

    /* What has come already is not lost. */
    assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 0);
    for (uint32_t seq = 0; seq < 3; seq++) {
        peer_send(f, seq, MAX_FRAME);
    }
    assert_true(host_wait_readable(turbotap_queue_poll_fd(f->rx),
                                   HOST_PATIENCE));
    turbotap_queue_trim(f->rx);
    assert_int_equal(receive(f, bufs, TURBOTAP_BURST), 3);
    for (uint32_t seq = 0; seq < 3; seq++) {
        check_frame(bufs[seq].data, bufs[seq].size, seq,
                    MAX_FRAME);
    }
    fixture_close(f);
}

void
test_reclaim_nothing(void **state)
{
    struct fixture *f = *state;

    fixture_open_usual(f);
    assert_int_equal(reclaim(f, MAX_BUFS), 0);
    fixture_close(f);
}

/* Receives a batch and checks that its frames are those from 'seq' on.
 * Returns their number. */
static unsigned int
receive_from(struct fixture *f, uint32_t seq, unsigned int max)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n = receive(f, bufs, max);

    for (unsigned int i = 0; i < n; i++) {
        check_frame(bufs[i].data, bufs[i].size, seq + i, 60);
    }
    return n;
}

/* A queue that takes the place of another one on the same descriptor: each
 * frame comes out of one of them, in order, and none is lost. */
void
test_stop(void **state)
{
    struct fixture *f = *state;
    uint32_t sent = 0;
    uint32_t seq = 0;

    fixture_open_usual(f);
    for (unsigned int round = 0; round < 20; round++) {
        unsigned int n;

        fill_up(f);
        for (int i = 0; i < 40; i++) {
            peer_send(f, sent++, 60);
        }
        if (round % 2) {
            seq += receive_from(f, seq, 10);
        }

        turbotap_queue_stop(f->rx);
        peer_send(f, sent++, 60);
        while ((n = receive_from(f, seq, TURBOTAP_BURST)) > 0) {
            seq += n;
            if (f->row->class->holds_frames) {
                fill_up(f);
            }
        }
        assert_true(seq < sent);
        turbotap_queue_stop(f->rx);
        assert_int_equal(receive_from(f, seq, TURBOTAP_BURST), 0);
        reclaim(f, MAX_BUFS);
        assert_int_equal(count_owned_by_queue(f), 0);
        turbotap_queue_close(f->rx);

        f->rx = open_queue(f, TURBOTAP_RX, f->rx_fd);
        fill_up(f);
        receive_all(f, seq, sent - seq, 60);
        seq = sent;
        receive_none(f);
    }
    fixture_close(f);
}
