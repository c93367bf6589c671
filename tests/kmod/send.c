// SPDX-License-Identifier: Apache-2.0
/*
 * Does a turbotap socket send as it should: batches, lengths, flags, an error
 * in the middle, virtio-net headers, a full send buffer?
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"

#define LEN 64

static const char name[] = "tx0";
static int queue, sock, host;
static struct batch batch;

static void
set_blocking(int fd, bool blocking)
{
    int flags = must(fcntl(fd, F_GETFL));

    must(fcntl(fd, F_SETFL,
               blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

static void
test_batches(const char *mode)
{
    static const int sizes[] = { 1, 8, 32, 64 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int n = sizes[i];

        batch_frames(&batch, LEN, 1000);
        is(sendmmsg(sock, batch.msgs, n, 0), n, "%s: a batch of %d", mode, n);
        is(batch.msgs[n - 1].msg_len, LEN, "the length of the last");
        is(host_receives(host, LEN, 1000), n, "the host has it, in order");
    }
}

/* Sending must do what write() on the queue's own fd does, for any length. */
static void
test_lengths(const char *mode)
{
    static const size_t lengths[] = {
        0, 1, 13, 14, 15, 60, 1514, 1515, 3500, 4096, 9000, 65535, 65536,
        100000, 1 << 20,
    };
    static uint8_t frame[1 << 20], got[1 << 20];

    link_mtu(name, 65521);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        size_t n = lengths[i];
        long written, sent;
        int write_error, send_error;

        make_frame(frame, n, i);
        errno = 0;
        written = write(queue, frame, n);
        write_error = errno;
        errno = 0;
        sent = send(sock, frame, n, 0);
        send_error = errno;
        ok(sent == written && send_error == write_error,
           "%s: %zu octets: %ld (%s), as write() says", mode, n, sent,
           strerror(send_error));
        if (written < 0) {
            fails(recv(host, got, sizeof got, MSG_DONTWAIT), EAGAIN,
                  "and nothing arrives");
        } else {
            must(recv(host, got, sizeof got, MSG_DONTWAIT));
            is(recv(host, got, sizeof got, MSG_DONTWAIT), n, "it arrives");
            ok(frame_is(got, n, i), "its content");
        }
    }
    link_mtu(name, 1500);
}

static void
test_pieces(void)
{
    uint8_t frame[1000];
    struct iovec iov[4] = {
        { frame, 1 }, { frame + 1, 500 }, { NULL, 0 }, { frame + 501, 499 },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };

    make_frame(frame, sizeof frame, 5);
    is(sendmsg(sock, &msg, 0), sizeof frame, "a frame in pieces");
    is(host_receives(host, sizeof frame, 5), 1, "arrives as one");
    is(writev(sock, iov, ARRAY_SIZE(iov)), sizeof frame, "writev()");
    is(host_receives(host, sizeof frame, 5), 1, "arrives as one");
    is(write(sock, frame, LEN), LEN, "write()");
    is(host_receives(host, LEN, 5), 1, "arrives");
}

static void
test_flags(void)
{
    static const struct {
        int flag;
        const char *name;
    } refused[] = {
        { MSG_OOB, "MSG_OOB" },
        { MSG_MORE, "MSG_MORE" },
        { MSG_ZEROCOPY, "MSG_ZEROCOPY" },
        { MSG_DONTROUTE, "MSG_DONTROUTE" },
        { MSG_CONFIRM, "MSG_CONFIRM" },
        { MSG_FASTOPEN, "MSG_FASTOPEN" },
        { MSG_PEEK, "MSG_PEEK" },
        { MSG_TRUNC, "MSG_TRUNC" },
    }, taken[] = {
        { MSG_DONTWAIT, "MSG_DONTWAIT" },
        { MSG_NOSIGNAL, "MSG_NOSIGNAL" },
        { MSG_EOR, "MSG_EOR" },
        { 0x40000, "MSG_BATCH" },
    };
    uint8_t frame[LEN];
    struct sockaddr_ll sll = { .sll_family = AF_PACKET };
    struct sockaddr none = { .sa_family = AF_UNSPEC };

    make_frame(frame, LEN, 0);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        fails(send(sock, frame, LEN, refused[i].flag), EINVAL,
              "%s is refused", refused[i].name);
    }
    fails(sendto(sock, frame, LEN, 0, (struct sockaddr *) &sll, sizeof sll),
          EISCONN, "an address is refused");
    fails(sendto(sock, frame, LEN, 0, &none, sizeof none),
          EISCONN, "even that of nobody");
    is(host_receives(host, LEN, 0), 0, "nothing of it arrives");
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
        is(send(sock, frame, LEN, taken[i].flag), LEN, "%s", taken[i].name);
        is(host_receives(host, LEN, 0), 1, "is delivered at once");
    }
}

static void
test_middle_error(void)
{
    static const char *what[] = { "short frame", "bad buffer", "bad iovec" };
    static const int errors[] = { EINVAL, EFAULT, EFAULT };

    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        batch_frames(&batch, LEN, 0);
        switch (i) {
        case 0:
            batch.iovs[9].iov_len = 13;
            break;
        case 1:
            batch.iovs[9].iov_base = (void *) 8;
            break;
        case 2:
            batch.msgs[9].msg_hdr.msg_iov = (void *) 8;
            break;
        }
        is(sendmmsg(sock, batch.msgs, 32, 0), 9,
           "a %s in the middle: those before it", what[i]);
        is(host_receives(host, LEN, 0), 9, "arrive, all of them");
        fails(sendmmsg(sock, batch.msgs + 9, 23, 0), errors[i],
              "it fails when it is the first");
        is(sendmmsg(sock, batch.msgs + 10, 22, 0), 22, "the rest goes");
        is(host_receives(host, LEN, 10), 22, "and arrives");
    }

    link_set(name, false);
    batch_frames(&batch, LEN, 0);
    fails(sendmmsg(sock, batch.msgs, 32, 0), EIO, "a link that is down");
    link_set(name, true);
    is(host_receives(host, LEN, 0), 0, "nothing arrives");
    is(sendmmsg(sock, batch.msgs, 32, 0), 32, "and is up again");
    is(host_receives(host, LEN, 0), 32, "all arrive");
}

/* Headers that ask the host to cut a large segment, or that are wrong. */
static void
test_vnet_header(void)
{
    enum { H = sizeof(struct virtio_net_hdr), SIZE = H + LEN };
    const char *tap = "txv0";
    int q = tap_queue(tap, IFF_VNET_HDR);
    int s = must(turbotap_socket(q, TURBOTAP_NONBLOCK));
    struct virtio_net_hdr header = { .flags = 0 };
    static uint8_t large[H + 9000], got[H + 9000];
    uint8_t *ip = large + H + ETH_LEN;
    int on = 1, raw, ip_raw;

    link_set(tap, true);
    raw = host_socket(tap, ETH_TYPE);
    ip_raw = host_socket(tap, ETH_P_IP);
    must(setsockopt(ip_raw, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on));

    batch_frames(&batch, SIZE, 0);
    for (int i = 0; i < 32; i++) {
        memset(batch.data[i], 0, H);
        make_frame(batch.data[i] + H, LEN, i);
    }
    is(sendmmsg(s, batch.msgs, 32, 0), 32, "32 frames with a header");
    is(host_receives(raw, LEN, 0), 32, "arrive without it");

    header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;     /* But no gso_size. */
    memcpy(batch.data[9], &header, H);
    is(sendmmsg(s, batch.msgs, 32, 0), 9, "a wrong header in the middle");
    is(host_receives(raw, LEN, 0), 9, "those before it arrive");
    fails(sendmmsg(s, batch.msgs + 9, 1, 0), EINVAL, "it is refused");
    batch.iovs[9].iov_len = H - 1;
    fails(sendmmsg(s, batch.msgs + 9, 1, 0), EINVAL, "half a header, too");

    make_frame(large + H, 9000, 1);
    large[H + 12] = 8;
    large[H + 13] = 0;
    memset(ip, 0, 40);
    ip[0] = 0x45;
    ip[2] = (9000 - ETH_LEN) >> 8;
    ip[3] = (9000 - ETH_LEN) & 255;
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    ip[32] = 0x50;
    header = (struct virtio_net_hdr) {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = ETH_LEN + 40,
        .gso_size = 1448,
        .csum_start = ETH_LEN + 20,
        .csum_offset = 16,
    };
    memcpy(large, &header, H);
    is(send(s, large, sizeof large, 0), sizeof large, "a large TCP segment");
    is(recv(ip_raw, got, sizeof got, MSG_DONTWAIT), sizeof large,
       "arrives whole");
    memcpy(&header, got, H);
    is(header.gso_type, VIRTIO_NET_HDR_GSO_TCPV4, "its header: type");
    is(header.gso_size, 1448, "size");
    ok(!memcmp(got + H, large + H, 9000), "its content");

    close(raw);
    close(ip_raw);
    close(s);
    close(q);
}

/* A caller who waits for room in the send buffer. */
struct blocked {
    int fd;
    volatile pid_t tid;
    long result;
    int error;
    uint8_t *data;
    size_t size;
};

static void *
blocked_send(void *blocked_)
{
    struct blocked *b = blocked_;

    b->tid = gettid();
    b->result = send(b->fd, b->data, b->size, 0);
    b->error = errno;
    return NULL;
}

static void
on_signal(int signal)
{
    (void) signal;
}

static void
test_blocking(void)
{
    enum { H = sizeof(struct virtio_net_hdr), SIZE = HELD_LEN };
    const char *tap = "txb0";
    int q = limited_queue(tap);
    int s = must(turbotap_socket(q, 0));
    struct sigaction action = { .sa_handler = on_signal };
    uint8_t frame[SIZE], got[SIZE + 1];
    struct pollfd pfd = { .fd = s, .events = POLLOUT };
    struct blocked b = { .fd = s, .data = frame, .size = SIZE };
    pthread_t thread;
    int raw = host_socket(tap, ETH_P_IP);

    make_held_frame(frame);
    ok(hold_frame(s, raw, frame), "a frame fills the buffer and stays there");
    fails(send(s, frame, SIZE, MSG_DONTWAIT), EAGAIN, "the next must wait");
    is(poll(&pfd, 1, 0), 0, "poll() says that there is no room");

    must(sigaction(SIGUSR1, &action, NULL));
    pthread_create(&thread, NULL, blocked_send, &b);
    while (!b.tid) {
        sched_yield();
    }
    wait_until_blocked(b.tid);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, NULL);
    ok(b.result == -1 && b.error == EINTR, "a signal ends the wait");

    is(send(s, frame, SIZE, 0), SIZE, "a blocking send waits for room");
    is(recv_released(raw, got, sizeof got), SIZE - H,
       "which the first frame has left");
    is(poll(&pfd, 1, 10000), 1, "poll() waits for room");
    ok(pfd.revents == POLLOUT, "and says so");
    is(recv_released(raw, got, sizeof got), SIZE - H,
       "the second frame is here");
    ok(!memcmp(got, frame + H, SIZE - H),
       "whole: its header was not taken twice");
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
    sock = must(turbotap_socket(queue, 0));
    host = host_socket(name, ETH_TYPE);

    test_batches("blocking");
    test_lengths("blocking");
    set_blocking(sock, false);
    test_batches("non-blocking");
    test_lengths("non-blocking");
    test_pieces();
    test_flags();
    test_middle_error();
    test_vnet_header();
    test_blocking();
    return done();
}
