/* SPDX-License-Identifier: MIT */
/* cors.c -- pages of other origins: who may talk to a consumer, and who may read its answers. */
#include "bridge/cors.h"

#include "base/log.h"
#include "bridge/client.h"
#include "bridge/host.h"
#include "bridge/routes.h"
#include "wire/origin.h"

#include <stdio.h>
#include <string.h>

enum {
  ORIGIN_MAX = 300, /* bytes; no page has a longer one */
  ASKED_MAX = 400,  /* bytes of Access-Control-Request-Headers that are granted as they came */
  KNOWN = 64,       /* refusals that are remembered */
};

static enum origin_trust judge(const struct conn *conn, const struct consumer *c,
                               const struct http_request *r, const struct http_field *origin) {
  struct origin_self self;
  if (origin->value.len > ORIGIN_MAX) return ORIGIN_REFUSED;
  client_host(conn, r, &self);
  return origin_judge((const char *const *)c->origins, http_text(r, origin->value),
                      origin->value.len, &self);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t h, const char *s, size_t n) { /* FNV-1a */
  for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
  return h;
}

/* The last refusals that were logged, of all workers: two that log the same one at the same moment
 * do no harm, so relaxed atomics will do. */
static atomic_uint_fast64_t known[KNOWN];
static atomic_uint next_known;

static bool is_known(uint64_t key) {
  for (unsigned i = 0; i < KNOWN; i++)
    if (atomic_load_explicit(&known[i], memory_order_relaxed) == key) return true;
  return false;
}

static void remember(uint64_t key) {
  unsigned i = atomic_fetch_add_explicit(&next_known, 1, memory_order_relaxed) % KNOWN;
  atomic_store_explicit(&known[i], key, memory_order_relaxed);
}

static void log_refusal(const struct conn *conn, const struct consumer *c,
                        const struct http_request *r, const struct http_field *origin) {
  static struct log_limit limit = LOG_LIMIT(5); /* who sends ever new ones fills no disk */
  struct log_line l;
  struct origin_self self;
  char text[ORIGIN_MAX + 1], advice[ORIGIN_MAX + 40];
  size_t n = origin->value.len > ORIGIN_MAX ? ORIGIN_MAX : origin->value.len;
  uint64_t key = hash(0xcbf29ce484222325u, c->path, strlen(c->path) + 1);
  key = hash(key, http_text(r, origin->value), n);
  if (is_known(key) || !log_begin_limited(&l, &limit, LOG_WARN, "origin refused")) return;
  remember(key);
  memcpy(text, http_text(r, origin->value), n);
  text[n] = '\0';
  /* "null" and what is no origin at all can only be allowed with everybody else */
  bool has_name = origin_is_pattern(text) && text[0] != '*' && text[0] != '.';
  snprintf(advice, sizeof advice, "origins = { \"%s\" }", has_name ? text : "*");
  log_str(&l, "path", c->path);
  log_str(&l, "origin", text);
  client_host(conn, r, &self);
  log_bytes(&l, "host", self.host, self.host_len);
  log_str(&l, "scheme", self.is_secure ? "https" : "http");
  log_str(&l, "to_allow_it", advice);
  log_end(&l);
}

bool cors_allows(const struct conn *conn, const struct consumer *c, const struct http_request *r) {
  const struct http_field *origin = http_find(r, "origin");
  if (!origin || judge(conn, c, r, origin) != ORIGIN_REFUSED) return true;
  metric_add(&conn->worker->metrics.origins_refused, 1);
  log_refusal(conn, c, r, origin);
  return false;
}

/* ---- header lines ---------------------------------------------------------------------------- */

size_t cors_lines(const struct conn *conn, const struct consumer *c, const struct http_request *r,
                  char out[static CORS_LINES_MAX]) {
  const struct http_field *origin = http_find(r, "origin");
  if (!origin) return 0;
  switch (judge(conn, c, r, origin)) {
  case ORIGIN_NAMED:
    return (size_t)snprintf(out, CORS_LINES_MAX,
                            "Access-Control-Allow-Origin: %.*s\r\n"
                            "Access-Control-Allow-Credentials: true\r\nVary: Origin\r\n",
                            (int)origin->value.len, http_text(r, origin->value));
  case ORIGIN_ANYBODY: /* without credentials: what a visitor may see is not for every page */
    return (size_t)snprintf(out, CORS_LINES_MAX,
                            "Access-Control-Allow-Origin: *\r\nVary: Origin\r\n");
  default: return 0;
  }
}

/* Is it a list of field names, and not too long to be sent back? */
static bool is_names(const char *s, size_t n) {
  if (n == 0 || n > ASKED_MAX) return false;
  for (size_t i = 0; i < n; i++) {
    bool is_name = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
                   (s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '_';
    if (!is_name && s[i] != ',' && s[i] != ' ') return false;
  }
  return true;
}

size_t cors_preflight_lines(const struct conn *conn, const struct consumer *c,
                            const struct http_request *r, const char *methods,
                            char out[static CORS_LINES_MAX]) {
  const struct http_field *asked = http_find(r, "access-control-request-headers");
  const char *names = "content-type, authorization";
  size_t len = strlen(names), n = cors_lines(conn, c, r, out);
  if (n == 0) return 0;
  if (asked && is_names(http_text(r, asked->value), asked->value.len)) {
    names = http_text(r, asked->value);
    len = asked->value.len;
  }
  return n + (size_t)snprintf(out + n, CORS_LINES_MAX - n,
                              "Access-Control-Allow-Methods: %s\r\n"
                              "Access-Control-Allow-Headers: %.*s\r\n"
                              "Access-Control-Max-Age: 600\r\n",
                              methods, (int)len, names);
}
