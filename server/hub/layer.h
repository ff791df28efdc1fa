/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LAYER_H
#define PERIGEE_LAYER_H

#include "base/metrics.h"
#include "hub/parcel.h"
#include "hub/shared.h"
#include "hub/topics.h"

#include <stdatomic.h>

/* layer.c -- the channel layer: what the workers of a process share, and how they reach each other.
 *
 *   worker ──outbox──▶ worker           the same process: mail, bodies shared by reference
 *      └─────outbox──▶ broker ─▶ Redis  other machines, when there is a Redis
 *
 * Made before the workers, gone after them. Any thread. */

struct worker;

struct layer {
  uint64_t node;                                       /* random name of this process, never 0 */
  unsigned n;                                          /* workers, 1 to TOPIC_WORKERS_MAX */
  _Atomic(struct worker *) workers[TOPIC_WORKERS_MAX]; /* NULL until one has opened */
  _Atomic(struct mailbox *) broker;                    /* NULL: the memory layer */
  struct topics topics;
  struct shared shared;
  struct metrics metrics; /* of the process; by the broker's thread and layer_metrics */
};

void layer_init(struct layer *layer, unsigned n_workers, uint64_t shared_max);
/* When all workers are gone. */
void layer_fini(struct layer *layer);

/* Others may send mail to this worker from now on; no more, as it ends. Its memory stays until all
 * workers have ended. */
void layer_enlist(struct layer *layer, struct worker *w);
void layer_dismiss(struct layer *layer, struct worker *w);

struct worker *layer_worker(struct layer *layer, unsigned index);
/* The counters of the process and of all workers; returns how many. Any thread. */
unsigned layer_metrics(struct layer *layer, const struct metrics *all[TOPIC_WORKERS_MAX + 1]);
struct mailbox *layer_broker(struct layer *layer);

/* A worker's mail of one turn, posted when the turn ends, or when there is much of it: one lock and
 * one wake-up per addressee, and the order of sending is kept. Mail that finds the addressee's box
 * full is dropped and counted; mail that must arrive (PARCEL_WAKE, PARCEL_CHANGED) has no limit.
 * Worker's thread only. */
struct outbox {
  struct layer *layer;
  struct metrics *metrics; /* the worker's: drops are counted there */
  uint64_t waiting;        /* a bit per worker with mail in its lane */
  struct lane {
    struct mail *first, **last;
    uint32_t count;
  } lanes[TOPIC_WORKERS_MAX];
  struct lane broker; /* first NULL: nothing */
};

void outbox_init(struct outbox *o, struct layer *layer, struct metrics *metrics);
void outbox_add(struct outbox *o, unsigned worker, struct parcel *p);
/* Only when there is a broker. */
void outbox_add_broker(struct outbox *o, struct parcel *p);
/* Posts all. Turn's end. */
void outbox_flush(struct outbox *o);

/* Releases the topic, if any, and frees. */
void layer_discard(struct layer *layer, struct parcel *p);

#endif
