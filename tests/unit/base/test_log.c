/* SPDX-License-Identifier: MIT */
/* test_log.c -- a log line is one line, whole or marked as cut, whatever goes into it. */
#include "../unit.h"

#include "base/log.h"

#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

static int fd;
static char page[256 * 1024];

static int open_memory(void **state) {
  (void)state;
  fd = memfd_create("log", 0);
  return fd < 0 || fcntl(fd, F_SETFL, O_APPEND) != 0; /* as a log file is opened */
}

static int close_memory(void **state) {
  (void)state;
  log_open(2, LOG_INFO, LOG_TEXT, false);
  return close(fd);
}

static void start(enum log_format format) {
  assert_int_equal(ftruncate(fd, 0), 0);
  log_open(fd, LOG_DEBUG, format, false);
}

/* All that was logged since start. */
static const char *logged(void) {
  ssize_t n = pread(fd, page, sizeof page - 1, 0);
  assert_true(n >= 0);
  page[n] = '\0';
  return page;
}

/* Skips a time of the form dddd-dd-ddTdd:dd:dd.dddZ. */
static const char *skip_time(const char *s) {
  for (const char *like = "dddd-dd-ddTdd:dd:dd.dddZ"; *like; like++, s++)
    assert_true(*like == 'd' ? isdigit((unsigned char)*s) : *s == *like);
  return s;
}

/* What a text line says behind its time: "info  event key=value". */
static const char *said(void) {
  const char *s = skip_time(logged());
  assert_int_equal(*s, ' ');
  return s + 1;
}

/* The same for a JSON line, from `"level"` on. */
static const char *said_as_json(void) {
  static const char before[] = "{\"time\":\"";
  assert_int_equal(strncmp(logged(), before, sizeof before - 1), 0);
  const char *s = skip_time(page + sizeof before - 1);
  assert_int_equal(strncmp(s, "\",", 2), 0);
  return s + 2;
}

/* ---- levels ---------------------------------------------------------------------------------- */

static void levels_have_names(void **state) {
  (void)state;
  assert_int_equal(log_level_from_name("error"), LOG_ERROR);
  assert_int_equal(log_level_from_name("warn"), LOG_WARN);
  assert_int_equal(log_level_from_name("info"), LOG_INFO);
  assert_int_equal(log_level_from_name("debug"), LOG_DEBUG);
  static const char *const none[] = {"", "Error", "warning", "err", "info ", "4"};
  for (size_t i = 0; i < COUNT(none); i++) assert_int_equal(log_level_from_name(none[i]), -1);
}

static void a_level_that_is_off_writes_nothing(void **state) {
  (void)state;
  struct log_line l;
  for (int level = LOG_ERROR; level < LOG_LEVELS; level++) {
    start(LOG_TEXT);
    log_set_level((enum log_level)level);
    for (int k = LOG_ERROR; k < LOG_LEVELS; k++) {
      assert_int_equal(log_is_on((enum log_level)k), k <= level);
      bool is_begun = log_begin(&l, (enum log_level)k, "x");
      assert_int_equal(is_begun, k <= level);
      if (is_begun) log_end(&l);
      log_say((enum log_level)k, "y");
    }
    int lines = 0;
    for (const char *s = logged(); *s; s++) lines += *s == '\n';
    assert_int_equal(lines, 2 * (level + 1));
  }
}

static void opening_sets_the_level(void **state) {
  (void)state;
  for (int level = LOG_ERROR; level < LOG_LEVELS; level++) {
    log_open(fd, (enum log_level)level, LOG_TEXT, false);
    for (int k = LOG_ERROR; k < LOG_LEVELS; k++)
      assert_int_equal(log_is_on((enum log_level)k), k <= level);
  }
}

static void each_level_says_its_name(void **state) {
  (void)state;
  static const char *const text[] = {"error e\n", "warn  e\n", "info  e\n", "debug e\n"};
  static const char *const json[] = {"error", "warn", "info", "debug"};
  for (int level = 0; level < LOG_LEVELS; level++) {
    start(LOG_TEXT);
    log_say((enum log_level)level, "e");
    assert_string_equal(said(), text[level]);
    start(LOG_JSON);
    log_say((enum log_level)level, "e");
    char expected[64];
    snprintf(expected, sizeof expected, "\"level\":\"%s\",\"event\":\"e\"}\n", json[level]);
    assert_string_equal(said_as_json(), expected);
  }
}

static void the_time_is_the_time(void **state) {
  (void)state;
  struct tm tm = {0};
  struct timespec after;
  time_t before = time(NULL);
  start(LOG_TEXT);
  log_say(LOG_INFO, "e");
  assert_non_null(strptime(logged(), "%Y-%m-%dT%H:%M:%S", &tm));
  time_t told = timegm(&tm);
  clock_gettime(CLOCK_REALTIME, &after); /* time() may be a few milliseconds behind it */
  assert_true(told >= before && told <= after.tv_sec);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static void all_fields(struct log_line *l) {
  log_str(l, "str", "word");
  log_bytes(l, "bytes", "two words", 3);
  log_int(l, "int", INT64_MIN);
  log_uint(l, "uint", UINT64_MAX);
  log_hex(l, "hex", 0xBEEF);
  log_num(l, "num", 0.5);
  log_num(l, "big", -1e300);
  log_num(l, "nan", NAN);
  log_num(l, "inf", INFINITY);
  log_num(l, "ninf", -INFINITY);
  log_bool(l, "yes", true);
  log_bool(l, "no", false);
}

static void every_kind_of_field_has_its_form(void **state) {
  (void)state;
  struct log_line l;
  start(LOG_TEXT);
  assert_true(log_begin(&l, LOG_INFO, "all kinds"));
  all_fields(&l);
  log_end(&l);
  assert_string_equal(said(), "info  all kinds str=word bytes=two int=-9223372036854775808"
                              " uint=18446744073709551615 hex=beef num=0.5 big=-1e+300 nan=nan"
                              " inf=inf ninf=-inf yes=true no=false\n");
  start(LOG_JSON);
  assert_true(log_begin(&l, LOG_INFO, "all kinds"));
  all_fields(&l);
  log_end(&l);
  assert_string_equal(
      said_as_json(),
      "\"level\":\"info\",\"event\":\"all kinds\",\"str\":\"word\",\"bytes\":\"two\","
      "\"int\":-9223372036854775808,\"uint\":18446744073709551615,\"hex\":\"beef\","
      "\"num\":0.5,\"big\":-1e+300,\"nan\":\"nan\",\"inf\":\"inf\",\"ninf\":\"-inf\","
      "\"yes\":true,\"no\":false}\n");
}

static const struct {
  const char *value;
  size_t n;
  const char *text, *json; /* what follows "v=" and "\"v\":" */
} escapes[] = {
    {"word", 4, "word", "\"word\""},
    {"", 0, "\"\"", "\"\""},
    {"two words", 9, "\"two words\"", "\"two words\""},
    {"a\nb", 3, "\"a\\nb\"", "\"a\\nb\""},
    {"a\rb", 3, "\"a\\rb\"", "\"a\\rb\""},
    {"a\tb", 3, "\"a\\tb\"", "\"a\\tb\""},
    {"a\"b", 3, "\"a\\\"b\"", "\"a\\\"b\""},
    {"a\\b", 3, "\"a\\\\b\"", "\"a\\\\b\""},
    {"a=b", 3, "\"a=b\"", "\"a=b\""},
    {"a\0b", 3, "\"a\\u0000b\"", "\"a\\u0000b\""},
    {"\x1b[2J", 4, "\"\\u001b[2J\"", "\"\\u001b[2J\""},
    {"\x7f", 1, "\"\\u007f\"", "\"\\u007f\""},
    {"\x01", 1, "\"\\u0001\"", "\"\\u0001\""},
    {"\xff\xc3", 2, "\"\\ufffd\\ufffd\"", "\"\\ufffd\\ufffd\""},
    {"\xc2\x9b", 2, "\"\\u009b\"", "\"\\u009b\""},
    {"\xe2\x80\xae", 3, "\"\\u202e\"", "\"\\u202e\""},
    {"\xc3\xa9", 2, "\xc3\xa9", "\"\xc3\xa9\""},
    {"x\ninfo  forged a=1", 18, "\"x\\ninfo  forged a=1\"", "\"x\\ninfo  forged a=1\""},
};

static void values_are_escaped(void **state) {
  (void)state;
  struct log_line l;
  char expected[128];
  for (size_t i = 0; i < COUNT(escapes); i++) {
    start(LOG_TEXT);
    assert_true(log_begin(&l, LOG_INFO, "e"));
    log_bytes(&l, "v", escapes[i].value, escapes[i].n);
    log_end(&l);
    snprintf(expected, sizeof expected, "info  e v=%s\n", escapes[i].text);
    assert_string_equal(said(), expected);
    start(LOG_JSON);
    assert_true(log_begin(&l, LOG_INFO, "e"));
    log_bytes(&l, "v", escapes[i].value, escapes[i].n);
    log_end(&l);
    snprintf(expected, sizeof expected, "\"level\":\"info\",\"event\":\"e\",\"v\":%s}\n",
             escapes[i].json);
    assert_string_equal(said_as_json(), expected);
  }
}

static void keys_and_events_cannot_break_a_line_either(void **state) {
  (void)state;
  struct log_line l;
  start(LOG_TEXT);
  assert_true(log_begin(&l, LOG_INFO, "a\nb\rc\x1b[2Jd\te f\x7fg"));
  log_int(&l, "k\ney", 1);
  log_end(&l);
  assert_string_equal(said(), "info  a b c\\u001b[2Jd e f\\u007fg k\\ney=1\n");
  start(LOG_JSON);
  assert_true(log_begin(&l, LOG_INFO, "a\n\"b\x1b"));
  log_int(&l, "k\"ey", 1);
  log_end(&l);
  assert_string_equal(said_as_json(),
                      "\"level\":\"info\",\"event\":\"a\\n\\\"b\\u001b\",\"k\\\"ey\":1}\n");
}

static void a_block_is_indented_in_text_and_a_field_in_json(void **state) {
  (void)state;
  struct log_line l;
  static const char block[] = "first\n\tsecond\n\ninfo  forged\x1b\r\nlast\n";
  start(LOG_TEXT);
  assert_true(log_begin(&l, LOG_ERROR, "e"));
  log_block(&l, "trace", block, sizeof block - 1);
  log_end(&l);
  assert_string_equal(said(), "error e\n    first\n      second\n    \n    info  forged\\u001b  \n"
                              "    last\n");
  start(LOG_JSON);
  assert_true(log_begin(&l, LOG_ERROR, "e"));
  log_block(&l, "trace", block, sizeof block - 1);
  log_end(&l);
  assert_string_equal(said_as_json(),
                      "\"level\":\"error\",\"event\":\"e\",\"trace\":\"first\\n\\tsecond\\n\\n"
                      "info  forged\\u001b\\r\\nlast\\n\"}\n");
  start(LOG_TEXT);
  assert_true(log_begin(&l, LOG_ERROR, "e"));
  log_block(&l, "trace", "", 0);
  log_end(&l);
  assert_string_equal(said(), "error e\n");
}

static void colours_are_for_text_only(void **state) {
  (void)state;
  static const char *const colours[LOG_LEVELS] = {"\033[31m", "\033[33m", "\033[32m", "\033[2m"};
  for (int level = 0; level < LOG_LEVELS; level++) {
    start(LOG_TEXT);
    log_open(fd, LOG_DEBUG, LOG_TEXT, true);
    log_say((enum log_level)level, "e");
    assert_non_null(strstr(logged(), colours[level]));
    assert_non_null(strstr(logged(), "\033[0me\n")); /* the event itself in the plain colour */
    start(LOG_JSON);
    log_open(fd, LOG_DEBUG, LOG_JSON, true);
    log_say((enum log_level)level, "e");
    assert_null(strchr(logged(), '\033'));
  }
}

/* ---- lines that do not fit ------------------------------------------------------------------- */

/* One line, quotes closed, escapes whole, and the end says that it was cut. */
static void assert_is_cut_line(enum log_format format) {
  const char *s = logged();
  size_t n = strlen(s);
  assert_true(n > 0 && n <= sizeof((struct log_line *)0)->text);
  assert_ptr_equal(strchr(s, '\n'), s + n - 1);
  const char *end = format == LOG_JSON ? ",\"cut\":true}\n" : " ...(cut)\n";
  assert_true(n > strlen(end));
  assert_string_equal(s + n - strlen(end), end);
  bool is_inside = false;
  for (const char *p = s; *p; p++) {
    if (*p == '\\') {
      assert_true(is_inside);
      p++;
      assert_non_null(strchr("\"\\nrtu", *p));
      if (*p == 'u')
        for (int i = 0; i < 4; i++) assert_true(isxdigit((unsigned char)*++p));
    } else if (*p == '"') {
      is_inside = !is_inside;
    }
  }
  assert_false(is_inside);
}

/* Every length around the end of the line, so that each thing that can come last comes last. The
 * fields behind the long one must not run over the end of the line's memory. */
static void a_line_that_is_full_is_cut_cleanly(void **state) {
  (void)state;
  static const struct {
    const char *unit; /* what the long value is made of */
    size_t unit_len;
  } kinds[] = {{"x", 1}, {"x ", 2}, {"\"", 1}, {"\x01", 1}, {"\n", 1}};
  static char value[9000];
  struct log_line *l = malloc(sizeof *l); /* on the heap its end is guarded */
  assert_non_null(l);
  for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
    for (size_t k = 0; k < COUNT(kinds); k++) {
      size_t bytes = strcmp(kinds[k].unit, "\x01") == 0 ? 6
                     : kinds[k].unit_len == 2           ? 1
                     : *kinds[k].unit == 'x'            ? 1
                                                        : 2;
      for (size_t i = 0; i < sizeof value; i++) value[i] = kinds[k].unit[i % kinds[k].unit_len];
      for (size_t out = 8040; out <= 8200; out++) {
        size_t n = out / bytes;
        start((enum log_format)format);
        assert_true(log_begin(l, LOG_INFO, "e"));
        log_bytes(l, "v", value, n);
        for (int i = 0; i < 40; i++) {
          log_int(l, "n", 123456789);
          log_str(l, "s", "short");
          log_str(l, "q", "needs quotes");
        }
        log_block(l, "b", "line\nline", 9);
        log_end(l);
        assert_is_cut_line((enum log_format)format);
      }
    }
  }
  free(l);
}

static void a_number_that_does_not_fit_is_left_out(void **state) {
  (void)state;
  struct log_line l;
  char text[sizeof l.text];
  memset(text, 'x', sizeof text);
  for (size_t n = 8050; n < 8140; n++) {
    start(LOG_TEXT);
    assert_true(log_begin(&l, LOG_INFO, "e"));
    log_bytes(&l, "v", text, n);
    log_int(&l, "number", 1234567890);
    log_end(&l);
    const char *number = strstr(logged(), "number");
    if (number) assert_string_equal(number, "number=1234567890\n");
  }
}

static void a_string_that_does_not_fit_is_shortened(void **state) {
  (void)state;
  struct log_line l;
  static char text[20000];
  volatile size_t n = sizeof text; /* volatile: or the compiler warns */
  memset(text, 'x', sizeof text);
  for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
    start((enum log_format)format);
    assert_true(log_begin(&l, LOG_INFO, "e"));
    log_bytes(&l, "v", text, n);
    log_end(&l);
    assert_is_cut_line((enum log_format)format);
    assert_true(strlen(logged()) > 8000);
  }
}

static void a_log_that_cannot_be_written_is_no_error(void **state) {
  (void)state;
  log_open(-1, LOG_DEBUG, LOG_TEXT, false);
  log_say(LOG_ERROR, "nobody hears this");
  int full = open("/dev/full", O_WRONLY);
  assert_true(full >= 0);
  log_open(full, LOG_DEBUG, LOG_TEXT, false);
  log_say(LOG_ERROR, "nor this");
  close(full);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *write_lines(void *arg) {
  for (int i = 0; i < 200; i++) {
    struct log_line l;
    if (!log_begin(&l, LOG_INFO, "thread")) continue;
    log_str(&l, "who", arg);
    log_str(&l, "again", arg);
    log_end(&l);
  }
  return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
  (void)state;
  static char *const names[] = {"aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"};
  pthread_t threads[COUNT(names)];
  start(LOG_TEXT);
  for (size_t i = 0; i < COUNT(names); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
  for (size_t i = 0; i < COUNT(names); i++) pthread_join(threads[i], NULL);
  char *s = (char *)logged(), *line, *rest = s, expected[80];
  int n = 0;
  while ((line = strsep(&rest, "\n")) && *line) {
    char *who = strstr(line, "who=");
    assert_non_null(who);
    snprintf(expected, sizeof expected, "who=%.12s again=%.12s", who + 4, who + 4);
    assert_string_equal(who, expected);
    n++;
  }
  assert_int_equal(n, 200 * (int)COUNT(names));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(levels_have_names),
      cmocka_unit_test(a_level_that_is_off_writes_nothing),
      cmocka_unit_test(opening_sets_the_level),
      cmocka_unit_test(each_level_says_its_name),
      cmocka_unit_test(the_time_is_the_time),
      cmocka_unit_test(every_kind_of_field_has_its_form),
      cmocka_unit_test(values_are_escaped),
      cmocka_unit_test(keys_and_events_cannot_break_a_line_either),
      cmocka_unit_test(a_block_is_indented_in_text_and_a_field_in_json),
      cmocka_unit_test(colours_are_for_text_only),
      cmocka_unit_test(a_line_that_is_full_is_cut_cleanly),
      cmocka_unit_test(a_number_that_does_not_fit_is_left_out),
      cmocka_unit_test(a_string_that_does_not_fit_is_shortened),
      cmocka_unit_test(a_log_that_cannot_be_written_is_no_error),
      cmocka_unit_test(lines_of_several_threads_do_not_mix),
  };
  return cmocka_run_group_tests(tests, open_memory, close_memory);
}
