/* SPDX-License-Identifier: MIT */
/* ws_conn.c -- a WebSocket on a connection: messages in, frames out, pings, the closing handshake.
 *
 *   open ──peer's close frame──▶ echo it, finish          closed(peer's code)
 *    │ ──ws_close──▶ closing ──peer's close frame──▶ finish    closed(our code)
 *    │                  └──── close_ms, or when what was before it is taken too slowly ──▶ cut
 *    │ ──protocol error──▶ close frame, finish            closed(1002, 1007, 1009 ...)
 *    └ ──reset, end, silence, slow reader──▶ cut          closed(1006)
 *
 * The floor above hears of the end when it is decided, not when the last packet is gone. */
#include "net/ws_conn.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/http_conn.h"
#include "net/worker.h"
#include "wire/deflate.h"
#include "wire/handshake.h"
#include "wire/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ws_extra {
  struct slice *early; /* owned: frames for a connection that is not accepted yet */
  uint32_t n_early, early_bytes;
  bool has_pong;
  uint8_t pong_len;
  uint8_t pong[WS_CONTROL_MAX];
};

static const struct conn_protocol protocol;

bool ws_is_open(const struct conn *conn) {
  return conn->state == CONN_OPEN && conn->protocol == &protocol && !conn->ws.is_closing;
}

/* ---- frames out ------------------------------------------------------------------------------ */

uint32_t ws_frame_len(const struct builder *b) {
  return builder_len(b) - WS_HEAD_ROOM;
}

bool ws_frame_end(struct builder *b, enum ws_opcode opcode, struct slice *frame) {
  uint32_t len = ws_frame_len(b);
  unsigned head = ws_head_len(len);
  if (head > WS_HEAD_ROOM) builder_room(b, head - WS_HEAD_ROOM);
  uint8_t *at = builder_data(b);
  /* Slices that touch leave in one piece, so there is no gap in front of a short head: moving
   * under 126 bytes is cheaper than a second entry in the write, and moving 64 KiB is noise. */
  if (head != WS_HEAD_ROOM && !b->is_failed) {
    memmove(at + head, at + WS_HEAD_ROOM, len);
    b->end = b->start + head + len;
  }
  ws_write_head(at, opcode, len);
  return builder_commit(b, frame);
}

static struct ws_extra *need_extra(struct conn *conn) {
  if (!conn->ws.extra) conn->ws.extra = mem_zalloc(sizeof *conn->ws.extra);
  return conn->ws.extra;
}

void ws_expect(struct conn *conn) {
  conn->ws.is_expected = true;
}

void ws_forget(struct conn *conn) {
  struct ws_extra *extra = conn->ws.extra;
  conn->ws.is_expected = false;
  conn->ws.extra = NULL;
  if (!extra) return;
  for (uint32_t i = 0; i < extra->n_early; i++) buf_unref(extra->early[i].buf);
  free(extra->early);
  free(extra);
}

static bool keep_early(struct conn *conn, struct slice frame) {
  if (conn->state != CONN_OPEN) return false;
  struct ws_extra *extra = need_extra(conn);
  if (extra->early_bytes + frame.len > conn->worker->limits->output_soft) {
    metric_add(&conn->worker->metrics.sends_dropped, 1);
    return false;
  }
  extra->early = mem_realloc(extra->early, (extra->n_early + 1) * sizeof *extra->early);
  buf_ref(frame.buf);
  extra->early[extra->n_early++] = frame;
  extra->early_bytes += frame.len;
  return true;
}

static void send_early(struct conn *conn, struct ws_extra *extra) {
  for (uint32_t i = 0; i < extra->n_early; i++) {
    ws_send_frame(conn, extra->early[i]);
    buf_unref(extra->early[i].buf);
  }
  free(extra->early);
  free(extra);
}

/* ---- compression ----------------------------------------------------------------------------- */

enum { DEFLATE_MIN = 256 }; /* shorter messages hardly become shorter still */

/* One per worker, made when it is first needed. */
struct ws_deflate {
  struct pmd *pmd;
  struct builder out, shared; /* for one, and for many as what they were asked for */
  struct slice from,
      to; /* the last frame that was asked for, and what it became: a reference each */
};

static struct ws_deflate *need_deflate(struct worker *w) {
  if (!w->deflate) {
    w->deflate = mem_zalloc(sizeof *w->deflate);
    w->deflate->pmd = pmd_new();
    w->deflate->shared.is_shared = true;
  }
  return w->deflate;
}

static void forget(struct ws_deflate *d) {
  if (d->from.buf) buf_unref(d->from.buf);
  if (d->to.buf) buf_unref(d->to.buf);
  d->from = d->to = (struct slice){0};
}

void ws_conns_turn(struct worker *w) {
  if (!w->deflate) return;
  forget(w->deflate);
  builder_rewind(&w->deflate->out);
  builder_rewind(&w->deflate->shared);
}

void ws_conns_fini(struct worker *w) {
  if (!w->deflate) return;
  forget(w->deflate);
  builder_fini(&w->deflate->out);
  builder_fini(&w->deflate->shared);
  pmd_free(w->deflate->pmd);
  free(w->deflate);
  w->deflate = NULL;
}

/* The frame, compressed when that makes it shorter. A frame for many is compressed once: one after
 * the other they ask for the same. */
static struct slice deflated(struct worker *w, struct slice frame) {
  const uint8_t *head = slice_data(&frame);
  uint32_t size = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10, n = frame.len - size;
  if (n < DEFLATE_MIN || head[0] & WS_CLOSE) return frame;
  struct ws_deflate *d = need_deflate(w);
  if (d->from.buf == frame.buf && d->from.off == frame.off && d->from.len == frame.len)
    return d->to;
  forget(d);
  struct slice to = frame;
  struct builder *out = frame.buf->is_shared ? &d->shared : &d->out;
  ws_frame_begin(out);
  uint8_t *room = builder_room(out, n);
  size_t k = pmd_deflate(d->pmd, head + size, n, room, n - 1);
  out->end += (uint32_t)k;
  if (k == 0)
    builder_abort(out);
  else if (!ws_frame_end(out, (enum ws_opcode)((head[0] & 0x0F) | WS_DEFLATED), &to))
    to = frame;
  buf_ref(frame.buf);
  buf_ref(to.buf);
  d->from = frame;
  d->to = to;
  if (k) metric_add(&w->metrics.websocket_deflated, 1);
  return to;
}

bool ws_send_frame(struct conn *conn, struct slice frame) {
  if (!ws_is_open(conn)) return conn->ws.is_expected && keep_early(conn, frame);
  if (conn->ws.reader.has_deflate) frame = deflated(conn->worker, frame);
  if (!conn_send(conn, frame)) return false;
  metric_add(&conn->worker->metrics.websocket_frames, 1);
  return true;
}

static void send_control(struct conn *conn, enum ws_opcode opcode, const uint8_t *data, size_t n) {
  struct builder *b = &conn->worker->out;
  struct slice frame;
  ws_frame_begin(b);
  if (n) builder_add(b, data, n);
  if (ws_frame_end(b, opcode, &frame)) conn_send(conn, frame);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Tells the floor above, once. */
static void tell_closed(struct conn *conn, unsigned code, const char *reason, size_t n) {
  if (conn->ws.code) return;
  conn->ws.code = (uint16_t)code;
  conn->worker->ws->closed(conn, code, reason, n);
}

static void send_close(struct conn *conn, unsigned code, const char *reason, size_t n) {
  uint8_t payload[WS_CONTROL_MAX];
  if (conn->ws.is_closing) return;
  n = code ? ws_reason_len(reason, n) : 0;
  if (code) {
    payload[0] = (uint8_t)(code >> 8);
    payload[1] = (uint8_t)code;
    if (n) memcpy(payload + 2, reason, n);
  }
  send_control(conn, WS_CLOSE, payload, code ? n + 2 : 0);
  conn->ws.is_closing = true;
}

void ws_close(struct conn *conn, unsigned code, const char *reason, size_t n) {
  if (conn->state != CONN_OPEN || conn->protocol != &protocol || conn->ws.is_closing) return;
  send_close(conn, code, reason, n);
  conn_is_taking(conn); /* from here on */
  conn_set_timeout(conn, conn->worker->limits->close_ms);
  conn_resume(conn, PAUSE_ALL); /* the peer's close frame is somewhere in the input */
  tell_closed(conn, code ? code : WS_NO_STATUS, reason, n);
}

/* The peer broke the protocol: say so and take nothing more. */
static void fail(struct conn *conn, unsigned code, const char *reason) {
  static struct log_limit limit = LOG_LIMIT(10);
  struct log_line l;
  metric_add(&conn->worker->metrics.websocket_failures, 1);
  if (log_begin_limited(&l, &limit, LOG_INFO, "WebSocket failed")) {
    char address[64] = "";
    unsigned port = 0;
    conn_peer(conn, address, sizeof address, &port);
    log_hex(&l, "conn", conn_id(conn));
    log_str(&l, "peer", address);
    log_uint(&l, "code", code);
    log_str(&l, "reason", reason);
    log_end(&l);
  }
  send_close(conn, code, reason, strlen(reason));
  conn_finish(conn, reason);
  tell_closed(conn, code, reason, strlen(reason));
}

static void on_close_frame(struct conn *conn, const struct ws_event *event) {
  bool is_answer = conn->ws.is_closing;
  if (!is_answer) /* RFC 6455 section 5.5.1: echo the code */
    send_close(conn, event->code == WS_NO_STATUS ? 0 : event->code, "", 0);
  conn_end(conn, is_answer ? "closed" : "closed by peer"); /* RFC 6455 section 7.1.1: we go first */
  tell_closed(conn, event->code, (const char *)event->data, event->len);
}

/* ---- frames in ------------------------------------------------------------------------------- */

/* Answers a ping. While the peer does not read, only the newest is kept (RFC 6455 section 5.5.3
 * allows it): a million unread pings must not become a million pongs. */
static void on_ping(struct conn *conn, const uint8_t *data, size_t n) {
  if (conn->ws.is_closing) return;
  if (!conn->is_writing) {
    send_control(conn, WS_PONG, data, n);
    return;
  }
  struct ws_extra *extra = need_extra(conn);
  if (extra->has_pong) metric_add(&conn->worker->metrics.pings_dropped, 1);
  extra->has_pong = true;
  extra->pong_len = (uint8_t)n;
  if (n) memcpy(extra->pong, data, n);
}

/* Inflates a message in place of what came. False when it failed the connection. */
static bool inflate_event(struct conn *conn, struct ws_event *event) {
  struct ws_deflate *d = need_deflate(conn->worker);
  uint8_t *data;
  size_t n;
  switch (pmd_inflate(d->pmd, event->data, event->len, conn->ws.limits->message, &data, &n)) {
  case PMD_BAD: fail(conn, WS_INVALID_DATA, "a message that cannot be inflated"); return false;
  case PMD_TOO_BIG: fail(conn, WS_TOO_BIG, "message over the limit"); return false;
  case PMD_DONE: break;
  }
  if (event->opcode == WS_TEXT && !utf8_is_valid(data, n)) {
    fail(conn, WS_INVALID_DATA, "text is not UTF-8");
    return false;
  }
  metric_add(&conn->worker->metrics.websocket_inflated, 1);
  event->data = data;
  event->len = n;
  return true;
}

/* Milliseconds that the message in progress still has. */
static uint64_t message_left(const struct conn *conn) {
  const struct worker *w = conn->worker;
  if (!conn->ws.began) return UINT64_MAX;
  uint64_t left = conn_time_left(w->limits, worker_heard_since(w, conn->ws.began), conn->ws.came);
  uint64_t quiet = worker_now(w) - conn->active, idle = w->limits->body_ms;
  idle = quiet < idle ? idle - quiet : 0;
  return left < idle ? left : idle;
}

/* More of a message or frame has come, and it is not whole yet. */
static void message_goes_on(struct conn *conn, size_t n) {
  struct worker *w = conn->worker;
  if (!conn->ws.began) conn->ws.began = worker_heard(w);
  conn->ws.came += (uint32_t)n;
  uint64_t left = message_left(conn);
  if (!conn->ws.is_closing && conn->timeout.due > worker_now(w) + left)
    conn_set_timeout(conn, left);
}

static size_t ws_feed(struct conn *conn, uint8_t *data, size_t n) {
  struct ws_event event;
  size_t used;
  conn->ws.is_awaiting_pong = false; /* any byte is a sign of life */
  enum ws_result result = ws_next(&conn->ws.reader, conn->ws.limits, data, n, &used, &event);
  if (result == WS_BAD) {
    fail(conn, event.code, event.reason);
    return n;
  }
  if (result == WS_MORE) {
    message_goes_on(conn, used);
    return used;
  }
  if (conn->ws.began && !ws_is_midway(&conn->ws.reader)) conn->ws.began = conn->ws.came = 0;
  switch (event.opcode) {
  case WS_TEXT:
  case WS_BINARY:
    if (conn->ws.is_closing) break; /* sent before the peer saw our close frame */
    if (event.is_deflated && !inflate_event(conn, &event)) return n;
    metric_add(&conn->worker->metrics.websocket_messages, 1);
    conn->worker->ws->message(conn, event.opcode == WS_BINARY, event.data, event.len);
    if (event.is_deflated) pmd_release(conn->worker->deflate->pmd);
    break;
  case WS_PING: on_ping(conn, event.data, event.len); break;
  case WS_CLOSE: on_close_frame(conn, &event); break;
  default: break; /* a pong, asked for or not (RFC 6455 section 5.5.3) */
  }
  return used;
}

static void ws_end(struct conn *conn) {
  conn_close(conn, conn->ws.is_closing ? "closed" : "ended without a close frame");
}

static void set_timeout(struct conn *conn, uint64_t ms) {
  uint64_t left = message_left(conn);
  conn_set_timeout(conn, ms < left ? ms : left);
}

static void ws_resumed(struct conn *conn, uint64_t ms) {
  if (conn->ws.began) conn->ws.began += ms;
}

static void ws_timeout(struct conn *conn) {
  const struct conn_limits *limits = conn->worker->limits;
  if (conn->ws.is_closing) {
    if (!conn_takes_rest(conn, limits->close_ms)) conn_close(conn, "no answer to the close frame");
    return;
  }
  uint64_t quiet = worker_now(conn->worker) - conn->active;
  if (conn->pauses) { /* we do not listen, so its silence says nothing */
    conn_set_timeout(conn, limits->pong_ms);
    return;
  }
  if (message_left(conn) == 0) {
    fail(conn, WS_POLICY, "the message took too long");
    return;
  }
  if (conn->ws.is_awaiting_pong && quiet < limits->pong_ms) { /* we listen again since then */
    set_timeout(conn, limits->pong_ms - quiet);
    return;
  }
  if (conn->ws.is_awaiting_pong && conn_is_taking(conn) && conn->left > 0) {
    set_timeout(conn, limits->pong_ms); /* our ping is behind something long that it reads */
    return;
  }
  if (conn->ws.is_awaiting_pong) {
    metric_add(&conn->worker->metrics.ping_timeouts, 1);
    conn_close(conn, "ping timeout");
    return;
  }
  if (quiet < limits->ping_ms) { /* it spoke meanwhile: no need to ask */
    set_timeout(conn, limits->ping_ms - quiet);
    return;
  }
  send_control(conn, WS_PING, NULL, 0);
  conn->ws.is_awaiting_pong = true;
  conn_is_taking(conn); /* from here on */
  set_timeout(conn, limits->pong_ms);
}

static void ws_drained(struct conn *conn) {
  struct ws_extra *extra = conn->ws.extra;
  if (!extra) return;
  if (extra->has_pong && !conn->ws.is_closing)
    send_control(conn, WS_PONG, extra->pong, extra->pong_len);
  ws_forget(conn);
}

static void ws_closed(struct conn *conn) {
  const char *why = conn->why ? conn->why : "";
  tell_closed(conn, WS_ABNORMAL, why, strlen(why));
  ws_reader_fini(&conn->ws.reader);
  ws_forget(conn);
}

static void ws_drain(struct conn *conn) {
  if (!conn->ws.is_closing) conn->worker->ws->drain(conn);
}

static const struct conn_protocol protocol = {
    .name = "websocket",
    .feed = ws_feed,
    .end = ws_end,
    .timeout = ws_timeout,
    .resumed = ws_resumed,
    .drained = ws_drained,
    .closed = ws_closed,
    .drain = ws_drain,
};

/* ---- the beginning --------------------------------------------------------------------------- */

void ws_accept(struct conn *conn, const struct ws_limits *limits, const char *extra,
               size_t extra_len) {
  struct worker *w = conn->worker;
  struct slice head;
  char accept[HANDSHAKE_ACCEPT_LEN + 1];
  if (conn->state != CONN_OPEN) return;
  char extension[PMD_LINE_MAX];
  size_t extension_len = limits->may_deflate ? pmd_negotiate(http_request_of(conn), extension) : 0;
  handshake_accept(http_request_of(conn), accept);
  builder_begin(&w->out);
  http_write_head(&w->out, &(struct http_response){
                               .status = 101, .date = worker_date(w), .content_length = -1});
  w->out.end -= 2; /* more lines follow */
  builder_text(&w->out, "Upgrade: websocket\r\nSec-WebSocket-Accept: ");
  builder_add(&w->out, accept, HANDSHAKE_ACCEPT_LEN);
  builder_add(&w->out, "\r\n", 2);
  if (extension_len) builder_add(&w->out, extension, extension_len);
  if (extra_len) builder_add(&w->out, extra, extra_len);
  builder_add(&w->out, "\r\n", 2);
  builder_commit(&w->out, &head);
  conn_send(conn, head);
  metric_add(&w->metrics.http_requests, 1);
  metric_add(&w->metrics.websockets_opened, 1);
  http_conn_leave(conn);
  struct ws_extra *early = conn->ws.extra;
  conn->protocol = &protocol;
  conn->ws = (struct ws_conn){.limits = limits, .reader = {.has_deflate = extension_len > 0}};
  conn->active = worker_now(w);
  conn_set_timeout(conn, w->limits->ping_ms);
  if (early) send_early(conn, early);
}
