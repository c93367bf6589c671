/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Parsing and writing the virtio-net header.  Must not know where frames come
 * from or go to. */

#include <config.h>

#include "turbotap-vnet.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <string.h>

#include "turbotap-csum.h"

/* Of Linux 6.2, unknown to older headers: UDP segmentation. */
#define GSO_UDP_L4 5

/* Offsets of the header's fields, in octets. */
enum {
    FLAGS = 0,
    GSO_TYPE = 1,
    HDR_LEN = 2,
    GSO_SIZE = 4,
    CSUM_START = 6,
    CSUM_OFFSET = 8,
};

static uint16_t
get_le16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static void
put_le16(uint8_t *p, uint16_t x)
{
    p[0] = x;
    p[1] = x >> 8;
}

/* Receiving. */

/* Returns true if 'gso_type' is what was offered to the host for a frame of
 * which '*at' is true. */
static bool
is_gso_type_of(uint8_t gso_type, const struct turbotap_frame *at)
{
    if (at->proto == IPPROTO_UDP) {
        return gso_type == GSO_UDP_L4;
    }
    return (at->proto == IPPROTO_TCP
            && (gso_type & ~VIRTIO_NET_HDR_GSO_ECN)
               == (at->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                            : VIRTIO_NET_HDR_GSO_TCPV4));
}

/* Returns true if the sum that the host left in the partial checksum of which
 * '*rx' tells is that of the addresses in the IP header.  It is not if there
 * is a source route, or a home address, among IP options or extension
 * headers: then the last destination counts, or the first source.  SCTP has no
 * such sum. */
static bool
is_sum_of_addrs(const uint8_t *frame, const struct turbotap_vnet_rx *rx)
{
    uint32_t len = rx->at.end - rx->at.l4_ofs;
    uint16_t sum, csum;

    if (rx->at.proto == IPPROTO_SCTP) {
        return true;
    }
    sum = turbotap_csum_fold(turbotap_frame_pseudo_sum(frame, &rx->at, len));
    memcpy(&csum, frame + rx->csum_start + rx->csum_offset, sizeof csum);
    return sum == csum;
}

int
turbotap_vnet_parse(const void *hdr_, const void *frame_, size_t size,
                    struct turbotap_vnet_rx *rx)
{
    const uint8_t *hdr = hdr_;
    const uint8_t *frame = frame_;
    uint8_t flags = hdr[FLAGS];
    uint8_t gso_type = hdr[GSO_TYPE];
    uint32_t payload_ofs;

    memset(rx, 0, sizeof *rx);
    if (flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)) {
        return EINVAL;
    }
    if (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        size_t start = get_le16(&hdr[CSUM_START]);
        size_t offset = get_le16(&hdr[CSUM_OFFSET]);

        if (start < TURBOTAP_ETH_HLEN || start + offset + 2 > size) {
            return EINVAL;
        }
        rx->csum_partial = true;
        rx->csum_start = start;
        rx->csum_offset = offset;
    } else if (gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        rx->csum_good = flags != 0;
        return 0;
    }

    if (!turbotap_frame_parse(frame, size, &rx->at)
        || (rx->csum_partial
            && (rx->csum_start != rx->at.l4_ofs
                || rx->csum_offset
                   != turbotap_frame_csum_offset(rx->at.proto)))) {
        rx->at.proto = 0;
    }
    if (rx->csum_partial && rx->at.proto && rx->at.extended
        && !is_sum_of_addrs(frame, rx)) {
        rx->at.routing = true;
    }
    if (gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        return 0;
    }

    /* Whoever made one frame of several without leaving the checksum to be
     * completed has verified it.  With a routing header it cannot be computed
     * anew. */
    rx->csum_good = !rx->csum_partial;
    payload_ofs = turbotap_frame_payload(frame, &rx->at);
    if (!is_gso_type_of(gso_type, &rx->at)
        || !payload_ofs
        || (rx->csum_good && rx->at.routing)
        || get_le16(&hdr[HDR_LEN]) > size) {
        return EINVAL;
    }
    rx->seg_size = get_le16(&hdr[GSO_SIZE]);
    return (rx->seg_size
            && (rx->at.end - payload_ofs
                <= (uint32_t) rx->seg_size * TURBOTAP_VNET_MAX_SEGS)
            ? 0 : EINVAL);
}

void
turbotap_vnet_complete(void *frame_, size_t size,
                       const struct turbotap_vnet_rx *rx)
{
    uint8_t *frame = frame_;
    uint16_t csum;

    csum = ~turbotap_csum_fold(turbotap_csum_add(0, frame + rx->csum_start,
                                                 size - rx->csum_start));
    if (!csum) {
        csum = 0xffff;          /* The same, and for UDP not "none". */
    }
    memcpy(frame + rx->csum_start + rx->csum_offset, &csum, sizeof csum);
}

/* Sending. */

uint16_t
turbotap_vnet_csum_start(const void *hdr_)
{
    const uint8_t *hdr = hdr_;

    return (hdr[FLAGS] & VIRTIO_NET_HDR_F_NEEDS_CSUM && !hdr[GSO_TYPE]
            ? get_le16(&hdr[CSUM_START]) : 0);
}

void
turbotap_vnet_write_plain(void *hdr)
{
    memset(hdr, 0, TURBOTAP_VNET_HDR_LEN);
}

void
turbotap_vnet_write_partial(void *hdr_, void *frame_,
                            const struct turbotap_frame *at,
                            uint32_t payload_ofs, uint16_t seg_size)
{
    uint8_t *hdr = hdr_;
    uint8_t *frame = frame_;
    int offset = turbotap_frame_csum_offset(at->proto);

    if (!at->routing) {
        uint32_t len = at->end - at->l4_ofs;
        uint16_t csum;

        csum = turbotap_csum_fold(turbotap_frame_pseudo_sum(frame, at, len));
        memcpy(frame + at->l4_ofs + offset, &csum, sizeof csum);
    }

    turbotap_vnet_write_plain(hdr);
    hdr[FLAGS] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    put_le16(&hdr[CSUM_START], at->l4_ofs);
    put_le16(&hdr[CSUM_OFFSET], offset);
    if (!seg_size) {
        return;
    }
    if (at->proto == IPPROTO_UDP) {
        hdr[GSO_TYPE] = GSO_UDP_L4;
    } else {
        hdr[GSO_TYPE] = (at->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                                  : VIRTIO_NET_HDR_GSO_TCPV4);
        if (frame[at->l4_ofs + TURBOTAP_TCP_FLAGS] & TURBOTAP_TCP_CWR) {
            hdr[GSO_TYPE] |= VIRTIO_NET_HDR_GSO_ECN;
        }
    }
    put_le16(&hdr[HDR_LEN], payload_ofs);
    put_le16(&hdr[GSO_SIZE], seg_size);
}

/* Returns true if the IPv6 packet of the frame at 'frame' has a routing header
 * before its transport header.  Open vSwitch may look behind headers that
 * turbotap_frame_parse() does not. */
static bool
has_routing_header(const uint8_t *frame, const struct turbotap_frame *at)
{
    uint8_t proto = frame[at->l3_ofs + 6];
    size_t ofs = at->l3_ofs + TURBOTAP_IPV6_HLEN;

    while (ofs + 8 <= at->l4_ofs && proto != IPPROTO_ROUTING) {
        proto = frame[ofs];
        ofs += (frame[ofs + 1] + 1) * 8;
    }
    return ofs + 8 <= at->l4_ofs;
}

int
turbotap_vnet_write(void *hdr, void *frame_, size_t size,
                    const struct turbotap_vnet_tx *tx)
{
    uint8_t *frame = frame_;
    uint8_t *ip = frame + tx->l3_ofs;
    int offset = turbotap_frame_csum_offset(tx->proto);
    struct turbotap_frame at = {
        .l3_ofs = tx->l3_ofs,
        .l4_ofs = tx->l4_ofs,
        .proto = tx->proto,
    };
    uint32_t payload_ofs, headers_len, seg_size;

    if (offset < 0 || at.l3_ofs + TURBOTAP_IPV4_MIN_HLEN > at.l4_ofs) {
        return EINVAL;
    }
    if (at.l3_ofs + TURBOTAP_IPV4_MIN_HLEN > size) {
        turbotap_vnet_write_plain(hdr);
        return 0;
    }

    if (ip[0] >> 4 == 4) {
        at.end = at.l3_ofs + turbotap_get_be16(&ip[TURBOTAP_IPV4_LEN]);
    } else if (ip[0] >> 4 == 6
               && at.l3_ofs + TURBOTAP_IPV6_HLEN <= at.l4_ofs) {
        at.ipv6 = true;
        at.end = (at.l3_ofs + TURBOTAP_IPV6_HLEN
                  + turbotap_get_be16(&ip[TURBOTAP_IPV6_LEN]));
    } else {
        return EINVAL;
    }
    if (at.end < at.l4_ofs + offset + 2) {
        return EINVAL;
    }
    if (at.end > size) {
        turbotap_vnet_write_plain(hdr);
        return 0;
    }

    /* The sum of the pseudo header is written anew.  It would be there
     * already, had not Open vSwitch, when it changed an address or a port,
     * changed the checksum as if it were complete. */
    at.routing = at.ipv6 && has_routing_header(frame, &at);
    payload_ofs = turbotap_frame_payload(frame, &at);
    if (!tx->mtu) {
        turbotap_vnet_write_partial(hdr, frame, &at, payload_ofs, 0);
        return 0;
    }

    headers_len = payload_ofs - at.l3_ofs;
    if (tx->proto != IPPROTO_TCP || !payload_ofs || tx->mtu <= headers_len) {
        return EINVAL;
    }
    seg_size = tx->mtu - headers_len;
    if (tx->seg_size && tx->seg_size < seg_size) {
        seg_size = tx->seg_size;
    }
    turbotap_vnet_write_partial(hdr, frame, &at, payload_ofs,
                                at.end > payload_ofs + seg_size
                                ? seg_size : 0);
    return 0;
}
