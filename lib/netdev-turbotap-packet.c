/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The packets that turbotap netdevs receive into.  A thread keeps those that
 * it has sent for the next that it receives: between two turbotap ports none
 * is allocated or freed.  Must not know queues. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <stdlib.h>

#include "dp-packet.h"
#include "dpif-netdev.h"
#include "ovs-thread.h"

/* The most packets that a thread keeps: as many as a full receive queue of
 * io_uring holds, but of no more octets than this. */
#define MAX_PACKETS 512
#define MAX_OCTETS (1024 * 1024)

/* Unused packets of one thread, all of the same size. */
struct packet_cache {
    size_t allocated;           /* Size of each, with headroom, in octets. */
    unsigned int max;           /* At most MAX_PACKETS. */
    unsigned int n;
    struct dp_packet *packets[MAX_PACKETS];
};

/* Of a 'struct packet_cache'. */
static ovsthread_key_t cache_key;

static void
flush_cache(struct packet_cache *cache)
{
    while (cache->n) {
        dp_packet_delete(cache->packets[--cache->n]);
    }
}

static void
delete_cache(void *cache_)
{
    struct packet_cache *cache = cache_;

    flush_cache(cache);
    free(cache);
}

void
netdev_turbotap_packet_init(void)
{
    ovsthread_key_create(&cache_key, delete_cache);
}

/* Returns this thread's cache. */
static struct packet_cache *
get_cache(void)
{
    struct packet_cache *cache = ovsthread_getspecific(cache_key);

    if (OVS_UNLIKELY(!cache)) {
        cache = xzalloc(sizeof *cache);
        ovsthread_setspecific(cache_key, cache);
    }
    return cache;
}

/* Stores 'n' empty packets with room for 'buf_size' octets of data in
 * 'packets'. */
void
netdev_turbotap_new_packets(struct dp_packet **packets, unsigned int n,
                            uint32_t buf_size)
{
    size_t allocated = DP_NETDEV_HEADROOM + buf_size;
    struct packet_cache *cache = get_cache();

    if (OVS_UNLIKELY(cache->allocated != allocated)) {
        flush_cache(cache);
        cache->allocated = allocated;
        cache->max = MIN(MAX_PACKETS, MAX_OCTETS / allocated);
    }
    for (unsigned int i = 0; i < n; i++) {
        if (cache->n) {
            struct dp_packet *packet = cache->packets[--cache->n];

            dp_packet_use(packet, dp_packet_base(packet), allocated);
            dp_packet_reserve(packet, DP_NETDEV_HEADROOM);
            packets[i] = packet;
        } else {
            packets[i] = dp_packet_new_with_headroom(buf_size,
                                                     DP_NETDEV_HEADROOM);
        }
    }
}

/* Frees all packets of 'batch', or keeps them for
 * netdev_turbotap_new_packets().
 *
 * Where a dp_packet counts what is allocated in 16 bits (before Open vSwitch
 * 3.3), a packet for the largest MTUs never has the cache's size, and is
 * freed. */
void
netdev_turbotap_delete_batch(struct dp_packet_batch *batch)
{
    struct packet_cache *cache = get_cache();
    struct dp_packet *packet;

    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        if (packet->source == DPBUF_MALLOC && cache->n < cache->max
            && dp_packet_get_allocated(packet) == cache->allocated) {
            cache->packets[cache->n++] = packet;
        } else {
            dp_packet_delete(packet);
        }
    }
    dp_packet_batch_init(batch);
}
