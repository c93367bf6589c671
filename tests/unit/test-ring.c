/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What only the I/O class "ring" does: which system calls it makes, what the
 * module says that it lost, how much memory it locks.  Needs the module. */

#include <config.h>

#include "host.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "turbotap-dev.h"
#include "turbotap-queue.h"
#include "turbotap-vnet.h"

#define TAP "ttr0"
#define BUF_SIZE 65600
#define N_BUFS TURBOTAP_BURST
#define LEN 60                  /* Of a frame. */

/* A receive queue of a tap, and the host's side. */
struct fixture {
    struct turbotap_dev *dev;
    struct turbotap_queue *rx;
    int host;
    uint8_t *memory;
};

static void
open_fixture(struct fixture *f, uint32_t hdr_len)
{
    struct turbotap_queue_config config = {
        .direction = TURBOTAP_RX, .hdr_len = hdr_len,
    };

    assert_int_equal(turbotap_dev_open(TAP, true, &f->dev), 0);
    config.fd = turbotap_dev_rxq_fd(f->dev, 0);
    assert_int_equal(turbotap_queue_open(&turbotap_io_ring, &config, &f->rx),
                     0);
    f->memory = calloc(N_BUFS, BUF_SIZE);
    assert_non_null(f->memory);
    for (int i = 0; i < N_BUFS; i++) {
        struct turbotap_buf buf = {
            .data = f->memory + i * BUF_SIZE, .size = BUF_SIZE,
        };

        assert_int_equal(turbotap_queue_fill(f->rx, &buf, 1), 1);
    }
    host_set_up(TAP, true);
    f->host = host_open_socket(TAP, ETH_P_ALL);
}

static void
close_fixture(struct fixture *f)
{
    struct turbotap_buf bufs[N_BUFS];

    assert_int_equal(turbotap_queue_reclaim(f->rx, bufs, N_BUFS), N_BUFS);
    turbotap_queue_close(f->rx);
    turbotap_dev_close(f->dev);
    close(f->host);
    free(f->memory);
}

static void
send_frames(const struct fixture *f, unsigned int n, size_t size)
{
    uint8_t *frame = calloc(1, size);

    frame[12] = 0x88;
    frame[13] = 0xb5;
    for (unsigned int i = 0; i < n; i++) {
        assert_int_equal(send(f->host, frame, size, 0), size);
    }
    free(frame);
}

/* Receives once, and gives the buffers back.  Returns the number of frames. */
static unsigned int
receive(const struct fixture *f)
{
    struct turbotap_buf bufs[N_BUFS];
    unsigned int n;

    turbotap_queue_recv(f->rx, bufs, N_BUFS, &n);
    for (unsigned int i = 0; i < n; i++) {
        bufs[i].size = BUF_SIZE;
    }
    assert_int_equal(turbotap_queue_fill(f->rx, bufs, n), n);
    return n;
}

static struct turbotap_queue_stats
get_stats(const struct fixture *f)
{
    struct turbotap_queue_stats stats;

    turbotap_queue_get_stats(f->rx, &stats);
    return stats;
}

/* Frames that the ring has room for cost no system call; of those that wait in
 * the device, one brings as many as there is room for. */
static void
test_syscalls(void **state)
{
    struct fixture f;

    (void) state;
    open_fixture(&f, TURBOTAP_VNET_HDR_LEN);
    send_frames(&f, TURBOTAP_MAX_HELD, LEN);
    assert_int_equal(receive(&f), TURBOTAP_BURST);
    assert_int_equal(receive(&f), TURBOTAP_BURST);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(receive(&f), 0);
    }
    assert_int_equal(get_stats(&f).syscalls, 0);

    send_frames(&f, 3 * TURBOTAP_MAX_HELD, LEN);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(receive(&f), TURBOTAP_BURST);
    }
    assert_int_equal(receive(&f), 0);
    assert_int_equal(get_stats(&f).syscalls, 2);
    close_fixture(&f);
}

/* A frame that would fit but for a longer header than the queue was told. */
static void
test_dropped(void **state)
{
    struct turbotap_queue_stats stats;
    struct fixture f;

    (void) state;
    open_fixture(&f, 0);
    host_set_mtu(TAP, 9000);
    send_frames(&f, 1, LEN);
    send_frames(&f, 3, 2048);
    send_frames(&f, 1, LEN);
    assert_int_equal(receive(&f), 2);
    stats = get_stats(&f);
    assert_int_equal(stats.packets, 2);
    assert_int_equal(stats.drops[TURBOTAP_DROP_OTHER], 3);

    /* Those that nobody came for any more count when it is stopped. */
    send_frames(&f, 2, 2048);
    assert_int_equal(get_stats(&f).drops[TURBOTAP_DROP_OTHER], 3);
    turbotap_queue_stop(f.rx);
    assert_int_equal(get_stats(&f).drops[TURBOTAP_DROP_OTHER], 5);
    close_fixture(&f);
}

/* Gives up CAP_IPC_LOCK.  Returns 0 or -1. */
static int
drop_ipc_lock(void)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, data)) {
        return -1;
    }
    data[0].effective &= ~(1u << CAP_IPC_LOCK);
    return syscall(SYS_capset, &header, data);
}

/* Runs in a process of its own.  Stores the reason why a probe fails for who
 * may lock 'kib' KiB. */
static void
probe_with_limit(rlim_t kib, char *reason, size_t size)
{
    struct rlimit limit = { kib * 1024, kib * 1024 };
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (!pid) {
        char why[TURBOTAP_REASON_LEN] = "";

        if (setrlimit(RLIMIT_MEMLOCK, &limit) || drop_ipc_lock()) {
            _exit(1);
        }
        turbotap_io_ring.probe(-1, why, sizeof why);
        _exit(write(fds[1], why, sizeof why) != sizeof why);
    }
    close(fds[1]);
    memset(reason, 0, size);
    assert_true(read(fds[0], reason, size) > 0);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void
test_locked_memory(void **state)
{
    char reason[TURBOTAP_REASON_LEN];

    (void) state;
    probe_with_limit(64, reason, sizeof reason);
    assert_string_equal(reason, "RLIMIT_MEMLOCK is too low");
    probe_with_limit(192, reason, sizeof reason);
    assert_string_equal(reason, "");
}

/* Opens two receive queues, of which one may lock its memory.  Returns what
 * went wrong, 0 if nothing. */
static int
open_two_queues(void)
{
    const struct turbotap_io_class *plain;
    struct turbotap_queue_config config = {
        .direction = TURBOTAP_RX, .hdr_len = TURBOTAP_VNET_HDR_LEN,
    };
    struct rlimit limit = { 192 << 10, 192 << 10 };
    struct turbotap_queue *queues[2];
    struct turbotap_dev *dev;

    if (setrlimit(RLIMIT_MEMLOCK, &limit)
        || turbotap_dev_open(TAP, true, &dev)
        || turbotap_dev_set_n_rxq(dev, 2)
        || drop_ipc_lock()) {
        return 1;
    }
    config.fd = turbotap_dev_rxq_fd(dev, 0);
    if (turbotap_queue_open(&turbotap_io_ring, &config, &queues[0])) {
        return 2;
    }
    config.fd = turbotap_dev_rxq_fd(dev, 1);
    if (turbotap_queue_open(&turbotap_io_ring, &config, &queues[1])
        != ENOBUFS) {
        return 3;
    }
    plain = turbotap_io_lookup(turbotap_io_option(&turbotap_io_ring));
    if (plain != &turbotap_io_socket
        || turbotap_queue_open(plain, &config, &queues[1])) {
        return 4;
    }
    turbotap_queue_close(queues[0]);
    turbotap_queue_close(queues[1]);
    turbotap_dev_close(dev);
    return 0;
}

/* That a later queue can have no ring is said so, and it can have a socket. */
static void
test_limit_met_later(void **state)
{
    int status;
    pid_t pid;

    (void) state;
    pid = fork();
    if (!pid) {
        _exit(open_two_queues());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syscalls),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_locked_memory),
        cmocka_unit_test(test_limit_met_later),
    };
    char reason[TURBOTAP_REASON_LEN];

    if (!turbotap_io_ring.probe(-1, reason, sizeof reason)) {
        printf("TAP version 13\n1..0 # SKIP %s\n", reason);
        return 0;
    }
    host_enter_namespace();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
