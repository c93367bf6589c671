/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The program turbotap-keeper: see turbotap-keeper.h.  Its standard input is
 * the socket that it listens on.  Must not know what the descriptors are for.
 */

#include <config.h>

#include "turbotap-keeper.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "turbotap-util.h"

#define LISTENER STDIN_FILENO

/* The most switches that are connected at a time: one that starts while
 * another one ends. */
#define MAX_CLIENTS 8

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

static int clients[MAX_CLIENTS];
static unsigned int n_clients;

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
 * says.  Returns 0 or a positive errno value. */
static int
put(const struct turbotap_keeper_msg *msg, int *fds, unsigned int n_fds)
{
    struct entry **old = find(msg->key);
    struct entry *entry = NULL;
    int error = 0;

    if (!n_fds || !msg->key[0]) {
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

    if (*old) {
        delete_entry(old);
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

/* Does what 'msg', which came with the 'n_fds' descriptors in 'fds', asks for,
 * and makes it the answer.  Returns the entry whose descriptors go with it, or
 * a null pointer. */
static const struct entry *
serve(struct turbotap_keeper_msg *msg, int *fds, unsigned int n_fds)
{
    struct entry **entryp = find(msg->key);
    struct entry *entry = entries;

    if (msg->op == TURBOTAP_KEEPER_PUT) {
        msg->error = put(msg, fds, n_fds);
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

/* Reads a request from 'client' and answers it.  Returns false if there is
 * none, nor will be. */
static bool
serve_client(int client)
{
    struct turbotap_keeper_msg msg;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    const struct entry *entry;
    unsigned int n_fds;

    if (turbotap_keeper_recv(client, &msg, fds, &n_fds)) {
        return false;
    }
    entry = serve(&msg, fds, n_fds);
    return !turbotap_keeper_send(client, &msg, entry ? entry->fds : NULL,
                                 entry ? entry->n_fds : 0);
}

static void
accept_client(void)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    int client;

    client = accept4(LISTENER, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
        return;
    }
    if (n_clients < MAX_CLIENTS
        && !getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len)
        && (cred.uid == geteuid() || !cred.uid)) {
        clients[n_clients++] = client;
    } else {
        close(client);
    }
}

/* Serves until there is nothing to keep and nobody to serve. */
static void
serve_all(void)
{
    struct pollfd *pfds = NULL;
    unsigned int room = 0;

    do {
        unsigned int n = 1 + n_clients;
        struct entry **entryp;

        if (n + n_entries > room) {
            free(pfds);
            room = 2 * (n + n_entries);
            pfds = turbotap_zalloc(room * sizeof *pfds);
            if (!pfds) {
                return;
            }
        }
        pfds[0] = (struct pollfd) { .fd = LISTENER, .events = POLLIN };
        for (unsigned int i = 0; i < n_clients; i++) {
            pfds[1 + i] = (struct pollfd) { .fd = clients[i],
                                            .events = POLLIN };
        }
        /* The last descriptor of an entry is one of a detached queue, which
         * never has anything to read, but wakes up when its device is
         * deleted. */
        for (struct entry *e = entries; e; e = e->next) {
            pfds[n++] = (struct pollfd) { .fd = e->fds[e->n_fds - 1],
                                          .events = POLLIN };
        }
        if (poll(pfds, n, -1) < 0) {
            continue;
        }

        entryp = &entries;
        for (unsigned int i = 1 + n_clients; i < n; i++) {
            if (pfds[i].revents && is_gone(pfds[i].fd)) {
                delete_entry(entryp);
            } else {
                entryp = &(*entryp)->next;
            }
        }
        for (unsigned int i = n_clients; i; i--) {
            if (pfds[i].revents && !serve_client(clients[i - 1])) {
                close(clients[i - 1]);
                clients[i - 1] = clients[--n_clients];
            }
        }
        if (pfds[0].revents) {
            accept_client();
        }
    } while (n_entries || n_clients);
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

int
main(int argc, char *argv[])
{
    struct pollfd first = { .fd = LISTENER, .events = POLLIN };
    int listening;
    socklen_t len = sizeof listening;

    (void) argc;
    if (getsockopt(LISTENER, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len)
        || !listening) {
        fprintf(stderr, "%s: is started by ovs-vswitchd, with a socket as its "
                "standard input\n", argv[0]);
        return EXIT_FAILURE;
    }

    /* What the switch has open is no business of the keeper. */
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
    if (chdir("/.")) {
        return EXIT_FAILURE;
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

    /* The first client is who started us. */
    poll(&first, 1, -1);
    accept_client();
    serve_all();
    return EXIT_SUCCESS;
}
