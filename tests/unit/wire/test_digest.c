/* SPDX-License-Identifier: MIT */
/* test_digest.c -- against published values; base64url there and back, and nothing else. */
#include "../unit.h"

#include "wire/digest.h"

static void hex(const uint8_t *bytes, size_t n, char *out) {
  for (size_t i = 0; i < n; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* FIPS 180-4 examples */
static void sha256_is_as_published(void **state) {
  (void)state;
  uint8_t digest[DIGEST_LEN];
  char text[2 * DIGEST_LEN + 1];
  digest_sha256("abc", 3, digest);
  hex(digest, sizeof digest, text);
  assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  digest_sha256("", 0, digest);
  hex(digest, sizeof digest, text);
  assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* RFC 4231 sections 4.3 and 4.7 */
static void hmac_is_as_published(void **state) {
  (void)state;
  uint8_t mac[DIGEST_LEN], key[131];
  char text[2 * DIGEST_LEN + 1];
  static const char data[] = "what do ya want for nothing?";
  digest_hmac("Jefe", 4, data, sizeof data - 1, mac);
  hex(mac, sizeof mac, text);
  assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  static const char large[] = "Test Using Larger Than Block-Size Key - Hash Key First";
  memset(key, 0xaa, sizeof key);
  digest_hmac(key, sizeof key, large, sizeof large - 1, mac);
  hex(mac, sizeof mac, text);
  assert_string_equal(text, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void equal_looks_at_all_bytes(void **state) {
  (void)state;
  uint8_t a[16] = {0}, b[16] = {0};
  assert_true(digest_equal(a, b, sizeof a));
  for (size_t i = 0; i < sizeof a; i++) {
    b[i] = 1;
    assert_false(digest_equal(a, b, sizeof a));
    b[i] = 0;
  }
}

/* RFC 4648 section 10, in the alphabet of section 5, without padding */
static void base64url_is_as_published(void **state) {
  (void)state;
  static const char *const pairs[][2] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xfe", "-__-"}};
  for (size_t i = 0; i < COUNT(pairs); i++) {
    size_t n = strlen(pairs[i][0]), m = strlen(pairs[i][1]);
    char *text = malloc(m + 1);
    uint8_t *bytes = malloc(m * 3 / 4 + 1);
    assert_int_equal(base64url_len(n), m);
    base64url_write(pairs[i][0], n, text);
    assert_memory_equal(text, pairs[i][1], m);
    char *exact = exact_copy(pairs[i][1], m);
    assert_int_equal(base64url_read(exact, m, bytes), n);
    assert_memory_equal(bytes, pairs[i][0], n);
    free(exact);
    free(text);
    free(bytes);
  }
}

static void base64url_refuses_what_it_does_not_write(void **state) {
  (void)state;
  static const char *const wrong[] = {"A",   "AAAAA", "Zg=", "Zg==", "Zh",
                                      "Zm9", "+/+/",  "Z g", "Zg\n", "Z\xc3\xa9"};
  uint8_t out[16];
  for (size_t i = 0; i < COUNT(wrong); i++)
    if (base64url_read(wrong[i], strlen(wrong[i]), out) != SIZE_MAX) fail_msg("%s", wrong[i]);
}

static void base64url_comes_back(void **state) {
  (void)state;
  uint64_t seed = 7;
  for (int i = 0; i < 2000; i++) {
    uint8_t in[64], out[64];
    char text[90];
    size_t n = random_below(&seed, sizeof in);
    for (size_t k = 0; k < n; k++) in[k] = (uint8_t)next_random(&seed);
    base64url_write(in, n, text);
    assert_int_equal(base64url_read(text, base64url_len(n), out), n);
    assert_memory_equal(in, out, n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sha256_is_as_published),
      cmocka_unit_test(hmac_is_as_published),
      cmocka_unit_test(equal_looks_at_all_bytes),
      cmocka_unit_test(base64url_is_as_published),
      cmocka_unit_test(base64url_refuses_what_it_does_not_write),
      cmocka_unit_test(base64url_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
