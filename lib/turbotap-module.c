/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The kernel module: see turbotap-module.h. */

#include <config.h>

#include "turbotap-module.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/turbotap.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURBOTAP_PATH "/dev/net/turbotap"
#define MODULE_VERSION_PATH "/sys/module/turbotap/version"

int
turbotap_module_open(int *fdp, char *reason, size_t size)
{
    __u32 version;
    int error;
    int fd;

    fd = open(TURBOTAP_PATH, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        error = errno;
        if (error == ENOENT || error == ENODEV || error == ENXIO) {
            snprintf(reason, size, TURBOTAP_PATH
                     ": module turbotap is not loaded");
        } else {
            snprintf(reason, size, TURBOTAP_PATH ": %m");
        }
        return error;
    }

    if (ioctl(fd, TURBOTAP_GET_VERSION, &version) < 0) {
        error = errno;
        snprintf(reason, size, TURBOTAP_PATH ": %m");
        close(fd);
        return error;
    } else if (version != TURBOTAP_API_VERSION) {
        snprintf(reason, size,
                 "module turbotap has interface version %u, not %u",
                 version, TURBOTAP_API_VERSION);
        close(fd);
        return EPROTONOSUPPORT;
    }
    *fdp = fd;
    return 0;
}

int
turbotap_module_socket(int tun_fd, int *fdp, char *reason, size_t size)
{
    struct turbotap_socket req = {
        .tun_fd = tun_fd,
        .flags = TURBOTAP_NONBLOCK | TURBOTAP_CLOEXEC,
    };
    socklen_t len = sizeof(int);
    int module_fd = -1;
    int type;
    int error;

    if (!getsockopt(tun_fd, SOL_SOCKET, SO_TYPE, &type, &len)) {
        *fdp = fcntl(tun_fd, F_DUPFD_CLOEXEC, 0);
        error = *fdp < 0 ? errno : 0;
    } else {
        error = turbotap_module_open(&module_fd, reason, size);
        if (error) {
            return error;
        }
        *fdp = ioctl(module_fd, TURBOTAP_SOCKET, &req);
        error = *fdp < 0 ? errno : 0;
        close(module_fd);
    }
    if (error) {
        errno = error;
        snprintf(reason, size, "no socket: %m");
    }
    return error;
}

int
turbotap_module_version(char *version, size_t size)
{
    FILE *stream = fopen(MODULE_VERSION_PATH, "re");
    int error = 0;

    if (!stream) {
        return errno;
    }
    if (!fgets(version, size, stream)) {
        error = ENODATA;
    } else {
        version[strcspn(version, "\n")] = '\0';
    }
    fclose(stream);
    return error;
}
