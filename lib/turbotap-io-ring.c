/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O class for a tap queue that has a receive ring, which newer versions
 * of the kernel module turbotap give it: the CPU that sends a frame also puts
 * it into memory, where it is found without a system call.  A batch is sent by
 * one call of the module's own.  Must not know the other classes.
 *
 * A ring has as many entries as chunks, so none of its rings is ever too full
 * for who produces.  The area with both is small, since it is locked, idle or
 * not; what it has no room for waits in the device's own queue. */

#include <config.h>

#include "turbotap-queue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/turbotap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "turbotap-module.h"
#include "turbotap-util.h"

#define TUN_PATH "/dev/net/tun"

#define CHUNK_SIZE 2048         /* Octets. */
#define N_CHUNKS 64             /* A power of 2; the largest frame takes 33. */
#if N_CHUNKS > TURBOTAP_MAX_HELD
#error A ring can hold more frames than its user expects.
#endif

/* What the module's interface says of the layout. */
#define FIRST_CHUNK                                                     \
    ((sizeof(struct turbotap_rings)                                     \
      + N_CHUNKS * (sizeof(uint64_t) + sizeof(struct xdp_desc))         \
      + CHUNK_SIZE - 1) / CHUNK_SIZE * CHUNK_SIZE)

struct ring_queue {
    struct turbotap_queue up;   /* Must be first. */
    int fd;                     /* The socket, ours; -1 after stop(). */

    /* The rest is a receive queue's. */
    uint8_t *area;              /* What is shared with the kernel... */
    size_t size;                /* ...in octets. */
    struct turbotap_rings *rings;
    uint64_t *fill;
    const struct xdp_desc *rx;
    bool primed;                /* Has the fill ring had all chunks? */
    uint32_t fill_producer;     /* Entries put into the fill ring... */
    uint32_t rx_consumer;       /* ...and taken out of the RX ring: both wrap
                                 * after some hours. */
    uint64_t dropped;           /* Of the module's count of lost frames, what
                                 * is in ours. */
    struct turbotap_buf_stack empty;
};

static struct ring_queue *
ring_queue_cast(const struct turbotap_queue *queue)
{
    return (struct ring_queue *) queue;
}

/* What there is to be asked of the module for a ring, but its address. */
static struct turbotap_rx_ring
ring_request(uint32_t hdr_len)
{
    size_t page = getpagesize();
    size_t size = FIRST_CHUNK + N_CHUNKS * CHUNK_SIZE;

    return (struct turbotap_rx_ring) {
        .size = (size + page - 1) / page * page,
        .chunk_size = CHUNK_SIZE,
        .entries = N_CHUNKS,
        .hdr_len = hdr_len,
    };
}

/* Asks whether the module would give the socket 'fd' a ring.  Returns 0, or a
 * positive errno value and writes why into the 'size' octets at 'reason'. */
static int
ask_for_ring(int fd, char *reason, size_t size)
{
    /* There is no memory at this address, which is found out last. */
    const struct turbotap_rx_ring req = ring_request(0);
    int error = ioctl(fd, TURBOTAP_RX_RING, &req) < 0 ? errno : EINVAL;

    switch (error) {
    case EFAULT:
        return 0;
    case EOPNOTSUPP:
        snprintf(reason, size, "module turbotap has no rings");
        break;
    case ENOBUFS:
        snprintf(reason, size, "RLIMIT_MEMLOCK is too low");
        break;
    default:
        errno = error;
        snprintf(reason, size, "no ring: %m");
        break;
    }
    return error;
}

static bool
ring_probe(int fd, char *reason, size_t size)
{
    unsigned int features;
    int error;
    int tun_fd;
    int sock;

    if (fd < 0) {
        tun_fd = open(TUN_PATH, O_RDWR | O_CLOEXEC);
        if (tun_fd < 0) {
            snprintf(reason, size, TUN_PATH ": %m");
            return false;
        }
    } else if (!ioctl(fd, TUNGETFEATURES, &features)) {
        tun_fd = fd;
    } else {
        /* It may be a socket, which is no less, but no more. */
        snprintf(reason, size, "not a tap");
        return false;
    }

    error = turbotap_module_socket(tun_fd, &sock, reason, size);
    if (!error) {
        error = ask_for_ring(sock, reason, size);
        close(sock);
    }
    if (tun_fd != fd) {
        close(tun_fd);
    }
    return !error;
}

/* Gives the socket of 'rq' a receive ring, into which nothing is put before it
 * has empty chunks.  Returns 0 or a positive errno value; what there is to be
 * freed then is left to ring_close(). */
static int
open_ring(struct ring_queue *rq, uint32_t hdr_len)
{
    struct turbotap_rx_ring req = ring_request(hdr_len);
    void *area;

    area = mmap(NULL, req.size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) {
        return errno;
    }
    rq->area = area;
    rq->size = req.size;
    rq->rings = area;
    rq->fill = (uint64_t *) (rq->rings + 1);
    rq->rx = (const struct xdp_desc *) (rq->fill + N_CHUNKS);
    req.addr = (uintptr_t) area;
    if (ioctl(rq->fd, TURBOTAP_RX_RING, &req) < 0) {
        return errno;
    }
    /* A child would have a copy of it, at once, since it is locked. */
    madvise(area, req.size, MADV_DONTFORK);
    return 0;
}

static void
ring_close(struct turbotap_queue *queue)
{
    struct ring_queue *rq = ring_queue_cast(queue);

    if (rq->fd >= 0) {
        close(rq->fd);
    }
    if (rq->area) {
        munmap(rq->area, rq->size);
    }
    free(rq);
}

static int
ring_open(const struct turbotap_queue_config *config,
          struct turbotap_queue **queuep)
{
    struct ring_queue *rq = turbotap_zalloc(sizeof *rq);
    char reason[TURBOTAP_REASON_LEN];
    int error;

    if (!rq) {
        return ENOMEM;
    }
    rq->fd = -1;
    error = turbotap_module_socket(config->fd, &rq->fd, reason, sizeof reason);
    if (!error && config->direction == TURBOTAP_RX) {
        error = open_ring(rq, config->hdr_len);
    }
    if (error) {
        ring_close(&rq->up);
        return error;
    }
    *queuep = &rq->up;
    return 0;
}

static int
ring_poll_fd(const struct turbotap_queue *queue)
{
    return ring_queue_cast(queue)->fd;
}

static unsigned int
ring_room(const struct turbotap_queue *queue)
{
    return turbotap_buf_stack_room(&ring_queue_cast(queue)->empty);
}

static unsigned int
ring_fill(struct turbotap_queue *queue, const struct turbotap_buf *bufs,
          unsigned int n)
{
    struct ring_queue *rq = ring_queue_cast(queue);

    n = turbotap_buf_stack_put(&rq->empty, bufs, n);

    /* From the first time on it takes frames. */
    if (!rq->primed && n) {
        rq->primed = true;
        for (int i = 0; i < N_CHUNKS; i++) {
            rq->fill[rq->fill_producer++ % N_CHUNKS] = (FIRST_CHUNK
                                                        + i * CHUNK_SIZE);
        }
        __atomic_store_n(&rq->rings->fill.producer, rq->fill_producer,
                         __ATOMIC_RELEASE);
    }
    return n;
}

static unsigned int
ring_reclaim(struct turbotap_queue *queue, struct turbotap_buf *bufs,
             unsigned int n)
{
    return turbotap_buf_stack_take(&ring_queue_cast(queue)->empty, bufs, n);
}

static void
ring_trim(struct turbotap_queue *queue)
{
    turbotap_buf_stack_trim(&ring_queue_cast(queue)->empty);
}

/* Takes the next frame out of the RX ring of 'rq', copies as much of it as
 * there is room for to 'buf', and gives its chunks back.  Returns its
 * length. */
static size_t
take_frame(struct ring_queue *rq, const struct turbotap_buf *buf)
{
    size_t length = 0;
    bool more;

    do {
        const struct xdp_desc *desc = &rq->rx[rq->rx_consumer++ % N_CHUNKS];
        size_t room = length < buf->size ? buf->size - length : 0;

        memcpy((uint8_t *) buf->data + length, rq->area + desc->addr,
               desc->len < room ? desc->len : room);
        length += desc->len;
        more = desc->options & TURBOTAP_PKT_CONTD;
        rq->fill[rq->fill_producer++ % N_CHUNKS] = desc->addr;
    } while (more);
    return length;
}

/* Takes up to 'n' frames out of the RX ring of 'rq', for which there are
 * buffers, adds the good ones to the '*n_rx' that there are in 'bufs', and
 * their number to '*n_rx'.  Returns true if there were any. */
static bool
take_frames(struct ring_queue *rq, struct turbotap_buf *bufs, unsigned int n,
            unsigned int *n_rx)
{
    uint32_t producer = __atomic_load_n(&rq->rings->rx.producer,
                                        __ATOMIC_ACQUIRE);
    unsigned int i = *n_rx;

    if (rq->rx_consumer == producer) {
        return false;
    }
    while (i < n && rq->rx_consumer != producer) {
        struct turbotap_buf *buf = &rq->empty.bufs[rq->empty.n - 1];
        size_t length = take_frame(rq, buf);

        if (length > buf->size) {
            turbotap_count_drop(&rq->up, TURBOTAP_DROP_TRUNCATED);
        } else if (length < rq->up.hdr_len + ETH_HLEN) {
            turbotap_count_drop(&rq->up, TURBOTAP_DROP_SHORT);
        } else {
            bufs[i] = *buf;
            bufs[i++].size = length;
            rq->empty.n--;
        }
    }
    __atomic_store_n(&rq->rings->rx.consumer, rq->rx_consumer,
                     __ATOMIC_RELEASE);
    __atomic_store_n(&rq->rings->fill.producer, rq->fill_producer,
                     __ATOMIC_RELEASE);
    *n_rx = i;
    return true;
}

/* Are there frames in the device's own queue? */
static bool
needs_wakeup(const struct ring_queue *rq)
{
    return (__atomic_load_n(&rq->rings->fill.flags, __ATOMIC_RELAXED)
            & TURBOTAP_NEED_WAKEUP
            && rq->fd >= 0);
}

/* Counts the frames of 'rq' that the module has lost since the last call,
 * which tun refused, or which did not fit into the whole ring. */
static void
count_dropped(struct ring_queue *rq)
{
    uint64_t dropped = __atomic_load_n(&rq->rings->rx_dropped,
                                       __ATOMIC_RELAXED);

    if (__builtin_expect(dropped != rq->dropped, 0)) {
        turbotap_count(&rq->up.counters.drops[TURBOTAP_DROP_OTHER],
                       dropped - rq->dropped);
        rq->dropped = dropped;
    }
}

static int
ring_recv(struct turbotap_queue *queue, struct turbotap_buf *bufs,
          unsigned int n, unsigned int *n_rx)
{
    struct ring_queue *rq = ring_queue_cast(queue);
    bool any;

    if (n > rq->empty.n) {
        n = rq->empty.n;
    }
    if (!n) {
        return EAGAIN;
    }

    /* As long as there are frames enough, those that wait are left to the next
     * sender to be put into the ring. */
    any = take_frames(rq, bufs, n, n_rx);
    if (__builtin_expect(*n_rx < n && needs_wakeup(rq), 0)) {
        turbotap_count(&queue->counters.syscalls, 1);
        if (ioctl(rq->fd, TURBOTAP_WAKEUP) < 0) {
            return any ? 0 : errno;
        }
        any |= take_frames(rq, bufs, n, n_rx);
    } else if (!any) {
        return EAGAIN;
    }
    count_dropped(rq);
    return any ? 0 : EAGAIN;
}

static void
ring_stop(struct turbotap_queue *queue)
{
    struct ring_queue *rq = ring_queue_cast(queue);

    /* The frames that are in the ring stay there, since the area does. */
    close(rq->fd);
    rq->fd = -1;
    count_dropped(rq);
}

/* Sends the 'n' frames in 'bufs', at most TURBOTAP_BURST, none of which is in
 * pieces. */
static void
send_whole(struct ring_queue *rq, struct turbotap_buf *bufs, unsigned int n)
{
    struct turbotap_frame frames[TURBOTAP_BURST];
    unsigned int i;

    for (i = 0; i < n; i++) {
        frames[i] = (struct turbotap_frame) {
            .addr = (uintptr_t) bufs[i].data,
            .len = bufs[i].size,
        };
    }
    i = 0;
    while (i < n) {
        const struct turbotap_send req = {
            .frames = (uintptr_t) &frames[i],
            .n = n - i,
        };
        int retval = ioctl(rq->fd, TURBOTAP_SEND, &req);

        turbotap_count(&rq->up.counters.syscalls, 1);
        if (retval <= 0) {
            /* Not possible, but it must not go on for ever. */
            bufs[i++].error = retval < 0 ? errno : EIO;
        }
        for (; retval > 0; retval--, i++) {
            bufs[i].error = -frames[i].error;
        }
    }
}

/* Sends the frame in 'buf', which is in pieces. */
static void
send_pieces(struct ring_queue *rq, struct turbotap_buf *buf)
{
    const struct msghdr msg = {
        .msg_iov = buf->iov,
        .msg_iovlen = buf->n_iov,
    };
    ssize_t retval;

    do {
        retval = sendmsg(rq->fd, &msg, MSG_DONTWAIT);
        turbotap_count(&rq->up.counters.syscalls, 1);
    } while (retval < 0 && errno == EINTR);
    buf->error = retval < 0 ? errno : 0;
}

static void
ring_send(struct turbotap_queue *queue, struct turbotap_buf *bufs,
          unsigned int n)
{
    struct ring_queue *rq = ring_queue_cast(queue);
    int error = 0;

    while (n && error != EIO && error != EBADFD) {
        unsigned int n_whole = 0;

        while (n_whole < n && n_whole < TURBOTAP_BURST
               && !bufs[n_whole].n_iov) {
            n_whole++;
        }
        if (n_whole) {
            send_whole(rq, bufs, n_whole);
        } else {
            send_pieces(rq, bufs);
            n_whole = 1;
        }
        error = bufs[n_whole - 1].error;
        bufs += n_whole;
        n -= n_whole;
    }
    while (n--) {
        bufs++->error = error;
    }
}

const struct turbotap_io_class turbotap_io_ring = {
    .name = "ring",
    .recv_is_syscall = false,
    .holds_frames = true,
    .probe = ring_probe,
    .module_version = turbotap_module_version,
    .open = ring_open,
    .close = ring_close,
    .poll_fd = ring_poll_fd,
    .fill = ring_fill,
    .room = ring_room,
    .recv = ring_recv,
    .stop = ring_stop,
    .reclaim = ring_reclaim,
    .trim = ring_trim,
    .send = ring_send,
};
