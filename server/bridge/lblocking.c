/* SPDX-License-Identifier: MIT */
/* lblocking.c -- functions of an app's modules run on libuv's thread pool.
 *
 *   worker's loop                      a thread of the pool
 *   core.blocking ── job ────────────▶ takes an idle state or makes one,
 *                                      requires the module, calls the function
 *   wakes the task  ◀── bytes ──────── gives the state back
 *
 * A job belongs to the userdata that Lua holds and to the pool while it works; the later one of the
 * two to let go frees it. */
#include "bridge/lblocking.h"

#include "base/locale.h"
#include "base/log.h"
#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/lluv.h"
#include "bridge/plain.h"
#include "bridge/settings.h"

#include <lauxlib.h>
#include <lua-cjson.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

enum {
  IDLE_MAX = BLOCKING_AT_ONCE,
  JOBS_MAX = 1024, /* of one worker, queued and under way */
};

struct blocking_state {
  struct blocking_state *next;
  lua_State *L;
  struct memory memory;
  const void *array_mt; /* identity and registry reference of its array metatable */
  int array_mt_ref;
  unsigned n_faults; /* callbacks of luv that failed since it was last taken */
  char *folder;      /* of the app whose modules it has loaded */
  unsigned epoch;    /* of blocking_forget: an older one is not used again */
};

struct job {
  uv_work_t work;   /* must be first */
  struct job *next; /* in host.blocking.waiting */
  struct host *host;
  uint64_t task;
  uint32_t wait;
  char *folder, *module, *function; /* owned */
  struct builder args, results;     /* one message each */
  bool is_working;                  /* the pool has it, or it waits for the pool */
  bool is_dropped;                  /* Lua has let go */
  bool is_ok;                       /* results are the function's; else one error text */
  unsigned n_faults;                /* errors in it that could not be told to the caller */
};

static atomic_uint epoch; /* of all workers: loading is rare */

static const char metatable[] = "perigee.job";

/* ---- states, on the pool's threads ----------------------------------------------------------- */

static int no_perigee(lua_State *L) {
  return luaL_error(L,
                    "perigee is not there in a blocking function: it runs beside the server, in a "
                    "Lua state of its own");
}

static int no_end(lua_State *L) {
  return luaL_error(L, "os.%s is not for apps: it is the whole server's",
                    lua_tostring(L, lua_upvalueindex(1)));
}

/* print goes to the log, where it does not mix with other lines. */
static int print_to_log(lua_State *L) {
  luaL_Buffer b;
  int n = lua_gettop(L);
  luaL_buffinit(L, &b);
  for (int i = 1; i <= n; i++) {
    if (i > 1) luaL_addchar(&b, '\t');
    luaL_tolstring(L, i, NULL);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  log_say(LOG_INFO, lua_tostring(L, -1));
  return 0;
}

/* load, loadfile and dofile for text only: a precompiled chunk can crash the interpreter. Upvalues:
 * Lua's own, and where it takes the mode. */
static int load_text(lua_State *L) {
  int mode = (int)lua_tointeger(L, lua_upvalueindex(2)), n = lua_gettop(L);
  if (n < mode) lua_settop(L, mode);
  lua_pushliteral(L, "t");
  lua_replace(L, mode);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static int do_file(lua_State *L) {
  lua_settop(L, 1);
  if (luaL_loadfilex(L, luaL_optstring(L, 1, NULL), "t") != LUA_OK) return lua_error(L);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

static void guard_load(lua_State *L, const char *name, int mode) {
  lua_getglobal(L, name);
  lua_pushinteger(L, mode);
  lua_pushcclosure(L, load_text, 2);
  lua_setglobal(L, name);
}

/* Lua's libraries without what would end the process, change it for all, or write past the log. */
static void open_libraries(lua_State *L) {
  static const char *const ends[] = {"exit", "setlocale"};
  luaL_openlibs(L);
  lua_getglobal(L, "os");
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    lua_pushstring(L, ends[i]);
    lua_pushcclosure(L, no_end, 1);
    lua_setfield(L, -2, ends[i]);
  }
  lua_pop(L, 1);
  guard_load(L, "load", 3);
  guard_load(L, "loadfile", 2);
  lua_register(L, "dofile", do_file);
  lua_register(L, "print", print_to_log);
}

static int set_up(lua_State *L) {
  struct blocking_state *s = lua_touserdata(L, 1);
  open_libraries(L);
  lluv_preload(L, &s->n_faults);
  lua_newtable(L);
  s->array_mt = lua_topointer(L, -1);
  s->array_mt_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_cjson);
  lua_setfield(L, -2, "cjson");
  lua_pushcfunction(L, no_perigee);
  lua_setfield(L, -2, "perigee");
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", s->folder, s->folder, lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  return 0;
}

static void state_free(struct blocking_state *s) {
  if (s->L) lua_close(s->L);
  memory_fini(&s->memory);
  free(s->folder);
  free(s);
}

static struct blocking_state *state_take(struct host *h, const char *folder) {
  struct blocking *b = &h->blocking;
  unsigned now = atomic_load(&epoch);
  uv_mutex_lock(&b->lock);
  struct blocking_state **at = &b->idle, *s;
  while (*at && ((*at)->epoch != now || strcmp((*at)->folder, folder) != 0)) at = &(*at)->next;
  s = *at;
  if (s) {
    *at = s->next;
    b->n_idle--;
  }
  uv_mutex_unlock(&b->lock);
  if (s) return s;
  s = mem_zalloc(sizeof *s);
  s->memory.max = h->settings->lua_memory;
  s->folder = mem_strdup(folder);
  s->epoch = now;
  s->L = lua_newstate(memory_allocate, &s->memory);
  check(s->L);
  lua_pushcfunction(s->L, set_up);
  lua_pushlightuserdata(s->L, s);
  task_pcall(s->L, 1, 0);
  return s;
}

static void state_give(struct host *h, struct blocking_state *s) {
  struct blocking *b = &h->blocking;
  struct blocking_state *drop = NULL;
  lua_settop(s->L, 0);
  uv_mutex_lock(&b->lock);
  if (s->epoch == atomic_load(&epoch)) {
    s->next = b->idle;
    b->idle = s;
    b->n_idle++;
  } else {
    drop = s;
  }
  if (b->n_idle > IDLE_MAX) { /* the one that was idle longest goes */
    struct blocking_state **last = &b->idle;
    while ((*last)->next) last = &(*last)->next;
    drop = *last;
    *last = NULL;
    b->n_idle--;
  }
  uv_mutex_unlock(&b->lock);
  if (drop) state_free(drop);
}

static int with_traceback(lua_State *L) {
  const char *text = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, L, text, 1);
  return 1;
}

/* Calls the function with its arguments; leaves results as bytes in the job. */
static int run_body(lua_State *L) {
  struct job *job = lua_touserdata(L, 1);
  const struct blocking_state *s = lua_touserdata(L, 2);
  const char *what;
  lua_settop(L, 0);
  lua_getglobal(L, "require");
  lua_pushstring(L, job->module);
  lua_call(L, 1, 1);
  if (!lua_istable(L, -1) || lua_getfield(L, -1, job->function) != LUA_TFUNCTION)
    return luaL_error(L, "the module '%s' has no function '%s'", job->module, job->function);
  lua_remove(L, 1);
  int n = plain_read(L, builder_data(&job->args), builder_len(&job->args), s->array_mt_ref);
  lua_call(L, n, LUA_MULTRET);
  builder_begin(&job->results);
  if (!plain_write(L, &job->results, 1, lua_gettop(L), s->array_mt, NULL, &what))
    return luaL_error(L, "%s.%s returned %s: only plain values cross between states", job->module,
                      job->function, what);
  return 0;
}

static void on_pool(uv_work_t *work) {
  struct job *job = (struct job *)work;
  locale_hold();
  struct blocking_state *s = state_take(job->host, job->folder);
  lua_State *L = s->L;
  const char *what;
  lua_settop(L, 0);
  lua_pushcfunction(L, with_traceback);
  lua_pushcfunction(L, run_body);
  lua_pushlightuserdata(L, job);
  lua_pushlightuserdata(L, s);
  job->is_ok = task_pcall_with(L, 2, 0, 1);
  if (!job->is_ok) {
    builder_abort(&job->results);
    builder_begin(&job->results);
    plain_write(L, &job->results, lua_gettop(L), 1, s->array_mt, NULL,
                &what); /* a string: see above */
  }
  job->n_faults = s->n_faults;
  s->n_faults = 0;
  state_give(job->host, s);
}

/* ---- jobs, on the loop ----------------------------------------------------------------------- */

static void job_free(struct job *job) {
  builder_abort(&job->args);
  builder_abort(&job->results);
  builder_fini(&job->args);
  builder_fini(&job->results);
  free(job->folder);
  free(job->module);
  free(job->function);
  free(job);
}

static void on_worked(uv_work_t *work, int status);

/* Hands jobs to the pool while few of them are there: a function that takes for ever must not keep
 * the pool from files, names and passwords. */
static void pump(struct host *h) {
  struct blocking *b = &h->blocking;
  while (b->waiting && b->n_running < BLOCKING_AT_ONCE) {
    struct job *job = b->waiting;
    b->waiting = job->next;
    if (job->is_dropped) { /* nobody waits for it any more */
      b->n_jobs--;
      job_free(job);
      continue;
    }
    b->n_running++;
    check(uv_queue_work(&h->worker.loop, &job->work, on_pool, on_worked) == 0);
  }
  if (!b->waiting) b->waiting_end = &b->waiting;
}

static void on_worked(uv_work_t *work, int status) {
  struct job *job = (struct job *)work;
  struct host *h = job->host;
  (void)status;
  h->blocking.n_jobs--;
  h->blocking.n_running--;
  metric_add(&h->worker.metrics.faults, job->n_faults);
  job->is_working = false;
  if (job->is_dropped)
    job_free(job);
  else
    task_wake(h, job->task, job->wait);
  pump(h);
}

static int l_job_results(lua_State *L) {
  struct job **box = luaL_checkudata(L, 1, metatable);
  struct job *job = *box;
  if (!job || job->is_working) return luaL_error(L, "this job is not done");
  lua_settop(L, 1);
  lua_pushboolean(L, job->is_ok);
  return 1 + plain_read(L, builder_data(&job->results), builder_len(&job->results),
                        host_of(L)->array_mt_ref);
}

static int l_job_gc(lua_State *L) {
  struct job **box = luaL_checkudata(L, 1, metatable);
  struct job *job = *box;
  *box = NULL;
  if (!job) return 0;
  if (job->is_working)
    job->is_dropped = true;
  else
    job_free(job);
  return 0;
}

int l_blocking(lua_State *L) {
  struct host *h = host_of(L);
  uint64_t task = (uint64_t)luaL_checkinteger(L, 1);
  uint32_t wait = (uint32_t)luaL_checkinteger(L, 2);
  const char *folder = luaL_checkstring(L, 3), *module = luaL_checkstring(L, 4),
             *function = luaL_checkstring(L, 5), *what;
  int n = lua_gettop(L) - 5;
  if (h->blocking.n_jobs >= JOBS_MAX) return 0;
  struct job **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, l_job_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_job_results);
    lua_setfield(L, -2, "__call");
  }
  lua_setmetatable(L, -2);
  struct job *job = *box = mem_zalloc(sizeof *job); /* from here on the collector frees it */
  job->host = h;
  job->task = task;
  job->wait = wait;
  job->folder = mem_strdup(folder);
  job->module = mem_strdup(module);
  job->function = mem_strdup(function);
  builder_begin(&job->args);
  if (!plain_write(L, &job->args, 6, n, h->array_mt, &h->slice, &what)) {
    slice_check(L, h);
    return luaL_error(
        L, "perigee.blocking: %s cannot cross to another state: only plain values can", what);
  }
  job->is_working = true;
  h->blocking.n_jobs++;
  *h->blocking.waiting_end = job;
  h->blocking.waiting_end = &job->next;
  pump(h);
  return 1;
}

int l_blocking_forget(lua_State *L) {
  (void)L;
  atomic_fetch_add(&epoch, 1);
  return 0;
}

void blocking_init(struct host *h) {
  h->blocking = (struct blocking){0};
  h->blocking.waiting_end = &h->blocking.waiting;
  check(uv_mutex_init(&h->blocking.lock) == 0);
}

void blocking_fini(struct host *h) {
  while (h->blocking.idle) {
    struct blocking_state *s = h->blocking.idle;
    h->blocking.idle = s->next;
    state_free(s);
  }
  uv_mutex_destroy(&h->blocking.lock);
}
