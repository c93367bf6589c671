/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-gro.h: what is merged, what is not, and that cutting what
 * was merged gives the very same packets. */

#include <config.h>

#include "turbotap-gro.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "packet.h"
#include "turbotap-gso.h"

enum { FIN = 0x01, SYN = 0x02, RST = 0x04, PSH = 0x08, ACK = 0x10, URG = 0x20,
       ECE = 0x40, CWR = 0x80 };
enum { ALL = TURBOTAP_GRO_TCP | TURBOTAP_GRO_UDP };
enum { N = TURBOTAP_GRO_MAX };

static struct packet packets[N], before[N];
static struct turbotap_gro_packet in[N];
static struct turbotap_gro gro;
static uint8_t merged[TURBOTAP_VNET_HDR_LEN + TURBOTAP_FRAME_MAX];

/* Makes packet 'i' of 'r'. */
static void
put(unsigned int i, const struct packet_recipe *r)
{
    packet_make(&packets[i], r);
    in[i] = (struct turbotap_gro_packet) {
        .data = packets[i].octets, .size = packets[i].size, .complete = true
    };
}

/* Makes the 'n' packets that follow from 'r', one after the other. */
static void
put_train(const struct packet_recipe *r, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        struct packet_recipe part = *r;

        part.id += i;
        part.seq += i * r->payload;
        part.seed += i;
        put(i, &part);
    }
}

/* Copies 'frame', of several packets, to 'merged'. */
static void
gather(const struct turbotap_gro_frame *frame)
{
    uint32_t size = 0;

    for (unsigned int i = 0; i < frame->n_iov; i++) {
        memcpy(merged + size, frame->iov[i].iov_base, frame->iov[i].iov_len);
        size += frame->iov[i].iov_len;
    }
    assert_int_equal(size, frame->size);
}

/* Cuts 'frame', of several packets, and checks that these are what comes
 * out. */
static void
check_frame(const struct turbotap_gro_frame *frame)
{
    static uint8_t segment[PACKET_MAX];
    unsigned int packet = frame->first;
    struct turbotap_vnet_rx rx;
    struct turbotap_gso gso;
    uint64_t bytes = 0;

    gather(frame);
    assert_int_equal(turbotap_vnet_parse(merged,
                                         merged + TURBOTAP_VNET_HDR_LEN,
                                         frame->size - TURBOTAP_VNET_HDR_LEN,
                                         &rx), 0);
    assert_true(rx.csum_partial);
    assert_int_equal(rx.at.end, frame->size - TURBOTAP_VNET_HDR_LEN);
    turbotap_gso_init(&gso, merged + TURBOTAP_VNET_HDR_LEN, &rx);
    assert_int_equal(turbotap_gso_left(&gso), frame->n_packets);
    while (turbotap_gso_left(&gso)) {
        uint32_t len = turbotap_gso_next(&gso, segment);

        assert_int_equal(len, packets[packet].size);
        assert_memory_equal(segment, packets[packet].octets, len);
        bytes += len;
        packet = turbotap_gro_next(&gro, packet);
    }
    assert_int_equal(turbotap_gro_bytes(frame), bytes);
}

/* Merges 'n' packets and checks all that must always hold: each packet is in
 * one frame, packets of a flow come out in order, nothing was written to, and
 * what was merged can be cut again.  Returns the number of frames. */
static unsigned int
merge(unsigned int n, unsigned int kinds)
{
    bool seen[N] = { false };
    int last_of_flow[256];

    memset(last_of_flow, -1, sizeof last_of_flow);
    for (unsigned int i = 0; i < n; i++) {
        memcpy(&before[i], &packets[i], sizeof before[i]);
    }
    turbotap_gro_merge(&gro, in, n, kinds);
    for (unsigned int i = 0; i < n; i++) {
        assert_memory_equal(before[i].octets, packets[i].octets,
                            packets[i].size);
    }

    for (unsigned int i = 0; i < gro.n_frames; i++) {
        const struct turbotap_gro_frame *frame = &gro.frames[i];
        unsigned int packet = frame->first;

        if (frame->n_packets > 1) {
            check_frame(frame);
        }
        for (unsigned int j = 0; j < frame->n_packets; j++) {
            uint8_t flow = packets[packet].octets[5];

            assert_true(packet < n);
            assert_false(seen[packet]);
            seen[packet] = true;
            assert_true(last_of_flow[flow] < (int) packet);
            last_of_flow[flow] = packet;
            if (j + 1 < frame->n_packets) {
                packet = turbotap_gro_next(&gro, packet);
            }
        }
    }
    for (unsigned int i = 0; i < n; i++) {
        assert_true(seen[i]);
    }
    return gro.n_frames;
}

static const struct packet_recipe recipes[] = {
    { .flags = ACK, .payload = 1448, .tcp_options = 12, .id = 0xfff0,
      .seq = 0xfffff000 },
    { .flags = ACK, .payload = 1428, .tcp_options = 12, .ipv6 = true },
    { .udp = true, .payload = 1200 },
    { .udp = true, .payload = 1200, .ipv6 = true },
    { .flags = ACK, .payload = 1, .n_vlans = 1 },
    { .udp = true, .payload = 1, .n_vlans = 2, .ipv6 = true },
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

static void
test_merge(void **state)
{
    (void) state;
    for (int i = 0; i < N_RECIPES; i++) {
        unsigned int kind = recipes[i].udp ? TURBOTAP_GRO_UDP
                                           : TURBOTAP_GRO_TCP;

        for (unsigned int n = 2; n <= N; n++) {
            put_train(&recipes[i], n);
            assert_int_equal(merge(n, kind), 1);
            assert_int_equal(gro.frames[0].n_packets, n);
            assert_int_equal(gro.frames[0].kind, kind);
        }
        assert_int_equal(merge(N, ALL & ~kind), N);
        assert_int_equal(merge(0, ALL), 0);
        assert_int_equal(merge(1, ALL), 1);
    }
}

/* Any octet of the headers that differs keeps packets apart, though their
 * checksums are right. */
static void
test_headers_differ(void **state)
{
    (void) state;
    for (int i = 0; i < N_RECIPES; i++) {
        const struct packet_recipe *r = &recipes[i];

        put_train(r, 2);
        for (uint32_t ofs = 0; ofs < packets[1].data; ofs++) {
            for (int bit = 0; bit < 8; bit++) {
                put_train(r, 2);
                packets[1].octets[ofs] ^= 1 << bit;
                if (ofs >= packets[1].l4 && ofs < packets[1].l4 + 2) {
                    /* Another flow: order does not matter. */
                    packets[1].octets[5] ^= 0x80;
                    packets[0].octets[5] = packets[1].octets[5];
                }
                packet_finish(&packets[1], r);
                if (merge(2, ALL) != 2) {
                    /* Only the checksums, which were written anew, and FIN and
                     * PSH do not count. */
                    uint32_t l4 = ofs - packets[1].l4;
                    uint32_t l3 = ofs - packets[1].l3;
                    bool csum = (r->udp ? l4 / 2 == 3 : l4 / 2 == 8)
                                || (!r->ipv6 && l3 / 2 == 5);
                    bool end = !r->udp && l4 == 13 && (bit == 0 || bit == 3);

                    assert_true(csum || end);
                }
            }
        }
    }
}

/* A wrong checksum is not healed, wherever in a train it is. */
static void
test_corrupt(void **state)
{
    (void) state;
    for (int i = 0; i < N_RECIPES; i++) {
        for (unsigned int bad = 0; bad < 5; bad++) {
            const struct packet_recipe *r = &recipes[i];

            put_train(r, 5);
            packets[bad].octets[packets[bad].size - 1] ^= 4;
            merge(5, ALL);
            for (unsigned int j = 0; j < gro.n_frames; j++) {
                assert_true(gro.frames[j].first != bad
                            || gro.frames[j].n_packets == 1);
            }
            assert_int_equal(gro.n_frames,
                             1 + (bad > 0) + (bad < 4));

            if (!r->ipv6) {
                put_train(r, 5);
                packets[bad].octets[packets[bad].l3 + 10] ^= 4;
                in[bad].csum_good = true;       /* Of TCP or UDP only. */
                merge(5, ALL);
                assert_int_equal(gro.n_frames, 1 + (bad > 0) + (bad < 4));
            }
        }
    }
}

/* One that is known to be good is not looked at. */
static void
test_csum_good(void **state)
{
    (void) state;
    put_train(&recipes[0], 3);
    for (int i = 0; i < 3; i++) {
        packets[i].octets[packets[i].size - 1] ^= 1;
        in[i].csum_good = true;
    }
    turbotap_gro_merge(&gro, in, 3, ALL);
    assert_int_equal(gro.n_frames, 1);
}

/* A checksum that is to be completed is not looked at either: the frame's is
 * to be completed, too.  That of a tunnel's inner header is another matter. */
static void
test_csum_partial(void **state)
{
    const struct packet_recipe udp = { .udp = true, .payload = 100 };

    (void) state;
    for (int i = 0; i < 2; i++) {
        const struct packet_recipe *r = i ? &udp : &recipes[0];

        put_train(r, 4);
        for (int j = 1; j < 3; j++) {
            packets[j].octets[packets[j].l4 + (i ? 6 : 16)] ^= 1;
            in[j].csum_start = packets[j].l4;
        }
        memcpy(before, packets, sizeof before);
        turbotap_gro_merge(&gro, in, 4, ALL);
        assert_int_equal(gro.n_frames, 1);
        assert_memory_equal(before, packets, sizeof before);

        in[1].csum_start += 50;
        turbotap_gro_merge(&gro, in, 4, ALL);
        assert_int_equal(gro.n_frames, 3);
    }
}

/* Packet 2 of 4 is special: it ends the train before it, or is the last of
 * it. */
static void
test_special(void **state)
{
    const struct packet_recipe tcp = { .flags = ACK, .payload = 100 };
    const struct packet_recipe udp = { .udp = true, .payload = 100 };
    static const struct {
        uint8_t flags;
        unsigned int n_frames;
    } rows[] = {
        { ACK, 1 }, { ACK | PSH, 2 }, { ACK | FIN, 2 }, { ACK | PSH | FIN, 2 },
        { ACK | SYN, 3 }, { ACK | RST, 3 }, { ACK | URG, 3 }, { ACK | ECE, 3 },
        { ACK | CWR, 3 }, { 0, 3 },
    };

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_train(&tcp, 5);
        packets[2].octets[packets[2].l4 + 13] = rows[i].flags;
        packet_finish(&packets[2], &tcp);
        assert_int_equal(merge(5, ALL), rows[i].n_frames);
    }

    /* Octets behind the IP packet. */
    put_train(&tcp, 5);
    in[2].size++;
    packets[2].size++;
    assert_int_equal(merge(5, ALL), 3);

    /* Something is left to be done to it. */
    put_train(&tcp, 5);
    in[2].complete = false;
    assert_int_equal(merge(5, ALL), 3);

    /* No UDP checksum. */
    put_train(&udp, 5);
    memset(&packets[2].octets[packets[2].l4 + 6], 0, 2);
    assert_int_equal(merge(5, ALL), 3);

    /* A fragment of the same flow stays where it is. */
    put_train(&udp, 5);
    packets[2].octets[packets[2].l3 + 6] = 0x20;
    packet_finish(&packets[2], &udp);
    assert_int_equal(merge(5, ALL), 3);
    assert_int_equal(gro.frames[0].n_packets, 2);
    assert_int_equal(gro.frames[1].first, 2);

    /* The same where nothing else would keep those behind it from joining
     * those before: IPv6 has no identification, and UDP no sequence. */
    put_train(&recipes[3], 5);
    packets[2].octets[packets[2].l3 + 6] = IPPROTO_FRAGMENT;
    assert_int_equal(merge(5, ALL), 3);
    assert_int_equal(gro.frames[0].n_packets, 2);
    assert_int_equal(gro.frames[1].first, 2);

    /* No frame at all. */
    put_train(&tcp, 5);
    in[2].size = packets[2].size = 13;
    assert_int_equal(merge(5, ALL), 3);
}

/* A checksum that comes to 0 may be written as 0xffff, too, but would not be
 * when the frame is cut. */
static void
test_two_zeros(void **state)
{
    const struct packet_recipe tcp = { .flags = ACK, .payload = 100 };
    struct packet_recipe ipv4 = { .udp = true, .payload = 100 };
    uint8_t *csum, *data;
    uint32_t sum;

    (void) state;
    put_train(&tcp, 2);
    csum = &packets[1].octets[packets[1].l4 + 16];
    data = &packets[1].octets[packets[1].data];
    sum = packet_sum(csum[0] << 8 | csum[1], data, 2);
    data[0] = sum >> 8;
    data[1] = sum;
    packet_finish(&packets[1], &tcp);
    assert_int_equal(csum[0] | csum[1], 0);
    assert_int_equal(merge(2, ALL), 1);
    csum[0] = csum[1] = 0xff;
    assert_int_equal(merge(2, ALL), 2);

    /* The same of the IPv4 header: of the second packet it comes to 0. */
    put_train(&ipv4, 1);
    csum = &packets[0].octets[packets[0].l3 + 10];
    ipv4.id = (csum[0] << 8 | csum[1]) - 1;
    put_train(&ipv4, 2);
    csum = &packets[1].octets[packets[1].l3 + 10];
    assert_int_equal(csum[0] | csum[1], 0);
    assert_int_equal(merge(2, ALL), 1);
    csum[0] = csum[1] = 0xff;
    assert_int_equal(merge(2, ALL), 2);
}

/* Header extensions are not merged. */
static void
test_extensions(void **state)
{
    static const struct packet_recipe rows[] = {
        { .flags = ACK, .payload = 100, .ip_options = 4 },
        { .udp = true, .payload = 100, .ip_options = 40 },
        { .flags = ACK, .payload = 100, .ipv6 = true,
          .ext_hdr = IPPROTO_DSTOPTS },
        { .udp = true, .payload = 100, .ipv6 = true,
          .ext_hdr = IPPROTO_ROUTING },
        { .flags = ACK, .payload = 100, .n_vlans = 3 },
        { .flags = ACK },               /* No payload: an acknowledgment. */
        { .udp = true },
    };

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_train(&rows[i], 4);
        assert_int_equal(merge(4, ALL), 4);
    }
}

/* All have the same size but the last, which may be smaller. */
static void
test_sizes(void **state)
{
    static const struct {
        uint32_t sizes[4];
        unsigned int n_frames;
    } rows[] = {
        { { 100, 100, 100, 100 }, 1 }, { { 100, 100, 100, 99 }, 1 },
        { { 100, 100, 1, 100 }, 2 }, { { 100, 101, 101, 101 }, 2 },
        { { 100, 99, 98, 97 }, 2 }, { { 97, 98, 99, 100 }, 4 },
    };

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int udp = 0; udp < 2; udp++) {
            uint32_t seq = 0;

            for (int j = 0; j < 4; j++) {
                put(j, &(struct packet_recipe) {
                           .udp = udp, .flags = ACK, .id = j, .seq = seq,
                           .payload = rows[i].sizes[j] });
                seq += rows[i].sizes[j];
            }
            assert_int_equal(merge(4, ALL), rows[i].n_frames);
        }
    }

    /* No longer than an IP packet can be. */
    put_train(&(struct packet_recipe) { .flags = ACK, .payload = 8960 }, 10);
    assert_int_equal(merge(10, ALL), 2);
    assert_int_equal(gro.frames[0].n_packets, 7);
    put_train(&(struct packet_recipe) { .udp = true, .payload = 65507 }, 2);
    assert_int_equal(merge(2, ALL), 2);
}

/* Random streams of some flows, with all that can be in them.  merge() checks
 * that they come out as they went in. */
static void
test_property(void **state)
{
    unsigned int seed = getenv("SEED") ? atoi(getenv("SEED")) : 20261127;
    unsigned long n_in = 0, n_out = 0;

    (void) state;
    printf("# SEED=%u\n", seed);
    srandom(seed);
    for (int round = 0; round < 3000; round++) {
        unsigned int n_flows = 1 + random() % (round % 3 ? 3 : N);
        unsigned int n = 1 + random() % N;
        struct packet_recipe flows[N];

        for (unsigned int i = 0; i < n_flows; i++) {
            flows[i] = recipes[random() % N_RECIPES];
            flows[i].flow = i;
            flows[i].payload = 1 + random() % 200;
            flows[i].id = random();
            flows[i].seq = random() << 8;
        }
        for (unsigned int i = 0; i < n; i++) {
            struct packet_recipe *flow = &flows[random() % n_flows];
            struct packet_recipe r = *flow;

            switch (random() % 24) {
            case 0:
                r.payload = random() % 200;
                break;
            case 1:
                r.flags |= 1 << random() % 8;
                break;
            case 2:
                r.id += random() % 3;
                break;
            case 3:
                r.seq += random() % 3;
                break;
            case 4:
                r.ip_options = r.ipv6 ? 0 : 4;
                break;
            }
            put(i, &r);
            in[i].csum_good = random() % 2;
            if (!(random() % 24)) {
                packets[i].octets[packets[i].size - 1] ^= 1 + random() % 255;
                in[i].csum_good = false;
            }
            flow->id = r.id + 1;
            flow->seq = r.seq + r.payload;
            flow->seed++;
        }
        n_in += n;
        n_out += merge(n, ALL);
    }
    printf("# %lu packets merged into %lu frames\n", n_in, n_out);
    assert_true(n_out < n_in / 2);
}

/* Packets of as many flows as a busy port may see in one batch, in any order:
 * few flows keep each other from growing. */
static void
test_many_flows(void **state)
{
    enum { FLOWS = 8, ROUNDS = 300 };
    unsigned int n_frames = 0, n_flows = 0;
    uint32_t random = 1;

    (void) state;
    for (unsigned int round = 0; round < ROUNDS; round++) {
        unsigned int sent[FLOWS] = { 0 };

        for (unsigned int i = 0; i < N; i++) {
            unsigned int flow;

            random = random * 1664525 + 1013904223;
            flow = (random >> 16) % FLOWS;
            n_flows += !sent[flow];
            put(i, &(struct packet_recipe) {
                    .flags = ACK, .payload = 100, .flow = round + 31 * flow,
                    .seq = sent[flow] * 100, .id = sent[flow] });
            sent[flow]++;
        }
        n_frames += merge(N, ALL);
    }
    print_message("# %u flows in %u frames\n", n_flows, n_frames);
    assert_true(n_frames * 4 < n_flows * 5);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_headers_differ),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_csum_good),
        cmocka_unit_test(test_csum_partial),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_two_zeros),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_property),
        cmocka_unit_test(test_many_flows),
    };

    return cmocka_run_group_tests_name("gro", tests, NULL, NULL);
}
