/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* io_uring as the I/O class "uring" has it: how a ring is made, the read that
 * liburing 2.3 does not know, and whether this kernel can do all of it.  It
 * must not know queues. */

#ifndef TURBOTAP_URING_H
#define TURBOTAP_URING_H 1

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes a 'ring' with 'entries' submissions and 'n_cqes' completions, to be
 * destroyed with io_uring_queue_exit().  Returns 0 or a positive errno
 * value. */
int turbotap_uring_init(struct io_uring *ring, unsigned int entries,
                        unsigned int n_cqes);

/* Makes of 'sqe' a multishot read of 'fd' into provided buffers of
 * 'buf_group', whose completions have 'user_data'. */
void turbotap_uring_prep_read(struct io_uring_sqe *sqe, int fd,
                              unsigned int buf_group, uint64_t user_data);

/* Is the probe() of "uring": see struct turbotap_io_class. */
bool turbotap_uring_probe(int fd, char *reason, size_t size);

#endif /* turbotap-uring.h */
