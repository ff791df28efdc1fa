/* SPDX-License-Identifier: MIT */
/* hash.c -- a keyed hash (SipHash-1-3) for tables whose keys clients may choose.
 *
 * One round per word and three at the end is what Rust's and Python's tables use: the attack to
 * withstand is flooding a table, not forging a signature. */
#include "base/hash.h"

#include "base/mem.h"

#include <string.h>
#include <sys/random.h>

static uint64_t keys[2];

void hash_init(void) {
  check(getrandom(keys, sizeof keys, 0) == sizeof keys);
}

struct sip {
  uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int by) {
  return x << by | x >> (64 - by);
}

static inline void round1(struct sip *s) {
  s->v0 += s->v1;
  s->v1 = rotate(s->v1, 13) ^ s->v0;
  s->v0 = rotate(s->v0, 32);
  s->v2 += s->v3;
  s->v3 = rotate(s->v3, 16) ^ s->v2;
  s->v0 += s->v3;
  s->v3 = rotate(s->v3, 21) ^ s->v0;
  s->v2 += s->v1;
  s->v1 = rotate(s->v1, 17) ^ s->v2;
  s->v2 = rotate(s->v2, 32);
}

static inline void absorb(struct sip *s, uint64_t word) {
  s->v3 ^= word;
  round1(s);
  s->v0 ^= word;
}

uint64_t hash_bytes(const void *bytes, size_t n) {
  const uint8_t *at = bytes;
  struct sip s = {keys[0] ^ 0x736f6d6570736575u, keys[1] ^ 0x646f72616e646f6du,
                  keys[0] ^ 0x6c7967656e657261u, keys[1] ^ 0x7465646279746573u};
  uint64_t word, last = (uint64_t)n << 56;
  for (size_t left = n; left >= 8; left -= 8, at += 8) {
    memcpy(&word, at, 8);
    absorb(&s, word);
  }
  for (size_t i = 0; i < (n & 7); i++) last |= (uint64_t)at[i] << (8 * i);
  absorb(&s, last);
  s.v2 ^= 0xff;
  for (int i = 0; i < 3; i++) round1(&s);
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
