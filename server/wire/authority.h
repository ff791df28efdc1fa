/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_AUTHORITY_H
#define PERIGEE_AUTHORITY_H

#include <stdbool.h>
#include <stddef.h>

/* authority.c -- host and port, as they stand in Host fields, targets and origins (RFC 3986 section
 * 3.2, RFC 9110 section 4.2). Pure; any thread. */

enum { AUTHORITY_MAX = 255 }; /* bytes */

struct authority {
  const char *host; /* into the text; an IPv6 address with its brackets */
  size_t host_len;
  unsigned port; /* 0: none is given */
};

/* False for what no such text can be: without a host, with a user, with anything in brackets that
 * is no IPv6 address, with a port twice or out of range, with characters that names do not have. */
bool authority_parse(const char *s, size_t n, struct authority *out);

/* Does it name this machine itself: a loopback address, "localhost", or a name below that (RFC 6761
 * section 6.3)? Any other name does not, wherever somebody's DNS says that it leads. */
bool authority_is_loopback(const struct authority *a);

/* Is its host `name` or, when that begins with a dot, the same without it or anything below?
 * Letters are compared without case. */
bool authority_is_below(const struct authority *a, const char *name);

#endif
