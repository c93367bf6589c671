/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User space's side of a receive ring, for the tests of it.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef TURBOTAP_TEST_RING_H
#define TURBOTAP_TEST_RING_H 1

#include "test.h"
#include <sys/mman.h>

#define CHUNK 2048u             /* Octets. */
#define MAX_FRAME 70000         /* Octets that a test takes at most. */
#define FIRST_INDEX (-5u)       /* Where indices begin: they soon wrap. */

struct ring {
    int sock;
    size_t size;                /* Of the area, in octets. */
    uint32_t entries;
    uint32_t first;             /* Place of the first chunk. */
    uint32_t n_chunks;
    uint8_t *area;
    struct turbotap_rings *rings;
    uint64_t *fill;
    struct xdp_desc *rx;
};

/* Makes an area for 'entries' and 'n_chunks' chunks, all of them empty but the
 * last page perhaps, and describes it in '*request'.  The fill ring is
 * empty. */
static inline void
ring_area(struct ring *ring, uint32_t entries, uint32_t n_chunks,
          struct turbotap_rx_ring *request)
{
    size_t end = sizeof *ring->rings + entries * (sizeof *ring->fill
                                                  + sizeof *ring->rx);
    ring->entries = entries;
    ring->first = (end + CHUNK - 1) / CHUNK * CHUNK;
    ring->n_chunks = n_chunks;
    ring->size = (ring->first + n_chunks * CHUNK + 4095) / 4096 * 4096;
    ring->area = mmap(NULL, ring->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(ring->area == MAP_FAILED ? -1 : 0);
    ring->rings = (struct turbotap_rings *) ring->area;
    ring->fill = (uint64_t *) (ring->rings + 1);
    ring->rx = (struct xdp_desc *) (ring->fill + entries);
    ring->rings->fill.producer = ring->rings->fill.consumer = FIRST_INDEX;
    ring->rings->rx.producer = ring->rings->rx.consumer = FIRST_INDEX;
    *request = (struct turbotap_rx_ring) {
        .addr = (uintptr_t) ring->area,
        .size = ring->size,
        .chunk_size = CHUNK,
        .entries = entries,
    };
}

/* Puts 'place' into the fill ring, whatever it is. */
static inline void
ring_fill(struct ring *ring, uint64_t place)
{
    struct turbotap_ring_head *head = &ring->rings->fill;
    uint32_t producer = head->producer;

    ring->fill[producer % ring->entries] = place;
    __atomic_store_n(&head->producer, producer + 1, __ATOMIC_RELEASE);
}

/* Gives 'sock' a ring with all chunks filled in. */
static inline void
ring_open(struct ring *ring, int sock, uint32_t entries, uint32_t n_chunks,
          uint32_t hdr_len)
{
    struct turbotap_rx_ring request;

    ring_area(ring, entries, n_chunks, &request);
    request.hdr_len = hdr_len;
    for (uint32_t i = 0; i < n_chunks; i++) {
        ring_fill(ring, ring->first + i * CHUNK);
    }
    must(ioctl(sock, TURBOTAP_RX_RING, &request));
    ring->sock = sock;
}

static inline void
ring_close(struct ring *ring)
{
    close(ring->sock);
    munmap(ring->area, ring->size);
}

/* How many entries are in the RX ring? */
static inline uint32_t
ring_count(const struct ring *ring)
{
    const struct turbotap_ring_head *head = &ring->rings->rx;

    return __atomic_load_n(&head->producer, __ATOMIC_ACQUIRE) - head->consumer;
}

static inline bool
ring_wants_wakeup(const struct ring *ring)
{
    return __atomic_load_n(&ring->rings->fill.flags, __ATOMIC_RELAXED)
           & TURBOTAP_NEED_WAKEUP;
}

/* Takes a frame out of the RX ring, gives its chunks back unless 'keep', and
 * stores it at 'frame', which has room for MAX_FRAME octets.  Returns its
 * length, 0 if there is none, -1 if what is there is not a frame. */
static inline long
ring_take(struct ring *ring, uint8_t *frame, bool keep)
{
    struct turbotap_ring_head *head = &ring->rings->rx;
    size_t length = 0;
    bool more = ring_count(ring) > 0;
    bool good = true;

    while (more && good) {
        const struct xdp_desc *desc = &ring->rx[head->consumer
                                                % ring->entries];

        good = (ring_count(ring) > 0
                && desc->len && desc->len <= CHUNK
                && desc->addr >= ring->first && desc->addr % CHUNK == 0
                && desc->addr + CHUNK <= ring->size
                && !(desc->options & ~TURBOTAP_PKT_CONTD)
                && length + desc->len <= MAX_FRAME);
        if (good) {
            more = desc->options & TURBOTAP_PKT_CONTD;
            good = !more || desc->len == CHUNK;
            memcpy(frame + length, ring->area + desc->addr, desc->len);
            length += desc->len;
            if (!keep) {
                ring_fill(ring, desc->addr);
            }
            __atomic_store_n(&head->consumer, head->consumer + 1,
                             __ATOMIC_RELEASE);
        }
    }
    return good ? (long) length : -1;
}

/* Takes frames 'first', 'first' + 1, ... of 'length' octets, as many as there
 * are.  Returns their number, or -1 if something else was there. */
static inline int
ring_takes(struct ring *ring, size_t length, uint32_t first)
{
    static uint8_t frame[MAX_FRAME];
    long got;
    int n = 0;

    while ((got = ring_take(ring, frame, false)) > 0) {
        if ((size_t) got != length || !frame_is(frame, length, first + n)) {
            return -1;
        }
        n++;
    }
    return got < 0 ? -1 : n;
}

#endif /* ring.h */
