/* SPDX-License-Identifier: Apache-2.0 */
/*
 * veth devices and XDP programs for the tests, with the bare system calls.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef TURBOTAP_TEST_XDP_H
#define TURBOTAP_TEST_XDP_H 1

#include "test.h"
#include <linux/bpf.h>
#include <linux/veth.h>

/* Appends attribute 'type' to the netlink message 'nlh'. */
static inline struct rtattr *
put_attr(struct nlmsghdr *nlh, int type, const void *data, size_t size)
{
    struct rtattr *attr = (void *) ((char *) nlh + NLMSG_ALIGN(nlh->nlmsg_len));

    attr->rta_type = type;
    attr->rta_len = RTA_LENGTH(size);
    memcpy(RTA_DATA(attr), data, size);
    nlh->nlmsg_len = NLMSG_ALIGN(nlh->nlmsg_len) + RTA_ALIGN(attr->rta_len);
    return attr;
}

static inline void
end_attr(const struct nlmsghdr *nlh, struct rtattr *attr)
{
    attr->rta_len = (char *) nlh + nlh->nlmsg_len - (char *) attr;
}

/* Makes the veths 'name' and 'peer'. */
static inline void
veth_add(const char *name, const char *peer)
{
    struct {
        struct nlmsghdr nlh;
        struct ifinfomsg ifi;
        char attrs[512];
    } request = {
        .nlh = {
            .nlmsg_len = NLMSG_LENGTH(sizeof request.ifi),
            .nlmsg_type = RTM_NEWLINK,
            .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
                           | NLM_F_EXCL,
        },
    };
    struct {
        struct nlmsghdr nlh;
        struct nlmsgerr error;
        char rest[1024];
    } reply;
    struct nlmsghdr *nlh = &request.nlh;
    struct rtattr *info, *data, *other;
    int fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));

    put_attr(nlh, IFLA_IFNAME, name, strlen(name) + 1);
    info = put_attr(nlh, IFLA_LINKINFO, "", 0);
    put_attr(nlh, IFLA_INFO_KIND, "veth", 4);
    data = put_attr(nlh, IFLA_INFO_DATA, "", 0);
    other = put_attr(nlh, VETH_INFO_PEER, &request.ifi, sizeof request.ifi);
    put_attr(nlh, IFLA_IFNAME, peer, strlen(peer) + 1);
    end_attr(nlh, other);
    end_attr(nlh, data);
    end_attr(nlh, info);
    must(send(fd, nlh, nlh->nlmsg_len, 0));
    must(recv(fd, &reply, sizeof reply, 0));
    errno = -reply.error.error;
    must(reply.error.error);
    close(fd);
}

/* Has the 'n' instructions of 'program' look at all that device 'name'
 * receives, until the descriptor that is returned is closed. */
static inline int
xdp_attach(const char *name, const struct bpf_insn *program, int n)
{
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_XDP,
        .insns = (uintptr_t) program,
        .insn_cnt = n,
        .license = (uintptr_t) "",
    };
    int prog = must(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));
    int link;

    memset(&attr, 0, sizeof attr);
    attr.link_create.prog_fd = prog;
    attr.link_create.target_ifindex = if_nametoindex(name);
    attr.link_create.attach_type = BPF_XDP;
    attr.link_create.flags = 1 << 2;    /* XDP_FLAGS_DRV_MODE */
    link = must(syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof attr));
    close(prog);
    return link;
}

#endif /* xdp.h */
