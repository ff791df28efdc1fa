/* SPDX-License-Identifier: MIT */
/* test_redis.c -- URLs, and a conversation with a Redis that a test plays. */
#include "../unit.h"

#include "base/log.h"
#include "hub/redis.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* ---- URLs ------------------------------------------------------------------------------------ */

static void urls_are_read(void **state) {
  (void)state;
  static const struct {
    const char *text, *host, *user, *password, *shown;
    unsigned port, db;
    bool is_unix;
  } good[] = {
      {"redis://h", "h", NULL, NULL, "redis://h:6379/0", 6379, 0, false},
      {"redis://h/", "h", NULL, NULL, "redis://h:6379/0", 6379, 0, false},
      {"redis://127.0.0.1:1/15", "127.0.0.1", NULL, NULL, "redis://127.0.0.1:1/15", 1, 15, false},
      {"redis://[::1]:7000", "::1", NULL, NULL, "redis://[::1]:7000/0", 7000, 0, false},
      {"redis://[::1]/2", "::1", NULL, NULL, "redis://[::1]:6379/2", 6379, 2, false},
      {"redis://:pass@h:65535", "h", NULL, "pass", "redis://h:65535/0", 65535, 0, false},
      {"redis://me:a%3Ab%40c%2F@h", "h", "me", "a:b@c/", "redis://me@h:6379/0", 6379, 0, false},
      {"redis://me:p@ss@h", "h", "me", "p@ss", "redis://me@h:6379/0", 6379, 0, false},
      {"redis://:Ab/Cd+Ef==@h:1/2", "h", NULL, "Ab/Cd+Ef==", "redis://h:1/2", 1, 2, false},
      {"redis://:/@?#[:@[::1]/2", "::1", NULL, "/@?#[:", "redis://[::1]:6379/2", 6379, 2, false},
      {"redis://me:50%2525off@h", "h", "me", "50%25off", "redis://me@h:6379/0", 6379, 0, false},
      {"unix:/run/redis.sock", "/run/redis.sock", NULL, NULL, "unix:/run/redis.sock?db=0", 0, 0,
       true},
      {"unix:/r?db=3", "/r", NULL, NULL, "unix:/r?db=3", 0, 3, true},
  };
  for (size_t i = 0; i < COUNT(good); i++) {
    struct redis_url u;
    const char *why = NULL;
    if (!redis_url_parse(good[i].text, &u, &why)) fail_msg("%s: %s", good[i].text, why);
    assert_string_equal(u.host, good[i].host);
    assert_string_equal(u.shown, good[i].shown);
    assert_string_equal(u.user ? u.user : "-", good[i].user ? good[i].user : "-");
    assert_string_equal(u.password ? u.password : "-", good[i].password ? good[i].password : "-");
    assert_int_equal(u.password_len, u.password ? strlen(u.password) : 0);
    assert_int_equal(u.user_len, u.user ? strlen(u.user) : 0);
    assert_int_equal(u.port, good[i].port);
    assert_int_equal(u.db, good[i].db);
    assert_int_equal(u.is_unix, good[i].is_unix);
    redis_url_free(&u);
  }
}

static void a_login_holds_any_byte(void **state) {
  (void)state;
  struct redis_url u;
  const char *why;
  char text[2000] = "redis://";
  for (int part = 0; part < 2; part++) {
    for (int i = 0; i < 256; i++) sprintf(text + strlen(text), "%%%02x", i);
    strcat(text, part ? "@h" : ":");
  }
  assert_true(redis_url_parse(text, &u, &why));
  assert_int_equal(u.user_len, 256);
  assert_int_equal(u.password_len, 256);
  for (int i = 0; i < 256; i++) {
    assert_int_equal((unsigned char)u.user[i], i);
    assert_int_equal((unsigned char)u.password[i], i);
  }
  redis_url_free(&u);
}

static void what_is_no_url_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    "redis:",
                                    "redis:/h",
                                    "http://h",
                                    "rediss://h",
                                    "redis://",
                                    "redis:///1",
                                    "redis://:0",
                                    "redis://h:",
                                    "redis://h:0",
                                    "redis://h:65536",
                                    "redis://h:1x",
                                    "redis://h:-1",
                                    "redis://h/x",
                                    "redis://h/-1",
                                    "redis://h/1/2",
                                    "redis://h/9999999999",
                                    "redis://u@h",
                                    "redis://u:@h",
                                    "redis://u:%@h",
                                    "redis://u:%4@h",
                                    "redis://u:%zz@h",
                                    "redis://%4:p@h",
                                    "redis://[::1",
                                    "redis://[::1]x",
                                    "redis://[]",
                                    "redis://:p@",
                                    "unix:",
                                    "unix:x",
                                    "unix:/x?",
                                    "unix:/x?db=",
                                    "unix:/x?db=x",
                                    "unix:/x?password=y"};
  for (size_t i = 0; i < COUNT(bad); i++) {
    struct redis_url u;
    const char *why = NULL;
    if (redis_url_parse(bad[i], &u, &why)) fail_msg("'%s' was read", bad[i]);
    assert_non_null(why);
    assert_null(u.host); /* nothing is left to be freed */
  }
}

/* ---- names ----------------------------------------------------------------------------------- */

static const char *addresses[8]; /* what every name is resolved to: up to a NULL */

/* In place of the C library's, for libuv too. One block for each, as freeaddrinfo expects. */
__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found) {
  (void)name;
  struct addrinfo **next = found;
  in_port_t port = htons((uint16_t)atoi(service));
  for (const char **a = addresses; *a; a++) {
    struct addrinfo *info = calloc(1, sizeof *info + sizeof(struct sockaddr_in6));
    struct sockaddr_in *v4 = (struct sockaddr_in *)(info + 1);
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(info + 1);
    info->ai_socktype = hints->ai_socktype;
    info->ai_addr = (struct sockaddr *)(info + 1);
    info->ai_family = strchr(*a, ':') ? AF_INET6 : AF_INET;
    info->ai_addrlen = info->ai_family == AF_INET6 ? sizeof *v6 : sizeof *v4;
    info->ai_addr->sa_family = (sa_family_t)info->ai_family;
    if (info->ai_family == AF_INET6) {
      v6->sin6_port = port;
      inet_pton(AF_INET6, *a, &v6->sin6_addr);
    } else {
      v4->sin_port = port;
      inet_pton(AF_INET, *a, &v4->sin_addr);
    }
    *next = info;
    next = &info->ai_next;
  }
  return 0;
}

/* ---- a conversation -------------------------------------------------------------------------- */

static uv_loop_t loop;
static struct redis_url url;
static struct redis redis;
static int listener, peer;
static unsigned n_ready, n_lost, n_replies, n_nulls;
static bool was_fatal;
static char why_lost[300];
static struct reply *last;

static void on_ready(struct redis *r) {
  (void)r;
  n_ready++;
}

static void on_lost(struct redis *r, const char *why, bool is_fatal) {
  (void)r;
  n_lost++;
  was_fatal = is_fatal;
  snprintf(why_lost, sizeof why_lost, "%s", why);
}

static void on_reply(void *arg, struct reply *reply) {
  assert_ptr_equal(arg, &redis);
  n_replies++;
  if (!reply) n_nulls++;
  reply_free(last);
  last = reply;
}

static const struct redis_events events = {.ready = on_ready, .lost = on_lost};

static void turn_until(bool (*is_so)(void)) {
  for (int i = 0; i < 20000 && !is_so(); i++) {
    uv_run(&loop, UV_RUN_NOWAIT);
    if (!is_so()) usleep(100);
  }
  assert_true(is_so());
}

static bool has_come(void) {
  if (peer < 0) peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  return peer >= 0;
}
static bool is_ready(void) {
  return n_ready > 0;
}
static bool is_lost(void) {
  return n_lost > 0;
}

static bool has_all_replies(void) {
  return n_replies == 600;
}

/* Reads what was sent until it ends with `text`. */
static const char *hear(const char *text) {
  static char heard[64 * 1024];
  size_t n = 0, len = strlen(text);
  for (int i = 0; i < 20000; i++) {
    uv_run(&loop, UV_RUN_NOWAIT);
    ssize_t k = read(peer, heard + n, sizeof heard - 1 - n);
    if (k > 0) n += (size_t)k;
    heard[n] = '\0';
    if (n >= len && strcmp(heard + n - len, text) == 0) return heard;
    usleep(100);
  }
  fail_msg("'%s' was not heard but '%s'", text, heard);
  return NULL;
}

static void say(const char *text) {
  assert_int_equal(write(peer, text, strlen(text)), strlen(text));
}

/* Listens at an address, with that port; 0: any. */
static int listen_at(const char *address, int port, int backlog) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  inet_pton(AF_INET, address, &at.sin_addr);
  assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
  assert_int_equal(listen(fd, backlog), 0);
  return fd;
}

static int port_of(int fd) {
  struct sockaddr_in at;
  socklen_t len = sizeof at;
  getsockname(fd, (struct sockaddr *)&at, &len);
  return ntohs(at.sin_port);
}

static void prepare(void) {
  log_open(2, LOG_ERROR, LOG_TEXT, false);
  log_set_level((enum log_level) - 1);
  n_ready = n_lost = n_replies = n_nulls = 0;
  last = NULL;
  peer = -1;
  assert_int_equal(uv_loop_init(&loop), 0);
  listener = listen_at("127.0.0.1", 0, 5);
}

/* Opens a connection to what the name "redis" is resolved to. */
static void open_to(const char *login, const char *const *to) {
  char text[100];
  const char *why;
  size_t n = 0;
  do addresses[n] = to[n]; /* they outlive the test's list: a loss leads to another attempt */
  while (to[n++]);
  snprintf(text, sizeof text, "redis://%sredis:%d/7", login, port_of(listener));
  assert_true(redis_url_parse(text, &url, &why));
  redis_open(&redis, &loop, &url, "test", 1000, &events, &redis);
}

static void meet(const char *login) {
  prepare();
  open_to(login, (const char *const[]){"127.0.0.1", NULL});
  turn_until(has_come);
}

static int part(void **state) {
  (void)state;
  redis_close(&redis);
  redis_close(&redis); /* repeatable */
  uv_run(&loop, UV_RUN_DEFAULT);
  redis_fini(&redis);
  redis_url_free(&url);
  reply_free(last);
  close(peer);
  close(listener);
  return uv_loop_close(&loop);
}

static void greet(void) {
  meet("");
  hear("$4\r\ntest\r\n");
  say("+OK\r\n+OK\r\n");
  turn_until(is_ready);
}

static bool command(const char *word) {
  return redis_command(&redis, on_reply, &redis, 1, &word, NULL);
}

static void it_greets_and_is_ready_then(void **state) {
  (void)state;
  meet("me:secret@");
  const char *heard = hear("$4\r\ntest\r\n");
  assert_string_equal(heard, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n"
                             "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n"
                             "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$4\r\ntest\r\n");
  assert_false(command("PING"));
  say("+OK\r\n+OK\r");
  assert_int_equal(n_ready, 0);
  say("\n+OK\r\n");
  turn_until(is_ready);
  assert_int_equal(redis.state, REDIS_READY);
}

/* ---- a host of several addresses ------------------------------------------------------------- */

static void get_ready(void) {
  turn_until(has_come);
  hear("$4\r\ntest\r\n");
  say("+OK\r\n+OK\r\n");
  turn_until(is_ready);
  assert_int_equal(n_lost, 0);
  assert_null(redis.addresses);
}

static void addresses_that_refuse_are_passed_over(void **state) {
  (void)state;
  prepare();
  open_to("", (const char *const[]){"::1", "127.0.0.2", "127.0.0.3", "127.0.0.1", NULL});
  get_ready();
}

static void an_address_that_cannot_be_reached_is_passed_over(void **state) {
  (void)state;
  prepare();
  open_to("", (const char *const[]){"255.255.255.255", "127.0.0.1", NULL}); /* fails at once */
  get_ready();
}

/* A socket whose queue is full: who connects gets no answer at all. */
static struct hole { int listener, in_queue[2]; } holes[2];

static void dig(struct hole *hole, const char *address) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(listener))};
  inet_pton(AF_INET, address, &at.sin_addr);
  hole->listener = listen_at(address, port_of(listener), 0);
  for (int i = 0; i < 2; i++) {
    hole->in_queue[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(hole->in_queue[i], (struct sockaddr *)&at, sizeof at);
  }
}

static void fill(struct hole *hole) {
  for (int i = 0; i < 2; i++) close(hole->in_queue[i]);
  close(hole->listener);
}

static void silent_addresses_take_no_more_than_their_share(void **state) {
  (void)state;
  prepare();
  dig(&holes[0], "127.0.0.2");
  dig(&holes[1], "127.0.0.3");
  open_to("", (const char *const[]){"127.0.0.2", "127.0.0.3", "127.0.0.1", NULL});
  get_ready();
  fill(&holes[0]);
  fill(&holes[1]);
}

static void the_timeout_holds_for_all_addresses_together(void **state) {
  (void)state;
  prepare();
  dig(&holes[0], "127.0.0.2");
  dig(&holes[1], "127.0.0.3");
  open_to("", (const char *const[]){"127.0.0.2", "127.0.0.3", NULL});
  unsigned n_tried = 0;
  const struct redis_stream *trying = NULL;
  while (!is_lost()) {
    uv_run(&loop, UV_RUN_ONCE);
    if (!redis.stream || redis.stream == trying) continue;
    trying = redis.stream;
    uint64_t left = redis.deadline - uv_now(&loop);
    assert_true(uv_timer_get_due_in(&redis.timer) <= (++n_tried == 1 ? left / 2 : left));
  }
  assert_int_equal(n_tried, 2);
  assert_int_equal(n_lost, 1);
  assert_string_equal(why_lost, "no answer in time");
  fill(&holes[0]);
  fill(&holes[1]);
}

/* What forwards a port accepts everywhere, and hangs up where nothing is behind it. */
static void an_address_that_hangs_up_is_passed_over(void **state) {
  (void)state;
  prepare();
  int other = listen_at("127.0.0.2", port_of(listener), 5), hung_up = -1;
  open_to("", (const char *const[]){"127.0.0.2", "127.0.0.1", NULL});
  while (hung_up < 0) {
    uv_run(&loop, UV_RUN_NOWAIT);
    hung_up = accept(other, NULL, NULL);
  }
  close(hung_up);
  get_ready();
  close(other);
}

static void a_refusal_is_for_all_addresses(void **state) {
  (void)state;
  prepare();
  int other = listen_at("127.0.0.2", port_of(listener), 5);
  open_to(":wrong@", (const char *const[]){"127.0.0.1", "127.0.0.2", NULL});
  turn_until(has_come);
  hear("$4\r\ntest\r\n");
  say("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
  turn_until(is_lost);
  assert_true(was_fatal);
  assert_int_equal(accept(other, NULL, NULL), -1);
  close(other);
}

static void after_a_loss_all_addresses_are_tried_again(void **state) {
  (void)state;
  prepare();
  open_to("", (const char *const[]){"127.0.0.2", "127.0.0.1", NULL});
  get_ready();
  close(peer);
  peer = -1;
  assert_int_equal(redis.attempts, 0);
  turn_until(is_lost);
  n_ready = n_lost = 0;
  get_ready();
  assert_int_equal(redis.attempts, 0); /* the next loss begins with a short wait again */
}

static void closing_between_two_addresses_leaves_nothing(void **state) {
  (void)state;
  prepare();
  dig(&holes[0], "127.0.0.2");
  open_to("", (const char *const[]){"127.0.0.2", "127.0.0.1", NULL});
  while (!redis.stream) uv_run(&loop, UV_RUN_ONCE);
  fill(&holes[0]); /* part() closes it */
}

static void a_password_is_sent_with_all_its_bytes(void **state) {
  (void)state;
  meet(":a%00%0d%0ab@");
  char heard[40] = {0};
  ssize_t n = 0;
  while (n < 25) {
    uv_run(&loop, UV_RUN_NOWAIT);
    ssize_t k = read(peer, heard + n, (size_t)(25 - n));
    if (k > 0) n += k;
  }
  assert_memory_equal(heard, "*2\r\n$4\r\nAUTH\r\n$5\r\na\0\r\nb", 23);
}

static void replies_come_in_order(void **state) {
  (void)state;
  greet();
  for (int i = 0; i < 600; i++) assert_true(command("X")); /* the ring grows on the way */
  hear("X\r\n");
  for (int i = 0; i < 599; i++) {
    say(":1\r\n");
    if (i % 100 == 0) uv_run(&loop, UV_RUN_NOWAIT);
  }
  say("*3\r\n$2\r\na\r\r\n*2\r\n$-1\r\n:-5\r\n-ERR no\r\n");
  turn_until(has_all_replies);
  assert_int_equal(last->type, REPLY_ARRAY);
  assert_int_equal(last->n, 3);
  assert_memory_equal(last->items[0]->text, "a\r", 2);
  assert_int_equal(last->items[1]->items[0]->type, REPLY_NIL);
  assert_int_equal(last->items[1]->items[1]->integer, -5);
  assert_int_equal(last->items[2]->type, REPLY_ERROR);
  assert_string_equal(last->items[2]->text, "ERR no");
}

static void commands_under_way_are_answered_with_nothing(void **state) {
  (void)state;
  greet();
  assert_true(command("A") && command("B"));
  hear("B\r\n");
  close(peer);
  peer = -1;
  turn_until(is_lost);
  assert_int_equal(n_replies, 2);
  assert_int_equal(n_nulls, 2);
  assert_false(was_fatal);
  assert_false(command("C"));
  n_ready = 0;
  turn_until(has_come); /* it tries again by itself */
  hear("$4\r\ntest\r\n");
  say("+OK\r\n+OK\r\n");
  turn_until(is_ready);
  assert_true(command("D"));
}

static void a_refusal_is_told_as_one(void **state) {
  (void)state;
  meet(":wrong@");
  hear("$4\r\ntest\r\n");
  say("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
  turn_until(is_lost);
  assert_true(was_fatal);
  assert_non_null(strstr(why_lost, "WRONGPASS"));
}

static void loading_is_no_refusal(void **state) {
  (void)state;
  meet("");
  hear("$4\r\ntest\r\n");
  say("-LOADING Redis is loading the dataset in memory\r\n");
  turn_until(is_lost);
  assert_false(was_fatal);
}

static void junk_ends_the_connection(void **state) {
  (void)state;
  greet();
  command("A");
  hear("A\r\n");
  say("HTTP/1.1 400 Bad Request\r\n\r\n");
  turn_until(is_lost);
  assert_non_null(strstr(why_lost, "not the Redis protocol"));
  assert_int_equal(n_nulls, 1);
}

static void a_reply_nobody_asked_for_ends_it(void **state) {
  (void)state;
  greet();
  say("+OK\r\n");
  turn_until(is_lost);
  assert_non_null(strstr(why_lost, "nobody asked for"));
}

static void silence_ends_it(void **state) {
  (void)state;
  greet();
  for (int i = 0; i < 20000 && !n_lost; i++) {
    uv_run(&loop, UV_RUN_NOWAIT);
    redis_tend(&redis);
    usleep(500);
  }
  assert_string_equal(why_lost, "no answer in time");
  assert_non_null(strstr(hear("PING\r\n"), "PING")); /* it had asked */
}

static void too_much_that_is_unsent_is_refused(void **state) {
  (void)state;
  static char big[1 << 20];
  memset(big, 'x', sizeof big);
  greet();
  unsigned n = 0;
  while (redis_send(&redis, big, sizeof big, NULL, NULL)) n++; /* nobody reads them */
  assert_in_range(n, 30, 32);
  assert_false(redis_send(&redis, big, sizeof big, NULL, NULL));
  assert_true(redis.unsent <= REDIS_OUT_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(urls_are_read),
      cmocka_unit_test(a_login_holds_any_byte),
      cmocka_unit_test(what_is_no_url_is_refused),
      cmocka_unit_test_teardown(it_greets_and_is_ready_then, part),
      cmocka_unit_test_teardown(addresses_that_refuse_are_passed_over, part),
      cmocka_unit_test_teardown(an_address_that_cannot_be_reached_is_passed_over, part),
      cmocka_unit_test_teardown(silent_addresses_take_no_more_than_their_share, part),
      cmocka_unit_test_teardown(the_timeout_holds_for_all_addresses_together, part),
      cmocka_unit_test_teardown(an_address_that_hangs_up_is_passed_over, part),
      cmocka_unit_test_teardown(a_refusal_is_for_all_addresses, part),
      cmocka_unit_test_teardown(after_a_loss_all_addresses_are_tried_again, part),
      cmocka_unit_test_teardown(closing_between_two_addresses_leaves_nothing, part),
      cmocka_unit_test_teardown(a_password_is_sent_with_all_its_bytes, part),
      cmocka_unit_test_teardown(replies_come_in_order, part),
      cmocka_unit_test_teardown(commands_under_way_are_answered_with_nothing, part),
      cmocka_unit_test_teardown(a_refusal_is_told_as_one, part),
      cmocka_unit_test_teardown(loading_is_no_refusal, part),
      cmocka_unit_test_teardown(junk_ends_the_connection, part),
      cmocka_unit_test_teardown(a_reply_nobody_asked_for_ends_it, part),
      cmocka_unit_test_teardown(silence_ends_it, part),
      cmocka_unit_test_teardown(too_much_that_is_unsent_is_refused, part),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
