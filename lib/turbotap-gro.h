/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Generic receive offload, towards the host: merges consecutive TCP segments
 * and UDP datagrams of a flow into one large frame with a virtio-net header,
 * which costs the host as much as a single one of them.
 *
 * Only what is cut into the very same packets again is merged, and only what
 * the kernel's own generic receive offload would merge: same headers, but for
 * what counts; equal payload sizes, but for the last.  The order within a flow
 * never changes.  A packet whose checksum is wrong, or that is anything else,
 * stays as it is.
 *
 * Octets in, octets out: nothing is allocated, nothing is copied but headers,
 * and nothing is kept from one call to the next.  It must not know devices,
 * queues, or Open vSwitch. */

#ifndef TURBOTAP_GRO_H
#define TURBOTAP_GRO_H 1

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "turbotap-vnet.h"

/* The most packets that one call takes. */
#define TURBOTAP_GRO_MAX 32

/* What can be merged, as bits. */
enum turbotap_gro_kind {
    TURBOTAP_GRO_TCP = 1 << 0,
    TURBOTAP_GRO_UDP = 1 << 1,  /* Linux 6.2 and later. */
};

/* A packet that may be merged. */
struct turbotap_gro_packet {
    const uint8_t *data;        /* Its Ethernet header.  The caller's, and
                                 * never changed. */
    uint32_t size;              /* In octets. */
    bool complete;              /* Nothing is left to be done to it, but for
                                 * 'csum_start'.  Else it is not merged. */
    bool csum_good;             /* Its transport checksum was verified. */
    uint16_t csum_start;        /* Nonzero: the checksum of the transport
                                 * header at this offset is to be completed,
                                 * and that will be right. */
};

/* A frame that came out. */
struct turbotap_gro_frame {
    enum turbotap_gro_kind kind;        /* If 'n_packets' is not 1. */
    uint8_t n_packets;          /* In this frame. */
    uint8_t first;              /* The index of the first of them, which
                                 * turbotap_gro_next() leads on from. */
    uint8_t n_iov;              /* Of 'iov', if 'n_packets' is not 1: */
    struct iovec *iov;          /* the frame, with a virtio-net header. */
    uint32_t size;              /* Of the same, in octets. */
};

/* Returns how many octets the packets of 'frame', which are several, have in
 * all. */
static inline uint64_t
turbotap_gro_bytes(const struct turbotap_gro_frame *frame)
{
    uint32_t headers_len = frame->iov[0].iov_len - TURBOTAP_VNET_HDR_LEN;

    return (frame->size - TURBOTAP_VNET_HDR_LEN
            + (uint64_t) (frame->n_packets - 1) * headers_len);
}

/* The longest headers that a merged frame can have, with the virtio-net
 * header, in octets. */
#define TURBOTAP_GRO_MAX_HEADERS (TURBOTAP_VNET_HDR_LEN + TURBOTAP_ETH_HLEN \
                                  + (TURBOTAP_FRAME_MAX_VLANS            \
                                     * TURBOTAP_VLAN_HLEN)               \
                                  + TURBOTAP_IPV6_HLEN + 60)

/* What comes out of a call.  Needs no initialization. */
struct turbotap_gro {
    unsigned int n_frames;
    struct turbotap_gro_frame frames[TURBOTAP_GRO_MAX];

    /* What they are made of. */
    uint8_t next[TURBOTAP_GRO_MAX];     /* By packet. */
    struct iovec iovs[TURBOTAP_GRO_MAX + TURBOTAP_GRO_MAX / 2];
    uint8_t headers[TURBOTAP_GRO_MAX / 2][TURBOTAP_GRO_MAX_HEADERS];
};

/* Merges what can be of the 'n' packets in 'packets', at most
 * TURBOTAP_GRO_MAX, if it is one of the 'kinds', and stores in '*gro' the
 * frames that they have become, which point into it and into the packets. */
void turbotap_gro_merge(struct turbotap_gro *gro,
                        const struct turbotap_gro_packet *packets,
                        unsigned int n, unsigned int kinds);

/* Returns the index of the packet that follows packet 'i' in a frame of
 * 'gro'. */
static inline unsigned int
turbotap_gro_next(const struct turbotap_gro *gro, unsigned int i)
{
    return gro->next[i];
}

#endif /* turbotap-gro.h */
