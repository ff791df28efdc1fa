/* SPDX-License-Identifier: MIT */
/* test_pages.c -- which of the embedded files a path below /-/ means, and who may see it. */
#include "../unit.h"

#include "bridge/pages.h"
#include "bridge/state.h"

/* The path in memory of exactly its size: it is a part of a request. */
static const char *found(const char *path) {
  char *copy = exact_copy(path, strlen(path));
  const struct embedded_file *page = pages_find(copy, strlen(path));
  free(copy);
  return page ? page->name : "nothing";
}

static void paths_mean_files(void **state) {
  (void)state;
  assert_string_equal(found("/-/"), "perigee/web/inspector/index.html");
  assert_string_equal(found("/-/inspector/inspector.js"), "perigee/web/inspector/inspector.js");
  assert_string_equal(found("/-/perigee.js"), "perigee/web/perigee.js");
  assert_string_equal(found("/-/reload.js"), "perigee/web/reload.js");
}

static void other_paths_mean_nothing(void **state) {
  (void)state;
  static const char *const paths[] = {
      "",
      "/",
      "/-",
      "/-x",
      "/_/perigee.js",
      "/-/p",
      "/-/perigee",
      "/-/perigee.jsx",
      "/-/inspector",
      "/-/inspector/",
      "/-/../init.lua",
      "/-/web/perigee.js",
  };
  for (size_t i = 0; i < COUNT(paths); i++)
    if (strcmp(found(paths[i]), "nothing") != 0) fail_msg("%s: %s", paths[i], found(paths[i]));
  char path[400] = "/-/";
  for (size_t n = 3; n < sizeof path - 1; n++) { /* longer than any name */
    path[n] = 'x';
    assert_string_equal(found(path), "nothing");
  }
}

static void each_has_its_readers(void **state) {
  (void)state;
  unsigned n_private = 0, n_dev = 0;
  for (size_t i = 0; i < embedded_count; i++) {
    const struct embedded_file *page = &embedded_files[i];
    bool is_inspector = strstr(page->name, "/web/inspector/") != NULL;
    assert_int_equal(pages_is_private(page), is_inspector);
    assert_int_equal(pages_is_for_dev(page), strcmp(page->name, "perigee/web/reload.js") == 0);
    n_private += is_inspector;
    n_dev += pages_is_for_dev(page);
  }
  assert_in_range(n_private, 4, 100);
  assert_int_equal(n_dev, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(paths_mean_files),
      cmocka_unit_test(other_paths_mean_nothing),
      cmocka_unit_test(each_has_its_readers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
