/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The switch's side of the keeper: requests and answers.  Must not know what
 * is kept, nor how a keeper is found. */

#include <config.h>

#include "turbotap-keeper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "turbotap-util.h"

/* The most requests without an answer, or with one that was not taken: as many
 * answers have room in a socket. */
#define MAX_REQUESTS 128

/* A request that was sent. */
struct request {
    enum turbotap_keeper_op op;
    int error;                  /* The answer. */
    bool waited_for;            /* By get() or next(). */
    char key[TURBOTAP_KEEPER_KEY_LEN];
};

struct turbotap_keeper {
    int sock;
    uid_t uid;
    pid_t pid;                  /* 0: unknown. */
    pid_t starter;              /* A child to be waited for, 0: none. */
    unsigned int version;       /* 0: unknown. */

    /* The requests, a ring.  Each counts up: those that were sent, of them
     * those that were answered, of them those that were taken. */
    struct request requests[MAX_REQUESTS];
    unsigned int n_sent, n_answered, n_taken;

    /* The last answer to get() or next(). */
    struct turbotap_keeper_msg msg;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n_fds;
};

static void
close_fds(int *fds, unsigned int n)
{
    while (n) {
        close(fds[--n]);
    }
}

/* Lets the process end that started the keeper. */
static void
reap_starter(struct turbotap_keeper *keeper)
{
    if (keeper->starter && waitpid(keeper->starter, NULL, WNOHANG)) {
        keeper->starter = 0;
    }
}

/* Requests. */

static struct request *
get_request(struct turbotap_keeper *keeper, unsigned int i)
{
    return &keeper->requests[i % MAX_REQUESTS];
}

unsigned int
turbotap_keeper_n_asked(const struct turbotap_keeper *keeper)
{
    return keeper->n_sent - keeper->n_answered;
}

/* Sends 'msg', in which all but 'magic', 'op' and 'key' is filled in, with the
 * 'n_fds' descriptors in 'fds'.  Returns 0 or a positive errno value. */
static int
send_request(struct turbotap_keeper *keeper, struct turbotap_keeper_msg *msg,
             enum turbotap_keeper_op op, const char *key,
             const int *fds, unsigned int n_fds, bool wait)
{
    struct request *r = get_request(keeper, keeper->n_sent);
    int error;

    if (strlen(key) >= sizeof msg->key) {
        return ENAMETOOLONG;
    } else if (keeper->n_sent - keeper->n_taken
               >= (wait ? MAX_REQUESTS : MAX_REQUESTS - 1)) {
        /* One is left for who waits. */
        return EAGAIN;
    }
    msg->magic = TURBOTAP_KEEPER_MAGIC;
    msg->op = op;
    snprintf(msg->key, sizeof msg->key, "%s", key);
    error = turbotap_keeper_send(keeper->sock, msg, fds, n_fds);
    if (error == ECONNRESET) {
        error = EPIPE;
    }
    if (error == EPIPE && op == TURBOTAP_KEEPER_HELLO) {
        error = 0;              /* It may have said why, unasked. */
    }
    if (!error) {
        *r = (struct request) { .op = op, .waited_for = wait };
        snprintf(r->key, sizeof r->key, "%s", key);
        keeper->n_sent++;
    }
    return error;
}

/* Takes note of the answer 'msg' to HELLO.  Returns 0 or a positive errno
 * value. */
static int
handle_hello(struct turbotap_keeper *keeper,
             const struct turbotap_keeper_msg *msg)
{
    if (msg->error == EOPNOTSUPP) {
        keeper->version = 1;
        return 0;
    } else if (msg->error) {
        return msg->error;
    }
    keeper->version = turbotap_keeper_common_version(msg);
    if (msg->index) {
        keeper->pid = msg->index;
    }
    return keeper->version ? 0 : EPROTONOSUPPORT;
}

/* Receives one answer, if there is one within 'timeout' ms.  Returns 0 or a
 * positive errno value: EAGAIN, ETIMEDOUT if there is none, others: the
 * connection is of no more use. */
static int
receive(struct turbotap_keeper *keeper, int timeout)
{
    struct pollfd pfd = { .fd = keeper->sock, .events = POLLIN };
    struct turbotap_keeper_msg msg;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    struct request *r;
    unsigned int n_fds;
    int error, n;

    do {
        n = poll(&pfd, 1, timeout);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno;
    } else if (!n) {
        return timeout ? ETIMEDOUT : EAGAIN;
    }
    error = turbotap_keeper_recv(keeper->sock, &msg, fds, &n_fds);
    reap_starter(keeper);
    if (error && error != EMFILE) {
        return error;
    }

    r = get_request(keeper, keeper->n_answered);
    if (keeper->n_answered == keeper->n_sent || msg.op != r->op) {
        close_fds(fds, n_fds);
        return EPROTO;
    }
    keeper->n_answered++;
    r->error = error ? error : msg.error;
    if (r->op == TURBOTAP_KEEPER_HELLO) {
        r->error = handle_hello(keeper, &msg);
    }
    close_fds(keeper->fds, keeper->n_fds);
    keeper->n_fds = 0;
    if (r->waited_for) {
        keeper->msg = msg;
        memcpy(keeper->fds, fds, n_fds * sizeof *fds);
        keeper->n_fds = n_fds;
    } else {
        close_fds(fds, n_fds);
    }
    return 0;
}

int
turbotap_keeper_take(struct turbotap_keeper *keeper, int timeout,
                     struct turbotap_keeper_answer *answer)
{
    for (;;) {
        const struct request *r;

        if (keeper->n_taken == keeper->n_answered) {
            int error = receive(keeper, timeout);

            if (error) {
                return error;
            }
        }
        r = get_request(keeper, keeper->n_taken++);
        if (!r->waited_for) {
            *answer = (struct turbotap_keeper_answer) { .op = r->op,
                                                        .error = r->error };
            memcpy(answer->key, r->key, sizeof answer->key);
            return r->op == TURBOTAP_KEEPER_HELLO ? r->error : 0;
        }
        /* Nobody waits for it any more. */
    }
}

/* Sends 'msg' with 'op' and 'key', as send_request() does, and waits for the
 * answer, which is then in 'keeper->msg' and 'keeper->fds'.  Returns 0 or a
 * positive errno value, the keeper's own, too. */
static int
ask(struct turbotap_keeper *keeper, int timeout,
    struct turbotap_keeper_msg *msg, enum turbotap_keeper_op op,
    const char *key)
{
    int error = send_request(keeper, msg, op, key, NULL, 0, true);

    while (!error && keeper->n_answered != keeper->n_sent) {
        error = receive(keeper, timeout);
    }
    if (error) {
        return error == EAGAIN ? ETIMEDOUT : error;
    }
    keeper->n_answered = --keeper->n_sent;
    return get_request(keeper, keeper->n_sent)->error;
}

int
turbotap_keeper_put(struct turbotap_keeper *keeper, const char *key,
                    const void *data, const int *fds, unsigned int n_fds)
{
    struct turbotap_keeper_msg msg = { .error = 0 };

    if (!n_fds || n_fds > TURBOTAP_KEEPER_MAX_FDS) {
        return EINVAL;
    }
    memcpy(msg.data, data, sizeof msg.data);
    return send_request(keeper, &msg, TURBOTAP_KEEPER_PUT, key, fds, n_fds,
                        false);
}

int
turbotap_keeper_remove(struct turbotap_keeper *keeper, const char *key)
{
    struct turbotap_keeper_msg msg = { .error = 0 };

    return send_request(keeper, &msg, TURBOTAP_KEEPER_REMOVE, key, NULL, 0,
                        false);
}

int
turbotap_keeper_hello(struct turbotap_keeper *keeper)
{
    struct turbotap_keeper_msg msg = { .error = 0 };

    turbotap_keeper_say_versions(&msg);
    return send_request(keeper, &msg, TURBOTAP_KEEPER_HELLO, "", NULL, 0,
                        false);
}

int
turbotap_keeper_get(struct turbotap_keeper *keeper, int timeout,
                    const char *key, void *data, int *fds,
                    unsigned int *n_fdsp)
{
    struct turbotap_keeper_msg msg = { .error = 0 };
    int error = ask(keeper, timeout, &msg, TURBOTAP_KEEPER_GET, key);

    *n_fdsp = 0;
    if (!error) {
        memcpy(data, keeper->msg.data, sizeof keeper->msg.data);
        memcpy(fds, keeper->fds, keeper->n_fds * sizeof *fds);
        *n_fdsp = keeper->n_fds;
        keeper->n_fds = 0;
    }
    return error;
}

int
turbotap_keeper_next(struct turbotap_keeper *keeper, int timeout,
                     unsigned int i, char *key)
{
    struct turbotap_keeper_msg msg = { .index = i };
    bool by_number = keeper->version == 1;
    int error = ask(keeper, timeout, &msg,
                    by_number ? TURBOTAP_KEEPER_LIST : TURBOTAP_KEEPER_NEXT,
                    by_number ? "" : key);

    if (!error) {
        memcpy(key, keeper->msg.key, sizeof keeper->msg.key);
    }
    return error;
}

/* Connections. */

/* Makes a connection of 'peer', with which it does away, says HELLO, and
 * stores it in '*keeperp'.  Returns 0 or a positive errno value. */
static int
make_keeper(const struct turbotap_keeper_peer *peer,
            struct turbotap_keeper **keeperp)
{
    struct turbotap_keeper *keeper = turbotap_zalloc(sizeof *keeper);
    int error;

    *keeperp = NULL;
    if (!keeper) {
        close(peer->sock);
        return ENOMEM;
    }
    keeper->sock = peer->sock;
    keeper->uid = peer->cred.uid;
    keeper->pid = peer->starter ? 0 : peer->cred.pid;
    keeper->starter = peer->starter;
    error = turbotap_keeper_hello(keeper);
    if (error) {
        turbotap_keeper_close(keeper);
        return error;
    }
    *keeperp = keeper;
    return 0;
}

/* Returns 'pid' if it is a keeper's, else 0.  The one that has the socket may
 * be the switch that made it, or was. */
static pid_t
check_pid(pid_t pid)
{
    static const char keeper[] = "turbotap-keeper";
    char name[64], comm[64] = "";
    FILE *file;

    snprintf(name, sizeof name, "/proc/%ld/comm", (long int) pid);
    file = pid > 0 ? fopen(name, "re") : NULL;
    if (file) {
        if (!fgets(comm, sizeof comm, file)) {
            comm[0] = '\0';
        }
        fclose(file);
    }
    return strncmp(comm, keeper, sizeof keeper - 1) ? 0 : pid;
}

int
turbotap_keeper_connect(const char *path, const char *program, int timeout,
                        struct turbotap_keeper **keeperp, pid_t *pidp)
{
    struct turbotap_keeper_peer peer;
    int error = turbotap_keeper_find(path, program, timeout, &peer);

    *keeperp = NULL;
    if (pidp) {
        *pidp = error == EPERM ? check_pid(peer.cred.pid) : 0;
    }
    return error ? error : make_keeper(&peer, keeperp);
}

void
turbotap_keeper_close(struct turbotap_keeper *keeper)
{
    if (keeper) {
        reap_starter(keeper);
        close_fds(keeper->fds, keeper->n_fds);
        close(keeper->sock);
        free(keeper);
    }
}

int
turbotap_keeper_fd(const struct turbotap_keeper *keeper)
{
    return keeper->sock;
}

unsigned int
turbotap_keeper_version(const struct turbotap_keeper *keeper)
{
    return keeper->version;
}

uid_t
turbotap_keeper_uid(const struct turbotap_keeper *keeper)
{
    return keeper->uid;
}

pid_t
turbotap_keeper_pid(const struct turbotap_keeper *keeper)
{
    return check_pid(keeper->pid);
}

/* Handing over. */

bool
turbotap_keeper_is_foreign(const struct turbotap_keeper *keeper)
{
    return (keeper->version < TURBOTAP_KEEPER_HIGHEST
            || keeper->uid != geteuid());
}

/* Waits for the answer to a request that was just sent to 'keeper', which
 * returned 'error'.  Returns 0 or a positive errno value. */
static int
wait_for_answer(struct turbotap_keeper *keeper, int timeout, int error)
{
    struct turbotap_keeper_answer answer;

    if (!error) {
        error = turbotap_keeper_take(keeper, timeout, &answer);
    }
    return error ? error : answer.error;
}

/* Has 'new' hold what 'old' does under 'key', unless that has gone meanwhile.
 * Returns 0 or a positive errno value. */
static int
copy(struct turbotap_keeper *old, struct turbotap_keeper *new,
     const char *key, int timeout)
{
    uint8_t data[TURBOTAP_KEEPER_DATA_LEN];
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n_fds;
    int error;

    error = turbotap_keeper_get(old, timeout, key, data, fds, &n_fds);
    if (error) {
        return error == ENOENT ? 0 : error;
    }
    error = wait_for_answer(new, timeout,
                            turbotap_keeper_put(new, key, data, fds, n_fds));
    close_fds(fds, n_fds);
    return error == EBADFD ? 0 : error;
}

static int
copy_all(struct turbotap_keeper *old, struct turbotap_keeper *new,
         int timeout)
{
    /* By number, it misses some if others go meanwhile. */
    int rounds = old->version == 1 ? 2 : 1;
    int error = ENOENT;

    while (error == ENOENT && rounds--) {
        char key[TURBOTAP_KEEPER_KEY_LEN] = "";

        for (unsigned int i = 0;
             !(error = turbotap_keeper_next(old, timeout, i, key)); i++) {
            error = copy(old, new, key, timeout);
            if (error) {
                return error == ENOENT ? EPROTO : error;
            }
        }
    }
    return error == ENOENT ? 0 : error;
}

/* Has 'old' let go of what 'new' holds.  It may have ended, or not be able to
 * see that its socket was replaced. */
static void
remove_all(struct turbotap_keeper *old, struct turbotap_keeper *new,
           int timeout)
{
    char key[TURBOTAP_KEEPER_KEY_LEN] = "";
    int error = 0;

    for (unsigned int i = 0;
         (!error || error == ENOENT)
         && !turbotap_keeper_next(new, timeout, i, key); i++) {
        error = wait_for_answer(old, timeout,
                                turbotap_keeper_remove(old, key));
    }
}

int
turbotap_keeper_hand_over(struct turbotap_keeper **keeperp, const char *path,
                          const char *program, int timeout)
{
    struct turbotap_keeper *new = NULL;
    struct turbotap_keeper_peer peer;
    int lock = turbotap_keeper_lock(path);
    int error;

    if (lock < 0) {
        return -lock;
    }
    error = turbotap_keeper_start_second(path, program, &peer);
    if (!error) {
        error = make_keeper(&peer, &new);
    }
    if (!error) {
        error = wait_for_answer(new, timeout, 0);
    }
    if (!error && turbotap_keeper_is_foreign(new)) {
        error = EPROTONOSUPPORT;        /* The program is an old one. */
    }
    if (!error) {
        error = copy_all(*keeperp, new, timeout);
    }
    if (!error) {
        error = turbotap_keeper_put_in_place(path);
    }
    if (!error) {
        remove_all(*keeperp, new, timeout);
        turbotap_keeper_close(*keeperp);
        *keeperp = new;
    } else {
        turbotap_keeper_close(new);
    }
    turbotap_keeper_unlock(path, lock);
    return error;
}
