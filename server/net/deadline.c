/* SPDX-License-Identifier: MIT */
/* deadline.c -- all timeouts of a worker on one uv_timer_t.
 *
 * A binary min-heap of (key, deadline). The key is the time the heap believes in and is never later
 * than the deadline's own `due`: when a key comes up too early the entry sinks to its real time. */
#include "net/deadline.h"

#include "base/mem.h"

#include <stdlib.h>

enum {
  LATE_MS = 100,      /* a timer that late has not just had to wait for others */
  ARRIVAL_MS = 10000, /* in which what was sent meanwhile arrives */
};

struct deadline_entry {
  uint64_t key;
  struct deadline *d;
};

static void put(struct deadlines *ds, uint32_t place, struct deadline_entry e) {
  ds->heap[place] = e;
  e.d->place = place;
}

static void rise(struct deadlines *ds, uint32_t place, struct deadline_entry e) {
  while (place > 1 && ds->heap[place / 2].key > e.key) {
    put(ds, place, ds->heap[place / 2]);
    place /= 2;
  }
  put(ds, place, e);
}

static void sink(struct deadlines *ds, uint32_t place, struct deadline_entry e) {
  for (;;) {
    uint32_t child = place * 2;
    if (child > ds->n) break;
    if (child < ds->n && ds->heap[child + 1].key < ds->heap[child].key) child++;
    if (ds->heap[child].key >= e.key) break;
    put(ds, place, ds->heap[child]);
    place = child;
  }
  put(ds, place, e);
}

static void fire_due(struct deadlines *ds, uint64_t now) {
  ds->is_firing = true;
  while (ds->n && ds->heap[1].key <= now) {
    struct deadline *d = ds->heap[1].d;
    if (d->due <= now && d->missed && d->missed != ds->missed + 1) {
      uint32_t missed = ds->missed + 1 - d->missed;
      d->missed = ds->missed + 1;
      d->due = now + (missed < ARRIVAL_MS ? missed : ARRIVAL_MS);
    }
    if (d->due > now) {
      sink(ds, 1, (struct deadline_entry){d->due, d});
      continue;
    }
    deadline_unset(ds, d);
    d->fire(d);
  }
  ds->is_firing = false;
}

static void arm(struct deadlines *ds);

static void stop_waiting(struct deadlines *ds) {
  uv_check_stop(&ds->after_poll);
  uv_idle_stop(&ds->no_sleep);
}

static void on_polled(uv_check_t *check) {
  struct deadlines *ds = check->data;
  stop_waiting(ds);
  fire_due(ds, deadlines_now(ds));
  arm(ds);
}

static void on_idle(uv_idle_t *idle) {
  (void)idle; /* its being active is the point: the poll does not sleep */
}

/* The loop should have looked since `from`. A worker whose every turn takes long is no process that
 * was away: after each time that was counted as much has to pass before the next, ARRIVAL_MS at
 * most, so that a wait which was given more time ends in between. */
static void count_missed(struct deadlines *ds, uint64_t now) {
  uint64_t from = ds->looked && ds->looked < ds->armed ? ds->looked : ds->armed;
  if (from <= ds->counts_from || now < ds->armed + LATE_MS) return;
  uint64_t missed = now - from;
  ds->missed += (uint32_t)missed;
  ds->counts_from = now + (missed < ARRIVAL_MS ? missed : ARRIVAL_MS);
}

static void on_timer(uv_timer_t *timer) {
  struct deadlines *ds = timer->data;
  count_missed(ds, deadlines_now(ds));
  ds->armed = 0;
  uv_check_start(&ds->after_poll, on_polled);
  uv_idle_start(&ds->no_sleep, on_idle);
}

static void arm(struct deadlines *ds) {
  if (ds->is_frozen) return;
  if (ds->n == 0) return; /* a timer that fires for nothing costs less than stopping it each time */
  uint64_t key = ds->heap[1].key;
  if (ds->armed && ds->armed <= key) return;
  uint64_t now = deadlines_now(ds);
  ds->armed = key > now ? key : now; /* what was due before is not late for it */
  uv_timer_start(&ds->timer, on_timer, ds->armed - now, 0);
}

void deadlines_open(struct deadlines *ds, uv_loop_t *loop) {
  *ds = (struct deadlines){0};
  uv_timer_init(loop, &ds->timer);
  uv_check_init(loop, &ds->after_poll);
  uv_idle_init(loop, &ds->no_sleep);
  ds->timer.data = ds->after_poll.data = ds;
}

void deadlines_close(struct deadlines *ds) {
  uv_close((uv_handle_t *)&ds->timer, NULL);
  uv_close((uv_handle_t *)&ds->after_poll, NULL);
  uv_close((uv_handle_t *)&ds->no_sleep, NULL);
  /* whoever has one still may unset it afterwards: tasks that wait end after the worker has closed
   */
  for (uint32_t i = 1; i <= ds->n; i++) ds->heap[i].d->place = 0;
  free(ds->heap);
  ds->heap = NULL;
  ds->n = ds->cap = 0;
}

uint64_t deadlines_now(const struct deadlines *ds) {
  return ds->is_frozen ? ds->frozen_now : uv_now(ds->timer.loop);
}

void deadline_await(struct deadlines *ds, struct deadline *d, uint64_t due) {
  deadline_set(ds, d, due);
  d->missed = ds->missed + 1;
}

void deadline_set(struct deadlines *ds, struct deadline *d, uint64_t due) {
  /* What fires may set deadlines. Those due at once wait for the next turn, or one that sets itself
   * would hold the loop: libuv 1.44 runs a timer of 0 ms again in the same turn. */
  if (ds->is_firing && due <= deadlines_now(ds)) due = deadlines_now(ds) + 1;
  d->due = due;
  d->missed = 0;
  if (d->place) {
    if (due >= ds->heap[d->place].key) return; /* later: the heap finds out */
    rise(ds, d->place, (struct deadline_entry){due, d});
  } else {
    if (ds->n + 1 >= ds->cap) {
      ds->cap = ds->cap ? ds->cap * 2 : 64;
      ds->heap = mem_realloc(ds->heap, ds->cap * sizeof *ds->heap);
    }
    ds->n++;
    rise(ds, ds->n, (struct deadline_entry){due, d});
  }
  if (d->place == 1) arm(ds);
}

void deadline_unset(struct deadlines *ds, struct deadline *d) {
  uint32_t place = d->place;
  if (place == 0) return;
  d->place = 0;
  struct deadline_entry last = ds->heap[ds->n--];
  if (last.d == d) return;
  if (place > 1 && ds->heap[place / 2].key > last.key)
    rise(ds, place, last);
  else
    sink(ds, place, last);
}

void deadlines_freeze(struct deadlines *ds) {
  ds->frozen_now = deadlines_now(ds);
  ds->is_frozen = true;
  uv_timer_stop(&ds->timer);
  stop_waiting(ds);
  ds->armed = 0;
}

bool deadlines_advance(struct deadlines *ds, uint64_t until) {
  check(ds->is_frozen);
  while (ds->n) { /* let early keys sink, so that the clock does not stop for nothing */
    struct deadline_entry e = ds->heap[1];
    if (e.d->due == e.key) break;
    sink(ds, 1, (struct deadline_entry){e.d->due, e.d});
  }
  if (ds->n == 0 || ds->heap[1].key > until) {
    if (until > ds->frozen_now) ds->frozen_now = until;
    return false;
  }
  if (ds->heap[1].key > ds->frozen_now) ds->frozen_now = ds->heap[1].key;
  fire_due(ds, ds->frozen_now);
  return true;
}
