/* SPDX-License-Identifier: MIT */
/* fuzz_json.c -- any text: what is read can be written and comes back the same, limits hold. */
#include "../fuzz.h"
#include "values.h"

#include "bridge/json.h"
#include "wire/utf8.h"

static struct json_scratch scratch;

/* How far a value goes, in the terms of struct json_limits. */
static void measure(lua_State *L, int index, uint32_t level, struct json_limits *most) {
  size_t n;
  if (level > most->depth) most->depth = level;
  if (lua_type(L, index) == LUA_TSTRING) {
    lua_tolstring(L, index, &n);
    if (n > most->string) most->string = (uint32_t)n;
  }
  if (!lua_istable(L, index)) return;
  index = lua_absindex(L, index);
  luaL_checkstack(L, 8, NULL);
  if (lua_getmetatable(L, index)) {
    lua_pop(L, 1);
    n = lua_rawlen(L, index);
    if (n > most->array) most->array = (uint32_t)n;
  }
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING) measure(L, -2, level + 1, most);
    measure(L, -1, level + 1, most);
  }
}

static void assert_path(const char *path, size_t at) {
  check(at < JSON_PATH_MAX && path[JSON_PATH_MAX - 1] == '\0');
  check(utf8_is_valid((const uint8_t *)path + at, strlen(path + at))); /* it goes into an answer */
}

/* Reads; pushes the value when the text is good. */
static enum json_status read_text(lua_State *L, struct json_reader *r, const char *text, size_t n,
                                  const struct json_limits *limits) {
  char *s = exact_copy(text, n);
  int top = lua_gettop(L);
  json_reader_init(r, s, n, limits, &scratch, MT);
  enum json_status status = json_read_text(L, r);
  check(lua_gettop(L) == top + (status == JSON_OK));
  check(r->at >= r->start && r->at <= r->end);
  check((r->error != NULL) == (status == JSON_MALFORMED));
  check((r->limit != NULL) == (status == JSON_LIMIT));
  assert_path(r->path, r->path_at);
  free(s); /* nothing that was read may point into it */
  return status;
}

/* Writes the value on top of the stack and reads it again. */
static void write_and_read(lua_State *L) {
  struct json_reader r;
  struct json_writer w;
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  json_writer_init(&w, &b, lua_topointer(L, MT));
  check(json_write(L, &w, -1)); /* whatever was read has a form */
  check(builder_commit(&b, &s));
  check(utf8_is_valid(slice_data(&s), s.len));
  check(read_text(L, &r, (const char *)slice_data(&s), s.len, NULL) == JSON_OK);
  check(is_same_value(L, -1, -2));
  lua_pop(L, 1);
  builder_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct json_reader r;
  lua_State *L = fresh_state();
  if (!utf8_is_valid(data,
                     n)) { /* the reader must be spared that; a string can be tried to write */
    struct builder b = {0};
    struct json_writer w;
    builder_begin(&b);
    json_writer_init(&w, &b, lua_topointer(L, MT));
    check(!json_write_string(&w, (const char *)data, n) && w.error);
    builder_fini(&b);
    return 0;
  }
  const char *text = (const char *)data;
  enum json_status status = read_text(L, &r, text, n, NULL);
  check(status != JSON_LIMIT);

  struct json_reader skip; /* skipping checks the grammar, and all of it */
  char *copy = exact_copy(text, n);
  json_reader_init(&skip, copy, n, NULL, &scratch, MT);
  bool is_json = json_skip(&skip) == JSON_OK && json_at_end(&skip);
  free(copy);
  if (status == JSON_OK) check(is_json);
  if (status == JSON_MALFORMED) check(!is_json);

  lua_pushlstring(L, text, n); /* any text is a string as well */
  write_and_read(L);
  lua_pop(L, 1);
  if (status != JSON_OK) return 0;
  write_and_read(L);

  /* limits: told exactly when the value is over one; values that a later equal key replaced are
   * judged as well, so a text may be over a limit though its value is not */
  struct json_limits most = {0},
                     limits = {.depth = 1 + n % 5, .array = 1 + n % 7, .string = 1 + n % 11};
  measure(L, -1, 0, &most);
  bool is_over =
      most.depth > limits.depth || most.array > limits.array || most.string > limits.string;
  status = read_text(L, &r, text, n, &limits);
  check(status == JSON_OK || status == JSON_LIMIT);
  if (is_over) check(status == JSON_LIMIT);
  if (status == JSON_OK) {
    check(is_same_value(L, -1, -2));
  } else {
    check(r.max == (*r.limit == 'd'   ? limits.depth
                    : *r.limit == 'a' ? limits.array
                                      : limits.string));
  }
  return 0;
}
