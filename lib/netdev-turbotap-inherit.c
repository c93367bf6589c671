/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What a turbotap netdev inherits from netdev-linux, which knows a link by the
 * name of the netdev in the switch's network namespace: traffic control,
 * ethtool, addresses.
 *
 * None of it is done unless the device is there and has that name, since it
 * would be done to somebody else's otherwise.  The device is asked for right
 * before.  If it is moved or renamed in between and another one takes its
 * name, that one is meant.  The kernel has no request for any of this that
 * names another network namespace. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>

#include "netdev-linux.h"
#include "netlink.h"
#include "netlink-socket.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/ofpbuf.h"
#include "socket-util.h"
#include "tc.h"

/* Returns 0 if the device of 'tt' is what netdev-linux would take it for, else
 * a positive errno value.  Stores where it is in '*place'.
 *
 * This does not change what is known of the link: it is called while the
 * switch reads one thing after the other, to be told only afterwards that any
 * of it has changed. */
static int
check_place(struct netdev_turbotap *tt, struct turbotap_place *place)
    OVS_REQUIRES(tt->linux_.mutex)
{
    int error;

    if (tt->gone) {
        return ENODEV;
    }
    error = turbotap_place_get(turbotap_dev_rxq_fd(tt->dev, 0), place, NULL);
    return (error ? error
            : !place->here || strcmp(place->name, tt_name(tt)) ? EOPNOTSUPP
            : 0);
}

static int
netdev_turbotap_is_inherited(const struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct turbotap_place place;
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = check_place(tt, &place);
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

/* The same for a setting, 'what', of which the user should know, as problem
 * 'which', that it cannot be made if it is 'wanted'. */
static int
may_set(struct netdev_turbotap *tt, const char *what, bool wanted,
        enum netdev_turbotap_problem which)
    OVS_EXCLUDED(tt->linux_.mutex)
{
    struct ds problem = DS_EMPTY_INITIALIZER;
    struct turbotap_place place;
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = check_place(tt, &place);
    if (error == EOPNOTSUPP && wanted) {
        char name[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];
        char netns_name[NAME_MAX + 1] = "";

        if (!place.here) {
            turbotap_netns_format(&place.netns, netns_name,
                                  sizeof netns_name);
        }
        ds_put_format(&problem, "%s: %s cannot be set: the device is %s%s%s, "
                      "expected %s in the switch's network namespace",
                      tt_name(tt), what,
                      turbotap_escape(place.name, name, sizeof name),
                      place.here ? "" : " in network namespace ", netns_name,
                      tt_name(tt));
    }
    netdev_turbotap_set_problem(tt, which, &problem);
    ovs_mutex_unlock(&tt->linux_.mutex);
    ds_destroy(&problem);
    return error;
}

/* Has the switch set up QoS again for 'tt', as the database says: what was set
 * up is no more. */
void
netdev_turbotap_forget_qos(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    netdev_linux_forget_tc(&tt->linux_);
    tt->without_qos = false;
    tt->qos_qdisc[0] = '\0';
    tt->tc_lost = true;
}

/* The same for all of traffic control: the link of 'tt' is another one, or has
 * been in another network namespace. */
void
netdev_turbotap_forget_tc(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    netdev_turbotap_forget_qos(tt);
    tt->unpoliced = false;
    tt->policed = false;
}

bool
netdev_turbotap_needs_qos(const struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    bool lost;

    ovs_mutex_lock(&tt->linux_.mutex);
    lost = tt->tc_lost;
    ovs_mutex_unlock(&tt->linux_.mutex);
    return lost;
}

/* Returns true if 'filter', a message of RTM_NEWTFILTER, is one by which
 * netdev-linux polices: a policer of a kind and priority of its own. */
static bool
is_policer(const struct ofpbuf *filter)
{
    static const struct {
        const char *kind;
        unsigned int prio;
        int actions;            /* Attribute that has the actions. */
    } policers[] = {
        { "matchall", TC_RESERVED_PRIORITY_POLICE, TCA_MATCHALL_ACT },
        { "basic", 49, TCA_BASIC_ACT },
    };
    const size_t header_len = NLMSG_HDRLEN + sizeof(struct tcmsg);
    const struct tcmsg *tcm = ofpbuf_at(filter, NLMSG_HDRLEN, sizeof *tcm);
    const struct nlattr *kind, *a;

    kind = tcm ? nl_attr_find(filter, header_len, TCA_KIND) : NULL;
    for (size_t i = 0; kind && i < ARRAY_SIZE(policers); i++) {
        if (TC_H_MAJ(tcm->tcm_info) >> 16 != policers[i].prio
            || strcmp(nl_attr_get_string(kind), policers[i].kind)) {
            continue;
        }
        a = nl_attr_find(filter, header_len, TCA_OPTIONS);
        a = a ? nl_attr_find_nested(a, policers[i].actions) : NULL;
        a = a ? nl_attr_find_nested(a, 1) : NULL;
        a = a ? nl_attr_find_nested(a, TCA_ACT_KIND) : NULL;
        return a && !strcmp(nl_attr_get_string(a), "police");
    }
    return false;
}

/* Returns true if the link with index 'ifindex', in the switch's network
 * namespace, has a policer of netdev-linux, of an earlier run. */
static bool
has_policer(int ifindex)
{
    uint64_t buffer_stub[NL_DUMP_BUFSIZE / 8];
    struct ofpbuf request, filter, buffer;
    struct nl_dump dump;
    bool found = false;

    tc_make_request(ifindex, RTM_GETTFILTER, NLM_F_DUMP,
                    &request)->tcm_parent = TC_INGRESS_PARENT;
    nl_dump_start(&dump, NETLINK_ROUTE, &request);
    ofpbuf_uninit(&request);

    ofpbuf_use_stub(&buffer, buffer_stub, sizeof buffer_stub);
    while (nl_dump_next(&dump, &filter, &buffer)) {
        found = found || is_policer(&filter);
    }
    ofpbuf_uninit(&buffer);
    nl_dump_done(&dump);
    return found;
}

/* Returns true if the link of 'tt', which is where netdev-linux takes it to
 * be, has no policing of ours.  An ingress queueing discipline without a
 * policer is the administrator's, and netdev-linux would remove it. */
static bool
is_unpoliced(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    if (!tt->unpoliced && !tt->policed) {
        tt->unpoliced = !has_policer(linux_get_ifindex(tt_name(tt)));
    }
    return tt->unpoliced;
}

static int
netdev_turbotap_set_policing(struct netdev *netdev, unsigned int kbits_rate,
                             unsigned int kbits_burst, unsigned int kpkts_rate,
                             unsigned int kpkts_burst)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    bool wanted = kbits_rate || kpkts_rate;
    int error = may_set(tt, "policing", wanted,
                        NETDEV_TURBOTAP_PROBLEM_POLICING);

    /* Nothing by the name of a link where there is nothing to be done: the
     * switch comes here again and again for each port, and the device may be
     * moved at any time. */
    ovs_mutex_lock(&tt->linux_.mutex);
    if (error || (!wanted && is_unpoliced(tt))) {
        ovs_mutex_unlock(&tt->linux_.mutex);
        return wanted ? error : 0;
    }
    tt->unpoliced = false;
    tt->policed = true;
    ovs_mutex_unlock(&tt->linux_.mutex);

    error = netdev_tap_class.set_policing(netdev, kbits_rate, kbits_burst,
                                          kpkts_rate, kpkts_burst);
    ovs_mutex_lock(&tt->linux_.mutex);
    tt->unpoliced = !wanted && !error;
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

/* Returns true if the device of 'tt' came without QoS, and has got none from
 * us since: it had the qdisc that all turbotap devices have, or get before
 * they are up.  netdev-linux takes that for somebody else's, and would remove
 * it. */
static bool
is_without_qos(struct netdev_turbotap *tt)
{
    bool without;

    /* What becomes of it later is the administrator's doing. */
    ovs_mutex_lock(&tt->linux_.mutex);
    without = (!tt->linux_.tc
               && (tt->without_qos
                   || !strcmp(tt->link.qdisc, "noop")
                   || !strcmp(tt->link.qdisc, "noqueue")));
    tt->without_qos = without;
    ovs_mutex_unlock(&tt->linux_.mutex);
    return without;
}

static int
netdev_turbotap_set_qos(struct netdev *netdev, const char *type,
                        const struct smap *details)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    bool wanted = type && type[0];
    int error = may_set(tt, "QoS", wanted, NETDEV_TURBOTAP_PROBLEM_QOS);
    char qdisc[IFNAMSIZ];

    ovs_mutex_lock(&tt->linux_.mutex);
    if (!error && tt->qos_qdisc[0]
        && !netdev_turbotap_read_qdisc(tt, qdisc)
        && strcmp(qdisc, tt->qos_qdisc)) {
        /* Of this, an event is under way. */
        netdev_turbotap_forget_qos(tt);
    }
    tt->tc_lost = false;
    ovs_mutex_unlock(&tt->linux_.mutex);
    if (error || (!wanted && is_without_qos(tt))) {
        return wanted ? error : 0;
    }

    error = netdev_tap_class.set_qos(netdev, type, details);
    ovs_mutex_lock(&tt->linux_.mutex);
    if (wanted && !error) {
        netdev_turbotap_read_qdisc(tt, tt->qos_qdisc);
    } else {
        if (tt->owned && tt->qos_qdisc[0]) {
            netdev_turbotap_avoid_default_qdisc(tt);
        }
        tt->qos_qdisc[0] = '\0';
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return error;
}

/* Defines a function of the class that calls netdev-linux's, with parameters
 * PARAMS, of which ARGS are the names. */
#define INHERIT(FUNCTION, PARAMS, ARGS)                         \
    static int                                                  \
    netdev_turbotap_##FUNCTION PARAMS                           \
    {                                                           \
        int error = netdev_turbotap_is_inherited(netdev);       \
                                                                \
        return error ? error : netdev_tap_class.FUNCTION ARGS;  \
    }

INHERIT(set_advertisements,
        (struct netdev *netdev, enum netdev_features advertise),
        (netdev, advertise))
INHERIT(get_qos,
        (const struct netdev *netdev, const char **typep,
         struct smap *details),
        (netdev, typep, details))
INHERIT(get_queue,
        (const struct netdev *netdev, unsigned int queue_id,
         struct smap *details),
        (netdev, queue_id, details))
INHERIT(set_queue,
        (struct netdev *netdev, unsigned int queue_id,
         const struct smap *details),
        (netdev, queue_id, details))
INHERIT(delete_queue,
        (struct netdev *netdev, unsigned int queue_id),
        (netdev, queue_id))
INHERIT(get_queue_stats,
        (const struct netdev *netdev, unsigned int queue_id,
         struct netdev_queue_stats *stats),
        (netdev, queue_id, stats))
INHERIT(queue_dump_start,
        (const struct netdev *netdev, void **state),
        (netdev, state))
INHERIT(dump_queue_stats,
        (const struct netdev *netdev, netdev_dump_queue_stats_cb *cb,
         void *aux),
        (netdev, cb, aux))
INHERIT(set_in4,
        (struct netdev *netdev, struct in_addr addr, struct in_addr mask),
        (netdev, addr, mask))
INHERIT(get_addr_list,
        (const struct netdev *netdev, struct in6_addr **addr,
         struct in6_addr **mask, int *n_in6),
        (netdev, addr, mask, n_in6))
INHERIT(add_router,
        (struct netdev *netdev, struct in_addr router),
        (netdev, router))
INHERIT(arp_lookup,
        (const struct netdev *netdev, ovs_be32 ip, struct eth_addr *mac),
        (netdev, ip, mac))

/* The speed of a tap is what its administrator says that it is (ethtool -s),
 * and 10 Mb/s by default.  netdev-linux would ask for it in the same way, but
 * warn of a device that is moved in between. */

/* Stores the speed of 'netdev' in Mb/s in '*speed', 0 if it is not known, and
 * in '*full_duplex' whether it has that in both directions at once.  Returns 0
 * or a positive errno value. */
static int
read_speed(const struct netdev *netdev, uint32_t *speed, bool *full_duplex)
{
    struct ethtool_cmd cmd = { .cmd = ETHTOOL_GSET };
    struct ifreq ifr = { .ifr_data = (void *) &cmd };
    int error = netdev_turbotap_is_inherited(netdev);

    if (!error) {
        ovs_strzcpy(ifr.ifr_name, netdev_get_name(netdev),
                    sizeof ifr.ifr_name);
        error = af_inet_ioctl(SIOCETHTOOL, &ifr);
    }
    if (!error) {
        *speed = ethtool_cmd_speed(&cmd);
        if (*speed == (uint32_t) SPEED_UNKNOWN) {
            *speed = 0;
        }
        *full_duplex = cmd.duplex == DUPLEX_FULL;
    }
    return error;
}

static int
netdev_turbotap_get_features(const struct netdev *netdev,
                             enum netdev_features *current,
                             enum netdev_features *advertised,
                             enum netdev_features *supported,
                             enum netdev_features *peer)
{
    uint32_t speed;
    bool full;
    int error = read_speed(netdev, &speed, &full);

    if (!error) {
        *current = (NETDEV_F_COPPER
                    | (speed == 10 ? (full ? NETDEV_F_10MB_FD
                                      : NETDEV_F_10MB_HD)
                       : speed == 100 ? (full ? NETDEV_F_100MB_FD
                                         : NETDEV_F_100MB_HD)
                       : speed == 1000 ? (full ? NETDEV_F_1GB_FD
                                          : NETDEV_F_1GB_HD)
                       : speed == 10000 ? NETDEV_F_10GB_FD
                       : speed == 40000 ? NETDEV_F_40GB_FD
                       : speed == 100000 ? NETDEV_F_100GB_FD
                       : speed == 1000000 ? NETDEV_F_1TB_FD
                       : speed ? NETDEV_F_OTHER : 0));
        *advertised = *supported = *peer = 0;
    }
    return error;
}

NETDEV_TURBOTAP_IF_GET_SPEED(
static int
netdev_turbotap_get_speed(const struct netdev *netdev, uint32_t *current,
                          uint32_t *max)
{
    bool full_duplex;

    *max = 0;
    return read_speed(netdev, current, &full_duplex);
}
)

NETDEV_TURBOTAP_IF_GET_DUPLEX(
static int
netdev_turbotap_get_duplex(const struct netdev *netdev, bool *full_duplex)
{
    uint32_t speed;

    return read_speed(netdev, &speed, full_duplex);
}
)

/* The carrier of a tap is what the link says: there is no MII to poll. */
static int
netdev_turbotap_set_miimon_interval(struct netdev *netdev OVS_UNUSED,
                                    long long int interval OVS_UNUSED)
{
    return 0;
}

void
netdev_turbotap_inherit_init_class(struct netdev_class *class)
{
    class->set_policing = netdev_turbotap_set_policing;
    class->get_features = netdev_turbotap_get_features;
    NETDEV_TURBOTAP_IF_GET_SPEED(
        class->get_speed = netdev_turbotap_get_speed;
    )
    NETDEV_TURBOTAP_IF_GET_DUPLEX(
        class->get_duplex = netdev_turbotap_get_duplex;
    )
    class->set_advertisements = netdev_turbotap_set_advertisements;
    class->set_miimon_interval = netdev_turbotap_set_miimon_interval;
    class->set_qos = netdev_turbotap_set_qos;
    class->get_qos = netdev_turbotap_get_qos;
    class->get_queue = netdev_turbotap_get_queue;
    class->set_queue = netdev_turbotap_set_queue;
    class->delete_queue = netdev_turbotap_delete_queue;
    class->get_queue_stats = netdev_turbotap_get_queue_stats;
    class->queue_dump_start = netdev_turbotap_queue_dump_start;
    class->dump_queue_stats = netdev_turbotap_dump_queue_stats;
    class->set_in4 = netdev_turbotap_set_in4;
    class->get_addr_list = netdev_turbotap_get_addr_list;
    class->add_router = netdev_turbotap_add_router;
    class->arp_lookup = netdev_turbotap_arp_lookup;
}
