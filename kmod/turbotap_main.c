// SPDX-License-Identifier: GPL-2.0
/*
 * A socket for a queue of a tun/tap device, so that recvmmsg() and sendmmsg()
 * move many frames in one system call.  It passes each message on to the tun
 * driver and must not know what is in a frame, nor which device it is for.
 *
 * /dev/net/turbotap takes the calls of <linux/turbotap.h>.  A turbotap socket
 * holds a reference on the tun file it was made from, which keeps everything
 * else that it uses alive; there is no global state, and nobody waits for
 * another (how rings do without: turbotap_ring.c).
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include <linux/file.h>
#include <linux/if_tun.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/security.h>
#include <linux/uio.h>

#include "turbotap_sock.h"

/*
 * The flags that a caller, or the socket layer for it, may pass; those outside
 * of TURBOTAP_TUN_FLAGS need nothing of tun: there is no SIGPIPE, every message
 * is a record, no descriptor is ever received, and no control data needs
 * conversion.
 */
#define TURBOTAP_SEND_FLAGS	(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR | \
				 MSG_BATCH | MSG_CMSG_COMPAT)
#define TURBOTAP_RECV_FLAGS	(MSG_DONTWAIT | MSG_TRUNC | MSG_NOSIGNAL | \
				 MSG_CMSG_CLOEXEC | MSG_CMSG_COMPAT)
#define TURBOTAP_TUN_FLAGS	(MSG_DONTWAIT | MSG_TRUNC)

static struct proto turbotap_proto = {
	.name		= "TURBOTAP",
	.owner		= THIS_MODULE,
	.obj_size	= sizeof(struct turbotap_sock),
};

/*
 * tun takes msg_control for a kernel structure full of pointers, since only
 * vhost-net ever calls it, and does not always look at msg_controllen.  The
 * socket layer leaves the *user's* pointer in msg_control when msg_controllen
 * is 0.  So a message with control data is refused, and tun sees NULL in any
 * case.
 */
static int turbotap_sendmsg(struct socket *sock, struct msghdr *m, size_t len)
{
	struct socket *tun_sock = turbotap_sk(sock)->tun_sock;
	const unsigned int flags = m->msg_flags;
	const size_t count = iov_iter_count(&m->msg_iter);
	void *const control = m->msg_control;
	int ret;

	if (unlikely(flags & ~TURBOTAP_SEND_FLAGS || m->msg_controllen))
		return -EINVAL;
	if (unlikely(m->msg_name))
		return -EISCONN;
	/*
	 * splice() and sendfile() come with this kind of iterator, or with
	 * MSG_SPLICE_PAGES, and decide themselves where a message ends.
	 */
	if (unlikely(iov_iter_is_kvec(&m->msg_iter)))
		return -EINVAL;

	/*
	 * tun is cheaper when it may not block: it builds the skb around the
	 * frame.  Only a queue whose send buffer is limited (TUNSETSNDBUF)
	 * can say EAGAIN, after it has consumed the virtio-net header: give
	 * that back to who tries again, here or, with the same message, in
	 * io_uring.
	 */
	m->msg_control = NULL;
	m->msg_flags = MSG_DONTWAIT;
	ret = tun_sock->ops->sendmsg(tun_sock, m, len);
	if (unlikely(ret == -EAGAIN)) {
		iov_iter_revert(&m->msg_iter,
				count - iov_iter_count(&m->msg_iter));
		if (!(flags & MSG_DONTWAIT)) {
			m->msg_flags = 0;
			ret = tun_sock->ops->sendmsg(tun_sock, m, len);
		}
	}
	m->msg_flags = flags;
	m->msg_control = control;
	return ret;
}

/* What turbotap_sendmsg() says of msg_control holds here as well. */
static int turbotap_recvmsg(struct socket *sock, struct msghdr *m, size_t len,
			    int flags)
{
	struct socket *tun_sock = turbotap_sk(sock)->tun_sock;
	void *const control = m->msg_control;
	int ret;

	if (unlikely(flags & ~TURBOTAP_RECV_FLAGS))
		return -EINVAL;

	m->msg_control = NULL;
	ret = tun_sock->ops->recvmsg(tun_sock, m, len,
				     flags & TURBOTAP_TUN_FLAGS);
	m->msg_control = control;
	return ret;
}

/* The tun file's own poll, on the tun file's own wait queue. */
static __poll_t turbotap_poll(struct file *file, struct socket *sock,
			      struct poll_table_struct *wait)
{
	const struct turbotap_sock *ts = turbotap_sk(sock);
	__poll_t mask = vfs_poll(ts->tun_file, wait);

	if (turbotap_ring_readable(ts))
		mask |= EPOLLIN | EPOLLRDNORM;
	return mask;
}

static int turbotap_sock_ioctl(struct socket *sock, unsigned int cmd,
			       unsigned long arg)
{
	struct turbotap_sock *ts = turbotap_sk(sock);
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case TURBOTAP_SEND:
		return turbotap_send_frames(ts, argp);
	case TURBOTAP_RX_RING:
		return turbotap_ring_setup(ts, argp);
	case TURBOTAP_WAKEUP:
		return turbotap_ring_wakeup(ts);
	default:
		return -EOPNOTSUPP;
	}
}

#ifdef CONFIG_COMPAT
static int turbotap_sock_compat_ioctl(struct socket *sock, unsigned int cmd,
				      unsigned long arg)
{
	return turbotap_sock_ioctl(sock, cmd, (unsigned long)compat_ptr(arg));
}
#endif

/* Refused, as it is for the tun file; without this, it would half work. */
static ssize_t turbotap_splice_read(struct socket *sock, loff_t *ppos,
				    struct pipe_inode_info *pipe, size_t len,
				    unsigned int flags)
{
	return -EINVAL;
}

/* Prints the device's name, as for the tun file. */
static void turbotap_show_fdinfo(struct seq_file *m, struct socket *sock)
{
	struct file *tun_file = turbotap_sk(sock)->tun_file;

	if (tun_file->f_op->show_fdinfo)
		tun_file->f_op->show_fdinfo(m, tun_file);
}

static int turbotap_release(struct socket *sock)
{
	struct sock *sk = sock->sk;
	struct file *tun_file;

	if (!sk)
		return 0;

	tun_file = turbotap_sk(sock)->tun_file;
	turbotap_ring_release(turbotap_sk(sock));
	sock_prot_inuse_add(sock_net(sk), sk->sk_prot, -1);
	sock_orphan(sk);
	sock->sk = NULL;
	sock_put(sk);
	fput(tun_file);
	return 0;
}

/* An operation that is absent here is one that the socket layer refuses. */
static const struct proto_ops turbotap_ops = {
	.family		= PF_UNSPEC,
	.owner		= THIS_MODULE,
	.release	= turbotap_release,
	.bind		= sock_no_bind,
	.connect	= sock_no_connect,
	.socketpair	= sock_no_socketpair,
	.accept		= sock_no_accept,
	.getname	= sock_no_getname,
	.poll		= turbotap_poll,
	.ioctl		= turbotap_sock_ioctl,
#ifdef CONFIG_COMPAT
	.compat_ioctl	= turbotap_sock_compat_ioctl,
#endif
	.listen		= sock_no_listen,
	.shutdown	= sock_no_shutdown,
	.show_fdinfo	= turbotap_show_fdinfo,
	.sendmsg	= turbotap_sendmsg,
	.recvmsg	= turbotap_recvmsg,
	.mmap		= sock_no_mmap,
	.splice_read	= turbotap_splice_read,
};

/*
 * Makes a socket for the queue of 'tun_file'.  Takes over the caller's
 * reference on 'tun_file', on failure too.  Returns the socket's file, or an
 * ERR_PTR().
 *
 * The family is not AF_PACKET, since vhost-net would take the socket for a
 * packet socket.  The socket is labelled as tun labelled its own.
 */
static struct file *turbotap_sock_file(struct file *tun_file, int file_flags)
{
	struct socket *tun_sock, *sock;
	struct turbotap_sock *ts;
	struct sock *sk;
	int err;

	tun_sock = tun_get_socket(tun_file);
	if (IS_ERR(tun_sock)) {
		err = PTR_ERR(tun_sock);
		goto err_put_tun;
	}

	sock = sock_alloc();
	if (!sock) {
		err = -ENFILE;
		goto err_put_tun;
	}
	sock->type = SOCK_RAW;

	sk = sk_alloc(sock_net(tun_sock->sk), PF_UNSPEC, GFP_KERNEL,
		      &turbotap_proto, 0);
	if (!sk) {
		err = -ENOMEM;
		goto err_release_sock;
	}
	sock_init_data(sock, sk);
	security_sk_clone(tun_sock->sk, sk);
	ts = turbotap_sk(sock);
	ts->tun_file = tun_file;
	ts->tun_sock = tun_sock;
	ts->ring = NULL;

#ifdef HAVE_SOCK_CUSTOM_SOCKOPT
	/* No option would have an effect: do not let sk_setsockopt() say so. */
	set_bit(SOCK_CUSTOM_SOCKOPT, &sock->flags);
#endif
	__module_get(turbotap_ops.owner);	/* sock_release() puts it */
	sock->ops = &turbotap_ops;
	sock_prot_inuse_add(sock_net(sk), sk->sk_prot, 1);

	/* Releases 'sock', and thereby all the rest, if it fails. */
	return sock_alloc_file(sock, file_flags, NULL);

err_release_sock:
	sock_release(sock);
err_put_tun:
	fput(tun_file);
	return ERR_PTR(err);
}

/* Serves TURBOTAP_SOCKET.  Returns a file descriptor or a negative errno. */
static int turbotap_socket(const struct turbotap_socket *req)
{
	const fmode_t rw = FMODE_READ | FMODE_WRITE;
	struct file *tun_file, *file;
	int fd;

	if (req->flags & ~(TURBOTAP_NONBLOCK | TURBOTAP_CLOEXEC))
		return -EINVAL;

	fd = get_unused_fd_flags(req->flags & TURBOTAP_CLOEXEC ? O_CLOEXEC : 0);
	if (fd < 0)
		return fd;

	tun_file = fget(req->tun_fd);
	if (!tun_file) {
		file = ERR_PTR(-EBADF);
	} else if ((tun_file->f_mode & rw) != rw) {
		fput(tun_file);
		file = ERR_PTR(-EBADF);
	} else {
		file = turbotap_sock_file(tun_file,
					  req->flags & TURBOTAP_NONBLOCK ?
					  O_NONBLOCK : 0);
	}
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}

	fd_install(fd, file);
	return fd;
}

static long turbotap_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	void __user *argp = (void __user *)arg;
	struct turbotap_socket req;

	switch (cmd) {
	case TURBOTAP_GET_VERSION:
		return put_user(TURBOTAP_API_VERSION, (__u32 __user *)argp);
	case TURBOTAP_SOCKET:
		if (copy_from_user(&req, argp, sizeof(req)))
			return -EFAULT;
		return turbotap_socket(&req);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations turbotap_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= turbotap_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

/* For everybody, as /dev/net/tun is: the right is in holding a tun file. */
static struct miscdevice turbotap_misc = {
	.minor		= MISC_DYNAMIC_MINOR,
	.name		= "turbotap",
	.nodename	= "net/turbotap",
	.mode		= 0666,
	.fops		= &turbotap_fops,
};

static int __init turbotap_init(void)
{
	int err;

	err = proto_register(&turbotap_proto, 1);
	if (err)
		return err;

	err = misc_register(&turbotap_misc);
	if (err)
		proto_unregister(&turbotap_proto);
	return err;
}

static void __exit turbotap_exit(void)
{
	misc_deregister(&turbotap_misc);
	proto_unregister(&turbotap_proto);
}

module_init(turbotap_init);
module_exit(turbotap_exit);

MODULE_AUTHOR("The turbotap authors");
MODULE_DESCRIPTION("Sockets for the queues of tun/tap devices");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
