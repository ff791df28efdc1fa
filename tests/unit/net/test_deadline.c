/* SPDX-License-Identifier: MIT */
/* test_deadline.c -- every deadline fires once, at its time and in order, however often it is
 * moved. */
#include "../unit.h"

#include "net/deadline.h"

static uv_loop_t loop;
static struct deadlines ds;

struct timed {
  struct deadline deadline; /* must be first */
  unsigned fired;
  uint64_t fired_at;
  struct deadline *set; /* set again when this fires ... */
  uint64_t set_due;     /* ... to this */
};

static struct timed *log_of[1000]; /* in the order of firing */
static unsigned n_log;
static struct deadline *awaited_too; /* comes nearer while be_away; NULL: none */

static void on_fire(struct deadline *d) {
  struct timed *t = (struct timed *)d;
  assert_false(deadline_is_set(d)); /* it may be set again */
  t->fired++;
  t->fired_at = deadlines_now(&ds);
  if (n_log < COUNT(log_of)) log_of[n_log++] = t;
  if (t->set) deadline_set(&ds, t->set, t->set_due);
}

static struct timed timed(void) {
  return (struct timed){.deadline = {.fire = on_fire}};
}

static int start(void **state) {
  (void)state;
  n_log = 0;
  awaited_too = NULL;
  if (uv_loop_init(&loop)) return -1;
  deadlines_open(&ds, &loop);
  return 0;
}

static int start_frozen(void **state) {
  if (start(state)) return -1;
  deadlines_freeze(&ds);
  return 0;
}

static int stop(void **state) {
  (void)state;
  deadlines_close(&ds);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop);
}

/* ---- with a frozen clock --------------------------------------------------------------------- */

static void deadlines_fire_in_order_at_their_times(void **state) {
  (void)state;
  static const uint64_t dues[] = {50, 10, 30, 30, 20, 1, 1000, 40};
  static const uint64_t order[] = {1, 10, 20, 30, 40, 50, 1000}; /* two at 30 */
  struct timed t[COUNT(dues)];
  uint64_t now = deadlines_now(&ds);
  for (size_t i = 0; i < COUNT(dues); i++) {
    t[i] = timed();
    deadline_set(&ds, &t[i].deadline, now + dues[i]);
    assert_true(deadline_is_set(&t[i].deadline));
  }
  for (size_t i = 0; i < COUNT(order); i++) {
    assert_true(deadlines_advance(&ds, now + 5000));
    assert_int_equal(deadlines_now(&ds), now + order[i]);
  }
  assert_false(deadlines_advance(&ds, now + 5000));
  assert_int_equal(deadlines_now(&ds), now + 5000);
  for (size_t i = 0; i < COUNT(dues); i++) {
    assert_int_equal(t[i].fired, 1);
    assert_int_equal(t[i].fired_at, now + dues[i]);
    assert_false(deadline_is_set(&t[i].deadline));
  }
  assert_int_equal(n_log, COUNT(dues));
}

static void the_clock_stops_where_it_was_told(void **state) {
  (void)state;
  struct timed t = timed();
  uint64_t now = deadlines_now(&ds);
  assert_false(deadlines_advance(&ds, now + 10)); /* nothing is set */
  assert_int_equal(deadlines_now(&ds), now + 10);
  deadline_set(&ds, &t.deadline, now + 21);
  assert_false(deadlines_advance(&ds, now + 20));
  assert_int_equal(deadlines_now(&ds), now + 20);
  assert_int_equal(t.fired, 0);
  assert_false(deadlines_advance(&ds, now + 5)); /* never backwards */
  assert_int_equal(deadlines_now(&ds), now + 20);
  assert_true(deadlines_advance(&ds, now + 21));
  assert_int_equal(t.fired, 1);
}

static void moving_later_is_kept(void **state) {
  (void)state;
  struct timed t = timed(), other = timed();
  uint64_t now = deadlines_now(&ds);
  deadline_set(&ds, &t.deadline, now + 10);
  deadline_set(&ds, &other.deadline, now + 50);
  for (uint64_t due = 20; due <= 100; due += 10) deadline_set(&ds, &t.deadline, now + due);
  assert_true(deadlines_advance(&ds, now + 1000)); /* does not stop at 10 for nothing */
  assert_int_equal(deadlines_now(&ds), now + 50);
  assert_int_equal(other.fired, 1);
  assert_int_equal(t.fired, 0);
  assert_true(deadlines_advance(&ds, now + 1000));
  assert_int_equal(t.fired, 1);
  assert_int_equal(t.fired_at, now + 100);
}

static void moving_earlier_is_kept(void **state) {
  (void)state;
  struct timed t[20];
  uint64_t now = deadlines_now(&ds);
  for (unsigned i = 0; i < COUNT(t); i++) {
    t[i] = timed();
    deadline_set(&ds, &t[i].deadline, now + 1000 + i);
  }
  for (unsigned i = COUNT(t); i; i--) deadline_set(&ds, &t[i - 1].deadline, now + i);
  for (unsigned i = 0; i < COUNT(t); i++) {
    assert_true(deadlines_advance(&ds, now + 100));
    assert_int_equal(t[i].fired, 1);
    assert_int_equal(t[i].fired_at, now + i + 1);
  }
}

static void moving_later_and_earlier_again_is_kept(void **state) {
  (void)state;
  struct timed t = timed();
  uint64_t now = deadlines_now(&ds);
  deadline_set(&ds, &t.deadline, now + 10);
  deadline_set(&ds, &t.deadline, now + 100);
  deadline_set(&ds, &t.deadline, now + 40); /* between what the heap believes and what it was */
  assert_true(deadlines_advance(&ds, now + 1000));
  assert_int_equal(t.fired_at, now + 40);
  deadline_set(&ds, &t.deadline, now + 200);
  deadline_set(&ds, &t.deadline, now + 300);
  deadline_set(&ds, &t.deadline, now + 50); /* below it */
  assert_true(deadlines_advance(&ds, now + 1000));
  assert_int_equal(t.fired_at, now + 50);
}

static void unsetting_is_final_and_repeatable(void **state) {
  (void)state;
  struct timed t[9];
  uint64_t now = deadlines_now(&ds);
  for (unsigned gone = 0; gone < COUNT(t); gone++) { /* each place in the heap once */
    now = deadlines_now(&ds);
    for (unsigned i = 0; i < COUNT(t); i++) {
      t[i] = timed();
      deadline_set(&ds, &t[i].deadline, now + 1 + (i * 5) % 9);
    }
    deadline_unset(&ds, &t[gone].deadline);
    deadline_unset(&ds, &t[gone].deadline);
    assert_false(deadline_is_set(&t[gone].deadline));
    while (deadlines_advance(&ds, now + 100)) {
    }
    for (unsigned i = 0; i < COUNT(t); i++) assert_int_equal(t[i].fired, i != gone);
  }
  struct timed never = timed();
  deadline_unset(&ds, &never.deadline);
}

static struct deadline *victim;

static void on_kill(struct deadline *d) {
  (void)d;
  deadline_unset(&ds, victim);
}

static void what_fires_may_unset_another(void **state) {
  (void)state;
  struct deadline killer = {.fire = on_kill};
  struct timed t = timed();
  uint64_t now = deadlines_now(&ds);
  victim = &t.deadline;
  deadline_set(&ds, &killer, now + 5);
  deadline_set(&ds, &t.deadline, now + 5); /* due at the same time */
  assert_true(deadlines_advance(&ds, now + 10));
  assert_false(deadline_is_set(&t.deadline));
  assert_int_equal(t.fired, 0); /* the killer was set first, and nothing moved them */
  assert_false(deadlines_advance(&ds, now + 10));
}

static void what_fires_may_set_itself_again(void **state) {
  (void)state;
  struct timed t = timed();
  uint64_t now = deadlines_now(&ds);
  t.set = &t.deadline;
  t.set_due = now + 20;
  deadline_set(&ds, &t.deadline, now + 10);
  assert_true(deadlines_advance(&ds, now + 100));
  assert_int_equal(t.fired, 1);
  assert_true(deadline_is_set(&t.deadline));
  t.set = NULL;
  assert_true(deadlines_advance(&ds, now + 100));
  assert_int_equal(t.fired, 2);
  assert_int_equal(t.fired_at, now + 20);
}

/* Neither may hold the loop: the number of firings in a turn is bounded by how many are set. */
static void two_that_set_each_other_end_the_turn(void **state) {
  (void)state;
  struct timed a = timed(), b = timed();
  uint64_t now = deadlines_now(&ds);
  a.set = &b.deadline;
  b.set = &a.deadline;
  a.set_due = b.set_due = now + 10;
  deadline_set(&ds, &a.deadline, now + 10);
  assert_true(deadlines_advance(&ds, now + 10));
  assert_true(a.fired + b.fired <= 2);
  a.set = b.set = NULL;
  deadlines_advance(&ds, now + 100);
  deadline_unset(&ds, &a.deadline);
  deadline_unset(&ds, &b.deadline);
}

static void the_past_is_due_at_once(void **state) {
  (void)state;
  struct timed zero = timed(), past = timed(), present = timed();
  uint64_t now = deadlines_now(&ds);
  deadlines_advance(&ds, now + 50);
  deadline_set(&ds, &zero.deadline, 0);
  deadline_set(&ds, &past.deadline, now + 49);
  deadline_set(&ds, &present.deadline, now + 50);
  assert_int_equal(n_log, 0); /* never from inside deadline_set */
  while (deadlines_advance(&ds, now + 50)) {
  }
  assert_int_equal(deadlines_now(&ds), now + 50);
  assert_int_equal(zero.fired + past.fired + present.fired, 3);
}

static void many_deadlines_are_kept_in_order(void **state) {
  (void)state;
  enum { MANY = 500 };
  struct timed *t = calloc(MANY, sizeof *t);
  uint64_t due[MANY] = {0}, seed = 12; /* 0: not set */
  uint64_t now = deadlines_now(&ds);
  assert_non_null(t);
  for (int i = 0; i < MANY; i++) t[i] = timed();
  for (int round = 0; round < 20000; round++) {
    unsigned i = random_below(&seed, MANY);
    switch (random_below(&seed, 8)) {
    case 0:
      deadline_unset(&ds, &t[i].deadline);
      due[i] = 0;
      break;
    case 1: { /* the next ones fire, and only those */
      uint64_t until = now + random_below(&seed, 30), next = until + 1;
      for (int k = 0; k < MANY; k++)
        if (due[k] && due[k] < next) next = due[k];
      n_log = 0;
      bool has_fired = deadlines_advance(&ds, until);
      assert_int_equal(has_fired, next <= until);
      now = has_fired && next > now ? next : has_fired ? now : until > now ? until : now;
      assert_int_equal(deadlines_now(&ds), now);
      unsigned expected = 0;
      for (int k = 0; k < MANY; k++) {
        bool is_due = has_fired && due[k] && due[k] <= now;
        assert_int_equal(t[k].fired, is_due);
        if (is_due) due[k] = 0;
        t[k].fired = 0;
        expected += is_due;
      }
      assert_int_equal(n_log, expected);
      break;
    }
    default:
      due[i] = now + 1 + random_below(&seed, 1000);
      deadline_set(&ds, &t[i].deadline, due[i]);
    }
    assert_int_equal(deadline_is_set(&t[i].deadline), due[i] != 0);
  }
  for (int i = 0; i < MANY; i++) deadline_unset(&ds, &t[i].deadline);
  assert_int_equal(ds.n, 0);
  free(t);
}

/* What sets itself again at once waits for its turn, and keeps nobody else from theirs. */
static void what_is_set_while_firing_waits_for_the_next_turn(void **state) {
  (void)state;
  struct timed greedy = timed(), other = timed();
  uint64_t now = deadlines_now(&ds);
  greedy.set = &greedy.deadline;
  greedy.set_due = 0;
  deadline_set(&ds, &greedy.deadline, now + 9);
  deadline_set(&ds, &other.deadline, now + 10);
  deadlines_advance(&ds, now + 9);
  assert_int_equal(greedy.fired, 1);
  assert_true(deadlines_advance(&ds, now + 10));
  assert_int_equal(greedy.fired, 2);
  assert_int_equal(other.fired, 1);
  assert_false(deadlines_advance(&ds, now + 10));
  deadline_unset(&ds, &greedy.deadline);
}

/* ---- with the loop's clock ------------------------------------------------------------------- */

static void the_loop_fires_what_is_due(void **state) {
  (void)state;
  struct timed now = timed(), soon = timed(), later = timed();
  uint64_t begin = deadlines_now(&ds);
  deadline_set(&ds, &later.deadline, begin + 8);
  deadline_set(&ds, &soon.deadline, begin + 3);
  deadline_set(&ds, &now.deadline, 0);
  assert_int_equal(n_log, 0);
  uv_run(&loop, UV_RUN_DEFAULT); /* returns, as nothing is armed any more */
  assert_int_equal(n_log, 3);
  assert_ptr_equal(log_of[0], &now);
  assert_ptr_equal(log_of[1], &soon);
  assert_ptr_equal(log_of[2], &later);
  assert_true(soon.fired_at >= begin + 3);
  assert_true(later.fired_at >= begin + 8);
}

static void the_loop_waits_for_a_deadline_that_moved(void **state) {
  (void)state;
  struct timed t = timed(), other = timed();
  uint64_t begin = deadlines_now(&ds);
  deadline_set(&ds, &t.deadline, begin + 2);
  deadline_set(&ds, &t.deadline, begin + 9);
  deadline_set(&ds, &other.deadline, begin + 7);
  deadline_set(&ds, &other.deadline, begin + 4);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(t.fired, 1);
  assert_true(t.fired_at >= begin + 9);
  assert_int_equal(other.fired, 1);
  assert_true(other.fired_at >= begin + 4);
}

static void a_deadline_that_sets_itself_does_not_hold_the_loop(void **state) {
  (void)state;
  struct timed greedy = timed(), other = timed();
  greedy.set = &greedy.deadline;
  greedy.set_due = 0;
  deadline_set(&ds, &greedy.deadline, 0);
  deadline_set(&ds, &other.deadline, deadlines_now(&ds) + 3);
  while (other.fired == 0) uv_run(&loop, UV_RUN_ONCE); /* each returns */
  assert_true(greedy.fired >= 2);
  greedy.set = NULL;
  uv_run(&loop, UV_RUN_DEFAULT);
}

static void an_unset_deadline_does_not_hold_the_loop(void **state) {
  (void)state;
  struct timed t = timed();
  deadline_set(&ds, &t.deadline, deadlines_now(&ds) + 2);
  deadline_unset(&ds, &t.deadline);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(t.fired, 0);
}

static void freezing_stops_the_loops_clock(void **state) {
  (void)state;
  struct timed t = timed();
  deadline_set(&ds, &t.deadline, deadlines_now(&ds));
  deadlines_freeze(&ds);
  uv_run(&loop, UV_RUN_DEFAULT); /* nothing is armed */
  assert_int_equal(t.fired, 0);
  uint64_t now = deadlines_now(&ds);
  uv_update_time(&loop);
  assert_int_equal(deadlines_now(&ds), now);
  assert_true(deadlines_advance(&ds, now));
  assert_int_equal(t.fired, 1);
}

static void advance_unfrozen(void) {
  deadlines_advance(&ds, 1);
}

static void only_a_frozen_clock_is_advanced(void **state) {
  (void)state;
  assert_dies(advance_unfrozen, NULL, 0);
}

/* ---- after a pause of the process -------------------------------------------------------------
 */

/* As if the loop had been away: whatever it remembers is so much longer ago. */
static void be_away(uint64_t ms) {
  struct deadline *d = awaited_too;
  assert_true(ds.armed > 0);
  ds.armed -= ms;
  ds.counts_from -= ms < ds.counts_from ? ms : ds.counts_from;
  if (!d) return;
  uint32_t missed = d->missed;
  deadline_set(&ds, d, d->due - ms);
  d->missed = missed;
}

/* A turn that takes so long, with a timer that is due at its beginning. */
static void take_long(uint64_t ms) {
  struct timed t = timed();
  deadline_set(&ds, &t.deadline, deadlines_now(&ds) + 1);
  be_away(ms);
  while (!t.fired) uv_run(&loop, UV_RUN_ONCE);
}

static bool was_read; /* before the deadline fired */

static void on_input(uv_poll_t *poll, int status, int events) {
  (void)status;
  (void)events;
  was_read = n_log == 0;
  uv_poll_stop(poll);
  uv_close((uv_handle_t *)poll, NULL);
}

static void what_is_due_fires_after_input_was_looked_for(void **state) {
  (void)state;
  uv_poll_t poll;
  int ends[2];
  struct timed t = timed();
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], "x", 1), 1);
  was_read = false;
  uv_poll_init(&loop, &poll, ends[0]);
  uv_poll_start(&poll, UV_READABLE, on_input);
  deadline_set(&ds, &t.deadline, 0); /* due before the loop has looked at anything */
  while (n_log == 0) uv_run(&loop, UV_RUN_ONCE);
  assert_true(was_read);
  uv_run(&loop, UV_RUN_NOWAIT);
  close(ends[0]);
  close(ends[1]);
}

static void time_in_which_nobody_listened_does_not_count(void **state) {
  (void)state;
  struct timed plain = timed(), awaited = timed(), later = timed();
  deadline_set(&ds, &plain.deadline, deadlines_now(&ds) + 1);
  deadline_await(&ds, &awaited.deadline, deadlines_now(&ds) + 1);
  be_away(60000);
  while (n_log == 0) uv_run(&loop, UV_RUN_ONCE);
  assert_int_equal(plain.fired, 1);
  assert_int_equal(awaited.fired, 0);
  assert_in_range(ds.missed, 60000, 65000);
  /* what comes late was sent meanwhile: it needs no more than this to arrive */
  assert_in_range(awaited.deadline.due, plain.fired_at + 10000, deadlines_now(&ds) + 10000);
  uint32_t missed = ds.missed;
  deadline_await(&ds, &later.deadline, deadlines_now(&ds) + 1); /* set since: nothing was missed */
  while (n_log == 1) uv_run(&loop, UV_RUN_ONCE);
  assert_int_equal(later.fired, 1);
  assert_int_equal(ds.missed, missed);
  deadline_unset(&ds, &awaited.deadline);
}

/* As if nothing had happened for so long. */
static void be_quiet(uint64_t ms) {
  ds.counts_from -= ms < ds.counts_from ? ms : ds.counts_from;
}

static uint32_t missed_by_turn(uint64_t ms) {
  uint32_t missed = ds.missed;
  take_long(ms);
  return ds.missed - missed;
}

static void a_wait_is_given_time_after_each_pause(void **state) {
  (void)state;
  struct timed t = timed();
  deadline_await(&ds, &t.deadline, deadlines_now(&ds) + 1);
  awaited_too = &t.deadline;
  for (unsigned i = 0; i < 5; i++) {
    take_long(60000);
    assert_int_equal(t.fired, 0);
    assert_in_range(t.deadline.due, deadlines_now(&ds) + 9000, deadlines_now(&ds) + 10000);
    be_quiet(10001);
  }
  ds.counts_from = deadlines_now(&ds) + 1000;
  take_long(10000); /* too soon after the last */
  assert_int_equal(t.fired, 1);
}

static void as_much_as_was_missed_passes_before_more_counts(void **state) {
  (void)state;
  static const uint64_t cases[][3] = {
      /* a time, until when it hinders, a time after it */
      {100, 100, 100},       {100, 100, 60000},   {9000, 9000, 150},    {9000, 9000, 60000},
      {10000, 10000, 60000}, {10001, 10000, 150}, {600000, 10000, 150}, {600000, 10000, 600000}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    uint64_t first = cases[i][0], hinders = cases[i][1], second = cases[i][2];
    ds.counts_from = 0;
    assert_in_range(missed_by_turn(first), first, first + 1000);
    uint64_t counts_from = ds.counts_from;
    assert_in_range(counts_from, deadlines_now(&ds) + hinders - 50,
                    deadlines_now(&ds) + hinders + 1000);
    ds.counts_from = deadlines_now(&ds) + 1; /* a turn that begins now begins then */
    assert_int_equal(missed_by_turn(second), 0);
    ds.counts_from = 0;
    assert_in_range(missed_by_turn(second), second, second + 1000);
  }
}

/* Else a peer that sends a byte now and then would have all the time that others make it. */
static void under_lasting_load_a_wait_ends(void **state) {
  (void)state;
  static const uint64_t turns[] = {150, 1000, 7000, 10000, 10001, 20000, 60000};
  enum { T = 30000 };
  for (size_t i = 0; i < COUNT(turns); i++) {
    struct timed t = timed();
    uint64_t ms = turns[i], took = 0, missed = ds.missed;
    deadline_await(&ds, &t.deadline, deadlines_now(&ds) + T);
    awaited_too = &t.deadline;
    for (; !t.fired && took < 10 * T; took += ms) take_long(ms);
    assert_int_equal(t.fired, 1);
    assert_in_range(took, T, 2 * T + ms);
    assert_in_range(ds.missed - missed, 1, (took + ms) / 2 + ms);
    be_quiet(10000);
  }
}

static void a_little_late_is_not_away(void **state) {
  (void)state;
  struct timed t = timed();
  deadline_await(&ds, &t.deadline, deadlines_now(&ds) + 1);
  be_away(50);
  while (n_log == 0) uv_run(&loop, UV_RUN_ONCE);
  assert_int_equal(ds.missed, 0);
  struct timed again = timed();
  deadline_await(&ds, &again.deadline, deadlines_now(&ds) + 1);
  be_away(101);
  while (ds.missed == 0) uv_run(&loop, UV_RUN_ONCE);
  assert_in_range(ds.missed, 100, 5000);
  assert_int_equal(again.fired, 0);
  deadline_unset(&ds, &again.deadline);
}

static void the_past_was_not_missed(void **state) {
  (void)state;
  struct timed zero = timed(), past = timed();
  deadline_set(&ds, &zero.deadline, 0);
  while (!zero.fired) uv_run(&loop, UV_RUN_ONCE);
  deadline_set(&ds, &past.deadline, deadlines_now(&ds) - 500);
  while (!past.fired) uv_run(&loop, UV_RUN_ONCE);
  assert_int_equal(ds.missed, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(deadlines_fire_in_order_at_their_times, start_frozen, stop),
      cmocka_unit_test_setup_teardown(the_clock_stops_where_it_was_told, start_frozen, stop),
      cmocka_unit_test_setup_teardown(moving_later_is_kept, start_frozen, stop),
      cmocka_unit_test_setup_teardown(moving_earlier_is_kept, start_frozen, stop),
      cmocka_unit_test_setup_teardown(moving_later_and_earlier_again_is_kept, start_frozen, stop),
      cmocka_unit_test_setup_teardown(unsetting_is_final_and_repeatable, start_frozen, stop),
      cmocka_unit_test_setup_teardown(what_fires_may_unset_another, start_frozen, stop),
      cmocka_unit_test_setup_teardown(what_fires_may_set_itself_again, start_frozen, stop),
      cmocka_unit_test_setup_teardown(two_that_set_each_other_end_the_turn, start_frozen, stop),
      cmocka_unit_test_setup_teardown(the_past_is_due_at_once, start_frozen, stop),
      cmocka_unit_test_setup_teardown(many_deadlines_are_kept_in_order, start_frozen, stop),
      cmocka_unit_test_setup_teardown(what_is_set_while_firing_waits_for_the_next_turn,
                                      start_frozen, stop),
      cmocka_unit_test_setup_teardown(a_deadline_that_sets_itself_does_not_hold_the_loop, start,
                                      stop),
      cmocka_unit_test_setup_teardown(the_loop_fires_what_is_due, start, stop),
      cmocka_unit_test_setup_teardown(the_loop_waits_for_a_deadline_that_moved, start, stop),
      cmocka_unit_test_setup_teardown(an_unset_deadline_does_not_hold_the_loop, start, stop),
      cmocka_unit_test_setup_teardown(freezing_stops_the_loops_clock, start, stop),
      cmocka_unit_test_setup_teardown(what_is_due_fires_after_input_was_looked_for, start, stop),
      cmocka_unit_test_setup_teardown(time_in_which_nobody_listened_does_not_count, start, stop),
      cmocka_unit_test_setup_teardown(a_wait_is_given_time_after_each_pause, start, stop),
      cmocka_unit_test_setup_teardown(as_much_as_was_missed_passes_before_more_counts, start, stop),
      cmocka_unit_test_setup_teardown(under_lasting_load_a_wait_ends, start, stop),
      cmocka_unit_test_setup_teardown(a_little_late_is_not_away, start, stop),
      cmocka_unit_test_setup_teardown(the_past_was_not_missed, start, stop),
      cmocka_unit_test_setup_teardown(only_a_frozen_clock_is_advanced, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
