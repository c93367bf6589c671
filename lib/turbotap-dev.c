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
#include <limits.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "turbotap-place.h"
#include "turbotap-util.h"

#define TUN_PATH "/dev/net/tun"

/* How often to try to add a queue to a device that is renamed or moved to
 * another network namespace each time. */
#define MAX_TRIES 10

/* How many descriptors a new device must find: one to receive and one to send
 * on, one for the time in which the latter is opened, and two that whoever
 * asks about its link may have to open. */
#define MIN_FDS 5

struct turbotap_dev {
    bool vnet_hdr;              /* Opened with IFF_VNET_HDR. */
    bool created;               /* By turbotap_dev_open(), not adopted. */

    /* What was agreed on with the kernel, and anybody may change who can
     * attach a queue. */
    int vnet_hdr_size;          /* In octets, 0 if it was not set. */
    bool has_offload;           /* Was 'offload' set? */
    unsigned int offload;       /* TUN_F_*. */

    /* The network namespace that the descriptors were opened in.  They keep it
     * alive. */
    struct turbotap_netns home;

    /* Descriptors of the attached (rxq) and the detached (txq) queues. */
    int rxq_fds[TURBOTAP_MAX_FDS];
    int txq_fds[TURBOTAP_MAX_FDS];
    unsigned int n_rxq;         /* At least 1. */
    unsigned int n_txq;
    unsigned int n_own_txqs;    /* So many have a queue of their own, the
                                 * others share those. */

    /* Detached ones that can become receive queues when the device is where
     * none can be opened. */
    int spare_fds[TURBOTAP_MOVABLE_RXQS];
    unsigned int n_spares;
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

static void
close_fds(const int *fds, unsigned int n)
{
    while (n) {
        close(fds[--n]);
    }
}

/* Returns 0 if 'n' descriptors, at most MIN_FDS + TURBOTAP_MOVABLE_RXQS, can
 * be opened, or a positive errno value. */
static int
check_fds(unsigned int n)
{
    int fds[MIN_FDS + TURBOTAP_MOVABLE_RXQS];
    int error = 0;
    unsigned int i;

    for (i = 0; i < n && !error; i++) {
        fds[i] = (i ? fcntl(fds[0], F_DUPFD_CLOEXEC, 0)
                  : open(TUN_PATH, O_RDWR | O_CLOEXEC));
        if (fds[i] < 0) {
            error = errno;
            break;
        }
    }
    close_fds(fds, i);
    return error;
}

/* What attach_there() is to do, and what became of it. */
struct attachment {
    const char *name;
    short int flags;
    int fd;
};

static int
attach_there(void *attachment_)
{
    struct attachment *a = attachment_;

    return attach_by_name(a->name, a->flags, &a->fd);
}

/* Opens a descriptor of the device of 'dev' at 'place', whose network
 * namespace 'netns_fd' stands for, and stores it in '*fdp'.  Returns 0 or a
 * positive errno value, EXDEV if it may not be opened there. */
static int
attach_at(const struct turbotap_dev *dev, const struct turbotap_place *place,
          int netns_fd, int *fdp)
{
    struct attachment a = { .name = place->name,
                            .flags = dev->vnet_hdr ? IFF_VNET_HDR : 0 };
    int error;

    if (place->here) {
        return attach_by_name(a.name, a.flags, fdp);
    } else if (!turbotap_netns_equal(&place->netns, &dev->home)) {
        return EXDEV;
    }
    error = turbotap_netns_run(netns_fd, attach_there, &a);
    *fdp = a.fd;
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

/* Opens one more descriptor of 'dev', attached, and stores it in '*fdp'.
 * Returns 0 or a positive errno value.
 *
 * A queue can be attached only by name, in the namespace of whoever opened its
 * descriptor; if the device is elsewhere, that would make a second device. */
static int
open_queue(const struct turbotap_dev *dev, int *fdp)
{
    int error = EAGAIN;

    if (dev->n_rxq + dev->n_txq + dev->n_spares >= TURBOTAP_MAX_FDS) {
        return E2BIG;
    }
    for (int i = 0; i < MAX_TRIES && error == EAGAIN; i++) {
        struct turbotap_place place;
        int netns_fd;

        error = turbotap_place_get(dev->rxq_fds[0], &place, &netns_fd);
        if (error) {
            break;
        }
        error = attach_at(dev, &place, netns_fd, fdp);
        close(netns_fd);
        if (!error) {
            /* Renamed, moved or deleted meanwhile?  Then what got attached may
             * be another device, a new one even, which goes with the
             * descriptor. */
            error = turbotap_place_check(dev->rxq_fds[0], &place);
            if (!error) {
                error = turbotap_place_check(*fdp, &place);
            }
            if (error) {
                close(*fdp);
            }
        }
    }
    return error;
}

/* Returns how many spare descriptors 'dev' should have. */
static unsigned int
spares_wanted(const struct turbotap_dev *dev)
{
    return (dev->n_rxq < TURBOTAP_MOVABLE_RXQS
            ? TURBOTAP_MOVABLE_RXQS - dev->n_rxq : 0);
}

void
turbotap_dev_open_spares(struct turbotap_dev *dev)
{
    unsigned int wanted = spares_wanted(dev);

    /* Others must not go without for them. */
    if (dev->n_spares < wanted
        && check_fds(wanted - dev->n_spares + MIN_FDS)) {
        return;
    }
    while (dev->n_spares < wanted) {
        int fd;

        if (open_queue(dev, &fd)) {
            break;
        } else if (set_attached(fd, false)) {
            close(fd);
            break;
        }
        dev->spare_fds[dev->n_spares++] = fd;
    }
    while (dev->n_spares > wanted) {
        close(dev->spare_fds[--dev->n_spares]);
    }
}

/* What open_there() is to do, and what became of it. */
struct opening {
    const char *name;
    bool vnet_hdr;
    struct turbotap_dev *dev;
};

static int
open_there(void *opening_)
{
    struct opening *o = opening_;
    int error = turbotap_dev_open(o->name, o->vnet_hdr, &o->dev);

    if (!error && o->dev->created) {
        /* It has gone meanwhile. */
        turbotap_dev_close(o->dev);
        error = ENODEV;
    }
    return error;
}

int
turbotap_dev_open_at(int netns_fd, const char *name, bool vnet_hdr,
                     struct turbotap_dev **devp)
{
    struct opening o = { .name = name, .vnet_hdr = vnet_hdr };
    int error = turbotap_netns_run(netns_fd, open_there, &o);

    *devp = error ? NULL : o.dev;
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
    } else if (strchr(name, '%')) {
        /* No device has it in its name: the kernel takes a '%d' for a
         * template (dev_alloc_name() of net/core/dev.c), and would make
         * another device at each attempt. */
        return EINVAL;
    }

    /* A device that were made only to be deleted again, for want of a
     * descriptor, would wake up all who watch links, and they try again. */
    error = check_fds(MIN_FDS);
    if (error) {
        return error;
    }

    dev = turbotap_zalloc(sizeof *dev);
    if (!dev) {
        return ENOMEM;
    }
    dev->vnet_hdr = vnet_hdr;
    error = turbotap_netns_get_own(&dev->home);
    if (error) {
        free(dev);
        return error;
    }

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

unsigned int
turbotap_dev_get_fds(const struct turbotap_dev *dev, int *fds,
                     unsigned int max, struct turbotap_dev_layout *layout)
{
    unsigned int n_txq = dev->n_own_txqs;
    unsigned int n = dev->n_rxq + dev->n_spares;

    if (n + n_txq > max) {
        n_txq = max > n ? max - n : 0;
    }
    layout->n_rxq = dev->n_rxq;
    layout->n_txq = n_txq;
    layout->n_spares = dev->n_spares;
    memcpy(fds, dev->rxq_fds, dev->n_rxq * sizeof *fds);
    memcpy(fds + dev->n_rxq, dev->txq_fds, n_txq * sizeof *fds);
    memcpy(fds + dev->n_rxq + n_txq, dev->spare_fds,
           dev->n_spares * sizeof *fds);
    return n + n_txq;
}

/* Stores in '*attachedp' whether the queue 'fd' is attached, as the kernel has
 * it.  Returns 0 or a positive errno value, EBADFD if its device was
 * deleted. */
static int
get_attached(int fd, bool *attachedp)
{
    struct ifreq ifr;

    *attachedp = false;
    memset(&ifr, 0, sizeof ifr);
    if (ioctl(fd, TUNGETIFF, &ifr) < 0) {
        return errno;
    }
    *attachedp = !(ifr.ifr_flags & IFF_DETACH_QUEUE);
    return 0;
}

/* Gives 'dev', which has no descriptors, the 'n_fds' in 'fds', all of its
 * device, and makes them what '*layout' says.
 *
 * A process that ended while it changed queues has left them otherwise: what
 * is attached is the truth, since the host sends flows there.  Returns 0 or a
 * positive errno value, and then 'fds' are still the caller's. */
static int
sort_fds(struct turbotap_dev *dev, const int *fds, unsigned int n_fds,
         const struct turbotap_dev_layout *layout)
{
    int detached[2 * TURBOTAP_MAX_FDS];
    unsigned int n_detached = 0, used = 0;
    int error = 0;

    for (unsigned int i = 0; i < n_fds && !error; i++) {
        bool attached;

        error = get_attached(fds[i], &attached);
        if (!error && attached && dev->n_rxq < layout->n_rxq) {
            dev->rxq_fds[dev->n_rxq++] = fds[i];
        } else if (!error) {
            if (attached) {
                error = set_attached(fds[i], false);
            }
            detached[n_detached++] = fds[i];
        }
    }
    while (!error && dev->n_rxq < layout->n_rxq && n_detached) {
        int fd = detached[--n_detached];

        error = set_attached(fd, true);
        dev->rxq_fds[dev->n_rxq++] = fd;
    }
    if (error) {
        return error;
    }
    while (used < n_detached && dev->n_txq < layout->n_txq) {
        dev->txq_fds[dev->n_txq++] = detached[used++];
    }
    while (used < n_detached && dev->n_spares < TURBOTAP_MOVABLE_RXQS) {
        dev->spare_fds[dev->n_spares++] = detached[used++];
    }
    close_fds(detached + used, n_detached - used);
    dev->n_own_txqs = dev->n_txq;
    return 0;
}

int
turbotap_dev_from_fds(const int *fds, const struct turbotap_dev_layout *layout,
                      bool vnet_hdr, struct turbotap_dev **devp)
{
    unsigned int n_fds = layout->n_rxq + layout->n_txq + layout->n_spares;
    struct turbotap_dev *dev = NULL;
    struct ifreq ifr;
    int error = 0;

    *devp = NULL;
    memset(&ifr, 0, sizeof ifr);
    if (!layout->n_rxq || n_fds > 2 * TURBOTAP_MAX_FDS
        || layout->n_rxq + layout->n_txq > TURBOTAP_MAX_FDS) {
        error = EINVAL;
    } else if (ioctl(fds[0], TUNGETIFF, &ifr) < 0) {
        error = errno;
    } else if (vnet_hdr != !!(ifr.ifr_flags & IFF_VNET_HDR)) {
        error = EINVAL;
    } else {
        dev = turbotap_zalloc(sizeof *dev);
        error = dev ? turbotap_netns_get_own(&dev->home) : ENOMEM;
    }
    if (!error) {
        dev->vnet_hdr = vnet_hdr;
        error = sort_fds(dev, fds, n_fds, layout);
    }
    if (error) {
        close_fds(fds, n_fds);
        free(dev);
        return error;
    }
    *devp = dev;
    return 0;
}

void
turbotap_dev_close(struct turbotap_dev *dev)
{
    if (dev) {
        close_fds(dev->spare_fds, dev->n_spares);
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

/* Attaches a spare descriptor of 'dev', takes it away and stores it in '*fdp'.
 * Returns 0 or a positive errno value, EXDEV if there is none. */
static int
take_spare(struct turbotap_dev *dev, int *fdp)
{
    int error;

    if (!dev->n_spares) {
        return EXDEV;
    }
    *fdp = dev->spare_fds[dev->n_spares - 1];
    error = set_attached(*fdp, true);
    dev->n_spares -= !error;
    /* The queue is detached, unless its device was deleted. */
    return error == EINVAL ? EBADFD : error;
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
 * of receive queue 0: that is detached to become one, again and again, and
 * what was opened takes its place.
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
    unsigned int n_spares = dev->n_spares;
    int error = 0;

    while (!error && dev->n_txq < n) {
        int fd;

        error = open_queue(dev, &fd);
        if (error && dev->n_spares) {
            /* It was moved already, or there are no more descriptors. */
            error = take_spare(dev, &fd);
        }
        if (!error) {
            error = set_attached(dev->rxq_fds[0], false);
            if (error) {
                close(fd);
            } else {
                dev->txq_fds[dev->n_txq++] = dev->rxq_fds[0];
                dev->rxq_fds[0] = fd;
            }
        }
    }
    while (error && dev->n_txq) {
        int fd = dev->txq_fds[--dev->n_txq];

        if (dev->n_spares < n_spares) {
            dev->spare_fds[dev->n_spares++] = fd;
        } else {
            close(fd);
        }
    }
    dev->n_own_txqs = dev->n_txq;
    return error;
}

/* Adds a receive queue to 'dev', of a spare descriptor if there is one: a new
 * one cannot be opened everywhere.  Returns 0 or a positive errno value. */
static int
add_rxq(struct turbotap_dev *dev)
{
    int *fdp = &dev->rxq_fds[dev->n_rxq];
    int error = take_spare(dev, fdp);

    if (error == EXDEV) {
        error = open_queue(dev, fdp);
    }
    dev->n_rxq += !error;
    return error;
}

/* Removes the last receive queue of 'dev', and keeps its descriptor if that is
 * wanted.  Others may have copies of it, which must get no frames. */
static void
remove_rxq(struct turbotap_dev *dev)
{
    int fd = dev->rxq_fds[--dev->n_rxq];

    if (!set_attached(fd, false) && dev->n_spares < spares_wanted(dev)) {
        dev->spare_fds[dev->n_spares++] = fd;
    } else {
        close(fd);
    }
}

int
turbotap_dev_set_n_rxq(struct turbotap_dev *dev, unsigned int n_rxq)
{
    unsigned int old_n_rxq = dev->n_rxq;
    int error = 0;

    if (!n_rxq) {
        return EINVAL;
    }
    while (dev->n_rxq < n_rxq && !error) {
        error = add_rxq(dev);
    }
    if (error) {
        n_rxq = old_n_rxq;
    }
    while (dev->n_rxq > n_rxq) {
        remove_rxq(dev);
    }
    return error;
}

unsigned int
turbotap_dev_n_rxq(const struct turbotap_dev *dev)
{
    return dev->n_rxq;
}

int
turbotap_dev_set_n_txq(struct turbotap_dev *dev, unsigned int n_txq)
{
    unsigned int old_n_txq = dev->n_txq;
    int error = 0;

    if (n_txq > TURBOTAP_MAX_FDS) {
        return E2BIG;
    } else if (!dev->n_txq) {
        return add_first_txqs(dev, n_txq);
    }
    while (dev->n_txq < n_txq && !error) {
        error = share_txq(dev, &dev->txq_fds[dev->n_txq]);
        dev->n_txq += !error;
    }
    if (error) {
        n_txq = old_n_txq;
    }
    while (dev->n_txq > n_txq) {
        close(dev->txq_fds[--dev->n_txq]);
    }
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

void
turbotap_dev_count_queues(const struct turbotap_dev *dev,
                          unsigned int *attached, unsigned int *detached)
{
    *attached = dev->n_rxq;
    *detached = dev->n_own_txqs + dev->n_spares;
}

int
turbotap_dev_set_owner(struct turbotap_dev *dev, uid_t uid)
{
    return (ioctl(dev->rxq_fds[0], TUNSETOWNER, (unsigned long) uid) < 0
            ? errno : 0);
}

int
turbotap_dev_set_offload(struct turbotap_dev *dev, unsigned int tun_f)
{
    if (ioctl(dev->rxq_fds[0], TUNSETOFFLOAD, (unsigned long) tun_f) < 0) {
        return errno;
    }
    dev->has_offload = true;
    dev->offload = tun_f;
    return 0;
}

int
turbotap_dev_set_vnet_hdr_size(struct turbotap_dev *dev, int size)
{
    const int yes = 1;

    if (ioctl(dev->rxq_fds[0], TUNSETVNETHDRSZ, &size) < 0
        || ioctl(dev->rxq_fds[0], TUNSETVNETLE, &yes) < 0) {
        return errno;
    }
    dev->vnet_hdr_size = size;
    return 0;
}

/* The kernel's default for what a queue may have in flight, in octets
 * (tun_chr_open() of tun.c). */
#define SNDBUF INT_MAX

unsigned int
turbotap_dev_check(const struct turbotap_dev *dev)
{
    int fd = dev->rxq_fds[0];
    unsigned int changed = 0;
    int value;

    if (dev->vnet_hdr_size) {
        if (!ioctl(fd, TUNGETVNETHDRSZ, &value)
            && value != dev->vnet_hdr_size) {
            changed |= TURBOTAP_DEV_VNET_HDR_SIZE;
        }
        if (!ioctl(fd, TUNGETVNETLE, &value) && !value) {
            changed |= TURBOTAP_DEV_BYTE_ORDER;
        }
    }
    if (!ioctl(fd, TUNGETSNDBUF, &value) && value != SNDBUF) {
        changed |= TURBOTAP_DEV_SNDBUF;
    }
    return changed;
}

int
turbotap_dev_restore(struct turbotap_dev *dev)
{
    const int sndbuf = SNDBUF;
    const int no_program = -1;
    const struct tun_filter no_filter = { .count = 0 };
    struct sock_fprog unused = { .len = 0 };
    int fd = dev->rxq_fds[0];
    int error = 0;

    if (dev->vnet_hdr_size) {
        error = turbotap_dev_set_vnet_hdr_size(dev, dev->vnet_hdr_size);
    }
    if (!error && dev->has_offload) {
        error = turbotap_dev_set_offload(dev, dev->offload);
    }
    if (!error && ioctl(fd, TUNSETSNDBUF, &sndbuf) < 0) {
        error = errno;
    }
    /* What nobody set, or a kernel without BPF does not know, cannot be taken
     * away. */
    ioctl(fd, TUNDETACHFILTER, &unused);
    ioctl(fd, TUNSETTXFILTER, &no_filter);
    ioctl(fd, TUNSETSTEERINGEBPF, &no_program);
    ioctl(fd, TUNSETFILTEREBPF, &no_program);
    return error;
}
