/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PEER_H
#define PERIGEE_PEER_H

#include "hub/groups.h"
#include "net/conn.h"

/* What the bridge keeps per connection, behind the connection's own memory: zero-filled at accept,
 * gone with it. Small, as idle connections are many. */

struct consumer;
struct transfer;

struct peer {
  struct subscriber subscriber; /* first: groups.c looks for it here */
  struct consumer *consumer;    /* borrowed from the host; NULL before a path was matched */
  union {
    struct transfer *transfer; /* HTTP: a public file that is being sent, or NULL */
    struct queued *queued; /* WebSocket, strictly ordered path: messages that wait; owned list */
  };
  char
      *head; /* owned: "address port scheme host\r\n" and the raw head of a WebSocket's handshake */
  char *answer_lines;  /* owned: header lines for the answer in progress (cookies), or NULL */
  size_t queued_bytes; /* of the messages in queued */
  size_t held;         /* bytes that what is in flight holds, by estimate (held.c) */
  uint32_t head_len;
  uint32_t calls;       /* in flight */
  uint32_t batches;     /* that are not answered yet, also while none of their calls is in flight */
  uint32_t on_peer;     /* of those: wait for an answer of the client's */
  uint32_t n_queued;    /* length of queued */
  uint32_t opened;      /* WebSocket: seconds of worker_now when it was accepted */
  uint8_t media_type;   /* of the HTTP request in progress: index into media_types */
  bool is_opening : 1;  /* Lua decides whether to accept the handshake */
  bool is_accepted : 1; /* a WebSocket that Lua may have seen */
  bool is_known : 1;    /* Lua has an instance for it and must hear of its end */
  bool is_plain : 1;    /* the HTTP request in progress is for a handler of plain HTTP */
  bool has_origin : 1;  /* the HTTP request in progress has an Origin field */
  bool is_leaving : 1;  /* close with 1001 when the last call has ended */
  bool is_released : 1; /* its queued messages are being looked at, or will be in another turn */
};

static inline struct peer *peer_of(struct conn *conn) {
  return conn_upper(conn);
}

/* Has it asked for something that is not answered yet? What is strictly ordered waits for that, and
 * so does the end of a connection that is to leave. */
static inline bool peer_is_busy(const struct peer *p) {
  return p->calls || p->batches;
}

#endif
