/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare AF_XDP socket in copy mode, to compare with: no library, and the
 * smallest program there can be.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef TURBOTAP_TEST_AFXDP_H
#define TURBOTAP_TEST_AFXDP_H 1

#include "xdp.h"
#include <sys/mman.h>
#include <linux/if_xdp.h>

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

/* Has all that device 'name' receives go to the socket 'xsk_fd'. */
static inline void
xsk_redirect(const char *name, int xsk_fd)
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

    memset(&attr, 0, sizeof attr);
    attr.map_fd = map;
    attr.key = (uintptr_t) &key;
    attr.value = (uintptr_t) &xsk_fd;
    must(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof attr));
    xdp_attach(name, program, ARRAY_SIZE(program));
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
