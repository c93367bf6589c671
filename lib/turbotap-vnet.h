/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The virtio-net header, by which the two sides of a tap tell each other what
 * is left to be done to a frame: a checksum to be completed, a large TCP
 * segment or UDP datagram to be cut into small ones.
 *
 * Pure functions on octets: they allocate, keep and call nothing, and look at
 * nothing outside of what they are given.  What they parse comes from the host
 * and is never trusted.  They must not know devices, queues, or Open vSwitch.
 *
 * The header is struct virtio_net_hdr_v1 of linux/virtio_net.h: 12 octets, of
 * which tun neither reads nor writes the last two (num_buffers).  Its fields
 * are little-endian, as in virtio 1.0, on hosts of any kind:
 * turbotap_dev_set_vnet_hdr_size() asks tun for that (TUNSETVNETLE).
 *
 * Offsets are in octets from the first one of the Ethernet header. */

#ifndef TURBOTAP_VNET_H
#define TURBOTAP_VNET_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "turbotap-frame.h"

/* Size of the header, in octets. */
#define TURBOTAP_VNET_HDR_LEN 12

/* The most packets that one frame is cut into.  Linux sends no TCP segments of
 * less than 8 octets of payload in frames of 64 kB (TCP_MIN_GSO_SIZE of
 * include/net/tcp.h), and no more than 128 UDP datagrams in one. */
#define TURBOTAP_VNET_MAX_SEGS 8192

/* What is known about a frame that was received. */
struct turbotap_vnet_rx {
    bool csum_good;             /* The transport checksum was verified. */
    bool csum_partial;          /* The checksum at 'csum_start' +
                                 * 'csum_offset' is to be completed over all
                                 * from 'csum_start' on. */
    uint16_t csum_start;
    uint16_t csum_offset;       /* From 'csum_start'. */
    uint16_t seg_size;          /* Nonzero: TCP or UDP, to be cut into segments
                                 * of so many octets of payload. */
    struct turbotap_frame at;   /* If 'csum_partial' or 'seg_size', and
                                 * 'at.proto' is not 0: whose checksum or
                                 * payload that is, TCP, UDP or SCTP. */
};

/* What is to be done to a frame that is sent. */
struct turbotap_vnet_tx {
    uint16_t l3_ofs;            /* The IP header. */
    uint16_t l4_ofs;            /* The transport header. */
    uint8_t proto;              /* IPPROTO_TCP or IPPROTO_UDP: its checksum is
                                 * to be completed. */
    uint16_t mtu;               /* Nonzero: TCP, to be cut into segments in IP
                                 * packets of at most so many octets. */
    uint16_t seg_size;          /* And of so many octets of payload, if
                                 * nonzero. */
};

/* Returns true if the header at 'hdr' asks for nothing and says nothing. */
static inline bool
turbotap_vnet_is_plain(const void *hdr)
{
    const uint8_t *h = hdr;

    return !(h[0] | h[1]);      /* flags, gso_type. */
}

/* Returns the offset from which on the header at 'hdr' asks for a checksum to
 * be completed, if that is all that it asks for, else 0. */
uint16_t turbotap_vnet_csum_start(const void *hdr);

/* Stores in '*rx' what the header at 'hdr' says about the 'size' octets at
 * 'frame', at least an Ethernet header.  Returns 0, or EINVAL if it says what
 * is not true of the frame, or what nobody agreed to, such as
 * more packets than TURBOTAP_VNET_MAX_SEGS. */
int turbotap_vnet_parse(const void *hdr, const void *frame, size_t size,
                        struct turbotap_vnet_rx *rx);

/* Completes the checksum of the 'size' octets at 'frame', of which
 * turbotap_vnet_parse() said '*rx', in software. */
void turbotap_vnet_complete(void *frame, size_t size,
                            const struct turbotap_vnet_rx *rx);

/* Writes to 'hdr' a header that asks for nothing. */
void turbotap_vnet_write_plain(void *hdr);

/* Writes to 'hdr' the header that asks for the checksum of a frame to be
 * completed and, with a 'seg_size' other than 0, for the frame to be cut into
 * segments of so many octets of payload.  The frame is the one of which '*at'
 * is true, TCP or UDP, with its payload at 'payload_ofs'.  'frame' points to
 * its headers, and the sum of the pseudo header is written into them, unless
 * there is a routing header: then it must be there. */
void turbotap_vnet_write_partial(void *hdr, void *frame,
                                 const struct turbotap_frame *at,
                                 uint32_t payload_ofs, uint16_t seg_size);

/* Does the same for what '*tx' asks to be done to the 'size' octets at
 * 'frame'.  Returns 0, or EINVAL if the frame is not of that kind.
 *
 * Nothing can be done to a frame of which only the first octets are left, as
 * for a mirror with a snaplen: it gets a header that asks for nothing. */
int turbotap_vnet_write(void *hdr, void *frame, size_t size,
                        const struct turbotap_vnet_tx *tx);

#endif /* turbotap-vnet.h */
