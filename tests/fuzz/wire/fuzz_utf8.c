/* SPDX-License-Identifier: MIT */
/* fuzz_utf8.c -- any bytes: judged the same whole, in pieces, and by arithmetic instead of tables.
 */
#include "../fuzz.h"

#include "wire/utf8.h"

/* The code point at s, its length in *len; -1 when there is none. */
static int64_t code_point(const uint8_t *s, size_t n, size_t *len) {
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  size_t tail = s[0] < 0x80 ? 0 : s[0] < 0xC0 ? 9 : s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3;
  if (tail == 9 || s[0] > 0xF7 || n <= tail) return -1;
  uint32_t c = tail ? s[0] & (0x3Fu >> tail) : s[0];
  for (size_t i = 1; i <= tail; i++) {
    if (s[i] >> 6 != 2) return -1;
    c = c << 6 | (s[i] & 0x3Fu);
  }
  *len = tail + 1;
  if (c < least[tail] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return -1;
  return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  uint8_t *s = exact_copy(data, n);
  bool is_valid = utf8_is_valid(s, n), is_expected = true;
  size_t run = utf8_ascii_run(s, n);
  check(run <= n && (run == n || s[run] > 0x7F));
  for (size_t i = 0; i < run; i++) check(s[i] < 0x80);
  for (size_t i = 0, len; i < n; i += len) {
    int64_t c = code_point(s + i, n - i, &len);
    if (s[i] > 0x7F) check(utf8_sequence(s + i, n - i) == (c < 0 ? 0 : len));
    if (c < 0) {
      is_expected = false;
      break;
    }
    uint8_t back[4];
    check(utf8_put(back, (uint32_t)c) == len && memcmp(back, s + i, len) == 0);
  }
  check(is_valid == is_expected);
  size_t fault = n + 1; /* where feeding failed, which must not depend on the pieces */
  for (enum cut cut = CUT_NOT; cut < CUTS; cut++) {
    struct pieces pieces = pieces_of(cut, data, n);
    uint32_t state = UTF8_DONE;
    bool is_good = true;
    size_t at = 0;
    while (at < n && is_good) {
      size_t size = next_piece(&pieces, n - at);
      is_good = utf8_feed(&state, s + at, size);
      at += size;
    }
    check((is_good && state == UTF8_DONE) == is_valid);
    if (cut == CUT_ALL && !is_good) fault = at;
  }
  if (fault <= n) { /* told at the first byte that spoils it: what was before could go on */
    uint32_t state = UTF8_DONE;
    check(utf8_feed(&state, s, fault - 1));
  }
  free(s);
  return 0;
}
