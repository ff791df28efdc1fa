/* SPDX-License-Identifier: MIT */
/* test_groups.c -- a frame reaches each member once, and leaving leaves nothing behind. */
#include "../unit.h"

#include "base/log.h"
#include "hub/groups.h"
#include "net/http_conn.h"
#include "net/worker.h"
#include "net/ws_conn.h"

#include <sys/socket.h>

static const struct conn_limits limits = {
    .http = {.head = 4096, .target = 1000, .body = 1000},
    .ws = {.message = 1000, .fragments = 16},
    .output_soft = 10000,
    .output_hard = 20000,
    .output_soft_ms = 1000,
    .head_ms = 1000,
    .body_ms = 1000,
    .idle_ms = 1000,
    .ping_ms = 1000,
    .pong_ms = 1000,
    .close_ms = 1000,
    .linger_ms = 1000,
    .turn_ms = 1000,
};

enum { CONNS = 12 };

static struct worker w;
static struct layer layer;
static struct outbox outbox;
static struct groups g;
static int peers[CONNS];
static struct conn *conns[CONNS];

static uint64_t on_head(struct conn *conn, const struct http_request *r) {
  (void)conn;
  (void)r;
  return 0;
}

static void on_request(struct conn *conn, const struct http_request *r) {
  (void)r;
  ws_accept(conn, &limits.ws, NULL, 0);
}

static void on_gone(struct conn *conn) {
  (void)conn;
}

static void on_message(struct conn *conn, bool is_binary, uint8_t *data, size_t n) {
  (void)conn;
  (void)is_binary;
  (void)data;
  (void)n;
}

static void on_closed(struct conn *conn, unsigned code, const char *reason, size_t n) {
  (void)code;
  (void)reason;
  (void)n;
  groups_leave_all(&g, conn);
  groups_leave_all(&g, conn); /* repeatable */
}

static void on_mail(void *owner, struct mail *mail) {
  (void)owner;
  free(mail);
}

static const struct http_handler http = {on_head, on_request, on_gone, on_gone};
static const struct ws_handler ws = {on_message, on_closed, on_gone};

static void settle(void) {
  for (int quiet = 0; quiet < 3;) {
    uint64_t before = w.activity;
    uv_run(&w.loop, UV_RUN_NOWAIT);
    quiet = w.activity == before && !w.is_hurried ? quiet + 1 : 0;
  }
}

/* What has come for a client since the last time. */
static const char *taken(int i) {
  static char text[32 * 1024];
  ssize_t k = read(peers[i], text, sizeof text - 1);
  text[k < 0 ? 0 : k] = '\0';
  return text;
}

static int start(void **state) {
  (void)state;
  static const char upgrade[] =
      "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
  log_open(2, LOG_ERROR, LOG_TEXT, false);
  worker_open(&w, 0, &limits, &http, &ws, (struct worker_events){.mail = on_mail}, NULL,
              sizeof(struct subscriber), 100);
  deadlines_freeze(&w.deadlines);
  layer_init(&layer, 1, 1000);
  outbox_init(&outbox, &layer, &w.metrics);
  groups_init(&g, &w, &layer, &outbox);
  layer_enlist(&layer, &w);
  for (int i = 0; i < CONNS; i++) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) return -1;
    peers[i] = ends[1];
    conns[i] = conn_adopt(&w, ends[0]);
    if (write(peers[i], upgrade, sizeof upgrade - 1) != sizeof upgrade - 1) return -1;
  }
  settle();
  for (int i = 0; i < CONNS; i++)
    if (!ws_is_open(conns[i]) || strncmp(taken(i), "HTTP/1.1 101", 12) != 0) return -1;
  return 0;
}

static int stop(void **state) {
  (void)state;
  worker_close(&w);
  uv_run(&w.loop, UV_RUN_DEFAULT);
  for (int i = 0; i < CONNS; i++) close(peers[i]);
  groups_fini(&g); /* which checks that all have left */
  bool is_clean = worker_fini(&w);
  worker_free(&w);
  layer_fini(&layer); /* which checks that no topic is held */
  return is_clean ? 0 : -1;
}

static bool join_bytes(int i, const char *name, size_t n) {
  bool joined;
  struct topic *topic = groups_add(&g, conns[i], name, n, NULL, 0, &joined);
  assert_true(topic->name_len == n && memcmp(topic->name, name, n) == 0);
  return joined;
}

static bool join(int i, const char *name) {
  return join_bytes(i, name, strlen(name));
}

static bool leave(int i, const char *name) {
  return groups_discard(&g, conns[i], name, strlen(name));
}

static unsigned count_of(const char *name) {
  return groups_count(&g, name, strlen(name));
}

static struct slice frame_of(const char *text) {
  struct slice frame;
  ws_frame_begin(&g.out);
  builder_text(&g.out, text);
  assert_true(ws_frame_end(&g.out, WS_TEXT, &frame));
  return frame;
}

/* Publishes to groups, but not to `except`; how many got it. */
static unsigned publish_to(const char *const *names, size_t n, const struct address *except,
                           size_t n_except, struct slice frame) {
  struct group_name list[4];
  uint64_t before = atomic_load(&w.metrics.group_deliveries);
  for (size_t i = 0; i < n; i++) list[i] = (struct group_name){names[i], strlen(names[i])};
  groups_publish(&g, list, n, except, n_except, frame);
  return (unsigned)(atomic_load(&w.metrics.group_deliveries) - before);
}

static unsigned publish(const char *name, const char *text) {
  return publish_to(&name, 1, NULL, 0, frame_of(text));
}

static struct address address_of(int i) {
  return (struct address){layer.node, conn_id(conns[i]), w.index};
}

static void assert_told(const char *text, ...) { /* ... members, then -1 */
  bool is_member[CONNS] = {false};
  char frame[100];
  va_list members;
  va_start(members, text);
  for (int i = va_arg(members, int); i >= 0; i = va_arg(members, int)) is_member[i] = true;
  va_end(members);
  snprintf(frame, sizeof frame, "\x81%c%s", (char)strlen(text), text);
  settle();
  for (int i = 0; i < CONNS; i++) assert_string_equal(taken(i), is_member[i] ? frame : "");
}

static void members_get_what_is_published(void **state) {
  (void)state;
  assert_true(join(0, "a") && join(3, "a") && join(5, "a") && join(7, "b"));
  assert_int_equal(count_of("a"), 3);
  assert_int_equal(publish("a", "hello"), 3);
  assert_told("hello", 0, 3, 5, -1);
  assert_int_equal(publish("b", "other"), 1);
  assert_told("other", 7, -1);
  assert_int_equal(publish("nobody", "lost"), 0);
  assert_told("lost", -1);
  assert_int_equal(atomic_load(&w.metrics.group_deliveries), 4);
}

static void joining_and_leaving_happen_once(void **state) {
  (void)state;
  assert_true(join(0, "a"));
  assert_false(join(0, "a"));
  assert_int_equal(count_of("a"), 1);
  assert_true(leave(0, "a"));
  assert_false(leave(0, "a"));
  assert_false(leave(1, "a"));
  assert_false(leave(1, "never"));
  assert_int_equal(count_of("a"), 0);
  assert_null(g.by_name); /* an empty group is no group */
  assert_true(join(0, "a") && join(1, "a"));
  assert_false(leave(2, "a"));
  assert_int_equal(publish("a", "x"), 2);
  assert_told("x", 0, 1, -1);
}

static void names_are_bytes(void **state) {
  (void)state;
  char longest[GROUP_NAME_MAX];
  memset(longest, 'n', sizeof longest);
  assert_true(join_bytes(0, "a\0b", 3));
  assert_true(join_bytes(1, "a\0c", 3));
  assert_true(join_bytes(2, "a", 1));
  assert_true(join_bytes(3, longest, sizeof longest));
  assert_true(join_bytes(4, longest, sizeof longest - 1));
  assert_int_equal(groups_count(&g, "a\0b", 3), 1);
  assert_int_equal(groups_count(&g, "a", 1), 1);
  assert_int_equal(groups_count(&g, "A", 1), 0);
  assert_int_equal(groups_count(&g, longest, sizeof longest), 1);
}

static void no_name(void) {
  join_bytes(0, "", 0);
}

static void long_name(void) {
  static const char name[GROUP_NAME_MAX + 1];
  join_bytes(0, name, sizeof name);
}

static void fini_with_members(void) {
  join(0, "a");
  groups_fini(&g);
}

static void misuse_is_noticed(void **state) {
  (void)state;
  assert_dies(no_name, NULL, 0);
  assert_dies(long_name, NULL, 0);
  assert_dies(fini_with_members, NULL, 0);
}

static void several_groups_reach_a_member_once(void **state) {
  (void)state;
  join(0, "a");
  join(1, "a");
  join(1, "b");
  join(2, "b");
  static const char *const names[] = {"a", "b", "a"};
  assert_int_equal(publish_to(names, 3, NULL, 0, frame_of("both")), 3);
  assert_told("both", 0, 1, 2, -1);
  assert_int_equal(publish("b", "again"), 2); /* another publish */
  assert_told("again", 1, 2, -1);
}

static void who_is_excluded_gets_nothing_this_time(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) join(i, "a");
  static const char *const names[] = {"a"};
  struct address except[] = {address_of(1), address_of(3), address_of(8), address_of(0),
                             address_of(2)};
  except[3].node++; /* others' connections with the same number */
  except[4].worker++;
  assert_int_equal(publish_to(names, 1, except, 5, frame_of("some")), 2);
  assert_told("some", 0, 2, -1);
  assert_int_equal(publish("a", "all"), 4);
  assert_told("all", 0, 1, 2, 3, -1);
}

static void stamps_may_wrap_around(void **state) {
  (void)state;
  join(0, "a");
  g.stamp = UINT32_MAX - 1;
  for (int i = 0; i < 4; i++) {
    assert_int_equal(publish("a", "x"), 1); /* 0 marks those no publish has touched */
    assert_told("x", 0, -1);
  }
}

static void who_closes_has_left(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++) {
    join(i, "a");
    join(i, "b");
  }
  ws_close(conns[1], 1000, "", 0);
  conn_close(conns[3], "test");
  assert_int_equal(count_of("a"), 3);
  assert_int_equal(count_of("b"), 3);
  assert_int_equal(publish("a", "x"), 3);
  settle();
  assert_string_equal(taken(0), "\x81\x01x");
  assert_string_equal(taken(1), "\x88\x02\x03\xe8");
  assert_string_equal(taken(2), "\x81\x01x");
  assert_string_equal(taken(3), "");
}

/* Others ask the topic which workers have members. */
static void the_topic_knows_whether_members_are_here(void **state) {
  (void)state;
  struct topic *topic = topics_hold(&layer.topics, "a", 1); /* as another worker would */
  assert_int_equal(topics_workers(&layer.topics, "a", 1), 0);
  join(0, "a");
  join(1, "a");
  assert_int_equal(topics_workers(&layer.topics, "a", 1), 1);
  assert_true(leave(0, "a"));
  assert_int_equal(topics_workers(&layer.topics, "a", 1), 1);
  assert_true(leave(1, "a"));
  assert_int_equal(topics_workers(&layer.topics, "a", 1), 0);
  topics_release(&layer.topics, topic);
}

static void publishes_are_counted(void **state) {
  (void)state;
  join(0, "a");
  join(1, "a");
  publish("a", "x");
  publish("nobody", "x");
  assert_int_equal(atomic_load(&w.metrics.group_publishes), 2);
  assert_int_equal(atomic_load(&w.metrics.group_deliveries), 2);
}

/* The frame that is too much for one member must still reach those behind it. */
static void a_slow_member_does_not_spoil_a_publish(void **state) {
  (void)state;
  static char big[20001];
  memset(big, 'x', sizeof big - 1);
  for (int i = 0; i < 3; i++) join(i, "a");
  struct slice frame = frame_of(big);
  buf_ref(frame.buf);
  frame.len = 3000;
  while (conn_pending(conns[1]) + 6004 <= limits.output_hard) { /* it does not read */
    assert_true(conn_send(conns[1], frame));
    settle();
  }
  buf_unref(frame.buf);
  big[6000] = '\0';
  assert_int_equal(publish("a", big), 2);
  assert_int_equal(count_of("a"), 3); /* not from inside the delivery */
  settle();
  assert_int_equal(count_of("a"), 2);
  assert_int_equal(strlen(taken(0)), 6004);
  assert_int_equal(strlen(taken(2)), 6004);
}

static void note_name(const char *name, size_t n, void *arg) {
  char *text = arg;
  snprintf(text + strlen(text), 50, "%.*s,", (int)n, name);
}

static void the_groups_of_a_connection_are_told(void **state) {
  (void)state;
  char text[200] = "";
  join(0, "one");
  join(0, "two");
  join(0, "three");
  join(1, "four");
  groups_each_of(conns[0], note_name, text);
  assert_string_equal(text, "three,two,one,"); /* latest first */
  leave(0, "two");
  text[0] = '\0';
  groups_each_of(conns[0], note_name, text);
  assert_string_equal(text, "three,one,");
  text[0] = '\0';
  groups_each_of(conns[2], note_name, text);
  assert_string_equal(text, "");
  struct subscriber *sub = conn_upper(conns[0]);
  assert_int_equal(sub->n_joined, 2);
  groups_leave_all(&g, conns[0]);
  assert_int_equal(sub->n_joined, 0);
  assert_int_equal(count_of("one") + count_of("two") + count_of("three"), 0);
  assert_int_equal(count_of("four"), 1);
}

static void note_member(const struct member_view *member, void *arg) {
  bool *is_member = arg;
  for (int i = 0; i < CONNS; i++)
    if (conns[i] == member->conn) {
      assert_false(is_member[i]);
      is_member[i] = true;
    }
}

static void the_members_of_a_group_are_told(void **state) {
  (void)state;
  bool is_member[CONNS] = {false};
  groups_each_member(&g, "a", 1, note_member, is_member);
  for (int i = 0; i < CONNS; i++) assert_false(is_member[i]);
  for (int i = 1; i < CONNS; i += 2) join(i, "a");
  join(2, "b");
  leave(5, "a");
  groups_each_member(&g, "a", 1, note_member, is_member);
  for (int i = 0; i < CONNS; i++) assert_int_equal(is_member[i], i % 2 && i != 5);
}

/* Random comings and goings against a table of who is where. */
static void memberships_add_up(void **state) {
  (void)state;
  enum { NAMES = 9 };
  static const char *const names[NAMES] = {"a", "b", "c", "d", "e", "f", "gg", "hh", "ii"};
  bool is_member[CONNS][NAMES] = {0};
  uint64_t seed = 21;
  for (int round = 0; round < 20000; round++) {
    unsigned i = random_below(&seed, CONNS), k = random_below(&seed, NAMES);
    switch (random_below(&seed, 20)) {
    case 0:
      groups_leave_all(&g, conns[i]);
      memset(is_member[i], 0, sizeof is_member[i]);
      break;
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
      assert_int_equal(leave((int)i, names[k]), is_member[i][k]);
      is_member[i][k] = false;
      break;
    default: assert_int_equal(join((int)i, names[k]), !is_member[i][k]); is_member[i][k] = true;
    }
    unsigned n = 0;
    for (int c = 0; c < CONNS; c++) n += is_member[c][k];
    assert_int_equal(count_of(names[k]), n);
    if (round % 500 == 0) {
      char frame[] = "\x81\x01?";
      frame[2] = (char)('A' + k);
      assert_int_equal(publish(names[k], frame + 2), n);
      settle();
      for (int c = 0; c < CONNS; c++) assert_string_equal(taken(c), is_member[c][k] ? frame : "");
      groups_rewind(&g);
    }
  }
}

struct census {
  unsigned groups, members;
};

static void count_group(const char *name, size_t n, uint32_t members, void *arg) {
  struct census *census = arg;
  assert_int_equal(members, groups_count(&g, name, n));
  census->groups++;
  census->members += members;
}

static void all_groups_are_told(void **state) {
  (void)state;
  struct census census = {0};
  groups_each(&g, count_group, &census);
  assert_int_equal(census.groups, 0);
  join(0, "a");
  join(1, "a");
  join(0, "b");
  join(2, "c");
  leave(2, "c");
  groups_each(&g, count_group, &census);
  assert_int_equal(census.groups, 2);
  assert_int_equal(census.members, 3);
}

/* A walk in steps meets each connection once, also when others leave in between. */
static void connections_are_walked(void **state) {
  (void)state;
  unsigned met = 0;
  uint32_t slot = 0;
  for (struct conn *conn; (conn = worker_next_conn(&w, &slot));) {
    assert_ptr_equal(conn, conns[met]);
    met++;
  }
  assert_int_equal(met, CONNS);
  assert_null(worker_next_conn(&w, &slot));
  slot = UINT32_MAX;
  assert_null(worker_next_conn(&w, &slot));
}

static void published_bytes_make_room_again(void **state) {
  (void)state;
  join(0, "a");
  for (int i = 0; i < 1000; i++) {
    publish("a", "the same block again and again");
    settle();
    taken(0);
    groups_rewind(&g);
    assert_true(g.out.buf->len == 0);
  }
}

/* Looking through all groups of a connection at each step would take minutes here. */
static void a_connection_may_be_in_very_many_groups(void **state) {
  (void)state;
  enum { GROUPS = 100000 };
  char name[32];
  for (int i = 0; i < CONNS; i++)
    for (int k = 0; k < GROUPS; k++) {
      snprintf(name, sizeof name, "group %d", k);
      assert_true(join(i, name));
    }
  for (int k = 0; k < GROUPS; k++) { /* oldest first, then newest first */
    snprintf(name, sizeof name, "group %d", k);
    assert_true(leave(0, name));
    assert_false(leave(0, name));
    snprintf(name, sizeof name, "group %d", GROUPS - 1 - k);
    assert_true(leave(1, name));
    assert_false(join(2, name));
  }
  assert_int_equal(count_of("group 7"), CONNS - 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(members_get_what_is_published, start, stop),
      cmocka_unit_test_setup_teardown(joining_and_leaving_happen_once, start, stop),
      cmocka_unit_test_setup_teardown(a_connection_may_be_in_very_many_groups, start, stop),
      cmocka_unit_test_setup_teardown(names_are_bytes, start, stop),
      cmocka_unit_test_setup_teardown(misuse_is_noticed, start, stop),
      cmocka_unit_test_setup_teardown(several_groups_reach_a_member_once, start, stop),
      cmocka_unit_test_setup_teardown(who_is_excluded_gets_nothing_this_time, start, stop),
      cmocka_unit_test_setup_teardown(stamps_may_wrap_around, start, stop),
      cmocka_unit_test_setup_teardown(who_closes_has_left, start, stop),
      cmocka_unit_test_setup_teardown(a_slow_member_does_not_spoil_a_publish, start, stop),
      cmocka_unit_test_setup_teardown(the_topic_knows_whether_members_are_here, start, stop),
      cmocka_unit_test_setup_teardown(publishes_are_counted, start, stop),
      cmocka_unit_test_setup_teardown(the_groups_of_a_connection_are_told, start, stop),
      cmocka_unit_test_setup_teardown(the_members_of_a_group_are_told, start, stop),
      cmocka_unit_test_setup_teardown(all_groups_are_told, start, stop),
      cmocka_unit_test_setup_teardown(connections_are_walked, start, stop),
      cmocka_unit_test_setup_teardown(memberships_add_up, start, stop),
      cmocka_unit_test_setup_teardown(published_bytes_make_room_again, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
