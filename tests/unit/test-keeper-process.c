/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests turbotap-keeper as a process: that there is one, that it ends, and
 * that it does without what it cannot have.  See also test-keeper.h. */

#include <config.h>

#include "test-keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How many start at once, and how often. */
#define STARTERS 7
#define ROUNDS 60

/* For how long to look at how much CPU time the keeper takes, in ms. */
#define WHILE 500

/* Processes. */

/* Returns true if process 'pid' is a keeper at 'path'. */
static bool
is_keeper(const char *pid, const char *path)
{
    char name[64], args[256];
    size_t n = 0;
    FILE *file;

    snprintf(name, sizeof name, "/proc/%s/cmdline", pid);
    file = fopen(name, "re");
    if (file) {
        n = fread(args, 1, sizeof args - 1, file);
        fclose(file);
    }
    args[n] = '\0';
    return !strcmp(args, PROGRAM) && !strcmp(args + sizeof PROGRAM, path);
}

unsigned int
count_keepers(const struct fixture *f, pid_t *pidp)
{
    DIR *proc = opendir("/proc");
    unsigned int n = 0;
    struct dirent *d;

    assert_non_null(proc);
    while ((d = readdir(proc))) {
        if (is_keeper(d->d_name, f->path)) {
            n++;
            if (pidp) {
                *pidp = atoi(d->d_name);
            }
        }
    }
    closedir(proc);
    return n;
}

/* The current time, in ms. */
static long long int
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Waits for there to be 'n' keepers of 'f'. */
static void
wait_for_keepers(const struct fixture *f, unsigned int n)
{
    const struct timespec nap = { .tv_nsec = 1000 * 1000 };
    const long long int deadline = now_ms() + HOST_PATIENCE;

    while (count_keepers(f, NULL) != n) {
        if (now_ms() > deadline) {
            fail_msg("%u keepers, not %u", count_keepers(f, NULL), n);
        }
        nanosleep(&nap, NULL);
    }
}

void
wait_for_end(const struct fixture *f)
{
    wait_for_keepers(f, 0);
    assert_int_equal(access(f->path, F_OK), -1);
}

/* Stores the state of process 'pid', as ps(1) shows it, in '*statep'.  Returns
 * the CPU time that it has taken, in ms. */
static long long int
get_stat(pid_t pid, char *statep)
{
    unsigned long long int user, system;
    char name[64];
    FILE *file;

    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    file = fopen(name, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d (%*[^)]) %c %*d %*d %*d %*d %*d %*u "
                            "%*u %*u %*u %*u %llu %llu",
                            statep, &user, &system), 3);
    fclose(file);
    return (user + system) * 1000 / sysconf(_SC_CLK_TCK);
}

/* Waits for the keeper of 'f' to have nothing to do. */
static void
wait_for_sleep(const struct fixture *f)
{
    const long long int deadline = now_ms() + HOST_PATIENCE;
    char state = 'R';
    pid_t pid;

    assert_int_equal(count_keepers(f, &pid), 1);
    while (state != 'S') {
        get_stat(pid, &state);
        assert_in_range(now_ms(), 0, deadline);
    }
}

/* Asserts that the keeper of 'f' takes next to no CPU time while it has
 * nothing to say to 'client'. */
static void
check_idle(const struct fixture *f, const struct turbotap_keeper *client)
{
    long long int before;
    char state;
    pid_t pid;

    assert_int_equal(count_keepers(f, &pid), 1);
    before = get_stat(pid, &state);
    assert_false(host_wait_readable(turbotap_keeper_fd(client), WHILE));
    assert_in_range(get_stat(pid, &state) - before, 0, WHILE / 10);
}

/* Starting. */

/* Makes the socket of 'f', which does not listen yet.  Returns its
 * descriptor. */
static int
bind_socket(const struct fixture *f)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    strcpy(sun.sun_path, f->path);
    assert_int_equal(bind(sock, (struct sockaddr *) &sun, sizeof sun), 0);
    return sock;
}

/* One of the starters: connects when 'go' is at its end, says so through
 * 'ready', and stays until 'end' is at its end. */
static void
run_starter(struct fixture *f, int i, int go, int ready, int end)
{
    char key[] = { 'a' + i, '\0' };
    char c = 0;

    if (read(go, &c, 1) || do_connect(f->path, PROGRAM,
                                                   &f->keeper)) {
        _exit(1);
    }
    c = put(f, key, i);
    if (write(ready, &c, 1) != 1 || read(end, &c, 1)) {
        _exit(2);
    }
    _exit(0);
}

/* All who start at the same time find the same one, which ends. */
void
test_starters(void **state)
{
    struct fixture *f = *state;

    disconnect(f);
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], ready[2], end[2], status;
        char key[TURBOTAP_KEEPER_KEY_LEN];
        pid_t pids[STARTERS];

        wait_for_end(f);
        if (round % 2) {
            close(bind_socket(f));
        }
        assert_int_equal(pipe2(go, O_CLOEXEC), 0);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(end, O_CLOEXEC), 0);
        for (int i = 0; i < STARTERS; i++) {
            pids[i] = fork();
            if (!pids[i]) {
                close(go[1]);
                close(end[1]);
                run_starter(f, i, go[0], ready[1], end[0]);
            }
        }
        close(go[0]);
        close(go[1]);
        close(ready[1]);
        close(end[0]);
        for (int i = 0; i < STARTERS; i++) {
            char error;

            assert_true(host_wait_readable(ready[0], HOST_PATIENCE));
            assert_int_equal(read(ready[0], &error, 1), 1);
            assert_int_equal(error, 0);
        }

        wait_for_keepers(f, 1);
        f->keeper = connect_keeper(f);
        for (int i = 0; i < STARTERS; i++) {
            assert_int_equal(do_list(f->keeper, 0, key), 0);
            assert_int_equal(do_remove(f->keeper, key), 0);
        }
        close(ready[0]);
        close(end[1]);
        for (int i = 0; i < STARTERS; i++) {
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_int_equal(status, 0);
        }
        disconnect(f);
    }
}

/* Who has connected is served, even if the keeper was about to end. */
void
test_ends_and_starts(void **state)
{
    struct fixture *f = *state;
    char key[TURBOTAP_KEEPER_KEY_LEN];

    for (int round = 0; round < 10 * ROUNDS; round++) {
        disconnect(f);
        f->keeper = connect_keeper(f);
        assert_int_equal(do_list(f->keeper, 0, key), ENOENT);
    }
}

/* More than it serves at a time have to wait. */
void
test_many(void **state)
{
    struct fixture *f = *state;
    char key[TURBOTAP_KEEPER_KEY_LEN];
    struct turbotap_keeper *others[20];

    for (int i = 0; i < 20; i++) {
        others[i] = begin_connecting(f);
    }
    check_idle(f, others[19]);
    for (int i = 0; i < 20; i++) {
        struct turbotap_keeper_answer answer;

        assert_int_equal(turbotap_keeper_take(others[i], HOST_PATIENCE,
                                              &answer), 0);
        assert_int_equal(do_list(others[i], 0, key), ENOENT);
        turbotap_keeper_close(others[i]);
    }
}

/* Nobody takes the socket away from who is about to listen on it. */
void
test_lock(void **state)
{
    struct fixture *f = *state;
    int listener, lock, client, status, done[2];
    struct stat before, after;
    char name[128];
    pid_t pid;

    disconnect(f);
    wait_for_end(f);
    snprintf(name, sizeof name, "%s.lock", f->path);
    lock = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    listener = bind_socket(f);
    assert_int_equal(stat(f->path, &before), 0);

    assert_int_equal(pipe2(done, O_CLOEXEC), 0);
    pid = fork();
    if (!pid) {
        struct turbotap_keeper *keeper;

        _exit(turbotap_keeper_connect(f->path, PROGRAM, HOST_PATIENCE,
                                      &keeper, NULL));
    }
    close(done[1]);
    assert_false(host_wait_readable(done[0], WHILE));
    assert_int_equal(count_keepers(f, NULL), 0);
    assert_int_equal(stat(f->path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);

    /* It is the one that is found. */
    assert_int_equal(listen(listener, 1), 0);
    unlink(name);
    close(lock);
    assert_true(host_wait_readable(listener, HOST_PATIENCE));
    client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(client >= 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(client);
    close(listener);
    close(done[0]);
    assert_int_equal(unlink(f->path), 0);
}

/* Ending. */

/* Has a keeper hold something, and waits until it waits. */
static void
start_holding(struct fixture *f)
{
    if (!f->keeper) {
        f->keeper = connect_keeper(f);
    }
    assert_int_equal(put(f, "a", 1), 0);
    wait_for_sleep(f);
}

/* Waits for the keeper of 'f' to end, although it holds something. */
static void
expect_end(struct fixture *f)
{
    char key[TURBOTAP_KEEPER_KEY_LEN];

    assert_true(host_wait_readable(turbotap_keeper_fd(f->keeper),
                                   HOST_PATIENCE));
    assert_int_equal(do_list(f->keeper, 0, key), EPIPE);
    disconnect(f);
    wait_for_keepers(f, 0);
}

/* A keeper that cannot be found any more ends, but not before. */
void
test_socket_file(void **state)
{
    struct fixture *f = *state;
    char other[128];
    struct stat s;

    snprintf(other, sizeof other, "%s.other", f->path);

    start_holding(f);
    assert_int_equal(chmod(f->path, 0640), 0);
    assert_int_equal(chmod(f->path, 0600), 0);
    assert_int_equal(link(f->path, other), 0);
    assert_int_equal(unlink(other), 0);
    check_holds(f, "a", 1);
    check_idle(f, f->keeper);

    assert_int_equal(unlink(f->path), 0);
    expect_end(f);

    start_holding(f);
    assert_int_equal(rename(f->path, other), 0);
    expect_end(f);
    assert_int_equal(unlink(other), 0);

    /* It leaves alone what is there instead. */
    start_holding(f);
    assert_int_equal(mknod(other, S_IFREG | 0600, 0), 0);
    assert_int_equal(rename(other, f->path), 0);
    expect_end(f);
    assert_int_equal(stat(f->path, &s), 0);
    assert_true(S_ISREG(s.st_mode));
    assert_int_equal(unlink(f->path), 0);
}

void
test_socket_folder(void **state)
{
    struct fixture *f = *state;
    struct turbotap_keeper *keeper;
    char other[128];

    start_holding(f);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(rmdir(f->folder), 0);
    expect_end(f);
    assert_int_equal(do_connect(f->path, PROGRAM, &keeper),
                     ENOENT);
    assert_int_equal(mkdir(f->folder, 0700), 0);

    snprintf(other, sizeof other, "%s.other", f->folder);
    start_holding(f);
    assert_int_equal(rename(f->folder, other), 0);
    expect_end(f);
    assert_int_equal(rename(other, f->folder), 0);
    assert_int_equal(unlink(f->path), 0);
}

/* Root's keeper has no capability to look into a folder of another user, nor
 * to remove its socket there. */
void
test_other_folder(void **state)
{
    struct fixture *f = *state;

    disconnect(f);
    wait_for_end(f);
    assert_int_equal(chown(f->folder, NOBODY, -1), 0);
    start_holding(f);
    disconnect(f);
    f->keeper = connect_keeper(f);
    check_holds(f, "a", 1);
    assert_int_equal(do_remove(f->keeper, "a"), 0);
    disconnect(f);
    wait_for_keepers(f, 0);
    assert_int_equal(unlink(f->path), 0);
}

/* Descriptors. */

/* Has a keeper started with the limits 'soft' and 'hard', and connects to
 * it. */
static void
start_with_limits(struct fixture *f, rlim_t soft, rlim_t hard)
{
    pid_t pid;
    int status;

    disconnect(f);
    wait_for_end(f);
    pid = fork();
    if (!pid) {
        struct rlimit limit = { .rlim_cur = soft, .rlim_max = hard };

        _exit(setrlimit(RLIMIT_NOFILE, &limit)
              || do_connect(f->path, PROGRAM, &f->keeper)
              || put(f, "first", 1));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(count_keepers(f, NULL), 1);
    f->keeper = connect_keeper(f);
}

/* One that has no room for more says so, and goes on. */
void
test_full(void **state)
{
    struct fixture *f = *state;
    const int fd = turbotap_dev_txq_fd(f->dev, 0);
    char data[TURBOTAP_KEEPER_DATA_LEN] = { 0 };
    struct turbotap_keeper *first;
    char key[16];
    int error = 0;
    int n;

    start_with_limits(f, 24, 64);
    for (n = 0; !error && n < 100; n++) {
        snprintf(key, sizeof key, "%d", n);
        error = do_put(f->keeper, key, data, &fd, 1);
    }
    n--;
    assert_int_equal(error, EMFILE);

    /* It takes what it may: the hard limit. */
    assert_in_range(n, 25, 64);

    /* It serves, has room for new clients, and for what comes in the place of
     * what it holds. */
    check_holds(f, "first", 1);
    first = f->keeper;
    f->keeper = connect_keeper(f);
    check_holds(f, "first", 1);
    assert_int_equal(put(f, "first", 2), 0);
    check_holds(f, "first", 2);

    /* What it has no room for costs at most what was under the same key. */
    assert_int_equal(put(f, "0", 3), EMFILE);
    assert_int_equal(do_remove(f->keeper, "0"), ENOENT);
    assert_int_equal(do_remove(f->keeper, "1"), 0);
    assert_int_equal(put(f, "0", 3), 0);
    check_holds(f, "0", 3);
    check_holds(f, "first", 2);
    turbotap_keeper_close(first);
}

/* Nor does it burn the CPU when somebody connects whom it cannot serve. */
void
test_no_descriptor(void **state)
{
    struct fixture *f = *state;
    struct turbotap_keeper_answer answer;
    const struct rlimit none = { .rlim_cur = 4, .rlim_max = 64 };
    const struct rlimit some = { .rlim_cur = 64, .rlim_max = 64 };
    struct turbotap_keeper *other;
    char key[TURBOTAP_KEEPER_KEY_LEN];
    pid_t pid;

    assert_int_equal(put(f, "a", 1), 0);
    assert_int_equal(count_keepers(f, &pid), 1);
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &none, NULL), 0);

    other = begin_connecting(f);
    check_idle(f, other);
    check_holds(f, "a", 1);

    /* Who waits is served as soon as there is a descriptor. */
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &some, NULL), 0);
    assert_int_equal(turbotap_keeper_take(other, HOST_PATIENCE, &answer), 0);
    assert_int_equal(do_list(other, 0, key), 0);
    assert_string_equal(key, "a");
    turbotap_keeper_close(other);
}

/* A queue that gets frames which nobody reads is nothing to wake up for; the
 * end of its device is. */
void
test_attached(void **state)
{
    struct fixture *f = *state;
    const int fds[] = { turbotap_dev_rxq_fd(f->dev, 0) };
    char frame[60] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
    char data[TURBOTAP_KEEPER_DATA_LEN] = { 0 };
    char key[TURBOTAP_KEEPER_KEY_LEN];
    int host;

    assert_int_equal(do_put(f->keeper, "a", data, fds, 1), 0);
    host_set_up(TAP, true);
    host = host_open_socket(TAP, 0x88b5);
    assert_int_equal(send(host, frame, sizeof frame, 0), sizeof frame);
    close(host);
    assert_true(host_wait_readable(fds[0], HOST_PATIENCE));
    check_idle(f, f->keeper);
    assert_int_equal(do_list(f->keeper, 0, key), 0);

    /* Nobody asks anything meanwhile. */
    disconnect(f);
    host_delete(TAP);
    wait_for_end(f);
}
