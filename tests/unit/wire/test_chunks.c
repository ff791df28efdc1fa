/* SPDX-License-Identifier: MIT */
/* test_chunks.c -- the chunked coding byte by byte: what is body, where it ends, what is refused.
 */
#include "../unit.h"

#include "wire/chunks.h"

#include <string.h>

/* Feeds all of it; returns what came last, the body and the bytes that were taken. */
static enum chunks_next feed(struct chunks *c, const char *text, size_t n, char *body,
                             size_t *taken) {
  enum chunks_next next = CHUNKS_FRAMING;
  size_t at = 0, len = 0;
  chunks_begin(c);
  while (at < n && next != CHUNKS_END && next != CHUNKS_BAD) {
    if (chunks_are_in_data(c)) {
      assert_true(c->left > 0);
      body[len++] = text[at++];
      chunks_skip(c, 1);
    } else {
      next = chunks_feed(c, (unsigned char)text[at++]);
      assert_int_equal(next == CHUNKS_DATA, chunks_are_in_data(c));
    }
  }
  body[len] = '\0';
  *taken = at;
  return next;
}

static void chunks_become_a_body(void **state) {
  (void)state;
  static const struct {
    const char *text, *body;
  } good[] = {
      {"0\r\n\r\n", ""},
      {"5\r\nhello\r\n0\r\n\r\n", "hello"},
      {"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n", "abc"},
      {"a\r\n0123456789\r\n0B\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a"},
      {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
      {"1;a\r\nx\r\n0\r\n\r\n", "x"},
      {"1;a=b;c;d=\"e;f\\\"\\\\ \t\"\r\nx\r\n0;g=\"\"\r\n\r\n", "x"},
      {"1;!#$%&'*+-.^_`|~9zZ=~\r\nx\r\n0\r\n\r\n", "x"},
      {"1;a=\"\xc3\xa9\"\r\nx\r\n0\r\n\r\n", "x"},
      {"0\r\nA: b\r\n\r\n", ""},
      {"0\r\nA:\r\nB:\t\xff \r\nTransfer-Encodin: x\r\nransfer-encoding: x\r\n\r\n", ""},
  };
  char body[100];
  for (size_t i = 0; i < COUNT(good); i++) {
    struct chunks c;
    size_t taken, n = strlen(good[i].text);
    for (size_t cut = 0; cut < n; cut++) /* it is not over before its end */
      assert_in_range(feed(&c, good[i].text, cut, body, &taken), CHUNKS_FRAMING, CHUNKS_DATA);
    if (feed(&c, good[i].text, n, body, &taken) != CHUNKS_END)
      fail_msg("%s: %s", good[i].text, c.reason);
    assert_string_equal(body, good[i].body);
    assert_int_equal(taken, n);
  }
}

static void what_follows_is_left(void **state) {
  (void)state;
  struct chunks c;
  char body[100];
  size_t taken;
  assert_int_equal(feed(&c, "1\r\nx\r\n0\r\n\r\nGET /", 16, body, &taken), CHUNKS_END);
  assert_int_equal(taken, 11);
}

static void sizes_have_64_bits(void **state) {
  (void)state;
  struct chunks c;
  char body[100];
  size_t taken;
  assert_int_equal(feed(&c, "ffffffffffffffff\r\n", 18, body, &taken), CHUNKS_DATA);
  assert_true(c.left == UINT64_MAX);
  assert_int_equal(feed(&c, "0000ffffffffffffffff\r\n", 22, body, &taken), CHUNKS_DATA);
  assert_true(c.left == UINT64_MAX);
  assert_int_equal(feed(&c, "10000000000000000\r\n", 19, body, &taken), CHUNKS_BAD);
  assert_int_equal(taken, 17);
  assert_int_equal(c.status, 400);
}

/* The first byte that cannot be is where it ends. */
static void everything_else_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *good, *bad; /* may come, may then not come: each of these bytes */
  } cases[] = {
      {"", "\r\n ;+-xgG\t\xff"},   {"5", "\n x+-_,=\t\xff"},     {"5;", "\r\n ;=\"\t\xff,"},
      {"5;a", "\n \"\t\xff,"},     {"5;a=", "\r\n ;=\t\xff,"},   {"5;a=b", "\n =\"\t\xff,"},
      {"5;a=\"b", "\r\n\x01\x7f"}, {"5;a=\"\\", "\r\n\x01\x7f"}, {"5;a=\"b\"", "\n a\"=\t\xff"},
      {"5\r", "\rh 0\xff"},        {"1\r\nx", "\nx0 "},          {"1\r\nx\r", "\rx0 "},
      {"0\r\n", "\n :\t\xff,"},    {"0\r\n\r", "\rG "},          {"0\r\nA", "\r\n \t\xff,"},
      {"0\r\nA:", "\n\x01\x7f"},   {"0\r\nA: b", "\n\x01\x7f"},  {"0\r\nA: b\r", "\r C"},
      {"0\r\nA: b\r\n", "\n :\t"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    for (const char *b = cases[i].bad;; b++) { /* the NUL that ends the list as well */
      struct chunks c;
      char text[40], body[100];
      size_t taken, n = (size_t)snprintf(text, sizeof text, "%s%c", cases[i].good, *b);
      assert_in_range(feed(&c, text, n - 1, body, &taken), CHUNKS_FRAMING, CHUNKS_DATA);
      if (feed(&c, text, n, body, &taken) != CHUNKS_BAD) fail_msg("%s: %d", cases[i].good, *b);
      assert_int_equal(c.status, 400);
      assert_non_null(c.reason);
      if (!*b) break;
    }
  }
}

static void a_coding_may_not_come_behind(void **state) {
  (void)state;
  struct chunks c;
  char body[100];
  size_t taken;
  static const char text[] = "0\r\nA: b\r\ntRANSFER-eNCODING:";
  assert_int_equal(feed(&c, text, sizeof text - 1, body, &taken), CHUNKS_BAD);
  assert_int_equal(c.status, 501);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(chunks_become_a_body),         cmocka_unit_test(what_follows_is_left),
      cmocka_unit_test(sizes_have_64_bits),           cmocka_unit_test(everything_else_is_refused),
      cmocka_unit_test(a_coding_may_not_come_behind),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
