/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_DEADLINE_H
#define PERIGEE_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* deadline.c -- all timeouts of a worker on one uv_timer_t.
 *
 * What is due fires after the loop has looked for input: what has come in time is read in time,
 * even when the clock has jumped meanwhile.
 *
 * A deadline is embedded in what waits. Moving one to a later time is a store: the heap notices
 * when the old time comes. That is the common case, as every message moves its connection's idle
 * deadline. Worker's thread only. */

struct deadline;
typedef void deadline_fn(struct deadline *d);

struct deadline {
  uint64_t due;    /* milliseconds of deadlines_now() */
  uint32_t place;  /* in the heap, from 1; 0: not set */
  uint32_t missed; /* of deadline_await: what was missed until it was set or moved, and 1; 0: as it
                      stands */
  deadline_fn *fire; /* called once, after the deadline was unset; may set it again */
};

struct deadlines {
  uv_timer_t timer;
  uv_check_t after_poll; /* runs when something is due */
  uv_idle_t no_sleep;    /* as well */
  uint32_t missed;       /* milliseconds in which the loop should have looked and did not;
                            under lasting load half of the time at most, or all but 10 s of
                            each time that it was away for longer */
  uint64_t looked; /* by worker.c: when the loop went to wait last; 0: not known. A pause may have
                      begun at once, long before the timer was due */
  uint64_t counts_from;        /* what began until then is not counted */
  struct deadline_entry *heap; /* from index 1 */
  uint32_t n, cap;
  uint64_t armed; /* when the timer fires, 0: not running */
  bool is_firing; /* what is set now waits for the next turn */
  bool is_frozen; /* tests: only deadlines_advance moves time */
  uint64_t frozen_now;
};

void deadlines_open(struct deadlines *ds, uv_loop_t *loop);
/* Unsets all that are set. */
void deadlines_close(struct deadlines *ds);

/* Milliseconds, monotonic, as of the loop's last look at the clock. */
uint64_t deadlines_now(const struct deadlines *ds);

/* Sets or moves. due 0 or in the past fires on the next turn. */
void deadline_set(struct deadlines *ds, struct deadline *d, uint64_t due);
/* The same, for what waits for something from outside: when the process did not run for a while (it
 * was stopped, its machine was, code ran on) the deadline comes later, as nobody has listened: by
 * what was missed, 10 s at most, which is enough for what was sent meanwhile to arrive. Each
 * time it was away, but not under lasting load: a wait of T is over after 2 T and a turn then. */
void deadline_await(struct deadlines *ds, struct deadline *d, uint64_t due);
/* Harmless when not set. */
void deadline_unset(struct deadlines *ds, struct deadline *d);
static inline bool deadline_is_set(const struct deadline *d) {
  return d->place != 0;
}

/* For tests: stops the clock. From then on only deadlines_advance moves it. */
void deadlines_freeze(struct deadlines *ds);
/* Moves a frozen clock to the next deadline not later than `until` and fires all that are due
 * then. Returns false when there was none left: the clock stands at `until`. */
bool deadlines_advance(struct deadlines *ds, uint64_t until);

#endif
