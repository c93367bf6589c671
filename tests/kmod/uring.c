// SPDX-License-Identifier: Apache-2.0
/*
 * Is a turbotap socket as good for io_uring as any other socket: what it
 * sends, receives and waits for, tries again, gives up and refuses?
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"
#include <liburing.h>

#define LEN 64
#define BATCH 32
#define GROUP 7                 /* Of the provided buffers. */
#define N_BUFFERS 4             /* Of those: a power of 2. */

static const char name[] = "ring0";
static int queue, sock, host;
static struct io_uring ring;
static struct batch batch;

/* One completion. */
struct result {
    long value;                 /* What the system call would return. */
    unsigned int flags;
    uint64_t tag;               /* That of the request. */
};

/* Ends the program if liburing's 'error' is one. */
static void
ring_must(int error)
{
    if (error < 0) {
        errno = -error;
        bail("io_uring");
    }
}

static struct io_uring_sqe *
request(uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

    if (!sqe) {
        errno = ENOSPC;
        bail("io_uring_get_sqe");
    }
    /* What prepares a request leaves the user data alone. */
    memset(sqe, 0, sizeof *sqe);
    sqe->user_data = tag;
    return sqe;
}

static void
submit(void)
{
    ring_must(io_uring_submit(&ring));
}

/* Has nothing been completed that next() has not returned yet? */
static bool
idle(void)
{
    struct io_uring_cqe *cqe;

    io_uring_get_events(&ring);
    return io_uring_peek_cqe(&ring, &cqe) == -EAGAIN;
}

/* Submits what was prepared and waits for the next completion. */
static struct result
next(void)
{
    struct __kernel_timespec limit = { .tv_sec = 20 };
    struct io_uring_cqe *cqe;
    struct result result;

    submit();
    ring_must(io_uring_wait_cqe_timeout(&ring, &cqe, &limit));
    result = (struct result) { cqe->res, cqe->flags, cqe->user_data };
    io_uring_cqe_seen(&ring, cqe);
    return result;
}

/* Waits for 'n' completions; returns how many were 'value'. */
static int
count(int n, long value)
{
    int good = 0;

    for (int i = 0; i < n; i++) {
        good += next().value == value;
    }
    return good;
}

static void
test_receive(void)
{
    uint8_t forged[64];

    batch_init(&batch, LEN);
    host_sends(host, LEN, 100, BATCH);
    for (int i = 0; i < BATCH; i++) {
        io_uring_prep_recv(request(i), sock, batch.data[i], LEN, 0);
        batch.msgs[i].msg_len = LEN;
    }
    is(count(BATCH, LEN), BATCH, "%d receives in one call", BATCH);
    ok(batch_is(&batch, BATCH, LEN, 100), "their content and order");

    io_uring_prep_recv(request(1), sock, batch.data[0], LEN, 0);
    submit();
    ok(idle(), "one that finds nothing waits");
    host_sends(host, LEN, 7, 1);
    is(next().value, LEN, "for a frame");
    ok(frame_is(batch.data[0], LEN, 7), "its content");

    /* What tun would take for an skb. */
    memset(forged, 0x41, sizeof forged);
    batch.msgs[0].msg_hdr.msg_control = forged;
    host_sends(host, LEN, 8, 1);
    io_uring_prep_recvmsg(request(1), sock, &batch.msgs[0].msg_hdr, 0);
    is(next().value, LEN, "recvmsg, control data of length 0");
    ok(frame_is(batch.data[0], LEN, 8), "its content");
    host_sends(host, LEN, 9, 1);
    io_uring_prep_read(request(1), sock, batch.data[0], LEN, 0);
    is(next().value, LEN, "read");
    ok(frame_is(batch.data[0], LEN, 9), "its content");
    io_uring_prep_recv(request(1), sock, batch.data[0], LEN, MSG_DONTWAIT);
    is(next().value, -EAGAIN, "MSG_DONTWAIT does not wait");
    io_uring_prep_recv(request(1), sock, batch.data[0], LEN, MSG_PEEK);
    is(next().value, -EINVAL, "MSG_PEEK is refused");
}

static void
test_send(void)
{
    uint64_t forged[8];
    struct iovec iov = { batch.data, sizeof batch.data };

    batch_frames(&batch, LEN, 100);
    for (int i = 0; i < BATCH; i++) {
        struct io_uring_sqe *sqe = request(i);

        if (i % 2) {
            io_uring_prep_sendmsg(sqe, sock, &batch.msgs[i].msg_hdr, 0);
        } else {
            io_uring_prep_send(sqe, sock, batch.data[i], LEN, 0);
        }
        sqe->flags |= i < BATCH - 1 ? IOSQE_IO_LINK : 0;
    }
    is(count(BATCH, LEN), BATCH, "%d sends in one call", BATCH);
    is(host_receives(host, LEN, 100), BATCH, "arrive, in order");

    ring_must(io_uring_register_buffers(&ring, &iov, 1));
    io_uring_prep_write(request(1), sock, batch.data[0], LEN, 0);
    is(next().value, LEN, "write");
    io_uring_prep_write_fixed(request(1), sock, batch.data[1], LEN, 0, 0);
    is(next().value, LEN, "write from a registered buffer");
    is(host_receives(host, LEN, 100), 2, "arrive");
    host_sends(host, LEN, 7, 1);
    io_uring_prep_read_fixed(request(1), sock, batch.data[5], LEN, 0, 0);
    is(next().value, LEN, "read into a registered buffer");
    ok(frame_is(batch.data[5], LEN, 7), "its content");
    ring_must(io_uring_unregister_buffers(&ring));

    /* What tun would take for its struct tun_msg_ctl. */
    memset(forged, 0, sizeof forged);
    forged[0] = 2;
    batch.msgs[0].msg_hdr.msg_control = forged;
    io_uring_prep_sendmsg(request(1), sock, &batch.msgs[0].msg_hdr, 0);
    is(next().value, LEN, "sendmsg, control data of length 0");
    is(host_receives(host, LEN, 100), 1, "arrives");
    batch.msgs[0].msg_hdr.msg_controllen = 16;
    io_uring_prep_sendmsg(request(1), sock, &batch.msgs[0].msg_hdr, 0);
    is(next().value, -EINVAL, "control data is refused");
}

static void
test_refused(void)
{
    struct sockaddr address = { .sa_family = AF_UNSPEC };
    struct result result;
    int pipes[2];

    must(pipe(pipes));
    must(write(pipes[1], batch.data, LEN));
    io_uring_prep_send_zc(request(1), sock, batch.data, LEN, 0, 0);
    result = next();
    is(result.value, -EOPNOTSUPP, "send without a copy is refused");
    if (result.flags & IORING_CQE_F_MORE) {
        next();                 /* The notification. */
    }
    io_uring_prep_send(request(1), sock, batch.data, LEN, MSG_MORE);
    is(next().value, -EINVAL, "MSG_MORE");
    io_uring_prep_connect(request(1), sock, &address, sizeof address);
    is(next().value, -EOPNOTSUPP, "connect");
    io_uring_prep_accept(request(1), sock, NULL, NULL, 0);
    is(next().value, -EOPNOTSUPP, "accept");
    io_uring_prep_shutdown(request(1), sock, SHUT_RDWR);
    is(next().value, -EOPNOTSUPP, "shutdown");
    io_uring_prep_splice(request(1), pipes[0], -1, sock, -1, LEN, 0);
    is(next().value, -EINVAL, "splice to it");
    host_sends(host, LEN, 0, 1);
    io_uring_prep_splice(request(1), sock, -1, pipes[1], -1, LEN, 0);
    is(next().value, -EINVAL, "splice from it");
    is(recv(sock, batch.data, LEN, 0), LEN, "which takes no frame");
    is(host_receives(host, LEN, 0), 0, "nothing of it arrives");
    close(pipes[0]);
    close(pipes[1]);
}

static void
test_poll(void)
{
    struct result result;

    io_uring_prep_poll_multishot(request(1), sock, POLLIN);
    submit();
    ok(idle(), "multishot poll: nothing yet");
    for (int i = 0; i < 3; i++) {
        host_sends(host, LEN, i, 1);
        result = next();
        ok(result.value == POLLIN && result.flags & IORING_CQE_F_MORE,
           "for frame %d, and goes on", i);
        must(recv(sock, batch.data, LEN, 0));
    }
    ok(idle(), "no more than that");
    io_uring_prep_poll_remove(request(2), 1);
    result = next();
    ok(result.value == 0 || result.value == -ECANCELED, "removed");
    result = next();
    ok(result.value == 0 || result.value == -ECANCELED, "ended");
    host_sends(host, LEN, 0, 1);
    ok(idle(), "and it is quiet");
    must(recv(sock, batch.data, LEN, 0));
}

/* The kernel picks the buffers. */
static void
test_multishot(void)
{
    struct io_uring_buf_ring *buffers = aligned_alloc(4096, 4096);
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t) buffers,
        .ring_entries = N_BUFFERS,
        .bgid = GROUP,
    };
    struct result result = { .value = 0 };
    struct io_uring_sqe *sqe;
    bool good = true;

    ring_must(io_uring_register_buf_ring(&ring, &registration, 0));
    io_uring_buf_ring_init(buffers);
    for (int i = 0; i < N_BUFFERS; i++) {
        io_uring_buf_ring_add(buffers, batch.data[i], 2048, i,
                              io_uring_buf_ring_mask(N_BUFFERS), i);
    }
    io_uring_buf_ring_advance(buffers, N_BUFFERS);

    sqe = request(1);
    io_uring_prep_recv_multishot(sqe, sock, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    submit();
    ok(idle(), "multishot receive: nothing yet");
    host_sends(host, LEN, 0, N_BUFFERS + 2);
    for (int i = 0; i < N_BUFFERS; i++) {
        unsigned int buffer;

        result = next();
        buffer = result.flags >> IORING_CQE_BUFFER_SHIFT;
        good &= result.value == LEN && result.flags & IORING_CQE_F_BUFFER
                && buffer < N_BUFFERS
                && frame_is(batch.data[buffer], LEN, i);
    }
    ok(good, "%d frames, in order, from one request", N_BUFFERS);
    if (result.flags & IORING_CQE_F_MORE) {
        result = next();
    }
    ok(result.value == -ENOBUFS && !(result.flags & IORING_CQE_F_MORE),
       "it ends when there is no buffer");
    is(recv(sock, batch.data[0], LEN, 0), LEN, "which loses nothing");
    ok(frame_is(batch.data[0], LEN, N_BUFFERS), "the next frame is there");
    is(recv(sock, batch.data[0], LEN, 0), LEN, "and the one after it");
    ring_must(io_uring_unregister_buf_ring(&ring, GROUP));
    free(buffers);
}

static void
test_cancel(void)
{
    io_uring_prep_recv(request(1), sock, batch.data[0], LEN, 0);
    submit();
    ok(idle(), "a receive waits");
    io_uring_prep_cancel64(request(2), 1, 0);
    for (int i = 0; i < 2; i++) {
        struct result result = next();

        is(result.value, result.tag == 1 ? -ECANCELED : 0, "%s",
           result.tag == 1 ? "until it is cancelled" : "which succeeds");
    }
    host_sends(host, LEN, 3, 1);
    is(recv(sock, batch.data[0], LEN, 0), LEN, "it takes no frame then");
}

/* Sending again must send the same again: tun has consumed the virtio-net
 * header when it finds that there is no room for the rest. */
static void
test_retry(void)
{
    const char *tap = "ringb0";
    int q = limited_queue(tap), s = must(turbotap_socket(q, 0));
    int raw = host_socket(tap, ETH_P_IP);
    uint8_t frame[HELD_LEN], got[HELD_LEN + 1];
    size_t length = HELD_LEN - sizeof(struct virtio_net_hdr);
    struct iovec iov = { frame, HELD_LEN };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct pollfd pfd = { .fd = s, .events = POLLOUT };

    make_held_frame(frame);
    ok(hold_frame(s, raw, frame), "a frame fills the send buffer");
    for (int i = 0; i < 2; i++) {
        if (i) {
            io_uring_prep_sendmsg(request(1), s, &msg, 0);
        } else {
            io_uring_prep_send(request(1), s, frame, HELD_LEN, 0);
        }
        submit();
        ok(idle(), "%s waits for room", i ? "sendmsg" : "send");
        is(next().value, HELD_LEN, "and sends");
        is(recv_released(raw, got, sizeof got), length,
           "the frame before it is here");
    }
    is(poll(&pfd, 1, 20000), 1, "the last one leaves, too");
    is(recv_released(raw, got, sizeof got), length, "it is here");
    ok(!memcmp(got, frame + HELD_LEN - length, length),
       "whole: its header was not taken twice");
    close(raw);
    close(s);
    close(q);
}

static void
test_deletion(void)
{
    const char *tap = "ringd0";
    int q = tap_queue(tap, 0), s = must(turbotap_socket(q, 0));

    link_set(tap, true);
    io_uring_prep_recv(request(1), s, batch.data[0], LEN, 0);
    io_uring_prep_poll_multishot(request(2), s, POLLIN);
    submit();
    ok(idle(), "a receive and a poll wait");
    is(link_delete(tap), 0, "the device is deleted under them");
    for (int i = 0; i < 2; i++) {
        struct result result = next();

        if (result.tag == 1) {
            is(result.value, -EBADFD, "receiving fails");
        } else {
            /* tun's waker says POLLIN, and io_uring looks no further. */
            ok(result.value > 0, "poll reports it (%#lx)", result.value);
        }
    }
    io_uring_prep_send(request(3), s, batch.data[0], LEN, 0);
    is(next().value, -EBADFD, "sending fails");
    close(q);
    close(s);
}

/* A ring that goes away, with requests that wait, and what it holds. */
static void
test_exit(int references_of_sock)
{
    const char *tap = "ringe0";
    int q = tap_queue(tap, 0), s = must(turbotap_socket(q, 0));
    double end = seconds() + 20;

    link_set(tap, true);
    ring_must(io_uring_register_files(&ring, &s, 1));
    for (int i = 0; i < 4; i++) {
        struct io_uring_sqe *sqe = request(i);

        io_uring_prep_recv(sqe, 0, batch.data[i], LEN, 0);
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    submit();
    ok(idle(), "receives of a registered socket wait");
    close(s);
    close(q);
    ok(if_nametoindex(tap), "the ring keeps the device");
    io_uring_queue_exit(&ring);
    /* The kernel takes a ring apart when the process has let go of it. */
    while ((if_nametoindex(tap) || references() != references_of_sock)
           && seconds() < end) {
        usleep(1000);
    }
    ok(!if_nametoindex(tap), "until it goes");
    is(references(), references_of_sock, "and it keeps no socket");
}

int
main(void)
{
    struct io_uring_params params = { .flags = 0 };
    int error = io_uring_queue_init_params(64, &ring, &params);
    int references_of_sock;

    if (error) {
        printf("1..0 # SKIP no io_uring: %s\n", strerror(-error));
        return 0;
    }
    new_netns();
    queue = tap_queue(name, 0);
    link_set(name, true);
    sock = must(turbotap_socket(queue, 0));
    host = host_socket(name, ETH_TYPE);
    references_of_sock = references();

    test_receive();
    test_send();
    test_refused();
    test_poll();
    test_multishot();
    test_cancel();
    test_retry();
    test_deletion();
    test_exit(references_of_sock);
    return done();
}
