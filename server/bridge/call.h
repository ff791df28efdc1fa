/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_CALL_H
#define PERIGEE_CALL_H

#include "bridge/envelope.h"

#include <stddef.h>

/* call.c -- one JSON-RPC call, from its text to its answer; and batches of them.
 *
 * Everything that may raise runs inside the call's own coroutine; the answer goes to the
 * connection's id, so a connection that is gone by then just does not get it. */

struct host;
struct conn;

/* What POST bodies may be, and what their answers then are. */
enum { MEDIA_TYPES = 3 };
extern const char *const media_types[MEDIA_TYPES];

/* A call of this connection began (1) or ceased (-1) to wait for an answer of the client's. */
void call_on_peer(struct conn *conn, int change);

/* Stops or resumes reading a WebSocket as its calls in flight ask for. */
void call_weigh(struct conn *conn);

/* At each turn: batches whose connection had had its share of the last one. */
void call_turn(struct host *h);
void call_init(struct host *h);
/* After tasks_fini. */
void call_fini(struct host *h);

/* A message of JSON-RPC, single or batch, from a WebSocket or a POST body. The text is valid UTF-8
 * unless is_text_bad, in which case it is answered as unreadable. Borrowed until this returns. */
void call_message(struct host *h, struct conn *conn, const char *text, size_t n, bool is_http,
                  bool is_text_bad);

#endif
