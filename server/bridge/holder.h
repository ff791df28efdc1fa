/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HOLDER_H
#define PERIGEE_HOLDER_H

#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* holder.c -- what holds a worker so that nothing can end it: a C function, or a __gc.
 *
 *   watchdog's thread          worker's thread, in the signal's handler    worker's, in Lua
 *   holder_ask  ─────────────▶ holder_look: who runs
 *   holder_tell: logs it  ◀────┘                                           holder_over: it has come
 *                                                                          back, and is named
 *
 * A handler must not look at Lua's stack, which may be on the move, in the middle of a call: so
 * while it holds the worker the log has the path it runs for, and its name once it returns. */

struct host;

enum { HOLDER_PATH_MAX = 128 };
enum holder_step { HOLDER_UNKNOWN, HOLDER_ASKED, HOLDER_SEEN };

struct holder {
  atomic_int step; /* enum holder_step; orders what follows */
  unsigned asked;  /* watchdog's, read when ASKED: number of the slice that does not end */
  uint64_t ran;    /* the same: ms since it began */
  char path[HOLDER_PATH_MAX]; /* handler's, read when SEEN: the consumer's, or empty */
  atomic_ullong began;        /* the worker's own: ms on uv_hrtime's clock; 0: nothing was seen */
};

/* Watchdog's thread: asks about a slice that does not end; then the worker gets its signal. */
void holder_ask(struct host *h, unsigned serial, uint64_t ran_ms);
/* Watchdog's thread, at the next tick: logs what was found out, and counts. */
void holder_tell(struct host *h);

/* Worker's thread, in a signal handler, while Lua runs. */
void holder_look(struct host *h);
/* Worker's thread, in a hook: Lua goes on. is_return: a C function has returned. */
void holder_over(lua_State *L, bool is_return);
/* Worker's thread: the slice is over. */
void holder_forget(struct host *h);

#endif
