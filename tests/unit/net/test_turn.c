/* SPDX-License-Identifier: MIT */
/* test_turn.c -- shares of a turn: what is charged, when one is used up, and when what was put off
 * goes on. */
#include "../unit.h"

#include "net/turn.h"

/* Charges so many milliseconds; the clock must not tick meanwhile. */
static bool charge(struct turn *turn, struct turn_share *share, uint32_t ms) {
  for (;;) {
    struct turn before = *turn;
    struct turn_share was = *share;
    uint64_t now = turn_clock();
    turn->looked = now - ms;
    bool may_go_on = turn_charge(turn, share);
    if (turn_clock() == now) return may_go_on;
    *turn = before;
    *share = was;
  }
}

static void a_share_is_used_up_at_its_end(void **state) {
  (void)state;
  struct turn turn = {.number = 1, .most = 5};
  struct turn_share below = {0}, at = {0}, above = {0}, sum = {0};
  assert_true(charge(&turn, &below, 4));
  assert_false(turn_is_over(&turn, &below));
  assert_false(charge(&turn, &at, 5));
  assert_true(turn_is_over(&turn, &at));
  assert_false(charge(&turn, &above, 6));
  for (int i = 0; i < 4; i++) assert_true(charge(&turn, &sum, 1));
  assert_false(charge(&turn, &sum, 1));
  assert_int_equal(sum.ms, 5);
}

static void each_turn_has_new_shares(void **state) {
  (void)state;
  struct turn turn = {.number = 1, .most = 5};
  struct turn_share share = {0};
  assert_false(charge(&turn, &share, 9));
  turn_end(&turn, 0);
  assert_false(turn_is_over(&turn, &share));
  assert_true(charge(&turn, &share, 4));
  assert_int_equal(share.ms, 4);
}

static void long_work_does_not_wrap_around(void **state) {
  (void)state;
  struct turn turn = {.number = 1, .most = 5};
  struct turn_share share = {.number = 1, .ms = UINT32_MAX - 3};
  assert_false(charge(&turn, &share, 10));
  assert_int_equal(share.ms, UINT32_MAX);
}

/* uv_now and the coarse clock differ by up to a tick of it. */
static void a_look_back_never_charges_twice_or_less_than_nothing(void **state) {
  (void)state;
  struct turn turn = {.number = 1, .most = 5};
  struct turn_share share = {0};
  uint64_t now = turn_clock();
  turn.looked = now + 1000;
  turn_look_back(&turn, now - 500); /* it was looked at later */
  assert_true(turn_charge(&turn, &share));
  assert_int_equal(share.ms, 0);
  turn_look_back(&turn, turn_clock() + 1000);
  assert_true(turn_charge(&turn, &share));
  assert_int_equal(share.ms, 0);
  turn.looked = 0;
  turn_look_back(&turn, turn_clock() - 7);
  assert_false(turn_charge(&turn, &share));
  assert_in_range(share.ms, 7, 1000);
}

static void what_was_put_off_waits_for_a_quiet_turn_or_the_fourth(void **state) {
  (void)state;
  struct turn turn = {.number = 1, .most = 5};
  uint64_t activity = 10;
  turn_begin(&turn, activity);
  assert_false(turn.is_late); /* there is nothing */
  turn.has_late = true;
  turn_end(&turn, activity);
  turn_begin(&turn, activity); /* nothing has come since */
  assert_true(turn.is_late);
  assert_false(turn.has_late);
  turn_end(&turn, activity);
  for (int round = 0; round < 2; round++) {
    turn.has_late = true;
    for (int i = 0; i < TURN_PATIENCE; i++) {
      turn_begin(&turn, ++activity);
      assert_false(turn.is_late);
      assert_true(turn.has_late);
      turn_end(&turn, activity);
    }
    turn_begin(&turn, ++activity);
    assert_true(turn.is_late);
    turn_end(&turn, activity);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_share_is_used_up_at_its_end),
      cmocka_unit_test(each_turn_has_new_shares),
      cmocka_unit_test(long_work_does_not_wrap_around),
      cmocka_unit_test(a_look_back_never_charges_twice_or_less_than_nothing),
      cmocka_unit_test(what_was_put_off_waits_for_a_quiet_turn_or_the_fourth),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
