/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Fuzzes turbotap-gro.h.  An input is a list of packets, each behind two
 * octets with its length.  If its first octet is odd, which is not a part of
 * them, checksums are made right.  Besides staying in bounds, which the
 * sanitizers watch, each packet must be in one frame, and what was merged must
 * be cut into the very same packets. */

#include <config.h>

#include "fuzz.h"
#include "turbotap-csum.h"
#include "turbotap-gro.h"
#include "turbotap-gso.h"

#include <stdlib.h>
#include <string.h>

/* Aborts unless 'condition' holds. */
static void
check(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* Makes the checksums of the 'size' octets at 'frame' right, if there are
 * any. */
static void
repair(uint8_t *frame, uint32_t size)
{
    struct turbotap_frame at;
    uint8_t *csump;
    uint32_t len;
    uint16_t csum;

    if (size < TURBOTAP_ETH_HLEN || !turbotap_frame_parse(frame, size, &at)
        || !turbotap_frame_payload(frame, &at)) {
        return;
    }
    turbotap_frame_set_end(frame, &at, at.end);
    len = at.end - at.l4_ofs;
    csump = frame + at.l4_ofs + turbotap_frame_csum_offset(at.proto);
    memset(csump, 0, sizeof csum);
    csum = ~turbotap_csum_fold(
        turbotap_csum_add(turbotap_frame_pseudo_sum(frame, &at, len),
                          frame + at.l4_ofs, len));
    memcpy(csump, &csum, sizeof csum);
}

/* Cuts 'frame' of 'gro', merged of 'packets'. */
static void
cut(const struct turbotap_gro *gro, const struct turbotap_gro_frame *frame,
    const struct turbotap_gro_packet *packets)
{
    uint8_t *merged = malloc(frame->size);
    unsigned int packet = frame->first;
    struct turbotap_vnet_rx rx;
    struct turbotap_gso gso;
    uint8_t *segment;
    uint32_t size = 0;

    for (unsigned int i = 0; i < frame->n_iov; i++) {
        check(size + frame->iov[i].iov_len <= frame->size);
        memcpy(merged + size, frame->iov[i].iov_base, frame->iov[i].iov_len);
        size += frame->iov[i].iov_len;
    }
    check(size == frame->size);
    check(!turbotap_vnet_parse(merged, merged + TURBOTAP_VNET_HDR_LEN,
                               size - TURBOTAP_VNET_HDR_LEN, &rx));
    check(rx.seg_size);
    turbotap_gso_init(&gso, merged + TURBOTAP_VNET_HDR_LEN, &rx);
    check(turbotap_gso_left(&gso) == frame->n_packets);
    segment = malloc(turbotap_gso_max_len(&gso));
    while (turbotap_gso_left(&gso)) {
        uint32_t len = turbotap_gso_next(&gso, segment);

        check(len == packets[packet].size);
        check(!memcmp(segment, packets[packet].data, len));
        packet = turbotap_gro_next(gro, packet);
    }
    free(segment);
    free(merged);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct turbotap_gro_packet packets[TURBOTAP_GRO_MAX] = { { .size = 0 } };
    uint8_t *copies[TURBOTAP_GRO_MAX];
    bool seen[TURBOTAP_GRO_MAX] = { false };
    bool repairing = size && data[0] & 1;
    struct turbotap_gro gro;
    unsigned int n = 0;

    if (size) {
        data++;
        size--;
    }
    while (n < TURBOTAP_GRO_MAX && size >= 2) {
        size_t len = data[0] << 8 | data[1];

        data += 2;
        size -= 2;
        len = len < size ? len : size;
        copies[n] = malloc(len);
        memcpy(copies[n], data, len);
        if (repairing) {
            repair(copies[n], len);
        }
        packets[n] = (struct turbotap_gro_packet) {
            .data = copies[n], .size = len, .complete = true
        };
        n++;
        data += len;
        size -= len;
    }

    turbotap_gro_merge(&gro, packets, n, TURBOTAP_GRO_TCP | TURBOTAP_GRO_UDP);
    for (unsigned int i = 0; i < gro.n_frames; i++) {
        const struct turbotap_gro_frame *frame = &gro.frames[i];
        unsigned int packet = frame->first;

        for (unsigned int left = frame->n_packets; left; left--) {
            check(packet < n && !seen[packet]);
            seen[packet] = true;
            if (left > 1) {
                packet = turbotap_gro_next(&gro, packet);
            }
        }
        if (frame->n_packets > 1) {
            cut(&gro, frame, packets);
        }
    }
    for (unsigned int i = 0; i < n; i++) {
        check(seen[i]);
        free(copies[i]);
    }
    return 0;
}
