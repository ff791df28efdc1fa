/* SPDX-License-Identifier: MIT */
/* fuzz_envelope.c -- any text: the members found are those that a plain reading of the JSON finds.
 */
#include "../fuzz.h"
#include "values.h"

#include "bridge/envelope.h"
#include "wire/utf8.h"

static struct json_scratch scratch;

/* What is wrong with the text as a whole; NULL: it is JSON. */
static const char *json_fault(const char *text, size_t n) {
  struct json_reader r;
  json_reader_init(&r, text, n, NULL, &scratch, MT);
  if (json_skip(&r) != JSON_OK) return r.error;
  return json_at_end(&r) ? NULL : "more behind the value";
}

static bool is_json(const char *text, size_t n) {
  return !json_fault(text, n);
}

static bool is_within(struct envelope_span span, const char *text, size_t n) {
  if (span.len == 0) return true;
  return span.at >= text && span.at + span.len <= text + n && is_json(span.at, span.len);
}

/* Pushes the value of a span, or nil. */
static void push_span(lua_State *L, struct envelope_span span) {
  struct json_reader r;
  if (span.len) json_reader_init(&r, span.at, span.len, NULL, &scratch, MT);
  if (span.len == 0 || json_read_text(L, &r) != JSON_OK) lua_pushnil(L);
}

/* The bits that a member of the message's table, at `index`, should have given. */
static uint32_t expected_bits(lua_State *L, int index) {
  uint32_t bits = 0;
  int top = lua_gettop(L);
  switch (lua_getfield(L, index, "jsonrpc")) {
  case LUA_TNIL: break;
  case LUA_TSTRING:
    bits |= lua_rawlen(L, -1) == 3 && strcmp(lua_tostring(L, -1), "2.0") == 0 ? ENV_VERSION_2
                                                                              : ENV_VERSION_OTHER;
    break;
  default: bits |= ENV_VERSION_OTHER;
  }
  switch (lua_getfield(L, index, "method")) {
  case LUA_TNIL: break;
  case LUA_TSTRING: bits |= ENV_METHOD; break;
  default: bits |= ENV_METHOD_BAD;
  }
  switch (lua_getfield(L, index, "params")) {
  case LUA_TNIL: break;
  case LUA_TTABLE: bits |= lua_getmetatable(L, -1) ? ENV_PARAMS_ARRAY : ENV_PARAMS_OBJECT; break;
  case LUA_TLIGHTUSERDATA: bits |= ENV_PARAMS_NULL; break;
  default: bits |= ENV_PARAMS_OTHER;
  }
  switch (lua_getfield(L, index, "id")) {
  case LUA_TNIL: break;
  case LUA_TLIGHTUSERDATA: bits |= ENV_ID_NULL; break;
  case LUA_TSTRING:
  case LUA_TNUMBER: bits |= ENV_ID; break; /* or ENV_ID_BAD, when too long */
  default: bits |= ENV_ID_BAD;
  }
  if (lua_getfield(L, index, "result") != LUA_TNIL) bits |= ENV_RESULT;
  if (lua_getfield(L, index, "error") != LUA_TNIL) bits |= ENV_ERROR;
  lua_settop(L, top);
  return bits;
}

static void look_at(lua_State *L, const char *text, size_t n) {
  static const struct json_limits limits = {.depth = 3, .array = 5, .string = 10};
  struct envelope e;
  struct json_reader r;
  memset(&e, 0xEE, sizeof e);
  envelope_read(&e, text, n, &scratch);
  check(is_within(e.method, text, n) && is_within(e.params, text, n) && is_within(e.id, text, n));
  check(is_within(e.result, text, n) && is_within(e.error, text, n));
  check(e.id.len <= ENVELOPE_ID_MAX + 2 * (e.id.len && *e.id.at == '"') &&
        (e.id.len > 0) == ((e.bits & ENV_ID) != 0));

  json_reader_init(&r, text, n, NULL, &scratch, MT);
  int top = lua_gettop(L);
  enum json_status status = json_read_text(L, &r);
  /* asked of the skipping, as the reading may have found a number out of range before that */
  const char *fault = json_fault(text, n);
  if (e.bits & ENV_MALFORMED) {
    check(e.bits == ENV_MALFORMED && e.reader.error && *e.reader.error);
    check(e.reader.at >= text && e.reader.at <= text + n);
    check(fault && status != JSON_OK);
  } else if (fault) { /* members count from level 0, so one level more will do */
    check(strcmp(fault, "nested too deeply") == 0 && status != JSON_OK);
  } else {
    check(status != JSON_MALFORMED);
  }
  if (status == JSON_OK && lua_istable(L, -1) && !lua_getmetatable(L, -1)) {
    uint32_t bits = expected_bits(L, top + 1), found = e.bits;
    if (found & ENV_ID_BAD && bits & ENV_ID) { /* too long */
      bits ^= ENV_ID | ENV_ID_BAD;
    }
    check(found == bits);
  } else if (status == JSON_OK) {
    check(e.bits == ENV_NOT_OBJECT);
  }
  lua_settop(L, top);

  envelope_push(L, &e, &limits, MT);
  check(lua_gettop(L) == top + 3);
  check((lua_type(L, top + 1) == LUA_TSTRING) == ((e.bits & ENV_METHOD) != 0));
  if (e.bits & ENV_METHOD) {
    push_span(L, e.method);
    check(is_same_value(L, -1, top + 1));
  }
  if (e.bits & (ENV_OVER_LIMIT | ENV_OUT_OF_RANGE)) {
    check(lua_isnil(L, top + 2));
    check(!(e.bits & ENV_OVER_LIMIT) || e.reader.limit);
  } else {
    push_span(L, e.params);
    check(is_same_value(L, -1, top + 2));
  }
  if (e.bits & ENV_ID)
    check(lua_type(L, top + 3) == LUA_TSTRING || lua_type(L, top + 3) == LUA_TNUMBER);
  else
    check(lua_type(L, top + 3) == (e.bits & ENV_ID_NULL ? LUA_TLIGHTUSERDATA : LUA_TNIL));
  lua_settop(L, top);
}

static void look_at_batch(lua_State *L, const char *text, size_t n) {
  enum { MAX = 8 };
  struct envelope_span members[MAX] = {0};
  const char *error = NULL;
  size_t at = 0;
  int count = envelope_split(text, n, members, MAX, &error, &at);
  if (count < 0) {
    check(error && *error && at <= n && !is_json(text, n));
    return;
  }
  struct json_reader r;
  json_reader_init(&r, text, n, NULL, &scratch, MT);
  int top = lua_gettop(L);
  enum json_status status = json_read_text(L, &r);
  if (status == JSON_OK) check((int)lua_rawlen(L, -1) == count);
  if (status == JSON_MALFORMED) check(strcmp(r.error, "nested too deeply") == 0);
  for (int i = 0; i < count && i < MAX; i++) {
    check(members[i].len > 0 && is_within(members[i], text, n));
    if (status == JSON_OK) {
      lua_rawgeti(L, top + 1, i + 1);
      push_span(L, members[i]);
      check(is_same_value(L, -1, -2));
      lua_settop(L, top + 1);
    }
  }
  lua_settop(L, top);
  for (int i = 0; i < count && i < MAX; i++) { /* each as if it had come alone */
    char *copy = exact_copy(members[i].at, members[i].len);
    look_at(L, copy, members[i].len);
    free(copy);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  lua_State *L = fresh_state();
  if (!utf8_is_valid(data, n)) return 0;
  char *text = exact_copy(data, n);
  look_at(L, text, n);
  if (envelope_is_batch(text, n)) look_at_batch(L, text, n);
  free(text);
  return 0;
}
