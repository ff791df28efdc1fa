/* SPDX-License-Identifier: MIT */
/* test_metrics.c -- every counter and gauge has a name and appears on the page, summed over the
 * workers. */
#include "../unit.h"

#include "base/metrics.h"

static char *page_of(const struct metrics *const *workers, unsigned n) {
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  metrics_write(&b, workers, n);
  assert_true(builder_commit(&b, &s));
  char *text = malloc(s.len + 1);
  assert_non_null(text);
  memcpy(text, slice_data(&s), s.len);
  text[s.len] = '\0';
  builder_fini(&b);
  return text;
}

static void names_are_valid_and_unique(void **state) {
  (void)state;
  assert_true(metrics_count > 0);
  for (int i = 0; i < metrics_count; i++) {
    const char *name = metrics_name(i);
    assert_true(*name >= 'a' && *name <= 'z');
    assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
    assert_true(strlen(metrics_help(i)) > 0);
    assert_null(strpbrk(metrics_help(i), "\\\n")); /* the format would want them escaped */
    for (int k = 0; k < i; k++) assert_string_not_equal(name, metrics_name(k));
  }
}

static void an_index_means_the_counter_of_that_name(void **state) {
  (void)state;
  struct metrics m = {0};
  metric_add(&m.connections_accepted, 5);
  metric_add(&m.files_served, 7);
  metric_add(&m.files_served, 1);
  for (int i = 0; i < metrics_count; i++) {
    uint64_t expected = strcmp(metrics_name(i), "connections_accepted") == 0 ? 5
                        : strcmp(metrics_name(i), "files_served") == 0       ? 8
                                                                             : 0;
    assert_int_equal(metrics_value(&m, i), expected);
  }
}

static void the_page_sums_over_workers(void **state) {
  (void)state;
  struct metrics a = {0}, b = {0};
  const struct metrics *workers[] = {&a, &b};
  metric_add(&a.calls, 2);
  metric_add(&b.calls, 40);
  metric_add(&b.bytes_sent, UINT64_MAX);
  char *text = page_of(workers, 2);
  assert_non_null(strstr(text, "\nperigee_calls_total 42\n"));
  assert_non_null(strstr(text, "\nperigee_bytes_sent_total 18446744073709551615\n"));
  free(text);
  text = page_of(workers, 1);
  assert_non_null(strstr(text, "\nperigee_calls_total 2\n"));
  free(text);
  text = page_of(NULL, 0);
  assert_non_null(strstr(text, "\nperigee_calls_total 0\n"));
  free(text);
}

/* Prometheus text format: HELP, TYPE, value, in this order, for each, nothing else. */
static void the_page_has_three_lines_per_counter(void **state) {
  (void)state;
  struct metrics m = {0};
  const struct metrics *workers[] = {&m};
  char *text = page_of(workers, 1), *at = text, expected[1024];
  for (int i = 0; i < metrics_count; i++) {
    const char *name = metrics_name(i);
    bool is_gauge = strcmp(name, "connections") == 0 || strcmp(name, "lua_memory_bytes") == 0;
    const char *end = is_gauge ? "" : "_total";
    int n = snprintf(expected, sizeof expected,
                     "# HELP perigee_%s%s %s\n# TYPE perigee_%s%s %s\nperigee_%s%s 0\n", name, end,
                     metrics_help(i), name, end, is_gauge ? "gauge" : "counter", name, end);
    assert_true(n > 0 && (size_t)n < sizeof expected);
    assert_int_equal(strncmp(at, expected, (size_t)n), 0);
    at += n;
  }
  assert_string_equal(at, "");
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_are_valid_and_unique),
      cmocka_unit_test(an_index_means_the_counter_of_that_name),
      cmocka_unit_test(the_page_sums_over_workers),
      cmocka_unit_test(the_page_has_three_lines_per_counter),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
