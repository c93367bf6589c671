/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* A tap device and the descriptors of its queues.  Must not know frames, nor
 * the link's settings. */

#include <config.h>

#include "turbotap-dev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "turbotap-util.h"

#define TUN_PATH "/dev/net/tun"
#define OWN_NETNS_PATH "/proc/thread-self/ns/net"

/* How often to try to add a queue to a device that is renamed or moved to
 * another network namespace each time. */
#define MAX_TRIES 10

struct turbotap_dev {
    bool vnet_hdr;              /* Opened with IFF_VNET_HDR. */
    bool created;               /* By turbotap_dev_open(), not adopted. */

    /* Descriptors of the attached (rxq) and the detached (txq) queues. */
    int rxq_fds[TURBOTAP_MAX_FDS];
    int txq_fds[TURBOTAP_MAX_FDS];
    unsigned int n_rxq;         /* At least 1. */
    unsigned int n_txq;
    unsigned int n_own_txqs;    /* So many have a queue of their own, the
                                 * others share those. */
};

/* Opens a descriptor and attaches it as a queue to the device 'name' in this
 * thread's network namespace, with TUNSETIFF flags 'flags' besides those that
 * every queue has.  Stores it in '*fdp'.  Returns 0 or a positive errno
 * value. */
static int
attach_by_name(const char *name, short int flags, int *fdp)
{
    struct ifreq ifr;
    int error;
    int fd;

    fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }

    memset(&ifr, 0, sizeof ifr);
    ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | flags;
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
    if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
        error = errno;
    } else if (strcmp(ifr.ifr_name, name)) {
        /* The kernel takes a '%d' in a new device's name for a template. */
        error = EINVAL;
    } else if (ioctl(fd, TUNGETIFF, &ifr) < 0) {
        error = errno;
    } else if ((ifr.ifr_flags ^ flags) & IFF_VNET_HDR) {
        /* A device of which others hold queues keeps its flags, and TUNSETIFF
         * succeeds all the same.  (IFF_NO_PI cannot be checked: TUNGETIFF
         * reports IFF_NOFILTER with the same bit.) */
        error = EINVAL;
    } else {
        *fdp = fd;
        return 0;
    }
    close(fd);
    return error;
}

int
turbotap_dev_open(const char *name, bool vnet_hdr, struct turbotap_dev **devp)
{
    short int flags = vnet_hdr ? IFF_VNET_HDR : 0;
    struct turbotap_dev *dev;
    int error;

    *devp = NULL;
    if (!name[0]) {
        return EINVAL;
    } else if (strlen(name) >= IFNAMSIZ) {
        return ENAMETOOLONG;
    }

    dev = turbotap_zalloc(sizeof *dev);
    if (!dev) {
        return ENOMEM;
    }
    dev->vnet_hdr = vnet_hdr;

    /* IFF_TUN_EXCL tells, without a race, who creates the device. */
    error = attach_by_name(name, flags | IFF_TUN_EXCL, &dev->rxq_fds[0]);
    dev->created = !error;
    if (error == EBUSY) {
        error = attach_by_name(name, flags, &dev->rxq_fds[0]);
    }
    if (error) {
        free(dev);
        return error;
    }

    dev->n_rxq = 1;
    *devp = dev;
    return 0;
}

static void
close_fds(const int *fds, unsigned int n)
{
    while (n) {
        close(fds[--n]);
    }
}

void
turbotap_dev_close(struct turbotap_dev *dev)
{
    if (dev) {
        close_fds(dev->txq_fds, dev->n_txq);
        close_fds(dev->rxq_fds, dev->n_rxq);
        free(dev);
    }
}

bool
turbotap_dev_is_created(const struct turbotap_dev *dev)
{
    return dev->created;
}

int
turbotap_dev_set_persist(struct turbotap_dev *dev, bool persist)
{
    return ioctl(dev->rxq_fds[0], TUNSETPERSIST, persist) < 0 ? errno : 0;
}

/* Stores the name of the device of queue 'fd' in 'name'.  Returns 0 or a
 * positive errno value. */
static int
get_name(int fd, char name[IFNAMSIZ])
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof ifr);
    if (ioctl(fd, TUNGETIFF, &ifr) < 0) {
        return errno;
    }
    memcpy(name, ifr.ifr_name, IFNAMSIZ);
    return 0;
}

int
turbotap_dev_get_name(const struct turbotap_dev *dev, char *name)
{
    return get_name(dev->rxq_fds[0], name);
}

/* Where a device is now. */
struct place {
    char name[IFNAMSIZ];
    int netns;                  /* Descriptor of its network namespace. */
    struct stat id;             /* Of the same. */
};

/* Finds out where the device of queue 'fd' is, to be closed with
 * close_place().  Returns 0 or a positive errno value. */
static int
open_place(int fd, struct place *place)
{
    int error;

    place->netns = ioctl(fd, TUNGETDEVNETNS);
    if (place->netns < 0) {
        return errno;
    }
    error = (fstat(place->netns, &place->id)
             ? errno
             : get_name(fd, place->name));
    if (error) {
        close(place->netns);
    }
    return error;
}

static void
close_place(const struct place *place)
{
    close(place->netns);
}

static bool
is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Returns 0 if the device of queue 'fd' is at 'place', EAGAIN if it is
 * elsewhere, or another positive errno value. */
static int
check_place(int fd, const struct place *place)
{
    struct place now;
    bool same;
    int error;

    error = open_place(fd, &now);
    if (error) {
        return error;
    }
    same = (!strcmp(now.name, place->name)
            && is_same_file(&now.id, &place->id));
    close_place(&now);
    return same ? 0 : EAGAIN;
}

/* What attach_in_netns() is to do, and what became of it. */
struct attachment {
    const struct place *place;
    short int flags;
    int fd;
    int error;
};

/* A thread of its own, since there is no way back out of a network namespace
 * that could not fail. */
static void *
attach_in_netns(void *attachment_)
{
    struct attachment *a = attachment_;

    a->error = (setns(a->place->netns, CLONE_NEWNET)
                ? errno
                : attach_by_name(a->place->name, a->flags, &a->fd));
    return NULL;
}

/* Opens a descriptor of the device at 'place', with TUNSETIFF flags 'flags',
 * and stores it in '*fdp'.  Returns 0 or a positive errno value. */
static int
attach_at(const struct place *place, short int flags, int *fdp)
{
    struct attachment a = { .place = place, .flags = flags };
    struct stat ours;
    pthread_t thread;
    int error;

    if (stat(OWN_NETNS_PATH, &ours)) {
        return errno;
    }
    if (is_same_file(&ours, &place->id)) {
        return attach_by_name(place->name, flags, fdp);
    }
    error = pthread_create(&thread, NULL, attach_in_netns, &a);
    if (error) {
        return error;
    }
    pthread_join(thread, NULL);
    *fdp = a.fd;
    return a.error;
}

/* Opens one more descriptor of 'dev', attached, and stores it in '*fdp'.
 * Returns 0 or a positive errno value.
 *
 * A queue can be attached only by name, in the namespace of whoever attaches
 * it; if the device is elsewhere, that would make a second device. */
static int
add_queue(const struct turbotap_dev *dev, int *fdp)
{
    int error = EAGAIN;

    if (dev->n_rxq + dev->n_txq >= TURBOTAP_MAX_FDS) {
        return E2BIG;
    }
    for (int i = 0; i < MAX_TRIES && error == EAGAIN; i++) {
        struct place place;

        error = open_place(dev->rxq_fds[0], &place);
        if (error) {
            break;
        }
        error = attach_at(&place, dev->vnet_hdr ? IFF_VNET_HDR : 0, fdp);
        if (!error) {
            /* Renamed, moved or deleted meanwhile?  Then what got attached may
             * be another device, a new one even, which goes with the
             * descriptor. */
            error = check_place(dev->rxq_fds[0], &place);
            if (!error) {
                error = check_place(*fdp, &place);
            }
            if (error) {
                close(*fdp);
            }
        }
        close_place(&place);
    }
    return error;
}

/* Attaches or detaches the queue 'fd'.  Returns 0 or a positive errno
 * value. */
static int
set_attached(int fd, bool attached)
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof ifr);
    ifr.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    return ioctl(fd, TUNSETQUEUE, &ifr) < 0 ? errno : 0;
}

/* Opens one more descriptor for a detached queue that 'dev' has, and stores it
 * in '*fdp'.  Returns 0 or a positive errno value. */
static int
share_txq(const struct turbotap_dev *dev, int *fdp)
{
    *fdp = fcntl(dev->txq_fds[dev->n_txq % dev->n_own_txqs], F_DUPFD_CLOEXEC,
                 0);
    return *fdp < 0 ? errno : 0;
}

/* Opens the first 'n' transmit queues of 'dev' such that they have the number
 * of receive queue 0, which is detached for a moment.
 *
 * A queue that is detached keeps the number that it had, and what it sends has
 * it, too.  That must be one of a receive queue: get_rps_cpu() of
 * net/core/dev.c takes one beyond those for an error, warns of it, and does
 * not steer the frame to another CPU (RPS).  A new queue comes last, and when
 * one is detached the last one takes its place and its number (tun_attach()
 * and __tun_detach()).
 *
 * Returns 0 or a positive errno value; then there is no transmit queue. */
static int
add_first_txqs(struct turbotap_dev *dev, unsigned int n)
{
    int first = dev->rxq_fds[0];
    int holder = first;         /* Of the number. */
    int error = 0;

    while (!error && dev->n_txq < n) {
        int *fdp = &dev->txq_fds[dev->n_txq];

        error = add_queue(dev, fdp);
        if (!error) {
            dev->n_txq++;
            error = set_attached(holder, false);
            if (!error) {
                holder = *fdp;
            }
        }
    }

    if (holder != first) {
        int attach_error = set_attached(first, true);

        if (!attach_error) {
            attach_error = set_attached(holder, false);
        }
        error = error ? error : attach_error;
    }
    if (error) {
        close_fds(dev->txq_fds, dev->n_txq);
        dev->n_txq = 0;
    }
    dev->n_own_txqs = dev->n_txq;
    return error;
}

/* Changes the '*n' descriptors in 'fds' to 'new_n', with 'add' for new ones.
 * Returns 0 or a positive errno value; then all is as it was. */
static int
set_n_fds(struct turbotap_dev *dev, int *fds, unsigned int *n,
          unsigned int new_n,
          int (*add)(const struct turbotap_dev *, int *fdp))
{
    const unsigned int old_n = *n;

    for (unsigned int i = old_n; i < new_n; i++) {
        int error = add(dev, &fds[i]);

        if (error) {
            close_fds(fds + old_n, i - old_n);
            *n = old_n;
            return error;
        }
        *n = i + 1;
    }
    if (new_n < old_n) {
        close_fds(fds + new_n, old_n - new_n);
        *n = new_n;
    }
    return 0;
}

int
turbotap_dev_set_n_rxq(struct turbotap_dev *dev, unsigned int n_rxq)
{
    if (!n_rxq) {
        return EINVAL;
    }
    return set_n_fds(dev, dev->rxq_fds, &dev->n_rxq, n_rxq, add_queue);
}

unsigned int
turbotap_dev_n_rxq(const struct turbotap_dev *dev)
{
    return dev->n_rxq;
}

int
turbotap_dev_set_n_txq(struct turbotap_dev *dev, unsigned int n_txq)
{
    int error;

    if (n_txq > TURBOTAP_MAX_FDS) {
        return E2BIG;
    } else if (!dev->n_txq) {
        return add_first_txqs(dev, n_txq);
    }
    error = set_n_fds(dev, dev->txq_fds, &dev->n_txq, n_txq, share_txq);
    if (dev->n_own_txqs > dev->n_txq) {
        dev->n_own_txqs = dev->n_txq;
    }
    return error;
}

unsigned int
turbotap_dev_n_txq(const struct turbotap_dev *dev)
{
    return dev->n_txq;
}

int
turbotap_dev_rxq_fd(const struct turbotap_dev *dev, unsigned int rxq)
{
    return dev->rxq_fds[rxq];
}

int
turbotap_dev_txq_fd(const struct turbotap_dev *dev, unsigned int txq)
{
    return dev->txq_fds[txq];
}

int
turbotap_dev_set_offload(struct turbotap_dev *dev, unsigned int tun_f)
{
    return (ioctl(dev->rxq_fds[0], TUNSETOFFLOAD, (unsigned long) tun_f) < 0
            ? errno : 0);
}

int
turbotap_dev_set_vnet_hdr_size(struct turbotap_dev *dev, int size)
{
    const int yes = 1;

    return (ioctl(dev->rxq_fds[0], TUNSETVNETHDRSZ, &size) < 0
            || ioctl(dev->rxq_fds[0], TUNSETVNETLE, &yes) < 0
            ? errno : 0);
}
