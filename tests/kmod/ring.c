// SPDX-License-Identifier: Apache-2.0
/*
 * Does a receive ring do as it should: frames and their order, room and want
 * of it, bad entries, other readers, and the end of all that it depends on?
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "ring.h"
#include "xdp.h"
#include <linux/if_vlan.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define LEN 64

static const char name[] = "ring0";
static int queue, host;
static uint8_t buffer[MAX_FRAME];

/* A ring on a new socket of 'queue'. */
static struct ring
open_ring(uint32_t entries, uint32_t n_chunks)
{
    struct ring ring;

    ring_open(&ring, must(turbotap_socket(queue, TURBOTAP_NONBLOCK)), entries,
              n_chunks, 0);
    return ring;
}

/* Takes what waits in the queue, outside of any ring. */
static void
drain_queue(void)
{
    while (read(queue, buffer, sizeof buffer) > 0) {
        continue;
    }
}

static int
wakeup(const struct ring *ring)
{
    return ioctl(ring->sock, TURBOTAP_WAKEUP);
}

static short
events(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return poll(&pfd, 1, 0) < 0 ? -1 : pfd.revents;
}

static void
test_setup(void)
{
    int sock = must(turbotap_socket(queue, 0));
    int second = must(turbotap_socket(queue, 0));
    struct turbotap_rx_ring good, bad;
    struct ring ring;
    int file;

    fails(ioctl(sock, TURBOTAP_WAKEUP), EINVAL, "no ring to wake up");
    fails(ioctl(sock, TURBOTAP_RX_RING, NULL), EFAULT, "no argument");
    ring_area(&ring, 64, 16, &good);
#define REFUSED(MEMBER, VALUE, ERROR)                                   \
    bad = good;                                                         \
    bad.MEMBER = VALUE;                                                 \
    fails(ioctl(sock, TURBOTAP_RX_RING, &bad), ERROR, "%s = %s",        \
          #MEMBER, #VALUE)
    REFUSED(flags, 1, EINVAL);
    REFUSED(chunk_size, 0, EINVAL);
    REFUSED(chunk_size, 1024, EINVAL);
    REFUSED(chunk_size, 3000, EINVAL);
    REFUSED(chunk_size, 8192, EINVAL);
    REFUSED(entries, 0, EINVAL);
    REFUSED(entries, 63, EINVAL);
    REFUSED(entries, 0x80000000, EINVAL);
    REFUSED(hdr_len, CHUNK, EINVAL);
    REFUSED(hdr_len, -1, EINVAL);
    REFUSED(addr, good.addr + 8, EINVAL);
    REFUSED(addr, 0, EFAULT);
    REFUSED(addr, 0xffff888000000000, EFAULT);
    REFUSED(addr, -4096ul, EFAULT);
    REFUSED(size, 0, EINVAL);
    REFUSED(size, 4095, EINVAL);
    REFUSED(size, good.size + (64 << 20), EFAULT);
    REFUSED(size, 0xfffffffffffff000, EINVAL);
    REFUSED(size, 1ull << 31, EINVAL);
#undef REFUSED
    bad = good;
    bad.entries = 32768;
    fails(ioctl(sock, TURBOTAP_RX_RING, &bad), EINVAL,
          "an area with no room behind the rings");
    must(mprotect(ring.area, ring.size, PROT_READ));
    fails(ioctl(sock, TURBOTAP_RX_RING, &good), EFAULT,
          "an area that cannot be written");
    must(mprotect(ring.area, ring.size, PROT_READ | PROT_WRITE));
    bad = good;

    file = must(memfd_create("area", MFD_CLOEXEC));
    must(ftruncate(file, ring.size));
    bad.addr = (uintptr_t) mmap(NULL, ring.size, PROT_READ | PROT_WRITE,
                                MAP_SHARED, file, 0);
    fails(ioctl(sock, TURBOTAP_RX_RING, &bad), EFAULT, "memory that is shared");
    munmap((void *) (uintptr_t) bad.addr, ring.size);
    close(file);

    is(ioctl(sock, TURBOTAP_RX_RING, &good), 0, "none of these left anything");
    fails(ioctl(sock, TURBOTAP_RX_RING, &good), EBUSY, "a second ring");
    fails(ioctl(second, TURBOTAP_RX_RING, &good), EBUSY,
          "a second socket's ring");
    close(sock);
    is(ioctl(second, TURBOTAP_RX_RING, &good), 0, "when the first is closed");
    close(second);
    munmap(ring.area, ring.size);
}

/* Runs as somebody who may not lock more memory than RLIMIT_MEMLOCK. */
static int
limited_user(void *unused)
{
    struct rlimit limit = { 256 << 10, 256 << 10 };
    int sock = must(turbotap_socket(queue, 0));
    struct turbotap_rx_ring request;
    struct ring ring;

    (void) unused;
    must(setrlimit(RLIMIT_MEMLOCK, &limit));
    must(setresuid(1000, 1000, 1000));
    ring_area(&ring, 256, 200, &request);
    if (ioctl(sock, TURBOTAP_RX_RING, &request) != -1 || errno != ENOBUFS) {
        return 1;
    }
    munmap(ring.area, ring.size);
    /* What is given back counts no more. */
    ring_area(&ring, 64, 64, &request);
    for (int i = 0; i < 20; i++) {
        if (ioctl(sock, TURBOTAP_RX_RING, &request)) {
            return 2;
        }
        close(sock);
        sock = must(turbotap_socket(queue, 0));
    }
    return 0;
}

static void
test_frames(void)
{
    static const int counts[] = { 1, 8, 32, 64 };
    static const size_t lengths[] = {
        14, 60, 1514, CHUNK - 1, CHUNK, CHUNK + 1, 9000, 65535,
    };
    struct ring ring = open_ring(64, 64);

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        host_sends(host, LEN, 1000, counts[i]);
        is(ring_count(&ring), counts[i], "%d frames are there at once",
           counts[i]);
        is(ring_takes(&ring, LEN, 1000), counts[i], "content and order");
    }
    link_mtu(name, 65521);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        host_sends(host, lengths[i], i, 1);
        is(ring_take(&ring, buffer, false), lengths[i],
           "a frame of %zu octets", lengths[i]);
        ok(frame_is(buffer, lengths[i], i), "its content");
    }
    link_mtu(name, 1500);
    /* Round the index of either ring many times. */
    for (int i = 0; i < 100; i++) {
        host_sends(host, LEN, i, 50);
        if (ring_takes(&ring, LEN, i) != 50) {
            errno = 0;
            bail("a frame is not what was sent");
        }
    }
    is(ring.rings->rx_dropped, 0, "none was dropped");
    is(ring.rings->rx_invalid_descs, 0, "no descriptor was invalid");
    ok(!ring_wants_wakeup(&ring), "no wake-up is needed");
    ring_close(&ring);
}

static void
test_room(void)
{
    struct ring ring = open_ring(64, 8);

    host_sends(host, LEN, 0, 20);
    is(ring_count(&ring), 8, "as many frames as chunks");
    ok(ring_wants_wakeup(&ring), "it says that there are more");
    is(events(ring.sock), POLLIN, "so does poll()");
    is(ring_takes(&ring, LEN, 0), 8, "these are the first");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 8), 8, "the next 8");
    ok(ring_wants_wakeup(&ring), "still more");
    host_sends(host, LEN, 20, 1);
    ok(ring_count(&ring) > 0, "the next sender brings others");
    is(wakeup(&ring), 0, "or a wake-up");
    is(ring_takes(&ring, LEN, 16), 5, "all of them");
    ok(!ring_wants_wakeup(&ring), "that was all");
    is(events(ring.sock), 0, "poll() agrees");
    is(wakeup(&ring), 0, "waking up for nothing");
    is(ring_count(&ring), 0, "brings nothing");
    ring_close(&ring);

    /* There are chunks, but no entries. */
    ring = open_ring(8, 8);
    host_sends(host, LEN, 0, 8);
    for (int i = 0; i < 8; i++) {
        ring_fill(&ring, ring.first + i * CHUNK);
    }
    host_sends(host, LEN, 8, 4);
    is(ring_count(&ring), 8, "no more frames than entries");
    for (int i = 0; i < 8; i++) {
        is(ring_take(&ring, buffer, true), LEN, "one is taken");
        ok(frame_is(buffer, LEN, i), "the first that is left");
    }
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 8), 4, "the others");
    ring_close(&ring);

    /* A frame in pieces waits until there are chunks for all of it. */
    ring = open_ring(64, 8);
    link_mtu(name, 9000);
    host_sends(host, 9000, 0, 2);
    is(ring_count(&ring), 5, "a frame in 5 pieces, no part of the second");
    is(ring_takes(&ring, 9000, 0), 1, "the first");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, 9000, 1), 1, "the second");

    /* One that can never come must not keep the others. */
    link_mtu(name, 65521);
    host_sends(host, LEN, 5, 1);
    host_sends(host, 65535, 6, 1);
    host_sends(host, LEN, 7, 1);
    is(ring_takes(&ring, LEN, 5), 1, "a frame before a large one");
    ok(ring_wants_wakeup(&ring), "which has to wait for chunks");
    ring_close(&ring);
    is(read(queue, buffer, sizeof buffer), 65535, "it is still in the queue");
    is(read(queue, buffer, sizeof buffer), LEN, "as is the one behind it");

    ring = open_ring(16, 8);
    host_sends(host, 65535, 6, 1);
    host_sends(host, LEN, 7, 1);
    is(ring_takes(&ring, LEN, 7), 1, "a frame behind one that cannot fit");
    is(ring.rings->rx_dropped, 1, "that one is counted");
    link_mtu(name, 1500);
    ring_close(&ring);
}

/* One call does not move all that there is. */
static void
test_budget(void)
{
    struct ring ring;

    host_sends(host, LEN, 0, 150);
    ring = open_ring(256, 200);
    is(ring_takes(&ring, LEN, 0), 128, "128 frames at once");
    ok(ring_wants_wakeup(&ring), "and it says that there are more");
    host_sends(host, LEN, 150, 1);
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 128), 23, "the others");
    ok(!ring_wants_wakeup(&ring), "no more");
    ring_close(&ring);

    /* Nor does a sender do more than a little for others. */
    ring = open_ring(256, 100);
    for (int i = 0; i < 100; i++) {
        host_sends(host, LEN, i, 1);
        must(ring_take(&ring, buffer, true));
    }
    host_sends(host, LEN, 0, 150);
    for (uint32_t i = 0; i < 100; i++) {
        ring_fill(&ring, ring.first + i * CHUNK);
    }
    ok(ring_wants_wakeup(&ring), "150 frames wait for chunks");
    host_sends(host, LEN, 150, 1);
    ok(ring_count(&ring) >= 1 && ring_count(&ring) <= 32,
       "a sender moves no more than 32 for others: %u", ring_count(&ring));
    ok(ring_wants_wakeup(&ring), "and leaves the rest to the user");
    ring_close(&ring);
    drain_queue();

    link_mtu(name, 65521);
    host_sends(host, 65535, 0, 6);
    ring = open_ring(256, 200);
    is(ring_takes(&ring, 65535, 0), 4, "a quarter of a megabyte at once");
    ok(ring_wants_wakeup(&ring), "and it says that there is more");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, 65535, 4), 2, "the last");
    ring_close(&ring);
    link_mtu(name, 1500);
}

static void
test_before(void)
{
    struct ring ring;

    host_sends(host, LEN, 3, 5);
    ring = open_ring(64, 64);
    is(ring_takes(&ring, LEN, 3), 5, "frames that came before the ring");
    host_sends(host, LEN, 0, 2);
    ring_close(&ring);
    fails(recv(queue, buffer, sizeof buffer, 0), ENOTSOCK, "a file");
    fails(read(queue, buffer, sizeof buffer), EAGAIN,
          "frames in the ring go with it");
    host_sends(host, LEN, 9, 1);
    is(read(queue, buffer, sizeof buffer), LEN, "read() has the queue again");
}

static void
test_readers(void)
{
    struct ring ring = open_ring(64, 4);

    host_sends(host, LEN, 0, 10);
    is(read(queue, buffer, sizeof buffer), LEN, "read() beside the ring");
    ok(frame_is(buffer, LEN, 4), "has the first that is not in it");
    is(recv(ring.sock, buffer, sizeof buffer, 0), LEN, "recv(), too");
    ok(frame_is(buffer, LEN, 5), "the second");
    is(ring_takes(&ring, LEN, 0), 4, "the ring has its own");
    is(wakeup(&ring), 0, "and after a wake-up");
    is(ring_takes(&ring, LEN, 6), 4, "the others");
    ring_close(&ring);
}

static void
test_scribble(void)
{
    struct ring ring = open_ring(64, 8);
    uint64_t invalid = 0;
    uint64_t places[] = {
        0, CHUNK / 2, ring.first - CHUNK, ring.first + 1, ring.size,
        ring.size + CHUNK, UINT64_MAX, UINT64_MAX - CHUNK + 1,
        0xffff888000000000, 1ull << 32 | ring.first,
    };

    /* All good chunks are used up first. */
    host_sends(host, LEN, 0, 8);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        ring_fill(&ring, places[i]);
        invalid++;
    }
    host_sends(host, LEN, 8, 1);
    is(ring.rings->rx_invalid_descs, invalid, "bad places are counted");
    is(ring_count(&ring), 8, "and not used");
    is(ring_takes(&ring, LEN, 0), 8, "good frames are left alone");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 8), 1, "good places work after bad ones");

    /* Indices that cannot be. */
    uint32_t producer = ring.rings->fill.producer;
    uint32_t consumer = ring.rings->rx.consumer;

    host_sends(host, LEN, 0, 8);        /* It holds no chunks now. */
    is(ring_takes(&ring, LEN, 0), 8, "all chunks are back");
    producer = ring.rings->fill.producer;
    consumer = ring.rings->rx.consumer;
    ring.rings->fill.producer = producer + 1000;
    host_sends(host, LEN, 0, 1);
    is(ring_count(&ring), 0, "more empty chunks than entries: none");
    ring.rings->fill.producer = producer - 1000;
    host_sends(host, LEN, 1, 1);
    is(ring_count(&ring), 0, "less than none: none");
    ring.rings->fill.producer = producer;
    ring.rings->rx.consumer = consumer + 1;
    is(wakeup(&ring), 0, "more frames taken than there were");
    is(ring.rings->rx.producer, consumer, "none is put in");
    ring.rings->rx.consumer = consumer - 65;
    is(wakeup(&ring), 0, "more in the ring than entries");
    is(ring.rings->rx.producer, consumer, "none is put in");
    ring.rings->rx.consumer = consumer;
    is(wakeup(&ring), 0, "all indices right again");
    is(ring_takes(&ring, LEN, 0), 2, "no frame was lost");

    /* What only the kernel writes is not read by it. */
    ring.rings->fill.consumer = 12345;
    ring.rings->rx_dropped = 12345;
    ring.rings->fill.flags = UINT32_MAX;
    memset(ring.rx, 255, ring.entries * sizeof *ring.rx);
    host_sends(host, LEN, 0, 4);
    is(ring_takes(&ring, LEN, 0), 4, "the kernel's own indices do not matter");
    ok(!ring_wants_wakeup(&ring), "it writes its flag again");

    /* Frames into the same chunk are one on top of the other, that is all. */
    for (int i = 0; i < 4; i++) {
        ring_fill(&ring, ring.first);
    }
    host_sends(host, LEN, 0, 12);
    ok(ring_count(&ring) > 0, "the same chunk twice");
    ring_close(&ring);
    drain_queue();

    /* Nobody works for long to find a good place among bad ones. */
    ring = open_ring(1024, 1);
    host_sends(host, LEN, 0, 1);
    for (int i = 0; i < 200; i++) {
        ring_fill(&ring, 0);
    }
    is(ring_takes(&ring, LEN, 0), 1, "the only good place is behind bad ones");
    host_sends(host, LEN, 1, 1);
    is(ring.rings->rx_invalid_descs, 64, "of which a sender looks at 64");
    for (int i = 2; i <= 3; i++) {
        is(wakeup(&ring), 0, "wake up");
        is(ring.rings->rx_invalid_descs, i * 64, "and look at 64 more");
    }
    is(ring_count(&ring), 0, "not yet");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 1), 1, "here it is");
    ring_close(&ring);
}

static void
test_header(void)
{
    const char *tap = "ringv0";
    int q = tap_queue(tap, IFF_VNET_HDR), raw;
    const size_t hdr_len = sizeof(struct virtio_net_hdr);
    struct ring ring;

    ring_open(&ring, must(turbotap_socket(q, 0)), 64, 64, hdr_len);
    link_mtu(tap, 9000);
    link_set(tap, true);
    raw = host_socket(tap, ETH_TYPE);
    host_sends(raw, CHUNK - hdr_len, 1, 1);
    host_sends(raw, CHUNK - hdr_len + 1, 2, 1);
    is(ring_count(&ring), 3, "the header counts");
    is(ring_take(&ring, buffer, false), CHUNK, "the header comes first");
    ok(frame_is(buffer + hdr_len, CHUNK - hdr_len, 1), "then the frame");
    is(ring_take(&ring, buffer, false), CHUNK + 1, "one octet more");
    ok(frame_is(buffer + hdr_len, CHUNK - hdr_len + 1, 2), "is in it");

    /* A longer header than was said: a frame that fits goes on doing so. */
    int len = 12;
    must(ioctl(q, TUNSETVNETHDRSZ, &len));
    host_sends(raw, CHUNK - 12, 3, 1);
    is(ring_take(&ring, buffer, false), CHUNK, "a longer header");
    host_sends(raw, CHUNK - 11, 4, 1);
    is(ring_count(&ring), 0, "a frame that it leaves no room for");
    is(ring.rings->rx_dropped, 1, "is counted");
    ring_close(&ring);
    close(raw);
    close(q);
}

static void
test_vlan(void)
{
    struct vlan_ioctl_args vlan = {
        .cmd = SET_VLAN_NAME_TYPE_CMD,
        .u.name_type = VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD,
    };
    int fd = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), raw;
    struct ring ring;

    if (system("modprobe 8021q") || ioctl(fd, SIOCSIFVLAN, &vlan)) {
        skip("VLAN tags", "the kernel has no 8021q");
        close(fd);
        return;
    }
    vlan.cmd = ADD_VLAN_CMD;
    strcpy(vlan.device1, name);
    vlan.u.VID = 5;
    must(ioctl(fd, SIOCSIFVLAN, &vlan));
    link_set("ring0.5", true);
    raw = host_socket("ring0.5", ETH_TYPE);
    ring = open_ring(64, 64);
    link_mtu(name, 9000);
    link_mtu("ring0.5", 9000);
    host_sends(raw, CHUNK - 4, 1, 1);
    is(ring_take(&ring, buffer, false), CHUNK, "a frame with a VLAN tag");
    ok(buffer[12] == 0x81 && !buffer[13] && !buffer[14] && buffer[15] == 5,
       "which is in it");
    host_sends(raw, CHUNK - 4 + 1, 1, 1);
    is(ring_count(&ring), 2, "the tag makes it two pieces");
    is(ring_take(&ring, buffer, false), CHUNK + 1, "which are one frame");
    link_mtu(name, 1500);
    ring_close(&ring);
    close(raw);
    vlan.cmd = DEL_VLAN_CMD;
    strcpy(vlan.device1, "ring0.5");
    must(ioctl(fd, SIOCSIFVLAN, &vlan));
    close(fd);
}

static bool
becomes_readable(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return must(poll(&pfd, 1, 10000)) == 1 && pfd.revents == POLLIN;
}

/* Waits until there are 'n' frames, each a piece, in 'ring', and wakes it up if
 * need be.  What a veth sends may take a moment.  Returns how many there are. */
static uint32_t
wait_for_frames(const struct ring *ring, uint32_t n)
{
    double end = seconds() + 10;

    while (ring_count(ring) < n && seconds() < end) {
        if (ring_wants_wakeup(ring)) {
            must(wakeup(ring));
        } else {
            usleep(1000);
        }
    }
    return ring_count(ring);
}

/* Redirects what comes to veth ringx0, from its peer ringx1, to 'tap' as XDP
 * frames, until the descriptor that is returned is closed. */
static int
redirect_to(const char *tap)
{
    struct bpf_insn program[] = {
        { BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, if_nametoindex(tap) },
        { BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0 },
        { BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect },
        { BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
    };

    must(system("modprobe veth") ? -1 : 0);
    veth_add("ringx0", "ringx1");
    link_mtu(tap, 3000);
    link_mtu("ringx0", 3000);
    link_mtu("ringx1", 3000);
    link_set("ringx0", true);
    link_set("ringx1", true);
    return xdp_attach("ringx0", program, ARRAY_SIZE(program));
}

/* An XDP frame with a longer header than was said is whole, or lost. */
static void
test_xdp_header(void)
{
    enum { H = sizeof(struct virtio_net_hdr), LONGER = H + 2 };
    const char *tap = "ringh0";
    int q = tap_queue(tap, IFF_VNET_HDR), raw, link, len = LONGER;
    struct ring ring;

    ring_open(&ring, must(turbotap_socket(q, 0)), 64, 8, H);
    link_set(tap, true);
    link = redirect_to(tap);
    raw = host_socket("ringx1", ETH_P_ARP);
    must(ioctl(q, TUNSETVNETHDRSZ, &len));
    host_sends(raw, CHUNK - LONGER, 0, 1);
    is(wait_for_frames(&ring, 1), 1, "a longer header before an XDP frame");
    is(ring_take(&ring, buffer, false), CHUNK, "which fits");
    ok(frame_is(buffer + LONGER, CHUNK - LONGER, 0), "its content");
    for (int i = LONGER - 1; i >= H; i--) {
        host_sends(raw, CHUNK - i, 1, 1);
    }
    host_sends(raw, LEN, 2, 1);
    is(wait_for_frames(&ring, 1), 1, "a frame behind two that do not");
    is(ring_take(&ring, buffer, false), LONGER + LEN, "it alone comes");
    is(ring.rings->rx_dropped, 2, "these are counted");
    close(link);
    close(raw);
    must(link_delete("ringx0"));
    ring_close(&ring);
    close(q);
}

static void
test_xdp(void)
{
    struct ring ring;
    int link, raw;

    link = redirect_to(name);
    raw = host_socket("ringx1", ETH_P_ARP);
    ring = open_ring(64, 8);
    host_sends(raw, LEN, 0, 3);
    is(wait_for_frames(&ring, 3), 3, "frames from XDP");
    host_sends(host, LEN, 3, 1);
    host_sends(raw, LEN, 4, 8);
    is(wait_for_frames(&ring, 8), 8, "and others");
    is(ring_takes(&ring, LEN, 0), 8, "in order");
    is(wait_for_frames(&ring, 4), 4, "the rest");
    is(ring_takes(&ring, LEN, 8), 4, "in order");
    ring_close(&ring);

    ring = open_ring(1, 1);
    host_sends(raw, 1514, 0, 1);
    is(wait_for_frames(&ring, 1), 1, "a long frame");
    is(ring_takes(&ring, 1514, 0), 1, "its content");
    host_sends(raw, CHUNK, 0, 1);
    is(wait_for_frames(&ring, 1), 1, "a whole chunk");
    is(ring_takes(&ring, CHUNK, 0), 1, "its content");
    host_sends(raw, CHUNK + 1, 0, 1);
    host_sends(raw, LEN, 1, 1);
    is(wait_for_frames(&ring, 1), 1, "a frame behind one that can never fit");
    is(ring_takes(&ring, LEN, 1), 1, "its content");
    is(ring.rings->rx_dropped, 1, "the other is counted");
    ring_close(&ring);
    host_sends(raw, LEN, 7, 1);
    ok(becomes_readable(queue), "without a ring");
    is(read(queue, buffer, sizeof buffer), LEN, "read() takes it, too");
    close(link);
    close(raw);
    must(link_delete("ringx0"));
    link_mtu(name, 1500);
}

/* The kernel's messages over the network: those are sent with interrupts off,
 * from where no lock may be taken. */
static void
test_netpoll(void)
{
    char command[160];
    struct ring ring;
    int kmsg;

    snprintf(command, sizeof command, "modprobe netconsole netconsole="
             "1@192.0.2.1/%s,1@192.0.2.2/02:00:00:00:00:01", name);
    if (system(command)) {
        skip("netpoll", "there is no netconsole");
        return;
    }
    kmsg = must(open("/dev/kmsg", O_WRONLY | O_CLOEXEC));
    drain_queue();
    ring = open_ring(64, 64);
    must(write(kmsg, "<1>one\n", 7));
    ok(becomes_readable(ring.sock), "a message");
    is(ring_count(&ring), 0, "is not put into the ring");
    ok(ring_wants_wakeup(&ring), "which says that it waits");
    is(wakeup(&ring), 0, "wake up");
    ok(ring_take(&ring, buffer, false) > 0, "here it is");
    is(events(ring.sock), 0, "alone");
    must(write(kmsg, "<1>two\n", 7));
    ok(becomes_readable(ring.sock), "another");
    host_sends(host, LEN, 0, 1);
    is(ring_count(&ring), 2, "comes with the next frame");
    ok(!ring_wants_wakeup(&ring), "nothing waits");
    must(system("rmmod netconsole") ? -1 : 0);
    ring_close(&ring);
    close(kmsg);
    /* The kernel may have had more to say. */
    drain_queue();
}

/* Waits in poll() for a frame to come into the ring of 'fd'. */
struct waiter {
    int fd;
    volatile pid_t tid;
    short events;
};

static void *
wait_for_frame(void *waiter_)
{
    struct waiter *w = waiter_;
    struct pollfd pfd = { .fd = w->fd, .events = POLLIN };

    w->tid = gettid();
    must(poll(&pfd, 1, 20000));
    w->events = pfd.revents;
    return NULL;
}

static void
start_waiter(struct waiter *w, int fd, pthread_t *thread)
{
    *w = (struct waiter) { .fd = fd };
    pthread_create(thread, NULL, wait_for_frame, w);
    while (!w->tid) {
        sched_yield();
    }
    wait_until_blocked(w->tid);
}

static void
test_poll(void)
{
    struct ring ring = open_ring(64, 64);
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    int epoll = must(epoll_create1(EPOLL_CLOEXEC));
    struct waiter w;
    pthread_t thread;

    is(events(ring.sock), 0, "nothing to read");
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, ring.sock, &event));
    start_waiter(&w, ring.sock, &thread);
    host_sends(host, LEN, 0, 1);
    pthread_join(thread, NULL);
    is(w.events, POLLIN, "a frame wakes poll()");
    is(epoll_wait(epoll, &event, 1, 0), 1, "and epoll");
    is(epoll_wait(epoll, &event, 1, 0), 0, "edge-triggered");
    is(events(queue), 0, "the queue's own file has nothing");
    is(events(ring.sock), POLLIN, "the socket, as long as it is not taken");
    is(ring_takes(&ring, LEN, 0), 1, "it is");
    is(events(ring.sock), 0, "then no more");
    close(epoll);
    ring_close(&ring);
}

static void
test_deletion(void)
{
    const char *tap = "ringd0";
    int q = tap_queue(tap, 0), raw;
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    struct ring ring;
    struct waiter w;
    pthread_t thread;

    strcpy(ifr.ifr_name, tap);
    must(fcntl(q, F_SETFL, O_RDWR | O_NONBLOCK));
    ring_open(&ring, must(turbotap_socket(q, 0)), 64, 8, 0);
    link_set(tap, true);
    raw = host_socket(tap, ETH_TYPE);
    host_sends(raw, LEN, 0, 10);
    is(link_delete(tap), 0, "the device is deleted");
    ok(ring_wants_wakeup(&ring), "a wake-up is needed");
    fails(wakeup(&ring), EBADFD, "to be told so");
    is(events(ring.sock), POLLERR | POLLIN, "POLLERR");
    is(ring_takes(&ring, LEN, 0), 8, "what was in the ring can be taken");
    is(events(ring.sock), POLLERR, "then there is nothing more");
    close(raw);

    must(ioctl(q, TUNSETIFF, &ifr));
    link_set(tap, true);
    raw = host_socket(tap, ETH_TYPE);
    host_sends(raw, LEN, 7, 3);
    is(ring_takes(&ring, LEN, 7), 3, "the ring goes on with another device");
    start_waiter(&w, ring.sock, &thread);
    is(link_delete(tap), 0, "which is deleted under poll()");
    pthread_join(thread, NULL);
    is(w.events, POLLERR, "which says so");
    ok(ring_wants_wakeup(&ring), "a wake-up is needed, with nothing there");
    fails(wakeup(&ring), EBADFD, "and says so, too");
    close(raw);
    ring_close(&ring);
    close(q);
}

/* What a device that is deleted finds busy. */
struct waker {
    struct ring ring;
    _Atomic bool stop;
};

static void *
wake_up_often(void *waker_)
{
    struct waker *w = waker_;

    while (!w->stop && !wakeup(&w->ring)) {
        continue;
    }
    return NULL;
}

/* That the device is gone must not be lost, whatever the ring is doing. */
static void
test_deletion_busy(void)
{
    enum { N_TIMES = 100 };
    const char *tap = "ringb0";
    int n_told = 0;
    struct ring ring;
    int q;

    for (int i = 0; i < N_TIMES; i++) {
        struct waker w = { .stop = false };
        pthread_t thread;

        q = tap_queue(tap, 0);
        ring_open(&w.ring, must(turbotap_socket(q, 0)), 64, 8, 0);
        pthread_create(&thread, NULL, wake_up_often, &w);
        must(link_delete(tap));
        w.stop = true;
        pthread_join(thread, NULL);
        n_told += ring_wants_wakeup(&w.ring);
        ring_close(&w.ring);
        close(q);
    }
    is(n_told, N_TIMES, "a device is deleted under wake-ups, which are told");

    q = tap_queue(tap, 0);
    must(link_delete(tap));
    ring_open(&ring, must(turbotap_socket(q, 0)), 64, 8, 0);
    ok(ring_wants_wakeup(&ring), "a ring after the deletion asks for one");
    fails(wakeup(&ring), EBADFD, "which says so");
    ring_close(&ring);
    close(q);
}

static void
test_detach(void)
{
    struct ring ring = open_ring(64, 4);
    int other;

    host_sends(host, LEN, 0, 6);
    other = tap_queue(name, 0);
    must(tap_attach(queue, false));
    is(ring_takes(&ring, LEN, 0), 4, "a detached queue has what was in the ring");
    is(wakeup(&ring), 0, "a wake-up");
    is(ring_count(&ring), 0, "finds that tun emptied its own");
    host_sends(host, LEN, 0, 1);
    is(ring_count(&ring), 0, "nothing new comes");
    must(tap_attach(queue, true));
    close(other);
    host_sends(host, LEN, 1, 1);
    is(ring_takes(&ring, LEN, 1), 1, "attached again");
    ring_close(&ring);
}

static int
child_of_ring(void *ring_)
{
    struct ring *ring = ring_;

    /* Its area is a copy, its socket is the same. */
    memset(ring->area, 255, ring->size);
    if (wakeup(ring)) {
        return 1;
    }
    ring_close(ring);
    return 0;
}

static void
test_memory(void)
{
    struct ring ring = open_ring(64, 64);

    host_sends(host, LEN, 0, 5);
    is(end_child(start_child(child_of_ring, &ring)), 0, "a child");
    is(ring_takes(&ring, LEN, 0), 5, "does not disturb");
    host_sends(host, LEN, 5, 5);
    is(ring_takes(&ring, LEN, 5), 5, "neither then nor later");

    munmap(ring.area, ring.size);
    host_sends(host, LEN, 0, 70);
    is(wakeup(&ring), 0, "an area that is unmapped");
    close(ring.sock);
    drain_queue();
    host_sends(host, LEN, 0, 1);
    is(read(queue, buffer, sizeof buffer), LEN, "nothing was harmed");
}

/* A tap's queue of its own, for a process that ends with all of it. */
static int
ring_in_netns(void *unused)
{
    struct ring ring;
    int raw, q;

    (void) unused;
    new_netns();
    q = tap_queue("ringn0", 0);
    ring_open(&ring, must(turbotap_socket(q, 0)), 64, 8, 0);
    link_set("ringn0", true);
    raw = host_socket("ringn0", ETH_TYPE);
    host_sends(raw, LEN, 0, 12);
    return ring_count(&ring) != 8;
}

static void
test_resize(void)
{
    struct ring ring = open_ring(64, 4);
    struct ifreq ifr = { .ifr_qlen = 16 };

    strcpy(ifr.ifr_name, name);
    host_sends(host, LEN, 0, 10);
    must(ifreq_ioctl(SIOCSIFTXQLEN, &ifr));
    is(ring_takes(&ring, LEN, 0), 4, "a queue of another length");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 4), 4, "keeps its frames");
    is(wakeup(&ring), 0, "wake up");
    is(ring_takes(&ring, LEN, 8), 2, "all of them");
    ifr.ifr_qlen = 1000;
    must(ifreq_ioctl(SIOCSIFTXQLEN, &ifr));
    host_sends(host, LEN, 0, 4);
    is(ring_takes(&ring, LEN, 0), 4, "and back");
    ring_close(&ring);
}

/* Two threads send, so that the callback runs on two CPUs, another reads the
 * queue's file, and every frame comes out once: in the ring or there. */
enum { N_SENT = 50000, SEND_SECONDS = 20 };

static _Atomic int n_tried, n_read, n_senders;
static double deadline;

static void *
send_many(void *sender)
{
    int fd = host_socket(name, ETH_P_ARP);

    for (int i = 0; i < N_SENT && seconds() < deadline; i++) {
        uint8_t frame[LEN];
        bool sent;

        make_frame(frame, LEN, i);
        frame[6] = 6 + 4 * (intptr_t) sender;
        do {
            n_tried++;
            sent = send(fd, frame, LEN, 0) == LEN;
            if (!sent) {
                /* tun's own ring is full.  It counts what it drops. */
                if (errno != ENOBUFS) {
                    bail("send");
                }
                sched_yield();
            }
        } while (!sent && seconds() < deadline);
    }
    close(fd);
    n_senders--;
    return NULL;
}

static void *
read_some(void *unused)
{
    static uint8_t frame[LEN];

    while (n_senders) {
        if (read(queue, frame, LEN) == LEN) {
            n_read++;
        } else {
            usleep(100);
        }
    }
    return unused;
}

static long
dropped(void)
{
    char path[80];
    long n;

    snprintf(path, sizeof path, "/sys/class/net/%s/statistics/tx_dropped",
             name);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%ld", &n) != 1) {
        bail(path);
    }
    fclose(file);
    return n;
}

static void
test_threads(bool reader)
{
    struct ring ring = open_ring(64, 32);
    uint32_t next[2] = { 0, 0 };
    bool ordered = true;
    long n = 0, before = dropped();
    pthread_t threads[3];
    bool idle;

    deadline = seconds() + SEND_SECONDS;
    n_tried = n_read = 0;
    n_senders = 2;
    for (intptr_t i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, send_many, (void *) i);
    }
    if (reader) {
        pthread_create(&threads[2], NULL, read_some, NULL);
    }
    do {
        long length;

        /* All that was sent before this is seen after it. */
        idle = !n_senders;
        length = ring_take(&ring, buffer, false);
        if (length == LEN) {
            int sender = buffer[6] == 10;
            uint32_t number;

            memcpy(&number, buffer + ETH_LEN, 4);
            ordered &= number >= next[sender];
            next[sender] = number + 1;
            buffer[6] = 2;
            ordered &= frame_is(buffer, LEN, number);
            n++;
            idle = false;
        } else if (length) {
            ordered = false;
            break;
        } else if (ring_wants_wakeup(&ring)) {
            must(wakeup(&ring));
            idle = false;
        }
    } while (!idle);
    for (int i = 0; i < 2 + reader; i++) {
        pthread_join(threads[i], NULL);
    }
    is(n + n_read + dropped() - before, n_tried,
       "two senders%s: no frame is lost", reader ? ", a reader beside" : "");
    ok(ordered, "nor out of order, nor changed");
    is(ring.rings->rx_dropped, 0, "nor dropped");
    ok(n > 0 && (!reader || n_read > 0), "%ld in the ring, %d by read(), %ld "
       "dropped by tun", n, n_read, dropped() - before);
    ring_close(&ring);
}

/* Sends as large frames as there are, from a CPU of its own. */
static _Atomic bool stop_large;

static void
run_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    must(sched_setaffinity(0, sizeof set, &set));
}

static void *
send_large(void *unused)
{
    static uint8_t frame[65535];
    int fd = host_socket(name, ETH_P_ARP);

    run_on(1);
    make_frame(frame, sizeof frame, 0);
    while (!stop_large) {
        send(fd, frame, sizeof frame, 0);
    }
    close(fd);
    return unused;
}

static int
compare_doubles(const void *a_, const void *b_)
{
    const double *a = a_, *b = b_;

    return (*a > *b) - (*a < *b);
}

/* The 99th percentile of what send() takes for a short frame, in us, while
 * another CPU sends large ones. */
static double
send_beside_large(struct ring *ring)
{
    enum { N = 3000 };
    static double times[N];
    uint8_t frame[LEN];
    pthread_t thread;

    stop_large = false;
    pthread_create(&thread, NULL, send_large, NULL);
    make_frame(frame, LEN, 0);
    for (int i = 0; i < N; i++) {
        double start = seconds();

        send(host, frame, LEN, 0);
        times[i] = (seconds() - start) * 1e6;
        if (ring) {
            while (ring_take(ring, buffer, false) > 0) {
                continue;
            }
        } else {
            drain_queue();
        }
    }
    stop_large = true;
    pthread_join(thread, NULL);
    drain_queue();
    qsort(times, N, sizeof *times, compare_doubles);
    return times[N * 99 / 100];
}

/* Says how long who sends little waits for who sends much, which also depends
 * on what else this machine does: no test, but a figure. */
static void
test_latency(void)
{
    double without, with;
    struct ring ring;
    cpu_set_t all;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        return;
    }
    must(sched_getaffinity(0, sizeof all, &all));
    run_on(0);
    link_mtu(name, 65521);
    without = send_beside_large(NULL);
    ring = open_ring(256, 200);
    with = send_beside_large(&ring);
    ring_close(&ring);
    drain_queue();
    link_mtu(name, 1500);
    must(sched_setaffinity(0, sizeof all, &all));
    printf("# 99 of 100 calls of send() beside one of large frames take %.0f "
           "us, %.0f without a ring\n", with, without);
}

int
main(void)
{
    new_netns();
    queue = tap_queue(name, 0);
    must(fcntl(queue, F_SETFL, O_RDWR | O_NONBLOCK));
    link_set(name, true);
    host = host_socket(name, ETH_TYPE);

    test_setup();
    is(end_child(start_child(limited_user, NULL)), 0, "RLIMIT_MEMLOCK");
    test_frames();
    test_room();
    test_budget();
    test_before();
    test_readers();
    test_scribble();
    test_header();
    test_vlan();
    test_xdp();
    test_xdp_header();
    test_netpoll();
    test_poll();
    test_deletion();
    test_deletion_busy();
    test_detach();
    test_memory();
    is(end_child(start_child(ring_in_netns, NULL)), 0, "a namespace ends");
    test_resize();
    test_threads(false);
    test_threads(true);
    test_latency();
    close(host);
    close(queue);
    is(references(), 0, "nothing is left");
    return done();
}
