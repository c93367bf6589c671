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

#include <config.h>

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAP "ttu0"
#define ETH_P_TEST 0x88b5       /* IEEE 802 local experimental. */
#define FRAME_SIZE 64
#define BUF_SIZE 256
#define MAX_BUFS 1024

#ifndef PACKET_QDISC_BYPASS
#define PACKET_QDISC_BYPASS 20
#endif

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

static void
make_frame(struct frame *frame, uint64_t seq)
{
    memset(frame, 0xff, ETH_ALEN);
    memcpy(frame->eth.h_source, "\x02\x00\x00\x00\x00\x01", ETH_ALEN);
    frame->eth.h_proto = htons(ETH_P_TEST);
    frame->seq = seq;
    memset(frame->fill, seq, sizeof frame->fill);
}

/* Sends a frame of 'size' octets from the host into the tap. */
static void
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

static void
host_send(struct fixture *f, unsigned int n)
{
    while (n--) {
        host_send_size(f, FRAME_SIZE);
    }
}

/* Receives a frame at the host and returns its number. */
static uint64_t
host_recv(struct fixture *f)
{
    struct frame frame;

    if (recv(f->host, &frame, sizeof frame, 0) != sizeof frame) {
        fail_msg("host got no frame: %s", strerror(errno));
    }
    return frame.seq;
}

/* Our side. */

static int
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

/* Receives, checks and refills until 'n' frames came. */
static void
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

/* Receives nothing, and is sure that it is not just late: the kernel queues a
 * frame before the host's send returns. */
static void
recv_none(struct fixture *f)
{
    unsigned int n_rx;

    assert_int_equal(recv_some(f, 32, &n_rx), EAGAIN);
}

static void
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

/* Takes all buffers back and returns their number; each must be one of ours,
 * and none may come twice. */
static unsigned int
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

static uint64_t
count_syscalls(const struct turbotap_queue *queue)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    return stats.syscalls;
}

static uint64_t
count_drops(const struct turbotap_queue *queue, enum turbotap_drop drop)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(queue, &stats);
    return stats.drops[drop];
}

static struct turbotap_queue *
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

static void
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

static void
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

/* Child processes with a seccomp filter. */

/* From now on, this thread's system call 'nr' fails with 'error'; or, if 'nr'
 * is negative, all but exit_group() kill the process. */
static void
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

/* Asserts that in a process whose system call 'nr' fails with 'error', and
 * where io_uring_disabled reads as 'sysctl' unless that is null, the probe of
 * 'fd' fails with exactly 'reason', or succeeds if 'reason' is null. */
static void
check_probe(int fd, int nr, int error, const char *sysctl, const char *reason)
{
    char why[TURBOTAP_REASON_LEN] = "";
    int pipe_fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        bool served;

        if (sysctl) {
            char path[] = "/tmp/test-uring.XXXXXX";
            int sysctl_fd = mkstemp(path);

            if (unshare(CLONE_NEWNS)
                || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)
                || write(sysctl_fd, sysctl, strlen(sysctl)) < 0
                || mount(path, "/proc/sys/kernel/io_uring_disabled", NULL,
                         MS_BIND, NULL)
                || unlink(path)) {
                _exit(99);
            }
        }
        forbid_syscall(nr, error);
        served = turbotap_io_uring.probe(fd, why, sizeof why);
        if (write(pipe_fds[1], why, sizeof why) < 0) {
            _exit(99);
        }
        _exit(served ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(read(pipe_fds[0], why, sizeof why), sizeof why);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), reason ? 1 : 0);
    if (reason) {
        assert_string_equal(why, reason);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* The tests: probing. */

static void
test_probe_leaves_no_trace(void **state)
{
    char reason[TURBOTAP_REASON_LEN];
    struct frame frame;
    struct fixture f;
    int fd;

    (void) state;
    fixture_open(&f);
    turbotap_queue_close(f.rx);
    f.rx = NULL;

    fd = turbotap_dev_rxq_fd(f.dev, 0);
    host_send(&f, 2);
    for (int i = 0; i < 50; i++) {
        assert_true(turbotap_io_uring.probe(fd, reason, sizeof reason));
    }

    /* No frame was taken, nor one sent. */
    for (uint64_t seq = 0; seq < 2; seq++) {
        assert_int_equal(read(fd, &frame, sizeof frame), sizeof frame);
        assert_int_equal(frame.seq, seq);
    }
    assert_int_equal(read(fd, &frame, sizeof frame), -1);
    assert_int_equal(recv(f.host, &frame, sizeof frame, 0), -1);
    assert_int_equal(errno, EAGAIN);
    fixture_close(&f);
}

static void
test_probe_refuses(void **state)
{
    char reason[TURBOTAP_REASON_LEN];
    struct fixture f;
    int socks[2];
    char c;

    (void) state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0,
                                socks), 0);
    assert_false(turbotap_io_uring.probe(socks[0], reason, sizeof reason));
    assert_string_equal(reason, "not a tap queue");
    assert_int_equal(recv(socks[1], &c, 1, 0), -1);
    close(socks[0]);
    close(socks[1]);

    fixture_open(&f);
    host_delete(TAP);
    assert_false(turbotap_io_uring.probe(turbotap_dev_rxq_fd(f.dev, 0),
                                         reason, sizeof reason));
    assert_string_equal(reason, "not a tap queue");
    fixture_close(&f);
}

static void
test_probe_says_why(void **state)
{
    static const char too_old[] =
        "this kernel's io_uring is too old (6.7 or later is needed)";
    struct fixture f;
    int fd;

    (void) state;
    fixture_open(&f);
    fd = turbotap_dev_rxq_fd(f.dev, 0);

    check_probe(fd, SYS_kexec_load, EPERM, NULL, NULL);
    check_probe(fd, SYS_io_uring_setup, ENOSYS, NULL,
                "this kernel has no io_uring");
    check_probe(fd, SYS_io_uring_setup, EINVAL, NULL, too_old);
    check_probe(fd, SYS_io_uring_setup, ENOMEM, NULL,
                "no memory for a ring (see RLIMIT_MEMLOCK)");
    check_probe(fd, SYS_io_uring_setup, EMFILE, NULL,
                "no ring: Too many open files");
    check_probe(fd, SYS_io_uring_setup, EPERM, "0\n",
                "this process may not use io_uring (a seccomp filter?)");
    check_probe(fd, SYS_io_uring_setup, EPERM, "2\n",
                "disabled by sysctl kernel.io_uring_disabled=2");
    check_probe(fd, SYS_io_uring_register, EINVAL, NULL,
                "this kernel's io_uring has no multishot read "
                "(6.7 or later is needed)");
    check_probe(fd, SYS_pwritev2, EOPNOTSUPP, NULL,
                "this kernel's tun driver cannot do non-blocking I/O "
                "(6.4 or later is needed)");
    fixture_close(&f);
}

/* The tests: receiving. */

static void
test_empty_poll_makes_no_syscall(void **state)
{
    struct fixture f;
    int status;
    pid_t pid;

    (void) state;

    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        struct turbotap_buf buf;
        unsigned int n_rx;

        fixture_open(&f);
        fill_fresh(&f, 32);
        forbid_syscall(-1, 0);
        for (int i = 0; i < 1000; i++) {
            if (turbotap_queue_recv(f.rx, &buf, 1, &n_rx) != EAGAIN) {
                syscall(SYS_exit_group, 1);
            }
        }
        syscall(SYS_exit_group, 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
test_one_syscall_reads_many(void **state)
{
    struct fixture f;
    uint64_t before;

    (void) state;
    fixture_open(&f);
    fill_fresh(&f, 512);
    assert_int_equal(turbotap_queue_room(f.rx), 0);
    before = count_syscalls(f.rx);
    host_send(&f, 256);
    recv_all(&f, 256);
    assert_in_range(count_syscalls(f.rx) - before, 0, 2);
    recv_none(&f);
    fixture_close(&f);
}

static void
test_poll_fd(void **state)
{
    struct pollfd pfd = { .events = POLLIN };
    struct fixture f;

    (void) state;
    fixture_open(&f);
    fill_fresh(&f, 32);
    pfd.fd = turbotap_queue_poll_fd(f.rx);
    for (int i = 0; i < 100; i++) {
        recv_none(&f);
        assert_int_equal(poll(&pfd, 1, 0), 0);
        host_send(&f, 1);
        assert_int_equal(poll(&pfd, 1, 5000), 1);
        recv_all(&f, 1);
    }
    fixture_close(&f);
}

static void
test_buffers_run_out(void **state)
{
    struct fixture f;
    uint64_t before;
    unsigned int n_rx;

    (void) state;
    fixture_open(&f);

    /* With no buffer at all. */
    host_send(&f, 1);
    recv_none(&f);

    for (int round = 0; round < 50; round++) {
        struct turbotap_buf bufs[8];

        if (!round) {
            fill_fresh(&f, 4);
        }
        host_send(&f, 9);

        /* Takes the four for which there are buffers, without refilling. */
        for (unsigned int n = 0; n < 4; n += n_rx) {
            turbotap_queue_recv(f.rx, bufs + n, 4 - n, &n_rx);
        }
        for (int i = 0; i < 4; i++) {
            const struct frame *frame = bufs[i].data;

            assert_int_equal(frame->seq, f.rx_seq++);
            bufs[i].size = BUF_SIZE;
        }

        /* Once the class knows that it has none, that costs nothing. */
        turbotap_queue_recv(f.rx, bufs + 4, 4, &n_rx);
        assert_int_equal(n_rx, 0);
        before = count_syscalls(f.rx);
        for (int i = 0; i < 100; i++) {
            recv_none(&f);
        }
        assert_int_equal(count_syscalls(f.rx), before);

        /* The others are still there. */
        assert_int_equal(turbotap_queue_fill(f.rx, bufs, 4), 4);
        recv_all(&f, round ? 5 : 6);
    }
    recv_none(&f);
    assert_int_equal(reclaim_all(&f), 4);
    fixture_close(&f);
}

/* More frames than buffers, more than the completion ring has room for, while
 * nobody looks: nothing but the tap's own queue may overflow. */
static void
test_completions_do_not_overflow(void **state)
{
    struct fixture f;
    unsigned int n_rx;

    (void) state;
    fixture_open(&f);
    fill_fresh(&f, 512);
    for (int round = 0; round < 8; round++) {
        host_send(&f, 900);
        assert_int_equal(recv_some(&f, 1, &n_rx), 0);
        recv_all(&f, 899);
    }
    recv_none(&f);
    assert_int_equal(reclaim_all(&f), 512);
    fixture_close(&f);
}

static void
test_bad_frames_give_their_buffers_back(void **state)
{
    struct turbotap_buf bufs[32];
    struct fixture f;
    unsigned int n_rx;

    (void) state;
    fixture_open(&f);
    fill_fresh(&f, 16);

    /* One that just fits counts as cut: tun would not say. */
    for (int i = 0; i < 100; i++) {
        host_send_size(&f, i % 2 ? BUF_SIZE : BUF_SIZE + 1);
    }
    f.rx_seq = f.tx_seq;
    host_send(&f, 1);
    recv_all(&f, 1);
    assert_int_equal(count_drops(f.rx, TURBOTAP_DROP_TRUNCATED), 100);
    host_send_size(&f, BUF_SIZE - 1);
    do {
        turbotap_queue_recv(f.rx, bufs, 32, &n_rx);
    } while (!n_rx);
    assert_int_equal(bufs[0].size, BUF_SIZE - 1);
    assert_int_equal(reclaim_all(&f), 15);
    turbotap_queue_close(f.rx);

    /* Too short for the header that they should have. */
    f.rx = open_queue(turbotap_dev_rxq_fd(f.dev, 0), TURBOTAP_RX,
                      FRAME_SIZE - ETH_HLEN + 1);
    f.n_mem = 0;
    fill_fresh(&f, 16);
    host_send(&f, 100);
    do {
        turbotap_queue_recv(f.rx, bufs, 32, &n_rx);
        assert_int_equal(n_rx, 0);
    } while (count_drops(f.rx, TURBOTAP_DROP_SHORT) < 100);
    assert_int_equal(reclaim_all(&f), 16);
    fixture_close(&f);
}

static void
test_device_is_deleted(void **state)
{
    struct turbotap_buf bufs[4];
    struct frame frame;
    struct fixture f;
    unsigned int n_rx;
    uint64_t before;
    int error;

    (void) state;
    fixture_open(&f);
    fill_fresh(&f, 64);
    host_send(&f, 3);
    recv_all(&f, 3);
    host_delete(TAP);

    do {
        error = turbotap_queue_recv(f.rx, bufs, 4, &n_rx);
        assert_int_equal(n_rx, 0);
    } while (error == EAGAIN);
    assert_int_equal(error, ENODEV);
    before = count_syscalls(f.rx);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(turbotap_queue_recv(f.rx, bufs, 4, &n_rx), ENODEV);
    }
    assert_int_equal(count_syscalls(f.rx), before);

    make_frame(&frame, 0);
    for (int i = 0; i < 4; i++) {
        bufs[i] = (struct turbotap_buf) { &frame, sizeof frame, 0, NULL };
    }
    assert_int_equal(turbotap_queue_send(f.tx, bufs, 4), 0);
    assert_int_equal(count_drops(f.tx, TURBOTAP_DROP_GONE), 4);
    assert_int_equal(reclaim_all(&f), 64);
    fixture_close(&f);
}

/* The tests: threads. */

/* What a thread does that is no longer the queue's owner. */
enum rest {
    REST_EXITS,                 /* Is gone when the next one starts. */
    REST_EXITING,               /* Is going while the next one starts. */
    REST_SLEEPS,                /* Sleeps in the kernel. */
    REST_SPINS,                 /* Runs in user space, without system calls. */
    N_RESTS
};

struct relay {
    struct fixture *f;
    enum rest rest;
    unsigned int n_legs;        /* How often the queue changes threads. */
    unsigned int leg_len;       /* Frames that a thread receives. */
    atomic_uint leg;            /* The thread 'leg' modulo 2 has the queue. */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    atomic_ullong n_received;   /* Read by the host to limit what it sends. */
};

struct runner {
    struct relay *relay;
    unsigned int id;
};

/* Waits until it is the turn of leg 'leg'. */
static void
relay_wait(struct relay *r, unsigned int leg)
{
    if (r->rest == REST_SLEEPS) {
        pthread_mutex_lock(&r->mutex);
        while (atomic_load(&r->leg) != leg) {
            pthread_cond_wait(&r->cond, &r->mutex);
        }
        pthread_mutex_unlock(&r->mutex);
    } else {
        while (atomic_load(&r->leg) != leg) {
            if (r->rest != REST_SPINS) {
                sched_yield();
            }
        }
    }
}

static void
relay_leg(struct relay *r, unsigned int leg)
{
    relay_wait(r, leg);
    recv_all(r->f, r->leg_len);
    atomic_store(&r->n_received, r->f->rx_seq);

    pthread_mutex_lock(&r->mutex);
    atomic_store(&r->leg, leg + 1);
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->mutex);
}

static void *
runner_main(void *runner_)
{
    struct runner *runner = runner_;
    struct relay *r = runner->relay;

    if (r->rest == REST_EXITS || r->rest == REST_EXITING) {
        relay_leg(r, runner->id);
        return NULL;
    }
    for (unsigned int leg = runner->id; leg < r->n_legs; leg += 2) {
        relay_leg(r, leg);
    }
    return NULL;
}

/* The host: sends without a pause, but never more than the tap's queue and the
 * buffers hold. */
static void *
sender_main(void *relay_)
{
    struct relay *r = relay_;
    struct fixture *f = r->f;

    while (f->tx_seq < (uint64_t) r->n_legs * r->leg_len) {
        if (f->tx_seq - atomic_load(&r->n_received) < 400 + r->leg_len) {
            host_send(f, 1);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void
run_relay(enum rest rest, unsigned int n_legs)
{
    struct fixture f;
    struct relay r = {
        .f = &f,
        .rest = rest,
        .n_legs = n_legs,
        .leg_len = 137,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };
    struct runner *runners = test_calloc(n_legs, sizeof *runners);
    pthread_t *threads = test_calloc(n_legs, sizeof *threads);
    unsigned int n_threads;
    pthread_t sender;

    fixture_open(&f);
    fill_fresh(&f, 512);
    assert_int_equal(pthread_create(&sender, NULL, sender_main, &r), 0);

    n_threads = rest == REST_EXITS || rest == REST_EXITING ? n_legs : 2;
    for (unsigned int i = 0; i < n_threads; i++) {
        runners[i] = (struct runner) { &r, i };
        assert_int_equal(pthread_create(&threads[i], NULL, runner_main,
                                        &runners[i]), 0);
        if (rest == REST_EXITS) {
            pthread_join(threads[i], NULL);
        } else if (rest == REST_EXITING && i) {
            pthread_join(threads[i - 1], NULL);
        }
    }
    if (rest == REST_EXITING) {
        pthread_join(threads[n_threads - 1], NULL);
    } else if (rest != REST_EXITS) {
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
    }
    pthread_join(sender, NULL);

    assert_int_equal(f.rx_seq, (uint64_t) n_legs * r.leg_len);
    recv_none(&f);
    assert_int_equal(reclaim_all(&f), 512);
    test_free(runners);
    test_free(threads);
    fixture_close(&f);
}

static void
test_thread_moves_from_one_that_exits(void **state)
{
    (void) state;
    run_relay(REST_EXITS, 200);
}

static void
test_thread_moves_from_one_that_is_exiting(void **state)
{
    (void) state;
    run_relay(REST_EXITING, 200);
}

static void
test_thread_moves_from_one_that_sleeps(void **state)
{
    (void) state;
    run_relay(REST_SLEEPS, 300);
}

static void
test_thread_moves_from_one_that_spins(void **state)
{
    (void) state;
    run_relay(REST_SPINS, 200);
}

/* The tests: a thread that stays behind. */

struct owner {
    struct fixture *f;
    enum rest rest;
    atomic_bool armed;
    atomic_bool quit;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

/* A thread that fills, receives, and so owns the read. */
static void *
owner_main(void *owner_)
{
    struct owner *o = owner_;

    fill_fresh(o->f, 64);
    host_send(o->f, 3);
    recv_all(o->f, 3);
    atomic_store(&o->armed, true);
    if (o->rest == REST_SLEEPS) {
        pthread_mutex_lock(&o->mutex);
        while (!atomic_load(&o->quit)) {
            pthread_cond_wait(&o->cond, &o->mutex);
        }
        pthread_mutex_unlock(&o->mutex);
    } else if (o->rest == REST_SPINS) {
        while (!atomic_load(&o->quit)) {
        }
    }
    return NULL;
}

static void
end_owner(struct owner *o, pthread_t thread)
{
    pthread_mutex_lock(&o->mutex);
    atomic_store(&o->quit, true);
    pthread_cond_broadcast(&o->cond);
    pthread_mutex_unlock(&o->mutex);
    pthread_join(thread, NULL);
}

/* The new thread must not depend on the old one to get its frames. */
static void
test_new_thread_reads_by_itself(void **state)
{
    struct fixture f;
    struct owner o = {
        .f = &f,
        .rest = REST_SPINS,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };
    pthread_t thread;

    (void) state;
    fixture_open(&f);
    assert_int_equal(pthread_create(&thread, NULL, owner_main, &o), 0);
    while (!atomic_load(&o.armed)) {
        sched_yield();
    }
    recv_none(&f);
    for (int i = 0; i < 1000; i++) {
        unsigned int n_rx;

        host_send(&f, 1);
        assert_int_equal(recv_some(&f, 1, &n_rx), 0);
    }
    end_owner(&o, thread);
    fixture_close(&f);
}

/* Opens a device, closes it from another thread than the one that received,
 * and expects to be able to create it again at once: fixture_open() asserts
 * that it did not exist. */
static void
check_close(enum rest rest, unsigned int n_rounds)
{
    for (unsigned int i = 0; i < n_rounds; i++) {
        struct fixture f;
        struct owner o = {
            .f = &f,
            .rest = rest,
            .mutex = PTHREAD_MUTEX_INITIALIZER,
            .cond = PTHREAD_COND_INITIALIZER,
        };
        struct frame frame;
        pthread_t thread;
        unsigned int n;

        fixture_open(&f);
        assert_int_equal(pthread_create(&thread, NULL, owner_main, &o), 0);
        while (!atomic_load(&o.armed)) {
            sched_yield();
        }
        if (rest == REST_EXITS) {
            pthread_join(thread, NULL);
        }

        /* Frames are on the way; some may be read before, none after. */
        host_send(&f, i % 8);
        n = reclaim_all(&f);
        assert_int_equal(n, 64);
        memset(f.mem, 0xa5, MAX_BUFS * BUF_SIZE);
        while (read(turbotap_dev_rxq_fd(f.dev, 0), &frame, sizeof frame) > 0) {
        }
        f.rx_seq = f.tx_seq;
        host_send(&f, 40);
        for (int j = 0; j < 40; j++) {
            assert_int_equal(read(turbotap_dev_rxq_fd(f.dev, 0), &frame,
                                  sizeof frame), sizeof frame);
            assert_int_equal(frame.seq, f.rx_seq++);
        }
        for (size_t j = 0; j < (size_t) MAX_BUFS * BUF_SIZE; j++) {
            if (f.mem[j] != 0xa5) {
                fail_msg("a buffer was written to");
            }
        }

        fixture_close(&f);
        assert_int_equal(if_nametoindex(TAP), 0);

        if (rest != REST_EXITS) {
            end_owner(&o, thread);
        }
    }
}

static void
test_close_frees_device(void **state)
{
    (void) state;
    for (int i = 0; i < 100; i++) {
        struct fixture f;

        fixture_open(&f);
        fill_fresh(&f, i % 3 ? 512 : 1);
        host_send(&f, i % 5);
        if (i % 2) {
            recv_all(&f, i % 5);
        }
        fixture_close(&f);
        assert_int_equal(if_nametoindex(TAP), 0);
    }
}

/* A read can be armed although all of its buffers came back. */
static void
test_close_without_buffers(void **state)
{
    (void) state;
    for (int i = 0; i < 50; i++) {
        struct turbotap_buf buf;
        struct fixture f;
        unsigned int n_rx;

        fixture_open(&f);
        fill_fresh(&f, 1);
        host_send(&f, 1);
        do {
            turbotap_queue_recv(f.rx, &buf, 1, &n_rx);
        } while (!n_rx);
        turbotap_queue_close(f.rx);
        f.rx = NULL;
        fixture_close(&f);
        assert_int_equal(if_nametoindex(TAP), 0);
    }
}

static void
test_close_after_owner_exited(void **state)
{
    (void) state;
    check_close(REST_EXITS, 50);
}

static void
test_close_while_owner_exits(void **state)
{
    (void) state;
    check_close(REST_EXITING, 50);
}

static void
test_close_while_owner_sleeps(void **state)
{
    (void) state;
    check_close(REST_SLEEPS, 50);
}

static void
test_close_while_owner_spins(void **state)
{
    (void) state;
    check_close(REST_SPINS, 30);
}

/* The tests: sending. */

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
        bufs[i] = (struct turbotap_buf) { &frames[i], FRAME_SIZE, -1, NULL };
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
        bufs[i] = (struct turbotap_buf) { &frames[i], FRAME_SIZE, -1, NULL };
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

#define TEST(NAME) cmocka_unit_test_setup(NAME, setup)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_probe_leaves_no_trace),
        TEST(test_probe_refuses),
        TEST(test_probe_says_why),
        TEST(test_empty_poll_makes_no_syscall),
        TEST(test_one_syscall_reads_many),
        TEST(test_poll_fd),
        TEST(test_buffers_run_out),
        TEST(test_completions_do_not_overflow),
        TEST(test_bad_frames_give_their_buffers_back),
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
    char reason[TURBOTAP_REASON_LEN];
    struct turbotap_dev *dev;
    bool served;
    int error;

    host_enter_namespace();
    error = turbotap_dev_open(TAP, false, &dev);
    if (error) {
        printf("SKIP: no tap device: %s\n", strerror(error));
        return 77;
    }
    served = turbotap_io_uring.probe(turbotap_dev_rxq_fd(dev, 0), reason,
                                     sizeof reason);
    turbotap_dev_close(dev);
    if (!served) {
        printf("SKIP: %s\n", reason);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
