/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Where a tap device is.  Must not know who wants to know. */

#include <config.h>

#include "turbotap-place.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* How often to look again for a device that is renamed or moved each time. */
#define MAX_TRIES 10

int
turbotap_place_get(int fd, struct turbotap_place *place, int *netns_fdp)
{
    struct turbotap_netns own;
    struct ifreq ifr;
    int netns_fd;
    int error;

    memset(place, 0, sizeof *place);
    place->nsid = TURBOTAP_NSID_SELF;

    /* A namespace that is about to end cannot be had (open_related_ns() and
     * get_net_ns() of the kernel). */
    netns_fd = ioctl(fd, TUNGETDEVNETNS);
    if (netns_fd < 0) {
        return errno == EINVAL ? ENODEV : errno;
    }

    memset(&ifr, 0, sizeof ifr);
    error = turbotap_netns_from_fd(netns_fd, &place->netns);
    if (!error) {
        error = turbotap_netns_get_own(&own);
    }
    if (!error && ioctl(fd, TUNGETIFF, &ifr) < 0) {
        error = errno;
    }
    if (error) {
        close(netns_fd);
        return error;
    }
    memcpy(place->name, ifr.ifr_name, sizeof place->name);
    place->here = turbotap_netns_equal(&place->netns, &own);

    if (netns_fdp) {
        *netns_fdp = netns_fd;
    } else {
        close(netns_fd);
    }
    return 0;
}

int
turbotap_place_check(int fd, const struct turbotap_place *place)
{
    struct turbotap_place now;
    int error;

    error = turbotap_place_get(fd, &now, NULL);
    if (error) {
        return error;
    }
    return (!strcmp(now.name, place->name)
            && turbotap_netns_equal(&now.netns, &place->netns)
            ? 0 : EAGAIN);
}

/* Looks up the link of the device of queue 'fd', said to be at 'place', whose
 * 'nsid' is good for 'link'.  Returns 0 or a positive errno value, EAGAIN if
 * it is not there, or is no longer. */
static int
look_up(int fd, struct turbotap_link *link, const struct turbotap_place *place,
        struct turbotap_link_info *info)
{
    int error;

    error = turbotap_link_lookup(link, place->nsid, place->name, info);
    if (error && error != ENODEV && error != EINVAL) {
        return error;
    } else if (error || strcmp(info->kind, "tun")) {
        /* It has moved, or its namespace has ended: the queue knows. */
        error = turbotap_place_check(fd, place);
        return error ? error : EAGAIN;
    }
    return turbotap_place_check(fd, place);
}

/* Does what turbotap_place_find() says, once. */
static int
find_once(int fd, struct turbotap_link *link, struct turbotap_place *place,
          struct turbotap_link_info *info)
{
    int netns_fd;
    int error;

    error = turbotap_place_get(fd, place, &netns_fd);
    if (error) {
        return error;
    }
    if (!place->here) {
        error = turbotap_link_get_nsid(link, netns_fd, &place->nsid);
    }
    close(netns_fd);
    if (!error) {
        error = look_up(fd, link, place, info);
    }
    if (!error) {
        place->ifindex = info->ifindex;
    }
    return error;
}

int
turbotap_place_find(int fd, struct turbotap_link *link,
                    struct turbotap_place *place,
                    struct turbotap_link_info *info)
{
    int error = EAGAIN;

    for (int i = 0; i < MAX_TRIES && error == EAGAIN; i++) {
        error = find_once(fd, link, place, info);
    }
    return error;
}

/* A change to the link of the device of queue 'fd', which is at 'place'. */
struct change {
    int fd;
    struct turbotap_place place;
    int (*apply)(struct turbotap_link *, int ifindex,
                 const struct change *);
    unsigned int mtu;
    unsigned int off, on;
    const char *alias;
};

static int
apply_mtu(struct turbotap_link *link, int ifindex, const struct change *c)
{
    return turbotap_link_set_mtu(link, ifindex, c->mtu);
}

static int
apply_flags(struct turbotap_link *link, int ifindex, const struct change *c)
{
    return turbotap_link_set_flags(link, ifindex, c->off, c->on);
}

static int
apply_alias(struct turbotap_link *link, int ifindex, const struct change *c)
{
    return turbotap_link_set_alias(link, ifindex, c->alias);
}

static int
apply_noqueue(struct turbotap_link *link, int ifindex, const struct change *c)
{
    (void) c;                   /* There is nothing to choose. */
    return turbotap_link_set_noqueue(link, ifindex);
}

/* Applies 'c' through 'link', of the network namespace that the device is
 * in.  Returns 0 or a positive errno value, EAGAIN if it is there no more. */
static int
apply(struct turbotap_link *link, const struct change *c)
{
    struct turbotap_link_info info;
    int error;

    error = look_up(c->fd, link, &c->place, &info);
    return error ? error : c->apply(link, info.ifindex, c);
}

/* The same, in that network namespace, without a 'link'. */
static int
apply_there(void *c)
{
    struct turbotap_link *link;
    int error;

    error = turbotap_link_open(&link);
    if (!error) {
        error = apply(link, c);
        turbotap_link_close(link);
    }
    return error;
}

/* Applies 'c', of which 'place' is not filled in, through 'link' where that
 * can be done.  Returns 0 or a positive errno value. */
static int
change(struct turbotap_link *link, struct change *c)
{
    int error = EAGAIN;

    for (int i = 0; i < MAX_TRIES && error == EAGAIN; i++) {
        int netns_fd;

        error = turbotap_place_get(c->fd, &c->place, &netns_fd);
        if (!error) {
            error = (c->place.here
                     ? apply(link, c)
                     : turbotap_netns_run(netns_fd, apply_there, c));
            close(netns_fd);
        }
    }
    return error;
}

int
turbotap_place_set_mtu(int fd, struct turbotap_link *link, unsigned int mtu)
{
    struct change c = { .fd = fd, .apply = apply_mtu, .mtu = mtu };

    return change(link, &c);
}

int
turbotap_place_set_flags(int fd, struct turbotap_link *link, unsigned int off,
                         unsigned int on)
{
    struct change c = { .fd = fd, .apply = apply_flags, .off = off, .on = on };

    return change(link, &c);
}

int
turbotap_place_set_alias(int fd, struct turbotap_link *link, const char *alias)
{
    struct change c = { .fd = fd, .apply = apply_alias, .alias = alias };

    return change(link, &c);
}

int
turbotap_place_set_noqueue(int fd, struct turbotap_link *link)
{
    struct change c = { .fd = fd, .apply = apply_noqueue };

    return change(link, &c);
}

int
turbotap_place_set_mac(int fd, const uint8_t mac[6])
{
    struct ifreq ifr;

    /* The descriptor's own device, whatever 'ifr_name' says
     * (__tun_chr_ioctl()). */
    memset(&ifr, 0, sizeof ifr);
    ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(ifr.ifr_hwaddr.sa_data, mac, 6);
    return ioctl(fd, SIOCSIFHWADDR, &ifr) < 0 ? errno : 0;
}
