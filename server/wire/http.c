/* SPDX-License-Identifier: MIT */
/* http.c -- bytes to HTTP/1.x requests, and response heads to bytes.
 *
 * A head is first scanned raw for its end. That scan sees what llhttp's callbacks cannot tell: bare
 * LF, folded lines, empty lines before the request, the request line's last word. Only a whole head
 * is handed to llhttp, in one piece, so every span is one span and no limit depends on how the
 * bytes arrived. A body with a length is counted here; a chunked one is read by chunks.c. */
#include "wire/http.h"

#include "base/mem.h"
#include "wire/authority.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#if LLHTTP_VERSION_MAJOR == 8 && LLHTTP_VERSION_MINOR == 1
#if !LLHTTP_STRICT_MODE
#error "llhttp 8.1 must be compiled with LLHTTP_STRICT_MODE=1"
#endif
#elif LLHTTP_VERSION_MAJOR != 9
#error "wire/http.c was checked against llhttp 8.1 and 9.2: go through its guards for another one"
#endif

enum {
  BLANK_MAX = 8,        /* empty lines before a request: four (RFC 9112 section 2.2 asks for one) */
  FRAMING_BASE = 16384, /* chunk sizes, extensions and trailers: this much ... */
  FRAMING_PER_BYTE = 16, /* ... and this much for each byte of body */
  LINE_EXTRA = 32,       /* of a request line, beside the target: method, version, spaces */
  KEEP_HEAD = 2048,      /* buffers up to this size survive a reset */
  KEEP_BODY = 4096,
};

/* ---- failing --------------------------------------------------------------------------------- */

static enum http_parse bad(struct http_parser *p, unsigned status, const char *reason) {
  p->phase = IN_ERROR;
  p->status = (uint16_t)status;
  p->reason = reason;
  return PARSE_BAD;
}

/* ---- llhttp's callbacks: they only take notes ------------------------------------------------ */

static struct http_span span_of(const struct http_parser *p, const char *at, size_t n) {
  return (struct http_span){(uint32_t)(at - p->request.base), (uint32_t)n};
}

static int on_url(llhttp_t *ll, const char *at, size_t n) {
  struct http_parser *p = ll->data;
  p->request.target = span_of(p, at, n);
  return 0;
}

static int on_field(llhttp_t *ll, const char *at, size_t n) {
  struct http_parser *p = ll->data;
  struct http_request *r = &p->request;
  if (n == 0) {
    bad(p, 400, "empty field name");
    return -1;
  }
  if (r->n_fields == HTTP_MAX_FIELDS) {
    bad(p, 431, "too many header fields");
    return -1;
  }
  r->fields[r->n_fields++].name = span_of(p, at, n);
  return 0;
}

static int on_value(llhttp_t *ll, const char *at, size_t n) {
  struct http_parser *p = ll->data;
  while (n && (at[n - 1] == ' ' || at[n - 1] == '\t')) n--;
  p->request.fields[p->request.n_fields - 1].value = span_of(p, at, n);
  return 0;
}

static int on_head_end(llhttp_t *ll) {
  (void)ll;
  return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_head_end,
};

/* ---- life ------------------------------------------------------------------------------------ */

void http_parser_init(struct http_parser *p, const struct http_limits *limits) {
  memset(p, 0, sizeof *p);
  http_parser_reset(p, limits);
}

void http_parser_fini(struct http_parser *p) {
  free(p->head);
  free(p->body);
  p->head = NULL;
  p->body = NULL;
}

void http_parser_reset(struct http_parser *p, const struct http_limits *limits) {
  p->limits = *limits;
  p->phase = IN_HEAD;
  p->status = 0;
  p->reason = NULL;
  memset(&p->request, 0, offsetof(struct http_request, fields));
  p->request.body = (const uint8_t *)""; /* never NULL: no reader has to look twice */
  p->request.body_len = 0;
  p->is_head_borrowed = p->is_body_borrowed = false;
  p->blank = p->line = p->scanned = 0;
  p->chunked = 0;
  p->head_used = 0;
  if (p->head_cap > KEEP_HEAD) {
    free(p->head);
    p->head = NULL;
    p->head_cap = 0;
  }
  if (p->body_cap > KEEP_BODY) {
    free(p->body);
    p->body = NULL;
    p->body_cap = 0;
  }
}

bool http_is_midway(const struct http_parser *p) {
  switch (p->phase) {
  case IN_HEAD: return p->head_used > 0;
  case IN_BODY:
  case IN_CHUNKS: return true;
  default: return false;
  }
}

static void head_append(struct http_parser *p, const char *data, size_t n) {
  if (p->head_used + n > p->head_cap) {
    p->head_cap = (p->head_used + (uint32_t)n) * 2;
    p->head = mem_realloc(p->head, p->head_cap);
  }
  memcpy(p->head + p->head_used, data, n);
  p->head_used += (uint32_t)n;
}

void http_keep(struct http_parser *p) {
  struct http_request *r = &p->request;
  if (p->is_head_borrowed) {
    p->head_used = 0;
    head_append(p, r->base, r->head_len);
    r->base = p->head;
    p->is_head_borrowed = false;
  }
  if (p->is_body_borrowed) {
    if (p->body_cap < r->body_len) {
      p->body_cap = r->body_len;
      p->body = mem_realloc(p->body, p->body_cap);
    }
    if (r->body_len) memcpy(p->body, r->body, r->body_len);
    r->body = p->body;
    p->is_body_borrowed = false;
  }
}

/* ---- fields ---------------------------------------------------------------------------------- */

bool http_span_is(const struct http_request *r, struct http_span span, const char *s) {
  size_t n = strlen(s);
  return span.len == n && strncasecmp(http_text(r, span), s, n) == 0;
}

const struct http_field *http_find(const struct http_request *r, const char *name) {
  for (uint32_t i = 0; i < r->n_fields; i++)
    if (http_span_is(r, r->fields[i].name, name)) return &r->fields[i];
  return NULL;
}

bool http_has_token(const struct http_request *r, struct http_span list, const char *token) {
  const char *s = http_text(r, list), *end = s + list.len;
  size_t n = strlen(token);
  while (s < end) {
    while (s < end && (*s == ' ' || *s == '\t' || *s == ',')) s++;
    const char *word = s;
    while (s < end && *s != ',') s++;
    const char *stop = s;
    while (stop > word && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
    if ((size_t)(stop - word) == n && strncasecmp(word, token, n) == 0) return true;
  }
  return false;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

/* Is the weight in a member's parameters, "; q=0.5", more than nothing? What is none counts as
 * nothing. */
static bool has_weight(const char *s, const char *end) {
  while (s < end && (is_blank(*s) || *s == ';')) s++;
  if (s == end) return true;
  if (end - s < 3 || (*s | 0x20) != 'q' || s[1] != '=') return false;
  bool has_digit = false;
  for (s += 2; s < end && !is_blank(*s); s++) {
    if ((*s < '0' || *s > '9') && *s != '.') return false;
    has_digit |= *s >= '1' && *s <= '9';
  }
  return has_digit;
}

bool http_accepts_gzip(const struct http_request *r) {
  bool is_listed = false, is_good = false, is_any = false;
  for (uint32_t i = 0; i < r->n_fields; i++) {
    if (!http_span_is(r, r->fields[i].name, "accept-encoding")) continue;
    const char *s = http_text(r, r->fields[i].value), *end = s + r->fields[i].value.len;
    while (s < end) {
      while (s < end && (is_blank(*s) || *s == ',')) s++;
      const char *word = s;
      while (s < end && *s != ',' && *s != ';' && !is_blank(*s)) s++;
      size_t n = (size_t)(s - word);
      const char *weight = s;
      while (s < end && *s != ',') s++;
      if ((n == 4 && strncasecmp(word, "gzip", 4) == 0) ||
          (n == 6 && strncasecmp(word, "x-gzip", 6) == 0)) {
        is_listed = true;
        is_good |= has_weight(weight, s);
      } else if (n == 1 && *word == '*') {
        is_any |= has_weight(weight, s);
      }
    }
  }
  return is_listed ? is_good : is_any;
}

/* A decimal number, UINT64_MAX when it is larger. False when there is no digit. */
static bool read_number(const char **s, const char *end, uint64_t *value) {
  const char *from = *s;
  *value = 0;
  for (; *s < end && **s >= '0' && **s <= '9'; ++*s) {
    unsigned digit = (unsigned)(**s - '0');
    *value = *value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *value * 10 + digit;
  }
  return *s > from;
}

enum http_range http_read_range(const char *s, size_t n, uint64_t size, uint64_t *from,
                                uint64_t *to) {
  const char *end = s + n;
  uint64_t first, last;
  if (n < 6 || strncasecmp(s, "bytes=", 6) != 0 || size == 0) return RANGE_ALL;
  for (s += 6; s < end && is_blank(*s); s++) {
  }
  while (end > s && is_blank(end[-1])) end--;
  bool has_first = read_number(&s, end, &first);
  if (s == end || *s++ != '-') return RANGE_ALL;
  bool has_last = read_number(&s, end, &last);
  if (s != end || (!has_first && !has_last)) return RANGE_ALL; /* several are not sent in parts */
  if (!has_first) {                                            /* the last `last` bytes */
    if (last == 0) return RANGE_NONE;
    *from = last < size ? size - last : 0;
    *to = size;
    return RANGE_PART;
  }
  if (has_last && last < first) return RANGE_ALL;
  if (first >= size) return RANGE_NONE;
  *from = first;
  *to = has_last && last < size - 1 ? last + 1 : size;
  return RANGE_PART;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

ptrdiff_t http_percent_decode(const char *s, size_t n, char *out) {
  char *w = out;
  for (size_t i = 0; i < n; i++) {
    if (s[i] != '%') {
      *w++ = s[i];
      continue;
    }
    if (i + 2 >= n) return -1;
    int high = hex_digit(s[i + 1]), low = hex_digit(s[i + 2]);
    if (high < 0 || low < 0) return -1;
    *w++ = (char)(high << 4 | low);
    i += 2;
  }
  return w - out;
}

/* ---- judging a head -------------------------------------------------------------------------- */

/* RFC 9112 section 3.2: which part of the target is the path; *host when it names one. False: no
 * valid form. */
static bool split_target(struct http_request *r, struct http_span *host) {
  const char *s = http_text(r, r->target);
  uint32_t n = r->target.len, at = 0;
  if (n == 1 && s[0] == '*') {
    r->path = r->target;
    return r->method == HTTP_OPTIONS;
  }
  if (s[0] != '/') { /* absolute-form: the path follows the authority */
    uint32_t scheme = n > 7 && strncasecmp(s, "http://", 7) == 0    ? 7
                      : n > 8 && strncasecmp(s, "https://", 8) == 0 ? 8
                                                                    : 0;
    if (scheme == 0) return false;
    at = scheme;
    while (at < n && s[at] != '/' && s[at] != '?' && s[at] != '#') at++;
    struct authority authority;
    *host = (struct http_span){r->target.off + scheme, at - scheme};
    if (!authority_parse(s + scheme, at - scheme, &authority)) return false;
  }
  uint32_t end = at;
  while (end < n && s[end] != '?') end++;
  r->path = (struct http_span){r->target.off + at, end - at};
  if (end == at) /* "http://host" means "/": any slash will do, and the scheme has one */
    r->path = (struct http_span){host->off - 1, 1};
  if (end < n) r->query = (struct http_span){r->target.off + end + 1, n - end - 1};
  for (uint32_t i = at; i < n; i++) {
    if (memchr("#\\<>\"", s[i], 5)) return false; /* never in a URI, and read in many ways */
    if (s[i] == '%') {
      if (i + 2 >= n || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0) return false;
      if (s[i + 1] == '0' && s[i + 2] == '0') return false; /* a NUL in a path is never meant */
    }
  }
  return true;
}

static enum http_parse judge(struct http_parser *p) {
  struct http_request *r = &p->request;
  struct authority at;
  unsigned hosts = 0, codings = 0;
  bool has_close = false, has_keep = false, has_other_coding = false;
  bool has_upgrade_token = false, has_upgrade_field = false;
  struct http_span target_host = {0};
  if (r->target.len > p->limits.target) return bad(p, 414, "request target over the limit");
  if (!split_target(r, &target_host)) return bad(p, 400, "malformed request target");
  for (uint32_t i = 0; i < r->n_fields; i++) {
    struct http_span name = r->fields[i].name, value = r->fields[i].value;
    switch (name.len) { /* few fields matter here: let their length sort out most of the others */
    case 4:
      if (http_span_is(r, name, "host")) {
        hosts++;
        r->host = value;
      }
      break;
    case 6:
      if (http_span_is(r, name, "expect")) {
        if (http_span_is(r, value, "100-continue"))
          r->expects_continue = true;
        else
          r->has_bad_expect = true;
      }
      break;
    case 7:
      if (http_span_is(r, name, "upgrade") && value.len) has_upgrade_field = true;
      break;
    case 10:
      if (http_span_is(r, name, "connection")) {
        has_close |= http_has_token(r, value, "close");
        has_keep |= http_has_token(r, value, "keep-alive");
        has_upgrade_token |= http_has_token(r, value, "upgrade");
      }
      break;
    case 17:
      if (http_span_is(r, name, "transfer-encoding")) {
        codings++;
        has_other_coding |= !http_span_is(r, value, "chunked");
      }
      break;
    default: break;
    }
  }
  if (hosts > 1) return bad(p, 400, "more than one Host");
  if (hosts == 0 && r->minor == 1) return bad(p, 400, "no Host");
  if (hosts == 1 && !authority_parse(http_text(r, r->host), r->host.len, &at)) {
    if (r->host.len || r->minor == 1) return bad(p, 400, "malformed Host");
  }
  if (target_host.len) r->host = target_host; /* RFC 9112 section 3.2.2 */
  if (codings && (p->ll.flags & F_CONTENT_LENGTH))
    return bad(p, 400, "Content-Length with Transfer-Encoding");
  if (has_other_coding) return bad(p, 501, "unknown transfer coding");
  if (codings > 1) return bad(p, 400, "more than one Transfer-Encoding");
  if (codings && r->minor == 0) return bad(p, 400, "Transfer-Encoding in HTTP/1.0");
  r->is_chunked = codings == 1;
  r->has_length = (p->ll.flags & F_CONTENT_LENGTH) != 0;
  r->content_length = r->has_length ? p->ll.content_length : 0;
  r->is_keep_alive = r->minor == 1 ? !has_close : has_keep && !has_close;
  r->is_upgrade = has_upgrade_token && has_upgrade_field;
  if (r->minor == 0) r->expects_continue = false; /* RFC 9110 section 10.1.1 */
  return PARSE_HEAD;
}

static enum http_parse from_llhttp(struct http_parser *p, llhttp_errno_t error) {
  if (p->phase == IN_ERROR) return PARSE_BAD; /* a callback has said what */
  if (error == HPE_INVALID_METHOD) return bad(p, 501, "unknown method");
  const char *why = llhttp_get_error_reason(&p->ll);
  return bad(p, 400, why && *why ? why : llhttp_errno_name(error));
}

/* The whole head lies at base: let llhttp take it apart. */
static enum http_parse parse_head(struct http_parser *p, const char *base, uint32_t n) {
  struct http_request *r = &p->request;
  r->base = base;
  r->head_len = n;
  llhttp_init(&p->ll, HTTP_REQUEST, &settings);
  p->ll.data = p;
  llhttp_errno_t error = llhttp_execute(&p->ll, base, n);
  /* anything but a pause exactly at the end of what the raw scan took for the head is trouble */
  if (error != HPE_PAUSED) return from_llhttp(p, error);
  if (p->phase == IN_ERROR) return PARSE_BAD;
  if (llhttp_get_error_pos(&p->ll) != base + n) return bad(p, 400, "head ends in the wrong place");
  r->method = p->ll.method;
  r->minor = p->ll.http_minor;
  enum http_parse result = judge(p);
  if (result != PARSE_HEAD) return result;
  if (r->is_chunked) {
    p->phase = IN_CHUNKS;
    chunks_begin(&p->chunks);
  } else {
    p->phase = IN_BODY;
  }
  return PARSE_HEAD;
}

/* The request line's end tells the version; llhttp alone would take RTSP/1.0 or none at all. And of
 * the methods all but this one are known to each of its versions, or to none. */
static enum http_parse check_request_line(struct http_parser *p, const char *line, size_t n) {
  if (n <= 9 || memcmp(line + n - 9, " HTTP/", 6) != 0 || line[n - 2] != '.')
    return bad(p, 400, "malformed request line");
  if (line[n - 3] != '1' || (line[n - 1] != '0' && line[n - 1] != '1'))
    return bad(p, 505, "HTTP version");
  if (memcmp(line, "QUERY", 5) == 0) return bad(p, 501, "unknown method");
  return PARSE_MORE;
}

/* Looks at head bytes [p->scanned, n). Returns PARSE_HEAD with *end set when the head is whole. */
static enum http_parse scan(struct http_parser *p, const char *s, size_t n, uint32_t *end) {
  size_t at = p->scanned;
  while (at < n) {
    const char *lf = memchr(s + at, '\n', n - at);
    if (!lf) {
      at = n;
      break;
    }
    size_t i = (size_t)(lf - s);
    /* before all else, as a line that comes in pieces is refused before its end is seen */
    if (p->line == 0 && i > p->limits.target + (size_t)LINE_EXTRA)
      return bad(p, 414, "request target over the limit");
    if (i == p->line || s[i - 1] != '\r') return bad(p, 400, "line ends without CR LF");
    if (i - p->line == 1) { /* CR LF alone: the end */
      *end = (uint32_t)i + 1;
      return PARSE_HEAD;
    }
    if (p->line == 0) {
      if (check_request_line(p, s, i - 1) == PARSE_BAD) return PARSE_BAD;
    } else if (s[p->line] == ' ' || s[p->line] == '\t') {
      return bad(p, 400, "folded header line");
    }
    p->line = (uint32_t)i + 1;
    at = i + 1;
  }
  p->scanned = (uint32_t)at;
  return PARSE_MORE;
}

static enum http_parse feed_head(struct http_parser *p, const char *data, size_t n, size_t *used) {
  size_t at = 0;
  if (p->head_used == 0) { /* no byte of the request line yet */
    while (at < n && (data[at] == '\r' || data[at] == '\n')) {
      bool is_lf = p->blank % 2;
      if ((data[at] == '\n') != is_lf) return bad(p, 400, "stray CR or LF before the request");
      if (++p->blank > BLANK_MAX) return bad(p, 400, "too many empty lines before the request");
      at++;
    }
    if (at == n) {
      *used = at;
      return PARSE_MORE;
    }
    if (p->blank % 2) return bad(p, 400, "stray CR before the request");
    /* refuse what cannot be a request at once: most often it is TLS or another protocol */
    if (data[at] < 'A' || data[at] > 'Z') return bad(p, 400, "not an HTTP request");
  }
  const char *base;
  size_t have;
  uint32_t before = p->head_used;
  if (before == 0) {
    base = data + at;
    have = n - at;
  } else {
    size_t room = (size_t)p->limits.head + 1 - before;
    head_append(p, data, n < room ? n : room);
    base = p->head;
    have = p->head_used;
  }
  uint32_t end = 0;
  size_t look = have <= p->limits.head ? have : (size_t)p->limits.head + 1;
  enum http_parse result = scan(p, base, look, &end);
  if (result == PARSE_BAD) return result;
  if (result == PARSE_HEAD && end <= p->limits.head) {
    p->is_head_borrowed = before == 0;
    if (before) p->head_used = end; /* what follows belongs to the body */
    *used = at + (end - before);
    return parse_head(p, base, end);
  }
  if (p->line == 0 && look > p->limits.target + (size_t)LINE_EXTRA)
    return bad(p, 414, "request target over the limit");
  if (look > p->limits.head) return bad(p, p->line == 0 ? 414 : 431, "request head over the limit");
  if (before == 0) head_append(p, base, have);
  *used = n;
  return PARSE_MORE;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static enum http_parse feed_body(struct http_parser *p, const char *data, size_t n, size_t *used) {
  struct http_request *r = &p->request;
  uint64_t left = r->content_length - r->body_len;
  size_t take = n < left ? n : (size_t)left;
  *used = take;
  if (take == r->content_length) { /* all of it in one piece (or none): lend it */
    if (take) r->body = (const uint8_t *)data;
    r->body_len = take;
    p->is_body_borrowed = take > 0;
    p->phase = AT_END;
    return PARSE_REQUEST;
  }
  if (r->body_len + take > p->body_cap) { /* grow with what came, not with what was announced */
    size_t cap = (r->body_len + take) * 2;
    p->body_cap = cap < r->content_length ? cap : (size_t)r->content_length;
    p->body = mem_realloc(p->body, p->body_cap);
  }
  if (take) memcpy(p->body + r->body_len, data, take);
  r->body = p->body;
  r->body_len += take;
  if (r->body_len < r->content_length) return PARSE_MORE;
  p->phase = AT_END;
  return PARSE_REQUEST;
}

/* With `taken` bytes more, are too many of the chunked ones no body? Asked where a run of body
 * begins and where the input ends, so that the answer does not depend on how the bytes were cut
 * into feeds. */
static bool is_padded(const struct http_parser *p, uint64_t taken) {
  uint64_t framing = p->chunked + taken - p->request.body_len;
  return framing > FRAMING_BASE + FRAMING_PER_BYTE * (uint64_t)p->request.body_len;
}

static void take_body(struct http_parser *p, const char *data, size_t n) {
  struct http_request *r = &p->request;
  if (r->body_len + n > p->body_cap) {
    p->body_cap = (r->body_len + n) * 2;
    p->body = mem_realloc(p->body, p->body_cap);
  }
  memcpy(p->body + r->body_len, data, n);
  r->body = p->body;
  r->body_len += n;
}

static enum http_parse feed_chunks(struct http_parser *p, const char *data, size_t n,
                                   size_t *used) {
  size_t at = 0;
  enum chunks_next next = CHUNKS_FRAMING;
  while (at < n && next != CHUNKS_END) {
    if (chunks_are_in_data(&p->chunks)) {
      size_t run = n - at < p->chunks.left ? n - at : (size_t)p->chunks.left;
      if (is_padded(p, at)) return bad(p, 413, "more chunk framing than body");
      take_body(p, data + at, run);
      chunks_skip(&p->chunks, run);
      at += run;
      continue;
    }
    next = chunks_feed(&p->chunks, (unsigned char)data[at++]);
    if (next == CHUNKS_BAD) return bad(p, p->chunks.status, p->chunks.reason);
    /* never add first: a chunk may announce 2^64 - 1 */
    if (next == CHUNKS_DATA && p->chunks.left > p->limits.body - p->request.body_len)
      return bad(p, 413, "chunked body over the limit");
  }
  if (is_padded(p, at)) return bad(p, 413, "more chunk framing than body");
  *used = at;
  p->chunked += at;
  if (next != CHUNKS_END) return PARSE_MORE;
  p->phase = AT_END;
  return PARSE_REQUEST;
}

enum http_parse http_feed(struct http_parser *p, const char *data, size_t n, size_t *used) {
  *used = 0;
  switch (p->phase) {
  case IN_HEAD: return feed_head(p, data, n, used);
  case IN_BODY:
    if (p->request.content_length > p->limits.body)
      return bad(p, 413, "announced body over the limit");
    return feed_body(p, data, n, used);
  case IN_CHUNKS: return n ? feed_chunks(p, data, n, used) : PARSE_MORE;
  case AT_END: return PARSE_REQUEST;
  default: return PARSE_BAD;
  }
}

/* ---- responses ------------------------------------------------------------------------------- */

const char *http_status_text(unsigned status) {
  switch (status) {
  case 100: return "Continue";
  case 101: return "Switching Protocols";
  case 200: return "OK";
  case 201: return "Created";
  case 202: return "Accepted";
  case 204: return "No Content";
  case 206: return "Partial Content";
  case 301: return "Moved Permanently";
  case 302: return "Found";
  case 303: return "See Other";
  case 304: return "Not Modified";
  case 307: return "Temporary Redirect";
  case 308: return "Permanent Redirect";
  case 400: return "Bad Request";
  case 401: return "Unauthorized";
  case 402: return "Payment Required";
  case 403: return "Forbidden";
  case 404: return "Not Found";
  case 405: return "Method Not Allowed";
  case 406: return "Not Acceptable";
  case 408: return "Request Timeout";
  case 409: return "Conflict";
  case 410: return "Gone";
  case 411: return "Length Required";
  case 412: return "Precondition Failed";
  case 413: return "Content Too Large";
  case 414: return "URI Too Long";
  case 415: return "Unsupported Media Type";
  case 416: return "Range Not Satisfiable";
  case 417: return "Expectation Failed";
  case 421: return "Misdirected Request";
  case 422: return "Unprocessable Content";
  case 426: return "Upgrade Required";
  case 428: return "Precondition Required";
  case 429: return "Too Many Requests";
  case 431: return "Request Header Fields Too Large";
  case 500: return "Internal Server Error";
  case 501: return "Not Implemented";
  case 502: return "Bad Gateway";
  case 503: return "Service Unavailable";
  case 504: return "Gateway Timeout";
  case 505: return "HTTP Version Not Supported";
  default: return "";
  }
}

static void put_uint(struct builder *b, uint64_t v) {
  char digits[20];
  size_t n = sizeof digits;
  do digits[--n] = (char)('0' + v % 10);
  while (v /= 10);
  builder_add(b, digits + n, sizeof digits - n);
}

void http_write_head(struct builder *b, const struct http_response *response) {
  if (response->status == 200) {
    builder_add(b, "HTTP/1.1 200 OK\r\nDate: ", 23);
  } else {
    builder_add(b, "HTTP/1.1 ", 9);
    put_uint(b, response->status);
    builder_byte(b, ' ');
    builder_text(b, http_status_text(response->status));
    builder_add(b, "\r\nDate: ", 8);
  }
  builder_add(b, response->date, 29);
  if (response->content_type) {
    builder_add(b, "\r\nContent-Type: ", 16);
    builder_add(b, response->content_type, response->content_type_len);
  }
  if (response->content_length >= 0) {
    builder_add(b, "\r\nContent-Length: ", 18);
    put_uint(b, (uint64_t)response->content_length);
  }
  if (response->status == 101)
    builder_add(b, "\r\nConnection: Upgrade", 21);
  else if (!response->is_keep_alive)
    builder_add(b, "\r\nConnection: close", 19);
  else if (response->is_http_1_0)
    builder_add(b, "\r\nConnection: keep-alive", 24);
  builder_add(b, "\r\n", 2);
  if (response->extra_len) builder_add(b, response->extra, response->extra_len);
  builder_add(b, "\r\n", 2);
}

void http_date(int64_t seconds, char out[static 30]) {
  static const char days[] = "SunMonTueWedThuFriSat";
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  struct tm tm;
  time_t t = (time_t)seconds;
  gmtime_r(&t, &tm);
  /* strftime would follow the locale */
  snprintf(out, 30, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", days + 3 * tm.tm_wday,
           (unsigned)tm.tm_mday % 100, months + 3 * tm.tm_mon,
           (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
           (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}
