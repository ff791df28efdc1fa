/* SPDX-License-Identifier: MIT */
/* test_shared.c -- values are what was set last, end on time, add up, and stay below the limit. */
#include "../unit.h"

#include "base/hash.h"
#include "hub/shared.h"

#include <pthread.h>

static struct shared s;
enum { MAX = 10000 };

static int start(void **state) {
  (void)state;
  shared_init(&s, MAX);
  return 0;
}

static int stop(void **state) {
  (void)state;
  shared_fini(&s);
  return 0;
}

static void assert_value(const char *key, uint64_t now, const char *expected) {
  char *value = NULL;
  size_t n = 0;
  enum shared_result result = shared_get(&s, key, strlen(key), now, &value, &n);
  if (!expected) {
    assert_int_equal(result, SHARED_NONE);
    return;
  }
  assert_int_equal(result, SHARED_OK);
  assert_string_equal(value, expected);
  assert_int_equal(n, strlen(expected));
  free(value);
}

static enum shared_result set(const char *key, const char *value, uint64_t now, int64_t ttl) {
  return shared_set(&s, key, strlen(key), value, strlen(value), now, ttl, false);
}

static enum shared_result add(const char *key, const char *value, uint64_t now, int64_t ttl) {
  return shared_set(&s, key, strlen(key), value, strlen(value), now, ttl, true);
}

static enum shared_result incr(const char *key, int64_t by, uint64_t now, int64_t ttl,
                               char out[static SHARED_NUMBER]) {
  return shared_incr(&s, key, strlen(key), false, by, 0, now, ttl, out);
}

static enum shared_result incr_float(const char *key, double by, char out[static SHARED_NUMBER]) {
  return shared_incr(&s, key, strlen(key), true, 0, by, 1, 0, out);
}

static void values_are_what_was_set_last(void **state) {
  (void)state;
  assert_value("k", 1, NULL);
  assert_int_equal(set("k", "one", 1, 0), SHARED_OK);
  assert_value("k", 1, "one");
  assert_int_equal(set("k", "a longer one", 1, 0), SHARED_OK);
  assert_value("k", 1, "a longer one");
  assert_int_equal(add("k", "three", 1, 0), SHARED_EXISTS);
  assert_value("k", 1, "a longer one");
  assert_int_equal(add("other", "", 1, 0), SHARED_OK);
  assert_value("other", 1, "");
  assert_int_equal(shared_delete(&s, "k", 1, 1), SHARED_OK);
  assert_int_equal(shared_delete(&s, "k", 1, 1), SHARED_NONE);
  assert_value("k", 1, NULL);
}

static void values_end_on_time(void **state) {
  (void)state;
  set("k", "v", 100, 50);
  assert_value("k", 149, "v");
  assert_value("k", 150, NULL);
  assert_int_equal(atomic_load(&s.bytes), 0);
  set("k", "v", 200, 50);
  assert_int_equal(add("k", "w", 249, 0), SHARED_EXISTS);
  assert_int_equal(add("k", "w", 250, 0), SHARED_OK);
  assert_int_equal(shared_expire(&s, "k", 1, 300, 10), SHARED_OK);
  assert_value("k", 309, "w");
  assert_int_equal(shared_expire(&s, "k", 1, 310, 10), SHARED_NONE);
  set("k", "v", 400, 50);
  set("k", "for ever", 410, SHARED_FOREVER);
  assert_value("k", 1u << 30, "for ever");
  set("k", "v", 500, 50);
  set("k", "same time", 510, SHARED_KEEP);
  assert_value("k", 549, "same time");
  assert_value("k", 550, NULL);
}

/* Nobody asks for them again, and they go all the same. */
static void what_has_ended_makes_room(void **state) {
  (void)state;
  char key[20];
  for (uint64_t now = 1000; now < 200000; now += 100) {
    int n = snprintf(key, sizeof key, "key %d", (int)now);
    assert_int_equal(shared_set(&s, key, (size_t)n, "value", 5, now, 200, false), SHARED_OK);
  }
}

/* The n-th of the keys that share a shard with the first. */
static const char *neighbour(unsigned n, struct shared_shard **shard) {
  static char key[20];
  unsigned first = (unsigned)hash_bytes("0", 1) >> 26;
  for (unsigned i = 0;; i++) {
    int len = snprintf(key, sizeof key, "%u", i);
    if ((unsigned)hash_bytes(key, (size_t)len) >> 26 == first && n-- == 0) break;
  }
  *shard = &s.shards[first];
  return key;
}

/* When somebody looks into the shard, not more than once a second, and not before it is time. */
static void a_shard_is_swept_when_it_is_time(void **state) {
  (void)state;
  static const uint64_t ends[] = {100, 5000, 300};
  enum { OVERHEAD = 96, BASE = 100000 }; /* that as in shared.c; when it begins */
  struct shared_shard *shard;
  for (unsigned i = 0; i < COUNT(ends); i++)
    assert_int_equal(set(neighbour(i, &shard), "v", BASE, (int64_t)ends[i]), SHARED_OK);
  assert_int_equal(shard->sweep_at, BASE + 100); /* a later one changes nothing */
  uint64_t before = atomic_load(&s.bytes);
  assert_value(neighbour(3, &shard), BASE + 99, NULL);
  assert_int_equal(atomic_load(&s.bytes), before);
  assert_value(neighbour(3, &shard), BASE + 100, NULL);
  assert_int_equal(before - atomic_load(&s.bytes), OVERHEAD + strlen("0") + strlen("v"));
  assert_int_equal(shard->sweep_at, BASE + 1100); /* not at 300 */
  before = atomic_load(&s.bytes);
  assert_value(neighbour(3, &shard), BASE + 1099, NULL);
  assert_int_equal(atomic_load(&s.bytes), before);
  assert_value(neighbour(3, &shard), BASE + 1100, NULL);
  assert_true(atomic_load(&s.bytes) < before);
  assert_int_equal(shard->sweep_at, BASE + 5000);
  set(neighbour(3, &shard), "v", BASE + 1200, SHARED_FOREVER);
  assert_int_equal(shard->sweep_at, BASE + 5000);
  assert_value(neighbour(1, &shard), BASE + 4999, "v");
  assert_value(neighbour(3, &shard), BASE + 5000, "v");
  assert_int_equal(shard->sweep_at, 0); /* what is left never ends */
  assert_int_equal(atomic_load(&s.bytes), OVERHEAD + strlen(neighbour(3, &shard)) + strlen("v"));
}

static void numbers_add_up(void **state) {
  (void)state;
  char out[SHARED_NUMBER];
  assert_int_equal(incr("n", 5, 1, 0, out), SHARED_OK);
  assert_string_equal(out, "5");
  assert_int_equal(incr("n", -7, 1, 0, out), SHARED_OK);
  assert_string_equal(out, "-2");
  assert_value("n", 1, "-2");
  assert_int_equal(incr_float("n", 2.5, out), SHARED_OK);
  assert_string_equal(out, "0.5");
  assert_int_equal(incr("n", 1, 1, 0, out), SHARED_OK);
  assert_string_equal(out, "1.5");
  assert_int_equal(incr_float("f", 0.1, out), SHARED_OK);
  assert_string_equal(out, "0.1"); /* no digit that is not needed */
  assert_int_equal(incr_float("f", 0.2, out), SHARED_OK);
  assert_true(strtod(out, NULL) == 0.1 + 0.2); /* nothing is lost on the way through text */
  set("n", "9223372036854775807", 1, 0);
  assert_int_equal(incr("n", 0, 1, 0, out), SHARED_OK);
  assert_int_equal(incr("n", 1, 1, 0, out), SHARED_NOT_NUMBER);
  assert_value("n", 1, "9223372036854775807");
  assert_int_equal(incr_float("huge", 1e308, out), SHARED_OK);
  assert_int_equal(incr_float("huge", 1e308, out), SHARED_NOT_NUMBER);
  static const char *const none[] = {"", "\"5\"", "5x", "0x10", "null", "inf", "nan", "1 2", "[1]"};
  for (size_t i = 0; i < COUNT(none); i++) {
    set("t", none[i], 1, 0);
    assert_int_equal(incr("t", 1, 1, 0, out), SHARED_NOT_NUMBER);
    assert_value("t", 1, none[i]);
  }
}

static void a_new_number_gets_its_time(void **state) {
  (void)state;
  char out[SHARED_NUMBER];
  incr("n", 1, 100, 50, out);
  incr("n", 1, 140, 50, out); /* not a new one */
  assert_value("n", 149, "2");
  assert_value("n", 150, NULL);
  incr("n", 1, 160, 50, out);
  assert_string_equal(out, "1");
}

static void there_is_so_much_room(void **state) {
  (void)state;
  static char big[MAX + 1];
  char out[SHARED_NUMBER];
  memset(big, 'x', MAX);
  assert_int_equal(set("k", big, 1, 0), SHARED_FULL);
  assert_value("k", 1, NULL);
  big[MAX / 2] = '\0';
  assert_int_equal(set("k", big, 1, 0), SHARED_OK);
  assert_int_equal(set("other", big, 1, 0), SHARED_FULL);
  assert_int_equal(set("k", big, 1, 0), SHARED_OK); /* in place of itself */
  int n = 0;
  char key[20];
  do {
    snprintf(key, sizeof key, "n%d", n++);
  } while (incr(key, 1, 1, 0, out) == SHARED_OK);
  assert_true(n > 10 && n < 100);
  assert_value(key, 1, NULL);
  set("k", "small", 1, 0);
  assert_int_equal(incr(key, 1, 1, 0, out), SHARED_OK);
  shared_clear(&s);
  assert_int_equal(atomic_load(&s.bytes), 0);
  assert_value("k", 1, NULL);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *count(void *arg) {
  (void)arg;
  char out[SHARED_NUMBER];
  for (int i = 0; i < ROUNDS; i++) incr(i % 2 ? "odd" : "even", 1, 1, 0, out);
  return NULL;
}

static void threads_lose_nothing(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  char expected[20];
  snprintf(expected, sizeof expected, "%d", THREADS * ROUNDS / 2);
  assert_value("odd", 1, expected);
  assert_value("even", 1, expected);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(values_are_what_was_set_last, start, stop),
      cmocka_unit_test_setup_teardown(values_end_on_time, start, stop),
      cmocka_unit_test_setup_teardown(what_has_ended_makes_room, start, stop),
      cmocka_unit_test_setup_teardown(a_shard_is_swept_when_it_is_time, start, stop),
      cmocka_unit_test_setup_teardown(numbers_add_up, start, stop),
      cmocka_unit_test_setup_teardown(a_new_number_gets_its_time, start, stop),
      cmocka_unit_test_setup_teardown(there_is_so_much_room, start, stop),
      cmocka_unit_test_setup_teardown(threads_lose_nothing, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
