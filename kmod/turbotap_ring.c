// SPDX-License-Identifier: GPL-2.0
/*
 * Receiving without a call: the CPU that sends a frame to the device also puts
 * it into memory that user space looks at.
 *
 * tun_net_xmit() leaves the frame in the queue's own ring of pointers, and
 * tells the queue's socket (sk_data_ready).  That callback is replaced here by
 * one that takes the frame out again and has tun copy it, as vhost-net does: it
 * passes the skb, or the XDP frame, through msg_control.  So what a frame looks
 * like, and its statistics, are tun's; this file must know nothing of it but
 * how much room it takes.
 *
 * The memory is the user's, and nothing in it is trusted: each index and place
 * is read once, and checked.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include <linux/if_tun.h>
#include <linux/if_vlan.h>
#include <linux/if_xdp.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/ptr_ring.h>
#include <linux/rtnetlink.h>
#include <linux/sched/clock.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <net/xdp.h>

#include "turbotap_sock.h"

/*
 * How much is moved at once, in octets of the chunks that it goes into: by
 * TURBOTAP_WAKEUP, and by a sender, which has other things to do than to work
 * for others, and begins no other frame for them when so many ns are over.
 */
#define TURBOTAP_WAKEUP_OCTETS	(256 << 10)
#define TURBOTAP_SENDER_OCTETS	(64 << 10)
#define TURBOTAP_SENDER_NS	(50 * NSEC_PER_USEC)

/*
 * Machines of 64 bits have rings: with 32, what tun counts is behind a lock
 * that may be taken in process context, by read(), when a sender comes in
 * between.  And those on which user and kernel see the same memory, without
 * flushing caches.
 */
#define TURBOTAP_HAS_RINGS	(IS_ENABLED(CONFIG_64BIT) && \
				 !IS_ENABLED(CONFIG_MIPS) && \
				 !IS_ENABLED(CONFIG_PARISC) && \
				 !IS_ENABLED(CONFIG_SPARC))

/* The most pieces that a frame may be in. */
#define TURBOTAP_RING_PIECES	64

/**
 * enum turbotap_ring_state - is somebody moving frames?
 * @TURBOTAP_RING_FREE: nobody
 * @TURBOTAP_RING_BUSY: one CPU, and nobody else came
 * @TURBOTAP_RING_AGAIN: one CPU, and somebody else came, who left it to that
 */
enum turbotap_ring_state {
	TURBOTAP_RING_FREE,
	TURBOTAP_RING_BUSY,
	TURBOTAP_RING_AGAIN,
};

/**
 * struct turbotap_ring - a receive ring
 * @state: of enum turbotap_ring_state; who changes it from
 *	%TURBOTAP_RING_FREE has the ring, with bottom halves off, until he
 *	changes it back: all that follows but what never changes.  He may take
 *	the consumer lock of @tun_ring, but wait for nothing.
 * @tun_file: the queue's file
 * @tun_sock: the queue's socket
 * @tun_ring: the queue's ring of pointers; lives as long as the tun file
 * @data_ready: tun's own callback
 * @rings: the head of the area
 * @fill: the fill ring
 * @rx: the RX ring
 * @mask: number of entries of either, less one
 * @chunk_size: octets of a chunk
 * @hdr_len: octets before a frame
 * @area: the area, where the kernel sees it
 * @first_chunk: place of the first chunk in the area
 * @area_size: octets
 * @fill_consumer: entries of @fill that were taken; wraps, as all four indices
 * @rx_producer: entries of @rx that were made
 * @n_chunks: elements of @chunks that are chunks
 * @chunks: empty chunks that were taken from @fill; the one behind the last is
 *	for turbotap_ring_copy()
 * @spare: what does not fit into chunks, where that is not to be lost silently
 * @dropped: the true value of rx_dropped
 * @invalid: the true value of rx_invalid_descs
 * @mmp: the account that the area is on
 * @n_pages: elements of @pages
 * @pages: the area's, pinned
 */
struct turbotap_ring {
	atomic_t		state;
	struct file		*tun_file;
	struct socket		*tun_sock;
	struct ptr_ring		*tun_ring;
	void			(*data_ready)(struct sock *sk);

	struct turbotap_rings	*rings;
	u64			*fill;
	struct xdp_desc		*rx;
	u32			mask;
	u32			chunk_size;
	u32			hdr_len;
	void			*area;
	u64			first_chunk;
	u64			area_size;

	u32			fill_consumer;
	u32			rx_producer;
	unsigned int		n_chunks;
	struct kvec		chunks[TURBOTAP_RING_PIECES + 1];
	u8			spare;
	u64			dropped;
	u64			invalid;

	struct mmpin		mmp;
	unsigned int		n_pages;
	struct page		**pages;
};

/* Was the device deleted?  As tun_detach_all() leaves it, until the next. */
static bool turbotap_ring_is_gone(const struct turbotap_ring *ring)
{
	return READ_ONCE(ring->tun_sock->sk->sk_shutdown) & RCV_SHUTDOWN;
}

/* Has the user of 'ring' call TURBOTAP_WAKEUP. */
static void turbotap_ring_ask(struct turbotap_ring *ring)
{
	WRITE_ONCE(ring->rings->fill.flags, TURBOTAP_NEED_WAKEUP);
}

/* Counts a frame of 'ring' as lost. */
static void turbotap_ring_drop(struct turbotap_ring *ring)
{
	WRITE_ONCE(ring->rings->rx_dropped, ++ring->dropped);
}

/*
 * Takes places of chunks from the fill ring until there are 'n' of them, at
 * most TURBOTAP_RING_PIECES.  Returns false if there are not so many, or if too
 * many are bad: the next call goes on from there.
 */
static bool turbotap_ring_take_chunks(struct turbotap_ring *ring,
				      unsigned int n)
{
	struct turbotap_ring_head *head = &ring->rings->fill;
	u32 entries;

	if (ring->n_chunks >= n)
		return true;

	/* The entries are read after this; the user wrote them before it. */
	entries = smp_load_acquire(&head->producer) - ring->fill_consumer;
	if (unlikely(entries > ring->mask + 1))
		return false;
	entries = min_t(u32, entries, TURBOTAP_RING_PIECES);

	for (; entries && ring->n_chunks < n; entries--) {
		u32 i = ring->fill_consumer++ & ring->mask;
		u64 place = READ_ONCE(ring->fill[i]);

		if (unlikely(place & (ring->chunk_size - 1) ||
			     place < ring->first_chunk ||
			     place >= ring->area_size)) {
			WRITE_ONCE(ring->rings->rx_invalid_descs,
				   ++ring->invalid);
			continue;
		}
		ring->chunks[ring->n_chunks++].iov_base = ring->area + place;
	}
	/* The entries were read before this. */
	smp_store_release(&head->consumer, ring->fill_consumer);
	return ring->n_chunks >= n;
}

/* Is there room for 'n' entries in the RX ring? */
static bool turbotap_ring_has_room(const struct turbotap_ring *ring,
				   unsigned int n)
{
	u32 used = ring->rx_producer;

	/* The user has read the entries before it says so here. */
	used -= smp_load_acquire(&ring->rings->rx.consumer);
	return used <= ring->mask + 1 && n <= ring->mask + 1 - used;
}

/* How many chunks does 'ptr', of tun's ring, take at most? */
static unsigned int turbotap_ring_pieces(const struct turbotap_ring *ring,
					 void *ptr)
{
	unsigned int len;

	if (tun_is_xdp_frame(ptr)) {
		len = tun_ptr_to_xdp(ptr)->len;
	} else {
		const struct sk_buff *skb = ptr;

		len = skb->len + (skb_vlan_tag_present(skb) ? VLAN_HLEN : 0);
	}
	return DIV_ROUND_UP(ring->hdr_len + len, ring->chunk_size);
}

/*
 * Makes entries of the RX ring for a frame of 'len' octets in the chunks from
 * 'first' on.  Returns how many.
 */
static unsigned int turbotap_ring_publish(struct turbotap_ring *ring,
					  const struct kvec *first,
					  unsigned int len)
{
	u32 producer = ring->rx_producer;
	unsigned int n = 0;

	while (len) {
		struct xdp_desc *desc = &ring->rx[producer++ & ring->mask];
		unsigned int part = min(len, ring->chunk_size);

		len -= part;
		WRITE_ONCE(desc->addr, first[n++].iov_base - ring->area);
		WRITE_ONCE(desc->len, part);
		WRITE_ONCE(desc->options, len ? TURBOTAP_PKT_CONTD : 0);
	}
	/* Read by turbotap_ring_readable(). */
	WRITE_ONCE(ring->rx_producer, producer);
	/* Chunks and entries were written before this. */
	smp_store_release(&ring->rings->rx.producer, producer);
	return n;
}

/*
 * Has tun copy 'ptr', of its ring, into the last 'n' of the empty chunks.
 *
 * If the header is longer than the user has said, the frame may not fit.  Of an
 * skb, tun then says how long it was; of an XDP frame, how much of it there was
 * room for, and so there is room for one octet more.
 */
static void turbotap_ring_copy(struct turbotap_ring *ring, void *ptr,
			       unsigned int n)
{
	const size_t size = n * (size_t)ring->chunk_size;
	struct kvec *first = &ring->chunks[ring->n_chunks - n];
	const struct kvec next = first[n];
	struct msghdr m = {
		.msg_control = ptr,
	};
	unsigned int used;
	int ret;

	first[n] = (struct kvec){ &ring->spare, sizeof(ring->spare) };
	iov_iter_kvec(&m.msg_iter, ITER_DEST, first, n + 1, size + 1);
	/* Frees 'ptr' in any case. */
	ret = ring->tun_sock->ops->recvmsg(ring->tun_sock, &m, size + 1,
					   MSG_DONTWAIT | MSG_TRUNC);
	first[n] = next;
	if (unlikely(ret <= 0 || ret > size)) {
		turbotap_ring_drop(ring);
		return;
	}

	used = turbotap_ring_publish(ring, first, ret);
	ring->n_chunks -= used;
	if (unlikely(used < n))
		memmove(first, first + used, (n - used) * sizeof(*first));
}

/*
 * Tells tun that a frame was taken, whose consumer lock is held, since it may
 * have stopped the device's queue when its ring was full (IFF_BACKPRESSURE).
 */
static void turbotap_ring_consumed(const struct turbotap_ring *ring)
{
#ifdef HAVE_TUN_WAKE_QUEUE
	tun_wake_queue(ring->tun_file, 1);
#endif
}

/*
 * Moves the frame that has waited longest.  Returns how many octets it had room
 * for, or -ENOENT if there is none, -EAGAIN if it has to wait.
 *
 * Others, who read() the queue, take the consumer lock with bottom halves on:
 * this may be what this CPU was interrupted in.  So nobody waits for it here.
 */
static int turbotap_ring_move(struct turbotap_ring *ring)
{
	struct ptr_ring *tun_ring = ring->tun_ring;
	unsigned int n = 0;
	bool fits;
	void *ptr;
	int err = 0;

	if (!spin_trylock(&tun_ring->consumer_lock))
		return -EAGAIN;

	/* No longer than the lock: another reader may free 'ptr'. */
	ptr = __ptr_ring_peek(tun_ring);
	if (!ptr) {
		err = -ENOENT;
		goto out;
	}
	n = turbotap_ring_pieces(ring, ptr);
	fits = n <= TURBOTAP_RING_PIECES && n <= ring->mask + 1;
	if (likely(fits) && (!turbotap_ring_has_room(ring, n) ||
			     !turbotap_ring_take_chunks(ring, n))) {
		err = -EAGAIN;
		goto out;
	}
	__ptr_ring_discard_one(tun_ring);
	turbotap_ring_consumed(ring);
out:
	spin_unlock(&tun_ring->consumer_lock);
	if (err)
		return err;

	if (unlikely(!fits)) {
		tun_ptr_free(ptr);
		turbotap_ring_drop(ring);
	} else {
		turbotap_ring_copy(ring, ptr, n);
	}
	return n * ring->chunk_size;
}

/**
 * struct turbotap_budget - what one caller still does for others
 * @octets: of the chunks of frames that are moved, and a chunk for each look
 *	in vain
 * @ns: for how long, from the first frame on; 0 if that does not matter
 * @end: when that is over, by local_clock(); 0 before the first frame
 */
struct turbotap_budget {
	int octets;
	u64 ns;
	u64 end;
};

static bool turbotap_budget_lasts(struct turbotap_budget *budget)
{
	u64 now;

	if (budget->octets <= 0)
		return false;
	if (!budget->ns)
		return true;
	now = local_clock();
	if (!budget->end)
		budget->end = now + budget->ns;
	return now < budget->end;
}

/*
 * Moves frames as long as there are any, and room for them, and 'budget' lasts.
 * Leaves it to the user to ask for the others.
 */
static void turbotap_ring_move_all(struct turbotap_ring *ring,
				   struct turbotap_budget *budget)
{
	u32 *flags = &ring->rings->fill.flags;
	int ret;

	do {
		ret = turbotap_ring_move(ring);
		budget->octets -= ret >= 0 ? ret : ring->chunk_size;
	} while (ret >= 0 && turbotap_budget_lasts(budget));

	if (likely(ret == -ENOENT)) {
		if (likely(!READ_ONCE(*flags)))
			return;
		WRITE_ONCE(*flags, 0);
		/*
		 * Pairs with the one in turbotap_data_ready(), where the ring
		 * is not taken:
		 *
		 *	here:		there:
		 *	flag = 0	frame put in, or sk_shutdown = 1
		 *	smp_mb()	smp_mb()
		 *	look for both	flag = NEED_WAKEUP
		 *
		 * If this sees neither, the flag is set after it was cleared.
		 */
		smp_mb();
		if (turbotap_ring_move(ring) == -ENOENT &&
		    !turbotap_ring_is_gone(ring))
			return;
	}
	turbotap_ring_ask(ring);
}

/*
 * Takes the ring, or leaves it to who has it to move what there is now.
 * Returns false in that case.
 *
 * All that is said of a ring that is taken is in one word, which only changes
 * as a whole:
 *
 *	who comes:			who has it:
 *	a frame is put in		looks for frames
 *	state = AGAIN, if not FREE	state = FREE, if BUSY
 *
 * Either the first comes later, finds it FREE and takes the ring; or the
 * second does, finds AGAIN, makes that BUSY, and looks again.  Each of these
 * reads what the one before it wrote, with release there and acquire here (all
 * of them are both), so the second look sees the frame; and who takes the ring
 * sees all that the one before has done to it.
 */
static bool turbotap_ring_take(struct turbotap_ring *ring)
{
	if (likely(atomic_cmpxchg(&ring->state, TURBOTAP_RING_FREE,
				  TURBOTAP_RING_BUSY) == TURBOTAP_RING_FREE))
		return true;
	/* It may have been given back just now. */
	return atomic_xchg(&ring->state, TURBOTAP_RING_AGAIN) ==
	       TURBOTAP_RING_FREE;
}

/*
 * Gives the ring back.  Returns false if somebody has come in between, and then
 * the ring is still the caller's.
 */
static bool turbotap_ring_give_back(struct turbotap_ring *ring)
{
	if (likely(atomic_cmpxchg(&ring->state, TURBOTAP_RING_BUSY,
				  TURBOTAP_RING_FREE) == TURBOTAP_RING_BUSY))
		return true;
	atomic_xchg(&ring->state, TURBOTAP_RING_BUSY);
	return false;
}

/*
 * Moves what there is, and what comes meanwhile, as long as 'octets' and,
 * unless 0, 'ns' last; unless somebody else is at it, who does it then: nobody
 * waits for who may copy 64 KiB, or be on a virtual CPU that does not run.
 * Bottom halves are off, so that who has the ring is not kept from it by other
 * senders.
 *
 * Returns true if others came: what they had put in may not have been to be
 * seen in either ring when they woke who waits.
 */
static bool turbotap_ring_run(struct turbotap_ring *ring, int octets, u64 ns)
{
	struct turbotap_budget budget = {
		.octets = octets,
		.ns = ns,
	};
	bool others = false;

	if (!turbotap_ring_take(ring))
		return false;
	turbotap_ring_move_all(ring, &budget);
	while (unlikely(!turbotap_ring_give_back(ring))) {
		others = true;
		if (turbotap_budget_lasts(&budget)) {
			turbotap_ring_move_all(ring, &budget);
			continue;
		}
		/*
		 * Who comes from now on takes the ring.  A mere store would
		 * not let that see what those have put in who came before.
		 */
		turbotap_ring_ask(ring);
		atomic_xchg(&ring->state, TURBOTAP_RING_FREE);
		break;
	}
	return others;
}

static void turbotap_data_ready(struct sock *sk);

/*
 * The ring that 'sk' has, or NULL if it has none any more, and then '*tuns' is
 * tun's own callback.  For turbotap_data_ready(), which tun has called.
 *
 * That a ring comes and goes is seen in this order, whichever CPU does it:
 *
 *	turbotap_ring_install()		turbotap_ring_release()
 *	sk_user_data = ring		sk_data_ready = tun's
 *	release				release
 *	sk_data_ready = ours		sk_user_data = NULL
 *
 * tun read sk_data_ready with no barrier, so it may have been ours, and
 * sk_user_data from before that.  But if sk_user_data is read before
 * sk_data_ready, with a read barrier between them, it cannot be NULL and that
 * ours, unless a ring has come meanwhile: then the next look finds it.
 */
static struct turbotap_ring *
turbotap_ring_get(struct sock *sk, void (**tuns)(struct sock *sk))
{
	struct turbotap_ring *ring;

	for (;;) {
		ring = rcu_dereference_sk_user_data(sk);
		if (likely(ring))
			return ring;
		/* Pairs with the releases. */
		smp_rmb();
		*tuns = READ_ONCE(sk->sk_data_ready);
		if (*tuns != turbotap_data_ready)
			return NULL;
		/* Pairs with the release of turbotap_ring_install(). */
		smp_rmb();
	}
}

/*
 * The sk_data_ready of a queue that has a ring.  tun calls it when it has put a
 * frame into its ring, in an RCU read-side section and with bottom halves or
 * interrupts off; and, holding the rtnl lock, when the device is deleted.
 */
static void turbotap_data_ready(struct sock *sk)
{
	void (*data_ready)(struct sock *sk);
	struct turbotap_ring *ring;

	rcu_read_lock();
	ring = turbotap_ring_get(sk, &data_ready);
	if (likely(ring))
		data_ready = ring->data_ready;

	if (unlikely(!ring)) {
		/* The frame is left to whoever reads the queue. */
	} else if (unlikely(irqs_disabled() || turbotap_ring_is_gone(ring))) {
		/*
		 * netpoll, which must not take locks; or there will be no
		 * more frames, which the user is told when it asks.  See
		 * turbotap_ring_move_all().
		 */
		smp_mb();
		turbotap_ring_ask(ring);
	} else {
		local_bh_disable();
		turbotap_ring_run(ring, TURBOTAP_SENDER_OCTETS,
				  TURBOTAP_SENDER_NS);
		local_bh_enable();
	}

	/* Costs little if nobody waits. */
	data_ready(sk);
	rcu_read_unlock();
}

/* Is there something in the RX ring? */
bool turbotap_ring_readable(const struct turbotap_sock *ts)
{
	/* Pairs with turbotap_ring_setup(). */
	const struct turbotap_ring *ring = smp_load_acquire(&ts->ring);

	return ring && READ_ONCE(ring->rx_producer) !=
		       READ_ONCE(ring->rings->rx.consumer);
}

/* Serves TURBOTAP_WAKEUP.  Returns 0 or a negative errno. */
int turbotap_ring_wakeup(struct turbotap_sock *ts)
{
	/* Pairs with turbotap_ring_setup(). */
	struct turbotap_ring *ring = smp_load_acquire(&ts->ring);
	bool others;

	if (!ring)
		return -EINVAL;
	if (turbotap_ring_is_gone(ring))
		return -EBADFD;

	local_bh_disable();
	others = turbotap_ring_run(ring, TURBOTAP_WAKEUP_OCTETS, 0);
	local_bh_enable();
	if (unlikely(others))
		ring->data_ready(ring->tun_sock->sk);
	return 0;
}

/* Is 'req' as it should be? */
static bool turbotap_ring_valid(const struct turbotap_rx_ring *req,
				u64 first_chunk)
{
	return !req->flags &&
	       is_power_of_2(req->chunk_size) &&
	       req->chunk_size >= 2048 && req->chunk_size <= PAGE_SIZE &&
	       is_power_of_2(req->entries) &&
	       req->hdr_len < req->chunk_size &&
	       PAGE_ALIGNED(req->addr) && PAGE_ALIGNED(req->size) &&
	       req->size <= INT_MAX && first_chunk < req->size;
}

/* Where do the chunks begin?  The sizes need not be valid. */
static u64 turbotap_ring_first_chunk(const struct turbotap_rx_ring *req)
{
	u64 end = sizeof(struct turbotap_rings) +
		  req->entries * (u64)(sizeof(u64) + sizeof(struct xdp_desc));

	return round_up(end, (u64)req->chunk_size);
}

/* Puts back what turbotap_ring_pin() did, or the first part of it. */
static void turbotap_ring_unpin(struct turbotap_ring *ring)
{
	if (ring->area)
		vunmap(ring->area);
	unpin_user_pages_dirty_lock(ring->pages, ring->n_pages, true);
	kvfree(ring->pages);
	mm_unaccount_pinned_pages(&ring->mmp);
}

/*
 * Pins the area that 'req' describes and has the kernel see it.  Returns 0 or a
 * negative errno, and then turbotap_ring_unpin() is left to be called.
 */
static int turbotap_ring_pin(struct turbotap_ring *ring,
			     const struct turbotap_rx_ring *req)
{
	const unsigned int n = req->size >> PAGE_SHIFT;
	int ret;

	if (!access_ok(u64_to_user_ptr(req->addr), req->size))
		return -EFAULT;
	ret = mm_account_pinned_pages(&ring->mmp, req->size);
	if (ret)
		return ret;
	ring->pages = kvcalloc(n, sizeof(*ring->pages), GFP_KERNEL_ACCOUNT);
	if (!ring->pages)
		return -ENOMEM;

	while (ring->n_pages < n) {
		unsigned int i;

		ret = pin_user_pages_fast(req->addr +
					  ((u64)ring->n_pages << PAGE_SHIFT),
					  n - ring->n_pages,
					  FOLL_WRITE | FOLL_LONGTERM,
					  ring->pages + ring->n_pages);
		if (ret <= 0)
			return ret ?: -EFAULT;
		i = ring->n_pages;
		ring->n_pages += ret;
		/*
		 * Before 6.5, pages of a file can be pinned, too, and are then
		 * written behind the back of its file system.
		 */
		for (; i < ring->n_pages; i++) {
			if (!folio_test_anon(page_folio(ring->pages[i])))
				return -EFAULT;
		}
	}

	ring->area = vmap(ring->pages, n, VM_MAP, PAGE_KERNEL);
	return ring->area ? 0 : -ENOMEM;
}

/* Makes what 'ring' is to be of 'req', which is valid, and of its area. */
static void turbotap_ring_init(struct turbotap_ring *ring,
			       const struct turbotap_rx_ring *req,
			       u64 first_chunk)
{
	unsigned int i;

	atomic_set(&ring->state, TURBOTAP_RING_FREE);
	ring->rings = ring->area;
	ring->fill_consumer = READ_ONCE(ring->rings->fill.consumer);
	ring->rx_producer = READ_ONCE(ring->rings->rx.producer);
	ring->fill = (u64 *)(ring->rings + 1);
	ring->rx = (struct xdp_desc *)(ring->fill + req->entries);
	ring->mask = req->entries - 1;
	ring->chunk_size = req->chunk_size;
	ring->hdr_len = req->hdr_len;
	ring->first_chunk = first_chunk;
	ring->area_size = req->size;
	for (i = 0; i < TURBOTAP_RING_PIECES; i++)
		ring->chunks[i].iov_len = req->chunk_size;
}

/*
 * Has the queue of 'ts' use 'ring'.  Returns 0, or a negative errno if it has
 * one already.
 *
 * Holds the rtnl lock, as who deletes the device does: that either has been,
 * and its mark is seen after this, or calls back.
 */
static int turbotap_ring_install(struct turbotap_sock *ts,
				 struct turbotap_ring *ring)
{
	struct sock *sk = ts->tun_sock->sk;
	int err = 0;

	rtnl_lock();
	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_user_data) {
		err = -EBUSY;
	} else {
		ring->data_ready = sk->sk_data_ready;
		rcu_assign_sk_user_data(sk, ring);
		/* Pairs with turbotap_ring_get(). */
		smp_store_release(&sk->sk_data_ready, turbotap_data_ready);
	}
	write_unlock_bh(&sk->sk_callback_lock);
	rtnl_unlock();
	return err;
}

/* Serves TURBOTAP_RX_RING.  Returns 0 or a negative errno. */
int turbotap_ring_setup(struct turbotap_sock *ts, void __user *argp)
{
	struct turbotap_rx_ring req;
	struct turbotap_ring *ring;
	u64 first_chunk;
	int err;

	if (!TURBOTAP_HAS_RINGS)
		return -EOPNOTSUPP;
	if (copy_from_user(&req, argp, sizeof(req)))
		return -EFAULT;
	first_chunk = turbotap_ring_first_chunk(&req);
	if (!turbotap_ring_valid(&req, first_chunk))
		return -EINVAL;

	ring = kzalloc(sizeof(*ring), GFP_KERNEL_ACCOUNT);
	if (!ring)
		return -ENOMEM;
	ring->tun_file = ts->tun_file;
	ring->tun_sock = ts->tun_sock;
	ring->tun_ring = tun_get_tx_ring(ts->tun_file);
	err = turbotap_ring_pin(ring, &req);
	if (err)
		goto err_free;
	turbotap_ring_init(ring, &req, first_chunk);

	err = turbotap_ring_install(ts, ring);
	if (err)
		goto err_free;
	/* All of it was written before this. */
	smp_store_release(&ts->ring, ring);

	/*
	 * Who put a frame in and had read tun's own callback before it was
	 * replaced did so in an RCU read-side section: once that has ended,
	 * the frame is seen.  Those that come later call back.
	 */
	synchronize_rcu_expedited();

	/* What has been waiting since before, or is no more. */
	if (turbotap_ring_wakeup(ts))
		turbotap_ring_ask(ring);
	return 0;

err_free:
	turbotap_ring_unpin(ring);
	kfree(ring);
	return err;
}

/* Ends what turbotap_ring_setup() began, if it did, when the socket goes. */
void turbotap_ring_release(struct turbotap_sock *ts)
{
	struct turbotap_ring *ring = ts->ring;
	struct sock *sk = ts->tun_sock->sk;

	if (!ring)
		return;

	/*
	 * tun calls back in an RCU read-side section, or, when the device is
	 * deleted, holding the rtnl lock.  So both are waited for, but not for
	 * one while holding the other, which the whole system may want.
	 */
	rtnl_lock();
	write_lock_bh(&sk->sk_callback_lock);
	WRITE_ONCE(sk->sk_data_ready, ring->data_ready);
	/* Pairs with turbotap_ring_get(); RCU orders nothing before a NULL. */
	smp_wmb();
	rcu_assign_sk_user_data(sk, NULL);
	write_unlock_bh(&sk->sk_callback_lock);
	rtnl_unlock();
	synchronize_rcu_expedited();

	turbotap_ring_unpin(ring);
	kfree(ring);
}
