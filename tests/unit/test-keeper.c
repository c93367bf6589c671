/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests lib/turbotap-keeper.c and the program turbotap-keeper: what they are
 * asked for and answer.  See also test-keeper.h. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-keeper.h"

/* Waits for an answer from 'keeper' to what was just asked for, which returned
 * 'error'.  Returns its error. */
static int
wait_for_answer(struct turbotap_keeper *keeper, int error)
{
    struct turbotap_keeper_answer answer;

    if (!error) {
        error = turbotap_keeper_take(keeper, HOST_PATIENCE, &answer);
    }
    return error ? error : answer.error;
}

int
do_connect(const char *path, const char *program,
           struct turbotap_keeper **keeperp)
{
    int error = turbotap_keeper_connect(path, program, HOST_PATIENCE, keeperp,
                                        NULL);

    if (!error) {
        error = wait_for_answer(*keeperp, 0);
        if (error) {
            turbotap_keeper_close(*keeperp);
            *keeperp = NULL;
        }
    }
    return error;
}

int
do_put(struct turbotap_keeper *keeper, const char *key, const void *data,
       const int *fds, unsigned int n_fds)
{
    int error = EMFILE;

    for (int i = 0; i < 2 && error == EMFILE; i++) {
        error = wait_for_answer(keeper, turbotap_keeper_put(keeper, key, data,
                                                            fds, n_fds));
    }
    return error;
}

int
do_get(struct turbotap_keeper *keeper, const char *key, void *data, int *fds,
       unsigned int *n_fdsp)
{
    return turbotap_keeper_get(keeper, HOST_PATIENCE, key, data, fds, n_fdsp);
}

int
do_remove(struct turbotap_keeper *keeper, const char *key)
{
    return wait_for_answer(keeper, turbotap_keeper_remove(keeper, key));
}

int
do_list(struct turbotap_keeper *keeper, unsigned int i, char *key)
{
    int error = 0;

    key[0] = '\0';
    for (unsigned int j = 0; !error && j <= i; j++) {
        error = turbotap_keeper_next(keeper, HOST_PATIENCE, j, key);
    }
    return error;
}

int
receive(int sock, struct turbotap_keeper_msg *msg)
{
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n;
    int error;

    assert_true(host_wait_readable(sock, HOST_PATIENCE));
    error = turbotap_keeper_recv(sock, msg, fds, &n);
    assert_int_equal(n, 0);
    return error;
}

struct turbotap_keeper *
begin_connecting(const struct fixture *f)
{
    struct turbotap_keeper *keeper;

    assert_int_equal(turbotap_keeper_connect(f->path, PROGRAM, HOST_PATIENCE,
                                             &keeper, NULL), 0);
    return keeper;
}

struct turbotap_keeper *
connect_keeper(const struct fixture *f)
{
    struct turbotap_keeper *keeper;

    assert_int_equal(do_connect(f->path, PROGRAM, &keeper), 0);
    return keeper;
}

void
disconnect(struct fixture *f)
{
    turbotap_keeper_close(f->keeper);
    f->keeper = NULL;
}

int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->n_fds = host_count_fds();
    strcpy(f->folder, "/tmp/keeper-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/keeper.sock", f->folder);
    assert_int_equal(turbotap_dev_open(TAP, false, &f->dev), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 1), 0);
    f->keeper = connect_keeper(f);
    *state = f;
    return 0;
}

/* The keeper must end, and leave no file behind. */
int
teardown(void **state)
{
    struct fixture *f = *state;
    char key[TURBOTAP_KEEPER_KEY_LEN];

    turbotap_dev_close(f->dev);
    while (f->keeper && !do_list(f->keeper, 0, key)) {
        assert_int_equal(do_remove(f->keeper, key), 0);
    }
    disconnect(f);
    assert_int_equal(host_count_fds(), f->n_fds);
    wait_for_end(f);
    assert_int_equal(rmdir(f->folder), 0);
    free(f);
    return 0;
}

int
put(struct fixture *f, const char *key, char mark)
{
    const int fds[] = { turbotap_dev_rxq_fd(f->dev, 0),
                        turbotap_dev_txq_fd(f->dev, 0) };
    char data[TURBOTAP_KEEPER_DATA_LEN] = { mark };

    return do_put(f->keeper, key, data, fds, 2);
}

void
get(struct fixture *f, const char *key, char mark, int *fds)
{
    char data[TURBOTAP_KEEPER_DATA_LEN];
    int all[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n;

    assert_int_equal(do_get(f->keeper, key, data, all, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(data[0], mark);
    memcpy(fds, all, 2 * sizeof *fds);
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, 0);
    }
}

void
check_holds(struct fixture *f, const char *key, char mark)
{
    int fds[2];

    get(f, key, mark, fds);
    close(fds[0]);
    close(fds[1]);
}

static void
test_put_and_get(void **state)
{
    struct fixture *f = *state;
    char data[TURBOTAP_KEEPER_DATA_LEN];
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    char key[TURBOTAP_KEEPER_KEY_LEN];
    unsigned int n;

    assert_int_equal(do_get(f->keeper, "a", data, fds, &n),
                     ENOENT);
    assert_int_equal(do_list(f->keeper, 0, key), ENOENT);
    assert_int_equal(put(f, "a", 1), 0);
    assert_int_equal(put(f, "b", 2), 0);
    assert_int_equal(put(f, "a", 3), 0);
    check_holds(f, "a", 3);
    check_holds(f, "b", 2);
    assert_int_equal(do_list(f->keeper, 1, key), 0);
    assert_int_equal(do_list(f->keeper, 2, key), ENOENT);
    assert_int_equal(do_remove(f->keeper, "a"), 0);
    assert_int_equal(do_remove(f->keeper, "a"), ENOENT);
    assert_int_equal(do_list(f->keeper, 0, key), 0);
    assert_string_equal(key, "b");
}

/* The switch is killed; the one after it has the same device, in another
 * network namespace and under another name, with the frame that waited. */
static void
test_survives(void **state)
{
    struct fixture *f = *state;
    int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int away = host_open_other_namespace();
    char frame[60] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
    char received[100];
    int fds[2], host;
    pid_t pid;

    pid = fork();
    if (!pid) {
        /* As the switch would be: the last to have descriptors. */
        struct turbotap_keeper *keeper = connect_keeper(f);

        turbotap_keeper_close(f->keeper);
        f->keeper = keeper;
        _exit(put(f, "tt0", 7));
    }
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    turbotap_dev_close(f->dev);
    f->dev = NULL;
    turbotap_keeper_close(f->keeper);

    host_move(TAP, away);
    assert_int_equal(setns(away, CLONE_NEWNET), 0);
    host_rename(TAP, "eth0");
    host_set_up("eth0", true);
    host = host_open_socket("eth0", 0x88b5);
    assert_int_equal(send(host, frame, sizeof frame, 0), sizeof frame);
    close(host);
    assert_int_equal(setns(ours, CLONE_NEWNET), 0);

    f->keeper = connect_keeper(f);
    get(f, "tt0", 7, fds);
    assert_true(host_wait_readable(fds[0], HOST_PATIENCE));
    assert_int_equal(read(fds[0], received, sizeof received), sizeof frame);
    assert_memory_equal(received, frame, sizeof frame);

    /* And it does not keep the namespace alive, nor what has gone with it. */
    close(away);
    struct pollfd pfd = { .fd = fds[1], .events = POLLIN };

    assert_int_equal(poll(&pfd, 1, HOST_PATIENCE), 1);
    close(fds[0]);
    close(fds[1]);
    close(ours);
    for (;;) {
        char key[TURBOTAP_KEEPER_KEY_LEN];

        if (do_list(f->keeper, 0, key)) {
            break;
        }
    }
}

/* What is not a request ends the connection, and nothing else. */
static void
test_malformed(void **state)
{
    struct fixture *f = *state;
    const int sock = turbotap_keeper_fd(f->keeper);
    struct turbotap_keeper_msg msg = { .magic = TURBOTAP_KEEPER_MAGIC };

    assert_int_equal(put(f, "a", 1), 0);

    /* Unknown, without a descriptor, with one that is no tap's, no key. */
    msg.op = 99;
    assert_int_equal(turbotap_keeper_send(sock, &msg, &sock, 1), 0);
    assert_int_equal(receive(sock, &msg), 0);
    assert_int_equal(msg.error, EOPNOTSUPP);
    msg.op = TURBOTAP_KEEPER_PUT;
    strcpy(msg.key, "b");
    assert_int_equal(turbotap_keeper_send(sock, &msg, NULL, 0), 0);
    assert_int_equal(receive(sock, &msg), 0);
    assert_int_equal(msg.error, EINVAL);
    assert_int_equal(turbotap_keeper_send(sock, &msg, &sock, 1), 0);
    assert_int_equal(receive(sock, &msg), 0);
    assert_int_equal(msg.error, EBADFD);
    msg.key[0] = '\0';
    assert_int_equal(turbotap_keeper_send(sock, &msg, NULL, 0), 0);
    assert_int_equal(receive(sock, &msg), 0);
    assert_int_equal(msg.error, EINVAL);

    for (int i = 0; i < 3; i++) {
        struct turbotap_keeper *other = connect_keeper(f);

        memset(&msg, 0xff, sizeof msg);
        msg.magic = i == 1 ? 0 : TURBOTAP_KEEPER_MAGIC;
        assert_true(send(turbotap_keeper_fd(other), &msg,
                         i == 2 ? 5 : sizeof msg, MSG_NOSIGNAL) > 0);
        assert_int_equal(receive(turbotap_keeper_fd(other), &msg), EPIPE);
        turbotap_keeper_close(other);
    }
    check_holds(f, "a", 1);
}

static void
test_no_program(void **state)
{
    struct fixture *f = *state;
    struct turbotap_keeper *keeper;
    char path[128];

    snprintf(path, sizeof path, "%s/other.sock", f->folder);
    assert_int_equal(do_connect(path, "/no/such/program",
                                             &keeper), ENOENT);
    assert_null(keeper);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(do_connect(path, NULL, &keeper), ENOENT);
    assert_null(keeper);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(do_connect(f->path, NULL, &keeper), 0);
    turbotap_keeper_close(keeper);
    assert_int_equal(do_connect("/no/such/folder/sock", PROGRAM,
                                             &keeper), ENOENT);
}

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put_and_get),
        TEST(test_survives),
        TEST(test_malformed),
        TEST(test_no_program),
        TEST(test_starters),
        TEST(test_ends_and_starts),
        TEST(test_many),
        TEST(test_lock),
        TEST(test_socket_file),
        TEST(test_socket_folder),
        TEST(test_other_folder),
        TEST(test_full),
        TEST(test_no_descriptor),
        TEST(test_attached),
        TEST(test_stopped),
        TEST(test_unread),
        TEST(test_unknown_messages),
        TEST(test_foreign_keepers),
        TEST(test_dying_keepers),
        TEST(test_hand_over),
        TEST(test_dying_hand_over),
        TEST(test_users),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
