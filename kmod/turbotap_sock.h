/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the module share.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef TURBOTAP_SOCK_H
#define TURBOTAP_SOCK_H

#include <linux/fs.h>
#include <linux/net.h>
#include <net/sock.h>

#include <linux/turbotap.h>

struct turbotap_ring;

/**
 * struct turbotap_sock - what a turbotap socket is
 * @sk: must be first
 * @tun_file: the queue's file; the socket owns a reference
 * @tun_sock: the queue's socket inside the tun driver; lives as long as
 *	@tun_file, and is what vhost-net would use
 * @ring: the receive ring, or %NULL; set at most once, by who made it that of
 *	the queue, and read with smp_load_acquire()
 */
struct turbotap_sock {
	struct sock		sk;
	struct file		*tun_file;
	struct socket		*tun_sock;
	struct turbotap_ring	*ring;
};

static inline struct turbotap_sock *turbotap_sk(const struct socket *sock)
{
	return container_of(sock->sk, struct turbotap_sock, sk);
}

/* turbotap_ring.c */
int turbotap_ring_setup(struct turbotap_sock *ts, void __user *argp);
int turbotap_ring_wakeup(struct turbotap_sock *ts);
bool turbotap_ring_readable(const struct turbotap_sock *ts);
void turbotap_ring_release(struct turbotap_sock *ts);

/* turbotap_send.c */
int turbotap_send_frames(struct turbotap_sock *ts, const void __user *argp);

#endif /* TURBOTAP_SOCK_H */
