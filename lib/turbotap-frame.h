/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What a frame is: Ethernet, VLAN tags, IP, a transport protocol, and where in
 * the frame the header of each is.
 *
 * Pure functions on octets: they allocate, keep and call nothing, and look at
 * nothing outside of what they are given, which comes from the host and is
 * never trusted.
 *
 * Offsets are in octets from the first one of the Ethernet header. */

#ifndef TURBOTAP_FRAME_H
#define TURBOTAP_FRAME_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most VLAN tags before the longest IP packet, and those of packets that
 * are merged.  Behind how many of them others are found is not limited. */
#define TURBOTAP_FRAME_MAX_VLANS 2

/* The longest frame of a host, in octets: the longest IP packet, in Ethernet
 * with as many VLAN tags. */
#define TURBOTAP_FRAME_MAX (14 + TURBOTAP_FRAME_MAX_VLANS * 4 + 65535)

/* Lengths of headers, in octets. */
enum {
    TURBOTAP_ETH_HLEN = 14,
    TURBOTAP_VLAN_HLEN = 4,
    TURBOTAP_IPV4_MIN_HLEN = 20,
    TURBOTAP_IPV6_HLEN = 40,
    TURBOTAP_TCP_MIN_HLEN = 20,
    TURBOTAP_UDP_HLEN = 8,
};

/* Where in its header a field is, in octets. */
enum {
    TURBOTAP_IPV4_LEN = 2,      /* Of header and payload. */
    TURBOTAP_IPV4_ID = 4,
    TURBOTAP_IPV4_FRAG = 6,
    TURBOTAP_IPV4_CSUM = 10,
    TURBOTAP_IPV4_ADDRS = 12,   /* Both. */
    TURBOTAP_IPV6_LEN = 4,      /* Of the payload. */
    TURBOTAP_IPV6_ADDRS = 8,    /* Both. */
    TURBOTAP_TCP_SEQ = 4,
    TURBOTAP_TCP_DATA_OFS = 12,
    TURBOTAP_TCP_FLAGS = 13,
    TURBOTAP_TCP_CSUM = 16,
    TURBOTAP_UDP_LEN = 4,
    TURBOTAP_UDP_CSUM = 6,
};

/* Flags of a TCP header. */
enum {
    TURBOTAP_TCP_FIN = 0x01,
    TURBOTAP_TCP_PSH = 0x08,
    TURBOTAP_TCP_ACK = 0x10,
    TURBOTAP_TCP_CWR = 0x80,
};

/* Where the headers of a frame are. */
struct turbotap_frame {
    uint16_t l3_ofs;            /* The IP header. */
    uint16_t l4_ofs;            /* The transport header. */
    uint32_t end;               /* The first octet behind the IP packet. */
    uint16_t n_vlans;
    uint8_t proto;              /* The transport protocol, IPPROTO_*. */
    bool ipv6;                  /* IPv6 if true, IPv4 if false. */
    bool extended;              /* There are IP options, or IPv6 extension
                                 * headers. */
    bool routing;               /* The transport checksum is not over the
                                 * addresses of the IP header: there is an IPv6
                                 * routing header, or turbotap_vnet_parse() saw
                                 * it from the sum. */
};

static inline uint16_t
turbotap_get_be16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static inline void
turbotap_put_be16(uint8_t *p, uint16_t x)
{
    p[0] = x >> 8;
    p[1] = x;
}

static inline uint32_t
turbotap_get_be32(const uint8_t *p)
{
    return (uint32_t) turbotap_get_be16(p) << 16 | turbotap_get_be16(p + 2);
}

static inline void
turbotap_put_be32(uint8_t *p, uint32_t x)
{
    turbotap_put_be16(p, x >> 16);
    turbotap_put_be16(p + 2, x);
}

/* Finds the transport header in the 'size' octets at 'frame', at least an
 * Ethernet header, and stores in '*at' where all is.  Returns false if there
 * is none: the frame is no IP packet, a fragment of one, or cut.  The
 * transport header itself may be cut. */
bool turbotap_frame_parse(const void *frame, size_t size,
                          struct turbotap_frame *at);

/* Returns where the payload of the TCP segment or UDP datagram is that the
 * frame at 'frame' is according to '*at', 0 if it is neither or its header is
 * cut. */
uint32_t turbotap_frame_payload(const void *frame,
                                const struct turbotap_frame *at);

/* Returns the offset of the checksum in a header of transport protocol
 * 'proto', or -1. */
int turbotap_frame_csum_offset(uint8_t proto);

/* Returns the sum of the pseudo header of the frame at 'frame', of which '*at'
 * is true, for 'len' octets of transport header and payload.  Not to be called
 * if '*at' is about a frame with a routing header. */
uint64_t turbotap_frame_pseudo_sum(const void *frame,
                                   const struct turbotap_frame *at,
                                   uint32_t len);

/* Gives the IPv4 or IPv6 header of the frame at 'frame', of which '*at' is
 * true but for its end, the length that makes the IP packet end at 'end', and
 * IPv4 a header checksum that is right. */
void turbotap_frame_set_end(void *frame, const struct turbotap_frame *at,
                            uint32_t end);

#endif /* turbotap-frame.h */
