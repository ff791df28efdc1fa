/* SPDX-License-Identifier: MIT */
/* test_forwarded.c -- a trusted proxy's word on the client is taken, and nobody else's. */
#include "../unit.h"

#include "wire/forwarded.h"

#include <stdio.h>

static const struct http_limits limits = {.head = 16384, .target = 8192, .body = 1000};
static struct http_parser parser;
static char *bytes;
static struct network trusted[3];

static int start(void **state) {
  static const char *const networks[] = {"127.0.0.1", "10.0.0.0/8", "fd00::/8"};
  (void)state;
  http_parser_init(&parser, &limits);
  for (int i = 0; i < 3; i++)
    if (!network_parse(networks[i], strlen(networks[i]), &trusted[i])) return -1;
  return 0;
}

static int finish(void **state) {
  (void)state;
  free(bytes);
  bytes = NULL;
  http_parser_fini(&parser);
  return 0;
}

static const struct http_request *request(const char *fields) {
  char head[4096];
  size_t n, used;
  n = (size_t)snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: inner\r\n%s\r\n", fields);
  free(bytes);
  http_parser_reset(&parser, &limits);
  bytes = exact_copy(head, n);
  if (http_feed(&parser, bytes, n, &used) != PARSE_HEAD) fail_msg("%s", fields);
  return &parser.request;
}

/* "address port scheme host", as the fields and a peer make it. */
static const char *told(const char *peer, const char *fields, enum forwarded_fields mode) {
  static char text[600];
  const struct http_request *r = request(fields);
  struct forwarding from = {.trusted = trusted, .n_trusted = 3, .fields = mode};
  struct forwarded f = {.port = 9, .host = http_text(r, r->host), .host_len = r->host.len};
  snprintf(f.address, sizeof f.address, "%s", peer);
  forwarded_read(&from, r, peer, &f);
  snprintf(text, sizeof text, "%s %u %s %.*s", f.address, f.port,
           f.scheme == SCHEME_HTTPS  ? "https"
           : f.scheme == SCHEME_HTTP ? "http"
                                     : "-",
           (int)f.host_len, f.host);
  return text;
}

#define FOR   "X-Forwarded-For: "
#define PROTO "X-Forwarded-Proto: "
#define HOST  "X-Forwarded-Host: "
#define N     "\r\n"

static const struct {
  const char *fields, *told;
} from_loopback[] = {
    /* nothing */
    {"", "127.0.0.1 9 - inner"},
    {FOR N, "127.0.0.1 9 - inner"},
    {FOR " , ,," N, "127.0.0.1 9 - inner"},
    /* the client, as the proxy saw it */
    {FOR "192.0.2.7" N, "192.0.2.7 0 - inner"},
    {"x-forwarded-for:192.0.2.7" N, "192.0.2.7 0 - inner"},
    {FOR "2001:db8::7" N, "2001:db8::7 0 - inner"},
    {FOR "[2001:db8::7]" N, "2001:db8::7 0 - inner"},
    {FOR "[2001:db8::7]:4711" N, "2001:db8::7 4711 - inner"},
    {FOR "192.0.2.7:4711" N, "192.0.2.7 4711 - inner"},
    {FOR "::ffff:192.0.2.7" N, "192.0.2.7 0 - inner"},
    /* what stands to the left of it is the client's claim */
    {FOR "198.51.100.1, 192.0.2.7" N, "192.0.2.7 0 - inner"},
    {FOR "127.0.0.1, 192.0.2.7" N, "192.0.2.7 0 - inner"},
    {FOR "127.0.0.1" N FOR "192.0.2.7" N, "192.0.2.7 0 - inner"},
    {FOR "198.51.100.1,192.0.2.7,10.1.1.1" N, "192.0.2.7 0 - inner"},
    {FOR "198.51.100.1" N FOR "192.0.2.7" N FOR "10.1.1.1, fd00::3" N, "192.0.2.7 0 - inner"},
    {FOR "\"x\", 192.0.2.7" N, "192.0.2.7 0 - inner"},
    {FOR "\", 192.0.2.7" N, "192.0.2.7 0 - inner"}, /* no quotes here to open */
    /* trusted to the end */
    {FOR "10.1.1.1" N, "10.1.1.1 0 - inner"},
    {FOR "10.1.1.1, 10.1.1.2" N, "10.1.1.1 0 - inner"},
    {FOR "10.1.1.1" N PROTO "https, http" N HOST "evil, outer" N, "10.1.1.1 0 http outer"},
    {FOR "10.1.1.1, 10.1.1.2" N PROTO "x, https, http" N HOST "evil, outer, middle" N,
     "10.1.1.1 0 https outer"},
    /* who is not named is the last one who is */
    {FOR "unknown" N, "127.0.0.1 9 - inner"},
    {FOR "192.0.2.7, unknown" N, "127.0.0.1 9 - inner"},
    {FOR "192.0.2.7, _hidden, 10.1.1.1" N, "10.1.1.1 0 - inner"},
    {FOR "192.0.2.7, 192.0.2.999" N, "127.0.0.1 9 - inner"},
    {FOR "192.0.2.7:" N, "127.0.0.1 9 - inner"},
    {FOR "192.0.2.7:x" N, "127.0.0.1 9 - inner"},
    {FOR "192.0.2.7:65536" N, "127.0.0.1 9 - inner"},
    {FOR "[192.0.2.7]" N, "127.0.0.1 9 - inner"},
    {FOR "[2001:db8::7" N, "127.0.0.1 9 - inner"},
    {FOR "[2001:db8::7]4" N, "127.0.0.1 9 - inner"},
    {FOR "client.example" N, "127.0.0.1 9 - inner"},
    /* scheme and host: written once, or added to as the addresses are */
    {FOR "192.0.2.7" N PROTO "https" N HOST "outer.example" N, "192.0.2.7 0 https outer.example"},
    {PROTO "HTTPS" N, "127.0.0.1 9 https inner"},
    {PROTO "wss" N, "127.0.0.1 9 https inner"},
    {PROTO "http" N, "127.0.0.1 9 http inner"},
    {PROTO "ftp" N, "127.0.0.1 9 - inner"},
    {HOST "outer.example:8443" N, "127.0.0.1 9 - outer.example:8443"},
    {HOST "[::1]:8443" N, "127.0.0.1 9 - [::1]:8443"},
    {HOST "two words" N, "127.0.0.1 9 - inner"},
    {HOST "evil/path" N, "127.0.0.1 9 - inner"},
    {HOST "outer:80:80" N, "127.0.0.1 9 - inner"},
    {HOST "[::1" N, "127.0.0.1 9 - inner"},
    {FOR "198.51.100.1, 192.0.2.7" N PROTO "https" N, "192.0.2.7 0 https inner"},
    {FOR "192.0.2.7, 10.1.1.1" N PROTO "https, http" N HOST "outer, middle" N,
     "192.0.2.7 0 https outer"},
    {FOR "198.51.100.1, 192.0.2.7, 10.1.1.1" N PROTO "x, https, http" N HOST
         "evil, outer, middle" N,
     "192.0.2.7 0 https outer"},
    {FOR "198.51.100.1, 192.0.2.7" N PROTO "https, http" N HOST "evil, outer" N,
     "192.0.2.7 0 http outer"}, /* the left ones are claims */
    /* Forwarded, when there is nothing else */
    {"Forwarded: for=192.0.2.7" N, "192.0.2.7 0 - inner"},
    {"Forwarded: For=\"192.0.2.7:4711\"" N, "192.0.2.7 4711 - inner"},
    {"Forwarded: for=192.0.2.7:4711" N, "192.0.2.7 4711 - inner"},
    {"Forwarded: for=\"[2001:db8::7]:4711\"" N, "2001:db8::7 4711 - inner"},
    {"Forwarded: for=192.0.2.7;proto=https;host=outer.example;by=10.1.1.1" N,
     "192.0.2.7 0 https outer.example"},
    {"Forwarded: by=_x; PROTO=https ; Host=\"outer.example:8443\";for=192.0.2.7" N,
     "192.0.2.7 0 https outer.example:8443"},
    {"Forwarded: for=198.51.100.1;proto=http, for=192.0.2.7;proto=https" N,
     "192.0.2.7 0 https inner"},
    {"Forwarded: for=192.0.2.7;proto=https;host=outer, for=10.1.1.1;proto=http;host=middle" N,
     "192.0.2.7 0 https outer"},
    {"Forwarded: for=192.0.2.7" N "Forwarded: for=10.1.1.1" N, "192.0.2.7 0 - inner"},
    {"Forwarded: for=192.0.2.7, for=unknown;proto=https" N, "127.0.0.1 9 https inner"},
    {"Forwarded: for=192.0.2.7, proto=https" N, "127.0.0.1 9 https inner"},
    {"Forwarded: for=\"_a,b\", for=192.0.2.7" N, "192.0.2.7 0 - inner"},
    /* what is malformed ends the reading, so that nothing can be swallowed */
    {"Forwarded: for=\"198.51.100.1, for=192.0.2.7" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=198.51.100.1;x=\", for=\"[2001:db8::7]\"" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=198.51.100.1;x=\"\\\", for=192.0.2.7" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=198.51.100.1;x=\"" N "Forwarded: for=192.0.2.7" N, "192.0.2.7 0 - inner"},
    {"Forwarded: for=198.51.100.1;for=192.0.2.7" N, "127.0.0.1 9 - inner"},
    {"Forwarded: 192.0.2.7" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=192.0.2.7 proto=https" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for =192.0.2.7" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=192.0.2.7;=https" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=192.0.2.7;proto" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=192.0.2.7;proto:https" N, "127.0.0.1 9 - inner"},
    {"Forwarded: for=\"192.0.2.\\7\"" N, "127.0.0.1 9 - inner"},
    /* both: X-Forwarded is what most proxies write */
    {"Forwarded: for=198.51.100.1;proto=https" N FOR "192.0.2.7" N, "192.0.2.7 0 - inner"},
    {"Forwarded: for=198.51.100.1" N PROTO "https" N, "127.0.0.1 9 https inner"},
};

static void from_the_right_the_first_stranger_is_the_client(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(from_loopback); i++) {
    const char *text = told("127.0.0.1", from_loopback[i].fields, FORWARDED_ANY);
    if (strcmp(text, from_loopback[i].told) != 0)
      fail_msg("%s-> %s, not %s", from_loopback[i].fields, text, from_loopback[i].told);
  }
}

static void a_peer_that_is_not_trusted_is_not_heard(void **state) {
  (void)state;
  static const char *const peers[] = {"192.0.2.9", "127.0.0.2", "::1", "", "nonsense"};
  for (size_t i = 0; i < COUNT(from_loopback); i++) {
    for (size_t k = 0; k < COUNT(peers); k++) {
      char expected[100];
      snprintf(expected, sizeof expected, "%s 9 - inner", peers[k]);
      assert_string_equal(told(peers[k], from_loopback[i].fields, FORWARDED_ANY), expected);
    }
  }
  assert_string_equal(told("::ffff:127.0.0.1", FOR "192.0.2.7" N, FORWARDED_ANY),
                      "192.0.2.7 0 - inner");
}

static void one_kind_of_field_can_be_asked_for(void **state) {
  (void)state;
  static const char both[] =
      FOR "192.0.2.7" N PROTO "http" N "Forwarded: for=198.51.100.1;proto=https;host=outer" N;
  assert_string_equal(told("127.0.0.1", both, FORWARDED_X), "192.0.2.7 0 http inner");
  assert_string_equal(told("127.0.0.1", both, FORWARDED_RFC_7239), "198.51.100.1 0 https outer");
  assert_string_equal(told("127.0.0.1", "Forwarded: for=192.0.2.7" N, FORWARDED_X),
                      "127.0.0.1 9 - inner");
  assert_string_equal(told("127.0.0.1", FOR "192.0.2.7" N, FORWARDED_RFC_7239),
                      "127.0.0.1 9 - inner");
}

static void a_chain_without_end_is_cut(void **state) {
  (void)state;
  char fields[2000] = FOR "192.0.2.7";
  for (int i = 0; i < 100; i++) strcat(fields, ", 10.1.1.1");
  strcat(fields, N);
  assert_string_equal(told("127.0.0.1", fields, FORWARDED_ANY), "10.1.1.1 0 - inner");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(from_the_right_the_first_stranger_is_the_client),
      cmocka_unit_test(a_peer_that_is_not_trusted_is_not_heard),
      cmocka_unit_test(one_kind_of_field_can_be_asked_for),
      cmocka_unit_test(a_chain_without_end_is_cut),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
