/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-queue.h: each test runs for each row of 'rows', an I/O
 * class over a transport that it can serve.  It must not know how any class
 * moves a frame; tests of what only one class does have a program of their
 * own. */

#include <config.h>

#include "test-queue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct row rows[] = {
    { "rw over tap", &turbotap_io_rw, true, false },
    { "rw over socket pair", &turbotap_io_rw, false, false },
    { "socket over tap", &turbotap_io_socket, true, true },
    { "socket over socket pair", &turbotap_io_socket, false, true },
    { "ring over tap", &turbotap_io_ring, true, true },
#ifdef HAVE_LIBURING
    { "uring over tap", &turbotap_io_uring, true, true },
#endif
};
#define N_ROWS (sizeof rows / sizeof rows[0])

/* What does not depend on the class. */

static void
test_lookup(void **state)
{
    (void) state;
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        assert_ptr_equal(turbotap_io_lookup(turbotap_io_classes[i]->name),
                         turbotap_io_classes[i]);
    }
    assert_ptr_equal(turbotap_io_lookup("rw"), &turbotap_io_rw);
    assert_ptr_equal(turbotap_io_lookup("socket"), &turbotap_io_socket);
    assert_null(turbotap_io_lookup("ring"));
    assert_string_equal(turbotap_io_option(&turbotap_io_ring), "socket");
    assert_string_equal(turbotap_io_option(&turbotap_io_rw), "rw");
    assert_null(turbotap_io_lookup("auto"));
    assert_null(turbotap_io_lookup(""));
}

/* Is 'class', or what it is the better one of, number 'i'? */
static bool
is_number(const struct turbotap_io_class *class, size_t i)
{
    return (turbotap_io_classes[i] == class
            || turbotap_io_classes[i]->better == class);
}

/* Asserts that turbotap_io_best() names, for 'fd', every class that is better
 * than the one it returns, in order.  Returns that. */
static const struct turbotap_io_class *
check_best(int fd)
{
    const struct turbotap_io_class *class;
    char reason[512] = "x";

    class = turbotap_io_best(fd, reason, sizeof reason);
    assert_non_null(class);
    for (size_t i = 0; !is_number(class, i); i++) {
        char text[64];
        const char *found;

        snprintf(text, sizeof text, "%s: ", turbotap_io_classes[i]->name);
        found = strstr(reason, text);
        assert_non_null(found);
        assert_true(i ? found >= reason + 2 && !strncmp(found - 2, "; ", 2)
                    : found == reason);
    }
    assert_null(strstr(reason, class->name));
    if (class == turbotap_io_classes[0]) {
        assert_ptr_equal(strstr(reason, "ring: "), reason);
    } else if (is_number(class, 0)) {
        assert_string_equal(reason, "");
    }

    /* A reason too long for its room is cut. */
    for (size_t size = 1; size < 64; size++) {
        char cut[64];

        memset(cut, GUARD_BYTE, sizeof cut);
        assert_ptr_equal(turbotap_io_best(fd, cut, size), class);
        assert_true(strnlen(cut, size) < size);
        assert_true(!strncmp(cut, reason, strlen(cut)));
        for (size_t i = size; i < sizeof cut; i++) {
            assert_int_equal((uint8_t) cut[i], GUARD_BYTE);
        }
    }
    return class;
}

static void
test_best(void **state)
{
    struct turbotap_dev *dev;
    int ours, peer;
    int fd;

    /* Sockets are the best there is. */
    (void) state;
    open_pair(&ours, &peer);
    assert_ptr_equal(check_best(ours), &turbotap_io_socket);
    close(ours);
    close(peer);

    /* For a tap it depends. */
    assert_int_equal(turbotap_dev_open(TAP, false, &dev), 0);
    check_best(turbotap_dev_rxq_fd(dev, 0));
    turbotap_dev_close(dev);

    /* What is no tap at all can be read at most. */
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_ptr_equal(check_best(fd), &turbotap_io_rw);
    close(fd);
}

static void
test_open_fails(void **state)
{
    struct turbotap_queue_config config = { .direction = TURBOTAP_RX };
    unsigned int n_fds = host_count_fds();
    struct turbotap_queue *queue = (void *) &config;
    struct rlimit old, low;
    int ours, peer;
    int error;

    (void) state;
    config.fd = -1;
    assert_int_not_equal(turbotap_queue_open(&turbotap_io_socket, &config,
                                             &queue), 0);
    assert_null(queue);

    open_pair(&ours, &peer);
    config.fd = ours;
    queue = (void *) &config;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = peer + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    error = turbotap_queue_open(&turbotap_io_socket, &config, &queue);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(error, EMFILE);
    assert_null(queue);
    close(ours);
    close(peer);
    assert_int_equal(host_count_fds(), n_fds);

    turbotap_queue_close(NULL);
}

static void
test_drop_names(void **state)
{
    (void) state;
    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        const char *name = turbotap_drop_to_string(i);

        assert_string_not_equal(name, "unknown");
        assert_true(turbotap_drop_is_possible(i, TURBOTAP_RX)
                    || turbotap_drop_is_possible(i, TURBOTAP_TX));
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(name, turbotap_drop_to_string(j));
        }
    }
}

/* Which tests there are. */

enum where { ANYWHERE, TAP_ONLY, PAIR_ONLY };

static const struct {
    const char *name;
    CMUnitTestFunction function;
    enum where where;
} class_tests[] = {
#define TEST(NAME, WHERE) { #NAME, NAME, WHERE }
    TEST(test_rx_batches, ANYWHERE),
    TEST(test_rx_partial_batches, ANYWHERE),
    TEST(test_rx_empty, ANYWHERE),
    TEST(test_rx_without_buffers, ANYWHERE),
    TEST(test_rx_with_few_buffers, ANYWHERE),
    TEST(test_rx_truncated, ANYWHERE),
    TEST(test_rx_exact_fit, ANYWHERE),
    TEST(test_rx_all_bad, ANYWHERE),
    TEST(test_rx_short, PAIR_ONLY),
    TEST(test_large_frames, ANYWHERE),
    TEST(test_virtio_net_header, ANYWHERE),
    TEST(test_fill_and_reclaim, ANYWHERE),
    TEST(test_reclaim_with_frames_waiting, ANYWHERE),
    TEST(test_trim, ANYWHERE),
    TEST(test_reclaim_nothing, ANYWHERE),
    TEST(test_stop, ANYWHERE),
    TEST(test_tx_batches, ANYWHERE),
    TEST(test_tx_error_in_batch, ANYWHERE),
    TEST(test_tx_no_room, PAIR_ONLY),
    TEST(test_tx_peer_gone, PAIR_ONLY),
    TEST(test_link_down, TAP_ONLY),
    TEST(test_deleted, TAP_ONLY),
    TEST(test_queues_under_traffic, TAP_ONLY),
};
#define N_CLASS_TESTS (sizeof class_tests / sizeof class_tests[0])

/* Stands for all tests of a row whose class cannot serve here. */
static void
skip_row(void **state)
{
    print_message("%s\n", (const char *) *state);
    skip();
}

/* Returns true if the class of 'row' can serve, else false and the reason. */
static bool
probe(const struct row *row, char *reason, size_t size)
{
    struct turbotap_dev *dev;
    int ours, peer;
    bool ok;

    if (row->tap) {
        if (turbotap_dev_open(TAP, false, &dev)) {
            snprintf(reason, size, "no tap device");
            return false;
        }
        ok = row->class->probe(turbotap_dev_rxq_fd(dev, 0), reason, size);
        turbotap_dev_close(dev);
    } else {
        if (!host_set_dgram_qlen(MAX_BUFS)) {
            snprintf(reason, size, "net.unix.max_dgram_qlen is too small");
            return false;
        }
        open_pair(&ours, &peer);
        ok = row->class->probe(ours, reason, size);
        close(ours);
        close(peer);
    }
    return ok;
}

int
main(void)
{
    static const struct CMUnitTest common_tests[] = {
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_drop_names),
    };
    int n_failed;

    host_enter_namespace();
    n_failed = cmocka_run_group_tests_name("queue", common_tests, NULL, NULL);

    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *row = &rows[i];
        struct CMUnitTest tests[N_CLASS_TESTS];
        char names[N_CLASS_TESTS][80];
        char reason[TURBOTAP_REASON_LEN];
        bool serves = probe(row, reason, sizeof reason);
        size_t n = 0;

        memset(tests, 0, sizeof tests);
        if (!serves) {
            tests[n].test_func = skip_row;
            tests[n].initial_state = reason;
            tests[n++].name = row->name;
        }
        for (size_t j = 0; serves && j < N_CLASS_TESTS; j++) {
            if (class_tests[j].where == (row->tap ? PAIR_ONLY : TAP_ONLY)) {
                continue;
            }
            snprintf(names[n], sizeof names[n], "%s: %s", row->name,
                     class_tests[j].name);
            tests[n].name = names[n];
            tests[n].test_func = class_tests[j].function;
            tests[n].setup_func = setup;
            tests[n].teardown_func = teardown;
            tests[n].initial_state = (void *) row;
            n++;
        }
        n_failed += _cmocka_run_group_tests(row->name, tests, n, NULL, NULL);
    }
    return n_failed != 0;
}
