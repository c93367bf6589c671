/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O classes, and the choice between them.  Must not know how any of them
 * moves a frame. */

#include <config.h>

#include "turbotap-queue.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NULL_PATH "/dev/null"

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

const char *
turbotap_io_option(const struct turbotap_io_class *class)
{
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        if (turbotap_io_classes[i]->better == class) {
            return turbotap_io_classes[i]->name;
        }
    }
    return class->name;
}

/* Appends to the reason of 'len' octets in the 'size' octets at 'reason' 'why'
 * 'class' cannot serve.  Returns the new length. */
static size_t
add_reason(char *reason, size_t size, size_t len,
           const struct turbotap_io_class *class, const char *why)
{
    int n = snprintf(reason + len, size - len, "%s%s: %s", len ? "; " : "",
                     class->name, why);

    return n < 0 ? len : len + n < size ? len + n : size - 1;
}

const struct turbotap_io_class *
turbotap_io_better(const struct turbotap_io_class *class, int fd,
                   char *reason, size_t size)
{
    char why[TURBOTAP_REASON_LEN];

    reason[0] = '\0';
    if (!class->better) {
        return class;
    } else if (class->better->probe(fd, why, sizeof why)) {
        return class->better;
    }
    add_reason(reason, size, 0, class->better, why);
    return class;
}

const struct turbotap_io_class *
turbotap_io_best(int fd, char *reason, size_t size)
{
    const struct turbotap_io_class *class = NULL;
    size_t len = 0;

    reason[0] = '\0';
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        char why[TURBOTAP_REASON_LEN];

        class = turbotap_io_classes[i];
        if (class->probe(fd, why, sizeof why)) {
            class = (len ? class
                     : turbotap_io_better(class, fd, reason, size));
            break;
        }
        len = add_reason(reason, size, len, class, why);
    }
    return class;
}

/* Measures how long 'class' takes to send a frame of a batch to 'fd', which
 * /dev/null stands for: what is left is what either way costs by itself.
 * Returns the time in ns, 0 if that cannot be measured. */
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
    uint8_t frame[64] = { 0 };
    bool sent = true;

    if (turbotap_queue_open(class, &config, &queue)) {
        return 0;
    }
    memset(bufs, 0, sizeof bufs);
    for (int i = 0; i < TURBOTAP_BURST; i++) {
        bufs[i].data = frame;
        bufs[i].size = sizeof frame;
    }
    for (int i = 0; i < N_TRIES && sent; i++) {
        struct timespec start, end;
        uint64_t ns;

        clock_gettime(CLOCK_MONOTONIC, &start);
        sent = (turbotap_queue_send(queue, bufs, TURBOTAP_BURST)
                == TURBOTAP_BURST);
        clock_gettime(CLOCK_MONOTONIC, &end);
        ns = ((end.tv_sec - start.tv_sec) * UINT64_C(1000000000)
              + end.tv_nsec - start.tv_nsec);
        least = ns < least ? ns : least;
    }
    turbotap_queue_close(queue);
    return sent ? least / TURBOTAP_BURST : 0;
}

/* What was measured. */
struct measured {
    unsigned int call;          /* A frame by turbotap_io_rw, in ns... */
    unsigned int ring;          /* ...and by the best class. */
};

/* Measures, or remembers, what it costs to use 'class' and turbotap_io_rw.
 * Returns zeros if that cannot be measured. */
static struct measured
measure(const struct turbotap_io_class *class)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static struct measured known;
    struct measured m;

    pthread_mutex_lock(&mutex);
    if (!known.call || !known.ring) {
        int fd = open(NULL_PATH, O_WRONLY | O_CLOEXEC);

        if (fd >= 0) {
            known.call = measure_send(&turbotap_io_rw, fd);
            known.ring = measure_send(class, fd);
            close(fd);
        }
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
    if (io->rx->recv_is_syscall || io->rx == &turbotap_io_ring) {
        return;
    }

    m = measure(io->rx);
    if (!m.call || !m.ring) {
        return;
    }
    len = strlen(reason);
    snprintf(reason + len, size - len, "%smeasured for a frame: %u ns by rw, "
             "%u by %s", len ? "; " : "", m.call, m.ring, io->rx->name);
    /* With a device behind it, a ring does better than this says: where both
     * took 0.2 us, 64-octet frames went a fifth faster through the ring.  So
     * it has to be much dearer, which goes for both directions then: the CPU
     * is the reason. */
    if (3 * m.call < 2 * m.ring) {
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
