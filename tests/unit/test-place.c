/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests lib/turbotap-place.c and lib/turbotap-netns.c with real tap devices in
 * real network namespaces, and strangers that take their names and indexes. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host.h"
#include "turbotap-place.h"

#define TAP "ttp0"

struct fixture {
    unsigned int n_fds;         /* Before the test. */
    int ours, away;             /* Network namespaces. */
    int tap;                    /* A queue of TAP, made in 'ours'. */
    struct turbotap_link *link;
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->n_fds = host_count_fds();
    f->ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    f->away = host_open_other_namespace();
    f->tap = host_open_tap(TAP, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
    assert_int_equal(turbotap_link_open(&f->link), 0);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    turbotap_link_close(f->link);
    close(f->tap);
    close(f->away);
    close(f->ours);
    assert_int_equal(host_count_fds(), f->n_fds);
    free(f);
    return 0;
}

static void
enter(int netns)
{
    assert_int_equal(setns(netns, CLONE_NEWNET), 0);
}

/* Returns what turbotap_place_find() finds. */
static struct turbotap_place
find(const struct fixture *f, struct turbotap_link_info *info)
{
    struct turbotap_place place;

    assert_int_equal(turbotap_place_find(f->tap, f->link, &place, info), 0);
    assert_int_equal(place.ifindex, info->ifindex);
    assert_string_equal(place.name, info->name);
    assert_string_equal(info->kind, "tun");
    return place;
}

static void
test_here(void **state)
{
    struct fixture *f = *state;
    struct turbotap_netns own, other;
    struct turbotap_link_info info;
    struct turbotap_place place;
    char name[64];

    assert_int_equal(turbotap_netns_get_own(&own), 0);
    assert_int_equal(turbotap_netns_from_fd(f->away, &other), 0);
    assert_false(turbotap_netns_equal(&own, &other));
    assert_int_equal(turbotap_netns_from_fd(-1, &other), EBADF);

    place = find(f, &info);
    assert_true(place.here);
    assert_true(turbotap_netns_equal(&place.netns, &own));
    assert_int_equal(place.nsid, TURBOTAP_NSID_SELF);
    assert_int_equal(place.ifindex, if_nametoindex(TAP));
    assert_string_equal(place.name, TAP);
    assert_int_equal(turbotap_place_check(f->tap, &place), 0);

    turbotap_netns_format(&own, name, sizeof name);
    assert_memory_equal(name, "net:[", 5);

    host_rename(TAP, "ttp1");
    assert_int_equal(turbotap_place_check(f->tap, &place), EAGAIN);
    assert_string_equal(find(f, &info).name, "ttp1");
}

static void
test_away_and_back(void **state)
{
    struct fixture *f = *state;
    struct turbotap_link_info info;
    struct turbotap_place place, then;
    int ifindex = if_nametoindex(TAP);

    then = find(f, &info);
    host_move(TAP, f->away);
    assert_int_equal(turbotap_place_check(f->tap, &then), EAGAIN);
    place = find(f, &info);
    assert_false(place.here);
    assert_true(place.nsid >= 0);

    enter(f->away);
    host_rename(TAP, "eth0");
    host_set_mtu("eth0", 1300);
    enter(f->ours);
    place = find(f, &info);
    assert_string_equal(place.name, "eth0");
    assert_int_equal(info.mtu, 1300);

    enter(f->away);
    host_rename("eth0", TAP);
    host_move(TAP, f->ours);
    enter(f->ours);
    place = find(f, &info);
    assert_true(place.here);
    assert_int_equal(place.ifindex, ifindex);
}

/* What is done to the device reaches it wherever it is, and nobody else. */
static void
test_strangers(void **state)
{
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 77 };
    struct fixture *f = *state;
    struct turbotap_link_info info, before, after;
    int ifindex = if_nametoindex(TAP);
    char command[128];

    host_move(TAP, f->away);

    /* One that has its name and its index, here, and one that has its name and
     * index of here, there. */
    snprintf(command, sizeof command, "ip link add %s index %d type veth "
             "peer name ttpp", TAP, ifindex);
    assert_int_equal(system(command), 0);
    enter(f->away);
    host_rename(TAP, "eth0");
    assert_int_equal(system("ip link add " TAP " index 99 type veth "
                            "peer name ttpp"), 0);
    enter(f->ours);
    assert_int_equal(turbotap_link_get(f->link, TURBOTAP_NSID_SELF, ifindex,
                                       &before), 0);

    assert_int_equal(turbotap_place_set_mtu(f->tap, f->link, 1234), 0);
    assert_int_equal(turbotap_place_set_flags(f->tap, f->link, 0, IFF_UP), 0);
    assert_int_equal(turbotap_place_set_alias(f->tap, f->link, "me"), 0);
    assert_int_equal(turbotap_place_set_noqueue(f->tap, f->link), 0);
    assert_int_equal(turbotap_place_set_mac(f->tap, mac), 0);
    assert_string_equal(find(f, &info).name, "eth0");
    assert_int_equal(info.mtu, 1234);
    assert_true(info.flags & IFF_UP);
    assert_string_equal(info.alias, "me");
    assert_string_equal(info.qdisc, "noqueue");
    assert_memory_equal(info.mac, mac, sizeof mac);

    assert_int_equal(turbotap_link_get(f->link, TURBOTAP_NSID_SELF, ifindex,
                                       &after), 0);
    assert_memory_equal(&after, &before, sizeof after);

    /* Errors are the kernel's. */
    assert_int_equal(turbotap_place_set_mtu(f->tap, f->link, 10), EINVAL);

    host_delete(TAP);
}

static void
test_deleted(void **state)
{
    struct fixture *f = *state;
    struct turbotap_link_info info;
    struct turbotap_place place;

    host_delete(TAP);
    assert_int_equal(turbotap_place_get(f->tap, &place, NULL), EBADFD);
    assert_int_equal(turbotap_place_find(f->tap, f->link, &place, &info),
                     EBADFD);
    assert_int_equal(turbotap_place_set_mtu(f->tap, f->link, 1300), EBADFD);
    assert_int_equal(turbotap_place_set_flags(f->tap, f->link, 0, IFF_UP),
                     EBADFD);
}

static int
open_there(void *aux)
{
    *(unsigned int *) aux = if_nametoindex(TAP);
    return ENOTTY;
}

static void
test_run(void **state)
{
    struct fixture *f = *state;
    unsigned int ifindex = 0;

    assert_int_equal(turbotap_netns_run(f->away, open_there, &ifindex),
                     ENOTTY);
    assert_int_equal(ifindex, 0);
    host_move(TAP, f->away);
    assert_int_equal(turbotap_netns_run(f->away, open_there, &ifindex),
                     ENOTTY);
    assert_int_not_equal(ifindex, 0);
    assert_int_equal(if_nametoindex(TAP), 0);
    assert_int_equal(turbotap_netns_run(f->tap, open_there, &ifindex),
                     EINVAL);
}

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_here),
        TEST(test_away_and_back),
        TEST(test_strangers),
        TEST(test_deleted),
        TEST(test_run),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
