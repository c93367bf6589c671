/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Whose device a device is: the one part that answers that, through which all
 * claims and releases go.  Must not know queues, frames, or what a netdev does
 * with its device.
 *
 * A device belongs to the port of a given name of this switch if
 *
 *   - a netdev of that name had it a moment ago, in this process: it was
 *     destroyed and is made again, since its port gets another number, type or
 *     bridge; or
 *
 *   - the keeper has descriptors of it under that name, which no switch but
 *     this one gave it (netdev-turbotap-keep.c); or
 *
 *   - the record says so (turbotap-record.h), and it is where the record says.
 *
 * These are tried in that order.  Nothing else is a proof, a name or an alias
 * least of all: who is in the container can change those.  Where a proof
 * exists but cannot be had, since the keeper does not answer or the network
 * namespace cannot be opened, the claim fails, and no second device is made.
 *
 * Without any, a device of that name in the switch's network namespace is an
 * administrator's, to be adopted if nobody else uses it and never to be
 * deleted; and if there is none, one is made.  It is on record before it can
 * outlive this process.
 *
 * What nobody claims is deleted only if the record says that its port was in
 * the database that is there now: a database that was lost and made anew is no
 * reason to delete what containers use. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <unistd.h>

#include "dirs.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/shash.h"
#include "openvswitch/uuid.h"
#include "openvswitch/vlog.h"
#include "turbotap-netns.h"
#include "turbotap-record.h"
#include "uuid.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_claim);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* Begins the alias of a device that a switch made, for people and for other
 * switches.  The rest says which one, by its run-time folder, and the port. */
#define ALIAS_PREFIX "Open vSwitch turbotap in "

/* How often to claim again when what was claimed has ended meanwhile. */
#define MAX_TRIES 5

/* A device without a netdev. */
struct orphan {
    struct turbotap_dev *dev;
    bool owned;
};

static struct ovs_mutex claim_mutex = OVS_MUTEX_INITIALIZER;

/* The orphans, by the name of the netdev that they had. */
static struct shash orphans OVS_GUARDED_BY(claim_mutex)
    = SHASH_INITIALIZER(&orphans);

/* The record, NULL if it is not open. */
static struct turbotap_record *record OVS_GUARDED_BY(claim_mutex);
static bool record_is_new OVS_GUARDED_BY(claim_mutex);

/* What is wrong with it, NULL if nothing. */
static char *record_problem OVS_GUARDED_BY(claim_mutex);

/* Requests about links, of the switch's network namespace, and that. */
static struct turbotap_link *links OVS_GUARDED_BY(claim_mutex);
static struct turbotap_netns own_netns OVS_GUARDED_BY(claim_mutex);
static uint64_t own_cookie OVS_GUARDED_BY(claim_mutex);

/* The database that is there now, as in the record. */
static char database[TURBOTAP_RECORD_ID_LEN] OVS_GUARDED_BY(claim_mutex) = "-";

/* The record. */

/* Takes note of 'error', what became of the record. */
static void
note_record(int error)
    OVS_REQUIRES(claim_mutex)
{
    char *problem = NULL;

    if (error) {
        problem = xasprintf("%s/"NETDEV_TURBOTAP_RECORD": %s: ports whose "
                            "device is in another network namespace may not "
                            "survive a restart of the switch", ovs_rundir(),
                            error == EPROTO
                            ? "is not a record of this version"
                            : ovs_strerror(error));
        if (!nullable_string_is_equal(problem, record_problem)) {
            VLOG_ERR("%s", problem);
        }
    }
    free(record_problem);
    record_problem = problem;
}

/* Returns true if there is a record, of an earlier run. */
static bool
has_record(void)
{
    char *path = xasprintf("%s/"NETDEV_TURBOTAP_RECORD, ovs_rundir());
    bool found = !access(path, F_OK);

    free(path);
    return found;
}

/* Opens what is needed to claim anything, when it is needed first.  Returns 0
 * or a positive errno value. */
static int
open_all(void)
    OVS_REQUIRES(claim_mutex)
{
    int error = 0;

    if (!links) {
        error = turbotap_netns_get_own(&own_netns);
        if (!error) {
            error = turbotap_link_open(&links);
        }
        if (error) {
            VLOG_ERR_RL(&rl, "could not open rtnetlink (%s)",
                        ovs_strerror(error));
            return error;
        }
        /* Without it, a namespace is known by its inode alone. */
        turbotap_netns_get_cookie(-1, &own_cookie);
    }
    if (!record) {
        char *path = xasprintf("%s/"NETDEV_TURBOTAP_RECORD, ovs_rundir());

        note_record(turbotap_record_open(path, &record, &record_is_new));
        free(path);
    }
    return 0;
}

static const struct turbotap_record_entry *
find_entry(const char *name)
    OVS_REQUIRES(claim_mutex)
{
    return record ? turbotap_record_find(record, name) : NULL;
}

static void
remove_entry(const char *name)
    OVS_REQUIRES(claim_mutex)
{
    if (record) {
        note_record(turbotap_record_remove(record, name));
    }
}

/* Records that the device of queue 'fd', which is at 'place', is that of
 * netdev 'name', and whether it is 'owned'. */
static void
put_entry(const char *name, int fd, const struct turbotap_place *place,
          bool owned)
    OVS_REQUIRES(claim_mutex)
{
    struct turbotap_record_entry entry;
    const struct turbotap_record_entry *old;

    if (!record) {
        return;
    }
    memset(&entry, 0, sizeof entry);
    ovs_strlcpy(entry.port, name, sizeof entry.port);
    entry.owned = owned;
    entry.netns = place->netns;
    entry.nsid = place->nsid;
    entry.ifindex = place->ifindex;
    ovs_strlcpy(entry.id, database, sizeof entry.id);

    old = turbotap_record_find(record, name);
    if (place->here) {
        entry.cookie = own_cookie;
    } else if (old && turbotap_netns_equal(&old->netns, &entry.netns)
               && old->nsid == entry.nsid && old->ifindex == entry.ifindex) {
        /* Our descriptor was of it all the while. */
        entry.cookie = old->cookie;
    } else {
        struct turbotap_place now;
        int netns_fd;

        if (!turbotap_place_get(fd, &now, &netns_fd)) {
            if (turbotap_netns_equal(&now.netns, &entry.netns)) {
                turbotap_netns_get_cookie(netns_fd, &entry.cookie);
            }
            close(netns_fd);
        }
    }
    note_record(turbotap_record_put(record, &entry));
}

/* Records that the device of 'tt' is at 'tt->place'. */
void
netdev_turbotap_record_place(const struct netdev_turbotap *tt)
{
    ovs_mutex_lock(&claim_mutex);
    put_entry(tt_name(tt), turbotap_dev_rxq_fd(tt->dev, 0), &tt->place,
              tt->owned);
    ovs_mutex_unlock(&claim_mutex);
}

/* Records that the device of 'tt' is no more. */
void
netdev_turbotap_record_end(const struct netdev_turbotap *tt)
{
    ovs_mutex_lock(&claim_mutex);
    remove_entry(tt_name(tt));
    ovs_mutex_unlock(&claim_mutex);
}

/* Appends to 'problem' what is wrong with the record, if anything. */
void
netdev_turbotap_format_record_problem(const struct netdev_turbotap *tt,
                                      struct ds *problem)
{
    ovs_mutex_lock(&claim_mutex);
    if (record_problem) {
        ds_put_format(problem, "%s: %s", tt_name(tt), record_problem);
    }
    ovs_mutex_unlock(&claim_mutex);
}

/* Claiming. */

/* Appends to 'problem' that the device of netdev 'name' could not be opened
 * because of 'error'. */
static void
format_open_error(const char *name, int error, struct ds *problem)
{
    ds_put_format(problem, "%s: could not open tap device: %s", name,
                  strchr(name, '%')
                  ? "the name is not valid: expected one without '%'"
                  : error == EINVAL
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

/* Takes the orphan that netdev 'name' left behind, if there is one, as
 * '*claim'.  Returns 0 or ENOENT. */
static int
claim_orphan(const char *name, struct netdev_turbotap_claim *claim)
    OVS_REQUIRES(claim_mutex)
{
    struct orphan *orphan = shash_find_and_delete(&orphans, name);

    if (!orphan) {
        return ENOENT;
    }
    claim->dev = orphan->dev;
    claim->owned = orphan->owned;
    claim->how = "kept";
    free(orphan);
    return 0;
}

/* Takes the device that the keeper has for netdev 'name' as '*claim'.  Returns
 * 0, ENOENT if it has none, or another positive errno value if that is not
 * known, and then appends to 'problem' what is wrong. */
static int
claim_kept(const char *name, struct netdev_turbotap_claim *claim,
           struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    const struct turbotap_record_entry *entry = find_entry(name);
    int error;

    error = netdev_turbotap_get_kept(name, true, &claim->dev, &claim->owned);
    if (error == EINVAL) {
        /* An older turbotap opened it, and a device keeps that for as long as
         * anybody has a descriptor of it. */
        VLOG_INFO("%s: opening the device anew, for frames with a virtio-net "
                  "header", name);
        netdev_turbotap_forget(name);
        return ENOENT;
    } else if (error && error != ENOENT) {
        if (record && !record_is_new && !entry) {
            return ENOENT;      /* It cannot have what never was. */
        }
        if (error == EAGAIN) {
            netdev_turbotap_keeper_problem(name, "the port, whose device it "
                                           "may hold, has none until it does",
                                           problem);
            if (!problem->length) {
                ds_put_format(problem, "%s: turbotap-keeper, which may hold "
                              "the port's device, has not answered yet", name);
            }
            error = EBUSY;
        }
        if (!problem->length) {
            ds_put_format(problem, "%s: turbotap-keeper holds the port's "
                          "device, but it cannot be had from there: %s", name,
                          ovs_strerror(error));
        }
        return error;
    }
    claim->how = "found";
    if (!error && entry) {
        claim->owned = entry->owned;
    }
    return error;
}

/* Appends to 'problem' that the device of port 'entry', which is 'device',
 * cannot be opened where it is because of 'error', and returns EACCES. */
static int
refuse_recorded(const struct turbotap_record_entry *entry, const char *device,
                int error, struct ds *problem)
{
    char ifname[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];

    ds_put_format(problem, "%s: could not open the port's device, which is "
                  "%s in the network namespace with id %d, without "
                  "turbotap-keeper: %s", entry->port,
                  turbotap_escape(device, ifname, sizeof ifname), entry->nsid,
                  ovs_strerror(error));
    return EACCES;
}

/* Opens the device of 'entry' in the network namespace of 'netns_fd', which is
 * not the switch's own, and stores it in '*devp'.  Returns as
 * claim_recorded() does.
 *
 * The descriptors keep that namespace alive, which is the lesser evil. */
static int
open_there(const struct turbotap_record_entry *entry, int netns_fd,
           struct turbotap_dev **devp, struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    struct turbotap_link_info info;
    uint64_t cookie;
    int error, nsid;

    error = turbotap_link_get_nsid(links, netns_fd, &nsid);
    if (!error) {
        error = turbotap_link_get(links, nsid, entry->ifindex, &info);
    }
    if (error == ENODEV || (!error && strcmp(info.kind, "tun"))) {
        return ENOENT;
    } else if (error) {
        return refuse_recorded(entry, "a device", error, problem);
    }
    if (entry->cookie) {
        error = turbotap_netns_get_cookie(netns_fd, &cookie);
        if (!error && cookie != entry->cookie) {
            return ENOENT;      /* A later one, with the same inode. */
        }
    }
    if (!error) {
        error = turbotap_dev_open_at(netns_fd, info.name, true, devp);
    }
    return (!error ? 0
            : error == ENODEV ? EAGAIN
            : refuse_recorded(entry, info.name, error, problem));
}

/* Opens the device that the record has for netdev 'name' as '*claim'.  Returns
 * 0; ENOENT if there is none, or no more; EAGAIN if it has changed meanwhile;
 * EACCES if it is there, or may be, and cannot be opened, and then appends to
 * 'problem' why. */
static int
claim_recorded(const char *name, struct netdev_turbotap_claim *claim,
               struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    const struct turbotap_record_entry *entry = find_entry(name);
    struct turbotap_link_info info;
    int netns_fd;
    int error;

    if (!entry) {
        return ENOENT;
    }
    claim->owned = entry->owned;
    claim->how = "found";
    claim->ifindex = entry->ifindex;
    if (entry->cookie && own_cookie ? entry->cookie == own_cookie
        : turbotap_netns_equal(&entry->netns, &own_netns)) {
        error = turbotap_link_get(links, TURBOTAP_NSID_SELF, entry->ifindex,
                                  &info);
        if (error || strcmp(info.kind, "tun")) {
            return !error || error == ENODEV ? ENOENT : error;
        }
        error = turbotap_dev_open(info.name, true, &claim->dev);
        if (error) {
            format_open_error(name, error, problem);
        }
        return error == ENOENT ? EACCES : error;
    }

    if (!turbotap_netns_open(&entry->netns, &netns_fd)) {
        error = open_there(entry, netns_fd, &claim->dev, problem);
        close(netns_fd);
        return error;
    }
    error = turbotap_link_get(links, entry->nsid, entry->ifindex, &info);
    return (error == ENODEV || error == EINVAL
            || (!error && strcmp(info.kind, "tun"))
            ? ENOENT
            : refuse_recorded(entry, error ? "a device" : info.name, EACCES,
                              problem));
}

/* Returns true if the link 'info' in the switch's network namespace is the
 * device of another port than 'name', and appends that to 'problem'. */
static bool
is_of_another(const char *name, const struct turbotap_link_info *info,
              struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    const struct turbotap_record_entry *entry;

    entry = (record
             ? turbotap_record_find_device(record, own_cookie, &own_netns,
                                           info->ifindex)
             : NULL);
    if (!entry || !strcmp(entry->port, name)) {
        return false;
    }
    ds_put_format(problem, "%s: could not open tap device: it is the device "
                  "of port %s", name, entry->port);
    return true;
}

/* Stores the alias of the device of netdev 'name' in 'alias', and returns the
 * length of what those of all our netdevs have in common. */
static size_t
get_own_alias(const char *name, char alias[TURBOTAP_ALIAS_LEN + 1])
{
    int n = snprintf(alias, TURBOTAP_ALIAS_LEN + 1 - IFNAMSIZ, "%s%s, ",
                     ALIAS_PREFIX, ovs_rundir());
    size_t len = MIN(n, TURBOTAP_ALIAS_LEN - IFNAMSIZ);

    ovs_strlcpy(alias + len, name, IFNAMSIZ);
    return len;
}

/* Opens the device called 'name' in the switch's network namespace, or makes
 * it, as '*claim'.  Returns 0 or a positive errno value, and then appends to
 * 'problem' what is wrong. */
static int
claim_by_name(const char *name, struct netdev_turbotap_claim *claim,
              struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    char alias[TURBOTAP_ALIAS_LEN + 1];
    size_t common = get_own_alias(name, alias);
    struct turbotap_link_info info;
    int error;

    if (!turbotap_link_lookup(links, TURBOTAP_NSID_SELF, name, &info)) {
        if (is_of_another(name, &info, problem)) {
            return EBUSY;
        } else if (!strncmp(info.alias, ALIAS_PREFIX, strlen(ALIAS_PREFIX))
                   && strncmp(info.alias, alias, common)) {
            char owner[TURBOTAP_ESCAPED_SIZE(TURBOTAP_ALIAS_LEN + 1)];

            ds_put_format(problem, "%s: could not open tap device: it belongs "
                          "to the switch in %s", name,
                          turbotap_escape(info.alias + strlen(ALIAS_PREFIX),
                                          owner, sizeof owner));
            return EBUSY;
        }
    }
    error = turbotap_dev_open(name, true, &claim->dev);
    if (error) {
        format_open_error(name, error, problem);
        return error;
    }
    claim->owned = claim->made = turbotap_dev_is_created(claim->dev);
    claim->how = claim->owned ? "created" : "adopted";
    return 0;
}

/* Checks that nobody else uses the device of '*claim', just opened for netdev
 * 'name', and that it is the one that was looked for.  Returns 0 or a positive
 * errno value, EAGAIN if it is another one, EBUSY if somebody does, and then
 * appends that to 'problem'. */
static int
check_opened(const char *name, const struct netdev_turbotap_claim *claim,
             struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    unsigned int attached, detached, n;

    if (claim->ifindex && claim->ifindex != claim->info.ifindex) {
        return EAGAIN;
    } else if (claim->place.here && is_of_another(name, &claim->info,
                                                  problem)) {
        return EBUSY;
    }
    turbotap_dev_count_queues(claim->dev, &attached, &detached);
    n = claim->info.tun.n_queues + claim->info.tun.n_disabled;
    if (n > attached + detached) {
        char ifname[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];

        n -= attached + detached;
        ds_put_format(problem, "%s: could not open tap device %s: another "
                      "process has %u of its queues", name,
                      turbotap_escape(claim->place.name, ifname,
                                      sizeof ifname), n);
        return EBUSY;
    }
    return 0;
}

/* Makes the device of '*claim', which is that of netdev 'name', outlive this
 * process, and nobody else's: on record first. */
static int
own_device(const char *name, struct netdev_turbotap_claim *claim)
    OVS_REQUIRES(claim_mutex)
{
    int fd = turbotap_dev_rxq_fd(claim->dev, 0);
    char alias[TURBOTAP_ALIAS_LEN + 1];
    int error = 0;

    if (claim->owned && claim->info.tun.owner != geteuid()) {
        error = turbotap_dev_set_owner(claim->dev, geteuid());
    }
    put_entry(name, fd, &claim->place, claim->owned);
    if (!error && turbotap_dev_is_created(claim->dev)) {
        get_own_alias(name, alias);
        error = turbotap_place_set_alias(fd, links, alias);
    }
    if (!error && claim->owned && !claim->info.tun.persist) {
        error = turbotap_dev_set_persist(claim->dev, true);
    }
    if (error && turbotap_dev_is_created(claim->dev)) {
        remove_entry(name);
    }
    return error;
}

/* Claims a device for netdev 'name', once.  Returns 0 or a positive errno
 * value, among them EAGAIN and EBADFD if what was found has changed or ended
 * meanwhile. */
static int
claim_once(const char *name, struct netdev_turbotap_claim *claim,
           struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    bool opened = false;
    int error;

    memset(claim, 0, sizeof *claim);
    error = claim_orphan(name, claim);
    if (error == ENOENT) {
        error = claim_kept(name, claim, problem);
    }
    if (error == ENOENT) {
        opened = true;
        error = claim_recorded(name, claim, problem);
    }
    if (error == ENOENT) {
        remove_entry(name);
        claim->ifindex = 0;
        error = claim_by_name(name, claim, problem);
    }
    if (error) {
        return error;
    }

    error = turbotap_place_find(turbotap_dev_rxq_fd(claim->dev, 0), links,
                                &claim->place, &claim->info);
    if (!error && opened) {
        error = check_opened(name, claim, problem);
    }
    if (!error) {
        error = own_device(name, claim);
    }
    if (error) {
        turbotap_dev_close(claim->dev);
        claim->dev = NULL;
        if (error == EBADFD || error == ENODEV) {
            /* Deleted, or about to be along with its namespace. */
            netdev_turbotap_forget(name);
            remove_entry(name);
            error = EAGAIN;
        }
    }
    return error;
}

/* Claims a device for netdev 'name', and stores it in '*claim'.  The device is
 * the caller's from now on.  Returns 0 or a positive errno value, and then
 * appends to 'problem' what is wrong, for the user. */
int
netdev_turbotap_claim(const char *name, struct netdev_turbotap_claim *claim,
                      struct ds *problem)
{
    size_t length = problem->length;
    int error;

    memset(claim, 0, sizeof *claim);
    ovs_mutex_lock(&claim_mutex);
    error = open_all();
    if (!error) {
        error = EAGAIN;
        for (int i = 0; i < MAX_TRIES && error == EAGAIN; i++) {
            ds_truncate(problem, length);
            error = claim_once(name, claim, problem);
        }
    }
    ovs_mutex_unlock(&claim_mutex);
    if (error && problem->length == length) {
        ds_put_format(problem, "%s: could not set up tap device: %s", name,
                      ovs_strerror(error));
    }
    return error;
}

/* Releasing. */

/* Deletes the device of 'dev', wherever it is and whoever has descriptors of
 * it.  Returns 0 or a positive errno value. */
static int
delete_link(struct turbotap_dev *dev)
    OVS_REQUIRES(claim_mutex)
{
    struct turbotap_link_info info;
    struct turbotap_place place;
    int error;

    error = turbotap_place_find(turbotap_dev_rxq_fd(dev, 0), links, &place,
                                &info);
    return error ? error : turbotap_link_delete(links, place.nsid,
                                                place.ifindex);
}

/* Ends 'dev', which was the device of netdev 'name', and deletes the device if
 * it is 'owned'. */
static void
end_device(struct turbotap_dev *dev, const char *name, bool owned)
    OVS_REQUIRES(claim_mutex)
{
    netdev_turbotap_forget(name);
    if (owned) {
        int error = turbotap_dev_set_persist(dev, false);

        if (!error) {
            /* It would go with its last descriptor, but the keeper has some,
             * until it has done what it was told. */
            error = delete_link(dev);
        }
        if (error && error != EBADFD && error != ENODEV) {
            VLOG_WARN("%s: could not delete tap device (%s)", name,
                      ovs_strerror(error));
        }
    }
    remove_entry(name);
    turbotap_dev_close(dev);
}

/* Ends 'dev', the device of netdev 'name', and deletes it if it is 'owned'. */
void
netdev_turbotap_release(struct turbotap_dev *dev, const char *name, bool owned)
{
    ovs_mutex_lock(&claim_mutex);
    end_device(dev, name, owned);
    ovs_mutex_unlock(&claim_mutex);
}

/* Gives 'dev' back, which was claimed for netdev 'name' and could not even be
 * configured.  One that was made for it is deleted, if it is 'owned'.  One of
 * an earlier run of the switch stays, with the keeper, too, since it has the
 * host's addresses. */
void
netdev_turbotap_give_up(struct turbotap_dev *dev, const char *name, bool owned)
{
    if (turbotap_dev_is_created(dev)) {
        netdev_turbotap_release(dev, name, owned);
    } else {
        turbotap_dev_close(dev);
    }
}

/* Leaves 'dev', the device of netdev 'name', which is about to be destroyed,
 * to one of that name that comes before the next netdev_turbotap_reap(). */
void
netdev_turbotap_orphan(struct turbotap_dev *dev, const char *name, bool owned)
{
    struct orphan *orphan = xmalloc(sizeof *orphan);

    orphan->dev = dev;
    orphan->owned = owned;
    ovs_mutex_lock(&claim_mutex);
    shash_add(&orphans, name, orphan);
    ovs_mutex_unlock(&claim_mutex);
}

/* Returns true if the device of port 'name', which is not in the database any
 * more, may be deleted: if it was in that one.  Otherwise says that it is
 * kept. */
static bool
may_delete(const char *name)
    OVS_REQUIRES(claim_mutex)
{
    static struct sset said = SSET_INITIALIZER(&said);
    const struct turbotap_record_entry *entry = find_entry(name);

    if (!record || (entry && !strcmp(entry->id, database))) {
        return true;
    } else if (!sset_add(&said, name)) {
        return false;
    }
    VLOG_WARN("%s: keeping the device, whose port is not in the database: "
              "that is another one than the port was in (ovs-appctl "
              "turbotap/forget %s deletes the device)", name, name);
    return false;
}

/* Deletes the device of port 'name', which has no netdev, if that can be had.
 * Returns 0 or a positive errno value, and then appends to 'problem' what is
 * wrong. */
static int
delete_unused(const char *name, struct ds *problem)
    OVS_REQUIRES(claim_mutex)
{
    struct netdev_turbotap_claim claim;
    int error;

    memset(&claim, 0, sizeof claim);
    error = claim_orphan(name, &claim);
    if (error == ENOENT) {
        error = claim_kept(name, &claim, problem);
    }
    if (error == ENOENT) {
        error = claim_recorded(name, &claim, problem);
        if (!error) {
            error = turbotap_place_find(turbotap_dev_rxq_fd(claim.dev, 0),
                                        links, &claim.place, &claim.info);
            if (!error) {
                error = check_opened(name, &claim, problem);
            }
            if (error) {
                turbotap_dev_close(claim.dev);
            }
        }
    }
    if (error && error != ENOENT) {
        return error;
    }
    if (!error) {
        VLOG_INFO("%s: deleting the device, whose port is no more", name);
        end_device(claim.dev, name, claim.owned);
    }
    remove_entry(name);
    return 0;
}

/* Stores in 'names' the ports of which there is a device, or may be. */
static void
list_devices(struct sset *names)
    OVS_REQUIRES(claim_mutex)
{
    const struct turbotap_record_entry *entry = NULL;

    netdev_turbotap_list_kept(names);
    while (record && (entry = turbotap_record_next(record, entry))) {
        sset_add(names, entry->port);
    }
}

/* Deletes the devices of earlier runs of which the netdev is not 'wanted'.
 * After the 'first' time, those that the keeper has are left, for as long as
 * it did not answer. */
static void
reap_earlier(const struct sset *wanted, bool first)
    OVS_REQUIRES(claim_mutex)
{
    struct sset names = SSET_INITIALIZER(&names);
    const char *name;

    if (first) {
        list_devices(&names);
    } else {
        netdev_turbotap_list_kept(&names);
    }
    SSET_FOR_EACH (name, &names) {
        struct ds problem = DS_EMPTY_INITIALIZER;

        if (!sset_contains(wanted, name) && may_delete(name)
            && delete_unused(name, &problem)) {
            VLOG_WARN("%s: could not delete the device, whose port is no "
                      "more%s%s", name, problem.length ? ": " : "",
                      ds_cstr(&problem));
        }
        ds_destroy(&problem);
    }
    sset_destroy(&names);
}

/* Takes note that the ports that are 'wanted' are in the present database. */
static void
set_database(const struct uuid *uuid, const struct sset *wanted)
    OVS_REQUIRES(claim_mutex)
{
    const char *name;

    snprintf(database, sizeof database, UUID_FMT, UUID_ARGS(uuid));
    SSET_FOR_EACH (name, wanted) {
        const struct turbotap_record_entry *entry = find_entry(name);

        if (entry && strcmp(entry->id, database)) {
            struct turbotap_record_entry new = *entry;

            ovs_strlcpy(new.id, database, sizeof new.id);
            note_record(turbotap_record_put(record, &new));
        }
    }
}

void
netdev_turbotap_reap(const struct uuid *uuid, const struct sset *wanted)
{
    static bool first = true;
    struct shash_node *node;

    ovs_mutex_lock(&claim_mutex);
    if (wanted) {
        /* A switch without turbotap ports, now and before, leaves no trace. */
        if (!sset_is_empty(wanted) || has_record()) {
            open_all();
        }
        set_database(uuid, wanted);
    }
    SHASH_FOR_EACH_SAFE (node, &orphans) {
        struct orphan *orphan = node->data;

        if (wanted && sset_contains(wanted, node->name)) {
            continue;
        }
        if (may_delete(node->name)) {
            end_device(orphan->dev, node->name, orphan->owned);
        } else {
            /* The keeper has it. */
            turbotap_dev_close(orphan->dev);
        }
        shash_delete(&orphans, node);
        free(orphan);
    }
    if (wanted) {
        reap_earlier(wanted, first);
        first = false;
    }
    ovs_mutex_unlock(&claim_mutex);
    if (wanted) {
        netdev_turbotap_retry_reap(wanted);
    }
}

/* Appends to 's' what there is on record of the device of port 'name'. */
static void
format_entry(const char *name, struct ds *s)
    OVS_REQUIRES(claim_mutex)
{
    const struct turbotap_record_entry *entry = find_entry(name);
    char where[TURBOTAP_ESCAPED_SIZE(NAME_MAX + 1)];

    if (!entry) {
        ds_put_cstr(s, "not on record, held by turbotap-keeper");
        return;
    }
    turbotap_netns_format(&entry->netns, where, sizeof where);
    ds_put_format(s, "ifindex %d in network namespace %s%s%s", entry->ifindex,
                  turbotap_netns_equal(&entry->netns, &own_netns)
                  ? "of the switch" : where,
                  entry->owned ? "" : ", an administrator's",
                  strcmp(entry->id, database) ? ", of another database" : "");
}

/* Adds to 'devices', by the name of the port, what is known of each device of
 * which there is one, or may be: a string, to be freed by the caller. */
void
netdev_turbotap_list_devices(struct shash *devices)
{
    struct sset names = SSET_INITIALIZER(&names);
    const char *name;

    ovs_mutex_lock(&claim_mutex);
    open_all();
    list_devices(&names);
    SSET_FOR_EACH (name, &names) {
        struct ds s = DS_EMPTY_INITIALIZER;

        format_entry(name, &s);
        shash_add(devices, name, ds_steal_cstr(&s));
    }
    ovs_mutex_unlock(&claim_mutex);
    sset_destroy(&names);
}

/* Deletes the device of port 'name', which has no netdev, or lets go of it if
 * it is an administrator's.  Returns 0 or a positive errno value, ENOENT if
 * there is none, and then appends to 'problem' what is wrong. */
int
netdev_turbotap_delete_unused(const char *name, struct ds *problem)
{
    struct sset names = SSET_INITIALIZER(&names);
    int error;

    ovs_mutex_lock(&claim_mutex);
    error = open_all();
    if (!error) {
        list_devices(&names);
        error = (sset_contains(&names, name) ? delete_unused(name, problem)
                 : ENOENT);
    }
    ovs_mutex_unlock(&claim_mutex);
    sset_destroy(&names);
    return error;
}
