/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_COLLECTOR_H
#define PERIGEE_COLLECTOR_H

#include "net/deadline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* collector.c -- what a burst has left is collected, and its memory goes back to the system.
 *
 * Lua begins to collect when its memory has doubled: after a burst that is never, when little is
 * done. So some seconds after something has happened a whole cycle is made, in small steps between
 * which others have their turn, and what was freed is given back. The less a cycle finds, the
 * longer the next one waits. Worker's thread only. */

struct host;

struct collector {
  struct deadline tick;
  uint64_t wait_ms; /* from something that happens to a cycle */
  uint64_t seen;    /* the worker's activity at the last tick */
  size_t before;    /* Lua's memory when the cycle began */
  size_t settled;   /* when the last one ended */
  uint8_t cycles;   /* that are still to be made; 0: none is under way */
  bool is_trimming; /* work is under way */
  uv_work_t work;
};

void collector_init(struct host *h);
/* Something has happened since the last tick: there will be another. Each turn asks. */
void collector_wake(struct host *h);
/* Before the worker closes. */
void collector_stop(struct host *h);

#endif
