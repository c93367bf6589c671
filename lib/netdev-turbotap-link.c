/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's view of a turbotap netdev: where its link is, and its settings.
 * Must not know queues or frames. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <net/if.h>
#include <unistd.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/vlog.h"
#include "packets.h"
#include "smap.h"
#include "timeval.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_link);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* Requests about links. */
static struct ovs_mutex link_mutex = OVS_MUTEX_INITIALIZER;
static struct turbotap_link *links OVS_GUARDED_BY(link_mutex);

/* Opens 'links' when they are needed first.  Returns 0 or a positive errno
 * value. */
static int
open_links(void)
    OVS_REQUIRES(link_mutex)
{
    int error = 0;

    if (!links) {
        error = turbotap_link_open(&links);
    }
    if (error) {
        VLOG_ERR_RL(&rl, "could not open rtnetlink (%s)", ovs_strerror(error));
    }
    return error;
}

/* The descriptor that tells what and where the device of 'tt' is. */
static int
identity(const struct netdev_turbotap *tt)
{
    return turbotap_dev_rxq_fd(tt->dev, 0);
}

/* Asks the kernel where the device of 'tt' is and what its link is like, and
 * takes note of nothing.  Returns 0 or a positive errno value as
 * turbotap_place_find() does. */
static int
ask(const struct netdev_turbotap *tt, struct turbotap_place *place,
    struct turbotap_link_info *info)
    OVS_EXCLUDED(link_mutex)
{
    int error;

    ovs_mutex_lock(&link_mutex);
    error = turbotap_place_find(identity(tt), links, place, info);
    ovs_mutex_unlock(&link_mutex);
    return error;
}

/* Takes note that the device of 'tt' is at 'place'. */
static void
set_place(struct netdev_turbotap *tt, const struct turbotap_place *place)
    OVS_REQUIRES(tt->linux_.mutex)
{
    bool moved = !turbotap_netns_equal(&tt->place.netns, &place->netns);
    bool renamed = strcmp(tt->place.name, place->name);

    turbotap_escape(place->name, tt->ifname, sizeof tt->ifname);
    if (moved) {
        turbotap_netns_format(&place->netns, tt->netns_name,
                              sizeof tt->netns_name);
    }
    if ((moved || renamed) && tt->place.name[0]) {
        VLOG_INFO("%s: the device is now %s in %s%s", tt_name(tt), tt->ifname,
                  place->here ? "the switch's network namespace"
                              : "network namespace ",
                  place->here ? "" : tt->netns_name);
    }
    if (memcmp(&tt->place, place, sizeof *place)) {
        tt->place = *place;
        netdev_turbotap_record_place(tt);
    }

    /* What netdev-linux knows by the name of a link. */
    tt->linux_.cache_valid = 0;
    if (moved) {
        netdev_turbotap_forget_tc(tt);
    }
    tt->tc_lost |= renamed;
}

/* Has the device of 'tt', whose link the kernel gave or is about to give its
 * default queueing discipline, do without one.
 *
 * The default is one for each queue that the device might ever have, 256 of
 * them, with rings of their own: 6.7 MB of the kernel's memory, in which no
 * frame ever waits, since a tap device takes or drops what it is given
 * (tun_net_xmit() of drivers/net/tun.c).  When a device moves to another
 * namespace, the kernel forgets what it had (dev_shutdown() of
 * net/sched/sch_generic.c).  One that an administrator chose stays. */
void
netdev_turbotap_avoid_default_qdisc(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    int error;

    ovs_mutex_lock(&link_mutex);
    error = turbotap_place_set_noqueue(identity(tt), links);
    ovs_mutex_unlock(&link_mutex);
    if (error) {
        VLOG_DBG("%s: could not set qdisc noqueue (%s)", tt_name(tt),
                 ovs_strerror(error));
    }
}

/* Takes note that the link of 'tt' is 'info'.  Every change of the link comes
 * through here. */
static void
set_link(struct netdev_turbotap *tt, const struct turbotap_link_info *info)
    OVS_REQUIRES(tt->linux_.mutex)
{
    /* The kernel counts what came and went between two looks, but not what is
     * because the link was set up or down. */
    uint32_t flaps = info->carrier_changes - tt->link.carrier_changes;

    tt->carrier_resets += MAX(flaps, tt->link.carrier != info->carrier);
    if (!strcmp(info->qdisc, "noop") && strcmp(tt->link.qdisc, "noop")) {
        /* As after a move, of which, and of the way back, we may hear too
         * late. */
        netdev_turbotap_forget_tc(tt);
    } else if (tt->qos_qdisc[0] && strcmp(info->qdisc, tt->qos_qdisc)) {
        char kind[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];

        VLOG_INFO("%s: QoS is no more in force, since the queueing discipline "
                  "is %s: setting it up again", tt_name(tt),
                  turbotap_escape(info->qdisc, kind, sizeof kind));
        netdev_turbotap_forget_qos(tt);
    }
    tt->link = *info;
    atomic_store_relaxed(&tt->mtu, info->mtu);
    if (info->flags & IFF_UP) {
        netdev_turbotap_note_up(tt);
    }
    if (tt->owned
        && (!strcmp(info->qdisc, "noop") || !strcmp(info->qdisc, "mq"))) {
        netdev_turbotap_avoid_default_qdisc(tt);
    }
}

/* The device of 'tt' was deleted. */
static void
device_lost(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    VLOG_WARN("%s: the device was deleted from outside", tt_name(tt));
    tt->gone = true;
    tt->ending = false;
    tt->remake_at = time_msec() + NETDEV_TURBOTAP_REMAKE_MS;
    tt->linux_.cache_valid = 0;
    tt->lost_rx_dropped += tt->link.stats.tx_dropped - tt->base_tx_dropped;
    tt->base_tx_dropped = tt->link.stats.tx_dropped;
    memset(&tt->place, 0, sizeof tt->place);
    netdev_turbotap_record_end(tt);
    netdev_turbotap_forget_tc(tt);
    netdev_change_seq_changed(&tt->linux_.up);
}

/* Finds out where the device of 'tt' is and what its link is like.  Returns 0
 * or a positive errno value; then what was known stays. */
int
netdev_turbotap_update_link(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_place old_place = tt->place;
    struct turbotap_link_info old = tt->link;
    struct turbotap_link_info info;
    struct turbotap_place place;
    int error;

    if (tt->gone) {
        return ENODEV;
    }

    error = ask(tt, &place, &info);
    if (!error) {
        set_place(tt, &place);
        set_link(tt, &info);
        old.stats = info.stats;
        if (memcmp(&old, &info, sizeof old)
            || memcmp(&old_place, &place, sizeof place)) {
            netdev_change_seq_changed(&tt->linux_.up);
        }
    } else if (error == EBADFD) {
        device_lost(tt);
    } else if (error == ENODEV) {
        tt->ending = true;
    } else {
        VLOG_WARN_RL(&rl, "%s: could not find the device (%s)", tt_name(tt),
                     ovs_strerror(error));
    }
    return error;
}

/* Reads the statistics of the link of 'tt' from the kernel into
 * 'tt->link.stats', and nothing else, so that nobody misses a change of the
 * rest.  Returns 0 or a positive errno value. */
int
netdev_turbotap_read_link_stats(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_link_info info;
    struct turbotap_place place;
    int error = ENODEV;

    if (!tt->gone) {
        error = ask(tt, &place, &info);
    }
    if (!error) {
        tt->link.stats = info.stats;
        netdev_turbotap_guard_look(tt, &info.tun);
    }
    return error;
}

/* Reads the kind of the queueing discipline of 'tt' from the kernel into
 * 'kind', and takes note of nothing.  Returns 0 or a positive errno value, and
 * then stores "". */
int
netdev_turbotap_read_qdisc(struct netdev_turbotap *tt, char kind[IFNAMSIZ])
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_link_info info = { .qdisc = "" };
    struct turbotap_place place;
    int error = ENODEV;

    if (!tt->gone) {
        error = ask(tt, &place, &info);
    }
    ovs_strlcpy(kind, error ? "" : info.qdisc, IFNAMSIZ);
    return error;
}

/* Takes note that the device of 'tt', which is new to it, is at 'place' and
 * its link 'info'.  Returns 0 or a positive errno value. */
int
netdev_turbotap_set_link(struct netdev_turbotap *tt,
                         const struct turbotap_place *place,
                         const struct turbotap_link_info *info)
    OVS_REQUIRES(tt->linux_.mutex)
{
    int error;

    ovs_mutex_lock(&link_mutex);
    error = open_links();
    ovs_mutex_unlock(&link_mutex);
    if (error) {
        return error;
    }

    /* No change of the carrier, since there is nothing to compare with. */
    tt->link.carrier = info->carrier;
    tt->link.carrier_changes = info->carrier_changes;

    tt->gone = false;
    tt->guard_at = time_msec();
    memset(&tt->place, 0, sizeof tt->place);
    set_place(tt, place);
    set_link(tt, info);
    tt->base_rx_dropped = info->stats.rx_dropped;
    tt->base_tx_dropped = info->stats.tx_dropped;
    return 0;
}

/* Finds the link of the device of 'tt', which is new to it.  Returns 0 or a
 * positive errno value. */
int
netdev_turbotap_find_link(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_link_info info;
    struct turbotap_place place;
    int error;

    error = ask(tt, &place, &info);
    return error ? error : netdev_turbotap_set_link(tt, &place, &info);
}

/* Appends to 's' what 'error' means, that a request about the link of 'tt' met
 * with. */
static void
format_link_error(const struct netdev_turbotap *tt, int error, struct ds *s)
    OVS_REQUIRES(tt->linux_.mutex)
{
    ds_put_cstr(s, ovs_strerror(error));
    if (error == EPERM && !tt->gone && !tt->place.here) {
        ds_put_format(s, ": the device is in network namespace %s, where that "
                      "needs CAP_SYS_ADMIN", tt->netns_name);
    }
}

/* Sets the requested MTU, for which the receive queues must have room
 * already. */
void
netdev_turbotap_apply_mtu(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct ds problem = DS_EMPTY_INITIALIZER;
    int error;

    if (!tt->requested_mtu) {
        return;
    }
    if (tt->requested_mtu != tt->link.mtu) {
        ovs_mutex_lock(&link_mutex);
        error = turbotap_place_set_mtu(identity(tt), links,
                                       tt->requested_mtu);
        ovs_mutex_unlock(&link_mutex);
        if (!error) {
            netdev_turbotap_update_link(tt);
        } else {
            ds_put_format(&problem, "%s: could not set the MTU: ",
                          tt_name(tt));
            format_link_error(tt, error, &problem);
        }
    }
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_MTU, &problem);
    ds_destroy(&problem);

    /* From now on the host may change it as well. */
    tt->requested_mtu = 0;
}

static int
netdev_turbotap_set_etheraddr(struct netdev *netdev, const struct eth_addr mac)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error = 0;

    ovs_mutex_lock(&tt->linux_.mutex);
    tt->wanted_mac = mac;
    /* If the device is gone, the one that takes its place gets it. */
    if (!tt->gone && memcmp(tt->link.mac, mac.ea, ETH_ADDR_LEN)) {
        error = turbotap_place_set_mac(identity(tt), mac.ea);
        if (!error) {
            netdev_turbotap_update_link(tt);
        }
    }
    tt->mac_error = error;
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

void
netdev_turbotap_check_mac(struct netdev *netdev, const char *mac)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct ds problem = DS_EMPTY_INITIALIZER;
    struct eth_addr ea;

    ovs_mutex_lock(&tt->linux_.mutex);
    if (mac && (!eth_addr_from_string(mac, &ea) || eth_addr_is_multicast(ea)
                || eth_addr_is_zero(ea))) {
        ds_put_format(&problem, "%s: mac=%s is not valid: expected six octets "
                      "such as 02:00:00:00:00:01, not of a group and not all "
                      "zeros", tt_name(tt), mac);
    } else if (mac && tt->mac_error) {
        ds_put_format(&problem, "%s: could not set mac=%s: %s", tt_name(tt),
                      mac, ovs_strerror(tt->mac_error));
    }
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_MAC, &problem);
    ovs_mutex_unlock(&tt->linux_.mutex);
    ds_destroy(&problem);
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
    struct ds problem = DS_EMPTY_INITIALIZER;
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = tt->gone ? ENODEV : 0;
    if (mtu < ETH_MIN_MTU || mtu > TURBOTAP_MAX_MTU) {
        ds_put_format(&problem, "%s: mtu_request=%d is not valid: expected an "
                      "integer from %d to %d", tt_name(tt), mtu, ETH_MIN_MTU,
                      TURBOTAP_MAX_MTU);
        error = EINVAL;
    }
    if (!error && mtu != (tt->requested_mtu ? tt->requested_mtu
                                            : tt->link.mtu)) {
        tt->requested_mtu = mtu;
        netdev_request_reconfigure(netdev);
    } else if (error || !tt->requested_mtu) {
        netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_MTU,
                                    &problem);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);

    ds_destroy(&problem);
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

/* An index means something only in the switch's own network namespace. */
static int
netdev_turbotap_get_ifindex(const struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int ifindex;

    ovs_mutex_lock(&tt->linux_.mutex);
    ifindex = (tt->gone ? -ENODEV
               : !tt->place.here ? -EOPNOTSUPP
               : tt->place.ifindex);
    ovs_mutex_unlock(&tt->linux_.mutex);
    return ifindex;
}

static int
netdev_turbotap_get_carrier(const struct netdev *netdev, bool *carrier)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);

    ovs_mutex_lock(&tt->linux_.mutex);
    *carrier = !tt->gone && tt->link.carrier;
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

/* Adds to 'smap' where the device of 'tt' is, if it is not where its name
 * says. */
void
netdev_turbotap_link_get_status(const struct netdev_turbotap *tt,
                                struct smap *smap)
    OVS_REQUIRES(tt->linux_.mutex)
{
    if (tt->gone) {
        return;
    }
    if (strcmp(tt->place.name, tt_name(tt))) {
        smap_add(smap, "ifname", tt->ifname);
    }
    if (!tt->place.here) {
        smap_add(smap, "netns", tt->netns_name);
        smap_add_format(smap, "netnsid", "%d", tt->place.nsid);
    }
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
    unsigned int changes;
    int error = 0;

    ovs_mutex_lock(&tt->linux_.mutex);
    *old_flagsp = tt->gone ? 0 : iff_to_nd_flags(tt->link.flags);
    changes = (tt->link.flags & iff_off) | (~tt->link.flags & iff_on);
    if (changes) {
        struct ds problem = DS_EMPTY_INITIALIZER;

        error = tt->gone ? ENODEV : 0;
        if (!error) {
            ovs_mutex_lock(&link_mutex);
            error = turbotap_place_set_flags(identity(tt), links, iff_off,
                                             iff_on);
            ovs_mutex_unlock(&link_mutex);
        }
        if (!error) {
            error = netdev_turbotap_update_link(tt);
        } else if (!tt->gone && changes & IFF_UP) {
            ds_put_format(&problem, "%s: could not set the device %s: ",
                          tt_name(tt), on & NETDEV_UP ? "up" : "down");
            format_link_error(tt, error, &problem);
        } else if (!tt->gone) {
            /* Without permission, or a descriptor to spare.  Promiscuous or
             * not makes a difference to what the host accepts from the switch.
             * That is no reason to do without the port. */
            error = 0;
        }
        netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_FLAGS,
                                    &problem);
        ds_destroy(&problem);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

void
netdev_turbotap_link_init_class(struct netdev_class *class)
{
    class->set_etheraddr = netdev_turbotap_set_etheraddr;
    class->get_etheraddr = netdev_turbotap_get_etheraddr;
    class->get_mtu = netdev_turbotap_get_mtu;
    class->set_mtu = netdev_turbotap_set_mtu;
    class->get_ifindex = netdev_turbotap_get_ifindex;
    class->get_carrier = netdev_turbotap_get_carrier;
    class->get_carrier_resets = netdev_turbotap_get_carrier_resets;
    class->update_flags = netdev_turbotap_update_flags;
}
