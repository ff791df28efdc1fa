/* SPDX-License-Identifier: MIT */
/* test_streams.c -- standard streams that are closed, stuck, or have the last words of a crash. */
#include "../unit.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/streams.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef PERIGEE_TINY
enum { LINES = 300, MUCH = 1 };
#else
enum {
  LINES = 3000,
  MUCH = 30000
}; /* more than a pipe holds, which nobody reads before it has much */
#endif

static char page[256 * 1024];

/* Until there is much in the pipe, or the process is over: what is left then waits in it. */
static void wait_for_much(int fd, pid_t pid) {
  siginfo_t info = {0};
  int n = 0;
  while (n < MUCH && info.si_pid == 0) {
    usleep(1000);
    assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
  }
}

/* Runs body in a process of its own whose standard error and output are a pipe each; returns its
 * status. What it said is in page. */
static int run(void (*body)(void), int which) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    int nowhere = open("/dev/null", O_WRONLY);
    struct rlimit no_core = {0};
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    dup2(ends[1], which);
    close(ends[0]);
    close(ends[1]);
    log_open(2, LOG_INFO, LOG_TEXT, false);
    if (!streams_lead()) _exit(99);
    body();
    exit(0);
  }
  close(ends[1]);
  size_t at = 0;
  wait_for_much(ends[0], pid);
  for (ssize_t n; (n = read(ends[0], page + at, sizeof page - 1 - at)) > 0;) at += (size_t)n;
  page[at] = '\0';
  close(ends[0]);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

static int count(const char *word) {
  int n = 0;
  for (const char *at = page; (at = strstr(at, word)); at++) n++;
  return n;
}

static void say_many(void) {
  for (int i = 0; i < LINES; i++) log_say(LOG_INFO, "a line before the end");
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static void what_waits_is_written_at_exit(void **state) {
  (void)state;
  assert_int_equal(run(say_many, 2), 0);
  assert_int_equal(count("a line before the end\n"), LINES);
}

static void fail_a_check(void) {
  say_many();
  check(LINES == 0);
}

static void a_failed_check_has_its_last_word(void **state) {
  (void)state;
  int status = run(fail_a_check, 2);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_int_equal(count("a line before the end\n"), LINES);
  const char *word = strstr(page, "this must hold and does not: LINES == 0");
  assert_non_null(word);
  assert_null(strstr(word, "a line before the end"));
}

static void be_killed(void) {
  say_many();
  raise(SIGSEGV);
}

static void a_fatal_signal_lets_what_waits_out(void **state) {
  (void)state;
  int status = run(be_killed, 2);
  assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0); /* a sanitizer exits */
  assert_int_equal(count("a line before the end\n"), LINES);
}

/* ---- who writes how ----------------------------------------------------------------------------
 */

static void write_to_streams(void) {
  fprintf(stderr, "on standard error %d\n", 1);
  fputs("on standard output\n", stdout);
}

static void the_streams_of_c_are_led(void **state) {
  (void)state;
  assert_int_equal(run(write_to_streams, 2), 0);
  assert_string_equal(page, "on standard error 1\n");
  assert_int_equal(run(write_to_streams, 1), 0);
  assert_string_equal(page, "on standard output\n");
}

static void log_and_print_in_turns(void) {
  for (int i = 0; i < 50; i++) {
    log_say(LOG_INFO, "by the log");
    fputs("by C\n", stderr);
  }
}

static void the_order_is_kept(void **state) {
  (void)state;
  assert_int_equal(run(log_and_print_in_turns, 2), 0);
  char *rest = page, *line;
  for (int i = 0; i < 100; i++) {
    line = strsep(&rest, "\n");
    assert_non_null(strstr(line, i % 2 ? "by C" : "by the log"));
  }
}

/* What standard output lost is counted, and told in the log, not in what somebody may parse. */
static void lose_output(void) {
  signal(SIGPIPE, SIG_IGN);
  int ends[2];
  if (pipe(ends) != 0) _exit(98);
  dup2(ends[1], 1);
  close(ends[0]);
  close(ends[1]);
  fputs("nobody\nreads\n", stdout);
  fflush(stdout);
  while (streams_dropped() < 2) usleep(1000);
  int again = open("/dev/null", O_WRONLY);
  dup2(again, 1);
  fputs("this\n", stdout);
}

static void lost_output_is_told_in_the_log(void **state) {
  (void)state;
  assert_int_equal(run(lose_output, 2), 0);
  assert_non_null(
      strstr(page, "warn  lines were dropped: standard output did not take them lines=2\n"));
}

/* ---- standard streams that are closed ----------------------------------------------------------
 */

static void closed_streams_become_dev_null(void **state) {
  (void)state;
  for (int which = 0; which < 8; which++) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
      for (int fd = 0; fd < 3; fd++)
        if (which & 1 << fd) close(fd);
      streams_secure();
      for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0) _exit(1);
      int next = dup(0);
      if (next < 3) _exit(2);
      for (int fd = 0; fd < 3; fd++) {
        char link[32], path[64] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof path - 1) < 0) _exit(3);
        if ((which & 1 << fd) && strcmp(path, "/dev/null") != 0) _exit(4);
      }
      _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_waits_is_written_at_exit),
      cmocka_unit_test(a_failed_check_has_its_last_word),
      cmocka_unit_test(a_fatal_signal_lets_what_waits_out),
      cmocka_unit_test(the_streams_of_c_are_led),
      cmocka_unit_test(the_order_is_kept),
      cmocka_unit_test(lost_output_is_told_in_the_log),
      cmocka_unit_test(closed_streams_become_dev_null),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
