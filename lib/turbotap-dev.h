/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* A Linux tap device and its queues, through /dev/net/tun.
 *
 * Opens (and so creates) or adopts a multi-queue tap device, and adds and
 * removes queues while it lives.  It knows descriptors and ioctls, no frames:
 * those are turbotap-queue's.  It must not know Open vSwitch.
 *
 * Facts about the tun driver are from Linux drivers/net/tun.c and
 * Documentation/networking/tuntap.rst.
 *
 * Locking: none; the caller lets one thread at a time in. */

#ifndef TURBOTAP_DEV_H
#define TURBOTAP_DEV_H 1

#include <linux/if_tun.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The kernel's limit of descriptors for one device, attached and detached ones
 * together (MAX_TAP_QUEUES in drivers/net/tun.c). */
#define TURBOTAP_MAX_FDS 256

/* The largest MTU that a tap takes (MAX_MTU of tun.c: 65535 less an Ethernet
 * header), in octets. */
#define TURBOTAP_MAX_MTU 65521

/* So many receive queues a device can have wherever it is.  More than that can
 * be added only while it is in the network namespace that its descriptors were
 * opened in: a descriptor keeps alive the one that it was opened in, which
 * must not be a container's. */
#define TURBOTAP_MOVABLE_RXQS 4

struct turbotap_dev;

/* Opens the multi-queue tap device 'name' in this thread's network namespace,
 * creating it if there is none, and stores it in '*devp'.  With 'vnet_hdr'
 * frames carry a virtio-net header.  The device has one receive queue, no
 * transmit queue yet, and goes away with the last descriptor if it was created
 * here, until turbotap_dev_set_persist() says otherwise.
 *
 * Returns 0 or a positive errno value, among them: ENOENT or ENODEV: no tun
 * driver; EPERM, EACCES: no permission; EBUSY: somebody else's device, with
 * one queue or in use; EINVAL: not a tap device, or one with other features;
 * ENAMETOOLONG. */
int turbotap_dev_open(const char *name, bool vnet_hdr,
                      struct turbotap_dev **devp);

/* The same in the network namespace that the descriptor 'netns_fd' stands for,
 * but never makes a device there: ENODEV if there is none, EPERM without
 * CAP_SYS_ADMIN.  The descriptors keep that namespace alive. */
int turbotap_dev_open_at(int netns_fd, const char *name, bool vnet_hdr,
                         struct turbotap_dev **devp);

/* Closes all descriptors of 'dev' and frees it.  Null is allowed. */
void turbotap_dev_close(struct turbotap_dev *dev);

/* Returns true if turbotap_dev_open() created the device rather than adopting
 * one that was there. */
bool turbotap_dev_is_created(const struct turbotap_dev *dev);

/* What the descriptors of a device are, in the order in which
 * turbotap_dev_get_fds() stores them. */
struct turbotap_dev_layout {
    uint32_t n_rxq;             /* Attached. */
    uint32_t n_txq;             /* Detached, each of a queue of its own. */
    uint32_t n_spares;          /* Detached. */
};

/* Stores up to 'max' descriptors of 'dev', which stay its own, in 'fds', and
 * what they are in '*layout'.  The last one is detached if there is a transmit
 * queue.  Returns their number. */
unsigned int turbotap_dev_get_fds(const struct turbotap_dev *dev, int *fds,
                                  unsigned int max,
                                  struct turbotap_dev_layout *layout);

/* The counterpart: makes a device of the descriptors in 'fds', which are its
 * own from now on, and of which '*layout' says what they are to be, and stores
 * it in '*devp'.  Those that are something else, since who had them was
 * killed while it changed queues, are made that, as far as there are enough;
 * those that are too many are closed.  It does not matter where the device is.
 * Returns 0 or a positive errno value, and then all of 'fds' have been closed:
 * EBADFD if the device was deleted, EINVAL if it has another 'vnet_hdr' or
 * '*layout' is not valid. */
int turbotap_dev_from_fds(const int *fds,
                          const struct turbotap_dev_layout *layout,
                          bool vnet_hdr, struct turbotap_dev **devp);

/* Stores in '*attached' and '*detached' how many queues 'dev' has of each
 * kind, for comparison with what the kernel says of the device. */
void turbotap_dev_count_queues(const struct turbotap_dev *dev,
                               unsigned int *attached, unsigned int *detached);

/* Has the kernel let nobody attach a queue to the device but the user 'uid'
 * and who has CAP_NET_ADMIN over the network namespace that the device is in
 * (tun_not_capable() of tun.c).  Returns 0 or a positive errno value. */
int turbotap_dev_set_owner(struct turbotap_dev *dev, uid_t uid);

/* Makes the device outlive its descriptors, or not.  Returns 0 or a positive
 * errno value. */
int turbotap_dev_set_persist(struct turbotap_dev *dev, bool persist);

/* Changes the number of receive queues to 'n_rxq', at least 1; those with an
 * index below both the old and the new number stay as they are.  The host
 * spreads its flows over all of them.  A queue that goes away must no longer
 * be in use, and takes the frames along that are still in it.
 *
 * Returns 0 or a positive errno value: then all is as it was.  E2BIG: more
 * than the kernel has descriptors for; EMFILE, ENFILE; EBADFD: deleted; EXDEV:
 * more than TURBOTAP_MOVABLE_RXQS, and the device was moved to another network
 * namespace. */
int turbotap_dev_set_n_rxq(struct turbotap_dev *dev, unsigned int n_rxq);
unsigned int turbotap_dev_n_rxq(const struct turbotap_dev *dev);

/* Gives 'dev' as many spare descriptors as it takes for TURBOTAP_MOVABLE_RXQS
 * receive queues, if they can be had: for when the device is where none can be
 * opened.  To be called when all that is needed at once has been opened. */
void turbotap_dev_open_spares(struct turbotap_dev *dev);

/* Changes the number of transmit queues to 'n_txq'.  Each is a descriptor of
 * its own, *detached* (TUNSETQUEUE with IFF_DETACH_QUEUE): it still sends, but
 * receives nothing and does not teach the kernel to steer the flow's next
 * frames to it, which would reorder them.
 *
 * While there is no transmit queue yet, receive queue 0 must not be in use: it
 * gets another descriptor, even if this fails, and loses the frames that are
 * in it.  The transmit queues that are opened then have a queue each; those
 * that are added to them later share these queues, which costs threads that
 * send at the same time a little more.
 *
 * Returns 0 or a positive errno value as turbotap_dev_set_n_rxq() does. */
int turbotap_dev_set_n_txq(struct turbotap_dev *dev, unsigned int n_txq);
unsigned int turbotap_dev_n_txq(const struct turbotap_dev *dev);

/* Returns the non-blocking descriptor of a queue.  It stays the device's. */
int turbotap_dev_rxq_fd(const struct turbotap_dev *dev, unsigned int rxq);
int turbotap_dev_txq_fd(const struct turbotap_dev *dev, unsigned int txq);

/* What a host can leave undone: of TCP and, since Linux 6.2, of UDP, whose
 * TUN_F_USO4 and TUN_F_USO6 older headers do not have. */
#define TURBOTAP_TSO_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 \
                               | TUN_F_TSO_ECN)
#define TURBOTAP_USO_OFFLOADS (0x20 | 0x40)

/* Tells the kernel which offloads user space takes, as TUN_F_* flags.  Returns
 * 0 or a positive errno value: EINVAL if the kernel lacks one of them. */
int turbotap_dev_set_offload(struct turbotap_dev *dev, unsigned int tun_f);

/* Sets the size of the virtio-net header in octets (10 or 12), and makes its
 * fields little-endian.  Only for a device opened with one.  Returns 0 or a
 * positive errno value. */
int turbotap_dev_set_vnet_hdr_size(struct turbotap_dev *dev, int size);

/* Settings of a device that whoever attaches a queue can change for all: in a
 * container, root there. */
enum {
    TURBOTAP_DEV_VNET_HDR_SIZE = 1 << 0, /* All frames are shifted. */
    TURBOTAP_DEV_BYTE_ORDER = 1 << 1,    /* Headers mean something else. */
    TURBOTAP_DEV_SNDBUF = 1 << 2,        /* Sending may find no room. */
};

/* Returns those of them that are not what 'dev' has set, or what the kernel
 * has by default.  The offloads, filters and BPF programs cannot be read. */
unsigned int turbotap_dev_check(const struct turbotap_dev *dev);

/* Sets all of them as they were, and the offloads, and takes filters, BPF
 * programs among them, away.  Returns 0 or a positive errno value. */
int turbotap_dev_restore(struct turbotap_dev *dev);

#endif /* turbotap-dev.h */
