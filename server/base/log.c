/* SPDX-License-Identifier: MIT */
/* log.c -- one line per event on standard error, as text for people or JSON for machines. */
#include "base/log.h"

#include "base/outlet.h"
#include "base/printable.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
  int fd;
  struct outlet *outlet; /* or NULL */
  atomic_int level;
  enum log_level quiet;
  enum log_format format;
  bool is_coloured;
} out = {.fd = 2, .level = LOG_INFO, .quiet = LOG_DEBUG};

static _Thread_local unsigned worker; /* index + 1; 0: none */

static const char *const names[LOG_LEVELS] = {"error", "warn", "info", "debug"};

void log_open(int fd, enum log_level level, enum log_format format, bool is_coloured) {
  out.fd = fd;
  atomic_store(&out.level, (int)level);
  out.format = format;
  out.is_coloured = is_coloured;
}

void log_lead(struct outlet *outlet) {
  out.outlet = outlet;
}

void log_set_level(enum log_level level) {
  atomic_store(&out.level, (int)level);
}

void log_set_quiet(enum log_level level) {
  out.quiet = level;
}

enum log_level log_quiet(void) {
  return out.quiet;
}

void log_worker(unsigned index) {
  worker = index + 1;
}

bool log_is_on(enum log_level level) {
  return (int)level <= atomic_load_explicit(&out.level, memory_order_relaxed);
}

const char *log_level_name(enum log_level level) {
  return names[level];
}

int log_level_from_name(const char *name) {
  for (int i = 0; i < LOG_LEVELS; i++)
    if (strcmp(name, names[i]) == 0) return i;
  return -1;
}

/* The last bytes of a line are kept free for closing quotes and for what log_end adds. */
enum { TAIL = 32 };

/* Add, never subtract: a closing quote may have taken the first byte of the tail. */
static bool has_room(const struct log_line *l, size_t n) {
  return !l->is_cut && l->len + n <= sizeof l->text - TAIL;
}

/* All of it or, when the line is full, nothing: an escape or a key is never cut in two. */
static void put(struct log_line *l, const char *s, size_t n) {
  if (!has_room(l, n)) {
    l->is_cut = true;
    return;
  }
  memcpy(l->text + l->len, s, n);
  l->len += n;
}

static void puts_(struct log_line *l, const char *s) {
  put(l, s, strlen(s));
}

/* JSON string escapes serve both formats: one line stays one line and quotes stay balanced. */
static void put_escaped(struct log_line *l, const char *s, size_t n) {
  size_t used;
  for (size_t i = 0; i < n; i += used) {
    char shown[PRINTABLE_MAX + 1];
    size_t k = printable_escape(s + i, n - i, shown, &used);
    switch (s[i]) {
    case '"': put(l, "\\\"", 2); break;
    case '\\': put(l, "\\\\", 2); break;
    case '\n': put(l, "\\n", 2); break;
    case '\r': put(l, "\\r", 2); break;
    case '\t': put(l, "\\t", 2); break;
    default: put(l, k ? shown : s + i, k ? k : used);
    }
  }
}

/* As people read it; what stands for the white space of a text that is not to have any. */
static void put_plain(struct log_line *l, const char *s, size_t n, const char *space) {
  size_t used;
  for (size_t i = 0; i < n; i += used) {
    char shown[PRINTABLE_MAX + 1];
    size_t k = printable_escape(s + i, n - i, shown, &used);
    bool is_space = s[i] == '\t' || s[i] == '\n' || s[i] == '\r';
    if (is_space)
      puts_(l, space);
    else
      put(l, k ? shown : s + i, k ? k : used);
  }
}

void log_begin_always(struct log_line *l, enum log_level level, const char *event) {
  struct timespec now;
  struct tm tm;
  char stamp[64];
  clock_gettime(CLOCK_REALTIME, &now);
  bool is_dev = out.format == LOG_DEV;
  if (is_dev)
    localtime_r(&now.tv_sec, &tm);
  else
    gmtime_r(&now.tv_sec, &tm);
  size_t n = strftime(stamp, sizeof stamp, is_dev ? "%H:%M:%S" : "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf(stamp + n, sizeof stamp - n, is_dev ? ".%03ld" : ".%03ldZ", now.tv_nsec / 1000000);
  l->len = 0;
  l->is_cut = false;
  if (out.format == LOG_JSON) {
    puts_(l, "{\"time\":\"");
    puts_(l, stamp);
    puts_(l, "\",\"level\":\"");
    puts_(l, names[level]);
    puts_(l, "\",\"event\":\"");
    put_escaped(l, event, strlen(event));
    puts_(l, "\"");
  } else {
    static const char *const colours[LOG_LEVELS] = {"\033[31m", "\033[33m", "\033[32m", "\033[2m"};
    static const char *const padded[LOG_LEVELS] = {"error ", "warn  ", "info  ", "debug "};
    if (out.is_coloured) puts_(l, "\033[2m");
    puts_(l, stamp);
    if (out.is_coloured) puts_(l, "\033[0m");
    puts_(l, " ");
    if (out.is_coloured) puts_(l, colours[level]);
    puts_(l, padded[level]);
    if (out.is_coloured) puts_(l, "\033[0m");
    put_plain(l, event, strlen(event), " ");
  }
  if (worker) log_uint(l, "worker", worker - 1);
}

bool log_begin(struct log_line *l, enum log_level level, const char *event) {
  if (!log_is_on(level)) return false;
  log_begin_always(l, level, event);
  return true;
}

/* A field that does not fit leaves no half of itself behind; only strings are shortened. */
static void put_key(struct log_line *l, const char *key) {
  if (out.format == LOG_JSON) {
    puts_(l, ",\"");
    put_escaped(l, key, strlen(key));
    puts_(l, "\":");
  } else {
    puts_(l, " ");
    put_escaped(l, key, strlen(key));
    puts_(l, "=");
  }
}

/* Text format leaves plain words unquoted, as they are easier to read and to grep. */
static bool is_plain(const char *s, size_t n) {
  size_t used;
  for (size_t i = 0; i < n; i += used) {
    char shown[PRINTABLE_MAX + 1];
    if (s[i] == ' ' || s[i] == '"' || s[i] == '=' || s[i] == '\\') return false;
    if (printable_escape(s + i, n - i, shown, &used)) return false;
  }
  return n > 0;
}

void log_bytes(struct log_line *l, const char *key, const char *value, size_t n) {
  size_t mark = l->len;
  put_key(l, key);
  if (out.format != LOG_JSON && has_room(l, n) && is_plain(value, n)) {
    put(l, value, n);
    return;
  }
  put(l, "\"", 1);
  if (l->is_cut) {
    l->len = mark;
    return;
  }
  put_escaped(l, value, n);
  l->text[l->len++] = '"'; /* fits: TAIL */
}

void log_str(struct log_line *l, const char *key, const char *value) {
  log_bytes(l, key, value, strlen(value));
}

static void put_number(struct log_line *l, const char *key, const char *digits) {
  size_t mark = l->len;
  put_key(l, key);
  puts_(l, digits);
  if (l->is_cut) l->len = mark;
}

void log_int(struct log_line *l, const char *key, int64_t value) {
  char digits[32];
  snprintf(digits, sizeof digits, "%" PRId64, value);
  put_number(l, key, digits);
}

void log_uint(struct log_line *l, const char *key, uint64_t value) {
  char digits[32];
  snprintf(digits, sizeof digits, "%" PRIu64, value);
  put_number(l, key, digits);
}

void log_hex(struct log_line *l, const char *key, uint64_t value) {
  char digits[32];
  snprintf(digits, sizeof digits, "%" PRIx64, value);
  log_str(l, key, digits);
}

void log_num(struct log_line *l, const char *key, double value) {
  char digits[40];
  if (!isfinite(value)) { /* JSON has no word for it */
    log_str(l, key, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    return;
  }
  snprintf(digits, sizeof digits, "%.6g", value);
  put_number(l, key, digits);
}

void log_bool(struct log_line *l, const char *key, bool value) {
  put_number(l, key, value ? "true" : "false");
}

void log_block(struct log_line *l, const char *key, const char *value, size_t n) {
  if (out.format == LOG_JSON) {
    log_bytes(l, key, value, n);
    return;
  }
  /* indented, so that a block cannot look like lines of its own */
  for (size_t i = 0; i < n;) {
    const char *nl = memchr(value + i, '\n', n - i);
    size_t line = nl ? (size_t)(nl - (value + i)) : n - i;
    puts_(l, "\n    ");
    put_plain(l, value + i, line, "  ");
    i += line + 1;
  }
}

size_t log_finish(struct log_line *l) {
  /* the tail is reserved, so these always fit */
  if (out.format == LOG_JSON) {
    if (l->is_cut) {
      memcpy(l->text + l->len, ",\"cut\":true", 11);
      l->len += 11;
    }
    l->text[l->len++] = '}';
  } else if (l->is_cut) {
    memcpy(l->text + l->len, " ...(cut)", 9);
    l->len += 9;
  }
  l->text[l->len++] = '\n';
  return l->len;
}

void log_end(struct log_line *l) {
  size_t n = log_finish(l);
  if (out.outlet)
    outlet_put(out.outlet, l->text, n);
  else
    outlet_write(out.fd, l->text, n); /* if that fails, there is nobody to tell */
}

void log_say(enum log_level level, const char *event) {
  struct log_line l;
  if (log_begin(&l, level, event)) log_end(&l);
}
