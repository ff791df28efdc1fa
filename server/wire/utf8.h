/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_UTF8_H
#define PERIGEE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* utf8.c -- is this text valid UTF-8 (RFC 3629: no overlong forms, no surrogates, up to U+10FFFF)?
 * Pure; any thread. */

/* A whole text. */
bool utf8_is_valid(const uint8_t *s, size_t n);

/* A text that comes in pieces. Start with 0; *state after the last piece must be UTF8_DONE. */
enum { UTF8_DONE = 0 };
/* False as soon as no continuation could make the text valid (RFC 6455 section 8.1). */
bool utf8_feed(uint32_t *state, const uint8_t *s, size_t n);

/* Bytes from s up to the first one over 0x7F, or n. Eight bytes a step. */
size_t utf8_ascii_run(const uint8_t *s, size_t n);

/* Length of the sequence that starts at s (2 to 4), or 0 when it is not valid. For bytes > 0x7F. */
unsigned utf8_sequence(const uint8_t *s, size_t n);

/* Writes a code point that is not a surrogate and at most 0x10FFFF; returns 1 to 4. */
unsigned utf8_put(uint8_t *out, uint32_t code_point);

#endif
