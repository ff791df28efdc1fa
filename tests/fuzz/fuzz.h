/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_FUZZ_H
#define PERIGEE_FUZZ_H

/* fuzz.h -- what every fuzz target needs: pieces to cut an input into, and a text to compare. */

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A copy in memory of exactly its size, so that the address sanitizer sees a read past its end. */
static inline void *exact_copy(const void *bytes, size_t n) {
  void *copy = mem_alloc(n ? n : 1);
  if (n) memcpy(copy, bytes, n);
  return copy;
}

/* Sizes of pieces: everything at once, single bytes, or made of the input itself, so that a corpus
 * file is nothing but what a peer may send. */
enum cut { CUT_NOT, CUT_ALL, CUT_SOME, CUTS };

struct pieces {
  enum cut cut;
  uint32_t seed;
};

static inline struct pieces pieces_of(enum cut cut, const uint8_t *data, size_t n) {
  struct pieces p = {cut, 2166136261u}; /* FNV-1a */
  for (size_t i = 0; i < n; i++) p.seed = (p.seed ^ data[i]) * 16777619u;
  return p;
}

static inline size_t next_piece(struct pieces *p, size_t left) {
  size_t size = left;
  p->seed = p->seed * 1664525u + 1013904223u;
  if (p->cut == CUT_ALL) size = 1;
  if (p->cut == CUT_SOME) size = 1 + (p->seed >> 24) % ((p->seed >> 16 & 3) ? 8 : 64);
  return size < left ? size : left;
}

/* What came out, written down. */
struct told {
  char *text;
  size_t n, cap;
};

static inline void tell(struct told *t, const void *bytes, size_t n) {
  if (t->n + n + 1 > t->cap) {
    t->cap = (t->n + n + 1) * 2;
    t->text = mem_realloc(t->text, t->cap);
  }
  if (n) memcpy(t->text + t->n, bytes, n);
  t->n += n;
  t->text[t->n] = '\0';
}

static inline void tell_text(struct told *t, const char *s) {
  tell(t, s, strlen(s));
}

static inline void tell_number(struct told *t, uint64_t v) {
  char digits[24];
  size_t n = sizeof digits;
  do digits[--n] = (char)('0' + v % 10);
  while (v /= 10);
  tell(t, digits + n, sizeof digits - n);
  tell(t, " ", 1);
}

static inline bool is_told_same(const struct told *a, const struct told *b) {
  return a->n == b->n && (a->n == 0 || memcmp(a->text, b->text, a->n) == 0);
}

#endif
