/* SPDX-License-Identifier: MIT */
/* printable.c -- text of others, made fit to be shown: on a terminal, in a log, in JSON. */
#include "base/printable.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Ranges of code points that are not shown, in order. */
static const struct {
  uint32_t first, last;
} hidden[] = {
    {0x0, 0x1f},        /* C0 */
    {0x7f, 0x9f},       /* DEL, C1 */
    {0x61c, 0x61c},     /* Arabic letter mark */
    {0x200e, 0x200f},   /* left-to-right, right-to-left mark */
    {0x2028, 0x202e},   /* line and paragraph separator, embeddings and overrides of direction */
    {0x2066, 0x2069},   /* isolates */
    {0xfeff, 0xfeff},   /* byte order mark */
    {0xfff9, 0xfffb},   /* interlinear annotations */
    {0xe0000, 0xe007f}, /* tags */
};

static bool is_hidden(uint32_t c) {
  for (size_t i = 0; i < sizeof hidden / sizeof *hidden && c >= hidden[i].first; i++)
    if (c <= hidden[i].last) return true;
  return false;
}

/* The code point at s and its length, or 0 for what is no UTF-8 (RFC 3629). */
static size_t decode(const uint8_t *s, size_t n, uint32_t *c) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t len = *s < 0x80 ? 1 : *s < 0xc2 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf5 ? 4 : 0;
  if (len == 0 || len > n) return 0;
  *c = len == 1 ? *s : *s & (0x7fu >> len);
  for (size_t i = 1; i < len; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
    *c = *c << 6 | (s[i] & 0x3f);
  }
  bool is_good = *c >= least[len] && *c <= 0x10ffff && (*c < 0xd800 || *c > 0xdfff);
  return is_good ? len : 0;
}

size_t printable_escape(const char *s, size_t n, char out[static PRINTABLE_MAX + 1], size_t *used) {
  uint32_t c;
  if (*s >= 0x20 && *s < 0x7f) {
    *used = 1;
    return 0;
  }
  *used = decode((const uint8_t *)s, n, &c);
  if (*used == 0) {
    *used = 1;
    c = 0xfffd;
  } else if (!is_hidden(c)) {
    return 0;
  }
  if (c < 0x10000) return (size_t)snprintf(out, PRINTABLE_MAX + 1, "\\u%04x", (unsigned)c);
  c -= 0x10000;
  return (size_t)snprintf(out, PRINTABLE_MAX + 1, "\\u%04x\\u%04x", (unsigned)(0xd800 + (c >> 10)),
                          (unsigned)(0xdc00 + (c & 0x3ff)));
}

char *printable_copy(const char *s, size_t n, size_t *len) {
  char *copy = mem_alloc(n * 6 + 1); /* a byte becomes six; four that are one character, twelve */
  size_t used, at = 0;
  for (size_t i = 0; i < n; i += used) {
    char out[PRINTABLE_MAX + 1];
    size_t k = printable_escape(s + i, n - i, out, &used);
    bool is_kept = k == 0 || s[i] == '\n' || s[i] == '\t';
    memcpy(copy + at, is_kept ? s + i : out, is_kept ? used : k);
    at += is_kept ? used : k;
  }
  copy[at] = '\0';
  *len = at;
  return copy;
}
