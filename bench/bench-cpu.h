/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The machine's CPU time, as in the first line of /proc/stat (proc(5)). */

#ifndef BENCH_CPU_H
#define BENCH_CPU_H 1

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench-program.h"

#define BENCH_N_CPU_TIMES 8

static const char *const bench_cpu_names[BENCH_N_CPU_TIMES] = {
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
};

/* Returns a descriptor for bench_read_cpu(). */
static inline int
bench_open_cpu(void)
{
    int fd = open("/proc/stat", O_RDONLY);

    if (fd < 0) {
        die("/proc/stat");
    }
    return fd;
}

/* Stores the times until now, in clock ticks, in 'times'. */
static inline void
bench_read_cpu(int fd, uint64_t times[BENCH_N_CPU_TIMES])
{
    char buf[256], *p = buf + strlen("cpu");
    ssize_t n = pread(fd, buf, sizeof buf - 1, 0);

    if (n < 0) {
        die("/proc/stat");
    }
    buf[n] = '\0';
    for (int i = 0; i < BENCH_N_CPU_TIMES; i++) {
        times[i] = strtoull(p, &p, 10);
    }
}

/* Prints the time from 'a' to 'b' as a JSON object of seconds. */
static inline void
bench_print_cpu(const uint64_t a[BENCH_N_CPU_TIMES],
                const uint64_t b[BENCH_N_CPU_TIMES])
{
    double tick = 1.0 / sysconf(_SC_CLK_TCK);

    for (int i = 0; i < BENCH_N_CPU_TIMES; i++) {
        printf("%s\"%s\": %.2f", i ? ", " : "{", bench_cpu_names[i],
               (b[i] - a[i]) * tick);
    }
    putchar('}');
}

#endif /* bench-cpu.h */
