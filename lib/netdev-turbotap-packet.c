/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The packets that turbotap netdevs receive into.  A thread keeps those that
 * it has sent for the next that it receives: between two turbotap ports none
 * is allocated or freed.  Must not know queues. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <malloc.h>
#include <stdlib.h>

#include "dp-packet.h"
#include "ovs-thread.h"

/* The most packets of one size that a thread keeps: as many as a full receive
 * queue of io_uring holds, but of no more octets than this, or, of the large
 * ones, which take more at once, no more than a receive queue holds. */
#define MAX_PACKETS 512
#define MAX_OCTETS (1024 * 1024)
#define MAX_LARGE NETDEV_TURBOTAP_N_LARGE

/* Unused packets of one thread, all of the same size. */
struct packet_pool {
    size_t allocated;           /* Size of each, with headroom, in octets, 0 if
                                 * none was needed yet. */
    unsigned int max;           /* At most MAX_PACKETS. */
    unsigned int n;
    struct dp_packet *packets[MAX_PACKETS];
};

/* Large packets are those whose size does not fit into what Open vSwitch
 * before 3.3 has for it, 16 bits.  They say that it is UINT16_MAX, less than
 * it is. */
struct packet_cache {
    struct packet_pool normal;
    struct packet_pool large;
};

/* Of a 'struct packet_cache'. */
static ovsthread_key_t cache_key;

static void
flush_pool(struct packet_pool *pool)
{
    while (pool->n) {
        dp_packet_delete(pool->packets[--pool->n]);
    }
}

static void
delete_cache(void *cache_)
{
    struct packet_cache *cache = cache_;

    flush_pool(&cache->normal);
    flush_pool(&cache->large);
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
    size_t allocated = NETDEV_TURBOTAP_HEADROOM + buf_size;
    bool large = allocated > UINT16_MAX;
    struct packet_cache *cache = get_cache();
    struct packet_pool *pool = large ? &cache->large : &cache->normal;

    if (OVS_UNLIKELY(pool->allocated != allocated)) {
        flush_pool(pool);
        pool->allocated = allocated;
        pool->max = (large ? MAX_LARGE
                     : MIN(MAX_PACKETS, MAX_OCTETS / allocated));
    }
    for (unsigned int i = 0; i < n; i++) {
        struct dp_packet *packet;
        char *base;

        if (pool->n) {
            packet = pool->packets[--pool->n];
            base = dp_packet_base(packet);
        } else {
            packet = xmalloc(sizeof *packet);
            base = xmalloc(allocated);
        }
        /* Not dp_packet_reserve(), which takes the size of a large packet for
         * the truth, and may reallocate it to be a small one. */
        dp_packet_use(packet, base, MIN(allocated, UINT16_MAX));
        dp_packet_set_data(packet, base + NETDEV_TURBOTAP_HEADROOM);
        packets[i] = packet;
    }
}

/* Returns the pool of 'cache' that has room for 'packet', which is of its
 * size, or NULL. */
static struct packet_pool *
find_pool(struct packet_cache *cache, const struct dp_packet *packet)
{
    if (packet->source != DPBUF_MALLOC) {
        return NULL;
    } else if (dp_packet_get_allocated(packet) == cache->normal.allocated) {
        return cache->normal.n < cache->normal.max ? &cache->normal : NULL;
    } else if (cache->large.n < cache->large.max
               && dp_packet_get_allocated(packet) == UINT16_MAX
               && malloc_usable_size(dp_packet_base(packet))
                  >= cache->large.allocated) {
        return &cache->large;
    }
    return NULL;
}

/* Frees all packets of 'batch', or keeps them for
 * netdev_turbotap_new_packets(). */
void
netdev_turbotap_delete_batch(struct dp_packet_batch *batch)
{
    struct packet_cache *cache = get_cache();
    struct dp_packet *packet;

    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        struct packet_pool *pool = find_pool(cache, packet);

        if (pool) {
            pool->packets[pool->n++] = packet;
        } else {
            dp_packet_delete(packet);
        }
    }
    dp_packet_batch_init(batch);
}
