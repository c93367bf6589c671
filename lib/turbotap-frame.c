/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Finding the headers of a frame.  Must not know what is done with it. */

#include <config.h>

#include "turbotap-frame.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#include "turbotap-csum.h"

#define IPV4_FRAGMENT 0x3fff    /* "More fragments" and the offset. */

/* The most IPv6 extension headers to look at. */
#define MAX_EXT_HDRS 8

/* The last place to look for an IP header at, so that its transport header is
 * at one that has 16 bits, too. */
#define MAX_L3_OFS (UINT16_MAX - TURBOTAP_IPV6_HLEN - MAX_EXT_HDRS * 256 * 8)

/* Does the work of turbotap_frame_parse() from the IPv6 header on, which is at
 * 'at->l3_ofs'. */
static bool
parse_ipv6(const uint8_t *frame, size_t size, struct turbotap_frame *at)
{
    const uint8_t *ip = frame + at->l3_ofs;
    size_t ofs = at->l3_ofs + TURBOTAP_IPV6_HLEN;
    uint8_t proto;

    if (ofs > size || ip[0] >> 4 != 6) {
        return false;
    }
    at->end = ofs + turbotap_get_be16(&ip[TURBOTAP_IPV6_LEN]);
    if (at->end > size) {
        return false;
    }
    proto = ip[6];
    for (int i = 0; i < MAX_EXT_HDRS; i++) {
        if (proto == IPPROTO_ROUTING) {
            at->routing = true;
        } else if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_DSTOPTS) {
            at->l4_ofs = ofs;
            at->proto = proto;
            at->ipv6 = true;
            return proto != IPPROTO_FRAGMENT;
        }
        if (ofs + 8 > at->end) {
            return false;
        }
        at->extended = true;
        proto = frame[ofs];
        ofs += (frame[ofs + 1] + 1) * 8;
        if (ofs > at->end) {
            return false;
        }
    }
    return false;
}

/* Does the same for IPv4. */
static bool
parse_ipv4(const uint8_t *frame, size_t size, struct turbotap_frame *at)
{
    const uint8_t *ip = frame + at->l3_ofs;
    size_t hlen, len;

    if (at->l3_ofs + TURBOTAP_IPV4_MIN_HLEN > size || ip[0] >> 4 != 4) {
        return false;
    }
    hlen = (ip[0] & 0xf) * 4;
    len = turbotap_get_be16(&ip[TURBOTAP_IPV4_LEN]);
    if (hlen < TURBOTAP_IPV4_MIN_HLEN || len < hlen
        || at->l3_ofs + len > size
        || turbotap_get_be16(&ip[TURBOTAP_IPV4_FRAG]) & IPV4_FRAGMENT) {
        return false;
    }
    at->l4_ofs = at->l3_ofs + hlen;
    at->end = at->l3_ofs + len;
    at->proto = ip[9];
    at->extended = hlen > TURBOTAP_IPV4_MIN_HLEN;
    return true;
}

bool
turbotap_frame_parse(const void *frame_, size_t size,
                     struct turbotap_frame *at)
{
    const uint8_t *frame = frame_;
    uint16_t type = turbotap_get_be16(&frame[TURBOTAP_ETH_HLEN - 2]);

    memset(at, 0, sizeof *at);
    at->l3_ofs = TURBOTAP_ETH_HLEN;
    while (type == ETH_P_8021Q || type == ETH_P_8021AD) {
        if (at->l3_ofs + TURBOTAP_VLAN_HLEN > size
            || at->l3_ofs + TURBOTAP_VLAN_HLEN > MAX_L3_OFS) {
            return false;
        }
        at->l3_ofs += TURBOTAP_VLAN_HLEN;
        at->n_vlans++;
        type = turbotap_get_be16(&frame[at->l3_ofs - 2]);
    }
    return (type == ETH_P_IP ? parse_ipv4(frame, size, at)
            : type == ETH_P_IPV6 ? parse_ipv6(frame, size, at)
            : false);
}

uint32_t
turbotap_frame_payload(const void *frame_, const struct turbotap_frame *at)
{
    const uint8_t *l4 = (const uint8_t *) frame_ + at->l4_ofs;
    size_t len = at->end - at->l4_ofs;
    size_t hlen;

    if (at->proto == IPPROTO_UDP) {
        return len >= TURBOTAP_UDP_HLEN ? at->l4_ofs + TURBOTAP_UDP_HLEN : 0;
    } else if (at->proto != IPPROTO_TCP || len < TURBOTAP_TCP_MIN_HLEN) {
        return 0;
    }
    hlen = (l4[TURBOTAP_TCP_DATA_OFS] >> 4) * 4;
    return (hlen >= TURBOTAP_TCP_MIN_HLEN && hlen <= len
            ? at->l4_ofs + hlen
            : 0);
}

int
turbotap_frame_csum_offset(uint8_t proto)
{
    return (proto == IPPROTO_TCP ? TURBOTAP_TCP_CSUM
            : proto == IPPROTO_UDP ? TURBOTAP_UDP_CSUM
            : proto == IPPROTO_SCTP ? 8
            : -1);
}

uint64_t
turbotap_frame_pseudo_sum(const void *frame_, const struct turbotap_frame *at,
                          uint32_t len)
{
    const uint8_t *ip = (const uint8_t *) frame_ + at->l3_ofs;
    uint64_t sum = (at->ipv6
                    ? turbotap_csum_add(0, &ip[TURBOTAP_IPV6_ADDRS], 2 * 16)
                    : turbotap_csum_add(0, &ip[TURBOTAP_IPV4_ADDRS], 2 * 4));

    return turbotap_csum_add16(turbotap_csum_add16(sum, at->proto), len);
}

void
turbotap_frame_set_end(void *frame_, const struct turbotap_frame *at,
                       uint32_t end)
{
    uint8_t *ip = (uint8_t *) frame_ + at->l3_ofs;
    uint16_t csum;

    if (at->ipv6) {
        turbotap_put_be16(&ip[TURBOTAP_IPV6_LEN],
                          end - at->l3_ofs - TURBOTAP_IPV6_HLEN);
        return;
    }
    turbotap_put_be16(&ip[TURBOTAP_IPV4_LEN], end - at->l3_ofs);
    memset(&ip[TURBOTAP_IPV4_CSUM], 0, sizeof csum);
    csum = ~turbotap_csum_fold(turbotap_csum_add(0, ip,
                                                 at->l4_ofs - at->l3_ofs));
    memcpy(&ip[TURBOTAP_IPV4_CSUM], &csum, sizeof csum);
}
