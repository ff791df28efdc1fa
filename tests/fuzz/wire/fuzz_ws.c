/* SPDX-License-Identifier: MIT */
/* fuzz_ws.c -- any bytes: the same events however they arrive, as wslay's reader, memory bounded.
 */
#include "../fuzz.h"

#include "wire/utf8.h"
#include "wire/ws.h"

#include <malloc.h>
#include <wslay/wslay.h>

/* Small, so that a short input reaches them. */
static const struct ws_limits limits = {.message = 300, .fragments = 5};

static void tell_event(struct told *t, unsigned opcode, const void *data, size_t n) {
  tell_number(t, opcode);
  tell_number(t, n);
  tell(t, data, n);
  tell_text(t, "\n");
}

/* *messages: how much of what was told is messages, pings and pongs. */
static struct told feed(const uint8_t *data, size_t n, enum cut cut, size_t *messages) {
  struct pieces pieces = pieces_of(cut, data, n);
  struct told t = {0};
  struct ws_reader r = {0};
  uint8_t rest[16];
  size_t kept = 0;
  bool is_over = false;
  tell_text(&t, "");
  *messages = 0;
  for (size_t at = 0; at < n && !is_over;) {
    size_t fresh = next_piece(&pieces, n - at), have = kept + fresh;
    uint8_t *piece = mem_alloc(have), *s = piece;
    if (kept) memcpy(piece, rest, kept);
    memcpy(piece + kept, data + at, fresh);
    at += fresh;
    for (;;) {
      struct ws_event event = {0};
      size_t used;
      enum ws_result result = ws_next(&r, &limits, s, have, &used, &event);
      check(used <= have);
      s += used;
      have -= used;
      if (r.message) check(malloc_usable_size(r.message) <= 2 * limits.message + 512);
      if (result == WS_MORE) break;
      if (result == WS_BAD) {
        check(event.code == WS_PROTOCOL_ERROR || event.code == WS_INVALID_DATA ||
              event.code == WS_TOO_BIG);
        check(event.reason && *event.reason);
        tell_text(&t, "bad ");
        tell_number(&t, event.code);
        is_over = true;
        break;
      }
      switch (event.opcode) {
      case WS_TEXT: check(utf8_is_valid(event.data, event.len)); /* fall through */
      case WS_BINARY: check(event.len <= limits.message); break;
      case WS_CLOSE:
        check(event.len <= WS_REASON_MAX && utf8_is_valid(event.data, event.len));
        check(event.code == WS_NO_STATUS ? event.len == 0 : ws_is_close_code(event.code));
        break;
      case WS_PING:
      case WS_PONG: check(event.len <= WS_CONTROL_MAX); break;
      default: check(event.opcode == WS_TEXT); /* an opcode nobody knows */
      }
      tell_event(&t, event.opcode, event.data, event.len);
      if (event.len) memset(event.data, 0xA5, event.len); /* the caller's to change */
      if (event.opcode == WS_CLOSE) {
        tell_number(&t, event.code);
        is_over = true;
        break;
      }
      *messages = t.n;
    }
    check(is_over || have <= 13); /* never more than an incomplete frame head */
    kept = is_over ? 0 : have;
    if (kept) memcpy(rest, s, kept);
    free(piece);
  }
  if (!is_over) tell_number(&t, ws_is_midway(&r) || kept);
  ws_reader_fini(&r);
  return t;
}

/* ---- wslay's event API, which the server does not use, as a second opinion --------------------
 */

struct oracle {
  const uint8_t *data;
  size_t n;
  struct told told; /* messages, pings and pongs */
};

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *out, size_t n, int flags, void *user) {
  struct oracle *o = user;
  (void)flags;
  if (o->n == 0) {
    wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
    return -1;
  }
  if (n > o->n) n = o->n;
  memcpy(out, o->data, n);
  o->data += n;
  o->n -= n;
  return (ssize_t)n;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user) {
  struct oracle *o = user;
  (void)ctx;
  if (arg->opcode != WSLAY_CONNECTION_CLOSE)
    tell_event(&o->told, arg->opcode, arg->msg, arg->msg_length);
}

static struct told ask_wslay(const uint8_t *data, size_t n) {
  static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                         .on_msg_recv_callback = on_message};
  struct oracle o = {.data = data, .n = n};
  wslay_event_context_ptr ctx;
  check(wslay_event_context_server_init(&ctx, &callbacks, &o) == 0);
  wslay_event_config_set_max_recv_msg_length(ctx, limits.message);
  tell_text(&o.told, "");
  wslay_event_recv(ctx);
  wslay_event_context_free(ctx);
  return o.told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  size_t messages, others;
  struct told whole = feed(data, n, CUT_NOT, &messages);
  for (enum cut cut = CUT_ALL; cut < CUTS; cut++) {
    struct told other = feed(data, n, cut, &others);
    check(is_told_same(&whole, &other));
    free(other.text);
  }
  /* Either reader may refuse earlier than the other, but they may not read different messages. */
  struct told theirs = ask_wslay(data, n);
  size_t common = messages < theirs.n ? messages : theirs.n;
  check(memcmp(whole.text, theirs.text, common) == 0);
  free(theirs.text);
  free(whole.text);
  return 0;
}
