/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* How a switch finds or starts the keeper.  Must not know what is asked of
 * it. */

#include <config.h>

#include "turbotap-keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How many may wait to be accepted, some of them not to be served. */
#define BACKLOG 128



/* Waits for the lock of the socket 'path' for up to 'timeout' ms, and returns
 * it or a negative errno value.  Nobody has it for longer than it takes to
 * start a program. */
static int
wait_for_lock(const char *path, int timeout)
{
    const struct timespec nap = { .tv_nsec = 1000 * 1000 };

    for (;;) {
        int lock = turbotap_keeper_lock(path);

        if (lock != -EWOULDBLOCK) {
            return lock;
        } else if (timeout-- <= 0) {
            return -ETIMEDOUT;
        }
        nanosleep(&nap, NULL);
    }
}

/* Stores the address of the socket 'path' in '*sun'.  It goes through the
 * folder of 'path', a descriptor of which is stored in '*dirp' and is to be
 * closed by the caller, since an address has no room for a long path.  Returns
 * 0 or a positive errno value. */
static int
make_address(const char *path, struct sockaddr_un *sun, int *dirp)
{
    char folder[PATH_MAX], name[PATH_MAX];

    if (strlen(path) >= PATH_MAX) {
        return ENAMETOOLONG;
    }
    snprintf(folder, sizeof folder, "%s", path);
    snprintf(name, sizeof name, "%s", path);
    *dirp = open(dirname(folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dirp < 0) {
        return errno;
    }
    memset(sun, 0, sizeof *sun);
    sun->sun_family = AF_UNIX;
    if (snprintf(sun->sun_path, sizeof sun->sun_path, "/proc/self/fd/%d/%s",
                 *dirp, basename(name)) >= (int) sizeof sun->sun_path) {
        close(*dirp);
        return ENAMETOOLONG;
    }
    return 0;
}

/* Stores who is at the other end of 'sock' in '*cred', and returns 0 if the
 * keeper there can be trusted, else a positive errno value.  Its folder is
 * 'dir'.  See turbotap-keeper.h. */
static int
check_peer(int sock, int dir, struct ucred *cred)
{
    socklen_t len = sizeof *cred;
    struct stat folder;

    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, cred, &len)) {
        return errno;
    } else if (!cred->uid || cred->uid == geteuid()) {
        return 0;
    } else if (geteuid()) {
        return EPERM;
    } else if (fstat(dir, &folder)) {
        return errno;
    }
    return (cred->uid == folder.st_uid
            || (!folder.st_uid && !(folder.st_mode & (S_IWGRP | S_IWOTH)))
            ? 0 : EPERM);
}

/* Starts 'program' with the listening socket 'listener' as its standard input,
 * and 'path' as its argument, for ps(1), and stores the process ID in '*pidp'.
 * Returns 0 or a positive errno value.
 *
 * The program makes a child of its own and exits, so that the keeper is
 * nobody's child.  That is not waited for. */
static int
spawn_keeper(const char *program, int listener, const char *path,
             pid_t *pidp)
{
    char *argv[] = { (char *) program, (char *) path, NULL };
    char *envp[] = { NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int error;

    error = posix_spawn_file_actions_init(&actions);
    if (error) {
        return error;
    }
    error = posix_spawnattr_init(&attr);
    if (error) {
        posix_spawn_file_actions_destroy(&actions);
        return error;
    }

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setflags(&attr, (POSIX_SPAWN_SETSID
                                     | POSIX_SPAWN_SETSIGMASK
                                     | POSIX_SPAWN_SETSIGDEF));
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    error = posix_spawn_file_actions_adddup2(&actions, listener, 0);
    if (!error) {
        error = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null",
                                                 O_RDWR, 0);
    }
    if (!error) {
        error = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    }
    if (!error) {
        error = posix_spawnp(pidp, program, &actions, &attr, argv, envp);
    }
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Connects 'sock' to the socket at 'sun'.  Returns 0 or a positive errno
 * value. */
static int
try_connect(int sock, const struct sockaddr_un *sun)
{
    if (!connect(sock, (const struct sockaddr *) sun, sizeof *sun)) {
        return 0;
    }
    return errno == EAGAIN ? ETIMEDOUT : errno;
}

/* Lets all users connect to the socket 'name', of whom the keeper serves
 * some.  Returns 0 or a positive errno value.
 *
 * Root may be in a folder of somebody who puts something else in its place. */
static int
open_to_all(const char *name)
{
    int fd = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    char path[64];
    struct stat s;
    int error = 0;

    if (fd < 0) {
        return errno;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fstat(fd, &s)) {
        error = errno;
    } else if (!S_ISSOCK(s.st_mode)) {
        error = EEXIST;
    } else if (chmod(path, 0666)) {
        error = errno;
    }
    close(fd);
    return error;
}

/* Starts a keeper for 'path' that listens at 'sun', with 'sock' connected to
 * it before it looks.  Stores in '*pidp' the process that starts it.  The
 * caller must have the lock.  Returns 0 or a positive errno value. */
static int
start_keeper(int sock, const struct sockaddr_un *sun, const char *path,
             const char *program, pid_t *pidp)
{
    int error = 0;
    int listener;

    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        return errno;
    }
    if (bind(listener, (const struct sockaddr *) sun, sizeof *sun)) {
        error = errno;
    } else {
        error = open_to_all(sun->sun_path);
        if (!error) {
            error = listen(listener, BACKLOG) ? errno : try_connect(sock, sun);
        }
        if (!error) {
            error = spawn_keeper(program, listener, path, pidp);
        }
        if (error) {
            unlink(sun->sun_path);
        }
    }
    close(listener);
    return error;
}

/* Connects 'sock' to the keeper at 'sun', also known as 'path', or to one that
 * it starts.  Returns 0 or a positive errno value. */
static int
find_or_start(int sock, const struct sockaddr_un *sun, const char *path,
              const char *program, int timeout, pid_t *starterp)
{
    int lock = wait_for_lock(sun->sun_path, timeout);
    int error;

    if (lock < 0) {
        /* Who may make nothing in the folder can still use what is there. */
        return lock == -EACCES ? try_connect(sock, sun) : -lock;
    }
    error = try_connect(sock, sun);
    if (error == ECONNREFUSED) {
        /* Of one that was killed. */
        unlink(sun->sun_path);
    }
    if (error == ECONNREFUSED || error == ENOENT) {
        error = (program
                 ? start_keeper(sock, sun, path, program, starterp)
                 : ENOENT);
    }
    turbotap_keeper_unlock(sun->sun_path, lock);
    return error;
}

int
turbotap_keeper_find(const char *path, const char *program, int timeout,
                     struct turbotap_keeper_peer *peer)
{
    struct sockaddr_un sun;
    int error, dir;

    *peer = (struct turbotap_keeper_peer) { .sock = -1 };
    error = make_address(path, &sun, &dir);
    if (error) {
        return error;
    }
    peer->sock = socket(AF_UNIX,
                        SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (peer->sock < 0) {
        error = errno;
    } else {
        error = find_or_start(peer->sock, &sun, path, program, timeout,
                              &peer->starter);
    }
    if (!error) {
        error = check_peer(peer->sock, dir, &peer->cred);
    }
    if (error && peer->sock >= 0) {
        close(peer->sock);
        peer->sock = -1;
    }
    close(dir);
    return error;
}

int
turbotap_keeper_start_second(const char *path, const char *program,
                             struct turbotap_keeper_peer *peer)
{
    socklen_t len = sizeof peer->cred;
    struct sockaddr_un sun;
    char first[PATH_MAX];
    int error, dir;

    *peer = (struct turbotap_keeper_peer) { .sock = -1 };
    if (snprintf(first, sizeof first, "%s"TURBOTAP_KEEPER_FIRST, path)
        >= (int) sizeof first) {
        return ENAMETOOLONG;
    }
    error = make_address(first, &sun, &dir);
    if (error) {
        return error;
    }
    unlink(sun.sun_path);
    peer->sock = socket(AF_UNIX,
                        SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (peer->sock < 0) {
        error = errno;
    } else {
        error = start_keeper(peer->sock, &sun, path, program,
                             &peer->starter);
    }
    if (!error && getsockopt(peer->sock, SOL_SOCKET, SO_PEERCRED, &peer->cred,
                             &len)) {
        error = errno;
    }
    if (error && peer->sock >= 0) {
        close(peer->sock);
        peer->sock = -1;
    }
    close(dir);
    return error;
}

int
turbotap_keeper_put_in_place(const char *path)
{
    char first[PATH_MAX];

    snprintf(first, sizeof first, "%s"TURBOTAP_KEEPER_FIRST, path);
    return rename(first, path) ? errno : 0;
}
