/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_WEB_H
#define PERIGEE_WEB_H

#include "net/http_conn.h"

#include <stdbool.h>

/* web.c -- one request of plain HTTP, from its route to its answer.
 *
 * Everything that may raise runs inside the request's own coroutine; the answer goes to the
 * connection's id, so a connection that is gone by then just does not get it. */

struct host;

/* The request in progress, whose path was found to be a route of its peer's consumer: runs the
 * handler, which answers now or later. */
void web_request(struct host *h, struct conn *conn, const struct http_request *r);

#endif
