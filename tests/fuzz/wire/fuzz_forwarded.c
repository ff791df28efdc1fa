/* SPDX-License-Identifier: MIT */
/* fuzz_forwarded.c -- any claim of a client's: what a proxy adds to its right is what counts. */
#include "../fuzz.h"

#include "wire/authority.h"
#include "wire/forwarded.h"

static const struct http_limits limits = {.head = 16384, .target = 8192, .body = 0};
static const char proxy[] = "127.0.0.1";

static struct forwarded read_fields(struct http_parser *p, const char *name, const uint8_t *claim,
                                    size_t n, const char *added, enum forwarded_fields mode,
                                    bool *is_request) {
  static const char first[] = "GET / HTTP/1.1\r\nHost: inner\r\n";
  struct told head = {0};
  struct network trusted;
  struct forwarded f = {.address = "127.0.0.1", .port = 9};
  size_t used;
  tell_text(&head, first);
  tell_text(&head, name);
  tell(&head, claim, n);
  tell_text(&head, added);
  tell_text(&head, "\r\n\r\n");
  char *bytes = exact_copy(head.text, head.n);
  http_parser_init(p, &limits);
  *is_request = http_feed(p, bytes, head.n, &used) == PARSE_HEAD && used == head.n;
  http_keep(p);
  free(bytes);
  free(head.text);
  if (!*is_request) return f;
  check(network_parse(proxy, strlen(proxy), &trusted));
  struct forwarding from = {.trusted = &trusted, .n_trusted = 1, .fields = mode};
  f.host = http_text(&p->request, p->request.host);
  f.host_len = p->request.host.len;
  struct forwarded before = f;
  check(!forwarded_read(&from, &p->request, "192.0.2.9", &f)); /* a stranger is not heard */
  check(memcmp(&before, &f, sizeof f) == 0);
  check(forwarded_read(&from, &p->request, proxy, &f));
  struct ip ip;
  check(ip_parse(f.address, strlen(f.address), &ip));
  check(f.port <= 65535 && f.scheme <= SCHEME_HTTPS);
  struct authority at;
  check(authority_parse(f.host, f.host_len, &at));
  return f;
}

static bool is_text(const struct forwarded *f, const char *host) {
  return f->host_len == strlen(host) && memcmp(f->host, host, f->host_len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct http_parser p;
  struct forwarded f;
  bool is_request;
  if (n > 8000) return 0;
  bool is_one_field = !n || !memchr(data, '\n', n); /* else what is added is added to another */

  f = read_fields(&p, "X-Forwarded-For: ", data, n, "", FORWARDED_ANY, &is_request);
  http_parser_fini(&p);
  f = read_fields(&p, "X-Forwarded-For: ", data, n, ", 203.0.113.7:1", FORWARDED_ANY, &is_request);
  if (is_request && is_one_field) check(strcmp(f.address, "203.0.113.7") == 0 && f.port == 1);
  http_parser_fini(&p);

  f = read_fields(&p, "Forwarded: ", data, n, "", FORWARDED_RFC_7239, &is_request);
  http_parser_fini(&p);
  f = read_fields(&p, "Forwarded: ", data, n,
                  ", for=\"203.0.113.7:1\";proto=https;host=outer.example", FORWARDED_RFC_7239,
                  &is_request);
  if (!is_one_field) is_request = false;
  if (is_request && strcmp(f.address, "203.0.113.7") == 0) {
    check(f.port == 1 && f.scheme == SCHEME_HTTPS && is_text(&f, "outer.example"));
  } else if (is_request) { /* a quote was left open: then nothing is believed */
    check(strcmp(f.address, proxy) == 0 && f.port == 9);
    check(f.scheme == SCHEME_UNKNOWN && is_text(&f, "inner"));
    check(memchr(data, '"', n));
  }
  http_parser_fini(&p);
  return 0;
}
