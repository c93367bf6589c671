/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What all I/O classes have in common: the counters, and the memory that a
 * device has been deleted.  Must not know how any of them moves a frame. */

#include <config.h>

#include "turbotap-queue.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* MADV_DONTNEED_LOCKED of Linux 5.18, unknown to older headers. */
#define DONTNEED_LOCKED 24

int
turbotap_queue_open(const struct turbotap_io_class *class,
                    const struct turbotap_queue_config *config,
                    struct turbotap_queue **queuep)
{
    struct turbotap_queue *queue;
    int error;

    *queuep = NULL;
    error = class->open(config, &queue);
    if (error) {
        return error;
    }

    memset(queue, 0, sizeof *queue);
    queue->class = class;
    queue->direction = config->direction;
    queue->hdr_len = config->hdr_len;
    *queuep = queue;
    return 0;
}

void
turbotap_queue_close(struct turbotap_queue *queue)
{
    if (queue) {
        turbotap_idle_leave(queue);
        queue->class->close(queue);
    }
}

int
turbotap_queue_poll_fd(const struct turbotap_queue *queue)
{
    return queue->class->poll_fd(queue);
}

unsigned int
turbotap_queue_fill(struct turbotap_queue *queue,
                    const struct turbotap_buf *bufs, unsigned int n)
{
    return queue->class->fill(queue, bufs, n);
}

unsigned int
turbotap_queue_room(const struct turbotap_queue *queue)
{
    return queue->class->room(queue);
}

int
turbotap_queue_recv(struct turbotap_queue *queue, struct turbotap_buf *bufs,
                    unsigned int n, unsigned int *n_rx)
{
    struct turbotap_queue_counters *c = &queue->counters;
    uint64_t bytes = 0;
    int error;

    *n_rx = 0;
    if (__builtin_expect(queue->gone, 0)) {
        return queue->gone;
    }

    if (queue->class->recv_is_syscall
        && (queue->stopped || !turbotap_idle_may_recv(queue))) {
        turbotap_count(&c->empty_polls, 1);
        return EAGAIN;
    }

    error = queue->class->recv(queue, bufs, n, n_rx);
    if (!*n_rx) {
        turbotap_count(&c->empty_polls, 1);
        if (error == EBADFD) {
            error = queue->gone = ENODEV;
        } else if (error && error != EAGAIN) {
            turbotap_count_drop(queue, TURBOTAP_DROP_OTHER);
        } else if (error && queue->class->recv_is_syscall) {
            turbotap_idle_empty(queue);
        }
        return error ? error : EAGAIN;
    }

    turbotap_idle_busy(&queue->idle);
    for (unsigned int i = 0; i < *n_rx; i++) {
        bytes += bufs[i].size;
    }
    turbotap_count(&c->packets, *n_rx);
    turbotap_count(&c->bytes, bytes - *n_rx * (uint64_t) queue->hdr_len);
    turbotap_count(&c->batches, 1);
    return 0;
}

void
turbotap_queue_wake(struct turbotap_queue *queue)
{
    turbotap_idle_wake(queue);
}

void
turbotap_queue_stop(struct turbotap_queue *queue)
{
    if (!queue->stopped) {
        queue->stopped = true;
        if (queue->class->stop) {
            queue->class->stop(queue);
        }
    }
}

void
turbotap_queue_trim(struct turbotap_queue *queue)
{
    queue->class->trim(queue);
}

unsigned int
turbotap_queue_reclaim(struct turbotap_queue *queue, struct turbotap_buf *bufs,
                       unsigned int n)
{
    turbotap_queue_stop(queue);
    return queue->class->reclaim(queue, bufs, n);
}

/* Returns what to count a frame as that was not sent because of 'error'. */
static enum turbotap_drop
drop_from_send_error(int error)
{
    switch (error) {
    case EIO:
        return TURBOTAP_DROP_LINK_DOWN;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return TURBOTAP_DROP_NO_BUFFER;
    case EINVAL:
    case EMSGSIZE:
        return TURBOTAP_DROP_INVALID;
    case EBADFD:
    case ENODEV:
        return TURBOTAP_DROP_GONE;
    default:
        return TURBOTAP_DROP_OTHER;
    }
}

unsigned int
turbotap_queue_send(struct turbotap_queue *queue, struct turbotap_buf *bufs,
                    unsigned int n)
{
    struct turbotap_queue_counters *c = &queue->counters;
    unsigned int n_sent = 0;
    uint64_t bytes = 0;

    if (__builtin_expect(queue->gone, 0)) {
        for (unsigned int i = 0; i < n; i++) {
            bufs[i].error = queue->gone;
        }
    } else {
        queue->class->send(queue, bufs, n);
    }

    for (unsigned int i = 0; i < n; i++) {
        if (__builtin_expect(!bufs[i].error, 1)) {
            n_sent++;
            bytes += bufs[i].size;
        } else {
            turbotap_count_drop(queue, drop_from_send_error(bufs[i].error));
            if (bufs[i].error == EBADFD) {
                queue->gone = ENODEV;
            }
        }
    }
    if (n_sent) {
        turbotap_count(&c->packets, n_sent);
        turbotap_count(&c->bytes, bytes - n_sent * (uint64_t) queue->hdr_len);
        turbotap_count(&c->batches, 1);
    }
    return n_sent;
}

void
turbotap_queue_count_gso(struct turbotap_queue *queue,
                         const struct turbotap_buf *buf, unsigned int n,
                         uint64_t bytes)
{
    struct turbotap_queue_counters *c = &queue->counters;

    if (queue->direction == TURBOTAP_TX && buf->error) {
        turbotap_count(&c->drops[drop_from_send_error(buf->error)], n - 1);
        return;
    }
    turbotap_count(&c->packets, n - 1);
    turbotap_count(&c->bytes, bytes - (buf->size - queue->hdr_len));
    turbotap_count(&c->gso_frames, 1);
    turbotap_count(&c->gso_packets, n);
}

void
turbotap_queue_drop_received(struct turbotap_queue *queue, unsigned int n,
                             uint64_t bytes, enum turbotap_drop drop)
{
    turbotap_count(&queue->counters.packets, -(uint64_t) n);
    turbotap_count(&queue->counters.bytes, -bytes);
    turbotap_count(&queue->counters.drops[drop], n);
}

void
turbotap_queue_retract_drop(struct turbotap_queue *queue,
                            const struct turbotap_buf *buf)
{
    turbotap_count(&queue->counters.drops[drop_from_send_error(buf->error)],
                   -1);
}

unsigned int
turbotap_buf_stack_put(struct turbotap_buf_stack *stack,
                       const struct turbotap_buf *bufs, unsigned int n)
{
    unsigned int room = turbotap_buf_stack_room(stack);

    if (n > room) {
        n = room;
    }
    memcpy(&stack->bufs[stack->n], bufs, n * sizeof *bufs);
    stack->n += n;
    return n;
}

unsigned int
turbotap_buf_stack_room(const struct turbotap_buf_stack *stack)
{
    return TURBOTAP_BURST - stack->n;
}

unsigned int
turbotap_buf_stack_take(struct turbotap_buf_stack *stack,
                        struct turbotap_buf *bufs, unsigned int n)
{
    if (n > stack->n) {
        n = stack->n;
    }
    stack->n -= n;
    memcpy(bufs, &stack->bufs[stack->n], n * sizeof *bufs);
    return n;
}

void
turbotap_buf_stack_trim(const struct turbotap_buf_stack *stack)
{
    for (unsigned int i = 0; i < stack->n; i++) {
        turbotap_buf_trim(&stack->bufs[i]);
    }
}

void
turbotap_buf_trim(const struct turbotap_buf *buf)
{
    uintptr_t page = getpagesize();
    uintptr_t start = ((uintptr_t) buf->data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t) buf->data + buf->size) / page * page;

    if (start < end
        && madvise((void *) start, end - start, DONTNEED_LOCKED)) {
        madvise((void *) start, end - start, MADV_DONTNEED);
    }
}

unsigned int
turbotap_buf_write(struct turbotap_buf *buf, int fd)
{
    unsigned int n_syscalls = 0;
    ssize_t retval;

    do {
        retval = (buf->n_iov
                  ? writev(fd, buf->iov, buf->n_iov)
                  : write(fd, buf->data, buf->size));
        n_syscalls++;
    } while (retval < 0 && errno == EINTR);
    buf->error = retval < 0 ? errno : 0;
    return n_syscalls;
}

static uint64_t
read_counter(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void
turbotap_queue_get_stats(const struct turbotap_queue *queue,
                         struct turbotap_queue_stats *stats)
{
    const struct turbotap_queue_counters *c = &queue->counters;

    stats->packets = read_counter(&c->packets);
    stats->bytes = read_counter(&c->bytes);
    stats->gso_frames = read_counter(&c->gso_frames);
    stats->gso_packets = read_counter(&c->gso_packets);
    stats->batches = read_counter(&c->batches);
    stats->empty_polls = read_counter(&c->empty_polls);
    stats->syscalls = read_counter(&c->syscalls);
    stats->errors = read_counter(&c->errors);
    for (int i = 0; i < TURBOTAP_N_DROPS; i++) {
        stats->drops[i] = read_counter(&c->drops[i]);
    }
}

const char *
turbotap_drop_to_string(enum turbotap_drop drop)
{
    switch (drop) {
    case TURBOTAP_DROP_TRUNCATED:
        return "truncated";
    case TURBOTAP_DROP_SHORT:
        return "short";
    case TURBOTAP_DROP_MALFORMED:
        return "malformed";
    case TURBOTAP_DROP_LINK_DOWN:
        return "link_down";
    case TURBOTAP_DROP_NO_BUFFER:
        return "no_buffer";
    case TURBOTAP_DROP_INVALID:
        return "invalid";
    case TURBOTAP_DROP_GONE:
        return "gone";
    case TURBOTAP_DROP_OFFLOAD:
        return "offload";
    case TURBOTAP_DROP_OTHER:
        return "other";
    case TURBOTAP_N_DROPS:
        break;
    }
    return "unknown";
}

bool
turbotap_drop_is_possible(enum turbotap_drop drop,
                          enum turbotap_direction direction)
{
    switch (drop) {
    case TURBOTAP_DROP_TRUNCATED:
    case TURBOTAP_DROP_SHORT:
    case TURBOTAP_DROP_MALFORMED:
        return direction == TURBOTAP_RX;
    case TURBOTAP_DROP_LINK_DOWN:
    case TURBOTAP_DROP_NO_BUFFER:
    case TURBOTAP_DROP_INVALID:
    case TURBOTAP_DROP_GONE:
    case TURBOTAP_DROP_OFFLOAD:
        return direction == TURBOTAP_TX;
    case TURBOTAP_DROP_OTHER:
        return true;
    case TURBOTAP_N_DROPS:
        break;
    }
    return false;
}
