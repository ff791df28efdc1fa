/* SPDX-License-Identifier: MIT */
/* json.c -- JSON text to Lua values and back, strictly and without loss.
 *
 * Reading goes straight from bytes to the Lua stack: no tree in between, no copy of a string that
 * has no escapes. Small arrays and objects are gathered on the stack first, so that their tables
 * are made once, in the right size. Strings are scanned eight bytes a step for the four kinds of
 * byte that matter. */
#include "bridge/json.h"

#include "base/locale.h"
#include "base/mem.h"
#include "bridge/task.h"
#include "wire/utf8.h"

#include <fenv.h>
#include <float.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
#ifdef PERIGEE_TINY
  GATHER = 2,
#else
  GATHER = 16, /* items or pairs kept on the stack before their table is made */
#endif
  NUMBER_MAX = 40, /* longest number this file writes */
};

/* ---- paths of offending values --------------------------------------------------------------- */

/* Paths grow from the back, as the error travels from the inside out. A path that is too long
 * keeps its inner end, behind dots; path[0] tells that it was cut. */
static void path_prepend(char *path, size_t *at, const char *s, size_t n) {
  enum { DOTS = 3 };
  if (path[0]) return;
  if (*at < n + DOTS + 1) {
    path[0] = '.';
    n = DOTS;
    s = "...";
  }
  *at -= n;
  memcpy(path + *at, s, n);
}

static void path_start(char *path, size_t *at) {
  path[0] = path[JSON_PATH_MAX - 1] = '\0';
  *at = JSON_PATH_MAX - 1;
}

static void path_index(char *path, size_t *at, uint64_t i) {
  char text[24];
  int n = snprintf(text, sizeof text, "[%llu]", (unsigned long long)i);
  path_prepend(path, at, text, (size_t)n);
}

void json_path_key(char *path, size_t *at, const char *key, size_t n) {
  if (n > 64) { /* the start of a long key says enough; do not cut a character */
    n = 64;
    while (n && ((uint8_t)key[n] & 0xC0) == 0x80) n--;
  }
  path_prepend(path, at, key, n);
  path_prepend(path, at, ".", 1);
}

/* ---- scanning -------------------------------------------------------------------------------- */

/* The next byte that is not plain inside a string: a quote, a backslash or a control character.
 * The usual trick for "has this word a byte less than n, or equal to c" (Hacker's Delight); its
 * lowest hit is exact, those above it may be false. */
static inline const char *plain_run(const char *s, const char *end) {
  const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
  for (; end - s >= 8; s += 8) {
    uint64_t v;
    memcpy(&v, s, 8);
    uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
    uint64_t hit =
        (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((v - ones * 0x20) & ~v)) & highs;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (hit) return s + (__builtin_ctzll(hit) >> 3);
#else
    if (hit) break;
#endif
  }
  while (s < end && *s != '"' && *s != '\\' && (uint8_t)*s >= 0x20) s++;
  return s;
}

static inline void skip_space(struct json_reader *r) {
  json_at_end(r);
}

static enum json_status malformed(struct json_reader *r, const char *error) {
  r->error = error;
  return JSON_MALFORMED;
}

static enum json_status over_limit(struct json_reader *r, const char *limit, uint32_t max) {
  r->limit = limit;
  r->max = max;
  return JSON_LIMIT;
}

void json_reader_init(struct json_reader *r, const char *text, size_t n,
                      const struct json_limits *limits, struct json_scratch *scratch,
                      int array_mt) {
  static const struct json_limits none;
  r->start = r->at = text;
  r->end = text + n;
  r->limits = limits ? *limits : none;
  r->scratch = scratch;
  r->array_mt = array_mt;
  r->error = r->limit = NULL;
  r->max = 0;
  path_start(r->path, &r->path_at);
}

void json_scratch_fini(struct json_scratch *scratch) {
  free(scratch->data);
  *scratch = (struct json_scratch){0};
}

/* ---- strings --------------------------------------------------------------------------------- */

static int hex4(const char *s) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    char c = s[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return -1;
    v = v << 4 | digit;
  }
  return v;
}

/* One escape at r->at, which is behind the backslash. Writes up to 4 bytes when out is not NULL. */
static enum json_status read_escape(struct json_reader *r, uint8_t *out, unsigned *len) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (r->at >= r->end) return malformed(r, "string without an end");
  char c = *r->at;
  const char *simple = c ? strchr(from, c) : NULL;
  if (simple) {
    if (out) *out = (uint8_t)to[simple - from];
    *len = 1;
    r->at++;
    return JSON_OK;
  }
  if (c != 'u') return malformed(r, "unknown escape");
  if (r->end - r->at < 5) return malformed(r, "\\u needs four hex digits");
  int unit = hex4(r->at + 1);
  if (unit < 0) return malformed(r, "\\u needs four hex digits");
  uint32_t code = (uint32_t)unit;
  if (unit >= 0xDC00 && unit <= 0xDFFF) return malformed(r, "low surrogate without a high one");
  const char *next = r->at + 5;
  if (unit >= 0xD800 && unit <= 0xDBFF) {
    int low = r->end - next >= 6 && next[0] == '\\' && next[1] == 'u' ? hex4(next + 2) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return malformed(r, "high surrogate without a low one");
    code = 0x10000 + ((code - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    next += 6;
  }
  uint8_t bytes[4];
  *len = utf8_put(out ? out : bytes, code);
  r->at = next;
  return JSON_OK;
}

static void scratch_room(struct json_scratch *scratch, size_t n) {
  if (scratch->cap >= n) return;
  scratch->cap = n < 256 ? 512 : n * 2;
  scratch->data = mem_realloc(scratch->data, scratch->cap);
}

/* r->at is on the opening quote. */
enum json_status json_read_bytes(struct json_reader *r, const char **s, size_t *n) {
  const char *from = ++r->at;
  r->at = plain_run(r->at, r->end);
  if (r->at < r->end && *r->at == '"') { /* the usual case: nothing to unescape, nothing to copy */
    *s = from;
    *n = (size_t)(r->at++ - from);
    return JSON_OK;
  }
  size_t len = 0;
  for (;;) {
    size_t run = (size_t)(r->at - from);
    scratch_room(r->scratch, len + run + 4);
    memcpy(r->scratch->data + len, from, run);
    len += run;
    if (r->at >= r->end) return malformed(r, "string without an end");
    if (*r->at == '"') {
      r->at++;
      *s = r->scratch->data;
      *n = len;
      return JSON_OK;
    }
    if (*r->at != '\\') return malformed(r, "control character in a string");
    r->at++;
    unsigned k = 0;
    enum json_status status = read_escape(r, (uint8_t *)r->scratch->data + len, &k);
    if (status != JSON_OK) return status;
    len += k;
    from = r->at;
    r->at = plain_run(r->at, r->end);
  }
}

static enum json_status skip_string(struct json_reader *r) {
  r->at++;
  for (;;) {
    r->at = plain_run(r->at, r->end);
    if (r->at >= r->end) return malformed(r, "string without an end");
    if (*r->at == '"') {
      r->at++;
      return JSON_OK;
    }
    if (*r->at != '\\') return malformed(r, "control character in a string");
    r->at++;
    unsigned k;
    enum json_status status = read_escape(r, NULL, &k);
    if (status != JSON_OK) return status;
  }
}

static enum json_status push_string(lua_State *L, struct json_reader *r) {
  const char *s;
  size_t n;
  enum json_status status = json_read_bytes(r, &s, &n);
  if (status != JSON_OK) return status;
  if (r->limits.string && n > r->limits.string) return over_limit(r, "string", r->limits.string);
  lua_pushlstring(L, s, n);
  return JSON_OK;
}

/* ---- numbers --------------------------------------------------------------------------------- */

struct number {
  const char *start;
  bool is_negative, is_float;
  bool is_long;    /* more than 19 significant digits: digits is not the whole truth */
  uint64_t digits; /* the first 19 or fewer significant digits */
  int exponent;    /* of ten, for digits */
};

static bool is_digit(const struct json_reader *r) {
  return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

/* RFC 8259 section 6: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static enum json_status scan_number(struct json_reader *r, struct number *num) {
  unsigned n = 0; /* significant digits taken */
  *num = (struct number){.start = r->at};
  if (*r->at == '-') {
    num->is_negative = true;
    r->at++;
  }
  if (!is_digit(r)) return malformed(r, "digit expected");
  if (*r->at == '0') {
    r->at++;
    if (is_digit(r)) return malformed(r, "number with a leading zero");
  }
  for (; is_digit(r); r->at++) {
    if (n < 19) {
      num->digits = num->digits * 10 + (uint64_t)(*r->at - '0');
      n++;
    } else {
      num->is_long = true;
      num->exponent++;
    }
  }
  if (r->at < r->end && *r->at == '.') {
    num->is_float = true;
    r->at++;
    if (!is_digit(r)) return malformed(r, "digit expected after the point");
    for (; is_digit(r); r->at++) {
      if (n == 0 && *r->at == '0') { /* leading zeros are not significant */
        num->exponent--;
      } else if (n < 19) {
        num->digits = num->digits * 10 + (uint64_t)(*r->at - '0');
        num->exponent--;
        n++;
      } else {
        num->is_long = true;
      }
    }
  }
  if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
    num->is_float = true;
    r->at++;
    bool is_minus = r->at < r->end && *r->at == '-';
    if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
    if (!is_digit(r)) return malformed(r, "digit expected in the exponent");
    int e = 0;
    for (; is_digit(r); r->at++)
      if (e < 100000) e = e * 10 + (*r->at - '0');
    num->exponent += is_minus ? -e : e;
  }
  return JSON_OK;
}

static double exact_strtod(const char *s, size_t n) {
  char small[128], *copy = n < sizeof small ? small : mem_alloc(n + 1);
  memcpy(copy, s, n);
  copy[n] = '\0';
  double v = strtod_l(copy, NULL, locale_c());
  if (copy != small) free(copy);
  return v;
}

static double number_value(const struct json_reader *r, const struct number *num) {
  static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  /* up to 2^53 and 10^22 both factors are exact, so one operation rounds correctly (Clinger) */
  if (!num->is_long && num->digits <= 1ull << 53 && num->exponent >= -22 && num->exponent <= 22) {
    double v = (double)num->digits;
    v = num->exponent < 0 ? v / tens[-num->exponent] : v * tens[num->exponent];
    return num->is_negative ? -v : v;
  }
  return exact_strtod(num->start, (size_t)(r->at - num->start));
}

static enum json_status push_number(lua_State *L, struct json_reader *r) {
  struct number num;
  enum json_status status = scan_number(r, &num);
  if (status != JSON_OK) return status;
  if (!num.is_float) {
    uint64_t most = num.is_negative ? 1ull << 63 : (1ull << 63) - 1;
    if (num.is_long || num.digits > most) return JSON_RANGE;
    if (num.is_negative && num.digits == 0)
      lua_pushnumber(L, -0.0);
    else
      lua_pushinteger(L, (lua_Integer)(num.is_negative ? 0 - num.digits : num.digits));
    return JSON_OK;
  }
  double v = number_value(r, &num);
  if (!isfinite(v)) return JSON_RANGE;
  lua_pushnumber(L, v);
  return JSON_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool is_word(struct json_reader *r, const char *word, size_t n) {
  if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
  r->at += n;
  return true;
}

static enum json_status read_value(lua_State *L, struct json_reader *r, uint32_t level);

/* Sets t[1..n] from the n values on top of the stack, which it pops. */
static void fill_array(lua_State *L, int table, lua_Integer n) {
  for (lua_Integer i = n; i >= 1; i--) lua_rawseti(L, table, i);
}

static enum json_status read_array(lua_State *L, struct json_reader *r, uint32_t level) {
  lua_pushnil(L); /* the table's place */
  int table = lua_gettop(L);
  lua_Integer n = 0;
  bool has_table = false;
  r->at++;
  skip_space(r);
  if (r->at < r->end && *r->at == ']') {
    r->at++;
  } else {
    for (;;) {
      if (r->limits.array && n == (lua_Integer)r->limits.array)
        return over_limit(r, "array", r->limits.array);
      enum json_status status = read_value(L, r, level + 1);
      if (status != JSON_OK) {
        path_index(r->path, &r->path_at, (uint64_t)n);
        return status;
      }
      n++;
      if (has_table) {
        lua_rawseti(L, table, n);
      } else if (n == GATHER) {
        lua_createtable(L, GATHER * 2, 0);
        lua_replace(L, table);
        fill_array(L, table, n);
        has_table = true;
      }
      skip_space(r);
      if (r->at >= r->end) return malformed(r, "array without an end");
      char c = *r->at;
      if (c != ',' && c != ']') return malformed(r, "',' or ']' expected");
      r->at++;
      if (c == ']') break;
    }
  }
  if (!has_table) {
    lua_createtable(L, (int)n, 0);
    lua_replace(L, table);
    fill_array(L, table, n);
  }
  lua_pushvalue(L, r->array_mt);
  lua_setmetatable(L, table);
  return JSON_OK;
}

/* Sets the n pairs above `table` in order, so that the last of equal keys wins, and pops them. */
static void fill_object(lua_State *L, int table, int n) {
  for (int i = 0; i < n; i++) {
    lua_pushvalue(L, table + 1 + 2 * i);
    lua_pushvalue(L, table + 2 + 2 * i);
    lua_rawset(L, table);
  }
  lua_settop(L, table);
}

static enum json_status read_object(lua_State *L, struct json_reader *r, uint32_t level) {
  lua_pushnil(L); /* the table's place */
  int table = lua_gettop(L), n = 0;
  bool has_table = false;
  r->at++;
  skip_space(r);
  if (r->at < r->end && *r->at == '}') {
    r->at++;
  } else {
    for (;;) {
      if (r->at >= r->end || *r->at != '"') return malformed(r, "string expected as a key");
      if (r->limits.depth && level + 1 > r->limits.depth)
        return over_limit(r, "depth", r->limits.depth);
      enum json_status status = push_string(L, r);
      if (status != JSON_OK) return status;
      skip_space(r);
      if (r->at >= r->end || *r->at != ':') return malformed(r, "':' expected");
      r->at++;
      int key = lua_gettop(L);
      status = read_value(L, r, level + 1);
      if (status != JSON_OK) {
        size_t key_len;
        const char *key_text = lua_tolstring(L, key, &key_len);
        json_path_key(r->path, &r->path_at, key_text, key_len);
        return status;
      }
      if (has_table) {
        lua_rawset(L, table);
      } else if (++n == GATHER) {
        lua_createtable(L, 0, GATHER * 2);
        lua_replace(L, table);
        fill_object(L, table, n);
        has_table = true;
      }
      skip_space(r);
      if (r->at >= r->end) return malformed(r, "object without an end");
      char c = *r->at;
      if (c != ',' && c != '}') return malformed(r, "',' or '}' expected");
      r->at++;
      if (c == '}') break;
      skip_space(r);
    }
  }
  if (!has_table) {
    lua_createtable(L, 0, n);
    lua_replace(L, table);
    fill_object(L, table, n);
  }
  return JSON_OK;
}

static enum json_status read_value(lua_State *L, struct json_reader *r, uint32_t level) {
  skip_space(r);
  if (r->at >= r->end) return malformed(r, "value expected");
  if (r->limits.depth && level > r->limits.depth) return over_limit(r, "depth", r->limits.depth);
  switch (*r->at) {
  case '"': return push_string(L, r);
  case '{':
  case '[':
    if (level >= JSON_DEPTH_MAX) return malformed(r, "nested too deeply");
    /* a level keeps at most GATHER pairs and a few temporaries on the stack */
    luaL_checkstack(L, 2 * GATHER + 8, "JSON nested too deeply");
    return *r->at == '{' ? read_object(L, r, level) : read_array(L, r, level);
  case 't':
    if (!is_word(r, "true", 4)) break;
    lua_pushboolean(L, 1);
    return JSON_OK;
  case 'f':
    if (!is_word(r, "false", 5)) break;
    lua_pushboolean(L, 0);
    return JSON_OK;
  case 'n':
    if (!is_word(r, "null", 4)) break;
    lua_pushlightuserdata(L, NULL);
    return JSON_OK;
  case '-':
  case '0' ... '9': return push_number(L, r);
  default: break;
  }
  return malformed(r, "value expected");
}

uint32_t json_count(const char *text, size_t n) {
  const char *end = text + n;
  uint32_t count = 1;
  for (const char *s = text; s < end; s++) {
    if (*s == ',') {
      count++;
    } else if (*s == '[' || *s == '{') { /* its first item; the others follow commas */
      const char *next = s + 1;
      while (next < end && (uint8_t)*next <= ' ') next++;
      if (next < end && *next != ']' && *next != '}') count++;
    } else if (*s == '"') {
      s = plain_run(s + 1, end);
      while (s < end && *s != '"') s = plain_run(s + 1 + (*s == '\\' && s + 1 < end), end);
    }
  }
  return count;
}

/* The limit that is held before anything is made, by counting: a text has no more values than half
 * of its bytes, so few have to be counted. */
static bool has_too_many(const struct json_reader *r) {
  uint32_t most = r->limits.values;
  size_t n = (size_t)(r->end - r->at);
  return most && (n + 1) / 2 > most && json_count(r->at, n) > most;
}

enum json_status json_read(lua_State *L, struct json_reader *r) {
  int top = lua_gettop(L);
  if (has_too_many(r)) return over_limit(r, "values", r->limits.values);
  enum json_status status = read_value(L, r, 0);
  if (status != JSON_OK) lua_settop(L, top);
  return status;
}

enum json_status json_read_text(lua_State *L, struct json_reader *r) {
  enum json_status status = json_read(L, r);
  if (status != JSON_OK) return status;
  if (json_at_end(r)) return JSON_OK;
  lua_pop(L, 1);
  return malformed(r, "more text after the value");
}

static enum json_status skip_value(struct json_reader *r, unsigned level);

static enum json_status skip_members(struct json_reader *r, unsigned level, bool is_object) {
  char close = is_object ? '}' : ']';
  r->at++;
  skip_space(r);
  if (r->at < r->end && *r->at == close) {
    r->at++;
    return JSON_OK;
  }
  for (;;) {
    enum json_status status;
    if (is_object) {
      skip_space(r);
      if (r->at >= r->end || *r->at != '"') return malformed(r, "string expected as a key");
      status = skip_string(r);
      if (status != JSON_OK) return status;
      skip_space(r);
      if (r->at >= r->end || *r->at != ':') return malformed(r, "':' expected");
      r->at++;
    }
    status = skip_value(r, level + 1);
    if (status != JSON_OK) return status;
    skip_space(r);
    if (r->at >= r->end)
      return malformed(r, is_object ? "object without an end" : "array without an end");
    char c = *r->at;
    if (c != ',' && c != close)
      return malformed(r, is_object ? "',' or '}' expected" : "',' or ']' expected");
    r->at++;
    if (c == close) return JSON_OK;
  }
}

static enum json_status skip_value(struct json_reader *r, unsigned level) {
  skip_space(r);
  if (r->at >= r->end) return malformed(r, "value expected");
  switch (*r->at) {
  case '"': return skip_string(r);
  case '{':
  case '[':
    if (level >= JSON_DEPTH_MAX) return malformed(r, "nested too deeply");
    return skip_members(r, level, *r->at == '{');
  case 't':
    if (is_word(r, "true", 4)) return JSON_OK;
    break;
  case 'f':
    if (is_word(r, "false", 5)) return JSON_OK;
    break;
  case 'n':
    if (is_word(r, "null", 4)) return JSON_OK;
    break;
  case '-':
  case '0' ... '9': {
    struct number num;
    return scan_number(r, &num);
  }
  default: break;
  }
  return malformed(r, "value expected");
}

enum json_status json_skip(struct json_reader *r) {
  return skip_value(r, 0);
}

/* ---- writing --------------------------------------------------------------------------------- */

void json_writer_init(struct json_writer *w, struct builder *out, const void *array_mt) {
  w->out = out;
  w->array_mt = array_mt;
  w->slice = NULL;
  w->error = NULL;
  path_start(w->path, &w->path_at);
}

static bool no_form(struct json_writer *w, const char *error) {
  w->error = error;
  return false;
}

bool json_write_string(struct json_writer *w, const char *s, size_t n) {
  const char *end = s + n;
  builder_byte(w->out, '"');
  while (s < end) {
    const char *stop = plain_run(s, end);
    /* what plain_run takes for plain may hold bytes over 0x7F: they must be whole characters */
    for (const char *p = s; p < stop;) {
      p += utf8_ascii_run((const uint8_t *)p, (size_t)(stop - p));
      if (p == stop) break;
      unsigned k = utf8_sequence((const uint8_t *)p, (size_t)(stop - p));
      if (k == 0) return no_form(w, "a string that is not UTF-8");
      p += k;
    }
    if (stop > s) builder_add(w->out, s, (size_t)(stop - s));
    s = stop;
    if (s == end) break;
    uint8_t c = (uint8_t)*s++;
    switch (c) {
    case '"': builder_add(w->out, "\\\"", 2); break;
    case '\\': builder_add(w->out, "\\\\", 2); break;
    case '\b': builder_add(w->out, "\\b", 2); break;
    case '\f': builder_add(w->out, "\\f", 2); break;
    case '\n': builder_add(w->out, "\\n", 2); break;
    case '\r': builder_add(w->out, "\\r", 2); break;
    case '\t': builder_add(w->out, "\\t", 2); break;
    default: {
      const char escape[6] = {
          '\\', 'u', '0', '0', (char)('0' + c / 16), "0123456789abcdef"[c % 16]};
      builder_add(w->out, escape, sizeof escape);
    }
    }
  }
  builder_byte(w->out, '"');
  return true;
}

static unsigned put_integer(char *out, lua_Integer value) {
  char digits[20];
  unsigned n = 0, len = 0;
  uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  do digits[n++] = (char)('0' + v % 10);
  while (v /= 10);
  if (value < 0) out[len++] = '-';
  while (n) out[len++] = digits[--n];
  return len;
}

static bool reads_back(const char *text, double v) {
  return strtod(text, NULL) == v;
}

/* Tries 15, 16 and 17 digits: the first that reads back is the shortest, as "%g" drops trailing
 * zeros. Two exceptions: subnormals may need fewer than 15, and below a power of two doubles lie
 * denser than above it, so there the nearest decimal may fail where the next one up succeeds. */
static unsigned put_hard_float(char *out, double v) {
  int exponent, n = 0;
  bool is_subnormal = fabs(v) < DBL_MIN, is_power_of_two = fabs(frexp(v, &exponent)) == 0.5;
  locale_t old = uselocale(locale_c());
  for (int precision = is_subnormal ? 1 : 15; precision <= 17; precision++) {
    n = snprintf(out, NUMBER_MAX, "%.*g", precision, v);
    if (reads_back(out, v)) break;
    if (!is_power_of_two) continue;
    fesetround(v > 0 ? FE_UPWARD : FE_DOWNWARD);
    n = snprintf(out, NUMBER_MAX, "%.*g", precision, v);
    fesetround(FE_TONEAREST);
    if (reads_back(out, v)) break;
  }
  uselocale(old);
  if (!strpbrk(out, ".e")) {
    memcpy(out + n, ".0", 3);
    n += 2;
  }
  return (unsigned)n;
}

/* The shortest text that reads back as the same double. A float keeps a point or an exponent, so
 * that it comes back as a float. */
static unsigned put_float(char *out, double v) {
  /* Most floats people send have few decimals: v * 10^k is then a whole number below 2^53, and if
   * dividing it again gives v, its digits are the answer (the division is correctly rounded, so
   * reading the text must give the same). */
  double scale = 1;
  for (int k = 0; k <= 6; k++, scale *= 10) {
    double scaled = v * scale;
    if (!(fabs(scaled) < 9007199254740992.0)) break;
    double whole = nearbyint(scaled);
    if (whole / scale != v || (whole == 0 && v != 0)) continue;
    unsigned n = 0;
    if (signbit(v)) out[n++] = '-';
    uint64_t digits = (uint64_t)fabs(whole), unit = 1;
    for (int i = 0; i < k; i++) unit *= 10;
    n += put_integer(out + n, (lua_Integer)(digits / unit));
    out[n++] = '.';
    if (k == 0) {
      out[n++] = '0';
      return n;
    }
    uint64_t fraction = digits % unit;
    for (unit /= 10; unit; unit /= 10) out[n++] = (char)('0' + fraction / unit % 10);
    return n;
  }
  return put_hard_float(out, v);
}

static bool write_number(lua_State *L, struct json_writer *w, int index) {
  char *out = (char *)builder_room(w->out, NUMBER_MAX);
  if (lua_isinteger(L, index)) {
    w->out->end += put_integer(out, lua_tointeger(L, index));
    return true;
  }
  double v = lua_tonumber(L, index);
  if (isnan(v)) return no_form(w, "NaN");
  if (isinf(v)) return no_form(w, "an infinite number");
  w->out->end += put_float(out, v);
  return true;
}

static bool write_value(lua_State *L, struct json_writer *w, int index, unsigned level);

/* Tables that share tables can stand for more text than any machine would ever write: when the
 * builder has failed, or the slice is over, nothing more is looked at. (Then the code that asked
 * for it ends at its next instruction.) */
static bool write_bounded(lua_State *L, struct json_writer *w, int index, unsigned level) {
  if (!write_value(L, w, index, level)) return false;
  if (w->slice && slice_is_over(w->slice))
    return no_form(w, "a value that takes too long to write");
  return w->out->is_failed ? no_form(w, "a text longer than 1 GiB") : true;
}

/* A table whose keys are known to be 1 to n. */
static bool write_items(lua_State *L, struct json_writer *w, int table, unsigned level) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, table);
  builder_byte(w->out, '[');
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1) builder_byte(w->out, ',');
    lua_rawgeti(L, table, i);
    if (!write_bounded(L, w, lua_gettop(L), level + 1)) {
      path_index(w->path, &w->path_at, (uint64_t)i - 1);
      return false;
    }
    lua_pop(L, 1);
  }
  builder_byte(w->out, ']');
  return true;
}

/* Are all keys of a marked table 1 to n? What has another key would be lost without a word. */
static bool check_items(lua_State *L, struct json_writer *w, int table) {
  lua_Integer count = 0, greatest = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), count++) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      size_t n;
      const char *key = lua_tolstring(L, -2, &n);
      json_path_key(w->path, &w->path_at, key, n);
      return no_form(w, "an array with a text key");
    }
    lua_Integer k = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (k < 1) return no_form(w, "an array with keys that are not 1 to n");
    if (k > greatest) greatest = k;
  }
  if (count == greatest) return true;
  lua_Integer hole = 1;
  while (lua_rawgeti(L, table, hole) != LUA_TNIL) {
    lua_pop(L, 1);
    hole++;
  }
  path_index(w->path, &w->path_at, (uint64_t)hole - 1);
  return no_form(w, "an array with a hole");
}

/* A table with the array metatable, in one walk when its keys come in order. */
static bool write_array(lua_State *L, struct json_writer *w, int table, unsigned level) {
  lua_Integer n = 0;
  uint32_t mark = builder_len(w->out);
  builder_byte(w->out, '[');
  lua_pushnil(L);
  while (lua_next(L, table)) {
    int key = lua_gettop(L) - 1;
    if (!lua_isinteger(L, key) || lua_tointeger(L, key) != n + 1) {
      lua_settop(L, key - 1);
      w->out->end = w->out->start + mark;
      return check_items(L, w, table) && write_items(L, w, table, level);
    }
    if (n++) builder_byte(w->out, ',');
    if (!write_bounded(L, w, key + 1, level + 1)) {
      path_index(w->path, &w->path_at, (uint64_t)n - 1);
      return false;
    }
    lua_settop(L, key);
  }
  builder_byte(w->out, ']');
  return true;
}

/* A table without the array metatable is an array when its keys are 1..n, n > 0. lua_next gives the
 * array part first and in order, so one walk usually tells and writes at once. */
static bool write_table(lua_State *L, struct json_writer *w, int table, unsigned level) {
  lua_Integer n = 0;
  bool is_object = false;
  uint32_t mark = builder_len(w->out);
  builder_byte(w->out, '{'); /* becomes '[' when the keys say so */
  lua_pushnil(L);
  while (lua_next(L, table)) {
    int key = lua_gettop(L) - 1;
    if (lua_type(L, key) == LUA_TSTRING) {
      if (n && !is_object) return no_form(w, "a table with both string and integer keys");
      if (is_object) builder_byte(w->out, ',');
      is_object = true;
      size_t len;
      const char *s = lua_tolstring(L, key, &len);
      if (!json_write_string(w, s, len)) {
        w->error = "a key that is not UTF-8";
        return false;
      }
      builder_byte(w->out, ':');
      if (!write_bounded(L, w, key + 1, level + 1)) {
        json_path_key(w->path, &w->path_at, s, len);
        return false;
      }
    } else {
      if (!lua_isinteger(L, key)) return no_form(w, "a table with keys other than strings");
      if (is_object) return no_form(w, "a table with both string and integer keys");
      if (lua_tointeger(L, key) != n + 1) { /* out of order, or a hole: look at it as a whole */
        lua_Integer count = 0, border = (lua_Integer)lua_rawlen(L, table);
        lua_pop(L, 2);
        for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
          if (!lua_isinteger(L, -2)) return no_form(w, "a table with both string and integer keys");
          lua_Integer k = lua_tointeger(L, -2);
          if (k < 1 || k > border)
            return no_form(w, "a table with integer keys that are not 1 to n (a sparse array?)");
          count++;
        }
        if (count != border)
          return no_form(w, "a table with integer keys that are not 1 to n (a sparse array?)");
        w->out->end = w->out->start + mark;
        return write_items(L, w, table, level);
      }
      builder_byte(w->out, ',');
      if (n == 0) w->out->end--; /* no comma before the first */
      n++;
      if (!write_bounded(L, w, key + 1, level + 1)) {
        path_index(w->path, &w->path_at, (uint64_t)n - 1);
        return false;
      }
    }
    lua_settop(L, key);
  }
  builder_byte(w->out, n ? ']' : '}');
  if (n && !w->out->is_failed) builder_data(w->out)[mark] = '[';
  return true;
}

static bool write_value(lua_State *L, struct json_writer *w, int index, unsigned level) {
  switch (lua_type(L, index)) {
  case LUA_TSTRING: {
    size_t n;
    const char *s = lua_tolstring(L, index, &n);
    return json_write_string(w, s, n);
  }
  case LUA_TNUMBER: return write_number(L, w, index);
  case LUA_TBOOLEAN:
    if (lua_toboolean(L, index))
      builder_add(w->out, "true", 4);
    else
      builder_add(w->out, "false", 5);
    return true;
  case LUA_TNIL: builder_add(w->out, "null", 4); return true;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, index)) return no_form(w, "a userdata");
    builder_add(w->out, "null", 4);
    return true;
  case LUA_TTABLE: {
    if (level >= JSON_DEPTH_MAX || !lua_checkstack(L, 8))
      return no_form(w, "a value nested too deeply (a cycle?)");
    if (!lua_getmetatable(L, index)) return write_table(L, w, index, level);
    bool is_array = lua_topointer(L, -1) == w->array_mt;
    lua_pop(L, 1);
    if (is_array) return write_array(L, w, index, level);
    return no_form(w, "a table with a metatable");
  }
  case LUA_TFUNCTION: return no_form(w, "a function");
  case LUA_TTHREAD: return no_form(w, "a coroutine");
  default: return no_form(w, "a userdata");
  }
}

bool json_write(lua_State *L, struct json_writer *w, int index) {
  int top = lua_gettop(L);
  bool is_written = write_bounded(L, w, lua_absindex(L, index), 0);
  lua_settop(L, top);
  return is_written;
}

bool json_write_raw(lua_State *L, struct json_writer *w, struct json_scratch *scratch, int index) {
  struct json_reader r;
  size_t n;
  if (lua_type(L, index) != LUA_TSTRING) return no_form(w, "a codec's text that is no string");
  const char *s = lua_tolstring(L, index, &n);
  if (!utf8_is_valid((const uint8_t *)s, n)) return no_form(w, "a codec's text that is not UTF-8");
  json_reader_init(&r, s, n, NULL, scratch, 0);
  if (json_skip(&r) != JSON_OK || !json_at_end(&r))
    return no_form(w, "a codec's text that is not JSON");
  builder_add(w->out, s, n);
  return true;
}
