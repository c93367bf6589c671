/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What type "internal" stands for in the userspace datapath: "tap", or
 * "turbotap-internal".  A port that changes from one to the other gets another
 * device of the same name, which is given the addresses and routes of the old
 * one.  Must not know queues or frames. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>

#include "openvswitch/shash.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "turbotap-addrs.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_internal);

static atomic_bool enabled;     /* Initially false. */

/* What the host has given the devices that are about to be replaced, null if
 * there are none.  The main thread's. */
static struct turbotap_addrs *saved;

const char *
netdev_turbotap_internal_type(void)
{
    bool is_turbotap;

    atomic_read_relaxed(&enabled, &is_turbotap);
    return is_turbotap ? netdev_turbotap_internal_class.type : "tap";
}

/* Saves what the host has given the devices of all netdevs of 'class'. */
static void
save_class(const struct netdev_class *class)
{
    struct shash netdevs = SHASH_INITIALIZER(&netdevs);
    struct shash_node *node;
    const char **names;
    size_t n = 0;
    int error;

    netdev_get_devices(class, &netdevs);
    names = xmalloc((shash_count(&netdevs) + 1) * sizeof *names);
    SHASH_FOR_EACH (node, &netdevs) {
        names[n++] = node->name;
    }
    error = turbotap_addrs_save(names, n, &saved);
    if (error) {
        VLOG_WARN("could not read all addresses and routes of the devices "
                  "that are about to be replaced (%s)", ovs_strerror(error));
    }
    free(names);
    SHASH_FOR_EACH (node, &netdevs) {
        netdev_close(node->data);
    }
    shash_destroy(&netdevs);
}

void
netdev_turbotap_set_internal(bool enable)
{
    bool was_enabled;

    atomic_read_relaxed(&enabled, &was_enabled);
    if (enable != was_enabled) {
        netdev_turbotap_restore_internal();
        save_class(was_enabled ? &netdev_turbotap_internal_class
                   : &netdev_tap_class);
        atomic_store_relaxed(&enabled, enable);
    }
}

/* Gives the devices that have taken the place of others since the last call
 * what those had. */
void
netdev_turbotap_restore_internal(void)
{
    if (saved) {
        int error = turbotap_addrs_restore(saved);

        if (error) {
            VLOG_WARN("could not give the new devices all addresses and "
                      "routes of the old ones (%s)", ovs_strerror(error));
        }
        turbotap_addrs_free(saved);
        saved = NULL;
    }
}
