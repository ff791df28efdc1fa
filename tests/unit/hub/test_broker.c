/* SPDX-License-Identifier: MIT */
/* test_broker.c -- what the broker makes of a thread that was held up. */
#include "../unit.h"

#include "base/log.h"
#include "hub/broker.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum {
  TIMEOUT_MS = 2000, /* silence for half of it: Redis is asked; for as long again: it is lost */
  HELD_UP_US = 1700 * 1000,
  HANG_MS = 30000,
};

static char folder[] = "/tmp/test_broker.XXXXXX";
static char path[100];
static pid_t redis;
static uv_loop_t loop;
static struct layer layer;
static struct broker broker;

static bool redis_answers(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  bool is_there = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
  close(fd);
  return is_there;
}

static void start_redis(void) {
  redis = fork();
  assert_true(redis >= 0);
  if (redis == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 1);
    dup2(null, 2);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--save", "",
           "--dir", folder, NULL);
    _exit(127);
  }
  for (int i = 0; i < 1000 && !redis_answers(); i++) {
    if (waitpid(redis, NULL, WNOHANG) != 0) {
      redis = 0;
      skip(); /* it is not installed */
    }
    usleep(10000);
  }
}

static int make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(path, sizeof path, "%s/redis.sock", folder);
  return 0;
}

static int clean_up(void **state) {
  (void)state;
  char command[200];
  if (redis) {
    kill(redis, SIGKILL);
    waitpid(redis, NULL, 0);
  }
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

static void turn_until(bool (*is_so)(void)) {
  uint64_t began = uv_now(&loop);
  while (!is_so()) {
    uv_run(&loop, UV_RUN_ONCE);
    if (uv_now(&loop) - began > HANG_MS) fail_msg("it never happened");
  }
}

static bool is_up(void) {
  return broker.commands.state == REDIS_READY && broker.events.state == REDIS_READY;
}

static bool is_asking(void) {
  return broker.commands.asked && broker.events.asked;
}

static bool has_answered(void) {
  return !broker.commands.asked && !broker.events.asked;
}

/* Apps that load hold this thread up for seconds. What came meanwhile was not read, which is no
 * fault of Redis. */
static void redis_is_not_blamed_for_our_own_pause(void **state) {
  (void)state;
  struct redis_url url;
  const char *why;
  char text[120];
  start_redis();
  snprintf(text, sizeof text, "unix:%s", path);
  assert_true(redis_url_parse(text, &url, &why));
  layer_init(&layer, 1, 1 << 20);
  assert_int_equal(uv_loop_init(&loop), 0);
  broker_open(&broker, &layer, &loop,
              (struct broker_options){.url = &url, .prefix = "test:", .timeout_ms = TIMEOUT_MS});
  assert_true(broker_settle(&broker, &why));
  turn_until(is_up);
  uint64_t losses = atomic_load(&layer.metrics.layer_losses);
  kill(redis, SIGSTOP);
  turn_until(is_asking);
  kill(redis, SIGCONT);
  usleep(HELD_UP_US); /* the answer comes, and is not read */
  turn_until(has_answered);
  assert_true(is_up());
  assert_int_equal(atomic_load(&layer.metrics.layer_losses), losses);
  broker_close(&broker);
  uv_run(&loop, UV_RUN_DEFAULT);
  broker_fini(&broker);
  assert_int_equal(uv_loop_close(&loop), 0);
  layer_fini(&layer);
  redis_url_free(&url);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(redis_is_not_blamed_for_our_own_pause),
  };
  log_open(2, LOG_ERROR, LOG_TEXT, false);
  return cmocka_run_group_tests(tests, make_folder, clean_up);
}
