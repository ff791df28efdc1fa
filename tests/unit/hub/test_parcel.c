/* SPDX-License-Identifier: MIT */
/* test_parcel.c -- parcels hold copies of names and a reference to the body; channel names are read
 * strictly. */
#include "../unit.h"

#include "hub/parcel.h"
#include "hub/reply.h"

static void a_parcel_keeps_what_it_needs(void **state) {
  (void)state;
  struct buf *buf = buf_new(10);
  char text[] = "lobby";
  struct group_name names[] = {{text, 5}, {"", 0}, {"a\0b", 3}};
  struct address except[] = {{1, 2, 3}, {4, 5, 6}};
  struct parcel *p = parcel_new(PARCEL_PUBLISH, (struct slice){buf, 2, 7}, names, 3, except, 2);
  memset(text, 'x', 5);
  memset(names, 0, sizeof names);
  memset(except, 0, sizeof except);
  assert_int_equal(atomic_load(&buf->refs), 2);
  assert_int_equal(p->mail.kind, PARCEL_PUBLISH);
  assert_true(p->mail.weight >= sizeof *p + 7);
  assert_int_equal(p->n_names, 3);
  assert_memory_equal(p->names[0].text, "lobby", 5);
  assert_int_equal(p->names[1].len, 0);
  assert_memory_equal(p->names[2].text, "a\0b", 3);
  assert_int_equal(p->n_except, 2);
  assert_int_equal(p->except[1].node, 4);
  assert_int_equal(p->except[1].conn, 5);
  assert_int_equal(p->except[1].worker, 6);
  parcel_free(p);
  assert_int_equal(atomic_load(&buf->refs), 1);
  buf_unref(buf);
}

static void a_parcel_may_be_empty(void **state) {
  (void)state;
  struct parcel *p = parcel_new(PARCEL_WAKE, (struct slice){0}, NULL, 0, NULL, 0);
  assert_int_equal(p->waiter.task, 0);
  assert_null(p->topic);
  p->reply = reply_array(3);
  p->reply->items[1] = reply_text(REPLY_STRING, "x", 1); /* the others stay NULL */
  parcel_free(p);
}

static void channels_are_written_and_read(void **state) {
  (void)state;
  static const struct {
    struct address address;
    const char *text;
  } good[] = {
      {{1, 0x1000000, 0}, "0000000000000001.0.1000000"},
      {{UINT64_MAX, UINT64_MAX, 63}, "ffffffffffffffff.63.ffffffffffffffff"},
      {{0x0123456789abcdef, 0, 7}, "0123456789abcdef.7.0"},
  };
  for (size_t i = 0; i < COUNT(good); i++) {
    char text[ADDRESS_TEXT];
    struct address a;
    assert_int_equal(address_write(&good[i].address, text), strlen(good[i].text));
    assert_string_equal(text, good[i].text);
    assert_true(address_parse(text, strlen(text), &a));
    assert_int_equal(a.node, good[i].address.node);
    assert_int_equal(a.conn, good[i].address.conn);
    assert_int_equal(a.worker, good[i].address.worker);
    for (size_t n = 0; n <= strlen(text);
         n++) { /* no beginning of it but those that end in digits */
      char *copy = exact_copy(text, n);
      bool is_read = address_parse(copy, n, &a);
      if (n < 19 || copy[n - 1] == '.') assert_false(is_read);
      free(copy);
    }
  }
}

static void what_is_no_channel_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    ".",
                                    "..",
                                    "x",
                                    "0123456789abcdef",
                                    "0123456789abcdef.",
                                    "0123456789abcdef.0",
                                    "0123456789abcdef.0.",
                                    "0123456789abcde.0.1",
                                    "00123456789abcdef.0.1",
                                    "0123456789abcdeg.0.1",
                                    "0123456789ABCDEF.0.1",
                                    "0123456789abcdef.00.1",
                                    "0123456789abcdef.01.1",
                                    "0123456789abcdef.64.1",
                                    "0123456789abcdef.1000.1",
                                    "0123456789abcdef.-1.1",
                                    "0123456789abcdef.a.1",
                                    "0123456789abcdef.0.01",
                                    "0123456789abcdef.0.00",
                                    "0123456789abcdef.0.1F",
                                    "0123456789abcdef.0.1 ",
                                    " 0123456789abcdef.0.1",
                                    "0123456789abcdef.0.10000000000000000",
                                    "0123456789abcdef.0.1.2",
                                    "0123456789abcdef..1"};
  struct address a;
  for (size_t i = 0; i < COUNT(bad); i++) {
    char *copy = exact_copy(bad[i], strlen(bad[i]));
    if (address_parse(copy, strlen(bad[i]), &a)) fail_msg("'%s' was read", bad[i]);
    free(copy);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_parcel_keeps_what_it_needs),
      cmocka_unit_test(a_parcel_may_be_empty),
      cmocka_unit_test(channels_are_written_and_read),
      cmocka_unit_test(what_is_no_channel_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
