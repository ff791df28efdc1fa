/* SPDX-License-Identifier: MIT */
/* held.c -- what is in flight holds of Lua's memory, by estimate, and what is refused for it. */
#include "bridge/held.h"

#include "bridge/host.h"
#include "bridge/json.h"
#include "bridge/peer.h"
#include "bridge/settings.h"

enum {
  VALUE_BYTES = 80, /* a value takes in Lua: an empty table and its place */
  CONN_PART = 16,   /* one connection may hold this part of Lua's memory, then it is not read */
  LITTLE_PART = 4,  /* all may hold this part: then what is long is refused ... */
  MUCH_PART = 2,    /* ... and this: then all but what is short */
  LONG_BYTES = 16 * 1024,
  SHORT_BYTES = 1024,
};

void held_add(struct host *h, uint64_t id, size_t bytes) {
  struct conn *conn = worker_conn(&h->worker, id);
  h->held += bytes;
  if (conn) peer_of(conn)->held += bytes;
}

void held_drop(struct host *h, uint64_t id, size_t bytes) {
  struct conn *conn = worker_conn(&h->worker, id);
  h->held -= bytes;
  if (conn) peer_of(conn)->held -= bytes;
}

size_t held_weight(const char *text, size_t n) {
  return n + (size_t)json_count(text, n) * VALUE_BYTES;
}

bool held_is_over(size_t held, size_t memory, size_t weight) {
  if (held > memory / MUCH_PART) return weight > SHORT_BYTES;
  return held > memory / LITTLE_PART && weight > LONG_BYTES;
}

bool held_refuses(struct host *h, size_t n) {
  if (!held_is_over(h->held, h->settings->lua_memory, n)) return false;
  metric_add(&h->worker.metrics.calls_refused, 1);
  return true;
}

bool held_refuses_json(struct host *h, const char *text, size_t n) {
  if (h->held <= h->settings->lua_memory / LITTLE_PART) return false;
  return held_refuses(h, held_weight(text, n));
}

bool held_is_full(const struct conn *conn, uint64_t factor) {
  size_t held = peer_of((struct conn *)conn)->held;
  return held && held > host_of_conn(conn)->settings->lua_memory / CONN_PART * factor;
}
