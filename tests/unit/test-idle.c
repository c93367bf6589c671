/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-idle.h through turbotap-queue.h: what queues that have
 * nothing to receive cost, and that what they then get is received.  The
 * queues are of class rw, most over socket pairs. */

#include <config.h>

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAP "ttq0"
#define MAX_QUEUES 100
#define BUF_SIZE 256
#define FRAME_SIZE 60
#define SETTLED 10              /* Rounds after which all have joined. */

struct port {
    struct turbotap_queue *queue;
    int fd, peer;
    uint8_t data[BUF_SIZE];
};

struct fixture {
    unsigned int n_fds;         /* Before the test. */
    unsigned int n;
    struct port ports[MAX_QUEUES];
};

static struct turbotap_queue *
open_rxq(int fd)
{
    const struct turbotap_queue_config config = {
        .fd = fd,
        .direction = TURBOTAP_RX,
    };
    struct turbotap_queue *queue;

    assert_int_equal(turbotap_queue_open(&turbotap_io_rw, &config, &queue), 0);
    return queue;
}

static void
give_buffer(struct port *port)
{
    const struct turbotap_buf buf = {
        .data = port->data,
        .size = BUF_SIZE,
    };

    assert_int_equal(turbotap_queue_fill(port->queue, &buf, 1), 1);
}

static void
add_ports(struct fixture *f, unsigned int n)
{
    for (; n; n--) {
        struct port *port = &f->ports[f->n++];
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK
                                    | SOCK_CLOEXEC, 0, fds), 0);
        port->fd = fds[0];
        port->peer = fds[1];
        port->queue = open_rxq(port->fd);
        give_buffer(port);
    }
}

static void
close_queue(struct port *port)
{
    struct turbotap_buf buf;

    while (turbotap_queue_reclaim(port->queue, &buf, 1)) {
        continue;
    }
    turbotap_queue_close(port->queue);
    port->queue = NULL;
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->n_fds = host_count_fds();
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    int n_leaked;

    for (unsigned int i = 0; i < f->n; i++) {
        if (f->ports[i].queue) {
            close_queue(&f->ports[i]);
        }
        close(f->ports[i].fd);
        close(f->ports[i].peer);
    }
    n_leaked = host_count_fds() - f->n_fds;
    free(f);
    assert_int_equal(n_leaked, 0);
    return 0;
}

static void
send_to(struct port *port, uint8_t seq)
{
    uint8_t frame[FRAME_SIZE] = { [FRAME_SIZE - 1] = seq };

    assert_int_equal(send(port->peer, frame, sizeof frame, 0), sizeof frame);
}

/* Polls 'port'.  Returns the number of the frame that it received, -1 if
 * none. */
static int
poll_port(struct port *port)
{
    struct turbotap_buf buf;
    unsigned int n_rx;
    int error = turbotap_queue_recv(port->queue, &buf, 1, &n_rx);

    if (error) {
        assert_int_equal(error, EAGAIN);
        return -1;
    }
    assert_int_equal(n_rx, 1);
    assert_int_equal(buf.size, FRAME_SIZE);
    give_buffer(port);
    return port->data[FRAME_SIZE - 1];
}

/* As poll_port(), once more if it received none: a frame that came after the
 * last round is received in this round or the next. */
static int
poll_port_twice(struct port *port)
{
    int seq = poll_port(port);

    return seq >= 0 ? seq : poll_port(port);
}

/* Polls all ports 'n' times, in order.  They must have nothing. */
static void
poll_idle(struct fixture *f, int n)
{
    for (; n; n--) {
        for (unsigned int i = 0; i < f->n; i++) {
            if (f->ports[i].queue) {
                assert_int_equal(poll_port(&f->ports[i]), -1);
            }
        }
    }
}

static uint64_t
count_syscalls(const struct fixture *f)
{
    uint64_t n = 0;

    for (unsigned int i = 0; i < f->n; i++) {
        struct turbotap_queue_stats stats;

        if (f->ports[i].queue) {
            turbotap_queue_get_stats(f->ports[i].queue, &stats);
            n += stats.syscalls;
        }
    }
    return n;
}

/* Asserts that a round over the ports, without frames, is 'n' system calls. */
static void
check_round(struct fixture *f, unsigned int n)
{
    uint64_t before = count_syscalls(f);

    poll_idle(f, 100);
    assert_int_equal(count_syscalls(f) - before, 100 * n);
}

/* A round is one system call, however many queues there are. */
static void
test_one_syscall(void **state)
{
    struct fixture *f = *state;

    add_ports(f, 1);
    check_round(f, 1);
    add_ports(f, 1);
    poll_idle(f, SETTLED);
    check_round(f, 1);
    add_ports(f, 98);
    poll_idle(f, SETTLED);
    check_round(f, 1);
}

/* A frame is received when its queue is next polled, or in the round after
 * that, and the queue idles again some time later. */
static void
test_frame_ends_idling(void **state)
{
    struct fixture *f = *state;

    add_ports(f, 10);
    for (unsigned int i = 0; i < f->n; i++) {
        int seq = -1;

        poll_idle(f, SETTLED);
        check_round(f, 1);
        send_to(&f->ports[i], i);
        for (int round = 0; round < 2 && seq < 0; round++) {
            for (unsigned int j = 0; j < f->n; j++) {
                int got = poll_port(&f->ports[j]);

                if (j == i && seq < 0) {
                    seq = got;
                } else {
                    assert_int_equal(got, -1);
                }
            }
        }
        assert_int_equal(seq, i);
    }
}

/* More queues get frames at once than one epoll_wait() returns. */
static void
test_frames_for_all(void **state)
{
    struct fixture *f = *state;
    bool seen[MAX_QUEUES] = { false };
    unsigned int n_seen = 0;

    add_ports(f, MAX_QUEUES);
    poll_idle(f, SETTLED);
    for (unsigned int i = 0; i < f->n; i++) {
        send_to(&f->ports[i], i);
    }
    for (int round = 0; round < 3; round++) {
        for (unsigned int i = 0; i < f->n; i++) {
            int seq = poll_port(&f->ports[i]);

            if (seq >= 0) {
                assert_int_equal(seq, i);
                assert_false(seen[i]);
                seen[i] = true;
                n_seen++;
            }
        }
    }
    assert_int_equal(n_seen, MAX_QUEUES);
}

/* Whichever queues are polled no more, the others find their frames. */
static void
test_some_not_polled(void **state)
{
    struct fixture *f = *state;

    add_ports(f, 5);
    poll_idle(f, SETTLED);
    for (unsigned int i = 0; i < f->n; i++) {
        send_to(&f->ports[i], i);
        assert_int_equal(poll_port_twice(&f->ports[i]), i);
        poll_idle(f, SETTLED);
    }
}

static void
test_wake(void **state)
{
    struct fixture *f = *state;

    add_ports(f, 5);
    poll_idle(f, SETTLED);
    assert_int_equal(poll_port(&f->ports[0]), -1);
    for (unsigned int i = 1; i < f->n; i++) {
        send_to(&f->ports[i], i);
        turbotap_queue_wake(f->ports[i].queue);
        assert_int_equal(poll_port(&f->ports[i]), i);
    }
}

static void
test_close(void **state)
{
    struct fixture *f = *state;

    add_ports(f, 6);
    poll_idle(f, SETTLED);

    /* One that has a frame, one that the set knows to have one, and some
     * others. */
    send_to(&f->ports[1], 1);
    close_queue(&f->ports[1]);
    send_to(&f->ports[5], 5);
    assert_int_equal(poll_port(&f->ports[0]), -1);
    close_queue(&f->ports[5]);
    close_queue(&f->ports[0]);
    poll_idle(f, SETTLED);
    check_round(f, 1);
    send_to(&f->ports[3], 3);
    assert_int_equal(poll_port(&f->ports[2]), -1);
    assert_int_equal(poll_port(&f->ports[3]), 3);
}

/* Another thread takes the queues over, all or some, and may end. */

struct taker {
    struct fixture *f;
    unsigned int first;         /* Of the ports that it takes. */
    unsigned int n_wrong;       /* Polls that did not give what they should
                                 * have.  (Only the main thread may assert.) */
};

static void *
take_over(void *taker_)
{
    struct taker *taker = taker_;
    struct fixture *f = taker->f;

    /* What came before this thread did is found at once, and so is what comes
     * later. */
    for (int round = 0; round < 2 * SETTLED; round++) {
        for (unsigned int i = taker->first; i < f->n; i++) {
            int seq = poll_port(&f->ports[i]);

            taker->n_wrong += seq != (round ? -1 : (int) i);
        }
    }
    for (unsigned int i = taker->first; i < f->n; i++) {
        send_to(&f->ports[i], i + 100);
        taker->n_wrong += poll_port_twice(&f->ports[i]) != (int) i + 100;
    }
    for (int round = 0; round < SETTLED; round++) {
        for (unsigned int i = taker->first; i < f->n; i++) {
            taker->n_wrong += poll_port(&f->ports[i]) != -1;
        }
    }
    return NULL;
}

static void
test_move_between_threads(void **state)
{
    struct fixture *f = *state;

    add_ports(f, 8);
    for (unsigned int first = 0; first < f->n; first++) {
        struct taker taker = { f, first, 0 };
        pthread_t thread;

        poll_idle(f, SETTLED);
        for (unsigned int i = first; i < f->n; i++) {
            send_to(&f->ports[i], i);
        }
        assert_int_equal(pthread_create(&thread, NULL, take_over, &taker), 0);
        for (int round = 0; round < 100; round++) {
            for (unsigned int i = 0; i < first; i++) {
                assert_int_equal(poll_port(&f->ports[i]), -1);
            }
        }
        pthread_join(thread, NULL);
        assert_int_equal(taker.n_wrong, 0);

        /* They come back from a thread that is no more. */
        for (unsigned int i = first; i < f->n; i++) {
            send_to(&f->ports[i], i);
            assert_int_equal(poll_port(&f->ports[i]), i);
        }
    }
    poll_idle(f, SETTLED);
    check_round(f, 1);
}

/* Without an epoll set all goes on, at the cost of a system call each. */
static void
test_no_descriptor(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, low;

    add_ports(f, 5);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    poll_idle(f, SETTLED);
    for (unsigned int i = 0; i < f->n; i++) {
        send_to(&f->ports[i], i);
        assert_int_equal(poll_port(&f->ports[i]), i);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    poll_idle(f, SETTLED);
    check_round(f, 1);
}

/* A tap device is deleted while its queue idles. */
static void
test_deleted(void **state)
{
    struct fixture *f = *state;
    struct turbotap_dev *dev;
    struct turbotap_buf buf;
    struct port tap;
    unsigned int n_rx;
    int error;

    assert_int_equal(turbotap_dev_open(TAP, false, &dev), 0);
    host_set_up(TAP, true);
    tap.queue = open_rxq(turbotap_dev_rxq_fd(dev, 0));
    give_buffer(&tap);
    add_ports(f, 3);
    for (int i = 0; i < SETTLED; i++) {
        assert_int_equal(poll_port(&tap), -1);
        poll_idle(f, 1);
    }

    host_delete(TAP);
    error = turbotap_queue_recv(tap.queue, &buf, 1, &n_rx);
    if (error == EAGAIN) {
        poll_idle(f, 1);
        error = turbotap_queue_recv(tap.queue, &buf, 1, &n_rx);
    }
    assert_int_equal(error, ENODEV);

    /* It is a burden no more. */
    poll_idle(f, SETTLED);
    check_round(f, 1);
    close_queue(&tap);
    turbotap_dev_close(dev);
}

int
main(void)
{
#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_one_syscall),
        TEST(test_frame_ends_idling),
        TEST(test_frames_for_all),
        TEST(test_some_not_polled),
        TEST(test_wake),
        TEST(test_close),
        TEST(test_move_between_threads),
        TEST(test_no_descriptor),
        TEST(test_deleted),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("idle", tests, NULL, NULL) != 0;
}
