/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Network namespaces.  Must not know what is inside of them. */

#include <config.h>

#include "turbotap-netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "turbotap-escape.h"

#define OWN_PATH "/proc/thread-self/ns/net"
#define NAMES_PATH "/run/netns"

static void
from_stat(const struct stat *s, struct turbotap_netns *netns)
{
    netns->dev = s->st_dev;
    netns->ino = s->st_ino;
}

int
turbotap_netns_from_fd(int fd, struct turbotap_netns *netns)
{
    struct stat s;

    if (fstat(fd, &s)) {
        return errno;
    }
    from_stat(&s, netns);
    return 0;
}

int
turbotap_netns_get_own(struct turbotap_netns *netns)
{
    struct stat s;

    if (stat(OWN_PATH, &s)) {
        return errno;
    }
    from_stat(&s, netns);
    return 0;
}

void
turbotap_netns_format(const struct turbotap_netns *netns, char *name,
                      size_t size)
{
    DIR *dir = opendir(NAMES_PATH);
    const struct dirent *entry;
    bool found = false;

    while (dir && !found && (entry = readdir(dir))) {
        struct turbotap_netns other;
        struct stat s;

        if (!fstatat(dirfd(dir), entry->d_name, &s, AT_SYMLINK_NOFOLLOW)) {
            from_stat(&s, &other);
            found = turbotap_netns_equal(netns, &other);
            if (found) {
                turbotap_escape(entry->d_name, name, size);
            }
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!found) {
        snprintf(name, size, "net:[%"PRIu64"]", netns->ino);
    }
}

/* Looks for 'netns' in the folder 'folder', at 'suffix' in each of its
 * entries.  Returns its descriptor or -1. */
static int
open_in(const struct turbotap_netns *netns, const char *folder,
        const char *suffix)
{
    const struct dirent *entry;
    DIR *dir = opendir(folder);
    int found = -1;

    while (dir && found < 0 && (entry = readdir(dir))) {
        struct turbotap_netns other;
        char path[PATH_MAX];
        struct stat s;

        snprintf(path, sizeof path, "%s/%s%s", folder, entry->d_name, suffix);
        if (entry->d_name[0] == '.' || stat(path, &s)) {
            continue;
        }
        from_stat(&s, &other);
        if (turbotap_netns_equal(netns, &other)) {
            found = open(path, O_RDONLY | O_CLOEXEC);
            if (found >= 0 && (turbotap_netns_from_fd(found, &other)
                               || !turbotap_netns_equal(netns, &other))) {
                close(found);
                found = -1;
            }
        }
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

int
turbotap_netns_open(const struct turbotap_netns *netns, int *fdp)
{
    *fdp = open_in(netns, NAMES_PATH, "");
    if (*fdp < 0) {
        *fdp = open_in(netns, "/proc", "/ns/net");
    }
    return *fdp < 0 ? ENOENT : 0;
}

/* What run() is to do, and what became of it. */
struct job {
    int fd;
    int (*function)(void *aux);
    void *aux;
    int error;
};

/* A thread of its own, since there is no way back out of a network namespace
 * that could not fail. */
static void *
run(void *job_)
{
    struct job *job = job_;

    job->error = (setns(job->fd, CLONE_NEWNET)
                  ? errno
                  : job->function(job->aux));
    return NULL;
}

int
turbotap_netns_run(int fd, int (*function)(void *aux), void *aux)
{
    struct job job = { .fd = fd, .function = function, .aux = aux };
    pthread_t thread;
    int error;

    error = pthread_create(&thread, NULL, run, &job);
    if (error) {
        return error;
    }
    pthread_join(thread, NULL);
    return job.error;
}

/* Stores the cookie of this thread's network namespace in '*cookie_'. */
static int
read_cookie(void *cookie_)
{
    uint64_t *cookie = cookie_;
    socklen_t len = sizeof *cookie;
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error;

    if (sock < 0) {
        return errno;
    }
    error = (getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len)
             ? errno : 0);
    close(sock);
    return error;
}

int
turbotap_netns_get_cookie(int fd, uint64_t *cookie)
{
    *cookie = 0;
    return (fd < 0 ? read_cookie(cookie)
            : turbotap_netns_run(fd, read_cookie, cookie));
}
