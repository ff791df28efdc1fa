/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PRINTABLE_H
#define PERIGEE_PRINTABLE_H

#include <stddef.h>

/* printable.c -- text of others, made fit to be shown: on a terminal, in a log, in JSON.
 *
 * Clients, servers and files say what they like: controls that move a cursor or name a window (C0,
 * C1, DEL), marks that turn the direction of what follows, line separators that look like the end
 * of a log line, invisible tags, bytes that are no UTF-8. Each becomes a JSON escape, \u202e; a
 * byte that is no UTF-8 becomes \ufffd. All else stays as it is. */

enum { PRINTABLE_MAX = 12 }; /* \udb40\udc41 */

/* Looks at the character at s (n > 0). Returns 0 when it may be shown as it is, else the length of
 * what is shown in its place, in out. *used: its bytes. */
size_t printable_escape(const char *s, size_t n, char out[static PRINTABLE_MAX + 1], size_t *used);

/* A copy, malloc'd, with all of it escaped but ends of lines and tabs. */
char *printable_copy(const char *s, size_t n, size_t *len);

#endif
