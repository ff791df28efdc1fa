/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LCONN_H
#define PERIGEE_LCONN_H

#include <lua.h>

/* lconn.c -- what Lua may do with connections and groups. For Lua: core.*
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

/* group_add(conn, name), group_discard(conn, name): true when something changed. */
int l_group_add(lua_State *L);
int l_group_discard(lua_State *L);
/* groups_of(conn): list of names. */
int l_groups_of(lua_State *L);
/* group_count(name) */
int l_group_count(lua_State *L);
/* request(conn, id, method, params, flags): sends a JSON-RPC request with that id, a string. */
int l_request(lua_State *L);
/* peer_wait(conn, change): 1 more or less of its calls waits for the client, and does not count
 * against the calls in flight meanwhile. */
int l_peer_wait(lua_State *L);
/* record(conn): the Lua record of the connection's consumer, or nil. */
int l_record(lua_State *L);
/* members(name): ids of the connections in a group. */
int l_members(lua_State *L);
/* publish(name or list of names, method, params, list of conn ids to leave out, flags): one frame
 * for all members, once each. Returns how many it was queued for. */
int l_publish(lua_State *L);

#endif
