/* SPDX-License-Identifier: MIT */
/* test_utf8.c -- exactly the texts of RFC 3629 are valid, whole or in pieces. */
#include "../unit.h"

#include "wire/utf8.h"

/* A second opinion, made of arithmetic instead of tables: the length of the character at s, 0 when
 * it is none, -1 when more bytes could make it one. */
static int character(const uint8_t *s, size_t n) {
  unsigned tail = s[0] < 0x80       ? 0
                  : s[0] >> 5 == 6  ? 1
                  : s[0] >> 4 == 14 ? 2
                  : s[0] >> 3 == 30 ? 3
                                    : 9;
  if (tail == 9) return 0;
  uint32_t low = tail ? s[0] & (0x3Fu >> tail) : s[0], high = low;
  for (unsigned i = 1; i <= tail; i++) {
    if (i < n && s[i] >> 6 != 2) return 0;
    low = low << 6 | (i < n ? s[i] & 0x3Fu : 0);
    high = high << 6 | (i < n ? s[i] & 0x3Fu : 0x3Fu);
  }
  /* the code points that the bytes so far can become: [low, high] */
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  if (high < least[tail] || low > 0x10FFFF) return 0;
  if (low >= 0xD800 && high <= 0xDFFF) return 0;
  return n > tail ? (int)tail + 1 : -1;
}

/* Where the text stops being the start of a valid one: n when it does not. *is_whole: and it does
 * not end inside a character. */
static size_t first_fault(const uint8_t *s, size_t n, bool *is_whole) {
  *is_whole = true;
  for (size_t i = 0; i < n;) {
    int k = character(s + i, n - i);
    if (k < 0) *is_whole = false;
    if (k < 0) return n;
    if (k == 0) { /* which byte is it? */
      size_t j = 1;
      while (character(s + i, j) < 0) j++;
      return i + j - 1;
    }
    i += (size_t)k;
  }
  return n;
}

/* Judges the text whole, byte by byte and in two pieces at every place. */
static void assert_judged_well(const uint8_t *text, size_t n) {
  bool is_whole;
  size_t fault = first_fault(text, n, &is_whole);
  bool is_valid = fault == n && is_whole;
  uint8_t *s = exact_copy(text, n);
  if (utf8_is_valid(s, n) != is_valid) fail_msg("text of %zu bytes from %02x", n, n ? s[0] : 0);
  if (n && s[0] > 0x7F) {
    int first = character(s, n);
    assert_int_equal(utf8_sequence(s, n), first > 0 ? first : 0);
  }
  uint32_t feed = UTF8_DONE;
  size_t i = 0;
  while (i < n && utf8_feed(&feed, s + i, 1)) i++;
  assert_int_equal(i, fault); /* told at the very byte, RFC 6455 section 8.1 */
  if (fault == n) assert_int_equal(feed == UTF8_DONE, is_whole);
  for (size_t cut = 0; cut <= n; cut++) {
    uint32_t two = UTF8_DONE;
    bool is_fed = utf8_feed(&two, s, cut) && utf8_feed(&two, s + cut, n - cut);
    assert_int_equal(is_fed, fault == n);
    if (is_fed) assert_int_equal(two, feed);
  }
  free(s);
}

static void every_code_point_is_written_and_read(void **state) {
  (void)state;
  for (uint32_t c = 0; c <= 0x10FFFF; c++) {
    uint8_t s[4];
    unsigned expected = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    memset(s, '?', sizeof s);
    unsigned n = utf8_put(s, c);
    uint32_t back = n == 1 ? s[0] : s[0] & (0x7Fu >> n);
    for (unsigned i = 1; i < n; i++) back = back << 6 | (s[i] & 0x3Fu);
    if (back != c) fail_msg("U+%04X became U+%04X", c, back);
    bool is_surrogate = c >= 0xD800 && c <= 0xDFFF;
    if (n != expected || utf8_is_valid(s, n) == is_surrogate) fail_msg("U+%04X: %u bytes", c, n);
    if (n > 1 && utf8_sequence(s, n) != (is_surrogate ? 0 : n)) fail_msg("U+%04X", c);
    uint32_t feed = UTF8_DONE;
    if (utf8_feed(&feed, s, n) == is_surrogate) fail_msg("U+%04X", c);
    if (!is_surrogate && feed != UTF8_DONE) fail_msg("U+%04X", c);
  }
}

static void every_text_of_two_bytes_is_judged(void **state) {
  (void)state;
  for (unsigned a = 0; a < 256; a++) {
    uint8_t s[2] = {(uint8_t)a, 0};
    assert_judged_well(s, 1);
    for (unsigned b = 0; b < 256; b++) {
      s[1] = (uint8_t)b;
      assert_judged_well(s, 2);
    }
  }
}

/* All first bytes, and for the others the ends of every range the RFC's table knows. */
static void texts_of_three_and_four_bytes_are_judged_at_every_border(void **state) {
  (void)state;
  static const uint8_t ends[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xF0, 0xFF};
  for (unsigned a = 0; a < 256; a++)
    for (size_t b = 0; b < COUNT(ends); b++)
      for (size_t c = 0; c < COUNT(ends); c++) {
        uint8_t s[4] = {(uint8_t)a, ends[b], ends[c]};
        assert_judged_well(s, 3);
        for (size_t d = 0; a >= 0xE0 && d < COUNT(ends); d++) {
          s[3] = ends[d];
          assert_judged_well(s, 4);
        }
      }
}

static const struct {
  const char *what, *text;
  bool is_valid;
} named[] = {
    {"nothing", "", true},
    {"ASCII", "Hello", true},
    {"two bytes", "\xc2\xa9", true},
    {"three bytes", "\xe2\x82\xac", true},
    {"four bytes", "\xf0\x9f\x9a\x80", true},
    {"last code point", "\xf4\x8f\xbf\xbf", true},
    {"noncharacter U+FFFF", "\xef\xbf\xbf", true},
    {"byte order mark", "\xef\xbb\xbf", true},
    {"kosme", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true},
    {"over the last code point", "\xf4\x90\x80\x80", false},
    {"five bytes", "\xf8\x88\x80\x80\x80", false},
    {"six bytes", "\xfc\x84\x80\x80\x80\x80", false},
    {"overlong slash, 2", "\xc0\xaf", false},
    {"overlong slash, 3", "\xe0\x80\xaf", false},
    {"overlong slash, 4", "\xf0\x80\x80\xaf", false},
    {"overlong NUL", "\xc0\x80", false},
    {"overlong 2, highest", "\xc1\xbf", false},
    {"overlong 3, highest", "\xe0\x9f\xbf", false},
    {"overlong 4, highest", "\xf0\x8f\xbf\xbf", false},
    {"high surrogate", "\xed\xa0\x80", false},
    {"low surrogate", "\xed\xbf\xbf", false},
    {"surrogate pair", "\xed\xa0\xbd\xed\xb8\x80", false},
    {"before the surrogates", "\xed\x9f\xbf", true},
    {"behind the surrogates", "\xee\x80\x80", true},
    {"lonely continuation", "\x80", false},
    {"continuation behind ASCII", "a\xbf", false},
    {"cut after 1 of 2", "\xc3", false},
    {"cut after 2 of 3", "\xe2\x82", false},
    {"cut after 3 of 4", "\xf0\x9f\x9a", false},
    {"cut in the middle", "\xe2\x82x", false},
    {"FE", "\xfe", false},
    {"FF", "\xff", false},
    {"Latin-1", "caf\xe9 ", false},
};

static void known_texts_are_judged(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(named); i++) {
    size_t n = strlen(named[i].text);
    if (utf8_is_valid((const uint8_t *)named[i].text, n) != named[i].is_valid)
      fail_msg("%s", named[i].what);
    assert_judged_well((const uint8_t *)named[i].text, n);
  }
}

/* The eight-byte step must see a fault at each of its eight places, before and behind it. */
static void no_place_in_a_text_is_overlooked(void **state) {
  (void)state;
  static const char *const pieces[] = {
      "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x9a\x80", "\xff", "\xc3", "\xed\xa0\x80", "\x80"};
  for (size_t p = 0; p < COUNT(pieces); p++) {
    size_t len = strlen(pieces[p]);
    for (size_t before = 0; before <= 17; before++)
      for (size_t behind = 0; behind <= 17; behind++) {
        uint8_t s[40];
        memset(s, 'a', sizeof s);
        memcpy(s + before, pieces[p], len);
        assert_judged_well(s, before + len + behind);
      }
  }
}

static void the_run_of_ascii_ends_at_its_end(void **state) {
  (void)state;
  for (size_t n = 0; n <= 33; n++) {
    uint8_t *s = malloc(n ? n : 1);
    assert_non_null(s);
    memset(s, 0x7F, n);
    assert_int_equal(utf8_ascii_run(s, n), n);
    for (size_t at = 0; at < n; at++) {
      s[at] = 0x80;
      assert_int_equal(utf8_ascii_run(s, n), at);
      s[at] = at % 2 ? 0 : 'x';
    }
    free(s);
  }
}

static void a_sequence_needs_all_its_bytes(void **state) {
  (void)state;
  static const char *const whole[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x9a\x80"};
  for (size_t i = 0; i < COUNT(whole); i++) {
    size_t len = strlen(whole[i]);
    for (size_t n = 1; n <= len; n++) {
      uint8_t *s = exact_copy(whole[i], n);
      assert_int_equal(utf8_sequence(s, n), n == len ? len : 0);
      free(s);
    }
  }
}

static void random_texts_are_judged(void **state) {
  (void)state;
  uint64_t seed = 7;
  for (int round = 0; round < 20000; round++) {
    uint8_t s[64];
    size_t n = 0;
    while (n < 40 && random_below(&seed, 12)) {
      uint32_t c =
          (uint32_t)(next_random(&seed) >> 40) % (random_below(&seed, 2) ? 0x110000 : 0x80);
      n += utf8_put(s + n, c);
    }
    if (n && random_below(&seed, 2))
      s[random_below(&seed, (unsigned)n)] ^= (uint8_t)next_random(&seed);
    assert_judged_well(s, n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_code_point_is_written_and_read),
      cmocka_unit_test(every_text_of_two_bytes_is_judged),
      cmocka_unit_test(texts_of_three_and_four_bytes_are_judged_at_every_border),
      cmocka_unit_test(known_texts_are_judged),
      cmocka_unit_test(no_place_in_a_text_is_overlooked),
      cmocka_unit_test(the_run_of_ascii_ends_at_its_end),
      cmocka_unit_test(a_sequence_needs_all_its_bytes),
      cmocka_unit_test(random_texts_are_judged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
