/* SPDX-License-Identifier: MIT */
/* shared.c -- keys and values that all workers of the process see: perigee.shared without Redis.
 *
 * What has expired is not seen any more at once and freed by a sweep of its shard when somebody
 * looks into that: at most one a second, and none before something can have expired. */
#include "hub/shared.h"

#include "hub/table.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SWEEP_MS = 1000, OVERHEAD = 96 };

struct shared_entry {
  UT_hash_handle hh;
  uint64_t expires; /* 0: never */
  char *value;      /* owned, zero-terminated */
  size_t n;
  uint32_t n_key;
  char key[];
};

void shared_init(struct shared *s, uint64_t max) {
  memset(s, 0, sizeof *s);
  s->max = max;
  for (int i = 0; i < SHARED_SHARDS; i++) check(uv_mutex_init(&s->shards[i].lock) == 0);
}

static uint64_t weight(const struct shared_entry *e) {
  return OVERHEAD + e->n_key + e->n;
}

static void drop(struct shared *s, struct shared_shard *shard, struct shared_entry *e) {
  atomic_fetch_sub(&s->bytes, weight(e));
  HASH_DEL(shard->by_key, e);
  free(e->value);
  free(e);
}

void shared_clear(struct shared *s) {
  for (int i = 0; i < SHARED_SHARDS; i++) {
    uv_mutex_lock(&s->shards[i].lock);
    while (s->shards[i].by_key) drop(s, &s->shards[i], s->shards[i].by_key);
    uv_mutex_unlock(&s->shards[i].lock);
  }
}

void shared_fini(struct shared *s) {
  shared_clear(s);
  for (int i = 0; i < SHARED_SHARDS; i++) uv_mutex_destroy(&s->shards[i].lock);
}

static bool is_over(const struct shared_entry *e, uint64_t now) {
  return e->expires && e->expires <= now;
}

static void sweep(struct shared *s, struct shared_shard *shard, uint64_t now) {
  uint64_t next = 0;
  for (struct shared_entry *e = shard->by_key, *after; e; e = after) {
    after = e->hh.next;
    if (is_over(e, now))
      drop(s, shard, e);
    else if (e->expires && (next == 0 || e->expires < next))
      next = e->expires;
  }
  shard->sweep_at = next && next < now + SWEEP_MS ? now + SWEEP_MS : next;
}

/* Locks the key's shard; *e is its entry, or NULL when there is none that has not expired. */
static struct shared_shard *look_up(struct shared *s, const char *key, size_t n, uint64_t now,
                                    unsigned *hash, struct shared_entry **e) {
  *hash = (unsigned)hash_bytes(key, n);
  struct shared_shard *shard = &s->shards[*hash >> 26];
  uv_mutex_lock(&shard->lock);
  if (shard->sweep_at && shard->sweep_at <= now) sweep(s, shard, now);
  *e = NULL;
  HASH_FIND_BYHASHVALUE(hh, shard->by_key, key, n, *hash, *e);
  if (*e && is_over(*e, now)) {
    drop(s, shard, *e);
    *e = NULL;
  }
  return shard;
}
_Static_assert(SHARED_SHARDS == 64, "six bits choose a shard");

static enum shared_result unlock(struct shared_shard *shard, enum shared_result result) {
  uv_mutex_unlock(&shard->lock);
  return result;
}

static void set_ttl(struct shared_shard *shard, struct shared_entry *e, uint64_t now, int64_t ttl) {
  if (ttl == SHARED_KEEP) return;
  e->expires = ttl > 0 ? now + (uint64_t)ttl : 0;
  if (e->expires && (shard->sweep_at == 0 || e->expires < shard->sweep_at))
    shard->sweep_at = e->expires;
}

enum shared_result shared_get(struct shared *s, const char *key, size_t n_key, uint64_t now,
                              char **value, size_t *n) {
  unsigned hash;
  struct shared_entry *e;
  struct shared_shard *shard = look_up(s, key, n_key, now, &hash, &e);
  if (!e) return unlock(shard, SHARED_NONE);
  *n = e->n;
  *value = mem_dup(e->value, e->n + 1);
  return unlock(shard, SHARED_OK);
}

/* Makes or changes an entry, the shard being locked. */
static enum shared_result put(struct shared *s, struct shared_shard *shard, struct shared_entry *e,
                              unsigned hash, const char *key, size_t n_key, const char *value,
                              size_t n, uint64_t now, int64_t ttl) {
  uint64_t freed = e ? weight(e) : 0, needed = OVERHEAD + n_key + n;
  if (needed > freed && atomic_fetch_add(&s->bytes, needed - freed) + needed - freed > s->max) {
    atomic_fetch_sub(&s->bytes, needed - freed);
    return SHARED_FULL;
  }
  if (needed < freed) atomic_fetch_sub(&s->bytes, freed - needed);
  char *copy = mem_alloc(n + 1);
  memcpy(copy, value, n);
  copy[n] = '\0';
  if (!e) {
    e = mem_zalloc(sizeof *e + n_key);
    e->n_key = (uint32_t)n_key;
    memcpy(e->key, key, n_key);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, shard->by_key, e->key, n_key, hash, e);
  }
  free(e->value);
  e->value = copy;
  e->n = n;
  set_ttl(shard, e, now, ttl);
  return SHARED_OK;
}

enum shared_result shared_set(struct shared *s, const char *key, size_t n_key, const char *value,
                              size_t n, uint64_t now, int64_t ttl, bool only_new) {
  unsigned hash;
  struct shared_entry *e;
  struct shared_shard *shard = look_up(s, key, n_key, now, &hash, &e);
  if (e && only_new) return unlock(shard, SHARED_EXISTS);
  return unlock(shard, put(s, shard, e, hash, key, n_key, value, n, now, ttl));
}

/* Reads a number the way JSON writes it. */
static bool read_number(const char *text, bool *is_float, int64_t *i, double *f) {
  char *end;
  if (strspn(text, "-0123456789.eE+") != strlen(text) || !*text) return false;
  errno = 0;
  *i = strtoll(text, &end, 10);
  *is_float = *end != '\0' || errno;
  *f = *is_float ? strtod(text, &end) : (double)*i;
  return *end == '\0';
}

enum shared_result shared_incr(struct shared *s, const char *key, size_t n_key, bool is_float,
                               int64_t by_int, double by_float, uint64_t now, int64_t ttl,
                               char out[static SHARED_NUMBER]) {
  unsigned hash;
  struct shared_entry *e;
  struct shared_shard *shard = look_up(s, key, n_key, now, &hash, &e);
  bool was_float = false;
  int64_t i = 0, sum = 0;
  double f = 0;
  if (e && !read_number(e->value, &was_float, &i, &f)) return unlock(shard, SHARED_NOT_NUMBER);
  if (is_float || was_float) {
    f += is_float ? by_float : (double)by_int;
    if (!isfinite(f)) return unlock(shard, SHARED_NOT_NUMBER);
    for (int digits = 15; digits <= 17; digits++) { /* the shortest that reads back the same */
      snprintf(out, SHARED_NUMBER, "%.*g", digits, f);
      if (strtod(out, NULL) == f) break;
    }
  } else {
    if (__builtin_add_overflow(i, by_int, &sum)) return unlock(shard, SHARED_NOT_NUMBER);
    snprintf(out, SHARED_NUMBER, "%" PRId64, sum);
  }
  return unlock(shard,
                put(s, shard, e, hash, key, n_key, out, strlen(out), now, e ? SHARED_KEEP : ttl));
}

enum shared_result shared_expire(struct shared *s, const char *key, size_t n_key, uint64_t now,
                                 int64_t ttl) {
  unsigned hash;
  struct shared_entry *e;
  struct shared_shard *shard = look_up(s, key, n_key, now, &hash, &e);
  if (!e) return unlock(shard, SHARED_NONE);
  set_ttl(shard, e, now, ttl);
  return unlock(shard, SHARED_OK);
}

enum shared_result shared_delete(struct shared *s, const char *key, size_t n_key, uint64_t now) {
  unsigned hash;
  struct shared_entry *e;
  struct shared_shard *shard = look_up(s, key, n_key, now, &hash, &e);
  if (!e) return unlock(shard, SHARED_NONE);
  drop(s, shard, e);
  return unlock(shard, SHARED_OK);
}
