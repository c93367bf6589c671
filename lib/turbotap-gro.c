/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Merging packets.  First each packet either joins the train of an earlier one
 * or begins one of its own; then the trains of several packets become frames.
 *
 * What may be merged is as in Linux, net/ipv4/{af_inet,tcp_offload,
 * udp_offload}.c, with two differences.  An IPv4 identification must count up,
 * since cutting makes it do so.  And a train ends with its batch, so that no
 * packet ever waits for another. */

#include <config.h>

#include "turbotap-gro.h"

#include <netinet/in.h>
#include <string.h>

#include "turbotap-csum.h"

/* The longest IP packet, in octets. */
#define MAX_IP_LEN 65535

/* The slots for trains that may grow.  Twice as many as there can be flows in
 * a batch, so that few share one. */
#define SLOT_BITS 6
#define N_SLOTS (1 << SLOT_BITS)

#define NONE UINT8_MAX

/* What is known of a packet. */
struct segment {
    const uint8_t *data;
    struct turbotap_frame at;
    uint32_t payload_ofs;
    bool csum_good;             /* So are all its checksums. */

    /* Of the train, if it is the first of one. */
    unsigned int n;             /* Packets. */
    uint32_t payload;           /* Octets in all. */
    uint8_t last;               /* The index of the last packet. */
};

/* The state of a call. */
struct merger {
    struct turbotap_gro *gro;
    const struct turbotap_gro_packet *packets;
    struct segment segments[TURBOTAP_GRO_MAX];
    uint8_t slots[N_SLOTS];     /* By a hash of the flow: the index of the
                                 * packet that a train begins with that may
                                 * grow, or NONE. */
};

static uint32_t
payload_len(const struct segment *s)
{
    return s->at.end - s->payload_ofs;
}

/* Returns the slot for the flow of 's'.  Two that share one keep each other
 * from growing, but not from being right. */
static unsigned int
hash_flow(const struct segment *s)
{
    const uint8_t *ip = s->data + s->at.l3_ofs;
    uint32_t words[9];
    uint32_t hash = 0;
    int n;

    if (s->at.ipv6) {
        memcpy(words, &ip[TURBOTAP_IPV6_ADDRS], 2 * 16);
        n = 8;
    } else {
        memcpy(words, &ip[TURBOTAP_IPV4_ADDRS], 2 * 4);
        n = 2;
    }
    memcpy(&words[n++], s->data + s->at.l4_ofs, 4);     /* The ports. */
    while (n) {
        hash = (hash << 5 | hash >> 27) ^ words[--n];
    }
    return hash * 0x9e3779b1 >> (32 - SLOT_BITS);
}

/* Returns true if 's' can be a part of a train as far as it goes alone, but
 * for whether its checksums are right.  One that comes to 0 can be written as
 * 0xffff, too, but by cutting is not. */
static bool
is_mergeable(const struct segment *s)
{
    const uint8_t *l3 = s->data + s->at.l3_ofs;
    const uint8_t *l4 = s->data + s->at.l4_ofs;

    if (!s->payload_ofs || s->at.extended || !payload_len(s)
        || s->at.n_vlans > TURBOTAP_FRAME_MAX_VLANS
        || (!s->at.ipv6
            && turbotap_get_be16(&l3[TURBOTAP_IPV4_CSUM]) == 0xffff)) {
        return false;
    } else if (s->at.proto == IPPROTO_TCP) {
        return (!(~(TURBOTAP_TCP_FIN | TURBOTAP_TCP_PSH)
                  & (l4[TURBOTAP_TCP_FLAGS] ^ TURBOTAP_TCP_ACK))
                && !(l4[TURBOTAP_TCP_DATA_OFS] & 0xf)
                && turbotap_get_be16(&l4[TURBOTAP_TCP_CSUM]) != 0xffff);
    } else {
        return turbotap_get_be16(&l4[TURBOTAP_UDP_LEN])
               == s->at.end - s->at.l4_ofs
               && turbotap_get_be16(&l4[TURBOTAP_UDP_CSUM]);
    }
}

/* Returns true if a train ends with 's'. */
static bool
is_last(const struct segment *s)
{
    return s->at.proto == IPPROTO_TCP
           && (s->data[s->at.l4_ofs + TURBOTAP_TCP_FLAGS]
               & (TURBOTAP_TCP_FIN | TURBOTAP_TCP_PSH));
}

/* Returns true if all the checksums of 's' are right. */
static bool
verify(struct segment *s)
{
    uint32_t l4_len = s->at.end - s->at.l4_ofs;
    uint64_t sum;

    if (!s->at.ipv6
        && turbotap_csum_fold(turbotap_csum_add(0, s->data + s->at.l3_ofs,
                                                TURBOTAP_IPV4_MIN_HLEN))
           != 0xffff) {
        return false;
    }
    if (!s->csum_good) {
        sum = turbotap_frame_pseudo_sum(s->data, &s->at, l4_len);
        sum = turbotap_csum_add(sum, s->data + s->at.l4_ofs, l4_len);
        s->csum_good = turbotap_csum_fold(sum) == 0xffff;
    }
    return s->csum_good;
}

/* Returns true if the headers of 's' follow those of the 'n' packets that
 * begin with 'first', which has the same VLAN tags and IP version. */
static bool
headers_follow(const struct segment *first, const struct segment *s,
               unsigned int n)
{
    const uint8_t *a = first->data + first->at.l3_ofs;
    const uint8_t *b = s->data + s->at.l3_ofs;

    if (first->at.ipv6) {
        if (memcmp(a, b, TURBOTAP_IPV6_LEN)
            || memcmp(a + 6, b + 6, TURBOTAP_IPV6_HLEN - 6)) {
            return false;
        }
    } else if (memcmp(a, b, TURBOTAP_IPV4_LEN)
               || memcmp(a + TURBOTAP_IPV4_FRAG, b + TURBOTAP_IPV4_FRAG, 4)
               || memcmp(a + TURBOTAP_IPV4_ADDRS, b + TURBOTAP_IPV4_ADDRS, 8)
               || (uint16_t) (turbotap_get_be16(&a[TURBOTAP_IPV4_ID]) + n)
                  != turbotap_get_be16(&b[TURBOTAP_IPV4_ID])) {
        return false;
    }

    a = first->data + first->at.l4_ofs;
    b = s->data + s->at.l4_ofs;
    if (memcmp(a, b, 4)) {      /* The ports. */
        return false;
    } else if (first->at.proto == IPPROTO_UDP) {
        return true;
    }
    return (turbotap_get_be32(&a[TURBOTAP_TCP_SEQ]) + first->payload
            == turbotap_get_be32(&b[TURBOTAP_TCP_SEQ])
            && !memcmp(a + 8, b + 8, 5)         /* Acknowledgment, length. */
            && !memcmp(a + 14, b + 14, 2)       /* Window. */
            && !memcmp(a + 18, b + 18,          /* Urgent pointer, options. */
                       first->payload_ofs - first->at.l4_ofs - 18));
}

/* Returns true if 's' can join the train that begins with 'first'. */
static bool
can_join(struct segment *first, struct segment *s)
{
    return (first->at.proto == s->at.proto
            && first->at.ipv6 == s->at.ipv6
            && first->payload_ofs == s->payload_ofs
            && first->at.l4_ofs == s->at.l4_ofs
            && payload_len(s) <= payload_len(first)
            && (first->payload_ofs - first->at.l3_ofs + first->payload
                + payload_len(s) <= MAX_IP_LEN)
            && !memcmp(first->data, s->data, first->at.l3_ofs)
            && headers_follow(first, s, first->n)
            && (first->n > 1 || verify(first))
            && verify(s));
}

/* Adds packet 'i' to the train that begins with packet 'first'. */
static void
join(struct merger *m, unsigned int first, unsigned int i)
{
    struct segment *head = &m->segments[first];

    m->gro->next[head->last] = i;
    head->last = i;
    head->n++;
    head->payload += payload_len(&m->segments[i]);
}

/* Makes packet 'i' the first of a train. */
static void
begin(struct merger *m, unsigned int i)
{
    struct turbotap_gro_frame *frame = &m->gro->frames[m->gro->n_frames++];

    frame->first = i;
    m->segments[i].n = 1;
    m->segments[i].last = i;
    m->segments[i].payload = payload_len(&m->segments[i]);
}

/* Puts packet 'i' where it belongs. */
static void
sort_packet(struct merger *m, unsigned int i, unsigned int kinds)
{
    const struct turbotap_gro_packet *packet = &m->packets[i];
    struct segment *s = &m->segments[i];
    unsigned int slot;
    bool mergeable;
    uint8_t first;

    s->data = packet->data;
    s->csum_good = packet->csum_good;
    s->payload_ofs = 0;
    if (packet->size < TURBOTAP_ETH_HLEN
        || !turbotap_frame_parse(s->data, packet->size, &s->at)
        || (s->at.proto != IPPROTO_TCP && s->at.proto != IPPROTO_UDP)
        || s->at.l4_ofs + 4 > s->at.end) {
        /* It may be of any flow, a fragment say, and must stay between what
         * is before it and what is behind. */
        memset(m->slots, NONE, sizeof m->slots);
        begin(m, i);
        return;
    }

    s->payload_ofs = turbotap_frame_payload(s->data, &s->at);
    if (packet->csum_start && packet->csum_start == s->at.l4_ofs) {
        s->csum_good = true;
    }
    mergeable = (packet->complete
                 && (!packet->csum_start
                     || packet->csum_start == s->at.l4_ofs)
                 && packet->size == s->at.end
                 && kinds & (s->at.proto == IPPROTO_TCP ? TURBOTAP_GRO_TCP
                                                        : TURBOTAP_GRO_UDP)
                 && is_mergeable(s));
    slot = hash_flow(s);
    first = m->slots[slot];
    if (mergeable && first != NONE && can_join(&m->segments[first], s)) {
        join(m, first, i);
        if (is_last(s) || payload_len(s) < payload_len(&m->segments[first])) {
            m->slots[slot] = NONE;
        }
    } else {
        begin(m, i);
        m->slots[slot] = mergeable && !is_last(s) ? i : NONE;
    }
}

/* Makes 'frame', a train of several packets, with the headers at 'headers',
 * point to its pieces from 'iov' on.  Returns the first iovec that it left. */
static struct iovec *
build_frame(const struct merger *m, struct turbotap_gro_frame *frame,
            uint8_t *headers, struct iovec *iov)
{
    const struct segment *first = &m->segments[frame->first];
    const struct segment *last = &m->segments[first->last];
    uint8_t *eth = headers + TURBOTAP_VNET_HDR_LEN;
    struct turbotap_frame at = first->at;
    unsigned int i = frame->first;

    at.end = first->payload_ofs + first->payload;
    memcpy(eth, first->data, first->payload_ofs);
    turbotap_frame_set_end(eth, &at, at.end);
    if (at.proto == IPPROTO_TCP) {
        frame->kind = TURBOTAP_GRO_TCP;
        eth[at.l4_ofs + TURBOTAP_TCP_FLAGS]
            = last->data[at.l4_ofs + TURBOTAP_TCP_FLAGS];
    } else {
        frame->kind = TURBOTAP_GRO_UDP;
        turbotap_put_be16(&eth[at.l4_ofs + TURBOTAP_UDP_LEN],
                          at.end - at.l4_ofs);
    }
    turbotap_vnet_write_partial(headers, eth, &at, first->payload_ofs,
                                payload_len(first));

    frame->size = TURBOTAP_VNET_HDR_LEN + at.end;
    frame->n_iov = 1 + first->n;
    frame->iov = iov;
    iov->iov_base = headers;
    iov++->iov_len = TURBOTAP_VNET_HDR_LEN + first->payload_ofs;
    for (unsigned int left = first->n; left; left--) {
        const struct segment *s = &m->segments[i];

        iov->iov_base = (uint8_t *) s->data + s->payload_ofs;
        iov++->iov_len = payload_len(s);
        i = m->gro->next[i];
    }
    return iov;
}

void
turbotap_gro_merge(struct turbotap_gro *gro,
                   const struct turbotap_gro_packet *packets, unsigned int n,
                   unsigned int kinds)
{
    struct iovec *iov = gro->iovs;
    unsigned int n_headers = 0;
    struct merger m;

    m.gro = gro;
    m.packets = packets;
    memset(m.slots, NONE, sizeof m.slots);
    gro->n_frames = 0;
    for (unsigned int i = 0; i < n; i++) {
        sort_packet(&m, i, kinds);
    }

    for (unsigned int i = 0; i < gro->n_frames; i++) {
        struct turbotap_gro_frame *frame = &gro->frames[i];

        frame->n_packets = m.segments[frame->first].n;
        if (frame->n_packets > 1) {
            iov = build_frame(&m, frame, gro->headers[n_headers++], iov);
        }
    }
}
