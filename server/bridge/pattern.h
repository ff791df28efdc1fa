/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PATTERN_H
#define PERIGEE_PATTERN_H

#include "bridge/task.h"

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

/* pattern.c -- Lua's patterns (section 6.4.1 of its manual), matched so that the slice's end
 * reaches them.
 *
 * A pattern may take any number of steps: quadratic with the usual trim, far more with several
 * repetitions. Each step looks at the slice's request. Results and errors are those of Lua's own
 * functions; tests/unit/bridge/test_lstring.c and fuzz_pattern compare them. The C stack is bounded
 * by PATTERN_DEPTH, as in Lua. Worker's thread only. */

enum {
  PATTERN_CAPTURES = 32, /* as LUA_MAXCAPTURES */
  PATTERN_DEPTH = 200,   /* captures and repetitions that are open at once */
};

struct pattern_capture {
  const char *start;
  ptrdiff_t len; /* bytes, or one of: */
};
enum { CAPTURE_OPEN = -1, CAPTURE_POSITION = -2 };

/* One subject and one pattern. Both are borrowed and must stay where they are. */
struct pattern {
  lua_State *L;                    /* who is told of errors; may change between attempts */
  const struct slice_watch *slice; /* of its host */
  const char *subject, *subject_end;
  const char *end;      /* of the pattern */
  const char *searched; /* what `first` is of: where the pattern begins, behind its anchor */
  int first;            /* what a match must begin with, see needs() */
  int depth;            /* levels that are left */
  int n_captures;
  struct pattern_capture captures[PATTERN_CAPTURES];
};

void pattern_init(struct pattern *p, lua_State *L, const char *subject, size_t subject_len,
                  const char *pattern, size_t pattern_len);

/* Matches at s exactly: the end of the match, or NULL. `at` is where the pattern begins, behind its
 * anchor. May raise, and does not return when the slice is over [-0, +0, e]. */
const char *pattern_match(struct pattern *p, const char *s, const char *at);

/* The first match that begins in [s, subject_end]: where it begins, with *end, or NULL. */
const char *pattern_search(struct pattern *p, const char *s, const char *at, const char **end);

/* Bytes of capture i, or CAPTURE_POSITION; capture 0 of a pattern without captures is the match
 * [s, e). Raises for one that is not there or not closed. */
ptrdiff_t pattern_capture(struct pattern *p, int i, const char *s, const char *e,
                          const char **start);

/* Pushes all captures, the whole match when there are none; nothing without captures when s is
 * NULL. Returns how many. */
int pattern_push_captures(struct pattern *p, const char *s, const char *e);
/* Pushes capture i. */
void pattern_push_capture(struct pattern *p, int i, const char *s, const char *e);

#endif
