/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HTTP_CONN_H
#define PERIGEE_HTTP_CONN_H

#include "net/conn.h"

/* http_conn.c -- HTTP/1.x on a connection: one request at a time, answers in order.
 *
 * The floor above sees a request twice: its head, to refuse it before the body is read, and the
 * whole. It answers now or later; until then the connection reads no further request. */

/* What the floor above does with requests. Functions may answer at once, may run Lua. */
struct http_handler {
  /* The head is there. Either answers (then the connection closes after it if a body was to come),
   * or returns the body's limit in bytes. The request lives until it is answered. */
  uint64_t (*head)(struct conn *conn, const struct http_request *r);
  /* Head and body are there; must be answered sooner or later, by http_answer or ws_accept. The
   * body may lie in borrowed memory: it moves when this returns. */
  void (*request)(struct conn *conn, const struct http_request *r);
  /* The connection ended, answered or not: let go of what belongs to its request. */
  void (*gone)(struct conn *conn);
  /* All that was sent has left; for answers that are sent piece by piece. */
  void (*drained)(struct conn *conn);
};

struct http_answer {
  unsigned status;
  const char *type; /* Content-Type, NULL: none */
  size_t type_len;
  const char *extra; /* more header lines "Name: value\r\n", or NULL */
  size_t extra_len;
  bool is_last; /* close after this answer */
};

/* The request in progress, NULL when there is none. */
const struct http_request *http_request_of(const struct conn *conn);

/* Answers with a body that lies in a block of the worker's builder or any other. */
void http_answer(struct conn *conn, const struct http_answer *answer, struct slice body);
/* Answers with a short text of its own, or none (body NULL: no body and no Content-Type). */
void http_answer_text(struct conn *conn, const struct http_answer *answer, const char *body);
/* Counts a request that no handler gets, and has a quiet line in the log for it. Before it is
 * answered. why: static, or NULL. */
void http_refused(struct conn *conn, unsigned status, const char *why);
/* The same, and answers an error: a line of text, connection closed. */
void http_refuse(struct conn *conn, unsigned status, const char *text);

/* Answers piece by piece: a head that announces `length` bytes of body, the body by conn_send, the
 * end. Between pieces the handler's drained tells that there is room. */
void http_answer_head(struct conn *conn, const struct http_answer *answer, uint64_t length);
void http_answer_end(struct conn *conn);

/* For conn.c and worker.c. */
void http_conn_begin(struct conn *conn);
void http_conns_fini(struct worker *w);
/* For ws_conn.c: the handshake's request is over, the bytes to come are frames. */
void http_conn_leave(struct conn *conn);

#endif
