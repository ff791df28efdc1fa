/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LBLOCKING_H
#define PERIGEE_LBLOCKING_H

#include "bridge/memory.h"

#include <lua.h>
#include <uv.h>

/* lblocking.c -- functions of an app's modules run on libuv's thread pool, each in a Lua state of
 * its own; plain values cross. */

struct host;

enum { BLOCKING_AT_ONCE = 4 }; /* functions of one worker that run at the same time */

/* Lua states that wait for work. Part of a host; the pool's threads take and give under the lock.
 */
struct blocking {
  uv_mutex_t lock;
  struct blocking_state *idle;
  unsigned n_idle;
  /* the worker's alone: */
  struct job *waiting, **waiting_end; /* owned list: jobs that the pool does not have yet */
  unsigned n_jobs, n_running;         /* all; those that the pool has */
};

void blocking_init(struct host *h);
/* When no job is under way any more. */
void blocking_fini(struct host *h);

/* For Lua: core.blocking(task, wait, folder, module, function, ...): begins; returns a job. The
 * wait is woken when it is done; then job() returns true and the results, or false and an error.
 * Returns nothing when too many jobs wait already. */
int l_blocking(lua_State *L);
/* core.blocking_forget(): apps were loaded anew, so states with their old modules go. */
int l_blocking_forget(lua_State *L);

#endif
