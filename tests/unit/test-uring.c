/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of what only the io_uring class does: its probe, buffers running out,
 * queues that change threads while frames arrive, and closing while a read is
 * armed.  What all classes have in common is test-queue.c's.
 *
 * Every test has a network namespace of its own. */

#include <config.h>

#include "test-uring.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sending. */

/* Sends 'n' frames numbered from 'seq' on, whose buffers are overwritten as
 * soon as that returns, and returns how many went. */
static unsigned int
send_frames(struct fixture *f, uint64_t seq, unsigned int n,
            struct turbotap_buf *bufs)
{
    struct frame *frames = test_calloc(n, sizeof *frames);
    unsigned int n_sent;

    for (unsigned int i = 0; i < n; i++) {
        make_frame(&frames[i], seq + i);
        bufs[i] = (struct turbotap_buf) {
            .data = &frames[i], .size = FRAME_SIZE, .error = -1
        };
    }
    n_sent = turbotap_queue_send(f->tx, bufs, n);
    memset(frames, 0xee, n * sizeof *frames);
    test_free(frames);
    return n_sent;
}

static void
test_send_order(void **state)
{
    struct turbotap_buf bufs[100];
    struct fixture f;
    uint64_t seq = 0;

    (void) state;
    fixture_open(&f);
    for (unsigned int n = 1; n <= 100; n++) {
        assert_int_equal(send_frames(&f, seq, n, bufs), n);
        for (unsigned int i = 0; i < n; i++) {
            assert_int_equal(bufs[i].error, 0);
            assert_int_equal(host_recv(&f), seq + i);
        }
        seq += n;
    }
    assert_int_equal(count_syscalls(f.tx), 32 + 2 * 32 + 3 * 32 + 4 * 4);
    fixture_close(&f);
}

static void
test_send_errors(void **state)
{
    struct turbotap_buf bufs[70];
    struct frame frame;
    struct fixture f;

    (void) state;
    fixture_open(&f);

    /* A frame that is none, in the middle. */
    for (int i = 0; i < 5; i++) {
        static struct frame frames[5];

        make_frame(&frames[i], i);
        bufs[i] = (struct turbotap_buf) {
            .data = &frames[i], .size = FRAME_SIZE, .error = -1
        };
    }
    bufs[2].size = ETH_HLEN - 1;
    bufs[3].data = (void *) -4096L;
    assert_int_equal(turbotap_queue_send(f.tx, bufs, 5), 3);
    assert_int_equal(count_syscalls(f.tx), 1);
    assert_int_equal(bufs[2].error, EINVAL);
    assert_int_equal(bufs[3].error, EFAULT);
    assert_int_equal(count_drops(f.tx, TURBOTAP_DROP_INVALID), 1);
    assert_int_equal(count_drops(f.tx, TURBOTAP_DROP_OTHER), 1);
    assert_int_equal(host_recv(&f), 0);
    assert_int_equal(host_recv(&f), 1);
    assert_int_equal(host_recv(&f), 4);

    /* The link goes down and comes up again. */
    host_set_up(TAP, false);
    assert_int_equal(send_frames(&f, 0, 70, bufs), 0);
    for (int i = 0; i < 70; i++) {
        assert_int_equal(bufs[i].error, EIO);
    }
    assert_int_equal(count_drops(f.tx, TURBOTAP_DROP_LINK_DOWN), 70);
    host_set_up(TAP, true);
    while (recv(f.host, &frame, sizeof frame, 0) > 0 || errno == ENETDOWN) {
    }
    assert_int_equal(send_frames(&f, 7, 1, bufs), 1);
    assert_int_equal(host_recv(&f), 7);
    fixture_close(&f);
}

static void *
send_without_io_uring_enter(void *f)
{
    struct turbotap_buf bufs[40];

    forbid_syscall(SYS_io_uring_enter, ENOMEM);
    assert_int_equal(send_frames(f, 1000, 40, bufs), 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(bufs[i].error, ENOMEM);
    }
    return NULL;
}

/* The kernel refuses a batch: its frames must not turn up later, when their
 * buffers have long been used for something else. */
static void
test_send_refused(void **state)
{
    struct turbotap_buf bufs[5];
    struct fixture f;
    pthread_t thread;

    (void) state;
    fixture_open(&f);
    assert_int_equal(send_frames(&f, 0, 1, bufs), 1);
    pthread_create(&thread, NULL, send_without_io_uring_enter, &f);
    pthread_join(thread, NULL);
    assert_int_equal(count_drops(f.tx, TURBOTAP_DROP_NO_BUFFER), 40);
    assert_int_equal(send_frames(&f, 1, 5, bufs), 5);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(host_recv(&f), i);
    }
    fixture_close(&f);
}

static void *
send_from_thread(void *f_)
{
    struct turbotap_buf bufs[32];
    struct fixture *f = f_;

    assert_int_equal(send_frames(f, f->rx_seq, 32, bufs), 32);
    f->rx_seq += 32;
    return NULL;
}

static void
test_send_from_many_threads(void **state)
{
    struct fixture f;
    uint64_t seq = 0;

    (void) state;
    fixture_open(&f);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, send_from_thread, &f),
                         0);
        pthread_join(thread, NULL);
        send_from_thread(&f);
        for (int j = 0; j < 64; j++) {
            assert_int_equal(host_recv(&f), seq++);
        }
    }
    fixture_close(&f);
}

static int
setup(void **state)
{
    (void) state;
    host_enter_namespace();
    return 0;
}

/* Exits with 77, which stands for "skipped", if the class cannot serve. */
static void
skip_if_not_served(void)
{
    char reason[TURBOTAP_REASON_LEN];
    struct turbotap_dev *dev;
    int error;

    error = turbotap_dev_open(TAP, false, &dev);
    if (error) {
        printf("1..0 # SKIP no tap device: %s\n", strerror(error));
        exit(77);
    }
    if (!turbotap_io_uring.probe(turbotap_dev_rxq_fd(dev, 0), reason,
                                 sizeof reason)) {
        printf("1..0 # SKIP %s\n", reason);
        exit(77);
    }
    turbotap_dev_close(dev);
}

#define TEST(NAME) cmocka_unit_test_setup(NAME, setup)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        /* These need a process that has not probed before. */
        TEST(test_probe_says_why),
        TEST(test_probe_finds_it_broken),
        TEST(test_probe_tries_again),

        TEST(test_probe_leaves_no_trace),
        TEST(test_probe_refuses),
        TEST(test_empty_poll_makes_no_syscall),
        TEST(test_one_syscall_reads_many),
        TEST(test_max_bufs),
        TEST(test_poll_fd),
        TEST(test_buffers_run_out),
        TEST(test_buffers_come_back),
        TEST(test_completions_do_not_overflow),
        TEST(test_bad_frames_give_their_buffers_back),
        TEST(test_completion_without_buffer),
        TEST(test_read_ends),
        TEST(test_receive_refused),
        TEST(test_device_is_deleted),
        TEST(test_thread_moves_from_one_that_exits),
        TEST(test_thread_moves_from_one_that_is_exiting),
        TEST(test_thread_moves_from_one_that_sleeps),
        TEST(test_thread_moves_from_one_that_spins),
        TEST(test_new_thread_reads_by_itself),
        TEST(test_close_frees_device),
        TEST(test_close_without_buffers),
        TEST(test_close_after_owner_exited),
        TEST(test_close_while_owner_exits),
        TEST(test_close_while_owner_sleeps),
        TEST(test_close_while_owner_spins),
        TEST(test_send_order),
        TEST(test_send_errors),
        TEST(test_send_refused),
        TEST(test_send_from_many_threads),
    };
    int status;
    pid_t pid;

    host_enter_namespace();
    pid = fork();
    if (!pid) {
        skip_if_not_served();
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return 1;
    }
    return (WEXITSTATUS(status)
            ? WEXITSTATUS(status)
            : cmocka_run_group_tests(tests, NULL, NULL));
}
