/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_ACCESS_H
#define PERIGEE_ACCESS_H

#include "net/conn.h"
#include "wire/http.h"

/* access.c -- which names the server answers to, and who may see what is the operator's. Worker's
 * thread only. */

/* Is the request's Host one that this server answers to: in dev, and wherever the setting `hosts`
 * is given, only this machine's own names and those of the setting; else any? Logs the others. */
bool access_names_us(const struct conn *conn, const struct http_request *r);

/* Does somebody on this machine ask, not forwarded, for this machine? For counters. */
bool access_is_local(const struct conn *conn, const struct http_request *r);

/* May this request see the inspector? Whoever may not cannot tell it from what does not exist. */
bool access_may_inspect(const struct conn *conn, const struct http_request *r);

#endif
