/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Packets for the tests of cutting and merging, made and checked with the
 * plainest code, none of it lib/'s. */

#ifndef PACKET_H
#define PACKET_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any packet, in octets. */
#define PACKET_MAX 66000

/* What a packet is made of. */
struct packet_recipe {
    bool ipv6;
    bool udp;                   /* Else TCP. */
    uint8_t n_vlans;
    uint8_t ip_options;         /* Of IPv4, in octets, a multiple of 4. */
    uint8_t ext_hdr;            /* Of IPv6, of this type, 8 octets; 0: none. */
    uint8_t tcp_options;        /* In octets, a multiple of 4. */
    uint8_t flags;              /* Of TCP. */
    uint8_t flow;               /* Addresses and ports follow from it. */
    uint16_t id;                /* Of IPv4. */
    uint32_t seq;               /* Of TCP. */
    uint32_t payload;           /* In octets. */
    uint8_t seed;               /* The payload follows from it. */
};

struct packet {
    uint32_t size;
    uint32_t l3, l4, data;      /* Where the headers and the payload are. */
    uint8_t octets[PACKET_MAX];
};

/* Makes '*packet' with all its checksums. */
void packet_make(struct packet *packet, const struct packet_recipe *);

/* Writes all the checksums of '*packet'. */
void packet_finish(struct packet *packet, const struct packet_recipe *);

/* Returns the folded sum of 's' and the 'n' octets at 'p', in their order. */
uint32_t packet_sum(uint32_t s, const uint8_t *p, size_t n);

/* Returns the folded sum of the pseudo header of '*packet'. */
uint32_t packet_pseudo_sum(const struct packet *packet,
                           const struct packet_recipe *);

#endif /* packet.h */
