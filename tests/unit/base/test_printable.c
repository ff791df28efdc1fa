/* SPDX-License-Identifier: MIT */
/* test_printable.c -- what others say moves no cursor, forges no line and is always UTF-8. */
#include "../unit.h"

#include "base/printable.h"

static void assert_shown(const char *s, size_t n, const char *expected) {
  char *exact = exact_copy(s, n);
  size_t len;
  char *copy = printable_copy(exact, n, &len);
  assert_string_equal(copy, expected);
  assert_int_equal(len, strlen(expected));
  free(copy);
  free(exact);
}

static void what_may_be_shown_stays(void **state) {
  (void)state;
  static const char *const texts[] = {
      "",
      "plain text, \"quoted\" \\ and all",
      "\t\n",
      "é ß 漢字",
      "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac", /* a scientist: joined by U+200D */
      "\xc2\xa0",                                     /* U+00A0, the first after C1 */
      "\xd8\x9b",
      "\xd8\x9d", /* beside U+061C */
      "\xe2\x80\x8d",
      "\xe2\x80\x90",
      "\xe2\x80\xa7",
      "\xe2\x80\xaf",
      "\xe2\x81\xa5",
      "\xe2\x81\xaa",
      "\xef\xbb\xbe",
      "\xef\xbf\xb8",
      "\xef\xbf\xbc",
      "\xef\xbf\xbd",
      "\xf3\x9f\xbf\xbf",
      "\xf3\xa0\x82\x80",
      "\xf4\x8f\xbf\xbf"};
  for (size_t i = 0; i < COUNT(texts); i++) assert_shown(texts[i], strlen(texts[i]), texts[i]);
}

static void what_terminals_obey_is_escaped(void **state) {
  (void)state;
  static const struct {
    const char *text, *shown;
  } cases[] = {
      {"\x1b[2J", "\\u001b[2J"},
      {"\r", "\\u000d"},
      {"\x7f", "\\u007f"},
      {"\xc2\x80", "\\u0080"},
      {"\xc2\x9b"
       "31m",
       "\\u009b31m"},
      {"\xc2\x9f", "\\u009f"},
      {"\xd8\x9c", "\\u061c"},
      {"\xe2\x80\x8e", "\\u200e"},
      {"\xe2\x80\x8f", "\\u200f"},
      {"\xe2\x80\xa8", "\\u2028"},
      {"\xe2\x80\xae"
       "cod.exe",
       "\\u202ecod.exe"},
      {"\xe2\x81\xa6", "\\u2066"},
      {"\xe2\x81\xa9", "\\u2069"},
      {"\xef\xbb\xbf", "\\ufeff"},
      {"\xef\xbf\xb9", "\\ufff9"},
      {"\xef\xbf\xbb", "\\ufffb"},
      {"\xf3\xa0\x80\x80", "\\udb40\\udc00"},
      {"\xf3\xa0\x81\xbf", "\\udb40\\udc7f"},
  };
  for (size_t i = 0; i < COUNT(cases); i++)
    assert_shown(cases[i].text, strlen(cases[i].text), cases[i].shown);
  assert_shown("a\0b", 3, "a\\u0000b");
}

static void bytes_that_are_no_utf8_are_replaced(void **state) {
  (void)state;
  static const struct {
    const char *text, *shown;
  } cases[] = {
      {"\xff", "\\ufffd"},
      {"a\x80z", "a\\ufffdz"},
      {"\xc3", "\\ufffd"}, /* cut short */
      {"\xc3(", "\\ufffd("},
      {"\xe2\x82", "\\ufffd\\ufffd"},
      {"\xc0\xaf", "\\ufffd\\ufffd"}, /* longer than need be */
      {"\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd"},
      {"\xf0\x80\x80\xaf", "\\ufffd\\ufffd\\ufffd\\ufffd"},
      {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"}, /* a surrogate */
      {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
      {"\xf5\x80\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
      {"\x9b"
       "31m",
       "\\ufffd31m"},
  };
  for (size_t i = 0; i < COUNT(cases); i++)
    assert_shown(cases[i].text, strlen(cases[i].text), cases[i].shown);
}

/* Any bytes: what is shown is UTF-8 that needs no escape, but for ends of lines and tabs. */
static void any_bytes_become_fit_to_be_shown(void **state) {
  (void)state;
  uint64_t seed = 25;
  static const char *const pieces[] = {"a",    "\n",   "\x1b", "\xc2", "\x80", "\xe2",
                                       "\xa8", "\xf0", "\x9f", "\xff", "\xed"};
  for (int round = 0; round < 5000; round++) {
    char text[32];
    size_t n = random_below(&seed, sizeof text), len, used;
    for (size_t i = 0; i < n; i++) text[i] = *pieces[random_below(&seed, COUNT(pieces))];
    char *copy = printable_copy(text, n, &len), out[PRINTABLE_MAX + 1];
    for (size_t i = 0; i < len; i += used)
      assert_true(printable_escape(copy + i, len - i, out, &used) == 0 || copy[i] == '\n');
    free(copy);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_may_be_shown_stays),
      cmocka_unit_test(what_terminals_obey_is_escaped),
      cmocka_unit_test(bytes_that_are_no_utf8_are_replaced),
      cmocka_unit_test(any_bytes_become_fit_to_be_shown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
