/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LOG_H
#define PERIGEE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outlet;

/* log.c -- one line per event on standard error, as text for people or JSON for machines.
 *
 *   struct log_line l;
 *   if (log_begin(&l, LOG_WARN, "slow reader cut")) {
 *     log_uint(&l, "queued", bytes);
 *     log_end(&l);
 *   }
 *
 * A line is built on the stack and written or put into the outlet in one piece, so lines of several
 * threads do not mix. Values are escaped: nothing a client sends can forge a line. Any thread. */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVELS };
enum log_format {
  LOG_TEXT,
  LOG_JSON,
  LOG_DEV, /* text with the time of day only, for who sits in front of it */
};

struct log_line {
  size_t len;
  bool is_cut; /* a field did not fit; said at the end of the line */
  char text[8192];
};

/* Call once before threads start. fd stays the caller's. is_coloured is not for LOG_JSON. */
void log_open(int fd, enum log_level level, enum log_format format, bool is_coloured);
/* Lines go there from now on, and nobody waits for who reads them. NULL: no longer. */
void log_lead(struct outlet *outlet);
void log_set_level(enum log_level level);
/* The level of lines about what single clients do: debug, unless set otherwise (for dev). */
void log_set_quiet(enum log_level level);
enum log_level log_quiet(void);
/* Lines of this thread say which worker it is. */
void log_worker(unsigned index);
bool log_is_on(enum log_level level);
/* "error" "warn" "info" "debug" -> the level, or -1. */
int log_level_from_name(const char *name);
const char *log_level_name(enum log_level level);

/* False when the level is off: then add no fields and do not end it. */
bool log_begin(struct log_line *l, enum log_level level, const char *event);
/* A line whatever the level. */
void log_begin_always(struct log_line *l, enum log_level level, const char *event);
void log_str(struct log_line *l, const char *key, const char *value);
void log_bytes(struct log_line *l, const char *key, const char *value, size_t n);
void log_int(struct log_line *l, const char *key, int64_t value);
void log_uint(struct log_line *l, const char *key, uint64_t value);
void log_hex(struct log_line *l, const char *key, uint64_t value);
void log_num(struct log_line *l, const char *key, double value);
void log_bool(struct log_line *l, const char *key, bool value);
/* A block below the line (text) or a string field (JSON): tracebacks, source excerpts. */
void log_block(struct log_line *l, const char *key, const char *value, size_t n);
void log_end(struct log_line *l);
/* For who writes l->text itself: ends the line, returns its length. */
size_t log_finish(struct log_line *l);

/* A line without fields. */
void log_say(enum log_level level, const char *event);

/* At most `burst` lines per second from one place in the code. How many were held back is told by
 * the next line that passes, as suppressed=N, or by log_tell_suppressed. Declare static, one per
 * call site. */
struct log_limit {
  uint32_t burst;
  atomic_uint_fast64_t window; /* second the count belongs to */
  atomic_uint count;           /* lines asked for in that second */
  atomic_uint missed;          /* lines held back since the last one that passed */
  /* for log_tell_suppressed, from the first line that was held back on */
  atomic_bool is_listed;
  enum log_level level;
  const char *event;
  struct log_limit *next;
};
#define LOG_LIMIT(n) ((struct log_limit){.burst = (n)})
/* The event must stay. */
bool log_begin_limited(struct log_line *l, struct log_limit *limit, enum log_level level,
                       const char *event);
/* The same for lines of a kind that is told by a text, such as an error's event, method and place;
 * `missed` is what suppressed= should say, 0: nothing. */
bool log_is_due(enum log_level level, const char *kind, size_t n, uint32_t burst, unsigned *missed);
/* A line "more like it" for each kind of which lines were held back, in seconds that are over; with
 * is_all in this one, too. */
void log_tell_suppressed(bool is_all);
/* Lines held back so far. */
uint64_t log_suppressed(void);

#endif
