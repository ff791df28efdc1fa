/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_CORS_H
#define PERIGEE_CORS_H

#include "net/conn.h"

/* cors.c -- pages of other origins: who may talk to a consumer, and who may read its answers (the
 * Fetch standard; api: `origins`). Worker's thread only. */

struct consumer;

/* May the page that sent this request talk to the consumer? A request without Origin comes from no
 * page. Says a refusal once per path and origin in the log, with what would allow it. */
bool cors_allows(const struct conn *conn, const struct consumer *c, const struct http_request *r);

enum { CORS_LINES_MAX = 1400 };

/* Header lines that let the page read the answer to this request; 0 when none are due. */
size_t cors_lines(const struct conn *conn, const struct consumer *c, const struct http_request *r,
                  char out[static CORS_LINES_MAX]);

/* Those of the answer to a preflight; 0 when the origin is not allowed or there is none.
 * methods: "GET, POST". */
size_t cors_preflight_lines(const struct conn *conn, const struct consumer *c,
                            const struct http_request *r, const char *methods,
                            char out[static CORS_LINES_MAX]);

#endif
