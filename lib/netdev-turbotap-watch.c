/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What becomes of the links of turbotap netdevs, which the main thread hears
 * of: changes, moves, the end of a device, and another one in its place.  Must
 * not know the settings of a link. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <poll.h>

#include "coverage.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "timeval.h"
#include "turbotap-watch.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_watch);

COVERAGE_DEFINE(turbotap_link_event);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* All netdev_turbotaps, for link events. */
static struct ovs_mutex turbotaps_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list all_turbotaps OVS_GUARDED_BY(turbotaps_mutex)
    = OVS_LIST_INITIALIZER(&all_turbotaps);

/* Is there one that is 'gone' or 'ending', or to be looked at again? */
static bool unsettled OVS_GUARDED_BY(turbotaps_mutex);

/* Reports changes of links.  Only the main thread uses it. */
static struct turbotap_watch *watch;

/* Has changes of links reported from now on, unless they are already.  Returns
 * 0 or a positive errno value. */
int
netdev_turbotap_open_watch(void)
{
    return watch ? 0 : turbotap_watch_open(&watch);
}

/* Returns true if 'event' may tell something of the device of 'tt'.  It is not
 * believed any further: it may be of another link that has the place of ours
 * by now. */
static bool
concerns(const struct turbotap_event *event, const struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    switch (event->type) {
    case TURBOTAP_LINK_CHANGED:
    case TURBOTAP_LINK_DELETED:
    case TURBOTAP_QDISC_DELETED:
        return (event->nsid == tt->place.nsid
                && event->info.ifindex == tt->place.ifindex);
    case TURBOTAP_NETNS_DELETED:
        return event->nsid == tt->place.nsid;
    case TURBOTAP_LINKS_LOST:
        return true;
    default:
        OVS_NOT_REACHED();
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
        if (!tt->gone && concerns(event, tt)
            && !netdev_turbotap_update_link(tt)) {
            netdev_turbotap_guard(tt, event->type == TURBOTAP_LINK_CHANGED
                                      ? &event->info : NULL);
        }
        ovs_mutex_unlock(&tt->linux_.mutex);
    }
}

/* Does what there is to do for netdevs whose device is about to be deleted, or
 * was, or is to be looked at again. */
static void
settle(void)
    OVS_REQUIRES(turbotaps_mutex)
{
    struct netdev_turbotap *tt;

    unsettled = false;
    LIST_FOR_EACH (tt, list_node, &all_turbotaps) {
        ovs_mutex_lock(&tt->linux_.mutex);
        if (tt->ending) {
            tt->ending = false;
            netdev_turbotap_update_link(tt);
        }
        if (tt->gone && tt->rxqs && !tt->new_dev
            && time_msec() >= tt->remake_at) {
            tt->remake_at = time_msec() + NETDEV_TURBOTAP_REMAKE_MS;
            netdev_turbotap_remake_device(tt);
        }
        if (!tt->gone && tt->rxqs && time_msec() >= tt->guard_at
            && !netdev_turbotap_update_link(tt)) {
            netdev_turbotap_guard(tt, NULL);
        }
        unsettled |= (tt->ending || (tt->gone && tt->rxqs)
                      || tt->guard_at != LLONG_MAX);
        ovs_mutex_unlock(&tt->linux_.mutex);
    }
}

/* Has the keeper hold all devices of which it was not told yet. */
static void
keep_all(void)
    OVS_REQUIRES(turbotaps_mutex)
{
    struct netdev_turbotap *tt;

    LIST_FOR_EACH (tt, list_node, &all_turbotaps) {
        ovs_mutex_lock(&tt->linux_.mutex);
        if (!tt->gone && tt->rxqs
            && netdev_turbotap_keeper_wants(tt_name(tt))) {
            netdev_turbotap_keep(tt);
        }
        ovs_mutex_unlock(&tt->linux_.mutex);
    }
}

/* Has each netdev say what is wrong with the keeper, if anything. */
static void
say_keeper_problem(void)
    OVS_REQUIRES(turbotaps_mutex)
{
    static bool said = false;
    struct ds problem = DS_EMPTY_INITIALIZER;
    struct netdev_turbotap *tt;

    netdev_turbotap_keeper_problem("", "", &problem);
    if (problem.length || said) {
        said = problem.length > 0;
        LIST_FOR_EACH (tt, list_node, &all_turbotaps) {
            ovs_mutex_lock(&tt->linux_.mutex);
            ds_clear(&problem);
            if (said) {
                netdev_turbotap_keeper_problem(
                    tt_name(tt), "the port's device is lost if the switch "
                    "restarts before it does", &problem);
            }
            netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_KEEPER,
                                        &problem);
            ovs_mutex_unlock(&tt->linux_.mutex);
        }
    }
    ds_destroy(&problem);
}

void
netdev_turbotap_run(const struct netdev_class *class)
{
    struct turbotap_event event;
    int error;

    /* Once for all classes. */
    if (strcmp(class->type, "turbotap")) {
        return;
    }
    netdev_turbotap_reap(NULL, NULL);
    netdev_turbotap_retry_run();
    netdev_turbotap_restore_internal();
    if (!watch) {
        return;
    }
    ovs_mutex_lock(&turbotaps_mutex);
    if (netdev_turbotap_keeper_run()) {
        keep_all();
    }
    say_keeper_problem();
    while (!(error = turbotap_watch_next(watch, &event))) {
        handle_event(&event);
    }
    settle();
    ovs_mutex_unlock(&turbotaps_mutex);
    if (error != EAGAIN) {
        VLOG_WARN_RL(&rl, "could not receive link events (%s)",
                     ovs_strerror(error));
    }
}

static void
netdev_turbotap_wait(const struct netdev_class *class OVS_UNUSED)
{
    struct netdev_turbotap *tt;

    netdev_turbotap_retry_wait();
    if (!watch) {
        return;
    }
    poll_fd_wait(turbotap_watch_fd(watch), POLLIN);
    netdev_turbotap_keeper_wait();

    ovs_mutex_lock(&turbotaps_mutex);
    if (unsettled) {
        LIST_FOR_EACH (tt, list_node, &all_turbotaps) {
            ovs_mutex_lock(&tt->linux_.mutex);
            if (tt->ending) {
                /* Of the end of a namespace there is no event.  But a queue
                 * that receives nothing wakes up when its device is
                 * deleted. */
                poll_fd_wait(turbotap_dev_n_txq(tt->dev)
                             ? turbotap_dev_txq_fd(tt->dev, 0)
                             : turbotap_dev_rxq_fd(tt->dev, 0), POLLIN);
            }
            if (tt->gone && tt->rxqs) {
                poll_timer_wait_until(tt->remake_at);
            } else if (!tt->gone && tt->rxqs) {
                poll_timer_wait_until(tt->guard_at);
            }
            ovs_mutex_unlock(&tt->linux_.mutex);
        }
    }
    ovs_mutex_unlock(&turbotaps_mutex);
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

void
netdev_turbotap_watch_init_class(struct netdev_class *class)
{
    class->run = netdev_turbotap_run;
    class->wait = netdev_turbotap_wait;
}
