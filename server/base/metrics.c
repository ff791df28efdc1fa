/* SPDX-License-Identifier: MIT */
/* metrics.c -- the counters and gauges of a worker, and the page that shows them. */
#include "base/metrics.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
  const char *name, *help;
  bool is_gauge;
} known[] = {
#define COUNTER(name, help) {#name, help, false},
#define GAUGE(name, help)   {#name, help, true},
#include "base/metrics.def"
#undef GAUGE
#undef COUNTER
};

const int metrics_count = (int)(sizeof known / sizeof *known);
_Static_assert(sizeof(struct metrics) ==
                   sizeof known / sizeof *known * sizeof(atomic_uint_fast64_t),
               "struct metrics is an array of counters");

const char *metrics_name(int i) {
  return known[i].name;
}

const char *metrics_help(int i) {
  return known[i].help;
}

uint64_t metrics_value(const struct metrics *m, int i) {
  return atomic_load_explicit((const atomic_uint_fast64_t *)m + i, memory_order_relaxed);
}

void metrics_write(struct builder *b, const struct metrics *const *workers, unsigned n) {
  char line[512];
  for (int i = 0; i < metrics_count; i++) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < n; k++) sum += metrics_value(workers[k], i);
    const char *name = known[i].name, *end = known[i].is_gauge ? "" : "_total";
    int len = snprintf(line, sizeof line,
                       "# HELP perigee_%s%s %s\n# TYPE perigee_%s%s %s\nperigee_%s%s %" PRIu64 "\n",
                       name, end, known[i].help, name, end, known[i].is_gauge ? "gauge" : "counter",
                       name, end, sum);
    builder_add(b, line, (size_t)len);
  }
}
