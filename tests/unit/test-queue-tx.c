/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Sending. */

#include <config.h>

#include "test-queue.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Too large for a socket's buffer. */
static uint8_t big_data[2 * SOCKET_BUF + 1];

void
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

void
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

void
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

void
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
