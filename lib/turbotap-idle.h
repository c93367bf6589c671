/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Idle receive queues.
 *
 * Where an empty receive costs a system call, a thread that polls many quiet
 * queues has no time left for its busy one.  So the queues in which a thread
 * found nothing a few times wait in an epoll set of that thread, which one
 * system call asks for all of them, once in each round of the thread over its
 * queues.  As no queue is asked less often than before, waiting there costs no
 * latency, but for the system call that takes a queue out again.
 *
 * turbotap-queue.c alone uses this, for I/O classes with 'recv_is_syscall'. */

#ifndef TURBOTAP_IDLE_H
#define TURBOTAP_IDLE_H 1

#include <stdbool.h>
#include <stdint.h>

struct turbotap_queue;

/* What a queue has to do with the above.  All zeros to begin with.
 *
 * Locking: only the thread that uses the queue touches this, but for 'ready',
 * which the mutex of 'set' protects, too. */
struct turbotap_idle {
    struct turbotap_idle_set *set;  /* Of the thread that last found nothing
                                     * in the queue, NULL: of none yet. */
    bool armed;                 /* Is it in the epoll set? */
    bool ready;                 /* If so: has it got something since? */
    uint32_t round;             /* If so: of 'set', when it was last polled. */
    unsigned int n_empty;       /* If not: how often in a row it had
                                 * nothing. */
};

/* Returns true if 'queue' may have something to receive, false if it is known
 * to have been empty less than one round ago. */
bool turbotap_idle_may_recv(struct turbotap_queue *queue);

/* Takes note that 'queue' had nothing, or something, to receive. */
void turbotap_idle_empty(struct turbotap_queue *queue);
static inline void
turbotap_idle_busy(struct turbotap_idle *idle)
{
    idle->n_empty = 0;
}

/* Makes the next turbotap_idle_may_recv() return true. */
void turbotap_idle_wake(struct turbotap_queue *queue);

/* Ends all this for 'queue', which is about to be closed. */
void turbotap_idle_leave(struct turbotap_queue *queue);

#endif /* turbotap-idle.h */
