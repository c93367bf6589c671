/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The record: which devices are a switch's own, as it wrote down itself.
 *
 * Nothing that a container can change of a device, its name and alias among
 * it, says whose it is.  What it cannot change is where the device is: the
 * network namespace, by a number that the kernel gives to no other one until
 * the machine boots again, and the index there.  A switch records these in a
 * file in a folder where only it writes, before a device can outlive it, and
 * whenever one moves; one that starts again knows its own devices by them.
 *
 * The file begins with what it is and when the machine was booted, since no
 * device survives that.  After that, it is a journal: a line for each change,
 * so that a thousand ports do not write it a thousand times, and a process
 * that is killed leaves at most its last line unfinished, which does not
 * count.  The device that the last line for a port tells of is its own.
 *
 * It must not know devices, nor Open vSwitch.
 *
 * Locking: one thread at a time may use a struct turbotap_record, and one
 * process a file. */

#ifndef TURBOTAP_RECORD_H
#define TURBOTAP_RECORD_H 1

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "turbotap-netns.h"

/* Room for what tells one database from another, a UUID, with the terminating
 * null. */
#define TURBOTAP_RECORD_ID_LEN 37

/* The device of a port. */
struct turbotap_record_entry {
    char port[IFNAMSIZ];        /* The port's name, without white space. */
    bool owned;                 /* Made by the switch, which deletes it? */
    uint64_t cookie;            /* Where it is, as turbotap_netns_get_cookie()
                                 * has it, 0 if that could not be had. */
    struct turbotap_netns netns;        /* The same, to find it by. */
    int nsid;                   /* As in turbotap-link.h. */
    int ifindex;                /* There. */
    char id[TURBOTAP_RECORD_ID_LEN];    /* Of the database that had the port,
                                         * "-" if it has none. */
};

struct turbotap_record;

/* Opens the record in the file 'path', makes it if there is none, and stores
 * it in '*recordp'.  Entries from before the machine was booted are gone.
 * Stores in '*newp' whether there was none.  Returns 0 or a positive errno
 * value: EPROTO if the file is something else, or of a version that is not
 * known; EACCES if it is another user's. */
int turbotap_record_open(const char *path, struct turbotap_record **recordp,
                         bool *newp);

/* Closes 'record'; the file stays.  Null is allowed. */
void turbotap_record_close(struct turbotap_record *record);

/* Returns the entry of 'port', or the one after 'entry', the first one if that
 * is null, or a null pointer if there is none.  It is good until the record
 * changes. */
const struct turbotap_record_entry *
turbotap_record_find(const struct turbotap_record *record, const char *port);
const struct turbotap_record_entry *
turbotap_record_next(const struct turbotap_record *record,
                     const struct turbotap_record_entry *entry);

/* Returns the entry of the device with index 'ifindex' in the namespace with
 * that 'cookie', not 0, or else in 'netns', or a null pointer. */
const struct turbotap_record_entry *
turbotap_record_find_device(const struct turbotap_record *record,
                            uint64_t cookie,
                            const struct turbotap_netns *netns, int ifindex);

/* Each changes the entry of a port, and writes the file: put() makes it
 * '*entry', remove() takes it away, if there is one.  Return 0 or a positive
 * errno value; then what is in memory has changed, but not what a process
 * finds that opens it later, and the next change tries to write all. */
int turbotap_record_put(struct turbotap_record *record,
                        const struct turbotap_record_entry *entry);
int turbotap_record_remove(struct turbotap_record *record, const char *port);

#endif /* turbotap-record.h */
