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

/* Of devices that are about to be replaced: 'struct turbotap_addrs', by the
 * name of the netdev.  The main thread's. */
static struct shash saved = SHASH_INITIALIZER(&saved);

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

    netdev_get_devices(class, &netdevs);
    SHASH_FOR_EACH (node, &netdevs) {
        struct turbotap_addrs *addrs;
        int error = turbotap_addrs_save(node->name, &addrs);

        if (!error) {
            turbotap_addrs_free(shash_replace(&saved, node->name, addrs));
        } else if (error != ENODEV) {
            VLOG_WARN("%s: could not read the addresses of the device (%s)",
                      node->name, ovs_strerror(error));
        }
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
    struct shash_node *node;

    SHASH_FOR_EACH_SAFE (node, &saved) {
        int error = turbotap_addrs_restore(node->data);

        if (error && error != ENODEV) {
            VLOG_WARN("%s: could not give the new device all addresses and "
                      "routes of the old one (%s)", node->name,
                      ovs_strerror(error));
        }
        turbotap_addrs_free(node->data);
        shash_delete(&saved, node);
    }
}
