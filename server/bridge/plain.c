/* SPDX-License-Identifier: MIT */
/* plain.c -- plain Lua values as bytes, for other Lua states.
 *
 *   values   count, then each: tag, payload
 *   tags     n nil, 0 null, t f booleans, i integer, d double, s length bytes,
 *            m table, a array: pairs of values, ended by n */
#include "bridge/plain.h"

#include "base/mem.h"
#include "bridge/task.h"

#include <lauxlib.h>
#include <string.h>

enum { DEPTH_MAX = 100 };

/* ---- writing --------------------------------------------------------------------------------- */

struct writer {
  struct builder *out;
  const void *array_mt;
  const struct slice_watch *slice;
  const char *what; /* that is not plain */
};

static bool write_one(lua_State *L, struct writer *w, int index, int depth);

static bool write_table(lua_State *L, struct writer *w, int index, int depth) {
  bool is_array = false;
  if (depth >= DEPTH_MAX || !lua_checkstack(L, 6)) {
    w->what = "tables nested too deeply (a cycle?)";
    return false;
  }
  if (lua_getmetatable(L, index)) {
    is_array = lua_topointer(L, -1) == w->array_mt;
    lua_pop(L, 1);
    if (!is_array) {
      w->what = "a table with a metatable";
      return false;
    }
  }
  builder_byte(w->out, is_array ? 'a' : 'm');
  lua_pushnil(L);
  while (lua_next(L, index)) {
    int key = lua_gettop(L) - 1;
    if (!write_one(L, w, key, depth + 1) || !write_one(L, w, key + 1, depth + 1)) return false;
    if (w->slice && slice_is_over(w->slice)) {
      w->what = "more than can be copied in time (the same tables again and again?)";
      return false;
    }
    if (w->out->is_failed) {
      w->what = "more than 1 GiB";
      return false;
    }
    lua_settop(L, key);
  }
  builder_byte(w->out, 'n');
  return true;
}

static bool write_one(lua_State *L, struct writer *w, int index, int depth) {
  switch (lua_type(L, index)) {
  case LUA_TNIL: builder_byte(w->out, 'n'); return true;
  case LUA_TBOOLEAN: builder_byte(w->out, lua_toboolean(L, index) ? 't' : 'f'); return true;
  case LUA_TNUMBER:
    if (lua_isinteger(L, index)) {
      lua_Integer v = lua_tointeger(L, index);
      builder_byte(w->out, 'i');
      builder_add(w->out, &v, sizeof v);
    } else {
      lua_Number v = lua_tonumber(L, index);
      builder_byte(w->out, 'd');
      builder_add(w->out, &v, sizeof v);
    }
    return true;
  case LUA_TSTRING: {
    size_t n;
    const char *s = lua_tolstring(L, index, &n);
    uint32_t len = (uint32_t)n; /* a longer one fails the builder */
    builder_byte(w->out, 's');
    builder_add(w->out, &len, sizeof len);
    builder_add(w->out, s, n);
    return true;
  }
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata(L, index)) {
      builder_byte(w->out, '0');
      return true;
    }
    break;
  case LUA_TTABLE: return write_table(L, w, index, depth);
  default: break;
  }
  w->what = lua_typename(L, lua_type(L, index));
  return false;
}

bool plain_write(lua_State *L, struct builder *b, int first, int n, const void *array_mt,
                 const struct slice_watch *slice, const char **what) {
  struct writer w = {b, array_mt, slice, NULL};
  int top = lua_gettop(L);
  uint32_t count = (uint32_t)n;
  builder_add(b, &count, sizeof count);
  for (int i = 0; i < n; i++) {
    if (!write_one(L, &w, first + i, 0))
      *what = w.what;
    else if (b->is_failed)
      *what = "more than 1 GiB";
    else
      continue;
    lua_settop(L, top);
    return false;
  }
  return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct cursor {
  const uint8_t *at, *end;
  int array_mt;
};

/* The bytes are our own: a cursor that runs out is a bug. */
static const uint8_t *take(struct cursor *c, size_t n) {
  check((size_t)(c->end - c->at) >= n);
  const uint8_t *p = c->at;
  c->at += n;
  return p;
}

static void read_one(lua_State *L, struct cursor *c) {
  uint8_t tag = *take(c, 1);
  luaL_checkstack(L, 6, "values nested too deeply");
  switch (tag) {
  case 'n': lua_pushnil(L); return;
  case '0': lua_pushlightuserdata(L, NULL); return;
  case 't': lua_pushboolean(L, 1); return;
  case 'f': lua_pushboolean(L, 0); return;
  case 'i': {
    lua_Integer v;
    memcpy(&v, take(c, sizeof v), sizeof v);
    lua_pushinteger(L, v);
    return;
  }
  case 'd': {
    lua_Number v;
    memcpy(&v, take(c, sizeof v), sizeof v);
    lua_pushnumber(L, v);
    return;
  }
  case 's': {
    uint32_t len;
    memcpy(&len, take(c, sizeof len), sizeof len);
    lua_pushlstring(L, (const char *)take(c, len), len);
    return;
  }
  default: break;
  }
  check(tag == 'm' || tag == 'a');
  lua_newtable(L);
  for (;;) {
    read_one(L, c);
    if (lua_isnil(L, -1)) break;
    read_one(L, c);
    lua_rawset(L, -3);
  }
  lua_pop(L, 1);
  if (tag == 'a') {
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->array_mt);
    lua_setmetatable(L, -2);
  }
}

int plain_read(lua_State *L, const uint8_t *bytes, size_t n, int array_mt) {
  struct cursor c = {bytes, bytes + n, array_mt};
  uint32_t count;
  memcpy(&count, take(&c, sizeof count), sizeof count);
  luaL_checkstack(L, (int)count, "too many values");
  for (uint32_t i = 0; i < count; i++) read_one(L, &c);
  return (int)count;
}
