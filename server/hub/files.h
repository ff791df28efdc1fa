/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_FILES_H
#define PERIGEE_FILES_H

#include "net/conn.h"

/* files.c -- reads a public folder's files off the loop and answers GET and HEAD with them.
 *
 * A file is opened and read on libuv's thread pool, piece by piece: the next piece when the client
 * has taken the last one. Worker's thread only. */

struct transfer;

/* Answers the request in progress on conn with the file `name` (decoded, no hidden parts) below
 * dir; "" and names that end in a slash mean index.html. Answers 404 itself. To clients that take
 * gzip a file name.gz beside it is sent instead, unless that is older; a range of bytes, and what a
 * client has already, are answered as RFC 9110 says (sections 13 and 14). HTML is followed by
 * `tail`, a constant, or NULL. The transfer ends by itself; *slot points at it meanwhile and is
 * NULL again after. */
void files_answer(struct conn *conn, const char *dir, const char *name, const char *tail,
                  struct transfer **slot);

/* Answers a request for the path of dir itself, without the slash behind it: 302 to there, with the
 * query, when there is a page; else 405 with the header line `allow`, or, when that is NULL, 404.
 * Folders within, whose path is asked for so, are answered likewise by files_answer. */
void files_answer_folder(struct conn *conn, const char *dir, const char *allow,
                         struct transfer **slot);

/* There is room for the next piece. */
void files_drained(struct transfer *transfer);

/* The connection is gone. */
void files_abandon(struct transfer *transfer);

/* Content-Type for a file name; never NULL. */
const char *files_type(const char *name);

/* Is its type one that is worth compressing? */
bool files_may_compress(const char *name);

/* Is a part of the file's name eight hexadecimal digits or more, as build tools put in that change
 * it with the content? Numbers and words are none. */
bool files_has_fingerprint(const char *name);

/* Is the quoted tag in an If-None-Match list (RFC 9110 section 13.1.2, weak comparison)? */
bool files_tag_matches(const char *list, size_t n, const char *tag);

#endif
