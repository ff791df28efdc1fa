/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_WS_H
#define PERIGEE_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ws.c -- bytes to whole WebSocket messages (RFC 6455, server side), and frame heads to bytes.
 *
 * The caller pulls: ws_next takes input until one message or control frame is complete, so nothing
 * is called back and the caller may stop after any message. A reader that waits for nothing owns no
 * memory. Pure: no clock, no sockets. One thread at a time. */

enum ws_opcode {
  WS_CONTINUATION = 0,
  WS_TEXT = 1,
  WS_BINARY = 2,
  WS_CLOSE = 8,
  WS_PING = 9,
  WS_PONG = 10,
  WS_DEFLATED = 0x40 /* with WS_TEXT or WS_BINARY, for ws_write_head: the first reserved bit */
};

enum ws_code { /* RFC 6455 section 7.4.1 */
               WS_NORMAL = 1000,
               WS_GOING_AWAY = 1001,
               WS_PROTOCOL_ERROR = 1002,
               WS_UNSUPPORTED = 1003,
               WS_NO_STATUS = 1005, /* never on the wire */
               WS_ABNORMAL = 1006,  /* never on the wire */
               WS_INVALID_DATA = 1007,
               WS_POLICY = 1008,
               WS_TOO_BIG = 1009,
               WS_INTERNAL = 1011,
               WS_TRY_AGAIN = 1013,
};

struct ws_limits {
  uint64_t message;   /* bytes of a message, all fragments together */
  uint32_t fragments; /* frames of a message: each costs us work that bytes do not count */
  bool may_deflate;   /* agree to permessage-deflate */
};

struct ws_message; /* fragments put together */
struct ws_cut;     /* a frame that lies across two reads, with its wslay context */

struct ws_reader {
  struct ws_cut *cut;         /* owned; NULL unless a frame is cut */
  struct ws_message *message; /* owned; NULL unless a message has more than one part */
  uint32_t utf8;              /* state of a text message between its parts */
  uint32_t fragments;         /* frames of the message in progress, 0: none */
  uint8_t opcode;             /* of the message in progress: WS_TEXT or WS_BINARY */
  bool has_deflate;           /* the caller's: permessage-deflate was agreed to */
  bool is_deflated;           /* of the message in progress */
  bool is_lent;               /* the last ws_next lent `message` to the caller */
};

enum ws_result {
  WS_MORE,  /* feed again with what was not used and more behind it */
  WS_EVENT, /* a message or control frame */
  WS_BAD,   /* the peer broke the protocol or a limit: close with .code */
};

struct ws_event {
  enum ws_opcode opcode;
  uint8_t *data; /* valid, and the caller's to change, until the next call with this reader */
  size_t len;
  bool is_deflated;   /* data is as it came: inflate it, then check the length and the text */
  uint16_t code;      /* WS_CLOSE: the peer's code, WS_NO_STATUS when none; WS_BAD: ours */
  const char *reason; /* WS_BAD: static text */
};

/* A reader is ready when zero-filled. */
void ws_reader_fini(struct ws_reader *r);

/* Takes from data[0, n), which it may change in place. *used bytes are done with; the rest (never
 * more than an incomplete frame head) must come again at the front of the next call. */
enum ws_result ws_next(struct ws_reader *r, const struct ws_limits *limits, uint8_t *data, size_t n,
                       size_t *used, struct ws_event *event);

/* True inside a message or frame: an end of input now cuts it short. */
bool ws_is_midway(const struct ws_reader *r);

enum { WS_HEAD_MAX = 10, WS_CONTROL_MAX = 125, WS_REASON_MAX = 123 };
/* Writes the head of an unmasked, final frame; returns 2, 4 or 10. */
unsigned ws_write_head(uint8_t out[static WS_HEAD_MAX], enum ws_opcode opcode, uint64_t len);
static inline unsigned ws_head_len(uint64_t len) {
  return len < 126 ? 2 : len < 65536 ? 4 : 10;
}

/* May an endpoint send this close code (RFC 6455 section 7.4; registered codes to 1014)? */
bool ws_is_close_code(unsigned code);

/* The longest prefix of s that fits a close frame and does not cut a character. */
size_t ws_reason_len(const char *s, size_t n);

#endif
