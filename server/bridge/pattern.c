/* SPDX-License-Identifier: MIT */
/* pattern.c -- Lua's patterns, matched so that the end of a slice reaches them. */
#include "bridge/pattern.h"

#include "bridge/host.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

static inline unsigned byte_at(const char *s) {
  return (unsigned char)*s;
}

/* Something took a step. */
static inline void step(struct pattern *p) {
  if (slice_is_due(p->slice)) task_slice_due(p->L);
}

void pattern_init(struct pattern *p, lua_State *L, const char *subject, size_t subject_len,
                  const char *pattern, size_t pattern_len) {
  p->L = L;
  p->slice = &host_of(L)->slice;
  p->subject = subject;
  p->subject_end = subject + subject_len;
  p->end = pattern + pattern_len;
  p->searched = NULL;
  p->n_captures = 0;
  p->depth = PATTERN_DEPTH;
}

/* ---- single characters ----------------------------------------------------------------------- */

/* %a and the like; what is no class stands for itself. */
static bool is_of_class(unsigned c, unsigned class) {
  bool is_in;
  switch (class | 0x20) {
  case 'a': is_in = isalpha((int)c); break;
  case 'c': is_in = iscntrl((int)c); break;
  case 'd': is_in = isdigit((int)c); break;
  case 'g': is_in = isgraph((int)c); break;
  case 'l': is_in = islower((int)c); break;
  case 'p': is_in = ispunct((int)c); break;
  case 's': is_in = isspace((int)c); break;
  case 'u': is_in = isupper((int)c); break;
  case 'w': is_in = isalnum((int)c); break;
  case 'x': is_in = isxdigit((int)c); break;
  case 'z': is_in = c == 0; break; /* of Lua 5.1, and still there */
  default: return class == c;
  }
  return (class & 0x20) ? is_in : !is_in;
}

/* A set from its '[' to its ']'. */
static bool is_in_set(unsigned c, const char *at, const char *close) {
  bool is_positive = at[1] != '^';
  if (!is_positive) at++;
  for (at++; at < close; at++) {
    if (*at == '%') {
      at++;
      if (is_of_class(c, byte_at(at))) return is_positive;
    } else if (at[1] == '-' && at + 2 < close) {
      if (byte_at(at) <= c && c <= byte_at(at + 2)) return is_positive;
      at += 2;
    } else if (byte_at(at) == c) {
      return is_positive;
    }
  }
  return !is_positive;
}

/* Behind a set that begins at `at`. The first character in it is never its end. */
static const char *end_of_set(struct pattern *p, const char *at) {
  at++;
  if (*at == '^') at++;
  do {
    if (at == p->end) luaL_error(p->L, "malformed pattern (missing ']')");
    if (*at++ == '%' && at < p->end) at++;
  } while (*at != ']');
  return at + 1;
}

/* Behind the single character class that begins at `at`. */
static inline const char *end_of_single(struct pattern *p, const char *at) {
  if (*at == '[') return end_of_set(p, at);
  if (*at != '%') return at + 1;
  if (at + 1 == p->end) luaL_error(p->L, "malformed pattern (ends with '%%')");
  return at + 2;
}

/* Is the character at s one of the class in [at, end)? */
static inline bool is_single(const struct pattern *p, const char *s, const char *at,
                             const char *end) {
  if (s >= p->subject_end) return false;
  switch (*at) {
  case '.': return true;
  case '%': return is_of_class(byte_at(s), byte_at(at + 1));
  case '[': return is_in_set(byte_at(s), at, end - 1);
  default: return *at == *s;
  }
}

/* ---- items of more than one character ---------------------------------------------------------
 */

static const char *match(struct pattern *p, const char *s, const char *at);

/* What the rest of a pattern, from `at` on, must begin with. */
enum { NEEDS_NOTHING = -1, NEEDS_END = 256 /* the subject's; else a byte */ };

/* A look at one byte spares most attempts. Whatever is wrong with a pattern shows behind that byte;
 * and where no level is left, the attempt is what says so. */
static int needs(const struct pattern *p, const char *at) {
  if (at == p->end || p->depth == 0) return NEEDS_NOTHING;
  if (*at == '$' && at + 1 == p->end) return NEEDS_END;
  switch (*at) {
  case '$':
  case '.':
  case '(':
  case ')':
  case '[':
  case '%': return NEEDS_NOTHING;
  default: break;
  }
  if (at[1] == '*' || at[1] == '?' || at[1] == '-') return NEEDS_NOTHING; /* zero at the end */
  return (int)byte_at(at);
}

static inline bool may_match(const struct pattern *p, const char *s, int need) {
  if (need == NEEDS_NOTHING) return true;
  return need == (s == p->subject_end ? NEEDS_END : (int)byte_at(s));
}

/* As many as there are, then fewer. */
static const char *match_longest(struct pattern *p, const char *s, const char *at,
                                 const char *end) {
  int need = needs(p, end + 1);
  const char *most = s;
  if (*at == '.')
    most = p->subject_end;
  else
    for (; is_single(p, most, at, end); most++) step(p);
  for (;; most--) {
    const char *matched = may_match(p, most, need) ? match(p, most, end + 1) : NULL;
    if (matched || most == s || need == NEEDS_END) return matched;
  }
}

/* As few as will do. */
static const char *match_shortest(struct pattern *p, const char *s, const char *at,
                                  const char *end) {
  int need = needs(p, end + 1);
  for (;; s++) {
    const char *matched = may_match(p, s, need) ? match(p, s, end + 1) : NULL;
    if (matched) return matched;
    if (!is_single(p, s, at, end)) return NULL;
    step(p);
  }
}

/* "()" or "(": s is where it begins, rest what follows in the pattern. */
static const char *match_open(struct pattern *p, const char *s, const char *rest, int kind) {
  if (p->n_captures >= PATTERN_CAPTURES) luaL_error(p->L, "too many captures");
  p->captures[p->n_captures++] = (struct pattern_capture){s, kind};
  const char *matched = match(p, s, rest);
  if (!matched) p->n_captures--;
  return matched;
}

/* ")": closes the innermost capture that is open. */
static const char *match_close(struct pattern *p, const char *s, const char *rest) {
  int i = p->n_captures - 1;
  while (i >= 0 && p->captures[i].len != CAPTURE_OPEN) i--;
  if (i < 0) luaL_error(p->L, "invalid pattern capture");
  p->captures[i].len = s - p->captures[i].start;
  const char *matched = match(p, s, rest);
  if (!matched) p->captures[i].len = CAPTURE_OPEN;
  return matched;
}

/* %bxy: to the y that belongs to the x at s. */
static const char *match_balance(struct pattern *p, const char *s, const char *at) {
  if (at + 2 >= p->end - 1) luaL_error(p->L, "malformed pattern (missing arguments to '%%b')");
  char open = at[2], close = at[3];
  size_t level = 1;
  if (s >= p->subject_end || *s != open) return NULL;
  while (++s < p->subject_end) {
    step(p);
    if (*s == close) {
      if (--level == 0) return s + 1;
    } else if (*s == open) {
      level++;
    }
  }
  return NULL;
}

/* %f[set]: between a character outside the set and one in it; the text lies between zeros. *rest is
 * set behind the set. */
static bool is_frontier(struct pattern *p, const char *s, const char *at, const char **rest) {
  at += 2;
  if (*at != '[') luaL_error(p->L, "missing '[' after '%%f' in pattern");
  *rest = end_of_set(p, at);
  unsigned before = s == p->subject ? 0 : byte_at(s - 1);
  unsigned after = s == p->subject_end ? 0 : byte_at(s);
  return !is_in_set(before, at, *rest - 1) && is_in_set(after, at, *rest - 1);
}

/* %1 to %9: what a capture matched, once more. */
static const char *match_again(struct pattern *p, const char *s, unsigned digit) {
  int i = (int)digit - '1';
  if (i < 0 || i >= p->n_captures || p->captures[i].len == CAPTURE_OPEN)
    luaL_error(p->L, "invalid capture index %%%d", i + 1);
  ptrdiff_t len = p->captures[i].len;
  if (len == CAPTURE_POSITION || p->subject_end - s < len) return NULL;
  return memcmp(p->captures[i].start, s, (size_t)len) == 0 ? s + len : NULL;
}

/* ---- all of a pattern --------------------------------------------------------------------------
 */

/* One item that is %b, %f or %1 to %9: where the match goes on, with *at behind the item, or NULL.
 * *is_it is false when it is none of them. */
static const char *match_special(struct pattern *p, const char *s, const char **at, bool *is_it) {
  const char *item = *at;
  *is_it = true;
  switch (item[1]) {
  case 'b': *at = item + 4; return match_balance(p, s, item);
  case 'f': return is_frontier(p, s, item, at) ? s : NULL;
  case '0' ... '9': *at = item + 2; return match_again(p, s, byte_at(item + 1));
  default: *is_it = false; return NULL;
  }
}

/* A single character at `at`, with what repeats it. True: go on at *s and *at; else *s is the
 * result. */
static inline bool match_single(struct pattern *p, const char **s, const char **at) {
  const char *end = end_of_single(p, *at);
  bool is_there = is_single(p, *s, *at, end);
  switch (*end) {
  case '?':
    if (is_there) {
      const char *matched = match(p, *s + 1, end + 1);
      if (matched) {
        *s = matched;
        return false;
      }
    }
    *at = end + 1;
    return true;
  case '+': *s = is_there ? match_longest(p, *s + 1, *at, end) : NULL; return false;
  case '*':
    if (is_there) {
      *s = match_longest(p, *s, *at, end);
      return false;
    }
    *at = end + 1;
    return true;
  case '-':
    if (is_there) {
      *s = match_shortest(p, *s, *at, end);
      return false;
    }
    *at = end + 1;
    return true;
  default:
    if (!is_there) {
      *s = NULL;
      return false;
    }
    ++*s;
    *at = end;
    return true;
  }
}

/* Levels are counted as in Lua, where each capture and each repetition takes one. */
static const char *match(struct pattern *p, const char *s, const char *at) {
  if (p->depth-- == 0) luaL_error(p->L, "pattern too complex");
  while (at != p->end) {
    step(p);
    if (*at == '(') {
      bool is_position = at[1] == ')';
      s = match_open(p, s, at + (is_position ? 2 : 1),
                     is_position ? CAPTURE_POSITION : CAPTURE_OPEN);
      break;
    }
    if (*at == ')') {
      s = match_close(p, s, at + 1);
      break;
    }
    if (*at == '$' && at + 1 == p->end) {
      if (s != p->subject_end) s = NULL;
      break;
    }
    if (*at == '%') {
      bool is_special;
      const char *next = match_special(p, s, &at, &is_special);
      if (is_special) {
        s = next;
        if (!s) break;
        continue;
      }
    }
    if (!match_single(p, &s, &at)) break;
  }
  p->depth++;
  return s;
}

const char *pattern_match(struct pattern *p, const char *s, const char *at) {
  p->n_captures = 0;
  p->depth = PATTERN_DEPTH;
  return match(p, s, at);
}

const char *pattern_search(struct pattern *p, const char *s, const char *at, const char **end) {
  p->depth = PATTERN_DEPTH;
  if (p->searched != at) {
    p->searched = at;
    p->first = needs(p, at);
  }
  int need = p->first;
  for (; s <= p->subject_end; s++) {
    if (need == NEEDS_END) {
      s = p->subject_end;
    } else if (need != NEEDS_NOTHING) {
      s = memchr(s, need, (size_t)(p->subject_end - s));
      if (!s) return NULL;
    }
    *end = pattern_match(p, s, at);
    if (*end) return s;
  }
  return NULL;
}

/* ---- captures ----------------------------------------------------------------------------------
 */

ptrdiff_t pattern_capture(struct pattern *p, int i, const char *s, const char *e,
                          const char **start) {
  if (i >= p->n_captures) {
    if (i != 0) luaL_error(p->L, "invalid capture index %%%d", i + 1);
    *start = s;
    return e - s;
  }
  if (p->captures[i].len == CAPTURE_OPEN) luaL_error(p->L, "unfinished capture");
  *start = p->captures[i].start;
  return p->captures[i].len;
}

void pattern_push_capture(struct pattern *p, int i, const char *s, const char *e) {
  const char *start;
  ptrdiff_t len = pattern_capture(p, i, s, e, &start);
  if (len == CAPTURE_POSITION)
    lua_pushinteger(p->L, start - p->subject + 1);
  else
    lua_pushlstring(p->L, start, (size_t)len);
}

int pattern_push_captures(struct pattern *p, const char *s, const char *e) {
  int n = p->n_captures == 0 && s ? 1 : p->n_captures;
  luaL_checkstack(p->L, n, "too many captures");
  for (int i = 0; i < n; i++) pattern_push_capture(p, i, s, e);
  return n;
}
