/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_WS_CONN_H
#define PERIGEE_WS_CONN_H

#include "net/conn.h"

/* ws_conn.c -- a WebSocket on a connection: messages in, frames out, pings, the closing handshake.
 */

/* What the floor above does with WebSockets. Functions may run Lua and may close the connection. */
struct ws_handler {
  /* A whole message. The bytes are the handler's to change, until it returns. */
  void (*message)(struct conn *conn, bool is_binary, uint8_t *data, size_t n);
  /* The connection is over for the floor above, exactly once for every ws_accept: code as the peer
   * sent it, as we closed it, or 1006; reason is borrowed. Nothing comes after it. */
  void (*closed)(struct conn *conn, unsigned code, const char *reason, size_t reason_len);
  /* The server wants to stop: close with 1001 when what is under way is done. */
  void (*drain)(struct conn *conn);
};

/* Answers the request in progress, which handshake_judge must have found good, with 101 and turns
 * the connection into a WebSocket. extra: more header lines, or NULL. limits must outlive it. */
void ws_accept(struct conn *conn, const struct ws_limits *limits, const char *extra,
               size_t extra_len);

bool ws_is_open(const struct conn *conn);

/* A handshake is being considered: frames sent from now on are kept, up to the soft output limit,
 * and follow its 101. */
void ws_expect(struct conn *conn);
/* It was refused, or its connection is gone: they are dropped. */
void ws_forget(struct conn *conn);

/* Queues a frame whose head and payload lie in one slice, as ws_frame_end made it. */
bool ws_send_frame(struct conn *conn, struct slice frame);

enum { WS_HEAD_ROOM = 4 }; /* in front of a payload: most frames need no more; see ws_frame_end */

/* Starts a frame in a builder: leaves room for its head. Write the payload, then ws_frame_end. */
static inline void ws_frame_begin(struct builder *b) {
  builder_begin(b);
  builder_room(b, WS_HEAD_ROOM);
  b->end += WS_HEAD_ROOM;
}
/* Writes the head and ends the message. False when the payload grew over all bounds. */
bool ws_frame_end(struct builder *b, enum ws_opcode opcode, struct slice *frame);

/* Payload written so far into a frame that was begun. */
uint32_t ws_frame_len(const struct builder *b);

/* For worker.c: a turn begins, so that what was compressed for several is not needed again; and the
 * end. */
void ws_conns_turn(struct worker *w);
void ws_conns_fini(struct worker *w);

/* Starts the closing handshake; harmless when it is under way. code 0: a close frame without one.
 * The handler's `closed` is called with this code. */
void ws_close(struct conn *conn, unsigned code, const char *reason, size_t reason_len);

#endif
