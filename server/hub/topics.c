/* SPDX-License-Identifier: MIT */
/* topics.c -- which workers of this process have members of a group, and how many in all. */
#include "hub/topics.h"

#include <string.h>

void topics_init(struct topics *ts) {
  for (int i = 0; i < TOPIC_SHARDS; i++) {
    ts->shards[i].by_name = NULL;
    check(uv_mutex_init(&ts->shards[i].lock) == 0);
  }
}

void topics_fini(struct topics *ts) {
  for (int i = 0; i < TOPIC_SHARDS; i++) {
    check(ts->shards[i].by_name == NULL);
    uv_mutex_destroy(&ts->shards[i].lock);
  }
}

/* The table inside a shard uses the hash's low bits, so the shard is chosen by high ones. */
static struct topic_shard *shard_of(struct topics *ts, unsigned hash) {
  return &ts->shards[hash >> 26];
}
_Static_assert(TOPIC_SHARDS == 64, "six bits choose a shard");

static struct topic *find(struct topic_shard *shard, const char *name, size_t n, unsigned hash) {
  struct topic *topic = NULL;
  HASH_FIND_BYHASHVALUE(hh, shard->by_name, name, n, hash, topic);
  return topic;
}

struct topic *topics_hold(struct topics *ts, const char *name, size_t n) {
  unsigned hash = (unsigned)hash_bytes(name, n);
  struct topic_shard *shard = shard_of(ts, hash);
  uv_mutex_lock(&shard->lock);
  struct topic *topic = find(shard, name, n, hash);
  if (!topic) {
    topic = mem_zalloc(sizeof *topic + n);
    topic->name_len = (uint32_t)n;
    memcpy(topic->name, name, n);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, shard->by_name, topic->name, n, hash, topic);
  }
  topic->holders++;
  uv_mutex_unlock(&shard->lock);
  return topic;
}

void topics_hold_again(struct topics *ts, struct topic *topic) {
  struct topic_shard *shard = shard_of(ts, topic->hh.hashv);
  uv_mutex_lock(&shard->lock);
  topic->holders++;
  uv_mutex_unlock(&shard->lock);
}

void topics_release(struct topics *ts, struct topic *topic) {
  struct topic_shard *shard = shard_of(ts, topic->hh.hashv);
  uv_mutex_lock(&shard->lock);
  bool is_last = --topic->holders == 0;
  if (is_last) HASH_DEL(shard->by_name, topic);
  uv_mutex_unlock(&shard->lock);
  if (is_last) free(topic);
}

uint64_t topics_workers(struct topics *ts, const char *name, size_t n) {
  unsigned hash = (unsigned)hash_bytes(name, n);
  struct topic_shard *shard = shard_of(ts, hash);
  uv_mutex_lock(&shard->lock);
  struct topic *topic = find(shard, name, n, hash);
  uint64_t workers = topic ? atomic_load(&topic->workers) : 0;
  uv_mutex_unlock(&shard->lock);
  return workers;
}

uint32_t topics_members(struct topics *ts, const char *name, size_t n) {
  unsigned hash = (unsigned)hash_bytes(name, n);
  struct topic_shard *shard = shard_of(ts, hash);
  uv_mutex_lock(&shard->lock);
  struct topic *topic = find(shard, name, n, hash);
  uint32_t members = topic ? atomic_load(&topic->members) : 0;
  uv_mutex_unlock(&shard->lock);
  return members;
}

void topics_each(struct topics *ts, void (*fn)(struct topic *topic, void *arg), void *arg) {
  for (int i = 0; i < TOPIC_SHARDS; i++) {
    struct topic_shard *shard = &ts->shards[i];
    uv_mutex_lock(&shard->lock);
    for (struct topic *topic = shard->by_name, *next; topic; topic = next) {
      next = topic->hh.next;
      fn(topic, arg);
    }
    uv_mutex_unlock(&shard->lock);
  }
}
