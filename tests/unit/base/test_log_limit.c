/* SPDX-License-Identifier: MIT */
/* test_log_limit.c -- a few lines of a kind per second; all others are counted and told. */
#include "../unit.h"

#include "base/log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

static int fd;
static char page[64 * 1024];

static int open_memory(void **state) {
  (void)state;
  fd = memfd_create("log", 0);
  return fd < 0 || fcntl(fd, F_SETFL, O_APPEND) != 0;
}

static int close_memory(void **state) {
  (void)state;
  log_open(2, LOG_INFO, LOG_TEXT, false);
  return close(fd);
}

static void start(void) {
  assert_int_equal(ftruncate(fd, 0), 0);
  log_open(fd, LOG_DEBUG, LOG_TEXT, false);
}

static const char *logged(void) {
  ssize_t n = pread(fd, page, sizeof page - 1, 0);
  assert_true(n >= 0);
  page[n] = '\0';
  return page;
}

/* What the only line says behind its time. */
static const char *said(void) {
  const char *s = strchr(logged(), ' ');
  return s ? s + 1 : page;
}

static time_t coarse_second(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec;
}

static void next_second(void) {
  for (time_t second = coarse_second(); coarse_second() == second;) usleep(1000);
}

/* ---- lines of one place in C ------------------------------------------------------------------
 */

static void ask(struct log_limit *limit, bool is_begun[6]) {
  struct log_line l;
  for (size_t i = 0; i < 6; i++) {
    is_begun[i] = log_begin_limited(&l, limit, LOG_INFO, "e");
    if (is_begun[i]) log_end(&l);
  }
}

static void a_burst_is_limited_and_what_was_held_back_counted(void **state) {
  (void)state;
  static struct log_limit limit = {.burst = 4};
  struct log_line l;
  bool is_begun[6];
  uint64_t before;
  time_t second;
  do { /* again if a second ended in between */
    log_tell_suppressed(true);
    start();
    atomic_store(&limit.window, 0);
    before = log_suppressed();
    second = coarse_second();
    ask(&limit, is_begun);
  } while (coarse_second() != second);
  for (size_t i = 0; i < COUNT(is_begun); i++) assert_int_equal(is_begun[i], i < 4);
  assert_null(strstr(logged(), "suppressed"));
  assert_int_equal(log_suppressed() - before, 2);

  atomic_store(&limit.window, 0); /* as if the second were over */
  start();
  assert_true(log_begin_limited(&l, &limit, LOG_INFO, "e"));
  log_end(&l);
  assert_string_equal(said(), "info  e suppressed=2\n");
  start();
  assert_true(log_begin_limited(&l, &limit, LOG_INFO, "e"));
  log_end(&l);
  assert_string_equal(said(), "info  e\n"); /* said once */
}

static void a_level_that_is_off_does_not_count(void **state) {
  (void)state;
  struct log_line l;
  static struct log_limit limit = {.burst = 1};
  unsigned missed = 7;
  start();
  log_set_level(LOG_INFO);
  for (int i = 0; i < 5; i++) {
    assert_false(log_begin_limited(&l, &limit, LOG_DEBUG, "e"));
    assert_false(log_is_due(LOG_DEBUG, "off", 3, 1, &missed));
    assert_int_equal(missed, 0);
  }
  assert_true(log_begin_limited(&l, &limit, LOG_INFO, "e"));
  log_end(&l);
  assert_string_equal(said(), "info  e\n");
  assert_true(log_is_due(LOG_INFO, "off", 3, 1, &missed));
  assert_int_equal(missed, 0);
}

static void what_was_held_back_is_told_when_the_second_is_over(void **state) {
  (void)state;
  static struct log_limit limit = {.burst = 1};
  bool is_begun[6];
  time_t second;
  do {
    next_second();
    log_tell_suppressed(true);
    start();
    second = coarse_second();
    ask(&limit, is_begun);
    start();
    log_tell_suppressed(false); /* too early */
  } while (coarse_second() != second);
  assert_string_equal(logged(), "");
  next_second();
  log_tell_suppressed(false);
  assert_string_equal(said(), "info  more like it of=e suppressed=5\n");
  start();
  log_tell_suppressed(true);
  assert_string_equal(logged(), ""); /* said once */
}

/* ---- lines of a kind that is told by a text ----------------------------------------------------
 */

static int due(const char *kind, int n, uint32_t burst) {
  unsigned missed;
  int passed = 0;
  for (int i = 0; i < n; i++) passed += log_is_due(LOG_ERROR, kind, strlen(kind), burst, &missed);
  return passed;
}

static void each_kind_has_its_own_limit(void **state) {
  (void)state;
  int a, b, c;
  uint64_t before;
  time_t second;
  do {
    next_second();
    log_tell_suppressed(true);
    start();
    before = log_suppressed();
    second = coarse_second();
    a = due("fault at a", 20, 5);
    b = due("fault at b", 5, 5);
    c = due("fault at c", 6, 5);
  } while (coarse_second() != second);
  assert_int_equal(a, 5);
  assert_int_equal(b, 5);
  assert_int_equal(c, 5);
  assert_int_equal(log_suppressed() - before, 16);
  start();
  log_tell_suppressed(true);
  assert_non_null(strstr(logged(), "error more like it of=\"fault at a\" suppressed=15\n"));
  assert_null(strstr(page, "fault at b"));
  assert_non_null(strstr(page, "error more like it of=\"fault at c\" suppressed=1\n"));
}

static void the_next_second_begins_anew_and_says_what_was_missed(void **state) {
  (void)state;
  unsigned missed;
  static const char kind[] = "again and again";
  time_t second;
  do {
    next_second();
    log_tell_suppressed(true);
    second = coarse_second();
    due(kind, 9, 5);
  } while (coarse_second() != second);
  next_second();
  assert_true(log_is_due(LOG_ERROR, kind, strlen(kind), 5, &missed));
  assert_int_equal(missed, 4);
  assert_true(log_is_due(LOG_ERROR, kind, strlen(kind), 5, &missed));
  assert_int_equal(missed, 0);
  start();
  log_tell_suppressed(true);
  assert_string_equal(logged(), "");
}

/* More kinds than there are places: who must make room tells what it missed first. */
static void nothing_that_was_held_back_is_forgotten(void **state) {
  (void)state;
  enum { KINDS = 2000 };
  char kind[40];
  log_tell_suppressed(true);
  uint64_t before = log_suppressed();
  start();
  for (int i = 0; i < KINDS; i++) {
    snprintf(kind, sizeof kind, "kind-%d", i);
    due(kind, 2, 1);
  }
  log_tell_suppressed(true);
  static char all[KINDS * 100];
  ssize_t n = pread(fd, all, sizeof all - 1, 0);
  assert_true(n > 0);
  uint64_t told = 0;
  for (const char *at = all; (at = strstr(at, "suppressed="));
       told += (uint64_t)atoi(at + 11), at++)
    continue;
  assert_int_equal(told, log_suppressed() - before);
  assert_true(told >= KINDS / 2); /* a second may have ended in between, now and then */
}

/* Kinds of which the first 240 bytes are alike are one. */
static void a_long_kind_is_cut(void **state) {
  (void)state;
  char kind[300];
  unsigned missed;
  bool is_due[3];
  time_t second;
  memset(kind, 'k', sizeof kind);
  do {
    next_second();
    second = coarse_second();
    for (size_t i = 0; i < COUNT(is_due); i++)
      is_due[i] = log_is_due(LOG_ERROR, kind, 239 + i, 1, &missed);
  } while (coarse_second() != second);
  assert_true(is_due[0]);
  assert_true(is_due[1]);
  assert_false(is_due[2]);
  start();
  log_tell_suppressed(true);
}

/* There are fewer places than kinds, so some share one: each second has no more lines than places.
 */
static void kinds_that_share_a_place_share_its_limit(void **state) {
  unsigned missed, passed = 0, n = 20000;
  time_t began;
  (void)state;
  start();
  next_second();
  began = coarse_second();
  for (unsigned i = 0; i < n; i++) {
    char kind[16];
    int len = snprintf(kind, sizeof kind, "k%u", i);
    passed += log_is_due(LOG_ERROR, kind, (size_t)len, 1, &missed);
  }
  assert_true(passed <= 256 * (unsigned)(coarse_second() - began + 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_burst_is_limited_and_what_was_held_back_counted),
      cmocka_unit_test(a_level_that_is_off_does_not_count),
      cmocka_unit_test(what_was_held_back_is_told_when_the_second_is_over),
      cmocka_unit_test(each_kind_has_its_own_limit),
      cmocka_unit_test(the_next_second_begins_anew_and_says_what_was_missed),
      cmocka_unit_test(nothing_that_was_held_back_is_forgotten),
      cmocka_unit_test(kinds_that_share_a_place_share_its_limit),
      cmocka_unit_test(a_long_kind_is_cut),
  };
  return cmocka_run_group_tests(tests, open_memory, close_memory);
}
