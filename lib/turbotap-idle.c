/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Idle receive queues: see turbotap-idle.h.  Must not know any I/O class. */

#include <config.h>

#include "turbotap-idle.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "turbotap-queue.h"
#include "turbotap-util.h"

/* A queue that had nothing so often in a row joins the set.  To join and to
 * leave are two system calls, so it should not be much less nor more. */
#define MAX_EMPTY 4

/* The most queues that one round finds ready; the others wait for the next. */
#define MAX_READY 64

/* The queues of one thread.  Lives as long as the thread, or as the last queue
 * if that is longer, since a queue may outlive the thread that polled it. */
struct turbotap_idle_set {
    uint32_t round;             /* Times that this was polled.  Only the
                                 * thread itself touches it. */

    pthread_mutex_t mutex;      /* Protects all that follows. */
    int epoll_fd;               /* Of the armed queues, -1: none so far. */
    unsigned int n_queues;      /* Queues whose set this is. */
    bool thread_ended;
};

static _Thread_local struct turbotap_idle_set *my_set;
static pthread_key_t my_set_key;        /* The same, for its destructor. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;

static void
free_set(struct turbotap_idle_set *set)
{
    pthread_mutex_destroy(&set->mutex);
    free(set);
}

static void
end_thread(void *set_)
{
    struct turbotap_idle_set *set = set_;
    bool unused;

    my_set = NULL;
    pthread_mutex_lock(&set->mutex);
    set->thread_ended = true;
    unused = !set->n_queues;
    pthread_mutex_unlock(&set->mutex);
    if (unused) {
        free_set(set);
    }
}

static void
init_key(void)
{
    has_key = !pthread_key_create(&my_set_key, end_thread);
}

/* Returns this thread's set, a new one if need be, NULL if that is not
 * possible. */
static struct turbotap_idle_set *
get_set(void)
{
    struct turbotap_idle_set *set;

    if (my_set) {
        return my_set;
    }
    pthread_once(&once, init_key);
    set = has_key ? turbotap_zalloc(sizeof *set) : NULL;
    if (!set) {
        return NULL;
    }
    if (pthread_setspecific(my_set_key, set)) {
        free(set);
        return NULL;
    }
    pthread_mutex_init(&set->mutex, NULL);
    set->epoll_fd = -1;
    my_set = set;
    return set;
}

/* Takes 'queue' out of the epoll set. */
static void
disarm(struct turbotap_queue *queue)
{
    struct turbotap_idle *idle = &queue->idle;

    /* Once this holds the mutex, the set's thread knows of no event. */
    pthread_mutex_lock(&idle->set->mutex);
    epoll_ctl(idle->set->epoll_fd, EPOLL_CTL_DEL,
              turbotap_queue_poll_fd(queue), NULL);
    idle->armed = false;
    pthread_mutex_unlock(&idle->set->mutex);
    turbotap_count(&queue->counters.syscalls, 1);
}

/* Puts 'queue' into the epoll set of this thread, if that serves something. */
static void
arm(struct turbotap_queue *queue)
{
    struct turbotap_idle *idle = &queue->idle;
    struct turbotap_idle_set *set = idle->set;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = idle };

    pthread_mutex_lock(&set->mutex);
    if (set->n_queues > 1) {
        if (set->epoll_fd < 0) {
            set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
            turbotap_count(&queue->counters.syscalls, 1);
        }
        if (set->epoll_fd >= 0) {
            idle->ready = false;
            idle->round = set->round;
            idle->armed = !epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD,
                                     turbotap_queue_poll_fd(queue), &event);
            turbotap_count(&queue->counters.syscalls, 1);
        }
    }
    pthread_mutex_unlock(&set->mutex);
}

/* Begins another round of 'set', this thread's, and finds out which queues are
 * ready.  Returns false if that cannot be found out. */
static bool
poll_set(struct turbotap_idle_set *set)
{
    struct epoll_event events[MAX_READY];
    int n;

    set->round++;
    pthread_mutex_lock(&set->mutex);
    n = epoll_wait(set->epoll_fd, events, MAX_READY, 0);
    for (int i = 0; i < n; i++) {
        struct turbotap_idle *idle = events[i].data.ptr;

        idle->ready = true;
    }
    pthread_mutex_unlock(&set->mutex);
    return n >= 0;
}

bool
turbotap_idle_may_recv(struct turbotap_queue *queue)
{
    struct turbotap_idle *idle = &queue->idle;

    if (!idle->armed) {
        return true;
    }
    if (idle->set != my_set) {
        /* Another thread polled it until now. */
        turbotap_idle_leave(queue);
        return true;
    }

    /* The first queue of the thread that comes by a second time begins the
     * next round: whichever it is, and whichever are no longer polled. */
    if (!idle->ready && idle->round == my_set->round) {
        turbotap_count(&queue->counters.syscalls, 1);
        if (!poll_set(my_set)) {
            idle->ready = true;
        }
    }
    idle->round = my_set->round;
    if (!idle->ready) {
        return false;
    }
    disarm(queue);
    return true;
}

void
turbotap_idle_empty(struct turbotap_queue *queue)
{
    struct turbotap_idle *idle = &queue->idle;

    if (++idle->n_empty < MAX_EMPTY) {
        return;
    }
    idle->n_empty = 0;

    if (!my_set || idle->set != my_set) {
        turbotap_idle_leave(queue);
        idle->set = get_set();
        if (!idle->set) {
            return;
        }
        pthread_mutex_lock(&idle->set->mutex);
        idle->set->n_queues++;
        pthread_mutex_unlock(&idle->set->mutex);
    }
    arm(queue);
}

void
turbotap_idle_wake(struct turbotap_queue *queue)
{
    queue->idle.n_empty = 0;
    if (queue->idle.armed) {
        disarm(queue);
    }
}

void
turbotap_idle_leave(struct turbotap_queue *queue)
{
    struct turbotap_idle_set *set = queue->idle.set;
    bool unused = false;

    turbotap_idle_wake(queue);
    queue->idle.set = NULL;
    if (set) {
        pthread_mutex_lock(&set->mutex);
        if (!--set->n_queues) {
            if (set->epoll_fd >= 0) {
                close(set->epoll_fd);
                set->epoll_fd = -1;
            }
            unused = set->thread_ended;
        }
        pthread_mutex_unlock(&set->mutex);
        if (unused) {
            free_set(set);
        }
    }
}
