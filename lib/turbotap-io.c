/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O classes, and the choice between them.  Must not know how any of them
 * moves a frame. */

#include <config.h>

#include "turbotap-queue.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "turbotap-cost.h"

/* What a ring may cost, in per cent of what calls do, and still be taken.
 *
 * A little more, since an idle queue costs nothing then, and it does better
 * with a device behind it: where sending seemed to take 0.95 of the time, it
 * forwarded a fifth more frames, and where 1.2, 4 % less.  Where receiving
 * seemed to take 1.3 times as long, it forwarded 15 % less. */
#define RING_PERCENT 110

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

/* What a frame costs, in ns, 0 if that is not known. */
struct costs {
    unsigned int rx, tx;
};

static unsigned int
least(unsigned int a, unsigned int b)
{
    return !a || b < a ? b : a;
}

/* Measures what it costs to use 'class', and stores it in '*costs' if it is
 * less than what was measured before. */
static void
measure_class(const struct turbotap_io_class *class, struct costs *costs)
{
    costs->rx = least(costs->rx, turbotap_cost_to_receive(class));
    costs->tx = least(costs->tx, turbotap_cost_to_send(class));
}

/* Measures, or remembers, what it costs to use 'class' and turbotap_io_rw, and
 * stores it in '*costs' and '*rw'.  Returns false if that cannot be
 * measured. */
static bool
measure(const struct turbotap_io_class *class, struct costs *costs,
        struct costs *rw)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static struct costs known, known_rw;
    static bool measured;
    bool good;

    pthread_mutex_lock(&mutex);
    if (!measured) {
        /* In turn, since a CPU that was idle may be slow at first. */
        for (int i = 0; i < 2; i++) {
            measure_class(&turbotap_io_rw, &known_rw);
            measure_class(class, &known);
        }
        measured = known_rw.rx && known_rw.tx && known.rx && known.tx;
    }
    good = measured;
    *costs = known;
    *rw = known_rw;
    pthread_mutex_unlock(&mutex);
    return good;
}

/* Returns 'class', of which a frame costs 'ns', or turbotap_io_rw, of which it
 * costs 'rw', if that is less. */
static const struct turbotap_io_class *
cheaper(const struct turbotap_io_class *class, unsigned int ns,
        unsigned int rw)
{
    return 100 * ns <= RING_PERCENT * rw ? class : &turbotap_io_rw;
}

void
turbotap_io_choose(int fd, struct turbotap_io *io, char *reason, size_t size)
{
    const struct turbotap_io_class *best;
    struct costs costs, rw;
    size_t len;

    best = io->rx = io->tx = turbotap_io_best(fd, reason, size);
    if (best->recv_is_syscall || best == &turbotap_io_ring
        || !measure(best, &costs, &rw)) {
        return;
    }
    len = strlen(reason);
    snprintf(reason + len, size - len, "%smeasured for a frame, to receive "
             "and to send: %u and %u ns by rw, %u and %u by %s",
             len ? "; " : "", rw.rx, rw.tx, costs.rx, costs.tx, best->name);
    io->rx = cheaper(best, costs.rx, rw.rx);
    io->tx = cheaper(best, costs.tx, rw.tx);
}

void
turbotap_io_format(const struct turbotap_io *io,
                   char name[TURBOTAP_IO_NAME_LEN])
{
    bool same = io->rx == io->tx;

    snprintf(name, TURBOTAP_IO_NAME_LEN, "%s%s%s", io->rx->name,
             same ? "" : ",", same ? "" : io->tx->name);
}
