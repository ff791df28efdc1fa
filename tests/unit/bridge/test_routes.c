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
      "/chat/%",     "/chat/a%2",   "/chat/a%2g",  "/chat/\xc0\xaf", "/chat/a%2f",  "/chat/%5C",
      "/chat/%2f",
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

/* Serves the list that this Lua code makes. */
static int serve_code(const char *code) {
  lua_settop(h.L, 0);
  lua_pushcfunction(h.L, l_serve);
  if (luaL_dostring(h.L, code) != LUA_OK) fail_msg("%s", lua_tostring(h.L, -1));
  return serve();
}

static const char *path_of(const struct consumer *c) {
  return c ? c->path : "-";
}

static const char many[] =
    "local function consumer(path, plain)"
    "  return { kind = 'consumer', path = path, app = 'app', record = {}, plain = plain } end "
    "local function route(owner, path, ...)"
    "  return { kind = 'route', owner = owner, path = path, methods = { ... } } end "
    "return { consumer '/chat', consumer('/web', true), consumer('/other', true), consumer "
    "'/r/:id',"
    "  route(1, '/chat', 'GET', 'PUT'), route(2, '/web/list', 'POST'), route(2, '/web/:id', 'GET'),"
    "  route(3, '/web/:name', 'DELETE'), route(3, '/web/:a/:b', 'PATCH'),"
    "  route(2, '/web/*', 'GET', 'PATCH'), route(2, '/caf\xc3\xa9', 'GET'),"
    "  route(2, '/all/*', 'GET'), { kind = 'public', prefix = '/all/', dir = '/d' } }";

/* A route in one text: who has what, the pattern, whether its handler is for the method, and what
 * Allow says. */
static const char *described(const char *path, unsigned method) {
  static char text[300];
  char allow[ROUTES_ALLOW_MAX] = "";
  struct route route;
  char *copy = exact_copy(path, strlen(path));
  bool is_well = routes_find(h.routes, copy, strlen(path), method, &route);
  free(copy);
  assert_true(is_well);
  size_t len = routes_allow(&route, allow);
  assert_int_equal(len, strlen(allow));
  snprintf(text, sizeof text, "%s %s %s %s [%s]%s%s", path_of(route.consumer), path_of(route.web),
           route.pattern ? route.pattern : "-", route.has_handler ? "yes" : "no", allow,
           route.folder ? " " : "", route.file ? route.file : "");
  free(route.file);
  return text;
}

static void each_path_has_its_answer(void **state) {
  (void)state;
  static const struct {
    const char *path;
    unsigned method;
    const char *expected;
  } cases[] = {
      {"/chat", HTTP_POST, "/chat /chat /chat no [GET, HEAD, POST, PUT]"},
      {"/chat", HTTP_GET, "/chat /chat /chat yes [GET, HEAD, POST, PUT]"},
      {"/chat", HTTP_HEAD, "/chat /chat /chat yes [GET, HEAD, POST, PUT]"},
      {"/chat", HTTP_PUT, "/chat /chat /chat yes [GET, HEAD, POST, PUT]"},
      {"/%63hat", HTTP_PUT, "/chat /chat /chat yes [GET, HEAD, POST, PUT]"},
      {"/chat/", HTTP_GET, "- - - no []"},
      {"/cha", HTTP_GET, "- - - no []"},
      {"/web", HTTP_GET, "- - - no []"}, /* a consumer that only has routes */
      {"/r/1", HTTP_POST, "/r/:id - - no [POST]"},
      {"/r/", HTTP_POST, "- - - no []"},
      {"/r/1/2", HTTP_POST, "- - - no []"},
      /* the first that has a handler for the method, and of all what they have */
      {"/web/list", HTTP_POST, "- /web /web/list yes [POST]"},
      {"/web/list", HTTP_GET, "- /web /web/:id yes [GET, HEAD, POST, PATCH, DELETE]"},
      {"/web/list", HTTP_DELETE, "- /other /web/:name yes [GET, HEAD, POST, PATCH, DELETE]"},
      {"/web/list", HTTP_PUT, "- /web /web/list no [GET, HEAD, POST, PATCH, DELETE]"},
      {"/web/7", HTTP_GET, "- /web /web/:id yes [GET, HEAD, PATCH, DELETE]"},
      {"/web/7", HTTP_PATCH, "- /web /web/* yes [GET, HEAD, PATCH, DELETE]"},
      {"/web/7", HTTP_POST, "- /web /web/:id no [GET, HEAD, PATCH, DELETE]"},
      {"/web/7/8", HTTP_PATCH, "- /other /web/:a/:b yes [GET, HEAD, PATCH]"},
      {"/web/7/8", HTTP_GET, "- /web /web/* yes [GET, HEAD, PATCH]"},
      {"/web/", HTTP_GET, "- /web /web/* yes [GET, HEAD, PATCH]"},
      {"/web/7/", HTTP_GET, "- /web /web/* yes [GET, HEAD, PATCH]"},
      /* what would decode to a way up, or to no text, is captured by nobody */
      {"/web/a%20b", HTTP_GET, "- /web /web/:id yes [GET, HEAD, PATCH, DELETE]"},
      {"/web/.", HTTP_GET, "- - - no []"},
      {"/web/..", HTTP_GET, "- - - no []"},
      {"/web/...", HTTP_GET, "- /web /web/:id yes [GET, HEAD, PATCH, DELETE]"},
      {"/web/.a", HTTP_GET, "- /web /web/:id yes [GET, HEAD, PATCH, DELETE]"},
      {"/web/a.", HTTP_GET, "- /web /web/:id yes [GET, HEAD, PATCH, DELETE]"},
      {"/web/%2e%2E", HTTP_GET, "- - - no []"},
      {"/web/a/../b", HTTP_GET, "- - - no []"},
      {"/web/a%2f..", HTTP_GET, "- - - no []"},
      {"/web/..%5ca", HTTP_GET, "- - - no []"},
      {"/web/%ff", HTTP_GET, "- - - no []"},
      {"/web/%2", HTTP_GET, "- - - no []"},
      /* characters may be encoded or not */
      {"/caf%C3%A9", HTTP_GET, "- /web /caf\xc3\xa9 yes [GET, HEAD]"},
      {"/caf%c3", HTTP_GET, "- - - no []"},
      {"%", HTTP_GET, "- - - no []"},
      /* a pattern goes before a folder */
      {"/all/x", HTTP_GET, "- /web /all/* yes [GET, HEAD]"},
      {"/all/%41", HTTP_POST, "- /web /all/* no [GET, HEAD]"},
      {"/all", HTTP_GET, "- - - no []"},
      {"/web/7", HTTP_OPTIONS, "- /web /web/:id no [GET, HEAD, PATCH, DELETE]"},
  };
  if (serve_code(many) != LUA_OK) fail_msg("%s", lua_tostring(h.L, -1));
  for (size_t i = 0; i < COUNT(cases); i++) {
    const char *text = described(cases[i].path, cases[i].method);
    if (strcmp(text, cases[i].expected) != 0)
      fail_msg("%u %s: %s\nin place of: %s", cases[i].method, cases[i].path, text,
               cases[i].expected);
  }
}

static void a_folder_is_below_its_path(void **state) {
  (void)state;
  assert_null(routes_folder_below(NULL, "/all", 4));
  assert_int_equal(serve_code("return { { kind = 'public', prefix = '/a/', dir = '/1' },"
                              "         { kind = 'public', prefix = '/all/', dir = '/2' } }"),
                   LUA_OK);
  static const struct {
    const char *path, *dir;
  } cases[] = {
      {"/a", "/1"}, {"/all", "/2"}, {"/al", NULL},  {"/all/", NULL},
      {"", NULL},   {"/b", NULL},   {"/alx", NULL}, {"/alls", NULL},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    char *copy = exact_copy(cases[i].path, strlen(cases[i].path));
    const struct public_folder *f = routes_folder_below(h.routes, copy, strlen(cases[i].path));
    free(copy);
    if (!cases[i].dir != !f || (f && strcmp(f->dir, cases[i].dir) != 0))
      fail_msg("%s: %s", cases[i].path, f ? f->dir : "nothing");
  }
}

static void before_routes_there_are_none(void **state) {
  (void)state;
  struct route route;
  assert_true(routes_find(NULL, "/chat", 5, HTTP_GET, &route));
  assert_null(route.consumer);
  assert_null(route.web);
  assert_null(route.folder);
}

static void what_a_consumer_is_told_it_is(void **state) {
  (void)state;
  settings.call.params = (struct json_limits){.depth = 1, .array = 2, .values = 3, .string = 4};
  settings.call.method = 5;
  settings.call.batch = 6;
  settings.call.calls = 7;
  settings.conn.http.body = 8;
  settings.conn.ws = (struct ws_limits){.message = 9, .fragments = 10, .may_deflate = true};
  static const char *const flags[] = {"raw",        "strict",  "connect",
                                      "disconnect", "receive", "mapped"};
  char code[300];
  for (size_t i = 0; i < COUNT(flags); i++) {
    snprintf(code, sizeof code,
             "return { { kind = 'consumer', path = '/c', app = 'a', record = {}, %s = true } }",
             flags[i]);
    assert_int_equal(serve_code(code), LUA_OK);
    struct consumer *c = find("/c");
    const bool is[] = {c->is_raw,         c->is_strict,   c->has_connect,
                       c->has_disconnect, c->has_receive, c->is_http_mapped};
    for (size_t k = 0; k < COUNT(is); k++)
      if (is[k] != (i == k)) fail_msg("%s when told %s", flags[k], flags[i]);
  }
  struct consumer *c = find("/c");
  assert_int_equal(c->limits.params.depth, 1);
  assert_int_equal(c->limits.params.array, 2);
  assert_int_equal(c->limits.params.values, 3);
  assert_int_equal(c->limits.params.string, 4);
  assert_int_equal(c->limits.method, 5);
  assert_int_equal(c->limits.batch, 6);
  assert_int_equal(c->limits.calls, 7);
  assert_int_equal(c->body, 8);
  assert_int_equal(c->ws.message, 9);
  assert_int_equal(c->ws.fragments, 10);
  assert_true(c->ws.may_deflate);
  assert_null(c->origins);
  assert_null(c->subprotocols);
  assert_int_equal(
      serve_code("return { { kind = 'consumer', path = '/c', app = 'a', record = {}, limits = {"
                 "  depth = 11, array = 12, values = 13, string = 14, method = 15, batch = 16,"
                 "  calls = 17, body = 18, message = 19 }, deflate = false } }"),
      LUA_OK);
  assert_int_equal(c->limits.params.depth, 11);
  assert_int_equal(c->limits.params.array, 12);
  assert_int_equal(c->limits.params.values, 13);
  assert_int_equal(c->limits.params.string, 14);
  assert_int_equal(c->limits.method, 15);
  assert_int_equal(c->limits.batch, 16);
  assert_int_equal(c->limits.calls, 17);
  assert_int_equal(c->body, 18);
  assert_int_equal(c->ws.message, 19);
  assert_int_equal(c->ws.fragments, 10);
  assert_false(c->ws.may_deflate);
  settings = (struct settings){0};
}

static void what_is_no_list_of_routes_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *item, *why;
  } cases[] = {
      {"1", "table expected, got number"},
      {"{}", "string expected, got nil"},
      {"{ kind = 'x' }", "invalid option 'x'"},
      {"{ kind = 'consumer', app = 'a', record = {} }", "serve: path must be a string"},
      {"{ kind = 'consumer', path = '/', record = {} }", "serve: app must be a string"},
      {"{ kind = 'consumer', path = '/', app = 'a' }", "serve: record must be a table"},
      {"{ kind = 'public', dir = '/' }", "serve: prefix must be a string"},
      {"{ kind = 'public', prefix = '/' }", "serve: dir must be a string"},
      {"{ kind = 'route', owner = 1, methods = {} }", "serve: path must be a string"},
      {"{ kind = 'route', path = '/', methods = {} }", "serve: owner must be the index of"},
      {"{ kind = 'route', path = '/', owner = 2, methods = {} }", "serve: owner must be the index"},
      {"{ kind = 'route', path = '/', owner = 1 }", "serve: methods must be a list"},
      {"{ kind = 'route', path = '/', owner = 1, methods = { 1 } }",
       "serve: methods must be names"},
  };
  char code[400];
  assert_int_equal(serve_code(items), LUA_OK);
  for (size_t i = 0; i < COUNT(cases); i++) {
    snprintf(code, sizeof code,
             "return { { kind = 'consumer', path = '/new', app = 'a', record = {} }, %s }",
             cases[i].item);
    assert_int_equal(serve_code(code), LUA_ERRRUN);
    const char *why = lua_tostring(h.L, -1);
    if (!strstr(why, cases[i].why)) fail_msg("%s: %s", cases[i].item, why);
    assert_null(find("/new"));
    assert_serves();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exhausted_memory_leaves_the_old_routes),
      cmocka_unit_test(what_is_not_served_any_more_is_not_routed),
      cmocka_unit_test(a_file_is_named_plainly),
      cmocka_unit_test(each_path_has_its_answer),
      cmocka_unit_test(a_folder_is_below_its_path),
      cmocka_unit_test(before_routes_there_are_none),
      cmocka_unit_test(what_a_consumer_is_told_it_is),
      cmocka_unit_test(what_is_no_list_of_routes_is_refused),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
