/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Queues that change threads while frames arrive, and closing while a read is
 * armed. */

#include <config.h>

#include "test-uring.h"

#include <errno.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void
test_thread_moves_from_one_that_exits(void **state)
{
    (void) state;
    run_relay(REST_EXITS, 200);
}

void
test_thread_moves_from_one_that_is_exiting(void **state)
{
    (void) state;
    run_relay(REST_EXITING, 200);
}

void
test_thread_moves_from_one_that_sleeps(void **state)
{
    (void) state;
    run_relay(REST_SLEEPS, 300);
}

void
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
void
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

void
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
void
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

void
test_close_after_owner_exited(void **state)
{
    (void) state;
    check_close(REST_EXITS, 50);
}

void
test_close_while_owner_exits(void **state)
{
    (void) state;
    check_close(REST_EXITING, 50);
}

void
test_close_while_owner_sleeps(void **state)
{
    (void) state;
    check_close(REST_SLEEPS, 50);
}

void
test_close_while_owner_spins(void **state)
{
    (void) state;
    check_close(REST_SPINS, 30);
}
