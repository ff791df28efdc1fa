/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_ORIGIN_H
#define PERIGEE_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

/* origin.c -- may a page of this origin talk to us (RFC 6454; api: `origins`)? Pure; any thread. */

/* Is s a pattern that origin_judge understands: "*", ".host", "scheme://host[:port]"? */
bool origin_is_pattern(const char *s);

/* Where a request was sent: its authority, and whether it came there by TLS, as far as that is
 * known. */
struct origin_self {
  const char *host;
  size_t host_len;
  bool is_secure;
};

enum origin_trust {
  ORIGIN_REFUSED,
  ORIGIN_ANYBODY, /* allowed by "*" alone: it may read what a stranger may, not what a visitor may
                   */
  ORIGIN_NAMED,   /* allowed by name, or the same host */
};
/* patterns: NULL-terminated; NULL or empty means "the same host", which `self` tells: host, port,
 * and scheme, so that no page got over http acts for one that is https. The origin "null"
 * (sandboxed pages, files) matches "*" only. What is no pattern matches nothing. */
enum origin_trust origin_judge(const char *const *patterns, const char *origin, size_t n,
                               const struct origin_self *self);

#endif
