/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Fuzzes turbotap-vnet.h and turbotap-gso.h.  An input is a virtio-net header
 * and a frame, as they come from the host.  Besides staying in bounds, which
 * the sanitizers watch, what the parser accepts must be true of the frame, must
 * be accepted again when it is written, must complete to a checksum that is
 * right, and must be cut into segments whose checksums are. */

#include <config.h>

#include "fuzz.h"
#include "turbotap-csum.h"
#include "turbotap-gso.h"
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

/* Returns true if the transport checksum of the frame at 'frame', of which
 * '*at' is true, is right. */
static bool
csum_is_good(const uint8_t *frame, const struct turbotap_frame *at)
{
    const uint8_t *ip = frame + at->l3_ofs;
    uint32_t len = at->end - at->l4_ofs;
    uint32_t s = at->ipv6 ? sum(0, ip + 8, 32) : sum(0, ip + 12, 8);

    s += at->proto + len;
    s = (s & 0xffff) + (s >> 16);
    return sum(s, frame + at->l4_ofs, len) == 0xffff;
}

/* What was parsed from 'size' octets at 'frame' is '*rx': sends it on. */
static void
forward(uint8_t *frame, size_t size, const struct turbotap_vnet_rx *rx)
{
    uint8_t *hdr = malloc(TURBOTAP_VNET_HDR_LEN);
    struct turbotap_vnet_rx again;
    struct turbotap_vnet_tx tx = {
        .l3_ofs = rx->at.l3_ofs,
        .l4_ofs = rx->at.l4_ofs,
        .proto = rx->at.proto,
        .mtu = rx->seg_size ? 1500 : 0,
        .seg_size = rx->seg_size,
    };

    if (!turbotap_vnet_write(hdr, frame, size, &tx)) {
        check(!turbotap_vnet_parse(hdr, frame, size, &again));
        check(again.csum_partial && again.at.proto == rx->at.proto
              && again.at.ipv6 == rx->at.ipv6
              && again.csum_start == rx->at.l4_ofs
              && again.seg_size <= rx->seg_size);
        turbotap_vnet_complete(frame, size, &again);

        /* Octets behind the IP packet would be summed as well. */
        check(again.at.end < size || again.at.routing
              || csum_is_good(frame, &again.at));
    }
    free(hdr);
}

/* Returns true if the host left the sum of the pseudo header in the partial
 * checksum of which '*rx' tells. */
static bool
has_pseudo_sum(const uint8_t *frame, const struct turbotap_vnet_rx *rx)
{
    uint64_t sum = turbotap_frame_pseudo_sum(frame, &rx->at,
                                             rx->at.end - rx->at.l4_ofs);
    uint16_t csum;

    memcpy(&csum, frame + rx->csum_start + rx->csum_offset, sizeof csum);
    return csum == turbotap_csum_fold(sum);
}

/* Cuts the frame of which '*rx' was parsed. */
static void
cut(const uint8_t *frame, const struct turbotap_vnet_rx *rx)
{
    uint32_t headers_len = turbotap_frame_payload(frame, &rx->at);
    uint32_t left = rx->at.end - headers_len;
    bool right = !rx->csum_partial || has_pseudo_sum(frame, rx);
    struct turbotap_gso gso;
    uint8_t *segment;

    turbotap_gso_init(&gso, frame, rx);
    segment = malloc(turbotap_gso_max_len(&gso));
    do {
        uint64_t bytes = turbotap_gso_left_bytes(&gso);
        uint32_t len = turbotap_gso_next(&gso, segment);
        uint32_t payload = len - headers_len;
        struct turbotap_frame at;

        check(len <= turbotap_gso_max_len(&gso));
        check(turbotap_gso_left_bytes(&gso) == bytes - len);
        check(payload == (left < rx->seg_size ? left : rx->seg_size));
        check(turbotap_frame_parse(segment, len, &at));
        check(at.l4_ofs == rx->at.l4_ofs && at.end == len);
        check(turbotap_frame_payload(segment, &at) == headers_len);
        check(!right || at.routing || csum_is_good(segment, &at));
        check(at.ipv6 || sum(0, segment + at.l3_ofs, at.l4_ofs - at.l3_ofs)
                         == 0xffff);
        check(!memcmp(segment + headers_len, frame + rx->at.end - left,
                      payload));
        left -= payload;
    } while (turbotap_gso_left(&gso));
    check(!left);
    free(segment);
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
        check(!rx.seg_size || rx.at.proto == IPPROTO_TCP
              || rx.at.proto == IPPROTO_UDP);
        check(!rx.seg_size || rx.csum_partial || rx.csum_good);
        if (rx.csum_partial) {
            check(rx.csum_start >= ETH_HLEN
                  && rx.csum_start + rx.csum_offset + 2 <= frame_size);
        }
        if (rx.seg_size) {
            cut(frame, &rx);
        }
        if (rx.at.proto) {
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
