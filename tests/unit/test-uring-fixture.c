/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The fixture of the tests of the io_uring class. */

#include <config.h>

#include "test-uring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PACKET_QDISC_BYPASS
#define PACKET_QDISC_BYPASS 20
#endif

/* The host. */

void
make_frame(struct frame *frame, uint64_t seq)
{
    memset(frame, 0xff, ETH_ALEN);
    memcpy(frame->eth.h_source, "\x02\x00\x00\x00\x00\x01", ETH_ALEN);
    frame->eth.h_proto = htons(ETH_P_TEST);
    frame->seq = seq;
    memset(frame->fill, seq, sizeof frame->fill);
}

void
host_send_size(struct fixture *f, size_t size)
{
    uint8_t data[BUF_SIZE * 2];
    struct frame frame;

    make_frame(&frame, f->tx_seq);
    memset(data, 0, sizeof data);
    memcpy(data, &frame, sizeof frame);
    if (send(f->host, data, size, 0) != (ssize_t) size) {
        fail_msg("host cannot send: %s", strerror(errno));
    }
    f->tx_seq++;
}

void
host_send(struct fixture *f, unsigned int n)
{
    while (n--) {
        host_send_size(f, FRAME_SIZE);
    }
}

uint64_t
host_recv(struct fixture *f)
{
    struct frame frame;

    if (recv(f->host, &frame, sizeof frame, 0) != sizeof frame) {
        fail_msg("host got no frame: %s", strerror(errno));
    }
    return frame.seq;
}

/* Our side. */

int
recv_some(struct fixture *f, unsigned int n, unsigned int *n_rx)
{
    struct turbotap_buf bufs[MAX_BUFS];
    int error = turbotap_queue_recv(f->rx, bufs, n, n_rx);

    for (unsigned int i = 0; i < *n_rx; i++) {
        const struct frame *frame = bufs[i].data;
        struct frame expected;

        make_frame(&expected, f->rx_seq++);
        assert_int_equal(frame->seq, expected.seq);
        assert_int_equal(bufs[i].size, FRAME_SIZE);
        assert_memory_equal(frame, &expected, FRAME_SIZE);
        assert_ptr_equal(bufs[i].cookie, bufs[i].data);
        memset(bufs[i].data, 0, BUF_SIZE);
        bufs[i].size = BUF_SIZE;
    }
    if (*n_rx) {
        assert_int_equal(turbotap_queue_fill(f->rx, bufs, *n_rx), *n_rx);
    }
    return error;
}

void
recv_all(struct fixture *f, unsigned int n)
{
    while (n) {
        unsigned int n_rx;
        int error = recv_some(f, n < 32 ? n : 32, &n_rx);

        if (error) {
            assert_int_equal(error, EAGAIN);
            sched_yield();
        }
        assert_true(n_rx <= n);
        n -= n_rx;
    }
}

void
recv_none(struct fixture *f)
{
    unsigned int n_rx;

    assert_int_equal(recv_some(f, 32, &n_rx), EAGAIN);
}

void
fill_fresh(struct fixture *f, unsigned int n)
{
    for (; n; n--) {
        struct turbotap_buf buf = {
            .data = f->mem + f->n_mem++ * BUF_SIZE,
            .size = BUF_SIZE,
        };

        assert_true(f->n_mem <= MAX_BUFS);
        buf.cookie = buf.data;
        assert_int_equal(turbotap_queue_fill(f->rx, &buf, 1), 1);
    }
}

unsigned int
reclaim_all(struct fixture *f)
{
    bool seen[MAX_BUFS] = { false };
    struct turbotap_buf bufs[7];
    unsigned int total = 0;
    unsigned int n;

    while ((n = turbotap_queue_reclaim(f->rx, bufs, 7)) > 0) {
        for (unsigned int i = 0; i < n; i++) {
            size_t id = ((uint8_t *) bufs[i].data - f->mem) / BUF_SIZE;

            assert_true(id < f->n_mem);
            assert_false(seen[id]);
            assert_int_equal(bufs[i].size, BUF_SIZE);
            assert_ptr_equal(bufs[i].cookie, bufs[i].data);
            seen[id] = true;
        }
        total += n;
    }
    return total;
}

uint64_t
count_syscalls(const struct turbotap_queue *queue)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    return stats.syscalls;
}

uint64_t
count_drops(const struct turbotap_queue *queue, enum turbotap_drop drop)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    return stats.drops[drop];
}

struct turbotap_queue *
open_queue(int fd, enum turbotap_direction direction, uint32_t hdr_len)
{
    struct turbotap_queue_config config = {
        .fd = fd,
        .direction = direction,
        .hdr_len = hdr_len,
    };
    struct turbotap_queue *queue;

    assert_int_equal(turbotap_queue_open(&turbotap_io_uring, &config, &queue),
                     0);
    return queue;
}

void
fixture_open(struct fixture *f)
{
    int one = 1;

    memset(f, 0, sizeof *f);
    f->mem = test_calloc(MAX_BUFS, BUF_SIZE);
    assert_int_equal(turbotap_dev_open(TAP, false, &f->dev), 0);
    assert_true(turbotap_dev_is_created(f->dev));
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 1), 0);
    host_set_up(TAP, true);
    f->host = host_open_socket(TAP, ETH_P_TEST);

    /* What the host sends is in the tap's queue when send() returns. */
    assert_int_equal(setsockopt(f->host, SOL_PACKET, PACKET_QDISC_BYPASS, &one,
                                sizeof one), 0);
    f->rx = open_queue(turbotap_dev_rxq_fd(f->dev, 0), TURBOTAP_RX, 0);
    f->tx = open_queue(turbotap_dev_txq_fd(f->dev, 0), TURBOTAP_TX, 0);
}

void
fixture_close(struct fixture *f)
{
    if (f->rx) {
        reclaim_all(f);
        turbotap_queue_close(f->rx);
    }
    turbotap_queue_close(f->tx);
    turbotap_dev_close(f->dev);
    close(f->host);
    test_free(f->mem);
}

void
forbid_syscall(int nr, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                 nr < 0 ? SYS_exit_group : nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, nr < 0 ? SECCOMP_RET_ALLOW
                                  : SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, nr < 0 ? SECCOMP_RET_KILL_PROCESS
                                  : SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { .len = 4, .filter = filter };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
        _exit(99);
    }
}
