/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The record of a switch's devices, in a file.  Must not know devices, nor who
 * wants to know. */

#include <config.h>

#include "turbotap-record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "turbotap-util.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_LEN 36

/* The first line, but for the boot's id. */
#define MAGIC "turbotap-record 1 "

/* Longer than any line. */
#define LINE_LEN 256

/* So many lines more than twice what it takes, and the file is written
 * anew. */
#define SLACK 64

struct turbotap_record {
    char path[PATH_MAX];
    char boot_id[BOOT_ID_LEN + 1];
    int fd;                     /* To append to, -1 to write all. */
    unsigned int n_lines;       /* In the file, without the first one. */
    unsigned int n_entries;
    struct turbotap_record_entry *entries;
};

/* In memory. */

/* Returns the index of the entry of 'port', 'n_entries' if there is none. */
static unsigned int
find(const struct turbotap_record *record, const char *port)
{
    unsigned int i = 0;

    while (i < record->n_entries && strcmp(record->entries[i].port, port)) {
        i++;
    }
    return i;
}

/* Makes the entry of a port '*entry'.  Returns 0 or ENOMEM. */
static int
set_entry(struct turbotap_record *record,
          const struct turbotap_record_entry *entry)
{
    unsigned int i = find(record, entry->port);

    if (i == record->n_entries) {
        struct turbotap_record_entry *grown;

        grown = reallocarray(record->entries, i + 1, sizeof *grown);
        if (!grown) {
            return ENOMEM;
        }
        record->entries = grown;
        record->n_entries++;
    }
    record->entries[i] = *entry;
    return 0;
}

/* Takes the entry of 'port' away.  Returns false if there is none. */
static bool
remove_entry(struct turbotap_record *record, const char *port)
{
    unsigned int i = find(record, port);

    if (i == record->n_entries) {
        return false;
    }
    record->entries[i] = record->entries[--record->n_entries];
    return true;
}

const struct turbotap_record_entry *
turbotap_record_find(const struct turbotap_record *record, const char *port)
{
    unsigned int i = find(record, port);

    return i < record->n_entries ? &record->entries[i] : NULL;
}

const struct turbotap_record_entry *
turbotap_record_next(const struct turbotap_record *record,
                     const struct turbotap_record_entry *entry)
{
    unsigned int i = entry ? entry - record->entries + 1 : 0;

    return i < record->n_entries ? &record->entries[i] : NULL;
}

const struct turbotap_record_entry *
turbotap_record_find_device(const struct turbotap_record *record,
                            uint64_t cookie,
                            const struct turbotap_netns *netns, int ifindex)
{
    for (unsigned int i = 0; i < record->n_entries; i++) {
        const struct turbotap_record_entry *e = &record->entries[i];

        if (e->ifindex == ifindex
            && (cookie && e->cookie
                ? e->cookie == cookie
                : turbotap_netns_equal(&e->netns, netns))) {
            return e;
        }
    }
    return NULL;
}

/* In the file. */

/* Writes the line that says 'e' into the LINE_LEN octets at 'line'.  Returns
 * its length. */
static int
format_entry(const struct turbotap_record_entry *e, char *line)
{
    return snprintf(line, LINE_LEN, "+ %s %d %"PRIu64" %"PRIu64" %"PRIu64
                    " %d %d %s\n", e->port, e->owned, e->cookie, e->netns.dev,
                    e->netns.ino, e->nsid, e->ifindex, e->id);
}

/* Does in memory what 'line', a whole one without its end, tells.  Returns 0
 * or a positive errno value, EPROTO if it tells nothing. */
static int
apply_line(struct turbotap_record *record, const char *line)
{
    struct turbotap_record_entry e;
    char port[IFNAMSIZ];
    int owned;
    int end = 0;

    memset(&e, 0, sizeof e);
    if (sscanf(line, "- %15s%n", port, &end) == 1 && !line[end]) {
        remove_entry(record, port);
        return 0;
    }
    end = 0;
    if (sscanf(line, "+ %15s %d %"SCNu64" %"SCNu64" %"SCNu64" %d %d %36s%n",
               e.port, &owned, &e.cookie, &e.netns.dev, &e.netns.ino, &e.nsid,
               &e.ifindex, e.id, &end) != 8 || line[end]) {
        return EPROTO;
    }
    e.owned = owned;
    return set_entry(record, &e);
}

/* Reads 'stream' into 'record'.  Returns 0 or a positive errno value, EPROTO
 * if it is not a record. */
static int
read_stream(struct turbotap_record *record, FILE *stream)
{
    char line[LINE_LEN];
    int error = 0;

    if (!fgets(line, sizeof line, stream)) {
        return ferror(stream) ? EIO : 0;        /* Never finished. */
    } else if (strncmp(line, MAGIC, strlen(MAGIC))) {
        return EPROTO;
    } else if (strncmp(line + strlen(MAGIC), record->boot_id, BOOT_ID_LEN)) {
        return 0;
    }
    while (!error && fgets(line, sizeof line, stream)) {
        char *end = strchr(line, '\n');

        if (!end) {
            break;              /* Who wrote it was killed. */
        }
        *end = '\0';
        error = apply_line(record, line);
    }
    return error ? error : ferror(stream) ? EIO : 0;
}

/* Reads the file into 'record'.  Returns 0 or a positive errno value, ENOENT
 * if there is none. */
static int
read_file(struct turbotap_record *record)
{
    int fd = open(record->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    FILE *stream;
    int error;

    if (fd < 0) {
        return errno;
    }
    stream = fdopen(fd, "r");
    if (!stream) {
        error = errno;
        close(fd);
        return error;
    }
    error = read_stream(record, stream);
    fclose(stream);
    return error;
}

/* Writes 'len' octets to the file, all or as if none, for whoever reads it.
 * Returns 0 or a positive errno value. */
static int
append(int fd, const char *octets, size_t len)
{
    ssize_t n = write(fd, octets, len);

    return n == (ssize_t) len ? 0 : n < 0 ? errno : ENOSPC;
}

/* Writes the whole file anew, in the place of what there is.  Returns 0 or a
 * positive errno value, and then the file is as it was. */
static int
write_file(struct turbotap_record *record)
{
    char line[LINE_LEN];
    char path[PATH_MAX + 4];
    int error, fd;

    if (record->fd >= 0) {
        close(record->fd);
        record->fd = -1;
    }
    snprintf(path, sizeof path, "%s.new", record->path);
    unlink(path);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC,
              S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return errno;
    }
    error = append(fd, line, snprintf(line, sizeof line, MAGIC"%s\n",
                                      record->boot_id));
    for (unsigned int i = 0; i < record->n_entries && !error; i++) {
        error = append(fd, line, format_entry(&record->entries[i], line));
    }
    if (!error && rename(path, record->path)) {
        error = errno;
    }
    if (error) {
        unlink(path);
        close(fd);
        return error;
    }
    record->fd = fd;
    record->n_lines = record->n_entries;
    return 0;
}

/* Returns true if what is appended is found by whoever opens the file: nobody
 * has removed it. */
static bool
is_found(const struct turbotap_record *record)
{
    struct stat s;

    return record->fd >= 0 && !fstat(record->fd, &s) && s.st_nlink;
}

/* Writes 'line', a change that has been made in memory, or all.  Returns 0 or
 * a positive errno value. */
static int
write_line(struct turbotap_record *record, const char *line)
{
    if (is_found(record)
        && record->n_lines < 2 * record->n_entries + SLACK
        && !append(record->fd, line, strlen(line))) {
        record->n_lines++;
        return 0;
    }
    return write_file(record);
}

/* Stores what tells this boot of the machine from others in the
 * BOOT_ID_LEN + 1 octets at 'id' (random(4)).  Returns 0 or a positive errno
 * value. */
static int
read_boot_id(char *id)
{
    int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    int error;

    if (fd < 0) {
        return errno;
    }
    n = read(fd, id, BOOT_ID_LEN);
    error = n < 0 ? errno : n < BOOT_ID_LEN ? EIO : 0;
    close(fd);
    id[BOOT_ID_LEN] = '\0';
    return error;
}

int
turbotap_record_open(const char *path, struct turbotap_record **recordp,
                     bool *newp)
{
    struct turbotap_record *record;
    int error;

    *recordp = NULL;
    *newp = false;
    if (strlen(path) >= sizeof record->path) {
        return ENAMETOOLONG;
    }
    record = turbotap_zalloc(sizeof *record);
    if (!record) {
        return ENOMEM;
    }
    record->fd = -1;
    snprintf(record->path, sizeof record->path, "%s", path);
    error = read_boot_id(record->boot_id);
    if (!error) {
        error = read_file(record);
    }
    if (error == ENOENT) {
        *newp = true;
        error = 0;
    }
    /* Without a line that was not finished, and ours, if it was root's. */
    if (!error) {
        error = write_file(record);
    }
    if (error) {
        turbotap_record_close(record);
        return error;
    }
    *recordp = record;
    return 0;
}

void
turbotap_record_close(struct turbotap_record *record)
{
    if (record) {
        if (record->fd >= 0) {
            close(record->fd);
        }
        free(record->entries);
        free(record);
    }
}

/* Returns whether 'a' and 'b' say the same. */
static bool
entry_equal(const struct turbotap_record_entry *a,
            const struct turbotap_record_entry *b)
{
    return (!strcmp(a->port, b->port) && a->owned == b->owned
            && a->cookie == b->cookie
            && turbotap_netns_equal(&a->netns, &b->netns)
            && a->nsid == b->nsid && a->ifindex == b->ifindex
            && !strcmp(a->id, b->id));
}

int
turbotap_record_put(struct turbotap_record *record,
                    const struct turbotap_record_entry *entry)
{
    const struct turbotap_record_entry *old;
    char line[LINE_LEN];
    int error;

    old = turbotap_record_find(record, entry->port);
    if (old && entry_equal(old, entry) && is_found(record)) {
        return 0;
    }
    error = set_entry(record, entry);
    if (error) {
        return error;
    }
    format_entry(entry, line);
    return write_line(record, line);
}

int
turbotap_record_remove(struct turbotap_record *record, const char *port)
{
    char line[LINE_LEN];

    if (!remove_entry(record, port)) {
        return 0;
    }
    snprintf(line, sizeof line, "- %s\n", port);
    return write_line(record, line);
}
