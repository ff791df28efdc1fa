/* SPDX-License-Identifier: MIT */
/* ltable.c -- table.concat, insert, move, remove and sort, so that the slice's end reaches them. */
#include "bridge/ltable.h"

#include "bridge/host.h"

#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <stdbool.h>
#include <time.h>

/* What a function does with its table. */
enum { READS = 1, WRITES = 2, MEASURES = 4 };

static bool has(lua_State *L, int metatable, const char *field) {
  lua_pushstring(L, field);
  bool is_there = lua_rawget(L, metatable) != LUA_TNIL;
  lua_pop(L, 1);
  return is_there;
}

/* A table, or what has the metamethods to be taken for one. */
static void check_table(lua_State *L, int arg, int what) {
  if (lua_type(L, arg) == LUA_TTABLE) return;
  if (lua_getmetatable(L, arg)) {
    int mt = lua_gettop(L);
    bool is_like = (!(what & READS) || has(L, mt, "__index")) &&
                   (!(what & WRITES) || has(L, mt, "__newindex")) &&
                   (!(what & MEASURES) || has(L, mt, "__len"));
    lua_pop(L, 1);
    if (is_like) return;
  }
  luaL_checktype(L, arg, LUA_TTABLE);
}

static lua_Integer length(lua_State *L, int arg, int what) {
  check_table(L, arg, what | MEASURES);
  return luaL_len(L, arg);
}

/* t[to] = t[from] */
static inline void copy(lua_State *L, const struct host *h, int source, lua_Integer from,
                        int target, lua_Integer to) {
  slice_check(L, h);
  lua_geti(L, source, from);
  lua_seti(L, target, to);
}

static int l_insert(lua_State *L) {
  const struct host *h = host_of(L);
  lua_Integer end = (lua_Integer)((lua_Unsigned)length(L, 1, READS | WRITES) + 1);
  lua_Integer pos = end;
  switch (lua_gettop(L)) {
  case 2: break;
  case 3:
    pos = luaL_checkinteger(L, 2);
    luaL_argcheck(L, (lua_Unsigned)pos - 1 < (lua_Unsigned)end, 2, "position out of bounds");
    for (lua_Integer i = end; i > pos; i--) copy(L, h, 1, i - 1, 1, i);
    break;
  default: return luaL_error(L, "wrong number of arguments to 'insert'");
  }
  lua_seti(L, 1, pos);
  return 0;
}

static int l_remove(lua_State *L) {
  const struct host *h = host_of(L);
  lua_Integer size = length(L, 1, READS | WRITES), pos = luaL_optinteger(L, 2, size);
  if (pos != size && (lua_Unsigned)pos - 1 > (lua_Unsigned)size)
    return lua_tocfunction(L, lua_upvalueindex(1))(L); /* versions of Lua say it differently */
  lua_geti(L, 1, pos);
  for (; pos < size; pos++) copy(L, h, 1, pos + 1, 1, pos);
  lua_pushnil(L);
  lua_seti(L, 1, pos);
  return 1;
}

static int l_move(lua_State *L) {
  const struct host *h = host_of(L);
  lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
  lua_Integer to = luaL_checkinteger(L, 4);
  int target = lua_isnoneornil(L, 5) ? 1 : 5;
  check_table(L, 1, READS);
  check_table(L, target, WRITES);
  if (last >= first) {
    luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3, "too many elements to move");
    lua_Integer n = last - first + 1;
    luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
    bool is_forward =
        to > last || to <= first || (target != 1 && !lua_compare(L, 1, target, LUA_OPEQ));
    for (lua_Integer k = 0; k < n; k++) {
      lua_Integer i = is_forward ? k : n - 1 - k;
      copy(L, h, 1, first + i, target, to + i);
    }
  }
  lua_pushvalue(L, target);
  return 1;
}

static int l_concat(lua_State *L) {
  const struct host *h = host_of(L);
  luaL_Buffer out;
  lua_Integer last = length(L, 1, READS);
  size_t sep_len;
  const char *sep = luaL_optlstring(L, 2, "", &sep_len);
  lua_Integer first = luaL_optinteger(L, 3, 1);
  last = luaL_optinteger(L, 4, last);
  luaL_buffinit(L, &out);
  for (lua_Integer i = first; i <= last; i++) {
    slice_check(L, h);
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1))
      return luaL_error(L, "invalid value (%s) at index %I in table for 'concat'",
                        luaL_typename(L, -1), (LUAI_UACINT)i);
    luaL_addvalue(&out);
    if (i == last) break; /* which may be the greatest integer */
    luaL_addlstring(&out, sep, sep_len);
  }
  luaL_pushresult(&out);
  return 1;
}

/* ---- sort --------------------------------------------------------------------------------------
 */

/* Quicksort as in Sedgewick's book: the median of three as pivot, out of the way in the last place
 * but one; the smaller half by recursion, so that the C stack holds log n levels. The table may do
 * anything meanwhile: a comparison that contradicts itself is an error, and never leads out of the
 * range. */

typedef unsigned int place; /* fits: the length is below INT_MAX */

enum { LARGE = 100 }; /* from here on a pivot that was a bad choice is chosen by chance */

struct sort {
  lua_State *L;
  const struct host *host;
  bool has_order; /* a function at index 2 */
};

/* Is a, at a negative index, to come before b, at another? */
static bool is_before(const struct sort *s, int a, int b) {
  lua_State *L = s->L;
  slice_check(L, s->host);
  if (!s->has_order) return lua_compare(L, a, b, LUA_OPLT);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, a - 1);
  lua_pushvalue(L, b - 2);
  lua_call(L, 2, 1);
  bool is_less = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return is_less;
}

/* Stack: ..., value of i, value of j. Puts them into each other's place. */
static void put(lua_State *L, place i, place j) {
  lua_seti(L, 1, i);
  lua_seti(L, 1, j);
}

/* Brings the values of two places into order: j must not come before i. */
static void order_two(const struct sort *s, place i, place j) {
  lua_State *L = s->L;
  lua_geti(L, 1, i);
  lua_geti(L, 1, j);
  if (is_before(s, -1, -2))
    put(L, i, j);
  else
    lua_pop(L, 2);
}

/* Between lo and up, both of which are in order with the pivot; it lies in up - 1 and on top of the
 * stack. Pops it; returns its place. */
static place partition(const struct sort *s, place lo, place up) {
  lua_State *L = s->L;
  place i = lo, j = up - 1;
  for (;;) {
    while (lua_geti(L, 1, ++i), is_before(s, -1, -2)) {
      if (i == up - 1) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    while (lua_geti(L, 1, --j), is_before(s, -3, -1)) {
      if (j < i) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    if (j < i) {
      lua_pop(L, 1);
      put(L, up - 1, i); /* the pivot's place was lent to what lies in i */
      return i;
    }
    put(L, i, j);
  }
}

static unsigned chance(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (unsigned)now.tv_nsec ^ (unsigned)now.tv_sec;
}

/* The middle, or one near it. */
static place choose_pivot(place lo, place up, unsigned random) {
  place quarter = (up - lo) / 4;
  return random % (quarter * 2) + lo + quarter;
}

static void sort_range(const struct sort *s, place lo, place up, unsigned random) {
  lua_State *L = s->L;
  while (lo < up) {
    order_two(s, lo, up);
    if (up - lo == 1) return;
    place pivot = up - lo > LARGE && random ? choose_pivot(lo, up, random) : (lo + up) / 2;
    lua_geti(L, 1, pivot);
    lua_geti(L, 1, lo);
    if (is_before(s, -2, -1)) {
      put(L, pivot, lo);
    } else {
      lua_pop(L, 1);
      lua_geti(L, 1, up);
      if (is_before(s, -1, -2))
        put(L, pivot, up);
      else
        lua_pop(L, 2);
    }
    if (up - lo == 2) return;
    lua_geti(L, 1, pivot);
    lua_pushvalue(L, -1);
    lua_geti(L, 1, up - 1);
    put(L, pivot, up - 1);
    pivot = partition(s, lo, up);
    place smaller;
    if (pivot - lo < up - pivot) {
      sort_range(s, lo, pivot - 1, random);
      smaller = pivot - lo;
      lo = pivot + 1;
    } else {
      sort_range(s, pivot + 1, up, random);
      smaller = up - pivot;
      up = pivot - 1;
    }
    if ((up - lo) / 128 > smaller) random = chance();
  }
}

static int l_sort(lua_State *L) {
  struct sort s = {.L = L, .host = host_of(L)};
  lua_Integer n = length(L, 1, READS | WRITES);
  if (n < 2) return 0;
  luaL_argcheck(L, n < INT_MAX, 1, "array too big");
  s.has_order = !lua_isnoneornil(L, 2);
  if (s.has_order) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  sort_range(&s, 1, (place)n, 0);
  return 0;
}

void ltable_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"concat", l_concat}, {"insert", l_insert}, {"move", l_move}, {"sort", l_sort}, {NULL, NULL},
  };
  lua_getglobal(L, LUA_TABLIBNAME);
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "remove");
  lua_pushcclosure(L, l_remove, 1); /* with Lua's own */
  lua_setfield(L, -2, "remove");
  lua_pop(L, 1);
}
