/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O classes, and the choice between them.  Must not know how any of them
 * moves a frame. */

#include <config.h>

#include "turbotap-queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* How often what is measured is tried.  The least counts. */
#define N_TRIES 32

const struct turbotap_io_class *const turbotap_io_classes[] = {
    &turbotap_io_socket,
#ifdef HAVE_LIBURING
    &turbotap_io_uring,
#endif
    &turbotap_io_rw,
    NULL
};

const struct turbotap_io_class *
turbotap_io_lookup(const char *name)
{
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        if (!strcmp(turbotap_io_classes[i]->name, name)) {
            return turbotap_io_classes[i];
        }
    }
    return NULL;
}

const struct turbotap_io_class *
turbotap_io_best(int fd, char *reason, size_t size)
{
    const struct turbotap_io_class *class = NULL;
    size_t len = 0;

    reason[0] = '\0';
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        char why[TURBOTAP_REASON_LEN];
        int n;

        class = turbotap_io_classes[i];
        if (class->probe(fd, why, sizeof why)) {
            break;
        }
        n = snprintf(reason + len, size - len, "%s%s: %s", len ? "; " : "",
                     class->name, why);
        if (n > 0) {
            len = len + n < size ? len + n : size - 1;
        }
    }
    return class;
}

/* Measures how long 'class' takes for a frame, when a batch is sent to the tap
 * queue 'fd' that tun refuses before it looks at it: a single octet.  Returns
 * the time in ns, 0 if that cannot be measured. */
static unsigned int
measure_send(const struct turbotap_io_class *class, int fd)
{
    const struct turbotap_queue_config config = {
        .fd = fd,
        .direction = TURBOTAP_TX,
    };
    struct turbotap_buf bufs[TURBOTAP_BURST];
    uint64_t least = UINT64_MAX;
    struct turbotap_queue *queue;
    uint8_t octet = 0;
    bool refused = true;

    if (turbotap_queue_open(class, &config, &queue)) {
        return 0;
    }
    for (int i = 0; i < N_TRIES && refused; i++) {
        struct timespec start, end;
        uint64_t ns;

        memset(bufs, 0, sizeof bufs);
        for (int j = 0; j < TURBOTAP_BURST; j++) {
            bufs[j].data = &octet;
            bufs[j].size = sizeof octet;
        }
        clock_gettime(CLOCK_MONOTONIC, &start);
        turbotap_queue_send(queue, bufs, TURBOTAP_BURST);
        clock_gettime(CLOCK_MONOTONIC, &end);
        for (int j = 0; j < TURBOTAP_BURST; j++) {
            refused = refused && bufs[j].error == EINVAL;
        }
        ns = ((end.tv_sec - start.tv_sec) * UINT64_C(1000000000)
              + end.tv_nsec - start.tv_nsec);
        least = ns < least ? ns : least;
    }
    turbotap_queue_close(queue);
    return refused ? least / TURBOTAP_BURST : 0;
}

/* What was measured, for all devices. */
struct measured {
    unsigned int call;          /* A frame by turbotap_io_rw, in ns... */
    unsigned int ring;          /* ...and by the best class. */
};

/* Measures, or remembers, what it costs to use 'class' and turbotap_io_rw on
 * the tap queue 'fd'.  Returns zeros if that cannot be measured. */
static struct measured
measure(const struct turbotap_io_class *class, int fd)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static struct measured known;
    struct measured m;

    pthread_mutex_lock(&mutex);
    if (!known.call || !known.ring) {
        known.call = measure_send(&turbotap_io_rw, fd);
        known.ring = measure_send(class, fd);
    }
    m = known;
    pthread_mutex_unlock(&mutex);
    return m;
}

void
turbotap_io_choose(int fd, struct turbotap_io *io, char *reason, size_t size)
{
    struct measured m;
    size_t len;

    io->rx = io->tx = turbotap_io_best(fd, reason, size);
    if (io->rx->recv_is_syscall) {
        return;
    }

    m = measure(io->rx, fd);
    if (!m.call || !m.ring) {
        return;
    }
    len = strlen(reason);
    snprintf(reason + len, size - len, "%smeasured for a frame: %u ns by rw, "
             "%u by %s", len ? "; " : "", m.call, m.ring, io->rx->name);
    if (m.call < m.ring) {
        /* That goes for both directions: what makes a ring dear is the CPU. */
        io->rx = io->tx = &turbotap_io_rw;
    }
}

void
turbotap_io_format(const struct turbotap_io *io,
                   char name[TURBOTAP_IO_NAME_LEN])
{
    bool same = io->rx == io->tx;

    snprintf(name, TURBOTAP_IO_NAME_LEN, "%s%s%s", io->rx->name,
             same ? "" : ",", same ? "" : io->tx->name);
}
