/* SPDX-License-Identifier: MIT */
/* state.c -- makes a Lua state: libraries, perigee.* from the binary or a folder, core. */
#include "bridge/state.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/printable.h"
#include "bridge/command.h"
#include "bridge/dispatch.h"
#include "bridge/envelope.h"
#include "bridge/host.h"
#include "bridge/lblocking.h"
#include "bridge/lbound.h"
#include "bridge/lconn.h"
#include "bridge/linspect.h"
#include "bridge/llayer.h"
#include "bridge/lluv.h"
#include "bridge/lsecret.h"
#include "bridge/lstore.h"
#include "bridge/lstring.h"
#include "bridge/ltable.h"
#include "bridge/ltest.h"
#include "bridge/lwsclient.h"
#include "bridge/routes.h"
#include "bridge/settings.h"
#include "wire/authority.h"
#include "wire/network.h"
#include "wire/origin.h"
#include "wire/utf8.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_panic(lua_State *L) {
  struct log_line l;
  if (log_begin(&l, LOG_ERROR, "Lua panic: an error outside of every protected call")) {
    log_str(&l, "error", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?");
    log_end(&l);
  }
  return 0; /* Lua aborts */
}

/* ---- core: JSON, log, numbers ---------------------------------------------------------------- */

struct builder *state_push_builder(lua_State *L) {
  struct builder *kept = lua_newuserdatauv(L, sizeof *kept, 0);
  *kept = (struct builder){0};
  lua_rawgetp(L, LUA_REGISTRYINDEX, (void *)state_push_builder);
  lua_setmetatable(L, -2);
  return kept;
}

static int l_json_encode(lua_State *L) {
  struct host *h = host_of(L);
  struct json_writer w;
  struct slice text;
  luaL_checkany(L, 1);
  struct builder *kept = state_push_builder(L); /* pushing the text may raise */
  builder_begin(kept);
  json_writer_init(&w, kept, h->array_mt);
  w.slice = &h->slice;
  if (!json_write(L, &w, 1)) {
    const char *path = w.path + w.path_at;
    builder_fini(kept);
    lua_pushnil(L);
    lua_pushfstring(L, "cannot encode %s%s%s", w.error, *path ? " at " : "", path);
    return 2;
  }
  if (!builder_commit(kept, &text)) return luaL_error(L, "a text longer than 1 GiB");
  lua_pushlstring(L, (const char *)slice_data(&text), text.len);
  builder_fini(kept);
  return 1;
}

static int l_builder_gc(lua_State *L) {
  builder_fini(lua_touserdata(L, 1));
  return 0;
}

static int l_json_decode(lua_State *L) {
  struct host *h = host_of(L);
  struct json_reader r;
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_settop(L, 1);
  if (!utf8_is_valid((const uint8_t *)s, n)) {
    lua_pushnil(L);
    lua_pushliteral(L, "the text is not UTF-8");
    return 2;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->array_mt_ref);
  json_reader_init(&r, s, n, NULL, &h->scratch, 2);
  switch (json_read_text(L, &r)) {
  case JSON_OK: return 1;
  case JSON_RANGE:
    lua_pushnil(L);
    lua_pushfstring(L, "a number beyond 64 bits at byte %d", (int)(r.at - r.start) + 1);
    return 2;
  default:
    lua_pushnil(L);
    lua_pushfstring(L, "%s at byte %d", r.error, (int)(r.at - r.start) + 1);
    return 2;
  }
}

enum { FIELDS_MAX = 32 };

static int compare_keys(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The string keys of the table at an index, sorted: a line must look the same each time. They live
 * as long as the table. Returns how many. */
static size_t sorted_keys(lua_State *L, int table, const char *keys[FIELDS_MAX]) {
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING && n < FIELDS_MAX) keys[n++] = lua_tostring(L, -2);
  qsort(keys, n, sizeof *keys, compare_keys);
  return n;
}

/* log(level, event, fields, block): block, when a string, is a text of several lines. */
static int l_log(lua_State *L) {
  struct log_line l;
  int level = log_level_from_name(luaL_checkstring(L, 1));
  const char *event = luaL_checkstring(L, 2);
  luaL_argcheck(L, level >= 0, 1, "error, warn, info or debug");
  lua_settop(L, 4);
  if (!log_begin(&l, (enum log_level)level, event)) return 0;
  if (lua_istable(L, 3)) {
    const char *keys[FIELDS_MAX];
    size_t n_keys = sorted_keys(L, 3, keys);
    for (size_t i = 0; i < n_keys; i++, lua_pop(L, 1)) {
      const char *key = keys[i];
      size_t n;
      lua_getfield(L, 3, key);
      switch (lua_type(L, -1)) {
      case LUA_TBOOLEAN: log_bool(&l, key, lua_toboolean(L, -1)); break;
      case LUA_TNUMBER:
        if (lua_isinteger(L, -1))
          log_int(&l, key, lua_tointeger(L, -1));
        else
          log_num(&l, key, lua_tonumber(L, -1));
        break;
      case LUA_TSTRING: {
        const char *s = lua_tolstring(L, -1, &n);
        log_bytes(&l, key, s, n);
        break;
      }
      default: log_str(&l, key, luaL_typename(L, -1));
      }
    }
  }
  size_t n;
  const char *block = lua_tolstring(L, 4, &n);
  if (block) log_block(&l, "detail", block, n);
  log_end(&l);
  return 0;
}

/* printable(text): fit to be shown on a terminal; ends of lines and tabs stay. */
static int l_printable(lua_State *L) {
  luaL_Buffer b;
  size_t n, used;
  const char *s = luaL_checklstring(L, 1, &n);
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < n; i += used) {
    char out[PRINTABLE_MAX + 1];
    size_t k = printable_escape(s + i, n - i, out, &used);
    if (k == 0 || s[i] == '\n' || s[i] == '\t')
      luaL_addlstring(&b, s + i, used);
    else
      luaL_addlstring(&b, out, k);
  }
  luaL_pushresult(&b);
  return 1;
}

/* log_due(level, kind, burst): may one more line of this kind be logged in this second? Then how
 * many were held back since the last; else nothing. */
static int l_log_due(lua_State *L) {
  size_t n;
  unsigned missed;
  int level = log_level_from_name(luaL_checkstring(L, 1));
  const char *kind = luaL_checklstring(L, 2, &n);
  luaL_argcheck(L, level >= 0, 1, "error, warn, info or debug");
  if (!log_is_due((enum log_level)level, kind, n, (uint32_t)luaL_checkinteger(L, 3), &missed))
    return 0;
  lua_pushinteger(L, missed);
  return 1;
}

/* error() for apps: raises as Lua's own does, and remembers the text without its position, so that
 * perigee.rpc can tell `error("text")` in an app from a fault (raised()). An error may be caught,
 * kept while others are raised, and raised again: the newest texts are kept, in two tables that
 * take turns. */
enum { RAISED_MAX = 64 };

static int l_error(lua_State *L), l_raised(lua_State *L);

static void remember(lua_State *L, int text, int with_position) {
  struct host *h = host_of(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, (void *)l_error) != LUA_TTABLE ||
      h->n_raised >= RAISED_MAX) {
    lua_rawsetp(L, LUA_REGISTRYINDEX, (void *)l_raised); /* the older of the two, or nil */
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, (void *)l_error);
    h->n_raised = 0;
  }
  lua_pushvalue(L, with_position);
  if (lua_rawget(L, -2) == LUA_TNIL) { /* else it was caught and is raised again as it was */
    lua_pushvalue(L, with_position);
    lua_pushvalue(L, text);
    lua_rawset(L, -4);
    h->n_raised++;
  }
  lua_pop(L, 2);
}

static int l_error(lua_State *L) {
  int level = (int)luaL_optinteger(L, 2, 1);
  lua_settop(L, 1);
  if (lua_type(L, 1) == LUA_TSTRING) {
    lua_pushvalue(L, 1);
    if (level > 0) {
      luaL_where(L, level);
      lua_insert(L, 2);
      lua_concat(L, 2);
    }
    remember(L, 1, 2);
  }
  return lua_error(L);
}

/* raised(text): what was given to error() that became this text with a position, or nil. */
static int l_raised(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  for (int i = 0; i < 2; i++) {
    lua_settop(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, i ? (void *)l_raised : (void *)l_error) != LUA_TTABLE)
      continue;
    lua_pushvalue(L, 1);
    if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  }
  return 0;
}

/* metrics(is_all): counters by name, of this worker or summed over all. */
static int l_metrics(lua_State *L) {
  struct host *h = host_of(L);
  const struct metrics *all[TOPIC_WORKERS_MAX + 1] = {&h->worker.metrics};
  unsigned n = lua_toboolean(L, 1) ? layer_metrics(h->layer, all) : 1;
  lua_createtable(L, 0, metrics_count);
  for (int i = 0; i < metrics_count; i++) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < n; k++) sum += metrics_value(all[k], i);
    lua_pushinteger(L, (lua_Integer)sum);
    lua_setfield(L, -2, metrics_name(i));
  }
  return 1;
}

/* count(name): one more of what a counter counts. For what is rare: it looks for the name. */
static int l_count(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  struct metrics *m = &host_of(L)->worker.metrics;
  for (int i = 0; i < metrics_count; i++) {
    if (strcmp(metrics_name(i), name) != 0) continue;
    metric_add((atomic_uint_fast64_t *)m + i, 1);
    return 0;
  }
  return luaL_argerror(L, 1, "no such counter");
}

/* setting(name): what the operator decided; nil when that is "auto", or when nothing is served. */
static int l_setting(lua_State *L) {
  const struct settings *s = host_of(L)->settings;
  static const char *const names[] = {
      "session_ttl", "sessions", "session_cookie", "session_same_site",
      "state",       "secret",   "apps",           NULL};
  const char *const texts[] = {
      NULL, s->sessions, s->session_cookie, s->session_same_site, s->state, s->secret, s->apps};
  int which = luaL_checkoption(L, 1, NULL, names);
  if (which == 0 && s->session_ttl)
    lua_pushinteger(L, (lua_Integer)s->session_ttl);
  else if (texts[which] && strcmp(texts[which], "auto") != 0)
    lua_pushstring(L, texts[which]);
  else
    lua_pushnil(L);
  return 1;
}

static int l_is_origin_pattern(lua_State *L) {
  lua_pushboolean(L, origin_is_pattern(luaL_checkstring(L, 1)));
  return 1;
}

static int l_is_network(lua_State *L) {
  struct network network;
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_pushboolean(L, network_parse(s, n, &network));
  return 1;
}

/* is_host(text): a name or address for the setting hosts? */
static int l_is_host(lua_State *L) {
  struct authority at;
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  bool is_below = n > 1 && s[0] == '.' && s[1] != '.';
  lua_pushboolean(L, authority_parse(s + is_below, n - is_below, &at) &&
                         at.host_len == n - is_below && at.host[0] != '.');
  return 1;
}

/* memory(): bytes of Lua memory in use, and the cap. */
static int l_memory(lua_State *L) {
  const struct host *h = host_of(L);
  lua_pushinteger(L, (lua_Integer)h->memory.used);
  lua_pushinteger(L, (lua_Integer)h->memory.max);
  return 2;
}

/* embedded(name): text of a file built into the binary, or nil; without a name: all names. */
static int l_embedded(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_createtable(L, (int)embedded_count, 0);
    for (size_t i = 0; i < embedded_count; i++) {
      lua_pushstring(L, embedded_files[i].name);
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
  }
  const char *name = luaL_checkstring(L, 1);
  for (size_t i = 0; i < embedded_count; i++) {
    if (strcmp(embedded_files[i].name, name) != 0) continue;
    lua_pushlstring(L, embedded_files[i].text, embedded_files[i].len);
    return 1;
  }
  return 0;
}

/* ---- core: the table ------------------------------------------------------------------------- */

/* lua/perigee/_meta/core.lua describes each of these; tests/rules compares the names. */
static const luaL_Reg core[] = {
    {"accept", l_accept},
    {"answer_lines", l_answer_lines},
    {"base64url", l_base64url},
    {"blocking", l_blocking},
    {"blocking_forget", l_blocking_forget},
    {"cancel", l_cancel},
    {"claim_state", l_claim_state},
    {"close", l_close},
    {"conn_facts", l_conn_facts},
    {"conns", l_conns},
    {"count", l_count},
    {"cut", l_cut},
    {"deadline", l_deadline},
    {"embedded", l_embedded},
    {"error", l_error},
    {"from_base64url", l_from_base64url},
    {"group_add", l_group_add},
    {"group_count", l_group_count},
    {"group_discard", l_group_discard},
    {"groups", l_groups},
    {"group_workers", l_group_workers},
    {"groups_of", l_groups_of},
    {"head", l_head},
    {"hmac", l_hmac},
    {"is_host", l_is_host},
    {"is_loading", l_is_loading},
    {"is_network", l_is_network},
    {"is_open", l_is_open},
    {"is_origin_pattern", l_is_origin_pattern},
    {"is_stopped", l_is_stopped},
    {"is_stopping", l_is_stopping},
    {"is_task", l_is_task},
    {"json_decode", l_json_decode},
    {"json_encode", l_json_encode},
    {"left_out", l_left_out},
    {"loading", l_loading},
    {"log", l_log},
    {"luv_handles", l_luv_handles},
    {"log_due", l_log_due},
    {"printable", l_printable},
    {"members", l_members},
    {"members_after", l_members_after},
    {"memory", l_memory},
    {"metrics", l_metrics},
    {"notify", l_notify},
    {"notify_channel", l_notify_channel},
    {"now", l_now},
    {"park", l_park},
    {"pcall", l_pcall},
    {"password_hash", l_password_hash},
    {"password_verify", l_password_verify},
    {"peer_wait", l_peer_wait},
    {"post", l_post},
    {"post_groups", l_post_groups},
    {"publish", l_publish},
    {"raised", l_raised},
    {"random_id", l_random_id},
    {"record", l_record},
    {"redis", l_redis},
    {"reject", l_reject},
    {"remote", l_remote},
    {"request", l_request},
    {"retire", l_retire},
    {"running", l_running},
    {"same", l_same},
    {"send", l_send},
    {"serve", l_serve},
    {"serve_inspector", l_serve_inspector},
    {"sightings", l_sightings},
    {"setting", l_setting},
    {"sha256", l_sha256},
    {"shared_delete", l_shared_delete},
    {"shared_expire", l_shared_expire},
    {"shared_get", l_shared_get},
    {"shared_incr", l_shared_incr},
    {"shared_set", l_shared_set},
    {"spawn", l_spawn},
    {"store_destroy", l_store_destroy},
    {"store_load", l_store_load},
    {"store_open", l_store_open},
    {"store_save", l_store_save},
    {"touch", l_touch},
    {"wait_open", l_wait_open},
    {"wake", l_wake},
    {"watch_conns", l_watch_conns},
    {"ws_client", l_ws_client},
    {"xpcall", l_xpcall},
    {NULL, NULL},
};

static const struct {
  const char *name;
  int bit;
} envelope_names[] = {
    {"MALFORMED", ENV_MALFORMED},
    {"NOT_OBJECT", ENV_NOT_OBJECT},
    {"OVER_LIMIT", ENV_OVER_LIMIT},
    {"OUT_OF_RANGE", ENV_OUT_OF_RANGE},
    {"VERSION_2", ENV_VERSION_2},
    {"VERSION_OTHER", ENV_VERSION_OTHER},
    {"METHOD", ENV_METHOD},
    {"METHOD_BAD", ENV_METHOD_BAD},
    {"PARAMS_ARRAY", ENV_PARAMS_ARRAY},
    {"PARAMS_OBJECT", ENV_PARAMS_OBJECT},
    {"PARAMS_NULL", ENV_PARAMS_NULL},
    {"PARAMS_OTHER", ENV_PARAMS_OTHER},
    {"ID", ENV_ID},
    {"ID_NULL", ENV_ID_NULL},
    {"ID_BAD", ENV_ID_BAD},
    {"RESULT", ENV_RESULT},
    {"ERROR", ENV_ERROR},
    {"HTTP", ENV_HTTP},
    {"BATCH", ENV_BATCH},
    {"DRAINING", ENV_DRAINING},
    {"BUSY", ENV_BUSY},
    {"SILENT", ENV_SILENT},
    {"RESULT_2", ENV_RESULT_2},
    {"ERROR_2", ENV_ERROR_2},
    {"RESULT_1", ENV_RESULT_1},
    {"ERROR_1", ENV_ERROR_1},
    {"RAW", ENV_RAW},
};

static int open_core(lua_State *L) {
  struct host *h = host_of(L);
  luaL_newlib(L, core);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof envelope_names / sizeof *envelope_names; i++) {
    lua_pushinteger(L, envelope_names[i].bit);
    lua_setfield(L, -2, envelope_names[i].name);
  }
  lua_setfield(L, -2, "envelope");
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->array_mt_ref);
  lua_setfield(L, -2, "array_mt");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pushstring(L, PERIGEE_VERSION);
  lua_setfield(L, -2, "version");
  char node[17];
  snprintf(node, sizeof node, "%016" PRIx64, h->layer->node);
  lua_pushstring(L, node);
  lua_setfield(L, -2, "node");
  lua_pushboolean(L, h->settings->layer != NULL);
  lua_setfield(L, -2, "has_redis");
  lua_pushstring(L, h->settings->layer_prefix ? h->settings->layer_prefix : "");
  lua_setfield(L, -2, "layer_prefix");
  lua_pushnumber(L, (lua_Number)h->settings->layer_ms / 1000);
  lua_setfield(L, -2, "layer_timeout");
  lua_pushinteger(L, h->worker.index);
  lua_setfield(L, -2, "worker");
  lua_pushinteger(L, h->layer ? h->layer->n : 1);
  lua_setfield(L, -2, "workers");
  lua_pushboolean(L, h->settings && h->settings->is_dev);
  lua_setfield(L, -2, "is_dev");
  lua_pushstring(L, log_level_name(h->settings ? h->settings->log_level : LOG_INFO));
  lua_setfield(L, -2, "log_level");
  lua_pushstring(L, h->settings && h->settings->log_format == LOG_JSON ? "json" : "text");
  lua_setfield(L, -2, "log_format");
  lua_pushinteger(L, h->settings && h->settings->call.method ? h->settings->call.method : 256);
  lua_setfield(L, -2, "max_method");
  return 1;
}

/* ---- perigee.* ------------------------------------------------------------------------------- */

/* A package searcher for names that begin with "perigee": from the binary. Upvalue: none. */
static int search_embedded(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  char file[128];
  if (strncmp(name, "perigee", 7) != 0 || (name[7] != '\0' && name[7] != '.')) return 0;
  for (int i = 0; i < 2; i++) { /* "perigee.x" is perigee/x.lua or perigee/x/init.lua */
    lua_settop(L, 1);
    const char *path = luaL_gsub(L, name, ".", "/");
    int n = snprintf(file, sizeof file, "%s%s.lua", path, i ? "/init" : "");
    if (n <= 0 || (size_t)n >= sizeof file) continue;
    for (size_t k = 0; k < embedded_count; k++) {
      const struct embedded_file *f = &embedded_files[k];
      if (strcmp(f->name, file) != 0) continue;
      char chunk[160];
      snprintf(chunk, sizeof chunk, "@%s", f->name);
      if (luaL_loadbufferx(L, f->text, f->len, chunk, "t") != LUA_OK) return lua_error(L);
      lua_pushstring(L, f->name);
      return 2;
    }
  }
  lua_pushfstring(L, "no part of Perigee is called '%s'", name);
  return 1;
}

static void prepend_path(lua_State *L, const char *folder) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", folder, folder, lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  lua_pop(L, 2);
}

static int open_libraries(lua_State *L) {
  struct host *h = host_of(L);
  const char *lua_path = lua_touserdata(L, 1);
  lluv_outlive(L);
  luaL_openlibs(L);
  lstring_open(L);
  ltable_open(L);
  lbound_open(L);
  lua_getglobal(L, "coroutine");
  lua_pushcfunction(L, l_resume);
  lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, l_wrap);
  lua_setfield(L, -2, "wrap");
  lua_pushcfunction(L, l_close_coroutine);
  lua_setfield(L, -2, "close");
  lua_pop(L, 1);
  lua_newtable(L); /* the array metatable; its __name shows in error messages */
  lua_pushliteral(L, "perigee.array");
  lua_setfield(L, -2, "__name");
  h->array_mt = lua_topointer(L, -1);
  h->array_mt_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  lua_pushcfunction(L, l_builder_gc);
  lua_setfield(L, -2, "__gc");
  lua_rawsetp(L, LUA_REGISTRYINDEX, (void *)state_push_builder);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_core);
  lua_setfield(L, -2, "perigee.core");
  lua_pushcfunction(L, ltest_open);
  lua_setfield(L, -2, "perigee.core.testing");
  lua_pushcfunction(L, lbound_open_cjson);
  lua_setfield(L, -2, "cjson");
  lua_pushcfunction(L, lluv_open);
  lua_setfield(L, -2, "luv");
  lua_pop(L, 1);
  if (lua_path) {
    prepend_path(L, lua_path);
  } else { /* second, after package.preload, so that no file can shadow the binary's own */
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) {
      lua_rawgeti(L, -1, i);
      lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search_embedded);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
  }
  return 0;
}

bool state_open(struct host *h, const char *lua_path) {
  lua_State *L = h->L = lua_newstate(memory_allocate, &h->memory);
  if (!L) return false;
  lua_atpanic(L, on_panic);
  *(struct host **)lua_getextraspace(L) = h;
  h->entries.report = h->entries.witness = h->entries.first_error = LUA_NOREF;
  return task_protect(h, open_libraries, (void *)lua_path, 0);
}

void state_close(struct host *h) {
  if (h->L) lua_close(h->L);
  h->L = NULL;
  memory_fini(&h->memory);
  json_scratch_fini(&h->scratch);
}

static int take(lua_State *L, const char *module, const char *name) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  lua_call(L, 1, 1);
  if (lua_getfield(L, -1, name) != LUA_TFUNCTION)
    luaL_error(L, "%s.%s must be a function", module, name);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pop(L, 1);
  return ref;
}

int state_boot(lua_State *L) {
  struct host *h = host_of(L);
  h->entries = (struct host_entries){
      .report = take(L, "perigee.report", "report"),
      .witness = take(L, "perigee.report", "witness"),
      .first_error = take(L, "perigee.report", "first_error"),
      .call = take(L, "perigee.rpc", "call"),
      .failed = take(L, "perigee.rpc", "failed"),
      .unencodable = take(L, "perigee.rpc", "unencodable"),
      .refuse = take(L, "perigee.rpc", "refuse"),
      .connect = take(L, "perigee.lifecycle", "connect"),
      .connect_failed = take(L, "perigee.lifecycle", "connect_failed"),
      .disconnect = take(L, "perigee.lifecycle", "disconnect"),
      .receive = take(L, "perigee.lifecycle", "receive"),
      .slow = take(L, "perigee.rpc", "slow"),
      .stopped = take(L, "perigee.rpc", "stopped"),
      .late = take(L, "perigee.rpc", "late"),
      .limit = take(L, "perigee.rpc", "limit"),
      .mail = take(L, "perigee.mail", "deliver"),
      .reload = take(L, "perigee.reload", "step"),
      .http_call = take(L, "perigee.http", "call"),
      .http_failed = take(L, "perigee.http", "failed"),
      .http_late = take(L, "perigee.http", "late"),
  };
  if (h->settings->is_dev || h->settings->admin.address) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "perigee.inspector");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "start");
    lua_call(L, 0, 0);
    lua_pop(L, 1);
  }
  return 0;
}
