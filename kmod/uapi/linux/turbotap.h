/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The calls that /dev/net/turbotap takes: all that user space needs to know of
 * the module.  It knows nothing of the module's insides.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef _UAPI_LINUX_TURBOTAP_H
#define _UAPI_LINUX_TURBOTAP_H

#include <linux/if_xdp.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * define TURBOTAP_API_VERSION - the version of this interface
 *
 * Goes up by one when a call changes its meaning; a call that is only added
 * leaves it alone, since an older module answers that call with %ENOTTY.
 */
#define TURBOTAP_API_VERSION	1

/* Flags of struct turbotap_socket, which choose the new file descriptor's. */
#define TURBOTAP_NONBLOCK	0x1	/* as SOCK_NONBLOCK */
#define TURBOTAP_CLOEXEC	0x2	/* as SOCK_CLOEXEC */

/**
 * struct turbotap_socket - argument of %TURBOTAP_SOCKET
 * @tun_fd: a file descriptor of /dev/net/tun, open for reading and writing; it
 *	names one queue.  It stays the caller's.
 * @flags: any of %TURBOTAP_NONBLOCK and %TURBOTAP_CLOEXEC
 */
struct turbotap_socket {
	__s32 tun_fd;
	__u32 flags;
};

#define TURBOTAP_IOC_MAGIC	0xBB

/**
 * define TURBOTAP_GET_VERSION - ask for the version of this interface
 *
 * Stores the module's %TURBOTAP_API_VERSION through the argument, a pointer to
 * a __u32.  Returns 0, or -1 with errno %EFAULT.
 */
#define TURBOTAP_GET_VERSION	_IOR(TURBOTAP_IOC_MAGIC, 0x00, __u32)

/**
 * define TURBOTAP_SOCKET - make a socket that sends and receives on a queue
 *
 * One message is one frame, exactly as one read() or write() of the queue's
 * own descriptor is: with the packet information and the virtio-net header
 * that the queue is set to have.  The socket keeps the queue alive: closing
 * tun_fd does not end it.  While the queue has no device (before %TUNSETIFF,
 * after the device was deleted) sending and receiving fail with %EBADFD.
 *
 * Returns a new file descriptor, which is the caller's to close, or -1 with
 * errno:
 *
 * * %EBADF - tun_fd is not open, or not for both reading and writing
 * * %EINVAL - an unknown flag, or tun_fd is not of /dev/net/tun
 * * %EFAULT - the argument is not readable
 * * %EMFILE, %ENFILE, %ENOMEM - out of descriptors, files or memory
 */
#define TURBOTAP_SOCKET		_IOW(TURBOTAP_IOC_MAGIC, 0x01, struct turbotap_socket)

/* Calls on a turbotap socket.  An older module answers %EOPNOTSUPP. */

/**
 * struct turbotap_frame - a frame that is to be sent
 * @addr: of its first octet; what would be in a message
 * @len: octets
 * @error: stored if the frame could not be sent: a negative errno, as in
 *	io_uring; left alone if it was
 */
struct turbotap_frame {
	__aligned_u64 addr;
	__u32 len;
	__s32 error;
};

/**
 * struct turbotap_send - argument of %TURBOTAP_SEND
 * @frames: address of an array of struct turbotap_frame
 * @n: its elements, at most %TURBOTAP_SEND_MAX
 * @flags: 0
 */
struct turbotap_send {
	__aligned_u64 frames;
	__u32 n;
	__u32 flags;
};

#define TURBOTAP_SEND_MAX	1024

/**
 * define TURBOTAP_SEND - send frames
 *
 * Does for each frame, in order, what sendmsg() with %MSG_DONTWAIT does for a
 * message.  A frame that fails does not stop the following ones.
 *
 * Returns the number of frames whose turn has come, sent or failed: all of
 * them, unless the array cannot be read or written at that point, or a signal
 * has come.  Or -1 with errno:
 *
 * * %EINVAL - an unknown flag, or too many frames
 * * %EFAULT - the argument or the first element is not readable, or its error
 *   not writable
 */
#define TURBOTAP_SEND		_IOW(TURBOTAP_IOC_MAGIC, 0x02, struct turbotap_send)

/**
 * struct turbotap_ring_head - the indices of a ring, as those of AF_XDP
 * @producer: how many entries were put in, modulo 2^32; only who produces
 *	writes it, after the entry
 * @consumer: how many entries were taken out; only who consumes writes it
 * @flags: of the fill ring, %TURBOTAP_NEED_WAKEUP or 0; only the kernel writes
 *	it
 * @pad1: keeps the others on cache lines of their own, as the following
 * @pad2: unused
 * @pad3: unused
 *
 * Entry number i is element i modulo the number of entries of the ring's array.
 */
struct turbotap_ring_head {
	__u32 producer;
	__u32 pad1[15];
	__u32 consumer;
	__u32 pad2[15];
	__u32 flags;
	__u32 pad3[15];
};

/**
 * define TURBOTAP_NEED_WAKEUP - frames wait in the queue itself
 *
 * There were no buffers for them, or somebody else was reading, or the device
 * is gone.  They come when the next one does, or by %TURBOTAP_WAKEUP.
 */
#define TURBOTAP_NEED_WAKEUP	XDP_RING_NEED_WAKEUP

/**
 * define TURBOTAP_PKT_CONTD - the frame goes on in the next descriptor
 *
 * An option of struct xdp_desc; %XDP_PKT_CONTD of newer kernels.
 */
#define TURBOTAP_PKT_CONTD	0x1

/**
 * struct turbotap_rings - what an area for receiving begins with
 * @fill: user space produces, the kernel consumes: a __u64 per entry, the
 *	place of an empty chunk in the area
 * @rx: the kernel produces, user space consumes: a struct xdp_desc per entry,
 *	a frame or a piece of one, with what a message would begin with
 * @rx_dropped: frames that were lost: larger than all that the ring could ever
 *	have room for, or refused by tun; as in struct xdp_statistics
 * @rx_invalid_descs: entries of the fill ring that were not places of chunks,
 *	and were not used
 * @pad: unused
 *
 * The entries of the fill ring follow at once, those of the RX ring after them.
 * The chunks begin with the first that begins behind these; a chunk's place is
 * a multiple of its size, in octets from the start of the area.
 */
struct turbotap_rings {
	struct turbotap_ring_head fill;
	struct turbotap_ring_head rx;
	__aligned_u64 rx_dropped;
	__aligned_u64 rx_invalid_descs;
	__u64 pad[6];
};

/**
 * struct turbotap_rx_ring - argument of %TURBOTAP_RX_RING
 * @addr: of the area, which the caller made and has zeroed, but for the indices
 *	of the rings, which may begin anywhere; at the start of a page
 * @size: of the area in octets; whole pages
 * @chunk_size: of the buffers that it is divided into, in octets; a power of
 *	two, from 2048 to the size of a page
 * @entries: of either ring; a power of two
 * @hdr_len: octets that come before the Ethernet header of each frame: of the
 *	packet information and of the virtio-net header that the queue is set to
 *	have.  A frame with more than that may be lost, and counted.
 * @flags: 0
 */
struct turbotap_rx_ring {
	__aligned_u64 addr;
	__aligned_u64 size;
	__u32 chunk_size;
	__u32 entries;
	__u32 hdr_len;
	__u32 flags;
};

/**
 * define TURBOTAP_RX_RING - have frames put into memory
 *
 * From now on, who sends a frame to the device also puts it into a chunk of the
 * area, one that the fill ring names, and its descriptor into the RX ring.
 * Frames for which there is no room wait in the queue, and come later, in
 * order.  poll() says that the socket is readable if there is something in the
 * RX ring or in the queue.
 *
 * What recvmsg() and the queue's own file take is what waits in the queue:
 * frames that are in the RX ring are gone from there.  They are lost with the
 * area when the socket is closed, which ends all this, and only that does.  A
 * process that forks keeps the area; its child gets a copy.
 *
 * The pages of the area are pinned, and count against %RLIMIT_MEMLOCK of the
 * user, as those of AF_XDP do.  The kernel takes nothing that it reads there
 * for granted: who scribbles over the rings loses frames.
 *
 * Returns 0, or -1 with errno:
 *
 * * %EINVAL - an unknown flag, or a number that is not as said above, or an
 *   area that has no room for one chunk
 * * %EFAULT - the argument is not readable, or the area not writable memory
 *   that can be pinned and is nobody else's, as MAP_PRIVATE makes it
 * * %EBUSY - the socket, or another one of the same queue, has a ring
 * * %EOPNOTSUPP - there are no rings on this kind of machine
 * * %ENOBUFS - too much memory is locked already
 * * %ENOMEM - out of memory
 */
#define TURBOTAP_RX_RING	_IOW(TURBOTAP_IOC_MAGIC, 0x03, struct turbotap_rx_ring)

/**
 * define TURBOTAP_WAKEUP - put the frames that wait in the queue into the ring
 *
 * As many as there is room for; somebody who sends and is doing that already
 * goes on with it, and they may come a moment after the call.  Has no argument.
 * Returns 0, or -1 with errno:
 *
 * * %EINVAL - the socket has no ring
 * * %EBADFD - the device was deleted
 */
#define TURBOTAP_WAKEUP		_IO(TURBOTAP_IOC_MAGIC, 0x04)

#endif /* _UAPI_LINUX_TURBOTAP_H */
