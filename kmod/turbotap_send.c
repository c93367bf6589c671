// SPDX-License-Identifier: GPL-2.0
/*
 * Sending a batch of frames in one call.  What sendmmsg() costs for each
 * message beyond what tun does with it, to copy and check a struct msghdr, is
 * left out.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include <linux/sched/signal.h>
#include <linux/socket.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "turbotap_sock.h"

/* How many frames are copied in at once. */
#define TURBOTAP_SEND_PART	16

/*
 * Hands the frame that 'frame' describes to tun, or if 'check', to the socket
 * layer, which asks the security modules first, as for any message.  As for one
 * of sendmmsg(), tun may not block: see turbotap_sendmsg().
 */
static int turbotap_send_frame(struct turbotap_sock *ts,
			       const struct turbotap_frame *frame, bool check)
{
	struct msghdr m = { .msg_flags = MSG_DONTWAIT };
	void __user *data = u64_to_user_ptr(frame->addr);

	/* The most that the socket layer takes, and tun expects. */
	if (unlikely(frame->len > INT_MAX))
		return -EINVAL;
	if (unlikely(!access_ok(data, frame->len)))
		return -EFAULT;
	iov_iter_ubuf(&m.msg_iter, ITER_SOURCE, data, frame->len);
	if (check)
		return sock_sendmsg(ts->sk.sk_socket, &m);
	return ts->tun_sock->ops->sendmsg(ts->tun_sock, &m, frame->len);
}

/*
 * Serves TURBOTAP_SEND.  Returns the number of frames whose turn has come, or a
 * negative errno.
 */
int turbotap_send_frames(struct turbotap_sock *ts, const void __user *argp)
{
	struct turbotap_frame part[TURBOTAP_SEND_PART];
	struct turbotap_frame __user *frames;
	struct turbotap_send req;
	unsigned int done = 0;
	bool check = true;

	if (copy_from_user(&req, argp, sizeof(req)))
		return -EFAULT;
	if (req.flags || req.n > TURBOTAP_SEND_MAX)
		return -EINVAL;
	frames = u64_to_user_ptr(req.frames);

	while (done < req.n) {
		unsigned int n = min_t(unsigned int, req.n - done,
				       ARRAY_SIZE(part));
		unsigned int i;

		if (copy_from_user(part, &frames[done], n * sizeof(part[0])))
			return done ?: -EFAULT;
		for (i = 0; i < n; i++) {
			int ret = turbotap_send_frame(ts, &part[i], check);

			/* As in sendmmsg(), one that may be sent will do. */
			if (ret >= 0)
				check = false;
			if (unlikely(ret < 0) &&
			    put_user(ret, &frames[done + i].error))
				return done + i ?: -EFAULT;
		}
		done += n;
		if (signal_pending(current))
			break;
		cond_resched();
	}
	return done;
}
