/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What it costs to move a frame by an I/O class on this CPU, with its
 * mitigations.  It must not know which classes there are, nor how one moves a
 * frame. */

#ifndef TURBOTAP_COST_H
#define TURBOTAP_COST_H 1

struct turbotap_io_class;

/* Each measures 'class' with a batch of small frames, and no device behind it.
 * That takes some milliseconds where a system call takes 0.2 us.  Returns the
 * least time for a frame that was seen, in ns, 0 if it cannot be measured.
 *
 * The costs of two classes can be compared: what else there is, the pipe or
 * /dev/null, is in both. */
unsigned int turbotap_cost_to_receive(const struct turbotap_io_class *class);
unsigned int turbotap_cost_to_send(const struct turbotap_io_class *class);

#endif /* turbotap-cost.h */
