// SPDX-License-Identifier: Apache-2.0
/*
 * How many instructions a frame costs by each call, in a guest whose time
 * stamp counter counts instructions (QEMU's -icount shift=0, one CPU): see
 * tests/vm/icount.  Prints lines 'count CALL BATCH LENGTH INSTRUCTIONS'.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"

#define FRAMES 256              /* In a round; fits in a queue. */
#define ROUNDS 15               /* Of which the median counts. */

enum call { READ, RECVMMSG, WRITE, SENDMMSG, N_CALLS };
static const char *const names[N_CALLS] = {
    "read", "recvmmsg", "write", "sendmmsg",
};

static struct batch batch;

static uint64_t
instructions(void)
{
    uint32_t low, high;

    asm volatile("lfence; rdtsc" : "=a" (low), "=d" (high) : : "memory");
    return (uint64_t) high << 32 | low;
}

/* What a loop of 2,000 instructions counts as. */
static uint64_t
calibrate(void)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 10; i++) {
        long n = 1000;
        uint64_t start = instructions(), spent;

        asm volatile("1: dec %0; jnz 1b" : "+r" (n) : : "cc");
        spent = instructions() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

static int
by_size(const void *a_, const void *b_)
{
    const uint64_t *a = a_, *b = b_;

    return *a < *b ? -1 : *a > *b;
}

/* Moves FRAMES frames by 'call', 'n' at a time; returns the instructions. */
static uint64_t
round_of(enum call call, int fd, int n, size_t length)
{
    uint64_t start = instructions();

    for (int done = 0; done < FRAMES; ) {
        int moved = call == READ ? read(fd, batch.data[0], 2048)
                    : call == WRITE ? write(fd, batch.data[0], length)
                    : call == RECVMMSG ? recvmmsg(fd, batch.msgs, n, 0, NULL)
                    : sendmmsg(fd, batch.msgs, n, 0);

        must(moved);
        done += call == READ || call == WRITE ? 1 : moved;
    }
    return instructions() - start;
}

static void
measure(enum call call, int fd, int n, size_t length, int host)
{
    bool receives = call == READ || call == RECVMMSG;
    uint64_t spent[ROUNDS];

    batch_frames(&batch, length, 0);
    if (receives) {
        batch_init(&batch, 2048);
    }
    for (int i = 0; i < ROUNDS; i++) {
        if (receives) {
            host_sends(host, length, 0, FRAMES);
        }
        spent[i] = round_of(call, fd, n, length);
    }
    qsort(spent, ROUNDS, sizeof spent[0], by_size);
    printf("# count %s %d %zu %.0f\n", names[call], n, length,
           (double) spent[ROUNDS / 2] / FRAMES);
    fflush(stdout);
}

int
main(void)
{
    static const int sizes[] = { 1, 8, 32, 64 };
    static const size_t lengths[] = { 64, 1500 };
    uint64_t loop = calibrate();
    const char *name = "count0";
    int queue, sock, host;

    if (loop < 2000 || loop > 2020) {
        printf("1..0 # SKIP 2000 instructions count as %llu: no -icount\n",
               (unsigned long long) loop);
        return 0;
    }
    new_netns();
    queue = tap_queue(name, 0);
    must(fcntl(queue, F_SETFL, O_RDWR | O_NONBLOCK));
    sock = must(turbotap_socket(queue, TURBOTAP_NONBLOCK));
    link_set(name, true);
    host = host_socket(name, ETH_P_ARP);    /* So that it receives nothing. */

    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        measure(READ, queue, 1, lengths[i], host);
        for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
            measure(RECVMMSG, sock, sizes[j], lengths[i], host);
        }
        measure(WRITE, queue, 1, lengths[i], host);
        for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
            measure(SENDMMSG, sock, sizes[j], lengths[i], host);
        }
    }
    ok(true, "2000 instructions count as %llu", (unsigned long long) loop);
    return done();
}
