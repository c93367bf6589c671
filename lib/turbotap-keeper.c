/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The switch's side of the keeper, and what both sides have in common.  Must
 * not know what is kept. */

#include <config.h>

#include "turbotap-keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "turbotap-util.h"

/* How long to wait for an answer, in seconds. */
#define PATIENCE 2

/* How often to try to connect to a keeper that ends at that moment. */
#define MAX_TRIES 10

struct turbotap_keeper {
    int sock;
};

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
    ssize_t n;

    *n_fdsp = 0;
    do {
        n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? ETIMEDOUT : errno == ECONNRESET ? EPIPE
               : errno;
    }

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr); cmsg;
         cmsg = CMSG_NXTHDR(&hdr, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
            unsigned int more = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof *fds;

            memcpy(fds + n_fds, CMSG_DATA(cmsg), more * sizeof *fds);
            n_fds += more;
        }
    }
    if (n == sizeof *msg && msg->magic == TURBOTAP_KEEPER_MAGIC
        && !(hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        && memchr(msg->key, 0, sizeof msg->key)) {
        *n_fdsp = n_fds;
        return 0;
    }
    while (n_fds) {
        close(fds[--n_fds]);
    }
    return n ? EPROTO : EPIPE;
}

/* Connecting. */

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

/* Returns 0 if the process at the other end of 'sock' is of our own user or
 * root's, else a positive errno value. */
static int
check_peer(int sock)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
        return errno;
    }
    return cred.uid == geteuid() || !cred.uid ? 0 : EPERM;
}

/* Starts 'program' with the listening socket 'listener' as its standard input,
 * and 'path' as its argument, for ps(1).  Returns 0 or a positive errno value.
 *
 * The program makes a child of its own and exits, so that it is nobody's
 * child. */
static int
spawn_keeper(const char *program, int listener, const char *path)
{
    char *argv[] = { (char *) program, (char *) path, NULL };
    char *envp[] = { NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int status;
    pid_t pid;
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
        error = posix_spawnp(&pid, program, &actions, &attr, argv, envp);
    }
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (error) {
        return error;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        continue;
    }
    return status ? ECHILD : 0;
}

/* Starts a keeper that listens at 'sun', also known as 'path'.  Returns 0 or a
 * positive errno value, EADDRINUSE if somebody else was faster. */
static int
start_keeper(const struct sockaddr_un *sun, const char *path,
             const char *program)
{
    int error = 0;
    int listener;

    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        return errno;
    }
    /* The permissions are those that the socket has when it is bound, whatever
     * the mask. */
    if (fchmod(listener, S_IRUSR | S_IWUSR)
        || bind(listener, (const struct sockaddr *) sun, sizeof *sun)
        || listen(listener, 16)) {
        error = errno;
    } else {
        error = spawn_keeper(program, listener, path);
        if (error) {
            unlink(sun->sun_path);
        }
    }
    close(listener);
    return error;
}

int
turbotap_keeper_connect(const char *path, const char *program,
                        struct turbotap_keeper **keeperp)
{
    const struct timeval patience = { .tv_sec = PATIENCE };
    struct sockaddr_un sun;
    int error, sock, dir;

    *keeperp = NULL;
    error = make_address(path, &sun, &dir);
    if (error) {
        return error;
    }
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0) {
        error = errno;
        close(dir);
        return error;
    }

    for (int i = 0; i < MAX_TRIES; i++) {
        error = (connect(sock, (struct sockaddr *) &sun, sizeof sun)
                 ? errno : 0);
        if (error == ECONNREFUSED) {
            /* One that has ended, or that does not listen yet. */
            if (i) {
                unlink(sun.sun_path);
            }
        } else if (error != ENOENT) {
            break;
        }
        error = start_keeper(&sun, path, program);
        if (error && error != EADDRINUSE) {
            break;
        }
    }
    close(dir);

    if (!error) {
        error = check_peer(sock);
    }
    if (!error
        && (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience,
                       sizeof patience)
            || setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience,
                          sizeof patience))) {
        error = errno;
    }
    if (!error) {
        *keeperp = turbotap_zalloc(sizeof **keeperp);
        error = *keeperp ? 0 : ENOMEM;
    }
    if (error) {
        close(sock);
        return error;
    }
    (*keeperp)->sock = sock;
    return 0;
}

void
turbotap_keeper_close(struct turbotap_keeper *keeper)
{
    if (keeper) {
        close(keeper->sock);
        free(keeper);
    }
}

int
turbotap_keeper_fd(const struct turbotap_keeper *keeper)
{
    return keeper->sock;
}

/* Requests. */

/* Sends 'msg' with 'op' and 'key', and receives the answer into it, and its
 * descriptors, which there must not be if 'fds' is null.  Returns 0 or a
 * positive errno value, the keeper's own, too. */
static int
request(struct turbotap_keeper *keeper, struct turbotap_keeper_msg *msg,
        enum turbotap_keeper_op op, const char *key,
        const int *put_fds, unsigned int n_put_fds,
        int *fds, unsigned int *n_fdsp)
{
    int unwanted[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n = 0;
    int error;

    if (strlen(key) >= sizeof msg->key) {
        return ENAMETOOLONG;
    }
    msg->magic = TURBOTAP_KEEPER_MAGIC;
    msg->op = op;
    snprintf(msg->key, sizeof msg->key, "%s", key);

    error = turbotap_keeper_send(keeper->sock, msg, put_fds, n_put_fds);
    if (!error) {
        error = turbotap_keeper_recv(keeper->sock, msg, fds ? fds : unwanted,
                                     &n);
    }
    if (error) {
        return error;
    }
    if (n_fdsp) {
        *n_fdsp = n;
    } else {
        while (n) {
            close(unwanted[--n]);
        }
    }
    return msg->op == op ? msg->error : EPROTO;
}

int
turbotap_keeper_put(struct turbotap_keeper *keeper, const char *key,
                    const void *data, const int *fds, unsigned int n_fds)
{
    struct turbotap_keeper_msg msg = { .error = 0 };

    memcpy(msg.data, data, sizeof msg.data);
    return request(keeper, &msg, TURBOTAP_KEEPER_PUT, key, fds, n_fds, NULL,
                   NULL);
}

int
turbotap_keeper_get(struct turbotap_keeper *keeper, const char *key,
                    void *data, int *fds, unsigned int *n_fdsp)
{
    struct turbotap_keeper_msg msg = { .error = 0 };
    int error;

    *n_fdsp = 0;
    error = request(keeper, &msg, TURBOTAP_KEEPER_GET, key, NULL, 0, fds,
                    n_fdsp);
    if (!error) {
        memcpy(data, msg.data, sizeof msg.data);
    }
    return error;
}

int
turbotap_keeper_remove(struct turbotap_keeper *keeper, const char *key)
{
    struct turbotap_keeper_msg msg = { .error = 0 };

    return request(keeper, &msg, TURBOTAP_KEEPER_REMOVE, key, NULL, 0, NULL,
                   NULL);
}

int
turbotap_keeper_list(struct turbotap_keeper *keeper, unsigned int i,
                     char *key)
{
    struct turbotap_keeper_msg msg = { .index = i };
    int error;

    error = request(keeper, &msg, TURBOTAP_KEEPER_LIST, "", NULL, 0, NULL,
                    NULL);
    if (!error) {
        memcpy(key, msg.key, sizeof msg.key);
    }
    return error;
}
