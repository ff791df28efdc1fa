/* SPDX-License-Identifier: MIT */
/* fuzz_pattern.c -- any pattern on any subject: what Lua's own functions make of it, to the word.
 */
#include "../fuzz.h"

#include "bridge/host.h"
#include "bridge/lstring.h"
#include "bridge/settings.h"

#include <lauxlib.h>
#include <lualib.h>

/* Patterns can take for ever: both sides give up after as much. Ours is asked first; what it cannot
 * do within its steps Lua's own is spared. */
enum { STEPS = 20000, TEXT_MAX = 60 };

static struct host host;
static struct settings settings;
static lua_State *lua, *ours;

static int be_stopped(lua_State *L) {
  lua_pushliteral(L, "stopped");
  return 1;
}

/* Tells all that a function does with (subject, pattern, replacement, init). */
static const char driver[] =
    "return function(s, p, r, i) "
    "  local out = {} "
    "  local function show(...) "
    "    local a = table.pack(pcall(...)) "
    "    if a[2] == 'stopped' then return true end "
    "    for k = 1, a.n do out[#out + 1] = tostring(a[k]) .. '\\1' end "
    "    out[#out + 1] = '\\2' "
    "  end "
    "  local t = {a = 'A', [''] = 'e'} "
    "  if show(string.find, s, p, i) or show(string.match, s, p, i) or show(string.gsub, s, p, r) "
    "    or show(string.gsub, s, p, t) or show(string.gsub, s, p, function(...) "
    "      return select('#', ...) end, i) "
    "    or show(function() local n = 0 for a, b in string.gmatch(s, p, i) do "
    "      out[#out + 1] = tostring(a) .. tostring(b) n = n + 1 end return n end) "
    "  then return nil end "
    "  show(string.find, s, p, i, true) "
    "  return table.concat(out) "
    "end";

static void open_both(void) {
  lua = luaL_newstate();
  luaL_openlibs(lua);
  ours = luaL_newstate();
  *(struct host **)lua_getextraspace(ours) = &host;
  host.settings = &settings;
  luaL_openlibs(ours);
  lstring_open(ours);
  lua_pushcfunction(ours, be_stopped);
  host.entries.stopped = luaL_ref(ours, LUA_REGISTRYINDEX);
  check(luaL_loadstring(lua, driver) == LUA_OK && luaL_loadstring(ours, driver) == LUA_OK);
  lua_call(lua, 0, 1);
  lua_call(ours, 0, 1);
}

/* Three texts: a byte with its length, then its bytes, as far as they go. */
static void ask(lua_State *L, const uint8_t *data, size_t n) {
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  int init = n ? (int)(int8_t)data[0] % 8 : 1;
  if (n) data++, n--;
  for (int i = 0; i < 3; i++) {
    size_t len = n ? data[0] % TEXT_MAX : 0;
    if (n) data++, n--;
    if (len > n) len = n;
    lua_pushlstring(L, (const char *)data, len);
    data += len;
    n -= len;
  }
  lua_pushinteger(L, init);
  lua_call(L, 4, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (!lua) open_both();
  size_t a_len, b_len;
  atomic_store(&host.slice.request, SLICE_STOP);
  host.slice.grace = STEPS;
  ask(ours, data, n);
  atomic_store(&host.slice.request, SLICE_NONE);
  const char *a = lua_tolstring(ours, -1, &a_len);
  if (!a) return 0;
  ask(lua, data, n);
  const char *b = lua_tolstring(lua, -1, &b_len);
  check(a_len == b_len && memcmp(a, b, a_len) == 0);
  return 0;
}
