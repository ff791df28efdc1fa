/* SPDX-License-Identifier: MIT */
/* test_routes.c -- routes are replaced as a whole, or not at all. */
#include "../unit.h"

#include "bridge/host.h"
#include "bridge/routes.h"

#include <lauxlib.h>
#include <lualib.h>

static struct host h;
static struct settings settings;
static int allocations_left = -1; /* -1: any number */

/* Fails when there are none left, after the collection that Lua tries then as well. */
static void *scarce(void *ud, void *old, size_t old_size, size_t new_size) {
  (void)ud;
  (void)old_size;
  if (new_size == 0) {
    free(old);
    return NULL;
  }
  if (!old && allocations_left == 0) return NULL;
  if (!old && allocations_left > 0) allocations_left--;
  return realloc(old, new_size);
}

static const char items[] =
    "return { { kind = 'consumer', path = '/chat', app = 'chat', record = {},"
    "           origins = { 'https://a.example', '.b.example' }, subprotocols = { 'chat' } },"
    "         { kind = 'consumer', path = '/room/:id', app = 'chat', record = {} },"
    "         { kind = 'public', prefix = '/chat/', dir = '/nowhere' } }";

static void push_items(void) {
  assert_int_equal(luaL_loadstring(h.L, items), LUA_OK);
  assert_int_equal(lua_pcall(h.L, 0, 1, 0), LUA_OK);
}

static int serve(void) {
  return lua_pcall(h.L, 1, 0, 0);
}

static int start(void **state) {
  (void)state;
  h.settings = &settings;
  h.L = lua_newstate(scarce, NULL);
  *(struct host **)lua_getextraspace(h.L) = &h;
  return 0;
}

static int stop(void **state) {
  (void)state;
  lua_close(h.L);
  routes_free(h.routes);
  consumers_free(&h);
  return 0;
}

static struct consumer *find(const char *path) {
  struct route route;
  assert_true(routes_find(h.routes, path, strlen(path), HTTP_POST, &route));
  free(route.file);
  return route.consumer;
}

static void assert_serves(void) {
  struct consumer *c = find("/chat");
  assert_non_null(c);
  assert_true(c->is_routed);
  assert_string_equal(c->origins[0], "https://a.example");
  assert_string_equal(c->origins[1], ".b.example");
  assert_null(c->origins[2]);
  assert_string_equal(c->subprotocols[0], "chat");
  assert_true(find("/room/7")->is_routed);
  assert_null(find("/other"));
}

static void exhausted_memory_leaves_the_old_routes(void **state) {
  (void)state;
  int failures = 0;
  lua_pushcfunction(h.L, l_serve);
  push_items();
  assert_int_equal(serve(), LUA_OK);
  for (int n = 0;; n++) {
    lua_settop(h.L, 0);
    lua_pushcfunction(h.L, l_serve);
    push_items();
    lua_gc(h.L, LUA_GCCOLLECT); /* names that nobody holds have to be made again */
    allocations_left = n;
    int status = serve();
    allocations_left = -1;
    assert_serves();
    if (status == LUA_OK) break;
    assert_int_equal(status, LUA_ERRMEM);
    failures++;
  }
  assert_true(failures > 20);
}

static void what_is_not_served_any_more_is_not_routed(void **state) {
  (void)state;
  struct consumer *chat = find("/chat");
  lua_pushcfunction(h.L, l_serve);
  lua_newtable(h.L);
  assert_int_equal(serve(), LUA_OK);
  assert_null(find("/chat"));
  assert_false(chat->is_routed); /* still there: connections may use it */
  lua_pushcfunction(h.L, l_serve);
  push_items();
  assert_int_equal(serve(), LUA_OK);
  assert_ptr_equal(find("/chat"), chat);
  assert_serves();
}

/* The file that a path asks for; NULL: it reaches for what is never served. */
static char *file_of(const char *path, size_t n) {
  struct route route;
  char *copy = exact_copy(path, n);
  bool is_well = routes_find(h.routes, copy, n, HTTP_GET, &route);
  free(copy);
  if (!is_well) {
    assert_null(route.file);
    return NULL;
  }
  assert_non_null(route.folder);
  return route.file;
}

static void a_file_is_named_plainly(void **state) {
  (void)state;
  static const struct {
    const char *path, *file;
  } good[] = {
      {"/chat/", ""},
      {"/chat/a.txt", "a.txt"},
      {"/chat/a%20b", "a b"},
      {"/chat/%C3%A9", "\xc3\xa9"},
      {"/chat/a/b.c/d", "a/b.c/d"},
      {"/chat/a~!", "a~!"},
      {"/chat/a/", "a/"},
  };
  static const char *const wrong[] = {
      "/chat/.",     "/chat/..",    "/chat/.env",  "/chat/a/.git/x", "/chat/a/..",  "/chat//",
      "/chat//etc",  "/chat/a//b",  "/chat/a/%2e", "/chat/%2Eenv",   "/chat/a%2fb", "/chat/a%2Fb",
      "/chat/a%5cb", "/chat/a%5Cb", "/chat/a\\b",  "/chat/a%00b",    "/chat/a%01b", "/chat/a%0ab",
      "/chat/a%1fb", "/chat/a%7fb", "/chat/\x1f",  "/chat/\x7f",     "/chat/%ff",   "/chat/%C3",
      "/chat/%",     "/chat/a%2",   "/chat/a%2g",  "/chat/\xc0\xaf",
  };
  lua_settop(h.L, 0);
  lua_pushcfunction(h.L, l_serve);
  push_items();
  assert_int_equal(serve(), LUA_OK);
  for (size_t i = 0; i < COUNT(good); i++) {
    char *file = file_of(good[i].path, strlen(good[i].path));
    if (!file || strcmp(file, good[i].file) != 0) fail_msg("%s: %s", good[i].path, file);
    free(file);
  }
  for (size_t i = 0; i < COUNT(wrong); i++)
    if (file_of(wrong[i], strlen(wrong[i]))) fail_msg("%s", wrong[i]);
  assert_null(file_of("/chat/a\0b", 9));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exhausted_memory_leaves_the_old_routes),
      cmocka_unit_test(what_is_not_served_any_more_is_not_routed),
      cmocka_unit_test(a_file_is_named_plainly),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
