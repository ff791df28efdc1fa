/* SPDX-License-Identifier: MIT */
/* test_deflate.c -- permessage-deflate is agreed to when it can be kept, and cannot be made to
 * explode. */
#include "../unit.h"

#include "wire/deflate.h"

#include <zlib.h>

static const struct http_limits limits = {.head = 16384, .target = 8192, .body = 1000};

#define AGREED "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

static const struct {
  const char *fields, *answer; /* NULL: no */
} offers[] = {
    {"", NULL},
    {"E: permessage-deflate", AGREED},
    {"E: Permessage-Deflate", AGREED},
    {"E: permessage-deflate; client_max_window_bits", AGREED}, /* browsers */
    {"E: permessage-deflate;client_max_window_bits=8", AGREED},
    {"E: permessage-deflate; client_max_window_bits=\"15\"", AGREED},
    {"E: permessage-deflate; server_no_context_takeover ;client_no_context_takeover", AGREED},
    {"E: permessage-deflate; server_max_window_bits=15", AGREED "; server_max_window_bits=15"},
    {"E: permessage-deflate; server_max_window_bits=10", NULL},
    {"E: permessage-deflate; server_max_window_bits=10, permessage-deflate", AGREED},
    {"E: x-webkit-deflate-frame, permessage-deflate", AGREED},
    {"E: x-other; a=b\r\nE: permessage-deflate", AGREED},
    {"E: ,, permessage-deflate", AGREED},
    /* what is malformed or unknown is no offer (RFC 7692 section 7.1) */
    {"E: permessage-deflate; server_max_window_bits", NULL},
    {"E: permessage-deflate; server_max_window_bits=", NULL},
    {"E: permessage-deflate; server_max_window_bits=16", NULL},
    {"E: permessage-deflate; server_max_window_bits=015", NULL},
    {"E: permessage-deflate; client_max_window_bits=7", NULL},
    {"E: permessage-deflate; client_max_window_bits=16", NULL},
    {"E: permessage-deflate; client_max_window_bits=", NULL},
    {"E: permessage-deflate; server_no_context_takeover=1", NULL},
    {"E: permessage-deflate; client_no_context_takeover; client_no_context_takeover", NULL},
    {"E: permessage-deflate; client_max_window_bits; client_max_window_bits=9", NULL},
    {"E: permessage-deflate; unknown", NULL},
    {"E: permessage-deflate;", NULL},
    {"E: permessage-deflate; ;", NULL},
    {"E: permessage-deflat", NULL},
    {"E: permessage-deflate2", NULL},
    {"E: =permessage-deflate", NULL},
};

static void offers_that_can_be_kept_are_agreed_to(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(offers); i++) {
    struct http_parser p;
    char head[500] = "GET / HTTP/1.1\r\nHost: h\r\n", line[PMD_LINE_MAX], expected[PMD_LINE_MAX];
    for (const char *s = offers[i].fields; *s; s++) { /* E: the field's name */
      size_t at = strlen(head);
      bool is_name = *s == 'E' && s[1] == ':';
      snprintf(head + at, sizeof head - at, "%s%.*s", is_name ? "Sec-WebSocket-Extensions" : "",
               !is_name, s);
    }
    strcat(head, offers[i].fields[0] ? "\r\n\r\n" : "\r\n");
    size_t used, n = strlen(head);
    char *bytes = exact_copy(head, n);
    http_parser_init(&p, &limits);
    assert_int_equal(http_feed(&p, bytes, n, &used), PARSE_HEAD);
    size_t len = pmd_negotiate(&p.request, line);
    if (!offers[i].answer) {
      if (len) fail_msg("%s", offers[i].fields);
    } else {
      n = (size_t)snprintf(expected, sizeof expected, "Sec-WebSocket-Extensions: %s\r\n",
                           offers[i].answer);
      if (len != n || memcmp(line, expected, n) != 0) fail_msg("%s", offers[i].fields);
    }
    http_parser_fini(&p);
    free(bytes);
  }
}

/* Deflates as another implementation may: in pieces, with a final block or without. */
static size_t pack(const uint8_t *data, size_t n, uint8_t *out, size_t room, bool is_final) {
  z_stream z = {0};
  assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = (uint8_t *)data;
  z.avail_in = (unsigned)n;
  z.next_out = out;
  z.avail_out = (unsigned)room;
  int result = deflate(&z, is_final ? Z_FINISH : Z_SYNC_FLUSH);
  assert_int_equal(result, is_final ? Z_STREAM_END : Z_OK);
  size_t len = room - z.avail_out;
  deflateEnd(&z);
  if (!is_final) return len - 4;
  out[len] = 0; /* RFC 7692 section 7.2.3.5 */
  return len + 1;
}

static enum pmd_result unpack(struct pmd *pmd, const uint8_t *data, size_t n, uint64_t limit,
                              uint8_t **out, size_t *len) {
  uint8_t *copy = exact_copy(data, n);
  enum pmd_result result = pmd_inflate(pmd, copy, n, limit, out, len);
  free(copy);
  return result;
}

static uint8_t text[100000], packed[200000];

static void fill(size_t n, int noise) {
  uint32_t seed = 7;
  for (size_t i = 0; i < n; i++) {
    seed = seed * 1664525 + 1013904223;
    text[i] = noise ? (uint8_t)(seed >> 24) : (uint8_t)("the same again, "[i % 16]);
  }
}

static void messages_come_out_as_they_went_in(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 15, 16, 17, 4095, 4096, 4097, 65536, 100000};
  struct pmd *pmd = pmd_new();
  uint8_t *out;
  size_t len;
  for (int noise = 0; noise < 2; noise++) {
    for (size_t i = 0; i < COUNT(sizes); i++) {
      size_t n = sizes[i];
      fill(n, noise);
      for (int is_final = 0; is_final < 2; is_final++) {
        size_t k = pack(text, n, packed, sizeof packed, is_final);
        /* to the very limit, and not beyond */
        assert_int_equal(unpack(pmd, packed, k, n ? n : 1, &out, &len), PMD_DONE);
        assert_int_equal(len, n);
        if (n) assert_memory_equal(out, text, n);
        if (n > 1) assert_int_equal(unpack(pmd, packed, k, n - 1, &out, &len), PMD_TOO_BIG);
        pmd_release(pmd);
      }
      if (n == 0) continue;
      size_t k = pmd_deflate(pmd, text, n, packed, sizeof packed);
      assert_true(k > 0);
      assert_int_equal(unpack(pmd, packed, k, sizeof text, &out, &len), PMD_DONE);
      assert_int_equal(len, n);
      assert_memory_equal(out, text, n);
    }
  }
  pmd_free(pmd);
}

static void each_message_is_forgotten(void **state) {
  (void)state;
  struct pmd *pmd = pmd_new();
  static uint8_t again[1000];
  fill(600, 0);
  size_t n = pmd_deflate(pmd, text, 600, packed, sizeof packed);
  assert_int_equal(pmd_deflate(pmd, text, 600, again, sizeof again), n);
  assert_memory_equal(again, packed, n);
  pmd_free(pmd);
}

static void no_room_is_said(void **state) {
  (void)state;
  struct pmd *pmd = pmd_new();
  fill(1000, 1);
  assert_int_equal(pmd_deflate(pmd, text, 1000, packed, 999), 0); /* noise does not get shorter */
  fill(1000, 0);
  size_t n = pmd_deflate(pmd, text, 1000, packed, 999);
  assert_in_range(n, 1, 100);
  uint8_t *exact = malloc(n + 5);
  for (size_t room = 0; room <= n + 4; room++)
    assert_int_equal(pmd_deflate(pmd, text, 1000, exact, room), 0);
  assert_int_equal(pmd_deflate(pmd, text, 1000, exact, n + 5), n);
  free(exact);
  pmd_free(pmd);
}

static void a_bomb_is_stopped_at_the_limit(void **state) {
  (void)state;
  struct pmd *pmd = pmd_new();
  uint8_t *out;
  size_t len, n = 64 << 20;
  uint8_t *zeros = calloc(1, n);
  size_t k = pack(zeros, n, packed, sizeof packed, false);
  assert_in_range(k, 1, 70000);
  assert_int_equal(unpack(pmd, packed, k, 100000, &out, &len), PMD_TOO_BIG);
  assert_int_equal(len, 100000);
  assert_int_equal(unpack(pmd, packed, k, n, &out, &len), PMD_DONE);
  free(zeros);
  pmd_release(pmd);
  pmd_free(pmd);
}

static void what_is_cut_or_spoiled_is_refused(void **state) {
  (void)state;
  struct pmd *pmd = pmd_new();
  uint8_t *out;
  size_t len;
  fill(3000, 0);
  for (size_t i = 0; i < 300; i++) text[i * 7] = (uint8_t)(i * 31);
  size_t k = pack(text, 3000, packed, sizeof packed, false);
  unsigned refused = 0;
  for (size_t cut = 1; cut < k; cut++) {
    enum pmd_result result = unpack(pmd, packed, cut, sizeof text, &out, &len);
    if (result == PMD_BAD)
      refused++;
    else /* what was cut off was nothing, or it now means something else */
      assert_true(result == PMD_DONE && (len != 3000 || cut >= k - 2));
  }
  assert_in_range(refused, (k - 1) * 9 / 10, k - 1);
  static const uint8_t wrong[] = {0x07, 0xff, 0xff}; /* block type 3 */
  assert_int_equal(unpack(pmd, wrong, sizeof wrong, 100, &out, &len), PMD_BAD);
  static const uint8_t far[] = {0x4b, 0x04, 0x13}; /* a match before the beginning, or junk */
  assert_true(unpack(pmd, far, sizeof far, 100, &out, &len) != PMD_TOO_BIG);
  /* and the next message is read as if nothing had been */
  assert_int_equal(unpack(pmd, packed, k, sizeof text, &out, &len), PMD_DONE);
  assert_memory_equal(out, text, 3000);
  pmd_free(pmd);
}

static void an_unused_one_owns_nothing(void **state) {
  (void)state;
  struct pmd *pmd = pmd_new();
  pmd_release(pmd);
  pmd_free(pmd);
  pmd_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(offers_that_can_be_kept_are_agreed_to),
      cmocka_unit_test(messages_come_out_as_they_went_in),
      cmocka_unit_test(each_message_is_forgotten),
      cmocka_unit_test(no_room_is_said),
      cmocka_unit_test(a_bomb_is_stopped_at_the_limit),
      cmocka_unit_test(what_is_cut_or_spoiled_is_refused),
      cmocka_unit_test(an_unused_one_owns_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
