/* SPDX-License-Identifier: MIT */
/* test_settings.c -- each setting reaches the member it is for, and what cannot be one is refused.
 */
#include "../unit.h"

#include "bridge/settings.h"
#include "hub/topics.h"

#include <lauxlib.h>
#include <lualib.h>

static lua_State *L;
static struct settings settings;

/* Settings that are not given are 0, or none where that cannot be. */
static const char defaults[] =
    "local given = ...\n"
    "local none = { trusted_proxies = {}, hosts = {}, listen = { { address = '::1', port = 80 } } "
    "}\n"
    "local texts = { apps = true, state = true, secret = true, layer = true, lua_path = true, "
    "sessions = true,\n"
    "  session_cookie = true, session_same_site = true, layer_prefix = true, admin = true, "
    "proxy_headers = true, log_level = "
    "true,\n"
    "  log_format = true, dev = true, watch = true, deflate = true }\n"
    "return setmetatable(given, { __index = function(_, key)\n"
    "  if none[key] then return none[key] end\n"
    "  if not texts[key] then return 0 end\n"
    "end })\n";

static int read_body(lua_State *state) {
  settings_read(state, 1, &settings);
  return 0;
}

/* Reads a Lua table of settings; returns what is wrong with it, or NULL. */
static const char *take(const char *given) {
  char text[600];
  settings_fini(&settings);
  lua_settop(L, 0);
  snprintf(text, sizeof text, "return {%s}", given);
  lua_pushcfunction(L, read_body);
  assert_int_equal(luaL_loadstring(L, defaults), LUA_OK);
  assert_int_equal(luaL_loadstring(L, text), LUA_OK);
  lua_call(L, 0, 1);
  lua_call(L, 1, 1);
  return lua_pcall(L, 1, 0, 0) == LUA_OK ? NULL : lua_tostring(L, -1);
}

static void assert_wrong(const char *given, const char *why) {
  const char *wrong = take(given);
  if (!wrong || !strstr(wrong, why)) fail_msg("{%s}: %s", given, wrong ? wrong : "taken");
}

static int start(void **state) {
  (void)state;
  L = luaL_newstate();
  luaL_openlibs(L);
  return 0;
}

static int stop(void **state) {
  (void)state;
  settings_fini(&settings);
  lua_close(L);
  return 0;
}

/* ---- numbers --------------------------------------------------------------------------------- */

enum kind { NUMBER, SHORT, SECONDS };

static uint64_t value_of(const void *member, size_t size) {
  if (size == sizeof(uint64_t)) return *(const uint64_t *)member;
  assert_int_equal(size, sizeof(uint32_t));
  return *(const uint32_t *)member;
}

#define MEMBER(key, kind, member)                                                                  \
  { key, kind, &settings.member, sizeof settings.member }

static const struct number {
  const char *key;
  enum kind kind;
  const void *member;
  size_t size;
} numbers[] = {
    MEMBER("max_head", SHORT, conn.http.head),
    MEMBER("max_target", SHORT, conn.http.target),
    MEMBER("max_body", NUMBER, conn.http.body),
    MEMBER("max_message", NUMBER, conn.ws.message),
    MEMBER("max_fragments", SHORT, conn.ws.fragments),
    MEMBER("output_soft", SHORT, conn.output_soft),
    MEMBER("output_hard", SHORT, conn.output_hard),
    MEMBER("output_soft_time", SECONDS, conn.output_soft_ms),
    MEMBER("head_timeout", SECONDS, conn.head_ms),
    MEMBER("body_timeout", SECONDS, conn.body_ms),
    MEMBER("idle_timeout", SECONDS, conn.idle_ms),
    MEMBER("ping_interval", SECONDS, conn.ping_ms),
    MEMBER("pong_timeout", SECONDS, conn.pong_ms),
    MEMBER("close_timeout", SECONDS, conn.close_ms),
    MEMBER("linger_timeout", SECONDS, conn.linger_ms),
    MEMBER("max_depth", SHORT, call.params.depth),
    MEMBER("max_array", SHORT, call.params.array),
    MEMBER("max_string", SHORT, call.params.string),
    MEMBER("max_method", SHORT, call.method),
    MEMBER("max_batch", SHORT, call.batch),
    MEMBER("max_calls", SHORT, call.calls),
    MEMBER("layer_timeout", SECONDS, layer_ms),
    MEMBER("shared_memory", NUMBER, shared_memory),
    MEMBER("lua_memory", NUMBER, lua_memory),
    MEMBER("grace", SECONDS, grace_ms),
    MEMBER("slice_warn", SECONDS, slice_warn_ms),
    MEMBER("slice_stop", SECONDS, slice_stop_ms),
    MEMBER("max_connections", SHORT, max_conns),
};

static void assert_number(const struct number *one, const char *value, uint64_t expected) {
  char given[100];
  snprintf(given, sizeof given, "%s = %s", one->key, value);
  const char *wrong = take(given);
  if (wrong) fail_msg("{%s}: %s", given, wrong);
  for (size_t i = 0; i < COUNT(numbers); i++) {
    uint64_t found = value_of(numbers[i].member, numbers[i].size);
    uint64_t wanted = &numbers[i] == one ? expected : 0;
    if (found != wanted) fail_msg("{%s}: %s is %lu", given, numbers[i].key, (unsigned long)found);
  }
}

static void each_number_goes_where_it_belongs(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(numbers); i++) {
    assert_number(&numbers[i], "7", numbers[i].kind == SECONDS ? 7000 : 7);
    if (numbers[i].kind == SECONDS) assert_number(&numbers[i], "0.25", 250);
  }
}

static void numbers_have_their_limits(void **state) {
  (void)state;
  char given[100];
  for (size_t i = 0; i < COUNT(numbers); i++) {
    const struct number *one = &numbers[i];
    const char *needed = one->kind == SECONDS ? "seconds are needed" : "a whole number is needed";
    static const char *const wrong[] = {"-1", "'x'", "{}"};
    for (size_t k = 0; k < COUNT(wrong); k++) {
      snprintf(given, sizeof given, "%s = %s", one->key, wrong[k]);
      assert_wrong(given, needed);
    }
    if (one->kind == SECONDS) continue;
    snprintf(given, sizeof given, "%s = 1.5", one->key);
    assert_wrong(given, needed);
    if (one->kind == SHORT) assert_number(one, "0xffffffff", UINT32_MAX);
    if (one->kind == NUMBER) assert_number(one, "0x100000000", (uint64_t)UINT32_MAX + 1);
    snprintf(given, sizeof given, "%s = 0x100000000", one->key);
    if (one->kind == SHORT) assert_wrong(given, "too large");
  }
}

static void a_session_lives_whole_seconds(void **state) {
  (void)state;
  assert_null(take("session_ttl = 90.5"));
  assert_int_equal(settings.session_ttl, 90);
}

/* ---- texts and switches ---------------------------------------------------------------------- */

static void each_text_goes_where_it_belongs(void **state) {
  (void)state;
  static const struct {
    const char *key;
    char *const *member;
  } texts[] = {
      {"apps", &settings.apps},
      {"lua_path", &settings.lua_path},
      {"sessions", &settings.sessions},
      {"session_cookie", &settings.session_cookie},
      {"session_same_site", &settings.session_same_site},
      {"state", &settings.state},
      {"secret", &settings.secret},
      {"layer", &settings.layer},
      {"layer_prefix", &settings.layer_prefix},
  };
  for (size_t i = 0; i < COUNT(texts); i++) {
    char given[100];
    snprintf(given, sizeof given, "%s = 'a text'", texts[i].key);
    assert_null(take(given));
    for (size_t k = 0; k < COUNT(texts); k++) {
      if (k == i)
        assert_string_equal(*texts[k].member, "a text");
      else
        assert_null(*texts[k].member);
    }
  }
}

static void switches(void **state) {
  (void)state;
  assert_null(take(""));
  assert_false(settings.is_dev || settings.is_watching || settings.conn.ws.may_deflate);
  assert_null(take("dev = true"));
  assert_true(settings.is_dev && !settings.is_watching && !settings.conn.ws.may_deflate);
  assert_null(take("watch = true"));
  assert_true(settings.is_watching && !settings.is_dev);
  assert_null(take("deflate = true"));
  assert_true(settings.conn.ws.may_deflate && !settings.is_watching);
}

static void the_memory_layer_is_none(void **state) {
  (void)state;
  assert_null(take("layer = 'memory'"));
  assert_null(settings.layer);
  assert_null(take("layer = 'redis://h'"));
  assert_string_equal(settings.layer, "redis://h");
}

static void the_log(void **state) {
  (void)state;
  assert_null(take(""));
  assert_int_equal(settings.log_level, LOG_INFO);
  assert_int_equal(settings.log_format, LOG_TEXT);
  assert_null(take("log_level = 'error', log_format = 'json'"));
  assert_int_equal(settings.log_level, LOG_ERROR);
  assert_int_equal(settings.log_format, LOG_JSON);
  assert_null(take("log_level = 'debug', log_format = 'text'"));
  assert_int_equal(settings.log_level, LOG_DEBUG);
  assert_int_equal(settings.log_format, LOG_TEXT);
}

static void as_many_workers_as_a_group_can_tell_apart(void **state) {
  (void)state;
  char given[100];
  static const int around[] = {-1, 0, 1};
  assert_null(take("workers = 1"));
  assert_int_equal(settings.workers, 1);
  for (size_t i = 0; i < COUNT(around); i++) {
    snprintf(given, sizeof given, "workers = %d", TOPIC_WORKERS_MAX + around[i]);
    assert_null(take(given));
    assert_int_equal(settings.workers, TOPIC_WORKERS_MAX + (around[i] < 0 ? -1 : 0));
  }
  assert_null(take("workers = 'auto'"));
  assert_in_range(settings.workers, 1, TOPIC_WORKERS_MAX);
  assert_wrong("workers = 1.5", "a whole number");
}

/* ---- addresses ------------------------------------------------------------------------------- */

static void listens_where_it_is_told_to(void **state) {
  (void)state;
  char given[600];
  assert_null(
      take("listen = { { address = '127.0.0.1', port = 1 }, { address = '::', port = 65535 } }"));
  assert_int_equal(settings.n_listen, 2);
  assert_string_equal(settings.listen[0].address, "127.0.0.1");
  assert_int_equal(settings.listen[0].port, 1);
  assert_string_equal(settings.listen[1].address, "::");
  assert_int_equal(settings.listen[1].port, 65535);
  for (int n = LISTEN_MAX - 1; n <= LISTEN_MAX + 1; n++) {
    snprintf(given, sizeof given,
             "listen = (function() local t = {} for i = 1, %d do t[i] = { address = '::', port = i "
             "} end "
             "return t end)()",
             n);
    if (n > LISTEN_MAX) {
      assert_wrong(given, "setting listen: at most 16 addresses");
      continue;
    }
    assert_null(take(given));
    assert_int_equal(settings.n_listen, n);
    assert_int_equal(settings.listen[n - 1].port, n);
  }
  assert_wrong("listen = {}", "setting listen: 1 to 16 addresses");
  assert_wrong("listen = 5", "table expected");
}

static void the_inspector_is_for_this_machine(void **state) {
  (void)state;
  assert_null(take(""));
  assert_null(settings.admin.address);
  assert_null(take("admin = { { address = '127.0.0.2', port = 9 } }"));
  assert_string_equal(settings.admin.address, "127.0.0.2");
  assert_int_equal(settings.admin.port, 9);
  assert_null(take("admin = { { address = '::1', port = 9 } }"));
  assert_wrong("admin = { { address = '0.0.0.0', port = 9 } }", "0.0.0.0 is not");
  assert_wrong("admin = { { address = '::', port = 9 } }", ":: is not");
  assert_wrong("admin = { { address = '128.0.0.1', port = 9 } }", "128.0.0.1 is not");
  assert_wrong("admin = { { port = 9 } }", "? is not");
  assert_wrong("admin = { { address = '::1', port = 9 }, { address = '::1', port = 10 } }",
               "setting admin: at most 1 addresses");
}

static void proxies_are_networks(void **state) {
  (void)state;
  assert_null(take(""));
  assert_int_equal(settings.proxies.n_trusted, 0);
  assert_null(settings.proxies.trusted);
  assert_null(take("trusted_proxies = { '10.0.0.0/8', '::1' }"));
  assert_int_equal(settings.proxies.n_trusted, 2);
  assert_wrong("trusted_proxies = { '10.0.0.0/8', 'proxy' }", "item 2 is no address or network");
  assert_wrong("trusted_proxies = { {} }", "item 1 is no address or network");
  assert_wrong("trusted_proxies = 5", "table expected");
}

static void hosts_are_names(void **state) {
  (void)state;
  assert_null(take(""));
  assert_null(settings.hosts[0]);
  assert_null(take("hosts = { 'app.test', '.tunnel.test' }"));
  assert_string_equal(settings.hosts[0], "app.test");
  assert_string_equal(settings.hosts[1], ".tunnel.test");
  assert_null(settings.hosts[2]);
  assert_wrong("hosts = { 'app.test', 5 }", "item 2 is no name");
  assert_wrong("hosts = 5", "table expected");
}

/* [::] leaves IPv4 to an address of that on its port, and to no other. */
static void families_share_a_port(void **state) {
  (void)state;
#define AT(address, port) "{ address = '" address "', port = " port " }"
  assert_null(take("listen = { " AT("::", "80") ", " AT("0.0.0.0", "80") ", " AT("::", "81") " }"));
  assert_true(settings.listen[0].is_v6_only);
  assert_false(settings.listen[1].is_v6_only);
  assert_false(settings.listen[2].is_v6_only);
  assert_null(take("listen = { " AT("127.0.0.1", "80") ", " AT("::", "80") " }"));
  assert_true(settings.listen[1].is_v6_only);
  assert_null(take("listen = { " AT("::", "80") ", " AT("::1", "80") " }"));
  assert_false(settings.listen[0].is_v6_only);
  /* the system chooses two ports */
  assert_null(take("listen = { " AT("::", "0") ", " AT("0.0.0.0", "0") " }"));
  assert_false(settings.listen[0].is_v6_only);
#undef AT
}

static void proxies_speak_one_of_two_ways(void **state) {
  (void)state;
  assert_null(take(""));
  assert_int_equal(settings.proxies.fields, FORWARDED_ANY);
  assert_null(take("proxy_headers = 'auto'"));
  assert_int_equal(settings.proxies.fields, FORWARDED_ANY);
  assert_null(take("proxy_headers = 'x-forwarded'"));
  assert_int_equal(settings.proxies.fields, FORWARDED_X);
  assert_null(take("proxy_headers = 'forwarded'"));
  assert_int_equal(settings.proxies.fields, FORWARDED_RFC_7239);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_number_goes_where_it_belongs),
      cmocka_unit_test(numbers_have_their_limits),
      cmocka_unit_test(a_session_lives_whole_seconds),
      cmocka_unit_test(each_text_goes_where_it_belongs),
      cmocka_unit_test(switches),
      cmocka_unit_test(the_memory_layer_is_none),
      cmocka_unit_test(the_log),
      cmocka_unit_test(as_many_workers_as_a_group_can_tell_apart),
      cmocka_unit_test(listens_where_it_is_told_to),
      cmocka_unit_test(the_inspector_is_for_this_machine),
      cmocka_unit_test(proxies_are_networks),
      cmocka_unit_test(hosts_are_names),
      cmocka_unit_test(families_share_a_port),
      cmocka_unit_test(proxies_speak_one_of_two_ways),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
