/* SPDX-License-Identifier: MIT */
/* lbound.c -- functions of C that would run for long where nothing ends them, kept within bounds.
 */
#include "bridge/lbound.h"

#include "bridge/host.h"

#include <lauxlib.h>
#include <lua-cjson.h>
#include <lualib.h>
#include <stdbool.h>

/* ---- load --------------------------------------------------------------------------------------
 */

enum { PIECE = 4096 };

struct source {
  const char *at;
  size_t left;
  const struct host *host;
};

static const char *next_piece(lua_State *L, void *data, size_t *n) {
  struct source *s = data;
  const char *piece = s->at;
  slice_check(L, s->host);
  *n = s->left < PIECE ? s->left : PIECE;
  s->at += *n;
  s->left -= *n;
  return *n ? piece : NULL;
}

/* Of a text; of a function Lua's own is as good, as its pieces come from Lua. */
static int l_load(lua_State *L) {
  size_t n;
  if (lua_type(L, 1) != LUA_TSTRING) return lua_tocfunction(L, lua_upvalueindex(1))(L);
  const char *text = lua_tolstring(L, 1, &n), *name = luaL_optstring(L, 2, text);
  const char *mode = luaL_optstring(L, 3, "bt");
  struct source source = {text, n, host_of(L)};
  bool has_env = !lua_isnone(L, 4);
  if (lua_load(L, next_piece, &source, name, mode) != LUA_OK) {
    luaL_pushfail(L);
    lua_insert(L, -2);
    return 2;
  }
  if (has_env) {
    lua_pushvalue(L, 4);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  }
  return 1;
}

/* ---- formats -----------------------------------------------------------------------------------
 */

static int call_with_short_format(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING && lua_rawlen(L, 1) > BOUND_FORMAT)
    luaL_argerror(L, 1, "a format longer than 1 MiB");
  return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Puts fn, with what is there now as its upvalue, into the table on top. */
static void replace(lua_State *L, const char *name, lua_CFunction fn) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

void lbound_open(lua_State *L) {
  lua_pushglobaltable(L);
  replace(L, "load", l_load);
  lua_pop(L, 1);
  lua_getglobal(L, LUA_STRLIBNAME);
  replace(L, "pack", call_with_short_format);
  replace(L, "packsize", call_with_short_format);
  replace(L, "unpack", call_with_short_format);
  lua_pop(L, 1);
  lua_getglobal(L, LUA_OSLIBNAME);
  replace(L, "date", call_with_short_format);
  lua_pop(L, 1);
}

/* ---- cjson -------------------------------------------------------------------------------------
 */

enum { DEPTH = 1000 }; /* cjson refuses what is deeper */

struct amount {
  const struct host *host;
  size_t values, text;
};

static void count_text(lua_State *L, struct amount *a, int index) {
  if ((a->text += lua_rawlen(L, index)) > BOUND_TEXT)
    luaL_error(L, "cannot encode more than %d MiB of strings", BOUND_TEXT >> 20);
}

/* Counts what is in a table, as often as it is met. */
static void count(lua_State *L, struct amount *a, int table, int depth) {
  slice_check(L, a->host);
  luaL_checkstack(L, 3, "values nested too deeply");
  lua_pushnil(L);
  while (lua_next(L, table)) {
    int value = lua_gettop(L), type = lua_type(L, value);
    if (++a->values > BOUND_VALUES)
      luaL_error(L,
                 "cannot encode more than %d values (are the same tables in it again and again?)",
                 BOUND_VALUES);
    if (type == LUA_TSTRING) count_text(L, a, value);
    if (lua_type(L, value - 1) == LUA_TSTRING) count_text(L, a, value - 1);
    if (type == LUA_TTABLE && depth < DEPTH) count(L, a, value, depth + 1);
    lua_settop(L, value - 1);
  }
}

/* cjson's functions have upvalues of their own, so they are called as functions of Lua. */
static int call_own(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static int l_encode(lua_State *L) {
  struct amount a = {.host = host_of(L)};
  if (lua_gettop(L) == 1 && lua_istable(L, 1)) count(L, &a, 1, 0);
  if (lua_gettop(L) == 1 && lua_type(L, 1) == LUA_TSTRING) count_text(L, &a, 1);
  return call_own(L);
}

static int l_new(lua_State *L);

static void bound_module(lua_State *L) {
  replace(L, "encode", l_encode);
  replace(L, "new", l_new);
}

static int l_new(lua_State *L) {
  call_own(L);
  bound_module(L);
  return 1;
}

int lbound_open_cjson(lua_State *L) {
  luaopen_cjson(L);
  bound_module(L);
  return 1;
}
