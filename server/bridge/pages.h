/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PAGES_H
#define PERIGEE_PAGES_H

#include "net/http_conn.h"

/* pages.c -- web files of the server's own, below /-/: the browser client, the inspector, and what
 * reloads pages in dev. */

struct embedded_file;

/* The file at a path, or NULL. */
const struct embedded_file *pages_find(const char *path, size_t n);
/* Is it the inspector's, and not for everybody? */
bool pages_is_private(const struct embedded_file *page);
/* Is it there in `perigee dev` only? */
bool pages_is_for_dev(const struct embedded_file *page);
/* Answers GET and HEAD with it. */
void pages_answer(struct conn *conn, const struct http_request *r,
                  const struct embedded_file *page);

#endif
