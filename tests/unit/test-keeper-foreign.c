/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests lib/turbotap-keeper.c with keepers that are not as they should be:
 * stopped, of another version or user, or about to die.  See also
 * test-keeper.h. */

#include <config.h>

#include "test-keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long a test waits for an answer that does not come, in ms. */
#define IMPATIENCE 20

/* More requests than can be sent without an answer. */
#define MANY 1000

/* Ends the keeper of 'f', which must hold nothing. */
static void
end_keeper(struct fixture *f)
{
    disconnect(f);
    wait_for_end(f);
}

/* Returns a socket that listens where the keeper of 'f' would. */
static int
listen_instead(const struct fixture *f)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    strcpy(sun.sun_path, f->path);
    assert_int_equal(bind(sock, (struct sockaddr *) &sun, sizeof sun), 0);
    assert_int_equal(listen(sock, 5), 0);
    return sock;
}

/* Takes the answer to a request for 'op', and returns its error. */
static int
take(struct turbotap_keeper *keeper, enum turbotap_keeper_op op)
{
    struct turbotap_keeper_answer answer;
    int error = turbotap_keeper_take(keeper, HOST_PATIENCE, &answer);

    if (error) {
        return error;
    }
    assert_int_equal(answer.op, op);
    return answer.error;
}

/* One that does not answer keeps nobody waiting, and goes on where it was. */
void
test_stopped(void **state)
{
    struct fixture *f = *state;
    const int fd = turbotap_dev_txq_fd(f->dev, 0);
    char data[TURBOTAP_KEEPER_DATA_LEN] = { 5 };
    struct turbotap_keeper_answer answer;
    char key[TURBOTAP_KEEPER_KEY_LEN] = "";
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    struct turbotap_keeper *other;
    unsigned int n_fds, n;
    int error = 0;
    pid_t pid;

    assert_int_equal(put(f, "a", 1), 0);
    assert_int_equal(count_keepers(f, &pid), 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);

    other = begin_connecting(f);
    assert_int_equal(turbotap_keeper_take(other, 0, &answer), EAGAIN);
    assert_int_equal(turbotap_keeper_take(other, IMPATIENCE, &answer),
                     ETIMEDOUT);
    assert_int_equal(turbotap_keeper_version(other), 0);

    assert_int_equal(turbotap_keeper_get(f->keeper, IMPATIENCE, "a", data, fds,
                                         &n_fds), ETIMEDOUT);
    assert_int_equal(n_fds, 0);
    assert_int_equal(turbotap_keeper_next(f->keeper, IMPATIENCE, 0, key),
                     ETIMEDOUT);
    for (n = 0; !error; n++) {
        assert_in_range(n, 0, MANY);
        error = turbotap_keeper_put(f->keeper, "b", data, &fd, 1);
    }
    n--;
    assert_int_equal(error, EAGAIN);
    assert_in_range(n, 10, MANY);
    assert_int_equal(turbotap_keeper_take(f->keeper, 0, &answer), EAGAIN);

    /* What nobody waits for any more is not mistaken for anything else. */
    assert_int_equal(kill(pid, SIGCONT), 0);
    for (unsigned int i = 0; i < n; i++) {
        assert_int_equal(take(f->keeper, TURBOTAP_KEEPER_PUT), 0);
    }
    assert_int_equal(turbotap_keeper_n_asked(f->keeper), 0);
    assert_int_equal(turbotap_keeper_take(f->keeper, 0, &answer), EAGAIN);
    check_holds(f, "a", 1);
    assert_int_equal(take(other, TURBOTAP_KEEPER_HELLO), 0);
    assert_int_equal(turbotap_keeper_version(other), TURBOTAP_KEEPER_HIGHEST);
    assert_int_equal(turbotap_keeper_pid(other), pid);
    turbotap_keeper_close(other);
}

/* What was asked for before the end is done, though nobody reads answers. */
void
test_unread(void **state)
{
    struct fixture *f = *state;
    const int fd = turbotap_dev_txq_fd(f->dev, 0);
    char data[TURBOTAP_KEEPER_DATA_LEN] = { 0 };
    char key[TURBOTAP_KEEPER_KEY_LEN];
    pid_t pid;

    assert_int_equal(put(f, "a", 1), 0);
    assert_int_equal(put(f, "z", 1), 0);
    assert_int_equal(count_keepers(f, &pid), 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "b%d", i);
        assert_int_equal(turbotap_keeper_put(f->keeper, key, data, &fd, 1), 0);
    }
    assert_int_equal(turbotap_keeper_remove(f->keeper, "z"), 0);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_true(host_wait_readable(turbotap_keeper_fd(f->keeper),
                                   HOST_PATIENCE));
    disconnect(f);

    f->keeper = connect_keeper(f);
    for (int i = 0; i < 11; i++) {
        assert_int_equal(do_list(f->keeper, i, key), 0);
    }
    while (!do_list(f->keeper, 11, key)) {
        assert_string_equal(key, "z");
    }
}

/* A keeper says that it does not understand, and goes on. */
void
test_unknown_messages(void **state)
{
    struct fixture *f = *state;
    const int sock = turbotap_keeper_fd(f->keeper);
    struct turbotap_keeper_hello hello = { .lowest = 9, .highest = 10 };
    union {
        struct turbotap_keeper_msg msg;
        char octets[sizeof(struct turbotap_keeper_msg) + 100];
    } u;

    assert_int_equal(put(f, "a", 1), 0);
    for (int i = 0; i < 4; i++) {
        const size_t sizes[] = { sizeof u.msg, 12, sizeof u, sizeof u.msg };

        memset(&u, 0, sizeof u);
        u.msg.magic = TURBOTAP_KEEPER_MAGIC + (i == 0 ? 8 : 0);
        u.msg.op = i == 3 ? TURBOTAP_KEEPER_HELLO : TURBOTAP_KEEPER_REMOVE;
        strcpy(u.msg.key, "a");
        memcpy(u.msg.data, &hello, sizeof hello);
        assert_int_equal(send(sock, &u, sizes[i], 0), sizes[i]);
        assert_int_equal(receive(sock, &u.msg), 0);
        assert_int_equal(u.msg.error, EPROTONOSUPPORT);
        assert_int_equal(turbotap_keeper_common_version(&u.msg),
                         TURBOTAP_KEEPER_HIGHEST);
    }
    check_holds(f, "a", 1);
}

/* What a keeper may answer to HELLO, and what becomes of it. */
void
test_foreign_keepers(void **state)
{
    static const struct {
        uint32_t magic, error, lowest, highest;
        size_t size;            /* 0: it drops the connection. */
        int expected;
        unsigned int version;
    } cases[] = {
        { 0, 0, 1, 2, 208, 0, 2 },
        { 0, 0, 2, 7, 208, 0, 2 },
        { 0, 0, 1, 1, 208, 0, 1 },
        { 0, EOPNOTSUPP, 0, 0, 208, 0, 1 },
        { 0, 0, 3, 7, 208, EPROTONOSUPPORT, 0 },
        { 0, EPROTONOSUPPORT, 3, 7, 208, EPROTONOSUPPORT, 0 },
        { 0, EPERM, 0, 0, 208, EPERM, 0 },
        { 8, 0, 1, 2, 208, EPROTONOSUPPORT, 0 },
        { 0, 0, 1, 2, 16, EPROTONOSUPPORT, 0 },
        { 0, 0, 1, 2, 300, EPROTONOSUPPORT, 0 },
        { 1 << 30, 0, 1, 2, 208, EPROTO, 0 },
        { 0, 0, 1, 2, 3, EPROTO, 0 },
        { 0, 0, 0, 0, 0, EPIPE, 0 },
    };
    struct fixture *f = *state;
    int listener;

    end_keeper(f);
    listener = listen_instead(f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct turbotap_keeper_hello hello = { .lowest = cases[i].lowest,
                                               .highest = cases[i].highest };
        struct turbotap_keeper *keeper = begin_connecting(f);
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        union {
            struct turbotap_keeper_msg msg;
            char octets[300];
        } u;

        memset(&u, 0, sizeof u);
        assert_int_equal(receive(client, &u.msg), 0);
        assert_int_equal(u.msg.op, TURBOTAP_KEEPER_HELLO);
        assert_int_equal(turbotap_keeper_common_version(&u.msg),
                         TURBOTAP_KEEPER_HIGHEST);
        u.msg.magic ^= cases[i].magic;
        u.msg.error = cases[i].error;
        memcpy(u.msg.data, &hello, sizeof hello);
        if (cases[i].size) {
            assert_int_equal(send(client, &u, cases[i].size, 0),
                             cases[i].size);
        } else {
            close(client);
        }
        assert_int_equal(take(keeper, TURBOTAP_KEEPER_HELLO),
                         cases[i].expected);
        assert_int_equal(turbotap_keeper_version(keeper), cases[i].version);
        turbotap_keeper_close(keeper);
        if (cases[i].size) {
            close(client);
        }
    }
    close(listener);
    assert_int_equal(unlink(f->path), 0);
}

/* A keeper of version 1, with the device of 'f' under "a" and "b", that dies
 * when it has got 'n' messages after HELLO, without an answer to the last.  If
 * 'n' is 0, it does not even answer HELLO.  Runs in a process of its own. */
static void
run_dying_keeper(const struct fixture *f, int listener, unsigned int n)
{
    const int fds_held[] = { turbotap_dev_rxq_fd(f->dev, 0),
                             turbotap_dev_txq_fd(f->dev, 0) };
    int client = accept(listener, NULL, NULL);
    struct turbotap_keeper_msg msg;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n_fds;

    for (unsigned int i = 0; ; i++) {
        bool get;

        if (turbotap_keeper_recv(client, &msg, fds, &n_fds) || i == n) {
            _exit(0);
        }
        while (n_fds) {
            close(fds[--n_fds]);
        }
        get = msg.op == TURBOTAP_KEEPER_GET;
        msg.error = 0;
        if (msg.op == TURBOTAP_KEEPER_LIST) {
            msg.error = msg.index < 2 ? 0 : ENOENT;
            snprintf(msg.key, sizeof msg.key, "%c", 'a' + (int) msg.index);
        } else if (msg.op > TURBOTAP_KEEPER_LIST) {
            msg.error = EOPNOTSUPP;
        }
        if (turbotap_keeper_send(client, &msg, get ? fds_held : NULL,
                                 get ? 2 : 0)) {
            _exit(0);
        }
    }
}

/* Starts one, and stores a connection to it in 'f'.  Returns its process
 * ID. */
static pid_t
start_dying_keeper(struct fixture *f, unsigned int n)
{
    int listener = listen_instead(f);
    pid_t pid = fork();

    if (!pid) {
        run_dying_keeper(f, listener, n);
    }
    close(listener);
    f->keeper = begin_connecting(f);
    return pid;
}

static void
wait_for_exit(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* One that dies instead of an answer is noticed, whatever was asked. */
void
test_dying_keepers(void **state)
{
    struct fixture *f = *state;
    char data[TURBOTAP_KEEPER_DATA_LEN] = { 0 };
    char key[TURBOTAP_KEEPER_KEY_LEN] = "";
    const int fd = turbotap_dev_txq_fd(f->dev, 0);
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n_fds;

    end_keeper(f);
    for (int i = 0; i < 5; i++) {
        pid_t pid = start_dying_keeper(f, i ? 1 : 0);
        int error = take(f->keeper, TURBOTAP_KEEPER_HELLO);

        switch (i) {
        case 0:
            break;
        case 1:
            error = do_put(f->keeper, "a", data, &fd, 1);
            break;
        case 2:
            error = do_get(f->keeper, "a", data, fds, &n_fds);
            assert_int_equal(n_fds, 0);
            break;
        case 3:
            error = do_remove(f->keeper, "a");
            break;
        case 4:
            error = turbotap_keeper_next(f->keeper, HOST_PATIENCE, 0, key);
            break;
        }
        assert_int_equal(error, EPIPE);
        disconnect(f);
        wait_for_exit(pid);
        assert_int_equal(unlink(f->path), 0);
    }
}

/* Handing over. */

void
test_hand_over(void **state)
{
    struct fixture *f = *state;
    struct turbotap_keeper *old;
    pid_t before, after;

    assert_int_equal(count_keepers(f, &before), 1);
    for (char i = 0; i < 10; i++) {
        const char key[] = { 'a' + i, '\0' };

        assert_int_equal(put(f, key, i), 0);
    }
    old = connect_keeper(f);
    assert_int_equal(turbotap_keeper_hand_over(&f->keeper, f->path, PROGRAM,
                                               HOST_PATIENCE), 0);
    for (char i = 0; i < 10; i++) {
        const char key[] = { 'a' + i, '\0' };

        check_holds(f, key, i);
    }

    /* The old one ends; the new one is the one that is found. */
    assert_true(host_wait_readable(turbotap_keeper_fd(old), HOST_PATIENCE));
    turbotap_keeper_close(old);
    disconnect(f);
    while (count_keepers(f, &after) != 1) {
        continue;
    }
    assert_int_not_equal(after, before);
    f->keeper = connect_keeper(f);
    assert_int_equal(turbotap_keeper_pid(f->keeper), after);
    check_holds(f, "a", 0);

    /* Without a program, all is as it was. */
    assert_int_equal(turbotap_keeper_hand_over(&f->keeper, f->path,
                                               "/no/such/program",
                                               HOST_PATIENCE), ENOENT);
    check_holds(f, "a", 0);
}

/* Whoever dies in the middle of it, there is never less than one that has all,
 * nor another one. */
void
test_dying_hand_over(void **state)
{
    struct fixture *f = *state;
    char name[128];
    pid_t pid;
    int error = EPIPE;

    /* The switch. */
    snprintf(name, sizeof name, "%s"TURBOTAP_KEEPER_FIRST, f->path);
    assert_int_equal(put(f, "a", 1), 0);
    pid = fork();
    if (!pid) {
        struct turbotap_keeper_peer peer;

        _exit(turbotap_keeper_start_second(f->path, PROGRAM, &peer));
    }
    wait_for_exit(pid);
    while (count_keepers(f, NULL) != 1 || !access(name, F_OK)) {
        continue;
    }
    check_holds(f, "a", 1);
    assert_int_equal(do_remove(f->keeper, "a"), 0);
    end_keeper(f);

    /* The old keeper, of version 1. */
    for (unsigned int n = 1; error == EPIPE; n++) {
        assert_in_range(n, 1, 100);
        pid = start_dying_keeper(f, n);
        assert_int_equal(take(f->keeper, TURBOTAP_KEEPER_HELLO), 0);
        assert_true(turbotap_keeper_is_foreign(f->keeper));
        error = turbotap_keeper_hand_over(&f->keeper, f->path, PROGRAM,
                                          HOST_PATIENCE);
        if (error) {
            assert_int_equal(error, EPIPE);
            disconnect(f);
            while (count_keepers(f, NULL) || !access(name, F_OK)) {
                continue;
            }
            assert_int_equal(unlink(f->path), 0);
        }
        wait_for_exit(pid);
    }
    assert_int_equal(error, 0);
    assert_int_equal(turbotap_keeper_version(f->keeper),
                     TURBOTAP_KEEPER_HIGHEST);
    check_holds(f, "a", 0);
    check_holds(f, "b", 0);
}

/* Users. */

/* What a switch of another user does: returns turbotap_keeper_connect()'s
 * error, or that of HELLO, or of handing over, or of what is held under "a";
 * 255 if the keeper is not 'uid' 's. */
static int
run_switch_of_nobody(struct fixture *f, uid_t uid)
{
    struct turbotap_keeper *keeper;
    char data[TURBOTAP_KEEPER_DATA_LEN];
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n_fds;
    int error;

    if (setgid(NOBODY) || setuid(NOBODY)) {
        return 254;
    }
    error = do_connect(f->path, PROGRAM, &keeper);
    if (!error && turbotap_keeper_uid(keeper) != uid) {
        error = 255;
    }
    if (!error) {
        error = turbotap_keeper_hand_over(&keeper, f->path, PROGRAM,
                                          HOST_PATIENCE);
    }
    if (!error && turbotap_keeper_is_foreign(keeper)) {
        error = 255;
    }
    return error ? error : do_get(keeper, "a", data, fds, &n_fds);
}

/* The same in a process of its own. */
static int
try_as_nobody(struct fixture *f, uid_t uid)
{
    int status;
    pid_t pid = fork();

    if (!pid) {
        _exit(run_switch_of_nobody(f, uid));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Waits for there to be one keeper, which is of user 'uid'. */
static void
wait_for_keeper_of(const struct fixture *f, uid_t uid)
{
    struct stat s = { .st_uid = uid };
    char name[64];
    pid_t pid;

    do {
        if (count_keepers(f, &pid) == 1) {
            snprintf(name, sizeof name, "/proc/%d", pid);
        } else {
            s.st_uid = -1;
            continue;
        }
    } while (stat(name, &s) || s.st_uid != uid);
}

void
test_users(void **state)
{
    struct fixture *f = *state;

    if (geteuid()) {
        skip();
    }
    assert_int_equal(put(f, "a", 1), 0);

    /* Somebody. */
    assert_int_equal(chmod(f->folder, 0755), 0);
    assert_int_equal(try_as_nobody(f, 0), EPERM);
    check_holds(f, "a", 1);

    /* Who may replace the socket, by user or by group. */
    assert_int_equal(chown(f->folder, NOBODY, NOBODY), 0);
    assert_int_equal(try_as_nobody(f, 0), 0);
    disconnect(f);
    wait_for_keeper_of(f, NOBODY);
    assert_int_equal(try_as_nobody(f, NOBODY), 0);

    /* And back: the folder is his still, or root's again. */
    f->keeper = connect_keeper(f);
    assert_int_equal(turbotap_keeper_uid(f->keeper), NOBODY);
    assert_true(turbotap_keeper_is_foreign(f->keeper));
    disconnect(f);
    assert_int_equal(chown(f->folder, 0, 0), 0);
    f->keeper = connect_keeper(f);
    assert_int_equal(turbotap_keeper_hand_over(&f->keeper, f->path, PROGRAM,
                                               HOST_PATIENCE), 0);
    assert_false(turbotap_keeper_is_foreign(f->keeper));
    check_holds(f, "a", 1);
    wait_for_keeper_of(f, 0);

    /* Root does not trust a third one's. */
    assert_int_equal(chown(f->folder, NOBODY, NOBODY), 0);
    assert_int_equal(try_as_nobody(f, 0), 0);
    disconnect(f);
    wait_for_keeper_of(f, NOBODY);
    assert_int_equal(chown(f->folder, NOBODY - 1, NOBODY), 0);
    assert_int_equal(do_connect(f->path, PROGRAM, &f->keeper), EPERM);
    assert_int_equal(chown(f->folder, 0, 0), 0);
    f->keeper = connect_keeper(f);
    assert_int_equal(turbotap_keeper_hand_over(&f->keeper, f->path, PROGRAM,
                                               HOST_PATIENCE), 0);
}
