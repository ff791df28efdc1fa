/* SPDX-License-Identifier: MIT */
/* test_outlet.c -- nobody who writes waits for who reads; what is dropped is told where it is
 * missing. */
#include "../unit.h"

#include "base/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PIPE_BYTES = 4096, PATIENCE_MS = 20000 };

static int ends[2];
static struct outlet *outlet;
static char *page; /* all that was read */
static size_t page_len;
enum { PAGE_BYTES = 4 * 1024 * 1024 };

static size_t notice(void *owner, char *text, size_t size, uint64_t lines) {
  ++*(int *)owner;
  return (size_t)snprintf(text, size, "<%d missing>\n", (int)lines);
}

static int notices;

static int open_pipe(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  notices = 0;
  page_len = 0;
  page = malloc(PAGE_BYTES + 1);
  if (!page || pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) != PIPE_BYTES) return -1;
  outlet = outlet_open(ends[1], notice, &notices);
  return outlet ? 0 : -1;
}

static int close_pipe(void **state) {
  (void)state;
  close(ends[0]); /* who is stuck is no longer */
  if (outlet) outlet_close(outlet, PATIENCE_MS);
  close(ends[1]);
  free(page);
  return 0;
}

/* Makes the pipe full: the next byte waits for a reader. */
static void fill(void) {
  static char bytes[PIPE_BYTES];
  memset(bytes, '.', sizeof bytes);
  assert_int_equal(write(ends[1], bytes, sizeof bytes), sizeof bytes);
}

static void read_some(void) {
  struct pollfd ready = {.fd = ends[0], .events = POLLIN};
  assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
  ssize_t n = read(ends[0], page + page_len, PAGE_BYTES - page_len);
  assert_true(n > 0);
  page_len += (size_t)n;
  page[page_len] = '\0';
}

static void read_what_is_there(void) {
  struct pollfd ready = {.fd = ends[0], .events = POLLIN};
  if (poll(&ready, 1, 1) == 1) read_some();
}

static void read_until(const char *text) {
  page[page_len] = '\0';
  while (!strstr(page, text)) read_some();
}

static void say(const char *text) {
  outlet_put(outlet, text, strlen(text));
}

/* ---- what is put arrives ----------------------------------------------------------------------
 */

static void lines_arrive_in_order(void **state) {
  (void)state;
  char line[32];
  for (int i = 0; i < 100; i++) {
    snprintf(line, sizeof line, "line %d\n", i);
    say(line);
  }
  read_until("line 99\n");
  const char *at = page;
  for (int i = 0; i < 100; i++) {
    snprintf(line, sizeof line, "line %d\n", i);
    assert_int_equal(strncmp(at, line, strlen(line)), 0);
    at += strlen(line);
  }
  assert_int_equal(*at, '\0');
  assert_int_equal(outlet_dropped(outlet), 0);
  assert_int_equal(notices, 0);
}

static void settled_means_written(void **state) {
  (void)state;
  int available;
  for (int i = 0; i < 50; i++) {
    say("one\n");
    assert_true(outlet_settle(outlet, PATIENCE_MS));
    struct pollfd ready = {.fd = ends[0], .events = POLLIN};
    available = poll(&ready, 1, 0);
    assert_int_equal(available, 1);
    read_some();
  }
  assert_int_equal(page_len, 50 * 4);
}

static void a_text_longer_than_a_pipe_arrives_whole(void **state) {
  (void)state;
  size_t n = OUTLET_BYTES / 2 + 12345;
  char *text = malloc(n);
  assert_non_null(text);
  for (size_t i = 0; i < n; i++) text[i] = i % 5000 == 4999 ? '\n' : (char)('a' + i % 26);
  outlet_put(outlet, text, n);
  while (page_len < n) read_some();
  assert_int_equal(page_len, n);
  assert_memory_equal(page, text, n);
  free(text);
}

/* A pipe of one page takes what is written at once, so a read ends where a write did. */
static void lines_leave_whole(void **state) {
  (void)state;
  char line[1000];
  memset(line, 'x', sizeof line);
  line[sizeof line - 1] = '\n';
  fill();
  for (int i = 0; i < 12; i++) outlet_put(outlet, line, sizeof line);
  read_some(); /* makes room for PIPE_BUF bytes: four of these lines, and no part of a fifth */
  assert_int_equal(page_len, PIPE_BYTES);
  page_len = 0;
  while (page_len < 12 * sizeof line) {
    size_t before = page_len;
    read_some();
    assert_int_equal((page_len - before) % sizeof line, 0);
    assert_true(page_len - before <= PIPE_BUF);
  }
}

/* ---- a reader that does not read ---------------------------------------------------------------
 */

static void the_queue_takes_what_it_holds_and_not_a_byte_more(void **state) {
  (void)state;
  char *text = malloc(OUTLET_BYTES);
  assert_non_null(text);
  memset(text, 'x', OUTLET_BYTES);
  text[OUTLET_BYTES - 1] = '\n';
  fill();
  outlet_put(outlet, text, OUTLET_BYTES - 1);
  assert_int_equal(outlet_dropped(outlet), 0);
  outlet_put(outlet, "\n", 1); /* full now */
  assert_int_equal(outlet_dropped(outlet), 0);
  outlet_put(outlet, "\n", 1);
  assert_int_equal(outlet_dropped(outlet), 1);
  assert_false(outlet_settle(outlet, 1));
  read_until("<1 missing>\n");
  assert_int_equal(page_len, PIPE_BYTES + OUTLET_BYTES + strlen("<1 missing>\n"));
  free(text);
}

static void what_is_dropped_is_told_where_it_is_missing(void **state) {
  (void)state;
  char line[100], expected[100];
  int put = 0;
  fill();
  while (outlet_dropped(outlet) < 500) {
    snprintf(line, sizeof line, "line %d of many, with some words to make it longer\n", put++);
    say(line);
  }
  read_until("<500 missing>\n");
  say("after\n");
  read_until("after\n");
  int arrived = 0;
  for (const char *at = strchr(page, 'l'); at && *at == 'l'; at = strchr(at, '\n') + 1) {
    snprintf(expected, sizeof expected, "line %d of many", arrived++);
    assert_int_equal(strncmp(at, expected, strlen(expected)), 0);
  }
  assert_int_equal(arrived + 500, put);
  snprintf(expected, sizeof expected, "line %d of many, with some words to make it longer\n",
           arrived - 1);
  const char *last = strstr(page, expected);
  assert_non_null(last);
  assert_string_equal(last + strlen(expected), "<500 missing>\nafter\n");
  assert_int_equal(notices, 1);
  assert_int_equal(outlet_dropped(outlet), 500);
}

static void the_queue_goes_on_after_a_stall(void **state) {
  (void)state;
  for (int round = 1; round <= 3; round++) {
    char mark[32];
    page_len = 0;
    fill();
    while (outlet_dropped(outlet) < (uint64_t)round * 10) say("a line that fills the queue\n");
    snprintf(mark, sizeof mark, "<%d missing>\n", 10);
    read_until(mark);
    assert_int_equal(notices, round);
    assert_true(outlet_settle(outlet, PATIENCE_MS));
  }
}

static void a_stuck_outlet_can_be_left(void **state) {
  (void)state;
  static struct outlet *left; /* still known to its thread, and so is the pipe */
  static int told;
  int own[2];
  char bytes[PIPE_BYTES] = "";
  assert_int_equal(pipe(own), 0);
  assert_int_equal(fcntl(own[1], F_SETPIPE_SZ, PIPE_BYTES), PIPE_BYTES);
  assert_int_equal(write(own[1], bytes, sizeof bytes), sizeof bytes);
  left = outlet_open(own[1], notice, &told);
  assert_non_null(left);
  outlet_put(left, "nobody reads this\n", 18);
  assert_false(outlet_close(left, 1));
  outlet_put(left, "nor this\n", 9); /* neither waits nor stays */
  assert_int_equal(outlet_dropped(left), 1);
}

/* ---- descriptors that refuse -------------------------------------------------------------------
 */

static void a_descriptor_that_does_not_wait_is_waited_for(void **state) {
  (void)state;
  assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0); /* by who shares it */
  char line[64];
  for (int i = 0; i < 1000; i++) {
    snprintf(line, sizeof line, "line %d\n", i);
    say(line);
  }
  read_until("line 999\n");
  assert_int_equal(outlet_dropped(outlet), 0);
  assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

static void the_descriptor_stays_as_it_was(void **state) {
  (void)state;
  say("one\n");
  read_until("one\n");
  assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
}

static void a_reader_that_is_gone_is_counted(void **state) {
  (void)state;
  close(ends[0]);
  for (int i = 0; i < 3; i++) say("nobody hears this\n");
  assert_true(outlet_settle(outlet, PATIENCE_MS));
  assert_int_equal(outlet_dropped(outlet), 3);
  ends[0] = -1;
}

/* A disk that is full and then is not: half a line that is there already is ended first. */
static void a_full_disk_is_told_when_it_is_not_full_any_more(void **state) {
  (void)state;
  struct rlimit old, small = {.rlim_cur = 10};
  int file = memfd_create("disk", 0);
  assert_true(file >= 0);
  int told = 0;
  struct outlet *o = outlet_open(file, notice, &told);
  assert_non_null(o);
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  small.rlim_max = old.rlim_max;
  outlet_put(o, "first\n", 6);
  assert_true(outlet_settle(o, PATIENCE_MS));
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  outlet_put(o, "second\n", 7); /* "seco" fits */
  bool is_settled = outlet_settle(o, PATIENCE_MS);
  outlet_put(o, "third\n", 6);
  is_settled = outlet_settle(o, PATIENCE_MS) && is_settled;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  assert_true(is_settled);
  assert_int_equal(outlet_dropped(o), 2);
  outlet_put(o, "fourth\n", 7);
  assert_true(outlet_close(o, PATIENCE_MS));
  char text[100];
  ssize_t n = pread(file, text, sizeof text - 1, 0);
  assert_true(n > 0);
  text[n] = '\0';
  assert_string_equal(text, "first\nseco\n<2 missing>\nfourth\n");
  close(file);
}

/* ---- several threads ---------------------------------------------------------------------------
 */

static void *put_lines(void *arg) {
  char line[80];
  for (int i = 0; i < 3000; i++) {
    snprintf(line, sizeof line, "%c%c%c%c%c%c%c%c line %d\n", *(char *)arg, *(char *)arg,
             *(char *)arg, *(char *)arg, *(char *)arg, *(char *)arg, *(char *)arg, *(char *)arg, i);
    say(line);
  }
  return NULL;
}

/* Each line arrives whole and in its thread's order, or is among those that are told. */
static void lines_of_several_threads_are_whole_and_accounted_for(void **state) {
  (void)state;
  static char names[] = "abc";
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, put_lines, names + i), 0);
  for (int i = 0; i < 20; i++) read_what_is_there(); /* a small queue may have dropped the rest */
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  while (!outlet_settle(outlet, 0)) read_what_is_there();
  outlet_put(outlet, "end\n", 4);
  read_until("end\n");
  int next[3] = {0}, arrived = 0, missing = 0;
  for (char *at = page; strncmp(at, "end\n", 4) != 0; at = strchr(at, '\n') + 1) {
    int k = at[0] - 'a', number, lines;
    if (sscanf(at, "<%d missing>", &lines) == 1) {
      missing += lines;
      continue;
    }
    assert_true(k >= 0 && k < 3);
    for (int i = 0; i < 8; i++) assert_int_equal(at[i], names[k]);
    assert_int_equal(sscanf(at + 8, " line %d\n", &number), 1);
    assert_true(number >= next[k]);
    next[k] = number + 1;
    arrived++;
  }
  assert_int_equal(arrived + missing, 9000);
  assert_int_equal(outlet_dropped(outlet), missing);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pipe, close_pipe)
  const struct CMUnitTest tests[] = {
      TEST(lines_arrive_in_order),
      TEST(settled_means_written),
      TEST(a_text_longer_than_a_pipe_arrives_whole),
      TEST(lines_leave_whole),
      TEST(the_queue_takes_what_it_holds_and_not_a_byte_more),
      TEST(what_is_dropped_is_told_where_it_is_missing),
      TEST(the_queue_goes_on_after_a_stall),
      TEST(a_stuck_outlet_can_be_left),
      TEST(a_descriptor_that_does_not_wait_is_waited_for),
      TEST(the_descriptor_stays_as_it_was),
      TEST(a_reader_that_is_gone_is_counted),
      TEST(a_full_disk_is_told_when_it_is_not_full_any_more),
      TEST(lines_of_several_threads_are_whole_and_accounted_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
