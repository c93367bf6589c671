/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-vnet.h.  They have a checksum of their own, the plainest
 * one, to compare with. */

#include <config.h>

#include "turbotap-vnet.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Of Linux 6.2, unknown to older headers. */
#define GSO_UDP_L4 5

/* A frame, and where what is in it. */
struct frame {
    size_t size;
    size_t l3, l4;
    uint8_t proto;
    bool ipv6;
    uint8_t data[70000];
};

/* What a frame is made of. */
struct recipe {
    bool ipv6;
    uint8_t proto;
    int n_vlans;
    size_t options;             /* Of TCP, in octets. */
    uint8_t ext_hdr;            /* An IPv6 extension header of this type. */
    bool fragment;
    size_t payload;
};

static void
put16(uint8_t *p, unsigned int x)
{
    p[0] = x >> 8;
    p[1] = x;
}

static void
make_frame(struct frame *f, const struct recipe *r)
{
    size_t l4_len = ((r->proto == IPPROTO_TCP ? 20 + r->options
                      : r->proto == IPPROTO_UDP ? 8 : 12)
                     + r->payload);
    size_t ext = r->ext_hdr ? 8 : 0;
    uint8_t *p = f->data;

    memset(f, 0, sizeof *f);
    p += 12;
    for (int i = 0; i < r->n_vlans; i++) {
        put16(p, i + 1 < r->n_vlans ? 0x88a8 : 0x8100);
        p += 4;
    }
    put16(p, r->ipv6 ? 0x86dd : 0x0800);
    p += 2;
    f->l3 = p - f->data;
    f->l4 = f->l3 + (r->ipv6 ? 40 + ext : 20);
    f->size = f->l4 + l4_len;
    f->proto = r->proto;
    f->ipv6 = r->ipv6;
    for (uint8_t *q = p; q < f->data + f->size; q++) {
        *q = (q - f->data) * 7;
    }
    if (r->ipv6) {
        p[0] = 0x60;
        put16(p + 4, ext + l4_len);
        p[6] = r->ext_hdr ? r->ext_hdr : r->proto;
        if (ext) {
            p[40] = r->proto;
            p[41] = 0;
        }
    } else {
        p[0] = 0x45;
        put16(p + 2, 20 + l4_len);
        put16(p + 6, r->fragment ? 0x2000 : 0x4000);
        p[9] = r->proto;
    }
    if (r->proto == IPPROTO_TCP) {
        f->data[f->l4 + 12] = (20 + r->options) / 4 << 4;
        f->data[f->l4 + 13] = 0x10;
    }
}

static size_t
csum_offset(const struct frame *f)
{
    return (f->proto == IPPROTO_TCP ? 16 : f->proto == IPPROTO_UDP ? 6 : 8);
}

/* The one's complement sum, folded, of the 'n' octets at 'p'. */
static uint32_t
sum(uint32_t s, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s += i % 2 ? p[i] : p[i] << 8;
        s = (s & 0xffff) + (s >> 16);
    }
    return s;
}

/* Of the pseudo header of 'f'. */
static uint32_t
pseudo_sum(const struct frame *f)
{
    uint32_t s = f->ipv6 ? sum(0, f->data + f->l3 + 8, 32)
                         : sum(0, f->data + f->l3 + 12, 8);

    s += f->proto + (f->size - f->l4);
    return (s & 0xffff) + (s >> 16);
}

/* Writes a header as struct virtio_net_hdr has it. */
static void
make_hdr(uint8_t *hdr, uint8_t flags, uint8_t gso_type, uint16_t hdr_len,
         uint16_t gso_size, uint16_t start, uint16_t offset)
{
    const uint16_t fields[] = { hdr_len, gso_size, start, offset };

    memset(hdr, 0, TURBOTAP_VNET_HDR_LEN);
    hdr[0] = flags;
    hdr[1] = gso_type;
    for (int i = 0; i < 4; i++) {
        hdr[2 + 2 * i] = fields[i];
        hdr[3 + 2 * i] = fields[i] >> 8;
    }
}

/* Parses exactly 'size' octets, so that a sanitizer sees one read too far. */
static int
parse(const uint8_t *hdr, const struct frame *f, size_t size,
      struct turbotap_vnet_rx *rx)
{
    uint8_t *exact = malloc(size);
    int error;

    memcpy(exact, f->data, size);
    error = turbotap_vnet_parse(hdr, exact, size, rx);
    free(exact);
    return error;
}

static const struct recipe tcp4 = { .proto = IPPROTO_TCP, .payload = 3000 };
static struct frame frame;

static void
test_plain(void **state)
{
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;

    (void) state;
    make_frame(&frame, &tcp4);
    memset(hdr, 0xff, sizeof hdr);
    hdr[0] = hdr[1] = 0;        /* The other fields mean nothing then. */
    assert_true(turbotap_vnet_is_plain(hdr));
    assert_int_equal(parse(hdr, &frame, frame.size, &rx), 0);
    assert_false(rx.csum_good || rx.csum_partial || rx.at.proto || rx.seg_size);

    turbotap_vnet_write_plain(hdr);
    for (size_t i = 0; i < sizeof hdr; i++) {
        assert_int_equal(hdr[i], 0);
    }

    make_hdr(hdr, VIRTIO_NET_HDR_F_DATA_VALID, 0, 0, 0, 0, 0);
    assert_false(turbotap_vnet_is_plain(hdr));
    assert_int_equal(parse(hdr, &frame, frame.size, &rx), 0);
    assert_true(rx.csum_good);
    assert_false(rx.csum_partial);
}

/* A checksum to be completed, in all kinds of frames. */
static void
test_parse_csum(void **state)
{
    static const struct {
        struct recipe recipe;
        bool known;             /* Is it known whose it is? */
    } rows[] = {
        { { .proto = IPPROTO_TCP, .payload = 1 }, true },
        { { .proto = IPPROTO_UDP }, true },
        { { .proto = IPPROTO_SCTP }, true },
        { { .ipv6 = true, .proto = IPPROTO_TCP }, true },
        { { .ipv6 = true, .proto = IPPROTO_UDP, .payload = 7 }, true },
        { { .n_vlans = 1, .proto = IPPROTO_TCP }, true },
        { { .n_vlans = 1, .ipv6 = true, .proto = IPPROTO_UDP }, true },
        { { .ipv6 = true, .ext_hdr = IPPROTO_HOPOPTS,
            .proto = IPPROTO_UDP }, true },
        { { .n_vlans = 2, .proto = IPPROTO_TCP }, true },
        { { .ipv6 = true, .ext_hdr = IPPROTO_ROUTING,
            .proto = IPPROTO_TCP }, true },
        { { .n_vlans = 3, .proto = IPPROTO_TCP }, true },
        { { .fragment = true, .proto = IPPROTO_UDP }, false },
        { { .ipv6 = true, .ext_hdr = IPPROTO_FRAGMENT,
            .proto = IPPROTO_TCP }, false },
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct turbotap_vnet_rx rx;

        make_frame(&frame, &rows[i].recipe);
        make_hdr(hdr, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, frame.l4,
                 csum_offset(&frame));
        assert_int_equal(parse(hdr, &frame, frame.size, &rx), 0);
        assert_true(rx.csum_partial);
        assert_false(rx.csum_good);
        assert_int_equal(rx.csum_start, frame.l4);
        assert_int_equal(rx.csum_offset, csum_offset(&frame));
        assert_int_equal(rx.seg_size, 0);
        assert_int_equal(rx.at.proto, rows[i].known ? frame.proto : 0);
        if (rows[i].known) {
            assert_int_equal(rx.at.ipv6, frame.ipv6);
        }

        /* However short, nothing is read beyond the end. */
        for (size_t size = 14; size < frame.size; size++) {
            int error = parse(hdr, &frame, size, &rx);

            assert_int_equal(error, (frame.l4 + csum_offset(&frame) + 2 > size
                                     ? EINVAL : 0));
            assert_true(error || !rx.at.proto);
        }
    }
}

/* Segments, whose checksums are to be completed or were verified. */
static void
test_parse_gso(void **state)
{
    static const struct {
        struct recipe recipe;
        uint8_t gso_type;
    } rows[] = {
        { { .proto = IPPROTO_TCP, .payload = 3000 },
          VIRTIO_NET_HDR_GSO_TCPV4 },
        { { .proto = IPPROTO_TCP, .payload = 3000 },
          VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN },
        { { .proto = IPPROTO_TCP, .payload = 3000, .ipv6 = true },
          VIRTIO_NET_HDR_GSO_TCPV6 },
        { { .proto = IPPROTO_TCP, .payload = 3000, .ipv6 = true,
            .ext_hdr = IPPROTO_ROUTING }, VIRTIO_NET_HDR_GSO_TCPV6 },
        { { .proto = IPPROTO_TCP, .payload = 3000, .n_vlans = 2 },
          VIRTIO_NET_HDR_GSO_TCPV4 },
        { { .proto = IPPROTO_UDP, .payload = 3000 }, GSO_UDP_L4 },
        { { .proto = IPPROTO_UDP, .payload = 3000, .ipv6 = true },
          GSO_UDP_L4 },
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;

    (void) state;
    for (int i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct recipe *r = &rows[i].recipe;

        make_frame(&frame, r);
        for (int partial = 0; partial < 2; partial++) {
            make_hdr(hdr, partial ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
                     rows[i].gso_type, frame.l4 + 8, 1448, frame.l4,
                     csum_offset(&frame));
            if (!partial && r->ext_hdr) {
                /* It could not be computed anew. */
                assert_int_equal(parse(hdr, &frame, frame.size, &rx), EINVAL);
                continue;
            }
            assert_int_equal(parse(hdr, &frame, frame.size, &rx), 0);
            assert_int_equal(rx.csum_partial, partial);
            assert_int_equal(rx.csum_good, !partial);
            assert_int_equal(rx.seg_size, 1448);
            assert_int_equal(rx.at.proto, r->proto);
            assert_int_equal(rx.at.ipv6, r->ipv6);
            assert_int_equal(rx.at.n_vlans, r->n_vlans);
            assert_int_equal(rx.at.l3_ofs, frame.l3);
            assert_int_equal(rx.at.l4_ofs, frame.l4);
            assert_int_equal(rx.at.end, frame.size);
            assert_int_equal(rx.at.routing, r->ext_hdr == IPPROTO_ROUTING);
        }
    }
}

/* A frame that whoever has a packet socket wants cut into thousands of
 * packets. */
static void
test_parse_too_many(void **state)
{
    const struct recipe r = {
        .proto = IPPROTO_TCP, .payload = TURBOTAP_VNET_MAX_SEGS + 1
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;

    (void) state;
    make_frame(&frame, &r);
    for (int seg_size = 1; seg_size <= 2; seg_size++) {
        make_hdr(hdr, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4,
                 frame.l4 + 8, seg_size, frame.l4, csum_offset(&frame));
        assert_int_equal(parse(hdr, &frame, frame.size, &rx),
                         seg_size == 1 ? EINVAL : 0);
    }
}

static void
test_parse_malformed(void **state)
{
    enum { CSUM = VIRTIO_NET_HDR_F_NEEDS_CSUM };
    static const struct {
        uint8_t flags, gso_type;
        uint16_t hdr_len, gso_size, start, offset;
    } rows[] = {
        /* Flags that nobody agreed to. */
        { 4, 0, 0, 0, 0, 0 },
        { CSUM | 0x80, 0, 0, 0, 34, 16 },
        /* A checksum out of the frame, or in the Ethernet header. */
        { CSUM, 0, 0, 0, 13, 16 },
        { CSUM, 0, 0, 0, 0, 0 },
        { CSUM, 0, 0, 0, 3054, 0 },
        { CSUM, 0, 0, 0, 34, 3019 },
        { CSUM, 0, 0, 0, 0xffff, 0xffff },
        /* Segments of no size, of the wrong kind. */
        { CSUM, 1, 54, 0, 34, 16 },
        { CSUM, VIRTIO_NET_HDR_GSO_TCPV6, 54, 1448, 34, 16 },
        { CSUM, VIRTIO_NET_HDR_GSO_UDP, 54, 1448, 34, 16 },
        { CSUM, GSO_UDP_L4, 54, 1448, 34, 16 },
        { CSUM, 2, 54, 1448, 34, 16 },
        { CSUM, 0x7f, 54, 1448, 34, 16 },
        { CSUM, VIRTIO_NET_HDR_GSO_ECN, 54, 1448, 34, 16 },
        { 0, VIRTIO_NET_HDR_GSO_ECN, 54, 1448, 34, 16 },
        /* Headers beyond the frame; a checksum that is not TCP's. */
        { CSUM, 1, 3055, 1448, 34, 16 },
        { CSUM, 1, 54, 1448, 34, 6 },
        { CSUM, 1, 54, 1448, 38, 16 },
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_rx rx;

    (void) state;
    make_frame(&frame, &tcp4);
    assert_int_equal(frame.size, 3054);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_hdr(hdr, rows[i].flags, rows[i].gso_type, rows[i].hdr_len,
                 rows[i].gso_size, rows[i].start, rows[i].offset);
        assert_int_equal(parse(hdr, &frame, frame.size, &rx), EINVAL);
    }

    /* TCP headers shorter than 20 octets and longer than the frame. */
    make_hdr(hdr, CSUM, 1, 54, 1448, 34, 16);
    frame.data[34 + 12] = 4 << 4;
    assert_int_equal(parse(hdr, &frame, frame.size, &rx), EINVAL);
    frame.data[34 + 12] = 15 << 4;
    assert_int_equal(parse(hdr, &frame, 34 + 60, &rx), EINVAL);
    put16(&frame.data[16], 20 + 60);
    assert_int_equal(parse(hdr, &frame, 34 + 60, &rx), 0);
    assert_int_equal(parse(hdr, &frame, 34 + 59, &rx), EINVAL);
}

/* Completing a checksum gives one that is right, over any length. */
static void
test_complete(void **state)
{
    (void) state;
    for (size_t payload = 0; payload < 70; payload++) {
        const struct recipe r = { .proto = IPPROTO_UDP, .payload = payload };
        struct turbotap_vnet_rx rx = { .csum_partial = true };

        make_frame(&frame, &r);
        put16(&frame.data[frame.l4 + 6], pseudo_sum(&frame));
        rx.csum_start = frame.l4;
        rx.csum_offset = 6;
        turbotap_vnet_complete(frame.data, frame.size, &rx);
        assert_int_equal(sum(pseudo_sum(&frame), frame.data + frame.l4,
                             frame.size - frame.l4), 0xffff);
    }
}

/* One that comes to 0 is sent as 0xffff, since 0 means "none" in UDP. */
static void
test_complete_zero(void **state)
{
    uint8_t data[34 + 8] = { 0 };
    struct turbotap_vnet_rx rx = {
        .csum_partial = true, .csum_start = 34, .csum_offset = 6
    };

    (void) state;
    put16(&data[40], 0xffff);
    turbotap_vnet_complete(data, sizeof data, &rx);
    assert_int_equal(data[40] << 8 | data[41], 0xffff);
}

/* What is written is what is parsed, and completes to a checksum that is
 * right, whatever was in its place. */
static void
test_write_csum(void **state)
{
    (void) state;
    for (int i = 0; i < 2 * 2 * 3 * 2; i++) {
        const struct recipe r = {
            .ipv6 = i & 1,
            .proto = i & 2 ? IPPROTO_TCP : IPPROTO_UDP,
            .n_vlans = i / 4 % 3,
            .ext_hdr = i & 1 && i / 12 ? IPPROTO_DSTOPTS : 0,
            .payload = 101,
        };
        uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
        struct turbotap_vnet_rx rx;
        struct turbotap_vnet_tx tx;

        make_frame(&frame, &r);
        tx = (struct turbotap_vnet_tx) {
            .l3_ofs = frame.l3, .l4_ofs = frame.l4, .proto = r.proto
        };
        assert_int_equal(turbotap_vnet_write(hdr, frame.data, frame.size, &tx),
                         0);
        assert_int_equal(parse(hdr, &frame, frame.size, &rx), 0);
        assert_int_equal(rx.at.proto, r.proto);
        assert_int_equal(rx.csum_start, frame.l4);
        assert_int_equal(rx.seg_size, 0);
        turbotap_vnet_complete(frame.data, frame.size, &rx);
        assert_int_equal(sum(pseudo_sum(&frame), frame.data + frame.l4,
                             frame.size - frame.l4), 0xffff);
    }
}

/* With a routing header the last address counts, which is not in the IPv6
 * header: leave what is there. */
static void
test_write_routing_header(void **state)
{
    const struct recipe r = {
        .ipv6 = true, .ext_hdr = IPPROTO_ROUTING, .proto = IPPROTO_UDP,
        .payload = 10,
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_tx tx;

    (void) state;
    make_frame(&frame, &r);
    put16(&frame.data[frame.l4 + 6], 0x1234);
    tx = (struct turbotap_vnet_tx) {
        .l3_ofs = frame.l3, .l4_ofs = frame.l4, .proto = r.proto
    };
    assert_int_equal(turbotap_vnet_write(hdr, frame.data, frame.size, &tx), 0);
    assert_int_equal(frame.data[frame.l4 + 6], 0x12);
    assert_int_equal(frame.data[frame.l4 + 7], 0x34);
}

static void
test_write_gso(void **state)
{
    static const struct {
        bool ipv6;
        size_t options, payload;
        uint16_t mtu, seg_size;
        uint16_t gso_size;      /* Expected, 0 for none. */
    } rows[] = {
        { false, 0, 65000, 1500, 0, 1460 },
        { false, 12, 65000, 1500, 0, 1448 },
        { false, 40, 65000, 1500, 0, 1420 },
        { true, 12, 65000, 1500, 0, 1428 },
        { true, 0, 65000, 1280, 0, 1220 },
        { false, 0, 65000, 9000, 1448, 1448 },
        { false, 0, 65000, 1500, 8960, 1460 },
        { false, 0, 1460, 1500, 0, 0 },
        { false, 0, 1461, 1500, 0, 1460 },
        { false, 0, 1460, 1500, 1000, 1000 },
        { false, 0, 65495, 65521, 0, 65481 },
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int cwr = 0; cwr < 2; cwr++) {
            const struct recipe r = {
                .ipv6 = rows[i].ipv6, .proto = IPPROTO_TCP,
                .options = rows[i].options, .payload = rows[i].payload,
                .n_vlans = cwr,
            };
            uint8_t expected[TURBOTAP_VNET_HDR_LEN];
            struct turbotap_vnet_tx tx;

            make_frame(&frame, &r);
            frame.data[frame.l4 + 13] |= cwr << 7;
            tx = (struct turbotap_vnet_tx) {
                .l3_ofs = frame.l3, .l4_ofs = frame.l4, .proto = r.proto,
                .mtu = rows[i].mtu, .seg_size = rows[i].seg_size,
            };
            assert_int_equal(turbotap_vnet_write(hdr, frame.data, frame.size,
                                                 &tx), 0);
            make_hdr(expected, VIRTIO_NET_HDR_F_NEEDS_CSUM,
                     !rows[i].gso_size ? 0
                     : (r.ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                               : VIRTIO_NET_HDR_GSO_TCPV4)
                       | (cwr ? VIRTIO_NET_HDR_GSO_ECN : 0),
                     rows[i].gso_size ? frame.l4 + 20 + r.options : 0,
                     rows[i].gso_size, frame.l4, 16);
            assert_memory_equal(hdr, expected, sizeof hdr);
        }
    }
}

/* A frame that ends too early, wherever, is sent as it is. */
static void
test_write_cut_off(void **state)
{
    static const uint8_t plain[TURBOTAP_VNET_HDR_LEN];

    (void) state;
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        const struct recipe r = {
            .ipv6 = ipv6, .proto = IPPROTO_TCP, .payload = 3000,
        };

        make_frame(&frame, &r);
        for (size_t size = 14; size < frame.size; size++) {
            const struct turbotap_vnet_tx tx = {
                .l3_ofs = 14, .l4_ofs = frame.l4, .proto = r.proto,
                .mtu = size % 2 ? 1500 : 0,
            };
            uint8_t hdr[TURBOTAP_VNET_HDR_LEN] = { 1 };
            uint8_t *start = malloc(size);

            assert_non_null(start);
            memcpy(start, frame.data, size);
            assert_int_equal(turbotap_vnet_write(hdr, start, size, &tx), 0);
            assert_memory_equal(hdr, plain, sizeof hdr);
            assert_memory_equal(start, frame.data, size);
            free(start);
        }
    }
}

static void
test_write_refused(void **state)
{
    const struct turbotap_vnet_tx good = {
        .l3_ofs = 14, .l4_ofs = 34, .proto = IPPROTO_TCP, .mtu = 1500
    };
    uint8_t hdr[TURBOTAP_VNET_HDR_LEN];
    struct turbotap_vnet_tx tx;

    (void) state;
    make_frame(&frame, &tcp4);
    assert_int_equal(turbotap_vnet_write(hdr, frame.data, frame.size, &good),
                     0);

#define REFUSED(SIZE) \
    assert_int_equal(turbotap_vnet_write(hdr, frame.data, SIZE, &tx), EINVAL)

    tx = good, tx.l4_ofs = 33;
    REFUSED(frame.size);
    tx = good, tx.l3_ofs = 34;
    REFUSED(frame.size);
    tx = good, tx.l3_ofs = tx.l4_ofs = UINT16_MAX;
    REFUSED(frame.size);
    tx = good, tx.l3_ofs = 13;
    REFUSED(frame.size);
    tx = good, tx.proto = IPPROTO_SCTP, tx.mtu = 1500;
    REFUSED(frame.size);
    tx = good, tx.proto = IPPROTO_ICMP;
    REFUSED(frame.size);
    tx = good, tx.mtu = 40;
    REFUSED(frame.size);
    tx = good;
    put16(&frame.data[16], 39);
    REFUSED(frame.size);
    put16(&frame.data[16], 40);
    frame.data[14] = 0x55;
    REFUSED(frame.size);
    frame.data[14] = 0x45;
    frame.data[34 + 12] = 4 << 4;
    REFUSED(frame.size);
#undef REFUSED
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_parse_csum),
        cmocka_unit_test(test_parse_gso),
        cmocka_unit_test(test_parse_malformed),
        cmocka_unit_test(test_parse_too_many),
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_complete_zero),
        cmocka_unit_test(test_write_csum),
        cmocka_unit_test(test_write_routing_header),
        cmocka_unit_test(test_write_gso),
        cmocka_unit_test(test_write_cut_off),
        cmocka_unit_test(test_write_refused),
    };

    return cmocka_run_group_tests_name("vnet", tests, NULL, NULL);
}
