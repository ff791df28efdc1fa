/* SPDX-License-Identifier: MIT */
/* test_ws.c -- RFC 6455 frames become the same messages, or the same refusal, however they arrive.
 */
#include "../unit.h"

#include "wire/utf8.h"
#include "wire/ws.h"

#include <malloc.h>
#include <wslay/wslay.h>

static const struct ws_limits usual = {.message = 100000, .fragments = 16};

/* ---- bytes ----------------------------------------------------------------------------------- */

struct bytes {
  uint8_t *data;
  size_t n, cap;
};

static void add(struct bytes *b, const void *data, size_t n) {
  if (b->n + n > b->cap) {
    b->cap = (b->n + n) * 2;
    b->data = realloc(b->data, b->cap);
    assert_non_null(b->data);
  }
  if (n) memcpy(b->data + b->n, data, n);
  b->n += n;
}

static void clear(struct bytes *b) {
  free(b->data);
  *b = (struct bytes){0};
}

/* How a length is written; the shortest form is the only valid one. */
enum form { SHORTEST, BITS_7, BITS_16, BITS_64 };

enum { FINAL = 0x80, UNMASKED = 0x100 };

/* One frame: `first` is its first byte, with UNMASKED or without. */
static void add_frame(struct bytes *b, unsigned first, enum form form, const void *payload,
                      size_t n, uint32_t key) {
  uint8_t head[14], mask[4];
  size_t len = 2;
  unsigned bit = first & UNMASKED ? 0 : 0x80;
  memcpy(mask, &key, 4);
  if (form == SHORTEST) form = n < 126 ? BITS_7 : n < 65536 ? BITS_16 : BITS_64;
  head[0] = (uint8_t)first;
  if (form == BITS_7) {
    head[1] = (uint8_t)(bit | n);
  } else if (form == BITS_16) {
    head[1] = (uint8_t)(bit | 126);
    head[2] = (uint8_t)(n >> 8);
    head[3] = (uint8_t)n;
    len = 4;
  } else {
    head[1] = (uint8_t)(bit | 127);
    for (int i = 0; i < 8; i++) head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
    len = 10;
  }
  if (bit) {
    memcpy(head + len, mask, 4);
    len += 4;
  }
  add(b, head, len);
  size_t at = b->n;
  add(b, payload, n);
  if (bit)
    for (size_t i = 0; i < n; i++) b->data[at + i] ^= mask[i % 4];
}

/* A head that announces what never comes. */
static void add_head(struct bytes *b, unsigned first, enum form form, uint64_t length) {
  uint8_t head[14] = {(uint8_t)first};
  size_t len = 2;
  if (form == BITS_7) {
    head[1] = (uint8_t)(0x80 | length);
  } else if (form == BITS_16) {
    head[1] = 0x80 | 126;
    head[2] = (uint8_t)(length >> 8);
    head[3] = (uint8_t)length;
    len = 4;
  } else {
    head[1] = 0x80 | 127;
    for (int i = 0; i < 8; i++) head[2 + i] = (uint8_t)(length >> (56 - 8 * i));
    len = 10;
  }
  add(b, head, len + 4);
}

/* ---- feeding --------------------------------------------------------------------------------- */

struct outcome {
  struct bytes text; /* "text 5:hello\n", "close 1000 3:bye\n", "bad 1002\n"; NUL-terminated */
  bool is_midway;
  unsigned code; /* of WS_BAD, else 0 */
  const char *reason;
};

static const char *name_of(unsigned opcode) {
  return opcode == WS_TEXT     ? "text"
         : opcode == WS_BINARY ? "binary"
         : opcode == WS_CLOSE  ? "close"
         : opcode == WS_PING   ? "ping"
         : opcode == WS_PONG   ? "pong"
                               : "?";
}

static void told(struct bytes *text, unsigned opcode, unsigned code, const void *data, size_t n) {
  char head[64];
  int len = opcode == WS_CLOSE ? snprintf(head, sizeof head, "close %u %zu:", code, n)
                               : snprintf(head, sizeof head, "%s %zu:", name_of(opcode), n);
  add(text, head, (size_t)len);
  add(text, data, n);
  add(text, "\n", 1);
}

/* Feeds a first piece and then others of one size. What is not used comes again, as a connection
 * would do it; each piece lies in memory of exactly its size. */
static struct outcome feed_pieces(const uint8_t *data, size_t n, const struct ws_limits *limits,
                                  size_t first, size_t others) {
  struct outcome o = {0};
  struct ws_reader r = {0};
  uint8_t rest[16];
  size_t kept = 0, at = 0, size = first;
  bool is_over = false;
  while (at < n && !is_over) {
    size_t fresh = n - at < size ? n - at : size, have = kept + fresh;
    uint8_t *piece = malloc(have), *s = piece;
    assert_non_null(piece);
    if (kept) memcpy(piece, rest, kept);
    memcpy(piece + kept, data + at, fresh);
    at += fresh;
    size = others;
    for (;;) {
      struct ws_event event = {0};
      size_t used;
      enum ws_result result = ws_next(&r, limits, s, have, &used, &event);
      assert_true(used <= have);
      s += used;
      have -= used;
      if (result == WS_MORE) break;
      if (result == WS_BAD) {
        char text[32];
        int len = snprintf(text, sizeof text, "bad %u\n", event.code);
        add(&o.text, text, (size_t)len);
        assert_true(event.reason && *event.reason);
        o.code = event.code;
        o.reason = event.reason;
        is_over = true;
        break;
      }
      if (event.opcode <= WS_BINARY) assert_true(event.len <= limits->message);
      told(&o.text, event.opcode, event.code, event.data, event.len);
      if (event.len) memset(event.data, '?', event.len); /* the caller's to change */
      if (event.opcode == WS_CLOSE) {                    /* nothing follows that counts */
        is_over = true;
        break;
      }
    }
    assert_true(is_over || have <= 13); /* never more than an incomplete frame head */
    kept = is_over ? 0 : have;
    if (kept) memcpy(rest, s, kept);
    free(piece);
  }
  o.is_midway = !is_over && (ws_is_midway(&r) || kept);
  ws_reader_fini(&r);
  assert_null(r.message); /* zeroed, so ready again */
  add(&o.text, "", 1);
  return o;
}

static void assert_same_outcome(const struct outcome *a, const struct outcome *b, size_t cut) {
  if (a->text.n != b->text.n || memcmp(a->text.data, b->text.data, a->text.n) != 0 ||
      a->is_midway != b->is_midway)
    fail_msg("cut at %zu (midway %d, %s):\n%.2000s\n--- instead of (midway %d, %s)\n%.2000s", cut,
             b->is_midway, b->reason ? b->reason : "", b->text.data, a->is_midway,
             a->reason ? a->reason : "", a->text.data);
}

static struct outcome feed_every_way(const struct bytes *b, const struct ws_limits *limits) {
  struct outcome whole = feed_pieces(b->data, b->n, limits, b->n ? b->n : 1, 1);
  struct outcome other = feed_pieces(b->data, b->n, limits, 1, 1);
  assert_same_outcome(&whole, &other, 1);
  clear(&other.text);
  for (size_t cut = 1; cut < b->n; cut += b->n < 1000 ? 1 : b->n / 50 + 1) {
    other = feed_pieces(b->data, b->n, limits, cut, b->n);
    assert_same_outcome(&whole, &other, cut);
    clear(&other.text);
    other = feed_pieces(b->data, b->n, limits, cut, 3);
    assert_same_outcome(&whole, &other, cut);
    clear(&other.text);
  }
  return whole;
}

/* ---- frames in order ------------------------------------------------------------------------- */

struct frame {
  unsigned first;
  const char *payload;
  size_t n;
  enum form form;
};

#define F(first, payload)                                                                          \
  { first, payload, sizeof(payload) - 1, SHORTEST }
#define FORM(first, payload, form)                                                                 \
  { first, payload, sizeof(payload) - 1, form }
#define TEXT(payload)        F(FINAL | WS_TEXT, payload)
#define BINARY(payload)      F(FINAL | WS_BINARY, payload)
#define PART(payload)        F(WS_TEXT, payload)
#define BINARY_PART(payload) F(WS_BINARY, payload)
#define MORE(payload)        F(WS_CONTINUATION, payload)
#define LAST(payload)        F(FINAL | WS_CONTINUATION, payload)
#define PING(payload)        F(FINAL | WS_PING, payload)
#define PONG(payload)        F(FINAL | WS_PONG, payload)
#define CLOSE(payload)       F(FINAL | WS_CLOSE, payload)

#define X25  "xxxxxxxxxxxxxxxxxxxxxxxxx"
#define X125 X25 X25 X25 X25 X25

static const struct {
  const char *what;
  struct frame frames[10];
  const char *told;
} cases[] = {
    {"text", {TEXT("hello")}, "text 5:hello\n"},
    {"binary", {BINARY("\xff\xfe")}, "binary 2:\xff\xfe\n"},
    {"empty text", {TEXT("")}, "text 0:\n"},
    {"empty binary", {BINARY("")}, "binary 0:\n"},
    {"several", {TEXT("a"), BINARY("b"), TEXT("c")}, "text 1:a\nbinary 1:b\ntext 1:c\n"},
    {"125 bytes", {TEXT(X125)}, "text 125:" X125 "\n"},
    {"126 bytes", {TEXT(X125 "y")}, "text 126:" X125 "y\n"},
    {"250 bytes", {TEXT(X125 X125), TEXT("z")}, "text 250:" X125 X125 "\ntext 1:z\n"},

    {"two fragments", {PART("hel"), LAST("lo")}, "text 5:hello\n"},
    {"three fragments", {BINARY_PART("\xff"), MORE("\xfe"), LAST("x")}, "binary 3:\xff\xfex\n"},
    {"two fragmented messages",
     {PART("a"), LAST("b"), PART("c"), LAST("d")},
     "text 2:ab\ntext 2:cd\n"},
    {"empty first fragment", {PART(""), LAST("x")}, "text 1:x\n"},
    {"empty last fragment", {PART("x"), LAST("")}, "text 1:x\n"},
    {"empty middle fragment", {PART("x"), MORE(""), LAST("y")}, "text 2:xy\n"},
    {"all fragments empty", {PART(""), MORE(""), LAST(""), TEXT("x")}, "text 0:\ntext 1:x\n"},
    {"empty binary fragments", {BINARY_PART(""), LAST("")}, "binary 0:\n"},
    {"a message that is not finished", {PART("x"), MORE("y")}, ""},

    {"ping", {PING("x")}, "ping 1:x\n"},
    {"empty ping", {PING("")}, "ping 0:\n"},
    {"ping of 125", {PING(X125)}, "ping 125:" X125 "\n"},
    {"pong nobody asked for", {PONG("x")}, "pong 1:x\n"},
    {"ping between messages", {TEXT("a"), PING("x"), TEXT("b")}, "text 1:a\nping 1:x\ntext 1:b\n"},
    {"ping between fragments", {PART("a"), PING("x"), LAST("b")}, "ping 1:x\ntext 2:ab\n"},
    {"pings and pongs between fragments",
     {PART("a"), PING("1"), PONG("2"), MORE("b"), PING(""), PING(X125), LAST("c"), TEXT("d")},
     "ping 1:1\npong 1:2\nping 0:\nping 125:" X125 "\ntext 3:abc\ntext 1:d\n"},
    {"close between fragments", {PART("a"), CLOSE("\x03\xe8"), LAST("b")}, "close 1000 0:\n"},
    {"binary in a ping", {PING("\xff\x00\xfe")}, "ping 3:\xff\x00\xfe\n"},

    {"close without a code", {CLOSE("")}, "close 1005 0:\n"},
    {"close with a code", {CLOSE("\x03\xe8")}, "close 1000 0:\n"},
    {"close with a reason",
     {CLOSE("\x03\xe9"
            "bye")},
     "close 1001 3:bye\n"},
    {"close with the longest reason",
     {CLOSE("\x0f\xa0" X25 X25 X25 X25 "xxxxxxxxxxxxxxxxxxxxxxx")},
     "close 4000 123:" X25 X25 X25 X25 "xxxxxxxxxxxxxxxxxxxxxxx\n"},
    {"close, reason over ASCII", {CLOSE("\x03\xe8\xc3\xa9")}, "close 1000 2:\xc3\xa9\n"},
    {"what follows a close does not count", {CLOSE(""), TEXT("x")}, "close 1005 0:\n"},
    {"close of one byte", {CLOSE("\x03")}, "bad 1002\n"},
    {"close with a code not to be sent", {CLOSE("\x03\xed")}, "bad 1002\n"},
    {"close with a code of zero", {CLOSE("\x00\x00")}, "bad 1002\n"},
    {"close, reason not UTF-8", {CLOSE("\x03\xe8\xff")}, "bad 1007\n"},
    {"close, reason cut short", {CLOSE("\x03\xe8\xe2\x82")}, "bad 1007\n"},
    {"close, code wrong and reason too", {CLOSE("\x03\xed\xff")}, "bad 1002\n"},

    {"reserved bit 1", {F(0xC1, "x")}, "bad 1002\n"},
    {"reserved bit 2", {F(0xA1, "x")}, "bad 1002\n"},
    {"reserved bit 3", {F(0x91, "x")}, "bad 1002\n"},
    {"reserved bit of a ping", {F(0xC9, "x")}, "bad 1002\n"},
    {"reserved bit of a close", {F(0xC8, "\x03\xe8")}, "bad 1002\n"},
    {"reserved bit of a continuation", {PART("a"), F(0xC0, "b")}, "bad 1002\n"},
    {"opcode 3", {F(0x83, "x")}, "bad 1002\n"},
    {"opcode 4", {F(0x84, "x")}, "bad 1002\n"},
    {"opcode 5", {F(0x85, "x")}, "bad 1002\n"},
    {"opcode 6", {F(0x86, "x")}, "bad 1002\n"},
    {"opcode 7", {F(0x87, "x")}, "bad 1002\n"},
    {"opcode 11", {F(0x8B, "x")}, "bad 1002\n"},
    {"opcode 12", {F(0x8C, "x")}, "bad 1002\n"},
    {"opcode 13", {F(0x8D, "x")}, "bad 1002\n"},
    {"opcode 14", {F(0x8E, "x")}, "bad 1002\n"},
    {"opcode 15", {F(0x8F, "x")}, "bad 1002\n"},
    {"unmasked text", {F(UNMASKED | FINAL | WS_TEXT, "x")}, "bad 1002\n"},
    {"unmasked ping", {TEXT("a"), F(UNMASKED | FINAL | WS_PING, "")}, "text 1:a\nbad 1002\n"},
    {"unmasked close", {F(UNMASKED | FINAL | WS_CLOSE, "\x03\xe8")}, "bad 1002\n"},
    {"unmasked continuation", {PART("a"), F(UNMASKED | FINAL, "b")}, "bad 1002\n"},
    {"fragmented ping", {F(WS_PING, "x")}, "bad 1002\n"},
    {"fragmented pong", {F(WS_PONG, "x")}, "bad 1002\n"},
    {"fragmented close", {F(WS_CLOSE, "\x03\xe8")}, "bad 1002\n"},
    {"ping of 126", {PING(X125 "y")}, "bad 1002\n"},
    {"close of 126", {CLOSE("\x03\xe8" X125 "y")}, "bad 1002\n"},
    {"continuation of nothing", {LAST("x")}, "bad 1002\n"},
    {"continuation of nothing, more to come", {MORE("x")}, "bad 1002\n"},
    {"continuation of what has ended", {PART("a"), LAST("b"), LAST("c")}, "text 2:ab\nbad 1002\n"},
    {"text inside a fragmented message", {PART("a"), TEXT("b")}, "bad 1002\n"},
    {"binary inside a fragmented message", {PART("a"), BINARY("b")}, "bad 1002\n"},
    {"text after an empty first fragment", {PART(""), TEXT("b")}, "bad 1002\n"},
    {"16 bits for 5", {FORM(FINAL | WS_TEXT, "hello", BITS_16)}, "bad 1002\n"},
    {"16 bits for 0", {FORM(FINAL | WS_TEXT, "", BITS_16)}, "bad 1002\n"},
    {"16 bits for 125", {FORM(FINAL | WS_TEXT, X125, BITS_16)}, "bad 1002\n"},
    {"64 bits for 5", {FORM(FINAL | WS_TEXT, "hello", BITS_64)}, "bad 1002\n"},
    {"64 bits for 250", {FORM(FINAL | WS_TEXT, X125 X125, BITS_64)}, "bad 1002\n"},
    {"16 bits for a ping", {FORM(FINAL | WS_PING, "x", BITS_16)}, "bad 1002\n"},
    {"64 bits for a close", {FORM(FINAL | WS_CLOSE, "", BITS_64)}, "bad 1002\n"},
    {"messages before a fault are told",
     {TEXT("a"), PING("b"), F(0x83, "")},
     "text 1:a\nping 1:b\nbad 1002\n"},

    {"UTF-8",
     {TEXT("\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80")},
     "text 9:\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80\n"},
    {"a character cut by fragments",
     {PART("\xe2"), MORE("\x82"), LAST("\xac")},
     "text 3:\xe2\x82\xac\n"},
    {"a character cut by an empty fragment",
     {PART("\xe2"), MORE(""), LAST("\x82\xac")},
     "text 3:\xe2\x82\xac\n"},
    {"a character cut by a ping",
     {PART("\xf0\x9f"), PING("\xff"), LAST("\x9a\x80")},
     "ping 1:\xff\ntext 4:\xf0\x9f\x9a\x80\n"},
    {"not UTF-8", {TEXT("a\xff")}, "bad 1007\n"},
    {"not UTF-8 in a first fragment", {PART("\xff"), LAST("x")}, "bad 1007\n"},
    {"not UTF-8 in a last fragment", {PART("x"), LAST("\xff")}, "bad 1007\n"},
    {"surrogate", {TEXT("\xed\xa0\x80")}, "bad 1007\n"},
    {"surrogate in fragments", {PART("\xed"), LAST("\xa0\x80")}, "bad 1007\n"},
    {"overlong in fragments", {PART("\xc0"), LAST("\x80")}, "bad 1007\n"},
    {"over the last code point in fragments", {PART("\xf4"), LAST("\x90\x80\x80")}, "bad 1007\n"},
    {"ends inside a character", {TEXT("a\xe2\x82")}, "bad 1007\n"},
    {"ends inside a character, fragments", {PART("\xe2"), LAST("\x82")}, "bad 1007\n"},
    {"ends inside a character, empty last", {PART("\xe2\x82"), LAST("")}, "bad 1007\n"},
    {"binary is not looked at", {BINARY_PART("\xff"), LAST("\xc0")}, "binary 2:\xff\xc0\n"},
    {"the next text starts anew",
     {BINARY_PART("\xe2"), LAST("x"), TEXT("y")},
     "binary 2:\xe2x\ntext 1:y\n"},
};

static void every_sequence_has_its_events(void **state) {
  (void)state;
  unsigned wrong = 0;
  for (size_t i = 0; i < COUNT(cases); i++) {
    /* masks: none, which must change nothing, and one with four different bytes */
    for (int key = 0; key < 2; key++) {
      struct bytes b = {0};
      for (size_t k = 0; k < COUNT(cases[i].frames) && cases[i].frames[k].payload; k++) {
        const struct frame *f = &cases[i].frames[k];
        add_frame(&b, f->first, f->form, f->payload, f->n, key ? 0x5A3C96F1u : 0);
      }
      struct outcome o = feed_every_way(&b, &usual);
      /* some payloads hold a NUL: compare up to it */
      if (strcmp((char *)o.text.data, cases[i].told) != 0) {
        print_error("%s: %s\n%s", cases[i].what, o.reason ? o.reason : "", o.text.data);
        wrong++;
      }
      clear(&o.text);
      clear(&b);
    }
  }
  assert_int_equal(wrong, 0);
}

static void a_cut_is_known_as_such(void **state) {
  (void)state;
  static const struct {
    const char *what;
    struct frame frames[3];
    size_t cut; /* bytes missing at the end */
    bool is_midway;
  } ends[] = {
      {"nothing", {{0}}, 0, false},
      {"a message", {TEXT("hello")}, 0, false},
      {"a message, cut", {TEXT("hello")}, 1, true},
      {"a head, cut", {TEXT("hello")}, 6, true},
      {"one byte", {TEXT("hello")}, 10, true},
      {"between fragments", {PART("a")}, 0, true},
      {"between fragments, empty", {PART("")}, 0, true},
      {"after a ping between fragments", {PART("a"), PING("x")}, 0, true},
      {"after fragments", {PART("a"), LAST("b")}, 0, false},
      {"a ping", {PING("x")}, 0, false},
      {"a ping, cut", {PING("xy")}, 1, true},
  };
  for (size_t i = 0; i < COUNT(ends); i++) {
    struct bytes b = {0};
    for (size_t k = 0; k < COUNT(ends[i].frames) && ends[i].frames[k].payload; k++)
      add_frame(&b, ends[i].frames[k].first, SHORTEST, ends[i].frames[k].payload,
                ends[i].frames[k].n, 1);
    b.n -= ends[i].cut;
    struct outcome o = feed_every_way(&b, &usual);
    if (o.is_midway != ends[i].is_midway) fail_msg("%s", ends[i].what);
    clear(&o.text);
    clear(&b);
  }
}

/* ---- lengths --------------------------------------------------------------------------------- */

static void all_lengths_around_the_forms_are_read(void **state) {
  (void)state;
  static const size_t lengths[] = {0,   1,   7,   8,     9,     15,    16,    17,    124,   125,
                                   126, 127, 128, 65534, 65535, 65536, 65537, 70000, 99999, 100000};
  uint64_t seed = 5;
  for (size_t i = 0; i < COUNT(lengths); i++) {
    size_t n = lengths[i];
    uint8_t *payload = malloc(n + 1);
    struct bytes b = {0}, expected = {0};
    assert_non_null(payload);
    for (size_t k = 0; k < n; k++) payload[k] = (uint8_t)next_random(&seed);
    add_frame(&b, FINAL | WS_BINARY, SHORTEST, payload, n, 0xDEADBEEF);
    add_frame(&b, FINAL | WS_TEXT, SHORTEST, "behind", 6, 0xDEADBEEF);
    told(&expected, WS_BINARY, 0, payload, n);
    told(&expected, WS_TEXT, 0, "behind", 6);
    struct outcome o = feed_every_way(&b, &usual);
    assert_int_equal(o.text.n, expected.n + 1);
    assert_memory_equal(o.text.data, expected.data, expected.n);
    clear(&o.text);
    clear(&b);
    clear(&expected);
    free(payload);
  }
}

/* The mask goes on over eight bytes at a time, and the payload may begin at any address. */
static void unmasking_starts_anywhere(void **state) {
  (void)state;
  uint8_t payload[40], area[80];
  for (size_t i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)(i * 37 + 1);
  for (size_t offset = 0; offset < 9; offset++)
    for (size_t n = 0; n <= sizeof payload; n++) {
      struct bytes b = {0};
      struct ws_reader r = {0};
      struct ws_event event;
      size_t used;
      add_frame(&b, FINAL | WS_BINARY, SHORTEST, payload, n, 0x04030201);
      memset(area, 0xEE, sizeof area);
      memcpy(area + offset, b.data, b.n);
      assert_int_equal(ws_next(&r, &usual, area + offset, b.n, &used, &event), WS_EVENT);
      assert_int_equal(used, b.n);
      assert_int_equal(event.len, n);
      assert_ptr_equal(event.data, area + offset + 6); /* in place: no copy */
      if (n) assert_memory_equal(event.data, payload, n);
      assert_int_equal(area[offset + b.n], 0xEE); /* and nothing behind it */
      assert_false(ws_is_midway(&r));
      ws_reader_fini(&r);
      clear(&b);
    }
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void assert_head_refused(struct bytes *b, const struct ws_limits *limits, unsigned code) {
  struct outcome o = feed_every_way(b, limits);
  if (o.code != code) fail_msg("%u (%s) instead of %u", o.code, o.reason ? o.reason : "", code);
  clear(&o.text);
  clear(b);
}

static void a_length_is_refused_when_it_is_announced(void **state) {
  (void)state;
  static const struct {
    uint64_t length;
    enum form form;
    unsigned code;
  } heads[] = {
      {100000, BITS_64, 0},
      {100001, BITS_64, WS_TOO_BIG},
      {1u << 31, BITS_64, WS_TOO_BIG},
      {(1ull << 32) + 5, BITS_64, WS_TOO_BIG},
      {UINT64_MAX >> 1, BITS_64, WS_TOO_BIG},
      {1ull << 63, BITS_64, WS_PROTOCOL_ERROR},
      {UINT64_MAX, BITS_64, WS_PROTOCOL_ERROR},
      {65535, BITS_64, WS_PROTOCOL_ERROR},
      {65536, BITS_64, 0},
      {125, BITS_16, WS_PROTOCOL_ERROR},
      {126, BITS_16, 0},
      {65535, BITS_16, 0},
  };
  struct bytes b = {0};
  for (size_t i = 0; i < COUNT(heads); i++) {
    add_head(&b, FINAL | WS_TEXT, heads[i].form, heads[i].length);
    assert_head_refused(&b, &usual, heads[i].code);
    add_head(&b, WS_BINARY, heads[i].form, heads[i].length);
    assert_head_refused(&b, &usual, heads[i].code);
  }
}

static void fragments_count_together(void **state) {
  (void)state;
  static const struct ws_limits limits = {.message = 300, .fragments = 16};
  static const uint8_t payload[400];
  struct bytes b = {0};
  struct outcome o;
  for (size_t over = 0; over <= 1; over++) {
    add_frame(&b, WS_BINARY, SHORTEST, payload, 200, 1);
    add_frame(&b, FINAL | WS_PING, SHORTEST, payload, 125, 1); /* not part of the message */
    add_frame(&b, 0, SHORTEST, payload, 100, 1);
    add_head(&b, FINAL, BITS_7, over); /* one more byte, or none */
    assert_head_refused(&b, &limits, over ? WS_TOO_BIG : 0);
    add_frame(&b, FINAL | WS_BINARY, SHORTEST, payload, 300 + over, 1);
    assert_head_refused(&b, &limits, over ? WS_TOO_BIG : 0);
  }
  /* an announced length must not wrap the sum */
  add_frame(&b, WS_BINARY, SHORTEST, payload, 200, 1);
  add_head(&b, FINAL, BITS_64, UINT64_MAX >> 1);
  assert_head_refused(&b, &limits, WS_TOO_BIG);
  /* a message starts from nothing, whatever the one before held */
  for (int i = 0; i < 3; i++) {
    add_frame(&b, WS_BINARY, SHORTEST, payload, 200, 1);
    add_frame(&b, FINAL, SHORTEST, payload, 100, 1);
  }
  o = feed_every_way(&b, &limits);
  assert_int_equal(o.code, 0);
  clear(&o.text);
  clear(&b);
}

static void a_message_has_so_many_fragments_and_no_more(void **state) {
  (void)state;
  struct bytes b = {0};
  for (uint32_t n = 14; n <= 18; n++)
    for (int is_empty = 0; is_empty <= 1; is_empty++) {
      add_frame(&b, WS_TEXT, SHORTEST, "x", !is_empty, 1);
      for (uint32_t i = 2; i < n; i++) {
        add_frame(&b, 0, SHORTEST, "y", !is_empty, 1);
        add_frame(&b, FINAL | WS_PING, SHORTEST, "", 0, 1); /* these do not count */
      }
      add_frame(&b, FINAL, SHORTEST, "z", !is_empty, 1);
      assert_head_refused(&b, &usual, n <= usual.fragments ? 0 : WS_TOO_BIG);
    }
}

/* Whoever announces a lot and sends a little gets memory for the little. */
static void memory_grows_with_what_came(void **state) {
  (void)state;
  static const struct ws_limits limits = {.message = 1 << 24, .fragments = 16};
  struct bytes b = {0};
  struct ws_reader r = {0};
  struct ws_event event;
  size_t used;
  assert_null(r.cut);
  add_head(&b, FINAL | WS_BINARY, BITS_64, 1 << 24);
  add(&b, "x", 1);
  assert_int_equal(ws_next(&r, &limits, b.data, b.n, &used, &event), WS_MORE);
  assert_int_equal(used, b.n);
  assert_true(ws_is_midway(&r));
  assert_non_null(r.message);
  assert_true(malloc_usable_size(r.message) < 4096);
  ws_reader_fini(&r);
  clear(&b);
}

static void a_reader_that_waits_for_nothing_owns_nothing(void **state) {
  (void)state;
  struct bytes b = {0};
  struct ws_reader r = {0};
  struct ws_event event;
  size_t used, at = 0;
  add_frame(&b, FINAL | WS_TEXT, SHORTEST, "whole", 5, 7);
  assert_int_equal(ws_next(&r, &usual, b.data, b.n, &used, &event), WS_EVENT);
  assert_null(r.message);
  assert_null(r.cut);
  clear(&b);
  add_frame(&b, FINAL | WS_TEXT, SHORTEST, "cut in two", 10, 7);
  add_frame(&b, WS_TEXT, SHORTEST, "in ", 3, 7);
  add_frame(&b, FINAL | WS_PING, SHORTEST, "cut", 3, 7);
  add_frame(&b, FINAL, SHORTEST, "parts", 5, 7);
  unsigned events = 0;
  for (size_t end = 1; end <= b.n; end++) {
    enum ws_result result;
    while ((result = ws_next(&r, &usual, b.data + at, end - at, &used, &event)) == WS_EVENT) {
      at += used;
      events++;
    }
    assert_int_equal(result, WS_MORE);
    at += used;
  }
  assert_int_equal(events, 3);
  assert_null(r.message);
  assert_null(r.cut);
  assert_false(ws_is_midway(&r));
  ws_reader_fini(&r);
  clear(&b);
}

/* ---- told early ------------------------------------------------------------------------------ */

/* What two bytes tell is not waited for: a peer could keep the rest for ever. */
static void rules_of_two_bytes_are_judged_at_two_bytes(void **state) {
  (void)state;
  for (unsigned first = 0; first < 256; first++)
    for (unsigned second = 0; second < 256; second++) {
      uint8_t data[2] = {(uint8_t)first, (uint8_t)second};
      struct ws_reader r = {0};
      struct ws_event event = {0};
      size_t used;
      unsigned opcode = first & 0x0F;
      bool is_control = opcode >= 8;
      bool is_good = !(first & 0x70) && second & 0x80 &&
                     (opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10)) &&
                     !(is_control && (!(first & 0x80) || (second & 0x7F) > 125));
      enum ws_result result = ws_next(&r, &usual, data, 2, &used, &event);
      if ((result == WS_MORE) != is_good) fail_msg("%02x %02x", first, second);
      if (result == WS_BAD) assert_int_equal(event.code, WS_PROTOCOL_ERROR);
      ws_reader_fini(&r);
    }
}

static void a_text_is_refused_at_the_byte_that_spoils_it(void **state) {
  (void)state;
  struct bytes b = {0};
  static const char spoiled[] = "good \xe2\x82\xac then \xf4\x90";
  add_head(&b, FINAL | WS_TEXT, BITS_16, 1000); /* masked with zeros */
  add(&b, spoiled, sizeof spoiled - 1);
  struct outcome o = feed_every_way(&b, &usual);
  assert_int_equal(o.code, WS_INVALID_DATA);
  clear(&o.text);
  b.n--; /* \xf4 alone could still become something */
  o = feed_every_way(&b, &usual);
  assert_int_equal(o.code, 0);
  clear(&o.text);
  clear(&b);
}

/* ---- close ----------------------------------------------------------------------------------- */

static bool may_be_sent(unsigned code) { /* RFC 6455 section 7.4, IANA's registry to 1014 */
  switch (code) {
  case 1000:
  case 1001:
  case 1002:
  case 1003:
  case 1007:
  case 1008:
  case 1009:
  case 1010:
  case 1011:
  case 1012:
  case 1013:
  case 1014: return true;
  default: return code >= 3000 && code < 5000;
  }
}

static void close_codes_are_judged(void **state) {
  (void)state;
  for (unsigned code = 0; code < 65536; code++) {
    assert_int_equal(ws_is_close_code(code), may_be_sent(code));
    if (code > 5100 && code % 997) continue;
    uint8_t payload[4] = {(uint8_t)(code >> 8), (uint8_t)code, 'o', 'k'};
    struct bytes b = {0}, expected = {0};
    add_frame(&b, FINAL | WS_CLOSE, SHORTEST, payload, 4, 0x01020304);
    if (may_be_sent(code))
      told(&expected, WS_CLOSE, code, "ok", 2);
    else
      add(&expected, "bad 1002\n", 9);
    struct outcome o = feed_pieces(b.data, b.n, &usual, b.n, 1);
    struct outcome cut = feed_pieces(b.data, b.n, &usual, 7, 1);
    assert_same_outcome(&o, &cut, 7);
    assert_int_equal(o.text.n, expected.n + 1);
    assert_memory_equal(o.text.data, expected.data, expected.n);
    clear(&o.text);
    clear(&cut.text);
    clear(&expected);
    clear(&b);
  }
  assert_false(ws_is_close_code(65536 + 1000));
}

static void a_reason_is_cut_between_characters(void **state) {
  (void)state;
  for (size_t before = 0; before <= 126; before++)
    for (unsigned width = 1; width <= 4; width++) {
      uint8_t s[140];
      size_t n = before;
      static const uint32_t code_points[] = {0, 'x', 0xE9, 0x20AC, 0x1F680};
      memset(s, 'a', sizeof s);
      n += utf8_put(s + n, code_points[width]);
      n += utf8_put(s + n, code_points[width]);
      size_t expected = before + 2 * width; /* the last border that fits */
      if (expected > WS_REASON_MAX) expected = before + width;
      if (expected > WS_REASON_MAX) expected = before < WS_REASON_MAX ? before : WS_REASON_MAX;
      size_t len = ws_reason_len((const char *)s, n);
      assert_int_equal(len, expected);
      assert_true(utf8_is_valid(s, len));
    }
  assert_int_equal(ws_reason_len("", 0), 0);
}

/* ---- heads out ------------------------------------------------------------------------------- */

static void heads_are_written(void **state) {
  (void)state;
  static const struct {
    enum ws_opcode opcode;
    uint64_t len;
    unsigned size;
    uint8_t bytes[10];
  } heads[] = {
      {WS_TEXT, 0, 2, {0x81, 0}},
      {WS_TEXT, 125, 2, {0x81, 125}},
      {WS_BINARY, 126, 4, {0x82, 126, 0, 126}},
      {WS_TEXT, 65535, 4, {0x81, 126, 0xFF, 0xFF}},
      {WS_TEXT, 65536, 10, {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
      {WS_BINARY, 0x0102030405060708, 10, {0x82, 127, 1, 2, 3, 4, 5, 6, 7, 8}},
      {WS_CLOSE, 2, 2, {0x88, 2}},
      {WS_PING, 0, 2, {0x89, 0}},
      {WS_PONG, 125, 2, {0x8A, 125}},
  };
  for (size_t i = 0; i < COUNT(heads); i++) {
    uint8_t *out = malloc(WS_HEAD_MAX);
    assert_non_null(out);
    assert_int_equal(ws_write_head(out, heads[i].opcode, heads[i].len), heads[i].size);
    assert_memory_equal(out, heads[i].bytes, heads[i].size);
    assert_int_equal(ws_head_len(heads[i].len), heads[i].size);
    free(out);
  }
}

/* ---- a second opinion -------------------------------------------------------------------------
 */

/* wslay's event API reads the same bytes. It is used nowhere in the server. */
struct oracle {
  const uint8_t *data;
  size_t n;
  struct bytes told;
  bool is_closed;
};

static ssize_t oracle_recv(wslay_event_context_ptr ctx, uint8_t *out, size_t n, int flags,
                           void *user) {
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

static ssize_t oracle_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags,
                           void *user) {
  (void)ctx;
  (void)data;
  (void)flags;
  (void)user;
  return (ssize_t)n;
}

static void oracle_message(wslay_event_context_ptr ctx,
                           const struct wslay_event_on_msg_recv_arg *arg, void *user) {
  struct oracle *o = user;
  (void)ctx;
  if (arg->opcode == WSLAY_CONNECTION_CLOSE) {
    size_t head = arg->msg_length >= 2 ? 2 : arg->msg_length;
    told(&o->told, WS_CLOSE, arg->status_code ? arg->status_code : WS_NO_STATUS, arg->msg + head,
         arg->msg_length - head);
    o->is_closed = true;
  } else {
    told(&o->told, arg->opcode, 0, arg->msg, arg->msg_length);
  }
}

static struct bytes ask_wslay(const struct bytes *b, const struct ws_limits *limits) {
  const struct wslay_event_callbacks callbacks = {.recv_callback = oracle_recv,
                                                  .send_callback = oracle_send,
                                                  .on_msg_recv_callback = oracle_message};
  struct oracle o = {.data = b->data, .n = b->n};
  wslay_event_context_ptr ctx;
  assert_int_equal(wslay_event_context_server_init(&ctx, &callbacks, &o), 0);
  wslay_event_config_set_max_recv_msg_length(ctx, limits->message);
  int error = wslay_event_recv(ctx);
  wslay_event_send(ctx);
  assert_true(error == 0 || error == WSLAY_ERR_CALLBACK_FAILURE);
  if (!o.is_closed && wslay_event_get_close_sent(ctx)) {
    char text[32];
    unsigned code = wslay_event_get_status_code_sent(ctx);
    if (code == WS_NO_STATUS) code = WS_PROTOCOL_ERROR; /* its frame reader gives no code */
    int len = snprintf(text, sizeof text, "bad %u\n", code);
    add(&o.told, text, (size_t)len);
  }
  wslay_event_context_free(ctx);
  add(&o.told, "", 1);
  return o.told;
}

static size_t random_payload(uint64_t *seed, uint8_t *out, bool is_text) {
  static const size_t lengths[] = {0, 1, 2, 3, 8, 20, 125, 126, 200, 700};
  size_t most = lengths[random_below(seed, COUNT(lengths))], n = 0;
  while (n < most) {
    if (is_text) {
      static const uint32_t bounds[] = {0x80, 0x800, 0xD800, 0x80};
      uint32_t bound = bounds[random_below(seed, COUNT(bounds))];
      n += utf8_put(out + n, random_below(seed, bound));
    } else {
      out[n++] = (uint8_t)next_random(seed);
    }
  }
  if (is_text && n && random_below(seed, 30) == 0) out[random_below(seed, (unsigned)n)] ^= 0x80;
  return n;
}

/* A few frames, mostly good, in an order that is mostly allowed. */
static struct bytes random_frames(uint64_t *seed, bool *is_cut) {
  struct bytes b = {0};
  uint8_t payload[1024], *text = NULL;
  size_t text_len = 0, text_at = 0;
  bool is_inside = false, is_text = false;
  for (unsigned n = 1 + random_below(seed, 8); n; n--) {
    unsigned first, kind = random_below(seed, 10);
    size_t len;
    if (kind < 3) { /* control */
      first = FINAL | (kind == 0 && random_below(seed, 4) == 0 ? WS_CLOSE
                       : kind == 1                             ? WS_PING
                                                               : WS_PONG);
      len = random_below(seed, 126);
      for (size_t i = 0; i < len; i++) payload[i] = (uint8_t)next_random(seed);
      if ((first & 15) == WS_CLOSE) {
        if (len == 1) len = 0; /* wslay forgives the one-byte close; every_sequence tests it */
        static const unsigned codes[] = {1000, 1001, 1003, 1005, 1006, 1011, 3000, 4999, 5000, 999};
        unsigned code = codes[random_below(seed, COUNT(codes))];
        payload[0] = (uint8_t)(code >> 8);
        payload[1] = (uint8_t)code;
        if (random_below(seed, 3) || code != 1000) /* of two faults either may be named */
          for (size_t i = 2; i < len; i++) payload[i] = (uint8_t)('a' + i % 26);
      }
    } else { /* one piece of a message; texts are cut anywhere */
      if (!is_inside) {
        is_text = random_below(seed, 2);
        text = malloc(1024);
        assert_non_null(text);
        text_len = random_payload(seed, text, is_text);
        text_at = 0;
      }
      bool is_last = random_below(seed, 2);
      len = is_last ? text_len - text_at : random_below(seed, (unsigned)(text_len - text_at) + 1);
      memcpy(payload, text + text_at, len);
      text_at += len;
      first = (is_last ? FINAL : 0u) | (is_inside ? 0u : is_text ? WS_TEXT : WS_BINARY);
      is_inside = !is_last;
      if (is_last) {
        free(text);
        text = NULL;
      }
    }
    unsigned broken = first ^ 1u << random_below(seed, 8);
    if (random_below(seed, 40) == 0 && (broken & 0x0F) != WS_CLOSE) first = broken;
    enum form form = SHORTEST;
    if (random_below(seed, 60) == 0) form = len < 126 ? BITS_16 : BITS_64;
    add_frame(&b, first, form, payload, len, (uint32_t)next_random(seed));
  }
  free(text);
  *is_cut = random_below(seed, 10) == 0;
  if (*is_cut) b.n -= random_below(seed, (unsigned)b.n);
  return b;
}

static const char *printable(struct bytes *text) {
  for (size_t i = 0; i + 1 < text->n; i++)
    if (text->data[i] != '\n' && (text->data[i] < ' ' || text->data[i] > '~')) text->data[i] = '.';
  return (const char *)text->data;
}

static void wslay_reads_the_same(void **state) {
  (void)state;
  static const struct ws_limits limits = {.message = 600, .fragments = 1000};
  uint64_t seed = 2024;
  unsigned refused = 0, rounds = 20000;
  for (unsigned round = 0; round < rounds; round++) {
    bool is_cut;
    struct bytes b = random_frames(&seed, &is_cut);
    struct bytes expected = ask_wslay(&b, &limits);
    struct outcome o = feed_pieces(b.data, b.n, &limits, b.n, 1);
    struct outcome cut = feed_pieces(b.data, b.n, &limits, 1 + random_below(&seed, 20),
                                     1 + random_below(&seed, 300));
    assert_same_outcome(&o, &cut, 0);
    size_t n = o.text.n, m = expected.n, bad = sizeof "bad 1002\n" - 1;
    if (is_cut && n == m + bad && o.code) n = m;  /* wslay waits for more */
    if (is_cut && m == n + bad && !o.code) m = n; /* wslay looks into half a control frame */
    if (n != m || memcmp(o.text.data, expected.data, n - 1) != 0)
      fail_msg("round %u (%s):\n%.3000s\n--- wslay says\n%.3000s", round, o.reason ? o.reason : "",
               printable(&o.text), printable(&expected));
    refused += o.code != 0;
    clear(&o.text);
    clear(&cut.text);
    clear(&expected);
    clear(&b);
  }
  assert_true(refused > rounds / 20 && refused < rounds / 2); /* the mixture is a mixture */
}

/* ---- permessage-deflate ------------------------------------------------------------------------
 */

static void the_first_bit_marks_a_message_when_it_was_agreed_to(void **state) {
  (void)state;
  enum { DEFLATED = WS_DEFLATED };
  static const char payload[] = "\xff not UTF-8: it is not looked at before it is inflated";
  const size_t n = sizeof payload - 1;
  for (size_t piece = 1; piece <= 80; piece += piece < 20 ? 1 : 30) {
    struct bytes b = {0};
    add_frame(&b, FINAL | DEFLATED | WS_TEXT, SHORTEST, payload, n, 0x01020304);
    add_frame(&b, FINAL | WS_TEXT, SHORTEST, "plain", 5, 0x01020304);
    add_frame(&b, DEFLATED | WS_TEXT, SHORTEST, payload, 10, 0x01020304);
    add_frame(&b, FINAL | WS_PING, SHORTEST, "p", 1, 0x01020304);
    add_frame(&b, FINAL | WS_CONTINUATION, SHORTEST, payload + 10, n - 10, 0x01020304);
    add_frame(&b, WS_TEXT, SHORTEST, "pl", 2, 0x01020304);
    add_frame(&b, FINAL | WS_CONTINUATION, SHORTEST, "ain", 3, 0x01020304);
    struct ws_reader r = {.has_deflate = true};
    static const bool deflated[] = {true, false, false, true, false};
    unsigned events = 0;
    uint8_t input[200];
    size_t have = 0, at = 0;
    while (at < b.n) {
      size_t take = piece < b.n - at ? piece : b.n - at;
      memcpy(input + have, b.data + at, take);
      have += take;
      at += take;
      for (;;) {
        struct ws_event event;
        size_t used;
        enum ws_result result = ws_next(&r, &usual, input, have, &used, &event);
        assert_int_not_equal(result, WS_BAD);
        if (result == WS_EVENT) {
          assert_in_range(events, 0, 4);
          assert_int_equal(event.is_deflated, deflated[events]);
          if (events == 2)
            assert_int_equal(event.opcode, WS_PING);
          else if (deflated[events])
            assert_true(event.len == n && memcmp(event.data, payload, n) == 0);
          else
            assert_true(event.len == 5 && memcmp(event.data, "plain", 5) == 0);
          events++;
        }
        memmove(input, input + used, have - used);
        have -= used;
        if (result == WS_MORE) break;
      }
    }
    assert_int_equal(events, 5);
    ws_reader_fini(&r);
    clear(&b);
  }
}

static void the_first_bit_anywhere_else_is_an_error(void **state) {
  (void)state;
  static const struct {
    unsigned first;
    bool has_deflate, is_inside;
  } wrong[] = {
      {FINAL | 0x40 | WS_TEXT, false, false},       {FINAL | 0x20 | WS_TEXT, true, false},
      {FINAL | 0x10 | WS_TEXT, true, false},        {FINAL | 0x60 | WS_TEXT, true, false},
      {FINAL | 0x40 | WS_PING, true, false},        {FINAL | 0x40 | WS_CLOSE, true, false},
      {FINAL | 0x40 | WS_CONTINUATION, true, true},
  };
  for (size_t i = 0; i < COUNT(wrong); i++) {
    struct bytes b = {0};
    struct ws_reader r = {.has_deflate = wrong[i].has_deflate};
    struct ws_event event;
    size_t used;
    if (wrong[i].is_inside) add_frame(&b, 0x40 | WS_TEXT, SHORTEST, "x", 1, 0);
    add_frame(&b, wrong[i].first, SHORTEST, "", 0, 0);
    assert_int_equal(ws_next(&r, &usual, b.data, b.n, &used, &event), WS_BAD);
    assert_int_equal(event.code, WS_PROTOCOL_ERROR);
    ws_reader_fini(&r);
    clear(&b);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_sequence_has_its_events),
      cmocka_unit_test(a_cut_is_known_as_such),
      cmocka_unit_test(all_lengths_around_the_forms_are_read),
      cmocka_unit_test(unmasking_starts_anywhere),
      cmocka_unit_test(a_length_is_refused_when_it_is_announced),
      cmocka_unit_test(fragments_count_together),
      cmocka_unit_test(a_message_has_so_many_fragments_and_no_more),
      cmocka_unit_test(memory_grows_with_what_came),
      cmocka_unit_test(a_reader_that_waits_for_nothing_owns_nothing),
      cmocka_unit_test(rules_of_two_bytes_are_judged_at_two_bytes),
      cmocka_unit_test(a_text_is_refused_at_the_byte_that_spoils_it),
      cmocka_unit_test(close_codes_are_judged),
      cmocka_unit_test(a_reason_is_cut_between_characters),
      cmocka_unit_test(heads_are_written),
      cmocka_unit_test(wslay_reads_the_same),
      cmocka_unit_test(the_first_bit_marks_a_message_when_it_was_agreed_to),
      cmocka_unit_test(the_first_bit_anywhere_else_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
