/* SPDX-License-Identifier: MIT */
/* test_hash.c -- SipHash-1-3 as others compute it, and a key of the process's own. */
#include "../unit.h"

#include "base/hash.h"

/* By CPython 3.11, whose hash of bytes is SipHash-1-3, under the key 0 that PYTHONHASHSEED=0 means.
 */
static void known_values(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t hash;
  } known[] = {
      {"a", 0x407448d2b89b1813u},         {"lobby", 0xcea5b5500b00007fu},
      {"1234567", 0xa33d651594fdae81u},   {"12345678", 0x3489982430560a87u},
      {"123456789", 0x0fbc0f0007965fcfu}, {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0x003e6ede9d87d836u},
  };
  for (size_t i = 0; i < COUNT(known); i++)
    assert_int_equal(hash_bytes(known[i].text, strlen(known[i].text)), known[i].hash);
}

static void every_byte_counts(void **state) {
  (void)state;
  uint8_t bytes[40] = {0};
  for (size_t n = 0; n <= sizeof bytes; n++) {
    uint8_t *copy = exact_copy(bytes, n); /* nothing past the end is read */
    uint64_t before = hash_bytes(copy, n);
    for (size_t i = 0; i < n; i++) {
      copy[i] ^= 1;
      assert_true(hash_bytes(copy, n) != before);
      copy[i] ^= 1;
    }
    assert_int_equal(hash_bytes(copy, n), before);
    if (n) assert_true(hash_bytes(copy, n - 1) != before); /* zeros at the end count as well */
    free(copy);
  }
}

static void the_key_is_chosen_at_the_start(void **state) {
  (void)state;
  uint64_t before = hash_bytes("lobby", 5);
  hash_init();
  uint64_t first = hash_bytes("lobby", 5);
  assert_true(first != before);
  assert_int_equal(hash_bytes("lobby", 5), first);
  hash_init();
  assert_true(hash_bytes("lobby", 5) != first);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_values),
      cmocka_unit_test(every_byte_counts),
      cmocka_unit_test(the_key_is_chosen_at_the_start),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
