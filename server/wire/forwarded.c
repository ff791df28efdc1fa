/* SPDX-License-Identifier: MIT */
/* forwarded.c -- whom a proxy in front of us speaks for.
 *
 * Every list is taken apart from left to right, for only so quotes can be told, and then read from
 * right to left. What is malformed ends the reading: a client must not be able to open a quote that
 * swallows what the proxy adds behind it. */
#include "wire/forwarded.h"

#include "wire/authority.h"

#include <string.h>
#include <strings.h>

/* Proxies in a row that are looked at; who has more of them has a loop. */
enum { HOPS = 32 };

struct text {
  const char *at;
  size_t len;
};

/* The last HOPS members of a list, over all fields of one name. */
struct list {
  struct text members[HOPS]; /* a ring */
  unsigned n;                /* members seen, counted up to the end */
};

static void list_add(struct list *l, const char *at, size_t len) {
  l->members[l->n++ % HOPS] = (struct text){at, len};
}

/* The k-th from the right; {NULL, 0} when there is none, or it is forgotten. */
static struct text list_get(const struct list *l, unsigned k) {
  if (k >= l->n || k >= HOPS) return (struct text){NULL, 0};
  return l->members[(l->n - 1 - k) % HOPS];
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

static struct text trim(const char *s, const char *end) {
  while (s < end && is_blank(*s)) s++;
  while (end > s && is_blank(end[-1])) end--;
  return (struct text){s, (size_t)(end - s)};
}

/* Where the member that begins at s ends. A quote that nobody closes makes all that is left one
 * member, which then is no valid one. */
static const char *member_end(const char *s, const char *end, bool has_quotes) {
  bool is_quoted = false;
  for (; s < end; s++) {
    if (is_quoted && *s == '\\' && s + 1 < end)
      s++;
    else if (has_quotes && *s == '"')
      is_quoted = !is_quoted;
    else if (*s == ',' && !is_quoted)
      break;
  }
  return s;
}

/* False when there is no such field. */
static bool list_read(const struct http_request *r, const char *name, bool has_quotes,
                      struct list *l) {
  bool is_there = false;
  l->n = 0;
  for (uint32_t i = 0; i < r->n_fields; i++) {
    if (!http_span_is(r, r->fields[i].name, name)) continue;
    is_there = true;
    const char *s = http_text(r, r->fields[i].value), *end = s + r->fields[i].value.len;
    while (s < end) {
      const char *stop = member_end(s, end, has_quotes);
      struct text member = trim(s, stop);
      if (member.len) list_add(l, member.at, member.len); /* RFC 9110 section 5.6.1.2 */
      s = stop < end ? stop + 1 : end;
    }
  }
  return is_there;
}

/* ---- members --------------------------------------------------------------------------------- */

/* "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80", "2001:db8::1". False for names
 * that stand for an address ("unknown", "_hidden": RFC 7239 section 6) and everything else. */
static bool read_node(struct text t, struct ip *ip, unsigned *port) {
  const char *end = t.at + t.len, *behind = end;
  struct text address = t;
  *port = 0;
  if (t.len && t.at[0] == '[') {
    const char *close = memchr(t.at, ']', t.len);
    if (!close) return false;
    address = (struct text){t.at + 1, (size_t)(close - t.at) - 1};
    if (!memchr(address.at, ':', address.len)) return false;
    behind = close + 1;
  } else {
    const char *colon = t.len ? memchr(t.at, ':', t.len) : NULL;
    if (colon && !memchr(colon + 1, ':', (size_t)(end - colon) - 1)) {
      address.len = (size_t)(colon - t.at);
      behind = colon;
    }
  }
  if (behind < end) {
    if (*behind++ != ':' || behind == end || end - behind > 5) return false;
    for (; behind < end; behind++) {
      if (*behind < '0' || *behind > '9') return false;
      *port = *port * 10 + (unsigned)(*behind - '0');
    }
    if (*port > 65535) return false;
  }
  return ip_parse(address.at, address.len, ip);
}

static enum forwarded_scheme read_scheme(struct text t) {
  static const char *const names[] = {"http", "ws", "https", "wss"};
  for (unsigned i = 0; i < 4; i++)
    if (t.len == strlen(names[i]) && strncasecmp(t.at, names[i], t.len) == 0)
      return i < 2 ? SCHEME_HTTP : SCHEME_HTTPS;
  return SCHEME_UNKNOWN;
}

static void take_scheme(struct forwarded *out, struct text t) {
  enum forwarded_scheme scheme = t.at ? read_scheme(t) : SCHEME_UNKNOWN;
  if (scheme != SCHEME_UNKNOWN) out->scheme = scheme;
}

static void take_host(struct forwarded *out, struct text t) {
  struct authority at;
  if (!t.at || !authority_parse(t.at, t.len, &at)) return;
  out->host = t.at;
  out->host_len = t.len;
}

static bool is_token(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* One proxy's words in a Forwarded field. */
struct element {
  struct text from, proto, host; /* without quotes; at NULL: not there */
};

/* RFC 7239 section 4: pairs name=value, between semicolons. Escapes in quotes are refused: no value
 * that is looked at needs one. False when malformed. */
static bool read_element(struct text t, struct element *e) {
  const char *s = t.at, *end = t.at + t.len;
  *e = (struct element){0};
  while (s < end) {
    const char *name = s;
    while (s < end && is_token(*s)) s++;
    size_t n = (size_t)(s - name);
    if (n == 0 || s == end || *s++ != '=') return false;
    struct text value = {s, 0};
    if (s < end && *s == '"') {
      value.at = ++s;
      while (s < end && *s != '"' && *s != '\\') s++;
      if (s == end || *s != '"') return false;
      value.len = (size_t)(s++ - value.at);
    } else {
      /* more than a token may have: addresses with ports are often sent without quotes */
      while (s < end && (is_token(*s) || (*s && strchr(":[]/", *s)))) s++;
      value.len = (size_t)(s - value.at);
    }
    struct text *slot = n == 3 && strncasecmp(name, "for", 3) == 0     ? &e->from
                        : n == 5 && strncasecmp(name, "proto", 5) == 0 ? &e->proto
                        : n == 4 && strncasecmp(name, "host", 4) == 0  ? &e->host
                                                                       : NULL;
    if (slot && slot->at) return false; /* each once */
    if (slot) *slot = value;
    while (s < end && is_blank(*s)) s++;
    if (s == end) return true;
    if (*s++ != ';') return false;
    while (s < end && is_blank(*s)) s++;
  }
  return true;
}

/* ---- the chain ------------------------------------------------------------------------------- */

static bool is_trusted(const struct forwarding *from, const struct ip *ip) {
  for (unsigned i = 0; i < from->n_trusted; i++)
    if (network_has(&from->trusted[i], ip)) return true;
  return false;
}

/* One step to the left in the chain: notes who that is. True when it is a trusted proxy, whose
 * own words are worth reading. */
static bool step(const struct forwarding *from, struct text node, struct forwarded *out) {
  struct ip ip;
  unsigned port;
  if (!read_node(node, &ip, &port)) return false; /* the last one known stands for it */
  ip_format(&ip, out->address);
  out->port = port;
  return is_trusted(from, &ip);
}

static void read_x(const struct forwarding *from, const struct http_request *r,
                   const struct list *nodes, struct forwarded *out) {
  struct list protos, hosts;
  unsigned k = 0;
  while (k < nodes->n && k < HOPS && step(from, list_get(nodes, k), out)) k++;
  if (nodes->n && k == nodes->n) k--; /* trusted to the end: the leftmost is the client */
  /* Proxies either add to these lists as they do to that of addresses, or write one value. */
  if (list_read(r, "x-forwarded-proto", false, &protos) && protos.n)
    take_scheme(out, list_get(&protos, k < protos.n ? k : protos.n - 1));
  if (list_read(r, "x-forwarded-host", false, &hosts) && hosts.n)
    take_host(out, list_get(&hosts, k < hosts.n ? k : hosts.n - 1));
}

static void read_rfc_7239(const struct forwarding *from, const struct http_request *r,
                          struct forwarded *out) {
  struct list elements;
  struct element e;
  list_read(r, "forwarded", true, &elements);
  for (unsigned k = 0; k < elements.n && k < HOPS; k++) {
    if (!read_element(list_get(&elements, k), &e)) return;
    take_scheme(out, e.proto);
    take_host(out, e.host);
    if (!e.from.at || !step(from, e.from, out)) return;
  }
}

bool forwarded_read(const struct forwarding *from, const struct http_request *r, const char *peer,
                    struct forwarded *out) {
  struct list nodes;
  struct ip ip;
  if (from->n_trusted == 0 || !ip_parse(peer, strlen(peer), &ip) || !is_trusted(from, &ip))
    return false;
  bool has_x = list_read(r, "x-forwarded-for", false, &nodes) ||
               http_find(r, "x-forwarded-proto") || http_find(r, "x-forwarded-host");
  if (from->fields == FORWARDED_X || (from->fields == FORWARDED_ANY && has_x))
    read_x(from, r, &nodes, out);
  else
    read_rfc_7239(from, r, out);
  return true;
}
