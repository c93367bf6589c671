/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-addrs.h, with ip(8) as the administrator.  It must not
 * know how rtnetlink is spoken.
 *
 * All links of the namespace are compared, before and after: the one that is
 * replaced, and the other one, which must not notice. */

#include <config.h>

#include "host.h"
#include "turbotap-addrs.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TAP "tta0"              /* Is replaced. */
#define OTHER "tta1"
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI)
#define TEXT_SIZE 65536

/* Runs the ip(8) command 'ARGS', a string literal. */
#define IP(ARGS) run("ip " ARGS)

struct fixture {
    int tap, other;             /* Their descriptors. */
};

static void
run(const char *command)
{
    int status = system(command);

    if (status) {
        fail_msg("%s: exit status %d", command, status);
    }
}

/* Returns what 'command' prints, to be freed by the caller. */
static char *
output(const char *command)
{
    FILE *pipe = popen(command, "r");
    char *text = calloc(1, TEXT_SIZE);
    size_t n;

    assert_non_null(pipe);
    n = fread(text, 1, TEXT_SIZE - 1, pipe);
    assert_true(n < TEXT_SIZE - 1);
    assert_int_equal(pclose(pipe), 0);
    return text;
}

/* Returns what all links have, to be freed by the caller, as it would be if
 * nothing but a link's index had changed.  Left out is how much is left of a
 * lifetime, whether an address is tentative, and the order of what the kernel
 * has for each link. */
static char *
describe(void)
{
    return output(
        "{ ip -o link show up"
        "      | sed 's/^[0-9]*: \\([^:]*\\):.*/\\1 up/' | sort;"
        "  for link in lo " TAP " " OTHER "; do"
        "      ip -d -o address show $link 2>/dev/null; done;"
        "  ip nexthop;"
        "  ip -d -4 route show table all | grep -v ^broadcast.*kernel;"
        "  ip -d -6 route show table all"
        "      | grep -v '^local fe80:\\|^[a-z]* fe80::/\\|ff00:';"
        "  ip -d route show table all"
        "      | grep ' fe80::/\\|ff00:\\|^broadcast.*kernel' | sort;"
        "  ip neighbour show nud permanent;"
        "  ip neighbour show proxy; }"
        " | sed 's/^[0-9]*: //; s/ [0-9]*sec\\b/ SEC/g; s/ tentative//;"
        "        s/ unbalanced_time [0-9.]*//'");
}

/* Opens a file that has 'text' in it, for the commands that are run. */
static int
open_text(const char *text)
{
    int fd = memfd_create("text", 0);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

/* Fails unless all links have what 'before' says, from describe(), and frees
 * it. */
static void
check_unchanged(char *before)
{
    char *after = describe();
    int fds[] = { open_text(before), open_text(after) };
    char command[64];

    /* Short, and all of it, which cmocka's messages would not be. */
    snprintf(command, sizeof command,
             "diff -U0 /proc/self/fd/%d /proc/self/fd/%d >&2", fds[0], fds[1]);
    run(command);
    free(before);
    free(after);
    close(fds[0]);
    close(fds[1]);
}

/* Fails unless 'command' prints 'expected'. */
static void
check_output(const char *command, const char *expected)
{
    char *text = output(command);

    assert_string_equal(text, expected);
    free(text);
}

/* Opens the tap device 'name', which has the same MAC each time. */
static int
open_tap(const char *name)
{
    int tap = host_open_tap(name, TAP_FLAGS);
    char command[256];

    snprintf(command, sizeof command,
             "ip link set %s address 02:00:00:00:00:0%c"
             " && sysctl -q -w net.ipv6.conf.%s.disable_ipv6=0", name,
             name[3], name);
    run(command);
    return tap;
}

/* Replaces the device 'name', whose descriptor is '*tap', by another one. */
static void
replace_tap(const char *name, int *tap)
{
    close(*tap);
    *tap = open_tap(name);
}

static struct turbotap_addrs *
save(void)
{
    static const char *const names[] = { TAP };
    struct turbotap_addrs *addrs;

    assert_int_equal(turbotap_addrs_save(names, 1, &addrs), 0);
    return addrs;
}

static void
restore(struct turbotap_addrs *addrs)
{
    assert_int_equal(turbotap_addrs_restore(addrs), 0);
    turbotap_addrs_free(addrs);
}

/* Takes what TAP has along to another device, by the functions under test. */
static void
move_all(struct fixture *fixture)
{
    struct turbotap_addrs *addrs = save();

    replace_tap(TAP, &fixture->tap);
    check_output("ip address show " TAP " | grep inet; true", "");
    restore(addrs);
}

/* Takes what TAP has along to another device, and fails if anything is not as
 * it was. */
static void
check_move(struct fixture *fixture)
{
    char *before = describe();

    move_all(fixture);
    check_unchanged(before);
}

static int
setup(void **state)
{
    struct fixture *fixture = malloc(sizeof *fixture);

    /* Valid at once here, but not by themselves on the next link. */
    run("sysctl -q -w net.ipv6.conf.default.accept_dad=0");
    fixture->tap = open_tap(TAP);
    fixture->other = open_tap(OTHER);
    run("sysctl -q -w net.ipv6.conf.default.accept_dad=1");
    IP("link set " OTHER " up");
    IP("link set lo up");
    IP("address add 10.7.1.1/24 dev " OTHER);
    IP("address add fc17::2/64 dev " OTHER);
    IP("route add 10.6.0.0/16 via 10.7.1.2");
    *state = fixture;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *fixture = *state;

    system("ip nexthop flush >/dev/null 2>&1");
    close(fixture->tap);
    close(fixture->other);
    free(fixture);
    return 0;
}

static void
give_addresses(void)
{
    IP("address add 10.1.1.2/24 broadcast + dev " TAP);
    IP("address add 10.1.1.3/24 dev " TAP);
    IP("address add fc00::2/64 dev " TAP);
    IP("link set " TAP " up");
}

/* The address's attributes, and the order of addresses. */
static void
test_addresses(void **state)
{
    give_addresses();
    IP("address add 10.2.1.1 peer 10.2.1.2 dev " TAP);
    IP("address add 10.3.1.1/24 dev " TAP
       " valid_lft 5000 preferred_lft 4000 noprefixroute");
    IP("address add 10.3.2.1/24 dev " TAP " label " TAP ":web scope site");
    IP("address add 10.3.3.1/24 broadcast 10.3.3.7 dev " TAP " metric 77");
    IP("address add 10.3.4.1/24 dev " TAP " valid_lft 900 preferred_lft 0");
    IP("address add 239.1.1.1/32 dev " TAP " autojoin");
    IP("address add fc00::3/64 dev " TAP " nodad");
    IP("address add fc01::1 peer fc01::2 dev " TAP);
    IP("address add fc02::1/64 dev " TAP " home metric 5");
    IP("address add fc03::1/64 dev " TAP
       " valid_lft 5000 preferred_lft 4000 noprefixroute");
    IP("address add fc04::1/64 dev " TAP " mngtmpaddr");
    IP("address add fc05::1/64 dev " TAP " valid_lft 900 preferred_lft 0");
    IP("address add fe80::77/64 dev " TAP);
    check_move(*state);
    check_output("ip address show " TAP " | grep -c "
                 "'valid_lft \\(49..\\|5000\\)sec"
                 " preferred_lft \\(39..\\|4000\\)sec'", "2\n");
}

/* The time between the two links counts. */
static void
test_lifetimes(void **state)
{
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;

    give_addresses();
    IP("address add 10.2.1.1/24 dev " TAP " valid_lft 2 preferred_lft 1");
    IP("address add fc02::1/64 dev " TAP " valid_lft 2 preferred_lft 1");
    IP("-6 route add fc20::/64 via fc00::1 expires 2");
    IP("address add 10.2.2.1/24 dev " OTHER " valid_lft 3 preferred_lft 1");
    addrs = save();
    replace_tap(TAP, &fixture->tap);
    run("while ip address show " OTHER " | grep -q 10.2.2.1; do :; done");
    restore(addrs);
    check_output("ip -o address show " TAP " scope global | grep -c .", "3\n");
    check_output("ip -6 route show fc20::/64", "");
}

/* An address that was found to be somebody else's stays unused. */
static void
test_duplicate_address(void **state)
{
    struct fixture *fixture = *state;

    /* One of a link that is down is not known to be nobody else's. */
    run("sysctl -q -w net.ipv6.conf." TAP ".accept_dad=1");
    IP("address add fc00::2/64 dev " TAP);
    check_output("ip -6 -o address show " TAP " tentative | wc -l", "1\n");
    move_all(fixture);
    check_output("ip -6 -o address show " TAP " tentative | wc -l", "1\n");
}

/* The route's attributes, and routes that need others. */
static void
test_routes(void **state)
{
    give_addresses();
    /* The kernel lists them by their prefix, so the first one comes before the
     * one that its gateway is reached by. */
    IP("route add 10.8.0.0/24 dev " TAP " scope link");
    IP("route add 10.5.0.0/16 via 10.8.0.7 mtu lock 1400 advmss 1300 window 9"
       " rtt 100ms rttvar 50ms ssthresh 7 initcwnd 20 initrwnd 30 quickack 1"
       " rto_min 300ms features ecn congctl reno");
    IP("route add 10.9.0.0/16 via 10.1.1.1 metric 5 proto 99 realm 3/4");
    IP("route add 10.9.0.0/16 via 10.1.1.1 tos 0x10 src 10.1.1.3");
    IP("route add 10.10.0.0/16 via 10.66.0.1 dev " TAP " onlink");
    IP("route add 10.11.0.0/16 dev " TAP " scope site");
    IP("route add 10.12.0.0/16 via inet6 fc00::1 dev " TAP);
    IP("route add local 10.13.0.0/16 dev " TAP " table local");
    IP("route add broadcast 10.14.0.0/16 dev " TAP);
    IP("route add 10.15.0.0/16 dev " TAP " proto kernel scope link metric 3");
    IP("route add default via 10.1.1.1 table 7");
    IP("route add default via 10.1.1.1 table 70000");
    IP("route add 10.16.0.0/16 nexthop via 10.1.1.1 dev " TAP " weight 3"
       " nexthop via 10.77.0.1 dev " TAP " weight 5 onlink");
    IP("-6 route add fc08::/64 dev " TAP " metric 9");
    IP("-6 route add fc06::/64 via fc08::1 mtu lock 1400 hoplimit 9");
    IP("-6 route add fc09::/64 via fc00::1 proto 99 pref high expires 900");
    IP("-6 route add fc0a::/64 via fc66::1 dev " TAP " onlink");
    IP("-6 route add fc0b::/64 via fc00::1 src fc00::2 table 7");
    IP("-6 route add default from fc99::/64 via fc00::1");
    IP("-6 route add local fc0c::/64 dev " TAP " table local");
    IP("-6 route add fc0d::/64 nexthop via fc00::1 weight 3"
       " nexthop via fc00::2:1 weight 5");
    check_move(*state);
}

/* Routes that are also, or only, another link's. */
static void
test_shared_routes(void **state)
{
    give_addresses();
    IP("route add 10.20.0.0/16 nexthop via 10.1.1.1 weight 3"
       " nexthop via 10.7.1.2 weight 4");
    IP("route add 10.21.0.0/16 via 10.7.1.2 src 10.1.1.2 mtu 1400");
    IP("route add 10.22.0.0/16 src 10.1.1.3 nexthop via 10.7.1.2"
       " nexthop via 10.7.1.3");
    /* What is first here comes back behind what stayed. */
    IP("-6 route add fc20::/64 nexthop via fc17::1 weight 4"
       " nexthop via fc00::1 weight 3");
    IP("-6 route add fc21::/64 via fc17::1 src fc00::2");
    check_move(*state);
}

/* Routes of another link that have the same destination and metric stay, and
 * those of this one have the same place among them as before. */
static void
test_order(void **state)
{
    give_addresses();
    IP("route add default via 10.1.1.1");
    IP("route append default via 10.7.1.2");
    IP("route add 10.20.0.0/16 via 10.7.1.2 metric 5");
    IP("route append 10.20.0.0/16 via 10.1.1.1 metric 5");
    IP("route append 10.20.0.0/16 via 10.1.1.9 metric 5");
    /* The first one of this needs 10.40.0.0/16, which is listed later. */
    IP("route add 10.40.0.0/16 dev " TAP);
    IP("route add 10.30.0.0/16 via 10.40.0.1");
    IP("route append 10.30.0.0/16 dev " TAP);
    IP("route append 10.30.0.0/16 via 10.7.1.2");
    IP("-6 route add default dev " OTHER " metric 5");
    IP("-6 route append default dev " TAP " metric 5");
    check_move(*state);
}

/* With IPv6, what was first is last then.  Nothing else can be done without
 * touching what is another link's. */
static void
test_order_ipv6(void **state)
{
    give_addresses();
    IP("-6 route add fc20::/64 dev " TAP);
    IP("-6 route append fc20::/64 dev " OTHER);
    IP("-6 route add fc21::/64 nexthop via fc00::1 weight 3"
       " nexthop via fc17::1 weight 4");
    move_all(*state);
    check_output("ip -6 route show fc20::/64 | sed 's/ metric.*//'",
                 "fc20::/64 dev " OTHER "\nfc20::/64 dev " TAP "\n");
    check_output("ip -6 route show fc21::/64 | grep -o 'via .*'",
                 "via fc17::1 dev " OTHER " weight 4 \n"
                 "via fc00::1 dev " TAP " weight 3 \n");
}

/* Routes that the kernel has made, but are not as it makes them. */
static void
test_kernel_routes(void **state)
{
    give_addresses();
    IP("address add 10.1.2.2/24 dev " TAP);
    IP("route change 10.1.2.0/24 dev " TAP
       " proto kernel scope link src 10.1.2.2 mtu 1400");
    IP("address add 10.1.3.2/24 dev " TAP);
    IP("route change 10.1.3.0/24 dev " TAP
       " proto kernel scope link src 10.1.2.2");
    IP("-6 route change fc00::/64 dev " TAP " proto kernel metric 256"
       " mtu 1400");
    IP("address add 10.1.4.2/24 dev " TAP);
    IP("route delete 10.1.4.0/24");
    IP("address add 10.1.5.2/24 dev " TAP " metric 7");
    IP("route delete 10.1.5.0/24");
    IP("route add 10.1.5.0/24 dev " TAP
       " proto kernel scope link src 10.1.5.2 metric 8");
    IP("address add fc01::2/64 dev " TAP);
    IP("-6 route delete fc01::/64");
    IP("address add fc02::2/64 dev " TAP);
    IP("-6 route delete fc02::/64");
    IP("-6 route add fc02::/64 dev " TAP " proto kernel metric 100");
    IP("address add fc03::1 peer fc03::2 dev " TAP " metric 7");
    /* The other link has the same network, but this one has it first. */
    IP("address add 10.1.1.9/24 dev " OTHER);
    IP("route append 10.1.2.0/24 via 10.7.1.2");
    check_move(*state);
    check_output("ip route get 10.1.1.77 | grep -o 'dev [^ ]*'",
                 "dev " TAP "\n");
}

/* Next hops that are objects, groups of them, and routes by them. */
static void
test_nexthops(void **state)
{
    give_addresses();
    IP("nexthop add id 11 via 10.1.1.1 dev " TAP " proto 99");
    IP("nexthop add id 12 via 10.7.1.2 dev " OTHER);
    IP("nexthop add id 13 dev " TAP);
    IP("nexthop add id 14 via 10.66.0.1 dev " TAP " onlink");
    IP("nexthop add id 15 via fc00::1 dev " TAP);
    IP("nexthop add id 16 blackhole");
    IP("nexthop add id 3 group 11,3/12,2/14,7");
    IP("nexthop add id 4 group 12/11 type resilient buckets 32"
       " idle_timer 60");
    IP("nexthop add id 5 group 11/14");
    IP("route add 10.20.0.0/16 nhid 3");
    IP("route add 10.21.0.0/16 nhid 4");
    IP("route add 10.22.0.0/16 nhid 5 mtu 1400");
    IP("route add 10.23.0.0/16 nhid 11");
    IP("route append 10.23.0.0/16 nhid 12");
    IP("route add 10.24.0.0/16 nhid 13");
    IP("route add 10.25.0.0/16 nhid 14 src 10.1.1.3");
    IP("route add 10.26.0.0/16 nhid 12 src 10.1.1.3");
    IP("-6 route add fc20::/64 nhid 15");
    check_move(*state);
}

/* A group that somebody has changed meanwhile is left as it is. */
static void
test_changed_group(void **state)
{
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;

    give_addresses();
    IP("nexthop add id 11 via 10.1.1.1 dev " TAP);
    IP("nexthop add id 12 via 10.7.1.2 dev " OTHER);
    IP("nexthop add id 13 via 10.7.1.3 dev " OTHER);
    IP("nexthop add id 20 group 11/12");
    addrs = save();
    replace_tap(TAP, &fixture->tap);
    IP("nexthop replace id 20 group 12/13");
    restore(addrs);
    check_output("ip nexthop show id 20", "id 20 group 12/13 \n");
}

static void
test_neighbours(void **state)
{
    give_addresses();
    IP("neighbour add 10.1.1.77 lladdr 02:00:00:00:00:77 dev " TAP);
    IP("neighbour add fc00::77 lladdr 02:00:00:00:00:77 dev " TAP
       " router proto 99");
    IP("neighbour add proxy 10.1.1.78 dev " TAP);
    IP("neighbour add proxy fc00::78 dev " TAP);
    IP("neighbour add 10.7.1.77 lladdr 02:00:00:00:00:78 dev " OTHER);
    check_move(*state);
}

/* Two links at once, and routes through both. */
static void
test_two_links(void **state)
{
    static const char *const names[] = { TAP, "tta9", OTHER };
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;
    char *before;

    give_addresses();
    IP("route add 10.20.0.0/16 nexthop via 10.1.1.1 nexthop via 10.7.1.2");
    IP("route add 10.21.0.0/16 via 10.7.1.2 src 10.1.1.2");
    IP("-6 route add fc20::/64 nexthop via fc00::1 nexthop via fc17::1");
    IP("nexthop add id 11 via 10.1.1.1 dev " TAP);
    IP("nexthop add id 12 via 10.7.1.2 dev " OTHER);
    IP("nexthop add id 20 group 11/12");
    before = describe();
    assert_int_equal(turbotap_addrs_save(names, 3, &addrs), 0);
    replace_tap(TAP, &fixture->tap);
    replace_tap(OTHER, &fixture->other);
    restore(addrs);
    check_unchanged(before);
}

/* A link that goes without another one takes what is its own with it. */
static void
test_link_gone(void **state)
{
    static const char *const names[] = { TAP, OTHER };
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;

    give_addresses();
    IP("route add 10.20.0.0/16 nexthop via 10.1.1.1 nexthop via 10.7.1.2");
    IP("-6 route add fc20::/64 nexthop via fc00::1 nexthop via fc17::1");
    assert_int_equal(turbotap_addrs_save(names, 2, &addrs), 0);
    replace_tap(TAP, &fixture->tap);
    host_rename(OTHER, "tta2");
    close(fixture->other);
    restore(addrs);
    check_output("ip route", "10.1.1.0/24 dev " TAP
                 " proto kernel scope link src 10.1.1.2 \n");
    check_output("ip -6 route show fc20::/64",
                 "fc20::/64 via fc00::1 dev " TAP
                 " metric 1024 pref medium\n");
    fixture->other = open_tap(OTHER);
}

/* What somebody has put in the place of a route, or given the new link,
 * meanwhile, is theirs. */
static void
test_meanwhile(void **state)
{
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;
    char *before;

    give_addresses();
    IP("route add default via 10.1.1.1");
    IP("-6 route add default via fc00::1");
    IP("route add 10.20.0.0/16 via 10.1.1.1");
    IP("route append 10.20.0.0/16 via 10.7.1.2");
    before = output("ip address show " TAP);
    free(before);
    addrs = save();
    replace_tap(TAP, &fixture->tap);
    IP("route add default via 10.7.1.9");
    IP("-6 route add default via fc17::9");
    IP("route del 10.20.0.0/16 via 10.7.1.2");
    IP("address add 10.1.1.2/24 label " TAP ":new dev " TAP);
    restore(addrs);
    check_output("ip route show default", "default via 10.7.1.9 dev " OTHER
                 " \n");
    check_output("ip -6 route show default", "default via fc17::9 dev " OTHER
                 " metric 1024 pref medium\n");
    check_output("ip route show 10.20.0.0/16", "10.20.0.0/16 via 10.1.1.1 dev "
                 TAP " \n");
    check_output("ip -o address show " TAP " label " TAP ":new | wc -l",
                 "1\n");
}

/* A link that is down has addresses, but no routes. */
static void
test_down(void **state)
{
    IP("address add 10.1.1.2/24 dev " TAP);
    check_move(*state);
    check_output("ip -o link show up | grep -c " TAP "; true", "0\n");
}

/* The same link has what it has: an address that was removed meanwhile does
 * not come back, nor does a route. */
static void
test_same_link(void **state)
{
    struct turbotap_addrs *addrs;
    char *before;

    (void) state;
    before = describe();
    IP("link set " TAP " up");
    IP("address add 10.1.1.2/24 dev " TAP);
    IP("route add 10.9.0.0/16 via 10.1.1.1");
    IP("route add 10.20.0.0/16 nexthop via 10.1.1.1 nexthop via 10.7.1.2");
    addrs = save();
    IP("address del 10.1.1.2/24 dev " TAP);
    IP("route del 10.20.0.0/16");
    IP("link set " TAP " down");
    restore(addrs);
    check_unchanged(before);
}

static void
test_no_link(void **state)
{
    static const char *const names[] = { "tta9" };
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;
    char *before = describe();

    assert_int_equal(turbotap_addrs_save(names, 1, &addrs), 0);
    restore(addrs);
    check_unchanged(before);

    give_addresses();
    addrs = save();
    host_rename(TAP, "tta2");
    close(fixture->tap);
    before = describe();
    restore(addrs);
    check_unchanged(before);
    turbotap_addrs_free(NULL);
    fixture->tap = open_tap(TAP);
}

/* What cannot be restored does not keep the rest from it. */
static void
test_failure(void **state)
{
    struct fixture *fixture = *state;
    struct turbotap_addrs *addrs;
    char *text;

    give_addresses();
    IP("route add 10.9.0.0/16 via 10.1.1.1");
    addrs = save();
    replace_tap(TAP, &fixture->tap);
    run("sysctl -q -w net.ipv6.conf." TAP ".disable_ipv6=1");
    assert_int_equal(turbotap_addrs_restore(addrs), EACCES);
    turbotap_addrs_free(addrs);

    text = describe();
    assert_non_null(strstr(text, "10.1.1.2/24"));
    assert_non_null(strstr(text, "10.9.0.0/16 via 10.1.1.1"));
    assert_null(strstr(text, "fc00::2"));
    free(text);
}

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_addresses),
        TEST(test_lifetimes),
        TEST(test_duplicate_address),
        TEST(test_routes),
        TEST(test_shared_routes),
        TEST(test_order),
        TEST(test_order_ipv6),
        TEST(test_kernel_routes),
        TEST(test_nexthops),
        TEST(test_changed_group),
        TEST(test_neighbours),
        TEST(test_two_links),
        TEST(test_link_gone),
        TEST(test_meanwhile),
        TEST(test_down),
        TEST(test_same_link),
        TEST(test_no_link),
        TEST(test_failure),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("addrs", tests, NULL, NULL);
}
