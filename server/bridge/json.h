/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_JSON_H
#define PERIGEE_JSON_H

#include "base/buf.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* json.c -- JSON text (RFC 8259) to Lua values and back, strictly and without loss.
 *
 *   null   perigee.null, a light userdata of NULL (lua-cjson's null is the same value)
 *   number an integer when written as one and within 64 bits, else a float; -0 is the float
 *   array  a table with the array metatable, so that [] comes back as []
 *   object a plain table
 *
 * Reading pushes values as it goes and may raise a Lua error only for exhausted memory, so it must
 * run in a protected call. It holds nothing that an error would leak. */

/* What a reader refuses although it is JSON; 0 means no limit. */
struct json_limits {
  uint32_t depth;  /* level of the deepest value; the outermost has level 0 */
  uint32_t array;  /* items of an array */
  uint32_t string; /* bytes of a string or key */
  uint32_t values; /* values of all levels: items, members, and the outermost */
};

enum json_status {
  JSON_OK,
  JSON_MALFORMED, /* not JSON: error and at say what and where */
  JSON_LIMIT,     /* JSON, but over a limit: limit and max say which */
  JSON_RANGE,     /* JSON, but a number that no Lua number can hold */
};

enum { JSON_PATH_MAX = 160, JSON_DEPTH_MAX = 128 };

/* Memory for unescaping, kept between texts by whoever owns it. */
struct json_scratch {
  char *data;
  size_t cap;
};
void json_scratch_fini(struct json_scratch *scratch);

struct json_reader {
  const char *start, *at, *end;
  struct json_limits limits;
  struct json_scratch *scratch;
  int array_mt;      /* stack index of the array metatable */
  const char *error; /* JSON_MALFORMED: static text; byte position is at - start */
  const char *limit; /* JSON_LIMIT: "depth", "array", "string", "values" */
  uint32_t max;      /* JSON_LIMIT: the limit */
  size_t path_at;    /* path + path_at: where the offending value is, as "[0].name" */
  char path[JSON_PATH_MAX];
};

/* The text must be valid UTF-8 (utf8_is_valid). */
void json_reader_init(struct json_reader *r, const char *text, size_t n,
                      const struct json_limits *limits, struct json_scratch *scratch, int array_mt);

/* Skips white space; true at the end of the text. */
static inline bool json_at_end(struct json_reader *r) {
  while (r->at < r->end && (uint8_t)*r->at <= ' ' &&
         (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
    r->at++;
  return r->at == r->end;
}

/* Reads one value and pushes it [-0, +1, m]; pushes nothing unless JSON_OK. */
enum json_status json_read(lua_State *L, struct json_reader *r);
/* Checks one value without making it. Limits do not matter, except JSON_DEPTH_MAX. */
enum json_status json_skip(struct json_reader *r);

/* How many values of all levels a text holds that was checked; of another text any number. */
uint32_t json_count(const char *text, size_t n);

/* Reads a string as bytes: lent from the text or the scratch until the next read. r->at must be on
 * its opening quote. */
enum json_status json_read_bytes(struct json_reader *r, const char **s, size_t *n);

/* A whole text: one value and nothing behind it. */
enum json_status json_read_text(lua_State *L, struct json_reader *r);

struct slice_watch;

struct json_writer {
  struct builder *out;             /* a message in progress */
  const void *array_mt;            /* lua_topointer of the array metatable */
  const struct slice_watch *slice; /* whose end ends the writing; or NULL */
  const char *error;               /* what cannot be encoded; static text */
  size_t path_at;                  /* path + path_at: where */
  char path[JSON_PATH_MAX];
};

/* Puts a member's name in front of where a value could not be written or read. */
void json_path_key(char *path, size_t *at, const char *key, size_t n);

void json_writer_init(struct json_writer *w, struct builder *out, const void *array_mt);

/* Writes the value at index [-0, +0, -]. False with error and path set when it has no form in JSON;
 * the message in progress is then incomplete and must be aborted. Runs no Lua, raises nothing. */
bool json_write(lua_State *L, struct json_writer *w, int index);

/* Writes the JSON text at index as it is, once it was found to be JSON. False like json_write. */
bool json_write_raw(lua_State *L, struct json_writer *w, struct json_scratch *scratch, int index);

/* Writes a string value that is known to be valid UTF-8 or fails like json_write. */
bool json_write_string(struct json_writer *w, const char *s, size_t n);

#endif
