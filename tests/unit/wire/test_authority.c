/* SPDX-License-Identifier: MIT */
/* test_authority.c -- host and port: what is none is refused, and what is one means one thing. */
#include "../unit.h"

#include "wire/authority.h"

#define LONG   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."
#define LONG_5 LONG LONG LONG LONG LONG /* 250 bytes */

static const struct {
  const char *text, *host; /* host NULL: refused */
  unsigned port;
} texts[] = {
    {"example.com", "example.com", 0},
    {"example.com:8080", "example.com", 8080},
    {"EXAMPLE.com", "EXAMPLE.com", 0},
    {"h:", "h", 0}, /* RFC 3986: port = *DIGIT */
    {"h:1", "h", 1},
    {"h:65535", "h", 65535},
    {"h:00080", "h", 80},
    {"127.0.0.1:80", "127.0.0.1", 80},
    {"999.1.1.1", "999.1.1.1", 0}, /* a name of digits, which leads nowhere */
    {"a-b_c.d~e!$&'()*+;=", "a-b_c.d~e!$&'()*+;=", 0},
    {"h%20x:80", "h%20x", 80},
    {"h%aF", "h%aF", 0},
    {"[::1]", "[::1]", 0},
    {"[::1]:80", "[::1]", 80},
    {"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]", 80},
    {"[2001:DB8::a]", "[2001:DB8::a]", 0},
    {LONG_5 "hhhhh", LONG_5 "hhhhh", 0},
    /* too long */
    {LONG_5 "hhhhhh", NULL, 0},
    /* no host */
    {"", NULL, 0},
    {":", NULL, 0},
    {":80", NULL, 0},
    /* ports */
    {"h:0", NULL, 0},
    {"h:65536", NULL, 0},
    {"h:65616", NULL, 0}, /* 80 + 65536 */
    {"h:000080", NULL, 0},
    {"h:80:80", NULL, 0},
    {"h:80:", NULL, 0},
    {"h::80", NULL, 0},
    {"h:8o", NULL, 0},
    {"h:-1", NULL, 0},
    {"h:+1", NULL, 0},
    {"h: 80", NULL, 0},
    {"h:80 ", NULL, 0},
    {"h:7:", NULL, 0}, /* 80, if ':' were the digit after '9' */
    {"h:1/", NULL, 0}, /* 9, if '/' were the one before '0' */
    /* brackets */
    {"[", NULL, 0},
    {"[]", NULL, 0},
    {"[::1", NULL, 0},
    {"::1", NULL, 0},
    {"::1]", NULL, 0},
    {"[::1]80", NULL, 0},
    {"[::1]x", NULL, 0},
    {"[::1]]", NULL, 0},
    {"[[::1]]", NULL, 0},
    {"[::1]:80:80", NULL, 0},
    {"[::1]:", "[::1]", 0},
    {"[127.0.0.1]", NULL, 0},
    {"[h]", NULL, 0},
    {"[::g]", NULL, 0},
    {"[fe80::1%25eth0]", NULL, 0},
    {"[fe80::1%eth0]", NULL, 0},
    {"[v1.x]", NULL, 0}, /* of a version that nobody has written */
    {"[1:2:3:4:5:6:7:8:9]", NULL, 0},
    {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]", NULL, 0},
    {"a[::1]", NULL, 0},
    {"a]", NULL, 0},
    /* users, paths, lists, and what else is never in a name */
    {"u@h", NULL, 0},
    {"u:p@h", NULL, 0},
    {"h/", NULL, 0},
    {"h?", NULL, 0},
    {"h#", NULL, 0},
    {"h\\", NULL, 0},
    {"a,b", NULL, 0},
    {"a b", NULL, 0},
    {" h", NULL, 0},
    {"h ", NULL, 0},
    {"h\t", NULL, 0},
    {"\"h\"", NULL, 0},
    {"<h>", NULL, 0},
    {"h|", NULL, 0},
    {"h^", NULL, 0},
    {"{h}", NULL, 0},
    {"h\x7f", NULL, 0},
    {"\xc3\xa9", NULL, 0},
    {"h%", NULL, 0},
    {"h%4", NULL, 0},
    {"h%4g", NULL, 0},
    {"h%:80", NULL, 0},
};

static void a_text_is_a_host_and_a_port_or_nothing(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(texts); i++) {
    struct authority at;
    size_t n = strlen(texts[i].text);
    char *copy = exact_copy(texts[i].text, n);
    bool is_one = authority_parse(copy, n, &at);
    if (is_one != (texts[i].host != NULL)) fail_msg("%s", texts[i].text);
    if (is_one) {
      assert_int_equal(at.host_len, strlen(texts[i].host));
      assert_memory_equal(at.host, texts[i].host, at.host_len);
      assert_int_equal(at.port, texts[i].port);
    }
    free(copy);
  }
  struct authority at;
  assert_false(authority_parse("h\0x", 3, &at));
  assert_false(authority_parse("[::1\0]", 6, &at));
}

static bool is_loopback(const char *text) {
  struct authority at;
  return authority_parse(text, strlen(text), &at) && authority_is_loopback(&at);
}

static void only_this_machine_is_loopback(void **state) {
  (void)state;
  static const char *const own[] = {"localhost",       "LOCALHOST:8080",   "chat.localhost",
                                    "a.b.LocalHost:1", "127.0.0.1",        "127.0.0.1:1",
                                    "127.0.0.1:",      "127.9.8.7:65535",  "[::1]",
                                    "[::1]:8080",      "[0:0:0:0:0:0:0:1]"};
  static const char *const others[] = {"",
                                       "example.com",
                                       "localhost.example.com",
                                       "127.0.0.1.example.com",
                                       "xlocalhost",
                                       ".localhost",
                                       "localhost.evil",
                                       "127.0.0.1@evil.example",
                                       "128.0.0.1",
                                       "126.255.255.255",
                                       "10.0.0.1:8080",
                                       "0.0.0.0",
                                       "[::]",
                                       "[::2]:80",
                                       "[::ffff:127.0.0.1]",
                                       "[::1",
                                       "::1",
                                       "127.0.0.1:x",
                                       "127.1",
                                       "2130706433",
                                       "0x7f.0.0.1",
                                       "127.0.0.1 ",
                                       "127.0.0.1.",
                                       "127.000.000.0000001",
                                       "localhost.",
                                       "[127.0.0.1]",
                                       "127.0.0.1:80:80"};
  for (size_t i = 0; i < COUNT(own); i++)
    if (!is_loopback(own[i])) fail_msg("%s", own[i]);
  for (size_t i = 0; i < COUNT(others); i++)
    if (is_loopback(others[i])) fail_msg("%s", others[i]);
  struct authority at;
  assert_false(authority_parse("localhost\0.evil", 15, &at));
}

static void a_dot_stands_for_all_below(void **state) {
  (void)state;
  static const struct {
    const char *text, *name;
    bool is_below;
  } cases[] = {
      {"a.test", "a.test", true},        {"A.TEST:80", "a.test", true},
      {"x.a.test", "a.test", false},     {"a.test", ".a.test", true},
      {"x.a.test", ".a.test", true},     {"x.y.A.test", ".a.TEST", true},
      {"xa.test", ".a.test", false},     {".a.test", ".a.test", false},
      {"a.test.evil", ".a.test", false}, {"test", ".a.test", false},
      {"a.tes", "a.test", false},        {"a.tests", "a.test", false},
      {"[::1]", "[::1]", true},          {"10.0.0.1", "10.0.0.1", true},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct authority at;
    assert_true(authority_parse(cases[i].text, strlen(cases[i].text), &at));
    if (authority_is_below(&at, cases[i].name) != cases[i].is_below)
      fail_msg("%s below %s", cases[i].text, cases[i].name);
  }
}

/* RFC 3986: reg-name, without the comma. */
static void each_byte_may_stand_in_a_name_or_not(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) {
    const char text[] = {'h', (char)c, 'h'};
    bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    bool is_good = is_alnum || (c && strchr("-._~!$&'()*+;=", c));
    struct authority at;
    if (authority_parse(text, sizeof text, &at) != is_good) fail_msg("byte %d", c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_text_is_a_host_and_a_port_or_nothing),
      cmocka_unit_test(only_this_machine_is_loopback),
      cmocka_unit_test(a_dot_stands_for_all_below),
      cmocka_unit_test(each_byte_may_stand_in_a_name_or_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
