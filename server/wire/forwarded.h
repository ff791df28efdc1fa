/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_FORWARDED_H
#define PERIGEE_FORWARDED_H

#include "wire/http.h"
#include "wire/network.h"

/* forwarded.c -- whom a proxy in front of us speaks for: X-Forwarded-For, -Proto and -Host, and
 * Forwarded (RFC 7239). Pure; any thread.
 *
 * Anybody can send these fields, so they are read only when the connection comes from a trusted
 * address. Each proxy adds to the right of what it was sent: from the right, the first address that
 * is not trusted is the client. What stands to the left of it is the client's own claim. */

enum forwarded_fields {
  FORWARDED_ANY,     /* X-Forwarded-*, or when there is none of these, Forwarded */
  FORWARDED_X,       /* X-Forwarded-* only */
  FORWARDED_RFC_7239 /* Forwarded only */
};

struct forwarding {
  const struct network *trusted; /* borrowed */
  unsigned n_trusted;
  enum forwarded_fields fields;
};

enum forwarded_scheme { SCHEME_UNKNOWN, SCHEME_HTTP, SCHEME_HTTPS };

/* Who asks, for what. */
struct forwarded {
  char address[IP_TEXT];
  unsigned port; /* 0: not known */
  enum forwarded_scheme scheme;
  const char *host; /* with its port; points into the request */
  size_t host_len;
};

/* Reads what the request came with. peer: text of the connection's own address. *out must hold
 * what is known without proxies and keeps what they do not tell. False when peer is not trusted:
 * *out is as it was. */
bool forwarded_read(const struct forwarding *from, const struct http_request *r, const char *peer,
                    struct forwarded *out);

#endif
