/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The I/O class for kernels whose io_uring can read a tap by itself: frames
 * come straight into the caller's buffers, an empty poll looks at shared
 * memory only, and a batch to send costs one system call.  Must not know the
 * other classes.
 *
 * How a frame is received.  The buffers that fill() gets are handed to the
 * kernel in a ring of "provided buffers".  A single multishot read, armed
 * once, takes the next of them for each frame, and posts a completion that
 * names the buffer.  It runs in the thread that armed it (its 'owner'), as
 * task work: when that thread enters the kernel or is interrupted.
 * IORING_SQ_TASKRUN says that there is such work.  The read ends with an
 * error, when it finds no buffer, or when it finds its owner gone.  Its last
 * completion comes without IORING_CQE_F_MORE.
 *
 * How a queue changes threads.  The new thread ends the read of the old one,
 * waits for its last completion, and arms it anew.  Both use the same rings,
 * so all completions stay in order, and a frame that was not read stays in the
 * tap.  That is why the ring has neither IORING_SETUP_SINGLE_ISSUER nor
 * IORING_SETUP_DEFER_TASKRUN: with those, nobody but the owner can end the
 * read, and closing the ring from another thread ends it only some time later.
 * They were measured to save nothing over IORING_SETUP_COOP_TASKRUN.
 *
 * Facts about the kernel are from Linux 6.12, io_uring/{io_uring,rw,poll,kbuf,
 * cancel}.c and drivers/net/tun.c, and from io_uring_enter(2) and
 * io_uring_register(2). */

#include <config.h>

#include "turbotap-queue.h"

#include <errno.h>
#include <liburing.h>
#include <linux/if_ether.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "turbotap-uring.h"
#include "turbotap-util.h"

/* The most buffers of a receive queue, a power of 2.  512 did better than 128
 * here. */
#define MAX_BUFS 512

/* How long to wait for a read to end before asking again, in ns. */
#define END_READ_NS (10 * 1000 * 1000)

#define READ_USER_DATA 1        /* Names the read, to end it. */
#define BUF_GROUP 0             /* Names the ring of provided buffers. */

/* What both directions have.  All there is of a transmit queue. */
struct uring_queue {
    struct turbotap_queue up;   /* Must be first. */
    struct io_uring ring;
    int fd;                     /* The tap's queue, the caller's. */
};

/* A receive queue. */
struct uring_rxq {
    struct uring_queue q;       /* Must be first. */

    bool armed;                 /* The read's last completion is to come, or
                                 * has not been taken yet. */
    bool deleted;               /* The device is no more. */
    const void *owner;          /* The thread that armed the read. */

    struct io_uring_buf_ring *buf_ring; /* Shared with the kernel. */
    unsigned int n_bufs;                /* Of this queue, a power of 2. */
    unsigned int n_taken;               /* So many of it were received into. */
    struct turbotap_buf bufs[MAX_BUFS]; /* By buffer id.  Those whose 'data' is
                                         * null are free. */
    unsigned int n_free;
    uint16_t free_ids[MAX_BUFS];        /* Ids of the free ones. */
};

/* Its address tells threads apart.  A new thread may have that of one that is
 * gone; but then the read ends by itself, instead of taking a frame. */
static _Thread_local char this_thread;

static struct uring_queue *
uring_queue_cast(const struct turbotap_queue *queue)
{
    return (struct uring_queue *) queue;
}

static struct uring_rxq *
uring_rxq_cast(const struct turbotap_queue *queue)
{
    return (struct uring_rxq *) queue;
}

/* Opening and closing. */

static int
open_txq(const struct turbotap_queue_config *config,
         struct turbotap_queue **queuep)
{
    struct uring_queue *q = turbotap_zalloc(sizeof *q);
    int error;

    if (!q) {
        return ENOMEM;
    }
    q->fd = config->fd;
    error = turbotap_uring_init(&q->ring, TURBOTAP_BURST, 2 * TURBOTAP_BURST);
    if (error) {
        goto err_free;
    }

    /* As file 0 of the ring, which saves a tenth per frame. */
    error = -io_uring_register_files(&q->ring, &config->fd, 1);
    if (error) {
        goto err_exit_ring;
    }

    *queuep = &q->up;
    return 0;

err_exit_ring:
    io_uring_queue_exit(&q->ring);
err_free:
    free(q);
    return error;
}

static int
open_rxq(const struct turbotap_queue_config *config,
         struct turbotap_queue **queuep)
{
    struct io_uring_buf_reg reg = { .bgid = BUF_GROUP };
    struct uring_rxq *rxq;
    unsigned int n_bufs;
    int error;

    rxq = turbotap_zalloc(sizeof *rxq);
    if (!rxq) {
        return ENOMEM;
    }
    rxq->q.fd = config->fd;
    n_bufs = MAX_BUFS;
    while (config->max_bufs && n_bufs > 1 && n_bufs > config->max_bufs) {
        n_bufs /= 2;
    }
    for (unsigned int id = 0; id < n_bufs; id++) {
        rxq->free_ids[rxq->n_free++] = id;
    }
    rxq->n_bufs = n_bufs;

    error = posix_memalign((void **) &rxq->buf_ring, getpagesize(),
                           n_bufs * sizeof(struct io_uring_buf));
    if (error) {
        goto err_free;
    }
    memset(rxq->buf_ring, 0, n_bufs * sizeof(struct io_uring_buf));

    /* Each completion that carries a frame holds a buffer until it is read,
     * and there is one more when the read ends: the ring cannot overflow. */
    error = turbotap_uring_init(&rxq->q.ring, 1, 2 * n_bufs);
    if (error) {
        goto err_free_buf_ring;
    }
    reg.ring_addr = (uintptr_t) rxq->buf_ring;
    reg.ring_entries = n_bufs;
    error = -io_uring_register_buf_ring(&rxq->q.ring, &reg, 0);
    if (error) {
        goto err_exit_ring;
    }

    /* For end_read().  If it fails, that takes longer. */
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);

    *queuep = &rxq->q.up;
    return 0;

err_exit_ring:
    io_uring_queue_exit(&rxq->q.ring);
err_free_buf_ring:
    free(rxq->buf_ring);
err_free:
    free(rxq);
    return error;
}

static int
uring_open(const struct turbotap_queue_config *config,
           struct turbotap_queue **queuep)
{
    return (config->direction == TURBOTAP_RX
            ? open_rxq(config, queuep)
            : open_txq(config, queuep));
}

/* Returns true if the kernel is done with the read of 'rxq', whose last
 * completion may still wait in the ring. */
static bool
read_has_ended(const struct uring_rxq *rxq)
{
    const struct io_uring_cq *cq = &rxq->q.ring.cq;
    unsigned int tail = io_uring_smp_load_acquire(cq->ktail);

    if (!rxq->armed) {
        return true;
    }
    return (tail != *cq->khead
            && !(cq->cqes[(tail - 1) & *cq->kring_mask].flags
                 & IORING_CQE_F_MORE));
}

/* Ends the read of 'rxq', whatever thread armed it, and waits until the kernel
 * is done with it.  Its completions stay in the ring. */
static void
end_read(struct uring_rxq *rxq)
{
    struct io_uring_sync_cancel_reg cancel = {
        .addr = READ_USER_DATA,
        .fd = -1,
        .timeout.tv_nsec = END_READ_NS,
    };
    unsigned int n_syscalls = 0;

    while (!read_has_ended(rxq)) {
        struct __kernel_timespec timeout = { .tv_nsec = END_READ_NS };
        struct io_uring *ring = &rxq->q.ring;
        struct io_uring_cqe *cqe;

        /* This leaves the work to the owner, without disturbing it.  It may
         * be running in user space and not enter the kernel for long, so
         * interrupt it: a membarrier does that to all running threads of this
         * process. */
        io_uring_register_sync_cancel(ring, &cancel);
        if (rxq->owner != &this_thread) {
            syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
        }
        if (!read_has_ended(rxq)) {
            io_uring_wait_cqes(ring, &cqe, io_uring_cq_ready(ring) + 1,
                               &timeout, NULL);
        }
        n_syscalls += 3;
    }
    turbotap_count(&rxq->q.up.counters.syscalls, n_syscalls);
}

static void
uring_close(struct turbotap_queue *queue)
{
    struct uring_queue *q = uring_queue_cast(queue);

    if (queue->direction == TURBOTAP_RX) {
        struct uring_rxq *rxq = uring_rxq_cast(queue);

        /* The read's completion may be visible a little before the read is
         * freed, and with it its reference to the tap.  Unregistering takes
         * the lock that is held until then. */
        end_read(rxq);
        io_uring_unregister_buf_ring(&q->ring, BUF_GROUP);
        free(rxq->buf_ring);
    } else {
        io_uring_unregister_files(&q->ring);
    }
    io_uring_queue_exit(&q->ring);
    free(q);
}

/* Returns true if the read of 'rxq' is to be armed: it is not, and there are
 * buffers for it. */
static bool
must_arm(const struct uring_rxq *rxq)
{
    return (!rxq->armed && !rxq->q.up.stopped && !rxq->deleted
            && rxq->n_free < rxq->n_bufs);
}

static int
uring_poll_fd(const struct turbotap_queue *queue)
{
    /* As long as the read could not be armed, the tap itself has to say that
     * there is reason to try again. */
    return (queue->direction == TURBOTAP_RX && must_arm(uring_rxq_cast(queue))
            ? uring_queue_cast(queue)->fd
            : uring_queue_cast(queue)->ring.ring_fd);
}

/* Receiving. */

/* Arms the read of 'rxq' in this thread, if it must be.  If that fails, for
 * want of memory say, the next call tries again. */
static void
arm_read(struct uring_rxq *rxq)
{
    struct turbotap_queue_counters *c = &rxq->q.up.counters;
    struct io_uring *ring = &rxq->q.ring;

    if (!must_arm(rxq)) {
        return;
    }

    /* One that could not be submitted is still there. */
    if (!io_uring_sq_ready(ring)) {
        turbotap_uring_prep_read(io_uring_get_sqe(ring), rxq->q.fd, BUF_GROUP,
                                 READ_USER_DATA);
    }
    rxq->owner = &this_thread;
    rxq->armed = io_uring_submit(ring) == 1;
    turbotap_count(&c->syscalls, 1);
    if (!rxq->armed) {
        turbotap_count(&c->errors, 1);
    }
}

/* Puts buffer 'id' of 'rxq' into the ring of provided buffers, 'offset' places
 * behind the last one that io_uring_buf_ring_advance() published. */
static void
provide_buf(struct uring_rxq *rxq, unsigned int id, unsigned int offset)
{
    io_uring_buf_ring_add(rxq->buf_ring, rxq->bufs[id].data,
                          rxq->bufs[id].size, id, rxq->n_bufs - 1, offset);
}

static unsigned int
uring_room(const struct turbotap_queue *queue)
{
    return uring_rxq_cast(queue)->n_free;
}

static unsigned int
uring_fill(struct turbotap_queue *queue, const struct turbotap_buf *bufs,
           unsigned int n)
{
    struct uring_rxq *rxq = uring_rxq_cast(queue);

    if (n > rxq->n_free) {
        n = rxq->n_free;
    }
    for (unsigned int i = 0; i < n; i++) {
        unsigned int id = rxq->free_ids[--rxq->n_free];

        rxq->bufs[id] = bufs[i];
        provide_buf(rxq, id, i);
    }
    io_uring_buf_ring_advance(rxq->buf_ring, n);
    arm_read(rxq);
    return n;
}

static void
uring_stop(struct turbotap_queue *queue)
{
    end_read(uring_rxq_cast(queue));
}

static unsigned int
uring_reclaim(struct turbotap_queue *queue, struct turbotap_buf *bufs,
              unsigned int n)
{
    struct uring_rxq *rxq = uring_rxq_cast(queue);
    unsigned int n_bufs = 0;

    for (unsigned int id = 0; id < rxq->n_bufs && n_bufs < n; id++) {
        if (rxq->bufs[id].data) {
            bufs[n_bufs++] = rxq->bufs[id];
            rxq->bufs[id].data = NULL;
            rxq->free_ids[rxq->n_free++] = id;
        }
    }
    return n_bufs;
}

static void
uring_trim(struct turbotap_queue *queue)
{
    struct uring_rxq *rxq = uring_rxq_cast(queue);
    const struct io_uring_cqe *cqe;
    unsigned int head;

    /* The next recv() arms it again. */
    end_read(rxq);
    io_uring_for_each_cqe(&rxq->q.ring, head, cqe) {
        if (cqe->res > 0) {
            return;
        }
    }
    for (unsigned int id = 0; id < rxq->n_bufs; id++) {
        if (rxq->bufs[id].data) {
            turbotap_buf_trim(&rxq->bufs[id]);
        }
    }
}

/* Takes note that the read of 'rxq' ended with 'result', a negative errno
 * value or the size of a last frame. */
static void
read_ended(struct uring_rxq *rxq, int result)
{
    rxq->armed = false;
    if (result == -EBADFD) {
        rxq->deleted = true;
    } else if (result == -EFAULT) {
        /* The buffer cannot be written to, and the frame is lost. */
        turbotap_count_drop(&rxq->q.up, TURBOTAP_DROP_OTHER);
    } else if (result < 0 && result != -ENOBUFS && result != -ECANCELED) {
        turbotap_count(&rxq->q.up.counters.errors, 1);
    }
}

/* Takes up to 'n' completions of 'rxq', stores the frames among them in 'bufs'
 * and their number in '*n_rx', and arms the read if it ended.  Returns the
 * number of completions. */
static unsigned int
take_completions(struct uring_rxq *rxq, struct turbotap_buf *bufs,
                 unsigned int n, unsigned int *n_rx)
{
    struct turbotap_queue *queue = &rxq->q.up;
    struct io_uring *ring = &rxq->q.ring;
    const struct io_uring_cqe *cqe;
    unsigned int n_seen = 0;
    unsigned int n_good = 0;
    unsigned int n_bad = 0;
    unsigned int head;

    io_uring_for_each_cqe(ring, head, cqe) {
        if (n_seen >= n) {
            break;
        }
        n_seen++;

        if (cqe->flags & IORING_CQE_F_BUFFER) {
            unsigned int id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            struct turbotap_buf *buf = &rxq->bufs[id];

            rxq->n_taken++;
            if (cqe->res >= 0 && (uint32_t) cqe->res == buf->size) {
                /* tun cuts a frame to the buffer without a word, so one that
                 * fills it has to count as cut. */
                turbotap_count_drop(queue, TURBOTAP_DROP_TRUNCATED);
                provide_buf(rxq, id, n_bad++);
            } else if (cqe->res < (int) queue->hdr_len + ETH_HLEN) {
                turbotap_count_drop(queue, TURBOTAP_DROP_SHORT);
                provide_buf(rxq, id, n_bad++);
            } else {
                bufs[n_good] = *buf;
                bufs[n_good++].size = cqe->res;
                buf->data = NULL;
                rxq->free_ids[rxq->n_free++] = id;
            }
        } else if (cqe->res > 0) {
            /* Linux 6.7 to 6.11 may not say where the last frame of a read is
             * (c9d952b9103b, "io_uring/rw: fix cflags posting for single issue
             * multishot read").  It must be in the next buffer, but do not
             * give out a frame on a guess. */
            unsigned int i = rxq->n_taken++ & (rxq->n_bufs - 1);

            turbotap_count_drop(queue, TURBOTAP_DROP_OTHER);
            provide_buf(rxq, rxq->buf_ring->bufs[i].bid, n_bad++);
        }
        if (!(cqe->flags & IORING_CQE_F_MORE)) {
            read_ended(rxq, cqe->res);
        }
    }
    if (n_bad) {
        io_uring_buf_ring_advance(rxq->buf_ring, n_bad);
    }
    io_uring_cq_advance(ring, n_seen);
    *n_rx = n_good;
    arm_read(rxq);
    return n_seen;
}

static int
uring_recv(struct turbotap_queue *queue, struct turbotap_buf *bufs,
           unsigned int n, unsigned int *n_rx)
{
    struct uring_rxq *rxq = uring_rxq_cast(queue);
    struct io_uring *ring = &rxq->q.ring;
    unsigned int n_seen;

    if (__builtin_expect(rxq->owner != &this_thread, 0)) {
        end_read(rxq);
    }

    if (!io_uring_cq_ready(ring)) {
        if (IO_URING_READ_ONCE(*ring->sq.kflags)
            & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
            if (io_uring_get_events(ring) < 0) {
                turbotap_count(&queue->counters.errors, 1);
            }
            turbotap_count(&queue->counters.syscalls, 1);
        } else if (rxq->armed) {
            return EAGAIN;
        }
    }

    n_seen = take_completions(rxq, bufs, n, n_rx);
    if (!*n_rx && n_seen && io_uring_cq_ready(ring)) {
        /* All there was to take was the end of the read, which is armed again
         * and has read whatever waited in the meantime. */
        take_completions(rxq, bufs, n, n_rx);
    }
    if (*n_rx) {
        return 0;
    }
    return rxq->deleted ? EBADFD : n_seen ? 0 : EAGAIN;
}

/* Sending. */

/* Takes back the submissions that the kernel did not take off the 'ring'.
 * Returns their number. */
static unsigned int
withdraw_sqes(struct io_uring *ring)
{
    struct io_uring_sq *sq = &ring->sq;
    unsigned int n = io_uring_sq_ready(ring);
    unsigned int head = io_uring_smp_load_acquire(sq->khead);

    sq->sqe_head = sq->sqe_tail = head;
    io_uring_smp_store_release(sq->ktail, head);
    return n;
}

/* Sends the 'n' frames in 'bufs', at most TURBOTAP_BURST, and returns when the
 * kernel is done with all of them.  Returns 0, or a positive errno value if no
 * frame can be sent to the device any more.
 *
 * RWF_NOWAIT makes tun take its non-blocking path, and io_uring complete each
 * write at once, in order: turbotap_uring_probe() made sure of that.  So
 * waiting for them costs nothing; it is what keeps the promise should one ever
 * be deferred. */
static int
send_burst(struct uring_queue *q, struct turbotap_buf *bufs, unsigned int n)
{
    struct io_uring *ring = &q->ring;
    unsigned int n_syscalls = 0;
    unsigned int n_done = 0;
    int device_error = 0;

    for (unsigned int i = 0; i < n; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

        if (bufs[i].n_iov) {
            io_uring_prep_writev(sqe, 0, bufs[i].iov, bufs[i].n_iov, 0);
        } else {
            io_uring_prep_write(sqe, 0, bufs[i].data, bufs[i].size, 0);
        }
        sqe->flags = IOSQE_FIXED_FILE;
        sqe->rw_flags = RWF_NOWAIT;
        sqe->user_data = i;
    }

    while (n_done < n) {
        int retval = io_uring_submit_and_wait(ring, n - n_done);
        const struct io_uring_cqe *cqe;
        unsigned int n_cqes = 0;
        unsigned int head;

        n_syscalls++;
        io_uring_for_each_cqe(ring, head, cqe) {
            struct turbotap_buf *buf = &bufs[cqe->user_data];

            buf->error = cqe->res < 0 ? -cqe->res : 0;
            if (buf->error == EIO || buf->error == EBADFD) {
                device_error = buf->error;
            }
            n_cqes++;
        }
        io_uring_cq_advance(ring, n_cqes);
        n_done += n_cqes;

        if (retval < 0 && retval != -EINTR && !n_cqes) {
            /* The kernel takes no more of them: these come last. */
            for (unsigned int left = withdraw_sqes(ring); left; left--) {
                bufs[n - left].error = -retval;
                n_done++;
            }
        }
    }
    turbotap_count(&q->up.counters.syscalls, n_syscalls);
    return device_error;
}

static void
uring_send(struct turbotap_queue *queue, struct turbotap_buf *bufs,
           unsigned int n)
{
    struct uring_queue *q = uring_queue_cast(queue);
    int device_error = 0;

    if (n == 1) {
        /* Without the ring, which costs more than it saves. */
        turbotap_count(&queue->counters.syscalls,
                       turbotap_buf_write(bufs, q->fd));
        return;
    }
    while (n) {
        unsigned int burst = n < TURBOTAP_BURST ? n : TURBOTAP_BURST;

        if (!device_error) {
            device_error = send_burst(q, bufs, burst);
        } else {
            for (unsigned int i = 0; i < burst; i++) {
                bufs[i].error = device_error;
            }
        }
        bufs += burst;
        n -= burst;
    }
}

const struct turbotap_io_class turbotap_io_uring = {
    .name = "uring",
    .probe = turbotap_uring_probe,
    .open = uring_open,
    .close = uring_close,
    .poll_fd = uring_poll_fd,
    .fill = uring_fill,
    .room = uring_room,
    .recv = uring_recv,
    .stop = uring_stop,
    .reclaim = uring_reclaim,
    .trim = uring_trim,
    .send = uring_send,
};
