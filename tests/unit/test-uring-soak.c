/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Two threads forward frames from one tap device to another over io_uring,
 * while their queues are dealt out anew all the time and the number of receive
 * queues changes: not a frame may get lost, come twice, or overtake another of
 * its flow.
 *
 * Runs for TURBOTAP_SOAK_SECONDS, 30 unless that is in the environment. */

#include <config.h>

#include "host.h"
#include "turbotap-dev.h"
#include "turbotap-queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN "ttsoak-in"
#define OUT "ttsoak-out"

#define N_WORKERS 2
#define MAX_RXQ 4
#define N_FLOWS 64
#define BUF_SIZE 256

/* The most frames between the sender and the receiver.  Neither the tap's
 * queue nor the receiver's socket loses any of so many; a receive queue's
 * buffers run out. */
#define MAX_OUTSTANDING 300
#define N_BUFS 128

/* The queues are dealt out anew after so many frames, and their number changes
 * every so many times. */
#define DEAL_EVERY 500
#define RESIZE_EVERY 7

struct frame {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
    uint64_t seq;               /* Of its flow. */
} __attribute__((packed));

struct rxq {
    struct turbotap_queue *queue;
    unsigned int worker;        /* That polls it. */
    uint8_t mem[N_BUFS][BUF_SIZE];
};

static struct turbotap_dev *in;
static struct turbotap_dev *out;
static struct rxq *rxqs[MAX_RXQ];
static unsigned int n_rxq;
static struct turbotap_queue *txqs[N_WORKERS];  /* By worker. */

/* The workers hold still between the two. */
static atomic_bool pausing;
static pthread_barrier_t paused;
static pthread_barrier_t resumed;
static bool quit;               /* Changes in a pause only. */
static atomic_ullong n_unsent;  /* Frames that a send queue refused. */

static uint64_t tx_seq[N_FLOWS];
static uint64_t rx_seq[N_FLOWS];
static unsigned int n_outstanding;

/* The workers. */

static void
forward(struct rxq *rxq, struct turbotap_queue *txq)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int n;

    if (turbotap_queue_recv(rxq->queue, bufs, TURBOTAP_BURST, &n)) {
        return;
    }
    atomic_fetch_add(&n_unsent, n - turbotap_queue_send(txq, bufs, n));
    for (unsigned int i = 0; i < n; i++) {
        memset(bufs[i].data, 0xee, BUF_SIZE);
        bufs[i].size = BUF_SIZE;
    }
    turbotap_queue_fill(rxq->queue, bufs, n);
}

static void *
worker_main(void *id_)
{
    unsigned int id = (uintptr_t) id_;

    for (;;) {
        for (unsigned int i = 0; i < n_rxq; i++) {
            if (rxqs[i]->worker == id) {
                forward(rxqs[i], txqs[id]);
            }
        }
        sched_yield();          /* There may be fewer CPUs than threads. */
        if (atomic_load(&pausing)) {
            pthread_barrier_wait(&paused);
            pthread_barrier_wait(&resumed);
            if (quit) {
                return NULL;
            }
        }
    }
}

static void
pause_workers(void)
{
    atomic_store(&pausing, true);
    pthread_barrier_wait(&paused);
    atomic_store(&pausing, false);
}

static void
resume_workers(void)
{
    pthread_barrier_wait(&resumed);
}

/* The queues. */

static struct turbotap_queue *
open_queue(int fd, enum turbotap_direction direction)
{
    struct turbotap_queue_config config = { .fd = fd, .direction = direction };
    struct turbotap_queue *queue;

    assert_int_equal(turbotap_queue_open(&turbotap_io_uring, &config, &queue),
                     0);
    return queue;
}

static void
open_rxq(unsigned int i)
{
    struct rxq *rxq = test_calloc(1, sizeof *rxq);

    rxq->queue = open_queue(turbotap_dev_rxq_fd(in, i), TURBOTAP_RX);
    for (unsigned int j = 0; j < N_BUFS; j++) {
        struct turbotap_buf buf = { .data = rxq->mem[j], .size = BUF_SIZE };

        assert_int_equal(turbotap_queue_fill(rxq->queue, &buf, 1), 1);
    }
    rxqs[i] = rxq;
}

static void
close_rxq(unsigned int i)
{
    struct turbotap_buf bufs[TURBOTAP_BURST];
    unsigned int total = 0;
    unsigned int n;

    while ((n = turbotap_queue_reclaim(rxqs[i]->queue, bufs,
                                       TURBOTAP_BURST)) > 0) {
        total += n;
    }
    assert_int_equal(total, N_BUFS);
    turbotap_queue_close(rxqs[i]->queue);
    test_free(rxqs[i]);
}

/* Sets the number of receive queues while the workers hold still and no frame
 * is on the way. */
static void
set_n_rxq(unsigned int n)
{
    while (n_rxq > n) {
        close_rxq(--n_rxq);
    }
    assert_int_equal(turbotap_dev_set_n_rxq(in, n), 0);
    while (n_rxq < n) {
        open_rxq(n_rxq++);
    }
}

/* Gives each queue to a worker, at random, while they hold still. */
static void
deal_queues(void)
{
    for (unsigned int i = 0; i < n_rxq; i++) {
        rxqs[i]->worker = rand() % N_WORKERS;
    }
    if (rand() % 2) {
        struct turbotap_queue *txq = txqs[0];

        txqs[0] = txqs[1];
        txqs[1] = txq;
    }
}

/* The host. */

static void
host_send_some(int sock)
{
    for (int i = 0; i < 32 && n_outstanding < MAX_OUTSTANDING; i++) {
        unsigned int flow = rand() % N_FLOWS;
        struct frame frame = {
            .eth.h_dest = { 2, 0, 0, 0, 0, 1 },
            .eth.h_source = { 2, 0, 0, 0, 0, 2 },
            .eth.h_proto = htons(ETH_P_IP),
            .ip.version = 4,
            .ip.ihl = 5,
            .ip.ttl = 64,
            .ip.protocol = IPPROTO_UDP,
            .ip.tot_len = htons(sizeof frame - sizeof frame.eth),
            .ip.saddr = htonl(0xc0000201),
            .ip.daddr = htonl(0xc0000202),
            .udp.source = htons(1024 + flow),
            .udp.dest = htons(9),
            .udp.len = htons(sizeof frame.udp + sizeof frame.seq),
            .seq = tx_seq[flow],
        };

        if (send(sock, &frame, sizeof frame, 0) != sizeof frame) {
            fail_msg("host cannot send: %s", strerror(errno));
        }
        tx_seq[flow]++;
        n_outstanding++;
    }
}

static void
host_recv_all(int sock)
{
    struct frame frame;
    ssize_t size;

    while ((size = recv(sock, &frame, sizeof frame, 0)) > 0) {
        unsigned int flow = ntohs(frame.udp.source) - 1024;

        assert_int_equal(size, sizeof frame);
        assert_true(flow < N_FLOWS);
        assert_int_equal(frame.seq, rx_seq[flow]);
        rx_seq[flow]++;
        n_outstanding--;
    }
    assert_int_equal(errno, EAGAIN);
}

/* Receives until no frame is on the way. */
static void
drain(int sock)
{
    time_t deadline = time(NULL) + HOST_PATIENCE / 1000;

    while (n_outstanding) {
        host_recv_all(sock);
        if (time(NULL) > deadline) {
            fail_msg("%u frames are lost, %llu not sent", n_outstanding,
                     atomic_load(&n_unsent));
        }
        sched_yield();
    }
}

static void
test_soak(void **state)
{
    const char *seconds = getenv("TURBOTAP_SOAK_SECONDS");
    time_t end = time(NULL) + (seconds ? atoi(seconds) : 30);
    unsigned int n_deals = 0, n_resizes = 0;
    pthread_t workers[N_WORKERS];
    uint64_t total = 0;
    int in_sock, out_sock;
    int rcvbuf = INT_MAX;

    (void) state;
    assert_int_equal(turbotap_dev_open(IN, false, &in), 0);
    assert_int_equal(turbotap_dev_open(OUT, false, &out), 0);
    assert_int_equal(turbotap_dev_set_n_txq(out, N_WORKERS), 0);
    host_set_up(IN, true);
    host_set_up(OUT, true);
    in_sock = host_open_socket(IN, 0);
    out_sock = host_open_socket(OUT, ETH_P_IP);
    assert_int_equal(setsockopt(out_sock, SOL_SOCKET, SO_RCVBUF, &rcvbuf,
                                sizeof rcvbuf), 0);
    set_n_rxq(1);
    for (unsigned int i = 0; i < N_WORKERS; i++) {
        txqs[i] = open_queue(turbotap_dev_txq_fd(out, i), TURBOTAP_TX);
    }
    pthread_barrier_init(&paused, NULL, N_WORKERS + 1);
    pthread_barrier_init(&resumed, NULL, N_WORKERS + 1);
    for (unsigned int i = 0; i < N_WORKERS; i++) {
        assert_int_equal(pthread_create(&workers[i], NULL, worker_main,
                                        (void *) (uintptr_t) i), 0);
    }

    while (time(NULL) < end) {
        uint64_t goal = total + DEAL_EVERY;

        while (total < goal && time(NULL) < end) {
            unsigned int before = n_outstanding;

            host_send_some(in_sock);
            total += n_outstanding - before;
            host_recv_all(out_sock);
            if (n_outstanding == MAX_OUTSTANDING) {
                sched_yield();
            }
        }
        if (++n_deals % RESIZE_EVERY) {
            pause_workers();
        } else {
            drain(out_sock);
            pause_workers();
            set_n_rxq(1 + rand() % MAX_RXQ);
            n_resizes++;
        }
        deal_queues();
        resume_workers();
    }
    drain(out_sock);
    pause_workers();
    quit = true;
    resume_workers();
    for (unsigned int i = 0; i < N_WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }

    print_message("%llu frames, %u deals, %u changes of n_rxq\n",
                  (unsigned long long) total, n_deals, n_resizes);
    assert_int_equal(atomic_load(&n_unsent), 0);
    assert_memory_equal(tx_seq, rx_seq, sizeof tx_seq);
    while (n_rxq) {
        close_rxq(--n_rxq);
    }
    for (unsigned int i = 0; i < N_WORKERS; i++) {
        turbotap_queue_close(txqs[i]);
    }
    turbotap_dev_close(in);
    turbotap_dev_close(out);
    close(in_sock);
    close(out_sock);
    pthread_barrier_destroy(&paused);
    pthread_barrier_destroy(&resumed);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soak),
    };
    char reason[TURBOTAP_REASON_LEN];
    struct turbotap_dev *dev;
    bool served;

    host_enter_namespace();
    if (turbotap_dev_open(IN, false, &dev)) {
        printf("1..0 # SKIP no tap device: %s\n", strerror(errno));
        return 77;
    }
    served = turbotap_io_uring.probe(turbotap_dev_rxq_fd(dev, 0), reason,
                                     sizeof reason);
    turbotap_dev_close(dev);
    if (!served) {
        printf("1..0 # SKIP %s\n", reason);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
