/* SPDX-License-Identifier: MIT */
/* lconn.c -- what Lua may do with connections. */
#include "bridge/lconn.h"

#include "bridge/call.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "bridge/settings.h"
#include "net/ws_conn.h"
#include "wire/utf8.h"

#include <lauxlib.h>
#include <string.h>

struct conn *lconn_find(struct host *h, uint64_t id) {
  struct conn *conn = worker_conn(&h->worker, id);
  if (!conn || !conn_is_open(conn)) return NULL;
  return ws_is_open(conn) || peer_of(conn)->is_opening ? conn : NULL;
}

static struct conn *open_conn(lua_State *L, int index) {
  return lconn_find(host_of(L), (uint64_t)luaL_checkinteger(L, index));
}

static int return_bool(lua_State *L, bool value) {
  lua_pushboolean(L, value);
  return 1;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* Raises with what json_write found; the builder is free again. */
static int raise_unencodable(lua_State *L, struct builder *b, const struct json_writer *w) {
  builder_abort(b);
  slice_check(L, host_of(L));
  return luaL_error(L, "cannot encode params%s: %s", w->path + w->path_at, w->error);
}

/* Ends the frame in progress; raises, and nothing is sent, when no connection could take it. */
static void end_frame(lua_State *L, struct builder *b, enum ws_opcode opcode, struct slice *frame) {
  size_t most = host_of(L)->settings->conn.output_hard, n = ws_frame_len(b);
  n += ws_head_len(n);
  if (b->is_failed || n > most) {
    builder_abort(b);
    luaL_error(L,
               "a message of %I bytes is over output_hard (%I bytes): send less at a time, or "
               "raise that setting",
               (lua_Integer)n, (lua_Integer)most);
  }
  ws_frame_end(b, opcode, frame);
}

enum { FLAG_V1 = 1, FLAG_RAW = 2 };

void lconn_write(lua_State *L, struct builder *b, const char *id, int method, int params,
                 int flags_at, struct slice *frame) {
  struct host *h = host_of(L);
  struct json_writer w;
  size_t n;
  const char *name = luaL_checklstring(L, method, &n);
  bool has_params = !lua_isnoneornil(L, params);
  lua_Integer flags = luaL_optinteger(L, flags_at, 0);
  ws_frame_begin(b);
  json_writer_init(&w, b, h->array_mt);
  w.slice = &h->slice;
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
  end_frame(L, b, WS_TEXT, frame);
}

int l_notify(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  struct slice frame;
  if (!conn) return return_bool(L, false);
  lconn_write(L, &conn->worker->out, NULL, 2, 3, 4, &frame);
  return return_bool(L, ws_send_frame(conn, frame));
}

int l_request(lua_State *L) {
  struct conn *conn = open_conn(L, 1);
  struct slice frame;
  if (!conn) return return_bool(L, false);
  lconn_write(L, &conn->worker->out, luaL_checkstring(L, 2), 3, 4, 5, &frame);
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
  end_frame(L, b, is_binary ? WS_BINARY : WS_TEXT, &frame);
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
