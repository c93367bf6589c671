/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* libnl-3, as all files need it that use it. */

#include <config.h>

#include "turbotap-nl.h"

#include <errno.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

int
turbotap_nl_errno(int nle)
{
    static const int errnos[] = {
        [NLE_INTR] = EINTR,
        [NLE_BAD_SOCK] = EBADF,
        [NLE_AGAIN] = EAGAIN,
        [NLE_NOMEM] = ENOMEM,
        [NLE_EXIST] = EEXIST,
        [NLE_INVAL] = EINVAL,
        [NLE_RANGE] = ERANGE,
        [NLE_MSGSIZE] = EMSGSIZE,
        [NLE_OPNOTSUPP] = EOPNOTSUPP,
        [NLE_AF_NOSUPPORT] = EAFNOSUPPORT,
        [NLE_OBJ_NOTFOUND] = ENODEV,
        [NLE_NOADDR] = EADDRNOTAVAIL,
        [NLE_BUSY] = EBUSY,
        [NLE_PROTO_MISMATCH] = EPROTONOSUPPORT,
        [NLE_NOACCESS] = EACCES,
        [NLE_PERM] = EPERM,
        [NLE_NODEV] = ENODEV,
    };
    unsigned int i = nle < 0 ? -nle : nle;

    if (nle >= 0) {
        return 0;
    }
    return i < sizeof errnos / sizeof errnos[0] && errnos[i] ? errnos[i] : EIO;
}

int
turbotap_nl_open(struct nl_sock **sockp)
{
    struct nl_sock *sock;
    int error;

    sock = nl_socket_alloc();
    if (!sock) {
        return ENOMEM;
    }
    error = turbotap_nl_errno(nl_connect(sock, NETLINK_ROUTE));
    if (error) {
        nl_socket_free(sock);
        return error;
    }
    *sockp = sock;
    return 0;
}
