/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_BUF_H
#define PERIGEE_BUF_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* buf.c -- a block of bytes with a reference count, and a builder that fills blocks.
 *
 *   struct buf       | message | message | message |........ free ........|
 *                     ^ a slice           ^ another  ^ len                  ^ cap
 *
 * A block is filled from the front by exactly one builder. Bytes below `len` never change once a
 * slice of them was handed out, so slices may be read from any thread; only the reference count is
 * touched by several. A message is a slice, not a block: hundreds of small messages share one. */

struct buf {
  atomic_uint refs; /* the builder's own reference counts too */
  uint32_t len;     /* bytes that are final; written by the builder's thread only */
  uint32_t cap;
  bool is_shared; /* its messages are for many: a queue need not copy its part */
  uint8_t data[];
};

/* Bytes [off, off + len) of a block. Whoever stores one in a queue owns one reference. */
struct slice {
  struct buf *buf;
  uint32_t off;
  uint32_t len;
};

/* The longest message a builder will make: 1 GiB, so that 32-bit offsets never wrap. */
#define BUF_MAX (1u << 30)

/* A new block with one reference. cap in bytes, at most BUF_MAX plus slack. */
struct buf *buf_new(size_t cap);
struct buf *buf_ref(struct buf *buf);
void buf_unref(struct buf *buf); /* the last one frees; any thread */

static inline const uint8_t *slice_data(const struct slice *slice) {
  return slice->buf->data + slice->off;
}

/* Fills blocks with one message after the other. Owned by one thread. Zero-initialised is ready. */
struct builder {
  struct buf *buf; /* one reference, or NULL before the first message */
  uint32_t start;  /* where the message in progress begins */
  uint32_t end;    /* where its next byte goes */
  bool is_open;    /* between builder_begin and builder_commit or builder_abort */
  bool is_failed;  /* the message grew over BUF_MAX: its bytes are dropped, commit refuses */
  bool is_shared;  /* the maker's: so are its blocks */
};

/* Starts a message. Must not be open. */
void builder_begin(struct builder *b);

/* Moves the message in progress to a block with room for n more bytes. */
void builder_grow(struct builder *b, size_t n);

/* Room for n more bytes; returns where they go, valid until the next call on this builder. The
 * caller then adds what it used to b->end. May move the message to another block, so keep offsets
 * from b->start, not pointers. Never NULL: past BUF_MAX the builder fails and hands out scratch. */
static inline uint8_t *builder_room(struct builder *b, size_t n) {
  if (__builtin_expect(b->buf->cap - b->end < n, 0)) builder_grow(b, n);
  return b->buf->data + b->end;
}

/* The message has grown over BUF_MAX: what it has is dropped. */
static inline void builder_fail(struct builder *b) {
  b->is_failed = true;
  b->end = b->start;
}

static inline void builder_add(struct builder *b, const void *bytes, size_t n) {
  if (__builtin_expect(n > BUF_MAX, 0)) {
    builder_fail(b);
    return;
  }
  memcpy(builder_room(b, n), bytes, n);
  b->end += (uint32_t)n;
}

static inline void builder_text(struct builder *b, const char *s) {
  builder_add(b, s, strlen(s));
}

static inline void builder_byte(struct builder *b, uint8_t byte) {
  *builder_room(b, 1) = byte;
  b->end++;
}

/* Bytes of the message in progress. */
static inline uint32_t builder_len(const struct builder *b) {
  return b->end - b->start;
}
static inline uint8_t *builder_data(const struct builder *b) {
  return b->buf->data + b->start;
}

/* Ends the message. The slice holds no reference of its own: buf_ref what is kept beyond the next
 * builder_begin. Returns false (and an empty slice) when the message failed. */
bool builder_commit(struct builder *b, struct slice *out);

/* Throws the message in progress away; harmless when none is. */
void builder_abort(struct builder *b);

/* When no slice is referenced any more, starts again at the front of the block, so that a quiet
 * server writes to the same few cache lines for ever. Call between messages. */
void builder_rewind(struct builder *b);

void builder_fini(struct builder *b);

#endif
