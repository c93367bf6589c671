/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Cutting frames.  What differs between the segments of one frame is as in
 * Linux: net/ipv4/tcp_offload.c, tcp_gso_segment(), net/ipv4/udp_offload.c,
 * __udp_gso_segment(), and net/ipv4/af_inet.c, inet_gso_segment(). */

#include <config.h>

#include "turbotap-gso.h"

#include <netinet/in.h>
#include <string.h>

#include "turbotap-csum.h"
#include "turbotap-vnet.h"

void
turbotap_gso_init(struct turbotap_gso *gso, const void *frame,
                  const struct turbotap_vnet_rx *rx)
{
    uint32_t payload;

    gso->frame = frame;
    gso->at = rx->at;
    gso->headers_len = turbotap_frame_payload(frame, &rx->at);
    gso->seg_size = rx->seg_size;
    payload = gso->at.end - gso->headers_len;
    gso->n_segs = payload ? (payload - 1) / gso->seg_size + 1 : 1;
    gso->n_done = 0;

    if (!rx->csum_partial) {
        gso->pseudo_sum = turbotap_frame_pseudo_sum(frame, &gso->at, 0);
    } else {
        /* It is in the checksum, with the length of the whole.  That counts,
         * whatever the addresses are, as in Linux. */
        uint16_t sum;

        memcpy(&sum, gso->frame + rx->csum_start + rx->csum_offset,
               sizeof sum);
        gso->pseudo_sum = turbotap_csum_add16(sum, ~(gso->at.end
                                                     - gso->at.l4_ofs));
    }
}

/* Makes the TCP header at 'tcp', a copy of that of the whole, be that of the
 * next segment of 'gso'. */
static void
set_tcp_header(const struct turbotap_gso *gso, uint8_t *tcp)
{
    uint32_t seq = turbotap_get_be32(&tcp[TURBOTAP_TCP_SEQ]);

    turbotap_put_be32(&tcp[TURBOTAP_TCP_SEQ],
                      seq + gso->n_done * gso->seg_size);
    if (gso->n_done) {
        tcp[TURBOTAP_TCP_FLAGS] &= ~TURBOTAP_TCP_CWR;
    }
    if (gso->n_done < gso->n_segs - 1) {
        tcp[TURBOTAP_TCP_FLAGS] &= ~(TURBOTAP_TCP_FIN | TURBOTAP_TCP_PSH);
    }
}

uint32_t
turbotap_gso_next(struct turbotap_gso *gso, void *segment_)
{
    const struct turbotap_frame *at = &gso->at;
    uint32_t ofs = gso->headers_len + gso->n_done * gso->seg_size;
    uint32_t payload = at->end - ofs;
    uint8_t *segment = segment_;
    uint8_t *l3 = segment + at->l3_ofs;
    uint8_t *l4 = segment + at->l4_ofs;
    uint32_t len, l4_len;
    uint16_t csum;
    uint8_t *csump = l4 + turbotap_frame_csum_offset(at->proto);

    if (payload > gso->seg_size) {
        payload = gso->seg_size;
    }
    len = gso->headers_len + payload;
    l4_len = len - at->l4_ofs;
    memcpy(segment, gso->frame, gso->headers_len);
    memcpy(segment + gso->headers_len, gso->frame + ofs, payload);

    if (!at->ipv6) {
        uint8_t *id = &l3[TURBOTAP_IPV4_ID];

        turbotap_put_be16(id, turbotap_get_be16(id) + gso->n_done);
    }
    turbotap_frame_set_end(segment, at, len);
    if (at->proto == IPPROTO_TCP) {
        set_tcp_header(gso, l4);
    } else {
        turbotap_put_be16(&l4[TURBOTAP_UDP_LEN], l4_len);
    }

    memset(csump, 0, sizeof csum);
    csum = ~turbotap_csum_fold(
        turbotap_csum_add(turbotap_csum_add16(gso->pseudo_sum, l4_len),
                          l4, l4_len));
    if (!csum && at->proto == IPPROTO_UDP) {
        csum = 0xffff;          /* 0 would be none (RFC 768). */
    }
    memcpy(csump, &csum, sizeof csum);

    gso->n_done++;
    return len;
}
