/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_SHARED_H
#define PERIGEE_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* shared.c -- keys and values that all workers of the process see: perigee.shared without Redis.
 *
 * Keys and values are bytes; values of numbers are their decimal text, so that they can be added
 * to. In shards with a lock each, held for the time of one look or copy. Any thread.
 *
 * Times are milliseconds of the caller's worker_now(), whose clock all workers share. */

enum { SHARED_SHARDS = 64, SHARED_KEY_MAX = 1024 };

struct shared {
  struct shared_shard {
    uv_mutex_t lock;
    struct shared_entry *by_key;
    uint64_t sweep_at; /* nothing expires before; 0: nothing expires at all */
  } shards[SHARED_SHARDS];
  atomic_uint_fast64_t bytes; /* of all shards */
  uint64_t max;
};

enum shared_result {
  SHARED_OK,
  SHARED_NONE,       /* no such key */
  SHARED_EXISTS,     /* shared_add: there is one */
  SHARED_FULL,       /* no room; nothing was changed */
  SHARED_NOT_NUMBER, /* shared_incr: the value, or the sum, is no number */
};

enum { SHARED_KEEP = -1, SHARED_FOREVER = 0 }; /* for ttl */

/* max: bytes that keys and values may take in all. */
void shared_init(struct shared *s, uint64_t max);
void shared_fini(struct shared *s);
/* Forgets everything. */
void shared_clear(struct shared *s);

/* *value is malloc'd, zero-terminated. */
enum shared_result shared_get(struct shared *s, const char *key, size_t n_key, uint64_t now,
                              char **value, size_t *n);
/* ttl in milliseconds; SHARED_FOREVER: none. */
enum shared_result shared_set(struct shared *s, const char *key, size_t n_key, const char *value,
                              size_t n, uint64_t now, int64_t ttl, bool only_new);
/* Adds to a number, integers exactly; a missing one counts as 0 and gets the ttl. out: the sum's
 * text, zero-terminated. is_float: `by` is by_float, not by_int. */
enum { SHARED_NUMBER = 32 };
enum shared_result shared_incr(struct shared *s, const char *key, size_t n_key, bool is_float,
                               int64_t by_int, double by_float, uint64_t now, int64_t ttl,
                               char out[static SHARED_NUMBER]);
enum shared_result shared_expire(struct shared *s, const char *key, size_t n_key, uint64_t now,
                                 int64_t ttl);
enum shared_result shared_delete(struct shared *s, const char *key, size_t n_key, uint64_t now);

#endif
