/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The device behind a turbotap netdev: claimed, made again, given up.  Must
 * not know queues or frames, nor how it is known whose a device is
 * (netdev-turbotap-claim.c).
 *
 * The device and the netdev are not born and do not die together.  A netdev
 * that is destroyed and made again while the switch is configured finds its
 * device again, with the host's addresses.  One whose device was deleted makes
 * another. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_device);

/* Gives the device of '*claim' back, which 'tt' cannot use because of 'error',
 * and appends that to 'problem'. */
static void
give_up(const struct netdev_turbotap *tt, struct netdev_turbotap_claim *claim,
        int error, struct ds *problem)
{
    ds_put_format(problem, "%s: could not set up tap device: %s", tt_name(tt),
                  ovs_strerror(error));
    netdev_turbotap_give_up(claim->dev, tt_name(tt), claim->owned);
    claim->dev = NULL;
}

/* Claims a device for 'tt' as '*claim', and agrees with the host on what it
 * leaves to the switch.  Returns 0 or a positive errno value, and then appends
 * to 'problem' what is wrong, for the user. */
static int
claim_device(struct netdev_turbotap *tt, struct netdev_turbotap_claim *claim,
             struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    char ifname[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];
    int error;

    error = netdev_turbotap_claim(tt_name(tt), claim, problem);
    if (error) {
        return error;
    }
    tt->owned = claim->owned;
    error = netdev_turbotap_offload_open(tt, claim->dev);
    if (error) {
        give_up(tt, claim, error, problem);
        return error;
    }
    VLOG_INFO("%s: %s tap device %s, ifindex %d", tt_name(tt), claim->how,
              turbotap_escape(claim->info.name, ifname, sizeof ifname),
              claim->info.ifindex);
    return 0;
}

/* Gives 'tt', which has none, a device.  Returns 0 or a positive errno value,
 * and then appends to 'problem' what is wrong, for the user. */
int
netdev_turbotap_open_device(struct netdev_turbotap *tt, struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct netdev_turbotap_claim claim;
    int error;

    error = netdev_turbotap_may_try(tt_name(tt), problem);
    if (error) {
        return error;
    }
    error = claim_device(tt, &claim, problem);
    if (!error) {
        tt->dev = claim.dev;
        error = netdev_turbotap_set_link(tt, &claim.place, &claim.info);
        if (error) {
            give_up(tt, &claim, error, problem);
            tt->dev = NULL;
        }
    }
    if (error) {
        netdev_turbotap_note_failure(tt_name(tt), error, ds_cstr(problem),
                                     claim.made);
    }
    return error;
}

/* Makes another device for 'tt', whose device was deleted, and has 'tt'
 * reconfigured if that worked. */
void
netdev_turbotap_remake_device(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct ds problem = DS_EMPTY_INITIALIZER;
    struct netdev_turbotap_claim claim;

    if (!claim_device(tt, &claim, &problem)) {
        tt->new_dev = claim.dev;
        /* As the database says. */
        if (!eth_addr_is_zero(tt->wanted_mac)) {
            turbotap_place_set_mac(turbotap_dev_rxq_fd(tt->new_dev, 0),
                                   tt->wanted_mac.ea);
        }
        netdev_request_reconfigure(&tt->linux_.up);
    }
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_DEVICE, &problem);
    ds_destroy(&problem);
}

/* Takes the new device of 'tt', which has no queues of the old one any more,
 * into use.  Returns 0 or a positive errno value, and then 'tt' is as without
 * a device. */
int
netdev_turbotap_replace_device(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    turbotap_dev_close(tt->dev);
    tt->dev = tt->new_dev;
    tt->new_dev = NULL;
    return netdev_turbotap_find_link(tt);
}

/* Takes the device from 'tt', which is about to be destroyed.  If 'keep', the
 * device stays until netdev_turbotap_reap(). */
void
netdev_turbotap_close_device(struct netdev_turbotap *tt, bool keep)
{
    if (tt->new_dev) {
        netdev_turbotap_release(tt->new_dev, tt_name(tt), tt->owned);
        tt->new_dev = NULL;
    }
    if (!tt->dev) {
        return;
    }
    if (tt->gone) {
        netdev_turbotap_release(tt->dev, tt_name(tt), false);
    } else if (keep) {
        netdev_turbotap_orphan(tt->dev, tt_name(tt), tt->owned);
    } else {
        netdev_turbotap_note_failure(tt_name(tt), EAGAIN,
                                     "the datapath did not take the port",
                                     turbotap_dev_is_created(tt->dev));
        netdev_turbotap_give_up(tt->dev, tt_name(tt), tt->owned);
    }
    tt->dev = NULL;
}
