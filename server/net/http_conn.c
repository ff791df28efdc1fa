/* SPDX-License-Identifier: MIT */
/* http_conn.c -- HTTP/1.x on a connection: one request at a time, answers in order.
 *
 *   idle ──first byte──▶ head ──▶ body ──▶ answering ──answered──▶ idle
 *     │                   │        │            │
 *     └── 75 s ──▶ close  └─ 10 s ─┴─ 30 s ─▶ 408, finish
 *
 * The parser exists from a request's first byte to its answer and is then kept for the next one,
 * whichever connection that is on. */
#include "net/http_conn.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  SPARE_MAX = 64,     /* parsers kept per worker */
  COPIED_BODY = 1024, /* as long a body goes into its head's slice: cheaper than to queue two */
};

struct http_conn {
  struct http_parser parser;
  struct http_conn *next_spare;
  uint64_t began; /* worker_heard() at the end of the head */
  enum { READING_HEAD, READING_BODY, ANSWERING, STREAMING } state;
  bool is_answered;      /* within a call of the handler */
  bool has_body_to_come; /* input that follows may be the rest of a body nobody wants */
  bool has_begun;        /* the first byte of the request line is there */
};

static const struct conn_protocol protocol;

/* ---- the parser's coming and going ----------------------------------------------------------- */

static struct http_conn *http_take(struct conn *conn) {
  struct worker *w = conn->worker;
  if (!conn->is_fresh) worker_renew_conn(w, conn); /* see conn_id */
  struct http_conn *h = w->spare_http;
  if (h) {
    w->spare_http = h->next_spare;
    w->n_spare_http--;
    http_parser_reset(&h->parser, &w->limits->http);
  } else {
    h = mem_alloc(sizeof *h);
    http_parser_init(&h->parser, &w->limits->http);
  }
  h->state = READING_HEAD;
  h->began = 0;
  h->is_answered = h->has_body_to_come = h->has_begun = false;
  conn->http = h;
  return h;
}

static void http_give(struct conn *conn) {
  struct worker *w = conn->worker;
  struct http_conn *h = conn->http;
  conn->http = NULL;
  conn->is_fresh = false;
  if (!h) return;
  if (w->n_spare_http < SPARE_MAX) {
    http_parser_reset(&h->parser, &w->limits->http); /* lets go of large buffers */
    h->next_spare = w->spare_http;
    w->spare_http = h;
    w->n_spare_http++;
    return;
  }
  http_parser_fini(&h->parser);
  free(h);
}

void http_conns_fini(struct worker *w) {
  while (w->spare_http) {
    struct http_conn *h = w->spare_http;
    w->spare_http = h->next_spare;
    http_parser_fini(&h->parser);
    free(h);
  }
}

const struct http_request *http_request_of(const struct conn *conn) {
  return conn->http ? &conn->http->parser.request : NULL;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* The answer is queued: go on with the next request, or end. */
static void answered(struct conn *conn, bool is_keep_alive) {
  struct http_conn *h = conn->http;
  h->is_answered = true;
  metric_add(&conn->worker->metrics.http_requests, 1);
  if (!is_keep_alive) {
    conn_finish(conn, "answered");
    return;
  }
  /* inside feed the parser is still on the stack; feed gives it back */
  if (h->state == ANSWERING && conn->pauses & PAUSE_ANSWER) {
    http_give(conn);
    conn_watch(conn, conn->worker->limits->idle_ms);
    conn_resume(conn, PAUSE_ANSWER);
  }
}

static bool keeps_alive(const struct conn *conn, const struct http_answer *answer) {
  const struct http_conn *h = conn->http;
  return h->parser.request.is_keep_alive && !answer->is_last && !h->has_body_to_come &&
         !conn->has_ended && !conn->worker->is_draining;
}

/* Leaves the builder open behind the head. */
static void write_head(struct conn *conn, const struct http_answer *answer, int64_t length,
                       bool is_keep_alive) {
  struct worker *w = conn->worker;
  struct http_response response = {
      .status = answer->status,
      .date = worker_date(w),
      .content_type = answer->type,
      .content_type_len = answer->type_len,
      .content_length = length,
      .is_keep_alive = is_keep_alive,
      .is_http_1_0 = conn->http->parser.request.minor == 0,
      .extra = answer->extra,
      .extra_len = answer->extra_len,
  };
  builder_begin(&w->out);
  http_write_head(&w->out, &response);
}

static void send_written(struct conn *conn) {
  struct slice written;
  builder_commit(&conn->worker->out, &written);
  conn_send(conn, written);
}

void http_answer(struct conn *conn, const struct http_answer *answer, struct slice body) {
  if (conn->state != CONN_OPEN) return;
  bool is_keep_alive = keeps_alive(conn, answer);
  bool has_body = answer->status != 204 && answer->status != 304;
  bool is_sent = has_body && body.len && conn->http->parser.request.method != HTTP_HEAD;
  bool is_copied = is_sent && body.len <= COPIED_BODY;
  /* the head may start a new block and drop the builder's reference to the body's */
  buf_ref(body.buf);
  write_head(conn, answer, has_body ? (int64_t)body.len : -1, is_keep_alive);
  if (is_copied) builder_add(&conn->worker->out, slice_data(&body), body.len);
  send_written(conn);
  if (is_sent && !is_copied) conn_send(conn, body);
  buf_unref(body.buf);
  answered(conn, is_keep_alive);
}

void http_answer_text(struct conn *conn, const struct http_answer *answer, const char *body) {
  struct worker *w = conn->worker;
  struct slice slice;
  builder_begin(&w->out);
  if (body) builder_text(&w->out, body);
  builder_commit(&w->out, &slice);
  http_answer(conn, answer, slice);
}

static void count_refusal(struct conn *conn, unsigned status) {
  struct metrics *m = &conn->worker->metrics;
  const struct http_request *r = http_request_of(conn);
  metric_add(&m->http_refused, 1);
  if (r && r->is_upgrade) metric_add(&m->handshakes_refused, 1);
  switch (status) {
  case 404:
  case 405: metric_add(&m->http_not_found, 1); break;
  case 411:
  case 415:
  case 417: metric_add(&m->http_unsupported, 1); break;
  case 413:
  case 414:
  case 431: metric_add(&m->http_too_large, 1); break;
  case 400:
  case 426:
  case 501:
  case 505: metric_add(&m->http_malformed, 1); break;
  default: break; /* 403, 408, 503 have counters by their cause */
  }
}

/* Who asked, and what for. */
static void log_request(struct log_line *l, struct conn *conn) {
  const struct http_request *r = http_request_of(conn);
  char address[64] = "";
  unsigned port = 0;
  conn_peer(conn, address, sizeof address, &port);
  log_hex(l, "conn", conn_id(conn));
  log_str(l, "peer", address);
  if (!r || !r->base || !r->target.len) return;
  log_str(l, "method", llhttp_method_name((llhttp_method_t)r->method));
  /* "GET" of a handshake says little */
  if (r->is_upgrade) log_bool(l, "handshake", true);
  log_bytes(l, "target", http_text(r, r->target), r->target.len);
}

void http_refused(struct conn *conn, unsigned status, const char *why) {
  static struct log_limit limit = LOG_LIMIT(20);
  struct log_line l;
  if (conn->state != CONN_OPEN) return;
  count_refusal(conn, status);
  if (!log_begin_limited(&l, &limit, log_quiet(), "request refused")) return;
  log_request(&l, conn);
  log_uint(&l, "status", status);
  log_str(&l, "reason", why ? why : http_status_text(status));
  log_end(&l);
}

static void answer_refusal(struct conn *conn, unsigned status, const char *text) {
  struct http_answer answer = {
      .status = status, .type = "text/plain; charset=utf-8", .type_len = 25, .is_last = true};
  http_answer_text(conn, &answer, text);
}

void http_refuse(struct conn *conn, unsigned status, const char *text) {
  http_refused(conn, status, NULL);
  answer_refusal(conn, status, text);
}

void http_answer_head(struct conn *conn, const struct http_answer *answer, uint64_t length) {
  if (conn->state != CONN_OPEN) return;
  struct http_conn *h = conn->http;
  bool is_keep_alive = keeps_alive(conn, answer);
  write_head(conn, answer, (int64_t)length, is_keep_alive);
  send_written(conn);
  h->state = STREAMING;
  h->parser.request.is_keep_alive = is_keep_alive;
  conn_watch(conn, conn->worker->limits->body_ms);
}

void http_answer_end(struct conn *conn) {
  if (conn->state != CONN_OPEN) return;
  struct http_conn *h = conn->http;
  check(h->state == STREAMING);
  h->state = ANSWERING;
  answered(conn, h->parser.request.is_keep_alive && !conn->worker->is_draining);
}

/* ---- the protocol ---------------------------------------------------------------------------- */

static void log_bad(struct conn *conn, unsigned status, const char *reason) {
  static struct log_limit limit = LOG_LIMIT(10);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_INFO, "bad HTTP request")) return;
  log_request(&l, conn);
  log_uint(&l, "status", status);
  log_str(&l, "reason", reason);
  log_end(&l);
}

/* The request is beyond understanding: answer, and trust nothing that follows. */
static void fail(struct conn *conn, unsigned status, const char *reason) {
  char text[200];
  log_bad(conn, status, reason);
  snprintf(text, sizeof text, "%u %s: %s\n", status, http_status_text(status), reason);
  conn->http->has_body_to_come = true; /* never keep alive */
  count_refusal(conn, status);
  answer_refusal(conn, status, text);
}

static void send_continue(struct conn *conn) {
  struct slice slice;
  builder_begin(&conn->worker->out);
  builder_text(&conn->worker->out, "HTTP/1.1 100 Continue\r\n\r\n");
  builder_commit(&conn->worker->out, &slice);
  conn_send(conn, slice);
}

static void set_body_timeout(struct conn *conn) {
  const struct conn_limits *limits = conn->worker->limits;
  const struct http_conn *h = conn->http;
  uint64_t took = worker_heard_since(conn->worker, h->began);
  uint64_t left = conn_time_left(limits, took, h->parser.request.body_len);
  conn_set_timeout(conn, left < limits->body_ms ? left : limits->body_ms);
}

/* After the handler had its say about the whole request. */
static void after_request(struct conn *conn) {
  struct http_conn *h = conn->http;
  if (conn->state != CONN_OPEN || !h || conn->protocol != &protocol) return;
  if (h->is_answered) { /* the usual case: the parser is free before it was copied to */
    http_give(conn);
    conn_watch(conn, conn->worker->limits->idle_ms);
    return;
  }
  http_keep(&h->parser);    /* the read buffer is about to be used again */
  conn_unset_timeout(conn); /* from here on the floor above has the deadline */
  conn_pause(conn, PAUSE_ANSWER);
}

static size_t http_feed_conn(struct conn *conn, uint8_t *data, size_t n) {
  struct worker *w = conn->worker;
  struct http_conn *h = conn->http ? conn->http : http_take(conn);
  size_t total = 0;
  for (;;) {
    size_t used;
    enum http_parse result = http_feed(&h->parser, (const char *)data + total, n - total, &used);
    total += used;
    switch (result) {
    case PARSE_BAD: fail(conn, h->parser.status, h->parser.reason); return n;

    case PARSE_MORE:
      if (h->state == READING_BODY) {
        http_keep(&h->parser);
        set_body_timeout(conn);
      } else if (!h->has_begun && http_is_midway(&h->parser)) {
        h->has_begun = true;
        /* a first request's time runs since accept: silence must not win more of it */
        if (!conn->is_fresh) conn_set_timeout(conn, w->limits->head_ms);
      }
      return total;

    case PARSE_HEAD: {
      struct http_request *r = &h->parser.request;
      h->has_body_to_come = r->is_chunked || r->content_length; /* an answer now is the last one */
      if (r->has_bad_expect) {
        fail(conn, 417, "only Expect: 100-continue is understood");
        return n;
      }
      uint64_t limit = w->http->head(conn, r);
      if (conn->state != CONN_OPEN) return n;
      if (h->is_answered) {
        /* refused before the body: what follows in the input is the body if there is one */
        if (r->content_length || r->is_chunked) {
          conn_finish(conn, "refused before the body");
          return n;
        }
        after_request(conn);
        return total;
      }
      if (r->content_length > limit) {
        fail(conn, 413, "announced body over the limit");
        return n;
      }
      h->has_body_to_come = r->is_chunked || r->content_length > n - total;
      h->parser.limits.body = limit;
      h->state = READING_BODY;
      h->began = worker_heard(w);
      if (r->expects_continue && h->has_body_to_come && total == n) send_continue(conn);
      continue; /* even without input: a request without a body is whole now */
    }

    case PARSE_REQUEST:
      h->has_body_to_come = false;
      h->state = ANSWERING;
      w->http->request(conn, &h->parser.request);
      after_request(conn);
      return total;
    }
  }
}

static void http_end(struct conn *conn) {
  struct http_conn *h = conn->http;
  /* a client may shut down its half after the request and wait for the answer */
  if (h && (h->state == ANSWERING || h->state == STREAMING)) return;
  /* answers that it has not read yet still go out */
  conn_end(conn, h && http_is_midway(&h->parser) ? "ended inside a request" : "ended");
}

static void http_timeout(struct conn *conn) {
  struct http_conn *h = conn->http;
  if (!h && conn_is_taking(conn) && conn->left > 0) { /* the last answer is still being read */
    conn_set_timeout(conn, conn->worker->limits->idle_ms);
    return;
  }
  if (!h) {
    conn_close(conn, "idle");
    return;
  }
  if (conn->pauses && h->state != STREAMING) { /* we do not listen, so its silence says nothing */
    conn_set_timeout(conn, conn->worker->limits->head_ms);
    return;
  }
  if (h->state == STREAMING && conn_is_taking(conn)) {
    conn_set_timeout(conn, conn->worker->limits->body_ms);
    return;
  }
  metric_add(&conn->worker->metrics.http_timeouts, 1);
  if (h->state == STREAMING) {
    conn_close(conn, "the answer is not read");
    return;
  }
  fail(conn, 408,
       h->state == READING_HEAD ? "the request head took too long"
                                : "the request body took too long");
}

static void http_resumed(struct conn *conn, uint64_t ms) {
  if (conn->http) conn->http->began += ms;
}

static void http_drained(struct conn *conn) {
  if (!conn->http || conn->http->state != STREAMING) return;
  conn_watch(conn, conn->worker->limits->body_ms);
  conn->worker->http->drained(conn);
}

static void http_closed(struct conn *conn) {
  conn->worker->http->gone(conn);
  http_give(conn);
}

static void http_drain(struct conn *conn) {
  struct http_conn *h = conn->http;
  if (!h || (h->state == READING_HEAD && !http_is_midway(&h->parser))) conn_end(conn, "draining");
  /* else: a request is on its way; its answer will say Connection: close */
}

static const struct conn_protocol protocol = {
    .name = "http",
    .feed = http_feed_conn,
    .end = http_end,
    .timeout = http_timeout,
    .resumed = http_resumed,
    .drained = http_drained,
    .closed = http_closed,
    .drain = http_drain,
};

void http_conn_begin(struct conn *conn) {
  conn->protocol = &protocol;
  conn->is_fresh = true;
  /* from accept to the end of the first head, silence included */
  conn_set_timeout(conn, conn->worker->limits->head_ms);
}

void http_conn_leave(struct conn *conn) {
  conn_unset_timeout(conn);
  http_give(conn);
  conn_resume(conn, PAUSE_ANSWER);
}
