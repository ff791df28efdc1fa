/* SPDX-License-Identifier: MIT */
/* envelope.c -- the members of a JSON-RPC message: read from text, written around a result.
 *
 * Reading the members here and not in Lua saves a table per message, and lets the id's own bytes go
 * back untouched: 1e2, 10000000000000000000001 and "\u00e9" stay what the client wrote. */
#include "bridge/envelope.h"

#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */

#define IS_KEY(key, n, name) ((n) == sizeof(name) - 1 && memcmp(key, name, sizeof(name) - 1) == 0)

/* The value at r->at, unread, as a span. */
static enum json_status skip_span(struct json_reader *r, struct envelope_span *span) {
  json_at_end(r); /* to its first byte */
  span->at = r->at;
  enum json_status status = json_skip(r);
  span->len = (uint32_t)(r->at - span->at);
  return status;
}

/* A string's bytes, from its span, which was checked. */
static void unquote(struct json_reader *r, struct envelope_span span, const char **s, size_t *n) {
  const char *at = r->at;
  r->at = span.at;
  json_read_bytes(r, s, n);
  r->at = at;
}

static uint32_t version_bits(struct json_reader *r, struct envelope_span span) {
  if (span.len == 5 && memcmp(span.at, "\"2.0\"", 5) == 0) return ENV_VERSION_2;
  if (span.at[0] == '"') { /* "2.\u0030" is the same string */
    const char *s;
    size_t n;
    unquote(r, span, &s, &n);
    if (IS_KEY(s, n, "2.0")) return ENV_VERSION_2;
  }
  return ENV_VERSION_OTHER;
}

static uint32_t params_bits(struct envelope_span span) {
  switch (span.at[0]) {
  case '[': return ENV_PARAMS_ARRAY;
  case '{': return ENV_PARAMS_OBJECT;
  case 'n': return ENV_PARAMS_NULL;
  default: return ENV_PARAMS_OTHER;
  }
}

static uint32_t id_bits(struct envelope_span span) {
  switch (span.at[0]) {
  case 'n': return ENV_ID_NULL;
  case 't':
  case 'f':
  case '[':
  case '{': return ENV_ID_BAD;
  case '"':
    return span.len > ENVELOPE_ID_MAX + 2 ? ENV_ID_BAD : ENV_ID; /* its quotes are not of it */
  default: return span.len > ENVELOPE_ID_MAX ? ENV_ID_BAD : ENV_ID;
  }
}

/* Reads the value of one member, and notes it when it is one of ours. */
static enum json_status read_member(struct envelope *e, const char *key, size_t n) {
  struct json_reader *r = &e->reader;
  struct envelope_span none, *span = &none;
  switch (n) {
  case 2:
    if (IS_KEY(key, n, "id")) span = &e->id;
    break;
  case 5:
    if (IS_KEY(key, n, "error")) span = &e->error;
    break;
  case 6:
    if (IS_KEY(key, n, "method"))
      span = &e->method;
    else if (IS_KEY(key, n, "params"))
      span = &e->params;
    else if (IS_KEY(key, n, "result"))
      span = &e->result;
    break;
  case 7:
    if (IS_KEY(key, n, "jsonrpc")) {
      e->bits &= ~(uint32_t)(ENV_VERSION_2 | ENV_VERSION_OTHER);
      if (r->end - r->at > 5 && memcmp(r->at, "\"2.0\"", 5) == 0) { /* as everybody writes it */
        e->bits |= ENV_VERSION_2;
        r->at += 5;
        return JSON_OK;
      }
      enum json_status status = skip_span(r, &none);
      if (status != JSON_OK) return status;
      e->bits |= version_bits(r, none);
      return JSON_OK;
    }
    break;
  default: break;
  }
  return skip_span(r, span);
}

static enum json_status read_members(struct envelope *e) {
  struct json_reader *r = &e->reader;
  r->at++;
  if (!json_at_end(r) && *r->at == '}') {
    r->at++;
    return JSON_OK;
  }
  for (;;) {
    const char *key;
    size_t n;
    if (json_at_end(r)) break;
    if (*r->at != '"') {
      r->error = "string expected as a key";
      return JSON_MALFORMED;
    }
    enum json_status status = json_read_bytes(r, &key, &n);
    if (status != JSON_OK) return status;
    if (json_at_end(r) || *r->at != ':') {
      r->error = "':' expected";
      return JSON_MALFORMED;
    }
    r->at++;
    status = read_member(e, key, n);
    if (status != JSON_OK) return status;
    if (json_at_end(r)) break;
    char c = *r->at;
    if (c != ',' && c != '}') {
      r->error = "',' or '}' expected";
      return JSON_MALFORMED;
    }
    r->at++;
    if (c == '}') return JSON_OK;
  }
  r->error = "object without an end";
  return JSON_MALFORMED;
}

void envelope_read(struct envelope *e, const char *text, size_t n, struct json_scratch *scratch) {
  static const struct envelope_span none;
  struct json_reader *r = &e->reader;
  e->bits = 0;
  e->method = e->params = e->id = e->result = e->error = none;
  json_reader_init(r, text, n, NULL, scratch, 0);
  enum json_status status;
  if (json_at_end(r)) {
    r->error = "empty message";
    status = JSON_MALFORMED;
  } else if (*r->at == '{') {
    status = read_members(e);
  } else {
    e->bits |= ENV_NOT_OBJECT;
    status = json_skip(r);
  }
  if (status == JSON_OK && !json_at_end(r)) {
    r->error = "more text after the message";
    status = JSON_MALFORMED;
  }
  if (status != JSON_OK) {
    e->bits = ENV_MALFORMED;
    e->method = e->params = e->id = e->result = e->error = none;
    return;
  }
  if (e->method.len) e->bits |= e->method.at[0] == '"' ? ENV_METHOD : ENV_METHOD_BAD;
  if (e->params.len) e->bits |= params_bits(e->params);
  if (e->id.len) e->bits |= id_bits(e->id);
  if (e->result.len) e->bits |= ENV_RESULT;
  if (e->error.len) e->bits |= ENV_ERROR;
  if (!(e->bits & ENV_ID)) e->id = none;
}

static void push_params(lua_State *L, struct envelope *e, const struct json_limits *limits,
                        int array_mt) {
  struct json_reader *r = &e->reader;
  json_reader_init(r, e->params.at, e->params.len, limits, r->scratch, array_mt);
  switch (json_read(L, r)) {
  case JSON_OK: return;
  case JSON_LIMIT: e->bits |= ENV_OVER_LIMIT; break;
  default: e->bits |= ENV_OUT_OF_RANGE; break; /* the grammar was checked */
  }
  lua_pushnil(L);
}

static void push_id(lua_State *L, const struct envelope *e, int array_mt) {
  struct json_reader r;
  json_reader_init(&r, e->id.at, e->id.len, NULL, e->reader.scratch, array_mt);
  /* a number of thirty digits has no Lua number; its text will do for a log */
  if (json_read(L, &r) != JSON_OK) lua_pushlstring(L, e->id.at, e->id.len);
}

void envelope_push(lua_State *L, struct envelope *e, const struct json_limits *limits,
                   int array_mt) {
  if (e->bits & ENV_METHOD) {
    const char *s;
    size_t n;
    unquote(&e->reader, e->method, &s, &n);
    lua_pushlstring(L, s, n);
  } else {
    lua_pushnil(L);
  }
  if (e->params.len)
    push_params(L, e, limits, array_mt);
  else
    lua_pushnil(L);
  if (e->bits & ENV_ID)
    push_id(L, e, array_mt);
  else if (e->bits & ENV_ID_NULL)
    lua_pushlightuserdata(L, NULL);
  else
    lua_pushnil(L);
}

bool envelope_is_batch(const char *text, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n')
      return text[i] == '[';
  return false;
}

int envelope_split(const char *text, size_t n, struct envelope_span *members, int max,
                   const char **error, size_t *error_at) {
  struct json_reader r;
  struct json_scratch none = {0}; /* skipping unescapes nothing */
  int count = 0;
  json_reader_init(&r, text, n, NULL, &none, 0);
  json_at_end(&r);
  r.at++; /* '[' */
  r.error = NULL;
  json_at_end(&r);
  if (r.at < r.end && *r.at == ']') {
    r.at++;
  } else {
    for (;;) {
      struct envelope_span span;
      if (skip_span(&r, &span) != JSON_OK) break;
      if (count < max) members[count] = span;
      count++;
      if (json_at_end(&r)) {
        r.error = "array without an end";
        break;
      }
      char c = *r.at;
      if (c != ',' && c != ']') {
        r.error = "',' or ']' expected";
        break;
      }
      r.at++;
      if (c == ']') break;
    }
  }
  if (!r.error && !json_at_end(&r)) r.error = "more text after the batch";
  if (!r.error) return count;
  *error = r.error;
  *error_at = (size_t)(r.at - r.start);
  return -1;
}

/* ---- writing --------------------------------------------------------------------------------- */

void envelope_open(struct builder *b, enum envelope_style style) {
  switch (style) {
  case ENV_RESULT_2: builder_add(b, "{\"jsonrpc\":\"2.0\",\"result\":", 26); break;
  case ENV_ERROR_2: builder_add(b, "{\"jsonrpc\":\"2.0\",\"error\":", 25); break;
  case ENV_RESULT_1: builder_add(b, "{\"result\":", 10); break;
  case ENV_ERROR_1: builder_add(b, "{\"result\":null,\"error\":", 23); break;
  case ENV_SILENT:
  case ENV_RAW: break;
  }
}

void envelope_close(struct builder *b, enum envelope_style style, const char *id, uint32_t id_len) {
  if (style == ENV_RESULT_1)
    builder_add(b, ",\"error\":null,\"id\":", 19);
  else
    builder_add(b, ",\"id\":", 6);
  if (id_len)
    builder_add(b, id, id_len);
  else
    builder_add(b, "null", 4);
  builder_byte(b, '}');
}
