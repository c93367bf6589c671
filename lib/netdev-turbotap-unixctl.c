/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The commands of ovs-appctl about turbotap ports: where each device is, who
 * has it, and what is wrong; and what to do with one that has no port.  Must
 * not know how it is known whose a device is. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/shash.h"
#include "unixctl.h"

/* Appends to 's' what there is to say of 'netdev'. */
static void
format_netdev(struct netdev *netdev, struct ds *s)
{
    struct netdev_turbotap *tt = netdev_turbotap_cast(netdev);
    char *problem = netdev_turbotap_get_problem(netdev);

    ovs_mutex_lock(&tt->linux_.mutex);
    ds_put_format(s, "%s: ", tt_name(tt));
    if (tt->gone) {
        ds_put_cstr(s, "no device");
    } else {
        char ifname[TURBOTAP_ESCAPED_SIZE(IFNAMSIZ)];
        unsigned int attached, detached;

        turbotap_dev_count_queues(tt->dev, &attached, &detached);
        ds_put_format(s, "device %s, ifindex %d in network namespace %s%s, "
                      "%u+%u queues, %u+%u in all, %s",
                      turbotap_escape(tt->place.name, ifname, sizeof ifname),
                      tt->place.ifindex,
                      tt->place.here ? "of the switch" : tt->netns_name,
                      tt->owned ? "" : ", an administrator's",
                      attached, detached, tt->link.tun.n_queues,
                      tt->link.tun.n_disabled,
                      netdev_turbotap_is_kept(tt_name(tt))
                      ? "held by turbotap-keeper" : "not held");
    }
    ovs_mutex_unlock(&tt->linux_.mutex);
    ds_put_char(s, '\n');
    if (problem) {
        ds_put_format(s, "    error: %s\n", problem);
    }
    free(problem);
}

static void
turbotap_list(struct unixctl_conn *conn, int argc OVS_UNUSED,
              const char *argv[] OVS_UNUSED, void *aux OVS_UNUSED)
{
    struct shash netdevs = SHASH_INITIALIZER(&netdevs);
    struct shash devices = SHASH_INITIALIZER(&devices);
    const struct shash_node **nodes;
    struct ds s = DS_EMPTY_INITIALIZER;

    netdev_turbotap_list_devices(&devices);
    netdev_turbotap_get_all(&netdevs);
    nodes = shash_sort(&netdevs);
    for (size_t i = 0; i < shash_count(&netdevs); i++) {
        format_netdev(nodes[i]->data, &s);
        free(shash_find_and_delete(&devices, nodes[i]->name));
        netdev_close(nodes[i]->data);
    }
    free(nodes);
    shash_destroy(&netdevs);

    nodes = shash_sort(&devices);
    for (size_t i = 0; i < shash_count(&devices); i++) {
        ds_put_format(&s, "%s: no port: %s\n", nodes[i]->name,
                      (char *) nodes[i]->data);
    }
    free(nodes);
    shash_destroy_free_data(&devices);
    unixctl_command_reply(conn, ds_cstr(&s));
    ds_destroy(&s);
}

static void
turbotap_forget(struct unixctl_conn *conn, int argc OVS_UNUSED,
                const char *argv[], void *aux OVS_UNUSED)
{
    struct netdev *netdev = netdev_from_name(argv[1]);
    struct ds s = DS_EMPTY_INITIALIZER;
    int error;

    if (netdev && netdev_is_turbotap(netdev)) {
        error = EBUSY;
        ds_put_format(&s, "%s: the device has a port, which del-port deletes",
                      argv[1]);
    } else {
        error = netdev_turbotap_delete_unused(argv[1], &s);
        if (error == ENOENT) {
            ds_put_format(&s, "%s: no such device", argv[1]);
        }
    }
    netdev_close(netdev);
    if (error) {
        unixctl_command_reply_error(conn, ds_cstr(&s));
    } else {
        unixctl_command_reply(conn, NULL);
    }
    ds_destroy(&s);
}

void
netdev_turbotap_unixctl_init(void)
{
    unixctl_command_register("turbotap/list", "", 0, 0, turbotap_list, NULL);
    unixctl_command_register("turbotap/forget", "port", 1, 1, turbotap_forget,
                             NULL);
}
