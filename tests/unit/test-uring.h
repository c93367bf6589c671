/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What the files test-uring*.c share: a queue of the io_uring class in each
 * direction of a tap, and the host's end of it. */

#ifndef TEST_URING_H
#define TEST_URING_H 1

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#include <linux/if_ether.h>

#define TAP "ttu0"
#define ETH_P_TEST 0x88b5       /* IEEE 802 local experimental. */
#define FRAME_SIZE 64
#define BUF_SIZE 256
#define MAX_BUFS 1024

/* A frame as the tests send it. */
struct frame {
    struct ethhdr eth;
    uint64_t seq;
    uint8_t fill[FRAME_SIZE - sizeof(struct ethhdr) - sizeof(uint64_t)];
} __attribute__((packed));

/* A tap device with one queue in each direction, and a packet socket that is
 * the host's end of it. */
struct fixture {
    struct turbotap_dev *dev;
    struct turbotap_queue *rx;
    struct turbotap_queue *tx;
    int host;

    uint8_t *mem;               /* MAX_BUFS buffers of BUF_SIZE. */
    unsigned int n_mem;         /* Those that fill() was given so far. */
    uint64_t tx_seq;            /* Of the next frame that the host sends. */
    uint64_t rx_seq;            /* Of the next frame to be received. */
};

/* The host. */

void make_frame(struct frame *, uint64_t seq);

/* Sends a frame of 'size' octets from the host into the tap, or 'n' frames of
 * FRAME_SIZE. */
void host_send_size(struct fixture *, size_t size);
void host_send(struct fixture *, unsigned int n);

/* Receives a frame at the host and returns its number. */
uint64_t host_recv(struct fixture *);

/* Our side. */

/* Receives up to 'n' frames, checks them and refills.  Stores their number in
 * '*n_rx' and returns what turbotap_queue_recv() did. */
int recv_some(struct fixture *, unsigned int n, unsigned int *n_rx);

/* Receives, checks and refills until 'n' frames came. */
void recv_all(struct fixture *, unsigned int n);

/* Receives nothing, and is sure that it is not just late: the kernel queues a
 * frame before the host's send returns. */
void recv_none(struct fixture *);

/* Gives the queue 'n' buffers that were never used. */
void fill_fresh(struct fixture *, unsigned int n);

/* Takes all buffers back and returns their number; each must be one of ours,
 * and none may come twice. */
unsigned int reclaim_all(struct fixture *);

uint64_t count_syscalls(const struct turbotap_queue *);
uint64_t count_drops(const struct turbotap_queue *, enum turbotap_drop);

struct turbotap_queue *open_queue(int fd, enum turbotap_direction,
                                  uint32_t hdr_len);
void fixture_open(struct fixture *);
void fixture_close(struct fixture *);

/* From now on, this thread's system call 'nr' fails with 'error'; or, if 'nr'
 * is negative, all but exit_group() kill the process. */
void forbid_syscall(int nr, int error);

/* The tests. */

/* test-uring-probe.c. */
void test_probe_says_why(void **state);
void test_probe_finds_it_broken(void **state);
void test_probe_tries_again(void **state);
void test_probe_leaves_no_trace(void **state);
void test_probe_refuses(void **state);

/* test-uring-rx.c. */
void test_empty_poll_makes_no_syscall(void **state);
void test_one_syscall_reads_many(void **state);
void test_max_bufs(void **state);
void test_poll_fd(void **state);
void test_buffers_run_out(void **state);
void test_buffers_come_back(void **state);
void test_completions_do_not_overflow(void **state);
void test_bad_frames_give_their_buffers_back(void **state);
void test_completion_without_buffer(void **state);
void test_read_ends(void **state);
void test_receive_refused(void **state);
void test_device_is_deleted(void **state);

/* test-uring-threads.c. */
void test_thread_moves_from_one_that_exits(void **state);
void test_thread_moves_from_one_that_is_exiting(void **state);
void test_thread_moves_from_one_that_sleeps(void **state);
void test_thread_moves_from_one_that_spins(void **state);
void test_new_thread_reads_by_itself(void **state);
void test_close_frees_device(void **state);
void test_close_without_buffers(void **state);
void test_close_after_owner_exited(void **state);
void test_close_while_owner_exits(void **state);
void test_close_while_owner_sleeps(void **state);
void test_close_while_owner_spins(void **state);

#endif /* test-uring.h */
