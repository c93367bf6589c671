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
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

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
                snprintf(name, size, "%s", entry->d_name);
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
