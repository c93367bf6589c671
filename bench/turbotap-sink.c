/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The sink of the benchmark, in one of two modes; either prints one JSON object
 * in the end.
 *
 * "count": reads the kernel's counters of a network device and of the
 * machine's CPU time at the start and at the end of a window.  It looks at no
 * frame and so costs nothing: throughput is measured this way.
 *
 * "verify": looks at each frame of one run (see bench-frame.h), through an
 * AF_PACKET ring.  Corruption, duplicates, and frames of one flow out of order
 * are counted; so is what the ring had no room for.  This takes CPU time from
 * what is measured: its rate is no result.  It says when it is ready, and ends
 * on SIGTERM.
 *
 * Must not know what is behind the device. */

#define _GNU_SOURCE 1

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench-cpu.h"
#include "bench-frame.h"
#include "bench-program.h"

/* 64 MiB in 64 blocks. */
#define BLOCK_SIZE (1 << 20)
#define N_BLOCKS 64

/* How far behind the highest sequence number of a flow a frame can be told to
 * be a duplicate or just late. */
#define WINDOW 4096

struct flow {
    uint64_t next;              /* Highest sequence number seen, plus 1. */
    uint64_t seen[WINDOW / 64]; /* Bit 'seq' % WINDOW: it was seen. */
};

struct verdict {
    uint64_t frames;            /* Of this run. */
    uint64_t corrupt;           /* Any octet of it wrong. */
    uint64_t duplicates;
    uint64_t reordered;         /* Behind a later one of its flow. */
    uint64_t lost;              /* Gaps between the first and the last. */
    uint64_t foreign;           /* Anything else that the device got. */
    uint64_t ring_drops;        /* Frames that the ring had no room for. */
};

/* Counting. */

struct sample {
    double when;
    uint64_t packets, bytes, dropped;
    uint64_t cpu[BENCH_N_CPU_TIMES];
};

struct counters {
    int packets, bytes, dropped;
    int cpu;
};

static int
open_counter(const char *device, const char *name)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "/sys/class/net/%s/statistics/%s", device,
             name);
    fd = open(path, O_RDONLY);
    if (fd < 0) {
        die(path);
    }
    return fd;
}

static uint64_t
read_counter(int fd)
{
    char buf[32];
    ssize_t n = pread(fd, buf, sizeof buf - 1, 0);

    if (n < 0) {
        die("read");
    }
    buf[n] = '\0';
    return strtoull(buf, NULL, 10);
}

static void
take_sample(const struct counters *counters, struct sample *sample)
{
    sample->when = now();
    sample->packets = read_counter(counters->packets);
    sample->bytes = read_counter(counters->bytes);
    sample->dropped = read_counter(counters->dropped);
    bench_read_cpu(counters->cpu, sample->cpu);
}

static void
count(const char *device, double delay, double seconds)
{
    struct counters counters = {
        .packets = open_counter(device, "rx_packets"),
        .bytes = open_counter(device, "rx_bytes"),
        .dropped = open_counter(device, "rx_dropped"),
        .cpu = bench_open_cpu(),
    };
    struct sample a, b;
    double start = now();

    sleep_until(start + delay);
    take_sample(&counters, &a);
    sleep_until(start + delay + seconds);
    take_sample(&counters, &b);

    printf("{\"seconds\": %.6f, \"frames\": %"PRIu64", \"bytes\": %"PRIu64
           ", \"dropped\": %"PRIu64", \"cpu\": ",
           b.when - a.when, b.packets - a.packets, b.bytes - a.bytes,
           b.dropped - a.dropped);
    bench_print_cpu(a.cpu, b.cpu);
    printf("}\n");
}

/* Verifying. */

/* Returns true if 'h', the first octets of a frame of 'size' octets, belongs
 * to run 'run'. */
static bool
is_ours(const struct bench_headers *h, size_t size, uint32_t run)
{
    return (size >= sizeof *h
            && h->eth.h_proto == htons(ETH_P_IP)
            && h->ip.protocol == IPPROTO_UDP
            && h->udp.dest == htons(BENCH_DST_PORT)
            && h->payload.run == htonl(run));
}

/* Returns true if the frame at 'h' of 'size' octets is what the generator
 * made. */
static bool
is_intact(const struct bench_headers *h, size_t size)
{
    const uint8_t *frame = (const uint8_t *) h;
    uint32_t flow = ntohl(h->payload.flow);
    size_t udp_len = size - offsetof(struct bench_headers, udp);

    if (ntohs(h->ip.tot_len) != size - sizeof h->eth
        || ntohs(h->udp.len) != udp_len
        || !h->udp.check
        || flow >= BENCH_MAX_FLOWS
        || ntohs(h->udp.source) != BENCH_FIRST_PORT + flow
        || bench_fold(bench_sum(&h->ip, sizeof h->ip, 0))
        || bench_fold(bench_sum(&h->udp, udp_len, bench_pseudo_sum(h)))) {
        return false;
    }
    for (size_t i = sizeof *h; i < size; i++) {
        if (frame[i] != bench_pattern(flow, i)) {
            return false;
        }
    }
    return true;
}

/* Notes that frame 'seq' of 'flow' came. */
static void
note_sequence(struct flow *flow, uint64_t seq, struct verdict *verdict)
{
    uint64_t *word = &flow->seen[seq % WINDOW / 64];
    uint64_t bit = UINT64_C(1) << seq % 64;

    if (seq >= flow->next) {
        uint64_t first = flow->next;

        if (seq - first >= WINDOW) {
            memset(flow->seen, 0, sizeof flow->seen);
        } else {
            for (uint64_t i = first; i < seq; i++) {
                flow->seen[i % WINDOW / 64] &= ~(UINT64_C(1) << i % 64);
            }
        }
        verdict->lost += seq - first;
        flow->next = seq + 1;
        *word |= bit;
    } else if (flow->next - seq <= WINDOW && *word & bit) {
        verdict->duplicates++;
    } else {
        /* Too late to know whether it was there already: at least it is out
         * of order. */
        verdict->reordered++;
        verdict->lost--;
        *word |= flow->next - seq <= WINDOW ? bit : 0;
    }
}

static void
check_frame(const uint8_t *frame, size_t size, size_t caplen, uint32_t run,
            struct flow *flows, struct verdict *verdict)
{
    const struct bench_headers *h = (const struct bench_headers *) frame;

    if (!is_ours(h, caplen, run)) {
        verdict->foreign++;
        return;
    }
    verdict->frames++;
    if (caplen != size || !is_intact(h, size)) {
        verdict->corrupt++;
        return;
    }
    note_sequence(&flows[ntohl(h->payload.flow)], be64toh(h->payload.seq),
                  verdict);
}

/* Returns a socket that receives from 'device' into a ring, mapped at
 * '*ringp'. */
static int
open_ring(const char *device, uint8_t **ringp)
{
    struct tpacket_req3 req = {
        .tp_block_size = BLOCK_SIZE,
        .tp_block_nr = N_BLOCKS,
        .tp_frame_size = 2048,
        .tp_frame_nr = BLOCK_SIZE / 2048 * N_BLOCKS,
        .tp_retire_blk_tov = 10,        /* ms */
    };
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = if_nametoindex(device),
    };
    int version = TPACKET_V3, on = 1;
    int fd;

    if (!sll.sll_ifindex) {
        die(device);
    }
    fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0) {
        die("socket");
    }
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version)
        || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on)
        || setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof req)) {
        die("setsockopt");
    }
    *ringp = mmap(NULL, (size_t) BLOCK_SIZE * N_BLOCKS,
                  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (*ringp == MAP_FAILED) {
        die("mmap");
    }
    if (bind(fd, (struct sockaddr *) &sll, sizeof sll)) {
        die("bind");
    }
    return fd;
}

/* Checks the frames of 'block' and gives it back to the kernel. */
static void
check_block(struct tpacket_block_desc *block, uint32_t run,
            struct flow *flows, struct verdict *verdict)
{
    const uint8_t *p = ((const uint8_t *) block
                        + block->hdr.bh1.offset_to_first_pkt);

    for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
        const struct tpacket3_hdr *hdr = (const struct tpacket3_hdr *) p;

        check_frame(p + hdr->tp_mac, hdr->tp_len, hdr->tp_snaplen, run, flows,
                    verdict);
        p += hdr->tp_next_offset;
    }
    __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL,
                     __ATOMIC_RELEASE);
}

/* Checks the frames that 'device' gets, until SIGTERM or for 'seconds', and
 * what is in the ring then. */
static void
verify(const char *device, double seconds, uint32_t run)
{
    struct flow *flows = calloc(BENCH_MAX_FLOWS, sizeof *flows);
    struct verdict v = { .frames = 0 };
    struct tpacket_stats_v3 stats;
    socklen_t len = sizeof stats;
    double end = now() + seconds;
    bool draining = false;
    uint8_t *ring;
    int fd = open_ring(device, &ring);

    if (!flows) {
        die("calloc");
    }
    catch_signals();
    puts("{\"ready\": true}");
    fflush(stdout);

    for (unsigned int i = 0; ; ) {
        struct tpacket_block_desc *block
            = (struct tpacket_block_desc *) (ring + (size_t) i * BLOCK_SIZE);

        if (__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE)
            & TP_STATUS_USER) {
            check_block(block, run, flows, &v);
            i = (i + 1) % N_BLOCKS;
        } else if (draining) {
            break;
        } else {
            struct pollfd pfd = { .fd = fd, .events = POLLIN };

            /* A block is handed over after 10 ms at the latest.  When it is
             * time to stop, one more turn sees what was in the last one. */
            draining = !poll(&pfd, 1, 20) && (stop || now() >= end);
        }
    }

    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len)) {
        die("PACKET_STATISTICS");
    }
    v.ring_drops = stats.tp_drops;
    printf("{\"frames\": %"PRIu64", \"corrupt\": %"PRIu64
           ", \"duplicates\": %"PRIu64", \"reordered\": %"PRIu64
           ", \"lost\": %"PRIu64", \"foreign\": %"PRIu64
           ", \"ring_drops\": %"PRIu64"}\n",
           v.frames, v.corrupt, v.duplicates, v.reordered, v.lost, v.foreign,
           v.ring_drops);
    free(flows);
    munmap(ring, (size_t) BLOCK_SIZE * N_BLOCKS);
    close(fd);
}

static void
usage(void)
{
    fprintf(stderr,
            "usage: turbotap-sink -m count -i DEVICE [-w SECONDS]"
            " [-t SECONDS]\n"
            "       turbotap-sink -m verify -i DEVICE [-x RUN]"
            " [-t SECONDS]\n"
            "  -w: when the window begins; -t: how long it is\n");
    exit(EXIT_FAILURE);
}

int
main(int argc, char *argv[])
{
    const char *mode = "", *device = NULL;
    double delay = 0, seconds = 1;
    uint32_t run = 0;
    int opt;

    while ((opt = getopt(argc, argv, "m:i:w:t:x:")) != -1) {
        switch (opt) {
        case 'm': mode = optarg; break;
        case 'i': device = optarg; break;
        case 'w': delay = strtod(optarg, NULL); break;
        case 't': seconds = strtod(optarg, NULL); break;
        case 'x': run = strtoul(optarg, NULL, 10); break;
        default: usage();
        }
    }
    if (!device || optind != argc || seconds <= 0) {
        usage();
    }
    if (!strcmp(mode, "count")) {
        count(device, delay, seconds);
    } else if (!strcmp(mode, "verify")) {
        verify(device, seconds, run);
    } else {
        usage();
    }
    return 0;
}
