/* SPDX-License-Identifier: MIT */
/* lluv.c -- luv for Lua: libuv without what would end the process, change it for all, or write over
 * its memory.
 *
 * What is taken away says why. What is kept, but could do harm with some arguments, has a guard in
 * front: a C function with luv's own as its upvalue. Written for luv 1.44 to 1.51; a function that
 * one of them does not have is not guarded. */
#include "bridge/lluv.h"

#include "base/log.h"
#include "bridge/host.h"

#include <lauxlib.h>
#include <luv/luv.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- what is not for apps -------------------------------------------------------------------- */

#define LOOP    "the loop is the server's"
#define PROCESS "it would change the whole process"
#define THREADS                                                                                    \
  "a thread of luv's runs unguarded beside the server; perigee.blocking runs functions on threads"

struct taken {
  const char *name, *why;
};

/* They would stop, re-enter or close the loop; walk takes each handle for one of luv's. */
static const struct taken of_the_loop[] = {
    {"run", LOOP}, {"stop", LOOP}, {"walk", LOOP}, {"loop_configure", LOOP}, {NULL, NULL}};

static const struct taken of_the_process[] = {
    {"loop_close", LOOP}, /* luv goes on using the loop */
    {"chdir", PROCESS},
    {"disable_stdio_inheritance", PROCESS},
    {"os_setenv", PROCESS}, /* and others may be reading it */
    {"os_unsetenv", PROCESS},
    {"os_setpriority", PROCESS},
    {"set_process_title", PROCESS},
    {"setuid", PROCESS},
    {"setgid", PROCESS},
    /* luv 1.44 frees a thread's arguments under it, joins threads twice, and writes over memory
     * from the tenth argument or result on; an error in one ends the process */
    {"new_thread", THREADS},
    {"thread_join", THREADS},
    {"new_work", THREADS},
    {"queue_work", THREADS},
    {"new_sem", THREADS},
    {NULL, NULL}};

static int not_for_apps(lua_State *L) {
  return luaL_error(L, "uv.%s is not for apps: %s", lua_tostring(L, lua_upvalueindex(1)),
                    lua_tostring(L, lua_upvalueindex(2)));
}

/* Stack: the library on top. */
static void take_away(lua_State *L, const struct taken *list) {
  for (; list->name; list++) {
    if (lua_getfield(L, -1, list->name) != LUA_TNIL) {
      lua_pushstring(L, list->name);
      lua_pushstring(L, list->why);
      lua_pushcclosure(L, not_for_apps, 2);
      lua_setfield(L, -3, list->name);
    }
    lua_pop(L, 1);
  }
}

/* ---- guards ---------------------------------------------------------------------------------- */

/* On with luv's own function. */
static int go_on(lua_State *L) {
  int n = lua_gettop(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, n, LUA_MULTRET);
  return lua_gettop(L);
}

/* Is that this process: by its number, a thread's, or that of a group that it is in? */
static bool is_this_process(lua_Integer pid) {
  char path[64];
  if (pid == 0 || pid == -1 || pid == -(lua_Integer)getpgrp()) return true;
  snprintf(path, sizeof path, "/proc/self/task/%lld", (long long)pid);
  return pid == getpid() || (pid > 0 && access(path, F_OK) == 0);
}

static int guard_kill(lua_State *L) {
  bool is_probe = lua_isinteger(L, 2) && lua_tointeger(L, 2) == 0;
  if (!is_probe && is_this_process(luaL_checkinteger(L, 1)))
    return luaL_error(L, "uv.kill: this is the server's own process");
  return go_on(L);
}

static const struct {
  int number;
  const char *name;
} own_signals[] = {
    {SIGURG, "sigurg"}, /* ends code that runs on and on (bridge/task.c) */
    /* ignored (main.c): once a handler goes, they would end the process */
    {SIGPIPE, "sigpipe"},
    {SIGXFSZ, "sigxfsz"},
    /* what raises these cannot go on after a handler of libuv's */
    {SIGSEGV, "sigsegv"},
    {SIGBUS, "sigbus"},
    {SIGFPE, "sigfpe"},
    {SIGILL, "sigill"},
    {SIGABRT, "sigabrt"},
    {SIGTRAP, "sigtrap"},
    {SIGSYS, "sigsys"},
};

static int guard_signal_start(lua_State *L) {
  const char *name = lua_isnumber(L, 2) ? NULL : lua_tostring(L, 2);
  for (size_t i = 0; i < sizeof own_signals / sizeof *own_signals; i++)
    if (name ? strcasecmp(name, own_signals[i].name) == 0
             : lua_tointeger(L, 2) == own_signals[i].number)
      return luaL_error(L, "uv.signal_start: %s is the server's own", own_signals[i].name);
  return go_on(L);
}

/* luv has room for nine values; a userdata would be copied and have two owners. */
enum { ASYNC_MAX = 9 };

static int guard_async_send(lua_State *L) {
  int n = lua_gettop(L) - 1;
  if (n > ASYNC_MAX)
    return luaL_error(L, "uv.async_send takes at most %d values, not %d", ASYNC_MAX, n);
  for (int i = 2; i <= n + 1; i++) {
    int type = lua_type(L, i);
    if (type > LUA_TSTRING || type == LUA_TLIGHTUSERDATA)
      return luaL_error(L, "uv.async_send: value %d is a %s: only plain values can be sent", i - 1,
                        lua_typename(L, type));
  }
  return go_on(L);
}

/* What would hold up everybody suspends instead. */
static int sleep_as_task(lua_State *L) {
  lua_Number ms = luaL_checknumber(L, 1);
  lua_settop(L, 0);
  lua_pushnumber(L, ms / 1000);
  return l_park(L);
}

/* Puts a guard in front of a function of the table on top. */
static void guard(lua_State *L, const char *name, lua_CFunction in_front) {
  if (lua_getfield(L, -1, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  lua_pushcclosure(L, in_front, 1);
  lua_setfield(L, -2, name);
}

static void guard_methods(lua_State *L, const char *type, const luaL_Reg *guards) {
  luaL_getmetatable(L, type);
  lua_getfield(L, -1, "__index");
  for (; guards->name; guards++) guard(L, guards->name, guards->func);
  lua_pop(L, 2);
}

/* A finalizer that an app calls frees what luv will free again. */
static void hide_metatables(lua_State *L) {
  static const char *const others[] = {"uv_req", "uv_fs", "uv_dir", "uv_thread", "luv_work_ctx"};
  lua_getfield(L, LUA_REGISTRYINDEX, "uv_handle"); /* a set of metatables */
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    lua_pushliteral(L, "uv_handle");
    lua_setfield(L, -3, "__metatable");
  }
  lua_pop(L, 1);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    if (luaL_getmetatable(L, others[i]) == LUA_TTABLE) {
      lua_pushstring(L, others[i]);
      lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
  }
}

/* Stack: the library on top. */
static void make_safe(lua_State *L) {
  static const luaL_Reg of_signals[] = {
      {"start", guard_signal_start}, {"start_oneshot", guard_signal_start}, {NULL, NULL}};
  static const luaL_Reg of_asyncs[] = {{"send", guard_async_send}, {NULL, NULL}};
  take_away(L, of_the_process);
  guard(L, "kill", guard_kill);
  guard(L, "signal_start", guard_signal_start);
  guard(L, "signal_start_oneshot", guard_signal_start);
  guard(L, "async_send", guard_async_send);
  guard_methods(L, "uv_signal", of_signals);
  guard_methods(L, "uv_async", of_asyncs);
  hide_metatables(L);
}

/* ---- in a worker's state --------------------------------------------------------------------- */

/* Where luv's own close and is_closing are kept: apps can change the library's table. */
static const char close_key, is_closing_key;

static void keep(lua_State *L, const char *name, const char *key) {
  lua_getfield(L, -1, name);
  lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

int lluv_open(lua_State *L) {
  struct host *h = host_of(L);
  luv_set_loop(h->L, &h->worker.loop);
  luv_set_callback(h->L, task_callback); /* or an error in one would end the process */
  luaopen_luv(L);
  keep(L, "close", &close_key);
  keep(L, "is_closing", &is_closing_key);
  take_away(L, of_the_loop);
  make_safe(L);
  lua_pushcfunction(L, sleep_as_task);
  lua_setfield(L, -2, "sleep");
  return 1;
}

/* luv keeps each handle that is not closed in the registry. */
int l_luv_handles(lua_State *L) {
  enum { LIST = 1, TYPES, KEY, HANDLE };
  lua_Integer n = 0;
  lua_settop(L, 0);
  lua_newtable(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "uv_handle");
  if (!lua_istable(L, TYPES)) return lua_settop(L, LIST), 1; /* never required */
  for (lua_pushnil(L); lua_next(L, LUA_REGISTRYINDEX); lua_settop(L, KEY)) {
    if (lua_type(L, HANDLE) != LUA_TUSERDATA || !lua_getmetatable(L, HANDLE)) continue;
    if (lua_rawget(L, TYPES) != LUA_TBOOLEAN) continue; /* no handle's metatable */
    lua_pushvalue(L, HANDLE);
    lua_rawseti(L, LIST, ++n);
  }
  lua_settop(L, LIST);
  return 1;
}

static int close_body(lua_State *L) {
  lua_Integer n = (l_luv_handles(L), (lua_Integer)lua_rawlen(L, 1));
  for (lua_Integer i = 1; i <= n; i++, lua_settop(L, 1)) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &is_closing_key);
    lua_rawgeti(L, 1, i);
    lua_call(L, 1, 1);
    if (lua_toboolean(L, -1)) continue;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &close_key);
    lua_rawgeti(L, 1, i);
    lua_call(L, 1, 0);
  }
  return 0;
}

void lluv_end_handles(struct host *h) {
  if (!h->L || task_protect(h, close_body, NULL, 0)) return;
  log_say(LOG_ERROR, "handles of luv could not be closed");
  lua_pop(h->L, 1);
}

/* The last finalizer of all: what the others have begun with luv ends, while there is a state. */
static int end_of_state(lua_State *L) {
  struct host *h = host_of(L);
  close_body(L);
  uv_run(&h->worker.loop, UV_RUN_DEFAULT);
  return 0;
}

void lluv_outlive(lua_State *L) {
  lua_newuserdatauv(L, 0, 0);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, end_of_state);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  luaL_ref(L, LUA_REGISTRYINDEX);
}

/* ---- in a state on a thread ------------------------------------------------------------------ */

static const char faults_key;

static int call_back(lua_State *L, int n_args, int n_results, int flags) {
  (void)flags;
  int below = lua_gettop(L) - n_args - 1;
  if (task_pcall(L, n_args, n_results))
    return n_results == LUA_MULTRET ? lua_gettop(L) - below : n_results;
  struct log_line l;
  if (log_begin(&l, LOG_ERROR, "luv callback failed in a blocking function")) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1);
    log_str(&l, "error", text);
    log_end(&l);
  }
  lua_settop(L, below);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &faults_key);
  ++*(unsigned *)lua_touserdata(L, -1);
  lua_pop(L, 1);
  return -LUA_ERRRUN;
}

static int open_private(lua_State *L) {
  luv_set_callback(L, call_back);
  lua_pushboolean(L, 1); /* or luv would clean up at the end of the process */
  lua_setglobal(L, "_THREAD");
  luaopen_luv(L);
  make_safe(L);
  return 1;
}

void lluv_preload(lua_State *L, unsigned *n_faults) {
  lua_pushlightuserdata(L, n_faults);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &faults_key);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_private);
  lua_setfield(L, -2, "luv");
  lua_pop(L, 1);
}
