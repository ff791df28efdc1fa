/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_CLIENT_H
#define PERIGEE_CLIENT_H

#include "net/conn.h"
#include "wire/forwarded.h"
#include "wire/origin.h"

/* client.c -- who asks, and for which host: as the socket and the request say, or, when a trusted
 * proxy stands in front of us, as that one says. Worker's thread only. */

/* Reads the request in progress. out->host points into it. */
void client_read(const struct conn *conn, const struct http_request *r, struct forwarded *out);

/* Where it was sent, which without proxies costs nothing. out->host points into the request. */
void client_host(const struct conn *conn, const struct http_request *r, struct origin_self *out);

enum { CLIENT_LINE_MAX = IP_TEXT + 300 };
/* "ADDRESS PORT SCHEME HOST\r\n", the line in front of a head for perigee.scope. Returns its
 * length. */
size_t client_line(const struct conn *conn, const struct http_request *r,
                   char out[static CLIENT_LINE_MAX]);

#endif
