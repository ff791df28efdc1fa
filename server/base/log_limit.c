/* SPDX-License-Identifier: MIT */
/* log_limit.c -- keeps lines of one kind from filling the log: a few per second, then their number.
 */
#include "base/hash.h"
#include "base/log.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

enum {
  KINDS = 256, /* by their hash; two that meet share what one may say */
  KIND_BYTES = 240,
};

/* A kind of lines that is told by a text. */
struct kind {
  size_t n;
  char text[KIND_BYTES];
  enum log_level level;
  uint64_t window;
  unsigned count, missed;
};

static struct {
  _Atomic(struct log_limit *) first; /* of the limits that ever held a line back */
  atomic_uint_fast64_t suppressed;
  pthread_mutex_t lock; /* of kinds */
  struct kind kinds[KINDS];
} limits = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t this_second(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec + 1; /* never 0, so the first second starts a window */
}

uint64_t log_suppressed(void) {
  return atomic_load(&limits.suppressed);
}

static void say_more(enum log_level level, const char *of, size_t n, unsigned missed) {
  struct log_line l;
  if (!log_begin(&l, level, "more like it")) return;
  log_bytes(&l, "of", of, n);
  log_uint(&l, "suppressed", missed);
  log_end(&l);
}

/* ---- lines of one place in C ----------------------------------------------------------------- */

static void hold_back(struct log_limit *limit, enum log_level level, const char *event) {
  atomic_fetch_add_explicit(&limit->missed, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&limits.suppressed, 1, memory_order_relaxed);
  if (atomic_load_explicit(&limit->is_listed, memory_order_relaxed) ||
      atomic_exchange(&limit->is_listed, true))
    return;
  limit->level = level;
  limit->event = event;
  limit->next = atomic_load(&limits.first);
  while (!atomic_compare_exchange_weak(&limits.first, &limit->next, limit)) continue;
}

bool log_begin_limited(struct log_line *l, struct log_limit *limit, enum log_level level,
                       const char *event) {
  if (!log_is_on(level)) return false;
  uint64_t window = this_second();
  if (atomic_exchange_explicit(&limit->window, window, memory_order_relaxed) != window)
    atomic_store_explicit(&limit->count, 0, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&limit->count, 1, memory_order_relaxed) >= limit->burst) {
    hold_back(limit, level, event);
    return false;
  }
  if (!log_begin(l, level, event)) return false;
  unsigned missed = atomic_exchange_explicit(&limit->missed, 0, memory_order_relaxed);
  if (missed) log_uint(l, "suppressed", missed);
  return true;
}

/* ---- lines of a kind that is told by a text -------------------------------------------------- */

static void tell_kind(struct kind *k) {
  if (k->missed) say_more(k->level, k->text, k->n, k->missed);
  k->missed = 0;
}

static bool is_due(struct kind *k, uint64_t window, uint32_t burst) {
  if (k->window != window) k->count = 0;
  k->window = window;
  if (k->count++ < burst) return true;
  k->missed++;
  atomic_fetch_add_explicit(&limits.suppressed, 1, memory_order_relaxed);
  return false;
}

bool log_is_due(enum log_level level, const char *text, size_t n, uint32_t burst,
                unsigned *missed) {
  *missed = 0;
  if (!log_is_on(level)) return false;
  if (n > KIND_BYTES) n = KIND_BYTES;
  struct kind *k = &limits.kinds[hash_bytes(text, n) % KINDS];
  pthread_mutex_lock(&limits.lock);
  if (k->n != n || memcmp(k->text, text, n) != 0) {
    tell_kind(k);
    k->n = n; /* window and count stay: two that take turns have no more lines than one */
    k->level = level;
    memcpy(k->text, text, n);
  }
  bool is_said = is_due(k, this_second(), burst);
  if (is_said) {
    *missed = k->missed;
    k->missed = 0;
  }
  pthread_mutex_unlock(&limits.lock);
  return is_said;
}

/* ---- what was held back ---------------------------------------------------------------------- */

void log_tell_suppressed(bool is_all) {
  uint64_t window = this_second();
  for (struct log_limit *one = atomic_load(&limits.first); one; one = one->next) {
    if (!is_all && atomic_load(&one->window) == window) continue;
    unsigned missed = atomic_exchange(&one->missed, 0);
    if (missed) say_more(one->level, one->event, strlen(one->event), missed);
  }
  pthread_mutex_lock(&limits.lock);
  for (int i = 0; i < KINDS; i++)
    if (is_all || limits.kinds[i].window != window) tell_kind(&limits.kinds[i]);
  pthread_mutex_unlock(&limits.lock);
}
