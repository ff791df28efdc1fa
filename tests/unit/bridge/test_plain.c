/* SPDX-License-Identifier: MIT */
/* test_plain.c -- plain values come back as they were, and what cannot cross is refused. */
#include "../unit.h"

#include "bridge/plain.h"
#include "bridge/task.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

static lua_State *L;
static int array_mt; /* registry reference */
static const void *array_id;

static int start(void **state) {
  (void)state;
  L = luaL_newstate();
  luaL_openlibs(L);
  lua_newtable(L);
  array_id = lua_topointer(L, -1);
  array_mt = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static int stop(void **state) {
  (void)state;
  lua_close(L);
  return 0;
}

/* Pushes what a chunk returns; returns how many. */
static int push(const char *chunk) {
  lua_settop(L, 0);
  assert_int_equal(luaL_loadstring(L, chunk), LUA_OK);
  assert_int_equal(lua_pcall(L, 0, LUA_MULTRET, 0), LUA_OK);
  return lua_gettop(L);
}

static void values_come_back(void **state) {
  (void)state;
  struct builder b = {0};
  const char *what = NULL;
  int n = push("return 1, -1.5, 'a\\0b', true, nil, {x = {1, 2}, [3] = 'y'}, false");
  builder_begin(&b);
  assert_true(plain_write(L, &b, 1, n, array_id, NULL, &what));
  assert_int_equal(lua_gettop(L), n);
  assert_int_equal(plain_read(L, builder_data(&b), builder_len(&b), array_mt), n);
  for (int i = 1; i <= n; i++)
    if (i != 6) assert_true(lua_rawequal(L, i, n + i));
  lua_getfield(L, n + 6, "x");
  lua_rawgeti(L, -1, 2);
  assert_int_equal(lua_tointeger(L, -1), 2);
  builder_abort(&b);
  builder_fini(&b);
}

static void what_is_not_plain_is_named(void **state) {
  (void)state;
  static const char *const chunks[][2] = {
      {"return print", "function"},
      {"return {a = {coroutine.create(print)}}", "thread"},
      {"return setmetatable({}, {})", "a table with a metatable"},
      {"local t = {} t[1] = t return t", "tables nested too deeply (a cycle?)"},
  };
  for (size_t i = 0; i < COUNT(chunks); i++) {
    struct builder b = {0};
    const char *what = NULL;
    int n = push(chunks[i][0]);
    builder_begin(&b);
    assert_false(plain_write(L, &b, 1, n, array_id, NULL, &what));
    assert_string_equal(what, chunks[i][1]);
    assert_int_equal(lua_gettop(L), n);
    builder_abort(&b);
    builder_fini(&b);
  }
}

static void tables_may_lie_a_hundred_deep(void **state) {
  (void)state;
  static const char chunk[] =
      "local t = {} for _ = 2, 100 do t = {t} end return t, {t}, {[t] = 1}, {{t}}";
  int n = push(chunk);
  assert_int_equal(n, 4);
  for (int i = 1; i <= n; i++) {
    struct builder b = {0};
    const char *what = NULL;
    builder_begin(&b);
    assert_int_equal(plain_write(L, &b, i, 1, array_id, NULL, &what), i == 1);
    if (i == 1) assert_int_equal(plain_read(L, builder_data(&b), builder_len(&b), array_mt), 1);
    if (i > 1) assert_string_equal(what, "tables nested too deeply (a cycle?)");
    lua_settop(L, n);
    builder_abort(&b);
    builder_fini(&b);
  }
}

/* A builder whose message has all but `room` of the bytes it may have. None of them is touched. */
static void begin_full(struct builder *b, size_t room) {
  builder_begin(b);
  buf_unref(b->buf);
  b->buf = buf_new(BUF_MAX);
  b->start = 0;
  b->end = (uint32_t)(BUF_MAX - room);
}

/* Half of a message must never cross: who reads it would run off its end. */
static void too_much_is_refused_and_not_cut(void **state) {
  (void)state;
  static const char *const chunks[] = {
      "return ('x'):rep(100)",
      "return 1, ('x'):rep(100), 2",
      "return {('x'):rep(100), {}}",
      /* 2^60 leaves, if anybody went on counting */
      "local t = {('x'):rep(100)} for _ = 1, 60 do t = {t, t} end return t",
  };
  for (size_t i = 0; i < COUNT(chunks); i++) {
    struct builder b = {0};
    const char *what = NULL;
    int n = push(chunks[i]);
    begin_full(&b, 50);
    assert_false(plain_write(L, &b, 1, n, array_id, NULL, &what));
    assert_string_equal(what, "more than 1 GiB");
    builder_abort(&b);
    builder_fini(&b);
  }
}

/* What would go on for ever ends with the slice. */
static void the_end_of_a_slice_ends_it(void **state) {
  (void)state;
  struct slice_watch slice = {0};
  struct builder b = {0};
  const char *what = NULL;
  int n = push("local t = {} for _ = 1, 60 do t = {t, t} end return t");
  atomic_store(&slice.request, SLICE_STOP);
  builder_begin(&b);
  assert_false(plain_write(L, &b, 1, n, array_id, &slice, &what));
  assert_non_null(strstr(what, "in time"));
  assert_int_equal(lua_gettop(L), n);
  builder_abort(&b);
  builder_begin(&b); /* a warning is no end */
  atomic_store(&slice.request, SLICE_WARN);
  n = push("return {1, {2}}");
  assert_true(plain_write(L, &b, 1, n, array_id, &slice, &what));
  builder_abort(&b);
  builder_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_come_back),
      cmocka_unit_test(what_is_not_plain_is_named),
      cmocka_unit_test(tables_may_lie_a_hundred_deep),
      cmocka_unit_test(too_much_is_refused_and_not_cut),
      cmocka_unit_test(the_end_of_a_slice_ends_it),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
