/* SPDX-License-Identifier: MIT */
/* test_mailbox.c -- mail arrives once, in order, on the loop's thread, and never more than fits. */
#include "../unit.h"

#include "net/mailbox.h"

#include <pthread.h>

struct letter {
  struct mail mail; /* must be first */
  unsigned from, number;
};

static uv_loop_t loop;
static struct mailbox box;
static struct letter *got[5000];
static unsigned n_got;
static pthread_t loop_thread;
static void (*on_letter)(struct letter *letter); /* what deliver does besides */

static void deliver(void *owner, struct mail *mail) {
  assert_ptr_equal(owner, &n_got);
  assert_true(pthread_equal(pthread_self(), loop_thread));
  assert_true(n_got < COUNT(got));
  got[n_got++] = (struct letter *)mail;
  if (on_letter) on_letter((struct letter *)mail);
}

static int start(void **state) {
  (void)state;
  n_got = 0;
  on_letter = NULL;
  loop_thread = pthread_self();
  if (uv_loop_init(&loop)) return -1;
  mailbox_open(&box, &loop, 4, 1000, deliver, &n_got);
  return 0;
}

static int stop(void **state) {
  (void)state;
  if (!box.is_closed) mailbox_close(&box);
  uv_run(&loop, UV_RUN_DEFAULT);
  mailbox_fini(&box);
  for (unsigned i = 0; i < n_got; i++) free(got[i]);
  return uv_loop_close(&loop);
}

static struct letter *letter(unsigned number, uint32_t weight) {
  struct letter *l = calloc(1, sizeof *l);
  assert_non_null(l);
  l->mail.weight = weight;
  l->mail.next = (struct mail *)1; /* the box must not believe it */
  l->number = number;
  return l;
}

static bool post(unsigned number, uint32_t weight) {
  struct letter *l = letter(number, weight);
  bool is_taken = mailbox_post(&box, &l->mail);
  if (!is_taken) free(l); /* still ours */
  return is_taken;
}

static void turn(void) {
  uv_run(&loop, UV_RUN_NOWAIT);
}

static void assert_got(unsigned n, ...) {
  va_list numbers;
  assert_int_equal(n_got, n);
  va_start(numbers, n);
  for (unsigned i = 0; i < n; i++) assert_int_equal(got[i]->number, va_arg(numbers, unsigned));
  va_end(numbers);
}

static void mail_arrives_in_order(void **state) {
  (void)state;
  assert_true(post(1, 1) && post(2, 1) && post(3, 1));
  assert_int_equal(n_got, 0); /* never from inside mailbox_post */
  turn();
  assert_got(3, 1, 2, 3);
  turn();
  assert_int_equal(n_got, 3);
  assert_true(post(4, 1));
  turn();
  assert_got(4, 1, 2, 3, 4);
}

static void a_box_holds_so_many_and_no_more(void **state) {
  (void)state;
  for (unsigned i = 1; i <= 4; i++) assert_true(post(i, 0));
  assert_false(post(5, 0));
  assert_false(post(6, 0));
  turn();
  assert_got(4, 1, 2, 3, 4);
  for (unsigned i = 5; i <= 8; i++) assert_true(post(i, 0)); /* there is room again */
  assert_false(post(9, 0));
  turn();
  assert_int_equal(n_got, 8);
}

static void a_box_holds_so_much_and_no_more(void **state) {
  (void)state;
  assert_true(post(1, 400));
  assert_false(post(2, 601));
  assert_true(post(3, 600)); /* exactly full */
  assert_false(post(4, 1));
  assert_true(post(5, 0)); /* what weighs nothing still fits */
  turn();
  assert_got(3, 1, 3, 5);
  assert_false(post(6, 1001));
  assert_false(post(7, UINT32_MAX));
  assert_true(post(8, 1000));
  turn();
  assert_got(4, 1, 3, 5, 8);
}

static void control_mail_always_fits(void **state) {
  (void)state;
  for (unsigned i = 1; i <= 4; i++) assert_true(post(i, 250));
  for (unsigned i = 5; i <= 10; i++)
    assert_true(mailbox_post_control(&box, &letter(i, 5000)->mail));
  assert_false(post(11, 0)); /* it counts, though */
  turn();
  assert_got(10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
  assert_int_equal(box.count, 0);
  assert_true(post(12, 1000));
}

static void answer(struct letter *l) {
  if (l->number < 3) assert_true(post(l->number + 10, 0));
}

/* A box that answers itself must not spin inside one delivery. */
static void a_chain_is_taken_as_far_as_it_fits(void **state) {
  (void)state;
  struct letter *l[6];
  for (unsigned i = 0; i < 6; i++) l[i] = letter(i + 1, 1);
  for (unsigned i = 0; i < 6; i++) l[i]->mail.next = i < 5 ? &l[i + 1]->mail : NULL;
  assert_true(post(0, 1));
  struct mail *rest = mailbox_post_chain(&box, &l[0]->mail);
  assert_ptr_equal(rest, &l[3]->mail); /* a box of four */
  assert_ptr_equal(rest->next, &l[4]->mail);
  turn();
  assert_got(4, 0, 1, 2, 3);
  assert_null(mailbox_post_chain(&box, rest));
  turn();
  assert_got(7, 0, 1, 2, 3, 4, 5, 6);
  mailbox_close(&box);
  struct letter *late = letter(9, 1);
  late->mail.next = NULL;
  assert_ptr_equal(mailbox_post_chain(&box, &late->mail), &late->mail);
  free(late);
}

static void mail_posted_while_delivering_comes_later(void **state) {
  (void)state;
  on_letter = answer;
  assert_true(post(1, 0) && post(2, 0));
  turn();
  if (n_got == 2) turn(); /* libuv may take it in the same turn or the next */
  assert_got(4, 1, 2, 11, 12);
}

static bool was_refused;

static void post_into_the_closing_box(struct letter *l) {
  (void)l;
  was_refused = !post(99, 0);
}

static void closing_delivers_what_is_there(void **state) {
  (void)state;
  assert_true(post(1, 0) && post(2, 0));
  was_refused = false;
  on_letter = post_into_the_closing_box;
  mailbox_close(&box);
  assert_got(2, 1, 2); /* before it returns */
  assert_true(was_refused);
  assert_false(post(3, 0));
  struct letter *l = letter(4, 0);
  assert_false(mailbox_post_control(&box, &l->mail));
  free(l);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(n_got, 2);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { THREADS = 4, EACH = 1000 };

static void *post_many(void *arg) {
  for (unsigned i = 0; i < EACH; i++) {
    struct letter *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->from = *(unsigned *)arg;
    l->number = i;
    l->mail.weight = 100;
    while (!mailbox_post(&box, &l->mail)) sched_yield(); /* full: the loop is slower */
  }
  return NULL;
}

static void mail_of_several_threads_arrives_once_and_in_order(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  unsigned names[THREADS], next[THREADS] = {0};
  for (unsigned i = 0; i < THREADS; i++) {
    names[i] = i;
    assert_int_equal(pthread_create(&threads[i], NULL, post_many, &names[i]), 0);
  }
  while (n_got < THREADS * EACH) uv_run(&loop, UV_RUN_ONCE); /* wakes up for each mail, or hangs */
  for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (unsigned i = 0; i < n_got; i++) assert_int_equal(got[i]->number, next[got[i]->from]++);
  for (unsigned i = 0; i < THREADS; i++) assert_int_equal(next[i], EACH);
}

static void *post_until_closed(void *arg) {
  (void)arg;
  for (;;) {
    struct letter *l = calloc(1, sizeof *l);
    if (!l) abort();
    if (!mailbox_post_control(&box, &l->mail)) {
      free(l);
      return NULL;
    }
    sched_yield();
  }
}

/* A post may meet the closing at any moment; the sanitizers watch what it touches. */
static void closing_meets_posting_threads(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, post_until_closed, NULL), 0);
  while (n_got < 20) uv_run(&loop, UV_RUN_ONCE);
  mailbox_close(&box);
  unsigned n = n_got;
  for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(n_got, n); /* nothing after the close */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(mail_arrives_in_order, start, stop),
      cmocka_unit_test_setup_teardown(a_box_holds_so_many_and_no_more, start, stop),
      cmocka_unit_test_setup_teardown(a_box_holds_so_much_and_no_more, start, stop),
      cmocka_unit_test_setup_teardown(control_mail_always_fits, start, stop),
      cmocka_unit_test_setup_teardown(a_chain_is_taken_as_far_as_it_fits, start, stop),
      cmocka_unit_test_setup_teardown(mail_posted_while_delivering_comes_later, start, stop),
      cmocka_unit_test_setup_teardown(closing_delivers_what_is_there, start, stop),
      cmocka_unit_test_setup_teardown(mail_of_several_threads_arrives_once_and_in_order, start,
                                      stop),
      cmocka_unit_test_setup_teardown(closing_meets_posting_threads, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
