/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The keeper: a small process that holds descriptors while no switch runs.
 *
 * A tap device in a container can be used again only by who has a descriptor
 * of one of its queues, or may enter the container.  So the switch has the
 * keeper, program turbotap-keeper, hold a copy of each, under a key that it
 * chooses.  A switch that starts again, after whatever end, gets them back:
 * the same queues of the same devices, with the frames that waited in them.
 * The devices do not even lose their carrier in between.
 *
 * The keeper listens on a UNIX socket of type SOCK_SEQPACKET.  It is started
 * by the first switch that finds none there, has no capability, and ends when
 * it holds nothing and nobody is connected, or when the file of its socket is
 * removed or replaced, since nobody would find it any more.  It lets go of a
 * device that was deleted.
 *
 * It serves root, its own user, and who may replace its socket anyway: the
 * owner of the folder and, if that is writable for it, its group.  Others can
 * connect, but are dropped at once.  A switch, for its part, trusts root's
 * keeper and its own; root trusts also one of the owner of the folder, or any
 * in a folder in which none but root can make a socket (any more).  So the
 * switch finds its devices when it runs as another user than before, and then
 * hands all over to a keeper of its own: see turbotap_keeper_hand_over().
 *
 * This file is also the protocol, at its end.  It must not know Open vSwitch.
 *
 * Nothing here waits for the keeper but where a 'timeout' says so: the keeper
 * may have been stopped, or be one that does not answer.
 *
 * Locking: one thread at a time may use a struct turbotap_keeper. */

#ifndef TURBOTAP_KEEPER_H
#define TURBOTAP_KEEPER_H 1

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

/* The most descriptors under one key: what one message can carry is 253
 * (SCM_MAX_FD in the kernel's include/net/scm.h). */
#define TURBOTAP_KEEPER_MAX_FDS 250

/* Room for a key, with the terminating null, and for what the switch wants to
 * know about the descriptors, in octets. */
#define TURBOTAP_KEEPER_KEY_LEN 64
#define TURBOTAP_KEEPER_DATA_LEN 128

/* The versions of the protocol that this side speaks. */
#define TURBOTAP_KEEPER_LOWEST 1
#define TURBOTAP_KEEPER_HIGHEST 2

enum turbotap_keeper_op {
    TURBOTAP_KEEPER_PUT = 1,
    TURBOTAP_KEEPER_GET,
    TURBOTAP_KEEPER_REMOVE,
    TURBOTAP_KEEPER_LIST,       /* By number.  In version 1 only. */

    /* From version 2 on. */
    TURBOTAP_KEEPER_HELLO,
    TURBOTAP_KEEPER_NEXT,       /* In place of LIST. */
};

struct turbotap_keeper;

/* What the keeper said about a request that nobody waited for. */
struct turbotap_keeper_answer {
    enum turbotap_keeper_op op; /* HELLO, PUT or REMOVE. */
    int error;                  /* 0 or a positive errno value. */
    char key[TURBOTAP_KEEPER_KEY_LEN];
};

/* Connects to the keeper at the socket 'path', which it starts with 'program'
 * if there is none, unless 'program' is NULL, says HELLO to it, and stores the
 * connection in '*keeperp'.  Waits for up to 'timeout' ms if somebody else is
 * about to start or to end one, not for its answer, which
 * turbotap_keeper_take() takes, and before which nothing else is to be asked.
 *
 * Returns 0 or a positive errno value: ENOENT if there is none and it is not
 * to be started, or 'program' or the folder cannot be found; EACCES, EPERM if
 * the keeper there is another user's, or the folder is; ETIMEDOUT if it
 * accepts nobody, or somebody else takes too long to start one.  Then
 * '*pidp', unless 'pidp' is null, is the process that is there, as in
 * turbotap_keeper_pid(), else 0. */
int turbotap_keeper_connect(const char *path, const char *program,
                            int timeout, struct turbotap_keeper **keeperp,
                            pid_t *pidp);

/* Closes the connection; the keeper goes on as long as it holds anything.
 * Null is allowed. */
void turbotap_keeper_close(struct turbotap_keeper *);

/* Returns the descriptor that is readable when there may be something to
 * take, and when the keeper has ended. */
int turbotap_keeper_fd(const struct turbotap_keeper *);

/* Returns the version that both sides speak, 0 if that is not known yet. */
unsigned int turbotap_keeper_version(const struct turbotap_keeper *);

/* Returns the user that the keeper runs as. */
uid_t turbotap_keeper_uid(const struct turbotap_keeper *);

/* Returns the keeper's process ID, 0 if it cannot be told. */
pid_t turbotap_keeper_pid(const struct turbotap_keeper *);

/* Returns the number of requests without an answer yet. */
unsigned int turbotap_keeper_n_asked(const struct turbotap_keeper *);

/* Stores the next answer to a request that was not waited for in '*answer',
 * and waits for it for up to 'timeout' ms.  Returns 0 or a positive errno
 * value: EAGAIN if there is none now, ETIMEDOUT if there is none after
 * 'timeout'; EPROTONOSUPPORT if the keeper does not speak any version that we
 * do; EPERM if it does not serve us, EPIPE, EPROTO: in these cases the
 * connection is of no more use. */
int turbotap_keeper_take(struct turbotap_keeper *, int timeout,
                         struct turbotap_keeper_answer *answer);

/* Each asks for something that need not be waited for: turbotap_keeper_take()
 * has the answers, in the order of the requests.  They return 0 or a positive
 * errno value: EAGAIN if there is no room until an answer is taken;
 * otherwise the connection is of no more use, but for ETOOMANYREFS, EINVAL and
 * ENAMETOOLONG.
 *
 * put() has the keeper hold copies of the 'n_fds' descriptors in 'fds', at
 * least one, all of queues of one tap device, with the
 * TURBOTAP_KEEPER_DATA_LEN octets at 'data', instead of what it held under
 * 'key', of which it lets go even if it fails.  Their owner stays the caller.
 * The answer's error: EMFILE if it has no room for so many; that may be
 * different the next time, since it has let go of what it held; EBADFD.
 *
 * remove() has it let go of what it holds under 'key'.  The answer's error:
 * ENOENT if that is nothing. */
int turbotap_keeper_put(struct turbotap_keeper *, const char *key,
                        const void *data, const int *fds,
                        unsigned int n_fds);
int turbotap_keeper_remove(struct turbotap_keeper *, const char *key);

/* The same for HELLO once more, whose answer says that the keeper is there. */
int turbotap_keeper_hello(struct turbotap_keeper *);

/* Each asks for something and waits for the answer for up to 'timeout' ms.
 * They return 0 or a positive errno value: ENOENT if there is nothing; EMFILE
 * if the caller has no room for so many descriptors; ETIMEDOUT; others: the
 * connection is of no more use.
 *
 * get() stores copies of what it holds under 'key' in 'fds', which has room
 * for TURBOTAP_KEEPER_MAX_FDS and which the caller has to close, their number
 * in '*n_fdsp', and the octets at 'data'.  The keeper holds on to its own.
 *
 * next() stores the key that follows the one in the TURBOTAP_KEEPER_KEY_LEN
 * octets at 'key', which is "" for the first one and need not be there any
 * more, at 'key', and its number, from 0 on, has to be 'i'. */
int turbotap_keeper_get(struct turbotap_keeper *, int timeout,
                        const char *key, void *data, int *fds,
                        unsigned int *n_fdsp);
int turbotap_keeper_next(struct turbotap_keeper *, int timeout,
                         unsigned int i, char *key);

/* Returns true if '*keeper' had better be replaced: it is of an older version,
 * or another user's. */
bool turbotap_keeper_is_foreign(const struct turbotap_keeper *keeper);

/* Starts a keeper with 'program', has it hold all that '*keeperp' does, puts
 * its socket in the place of the other's, 'path', and the connection to it in
 * '*keeperp'.  No answer is waited for for longer than 'timeout' ms.  Returns
 * 0 or a positive errno value, and then all is as it was, but after ETIMEDOUT,
 * EPIPE and EPROTO '*keeperp' may be of no more use.
 *
 * Until the end, the old one holds all; it goes when its socket is replaced,
 * or is told to let go.  If the caller dies in between, the new one ends. */
int turbotap_keeper_hand_over(struct turbotap_keeper **keeperp,
                              const char *path, const char *program,
                              int timeout);

/* The protocol.
 *
 * A message is a struct turbotap_keeper_msg, with descriptors in SCM_RIGHTS
 * (unix(7)), in the byte order of the machine.  A request is answered by one,
 * requests in their order.  All versions have in common: the first two
 * members of a message, that a keeper answers HELLO, and that it answers an
 * 'op' that it does not know with EOPNOTSUPP, and a message that it cannot
 * read, but that begins like one, with EPROTONOSUPPORT and with its versions.
 *
 * Version 1 ("ttk1", no HELLO: EOPNOTSUPP is its answer) has PUT, GET, REMOVE
 * and LIST, and drops who sends anything else than its messages.
 *
 * Version 2 has HELLO.  With it, a switch says what it speaks, as a struct
 * turbotap_keeper_hello in 'data'; the answer has the same of the keeper, its
 * process ID in 'index', and EPROTONOSUPPORT in 'error' if they have no
 * version in common.  From then on both speak the highest that they have.  A
 * switch that says no HELLO speaks version 1, which a keeper goes on to serve.
 * LIST, which misses some if others go meanwhile, is replaced by NEXT.  */

#define TURBOTAP_KEEPER_MAGIC 0x74746b31        /* "ttk1" */

/* Begins all messages, of all versions.  The other 8 bits may change. */
#define TURBOTAP_KEEPER_MAGIC_MASK 0xffffff00

/* A request and, with 'error' and what else there is to tell filled in, its
 * answer. */
struct turbotap_keeper_msg {
    uint32_t magic;
    uint32_t op;                /* enum turbotap_keeper_op. */
    uint32_t index;             /* TURBOTAP_KEEPER_LIST. */
    uint32_t error;             /* 0 or a positive errno value. */
    char key[TURBOTAP_KEEPER_KEY_LEN];
    uint8_t data[TURBOTAP_KEEPER_DATA_LEN];
};

/* The versions that one side speaks. */
struct turbotap_keeper_hello {
    uint32_t lowest, highest;
};

/* Stores the versions that this side speaks in 'msg'. */
void turbotap_keeper_say_versions(struct turbotap_keeper_msg *msg);

/* Returns the highest version that this side and the one that sent 'msg' both
 * speak, 0 if there is none. */
unsigned int turbotap_keeper_common_version(
    const struct turbotap_keeper_msg *msg);

/* Sends 'msg' and the 'n_fds' descriptors in 'fds' through the socket 'sock'.
 * Returns 0 or a positive errno value. */
int turbotap_keeper_send(int sock, const struct turbotap_keeper_msg *msg,
                         const int *fds, unsigned int n_fds);

/* Receives a message into '*msg' and its descriptors, close-on-exec, into
 * 'fds', which has room for TURBOTAP_KEEPER_MAX_FDS, and their number into
 * '*n_fdsp'.  Returns 0 or a positive errno value, and then there are none:
 * EMFILE if there was no room for them, but '*msg' is what was sent;
 * EPROTONOSUPPORT if it is a message, but not as this version has them; EPIPE
 * at the end, EPROTO if it is not a message of this protocol; EAGAIN. */
int turbotap_keeper_recv(int sock, struct turbotap_keeper_msg *msg, int *fds,
                         unsigned int *n_fdsp);

/* Returns true if a process of 'uid', 'gid' may replace what is in the folder
 * 'folder' even if it is not root. */
bool turbotap_keeper_may_replace(const struct stat *folder, uid_t uid,
                                  gid_t gid);

/* Finding and starting, for turbotap-keeper.c. */

/* A connection to a keeper. */
struct turbotap_keeper_peer {
    int sock;                   /* Non-blocking; -1 if there is none. */
    struct ucred cred;          /* Whose the socket is: of who starts it, if
                                 * that was us. */
    pid_t starter;              /* A child to be waited for, 0 if none. */
};

/* As turbotap_keeper_connect(), without a word said.  After EPERM,
 * 'peer->cred' says who is there. */
int turbotap_keeper_find(const char *path, const char *program, int timeout,
                         struct turbotap_keeper_peer *peer);

/* Starts another keeper for 'path', under another name until
 * turbotap_keeper_put_in_place(); it ends if its clients end before.  The
 * caller must have the lock.  They return 0 or a positive errno value. */
int turbotap_keeper_start_second(const char *path, const char *program,
                                 struct turbotap_keeper_peer *peer);
int turbotap_keeper_put_in_place(const char *path);

/* What comes after the name of a socket that is not in its place yet. */
#define TURBOTAP_KEEPER_FIRST ".new"

/* Takes the lock of the socket 'path', under which alone anybody connects to
 * it, makes it or removes it.  Returns a descriptor for
 * turbotap_keeper_unlock(), or a negative errno value: -EWOULDBLOCK if it is
 * taken.  The lock is a file beside the socket, there for as long as it is
 * taken. */
int turbotap_keeper_lock(const char *path);
void turbotap_keeper_unlock(const char *path, int lock);

#endif /* turbotap-keeper.h */
