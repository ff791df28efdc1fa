/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_TOPICS_H
#define PERIGEE_TOPICS_H

#include "hub/table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* topics.c -- which workers of this process have members of a group, and how many in all.
 *
 * A table shared by all threads, in shards with a lock each. A worker takes the lock when its first
 * member of a group joins or its last one leaves, and when it publishes to a group that it has no
 * members of; everything else goes through the pointer it keeps. Any thread. */

enum {
  TOPIC_WORKERS_MAX = 64, /* bits in topic.workers */
  TOPIC_SHARDS = 64,
};

struct topic {
  UT_hash_handle hh;
  uint32_t holders;             /* under the shard's lock: 0 ends it */
  atomic_uint members;          /* on all workers */
  atomic_uint_fast64_t workers; /* a bit for each worker that has some */
  atomic_bool is_changed;       /* the broker was told and has not looked yet */
  atomic_bool is_subscribed;    /* the broker's: messages of other machines arrive */
  uint32_t name_len;
  char name[];
};

struct topics {
  struct topic_shard {
    uv_mutex_t lock;
    struct topic *by_name;
  } shards[TOPIC_SHARDS];
};

void topics_init(struct topics *ts);
/* Nobody may hold a topic any more. */
void topics_fini(struct topics *ts);

/* The topic of that name, made when there is none; hold it until topics_release. */
struct topic *topics_hold(struct topics *ts, const char *name, size_t n);
/* One more holder, by somebody who holds it already. */
void topics_hold_again(struct topics *ts, struct topic *topic);
void topics_release(struct topics *ts, struct topic *topic);

/* The bits of the workers that have members; 0 when there is no such topic. */
uint64_t topics_workers(struct topics *ts, const char *name, size_t n);

/* Members on all workers. */
uint32_t topics_members(struct topics *ts, const char *name, size_t n);

/* Calls fn for every topic, each shard locked meanwhile: fn must not call this room. */
void topics_each(struct topics *ts, void (*fn)(struct topic *topic, void *arg), void *arg);

#endif
