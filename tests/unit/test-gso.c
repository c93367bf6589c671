/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-gso.h. */

#include <config.h>

#include "turbotap-gso.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "packet.h"
#include "turbotap-vnet.h"

enum { FIN = 0x01, PSH = 0x08, ACK = 0x10, CWR = 0x80 };

static struct packet large, expected;

/* Writes to 'hdr' what the host says about 'large', made of 'r'. */
static void
make_hdr(uint8_t *hdr, const struct packet_recipe *r, uint16_t seg_size)
{
    uint8_t type = r->udp ? 5 : r->ipv6 ? 4 : 1;
    const uint16_t fields[] = {
        large.data, seg_size, large.l4, r->udp ? 6 : 16
    };

    hdr[0] = 1;
    hdr[1] = type | (r->flags & CWR && !r->udp ? 0x80 : 0);
    for (int i = 0; i < 4; i++) {
        hdr[2 + 2 * i] = fields[i];
        hdr[3 + 2 * i] = fields[i] >> 8;
    }
    hdr[10] = hdr[11] = 0;
}

/* Makes '*gso' of 'large' made of 'r', as it comes from the host. */
static void
begin(struct turbotap_gso *gso, const struct packet_recipe *r,
      uint16_t seg_size)
{
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;
    uint32_t pseudo;
    uint8_t *csum;

    packet_make(&large, r);
    csum = large.octets + large.l4 + (r->udp ? 6 : 16);
    pseudo = packet_pseudo_sum(&large, r);
    csum[0] = pseudo >> 8;
    csum[1] = pseudo;
    make_hdr(hdr, r, seg_size);
    assert_int_equal(turbotap_vnet_parse(hdr, large.octets, large.size, &rx),
                     0);
    turbotap_gso_init(gso, large.octets, &rx);
}

/* Checks that 'large', made of 'r', is cut into the packets that it stands
 * for. */
static void
check_cut(const struct packet_recipe *r, uint16_t seg_size)
{
    uint32_t n = r->payload ? (r->payload - 1) / seg_size + 1 : 1;
    struct turbotap_gso gso;
    uint8_t *segment;

    begin(&gso, r, seg_size);
    assert_int_equal(turbotap_gso_left(&gso), n);
    assert_int_equal(turbotap_gso_left_bytes(&gso),
                     (uint64_t) n * large.data + r->payload);
    /* Exactly so long that a sanitizer sees one octet too far. */
    segment = malloc(turbotap_gso_max_len(&gso));
    for (uint32_t i = 0; i < n; i++) {
        struct packet_recipe part = *r;
        uint32_t ofs = i * seg_size;

        part.payload = r->payload - ofs < seg_size ? r->payload - ofs
                                                   : seg_size;
        part.seq += ofs;
        part.id += i;
        if (i) {
            part.flags &= ~CWR;
        }
        if (i < n - 1) {
            part.flags &= ~(PSH | FIN);
        }
        packet_make(&expected, &part);
        memcpy(expected.octets + expected.data,
               large.octets + large.data + ofs, part.payload);
        packet_finish(&expected, &part);

        assert_int_equal(turbotap_gso_next(&gso, segment), expected.size);
        assert_memory_equal(segment, expected.octets, expected.size);
        assert_int_equal(turbotap_gso_left(&gso), n - i - 1);
    }
    assert_int_equal(turbotap_gso_left_bytes(&gso), 0);
    free(segment);
}

static void
test_cut(void **state)
{
    static const struct packet_recipe rows[] = {
        { .flags = ACK, .payload = 10000 },
        { .flags = ACK | PSH, .payload = 10000, .tcp_options = 12 },
        { .flags = ACK | PSH | FIN | CWR, .payload = 10000 },
        { .flags = ACK, .payload = 10000, .id = 0xfffe, .seq = 0xffffff00 },
        { .flags = ACK, .payload = 10000, .tcp_options = 40,
          .ip_options = 40, .n_vlans = 2 },
        { .flags = ACK, .payload = 10000, .n_vlans = 3 },
        { .flags = ACK, .payload = 10000, .n_vlans = 20, .ipv6 = true },
        { .flags = ACK | CWR, .payload = 10000, .ipv6 = true,
          .tcp_options = 12 },
        { .flags = ACK, .payload = 10000, .ipv6 = true, .n_vlans = 1,
          .ext_hdr = IPPROTO_DSTOPTS },
        { .udp = true, .payload = 10000 },
        { .udp = true, .payload = 10000, .n_vlans = 2, .id = 0xffff },
        { .udp = true, .payload = 10000, .ipv6 = true,
          .ext_hdr = IPPROTO_DSTOPTS },
        { .flags = ACK, .payload = 65535 - 40 },
        { .udp = true, .payload = 65535 - 8, .ipv6 = true },
        { .flags = ACK },
    };
    static const uint16_t sizes[] = { 1448, 1000, 999, 5000, 9999, 65535 };

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            check_cut(&rows[i], sizes[j]);
        }
    }
    check_cut(&(struct packet_recipe) { .flags = ACK, .payload = 300 }, 1);
}

/* With a routing header the checksum is over an address that is not in the
 * IPv6 header: what the host put in its place counts. */
static void
test_routing_header(void **state)
{
    const struct packet_recipe r = {
        .flags = ACK, .payload = 4000, .ipv6 = true,
        .ext_hdr = IPPROTO_ROUTING,
    };
    struct turbotap_gso gso;
    uint8_t segment[2000];

    (void) state;
    begin(&gso, &r, 1400);
    while (turbotap_gso_left(&gso)) {
        uint32_t len = turbotap_gso_next(&gso, segment);

        memcpy(expected.octets, segment, len);
        expected.size = len;
        expected.l3 = large.l3;
        expected.l4 = large.l4;
        assert_int_equal(packet_sum(packet_pseudo_sum(&expected, &r),
                                    segment + large.l4, len - large.l4),
                         0xffff);
    }
}

/* The same for IPv4, with a loose source route: the sum is over the last
 * address of it.  The switch must not be told that it is over those of the IP
 * header. */
static void
test_source_route(void **state)
{
    static const uint8_t route[] = { 131, 7, 4, 192, 0, 2, 77, 1 };
    const struct packet_recipe r = {
        .flags = ACK, .payload = 4000, .ip_options = sizeof route,
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;
    struct turbotap_gso gso;
    uint8_t segment[2000];
    uint32_t sum;

    (void) state;
    packet_make(&large, &r);
    memcpy(large.octets + large.l3 + 20, route, sizeof route);
    memcpy(&expected, &large, sizeof large);
    memcpy(expected.octets + large.l3 + 16, &route[3], 4);
    sum = packet_pseudo_sum(&expected, &r);
    large.octets[large.l4 + 16] = sum >> 8;
    large.octets[large.l4 + 17] = sum;
    make_hdr(hdr, &r, 1400);
    assert_int_equal(turbotap_vnet_parse(hdr, large.octets, large.size, &rx),
                     0);
    assert_true(rx.at.routing);

    turbotap_gso_init(&gso, large.octets, &rx);
    while (turbotap_gso_left(&gso)) {
        uint32_t len = turbotap_gso_next(&gso, segment);

        memcpy(expected.octets, segment, len);
        memcpy(expected.octets + large.l3 + 16, &route[3], 4);
        expected.size = len;
        assert_int_equal(packet_sum(packet_pseudo_sum(&expected, &r),
                                    segment + large.l4, len - large.l4),
                         0xffff);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_routing_header),
        cmocka_unit_test(test_source_route),
    };

    return cmocka_run_group_tests_name("gso", tests, NULL, NULL);
}
