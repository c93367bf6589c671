/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O class for a tap queue that has a socket, which the kernel module
 * turbotap gives it: a batch costs one recvmmsg() or sendmmsg().  Must not
 * know the other classes, but that a newer module has more. */

#include <config.h>

#include "turbotap-queue.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "turbotap-module.h"
#include "turbotap-util.h"

struct socket_queue {
    struct turbotap_queue up;   /* Must be first. */
    int fd;                     /* The socket, ours. */

    /* One message per slot.  A transmit queue fills them in for each batch.
     * Of a receive queue, the slots from 'first' on hold empty buffers, ready
     * for recvmmsg(); those before it are free. */
    unsigned int first;
    struct turbotap_buf bufs[TURBOTAP_BURST];
    struct iovec iovs[TURBOTAP_BURST];
    struct mmsghdr msgs[TURBOTAP_BURST];
};

static struct socket_queue *
socket_queue_cast(const struct turbotap_queue *queue)
{
    return (struct socket_queue *) queue;
}

static bool
socket_probe(int fd, char *reason, size_t size)
{
    int error;
    int opened;

    error = (fd >= 0
             ? turbotap_module_socket(fd, &opened, reason, size)
             : turbotap_module_open(&opened, reason, size));
    if (error) {
        return false;
    }
    close(opened);
    return true;
}

static int
socket_open(const struct turbotap_queue_config *config,
            struct turbotap_queue **queuep)
{
    char reason[TURBOTAP_REASON_LEN];
    struct socket_queue *sq;
    int error;

    sq = turbotap_zalloc(sizeof *sq);
    if (!sq) {
        return ENOMEM;
    }
    error = turbotap_module_socket(config->fd, &sq->fd, reason, sizeof reason);
    if (error) {
        free(sq);
        return error;
    }

    sq->first = TURBOTAP_BURST;
    for (int i = 0; i < TURBOTAP_BURST; i++) {
        sq->msgs[i].msg_hdr.msg_iov = &sq->iovs[i];
        sq->msgs[i].msg_hdr.msg_iovlen = 1;
    }
    *queuep = &sq->up;
    return 0;
}

static void
socket_close(struct turbotap_queue *queue)
{
    struct socket_queue *sq = socket_queue_cast(queue);

    close(sq->fd);
    free(sq);
}

static int
socket_poll_fd(const struct turbotap_queue *queue)
{
    return socket_queue_cast(queue)->fd;
}

static unsigned int
socket_room(const struct turbotap_queue *queue)
{
    return socket_queue_cast(queue)->first;
}

/* Puts the empty 'buf' into a free slot of 'sq'. */
static void
put_buf(struct socket_queue *sq, const struct turbotap_buf *buf)
{
    unsigned int i = --sq->first;

    sq->bufs[i] = *buf;
    sq->iovs[i].iov_base = buf->data;
    sq->iovs[i].iov_len = buf->size;
}

static unsigned int
socket_fill(struct turbotap_queue *queue, const struct turbotap_buf *bufs,
            unsigned int n)
{
    struct socket_queue *sq = socket_queue_cast(queue);
    unsigned int i;

    for (i = 0; i < n && sq->first; i++) {
        put_buf(sq, &bufs[i]);
    }
    return i;
}

static unsigned int
socket_reclaim(struct turbotap_queue *queue, struct turbotap_buf *bufs,
               unsigned int n)
{
    struct socket_queue *sq = socket_queue_cast(queue);
    unsigned int i;

    for (i = 0; i < n && sq->first < TURBOTAP_BURST; i++) {
        bufs[i] = sq->bufs[sq->first++];
    }
    return i;
}

static void
socket_trim(struct turbotap_queue *queue)
{
    struct socket_queue *sq = socket_queue_cast(queue);

    for (unsigned int i = sq->first; i < TURBOTAP_BURST; i++) {
        turbotap_buf_trim(&sq->bufs[i]);
    }
}

static int
socket_recv(struct turbotap_queue *queue, struct turbotap_buf *bufs,
            unsigned int n, unsigned int *n_rx)
{
    struct socket_queue *sq = socket_queue_cast(queue);
    struct turbotap_buf bad[TURBOTAP_BURST];
    unsigned int n_good = 0;
    unsigned int n_bad = 0;
    unsigned int end;
    int retval;

    if (n > TURBOTAP_BURST - sq->first) {
        n = TURBOTAP_BURST - sq->first;
    }
    if (!n) {
        return EAGAIN;
    }

    do {
        /* Never with a timeout, which recvmmsg() looks at only after each
         * datagram (recvmmsg(2), BUGS). */
        retval = recvmmsg(sq->fd, &sq->msgs[sq->first], n, MSG_DONTWAIT, NULL);
        turbotap_count(&queue->counters.syscalls, 1);
    } while (retval < 0 && errno == EINTR);
    if (retval < 0) {
        return errno;
    }

    for (end = sq->first + retval; sq->first < end; sq->first++) {
        const struct mmsghdr *msg = &sq->msgs[sq->first];
        const struct turbotap_buf *buf = &sq->bufs[sq->first];

        if (msg->msg_hdr.msg_flags & MSG_TRUNC) {
            turbotap_count_drop(queue, TURBOTAP_DROP_TRUNCATED);
            bad[n_bad++] = *buf;
        } else if (msg->msg_len < queue->hdr_len + ETH_HLEN) {
            turbotap_count_drop(queue, TURBOTAP_DROP_SHORT);
            bad[n_bad++] = *buf;
        } else {
            bufs[n_good] = *buf;
            bufs[n_good++].size = msg->msg_len;
        }
    }
    while (n_bad) {
        put_buf(sq, &bad[--n_bad]);
    }
    *n_rx = n_good;
    return 0;
}

/* Sends the 'n' frames in 'bufs', at most TURBOTAP_BURST.  Returns 0, or a
 * positive errno value if no frame can be sent to the device any more. */
static int
send_burst(struct socket_queue *sq, struct turbotap_buf *bufs, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        struct msghdr *msg = &sq->msgs[i].msg_hdr;

        if (bufs[i].n_iov) {
            msg->msg_iov = bufs[i].iov;
            msg->msg_iovlen = bufs[i].n_iov;
        } else {
            sq->iovs[i].iov_base = bufs[i].data;
            sq->iovs[i].iov_len = bufs[i].size;
            msg->msg_iov = &sq->iovs[i];
            msg->msg_iovlen = 1;
        }
    }

    /* sendmmsg() stops at a frame that fails, and says why only when that
     * frame comes first. */
    i = 0;
    while (i < n) {
        int retval = sendmmsg(sq->fd, &sq->msgs[i], n - i, MSG_DONTWAIT);
        int error = retval < 0 ? errno : 0;

        turbotap_count(&sq->up.counters.syscalls, 1);
        if (error == EINTR) {
            continue;
        } else if (error) {
            bufs[i++].error = error;
            if (error == EIO || error == EBADFD) {
                while (i < n) {
                    bufs[i++].error = error;
                }
                return error;
            }
        }
        for (; retval > 0; retval--) {
            bufs[i++].error = 0;
        }
    }
    return 0;
}

static void
socket_send(struct turbotap_queue *queue, struct turbotap_buf *bufs,
            unsigned int n)
{
    struct socket_queue *sq = socket_queue_cast(queue);
    int device_error = 0;

    while (n) {
        unsigned int burst = n < TURBOTAP_BURST ? n : TURBOTAP_BURST;

        if (!device_error) {
            device_error = send_burst(sq, bufs, burst);
        } else {
            for (unsigned int i = 0; i < burst; i++) {
                bufs[i].error = device_error;
            }
        }
        bufs += burst;
        n -= burst;
    }
}

const struct turbotap_io_class turbotap_io_socket = {
    .name = "socket",
    .better = &turbotap_io_ring,
    .recv_is_syscall = true,
    .probe = socket_probe,
    .module_version = turbotap_module_version,
    .open = socket_open,
    .close = socket_close,
    .poll_fd = socket_poll_fd,
    .fill = socket_fill,
    .room = socket_room,
    .recv = socket_recv,
    .reclaim = socket_reclaim,
    .trim = socket_trim,
    .send = socket_send,
};
