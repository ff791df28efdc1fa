/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_DIGEST_H
#define PERIGEE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* digest.c -- SHA-256, HMAC, comparison that takes the same time whatever differs, and base64url.
 * Pure; any thread. */

enum { DIGEST_LEN = 32 };

void digest_sha256(const void *data, size_t n, uint8_t out[static DIGEST_LEN]);

/* HMAC-SHA256 (RFC 2104). */
void digest_hmac(const void *key, size_t key_len, const void *data, size_t n,
                 uint8_t out[static DIGEST_LEN]);

/* Are the n bytes equal? The time it takes says nothing about them. */
bool digest_equal(const void *a, const void *b, size_t n);

/* Base64 with "-" and "_" and without padding (RFC 4648 section 5). Bytes that n bytes become. */
static inline size_t base64url_len(size_t n) {
  return (n * 4 + 2) / 3;
}
void base64url_write(const void *data, size_t n, char *out);
/* Bytes written, at most n * 3 / 4; SIZE_MAX when it is not base64url as base64url_write makes it.
 */
size_t base64url_read(const char *text, size_t n, uint8_t *out);

#endif
