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
#include <fcntl.h>
#include <liburing.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "turbotap-util.h"

/* IORING_OP_READ_MULTISHOT of Linux 6.7, unknown to liburing 2.3. */
#define OP_READ_MULTISHOT 49

#define SYSCTL_PATH "/proc/sys/kernel/io_uring_disabled"

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

/* Makes a 'ring' with 'entries' submissions and 'n_cqes' completions.  Returns
 * 0 or a positive errno value. */
static int
init_ring(struct io_uring *ring, unsigned int entries, unsigned int n_cqes)
{
    struct io_uring_params params = {
        .flags = (IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL
                  | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG),
        .cq_entries = n_cqes,
    };

    return -io_uring_queue_init_params(entries, ring, &params);
}

/* Makes of 'sqe' a multishot read of 'fd'. */
static void
prep_read(struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_rw(OP_READ_MULTISHOT, sqe, fd, NULL, 0, 0);
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUF_GROUP;
    sqe->user_data = READ_USER_DATA;
}

/* Probing. */

/* Writes into the 'size' octets at 'reason' why making a ring failed with
 * 'error'. */
static void
explain_no_ring(int error, char *reason, size_t size)
{
    FILE *sysctl;
    int disabled;

    if (error == ENOSYS) {
        snprintf(reason, size, "this kernel has no io_uring");
    } else if (error == EINVAL) {
        snprintf(reason, size, "this kernel's io_uring is too old "
                 "(6.7 or later is needed)");
    } else if (error == ENOMEM) {
        snprintf(reason, size, "no memory for a ring (see RLIMIT_MEMLOCK)");
    } else if (error == EPERM) {
        sysctl = fopen(SYSCTL_PATH, "re");
        if (sysctl && fscanf(sysctl, "%d", &disabled) == 1 && disabled) {
            snprintf(reason, size, "disabled by sysctl "
                     "kernel.io_uring_disabled=%d", disabled);
        } else {
            snprintf(reason, size, "this process may not use io_uring "
                     "(a seccomp filter?)");
        }
        if (sysctl) {
            fclose(sysctl);
        }
    } else {
        errno = error;
        snprintf(reason, size, "no ring: %m");
    }
}

/* Returns true if the tap queue 'fd' can be read and written without blocking
 * (FMODE_NOWAIT, since Linux 6.4): otherwise io_uring hands every frame to a
 * worker thread.  If not, returns false and writes why into the 'size' octets
 * at 'reason'.
 *
 * Asks by writing a single octet, which tun refuses as no frame, before it
 * looks any further, with EINVAL.  A file without FMODE_NOWAIT refuses the
 * RWF_NOWAIT before that, with EOPNOTSUPP.  A read would tell the same, but
 * could take a frame. */
static bool
probe_tap(int fd, char *reason, size_t size)
{
    struct iovec iov = { .iov_base = &(char) { 0 }, .iov_len = 1 };
    struct ifreq ifr;

    /* On anything but a tap that octet would go out. */
    if (ioctl(fd, TUNGETIFF, &ifr) < 0 || !(ifr.ifr_flags & IFF_TAP)) {
        snprintf(reason, size, "not a tap queue");
        return false;
    } else if (pwritev2(fd, &iov, 1, -1, RWF_NOWAIT) >= 0) {
        snprintf(reason, size, "the tap took an impossible frame");
        return false;
    } else if (errno == EOPNOTSUPP) {
        snprintf(reason, size, "this kernel's tun driver cannot do "
                 "non-blocking I/O (6.4 or later is needed)");
        return false;
    } else if (errno != EINVAL) {
        snprintf(reason, size, "%m");
        return false;
    }
    return true;
}

/* A multishot read as the probe tries it: of records of this size, in octets,
 * two of which are there before it is armed, and two come afterwards. */
#define RECORD_SIZE 8
#define N_PROBE_BUFS 8          /* A power of 2.  Without any left it ends. */

/* How long the probe waits for what should be there at once, in ns. */
#define PROBE_NS (200 * 1000 * 1000)

/* Writes the records 'first' and 'first' + 1 into the pipe 'fd'.  Returns 0 or
 * a positive errno value. */
static int
write_records(int fd, unsigned int first)
{
    for (unsigned int i = first; i < first + 2; i++) {
        uint8_t record[RECORD_SIZE];

        memset(record, i + 1, sizeof record);
        if (write(fd, record, sizeof record) != sizeof record) {
            return errno;
        }
    }
    return 0;
}

/* Waits for the records 'first' and 'first' + 1 to come out of 'ring', into
 * the next of 'bufs'.  Returns 0, EBADMSG if they do not come as they should,
 * or another positive errno value. */
static int
check_records(struct io_uring *ring, unsigned int first,
              uint8_t bufs[][RECORD_SIZE])
{
    const unsigned int flags = IORING_CQE_F_BUFFER | IORING_CQE_F_MORE;
    struct __kernel_timespec timeout = { .tv_nsec = PROBE_NS };
    unsigned int n_good = 0;
    struct io_uring_cqe *cqe;
    unsigned int head;
    int error;

    do {
        error = -io_uring_wait_cqes(ring, &cqe, 2, &timeout, NULL);
    } while (error == EINTR);
    if (error) {
        return error == ETIME ? EBADMSG : error;
    }

    io_uring_for_each_cqe(ring, head, cqe) {
        unsigned int i = first + n_good;
        uint8_t record[RECORD_SIZE];

        memset(record, i + 1, sizeof record);
        if (n_good >= 2 || cqe->res != RECORD_SIZE
            || (cqe->flags & flags) != flags
            || cqe->flags >> IORING_CQE_BUFFER_SHIFT != i
            || memcmp(bufs[i], record, RECORD_SIZE)) {
            return EBADMSG;
        }
        n_good++;
    }
    io_uring_cq_advance(ring, n_good);
    return n_good == 2 ? 0 : EBADMSG;
}

/* Reads records from a pipe with the multishot read of 'ring', which was just
 * made.  Returns 0 if that works, EBADMSG if not, or another positive errno
 * value if it could not be tried. */
static int
try_multishot_read(struct io_uring *ring)
{
    struct io_uring_buf_reg reg = {
        .bgid = BUF_GROUP,
        .ring_entries = N_PROBE_BUFS,
    };
    uint8_t bufs[N_PROBE_BUFS][RECORD_SIZE];
    struct io_uring_buf_ring *buf_ring;
    int error;
    int fds[2];

    /* A pipe, as a tap, can be polled and read without blocking. */
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC)) {
        return errno;
    }
    error = posix_memalign((void **) &buf_ring, getpagesize(), getpagesize());
    if (error) {
        goto out_close;
    }
    memset(buf_ring, 0, getpagesize());
    reg.ring_addr = (uintptr_t) buf_ring;
    error = -io_uring_register_buf_ring(ring, &reg, 0);
    if (error) {
        goto out_free;
    }
    for (unsigned int i = 0; i < N_PROBE_BUFS; i++) {
        io_uring_buf_ring_add(buf_ring, bufs[i], RECORD_SIZE, i,
                              N_PROBE_BUFS - 1, i);
    }
    io_uring_buf_ring_advance(buf_ring, N_PROBE_BUFS);

    error = write_records(fds[1], 0);
    if (error) {
        goto out_unregister;
    }
    prep_read(io_uring_get_sqe(ring), fds[0]);
    error = -io_uring_submit(ring);
    if (error > 0) {
        goto out_unregister;
    }
    error = check_records(ring, 0, bufs);
    if (!error) {
        error = write_records(fds[1], 2);
    }
    if (!error) {
        error = check_records(ring, 2, bufs);
    }

out_unregister:
    /* From now on the read, if it lives on, finds no buffer. */
    io_uring_unregister_buf_ring(ring, BUF_GROUP);
out_free:
    free(buf_ring);
out_close:
    close(fds[0]);
    close(fds[1]);
    return error;
}

/* Returns 0 if the kernel of 'ring', which was just made, has a multishot
 * read, EOPNOTSUPP if not, or another positive errno value if that could not
 * be found out. */
static int
look_for_multishot_read(struct io_uring *ring)
{
    const unsigned int n_ops = 256;
    struct io_uring_probe *probe;
    int error;

    probe = turbotap_zalloc(sizeof *probe + n_ops * sizeof *probe->ops);
    if (!probe) {
        return ENOMEM;
    }
    error = -io_uring_register_probe(ring, probe, n_ops);
    if (error == EINVAL
        || (!error && !io_uring_opcode_supported(probe, OP_READ_MULTISHOT))) {
        error = EOPNOTSUPP;
    }
    free(probe);
    return error;
}

/* Returns true if this kernel's multishot read does what it should: not all
 * that have one do.  If not, returns false and writes why into the 'size'
 * octets at 'reason'.  'ring' was just made, and is only good to be destroyed
 * afterwards. */
static bool
probe_multishot_read(struct io_uring *ring, char *reason, size_t size)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static bool known;
    static int result;
    int error;

    pthread_mutex_lock(&mutex);
    if (!known) {
        result = look_for_multishot_read(ring);
        if (!result) {
            result = try_multishot_read(ring);
        }
        /* Anything else may pass. */
        known = !result || result == EOPNOTSUPP || result == EBADMSG;
    }
    error = result;
    pthread_mutex_unlock(&mutex);

    if (!error) {
        return true;
    } else if (error == EOPNOTSUPP) {
        snprintf(reason, size, "this kernel's io_uring has no multishot read "
                 "(6.7 or later is needed)");
    } else if (error == EBADMSG) {
        snprintf(reason, size, "this kernel's io_uring multishot read is "
                 "broken");
    } else {
        errno = error;
        snprintf(reason, size, "could not try a multishot read: %m");
    }
    return false;
}

static bool
uring_probe(int fd, char *reason, size_t size)
{
    struct io_uring ring;
    bool works;
    int error;

    error = init_ring(&ring, 1, 2 * N_PROBE_BUFS);
    if (error) {
        explain_no_ring(error, reason, size);
        return false;
    }
    works = probe_multishot_read(&ring, reason, size);
    io_uring_queue_exit(&ring);
    return works && (fd < 0 || probe_tap(fd, reason, size));
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
    error = init_ring(&q->ring, TURBOTAP_BURST, 2 * TURBOTAP_BURST);
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
    error = init_ring(&rxq->q.ring, 1, 2 * n_bufs);
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
        prep_read(io_uring_get_sqe(ring), rxq->q.fd);
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
 * write at once, in order: probe_tap() made sure of that.  So waiting for them
 * costs nothing; it is what keeps the promise should one ever be deferred. */
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
    .probe = uring_probe,
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
