/* SPDX-License-Identifier: MIT */
/* task.c -- the only file that starts, resumes, wakes or ends Lua code. */
#include "bridge/task.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/settings.h"

#include <lauxlib.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  SLOT_BITS = 20, /* ids are serial << 20 | slot */
  FREE_MAX = 256, /* idle tasks that keep their coroutine */
};

/* A coroutine that app code resumed itself, on the C stack of whoever did. */
struct nested {
  lua_State *co;
  struct nested *outer;
};

/* The signal's handler walks these at any moment. */
static void nested_begin(struct host *h, struct nested *frame) {
  atomic_signal_fence(memory_order_release);
  h->tasks.nested = frame;
}

static void nested_end(struct host *h, const struct nested *frame) {
  h->tasks.nested = frame->outer;
  atomic_signal_fence(memory_order_seq_cst);
}

/* Ready tasks of one connection (or of none) that has had its share of a turn. Kept by connection,
 * as looking through a hundred thousand of one's tasks in each turn would be work for nothing. */
struct late {
  struct late *next;
  uint64_t conn;
  struct task *first, **end;
};

static void resume(struct task *t, int n_args);
static void make_ready(struct task *t, int n_args);

/* ---- slices ---------------------------------------------------------------------------------- */

/* Lua is about to run, or has stopped running. What the signal's handler reads was written before,
 * and is changed afterwards only. */
static void slice_border(struct host *h) {
  unsigned serial = atomic_load_explicit(&h->slice.serial, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
  atomic_store_explicit(&h->slice.serial, serial + 1, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
}

static void slice_begin(struct host *h) {
  slice_border(h);
}

static void slice_end(struct host *h) {
  slice_border(h);
  if (atomic_load_explicit(&h->slice.request, memory_order_relaxed) == SLICE_NONE) return;
  atomic_store_explicit(&h->slice.request, SLICE_NONE, memory_order_relaxed);
  h->slice.grace = 0;
  holder_forget(h);
}

/* A request has been dealt with, unless there is another meanwhile. */
static void slice_answer(struct slice_watch *s, unsigned request) {
  atomic_compare_exchange_strong_explicit(&s->request, &request, SLICE_NONE, memory_order_relaxed,
                                          memory_order_relaxed);
}

static _Thread_local struct host *signalled_host;

/* What deals with an error that was raised here may use functions that look at the request: they
 * may go on for a while, or they would raise it again, within the handler of an error. */
enum { GRACE = 100000 };

static void warn_slow(lua_State *L, struct host *h) {
  struct task *t = h->tasks.running;
  unsigned serial = atomic_load_explicit(&h->slice.serial, memory_order_relaxed);
  slice_answer(&h->slice, serial << 2 | SLICE_WARN);
  lua_sethook(L, NULL, 0, 0);
  metric_add(&h->worker.metrics.slices_warned, 1);
  luaL_checkstack(L, 3, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->entries.slow);
  lua_pushinteger(L, t ? (lua_Integer)task_id(t) : 0);
  lua_pushinteger(L, (lua_Integer)h->settings->slice_warn_ms);
  lua_call(L, 2, 0);
}

/* Returns only in a hook that yields. */
static void end_slice(lua_State *L, struct host *h) {
  struct task *t = h->tasks.running;
  if (t) {
    if (t->stop != STOP_SLICE) metric_add(&h->worker.metrics.slices_ended, 1);
    t->stop = STOP_SLICE;
    t->stop_seconds = (double)h->settings->slice_stop_ms / 1000;
  }
  if (t && lua_isyieldable(L)) {
    /* Never resumed again: no pcall can keep it, and what is left to close is closed with hooks
     * on. (An error raised here would leave them off, and a __close that loops could not be
     * ended.) */
    lua_yield(L, 0);
    return;
  }
  /* Inside a C function, or while an app is loaded. Stays armed: code that catches this error
   * gets it again at its next instruction. */
  h->slice.grace = GRACE;
  luaL_checkstack(L, 3, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->entries.stopped);
  lua_pushinteger(L, STOP_SLICE);
  lua_pushnumber(L, (lua_Number)h->settings->slice_stop_ms / 1000);
  lua_call(L, 2, 1);
  lua_error(L);
}

/* Runs after the next instruction of code that has run for too long, or when a C function that it
 * was in returns. */
static void on_slice_hook(lua_State *L, lua_Debug *ar) {
  struct host *h = host_of(L);
  holder_over(L, ar->event == LUA_HOOKRET);
  if (ar->event == LUA_HOOKRET) return;
  switch (slice_wanted(&h->slice)) {
  case SLICE_WARN: warn_slow(L, h); return;
  case SLICE_STOP: end_slice(L, h); return;
  default: lua_sethook(L, NULL, 0, 0); /* armed too late: that slice is over */
  }
}

void task_slice_due(lua_State *L) {
  struct host *h = host_of(L);
  unsigned request = atomic_load_explicit(&h->slice.request, memory_order_relaxed);
  switch (slice_wanted(&h->slice)) {
  case SLICE_WARN: warn_slow(L, h); return;
  case SLICE_STOP:
    if (h->slice.grace)
      h->slice.grace--;
    else
      end_slice(L, h);
    return;
  default: slice_answer(&h->slice, request); /* made too late */
  }
}

/* On the worker's own thread, in the middle of whatever it does. lua_sethook may be called from a
 * signal handler (the manual's words; lua.c does it on Ctrl-C); nothing else of Lua's may. */
static void on_slice_signal(int signal) {
  struct host *h = signalled_host;
  (void)signal;
  if (!h || !(atomic_load_explicit(&h->slice.serial, memory_order_relaxed) & 1)) return;
  for (struct nested *n = h->tasks.nested; n; n = n->outer)
    lua_sethook(n->co, on_slice_hook, LUA_MASKCOUNT | LUA_MASKRET, 1);
  lua_State *L = h->tasks.running ? h->tasks.running->co : h->L;
  lua_sethook(L, on_slice_hook, LUA_MASKCOUNT | LUA_MASKRET, 1);
  holder_look(h);
}

enum { SLICE_SIGNAL = SIGURG }; /* ignored by default, so a stray one does no harm */

void slice_watch_begin(struct host *h) {
  struct sigaction action = {.sa_handler = on_slice_signal, .sa_flags = SA_RESTART};
  signalled_host = h;
  sigaction(SLICE_SIGNAL, &action, NULL);
}

void slice_watch_tick(struct host *h, uv_thread_t thread, uint64_t now, uint64_t warn_ms,
                      uint64_t stop_ms) {
  struct slice_watch *s = &h->slice;
  unsigned serial = atomic_load_explicit(&s->serial, memory_order_relaxed);
  uint64_t ran = now - s->since;
  holder_tell(h);
  if (serial != s->last || !(serial & 1)) {
    s->last = serial;
    s->since = now;
    s->asked = SLICE_NONE;
    return;
  }
  int want = ran >= stop_ms ? SLICE_STOP : ran >= warn_ms ? SLICE_WARN : SLICE_NONE;
  if (want > s->asked) {
    s->asked = (uint8_t)want;
    atomic_store_explicit(&s->request, serial << 2 | (unsigned)want, memory_order_relaxed);
    pthread_kill(thread, SLICE_SIGNAL);
  } else if (want == SLICE_STOP && ran >= stop_ms << (s->asked - SLICE_STOP + 1)) {
    /* Said after twice the time, four times, and so on. */
    if (s->asked < 40) s->asked++;
    holder_ask(h, serial, ran);
    pthread_kill(thread, SLICE_SIGNAL);
  }
}

/* ---- protected calls on the main state ------------------------------------------------------- */

bool task_protect(struct host *h, lua_CFunction fn, void *arg, int nresults) {
  lua_State *L = h->L;
  if (!lua_checkstack(L, 4)) return false;
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  bool is_outermost = !h->tasks.running;
  if (is_outermost) slice_begin(h);
  int status = lua_pcall(L, 1, nresults, 0);
  if (is_outermost) slice_end(h);
  return status == LUA_OK;
}

bool task_pcall(lua_State *L, int n_args, int n_results) {
  return lua_pcall(L, n_args, n_results, 0) == LUA_OK;
}

bool task_pcall_with(lua_State *L, int n_args, int n_results, int handler) {
  return lua_pcall(L, n_args, n_results, handler) == LUA_OK;
}

/* ---- life ------------------------------------------------------------------------------------ */

void tasks_init(struct host *h) {
  h->tasks = (struct tasks){0};
  h->tasks.ready_end = &h->tasks.ready;
  h->tasks.late_end = &h->tasks.late;
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

/* A task's own coroutine runs when the task does: apps that get hold of it (coroutine.running) can
 * neither resume nor close it, or the values that wait on it for the task would be gone. */
static void set_own(lua_State *co, bool is_own) {
  uintptr_t *extra = lua_getextraspace(co); /* new ones get the main state's, which is no task's */
  *extra = (*extra & ~(uintptr_t)1) | is_own;
}

static bool is_own(lua_State *co) {
  return *(uintptr_t *)lua_getextraspace(co) & 1;
}

static int make_thread(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  t->co = lua_newthread(L);
  set_own(t->co, true);
  t->anchor = luaL_ref(L, LUA_REGISTRYINDEX); /* unanchored, it would be garbage while it waits */
  return 0;
}

static struct task *task_make(struct host *h) {
  struct tasks *ts = &h->tasks;
  if (ts->n_vacant == 0 && ts->n_slots == 1u << SLOT_BITS) return NULL;
  struct task *t = mem_zalloc(sizeof *t);
  t->host = h;
  if (!task_protect(h, make_thread, t, 0)) { /* Lua's memory is exhausted */
    lua_pop(h->L, 1);
    free(t);
    return NULL;
  }
  if (ts->n_vacant == 0) {
    uint32_t old = ts->n_slots;
    ts->n_slots = old ? old * 2 : 16;
    ts->slots = mem_realloc(ts->slots, ts->n_slots * sizeof *ts->slots);
    memset(ts->slots + old, 0, (ts->n_slots - old) * sizeof *ts->slots);
    ts->vacant = mem_realloc(ts->vacant, ts->n_slots * sizeof *ts->vacant);
    for (uint32_t i = ts->n_slots; i-- > old;) ts->vacant[ts->n_vacant++] = i;
  }
  t->slot = ts->vacant[--ts->n_vacant];
  ts->slots[t->slot] = t;
  return t;
}

/* After tasks_fini, while Lua's state is closed, __gc methods may still ask for tasks. */
static bool is_over(const struct tasks *ts) {
  return !ts->ready_end;
}

struct task *task_begin(struct host *h, const struct task_kind *kind) {
  struct task *t = h->tasks.free;
  if (is_over(&h->tasks)) return NULL;
  if (t) {
    h->tasks.free = t->next;
    h->tasks.n_free--;
  } else if (!(t = task_make(h))) {
    return NULL;
  }
  t->kind = kind;
  t->serial = ++h->tasks.serial;
  t->state = TASK_READY;
  t->has_waited = t->is_failing = t->is_open = t->is_early = false;
  t->is_exhausted = t->is_closing = t->is_unwinding = t->is_forgiven = false;
  t->excuse = EXCUSE_NONE;
  t->stop = STOP_NOT;
  t->path = NULL;
  t->conn = 0;
  t->next = NULL;
  metric_add(&h->worker.metrics.tasks, 1);
  return t;
}

void task_names(struct task *t, const char *path, uint64_t conn) {
  t->path = path;
  t->conn = conn;
}

/* What came before the task parked, and was not asked for. */
static void drop_early(struct task *t) {
  if (t->is_early) luaL_unref(t->host->L, LUA_REGISTRYINDEX, t->early);
  t->is_early = false;
}

/* The code is done: back to the free list, or gone when there are enough. */
static void task_end(struct task *t) {
  struct host *h = t->host;
  struct tasks *ts = &h->tasks;
  deadline_unset(&h->worker.deadlines, &t->deadline);
  deadline_unset(&h->worker.deadlines, &t->limit);
  if (t->kind->released) t->kind->released(t);
  drop_early(t);
  if (t->is_failing) luaL_unref(h->L, LUA_REGISTRYINDEX, t->failure);
  t->is_open = t->is_failing = false;
  t->state = TASK_FREE;
  if (!t->co || ts->n_free >= FREE_MAX) {
    luaL_unref(h->L, LUA_REGISTRYINDEX, t->anchor);
    ts->slots[t->slot] = NULL;
    ts->vacant[ts->n_vacant++] = t->slot;
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
      deadline_unset(&h->worker.deadlines, &t->limit);
      if (t->kind->released) t->kind->released(t);
    }
    free(t);
  }
  while (ts->late) {
    struct late *late = ts->late;
    ts->late = late->next;
    free(late);
  }
  free(ts->slots);
  free(ts->vacant);
  *ts = (struct tasks){0};
}

/* ---- excuses: time to clean up in ------------------------------------------------------------ */

static void on_excuse_over(struct deadline *d) {
  struct task *t = (struct task *)((char *)d - offsetof(struct task, limit));
  t->excuse = EXCUSE_OVER;
  if (t->stop == STOP_NOT) t->stop = STOP_CANCELLED;
  if (t->state != TASK_WAITING) return; /* told when it waits */
  t->is_open = false;
  make_ready(t, 0);
}

static void excuse(struct task *t) {
  struct worker *w = &t->host->worker;
  t->excuse = EXCUSE_NOW;
  t->limit.fire = on_excuse_over;
  deadline_set(&w->deadlines, &t->limit, worker_now(w) + TASK_EXCUSE_MS);
}

void task_forgive(struct task *t) {
  t->is_forgiven = true;
  t->stop = STOP_NOT;
  t->excuse = EXCUSE_NONE;
  deadline_unset(&t->host->worker.deadlines, &t->limit);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void log_lost(struct task *t, lua_State *L, const char *event) {
  static struct log_limit limit = LOG_LIMIT(20);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_ERROR, event)) return;
  log_str(&l, "task", t->kind->name);
  if (t->path) log_str(&l, "path", t->path);
  if (t->stop == STOP_SLICE) log_str(&l, "why", "it ran on while it was being ended");
  /* lua_tostring of a number would allocate */
  log_str(&l, "error",
          !L                               ? "not enough memory"
          : lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1)
                                           : lua_typename(L, lua_type(L, -1)));
  log_end(&l);
}

void task_failure(lua_State *L, struct task *t) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  lua_remove(L, -3);
}

static int reset_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct nested frame = {t->co, t->host->tasks.nested}; /* its __close methods run on it */
  (void)L;
  nested_begin(t->host, &frame);
  lua_resetthread(t->co);
  nested_end(t->host, &frame);
  return 0;
}

static int collect_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_pushnil(L);
  lua_rawseti(L, LUA_REGISTRYINDEX, t->anchor);
  t->co = NULL;
  lua_gc(L, LUA_GCCOLLECT);
  return 0;
}

/* The task's coroutine found no memory. What fills it may hang on its stack, or be its stack, which
 * the collector shrinks only when there is no emergency: so it goes, all of it, or there would be
 * no memory to report with, nor for anybody else. */
static void abandon(struct task *t) {
  task_protect(t->host, reset_body, t, 0);
  if (!task_protect(t->host, collect_body, t, 0)) lua_pop(t->host->L, 1); /* a __gc failed */
}

/* Puts the error and its dead coroutine aside and gives the task a fresh one. */
static int bury(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_createtable(L, 2, 0);
  if (t->co) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->anchor);
    lua_rawseti(L, -2, 2);
    lua_xmove(t->co, L, 1);
    set_own(t->co, false); /* whoever reports the error closes it */
  } else {
    lua_pushliteral(L, "not enough memory"); /* Lua's own word, which is always there */
  }
  lua_rawseti(L, -2, 1);
  lua_State *fresh = lua_newthread(L);
  lua_rawseti(L, LUA_REGISTRYINDEX, t->anchor);
  set_own(fresh, true);
  t->co = fresh;
  t->failure = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static int report_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.report);
  task_failure(L, t);
  lua_pushstring(L, t->kind->name);
  lua_pushstring(L, t->path);
  lua_pushinteger(L, (lua_Integer)t->conn);
  lua_call(L, 5, 0);
  return 0;
}

static void fail(struct task *t, int status) {
  struct host *h = t->host;
  if (status == LUA_ERRMEM) abandon(t);
  if (t->is_failing || !task_protect(h, bury, t, 0)) {
    log_lost(t, t->is_failing ? t->co : h->L, "an error could not be reported");
    if (!t->is_failing) lua_pop(h->L, 1);
    if (t->co) task_protect(h, reset_body, t, 0);
    t->co = NULL; /* not used again: Lua 5.4.4 leaves a message handler of xpcall in it */
    if (t->kind->gave_up) t->kind->gave_up(t);
    task_end(t);
    return;
  }
  t->is_failing = true;
  t->is_closing = false;
  task_forgive(t);
  if (t->kind->failed) {
    t->kind->failed(t);
  } else {
    lua_pushcfunction(t->co, report_body);
    lua_pushlightuserdata(t->co, t);
  }
  resume(t, 1);
}

/* Where an error that nobody catches was raised, with the stack as it was: perigee.report notes it.
 * Called again for each error of a __close on the way out. Stack: the error, which stays. */
static int witness(lua_State *L) {
  struct host *h = host_of(L);
  struct task *t = h->tasks.running;
  lua_settop(L, 1);
  if (!t || !lua_checkstack(L, 8)) return 1;
  if (!t->is_closing && t->stop == STOP_NOT) excuse(t);
  if (h->entries.witness != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->entries.witness);
    lua_pushvalue(L, 1);
    lua_pushboolean(L, t->is_closing);
    lua_pcall(L, 2, 0, 0); /* without it, less is known */
  }
  t->is_closing = true;
  lua_settop(L, 1);
  return 1;
}

/* What an error leaves to close has been closed, and the first error goes on to fail(). */
int task_raise(lua_State *L, int status) {
  struct host *h = host_of(L);
  if (status == LUA_ERRMEM) {
    h->tasks.running->is_exhausted = true;
  } else if (h->entries.first_error != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->entries.first_error);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
  }
  return lua_error(L);
}

static int run_ended(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  return task_raised(status) ? task_raise(L, status) : 0;
}

int task_callk(lua_State *L, int n_args, int n_results, lua_KContext ctx, lua_KFunction k) {
  return k(L, lua_pcallk(L, n_args, n_results, 2, ctx, k), ctx);
}

/* The bottom of each task's coroutine: protected there, and not from outside, so that what is
 * closed after an error is closed in the coroutine, where it may wait. Stack: witness, a function
 * and its arguments. */
static int run_protected(lua_State *L) {
  return run_ended(L, lua_pcallk(L, lua_gettop(L) - 2, 0, 1, 0, run_ended), 0);
}

/* [-0, +2, -] for as many arguments more to resume with */
static void push_bottom(lua_State *co) {
  lua_pushcfunction(co, run_protected);
  lua_pushcfunction(co, witness);
}

static int make_stop(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.stopped);
  lua_pushinteger(L, t->stop);
  lua_pushnumber(L, t->stop_seconds);
  lua_call(L, 2, 1);
  return 1;
}

/* Puts the error that ends a suspended task on top of its coroutine. */
static void push_stop(struct task *t) {
  lua_State *L = t->host->L;
  task_protect(t->host, make_stop, t, 1); /* out of memory: that error will do */
  lua_checkstack(t->co, 1);
  lua_xmove(L, t->co, 1);
}

/* ---- running --------------------------------------------------------------------------------- */

static void resume(struct task *t, int n_args) {
  struct host *h = t->host;
  int n_results;
  check(h->tasks.running == NULL);
  h->tasks.running = t;
  h->worker.activity++;
  t->state = TASK_RUNNING;
  slice_begin(h);
  int status = lua_resume(t->co, h->L, n_args, &n_results);
  slice_end(h);
  h->tasks.running = NULL;
  h->tasks.nested = NULL;
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
  if (t->is_exhausted) status = LUA_ERRMEM;
  if (status == LUA_YIELD) { /* nobody will ever resume it */
    lua_pop(t->co, n_results);
    if (t->stop == STOP_SLICE)
      push_stop(t);
    else
      lua_pushliteral(t->co, "coroutine.yield outside of a coroutine of your own");
  }
  fail(t, status);
}

void task_run(struct task *t, lua_CFunction body) {
  push_bottom(t->co);
  lua_pushcfunction(t->co, body);
  lua_pushlightuserdata(t->co, t);
  resume(t, 3);
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

void task_run_bare(struct task *t, lua_CFunction body) {
  lua_pushcfunction(t->co, body);
  lua_pushlightuserdata(t->co, t);
  lua_pushcfunction(t->co, witness);
  resume(t, 2);
}

void task_run_soon(struct task *t, lua_CFunction body) {
  push_bottom(t->co);
  lua_pushcfunction(t->co, body);
  lua_pushlightuserdata(t->co, t);
  make_ready(t, 3);
}

/* ---- taking turns ---------------------------------------------------------------------------- */

static struct turn_share *share_of(struct host *h, uint64_t id) {
  struct conn *conn = id ? worker_conn(&h->worker, id) : NULL;
  return conn ? &conn->share : &h->tasks.share;
}

static struct late *find_late(const struct tasks *ts, uint64_t conn) {
  struct late *late = ts->late;
  while (late && late->conn != conn) late = late->next;
  return late;
}

static void list_late(struct host *h, struct late *late) {
  struct tasks *ts = &h->tasks;
  h->worker.turn.has_late = true;
  late->next = NULL;
  *ts->late_end = late;
  ts->late_end = &late->next;
}

static void put_off(struct host *h, struct late *late, struct task *t) {
  if (!late) {
    late = mem_zalloc(sizeof *late);
    late->conn = t->conn;
    late->end = &late->first;
    list_late(h, late);
  }
  t->next = NULL;
  *late->end = t;
  late->end = &t->next;
}

/* Resumes a ready task and charges whom it works for. False when that has had its share. */
static bool run_ready(struct host *h, struct task *t) {
  uint64_t id = t->conn; /* the task may be gone when it returns, and the connection, too */
  t->next = NULL;
  resume(t, t->n_args);
  if (turn_charge(&h->worker.turn, share_of(h, id))) return true;
  metric_add(&h->worker.metrics.turns_cut, 1);
  return false;
}

/* Whoever has put off something goes on, one after the other; those behind who took long do in the
 * next turn. */
static void run_late(struct host *h) {
  struct tasks *ts = &h->tasks;
  struct late *last = NULL, *late;
  uint64_t began = turn_clock();
  while ((late = ts->late) && late != last && turn_clock() - began < h->worker.turn.most) {
    ts->late = late->next;
    if (!ts->late) ts->late_end = &ts->late;
    bool may_go_on = !turn_is_over(&h->worker.turn, share_of(h, late->conn));
    while (may_go_on && late->first) {
      struct task *t = late->first;
      late->first = t->next;
      if (!late->first) late->end = &late->first;
      may_go_on = run_ready(h, t);
    }
    if (late->first) {
      list_late(h, late);
      if (!last) last = late;
    } else {
      free(late);
    }
  }
  if (ts->late) h->worker.turn.has_late = true;
}

bool tasks_turn(struct host *h) {
  struct tasks *ts = &h->tasks;
  struct task *t = ts->ready;
  ts->ready = NULL;
  ts->ready_end = &ts->ready;
  if (t || ts->late) turn_look(&h->worker.turn);
  if (ts->late && h->worker.turn.is_late) run_late(h);
  while (t) {
    struct task *next = t->next;
    struct late *late = ts->late ? find_late(ts, t->conn) : NULL;
    if (late || turn_is_over(&h->worker.turn, share_of(h, t->conn)))
      put_off(h, late, t);
    else
      run_ready(h, t);
    t = next;
  }
  return ts->ready != NULL;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void on_deadline(struct deadline *d) {
  struct task *t = task_of_deadline(d);
  check(t->state == TASK_WAITING);
  t->is_open = false; /* who wakes it now is too late */
  lua_pushboolean(t->co, 0);
  make_ready(t, 1);
}

/* The task that runs this code, in its own coroutine or one inside it. Raises when there is none.
 */
static struct task *running_task(lua_State *L) {
  struct host *h = host_of(L);
  /* a test loads apps in a task */
  if (!h->tasks.running || h->is_loading)
    luaL_error(L, "cannot wait here: this code runs while its app is loaded");
  return h->tasks.running;
}

int l_loading(lua_State *L) {
  host_of(L)->is_loading = lua_toboolean(L, 1);
  return 0;
}

int l_is_loading(lua_State *L) {
  lua_pushboolean(L, host_of(L)->is_loading);
  return 1;
}

/* Must the task end here? */
static bool is_ending(const struct task *t) {
  bool is_excused = t->excuse == EXCUSE_NOW && (t->is_closing || t->is_unwinding);
  return t->stop != STOP_NOT && !is_excused;
}

/* Raises what ends the task. */
static int raise_stop(lua_State *L, struct task *t) {
  if (t->excuse == EXCUSE_NONE) excuse(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.stopped);
  lua_pushinteger(L, t->stop);
  lua_pushnumber(L, t->stop_seconds);
  lua_call(L, 2, 1);
  return lua_error(L);
}

static void on_limit(struct deadline *d) {
  struct task *t = (struct task *)((char *)d - offsetof(struct task, limit));
  task_stop(t, STOP_TIMEOUT, t->stop_seconds);
}

void task_stop(struct task *t, enum task_stop why, double seconds) {
  if (t->stop != STOP_NOT) return;
  t->stop = (uint8_t)why;
  t->stop_seconds = seconds;
  if (why == STOP_TIMEOUT) metric_add(&t->host->worker.metrics.call_timeouts, 1);
  if (t->state != TASK_WAITING || !is_ending(t)) return; /* told when it waits */
  t->is_open = false;
  make_ready(t, 0);
}

void tasks_shut_down(struct host *h) {
  for (uint32_t i = 0; i < h->tasks.n_slots; i++) {
    struct task *t = h->tasks.slots[i];
    if (t && t->state != TASK_FREE && t->kind->has_client) task_stop(t, STOP_SHUTDOWN, 0);
  }
}

int l_cancel(lua_State *L) {
  struct task *t = task_find(host_of(L), (uint64_t)luaL_checkinteger(L, 1));
  if (t) task_stop(t, STOP_CANCELLED, 0);
  lua_pushboolean(L, t != NULL);
  return 1;
}

int l_is_task(lua_State *L) {
  lua_pushboolean(L, task_find(host_of(L), (uint64_t)luaL_checkinteger(L, 1)) != NULL);
  return 1;
}

int l_is_stopped(lua_State *L) {
  struct task *t = task_find(host_of(L), (uint64_t)luaL_checkinteger(L, 1));
  lua_pushboolean(L, t && t->stop != STOP_NOT);
  return 1;
}

int l_deadline(lua_State *L) {
  struct task *t = task_find(host_of(L), (uint64_t)luaL_checkinteger(L, 1));
  if (!t || !deadline_is_set(&t->limit)) return 0;
  lua_pushnumber(L, (lua_Number)t->limit.due / 1000);
  return 1;
}

int l_is_stopping(lua_State *L) {
  lua_pushboolean(L, slice_is_over(&host_of(L)->slice));
  return 1;
}

/* After the wait: what whoever woke us passed lies on the stack. */
static int parked(lua_State *L, int status, lua_KContext ctx) {
  /* a coroutine of the app's own may have been resumed by another task than the one it waited for,
   * which may be gone */
  struct task *t = host_of(L)->tasks.running;
  (void)status;
  (void)ctx;
  if (t && is_ending(t)) return raise_stop(L, t);
  return lua_gettop(L);
}

/* Can the task's coroutine, and each one inside it, yield? */
static bool can_yield(const struct task *t) {
  for (struct nested *n = t->host->tasks.nested; n; n = n->outer)
    if (!lua_isyieldable(n->co)) return false;
  return lua_isyieldable(t->co);
}

/* A century is as good as for ever, and fits. */
static uint64_t milliseconds(double seconds) {
  return seconds > 0 ? (uint64_t)ceil((seconds < 3e9 ? seconds : 3e9) * 1000) : 0;
}

static void begin_limit(lua_State *L, struct task *t) {
  struct worker *w = &t->host->worker;
  if (t->excuse != EXCUSE_NONE || deadline_is_set(&t->limit)) return;
  if (t->is_forgiven) {
    t->limit.fire = on_excuse_over;
    deadline_set(&w->deadlines, &t->limit, worker_now(w) + TASK_EXCUSE_MS);
    return;
  }
  if (t->has_waited || !t->kind->limit) return;
  t->stop_seconds = t->kind->limit(L, t);
  if (t->stop_seconds <= 0) return;
  t->limit.fire = on_limit;
  deadline_set(&w->deadlines, &t->limit, worker_now(w) + milliseconds(t->stop_seconds));
}

/* The only place where a wait gets its number, which no other of this task ever has: so it does not
 * matter whether the one before was parked on, ended, or given up and never closed. */
static void open_wait(lua_State *L, struct task *t) {
  if (!can_yield(t))
    luaL_error(L, "cannot wait here: a C function (a metamethod's, table.sort's or "
                  "string.gsub's callback) is in between");
  drop_early(t);
  t->wait++;
  t->is_open = true;
}

int l_wait_open(lua_State *L) {
  struct task *t = running_task(L);
  open_wait(L, t);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushinteger(L, t->wait);
  return 2;
}

/* The wait was over before it began: returns what its waker passed. */
static int take_early(lua_State *L, struct task *t) {
  lua_Integer n = 0;
  lua_settop(L, 0);
  bool has_values = lua_rawgeti(L, LUA_REGISTRYINDEX, t->early) == LUA_TTABLE;
  drop_early(t);
  if (has_values) n = (lua_rawgeti(L, 1, 0), lua_tointeger(L, -1));
  lua_settop(L, 1);
  lua_pushboolean(L, 1);
  luaL_checkstack(L, (int)n, "too many values");
  for (lua_Integer i = 1; i <= n; i++) lua_rawgeti(L, 1, i);
  return 1 + (int)n;
}

int l_park(lua_State *L) {
  struct task *t = running_task(L);
  bool has_deadline = !lua_isnoneornil(L, 1);
  lua_Number seconds = has_deadline ? luaL_checknumber(L, 1) : 0;
  if (is_ending(t)) return raise_stop(L, t);
  if (lua_isnoneornil(L, 2))
    open_wait(L, t);
  else if ((uint32_t)luaL_checkinteger(L, 2) != t->wait || (!t->is_open && !t->is_early))
    return luaL_error(L, "this wait is over");
  if (t->is_early) return take_early(L, t);
  begin_limit(L, t);
  if (has_deadline) {
    struct worker *w = &t->host->worker;
    t->deadline.fire = on_deadline;
    deadline_set(&w->deadlines, &t->deadline, worker_now(w) + milliseconds(seconds));
  }
  lua_settop(L, 0);
  t->state = TASK_WAITING;
  return lua_yieldk(L, 0, 0, parked);
}

/* ---- pcall for apps -------------------------------------------------------------------------- */

/* Message handler: an error was caught, and now what lies between is closed. Upvalue: the app's own
 * handler, or nothing. */
static int unwinding_begins(lua_State *L) {
  struct task *t = host_of(L)->tasks.running;
  lua_settop(L, 1);
  if (!lua_isnone(L, lua_upvalueindex(1))) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
  }
  if (t) t->is_unwinding = true;
  return 1;
}

/* Stack: the handler, then the results or the error. */
static int pcall_ended(lua_State *L, int status, lua_KContext was_unwinding) {
  struct task *t = host_of(L)->tasks.running;
  bool is_ok = status == LUA_OK || status == LUA_YIELD;
  if (t && !is_ok) t->is_unwinding = was_unwinding;
  lua_pushboolean(L, is_ok);
  lua_replace(L, 1);
  return lua_gettop(L);
}

/* Stack: the handler, the function, its arguments. */
static int call_protected(lua_State *L) {
  struct task *t = host_of(L)->tasks.running;
  lua_KContext was_unwinding = t && t->is_unwinding;
  return pcall_ended(L,
                     lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, was_unwinding, pcall_ended),
                     was_unwinding);
}

int l_pcall(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushcfunction(L, unwinding_begins);
  lua_insert(L, 1);
  return call_protected(L);
}

int l_xpcall(lua_State *L) {
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, unwinding_begins, 1);
  lua_replace(L, 2); /* the function, the handler, its arguments */
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_replace(L, 1);
  lua_replace(L, 2);
  return call_protected(L);
}

/* ---- coroutines of the app's own ------------------------------------------------------------- */

static int resume_nested(lua_State *L, lua_State *co, int n_args, bool is_wrap);

/* The task was woken: on with the coroutine that waits inside it. Stack: co, values. */
static int woken_nested(lua_State *L, int status, lua_KContext is_wrap) {
  lua_State *co = lua_tothread(L, 1);
  int n = lua_gettop(L) - 1;
  (void)status;
  if (!lua_checkstack(co, n)) return luaL_error(L, "too many values");
  lua_xmove(L, co, n);
  return resume_nested(L, co, n, is_wrap);
}

/* Stack of L: co below whatever. Returns as coroutine.resume does, or as a wrapped function. */
static int resume_nested(lua_State *L, lua_State *co, int n_args, bool is_wrap) {
  struct host *h = host_of(L);
  struct task *t = h->tasks.running;
  struct nested frame = {co, h->tasks.nested};
  int n;
  nested_begin(h, &frame);
  int status = lua_resume(co, L, n_args, &n);
  nested_end(h, &frame);
  if (status == LUA_YIELD && t && t->state == TASK_WAITING) { /* not for us: l_park yielded */
    lua_pop(co, n);
    lua_settop(L, 1);
    return lua_yieldk(L, 0, is_wrap, woken_nested);
  }
  if (status == LUA_YIELD && t &&
      t->stop == STOP_SLICE) /* on_slice_hook did: all of the task ends */
    return lua_isyieldable(L) ? lua_yield(L, 0) : raise_stop(L, t);
  if (status == LUA_OK || status == LUA_YIELD) {
    if (!lua_checkstack(L, n + 1)) return luaL_error(L, "too many results to resume");
    if (!is_wrap) lua_pushboolean(L, 1);
    lua_xmove(co, L, n);
    return is_wrap ? n : n + 1;
  }
  bool is_dead = lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD;
  if (is_wrap) {                      /* as Lua's own: close it, and say where */
    if (is_dead) lua_resetthread(co); /* leaves an error on top: its own, or a later one */
    lua_xmove(co, L, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
      luaL_where(L, 1);
      lua_insert(L, -2);
      lua_concat(L, 2);
    }
    return lua_error(L);
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

/* False with a message on L when the coroutine cannot be resumed. */
static bool check_resumable(lua_State *L, lua_State *co, int n_args) {
  if (is_own(co)) {
    lua_pushliteral(L,
                    "cannot resume a coroutine that is not yours: perigee runs this one (to wait "
                    "for a callback, use perigee.await)");
    return false;
  }
  if (!lua_checkstack(co, n_args)) {
    lua_pushliteral(L, "too many arguments to resume");
    return false;
  }
  if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
    lua_pushliteral(L, "cannot resume dead coroutine");
    return false;
  }
  return true; /* lua_resume itself refuses what is running */
}

int l_resume(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  int n_args = lua_gettop(L) - 1;
  if (!check_resumable(L, co, n_args)) {
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
  }
  lua_xmove(L, co, n_args);
  return resume_nested(L, co, n_args, false);
}

static int call_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int n_args = lua_gettop(L);
  if (!check_resumable(L, co, n_args)) return lua_error(L);
  lua_xmove(L, co, n_args);
  lua_pushvalue(L, lua_upvalueindex(1));
  return resume_nested(L, co, n_args, true);
}

int l_close_coroutine(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  struct host *h = host_of(L);
  int status = lua_status(co);
  lua_Debug ar;
  if (co == L || (status == LUA_OK && lua_getstack(co, 0, &ar)))
    return luaL_error(L, "cannot close a running coroutine");
  if (is_own(co)) return luaL_error(L, "cannot close a coroutine that perigee runs");
  struct nested frame = {co, h->tasks.nested}; /* its __close methods run on it */
  nested_begin(h, &frame);
  status = lua_resetthread(co);
  nested_end(h, &frame);
  lua_pushboolean(L, status == LUA_OK);
  if (status == LUA_OK) return 1;
  lua_xmove(co, L, 1);
  return 2;
}

int l_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, call_wrapped, 1);
  return 1;
}

/* ---- waking ---------------------------------------------------------------------------------- */

/* The task that has that wait open: it is parked on it, or about to. NULL: the wait is over. */
static struct task *find_open(struct host *h, uint64_t id, uint32_t wait) {
  struct task *t = task_find(h, id);
  return t && t->is_open && t->wait == wait ? t : NULL;
}

bool task_wake(struct host *h, uint64_t id, uint32_t wait) {
  struct task *t = find_open(h, id, wait);
  if (!t) return false;
  t->is_open = false;
  if (t->state == TASK_WAITING) {
    lua_pushboolean(t->co, 1);
    make_ready(t, 1);
  } else {
    t->early = LUA_REFNIL;
    t->is_early = true;
  }
  return true;
}

int l_wake(lua_State *L) {
  struct task *t =
      find_open(host_of(L), (uint64_t)luaL_checkinteger(L, 1), (uint32_t)luaL_checkinteger(L, 2));
  int n = lua_gettop(L) - 2;
  if (t && t->state == TASK_WAITING) {
    if (!lua_checkstack(t->co, n + 1)) return luaL_error(L, "too many values");
    lua_pushboolean(t->co, 1);
    lua_xmove(L, t->co, n);
    t->is_open = false;
    make_ready(t, n + 1);
  } else if (t) { /* it runs, and is about to park */
    lua_createtable(L, n, 1);
    lua_insert(L, 3);
    for (int i = n; i >= 1; i--) lua_rawseti(L, 3, i);
    lua_pushinteger(L, n);
    lua_rawseti(L, 3, 0);
    t->early = luaL_ref(L, LUA_REGISTRYINDEX);
    t->is_early = true;
    t->is_open = false;
  }
  lua_pushboolean(L, t != NULL);
  return 1;
}

/* ---- other core functions -------------------------------------------------------------------- */

static const struct task_kind spawned = {.name = "spawn"};

int l_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  int n = lua_gettop(L);
  struct host *h = host_of(L);
  struct task *t = task_begin(h, &spawned);
  if (!t) {
    return luaL_error(L, is_over(&h->tasks) ? "this worker is over: nothing can be begun any more"
                                            : "no memory for another task");
  }
  if (h->tasks.running) t->conn = h->tasks.running->conn;
  if (!lua_checkstack(t->co, n + 2)) {
    task_end(t);
    return luaL_error(L, "too many arguments");
  }
  push_bottom(t->co);
  lua_xmove(L, t->co, n);
  make_ready(t, n + 1);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  return 1;
}

static const struct task_kind luv_kind = {.name = "luv callback"};

/* What luv gets for the results of a callback that may still be waiting. */
static int push_nothing(lua_State *L, int n_results) {
  if (n_results <= 0) return 0;
  lua_checkstack(L, n_results);
  for (int i = 0; i < n_results; i++) lua_pushnil(L);
  return n_results;
}

int task_callback(lua_State *L, int n_args, int n_results, int flags) {
  struct host *h = host_of(L);
  (void)flags;
  if (h->is_stopping) { /* the last callbacks of what is being closed: nobody is served any more */
    lua_pop(L, n_args + 1);
    return push_nothing(L, n_results);
  }
  if (h->tasks
          .running) { /* luv calls back from within a call, as uv.walk does: no task of its own */
    lua_call(L, n_args, n_results < 0 ? 0 : n_results);
    return n_results < 0 ? 0 : n_results;
  }
  struct task *t = task_begin(h, &luv_kind);
  if (t && lua_checkstack(t->co, n_args + 3)) {
    push_bottom(t->co);
    lua_xmove(L, t->co, n_args + 1);
    resume(t, n_args + 2);
  } else {
    log_say(LOG_ERROR, "no memory in Lua for a luv callback");
    lua_pop(L, n_args + 1);
    if (t) task_end(t);
  }
  return push_nothing(L, n_results);
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
