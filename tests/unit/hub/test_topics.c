/* SPDX-License-Identifier: MIT */
/* test_topics.c -- a topic lives as long as somebody holds it, whichever threads do. */
#include "../unit.h"

#include "hub/topics.h"

#include <pthread.h>

static struct topics topics;

static int start(void **state) {
  (void)state;
  topics_init(&topics);
  return 0;
}

static int stop(void **state) {
  (void)state;
  topics_fini(&topics); /* which checks that none is held */
  return 0;
}

static void a_topic_lives_while_it_is_held(void **state) {
  (void)state;
  assert_int_equal(topics_members(&topics, "a", 1), 0);
  struct topic *a = topics_hold(&topics, "a", 1), *b = topics_hold(&topics, "b", 1);
  assert_ptr_not_equal(a, b);
  assert_ptr_equal(topics_hold(&topics, "a", 1), a);
  topics_hold_again(&topics, a);
  atomic_store(&a->members, 5);
  atomic_fetch_or(&a->workers, 1ull << 63 | 1);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(topics_members(&topics, "a", 1), 5);
    assert_true(topics_workers(&topics, "a", 1) == (1ull << 63 | 1));
    topics_release(&topics, a);
  }
  assert_int_equal(topics_members(&topics, "a", 1), 0); /* a new one would start from nothing */
  assert_int_equal(topics_workers(&topics, "b", 1), 0);
  topics_release(&topics, b);
}

static void names_are_bytes(void **state) {
  (void)state;
  static const char *const names[] = {"a\0b", "a\0c", "a", "", "A"};
  static const size_t lens[] = {3, 3, 1, 0, 1};
  struct topic *held[5];
  for (unsigned i = 0; i < 5; i++) {
    char *copy = exact_copy(names[i], lens[i]);
    held[i] = topics_hold(&topics, copy, lens[i]);
    free(copy); /* it has its own */
    atomic_store(&held[i]->members, i + 1);
  }
  for (unsigned i = 0; i < 5; i++) {
    assert_int_equal(topics_members(&topics, names[i], lens[i]), i + 1);
    assert_int_equal(held[i]->name_len, lens[i]);
    topics_release(&topics, held[i]);
  }
}

static void count_topic(struct topic *topic, void *arg) {
  unsigned *n = arg;
  *n += atomic_load(&topic->members);
}

static void all_are_told(void **state) {
  (void)state;
  enum { MANY = 3000 };
  static struct topic *held[MANY];
  unsigned n = 0;
  char name[20];
  for (unsigned i = 0; i < MANY; i++) {
    int len = snprintf(name, sizeof name, "topic %u", i);
    held[i] = topics_hold(&topics, name, (size_t)len);
    atomic_store(&held[i]->members, 1);
  }
  topics_each(&topics, count_topic, &n);
  assert_int_equal(n, MANY);
  for (unsigned i = 0; i < MANY; i++) topics_release(&topics, held[i]);
}

enum { THREADS = 4, ROUNDS = 20000, NAMES = 7 };

static void *come_and_go(void *arg) {
  uint64_t seed = 1 + (uint64_t)(uintptr_t)arg;
  for (int i = 0; i < ROUNDS; i++) {
    char name = (char)('a' + random_below(&seed, NAMES));
    struct topic *topic = topics_hold(&topics, &name, 1);
    assert_int_equal(topic->name[0], name);
    atomic_fetch_add(&topic->members, 1);
    if (i % 3) topics_workers(&topics, &name, 1);
    atomic_fetch_sub(&topic->members, 1);
    topics_release(&topics, topic);
  }
  return NULL;
}

static void threads_share_them(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  struct topic *kept = topics_hold(&topics, "a", 1);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)(uintptr_t)i), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(atomic_load(&kept->members), 0);
  assert_int_equal(kept->holders, 1);
  topics_release(&topics, kept);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_topic_lives_while_it_is_held, start, stop),
      cmocka_unit_test_setup_teardown(names_are_bytes, start, stop),
      cmocka_unit_test_setup_teardown(all_are_told, start, stop),
      cmocka_unit_test_setup_teardown(threads_share_them, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
