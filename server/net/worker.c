/* SPDX-License-Identifier: MIT */
/* worker.c -- one thread: its loop, its connections, and the turn that ends with one flush. */
#include "net/worker.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/http_conn.h"
#include "net/listener.h"
#include "net/ws_conn.h"

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
  CHUNK_BITS = 12,
  CHUNK = 1 << CHUNK_BITS, /* slots that are allocated at once */
};
_Static_assert(CHUNK_BITS + 12 == SLOT_BITS && CONN_CHUNKS == 1 << 12, "every slot has a chunk");

struct conn_slot {
  struct conn *conn;  /* NULL: free */
  uint32_t next_free; /* when free */
  /* counts uses << 1, so that old ids find nothing; bit 0: frames can be sent to it */
  atomic_uint_fast64_t state;
};
enum { REACHABLE = 1 };

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
  ws_conns_turn(w);
}

void worker_feed_later(struct worker *w, struct conn *conn) {
  if (conn->is_unpaused) return;
  conn->is_unpaused = true;
  conn->next_unpaused = NULL;
  *w->unpaused_end = conn;
  w->unpaused_end = &conn->next_unpaused;
  worker_hurry(w);
}

/* Those that are listed meanwhile wait for the next turn, and so do those behind who took long: all
 * of them together get no more of a turn than one connection, as who has just come and asks for
 * little waits for them too. */
static void feed_unpaused(struct worker *w) {
  struct conn *conn = w->unpaused, **end = w->unpaused_end;
  uint64_t began = turn_clock();
  w->unpaused = NULL;
  w->unpaused_end = &w->unpaused;
  while (conn) {
    struct conn *next = conn->next_unpaused;
    conn->next_unpaused = NULL;
    conn->is_unpaused = false;
    conn_feed_kept(conn);
    conn = next;
    if (conn && turn_clock() - began >= w->turn.most) { /* they come before the new ones */
      *end = w->unpaused;
      if (w->unpaused) end = w->unpaused_end;
      w->unpaused = conn;
      w->unpaused_end = end;
      return;
    }
  }
}

/* In tests, whose clock is moved by hand, how long something takes must change nothing. */
static void end_turn(struct worker *w) {
  turn_end(&w->turn, w->activity);
  w->turn.most = w->deadlines.is_frozen ? UINT32_MAX : w->limits->turn_ms;
}

static void on_idle(uv_idle_t *idle) {
  (void)idle; /* its being active is the point */
}

static void on_prepare(uv_prepare_t *prepare) {
  struct worker *w = prepare->data;
  w->is_hurried = false; /* whatever happens from here on and makes work sets it again */
  turn_begin(&w->turn, w->activity);
  if (w->turn.is_late) flush_all(w); /* answers to others do not wait for it */
  if (w->events.turn && w->events.turn(w->owner)) w->is_hurried = true;
  if (w->unpaused) feed_unpaused(w);
  if (w->events.turned) w->events.turned(w->owner);
  flush_all(w);
  end_turn(w);
  w->deadlines.looked = uv_now(&w->loop);
  if (w->is_closed) return; /* in this very turn: a closed handle must not be started */
  if (w->is_hurried || w->unpaused || w->turn.has_late)
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
                       .max_conns = max_conns,
                       .turn = {.most = UINT32_MAX}}; /* until the limits are read: end_turn */
  check(uv_loop_init(&w->loop) == 0);
  w->loop.data = w;
  deadlines_open(&w->deadlines, &w->loop);
  mailbox_open(&w->mailbox, &w->loop, MAIL_COUNT, MAIL_BYTES, on_mail, w);
  uv_prepare_init(&w->loop, &w->prepare);
  w->prepare.data = w;
  uv_prepare_start(&w->prepare, on_prepare);
  uv_idle_init(&w->loop, &w->idle);
  w->dirty_end = &w->dirty;
  w->unpaused_end = &w->unpaused;
  w->free_slot = UINT32_MAX;
  w->read_buffer = mem_alloc(READ_BUFFER);
}

size_t worker_read_size(void) {
  return READ_BUFFER;
}

static struct conn_slot *slot_at(const struct worker *w, uint64_t slot) {
  /* relaxed: on the worker's own thread, which wrote it */
  return atomic_load_explicit(&w->chunks[slot >> CHUNK_BITS], memory_order_relaxed) +
         (slot & (CHUNK - 1));
}

void worker_each_conn(struct worker *w, void (*fn)(struct conn *conn, void *arg), void *arg) {
  for (uint32_t i = 0; i < w->n_slots; i++)
    if (slot_at(w, i)->conn) fn(slot_at(w, i)->conn, arg);
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
  /* closed connections that wait in a list are freed by whoever takes them out */
  while (w->unpaused) feed_unpaused(w);
  flush_all(w);
  bool is_clean = uv_loop_close(&w->loop) == 0;
  if (!is_clean) uv_walk(&w->loop, report_handle, NULL);
  http_conns_fini(w);
  builder_fini(&w->out);
  ws_conns_fini(w);
  free(w->read_buffer);
  return is_clean;
}

void worker_free(struct worker *w) {
  mailbox_fini(&w->mailbox);
  for (uint32_t i = 0; i < w->n_slots; i += CHUNK) free(slot_at(w, i));
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

static void add_chunk(struct worker *w) {
  check(w->n_slots < 1u << SLOT_BITS);
  struct conn_slot *chunk = mem_zalloc(CHUNK * sizeof *chunk);
  atomic_store_explicit(&w->chunks[w->n_slots >> CHUNK_BITS], chunk, memory_order_release);
  for (uint32_t i = CHUNK; i-- > 0;) {
    chunk[i].next_free = w->free_slot;
    w->free_slot = w->n_slots + i;
  }
  w->n_slots += CHUNK;
}

static uint64_t state_of(const struct conn_slot *slot) {
  return atomic_load_explicit(&slot->state, memory_order_relaxed);
}

static void begin_generation(struct conn_slot *slot) {
  atomic_store_explicit(&slot->state, (state_of(slot) | REACHABLE) + 1, memory_order_relaxed);
}

void worker_add_conn(struct worker *w, struct conn *conn) {
  if (w->free_slot == UINT32_MAX) add_chunk(w);
  struct conn_slot *slot = slot_at(w, w->free_slot);
  conn->slot = w->free_slot;
  w->free_slot = slot->next_free;
  slot->conn = conn;
  begin_generation(slot);
  w->n_conns++;
  metric_set(&w->metrics.connections, w->n_conns);
}

void worker_renew_conn(struct worker *w, const struct conn *conn) {
  begin_generation(slot_at(w, conn->slot));
}

void worker_remove_conn(struct worker *w, struct conn *conn) {
  struct conn_slot *slot = slot_at(w, conn->slot);
  worker_set_reachable(w, conn, false);
  slot->conn = NULL;
  slot->next_free = w->free_slot;
  w->free_slot = conn->slot;
  w->n_conns--;
  metric_set(&w->metrics.connections, w->n_conns);
}

uint64_t conn_id(const struct conn *conn) {
  return state_of(slot_at(conn->worker, conn->slot)) >> 1 << SLOT_BITS | conn->slot;
}

struct conn *worker_conn(const struct worker *w, uint64_t id) {
  uint64_t index = id & ((1u << SLOT_BITS) - 1);
  if (index >= w->n_slots) return NULL;
  struct conn_slot *slot = slot_at(w, index);
  return state_of(slot) >> 1 == id >> SLOT_BITS ? slot->conn : NULL;
}

bool worker_reaches(struct worker *w, uint64_t id) {
  uint64_t index = id & ((1u << SLOT_BITS) - 1);
  struct conn_slot *chunk =
      atomic_load_explicit(&w->chunks[index >> CHUNK_BITS], memory_order_acquire);
  return chunk && state_of(&chunk[index & (CHUNK - 1)]) == (id >> SLOT_BITS << 1 | REACHABLE);
}

void worker_set_reachable(struct worker *w, const struct conn *conn, bool is_reachable) {
  struct conn_slot *slot = slot_at(w, conn->slot);
  uint64_t state = state_of(slot) & ~(uint64_t)REACHABLE;
  atomic_store_explicit(&slot->state, state | (is_reachable ? REACHABLE : 0), memory_order_relaxed);
}

struct conn *worker_next_conn(const struct worker *w, uint32_t *slot) {
  while (*slot < w->n_slots) {
    struct conn *conn = slot_at(w, (*slot)++)->conn;
    if (conn) return conn;
  }
  return NULL;
}
