/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HTTP_H
#define PERIGEE_HTTP_H

#include "base/buf.h"
#include "wire/chunks.h"

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* http.c -- bytes to HTTP/1.x requests (RFC 9112), and response heads to bytes.
 *
 * llhttp reads the grammar of heads. What its versions let through is refused here, whichever of
 * them it is (8.1 in Debian 12, 9.2 in Debian 13): folded and bare-LF lines, a missing or second
 * Host, codings other than chunked, versions other than 1.0 and 1.1, and anything without a limit.
 * A request is either clear to every HTTP implementation or answered with
 * an error, after which the connection must close.
 *
 * Pure: no clock, no sockets. One parser serves one request at a time; not for several threads. */

/* Bytes [off, off + len) of the request's head. len 0 with off 0: not there. */
struct http_span {
  uint32_t off;
  uint32_t len;
};

struct http_field {
  struct http_span name;
  struct http_span value; /* without white space around it */
};

enum { HTTP_MAX_FIELDS = 100 };

struct http_limits {
  uint32_t head;   /* request line and fields, bytes: 431 */
  uint32_t target; /* request target, bytes: 414 */
  uint64_t body;   /* body without chunk framing, bytes: 413 */
};

struct http_request {
  const char *base;  /* the head's first byte; spans count from here */
  uint32_t head_len; /* with the empty line that ends it */
  uint8_t method;    /* enum llhttp_method */
  uint8_t minor;     /* HTTP/1.minor: 0 or 1 */
  bool is_keep_alive;
  bool is_upgrade;         /* Connection: upgrade and an Upgrade field */
  bool is_chunked;         /* Transfer-Encoding: chunked */
  bool has_length;         /* Content-Length */
  bool expects_continue;   /* Expect: 100-continue */
  bool has_bad_expect;     /* any other Expect */
  uint64_t content_length; /* as announced; 0 when not */
  struct http_span target;
  struct http_span path;  /* of the target, still percent-encoded; "*" for OPTIONS * */
  struct http_span query; /* after the '?', len 0 when none */
  struct http_span host;  /* an absolute target's, else the Host field's; with its port */
  uint32_t n_fields;
  struct http_field fields[HTTP_MAX_FIELDS];
  const uint8_t *body; /* decoded; complete once PARSE_REQUEST was returned */
  size_t body_len;
};

enum http_parse {
  PARSE_MORE,    /* all input used, feed more */
  PARSE_HEAD,    /* the head is there, judge it; feed again for the body */
  PARSE_REQUEST, /* head and body are there */
  PARSE_BAD,     /* see http_parser.status and .reason; answer and close */
};

struct http_parser {
  llhttp_t ll;
  struct http_limits limits; /* body may be changed after PARSE_HEAD */
  enum { IN_HEAD, IN_BODY, IN_CHUNKS, AT_END, IN_ERROR } phase;
  uint16_t status;    /* after PARSE_BAD: 400 413 414 431 501 505 */
  const char *reason; /* after PARSE_BAD: static text for the log */
  struct http_request request;
  bool is_head_borrowed; /* request.base points into the caller's memory */
  bool is_body_borrowed; /* request.body does */
  uint32_t blank;        /* bytes of empty lines before the request line */
  uint32_t line;         /* raw scan: where the line in progress begins */
  uint32_t scanned;      /* raw scan: bytes looked at */
  struct chunks chunks;
  uint64_t chunked; /* chunked: bytes taken since the head, body and framing */
  char *head;       /* owned: head bytes that outlive a feed */
  uint32_t head_used, head_cap;
  uint8_t *body; /* owned: body bytes that outlive a feed */
  size_t body_cap;
};

void http_parser_init(struct http_parser *p, const struct http_limits *limits);
void http_parser_fini(struct http_parser *p);
/* Ready for the next request on the same connection; keeps small buffers. */
void http_parser_reset(struct http_parser *p, const struct http_limits *limits);

/* Reads from data; *used says how many bytes. Request memory may point into data until http_keep
 * or http_parser_reset. Bytes after a PARSE_REQUEST belong to the next request, or, when the
 * request is an upgrade that is accepted, to the new protocol. */
enum http_parse http_feed(struct http_parser *p, const char *data, size_t n, size_t *used);

/* Copies what still points into the data last fed: call before that memory goes. */
void http_keep(struct http_parser *p);

/* True between a request's first byte and its end: an end of input now cuts it short. */
bool http_is_midway(const struct http_parser *p);

/* First field of that name (lower case), or NULL. */
const struct http_field *http_find(const struct http_request *r, const char *name);
static inline const char *http_text(const struct http_request *r, struct http_span s) {
  return r->base + s.off;
}
/* Is `token` (lower case) in this field's comma-separated list? */
bool http_has_token(const struct http_request *r, struct http_span list, const char *token);
/* May an answer to this request have the content coding gzip (RFC 9110 section 12.5.3)? */
bool http_accepts_gzip(const struct http_request *r);

/* Bytes of something that a Range field asks for (RFC 9110 section 14.2). */
enum http_range {
  RANGE_ALL,  /* none, several, or none that is understood: then all is sent */
  RANGE_PART, /* [*from, *to) */
  RANGE_NONE, /* beyond the end: 416 */
};
/* s, n: the field's value; size: of all of it. */
enum http_range http_read_range(const char *s, size_t n, uint64_t size, uint64_t *from,
                                uint64_t *to);

/* Does the span equal s, ASCII letters compared without case? */
bool http_span_is(const struct http_request *r, struct http_span span, const char *s);

/* Percent-decodes into out (room for n). Returns the length, or -1 for a malformed escape. */
ptrdiff_t http_percent_decode(const char *s, size_t n, char *out);

const char *http_status_text(unsigned status); /* "Not Found"; "" for an unknown one */

struct http_response {
  unsigned status;
  const char *date;         /* IMF-fixdate */
  const char *content_type; /* NULL: no Content-Type */
  size_t content_type_len;
  int64_t content_length; /* -1: none (204, 304, 101) */
  bool is_keep_alive;
  bool is_http_1_0;  /* the request was: keep-alive must be said */
  const char *extra; /* whole lines "Name: value\r\n", or NULL; checked by whoever made them */
  size_t extra_len;
};

/* Appends the head, with the empty line, to the message in progress. */
void http_write_head(struct builder *b, const struct http_response *response);

/* Formats seconds since the epoch as IMF-fixdate (RFC 9110 section 5.6.7). out: 30 bytes. */
void http_date(int64_t seconds, char out[static 30]);

#endif
