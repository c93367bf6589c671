/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Devices of turbotap netdevs while no switch runs: what the keeper has of
 * each (see turbotap-keeper.h), under the name of the netdev.  Without a
 * keeper, ports work as well, but one whose device was moved away does not
 * come back.  Must not know the link, nor queues.
 *
 * The keeper may not answer.  So what it has to do is sent, and its answer
 * taken when there is one; what cannot be sent now is sent when there is room,
 * after a new connection if need be.  Only what a starting switch has to know
 * is waited for, and for no more than PATIENCE_MS in all until the keeper has
 * said something.  Whose device it is cannot be known without it, unless this
 * switch has had the answer before. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <unistd.h>

#include "dirs.h"
#include "if-notifier.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "timeval.h"
#include "turbotap-keeper.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_keep);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(1, 1);

/* For how long the main thread may wait for the keeper, in all since the
 * keeper last said anything, in ms. */
#define PATIENCE_MS 500

/* When one that was asked something is taken for one that does not answer, in
 * ms: a machine that is busy may start it late. */
#define SILENCE_MS 2000

/* When to try again to connect, in ms: twice as long after each attempt. */
#define MIN_BACKOFF_MS 1000
#define MAX_BACKOFF_MS 30000

/* How often to see whether the keeper is there, in ms. */
#define CHECK_MS 5000

#define PROGRAM "turbotap-keeper"

#define SELF "/proc/self/exe"

/* What the keeper knows of a device besides its descriptors: of version 1, the
 * first two members, and zeros.  A later version may have something in their
 * place if it says in 'min_version' that it cannot be read without. */
struct kept {
    struct turbotap_dev_layout layout;
    uint32_t owned;             /* Ours to delete? */
    uint16_t version;           /* KEPT_VERSION; 0: version 1. */
    uint16_t min_version;       /* Who reads it has to know this one. */
    uint32_t len;               /* Of all this, in octets. */
};
BUILD_ASSERT_DECL(sizeof(struct kept) <= TURBOTAP_KEEPER_DATA_LEN);

#define KEPT_VERSION 2
#define KEPT_MIN_VERSION 1

/* As many spare descriptors version 1 knows. */
#define KEPT_MAX_SPARES 4

static struct ovs_mutex keeper_mutex = OVS_MUTEX_INITIALIZER;
static struct turbotap_keeper *keeper OVS_GUARDED_BY(keeper_mutex);

/* Has it answered HELLO, and said what it holds?  If not, nothing else is
 * asked. */
static bool ready OVS_GUARDED_BY(keeper_mutex);

/* Why there is no keeper, or it does not answer: a positive errno value, or 0
 * if all is well or nothing is to be held.  And the process that is there
 * instead, 0 if unknown. */
static int failure OVS_GUARDED_BY(keeper_mutex);
static pid_t failed_pid OVS_GUARDED_BY(keeper_mutex);

/* What may still be waited for, in ms: see PATIENCE_MS. */
static int patience OVS_GUARDED_BY(keeper_mutex) = PATIENCE_MS;

/* The keeper was asked something then, without an answer since; LLONG_MAX if
 * there is nothing to be answered.  In ms, as all times. */
static long long int asked_at OVS_GUARDED_BY(keeper_mutex) = LLONG_MAX;

/* When to see whether it is there, to look for another one, and how long to
 * wait after that. */
static long long int check_at OVS_GUARDED_BY(keeper_mutex);
static long long int retry_at OVS_GUARDED_BY(keeper_mutex);
static int backoff OVS_GUARDED_BY(keeper_mutex) = MIN_BACKOFF_MS;

/* The netdevs of which the keeper holds the device, as far as known: nobody
 * else tells it what to hold.  'known': that is all that it holds. */
static struct sset held OVS_GUARDED_BY(keeper_mutex) = SSET_INITIALIZER(&held);
static bool known OVS_GUARDED_BY(keeper_mutex);

/* Those whose device it is to hold, and has to be told through this
 * connection; and those that it was told already. */
static struct sset ours OVS_GUARDED_BY(keeper_mutex) = SSET_INITIALIZER(&ours);
static struct sset told OVS_GUARDED_BY(keeper_mutex) = SSET_INITIALIZER(&told);

/* Those that it was told twice since it had no room. */
static struct sset twice OVS_GUARDED_BY(keeper_mutex)
    = SSET_INITIALIZER(&twice);

/* Those that it is to let go of, until it says that it has, and of these those
 * that it was told through this connection. */
static struct sset removals OVS_GUARDED_BY(keeper_mutex)
    = SSET_INITIALIZER(&removals);
static struct sset removing OVS_GUARDED_BY(keeper_mutex)
    = SSET_INITIALIZER(&removing);

/* There is something that could not be sent, and whether there was no room for
 * it, so that an answer has to come first. */
static bool unsent OVS_GUARDED_BY(keeper_mutex);
static bool full OVS_GUARDED_BY(keeper_mutex);

/* A netdev could not be told whether the keeper holds its device. */
static bool refused OVS_GUARDED_BY(keeper_mutex);

/* Returns the program, to be freed by the caller: beside our own, or in
 * PATH. */
static char *
find_program(void)
{
    char self[PATH_MAX];
    ssize_t n = readlink(SELF, self, sizeof self - 1);

    if (n > 0) {
        char *program;

        self[n] = '\0';
        program = xasprintf("%s/%s", dirname(self), PROGRAM);
        if (!access(program, X_OK)) {
            return program;
        }
        free(program);
    }
    return xstrdup(PROGRAM);
}

/* Returns the keeper's socket, to be freed by the caller. */
static char *
get_path(void)
{
    return xasprintf("%s/"PROGRAM".sock", ovs_rundir());
}

/* The connection. */

/* Takes note that something was asked. */
static void
note_request(void)
    OVS_REQUIRES(keeper_mutex)
{
    asked_at = MIN(asked_at, time_msec());
}

/* Takes note that the keeper said something, and that there is more to come if
 * 'more'. */
static void
note_answer(bool more)
    OVS_REQUIRES(keeper_mutex)
{
    patience = PATIENCE_MS;
    asked_at = more ? time_msec() : LLONG_MAX;
    check_at = time_msec() + CHECK_MS;
    full = false;
    if (ready && failure) {
        VLOG_INFO(PROGRAM" answers");
        failure = 0;
    }
    if (ready && refused) {
        /* Their ports are configured anew. */
        refused = false;
        if_notifier_manual_report();
    }
}

/* Takes note that there is no keeper to speak with, because of 'error', and
 * when to look for one again. */
static void
fail(int error)
    OVS_REQUIRES(keeper_mutex)
{
    char *path = get_path();

    VLOG_WARN_RL(&rl, "%s: %s %s (%s)", path,
                 ready ? "lost" : "could not start or reach", PROGRAM,
                 ovs_strerror(error));
    free(path);

    if (keeper) {
        failed_pid = turbotap_keeper_pid(keeper);
        turbotap_keeper_close(keeper);
        keeper = NULL;
    }
    if (error == EPERM || error == EACCES || error == EPROTO
        || error == EPROTONOSUPPORT) {
        /* Not the one whose answers we have. */
        known = false;
    }
    if (!ready || error != EPIPE || time_msec() < retry_at) {
        failure = error;
        retry_at = time_msec() + backoff;
        backoff = MIN(2 * backoff, MAX_BACKOFF_MS);
    } else {
        /* One that has served ends: another one can come at once. */
        retry_at = time_msec();
    }
    ready = false;
    full = false;
    asked_at = LLONG_MAX;
    sset_clear(&told);
    sset_clear(&removing);
    unsent = true;
}

/* Takes note that there is no keeper. */
static void
set_absent(void)
    OVS_REQUIRES(keeper_mutex)
{
    failure = 0;
    sset_clear(&held);
    sset_clear(&removals);
    known = true;
}

/* Returns true if nobody knows what the keeper would say. */
static bool
is_silent(void)
    OVS_REQUIRES(keeper_mutex)
{
    return !ready || failure;
}

/* Begins to connect to a keeper.  If 'start', starts one if need be. */
static void
begin_connecting(bool start)
    OVS_REQUIRES(keeper_mutex)
{
    char *path, *program;
    int error;

    if (keeper || time_msec() < retry_at) {
        return;
    }
    path = get_path();
    program = start ? find_program() : NULL;
    error = turbotap_keeper_connect(path, program, patience, &keeper,
                                    &failed_pid);
    if (error == ENOENT && !start) {
        set_absent();
    } else if (error) {
        if (error == ETIMEDOUT) {
            patience = 0;
        }
        fail(error);
    } else {
        note_request();
    }
    free(program);
    free(path);
}

/* Has a keeper of our own take the place of the one that we have found, if
 * that is not one.  Returns 0 or a positive errno value. */
static int
hand_over(void)
    OVS_REQUIRES(keeper_mutex)
{
    char *path, *program;
    int error;

    if (!turbotap_keeper_is_foreign(keeper)) {
        return 0;
    }
    path = get_path();
    program = find_program();
    VLOG_INFO("%s: taking over from %s of user %u, version %u", path, PROGRAM,
              (unsigned int) turbotap_keeper_uid(keeper),
              turbotap_keeper_version(keeper));
    error = turbotap_keeper_hand_over(&keeper, path, program, PATIENCE_MS);
    if (error) {
        VLOG_WARN("%s: could not take over from another %s (%s)", path,
                  PROGRAM, ovs_strerror(error));
    }
    free(program);
    free(path);
    return error == ETIMEDOUT || error == EPIPE || error == EPROTO ? error : 0;
}

/* Asks the keeper what it holds.  Returns 0 or a positive errno value. */
static int
list_held(void)
    OVS_REQUIRES(keeper_mutex)
{
    char name[TURBOTAP_KEEPER_KEY_LEN] = "";
    int error;

    sset_clear(&held);
    for (unsigned int i = 0;
         !(error = turbotap_keeper_next(keeper, PATIENCE_MS, i, name)); i++) {
        if (!sset_contains(&removals, name)) {
            sset_add(&held, name);
        }
    }
    if (error != ENOENT) {
        return error;
    }
    known = true;
    return 0;
}

/* Takes note of the answer to a request that 'name' be held. */
static void
handle_put(const char *name, int error)
    OVS_REQUIRES(keeper_mutex)
{
    if (!error) {
        sset_find_and_delete(&twice, name);
        return;
    }
    if (!sset_contains(&told, name)) {
        /* Removed meanwhile. */
        return;
    }
    sset_find_and_delete(&held, name);
    if (error == EMFILE && sset_add(&twice, name)) {
        /* What it held under this name has gone: there may be room now. */
        sset_find_and_delete(&told, name);
        unsent = true;
    } else if (error != EBADFD) {
        VLOG_WARN("%s: could not have %s hold the device (%s)", name, PROGRAM,
                  ovs_strerror(error));
    }
}

/* Takes the keeper's answers, and waits for the one to HELLO for up to
 * 'timeout' ms. */
static void
take_answers(int timeout)
    OVS_REQUIRES(keeper_mutex)
{
    struct turbotap_keeper_answer answer;
    int error = 0;

    while (keeper && !error) {
        error = turbotap_keeper_take(keeper, ready ? 0 : timeout, &answer);
        if (error == EAGAIN || error == ETIMEDOUT) {
            break;
        } else if (!error && !ready) {
            note_answer(true);
            error = hand_over();
            error = error ? error : list_held();
            if (!error) {
                ready = true;
                unsent = true;
                backoff = MIN_BACKOFF_MS;
                retry_at = time_msec() + MIN_BACKOFF_MS;
                note_answer(false);
            }
        } else if (!error) {
            note_answer(turbotap_keeper_n_asked(keeper) > 0);
            if (answer.op == TURBOTAP_KEEPER_PUT) {
                handle_put(answer.key, answer.error);
            } else if (answer.op == TURBOTAP_KEEPER_REMOVE
                       && sset_find_and_delete(&removing, answer.key)) {
                sset_find_and_delete(&removals, answer.key);
            }
        }
        if (error) {
            if (error == ETIMEDOUT) {
                patience = 0;
            }
            fail(error);
        }
    }
}

/* Takes note of a keeper that does not answer. */
static void
check_silence(void)
    OVS_REQUIRES(keeper_mutex)
{
    if (keeper && !failure && asked_at != LLONG_MAX
        && time_msec() >= asked_at + SILENCE_MS) {
        VLOG_WARN_RL(&rl, PROGRAM" does not answer");
        failure = ETIMEDOUT;
        patience = 0;
    }
}

/* Returns true if there is a keeper that answers.  If 'start', starts one if
 * need be.  May wait for what is left of our patience. */
static bool
reach(bool start)
    OVS_REQUIRES(keeper_mutex)
{
    begin_connecting(start);
    if (keeper && !ready && patience > 0) {
        long long int start_msec = time_msec();

        take_answers(patience);
        if (keeper && !ready) {
            patience -= MAX(time_msec() - start_msec, 1);
        }
    }
    take_answers(0);
    check_silence();
    return !is_silent();
}

/* Has the keeper let go of what it is to, as far as it can be told now. */
static void
send_removals(void)
    OVS_REQUIRES(keeper_mutex)
{
    const char *name;

    if (!ready) {
        return;
    }
    SSET_FOR_EACH (name, &removals) {
        if (!sset_contains(&removing, name)) {
            int error = turbotap_keeper_remove(keeper, name);

            if (error == EAGAIN) {
                full = unsent = true;
                return;
            } else if (error) {
                fail(error);
                return;
            }
            note_request();
            sset_add(&removing, name);
        }
    }
}

/* Has the keeper hold what 'tt' has of its device. */
void
netdev_turbotap_keep(const struct netdev_turbotap *tt)
{
    union {
        struct kept kept;
        uint8_t octets[TURBOTAP_KEEPER_DATA_LEN];
    } data;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    const char *name = tt_name(tt);
    unsigned int n;
    int error = EAGAIN;

    memset(&data, 0, sizeof data);
    n = turbotap_dev_get_fds(tt->dev, fds, ARRAY_SIZE(fds),
                             &data.kept.layout);
    if (data.kept.layout.n_spares > KEPT_MAX_SPARES) {
        data.kept.layout.n_txq += data.kept.layout.n_spares - KEPT_MAX_SPARES;
        data.kept.layout.n_spares = KEPT_MAX_SPARES;
    }
    data.kept.owned = tt->owned;
    data.kept.version = KEPT_VERSION;
    data.kept.min_version = KEPT_MIN_VERSION;
    data.kept.len = sizeof data.kept;

    ovs_mutex_lock(&keeper_mutex);
    sset_add(&ours, name);
    sset_find_and_delete(&told, name);
    reach(true);
    if (ready) {
        error = turbotap_keeper_put(keeper, name, &data, fds, n);
    }
    if (!error) {
        note_request();
        sset_add(&told, name);
        sset_add(&held, name);
        sset_find_and_delete(&removals, name);
        sset_find_and_delete(&removing, name);
    } else if (error == EAGAIN || error == ETOOMANYREFS) {
        unsent = true;
        full = ready;
    } else if (error == EINVAL || error == ENAMETOOLONG) {
        VLOG_WARN("%s: could not have %s hold the device (%s)", name, PROGRAM,
                  ovs_strerror(error));
        sset_add(&told, name);
    } else {
        fail(error);
    }
    ovs_mutex_unlock(&keeper_mutex);
}

/* Returns true if the keeper has to be told by netdev_turbotap_keep() what
 * netdev 'name' has of its device, as after netdev_turbotap_keeper_run()
 * returned true. */
bool
netdev_turbotap_keeper_wants(const char *name)
{
    bool wants;

    ovs_mutex_lock(&keeper_mutex);
    wants = ready && !full && !sset_contains(&told, name);
    ovs_mutex_unlock(&keeper_mutex);
    return wants;
}

/* Makes a device of the 'n' descriptors in 'fds', of which the keeper says
 * 'kept', as netdev_turbotap_get_kept() does. */
static int
open_kept(const int *fds, unsigned int n, const struct kept *kept,
          bool vnet_hdr, struct turbotap_dev **devp, bool *ownedp)
{
    struct turbotap_dev_layout layout = kept->layout;
    int error = 0;

    if (kept->version > KEPT_VERSION && kept->min_version > KEPT_VERSION) {
        error = EPROTONOSUPPORT;
    } else if (!n || !layout.n_rxq || layout.n_rxq > n) {
        error = EPROTO;
    }
    if (error) {
        while (n) {
            close(fds[--n]);
        }
        return error;
    }
    /* How many of them are spare ones is up to who opened them. */
    layout.n_spares = MIN(layout.n_spares, n - layout.n_rxq);
    layout.n_spares = MIN(layout.n_spares, TURBOTAP_MOVABLE_RXQS);
    layout.n_txq = n - layout.n_rxq - layout.n_spares;

    error = turbotap_dev_from_fds(fds, &layout, vnet_hdr, devp);
    if (!error) {
        *ownedp = kept->owned;
    }
    return error == EBADFD ? ENOENT : error;
}

/* As netdev_turbotap_get_kept(), if the keeper answers. */
static int
get_kept(const char *name, bool vnet_hdr, struct turbotap_dev **devp,
         bool *ownedp)
    OVS_REQUIRES(keeper_mutex)
{
    union {
        struct kept kept;
        uint8_t octets[TURBOTAP_KEEPER_DATA_LEN];
    } data;
    int fds[TURBOTAP_KEEPER_MAX_FDS];
    unsigned int n;
    int error;

    send_removals();
    if (!ready) {
        return EAGAIN;
    }
    error = turbotap_keeper_get(keeper, MAX(patience, 1), name, &data, fds,
                                &n);
    switch (error) {
    case 0:
        note_answer(turbotap_keeper_n_asked(keeper) > 0);
        return open_kept(fds, n, &data.kept, vnet_hdr, devp, ownedp);

    case ENOENT:
        note_answer(turbotap_keeper_n_asked(keeper) > 0);
        sset_find_and_delete(&held, name);
        return ENOENT;

    case EMFILE:
        return error;

    case ETIMEDOUT:
        note_request();
        patience = 0;
        return EAGAIN;

    default:
        fail(error);
        return EAGAIN;
    }
}

/* Gets from the keeper the device that it holds for netdev 'name', and stores
 * it in '*devp' and whether it is ours to delete in '*ownedp'.  Returns 0 or a
 * positive errno value: ENOENT if there is none; EINVAL if it has another
 * 'vnet_hdr'; EAGAIN if that cannot be known now, since the keeper does not
 * answer; EPROTONOSUPPORT if it is there, but a newer switch put it there, and
 * EMFILE, ...: there may be one, which cannot be had. */
int
netdev_turbotap_get_kept(const char *name, bool vnet_hdr,
                         struct turbotap_dev **devp, bool *ownedp)
{
    int error;

    ovs_mutex_lock(&keeper_mutex);
    for (int i = 0; i < 2; i++) {
        bool reached = reach(false);

        if (known && !sset_contains(&held, name)
            && !sset_contains(&removals, name)) {
            error = ENOENT;
        } else if (reached) {
            error = get_kept(name, vnet_hdr, devp, ownedp);
            if (error == EAGAIN && !keeper) {
                /* It has ended: there may be another one. */
                continue;
            }
        } else {
            /* What we had it hold has nobody else had. */
            error = sset_contains(&ours, name) ? ENOENT : EAGAIN;
        }
        break;
    }
    if (error == EAGAIN) {
        refused = true;
    }
    ovs_mutex_unlock(&keeper_mutex);
    return error;
}

/* Has the keeper let go of the device of netdev 'name', as soon as it can. */
void
netdev_turbotap_forget(const char *name)
{
    bool told_of;

    ovs_mutex_lock(&keeper_mutex);
    told_of = sset_find_and_delete(&ours, name);
    told_of |= sset_find_and_delete(&told, name);
    told_of |= sset_find_and_delete(&held, name);
    sset_find_and_delete(&twice, name);
    if (told_of) {
        sset_add(&removals, name);
        send_removals();
    }
    ovs_mutex_unlock(&keeper_mutex);
}

/* Stores in 'names' the netdevs of which the keeper holds the device since
 * before this switch was started, and that have not got it. */
void
netdev_turbotap_list_kept(struct sset *names)
{
    const char *name;

    ovs_mutex_lock(&keeper_mutex);
    if (reach(false)) {
        SSET_FOR_EACH (name, &held) {
            if (!sset_contains(&ours, name)) {
                sset_add(names, name);
            }
        }
    }
    ovs_mutex_unlock(&keeper_mutex);
}

/* Returns true if the keeper holds the device of netdev 'name'. */
bool
netdev_turbotap_is_kept(const char *name)
{
    bool kept;

    ovs_mutex_lock(&keeper_mutex);
    kept = keeper && sset_contains(&held, name);
    ovs_mutex_unlock(&keeper_mutex);
    return kept;
}

/* Appends to 'problem' what the user should know of the keeper of netdev
 * 'name', if anything, and 'consequence', in which "it does" is that all is
 * well again. */
void
netdev_turbotap_keeper_problem(const char *name, const char *consequence,
                               struct ds *problem)
{
    ovs_mutex_lock(&keeper_mutex);
    if (failure) {
        char *path = get_path();
        pid_t pid = keeper ? turbotap_keeper_pid(keeper) : failed_pid;

        ds_put_format(problem, "%s: "PROGRAM, name);
        if (pid) {
            ds_put_format(problem, ", process %ld,", (long int) pid);
        }
        ds_put_format(problem, " at %s, ", path);
        if (failure == ETIMEDOUT) {
            ds_put_cstr(problem, "does not answer");
        } else if (failure == EPERM || failure == EACCES) {
            ds_put_cstr(problem, "does not serve this user");
        } else if (failure == EPROTONOSUPPORT || failure == EPROTO) {
            ds_put_cstr(problem, "does not speak this version of its "
                        "protocol");
        } else {
            ds_put_format(problem, "does not run or cannot be reached (%s)",
                          ovs_strerror(failure));
        }
        ds_put_format(problem, ": %s", consequence);
        free(path);
    }
    ovs_mutex_unlock(&keeper_mutex);
}

/* Returns true if there is anything to be said to the keeper. */
static bool
is_needed(void)
    OVS_REQUIRES(keeper_mutex)
{
    return !sset_is_empty(&ours) || !sset_is_empty(&removals) || refused;
}

/* Takes the keeper's answers.  Returns true if each netdev that
 * netdev_turbotap_keeper_wants() has to have the keeper hold its device. */
bool
netdev_turbotap_keeper_run(void)
{
    bool all;

    ovs_mutex_lock(&keeper_mutex);
    take_answers(0);
    if (!keeper && is_needed()) {
        begin_connecting(!sset_is_empty(&ours));
        if (!keeper && !failure && refused) {
            /* There is none, which is an answer. */
            refused = false;
            if_notifier_manual_report();
        }
    }
    if (ready && asked_at == LLONG_MAX && time_msec() >= check_at
        && turbotap_keeper_version(keeper) > 1) {
        int error = turbotap_keeper_hello(keeper);

        if (!error) {
            note_request();
        } else if (error != EAGAIN) {
            fail(error);
        }
    }
    check_silence();
    all = ready && unsent && !full;
    if (all) {
        unsent = false;
        send_removals();
        all = ready && !full;
    }
    ovs_mutex_unlock(&keeper_mutex);
    return all;
}

void
netdev_turbotap_keeper_wait(void)
{
    ovs_mutex_lock(&keeper_mutex);
    if (keeper) {
        poll_fd_wait(turbotap_keeper_fd(keeper), POLLIN);
        if (!failure && asked_at != LLONG_MAX) {
            poll_timer_wait_until(asked_at + SILENCE_MS);
        }
        if (ready && unsent && !full) {
            poll_immediate_wake();
        } else if (ready && asked_at == LLONG_MAX
                   && turbotap_keeper_version(keeper) > 1) {
            poll_timer_wait_until(check_at);
        }
    } else if (is_needed()) {
        poll_timer_wait_until(retry_at);
    }
    ovs_mutex_unlock(&keeper_mutex);
}
