/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The packets of turbotap netdevs.  A thread keeps those that it has sent for
 * the next that it receives: between two turbotap ports none is allocated or
 * freed.  Must not know queues. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <malloc.h>
#include <stdlib.h>

#include "dp-packet.h"
#include "ovs-thread.h"

/* The room for data in packets of each size that is kept, in octets: what an
 * MTU of 1500 and one of 9000 need, and the largest frame there is. */
static const uint32_t sizes[] = {
    2048, NETDEV_TURBOTAP_MAX_COPY, NETDEV_TURBOTAP_MAX_BUF
};
enum { LARGE = ARRAY_SIZE(sizes) - 1 };

/* The most packets of one size that a thread keeps, and the most octets, but
 * for the large ones, of which it keeps no more than a receive queue holds. */
#define MAX_PACKETS 512
#define MAX_OCTETS (1024 * 1024)

/* Unused packets of one thread, by size. */
struct packet_cache {
    struct packet_pool {
        unsigned int n;
        struct dp_packet *packets[MAX_PACKETS];
    } pools[ARRAY_SIZE(sizes)];
};

/* Of a 'struct packet_cache'. */
static ovsthread_key_t cache_key;

static void
delete_cache(void *cache_)
{
    struct packet_cache *cache = cache_;

    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct packet_pool *pool = &cache->pools[i];

        while (pool->n) {
            dp_packet_delete(pool->packets[--pool->n]);
        }
    }
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

/* Returns the size in octets that a packet of size 'i' is allocated with. */
static size_t
allocated(int i)
{
    return NETDEV_TURBOTAP_HEADROOM + sizes[i];
}

static unsigned int
max_packets(int i)
{
    return (i == LARGE ? NETDEV_TURBOTAP_N_BUFS
            : MIN(MAX_PACKETS, MAX_OCTETS / allocated(i)));
}

/* Stores 'n' empty packets with room for 'size' octets of data, at most
 * NETDEV_TURBOTAP_MAX_BUF, in 'packets'. */
void
netdev_turbotap_new_packets(struct dp_packet **packets, unsigned int n,
                            uint32_t size)
{
    struct packet_pool *pool;
    int i = 0;

    while (size > sizes[i]) {
        i++;
    }
    pool = &get_cache()->pools[i];
    while (n) {
        struct dp_packet *packet;
        char *base;

        if (OVS_LIKELY(pool->n)) {
            packet = pool->packets[--pool->n];
            base = dp_packet_base(packet);
        } else {
            packet = xmalloc(sizeof *packet);
            base = xmalloc(allocated(i));
        }
        /* Open vSwitch before 3.3 has 16 bits for the size.  Large packets
         * say that it is UINT16_MAX, less than it is.  Not
         * dp_packet_reserve(), which takes that for the truth, and may
         * reallocate them to be small ones. */
        dp_packet_use(packet, base, MIN(allocated(i), UINT16_MAX));
        dp_packet_set_data(packet, base + NETDEV_TURBOTAP_HEADROOM);
        packets[--n] = packet;
    }
}

/* Returns the pool of 'cache' that has room for 'packet', which is of its
 * size, or NULL. */
static struct packet_pool *
find_pool(struct packet_cache *cache, const struct dp_packet *packet)
{
    size_t size = dp_packet_get_allocated(packet);

    if (packet->source != DPBUF_MALLOC) {
        return NULL;
    }
    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        if (i == LARGE
            ? (size == UINT16_MAX
               && malloc_usable_size(dp_packet_base(packet)) >= allocated(i))
            : size == allocated(i)) {
            return (cache->pools[i].n < max_packets(i)
                    ? &cache->pools[i] : NULL);
        }
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

        if (OVS_LIKELY(pool)) {
            pool->packets[pool->n++] = packet;
        } else {
            dp_packet_delete(packet);
        }
    }
    netdev_turbotap_reset_batch(batch);
}
