/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The netdev classes "turbotap", "turbotap-nonpmd" and "turbotap-internal":
 * configuration and lifecycle.  Only the files netdev-turbotap* know Open
 * vSwitch; the device, the link and the ways to move frames are in
 * turbotap-*. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <stdlib.h>

#include "netnsid.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/vlog.h"
#include "smap.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap);

/* Options and what is valid for them. */
#define DEFAULT_N_RXQ 1
#define MAX_N_RXQ 64
BUILD_ASSERT_DECL(MAX_N_RXQ < TURBOTAP_MAX_FDS);
#define AUTO "auto"
#define OFFLOAD_OFF "off"

static struct netdev_class netdev_turbotap_class;
static struct netdev_class netdev_turbotap_nonpmd_class;
struct netdev_class netdev_turbotap_internal_class;

bool
netdev_is_turbotap(const struct netdev *netdev)
{
    return netdev_get_class(netdev)->run == netdev_turbotap_run;
}

bool
netdev_turbotap_is_type(const char *type)
{
    if (!strcmp(type, "internal")) {
        type = netdev_turbotap_internal_type();
    }
    return (!strcmp(type, netdev_turbotap_class.type)
            || !strcmp(type, netdev_turbotap_nonpmd_class.type)
            || !strcmp(type, netdev_turbotap_internal_class.type));
}

/* Lifecycle. */

static struct netdev *
netdev_turbotap_alloc(void)
{
    struct netdev_turbotap *tt = xzalloc_cacheline(sizeof *tt);

    return &tt->linux_.up;
}

static void
netdev_turbotap_dealloc(struct netdev *netdev)
{
    free_cacheline(netdev_turbotap_cast(netdev));
}

/* The device comes with the first good configuration: creating and deleting
 * one for each bad one would wake up the bridge, which would try again at
 * once, and so on. */
static int
netdev_turbotap_construct(struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    int error;

    error = netdev_linux_construct(netdev);
    if (error && error != ENODEV) {
        return error;
    }
    /* A tap device is always made here, never asked of the kernel datapath. */
    netnsid_set_local(&tt->linux_.netnsid);

    /* No queue is used before the first reconfiguration. */
    netdev->n_rxq = 0;
    netdev->n_txq = 0;
    netdev->ol_flags = netdev_turbotap_ol_flags();
    tt->requested_n_rxq = DEFAULT_N_RXQ;
    tt->requested_n_txq = 1;
    tt->requested_offload = true;
    tt->gone = true;
    tt->guard_at = LLONG_MAX;
    atomic_init(&tt->up_seq, 1);
    atomic_init(&tt->down_seq, 0);
    netdev_request_reconfigure(netdev);

    netdev_turbotap_watch_link(tt);
    return 0;
}

static void
netdev_turbotap_destruct(struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    bool configured = tt->rxqs != NULL;

    netdev_turbotap_unwatch_link(tt);

    ovs_mutex_lock(&tt->linux_.mutex);
    netdev_turbotap_trim_rxqs(tt, 0);
    netdev_turbotap_trim_txqs(tt, 0);
    free(tt->rxqs);
    free_cacheline(tt->txqs);
    ovs_mutex_unlock(&tt->linux_.mutex);

    netdev_turbotap_close_device(tt, configured);
    for (int i = 0; i < NETDEV_TURBOTAP_N_PROBLEMS; i++) {
        free(tt->problems[i]);
    }

    /* Of netdev-linux: its traffic control state and its mutex. */
    netdev_linux_class.destruct(netdev);
}

/* Configuration. */

/* Appends the valid values of 'options:io' to 's'. */
static void
format_io_names(struct ds *s)
{
    ds_put_cstr(s, AUTO);
    for (size_t i = 0; turbotap_io_classes[i]; i++) {
        ds_put_format(s, turbotap_io_classes[i + 1] ? ", %s" : " or %s",
                      turbotap_io_classes[i]->name);
    }
}

/* What the options say. */
struct config {
    unsigned int n_rxq;
    struct turbotap_io io;      /* NULLs: what does best. */
    bool offload;
};

/* Begins another part of 'problem', which is about 'tt'. */
static void
begin_problem(const struct netdev_turbotap *tt, struct ds *problem)
{
    ds_put_format(problem, "%s%s: ", problem->length ? "; " : "",
                  tt_name(tt));
}

/* Returns true if 'class' is what 'tt' was told to use already. */
static bool
is_requested(const struct netdev_turbotap *tt,
             const struct turbotap_io_class *class)
{
    return class == tt->requested_io.rx || class == tt->requested_io.tx;
}

/* Parses 'name', one of those in 'value' of options:io for 'tt', and stores
 * the class in '*classp'.  Returns 0 or a positive errno value, and then
 * appends to 'problem' what is wrong. */
static int
parse_io_class(const struct netdev_turbotap *tt, const char *value,
               const char *name, const struct turbotap_io_class **classp,
               struct ds *problem)
{
    int fd = tt->dev ? turbotap_dev_rxq_fd(tt->dev, 0) : -1;
    const struct turbotap_io_class *class = turbotap_io_lookup(name);
    char reason[TURBOTAP_REASON_LEN];

    if (!class) {
        begin_problem(tt, problem);
        ds_put_format(problem, "options:io=%s is not valid: expected ", value);
        format_io_names(problem);
        ds_put_cstr(problem, ", or two with a comma in between");
        return EINVAL;
    }

    /* Asked once: what it takes for a moment, such as a descriptor, may be
     * short at the next. */
    if (is_requested(tt, class)) {
        *classp = class;
        return 0;
    } else if (class->better && is_requested(tt, class->better)) {
        *classp = class->better;
        return 0;
    }

    if (!class->probe(fd, reason, sizeof reason)) {
        begin_problem(tt, problem);
        ds_put_format(problem, "options:io=%s cannot serve: %s", name,
                      reason);
        return EOPNOTSUPP;
    }
    *classp = turbotap_io_better(class, fd, reason, sizeof reason);
    return 0;
}

/* Parses 'value' of options:io for 'tt' and stores the classes, NULLs for what
 * does best, in '*io'.  Returns 0 or a positive errno value, and then appends
 * to 'problem' what is wrong. */
static int
parse_io(const struct netdev_turbotap *tt, const char *value,
         struct turbotap_io *io, struct ds *problem)
{
    char *rx, *tx;
    int error;

    if (!strcmp(value, AUTO)) {
        return 0;
    }
    rx = xstrdup(value);
    tx = strchr(rx, ',');
    if (tx) {
        *tx++ = '\0';
    }
    error = parse_io_class(tt, value, rx, &io->rx, problem);
    io->tx = io->rx;
    if (!error && tx) {
        error = parse_io_class(tt, value, tx, &io->tx, problem);
    }
    free(rx);
    return error;
}

/* Parses 'args' for 'tt' and stores the result in '*config'.  Appends to
 * 'problem' what is wrong with them, for the user.  Returns 0 if the result
 * can be used, otherwise a positive errno value. */
static int
parse_config(const struct netdev_turbotap *tt, const struct smap *args,
             struct config *config, struct ds *problem)
{
    const struct smap_node *node;
    int error = 0;

    *config = (struct config) { .n_rxq = DEFAULT_N_RXQ, .offload = true };
    SMAP_FOR_EACH (node, args) {
        if (!strcmp(node->key, "n_rxq")) {
            if (!str_to_uint(node->value, 10, &config->n_rxq)
                || !config->n_rxq || config->n_rxq > MAX_N_RXQ) {
                begin_problem(tt, problem);
                ds_put_format(problem, "options:n_rxq=%s is not valid: "
                              "expected an integer from 1 to %d",
                              node->value, MAX_N_RXQ);
                error = EINVAL;
            }
        } else if (!strcmp(node->key, "io")) {
            int io_error = parse_io(tt, node->value, &config->io, problem);

            error = io_error ? io_error : error;
        } else if (!strcmp(node->key, "offload")) {
            config->offload = strcmp(node->value, OFFLOAD_OFF);
            if (config->offload && strcmp(node->value, AUTO)) {
                begin_problem(tt, problem);
                ds_put_format(problem, "options:offload=%s is not valid: "
                              "expected "AUTO" or "OFFLOAD_OFF, node->value);
                error = EINVAL;
            }
        } else {
            begin_problem(tt, problem);
            ds_put_format(problem, "options:%s is unknown: expected n_rxq, io "
                          "or offload", node->key);
        }
    }
    return error;
}

/* Takes note that 'problem', empty if there is none, is what is wrong with
 * 'which' of 'tt', and logs it if it is news. */
void
netdev_turbotap_set_problem(struct netdev_turbotap *tt,
                            enum netdev_turbotap_problem which,
                            const struct ds *problem)
{
    char *old = tt->problems[which];
    char *new = problem->length ? xstrdup(problem->string) : NULL;

    if (!nullable_string_is_equal(new, old)) {
        if (new) {
            VLOG_WARN("%s", new);
        }
        netdev_change_seq_changed(&tt->linux_.up);
    }
    tt->problems[which] = new;
    free(old);
}

static int
netdev_turbotap_set_config(struct netdev *netdev, const struct smap *args,
                           char **errp)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct ds problem = DS_EMPTY_INITIALIZER;
    struct config config;
    int error;

    ovs_mutex_lock(&tt->linux_.mutex);
    error = parse_config(tt, args, &config, &problem);
    if (!error && !tt->dev) {
        tt->requested_offload = config.offload;
        error = netdev_turbotap_open_watch();
        if (error) {
            begin_problem(tt, &problem);
            ds_put_format(&problem, "could not watch links: %s",
                          ovs_strerror(error));
        } else {
            error = netdev_turbotap_open_device(tt, &problem);
        }
    }
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_CONFIG, &problem);
    if (!error) {
        if (config.n_rxq != tt->requested_n_rxq
            || config.io.rx != tt->requested_io.rx
            || config.io.tx != tt->requested_io.tx
            || config.offload != tt->requested_offload) {
            tt->requested_n_rxq = config.n_rxq;
            tt->requested_io = config.io;
            tt->requested_offload = config.offload;
            netdev_request_reconfigure(netdev);
        }
    } else if (tt->rxqs) {
        /* Keep the last good configuration: an error would make the bridge
         * delete the port, and with it the device and the host's addresses.
         * netdev_turbotap_get_problem() tells the user. */
        error = 0;
    } else {
        *errp = ds_steal_cstr(&problem);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);

    ds_destroy(&problem);
    return error;
}

static int
netdev_turbotap_get_config(const struct netdev *netdev, struct smap *args)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    char io[TURBOTAP_IO_NAME_LEN] = AUTO;

    ovs_mutex_lock(&tt->linux_.mutex);
    smap_add_format(args, "n_rxq", "%u", tt->requested_n_rxq);
    if (tt->requested_io.rx) {
        const struct turbotap_io option = {
            turbotap_io_lookup(turbotap_io_option(tt->requested_io.rx)),
            turbotap_io_lookup(turbotap_io_option(tt->requested_io.tx)),
        };

        turbotap_io_format(&option, io);
    }
    smap_add(args, "io", io);
    smap_add(args, "offload", tt->requested_offload ? AUTO : OFFLOAD_OFF);
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

char *
netdev_turbotap_get_problem(const struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct ds all = DS_EMPTY_INITIALIZER;

    ovs_mutex_lock(&tt->linux_.mutex);
    if (tt->dev && tt->gone) {
        ds_put_format(&all, "%s: the device was deleted from outside",
                      tt_name(tt));
    }
    for (int i = 0; i < NETDEV_TURBOTAP_N_PROBLEMS; i++) {
        /* An MTU that nobody asks for any more is not missed. */
        if (tt->problems[i]
            && (i != NETDEV_TURBOTAP_PROBLEM_MTU
                || netdev_mtu_is_user_config(&tt->linux_.up))) {
            ds_put_format(&all, "%s%s", all.length ? "; " : "",
                          tt->problems[i]);
        }
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return all.length ? ds_steal_cstr(&all) : NULL;
}

static int
netdev_turbotap_set_tx_multiq(struct netdev *netdev, unsigned int n_txq)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);

    ovs_mutex_lock(&tt->linux_.mutex);
    if (n_txq != tt->requested_n_txq) {
        tt->requested_n_txq = n_txq;
        netdev_request_reconfigure(netdev);
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    return 0;
}

/* Appends to 'problem' that 'what' of 'tt' failed with 'error'. */
static void
note_failure(const struct netdev_turbotap *tt, struct ds *problem,
             const char *what, int error)
{
    begin_problem(tt, problem);
    ds_put_format(problem, "could not %s: %s", what, ovs_strerror(error));
}

/* Gives the device of 'tt' the requested number of descriptors, or as many as
 * can be had.  Returns 0, or a positive errno value if there is none to send
 * on. */
static int
reconfigure_fds(struct netdev_turbotap *tt, struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    unsigned int n_txq;
    int error;

    netdev_turbotap_trim_rxqs(tt, tt->requested_n_rxq);
    error = turbotap_dev_set_n_rxq(tt->dev, tt->requested_n_rxq);
    if (error) {
        note_failure(tt, problem, "change the number of receive queues",
                     error);
    }

    /* Fewer than requested makes dpif-netdev share them (XPS). */
    n_txq = MIN(tt->requested_n_txq,
                TURBOTAP_MAX_FDS - turbotap_dev_n_rxq(tt->dev));
    netdev_turbotap_trim_txqs(tt, n_txq);
    error = turbotap_dev_set_n_txq(tt->dev, n_txq);
    if (error && !turbotap_dev_n_txq(tt->dev)) {
        error = turbotap_dev_set_n_txq(tt->dev, 1);
    }
    if (error) {
        note_failure(tt, problem, "change the number of transmit queues",
                     error);
    }
    return turbotap_dev_n_txq(tt->dev) ? 0 : error;
}

/* Makes the best of it after queues of 'tt' with 'io' could not be opened: a
 * port that works keeps the class and at least the queues that it has, a new
 * one takes the class that goes by the same option but needs less (a ring is
 * memory that is locked, and the first queues may have had all that there is),
 * or else the one that can always be had.  Returns 0 or a positive errno
 * value. */
static int
fall_back(struct netdev_turbotap *tt, const struct turbotap_io *io)
    OVS_REQUIRES(tt->linux_.mutex)
{
    const struct turbotap_io rw = { &turbotap_io_rw, &turbotap_io_rw };
    const struct turbotap_io plain = {
        turbotap_io_lookup(turbotap_io_option(io->rx)),
        turbotap_io_lookup(turbotap_io_option(io->tx)),
    };
    const struct netdev *netdev = &tt->linux_.up;
    const struct turbotap_io old = tt->io;

    if (!netdev->n_rxq) {
        if ((plain.rx != io->rx || plain.tx != io->tx)
            && !netdev_turbotap_set_queues(tt, &plain)) {
            return 0;
        }
        return netdev_turbotap_set_queues(tt, &rw);
    }
    if ((io->rx == old.rx && io->tx == old.tx)
        || netdev_turbotap_set_queues(tt, &old)) {
        /* Fewer than there are cannot fail. */
        turbotap_dev_set_n_rxq(tt->dev, netdev->n_rxq);
        turbotap_dev_set_n_txq(tt->dev, netdev->n_txq);
    }
    return 0;
}

/* Opens the queues of 'tt' with the requested I/O class or else the one that
 * can be had.  Returns 0 or a positive errno value; 0 always for a port that
 * works. */
static int
reconfigure_queues(struct netdev_turbotap *tt, struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct turbotap_io io = tt->requested_io;
    int error;

    if (io.rx) {
        tt->best_io.rx = NULL;
        tt->io_reason[0] = '\0';
    } else {
        if (!tt->best_io.rx) {
            turbotap_io_choose(turbotap_dev_rxq_fd(tt->dev, 0), &tt->best_io,
                               tt->io_reason, sizeof tt->io_reason);
        }
        io = tt->best_io;
    }

    error = netdev_turbotap_set_queues(tt, &io);
    if (error) {
        struct ds what = DS_EMPTY_INITIALIZER;
        char name[TURBOTAP_IO_NAME_LEN];

        turbotap_io_format(&io, name);
        ds_put_format(&what, "open queues with io=%s", name);
        note_failure(tt, problem, ds_cstr(&what), error);
        ds_destroy(&what);

        error = fall_back(tt, &io);
    }
    return error;
}

/* Has the host leave to the switch what is requested. */
static void
reconfigure_offload(struct netdev_turbotap *tt, struct ds *problem)
    OVS_REQUIRES(tt->linux_.mutex)
{
    if (tt->offload != tt->requested_offload) {
        int error = netdev_turbotap_offload_open(tt, tt->dev);

        if (error) {
            note_failure(tt, problem, "change the offloads", error);
        }
    }
}

/* Takes note of what is wrong with the record of the device of 'tt'. */
static void
note_record(struct netdev_turbotap *tt)
    OVS_REQUIRES(tt->linux_.mutex)
{
    struct ds problem = DS_EMPTY_INITIALIZER;

    netdev_turbotap_format_record_problem(tt, &problem);
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_RECORD, &problem);
    ds_destroy(&problem);
}

/* Never fails for what the port can live without, since the datapath deletes a
 * port whose reconfiguration fails. */
static int
netdev_turbotap_reconfigure(struct netdev *netdev)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    struct ds problem = DS_EMPTY_INITIALIZER;
    int error = 0;

    ovs_mutex_lock(&tt->linux_.mutex);
    if (tt->new_dev) {
        netdev_turbotap_trim_rxqs(tt, 0);
        netdev_turbotap_trim_txqs(tt, 0);
        error = netdev_turbotap_replace_device(tt);
    }
    if (error) {
        note_failure(tt, &problem, "set up the new device", error);
        error = 0;
    } else if (tt->gone) {
        error = tt->rxqs ? 0 : ENODEV;
    } else {
        error = reconfigure_fds(tt, &problem);
        if (!error) {
            error = reconfigure_queues(tt, &problem);
        }
        if (!error) {
            reconfigure_offload(tt, &problem);
            netdev_turbotap_apply_mtu(tt);
            turbotap_dev_open_spares(tt->dev);
            netdev_turbotap_keep(tt);
            note_record(tt);
            netdev_turbotap_note_success(tt_name(tt));
        }
    }
    netdev_turbotap_set_problem(tt, NETDEV_TURBOTAP_PROBLEM_QUEUES, &problem);
    netdev_change_seq_changed(netdev);
    ovs_mutex_unlock(&tt->linux_.mutex);

    ds_destroy(&problem);
    return error;
}

/* A tap has no NUMA node: its memory is that of whoever sends. */
static int
netdev_turbotap_get_numa_id(const struct netdev *netdev OVS_UNUSED)
{
    return 0;
}

/* Fills in 'class', called 'type'.  What is not overridden is inherited from
 * netdev-linux's tap and does not look at the link. */
static void
init_class(struct netdev_class *class, const char *type, bool is_pmd)
{
    *class = netdev_tap_class;
    class->type = type;
    class->is_pmd = is_pmd;

    class->alloc = netdev_turbotap_alloc;
    class->construct = netdev_turbotap_construct;
    class->destruct = netdev_turbotap_destruct;
    class->dealloc = netdev_turbotap_dealloc;
    class->get_config = netdev_turbotap_get_config;
    class->set_config = netdev_turbotap_set_config;
    class->get_numa_id = netdev_turbotap_get_numa_id;
    class->set_tx_multiq = netdev_turbotap_set_tx_multiq;
    class->reconfigure = netdev_turbotap_reconfigure;

    netdev_turbotap_receive_init_class(class);
    netdev_turbotap_send_init_class(class);
    netdev_turbotap_link_init_class(class);
    netdev_turbotap_watch_init_class(class);
    netdev_turbotap_inherit_init_class(class);
    netdev_turbotap_stats_init_class(class);
}

/* Adds all netdevs of these classes to 'netdevs', by name, each with a
 * reference that is the caller's. */
void
netdev_turbotap_get_all(struct shash *netdevs)
{
    netdev_get_devices(&netdev_turbotap_class, netdevs);
    netdev_get_devices(&netdev_turbotap_nonpmd_class, netdevs);
    netdev_get_devices(&netdev_turbotap_internal_class, netdevs);
}

void
netdev_turbotap_register(void)
{
    netdev_turbotap_packet_init();
    netdev_turbotap_unixctl_init();
    init_class(&netdev_turbotap_class, "turbotap", true);
    init_class(&netdev_turbotap_nonpmd_class, "turbotap-nonpmd", false);
    init_class(&netdev_turbotap_internal_class, "turbotap-internal", true);
    netdev_register_provider(&netdev_turbotap_class);
    netdev_register_provider(&netdev_turbotap_nonpmd_class);
    netdev_register_provider(&netdev_turbotap_internal_class);
}
