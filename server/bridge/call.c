/* SPDX-License-Identifier: MIT */
/* call.c -- one JSON-RPC call, from its text to its answer; and batches of them.
 *
 *   text ─▶ envelope_read ─▶ rpc.call(record, conn, task, method, params, id, bits[, detail])
 *                                │ returns value, style, status          │ raises
 *                                ▼                                       ▼
 *                            answer ◀── rpc.unencodable            rpc.failed ─▶ answer
 *
 * rpc.lua decides what is said; this file only says it, to a WebSocket, an HTTP request or a place
 * in a batch. */
#include "bridge/call.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/dispatch.h"
#include "bridge/held.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "net/http_conn.h"
#include "net/ws_conn.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  BATCH_AT_ONCE = 16, /* members of one batch that run at the same time */
  BRACKETS = 2,       /* around the answers of a batch */
  ON_PEER_FACTOR = 4, /* calls that wait for the client may be this many times the limit */
  DETAIL = ENV_MALFORMED | ENV_OVER_LIMIT | ENV_OUT_OF_RANGE | ENV_RESULT | ENV_ERROR,
};

const char *const media_types[MEDIA_TYPES] = {"application/json", "application/json-rpc",
                                              "application/jsonrequest"};

struct batch {
  struct host *host;
  struct batch *next_late; /* host's list */
  struct consumer *consumer;
  uint64_t conn;
  char *text;                    /* owned: members read from it when their turn comes */
  struct envelope_span *members; /* owned; point into text */
  struct envelope_span *answers; /* owned, and what they point at: malloc'd or NULL */
  uint32_t n, begun, ended;
  size_t bytes; /* of its answers so far, each with the comma behind it */
  size_t held;  /* bytes of text and answers, counted */
  bool is_http;
  bool is_pumping; /* members may end while another is being begun */
  bool is_late;    /* in host's list: goes on in the next turn */
};

struct call {
  struct consumer *consumer;
  struct batch *batch; /* NULL: answered by itself */
  uint64_t conn;
  const char *text; /* borrowed until the call waits; a batch's until the batch ends */
  size_t text_len;
  const char *id; /* the id's own bytes, in text or id_copy */
  char *id_copy;  /* owned */
  uint32_t id_len;
  uint32_t bits; /* ENV_HTTP, ENV_BATCH, then all of the envelope */
  uint32_t member;
  size_t weight;       /* bytes that it holds while it waits, by estimate */
  const char *refusal; /* why there is no message to read: static word for rpc.refuse */
  const char *refusal_text;
  lua_Integer refusal_number;
  bool is_answered;
  bool is_late; /* ran over its time and did not end */
};
_Static_assert(sizeof(struct call) <= TASK_DATA, "a call fits into its task");

static const struct task_kind kind;
static void batch_end_member(struct batch *b);

static void batch_hold(struct batch *b, size_t bytes) {
  b->held += bytes;
  held_add(b->host, b->conn, bytes);
}

static struct call *call_of(struct task *t) {
  return (struct call *)t->data;
}

/* ---- answers --------------------------------------------------------------------------------- */

static const char internal_error[] = "{\"code\":-32603,\"message\":\"Internal error\"}";
static const char too_long[] = "longer than output_hard: return less at a time, or raise it";
static const char batch_too_long[] = "with the other answers of its batch longer than output_hard: "
                                     "ask for less in one batch, or raise it";

struct answer {
  enum envelope_style style;
  bool is_raw;     /* the value is JSON text, made by an app's codec */
  int value;       /* stack index */
  unsigned status; /* HTTP, when the consumer maps codes to statuses; 0: 200 */
};

static size_t answer_lines(struct conn *conn, char out[static CORS_LINES_MAX + OWN_LINES_MAX]) {
  size_t n = dispatch_cors(conn, out);
  return n + dispatch_own_lines(conn, out + n);
}

static void http_answer_call(struct conn *conn, unsigned status, struct slice body) {
  const char *type = media_types[peer_of(conn)->media_type];
  char lines[CORS_LINES_MAX + OWN_LINES_MAX];
  struct http_answer answer = {.status = status ? status : 200,
                               .type = type,
                               .type_len = strlen(type),
                               .extra = lines,
                               .extra_len = answer_lines(conn, lines)};
  http_answer(conn, &answer, body);
}

static void http_answer_nothing(struct conn *conn) {
  char lines[CORS_LINES_MAX + OWN_LINES_MAX];
  struct http_answer answer = {
      .status = 204, .extra = lines, .extra_len = answer_lines(conn, lines)};
  http_answer_text(conn, &answer, NULL);
}

/* The connection, if it still wants this answer. */
static struct conn *asker(struct host *h, uint64_t id, bool is_http) {
  struct conn *conn = worker_conn(&h->worker, id);
  if (!conn || !conn_is_open(conn)) return NULL;
  return is_http || ws_is_open(conn) ? conn : NULL;
}

/* An error object with its members in the order people read them. */
static bool write_error(lua_State *L, struct json_writer *w, int error) {
  static const char *const members[] = {"code", "message", "data"};
  for (int i = 0; i < 3; i++) {
    if (lua_getfield(L, error, members[i]) == LUA_TNIL && i == 2) break;
    builder_text(w->out, i == 0 ? "{\"code\":" : i == 1 ? ",\"message\":" : ",\"data\":");
    if (!json_write(L, w, lua_gettop(L))) {
      json_path_key(w->path, &w->path_at, members[i], strlen(members[i]));
      return false;
    }
  }
  builder_byte(w->out, '}');
  return true;
}

static bool write_answer(lua_State *L, struct builder *b, const struct call *c,
                         const struct answer *a, struct json_writer *w) {
  envelope_open(b, a->style);
  json_writer_init(w, b, host_of(L)->array_mt);
  w->slice = &host_of(L)->slice;
  bool is_error = a->style == ENV_ERROR_1 || a->style == ENV_ERROR_2;
  bool is_written = is_error    ? write_error(L, w, a->value)
                    : a->is_raw ? json_write_raw(L, w, &host_of(L)->scratch, a->value)
                                : json_write(L, w, a->value);
  envelope_close(b, a->style, c->id, c->id_len);
  return is_written;
}

/* Bytes that the frame in progress will have, its head included. */
static size_t frame_bytes(const struct builder *b) {
  size_t n = ws_frame_len(b);
  return n + ws_head_len(n);
}

/* Holds the answer in progress against output_hard. False when it could not be sent: it is thrown
 * away, and w says why. */
static bool fits_output(struct host *h, struct builder *b, const struct call *c,
                        struct json_writer *w) {
  const struct conn_limits *limits = &h->settings->conn;
  bool is_frame = !(c->bits & ENV_HTTP) && !c->batch;
  size_t n = is_frame ? frame_bytes(b) : builder_len(b);
  size_t most = is_frame ? limits->output_hard : conn_answer_max(limits);
  if (c->batch) n += BRACKETS;
  bool is_alone = !b->is_failed && n <= most;
  if (is_alone && (!c->batch || c->batch->bytes + n <= most)) return true;
  builder_abort(b);
  json_writer_init(w, b, h->array_mt);
  w->error = is_alone ? batch_too_long : too_long;
  return false;
}

static void keep_for_batch(struct call *c, struct slice slice) {
  struct batch *b = c->batch;
  b->answers[c->member] = (struct envelope_span){mem_dup(slice_data(&slice), slice.len), slice.len};
  b->bytes += slice.len + 1;
  batch_hold(b, slice.len);
}

/* False when the value has no form in JSON or is too long: w says why, nothing was sent. */
static bool send_answer(lua_State *L, struct call *c, const struct answer *a,
                        struct json_writer *w) {
  struct host *h = host_of(L);
  struct builder *b = &h->worker.out;
  bool is_http = c->bits & ENV_HTTP;
  struct slice slice;
  if (a->style == ENV_ERROR_2 || a->style == ENV_ERROR_1)
    metric_add(&h->worker.metrics.call_errors, 1);
  struct conn *conn = asker(h, c->conn, is_http);
  if (!conn) return true;
  if (a->style == ENV_SILENT) {
    if (is_http && !c->batch) http_answer_nothing(conn);
    return true;
  }
  if (!is_http && !c->batch)
    ws_frame_begin(b);
  else
    builder_begin(b);
  if (!write_answer(L, b, c, a, w)) {
    builder_abort(b);
    return false;
  }
  if (!fits_output(h, b, c, w)) return false;
  if (!is_http && !c->batch) {
    ws_frame_end(b, WS_TEXT, &slice);
    ws_send_frame(conn, slice);
    return true;
  }
  builder_commit(b, &slice);
  if (c->batch)
    keep_for_batch(c, slice);
  else
    http_answer_call(conn, a->status, slice);
  return true;
}

/* What perigee.rpc knows as well: nobody waits for an answer to this. */
static bool is_notification(uint32_t bits) {
  if (!(bits & ENV_METHOD)) return false;
  return !(bits & (ENV_ID | ENV_ID_BAD)) && !(bits & ENV_VERSION_2 && bits & ENV_ID_NULL);
}

/* The last word when Lua cannot help: no memory, or an error in the error path. seconds: of the
 * limit that the call ran over, or 0. */
static void send_last_word(struct host *h, struct call *c, double seconds) {
  char value[96];
  bool is_v1 = c->bits & ENV_METHOD && !(c->bits & (ENV_VERSION_2 | ENV_VERSION_OTHER | ENV_BATCH));
  enum envelope_style style = is_v1 ? ENV_ERROR_1 : ENV_ERROR_2;
  struct conn *conn = asker(h, c->conn, c->bits & ENV_HTTP);
  struct builder *b = &h->worker.out;
  struct slice slice;
  bool is_frame = !(c->bits & ENV_HTTP) && !c->batch;
  if (!conn || c->is_answered) return;
  c->is_answered = true;
  if (is_notification(c->bits)) {
    if (c->bits & ENV_HTTP && !c->batch) http_answer_nothing(conn);
    return;
  }
  snprintf(value, sizeof value, "%s", internal_error);
  if (seconds > 0)
    snprintf(value, sizeof value,
             "{\"code\":-32002,\"message\":\"Timeout\",\"data\":{\"timeout\":%g}}", seconds);
  if (is_frame)
    ws_frame_begin(b);
  else
    builder_begin(b);
  envelope_open(b, style);
  builder_text(b, value);
  envelope_close(b, style, c->id, c->id_len);
  if (is_frame) {
    if (ws_frame_end(b, WS_TEXT, &slice)) ws_send_frame(conn, slice);
  } else if (builder_commit(b, &slice)) {
    if (c->batch)
      keep_for_batch(c, slice);
    else
      http_answer_call(conn, c->consumer->is_http_mapped ? 500 : 200, slice);
  }
}

/* ---- in the coroutine ------------------------------------------------------------------------ */

/* Stack: ... value, style, status: what rpc.lua returned. */
static void read_answer(lua_State *L, struct answer *a) {
  int top = lua_gettop(L);
  a->value = top - 2;
  lua_Integer style = lua_isnil(L, top - 1) ? ENV_RESULT_2 : lua_tointeger(L, top - 1);
  a->style = (enum envelope_style)(style & ~ENV_RAW);
  a->is_raw = style & ENV_RAW;
  a->status = (unsigned)lua_tointeger(L, top);
}

static int say(lua_State *L, int status, lua_KContext ctx);

static int say_unencodable(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  struct task *t = (struct task *)ctx;
  struct call *c = call_of(t);
  struct json_writer w;
  struct answer a;
  read_answer(L, &a);
  if (send_answer(L, c, &a, &w)) {
    c->is_answered = true;
    return 0;
  }
  static struct log_limit limit = LOG_LIMIT(10);
  struct log_line l;
  if (log_begin_limited(&l, &limit, LOG_ERROR, "an answer cannot be encoded")) {
    log_str(&l, "path", c->consumer->path);
    log_str(&l, "what", w.error);
    log_str(&l, "at", w.path + w.path_at);
    log_end(&l);
  }
  send_last_word(t->host, c, 0);
  return 0;
}

/* The handler has caught the error that should have ended it: what it returns comes too late. */
static int say_late(lua_State *L, struct task *t) {
  struct call *c = call_of(t);
  c->is_late = true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.late);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->consumer->record);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushinteger(L, c->bits);
  lua_pushinteger(L, t->stop);
  lua_pushnumber(L, t->stop_seconds);
  task_forgive(t);
  lua_callk(L, 5, 3, (lua_KContext)t, say);
  return say(L, LUA_OK, (lua_KContext)t);
}

static int say(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  struct task *t = (struct task *)ctx;
  struct call *c = call_of(t);
  struct json_writer w;
  struct answer a;
  if (c->is_answered) return 0; /* what failed had nobody waiting for it */
  if (t->stop != STOP_NOT && !t->is_failing && !c->is_late) return say_late(L, t);
  read_answer(L, &a);
  if (send_answer(L, c, &a, &w)) {
    c->is_answered = true;
    return 0;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.unencodable);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->consumer->record);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushinteger(L, c->bits);
  lua_pushvalue(L, a.value);
  lua_pushinteger(L, (lua_Integer)a.style);
  lua_pushstring(L, w.error);
  if (w.error == too_long || w.error == batch_too_long)
    lua_pushnil(L);
  else
    lua_pushstring(L, w.path + w.path_at);
  lua_callk(L, 7, 3, ctx, say_unencodable);
  return say_unencodable(L, LUA_OK, ctx);
}

/* Pushes what rpc.lua needs to know beyond the bits, as a table. */
static void push_detail(lua_State *L, struct host *h, const struct call *c,
                        const struct envelope *e) {
  const struct json_limits limits = {.values = c->consumer->limits.params.values};
  const struct json_reader *r = &e->reader;
  lua_createtable(L, 0, 4);
  int detail = lua_gettop(L);
  if (e->bits & ENV_MALFORMED) {
    lua_pushstring(L, r->error);
    lua_setfield(L, detail, "error");
    lua_pushinteger(L, (lua_Integer)(r->at - r->start));
    lua_setfield(L, detail, "at");
    return;
  }
  if (e->bits & (ENV_OVER_LIMIT | ENV_OUT_OF_RANGE) && r->path[r->path_at]) {
    lua_pushstring(L, r->path + r->path_at);
    lua_setfield(L, detail, "path");
  }
  if (e->bits & ENV_OVER_LIMIT) {
    lua_pushstring(L, r->limit);
    lua_setfield(L, detail, "limit");
    lua_pushinteger(L, r->max);
    lua_setfield(L, detail, "max");
  }
  for (int i = 0; i < 2; i++) { /* the client's answer to a call of ours */
    const struct envelope_span *span = i ? &e->error : &e->result;
    struct json_reader reader;
    if (span->len == 0) continue;
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->array_mt_ref);
    json_reader_init(&reader, span->at, span->len, &limits, &h->scratch, lua_gettop(L));
    switch (json_read(L, &reader)) {
    case JSON_OK: lua_setfield(L, detail, i ? "failure" : "result"); break;
    case JSON_RANGE:
      lua_pushliteral(L, "a number beyond 64 bits");
      lua_setfield(L, detail, "unreadable");
      break;
    default:
      lua_pushfstring(L, reader.limit ? "it is over the limit of %s" : "%s",
                      reader.limit ? reader.limit : reader.error);
      lua_setfield(L, detail, "unreadable");
    }
    lua_settop(L, detail);
  }
}

static int received(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  return task_raised(status) ? task_raise(L, status) : 0;
}

static int called(lua_State *L, int status, lua_KContext ctx) {
  return task_raised(status) ? task_raise(L, status) : say(L, status, ctx);
}

/* An app that speaks more than JSON-RPC gets what is not JSON. */
static int receive_instead(lua_State *L, struct task *t) {
  struct call *c = call_of(t);
  c->is_answered = true;
  if (held_refuses(t->host, c->text_len)) {
    dispatch_turn_away(worker_conn(&t->host->worker, c->conn));
    return 0;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.receive);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->consumer->record);
  lua_pushinteger(L, (lua_Integer)c->conn);
  lua_pushlstring(L, c->text, c->text_len);
  lua_pushboolean(L, 0);
  return task_callk(L, 4, 0, 0, received);
}

static int call_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct host *h = t->host;
  struct call *c = call_of(t);
  struct envelope e;
  enum { MT = 1 };
  int n_args = 7; /* record, conn, task, bits, and what envelope_push pushes: method, params, id */
  envelope_read(&e, c->text, c->text_len, &h->scratch);
  c->bits |= e.bits;
  c->id = e.id.at;
  c->id_len = e.id.len;
  if (c->bits & ENV_MALFORMED && c->consumer->has_receive && !(c->bits & ENV_HTTP))
    return receive_instead(L, t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->array_mt_ref);
  lua_replace(L, MT);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->entries.call);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->consumer->record);
  lua_pushinteger(L, (lua_Integer)c->conn);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  if (c->bits & ENV_METHOD && held_refuses_json(h, c->text, c->text_len)) {
    c->bits |= ENV_BUSY;
    e.params.len = 0;
  }
  envelope_push(L, &e, &c->consumer->limits.params, MT);
  c->bits |= e.bits;
  lua_pushinteger(L, c->bits);
  if (c->bits & DETAIL) {
    if (c->bits & ENV_MALFORMED) metric_add(&h->worker.metrics.messages_malformed, 1);
    if (c->bits & ENV_OVER_LIMIT) metric_add(&h->worker.metrics.limits_exceeded, 1);
    push_detail(L, h, c, &e);
    n_args++;
  }
  return task_callk(L, n_args, 3, (lua_KContext)t, called);
}

static int refuse_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct call *c = call_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.refuse);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->consumer->record);
  lua_pushinteger(L, (lua_Integer)c->conn);
  lua_pushinteger(L, c->bits);
  lua_pushstring(L, c->refusal);
  lua_pushstring(L, c->refusal_text);
  lua_pushinteger(L, c->refusal_number);
  lua_callk(L, 6, 3, (lua_KContext)t, say);
  return say(L, LUA_OK, (lua_KContext)t);
}

static int failed_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct call *c = call_of(t);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.failed);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->consumer->record);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_pushinteger(L, c->bits);
  task_failure(L, t);
  lua_callk(L, 5, 3, (lua_KContext)t, say);
  return say(L, LUA_OK, (lua_KContext)t);
}

/* ---- how many at once ------------------------------------------------------------------------ */

void call_weigh(struct conn *conn) {
  if (!ws_is_open(conn)) return; /* or the peer's close frame would not be read */
  struct peer *p = peer_of(conn);
  const struct consumer *c = p->consumer;
  uint32_t most = c->limits.calls, held = p->calls + p->n_queued;
  /* Calls that wait for the client cannot end while it is not read: they do not count, up to a
   * point, or a client that never answers could pile them up. Hooks, events and spawned functions
   * wait for it too, and are no calls: on_peer may be more than held. */
  uint32_t busy = held > p->on_peer ? held - p->on_peer : 0;
  uint64_t factor = p->on_peer ? ON_PEER_FACTOR : 1;
  if (busy >= most || held >= most * factor || p->queued_bytes > c->ws.message * factor ||
      held_is_full(conn, factor)) {
    if (!(conn->pauses & PAUSE_CALLS)) metric_add(&conn->worker->metrics.call_pauses, 1);
    conn_pause(conn, PAUSE_CALLS);
  } else {
    conn_resume(conn, PAUSE_CALLS);
  }
}

void call_on_peer(struct conn *conn, int change) {
  struct peer *p = peer_of(conn);
  p->on_peer = (uint32_t)((int)p->on_peer + change);
  call_weigh(conn);
}

/* ---- the task -------------------------------------------------------------------------------- */

static void call_waits(struct task *t) {
  struct call *c = call_of(t);
  if (c->text) {
    /* what is no JSON is with `receive`, as a string */
    c->weight = c->bits & ENV_MALFORMED ? c->text_len : held_weight(c->text, c->text_len);
    held_add(t->host, c->conn, c->weight);
  }
  c->text = NULL;
  if (c->batch || c->id_len == 0) return;
  c->id = c->id_copy = mem_dup(c->id, c->id_len);
}

static double call_limit(lua_State *L, struct task *t) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->host->entries.limit);
  lua_pushinteger(L, (lua_Integer)task_id(t));
  lua_call(L, 1, 1);
  double seconds = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return seconds;
}

static void call_failed(struct task *t) {
  lua_pushcfunction(t->co, failed_body);
  lua_pushlightuserdata(t->co, t);
}

static void call_gave_up(struct task *t) {
  send_last_word(t->host, call_of(t), t->stop == STOP_SLICE ? t->stop_seconds : 0);
}

static void call_released(struct task *t) {
  struct call *c = call_of(t);
  struct conn *conn = worker_conn(&t->host->worker, c->conn);
  free(c->id_copy);
  c->id_copy = NULL;
  if (c->weight) held_drop(t->host, c->conn, c->weight);
  if (conn) {
    peer_of(conn)->calls--;
    dispatch_released(conn);
  }
  c->consumer->users--;
  if (c->batch) batch_end_member(c->batch);
}

static const struct task_kind kind = {
    .name = "call",
    .has_client = true,
    .waits = call_waits,
    .limit = call_limit,
    .failed = call_failed,
    .gave_up = call_gave_up,
    .released = call_released,
};

static uint32_t how_it_came(const struct host *h, struct conn *conn, bool is_http) {
  bool is_ending = h->worker.is_draining || peer_of(conn)->is_leaving;
  return (is_http ? ENV_HTTP : 0) | (is_ending && !is_http ? ENV_DRAINING : 0);
}

/* Begins a call and runs it until it waits or ends. */
static void begin(struct host *h, struct conn *conn, const struct call *call, lua_CFunction body) {
  struct peer *p = peer_of(conn);
  struct task *t = task_begin(h, &kind);
  metric_add(&h->worker.metrics.calls, 1);
  if (!t) { /* no memory in Lua, not even for a coroutine */
    struct call c = *call;
    struct envelope e;
    if (c.text) {
      envelope_read(&e, c.text, c.text_len, &h->scratch);
      c.bits |= e.bits;
      c.id = e.id.at;
      c.id_len = e.id.len;
    }
    send_last_word(h, &c, 0);
    if (c.batch) batch_end_member(c.batch);
    return;
  }
  *call_of(t) = *call;
  task_names(t, call->consumer->path, call->conn);
  call->consumer->users++;
  p->calls++;
  task_run_bare(t, body);
  conn = worker_conn(&h->worker, call->conn); /* it may be gone */
  if (conn && p->calls && !(call->bits & ENV_HTTP)) call_weigh(conn);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void batch_free(struct batch *b) {
  struct conn *conn = worker_conn(&b->host->worker, b->conn);
  held_drop(b->host, b->conn, b->held);
  if (conn) {
    peer_of(conn)->batches--;
    call_weigh(conn);
    dispatch_released(conn);
  }
  b->consumer->users--;
  for (uint32_t i = 0; i < b->n; i++) free((char *)b->answers[i].at);
  free(b->answers);
  free(b->members);
  free(b->text);
  free(b);
}

/* All members have ended: one answer with all of theirs, in the order of the request. */
static void batch_answer(struct batch *b) {
  struct host *h = b->host;
  struct conn *conn = asker(h, b->conn, b->is_http);
  struct builder *out = &h->worker.out;
  struct slice slice;
  bool is_first = true;
  if (!conn) return;
  if (b->is_http)
    builder_begin(out);
  else
    ws_frame_begin(out);
  for (uint32_t i = 0; i < b->n; i++) {
    if (!b->answers[i].at) continue;
    builder_byte(out, is_first ? '[' : ',');
    builder_add(out, b->answers[i].at, b->answers[i].len);
    is_first = false;
  }
  if (is_first) { /* only notifications */
    builder_abort(out);
    if (b->is_http) http_answer_nothing(conn);
    return;
  }
  builder_byte(out, ']');
  size_t bytes = b->is_http ? builder_len(out) : frame_bytes(out);
  if (bytes > h->settings->conn.output_hard) { /* tens of thousands of short answers */
    builder_abort(out);
    b->is_http ? builder_begin(out) : ws_frame_begin(out);
    envelope_open(out, ENV_ERROR_2);
    builder_text(out, internal_error);
    envelope_close(out, ENV_ERROR_2, NULL, 0);
  }
  if (b->is_http) {
    if (builder_commit(out, &slice)) http_answer_call(conn, 200, slice);
  } else if (ws_frame_end(out, WS_TEXT, &slice)) {
    ws_send_frame(conn, slice);
  }
}

/* Its connection has had its share of this turn: the rest of the batch is for the next. */
static void batch_put_off(struct batch *b) {
  struct host *h = b->host;
  b->is_late = true;
  b->next_late = NULL;
  *h->late_batches_end = b;
  h->late_batches_end = &b->next_late;
  h->n_late_batches++;
  h->worker.turn.has_late = true;
}

/* Begins members while there is room, and ends the batch with its last member. */
static void batch_pump(struct batch *b) {
  struct host *h = b->host;
  if (b->is_pumping || b->is_late) return;
  b->is_pumping = true;
  uint32_t at_once = b->consumer->is_strict ? 1 : BATCH_AT_ONCE;
  while (b->begun < b->n && b->begun - b->ended < at_once) {
    struct conn *conn = asker(h, b->conn, b->is_http);
    if (!conn) { /* nobody waits for the rest */
      b->ended += b->n - b->begun;
      b->begun = b->n;
      break;
    }
    uint32_t in_flight = b->begun - b->ended;
    if (in_flight && peer_of(conn)->calls >= b->consumer->limits.calls) break;
    struct call call = {
        .consumer = b->consumer,
        .batch = b,
        .conn = b->conn,
        .text = b->members[b->begun].at,
        .text_len = b->members[b->begun].len,
        .bits = ENV_BATCH | how_it_came(h, conn, b->is_http),
        .member = b->begun,
    };
    b->begun++;
    begin(h, conn, &call, call_body);
    conn = worker_conn(&h->worker, b->conn);
    if (b->begun < b->n && conn && !conn_may_go_on(conn)) {
      batch_put_off(b);
      break;
    }
  }
  b->is_pumping = false;
  if (b->ended < b->n) return;
  batch_answer(b);
  batch_free(b);
}

static void batch_end_member(struct batch *b) {
  b->ended++;
  batch_pump(b);
}

void call_init(struct host *h) {
  h->late_batches_end = &h->late_batches;
}

void call_turn(struct host *h) {
  struct turn *turn = &h->worker.turn;
  uint64_t began = h->n_late_batches ? turn_clock() : 0;
  /* all of them together get no more of a turn than one connection does */
  for (uint32_t n = h->n_late_batches; n && turn_clock() - began < turn->most; n--) {
    struct batch *b = h->late_batches;
    struct conn *conn = worker_conn(&h->worker, b->conn);
    h->late_batches = b->next_late;
    if (!h->late_batches) h->late_batches_end = &h->late_batches;
    h->n_late_batches--;
    b->is_late = false;
    if (conn && turn_is_over(turn, &conn->share)) {
      batch_put_off(b);
    } else {
      turn_look(turn);
      batch_pump(b);
    }
  }
  if (h->n_late_batches) turn->has_late = true;
}

void call_fini(struct host *h) {
  while (h->n_late_batches) call_turn(h); /* their connections are gone */
}

static void refuse(struct host *h, struct conn *conn, bool is_http, const char *why,
                   const char *text, lua_Integer number) {
  struct call call = {
      .consumer = peer_of(conn)->consumer,
      .conn = conn_id(conn),
      .bits = is_http ? ENV_HTTP : 0,
      .refusal = why,
      .refusal_text = text,
      .refusal_number = number,
  };
  if (strcmp(why, "batch") == 0)
    metric_add(&h->worker.metrics.limits_exceeded, 1);
  else if (strcmp(why, "busy") != 0)
    metric_add(&h->worker.metrics.messages_malformed, 1);
  begin(h, conn, &call, refuse_body);
}

static void call_batch(struct host *h, struct conn *conn, const char *text, size_t n,
                       bool is_http) {
  struct consumer *consumer = peer_of(conn)->consumer;
  int most = (int)consumer->limits.batch;
  if (held_refuses_json(h, text, n)) {
    refuse(h, conn, is_http, "busy", "", 0);
    return;
  }
  char *copy = mem_dup(text, n);
  size_t room = n / 2 < (size_t)most ? n / 2 + 1 : (size_t)most; /* a member and what ends it */
  struct envelope_span *members = mem_alloc(room * sizeof *members);
  const char *error;
  size_t at;
  int count = envelope_split(copy, n, members, most, &error, &at);
  if (count <= 0 || count > most) {
    free(members);
    free(copy);
    if (count < 0)
      refuse(h, conn, is_http, "parse", error, (lua_Integer)at);
    else
      refuse(h, conn, is_http, count ? "batch" : "empty", "", most);
    return;
  }
  struct batch *b = mem_zalloc(sizeof *b);
  *b = (struct batch){.host = h,
                      .consumer = consumer,
                      .conn = conn_id(conn),
                      .text = copy,
                      .members = members,
                      .n = (uint32_t)count,
                      .is_http = is_http};
  b->answers = mem_zalloc((size_t)count * sizeof *b->answers);
  batch_hold(b, n);
  consumer->users++;
  peer_of(conn)->batches++;
  batch_pump(b);
}

/* ---- the door -------------------------------------------------------------------------------- */

void call_message(struct host *h, struct conn *conn, const char *text, size_t n, bool is_http,
                  bool is_text_bad) {
  if (is_text_bad) {
    refuse(h, conn, is_http, "parse", "the text is not UTF-8", 0);
    return;
  }
  if (envelope_is_batch(text, n)) {
    call_batch(h, conn, text, n, is_http);
    return;
  }
  struct call call = {
      .consumer = peer_of(conn)->consumer,
      .conn = conn_id(conn),
      .text = text,
      .text_len = n,
      .bits = how_it_came(h, conn, is_http),
  };
  begin(h, conn, &call, call_body);
}
