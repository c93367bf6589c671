/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What the files test-keeper*.c share: a keeper and a real tap device for it
 * to hold.  Each test has a socket of its own, and its keeper ends with it. */

#ifndef TEST_KEEPER_H
#define TEST_KEEPER_H 1

#include <sys/types.h>

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-keeper.h"

#define TAP "ttk0"
#define PROGRAM "vswitchd/turbotap-keeper"
#define NOBODY 65534

struct fixture {
    char folder[64];
    char path[96];
    unsigned int n_fds;         /* Before the test. */
    struct turbotap_keeper *keeper;
    struct turbotap_dev *dev;   /* With one receive and one transmit queue. */
};

int setup(void **state);
int teardown(void **state);

/* Each does what the function of turbotap-keeper.h with the same name at its
 * end does, and waits for the answer: returns its error.  list() stores the
 * key number 'i'. */
int do_connect(const char *path, const char *program,
               struct turbotap_keeper **keeperp);
int do_put(struct turbotap_keeper *keeper, const char *key, const void *data,
           const int *fds, unsigned int n_fds);
int do_get(struct turbotap_keeper *keeper, const char *key, void *data,
           int *fds, unsigned int *n_fdsp);
int do_remove(struct turbotap_keeper *keeper, const char *key);
int do_list(struct turbotap_keeper *keeper, unsigned int i, char *key);

/* Receives a message without descriptors, when it comes, as
 * turbotap_keeper_recv() does. */
int receive(int sock, struct turbotap_keeper_msg *msg);

/* Returns a new connection to the keeper of 'f', which has not answered. */
struct turbotap_keeper *begin_connecting(const struct fixture *f);

/* Returns a new connection to the keeper of 'f'. */
struct turbotap_keeper *connect_keeper(const struct fixture *f);

/* Closes 'f->keeper', and makes it null. */
void disconnect(struct fixture *f);

/* Has the keeper hold the queues of 'f->dev' under 'key'.  Returns what
 * turbotap_keeper_put() does. */
int put(struct fixture *f, const char *key, char mark);

/* Asserts that what is under 'key' has 'mark', and stores the two descriptors
 * in 'fds'. */
void get(struct fixture *f, const char *key, char mark, int *fds);

/* The same without wanting them. */
void check_holds(struct fixture *f, const char *key, char mark);

/* Processes. */

/* Returns the number of keepers at the socket of 'f', and stores the ID of one
 * in '*pidp', unless that is null. */
unsigned int count_keepers(const struct fixture *f, pid_t *pidp);

/* Waits for there to be none, which must have left no file behind. */
void wait_for_end(const struct fixture *f);

/* Tests in test-keeper-process.c. */
void test_starters(void **state);
void test_ends_and_starts(void **state);
void test_many(void **state);
void test_lock(void **state);
void test_socket_file(void **state);
void test_socket_folder(void **state);
void test_other_folder(void **state);
void test_full(void **state);
void test_no_descriptor(void **state);
void test_attached(void **state);

/* Tests in test-keeper-foreign.c. */
void test_stopped(void **state);
void test_unread(void **state);
void test_unknown_messages(void **state);
void test_foreign_keepers(void **state);
void test_dying_keepers(void **state);
void test_hand_over(void **state);
void test_dying_hand_over(void **state);
void test_users(void **state);

#endif /* test-keeper.h */
