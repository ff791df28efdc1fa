/* SPDX-License-Identifier: MIT */
/* origin.c -- may a page of this origin talk to us?
 *
 * An origin is taken apart into scheme, host and port, and compared part by part: comparing
 * prefixes or suffixes of the text is how "https://good.example.evil.net" gets in. */
#include "wire/origin.h"

#include "wire/authority.h"

#include <string.h>
#include <strings.h>

struct origin {
  const char *scheme;
  size_t scheme_len;
  struct authority at; /* port 0: none given and no default known */
};

static unsigned default_port(const char *scheme, size_t n) {
  if (n == 4 && strncasecmp(scheme, "http", 4) == 0) return 80;
  if (n == 5 && strncasecmp(scheme, "https", 5) == 0) return 443;
  return 0;
}

static bool parse_origin(const char *s, size_t n, struct origin *o) {
  *o = (struct origin){0};
  for (size_t i = 0; i + 3 < n; i++) {
    if (memcmp(s + i, "://", 3) != 0) continue;
    if (i == 0) return false;
    for (size_t k = 0; k < i; k++) {
      char c = (char)(s[k] | 0x20);
      bool is_letter = c >= 'a' && c <= 'z';
      bool is_other = (s[k] >= '0' && s[k] <= '9') || s[k] == '+' || s[k] == '-' || s[k] == '.';
      if (!is_letter && (k == 0 || !is_other)) return false;
    }
    o->scheme = s;
    o->scheme_len = i;
    if (s[n - 1] == ':' || !authority_parse(s + i + 3, n - i - 3, &o->at)) return false;
    if (o->at.port == 0) o->at.port = default_port(s, i);
    return true;
  }
  return false;
}

static bool same(const char *a, size_t an, const char *b, size_t bn) {
  return an == bn && strncasecmp(a, b, an) == 0;
}

bool origin_is_pattern(const char *s) {
  struct origin o;
  if (strcmp(s, "*") == 0) return true;
  if (s[0] == '.') return authority_parse(s + 1, strlen(s + 1), &o.at) && !strchr(s, ':');
  return parse_origin(s, strlen(s), &o);
}

static bool matches(const char *pattern, const struct origin *o) {
  struct origin p;
  if (!origin_is_pattern(pattern)) return false;
  if (pattern[0] == '.') return authority_is_below(&o->at, pattern);
  return parse_origin(pattern, strlen(pattern), &p) &&
         same(p.scheme, p.scheme_len, o->scheme, o->scheme_len) &&
         same(p.at.host, p.at.host_len, o->at.host, o->at.host_len) && p.at.port == o->at.port;
}

/* Is it the origin that the request itself was sent to? A request that is not known to be secure
 * may be all the same, by a proxy that does not say so: then the page's own scheme is believed, as
 * its browser would not have let it go from https to http. */
static bool is_own(const struct origin *o, const struct origin_self *self) {
  struct authority at;
  unsigned usual = default_port(o->scheme, o->scheme_len);
  if (usual == 0 || (self->is_secure && usual != 443)) return false;
  if (!authority_parse(self->host, self->host_len, &at)) return false;
  return same(o->at.host, o->at.host_len, at.host, at.host_len) &&
         o->at.port == (at.port ? at.port : usual);
}

enum origin_trust origin_judge(const char *const *patterns, const char *origin, size_t n,
                               const struct origin_self *self) {
  struct origin o;
  bool is_parsed = parse_origin(origin, n, &o);
  if (!patterns || !patterns[0])
    return is_parsed && is_own(&o, self) ? ORIGIN_NAMED : ORIGIN_REFUSED;
  enum origin_trust trust = ORIGIN_REFUSED;
  for (; *patterns; patterns++) {
    if (strcmp(*patterns, "*") == 0)
      trust = ORIGIN_ANYBODY;
    else if (is_parsed && matches(*patterns, &o))
      return ORIGIN_NAMED;
  }
  return trust;
}
