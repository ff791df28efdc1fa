/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_FUZZ_VALUES_H
#define PERIGEE_FUZZ_VALUES_H

/* values.h -- a Lua state to decode into, and a comparison of values that sees every difference. */

#include "base/mem.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>

enum { MT = 1 }; /* stack index of the array metatable */

/* One state for all inputs; the stack holds nothing but the array metatable. */
static inline lua_State *fresh_state(void) {
  static lua_State *L;
  static unsigned uses;
  if (L && ++uses % 100000 == 0) { /* or a leak in it would go unseen */
    lua_close(L);
    L = NULL;
  }
  if (!L) {
    L = luaL_newstate();
    check(L);
    lua_newtable(L);
  }
  lua_settop(L, MT);
  return L;
}

/* The same value, of the same types, to the last bit. */
static inline bool is_same_value(lua_State *L, int a, int b) {
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  if (lua_type(L, a) != lua_type(L, b)) return false;
  if (lua_type(L, a) == LUA_TNUMBER) {
    if (lua_isinteger(L, a) != lua_isinteger(L, b)) return false;
    if (lua_isinteger(L, a)) return lua_tointeger(L, a) == lua_tointeger(L, b);
    double x = lua_tonumber(L, a), y = lua_tonumber(L, b);
    return memcmp(&x, &y, sizeof x) == 0;
  }
  if (lua_type(L, a) != LUA_TTABLE) return lua_rawequal(L, a, b);
  const void *mt[2] = {NULL, NULL};
  int tables[2] = {a, b};
  size_t n = 0;
  luaL_checkstack(L, 8, NULL);
  for (int i = 0; i < 2; i++) {
    if (lua_getmetatable(L, tables[i])) {
      mt[i] = lua_topointer(L, -1);
      lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, tables[i]); lua_pop(L, 1)) n += i ? (size_t)-1 : 1;
  }
  if (mt[0] != mt[1] || n != 0) return false;
  for (lua_pushnil(L); lua_next(L, a); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_rawget(L, b);
    bool is_equal = is_same_value(L, -2, -1);
    lua_pop(L, 1);
    if (!is_equal) {
      lua_pop(L, 2);
      return false;
    }
  }
  return true;
}

#endif
