/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Generic segmentation offload: cuts a large TCP segment or UDP datagram into
 * the packets that it stands for, as the host's own stack would have.  Each of
 * them is complete, with all lengths and checksums.
 *
 * The segments are made one by one, each when it is asked for, so that whoever
 * has no room for all of them at once can come back later.
 *
 * Octets in, octets out: nothing is allocated, and nothing looked at outside
 * of what is given.  It must not know devices, queues, or Open vSwitch. */

#ifndef TURBOTAP_GSO_H
#define TURBOTAP_GSO_H 1

#include <stdint.h>

#include "turbotap-frame.h"

struct turbotap_vnet_rx;

/* A frame that is being cut. */
struct turbotap_gso {
    const uint8_t *frame;       /* The caller's. */
    struct turbotap_frame at;
    uint32_t headers_len;       /* Of each segment, in octets. */
    uint32_t seg_size;          /* Payload of each but the last, in octets. */
    uint32_t n_segs;            /* There are in all. */
    uint32_t n_done;            /* Of them were made. */
    uint64_t pseudo_sum;        /* Of the pseudo header, with a length of 0. */
};

/* Begins to cut 'frame', which stays as it is until the last segment was made,
 * and of which turbotap_vnet_parse() said '*rx', with a 'seg_size'. */
void turbotap_gso_init(struct turbotap_gso *, const void *frame,
                       const struct turbotap_vnet_rx *rx);

/* Returns how many segments are yet to be made. */
static inline uint32_t
turbotap_gso_left(const struct turbotap_gso *gso)
{
    return gso->n_segs - gso->n_done;
}

/* Returns how many octets those are, headers included. */
static inline uint64_t
turbotap_gso_left_bytes(const struct turbotap_gso *gso)
{
    uint32_t left = turbotap_gso_left(gso);
    uint32_t done = gso->headers_len + gso->n_done * gso->seg_size;

    return (left
            ? left * (uint64_t) gso->headers_len + (gso->at.end - done)
            : 0);
}

/* Returns the length in octets of the longest segment. */
static inline uint32_t
turbotap_gso_max_len(const struct turbotap_gso *gso)
{
    uint32_t payload = gso->at.end - gso->headers_len;

    return (gso->headers_len
            + (payload < gso->seg_size ? payload : gso->seg_size));
}

/* Writes the next segment, one that is yet to be made, to 'segment', and
 * returns its length in octets.  'segment' has room for
 * turbotap_gso_max_len(). */
uint32_t turbotap_gso_next(struct turbotap_gso *, void *segment);

#endif /* turbotap-gso.h */
