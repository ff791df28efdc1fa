/* SPDX-License-Identifier: MIT */
/* ws.c -- bytes to whole WebSocket messages, and frame heads to bytes.
 *
 * Two ways in, one set of rules:
 *
 *   frame whole in the input ──▶ unmasked in place, eight bytes a step ──┐
 *                                                                        ├─▶ part ─▶ message
 *   frame cut by the input's end ──▶ wslay_frame_recv, piece by piece ───┘
 *
 * Almost every frame of a chatty peer lies whole in the read buffer, and there wslay's copy and
 * byte-wise unmasking were the dearest thing a 10 KiB message met (tests/bench/README.md has the
 * figures). A wslay context, 4 KiB and more, exists only while a frame is cut in two.
 *
 * The frame head is judged before either way is taken, so a limit is enforced when the length is
 * announced, not when the bytes come. */
#include "wire/ws.h"

#include "base/mem.h"
#include "wire/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

struct ws_message {
  size_t len, cap;
  uint8_t data[];
};

struct frame_head {
  bool is_final, is_deflated;
  uint8_t opcode;
  unsigned size; /* with the mask */
  uint64_t length;
  uint8_t mask[4];
};

static enum ws_result bad(struct ws_event *event, unsigned code, const char *reason) {
  event->code = (uint16_t)code;
  event->reason = reason;
  event->len = 0;
  return WS_BAD;
}

/* ---- heads ----------------------------------------------------------------------------------- */

/* False when more bytes are needed. */
static bool read_head(const uint8_t *data, size_t n, struct frame_head *h) {
  if (n < 2) return false;
  unsigned extended = (data[1] & 0x7F) == 126 ? 2 : (data[1] & 0x7F) == 127 ? 8 : 0;
  unsigned mask = data[1] & 0x80 ? 4 : 0;
  h->size = 2 + extended + mask;
  h->is_final = data[0] & 0x80;
  h->is_deflated = data[0] & WS_DEFLATED;
  h->opcode = data[0] & 0x0F;
  if (n < 2 + extended) return false;
  h->length = data[1] & 0x7F;
  if (extended) {
    h->length = 0;
    for (unsigned i = 0; i < extended; i++) h->length = h->length << 8 | data[2 + i];
  }
  if (n < h->size) return false;
  memset(h->mask, 0, 4);
  if (mask) memcpy(h->mask, data + 2 + extended, 4);
  return true;
}

/* The rules that need only the first two bytes: told before the rest of the head is there. */
static enum ws_result judge_start(const struct ws_reader *r, const uint8_t *data,
                                  struct ws_event *event) {
  uint8_t opcode = data[0] & 0x0F;
  /* RFC 7692 section 6: the first bit, on the first frame of a message */
  bool is_deflated = r->has_deflate && (data[0] & 0x70) == WS_DEFLATED &&
                     (opcode == WS_TEXT || opcode == WS_BINARY);
  if (data[0] & 0x70 && !is_deflated)
    return bad(event, WS_PROTOCOL_ERROR, "reserved bits without an extension");
  if (!(data[1] & 0x80)) return bad(event, WS_PROTOCOL_ERROR, "client frames must be masked");
  switch (opcode) {
  case WS_CONTINUATION:
    if (r->fragments == 0) return bad(event, WS_PROTOCOL_ERROR, "continuation of nothing");
    break;
  case WS_TEXT:
  case WS_BINARY:
    if (r->fragments) return bad(event, WS_PROTOCOL_ERROR, "new message inside a fragmented one");
    break;
  case WS_CLOSE:
  case WS_PING:
  case WS_PONG:
    if (!(data[0] & 0x80)) return bad(event, WS_PROTOCOL_ERROR, "fragmented control frame");
    if ((data[1] & 0x7F) > WS_CONTROL_MAX)
      return bad(event, WS_PROTOCOL_ERROR, "control frame over 125 bytes");
    break;
  default: return bad(event, WS_PROTOCOL_ERROR, "unknown opcode");
  }
  return WS_EVENT;
}

static enum ws_result judge_head(const struct ws_reader *r, const struct ws_limits *limits,
                                 const struct frame_head *h, struct ws_event *event) {
  unsigned size = h->size - 4;
  if ((size == 4 && h->length < 126) || (size == 10 && h->length < 65536))
    return bad(event, WS_PROTOCOL_ERROR, "length not in its shortest form");
  if (h->length >> 63) return bad(event, WS_PROTOCOL_ERROR, "length over 63 bits");
  if (h->opcode >= WS_CLOSE) return WS_EVENT;
  uint64_t have = r->message ? r->message->len : 0;
  if (h->length > limits->message - have) return bad(event, WS_TOO_BIG, "message over the limit");
  if (r->fragments >= limits->fragments)
    return bad(event, WS_TOO_BIG, "message in too many fragments");
  return WS_EVENT;
}

/* ---- payloads -------------------------------------------------------------------------------- */

static void unmask(uint8_t *p, size_t n, const uint8_t mask[4]) {
  uint64_t key;
  memcpy(&key, mask, 4);
  memcpy((uint8_t *)&key + 4, mask, 4);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t v;
    memcpy(&v, p + i, 8);
    v ^= key;
    memcpy(p + i, &v, 8);
  }
  for (; i < n; i++) p[i] ^= mask[i & 3];
}

static void message_append(struct ws_reader *r, const uint8_t *data, size_t n) {
  struct ws_message *m = r->message;
  size_t len = m ? m->len : 0, cap = m ? m->cap : 0;
  if (!m || len + n > cap) { /* grows with what came, never with what was announced */
    cap = len + n < 128 ? 256 : (len + n) * 2;
    m = mem_realloc(m, sizeof *m + cap);
    m->len = len;
    m->cap = cap;
    r->message = m;
  }
  if (n) memcpy(m->data + len, data, n);
  m->len += n;
}

static enum ws_result close_event(struct ws_event *event) {
  event->code = WS_NO_STATUS;
  if (event->len == 0) return WS_EVENT;
  if (event->len == 1) return bad(event, WS_PROTOCOL_ERROR, "close frame of one byte");
  unsigned code = (unsigned)event->data[0] << 8 | event->data[1];
  if (!ws_is_close_code(code)) return bad(event, WS_PROTOCOL_ERROR, "invalid close code");
  event->data += 2;
  event->len -= 2;
  if (!utf8_is_valid(event->data, event->len))
    return bad(event, WS_INVALID_DATA, "close reason is not UTF-8");
  event->code = (uint16_t)code;
  return WS_EVENT;
}

static enum ws_result control_event(const struct frame_head *h, uint8_t *data,
                                    struct ws_event *event) {
  event->opcode = (enum ws_opcode)h->opcode;
  event->is_deflated = false;
  event->data = data;
  event->len = (size_t)h->length;
  return h->opcode == WS_CLOSE ? close_event(event) : WS_EVENT;
}

static void message_start(struct ws_reader *r, const struct frame_head *h) {
  if (r->fragments) return;
  r->opcode = h->opcode;
  r->is_deflated = h->is_deflated;
  r->utf8 = UTF8_DONE;
}

/* The last frame of a message whose parts were put together. */
static enum ws_result end_message(struct ws_reader *r, struct ws_event *event) {
  if (r->opcode == WS_TEXT && r->utf8 != UTF8_DONE)
    return bad(event, WS_INVALID_DATA, "text ends inside a character");
  event->opcode = (enum ws_opcode)r->opcode;
  event->is_deflated = r->is_deflated;
  event->data = r->message->data;
  event->len = r->message->len;
  r->fragments = 0;
  r->is_lent = true;
  return WS_EVENT;
}

/* A frame that lies whole at data, already unmasked. */
static enum ws_result take_frame(struct ws_reader *r, const struct frame_head *h, uint8_t *data,
                                 struct ws_event *event) {
  size_t n = (size_t)h->length;
  if (h->opcode >= WS_CLOSE) return control_event(h, data, event);
  message_start(r, h);
  if (r->fragments == 0 && h->is_final) { /* the common case: no copy, no state */
    if (h->opcode == WS_TEXT && !h->is_deflated && !utf8_is_valid(data, n))
      return bad(event, WS_INVALID_DATA, "text is not UTF-8");
    event->opcode = (enum ws_opcode)h->opcode;
    event->is_deflated = h->is_deflated;
    event->data = data;
    event->len = n;
    return WS_EVENT;
  }
  if (r->opcode == WS_TEXT && !r->is_deflated && !utf8_feed(&r->utf8, data, n))
    return bad(event, WS_INVALID_DATA, "text is not UTF-8");
  message_append(r, data, n);
  r->fragments++;
  return h->is_final ? end_message(r, event) : WS_MORE;
}

/* ---- frames across reads --------------------------------------------------------------------- */

struct ws_cut {
  wslay_frame_context_ptr wslay; /* owned */
  struct frame_head head;
  uint64_t left;        /* bytes of the frame, with head, not yet handed to wslay */
  const uint8_t *input; /* where on_recv reads, during cut_feed only */
  size_t input_len;
  size_t control_len;
  uint8_t control[WS_CONTROL_MAX]; /* control frames come between the parts of a message */
};

static ssize_t on_recv(uint8_t *out, size_t n, int flags, void *user) {
  struct ws_cut *cut = user;
  (void)flags;
  if (n > cut->input_len) n = cut->input_len;
  if (n) memcpy(out, cut->input, n);
  cut->input += n;
  cut->input_len -= n;
  return (ssize_t)n; /* 0 means "want more" to wslay */
}

static void cut_open(struct ws_reader *r, const struct frame_head *h) {
  static const struct wslay_frame_callbacks callbacks = {.recv_callback = on_recv};
  struct ws_cut *cut = mem_zalloc(sizeof *cut);
  cut->head = *h;
  cut->left = h->size + h->length;
  check(wslay_frame_context_init(&cut->wslay, &callbacks, cut) == 0);
  if (h->opcode < WS_CLOSE) message_start(r, h);
  r->cut = cut;
}

static void cut_close(struct ws_reader *r) {
  wslay_frame_context_free(r->cut->wslay);
  free(r->cut);
  r->cut = NULL;
}

/* Feeds the cut frame, and only it: the context must be empty, and can go, when the frame ends. */
static enum ws_result cut_feed(struct ws_reader *r, const uint8_t *data, size_t n, size_t *used,
                               struct ws_event *event) {
  struct ws_cut *cut = r->cut;
  const struct frame_head h = cut->head;
  bool is_control = h.opcode >= WS_CLOSE;
  struct wslay_frame_iocb io;
  ssize_t k;
  *used = n < cut->left ? n : (size_t)cut->left;
  cut->input = data;
  cut->input_len = *used;
  cut->left -= *used;
  while ((k = wslay_frame_recv(cut->wslay, &io)) >= 0) {
    if (is_control) {
      memcpy(cut->control + cut->control_len, io.data, io.data_length);
      cut->control_len += io.data_length;
      continue;
    }
    if (r->opcode == WS_TEXT && !r->is_deflated && !utf8_feed(&r->utf8, io.data, io.data_length))
      return bad(event, WS_INVALID_DATA, "text is not UTF-8");
    message_append(r, io.data, io.data_length);
  }
  if (k != WSLAY_ERR_WANT_READ) return bad(event, WS_PROTOCOL_ERROR, "malformed frame");
  if (cut->left) return WS_MORE;
  if (is_control) return control_event(&h, cut->control, event); /* freed by the next ws_next */
  cut_close(r);
  r->fragments++;
  return h.is_final ? end_message(r, event) : WS_MORE;
}

/* ---- the pump -------------------------------------------------------------------------------- */

enum ws_result ws_next(struct ws_reader *r, const struct ws_limits *limits, uint8_t *data, size_t n,
                       size_t *used, struct ws_event *event) {
  struct frame_head h;
  enum ws_result result;
  if (r->is_lent) {
    free(r->message);
    r->message = NULL;
    r->is_lent = false;
  }
  if (r->cut && r->cut->left == 0) cut_close(r);
  *used = 0;
  for (;;) {
    uint8_t *at = data + *used;
    size_t have = n - *used, took;
    if (r->cut) {
      result = cut_feed(r, at, have, &took, event);
      *used += took;
      if (result != WS_MORE || r->cut) return result;
      continue;
    }
    if (have < 2) return WS_MORE;
    result = judge_start(r, at, event);
    if (result == WS_BAD) return result;
    if (!read_head(at, have, &h)) return WS_MORE;
    result = judge_head(r, limits, &h, event);
    if (result == WS_BAD) return result;
    if (have - h.size < h.length) {
      cut_open(r, &h);
      continue;
    }
    unmask(at + h.size, (size_t)h.length, h.mask);
    *used += h.size + (size_t)h.length;
    result = take_frame(r, &h, at + h.size, event);
    if (result != WS_MORE) return result;
  }
}

bool ws_is_midway(const struct ws_reader *r) {
  return r->fragments > 0 || (r->cut && r->cut->left);
}

void ws_reader_fini(struct ws_reader *r) {
  if (r->cut) cut_close(r);
  free(r->message);
  *r = (struct ws_reader){0};
}

/* ---- out ------------------------------------------------------------------------------------- */

unsigned ws_write_head(uint8_t out[static WS_HEAD_MAX], enum ws_opcode opcode, uint64_t len) {
  out[0] = (uint8_t)(0x80 | opcode);
  if (len < 126) {
    out[1] = (uint8_t)len;
    return 2;
  }
  if (len < 65536) {
    out[1] = 126;
    out[2] = (uint8_t)(len >> 8);
    out[3] = (uint8_t)len;
    return 4;
  }
  out[1] = 127;
  for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)(len >> (56 - 8 * i));
  return 10;
}

bool ws_is_close_code(unsigned code) {
  if (code >= 3000 && code <= 4999) return true;
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

size_t ws_reason_len(const char *s, size_t n) {
  if (n <= WS_REASON_MAX) return n;
  n = WS_REASON_MAX;
  while (n && ((uint8_t)s[n] & 0xC0) == 0x80) n--;
  return n;
}
