/* SPDX-License-Identifier: MIT */
/* test_claim.c -- another project is told of while its servers run, and only then. */
#include "../unit.h"

#include "hub/claim.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state) {
  (void)state;
  strcpy(folder, "/tmp/perigee-claim-XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  char path[128];
  (void)state;
  snprintf(path, sizeof path, "%s/project", folder);
  unlink(path);
  return rmdir(folder);
}

/* The descriptor; asserts whose folder it is said to be. */
static int take(const char *project, const char *whose) {
  char *other;
  int fd = claim_take(folder, project, &other);
  assert_true(fd >= 0);
  if (whose)
    assert_string_equal(other, whose);
  else
    assert_null(other);
  free(other);
  return fd;
}

static void one_project_has_it(void **state) {
  (void)state;
  int one = take("/srv/shop", NULL), two = take("/srv/shop", NULL);
  close(one);
  close(two);
}

static void another_is_told_as_long_as_one_runs(void **state) {
  (void)state;
  int one = take("/srv/shop", NULL), two = take("/srv/shop", NULL);
  int other = take("/srv/admin", "/srv/shop");
  close(other);
  close(one);
  close(take("/srv/admin", "/srv/shop")); /* the second is still there */
  close(two);
  close(take("/srv/admin", NULL)); /* what an earlier one has left means nothing */
  close(take("/srv/shop", NULL));
}

static void a_process_that_ends_lets_go(void **state) {
  (void)state;
  int ready[2];
  char byte;
  assert_int_equal(0, pipe(ready));
  pid_t child = fork();
  if (child == 0) {
    char *other;
    bool is_ok = claim_take(folder, "/srv/shop", &other) >= 0 && write(ready[1], "", 1) == 1;
    if (is_ok) pause();
    _exit(1);
  }
  assert_int_equal(1, read(ready[0], &byte, 1));
  close(take("/srv/admin", "/srv/shop"));
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  close(take("/srv/admin", NULL));
  close(ready[0]);
  close(ready[1]);
}

static void only_the_owner_may_read_it(void **state) {
  (void)state;
  char path[128];
  struct stat st;
  int fd = take("/srv/shop", NULL);
  snprintf(path, sizeof path, "%s/project", folder);
  assert_int_equal(0, stat(path, &st));
  assert_int_equal(0600, st.st_mode & 0777);
  close(fd);
}

static void where_nothing_can_be_said_nothing_is(void **state) {
  (void)state;
  char *other, path[128];
  assert_int_equal(-1, claim_take("/proc/nothing", "/srv/shop", &other));
  assert_null(other);
  /* nor is a link followed to somebody's file */
  snprintf(path, sizeof path, "%s/project", folder);
  assert_int_equal(0, symlink("/etc/hostname", path));
  assert_int_equal(-1, claim_take(folder, "/srv/shop", &other));
  assert_null(other);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_project_has_it, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(another_is_told_as_long_as_one_runs, make_folder,
                                      remove_folder),
      cmocka_unit_test_setup_teardown(a_process_that_ends_lets_go, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(only_the_owner_may_read_it, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(where_nothing_can_be_said_nothing_is, make_folder,
                                      remove_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
