/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The calls that /dev/net/turbotap takes: all that user space needs to know of
 * the module.  It knows nothing of the module's insides.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef _UAPI_LINUX_TURBOTAP_H
#define _UAPI_LINUX_TURBOTAP_H

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

#endif /* _UAPI_LINUX_TURBOTAP_H */
