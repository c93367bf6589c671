/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Devices of turbotap netdevs while no switch runs: what the keeper has of
 * each (see turbotap-keeper.h), under the name of the netdev.  Without a
 * keeper, ports work as well, but one whose device was moved away does not
 * come back.  Must not know the link, nor queues. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <libgen.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "dirs.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "timeval.h"
#include "turbotap-keeper.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_keep);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(1, 1);

/* How long to wait before another keeper is started, in ms. */
#define RETRY_MS 5000

#define PROGRAM "turbotap-keeper"

#define SELF "/proc/self/exe"

/* What the keeper knows of a device besides its descriptors. */
struct kept {
    struct turbotap_dev_layout layout;
    uint32_t owned;             /* Ours to delete? */
};
BUILD_ASSERT_DECL(sizeof(struct kept) <= TURBOTAP_KEEPER_DATA_LEN);

static struct ovs_mutex keeper_mutex = OVS_MUTEX_INITIALIZER;
static struct turbotap_keeper *keeper OVS_GUARDED_BY(keeper_mutex);

/* The netdevs of which 'keeper' holds the device.  Nobody else tells it what
 * to hold, so it need not be asked about each new netdev. */
static struct sset held OVS_GUARDED_BY(keeper_mutex) = SSET_INITIALIZER(&held);

/* When to look for another keeper, in ms. */
static long long int retry_at OVS_GUARDED_BY(keeper_mutex);

/* Has the keeper, or will one that is started then, to be given all devices
 * anew? */
static bool renew OVS_GUARDED_BY(keeper_mutex);

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

/* Takes note that the keeper answered a request with 'error', and returns it.
 * One that does not answer is not asked again. */
static int
check_answer(int error)
    OVS_REQUIRES(keeper_mutex)
{
    if (error == EPIPE || error == ETIMEDOUT || error == EPROTO) {
        VLOG_WARN_RL(&rl, "lost %s (%s)", PROGRAM, ovs_strerror(error));
        turbotap_keeper_close(keeper);
        keeper = NULL;
        sset_clear(&held);
        retry_at = time_msec();
        renew = true;
    }
    return error;
}

/* Asks the keeper, a new one, what it holds. */
static void
list_held(void)
    OVS_REQUIRES(keeper_mutex)
{
    char name[TURBOTAP_KEEPER_KEY_LEN];

    for (unsigned int i = 0;
         !check_answer(turbotap_keeper_list(keeper, i, name)); i++) {
        sset_add(&held, name);
    }
}

/* Returns true if there is a keeper.  If 'start', starts one if need be. */
static bool
connect_keeper(bool start)
    OVS_REQUIRES(keeper_mutex)
{
    char *path, *program;
    bool none;
    int error;

    if (keeper || time_msec() < retry_at) {
        return keeper;
    }
    path = xasprintf("%s/turbotap-keeper.sock", ovs_rundir());
    program = start ? find_program() : NULL;
    error = turbotap_keeper_connect(path, program, &keeper);
    none = error == ENOENT && !start;
    if (error && !none) {
        VLOG_WARN_RL(&rl, "%s: could not start %s (%s): turbotap ports whose "
                     "device is in another network namespace will not survive "
                     "a restart of the switch", path,
                     program ? program : PROGRAM, ovs_strerror(error));
        renew = true;
    }
    free(program);
    free(path);
    if (!none) {
        retry_at = time_msec() + RETRY_MS;
    }
    if (keeper) {
        list_held();
    }
    return keeper;
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
    unsigned int n;
    int error;

    memset(&data, 0, sizeof data);
    n = turbotap_dev_get_fds(tt->dev, fds, ARRAY_SIZE(fds),
                             &data.kept.layout);
    data.kept.owned = tt->owned;
    ovs_mutex_lock(&keeper_mutex);
    for (int i = 0; i < 2 && connect_keeper(true); i++) {
        error = check_answer(turbotap_keeper_put(keeper, tt_name(tt), &data,
                                                 fds, n));
        if (keeper) {
            if (!error) {
                sset_add(&held, tt_name(tt));
            } else {
                sset_find_and_delete(&held, tt_name(tt));
            }
            if (error && error != EBADFD) {
                VLOG_WARN("%s: could not have %s hold the device (%s)",
                          tt_name(tt), PROGRAM, ovs_strerror(error));
            }
            break;
        }
    }
    ovs_mutex_unlock(&keeper_mutex);
}

/* Gets from the keeper the device that it holds for netdev 'name', and stores
 * it in '*devp' and whether it is ours to delete in '*ownedp'.  Returns 0 or a
 * positive errno value: ENOENT if there is none, EINVAL if it has another
 * 'vnet_hdr'. */
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
    int error = ENOENT;

    /* The second one if the first one has ended. */
    for (int i = 0; i < 2 && connect_keeper(false)
                    && sset_contains(&held, name); i++) {
        error = check_answer(turbotap_keeper_get(keeper, name, &data, fds,
                                                 &n));
        if (keeper) {
            break;
        }
    }
    if (error) {
        return ENOENT;
    }
    if (n != (data.kept.layout.n_rxq + data.kept.layout.n_txq
              + data.kept.layout.n_spares)) {
        while (n) {
            close(fds[--n]);
        }
        return ENOENT;
    }
    error = turbotap_dev_from_fds(fds, &data.kept.layout, vnet_hdr, devp);
    if (!error) {
        *ownedp = data.kept.owned;
    }
    return error == EBADFD ? ENOENT : error;
}

int
netdev_turbotap_get_kept(const char *name, bool vnet_hdr,
                         struct turbotap_dev **devp, bool *ownedp)
{
    int error;

    ovs_mutex_lock(&keeper_mutex);
    error = get_kept(name, vnet_hdr, devp, ownedp);
    ovs_mutex_unlock(&keeper_mutex);
    return error;
}

/* Has the keeper let go of the device of netdev 'name'. */
void
netdev_turbotap_forget(const char *name)
{
    ovs_mutex_lock(&keeper_mutex);
    if (keeper && sset_find_and_delete(&held, name)) {
        check_answer(turbotap_keeper_remove(keeper, name));
    }
    ovs_mutex_unlock(&keeper_mutex);
}

/* Stores in 'names' the netdevs of which the keeper holds the device. */
void
netdev_turbotap_list_kept(struct sset *names)
{
    const char *name;

    ovs_mutex_lock(&keeper_mutex);
    if (connect_keeper(false)) {
        SSET_FOR_EACH (name, &held) {
            sset_add(names, name);
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

/* Returns true if each netdev has to have the keeper hold its device, since
 * there is, or may be by now, another one than before. */
bool
netdev_turbotap_keeper_run(void)
{
    bool all;

    ovs_mutex_lock(&keeper_mutex);
    if (keeper) {
        struct pollfd pfd = { .fd = turbotap_keeper_fd(keeper),
                              .events = POLLIN };

        /* It says nothing unasked, but for its end. */
        if (poll(&pfd, 1, 0) > 0) {
            check_answer(EPIPE);
        }
    }
    all = renew && (keeper || time_msec() >= retry_at);
    if (all) {
        renew = false;
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
    }
    if (renew) {
        poll_timer_wait_until(keeper ? 0 : retry_at);
    }
    ovs_mutex_unlock(&keeper_mutex);
}
