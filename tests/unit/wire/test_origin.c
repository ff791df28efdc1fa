/* SPDX-License-Identifier: MIT */
/* test_origin.c -- a page gets in only from where the pattern says, whatever its address looks
 * like. */
#include "../unit.h"

#include "wire/origin.h"

static const struct {
  const char *pattern, *origin;
  bool is_allowed;
} patterns[] = {
    /* everything */
    {"*", "https://example.com", true},
    {"*", "null", true},
    {"*", "", true},
    {"*", "nonsense", true},
    /* one origin, part by part */
    {"https://example.com", "https://example.com", true},
    {"https://example.com", "HTTPS://EXAMPLE.com", true},
    {"https://example.com", "https://example.com:443", true},
    {"https://example.com:443", "https://example.com", true},
    {"http://example.com", "http://example.com:80", true},
    {"http://example.com:8080", "http://example.com:8080", true},
    {"https://example.com", "http://example.com", false},
    {"https://example.com", "https://example.com:8443", false},
    {"http://example.com:443", "https://example.com", false},
    {"http://example.com", "http://example.com:443", false},
    {"https://example.com", "https://example.com.evil.net", false},
    {"https://example.com", "https://evil-example.com", false},
    {"https://example.com", "https://www.example.com", false},
    {"https://example.com", "https://example.co", false},
    {"https://example.com", "https://example.com/", false},
    {"https://example.com", "https://example.com@evil.net", false},
    {"https://example.com", "https://evil.net/https://example.com", false},
    {"https://example.com", "https://evil.net#https://example.com", false},
    {"https://example.com", "https://evil.net?https://example.com", false},
    {"https://example.com", "https://example.com ", false},
    {"https://example.com", " https://example.com", false},
    {"https://example.com", "example.com", false},
    {"https://example.com", "https:example.com", false},
    {"https://example.com", "https:/example.com", false},
    {"https://example.com", "://example.com", false},
    {"https://example.com", "https://", false},
    {"https://example.com", "null", false},
    {"https://example.com", "", false},
    /* ports */
    {"http://h:1", "http://h:1", true},
    {"http://h:65535", "http://h:65535", true},
    {"http://h:80", "http://h:00080", true},
    {"http://h", "http://h:", false},
    {"http://h", "http://h:0", false},
    {"http://h", "http://h:65536", false},
    {"http://h", "http://h:65616", false}, /* 80 + 65536 */
    {"http://h", "http://h:000080", false},
    {"http://h", "http://h:8o", false},
    {"http://h", "http://h:-80", false},
    {"http://h", "http://h:+80", false},
    {"http://h", "http://h:80:80", false},
    {"http://h", "http://h:7:", false},   /* 80, if ':' were the digit after '9' */
    {"http://h:9", "http://h:1/", false}, /* 9, if '/' were the one before '0' */
    {"http://h:9", "http://h:9", true},
    {"http://h:65536", "http://h:65536", false},
    {"http://:80", "http://:80", false},
    /* other schemes have no default port */
    {"app://local", "app://local", true},
    {"app://local", "app://local:80", false},
    {"chrome-extension://abcdef", "chrome-extension://abcdef", true},
    {"app+x.y-1://local", "app+x.y-1://local", true},
    {"app://local", "ap_p://local", false},
    {"1app://local", "1app://local", false}, /* no scheme begins with a digit */
    {"local://h", "local://h:443", false},
    {"az09://h", "AZ09://h", true},
    {"@://h", "@://h", false},
    {"[://h", "[://h", false},
    /* addresses */
    {"http://[::1]:8080", "http://[::1]:8080", true},
    {"http://[::1]", "http://[::1]:80", true},
    {"http://[::1]", "http://[::1", false},
    {"http://[::1", "http://[::1", false},
    {"http://[::1]", "http://[::1]x", false},
    {"http://[::1]", "http://[::2]", false},
    {"http://127.0.0.1:3000", "http://127.0.0.1:3000", true},
    {"http://127.0.0.1:3000", "http://127.0.0.10:3000", false},
    /* a host and all below it, any scheme, any port */
    {".example.com", "https://example.com", true},
    {".example.com", "http://example.com:8080", true},
    {".example.com", "https://a.example.com", true},
    {".example.com", "https://a.b.EXAMPLE.com:1", true},
    {".example.com", "https://badexample.com", false},
    {".example.com", "https://example.com.evil.net", false},
    {".example.com", "https://evil.net/.example.com", false},
    {".example.com", "https://evil.net#.example.com", false},
    {".example.com", "https://evil.net?a.example.com", false},
    {".example.com", "https://x@.example.com", false},
    {".example.com", "https://evil.net\t.example.com", false},
    {".example.com", "https://.example.com", false}, /* nothing is not a name below it */
    {".example.com", "null", false},
    {".example.com", "example.com", false},
    {".example.com", "https://com", false},
    /* what is no pattern matches nothing */
    {".", "https://example.com.", false},
    {".", "https://.", false},
    {"", "https://example.com", false},
    {"", "", false},
    {"example.com", "https://example.com", false},
    {".com:80]", "http://[a.com:80]", false},
    {"https://example.com/", "https://example.com", false},
};

static bool is_allowed(const char *const *list, const char *origin, const char *host) {
  char *o = exact_copy(origin, strlen(origin)), *h = exact_copy(host, strlen(host));
  struct origin_self self = {.host = h, .host_len = strlen(host)};
  bool result = origin_judge(list, o, strlen(origin), &self) != ORIGIN_REFUSED;
  free(o);
  free(h);
  return result;
}

static void a_pattern_lets_in_what_it_says(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(patterns); i++) {
    const char *const list[] = {patterns[i].pattern, NULL};
    /* the host must not matter once there are patterns */
    static const char *const hosts[] = {"", "example.com", "evil.net", "h", "local"};
    for (size_t k = 0; k < COUNT(hosts); k++)
      if (is_allowed(list, patterns[i].origin, hosts[k]) != patterns[i].is_allowed)
        fail_msg("%s and %s", patterns[i].pattern, patterns[i].origin);
  }
}

static void any_pattern_of_several_will_do(void **state) {
  (void)state;
  const char *const list[] = {"https://a.example", ".b.example", "http://c.example:81", NULL};
  assert_true(is_allowed(list, "https://a.example", "x"));
  assert_true(is_allowed(list, "https://x.b.example", "x"));
  assert_true(is_allowed(list, "http://c.example:81", "x"));
  assert_false(is_allowed(list, "http://c.example", "x"));
  assert_false(is_allowed(list, "https://x", "x")); /* the same host, but that is not in the list */
}

static enum origin_trust judge(const char *const *list, const char *origin) {
  return origin_judge(list, origin, strlen(origin),
                      &(struct origin_self){.host = "h", .host_len = 1});
}

static void a_name_is_worth_more_than_everybody(void **state) {
  (void)state;
  const char *const list[] = {"*", "https://a.example", ".b.example", NULL};
  assert_int_equal(judge(list, "https://a.example"), ORIGIN_NAMED);
  assert_int_equal(judge(list, "https://x.b.example"), ORIGIN_NAMED);
  assert_int_equal(judge(list, "https://c.example"), ORIGIN_ANYBODY);
  assert_int_equal(judge(list, "null"), ORIGIN_ANYBODY);
  assert_int_equal(judge(list, ""), ORIGIN_ANYBODY);
  assert_int_equal(judge(list + 1, "https://c.example"), ORIGIN_REFUSED);
  assert_int_equal(judge(NULL, "http://h"), ORIGIN_NAMED);
  assert_int_equal(judge(NULL, "http://i"), ORIGIN_REFUSED);
}

static const struct {
  const char *origin, *host;
  bool is_allowed;
} same_host[] = {
    {"http://example.com", "example.com", true},
    {"https://example.com", "example.com", true}, /* TLS may end at a proxy */
    {"http://EXAMPLE.com", "example.COM", true},
    {"http://example.com", "example.com:80", true},
    {"http://example.com:80", "example.com", true},
    {"https://example.com", "example.com:443", true},
    {"https://example.com:443", "example.com", true},
    {"http://example.com:8080", "example.com:8080", true},
    {"https://example.com:8080", "example.com:8080", true},
    {"http://[::1]:8080", "[::1]:8080", true},
    {"http://127.0.0.1:1", "127.0.0.1:1", true},
    {"https://example.com", "example.com:80", false},
    {"http://example.com", "example.com:8080", false},
    {"http://example.com:8080", "example.com", false},
    {"http://example.com:8080", "example.com:8081", false},
    {"http://evil.net", "example.com", false},
    {"http://example.com.evil.net", "example.com", false},
    {"http://sub.example.com", "example.com", false},
    {"http://example.com", "sub.example.com", false},
    {"app://example.com", "example.com", false}, /* its port is not known */
    {"app://example.com:80", "example.com:80", false},
    {"null", "null", false},
    {"null", "example.com", false},
    {"", "", false},
    {"", "example.com", false},
    {"http://example.com", "", false},
    {"http://", "", false},
    {"example.com", "example.com", false},
    {"http://example.com", "example.com:", true}, /* as without the colon */
    {"http://example.com:80", "example.com:80:80", false},
    {"http://[::1]", "[::1", false},
    {"http://example.com", "example.com:x", false},
    {"http://example.com", "user@example.com", false},
    {"http://example.com", "example.com/", false},
};

static void without_patterns_only_the_same_host_gets_in(void **state) {
  (void)state;
  static const char *const none[] = {NULL};
  for (size_t i = 0; i < COUNT(same_host); i++) {
    if (is_allowed(NULL, same_host[i].origin, same_host[i].host) != same_host[i].is_allowed)
      fail_msg("%s at %s", same_host[i].origin, same_host[i].host);
    if (is_allowed(none, same_host[i].origin, same_host[i].host) != same_host[i].is_allowed)
      fail_msg("%s at %s, empty list", same_host[i].origin, same_host[i].host);
  }
}

static const struct {
  const char *origin, *host;
  bool is_allowed;
} over_tls[] = {
    {"https://example.com", "example.com", true},
    {"https://example.com:443", "example.com", true},
    {"https://example.com", "example.com:443", true},
    {"https://example.com:8443", "example.com:8443", true},
    {"http://example.com", "example.com",
     false}, /* got over a line that anybody may have changed */
    {"http://example.com:443", "example.com", false},
    {"http://example.com:443", "example.com:443", false},
    {"http://example.com:8443", "example.com:8443", false},
    {"http://example.com:80", "example.com:80", false},
    {"http://example.com", "example.com:80", false},
    {"https://example.com", "example.com:80", false},
    {"https://example.com:80", "example.com", false},
    {"https://evil.net", "example.com", false},
    {"wss://example.com", "example.com", false}, /* no page's */
};

static void what_came_by_tls_is_for_pages_that_did(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(over_tls); i++) {
    struct origin_self self = {over_tls[i].host, strlen(over_tls[i].host), true};
    const char *origin = over_tls[i].origin, *const named[] = {origin, NULL};
    if ((origin_judge(NULL, origin, strlen(origin), &self) == ORIGIN_NAMED) !=
        over_tls[i].is_allowed)
      fail_msg("%s at %s", origin, over_tls[i].host);
    /* who is named is let in all the same */
    assert_int_equal(origin_judge(named, origin, strlen(origin), &self), ORIGIN_NAMED);
  }
}

static void patterns_are_told_from_nonsense(void **state) {
  (void)state;
  static const char *const good[] = {"*",        ".example.com", ".localhost",
                                     ".a",       "http://a",     "https://a.b:1",
                                     "HTTP://A", "app://x",      "http://[::1]:8080"};
  static const char *const wrong[] = {
      "",     ".",         "example.com", "**",         "*.a.com",        "http://",
      "://a", "http://a/", "http://a:0",  "http://a:",  "http://a:99999", ".a:80",
      ".a/",  ".a/b",      ". a",         "http://u@a", "ht tp://a",      "http://a b",
      "null", "http:/a",   "http://a#b"};
  for (size_t i = 0; i < COUNT(good); i++)
    if (!origin_is_pattern(good[i])) fail_msg("%s", good[i]);
  for (size_t i = 0; i < COUNT(wrong); i++)
    if (origin_is_pattern(wrong[i])) fail_msg("%s", wrong[i]);
}

/* A pattern that matches nothing but itself must at least match itself. */
static void an_origin_used_as_a_pattern_lets_itself_in(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(patterns); i++) {
    const char *const list[] = {patterns[i].origin, NULL};
    if (strchr("*.", patterns[i].origin[0])) continue;
    bool is_pattern = origin_is_pattern(patterns[i].origin);
    if (is_allowed(list, patterns[i].origin, "") != is_pattern) fail_msg("%s", patterns[i].origin);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_pattern_lets_in_what_it_says),
      cmocka_unit_test(any_pattern_of_several_will_do),
      cmocka_unit_test(a_name_is_worth_more_than_everybody),
      cmocka_unit_test(without_patterns_only_the_same_host_gets_in),
      cmocka_unit_test(what_came_by_tls_is_for_pages_that_did),
      cmocka_unit_test(patterns_are_told_from_nonsense),
      cmocka_unit_test(an_origin_used_as_a_pattern_lets_itself_in),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
