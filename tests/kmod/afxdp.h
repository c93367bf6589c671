/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare AF_XDP socket in copy mode on a veth, to compare with: no library, and
 * the smallest program there can be.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef TURBOTAP_TEST_AFXDP_H
#define TURBOTAP_TEST_AFXDP_H 1

#include "test.h"
#include <sys/mman.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <linux/veth.h>

#define XSK_ENTRIES 512u        /* Of each ring. */
#define XSK_CHUNK 2048u         /* Octets. */

struct xsk_ring {
    uint32_t *producer, *consumer, *flags;
    void *entries;
};

struct xsk {
    int fd;
    uint8_t *umem;              /* 2 * XSK_ENTRIES chunks: the first half is
                                 * for receiving. */
    struct xsk_ring fill, completion, rx, tx;
};

/* Appends attribute 'type' to the netlink message 'nlh'. */
static inline struct rtattr *
put_attr(struct nlmsghdr *nlh, int type, const void *data, size_t size)
{
    struct rtattr *attr = (void *) ((char *) nlh + NLMSG_ALIGN(nlh->nlmsg_len));

    attr->rta_type = type;
    attr->rta_len = RTA_LENGTH(size);
    memcpy(RTA_DATA(attr), data, size);
    nlh->nlmsg_len = NLMSG_ALIGN(nlh->nlmsg_len) + RTA_ALIGN(attr->rta_len);
    return attr;
}

static inline void
end_attr(const struct nlmsghdr *nlh, struct rtattr *attr)
{
    attr->rta_len = (char *) nlh + nlh->nlmsg_len - (char *) attr;
}

/* Makes the veths 'name' and 'peer'. */
static inline void
veth_add(const char *name, const char *peer)
{
    struct {
        struct nlmsghdr nlh;
        struct ifinfomsg ifi;
        char attrs[512];
    } request = {
        .nlh = {
            .nlmsg_len = NLMSG_LENGTH(sizeof request.ifi),
            .nlmsg_type = RTM_NEWLINK,
            .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
                           | NLM_F_EXCL,
        },
    };
    struct {
        struct nlmsghdr nlh;
        struct nlmsgerr error;
        char rest[1024];
    } reply;
    struct nlmsghdr *nlh = &request.nlh;
    struct rtattr *info, *data, *other;
    int fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));

    put_attr(nlh, IFLA_IFNAME, name, strlen(name) + 1);
    info = put_attr(nlh, IFLA_LINKINFO, "", 0);
    put_attr(nlh, IFLA_INFO_KIND, "veth", 4);
    data = put_attr(nlh, IFLA_INFO_DATA, "", 0);
    other = put_attr(nlh, VETH_INFO_PEER, &request.ifi, sizeof request.ifi);
    put_attr(nlh, IFLA_IFNAME, peer, strlen(peer) + 1);
    end_attr(nlh, other);
    end_attr(nlh, data);
    end_attr(nlh, info);
    must(send(fd, nlh, nlh->nlmsg_len, 0));
    must(recv(fd, &reply, sizeof reply, 0));
    errno = -reply.error.error;
    must(reply.error.error);
    close(fd);
}

/* Has all that device 'name' receives go to the socket 'xsk_fd'. */
static inline void
xdp_redirect(const char *name, int xsk_fd)
{
    union bpf_attr attr = {
        .map_type = BPF_MAP_TYPE_XSKMAP,
        .key_size = 4,
        .value_size = 4,
        .max_entries = 1,
    };
    int map = must(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
    struct bpf_insn program[] = {
        /* r2 = context->rx_queue_index */
        { BPF_LDX | BPF_MEM | BPF_W, 2, 1, 16, 0 },
        /* return bpf_redirect_map(map, r2, XDP_PASS) */
        { BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map },
        { 0, 0, 0, 0, 0 },
        { BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_PASS },
        { BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map },
        { BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
    };
    uint32_t key = 0;
    int prog;

    memset(&attr, 0, sizeof attr);
    attr.map_fd = map;
    attr.key = (uintptr_t) &key;
    attr.value = (uintptr_t) &xsk_fd;
    must(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof attr));

    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.insns = (uintptr_t) program;
    attr.insn_cnt = ARRAY_SIZE(program);
    attr.license = (uintptr_t) "";
    prog = must(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));

    memset(&attr, 0, sizeof attr);
    attr.link_create.prog_fd = prog;
    attr.link_create.target_ifindex = if_nametoindex(name);
    attr.link_create.attach_type = BPF_XDP;
    attr.link_create.flags = 1 << 2;    /* XDP_FLAGS_DRV_MODE */
    must(syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof attr));
}

static inline struct xsk_ring
xsk_map(int fd, const struct xdp_ring_offset *offset, size_t size, off_t place)
{
    uint8_t *at = mmap(NULL, offset->desc + XSK_ENTRIES * size,
                       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                       place);

    must(at == MAP_FAILED ? -1 : 0);
    return (struct xsk_ring) {
        (uint32_t *) (at + offset->producer),
        (uint32_t *) (at + offset->consumer),
        (uint32_t *) (at + offset->flags),
        at + offset->desc,
    };
}

/* Opens an AF_XDP socket on queue 0 of device 'name', all of whose chunks for
 * receiving are in the fill ring. */
static inline void
xsk_open(struct xsk *xsk, const char *name)
{
    static const int rings[] = {
        XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING,
    };
    struct xdp_umem_reg umem = {
        .len = 2 * XSK_ENTRIES * XSK_CHUNK, .chunk_size = XSK_CHUNK,
    };
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
        .sxdp_ifindex = if_nametoindex(name),
    };
    struct xdp_mmap_offsets offsets;
    socklen_t size = sizeof offsets;
    uint32_t n = XSK_ENTRIES;

    xsk->fd = must(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
    xsk->umem = mmap(NULL, umem.len, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(xsk->umem == MAP_FAILED ? -1 : 0);
    umem.addr = (uintptr_t) xsk->umem;
    must(setsockopt(xsk->fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem));
    for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
        must(setsockopt(xsk->fd, SOL_XDP, rings[i], &n, sizeof n));
    }
    must(getsockopt(xsk->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size));
    xsk->fill = xsk_map(xsk->fd, &offsets.fr, sizeof(uint64_t),
                        XDP_UMEM_PGOFF_FILL_RING);
    xsk->completion = xsk_map(xsk->fd, &offsets.cr, sizeof(uint64_t),
                              XDP_UMEM_PGOFF_COMPLETION_RING);
    xsk->rx = xsk_map(xsk->fd, &offsets.rx, sizeof(struct xdp_desc),
                      XDP_PGOFF_RX_RING);
    xsk->tx = xsk_map(xsk->fd, &offsets.tx, sizeof(struct xdp_desc),
                      XDP_PGOFF_TX_RING);
    for (uint32_t i = 0; i < XSK_ENTRIES; i++) {
        ((uint64_t *) xsk->fill.entries)[i] = i * XSK_CHUNK;
    }
    __atomic_store_n(xsk->fill.producer, XSK_ENTRIES, __ATOMIC_RELEASE);
    must(bind(xsk->fd, (struct sockaddr *) &address, sizeof address));
}

/* Copies up to 'n' frames to 'frames', each in 'size' octets, and gives their
 * chunks back.  Returns how many there were. */
static inline int
xsk_receive(struct xsk *xsk, uint8_t *frames, size_t size, int n)
{
    uint32_t consumer = *xsk->rx.consumer;
    uint32_t there = __atomic_load_n(xsk->rx.producer, __ATOMIC_ACQUIRE)
                     - consumer;
    uint32_t fill = *xsk->fill.producer;
    int i;

    for (i = 0; i < n && there; i++, there--) {
        const struct xdp_desc *desc
            = (struct xdp_desc *) xsk->rx.entries + consumer++ % XSK_ENTRIES;

        memcpy(frames + i * size, xsk->umem + desc->addr, desc->len);
        ((uint64_t *) xsk->fill.entries)[fill++ % XSK_ENTRIES] = desc->addr;
    }
    __atomic_store_n(xsk->rx.consumer, consumer, __ATOMIC_RELEASE);
    __atomic_store_n(xsk->fill.producer, fill, __ATOMIC_RELEASE);
    return i;
}

/* Sends 'n' frames of 'length' octets, at 'frames' each in 'size' octets. */
static inline void
xsk_send(struct xsk *xsk, const uint8_t *frames, size_t size, size_t length,
         int n)
{
    uint32_t producer = *xsk->tx.producer, done;

    for (int i = 0; i < n; i++) {
        uint32_t slot = producer++ % XSK_ENTRIES;
        struct xdp_desc *desc = (struct xdp_desc *) xsk->tx.entries + slot;

        desc->addr = (XSK_ENTRIES + slot) * XSK_CHUNK;
        desc->len = length;
        desc->options = 0;
        memcpy(xsk->umem + desc->addr, frames + i * size, length);
    }
    __atomic_store_n(xsk->tx.producer, producer, __ATOMIC_RELEASE);
    /* Sends at most 32 in a call, and says EAGAIN if there are more. */
    while (__atomic_load_n(xsk->tx.consumer, __ATOMIC_ACQUIRE) != producer) {
        if (sendto(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0
            && errno != EAGAIN) {
            bail("sendto");
        }
    }
    done = __atomic_load_n(xsk->completion.producer, __ATOMIC_ACQUIRE);
    __atomic_store_n(xsk->completion.consumer, done, __ATOMIC_RELEASE);
}

#endif /* afxdp.h */
