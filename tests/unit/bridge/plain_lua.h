/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_TEST_PLAIN_LUA_H
#define PERIGEE_TEST_PLAIN_LUA_H

/* plain_lua.h -- two Lua states side by side: Lua's own libraries, and ours in their place. */

#include "../unit.h"

#include "bridge/host.h"
#include "bridge/lbound.h"
#include "bridge/lstring.h"
#include "bridge/ltable.h"
#include "bridge/memory.h"
#include "bridge/settings.h"

#include <lauxlib.h>
#include <lua-cjson.h>
#include <lualib.h>
#include <string.h>

static struct host host;
static struct memory memory[2]; /* bounded, as what is asked for is not */
static struct settings settings;
static lua_State *lua, *ours;

static int be_stopped(lua_State *L) {
  lua_pushliteral(L, "stopped");
  return 1;
}

static int be_slow(lua_State *L) {
  (void)L;
  return 0;
}

static int open_both(void **state) {
  (void)state;
  memory[0].max = memory[1].max = 256 << 20;
  lua = lua_newstate(memory_allocate, &memory[0]);
  luaL_openlibs(lua);
  ours = lua_newstate(memory_allocate, &memory[1]);
  *(struct host **)lua_getextraspace(ours) = &host;
  luaL_openlibs(ours);
  lstring_open(ours);
  ltable_open(ours);
  lbound_open(ours);
  luaL_requiref(lua, "cjson", luaopen_cjson, 1);
  luaL_requiref(ours, "cjson", lbound_open_cjson, 1);
  host.L = ours;
  host.settings = &settings;
  lua_pushcfunction(ours, be_stopped);
  host.entries.stopped = luaL_ref(ours, LUA_REGISTRYINDEX);
  lua_pushcfunction(ours, be_slow);
  host.entries.slow = luaL_ref(ours, LUA_REGISTRYINDEX);
  return 0;
}

static int close_both(void **state) {
  (void)state;
  lua_close(lua);
  lua_close(ours);
  memory_fini(&memory[0]);
  memory_fini(&memory[1]);
  return 0;
}

/* Runs a chunk that returns a text, which is the caller's until the next one. */
static const char *text_of(lua_State *L, const char *chunk) {
  lua_settop(L, 0);
  int status = luaL_loadstring(L, chunk);
  if (status == LUA_OK) status = lua_pcall(L, 0, 1, 0);
  if (status != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
  return luaL_checkstring(L, -1);
}

/* The chunk's text must be the same with both. */
static void assert_same(const char *chunk) {
  const char *a = text_of(lua, chunk), *b = text_of(ours, chunk);
  size_t line = 0;
  for (size_t i = 0; a[i] && a[i] == b[i]; i++)
    if (a[i] == '\n') line = i + 1;
  if (strcmp(a, b) != 0) fail_msg("Lua: %.200s\nours: %.200s", a + line, b + line);
}

/* The chunk, which would take for ever, ends with the slice: inside of pcall as well. */
static void assert_reached(const char *chunk) {
  uint64_t before = atomic_load(&host.worker.metrics.slices_warned);
  lua_settop(ours, 0);
  assert_int_equal(luaL_loadstring(ours, chunk), LUA_OK);
  atomic_store(&host.slice.request, SLICE_STOP);
  host.slice.grace = 3; /* so that it is reached within its work, not only at its beginning */
  int status = lua_pcall(ours, 0, 0, 0);
  host.slice.grace = 0;
  atomic_store(&host.slice.request, SLICE_NONE);
  if (status != LUA_ERRRUN || strcmp(lua_tostring(ours, -1), "stopped") != 0)
    fail_msg("not reached: %s", chunk);
  assert_int_equal(atomic_load(&host.worker.metrics.slices_warned), before);
}

/* A warning is given once and changes nothing. */
static void assert_warned(const char *chunk) {
  uint64_t before = atomic_load(&host.worker.metrics.slices_warned);
  atomic_store(&host.slice.request, SLICE_WARN);
  char *text = strdup(text_of(ours, chunk));
  assert_int_equal(atomic_load(&host.slice.request), SLICE_NONE);
  assert_int_equal(atomic_load(&host.worker.metrics.slices_warned), before + 1);
  assert_string_equal(text, text_of(lua, chunk));
  free(text);
}

#endif
