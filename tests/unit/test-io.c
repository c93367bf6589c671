/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of what turbotap_io_choose() of turbotap-queue.h makes of a machine on
 * which system calls are dear, or rings are.  Each choice is made by a process
 * of its own, since what was measured is remembered.  It must not know how the
 * classes move frames, but for the functions that they call. */

#include <config.h>

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TAP "tti0"

/* How much longer each takes, in us: a call and a batch by ring, to receive
 * and to send. */
struct delays {
    unsigned int read, write;
    unsigned int ring_read, ring_write;
    unsigned int n_reads;       /* If nonzero, only so many reads do. */
};

static struct delays delays;

static void
delay(unsigned int us)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000
             + (now.tv_nsec - start.tv_nsec) / 1000 < us);
}

/* These take the place of the libraries'. */

ssize_t
read(int fd, void *data, size_t size)
{
    static ssize_t (*real)(int, void *, size_t);
    static unsigned int n_reads;

    if (!real) {
        *(void **) &real = dlsym(RTLD_NEXT, "read");
    }
    if (delays.read && (!delays.n_reads || n_reads++ < delays.n_reads)) {
        delay(delays.read);
    }
    return real(fd, data, size);
}

ssize_t
write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);

    if (!real) {
        *(void **) &real = dlsym(RTLD_NEXT, "write");
    }
    if (delays.write) {
        delay(delays.write);
    }
    return real(fd, data, size);
}

struct io_uring;
int io_uring_submit(struct io_uring *);
int io_uring_submit_and_wait(struct io_uring *, unsigned int);

/* Arms a read. */
int
io_uring_submit(struct io_uring *ring)
{
    static int (*real)(struct io_uring *);

    if (!real) {
        *(void **) &real = dlsym(RTLD_NEXT, "io_uring_submit");
    }
    if (delays.ring_read) {
        delay(delays.ring_read);
    }
    return real(ring);
}

int
io_uring_submit_and_wait(struct io_uring *ring, unsigned int n)
{
    static int (*real)(struct io_uring *, unsigned int);

    if (!real) {
        *(void **) &real = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
    }
    if (delays.ring_write) {
        delay(delays.ring_write);
    }
    return real(ring, n);
}

/* What a process has chosen. */
struct choice {
    char name[TURBOTAP_IO_NAME_LEN];
    char reason[512];
    bool again;                 /* Was it the same the second time? */
};

/* Has another process choose for TAP, on a machine with delays 'd', and stores
 * what it chose in '*choice'. */
static void
choose(const struct delays *d, struct choice *choice)
{
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (!pid) {
        struct choice mine = { .again = false };
        struct turbotap_dev *dev;
        struct turbotap_io io;
        char again[512];

        if (turbotap_dev_open(TAP, true, &dev)) {
            _exit(1);
        }
        delays = *d;
        turbotap_io_choose(turbotap_dev_rxq_fd(dev, 0), &io, mine.reason,
                           sizeof mine.reason);
        turbotap_io_format(&io, mine.name);
        memset(&delays, 0, sizeof delays);
        turbotap_io_choose(turbotap_dev_rxq_fd(dev, 0), &io, again,
                           sizeof again);
        mine.again = !strcmp(again, mine.reason);
        _exit(write(fds[1], &mine, sizeof mine) != sizeof mine);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], choice, sizeof *choice), sizeof *choice);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Returns true if io_uring can serve a tap here. */
static bool
have_uring(void)
{
    const struct turbotap_io_class *uring = turbotap_io_lookup("uring");
    struct turbotap_dev *dev;
    char reason[512];
    bool have;

    assert_int_equal(turbotap_dev_open(TAP, true, &dev), 0);
    have = (uring
            && turbotap_io_best(turbotap_dev_rxq_fd(dev, 0), reason,
                                sizeof reason) == uring);
    turbotap_dev_close(dev);
    return have;
}

/* What a frame was measured to cost, in ns. */
struct measured {
    unsigned int read, write;
    unsigned int ring_read, ring_write;
};

/* Chooses with delays 'd', asserts that it is the same each time, and stores
 * the choice in '*choice' and what its reason says in '*m'. */
static void
measure(const struct delays *d, struct choice *choice, struct measured *m)
{
    const char *s;

    if (!have_uring()) {
        skip();
    }
    choose(d, choice);
    assert_true(choice->again);
    assert_non_null(strstr(choice->reason, "socket: "));
    s = strstr(choice->reason, "; measured for a frame, ");
    assert_non_null(s);
    assert_int_equal(sscanf(s, "; measured for a frame, to receive and to "
                            "send: %u and %u ns by rw, %u and %u by uring",
                            &m->read, &m->write, &m->ring_read,
                            &m->ring_write), 4);
}

/* Asserts that a frame costs 'ns', more than its part of a delay of 'us' for
 * 'n' frames, and not many times as much, if there is one. */
static void
check_cost(unsigned int ns, unsigned int us, unsigned int n)
{
    unsigned int least = us * 1000 / n;

    assert_true(ns > least);
    assert_true(!us || ns < 10 * least);
}

/* Asserts that 'name' is chosen, each time, with delays 'd', and that the
 * reason says what was measured. */
static void
check_choice(const struct delays *d, const char *name)
{
    struct choice choice;
    struct measured m;

    measure(d, &choice, &m);
    assert_string_equal(choice.name, name);
    check_cost(m.read, d->read, 1);
    check_cost(m.write, d->write, 1);
    check_cost(m.ring_read, d->ring_read, TURBOTAP_BURST);
    check_cost(m.ring_write, d->ring_write, TURBOTAP_BURST);
}

static void
test_dear_calls(void **state)
{
    (void) state;
    check_choice(&(struct delays) { .read = 20, .write = 20 }, "uring");
}

static void
test_dear_ring(void **state)
{
    (void) state;
    check_choice(&(struct delays) { .ring_read = 2000, .ring_write = 2000 },
                 "rw");
}

/* Each direction has its own costs. */
static void
test_dear_mixed(void **state)
{
    (void) state;
    check_choice(&(struct delays) { .write = 20, .ring_read = 2000 },
                 "rw,uring");
    check_choice(&(struct delays) { .read = 20, .ring_write = 2000 },
                 "uring,rw");
}

/* What is slow at first does not count. */
static void
test_slow_at_first(void **state)
{
    const struct delays d = { .read = 20, .n_reads = 64 * TURBOTAP_BURST };
    struct choice choice;
    struct measured m;

    (void) state;
    measure(&d, &choice, &m);
    assert_true(m.read < d.read * 1000);
}

static void
test_format(void **state)
{
    struct turbotap_io io = { &turbotap_io_rw, &turbotap_io_socket };
    char name[TURBOTAP_IO_NAME_LEN];

    (void) state;
    turbotap_io_format(&io, name);
    assert_string_equal(name, "rw,socket");
    io.rx = io.tx;
    turbotap_io_format(&io, name);
    assert_string_equal(name, "socket");
}

/* Where there is nothing to be chosen, nothing is measured. */
static void
test_no_choice(void **state)
{
    char reason[512], best[512];
    struct turbotap_io io;
    int fds[2];

    (void) state;
    assert_int_equal(pipe(fds), 0);
    turbotap_io_choose(fds[0], &io, reason, sizeof reason);
    assert_ptr_equal(io.rx, &turbotap_io_rw);
    assert_ptr_equal(io.tx, &turbotap_io_rw);
    turbotap_io_best(fds[0], best, sizeof best);
    assert_string_equal(reason, best);
    close(fds[0]);
    close(fds[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dear_calls),
        cmocka_unit_test(test_dear_ring),
        cmocka_unit_test(test_dear_mixed),
        cmocka_unit_test(test_slow_at_first),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_no_choice),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
