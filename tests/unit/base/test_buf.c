/* SPDX-License-Identifier: MIT */
/* test_buf.c -- blocks are shared safely, builders lose no byte and change none they gave away. */
#include "../unit.h"

#include "base/buf.h"

#include <pthread.h>

#ifdef PERIGEE_TINY
enum { BIG = 200 };
#else
enum { BIG = 100 * 1000 };
#endif

static void assert_slice(struct slice s, const char *expected) {
  assert_int_equal(s.len, strlen(expected));
  assert_memory_equal(slice_data(&s), expected, s.len);
}

static struct slice build(struct builder *b, const char *text) {
  struct slice s;
  builder_begin(b);
  builder_text(b, text);
  assert_true(builder_commit(b, &s));
  return s;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void a_new_block_is_empty_and_has_one_reference(void **state) {
  (void)state;
  struct buf *buf = buf_new(100);
  assert_int_equal(buf->cap, 100);
  assert_int_equal(buf->len, 0);
  assert_int_equal(atomic_load(&buf->refs), 1);
  memset(buf->data, 'x', 100); /* the sanitizer checks that it is all there */
  buf_unref(buf);
  buf_unref(buf_new(0));
}

static void the_last_reference_frees(void **state) {
  (void)state;
  struct buf *buf = buf_new(8);
  assert_ptr_equal(buf_ref(buf), buf);
  assert_int_equal(atomic_load(&buf->refs), 2);
  buf_unref(buf);
  assert_int_equal(atomic_load(&buf->refs), 1);
  buf->data[0] = 1;
  buf_unref(buf); /* the leak sanitizer would tell */
}

static void new_over_32_bits(void) {
  buf_new((size_t)UINT32_MAX + 1);
}

static void a_block_over_32_bits_is_refused(void **state) {
  (void)state;
  assert_dies(new_over_32_bits, NULL, 0);
}

static void *ref_and_unref(void *arg) {
  struct buf *buf = arg;
  for (int i = 0; i < 20000; i++) {
    struct buf *mine = buf_ref(buf);
    if (mine->data[0] != 'k') abort();
    buf_unref(mine);
  }
  buf_unref(buf); /* the reference that was taken for this thread */
  return NULL;
}

static void references_are_counted_across_threads(void **state) {
  (void)state;
  struct buf *buf = buf_new(1);
  pthread_t threads[4];
  buf->data[0] = 'k';
  for (size_t i = 0; i < COUNT(threads); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, buf_ref(buf)), 0);
  for (size_t i = 0; i < COUNT(threads); i++) pthread_join(threads[i], NULL);
  assert_int_equal(atomic_load(&buf->refs), 1);
  buf_unref(buf);
}

/* ---- builders -------------------------------------------------------------------------------- */

static void messages_lie_behind_each_other_in_one_block(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice one = build(&b, "one"), two = build(&b, "two");
  assert_ptr_equal(one.buf, two.buf);
  assert_int_equal(two.off, one.off + one.len);
  assert_slice(one, "one");
  assert_slice(two, "two");
  assert_int_equal(b.buf->len, two.off + two.len);
  builder_fini(&b);
}

static void an_empty_message_is_a_message(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s = build(&b, "");
  assert_int_equal(s.len, 0);
  assert_non_null(s.buf);
  builder_fini(&b);
}

static void len_and_data_show_the_message_in_progress(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s;
  build(&b, "before");
  builder_begin(&b);
  assert_int_equal(builder_len(&b), 0);
  builder_add(&b, "abc", 3);
  builder_byte(&b, 'd');
  assert_int_equal(builder_len(&b), 4);
  assert_memory_equal(builder_data(&b), "abcd", 4);
  builder_data(&b)[0] = 'A'; /* it may still be changed */
  assert_true(builder_commit(&b, &s));
  assert_slice(s, "Abcd");
  builder_fini(&b);
}

static void room_hands_out_what_was_asked_for(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  builder_add(&b, "head:", 5);
  uint8_t *room = builder_room(&b, BIG);
  memset(room, 'x', BIG);
  b.end += BIG;
  assert_int_equal(builder_len(&b), BIG + 5);
  assert_true(builder_commit(&b, &s));
  assert_memory_equal(slice_data(&s), "head:xxx", 8);
  assert_int_equal(slice_data(&s)[s.len - 1], 'x');
  builder_fini(&b);
}

static void a_message_that_moves_leaves_earlier_ones_alone(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice early = build(&b, "early"), s;
  buf_ref(early.buf);
  builder_begin(&b);
  for (int i = 0; i < BIG; i++) builder_byte(&b, (uint8_t)i);
  assert_true(builder_commit(&b, &s));
  assert_ptr_not_equal(s.buf, early.buf);
  assert_int_equal(s.len, BIG);
  for (int i = 0; i < BIG; i++) assert_int_equal(slice_data(&s)[i], (uint8_t)i);
  assert_slice(early, "early");
  assert_int_equal(atomic_load(&early.buf->refs), 1); /* the builder let go of it */
  buf_unref(early.buf);
  builder_fini(&b);
}

static void an_aborted_message_leaves_no_trace(void **state) {
  (void)state;
  struct builder b = {0};
  builder_abort(&b); /* harmless when there is none */
  struct slice one = build(&b, "one");
  builder_begin(&b);
  builder_text(&b, "never");
  builder_abort(&b);
  builder_abort(&b);
  assert_int_equal(builder_len(&b), 0);
  assert_int_equal(b.buf->len, one.off + one.len);
  struct slice two = build(&b, "two");
  assert_int_equal(two.off, one.off + one.len);
  assert_slice(one, "one");
  builder_fini(&b);
}

static void rewind_starts_again_only_when_nobody_looks(void **state) {
  (void)state;
  struct builder b = {0};
  builder_rewind(&b); /* nothing to rewind */
  struct slice one = build(&b, "one");
  buf_ref(one.buf);
  builder_rewind(&b);
  struct slice two = build(&b, "two");
  assert_int_equal(two.off, one.off + one.len); /* `one` is still referenced */
  assert_slice(one, "one");
  buf_unref(one.buf);
  builder_rewind(&b);
  assert_int_equal(b.buf->len, 0);
  struct slice three = build(&b, "three");
  assert_int_equal(three.off, 0);
  assert_ptr_equal(three.buf, one.buf); /* the same memory */
  builder_fini(&b);
}

static void rewind_does_nothing_to_an_open_message(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice one = build(&b, "one"), two;
  builder_begin(&b);
  builder_text(&b, "two");
  builder_rewind(&b);
  assert_int_equal(b.buf->len, one.off + one.len);
  assert_true(builder_commit(&b, &two));
  assert_slice(one, "one");
  assert_slice(two, "two");
  builder_fini(&b);
}

static void rewind_lets_go_of_a_block_made_for_one_long_message(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  builder_room(&b, BIG);
  b.end += BIG;
  assert_true(builder_commit(&b, &s));
  builder_rewind(&b);
  assert_null(b.buf);
  assert_slice(build(&b, "next"), "next");
  builder_fini(&b);
}

static void fini_leaves_a_builder_that_works_again(void **state) {
  (void)state;
  struct builder b = {0};
  builder_fini(&b);
  build(&b, "x");
  builder_fini(&b);
  assert_null(b.buf);
  assert_slice(build(&b, "y"), "y");
  builder_fini(&b);
}

/* A gibibyte is asked for and hardly touched, so this costs no memory. */
static void a_message_over_the_maximum_fails_and_the_next_one_works(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s = {.len = 7};
  builder_begin(&b);
  builder_byte(&b, 'x');
  uint8_t *room = builder_room(&b, BUF_MAX);
  assert_non_null(room); /* scratch: encoders need no error path */
  assert_int_equal(builder_len(&b), 0);
  room[0] = 'y';
  b.end += 1;
  builder_add(&b, "more", 4);
  assert_false(builder_commit(&b, &s));
  assert_int_equal(s.len, 0);
  assert_slice(build(&b, "next"), "next");
  builder_fini(&b);
}

static void bytes_over_the_maximum_fail_the_message_unread(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  builder_byte(&b, 'x');
  builder_add(&b, "x", (size_t)BUF_MAX + 1);
  builder_add(&b, "more", 4);
  assert_false(builder_commit(&b, &s));
  assert_slice(build(&b, "next"), "next");
  builder_fini(&b);
}

static void the_longest_message_is_exactly_the_maximum(void **state) {
  (void)state;
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  builder_room(&b, BUF_MAX);
  b.end += BUF_MAX;
  assert_true(builder_commit(&b, &s));
  assert_int_equal(s.len, BUF_MAX);
  builder_fini(&b);
}

static void grow_too_far(void) {
  struct builder b = {0};
  builder_begin(&b);
  builder_grow(&b, (size_t)BUF_MAX + 1);
}

static void begin_twice(void) {
  struct builder b = {0};
  builder_begin(&b);
  builder_begin(&b);
}

static void commit_nothing(void) {
  struct builder b = {0};
  struct slice s;
  builder_begin(&b);
  builder_commit(&b, &s);
  builder_commit(&b, &s);
}

static void misuse_is_noticed(void **state) {
  (void)state;
  assert_dies(grow_too_far, NULL, 0);
  assert_dies(begin_twice, NULL, 0);
  assert_dies(commit_nothing, NULL, 0);
}

/* Random messages against copies of what was written. */
static void what_was_given_away_never_changes(void **state) {
  (void)state;
  enum { KEPT = 300, LONGEST = 700 };
  struct {
    struct slice slice;
    uint8_t expected[LONGEST];
  } *kept = calloc(KEPT, sizeof *kept);
  struct builder b = {0};
  uint64_t seed = 42;
  unsigned n = 0;
  assert_non_null(kept);
  for (int round = 0; round < 5000; round++) {
    uint8_t bytes[LONGEST];
    unsigned len = 0, parts = random_below(&seed, 6);
    builder_begin(&b);
    for (unsigned i = 0; i < parts; i++) {
      unsigned k = random_below(&seed, random_below(&seed, 4) ? 12 : LONGEST / 6);
      for (unsigned j = 0; j < k; j++) bytes[len + j] = (uint8_t)next_random(&seed);
      builder_add(&b, bytes + len, k);
      len += k;
    }
    assert_int_equal(builder_len(&b), len);
    if (random_below(&seed, 5) == 0) {
      builder_abort(&b);
    } else {
      struct slice s;
      assert_true(builder_commit(&b, &s));
      assert_int_equal(s.len, len);
      unsigned at = random_below(&seed, KEPT);
      if (kept[at].slice.buf) {
        if (kept[at].slice.len)
          assert_memory_equal(slice_data(&kept[at].slice), kept[at].expected, kept[at].slice.len);
        buf_unref(kept[at].slice.buf);
        n--;
      }
      kept[at].slice = s;
      buf_ref(s.buf);
      memcpy(kept[at].expected, bytes, len);
      n++;
    }
    if (random_below(&seed, 50) == 0) builder_rewind(&b);
  }
  for (unsigned i = 0; i < KEPT; i++) {
    if (!kept[i].slice.buf) continue;
    if (kept[i].slice.len)
      assert_memory_equal(slice_data(&kept[i].slice), kept[i].expected, kept[i].slice.len);
    buf_unref(kept[i].slice.buf);
    n--;
  }
  assert_int_equal(n, 0);
  builder_fini(&b);
  free(kept);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_new_block_is_empty_and_has_one_reference),
      cmocka_unit_test(the_last_reference_frees),
      cmocka_unit_test(a_block_over_32_bits_is_refused),
      cmocka_unit_test(references_are_counted_across_threads),
      cmocka_unit_test(messages_lie_behind_each_other_in_one_block),
      cmocka_unit_test(an_empty_message_is_a_message),
      cmocka_unit_test(len_and_data_show_the_message_in_progress),
      cmocka_unit_test(room_hands_out_what_was_asked_for),
      cmocka_unit_test(a_message_that_moves_leaves_earlier_ones_alone),
      cmocka_unit_test(an_aborted_message_leaves_no_trace),
      cmocka_unit_test(rewind_starts_again_only_when_nobody_looks),
      cmocka_unit_test(rewind_does_nothing_to_an_open_message),
      cmocka_unit_test(rewind_lets_go_of_a_block_made_for_one_long_message),
      cmocka_unit_test(fini_leaves_a_builder_that_works_again),
      cmocka_unit_test(a_message_over_the_maximum_fails_and_the_next_one_works),
      cmocka_unit_test(bytes_over_the_maximum_fail_the_message_unread),
      cmocka_unit_test(the_longest_message_is_exactly_the_maximum),
      cmocka_unit_test(misuse_is_noticed),
      cmocka_unit_test(what_was_given_away_never_changes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
