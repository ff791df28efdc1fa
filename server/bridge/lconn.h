/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LCONN_H
#define PERIGEE_LCONN_H

#include "base/buf.h"

#include <lua.h>
#include <stdint.h>

struct conn;
struct host;

/* lconn.c -- what Lua may do with connections. For Lua: core.*
 *
 * Lua holds connections by their ids, plain integers that are never used twice: an id whose
 * connection is gone finds nothing, and every function then returns false. */

/* notify(conn, method, params, flags): sends a JSON-RPC notification. Raises when params have no
 * form in JSON. flags: 1: in the form of JSON-RPC 1.0; 2: params are JSON text already. */
int l_notify(lua_State *L);
/* send(conn, data, is_binary): sends a message as it is. */
int l_send(lua_State *L);
/* close(conn, code, reason): starts the closing handshake. */
int l_close(lua_State *L);
/* is_open(conn) */
int l_is_open(lua_State *L);

/* request(conn, id, method, params, flags): sends a JSON-RPC request with that id, a string. */
int l_request(lua_State *L);
/* peer_wait(conn, change): 1 more or less of its calls waits for the client, and does not count
 * against the calls in flight meanwhile. */
int l_peer_wait(lua_State *L);
/* record(conn): the Lua record of the connection's consumer, or nil. */
int l_record(lua_State *L);
/* ---- for llayer.c ---------------------------------------------------------------------------- */

/* The WebSocket with that id, when frames can be sent to it: also while its connect hook runs. */
struct conn *lconn_find(struct host *h, uint64_t id);

/* Writes a request or notification as one frame; raises when it cannot [-0, +0, v]. Stack indexes:
 * method, params (may be none), flags. id: text of a string id, or NULL for a notification. */
void lconn_write(lua_State *L, struct builder *b, const char *id, int method, int params,
                 int flags_at, struct slice *frame);

#endif
