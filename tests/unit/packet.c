/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

#include <config.h>

#include "packet.h"

#include <string.h>

static void
put16(uint8_t *p, uint32_t x)
{
    p[0] = x >> 8;
    p[1] = x;
}

static void
put32(uint8_t *p, uint32_t x)
{
    put16(p, x >> 16);
    put16(p + 2, x);
}

uint32_t
packet_sum(uint32_t s, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s += i % 2 ? p[i] : p[i] << 8;
        s = (s & 0xffff) + (s >> 16);
    }
    return s;
}

uint32_t
packet_pseudo_sum(const struct packet *packet, const struct packet_recipe *r)
{
    const uint8_t *ip = packet->octets + packet->l3;
    uint32_t s = r->ipv6 ? packet_sum(0, ip + 8, 32)
                         : packet_sum(0, ip + 12, 8);

    s += (r->udp ? 17 : 6) + (packet->size - packet->l4);
    return (s & 0xffff) + (s >> 16);
}

void
packet_finish(struct packet *packet, const struct packet_recipe *r)
{
    uint8_t *ip = packet->octets + packet->l3;
    uint8_t *l4 = packet->octets + packet->l4;
    uint8_t *csum = l4 + (r->udp ? 6 : 16);
    uint32_t x;

    if (!r->ipv6) {
        put16(ip + 10, 0);
        put16(ip + 10, ~packet_sum(0, ip, packet->l4 - packet->l3));
    }
    put16(csum, 0);
    x = 0xffff & ~packet_sum(packet_pseudo_sum(packet, r), l4,
                             packet->size - packet->l4);
    put16(csum, !x && r->udp ? 0xffff : x);
}

void
packet_make(struct packet *packet, const struct packet_recipe *r)
{
    uint8_t *p = packet->octets;
    uint32_t ip_payload;
    uint8_t *ip, *l4;

    memset(p, 0, 14);
    p[0] = p[6] = 2;
    p[11] = 0xff;
    p[5] = r->flow;
    p += 12;
    for (int i = 0; i < r->n_vlans; i++) {
        put16(p, i + 1 < r->n_vlans ? 0x88a8 : 0x8100);
        put16(p + 2, 5 + i);
        p += 4;
    }
    put16(p, r->ipv6 ? 0x86dd : 0x0800);
    ip = p + 2;
    packet->l3 = ip - packet->octets;
    packet->l4 = packet->l3 + (r->ipv6 ? 40 + (r->ext_hdr ? 8 : 0)
                                       : 20 + r->ip_options);
    packet->data = packet->l4 + (r->udp ? 8 : 20 + r->tcp_options);
    packet->size = packet->data + r->payload;
    ip_payload = packet->size - packet->l3 - (r->ipv6 ? 40 : 0);

    memset(ip, 0, packet->data - packet->l3);
    if (r->ipv6) {
        ip[0] = 0x60;
        put16(ip + 4, ip_payload);
        ip[6] = r->ext_hdr ? r->ext_hdr : r->udp ? 17 : 6;
        ip[7] = 64;
        ip[8] = ip[24] = 0xfd;
        ip[23] = 1;
        ip[39] = 2 + r->flow;
        ip[40] = r->udp ? 17 : 6;
    } else {
        ip[0] = 0x45 + r->ip_options / 4;
        put16(ip + 2, ip_payload);
        put16(ip + 4, r->id);
        put16(ip + 6, 0x4000);
        ip[8] = 64;
        ip[9] = r->udp ? 17 : 6;
        put32(ip + 12, 0x0a010101);
        put32(ip + 16, 0x0a010102 + r->flow);
        memset(ip + 20, 1, r->ip_options);
    }

    l4 = packet->octets + packet->l4;
    put16(l4, 1000 + r->flow);
    put16(l4 + 2, 80);
    if (r->udp) {
        put16(l4 + 4, 8 + r->payload);
    } else {
        put32(l4 + 4, r->seq);
        put32(l4 + 8, 0x12345678);
        l4[12] = (20 + r->tcp_options) / 4 << 4;
        l4[13] = r->flags;
        put16(l4 + 14, 500);
        memset(l4 + 20, 1, r->tcp_options);
    }
    for (uint32_t i = 0; i < r->payload; i++) {
        packet->octets[packet->data + i] = r->seed + i * 7 + (i >> 8);
    }
    packet_finish(packet, r);
}
