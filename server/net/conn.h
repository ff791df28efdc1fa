/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_CONN_H
#define PERIGEE_CONN_H

#include "base/buf.h"
#include "net/deadline.h"
#include "net/turn.h"
#include "wire/http.h"
#include "wire/ws.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* conn.c -- one client connection, from accept to close: input, output queue, limits, end.
 *
 *   CONN_OPEN ──conn_finish──▶ CONN_FINISHING ──written, peer's end or deadline──┐
 *       │                                                                        ▼
 *       └────── error, limit, conn_close ──────────────────────────────▶ CONN_CLOSED ─▶ freed
 *
 * What the bytes mean is the protocol's business: http_conn.c first, ws_conn.c after an upgrade.
 * Worker's thread only. conn_close may be called from any depth and any number of times; memory
 * goes in libuv's close callback, when nothing below can be on the C stack any more. */

struct worker;
struct http_conn;
struct conn;

enum conn_state { CONN_OPEN, CONN_FINISHING, CONN_CLOSED };

/* Why input is not read at the moment; any number of reasons at once. */
enum conn_pause {
  PAUSE_OUTPUT = 1, /* the peer does not read what it asked for */
  PAUSE_ANSWER = 2, /* HTTP: one request at a time */
  PAUSE_CALLS = 4,  /* the floor above has enough to do for this connection */
  PAUSE_TURN = 8,   /* it has had its share of this turn: goes on in the next */
  PAUSE_ALL = 15,
};

struct conn_limits {
  struct http_limits http;
  struct ws_limits ws;                /* defaults; a path may have its own */
  uint32_t output_soft, output_hard;  /* bytes */
  uint64_t output_soft_ms;            /* over soft for longer: cut */
  uint64_t head_ms, body_ms, idle_ms; /* request head in all; body or message between reads, and in
                                         all more by its length; keep-alive */
  uint64_t ping_ms, pong_ms;
  uint64_t close_ms;  /* wait for the peer's close frame */
  uint64_t linger_ms; /* wait for the peer's end after ours */
  uint32_t turn_ms;   /* time of one connection in each turn of the loop */
};

/* Bytes per second of a body or message that is no more than body_ms behind. */
enum { CONN_RATE = 64 * 1024 };

/* What is left of the time for a body or message of which so many bytes have come, in all: or one
 * byte every 29 seconds would hold a place for a month. */
static inline uint64_t conn_time_left(const struct conn_limits *limits, uint64_t took, uint64_t n) {
  uint64_t in_all = limits->body_ms + n * 1000 / CONN_RATE;
  return took < in_all ? in_all - took : 0;
}

/* The longest answer that fits into output_hard with what goes along: the head of an HTTP response,
 * short answers to the other members of a batch. */
static inline size_t conn_answer_max(const struct conn_limits *limits) {
  enum { ROOM = 64 * 1024 };
  return limits->output_hard > 2 * ROOM ? limits->output_hard - ROOM : limits->output_hard / 2;
}

/* How a protocol reads its connection. */
struct conn_protocol {
  const char *name;
  /* Bytes in, which may be changed in place; returns how many are done with. Called again with the
   * rest as long as it returns more than 0 and the connection is open and not paused. */
  size_t (*feed)(struct conn *conn, uint8_t *data, size_t n);
  /* The peer ended its half. Must close or finish sooner or later. */
  void (*end)(struct conn *conn);
  /* conn.timeout has come. */
  void (*timeout)(struct conn *conn);
  /* It is read again; the peer was not heard for so long, in milliseconds. May be NULL. */
  void (*resumed)(struct conn *conn, uint64_t ms);
  /* Nothing is queued any more; may be NULL. */
  void (*drained)(struct conn *conn);
  /* The connection is over: called exactly once, from conn_close, before memory goes. */
  void (*closed)(struct conn *conn);
  /* The server wants to stop. */
  void (*drain)(struct conn *conn);
};

struct ws_extra; /* what few connections need: frames sent too early, a pong that waits for room */

/* Life of a WebSocket connection (ws_conn.c), small because idle ones are many. */
struct ws_conn {
  struct ws_reader reader;
  const struct ws_limits *limits;
  struct ws_extra *extra; /* owned; NULL unless needed */
  uint64_t began;        /* worker_heard() at the first byte of a message that is not whole; or 0 */
  uint32_t came;         /* bytes of it */
  bool is_expected;      /* not accepted yet, but may be: frames are kept for it */
  uint16_t code;         /* how it ends, once it does */
  bool is_closing;       /* our close frame is queued */
  bool is_awaiting_pong; /* a ping is out and nothing came since */
};

/* What most connections never need: a queue longer than one slice, and the clock of a slow reader.
 */
struct backlog {
  struct conn *conn;
  struct slice *slices; /* owned; each holds a reference */
  uint32_t n, cap;
  uint32_t compacted;    /* of those: hold no more memory than they need */
  size_t shared;         /* bytes of shared blocks that those hold */
  struct deadline stall; /* over the soft output limit for too long */
};

struct conn {
  uv_tcp_t tcp; /* must be first: libuv hands it back to us */
  struct worker *worker;
  const struct conn_protocol *protocol;
  struct conn *next_dirty, *next_unpaused; /* worker's lists */
  const char *why;                         /* static text: why it ended, for the log */
  uint32_t slot;                           /* in worker.slots */
  uint8_t state;                           /* enum conn_state */
  uint8_t pauses;                          /* enum conn_pause bits */
  bool is_reading : 1;
  bool is_dirty : 1;     /* in worker.dirty */
  bool is_unpaused : 1;  /* in worker.unpaused */
  bool is_doomed : 1;    /* too much output, or for too long: the next flush cuts it */
  bool is_writing : 1;   /* a uv_write is under way */
  bool has_ended : 1;    /* the peer's half is over */
  bool is_fresh : 1;     /* HTTP: no request was answered yet */
  bool has_shut : 1;     /* our half is over */
  bool is_last_word : 1; /* finishing: close as soon as all is written */
  bool is_timed : 1;     /* taken_by is set */
  bool is_gone : 1;      /* libuv has let go: freed when in no list any more */

  struct slice first; /* output queue: the first slice, then the backlog's; len 0: empty */
  uint32_t queued;    /* bytes in the queue, without what a uv_write holds */
  uint32_t input_len; /* input that came while paused, or too little to be anything yet */
  uint8_t *input;     /* owned */
  uint32_t input_cap;
  uint32_t lingered;       /* finishing: bytes thrown away */
  uint32_t left;           /* bytes the peer had not taken when conn_is_taking was asked last */
  uint32_t taken_by;       /* on the way out: when all must be; low bits of worker_heard() */
  struct backlog *backlog; /* owned; NULL unless needed */
  uint64_t active;         /* worker_now() of the last input */
  struct turn_share share; /* of the worker's turn */
  struct deadline timeout; /* the protocol's */

  struct http_conn *http; /* owned by http_conn.c; NULL between requests */
  struct ws_conn ws;
};

/* A new connection from a listening stream. NULL when accepting failed. */
struct conn *conn_accept(struct worker *w, uv_stream_t *from);

/* A connection on a socket that is connected already; takes the descriptor. NULL when libuv cannot
 * use it; the descriptor is closed then. */
struct conn *conn_adopt(struct worker *w, uv_os_sock_t fd);

/* Unique within the worker, never used twice: a name that may be kept when the pointer may not.
 * Each request of an HTTP connection has its own: who comes late with one does not find the next
 * request, which behind a proxy is another client's. A WebSocket keeps that of its handshake. */
uint64_t conn_id(const struct conn *conn);

/* The memory of the floor above, zero-filled at accept, worker.upper_size bytes. */
void *conn_upper(struct conn *conn);

/* Queues bytes; takes a reference of its own. False, and nothing queued, when the connection does
 * not take output any more, or would not even were it empty: whoever makes a message that long is
 * told so where it is made (output_hard). Never calls back, never closes: safe while iterating. */
bool conn_send(struct conn *conn, struct slice slice);

/* Bytes that were sent and not taken by the kernel yet. */
size_t conn_pending(const struct conn *conn);

void conn_pause(struct conn *conn, enum conn_pause why);
/* Kept input is fed on this turn's end, not from inside this call. */
void conn_resume(struct conn *conn, enum conn_pause why);

/* Charges the time since the worker last looked at the clock to this connection. False when it has
 * had its share of this turn: whoever works for it in portions leaves the rest to the next. */
bool conn_may_go_on(struct conn *conn);

/* Takes no more output, ignores input, and closes when all is written and the peer has ended its
 * half (or after limits.linger_ms in which the peer took nothing, or when it has not taken all in
 * the time of a body of that length): closing at once could reset away what it has not read yet. */
void conn_finish(struct conn *conn, const char *why);

/* The same without waiting for the peer's end: for when both sides have said all they will say. */
void conn_end(struct conn *conn, const char *why);

/* Closes now. */
void conn_close(struct conn *conn, const char *why);

static inline bool conn_is_open(const struct conn *conn) {
  return conn->state == CONN_OPEN;
}

/* Moves protocol.timeout; ms from now. */
void conn_set_timeout(struct conn *conn, uint64_t ms);
void conn_unset_timeout(struct conn *conn);

/* Sets the timeout for a peer that has to take what was sent; when it comes: conn_is_taking. */
void conn_watch(struct conn *conn, uint64_t ms);
/* Has it taken anything since this was asked last, or all there is? Slow is not stuck. */
bool conn_is_taking(struct conn *conn);

/* For a connection on its way out whose timeout has come: does its peer go on taking what is left?
 * Then it is watched on, for ms, or cut as a slow reader. Whoever reads gets the rest, but a byte
 * now and then must not hold a place for ever. A rate in each period would wrong who takes a window
 * of the kernel's at once, so there is as much time in all as a body of what is left may take to
 * come.
 */
bool conn_takes_rest(struct conn *conn, uint64_t ms);

/* "127.0.0.1" and port of the peer; false when it is gone already. */
bool conn_peer(const struct conn *conn, char *address, size_t n, unsigned *port);
/* The port it was accepted on; 0 when it is gone already. */
unsigned conn_local_port(const struct conn *conn);

/* For worker.c: writes what is queued. */
void conn_flush(struct conn *conn);
/* For worker.c: feeds kept input, in the next turn if its share of this one is used up. */
void conn_feed_kept(struct conn *conn);

#endif
