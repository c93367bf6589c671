/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Whether the io_uring class can serve, and why not. */

#include <config.h>

#include "test-uring.h"

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the kernel is to be made to look like. */
enum kernel {
    SOUND,
    NO_BUFFER,                  /* Does not say which buffer it used. */
    NO_MORE,                    /* Reads one record only. */
    NO_RETRY,                   /* Leaves the second record waiting. */
};
static enum kernel kernel = SOUND;

/* Takes the place of liburing's. */
int
io_uring_wait_cqes(struct io_uring *ring, struct io_uring_cqe **cqe,
                   unsigned int n, struct __kernel_timespec *timeout,
                   sigset_t *sigmask)
{
    int (*real)(struct io_uring *, struct io_uring_cqe **, unsigned int,
                struct __kernel_timespec *, sigset_t *);
    int error;

    *(void **) &real = dlsym(RTLD_NEXT, "io_uring_wait_cqes");
    error = real(ring, cqe, n, timeout, sigmask);
    if (kernel == NO_BUFFER) {
        (*cqe)->flags &= IORING_CQE_F_MORE;
    } else if (kernel == NO_MORE) {
        (*cqe)->flags &= ~IORING_CQE_F_MORE;
    } else if (kernel == NO_RETRY) {
        error = -ETIME;
    }
    return error;
}

/* Asserts that in a process whose system call 'nr' fails with 'error', and
 * where io_uring_disabled reads as 'sysctl' unless that is null, the probe of
 * 'fd' fails with exactly 'reason', or succeeds if 'reason' is null. */
static void
check_probe(int fd, int nr, int error, const char *sysctl, const char *reason)
{
    char why[TURBOTAP_REASON_LEN] = "";
    int pipe_fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        bool served;

        if (sysctl) {
            char path[] = "/tmp/test-uring.XXXXXX";
            int sysctl_fd = mkstemp(path);

            if (unshare(CLONE_NEWNS)
                || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)
                || write(sysctl_fd, sysctl, strlen(sysctl)) < 0
                || mount(path, "/proc/sys/kernel/io_uring_disabled", NULL,
                         MS_BIND, NULL)
                || unlink(path)) {
                _exit(99);
            }
        }
        forbid_syscall(nr, error);
        served = turbotap_io_uring.probe(fd, why, sizeof why);
        if (write(pipe_fds[1], why, sizeof why) < 0) {
            _exit(99);
        }
        _exit(served ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(read(pipe_fds[0], why, sizeof why), sizeof why);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), reason ? 1 : 0);
    if (reason) {
        assert_string_equal(why, reason);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* The tests. */

void
test_probe_leaves_no_trace(void **state)
{
    char reason[TURBOTAP_REASON_LEN];
    struct frame frame;
    struct fixture f;
    int fd;

    (void) state;
    fixture_open(&f);
    turbotap_queue_close(f.rx);
    f.rx = NULL;

    fd = turbotap_dev_rxq_fd(f.dev, 0);
    host_send(&f, 2);
    for (int i = 0; i < 50; i++) {
        assert_true(turbotap_io_uring.probe(fd, reason, sizeof reason));
    }

    /* No frame was taken, nor one sent. */
    for (uint64_t seq = 0; seq < 2; seq++) {
        assert_int_equal(read(fd, &frame, sizeof frame), sizeof frame);
        assert_int_equal(frame.seq, seq);
    }
    assert_int_equal(read(fd, &frame, sizeof frame), -1);
    assert_int_equal(recv(f.host, &frame, sizeof frame, 0), -1);
    assert_int_equal(errno, EAGAIN);
    fixture_close(&f);
}

void
test_probe_refuses(void **state)
{
    char reason[TURBOTAP_REASON_LEN];
    struct fixture f;
    int socks[2];
    char c;

    (void) state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0,
                                socks), 0);
    assert_false(turbotap_io_uring.probe(socks[0], reason, sizeof reason));
    assert_string_equal(reason, "not a tap queue");
    assert_int_equal(recv(socks[1], &c, 1, 0), -1);
    close(socks[0]);
    close(socks[1]);

    fixture_open(&f);
    host_delete(TAP);
    assert_false(turbotap_io_uring.probe(turbotap_dev_rxq_fd(f.dev, 0),
                                         reason, sizeof reason));
    assert_string_equal(reason, "not a tap queue");
    fixture_close(&f);
}

void
test_probe_says_why(void **state)
{
    static const char too_old[] =
        "this kernel's io_uring is too old (6.7 or later is needed)";
    struct fixture f;
    int fd;

    (void) state;
    fixture_open(&f);
    fd = turbotap_dev_rxq_fd(f.dev, 0);

    check_probe(fd, SYS_kexec_load, EPERM, NULL, NULL);
    check_probe(fd, SYS_io_uring_setup, ENOSYS, NULL,
                "this kernel has no io_uring");
    check_probe(fd, SYS_io_uring_setup, EINVAL, NULL, too_old);
    check_probe(fd, SYS_io_uring_setup, ENOMEM, NULL,
                "no memory for a ring (see RLIMIT_MEMLOCK)");
    check_probe(fd, SYS_io_uring_setup, EMFILE, NULL,
                "no ring: Too many open files");
    check_probe(fd, SYS_io_uring_setup, EPERM, "0\n",
                "this process may not use io_uring (a seccomp filter?)");
    check_probe(fd, SYS_io_uring_setup, EPERM, "2\n",
                "disabled by sysctl kernel.io_uring_disabled=2");
    check_probe(fd, SYS_io_uring_register, EINVAL, NULL,
                "this kernel's io_uring has no multishot read "
                "(6.7 or later is needed)");
    check_probe(fd, SYS_pipe2, EMFILE, NULL,
                "could not try a multishot read: Too many open files");
    check_probe(fd, SYS_pwritev2, EOPNOTSUPP, NULL,
                "this kernel's tun driver cannot do non-blocking I/O "
                "(6.4 or later is needed)");
    fixture_close(&f);
}

/* Runs 'function' in a process that has not probed before, on a kernel like
 * 'like'. */
static void
run_in_child(void (*function)(void), enum kernel like)
{
    int status;
    pid_t pid;

    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        kernel = like;
        function();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
probe_broken_kernel(void)
{
    for (int i = 0; i < 2; i++) {
        char reason[TURBOTAP_REASON_LEN];

        if (turbotap_io_uring.probe(-1, reason, sizeof reason)
            || strcmp(reason,
                      "this kernel's io_uring multishot read is broken")) {
            _exit(1);
        }
        kernel = SOUND;         /* Nobody asks again. */
    }
}

void
test_probe_finds_it_broken(void **state)
{
    (void) state;
    for (enum kernel like = NO_BUFFER; like <= NO_RETRY; like++) {
        run_in_child(probe_broken_kernel, like);
    }
}

/* Probes with more and more descriptors, until there are enough, and then
 * again with those that the ring alone needs. */
static void
probe_with_few_fds(void)
{
    char reason[TURBOTAP_REASON_LEN];
    struct rlimit limit;
    int lowest = dup(0);

    close(lowest);
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int n = 0; n < 5; n++) {
        limit.rlim_cur = lowest + (n < 4 ? n : 1);
        if (setrlimit(RLIMIT_NOFILE, &limit)
            || turbotap_io_uring.probe(-1, reason, sizeof reason) != (n > 2)
            || (n <= 2 && !strstr(reason, "Too many open files"))) {
            _exit(1);
        }
    }
}

/* What may pass is not kept in mind, what is the kernel's is. */
void
test_probe_tries_again(void **state)
{
    (void) state;
    run_in_child(probe_with_few_fds, SOUND);
}
