/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-addrs.h, with ip(8) as the administrator.  It must not
 * know how rtnetlink is spoken. */

#include <config.h>

#include "host.h"
#include "turbotap-addrs.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAP "tta0"
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI)

/* Runs the ip(8) command 'ARGS', a string literal. */
#define IP(ARGS) run("ip " ARGS)

static void
run(const char *command)
{
    assert_int_equal(system(command), 0);
}

/* Returns what 'command' prints, to be freed by the caller. */
static char *
output(const char *command)
{
    FILE *pipe = popen(command, "r");
    char *text = calloc(1, 8192);
    size_t n;

    assert_non_null(pipe);
    n = fread(text, 1, 8191, pipe);
    text[n] = '\0';
    assert_int_equal(pclose(pipe), 0);
    return text;
}

/* Returns what the host has given TAP, to be freed by the caller, as it would
 * be if nothing but the link's index had changed. */
static char *
describe(void)
{
    return output("{ ip -o link show " TAP " | grep -o '[<,]UP';"
                  "  ip -o address show " TAP ";"
                  "  ip route show dev " TAP ";"
                  "  ip route show dev " TAP " table 7;"
                  "  ip -6 route show dev " TAP "; }"
                  " | sed 's/^[0-9]*: //; s/ nodad//'"
                  " | grep -v ' fe80:\\|^fe80:'; true");
}

/* Replaces the device whose descriptor 'tap' is by another one, and returns
 * its descriptor. */
static int
replace_tap(int tap)
{
    close(tap);
    tap = host_open_tap(TAP, TAP_FLAGS);
    run("sysctl -q -w net.ipv6.conf." TAP ".disable_ipv6=0");
    return tap;
}

/* Takes what TAP has along to another device, which '*tap' is the descriptor
 * of then, by the functions under test. */
static void
move_all(int *tap)
{
    struct turbotap_addrs *addrs;
    char *text;

    assert_int_equal(turbotap_addrs_save(TAP, &addrs), 0);
    *tap = replace_tap(*tap);
    text = describe();
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(turbotap_addrs_restore(addrs), 0);
    turbotap_addrs_free(addrs);
}

static int
setup(void **state)
{
    int *tap = malloc(sizeof *tap);

    *tap = host_open_tap(TAP, TAP_FLAGS);
    run("sysctl -q -w net.ipv6.conf." TAP ".disable_ipv6=0");
    *state = tap;
    return 0;
}

static int
teardown(void **state)
{
    int *tap = *state;

    close(*tap);
    free(tap);
    return 0;
}

static void
give_addresses(void)
{
    IP("address add 10.1.1.2/24 broadcast + dev " TAP);
    IP("address add 10.1.1.3/24 dev " TAP);
    IP("address add 10.2.1.1 peer 10.2.1.2 dev " TAP);
    IP("address add 10.3.1.1/24 dev " TAP
       " valid_lft 5000 preferred_lft 4000 noprefixroute");
    /* Valid at once here, but not by itself on the next link. */
    run("sysctl -q -w net.ipv6.conf." TAP ".accept_dad=0");
    IP("address add fc00::2/64 dev " TAP);
}

static void
test_all(void **state)
{
    char *before, *after;

    give_addresses();
    IP("link set " TAP " up");
    /* The kernel lists them by their prefix, so the first one comes before the
     * one that its gateway is reached by. */
    IP("route add 10.8.0.0/24 dev " TAP " scope link");
    IP("route add 10.5.0.0/16 via 10.8.0.7 mtu 1400");
    IP("route add 10.9.0.0/16 via 10.1.1.1 metric 5");
    IP("route add default via 10.1.1.1 table 7");
    IP("-6 route add fc07::/64 via fc00::1");
    before = describe();
    assert_non_null(strstr(before, "10.5.0.0/16 via 10.8.0.7"));
    assert_non_null(strstr(before, "10.9.0.0/16 via 10.1.1.1"));
    assert_non_null(strstr(before, "fc07::/64 via fc00::1"));

    move_all(*state);
    after = describe();
    assert_string_equal(after, before);
    free(before);
    free(after);
}

/* A link that is down has addresses, but no routes. */
static void
test_down(void **state)
{
    char *before, *after;

    IP("address add 10.1.1.2/24 dev " TAP);
    before = describe();
    assert_non_null(strstr(before, "10.1.1.2/24"));
    assert_null(strstr(before, "UP"));

    move_all(*state);
    after = describe();
    assert_string_equal(after, before);
    free(before);
    free(after);
}

/* The same link has what it has: an address that was removed meanwhile does
 * not come back. */
static void
test_same_link(void **state)
{
    struct turbotap_addrs *addrs;
    char *after;

    (void) state;
    IP("address add 10.1.1.2/24 dev " TAP);
    assert_int_equal(turbotap_addrs_save(TAP, &addrs), 0);
    IP("address del 10.1.1.2/24 dev " TAP);
    assert_int_equal(turbotap_addrs_restore(addrs), 0);
    turbotap_addrs_free(addrs);
    after = describe();
    assert_string_equal(after, "");
    free(after);
}

/* Other links keep what they have, and none of it is taken along. */
static void
test_other_link(void **state)
{
    char *text;
    int other;

    other = host_open_tap("tta1", TAP_FLAGS);
    IP("link set tta1 up");
    IP("address add 10.7.1.1/24 dev tta1");
    IP("route add 10.6.0.0/16 via 10.7.1.2");
    IP("address add 10.1.1.2/24 dev " TAP);
    move_all(*state);
    text = describe();
    assert_non_null(strstr(text, "10.1.1.2/24"));
    assert_null(strstr(text, "10.7"));
    free(text);
    text = output("ip route show dev tta1");
    assert_non_null(strstr(text, "10.6.0.0/16 via 10.7.1.2"));
    free(text);
    close(other);
}

static void
test_no_link(void **state)
{
    struct turbotap_addrs *addrs;
    int *tap = *state;

    assert_int_equal(turbotap_addrs_save("tta9", &addrs), ENODEV);
    assert_null(addrs);

    assert_int_equal(turbotap_addrs_save(TAP, &addrs), 0);
    host_rename(TAP, "tta1");
    assert_int_equal(turbotap_addrs_restore(addrs), ENODEV);
    turbotap_addrs_free(addrs);
    turbotap_addrs_free(NULL);
    close(*tap);
    *tap = host_open_tap(TAP, TAP_FLAGS);
}

/* What cannot be restored does not keep the rest from it. */
static void
test_failure(void **state)
{
    struct turbotap_addrs *addrs;
    char *text;
    int *tap = *state;

    give_addresses();
    IP("link set " TAP " up");
    IP("route add 10.9.0.0/16 via 10.1.1.1");
    assert_int_equal(turbotap_addrs_save(TAP, &addrs), 0);
    *tap = replace_tap(*tap);
    run("sysctl -q -w net.ipv6.conf." TAP ".disable_ipv6=1");
    assert_int_equal(turbotap_addrs_restore(addrs), EACCES);
    turbotap_addrs_free(addrs);

    text = describe();
    assert_non_null(strstr(text, "10.1.1.2/24"));
    assert_non_null(strstr(text, "10.9.0.0/16 via 10.1.1.1"));
    assert_null(strstr(text, "fc00::2"));
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("addrs", tests, NULL, NULL);
}
