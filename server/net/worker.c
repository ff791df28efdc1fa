/* SPDX-License-Identifier: MIT */
/* worker.c -- one thread: its loop, its connections, and the turn that ends with one flush. */
#include "net/worker.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/http_conn.h"
#include "net/listener.h"

#include <stdlib.h>
#include <time.h>

#ifdef PERIGEE_TINY
enum { READ_BUFFER = 7 };
#else
enum { READ_BUFFER = 64 * 1024 };
#endif

enum {
  MAIL_COUNT = 64 * 1024,
  MAIL_BYTES = 64 * 1024 * 1024,
  SLOT_BITS = 24, /* ids are generation << 24 | slot */
};

struct conn_slot {
  struct conn *conn;   /* NULL: free */
  uint32_t next_free;  /* when free */
  uint32_t generation; /* goes up at each use, so that old ids find nothing */
};

/* ---- the turn -------------------------------------------------------------------------------- */

static void flush_all(struct worker *w) {
  /* flushing may close connections, closing may run protocols, which may send: until nothing is
   * left */
  while (w->dirty) {
    struct conn *conn = w->dirty;
    w->dirty = conn->next_dirty;
    if (!w->dirty) w->dirty_end = &w->dirty;
    conn->next_dirty = NULL;
    conn->is_dirty = false;
    conn_flush(conn);
  }
  builder_rewind(&w->out);
}

static void feed_unpaused(struct worker *w) {
  struct conn *conn = w->unpaused;
  w->unpaused = NULL; /* those that are unpaused meanwhile wait for the next turn: fairness */
  while (conn) {
    struct conn *next = conn->next_unpaused;
    conn->next_unpaused = NULL;
    conn->is_unpaused = false;
    conn_feed_kept(conn);
    conn = next;
  }
}

static void on_idle(uv_idle_t *idle) {
  (void)idle; /* its being active is the point */
}

static void on_prepare(uv_prepare_t *prepare) {
  struct worker *w = prepare->data;
  w->is_hurried = false; /* whatever happens from here on and makes work sets it again */
  if (w->events.turn && w->events.turn(w->owner)) w->is_hurried = true;
  feed_unpaused(w);
  flush_all(w);
  if (w->is_closed) return; /* in this very turn: a closed handle must not be started */
  if (w->is_hurried || w->unpaused)
    uv_idle_start(&w->idle, on_idle);
  else
    uv_idle_stop(&w->idle);
}

void worker_hurry(struct worker *w) {
  w->is_hurried = true;
  if (!w->is_closed) uv_idle_start(&w->idle, on_idle);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_mail(void *owner, struct mail *mail) {
  struct worker *w = owner;
  w->events.mail(w->owner, mail);
}

void worker_open(struct worker *w, uint32_t index, const struct conn_limits *limits,
                 const struct http_handler *http, const struct ws_handler *ws,
                 struct worker_events events, void *owner, size_t upper_size, uint32_t max_conns) {
  *w = (struct worker){.index = index,
                       .limits = limits,
                       .http = http,
                       .ws = ws,
                       .events = events,
                       .owner = owner,
                       .upper_size = upper_size,
                       .max_conns = max_conns};
  check(uv_loop_init(&w->loop) == 0);
  w->loop.data = w;
  deadlines_open(&w->deadlines, &w->loop);
  mailbox_open(&w->mailbox, &w->loop, MAIL_COUNT, MAIL_BYTES, on_mail, w);
  uv_prepare_init(&w->loop, &w->prepare);
  w->prepare.data = w;
  uv_prepare_start(&w->prepare, on_prepare);
  uv_idle_init(&w->loop, &w->idle);
  w->dirty_end = &w->dirty;
  w->free_slot = UINT32_MAX;
  w->read_buffer = mem_alloc(READ_BUFFER);
}

size_t worker_read_size(void) {
  return READ_BUFFER;
}

void worker_each_conn(struct worker *w, void (*fn)(struct conn *conn, void *arg), void *arg) {
  for (uint32_t i = 0; i < w->n_slots; i++)
    if (w->slots[i].conn) fn(w->slots[i].conn, arg);
}

static void drain_one(struct conn *conn, void *arg) {
  (void)arg;
  if (conn->state == CONN_OPEN) conn->protocol->drain(conn);
}

static void cut_one(struct conn *conn, void *arg) {
  (void)arg;
  conn_close(conn, "server stopped");
}

void worker_drain(struct worker *w) {
  if (w->is_draining) return;
  w->is_draining = true;
  listeners_close(w);
  worker_each_conn(w, drain_one, NULL);
}

void worker_cut(struct worker *w) {
  listeners_close(w);
  worker_each_conn(w, cut_one, NULL);
}

void worker_close(struct worker *w) {
  worker_cut(w);
  w->is_closed = true;
  mailbox_close(&w->mailbox);
  uv_close((uv_handle_t *)&w->prepare, NULL);
  uv_close((uv_handle_t *)&w->idle, NULL);
  deadlines_close(&w->deadlines);
}

static void report_handle(uv_handle_t *handle, void *arg) {
  (void)arg;
  struct log_line l;
  if (!log_begin(&l, LOG_ERROR, "a loop handle outlived its worker")) return;
  log_str(&l, "type", uv_handle_type_name(handle->type));
  log_end(&l);
}

bool worker_fini(struct worker *w) {
  feed_unpaused(w); /* closed connections that wait in a list are freed by whoever takes them out */
  flush_all(w);
  bool is_clean = uv_loop_close(&w->loop) == 0;
  if (!is_clean) uv_walk(&w->loop, report_handle, NULL);
  http_conns_fini(w);
  mailbox_fini(&w->mailbox);
  builder_fini(&w->out);
  free(w->slots);
  free(w->read_buffer);
  return is_clean;
}

const char *worker_date(struct worker *w) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != w->date_second) {
    w->date_second = now.tv_sec;
    http_date(now.tv_sec, w->date);
  }
  return w->date;
}

/* ---- ids ------------------------------------------------------------------------------------- */

void worker_add_conn(struct worker *w, struct conn *conn) {
  if (w->free_slot == UINT32_MAX) {
    uint32_t n = w->n_slots ? w->n_slots * 2 : 64;
    check(n <= 1u << SLOT_BITS);
    w->slots = mem_realloc(w->slots, n * sizeof *w->slots);
    for (uint32_t i = n; i-- > w->n_slots;) {
      w->slots[i] = (struct conn_slot){.next_free = w->free_slot};
      w->free_slot = i;
    }
    w->n_slots = n;
  }
  struct conn_slot *slot = &w->slots[w->free_slot];
  conn->slot = w->free_slot;
  w->free_slot = slot->next_free;
  slot->conn = conn;
  slot->generation++;
  w->n_conns++;
}

void worker_remove_conn(struct worker *w, struct conn *conn) {
  struct conn_slot *slot = &w->slots[conn->slot];
  slot->conn = NULL;
  slot->next_free = w->free_slot;
  w->free_slot = conn->slot;
  w->n_conns--;
}

uint64_t conn_id(const struct conn *conn) {
  return (uint64_t)conn->worker->slots[conn->slot].generation << SLOT_BITS | conn->slot;
}

struct conn *worker_conn(const struct worker *w, uint64_t id) {
  uint64_t slot = id & ((1u << SLOT_BITS) - 1);
  if (slot >= w->n_slots || w->slots[slot].generation != id >> SLOT_BITS) return NULL;
  return w->slots[slot].conn;
}
