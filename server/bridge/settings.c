/* SPDX-License-Identifier: MIT */
/* settings.c -- what the operator decided, as C values. */
#include "bridge/settings.h"

#include "base/mem.h"
#include "hub/topics.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static uint64_t get_uint(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  int is_int;
  lua_Integer v = lua_tointegerx(L, -1, &is_int);
  if (!is_int || v < 0) luaL_error(L, "setting %s: a whole number is needed", key);
  lua_pop(L, 1);
  return (uint64_t)v;
}

static uint32_t get_u32(lua_State *L, int index, const char *key) {
  uint64_t v = get_uint(L, index, key);
  if (v > UINT32_MAX) luaL_error(L, "setting %s: too large", key);
  return (uint32_t)v;
}

/* Seconds in Lua, milliseconds here. */
static uint64_t get_ms(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  int is_number;
  lua_Number v = lua_tonumberx(L, -1, &is_number);
  if (!is_number || v < 0) luaL_error(L, "setting %s: seconds are needed", key);
  lua_pop(L, 1);
  return (uint64_t)(v * 1000);
}

static char *get_string(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  const char *s = lua_tostring(L, -1);
  char *copy = s ? mem_strdup(s) : NULL;
  lua_pop(L, 1);
  return copy;
}

static bool get_bool(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  bool v = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return v;
}

/* "auto" is as many as this process may use at once. */
static unsigned get_workers(lua_State *L, int index) {
  lua_getfield(L, index, "workers");
  bool is_auto = lua_type(L, -1) == LUA_TSTRING;
  lua_pop(L, 1);
  unsigned n = is_auto ? uv_available_parallelism() : get_u32(L, index, "workers");
  return n < TOPIC_WORKERS_MAX ? n : TOPIC_WORKERS_MAX;
}

/* The addresses in t[key], at most `most`; returns how many. */
static unsigned read_addresses(lua_State *L, int index, const char *key, struct listen_address *out,
                               int most) {
  if (lua_getfield(L, index, key) == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  luaL_checktype(L, -1, LUA_TTABLE);
  int n = (int)lua_rawlen(L, -1), list = lua_gettop(L);
  if (n > most) luaL_error(L, "setting %s: at most %d addresses", key, most);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, list, i + 1);
    out[i].address = get_string(L, lua_gettop(L), "address");
    out[i].port = get_u32(L, lua_gettop(L), "port");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return (unsigned)n;
}

/* An address of each family on one port: then each has its own, else IPv6's [::] has both. */
static void part_families(struct settings *s) {
  for (unsigned i = 0; i < s->n_listen; i++)
    for (unsigned k = 0; k < s->n_listen && s->listen[i].port; k++)
      s->listen[i].is_v6_only |= strchr(s->listen[i].address, ':') &&
                                 !strchr(s->listen[k].address, ':') &&
                                 s->listen[k].port == s->listen[i].port;
}

static void read_listen(lua_State *L, int index, struct settings *s) {
  s->n_listen = read_addresses(L, index, "listen", s->listen, LISTEN_MAX);
  if (s->n_listen == 0) luaL_error(L, "setting listen: 1 to %d addresses", LISTEN_MAX);
  part_families(s);
}

/* The inspector shows and does everything, and asks nobody who they are. */
static void read_admin(lua_State *L, int index, struct settings *s) {
  if (!read_addresses(L, index, "admin", &s->admin, 1)) return;
  const char *a = s->admin.address;
  if (a && (strncmp(a, "127.", 4) == 0 || strcmp(a, "::1") == 0)) return;
  luaL_error(
      L,
      "setting admin: the inspector is for this machine only, %s is not; give 127.0.0.1:PORT, "
      "and reach it from another machine with 'ssh -L PORT:127.0.0.1:PORT'",
      a ? a : "?");
}

static void read_hosts(lua_State *L, int index, struct settings *s) {
  lua_getfield(L, index, "hosts");
  luaL_checktype(L, -1, LUA_TTABLE);
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  s->hosts = mem_zalloc(((size_t)n + 1) * sizeof *s->hosts);
  for (lua_Integer i = 0; i < n; i++) {
    if (lua_rawgeti(L, -1, i + 1) != LUA_TSTRING)
      luaL_error(L, "setting hosts: item %d is no name", (int)i + 1);
    s->hosts[i] = mem_strdup(lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void read_proxies(lua_State *L, int index, struct forwarding *f) {
  lua_getfield(L, index, "trusted_proxies");
  luaL_checktype(L, -1, LUA_TTABLE);
  int list = lua_gettop(L);
  lua_Integer n = (lua_Integer)lua_rawlen(L, list);
  struct network *trusted = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *trusted, 0);
  for (lua_Integer i = 0; i < n; i++) {
    size_t len;
    lua_rawgeti(L, list, i + 1);
    const char *s = lua_tolstring(L, -1, &len);
    if (!s || !network_parse(s, len, &trusted[i]))
      luaL_error(L, "setting trusted_proxies: item %d is no address or network", (int)i + 1);
    lua_pop(L, 1);
  }
  f->n_trusted = (unsigned)n;
  f->trusted = n ? mem_dup(trusted, (size_t)n * sizeof *trusted) : NULL;
  lua_getfield(L, index, "proxy_headers");
  const char *name = lua_tostring(L, -1);
  f->fields = !name || name[0] == 'a' ? FORWARDED_ANY
              : name[0] == 'x'        ? FORWARDED_X
                                      : FORWARDED_RFC_7239;
  lua_settop(L, list - 1);
}

void settings_read(lua_State *L, int index, struct settings *s) {
  index = lua_absindex(L, index);
  *s = (struct settings){0};
  s->is_dev = get_bool(L, index, "dev");
  s->apps = get_string(L, index, "apps");
  s->is_watching = get_bool(L, index, "watch");
  s->lua_path = get_string(L, index, "lua_path");
  s->sessions = get_string(L, index, "sessions");
  s->session_cookie = get_string(L, index, "session_cookie");
  s->session_same_site = get_string(L, index, "session_same_site");
  s->session_ttl = get_ms(L, index, "session_ttl") / 1000;
  s->state = get_string(L, index, "state");
  s->secret = get_string(L, index, "secret");
  read_listen(L, index, s);
  read_admin(L, index, s);
  s->workers = get_workers(L, index);
  s->layer = get_string(L, index, "layer");
  if (s->layer && strcmp(s->layer, "memory") == 0) {
    free(s->layer);
    s->layer = NULL;
  }
  s->layer_prefix = get_string(L, index, "layer_prefix");
  s->layer_ms = get_ms(L, index, "layer_timeout");
  s->shared_memory = get_uint(L, index, "shared_memory");
  char *name = get_string(L, index, "log_level");
  s->log_level = (enum log_level)log_level_from_name(name ? name : "info");
  free(name);
  name = get_string(L, index, "log_format");
  s->log_format = name && name[0] == 'j' ? LOG_JSON : LOG_TEXT;
  free(name);
  s->conn = (struct conn_limits){
      .http = {.head = get_u32(L, index, "max_head"),
               .target = get_u32(L, index, "max_target"),
               .body = get_uint(L, index, "max_body")},
      .ws = {.message = get_uint(L, index, "max_message"),
             .fragments = get_u32(L, index, "max_fragments"),
             .may_deflate = get_bool(L, index, "deflate")},
      .output_soft = get_u32(L, index, "output_soft"),
      .output_hard = get_u32(L, index, "output_hard"),
      .output_soft_ms = get_ms(L, index, "output_soft_time"),
      .head_ms = get_ms(L, index, "head_timeout"),
      .body_ms = get_ms(L, index, "body_timeout"),
      .idle_ms = get_ms(L, index, "idle_timeout"),
      .ping_ms = get_ms(L, index, "ping_interval"),
      .pong_ms = get_ms(L, index, "pong_timeout"),
      .close_ms = get_ms(L, index, "close_timeout"),
      .linger_ms = get_ms(L, index, "linger_timeout"),
      .turn_ms = (uint32_t)get_ms(L, index, "turn_time"),
  };
  s->call = (struct call_limits){
      .params = {.depth = get_u32(L, index, "max_depth"),
                 .array = get_u32(L, index, "max_array"),
                 .string = get_u32(L, index, "max_string"),
                 .values = get_u32(L, index, "max_values")},
      .method = get_u32(L, index, "max_method"),
      .batch = get_u32(L, index, "max_batch"),
      .calls = get_u32(L, index, "max_calls"),
  };
  read_proxies(L, index, &s->proxies);
  read_hosts(L, index, s);
  s->lua_memory = (size_t)get_uint(L, index, "lua_memory");
  s->grace_ms = get_ms(L, index, "grace");
  s->slice_warn_ms = get_ms(L, index, "slice_warn");
  s->slice_stop_ms = get_ms(L, index, "slice_stop");
  s->max_conns = get_u32(L, index, "max_connections");
}

void settings_fini(struct settings *s) {
  for (unsigned i = 0; i < s->n_listen; i++) free(s->listen[i].address);
  free((struct network *)s->proxies.trusted);
  for (char **name = s->hosts; name && *name; name++) free(*name);
  free(s->hosts);
  free(s->layer);
  free(s->layer_prefix);
  free(s->admin.address);
  free(s->apps);
  free(s->lua_path);
  free(s->sessions);
  free(s->session_cookie);
  free(s->session_same_site);
  free(s->state);
  free(s->secret);
  *s = (struct settings){0};
}
