/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What both sides of the keeper have in common: messages, whom to trust, and
 * the lock.  Must not know what is kept, nor either side. */

#include <config.h>

#include "turbotap-keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A lock that one of another user has left behind is that old, in s. */
#define STALE_LOCK 10

/* Messages. */


int
turbotap_keeper_send(int sock, const struct turbotap_keeper_msg *msg,
                     const int *fds, unsigned int n_fds)
{
    union {
        struct cmsghdr align;
        char octets[CMSG_SPACE(TURBOTAP_KEEPER_MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = (void *) msg, .iov_len = sizeof *msg };
    struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds) {
        struct cmsghdr *cmsg = &control.align;

        memset(&control, 0, sizeof control);
        hdr.msg_control = control.octets;
        hdr.msg_controllen = CMSG_SPACE(n_fds * sizeof *fds);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof *fds);
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof *fds);
    }
    return sendmsg(sock, &hdr, MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* Returns 0 if the 'n' octets that were received in 'msg', with MSG_* flags
 * 'flags', are a message, or a positive errno value as turbotap_keeper_recv()
 * does. */
static int
check_msg(const struct turbotap_keeper_msg *msg, size_t n, int flags)
{
    if (!n) {
        return EPIPE;
    } else if (n < offsetof(struct turbotap_keeper_msg, index)
               || (msg->magic ^ TURBOTAP_KEEPER_MAGIC)
                  & TURBOTAP_KEEPER_MAGIC_MASK) {
        return EPROTO;
    } else if (n != sizeof *msg || flags & MSG_TRUNC
               || msg->magic != TURBOTAP_KEEPER_MAGIC) {
        return EPROTONOSUPPORT;
    } else if (!memchr(msg->key, 0, sizeof msg->key)) {
        return EPROTO;
    }
    return flags & MSG_CTRUNC ? EMFILE : 0;
}

int
turbotap_keeper_recv(int sock, struct turbotap_keeper_msg *msg, int *fds,
                     unsigned int *n_fdsp)
{
    union {
        struct cmsghdr align;
        char octets[CMSG_SPACE(TURBOTAP_KEEPER_MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = msg, .iov_len = sizeof *msg };
    struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1,
                          .msg_control = control.octets,
                          .msg_controllen = sizeof control.octets };
    unsigned int n_fds = 0;
    bool reset = false;
    ssize_t n;
    int error;

    *n_fdsp = 0;
    memset(msg, 0, sizeof *msg);
    for (;;) {
        n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
        if (n >= 0) {
            break;
        } else if (errno == ECONNRESET && !reset) {
            /* The other side has ended without having read all.  What it said
             * before comes after that. */
            reset = true;
        } else if (errno != EINTR) {
            return errno == ECONNRESET ? EPIPE : errno;
        }
    }

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr); cmsg;
         cmsg = CMSG_NXTHDR(&hdr, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
            unsigned int more = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof *fds;

            memcpy(fds + n_fds, CMSG_DATA(cmsg), more * sizeof *fds);
            n_fds += more;
        }
    }
    error = check_msg(msg, n, hdr.msg_flags);
    if (error) {
        while (n_fds) {
            close(fds[--n_fds]);
        }
    }
    *n_fdsp = n_fds;
    return error;
}

/* Versions. */

void
turbotap_keeper_say_versions(struct turbotap_keeper_msg *msg)
{
    const struct turbotap_keeper_hello ours = {
        .lowest = TURBOTAP_KEEPER_LOWEST, .highest = TURBOTAP_KEEPER_HIGHEST
    };

    memset(msg->data, 0, sizeof msg->data);
    memcpy(msg->data, &ours, sizeof ours);
}

unsigned int
turbotap_keeper_common_version(const struct turbotap_keeper_msg *msg)
{
    struct turbotap_keeper_hello theirs;
    unsigned int common;

    memcpy(&theirs, msg->data, sizeof theirs);
    common = (theirs.highest < TURBOTAP_KEEPER_HIGHEST
              ? theirs.highest : TURBOTAP_KEEPER_HIGHEST);
    return (common < TURBOTAP_KEEPER_LOWEST || common < theirs.lowest
            ? 0 : common);
}

/* Users. */

bool
turbotap_keeper_may_replace(const struct stat *folder, uid_t uid, gid_t gid)
{
    return (uid == folder->st_uid
            || (gid == folder->st_gid && folder->st_mode & S_IWGRP
                && !(folder->st_mode & S_ISVTX)));
}

/* The lock. */

/* Stores the name of the lock of the socket 'path' in the PATH_MAX octets at
 * 'name'.  Returns 0 or a positive errno value. */
static int
make_lock_name(const char *path, char *name)
{
    return (snprintf(name, PATH_MAX, "%s.lock", path) < PATH_MAX
            ? 0 : ENAMETOOLONG);
}

/* Removes the lock 'name' if it is of another user, who cannot have it any
 * more.  Returns true if successful. */
static bool
remove_stale_lock(const char *name)
{
    struct stat s;

    return (!lstat(name, &s) && s.st_ctime < time(NULL) - STALE_LOCK
            && !unlink(name));
}

int
turbotap_keeper_lock(const char *path)
{
    char name[PATH_MAX];
    int error = make_lock_name(path, name);

    while (!error) {
        struct stat locked, there;
        int fd = open(name, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                      S_IRUSR | S_IWUSR);

        if (fd < 0) {
            error = errno;
            if (error == EACCES && remove_stale_lock(name)) {
                error = 0;
            }
            continue;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &locked)) {
            error = errno;
        } else if (!stat(name, &there) && there.st_ino == locked.st_ino
                   && there.st_dev == locked.st_dev) {
            return fd;
        }
        /* Who had it has removed it since it was opened. */
        close(fd);
    }
    return -error;
}

void
turbotap_keeper_unlock(const char *path, int lock)
{
    char name[PATH_MAX];

    if (!make_lock_name(path, name)) {
        unlink(name);
    }
    close(lock);
}
