/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* UDP between sockets, for the benchmark: as programs have it, with all that
 * the hosts' stacks do on the way.
 *
 * The sender sends datagrams until SIGTERM, as fast as its socket takes them.
 * The receiver says when it is ready, counts the datagrams that it reads in a
 * window that opens some time after the first, and prints a JSON object.  With
 * -g, the sender hands over many datagrams at once (UDP_SEGMENT) and the
 * receiver takes them so (UDP_GRO), see udp(7); else it is sendmmsg(2) and
 * recvmmsg(2) with a datagram each.
 *
 * Must not know what is in between. */

#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "bench-cpu.h"
#include "bench-program.h"

#define PORT 4791
#define BATCH 32

/* The most octets, and segments (UDP_MAX_SEGMENTS before Linux 6.9), of a
 * call with UDP_SEGMENT. */
#define MAX_OCTETS 65507
#define MAX_SEGMENTS 64

/* What waits for the receiver, in octets, counted as the kernel does. */
#define RECEIVE_BUFFER (16 * 1024 * 1024)

/* Stops a receiver that gets nothing, in seconds. */
#define PATIENCE 10

static int
open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (fd < 0) {
        die("socket");
    }
    return fd;
}

static void
set_option(int fd, int level, int option, int value, const char *name)
{
    if (setsockopt(fd, level, option, &value, sizeof value)) {
        die(name);
    }
}

static void
send_datagrams(const char *address, unsigned int size, bool segments)
{
    static char data[MAX_OCTETS];
    struct sockaddr_in sin = { .sin_family = AF_INET,
                               .sin_port = htons(PORT) };
    unsigned int n_segments = MAX_OCTETS / size;
    struct mmsghdr msgs[BATCH];
    struct iovec iov = { .iov_base = data, .iov_len = size };
    int fd = open_socket();

    if (inet_pton(AF_INET, address, &sin.sin_addr) != 1) {
        die_of(address, EINVAL);
    }
    if (connect(fd, (struct sockaddr *) &sin, sizeof sin)) {
        die("connect");
    }
    if (segments) {
        set_option(fd, SOL_UDP, UDP_SEGMENT, size, "UDP_SEGMENT");
        if (n_segments > MAX_SEGMENTS) {
            n_segments = MAX_SEGMENTS;
        }
        iov.iov_len = size * n_segments;
    }
    memset(msgs, 0, sizeof msgs);
    for (int i = 0; i < BATCH; i++) {
        msgs[i].msg_hdr.msg_iov = &iov;
        msgs[i].msg_hdr.msg_iovlen = 1;
    }

    while (!stop) {
        /* ENOBUFS: a queue on the way is full, as it should be.  ECONNREFUSED:
         * the receiver is not there any more. */
        if (sendmmsg(fd, msgs, segments ? 1 : BATCH, 0) < 0
            && errno != ENOBUFS && errno != ECONNREFUSED && errno != EINTR) {
            die("sendmmsg");
        }
    }
    close(fd);
}

/* Returns how many datagrams are in the message 'hdr' of 'size' octets. */
static uint64_t
count_datagrams(struct msghdr *hdr, unsigned int size)
{
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr); cmsg;
         cmsg = CMSG_NXTHDR(hdr, cmsg)) {
        if (cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_GRO) {
            int segment;

            memcpy(&segment, CMSG_DATA(cmsg), sizeof segment);
            return (size + segment - 1) / segment;
        }
    }
    return 1;
}

struct receiver {
    int fd;
    struct mmsghdr msgs[BATCH];
    struct iovec iovs[BATCH];
    char control[BATCH][CMSG_SPACE(sizeof(int))];
    char data[BATCH][65536];
    uint64_t datagrams, bytes;  /* So far. */
};

/* Waits for datagrams and counts them.  Returns false if there were none for
 * PATIENCE seconds. */
static bool
receive(struct receiver *r)
{
    int n;

    for (int i = 0; i < BATCH; i++) {
        struct msghdr *hdr = &r->msgs[i].msg_hdr;

        r->iovs[i].iov_base = r->data[i];
        r->iovs[i].iov_len = sizeof r->data[i];
        memset(hdr, 0, sizeof *hdr);
        hdr->msg_iov = &r->iovs[i];
        hdr->msg_iovlen = 1;
        hdr->msg_control = r->control[i];
        hdr->msg_controllen = sizeof r->control[i];
    }
    n = recvmmsg(r->fd, r->msgs, BATCH, MSG_WAITFORONE, NULL);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return false;
        }
        die("recvmmsg");
    }
    for (int i = 0; i < n; i++) {
        r->datagrams += count_datagrams(&r->msgs[i].msg_hdr,
                                        r->msgs[i].msg_len);
        r->bytes += r->msgs[i].msg_len;
    }
    return true;
}

/* Receives until now() is 'end'. */
static void
receive_until(struct receiver *r, double end)
{
    while (!stop && now() < end && receive(r)) {
        continue;
    }
}

static void
receive_datagrams(double delay, double seconds, bool segments)
{
    static struct receiver r;
    const struct sockaddr_in sin = { .sin_family = AF_INET,
                                     .sin_port = htons(PORT) };
    const struct timeval patience = { .tv_sec = PATIENCE };
    uint64_t before[BENCH_N_CPU_TIMES], after[BENCH_N_CPU_TIMES];
    uint64_t datagrams, bytes;
    int cpu = bench_open_cpu();
    double start;

    r.fd = open_socket();
    set_option(r.fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER,
               "SO_RCVBUFFORCE");
    if (segments) {
        set_option(r.fd, SOL_UDP, UDP_GRO, 1, "UDP_GRO");
    }
    if (setsockopt(r.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)
        || bind(r.fd, (const struct sockaddr *) &sin, sizeof sin)) {
        die("bind");
    }
    puts("{\"ready\": true}");
    fflush(stdout);

    receive(&r);
    receive_until(&r, now() + delay);
    start = now();
    datagrams = r.datagrams;
    bytes = r.bytes;
    bench_read_cpu(cpu, before);
    receive_until(&r, start + seconds);
    bench_read_cpu(cpu, after);

    printf("{\"seconds\": %.6f, \"datagrams\": %"PRIu64", \"bytes\": %"PRIu64
           ", \"cpu\": ", now() - start, r.datagrams - datagrams,
           r.bytes - bytes);
    bench_print_cpu(before, after);
    printf("}\n");
    close(r.fd);
    close(cpu);
}

static void
usage(void)
{
    fprintf(stderr,
            "usage: turbotap-udp [-g] [-s SIZE] ADDRESS\n"
            "       turbotap-udp -l [-g] [-w SECONDS] [-t SECONDS]\n"
            "  -w: when the window begins; -t: how long it is\n");
    exit(EXIT_FAILURE);
}

int
main(int argc, char *argv[])
{
    bool listening = false, segments = false;
    double delay = 0, seconds = 1;
    unsigned int size = 1200;
    int opt;

    while ((opt = getopt(argc, argv, "lgs:w:t:")) != -1) {
        switch (opt) {
        case 'l': listening = true; break;
        case 'g': segments = true; break;
        case 's': size = strtoul(optarg, NULL, 10); break;
        case 'w': delay = strtod(optarg, NULL); break;
        case 't': seconds = strtod(optarg, NULL); break;
        default: usage();
        }
    }
    if (optind + !listening != argc || !size || size > MAX_OCTETS
        || seconds <= 0) {
        usage();
    }
    catch_signals();
    if (listening) {
        receive_datagrams(delay, seconds, segments);
    } else {
        send_datagrams(argv[optind], size, segments);
    }
    return 0;
}
