/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_WORKER_H
#define PERIGEE_WORKER_H

#include "base/buf.h"
#include "base/metrics.h"
#include "net/conn.h"
#include "net/deadline.h"
#include "net/mailbox.h"
#include "net/turn.h"

#include <stdbool.h>
#include <uv.h>

/* worker.c -- one thread: its loop, its connections, and the turn that ends with one flush.
 *
 *   poll ─▶ reads, mail, timers ─▶ turn: ready work ─▶ paused input ─▶ flush every dirty connection
 *
 * The turn runs in uv_prepare, the last thing before the loop sleeps, so whatever was sent during
 * a turn leaves in one write per connection. */

struct http_conn;
struct listener;
struct ws_deflate;

enum { CONN_CHUNKS = 4096 };

struct worker_events {
  /* Work that is ready: resume coroutines. Returns true when some is left for the next turn. */
  bool (*turn)(void *owner);
  /* All of a turn's work is done, what it sent leaves next: post mail to other threads. */
  void (*turned)(void *owner);
  /* Mail posted to worker.mailbox; owns the mail. */
  mailbox_fn *mail;
};

struct worker {
  uv_loop_t loop;
  uint32_t index; /* 0 to N-1 */
  const struct conn_limits *limits;
  const struct http_handler *http; /* the floor above, for requests and messages */
  const struct ws_handler *ws;
  struct worker_events events;
  void *owner; /* whoever opened the worker; passed to events */

  struct deadlines deadlines;
  struct mailbox mailbox;
  uv_prepare_t prepare;
  uv_idle_t idle; /* runs only while work is left over: keeps the loop from sleeping */

  /* id -> connection: chunks that never move, as other threads look into them */
  _Atomic(struct conn_slot *) chunks[CONN_CHUNKS];
  uint32_t n_slots, free_slot, n_conns;
  uint32_t max_conns;
  size_t upper_size; /* bytes behind each conn for the floor above */

  struct conn *dirty; /* has something to flush */
  struct conn **dirty_end;
  struct conn *unpaused; /* may be fed kept input: who came first is first */
  struct conn **unpaused_end;
  struct turn turn;
  struct builder out;           /* bytes of this turn's answers */
  uint8_t *read_buffer;         /* one for all connections */
  struct http_conn *spare_http; /* free list */
  struct ws_deflate *deflate;   /* owned by ws_conn.c; NULL until a message is compressed */
  uint32_t n_spare_http;
  int64_t date_second; /* what date says */
  char date[30];
  struct listener *listeners; /* list */
  bool is_draining;
  bool is_closed;    /* by worker_close: there are no more turns */
  bool is_hurried;   /* somebody made work for another turn */
  uint64_t activity; /* goes up whenever anything happens: tests wait until it does not */
  struct metrics metrics;
};

/* Opens the loop and everything on it. limits, http and ws must outlive the worker. */
void worker_open(struct worker *w, uint32_t index, const struct conn_limits *limits,
                 const struct http_handler *http, const struct ws_handler *ws,
                 struct worker_events events, void *owner, size_t upper_size, uint32_t max_conns);

/* Stops listening and lets every connection end in its protocol's way: idle HTTP closes at once,
 * requests are answered first, WebSockets are told to the ws handler's `drain`. */
void worker_drain(struct worker *w);

/* Closes every connection now, without words. */
void worker_cut(struct worker *w);

/* Closes what worker_open opened; then run the loop until it returns, then worker_fini. */
void worker_close(struct worker *w);
/* After the loop has returned. Returns false when handles are left, which it logs by type. Other
 * threads may still post mail, which is refused, and ask worker_reaches. */
bool worker_fini(struct worker *w);
/* When no other thread can do that any more. */
void worker_free(struct worker *w);

/* Milliseconds; see deadline.h. */
static inline uint64_t worker_now(const struct worker *w) {
  return deadlines_now(&w->deadlines);
}

/* The same without the time in which the process did not run: for how long a peer was listened to.
 */
static inline uint64_t worker_heard(const struct worker *w) {
  return deadlines_now(&w->deadlines) - w->deadlines.missed;
}

/* For how long since then. That may lie ahead: what comes first after a pause is read before the
 * pause is counted. */
static inline uint64_t worker_heard_since(const struct worker *w, uint64_t then) {
  uint64_t heard = worker_heard(w);
  return heard > then ? heard - then : 0;
}

/* Date field of HTTP answers, at most a second old. */
const char *worker_date(struct worker *w);

/* The connection with that id, or NULL when it is gone. */
struct conn *worker_conn(const struct worker *w, uint64_t id);

/* Can a channel of that id be sent to? Any thread; the worker's own thread says so with
 * worker_set_reachable, and only for a connection that is there. */
bool worker_reaches(struct worker *w, uint64_t id);
void worker_set_reachable(struct worker *w, const struct conn *conn, bool is_reachable);

/* The first connection at or behind a place in the table, which moves on behind it; NULL: none. For
 * walks with pauses: who comes meanwhile may be missed, nobody who stays is met twice or not at
 * all.
 */
struct conn *worker_next_conn(const struct worker *w, uint32_t *slot);

/* Calls fn for each connection; fn may close it. */
void worker_each_conn(struct worker *w, void (*fn)(struct conn *conn, void *arg), void *arg);

/* Makes the loop take another turn without sleeping. */
void worker_hurry(struct worker *w);

/* For conn.c: feeds kept input when the connection's turn has come. */
void worker_feed_later(struct worker *w, struct conn *conn);

/* For conn.c: the connection table, and the size of the shared read buffer. */
void worker_add_conn(struct worker *w, struct conn *conn);
/* A new id: what the old one was kept for is over. */
void worker_renew_conn(struct worker *w, const struct conn *conn);
void worker_remove_conn(struct worker *w, struct conn *conn);
size_t worker_read_size(void);

#endif
