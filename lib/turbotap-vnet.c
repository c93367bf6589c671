/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Parsing and writing the virtio-net header.  Must not know where frames come
 * from or go to. */

#include <config.h>

#include "turbotap-vnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <string.h>

/* Offsets of the header's fields, in octets. */
enum {
    FLAGS = 0,
    GSO_TYPE = 1,
    HDR_LEN = 2,
    GSO_SIZE = 4,
    CSUM_START = 6,
    CSUM_OFFSET = 8,
};

/* In octets. */
#define VLAN_HLEN 4
#define IPV4_MIN_HLEN 20
#define IPV6_HLEN 40
#define TCP_MIN_HLEN 20

/* Of a TCP header: offsets in octets, and a flag. */
#define TCP_DATA_OFS 12
#define TCP_FLAGS 13
#define TCP_CWR 0x80

#define IP_FRAGMENT 0x3fff      /* "More fragments" and the offset. */

/* The most IPv6 extension headers to look at. */
#define MAX_EXT_HDRS 8

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

static uint16_t
get_be16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

/* Checksums (RFC 1071), in the machine's own order of octets. */

/* Returns 'sum' with the 'n' octets at 'p' added to it.  'p' must be at an
 * even distance from where the summation began. */
static uint64_t
csum_add(uint64_t sum, const uint8_t *p, size_t n)
{
    uint32_t word = 0;

    for (; n >= sizeof word; p += sizeof word, n -= sizeof word) {
        memcpy(&word, p, sizeof word);
        sum += word;
    }
    if (n) {
        word = 0;
        memcpy(&word, p, n);
        sum += word;
    }
    return sum;
}

/* Returns the 16 bits that 'sum' comes to, not complemented. */
static uint16_t
csum_fold(uint64_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* Returns the offset of the checksum in a header of transport protocol
 * 'proto', or -1. */
static int
csum_offset_of(uint8_t proto)
{
    return (proto == IPPROTO_TCP ? 16
            : proto == IPPROTO_UDP ? 6
            : proto == IPPROTO_SCTP ? 8
            : -1);
}

/* Returns the size of the TCP header at 'l4_ofs' in the 'size' octets at
 * 'frame', 0 if there is none. */
static size_t
tcp_header_len(const uint8_t *frame, size_t size, size_t l4_ofs)
{
    size_t len;

    if (l4_ofs + TCP_MIN_HLEN > size) {
        return 0;
    }
    len = (frame[l4_ofs + TCP_DATA_OFS] >> 4) * 4;
    return len >= TCP_MIN_HLEN && l4_ofs + len <= size ? len : 0;
}

/* Receiving. */

/* Where the transport header of a frame is. */
struct transport {
    size_t ofs;
    uint8_t proto;
    bool ipv6;
};

/* Finds the transport header of the IPv6 packet at 'ofs' in the 'size' octets
 * at 'frame' and stores it in '*t'.  Returns true if there is one that is
 * checksummed with the addresses of the IPv6 header, which with a routing
 * header it may not be. */
static bool
find_in_ipv6(const uint8_t *frame, size_t size, size_t ofs,
             struct transport *t)
{
    uint8_t proto;

    if (ofs + IPV6_HLEN > size || frame[ofs] >> 4 != 6
        || ofs + IPV6_HLEN + get_be16(&frame[ofs + 4]) > size) {
        return false;
    }
    proto = frame[ofs + 6];
    ofs += IPV6_HLEN;
    for (int i = 0; i < MAX_EXT_HDRS; i++) {
        if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_DSTOPTS) {
            t->ofs = ofs;
            t->proto = proto;
            t->ipv6 = true;
            return true;
        }
        if (ofs + 8 > size) {
            return false;
        }
        proto = frame[ofs];
        ofs += (frame[ofs + 1] + 1) * 8;
    }
    return false;
}

/* Does the same for IPv4, where a fragment has none. */
static bool
find_in_ipv4(const uint8_t *frame, size_t size, size_t ofs,
             struct transport *t)
{
    size_t hlen, len;

    if (ofs + IPV4_MIN_HLEN > size || frame[ofs] >> 4 != 4) {
        return false;
    }
    hlen = (frame[ofs] & 0xf) * 4;
    len = get_be16(&frame[ofs + 2]);
    if (hlen < IPV4_MIN_HLEN || len < hlen || ofs + len > size
        || get_be16(&frame[ofs + 6]) & IP_FRAGMENT) {
        return false;
    }
    t->ofs = ofs + hlen;
    t->proto = frame[ofs + 9];
    t->ipv6 = false;
    return true;
}

/* Does the same for an Ethernet frame, at least an Ethernet header.  Behind a
 * second VLAN tag nothing is found: Open vSwitch would not either. */
static bool
find_transport(const uint8_t *frame, size_t size, struct transport *t)
{
    uint16_t type = get_be16(&frame[ETH_HLEN - 2]);
    size_t ofs = ETH_HLEN;

    if (type == ETH_P_8021Q || type == ETH_P_8021AD) {
        if (ofs + VLAN_HLEN > size) {
            return false;
        }
        ofs += VLAN_HLEN;
        type = get_be16(&frame[ofs - 2]);
    }
    return (type == ETH_P_IP ? find_in_ipv4(frame, size, ofs, t)
            : type == ETH_P_IPV6 ? find_in_ipv6(frame, size, ofs, t)
            : false);
}

int
turbotap_vnet_parse(const void *hdr_, const void *frame_, size_t size,
                    struct turbotap_vnet_rx *rx)
{
    const uint8_t *hdr = hdr_;
    const uint8_t *frame = frame_;
    uint8_t flags = hdr[FLAGS];
    uint8_t gso_type = hdr[GSO_TYPE] & ~VIRTIO_NET_HDR_GSO_ECN;
    struct transport t;
    size_t start, offset;

    memset(rx, 0, sizeof *rx);
    if (flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)) {
        return EINVAL;
    }
    if (!(flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) {
        rx->csum_good = flags != 0;
        return hdr[GSO_TYPE] == VIRTIO_NET_HDR_GSO_NONE ? 0 : EINVAL;
    }

    start = get_le16(&hdr[CSUM_START]);
    offset = get_le16(&hdr[CSUM_OFFSET]);
    if (start < ETH_HLEN || start + offset + 2 > size) {
        return EINVAL;
    }
    rx->csum_partial = true;
    rx->csum_start = start;
    rx->csum_offset = offset;
    if (find_transport(frame, size, &t) && t.ofs == start
        && csum_offset_of(t.proto) == (int) offset) {
        rx->proto = t.proto;
        rx->ipv6 = t.ipv6;
    }

    if (hdr[GSO_TYPE] == VIRTIO_NET_HDR_GSO_NONE) {
        return 0;
    }
    /* UDP (UFO, USO) and everything else was not offered to the host. */
    if (gso_type != (rx->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                              : VIRTIO_NET_HDR_GSO_TCPV4)
        || rx->proto != IPPROTO_TCP
        || !tcp_header_len(frame, size, start)
        || get_le16(&hdr[HDR_LEN]) > size) {
        return EINVAL;
    }
    rx->seg_size = get_le16(&hdr[GSO_SIZE]);
    return rx->seg_size ? 0 : EINVAL;
}

void
turbotap_vnet_complete(void *frame_, size_t size,
                       const struct turbotap_vnet_rx *rx)
{
    uint8_t *frame = frame_;
    uint16_t csum;

    csum = ~csum_fold(csum_add(0, frame + rx->csum_start,
                               size - rx->csum_start));
    if (!csum) {
        csum = 0xffff;          /* The same, and for UDP not "none". */
    }
    memcpy(frame + rx->csum_start + rx->csum_offset, &csum, sizeof csum);
}

/* Sending. */

void
turbotap_vnet_write_plain(void *hdr)
{
    memset(hdr, 0, TURBOTAP_VNET_HDR_LEN);
}

/* Returns true if the IPv6 packet at 'l3_ofs' of 'frame' has a routing header
 * before 'l4_ofs'. */
static bool
has_routing_header(const uint8_t *frame, size_t l3_ofs, size_t l4_ofs)
{
    uint8_t proto = frame[l3_ofs + 6];
    size_t ofs = l3_ofs + IPV6_HLEN;

    while (ofs + 8 <= l4_ofs && proto != IPPROTO_ROUTING) {
        proto = frame[ofs];
        ofs += (frame[ofs + 1] + 1) * 8;
    }
    return ofs + 8 <= l4_ofs;
}

int
turbotap_vnet_write(void *hdr_, void *frame_, size_t size,
                    const struct turbotap_vnet_tx *tx)
{
    uint8_t *hdr = hdr_;
    uint8_t *frame = frame_;
    uint8_t *ip = frame + tx->l3_ofs;
    int offset = csum_offset_of(tx->proto);
    size_t headers_len, payload_len, ip_len;
    uint16_t pseudo[2];
    uint64_t sum;
    uint16_t csum;
    bool ipv6;

    if (offset < 0 || tx->l4_ofs + offset + 2 > size) {
        return EINVAL;
    }

    /* The sum of the pseudo header.  It would be there already, had not Open
     * vSwitch, when it changed an address or a port, changed the checksum as
     * if it were complete. */
    if (tx->l3_ofs + IPV4_MIN_HLEN <= tx->l4_ofs && ip[0] >> 4 == 4) {
        ipv6 = false;
        ip_len = get_be16(&ip[2]);
        sum = csum_add(0, &ip[12], 2 * 4);
    } else if (tx->l3_ofs + IPV6_HLEN <= tx->l4_ofs && ip[0] >> 4 == 6) {
        ipv6 = true;
        ip_len = IPV6_HLEN + get_be16(&ip[4]);
        sum = csum_add(0, &ip[8], 2 * 16);
    } else {
        return EINVAL;
    }
    if (tx->l3_ofs + ip_len > size
        || tx->l3_ofs + ip_len < tx->l4_ofs + offset + 2) {
        return EINVAL;
    }
    if (!ipv6 || !has_routing_header(frame, tx->l3_ofs, tx->l4_ofs)) {
        pseudo[0] = htons(tx->proto);
        pseudo[1] = htons(tx->l3_ofs + ip_len - tx->l4_ofs);
        csum = csum_fold(csum_add(sum, (const uint8_t *) pseudo,
                                  sizeof pseudo));
        memcpy(frame + tx->l4_ofs + offset, &csum, sizeof csum);
    }

    turbotap_vnet_write_plain(hdr);
    hdr[FLAGS] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    put_le16(&hdr[CSUM_START], tx->l4_ofs);
    put_le16(&hdr[CSUM_OFFSET], offset);
    if (!tx->mtu) {
        return 0;
    }

    headers_len = tcp_header_len(frame, size, tx->l4_ofs);
    if (tx->proto != IPPROTO_TCP || !headers_len) {
        return EINVAL;
    }
    headers_len += tx->l4_ofs - tx->l3_ofs;
    if (tx->mtu <= headers_len || ip_len < headers_len) {
        return EINVAL;
    }
    payload_len = tx->mtu - headers_len;
    if (tx->seg_size && tx->seg_size < payload_len) {
        payload_len = tx->seg_size;
    }
    if (ip_len > headers_len + payload_len) {
        hdr[GSO_TYPE] = (ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                              : VIRTIO_NET_HDR_GSO_TCPV4);
        if (frame[tx->l4_ofs + TCP_FLAGS] & TCP_CWR) {
            hdr[GSO_TYPE] |= VIRTIO_NET_HDR_GSO_ECN;
        }
        put_le16(&hdr[HDR_LEN], tx->l3_ofs + headers_len);
        put_le16(&hdr[GSO_SIZE], payload_len);
    }
    return 0;
}
