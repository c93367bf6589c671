/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What every program of the benchmark does: fail, take the time, and end when
 * asked.  Must not know frames or devices. */

#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H 1

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nonzero after the first SIGTERM or SIGINT, once catch_signals() was
 * called. */
static volatile sig_atomic_t stop;

static void
on_signal(int signo)
{
    (void) signo;
    stop = 1;
}

static inline void
catch_signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal };

    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
}

/* Ends the program because 'what' failed with 'error'. */
static inline void
die_of(const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
            strerror(error));
    exit(EXIT_FAILURE);
}

/* Ends the program because 'what' failed with errno. */
static inline void
die(const char *what)
{
    die_of(what, errno);
}

/* Returns the time in seconds, from any start. */
static inline double
now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Sleeps until now() is 'when', or a signal comes. */
static inline void
sleep_until(double when)
{
    struct timespec ts = { .tv_sec = when };

    ts.tv_nsec = (when - ts.tv_sec) * 1e9;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

#endif /* bench-program.h */
