/* SPDX-License-Identifier: MIT */
/* fuzz_http.c -- any bytes: the same requests however they arrive, nothing unclear, memory bounded.
 */
#include "../fuzz.h"

#include "wire/handshake.h"
#include "wire/http.h"

/* Small, so that a short input reaches them. */
static const struct http_limits limits = {.head = 600, .target = 100, .body = 200};

static void tell_span(struct told *t, const struct http_request *r, struct http_span s) {
  check(s.len == 0 || (s.off <= r->head_len && s.len <= r->head_len - s.off));
  tell_number(t, s.len);
  tell(t, http_text(r, s), s.len);
  tell_text(t, "\n");
}

static bool has_control(const struct http_request *r, struct http_span s) {
  for (uint32_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)http_text(r, s)[i];
    if ((c < 0x20 && c != '\t') || c == 0x7F) return true;
  }
  return false;
}

/* What a request promises to whoever answers it. */
static void look_at(struct told *t, const struct http_request *r) {
  check(r->head_len <= limits.head && r->target.len <= limits.target);
  check(r->minor <= 1 && r->n_fields <= HTTP_MAX_FIELDS);
  check(!(r->is_chunked && r->has_length)); /* one framing, or none */
  check(!(r->is_chunked && r->minor == 0));
  check(r->has_length || r->content_length == 0);
  check(r->minor == 0 || r->host.len > 0);
  check(r->path.len > 0);
  char first = *http_text(r, r->path);
  check(first == '/' || (first == '*' && r->path.len == 1 && r->method == HTTP_OPTIONS));
  check(!memchr(http_text(r, r->target), ' ', r->target.len));
  char decoded[200];
  check(http_percent_decode(http_text(r, r->path), r->path.len, decoded) >= 0);
  check(!has_control(r, r->target));
  unsigned hosts = 0;
  for (uint32_t i = 0; i < r->n_fields; i++) {
    struct http_span name = r->fields[i].name, value = r->fields[i].value;
    check(name.len > 0 && !has_control(r, name) && !has_control(r, value));
    check(!memchr(http_text(r, name), ' ', name.len) && !memchr(http_text(r, name), ':', name.len));
    if (value.len) { /* trimmed */
      const char *s = http_text(r, value);
      check(s[0] != ' ' && s[0] != '\t' && s[value.len - 1] != ' ' && s[value.len - 1] != '\t');
    }
    uint64_t from = 0, to = 0;
    enum http_range range = http_read_range(http_text(r, value), value.len, 1000, &from, &to);
    check(range != RANGE_PART || (from < to && to <= 1000));
    hosts += http_span_is(r, name, "host");
    tell_span(t, r, name);
    tell_span(t, r, value);
  }
  check(hosts == 1 || (hosts == 0 && r->minor == 0));
  const char *reason = NULL;
  if (handshake_is_wanted(r)) {
    char accept[HANDSHAKE_ACCEPT_LEN + 1];
    unsigned status = handshake_judge(r, &reason);
    check(status == 101 || reason);
    if (status == 101) {
      check(!r->is_chunked && r->content_length == 0 && r->minor == 1);
      handshake_accept(r, accept);
      tell_text(t, accept);
    }
    tell_number(t, status);
    tell_number(t, handshake_offers(r, "jsonrpc"));
  }
  tell_span(t, r, r->target);
  tell_span(t, r, r->path);
  tell_span(t, r, r->query);
  tell_span(t, r, r->host);
  tell_number(t, http_accepts_gzip(r));
  tell_number(t, r->method);
  tell_number(t, r->minor);
  tell_number(t, r->is_keep_alive);
  tell_number(t, r->is_upgrade);
  tell_number(t, r->is_chunked);
  tell_number(t, r->expects_continue);
  tell_number(t, r->has_bad_expect);
  tell_number(t, r->content_length);
}

static struct told feed(const uint8_t *data, size_t n, enum cut cut) {
  struct pieces pieces = pieces_of(cut, data, n);
  struct told t = {0};
  struct http_parser *p = mem_alloc(sizeof *p);
  bool is_over = false;
  http_parser_init(p, &limits);
  for (size_t at = 0; at < n && !is_over;) {
    size_t size = next_piece(&pieces, n - at), left = size, used;
    char *piece = exact_copy(data + at, size), *s = piece;
    at += size;
    for (bool is_done = false; !is_done;) {
      enum http_parse result = http_feed(p, s, left, &used);
      check(used <= left);
      check(p->head_cap <= 2 * (limits.head + 1) && p->body_cap <= 2 * limits.body);
      s += used;
      left -= used;
      switch (result) {
      case PARSE_MORE:
        check(left == 0);
        is_done = true;
        break;
      case PARSE_HEAD:
        tell_text(&t, "head ");
        look_at(&t, &p->request);
        if (pieces.seed & 1) http_keep(p); /* allowed at any time */
        break;
      case PARSE_REQUEST:
        tell_text(&t, "request ");
        look_at(&t, &p->request);
        check(p->request.body && p->request.body_len <= limits.body);
        if (!p->request.is_chunked) check(p->request.body_len == p->request.content_length);
        tell(&t, p->request.body, p->request.body_len);
        http_parser_reset(p, &limits);
        is_done = left == 0;
        break;
      case PARSE_BAD:
        check(p->status == 400 || p->status == 413 || p->status == 414 || p->status == 431 ||
              p->status == 501 || p->status == 505);
        check(p->reason && *p->reason);
        tell_text(&t, "bad ");
        tell_number(&t, p->status);
        check(http_feed(p, "x", 1, &used) == PARSE_BAD);
        is_done = is_over = true;
        break;
      }
    }
    http_keep(p); /* the piece goes now */
    free(piece);
  }
  tell_number(&t, http_is_midway(p));
  http_parser_fini(p);
  free(p);
  return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct told whole = feed(data, n, CUT_NOT);
  for (enum cut cut = CUT_ALL; cut < CUTS; cut++) {
    struct told other = feed(data, n, cut);
    check(is_told_same(&whole, &other));
    free(other.text);
  }
  free(whole.text);
  return 0;
}
