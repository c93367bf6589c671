// SPDX-License-Identifier: Apache-2.0
/*
 * Is a turbotap socket a proper file descriptor and socket: what it says of
 * itself, what it refuses, waiting for it, passing it on, other users of it?
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"
#include <linux/sockios.h>
#include <linux/vhost.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

#define LEN 64

static const char name[] = "sock0";
static int queue, sock, host;
static uint8_t buffer[2048];

static int
get_option(int option)
{
    int value = -1;
    socklen_t length = sizeof value;

    return getsockopt(sock, SOL_SOCKET, option, &value, &length) ? -1 : value;
}

/* Is there a line with 'text' in file 'file_name'?  Puts the first into 'line'
 * (of 512 octets). */
static bool
find_line(const char *file_name, const char *text, char *line)
{
    FILE *file = fopen(file_name, "re");
    bool found = false;

    while (file && !found && fgets(line, 512, file)) {
        found = strstr(line, text) != NULL;
    }
    if (file) {
        fclose(file);
    }
    return found;
}

static void
test_identity(void)
{
    int control = must(open("/dev/net/turbotap", O_RDONLY | O_CLOEXEC));
    int other = must(turbotap_socket(queue, 0));
    char line[512], path[64];
    struct stat st;
    __u32 version = 0;
    int n = -1;

    is(ioctl(control, TURBOTAP_GET_VERSION, &version), 0, "the version");
    is(version, TURBOTAP_API_VERSION, "is the one of the header");
    fails(ioctl(control, _IO(TURBOTAP_IOC_MAGIC, 0x7f)), ENOTTY,
          "an unknown call");
    fails(ioctl(control, TUNGETFEATURES, &version), ENOTTY, "a call of tun's");
    fails(read(control, line, 1), EINVAL, "reading the device");
    must(stat("/dev/net/turbotap", &st));
    ok(S_ISCHR(st.st_mode) && (st.st_mode & 0777) == 0666,
       "the device is for everybody");
    close(control);

    must(fstat(sock, &st));
    ok(S_ISSOCK(st.st_mode), "it is a socket");
    is(get_option(SO_TYPE), SOCK_RAW, "SO_TYPE");
    is(get_option(SO_DOMAIN), AF_UNSPEC, "SO_DOMAIN");
    is(get_option(SO_PROTOCOL), 0, "SO_PROTOCOL");
    is(get_option(SO_ERROR), 0, "SO_ERROR");
    ok(fcntl(sock, F_GETFD) == FD_CLOEXEC && fcntl(sock, F_GETFL) & O_NONBLOCK,
       "TURBOTAP_CLOEXEC and TURBOTAP_NONBLOCK");
    ok(!fcntl(other, F_GETFD) && !(fcntl(other, F_GETFL) & O_NONBLOCK),
       "and neither");

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", sock);
    ok(find_line(path, "iff:\tsock0\n", line), "fdinfo names the device");
    ok(find_line("/proc/net/protocols", "TURBOTAP ", line)
       && sscanf(line, "TURBOTAP %*d %d", &n) == 1 && n == 2,
       "/proc/net/protocols counts both sockets (%d)", n);
    close(other);
    ok(find_line("/proc/net/protocols", "TURBOTAP ", line)
       && sscanf(line, "TURBOTAP %*d %d", &n) == 1 && n == 1,
       "and then one (%d)", n);
    ok(find_line("/sys/module/turbotap/version", ".", line),
       "the module has a version");
}

static void
test_refused_calls(void)
{
    struct sockaddr_in sin = { .sin_family = AF_INET };
    struct sockaddr *sa = (struct sockaddr *) &sin;
    socklen_t length = sizeof sin;
    struct ifreq ifr = { .ifr_name = "sock0" };
    int n;

    fails(bind(sock, sa, sizeof sin), EOPNOTSUPP, "bind()");
    fails(connect(sock, sa, sizeof sin), EOPNOTSUPP, "connect()");
    fails(listen(sock, 1), EOPNOTSUPP, "listen()");
    fails(accept(sock, NULL, NULL), EOPNOTSUPP, "accept()");
    fails(getsockname(sock, sa, &length), EOPNOTSUPP, "getsockname()");
    fails(getpeername(sock, sa, &length), EOPNOTSUPP, "getpeername()");
    fails(shutdown(sock, SHUT_RDWR), EOPNOTSUPP, "shutdown()");
    fails(mmap(NULL, 4096, PROT_READ, MAP_SHARED, sock, 0), ENODEV, "mmap()");
    fails(lseek(sock, 0, SEEK_SET), ESPIPE, "lseek()");
    fails(ioctl(sock, FIONREAD, &n), EOPNOTSUPP, "FIONREAD");
    fails(ioctl(sock, SIOCGIFINDEX, &ifr), EOPNOTSUPP, "SIOCGIFINDEX");
    fails(ioctl(sock, TUNGETIFF, &ifr), EOPNOTSUPP, "TUNGETIFF");
    fails(ioctl(sock, SIOCGSTAMP, buffer), ENOTTY, "SIOCGSTAMP");
    fails(getsockopt(sock, SOL_PACKET, PACKET_VERSION, &n, &length),
          EOPNOTSUPP, "an option of packet sockets");
    fails(setsockopt(sock, SOL_PACKET, PACKET_VERSION, &n, sizeof n),
          EOPNOTSUPP, "setting one");
    fails(setsockopt(sock, IPPROTO_TCP, 31 /* TCP_ULP */, "tls", 3),
          EOPNOTSUPP, "an option of TCP");
}

static void
test_options(void)
{
    static const struct {
        int option;
        const char *name;
    } options[] = {
        { SO_RCVTIMEO, "SO_RCVTIMEO" }, { SO_SNDTIMEO, "SO_SNDTIMEO" },
        { SO_RCVBUF, "SO_RCVBUF" }, { SO_SNDBUF, "SO_SNDBUF" },
        { SO_RCVBUFFORCE, "SO_RCVBUFFORCE" },
        { SO_TIMESTAMP, "SO_TIMESTAMP" }, { SO_MARK, "SO_MARK" },
        { SO_PRIORITY, "SO_PRIORITY" }, { SO_BUSY_POLL, "SO_BUSY_POLL" },
        { SO_ATTACH_FILTER, "SO_ATTACH_FILTER" },
        { SO_BINDTODEVICE, "SO_BINDTODEVICE" }, { SO_RCVLOWAT, "SO_RCVLOWAT" },
        { SO_ZEROCOPY, "SO_ZEROCOPY" }, { SO_PEEK_OFF, "SO_PEEK_OFF" },
    };
    int on = 1, major = 0, minor = 0;
    struct utsname names;

    must(uname(&names));
    sscanf(names.release, "%d.%d", &major, &minor);
    if (!setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on)
        && (major < 6 || (major == 6 && minor < 7))) {
        skip("socket options are refused",
             "before 6.7, a module cannot do that");
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        char value[32] = { 1 };

        fails(setsockopt(sock, SOL_SOCKET, options[i].option, value,
                         sizeof value), EOPNOTSUPP, "%s", options[i].name);
    }
}

static void
test_splice(void)
{
    int pipes[2], memfd = must(memfd_create("frames", 0));

    must(pipe(pipes));
    make_frame(buffer, LEN, 0);
    must(write(pipes[1], buffer, LEN));
    must(write(memfd, buffer, LEN));
    must(lseek(memfd, 0, SEEK_SET));
    host_sends(host, LEN, 5, 1);

    fails(splice(sock, NULL, pipes[1], NULL, LEN, SPLICE_F_NONBLOCK), EINVAL,
          "splice() from it");
    fails(splice(pipes[0], NULL, sock, NULL, LEN, 0), EINVAL,
          "splice() to it");
    fails(splice(pipes[0], NULL, sock, NULL, LEN, SPLICE_F_MORE), EINVAL,
          "splice() to it with SPLICE_F_MORE");
    fails(syscall(SYS_sendfile, sock, memfd, NULL, LEN), EINVAL,
          "sendfile() to it");
    is(host_receives(host, LEN, 0), 0, "nothing of it arrives");
    is(recv(sock, buffer, LEN, 0), LEN, "and the frame is still there");
    close(pipes[0]);
    close(pipes[1]);
    close(memfd);
}

/* Ways to wait for a frame, each in a thread of its own. */
enum how {
    BY_RECV, BY_RECVMSG, BY_RECVMMSG, BY_READ, BY_POLL, BY_SELECT, BY_EPOLL,
    BY_EPOLL_EDGE, N_HOW
};

struct waiter {
    enum how how;
    int fd;
    volatile pid_t tid;
    long result;
};

static void *
wait_for_frame(void *waiter_)
{
    struct waiter *w = waiter_;
    struct pollfd pfd = { .fd = w->fd, .events = POLLIN };
    struct epoll_event event = { .events = EPOLLIN };
    struct iovec iov = { buffer, sizeof buffer };
    struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
    int epoll = must(epoll_create1(EPOLL_CLOEXEC));
    fd_set fds;

    FD_ZERO(&fds);
    FD_SET(w->fd, &fds);
    if (w->how == BY_EPOLL_EDGE) {
        event.events |= EPOLLET;
    }
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, w->fd, &event));
    w->tid = gettid();
    switch (w->how) {
    case BY_RECV:
        w->result = recv(w->fd, buffer, sizeof buffer, 0) == LEN;
        break;
    case BY_RECVMSG:
        w->result = recvmsg(w->fd, &m.msg_hdr, 0) == LEN;
        break;
    case BY_RECVMMSG:
        w->result = recvmmsg(w->fd, &m, 1, MSG_WAITFORONE, NULL);
        break;
    case BY_READ:
        w->result = read(w->fd, buffer, sizeof buffer) == LEN;
        break;
    case BY_POLL:
        w->result = poll(&pfd, 1, -1) == 1 && pfd.revents == POLLIN;
        break;
    case BY_SELECT:
        w->result = select(w->fd + 1, &fds, NULL, NULL, NULL);
        break;
    case BY_EPOLL:
    case BY_EPOLL_EDGE:
        w->result = epoll_wait(epoll, &event, 1, -1) == 1
                    && event.events == EPOLLIN;
        break;
    case N_HOW:
        break;
    }
    close(epoll);
    return NULL;
}

static void
on_signal(int signal)
{
    (void) signal;
}

static void
test_waiting(void)
{
    static const char *const names[] = {
        "recv()", "recvmsg()", "recvmmsg()", "read()", "poll()", "select()",
        "epoll", "epoll, edge-triggered",
    };
    int blocking = must(turbotap_socket(queue, 0));
    struct pollfd pfd = { .fd = sock, .events = POLLIN | POLLOUT };
    struct sigaction action = { .sa_handler = on_signal };
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    int epoll = must(epoll_create1(EPOLL_CLOEXEC));
    pthread_t thread;

    for (enum how how = 0; how < N_HOW; how++) {
        struct waiter w = { .how = how, .fd = blocking };

        pthread_create(&thread, NULL, wait_for_frame, &w);
        while (!w.tid) {
            sched_yield();
        }
        wait_until_blocked(w.tid);
        host_sends(host, LEN, 0, 1);
        pthread_join(thread, NULL);
        is(w.result, 1, "a frame wakes %s", names[how]);
        while (recv(sock, buffer, LEN, 0) >= 0) {
            continue;
        }
    }

    must(sigaction(SIGUSR1, &action, NULL));
    for (enum how how = BY_RECV; how <= BY_READ; how++) {
        struct waiter w = { .how = how, .fd = blocking };

        pthread_create(&thread, NULL, wait_for_frame, &w);
        while (!w.tid) {
            sched_yield();
        }
        wait_until_blocked(w.tid);
        pthread_kill(thread, SIGUSR1);
        pthread_join(thread, NULL);
        ok(w.result != 1, "a signal ends %s", names[how]);
    }

    ok(poll(&pfd, 1, 0) == 1 && pfd.revents == POLLOUT, "poll(): idle");
    host_sends(host, LEN, 0, 2);
    ok(poll(&pfd, 1, 0) == 1 && pfd.revents == (POLLIN | POLLOUT),
       "poll(): a frame");

    must(epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &event));
    is(epoll_wait(epoll, &event, 1, 0), 1, "edge: once for what was there");
    is(epoll_wait(epoll, &event, 1, 0), 0, "not twice");
    host_sends(host, LEN, 0, 1);
    is(epoll_wait(epoll, &event, 1, 0), 1, "again for the next frame");
    while (recv(sock, buffer, LEN, 0) >= 0) {
        continue;
    }
    close(epoll);
    close(blocking);
}

static int
use_socket(void *fd)
{
    make_frame(buffer, LEN, 3);
    return send(*(int *) fd, buffer, LEN, 0) != LEN;
}

static int
use_passed_socket(void *channel)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = { &byte, 1 };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control,
    };
    int fd;

    close(sock);
    must(recvmsg(*(int *) channel, &msg, 0));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return use_socket(&fd);
}

static void
test_passing(void)
{
    int copy = must(dup(sock)), pair[2];
    char byte = 0, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = { &byte, 1 };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control,
    };
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    pid_t child;

    is(use_socket(&copy), 0, "a dup() sends");
    is(host_receives(host, LEN, 3), 1, "which arrives");
    close(copy);
    is(end_child(start_child(use_socket, &sock)), 0, "after fork() it sends");
    is(host_receives(host, LEN, 3), 1, "which arrives");

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    child = start_child(use_passed_socket, &pair[1]);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &sock, sizeof sock);
    must(sendmsg(pair[0], &msg, 0));
    is(end_child(child), 0, "passed by SCM_RIGHTS it sends");
    is(host_receives(host, LEN, 3), 1, "which arrives");

    /* In flight when the channel is closed. */
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    copy = must(turbotap_socket(queue, 0));
    memcpy(CMSG_DATA(cmsg), &copy, sizeof copy);
    must(sendmsg(pair[0], &msg, 0));
    close(copy);
    close(pair[0]);
    is(close(pair[1]), 0, "never received");
}

static void
test_vhost(void)
{
    int vhost = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    struct vhost_vring_file backend = { .index = 0, .fd = sock };
    struct {
        struct vhost_memory memory;
        struct vhost_memory_region regions[1];
    } table = {
        .memory = { .nregions = 1 },
        .regions = { { .guest_phys_addr = (uintptr_t) buffer,
                       .memory_size = 4096,
                       .userspace_addr = (uintptr_t) buffer } },
    };
    static uint8_t ring[3 * 4096] __attribute__((aligned(4096)));
    struct vhost_vring_state n = { .index = 0, .num = 2 };
    struct vhost_vring_addr address = {
        .index = 0,
        .desc_user_addr = (uintptr_t) ring,
        .avail_user_addr = (uintptr_t) ring + 4096,
        .used_user_addr = (uintptr_t) ring + 8192,
    };

    if (vhost < 0) {
        skip("vhost-net refuses it", "this kernel has no vhost-net");
        return;
    }
    must(ioctl(vhost, VHOST_SET_OWNER, NULL));
    must(ioctl(vhost, VHOST_SET_MEM_TABLE, &table));
    must(ioctl(vhost, VHOST_SET_VRING_NUM, &n));
    must(ioctl(vhost, VHOST_SET_VRING_ADDR, &address));
    fails(ioctl(vhost, VHOST_NET_SET_BACKEND, &backend), ENOTSOCK,
          "vhost-net refuses it");
    backend.fd = queue;
    is(ioctl(vhost, VHOST_NET_SET_BACKEND, &backend), 0,
       "and takes the queue's own fd");
    close(vhost);
}

/* As many system calls of a 32-bit program as matter, made through the gate
 * for those, with all that they point to below 4 GiB. */
static long
compat_call(long number, long a, long b, long c, long d, long e)
{
    long result;

    asm volatile("int $0x80"
                 : "=a" (result)
                 : "a" (number), "b" (a), "c" (b), "d" (c), "S" (d), "D" (e)
                 : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void
test_compat(void)
{
    enum { IOCTL_32 = 54, SENDMMSG_32 = 345, RECVMMSG_TIME64_32 = 417 };
    struct low {
        struct turbotap_socket request;
        __u32 version;
        struct mmsghdr_32 {
            uint32_t name, namelen, iov, iovlen, control, controllen, flags;
            uint32_t len;
        } msgs[4];
        struct { uint32_t base, len; } iovs[4];
        uint8_t data[4][LEN];
    } *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    int control = must(open("/dev/net/turbotap", O_RDWR | O_CLOEXEC));
    bool same = true;
    int fd;

    is(compat_call(IOCTL_32, control, TURBOTAP_GET_VERSION,
                   (uintptr_t) &low->version, 0, 0), 0, "32 bits: version");
    is(low->version, TURBOTAP_API_VERSION, "the same");
    low->request.tun_fd = queue;
    low->request.flags = TURBOTAP_NONBLOCK;
    fd = compat_call(IOCTL_32, control, TURBOTAP_SOCKET,
                     (uintptr_t) &low->request, 0, 0);
    ok(fd >= 0, "32 bits: a socket (%d)", fd);

    for (int i = 0; i < 4; i++) {
        low->iovs[i].base = (uintptr_t) low->data[i];
        low->iovs[i].len = LEN;
        low->msgs[i].iov = (uintptr_t) &low->iovs[i];
        low->msgs[i].iovlen = 1;
        /* The attack, as a 32-bit program would make it. */
        low->msgs[i].control = (uintptr_t) low->data[i];
        make_frame(low->data[i], LEN, i);
    }
    is(compat_call(SENDMMSG_32, fd, (uintptr_t) low->msgs, 4, 0, 0), 4,
       "32 bits: sendmmsg(), control data of length 0");
    is(host_receives(host, LEN, 0), 4, "arrives");
    low->msgs[0].controllen = 16;
    is(compat_call(SENDMMSG_32, fd, (uintptr_t) low->msgs, 4, 0, 0), -EINVAL,
       "32 bits: control data is refused");
    host_sends(host, LEN, 10, 4);
    is(compat_call(RECVMMSG_TIME64_32, fd, (uintptr_t) low->msgs, 4, 0, 0), 4,
       "32 bits: recvmmsg()");
    for (int i = 0; i < 4; i++) {
        same &= low->msgs[i].len == LEN
                && frame_is(low->data[i], LEN, 10 + i);
    }
    ok(same, "its content");
    close(fd);
    close(control);
    munmap(low, 4096);
}

/* As much as /dev/net/tun allows: a namespace's own root may have taps there,
 * and nobody may have any elsewhere. */
static int
in_user_namespace(void *unused)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    int q, s;

    (void) unused;
    must(setresuid(65534, 65534, 65534));
    q = must(open("/dev/net/tun", O_RDWR));
    strcpy(ifr.ifr_name, "user0");
    if (ioctl(q, TUNSETIFF, &ifr) != -1) {
        return 1;
    }
    must(unshare(CLONE_NEWUSER | CLONE_NEWNET));
    close(q);
    q = must(open("/dev/net/tun", O_RDWR));
    if (ioctl(q, TUNSETIFF, &ifr)) {
        return 2;
    }
    s = turbotap_socket(q, TURBOTAP_NONBLOCK);
    if (s < 0) {
        return 3;
    }
    link_set("user0", true);
    make_frame(buffer, LEN, 3);
    return send(s, buffer, LEN, 0) == LEN ? 0 : 4;
}

static void
test_user_namespace(void)
{
    struct stat st;

    must(stat("/dev/net/tun", &st));
    must(chmod("/dev/net/tun", 0666));      /* As udev does. */
    is(end_child(start_child(in_user_namespace, NULL)), 0,
       "as nobody in a user namespace, as far as /dev/net/tun goes");
    must(chmod("/dev/net/tun", st.st_mode & 0777));
}

/* Puts the label that Smack has for what 'fd' receives into 'label'. */
static void
get_label(int fd, char label[64])
{
    ssize_t n = fgetxattr(fd, "security.SMACK64IPIN", label, 63);

    label[n < 0 ? 0 : n] = '\0';
}

/* A socket is labelled as the queue it is for, whoever makes it. */
static void
test_label(void)
{
    static const char current[] = "/proc/thread-self/attr/smack/current";
    char ours[64], theirs[64];
    int q, s;

    if (access(current, F_OK)) {
        skip("its security label", "this kernel has no Smack");
        return;
    }
    get_label(sock, ours);
    write_file(current, "Other");
    q = must(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    write_file(current, ours);
    s = must(turbotap_socket(q, 0));
    get_label(s, theirs);
    ok(ours[0] && !strcmp(theirs, "Other"),
       "its label is that of the queue, \"%s\", not ours, \"%s\"", theirs, ours);
    close(s);
    close(q);
}

int
main(void)
{
    new_netns();
    queue = tap_queue(name, 0);
    link_set(name, true);
    sock = must(turbotap_socket(queue, TURBOTAP_NONBLOCK | TURBOTAP_CLOEXEC));
    host = host_socket(name, ETH_TYPE);

    test_identity();
    test_refused_calls();
    test_options();
    test_splice();
    test_waiting();
    test_passing();
    test_vhost();
    test_compat();
    test_user_namespace();
    test_label();
    return done();
}
