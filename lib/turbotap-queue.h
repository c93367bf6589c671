/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* One direction of one queue of a tap device: batches of frames between user
 * space and the kernel.
 *
 * This is the one interface in front of all the ways to move frames (the "I/O
 * classes", one per file turbotap-io-*.c).  Its terms are those of AF_XDP: the
 * caller *fills* a receive queue with empty buffers, *receives* the ones that
 * the kernel wrote frames to, and *sends* batches of frames.  It must not know
 * Open vSwitch, so that the unit tests, the fuzzers and the benchmark link it
 * alone.
 *
 * Frames are Ethernet frames without FCS, with a virtio-net header of
 * 'hdr_len' octets in front when the device was opened with one.
 *
 * Locking: one thread at a time may use a queue.  Which thread that is may
 * change between any two calls, if the caller orders them (a mutex, or a
 * thread that stopped before the other one started).  Only the counters may be
 * read at any time, by anybody. */

#ifndef TURBOTAP_QUEUE_H
#define TURBOTAP_QUEUE_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "turbotap-idle.h"

/* The most frames that one system call moves.  A caller may pass more. */
#define TURBOTAP_BURST 32

/* The most frames that a queue that was stopped may still have. */
#define TURBOTAP_MAX_HELD 64

/* Room for the reason that a probe gives, with the terminating null. */
#define TURBOTAP_REASON_LEN 128

enum turbotap_direction {
    TURBOTAP_RX,                /* From the host into user space. */
    TURBOTAP_TX,                /* From user space to the host. */
};

/* A buffer, empty or with a frame in it. */
struct turbotap_buf {
    void *data;                 /* First octet. */
    uint32_t size;              /* In octets.  Filling: the room at 'data'.
                                 * Received or to be sent: the frame. */
    uint32_t n_iov;             /* Sending: nonzero if the frame is in so many
                                 * pieces: */
    struct iovec *iov;          /* these, instead of at 'data'. */
    int error;                  /* After sending: 0 if the frame went, else
                                 * a positive errno value. */
    void *cookie;               /* The caller's own, never looked at. */
};

/* Why frames were lost, by errno value where the kernel gave one.  Each cause
 * has a counter per queue, so that nothing vanishes uncounted. */
enum turbotap_drop {
    /* Receive. */
    TURBOTAP_DROP_TRUNCATED,    /* The frame did not fit into its buffer. */
    TURBOTAP_DROP_SHORT,        /* Less than an Ethernet header. */
    TURBOTAP_DROP_MALFORMED,    /* The virtio-net header is not true of the
                                 * frame. */

    /* Send. */
    TURBOTAP_DROP_LINK_DOWN,    /* EIO: the device is administratively down. */
    TURBOTAP_DROP_NO_BUFFER,    /* EAGAIN, ENOBUFS, ENOMEM: no room. */
    TURBOTAP_DROP_INVALID,      /* EINVAL, EMSGSIZE: the kernel refused it. */
    TURBOTAP_DROP_GONE,         /* EBADFD, ENODEV: the device was deleted. */
    TURBOTAP_DROP_OFFLOAD,      /* What is left to be done to the frame cannot
                                 * be said in a virtio-net header. */

    /* Both. */
    TURBOTAP_DROP_OTHER,        /* Any other error. */

    TURBOTAP_N_DROPS
};

/* Counters of one queue, since it was opened.  Only the thread that uses the
 * queue writes them, with turbotap_count(), and they are read with
 * turbotap_queue_get_stats(): both atomically, by the compiler's built-in
 * functions, since <stdatomic.h> does not go with Open vSwitch's own atomics
 * for clang. */
struct turbotap_queue_counters {
    uint64_t packets;           /* Packets moved: of a frame that is merged or
                                 * to be cut, those that it stands for. */
    uint64_t bytes;             /* Octets of these packets. */
    uint64_t gso_frames;        /* Frames that stand for several packets,
                                 * and... */
    uint64_t gso_packets;       /* ...these packets. */
    uint64_t batches;           /* Calls that moved a frame. */
    uint64_t empty_polls;       /* Receive calls that found none. */
    uint64_t syscalls;          /* System calls made. */
    uint64_t errors;            /* How often receiving failed, though no frame
                                 * was lost: it is tried again. */
    uint64_t drops[TURBOTAP_N_DROPS];
};

/* A snapshot of the same. */
struct turbotap_queue_stats {
    uint64_t packets;
    uint64_t bytes;
    uint64_t gso_frames;
    uint64_t gso_packets;
    uint64_t batches;
    uint64_t empty_polls;
    uint64_t syscalls;
    uint64_t errors;
    uint64_t drops[TURBOTAP_N_DROPS];
};

/* A queue.  An I/O class embeds this as the first member of its own struct and
 * fills in none of it: turbotap_queue_open() does. */
struct turbotap_queue {
    const struct turbotap_io_class *class;
    enum turbotap_direction direction;
    uint32_t hdr_len;           /* Of the virtio-net header, in octets. */
    int gone;                   /* Nonzero: errno value that says that the
                                 * device was deleted.  It never comes back:
                                 * no more system calls are made. */
    bool stopped;               /* It takes no more frames off the device. */
    struct turbotap_idle idle;
    struct turbotap_queue_counters counters;
};

/* What a queue is made of. */
struct turbotap_queue_config {
    int fd;                     /* Of the tap's queue: non-blocking, from
                                 * turbotap-dev.  It stays the caller's, and
                                 * open for as long as the turbotap_queue. */
    enum turbotap_direction direction;
    uint32_t hdr_len;           /* Of the virtio-net header, 0 without. */
    unsigned int max_bufs;      /* The most buffers that a receive queue needs
                                 * to hold, 0 for as many as do best. */
};

/* A way to move frames.  All functions return 0 or a positive errno value
 * unless they say otherwise; none of them logs, none calls back. */
struct turbotap_io_class {
    /* As in 'options:io' and 'status:io', e.g. "socket". */
    const char *name;

    /* A class that is taken in place of this one wherever it can serve, and is
     * not in 'options:io' by itself.  NULL for most. */
    const struct turbotap_io_class *better;

    /* Does recv() make a system call to find that there is nothing? */
    bool recv_is_syscall;

    /* May a queue have taken more frames off the device than it has buffers,
     * though no more than TURBOTAP_MAX_HELD?  After stop(), it takes more with
     * fill(). */
    bool holds_frames;

    /* Finds out whether this class can serve the tap queue 'fd', on this
     * kernel, for this process.  With an 'fd' of -1 leaves out what depends on
     * the tap.  Returns true if so.  If not, returns false and writes why into
     * the 'size' octets at 'reason', as a phrase that follows "NAME: ". */
    bool (*probe)(int fd, char *reason, size_t size);

    /* Stores the version of the kernel module that the class needs in the
     * 'size' octets at 'version'.  Returns 0 or a
     * positive errno value.  NULL for a class that needs no module. */
    int (*module_version)(char *version, size_t size);

    /* Opens a queue on 'config' and stores it in '*queuep'. */
    int (*open)(const struct turbotap_queue_config *config,
                struct turbotap_queue **queuep);

    /* Ends all I/O on 'queue' and frees it.  When this returns, the kernel
     * neither touches a buffer of the queue nor holds the device because of
     * it.  The buffers must have been reclaimed before. */
    void (*close)(struct turbotap_queue *queue);

    /* The descriptor that becomes readable when recv() has something, for the
     * thread that last called fill() or recv(), until it calls either
     * again. */
    int (*poll_fd)(const struct turbotap_queue *queue);

    /* Takes up to 'n' empty buffers from 'bufs', in order, and returns how
     * many it took; those are the queue's until recv() or reclaim() gives
     * them back.  Receive queues only. */
    unsigned int (*fill)(struct turbotap_queue *queue,
                         const struct turbotap_buf *bufs, unsigned int n);

    /* How many buffers fill() would take now. */
    unsigned int (*room)(const struct turbotap_queue *queue);

    /* Receives up to 'n' frames into 'bufs' and their number into '*n_rx',
     * without waiting.  A bad frame is counted, and its buffer stays with the
     * queue.  Returns EAGAIN if there was nothing, 0 if '*n_rx' is nonzero or
     * if all there was was bad. */
    int (*recv)(struct turbotap_queue *queue, struct turbotap_buf *bufs,
                unsigned int n, unsigned int *n_rx);

    /* Ends what takes frames off the device without recv() being called, for
     * good.  Frames that the kernel has handed over can still be received.
     * NULL for a class in which nothing but recv() takes them. */
    void (*stop)(struct turbotap_queue *queue);

    /* Gives up to 'n' of the buffers of a queue that was stopped, and whose
     * frames were received, back into 'bufs'.  Returns their number, 0 when it
     * has no more. */
    unsigned int (*reclaim)(struct turbotap_queue *queue,
                            struct turbotap_buf *bufs, unsigned int n);

    /* Gives the memory behind the buffers that a receive queue holds back to
     * the system, with turbotap_buf_trim(): it comes again, zeroed, when it is
     * written to.  Does nothing if there are frames in them. */
    void (*trim)(struct turbotap_queue *queue);

    /* Tries to send each of the 'n' frames in 'bufs', in order, without
     * waiting for room, and sets the 'error' of each.  The frames stay the
     * caller's, and are no longer looked at when this returns.  After an
     * error that is the device's and not the frame's (EIO: it is down,
     * EBADFD: it is gone) the rest fails with the same error. */
    void (*send)(struct turbotap_queue *queue, struct turbotap_buf *bufs,
                 unsigned int n);
};

/* The I/O classes, best first, without those that are the better ones of
 * others, null-terminated. */
extern const struct turbotap_io_class *const turbotap_io_classes[];

extern const struct turbotap_io_class turbotap_io_ring;
extern const struct turbotap_io_class turbotap_io_socket;
#ifdef HAVE_LIBURING
extern const struct turbotap_io_class turbotap_io_uring;
#endif
extern const struct turbotap_io_class turbotap_io_rw;

/* Returns the class that 'options:io' calls 'name', NULL if there is none. */
const struct turbotap_io_class *turbotap_io_lookup(const char *name);

/* Returns what 'options:io' calls 'class'. */
const char *turbotap_io_option(const struct turbotap_io_class *class);

/* Returns the better class of 'class' if there is one that can serve the tap
 * queue 'fd' (-1: any), otherwise 'class', which can; then writes why into the
 * 'size' octets at 'reason'.  Else the reason is "". */
const struct turbotap_io_class *
turbotap_io_better(const struct turbotap_io_class *class, int fd,
                   char *reason, size_t size);

/* Returns the best class that can serve the tap queue 'fd', and writes into
 * the 'size' octets at 'reason' why each better one cannot ("" if there is no
 * better one). */
const struct turbotap_io_class *turbotap_io_best(int fd, char *reason,
                                                 size_t size);

/* A class for each direction of a device. */
struct turbotap_io {
    const struct turbotap_io_class *rx;
    const struct turbotap_io_class *tx;
};

/* Stores in '*io' the classes that do best on the tap queue 'fd', and writes
 * why into the 'size' octets at 'reason': what turbotap_io_best() does and, if
 * that is a class that may be slower than turbotap_io_rw on some CPUs, what
 * either costs here, in each direction.  That is measured once, which takes
 * some milliseconds (turbotap-cost.h). */
void turbotap_io_choose(int fd, struct turbotap_io *io, char *reason,
                        size_t size);

/* Room for the names of two classes, with the terminating null. */
#define TURBOTAP_IO_NAME_LEN 32

/* Writes into 'name' what 'io' is, as in 'options:io' and 'status:io': the
 * name of a class, or of two, to receive and to send, with a comma in
 * between. */
void turbotap_io_format(const struct turbotap_io *io,
                        char name[TURBOTAP_IO_NAME_LEN]);

/* Opens a queue of 'class' on 'config' and stores it in '*queuep'.  Returns 0
 * or a positive errno value; then '*queuep' is NULL. */
int turbotap_queue_open(const struct turbotap_io_class *class,
                        const struct turbotap_queue_config *config,
                        struct turbotap_queue **queuep);

/* Each of these is the class function of the same name, with the counters
 * kept.  turbotap_queue_recv() returns 0 only if '*n_rx' is nonzero, ENODEV
 * once the device was deleted.  It may return EAGAIN although a frame has come
 * since the thread last went round its queues; the next call then finds it, or
 * this one after turbotap_queue_wake().  After turbotap_queue_stop() it gives
 * out what the queue already had, and leaves the rest to the next queue on the
 * same descriptor.  turbotap_queue_reclaim() stops the queue, too.
 * turbotap_queue_send() returns the number of frames that went. */
void turbotap_queue_close(struct turbotap_queue *);
int turbotap_queue_poll_fd(const struct turbotap_queue *);
unsigned int turbotap_queue_fill(struct turbotap_queue *,
                                 const struct turbotap_buf *, unsigned int n);
unsigned int turbotap_queue_room(const struct turbotap_queue *);
int turbotap_queue_recv(struct turbotap_queue *, struct turbotap_buf *,
                        unsigned int n, unsigned int *n_rx);
void turbotap_queue_wake(struct turbotap_queue *);
void turbotap_queue_stop(struct turbotap_queue *);
void turbotap_queue_trim(struct turbotap_queue *);
unsigned int turbotap_queue_reclaim(struct turbotap_queue *,
                                    struct turbotap_buf *, unsigned int n);
unsigned int turbotap_queue_send(struct turbotap_queue *,
                                 struct turbotap_buf *, unsigned int n);

/* For the user of 'queue', after it received 'buf' or sent it, whether it went
 * or not: makes it count as the 'n' packets of 'bytes' octets, headers
 * included, that it stands for. */
void turbotap_queue_count_gso(struct turbotap_queue *queue,
                              const struct turbotap_buf *buf, unsigned int n,
                              uint64_t bytes);

/* For the user of 'queue', who received 'n' packets of 'bytes' octets, headers
 * included: makes them count as lost to 'drop' instead. */
void turbotap_queue_drop_received(struct turbotap_queue *queue,
                                  unsigned int n, uint64_t bytes,
                                  enum turbotap_drop drop);

/* For the user of 'queue', after 'buf' could not be sent: makes it not count
 * as lost, since it is about to be tried in another way. */
void turbotap_queue_retract_drop(struct turbotap_queue *queue,
                                 const struct turbotap_buf *buf);

/* Stores the counters of 'queue' in '*stats'.  Any thread may call this while
 * another one uses the queue. */
void turbotap_queue_get_stats(const struct turbotap_queue *queue,
                              struct turbotap_queue_stats *stats);

/* Returns the name of 'drop' in statistics, e.g. "truncated". */
const char *turbotap_drop_to_string(enum turbotap_drop drop);

/* Returns true if a queue in 'direction' may count 'drop'. */
bool turbotap_drop_is_possible(enum turbotap_drop drop,
                               enum turbotap_direction direction);

/* For I/O classes: adds 'n' to a 'counter' of a queue that the caller has to
 * itself.  One writer makes a plain load and store enough. */
static inline void
turbotap_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n,
                     __ATOMIC_RELAXED);
}

/* For I/O classes: the empty buffers of a receive queue, the last the next to
 * be written to. */
struct turbotap_buf_stack {
    unsigned int n;
    struct turbotap_buf bufs[TURBOTAP_BURST];
};

/* What fill(), room(), reclaim() and trim() of a class that has its empty
 * buffers in 'stack' do with them, and return. */
unsigned int turbotap_buf_stack_put(struct turbotap_buf_stack *stack,
                                    const struct turbotap_buf *,
                                    unsigned int n);
unsigned int turbotap_buf_stack_room(const struct turbotap_buf_stack *stack);
unsigned int turbotap_buf_stack_take(struct turbotap_buf_stack *stack,
                                     struct turbotap_buf *, unsigned int n);
void turbotap_buf_stack_trim(const struct turbotap_buf_stack *stack);

/* For I/O classes: gives the pages that the empty 'buf' has to itself back to
 * the system, locked ones, too, if that can be done (Linux 5.18). */
void turbotap_buf_trim(const struct turbotap_buf *buf);

/* For I/O classes: writes the frame in 'buf' to 'fd', with one system call for
 * each signal that comes in between and one more, sets its 'error', and
 * returns the number of system calls. */
unsigned int turbotap_buf_write(struct turbotap_buf *buf, int fd);

/* For I/O classes: counts a frame of 'queue' lost to 'drop'. */
static inline void
turbotap_count_drop(struct turbotap_queue *queue, enum turbotap_drop drop)
{
    turbotap_count(&queue->counters.drops[drop], 1);
}

#endif /* turbotap-queue.h */
