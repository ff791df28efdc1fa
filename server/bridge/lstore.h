/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LSTORE_H
#define PERIGEE_LSTORE_H

#include "net/mailbox.h"

#include <lua.h>

/* lstore.c -- the session store for Lua. For Lua: core.*
 *
 * Each store function but the first begins a job and returns it, or nil when the store takes no
 * more; the wait is woken when the job is done, and calling it then tells what came of it. Ids are
 * texts that visitors hold; the store sees their digests. Times are seconds since 1970. */

struct host;

/* store_open(where[, is_redis]): opens the store, a file of SQLite's or ":memory:", or what
 * hub/redis_sessions.h wants, unless it is open. Raises what is wrong with it. */
int l_store_open(lua_State *L);
/* store_load(task, wait, id, now, ends, touch_below): job() returns true, the fields as a table of
 * JSON texts, and whether its end was moved to `ends`; or false, "absent" or "failed". */
int l_store_load(lua_State *L);
/* store_save(task, wait, id, now, ends, changes, may_create[, new_id]): changes: JSON text by key,
 * or false for a field to remove. job() returns true; or false, "absent" or "failed". */
int l_store_save(lua_State *L);
/* store_destroy(task, wait, id, now): as store_save. */
int l_store_destroy(lua_State *L);

/* claim_state(folder, project): this process uses a state folder for a project, from the first such
 * call until its end. The name of another project whose server does, or nil. Begins no job. */
int l_claim_state(lua_State *L);

/* A job has come back: wakes its task. Owns the mail. */
void lstore_mail(struct host *h, struct mail *mail);

#endif
