/* SPDX-License-Identifier: MIT */
/* reply.c -- an answer of Redis as a value that travels between threads. */
#include "hub/reply.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct reply *reply_text(enum reply_type type, const char *text, size_t n) {
  struct reply *r = mem_zalloc(sizeof *r);
  r->type = type;
  r->n = n;
  r->text = mem_alloc(n + 1);
  if (n) memcpy(r->text, text, n);
  r->text[n] = '\0';
  return r;
}

struct reply *reply_integer(int64_t integer) {
  struct reply *r = mem_zalloc(sizeof *r);
  r->type = REPLY_INTEGER;
  r->integer = integer;
  return r;
}

struct reply *reply_array(size_t n) {
  struct reply *r = mem_zalloc(sizeof *r);
  r->type = REPLY_ARRAY;
  r->n = n;
  if (n) r->items = mem_zalloc(n * sizeof *r->items);
  return r;
}

void reply_free(struct reply *r) {
  if (!r) return;
  for (size_t i = 0; r->type == REPLY_ARRAY && i < r->n; i++) reply_free(r->items[i]);
  free(r->items);
  free(r->text);
  free(r);
}
