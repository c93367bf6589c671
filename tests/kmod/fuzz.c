// SPDX-License-Identifier: Apache-2.0
/*
 * Random calls on everything that has to do with the module, from several
 * threads at once: 'fuzz SECONDS [SEED]'.  Knows nothing of what a call should
 * return: the kernel's own checkers are what finds a fault.
 *
 * The same seed makes the same calls in each thread, but the threads meet as
 * they do.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "ring.h"
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <linux/filter.h>
#include <linux/kcov.h>

#define N_THREADS 4
#define N_FDS 64
#define ARENA 65536             /* Octets; an unmapped page follows. */
#define FAILSLAB "/sys/kernel/debug/failslab/"
#define KCOV "/sys/kernel/debug/kcov"
#define KCOV_SIZE 4096          /* Words of a thread's trace. */
#define N_PLACES 4096           /* More than the module has, by far. */
#define N_RINGS 4               /* Areas for receive rings. */

static atomic_bool stop;
static atomic_ulong calls, successes, injected;
static _Atomic int fds[N_FDS];  /* -1 where none is open. */
static uint8_t *arena;
static bool can_fail;

/* All threads use these at once, and more than one socket may have the same. */
static struct ring rings[N_RINGS];
static struct turbotap_rx_ring ring_requests[N_RINGS];

/* Where in the module a call has been: a hash table of addresses. */
static _Atomic uint64_t places[N_PLACES];
static atomic_ulong n_places;

/* Has the kernel write down where the calling thread goes in the code that is
 * compiled for that: in the module.  Returns NULL if it cannot. */
static uint64_t *
trace_start(void)
{
    int fd = open(KCOV, O_RDWR | O_CLOEXEC);
    uint64_t *trace = NULL;

    if (fd >= 0) {
        must(ioctl(fd, KCOV_INIT_TRACE, KCOV_SIZE));
        trace = mmap(NULL, KCOV_SIZE * sizeof *trace, PROT_READ | PROT_WRITE,
                     MAP_SHARED, fd, 0);
        must(trace == MAP_FAILED ? -1 : 0);
        must(ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC));
        close(fd);              /* The mapping keeps it. */
    }
    return trace;
}

/* Adds to 'places' what is in 'trace', and empties that. */
static void
trace_take(uint64_t *trace)
{
    uint64_t n = trace ? trace[0] : 0;

    for (uint64_t i = 1; i <= n && i < KCOV_SIZE; i++) {
        uint64_t none = 0, place = trace[i];
        size_t j = (place ^ place >> 12) % N_PLACES;

        while (!atomic_compare_exchange_strong(&places[j], &none, place)
               && none != place) {
            none = 0;
            j = (j + 1) % N_PLACES;
        }
        n_places += !none;
    }
    if (n) {
        trace[0] = 0;
    }
}

/* Random numbers: splitmix64, so that a run can be repeated anywhere. */
static uint64_t
draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static bool
one_in(uint64_t *state, int n)
{
    return draw(state) % n == 0;
}

static int
any_fd(uint64_t *r)
{
    return fds[draw(r) % N_FDS];
}

/* A pointer: mostly into the arena, sometimes near its end or to nowhere. */
static void *
any_pointer(uint64_t *r)
{
    static const uintptr_t bad[] = {
        0, 1, 8, 0x7ffffffff000, 0x8000000000000000, 0xffff888000000000,
        0xffffffff81000000, -1,
    };

    switch (draw(r) % 16) {
    case 0:
        return (void *) bad[draw(r) % ARRAY_SIZE(bad)];
    case 1:
        return arena + ARENA - draw(r) % 64;
    default:
        return arena + draw(r) % (ARENA / 2);
    }
}

static size_t
any_length(uint64_t *r)
{
    switch (draw(r) % 8) {
    case 0:
        return draw(r) % 20;
    case 1:
        return draw(r) % 70000;
    case 2:
        return draw(r);
    default:
        return 14 + draw(r) % 1500;
    }
}

static int
any_flags(uint64_t *r)
{
    static const int known[] = {
        0, MSG_DONTWAIT, MSG_TRUNC, MSG_PEEK, MSG_NOSIGNAL, MSG_MORE,
        MSG_WAITALL, MSG_WAITFORONE, MSG_ERRQUEUE, MSG_OOB, MSG_ZEROCOPY,
        MSG_EOR, MSG_CMSG_CLOEXEC, 0x40000, 0x08000000,
    };
    int flags = one_in(r, 8) ? 0 : MSG_DONTWAIT;

    if (one_in(r, 4)) {
        flags |= known[draw(r) % ARRAY_SIZE(known)];
    }
    return one_in(r, 32) ? (int) draw(r) : flags;
}

/* Remembers 'fd', if it is one, in a free place; closes it if there is none. */
static long
keep(uint64_t *r, int fd)
{
    for (int i = 0; fd >= 0 && i < 4; i++) {
        int none = -1;

        if (atomic_compare_exchange_strong(&fds[draw(r) % N_FDS], &none, fd)) {
            return fd;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return fd;
}

static const char *
any_name(uint64_t *r)
{
    static const char *const names[] = { "fuzz0", "fuzz1", "fuzz2" };

    return names[draw(r) % ARRAY_SIZE(names)];
}

static long
call_open(uint64_t *r)
{
    static const int modes[] = { O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };

    return keep(r, open(one_in(r, 4) ? "/dev/net/turbotap" : "/dev/net/tun",
                        modes[draw(r) % ARRAY_SIZE(modes)] | O_CLOEXEC
                        | (one_in(r, 2) ? O_NONBLOCK : 0)));
}

static long
call_attach(uint64_t *r)
{
    static const int more[] = {
        IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_NAPI, IFF_NAPI_FRAGS,
    };
    struct ifreq ifr = { .ifr_flags = one_in(r, 4) ? IFF_TUN : IFF_TAP };

    ifr.ifr_flags |= one_in(r, 8) ? 0 : IFF_NO_PI | IFF_MULTI_QUEUE;
    if (one_in(r, 2)) {
        ifr.ifr_flags |= more[draw(r) % ARRAY_SIZE(more)];
    }
    strcpy(ifr.ifr_name, any_name(r));
    return ioctl(any_fd(r), TUNSETIFF, &ifr);
}

static long
call_socket(uint64_t *r)
{
    struct turbotap_socket request = {
        .tun_fd = any_fd(r),
        .flags = one_in(r, 16) ? draw(r) : draw(r) % 4,
    };
    int fd = open("/dev/net/turbotap", O_RDWR | O_CLOEXEC);
    int result = ioctl(fd, TURBOTAP_SOCKET, &request);

    if (fd >= 0) {
        close(fd);
    }
    return keep(r, result);
}

static long
call_ioctl(uint64_t *r)
{
    static const unsigned long requests[] = {
        TURBOTAP_SOCKET, TURBOTAP_GET_VERSION, TURBOTAP_SEND,
        TURBOTAP_RX_RING, TURBOTAP_WAKEUP, TUNSETNOCSUM, TUNSETIFF,
        TUNSETPERSIST, TUNSETOWNER, TUNSETLINK, TUNSETGROUP, TUNGETFEATURES,
        TUNSETOFFLOAD, TUNSETTXFILTER, TUNGETIFF, TUNGETSNDBUF, TUNSETSNDBUF,
        TUNATTACHFILTER, TUNDETACHFILTER, TUNGETVNETHDRSZ, TUNSETVNETHDRSZ,
        TUNSETQUEUE, TUNSETIFINDEX, TUNGETFILTER, TUNSETVNETLE, TUNGETVNETLE,
        TUNSETSTEERINGEBPF, TUNSETFILTEREBPF, TUNSETCARRIER, TUNGETDEVNETNS,
        0x541b /* FIONREAD */, 0x8933 /* SIOCGIFINDEX */, 0x5421 /* FIONBIO */,
    };
    unsigned long request = requests[draw(r) % ARRAY_SIZE(requests)];
    long result;

    if (one_in(r, 16)) {
        request = draw(r);
    }
    /* A persistent device would be left behind. */
    result = ioctl(any_fd(r), request, request == TUNSETPERSIST ? NULL
                   : one_in(r, 4) ? (void *) (draw(r) % 4) : any_pointer(r));
    if (request == TUNGETDEVNETNS && result >= 0) {
        close(result);
    }
    return result;
}

static long
call_queue(uint64_t *r)
{
    return tap_attach(any_fd(r), one_in(r, 2));
}

static long
call_message(uint64_t *r)
{
    struct iovec iovs[4];
    struct mmsghdr msgs[8];
    unsigned int n = 1 + draw(r) % ARRAY_SIZE(msgs);
    int fd = any_fd(r), flags = any_flags(r);

    for (size_t i = 0; i < ARRAY_SIZE(iovs); i++) {
        iovs[i] = (struct iovec) { any_pointer(r), any_length(r) };
    }
    for (unsigned int i = 0; i < n; i++) {
        msgs[i].msg_hdr = (struct msghdr) {
            .msg_iov = one_in(r, 32) ? any_pointer(r) : iovs,
            .msg_iovlen = 1 + draw(r) % ARRAY_SIZE(iovs),
            .msg_control = one_in(r, 4) ? any_pointer(r) : NULL,
            .msg_controllen = one_in(r, 8) ? draw(r) % 40 : 0,
            .msg_name = one_in(r, 16) ? any_pointer(r) : NULL,
            .msg_namelen = one_in(r, 16) ? draw(r) % 140 : 0,
        };
    }
    switch (draw(r) % 4) {
    case 0:
        return sendmsg(fd, &msgs[0].msg_hdr, flags);
    case 1:
        return recvmsg(fd, &msgs[0].msg_hdr, flags);
    case 2:
        return sendmmsg(fd, msgs, n, flags);
    default:
        return recvmmsg(fd, msgs, n, flags, NULL);
    }
}

static long
call_data(uint64_t *r)
{
    int fd = any_fd(r);
    void *p = any_pointer(r);
    size_t n = any_length(r);
    struct iovec iov = { p, n };

    switch (draw(r) % 6) {
    case 0:
        return send(fd, p, n, any_flags(r));
    case 1:
        return recv(fd, p, n, any_flags(r));
    case 2:
        return write(fd, p, n);
    case 3:
        return read(fd, p, n);
    case 4:
        return writev(fd, &iov, 1);
    default:
        return readv(fd, &iov, 1);
    }
}

/* Makes what is in the head of 'ring' fit to what the kernel last did, so that
 * frames flow again. */
static void
ring_repair(struct ring *ring)
{
    for (uint32_t i = 0; i < ring->entries; i++) {
        ring->fill[i] = ring->first + i % ring->n_chunks * CHUNK;
    }
    ring->rings->fill.producer = ring->rings->fill.consumer + ring->entries;
    ring->rings->rx.consumer = ring->rings->rx.producer;
}

static long
call_ring(uint64_t *r)
{
    int i = draw(r) % N_RINGS;
    struct ring *ring = &rings[i];
    struct turbotap_rx_ring request = ring_requests[i];
    uint32_t *words = (uint32_t *) ring->rings;

    switch (draw(r) % 8) {
    case 0:
    case 1:
        ring->rings->fill.consumer = 0;
        ring->rings->rx.producer = 0;
        ring_repair(ring);
        if (one_in(r, 8)) {
            ((uint32_t *) &request)[draw(r) % (sizeof request / 4)]
                = one_in(r, 2) ? draw(r) : 1u << draw(r) % 32;
        }
        return ioctl(any_fd(r), TURBOTAP_RX_RING,
                     one_in(r, 32) ? any_pointer(r) : &request);
    case 2:
    case 3:
        return ioctl(any_fd(r), TURBOTAP_WAKEUP);
    case 4:
        /* The heads and both rings are before the first chunk. */
        for (int n = draw(r) % 8; n >= 0; n--) {
            words[draw(r) % (ring->first / 4)] = one_in(r, 2) ? draw(r)
                                                 : draw(r) % 256;
        }
        return 0;
    default:
        ring_repair(ring);
        return 0;
    }
}

static long
call_vector(uint64_t *r)
{
    struct turbotap_frame frames[40];
    struct turbotap_send request = {
        .frames = (uintptr_t) (one_in(r, 16) ? any_pointer(r) : frames),
        .n = one_in(r, 16) ? draw(r) : draw(r) % ARRAY_SIZE(frames),
        .flags = one_in(r, 32) ? draw(r) : 0,
    };

    for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
        frames[i] = (struct turbotap_frame) {
            .addr = (uintptr_t) any_pointer(r), .len = any_length(r),
        };
    }
    return ioctl(any_fd(r), TURBOTAP_SEND,
                 one_in(r, 32) ? any_pointer(r) : &request);
}

static long
call_option(uint64_t *r)
{
    static const int levels[] = {
        SOL_SOCKET, SOL_SOCKET, SOL_PACKET, IPPROTO_IP, IPPROTO_TCP,
    };
    int level = levels[draw(r) % ARRAY_SIZE(levels)];
    int option = draw(r) % 90;
    socklen_t length = draw(r) % 70;

    return one_in(r, 2)
           ? setsockopt(any_fd(r), level, option, any_pointer(r), length)
           : getsockopt(any_fd(r), level, option, any_pointer(r), &length);
}

static long
call_wait(uint64_t *r)
{
    struct pollfd pfds[4];
    struct epoll_event event = { .events = draw(r) };

    switch (draw(r) % 4) {
    case 0:
        return keep(r, epoll_create1(EPOLL_CLOEXEC));
    case 1:
        return epoll_ctl(any_fd(r), 1 + draw(r) % 3, any_fd(r), &event);
    case 2:
        return epoll_wait(any_fd(r), &event, 1, 0);
    default:
        for (size_t i = 0; i < ARRAY_SIZE(pfds); i++) {
            pfds[i] = (struct pollfd) { any_fd(r), draw(r), 0 };
        }
        return poll(pfds, ARRAY_SIZE(pfds), draw(r) % 3);
    }
}

static long
call_descriptor(uint64_t *r)
{
    static const int commands[] = { F_GETFL, F_SETFL, F_GETFD, F_GETOWN };
    int fd;

    switch (draw(r) % 5) {
    case 0:
        return keep(r, fcntl(any_fd(r), F_DUPFD_CLOEXEC, 3));
    case 1:
        return fcntl(any_fd(r), commands[draw(r) % ARRAY_SIZE(commands)],
                     (int) draw(r) & (O_NONBLOCK | O_ASYNC));
    default:
        fd = atomic_exchange(&fds[draw(r) % N_FDS], -1);
        return fd >= 0 ? close(fd) : -1;
    }
}

static long
call_other(uint64_t *r)
{
    int fd = any_fd(r);
    struct sockaddr *address = any_pointer(r);
    socklen_t length = draw(r) % 140;
    char name[64];
    int pipes[2];
    long result;
    void *map;

    switch (draw(r) % 11) {
    case 0:
        return bind(fd, address, length);
    case 1:
        return connect(fd, address, length);
    case 2:
        return listen(fd, 1);
    case 3:
        return shutdown(fd, draw(r) % 4);
    case 4:
        return getsockname(fd, address, &length);
    case 5:
        return getpeername(fd, address, &length);
    case 6:
        map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return map == MAP_FAILED ? -1 : munmap(map, 4096);
    case 7:
        return keep(r, accept(fd, NULL, NULL));
    case 8:
        return sendfile(fd, any_fd(r), NULL, draw(r) % 5000);
    case 9:
        snprintf(name, sizeof name, "/proc/thread-self/fdinfo/%d", fd);
        fd = open(name, O_RDONLY | O_CLOEXEC);
        result = read(fd, name, sizeof name);
        if (fd >= 0) {
            close(fd);
        }
        return result;
    default:
        if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK)) {
            return -1;
        }
        if (write(pipes[1], arena, 64) < 0) {
            /* Then it is empty, which is as good. */
        }
        result = one_in(r, 2)
                 ? splice(pipes[0], NULL, fd, NULL, draw(r) % 128, draw(r) % 16)
                 : splice(fd, NULL, pipes[1], NULL, draw(r) % 128,
                          SPLICE_F_NONBLOCK);
        close(pipes[0]);
        close(pipes[1]);
        return result;
    }
}

static long
call_link(uint64_t *r)
{
    struct ifreq ifr = { .ifr_flags = one_in(r, 4) ? 0 : IFF_UP };

    strcpy(ifr.ifr_name, any_name(r));
    if (one_in(r, 64)) {
        return link_delete(ifr.ifr_name);
    }
    return ifreq_ioctl(SIOCSIFFLAGS, &ifr);
}

static long
call_host(uint64_t *r)
{
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(any_name(r)),
    };
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    long result = -1;

    for (int i = 0; fd >= 0 && i < 8; i++) {
        result = sendto(fd, arena, 14 + draw(r) % 1000, MSG_DONTWAIT,
                        (struct sockaddr *) &sll, sizeof sll);
    }
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

static const struct {
    long (*call)(uint64_t *random);
    int weight;
} surface[] = {
    { call_open, 6 }, { call_attach, 8 }, { call_socket, 10 },
    { call_ioctl, 8 }, { call_queue, 3 }, { call_message, 30 },
    { call_data, 20 }, { call_option, 6 }, { call_wait, 10 },
    { call_descriptor, 8 }, { call_other, 6 }, { call_link, 4 },
    { call_host, 8 }, { call_ring, 16 }, { call_vector, 10 },
};

static void *
worker(void *seed)
{
    uint64_t random = (uintptr_t) seed;
    int fail_nth = can_fail ? open("/proc/thread-self/fail-nth",
                                   O_WRONLY | O_CLOEXEC) : -1;
    uint64_t *trace = trace_start();

    while (!stop) {
        int pick = draw(&random) % 153, i = 0;
        bool inject = fail_nth >= 0 && one_in(&random, 16);
        char text[8];
        long result;

        while (pick >= surface[i].weight && i < (int) ARRAY_SIZE(surface) - 1) {
            pick -= surface[i++].weight;
        }
        if (inject) {
            snprintf(text, sizeof text, "%d", (int) (1 + draw(&random) % 12));
            injected += pwrite(fail_nth, text, strlen(text), 0) > 0;
        }
        result = surface[i].call(&random);
        if (inject && pwrite(fail_nth, "0", 1, 0) < 0) {
            injected--;
        }
        trace_take(trace);
        calls++;
        successes += result >= 0;
    }
    if (fail_nth >= 0) {
        close(fail_nth);
    }
    return NULL;
}

static void
on_signal(int signal)
{
    (void) signal;
}

int
main(int argc, char *argv[])
{
    int duration = argc > 1 ? atoi(argv[1]) : 60;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0)
                    : (uint64_t) time(NULL), state = seed;
    struct sigaction action = { .sa_handler = on_signal };
    pthread_t threads[N_THREADS];
    double start = seconds(), said = start;

    printf("# seed %llu\n", (unsigned long long) seed);
    fflush(stdout);
    can_fail = !access(FAILSLAB, F_OK);
    if (can_fail) {
        write_file(FAILSLAB "ignore-gfp-wait", "N");
        write_file(FAILSLAB "verbose", "0");
    }
    new_netns();
    must(sigaction(SIGUSR1, &action, NULL));
    signal(SIGIO, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    memset(fds, -1, sizeof fds);
    arena = mmap(NULL, ARENA + 4096, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(mprotect(arena + ARENA, 4096, PROT_NONE));
    for (int i = 0; i < ARENA; i++) {
        arena[i] = one_in(&state, 3) ? 0 : draw(&state);
    }
    for (int i = 0; i < N_RINGS; i++) {
        /* One with chunks to spare, one with too few for a large frame... */
        ring_area(&rings[i], 64 >> i, 8 << i, &ring_requests[i]);
        ring_requests[i].hdr_len = i;
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, worker,
                       (void *) (uintptr_t) (seed * N_THREADS + i));
    }

    /* No call may block for long. */
    while (seconds() - start < duration) {
        usleep(5000);
        for (int i = 0; i < N_THREADS; i++) {
            pthread_kill(threads[i], SIGUSR1);
        }
        if (seconds() - said >= 10) {
            said = seconds();
            printf("# %.0f s: %lu calls, %lu successful, %lu with a failing "
                   "allocation, %lu places in the module\n", said - start,
                   calls, successes, injected, n_places);
            fflush(stdout);
        }
    }
    stop = true;
    for (int i = 0; i < N_THREADS; i++) {
        while (pthread_tryjoin_np(threads[i], NULL)) {
            pthread_kill(threads[i], SIGUSR1);
            usleep(1000);
        }
    }
    for (int i = 0; i < N_FDS; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    ok(successes > 0, "%lu calls, %lu successful, %lu with a failing "
       "allocation, in %.0f s, seed %llu", calls, successes, injected,
       seconds() - start, (unsigned long long) seed);
    if (access(KCOV, F_OK)) {
        skip("where it has been", "this kernel has no KCOV");
    } else {
        ok(n_places > 0, "it has been at %lu places in the module", n_places);
    }
    ok(!if_nametoindex("fuzz0") && !if_nametoindex("fuzz1")
       && !if_nametoindex("fuzz2"), "no device is left");
    return done();
}
