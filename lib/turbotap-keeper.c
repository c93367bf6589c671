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
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "turbotap-util.h"

/* How long to wait for an answer, and for the lock, in seconds. */
#define PATIENCE 2

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
    int error = 0;

    if (!n) {
        error = EPIPE;
    } else if (n != sizeof *msg || hdr.msg_flags & MSG_TRUNC
               || msg->magic != TURBOTAP_KEEPER_MAGIC
               || !memchr(msg->key, 0, sizeof msg->key)) {
        error = EPROTO;
    } else if (hdr.msg_flags & MSG_CTRUNC) {
        error = EMFILE;
    }
    if (error) {
        while (n_fds) {
            close(fds[--n_fds]);
        }
    }
    *n_fdsp = n_fds;
    return error;
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
            return -errno;
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

/* Waits for the lock of the socket 'path', and returns it or a negative errno
 * value.  Nobody has it for longer than it takes to start a program. */
static int
wait_for_lock(const char *path)
{
    const struct timespec nap = { .tv_nsec = 1000 * 1000 };
    int lock;

    for (int i = 0; i < PATIENCE * 1000; i++) {
        lock = turbotap_keeper_lock(path);
        if (lock != -EWOULDBLOCK) {
            return lock;
        }
        nanosleep(&nap, NULL);
    }
    return -ETIMEDOUT;
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
    int status = 0;
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

/* Starts a keeper that listens at 'sun', also known as 'path', with 'sock'
 * connected to it before it looks.  The caller must have the lock.  Returns 0
 * or a positive errno value. */
static int
start_keeper(int sock, const struct sockaddr_un *sun, const char *path,
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
        || bind(listener, (const struct sockaddr *) sun, sizeof *sun)) {
        error = errno;
    } else {
        error = listen(listener, 16) ? errno : try_connect(sock, sun);
        if (!error) {
            error = spawn_keeper(program, listener, path);
        }
        if (error) {
            unlink(sun->sun_path);
        }
    }
    close(listener);
    return error;
}

/* Opens a socket that waits no longer than for PATIENCE, and stores it in
 * '*sockp'.  Returns 0 or a positive errno value. */
static int
open_socket(int *sockp)
{
    const struct timeval patience = { .tv_sec = PATIENCE };
    int error;

    *sockp = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (*sockp < 0) {
        return errno;
    }
    if (setsockopt(*sockp, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)
        || setsockopt(*sockp, SOL_SOCKET, SO_SNDTIMEO, &patience,
                      sizeof patience)) {
        error = errno;
        close(*sockp);
        return error;
    }
    return 0;
}

/* Connects 'sock' to the keeper at 'sun', also known as 'path', or to one that
 * it starts.  Returns 0 or a positive errno value. */
static int
find_or_start(int sock, const struct sockaddr_un *sun, const char *path,
              const char *program)
{
    int lock = wait_for_lock(sun->sun_path);
    int error;

    if (lock < 0) {
        return -lock;
    }
    error = try_connect(sock, sun);
    if (error == ECONNREFUSED) {
        /* Of one that was killed. */
        unlink(sun->sun_path);
    }
    if (error == ECONNREFUSED || error == ENOENT) {
        error = program ? start_keeper(sock, sun, path, program) : ENOENT;
    }
    turbotap_keeper_unlock(sun->sun_path, lock);
    return error;
}

int
turbotap_keeper_connect(const char *path, const char *program,
                        struct turbotap_keeper **keeperp)
{
    struct sockaddr_un sun;
    int error, sock, dir;

    *keeperp = NULL;
    error = make_address(path, &sun, &dir);
    if (error) {
        return error;
    }
    error = open_socket(&sock);
    if (error) {
        close(dir);
        return error;
    }

    error = find_or_start(sock, &sun, path, program);
    close(dir);
    if (!error) {
        error = check_peer(sock);
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
    int error = EMFILE;

    /* Twice, since the first time may have made room: of what it held under
     * 'key'. */
    for (int i = 0; i < 2 && error == EMFILE; i++) {
        memcpy(msg.data, data, sizeof msg.data);
        error = request(keeper, &msg, TURBOTAP_KEEPER_PUT, key, fds, n_fds,
                        NULL, NULL);
    }
    return error;
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
