/* SPDX-License-Identifier: MIT */
/* test_layer.c -- what a worker sends to others leaves in order, and has a bound within a turn. */
#include "../unit.h"

#include "base/log.h"
#include "hub/layer.h"
#include "net/worker.h"

static struct worker w;
static struct layer layer;
static struct metrics metrics; /* the sender's */
static struct outbox outbox;
static unsigned n_taken, n_wakes;
static uint64_t last;

static void on_mail(void *owner, struct mail *mail) {
  struct parcel *p = (struct parcel *)mail;
  (void)owner;
  n_taken++;
  if (mail->kind == PARCEL_WAKE) n_wakes++;
  assert_true(p->to.conn > last);
  last = p->to.conn;
  layer_discard(&layer, p);
}

static int start(void **state) {
  static const struct conn_limits limits = {.http = {.head = 4096, .target = 1000, .body = 1000}};
  (void)state;
  log_open(2, LOG_ERROR, LOG_TEXT, false);
  memset(&metrics, 0, sizeof metrics);
  n_taken = n_wakes = 0;
  last = 0;
  worker_open(&w, 1, &limits, NULL, NULL, (struct worker_events){.mail = on_mail}, NULL, 0, 1);
  layer_init(&layer, 2, 1000);
  layer_enlist(&layer, &w);
  outbox_init(&outbox, &layer, &metrics);
  return 0;
}

static int stop(void **state) {
  (void)state;
  worker_close(&w);
  uv_run(&w.loop, UV_RUN_DEFAULT);
  bool is_clean = worker_fini(&w);
  worker_free(&w);
  layer_fini(&layer);
  return is_clean ? 0 : -1;
}

static void give(enum parcel_kind kind) {
  static uint64_t n;
  struct parcel *p = parcel_new(kind, (struct slice){0}, NULL, 0, NULL, 0);
  p->to.conn = ++n;
  outbox_add(&outbox, 1, p);
}

static void mail_leaves_at_the_turns_end_in_order(void **state) {
  (void)state;
  for (int i = 0; i < 100; i++) give(PARCEL_TEXT);
  uv_run(&w.loop, UV_RUN_NOWAIT);
  assert_int_equal(n_taken, 0);
  outbox_flush(&outbox);
  uv_run(&w.loop, UV_RUN_NOWAIT);
  assert_int_equal(n_taken, 100);
}

/* A handler that publishes in a loop must not fill the memory: what the box has no room for is
 * dropped as it comes, what must arrive is not. */
static void much_mail_does_not_wait_for_the_turns_end(void **state) {
  (void)state;
  enum { MANY = 200000 };
  for (int i = 0; i < MANY; i++) give(i % 1000 ? PARCEL_TEXT : PARCEL_WAKE);
  uint64_t dropped = atomic_load(&metrics.mail_dropped);
  assert_true(dropped > MANY / 2);
  outbox_flush(&outbox);
  dropped = atomic_load(&metrics.mail_dropped);
  uv_run(&w.loop, UV_RUN_NOWAIT);
  assert_int_equal(n_taken + dropped, MANY);
  assert_int_equal(n_wakes, MANY / 1000);
}

/* Each turn's mail for the broker, and what a loop within a turn makes, which must not wait. */
static void mail_for_the_broker_leaves_as_well(void **state) {
  (void)state;
  enum { LANE = 1024 }; /* as in layer.c */
  static uint64_t n = 1 << 30;
  atomic_store(&layer.broker, &w.mailbox);
  for (int i = 1; i <= LANE; i++) {
    struct parcel *p = parcel_new(PARCEL_TEXT, (struct slice){0}, NULL, 0, NULL, 0);
    p->to.conn = ++n;
    outbox_add_broker(&outbox, p);
    uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(n_taken, i < LANE ? 0 : LANE);
  }
  struct parcel *p = parcel_new(PARCEL_TEXT, (struct slice){0}, NULL, 0, NULL, 0);
  p->to.conn = ++n;
  outbox_add_broker(&outbox, p);
  outbox_flush(&outbox);
  uv_run(&w.loop, UV_RUN_NOWAIT);
  assert_int_equal(n_taken, LANE + 1);
  atomic_store(&layer.broker, NULL);
}

static void mail_for_who_has_ended_is_no_drop(void **state) {
  (void)state;
  layer_dismiss(&layer, &w);
  give(PARCEL_TEXT);
  outbox_flush(&outbox);
  assert_int_equal(atomic_load(&metrics.mail_dropped), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(mail_leaves_at_the_turns_end_in_order, start, stop),
      cmocka_unit_test_setup_teardown(much_mail_does_not_wait_for_the_turns_end, start, stop),
      cmocka_unit_test_setup_teardown(mail_for_the_broker_leaves_as_well, start, stop),
      cmocka_unit_test_setup_teardown(mail_for_who_has_ended_is_no_drop, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
