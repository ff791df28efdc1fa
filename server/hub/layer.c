/* SPDX-License-Identifier: MIT */
/* layer.c -- the channel layer: what the workers of a process share, and how they reach each other.
 */
#include "hub/layer.h"

#include "base/log.h"
#include "base/streams.h"
#include "net/worker.h"

#include <string.h>
#include <sys/random.h>

void layer_init(struct layer *layer, unsigned n_workers, uint64_t shared_max) {
  check(n_workers >= 1 && n_workers <= TOPIC_WORKERS_MAX);
  memset(layer, 0, sizeof *layer);
  layer->n = n_workers;
  while (layer->node == 0)
    check(getrandom(&layer->node, sizeof layer->node, 0) == sizeof layer->node);
  topics_init(&layer->topics);
  shared_init(&layer->shared, shared_max);
}

void layer_fini(struct layer *layer) {
  shared_fini(&layer->shared);
  topics_fini(&layer->topics);
}

void layer_enlist(struct layer *layer, struct worker *w) {
  atomic_store(&layer->workers[w->index], w);
}

void layer_dismiss(struct layer *layer, struct worker *w) {
  atomic_store(&layer->workers[w->index], NULL);
}

struct worker *layer_worker(struct layer *layer, unsigned index) {
  return index < layer->n ? atomic_load_explicit(&layer->workers[index], memory_order_acquire)
                          : NULL;
}

unsigned layer_metrics(struct layer *layer, const struct metrics *all[TOPIC_WORKERS_MAX + 1]) {
  unsigned n = 1;
  metric_set(&layer->metrics.log_dropped, streams_dropped());
  metric_set(&layer->metrics.log_suppressed, log_suppressed());
  all[0] = &layer->metrics;
  for (unsigned i = 0; i < layer->n; i++) {
    const struct worker *w = layer_worker(layer, i);
    if (w) all[n++] = &w->metrics;
  }
  return n;
}

struct mailbox *layer_broker(struct layer *layer) {
  return atomic_load_explicit(&layer->broker, memory_order_acquire);
}

void layer_discard(struct layer *layer, struct parcel *p) {
  if (p->topic) {
    struct topic *topic = p->topic;
    p->topic = NULL;
    topics_release(&layer->topics, topic);
  }
  parcel_free(p);
}

/* ---- posting --------------------------------------------------------------------------------- */

/* What must arrive: somebody waits for it, or it is said once. There is little of it: a task waits
 * for one thing at a time. */
static bool is_control(const struct parcel *p) {
  if (p->mail.kind == PARCEL_TEXT)
    return p->n_names == 0 && p->to.conn == 0; /* questions, answers */
  return p->mail.kind == PARCEL_WAKE || p->mail.kind == PARCEL_CHANGED;
}

static void log_drop(const char *where, unsigned worker, uint64_t n) {
  static struct log_limit limit = LOG_LIMIT(1);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_WARN, "a mailbox is full, messages are dropped")) return;
  log_str(&l, "to", where);
  if (*where == 'w') log_uint(&l, "index", worker);
  log_uint(&l, "dropped", n);
  log_end(&l);
}

/* ---- a turn's mail --------------------------------------------------------------------------- */

void outbox_init(struct outbox *o, struct layer *layer, struct metrics *metrics) {
  memset(o, 0, sizeof *o);
  o->layer = layer;
  o->metrics = metrics;
}

enum { LANE_MAX = 1024 }; /* parcels: a handler that publishes in a loop has no turn's end */

static void add(struct lane *lane, struct parcel *p) {
  p->mail.next = NULL;
  lane->count++;
  if (lane->first)
    *lane->last = &p->mail;
  else
    lane->first = &p->mail;
  lane->last = &p->mail.next;
}

/* Posts a lane; what does not fit is dropped, except for control mail. box NULL: the addressee has
 * ended, which is no drop. */
static void post_lane(struct outbox *o, struct lane *lane, struct mailbox *box, const char *where,
                      unsigned index) {
  struct mail *rest = box ? mailbox_post_chain(box, lane->first) : lane->first;
  uint64_t dropped = 0;
  lane->first = NULL;
  lane->count = 0;
  while (rest) {
    struct parcel *p = (struct parcel *)rest;
    rest = rest->next;
    if (box && is_control(p) && mailbox_post_control(box, &p->mail)) continue;
    layer_discard(o->layer, p);
    dropped++;
  }
  if (dropped == 0 || !box) return;
  metric_add(&o->metrics->mail_dropped, dropped);
  log_drop(where, index, dropped);
}

static void post_to_worker(struct outbox *o, unsigned index) {
  struct worker *w = layer_worker(o->layer, index);
  o->waiting &= ~(1ull << index);
  post_lane(o, &o->lanes[index], w ? &w->mailbox : NULL, "worker", index);
}

static void post_to_broker(struct outbox *o) {
  post_lane(o, &o->broker, layer_broker(o->layer), "broker", 0);
}

void outbox_add(struct outbox *o, unsigned worker, struct parcel *p) {
  add(&o->lanes[worker], p);
  o->waiting |= 1ull << worker;
  if (o->lanes[worker].count == LANE_MAX) post_to_worker(o, worker);
}

void outbox_add_broker(struct outbox *o, struct parcel *p) {
  add(&o->broker, p);
  if (o->broker.count == LANE_MAX) post_to_broker(o);
}

void outbox_flush(struct outbox *o) {
  while (o->waiting) post_to_worker(o, (unsigned)__builtin_ctzll(o->waiting));
  if (o->broker.first) post_to_broker(o);
}
