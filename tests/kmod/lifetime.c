// SPDX-License-Identifier: Apache-2.0
/*
 * Who may go first: the queue's own descriptor, its sockets, the device, the
 * device's network namespace, the module?  In any order, with a caller waiting
 * or not.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"
#include <sys/epoll.h>

#define LEN 64

static uint8_t buffer[2048];

/* Sends a frame.  Returns 0 or errno. */
static int
send_error(int fd)
{
    make_frame(buffer, LEN, 0);
    return send(fd, buffer, LEN, MSG_DONTWAIT) == LEN ? 0 : errno;
}

static int
receive_error(int fd)
{
    return recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) >= 0 ? 0 : errno;
}

static short
events(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLOUT };

    return poll(&pfd, 1, 0) < 0 ? -1 : pfd.revents;
}

static bool
exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

/* All orders of these. */
enum step { CLOSE_QUEUE, CLOSE_A, CLOSE_B, DELETE, DETACH, N_STEPS };

/* Takes a device with a queue and two sockets through 'steps'.  Returns false
 * and says where if something was not as it should be. */
static bool
run_order(const enum step steps[N_STEPS])
{
    const char *name = "order0";
    int q = tap_queue(name, 0), keep = tap_queue(name, 0);
    int fds[2] = {
        must(turbotap_socket(q, 0)), must(turbotap_socket(q, 0)),
    };
    bool deleted = false, detached = false;

    link_set(name, true);
    for (int i = 0; i < N_STEPS; i++) {
        switch (steps[i]) {
        case CLOSE_QUEUE:
            close(q);
            q = -1;
            break;
        case CLOSE_A:
        case CLOSE_B:
            close(fds[steps[i] - CLOSE_A]);
            fds[steps[i] - CLOSE_A] = -1;
            break;
        case DELETE:
            must(link_delete(name));
            deleted = true;
            break;
        case DETACH:
            if (q >= 0 && tap_attach(q, false) == 0) {
                detached = true;
            }
            break;
        case N_STEPS:
            break;
        }
        for (int j = 0; j < 2; j++) {
            int want = deleted ? EBADFD : 0;

            if (fds[j] < 0) {
                continue;
            }
            if (send_error(fds[j]) != want
                || receive_error(fds[j]) != (deleted ? EBADFD : EAGAIN)
                || events(fds[j]) != (deleted ? POLLERR : POLLOUT)) {
                printf("# step %d of %d%d%d%d%d, socket %d: send %d, recv %d, "
                       "poll %#x\n", i, steps[0], steps[1], steps[2],
                       steps[3], steps[4], j, send_error(fds[j]),
                       receive_error(fds[j]), events(fds[j]));
                close(keep);
                return false;
            }
        }
    }
    close(keep);
    if (exists(name)) {
        printf("# the device is still there%s\n", detached ? ", detached" : "");
        return false;
    }
    return true;
}

/* Runs the orders whose number modulo N_PARTS is '*part_', in a namespace of
 * their own.  Returns how many were right, of 120 / N_PARTS. */
enum { N_PARTS = 6 };

static int
run_orders(void *part_)
{
    int n = 0, good = 0;

    new_netns();
    for (int code = 0; code < 5 * 5 * 5 * 5 * 5; code++) {
        enum step steps[N_STEPS];
        unsigned int seen = 0;

        for (int i = 0, rest = code; i < N_STEPS; i++, rest /= N_STEPS) {
            steps[i] = rest % N_STEPS;
            seen |= 1 << steps[i];
        }
        if (seen == (1 << N_STEPS) - 1 && n++ % N_PARTS == *(int *) part_) {
            good += run_order(steps);
        }
    }
    fflush(stdout);
    return good;
}

/* Most of the time goes into waiting for the kernel to delete devices, so
 * several processes do it at once. */
static void
test_orders(void)
{
    pid_t children[N_PARTS];
    int good = 0;

    for (int i = 0; i < N_PARTS; i++) {
        children[i] = start_child(run_orders, &i);
    }
    for (int i = 0; i < N_PARTS; i++) {
        good += end_child(children[i]);
    }
    is(good, 120, "all orders of close, detach and delete");
}

static void
test_close(void)
{
    const char *name = "close0";
    int q = tap_queue(name, 0), host;
    int s = must(turbotap_socket(q, TURBOTAP_NONBLOCK)), second;

    link_set(name, true);
    host = host_socket(name, ETH_TYPE);
    close(q);
    host_sends(host, LEN, 1, 1);
    is(recv(s, buffer, sizeof buffer, 0), LEN,
       "receives when the queue's own fd is closed");
    is(send_error(s), 0, "sends");
    is(host_receives(host, LEN, 0), 1, "which arrives");
    close(s);
    ok(!exists(name), "the last socket takes the device with it");

    q = tap_queue(name, 0);
    link_set(name, true);
    s = must(turbotap_socket(q, TURBOTAP_NONBLOCK));
    second = must(turbotap_socket(q, TURBOTAP_NONBLOCK));
    close(s);
    is(send_error(second), 0, "the second socket sends without the first");
    close(second);
    is(write(q, buffer, LEN), LEN, "the queue's own fd without both");

    must(ioctl(q, TUNSETPERSIST, 1));
    s = must(turbotap_socket(q, 0));
    close(q);
    close(s);
    ok(exists(name), "a persistent device outlives both");
    q = tap_queue(name, 0);
    must(ioctl(q, TUNSETPERSIST, 0));
    close(q);
    ok(!exists(name), "until it is not");
    close(host);
}

/* Frames of many flows, which spread over the queues. */
static void
send_flows(int host, int n)
{
    for (int i = 0; i < n; i++) {
        uint8_t frame[LEN] = {
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 0,
            0x45, 0, 0, LEN - ETH_LEN, 0, 0, 0, 0, 64, IPPROTO_UDP, 0, 0,
            10, 0, 0, 1, 10, 0, 0, 2, 4 + i / 256, i % 256,
        };

        must(send(host, frame, LEN, 0));
    }
}

static int
drain(int fd)
{
    int n = 0;

    while (recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) >= 0) {
        n++;
    }
    return n;
}

static void
test_queues(void)
{
    const char *name = "queues0";
    int q[2] = { tap_queue(name, 0), tap_queue(name, 0) };
    int s[2] = { must(turbotap_socket(q[0], 0)),
                 must(turbotap_socket(q[1], 0)) };
    int host, a, b;

    link_set(name, true);
    host = host_socket(name, ETH_P_IP);
    send_flows(host, 100);
    a = drain(s[0]);
    b = drain(s[1]);
    ok(a && b && a + b == 100, "two queues share the flows: %d + %d", a, b);

    must(tap_attach(q[1], false));
    send_flows(host, 100);
    is(drain(s[0]), 100, "a detached queue receives nothing");
    fails(recv(s[1], buffer, LEN, MSG_DONTWAIT), EAGAIN, "and does not fail");
    is(events(s[1]), POLLOUT, "poll() says so");
    is(send_error(s[1]), 0, "it still sends");
    must(tap_attach(q[1], true));
    send_flows(host, 100);
    a = drain(s[0]);
    b = drain(s[1]);
    ok(a && b && a + b == 100, "attached again: %d + %d", a, b);

    close(q[1]);
    send_flows(host, 100);
    a = drain(s[0]);
    b = drain(s[1]);
    ok(a && b && a + b == 100, "without its own fd: %d + %d", a, b);
    close(s[1]);
    send_flows(host, 100);
    is(drain(s[0]), 100, "without its socket: the other queue has it all");

    close(host);
    close(s[0]);
    close(q[0]);
}

static void
test_unattached(void)
{
    const char *name = "late0";
    int q = must(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    int s = must(turbotap_socket(q, 0));
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };

    is(send_error(s), EBADFD, "sending before there is a device");
    is(receive_error(s), EBADFD, "receiving");
    fails(recv(s, buffer, LEN, 0), EBADFD, "receiving, blocking");
    is(events(s), POLLERR, "poll()");
    strcpy(ifr.ifr_name, name);
    must(ioctl(q, TUNSETIFF, &ifr));
    link_set(name, true);
    is(send_error(s), 0, "it works once there is one");

    must(link_delete(name));
    is(send_error(s), EBADFD, "not when that is deleted");
    must(ioctl(q, TUNSETIFF, &ifr));
    link_set(name, true);
    is(send_error(s), 0, "and again with the next");
    is(receive_error(s), EAGAIN, "both ways");
    close(s);
    close(q);
}

/* A device that goes away under somebody who waits for it. */
enum how { BY_RECV, BY_RECVMMSG, BY_POLL, BY_EPOLL, N_HOW };

struct waiter {
    enum how how;
    int fd;
    volatile pid_t tid;
    long result;
    int error;
};

static void *
wait_for_frame(void *waiter_)
{
    struct waiter *w = waiter_;
    struct pollfd pfd = { .fd = w->fd, .events = POLLIN };
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    struct iovec iov = { buffer, sizeof buffer };
    struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
    int epoll = must(epoll_create1(EPOLL_CLOEXEC));

    must(epoll_ctl(epoll, EPOLL_CTL_ADD, w->fd, &event));
    w->tid = gettid();
    errno = 0;
    switch (w->how) {
    case BY_RECV:
        w->result = recv(w->fd, buffer, sizeof buffer, 0);
        break;
    case BY_RECVMMSG:
        w->result = recvmmsg(w->fd, &m, 1, MSG_WAITFORONE, NULL);
        break;
    case BY_POLL:
        w->result = poll(&pfd, 1, 20000) == 1 && pfd.revents & POLLERR;
        break;
    case BY_EPOLL:
        w->result = epoll_wait(epoll, &event, 1, 20000) == 1
                    && event.events & EPOLLERR;
        break;
    case N_HOW:
        break;
    }
    w->error = errno;
    close(epoll);
    return NULL;
}

static void
test_deletion(void)
{
    static const char *const names[] = {
        "recv()", "recvmmsg()", "poll()", "epoll",
    };
    const char *name = "gone0";

    for (enum how how = 0; how < N_HOW; how++) {
        int q = tap_queue(name, 0);
        struct waiter w = { .how = how, .fd = must(turbotap_socket(q, 0)) };
        pthread_t thread;

        link_set(name, true);
        pthread_create(&thread, NULL, wait_for_frame, &w);
        while (!w.tid) {
            sched_yield();
        }
        wait_until_blocked(w.tid);
        is(link_delete(name), 0, "the device is deleted under %s", names[how]);
        pthread_join(thread, NULL);
        if (how <= BY_RECVMMSG) {
            ok(w.result == -1 && w.error == EFAULT, "which ends (%s)",
               strerror(w.error));
        } else {
            is(w.result, 1, "which reports it");
        }
        is(send_error(w.fd), EBADFD, "then: no sending");
        is(receive_error(w.fd), EBADFD, "no receiving");
        is(events(w.fd), POLLERR, "POLLERR");
        close(how & 1 ? q : w.fd);
        close(how & 1 ? w.fd : q);
    }
}

static int
in_other_netns(void *channel_)
{
    int channel = *(int *) channel_, host;
    char byte = 0;

    new_netns();
    must(write(channel, &byte, 1));
    must(read(channel, &byte, 1));          /* The device is here. */
    link_set("moved0", true);
    host = host_socket("moved0", ETH_TYPE);
    host_sends(host, LEN, 5, 1);
    must(write(channel, &byte, 1));
    must(read(channel, &byte, 1));          /* It has received and sent. */
    return host_receives(host, LEN, 0) != 1;
}

static void
test_netns(void)
{
    const char *name = "moved0";
    int q = tap_queue(name, 0), channel[2], netns;
    int s = must(turbotap_socket(q, 0));
    struct pollfd pfd = { .fd = s, .events = POLLIN };
    char byte = 0, path[64];
    double end = seconds() + 60;
    pid_t child;

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, channel));
    child = start_child(in_other_netns, &channel[1]);
    must(read(channel[0], &byte, 1));
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int) child);
    netns = must(open(path, O_RDONLY | O_CLOEXEC));
    is(link_move(name, netns), 0, "the device moves to another namespace");
    close(netns);
    ok(!exists(name), "it is not here any more");
    must(write(channel[0], &byte, 1));
    must(read(channel[0], &byte, 1));
    is(recv(s, buffer, sizeof buffer, 0), LEN, "it receives there");
    ok(frame_is(buffer, LEN, 5), "what was sent there");
    is(send_error(s), 0, "it sends");
    must(write(channel[0], &byte, 1));
    is(end_child(child), 0, "which arrives there");
    ok(poll(&pfd, 1, 20000) == 1 && pfd.revents == POLLERR,
       "the namespace goes, and the device with it");
    /* It is down for a moment before it is gone. */
    while (send_error(s) == EIO && seconds() < end) {
        usleep(1000);
    }
    is(send_error(s), EBADFD, "no sending");
    is(receive_error(s), EBADFD, "no receiving");
    close(q);
    close(s);
    close(channel[0]);
    close(channel[1]);
}

static int
killed(void *channel)
{
    char byte = 0;
    int q = tap_queue("killed0", 0);

    for (int i = 0; i < 100; i++) {
        must(turbotap_socket(q, 0));
    }
    close(q);
    must(write(*(int *) channel, &byte, 1));
    for (;;) {
        pause();
    }
    return 0;
}

static void
test_kill(void)
{
    int channel[2];
    char byte;
    pid_t child;

    must(pipe(channel));
    child = start_child(killed, &channel[1]);
    must(read(channel[0], &byte, 1));
    ok(exists("killed0"), "a process with 100 sockets");
    kill(child, SIGKILL);
    is(end_child(child), -1, "is killed");
    ok(!exists("killed0"), "and leaves nothing");
    close(channel[0]);
    close(channel[1]);
}

static long
unload(const char *module)
{
    return syscall(SYS_delete_module, module, O_NONBLOCK);
}

static void
test_module(void)
{
    int q = tap_queue("mod0", 0), control;
    int s = must(turbotap_socket(q, 0));
    bool good = true;

    close(q);
    fails(unload("turbotap"), EAGAIN, "a socket keeps the module");
    fails(unload("tun"), EAGAIN, "and the tun module");
    close(s);
    control = must(open("/dev/net/turbotap", O_RDWR));
    fails(unload("turbotap"), EAGAIN, "the open device does, too");
    close(control);
    for (int i = 0; i < 20; i++) {
        good &= unload("turbotap") == 0;
        good &= access("/dev/net/turbotap", F_OK) == -1;
        good &= system("modprobe turbotap") == 0;
        q = tap_queue("mod0", 0);
        s = turbotap_socket(q, 0);
        good &= s >= 0;
        close(q);
        close(s);
    }
    ok(good, "unloaded and loaded 20 times");
}

int
main(void)
{
    new_netns();
    test_close();
    test_queues();
    test_unattached();
    test_deletion();
    test_orders();
    test_netns();
    test_kill();
    test_module();
    return done();
}
