/* SPDX-License-Identifier: MIT */
/* lstore.c -- the session store for Lua. */
#include "bridge/lstore.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "hub/claim.h"
#include "hub/redis_sessions.h"
#include "hub/sqlite.h"
#include "wire/digest.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <stdlib.h>

static const char metatable[] = "perigee.store_job";

int l_store_open(lua_State *L) {
  struct host *h = host_of(L);
  const char *where = luaL_checkstring(L, 1);
  char *error = NULL;
  if (!h->store) return luaL_error(L, "there is no session store here");
  bool is_redis = lua_toboolean(L, 2);
  if (store_open(h->store, is_redis ? &redis_keeper : &sqlite_keeper, where, &error)) return 0;
  lua_pushfstring(L, "sessions: %s", error);
  free(error);
  return lua_error(L);
}

static int l_job_gc(lua_State *L) {
  struct store_job **box = luaL_checkudata(L, 1, metatable);
  if (*box) store_job_unref(*box);
  *box = NULL;
  return 0;
}

static int l_job_results(lua_State *L) {
  struct store_job **box = luaL_checkudata(L, 1, metatable), *job = *box;
  if (!job || !job->is_home) return luaL_error(L, "this job is not done, or was asked already");
  if (job->status != STORE_OK) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, job->status == STORE_ABSENT ? "absent" : "failed");
    return 2;
  }
  lua_pushboolean(L, 1);
  if (job->op != STORE_LOAD) return 1;
  struct store_field field;
  const char *key, *value;
  lua_newtable(L);
  for (size_t at = 0; store_field_next(&job->out, &at, &field, &key, &value);) {
    lua_pushlstring(L, key, field.key);
    lua_pushlstring(L, value, field.value);
    lua_rawset(L, -3);
  }
  lua_pushboolean(L, job->is_touched);
  *box = NULL;
  store_job_unref(job);
  return 3;
}

static void digest_arg(lua_State *L, int index, uint8_t out[static STORE_ID]) {
  size_t n;
  const char *id = luaL_checklstring(L, index, &n);
  _Static_assert((int)STORE_ID == (int)DIGEST_LEN, "the store keeps digests");
  digest_sha256(id, n, out);
}

/* Pushes a job with the arguments that all have: task, wait, id, now. */
static struct store_job *push_job(lua_State *L, enum store_op op) {
  struct host *h = host_of(L);
  uint64_t task = (uint64_t)luaL_checkinteger(L, 1);
  uint32_t wait = (uint32_t)luaL_checkinteger(L, 2);
  int64_t now = luaL_checkinteger(L, 4);
  struct store_job **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, l_job_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_job_results);
    lua_setfield(L, -2, "__call");
  }
  lua_setmetatable(L, -2);
  struct store_job *job = *box = store_job_new(op);
  job->mail.kind = HOST_STORED;
  job->box = &h->worker.mailbox;
  job->task = task;
  job->wait = wait;
  job->now = now;
  digest_arg(L, 3, job->id);
  return job;
}

/* The job is on top of the stack. */
static int post(lua_State *L, struct store_job *job) {
  struct host *h = host_of(L);
  if (!h->store || !store_post(h->store, job)) {
    metric_add(&h->worker.metrics.session_refused, 1);
    lua_pushnil(L);
    return 1;
  }
  h->n_storing++;
  return 1;
}

int l_store_load(lua_State *L) {
  struct store_job *job = push_job(L, STORE_LOAD);
  job->ends = luaL_checkinteger(L, 5);
  job->touch_below = luaL_checkinteger(L, 6);
  metric_add(&host_of(L)->worker.metrics.session_loads, 1);
  return post(L, job);
}

int l_store_save(lua_State *L) {
  lua_settop(L, 8);
  luaL_checktype(L, 6, LUA_TTABLE);
  struct store_job *job = push_job(L, STORE_SAVE);
  job->ends = luaL_checkinteger(L, 5);
  job->may_create = lua_toboolean(L, 7);
  job->is_rotated = !lua_isnil(L, 8);
  if (job->is_rotated) digest_arg(L, 8, job->new_id);
  for (lua_pushnil(L); lua_next(L, 6); lua_pop(L, 1)) {
    size_t key_len, value_len = 0;
    luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 6, "keys are strings");
    const char *key = lua_tolstring(L, -2, &key_len);
    const char *value = lua_toboolean(L, -1) ? luaL_checklstring(L, -1, &value_len) : NULL;
    store_field_add(&job->in, key, key_len, value, value_len);
  }
  metric_add(&host_of(L)->worker.metrics.session_saves, 1);
  return post(L, job);
}

int l_store_destroy(lua_State *L) {
  metric_add(&host_of(L)->worker.metrics.session_saves, 1);
  return post(L, push_job(L, STORE_DESTROY));
}

int l_claim_state(lua_State *L) {
  static atomic_flag is_claimed = ATOMIC_FLAG_INIT; /* of all workers one does */
  const char *folder = luaL_checkstring(L, 1), *project = luaL_checkstring(L, 2);
  char *other;
  if (atomic_flag_test_and_set(&is_claimed)) return 0;
  claim_take(folder, project, &other); /* the descriptor stays open as long as the process lives */
  if (!other) return 0;
  lua_pushstring(L, other);
  free(other);
  return 1;
}

void lstore_mail(struct host *h, struct mail *mail) {
  struct store_job *job = (struct store_job *)mail;
  job->is_home = true;
  h->n_storing--;
  h->worker.activity++;
  if (job->status == STORE_FAILED) metric_add(&h->worker.metrics.session_failures, 1);
  task_wake(h, job->task, job->wait);
  store_job_unref(job);
}
