/* SPDX-License-Identifier: MIT */
/* task.c -- the only file that starts, resumes, wakes or ends Lua code. */
#include "bridge/task.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/host.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  SLOT_BITS = 20, /* ids are serial << 20 | slot */
  FREE_MAX = 256, /* idle tasks that keep their coroutine */
};

static void resume(struct task *t, int n_args);

/* ---- protected calls on the main state ----------------------------------------------------------- */

bool task_protect(struct host *h, lua_CFunction fn, void *arg, int nresults) {
  lua_State *L = h->L;
  if (!lua_checkstack(L, 4)) return false;
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  return lua_pcall(L, 1, nresults, 0) == LUA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------- */

void tasks_init(struct host *h) {
  h->tasks = (struct tasks){0};
  h->tasks.ready_end = &h->tasks.ready;
}

static struct task *task_of_deadline(struct deadline *d) {
  return (struct task *)((char *)d - offsetof(struct task, deadline));
}

uint64_t task_id(const struct task *t) {
  return t->serial << SLOT_BITS | t->slot;
}

struct task *task_find(struct host *h, uint64_t id) {
  uint64_t slot = id & ((1u << SLOT_BITS) - 1);
  if (slot >= h->tasks.n_slots) return NULL;
  struct task *t = h->tasks.slots[slot];
  return t && t->state != TASK_FREE && t->serial == id >> SLOT_BITS ? t : NULL;
}

static int make_thread(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  t->co = lua_newthread(L);
  t->anchor = luaL_ref(L, LUA_REGISTRYINDEX); /* unanchored, it would be garbage while it waits */
  return 0;
}

static struct task *task_make(struct host *h) {
  struct tasks *ts = &h->tasks;
  if (ts->n_slots == 1u << SLOT_BITS) return NULL;
  struct task *t = mem_zalloc(sizeof *t);
  t->host = h;
  if (!task_protect(h, make_thread, t, 0)) { /* Lua's memory is exhausted */
    lua_pop(h->L, 1);
    free(t);
    return NULL;
  }
  uint32_t slot = 0;
  if (ts->n_live == ts->n_slots) {
    slot = ts->n_slots;
    ts->n_slots = slot ? slot * 2 : 16;
    ts->slots = mem_realloc(ts->slots, ts->n_slots * sizeof *ts->slots);
    memset(ts->slots + slot, 0, (ts->n_slots - slot) * sizeof *ts->slots);
  } else {
    while (ts->slots[slot]) slot++;
  }
  t->slot = slot;
  ts->slots[slot] = t;
  ts->n_live++;
  return t;
}

struct task *task_begin(struct host *h, const struct task_kind *kind) {
  struct task *t = h->tasks.free;
  if (t) {
    h->tasks.free = t->next;
    h->tasks.n_free--;
  } else if (!(t = task_make(h))) {
    return NULL;
  }
  t->kind = kind;
  t->serial = ++h->tasks.serial;
  t->state = TASK_READY;
  t->has_waited = t->is_failing = t->is_early = false;
  t->next = NULL;
  metric_add(&h->worker.metrics.tasks, 1);
  return t;
}

/* The code is done: back to the free list, or gone when there are enough. */
static void task_end(struct task *t) {
  struct host *h = t->host;
  struct tasks *ts = &h->tasks;
  deadline_unset(&h->worker.deadlines, &t->deadline);
  if (t->kind->released) t->kind->released(t);
  if (t->is_early) luaL_unref(h->L, LUA_REGISTRYINDEX, t->early);
  if (t->is_failing) luaL_unref(h->L, LUA_REGISTRYINDEX, t->failure);
  t->is_early = t->is_failing = false;
  t->state = TASK_FREE;
  t->wait++;
  if (ts->n_free >= FREE_MAX) {
    luaL_unref(h->L, LUA_REGISTRYINDEX, t->anchor);
    ts->slots[t->slot] = NULL;
    ts->n_live--;
    free(t);
    return;
  }
  t->next = ts->free;
  ts->free = t;
  ts->n_free++;
}

void tasks_fini(struct host *h) {
  struct tasks *ts = &h->tasks;
  for (uint32_t i = 0; i < ts->n_slots; i++) {
    struct task *t = ts->slots[i];
    if (!t) continue;
    if (t->state != TASK_FREE) {
      deadline_unset(&h->worker.deadlines, &t->deadline);
      if (t->kind->released) t->kind->released(t);
    }
    free(t);
  }
  free(ts->slots);
  *ts = (struct tasks){0};
}

/* ---- errors -------------------------------------------------------------------------------------- */

static void log_lost(struct task *t, lua_State *L, const char *event) {
  static struct log_limit limit = LOG_LIMIT(20);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_ERROR, event)) return;
  log_str(&l, "task", t->kind->name);
  /* lua_tostring of a number would allocate */
  log_str(&l, "error", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1)
                                                      : lua_typename(L, lua_type(L, -1)));
  log_end(&l);
}

void task_failure(lua_State *L, struct task *t) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  lua_remove(L, -3);
}

/* Puts the error and its dead coroutine aside and gives the task a fresh one. */
static int bury(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_State *dead = t->co;
  lua_createtable(L, 2, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->anchor);
  lua_rawseti(L, -2, 2);
  lua_xmove(dead, L, 1);
  lua_rawseti(L, -2, 1);
  lua_State *fresh = lua_newthread(L);
  lua_rawseti(L, LUA_REGISTRYINDEX, t->anchor);
  t->co = fresh;
  t->failure = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static int report_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.report);
  task_failure(L, t);
  lua_pushstring(L, t->kind->name);
  lua_call(L, 3, 0);
  return 0;
}

static void fail(struct task *t) {
  struct host *h = t->host;
  if (t->is_failing || !task_protect(h, bury, t, 0)) {
    lua_State *L = t->is_failing ? t->co : h->L;
    log_lost(t, L, "an error could not be reported");
    if (L == h->L) lua_pop(L, 1);
    lua_resetthread(t->co);
    lua_settop(t->co, 0);
    if (t->kind->gave_up) t->kind->gave_up(t);
    task_end(t);
    return;
  }
  t->is_failing = true;
  if (t->kind->failed) {
    t->kind->failed(t);
  } else {
    lua_pushcfunction(t->co, report_body);
    lua_pushlightuserdata(t->co, t);
  }
  resume(t, 1);
}

/* ---- running ------------------------------------------------------------------------------------- */

static void resume(struct task *t, int n_args) {
  struct host *h = t->host;
  int n_results;
  check(h->tasks.running == NULL);
  h->tasks.running = t;
  h->worker.activity++;
  t->state = TASK_RUNNING;
  int status = lua_resume(t->co, h->L, n_args, &n_results);
  h->tasks.running = NULL;
  builder_abort(&h->worker.out); /* an error may have left a message half written */
  builder_abort(&h->groups.out);
  if (status == LUA_YIELD && t->state == TASK_WAITING) {
    lua_pop(t->co, n_results);
    if (!t->has_waited && t->kind->waits) t->kind->waits(t);
    t->has_waited = true;
    return;
  }
  if (status == LUA_OK) {
    lua_settop(t->co, 0);
    if (t->kind->ended) t->kind->ended(t);
    task_end(t);
    return;
  }
  if (status == LUA_YIELD) {
    /* nobody would ever resume it */
    lua_settop(t->co, 0);
    lua_pushliteral(t->co, "coroutine.yield outside of a coroutine of your own");
  }
  fail(t);
}

void task_run(struct task *t, lua_CFunction body) {
  lua_pushcfunction(t->co, body);
  lua_pushlightuserdata(t->co, t);
  resume(t, 1);
}

static void make_ready(struct task *t, int n_args) {
  struct tasks *ts = &t->host->tasks;
  deadline_unset(&t->host->worker.deadlines, &t->deadline);
  t->state = TASK_READY;
  t->n_args = n_args;
  t->next = NULL;
  *ts->ready_end = t;
  ts->ready_end = &t->next;
  worker_hurry(&t->host->worker);
}

void task_run_soon(struct task *t, lua_CFunction body) {
  lua_pushcfunction(t->co, body);
  lua_pushlightuserdata(t->co, t);
  make_ready(t, 1);
}

bool tasks_turn(struct host *h) {
  struct tasks *ts = &h->tasks;
  struct task *t = ts->ready;
  ts->ready = NULL;
  ts->ready_end = &ts->ready;
  while (t) {
    struct task *next = t->next;
    t->next = NULL;
    resume(t, t->n_args);
    t = next;
  }
  return ts->ready != NULL;
}

/* ---- waiting ------------------------------------------------------------------------------------- */

static void on_deadline(struct deadline *d) {
  struct task *t = task_of_deadline(d);
  check(t->state == TASK_WAITING);
  t->wait++; /* who wakes it now is too late */
  lua_pushboolean(t->co, 0);
  make_ready(t, 1);
}

/* The task that runs this code. Raises when there is none, or when the code is in a coroutine that
 * the app made itself: yielding there would only reach whoever resumed it. */
static struct task *running_task(lua_State *L) {
  struct task *t = host_of(L)->tasks.running;
  if (!t) luaL_error(L, "cannot wait here: this code runs while its app is loaded");
  if (t->co != L)
    luaL_error(L, "cannot wait inside a coroutine of your own: use perigee.spawn instead");
  return t;
}

int l_wait_open(lua_State *L) {
  struct task *t = running_task(L);
  if (t->is_early) {
    luaL_unref(L, LUA_REGISTRYINDEX, t->early);
    t->is_early = false;
  }
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushinteger(L, t->wait);
  return 2;
}

int l_park(lua_State *L) {
  struct task *t = running_task(L);
  bool has_deadline = !lua_isnoneornil(L, 1);
  lua_Number seconds = has_deadline ? luaL_checknumber(L, 1) : 0;
  if (!lua_isnoneornil(L, 2) && (uint32_t)luaL_checkinteger(L, 2) != t->wait) {
    if (!t->is_early) return luaL_error(L, "this wait is over");
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->early);
    luaL_unref(L, LUA_REGISTRYINDEX, t->early);
    t->is_early = false;
    lua_Integer n = (lua_rawgeti(L, 1, 0), lua_tointeger(L, -1));
    lua_pushboolean(L, 1);
    luaL_checkstack(L, (int)n, "too many values");
    for (lua_Integer i = 1; i <= n; i++) lua_rawgeti(L, 1, i);
    return 1 + (int)n;
  }
  if (!lua_isyieldable(L))
    return luaL_error(L, "cannot wait here: a C function (a metamethod's, table.sort's or "
                         "string.gsub's callback) is in between");
  if (has_deadline) {
    struct worker *w = &t->host->worker;
    /* a century is as good as for ever, and fits */
    double ms = seconds > 0 ? ceil((seconds < 3e9 ? seconds : 3e9) * 1000) : 0;
    t->deadline.fire = on_deadline;
    deadline_set(&w->deadlines, &t->deadline, worker_now(w) + (uint64_t)ms);
  }
  t->state = TASK_WAITING;
  return lua_yield(L, 0);
}

bool task_wake(struct host *h, uint64_t id, uint32_t wait) {
  struct task *t = task_find(h, id);
  if (!t || t->wait != wait || t->state != TASK_WAITING) return false;
  lua_pushboolean(t->co, 1);
  t->wait++;
  make_ready(t, 1);
  return true;
}

int l_wake(lua_State *L) {
  struct host *h = host_of(L);
  struct task *t = task_find(h, (uint64_t)luaL_checkinteger(L, 1));
  uint32_t wait = (uint32_t)luaL_checkinteger(L, 2);
  int n = lua_gettop(L) - 2;
  if (!t || t->wait != wait || t->state == TASK_READY) {
    lua_pushboolean(L, 0);
    return 1;
  }
  if (t->state == TASK_WAITING) {
    if (!lua_checkstack(t->co, n + 1)) return luaL_error(L, "too many values");
    lua_pushboolean(t->co, 1);
    lua_xmove(L, t->co, n);
    t->wait++;
    make_ready(t, n + 1);
  } else { /* it runs, and is about to park */
    lua_createtable(L, n, 1);
    lua_insert(L, 3);
    for (int i = n; i >= 1; i--) lua_rawseti(L, 3, i);
    lua_pushinteger(L, n);
    lua_rawseti(L, 3, 0);
    t->early = luaL_ref(L, LUA_REGISTRYINDEX);
    t->is_early = true;
    t->wait++;
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- other core functions ------------------------------------------------------------------------ */

static const struct task_kind spawned = {.name = "spawn"};

int l_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  int n = lua_gettop(L);
  struct task *t = task_begin(host_of(L), &spawned);
  if (!t) return luaL_error(L, "no memory for another task");
  if (!lua_checkstack(t->co, n)) {
    task_end(t);
    return luaL_error(L, "too many arguments");
  }
  lua_xmove(L, t->co, n);
  make_ready(t, n - 1);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  return 1;
}

static const struct task_kind luv_kind = {.name = "luv callback"};

int task_callback(lua_State *L, int n_args, int n_results, int flags) {
  struct host *h = host_of(L);
  (void)flags;
  if (h->tasks.running) { /* luv calls back from within a call, as uv.walk does: no task of its own */
    lua_call(L, n_args, n_results < 0 ? 0 : n_results);
    return n_results < 0 ? 0 : n_results;
  }
  struct task *t = task_begin(h, &luv_kind);
  if (t && lua_checkstack(t->co, n_args + 1)) {
    lua_xmove(L, t->co, n_args + 1);
    resume(t, n_args);
  } else {
    log_say(LOG_ERROR, "no memory in Lua for a luv callback");
    lua_pop(L, n_args + 1);
    if (t) task_end(t);
  }
  if (n_results <= 0) return 0;
  lua_checkstack(L, n_results);
  for (int i = 0; i < n_results; i++) lua_pushnil(L);
  return n_results;
}

int l_now(lua_State *L) {
  struct host *h = host_of(L);
  lua_pushnumber(L, (lua_Number)worker_now(&h->worker) / 1000);
  return 1;
}

int l_running(lua_State *L) {
  struct task *t = host_of(L)->tasks.running;
  if (!t) return 0;
  lua_pushinteger(L, (lua_Integer)task_id(t));
  return 1;
}
