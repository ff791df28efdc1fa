/* SPDX-License-Identifier: MIT */
/* metrics.c -- the counters of a worker, and the page that shows them. */
#include "base/metrics.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
  const char *name, *help;
} known[] = {
#define COUNTER(name, help) {#name, help},
#include "base/metrics.def"
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
    int len = snprintf(line, sizeof line,
                       "# HELP perigee_%s_total %s\n# TYPE perigee_%s_total counter\n"
                       "perigee_%s_total %" PRIu64 "\n",
                       known[i].name, known[i].help, known[i].name, known[i].name, sum);
    builder_add(b, line, (size_t)len);
  }
}
