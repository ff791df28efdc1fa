/* SPDX-License-Identifier: MIT */
/* handshake.c -- judges a WebSocket opening handshake and answers its key. */
#include "wire/handshake.h"

#include "base/mem.h"

#include <openssl/evp.h>
#include <string.h>

enum { KEY_LEN = 24 };

static const EVP_MD *sha1;

void handshake_init(void) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  /* fetched once: looking an algorithm up by name costs more than hashing sixty bytes */
  sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
  check(sha1 && EVP_Digest("", 0, digest, &len, sha1, NULL) == 1);
}

/* The field, when it is there exactly once. */
static const struct http_field *only(const struct http_request *r, const char *name) {
  const struct http_field *found = NULL;
  for (uint32_t i = 0; i < r->n_fields; i++) {
    if (!http_span_is(r, r->fields[i].name, name)) continue;
    if (found) return NULL;
    found = &r->fields[i];
  }
  return found;
}

bool handshake_is_wanted(const struct http_request *r) {
  if (!r->is_upgrade) return false;
  for (uint32_t i = 0; i < r->n_fields; i++)
    if (http_span_is(r, r->fields[i].name, "upgrade") &&
        http_has_token(r, r->fields[i].value, "websocket"))
      return true;
  return false;
}

/* 16 bytes in base64 are 22 characters and "==". The unused bits of the 22nd may be set: clients
 * that do so exist, and the key is only echoed through a hash. */
static bool is_key(const char *s, uint32_t n) {
  if (n != KEY_LEN || s[22] != '=' || s[23] != '=') return false;
  for (uint32_t i = 0; i < 22; i++) {
    char c = s[i];
    if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
          c == '/'))
      return false;
  }
  return true;
}

unsigned handshake_judge(const struct http_request *r, const char **reason) {
  *reason = NULL;
  if (r->method != HTTP_GET) {
    *reason = "a WebSocket handshake is a GET";
    return 400;
  }
  if (r->minor != 1) {
    *reason = "a WebSocket handshake needs HTTP/1.1";
    return 400;
  }
  if (r->is_chunked || r->content_length) {
    *reason = "a WebSocket handshake has no body";
    return 400;
  }
  const struct http_field *version = only(r, "sec-websocket-version");
  if (!version || !http_span_is(r, version->value, "13")) {
    *reason = "Sec-WebSocket-Version must be 13";
    return 426;
  }
  const struct http_field *key = only(r, "sec-websocket-key");
  if (!key || !is_key(http_text(r, key->value), key->value.len)) {
    *reason = "Sec-WebSocket-Key must be there once, 16 bytes in base64";
    return 400;
  }
  return 101;
}

void handshake_accept(const struct http_request *r, char out[static HANDSHAKE_ACCEPT_LEN + 1]) {
  static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  unsigned char text[KEY_LEN + sizeof guid - 1], digest[EVP_MAX_MD_SIZE];
  unsigned digest_len = 0;
  const struct http_field *key = http_find(r, "sec-websocket-key");
  check(key && key->value.len == KEY_LEN);
  memcpy(text, http_text(r, key->value), KEY_LEN);
  memcpy(text + KEY_LEN, guid, sizeof guid - 1);
  check(EVP_Digest(text, sizeof text, digest, &digest_len, sha1 ? sha1 : EVP_sha1(), NULL) == 1);
  check(EVP_EncodeBlock((unsigned char *)out, digest, (int)digest_len) == HANDSHAKE_ACCEPT_LEN);
}

bool handshake_offers(const struct http_request *r, const char *subprotocol) {
  size_t n = strlen(subprotocol);
  for (uint32_t i = 0; i < r->n_fields; i++) {
    if (!http_span_is(r, r->fields[i].name, "sec-websocket-protocol")) continue;
    const char *s = http_text(r, r->fields[i].value), *end = s + r->fields[i].value.len;
    while (s < end) {
      while (s < end && (*s == ' ' || *s == '\t' || *s == ',')) s++;
      const char *word = s;
      while (s < end && *s != ',') s++;
      const char *stop = s;
      while (stop > word && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
      if ((size_t)(stop - word) == n && memcmp(word, subprotocol, n) == 0) return true;
    }
  }
  return false;
}
