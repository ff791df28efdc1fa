/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_CHUNKS_H
#define PERIGEE_CHUNKS_H

#include <stdbool.h>
#include <stdint.h>

/* chunks.c -- reads the chunked transfer coding (RFC 9112 section 7.1): sizes, extensions,
 * trailers.
 *
 * All of the grammar and nothing beside it: every line ends with CR LF, no white space where none
 * belongs, no folded trailer. Extensions and trailers are checked and dropped. Here and not in
 * llhttp, whose versions differ in what they take. Pure, and without a limit: the caller counts. */

enum chunks_next {
  CHUNKS_FRAMING, /* give it the next byte */
  CHUNKS_DATA,    /* the next `left` bytes are body; say with chunks_skip how many were taken */
  CHUNKS_END,     /* that was the last byte of the body */
  CHUNKS_BAD,     /* see status and reason */
};

struct chunks {
  uint64_t left;      /* of the chunk; while its size is read: the size so far */
  uint8_t state;      /* enum state, in chunks.c */
  uint8_t matched;    /* letters of "transfer-encoding" that the trailer's name begins with */
  uint16_t status;    /* after CHUNKS_BAD: 400 or 501 */
  const char *reason; /* after CHUNKS_BAD: static text */
};

void chunks_begin(struct chunks *c);
/* Takes one byte that is no body. Not to be called again after CHUNKS_END or CHUNKS_BAD. */
enum chunks_next chunks_feed(struct chunks *c, unsigned char byte);
bool chunks_are_in_data(const struct chunks *c);
/* n bytes of body, at most `left`, were taken. */
void chunks_skip(struct chunks *c, uint64_t n);

#endif
