/* SPDX-License-Identifier: MIT */
/* envelope.c -- the members of a JSON-RPC message: read from text, written around a result.
 *
 * Reading the members here and not in Lua saves a table per message, and lets the id's own bytes go
 * back untouched: 1e2, 10000000000000000000001 and "\u00e9" stay what the client wrote. */
#include "bridge/envelope.h"

#include <string.h>

/* ---- reading --------------------------------------------------------------------------------------- */

static bool is_key(const char *key, size_t n, const char *name) {
  return n == strlen(name) && memcmp(key, name, n) == 0;
}

/* The value at r->at, unread, as a span. */
static enum json_status skip_span(struct json_reader *r, struct envelope_span *span) {
  json_at_end(r); /* to its first byte */
  span->at = r->at;
  enum json_status status = json_skip(r);
  span->len = (uint32_t)(r->at - span->at);
  return status;
}

static enum json_status read_version(struct envelope *e) {
  struct envelope_span span;
  enum json_status status = skip_span(&e->reader, &span);
  if (status != JSON_OK) return status;
  e->bits &= ~(uint32_t)(ENV_VERSION_2 | ENV_VERSION_OTHER);
  bool is_2 = span.len == 5 && memcmp(span.at, "\"2.0\"", 5) == 0;
  if (!is_2 && span.len > 5 && span.at[0] == '"' && memchr(span.at, '\\', span.len)) {
    const char *s; /* "2.\u0030" is the same string */
    size_t n;
    struct json_reader again = e->reader;
    again.at = span.at;
    is_2 = json_read_bytes(&again, &s, &n) == JSON_OK && is_key(s, n, "2.0");
  }
  e->bits |= is_2 ? ENV_VERSION_2 : ENV_VERSION_OTHER;
  return JSON_OK;
}

static enum json_status read_method(lua_State *L, struct envelope *e, int slot) {
  struct json_reader *r = &e->reader;
  e->bits &= ~(uint32_t)(ENV_METHOD | ENV_METHOD_BAD);
  json_at_end(r);
  if (r->at >= r->end || *r->at != '"') {
    e->bits |= ENV_METHOD_BAD;
    lua_pushnil(L);
    lua_replace(L, slot);
    return json_skip(r);
  }
  const char *s;
  size_t n;
  enum json_status status = json_read_bytes(r, &s, &n);
  if (status != JSON_OK) return status;
  lua_pushlstring(L, s, n);
  lua_replace(L, slot);
  e->bits |= ENV_METHOD;
  return JSON_OK;
}

static enum json_status read_params(lua_State *L, struct envelope *e, int slot) {
  struct json_reader *r = &e->reader;
  e->bits &= ~(uint32_t)(ENV_PARAMS_ARRAY | ENV_PARAMS_OBJECT | ENV_PARAMS_NULL | ENV_PARAMS_OTHER |
                         ENV_OVER_LIMIT | ENV_OUT_OF_RANGE);
  json_at_end(r);
  const char *start = r->at;
  char first = r->at < r->end ? *r->at : '\0';
  e->bits |= first == '['   ? ENV_PARAMS_ARRAY
             : first == '{' ? ENV_PARAMS_OBJECT
             : first == 'n' ? ENV_PARAMS_NULL
                            : ENV_PARAMS_OTHER;
  enum json_status status = json_read(L, r);
  if (status == JSON_OK) {
    lua_replace(L, slot);
    return JSON_OK;
  }
  lua_pushnil(L);
  lua_replace(L, slot);
  if (status == JSON_MALFORMED) return status;
  /* Too much of it, but is it JSON? A parse error anywhere in the text comes first. */
  e->bits |= status == JSON_LIMIT ? ENV_OVER_LIMIT : ENV_OUT_OF_RANGE;
  r->at = start;
  return json_skip(r);
}

static enum json_status read_id(lua_State *L, struct envelope *e, int slot) {
  struct json_reader *r = &e->reader;
  struct envelope_span span;
  enum json_status status = skip_span(r, &span);
  if (status != JSON_OK) return status;
  e->bits &= ~(uint32_t)(ENV_ID | ENV_ID_NULL | ENV_ID_BAD);
  e->id = (struct envelope_span){0};
  char first = span.at[0];
  if (first == 'n') {
    e->bits |= ENV_ID_NULL;
    lua_pushlightuserdata(L, NULL);
  } else if (first == 't' || first == 'f' || first == '[' || first == '{' ||
             span.len > ENVELOPE_ID_MAX) {
    e->bits |= ENV_ID_BAD;
    lua_pushnil(L);
  } else {
    e->bits |= ENV_ID;
    e->id = span;
    struct json_reader again = *r;
    again.at = span.at;
    again.limits = (struct json_limits){0};
    if (json_read(L, &again) != JSON_OK) lua_pushlstring(L, span.at, span.len); /* 30 digits */
  }
  lua_replace(L, slot);
  return JSON_OK;
}

static enum json_status read_member(lua_State *L, struct envelope *e, const char *key, size_t n,
                                    int slot) {
  struct json_reader *r = &e->reader;
  switch (n) {
  case 2:
    if (is_key(key, n, "id")) return read_id(L, e, slot + 2);
    break;
  case 5:
    if (!is_key(key, n, "error")) break;
    e->bits |= ENV_ERROR;
    return skip_span(r, &e->error);
  case 6:
    if (is_key(key, n, "method")) return read_method(L, e, slot);
    if (is_key(key, n, "params")) return read_params(L, e, slot + 1);
    if (!is_key(key, n, "result")) break;
    e->bits |= ENV_RESULT;
    return skip_span(r, &e->result);
  case 7:
    if (is_key(key, n, "jsonrpc")) return read_version(e);
    break;
  default: break;
  }
  return json_skip(r);
}

static enum json_status read_members(lua_State *L, struct envelope *e, int slot) {
  struct json_reader *r = &e->reader;
  r->at++;
  if (json_at_end(r)) goto cut;
  if (*r->at == '}') {
    r->at++;
    return JSON_OK;
  }
  for (;;) {
    const char *key;
    size_t n;
    if (json_at_end(r)) goto cut;
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
    status = read_member(L, e, key, n, slot);
    if (status != JSON_OK) return status;
    if (json_at_end(r)) goto cut;
    char c = *r->at;
    if (c != ',' && c != '}') {
      r->error = "',' or '}' expected";
      return JSON_MALFORMED;
    }
    r->at++;
    if (c == '}') return JSON_OK;
  }
cut:
  r->error = "object without an end";
  return JSON_MALFORMED;
}

void envelope_read(lua_State *L, struct envelope *e, const char *text, size_t n,
                   const struct json_limits *limits, struct json_scratch *scratch, int array_mt,
                   int slot) {
  struct json_reader *r = &e->reader;
  e->bits = 0;
  e->id = e->result = e->error = (struct envelope_span){0};
  json_reader_init(r, text, n, limits, scratch, array_mt);
  enum json_status status;
  if (json_at_end(r)) {
    r->error = "empty message";
    status = JSON_MALFORMED;
  } else if (*r->at == '{') {
    status = read_members(L, e, slot);
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
    e->id = (struct envelope_span){0};
  }
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

/* ---- writing --------------------------------------------------------------------------------------- */

void envelope_open(struct builder *b, enum envelope_style style) {
  switch (style) {
  case ENV_RESULT_2: builder_add(b, "{\"jsonrpc\":\"2.0\",\"result\":", 26); break;
  case ENV_ERROR_2: builder_add(b, "{\"jsonrpc\":\"2.0\",\"error\":", 25); break;
  case ENV_RESULT_1: builder_add(b, "{\"result\":", 10); break;
  case ENV_ERROR_1: builder_add(b, "{\"result\":null,\"error\":", 23); break;
  case ENV_SILENT: break;
  }
}

void envelope_close(struct builder *b, enum envelope_style style, const char *id,
                    uint32_t id_len) {
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
