/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O class that works everywhere: read() and write() on the tap queue,
 * one system call per frame.  Must not know the other classes. */

#include <config.h>

#include "turbotap-queue.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <unistd.h>

#include "turbotap-util.h"

struct rw_queue {
    struct turbotap_queue up;   /* Must be first. */
    int fd;                     /* The tap's queue, the caller's. */
    struct turbotap_buf_stack empty;
};

static struct rw_queue *
rw_queue_cast(const struct turbotap_queue *queue)
{
    return (struct rw_queue *) queue;
}

static bool
rw_probe(int fd, char *reason, size_t size)
{
    (void) fd;
    (void) reason;
    (void) size;
    return true;
}

static int
rw_open(const struct turbotap_queue_config *config,
        struct turbotap_queue **queuep)
{
    struct rw_queue *rw = turbotap_zalloc(sizeof *rw);

    if (!rw) {
        return ENOMEM;
    }
    rw->fd = config->fd;
    *queuep = &rw->up;
    return 0;
}

static void
rw_close(struct turbotap_queue *queue)
{
    free(rw_queue_cast(queue));
}

static int
rw_poll_fd(const struct turbotap_queue *queue)
{
    return rw_queue_cast(queue)->fd;
}

static unsigned int
rw_room(const struct turbotap_queue *queue)
{
    return turbotap_buf_stack_room(&rw_queue_cast(queue)->empty);
}

static unsigned int
rw_fill(struct turbotap_queue *queue, const struct turbotap_buf *bufs,
        unsigned int n)
{
    return turbotap_buf_stack_put(&rw_queue_cast(queue)->empty, bufs, n);
}

static unsigned int
rw_reclaim(struct turbotap_queue *queue, struct turbotap_buf *bufs,
           unsigned int n)
{
    return turbotap_buf_stack_take(&rw_queue_cast(queue)->empty, bufs, n);
}

static void
rw_trim(struct turbotap_queue *queue)
{
    turbotap_buf_stack_trim(&rw_queue_cast(queue)->empty);
}

static int
rw_recv(struct turbotap_queue *queue, struct turbotap_buf *bufs,
        unsigned int n, unsigned int *n_rx)
{
    struct rw_queue *rw = rw_queue_cast(queue);
    struct turbotap_buf_stack *empty = &rw->empty;
    unsigned int n_syscalls = 0;
    unsigned int n_good = 0;
    int error = 0;

    /* Bad frames count against the batch, too: a flood of them must not keep
     * the thread here. */
    while (n_syscalls < n && empty->n) {
        struct turbotap_buf *buf = &empty->bufs[empty->n - 1];
        ssize_t retval = read(rw->fd, buf->data, buf->size);

        n_syscalls++;
        if (retval < 0) {
            if (errno == EINTR) {
                continue;
            }
            error = errno;
            break;
        } else if (retval == buf->size) {
            /* tun cuts a frame to the buffer without a word, so one that
             * fills it has to count as cut. */
            turbotap_count_drop(queue, TURBOTAP_DROP_TRUNCATED);
        } else if (retval < queue->hdr_len + ETH_HLEN) {
            turbotap_count_drop(queue, TURBOTAP_DROP_SHORT);
        } else {
            bufs[n_good] = *buf;
            bufs[n_good++].size = retval;
            empty->n--;
        }
    }
    turbotap_count(&queue->counters.syscalls, n_syscalls);
    *n_rx = n_good;
    return n_good ? 0 : error;
}

static void
rw_send(struct turbotap_queue *queue, struct turbotap_buf *bufs,
        unsigned int n)
{
    struct rw_queue *rw = rw_queue_cast(queue);
    unsigned int n_syscalls = 0;
    int device_error = 0;

    for (unsigned int i = 0; i < n; i++) {
        struct turbotap_buf *buf = &bufs[i];

        if (device_error) {
            buf->error = device_error;
            continue;
        }
        n_syscalls += turbotap_buf_write(buf, rw->fd);
        if (buf->error == EIO || buf->error == EBADFD) {
            device_error = buf->error;
        }
    }
    turbotap_count(&queue->counters.syscalls, n_syscalls);
}

const struct turbotap_io_class turbotap_io_rw = {
    .name = "rw",
    .recv_is_syscall = true,
    .probe = rw_probe,
    .open = rw_open,
    .close = rw_close,
    .poll_fd = rw_poll_fd,
    .fill = rw_fill,
    .room = rw_room,
    .recv = rw_recv,
    .reclaim = rw_reclaim,
    .trim = rw_trim,
    .send = rw_send,
};
