/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's view of a turbotap netdev: the settings of its link, and what
 * becomes of it.  Must not know queues or frames. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>

#include "coverage.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "packets.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_link);

COVERAGE_DEFINE(turbotap_link_event);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* Marks, as the link's alias, a device that we created, so that after a
 * restart we know that it is ours to delete. */
#define OWNER_ALIAS "Open vSwitch turbotap"

/* All netdev_turbotaps, for link events. */
static struct ovs_mutex turbotaps_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list all_turbotaps OVS_GUARDED_BY(turbotaps_mutex)
    = OVS_LIST_INITIALIZER(&all_turbotaps);

/* Requests about links. */
static struct ovs_mutex link_mutex = OVS_MUTEX_INITIALIZER;
static struct turbotap_link *links OVS_GUARDED_BY(link_mutex);

/* Reports changes of links.  Only the main thread uses it. */
static struct turbotap_watch *watch;

/* Opens 'links' and 'watch' when they are needed first.  Returns 0 or a
 * positive errno value. */
static int
open_links(void)
    OVS_REQUIRES(link_mutex)
{
    int error = 0;

    if (!links) {
        error = turbotap_link_open(&links);
    }
    if (!error && !watch) {
        error = turbotap_watch_open(&watch);
    }
    if (error) {
        VLOG_ERR_RL(&rl, "could not open rtnetlink (%s)", ovs_strerror(error));
    }
    return error;
}

/* Returns 0 if the link can be asked for its settings, else a positive errno
 * value. */
static int
link_error(const struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    return tt->gone ? ENODEV : tt->away ? EOPNOTSUPP : 0;
}

/* Takes note that the link of 'tt' is 'info' now. */
static void
set_link(struct netdev_turbotap *tt, const struct turbotap_link_info *info)
{
    tt->link = *info;
    atomic_store_relaxed(&tt->mtu, info->mtu);
}

/* Reads the link from the kernel into 'tt->link'.  Returns 0 or a positive
 * errno value; then 'tt->link' is as it was. */
int
netdev_turbotap_read_link(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_link_info info;
    int error = link_error(tt);

    if (!error) {
        ovs_mutex_lock(&link_mutex);
        error = turbotap_link_get(links, tt->link.ifindex, &info);
        ovs_mutex_unlock(&link_mutex);
    }
    if (!error) {
        set_link(tt, &info);
    }
    return error;
}

/* Returns the octets that the largest frame of 'tt' may have with an MTU of
 * 'mtu', two VLAN tags included, and one more, by which the I/O classes tell a
 * frame that was cut. */
uint32_t
netdev_turbotap_mtu_to_buf_size(const struct netdev_turbotap *tt,
                                unsigned int mtu)
{
    return (tt->vnet_hdr
            ? NETDEV_TURBOTAP_MAX_BUF
            : ETH_HEADER_LEN + 2 * VLAN_HEADER_LEN + mtu + 1);
}

/* The link of 'tt' is now 'info'. */
static void
link_changed(struct netdev_turbotap *tt, const struct turbotap_link_info *info)
    OVS_REQUIRES(tt->linux_.mutex)
{
    if (tt->link.carrier != info->carrier) {
        tt->carrier_resets++;
    }
    tt->away = false;
    set_link(tt, info);
    if (tt->rxqs
        && netdev_turbotap_mtu_to_buf_size(tt, info->mtu) > tt->buf_size) {
        netdev_request_reconfigure(&tt->linux_.up);
    }
    netdev_change_seq_changed(&tt->linux_.up);
}

/* The link of 'tt' is no longer in this network namespace. */
static void
link_vanished(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    char name[IFNAMSIZ];

    if (turbotap_dev_get_name(tt->dev, name)) {
        if (!tt->gone) {
            VLOG_WARN("%s: the device was deleted from outside; delete the "
                      "port and add it again to make a new one", tt_name(tt));
        }
        tt->gone = true;
    } else {
        if (!tt->away) {
            VLOG_INFO("%s: the device moved to another network namespace",
                      tt_name(tt));
        }
        tt->away = true;
    }
    netdev_change_seq_changed(&tt->linux_.up);
}

/* Finds out about the link of 'tt' anew, after events were lost. */
static void
resync_link(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_link_info info;
    int error;

    if (tt->gone) {
        return;
    }
    ovs_mutex_lock(&link_mutex);
    error = turbotap_link_get(links, tt->link.ifindex, &info);
    ovs_mutex_unlock(&link_mutex);
    if (!error) {
        link_changed(tt, &info);
    } else {
        link_vanished(tt);
    }
}

static void
handle_event(const struct turbotap_event *event)
    OVS_REQUIRES(turbotaps_mutex)
{
    struct netdev_turbotap *tt;

    COVERAGE_INC(turbotap_link_event);
    LIST_FOR_EACH (tt, list_node, &all_turbotaps) {
        ovs_mutex_lock(&tt->linux_.mutex);
        if (event->type == TURBOTAP_LINKS_LOST) {
            resync_link(tt);
        } else if (tt->link.ifindex == event->info.ifindex && !tt->gone) {
            if (event->type == TURBOTAP_LINK_CHANGED) {
                link_changed(tt, &event->info);
            } else {
                link_vanished(tt);
            }
        }
        ovs_mutex_unlock(&tt->linux_.mutex);
    }
}

void
netdev_turbotap_run(const struct netdev_class *class OVS_UNUSED)
{
    struct turbotap_event event;
    int error;

    if (!watch) {
        return;
    }
    while (!(error = turbotap_watch_next(watch, &event))) {
        ovs_mutex_lock(&turbotaps_mutex);
        handle_event(&event);
        ovs_mutex_unlock(&turbotaps_mutex);
    }
    if (error != EAGAIN) {
        VLOG_WARN_RL(&rl, "could not receive link events (%s)",
                     ovs_strerror(error));
    }
}

/* Makes link events reach 'tt' from now on. */
void
netdev_turbotap_watch_link(struct netdev_turbotap *tt)
{
    ovs_mutex_lock(&turbotaps_mutex);
    ovs_list_push_back(&all_turbotaps, &tt->list_node);
    ovs_mutex_unlock(&turbotaps_mutex);
}

/* Makes link events no longer reach 'tt'. */
void
netdev_turbotap_unwatch_link(struct netdev_turbotap *tt)
{
    ovs_mutex_lock(&turbotaps_mutex);
    ovs_list_remove(&tt->list_node);
    ovs_mutex_unlock(&turbotaps_mutex);
}

static void
netdev_turbotap_wait(const struct netdev_class *class OVS_UNUSED)
{
    if (watch) {
        poll_fd_wait(turbotap_watch_fd(watch), POLLIN);
    }
}

/* Finds out about the link of the device of 'tt', just opened, and makes it
 * persistent, and ours if we created it.  Returns 0 or a positive errno
 * value. */
int
netdev_turbotap_adopt_link(struct netdev_turbotap *tt)
{
    int error;

    ovs_mutex_lock(&link_mutex);
    error = open_links();
    if (!error) {
        error = turbotap_link_lookup(links, tt_name(tt), &tt->link.ifindex);
    }
    if (!error && turbotap_dev_is_created(tt->dev)) {
        /* The mark comes first: without it nobody would ever delete a
         * persistent device. */
        error = turbotap_link_set_alias(links, tt->link.ifindex, OWNER_ALIAS);
        if (!error) {
            error = turbotap_dev_set_persist(tt->dev, true);
        }
    }
    if (!error) {
        error = turbotap_link_get(links, tt->link.ifindex, &tt->link);
    }
    ovs_mutex_unlock(&link_mutex);

    atomic_store_relaxed(&tt->mtu, tt->link.mtu);
    tt->owned = !strcmp(tt->link.alias, OWNER_ALIAS);
    tt->base_rx_dropped = tt->link.stats.rx_dropped;
    tt->base_tx_dropped = tt->link.stats.tx_dropped;
    return error;
}

/* Sets the requested MTU, for which the receive queues must have room already.
 * Returns 0 or a positive errno value. */
int
netdev_turbotap_apply_mtu(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    int error = 0;

    if (tt->requested_mtu && tt->requested_mtu != tt->link.mtu) {
        error = link_error(tt);
        if (!error) {
            ovs_mutex_lock(&link_mutex);
            error = turbotap_link_set_mtu(links, tt->link.ifindex,
                                          tt->requested_mtu);
            ovs_mutex_unlock(&link_mutex);
        }
        if (!error) {
            tt->link.mtu = tt->requested_mtu;
            atomic_store_relaxed(&tt->mtu, tt->link.mtu);
        }
    }
    /* From now on the host may change it as well. */
    tt->requested_mtu = 0;
    return error;
}

static int
netdev_turbotap_set_etheraddr(struct netdev *netdev, const struct eth_addr mac)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = link_error(tt);
    if (!error && memcmp(tt->link.mac, mac.ea, ETH_ADDR_LEN)) {
        ovs_mutex_lock(&link_mutex);
        error = turbotap_link_set_mac(links, tt->link.ifindex, mac.ea);
        ovs_mutex_unlock(&link_mutex);
        if (!error) {
            memcpy(tt->link.mac, mac.ea, ETH_ADDR_LEN);
        }
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

static int
netdev_turbotap_get_etheraddr(const struct netdev *netdev,
                              struct eth_addr *mac)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = tt->gone ? ENODEV : 0;
    if (!error) {
        memcpy(mac->ea, tt->link.mac, ETH_ADDR_LEN);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

static int
netdev_turbotap_set_mtu(struct netdev *netdev, int mtu)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error;

    if (mtu < ETH_MIN_MTU || mtu > TURBOTAP_MAX_MTU) {
        VLOG_WARN_RL(&rl, "%s: MTU %d is not valid: expected %d to %d",
                     netdev_get_name(netdev), mtu, ETH_MIN_MTU,
                     TURBOTAP_MAX_MTU);
        return EINVAL;
    }

    ovs_mutex_lock(&tt->linux_.mutex);
    error = link_error(tt);
    if (!error && mtu != (tt->requested_mtu ? tt->requested_mtu
                                            : tt->link.mtu)) {
        tt->requested_mtu = mtu;
        netdev_request_reconfigure(netdev);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

static int
netdev_turbotap_get_mtu(const struct netdev *netdev, int *mtup)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = tt->gone ? ENODEV : 0;
    if (!error) {
        *mtup = tt->link.mtu;
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

static int
netdev_turbotap_get_ifindex(const struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error;
    int ifindex;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = link_error(tt);
    ifindex = tt->link.ifindex;
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error ? -error : ifindex;
}

/* A device in another network namespace, whose state is not to be seen from
 * here, counts as up: as long as its queues are open it has a carrier. */
static int
netdev_turbotap_get_carrier(const struct netdev *netdev, bool *carrier)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);

    ovs_mutex_lock(&tt->linux_.mutex);
    *carrier = !tt->gone && (tt->away || tt->link.carrier);
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

static long long int
netdev_turbotap_get_carrier_resets(const struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    long long int carrier_resets;

    ovs_mutex_lock(&tt->linux_.mutex);
    carrier_resets = tt->carrier_resets;
    ovs_mutex_unlock(&tt->linux_.mutex);
    return carrier_resets;
}

/* Returns 0 if the link is here, else a positive errno value.
 *
 * For what netdev-linux does to the link that has the netdev's name, since it
 * logs if there is none.  The kernel answers only after a move to another
 * network namespace that is under way, of which no event has come yet. */
static int
ask_for_link(struct netdev_turbotap *tt)
    OVS_EXCLUDED(tt->linux_.mutex)
{
    struct turbotap_link_info info;
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = link_error(tt);
    if (!error) {
        ovs_mutex_lock(&link_mutex);
        error = turbotap_link_get(links, tt->link.ifindex, &info);
        ovs_mutex_unlock(&link_mutex);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

static int
netdev_turbotap_set_policing(struct netdev *netdev, unsigned int kbits_rate,
                             unsigned int kbits_burst, unsigned int kpkts_rate,
                             unsigned int kpkts_burst)
{
    int error = ask_for_link(netdev_turbotap_cast(netdev));

    return (error
            ? error
            : netdev_tap_class.set_policing(netdev, kbits_rate, kbits_burst,
                                            kpkts_rate, kpkts_burst));
}

static int
netdev_turbotap_get_features(const struct netdev *netdev,
                             enum netdev_features *current,
                             enum netdev_features *advertised,
                             enum netdev_features *supported,
                             enum netdev_features *peer)
{
    int error = ask_for_link(netdev_turbotap_cast(netdev));

    return (error
            ? error
            : netdev_tap_class.get_features(netdev, current, advertised,
                                            supported, peer));
}

static unsigned int
nd_to_iff_flags(enum netdev_flags nd)
{
    return ((nd & NETDEV_UP ? IFF_UP : 0)
            | (nd & NETDEV_PROMISC ? IFF_PROMISC : 0)
            | (nd & NETDEV_LOOPBACK ? IFF_LOOPBACK : 0));
}

static enum netdev_flags
iff_to_nd_flags(unsigned int iff)
{
    return ((iff & IFF_UP ? NETDEV_UP : 0)
            | (iff & IFF_PROMISC ? NETDEV_PROMISC : 0)
            | (iff & IFF_LOOPBACK ? NETDEV_LOOPBACK : 0));
}

static int
netdev_turbotap_update_flags(struct netdev *netdev, enum netdev_flags off,
                             enum netdev_flags on,
                             enum netdev_flags *old_flagsp)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    unsigned int iff_off = nd_to_iff_flags(off);
    unsigned int iff_on = nd_to_iff_flags(on);
    int error = 0;

    ovs_mutex_lock(&tt->linux_.mutex);
    *old_flagsp = tt->gone ? 0 : iff_to_nd_flags(tt->link.flags);
    if ((tt->link.flags & iff_off) || (~tt->link.flags & iff_on)) {
        error = link_error(tt);
        if (!error) {
            ovs_mutex_lock(&link_mutex);
            error = turbotap_link_set_flags(links, tt->link.ifindex,
                                            iff_off, iff_on);
            ovs_mutex_unlock(&link_mutex);
        }
        if (!error) {
            error = netdev_turbotap_read_link(tt);
        }
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

void
netdev_turbotap_link_init_class(struct netdev_class *class)
{
    class->run = netdev_turbotap_run;
    class->wait = netdev_turbotap_wait;
    class->set_etheraddr = netdev_turbotap_set_etheraddr;
    class->get_etheraddr = netdev_turbotap_get_etheraddr;
    class->get_mtu = netdev_turbotap_get_mtu;
    class->set_mtu = netdev_turbotap_set_mtu;
    class->get_ifindex = netdev_turbotap_get_ifindex;
    class->get_carrier = netdev_turbotap_get_carrier;
    class->get_carrier_resets = netdev_turbotap_get_carrier_resets;
    class->set_policing = netdev_turbotap_set_policing;
    class->get_features = netdev_turbotap_get_features;
    class->update_flags = netdev_turbotap_update_flags;
}
