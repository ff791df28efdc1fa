/* SPDX-License-Identifier: MIT */
/* test_files.c -- what a file is called on the wire, and whether the client has it already. */
#include "../unit.h"

#include "hub/files.h"

static void names_have_types(void **state) {
  (void)state;
  static const char *const names[][2] = {
      {"index.html", "text/html; charset=utf-8"},
      {"INDEX.HTM", "text/html; charset=utf-8"},
      {"a/b/app.js", "text/javascript; charset=utf-8"},
      {"m.mjs", "text/javascript; charset=utf-8"},
      {"style.css", "text/css; charset=utf-8"},
      {"x.json", "application/json"},
      {"logo.svg", "image/svg+xml"},
      {"logo.Png", "image/png"},
      {"x.wasm", "application/wasm"},
      {"archive.tar.gz", "application/gzip"},
      {"x.min.js", "text/javascript; charset=utf-8"},
      {"README", "application/octet-stream"},
      {"", "application/octet-stream"},
      {"x.", "application/octet-stream"},
      {"x.unknown", "application/octet-stream"},
      {"html", "application/octet-stream"},
      {"a.html/b", "application/octet-stream"}, /* a folder's dot does not count */
      {"x.htmlx", "application/octet-stream"},
      {"x.h", "application/octet-stream"},
  };
  for (size_t i = 0; i < COUNT(names); i++)
    if (strcmp(files_type(names[i][0]), names[i][1]) != 0)
      fail_msg("%s: %s", names[i][0], files_type(names[i][0]));
}

static void tags_are_found_in_lists(void **state) {
  (void)state;
  static const struct {
    const char *list;
    bool is_there;
  } lists[] = {
      {"\"5-a\"", true},
      {"W/\"5-a\"", true},
      {"*", true},
      {" * ", true},
      {"\"x\", \"5-a\"", true},
      {"\"x\",W/\"5-a\"", true},
      {"\"x\"\t,\t\"5-a\"", true},
      {",,\"5-a\"", true},
      {"\"a,b\", \"5-a\"", true},
      {"", false},
      {"5-a", false},
      {"\"5-a", false},
      {"\"5-b\"", false},
      {"\"5-aa\"", false},
      {"\"x5-a\"", false},
      {"W/5-a", false},
      {"w/\"5-a\"", false},
      {"\"x, 5-a\"", false},
      {"x, \"5-a\"", false},
      {"W/", false},
      {"\"", false},
      {"\"x\"W/", false},
  };
  for (size_t i = 0; i < COUNT(lists); i++) {
    size_t n = strlen(lists[i].list);
    char *s = exact_copy(lists[i].list, n);
    if (files_tag_matches(s, n, "\"5-a\"") != lists[i].is_there) fail_msg("%s", lists[i].list);
    free(s);
  }
}

static void fingerprints_are_told_from_words_and_numbers(void **state) {
  (void)state;
  static const char *const with[] = {
      "app.3f9a1c2b.js", "app-3f9a1c2b.js",   "app_3F9A1C2B4D5E6F70.css",
      "3f9a1c2b.js",     "a/b/x.0123456f.js", "font.1a2b3c4d.woff2",
      "x.3f9a1c2b",      "a/3f9a1c2b.js"};
  static const char *const without[] = {
      "app.js",
      "index.html",
      "app.3f9a1c2.js",
      "report-20241231.pdf",
      "deadbeef.js",
      "x.defaced0x.js",
      "3f9a1c2b/app.js",
      "a.3f9a1c2g.js",
      "",
      ".",
      "3f9a.1c2b",
      "version-1.2.3",
      "00000000.js",
      "facade-feedface.js",
      "3f9a 1c2b.js",
  };
  for (size_t i = 0; i < COUNT(with); i++)
    if (!files_has_fingerprint(with[i])) fail_msg("%s", with[i]);
  for (size_t i = 0; i < COUNT(without); i++)
    if (files_has_fingerprint(without[i])) fail_msg("%s", without[i]);
}

static void texts_may_be_compressed(void **state) {
  (void)state;
  static const char *const yes[] = {"a.html", "a.JS",   "a.css", "a.json",
                                    "a.svg",  "a.wasm", "a.txt"};
  static const char *const no[] = {"a.png", "a.gz", "a.woff2", "a.mp4", "a", "a.js.gz", "a.zip"};
  for (size_t i = 0; i < COUNT(yes); i++)
    if (!files_may_compress(yes[i])) fail_msg("%s", yes[i]);
  for (size_t i = 0; i < COUNT(no); i++)
    if (files_may_compress(no[i])) fail_msg("%s", no[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_have_types),
      cmocka_unit_test(tags_are_found_in_lists),
      cmocka_unit_test(fingerprints_are_told_from_words_and_numbers),
      cmocka_unit_test(texts_may_be_compressed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
