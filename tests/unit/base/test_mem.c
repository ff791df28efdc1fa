/* SPDX-License-Identifier: MIT */
/* test_mem.c -- allocation returns what was asked for or ends the process, and so does check. */
#include "../unit.h"

#include "base/mem.h"

static void zalloc_fills_with_zeros(void **state) {
  (void)state;
  static const char zeros[1000];
  char *p = mem_zalloc(sizeof zeros);
  assert_memory_equal(p, zeros, sizeof zeros);
  free(p);
}

static void realloc_keeps_what_was_there(void **state) {
  (void)state;
  char *p = mem_alloc(4);
  memcpy(p, "abc", 4);
  p = mem_realloc(p, 100000);
  assert_string_equal(p, "abc");
  free(p);
  free(mem_realloc(NULL, 1));
}

static void copies_are_exact(void **state) {
  (void)state;
  static const char bytes[] = "a\0b";
  char *p = mem_dup(bytes, 3), *s = mem_strdup("text"), *none = mem_dup(NULL, 0);
  assert_memory_equal(p, bytes, 3);
  assert_string_equal(s, "text");
  assert_non_null(none); /* "never NULL" holds for an empty copy too */
  free(p);
  free(s);
  free(none);
}

static volatile size_t too_much = SIZE_MAX / 4; /* volatile: or the compiler warns */

static void alloc_too_much(void) {
  free(mem_alloc(too_much));
}

static void zalloc_too_much(void) {
  free(mem_zalloc(too_much));
}

static void realloc_too_much(void) {
  free(mem_realloc(NULL, too_much));
}

static void exhaustion_ends_the_process(void **state) {
  (void)state;
  assert_dies(alloc_too_much, NULL, 0);
  assert_dies(zalloc_too_much, NULL, 0);
  assert_dies(realloc_too_much, NULL, 0);
}

static void check_a_falsehood(void) {
  volatile int two = 2;
  check(two == 3);
}

static void a_failed_check_says_what_and_where(void **state) {
  (void)state;
  char text[512];
  assert_dies(check_a_falsehood, text, sizeof text);
  assert_non_null(strstr(text, "two == 3"));
  assert_non_null(strstr(text, "test_mem.c:"));
  check(1 + 1 == 2); /* what holds does nothing */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(zalloc_fills_with_zeros),
      cmocka_unit_test(realloc_keeps_what_was_there),
      cmocka_unit_test(copies_are_exact),
      cmocka_unit_test(exhaustion_ends_the_process),
      cmocka_unit_test(a_failed_check_says_what_and_where),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
