/* SPDX-License-Identifier: MIT */
/* holder.c -- what holds a worker so that nothing can end it: a C function, or a __gc. */
#include "bridge/holder.h"

#include "base/log.h"
#include "bridge/host.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

static uint64_t now_ms(void) {
  return uv_hrtime() / 1000000;
}

void holder_ask(struct host *h, unsigned serial, uint64_t ran_ms) {
  struct holder *b = &h->slice.holder;
  b->asked = serial;
  b->ran = ran_ms;
  atomic_store_explicit(&b->step, HOLDER_ASKED, memory_order_release);
}

void holder_look(struct host *h) {
  struct holder *b = &h->slice.holder;
  const struct task *t = h->tasks.running;
  if (atomic_load_explicit(&b->step, memory_order_acquire) != HOLDER_ASKED) return;
  if (b->asked != atomic_load_explicit(&h->slice.serial, memory_order_relaxed)) return; /* over */
  size_t n = t && t->path ? strnlen(t->path, sizeof b->path - 1) : 0;
  if (n) memcpy(b->path, t->path, n);
  b->path[n] = '\0';
  atomic_store_explicit(&b->began, now_ms() - b->ran, memory_order_relaxed);
  int asked = HOLDER_ASKED; /* or the watchdog has waited long enough */
  atomic_compare_exchange_strong_explicit(&b->step, &asked, HOLDER_SEEN, memory_order_release,
                                          memory_order_relaxed);
}

void holder_tell(struct host *h) {
  struct holder *b = &h->slice.holder;
  struct log_line l;
  int step = atomic_load_explicit(&b->step, memory_order_acquire);
  if (step == HOLDER_UNKNOWN) return; /* else it was asked at the last tick; it may be over */
  metric_add(&h->worker.metrics.slices_held, 1); /* nobody else counts these */
  if (log_begin(&l, LOG_ERROR,
                "a worker is held by a C function, or by a __gc, that nothing can end: give it "
                "less to do, or call it by perigee.blocking")) {
    log_uint(&l, "worker", h->worker.index);
    log_uint(&l, "ms", b->ran);
    if (step == HOLDER_SEEN && *b->path) log_str(&l, "path", b->path);
    log_end(&l);
  }
  atomic_store_explicit(&b->step, HOLDER_UNKNOWN, memory_order_relaxed);
}

/* The innermost line of Lua, and the C function that it has called. */
static void log_place(struct log_line *l, lua_State *L, bool is_return) {
  lua_Debug ar;
  char at[sizeof ar.short_src + 16];
  for (int level = 0; lua_getstack(L, level, &ar) && lua_getinfo(L, "nSl", &ar); level++) {
    if (level == 0 && is_return && *ar.what == 'C' && ar.name) log_str(l, "function", ar.name);
    if (ar.currentline <= 0) continue;
    snprintf(at, sizeof at, "%s:%d", ar.short_src, ar.currentline);
    log_str(l, "at", at);
    return;
  }
}

void holder_over(lua_State *L, bool is_return) {
  struct host *h = host_of(L);
  struct log_line l;
  uint64_t began = atomic_load_explicit(&h->slice.holder.began, memory_order_relaxed);
  if (!began) return;
  holder_forget(h);
  if (!log_begin(&l, LOG_ERROR, "what held a worker has come back")) return;
  log_uint(&l, "worker", h->worker.index);
  log_uint(&l, "ms", now_ms() - began);
  log_place(&l, L, is_return);
  log_end(&l);
}

void holder_forget(struct host *h) {
  atomic_store_explicit(&h->slice.holder.began, 0, memory_order_relaxed);
}
