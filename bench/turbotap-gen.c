/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The generator of the benchmark: sends UDP frames (see bench-frame.h) out of
 * a network device, as fast as it can or at a given rate, for a given time or
 * until SIGTERM.  It says when it begins, and prints what became of the frames
 * as one JSON object in the end.
 *
 * It uses an AF_PACKET socket that bypasses the queueing discipline, and
 * sendmmsg().  A PACKET_TX_RING is no faster here (measured: 0.9 to 1.0 us per
 * 64-octet frame into a veth, sendmmsg() 0.7 to 0.9) and would be unsafe: its
 * pages go out without a copy, and its slots are free again when the device
 * disowns the frame, not when somebody has read it.  A frame that the device
 * refuses is counted and not sent again.  Must not know what is behind the
 * device. */

#define _GNU_SOURCE 1

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench-frame.h"

/* Frames in one sendmmsg(): the more, the less its fixed cost matters; the
 * kernel takes 1024 at most. */
#define BATCH_MAX 1024

struct config {
    const char *device;
    uint32_t run;
    size_t size;                /* Of a frame, in octets. */
    unsigned int n_flows;
    unsigned int batch;         /* Frames in a system call. */
    double seconds;
    uint64_t count;             /* Most frames to send. */
    double rate;                /* Frames per second, 0: no limit. */
    const char *fault;          /* What to do wrong, NULL: nothing. */
};

/* A frame that is sent again and again with another sequence number. */
struct slot {
    uint8_t *frame;
    uint64_t sum;               /* Of UDP, all but the sequence number. */
    unsigned int flow;
};

struct result {
    uint64_t sent;              /* Frames that the device took. */
    uint64_t refused;           /* Frames that it had no room for. */
    uint64_t errors;            /* Frames that failed otherwise. */
    int last_error;             /* What the last of these failed with. */
    double seconds;
};

static volatile sig_atomic_t stop;

static void
on_signal(int signo)
{
    (void) signo;
    stop = 1;
}

static void
die(const char *what)
{
    fprintf(stderr, "turbotap-gen: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static double
now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void
sleep_until(double when)
{
    struct timespec ts = { .tv_sec = when };

    ts.tv_nsec = (when - ts.tv_sec) * 1e9;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* Returns a socket that sends out of 'device' and receives nothing. */
static int
open_socket(const char *device)
{
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET,
        .sll_ifindex = if_nametoindex(device),
    };
    int on = 1, sndbuf = 8 << 20;
    int fd;

    if (!sll.sll_ifindex) {
        die(device);
    }
    fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0) {
        die("socket");
    }
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on)) {
        die("PACKET_QDISC_BYPASS");
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof sndbuf)) {
        die("SO_SNDBUFFORCE");
    }
    if (bind(fd, (struct sockaddr *) &sll, sizeof sll)) {
        die("bind");
    }
    return fd;
}

static void
init_slot(struct slot *slot, const struct config *config, unsigned int flow)
{
    /* Not the address of the device at the other end: its host then drops the
     * frame at once, and the cost of a protocol stack is not measured. */
    static const uint8_t dst[ETH_ALEN] = { 2, 0, 0, 0, 0, 0xfe };
    static const uint8_t src[ETH_ALEN] = { 2, 0, 0, 0, 0, 0xfd };
    struct bench_headers *h;
    size_t udp_len = config->size - offsetof(struct bench_headers, udp);

    slot->flow = flow;
    slot->frame = malloc(config->size);
    if (!slot->frame) {
        die("malloc");
    }
    for (size_t i = sizeof *h; i < config->size; i++) {
        slot->frame[i] = bench_pattern(flow, i);
    }

    h = (struct bench_headers *) slot->frame;
    memset(h, 0, sizeof *h);
    memcpy(h->eth.h_dest, dst, sizeof dst);
    memcpy(h->eth.h_source, src, sizeof src);
    h->eth.h_proto = htons(ETH_P_IP);
    h->ip.version = 4;
    h->ip.ihl = 5;
    h->ip.tot_len = htons(config->size - sizeof h->eth);
    h->ip.frag_off = htons(IP_DF);
    h->ip.ttl = 64;
    h->ip.protocol = IPPROTO_UDP;
    h->ip.saddr = htonl(BENCH_SRC_IP);
    h->ip.daddr = htonl(BENCH_DST_IP);
    h->ip.check = bench_fold(bench_sum(&h->ip, sizeof h->ip, 0));
    h->udp.source = htons(BENCH_FIRST_PORT + flow);
    h->udp.dest = htons(BENCH_DST_PORT);
    h->udp.len = htons(udp_len);
    h->payload.run = htonl(config->run);
    h->payload.flow = htonl(flow);
    slot->sum = bench_sum(&h->udp, udp_len, bench_pseudo_sum(h));
}

/* Gives the frame of 'slot' the next sequence number of its flow. */
static void
next_frame(struct slot *slot, uint64_t *seqs)
{
    struct bench_headers *h = (struct bench_headers *) slot->frame;
    uint64_t seq = htobe64(seqs[slot->flow]++);
    uint16_t check = bench_fold(bench_sum(&seq, sizeof seq, slot->sum));

    memcpy(&h->payload.seq, &seq, sizeof seq);
    h->udp.check = check ? check : 0xffff;
}

/* Spoils the first two of the frames at 'iovs' as 'fault' says, so that it can
 * be shown that the sink notices.  The next call mends a corrupt one. */
static void
spoil(struct iovec *iovs, const char *fault)
{
    void *first = iovs[0].iov_base;

    if (!strcmp(fault, "corrupt")) {
        ((uint8_t *) first)[iovs[0].iov_len - 1] ^= 1;
    } else if (!strcmp(fault, "duplicate")) {
        iovs[1].iov_base = first;
    } else {
        iovs[0].iov_base = iovs[1].iov_base;
        iovs[1].iov_base = first;
    }
}

/* Sends the 'n' messages at 'msgs', each tried once. */
static void
send_batch(int fd, struct mmsghdr *msgs, unsigned int n, struct result *result)
{
    for (unsigned int i = 0; i < n; ) {
        int retval = sendmmsg(fd, &msgs[i], n - i, MSG_DONTWAIT);

        if (retval > 0) {
            result->sent += retval;
            i += retval;
        } else if (errno == ENOBUFS || errno == EAGAIN) {
            result->refused++;
            i++;
        } else if (errno != EINTR) {
            result->errors++;
            result->last_error = errno;
            i++;
        }
    }
}

static void
generate(int fd, const struct config *config, struct result *result)
{
    /* Enough slots that no two messages of a batch share one, and a multiple
     * of the flows. */
    unsigned int n_slots = ((config->batch + config->n_flows - 1)
                            / config->n_flows * config->n_flows);
    struct mmsghdr *msgs = calloc(config->batch, sizeof *msgs);
    struct iovec *iovs = calloc(config->batch, sizeof *iovs);
    struct slot *slots = calloc(n_slots, sizeof *slots);
    uint64_t *seqs = calloc(config->n_flows, sizeof *seqs);
    double start, end, t;
    uint64_t tried = 0;
    unsigned int next = 0;

    if (!msgs || !iovs || !slots || !seqs) {
        die("calloc");
    }
    for (unsigned int i = 0; i < n_slots; i++) {
        init_slot(&slots[i], config, i % config->n_flows);
    }
    for (unsigned int i = 0; i < config->batch; i++) {
        iovs[i].iov_len = config->size;
        msgs[i].msg_hdr.msg_iov = &iovs[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }

    puts("{\"ready\": true}");
    fflush(stdout);
    start = now();
    end = start + config->seconds;
    for (t = start; t < end && tried < config->count && !stop; t = now()) {
        unsigned int n = config->batch;

        if (n > config->count - tried) {
            n = config->count - tried;
        }
        for (unsigned int i = 0; i < n; i++) {
            next_frame(&slots[next], seqs);
            iovs[i].iov_base = slots[next].frame;
            next = next + 1 < n_slots ? next + 1 : 0;
        }
        if (config->fault && !tried) {
            spoil(iovs, config->fault);
            send_batch(fd, msgs, n, result);
            spoil(iovs, config->fault);
        } else {
            send_batch(fd, msgs, n, result);
        }
        tried += n;
        if (config->rate > 0) {
            sleep_until(start + tried / config->rate);
        }
    }
    result->seconds = t - start;

    for (unsigned int i = 0; i < n_slots; i++) {
        free(slots[i].frame);
    }
    free(seqs);
    free(slots);
    free(iovs);
    free(msgs);
}

static void
print_result(const struct result *result)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    printf("{\"sent\": %"PRIu64", \"refused\": %"PRIu64
           ", \"errors\": %"PRIu64", \"last_error\": \"%s\""
           ", \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
           result->sent, result->refused, result->errors,
           result->last_error ? strerror(result->last_error) : "",
           result->seconds,
           ru.ru_utime.tv_sec + ru.ru_utime.tv_usec / 1e6
           + ru.ru_stime.tv_sec + ru.ru_stime.tv_usec / 1e6);
}

static void
usage(void)
{
    fprintf(stderr,
            "usage: turbotap-gen -i DEVICE [-s OCTETS] [-f FLOWS] [-b BATCH]\n"
            "                    [-t SECONDS] [-n FRAMES] [-r FRAMES/S]"
            " [-x RUN]\n"
            "                    [-e corrupt|duplicate|reorder]\n"
            "  OCTETS: of a frame without FCS, %zu to %d\n"
            "  RUN: number that the frames carry, for turbotap-sink\n"
            "  -e: do this wrong, once\n",
            BENCH_MIN_SIZE, BENCH_MAX_SIZE);
    exit(EXIT_FAILURE);
}

int
main(int argc, char *argv[])
{
    struct config config = {
        .size = 64,
        .n_flows = 1,
        .batch = 256,
        .seconds = 1,
        .count = UINT64_MAX,
    };
    struct sigaction sa = { .sa_handler = on_signal };
    struct result result = { .sent = 0 };
    int opt, fd;

    while ((opt = getopt(argc, argv, "i:s:f:b:t:n:r:x:e:")) != -1) {
        switch (opt) {
        case 'i': config.device = optarg; break;
        case 's': config.size = strtoul(optarg, NULL, 10); break;
        case 'f': config.n_flows = strtoul(optarg, NULL, 10); break;
        case 'b': config.batch = strtoul(optarg, NULL, 10); break;
        case 't': config.seconds = strtod(optarg, NULL); break;
        case 'n': config.count = strtoull(optarg, NULL, 10); break;
        case 'r': config.rate = strtod(optarg, NULL); break;
        case 'x': config.run = strtoul(optarg, NULL, 10); break;
        case 'e': config.fault = optarg; break;
        default: usage();
        }
    }
    if (!config.device || optind != argc
        || config.size < BENCH_MIN_SIZE || config.size > BENCH_MAX_SIZE
        || !config.n_flows || config.n_flows > BENCH_MAX_FLOWS
        || !config.batch || config.batch > BATCH_MAX
        || config.seconds <= 0 || config.seconds > 3600
        || (config.fault && (config.n_flows > 1 || config.batch < 2
                             || (strcmp(config.fault, "corrupt")
                                 && strcmp(config.fault, "duplicate")
                                 && strcmp(config.fault, "reorder"))))) {
        usage();
    }

    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    fd = open_socket(config.device);
    generate(fd, &config, &result);
    print_result(&result);
    close(fd);
    return 0;
}
