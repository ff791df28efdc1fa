/* SPDX-License-Identifier: MIT */
/* test_http.c -- a request is clear to everybody or refused, however its bytes arrive. */
#include "../unit.h"

#include "wire/http.h"

#include <time.h>

static const struct http_limits usual = {.head = 16384, .target = 8192, .body = 1 << 20};

/* ---- feeding --------------------------------------------------------------------------------- */

/* What came of some bytes. */
struct outcome {
  unsigned status; /* 0, or what PARSE_BAD said */
  const char *reason;
  unsigned requests; /* whole ones */
  bool is_midway;    /* an end of input now would cut a request short */
  size_t len, cap;
  char *text; /* all that is known of the requests, to be compared; NUL-terminated */
};

static void put(struct outcome *o, const char *s, size_t n) {
  if (o->len + n + 1 > o->cap) {
    o->cap = (o->len + n + 1) * 2;
    o->text = realloc(o->text, o->cap);
    assert_non_null(o->text);
  }
  if (n) memcpy(o->text + o->len, s, n);
  o->len += n;
  o->text[o->len] = '\0';
}

static void put_text(struct outcome *o, const char *s) {
  put(o, s, strlen(s));
}

static void put_span(struct outcome *o, const char *what, const struct http_request *r,
                     struct http_span s) {
  put_text(o, what);
  put(o, http_text(r, s), s.len);
}

/* "POST target=/a?b path=/a query=b host=h 1.1 keep chunked length=3\n  name: value\n" */
static void put_head(struct outcome *o, const struct http_request *r) {
  char number[64];
  put_text(o, llhttp_method_name((llhttp_method_t)r->method));
  put_span(o, " target=", r, r->target);
  put_span(o, " path=", r, r->path);
  put_span(o, " query=", r, r->query);
  put_span(o, " host=", r, r->host);
  put_text(o, r->minor ? " 1.1" : " 1.0");
  put_text(o, r->is_keep_alive ? " keep" : " close");
  if (r->is_upgrade) put_text(o, " upgrade");
  if (r->is_chunked) put_text(o, " chunked");
  if (r->expects_continue) put_text(o, " continue");
  if (r->has_bad_expect) put_text(o, " expect?");
  snprintf(number, sizeof number, " length=%llu", (unsigned long long)r->content_length);
  if (r->has_length) put_text(o, number);
  snprintf(number, sizeof number, " head=%u\n", r->head_len);
  put_text(o, number);
  for (uint32_t i = 0; i < r->n_fields; i++) {
    put_span(o, "  ", r, r->fields[i].name);
    put_span(o, ": ", r, r->fields[i].value);
    put_text(o, "\n");
  }
}

/* Feeds pieces of these sizes, the last size again and again; each piece lies in memory of its own,
 * which is gone when the next one comes. */
static struct outcome feed_pieces(const char *bytes, size_t n, const struct http_limits *limits,
                                  size_t first, size_t others) {
  struct http_parser *p = malloc(sizeof *p); /* on the heap its end is guarded */
  struct outcome o = {0};
  size_t at = 0, size = first;
  assert_non_null(p);
  put_text(&o, "");
  http_parser_init(p, limits);
  while (at < n && !o.status) {
    size_t left = n - at < size ? n - at : size;
    char *piece = exact_copy(bytes + at, left), *s = piece;
    at += left;
    size = others;
    for (bool is_done = false; !is_done;) {
      size_t used;
      enum http_parse result = http_feed(p, s, left, &used);
      assert_true(used <= left);
      s += used;
      left -= used;
      /* memory follows what came, not what was announced */
      assert_true(p->head_cap <= 2 * (limits->head + 1));
      assert_true(p->body_cap <= 2 * limits->body + 1);
      switch (result) {
      case PARSE_MORE:
        assert_int_equal(left, 0);
        is_done = true;
        break;
      case PARSE_HEAD:
        assert_true(http_is_midway(p));
        put_text(&o, "HEAD ");
        put_head(&o, &p->request);
        break;
      case PARSE_REQUEST:
        assert_false(http_is_midway(p));
        assert_int_equal(http_feed(p, s, left, &used), PARSE_REQUEST); /* until it is reset */
        assert_int_equal(used, 0);
        http_keep(p);
        put_text(&o, "REQUEST ");
        put_head(&o, &p->request);
        put(&o, (const char *)p->request.body, p->request.body_len);
        put_text(&o, "\n");
        o.requests++;
        http_parser_reset(p, limits);
        is_done = left == 0;
        break;
      case PARSE_BAD:
        o.status = p->status;
        o.reason = p->reason;
        assert_true(p->status >= 400 && p->status <= 505);
        assert_true(p->reason && *p->reason);
        assert_int_equal(http_feed(p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27, &used), PARSE_BAD);
        is_done = true;
        break;
      }
    }
    http_keep(p);
    free(piece);
  }
  o.is_midway = http_is_midway(p);
  http_parser_fini(p);
  free(p);
  return o;
}

static void assert_same_outcome(const struct outcome *a, const struct outcome *b, size_t cut) {
  if (a->status != b->status || a->requests != b->requests || a->is_midway != b->is_midway ||
      a->len != b->len || memcmp(a->text, b->text, a->len) != 0)
    fail_msg("cut at %zu: %u requests, %u (%s), midway %d, instead of %u, %u (%s), %d\n%s\n---\n%s",
             cut, b->requests, b->status, b->reason ? b->reason : "", b->is_midway, a->requests,
             a->status, a->reason ? a->reason : "", a->is_midway, b->text, a->text);
}

/* Whole, byte by byte, and in two pieces at every place (or some, when there are thousands): the
 * outcome must not depend on it. */
static struct outcome feed_every_way(const char *bytes, size_t n,
                                     const struct http_limits *limits) {
  struct outcome whole = feed_pieces(bytes, n, limits, n ? n : 1, 1);
  struct outcome other = feed_pieces(bytes, n, limits, 1, 1);
  assert_same_outcome(&whole, &other, 1);
  free(other.text);
  for (size_t cut = 1; cut < n; cut += n < 3000 ? 1 : n / 40 + 1) {
    other = feed_pieces(bytes, n, limits, cut, n);
    assert_same_outcome(&whole, &other, cut);
    free(other.text);
  }
  return whole;
}

/* ---- what is accepted, what is refused ------------------------------------------------------- */

#define H        "Host: h\r\n"
#define GET      "GET / HTTP/1.1\r\n"
#define POST     "POST / HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED  "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
#define NEXT     "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
#define BYTES(s) s, sizeof(s) - 1

static const struct {
  const char *what, *bytes;
  size_t n;
  unsigned status;   /* 0: no error */
  unsigned requests; /* whole ones before the error or the end */
} cases[] = {
    /* plain */
    {"get", BYTES(GET H "\r\n"), 0, 1},
    {"two in a row", BYTES(GET H "\r\n" NEXT), 0, 2},
    {"body by length", BYTES(POST "Content-Length: 5\r\n\r\nhello" NEXT), 0, 2},
    {"empty body", BYTES(POST "Content-Length: 0\r\n\r\n" NEXT), 0, 2},
    {"no body at all", BYTES(POST "\r\n" NEXT), 0, 2},
    {"head only half there", BYTES("GET / HTTP/1.1\r\nHo"), 0, 0},
    {"body only half there", BYTES(POST "Content-Length: 5\r\n\r\nhel"), 0, 0},
    {"value without white space", BYTES("GET / HTTP/1.1\r\nHost:h\r\nA:b\r\n\r\n"), 0, 1},
    {"white space around a value", BYTES(GET H "A: \t b c \t \r\n\r\n"), 0, 1},
    {"empty value", BYTES(GET H "A:\r\nB: \r\nC: x\r\n\r\n"), 0, 1},
    {"bytes over 0x7f in a value", BYTES(GET H "A: \xff\xc3\xa9\r\n\r\n"), 0, 1},

    /* what llhttp 8.1 lets through unless its strict mode is compiled in */
    {"empty value ended by a bare CR", BYTES(GET H "X:\ry\r\n\r\n"), 400, 0},
    {"empty value, CR, the next field", BYTES(GET H "X:\rContent-Length: 5\r\n\r\nhello"), 400, 0},
    {"head ended by CR and any byte", BYTES(GET H "\rz" NEXT), 400, 0},
    {"head ended by CR and a new request", BYTES(GET H "\r" NEXT), 400, 0},
    {"trailers ended by CR and any byte", BYTES(CHUNKED "0\r\nT: v\r\n\rz" NEXT), 400, 0},
    {"chunks ended by CR and any byte", BYTES(CHUNKED "0\r\n\rz" NEXT), 400, 0},
    {"chunk size ended by CR and any byte", BYTES(CHUNKED "5\rXhello\r\n0\r\n\r\n"), 400, 0},
    {"chunk extension ended by CR and any byte", BYTES(CHUNKED "5;a\rXhello\r\n0\r\n\r\n"), 400, 0},
    {"chunk data ended by any two bytes", BYTES(CHUNKED "5\r\nhelloXX0\r\n\r\n"), 400, 0},
    {"chunk data ended by LF", BYTES(CHUNKED "5\r\nhello\n0\r\n\r\n"), 400, 0},
    {"chunk data ended by CR and any byte", BYTES(CHUNKED "5\r\nhello\rX0\r\n\r\n"), 400, 0},
    {"space before the colon", BYTES(GET H "Name : v\r\n\r\n"), 400, 0},
    {"space in a name", BYTES(GET H "Na me: v\r\n\r\n"), 400, 0},
    {"space before Host's colon", BYTES("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), 400, 0},
    {"TAB in the target", BYTES("GET /a\tb HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"FF in the target", BYTES("GET /a\fb HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"0x80 in the target", BYTES("GET /a\x80 HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"UTF-8 in the target", BYTES("GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n"), 400, 0},

    /* what llhttp refuses anyhow */
    {"bare CR in a value", BYTES(GET H "A: b\rc\r\n\r\n"), 400, 0},
    {"bare CR after the request line", BYTES("GET / HTTP/1.1\rHost: h\r\n\r\n"), 400, 0},
    {"bare CR in the target", BYTES("GET /a\rb HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"bare LF after a field", BYTES("GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n"), 400, 0},
    {"bare LF hides a length", BYTES(POST "A: b\nContent-Length: 5\r\n\r\nhello"), 400, 0},
    {"space before the first field", BYTES("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), 400, 0},
    {"TAB before the first field", BYTES("GET / HTTP/1.1\r\n\tHost: h\r\n\r\n"), 400, 0},
    {"Content-Length and a space", BYTES(POST "Content-Length : 5\r\n\r\nhello"), 400, 0},
    {"Transfer-Encoding and a space", BYTES(POST "Transfer-Encoding : chunked\r\n\r\n"), 400, 0},
    {"TAB before the colon", BYTES(POST "Content-Length\t: 5\r\n\r\nhello"), 400, 0},
    {"NUL in a value", BYTES(GET H "A: b\0c\r\n\r\n"), 400, 0},
    {"NUL in a name", BYTES(GET H "A\0: b\r\n\r\n"), 400, 0},
    {"control character in a value", BYTES(GET H "A: b\x01\r\n\r\n"), 400, 0},
    {"DEL in a value", BYTES(GET H "A: b\x7f\r\n\r\n"), 400, 0},
    {"byte over 0x7f in a name", BYTES(GET H "\xc3\xa9: b\r\n\r\n"), 400, 0},
    {"field without a colon", BYTES(GET H "name\r\n\r\n"), 400, 0},
    {"brackets in a name", BYTES(GET H "a[b]: c\r\n\r\n"), 400, 0},
    {"length and chunked", BYTES(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
     400, 0},
    {"chunked and length", BYTES(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
     400, 0},
    {"length twice", BYTES(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), 400, 0},
    {"two lengths", BYTES(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), 400, 0},
    {"list of lengths", BYTES(POST "Content-Length: 5, 5\r\n\r\nhello"), 400, 0},
    {"signed length", BYTES(POST "Content-Length: +5\r\n\r\nhello"), 400, 0},
    {"negative length", BYTES(POST "Content-Length: -5\r\n\r\nhello"), 400, 0},
    {"hex length", BYTES(POST "Content-Length: 0x5\r\n\r\nhello"), 400, 0},
    {"empty length", BYTES(POST "Content-Length:\r\n\r\n"), 400, 0},
    {"blank length", BYTES(POST "Content-Length: \r\n\r\n"), 400, 0},
    {"length with a space inside", BYTES(POST "Content-Length: 5 5\r\n\r\n"), 400, 0},
    {"length over 64 bits", BYTES(POST "Content-Length: 18446744073709551616\r\n\r\n"), 400, 0},
    {"length with a point", BYTES(POST "Content-Length: 5.0\r\n\r\n"), 400, 0},
    {"length and white space behind", BYTES(POST "Content-Length: 5  \r\n\r\nhello"), 0, 1},

    /* what llhttp lets through: wire/http.c must refuse it */
    {"bare LF after the request line", BYTES("GET / HTTP/1.1\nHost: h\r\n\r\n"), 400, 0},
    {"LF alone ends the head", BYTES(GET H "\n" NEXT), 400, 0},
    {"only LFs", BYTES("GET / HTTP/1.1\nHost: h\n\n"), 400, 0},
    {"folded line", BYTES(GET H "A: b\r\n c\r\n\r\n"), 400, 0},
    {"folded line, TAB", BYTES(GET H "A: b\r\n\tc\r\n\r\n"), 400, 0},
    {"folded length", BYTES(POST "A: b\r\n Content-Length: 5\r\n\r\n" NEXT), 400, 0},
    {"fold after an empty value", BYTES(GET H "A:\r\n b\r\n\r\n"), 400, 0},
    {"fold with nothing in it", BYTES(GET H "A: b\r\n \r\n\r\n"), 400, 0},
    {"folded chunked", BYTES(POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), 400, 0},
    {"empty name", BYTES(GET H ": v\r\n\r\n"), 400, 0},
    {"length of 2^64 - 1", BYTES(POST "Content-Length: 18446744073709551615\r\n\r\nx"), 413, 0},
    {"length of 2^63", BYTES(POST "Content-Length: 9223372036854775808\r\n\r\nx"), 413, 0},
    {"length and other coding", BYTES(POST "Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\n"),
     400, 0},
    {"length and no coding", BYTES(POST "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\n"), 400, 0},
    {"other coding", BYTES(POST "Transfer-Encoding: xchunked\r\n\r\n"), 501, 0},
    {"other coding behind", BYTES(POST "Transfer-Encoding: chunkedx\r\n\r\n"), 501, 0},
    {"coding in quotes", BYTES(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), 501, 0},
    {"coding with a parameter", BYTES(POST "Transfer-Encoding: chunked;a=b\r\n\r\n"), 501, 0},
    {"identity", BYTES(POST "Transfer-Encoding: identity\r\n\r\n"), 501, 0},
    {"chunked not last", BYTES(POST "Transfer-Encoding: chunked, gzip\r\n\r\n"), 400, 0},
    {"chunked twice in one", BYTES(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), 400, 0},
    {"chunked on two lines",
     BYTES(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400,
     0},
    {"chunked then identity",
     BYTES(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), 400, 0},
    {"empty coding", BYTES(POST "Transfer-Encoding:\r\n\r\n" NEXT), 501, 0},
    {"empty coding and a length",
     BYTES(POST "Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello"), 400, 0},
    {"gzip, chunked", BYTES(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501, 0},
    {"comma, chunked", BYTES(POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"), 501, 0},
    {"chunked, comma", BYTES(POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), 400, 0},
    {"cow, then chunked",
     BYTES(POST "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 501, 0},
    {"chunked in HTTP/1.0", BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     400, 0},
    {"chunked in HTTP/1.0, kept alive",
     BYTES("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: "
           "chunked\r\n\r\n0\r\n\r\n"),
     400, 0},
    {"chunked in capitals", BYTES(POST "TRANSFER-ENCODING: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n"), 0,
     1},
    {"chunked and spaces behind", BYTES(POST "Transfer-Encoding: chunked  \r\n\r\n0\r\n\r\n"), 0,
     1},
    {"chunked and TAB behind", BYTES(POST "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"), 0, 1},
    {"length and TAB behind", BYTES(POST "Content-Length: 5\t\r\n\r\nhello"), 400, 0}, /* llhttp */

    /* versions */
    {"HTTP/2.0", BYTES("GET / HTTP/2.0\r\n" H "\r\n"), 505, 0},
    {"HTTP/0.9", BYTES("GET / HTTP/0.9\r\n" H "\r\n"), 505, 0},
    {"HTTP/1.2", BYTES("GET / HTTP/1.2\r\n" H "\r\n"), 505, 0},
    {"HTTP/9.9", BYTES("GET / HTTP/9.9\r\n" H "\r\n"), 505, 0},
    {"HTTP/0.0", BYTES("GET / HTTP/0.0\r\n" H "\r\n"), 505, 0},
    {"no version", BYTES("GET /\r\n" H "\r\n"), 400, 0},
    {"no version, space", BYTES("GET / \r\n" H "\r\n"), 400, 0},
    {"lower-case http", BYTES("GET / http/1.1\r\n" H "\r\n"), 400, 0},
    {"two-digit minor", BYTES("GET / HTTP/1.10\r\n" H "\r\n"), 400, 0},
    {"two-digit major", BYTES("GET / HTTP/11.1\r\n" H "\r\n"), 400, 0},
    {"no minor", BYTES("GET / HTTP/1\r\n" H "\r\n"), 400, 0},
    {"empty minor", BYTES("GET / HTTP/1.\r\n" H "\r\n"), 400, 0},
    {"letters for a version", BYTES("GET / HTTP/a.b\r\n" H "\r\n"), 505, 0},
    {"comma in the version", BYTES("GET / HTTP/1,1\r\n" H "\r\n"), 400, 0},
    {"space in the version", BYTES("GET / HTTP/ 1.1\r\n" H "\r\n"), 400, 0},
    {"space behind the version", BYTES("GET / HTTP/1.1 \r\n" H "\r\n"), 400, 0},
    {"bare CR and another version", BYTES("GET / HTTP/1.1\rX HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"RTSP", BYTES("POST / RTSP/1.0\r\n" H "\r\n"), 400, 0},
    {"RTSP options", BYTES("OPTIONS * RTSP/1.0\r\n" H "\r\n"), 400, 0},
    {"ICE", BYTES("SOURCE / ICE/1.0\r\n" H "\r\n"), 400, 0},
    {"HTTP/2 preface", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505, 0},

    /* request lines */
    {"unknown method", BYTES("FOO / HTTP/1.1\r\n" H "\r\n"), 501, 0},
    {"method that only some versions of llhttp know", BYTES("QUERY / HTTP/1.1\r\n" H "\r\n"), 501,
     0},
    {"method that begins alike", BYTES("QUERYX / HTTP/1.1\r\n" H "\r\n"), 501, 0},
    {"lower-case method", BYTES("get / HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"mixed-case method", BYTES("GeT / HTTP/1.1\r\n" H "\r\n"), 501, 0},
    {"method cut short", BYTES("GE / HTTP/1.1\r\n" H "\r\n"), 501, 0},
    {"WebDAV method", BYTES("PROPFIND / HTTP/1.1\r\n" H "\r\n"), 0,
     1}, /* for the routes to refuse */
    {"several spaces", BYTES("GET   /   HTTP/1.1\r\n" H "\r\n"), 0, 1}, /* RFC 9112: MAY */
    {"TAB between", BYTES("GET\t/ HTTP/1.1\r\n" H "\r\n"), 501, 0},
    {"TAB before the version", BYTES("GET /\tHTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"space in front", BYTES(" GET / HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"nothing but a version", BYTES("HTTP/1.1\r\n\r\n"), 400, 0},
    {"TLS", BYTES("\x16\x03\x01\x02\x00\x01\x00"), 400, 0},
    {"NUL", BYTES("\0"), 400, 0},

    /* targets */
    {"fragment", BYTES("GET /a#b HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"fragment in the query", BYTES("GET /a?b#c HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"backslash", BYTES("GET /a\\b HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"angle bracket", BYTES("GET /a<b HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"angle bracket in the query", BYTES("GET /?a=>b HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"quote", BYTES("GET /\"a HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"what browsers leave as it is", BYTES("GET /a|b{c}^`d?[e]{f}|' HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"escape of no hex", BYTES("GET /%zz HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"escape cut short", BYTES("GET /%4 HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"escape of nothing", BYTES("GET /a% HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"escaped NUL", BYTES("GET /a%00b HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"escape in the query of no hex", BYTES("GET /?a=%g1 HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"good escapes", BYTES("GET /%41%c3%A9?%20 HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"asterisk with more", BYTES("OPTIONS *abc HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"asterisk for POST", BYTES("POST * HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"asterisk for OPTIONS", BYTES("OPTIONS * HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"no slash", BYTES("GET a HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"no target", BYTES("GET  HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"absolute", BYTES("GET http://h/a?b HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"absolute, TLS, capitals", BYTES("GET HTTPS://h:443/ HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"absolute without a path", BYTES("GET http://h HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"absolute, query but no path", BYTES("GET http://h?a=/b HTTP/1.1\r\n" H "\r\n"), 0, 1},
    {"absolute without a host", BYTES("GET http:///a HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"absolute with a user", BYTES("GET http://u@h/ HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"absolute with a password", BYTES("GET http://u:p@h/ HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"absolute with nothing", BYTES("GET http:// HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"absolute with a fragment", BYTES("GET http://h#a HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"absolute, no Host", BYTES("GET http://h/ HTTP/1.1\r\n\r\n"), 400, 0},
    {"other scheme", BYTES("GET ftp://h/ HTTP/1.1\r\n" H "\r\n"), 400, 0},
    {"authority for CONNECT", BYTES("CONNECT h:443 HTTP/1.1\r\n" H "\r\n"), 400, 0},

    /* Host */
    {"no Host", BYTES(GET "\r\n"), 400, 0},
    {"no Host in HTTP/1.0", BYTES("GET / HTTP/1.0\r\n\r\n"), 0, 1},
    {"two Hosts", BYTES(GET H H "\r\n"), 400, 0},
    {"two Hosts in HTTP/1.0", BYTES("GET / HTTP/1.0\r\n" H "hOST: i\r\n\r\n"), 400, 0},
    {"empty Host", BYTES("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400, 0},
    {"empty Host in HTTP/1.0", BYTES("GET / HTTP/1.0\r\nHost:\r\n\r\n"), 0, 1},
    {"Host with a space", BYTES("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400, 0},
    {"Host with a slash", BYTES("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400, 0},
    {"Host with a user", BYTES("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), 400, 0},
    {"Host with a comma", BYTES("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), 400, 0},
    {"Host with a quote", BYTES("GET / HTTP/1.1\r\nHost: \"h\"\r\n\r\n"), 400, 0},
    {"Host over ASCII", BYTES("GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"), 400, 0},
    {"Host with two ports", BYTES("GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n"), 400, 0},
    {"Host with a port beyond", BYTES("GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n"), 400, 0},
    {"Host with a port of letters", BYTES("GET / HTTP/1.1\r\nHost: h:http\r\n\r\n"), 400, 0},
    {"Host of a port alone", BYTES("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), 400, 0},
    {"Host with an open bracket", BYTES("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), 400, 0},
    {"Host with a name in brackets", BYTES("GET / HTTP/1.1\r\nHost: [h]\r\n\r\n"), 400, 0},
    {"Host without brackets", BYTES("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"), 400, 0},
    {"Host with half an escape", BYTES("GET / HTTP/1.1\r\nHost: h%4\r\n\r\n"), 400, 0},
    {"Host with an empty port", BYTES("GET / HTTP/1.1\r\nHost: h:\r\n\r\n"), 0, 1},
    {"Host malformed beside an absolute target",
     BYTES("GET http://h/ HTTP/1.1\r\nHost: h:80:80\r\n\r\n"), 400, 0},
    {"absolute with two ports", BYTES("GET http://h:80:80/ HTTP/1.1\r\nHost: h\r\n\r\n"), 400, 0},
    {"absolute with a user", BYTES("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n"), 400, 0},
    {"absolute with an open bracket", BYTES("GET http://[::1/ HTTP/1.1\r\nHost: h\r\n\r\n"), 400,
     0},
    {"Host in HTTP/1.0 malformed", BYTES("GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), 400, 0},
    {"Host with a port", BYTES("GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n"), 0, 1},
    {"Host is an address", BYTES("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0, 1},
    {"Host last", BYTES(GET "A: b\r\nHOST: h\r\n\r\n"), 0, 1},

    /* chunks */
    {"chunks", BYTES(CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" NEXT), 0, 2},
    {"hex sizes", BYTES(CHUNKED "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"), 0, 1},
    {"zeros before a size", BYTES(CHUNKED "0005\r\nhello\r\n000\r\n\r\n"), 0, 1},
    {"no chunk", BYTES(CHUNKED "0\r\n\r\n" NEXT), 0, 2},
    {"extension", BYTES(CHUNKED "5;a=b\r\nhello\r\n0;c\r\n\r\n" NEXT), 0, 2},
    {"two extensions", BYTES(CHUNKED "5;a=b;c=d\r\nhello\r\n0\r\n\r\n"), 0, 1},
    {"escape in a quoted extension", BYTES(CHUNKED "5;a=\"x\\\"y\"\r\nhello\r\n0\r\n\r\n"), 0, 1},
    {"extension in quotes", BYTES(CHUNKED "5;a=\"b; c\td\"\r\nhello\r\n0\r\n\r\n" NEXT), 0, 2},
    {"extension without a name", BYTES(CHUNKED "5;\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"extension of a value alone", BYTES(CHUNKED "5;=b\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"extension without a value", BYTES(CHUNKED "5;a=\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"extension with a space", BYTES(CHUNKED "5;a =b\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"extension behind a space", BYTES(CHUNKED "5 ;a\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"text behind a quoted extension", BYTES(CHUNKED "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"line end in a quoted extension", BYTES(CHUNKED "5;a=\"\r\nhello\"\r\n0\r\n\r\n"), 400, 0},
    {"escaped line end in an extension", BYTES(CHUNKED "5;a=\"\\\r\n\"\r\nhello\r\n"), 400, 0},
    {"bare LF in an extension", BYTES(CHUNKED "5;a\nhello\r\n0\r\n\r\n"), 400, 0},
    {"NUL in an extension", BYTES(CHUNKED "5;a\0\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"chunk size and bare LF", BYTES(CHUNKED "5\nhello\r\n0\r\n\r\n"), 400, 0},
    {"space before a size", BYTES(CHUNKED " 5\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"space behind a size", BYTES(CHUNKED "5 \r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"signed size", BYTES(CHUNKED "+5\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"negative size", BYTES(CHUNKED "-5\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"0x size", BYTES(CHUNKED "0x5\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"empty size", BYTES(CHUNKED "\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"size of an underscore", BYTES(CHUNKED "1_0\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"size of 2^64", BYTES(CHUNKED "10000000000000000\r\nhello"), 400, 0},
    {"size of 2^64 - 1", BYTES(CHUNKED "ffffffffffffffff\r\nhello"), 413, 0},
    {"size of 2^63", BYTES(CHUNKED "8000000000000000\r\nhello"), 413, 0},
    {"size of 2^63 behind a chunk", BYTES(CHUNKED "1\r\nx\r\n8000000000000000\r\nhello"), 413, 0},
    {"size of 2^64 - 1 behind a chunk", BYTES(CHUNKED "1\r\nx\r\nffffffffffffffff\r\nhello"), 413,
     0},
    {"chunk longer than said", BYTES(CHUNKED "4\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"chunk shorter than said", BYTES(CHUNKED "6\r\nhello\r\n0\r\n\r\n"), 400, 0},
    {"trailers", BYTES(CHUNKED "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n" NEXT), 0, 2},
    {"trailers that say nothing", BYTES(CHUNKED "0\r\nA:\r\nB: \t\r\n\r\n" NEXT), 0, 2},
    {"trailer with a length", BYTES(CHUNKED "0\r\nContent-Length: 5\r\n\r\n" NEXT), 0, 2},
    {"names that begin alike",
     BYTES(CHUNKED "0\r\nTransfer: a\r\nTransfer-Encodings: a\r\n"
                   "X-Transfer-Encoding: a\r\n\r\n" NEXT),
     0, 2},
    {"trailer without a colon", BYTES(CHUNKED "0\r\nname\r\n\r\n"), 400, 0},
    {"trailer without a name", BYTES(CHUNKED "0\r\n: v\r\n\r\n"), 400, 0},
    {"trailer, space before the colon", BYTES(CHUNKED "0\r\nA : v\r\n\r\n"), 400, 0},
    {"folded trailer", BYTES(CHUNKED "0\r\nA: b\r\n c\r\n\r\n"), 400, 0},
    {"trailer and bare LF", BYTES(CHUNKED "0\r\nA: b\n\r\n"), 400, 0},
    {"trailer and bare CR", BYTES(CHUNKED "0\r\nA: b\rC: d\r\n\r\n"), 400, 0},
    {"NUL in a trailer", BYTES(CHUNKED "0\r\nA: b\0\r\n\r\n"), 400, 0},
    {"LF alone ends the chunks", BYTES(CHUNKED "0\r\n\n" NEXT), 400, 0},
    {"coding as a trailer, capitals", BYTES(CHUNKED "0\r\nTRANSFER-encoding:x\r\n\r\n"), 501, 0},
    {"chunked as a trailer", BYTES(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n"), 501, 0},
    {"chunks only half there", BYTES(CHUNKED "5\r\nhel"), 0, 0},
    {"chunks without the last", BYTES(CHUNKED "5\r\nhello\r\n"), 0, 0},
    {"chunks without the last line", BYTES(CHUNKED "5\r\nhello\r\n0\r\n"), 0, 0},
    {"chunked and upgrade",
     BYTES("POST / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: x\r\n"
           "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" NEXT),
     0, 2},
    {"chunked and close",
     BYTES("POST / HTTP/1.1\r\n" H "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
           "1\r\nx\r\n0\r\n\r\n"),
     0, 1},

    /* empty lines before a request: four are forgiven */
    {"one empty line", BYTES("\r\n" NEXT), 0, 1},
    {"empty line between", BYTES(NEXT "\r\n" NEXT), 0, 2},
    {"four empty lines", BYTES("\r\n\r\n\r\n\r\n" NEXT), 0, 1},
    {"five empty lines", BYTES("\r\n\r\n\r\n\r\n\r\n" NEXT), 400, 0},
    {"four, a request, four", BYTES("\r\n\r\n\r\n\r\n" NEXT "\r\n\r\n\r\n\r\n" NEXT), 0, 2},
    {"only empty lines", BYTES("\r\n\r\n"), 0, 0},
    {"CR alone in front", BYTES("\r" NEXT), 400, 0},
    {"LF alone in front", BYTES("\n" NEXT), 400, 0},
    {"CR CR", BYTES("\r\r\n" NEXT), 400, 0},
    {"CR LF LF", BYTES("\r\n\n" NEXT), 400, 0},
    {"CR LF CR", BYTES("\r\n\r" NEXT), 400, 0},
};

static void every_shape_has_its_answer(void **state) {
  (void)state;
  unsigned wrong = 0;
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct outcome o = feed_every_way(cases[i].bytes, cases[i].n, &usual);
    if (o.status != cases[i].status || o.requests != cases[i].requests) {
      print_error("%s: status %u (%s), %u requests\n%s", cases[i].what, o.status,
                  o.reason ? o.reason : "", o.requests, o.text);
      wrong++;
    }
    free(o.text);
  }
  assert_int_equal(wrong, 0);
}

/* ---- what is known of a request -------------------------------------------------------------- */

static void assert_told(const char *bytes, const char *expected) {
  struct outcome o = feed_every_way(bytes, strlen(bytes), &usual);
  assert_int_equal(o.status, 0);
  /* the part of the first PARSE_REQUEST */
  char *told = strstr(o.text, "REQUEST ");
  assert_non_null(told);
  char *second = strstr(told, "HEAD ");
  if (second) *second = '\0';
  assert_string_equal(told + 8, expected);
  free(o.text);
}

static void all_parts_of_a_request_are_told(void **state) {
  (void)state;
  assert_told("POST /a/b?c=d&e HTTP/1.1\r\nHost: example.com:8080\r\nX-Empty:\r\n"
              "X-Blank: \t \r\nX-Padded: \t a b \t\r\ncontent-LENGTH: 5\r\n\r\nhello",
              "POST target=/a/b?c=d&e path=/a/b query=c=d&e host=example.com:8080 1.1 keep length=5"
              " head=113\n  Host: example.com:8080\n  X-Empty: \n  X-Blank: \n  X-Padded: a b\n"
              "  content-LENGTH: 5\nhello\n");
  assert_told("GET / HTTP/1.0\r\n\r\n", "GET target=/ path=/ query= host= 1.0 close head=18\n\n");
  assert_told("OPTIONS * HTTP/1.1\r\n" H "\r\n",
              "OPTIONS target=* path=* query= host=h 1.1 keep head=31\n  Host: h\n\n");
  assert_told("GET /?a?b=/ HTTP/1.1\r\n" H "\r\n",
              "GET target=/?a?b=/ path=/ query=a?b=/ host=h 1.1 keep head=33\n  Host: h\n\n");
  assert_told("GET /? HTTP/1.1\r\n" H "\r\n",
              "GET target=/? path=/ query= host=h 1.1 keep head=28\n  Host: h\n\n");
  assert_told("\r\n\r\n" GET H "\r\n",
              "GET target=/ path=/ query= host=h 1.1 keep head=27\n  Host: h\n\n");
}

/* RFC 9112 section 3.2.2: the target's host replaces the field's. */
static void an_absolute_target_tells_path_and_host(void **state) {
  (void)state;
  assert_told("GET http://a.example:81/p/q?r HTTP/1.1\r\n" H "\r\n",
              "GET target=http://a.example:81/p/q?r path=/p/q query=r host=a.example:81 1.1 keep"
              " head=51\n  Host: h\n\n");
  assert_told("GET http://a HTTP/1.1\r\n" H "\r\n",
              "GET target=http://a path=/ query= host=a 1.1 keep head=34\n  Host: h\n\n");
  assert_told("GET https://a?b=/etc HTTP/1.1\r\n" H "\r\n",
              "GET target=https://a?b=/etc path=/ query=b=/etc host=a 1.1 keep head=42\n"
              "  Host: h\n\n");
}

/* Spans of an earlier request on the same parser must not show through. */
static void nothing_is_left_of_the_request_before(void **state) {
  (void)state;
  static const char bytes[] =
      "POST /old?query HTTP/1.1\r\nHost: old\r\nA: secret\r\nExpect: 100-continue\r\n"
      "Connection: close, upgrade\r\nUpgrade: u\r\nContent-Length: 3\r\n\r\nold"
      "GET / HTTP/1.0\r\nB:\r\nC:\r\nD:\r\n\r\n";
  struct outcome o = feed_every_way(BYTES(bytes), &usual);
  assert_int_equal(o.requests, 2);
  const char *second = strstr(o.text, "HEAD GET");
  assert_non_null(second);
  assert_string_equal(second, "HEAD GET target=/ path=/ query= host= 1.0 close head=30\n"
                              "  B: \n  C: \n  D: \n"
                              "REQUEST GET target=/ path=/ query= host= 1.0 close head=30\n"
                              "  B: \n  C: \n  D: \n\n");
  free(o.text);
}

static void trailers_change_nothing(void **state) {
  (void)state;
  assert_told(CHUNKED "2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nConnection: close\r\nHost: i\r\n"
                      "Content-Length: 99\r\nExpect: 100-continue\r\nUpgrade: x\r\n\r\n",
              "POST target=/ path=/ query= host=h 1.1 keep chunked head=56\n  Host: h\n"
              "  Transfer-Encoding: chunked\nabcde\n");
}

static const struct {
  const char *version, *fields;
  bool is_keep_alive, is_upgrade;
} connections[] = {
    {"1.1", "", true, false},
    {"1.1", "Connection: keep-alive\r\n", true, false},
    {"1.1", "Connection: close\r\n", false, false},
    {"1.1", "Connection: CLOSE\r\n", false, false},
    {"1.1", "Connection: close\t\r\n", false, false},
    {"1.1", "Connection:\tclose\r\n", false, false},
    {"1.1", "Connection: keep-alive, close\r\n", false, false},
    {"1.1", "Connection: close, keep-alive\r\n", false, false},
    {"1.1", "Connection: a ,\tclose\t, b\r\n", false, false},
    {"1.1", "Connection: ,,close,,\r\n", false, false},
    {"1.1", "Connection: keep-alive\r\nConnection: close\r\n", false, false},
    {"1.1", "Connection: close\r\nConnection: keep-alive\r\n", false, false},
    {"1.1", "Connection: closed\r\n", true, false},
    {"1.1", "Connection: close;q=1\r\n", true, false},
    {"1.1", "Connection: not close\r\n", true, false},
    {"1.1", "Connection:\r\n", true, false},
    {"1.1", "X-Connection: close\r\n", true, false},
    {"1.1", "Proxy-Connection: close\r\n", true, false},
    {"1.0", "", false, false},
    {"1.0", "Connection: keep-alive\r\n", true, false},
    {"1.0", "Connection: Keep-Alive\t\r\n", true, false},
    {"1.0", "Connection: keep-alive, close\r\n", false, false},
    {"1.0", "Connection: close\r\n", false, false},
    {"1.0", "Keep-Alive: timeout=5\r\n", false, false},
    {"1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true, true},
    {"1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", true, true},
    {"1.1", "Connection: close, Upgrade\r\nUpgrade: websocket\r\n", false, true},
    {"1.1", "Connection: upgrade\t\r\nUpgrade: x\r\n", true, true},
    {"1.1", "Connection: upgrade\r\nConnection: a\r\nUpgrade: x\r\n", true, true},
    {"1.1", "Connection: upgrade\r\n", true, false},
    {"1.1", "Connection: upgrade\r\nUpgrade:\r\n", true, false},
    {"1.1", "Upgrade: websocket\r\n", true, false},
    {"1.1", "Connection: upgraded\r\nUpgrade: websocket\r\n", true, false},
};

static void the_connection_field_is_a_list_of_tokens(void **state) {
  (void)state;
  char bytes[256];
  for (size_t i = 0; i < COUNT(connections); i++) {
    int n = snprintf(bytes, sizeof bytes, "GET / HTTP/%s\r\n" H "%s\r\n", connections[i].version,
                     connections[i].fields);
    struct outcome o = feed_every_way(bytes, (size_t)n, &usual);
    o.text[strcspn(o.text, "\n")] = '\0'; /* the line that says what they mean */
    if (o.requests != 1 || !strstr(o.text, " keep ") != !connections[i].is_keep_alive ||
        !strstr(o.text, " close ") == !connections[i].is_keep_alive ||
        !strstr(o.text, " upgrade ") != !connections[i].is_upgrade)
      fail_msg("%s %s\n%s", connections[i].version, connections[i].fields, o.text);
    free(o.text);
  }
}

static const struct {
  const char *version, *fields;
  bool expects, is_bad;
} expectations[] = {
    {"1.1", "", false, false},
    {"1.1", "Expect: 100-continue\r\n", true, false},
    {"1.1", "EXPECT: 100-Continue \r\n", true, false},
    {"1.1", "Expect: 100-continue, x\r\n", false, true},
    {"1.1", "Expect: 100\r\n", false, true},
    {"1.1", "Expect: x\r\n", false, true},
    {"1.1", "Expect:\r\n", false, true},
    {"1.1", "Expect: 100-continue\r\nExpect: x\r\n", true, true},
    {"1.0", "Expect: 100-continue\r\n", false, false}, /* RFC 9110 section 10.1.1: ignored */
};

static void expectations_are_told(void **state) {
  (void)state;
  char bytes[256];
  for (size_t i = 0; i < COUNT(expectations); i++) {
    int n = snprintf(bytes, sizeof bytes, "POST / HTTP/%s\r\n" H "%s\r\n", expectations[i].version,
                     expectations[i].fields);
    struct outcome o = feed_every_way(bytes, (size_t)n, &usual);
    if (o.requests != 1 || !strstr(o.text, " continue ") != !expectations[i].expects ||
        !strstr(o.text, " expect? ") != !expectations[i].is_bad)
      fail_msg("%s %s\n%s", expectations[i].version, expectations[i].fields, o.text);
    free(o.text);
  }
}

static void bytes_behind_an_upgrade_are_left_alone(void **state) {
  (void)state;
  static const char bytes[] = GET H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80"
                                    "mask";
  struct http_parser *p = malloc(sizeof *p);
  size_t used, more;
  assert_non_null(p);
  http_parser_init(p, &usual);
  assert_int_equal(http_feed(p, bytes, sizeof bytes - 1, &used), PARSE_HEAD);
  assert_true(p->request.is_upgrade);
  assert_memory_equal(bytes + used, "\x81\x80mask", 6);
  assert_int_equal(http_feed(p, bytes + used, sizeof bytes - 1 - used, &more), PARSE_REQUEST);
  assert_int_equal(more, 0);
  http_parser_fini(p);
  free(p);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* Text and repeated pieces put together. */
struct text {
  char *s;
  size_t n;
};

static void add(struct text *t, const char *s, size_t times) {
  size_t len = strlen(s);
  t->s = realloc(t->s, t->n + len * times + 1);
  assert_non_null(t->s);
  for (size_t i = 0; i < times; i++, t->n += len) memcpy(t->s + t->n, s, len);
}

static void assert_answered(struct text *t, const struct http_limits *limits, unsigned status,
                            unsigned requests) {
  struct outcome o = feed_every_way(t->s, t->n, limits);
  if (o.status != status || o.requests != requests)
    fail_msg("%.40s...: status %u (%s) instead of %u, %u requests instead of %u", t->s, o.status,
             o.reason ? o.reason : "", status, o.requests, requests);
  free(o.text);
  free(t->s);
  *t = (struct text){0};
}

static const struct http_limits small = {.head = 200, .target = 50, .body = 100};

static void a_head_ends_within_its_limit(void **state) {
  (void)state;
  struct text t = {0};
  for (size_t head = 190; head <= 210; head++) {
    add(&t, GET H "A: ", 1);
    add(&t, "x", head - t.n - 4);
    add(&t, "\r\n\r\n", 1);
    assert_int_equal(t.n, head);
    add(&t, NEXT, 1); /* must not count */
    assert_answered(&t, &small, head <= 200 ? 0 : 431, head <= 200 ? 2 : 0);
  }
}

/* Each of these reaches no callback of llhttp in some place, or none at all. */
static void no_part_of_a_head_is_free(void **state) {
  (void)state;
  static const struct {
    const char *before, *flood, *behind;
    unsigned status;
  } floods[] = {
      {GET H "A: ", "x", "\r\n\r\n", 431},
      {GET H "A:", " ", "x\r\n\r\n", 431},
      {GET H "A:", "\t", "\r\n\r\n", 431},
      {GET H "A: x", " ", "\r\n\r\n", 431},
      {GET H, "x", ": y\r\n\r\n", 431},
      {GET H, "A: b\r\n", "\r\n", 431},
      {GET H, "A:\r\n", "\r\n", 431},
      {GET "Host: ", "h", "\r\n\r\n", 431},
      {GET H "A: b\r\n", " ", "x\r\n\r\n", 431},
      {"GET /", "a", " HTTP/1.1\r\n" H "\r\n", 414},
      {"GET /?", "a", " HTTP/1.1\r\n" H "\r\n", 414},
      {"GET /", "%41", " HTTP/1.1\r\n" H "\r\n", 414},
      {"GET ", " ", "/ HTTP/1.1\r\n" H "\r\n", 414},
      {"GET /", " ", "HTTP/1.1\r\n" H "\r\n", 414},
      {"", "G", " / HTTP/1.1\r\n" H "\r\n", 414},
      {"", "GET ", "/ HTTP/1.1\r\n" H "\r\n", 414},
  };
  struct text t = {0};
  for (size_t i = 0; i < COUNT(floods); i++) {
    add(&t, floods[i].before, 1);
    add(&t, floods[i].flood, 300);
    add(&t, floods[i].behind, 1);
    assert_answered(&t, &small, floods[i].status, 0);
    add(&t, floods[i].before, 1); /* without an end it must be refused as well */
    add(&t, floods[i].flood, 300);
    assert_answered(&t, &small, floods[i].status, 0);
  }
}

static void a_target_ends_within_its_limit(void **state) {
  (void)state;
  static const char *const methods[] = {"GET", "PROPFIND", "UNSUBSCRIBE"};
  struct text t = {0};
  for (size_t m = 0; m < COUNT(methods); m++)
    for (size_t len = 45; len <= 120; len++) {
      add(&t, methods[m], 1);
      add(&t, " /", 1);
      add(&t, "x", len - 1);
      add(&t, " HTTP/1.1\r\n" H "\r\n", 1);
      assert_answered(&t, &small, len <= 50 ? 0 : 414, len <= 50 ? 1 : 0);
    }
}

/* A long request line with something else wrong: the same answer for every way it arrives. */
static void a_long_request_line_has_one_answer(void **state) {
  (void)state;
  static const char *const lines[][2] = {{"FOO /", " HTTP/1.1\r\n"},   {"GET /", " RTSP/1.0\r\n"},
                                         {"GET /", " HTTP/2.0\r\n"},   {"GET x", " HTTP/1.1\r\n"},
                                         {"GET /\t", " HTTP/1.1\r\n"}, {"GET /", "\n"}};
  struct text t = {0};
  for (size_t i = 0; i < COUNT(lines); i++)
    for (size_t len = 0; len < 180; len++) {
      add(&t, lines[i][0], 1);
      add(&t, "x", len);
      add(&t, lines[i][1], 1);
      add(&t, H "\r\n", 1);
      struct outcome o = feed_every_way(t.s, t.n, &small);
      assert_int_equal(o.requests, 0);
      assert_int_not_equal(o.status, 0);
      if (len > 100) assert_int_equal(o.status, 414);
      free(o.text);
      free(t.s);
      t = (struct text){0};
    }
}

static void the_usual_limits_are_kept_too(void **state) {
  (void)state;
  struct text t = {0};
  for (int over = 0; over <= 1; over++) {
    add(&t, "GET /", 1);
    add(&t, "x", usual.target - 1 + (size_t)over);
    add(&t, " HTTP/1.1\r\n" H "\r\n", 1);
    assert_answered(&t, &usual, over ? 414 : 0, over ? 0 : 1);
    add(&t, GET H "A: ", 1);
    add(&t, "x", usual.head - t.n - 4 + (size_t)over);
    add(&t, "\r\n\r\n", 1);
    assert_answered(&t, &usual, over ? 431 : 0, over ? 0 : 1);
  }
}

static void a_hundred_fields_are_enough(void **state) {
  (void)state;
  struct text t = {0};
  for (size_t n = HTTP_MAX_FIELDS - 1; n <= HTTP_MAX_FIELDS + 1; n++) {
    add(&t, GET H, 1);
    add(&t, "A:b\r\n", n - 1);
    add(&t, "\r\n", 1);
    assert_answered(&t, &usual, n <= HTTP_MAX_FIELDS ? 0 : 431, n <= HTTP_MAX_FIELDS ? 1 : 0);
  }
}

static void a_body_ends_within_its_limit(void **state) {
  (void)state;
  struct text t = {0};
  char line[64];
  for (size_t len = 98; len <= 102; len++) {
    bool is_within = len <= small.body;
    snprintf(line, sizeof line, POST "Content-Length: %zu\r\n\r\n", len);
    add(&t, line, 1);
    add(&t, "x", len);
    assert_answered(&t, &small, is_within ? 0 : 413, is_within);
    add(&t, line, 1); /* said at the announcement */
    assert_answered(&t, &small, is_within ? 0 : 413, 0);
    snprintf(line, sizeof line, "%zx\r\n", len);
    add(&t, CHUNKED, 1); /* one chunk */
    add(&t, line, 1);
    add(&t, "x", len);
    add(&t, "\r\n0\r\n\r\n", 1);
    assert_answered(&t, &small, is_within ? 0 : 413, is_within);
    add(&t, CHUNKED, 1); /* said at the chunk's announcement */
    add(&t, line, 1);
    assert_answered(&t, &small, is_within ? 0 : 413, 0);
    add(&t, CHUNKED, 1); /* many chunks */
    add(&t, "1\r\nx\r\n", len);
    add(&t, "0\r\n\r\n", 1);
    assert_answered(&t, &small, is_within ? 0 : 413, is_within);
  }
}

/* A route may allow less or more than the connection does. */
static void the_body_limit_may_change_after_the_head(void **state) {
  (void)state;
  static const char *const heads[] = {POST "Content-Length: 150\r\n\r\n", CHUNKED "96\r\n"};
  for (size_t i = 0; i < COUNT(heads); i++)
    for (uint64_t limit = 149; limit <= 150; limit++) {
      struct http_parser *p = malloc(sizeof *p);
      size_t used, n = strlen(heads[i]);
      assert_non_null(p);
      http_parser_init(p, &small);
      assert_int_equal(http_feed(p, heads[i], n, &used), PARSE_HEAD);
      p->limits.body = limit;
      size_t more;
      enum http_parse result = http_feed(p, heads[i] + used, n - used, &more);
      assert_int_equal(result, limit == 150 ? PARSE_MORE : PARSE_BAD);
      if (limit < 150) assert_int_equal(p->status, 413);
      http_parser_fini(p);
      free(p);
    }
}

/* 16 KiB and 16 bytes for each byte of body. */
static void chunk_framing_is_counted(void **state) {
  (void)state;
  static const struct {
    const char *before, *flood, *behind;
    size_t times;
    unsigned status;
  } floods[] = {
      {"5;", "x", "\r\nhello\r\n0\r\n\r\n", 16000, 0},
      {"5;", "x", "\r\nhello\r\n0\r\n\r\n", 17000, 413},
      {"5;a=", "x", "\r\nhello\r\n0\r\n\r\n", 17000, 413},
      {"5;a=\"", "x", "\"\r\nhello\r\n0\r\n\r\n", 17000, 413},
      {"", "0", "5\r\nhello\r\n0\r\n\r\n", 17000, 413},
      {"0\r\nA: ", "x", "\r\n\r\n", 17000, 413},
      {"0\r\nA:", " ", "\r\n\r\n", 17000, 413},
      {"0\r\n", "A: b\r\n", "\r\n", 3000, 413},
      {"0\r\n", "x", ": y\r\n\r\n", 17000, 413},
      {"", "1;aaaaaaaaaaaaaaaaaaaa\r\nx\r\n", "0\r\n\r\n", 500, 0},
      {"", "1;aaaaaaaaaaaaaaaaaaaa\r\nx\r\n", "0\r\n\r\n", 3000, 413},
      {"", "1\r\nx\r\n", "0\r\n\r\n", 10000, 0}, /* six for one: anybody may do that */
  };
  struct text t = {0};
  for (size_t i = 0; i < COUNT(floods); i++) {
    add(&t, CHUNKED, 1);
    add(&t, floods[i].before, 1);
    add(&t, floods[i].flood, floods[i].times);
    add(&t, floods[i].behind, 1);
    assert_answered(&t, &usual, floods[i].status, floods[i].status ? 0 : 1);
  }
}

/* A body that comes behind the flood must not pay for it, in one feed or in many. */
static void body_behind_a_flood_does_not_pay_for_it(void **state) {
  (void)state;
  struct text t = {0};
  add(&t, CHUNKED "800;", 1);
  add(&t, "x", 20000);
  add(&t, "\r\n", 1);
  add(&t, "y", 0x800);
  add(&t, "\r\n0\r\n\r\n", 1);
  assert_answered(&t, &usual, 413, 0);
  add(&t, CHUNKED "800\r\n", 1); /* the other way round it has earned it */
  add(&t, "y", 0x800);
  add(&t, "\r\n0;", 1);
  add(&t, "x", 20000);
  add(&t, "\r\n\r\n", 1);
  assert_answered(&t, &usual, 0, 1);
}

static void buffers_shrink_between_requests(void **state) {
  (void)state;
  struct http_parser *p = malloc(sizeof *p);
  struct text t = {0};
  size_t used;
  assert_non_null(p);
  http_parser_init(p, &usual);
  add(&t, "GET /", 1);
  add(&t, "x", 5000);
  assert_int_equal(http_feed(p, t.s, t.n, &used), PARSE_MORE);
  assert_true(p->head_cap >= 5000);
  http_parser_reset(p, &usual);
  assert_true(p->head_cap <= 2048);
  static const char head[] = POST "Content-Length: 10000\r\n\r\n";
  assert_int_equal(http_feed(p, head, sizeof head - 1, &used), PARSE_HEAD);
  assert_int_equal(http_feed(p, t.s, t.n, &used), PARSE_MORE);
  assert_true(p->body_cap >= 5000 && p->body_cap <= 10010);
  http_parser_reset(p, &usual);
  assert_true(p->body_cap <= 4096);
  http_parser_fini(p);
  free(p);
  free(t.s);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void keep_copies_what_was_borrowed(void **state) {
  (void)state;
  static const char text[] = POST "Content-Length: 5\r\n\r\nhello";
  struct http_parser *p = malloc(sizeof *p);
  size_t used, more;
  assert_non_null(p);
  http_parser_init(p, &usual);
  char *s = exact_copy(text, sizeof text - 1);
  assert_int_equal(http_feed(p, s, sizeof text - 1, &used), PARSE_HEAD);
  assert_ptr_equal(p->request.base, s); /* no copy as long as it can be avoided */
  assert_int_equal(http_feed(p, s + used, sizeof text - 1 - used, &more), PARSE_REQUEST);
  assert_ptr_equal(p->request.body, s + used);
  http_keep(p);
  memset(s, '?', sizeof text - 1);
  free(s);
  http_keep(p); /* repeatable */
  assert_memory_equal(p->request.base, text, used);
  assert_memory_equal(p->request.body, "hello", 5);
  assert_true(http_span_is(&p->request, p->request.host, "h"));
  http_parser_fini(p);
  free(p);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static struct http_request request_of(const char *value) {
  struct http_request r = {.base = value, .n_fields = 0};
  return r;
}

static void tokens_are_found_in_lists(void **state) {
  (void)state;
  static const struct {
    const char *list, *token;
    bool is_there;
  } lists[] = {
      {"a", "a", true},        {"A", "a", true},
      {"a,b", "b", true},      {"a, b", "b", true},
      {"a ,\tb\t", "b", true}, {",,a,,", "a", true},
      {"a b", "a", false},     {"a b", "b", false},
      {"ab", "a", false},      {"a", "ab", false},
      {"", "a", false},        {" , ", "a", false},
      {"a;q=1", "a", false},   {"\"a\"", "a", false},
      {"xa,ax", "a", false},   {"keep-alive, close", "close", true},
  };
  for (size_t i = 0; i < COUNT(lists); i++) {
    char *s = exact_copy(lists[i].list, strlen(lists[i].list));
    struct http_request r = request_of(s);
    struct http_span all = {0, (uint32_t)strlen(lists[i].list)};
    if (http_has_token(&r, all, lists[i].token) != lists[i].is_there)
      fail_msg("'%s' in '%s'", lists[i].token, lists[i].list);
    free(s);
  }
}

static void fields_are_found_by_name(void **state) {
  (void)state;
  static const char text[] = GET H "A: 1\r\nab: 2\r\nA: 3\r\n\r\n";
  struct http_parser *p = malloc(sizeof *p);
  size_t used;
  assert_non_null(p);
  http_parser_init(p, &usual);
  assert_int_equal(http_feed(p, text, sizeof text - 1, &used), PARSE_HEAD);
  const struct http_field *f = http_find(&p->request, "a");
  assert_non_null(f);
  assert_true(http_span_is(&p->request, f->value, "1")); /* the first */
  assert_non_null(http_find(&p->request, "host"));
  assert_null(http_find(&p->request, "b"));
  assert_null(http_find(&p->request, ""));
  assert_true(http_span_is(&p->request, f->name, "A"));
  assert_false(http_span_is(&p->request, f->name, "AB"));
  assert_false(http_span_is(&p->request, f->name, ""));
  http_parser_fini(p);
  free(p);
}

static void gzip_is_taken_by_who_says_so(void **state) {
  (void)state;
  static const struct {
    const char *fields;
    bool is_taken;
  } wishes[] = {
      {"", false},
      {"Accept-Encoding:\r\n", false},
      {"Accept-Encoding: gzip\r\n", true},
      {"accept-encoding: GZIP\r\n", true},
      {"Accept-Encoding: x-gzip\r\n", true},
      {"Accept-Encoding: br, gzip, deflate\r\n", true},
      {"Accept-Encoding: br,deflate,gzip\r\n", true},
      {"Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true},
      {"Accept-Encoding: gzip;q=1\r\n", true},
      {"Accept-Encoding: gzip ; Q=0.001\r\n", true},
      {"Accept-Encoding: *\r\n", true},
      {"Accept-Encoding: br;q=1.0, *;q=0.5\r\n", true},
      {"Accept-Encoding: gzip;q=0\r\n", false},
      {"Accept-Encoding: gzip; q=0.000\r\n", false},
      {"Accept-Encoding: gzip;q=0, *\r\n", false},
      {"Accept-Encoding: *, gzip;q=0\r\n", false},
      {"Accept-Encoding: *;q=0\r\n", false},
      {"Accept-Encoding: identity;q=1, *;q=0\r\n", false}, /* as players ask for films */
      {"Accept-Encoding: br, deflate\r\n", false},
      {"Accept-Encoding: gzipped\r\n", false},
      {"Accept-Encoding: gzi\r\n", false},
      {"Accept-Encoding: gzip;q\r\n", false},
      {"Accept-Encoding: gzip;q=x\r\n", false},
      {"Accept-Encoding: gzip;level=9\r\n", false},
      {"Accept: gzip\r\n", false},
  };
  for (size_t i = 0; i < COUNT(wishes); i++) {
    struct http_parser p;
    char head[200];
    size_t used, n = (size_t)snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n",
                                      wishes[i].fields);
    char *bytes = exact_copy(head, n);
    http_parser_init(&p, &usual);
    assert_int_equal(http_feed(&p, bytes, n, &used), PARSE_HEAD);
    if (http_accepts_gzip(&p.request) != wishes[i].is_taken) fail_msg("%s", wishes[i].fields);
    http_parser_fini(&p);
    free(bytes);
  }
}

static void ranges_are_parts_of_what_there_is(void **state) {
  (void)state;
  enum { ALL = RANGE_ALL, PART = RANGE_PART, NONE = RANGE_NONE };
  static const struct {
    const char *s;
    uint64_t size;
    int range;
    uint64_t from, to;
  } parts[] = {
      {"bytes=0-0", 10, PART, 0, 1},
      {"bytes=0-", 10, PART, 0, 10},
      {"bytes=3-5", 10, PART, 3, 6},
      {"Bytes= 3-5 ", 10, PART, 3, 6},
      {"bytes=9-9", 10, PART, 9, 10},
      {"bytes=3-99", 10, PART, 3, 10},
      {"bytes=0-18446744073709551615", 10, PART, 0, 10},
      {"bytes=5-99999999999999999999999", 10, PART, 5, 10},
      {"bytes=-1", 10, PART, 9, 10},
      {"bytes=-10", 10, PART, 0, 10},
      {"bytes=-99", 10, PART, 0, 10},
      {"bytes=-99999999999999999999999", 10, PART, 0, 10},
      {"bytes=10-", 10, NONE, 0, 0},
      {"bytes=10-20", 10, NONE, 0, 0},
      {"bytes=18446744073709551616-", 10, NONE, 0, 0},
      {"bytes=-0", 10, NONE, 0, 0},
      {"bytes=0-", 0, ALL, 0, 0},
      {"bytes=-1", 0, ALL, 0, 0},
      {"bytes=5-3", 10, ALL, 0, 0},
      {"bytes=0-1,3-4", 10, ALL, 0, 0},
      {"bytes=0-1,", 10, ALL, 0, 0},
      {"bytes=", 10, ALL, 0, 0},
      {"bytes=-", 10, ALL, 0, 0},
      {"bytes=3", 10, ALL, 0, 0},
      {"bytes=a-b", 10, ALL, 0, 0},
      {"bytes=3-5x", 10, ALL, 0, 0},
      {"bytes=+3-5", 10, ALL, 0, 0},
      {"bytes=3 -5", 10, ALL, 0, 0},
      {"bytes 3-5", 10, ALL, 0, 0},
      {"items=3-5", 10, ALL, 0, 0},
      {"3-5", 10, ALL, 0, 0},
      {"", 10, ALL, 0, 0},
  };
  for (size_t i = 0; i < COUNT(parts); i++) {
    uint64_t from = 0, to = 0;
    char *s = exact_copy(parts[i].s, strlen(parts[i].s));
    int range = (int)http_read_range(s, strlen(parts[i].s), parts[i].size, &from, &to);
    free(s);
    if (range != parts[i].range) fail_msg("%s of %u", parts[i].s, (unsigned)parts[i].size);
    if (range == PART && (from != parts[i].from || to != parts[i].to)) fail_msg("%s", parts[i].s);
  }
}

static void percent_escapes_are_decoded(void **state) {
  (void)state;
  static const struct {
    const char *s, *out; /* out NULL: malformed */
  } escapes[] = {
      {"", ""},      {"abc", "abc"},   {"%41", "A"},    {"%4a%4A", "JJ"}, {"a%20b", "a b"},
      {"%25", "%"},  {"%2525", "%25"}, {"+", "+"},      {"%ff", "\xff"},  {"%c3%a9", "\xc3\xa9"},
      {"%", NULL},   {"%4", NULL},     {"a%", NULL},    {"%4g", NULL},    {"%g4", NULL},
      {"%-1", NULL}, {"%%41", NULL},   {"%41%4", NULL}, {"% 4", NULL},    {"%2f..%2F", "/../"},
  };
  for (size_t i = 0; i < COUNT(escapes); i++) {
    size_t n = strlen(escapes[i].s);
    char *s = exact_copy(escapes[i].s, n), *out = malloc(n ? n : 1);
    assert_non_null(out);
    ptrdiff_t len = http_percent_decode(s, n, out);
    if (escapes[i].out) {
      assert_int_equal(len, strlen(escapes[i].out));
      if (len) assert_memory_equal(out, escapes[i].out, (size_t)len);
    } else if (len != -1) {
      fail_msg("%s", escapes[i].s);
    }
    free(s);
    free(out);
  }
}

/* ---- responses ------------------------------------------------------------------------------- */

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"
#define D    "Date: " DATE "\r\n"

static const struct {
  struct http_response response;
  const char *text;
} responses[] = {
    {{.status = 200,
      .content_type = "text/plain",
      .content_type_len = 10,
      .content_length = 5,
      .is_keep_alive = true},
     "HTTP/1.1 200 OK\r\n" D "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n"},
    {{.status = 200, .content_length = 0, .is_keep_alive = false},
     "HTTP/1.1 200 OK\r\n" D "Content-Length: 0\r\nConnection: close\r\n\r\n"},
    {{.status = 200, .content_length = INT64_MAX, .is_keep_alive = true, .is_http_1_0 = true},
     "HTTP/1.1 200 OK\r\n" D
     "Content-Length: 9223372036854775807\r\nConnection: keep-alive\r\n\r\n"},
    {{.status = 200, .content_length = 1, .is_http_1_0 = true},
     "HTTP/1.1 200 OK\r\n" D "Content-Length: 1\r\nConnection: close\r\n\r\n"},
    {{.status = 204, .content_length = -1, .is_keep_alive = true},
     "HTTP/1.1 204 No Content\r\n" D "\r\n"},
    {{.status = 304,
      .content_length = -1,
      .is_keep_alive = true,
      .extra = "ETag: \"x\"\r\n",
      .extra_len = 11},
     "HTTP/1.1 304 Not Modified\r\n" D "ETag: \"x\"\r\n\r\n"},
    {{.status = 101,
      .content_length = -1,
      .is_keep_alive = true,
      .extra = "Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n",
      .extra_len = 45},
     "HTTP/1.1 101 Switching Protocols\r\n" D "Connection: Upgrade\r\n"
     "Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"},
    {{.status = 431,
      .content_type = "text/plain; charset=utf-8",
      .content_type_len = 10,
      .content_length = 12},
     "HTTP/1.1 431 Request Header Fields Too Large\r\n" D
     "Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"},
    {{.status = 299,
      .content_length = 0,
      .is_keep_alive = true}, /* no words for it: the space stays */
     "HTTP/1.1 299 \r\n" D "Content-Length: 0\r\n\r\n"},
};

static void response_heads_are_written(void **state) {
  (void)state;
  struct builder b = {0};
  for (size_t i = 0; i < COUNT(responses); i++) {
    struct http_response response = responses[i].response;
    struct slice s;
    response.date = DATE;
    builder_begin(&b);
    builder_text(&b, "before");
    http_write_head(&b, &response);
    assert_true(builder_commit(&b, &s));
    assert_int_equal(s.len, 6 + strlen(responses[i].text));
    assert_memory_equal(slice_data(&s) + 6, responses[i].text, s.len - 6);
  }
  builder_fini(&b);
}

static void statuses_have_words(void **state) {
  (void)state;
  static const unsigned used[] = {100, 101, 200, 204, 206, 301, 304, 400, 401, 403, 404,
                                  405, 406, 408, 409, 411, 412, 413, 414, 415, 416, 417,
                                  426, 429, 431, 500, 501, 502, 503, 504, 505};
  for (size_t i = 0; i < COUNT(used); i++)
    if (!*http_status_text(used[i])) fail_msg("%u", used[i]);
  assert_string_equal(http_status_text(404), "Not Found");
  assert_string_equal(http_status_text(0), "");
  assert_string_equal(http_status_text(999), "");
  for (unsigned i = 0; i < 1000; i++) /* they go into a line as they are */
    assert_null(strpbrk(http_status_text(i), "\r\n"));
}

static void dates_are_written(void **state) {
  (void)state;
  static const struct {
    int64_t seconds;
    const char *text;
  } dates[] = {
      {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
      {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110 section 5.6.7 */
      {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
      {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
      {1709164800, "Thu, 29 Feb 2024 00:00:00 GMT"},
      {1735689599, "Tue, 31 Dec 2024 23:59:59 GMT"},
      {2147483648, "Tue, 19 Jan 2038 03:14:08 GMT"},
      {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"}, /* 2100 is no leap year */
      {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
  };
  char out[30], expected[64];
  for (size_t i = 0; i < COUNT(dates); i++) {
    http_date(dates[i].seconds, out);
    assert_string_equal(out, dates[i].text);
  }
  uint64_t seed = 3;
  for (int i = 0; i < 5000; i++) { /* this process runs in the C locale */
    time_t t = (time_t)(next_random(&seed) % 253402300800u);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    http_date(t, out);
    assert_string_equal(out, expected);
  }
}

/* ---- random bytes ---------------------------------------------------------------------------- */

/* Good requests with a few bytes changed, in random pieces: the outcome must not depend on them. */
static void mutilated_requests_have_one_outcome(void **state) {
  (void)state;
  static const char alphabet[] = "\r\n \t:;,/?%#0159afGHx\"\\\x01\x7f\xff";
  uint64_t seed = 11;
  for (int round = 0; round < 3000; round++) {
    size_t i = random_below(&seed, COUNT(cases)), n = cases[i].n;
    char *s = exact_copy(cases[i].bytes, n);
    for (unsigned k = random_below(&seed, 4); k; k--)
      s[random_below(&seed, (unsigned)n)] = alphabet[random_below(&seed, sizeof alphabet)];
    struct outcome whole = feed_pieces(s, n, &usual, n, n);
    size_t first = 1 + random_below(&seed, (unsigned)n), others = 1 + random_below(&seed, 9);
    struct outcome pieces = feed_pieces(s, n, &usual, first, others);
    assert_same_outcome(&whole, &pieces, first);
    free(whole.text);
    free(pieces.text);
    free(s);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_shape_has_its_answer),
      cmocka_unit_test(all_parts_of_a_request_are_told),
      cmocka_unit_test(an_absolute_target_tells_path_and_host),
      cmocka_unit_test(nothing_is_left_of_the_request_before),
      cmocka_unit_test(trailers_change_nothing),
      cmocka_unit_test(the_connection_field_is_a_list_of_tokens),
      cmocka_unit_test(expectations_are_told),
      cmocka_unit_test(bytes_behind_an_upgrade_are_left_alone),
      cmocka_unit_test(a_head_ends_within_its_limit),
      cmocka_unit_test(no_part_of_a_head_is_free),
      cmocka_unit_test(a_target_ends_within_its_limit),
      cmocka_unit_test(a_long_request_line_has_one_answer),
      cmocka_unit_test(the_usual_limits_are_kept_too),
      cmocka_unit_test(a_hundred_fields_are_enough),
      cmocka_unit_test(a_body_ends_within_its_limit),
      cmocka_unit_test(the_body_limit_may_change_after_the_head),
      cmocka_unit_test(chunk_framing_is_counted),
      cmocka_unit_test(body_behind_a_flood_does_not_pay_for_it),
      cmocka_unit_test(buffers_shrink_between_requests),
      cmocka_unit_test(keep_copies_what_was_borrowed),
      cmocka_unit_test(tokens_are_found_in_lists),
      cmocka_unit_test(fields_are_found_by_name),
      cmocka_unit_test(gzip_is_taken_by_who_says_so),
      cmocka_unit_test(ranges_are_parts_of_what_there_is),
      cmocka_unit_test(percent_escapes_are_decoded),
      cmocka_unit_test(response_heads_are_written),
      cmocka_unit_test(statuses_have_words),
      cmocka_unit_test(dates_are_written),
      cmocka_unit_test(mutilated_requests_have_one_outcome),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
