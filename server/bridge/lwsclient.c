/* SPDX-License-Identifier: MIT */
/* lwsclient.c -- the client's side of WebSocket framing, by wslay. */
#include "bridge/lwsclient.h"

#include "base/mem.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <wslay/wslay.h>

static const char metatable[] = "perigee.ws_client";

struct client {
  wslay_event_context_ptr wslay; /* owned; NULL once closed by the collector */
  const uint8_t *input;          /* during feed */
  size_t input_len;
  uint8_t *output; /* owned: what wslay wants to send */
  size_t output_len, output_cap;
  struct received { /* owned: messages of one feed, before they become Lua values */
    uint8_t opcode;
    uint16_t code;
    size_t len;
    uint8_t *data;
  } * received;
  size_t n_received;
};

/* wslay calls back into C that must not raise: everything is gathered and pushed afterwards. */

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, int flags, void *user) {
  struct client *c = user;
  (void)flags;
  if (c->input_len == 0) {
    wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
    return -1;
  }
  if (n > c->input_len) n = c->input_len;
  memcpy(buf, c->input, n);
  c->input += n;
  c->input_len -= n;
  return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags,
                       void *user) {
  struct client *c = user;
  (void)ctx;
  (void)flags;
  if (c->output_len + n > c->output_cap) {
    c->output_cap = (c->output_len + n) * 2;
    c->output = mem_realloc(c->output, c->output_cap);
  }
  memcpy(c->output + c->output_len, data, n);
  c->output_len += n;
  return (ssize_t)n;
}

static int on_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, void *user) {
  (void)ctx;
  (void)user;
  return getrandom(buf, n, 0) == (ssize_t)n ? 0 : -1;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *msg,
                       void *user) {
  struct client *c = user;
  (void)ctx;
  c->received = mem_realloc(c->received, (c->n_received + 1) * sizeof *c->received);
  struct received *r = &c->received[c->n_received++];
  size_t skip = msg->opcode == WSLAY_CONNECTION_CLOSE && msg->msg_length >= 2 ? 2 : 0;
  r->opcode = msg->opcode;
  r->code = msg->status_code;
  r->len = msg->msg_length - skip;
  r->data = mem_dup(msg->msg + skip, r->len);
}

static void drop_received(struct client *c) {
  for (size_t i = 0; i < c->n_received; i++) free(c->received[i].data);
  free(c->received);
  c->received = NULL;
  c->n_received = 0;
}

static struct client *check_client(lua_State *L) {
  return luaL_checkudata(L, 1, metatable);
}

/* Pushes what wslay wants to send. */
static int push_output(lua_State *L, struct client *c) {
  wslay_event_send(c->wslay);
  lua_pushlstring(L, (const char *)c->output, c->output_len);
  c->output_len = 0;
  return 1;
}

static int queue(lua_State *L, struct client *c, uint8_t opcode, const char *data, size_t n) {
  struct wslay_event_msg msg = {opcode, (const uint8_t *)data, n};
  if (wslay_event_queue_msg(c->wslay, &msg) != 0) return luaL_error(L, "this WebSocket is closing");
  return push_output(L, c);
}

static int l_message(lua_State *L) {
  struct client *c = check_client(L);
  size_t n;
  const char *data = luaL_checklstring(L, 2, &n);
  return queue(L, c, lua_toboolean(L, 3) ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, data, n);
}

static int l_ping(lua_State *L) {
  struct client *c = check_client(L);
  size_t n;
  const char *data = luaL_optlstring(L, 2, "", &n);
  luaL_argcheck(L, n <= 125, 2, "at most 125 bytes");
  return queue(L, c, WSLAY_PING, data, n);
}

static int l_close(lua_State *L) {
  struct client *c = check_client(L);
  size_t n;
  lua_Integer code = luaL_optinteger(L, 2, 1000);
  const char *reason = luaL_optlstring(L, 3, "", &n);
  luaL_argcheck(L, n <= 123, 3, "at most 123 bytes");
  wslay_event_queue_close(c->wslay, (uint16_t)code, (const uint8_t *)reason, n);
  return push_output(L, c);
}

static void push_event(lua_State *L, const struct received *r) {
  const char *type = r->opcode == WSLAY_TEXT_FRAME         ? "text"
                     : r->opcode == WSLAY_BINARY_FRAME     ? "binary"
                     : r->opcode == WSLAY_CONNECTION_CLOSE ? "close"
                     : r->opcode == WSLAY_PING             ? "ping"
                                                           : "pong";
  lua_createtable(L, 0, 3);
  lua_pushstring(L, type);
  lua_setfield(L, -2, "type");
  lua_pushlstring(L, (const char *)r->data, r->len);
  lua_setfield(L, -2, "data");
  if (r->opcode == WSLAY_CONNECTION_CLOSE) {
    lua_pushinteger(L, r->code ? r->code : 1005);
    lua_setfield(L, -2, "code");
  }
}

static int l_feed(lua_State *L) {
  struct client *c = check_client(L);
  drop_received(c); /* of a feed that raised */
  c->input = (const uint8_t *)luaL_checklstring(L, 2, &c->input_len);
  int error = wslay_event_recv(c->wslay);
  lua_createtable(L, (int)c->n_received, 0);
  for (size_t i = 0; i < c->n_received; i++) {
    push_event(L, &c->received[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  drop_received(c);
  push_output(L, c);
  if (error == 0) return 2;
  lua_pushliteral(L, "the server broke the WebSocket protocol");
  return 3;
}

static int l_gc(lua_State *L) {
  struct client *c = check_client(L);
  if (c->wslay) wslay_event_context_free(c->wslay);
  c->wslay = NULL;
  drop_received(c);
  free(c->output);
  c->output = NULL;
  return 0;
}

int l_ws_client(lua_State *L) {
  static const struct wslay_event_callbacks callbacks = {
      .recv_callback = on_recv,
      .send_callback = on_send,
      .genmask_callback = on_mask,
      .on_msg_recv_callback = on_message,
  };
  static const luaL_Reg methods[] = {
      {"message", l_message}, {"ping", l_ping}, {"close", l_close}, {"feed", l_feed}, {NULL, NULL}};
  struct client *c = lua_newuserdatauv(L, sizeof *c, 0);
  *c = (struct client){0};
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  if (wslay_event_context_client_init(&c->wslay, &callbacks, c) != 0)
    return luaL_error(L, "no memory for a WebSocket client");
  wslay_event_config_set_max_recv_msg_length(c->wslay, 256u << 20);
  return 1;
}
