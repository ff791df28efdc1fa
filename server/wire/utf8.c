/* SPDX-License-Identifier: MIT */
/* utf8.c -- is this text valid UTF-8?
 *
 * Most text is ASCII, so eight bytes are tested at once and only a byte over 0x7F goes the careful
 * way. The careful way reads RFC 3629's table: the first byte fixes how many follow and, for four
 * of the first bytes, a narrower range for the second one. */
#include "wire/utf8.h"

#include <string.h>

size_t utf8_ascii_run(const uint8_t *s, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t v;
    memcpy(&v, s + i, 8);
    if (v & 0x8080808080808080u) break;
  }
  while (i < n && s[i] < 0x80) i++;
  return i;
}

/* What may follow a first byte: how many bytes, and the range of the second one. */
static unsigned tail_of(uint8_t lead, uint8_t *low, uint8_t *high) {
  *low = 0x80;
  *high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) return 1;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (lead == 0xE0) *low = 0xA0;  /* overlong below */
    if (lead == 0xED) *high = 0x9F; /* surrogates above */
    return 2;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (lead == 0xF0) *low = 0x90;  /* overlong below */
    if (lead == 0xF4) *high = 0x8F; /* over U+10FFFF above */
    return 3;
  }
  return 0;
}

unsigned utf8_sequence(const uint8_t *s, size_t n) {
  uint8_t low, high;
  unsigned tail = tail_of(s[0], &low, &high);
  if (tail == 0 || n <= tail || s[1] < low || s[1] > high) return 0;
  for (unsigned i = 2; i <= tail; i++)
    if (s[i] < 0x80 || s[i] > 0xBF) return 0;
  return tail + 1;
}

bool utf8_is_valid(const uint8_t *s, size_t n) {
  for (size_t i = 0;;) {
    i += utf8_ascii_run(s + i, n - i);
    if (i == n) return true;
    /* text that is not ASCII rarely returns to it after one character: stay here while it lasts */
    do {
      unsigned k = utf8_sequence(s + i, n - i);
      if (k == 0) return false;
      i += k;
    } while (i < n && s[i] >= 0x80);
  }
}

/* State between pieces: bytes still to come, and the range of the next one. */
static uint32_t pack(unsigned left, uint8_t low, uint8_t high) {
  return left | (uint32_t)low << 8 | (uint32_t)high << 16;
}

bool utf8_feed(uint32_t *state, const uint8_t *s, size_t n) {
  size_t i = 0;
  while (i < n) {
    unsigned left = *state & 0xFF;
    if (left == 0) {
      i += utf8_ascii_run(s + i, n - i);
      if (i == n) break;
      uint8_t low, high;
      left = tail_of(s[i++], &low, &high);
      if (left == 0) return false;
      *state = pack(left, low, high);
      continue;
    }
    uint8_t low = (uint8_t)(*state >> 8), high = (uint8_t)(*state >> 16);
    if (s[i] < low || s[i] > high) return false;
    i++;
    *state = left == 1 ? UTF8_DONE : pack(left - 1, 0x80, 0xBF);
  }
  return true;
}

unsigned utf8_put(uint8_t *out, uint32_t c) {
  if (c < 0x80) {
    out[0] = (uint8_t)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (uint8_t)(0xC0 | c >> 6);
    out[1] = (uint8_t)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (uint8_t)(0xE0 | c >> 12);
    out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = (uint8_t)(0xF0 | c >> 18);
  out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
  out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
  out[3] = (uint8_t)(0x80 | (c & 0x3F));
  return 4;
}
