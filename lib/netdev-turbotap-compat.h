/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What differs between releases of Open vSwitch, for netdev-turbotap*.c, and
 * the only place that knows.  It tests for features, never for versions:
 *
 * DP_PACKET_OL_SHIFT_COUNT
 *     A packet has a word 'offloads', for inner and outer headers, in which a
 *     checksum is good, bad, partial or unknown (Open vSwitch 3.6 and later).
 *
 * HAVE_DP_PACKET_CSUM_PARTIAL
 *     It has 'ol_flags', which say the same of one checksum, besides what is
 *     asked of the port that it leaves by (3.2 to 3.5).  With neither, they
 *     only say the latter (3.1).
 *
 * HAVE_DP_PACKET_BATCH_RESET
 *     A batch may grow (4.0 and later).
 *
 * HAVE_NETDEV_GET_SPEED, HAVE_NETDEV_GET_DUPLEX
 *     A class tells them apart from the other features of a link.
 *
 * Where a packet can say that its checksum is partial, Open vSwitch completes
 * it for ports that cannot, and segments, too; in 3.1 such packets are lost.
 *
 * Functions for one packet may be called by any thread that has the packet,
 * and cannot fail. */

#ifndef NETDEV_TURBOTAP_COMPAT_H
#define NETDEV_TURBOTAP_COMPAT_H 1

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "dp-packet.h"
#include "netdev-provider.h"
#include "userspace-tso.h"

/* What is in the parentheses, if a class has such a function. */
#ifdef HAVE_NETDEV_GET_SPEED
#define NETDEV_TURBOTAP_IF_GET_SPEED(...) __VA_ARGS__
#else
#define NETDEV_TURBOTAP_IF_GET_SPEED(...)
#endif
#ifdef HAVE_NETDEV_GET_DUPLEX
#define NETDEV_TURBOTAP_IF_GET_DUPLEX(...) __VA_ARGS__
#else
#define NETDEV_TURBOTAP_IF_GET_DUPLEX(...)
#endif

/* Returns what the switch may leave to a port that can say of a frame whose
 * checksum is to be completed and how it is to be segmented, but nothing of
 * outer headers of tunnels, or the checksum of IPv4 (NETDEV_TX_*). */
static inline uint64_t
netdev_turbotap_ol_flags(void)
{
    uint64_t csum = NETDEV_TX_OFFLOAD_TCP_CKSUM | NETDEV_TX_OFFLOAD_UDP_CKSUM;

#if defined DP_PACKET_OL_SHIFT_COUNT || defined HAVE_DP_PACKET_CSUM_PARTIAL
    return csum | (userspace_tso_enabled() ? NETDEV_TX_OFFLOAD_TCP_TSO : 0);
#else
    /* What has no flag of its own, a packet is not sent without. */
    return (userspace_tso_enabled()
            ? (csum | NETDEV_TX_OFFLOAD_SCTP_CKSUM
               | NETDEV_TX_OFFLOAD_IPV4_CKSUM | NETDEV_TX_OFFLOAD_TCP_TSO)
            : 0);
#endif
}

/* Makes 'batch', whose packets belong to somebody else now, empty. */
static inline void
netdev_turbotap_reset_batch(struct dp_packet_batch *batch)
{
#ifdef HAVE_DP_PACKET_BATCH_RESET
    /* It keeps what it has grown by. */
    dp_packet_batch_reset(batch);
#else
    dp_packet_batch_init(batch);
#endif
}

/* Takes note that the transport checksum of 'packet' is complete and right. */
static inline void
netdev_turbotap_set_csum_good(struct dp_packet *packet)
{
#ifdef DP_PACKET_OL_SHIFT_COUNT
    dp_packet_l4_checksum_set_good(packet);
#else
    *dp_packet_ol_flags_ptr(packet) |= DP_PACKET_OL_RX_L4_CKSUM_GOOD;
#endif
}

/* Returns true if that is known of 'packet', which is about to be sent. */
static inline bool
netdev_turbotap_is_csum_good(const struct dp_packet *packet)
{
#ifdef DP_PACKET_OL_SHIFT_COUNT
    return dp_packet_l4_checksum_good(packet);
#elif defined HAVE_DP_PACKET_CSUM_PARTIAL
    /* Of a tunnel it may be meant for the inner one. */
    return (dp_packet_l4_checksum_good(packet)
            && packet->inner_l4_ofs == UINT16_MAX);
#else
    return dp_packet_l4_checksum_valid(packet);
#endif
}

/* Returns true if a packet can be passed on whose transport checksum, of
 * protocol 'proto' in an IP packet, IPv6 if 'ipv6', is to be completed. */
static inline bool
netdev_turbotap_may_be_partial(uint8_t proto, bool ipv6)
{
#ifdef HAVE_DP_PACKET_CSUM_PARTIAL
    /* For UDP over IPv6, netdev_linux_prepend_vnet_hdr() takes the transport
     * header for the IP header. */
    if (proto == IPPROTO_UDP && ipv6) {
        return false;
    }
#endif
    (void) ipv6;
    return proto != 0 && userspace_tso_enabled();
}

/* Takes note that the transport checksum of 'packet', of protocol 'proto' in
 * an IP packet, IPv6 if 'ipv6', is to be completed, and that it is to be
 * segmented if 'seg_size' is not 0. */
static inline void
netdev_turbotap_set_partial(struct dp_packet *packet, uint8_t proto, bool ipv6,
                            uint16_t seg_size)
{
#ifdef DP_PACKET_OL_SHIFT_COUNT
    dp_packet_l4_checksum_set_partial(packet);
    if (proto == IPPROTO_TCP) {
        dp_packet_l4_proto_set_tcp(packet);
    } else if (proto == IPPROTO_UDP) {
        dp_packet_l4_proto_set_udp(packet);
    } else {
        dp_packet_l4_proto_set_sctp(packet);
    }
    (void) ipv6;
#else
    uint64_t flags = ipv6 ? DP_PACKET_OL_TX_IPV6 : DP_PACKET_OL_TX_IPV4;

    flags |= (proto == IPPROTO_TCP ? DP_PACKET_OL_TX_TCP_CKSUM
              : proto == IPPROTO_UDP ? DP_PACKET_OL_TX_UDP_CKSUM
              : DP_PACKET_OL_TX_SCTP_CKSUM);
    if (seg_size) {
        flags |= DP_PACKET_OL_TX_TCP_SEG;
    }
    *dp_packet_ol_flags_ptr(packet) |= flags;
#ifdef HAVE_DP_PACKET_CSUM_PARTIAL
    dp_packet_ol_set_l4_csum_partial(packet);
#endif
#endif
    dp_packet_set_tso_segsz(packet, seg_size);
}

/* Returns true if 'packet' is to be segmented. */
static inline bool
netdev_turbotap_is_tso(const struct dp_packet *packet)
{
#ifdef DP_PACKET_OL_SHIFT_COUNT
    return dp_packet_get_tso_segsz(packet) != 0;
#else
    return dp_packet_hwol_is_tso(packet);
#endif
}

/* Returns the protocol of the transport checksum of 'packet' that is to be
 * completed, 0 if there is none, and stores where its headers are. */
static inline uint8_t
netdev_turbotap_get_partial(struct dp_packet *packet,
                            uint16_t *l3_ofs, uint16_t *l4_ofs)
{
    *l3_ofs = packet->l3_ofs;
    *l4_ofs = packet->l4_ofs;
#ifdef DP_PACKET_OL_SHIFT_COUNT
    if (dp_packet_inner_l4_checksum_partial(packet)) {
        *l3_ofs = packet->inner_l3_ofs;
        *l4_ofs = packet->inner_l4_ofs;
        return (dp_packet_inner_l4_proto_tcp(packet) ? IPPROTO_TCP
                : dp_packet_inner_l4_proto_udp(packet) ? IPPROTO_UDP
                : IPPROTO_SCTP);
    }
    return (!dp_packet_l4_checksum_partial(packet) ? 0
            : dp_packet_l4_proto_tcp(packet) ? IPPROTO_TCP
            : dp_packet_l4_proto_udp(packet) ? IPPROTO_UDP
            : IPPROTO_SCTP);
#else
#ifdef HAVE_DP_PACKET_CSUM_PARTIAL
    if (packet->inner_l4_ofs != UINT16_MAX) {
        *l3_ofs = packet->inner_l3_ofs;
        *l4_ofs = packet->inner_l4_ofs;
    }
#endif
    return (dp_packet_hwol_l4_is_tcp(packet) ? IPPROTO_TCP
            : dp_packet_hwol_l4_is_udp(packet) ? IPPROTO_UDP
            : dp_packet_hwol_l4_is_sctp(packet) ? IPPROTO_SCTP
            : 0);
#endif
}

/* Copies what is known of 'src' to 'dst', which has the same octets. */
static inline void
netdev_turbotap_copy_offloads(struct dp_packet *dst,
                              const struct dp_packet *src)
{
    dst->l2_pad_size = src->l2_pad_size;
    dst->l3_ofs = src->l3_ofs;
    dst->l4_ofs = src->l4_ofs;
#ifdef DP_PACKET_OL_SHIFT_COUNT
    dst->offloads = src->offloads;
#else
    *dp_packet_ol_flags_ptr(dst) = *dp_packet_ol_flags_ptr(src);
#endif
#if defined DP_PACKET_OL_SHIFT_COUNT || defined HAVE_DP_PACKET_CSUM_PARTIAL
    dst->inner_l3_ofs = src->inner_l3_ofs;
    dst->inner_l4_ofs = src->inner_l4_ofs;
#endif
    dp_packet_set_tso_segsz(dst, dp_packet_get_tso_segsz(src));
}

#endif /* netdev-turbotap-compat.h */
