/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_DISPATCH_H
#define PERIGEE_DISPATCH_H

#include "bridge/cors.h"
#include "net/http_conn.h"
#include "net/ws_conn.h"

#include <lua.h>

struct host;

/* dispatch.c -- what connections ask for, brought to consumers, folders and hooks.
 *
 * Routes, methods, content types, origins and handshakes are judged here, without Lua. */

extern const struct http_handler dispatch_http;
extern const struct ws_handler dispatch_ws;

/* One of a connection's calls has ended: go on with what waited for it. */
void dispatch_released(struct conn *conn);

/* Closes a WebSocket whose message has no answer that could say so: there is no memory for it now.
 * NULL: it is gone. */
void dispatch_turn_away(struct conn *conn);

/* At each turn: messages of strictly ordered connections whose turn has come. */
void dispatch_turn(struct host *h);

/* Header lines that let the page of another, allowed origin read the answer to the request in
 * progress. Returns how many bytes. */
size_t dispatch_cors(struct conn *conn, char out[static CORS_LINES_MAX]);
enum { OWN_LINES_MAX = 800 };
/* And those that Lua gave for it with core.answer_lines. */
size_t dispatch_own_lines(struct conn *conn, char out[static OWN_LINES_MAX]);

/* ---- for Lua: core.* ------------------------------------------------------------------------- */

/* accept(conn[, subprotocol[, headers]]): answers a handshake that waits with 101. Without a
 * subprotocol the first of the consumer's that the client offers. headers: lines "Name: value\r\n".
 * True, or false when the connection is gone or was answered. */
int l_accept(lua_State *L);
/* reject(conn, status, body, headers): answers it with an error. True or false as above. */
int l_reject(lua_State *L);
/* answer_lines(conn, lines): header lines "Name: value\r\n" that go with the answer to the request
 * in progress, instead of those given before. False when there is none to come. */
int l_answer_lines(lua_State *L);
/* head(conn): "address port scheme host\r\n" and the raw request head, or nil when the connection
 * or its request is over. */
int l_head(lua_State *L);
/* watch_conns(bool): Lua wants to see every connection open and close. */
int l_watch_conns(lua_State *L);
/* touch(conn): there is an instance now, so Lua must hear of the end. False when it is over. */
int l_touch(lua_State *L);

#endif
