/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The frames of the benchmark: what turbotap-gen writes and turbotap-sink
 * checks.
 *
 * Each is a real UDP/IPv4 frame with correct checksums, from 198.18.0.1 to
 * 198.18.0.2 (the addresses that RFC 2544 sets aside for benchmarks), to port
 * 9 (discard).  The source port tells the flows apart.  The payload is a
 * struct bench_payload and then a pattern that depends on the flow and the
 * place only.  Must not know sockets or devices. */

#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H 1

#include <arpa/inet.h>
#include <endian.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_SRC_IP 0xc6120001U        /* 198.18.0.1 */
#define BENCH_DST_IP 0xc6120002U        /* 198.18.0.2 */
#define BENCH_DST_PORT 9
#define BENCH_FIRST_PORT 1024           /* Source port of flow 0. */
#define BENCH_MAX_FLOWS 32768

struct bench_payload {
    uint32_t run;               /* Which run it is, so that a late frame of
                                 * another one is not taken for ours. */
    uint32_t flow;
    uint64_t seq;               /* Counts from 0 in each flow. */
} __attribute__((packed));      /* All in network byte order. */

struct bench_headers {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
    struct bench_payload payload;
} __attribute__((packed));

/* Frame sizes in octets, from the Ethernet header on, without FCS. */
#define BENCH_MIN_SIZE sizeof(struct bench_headers)
#define BENCH_MAX_SIZE 1514

/* Returns the octet of the pattern of 'flow' at offset 'i' of the frame. */
static inline uint8_t
bench_pattern(uint32_t flow, size_t i)
{
    return flow * 31 + i * 7 + 5;
}

/* Adds the 'n' octets at 'data' to the one's complement sum 'sum'. */
static inline uint64_t
bench_sum(const void *data, size_t n, uint64_t sum)
{
    const uint8_t *p = data;
    uint32_t word;

    for (; n >= sizeof word; n -= sizeof word, p += sizeof word) {
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

/* Returns the Internet checksum (RFC 1071) that 'sum' comes to, in network
 * byte order. */
static inline uint16_t
bench_fold(uint64_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum;
}

/* Returns the sum of UDP's pseudo header of 'h'. */
static inline uint64_t
bench_pseudo_sum(const struct bench_headers *h)
{
    return bench_sum(&h->ip.saddr, 8, 0) + htons(h->ip.protocol) + h->udp.len;
}

#endif /* bench-frame.h */
