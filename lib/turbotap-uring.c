/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What this kernel's io_uring can do, found out by trying it.  Must not know
 * what the I/O class does with it. */

#include <config.h>

#include "turbotap-uring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "turbotap-util.h"

/* IORING_OP_READ_MULTISHOT of Linux 6.7, unknown to liburing 2.3. */
#define OP_READ_MULTISHOT 49

#define SYSCTL_PATH "/proc/sys/kernel/io_uring_disabled"

/* A multishot read as the probe tries it: of records of this size, in octets,
 * two of which are there before it is armed, and two come afterwards. */
#define RECORD_SIZE 8
#define N_PROBE_BUFS 8          /* A power of 2.  Without any left it ends. */

/* How long the probe waits for what should be there at once, in ns. */
#define PROBE_NS (200 * 1000 * 1000)

#define BUF_GROUP 0             /* Names the ring of provided buffers. */

int
turbotap_uring_init(struct io_uring *ring, unsigned int entries,
                    unsigned int n_cqes)
{
    struct io_uring_params params = {
        .flags = (IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL
                  | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG),
        .cq_entries = n_cqes,
    };

    return -io_uring_queue_init_params(entries, ring, &params);
}

void
turbotap_uring_prep_read(struct io_uring_sqe *sqe, int fd,
                         unsigned int buf_group, uint64_t user_data)
{
    io_uring_prep_rw(OP_READ_MULTISHOT, sqe, fd, NULL, 0, 0);
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = buf_group;
    sqe->user_data = user_data;
}

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
    turbotap_uring_prep_read(io_uring_get_sqe(ring), fds[0], BUF_GROUP, 0);
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

bool
turbotap_uring_probe(int fd, char *reason, size_t size)
{
    struct io_uring ring;
    bool works;
    int error;

    error = turbotap_uring_init(&ring, 1, 2 * N_PROBE_BUFS);
    if (error) {
        explain_no_ring(error, reason, size);
        return false;
    }
    works = probe_multishot_read(&ring, reason, size);
    io_uring_queue_exit(&ring);
    return works && (fd < 0 || probe_tap(fd, reason, size));
}
