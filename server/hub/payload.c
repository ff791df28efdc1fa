/* SPDX-License-Identifier: MIT */
/* payload.c -- what processes say to each other through Redis, as bytes. */
#include "hub/payload.h"

#include "wire/utf8.h"
#include "wire/ws.h"

#include <string.h>

enum { VERSION = 1 };

/* ---- writing --------------------------------------------------------------------------------- */

static void put(struct builder *b, uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; i++) builder_byte(b, (uint8_t)(value >> (8 * i)));
}

static void put_address(struct builder *b, const struct address *a) {
  put(b, a->node, 8);
  put(b, a->worker, 2);
  put(b, a->conn, 8);
}

static void put_names(struct builder *b, const struct parcel *p) {
  put(b, p ? p->n_names : 0, 2);
  for (unsigned i = 0; p && i < p->n_names; i++) {
    put(b, p->names[i].len, 1);
    builder_add(b, p->names[i].text, p->names[i].len);
  }
}

/* The sender's own connections are left out: no other process has them. */
static void put_excepts(struct builder *b, const struct parcel *p, uint64_t node) {
  unsigned n = 0;
  for (unsigned i = 0; p && i < p->n_except; i++)
    if (p->except[i].node != node) n++;
  put(b, n, 2);
  for (unsigned i = 0; n && i < p->n_except; i++)
    if (p->except[i].node != node) put_address(b, &p->except[i]);
}

/* p NULL: to one process, without a body. */
static bool write_all(struct builder *b, enum payload_kind kind, const struct parcel *p,
                      uint64_t node, uint64_t seq, struct waiter waiter, struct address to,
                      const uint8_t *body, size_t n, struct slice *out) {
  builder_begin(b);
  builder_text(b, "PG");
  put(b, VERSION, 1);
  put(b, kind, 1);
  put(b, node, 8);
  put(b, seq, 8);
  put_names(b, p);
  put_excepts(b, p, node);
  put(b, waiter.task, 8);
  put(b, waiter.wait, 4);
  put(b, waiter.worker, 2);
  put(b, to.worker, 2);
  put(b, to.conn, 8);
  put(b, n, 4);
  if (n) builder_add(b, body, n);
  return builder_commit(b, out);
}

bool payload_write(struct builder *b, const struct parcel *p, uint64_t node, uint64_t seq,
                   struct slice *out) {
  const uint8_t *body = p->body.len ? slice_data(&p->body) : NULL;
  size_t n = p->body.len;
  enum payload_kind kind = PAYLOAD_TEXT;
  if (p->mail.kind != PARCEL_TEXT) { /* frames travel without their head */
    kind = (body[0] & 0x0F) == WS_BINARY ? PAYLOAD_BINARY : PAYLOAD_FRAME;
    unsigned head = (body[1] & 0x7F) == 126 ? 4 : (body[1] & 0x7F) == 127 ? 10 : 2;
    body += head;
    n -= head;
  }
  if (n > PAYLOAD_BODY) return false;
  return write_all(b, kind, p, node, seq, p->waiter, p->to, body, n, out);
}

bool payload_write_ack(struct builder *b, const struct payload *to, bool is_there, uint64_t node,
                       struct slice *out) {
  struct address at = {.worker = to->waiter.worker, .conn = is_there};
  return write_all(b, PAYLOAD_ACK, NULL, node, 0, to->waiter, at, NULL, 0, out);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
  const uint8_t *at, *end;
  bool is_cut;
};

static uint64_t get(struct reader *r, unsigned bytes) {
  uint64_t value = 0;
  if ((size_t)(r->end - r->at) < bytes) {
    r->is_cut = true;
    r->at = r->end;
    return 0;
  }
  for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)*r->at++ << (8 * i);
  return value;
}

static bool get_names(struct reader *r, struct payload *p) {
  p->n_names = (size_t)get(r, 2);
  if (p->n_names > PAYLOAD_NAMES) return false;
  for (size_t i = 0; i < p->n_names; i++) {
    size_t len = (size_t)get(r, 1);
    if (len == 0 || len > GROUP_NAME_MAX || (size_t)(r->end - r->at) < len) return false;
    p->names[i] = (struct group_name){(const char *)r->at, len};
    r->at += len;
  }
  return true;
}

static bool get_excepts(struct reader *r, struct payload *p) {
  p->n_except = (size_t)get(r, 2);
  if (p->n_except > PAYLOAD_EXCEPT) return false;
  for (size_t i = 0; i < p->n_except; i++) {
    p->except[i].node = get(r, 8);
    p->except[i].worker = (uint32_t)get(r, 2);
    p->except[i].conn = get(r, 8);
  }
  return true;
}

bool payload_read(struct payload *p, const void *bytes, size_t n) {
  struct reader r = {bytes, (const uint8_t *)bytes + n, false};
  if (n < 4 || memcmp(bytes, "PG", 2) != 0) return false;
  r.at += 2;
  if (get(&r, 1) != VERSION) return false;
  p->kind = (enum payload_kind)get(&r, 1);
  if (p->kind != PAYLOAD_FRAME && p->kind != PAYLOAD_BINARY && p->kind != PAYLOAD_TEXT &&
      p->kind != PAYLOAD_ACK)
    return false;
  p->node = get(&r, 8);
  p->seq = get(&r, 8);
  if (!get_names(&r, p) || !get_excepts(&r, p)) return false;
  p->waiter.task = get(&r, 8);
  p->waiter.wait = (uint32_t)get(&r, 4);
  p->waiter.worker = (uint32_t)get(&r, 2);
  p->to.node = 0;
  p->to.worker = (uint32_t)get(&r, 2);
  p->to.conn = get(&r, 8);
  p->n = (size_t)get(&r, 4);
  p->body = r.at;
  if (r.is_cut || p->n != (size_t)(r.end - r.at) || p->n > PAYLOAD_BODY) return false;
  return p->kind == PAYLOAD_BINARY || utf8_is_valid(p->body, p->n);
}
