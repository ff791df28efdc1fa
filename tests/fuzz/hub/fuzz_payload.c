/* SPDX-License-Identifier: MIT */
/* fuzz_payload.c -- whatever comes through Redis: what is read lies inside of it, is bounded, and
 * is the same after it was written and read again. */
#include "../fuzz.h"

#include "hub/payload.h"
#include "wire/utf8.h"

static struct payload one, two;

static void check_inside(const void *p, size_t n, const uint8_t *s, size_t size) {
  check((const uint8_t *)p >= s && (const uint8_t *)p + n <= s + size);
}

static void check_same(const struct payload *a, const struct payload *b) {
  check(a->kind == b->kind && a->node == b->node && a->seq == b->seq);
  check(a->n_names == b->n_names && a->n == b->n);
  for (size_t i = 0; i < a->n_names; i++)
    check(a->names[i].len == b->names[i].len &&
          memcmp(a->names[i].text, b->names[i].text, a->names[i].len) == 0);
  check(a->waiter.task == b->waiter.task && a->waiter.wait == b->waiter.wait &&
        a->waiter.worker == b->waiter.worker);
  check(a->to.worker == b->to.worker && a->to.conn == b->to.conn);
  check(a->n == 0 || memcmp(a->body, b->body, a->n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  uint8_t *s = exact_copy(data, n);
  if (payload_read(&one, s, n)) {
    check(one.n_names <= PAYLOAD_NAMES && one.n_except <= PAYLOAD_EXCEPT && one.n <= PAYLOAD_BODY);
    for (size_t i = 0; i < one.n_names; i++) {
      check(one.names[i].len >= 1 && one.names[i].len <= GROUP_NAME_MAX);
      check_inside(one.names[i].text, one.names[i].len, s, n);
    }
    check_inside(one.body, one.n, s, n);
    check(one.kind == PAYLOAD_BINARY || utf8_is_valid(one.body, one.n));
    if (n) check(!payload_read(&two, s, n - 1)); /* no beginning of it is one */
    if (one.kind == PAYLOAD_TEXT) {
      struct builder b = {0}, out = {0};
      struct slice body, again;
      builder_begin(&b);
      if (one.n) builder_add(&b, one.body, one.n);
      check(builder_commit(&b, &body));
      struct parcel *p =
          parcel_new(PARCEL_TEXT, body, one.names, one.n_names, one.except, one.n_except);
      p->waiter = one.waiter;
      p->to = one.to;
      check(payload_write(&out, p, one.node, one.seq, &again));
      check(payload_read(&two, slice_data(&again), again.len));
      check_same(&one, &two);
      parcel_free(p);
      builder_fini(&b);
      builder_fini(&out);
    }
  }
  free(s);
  return 0;
}
