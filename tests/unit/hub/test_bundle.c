/* SPDX-License-Identifier: MIT */
/* test_bundle.c -- what is read of a folder of apps, what is refused, and what counts as changed.
 */
#include "../unit.h"

#include "hub/bundle.h"
#include "hub/tree.h"

#include <fcntl.h>
#include <sys/stat.h>

static char root[] = "/tmp/test_bundle_XXXXXX";
static char error[1024];

/* Writes a file below the root, with the folders it needs. */
static void put_bytes(const char *name, const char *bytes, size_t n) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", root, name);
  for (char *slash = strchr(path + sizeof root, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(path, 0700);
    *slash = '/';
  }
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, bytes, n), n);
  close(fd);
}

static void put(const char *name, const char *text) {
  put_bytes(name, text, strlen(text));
}

static void erase(const char *name) {
  char command[600];
  snprintf(command, sizeof command, "rm -rf %s/%s", root, name);
  assert_int_equal(system(command), 0);
}

static struct bundle *read_all(void) {
  struct bundle *b = bundle_read(root, error, sizeof error);
  if (!b) fail_msg("%s", error);
  return b;
}

static int set_up(void **state) {
  (void)state;
  memcpy(root, "/tmp/test_bundle_XXXXXX", sizeof root);
  return mkdtemp(root) ? 0 : 1;
}

static int tear_down(void **state) {
  (void)state;
  erase("");
  return 0;
}

static void apps_are_folders_and_files(void **state) {
  (void)state;
  put("b.lua", "return 1");
  put("a/init.lua", "return 2");
  put("a/sub/x.lua", "return 3");
  put("a/notes.txt", "no code");
  put("a/spec/a_spec.lua", "no code of the app");
  put("a/public/x.lua", "a public file");
  put("a/.hidden.lua", "");
  put("a/node_modules/x.lua", "");
  put(".git/init.lua", "");
  put("not an app/init.lua", "");
  put("stray/x.lua", "");
  put("empty/readme.txt", "");
  struct bundle *b = read_all();
  assert_int_equal(b->n_apps, 2);
  const struct bundle_app *a = bundle_find(b, "a"), *single = bundle_find(b, "b");
  assert_non_null(a);
  assert_true(a->has_public);
  assert_int_equal(a->n_files, 2);
  assert_memory_equal(a->files[0].text, "return 2", 8);
  assert_int_equal(a->files[1].len, 8);
  assert_non_null(strstr(a->files[1].path, "/a/sub/x.lua"));
  assert_non_null(strstr(a->file, "/a/init.lua"));
  assert_null(single->dir);
  assert_false(single->has_public);
  assert_int_equal(single->n_files, 1);
  assert_null(bundle_find(b, "stray"));
  assert_int_equal(bundle_find_stray(b, "stray")->n_files, 1);
  assert_int_equal(bundle_find_stray(b, "empty")->n_files, 0);
  bundle_unref(b);
}

static void what_is_left_out_is_kept_with_why(void **state) {
  (void)state;
  put("ok/init.lua", "return 1");
  put("v1.2/init.lua", "");
  put("my app/init.lua", "");
  put("node_modules/init.lua", "");
  put("some.thing.lua", "");
  put("no code/readme.txt", "");
  put(".git/init.lua", "");
  struct bundle *b = read_all();
  assert_int_equal(b->n_apps, 1);
  assert_int_equal(b->n_left_out, 4);
  static const char *const names[] = {"my app", "node_modules", "some.thing.lua", "v1.2"};
  for (size_t i = 0; i < COUNT(names); i++) {
    assert_string_equal(strrchr(b->left_out[i].path, '/') + 1, names[i]);
    assert_non_null(strstr(b->left_out[i].why, i == 1 ? "npm" : "rename it"));
  }
  bundle_unref(b);
}

static bool count_all(void *arg, const struct tree_entry *entry) {
  (void)entry;
  ++*(int *)arg;
  return true;
}

static void links_are_followed(void **state) {
  (void)state;
  char to[100], from[100];
  put("elsewhere/init.lua", "return 1");
  snprintf(to, sizeof to, "%s/elsewhere", root);
  snprintf(from, sizeof from, "%s/linked", root);
  assert_int_equal(symlink(to, from), 0);
  snprintf(from, sizeof from, "%s/elsewhere/circle", root);
  assert_int_equal(symlink(to, from), 0);
  snprintf(from, sizeof from, "%s/dangling.lua", root);
  assert_int_equal(symlink("/nowhere", from), 0);
  snprintf(from, sizeof from, "%s/elsewhere/circle2", root);
  assert_int_equal(symlink(to, from), 0);
  put("elsewhere/public/x", "");
  snprintf(from, sizeof from, "%s/elsewhere/public/all", root);
  assert_int_equal(symlink("/", from), 0);
  int n = 0;
  assert_true(tree_walk(root, true, count_all, &n, error, sizeof error));
  assert_in_range(n, 8, 12); /* the circles have an end, and nobody went through the whole system */
  struct bundle *b = read_all();
  assert_non_null(bundle_find(b, "linked"));
  assert_null(bundle_find(b, "dangling"));
  bundle_unref(b);
}

static void bad_files_are_told(void **state) {
  (void)state;
  static char big[BUNDLE_FILE_MAX + 1];
  memset(big, '-', sizeof big);
  put_bytes("big/init.lua", big, sizeof big);
  put_bytes("fits/init.lua", big, sizeof big - 1);
  put_bytes("latin/init.lua", "-- \xe9", 4);
  put("twice/init.lua", "");
  put("twice.lua", "");
  put("fine/init.lua", "");
  put("fine2.lua", "");
  put("fine2/spec/fine2_spec.lua", ""); /* a file's tests do not make a second app */
  struct bundle *b = read_all();
  assert_non_null(strstr(bundle_find(b, "big")->error, "2 MiB"));
  assert_non_null(strstr(bundle_find(b, "latin")->error, "latin/init.lua is not UTF-8"));
  assert_non_null(strstr(bundle_find(b, "twice")->error, "two apps are called 'twice'"));
  assert_null(bundle_find(b, "fits")->error);
  assert_null(bundle_find(b, "fine")->error);
  assert_null(bundle_find(b, "fine2")->error);
  bundle_unref(b);
  erase("");
  assert_null(bundle_read(root, error, sizeof error));
  assert_non_null(strstr(error, "cannot read the apps folder"));
}

static void what_has_changed_is_counted(void **state) {
  (void)state;
  put("a/init.lua", "1");
  put("b/init.lua", "1");
  struct bundle *one = read_all();
  assert_int_equal(bundle_compare(one, NULL), 2);
  assert_int_equal(bundle_find(one, "a")->generation, 1);

  struct bundle *same = read_all();
  assert_int_equal(bundle_compare(same, one), 0);
  assert_false(bundle_find(same, "a")->is_changed);
  bundle_unref(same);

  put("a/init.lua", "2");
  put("c.lua", "1");
  erase("b");
  struct bundle *two = read_all();
  assert_int_equal(bundle_compare(two, one), 3); /* changed, new, gone */
  assert_int_equal(bundle_find(two, "a")->generation, 2);
  assert_int_equal(bundle_find(two, "c")->generation, 1);

  put("a/more.lua", "");
  put("c.lua", "2");
  struct bundle *three = read_all();
  assert_true(bundle_compare(three, two) == 2);
  bundle_retain(three, bundle_find(two, "a")); /* as it was */
  bundle_retain(three, bundle_find(one, "b")); /* back again */
  bundle_drop(three, "c");
  assert_int_equal(bundle_compare(three, two), 2); /* b is there, c is not */
  assert_true(bundle_app_equals(bundle_find(three, "a"), bundle_find(two, "a")));
  bundle_unref(three);

  assert_null(bundle_app_missing(bundle_find(two, "a")));
  erase("a/init.lua");
  assert_non_null(strstr(bundle_app_missing(bundle_find(two, "a")), "a/init.lua"));
  struct bundle *four = read_all();
  assert_int_equal(bundle_compare(four, two), 2);
  bundle_refuse_stray(four, "a");
  assert_non_null(strstr(bundle_find(four, "a")->error, "has no init.lua any more"));
  assert_int_equal(bundle_compare(four, two), 2);
  bundle_unref(four);
  bundle_unref(two);
  bundle_unref(one);
}

static void a_public_folder_that_appears_is_a_change(void **state) {
  (void)state;
  put("a/init.lua", "1");
  struct bundle *before = read_all();
  bundle_compare(before, NULL);
  put("a/public/index.html", "1");
  struct bundle *after = read_all();
  assert_int_equal(bundle_compare(after, before), 1);
  bundle_compare(after, NULL);
  put("a/public/index.html", "22"); /* what is in it is not */
  struct bundle *again = read_all();
  assert_int_equal(bundle_compare(again, after), 0);
  bundle_unref(before);
  bundle_unref(after);
  bundle_unref(again);
}

static void a_longer_text_or_another_name_is_a_change(void **state) {
  (void)state;
  put("a/init.lua", "1");
  put("a/x.lua", "1");
  struct bundle *before = read_all();
  bundle_compare(before, NULL);
  put("a/init.lua", "12"); /* begins with what it was */
  struct bundle *longer = read_all();
  assert_int_equal(bundle_compare(longer, before), 1);
  put("a/init.lua", "1");
  erase("a/x.lua");
  put("a/y.lua", "1");
  struct bundle *renamed = read_all();
  assert_int_equal(bundle_compare(renamed, before), 1);
  bundle_unref(before);
  bundle_unref(longer);
  bundle_unref(renamed);
}

static bool count(void *arg, const struct tree_entry *entry) {
  (void)entry;
  return ++*(int *)arg < 2;
}

static void a_walk_can_be_ended(void **state) {
  (void)state;
  int n = 0;
  put("a/init.lua", "");
  put("b/init.lua", "");
  assert_false(tree_walk(root, true, count, &n, error, sizeof error));
  assert_int_equal(n, 2);
  assert_string_equal(error, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(apps_are_folders_and_files, set_up, tear_down),
      cmocka_unit_test_setup_teardown(links_are_followed, set_up, tear_down),
      cmocka_unit_test_setup_teardown(bad_files_are_told, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_has_changed_is_counted, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_public_folder_that_appears_is_a_change, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_longer_text_or_another_name_is_a_change, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_walk_can_be_ended, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_left_out_is_kept_with_why, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
