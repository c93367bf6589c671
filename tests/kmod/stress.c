// SPDX-License-Identifier: Apache-2.0
/*
 * Everything at once: threads send, receive and wait while others close and
 * open the descriptors, detach and attach the queues, take the link down and
 * delete the device.  'stress SECONDS [SEED]'.  What counts is that the kernel
 * has nothing to say and that nothing is left behind.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "ring.h"
#include <stdatomic.h>
#include <sys/epoll.h>

#define LEN 64
#define N_QUEUES 4
#define N_SOCKETS 3             /* Of each queue. */

static const char name[] = "stress0";
static atomic_bool stop;
static unsigned int seed;

/* Descriptors, -1 where none is open.  A thread may use one that another
 * closes at the same time; only who takes it out of here may close it. */
static _Atomic int queues[N_QUEUES];
static _Atomic int sockets[N_QUEUES][N_SOCKETS];

enum work {
    SEND, RECEIVE, RECEIVE_BLOCKING, POLL, EPOLL, CLOSE, OPEN, ATTACH, DELETE,
    HOST, RING, N_WORK
};
static const char *const work_names[N_WORK] = {
    "send", "receive", "receive, blocking", "poll", "epoll", "close", "open",
    "attach", "delete", "host", "ring",
};
static atomic_ulong tried[N_WORK], worked[N_WORK];

static int
any_socket(unsigned int *random)
{
    return sockets[rand_r(random) % N_QUEUES][rand_r(random) % N_SOCKETS];
}

static int
n_sockets(void)
{
    int n = 0;

    for (int i = 0; i < N_QUEUES * N_SOCKETS; i++) {
        n += sockets[i / N_SOCKETS][i % N_SOCKETS] >= 0;
    }
    return n;
}

/* Makes 'fd' a queue of the device.  Returns false if it is one already. */
static bool
attach_queue(int fd)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE };
    struct pollfd pfd = { .fd = fd };

    /* TUNSETIFF would know, but waits for others who change devices. */
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLERR)) {
        return false;
    }
    strcpy(ifr.ifr_name, name);
    return !ioctl(fd, TUNSETIFF, &ifr);
}

/* Puts 'fd' where none is; closes it if there is one by now. */
static void
put(_Atomic int *place, int fd)
{
    int none = -1;

    if (fd >= 0 && !atomic_compare_exchange_strong(place, &none, fd)) {
        close(fd);
    }
}

static bool
link_up(bool up)
{
    struct ifreq ifr = { .ifr_flags = up ? IFF_UP : 0 };

    strcpy(ifr.ifr_name, name);
    return !ifreq_ioctl(SIOCSIFFLAGS, &ifr);
}

/* Opens a host's socket if 'host' is -1 and the device exists. */
static int
open_host(int host)
{
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name),
    };

    if (host < 0 && sll.sll_ifindex) {
        host = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        if (host >= 0 && bind(host, (struct sockaddr *) &sll, sizeof sll)) {
            close(host);
            host = -1;
        }
    }
    return host;
}

/* Gives 'fd' a ring, if it is a socket of a queue that has none, and takes
 * frames out of it for a moment.  Then there is nobody to do so any more, until
 * the socket is closed.  Returns whether there were frames. */
static bool
use_ring(int fd, unsigned int *random)
{
    struct turbotap_rx_ring request;
    static uint8_t frame[MAX_FRAME];
    double end = seconds() + rand_r(random) % 100 / 1000.0;
    struct ring ring;
    bool found = false;

    ring_area(&ring, 64, 8 + rand_r(random) % 50, &request);
    for (uint32_t i = 0; i < ring.n_chunks; i++) {
        ring_fill(&ring, ring.first + i * CHUNK);
    }
    if (!ioctl(fd, TURBOTAP_RX_RING, &request)) {
        while (seconds() < end && !stop) {
            if (ring_take(&ring, frame, false) > 0) {
                found = true;
            } else if (ring_wants_wakeup(&ring)) {
                ioctl(fd, TURBOTAP_WAKEUP);
            }
        }
    } else {
        usleep(1000);
    }
    munmap(ring.area, ring.size);
    return found;
}

/* Does one piece of 'work'; returns whether it came to something. */
static bool
do_work(enum work work, unsigned int *random, struct batch *batch, int epoll,
        int *host, bool *closing)
{
    int n = 1 + rand_r(random) % MAX_BATCH, fd = any_socket(random), i, j;
    struct pollfd pfds[N_QUEUES * N_SOCKETS];
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT };
    uint8_t frame[LEN];
    double start;
    bool done;

    switch (work) {
    case SEND:
        batch_init(batch, LEN);
        for (i = 0; i < n; i++) {
            make_frame(batch->data[i], LEN, i);
        }
        return sendmmsg(fd, batch->msgs, n,
                        rand_r(random) % 2 ? MSG_DONTWAIT : 0) > 0;

    case RECEIVE:
        batch_init(batch, 2048);
        return recvmmsg(fd, batch->msgs, n, MSG_DONTWAIT, NULL) > 0;

    case RECEIVE_BLOCKING:
        batch_init(batch, 2048);
        return recvmmsg(fd, batch->msgs, n, MSG_WAITFORONE, NULL) > 0;

    case POLL:
        for (i = 0; i < N_QUEUES * N_SOCKETS; i++) {
            pfds[i] = (struct pollfd) {
                .fd = sockets[i / N_SOCKETS][i % N_SOCKETS], .events = POLLIN,
            };
        }
        return poll(pfds, ARRAY_SIZE(pfds), rand_r(random) % 10) > 0;

    case EPOLL:
        event.events |= rand_r(random) % 2 ? EPOLLET : EPOLLONESHOT;
        epoll_ctl(epoll, rand_r(random) % 2 ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
                  fd, &event);
        return epoll_wait(epoll, &event, 1, rand_r(random) % 10) > 0;

    case CLOSE:
        usleep(1000);
        /* Where opening is slow, the others would have nothing to do if this
         * closed one at a time. */
        if (n_sockets() >= N_QUEUES * N_SOCKETS / 2) {
            *closing = true;
        } else if (!n_sockets() || rand_r(random) % 8 == 0) {
            *closing = false;
        }
        if (!*closing) {
            return false;
        }
        i = rand_r(random) % N_QUEUES;
        j = rand_r(random) % (N_SOCKETS + 1);
        fd = atomic_exchange(j == N_SOCKETS ? &queues[i] : &sockets[i][j], -1);
        return fd >= 0 && !close(fd);

    case OPEN:
        i = rand_r(random) % N_QUEUES;
        if (queues[i] < 0) {
            put(&queues[i], open("/dev/net/tun",
                                 O_RDWR | O_CLOEXEC | O_NONBLOCK));
        }
        if (attach_queue(queues[i])) {
            link_up(true);
        }
        for (j = 0, fd = -1; j < N_SOCKETS; j++) {
            if (sockets[i][j] < 0) {
                fd = turbotap_socket(queues[i], rand_r(random) % 4);
                put(&sockets[i][j], fd);
            }
        }
        return fd >= 0;

    case ATTACH:
        return !tap_attach(queues[rand_r(random) % N_QUEUES],
                           rand_r(random) % 2);

    case DELETE:
        /* Everybody waits for this, so it has a fifth of the time at most. */
        start = seconds();
        done = rand_r(random) % 8 ? link_up(rand_r(random) % 4)
               : !link_delete(name);
        usleep(20000 + 4e6 * (seconds() - start));
        return done;

    case HOST:
        *host = open_host(*host);
        make_frame(frame, LEN, n);
        for (i = 0; i < n && *host >= 0; i++) {
            if (send(*host, frame, LEN, MSG_DONTWAIT) < 0 && errno == ENXIO) {
                close(*host);
                *host = -1;
            }
        }
        return *host >= 0;

    case RING:
        return use_ring(fd, random);

    case N_WORK:
        break;
    }
    return false;
}

static void *
worker(void *work_)
{
    enum work work = (enum work) (intptr_t) work_;
    unsigned int random = seed + work;
    struct batch *batch = malloc(sizeof *batch);
    int epoll = must(epoll_create1(EPOLL_CLOEXEC)), host = -1;
    bool closing = false;

    while (!stop) {
        tried[work]++;
        worked[work] += do_work(work, &random, batch, epoll, &host,
                                &closing);
    }
    close(epoll);
    if (host >= 0) {
        close(host);
    }
    free(batch);
    return NULL;
}

static void
on_signal(int signal)
{
    (void) signal;
}

static void
close_all(void)
{
    for (int i = 0; i < N_QUEUES; i++) {
        for (int j = 0; j <= N_SOCKETS; j++) {
            int fd = atomic_exchange(j == N_SOCKETS ? &queues[i]
                                     : &sockets[i][j], -1);

            if (fd >= 0) {
                close(fd);
            }
        }
    }
}

int
main(int argc, char *argv[])
{
    int duration = argc > 1 ? atoi(argv[1]) : 60, before = references();
    struct sigaction action = { .sa_handler = on_signal };
    pthread_t threads[N_WORK];
    double start = seconds();

    seed = argc > 2 ? strtoul(argv[2], NULL, 0) : (unsigned int) time(NULL);
    printf("# seed %u\n", seed);
    new_netns();
    must(sigaction(SIGUSR1, &action, NULL));
    memset(queues, -1, sizeof queues);
    memset(sockets, -1, sizeof sockets);
    for (intptr_t i = 0; i < N_WORK; i++) {
        pthread_create(&threads[i], NULL, worker, (void *) i);
    }
    for (int i = 1; i <= duration; i++) {
        sleep(1);
        if (i % 10 == 0 || i == duration) {
            printf("# %d s:", i);
            for (int j = 0; j < N_WORK; j++) {
                printf(" %s %lu/%lu", work_names[j], worked[j], tried[j]);
            }
            printf("\n");
            fflush(stdout);
        }
    }

    stop = true;
    for (int i = 0; i < N_WORK; i++) {
        /* One that is blocked may just not have been when the signal came. */
        while (pthread_tryjoin_np(threads[i], NULL)) {
            pthread_kill(threads[i], SIGUSR1);
            usleep(1000);
        }
    }
    close_all();
    for (int j = 0; j < N_WORK; j++) {
        ok(worked[j] > 0, "%s: %lu of %lu times", work_names[j], worked[j],
           tried[j]);
    }
    ok(seconds() - start >= duration, "%d seconds", duration);
    ok(!if_nametoindex(name), "the device is gone");
    is(references(), before, "nothing holds the module");
    return done();
}
