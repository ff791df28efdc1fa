/* SPDX-License-Identifier: MIT */
/* collector.c -- what a burst has left is collected, and its memory goes back to the system. */
#include "bridge/collector.h"

#include "base/mem.h"
#include "bridge/host.h"

enum {
  WAIT_MS = 2000,
  WAIT_MOST_MS = 300 * 1000,
  STEP_MS = 10,              /* from one step to the next */
  STEP_NS = 2 * 1000 * 1000, /* a step takes */
  CYCLES = 2,                /* the first may have begun before the garbage was made */
  SMALL = 4 * 1024 * 1024,   /* not worth a cycle */
  QUIET = 200,               /* less than that happens from tick to tick: a cycle delays nobody */
  MUCH = 16 * 1024 * 1024,
};

static struct host *host_of_tick(struct deadline *d) {
  return (struct host *)((char *)d - offsetof(struct host, collector.tick));
}

static void set(struct host *h, uint64_t ms) {
  deadline_set(&h->worker.deadlines, &h->collector.tick, worker_now(&h->worker) + ms);
}

/* ---- memory that malloc keeps ---------------------------------------------------------------- */

static void trim_work(uv_work_t *work) {
  (void)work;
  mem_trim();
}

static void trim_done(uv_work_t *work, int status) {
  struct collector *c = work->data;
  (void)status;
  c->is_trimming = false;
}

/* On a thread of the pool: with hundreds of megabytes it takes a while. */
static void trim(struct host *h) {
  struct collector *c = &h->collector;
  if (c->is_trimming || !mem_trim_is_due()) return;
  c->work.data = c;
  c->is_trimming = uv_queue_work(&h->worker.loop, &c->work, trim_work, trim_done) == 0;
}

/* ---- garbage that Lua keeps ------------------------------------------------------------------ */

static int step_body(lua_State *L) {
  struct collector *c = lua_touserdata(L, 1);
  uint64_t began = uv_hrtime();
  if (lua_gc(L, LUA_GCINC, 0, 0, 0) == LUA_GCGEN) { /* an app's wish: a step tells no end then */
    lua_gc(L, LUA_GCGEN, 0, 0);                     /* to begin with generations is a whole cycle */
    c->cycles = 0;
    return 0;
  }
  while (c->cycles && uv_hrtime() - began < STEP_NS)
    if (lua_gc(L, LUA_GCSTEP, 0)) c->cycles--;
  return 0;
}

static void end_cycle(struct host *h) {
  struct collector *c = &h->collector;
  size_t used = h->memory.used, freed = c->before > used ? c->before - used : 0;
  c->settled = used;
  c->wait_ms = freed > c->before / 4 ? WAIT_MS : c->wait_ms * 2;
  if (c->wait_ms > WAIT_MOST_MS) c->wait_ms = WAIT_MOST_MS;
  memory_give_back(&h->memory);
  trim(h);
}

static void step(struct host *h) {
  struct collector *c = &h->collector;
  if (!task_protect(h, step_body, c, 0)) { /* a __gc failed: another time */
    lua_pop(h->L, 1);
    c->cycles = 0;
  }
  if (c->cycles)
    set(h, STEP_MS);
  else
    end_cycle(h);
}

/* Far more than live objects and what Lua lets garbage grow to before it collects by itself. */
static bool is_burst(const struct host *h) {
  return h->memory.used > 3 * h->collector.settled + MUCH;
}

static void on_tick(struct deadline *d) {
  struct host *h = host_of_tick(d);
  struct collector *c = &h->collector;
  if (c->cycles) {
    step(h);
    return;
  }
  bool is_quiet = h->worker.activity - c->seen < QUIET;
  c->seen = h->worker.activity;
  c->before = h->memory.used;
  if (c->before < c->settled) c->settled = c->before;
  if (is_quiet ? c->before < SMALL : !is_burst(h)) {
    trim(h);
    return;
  }
  c->cycles = CYCLES;
  step(h);
}

void collector_init(struct host *h) {
  h->collector = (struct collector){.wait_ms = WAIT_MS, .tick.fire = on_tick};
}

void collector_wake(struct host *h) {
  struct collector *c = &h->collector;
  if (deadline_is_set(&c->tick) || h->worker.activity == c->seen) return;
  if (h->worker.deadlines.is_frozen || h->is_stopping) return;
  if (is_burst(h)) c->wait_ms = WAIT_MS;
  set(h, c->wait_ms);
}

void collector_stop(struct host *h) {
  deadline_unset(&h->worker.deadlines, &h->collector.tick);
}
