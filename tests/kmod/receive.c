// SPDX-License-Identifier: Apache-2.0
/*
 * Does a turbotap socket receive as it should: batches, lengths, flags, an
 * error in the middle, virtio-net headers?
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"

#define LEN 64

static const char name[] = "rx0";
static int queue, sock, host;
static struct batch batch;

static void
test_batches(void)
{
    static const int sizes[] = { 1, 8, 32, 64 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int n = sizes[i];

        host_sends(host, LEN, 1000, n);
        batch_init(&batch, 2048);
        is(recvmmsg(sock, batch.msgs, MAX_BATCH, 0, NULL), n,
           "a batch of %d", n);
        ok(batch_is(&batch, n, LEN, 1000), "its content and order");
        fails(recvmmsg(sock, batch.msgs, MAX_BATCH, 0, NULL), EAGAIN,
              "nothing more");
    }

    host_sends(host, LEN, 0, 40);
    batch_init(&batch, 2048);
    is(recvmmsg(sock, batch.msgs, 32, 0, NULL), 32, "the first 32 of 40");
    ok(batch_is(&batch, 32, LEN, 0), "are the first 32");
    batch_init(&batch, 2048);
    is(recvmmsg(sock, batch.msgs, 32, 0, NULL), 8, "the other 8");
    ok(batch_is(&batch, 8, LEN, 32), "are the other 8");
}

static void
test_lengths(void)
{
    static const size_t lengths[] = { 14, 15, 60, 1514, 9000, 65535 };
    static uint8_t buffer[65600];
    struct iovec iov[3] = {
        { buffer, 5 }, { buffer + 5, 1 }, { buffer + 6, sizeof buffer - 6 },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };

    link_mtu(name, 65521);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        host_sends(host, lengths[i], i, 1);
        memset(buffer, 0, sizeof buffer);
        is(recvmsg(sock, &msg, 0), lengths[i], "a frame of %zu octets",
           lengths[i]);
        ok(frame_is(buffer, lengths[i], i), "its content, in three pieces");
    }
    link_mtu(name, 1500);

    host_sends(host, LEN, 7, 3);
    is(recv(sock, buffer, 0, 0), 0, "no buffer: 0");
    memset(buffer, 255, sizeof buffer);
    iov[0].iov_len = 20;
    msg.msg_iovlen = 1;
    is(recvmsg(sock, &msg, 0), 20, "a small buffer takes what it can");
    ok(msg.msg_flags == MSG_TRUNC, "MSG_TRUNC says so");
    ok(frame_is(buffer, 20, 7), "and had not lost it to the empty buffer");
    ok(buffer[20] == 255, "nothing is written behind the buffer");
    is(recvmsg(sock, &msg, MSG_TRUNC), LEN, "MSG_TRUNC asks for the length");
    ok(msg.msg_flags == MSG_TRUNC && frame_is(buffer, 20, 8), "and gets it");
    is(read(sock, buffer, sizeof buffer), LEN, "read()");
    ok(frame_is(buffer, LEN, 9), "its content");
}

static void
test_flags(void)
{
    static const struct {
        int flag;
        const char *name;
    } refused[] = {
        { MSG_PEEK, "MSG_PEEK" },
        { MSG_OOB, "MSG_OOB" },
        { MSG_ERRQUEUE, "MSG_ERRQUEUE" },
        { MSG_WAITALL, "MSG_WAITALL" },
        { MSG_DONTROUTE, "MSG_DONTROUTE" },
        { MSG_ZEROCOPY, "MSG_ZEROCOPY" },
        { 0x08000000, "MSG_SPLICE_PAGES" },
        { 0x00000200, "an undefined flag" },
    }, taken[] = {
        { MSG_DONTWAIT, "MSG_DONTWAIT" },
        { MSG_NOSIGNAL, "MSG_NOSIGNAL" },
        { MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC" },
    };
    struct timespec now = { 0, 0 };
    uint8_t buffer[LEN];
    char control[64];
    struct sockaddr_storage address;

    host_sends(host, LEN, 1, 1);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        fails(recv(sock, buffer, LEN, refused[i].flag), EINVAL,
              "%s is refused", refused[i].name);
    }
    fails(recv(sock, buffer, LEN, MSG_WAITFORONE), EINVAL,
          "MSG_WAITFORONE is refused outside of recvmmsg()");
    is(recv(sock, buffer, LEN, 0), LEN, "no refusal takes the frame");
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
        host_sends(host, LEN, i, 1);
        is(recv(sock, buffer, LEN, taken[i].flag), LEN, "%s", taken[i].name);
    }

    host_sends(host, LEN, 0, 5);
    batch_init(&batch, 2048);
    is(recvmmsg(sock, batch.msgs, 32, 0, &now), 1,
       "a timeout of 0 is looked at after a message");
    is(recvmmsg(sock, batch.msgs, 32, MSG_WAITFORONE, NULL), 4,
       "MSG_WAITFORONE");

    /* There is no sender's address and no control data. */
    host_sends(host, LEN, 0, 1);
    batch_init(&batch, 2048);
    batch.msgs[0].msg_hdr.msg_control = control;
    batch.msgs[0].msg_hdr.msg_controllen = sizeof control;
    batch.msgs[0].msg_hdr.msg_name = &address;
    batch.msgs[0].msg_hdr.msg_namelen = sizeof address;
    is(recvmmsg(sock, batch.msgs, 1, 0, NULL), 1,
       "room for control data and an address");
    is(batch.msgs[0].msg_hdr.msg_controllen, 0, "no control data");
    is(batch.msgs[0].msg_hdr.msg_namelen, 0, "no address");
    ok(batch.msgs[0].msg_hdr.msg_control == control, "the pointer is kept");
}

static void
test_middle_error(void)
{
    host_sends(host, LEN, 0, 32);
    batch_init(&batch, 2048);
    batch.msgs[9].msg_hdr.msg_iov = (void *) 8;
    is(recvmmsg(sock, batch.msgs, 32, 0, NULL), 9,
       "a bad iovec in the middle: those before it");
    ok(batch_is(&batch, 9, LEN, 0), "which are right");
    fails(recvmmsg(sock, batch.msgs, 32, 0, NULL), EFAULT,
          "the next call says what it was");
    batch_init(&batch, 2048);
    is(recvmmsg(sock, batch.msgs, 32, 0, NULL), 23, "and all the rest comes");
    ok(batch_is(&batch, 23, LEN, 9), "complete");
}

static void
test_two_sockets(void)
{
    int second = must(turbotap_socket(queue, TURBOTAP_NONBLOCK));
    uint8_t buffer[LEN];

    host_sends(host, LEN, 0, 3);
    is(recv(sock, buffer, LEN, 0), LEN, "the first of two sockets");
    ok(frame_is(buffer, LEN, 0), "the first frame");
    is(recv(second, buffer, LEN, 0), LEN, "the second");
    ok(frame_is(buffer, LEN, 1), "the second frame");
    close(second);
    is(recv(sock, buffer, LEN, 0), LEN, "the first when the second is closed");
    ok(frame_is(buffer, LEN, 2), "the third frame");
    host_sends(host, LEN, 0, 1);
    is(read(queue, buffer, LEN), LEN, "the queue's own fd still reads");
}

/* A TCP segment of 9000 octets that the reader is to cut, with a header. */
static void
test_vnet_header(void)
{
    const char *tap = "rxv0";
    int q = tap_queue(tap, IFF_VNET_HDR);
    int s = must(turbotap_socket(q, TURBOTAP_NONBLOCK));
    uint8_t frame[sizeof(struct virtio_net_hdr) + 9000], got[10000];
    struct virtio_net_hdr *header = (struct virtio_net_hdr *) frame;
    uint8_t *ip = frame + sizeof *header + ETH_LEN;
    int on = 1, raw;

    must(ioctl(q, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4));
    link_mtu(tap, 1500);
    link_set(tap, true);
    raw = host_socket(tap, ETH_P_IP);
    must(setsockopt(raw, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on));

    make_frame(frame + sizeof *header, sizeof frame - sizeof *header, 1);
    frame[sizeof *header + 12] = 8;
    frame[sizeof *header + 13] = 0;
    memset(ip, 0, 40);
    ip[0] = 0x45;
    ip[2] = (9000 - ETH_LEN) >> 8;
    ip[3] = (9000 - ETH_LEN) & 255;
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    ip[32] = 0x50;
    memset(header, 0, sizeof *header);
    header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    header->hdr_len = ETH_LEN + 40;
    header->gso_size = 1448;
    header->csum_start = ETH_LEN + 20;
    header->csum_offset = 16;
    is(send(raw, frame, sizeof frame, 0), sizeof frame,
       "the host sends a large TCP segment");
    memset(got, 0, sizeof got);
    is(recv(s, got, sizeof got, 0), sizeof frame, "it arrives whole");
    header = (struct virtio_net_hdr *) got;
    is(header->gso_type, VIRTIO_NET_HDR_GSO_TCPV4, "its header: type");
    is(header->gso_size, 1448, "size");
    is(header->csum_start, ETH_LEN + 20, "checksum's start");
    ok(!memcmp(got + sizeof *header, frame + sizeof *header, ETH_LEN + 20)
       && !memcmp(got + sizeof *header + 54, frame + sizeof *header + 54,
                  9000 - 54), "its content");

    must(send(raw, frame, sizeof frame, 0));
    fails(recv(s, got, 5, 0), EINVAL, "less room than the header needs");
    fails(recv(s, got, sizeof got, 0), EAGAIN, "loses the frame, as read()");
    close(raw);
    close(s);
    close(q);
}

int
main(void)
{
    new_netns();
    queue = tap_queue(name, 0);
    link_set(name, true);
    sock = must(turbotap_socket(queue, TURBOTAP_NONBLOCK));
    host = host_socket(name, ETH_TYPE);

    test_batches();
    test_lengths();
    test_flags();
    test_middle_error();
    test_two_sockets();
    test_vnet_header();
    return done();
}
