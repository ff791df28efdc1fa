/* SPDX-License-Identifier: MIT */
/* chunks.c -- reads the chunked transfer coding (RFC 9112 section 7.1): sizes, extensions,
 * trailers.
 */
#include "wire/chunks.h"

#include <string.h>

/* What the next byte belongs to. */
enum state {
  SIZE_FIRST, /* a chunk's size: at least one digit */
  SIZE,
  EXT_FIRST, /* an extension's name: at least one letter */
  EXT_NAME,
  EXT_VALUE, /* behind the '=' */
  EXT_TOKEN,
  EXT_QUOTED,
  EXT_ESCAPED,
  EXT_END, /* behind a quoted value */
  SIZE_LF,
  DATA,
  DATA_CR,
  DATA_LF,
  LINE, /* a trailer's first byte, or the CR of the empty line that ends them */
  NAME,
  VALUE,
  VALUE_LF,
  END_LF,
};

static const char coding[] = "transfer-encoding";
enum { OTHER = UINT8_MAX }; /* `matched` of another name */

static enum chunks_next bad(struct chunks *c, unsigned status, const char *reason) {
  c->status = (uint16_t)status;
  c->reason = reason;
  return CHUNKS_BAD;
}

static enum chunks_next go(struct chunks *c, enum state state) {
  c->state = (uint8_t)state;
  return CHUNKS_FRAMING;
}

/* RFC 9110 section 5.6.2: a letter of a token. */
static bool is_token(unsigned char b) {
  return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') ||
         (b && strchr("!#$%&'*+-.^_`|~", b));
}

/* May it stand in a value or between quotes? */
static bool is_text(unsigned char b) {
  return b == '\t' || (b >= ' ' && b != 0x7f);
}

static int hex_digit(unsigned char b) {
  if (b >= '0' && b <= '9') return b - '0';
  b |= 0x20;
  return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static enum chunks_next size_byte(struct chunks *c, unsigned char b) {
  int digit = hex_digit(b);
  if (digit >= 0) {
    if (c->left >> 60) return bad(c, 400, "chunk size over 64 bits");
    c->left = c->left << 4 | (unsigned)digit;
    return go(c, SIZE);
  }
  if (c->state == SIZE && b == ';') return go(c, EXT_FIRST);
  if (c->state == SIZE && b == '\r') return go(c, SIZE_LF);
  return bad(c, 400, "malformed chunk size");
}

static enum chunks_next extension_byte(struct chunks *c, unsigned char b) {
  bool may_end = c->state == EXT_NAME || c->state == EXT_TOKEN || c->state == EXT_END;
  if (may_end && b == ';') return go(c, EXT_FIRST);
  if (may_end && b == '\r') return go(c, SIZE_LF);
  switch (c->state) {
  case EXT_FIRST:
  case EXT_NAME:
    if (is_token(b)) return go(c, EXT_NAME);
    if (b == '=' && c->state == EXT_NAME) return go(c, EXT_VALUE);
    break;
  case EXT_VALUE:
    if (b == '"') return go(c, EXT_QUOTED);
    if (is_token(b)) return go(c, EXT_TOKEN);
    break;
  case EXT_TOKEN:
    if (is_token(b)) return CHUNKS_FRAMING;
    break;
  case EXT_QUOTED:
    if (b == '"') return go(c, EXT_END);
    if (b == '\\') return go(c, EXT_ESCAPED);
    if (is_text(b)) return CHUNKS_FRAMING;
    break;
  case EXT_ESCAPED:
    if (is_text(b)) return go(c, EXT_QUOTED);
    break;
  default: break; /* EXT_END: only one of the above may follow */
  }
  return bad(c, 400, "malformed chunk extension");
}

/* The fields are dropped, all but one: a coding that is announced behind the body has been meant to
 * hide it. */
static enum chunks_next trailer_byte(struct chunks *c, unsigned char b) {
  if (c->state == LINE) {
    c->matched = 0;
    if (b == '\r') return go(c, END_LF);
  }
  if (c->state == VALUE) {
    if (b == '\r') return go(c, VALUE_LF);
    return is_text(b) ? CHUNKS_FRAMING : bad(c, 400, "malformed trailer");
  }
  if (c->state == NAME && b == ':') {
    if (c->matched == sizeof coding - 1) return bad(c, 501, "transfer coding in a trailer");
    return go(c, VALUE);
  }
  if (!is_token(b)) return bad(c, 400, "malformed trailer");
  if (c->matched < sizeof coding - 1 && (b | 0x20) == coding[c->matched])
    c->matched++;
  else
    c->matched = OTHER;
  return go(c, NAME);
}

void chunks_begin(struct chunks *c) {
  *c = (struct chunks){.state = SIZE_FIRST};
}

enum chunks_next chunks_feed(struct chunks *c, unsigned char b) {
  switch (c->state) {
  case SIZE_FIRST:
  case SIZE: return size_byte(c, b);
  case SIZE_LF:
    if (b != '\n') return bad(c, 400, "chunk size without CR LF");
    if (c->left == 0) return go(c, LINE);
    c->state = DATA;
    return CHUNKS_DATA;
  case DATA_CR: return b == '\r' ? go(c, DATA_LF) : bad(c, 400, "chunk longer than its size");
  case DATA_LF: return b == '\n' ? go(c, SIZE_FIRST) : bad(c, 400, "chunk without CR LF behind it");
  case LINE:
  case NAME:
  case VALUE: return trailer_byte(c, b);
  case VALUE_LF: return b == '\n' ? go(c, LINE) : bad(c, 400, "trailer without CR LF");
  case END_LF: return b == '\n' ? CHUNKS_END : bad(c, 400, "end of chunks without CR LF");
  default: return extension_byte(c, b);
  }
}

bool chunks_are_in_data(const struct chunks *c) {
  return c->state == DATA;
}

void chunks_skip(struct chunks *c, uint64_t n) {
  c->left -= n;
  if (c->left == 0) c->state = DATA_CR;
}
