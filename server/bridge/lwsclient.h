/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LWSCLIENT_H
#define PERIGEE_LWSCLIENT_H

#include <lua.h>

/* lwsclient.c -- the client's side of WebSocket framing, by wslay. For Lua: core.ws_client()
 *
 *   local ws = core.ws_client()
 *   bytes = ws:message(text, is_binary)   a masked frame to send
 *   bytes = ws:ping(text)  bytes = ws:close(code, reason)
 *   events, bytes, err = ws:feed(input)   what came: a list of { type=, data=, code= }; bytes to
 *                                         send back (pongs, the answer to a close frame)
 *
 * Pure framing: whoever uses it moves the bytes. */
int l_ws_client(lua_State *L);

#endif
