/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What turbotap-gro.h merges goes through the kernel: written to a tap,
 * forwarded by a bridge, and cut by the kernel for a second tap, which takes
 * no large frames.  What comes out there must be what went in, bit for bit. */

#include <config.h>

#include "turbotap-gro.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "packet.h"
#include "turbotap-dev.h"

#define TAP "ttm0"
#define OUT "ttm1"
#define BRIDGE "ttmbr"

enum { N = TURBOTAP_GRO_MAX, ACK = 0x10 };

enum { OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
       USO = TURBOTAP_USO_OFFLOADS };

struct fixture {
    struct turbotap_dev *dev;
    int out;
    unsigned int kinds;
};

static struct packet packets[N];
static struct turbotap_gro_packet in[N];
static struct turbotap_gro gro;

static int
setup(void **state)
{
    static struct fixture f;

    assert_int_equal(turbotap_dev_open(TAP, true, &f.dev), 0);
    assert_int_equal(turbotap_dev_set_vnet_hdr_size(f.dev,
                                                    TURBOTAP_VNET_HDR_LEN), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f.dev, 1), 0);
    f.kinds = TURBOTAP_GRO_TCP;
    if (!turbotap_dev_set_offload(f.dev, OFFLOADS | USO)) {
        f.kinds |= TURBOTAP_GRO_UDP;
    }
    f.out = host_open_tap(OUT, IFF_TAP | IFF_NO_PI);
    host_add_bridge(BRIDGE);
    host_set_bridge(TAP, BRIDGE);
    host_set_bridge(OUT, BRIDGE);
    host_set_mtu(TAP, 9000);
    host_set_mtu(OUT, 9000);
    host_set_up(BRIDGE, true);
    host_set_up(TAP, true);
    host_set_up(OUT, true);
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    host_delete(BRIDGE);
    close(f->out);
    turbotap_dev_close(f->dev);
    return 0;
}

/* Writes 'frame' of 'gro' to the tap. */
static void
write_frame(struct fixture *f, const struct turbotap_gro_frame *frame)
{
    static uint8_t plain[TURBOTAP_VNET_HDR_LEN];
    const struct packet *packet = &packets[frame->first];
    const struct iovec alone[] = {
        { plain, sizeof plain },
        { (void *) packet->octets, packet->size },
    };
    ssize_t size = (frame->n_packets > 1 ? frame->size
                    : sizeof plain + packet->size);

    assert_int_equal(frame->n_packets > 1
                     ? writev(turbotap_dev_txq_fd(f->dev, 0), frame->iov,
                              frame->n_iov)
                     : writev(turbotap_dev_txq_fd(f->dev, 0), alone, 2),
                     size);
}

/* Reads what comes out next, but for the kernel's own multicast, into 'data',
 * with room for PACKET_MAX octets.  Returns its size. */
static ssize_t
read_packet(struct fixture *f, uint8_t *data)
{
    ssize_t size;

    do {
        assert_true(host_wait_readable(f->out, HOST_PATIENCE));
        size = read(f->out, data, PACKET_MAX);
        assert_true(size > 0);
    } while (data[0] & 1);
    return size;
}

/* Checks that the packets of 'frame' of 'gro' come out. */
static void
check_frame(struct fixture *f, const struct turbotap_gro_frame *frame)
{
    unsigned int i = frame->first;

    for (int left = frame->n_packets; left; left--) {
        static uint8_t data[PACKET_MAX];

        assert_int_equal(read_packet(f, data), packets[i].size);
        assert_memory_equal(data, packets[i].octets, packets[i].size);
        i = turbotap_gro_next(&gro, i);
    }
}

static void
put(unsigned int i, const struct packet_recipe *r)
{
    packet_make(&packets[i], r);
    in[i] = (struct turbotap_gro_packet) {
        .data = packets[i].octets, .size = packets[i].size, .complete = true
    };
}

/* Sends the first 'n' packets, merged.  Returns how many frames that took. */
static unsigned int
forward(struct fixture *f, unsigned int n)
{
    turbotap_gro_merge(&gro, in, n, f->kinds);
    for (unsigned int i = 0; i < gro.n_frames; i++) {
        write_frame(f, &gro.frames[i]);
    }
    for (unsigned int i = 0; i < gro.n_frames; i++) {
        check_frame(f, &gro.frames[i]);
    }
    return gro.n_frames;
}

static const struct packet_recipe recipes[] = {
    { .flags = ACK, .payload = 1448, .tcp_options = 12, .id = 0xfff0,
      .seq = 0xfffff000 },
    { .flags = ACK, .payload = 1428, .tcp_options = 12, .ipv6 = true },
    { .flags = ACK, .payload = 1400, .n_vlans = 1 },
    { .flags = ACK, .payload = 1400, .n_vlans = 2, .ipv6 = true },
    { .udp = true, .payload = 1200, .id = 0xfff0 },
    { .udp = true, .payload = 1200, .ipv6 = true },
    { .udp = true, .payload = 1200, .n_vlans = 2 },
    { .udp = true, .payload = 1200, .n_vlans = 1, .ipv6 = true },
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

static void
test_trains(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < N_RECIPES; i++) {
        for (unsigned int n = 1; n <= N; n++) {
            for (unsigned int j = 0; j < n; j++) {
                struct packet_recipe r = recipes[i];

                r.id += j;
                r.seq += j * r.payload;
                r.seed += j;
                r.payload -= j == n - 1 ? n : 0;
                put(j, &r);
            }
            assert_int_equal(forward(f, n),
                             f->kinds & (recipes[i].udp ? TURBOTAP_GRO_UDP
                                                        : TURBOTAP_GRO_TCP)
                             ? 1 : n);
        }
    }
}

/* Random mixtures of flows. */
static void
test_mixtures(void **state)
{
    unsigned int seed = getenv("SEED") ? atoi(getenv("SEED")) : 20261127;
    struct fixture *f = *state;

    printf("# SEED=%u\n", seed);
    srandom(seed);
    for (int round = 0; round < 1000; round++) {
        unsigned int n_flows = 1 + random() % 4;
        unsigned int n = 1 + random() % N;
        struct packet_recipe flows[4];

        for (unsigned int i = 0; i < n_flows; i++) {
            flows[i] = recipes[random() % N_RECIPES];
            flows[i].flow = i;
            flows[i].payload = 1 + random() % 1400;
            flows[i].id = random();
            flows[i].seq = random() << 8;
        }
        for (unsigned int i = 0; i < n; i++) {
            struct packet_recipe *flow = &flows[random() % n_flows];
            struct packet_recipe r = *flow;

            if (!(random() % 16)) {
                r.payload = random() % (r.payload + 1);
            } else if (!(random() % 16)) {
                r.flags |= 1 << random() % 8;
            }
            put(i, &r);
            if (!(random() % 24)) {
                packets[i].octets[packets[i].size - 1] ^= 1 + random() % 255;
            }
            flow->id = r.id + 1;
            flow->seq = r.seq + r.payload;
            flow->seed++;
        }
        forward(f, n);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trains, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mixtures, setup, teardown),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
