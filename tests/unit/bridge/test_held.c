/* SPDX-License-Identifier: MIT */
/* test_held.c -- from when on what is refused, and what a text weighs. */
#include "../unit.h"

#include "bridge/held.h"

#include <string.h>

enum { MEMORY = 64 << 20, LONG = 16 * 1024, SHORT = 1024 };

static void little_that_is_held_refuses_nothing(void **state) {
  (void)state;
  assert_false(held_is_over(0, MEMORY, SIZE_MAX));
  assert_false(held_is_over(MEMORY / 4 - 1, MEMORY, SIZE_MAX));
  assert_false(held_is_over(MEMORY / 4, MEMORY, SIZE_MAX));
}

static void over_a_quarter_what_is_long_is_refused(void **state) {
  (void)state;
  static const size_t held[] = {MEMORY / 4 + 1, MEMORY / 2 - 1, MEMORY / 2};
  for (size_t i = 0; i < COUNT(held); i++) {
    assert_false(held_is_over(held[i], MEMORY, LONG - 1));
    assert_false(held_is_over(held[i], MEMORY, LONG));
    assert_true(held_is_over(held[i], MEMORY, LONG + 1));
  }
}

static void over_half_only_what_is_short_is_not(void **state) {
  (void)state;
  assert_false(held_is_over(MEMORY / 2 + 1, MEMORY, SHORT - 1));
  assert_false(held_is_over(MEMORY / 2 + 1, MEMORY, SHORT));
  assert_true(held_is_over(MEMORY / 2 + 1, MEMORY, SHORT + 1));
  assert_false(held_is_over(SIZE_MAX, MEMORY, SHORT));
}

static void a_text_weighs_what_its_values_do(void **state) {
  (void)state;
  static const struct {
    const char *text;
    size_t values;
  } cases[] = {{"1", 1}, {"[]", 1}, {"[[],[],[]]", 4}, {"{\"a\":[1,2]}", 4}, {"\"[,,,]\"", 1}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    size_t n = strlen(cases[i].text);
    assert_int_equal(held_weight(cases[i].text, n), n + 80 * cases[i].values);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(little_that_is_held_refuses_nothing),
      cmocka_unit_test(over_a_quarter_what_is_long_is_refused),
      cmocka_unit_test(over_half_only_what_is_short_is_not),
      cmocka_unit_test(a_text_weighs_what_its_values_do),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
