/* SPDX-License-Identifier: MIT */
/* test_payload.c -- what was written is read again, byte for byte as it is agreed; nothing else is.
 */
#include "../unit.h"

#include "hub/payload.h"
#include "net/ws_conn.h"

static struct builder body, out;
static struct payload read_back;

static int stop(void **state) {
  (void)state;
  builder_fini(&body);
  builder_fini(&out);
  return 0;
}

static struct slice frame_of(enum ws_opcode opcode, const char *bytes, size_t n) {
  struct slice frame;
  ws_frame_begin(&body);
  builder_add(&body, bytes, n);
  assert_true(ws_frame_end(&body, opcode, &frame));
  return frame;
}

static struct slice text_of(const char *text) {
  struct slice slice;
  builder_begin(&body);
  builder_text(&body, text);
  assert_true(builder_commit(&body, &slice));
  return slice;
}

/* Others must read the same: these bytes are what version 1 is. */
static void the_bytes_of_version_1(void **state) {
  (void)state;
  static const char expected[] = "PG\x01"
                                 "F"
                                 "\x08\x07\x06\x05\x04\x03\x02\x01" /* node */
                                 "\x09\0\0\0\0\0\0\0"               /* seq */
                                 "\x02\0"
                                 "\x01"
                                 "a"
                                 "\x02"
                                 "b\0" /* names */
                                 "\x01\0"
                                 "\x63\0\0\0\0\0\0\0"
                                 "\x02\0"
                                 "\x11\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0"
                                 "\0\0" /* nobody waits */
                                 "\0\0"
                                 "\0\0\0\0\0\0\0\0" /* to nobody alone */
                                 "\x02\0\0\0"
                                 "hi";
  struct group_name names[] = {{"a", 1}, {"b\0", 2}};
  struct address except[] = {{0x0102030405060708, 5, 0}, {0x63, 0x11, 2}};
  struct parcel *p = parcel_new(PARCEL_PUBLISH, frame_of(WS_TEXT, "hi", 2), names, 2, except, 2);
  struct slice bytes;
  assert_true(payload_write(&out, p, 0x0102030405060708, 9, &bytes));
  assert_int_equal(bytes.len, sizeof expected - 1);
  assert_memory_equal(slice_data(&bytes), expected, bytes.len);
  assert_true(payload_read(&read_back, slice_data(&bytes), bytes.len));
  assert_int_equal(read_back.kind, PAYLOAD_FRAME);
  assert_int_equal(read_back.n_names, 2);
  assert_int_equal(read_back.n_except, 1); /* not the sender's own */
  assert_int_equal(read_back.except[0].conn, 0x11);
  assert_memory_equal(read_back.body, "hi", 2);
  parcel_free(p);
}

static void frames_of_any_length_lose_their_heads(void **state) {
  (void)state;
  static const size_t lengths[] = {0, 1, 125, 126, 65535, 65536, 200000};
  for (size_t i = 0; i < COUNT(lengths); i++) {
    for (int is_binary = 0; is_binary < 2; is_binary++) {
      char *text = malloc(lengths[i] + 1);
      memset(text, is_binary ? 0xff : 'x', lengths[i]);
      struct slice bytes, frame = frame_of(is_binary ? WS_BINARY : WS_TEXT, text, lengths[i]);
      struct parcel *p = parcel_new(PARCEL_SEND, frame, NULL, 0, NULL, 0);
      p->to = (struct address){1, 0x3000004, 63};
      p->waiter = (struct waiter){77, 3, 2};
      assert_true(payload_write(&out, p, 5, 0, &bytes));
      assert_true(payload_read(&read_back, slice_data(&bytes), bytes.len));
      assert_int_equal(read_back.kind, is_binary ? PAYLOAD_BINARY : PAYLOAD_FRAME);
      assert_int_equal(read_back.n, lengths[i]);
      assert_memory_equal(read_back.body, text, lengths[i]);
      assert_int_equal(read_back.to.conn, 0x3000004);
      assert_int_equal(read_back.to.worker, 63);
      assert_int_equal(read_back.waiter.task, 77);
      assert_int_equal(read_back.waiter.wait, 3);
      assert_int_equal(read_back.waiter.worker, 2);
      parcel_free(p);
      free(text);
    }
  }
}

static void an_answer_goes_back_to_who_waits(void **state) {
  (void)state;
  struct slice bytes;
  struct payload *asked = calloc(1, sizeof *asked);
  asked->waiter = (struct waiter){0x123456789a, 42, 7};
  for (int is_there = 0; is_there < 2; is_there++) {
    assert_true(payload_write_ack(&out, asked, is_there, 99, &bytes));
    assert_true(payload_read(&read_back, slice_data(&bytes), bytes.len));
    assert_int_equal(read_back.kind, PAYLOAD_ACK);
    assert_int_equal(read_back.node, 99);
    assert_int_equal(read_back.to.conn, is_there);
    assert_int_equal(read_back.to.worker, 7);
    assert_int_equal(read_back.waiter.task, 0x123456789a);
    assert_int_equal(read_back.waiter.wait, 42);
  }
  free(asked);
}

static void what_is_cut_or_changed_is_not_read(void **state) {
  (void)state;
  struct group_name names[] = {{"lobby", 5}};
  struct slice bytes;
  struct parcel *p = parcel_new(PARCEL_TEXT, text_of("{\"kind\":\"é\"}"), names, 1, NULL, 0);
  assert_true(payload_write(&out, p, 5, 0, &bytes));
  for (size_t n = 0; n < bytes.len; n++) {
    uint8_t *cut = exact_copy(slice_data(&bytes), n);
    assert_false(payload_read(&read_back, cut, n));
    free(cut);
  }
  uint8_t *longer = malloc(bytes.len + 1);
  memcpy(longer, slice_data(&bytes), bytes.len);
  longer[bytes.len] = ' ';
  assert_false(payload_read(&read_back, longer, bytes.len + 1));
  static const struct {
    size_t at;
    uint8_t byte;
  } bad[] = {{0, 'p'}, {1, 'g'}, {2, 2},    {2, 0},  {3, 'X'},
             {3, 0},   {20, 2},  {21, 255}, {22, 0}, {22, 201}};
  for (size_t i = 0; i < COUNT(bad); i++) {
    memcpy(longer, slice_data(&bytes), bytes.len);
    longer[bad[i].at] = bad[i].byte;
    assert_false(payload_read(&read_back, longer, bytes.len));
  }
  memcpy(longer, slice_data(&bytes), bytes.len);
  longer[bytes.len - 3] = 0xff; /* inside the é */
  assert_false(payload_read(&read_back, longer, bytes.len));
  free(longer);
  parcel_free(p);
}

/* Others than the sender's own, wherever they stand; as many as there may be, and no more. */
static void connections_are_left_out(void **state) {
  (void)state;
  struct slice bytes;
  struct address except[] = {{1, 10, 0}, {5, 11, 1}, {2, 12, 2}};
  struct parcel *p = parcel_new(PARCEL_TEXT, text_of("x"), NULL, 0, except, 3);
  assert_true(payload_write(&out, p, 5, 0, &bytes));
  parcel_free(p);
  assert_true(payload_read(&read_back, slice_data(&bytes), bytes.len));
  assert_int_equal(read_back.n_except, 2);
  for (size_t i = 0; i < 2; i++) {
    assert_int_equal(read_back.except[i].node, except[2 * i].node);
    assert_int_equal(read_back.except[i].conn, except[2 * i].conn);
    assert_int_equal(read_back.except[i].worker, except[2 * i].worker);
  }
  static struct address many[PAYLOAD_EXCEPT + 1];
  for (size_t i = 0; i < COUNT(many); i++) many[i].node = 1;
  for (size_t n = PAYLOAD_EXCEPT; n <= PAYLOAD_EXCEPT + 1; n++) {
    p = parcel_new(PARCEL_TEXT, text_of("x"), NULL, 0, many, n);
    assert_true(payload_write(&out, p, 5, 0, &bytes));
    parcel_free(p);
    assert_int_equal(payload_read(&read_back, slice_data(&bytes), bytes.len), n <= PAYLOAD_EXCEPT);
  }
}

static void names_have_a_bound(void **state) {
  (void)state;
  static struct group_name many[PAYLOAD_NAMES + 1];
  static char name[GROUP_NAME_MAX + 1];
  struct slice bytes;
  for (size_t i = 0; i < COUNT(many); i++) many[i] = (struct group_name){"g", 1};
  for (size_t n = PAYLOAD_NAMES; n <= PAYLOAD_NAMES + 1; n++) {
    struct parcel *p = parcel_new(PARCEL_TEXT, text_of("x"), many, n, NULL, 0);
    assert_true(payload_write(&out, p, 5, 0, &bytes));
    parcel_free(p);
    assert_int_equal(payload_read(&read_back, slice_data(&bytes), bytes.len), n <= PAYLOAD_NAMES);
  }
  for (size_t n = 0; n <= GROUP_NAME_MAX + 1; n++) {
    struct group_name one = {name, n};
    struct parcel *p = parcel_new(PARCEL_TEXT, text_of("x"), &one, 1, NULL, 0);
    assert_true(payload_write(&out, p, 5, 0, &bytes));
    parcel_free(p);
    assert_int_equal(payload_read(&read_back, slice_data(&bytes), bytes.len),
                     n > 0 && n <= GROUP_NAME_MAX);
  }
}

/* A number of what is left out that is too large, and nothing after it that would have to be read:
 * it is refused for the number. */
static void a_count_that_is_too_large_is_refused(void **state) {
  (void)state;
  enum { AT_NAMES = 20, AT_EXCEPT = 22 };
  struct slice bytes;
  struct parcel *p = parcel_new(PARCEL_TEXT, text_of("x"), NULL, 0, NULL, 0);
  assert_true(payload_write(&out, p, 5, 0, &bytes));
  parcel_free(p);
  static const struct {
    size_t at, n;
  } counts[] = {{AT_NAMES, PAYLOAD_NAMES + 1}, {AT_EXCEPT, PAYLOAD_EXCEPT + 1}};
  for (size_t i = 0; i < COUNT(counts); i++) {
    uint8_t *copy = exact_copy(slice_data(&bytes), bytes.len);
    copy[counts[i].at] = (uint8_t)counts[i].n;
    copy[counts[i].at + 1] = (uint8_t)(counts[i].n >> 8);
    assert_false(payload_read(&read_back, copy, bytes.len));
    free(copy);
  }
}

static void too_long_is_refused(void **state) {
  (void)state;
  struct slice bytes;
  char *text = malloc(PAYLOAD_BODY + 2);
  memset(text, 'x', PAYLOAD_BODY + 2);
  struct parcel *fits =
      parcel_new(PARCEL_SEND, frame_of(WS_TEXT, text, PAYLOAD_BODY), NULL, 0, NULL, 0);
  assert_true(payload_write(&out, fits, 5, 0, &bytes));
  assert_true(payload_read(&read_back, slice_data(&bytes), bytes.len));
  parcel_free(fits);
  struct parcel *over =
      parcel_new(PARCEL_SEND, frame_of(WS_TEXT, text, PAYLOAD_BODY + 1), NULL, 0, NULL, 0);
  assert_false(payload_write(&out, over, 5, 0, &bytes));
  parcel_free(over);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(the_bytes_of_version_1, stop),
      cmocka_unit_test_teardown(frames_of_any_length_lose_their_heads, stop),
      cmocka_unit_test_teardown(an_answer_goes_back_to_who_waits, stop),
      cmocka_unit_test_teardown(what_is_cut_or_changed_is_not_read, stop),
      cmocka_unit_test_teardown(connections_are_left_out, stop),
      cmocka_unit_test_teardown(names_have_a_bound, stop),
      cmocka_unit_test_teardown(a_count_that_is_too_large_is_refused, stop),
      cmocka_unit_test_teardown(too_long_is_refused, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
