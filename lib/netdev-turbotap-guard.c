/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What others do to a port's device: they attach queues to it, and then
 * change settings that are the device's, not the queue's.  The kernel lets
 * anybody do that who has CAP_NET_ADMIN where the device is, root in a
 * container for one.  What can be set right is set right, and what cannot is
 * said.  Must not know where the device is, nor queues of our own beyond their
 * number.
 *
 * Attaching a queue to a device that is up makes an event, closing it and all
 * that was done to the device in between do not (tun_set_iff() and
 * __tun_chr_ioctl() of drivers/net/tun.c).  So a device at which somebody was
 * seen is looked at again and again until he is gone, and once more then. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <unistd.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/vlog.h"
#include "timeval.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_guard);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* How often to look at a device of which somebody else has queues, in ms. */
#define GUARD_MS 200

/* How long somebody has to have them before the user is told, in ms: a queue
 * of our own that was just closed is released by the kernel when the last I/O
 * on it has ended. */
#define GRACE_MS 500

/* Returns how many queues others than 'tt' have of the device, as 'tun'
 * says. */
static unsigned int
count_strange(const struct netdev_turbotap *tt,
              const struct turbotap_link_tun *tun)
    OVS_REQUIRES(tt->linux_.mutex)
{
    unsigned int attached, detached, n = tun->n_queues + tun->n_disabled;

    turbotap_dev_count_queues(tt->dev, &attached, &detached);
    return n > attached + detached ? n - attached - detached : 0;
}

/* Has the device of 'tt' looked at soon, if 'tun' says that others have queues
 * of it: what was done to a device that is down makes no event, and events get
 * lost. */
void
netdev_turbotap_guard_look(struct netdev_turbotap *tt,
                           const struct turbotap_link_tun *tun)
    OVS_REQUIRES(tt->linux_.mutex)
{
    if (!tt->n_strange && count_strange(tt, tun)) {
        tt->guard_at = time_msec();
    }
}

/* Sets the device of 'tt' as it was, of which somebody else had queues if
 * 'suspect'. */
static void
set_right(struct netdev_turbotap *tt, bool suspect)
    OVS_REQUIRES(tt->linux_.mutex)
{
    const struct turbotap_link_tun *tun = &tt->link.tun;
    unsigned int changed = turbotap_dev_check(tt->dev);
    bool owner = tt->owned && tun->owner != geteuid();
    bool persist = tt->owned && !tun->persist;
    int error = 0;

    if (changed || owner || persist) {
        VLOG_WARN_RL(&rl, "%s: another process has changed settings of the "
                     "device:%s%s%s%s%s; setting them back", tt_name(tt),
                     changed & TURBOTAP_DEV_VNET_HDR_SIZE
                     ? " virtio-net header size" : "",
                     changed & TURBOTAP_DEV_BYTE_ORDER ? " byte order" : "",
                     changed & TURBOTAP_DEV_SNDBUF ? " send buffer" : "",
                     owner ? " owner" : "", persist ? " persistence" : "");
    }
    if (changed || suspect) {
        error = turbotap_dev_restore(tt->dev);
    }
    if (!error && owner) {
        error = turbotap_dev_set_owner(tt->dev, geteuid());
    }
    if (!error && persist) {
        error = turbotap_dev_set_persist(tt->dev, true);
    }
    if (error) {
        VLOG_WARN_RL(&rl, "%s: could not set the device back (%s)",
                     tt_name(tt), ovs_strerror(error));
    }
}

/* Looks at what others have done to the device of 'tt', which has one, and of
 * which 'tt->link' is up to date.  'seen' is what an event said about it, if
 * that is not null. */
void
netdev_turbotap_guard(struct netdev_turbotap *tt,
                      const struct turbotap_link_info *seen)
    OVS_REQUIRES(tt->linux_.mutex)
{
    unsigned int n = count_strange(tt, &tt->link.tun);
    unsigned int attached, detached;
    struct ds problem = DS_EMPTY_INITIALIZER;
    long long int now = time_msec();

    set_right(tt, n || tt->n_strange || (seen && count_strange(tt,
                                                               &seen->tun)));
    if (!n) {
        tt->guard_at = LLONG_MAX;
    } else {
        if (!tt->n_strange) {
            tt->strange_since = now;
        }
        tt->guard_at = now + GUARD_MS;
        /* A detached one takes nothing, and may be the keeper's, which has not
         * been told yet that it is not used any more. */
        turbotap_dev_count_queues(tt->dev, &attached, &detached);
        if (now - tt->strange_since >= GRACE_MS
            && tt->link.tun.n_queues > attached) {
            attached = tt->link.tun.n_queues - attached;
            ds_put_format(&problem, "%s: another process has %u %s of the "
                          "device, and gets a part of what the host sends: "
                          "end it, and let nobody attach to the device",
                          tt_name(tt), attached,
                          attached == 1 ? "queue" : "queues");
        }
    }
    tt->n_strange = n;
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_STRANGE,
                                &problem);
    ds_destroy(&problem);
}
