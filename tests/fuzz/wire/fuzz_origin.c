/* SPDX-License-Identifier: MIT */
/* fuzz_origin.c -- any pattern, origin and host (three lines): who gets in is who was meant. */
#include "../fuzz.h"

#include "wire/origin.h"

#include <ctype.h>
#include <strings.h>

struct text {
  char *s; /* of exactly n bytes and a NUL */
  size_t n;
};

static struct text next_line(const uint8_t **data, size_t *n) {
  const uint8_t *end = memchr(*data, '\n', *n);
  struct text t;
  t.n = end ? (size_t)(end - *data) : *n;
  t.s = mem_alloc(t.n + 1);
  memcpy(t.s, *data, t.n);
  t.s[t.n] = '\0';
  *data += t.n + (end != NULL);
  *n -= t.n + (end != NULL);
  return t;
}

/* The host of scheme://host or scheme://host:port, found in another way than origin.c's. */
static struct text host_of(const char *s, size_t n) {
  struct text t = {0};
  for (size_t i = 0; i + 3 <= n && !t.s; i++)
    if (memcmp(s + i, "://", 3) == 0) t = (struct text){(char *)s + i + 3, n - i - 3};
  if (t.n && t.s[0] == '[') {
    char *end = memchr(t.s, ']', t.n);
    if (end) t.n = (size_t)(end - t.s) + 1;
  } else if (t.n) {
    char *colon = memchr(t.s, ':', t.n);
    if (colon) t.n = (size_t)(colon - t.s);
  }
  return t;
}

static bool is_same(struct text a, struct text b) {
  return a.n == b.n && strncasecmp(a.s, b.s, a.n) == 0;
}

static bool is_allowed(const char *pattern, struct text origin, struct text host) {
  const char *const list[] = {pattern, NULL};
  char *o = exact_copy(origin.s, origin.n), *h = exact_copy(host.s, host.n);
  struct origin_self self = {.host = h, .host_len = host.n};
  bool result = origin_judge(pattern ? list : NULL, o, origin.n, &self) != ORIGIN_REFUSED;
  self.is_secure = true;
  bool is_let_in = origin_judge(pattern ? list : NULL, o, origin.n, &self) != ORIGIN_REFUSED;
  if (pattern)
    check(is_let_in == result); /* who is named is named */
  else if (is_let_in)
    check(result && strncasecmp(o, "https://", 8) == 0);
  free(o);
  free(h);
  return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct text pattern = next_line(&data, &n), origin = next_line(&data, &n), host = {0};
  host = next_line(&data, &n);
  pattern.n = strlen(pattern.s); /* a pattern is a C string */
  struct text origin_host = host_of(origin.s, origin.n);

  check(is_allowed("*", origin, host));
  if (is_allowed(pattern.s, origin, host)) {
    check(origin_is_pattern(pattern.s)); /* what is no pattern matches nothing */
    if (pattern.s[0] == '.') {           /* the host is it, or ends with it */
      struct text name = {pattern.s + 1, pattern.n - 1}, end = origin_host;
      check(origin_host.n > 0);
      if (end.n > pattern.n) {
        end.s += end.n - pattern.n;
        end.n = pattern.n;
        name = pattern;
      }
      check(is_same(end, name));
    } else if (strcmp(pattern.s, "*") != 0) {
      check(is_same(host_of(pattern.s, pattern.n), origin_host));
      check(tolower((unsigned char)pattern.s[0]) == tolower((unsigned char)origin.s[0]));
    }
    if (strcmp(pattern.s, "*") != 0) /* an origin has nothing behind its port, nor a user */
      for (const char *s = origin_host.s; s < origin.s + origin.n; s++)
        check(!memchr("/@?# \t", *s, 6));
  }
  if (is_allowed(NULL, origin, host)) { /* the same host: with its brackets, without its port */
    check(origin_host.n && host.n >= origin_host.n);
    struct text head = {host.s, origin_host.n};
    check(is_same(head, origin_host));
    check(host.n == head.n || host.s[head.n] == ':');
  }
  /* An origin that may serve as a pattern lets itself in, and nobody with more or less text. */
  if (origin.n && strlen(origin.s) == origin.n && !strchr("*.", origin.s[0])) {
    bool is_pattern = origin_is_pattern(origin.s);
    check(is_allowed(origin.s, origin, host) == is_pattern);
    if (is_pattern && pattern.n) { /* .evil.net glued to its end, or anything else in front */
      struct text longer = {mem_alloc(origin.n + pattern.n), origin.n + pattern.n};
      memcpy(longer.s, origin.s, origin.n);
      memcpy(longer.s + origin.n, pattern.s, pattern.n);
      if (is_allowed(origin.s, longer, host))
        check(is_same(host_of(longer.s, longer.n), origin_host));
      free(longer.s);
    }
  }
  free(pattern.s);
  free(origin.s);
  free(host.s);
  return 0;
}
