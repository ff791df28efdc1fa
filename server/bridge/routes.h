/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_ROUTES_H
#define PERIGEE_ROUTES_H

#include "bridge/settings.h"
#include "wire/http.h"

#include <lua.h>

/* routes.c -- which consumer, handler of plain HTTP or public folder answers a path.
 *
 * A table of routes belongs to one generation of all apps and is replaced as a whole. Consumers
 * outlive it: a connection keeps its consumer, whose record is exchanged when its app is loaded
 * anew. Worker's thread only. */

struct host;

/* What C knows of a Lua consumer: one per path and app. */
struct consumer {
  struct consumer *next; /* host's list */
  char *path;
  bool is_plain; /* perigee.http_routes: has routes, and nothing at its path */
  char *app;
  int record;          /* registry reference of its Lua record (perigee.consumer) */
  uint32_t users;      /* tasks and batches that point here; connections are not counted */
  bool is_routed;      /* false: its app has lost it, and it goes when nobody uses it any more */
  bool is_raw;         /* frames go to `receive` */
  bool is_strict;      /* messages of a connection one after the other */
  bool has_connect;    /* Lua wants to see connections open: a hook or groups */
  bool has_disconnect; /* Lua wants to see every connection close */
  bool has_receive;
  bool is_http_mapped; /* http_status = "mapped" */
  char **origins;      /* NULL-terminated; NULL: the same host */
  char **subprotocols; /* NULL-terminated, or NULL */
  struct ws_limits ws;
  uint64_t body; /* HTTP body, bytes */
  struct call_limits limits;
};

/* A folder of static files. */
struct public_folder {
  char *prefix; /* "/chat/" */
  char *dir;
};

struct routes;

/* Builds routes from a list of Lua tables:
 *   { kind = "consumer", path=, app=, record=, raw=, connect=, disconnect=, receive=, mapped=,
 * strict=, origins = {..} or nil, subprotocols = {..} or nil, limits = {..}, plain= }
 *   { kind = "route", path=, owner = index of its consumer in the list, methods = { "GET", .. } }
 *   { kind = "public", prefix=, dir= }
 * Routes come after their consumers, the closest patterns first.
 * [-0, +0, e]. Replaces host->routes only when it did not raise. For Lua: core.serve(list). */
int l_serve(lua_State *L);

/* The inspector's consumer, one such table: no route leads to it, pages.c decides who may see it.
 * For Lua: core.serve_inspector(route). [-0, +0, e] */
int l_serve_inspector(lua_State *L);

void routes_free(struct routes *routes);
void consumers_free(struct host *h);

/* retire(): closes the WebSockets of consumers that are served no more with 1001, after their calls
 * in flight have ended, and frees such consumers once nobody uses them. For Lua: core.retire(). */
int l_retire(lua_State *L);
/* For the reason of a close frame: why a connection to it is to leave. */
const char *consumer_farewell(const struct consumer *c);

/* Bit of a request method in `methods`: what answers GET answers HEAD. 0: no handler can be
 * declared for it. */
unsigned routes_method(unsigned method);

/* What answers this path (still percent-encoded)? Nothing set: 404. */
struct route {
  struct consumer *consumer; /* JSON-RPC and WebSockets, or NULL */
  struct consumer *web;      /* whose plain HTTP handlers answer, or NULL */
  const char *pattern;       /* of the handler; borrowed from the routes */
  bool has_handler;          /* there is one for this method, and web and pattern are its */
  unsigned methods;          /* bits: for which there is one */
  const struct public_folder *folder;
  char *file; /* malloc'd path within the folder, decoded, without the prefix */
};
/* method: enum llhttp_method. False when the path is malformed or reaches for what is never served.
 */
bool routes_find(const struct routes *routes, const char *path, size_t n, unsigned method,
                 struct route *out);

enum { ROUTES_ALLOW_MAX = 64 };
/* "GET, HEAD, POST": the methods that answer here, for Allow and CORS; without OPTIONS. */
size_t routes_allow(const struct route *route, char out[static ROUTES_ALLOW_MAX]);

/* The folder whose prefix is this path and a slash, or NULL: "/chat" -> "/chat/". */
const struct public_folder *routes_folder_below(const struct routes *routes, const char *path,
                                                size_t n);

#endif
