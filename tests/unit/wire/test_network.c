/* SPDX-License-Identifier: MIT */
/* test_network.c -- addresses and networks are read as they are written, or not at all. */
#include "../unit.h"

#include "wire/network.h"

static bool parse_ip(const char *s, struct ip *ip) {
  char *text = exact_copy(s, strlen(s));
  bool result = ip_parse(text, strlen(s), ip);
  free(text);
  return result;
}

static bool parse_network(const char *s, struct network *network) {
  char *text = exact_copy(s, strlen(s));
  bool result = network_parse(text, strlen(s), network);
  free(text);
  return result;
}

static void an_address_comes_back_in_its_usual_form(void **state) {
  (void)state;
  static const char *const pairs[][2] = {
      {"192.0.2.1", "192.0.2.1"},
      {"0.0.0.0", "0.0.0.0"},
      {"255.255.255.255", "255.255.255.255"},
      {"::1", "::1"},
      {"::", "::"},
      {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
      {"::ffff:192.0.2.1", "192.0.2.1"}, /* how an IPv6 socket names an IPv4 peer */
      {"::FFFF:C000:201", "192.0.2.1"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
  };
  for (size_t i = 0; i < COUNT(pairs); i++) {
    struct ip ip;
    char text[IP_TEXT];
    if (!parse_ip(pairs[i][0], &ip)) fail_msg("%s", pairs[i][0]);
    ip_format(&ip, text);
    assert_string_equal(text, pairs[i][1]);
  }
}

static void what_is_no_address_is_refused(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "",
      " 192.0.2.1",
      "192.0.2.1 ",
      "192.0.2",
      "192.0.2.1.1",
      "192.0.2.256",
      "192.0.2.01",
      "0x7f.0.0.1",
      "2130706433",
      "192.0.2.1:80",
      "[::1]",
      "::1%eth0",
      "1::2::3",
      "12345::",
      "localhost",
      "unknown",
      "_hidden",
      "192.0.2.1/32",
      "::ffff:1.2.3.",
      "a.b.c.d",
      "00000000000000000000000000000000000000000000000000000000000000000::1",
  };
  struct ip ip;
  for (size_t i = 0; i < COUNT(wrong); i++)
    if (parse_ip(wrong[i], &ip)) fail_msg("%s", wrong[i]);
  assert_false(ip_parse("1.2.3.4\0", 8, &ip));
}

static const struct {
  const char *network, *address;
  bool has;
} members[] = {
    {"127.0.0.1", "127.0.0.1", true},
    {"127.0.0.1", "127.0.0.2", false},
    {"127.0.0.1", "::ffff:127.0.0.1", true},
    {"10.0.0.0/8", "10.255.255.255", true},
    {"10.0.0.0/8", "11.0.0.0", false},
    {"10.0.0.0/8", "9.255.255.255", false},
    {"192.168.4.0/22", "192.168.7.255", true},
    {"192.168.4.0/22", "192.168.8.0", false},
    {"192.168.4.0/22", "192.168.3.255", false},
    {"192.0.2.1/32", "192.0.2.1", true},
    {"192.0.2.1/32", "192.0.2.0", false},
    {"192.0.2.0/31", "192.0.2.1", true},
    {"192.0.2.0/31", "192.0.2.2", false},
    {"128.0.0.0/1", "200.1.1.1", true},
    {"128.0.0.0/1", "127.255.255.255", false},
    {"0.0.0.0/0", "8.8.8.8", true},
    {"0.0.0.0/0", "2001:db8::1", false}, /* every IPv4 address, and no other */
    {"0.0.0.0/0", "::1", false},
    {"::1", "::1", true},
    {"::1", "127.0.0.1", false},
    {"fd00::/8", "fdff::1", true},
    {"fd00::/8", "fe00::1", false},
    {"2001:db8::/33", "2001:db8:7fff::", true},
    {"2001:db8::/33", "2001:db8:8000::", false},
    {"::/0", "2001:db8::1", true},
    {"::/0", "1.2.3.4", true},
    {"::ffff:10.0.0.0/104", "10.1.2.3", true},
    {"::ffff:10.0.0.0/104", "11.1.2.3", false},
};

static void a_network_has_the_addresses_with_its_prefix(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(members); i++) {
    struct network network;
    struct ip ip;
    if (!parse_network(members[i].network, &network)) fail_msg("%s", members[i].network);
    if (!parse_ip(members[i].address, &ip)) fail_msg("%s", members[i].address);
    if (network_has(&network, &ip) != members[i].has)
      fail_msg("%s and %s", members[i].network, members[i].address);
  }
}

static void what_is_no_network_is_refused(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "",
      "/",
      "/8",
      "10.0.0.0/",
      "10.0.0.0/33",
      "10.0.0.0/-1",
      "10.0.0.0/08",
      "10.0.0.0/8 ",
      "10.0.0.0 /8",
      "10.0.0/8",
      "10.0.0.1/8", /* a bit too many */
      "::1/0",
      "::1/129",
      "fd00::/1000",
      "fd00::/8/8",
      "10.0.0.0/8,",
      "*",
      "localhost",
      "10.0.0.0/255.0.0.0",
  };
  struct network network;
  for (size_t i = 0; i < COUNT(wrong); i++)
    if (parse_network(wrong[i], &network)) fail_msg("%s", wrong[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_address_comes_back_in_its_usual_form),
      cmocka_unit_test(what_is_no_address_is_refused),
      cmocka_unit_test(a_network_has_the_addresses_with_its_prefix),
      cmocka_unit_test(what_is_no_network_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
