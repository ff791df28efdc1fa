/* SPDX-License-Identifier: MIT */
/* lstring.c -- string.find, match, gmatch, gsub and rep, so that the slice's end reaches them. */
#include "bridge/lstring.h"

#include "bridge/pattern.h"

#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>

/* ---- find, match ------------------------------------------------------------------------------
 */

/* Where a search begins: 0 is the first byte. */
static size_t start_of(lua_Integer pos, size_t len) {
  if (pos > 0) return (size_t)pos - 1;
  if (pos == 0 || pos < -(lua_Integer)len) return 0;
  return (size_t)((lua_Integer)len + pos);
}

static bool is_plain(const char *s, size_t n) {
  for (const char *end = s + n; s <= end; s += strlen(s) + 1) /* it may hold zeros */
    if (strpbrk(s, "^$*+?.([%-")) return false;
  return true;
}

/* Where a text lies in another; takes time that is linear in both, so nothing needs to end it. */
static const char *find_text(const char *s, size_t n, const char *what, size_t len) {
  enum { TRIES = 8 }; /* then the one that takes longer to begin */
  if (len == 0) return s;
  for (int i = 0; i < TRIES; i++) {
    if (len > n) return NULL;
    const char *at = memchr(s, *what, n - len + 1);
    if (!at || memcmp(at, what, len) == 0) return at;
    n -= (size_t)(at + 1 - s);
    s = at + 1;
  }
  return memmem(s, n, what, len);
}

static int find_plain(lua_State *L, const char *s, size_t n, size_t from, const char *what,
                      size_t len) {
  const char *at = find_text(s + from, n - from, what, len);
  if (!at) {
    luaL_pushfail(L);
    return 1;
  }
  lua_pushinteger(L, at - s + 1);
  lua_pushinteger(L, at - s + (lua_Integer)len);
  return 2;
}

static int find_or_match(lua_State *L, bool is_find) {
  size_t n, len;
  const char *s = luaL_checklstring(L, 1, &n), *at = luaL_checklstring(L, 2, &len);
  size_t from = start_of(luaL_optinteger(L, 3, 1), n);
  if (from > n) {
    luaL_pushfail(L);
    return 1;
  }
  if (is_find && (lua_toboolean(L, 4) || is_plain(at, len)))
    return find_plain(L, s, n, from, at, len);
  struct pattern p;
  const char *end, *found;
  pattern_init(&p, L, s, n, at, len);
  if (*at == '^') {
    found = s + from;
    end = pattern_match(&p, found, at + 1);
  } else {
    found = pattern_search(&p, s + from, at, &end);
    if (!found) end = NULL;
  }
  if (!end) {
    luaL_pushfail(L);
    return 1;
  }
  if (!is_find) return pattern_push_captures(&p, found, end);
  lua_pushinteger(L, found - s + 1);
  lua_pushinteger(L, end - s);
  return 2 + pattern_push_captures(&p, NULL, NULL);
}

static int l_find(lua_State *L) {
  return find_or_match(L, true);
}

static int l_match(lua_State *L) {
  return find_or_match(L, false);
}

/* ---- gmatch ------------------------------------------------------------------------------------
 */

/* Of one iterator. Its upvalues keep subject and pattern. */
struct walk {
  struct pattern pattern;
  const char *at;   /* where the pattern begins */
  const char *next; /* where the next search begins */
  const char *last; /* end of the last match: an empty one there is none */
};

static int next_match(lua_State *L) {
  struct walk *w = lua_touserdata(L, lua_upvalueindex(3));
  const char *end;
  w->pattern.L = L;
  for (const char *s = w->next;; s++) {
    s = pattern_search(&w->pattern, s, w->at, &end);
    if (!s) return 0;
    if (end == w->last) continue;
    w->next = w->last = end;
    return pattern_push_captures(&w->pattern, s, end);
  }
}

static int l_gmatch(lua_State *L) {
  size_t n, len;
  const char *s = luaL_checklstring(L, 1, &n), *at = luaL_checklstring(L, 2, &len);
  size_t from = start_of(luaL_optinteger(L, 3, 1), n);
  lua_settop(L, 2);
  struct walk *w = lua_newuserdatauv(L, sizeof *w, 0);
  pattern_init(&w->pattern, L, s, n, at, len);
  w->at = at;
  w->next = s + (from > n ? n + 1 : from);
  w->last = NULL;
  lua_pushcclosure(L, next_match, 3);
  return 1;
}

/* ---- gsub --------------------------------------------------------------------------------------
 */

struct gsub {
  struct pattern pattern;
  luaL_Buffer out;
  int kind;         /* of the replacement */
  const char *text; /* the replacement, when it is a text */
  size_t text_len;
};

/* The replacement's text, with its %0 to %9 filled in. */
static void add_text(struct gsub *g, const char *s, const char *e) {
  const char *text = g->text, *text_end = text + g->text_len, *percent;
  while ((percent = memchr(text, '%', (size_t)(text_end - text)))) {
    luaL_addlstring(&g->out, text, (size_t)(percent - text));
    char c = percent[1]; /* Lua's strings end with a zero */
    text = percent + 2;
    if (c == '%') {
      luaL_addchar(&g->out, '%');
    } else if (c == '0') {
      luaL_addlstring(&g->out, s, (size_t)(e - s));
    } else if (c >= '1' && c <= '9') {
      const char *start;
      ptrdiff_t len = pattern_capture(&g->pattern, c - '1', s, e, &start);
      if (len == CAPTURE_POSITION) {
        lua_pushinteger(g->pattern.L, start - g->pattern.subject + 1);
        luaL_addvalue(&g->out);
      } else {
        luaL_addlstring(&g->out, start, (size_t)len);
      }
    } else {
      luaL_error(g->pattern.L, "invalid use of '%c' in replacement string", '%');
    }
  }
  luaL_addlstring(&g->out, text, (size_t)(text_end - text));
}

/* What a function returns or a table holds. False: the match stays as it is. */
static bool add_value(struct gsub *g, const char *s, const char *e) {
  lua_State *L = g->pattern.L;
  if (g->kind == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, pattern_push_captures(&g->pattern, s, e), 1);
  } else {
    pattern_push_capture(&g->pattern, 0, s, e);
    lua_gettable(L, 3);
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(&g->out, s, (size_t)(e - s));
    return false;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(&g->out);
  return true;
}

static bool add_replacement(struct gsub *g, const char *s, const char *e) {
  if (g->kind == LUA_TFUNCTION || g->kind == LUA_TTABLE) return add_value(g, s, e);
  add_text(g, s, e);
  return true;
}

/* Up to `most` times; *changed when the result is another string. Returns how often. */
static lua_Integer replace(struct gsub *g, const char *at, lua_Integer most, bool *changed) {
  bool is_anchored = *at == '^';
  const char *s = g->pattern.subject, *kept = s, *last = NULL, *end;
  lua_Integer n = 0;
  if (is_anchored) at++;
  for (; n < most && s <= g->pattern.subject_end; s++) {
    if (is_anchored)
      end = pattern_match(&g->pattern, s, at);
    else if (!(s = pattern_search(&g->pattern, s, at, &end)))
      break;
    if (end && end != last) {
      luaL_addlstring(&g->out, kept, (size_t)(s - kept));
      n++;
      if (add_replacement(g, s, end)) *changed = true;
      kept = last = end;
      s = end - 1;
    }
    if (is_anchored) break;
  }
  luaL_addlstring(&g->out, kept, (size_t)(g->pattern.subject_end - kept));
  return n;
}

static int l_gsub(lua_State *L) {
  size_t n, len;
  const char *s = luaL_checklstring(L, 1, &n), *at = luaL_checklstring(L, 2, &len);
  struct gsub g;
  g.kind = lua_type(L, 3);
  luaL_argexpected(L,
                   g.kind == LUA_TNUMBER || g.kind == LUA_TSTRING || g.kind == LUA_TFUNCTION ||
                       g.kind == LUA_TTABLE,
                   3, "string/function/table");
  lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)n + 1);
  bool changed = false;
  if (g.kind == LUA_TNUMBER || g.kind == LUA_TSTRING) g.text = lua_tolstring(L, 3, &g.text_len);
  pattern_init(&g.pattern, L, s, n, at, len);
  luaL_buffinit(L, &g.out);
  lua_Integer count = replace(&g, at, most, &changed);
  if (changed)
    luaL_pushresult(&g.out);
  else
    lua_pushvalue(L, 1);
  lua_pushinteger(L, count);
  return 2;
}

/* ---- rep ---------------------------------------------------------------------------------------
 */

/* The text and its separator once, then what is there again and again, twice as much each time: as
 * fast as memory, however short the text. */
static void fill(char *out, size_t total, const char *s, size_t n, const char *sep,
                 size_t sep_len) {
  size_t done = n;
  memcpy(out, s, n);
  if (done < total) {
    memcpy(out + done, sep, sep_len);
    done += sep_len;
  }
  while (done < total) { /* whole periods, so the next byte is a period's first */
    size_t more = done < total - done ? done : total - done;
    memcpy(out + done, out, more);
    done += more;
  }
}

static int l_rep(lua_State *L) {
  size_t n, sep_len;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_Integer times = luaL_checkinteger(L, 2);
  const char *sep = luaL_optlstring(L, 3, "", &sep_len);
  if (times <= 0 || n + sep_len == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (n + sep_len < n || n + sep_len > INT_MAX / (size_t)times)
    return luaL_error(L, "resulting string too large");
  size_t total = (size_t)times * n + (size_t)(times - 1) * sep_len;
  luaL_Buffer out;
  fill(luaL_buffinitsize(L, &out, total), total, s, n, sep, sep_len);
  luaL_pushresultsize(&out, total);
  return 1;
}

void lstring_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"find", l_find},   {"gmatch", l_gmatch}, {"gsub", l_gsub},
      {"match", l_match}, {"rep", l_rep},       {NULL, NULL},
  };
  lua_getglobal(L, LUA_STRLIBNAME);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
