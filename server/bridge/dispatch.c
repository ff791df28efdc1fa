/* SPDX-License-Identifier: MIT */
/* dispatch.c -- what connections ask for, brought to consumers, folders and hooks.
 *
 *   GET + Upgrade  consumer's path  ─▶ origin, handshake ─▶ connect hook ─▶ 101
 *   POST           consumer's path  ─▶ content type, length ─▶ call
 *   any method     route            ─▶ origin ─▶ handler of plain HTTP
 *   OPTIONS        either           ─▶ CORS preflight, or what is allowed
 *   GET, HEAD      folder           ─▶ file
 *   GET            /-/health, /-/metrics, pages.c
 *   everything else                 ─▶ 404, 405, ... and close */
#include "bridge/dispatch.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/access.h"
#include "bridge/call.h"
#include "bridge/client.h"
#include "bridge/cors.h"
#include "bridge/held.h"
#include "bridge/host.h"
#include "bridge/linspect.h"
#include "bridge/pages.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "bridge/web.h"
#include "hub/files.h"
#include "wire/handshake.h"
#include "wire/utf8.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_SECONDS = 30 }; /* a connect hook may take; the client waits for its 101 */

#define PLAIN_TEXT .type = "text/plain; charset=utf-8", .type_len = 25

/* ---- refusing -------------------------------------------------------------------------------- */

/* Answers an error with one more header line and closes. */
static void refuse_with(struct conn *conn, unsigned status, const char *line, const char *why) {
  char text[256];
  struct http_answer answer = {.status = status,
                               PLAIN_TEXT,
                               .extra = line,
                               .extra_len = line ? strlen(line) : 0,
                               .is_last = true};
  snprintf(text, sizeof text, "%u %s%s%s\n", status, http_status_text(status), why ? ": " : "",
           why ? why : "");
  http_refused(conn, status, why);
  http_answer_text(conn, &answer, text);
}

static void refuse(struct conn *conn, unsigned status, const char *why) {
  refuse_with(conn, status, NULL, why);
}

/* A Host that this server does not answer to. */
static void refuse_host(struct conn *conn, const struct http_request *r) {
  char why[220];
  snprintf(
      why, sizeof why,
      "this server does not answer to %.*s: ask for localhost, or name it in the setting hosts",
      (int)(r->host.len < 100 ? r->host.len : 100), http_text(r, r->host));
  refuse(conn, 421, why);
}

/* ---- origins --------------------------------------------------------------------------------- */

/* A browser page of another origin must not reach handlers with the visitor's cookies. */
static bool check_origin(struct conn *conn, const struct consumer *c,
                         const struct http_request *r) {
  if (cors_allows(conn, c, r)) return true;
  refuse(conn, 403, "origin not allowed");
  return false;
}

size_t dispatch_cors(struct conn *conn, char out[static CORS_LINES_MAX]) {
  const struct peer *p = peer_of(conn);
  return p->has_origin ? cors_lines(conn, p->consumer, http_request_of(conn), out) : 0;
}

size_t dispatch_own_lines(struct conn *conn, char out[static OWN_LINES_MAX]) {
  const struct peer *p = peer_of(conn);
  size_t n = p->answer_lines ? strlen(p->answer_lines) : 0;
  if (n) memcpy(out, p->answer_lines, n);
  return n;
}

static void drop_answer_lines(struct peer *p) {
  free(p->answer_lines);
  p->answer_lines = NULL;
}

/* Method of the request that a preflight asks for. */
static unsigned asked_method(const struct http_request *r) {
  static const uint8_t known[] = {HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_PATCH, HTTP_DELETE};
  const struct http_field *asked = http_find(r, "access-control-request-method");
  for (size_t i = 0; asked && i < sizeof known; i++)
    if (http_span_is(r, asked->value, llhttp_method_name((llhttp_method_t)known[i])))
      return known[i];
  return HTTP_POST;
}

/* Answers OPTIONS on a path where something is. */
static void preflight(struct conn *conn, const struct http_request *r) {
  char lines[CORS_LINES_MAX], allow[ROUTES_ALLOW_MAX];
  struct route route;
  routes_find(host_of_conn(conn)->routes, http_text(r, r->path), r->path.len, asked_method(r),
              &route);
  const struct consumer *c = !route.consumer || route.has_handler ? route.web : route.consumer;
  if (!check_origin(conn, c, r)) return;
  routes_allow(&route, allow);
  size_t n = cors_preflight_lines(conn, c, r, allow, lines);
  if (n == 0) n = (size_t)snprintf(lines, sizeof lines, "Allow: %s, OPTIONS\r\n", allow);
  struct http_answer answer = {.status = 204, .extra = lines, .extra_len = n};
  http_answer_text(conn, &answer, NULL);
}

enum { ALLOW_LINE_MAX = ROUTES_ALLOW_MAX + 32 };

static void allow_line(const struct route *route, char out[static ALLOW_LINE_MAX]) {
  char allow[ROUTES_ALLOW_MAX];
  routes_allow(route, allow);
  snprintf(out, ALLOW_LINE_MAX, "Allow: %s, OPTIONS\r\n", allow);
}

static void refuse_method(struct conn *conn, const struct route *route) {
  char line[ALLOW_LINE_MAX];
  allow_line(route, line);
  refuse_with(conn, 405, line, NULL);
}

/* ---- heads ----------------------------------------------------------------------------------- */

/* Index into media_types, or -1. Parameters such as charset are allowed and ignored: JSON is UTF-8.
 */
static int media_type(const struct http_request *r) {
  const struct http_field *type = http_find(r, "content-type");
  if (!type) return -1;
  struct http_span name = type->value;
  const char *semicolon = memchr(http_text(r, name), ';', name.len);
  if (semicolon) name.len = (uint32_t)(semicolon - http_text(r, name));
  while (name.len &&
         (http_text(r, name)[name.len - 1] == ' ' || http_text(r, name)[name.len - 1] == '\t'))
    name.len--;
  for (int i = 0; i < MEDIA_TYPES; i++)
    if (http_span_is(r, name, media_types[i])) return i;
  return -1;
}

static uint64_t head_of_post(struct conn *conn, struct consumer *c, const struct http_request *r) {
  int type = media_type(r);
  if (type < 0) {
    refuse_with(conn, 415, "Accept-Post: application/json, application/json-rpc\r\n",
                "Content-Type must be application/json");
    return 0;
  }
  if (http_find(r, "content-encoding")) {
    refuse(conn, 415, "no Content-Encoding is understood");
    return 0;
  }
  if (!r->has_length && !r->is_chunked) {
    refuse(conn, 411, NULL);
    return 0;
  }
  if (!check_origin(conn, c, r)) return 0;
  peer_of(conn)->media_type = (uint8_t)type;
  peer_of(conn)->has_origin = http_find(r, "origin") != NULL;
  return c->body;
}

static uint64_t head_of_handshake(struct conn *conn, struct consumer *c,
                                  const struct http_request *r) {
  const char *why;
  unsigned status = handshake_judge(r, &why);
  if (status == 426)
    refuse_with(conn, 426, "Sec-WebSocket-Version: 13\r\n", why);
  else if (status != 101)
    refuse(conn, status, why);
  else if (conn->worker->is_draining)
    refuse_with(conn, 503, "Retry-After: 5\r\n", "the server is stopping");
  else
    check_origin(conn, c, r);
  return 0;
}

static uint64_t head_of_plain(struct conn *conn, const struct route *route,
                              const struct http_request *r) {
  struct peer *p = peer_of(conn);
  if (!check_origin(conn, route->web, r)) return 0;
  p->consumer = route->web;
  p->is_plain = true;
  p->has_origin = http_find(r, "origin") != NULL;
  return route->web->body;
}

/* A file is read, and nothing else is done to it; or refuses. */
static bool may_have_file(struct conn *conn, const struct http_request *r) {
  if (r->method != HTTP_GET && r->method != HTTP_HEAD)
    refuse_with(conn, 405, "Allow: GET, HEAD\r\n", NULL);
  else if (r->content_length || r->is_chunked)
    refuse(conn, 413, "a file is asked for without a body");
  else
    return true;
  return false;
}

/* Leads to the page of a public folder whose path was asked for without the slash behind it. route:
 * what else is at that path, or NULL. False: nothing was asked for that a page could answer. */
static bool answer_folder(struct conn *conn, const struct http_request *r,
                          const struct route *route) {
  char line[ALLOW_LINE_MAX];
  struct peer *p = peer_of(conn);
  const struct public_folder *f =
      routes_folder_below(host_of_conn(conn)->routes, http_text(r, r->path), r->path.len);
  if (!f || (r->method != HTTP_GET && r->method != HTTP_HEAD)) return false;
  p->consumer = NULL; /* it is not asked */
  if (route) allow_line(route, line);
  if (may_have_file(conn, r)) files_answer_folder(conn, f->dir, route ? line : NULL, &p->transfer);
  return true;
}

/* A consumer, handlers of plain HTTP or both are at this path. */
static uint64_t head_of_route(struct conn *conn, const struct route *route,
                              const struct http_request *r) {
  struct consumer *c = route->consumer;
  peer_of(conn)->consumer = c;
  if (c && handshake_is_wanted(r)) return head_of_handshake(conn, c, r);
  if (c && r->method == HTTP_POST) return head_of_post(conn, c, r);
  if (route->has_handler) return head_of_plain(conn, route, r);
  if (r->method == HTTP_OPTIONS) {
    preflight(conn, r);
    return 0;
  }
  /* a person typed the path of an app that has a page */
  if (c && answer_folder(conn, r, route)) return 0;
  refuse_method(conn, route);
  return 0;
}

static bool is_path(const struct http_request *r, const char *path) {
  return r->path.len == strlen(path) && memcmp(http_text(r, r->path), path, r->path.len) == 0;
}

static void answer_health(struct conn *conn) {
  bool is_draining = conn->worker->is_draining;
  struct http_answer answer = {.status = is_draining ? 503 : 200, PLAIN_TEXT};
  http_answer_text(conn, &answer, is_draining ? "draining\n" : "ok\n");
}

static void answer_metrics(struct conn *conn) {
  struct http_answer answer = {.status = 200, PLAIN_TEXT};
  const struct metrics *all[TOPIC_WORKERS_MAX + 1];
  unsigned n = layer_metrics(host_of_conn(conn)->layer, all);
  struct slice body;
  builder_begin(&conn->worker->out);
  metrics_write(&conn->worker->out, all, n);
  builder_commit(&conn->worker->out, &body);
  http_answer(conn, &answer, body);
}

/* True when the path is one of the server's own, which no app can take. */
static bool answer_own(struct conn *conn, const struct http_request *r) {
  struct host *h = host_of_conn(conn);
  bool is_health = is_path(r, "/-/health"), is_metrics = is_path(r, "/-/metrics");
  const struct embedded_file *page = pages_find(http_text(r, r->path), r->path.len);
  if (handshake_is_wanted(r) && is_path(r, "/-/inspector") && access_may_inspect(conn, r)) {
    peer_of(conn)->consumer = h->inspector;
    head_of_handshake(conn, h->inspector, r);
    return true;
  }
  if (is_metrics && !access_is_local(conn, r)) return false;
  if (page && pages_is_private(page) && !access_may_inspect(conn, r)) return false;
  if (page && pages_is_for_dev(page) && !h->settings->is_dev) return false;
  if (!is_health && !is_metrics && !page) return false;
  if (r->method != HTTP_GET && r->method != HTTP_HEAD)
    refuse_with(conn, 405, "Allow: GET, HEAD\r\n", NULL);
  else if (is_health)
    answer_health(conn);
  else if (is_metrics)
    answer_metrics(conn);
  else
    pages_answer(conn, r, page);
  return true;
}

/* Ends each page in dev: it is loaded again when one of its files changes. */
static const char live[] = "\n<script src=\"/-/reload.js\" async></script>\n";

static uint64_t on_head(struct conn *conn, const struct http_request *r) {
  struct host *h = host_of_conn(conn);
  struct route route;
  peer_of(conn)->consumer = NULL;
  peer_of(conn)->is_plain = false;
  drop_answer_lines(peer_of(conn));
  if (!access_names_us(conn, r)) {
    refuse_host(conn, r);
    return 0;
  }
  if (is_path(r, "*")) { /* OPTIONS * */
    struct http_answer answer = {
        .status = 204, .extra = "Allow: GET, HEAD, POST, OPTIONS\r\n", .extra_len = 33};
    http_answer_text(conn, &answer, NULL);
    return 0;
  }
  bool is_own = r->path.len >= 3 && memcmp(http_text(r, r->path), "/-/", 3) == 0;
  if (is_own && answer_own(conn, r)) return 0;
  if (!routes_find(h->routes, http_text(r, r->path), r->path.len, r->method, &route)) {
    refuse(conn, 404, NULL);
    return 0;
  }
  if (route.consumer || route.web) return head_of_route(conn, &route, r);
  if (route.folder) {
    if (may_have_file(conn, r))
      files_answer(conn, route.folder->dir, route.file, h->settings->is_dev ? live : NULL,
                   &peer_of(conn)->transfer);
    free(route.file);
    return 0;
  }
  if (!answer_folder(conn, r, NULL)) refuse(conn, 404, NULL);
  return 0;
}

/* ---- connections and Lua --------------------------------------------------------------------- */

/* The client's line and the raw head, malloc'd: what perigee.scope reads. */
static char *copy_head(struct conn *conn, const struct http_request *r, uint32_t *len) {
  char line[CLIENT_LINE_MAX];
  size_t n = client_line(conn, r, line);
  char *head = mem_alloc(n + r->head_len);
  memcpy(head, line, n);
  memcpy(head + n, r->base, r->head_len);
  *len = (uint32_t)n + r->head_len;
  return head;
}

/* Browsers give up a WebSocket that offers subprotocols and is answered with none. In dev whoever
 * writes the page is told; not what was offered, which may be a token. */
static void tell_of_no_subprotocol(struct conn *conn, const struct consumer *c) {
  static struct log_limit limit = LOG_LIMIT(5);
  struct log_line l;
  if (!host_of_conn(conn)->settings->is_dev) return;
  if (!http_find(http_request_of(conn), "sec-websocket-protocol")) return;
  if (!log_begin_limited(&l, &limit, LOG_WARN,
                         "no offered subprotocol is known: browsers give up such a connection"))
    return;
  log_str(&l, "path", c->path);
  log_str(&l, "cure", "name one in the consumer's option subprotocols, or in self:accept");
  log_end(&l);
}

static void accept_handshake(struct conn *conn, const char *subprotocol, const char *headers,
                             size_t headers_len) {
  struct peer *p = peer_of(conn);
  const struct http_request *r = http_request_of(conn);
  struct consumer *c = p->consumer;
  char *extra = NULL;
  size_t n = 0;
  for (char **s = c->subprotocols; s && *s && !subprotocol; s++)
    if (handshake_offers(r, *s)) subprotocol = *s;
  if (!subprotocol) tell_of_no_subprotocol(conn, c);
  if (subprotocol || headers_len) {
    size_t room = headers_len + (subprotocol ? strlen(subprotocol) + 32 : 0) + 1;
    extra = mem_alloc(room);
    if (subprotocol)
      n = (size_t)snprintf(extra, room, "Sec-WebSocket-Protocol: %s\r\n", subprotocol);
    if (headers_len) memcpy(extra + n, headers, headers_len);
    n += headers_len;
  }
  p->is_opening = false;
  p->is_accepted = true;
  worker_set_reachable(conn->worker, conn, true);
  p->queued = NULL; /* and no transfer: a file's answer and a handshake exclude each other */
  p->opened = (uint32_t)(worker_now(conn->worker) / 1000);
  p->head = copy_head(conn, r, &p->head_len);
  ws_accept(conn, &c->ws, extra, n);
  free(extra);
  linspect_opened(conn);
  /* who was let in while the server stops is told so like all others */
  if (conn->worker->is_draining) ws_close(conn, WS_GOING_AWAY, "server is stopping", 18);
}

/* The handshake is answered with something else than 101, or will not be answered. */
static void stop_opening(struct conn *conn) {
  peer_of(conn)->is_opening = false;
  worker_set_reachable(conn->worker, conn, false);
}

struct hook {
  struct consumer *consumer;
  uint64_t conn;
  const uint8_t *data; /* receive: borrowed until the body has run */
  size_t len;
  size_t held; /* receive: bytes, counted */
  bool is_binary;
  unsigned code; /* disconnect */
  char *reason;  /* owned */
  char *head;    /* owned */
  size_t head_len;
};
_Static_assert(sizeof(struct hook) <= TASK_DATA, "a hook fits into its task");

static struct hook *hook_of(struct task *t) {
  return (struct hook *)t->data;
}

/* Hooks may wait, so they are called with a continuation. */
static int hook_ended(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 0;
}

static int connect_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct hook *hook = hook_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.connect);
  lua_rawgeti(L, LUA_REGISTRYINDEX, hook->consumer->record);
  lua_pushinteger(L, (lua_Integer)hook->conn);
  lua_callk(L, 2, 0, 0, hook_ended);
  return 0;
}

static int connect_failed_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct hook *hook = hook_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.connect_failed);
  lua_rawgeti(L, LUA_REGISTRYINDEX, hook->consumer->record);
  lua_pushinteger(L, (lua_Integer)hook->conn);
  task_failure(L, t);
  lua_callk(L, 4, 0, 0, hook_ended);
  return 0;
}

static void connect_failed(struct task *t) {
  lua_pushcfunction(t->co, connect_failed_body);
  lua_pushlightuserdata(t->co, t);
}

/* The connect hook is over; whoever it did not answer gets an error. */
static void connect_released(struct task *t) {
  hook_of(t)->consumer->users--;
  struct conn *conn = worker_conn(&t->host->worker, hook_of(t)->conn);
  if (!conn || !conn_is_open(conn) || !peer_of(conn)->is_opening) return;
  stop_opening(conn);
  refuse(conn, 500, NULL);
}

static double connect_limit(lua_State *L, struct task *t) {
  (void)L;
  (void)t;
  return CONNECT_SECONDS;
}

static const struct task_kind connect_kind = {.name = "connect",
                                              .has_client = true,
                                              .limit = connect_limit,
                                              .failed = connect_failed,
                                              .released = connect_released};

static int receive_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct hook *hook = hook_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.receive);
  lua_rawgeti(L, LUA_REGISTRYINDEX, hook->consumer->record);
  lua_pushinteger(L, (lua_Integer)hook->conn);
  lua_pushlstring(L, (const char *)hook->data, hook->len);
  lua_pushboolean(L, hook->is_binary);
  lua_callk(L, 4, 0, 0, hook_ended);
  return 0;
}

static void receive_waits(struct task *t) {
  struct hook *hook = hook_of(t);
  hook->held = hook->len;
  held_add(t->host, hook->conn, hook->held);
}

static void receive_released(struct task *t) {
  hook_of(t)->consumer->users--;
  held_drop(t->host, hook_of(t)->conn, hook_of(t)->held);
  struct conn *conn = worker_conn(&t->host->worker, hook_of(t)->conn);
  if (!conn) return;
  peer_of(conn)->calls--;
  dispatch_released(conn);
}

static const struct task_kind receive_kind = {
    .name = "receive", .has_client = true, .waits = receive_waits, .released = receive_released};

static int disconnect_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct hook *hook = hook_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.disconnect);
  lua_rawgeti(L, LUA_REGISTRYINDEX, hook->consumer->record);
  lua_pushinteger(L, (lua_Integer)hook->conn);
  lua_pushinteger(L, hook->code);
  lua_pushstring(L, hook->reason);
  lua_pushlstring(L, hook->head, hook->head_len);
  lua_callk(L, 5, 0, 0, hook_ended);
  return 0;
}

static void disconnect_released(struct task *t) {
  hook_of(t)->consumer->users--;
  free(hook_of(t)->reason);
  free(hook_of(t)->head);
  t->host->n_farewells--;
}

static const struct task_kind disconnect_kind = {.name = "disconnect",
                                                 .released = disconnect_released};

static void begin_disconnect(struct host *h, struct conn *conn, unsigned code, const char *reason,
                             size_t n) {
  struct peer *p = peer_of(conn);
  struct task *t = task_begin(h, &disconnect_kind);
  if (!t) {
    log_say(LOG_ERROR, "no memory in Lua for a disconnect hook");
    return;
  }
  struct hook *hook = hook_of(t);
  p->consumer->users++;
  *hook = (struct hook){.consumer = p->consumer,
                        .conn = conn_id(conn),
                        .code = code,
                        .reason = mem_alloc(n + 1),
                        .head = p->head,
                        .head_len = p->head_len};
  memcpy(hook->reason, reason, n);
  hook->reason[n] = '\0';
  p->head = NULL;
  task_names(t, p->consumer->path, conn_id(conn));
  h->n_farewells++;
  task_run_soon(t, disconnect_body); /* we may be inside a handler that closed its connection */
}

/* ---- HTTP handler ---------------------------------------------------------------------------- */

static void begin_connect(struct host *h, struct conn *conn) {
  struct peer *p = peer_of(conn);
  struct task *t = task_begin(h, &connect_kind);
  p->is_opening = true;
  worker_set_reachable(&h->worker, conn, true);
  ws_expect(conn);
  if (!t) {
    stop_opening(conn);
    refuse(conn, 503, "out of memory");
    return;
  }
  p->consumer->users++;
  *hook_of(t) = (struct hook){.consumer = p->consumer, .conn = conn_id(conn)};
  task_names(t, p->consumer->path, conn_id(conn));
  task_run(t, connect_body);
}

static void on_request(struct conn *conn, const struct http_request *r) {
  struct host *h = host_of_conn(conn);
  struct peer *p = peer_of(conn);
  if (!p->consumer) return; /* a folder's file is on its way */
  if (p->is_plain) {
    web_request(h, conn, r);
    return;
  }
  if (handshake_is_wanted(r)) {
    if (p->consumer->has_connect || h->watches_conns)
      begin_connect(h, conn);
    else
      accept_handshake(conn, NULL, NULL, 0);
    return;
  }
  call_message(h, conn, (const char *)r->body, r->body_len, true,
               !utf8_is_valid(r->body, r->body_len));
}

static void on_gone(struct conn *conn) {
  struct peer *p = peer_of(conn);
  stop_opening(conn);
  drop_answer_lines(p);
  ws_forget(conn);
  groups_leave_all(&host_of_conn(conn)->groups, conn); /* a connect hook may have joined some */
  if (p->transfer) files_abandon(p->transfer);
}

static void on_drained(struct conn *conn) {
  struct peer *p = peer_of(conn);
  if (p->transfer) files_drained(p->transfer);
}

const struct http_handler dispatch_http = {
    .head = on_head,
    .request = on_request,
    .gone = on_gone,
    .drained = on_drained,
};

/* ---- WebSocket handler ----------------------------------------------------------------------- */

void dispatch_turn_away(struct conn *conn) {
  static const char why[] = "what is in flight holds too much memory";
  if (conn) ws_close(conn, WS_TRY_AGAIN, why, sizeof why - 1);
}

static void begin_receive(struct host *h, struct conn *conn, bool is_binary, const uint8_t *data,
                          size_t n) {
  struct peer *p = peer_of(conn);
  if (held_refuses(h, n)) {
    dispatch_turn_away(conn);
    return;
  }
  struct task *t = task_begin(h, &receive_kind);
  uint64_t id = conn_id(conn);
  if (!t) {
    ws_close(conn, WS_TRY_AGAIN, "out of memory", 13);
    return;
  }
  p->consumer->users++;
  *hook_of(t) = (struct hook){
      .consumer = p->consumer, .conn = id, .data = data, .len = n, .is_binary = is_binary};
  task_names(t, p->consumer->path, id);
  p->calls++;
  task_run(t, receive_body);
  conn = worker_conn(&h->worker, id);
  if (conn) call_weigh(conn);
}

static void deliver(struct conn *conn, bool is_binary, const uint8_t *data, size_t n) {
  struct host *h = host_of_conn(conn);
  const struct consumer *c = peer_of(conn)->consumer;
  if (!is_binary && !c->is_raw) {
    call_message(h, conn, (const char *)data, n, false, false);
  } else if (c->has_receive) {
    begin_receive(h, conn, is_binary, data, n);
  } else {
    static const char why[] = "only text messages are understood here";
    static struct log_limit limit = LOG_LIMIT(20);
    struct log_line l;
    metric_add(&h->worker.metrics.messages_unsupported, 1);
    if (log_begin_limited(&l, &limit, log_quiet(), "binary message refused")) {
      log_hex(&l, "conn", conn_id(conn));
      log_str(&l, "path", c->path);
      log_end(&l);
    }
    ws_close(conn, WS_UNSUPPORTED, why, sizeof why - 1);
  }
}

/* ---- strict ordering ------------------------------------------------------------------------- */

/* A message that waits until the connection's calls before it have ended. */
struct queued {
  struct queued *next;
  bool is_binary;
  uint32_t len;
  uint8_t data[];
};

static void enqueue(struct conn *conn, bool is_binary, const uint8_t *data, size_t n) {
  struct peer *p = peer_of(conn);
  struct queued *q = mem_alloc(sizeof *q + n);
  q->next = NULL;
  q->is_binary = is_binary;
  q->len = (uint32_t)n;
  if (n) memcpy(q->data, data, n);
  struct queued **end = &p->queued;
  while (*end) end = &(*end)->next; /* a handful: limits.calls bounds it */
  *end = q;
  p->n_queued++;
  p->queued_bytes += n;
  call_weigh(conn);
}

static void drop_queued(struct peer *p) {
  while (p->queued) {
    struct queued *q = p->queued;
    p->queued = q->next;
    free(q);
  }
  p->n_queued = 0;
  p->queued_bytes = 0;
}

/* What is meant for the call that runs must not queue behind it: the client's answer to a call of
 * ours, and a request to end one of its own. */
static bool is_for_running(struct host *h, const uint8_t *data, size_t n) {
  static const char cancel[] = "\"$/cancelRequest\"";
  struct envelope e;
  envelope_read(&e, (const char *)data, n, &h->scratch);
  if (!(e.bits & (ENV_METHOD | ENV_METHOD_BAD))) return e.bits & (ENV_RESULT | ENV_ERROR);
  return !(e.bits & (ENV_ID | ENV_ID_NULL)) && e.method.len == sizeof cancel - 1 &&
         memcmp(e.method.at, cancel, e.method.len) == 0;
}

static void list(struct conn_list *l, uint64_t id) {
  if (l->n == l->cap) {
    l->cap = l->cap ? l->cap * 2 : 16;
    l->ids = mem_realloc(l->ids, l->cap * sizeof *l->ids);
  }
  l->ids[l->n++] = id;
}

/* Its queue is looked at in the next turn. */
static void release(struct conn *conn) {
  struct peer *p = peer_of(conn);
  if (p->is_released) return;
  p->is_released = true;
  list(&host_of_conn(conn)->released, conn_id(conn));
}

/* What is left in its queue is for when others had their turn. */
static void put_off(struct conn *conn) {
  peer_of(conn)->is_released = true;
  list(&host_of_conn(conn)->put_off, conn_id(conn));
}

/* Delivers what is queued until something has to wait, or the connection has had its share: each
 * message is charged to it, the last one as well. */
static void deliver_queued(struct host *h, uint64_t id) {
  struct turn *turn = &h->worker.turn;
  struct conn *conn;
  bool may_go_on = true;
  while ((conn = worker_conn(&h->worker, id)) && ws_is_open(conn)) {
    struct peer *p = peer_of(conn);
    struct queued *q = p->queued;
    p->is_released = q && !peer_is_busy(p);
    if (!p->is_released) break; /* whoever makes it free releases it */
    if (!may_go_on) {
      metric_add(&h->worker.metrics.turns_cut, 1);
      put_off(conn);
      break;
    }
    p->queued = q->next;
    p->n_queued--;
    p->queued_bytes -= q->len;
    deliver(conn, q->is_binary, q->data, q->len);
    free(q);
    conn = worker_conn(&h->worker, id);
    if (conn) may_go_on = turn_charge(turn, &conn->share);
  }
  if (conn) call_weigh(conn);
}

/* All of them together get no more of a turn than one connection does. Those that are left come
 * before those that are listed meanwhile, or one that is listed again and again would keep the
 * others waiting. */
static void deliver_listed(struct host *h, struct conn_list *l) {
  struct turn *turn = &h->worker.turn;
  struct conn_list all = *l;
  uint64_t began = turn_clock();
  uint32_t i = 0;
  *l = (struct conn_list){0};
  for (turn->looked = began; i < all.n && turn->looked - began < turn->most; i++) {
    struct conn *conn = worker_conn(&h->worker, all.ids[i]);
    if (!conn) continue;
    if (turn_is_over(turn, &conn->share))
      put_off(conn);
    else
      deliver_queued(h, all.ids[i]);
    turn_look(turn);
  }
  uint32_t left = all.n - i;
  memmove(all.ids, all.ids + i, left * sizeof *all.ids);
  all.n = left;
  for (i = 0; i < l->n; i++) list(&all, l->ids[i]);
  free(l->ids);
  *l = all;
}

void dispatch_turn(struct host *h) {
  if (h->put_off.n && h->worker.turn.is_late) deliver_listed(h, &h->put_off);
  if (h->released.n) deliver_listed(h, &h->released);
  if (h->put_off.n) h->worker.turn.has_late = true;
  if (h->released.n) worker_hurry(&h->worker);
}

void dispatch_released(struct conn *conn) {
  struct peer *p = peer_of(conn);
  if (!ws_is_open(conn)) return;
  if (p->queued && !peer_is_busy(p)) {
    release(conn);
    worker_hurry(conn->worker);
  } else if (p->is_leaving && !peer_is_busy(p)) {
    const char *why = consumer_farewell(p->consumer);
    ws_close(conn, WS_GOING_AWAY, why, strlen(why));
    return;
  }
  if (conn->pauses & PAUSE_CALLS) call_weigh(conn); /* there is less than there was */
}

static void on_message(struct conn *conn, bool is_binary, uint8_t *data, size_t n) {
  struct host *h = host_of_conn(conn);
  struct peer *p = peer_of(conn);
  bool must_wait = p->consumer->is_strict && (peer_is_busy(p) || p->queued);
  if (must_wait && (is_binary || !is_for_running(h, data, n)))
    enqueue(conn, is_binary, data, n);
  else
    deliver(conn, is_binary, data, n);
}

static void on_ws_closed(struct conn *conn, unsigned code, const char *reason, size_t n) {
  struct host *h = host_of_conn(conn);
  struct peer *p = peer_of(conn);
  linspect_closed(conn, code, reason, n);
  groups_leave_all(&h->groups, conn);
  worker_set_reachable(&h->worker, conn, false);
  drop_queued(p);
  if (p->is_known || p->consumer->has_disconnect || h->watches_conns)
    begin_disconnect(h, conn, code, reason, n);
  free(p->head);
  p->head = NULL;
}

static void on_drain(struct conn *conn) {
  struct peer *p = peer_of(conn);
  if (peer_is_busy(p) || p->queued) /* what was put off is in the queue alone */
    p->is_leaving = true;
  else
    ws_close(conn, WS_GOING_AWAY, "server is stopping", 18);
}

const struct ws_handler dispatch_ws = {
    .message = on_message,
    .closed = on_ws_closed,
    .drain = on_drain,
};

/* ---- for Lua --------------------------------------------------------------------------------- */

static struct conn *conn_arg(lua_State *L, int index) {
  struct conn *conn = worker_conn(&host_of(L)->worker, (uint64_t)luaL_checkinteger(L, index));
  return conn && conn_is_open(conn) ? conn : NULL;
}

int l_accept(lua_State *L) {
  struct conn *conn = conn_arg(L, 1);
  const char *subprotocol = luaL_optstring(L, 2, NULL);
  size_t n = 0;
  const char *headers = luaL_optlstring(L, 3, "", &n);
  bool is_opening = conn && peer_of(conn)->is_opening;
  if (is_opening) accept_handshake(conn, subprotocol, headers, n);
  lua_pushboolean(L, is_opening);
  return 1;
}

int l_reject(lua_State *L) {
  struct conn *conn = conn_arg(L, 1);
  lua_Integer status = luaL_checkinteger(L, 2);
  const char *body = luaL_optstring(L, 3, "");
  size_t n = 0;
  const char *headers = luaL_optlstring(L, 4, "", &n);
  luaL_argcheck(L, status >= 300 && status <= 599, 2, "an HTTP status from 300 to 599");
  bool is_opening = conn && peer_of(conn)->is_opening;
  if (is_opening) {
    struct http_answer answer = {
        .status = (unsigned)status, PLAIN_TEXT, .extra = headers, .extra_len = n, .is_last = true};
    stop_opening(conn);
    ws_forget(conn);
    http_refused(conn, (unsigned)status, "the app's connect hook");
    http_answer_text(conn, &answer, body);
  }
  lua_pushboolean(L, is_opening);
  return 1;
}

int l_answer_lines(lua_State *L) {
  struct conn *conn = conn_arg(L, 1);
  size_t n;
  const char *lines = luaL_checklstring(L, 2, &n);
  luaL_argcheck(L, n <= OWN_LINES_MAX && strlen(lines) == n, 2,
                "header lines of at most 800 bytes");
  bool is_awaited = conn && http_request_of(conn);
  if (is_awaited) {
    drop_answer_lines(peer_of(conn));
    if (n) peer_of(conn)->answer_lines = mem_strdup(lines);
  }
  lua_pushboolean(L, is_awaited);
  return 1;
}

int l_head(lua_State *L) {
  struct conn *conn = conn_arg(L, 1);
  if (!conn) return 0;
  struct peer *p = peer_of(conn);
  if (p->head) {
    lua_pushlstring(L, p->head, p->head_len);
    return 1;
  }
  const struct http_request *r = http_request_of(conn);
  if (!r || !r->base) return 0;
  char line[CLIENT_LINE_MAX];
  size_t n = client_line(conn, r, line);
  lua_pushlstring(L, line, n);
  lua_pushlstring(L, r->base, r->head_len);
  lua_concat(L, 2);
  return 1;
}

int l_watch_conns(lua_State *L) {
  host_of(L)->watches_conns = lua_toboolean(L, 1);
  return 0;
}

int l_touch(lua_State *L) {
  struct conn *conn = conn_arg(L, 1);
  bool is_alive = conn && (ws_is_open(conn) || peer_of(conn)->is_opening);
  if (is_alive) peer_of(conn)->is_known = true;
  lua_pushboolean(L, is_alive);
  return 1;
}
