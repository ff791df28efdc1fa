/* SPDX-License-Identifier: MIT */
/* test_watch.c -- changes are told of, even while they go on. */
#include "../unit.h"

#include "hub/watch.h"

#include <fcntl.h>
#include <sys/stat.h>

enum {
  HANG_MS = 30000,
  QUIET_MS = 40, /* as in watch.c */
};

static char folder[] = "/tmp/test_watch.XXXXXX";
static uv_loop_t loop;
static struct watch *watch;
static uv_timer_t writer;
static unsigned n_code;

static void on_code(void *owner) {
  (void)owner;
  n_code++;
}

static void on_pages(void *owner) {
  (void)owner;
}

static void write_file(const char *name, int value) {
  char path[200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fprintf(file, "return %d\n", value);
  fclose(file);
}

static int begin(void **state) {
  (void)state;
  char path[200];
  strcpy(folder + strlen(folder) - 6, "XXXXXX");
  if (!mkdtemp(folder)) return -1;
  snprintf(path, sizeof path, "%s/app", folder);
  if (mkdir(path, 0700) != 0) return -1;
  write_file("app/init.lua", 0);
  uv_loop_init(&loop);
  watch = watch_open(&loop, folder, (struct watch_owner){on_code, on_pages, NULL});
  n_code = 0;
  return 0;
}

static int end(void **state) {
  (void)state;
  char command[200];
  watch_close(watch);
  uv_close((uv_handle_t *)&writer, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  watch_free(watch);
  assert_int_equal(uv_loop_close(&loop), 0);
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

static void turn_until_code(unsigned n) {
  uint64_t began = uv_now(&loop);
  while (n_code < n) {
    uv_run(&loop, UV_RUN_ONCE);
    if (uv_now(&loop) - began > HANG_MS) fail_msg("the change was never told of");
  }
}

/* ---- changes without end ----------------------------------------------------------------------
 */

static void write_again(uv_timer_t *timer) {
  write_file("app/init.lua", ++*(int *)timer->data);
}

/* Somebody who writes all the time never lets it come to rest: it is told of all the same. */
static void what_never_rests_is_told_of(void **state) {
  (void)state;
  static int n;
  uv_timer_init(&loop, &writer);
  writer.data = &n;
  uv_timer_start(&writer, write_again, 0, QUIET_MS / 8);
  turn_until_code(1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_never_rests_is_told_of, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
