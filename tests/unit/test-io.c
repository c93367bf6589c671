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

/* How much longer each takes, in us. */
static unsigned int write_delay, ring_delay;

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
write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);

    if (!real) {
        *(void **) &real = dlsym(RTLD_NEXT, "write");
    }
    if (write_delay) {
        delay(write_delay);
    }
    return real(fd, data, size);
}

struct io_uring;
int io_uring_submit_and_wait(struct io_uring *, unsigned int);

int
io_uring_submit_and_wait(struct io_uring *ring, unsigned int n)
{
    static int (*real)(struct io_uring *, unsigned int);

    if (!real) {
        *(void **) &real = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
    }
    if (ring_delay) {
        delay(ring_delay);
    }
    return real(ring, n);
}

/* What a process has chosen. */
struct choice {
    char name[TURBOTAP_IO_NAME_LEN];
    char reason[512];
    bool again;                 /* Was it the same the second time? */
};

/* Has another process choose for TAP, and stores what it chose in '*choice'. */
static void
choose(unsigned int write_us, unsigned int ring_us, struct choice *choice)
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
        write_delay = write_us;
        ring_delay = ring_us;
        turbotap_io_choose(turbotap_dev_rxq_fd(dev, 0), &io, mine.reason,
                           sizeof mine.reason);
        turbotap_io_format(&io, mine.name);
        write_delay = ring_delay = 0;
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

/* Asserts that 'name' is chosen, each time, if a write takes 'write_us' and a
 * ring 'ring_us' longer, and that the reason says what was 'measured'. */
static void
check_choice(unsigned int write_us, unsigned int ring_us, const char *name,
             const char *measured)
{
    struct choice choice;

    if (!have_uring()) {
        skip();
    }
    choose(write_us, ring_us, &choice);
    assert_string_equal(choice.name, name);
    assert_non_null(strstr(choice.reason, "socket: "));
    assert_non_null(strstr(choice.reason, measured));
    assert_non_null(strstr(choice.reason, " ns by rw, "));
    assert_non_null(strstr(choice.reason, " by uring"));
    assert_true(choice.again);
}

static void
test_dear_calls(void **state)
{
    (void) state;
    check_choice(20, 0, "uring", "measured for a frame: 2");
}

static void
test_dear_ring(void **state)
{
    (void) state;
    check_choice(0, 2000, "rw", "measured for a frame: ");
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
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_no_choice),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
