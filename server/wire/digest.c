/* SPDX-License-Identifier: MIT */
/* digest.c -- SHA-256, HMAC, comparison that takes the same time whatever differs, and base64url.
 */
#include "wire/digest.h"

#include "base/mem.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void digest_sha256(const void *data, size_t n, uint8_t out[static DIGEST_LEN]) {
  check(EVP_Digest(data, n, out, NULL, EVP_sha256(), NULL) == 1);
}

void digest_hmac(const void *key, size_t key_len, const void *data, size_t n,
                 uint8_t out[static DIGEST_LEN]) {
  unsigned len = DIGEST_LEN;
  check(HMAC(EVP_sha256(), key, (int)key_len, data, n, out, &len) && len == DIGEST_LEN);
}

bool digest_equal(const void *a, const void *b, size_t n) {
  return CRYPTO_memcmp(a, b, n) == 0;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_write(const void *data, size_t n, char *out) {
  const uint8_t *bytes = data;
  uint32_t bits = 0;
  int have = 0;
  for (size_t i = 0; i < n; i++) {
    bits = bits << 8 | bytes[i];
    for (have += 8; have >= 6; have -= 6) *out++ = alphabet[bits >> (have - 6) & 63];
  }
  if (have) *out = alphabet[bits << (6 - have) & 63];
}

static int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '-' ? 62 : c == '_' ? 63 : -1;
}

size_t base64url_read(const char *text, size_t n, uint8_t *out) {
  uint32_t bits = 0;
  int have = 0;
  size_t k = 0;
  if (n % 4 == 1) return SIZE_MAX;
  for (size_t i = 0; i < n; i++) {
    int value = value_of(text[i]);
    if (value < 0) return SIZE_MAX;
    bits = bits << 6 | (uint32_t)value;
    have += 6;
    if (have >= 8) {
      have -= 8;
      out[k++] = (uint8_t)(bits >> have);
    }
  }
  /* one value, one text: left-over bits are zero */
  return bits & ((1u << have) - 1) ? SIZE_MAX : k;
}
