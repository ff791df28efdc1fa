/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_ORIGIN_H
#define PERIGEE_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

/* origin.c -- may a page of this origin talk to us (RFC 6454; api: `origins`)? Pure; any thread. */

/* Does a Host field (its port left aside) name this machine itself, by loopback address or as
 * "localhost"? A name that somebody's DNS resolves does not, wherever it leads. */
bool origin_host_is_loopback(const char *host, size_t n);

/* Is s a pattern that origin_is_allowed understands: "*", ".host", "scheme://host[:port]"? */
bool origin_is_pattern(const char *s);

/* patterns: NULL-terminated; NULL or empty means "the same host", which `host` (the request's Host
 * field, with port) tells. The origin "null" (sandboxed pages, files) matches "*" only. What is no
 * pattern matches nothing. */
bool origin_is_allowed(const char *const *patterns, const char *origin, size_t origin_len,
                       const char *host, size_t host_len);

enum origin_trust {
  ORIGIN_REFUSED,
  ORIGIN_ANYBODY, /* allowed by "*" alone: it may read what a stranger may, not what a visitor may
                   */
  ORIGIN_NAMED,   /* allowed by name, or the same host */
};
/* The same, with the difference that matters to CORS. */
enum origin_trust origin_judge(const char *const *patterns, const char *origin, size_t origin_len,
                               const char *host, size_t host_len);

#endif
