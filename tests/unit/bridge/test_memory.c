/* SPDX-License-Identifier: MIT */
/* test_memory.c -- Lua's memory is counted to the byte, capped, and kept small blocks are reused.
 */
#include "../unit.h"

#include "bridge/memory.h"

#include <lauxlib.h>
#include <lualib.h>

enum { PLENTY = 1 << 30, CACHED_MAX = 1024 * 1024 / 32 }; /* blocks of 32 bytes */

static void *make(struct memory *m, size_t size) {
  void *p = memory_allocate(m, NULL, LUA_TSTRING, size); /* old_size is a type then */
  assert_non_null(p);
  memset(p, 0xAB, size); /* the sanitizer checks that it is all there */
  return p;
}

static void drop(struct memory *m, void *p, size_t size) {
  assert_null(memory_allocate(m, p, size, 0));
}

static void use_is_counted_as_lua_asked(void **state) {
  (void)state;
  struct memory m = {.max = PLENTY};
  static const size_t sizes[] = {1, 15, 16, 17, 100, 255, 256, 257, 10000};
  size_t used = 0;
  void *blocks[COUNT(sizes)];
  for (size_t i = 0; i < COUNT(sizes); i++) {
    blocks[i] = make(&m, sizes[i]);
    used += sizes[i];
    assert_int_equal(m.used, used);
  }
  for (size_t i = 0; i < COUNT(sizes); i++) {
    drop(&m, blocks[i], sizes[i]);
    used -= sizes[i];
    assert_int_equal(m.used, used);
  }
  assert_int_equal(m.used, 0);
  memory_fini(&m);
}

static void nothing_is_nothing(void **state) {
  (void)state;
  struct memory m = {.max = PLENTY};
  assert_null(memory_allocate(&m, NULL, 0, 0)); /* lua frees NULL, too */
  assert_null(memory_allocate(&m, NULL, 7, 0));
  assert_int_equal(m.used, 0);
  memory_fini(&m);
}

static void the_cap_is_exact(void **state) {
  (void)state;
  struct memory m = {.max = 1000};
  void *a = make(&m, 400), *b = make(&m, 600);
  assert_null(memory_allocate(&m, NULL, 0, 1));
  assert_null(memory_allocate(&m, NULL, 0, SIZE_MAX));
  assert_int_equal(m.used, 1000);
  drop(&m, a, 400);
  assert_null(memory_allocate(&m, NULL, 0, 401));
  assert_null(memory_allocate(&m, b, 600, 1001)); /* b lives on */
  memset(b, 1, 600);
  b = memory_allocate(&m, b, 600, 1000);
  assert_non_null(b);
  assert_int_equal(m.used, 1000);
  assert_null(memory_allocate(&m, b, 1000, 1001));
  assert_int_equal(m.used, 1000);
  drop(&m, b, 1000);
  assert_int_equal(m.used, 0);
  memory_fini(&m);
}

static void a_cap_of_nothing_gives_nothing(void **state) {
  (void)state;
  struct memory m = {0};
  assert_null(memory_allocate(&m, NULL, 0, 1));
  memory_fini(&m);
}

/* Over all borders: within a class, between classes, out of the cache and back. */
static void resizing_keeps_the_bytes(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 8, 16, 17, 32, 240, 241, 256, 257, 300, 5000};
  for (size_t i = 0; i < COUNT(sizes); i++)
    for (size_t k = 0; k < COUNT(sizes); k++) {
      struct memory m = {.max = PLENTY};
      uint8_t *p = make(&m, sizes[i]);
      for (size_t j = 0; j < sizes[i]; j++) p[j] = (uint8_t)(j * 7);
      p = memory_allocate(&m, p, sizes[i], sizes[k]);
      assert_non_null(p);
      assert_int_equal(m.used, sizes[k]);
      for (size_t j = 0; j < sizes[i] && j < sizes[k]; j++)
        assert_int_equal(p[j], (uint8_t)(j * 7));
      memset(p, 0xCD, sizes[k]);
      drop(&m, p, sizes[k]);
      assert_int_equal(m.used, 0);
      memory_fini(&m);
    }
}

static void shrinking_works_at_the_cap(void **state) {
  (void)state;
  struct memory m = {.max = 5000};
  void *p = make(&m, 5000);
  static const size_t sizes[] = {4999, 300, 257, 256, 100, 16, 1};
  size_t old = 5000;
  for (size_t i = 0; i < COUNT(sizes); i++) {
    p = memory_allocate(&m, p, old, sizes[i]);
    assert_non_null(p);
    old = sizes[i];
    assert_int_equal(m.used, old);
  }
  drop(&m, p, old);
  memory_fini(&m);
}

static void small_blocks_are_kept_and_given_again(void **state) {
  (void)state;
  struct memory m = {.max = PLENTY};
  for (size_t size = 1; size <= MEMORY_GRAIN * MEMORY_CLASSES; size++) {
    size_t class = (size - 1) / MEMORY_GRAIN;
    void *p = make(&m, size);
    drop(&m, p, size);
    assert_int_equal(m.n_cached[class], 1);
    void *again = make(&m, class * MEMORY_GRAIN + 1); /* any size of its class */
    assert_ptr_equal(again, p);
    memset(again, 1, (class + 1) * MEMORY_GRAIN); /* the block is as large as its class */
    assert_int_equal(m.n_cached[class], 0);
    drop(&m, again, class * MEMORY_GRAIN + 1);
    void *other = make(&m, size);
    drop(&m, other, size);
    memory_fini(&m);
    assert_int_equal(m.n_cached[class], 0);
    assert_null(m.cached[class]);
  }
}

static void large_blocks_are_not_kept(void **state) {
  (void)state;
  struct memory m = {.max = PLENTY};
  void *p = make(&m, MEMORY_GRAIN * MEMORY_CLASSES + 1);
  drop(&m, p, MEMORY_GRAIN * MEMORY_CLASSES + 1);
  for (int i = 0; i < MEMORY_CLASSES; i++) assert_int_equal(m.n_cached[i], 0);
  memory_fini(&m);
}

static void a_burst_is_not_kept_for_ever(void **state) {
  (void)state;
  struct memory m = {.max = PLENTY};
  void **blocks = calloc(CACHED_MAX + 500, sizeof *blocks);
  assert_non_null(blocks);
  for (int i = 0; i < CACHED_MAX + 500; i++) blocks[i] = make(&m, 24);
  for (int i = 0; i < CACHED_MAX + 500; i++) drop(&m, blocks[i], 24);
  assert_int_equal(m.n_cached[1], CACHED_MAX);
  assert_int_equal(m.used, 0);
  memory_fini(&m);
  free(blocks);
}

static void random_use_adds_up(void **state) {
  (void)state;
  enum { BLOCKS = 200 };
  struct {
    uint8_t *p, mark;
    size_t size;
  } blocks[BLOCKS] = {0};
  struct memory m = {.max = 20000};
  uint64_t seed = 6;
  size_t used = 0;
  unsigned refused = 0;
  for (int round = 0; round < 50000; round++) {
    unsigned i = random_below(&seed, BLOCKS);
    size_t size = random_below(&seed, 4) ? random_below(&seed, 300) : 0;
    for (size_t k = 0; k < blocks[i].size; k++) assert_int_equal(blocks[i].p[k], blocks[i].mark);
    uint8_t *p = memory_allocate(&m, blocks[i].p, blocks[i].p ? blocks[i].size : 5, size);
    if (size && !p) { /* refused: only when it grows, and nothing has changed */
      assert_true(size > blocks[i].size);
      assert_true(used + size - blocks[i].size > m.max);
      refused++;
      continue;
    }
    used += size - blocks[i].size;
    assert_int_equal(m.used, used);
    assert_true(used <= m.max);
    for (size_t k = 0; k < size && k < blocks[i].size; k++) assert_int_equal(p[k], blocks[i].mark);
    blocks[i].p = p;
    blocks[i].size = size;
    blocks[i].mark = (uint8_t)next_random(&seed);
    if (size) memset(p, blocks[i].mark, size);
  }
  assert_true(refused > 100);
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].p) drop(&m, blocks[i].p, blocks[i].size);
  assert_int_equal(m.used, 0);
  memory_fini(&m);
}

static int l_devour(lua_State *L) {
  return luaL_dostring(L, "local t = {} for i = 1, 1e7 do t[i] = ('x'):rep(100) .. i end")
             ? lua_error(L)
             : 0;
}

static void lua_lives_on_after_reaching_the_cap(void **state) {
  (void)state;
  struct memory m = {.max = 1 << 20};
  lua_State *L = lua_newstate(memory_allocate, &m);
  assert_non_null(L);
  luaL_openlibs(L);
  for (int i = 0; i < 3; i++) {
    lua_pushcfunction(L, l_devour);
    assert_int_not_equal(lua_pcall(L, 0, 0, 0), LUA_OK);
    assert_non_null(strstr(lua_tostring(L, -1), "not enough memory"));
    lua_settop(L, 0);
    assert_true(m.used <= m.max);
    assert_int_equal(luaL_dostring(L, "return 6 * 7"), LUA_OK);
    assert_int_equal(lua_tointeger(L, -1), 42);
    lua_settop(L, 0);
  }
  /* Lua's own count and ours are the same number */
  size_t lua_says = (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB);
  assert_int_equal(m.used, lua_says);
  lua_close(L);
  assert_int_equal(m.used, 0);
  memory_fini(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(use_is_counted_as_lua_asked),
      cmocka_unit_test(nothing_is_nothing),
      cmocka_unit_test(the_cap_is_exact),
      cmocka_unit_test(a_cap_of_nothing_gives_nothing),
      cmocka_unit_test(resizing_keeps_the_bytes),
      cmocka_unit_test(shrinking_works_at_the_cap),
      cmocka_unit_test(small_blocks_are_kept_and_given_again),
      cmocka_unit_test(large_blocks_are_not_kept),
      cmocka_unit_test(a_burst_is_not_kept_for_ever),
      cmocka_unit_test(random_use_adds_up),
      cmocka_unit_test(lua_lives_on_after_reaching_the_cap),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
