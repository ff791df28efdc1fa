/* SPDX-License-Identifier: MIT */
/* web.c -- one request of plain HTTP, from its route to its answer.
 *
 *   request ─▶ http.call(record, conn, task, path, verb, body)
 *                  │ returns status, body, type, lines      │ raises
 *                  ▼                                        ▼
 *               answer ◀──────────────────────────────  http.failed
 *
 * perigee.http decides what is said; this file only says it. */
#include "bridge/web.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/dispatch.h"
#include "bridge/held.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "bridge/settings.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct web {
  struct consumer *consumer;
  uint64_t conn;
  const char *pattern; /* borrowed until the body has begun, as is data */
  const uint8_t *data;
  size_t len;
  size_t held; /* bytes, counted */
  uint8_t method;
  bool is_answered;
  bool is_late; /* ran over its time and did not end */
};
_Static_assert(sizeof(struct web) <= TASK_DATA, "a request fits into its task");

static struct web *web_of(struct task *t) {
  return (struct web *)t->data;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* type and lines may be NULL. */
static void answer(struct host *h, struct web *web, unsigned status, const char *type,
                   size_t type_len, const char *lines, size_t lines_len, struct slice body) {
  static const char vary[] = "Vary: Origin\r\n";
  struct conn *conn = worker_conn(&h->worker, web->conn);
  web->is_answered = true;
  if (!conn || !conn_is_open(conn)) return;
  size_t n = 0, room = CORS_LINES_MAX + sizeof vary + OWN_LINES_MAX + lines_len;
  char *extra = mem_alloc(room);
  if (peer_of(conn)->has_origin) {
    n = dispatch_cors(conn, extra);
  } else if (web->consumer->origins) { /* for caches: another asker would get more */
    memcpy(extra, vary, sizeof vary - 1);
    n = sizeof vary - 1;
  }
  n += dispatch_own_lines(conn, extra + n);
  if (lines_len) memcpy(extra + n, lines, lines_len);
  struct http_answer a = {.status = status,
                          .type = type,
                          .type_len = type_len,
                          .extra = extra,
                          .extra_len = n + lines_len};
  http_answer(conn, &a, body);
  free(extra);
}

/* The last word when Lua cannot help: no memory, or an error in the error path. */
static void send_last_word(struct host *h, struct web *web) {
  static const char text[] = "500 Internal Server Error\n", type[] = "text/plain; charset=utf-8";
  struct slice body;
  if (web->is_answered) return;
  builder_begin(&h->worker.out);
  builder_text(&h->worker.out, text);
  builder_commit(&h->worker.out, &body);
  answer(h, web, 500, type, sizeof type - 1, NULL, 0, body);
}

/* ---- in the coroutine ------------------------------------------------------------------------ */

static int say(lua_State *L, int status, lua_KContext ctx);

/* The handler has caught the error that should have ended it: what it returns comes too late. */
static int say_late(lua_State *L, struct task *t) {
  struct web *web = web_of(t);
  web->is_late = true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.http_late);
  lua_rawgeti(L, LUA_REGISTRYINDEX, web->consumer->record);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushinteger(L, t->stop);
  lua_pushnumber(L, t->stop_seconds);
  task_forgive(t);
  lua_callk(L, 4, 4, (lua_KContext)t, say);
  return say(L, LUA_OK, (lua_KContext)t);
}

/* Stack: ... status, body, type, lines: what perigee.http returned. */
static int say(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  struct task *t = (struct task *)ctx;
  struct host *h = t->host;
  struct web *web = web_of(t);
  struct slice slice;
  size_t n = 0, type_len = 0, lines_len = 0;
  if (web->is_answered) return 0; /* what failed had nobody waiting for it */
  if (t->stop != STOP_NOT && !t->is_failing && !web->is_late) return say_late(L, t);
  int top = lua_gettop(L);
  const char *body = luaL_optlstring(L, top - 2, "", &n);
  const char *type = luaL_optlstring(L, top - 1, NULL, &type_len);
  const char *lines = luaL_optlstring(L, top, NULL, &lines_len);
  lua_Integer code = luaL_checkinteger(L, top - 3);
  size_t most = conn_answer_max(&h->settings->conn);
  if (n > most)
    return luaL_error(L, "a body of %I bytes is over %I, what output_hard leaves for one",
                      (lua_Integer)n, (lua_Integer)most);
  builder_begin(&h->worker.out);
  builder_add(&h->worker.out, body, n);
  builder_commit(&h->worker.out, &slice);
  answer(h, web, (unsigned)code, type, type_len, lines, lines_len, slice);
  return 0;
}

static int web_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct web *web = web_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.http_call);
  lua_rawgeti(L, LUA_REGISTRYINDEX, web->consumer->record);
  lua_pushinteger(L, (lua_Integer)web->conn);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushstring(L, web->pattern);
  lua_pushstring(L, llhttp_method_name((llhttp_method_t)web->method));
  lua_pushlstring(L, (const char *)web->data, web->len);
  lua_callk(L, 6, 4, (lua_KContext)t, say);
  return say(L, LUA_OK, (lua_KContext)t);
}

static int failed_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.http_failed);
  lua_rawgeti(L, LUA_REGISTRYINDEX, web_of(t)->consumer->record);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  task_failure(L, t);
  lua_callk(L, 4, 4, (lua_KContext)t, say);
  return say(L, LUA_OK, (lua_KContext)t);
}

/* ---- the task -------------------------------------------------------------------------------- */

static double web_limit(lua_State *L, struct task *t) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.limit);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_call(L, 1, 1);
  double seconds = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return seconds;
}

static void web_failed(struct task *t) {
  lua_pushcfunction(t->co, failed_body);
  lua_pushlightuserdata(t->co, t);
}

static void web_gave_up(struct task *t) {
  send_last_word(t->host, web_of(t));
}

static void web_waits(struct task *t) {
  struct web *web = web_of(t);
  web->held = web->len;
  held_add(t->host, web->conn, web->held);
}

static void web_released(struct task *t) {
  web_of(t)->consumer->users--;
  held_drop(t->host, web_of(t)->conn, web_of(t)->held);
}

static const struct task_kind kind = {.name = "request",
                                      .has_client = true,
                                      .waits = web_waits,
                                      .limit = web_limit,
                                      .failed = web_failed,
                                      .gave_up = web_gave_up,
                                      .released = web_released};

void web_request(struct host *h, struct conn *conn, const struct http_request *r) {
  struct route route;
  bool is_good = routes_find(h->routes, http_text(r, r->path), r->path.len, r->method, &route);
  free(route.file);
  if (!is_good || !route.has_handler) { /* loaded anew while the body came */
    http_refuse(conn, 404, "404 Not Found\n");
    return;
  }
  if (held_refuses(h, r->body_len)) {
    http_refuse(conn, 503,
                "503 Service Unavailable: what is in flight holds too much memory, try again\n");
    return;
  }
  struct task *t = task_begin(h, &kind);
  metric_add(&h->worker.metrics.http_calls, 1);
  if (!t) { /* no memory in Lua, not even for a coroutine */
    http_refuse(conn, 503, "503 Service Unavailable: out of memory\n");
    return;
  }
  peer_of(conn)->consumer = route.web;
  route.web->users++;
  *web_of(t) = (struct web){.consumer = route.web,
                            .conn = conn_id(conn),
                            .pattern = route.pattern,
                            .data = r->body,
                            .len = r->body_len,
                            .method = r->method};
  task_names(t, route.web->path, conn_id(conn));
  task_run(t, web_body);
}
