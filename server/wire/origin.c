/* SPDX-License-Identifier: MIT */
/* origin.c -- may a page of this origin talk to us?
 *
 * An origin is taken apart into scheme, host and port, and compared part by part: comparing
 * prefixes or suffixes of the text is how "https://good.example.evil.net" gets in. */
#include "wire/origin.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct origin {
  const char *scheme, *host;
  size_t scheme_len, host_len;
  unsigned port; /* 0: none given and no default known */
};

static unsigned default_port(const char *scheme, size_t n) {
  if (n == 4 && strncasecmp(scheme, "http", 4) == 0) return 80;
  if (n == 5 && strncasecmp(scheme, "https", 5) == 0) return 443;
  return 0;
}

/* host[:port]; IPv6 in brackets. */
static bool parse_host(const char *s, size_t n, struct origin *o) {
  size_t host_end;
  if (n && s[0] == '[') {
    const char *close = memchr(s, ']', n);
    if (!close) return false;
    host_end = (size_t)(close - s) + 1;
  } else {
    const char *colon = memchr(s, ':', n);
    host_end = colon ? (size_t)(colon - s) : n;
  }
  if (host_end == 0) return false;
  for (size_t i = 0; i < host_end; i++)
    if (s[i] == '/' || s[i] == '@' || s[i] == '?' || s[i] == '#' || (unsigned char)s[i] <= 0x20)
      return false;
  o->host = s;
  o->host_len = host_end;
  if (host_end == n) return true;
  if (s[host_end] != ':' || n - host_end > 6 || n - host_end < 2) return false;
  unsigned port = 0;
  for (size_t i = host_end + 1; i < n; i++) {
    if (s[i] < '0' || s[i] > '9') return false;
    port = port * 10 + (unsigned)(s[i] - '0');
  }
  if (port == 0 || port > 65535) return false;
  o->port = port;
  return true;
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
    if (!parse_host(s + i + 3, n - i - 3, o)) return false;
    if (o->port == 0) o->port = default_port(s, i);
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
  if (s[0] == '.') return s[1] && parse_host(s + 1, strlen(s + 1), &o) && !strchr(s, ':');
  return parse_origin(s, strlen(s), &o);
}

static bool matches(const char *pattern, const struct origin *o) {
  size_t n = strlen(pattern);
  if (pattern[0] == '.') { /* the host itself and everything below it */
    if (!origin_is_pattern(pattern)) return false;
    if (same(o->host, o->host_len, pattern + 1, n - 1)) return true;
    return o->host_len > n && same(o->host + o->host_len - n, n, pattern, n);
  }
  struct origin p;
  return parse_origin(pattern, n, &p) && same(p.scheme, p.scheme_len, o->scheme, o->scheme_len) &&
         same(p.host, p.host_len, o->host, o->host_len) && p.port == o->port;
}

enum origin_trust origin_judge(const char *const *patterns, const char *origin, size_t origin_len,
                               const char *host, size_t host_len) {
  struct origin o, self = {0};
  bool is_parsed = parse_origin(origin, origin_len, &o);
  if (!patterns || !patterns[0]) {
    if (!is_parsed || !parse_host(host, host_len, &self)) return ORIGIN_REFUSED;
    if (!same(o.host, o.host_len, self.host, self.host_len)) return ORIGIN_REFUSED;
    /* a proxy in front may have changed the scheme but passes Host: compare ports by the origin's
     */
    unsigned usual = default_port(o.scheme, o.scheme_len), port = self.port ? self.port : usual;
    return port == o.port && usual != 0 ? ORIGIN_NAMED : ORIGIN_REFUSED;
  }
  enum origin_trust trust = ORIGIN_REFUSED;
  for (; *patterns; patterns++) {
    if (strcmp(*patterns, "*") == 0)
      trust = ORIGIN_ANYBODY;
    else if (is_parsed && matches(*patterns, &o))
      return ORIGIN_NAMED;
  }
  return trust;
}

bool origin_is_allowed(const char *const *patterns, const char *origin, size_t origin_len,
                       const char *host, size_t host_len) {
  return origin_judge(patterns, origin, origin_len, host, host_len) != ORIGIN_REFUSED;
}

bool origin_host_is_loopback(const char *host, size_t n) {
  struct origin o = {0};
  char text[INET6_ADDRSTRLEN];
  struct in_addr v4;
  struct in6_addr v6;
  if (!parse_host(host, n, &o)) return false;
  if (o.host_len == 9 && strncasecmp(o.host, "localhost", 9) == 0) return true;
  bool is_v6 = o.host_len > 2 && o.host[0] == '[';
  size_t len = is_v6 ? o.host_len - 2 : o.host_len;
  if (len >= sizeof text) return false;
  memcpy(text, o.host + is_v6, len);
  text[len] = '\0';
  if (is_v6) return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
  return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}
