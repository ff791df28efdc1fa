/* SPDX-License-Identifier: MIT */
/* test_conn.c -- connections over socket pairs: answers in order, limits, frames, and clean ends.
 */
#include "../unit.h"

#include "base/log.h"
#include "net/http_conn.h"
#include "net/worker.h"
#include "net/ws_conn.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const struct conn_limits limits = {
    .http = {.head = 4096, .target = 1000, .body = 100000},
    .ws = {.message = 100000, .fragments = 16},
    .output_soft = 200000,
    .output_hard = 1000000,
    .output_soft_ms = 10000,
    .head_ms = 10000,
    .body_ms = 30000,
    .idle_ms = 75000,
    .ping_ms = 25000,
    .pong_ms = 10000,
    .close_ms = 5000,
    .linger_ms = 2000,
    .turn_ms = 1000,
};

static struct worker w;
static int peer = -1;       /* the client's end of the pair */
static struct conn *served; /* the server's end, until it is closed */
static char input[4 << 20]; /* what the client has read, NUL-terminated */
static size_t input_len;
static bool peer_has_ended;

/* ---- failure on demand ------------------------------------------------------------------------
 */

static int good_writes = -1; /* how many more work; -1: all */
static int full_writes = -1; /* how many more take all; then the kernel takes nothing */

int uv_try_write(uv_stream_t *stream, const uv_buf_t bufs[], unsigned n);
int uv_try_write(uv_stream_t *stream, const uv_buf_t bufs[], unsigned n) {
  static int (*real)(uv_stream_t *, const uv_buf_t[], unsigned);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "uv_try_write");
  if (good_writes == 0) return UV_EPIPE;
  if (good_writes > 0) good_writes--;
  if (full_writes == 0) return UV_EAGAIN;
  if (full_writes > 0) full_writes--;
  return real(stream, bufs, n);
}

/* What the peer has not taken, by the kernel. */
static long untaken =
    -1; /* how much it says next, and one less each time it is asked; -1: the truth */

int ioctl(int fd, unsigned long request, ...) {
  static int (*real)(int, unsigned long, ...);
  va_list rest;
  va_start(rest, request);
  void *out = va_arg(rest, void *);
  va_end(rest);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "ioctl");
  if (request != SIOCOUTQ || untaken < 0) return real(fd, request, out);
  *(int *)out = (int)untaken;
  if (untaken > 0) untaken--;
  return 0;
}

/* ---- the floor above --------------------------------------------------------------------------
 */

static unsigned n_requests, n_gone, n_closed, n_messages;
static unsigned closed_code;
static char closed_reason[200];
static uint64_t answer_later; /* the connection whose request waits */

static uint64_t on_head(struct conn *conn, const struct http_request *r) {
  if (http_span_is(r, r->path, "/refuse")) http_refuse(conn, 403, "no\n");
  return http_span_is(r, r->path, "/small") ? 10 : 100000;
}

static void answer(struct conn *conn, const char *text) {
  struct http_answer a = {.status = 200, .type = "text/plain", .type_len = 10};
  http_answer_text(conn, &a, text);
}

static void on_request(struct conn *conn, const struct http_request *r) {
  char text[200];
  n_requests++;
  if (http_span_is(r, r->path, "/ws")) {
    ws_accept(conn, &limits.ws, NULL, 0);
  } else if (http_span_is(r, r->path, "/expected")) {
    ws_expect(conn); /* and decides later */
  } else if (http_span_is(r, r->path, "/later")) {
    answer_later = conn_id(conn);
  } else {
    snprintf(text, sizeof text, "%.*s:%.*s\n", (int)r->path.len, http_text(r, r->path),
             (int)(r->body_len < 50 ? r->body_len : 50), (const char *)r->body);
    answer(conn, text);
  }
}

static void on_gone(struct conn *conn) {
  ws_forget(conn);
  n_gone++;
}

static uint64_t to_stream; /* bytes of an answer that goes out in pieces */
static bool holds_back;    /* its next piece is not there yet */

static void on_drained(struct conn *conn) {
  if (holds_back) return;
  struct builder b = {0};
  struct slice piece;
  size_t n = to_stream < 150000 ? (size_t)to_stream : 150000;
  builder_begin(&b);
  memset(builder_room(&b, n), 's', n);
  b.end += (uint32_t)n;
  assert_true(builder_commit(&b, &piece));
  assert_true(conn_send(conn, piece));
  builder_fini(&b);
  to_stream -= n;
  if (to_stream == 0) http_answer_end(conn);
}

static void stream(struct conn *conn, uint64_t n) {
  struct http_answer a = {.status = 200, .type = "text/plain", .type_len = 10};
  to_stream = n;
  http_answer_head(conn, &a, n);
}

/* A frame whose payload is n bytes of one kind. */
static struct slice frame_of(struct builder *b, char byte, size_t n) {
  struct slice frame;
  ws_frame_begin(b);
  memset(builder_room(b, n), byte, n);
  b->end += (uint32_t)n;
  assert_true(ws_frame_end(b, WS_TEXT, &frame));
  return frame;
}

static void on_message(struct conn *conn, bool is_binary, uint8_t *data, size_t n) {
  struct slice frame;
  n_messages++;
  if (n == 5 && memcmp(data, "close", 5) == 0) {
    ws_close(conn, 4001, "bye", 3);
    ws_close(conn, 4002, "again", 5); /* harmless */
    return;
  }
  if (n == 4 && memcmp(data, "busy", 4) == 0) {
    uint64_t began = turn_clock();
    while (turn_clock() - began < 2 * w.turn.most) {
    }
    return;
  }
  if (n == 3 && memcmp(data, "cut", 3) == 0) {
    conn_close(conn, "cut");
    conn_close(conn, "again");
    return;
  }
  ws_frame_begin(&w.out);
  builder_add(&w.out, data, n);
  assert_true(ws_frame_end(&w.out, is_binary ? WS_BINARY : WS_TEXT, &frame));
  ws_send_frame(conn, frame);
}

static void on_ws_closed(struct conn *conn, unsigned code, const char *reason, size_t n) {
  (void)conn;
  n_closed++;
  closed_code = code;
  snprintf(closed_reason, sizeof closed_reason, "%.*s", (int)n, reason);
}

static void on_drain(struct conn *conn) {
  ws_close(conn, WS_GOING_AWAY, "", 0);
}

static void on_mail(void *owner, struct mail *mail) {
  (void)owner;
  free(mail);
}

/* ---- both ends --------------------------------------------------------------------------------
 */

static const struct http_handler http = {on_head, on_request, on_gone, on_drained};
static const struct ws_handler ws = {on_message, on_ws_closed, on_drain};

static void connect_pair(void) {
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  peer = ends[1];
  served = conn_adopt(&w, ends[0]);
  assert_non_null(served);
  input_len = 0;
  input[0] = '\0';
  peer_has_ended = false;
}

static int start(void **state) {
  (void)state;
  log_open(2, LOG_ERROR, LOG_TEXT, false);
  n_requests = n_gone = n_closed = n_messages = closed_code = 0;
  closed_reason[0] = '\0';
  good_writes = full_writes = -1;
  untaken = -1;
  worker_open(&w, 0, &limits, &http, &ws, (struct worker_events){.mail = on_mail}, NULL, 64, 100);
  deadlines_freeze(&w.deadlines);
  connect_pair();
  return 0;
}

static int stop(void **state) {
  (void)state;
  good_writes = full_writes = -1;
  untaken = -1;
  if (peer >= 0) close(peer);
  peer = -1;
  worker_close(&w);
  uv_run(&w.loop, UV_RUN_DEFAULT);
  bool is_clean = worker_fini(&w); /* false when handles are left */
  worker_free(&w);
  return is_clean ? 0 : -1;
}

/* Turns until nothing happens any more. */
static void settle(void) {
  for (int quiet = 0; quiet < 3;) {
    uint64_t before = w.activity;
    uv_run(&w.loop, UV_RUN_NOWAIT);
    quiet = w.activity == before && !w.is_hurried ? quiet + 1 : 0;
  }
}

static void take(void) {
  for (;;) {
    ssize_t k = read(peer, input + input_len, sizeof input - 1 - input_len);
    if (k < 0) {
      assert_true(errno == EAGAIN || errno == ECONNRESET);
      if (errno == ECONNRESET) peer_has_ended = true;
      break;
    }
    if (k == 0) {
      peer_has_ended = true;
      break;
    }
    input_len += (size_t)k;
    assert_true(input_len < sizeof input - 1);
  }
  input[input_len] = '\0';
}

static void give(const void *bytes, size_t n) {
  assert_int_equal(write(peer, bytes, n), (ssize_t)n);
  settle();
  take();
}

static void give_text(const char *s) {
  give(s, strlen(s));
}

static bool is_over(void) {
  return w.n_conns == 0;
}

/* Time goes on until `until` milliseconds from now, with a turn after each deadline. */
static void pass(uint64_t ms) {
  uint64_t until = worker_now(&w) + ms;
  while (deadlines_advance(&w.deadlines, until)) settle();
  settle();
  take();
}

/* Time goes on, and the client takes nothing. */
static void pass_unread(uint64_t ms) {
  uint64_t until = worker_now(&w) + ms;
  while (deadlines_advance(&w.deadlines, until)) settle();
  settle();
}

static unsigned count(const char *what) {
  unsigned n = 0;
  for (const char *s = input; (s = strstr(s, what)); s += strlen(what)) n++;
  return n;
}

/* ---- HTTP --------------------------------------------------------------------------------------
 */

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

static void requests_are_answered_in_order(void **state) {
  (void)state;
  give_text(GET("/1") GET("/2") GET("/3"));
  assert_int_equal(count("HTTP/1.1 200 OK"), 3);
  assert_true(strstr(input, "/1:") < strstr(input, "/2:"));
  assert_true(strstr(input, "/2:") < strstr(input, "/3:"));
  assert_false(is_over());
  give_text(GET("/4"));
  assert_int_equal(count("/4:"), 1);
}

static void single_bytes_make_a_request(void **state) {
  (void)state;
  static const char text[] =
      "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" GET("/y");
  for (size_t i = 0; i < sizeof text - 1; i++) give(text + i, 1);
  assert_int_equal(count("/x:hello"), 1);
  assert_int_equal(count("/y:"), 1);
}

static void a_request_waits_until_the_one_before_is_answered(void **state) {
  (void)state;
  give_text(GET("/later") GET("/2"));
  assert_int_equal(n_requests, 1);
  assert_int_equal(input_len, 0);
  give_text(GET("/3"));
  assert_int_equal(n_requests, 1);
  struct conn *conn = worker_conn(&w, answer_later);
  assert_ptr_equal(conn, served);
  assert_true(http_span_is(http_request_of(conn), http_request_of(conn)->path, "/later"));
  answer(conn, "late\n");
  settle();
  take();
  assert_int_equal(n_requests, 3);
  assert_true(strstr(input, "late") < strstr(input, "/2:"));
  assert_int_equal(count("/3:"), 1);
}

static void a_last_answer_ends_the_connection(void **state) {
  (void)state;
  give_text("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" GET("/2"));
  assert_int_equal(count("/1:"), 1);
  assert_int_equal(count("/2:"), 0);
  assert_int_equal(count("Connection: close"), 1);
  assert_true(peer_has_ended);
  assert_false(is_over()); /* it waits for our end, or two seconds */
  pass(limits.linger_ms);
  assert_true(is_over());
  assert_int_equal(n_gone, 1);
}

/* It takes a byte whenever we look: the rest must be taken in the time of a body of that length. */
static void a_last_answer_that_drips_has_its_time(void **state) {
  (void)state;
  static const struct {
    long bytes;
    uint64_t ms; /* until the look that finds the time over: one each linger_ms */
  } cases[] = {{10 * CONN_RATE - 66, 40000}, {10 * CONN_RATE, 40000}, {10 * CONN_RATE + 66, 42000}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    if (i) connect_pair();
    give_text("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    untaken = cases[i].bytes;
    pass(limits.linger_ms + cases[i].ms - 1);
    assert_false(is_over());
    assert_int_equal(atomic_load(&w.metrics.slow_readers), i);
    pass(1);
    assert_true(is_over());
    assert_int_equal(atomic_load(&w.metrics.slow_readers), i + 1);
    untaken = -1;
    close(peer);
    peer = -1;
  }
}

static void a_last_answer_that_is_taken_in_time_is_not_cut(void **state) {
  (void)state;
  give_text("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  untaken = 10 * CONN_RATE;
  pass(limits.linger_ms + limits.body_ms);
  untaken = 0;
  pass(limits.linger_ms);
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 0);
}

static void who_takes_nothing_of_the_last_answer_has_no_time(void **state) {
  (void)state;
  give_text("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  untaken = 1000;
  pass(limits.linger_ms);
  untaken = 1000; /* as before */
  pass(limits.linger_ms - 1);
  assert_false(is_over());
  pass(1);
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 0);
}

static void the_peers_end_ends_the_waiting(void **state) {
  (void)state;
  give_text("GET /1 HTTP/1.0\r\n\r\n");
  assert_true(peer_has_ended);
  shutdown(peer, SHUT_WR);
  settle();
  assert_true(is_over());
}

static void an_end_after_the_request_still_gets_its_answer(void **state) {
  (void)state;
  give_text(GET("/later"));
  shutdown(peer, SHUT_WR);
  settle();
  assert_false(is_over());
  answer(worker_conn(&w, answer_later), "late\n");
  settle();
  take();
  assert_int_equal(count("late"), 1);
  assert_true(is_over());
}

static void an_end_inside_a_request_runs_nothing(void **state) {
  (void)state;
  give_text("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell");
  shutdown(peer, SHUT_WR);
  settle();
  take();
  assert_int_equal(n_requests, 0);
  assert_int_equal(input_len, 0);
  assert_true(is_over());
}

static void who_reads_its_answer_is_not_idle(void **state) {
  (void)state;
  static char some[100000];
  give_text(GET("/later"));
  stream(served, 300000);
  settle();
  assert_int_equal(to_stream, 0); /* the last piece waits in the queue */
  assert_null(http_request_of(served));
  assert_true(conn_pending(served) > 0);
  assert_true(read(peer, some, sizeof some) > 0);
  pass_unread(limits.idle_ms);
  assert_false(is_over());
  pass_unread(limits.idle_ms); /* and nothing was taken */
  assert_true(is_over());
}

static void what_cannot_be_understood_is_refused(void **state) {
  (void)state;
  give_text("GET / HTTP/1.1\r\n\r\n" GET("/2"));
  assert_int_equal(strncmp(input, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
  assert_int_equal(count("HTTP/1.1"), 1);
  assert_int_equal(count("Connection: close"), 1);
  assert_int_equal(n_requests, 0);
  assert_true(peer_has_ended);
}

static void a_body_over_its_routes_limit_is_refused(void **state) {
  (void)state;
  give_text("POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n");
  assert_int_equal(strncmp(input, "HTTP/1.1 413 ", 13), 0);
  assert_true(peer_has_ended);
}

static void a_request_refused_at_its_head_is_not_read(void **state) {
  (void)state;
  give_text("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n" GET("/hidden"));
  assert_int_equal(strncmp(input, "HTTP/1.1 403 ", 13), 0);
  assert_int_equal(count("HTTP/1.1"), 1);
  assert_int_equal(n_requests, 0);
}

static void who_expects_to_continue_is_told(void **state) {
  (void)state;
  give_text("POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  assert_string_equal(input, "HTTP/1.1 100 Continue\r\n\r\n");
  give_text("hi");
  assert_int_equal(count("/x:hi"), 1);
  input_len = 0; /* not when the body is there already ... */
  give_text("POST /y HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
#ifndef PERIGEE_TINY /* where it comes with another read */
  assert_int_equal(count("100 Continue"), 0);
#endif
  input_len = 0; /* ... nor when it is refused */
  give_text(
      "POST /small HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n");
  assert_int_equal(count("100 Continue"), 0);
  assert_int_equal(count("HTTP/1.1 413 "), 1);
}

static void a_head_has_its_time(void **state) {
  (void)state;
  pass(limits.head_ms - 1000);
  for (int i = 0; i < 3; i++) give_text("G"); /* bytes now and then do not help */
  pass(999);
  assert_int_equal(input_len, 0);
  pass(1);
  assert_int_equal(strncmp(input, "HTTP/1.1 408 ", 13), 0);
  assert_true(peer_has_ended);
}

static void a_silent_connection_is_closed(void **state) {
  (void)state;
  pass(limits.head_ms);
  assert_true(is_over() || peer_has_ended);
  pass(limits.linger_ms);
  assert_true(is_over());
}

static bool is_too_slow(void) {
  return strncmp(input, "HTTP/1.1 408 ", 13) == 0;
}

#define POST_500 "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n"

static void a_body_that_stands_still_has_its_time(void **state) {
  (void)state;
  give_text(POST_500);
  pass(limits.body_ms - 1);
  assert_int_equal(input_len, 0);
  pass(1);
  assert_true(is_too_slow());
  assert_int_equal(atomic_load(&w.metrics.http_timeouts), 1);
}

/* Each byte comes in time, but not for ever. */
static void a_body_that_drips_has_its_time(void **state) {
  (void)state;
  give_text(POST_500);
  for (int i = 0; i < 3; i++) {
    give_text("x");
    pass(limits.body_ms / 3 - (i == 2));
    assert_int_equal(input_len, 0);
  }
  give_text("x");
  assert_int_equal(input_len, 0);
  pass(1);
  assert_true(is_too_slow());
}

static void a_long_body_has_more_time(void **state) {
  (void)state;
  static char some[CONN_RATE + 1];
  memset(some, 'x', sizeof some);
  give_text("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\n");
  give(some, CONN_RATE);
  pass(20000);
  give_text("x");
  pass(limits.body_ms + 999 - 20000);
  assert_int_equal(input_len, 0);
  pass(1);
  assert_true(is_too_slow());
}

/* What it could not send because we did not read is not held against it. */
static void a_body_that_is_not_read_has_all_its_time(void **state) {
  (void)state;
  give_text(POST_500);
  pass(limits.body_ms - 1);
  conn_pause(served, PAUSE_CALLS);
  pass(limits.body_ms);
  assert_int_equal(input_len, 0);
  give_text("x");
  conn_resume(served, PAUSE_CALLS);
  settle();
  pass(1000); /* of the silence none counts */
  assert_int_equal(input_len, 0);
  pass(limits.body_ms);
  assert_true(is_too_slow());
}

/* What comes first after a pause is read before the pause is counted. */
static void a_body_that_began_in_a_pause_has_all_its_time(void **state) {
  (void)state;
  give_text(POST_500);
  w.deadlines.missed += 1000;
  give_text("x");
  pass(limits.body_ms - 1);
  assert_int_equal(input_len, 0);
  pass(1);
  assert_true(is_too_slow());
}

static void an_answer_in_pieces_may_be_read_slowly_but_not_never(void **state) {
  (void)state;
  static char some[100000];
  give_text(GET("/later"));
  stream(served, 10000000);
  settle();
  for (int i = 0; i < 10; i++) {
    assert_true(read(peer, some, sizeof some) > 0);
    pass_unread(limits.body_ms);
    assert_false(is_over());
  }
  pass_unread(2 * limits.body_ms);
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.http_timeouts), 1);
}

static void who_waits_for_a_piece_is_not_to_blame(void **state) {
  (void)state;
  give_text(GET("/later"));
  holds_back = true;
  stream(served, 100);
  settle();
  take();
  pass(3 * limits.body_ms);
  assert_int_equal(count("200 OK"), 1);
  assert_false(is_over());
  holds_back = false;
  on_drained(served);
  settle();
  take();
  assert_int_equal(count("ssss"), 25);
  pass(limits.idle_ms);
  assert_true(is_over());
}

static void an_idle_connection_is_closed_without_words(void **state) {
  (void)state;
  give_text(GET("/1"));
  size_t n = input_len;
  pass(limits.idle_ms - 1);
  assert_false(is_over());
  give_text(GET("/2"));
  assert_true(input_len > n);
  n = input_len;
  pass(limits.idle_ms);
  assert_true(is_over());
  assert_int_equal(input_len, n);
  assert_true(peer_has_ended);
}

/* ---- WebSocket ---------------------------------------------------------------------------------
 */

#define UPGRADE                                                                                    \
  "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"                   \
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static void open_ws(void) {
  give_text(UPGRADE);
  assert_non_null(strstr(input, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
  assert_int_equal(strncmp(input, "HTTP/1.1 101 ", 13), 0);
  assert_true(ws_is_open(served));
  input_len = 0;
}

/* A masked frame, with a mask of zeros. */
static size_t masked(uint8_t *out, unsigned first, const void *payload, size_t n) {
  size_t at = 2;
  out[0] = (uint8_t)first;
  if (n < 126) {
    out[1] = (uint8_t)(0x80 | n);
  } else {
    out[1] = 0x80 | 126;
    out[2] = (uint8_t)(n >> 8);
    out[3] = (uint8_t)n;
    at = 4;
  }
  memset(out + at, 0, 4);
  if (n) memcpy(out + at + 4, payload, n);
  return at + 4 + n;
}

static void give_frame(unsigned first, const void *payload, size_t n) {
  static uint8_t bytes[70000];
  give(bytes, masked(bytes, first, payload, n));
}

static void assert_taken(const void *bytes, size_t n) {
  assert_int_equal(input_len, n);
  assert_memory_equal(input, bytes, n);
  input_len = 0;
}

static void messages_come_back(void **state) {
  (void)state;
  open_ws();
  give_frame(0x81, "hello", 5);
  assert_taken("\x81\x05hello", 7);
  give_frame(0x01, "a", 1);
  give_frame(0x89, "p", 1);
  give_frame(0x80, "b", 1);
  assert_taken("\x8a\x01p\x81\x02"
               "ab",
               7);
  give_frame(0x8a, "unasked", 7);
  assert_taken("", 0);
  for (size_t n = 124; n < 130; n++) { /* around the longest short head */
    char payload[200];
    memset(payload, 'x', sizeof payload);
    give_frame(0x82, payload, n);
    size_t head = n < 126 ? 2 : 4;
    assert_int_equal(input_len, head + n);
    assert_int_equal((uint8_t)input[0], 0x82);
    assert_memory_equal(input + head, payload, n);
    input_len = 0;
  }
}

static void a_first_frame_glued_to_the_handshake_counts(void **state) {
  (void)state;
  uint8_t bytes[1000];
  size_t n = sizeof UPGRADE - 1;
  memcpy(bytes, UPGRADE, n);
  n += masked(bytes + n, 0x81, "first", 5);
  n += masked(bytes + n, 0x81, "second", 6);
  give(bytes, n);
  assert_int_equal(n_messages, 2);
  assert_memory_equal(input + input_len - 15,
                      "\x81\x05"
                      "first\x81\x06second",
                      15);
}

#define UPGRADE_LATER                                                                              \
  "GET /expected HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"             \
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static void frames_sent_before_the_acceptance_follow_it(void **state) {
  (void)state;
  struct builder b = {0};
  assert_false(ws_send_frame(served, frame_of(&b, 'z', 2))); /* nobody expects one yet */
  give_text(UPGRADE_LATER);
  assert_int_equal(input_len, 0);
  assert_false(ws_is_open(served));
  assert_true(ws_send_frame(served, frame_of(&b, 'a', 2)));
  assert_true(ws_send_frame(served, frame_of(&b, 'b', 3)));
  settle();
  take();
  assert_int_equal(input_len, 0);
  ws_accept(served, &limits.ws, "X-More: lines\r\n", 15);
  assert_true(ws_send_frame(served, frame_of(&b, 'c', 4)));
  settle();
  take();
  assert_int_equal(strncmp(input, "HTTP/1.1 101 ", 13), 0);
  assert_non_null(strstr(input, "\r\nX-More: lines\r\n\r\n\x81\x02"
                                "aa\x81\x03"
                                "bbb\x81\x04"
                                "cccc"));
  builder_fini(&b);
}

static void early_frames_have_a_limit(void **state) {
  (void)state;
  struct builder b = {0};
  give_text(UPGRADE_LATER);
  assert_true(ws_send_frame(served, frame_of(&b, 'a', 150000)));
  assert_false(ws_send_frame(served, frame_of(&b, 'b', 150000)));
  assert_true(ws_send_frame(served, frame_of(&b, 'c', 10000)));
  assert_int_equal(atomic_load(&w.metrics.sends_dropped), 1);
  size_t left = limits.output_soft - (150000 + 10) - (10000 + 4);
  assert_false(ws_send_frame(served, frame_of(&b, 'd', left - 4 + 1)));
  assert_true(ws_send_frame(served, frame_of(&b, 'd', left - 4)));
  assert_false(ws_send_frame(served, frame_of(&b, 'e', 0)));
  assert_int_equal(atomic_load(&w.metrics.sends_dropped), 3);
  builder_fini(&b); /* the frames live on, and go with the connection */
}

static void early_frames_of_a_refused_websocket_are_dropped(void **state) {
  (void)state;
  struct builder b = {0};
  give_text(UPGRADE_LATER);
  assert_true(ws_send_frame(served, frame_of(&b, 'a', 20)));
  struct buf *block = buf_ref(b.buf);
  ws_forget(served);
  assert_int_equal(atomic_load(&block->refs), 2); /* the builder's and ours */
  assert_false(ws_send_frame(served, frame_of(&b, 'b', 20)));
  http_refuse(served, 403, "no\n");
  settle();
  take();
  assert_int_equal(strncmp(input, "HTTP/1.1 403 ", 13), 0);
  assert_null(strstr(input, "aaaa"));
  buf_unref(block);
  builder_fini(&b);
}

static void frames_in_single_bytes_count(void **state) {
  (void)state;
  uint8_t bytes[300];
  open_ws();
  size_t n = masked(bytes, 0x01, "hel", 3);
  n += masked(bytes + n, 0x89, "p", 1);
  n += masked(bytes + n, 0x80, "lo", 2);
  for (size_t i = 0; i < n; i++) give(bytes + i, 1);
  assert_taken("\x8a\x01p\x81\x05hello", 10);
}

static void the_peer_may_close(void **state) {
  (void)state;
  open_ws();
  give_frame(0x88, "\x0f\xa1why", 5);
  assert_taken("\x88\x02\x0f\xa1", 4); /* its code, echoed */
  assert_true(is_over());
  assert_int_equal(n_closed, 1);
  assert_int_equal(closed_code, 4001);
  assert_string_equal(closed_reason, "why");
}

static void the_peer_may_close_without_a_code(void **state) {
  (void)state;
  open_ws();
  give_frame(0x88, "", 0);
  assert_taken("\x88\x00", 2);
  assert_int_equal(n_closed, 1);
  assert_int_equal(closed_code, WS_NO_STATUS);
}

static void closing_inside_a_message_ends_after_the_answer(void **state) {
  (void)state;
  open_ws();
  give_frame(0x81, "close", 5);
  assert_taken("\x88\x05\x0f\xa1"
               "bye",
               7);
  assert_int_equal(n_closed, 1);
  assert_int_equal(closed_code, 4001);
  give_frame(0x81, "ignored", 7); /* sent before it saw our close frame */
  assert_taken("", 0);
  assert_int_equal(n_messages, 1);
  assert_false(is_over());
  give_frame(0x88, "\x0f\xa1", 2);
  assert_taken("", 0);
  assert_true(is_over());
  assert_int_equal(n_closed, 1); /* told once */
}

/* What is before the close frame is read, but a byte at a time. */
static void what_is_before_a_close_frame_has_its_time(void **state) {
  (void)state;
  open_ws();
  untaken = 10 * CONN_RATE + 1;
  give_frame(0x81, "close", 5);
  pass(limits.close_ms + limits.body_ms + 10000 - 1);
  assert_false(is_over());
  pass(1);
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 1);
}

static void who_has_read_all_before_a_close_frame_must_answer_it(void **state) {
  (void)state;
  open_ws();
  untaken = 10 * CONN_RATE;
  give_frame(0x81, "close", 5);
  pass(3 * limits.close_ms);
  untaken = 0;
  pass(limits.close_ms - 1);
  assert_false(is_over());
  pass(1);
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 0);
}

static void who_does_not_answer_a_close_frame_is_cut(void **state) {
  (void)state;
  open_ws();
  give_frame(0x81, "close", 5);
  pass(limits.close_ms - 1);
  assert_false(is_over());
  pass(1);
  assert_true(is_over());
  assert_int_equal(n_closed, 1);
}

static void cutting_inside_a_message_is_safe(void **state) {
  (void)state;
  uint8_t bytes[100];
  open_ws();
  size_t n = masked(bytes, 0x81, "cut", 3);
  n += masked(bytes + n, 0x81, "never", 5);
  give(bytes, n);
  assert_true(is_over());
  assert_int_equal(n_messages, 1);
  assert_int_equal(n_closed, 1);
  assert_int_equal(closed_code, WS_ABNORMAL);
}

static void breaking_the_protocol_fails_the_connection(void **state) {
  (void)state;
  static const struct {
    unsigned first;
    const char *payload;
    size_t n;
    unsigned code;
  } faults[] = {{0x83, "", 0, 1002},
                {0xC1, "", 0, 1002},
                {0x81, "\xff", 1, 1007},
                {0x88, "\x03\xed", 2, 1002}};
  for (size_t i = 0; i < COUNT(faults); i++) {
    if (i) connect_pair();
    n_closed = 0;
    open_ws();
    give_frame(faults[i].first, faults[i].payload, faults[i].n);
    assert_true(input_len >= 4);
    assert_int_equal((uint8_t)input[0], 0x88);
    assert_int_equal((uint8_t)input[2] << 8 | (uint8_t)input[3], faults[i].code);
    assert_true(peer_has_ended); /* nothing follows */
    assert_int_equal(n_closed, 1);
    assert_int_equal(closed_code, faults[i].code);
    pass(limits.linger_ms);
    assert_true(is_over());
    close(peer);
    peer = -1;
  }
}

static void a_reset_is_an_abnormal_end(void **state) {
  (void)state;
  open_ws();
  close(peer);
  peer = -1;
  settle();
  assert_true(is_over());
  assert_int_equal(n_closed, 1);
  assert_int_equal(closed_code, WS_ABNORMAL);
}

static void silence_is_asked_and_then_cut(void **state) {
  (void)state;
  open_ws();
  pass(limits.ping_ms - 1);
  assert_taken("", 0);
  pass(1);
  assert_taken("\x89\x00", 2);
  give_frame(0x8a, "", 0);
  pass(limits.ping_ms - 1); /* it lives: asked again only after a while */
  assert_taken("", 0);
  pass(1);
  assert_taken("\x89\x00", 2);
  pass(limits.pong_ms - 1);
  assert_false(is_over());
  pass(1);
  assert_true(is_over());
  assert_int_equal(closed_code, WS_ABNORMAL);
  assert_int_equal(atomic_load(&w.metrics.ping_timeouts), 1);
}

static void a_pong_may_be_late_while_what_comes_first_is_read(void **state) {
  (void)state;
  static char some[100000];
  struct builder b = {0};
  open_ws();
  while (conn_pending(served) < 100000) {
    assert_true(ws_send_frame(served, frame_of(&b, 'x', 100000)));
    settle();
  }
  pass_unread(limits.ping_ms);
  assert_true(served->ws.is_awaiting_pong);
  assert_true(read(peer, some, sizeof some) > 0);
  pass_unread(limits.pong_ms);
  assert_false(is_over());
  take();
  settle();
  take(); /* the ping as well, and no pong comes */
  pass_unread(limits.pong_ms);
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.ping_timeouts), 1);
  builder_fini(&b);
}

static void draining_says_goodbye(void **state) {
  (void)state;
  open_ws();
  worker_drain(&w);
  settle();
  take();
  assert_taken("\x88\x02\x03\xe9", 4);
  assert_int_equal(closed_code, WS_GOING_AWAY);
  give_frame(0x88, "\x03\xe9", 2);
  assert_true(is_over());
}

static void draining_closes_an_idle_http_connection(void **state) {
  (void)state;
  give_text(GET("/1"));
  worker_drain(&w);
  settle();
  take();
  assert_true(peer_has_ended);
}

static void draining_lets_a_request_end(void **state) {
  (void)state;
  give_text(GET("/later"));
  worker_drain(&w);
  settle();
  answer(worker_conn(&w, answer_later), "late\n");
  settle();
  take();
  assert_int_equal(count("late"), 1);
  assert_int_equal(count("Connection: close"), 1);
  assert_true(peer_has_ended);
}

/* ---- output ------------------------------------------------------------------------------------
 */

/* Slices that do not touch, so that each is an entry of its own in the queue. */
static void send_apart(struct builder *b, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    struct slice frame = frame_of(b, (char)('a' + i % 26), 10);
    frame_of(b, '-', 3); /* never sent */
    assert_true(ws_send_frame(served, frame));
  }
}

static void assert_got_apart(unsigned n) {
  take();
  assert_int_equal(input_len, 12 * n);
  for (unsigned i = 0; i < n; i++) {
    assert_memory_equal(input + 12 * i, "\x81\x0a", 2);
    for (int k = 2; k < 12; k++) assert_int_equal(input[12 * i + (unsigned)k], 'a' + i % 26);
  }
}

static void a_long_queue_leaves_in_order(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  send_apart(&b, 300);
  assert_int_equal(input_len, 0); /* at the turn's end, not before */
  settle();
  assert_got_apart(300);
  assert_int_equal(conn_pending(served), 0);
  assert_null(served->backlog); /* the usual state owns nothing */
  builder_fini(&b);
}

static void what_the_kernel_does_not_take_follows_in_order(void **state) {
  (void)state;
  struct builder b = {0};
  for (int full = 0; full < 4; full++) {
    open_ws();
    full_writes = full;
    send_apart(&b, 150);
    builder_rewind(&b); /* must not touch what is queued */
    settle();
    full_writes = -1;
    settle();
    assert_got_apart(150);
    input_len = 0;
    worker_cut(&w);
    settle();
    close(peer);
    connect_pair();
  }
  builder_fini(&b);
}

static void nothing_is_sent_to_who_is_gone(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  struct slice frame = frame_of(&b, 'x', 10);
  ws_close(served, 1000, "", 0);
  assert_false(ws_send_frame(served, frame));
  assert_false(ws_is_open(served));
  worker_cut(&w);
  assert_false(conn_send(served, frame)); /* its memory is still there in this turn */
  assert_int_equal(atomic_load(&w.metrics.sends_dropped), 1);
  settle();
  builder_fini(&b);
}

static void ids_are_not_used_twice(void **state) {
  (void)state;
  uint64_t id = conn_id(served);
  assert_ptr_equal(worker_conn(&w, id), served);
  worker_cut(&w);
  assert_null(worker_conn(&w, id));
  settle();
  close(peer);
  connect_pair();
  assert_int_not_equal(conn_id(served), id);
  assert_null(worker_conn(&w, id));
  assert_null(worker_conn(&w, UINT64_MAX));
}

static void each_request_has_an_id_of_its_own(void **state) {
  (void)state;
  uint64_t id = conn_id(served);
  give_text(GET("/later"));
  uint64_t first = answer_later;
  assert_true(first == id); /* a connection's first request keeps its first id */
  answer(worker_conn(&w, first), "late\n");
  settle();
  give_text("G"); /* the next one's first byte */
  assert_null(worker_conn(&w, first));
  give_text("ET /later HTTP/1.1\r\nHost: h\r\n\r\n");
  uint64_t second = answer_later;
  assert_int_not_equal(second, first);
  assert_ptr_equal(worker_conn(&w, second), served);
  give_text(GET("/later")); /* waits in the kernel, or here: it has not begun */
  assert_ptr_equal(worker_conn(&w, second), served);
  answer(worker_conn(&w, second), "late\n");
  settle();
  assert_int_not_equal(answer_later, second);
  assert_null(worker_conn(&w, second));
}

static void a_websocket_keeps_its_handshakes_id(void **state) {
  (void)state;
  give_text(GET("/1"));
  uint64_t first = conn_id(served);
  input_len = 0;
  open_ws();
  uint64_t id = conn_id(served);
  assert_int_not_equal(id, first);
  give_frame(0x81, "a", 1);
  give_frame(0x81, "b", 1);
  assert_true(conn_id(served) == id);
}

static void frames_are_counted(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  for (int i = 0; i < 3; i++) assert_true(ws_send_frame(served, frame_of(&b, 'x', 5)));
  give("\x89\x80kkkk", 6); /* pongs are not counted */
  assert_int_equal(atomic_load(&w.metrics.websocket_frames), 3);
  ws_close(served, 1000, "", 0);
  assert_false(ws_send_frame(served, frame_of(&b, 'x', 5)));
  assert_int_equal(atomic_load(&w.metrics.websocket_frames), 3);
  builder_fini(&b);
}

/* The peer's close frame came while it was not read: it is read now, whatever the reason was. */
static void closing_ends_every_pause(void **state) {
  (void)state;
  open_ws();
  conn_pause(served, PAUSE_CALLS);
  conn_pause(served, PAUSE_OUTPUT);
  give("\x88\x82kkkk\x68\x83", 8);
  assert_false(is_over());
  ws_close(served, 1000, "", 0);
  settle();
  assert_true(is_over());
  assert_int_equal(closed_code, 1000);
}

/* A first request's time runs from the accept: silence wins no more of it. */
static void silence_before_the_first_request_wins_no_time(void **state) {
  (void)state;
  pass(limits.head_ms - 1);
  give_text("GET /");
  assert_int_equal(input_len, 0);
  pass(1);
  assert_true(is_too_slow());
}

static void a_later_request_has_its_own_time(void **state) {
  (void)state;
  give_text(GET("/1"));
  pass(limits.head_ms + 1);
  input_len = 0;
  give_text("GET /");
  pass(limits.head_ms - 1);
  assert_int_equal(input_len, 0);
  pass(1);
  assert_true(is_too_slow());
}

#ifndef PERIGEE_TINY /* millions of reads */
/* It got its last answer and goes on sending: thrown away up to a limit. */
static void who_sends_on_after_the_end_is_cut(void **state) {
  (void)state;
  static char some[64 * 1024];
  size_t sent = 0;
  give_text("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  while (sent < 8u << 20) {
    ssize_t k = write(peer, some, sizeof some);
    if (k > 0) sent += (size_t)k;
    settle();
    assert_false(is_over());
  }
  assert_int_equal(sent, 8u << 20);
  assert_int_equal(write(peer, some, 1), 1);
  settle();
  assert_true(is_over());
}
#endif

/* ---- messages that take long --------------------------------------------------------------------
 */

static const char too_slow[] = "\x88\x1b\x03\xf0the message took too long";

static bool was_too_slow(void) {
  size_t n = sizeof too_slow - 1;
  return closed_code == WS_POLICY && input_len >= n &&
         memcmp(input + input_len - n, too_slow, n) == 0;
}

static void a_message_that_stands_still_has_its_time(void **state) {
  (void)state;
  static const char *const starts[] = {"\x81", "\x81\xfe\x01", "\x81\x85kkkkab", "\x01\x80kkkk",
                                       "\x89"};
  static const size_t lengths[] = {1, 3, 8, 6, 1};
  for (size_t i = 0; i < COUNT(starts); i++) {
    closed_code = 0;
    open_ws();
    give(starts[i], lengths[i]);
    pass(limits.body_ms - 1);
    assert_int_equal(closed_code, 0);
    pass(1);
    if (!was_too_slow()) fail_msg("%zu: code %u", i, closed_code);
    worker_cut(&w);
    settle();
    close(peer);
    connect_pair();
  }
  assert_int_equal(atomic_load(&w.metrics.websocket_failures), COUNT(starts));
}

static void a_message_that_drips_has_its_time(void **state) {
  (void)state;
  open_ws();
  give("\x81\xfe\x01\x00kkkk", 8);
  for (int i = 0; i < 3; i++) {
    pass(limits.body_ms / 3 - (i == 2));
    assert_int_equal(closed_code, 0);
    give("x", 1);
  }
  pass(1);
  assert_true(was_too_slow());
}

static void a_long_message_has_more_time(void **state) {
  (void)state;
  static char some[CONN_RATE];
  open_ws();
  give("\x81\xff\0\0\0\0\0\x01\x80\0kkkk", 14); /* 98,304 bytes */
  memset(some, 'k' ^ 'x', sizeof some);
  give(some, sizeof some - 14);
  pass(20000);
  give(some, 1);
  pass(limits.body_ms + 999 - 20000);
  assert_int_equal(closed_code, 0);
  pass(1);
  assert_true(was_too_slow());
}

/* Each message has its own time, and what stands between them none. */
static void messages_in_time_are_not_counted_together(void **state) {
  (void)state;
  open_ws();
  for (int i = 0; i < 4; i++) {
    give("\x01\x82kkkk\x03", 7);
    pass(limits.ping_ms - 1);
    give("\x02", 1);
    give("\x89\x80kkkk", 6); /* a ping between its fragments */
    give("\x80\x80kkkk", 6);
    assert_int_equal(n_messages, i + 1);
    pass(limits.ping_ms - 1);
  }
  assert_int_equal(closed_code, 0);
}

static void a_message_that_is_not_read_has_all_its_time(void **state) {
  (void)state;
  open_ws();
  give("\x81\x85kkkka", 7);
  pass(limits.ping_ms - 1);
  conn_pause(served, PAUSE_CALLS);
  pass(2 * limits.body_ms);
  assert_int_equal(closed_code, 0);
  give("b", 1);
  conn_resume(served, PAUSE_CALLS);
  settle();
  pass(1000);
  assert_int_equal(closed_code, 0);
}

static void a_message_that_began_in_a_pause_has_all_its_time(void **state) {
  (void)state;
  open_ws();
  give("\x81\x85kkkka", 7);
  w.deadlines.missed += 1000;
  give("b", 1);
  pass(limits.body_ms - 1);
  assert_int_equal(closed_code, 0);
}

/* ---- turns -------------------------------------------------------------------------------------
 */

static void busy_turns(void) {
  static struct conn_limits quick;
  quick = limits;
  quick.turn_ms = 8;
  w.limits = &quick;
  w.deadlines.is_frozen = false; /* in tests shares have no end */
  uv_run(&w.loop, UV_RUN_NOWAIT);
}

/* Each message takes more than its connection's share of a turn: one a turn. */
static void what_takes_long_goes_on_in_the_next_turn(void **state) {
  (void)state;
  uint8_t frames[4 * 10], *at = frames;
  open_ws();
  busy_turns();
  for (int i = 0; i < 4; i++) at += masked(at, 0x81, "busy", 4);
  assert_int_equal(write(peer, frames, (size_t)(at - frames)), at - frames);
  for (unsigned turn = 0; n_messages < 4; turn++) {
    unsigned before = n_messages;
    uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_true(n_messages <= before + 1);
    assert_true(turn < 100);
  }
  assert_in_range(atomic_load(&w.metrics.turns_cut), 3, 4);
  w.deadlines.is_frozen = true;
  settle();
  uint8_t more[8];
  give(more, masked(more, 0x81, "hi", 2)); /* it is read as before */
  assert_int_equal(n_messages, 5);
}

/* Several whole messages that are quick are one portion after the other, all in one turn. */
static void what_is_quick_stays_in_its_turn(void **state) {
  (void)state;
  uint8_t frames[100 * 8], *at = frames;
  open_ws();
  for (int i = 0; i < 100; i++) at += masked(at, 0x81, "hi", 2);
  give(frames, (size_t)(at - frames));
  assert_int_equal(n_messages, 100);
  assert_int_equal(atomic_load(&w.metrics.turns_cut), 0);
}

/* The end may come while there is something put off. */
static void who_is_put_off_may_end(void **state) {
  (void)state;
  uint8_t frames[3 * 10 + 9], *at = frames;
  open_ws();
  busy_turns();
  for (int i = 0; i < 3; i++) at += masked(at, 0x81, "busy", 4);
  at += masked(at, 0x81, "cut", 3);
  assert_int_equal(write(peer, frames, (size_t)(at - frames)), at - frames);
  shutdown(peer, SHUT_WR);
  while (!is_over()) uv_run(&w.loop, UV_RUN_NOWAIT);
  assert_int_equal(n_messages, 4);
  assert_int_equal(n_closed, 1);
  w.deadlines.is_frozen = true;
}

static void who_does_not_read_is_not_read_from(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  /* more than a socket pair's buffer and the soft limit, less than the hard one */
  for (int i = 0; i < 9; i++) assert_true(ws_send_frame(served, frame_of(&b, 'x', 100000)));
  settle();
  assert_true(conn_pending(served) > limits.output_soft);
  uint8_t ping[8];
  assert_int_equal(write(peer, ping, masked(ping, 0x81, "hi", 2)), 8);
  settle();
  assert_int_equal(n_messages, 0);
  while (conn_pending(served)) { /* it reads: all is well again */
    take();
    settle();
  }
  settle();
  take();
  assert_int_equal(n_messages, 1);
  assert_int_equal(input_len, 9 * (100000 + 10) + 4);
  assert_false(is_over());
  pass(limits.output_soft_ms + 1000);
  assert_false(is_over());
  builder_fini(&b);
}

/* Else sixteen bytes for a reader that is slow would hold 64 KiB of what others got. */
static void what_waits_holds_no_more_than_it_needs(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  while (!served->is_writing) {
    assert_true(ws_send_frame(served, frame_of(&b, 'x', 100000)));
    settle();
  }
  size_t before = conn_pending(served);
  for (int turn = 0; turn < 5; turn++) {
    struct builder block = {0};
    for (int i = 0; i < 3; i++) {
      ws_send_frame(served, frame_of(&block, 'a', 1));
      frame_of(&block, 'z', 20); /* somebody else's */
    }
    struct buf *buf = buf_ref(block.buf);
    builder_fini(&block);
    settle();
    assert_int_equal(atomic_load(&buf->refs), 1);
    buf_unref(buf);
  }
  assert_int_equal(conn_pending(served), before + 5 * 3 * 3);
  while (conn_pending(served)) {
    take();
    settle();
  }
  take();
  for (int i = 0; i < 15; i++)
    assert_memory_equal(input + input_len - 45 + 3 * i,
                        "\x81\x01"
                        "a",
                        3);
  builder_fini(&b);
}

#ifndef PERIGEE_TINY /* whose blocks hold one message each */
static size_t count_bytes(char byte) {
  size_t n = 0;
  for (size_t i = 0; i < input_len; i++) n += input[i] == byte;
  return n;
}

static void stop_reading(struct builder *b) {
  open_ws();
  while (!served->is_writing) {
    assert_true(ws_send_frame(served, frame_of(b, 'x', 100000)));
    settle();
  }
}

/* Fifty slow readers of a group hold what it was told once, not fifty times. */
static void what_many_wait_for_is_not_copied(void **state) {
  (void)state;
  struct builder b = {0}, shared = {.is_shared = true};
  stop_reading(&b);
  struct buf *block = NULL;
  for (int turn = 0; turn < 5; turn++) {
    ws_send_frame(served, frame_of(&shared, 'a', 100));
    if (!block) block = shared.buf;
    frame_of(&shared, 'z', 20); /* for others */
    settle();
  }
  assert_ptr_equal(shared.buf, block);
  assert_int_equal(atomic_load(&block->refs), 6);
  while (conn_pending(served)) {
    take();
    settle();
  }
  take();
  assert_int_equal(atomic_load(&block->refs), 1);
  assert_int_equal(count_bytes('a'), 5 * 100);
  builder_fini(&shared);
  builder_fini(&b);
}

/* But many blocks must not be held for one message of each. */
static void who_gets_little_of_shared_blocks_does_not_hold_them(void **state) {
  (void)state;
  enum { BLOCKS = 20 };
  struct builder b = {0};
  struct buf *blocks[BLOCKS];
  stop_reading(&b);
  unsigned held = 0;
  for (int i = 0; i < BLOCKS; i++) {
    struct builder shared = {.is_shared = true};
    ws_send_frame(served, frame_of(&shared, 'a', 8));
    blocks[i] = buf_ref(shared.buf);
    builder_fini(&shared);
    settle();
  }
  for (int i = 0; i < BLOCKS; i++) {
    held += atomic_load(&blocks[i]->refs) - 1;
    buf_unref(blocks[i]);
  }
  assert_in_range(held, 3, 5); /* 256 KiB of them */
  while (conn_pending(served)) {
    take();
    settle();
  }
  take();
  assert_int_equal(count_bytes('a'), BLOCKS * 8);
  builder_fini(&b);
}
#endif

static void who_does_not_read_for_long_is_cut(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  for (int i = 0; i < 9; i++) assert_true(ws_send_frame(served, frame_of(&b, 'x', 100000)));
  settle();
  uint64_t until = worker_now(&w) + limits.output_soft_ms;
  deadlines_advance(&w.deadlines, until - 1);
  settle();
  assert_false(is_over());
  while (deadlines_advance(&w.deadlines, until)) settle();
  settle();
  assert_true(is_over());
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 1);
  assert_int_equal(closed_code, WS_ABNORMAL);
  builder_fini(&b);
}

/* Both are asked for in one turn, before the kernel was given anything. */
static void who_asks_for_much_at_once_is_no_slow_reader(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  uint64_t opened = atomic_load(&w.metrics.bytes_sent);
  assert_true(ws_send_frame(served, frame_of(&b, 'x', 600000)));
  assert_true(ws_send_frame(served, frame_of(&b, 'y', 500000)));
  assert_true(ws_send_frame(served, frame_of(&b, 'z', 10)));
  settle();
  while (conn_pending(served)) {
    take();
    settle();
  }
  take();
  assert_int_equal(input_len, 600010 + 500010 + 12);
  assert_int_equal(input[600010 - 1], 'x');
  assert_int_equal(input[600010 + 10], 'y');
  assert_int_equal(input[input_len - 1], 'z');
  assert_int_equal(atomic_load(&w.metrics.bytes_sent) - opened, input_len);
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 0);
  assert_false(is_over());
  builder_fini(&b);
}

/* Whatever is queued: it could never be sent, which is not the fault of who should have got it. */
static void what_is_too_long_for_any_queue_is_left_out(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  log_set_level(LOG_ERROR);
  assert_false(ws_send_frame(served, frame_of(&b, 'x', limits.output_hard - 9)));
  assert_int_equal(atomic_load(&w.metrics.sends_dropped), 1);
  assert_true(ws_send_frame(served, frame_of(&b, 'x', limits.output_hard - 10)));
  settle();
  while (conn_pending(served)) {
    take();
    settle();
  }
  take();
  assert_int_equal(input_len, limits.output_hard);
  assert_false(is_over());
  builder_fini(&b);
}

static void who_is_too_far_behind_is_cut_at_once(void **state) {
  (void)state;
  struct builder b = {0};
  unsigned sent = 0;
  open_ws();
  full_writes = 0;
  while (ws_send_frame(served, frame_of(&b, 'x', 100000))) sent++;
  assert_int_equal(sent, 9); /* the tenth would pass the hard limit */
  assert_false(is_over());   /* not from inside conn_send */
  assert_int_equal(n_closed, 0);
  settle();
  assert_true(is_over());
  assert_int_equal(n_closed, 1);
  assert_int_equal(atomic_load(&w.metrics.slow_readers), 1);
  builder_fini(&b);
}

/* A peer that asks and never listens: a million pings must not become a million pongs. */
static void only_the_newest_ping_is_answered_late(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  /* more than a socket pair's buffer, less than the soft limit on top of it */
  for (int i = 0; i < 3; i++) assert_true(ws_send_frame(served, frame_of(&b, 'x', 100000)));
  settle();
  assert_true(conn_pending(served) > 0 && conn_pending(served) < limits.output_soft);
  uint8_t bytes[100];
  size_t n = masked(bytes, 0x89, "1", 1);
  n += masked(bytes + n, 0x89, "2", 1);
  n += masked(bytes + n, 0x89, "3", 1);
  assert_int_equal(write(peer, bytes, n), (ssize_t)n);
  settle();
  while (conn_pending(served)) {
    take();
    settle();
  }
  settle();
  take();
  assert_int_equal(input_len, 3 * 100010 + 3);
  assert_memory_equal(input + input_len - 3,
                      "\x8a\x01"
                      "3",
                      3);
  assert_int_equal(atomic_load(&w.metrics.pings_dropped), 2);
  builder_fini(&b);
}

static void a_failed_write_ends_the_connection(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  good_writes = 0;
  send_apart(&b, 10);
  settle();
  good_writes = -1;
  assert_true(is_over());
  assert_int_equal(n_closed, 1);
  assert_int_equal(closed_code, WS_ABNORMAL);
  builder_fini(&b);
}

/* The first part of a long queue leaves, then the peer is gone. */
static void a_write_that_fails_half_way_ends_the_connection(void **state) {
  (void)state;
  for (int good = 1; good < 3; good++) {
    struct builder b[2] = {{0}, {0}};
    open_ws();
    for (unsigned i = 0; i < 200; i++) {
      struct slice frame = frame_of(&b[i % 2], 'x', 10);
      frame_of(&b[i % 2], '-', 3);
      assert_true(ws_send_frame(served, frame));
    }
    struct buf *blocks[2] = {buf_ref(b[0].buf), buf_ref(b[1].buf)};
    good_writes = good;
    settle();
    good_writes = -1;
    assert_true(is_over());
    for (int i = 0; i < 2; i++) { /* the builder's reference and ours are left */
      assert_int_equal(atomic_load(&blocks[i]->refs), 2);
      buf_unref(blocks[i]);
      builder_fini(&b[i]);
    }
    close(peer);
    connect_pair();
  }
}

/* A pong that waits for room must not follow our close frame. */
static void no_pong_follows_a_close_frame(void **state) {
  (void)state;
  struct builder b = {0};
  open_ws();
  for (int i = 0; i < 3; i++) assert_true(ws_send_frame(served, frame_of(&b, 'x', 100000)));
  settle();
  uint8_t ping[8];
  assert_int_equal(write(peer, ping, masked(ping, 0x89, "1", 1)), 7);
  settle();
  ws_close(served, 1000, "", 0);
  settle();
  while (conn_pending(served)) {
    take();
    settle();
  }
  settle();
  take();
  assert_memory_equal(input + input_len - 4, "\x88\x02\x03\xe8", 4);
  builder_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(requests_are_answered_in_order, start, stop),
      cmocka_unit_test_setup_teardown(single_bytes_make_a_request, start, stop),
      cmocka_unit_test_setup_teardown(a_request_waits_until_the_one_before_is_answered, start,
                                      stop),
      cmocka_unit_test_setup_teardown(a_last_answer_ends_the_connection, start, stop),
      cmocka_unit_test_setup_teardown(a_last_answer_that_drips_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_last_answer_that_is_taken_in_time_is_not_cut, start, stop),
      cmocka_unit_test_setup_teardown(who_takes_nothing_of_the_last_answer_has_no_time, start,
                                      stop),
      cmocka_unit_test_setup_teardown(the_peers_end_ends_the_waiting, start, stop),
      cmocka_unit_test_setup_teardown(an_end_after_the_request_still_gets_its_answer, start, stop),
      cmocka_unit_test_setup_teardown(an_end_inside_a_request_runs_nothing, start, stop),
      cmocka_unit_test_setup_teardown(who_reads_its_answer_is_not_idle, start, stop),
      cmocka_unit_test_setup_teardown(what_cannot_be_understood_is_refused, start, stop),
      cmocka_unit_test_setup_teardown(a_body_over_its_routes_limit_is_refused, start, stop),
      cmocka_unit_test_setup_teardown(a_request_refused_at_its_head_is_not_read, start, stop),
      cmocka_unit_test_setup_teardown(who_expects_to_continue_is_told, start, stop),
      cmocka_unit_test_setup_teardown(a_head_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_silent_connection_is_closed, start, stop),
      cmocka_unit_test_setup_teardown(a_body_that_stands_still_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_body_that_drips_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_long_body_has_more_time, start, stop),
      cmocka_unit_test_setup_teardown(a_body_that_is_not_read_has_all_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_body_that_began_in_a_pause_has_all_its_time, start, stop),
      cmocka_unit_test_setup_teardown(an_answer_in_pieces_may_be_read_slowly_but_not_never, start,
                                      stop),
      cmocka_unit_test_setup_teardown(who_waits_for_a_piece_is_not_to_blame, start, stop),
      cmocka_unit_test_setup_teardown(an_idle_connection_is_closed_without_words, start, stop),
      cmocka_unit_test_setup_teardown(messages_come_back, start, stop),
      cmocka_unit_test_setup_teardown(a_first_frame_glued_to_the_handshake_counts, start, stop),
      cmocka_unit_test_setup_teardown(frames_sent_before_the_acceptance_follow_it, start, stop),
      cmocka_unit_test_setup_teardown(early_frames_have_a_limit, start, stop),
      cmocka_unit_test_setup_teardown(early_frames_of_a_refused_websocket_are_dropped, start, stop),
      cmocka_unit_test_setup_teardown(frames_in_single_bytes_count, start, stop),
      cmocka_unit_test_setup_teardown(the_peer_may_close, start, stop),
      cmocka_unit_test_setup_teardown(the_peer_may_close_without_a_code, start, stop),
      cmocka_unit_test_setup_teardown(closing_inside_a_message_ends_after_the_answer, start, stop),
      cmocka_unit_test_setup_teardown(what_is_before_a_close_frame_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(who_has_read_all_before_a_close_frame_must_answer_it, start,
                                      stop),
      cmocka_unit_test_setup_teardown(who_does_not_answer_a_close_frame_is_cut, start, stop),
      cmocka_unit_test_setup_teardown(cutting_inside_a_message_is_safe, start, stop),
      cmocka_unit_test_setup_teardown(breaking_the_protocol_fails_the_connection, start, stop),
      cmocka_unit_test_setup_teardown(a_reset_is_an_abnormal_end, start, stop),
      cmocka_unit_test_setup_teardown(silence_is_asked_and_then_cut, start, stop),
      cmocka_unit_test_setup_teardown(a_pong_may_be_late_while_what_comes_first_is_read, start,
                                      stop),
      cmocka_unit_test_setup_teardown(draining_says_goodbye, start, stop),
      cmocka_unit_test_setup_teardown(draining_closes_an_idle_http_connection, start, stop),
      cmocka_unit_test_setup_teardown(draining_lets_a_request_end, start, stop),
      cmocka_unit_test_setup_teardown(a_long_queue_leaves_in_order, start, stop),
      cmocka_unit_test_setup_teardown(what_the_kernel_does_not_take_follows_in_order, start, stop),
      cmocka_unit_test_setup_teardown(nothing_is_sent_to_who_is_gone, start, stop),
      cmocka_unit_test_setup_teardown(ids_are_not_used_twice, start, stop),
      cmocka_unit_test_setup_teardown(each_request_has_an_id_of_its_own, start, stop),
      cmocka_unit_test_setup_teardown(a_websocket_keeps_its_handshakes_id, start, stop),
      cmocka_unit_test_setup_teardown(a_message_that_stands_still_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_message_that_drips_has_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_long_message_has_more_time, start, stop),
      cmocka_unit_test_setup_teardown(messages_in_time_are_not_counted_together, start, stop),
      cmocka_unit_test_setup_teardown(a_message_that_is_not_read_has_all_its_time, start, stop),
      cmocka_unit_test_setup_teardown(a_message_that_began_in_a_pause_has_all_its_time, start,
                                      stop),
      cmocka_unit_test_setup_teardown(what_takes_long_goes_on_in_the_next_turn, start, stop),
      cmocka_unit_test_setup_teardown(what_is_quick_stays_in_its_turn, start, stop),
      cmocka_unit_test_setup_teardown(frames_are_counted, start, stop),
      cmocka_unit_test_setup_teardown(closing_ends_every_pause, start, stop),
      cmocka_unit_test_setup_teardown(silence_before_the_first_request_wins_no_time, start, stop),
      cmocka_unit_test_setup_teardown(a_later_request_has_its_own_time, start, stop),
#ifndef PERIGEE_TINY
      cmocka_unit_test_setup_teardown(who_sends_on_after_the_end_is_cut, start, stop),
#endif
      cmocka_unit_test_setup_teardown(who_is_put_off_may_end, start, stop),
      cmocka_unit_test_setup_teardown(who_does_not_read_is_not_read_from, start, stop),
      cmocka_unit_test_setup_teardown(what_waits_holds_no_more_than_it_needs, start, stop),
#ifndef PERIGEE_TINY
      cmocka_unit_test_setup_teardown(what_many_wait_for_is_not_copied, start, stop),
      cmocka_unit_test_setup_teardown(who_gets_little_of_shared_blocks_does_not_hold_them, start,
                                      stop),
#endif
      cmocka_unit_test_setup_teardown(who_does_not_read_for_long_is_cut, start, stop),
      cmocka_unit_test_setup_teardown(who_is_too_far_behind_is_cut_at_once, start, stop),
      cmocka_unit_test_setup_teardown(who_asks_for_much_at_once_is_no_slow_reader, start, stop),
      cmocka_unit_test_setup_teardown(what_is_too_long_for_any_queue_is_left_out, start, stop),
      cmocka_unit_test_setup_teardown(only_the_newest_ping_is_answered_late, start, stop),
      cmocka_unit_test_setup_teardown(a_failed_write_ends_the_connection, start, stop),
      cmocka_unit_test_setup_teardown(a_write_that_fails_half_way_ends_the_connection, start, stop),
      cmocka_unit_test_setup_teardown(no_pong_follows_a_close_frame, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
