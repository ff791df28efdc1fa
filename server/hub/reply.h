/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_REPLY_H
#define PERIGEE_REPLY_H

#include <stddef.h>
#include <stdint.h>

/* reply.c -- an answer of Redis as a value that travels between threads. */

enum reply_type { REPLY_NIL, REPLY_INTEGER, REPLY_STRING, REPLY_STATUS, REPLY_ERROR, REPLY_ARRAY };

struct reply {
  enum reply_type type;
  int64_t integer;
  size_t n;             /* bytes of text, or items */
  char *text;           /* owned, zero-terminated; strings, status and errors */
  struct reply **items; /* owned; arrays */
};

/* Copies the text. */
struct reply *reply_text(enum reply_type type, const char *text, size_t n);
struct reply *reply_integer(int64_t integer);
/* An array of n items, all NULL at first. */
struct reply *reply_array(size_t n);
/* NULL is fine. */
void reply_free(struct reply *r);

#endif
