/* SPDX-License-Identifier: MIT */
/* ltest.c -- what only tests need: connections without ports, a clock that is moved by hand, and a
 * way to wait until nothing happens any more. */
#include "bridge/ltest.h"

#include "base/log.h"
#include "bridge/host.h"

#include <lauxlib.h>
#include <unistd.h>

/* adopt(fd): a server connection on one end of a socket pair. Returns its id. */
static int l_adopt(lua_State *L) {
  struct conn *conn = conn_adopt(&host_of(L)->worker, (uv_os_sock_t)luaL_checkinteger(L, 1));
  if (!conn) return luaL_error(L, "cannot use this descriptor as a connection");
  lua_pushinteger(L, (lua_Integer)conn_id(conn));
  return 1;
}

/* freeze(): the clock stands still from now on, but while the task that called this waits for
 * anything else than quiet: it alone could move the clock, so time goes on by itself then. */
static int l_freeze(lua_State *L) {
  struct host *h = host_of(L);
  deadlines_freeze(&h->worker.deadlines);
  if (h->tasks.running) h->test_task = task_id(h->tasks.running);
  return 0;
}

/* advance(until): moves the frozen clock to the next deadline not later than `until` seconds and
 * fires what is due then. False when there was none; the clock is at `until` then. */
static int l_advance(lua_State *L) {
  struct host *h = host_of(L);
  lua_Number until = luaL_checknumber(L, 1);
  /* half a millisecond of slack against what the conversion to seconds lost */
  lua_pushboolean(L, deadlines_advance(&h->worker.deadlines, (uint64_t)(until * 1000 + 0.5)));
  return 1;
}

/* settle(): waits until a whole turn of the loop has brought nothing. Yields. */
static int l_settle(lua_State *L) {
  struct host *h = host_of(L);
  if (h->quiet_task) return luaL_error(L, "two tests wait for quiet at the same time");
  lua_settop(L, 0);
  l_wait_open(L);
  h->quiet_task = (uint64_t)lua_tointeger(L, 1);
  h->quiet_wait = (uint32_t)lua_tointeger(L, 2);
  h->quiet_activity = UINT64_MAX;
  worker_hurry(&h->worker);
  lua_pushnil(L);
  lua_replace(L, 1); /* nil, the wait's number: as park takes them */
  return l_park(L);
}

void ltest_turn(struct host *h) {
  struct worker *w = &h->worker;
  if (!h->quiet_task) {
    struct task *t = h->test_task ? task_find(h, h->test_task) : NULL;
    if (!t || t->state != TASK_WAITING) return;
  }
  /* Requests under way are files being read or writes that wait for room; the store's jobs are no
   * requests of the loop's. Input on sockets shows up
   * in the next poll, so two turns in a row must see the same count. */
  bool is_quiet = w->activity == h->quiet_activity && w->loop.active_reqs.count == 0 &&
                  h->n_storing == 0 && h->tasks.ready == NULL && h->tasks.late == NULL &&
                  w->unpaused == NULL && w->dirty == NULL;
  h->quiet_activity = w->activity;
  worker_hurry(w);
  if (!is_quiet) return;
  if (!h->quiet_task) {
    h->quiet_activity = UINT64_MAX;
    if (w->deadlines.n) deadlines_advance(&w->deadlines, UINT64_MAX);
    return;
  }
  uint64_t task = h->quiet_task;
  h->quiet_task = 0;
  task_wake(h, task, h->quiet_wait);
}

/* quiet_log(level): what C itself logs, "error" for nearly nothing. */
static int l_log_level(lua_State *L) {
  int level = log_level_from_name(luaL_checkstring(L, 1));
  luaL_argcheck(L, level >= 0, 1, "error, warn, info or debug");
  log_set_level((enum log_level)level);
  return 0;
}

/* forget_shared(): perigee.shared is empty again. */
static int l_forget_shared(lua_State *L) {
  shared_clear(&host_of(L)->layer->shared);
  return 0;
}

/* chdir(folder): a spec has its process for itself. */
static int l_chdir(lua_State *L) {
  const char *folder = luaL_checkstring(L, 1);
  if (chdir(folder) != 0) return luaL_error(L, "cannot go to %s", folder);
  return 0;
}

int ltest_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"chdir", l_chdir},
      {"adopt", l_adopt},
      {"freeze", l_freeze},
      {"advance", l_advance},
      {"settle", l_settle},
      {"log_level", l_log_level},
      {"forget_shared", l_forget_shared},
      {NULL, NULL},
  };
  luaL_newlib(L, functions);
  return 1;
}
