/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HANDSHAKE_H
#define PERIGEE_HANDSHAKE_H

#include "wire/http.h"

/* handshake.c -- judges a WebSocket opening handshake (RFC 6455 section 4.2) and answers its key.
 * Pure; any thread. */

/* Makes the hash library ready, which takes it a while and a megabyte: before the first client pays
 * for it. Once, before threads start. */
void handshake_init(void);

/* Does this request ask for a WebSocket at all (Upgrade lists "websocket")? Other upgrades are
 * ignored, as RFC 9110 section 7.8 allows. */
bool handshake_is_wanted(const struct http_request *r);

/* 101 when the handshake is right, else 400 or 426 (which needs Sec-WebSocket-Version: 13) with
 * *reason set to a static sentence. */
unsigned handshake_judge(const struct http_request *r, const char **reason);

enum { HANDSHAKE_ACCEPT_LEN = 28 };
/* The value of Sec-WebSocket-Accept for a request that was judged 101. Writes 28 bytes and a NUL.
 */
void handshake_accept(const struct http_request *r, char out[static HANDSHAKE_ACCEPT_LEN + 1]);

/* Does the client offer this subprotocol? Names compare exactly. */
bool handshake_offers(const struct http_request *r, const char *subprotocol);

#endif
