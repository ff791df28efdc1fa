/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LLUV_H
#define PERIGEE_LLUV_H

#include <lua.h>

/* lluv.c -- luv for Lua: libuv without what would end the process, change it for all, or write over
 * its memory. */

struct host;

/* What `require "luv"` calls. In a worker's state: on the worker's loop, callbacks run as tasks. */
int lluv_open(lua_State *L);
/* In a state on a thread: on a loop of its own. An error in a callback is logged, and counted in
 * *n_faults, which must outlive the state. */
void lluv_preload(lua_State *L, unsigned *n_faults);

/* For Lua: core.luv_handles(): list of luv's handles that are not closed. */
int l_luv_handles(lua_State *L);

/* The worker ends: closes all of luv's handles, so that its loop can end. Their callbacks are not
 * called any more, since h->is_stopping. Before lua_close: luv would use the state after it. */
void lluv_end_handles(struct host *h);
/* The same once more within lua_close, for what finalizers begin. To be called before anything else
 * in the state has a finalizer: the oldest runs last. */
void lluv_outlive(lua_State *L);

#endif
