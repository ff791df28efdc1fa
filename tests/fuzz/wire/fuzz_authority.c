/* SPDX-License-Identifier: MIT */
/* fuzz_authority.c -- any text: what is a host and a port is so in every part, and reads the same
 * again. */
#include "../fuzz.h"

#include "wire/authority.h"

#include <stdio.h>
#include <strings.h>

/* A host has no byte with which something else begins, and a colon only within brackets. */
static void check_host(const struct authority *at) {
  bool is_literal = at->host[0] == '[';
  check(at->host_len > 0);
  check(!is_literal || at->host[at->host_len - 1] == ']');
  for (size_t i = is_literal; i < at->host_len - is_literal; i++) {
    check((uint8_t)at->host[i] > 0x20 && (uint8_t)at->host[i] < 0x7f);
    check(!memchr("/?#@,[]<>\"\\^`{|}", at->host[i], 16));
    check(is_literal || at->host[i] != ':');
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct authority at, again;
  char text[AUTHORITY_MAX + 16], below[AUTHORITY_MAX + 16];
  char *s = exact_copy((const char *)data, n);
  if (authority_parse(s, n, &at)) {
    check(n <= AUTHORITY_MAX && at.host == s && at.host_len <= n && at.port <= 65535);
    check_host(&at);
    int len = snprintf(text, sizeof text, "%.*s", (int)at.host_len, at.host);
    check(len > 0 && (text[0] == '.' || authority_is_below(&at, text)));
    snprintf(below, sizeof below, ".%s", text);
    check(authority_is_below(&at, below));
    if (at.port) len += snprintf(text + len, sizeof text - (size_t)len, ":%u", at.port);
    if (len <= AUTHORITY_MAX) {
      check(authority_parse(text, (size_t)len, &again));
      check(again.host_len == at.host_len && again.port == at.port);
      check(authority_is_loopback(&again) == authority_is_loopback(&at));
    }
    /* nothing can be put in front of it or behind it that makes it this machine */
    if (authority_is_loopback(&at))
      check(at.host[0] == '[' || memcmp(at.host, "127.", 4) == 0 ||
            strncasecmp(at.host + at.host_len - 9, "localhost", 9) == 0);
  }
  free(s);
  return 0;
}
