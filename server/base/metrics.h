/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_METRICS_H
#define PERIGEE_METRICS_H

#include "base/buf.h"

#include <stdatomic.h>

/* metrics.c -- the counters and gauges of a worker, and the page that shows them (Prometheus text
 * format). */

struct metrics {
#define COUNTER(name, help) atomic_uint_fast64_t name;
#define GAUGE               COUNTER
#include "base/metrics.def"
#undef GAUGE
#undef COUNTER
};

/* Each counter is written by its worker only and read by anybody: a load and a store will do, no
 * locked instruction. */
static inline void metric_add(atomic_uint_fast64_t *counter, uint64_t n) {
  uint64_t v = atomic_load_explicit(counter, memory_order_relaxed);
  atomic_store_explicit(counter, v + n, memory_order_relaxed);
}

static inline void metric_set(atomic_uint_fast64_t *gauge, uint64_t n) {
  atomic_store_explicit(gauge, n, memory_order_relaxed);
}

/* Counters and gauges by index, 0 to metrics_count - 1, in the order of metrics.def. */
extern const int metrics_count;
const char *metrics_name(int i);
const char *metrics_help(int i);
uint64_t metrics_value(const struct metrics *m, int i);

/* Appends the page, sums over n workers, to the message in progress. */
void metrics_write(struct builder *b, const struct metrics *const *workers, unsigned n);

#endif
