/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-gso.h with the kernel as the judge: random large frames go
 * out by two tap devices, of which one leaves the cutting to its reader, and
 * the other has the kernel do it.  What comes out must be the same, octet by
 * octet.  SEED and ROUNDS in the environment have it do something else. */

#include <config.h>

#include "turbotap-gso.h"

#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "host.h"
#include "packet.h"
#include "turbotap-vnet.h"

enum { DEFAULT_ROUNDS = 1000 };

/* So many packets of a frame fit into the queue of a tap. */
enum { MAX_SEGS = 400 };

/* Of Linux 6.2, unknown to older headers. */
enum { USO4 = 0x20, USO6 = 0x40, GSO_UDP_L4 = 5 };

static struct packet packet;
static struct virtio_net_hdr hdr;

/* A frame that is sent behind each other one. */
static const uint8_t mark[60] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2,
                                  0x88, 0xb5 };
static unsigned int n_refused;

/* The tap whose frames are whole and the one whose frames are cut, with the
 * packet sockets that send by them. */
static int whole_tap, cut_tap, whole_sock, cut_sock;

static uint32_t
any(uint32_t n)
{
    return random() % n;
}

static int
open_sender(const char *name)
{
    int fd = host_open_socket(name, 0);         /* The type is the frame's. */
    int one = 1, room = 4 << 20;

    assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one,
                                sizeof one), 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    return fd;
}

static int
set_up(void **state)
{
    int hdr_len = TURBOTAP_VNET_HDR_LEN, one = 1;

    (void) state;
    host_enter_namespace();
    whole_tap = host_open_tap("whole", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    cut_tap = host_open_tap("cut", IFF_TAP | IFF_NO_PI);
    ioctl(whole_tap, TUNSETVNETHDRSZ, &hdr_len);
    ioctl(whole_tap, TUNSETVNETLE, &one);
    if (ioctl(whole_tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
                                        | TUN_F_TSO_ECN | USO4 | USO6)) {
        printf("1..0 # SKIP no UDP segmentation\n");
        exit(77);
    }
    host_set_up("whole", true);
    host_set_up("cut", true);
    whole_sock = open_sender("whole");
    cut_sock = open_sender("cut");
    return 0;
}

/* Makes 'packet' and 'hdr', anything that a host may send, with the sum of the
 * pseudo header in place of the checksum. */
static void
make_any(void)
{
    static const uint8_t route[] = { 131, 7, 4, 192, 0, 2, 77, 1 };
    const struct packet_recipe r = {
        .ipv6 = any(2), .udp = any(2),
        .n_vlans = any(3) ? 0 : any(5),
        .ip_options = any(4) ? 0 : 4 * any(11),
        .ext_hdr = any(4) ? 0 : any(2) ? IPPROTO_DSTOPTS : IPPROTO_ROUTING,
        .tcp_options = any(2) ? 0 : 4 * any(11),
        .flags = any(3) ? 0x10 : any(256),
        .flow = any(100), .id = any(65536), .seq = random() * 2,
        .payload = 1 + any(any(4) ? 5000 : 60000), .seed = any(256),
    };
    uint32_t least = r.payload / MAX_SEGS + 1, pseudo;
    uint8_t daddr[4], *ip;
    bool routed;

    packet_make(&packet, &r);
    ip = packet.octets + packet.l3;
    routed = !r.ipv6 && r.ip_options >= sizeof route && any(2);
    if (routed) {
        memcpy(ip + 20, route, sizeof route);
        packet_finish(&packet, &r);
        memcpy(daddr, ip + 16, sizeof daddr);
        memcpy(ip + 16, &route[3], sizeof daddr);
    }
    pseudo = packet_pseudo_sum(&packet, &r);
    if (routed) {
        memcpy(ip + 16, daddr, sizeof daddr);
    }

    memset(&hdr, 0, sizeof hdr);
    hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    hdr.gso_type = (r.udp ? GSO_UDP_L4
                    : r.ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                    : VIRTIO_NET_HDR_GSO_TCPV4);
    if (!r.udp && r.flags & TURBOTAP_TCP_CWR) {
        hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    }
    hdr.hdr_len = packet.data;
    hdr.gso_size = least + any(any(4) ? 1500 : 60000);
    hdr.csum_start = packet.l4;
    hdr.csum_offset = r.udp ? TURBOTAP_UDP_CSUM : TURBOTAP_TCP_CSUM;
    packet.octets[packet.l4 + hdr.csum_offset] = pseudo >> 8;
    packet.octets[packet.l4 + hdr.csum_offset + 1] = pseudo;
}

/* Sends 'packet' by 'sock', and a mark behind it, since the kernel may drop a
 * frame that it took. */
static void
send_any(int sock)
{
    static const struct virtio_net_hdr no_hdr;
    const struct iovec iov[] = {
        { &hdr, sizeof hdr }, { packet.octets, packet.size }
    };
    const struct iovec mark_iov[] = {
        { (void *) &no_hdr, sizeof no_hdr }, { (void *) mark, sizeof mark }
    };

    /* It may be refused.  Then that is to be so by both. */
    if (writev(sock, iov, 2) < 0) {
        n_refused++;
    }
    assert_int_equal(writev(sock, mark_iov, 2), sizeof no_hdr + sizeof mark);
}

/* Returns true if the 'len' octets at 'frame' are the mark. */
static bool
is_mark(const uint8_t *frame, size_t len)
{
    return len == sizeof mark && !memcmp(frame, mark, len);
}

/* Returns the length of the next frame out of 'tap', stored in the 'size'
 * octets at 'frame'. */
static size_t
receive(int tap, uint8_t *frame, size_t size)
{
    ssize_t len;

    assert_true(host_wait_readable(tap, HOST_PATIENCE));
    len = read(tap, frame, size);
    assert_true(len > 0);
    return len;
}

/* Checks that the next frame out of the kernel is the 'len' octets at
 * 'ours'. */
static void
check_segment(const uint8_t *ours, size_t len)
{
    static uint8_t judged[PACKET_MAX];

    assert_int_equal(receive(cut_tap, judged, sizeof judged), len);
    assert_memory_equal(judged, ours, len);
}

static void
test_cut_as_kernel(void **state)
{
    static uint8_t buf[TURBOTAP_VNET_HDR_LEN + PACKET_MAX];
    static uint8_t segment[PACKET_MAX];
    uint8_t *frame = buf + TURBOTAP_VNET_HDR_LEN;
    const char *seed = getenv("SEED"), *rounds = getenv("ROUNDS");
    unsigned int n_rounds = rounds ? atoi(rounds) : DEFAULT_ROUNDS;
    unsigned int n_seed = seed ? atoi(seed) : (unsigned int) getpid();
    unsigned int n_segments = 0;

    (void) state;
    print_message("# SEED=%u\n", n_seed);
    srandom(n_seed);
    for (unsigned int round = 0; round < n_rounds; round++) {
        struct turbotap_vnet_rx rx;
        struct turbotap_gso gso;
        size_t size;

        make_any();
        send_any(whole_sock);
        send_any(cut_sock);
        for (;;) {
            size = receive(whole_tap, buf, sizeof buf) - TURBOTAP_VNET_HDR_LEN;
            if (is_mark(frame, size)) {
                break;
            }
            assert_int_equal(turbotap_vnet_parse(buf, frame, size, &rx), 0);
            if (!rx.seg_size) {
                if (rx.csum_partial) {
                    turbotap_vnet_complete(frame, size, &rx);
                }
                check_segment(frame, size);
                continue;
            }
            turbotap_gso_init(&gso, frame, &rx);
            while (turbotap_gso_left(&gso)) {
                check_segment(segment, turbotap_gso_next(&gso, segment));
                n_segments++;
            }
        }
        check_segment(mark, sizeof mark);
    }
    print_message("# %u frames in %u segments, %u times refused\n",
                  n_rounds, n_segments, n_refused);
    assert_true(n_segments > n_rounds);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_as_kernel),
    };

    return cmocka_run_group_tests_name("kernel-gso", tests, set_up, NULL);
}
