/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PAGES_H
#define PERIGEE_PAGES_H

#include "net/http_conn.h"

/* pages.c -- web files of the server's own, below /-/: the browser client, and what reloads pages.
 */

/* Answers when the path is one of theirs; false, and nothing done, when it is not. */
bool pages_answer(struct conn *conn, const struct http_request *r);

#endif
