/* SPDX-License-Identifier: MIT */
/* routes.c -- which consumer, handler of plain HTTP or public folder answers a path.
 *
 * Paths without captures are found in a hash; patterns such as "/room/:id" are few and tried in
 * order; folders match by prefix. A path is decoded once, and one that holds an encoded slash, a
 * dot segment or a hidden name answers to nothing: what cannot be said cannot be reached. */
#include "bridge/routes.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "net/ws_conn.h"
#include "wire/utf8.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define uthash_malloc(n)  mem_alloc(n)
#define uthash_free(p, n) free(p)
#include <uthash.h>

/* Who answers at one path or pattern. */
struct place {
  struct consumer *consumer; /* JSON-RPC and WebSockets, or NULL */
  struct consumer *web;      /* whose handlers of plain HTTP are here, or NULL */
  unsigned methods;          /* bits: for which there is one */
  char *path;                /* owned */
};

struct exact {
  UT_hash_handle hh;
  struct place place;
};

struct routes {
  struct exact *exact;    /* hash */
  struct place *patterns; /* with captures */
  unsigned n_patterns;
  struct public_folder *folders;
  unsigned n_folders;
};

/* ---- consumers ------------------------------------------------------------------------------- */

static void strings_free(char **list) {
  for (char **s = list; s && *s; s++) free(*s);
  free(list);
}

/* The list in t[key], or NULL when it is not there. */
static char **strings_read(lua_State *L, int t, const char *key) {
  char **list = NULL;
  if (lua_getfield(L, t, key) == LUA_TTABLE) {
    size_t n = lua_rawlen(L, -1);
    list = mem_zalloc((n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++) {
      lua_rawgeti(L, -1, (lua_Integer)i + 1);
      /* checked to be strings by perigee.consumer; anything else would read as "" */
      list[i] = mem_strdup(lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
  return list;
}

static struct consumer *new_consumer(const char *path, const char *app) {
  struct consumer *c = mem_zalloc(sizeof *c);
  c->path = mem_strdup(path);
  c->app = mem_strdup(app);
  c->record = LUA_NOREF;
  return c;
}

static struct consumer *consumer_at(struct host *h, const char *path, const char *app,
                                    bool is_plain) {
  for (struct consumer *c = h->consumers; c; c = c->next)
    if (c->is_plain == is_plain && strcmp(c->path, path) == 0 && strcmp(c->app, app) == 0) return c;
  struct consumer *c = new_consumer(path, app);
  c->is_plain = is_plain;
  c->next = h->consumers;
  h->consumers = c;
  return c;
}

static void consumer_free(struct consumer *c) {
  strings_free(c->origins);
  strings_free(c->subprotocols);
  free(c->path);
  free(c->app);
  free(c);
}

void consumers_free(struct host *h) {
  while (h->consumers) {
    struct consumer *c = h->consumers;
    h->consumers = c->next;
    consumer_free(c);
  }
  if (h->inspector) consumer_free(h->inspector);
  h->inspector = NULL;
}

/* ---- consumers that are gone ----------------------------------------------------------------- */

enum { RETIRE_MS = 1000 }; /* between two looks whether somebody still uses one */

const char *consumer_farewell(const struct consumer *c) {
  return c->is_routed ? "server is stopping" : "this app is not served any more";
}

/* Lets a connection to a consumer that is gone end; counts it as a user as long as it has not. */
static void retire_conn(struct conn *conn, void *arg) {
  struct peer *p = peer_of(conn);
  (void)arg;
  if (!p->consumer || p->consumer->is_routed) return;
  p->consumer->users++;
  if (!p->is_accepted || !ws_is_open(conn)) return;
  if (peer_is_busy(p) || p->queued) {
    p->is_leaving = true;
  } else {
    const char *why = consumer_farewell(p->consumer);
    ws_close(conn, WS_GOING_AWAY, why, strlen(why));
  }
}

static void uncount_conn(struct conn *conn, void *arg) {
  struct peer *p = peer_of(conn);
  (void)arg;
  if (p->consumer && !p->consumer->is_routed) p->consumer->users--;
}

static void retire(struct host *h);

static void on_retire(struct deadline *d) {
  retire((struct host *)((char *)d - offsetof(struct host, retire)));
}

static void retire(struct host *h) {
  bool is_any = false;
  for (struct consumer *c = h->consumers; c && !is_any; c = c->next) is_any = !c->is_routed;
  if (!is_any) return;
  /* Connections are many and this is rare: they are counted when somebody asks. */
  worker_each_conn(&h->worker, retire_conn, NULL);
  is_any = false;
  for (struct consumer **at = &h->consumers, *c; (c = *at);) {
    if (c->is_routed || c->users) {
      is_any |= !c->is_routed;
      at = &c->next;
      continue;
    }
    *at = c->next;
    luaL_unref(h->L, LUA_REGISTRYINDEX, c->record);
    consumer_free(c);
  }
  worker_each_conn(&h->worker, uncount_conn, NULL);
  h->retire.fire = on_retire;
  if (is_any) deadline_set(&h->worker.deadlines, &h->retire, worker_now(&h->worker) + RETIRE_MS);
}

static bool read_flag(lua_State *L, int t, const char *key) {
  lua_getfield(L, t, key);
  bool v = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return v;
}

static uint64_t read_limit(lua_State *L, int limits, const char *key, uint64_t otherwise) {
  if (limits == 0) return otherwise;
  uint64_t v = otherwise;
  if (lua_getfield(L, limits, key) == LUA_TNUMBER) v = (uint64_t)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return v;
}

/* Everything that can raise has happened before this: see l_serve. */
static void consumer_update(lua_State *L, struct host *h, struct consumer *c, int t, int record) {
  const struct settings *s = h->settings;
  luaL_unref(L, LUA_REGISTRYINDEX, c->record);
  c->record = record;
  c->is_routed = true;
  c->is_raw = read_flag(L, t, "raw");
  c->is_strict = read_flag(L, t, "strict");
  c->has_connect = read_flag(L, t, "connect");
  c->has_disconnect = read_flag(L, t, "disconnect");
  c->has_receive = read_flag(L, t, "receive");
  c->is_http_mapped = read_flag(L, t, "mapped");
  strings_free(c->origins);
  strings_free(c->subprotocols);
  c->origins = strings_read(L, t, "origins");
  c->subprotocols = strings_read(L, t, "subprotocols");
  int limits = lua_getfield(L, t, "limits") == LUA_TTABLE ? lua_gettop(L) : 0;
  c->ws.message = read_limit(L, limits, "message", s->conn.ws.message);
  c->ws.fragments = s->conn.ws.fragments;
  bool has_choice = lua_getfield(L, t, "deflate") != LUA_TNIL;
  c->ws.may_deflate = has_choice ? lua_toboolean(L, -1) : s->conn.ws.may_deflate;
  lua_pop(L, 1);
  c->body = read_limit(L, limits, "body", s->conn.http.body);
  c->limits.params.depth = (uint32_t)read_limit(L, limits, "depth", s->call.params.depth);
  c->limits.params.array = (uint32_t)read_limit(L, limits, "array", s->call.params.array);
  c->limits.params.values = (uint32_t)read_limit(L, limits, "values", s->call.params.values);
  c->limits.params.string = (uint32_t)read_limit(L, limits, "string", s->call.params.string);
  c->limits.method = (uint32_t)read_limit(L, limits, "method", s->call.method);
  c->limits.batch = (uint32_t)read_limit(L, limits, "batch", s->call.batch);
  c->limits.calls = (uint32_t)read_limit(L, limits, "calls", s->call.calls);
  lua_pop(L, 1);
}

int l_retire(lua_State *L) {
  retire(host_of(L));
  return 0;
}

/* ---- building -------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  unsigned method;
} methods[] = {{"GET", HTTP_GET},
               {"POST", HTTP_POST},
               {"PUT", HTTP_PUT},
               {"PATCH", HTTP_PATCH},
               {"DELETE", HTTP_DELETE}};

enum { METHODS = sizeof methods / sizeof *methods };

unsigned routes_method(unsigned method) {
  if (method == HTTP_HEAD) method = HTTP_GET;
  for (unsigned i = 0; i < METHODS; i++)
    if (methods[i].method == method) return 1u << i;
  return 0;
}

size_t routes_allow(const struct route *route, char out[static ROUTES_ALLOW_MAX]) {
  unsigned bits = route->methods | (route->consumer ? routes_method(HTTP_POST) : 0);
  size_t n = 0;
  for (unsigned i = 0; i < METHODS; i++)
    if (bits & 1u << i)
      n += (size_t)snprintf(out + n, ROUTES_ALLOW_MAX - n, "%s%s%s", n ? ", " : "", methods[i].name,
                            i == 0 ? ", HEAD" : "");
  return n;
}

/* The place for a path, made when it is not there. */
static struct place *place_at(struct routes *routes, const char *path) {
  if (!strpbrk(path, ":*")) {
    struct exact *e;
    size_t n = strlen(path);
    HASH_FIND(hh, routes->exact, path, n, e);
    if (e) return &e->place;
    e = mem_zalloc(sizeof *e);
    e->place.path = mem_strdup(path);
    HASH_ADD_KEYPTR(hh, routes->exact, e->place.path, n, e);
    return &e->place;
  }
  for (unsigned i = 0; i < routes->n_patterns; i++)
    if (strcmp(routes->patterns[i].path, path) == 0) return &routes->patterns[i];
  routes->patterns =
      mem_realloc(routes->patterns, (routes->n_patterns + 1) * sizeof *routes->patterns);
  routes->patterns[routes->n_patterns] = (struct place){.path = mem_strdup(path)};
  return &routes->patterns[routes->n_patterns++];
}

static void add_route(lua_State *L, struct routes *routes, int t, struct consumer **made) {
  lua_getfield(L, t, "owner");
  lua_getfield(L, t, "path");
  struct place *place = place_at(routes, lua_tostring(L, -1));
  place->web = made[lua_tointeger(L, -2)];
  lua_getfield(L, t, "methods");
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
    lua_rawgeti(L, -1, i);
    for (unsigned k = 0; k < METHODS; k++)
      if (strcmp(lua_tostring(L, -1), methods[k].name) == 0) place->methods |= 1u << k;
    lua_pop(L, 1);
  }
  lua_pop(L, 3);
}

static void add_folder(lua_State *L, struct routes *routes, int t) {
  routes->folders = mem_realloc(routes->folders, (routes->n_folders + 1) * sizeof *routes->folders);
  struct public_folder *f = &routes->folders[routes->n_folders++];
  lua_getfield(L, t, "prefix");
  lua_getfield(L, t, "dir");
  f->prefix = mem_strdup(lua_tostring(L, -2));
  f->dir = mem_strdup(lua_tostring(L, -1));
  lua_pop(L, 2);
}

/* A route names a consumer in front of it, and methods that can have a handler. */
static void check_route(lua_State *L, int t) {
  lua_getfield(L, t, "owner");
  lua_geti(L, 1, lua_tointeger(L, -1));
  if (lua_type(L, -1) != LUA_TTABLE || lua_getfield(L, -1, "record") != LUA_TTABLE)
    luaL_error(L, "serve: owner must be the index of a consumer");
  if (lua_getfield(L, t, "methods") != LUA_TTABLE) luaL_error(L, "serve: methods must be a list");
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
    if (lua_rawgeti(L, -1, i) != LUA_TSTRING) luaL_error(L, "serve: methods must be names");
    lua_pop(L, 1);
  }
  lua_settop(L, t);
}

/* Raises when an item has not what l_serve will ask it for. */
static void check_item(lua_State *L, int t) {
  static const char *const kinds[] = {"consumer", "public", "route", NULL};
  static const char *const needs[][3] = {
      {"path", "app", NULL}, {"prefix", "dir", NULL}, {"path", NULL}};
  luaL_checktype(L, t, LUA_TTABLE);
  lua_getfield(L, t, "kind");
  int kind = luaL_checkoption(L, -1, NULL, kinds);
  lua_pop(L, 1);
  for (const char *const *key = needs[kind]; *key; key++) {
    if (lua_getfield(L, t, *key) != LUA_TSTRING) luaL_error(L, "serve: %s must be a string", *key);
    lua_pop(L, 1);
  }
  if (kind == 0) {
    if (lua_getfield(L, t, "record") != LUA_TTABLE) luaL_error(L, "serve: record must be a table");
    lua_pop(L, 1);
  }
  if (kind == 2) check_route(L, t);
}

/* Every name that an item is asked for: while these strings exist, asking makes none and so raises
 * nothing. */
static const char *const names[] = {
    "app",     "array",      "batch",  "body",   "calls",  "connect",      "depth",
    "dir",     "disconnect", "kind",   "limits", "mapped", "message",      "method",
    "methods", "origins",    "owner",  "path",   "plain",  "prefix",       "raw",
    "deflate", "receive",    "record", "strict", "string", "subprotocols", "values",
};

int l_serve(lua_State *L) {
  struct host *h = host_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  luaL_checkstack(L, 16, "serve");
  /* first all that can raise: checks, and a registry reference per record */
  lua_createtable(L, (int)n, 0); /* 2: references, then names */
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    lua_pushstring(L, names[i]);
    lua_rawseti(L, 2, n + 1 + (lua_Integer)i);
  }
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    check_item(L, 3);
    lua_getfield(L, 3, "record");
    lua_Integer ref = lua_istable(L, -1) ? luaL_ref(L, LUA_REGISTRYINDEX) : (lua_pop(L, 1), 0);
    lua_pushinteger(L, ref);
    lua_rawseti(L, 2, i);
    lua_settop(L, 2);
  }
  struct routes *routes = mem_zalloc(sizeof *routes);
  for (struct consumer *c = h->consumers; c; c = c->next) c->is_routed = false;
  struct consumer **made = mem_zalloc(((size_t)n + 1) * sizeof *made);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    lua_rawgeti(L, 2, i);
    int record = (int)lua_tointeger(L, 4);
    lua_getfield(L, 3, "kind");
    char kind = lua_tostring(L, -1)[0];
    lua_pop(L, 1);
    if (kind == 'c') {
      lua_getfield(L, 3, "path");
      lua_getfield(L, 3, "app");
      struct consumer *c =
          consumer_at(h, lua_tostring(L, -2), lua_tostring(L, -1), read_flag(L, 3, "plain"));
      lua_pop(L, 2);
      consumer_update(L, h, c, 3, record);
      made[i] = c;
      if (!c->is_plain) place_at(routes, c->path)->consumer = c;
    } else if (kind == 'r') {
      add_route(L, routes, 3, made);
    } else {
      add_folder(L, routes, 3);
    }
    lua_settop(L, 2);
  }
  free(made);
  routes_free(h->routes);
  h->routes = routes;
  return 0;
}

int l_serve_inspector(lua_State *L) {
  struct host *h = host_of(L);
  lua_settop(L, 1);
  check_item(L, 1);
  lua_getfield(L, 1, "record");
  int record = luaL_ref(L, LUA_REGISTRYINDEX);
  if (!h->inspector) {
    lua_getfield(L, 1, "path");
    lua_getfield(L, 1, "app");
    h->inspector = new_consumer(lua_tostring(L, -2), lua_tostring(L, -1));
    lua_pop(L, 2);
  }
  consumer_update(L, h, h->inspector, 1, record);
  return 0;
}

void routes_free(struct routes *routes) {
  struct exact *e, *next;
  if (!routes) return;
  HASH_ITER(hh, routes->exact, e, next) {
    HASH_DEL(routes->exact, e);
    free(e->place.path);
    free(e);
  }
  for (unsigned i = 0; i < routes->n_patterns; i++) free(routes->patterns[i].path);
  for (unsigned i = 0; i < routes->n_folders; i++) {
    free(routes->folders[i].prefix);
    free(routes->folders[i].dir);
  }
  free(routes->folders);
  free(routes->patterns);
  free(routes);
}

/* ---- finding --------------------------------------------------------------------------------- */

/* "/room/:id" against "/room/42": segment by segment; a capture takes one segment, not empty; a
 * wildcard takes what is left, even nothing. */
static bool pattern_matches(const char *pattern, const char *path, size_t n) {
  const char *end = path + n;
  while (*pattern) {
    if (*pattern == '*') return true;
    if (*pattern == ':') {
      const char *from = path;
      while (path < end && *path != '/') path++;
      if (path == from) return false;
      while (*pattern && *pattern != '/') pattern++;
      continue;
    }
    if (path == end || *pattern != *path) return false;
    pattern++;
    path++;
  }
  return path == end;
}

/* May parts of the path become captures? Not with a segment that is, decoded, "." or "..", nor with
 * bytes that are not UTF-8: an app should be able to take one for a name. */
static bool is_capturable(const char *path, size_t n) {
  if (!memchr(path, '.', n) && !memchr(path, '%', n)) return true;
  char *s = mem_alloc(n + 1);
  ptrdiff_t len = http_percent_decode(path, n, s);
  bool is_good = len >= 0 && utf8_is_valid((uint8_t *)s, (size_t)len);
  for (ptrdiff_t i = 0, from = 0; i <= len && is_good; i++) {
    if (i < len && s[i] != '/' && s[i] != '\\') continue;
    ptrdiff_t size = i - from;
    is_good = !((size == 1 || size == 2) && memcmp(s + from, "..", (size_t)size) == 0);
    from = i + 1;
  }
  free(s);
  return is_good;
}

/* Decodes a path below a folder. NULL for what must not be: hidden names (which covers "." and
 * ".."), encoded slashes, control characters, bytes that are not UTF-8. */
static char *safe_file(const char *s, size_t n) {
  char *out = mem_alloc(n + 1);
  for (size_t i = 0; i + 2 < n; i++)
    if (s[i] == '%' && ((s[i + 1] == '2' && (s[i + 2] | 0x20) == 'f') ||
                        (s[i + 1] == '5' && (s[i + 2] | 0x20) == 'c')))
      goto refuse;
  ptrdiff_t len = http_percent_decode(s, n, out);
  if (len < 0 || !utf8_is_valid((uint8_t *)out, (size_t)len)) goto refuse;
  out[len] = '\0';
  for (ptrdiff_t i = 0; i < len; i++) {
    if ((uint8_t)out[i] < 0x20 || out[i] == 0x7f || out[i] == '\\') goto refuse;
    bool is_start = i == 0 || out[i - 1] == '/';
    if (is_start && (out[i] == '.' || out[i] == '/')) goto refuse;
  }
  return out;
refuse:
  free(out);
  return NULL;
}

/* Takes over what a place that matches has to offer. The first that has a handler for the method is
 * it. */
static void take(struct route *out, const struct place *place, unsigned method) {
  if (!out->consumer) out->consumer = place->consumer;
  if (!place->web) return;
  out->methods |= place->methods;
  if (out->has_handler || (out->web && !(place->methods & method))) return;
  out->web = place->web;
  out->pattern = place->path;
  out->has_handler = place->methods & method;
}

static bool is_found(const struct route *out) {
  return out->consumer || out->web;
}

bool routes_find(const struct routes *routes, const char *path, size_t n, unsigned method_number,
                 struct route *out) {
  *out = (struct route){0};
  if (!routes) return true;
  unsigned method = routes_method(method_number);
  struct exact *e = NULL;
  HASH_FIND(hh, routes->exact, path, n, e);
  if (e) {
    take(out, &e->place, method);
    if (out->consumer || out->has_handler) return true;
  }
  if (routes->n_patterns && is_capturable(path, n)) {
    for (unsigned i = 0; i < routes->n_patterns; i++)
      if (pattern_matches(routes->patterns[i].path, path, n))
        take(out, &routes->patterns[i], method);
  }
  if (is_found(out)) return true;
  /* a client may encode any character of a path: try once more, decoded */
  if (memchr(path, '%', n)) {
    char *decoded = mem_alloc(n);
    ptrdiff_t len = http_percent_decode(path, n, decoded);
    if (len > 0) {
      HASH_FIND(hh, routes->exact, decoded, (size_t)len, e);
      if (e) take(out, &e->place, method);
    }
    free(decoded);
    if (is_found(out)) return true;
  }
  for (unsigned i = 0; i < routes->n_folders; i++) {
    const struct public_folder *f = &routes->folders[i];
    size_t prefix = strlen(f->prefix);
    if (n < prefix || memcmp(path, f->prefix, prefix) != 0) continue;
    out->file = safe_file(path + prefix, n - prefix);
    if (!out->file) return false;
    out->folder = f;
    return true;
  }
  return true;
}

const struct public_folder *routes_folder_below(const struct routes *routes, const char *path,
                                                size_t n) {
  if (!routes) return NULL;
  for (unsigned i = 0; i < routes->n_folders; i++) {
    const char *prefix = routes->folders[i].prefix;
    if (strlen(prefix) == n + 1 && memcmp(prefix, path, n) == 0) return &routes->folders[i];
  }
  return NULL;
}
