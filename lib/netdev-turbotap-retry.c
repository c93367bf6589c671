/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* New ports that could not get a device: when to try again.  Must not know
 * why.
 *
 * The bridge adds a port when the database says so, and tries again whenever
 * anything is configured or a link of the switch's network namespace changes.
 * What a port waits for may make no such event: the keeper that answers again,
 * a container that ends.  So the bridge is woken up for it, less and less
 * often.  On the other hand, an attempt that makes a device and deletes it
 * again makes events itself, and must not be repeated for each of them. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include "if-notifier.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/shash.h"
#include "timeval.h"

/* How long to wait before the second attempt, and at most, in ms. */
#define FIRST_MS 1000
#define MAX_MS 30000

/* A port that could not get a device. */
struct attempt {
    int error;
    char *problem;              /* What was wrong, for the user. */
    bool blocked;               /* Must the next one wait until 'next'? */
    long long int next;         /* When to try again, in ms. */
    long long int interval;     /* How long after that. */
};

/* By the name of the port. */
static struct ovs_mutex attempts_mutex = OVS_MUTEX_INITIALIZER;
static struct shash attempts OVS_GUARDED_BY(attempts_mutex)
    = SHASH_INITIALIZER(&attempts);

static void
delete_attempt(struct shash_node *node)
    OVS_REQUIRES(attempts_mutex)
{
    struct attempt *attempt = node->data;

    free(attempt->problem);
    free(attempt);
    shash_delete(&attempts, node);
}

/* Returns 0 if port 'name' may try to get a device, or a positive errno value,
 * that of the last attempt, and then appends to 'problem' what was wrong. */
int
netdev_turbotap_may_try(const char *name, struct ds *problem)
{
    const struct attempt *attempt;
    int error = 0;

    ovs_mutex_lock(&attempts_mutex);
    attempt = shash_find_data(&attempts, name);
    if (attempt && attempt->blocked) {
        error = attempt->error;
        ds_put_cstr(problem, attempt->problem);
    }
    ovs_mutex_unlock(&attempts_mutex);
    return error;
}

/* Takes note that port 'name' failed to get a device with 'error', a positive
 * errno value, and of what 'problem' says of it, and whether a device was
 * 'made' and deleted again. */
void
netdev_turbotap_note_failure(const char *name, int error, const char *problem,
                             bool made)
{
    struct attempt *attempt;

    ovs_mutex_lock(&attempts_mutex);
    attempt = shash_find_data(&attempts, name);
    if (!attempt) {
        attempt = xzalloc(sizeof *attempt);
        attempt->interval = FIRST_MS;
        attempt->next = time_msec() + FIRST_MS;
        shash_add(&attempts, name, attempt);
    }
    attempt->error = error;
    free(attempt->problem);
    attempt->problem = xstrdup(problem);
    attempt->blocked = made;
    ovs_mutex_unlock(&attempts_mutex);
}

/* Takes note that port 'name' has a device. */
void
netdev_turbotap_note_success(const char *name)
{
    struct shash_node *node;

    ovs_mutex_lock(&attempts_mutex);
    node = shash_find(&attempts, name);
    if (node) {
        delete_attempt(node);
    }
    ovs_mutex_unlock(&attempts_mutex);
}

/* Forgets ports that are not 'wanted' any more. */
void
netdev_turbotap_retry_reap(const struct sset *wanted)
{
    struct shash_node *node;

    ovs_mutex_lock(&attempts_mutex);
    SHASH_FOR_EACH_SAFE (node, &attempts) {
        if (!sset_contains(wanted, node->name)) {
            delete_attempt(node);
        }
    }
    ovs_mutex_unlock(&attempts_mutex);
}

/* Has the bridge try again to add those ports for which it is time. */
void
netdev_turbotap_retry_run(void)
{
    struct shash_node *node;
    bool due = false;

    ovs_mutex_lock(&attempts_mutex);
    SHASH_FOR_EACH (node, &attempts) {
        struct attempt *attempt = node->data;

        if (time_msec() >= attempt->next) {
            attempt->interval = MIN(2 * attempt->interval, MAX_MS);
            attempt->next = time_msec() + attempt->interval;
            attempt->blocked = false;
            due = true;
        }
    }
    ovs_mutex_unlock(&attempts_mutex);
    if (due) {
        if_notifier_manual_report();
    }
}

void
netdev_turbotap_retry_wait(void)
{
    struct shash_node *node;

    ovs_mutex_lock(&attempts_mutex);
    SHASH_FOR_EACH (node, &attempts) {
        const struct attempt *attempt = node->data;

        poll_timer_wait_until(attempt->next);
    }
    ovs_mutex_unlock(&attempts_mutex);
}
