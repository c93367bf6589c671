/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Fuzzes turbotap-vnet.h.  An input is a virtio-net header and a frame, as
 * they come from the host.  Besides staying in bounds, which the sanitizers
 * watch, what the parser accepts must be true of the frame, must be accepted
 * again when it is written, and must complete to a checksum that is right. */

#include <config.h>

#include "fuzz.h"
#include "turbotap-vnet.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define ETH_HLEN 14

/* Aborts unless 'condition' holds. */
static void
check(bool condition)
{
    if (!condition) {
        abort();
    }
}

static uint32_t
sum(uint32_t s, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s += i % 2 ? p[i] : p[i] << 8;
        s = (s & 0xffff) + (s >> 16);
    }
    return s;
}

/* Returns the length that the IP header at 'ip' gives. */
static size_t
ip_len(const uint8_t *ip, bool ipv6)
{
    return ipv6 ? 40 + (ip[4] << 8 | ip[5]) : ip[2] << 8 | ip[3];
}

/* Returns true if the transport checksum of the IP packet at 'ip', 'len'
 * octets of which the parser said '*rx', is right.  Its transport header is at
 * 'l4_ofs' from 'ip'. */
static bool
csum_is_good(const uint8_t *ip, size_t len, size_t l4_ofs,
             const struct turbotap_vnet_rx *rx)
{
    uint32_t s = rx->ipv6 ? sum(0, ip + 8, 32) : sum(0, ip + 12, 8);

    s += rx->proto + (len - l4_ofs);
    s = (s & 0xffff) + (s >> 16);
    return sum(s, ip + l4_ofs, len - l4_ofs) == 0xffff;
}

/* What was parsed from 'size' octets at 'frame' is '*rx': sends it on. */
static void
forward(uint8_t *frame, size_t size, const struct turbotap_vnet_rx *rx)
{
    bool vlan = frame[12] == 0x81 || frame[12] == 0x88;
    uint8_t *hdr = malloc(TURBOTAP_VNET_HDR_LEN);
    struct turbotap_vnet_rx again;
    const uint8_t *ip;
    struct turbotap_vnet_tx tx = {
        .l3_ofs = ETH_HLEN + (vlan ? 4 : 0),
        .l4_ofs = rx->csum_start,
        .proto = rx->proto,
        .mtu = rx->seg_size ? 1500 : 0,
        .seg_size = rx->seg_size,
    };

    ip = frame + tx.l3_ofs;
    if (!turbotap_vnet_write(hdr, frame, size, &tx)) {
        check(!turbotap_vnet_parse(hdr, frame, size, &again));
        check(again.csum_partial && again.proto == rx->proto
              && again.ipv6 == rx->ipv6
              && again.csum_start == rx->csum_start
              && again.csum_offset == rx->csum_offset
              && again.seg_size <= rx->seg_size);
        turbotap_vnet_complete(frame, size, &again);

        /* Octets behind the IP packet would be summed as well. */
        if (tx.l3_ofs + ip_len(ip, rx->ipv6) == size) {
            check(csum_is_good(ip, size - tx.l3_ofs, tx.l4_ofs - tx.l3_ofs,
                               rx));
        }
    }
    free(hdr);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t frame_size = size - TURBOTAP_VNET_HDR_LEN;
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;
    struct turbotap_vnet_tx tx;
    uint8_t *frame;

    if (size < TURBOTAP_VNET_HDR_LEN + ETH_HLEN) {
        return 0;
    }
    frame = malloc(frame_size);
    memcpy(frame, data + TURBOTAP_VNET_HDR_LEN, frame_size);
    if (!turbotap_vnet_parse(data, frame, frame_size, &rx)) {
        check(!rx.seg_size || (rx.csum_partial && rx.proto == IPPROTO_TCP));
        check(!rx.proto || rx.csum_partial);
        if (rx.csum_partial) {
            check(rx.csum_start >= ETH_HLEN
                  && rx.csum_start + rx.csum_offset + 2 <= frame_size);
        }
        if (rx.proto) {
            forward(frame, frame_size, &rx);
        } else if (rx.csum_partial) {
            turbotap_vnet_complete(frame, frame_size, &rx);
        }
    }

    /* Open vSwitch's idea of where the headers are may be any. */
    tx = (struct turbotap_vnet_tx) {
        .l3_ofs = data[2] | data[3] << 8,
        .l4_ofs = data[4] | data[5] << 8,
        .proto = data[6],
        .mtu = data[7] << 8 | data[8],
        .seg_size = data[9] << 8 | data[10],
    };
    turbotap_vnet_write(hdr, frame, frame_size, &tx);
    free(frame);
    return 0;
}
