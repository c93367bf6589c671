/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Does the I/O class "ring" go on when the indices of its rings wrap, as they
 * do after 2^32 chunks?  They start just before that here.  The module is
 * played by this file, so it runs anywhere; it must know no more of the module
 * than <linux/turbotap.h> says. */

#include <config.h>

#include "host.h"

#include <sys/ioctl.h>

static int module_ioctl(int fd, unsigned long request, ...);
#define ioctl module_ioctl
#include "turbotap-io-ring.c"
#undef ioctl

#include <stdarg.h>

#define BUF_SIZE 65600
#define LEN 60                  /* Of a short frame. */
#define LONG_LEN 5000           /* Of one in several pieces. */

/* What the module knows of the only ring.  It has a frame for each number, and
 * those from 'next' to 'end' wait. */
static struct {
    uint8_t *area;
    struct turbotap_rings *rings;
    const uint64_t *fill;
    struct xdp_desc *rx;
    uint32_t fill_consumer;
    uint32_t rx_producer;
    uint32_t next, end;         /* Frames. */
    size_t len;                 /* Of each, in octets. */
    unsigned int n_wakeups;
} module;

/* Moves the frames that wait, as long as there are chunks. */
static void
module_move(void)
{
    struct turbotap_rings *rings = module.rings;
    unsigned int n = (module.len + CHUNK_SIZE - 1) / CHUNK_SIZE;

    for (; module.next != module.end; module.next++) {
        uint32_t empty = rings->fill.producer - module.fill_consumer;
        uint32_t used = module.rx_producer - rings->rx.consumer;
        size_t left = module.len;

        if (empty > N_CHUNKS || empty < n
            || used > N_CHUNKS || N_CHUNKS - used < n) {
            rings->fill.flags = TURBOTAP_NEED_WAKEUP;
            return;
        }
        while (left) {
            struct xdp_desc *desc = &module.rx[module.rx_producer++
                                               % N_CHUNKS];

            desc->addr = module.fill[module.fill_consumer++ % N_CHUNKS];
            desc->len = left < CHUNK_SIZE ? left : CHUNK_SIZE;
            memset(module.area + desc->addr, module.next, desc->len);
            left -= desc->len;
            desc->options = left ? TURBOTAP_PKT_CONTD : 0;
        }
        rings->fill.consumer = module.fill_consumer;
        rings->rx.producer = module.rx_producer;
    }
    rings->fill.flags = 0;
}

/* Takes the place of the system's. */
static int
module_ioctl(int fd, unsigned long request, ...)
{
    const struct turbotap_rx_ring *req;
    va_list args;

    (void) fd;
    switch (request) {
    case TURBOTAP_RX_RING:
        va_start(args, request);
        req = va_arg(args, const struct turbotap_rx_ring *);
        va_end(args);
        assert_int_equal(req->entries, N_CHUNKS);
        module.area = (uint8_t *) (uintptr_t) req->addr;
        module.rings = (struct turbotap_rings *) module.area;
        module.fill = (uint64_t *) (module.rings + 1);
        module.rx = (struct xdp_desc *) (module.fill + N_CHUNKS);
        return 0;
    case TURBOTAP_WAKEUP:
        module.n_wakeups++;
        module_move();
        return 0;
    default:
        errno = EOPNOTSUPP;
        return -1;
    }
}

/* The host sends 'n' more frames. */
static void
host_sends(unsigned int n)
{
    module.end += n;
    module_move();
}

/* A queue whose indices have come to 'start'. */
struct fixture {
    struct ring_queue rq;
    uint8_t *memory;
};

static void
open_fixture(struct fixture *f, uint32_t start, size_t len)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];

    memset(&module, 0, sizeof module);
    memset(f, 0, sizeof *f);
    module.len = len;
    module.fill_consumer = module.rx_producer = start;
    assert_int_equal(open_ring(&f->rq, 0), 0);
    f->rq.fill_producer = f->rq.rx_consumer = start;
    module.rings->fill.producer = module.rings->fill.consumer = start;
    module.rings->rx.producer = module.rings->rx.consumer = start;

    f->memory = calloc(TURBOTAP_BURST, BUF_SIZE);
    assert_non_null(f->memory);
    for (int i = 0; i < TURBOTAP_BURST; i++) {
        bufs[i] = (struct turbotap_buf) {
            .data = f->memory + i * BUF_SIZE, .size = BUF_SIZE,
        };
    }
    assert_int_equal(ring_fill(&f->rq.up, bufs, TURBOTAP_BURST),
                     TURBOTAP_BURST);
    assert_int_equal(module.rings->fill.producer - start, N_CHUNKS);
}

static void
close_fixture(struct fixture *f)
{
    munmap(f->rq.area, f->rq.size);
    free(f->memory);
}

/* Receives once, all frames being in order, from frame 'first' on, and gives
 * the buffers back.  Returns the number of frames. */
static unsigned int
receive(struct fixture *f, uint32_t first)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n = 0;

    ring_recv(&f->rq.up, bufs, TURBOTAP_BURST, &n);
    for (unsigned int i = 0; i < n; i++) {
        const uint8_t *data = bufs[i].data;

        assert_int_equal(bufs[i].size, module.len);
        assert_int_equal(data[0], (uint8_t) (first + i));
        assert_int_equal(data[module.len - 1], (uint8_t) (first + i));
        bufs[i].size = BUF_SIZE;
    }
    assert_int_equal(ring_fill(&f->rq.up, bufs, n), n);
    return n;
}

/* From 'start' on, frames of 'len' octets come, 'batch' at a time, until the
 * indices have long wrapped: each comes at once. */
static void
go_round(uint32_t start, size_t len, unsigned int batch)
{
    struct fixture f;
    uint32_t first = 0;

    open_fixture(&f, start, len);
    for (int i = 0; i < 3 * N_CHUNKS; i++) {
        host_sends(batch);
        assert_int_equal(receive(&f, first), batch);
        first += batch;
        assert_int_equal(receive(&f, first), 0);
    }
    assert_int_equal(module.n_wakeups, 0);
    assert_true(f.rq.fill_producer < start);
    close_fixture(&f);
}

/* Whether a batch ends at the wrap, just before or just behind it. */
static void
test_short(void **state)
{
    (void) state;
    for (uint32_t before = 1; before <= 2 * N_CHUNKS + 1; before++) {
        go_round(-before, LEN, 1);
        go_round(-before, LEN, 7);
    }
}

static void
test_long(void **state)
{
    (void) state;
    for (uint32_t before = 1; before <= 2 * N_CHUNKS + 1; before++) {
        go_round(-before, LONG_LEN, 1);
    }
}

/* More frames wait than there is room for. */
static void
test_backlog(void **state)
{
    (void) state;
    for (uint32_t before = 1; before <= 2 * N_CHUNKS + 1; before++) {
        uint32_t first = 0;
        struct fixture f;

        open_fixture(&f, -before, LEN);
        host_sends(6 * N_CHUNKS);
        while (first != 6 * N_CHUNKS) {
            unsigned int n = receive(&f, first);

            assert_int_not_equal(n, 0);
            first += n;
        }
        assert_int_equal(receive(&f, first), 0);
        assert_in_range(module.n_wakeups, 1, 6);
        close_fixture(&f);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_backlog),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
