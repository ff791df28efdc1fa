/* SPDX-License-Identifier: MIT */
/* test_remote.c -- who asks a server waits no longer than it wants to, whatever is at the other
 * end. */
#include "../unit.h"

#include "net/remote.h"

#include <sys/socket.h>
#include <sys/un.h>

static char folder[] = "/tmp/test_remote.XXXXXX";

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  return rmdir(folder);
}

static void nobody(void *owner, struct remote_client *client, const char *line) {
  (void)owner, (void)client, (void)line;
}

static void without_a_server_there_is_no_answer(void **state) {
  (void)state;
  struct remote_reply reply;
  assert_int_equal(remote_ask(folder, 0, "reload", 1000, &reply), UV_ECONNREFUSED);
  assert_null(reply.text);
}

/* Its loop does not run: it accepts nothing and says nothing. */
static void a_server_that_is_silent_is_given_up(void **state) {
  (void)state;
  uv_loop_t loop;
  struct remote_reply reply;
  int code;
  assert_int_equal(uv_loop_init(&loop), 0);
  struct remote *r = remote_open(&loop, folder, nobody, NULL, &code);
  assert_non_null(r);
  assert_int_equal(remote_ask(folder, 0, "reload", 20, &reply), UV_ETIMEDOUT);
  assert_null(reply.text);
  assert_int_equal(reply.user, geteuid());
  assert_int_equal(remote_ask(folder, 1, "reload", 20, &reply), UV_ECONNREFUSED);
  remote_close(r);
  uv_run(&loop, UV_RUN_DEFAULT);
  remote_free(r);
  assert_int_equal(uv_loop_close(&loop), 0);
}

static void a_command_is_a_line(void **state) {
  (void)state;
  uv_loop_t loop;
  struct remote_reply reply;
  char line[REMOTE_LINE_MAX + 1];
  int code;
  memset(line, 'x', sizeof line);
  line[REMOTE_LINE_MAX] = '\0';
  assert_int_equal(uv_loop_init(&loop), 0);
  struct remote *r = remote_open(&loop, folder, nobody, NULL, &code);
  assert_non_null(r);
  assert_int_equal(remote_ask(folder, 0, line, 20, &reply), UV_EINVAL);
  line[REMOTE_LINE_MAX - 1] = '\0';
  assert_int_equal(remote_ask(folder, 0, line, 20, &reply), UV_ETIMEDOUT);
  remote_close(r);
  uv_run(&loop, UV_RUN_DEFAULT);
  remote_free(r);
  assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_a_server_there_is_no_answer),
      cmocka_unit_test(a_server_that_is_silent_is_given_up),
      cmocka_unit_test(a_command_is_a_line),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
