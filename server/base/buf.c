/* SPDX-License-Identifier: MIT */
/* buf.c -- a block of bytes with a reference count, and a builder that fills blocks. */
#include "base/buf.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* A block holds many small messages; a longer message gets a block of its own size. The tiny build
 * makes every message cross a block border. */
#ifdef PERIGEE_TINY
enum { BLOCK = 48, SPARE = 8 };
#else
enum { BLOCK = 64 * 1024 - (int)sizeof(struct buf), SPARE = 512 };
#endif

struct buf *buf_new(size_t cap) {
  check(cap <= UINT32_MAX);
  struct buf *buf = mem_alloc(sizeof *buf + cap);
  atomic_init(&buf->refs, 1);
  buf->len = 0;
  buf->cap = (uint32_t)cap;
  buf->is_shared = false;
  return buf;
}

struct buf *buf_ref(struct buf *buf) {
  atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
  return buf;
}

void buf_unref(struct buf *buf) {
  /* release: our reads of the bytes happen before the free; acquire: the freeing thread sees them.
   * No fence for the last one alone, as the thread sanitizer does not understand fences. */
  if (atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) == 1) free(buf);
}

void builder_begin(struct builder *b) {
  check(!b->is_open);
  if (!b->buf || b->buf->cap - b->buf->len < SPARE) {
    if (b->buf) buf_unref(b->buf);
    b->buf = buf_new(BLOCK);
    b->buf->is_shared = b->is_shared;
  }
  b->start = b->end = b->buf->len;
  b->is_open = true;
  b->is_failed = false;
}

void builder_grow(struct builder *b, size_t need) {
  size_t used = b->end - b->start;
  check(need <= BUF_MAX);
  if (used + need > BUF_MAX) {
    /* keep going on scratch so that encoders need no error path of their own */
    builder_fail(b);
    used = 0;
  }
  size_t cap = BLOCK;
  while (cap < (used + need) * 2 && cap < BUF_MAX) cap *= 2;
  if (cap < used + need) cap = used + need;
  struct buf *bigger = buf_new(cap);
  bigger->is_shared = b->is_shared;
  if (used) memcpy(bigger->data, b->buf->data + b->start, used);
  buf_unref(b->buf);
  b->buf = bigger;
  b->start = 0;
  b->end = (uint32_t)used;
}

bool builder_commit(struct builder *b, struct slice *out) {
  check(b->is_open);
  b->is_open = false;
  if (b->is_failed) {
    *out = (struct slice){b->buf, b->start, 0};
    return false;
  }
  *out = (struct slice){b->buf, b->start, b->end - b->start};
  b->buf->len = b->end;
  return true;
}

void builder_abort(struct builder *b) {
  b->is_open = false;
  b->end = b->start;
}

void builder_rewind(struct builder *b) {
  if (b->is_open || !b->buf) return;
  if (atomic_load_explicit(&b->buf->refs, memory_order_acquire) != 1) return;
  if (b->buf->cap > BLOCK) { /* made for one long message: do not keep it */
    buf_unref(b->buf);
    b->buf = NULL;
    return;
  }
  b->buf->len = 0;
}

void builder_fini(struct builder *b) {
  if (b->buf) buf_unref(b->buf);
  *b = (struct builder){0};
}
