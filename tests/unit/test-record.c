/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-record: what a process finds that opens the file after
 * another one, however that ended. */

#include <config.h>

#include "host.h"
#include "turbotap-record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID1 "01234567-89ab-cdef-0123-456789abcdef"
#define ID2 "11234567-89ab-cdef-0123-456789abcdef"

/* A folder for the file, and the name of that. */
static char folder[] = "/tmp/test-record-XXXXXX";
static char path[PATH_MAX];

static int
setup(void **state)
{
    (void) state;
    strcpy(folder + sizeof folder - 7, "XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/record", folder);
    return 0;
}

static int
teardown(void **state)
{
    (void) state;
    unlink(path);
    /* Nothing else was left there. */
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static struct turbotap_record_entry
make_entry(const char *port, int i)
{
    struct turbotap_record_entry e;

    memset(&e, 0, sizeof e);
    snprintf(e.port, sizeof e.port, "%s", port);
    e.owned = i % 2;
    e.cookie = i % 3 ? UINT64_MAX - i : 0;
    e.netns.dev = UINT64_MAX - 2 * i;
    e.netns.ino = 4026531840U + i;
    e.nsid = i - 1;
    e.ifindex = i + 5;
    snprintf(e.id, sizeof e.id, "%s", i % 5 ? i % 2 ? ID1 : ID2 : "-");
    return e;
}

static struct turbotap_record *
open_record(bool expect_new)
{
    struct turbotap_record *record;
    bool new;

    assert_int_equal(turbotap_record_open(path, &record, &new), 0);
    assert_int_equal(new, expect_new);
    return record;
}

static unsigned int
count(const struct turbotap_record *record)
{
    const struct turbotap_record_entry *e = NULL;
    unsigned int n = 0;

    while ((e = turbotap_record_next(record, e))) {
        n++;
    }
    return n;
}

static void
check_entry(const struct turbotap_record *record,
            const struct turbotap_record_entry *expected)
{
    const struct turbotap_record_entry *e;

    e = turbotap_record_find(record, expected->port);
    assert_non_null(e);
    assert_int_equal(e->owned, expected->owned);
    assert_true(e->cookie == expected->cookie);
    assert_true(turbotap_netns_equal(&e->netns, &expected->netns));
    assert_int_equal(e->nsid, expected->nsid);
    assert_int_equal(e->ifindex, expected->ifindex);
    assert_string_equal(e->id, expected->id);
}

static off_t
file_size(void)
{
    struct stat s;

    assert_int_equal(stat(path, &s), 0);
    return s.st_size;
}

/* All that was put is found again, the last of each port. */
static void
test_again(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry e;
    off_t size;

    (void) state;
    assert_null(turbotap_record_next(record, NULL));
    assert_null(turbotap_record_find(record, "tt0"));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++) {
            char port[IFNAMSIZ];

            snprintf(port, sizeof port, "tt%d", i);
            e = make_entry(port, i + round);
            assert_int_equal(turbotap_record_put(record, &e), 0);
        }
    }
    assert_int_equal(turbotap_record_remove(record, "tt7"), 0);
    assert_int_equal(turbotap_record_remove(record, "tt7"), 0);

    /* What is known is not written again. */
    size = file_size();
    e = make_entry("tt3", 5);
    assert_int_equal(turbotap_record_put(record, &e), 0);
    assert_int_equal(file_size(), size);

    for (int i = 0; i < 2; i++) {
        turbotap_record_close(record);
        record = open_record(false);
        assert_int_equal(count(record), 19);
        assert_null(turbotap_record_find(record, "tt7"));
        e = make_entry("tt3", 5);
        check_entry(record, &e);
        e = make_entry("tt19", 21);
        check_entry(record, &e);
    }
    turbotap_record_close(record);
}

/* A name of full length, and the file is for its user only. */
static void
test_extremes(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry e = make_entry("fifteen-octets!", 7);
    struct stat s;

    (void) state;
    assert_int_equal(turbotap_record_put(record, &e), 0);
    turbotap_record_close(record);
    record = open_record(false);
    check_entry(record, &e);
    turbotap_record_close(record);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
}

/* A device is found by its namespace and index. */
static void
test_find_device(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry a = make_entry("a", 1);
    struct turbotap_record_entry b = make_entry("b", 3);
    struct turbotap_netns other = { .dev = 1, .ino = 1 };

    (void) state;
    assert_int_not_equal(a.cookie, 0);
    assert_int_equal(b.cookie, 0);
    assert_int_equal(turbotap_record_put(record, &a), 0);
    assert_int_equal(turbotap_record_put(record, &b), 0);
    assert_string_equal(turbotap_record_find_device(record, a.cookie, &other,
                                                    a.ifindex)->port, "a");
    assert_null(turbotap_record_find_device(record, a.cookie, &other,
                                            b.ifindex));
    /* The same inode, of a later namespace. */
    assert_null(turbotap_record_find_device(record, a.cookie + 1, &a.netns,
                                            a.ifindex));
    /* Where there is no cookie, the inode has to do. */
    assert_string_equal(turbotap_record_find_device(record, 0, &a.netns,
                                                    a.ifindex)->port, "a");
    assert_string_equal(turbotap_record_find_device(record, 5, &b.netns,
                                                    b.ifindex)->port, "b");
    turbotap_record_close(record);
}

/* A process that is killed while it writes leaves what it wrote before. */
static void
test_cut(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry a = make_entry("a", 1);
    struct turbotap_record_entry b = make_entry("b", 2);
    off_t one, two;
    char *octets;
    int fd;

    (void) state;
    assert_int_equal(turbotap_record_put(record, &a), 0);
    one = file_size();
    assert_int_equal(turbotap_record_put(record, &b), 0);
    two = file_size();
    turbotap_record_close(record);

    octets = malloc(two);
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, octets, two), two);
    close(fd);
    for (off_t size = 0; size <= two; size++) {
        unlink(path);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_int_equal(write(fd, octets, size), size);
        close(fd);
        if (size && size < 18) {
            /* Of this, the first octets might be those of anything. */
            bool new;

            assert_int_equal(turbotap_record_open(path, &record, &new),
                             EPROTO);
            assert_null(record);
            continue;
        }
        record = open_record(false);
        assert_int_equal(count(record), (size >= one) + (size >= two));
        if (size >= one) {
            check_entry(record, &a);
        }
        /* And the next one writes after it. */
        assert_int_equal(turbotap_record_put(record, &b), 0);
        turbotap_record_close(record);
        record = open_record(false);
        check_entry(record, &b);
        turbotap_record_close(record);
    }
    free(octets);
}

/* After another boot, no device is there that was. */
static void
test_boot(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry a = make_entry("a", 1);
    char c;
    int fd;

    (void) state;
    assert_int_equal(turbotap_record_put(record, &a), 0);
    turbotap_record_close(record);

    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &c, 1, 20), 1);
    c = c == '0' ? '1' : '0';
    assert_int_equal(pwrite(fd, &c, 1, 20), 1);
    close(fd);
    record = open_record(false);
    assert_int_equal(count(record), 0);
    turbotap_record_close(record);
}

/* What is no record is not taken for one, nor overwritten. */
static void
test_strange(void **state)
{
    static const char *contents[] = {
        "turbotap-record 2 something",
        "hello\n",
        NULL,                   /* A line that is not understood. */
    };
    struct turbotap_record *record;
    bool new;

    (void) state;
    for (int i = 0; i < 3; i++) {
        char before[256], after[256];
        FILE *file;
        size_t n;

        if (contents[i]) {
            file = fopen(path, "w");
            fputs(contents[i], file);
        } else {
            unlink(path);
            turbotap_record_close(open_record(true));
            file = fopen(path, "a");
            fputs("* a 1 2 3\n", file);
        }
        fclose(file);
        file = fopen(path, "r");
        n = fread(before, 1, sizeof before, file);
        fclose(file);
        assert_int_equal(turbotap_record_open(path, &record, &new), EPROTO);
        assert_null(record);
        file = fopen(path, "r");
        assert_int_equal(fread(after, 1, sizeof after, file), n);
        fclose(file);
        assert_memory_equal(before, after, n);
    }

    /* Nor is a link followed. */
    unlink(path);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(turbotap_record_open(path, &record, &new), ELOOP);
}

/* The file does not grow without end. */
static void
test_size(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry e;

    (void) state;
    for (int i = 0; i < 5000; i++) {
        e = make_entry("a", i % 50);
        assert_int_equal(turbotap_record_put(record, &e), 0);
        assert_int_equal(turbotap_record_remove(record, "b"), 0);
        e = make_entry("b", i % 50);
        assert_int_equal(turbotap_record_put(record, &e), 0);
        assert_true(file_size() < 20000);
    }
    turbotap_record_close(record);
    record = open_record(false);
    assert_int_equal(count(record), 2);
    turbotap_record_close(record);
}

/* Whoever removes the file does not end the record. */
static void
test_removed(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry a = make_entry("a", 1);
    struct turbotap_record_entry b = make_entry("b", 2);

    (void) state;
    assert_int_equal(turbotap_record_put(record, &a), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(turbotap_record_put(record, &a), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(turbotap_record_put(record, &b), 0);
    turbotap_record_close(record);
    record = open_record(false);
    check_entry(record, &a);
    check_entry(record, &b);
    turbotap_record_close(record);
}

/* Without room for more, an error says so; nothing of what was there is lost,
 * and all is there as soon as there is room again. */
static void
test_no_room(void **state)
{
    struct turbotap_record *record = open_record(true);
    struct turbotap_record_entry a = make_entry("a", 1);
    struct turbotap_record_entry b = make_entry("b", 2);
    struct rlimit old, limit;
    off_t one;

    (void) state;
    assert_int_equal(turbotap_record_put(record, &a), 0);
    one = file_size();
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t room = 0; room < 20; room += 7) {
        struct turbotap_record *other;
        struct turbotap_record_entry c = make_entry("c", 3);

        limit = old;
        limit.rlim_cur = one + room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_not_equal(turbotap_record_put(record, &b), 0);
        /* The same again is not taken for written. */
        assert_int_not_equal(turbotap_record_put(record, &b), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);

        other = open_record(false);
        assert_int_equal(count(other), 1);
        check_entry(other, &a);
        turbotap_record_close(other);

        assert_int_equal(turbotap_record_put(record, &c), 0);
        other = open_record(false);
        assert_int_equal(count(other), 3);
        check_entry(other, &b);
        turbotap_record_close(other);
        assert_int_equal(turbotap_record_remove(record, "b"), 0);
        assert_int_equal(turbotap_record_remove(record, "c"), 0);
    }
    turbotap_record_close(record);
}

int
main(void)
{
#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_again),
        TEST(test_extremes),
        TEST(test_find_device),
        TEST(test_cut),
        TEST(test_boot),
        TEST(test_strange),
        TEST(test_size),
        TEST(test_removed),
        TEST(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
