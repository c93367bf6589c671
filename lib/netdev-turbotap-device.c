/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The device behind a turbotap netdev: where it comes from, and what becomes
 * of it.  Must not know queues or frames.
 *
 * The device and the netdev are not born and do not die together.  A netdev
 * that is destroyed and made again while the switch is configured (since its
 * port gets another number, type or bridge) finds its device again, with the
 * host's addresses.  One whose device was deleted makes another. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "dirs.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/shash.h"
#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_device);

/* Begins the alias of a device that a switch created.  The rest says which
 * one, by its run-time folder, so that a switch that has no keeper to ask
 * knows its own again, and leaves those of others alone. */
#define ALIAS_PREFIX "Open vSwitch turbotap in "

/* A device without a netdev. */
struct orphan {
    struct turbotap_dev *dev;
    bool owned;
};

/* The orphans, by the name of the netdev that they had. */
static struct ovs_mutex orphans_mutex = OVS_MUTEX_INITIALIZER;
static struct shash orphans OVS_GUARDED_BY(orphans_mutex)
    = SHASH_INITIALIZER(&orphans);

/* The devices that had an alias of ours when they were last looked for.  Who
 * needs them looks again if they are stale, which they are after each
 * reconfiguration of the switch: that may make a thousand ports, each of which
 * has to know whether there is a device for it already, and to find out is to
 * look at all links of all network namespaces.  The main thread's. */
static struct turbotap_link_found *marked;
static unsigned int n_marked;
static bool marked_stale = true;

/* Stores the alias of the devices of our netdev 'name' in 'alias', and returns
 * the length of what those of all our netdevs have in common. */
static size_t
get_own_alias(const char *name, char alias[TURBOTAP_ALIAS_LEN + 1])
{
    int n = snprintf(alias, TURBOTAP_ALIAS_LEN + 1 - IFNAMSIZ, "%s%s, ",
                     ALIAS_PREFIX, ovs_rundir());
    size_t len = MIN(n, TURBOTAP_ALIAS_LEN - IFNAMSIZ);

    ovs_strlcpy(alias + len, name, IFNAMSIZ);
    return len;
}

/* Looks for the devices that have an alias of ours, if 'marked' is stale. */
static void
find_marked(void)
{
    char prefix[TURBOTAP_ALIAS_LEN + 1];

    if (marked_stale) {
        free(marked);
        prefix[get_own_alias("", prefix)] = '\0';
        netdev_turbotap_find_aliases(prefix, &marked, &n_marked);
        marked_stale = false;
    }
}

/* Appends to 'problem' that the device of 'tt' could not be opened because of
 * 'error'. */
static void
format_open_error(const struct netdev_turbotap *tt, int error,
                  struct ds *problem)
{
    ds_put_format(problem, "%s: could not open tap device: %s", tt_name(tt),
                  error == EINVAL
                  ? "the name is in use by something else than a "
                    "multi-queue tap device, or is not valid"
                  : error == EBUSY
                  ? "the name is in use"
                  : error == ENOENT || error == ENODEV
                  ? "/dev/net/tun is missing, load kernel module tun"
                  : error == EACCES || error == EPERM
                  ? "no permission for /dev/net/tun, CAP_NET_ADMIN is "
                    "needed"
                  : ovs_strerror(error));
}

/* Takes the orphan that 'tt' left behind, if there is one, and stores it in
 * '*devp' and whether it is ours to delete in '*ownedp'.  Returns true if
 * successful. */
static bool
take_orphan(const struct netdev_turbotap *tt, struct turbotap_dev **devp,
            bool *ownedp)
{
    struct orphan *orphan;

    ovs_mutex_lock(&orphans_mutex);
    orphan = shash_find_and_delete(&orphans, tt_name(tt));
    ovs_mutex_unlock(&orphans_mutex);
    if (!orphan) {
        return false;
    }
    *devp = orphan->dev;
    *ownedp = orphan->owned;
    free(orphan);
    return true;
}

/* Ends 'dev', which was the device of netdev 'name', and deletes the device if
 * it is 'owned'. */
static void
end_device(struct turbotap_dev *dev, const char *name, bool owned)
{
    netdev_turbotap_forget(name);
    if (owned) {
        int error = turbotap_dev_set_persist(dev, false);

        if (error && error != EBADFD) {
            VLOG_WARN("%s: could not delete tap device (%s)", name,
                      ovs_strerror(error));
        }
    }
    turbotap_dev_close(dev);
}

/* Ends the devices that the keeper holds for netdevs that are not 'wanted':
 * their ports were deleted while no switch ran. */
static void
reap_kept(const struct sset *wanted)
{
    struct sset names = SSET_INITIALIZER(&names);
    const char *name;

    netdev_turbotap_list_kept(&names);
    SSET_FOR_EACH (name, &names) {
        struct turbotap_dev *dev;
        bool owned;

        if (sset_contains(wanted, name)) {
            continue;
        }
        if (!netdev_turbotap_get_kept(name, false, &dev, &owned)
            || !netdev_turbotap_get_kept(name, true, &dev, &owned)) {
            VLOG_INFO("%s: deleting the device, whose port is no more", name);
            end_device(dev, name, owned);
        } else {
            netdev_turbotap_forget(name);
        }
    }
    sset_destroy(&names);
}

/* Ends the devices that have an alias of ours and no keeper, and are not for
 * netdevs that are 'wanted'. */
static void
reap_marked(const struct sset *wanted)
{
    char prefix[TURBOTAP_ALIAS_LEN + 1];
    size_t len = get_own_alias("", prefix);

    find_marked();
    for (unsigned int i = 0; i < n_marked; i++) {
        const struct turbotap_link_found *f = &marked[i];
        const char *name = f->info.alias + len;
        struct turbotap_dev *dev;
        int error;

        if (!name[0] || sset_contains(wanted, name)) {
            continue;
        }
        error = netdev_turbotap_open_found(f, &dev);
        if (!error) {
            VLOG_INFO("%s: deleting device %s, whose port is no more", name,
                      f->info.name);
            end_device(dev, name, true);
        } else if (error != ENODEV) {
            /* Gone meanwhile: a network namespace may have several names, by
             * each of which the device was found. */
            VLOG_WARN("%s: could not delete device %s, whose port is no more, "
                      "in the network namespace with id %d: %s", name,
                      f->info.name, f->nsid, ovs_strerror(error));
        }
    }
}

void
netdev_turbotap_reap(const struct sset *wanted)
{
    static bool first = true;
    struct shash_node *node;

    ovs_mutex_lock(&orphans_mutex);
    SHASH_FOR_EACH_SAFE (node, &orphans) {
        struct orphan *orphan = node->data;

        if (!wanted || !sset_contains(wanted, node->name)) {
            end_device(orphan->dev, node->name, orphan->owned);
            shash_delete(&orphans, node);
            free(orphan);
        }
    }
    ovs_mutex_unlock(&orphans_mutex);

    if (wanted && first) {
        first = false;
        reap_kept(wanted);
        reap_marked(wanted);
    }
    marked_stale = true;
}

/* Looks for the device of 'tt' of an earlier run, which has 'alias', in other
 * network namespaces, and stores it in '*devp'.  Returns ENOENT if there is
 * none, 0 or another positive errno value if there is one, and in the latter
 * case appends to 'problem' why it cannot be opened, for the user. */
static int
open_elsewhere(const struct netdev_turbotap *tt, const char *alias,
               struct turbotap_dev **devp, struct ds *problem)
{
    int error = ENOENT;

    find_marked();
    for (unsigned int i = 0; i < n_marked && error == ENOENT; i++) {
        const struct turbotap_link_found *f = &marked[i];

        if (f->nsid == TURBOTAP_NSID_SELF || strcmp(f->info.alias, alias)) {
            continue;
        }
        error = netdev_turbotap_open_found(f, devp);
        if (error) {
            ds_put_format(problem, "%s: could not open the port's device, "
                          "which is %s in the network namespace with id %d, "
                          "without turbotap-keeper: %s", tt_name(tt),
                          f->info.name, f->nsid, ovs_strerror(error));
        }
    }
    return error;
}

/* Opens the device of 'tt' of an earlier run, or one that has its name, or
 * makes one, and stores it in '*devp' and whether it is ours to delete in
 * '*ownedp'. Returns 0 or a positive errno value, and then appends to
 * 'problem' what is wrong, for the user. */
static int
open_by_name(const struct netdev_turbotap *tt, struct turbotap_dev **devp,
             bool *ownedp, struct ds *problem)
{
    char own[TURBOTAP_ALIAS_LEN + 1], alias[TURBOTAP_ALIAS_LEN + 1];
    size_t common = get_own_alias(tt_name(tt), own);
    int error;

    error = open_elsewhere(tt, own, devp, problem);
    if (error != ENOENT) {
        *ownedp = true;
        return error;
    }

    if (!netdev_turbotap_find_alias(tt_name(tt), alias, sizeof alias)) {
        alias[0] = '\0';
    } else if (!strncmp(alias, ALIAS_PREFIX, strlen(ALIAS_PREFIX))
               && strncmp(alias, own, common)) {
        ds_put_format(problem, "%s: could not open tap device: it belongs to "
                      "the switch in %s", tt_name(tt),
                      alias + strlen(ALIAS_PREFIX));
        return EBUSY;
    }
    error = turbotap_dev_open(tt_name(tt), true, devp);
    if (error) {
        format_open_error(tt, error, problem);
        return error;
    }
    *ownedp = (turbotap_dev_is_created(*devp)
               || !strncmp(alias, own, common));
    return 0;
}

/* Finds or makes a device for 'tt', and stores it in '*devp' and whether it is
 * ours to delete in '*ownedp'.  Returns 0 or a positive errno value, and then
 * appends to 'problem' what is wrong, for the user. */
static int
get_device(struct netdev_turbotap *tt, struct turbotap_dev **devp,
           bool *ownedp, struct turbotap_place *place,
           struct turbotap_link_info *info, struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    char alias[TURBOTAP_ALIAS_LEN + 1];
    const char *mark = NULL;
    const char *how;
    int error;

    if (take_orphan(tt, devp, ownedp)) {
        how = "kept";
    } else {
        error = netdev_turbotap_get_kept(tt_name(tt), true, devp, ownedp);
        if (error == EINVAL) {
            /* An older turbotap opened it, and a device keeps that for as long
             * as anybody has a descriptor of it. */
            VLOG_INFO("%s: opening the device anew, for frames with a "
                      "virtio-net header", tt_name(tt));
            netdev_turbotap_forget(tt_name(tt));
        }
        how = "found";
        if (error) {
            error = open_by_name(tt, devp, ownedp, problem);
            if (error) {
                return error;
            }
            how = turbotap_dev_is_created(*devp) ? "created" : "adopted";
            get_own_alias(tt_name(tt), alias);
            mark = alias;
        }
    }
    tt->unpoliced = false;
    tt->without_qos = false;
    error = netdev_turbotap_offload_open(tt, *devp);
    if (!error) {
        error = netdev_turbotap_adopt_link(*devp, mark, place, info);
    }
    if (error) {
        ds_put_format(problem, "%s: could not set up tap device: %s",
                      tt_name(tt), ovs_strerror(error));
        turbotap_dev_close(*devp);
        *devp = NULL;
        return error;
    }
    VLOG_INFO("%s: %s tap device %s, ifindex %d", tt_name(tt), how,
              info->name, info->ifindex);
    return 0;
}

/* Gives 'tt', which has none, a device.  Returns 0 or a positive errno value,
 * and then appends to 'problem' what is wrong, for the user. */
int
netdev_turbotap_open_device(struct netdev_turbotap *tt, struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_link_info info;
    struct turbotap_place place;
    int error;

    error = get_device(tt, &tt->dev, &tt->owned, &place, &info, problem);
    if (!error) {
        tt->gone = false;
        netdev_turbotap_set_link(tt, &place, &info);
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
    struct turbotap_link_info info;
    struct turbotap_place place;

    if (!get_device(tt, &tt->new_dev, &tt->owned, &place, &info, &problem)) {
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
    struct turbotap_link_info info;
    struct turbotap_place place;
    int error;

    turbotap_dev_close(tt->dev);
    tt->dev = tt->new_dev;
    tt->new_dev = NULL;

    error = netdev_turbotap_adopt_link(tt->dev, NULL, &place, &info);
    if (!error) {
        tt->gone = false;
        netdev_turbotap_set_link(tt, &place, &info);
    }
    return error;
}

/* Takes the device from 'tt', which is about to be destroyed.  If 'keep', the
 * device stays until netdev_turbotap_reap(). */
void
netdev_turbotap_close_device(struct netdev_turbotap *tt, bool keep)
{
    if (tt->new_dev) {
        end_device(tt->new_dev, tt_name(tt), tt->owned);
        tt->new_dev = NULL;
    }
    if (!tt->dev) {
        return;
    }
    if (!tt->gone && keep) {
        struct orphan *orphan = xmalloc(sizeof *orphan);

        orphan->dev = tt->dev;
        orphan->owned = tt->owned;
        ovs_mutex_lock(&orphans_mutex);
        shash_add(&orphans, tt_name(tt), orphan);
        ovs_mutex_unlock(&orphans_mutex);
    } else if (tt->gone || turbotap_dev_is_created(tt->dev)) {
        end_device(tt->dev, tt_name(tt), tt->owned && !tt->gone);
    } else {
        /* A device of an earlier run of the switch stays, with the keeper,
         * too, if it could not even be configured, since it has the host's
         * addresses. */
        turbotap_dev_close(tt->dev);
    }
    tt->dev = NULL;
}
