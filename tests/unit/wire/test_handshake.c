/* SPDX-License-Identifier: MIT */
/* test_handshake.c -- opening handshakes are judged as RFC 6455 section 4.2 says, and answered. */
#include "../unit.h"

#include "wire/handshake.h"

#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE "Connection: Upgrade\r\nUpgrade: websocket\r\n"
#define GET     "GET /chat HTTP/1.1\r\nHost: h\r\n"

static const struct http_limits limits = {.head = 16384, .target = 8192, .body = 1000};
static struct http_parser parser; /* one for all requests, as on a connection */
static char *bytes;               /* the request lies here, and ends where it ends */

static int start(void **state) {
  (void)state;
  http_parser_init(&parser, &limits);
  return 0;
}

static int finish(void **state) {
  (void)state;
  free(bytes);
  bytes = NULL;
  http_parser_fini(&parser);
  return 0;
}

static const struct http_request *request(const char *head) {
  size_t n = strlen(head), used;
  free(bytes);
  http_parser_reset(&parser, &limits);
  bytes = exact_copy(head, n);
  assert_int_equal(http_feed(&parser, bytes, n, &used), PARSE_HEAD);
  return &parser.request;
}

static void a_websocket_is_wanted_when_upgrade_lists_it(void **state) {
  (void)state;
  static const struct {
    const char *head;
    bool is_wanted;
  } heads[] = {
      {GET UPGRADE "\r\n", true},
      {GET "Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\n\r\n", true},
      {GET "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n", true},
      {GET "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n", true},
      {"POST / HTTP/1.0\r\n" UPGRADE "\r\n", true}, /* wanted, though not to be had */
      {"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nHost: h\r\n\r\n", true},
      {GET "\r\n", false},
      {GET "Upgrade: websocket\r\n\r\n", false},
      {GET "Connection: upgrade\r\n\r\n", false},
      {GET "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n", false},
      {GET "Connection: upgrade\r\nUpgrade: websockets\r\n\r\n", false},
      {GET "Connection: upgrade\r\nUpgrade: websocket/13\r\n\r\n", false},
      {GET "Connection: close\r\nUpgrade: websocket\r\n\r\n", false},
      {GET KEY VERSION "\r\n", false},
  };
  for (size_t i = 0; i < COUNT(heads); i++)
    if (handshake_is_wanted(request(heads[i].head)) != heads[i].is_wanted)
      fail_msg("%s", heads[i].head);
}

static const struct {
  const char *what, *head;
  unsigned status;
} judged[] = {
    {"the RFC's", GET UPGRADE KEY VERSION "\r\n", 101},
    {"names in any case",
     GET UPGRADE "SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "sec-websocket-version:13\r\n\r\n",
     101},
    {"Host last", "GET / HTTP/1.1\r\n" KEY VERSION UPGRADE "Host: h\r\n\r\n", 101},
    {"Host last, version first", "GET / HTTP/1.1\r\n" VERSION KEY UPGRADE "Host: h\r\n\r\n", 101},
    {"length of 0", GET UPGRADE KEY VERSION "Content-Length: 0\r\n\r\n", 101},
    {"POST", "POST / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY VERSION "\r\n", 400},
    {"HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY VERSION "\r\n", 400},
    {"HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\n" UPGRADE KEY VERSION "\r\n", 400},
    {"a body", GET UPGRADE KEY VERSION "Content-Length: 1\r\n\r\n", 400},
    {"a chunked body", GET UPGRADE KEY VERSION "Transfer-Encoding: chunked\r\n\r\n", 400},
    {"no version", GET UPGRADE KEY "\r\n", 426},
    {"version 12", GET UPGRADE KEY "Sec-WebSocket-Version: 12\r\n\r\n", 426},
    {"version 8, as in drafts", GET UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
    {"version 013", GET UPGRADE KEY "Sec-WebSocket-Version: 013\r\n\r\n", 426},
    {"version 13.0", GET UPGRADE KEY "Sec-WebSocket-Version: 13.0\r\n\r\n", 426},
    {"a list of versions", GET UPGRADE KEY "Sec-WebSocket-Version: 13, 8\r\n\r\n", 426},
    {"empty version", GET UPGRADE KEY "Sec-WebSocket-Version:\r\n\r\n", 426},
    {"version twice", GET UPGRADE KEY VERSION VERSION "\r\n", 426},
    {"no key", GET UPGRADE VERSION "\r\n", 400},
    {"key twice", GET UPGRADE KEY KEY VERSION "\r\n", 400},
    {"empty key", GET UPGRADE "Sec-WebSocket-Key:\r\n" VERSION "\r\n", 400},
    {"key of 15 bytes", GET UPGRADE "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n" VERSION "\r\n",
     400},
    {"key of 17 bytes",
     GET UPGRADE "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n" VERSION "\r\n", 400},
    {"key of 18 bytes",
     GET UPGRADE "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA\r\n" VERSION "\r\n", 400},
    {"key without padding",
     GET UPGRADE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n" VERSION "\r\n", 400},
    {"key padded early",
     GET UPGRADE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j=Q==\r\n" VERSION "\r\n", 400},
    {"key of other letters",
     GET UPGRADE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-_==\r\n" VERSION "\r\n", 400},
    {"key of another first letter",
     GET UPGRADE "Sec-WebSocket-Key: -GhlIHNhbXBsZSBub25jZQ==\r\n" VERSION "\r\n", 400},
    {"key of another last letter",
     GET UPGRADE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ-==\r\n" VERSION "\r\n", 400},
    {"key with a space",
     GET UPGRADE "Sec-WebSocket-Key: dGhlIHNhbXBs SBub25jZQ==\r\n" VERSION "\r\n", 400},
    {"key with / and +",
     GET UPGRADE "Sec-WebSocket-Key: /+09azAZ/+09azAZ/+09aw==\r\n" VERSION "\r\n", 101},
    {"key with unused bits set",
     GET UPGRADE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n" VERSION "\r\n", 101},
};

static void handshakes_are_judged(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(judged); i++) {
    const char *reason = "unset";
    unsigned status = handshake_judge(request(judged[i].head), &reason);
    if (status != judged[i].status) fail_msg("%s: %u", judged[i].what, status);
    if (status == 101)
      assert_null(reason);
    else
      assert_true(reason && *reason);
  }
}

static void answer_keys(void) {
  static const char *const keys[][2] = {
      {"dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, /* RFC 6455 section 1.3 */
      {"x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="}, /* Wikipedia's */
  };
  for (size_t i = 0; i < COUNT(keys); i++) {
    char head[300], *out = malloc(HANDSHAKE_ACCEPT_LEN + 1);
    assert_non_null(out);
    snprintf(head, sizeof head, GET UPGRADE VERSION "Sec-WebSocket-Key:  %s \r\n\r\n", keys[i][0]);
    const struct http_request *r = request(head);
    const char *reason;
    assert_int_equal(handshake_judge(r, &reason), 101);
    handshake_accept(r, out);
    assert_string_equal(out, keys[i][1]);
    free(out);
  }
}

static void keys_are_answered_before_and_after_the_preparation(void **state) {
  (void)state;
  answer_keys();
  handshake_init();
  answer_keys();
}

static void answer_without_a_key(void) {
  char out[HANDSHAKE_ACCEPT_LEN + 1];
  handshake_accept(request(GET "\r\n"), out);
}

static void answer_a_short_key(void) {
  char out[HANDSHAKE_ACCEPT_LEN + 1];
  handshake_accept(request(GET "Sec-WebSocket-Key: short\r\n\r\n"), out);
}

static void answering_an_unjudged_handshake_is_noticed(void **state) {
  (void)state;
  assert_dies(answer_without_a_key, NULL, 0);
  assert_dies(answer_a_short_key, NULL, 0);
}

static void subprotocols_are_found_in_lists(void **state) {
  (void)state;
  static const struct {
    const char *fields, *name;
    bool is_offered;
  } offers[] = {
      {"Sec-WebSocket-Protocol: jsonrpc\r\n", "jsonrpc", true},
      {"Sec-WebSocket-Protocol: chat, jsonrpc\r\n", "jsonrpc", true},
      {"Sec-WebSocket-Protocol: chat ,\tjsonrpc\t, x\r\n", "jsonrpc", true},
      {"Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol: jsonrpc\r\n", "jsonrpc", true},
      {"Sec-WebSocket-Protocol: jsonrpc , x\r\n", "jsonrpc", true},
      {"Sec-WebSocket-Protocol: ,, jsonrpc\r\n", "jsonrpc", true},
      {"", "jsonrpc", false},
      {"Sec-WebSocket-Protocol:\r\n", "jsonrpc", false},
      {"Sec-WebSocket-Protocol: JSONRPC\r\n", "jsonrpc", false}, /* names compare exactly */
      {"Sec-WebSocket-Protocol: jsonrpc2\r\n", "jsonrpc", false},
      {"Sec-WebSocket-Protocol: json, rpc\r\n", "jsonrpc", false},
      {"Sec-WebSocket-Protocol: json rpc\r\n", "json", false},
      {"Sec-WebSocket-Protocol: xjsonrpc\r\n", "jsonrpc", false},
      {"X-Protocol: jsonrpc\r\n", "jsonrpc", false},
  };
  char head[300];
  for (size_t i = 0; i < COUNT(offers); i++) {
    snprintf(head, sizeof head, "GET / HTTP/1.1\r\n%sHost: h\r\n\r\n", offers[i].fields);
    if (handshake_offers(request(head), offers[i].name) != offers[i].is_offered)
      fail_msg("%s in %s", offers[i].name, offers[i].fields);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_websocket_is_wanted_when_upgrade_lists_it, start, finish),
      cmocka_unit_test_setup_teardown(handshakes_are_judged, start, finish),
      cmocka_unit_test_setup_teardown(keys_are_answered_before_and_after_the_preparation, start,
                                      finish),
      cmocka_unit_test_setup_teardown(answering_an_unjudged_handshake_is_noticed, start, finish),
      cmocka_unit_test_setup_teardown(subprotocols_are_found_in_lists, start, finish),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
