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
 * by the first switch that finds none there, serves only its own user and
 * root, has no capability, and ends when it holds nothing and nobody is
 * connected, or when the file of its socket is removed or replaced, since
 * nobody would find it any more.  It lets go of a device that was deleted.
 *
 * This file is also the protocol: a struct turbotap_keeper_msg, with
 * descriptors in SCM_RIGHTS (unix(7)), is answered by one.  It must not know
 * Open vSwitch.
 *
 * Locking: one thread at a time may use a struct turbotap_keeper. */

#ifndef TURBOTAP_KEEPER_H
#define TURBOTAP_KEEPER_H 1

#include <stdint.h>

/* The most descriptors under one key: what one message can carry is 253
 * (SCM_MAX_FD in the kernel's include/net/scm.h). */
#define TURBOTAP_KEEPER_MAX_FDS 250

/* Room for a key, with the terminating null, and for what the switch wants to
 * know about the descriptors, in octets. */
#define TURBOTAP_KEEPER_KEY_LEN 64
#define TURBOTAP_KEEPER_DATA_LEN 128

struct turbotap_keeper;

/* Connects to the keeper at the socket 'path', which it starts with 'program'
 * if there is none, unless 'program' is NULL, and stores it in '*keeperp'.
 * Returns 0 or a positive errno value: ENOENT if there is none and 'program'
 * cannot be found; EACCES, EPERM if the keeper there is another user's, or the
 * folder is; ETIMEDOUT if somebody else takes too long to start one. */
int turbotap_keeper_connect(const char *path, const char *program,
                            struct turbotap_keeper **keeperp);

/* Closes the connection; the keeper goes on as long as it holds anything.
 * Null is allowed. */
void turbotap_keeper_close(struct turbotap_keeper *);

/* Returns the descriptor that is readable when the keeper has ended. */
int turbotap_keeper_fd(const struct turbotap_keeper *);

/* Each asks the keeper for something and waits for the answer.  They return 0
 * or a positive errno value: ENOENT if it has nothing under 'key'; EMFILE if
 * it, or in get() the caller, has no room for so many descriptors; ETIMEDOUT,
 * EPIPE, EPROTO: the connection is of no more use.
 *
 * put() has it hold copies of the 'n_fds' descriptors in 'fds', at least one,
 * all of queues of one tap device, with the TURBOTAP_KEEPER_DATA_LEN octets at
 * 'data', instead of what it held under 'key', of which it lets go even if it
 * fails.  Their owner stays the caller.
 *
 * get() stores copies of them in 'fds', which has room for
 * TURBOTAP_KEEPER_MAX_FDS and which the caller has to close, their number in
 * '*n_fdsp', and the octets at 'data'.  The keeper holds on to its own.
 *
 * remove() has it let go of what it holds under 'key', before it answers.
 *
 * list() stores the key number 'i', from 0 on, in the TURBOTAP_KEEPER_KEY_LEN
 * octets at 'key'; ENOENT if there are no more. */
int turbotap_keeper_put(struct turbotap_keeper *, const char *key,
                        const void *data, const int *fds,
                        unsigned int n_fds);
int turbotap_keeper_get(struct turbotap_keeper *, const char *key, void *data,
                        int *fds, unsigned int *n_fdsp);
int turbotap_keeper_remove(struct turbotap_keeper *, const char *key);
int turbotap_keeper_list(struct turbotap_keeper *, unsigned int i, char *key);

/* The protocol. */

#define TURBOTAP_KEEPER_MAGIC 0x74746b31        /* "ttk1", with the version. */

enum turbotap_keeper_op {
    TURBOTAP_KEEPER_PUT = 1,
    TURBOTAP_KEEPER_GET,
    TURBOTAP_KEEPER_REMOVE,
    TURBOTAP_KEEPER_LIST,
};

/* A request and, with 'error' and what else there is to tell filled in, its
 * answer.  In the byte order of the machine. */
struct turbotap_keeper_msg {
    uint32_t magic;
    uint32_t op;                /* enum turbotap_keeper_op. */
    uint32_t index;             /* TURBOTAP_KEEPER_LIST. */
    uint32_t error;             /* 0 or a positive errno value. */
    char key[TURBOTAP_KEEPER_KEY_LEN];
    uint8_t data[TURBOTAP_KEEPER_DATA_LEN];
};

/* Sends 'msg' and the 'n_fds' descriptors in 'fds' through the socket 'sock'.
 * Returns 0 or a positive errno value. */
int turbotap_keeper_send(int sock, const struct turbotap_keeper_msg *msg,
                         const int *fds, unsigned int n_fds);

/* Receives a message into '*msg' and its descriptors, close-on-exec, into
 * 'fds', which has room for TURBOTAP_KEEPER_MAX_FDS, and their number into
 * '*n_fdsp'. Returns 0 or a positive errno value, and then there are none:
 * EMFILE if there was no room for them, but '*msg' is what was sent; EPIPE at
 * the end, EPROTO if it is not a message of this protocol. */
int turbotap_keeper_recv(int sock, struct turbotap_keeper_msg *msg, int *fds,
                         unsigned int *n_fdsp);

/* Takes the lock of the socket 'path', under which alone anybody connects to
 * it, makes it or removes it.  Returns a descriptor for
 * turbotap_keeper_unlock(), or a negative errno value: -EWOULDBLOCK if it is
 * taken.  The lock is a file beside the socket, there for as long as it is
 * taken. */
int turbotap_keeper_lock(const char *path);
void turbotap_keeper_unlock(const char *path, int lock);

#endif /* turbotap-keeper.h */
