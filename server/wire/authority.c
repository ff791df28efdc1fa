/* SPDX-License-Identifier: MIT */
/* authority.c -- host and port, as they stand in Host fields, targets and origins.
 *
 * What a text means is decided here once, and what has no one meaning is refused: a proxy in front
 * and the server behind it must not see two hosts in it. */
#include "wire/authority.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* RFC 3986's unreserved and sub-delims, without the comma: a proxy that joins two fields of one
 * name writes it. */
static bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || (c && c != ':' && strchr("_~!$&'()*+;=", c));
}

static bool is_hex(char c) {
  return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Length of the name that s begins with, escapes included; it ends where no name can go on. */
static size_t name_len(const char *s, size_t n) {
  size_t i = 0;
  while (i < n) {
    if (is_name_char(s[i]))
      i++;
    else if (s[i] == '%' && i + 2 < n && is_hex(s[i + 1]) && is_hex(s[i + 2]))
      i += 3;
    else
      break;
  }
  return i;
}

/* An IPv6 address without its brackets. */
static bool parse_v6(const char *s, size_t n, struct in6_addr *out) {
  char text[INET6_ADDRSTRLEN];
  if (n == 0 || n >= sizeof text || memchr(s, '\0', n)) return false;
  memcpy(text, s, n);
  text[n] = '\0';
  return inet_pton(AF_INET6, text, out) == 1;
}

/* Length of the host in brackets that s begins with, or 0. */
static size_t literal_len(const char *s, size_t n) {
  struct in6_addr address;
  const char *close = memchr(s, ']', n);
  if (!close || !parse_v6(s + 1, (size_t)(close - s) - 1, &address)) return 0;
  return (size_t)(close - s) + 1;
}

bool authority_parse(const char *s, size_t n, struct authority *out) {
  if (n == 0 || n > AUTHORITY_MAX) return false;
  *out = (struct authority){.host = s};
  out->host_len = s[0] == '[' ? literal_len(s, n) : name_len(s, n);
  if (out->host_len == 0) return false;
  if (out->host_len == n) return true;
  if (s[out->host_len] != ':' || n - out->host_len > 6) return false;
  if (out->host_len + 1 == n) return true; /* "host:" is "host" */
  for (size_t i = out->host_len + 1; i < n; i++) {
    if (s[i] < '0' || s[i] > '9') return false;
    out->port = out->port * 10 + (unsigned)(s[i] - '0');
  }
  return out->port >= 1 && out->port <= 65535;
}

bool authority_is_below(const struct authority *a, const char *name) {
  size_t n = strlen(name);
  if (name[0] != '.') return a->host_len == n && strncasecmp(a->host, name, n) == 0;
  if (a->host_len == n - 1) return strncasecmp(a->host, name + 1, n - 1) == 0;
  return a->host_len > n && strncasecmp(a->host + a->host_len - n, name, n) == 0;
}

bool authority_is_loopback(const struct authority *a) {
  char text[INET_ADDRSTRLEN];
  struct in_addr v4;
  struct in6_addr v6;
  if (authority_is_below(a, ".localhost")) return true;
  if (a->host[0] == '[')
    return parse_v6(a->host + 1, a->host_len - 2, &v6) && IN6_IS_ADDR_LOOPBACK(&v6);
  if (a->host_len >= sizeof text) return false;
  memcpy(text, a->host, a->host_len);
  text[a->host_len] = '\0';
  return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}
