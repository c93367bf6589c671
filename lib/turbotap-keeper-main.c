/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The program turbotap-keeper: see turbotap-keeper.h.  Its standard input is
 * the socket that it listens on, its argument where that is, or will be once
 * it is put in its place.  Must not know what the descriptors are for. */

#include <config.h>

#include "turbotap-keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "turbotap-util.h"

#define LISTENER STDIN_FILENO

/* The most switches that are connected at a time: one that starts while
 * another one ends.  More have to wait. */
#define MAX_CLIENTS 8

/* How many may wait to be accepted, some of them not to be served. */
#define BACKLOG 128

/* When to try again what could not be done, in ms. */
#define RETRY_MS 100

/* What is kept under a key. */
struct entry {
    struct entry *next;
    char key[TURBOTAP_KEEPER_KEY_LEN];
    uint8_t data[TURBOTAP_KEEPER_DATA_LEN];
    unsigned int n_fds;         /* At least 1. */
    int fds[TURBOTAP_KEEPER_MAX_FDS];
};

static struct entry *entries;
static unsigned int n_entries;

/* The connections, and for each one that there may be beside them a spare
 * descriptor, -1 if there is none: what is kept must not take their place. */
static int clients[MAX_CLIENTS];
static unsigned int n_clients;

/* The socket's file, what it is called until it is put in its place, null from
 * then on, and its folder. */
static const char *path;
static const char *first_path;
static struct stat file;
static int folder_fd = -1;

static void
close_fds(int *fds, unsigned int n)
{
    while (n) {
        close(fds[--n]);
    }
}

/* Returns the place of the pointer to the entry 'key', of a null pointer if
 * there is none. */
static struct entry **
find(const char *key)
{
    struct entry **entryp = &entries;

    while (*entryp && strcmp((*entryp)->key, key)) {
        entryp = &(*entryp)->next;
    }
    return entryp;
}

/* Returns the entry whose key is the next after 'key', or a null pointer. */
static struct entry *
find_next(const char *key)
{
    struct entry *next = NULL;

    for (struct entry *e = entries; e; e = e->next) {
        if (strcmp(e->key, key) > 0
            && (!next || strcmp(e->key, next->key) < 0)) {
            next = e;
        }
    }
    return next;
}

static void
delete_entry(struct entry **entryp)
{
    struct entry *entry = *entryp;

    *entryp = entry->next;
    n_entries--;
    close_fds(entry->fds, entry->n_fds);
    free(entry);
}

/* Returns true if the device of the tap queue 'fd' has been deleted, or 'fd'
 * is not one. */
static bool
is_gone(int fd)
{
    struct ifreq ifr;

    return ioctl(fd, TUNGETIFF, &ifr) < 0;
}

/* Serving. */

/* Keeps the 'n_fds' descriptors in 'fds', which are ours from now on, as 'msg'
 * says, unless there is an 'error' already.  Returns 0 or a positive errno
 * value. */
static int
put(const struct turbotap_keeper_msg *msg, int *fds, unsigned int n_fds,
    int error)
{
    struct entry **old = find(msg->key);
    struct entry *entry = NULL;

    if (*old) {
        delete_entry(old);
    }
    if (error) {
        /* Nothing came. */
    } else if (!n_fds || !msg->key[0]) {
        error = EINVAL;
    } else if (is_gone(fds[0])) {
        error = EBADFD;
    } else {
        entry = turbotap_zalloc(sizeof *entry);
        error = entry ? 0 : ENOMEM;
    }
    if (error) {
        close_fds(fds, n_fds);
        return error;
    }

    memcpy(entry->key, msg->key, sizeof entry->key);
    memcpy(entry->data, msg->data, sizeof entry->data);
    memcpy(entry->fds, fds, n_fds * sizeof *fds);
    entry->n_fds = n_fds;
    entry->next = entries;
    entries = entry;
    n_entries++;
    return 0;
}

/* Does what 'msg', which came with the 'n_fds' descriptors in 'fds', or with
 * 'error' instead, asks for, and makes it the answer.  Returns the entry whose
 * descriptors go with it, or a null pointer. */
static const struct entry *
serve(struct turbotap_keeper_msg *msg, int *fds, unsigned int n_fds, int error)
{
    struct entry **entryp = find(msg->key);
    struct entry *entry = entries;

    if (msg->op == TURBOTAP_KEEPER_PUT) {
        msg->error = put(msg, fds, n_fds, error);
        return NULL;
    }

    close_fds(fds, n_fds);
    switch (msg->op) {
    case TURBOTAP_KEEPER_GET:
        msg->error = *entryp ? 0 : ENOENT;
        if (*entryp) {
            memcpy(msg->data, (*entryp)->data, sizeof msg->data);
        }
        return *entryp;

    case TURBOTAP_KEEPER_REMOVE:
        msg->error = *entryp ? 0 : ENOENT;
        if (*entryp) {
            delete_entry(entryp);
        }
        return NULL;

    case TURBOTAP_KEEPER_HELLO:
        msg->error = (turbotap_keeper_common_version(msg)
                      ? 0 : EPROTONOSUPPORT);
        turbotap_keeper_say_versions(msg);
        msg->index = getpid();
        return NULL;

    case TURBOTAP_KEEPER_NEXT:
        entry = find_next(msg->key);
        msg->error = entry ? 0 : ENOENT;
        if (entry) {
            memcpy(msg->key, entry->key, sizeof msg->key);
        }
        return NULL;

    case TURBOTAP_KEEPER_LIST:
        for (uint32_t i = 0; entry && i < msg->index; i++) {
            entry = entry->next;
        }
        msg->error = entry ? 0 : ENOENT;
        if (entry) {
            memcpy(msg->key, entry->key, sizeof msg->key);
        }
        return NULL;

    default:
        msg->error = EOPNOTSUPP;
        return NULL;
    }
}

/* Answers a request for 'op' by 'client', whatever it is, with 'error', and
 * with the versions that would have been understood.  Returns 0 or a positive
 * errno value. */
static int
refuse(int client, uint32_t op, int error)
{
    struct turbotap_keeper_msg msg = { .magic = TURBOTAP_KEEPER_MAGIC,
                                       .op = op, .error = error };

    turbotap_keeper_say_versions(&msg);
    return turbotap_keeper_send(client, &msg, NULL, 0);
}

/* Reads a request from 'client' and answers it.  Returns false if there is
 * none, nor will be. */
static bool
serve_client(int client)
{
    struct turbotap_keeper_msg msg;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    const struct entry *entry;
    unsigned int n_fds;
    int error;

    error = turbotap_keeper_recv(client, &msg, fds, &n_fds);
    if (error == EAGAIN) {
        return true;
    } else if (error == EPROTONOSUPPORT) {
        return !refuse(client, msg.op, error);
    } else if (error && error != EMFILE) {
        return false;
    }
    entry = serve(&msg, fds, n_fds, error);
    error = turbotap_keeper_send(client, &msg, entry ? entry->fds : NULL,
                                 entry ? entry->n_fds : 0);
    /* Who has ended may have asked for more before. */
    return !error || error == EPIPE;
}

/* Returns a spare descriptor for 'clients'. */
static int
make_spare(void)
{
    return fcntl(LISTENER, F_DUPFD_CLOEXEC, 0);
}

static void
drop_client(unsigned int i)
{
    close(clients[i]);
    clients[i] = clients[--n_clients];
    clients[n_clients] = make_spare();
}

/* Returns true if 'client' is one to be served: see turbotap-keeper.h. */
static bool
is_authorized(int client)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    struct stat folder;

    if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
        return false;
    }
    return (!cred.uid || cred.uid == geteuid()
            || (!fstat(folder_fd, &folder)
                && turbotap_keeper_may_replace(&folder, cred.uid, cred.gid)));
}

/* Accepts a client, for whom there must be room.  Returns false if it has to
 * wait. */
static bool
accept_client(void)
{
    int client;

    close(clients[n_clients]);
    client = accept4(LISTENER, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
        clients[n_clients] = make_spare();
        return false;
    }
    clients[n_clients++] = client;
    if (!is_authorized(client)) {
        refuse(client, TURBOTAP_KEEPER_HELLO, EPERM);
        drop_client(n_clients - 1);
    }
    return true;
}

/* The socket's file. */

/* Returns a descriptor that is readable when the file may have been removed,
 * or its folder have been renamed; -1 if that cannot be had. */
static int
watch_file(void)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char folder[PATH_MAX];

    /* While its socket is open, a file is not deleted, but has one name less:
     * IN_ATTRIB. */
    snprintf(folder, sizeof folder, "%s", path);
    if (inotify_add_watch(fd, first_path ? first_path : path,
                          IN_ATTRIB | IN_MOVE_SELF) < 0
        || inotify_add_watch(fd, dirname(folder), IN_MOVE_SELF) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void
drain_watch(int watch)
{
    char events[1024];

    while (read(watch, events, sizeof events) > 0) {
        continue;
    }
}

/* Returns true if who looks for a keeper finds this one, for all we know:
 * without capabilities, we may not look into a folder of another user. */
static bool
is_found(void)
{
    struct stat now;
    bool found;

    if (lstat(path, &now)) {
        found = errno != ENOENT && errno != ENOTDIR;
    } else {
        found = now.st_dev == file.st_dev && now.st_ino == file.st_ino;
    }
    if (first_path) {
        if (!found && !n_clients) {
            /* Who was to put it in its place has died. */
            unlink(first_path);
            return false;
        } else if (found) {
            first_path = NULL;
        }
        return true;
    }
    return found;
}

/* Removes the socket's file, so that nobody connects from now on.  Returns
 * false if somebody has or is about to. */
static bool
leave(void)
{
    struct pollfd pfd = { .fd = LISTENER, .events = POLLIN };
    int lock = turbotap_keeper_lock(path);
    bool alone;

    if (lock < 0) {
        /* Where it cannot make the lock, a keeper can remove nothing.  Who
         * connects at this moment finds the connection closed. */
        return lock != -EWOULDBLOCK;
    }
    alone = !poll(&pfd, 1, 0);
    if (alone && is_found()) {
        unlink(path);
    }
    turbotap_keeper_unlock(path, lock);
    return alone;
}

/* The loop. */

/* What is waited for. */
enum {
    POLL_LISTENER,
    POLL_WATCH,
    POLL_CLIENTS,               /* And the entries. */
};

/* Fills in what to wait for in '*pfdsp', of '*roomp' elements, which it
 * replaces if there are not enough.  Returns their number, 0 if there is no
 * memory. */
static unsigned int
fill_pfds(struct pollfd **pfdsp, unsigned int *roomp, bool accept, int watch)
{
    unsigned int n = POLL_CLIENTS + n_clients + n_entries;
    struct pollfd *pfd = *pfdsp;

    if (n > *roomp) {
        pfd = turbotap_zalloc(2 * n * sizeof *pfd);
        if (!pfd) {
            return 0;
        }
        free(*pfdsp);
        *pfdsp = pfd;
        *roomp = 2 * n;
    }
    *pfd++ = (struct pollfd) { .fd = accept ? LISTENER : -1,
                               .events = POLLIN };
    *pfd++ = (struct pollfd) { .fd = watch, .events = POLLIN };
    for (unsigned int i = 0; i < n_clients; i++) {
        *pfd++ = (struct pollfd) { .fd = clients[i], .events = POLLIN };
    }
    /* When a device is deleted, its queues have POLLERR, but wake up only who
     * waits for an event: here one that never comes, unlike POLLIN, which
     * frames make that nobody reads.  The last queue is a detached one, if
     * there is any: it gets none. */
    for (struct entry *e = entries; e; e = e->next) {
        *pfd++ = (struct pollfd) { .fd = e->fds[e->n_fds - 1],
                                   .events = POLLPRI };
    }
    return n;
}

/* Lets go of the devices that were deleted, as the 'pfds' of the entries
 * say. */
static void
delete_gone(const struct pollfd *pfd)
{
    struct entry **entryp = &entries;

    while (*entryp) {
        if (pfd->revents && is_gone(pfd->fd)) {
            delete_entry(entryp);
        } else {
            entryp = &(*entryp)->next;
        }
        pfd++;
    }
}

/* Serves until there is nothing to keep and nobody to serve, or nobody can
 * come. */
static void
serve_all(void)
{
    const int watch = watch_file();
    struct pollfd *pfds = NULL;
    unsigned int room = 0;
    bool accept = true;

    do {
        unsigned int n = fill_pfds(&pfds, &room,
                                   accept && n_clients < MAX_CLIENTS, watch);
        bool retry = !accept || watch < 0 || (!n_clients && !n_entries);

        if (!n || poll(pfds, n, retry ? RETRY_MS : -1) < 0) {
            poll(NULL, 0, RETRY_MS);
            continue;
        }
        drain_watch(watch);
        delete_gone(pfds + POLL_CLIENTS + n_clients);
        for (unsigned int i = n_clients; i; i--) {
            if (pfds[POLL_CLIENTS + i - 1].revents
                && !serve_client(clients[i - 1])) {
                drop_client(i - 1);
            }
        }
        accept = !pfds[POLL_LISTENER].revents || accept_client();
    } while (is_found() && (n_clients || n_entries || !leave()));
    free(pfds);
}

/* Gives up all that the process could do beyond what it is there for. */
static void
drop_privileges(void)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3
    };
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    memset(none, 0, sizeof none);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_capset, &header, none);
}

/* Allows as many descriptors as it may. */
static void
raise_limit(void)
{
    struct rlimit limit;

    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Returns where the socket is until it is put in its place, a null pointer if
 * it is there. */
static const char *
get_first_path(void)
{
    static const char first[] = TURBOTAP_KEEPER_FIRST;
    static char name[PATH_MAX];
    struct sockaddr_un sun;
    socklen_t len = sizeof sun;
    size_t n;

    memset(&sun, 0, sizeof sun);
    getsockname(LISTENER, (struct sockaddr *) &sun, &len);
    n = strnlen(sun.sun_path, sizeof sun.sun_path);
    if (n < sizeof first
        || memcmp(sun.sun_path + n - (sizeof first - 1), first,
                  sizeof first - 1)) {
        return NULL;
    }
    snprintf(name, sizeof name, "%s%s", path, first);
    return name;
}

/* Opens the folder of the socket.  Returns a descriptor or -1. */
static int
open_folder(void)
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof folder, "%s", path);
    return open(dirname(folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int
main(int argc, char *argv[])
{
    int listening;
    socklen_t len = sizeof listening;

    if (argc != 2
        || getsockopt(LISTENER, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len)
        || !listening) {
        fprintf(stderr, "%s: is started by ovs-vswitchd, with a socket as its "
                "standard input\n", argv[0]);
        return EXIT_FAILURE;
    }
    path = argv[1];
    first_path = get_first_path();
    if (lstat(first_path ? first_path : path, &file)
        || (path[0] == '/' && chdir("/."))) {
        return EXIT_FAILURE;
    }

    /* What the switch has open is no business of the keeper. */
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
    folder_fd = open_folder();
    raise_limit();
    for (unsigned int i = 0; i < MAX_CLIENTS; i++) {
        clients[i] = make_spare();
    }
    drop_privileges();
    switch (fork()) {
    case -1:
        return EXIT_FAILURE;
    case 0:
        break;
    default:
        _exit(EXIT_SUCCESS);
    }

    /* So that who connects from now on learns which process this is. */
    listen(LISTENER, BACKLOG);
    serve_all();
    return EXIT_SUCCESS;
}
