/* SPDX-License-Identifier: MIT */
/* lconn.c -- what Lua may do with connections and groups. */
#include "bridge/lconn.h"

#include "bridge/call.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "net/ws_conn.h"
#include "wire/utf8.h"

#include <lauxlib.h>
#include <string.h>

/* The WebSocket with that id, when frames can be sent to it: also while its connect hook runs. */
static struct conn *open_conn(lua_State *L, int index) {
  struct conn *conn = worker_conn(&host_of(L)->worker, (uint64_t)luaL_checkinteger(L, index));
  if (!conn || !conn_is_open(conn)) return NULL;
  return ws_is_open(conn) || peer_of(conn)->is_opening ? conn : NULL;
}

static int return_bool(lua_State *L, bool value) {
  lua_pushboolean(L, value);
  return 1;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* Raises with what json_write found; the builder is free again. */
static int raise_unencodable(lua_State *L, struct builder *b, const struct json_writer *w) {
  builder_abort(b);
  return luaL_error(L, "cannot encode params%s: %s", w->path + w->path_at, w->error);
}

enum { FLAG_V1 = 1, FLAG_RAW = 2 };

/* Writes a request or notification as one frame. Stack indexes: method, params (may be none),
 * flags; id: text of a string id, or NULL for a notification. */
static void write_request(lua_State *L, struct builder *b, const char *id, int method, int params,
                          int flags_at, struct slice *frame) {
  struct host *h = host_of(L);
  struct json_writer w;
  size_t n;
  const char *name = luaL_checklstring(L, method, &n);
  bool has_params = !lua_isnoneornil(L, params);
  lua_Integer flags = luaL_optinteger(L, flags_at, 0);
  ws_frame_begin(b);
  json_writer_init(&w, b, h->array_mt);
  builder_text(b, flags & FLAG_V1 ? "{\"method\":" : "{\"jsonrpc\":\"2.0\",\"method\":");
  if (!json_write_string(&w, name, n)) {
    builder_abort(b);
    luaL_argerror(L, method, "the method's name is not UTF-8");
  }
  if (has_params) {
    builder_text(b, ",\"params\":");
    bool is_written =
        flags & FLAG_RAW ? json_write_raw(L, &w, &h->scratch, params) : json_write(L, &w, params);
    if (!is_written) raise_unencodable(L, b, &w);
  } else if (flags & FLAG_V1) {
    builder_text(b, ",\"params\":[]");
  }
  if (id) {
    builder_text(b, ",\"id\":");
    json_write_string(&w, id, strlen(id));
  } else if (flags & FLAG_V1) {
    builder_text(b, ",\"id\":null");
  }
  builder_byte(b, '}');
  if (!ws_frame_end(b, WS_TEXT, frame)) luaL_error(L, "a message longer than 1 GiB");
}

int l_notify(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  struct slice frame;
  if (!conn) return return_bool(L, false);
  write_request(L, &conn->worker->out, NULL, 2, 3, 4, &frame);
  return return_bool(L, ws_send_frame(conn, frame));
}

int l_request(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  struct slice frame;
  if (!conn) return return_bool(L, false);
  write_request(L, &conn->worker->out, luaL_checkstring(L, 2), 3, 4, 5, &frame);
  return return_bool(L, ws_send_frame(conn, frame));
}

int l_peer_wait(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  lua_Integer change = luaL_checkinteger(L, 2);
  if (conn) call_on_peer(conn, (int)change);
  return 0;
}

int l_record(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  if (!conn || !peer_of(conn)->consumer) return 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, peer_of(conn)->consumer->record);
  return 1;
}

int l_send(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  size_t n;
  const char *data = luaL_checklstring(L, 2, &n);
  bool is_binary = lua_toboolean(L, 3);
  struct slice frame;
  if (!is_binary && !utf8_is_valid((const uint8_t *)data, n))
    return luaL_argerror(L, 2, "text must be UTF-8 (pass true as the second argument for binary)");
  if (!conn) return return_bool(L, false);
  struct builder *b = &conn->worker->out;
  ws_frame_begin(b);
  builder_add(b, data, n);
  if (!ws_frame_end(b, is_binary ? WS_BINARY : WS_TEXT, &frame))
    return luaL_error(L, "a message longer than 1 GiB");
  return return_bool(L, ws_send_frame(conn, frame));
}

int l_close(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  lua_Integer code = luaL_optinteger(L, 2, WS_NORMAL);
  size_t n = 0;
  const char *reason = luaL_optlstring(L, 3, "", &n);
  luaL_argcheck(L, code >= 0 && code <= 4999 && ws_is_close_code((unsigned)code), 2,
                "a close code: 1000, 1001, 1008, 1011 ... or 3000 to 4999");
  luaL_argcheck(L, utf8_is_valid((const uint8_t *)reason, n), 3, "the reason must be UTF-8");
  luaL_argcheck(L, n <= WS_REASON_MAX, 3, "the reason must not be longer than 123 bytes");
  bool is_open = conn && ws_is_open(conn);
  if (is_open) ws_close(conn, (unsigned)code, reason, n);
  return return_bool(L, is_open);
}

int l_is_open(lua_State *L) {
  return return_bool(L, open_conn(L, 1) != NULL);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static const char *check_group(lua_State *L, int index, size_t *n) {
  const char *name = luaL_checklstring(L, index, n);
  luaL_argcheck(L, *n >= 1 && *n <= GROUP_NAME_MAX, index, "a group's name has 1 to 200 bytes");
  return name;
}

int l_group_add(lua_State *L) {
  struct host *h = host_of(L);
  struct conn *conn = open_conn(L, 1);
  size_t n;
  const char *name = check_group(L, 2, &n);
  return return_bool(L, conn && groups_add(&h->groups, conn, name, n));
}

int l_group_discard(lua_State *L) {
  struct host *h = host_of(L);
  struct conn *conn = worker_conn(&h->worker, (uint64_t)luaL_checkinteger(L, 1));
  size_t n;
  const char *name = check_group(L, 2, &n);
  return return_bool(L, conn && groups_discard(&h->groups, conn, name, n));
}

static void push_name(const char *name, size_t n, void *arg) {
  lua_State *L = arg;
  lua_pushlstring(L, name, n);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

int l_groups_of(lua_State *L) {
  struct conn *conn = worker_conn(&host_of(L)->worker, (uint64_t)luaL_checkinteger(L, 1));
  lua_newtable(L);
  if (conn) groups_each_of(conn, push_name, L);
  return 1;
}

int l_group_count(lua_State *L) {
  size_t n;
  const char *name = check_group(L, 1, &n);
  lua_pushinteger(L, groups_count(&host_of(L)->groups, name, n));
  return 1;
}

static void push_member(struct conn *conn, void *arg) {
  lua_State *L = arg;
  lua_pushinteger(L, (lua_Integer)conn_id(conn));
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

int l_members(lua_State *L) {
  size_t n;
  const char *name = check_group(L, 1, &n);
  struct groups *g = &host_of(L)->groups;
  lua_createtable(L, (int)groups_count(g, name, n), 0);
  groups_each_member(g, name, n, push_member, L);
  return 1;
}

int l_publish(lua_State *L) {
  struct host *h = host_of(L);
  struct groups *g = &h->groups;
  struct slice frame;
  uint32_t reached = 0;
  size_t n;
  lua_settop(L, 5);
  lua_Integer n_names = 1;
  bool is_list = lua_istable(L, 1);
  if (is_list) {
    n_names = (lua_Integer)lua_rawlen(L, 1);
    for (lua_Integer i = 1; i <= n_names; i++) {
      lua_rawgeti(L, 1, i);
      check_group(L, lua_gettop(L), &n);
      lua_pop(L, 1);
    }
  } else {
    check_group(L, 1, &n);
  }
  write_request(L, &g->out, NULL, 2, 3, 5, &frame);
  groups_publish_begin(g);
  if (lua_istable(L, 4)) {
    lua_Integer n_except = (lua_Integer)lua_rawlen(L, 4);
    for (lua_Integer i = 1; i <= n_except; i++) {
      lua_rawgeti(L, 4, i);
      struct conn *conn = worker_conn(&h->worker, (uint64_t)lua_tointeger(L, -1));
      if (conn) groups_exclude(g, conn);
      lua_pop(L, 1);
    }
  }
  metric_add(&h->worker.metrics.group_publishes, 1);
  for (lua_Integer i = 1; i <= n_names; i++) {
    if (is_list)
      lua_rawgeti(L, 1, i);
    else
      lua_pushvalue(L, 1);
    const char *name = lua_tolstring(L, -1, &n);
    reached += groups_deliver(g, name, n, frame);
    lua_pop(L, 1);
  }
  lua_pushinteger(L, reached);
  return 1;
}
