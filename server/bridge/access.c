/* SPDX-License-Identifier: MIT */
/* access.c -- which names the server answers to, and who may see what is the operator's.
 *
 * A page elsewhere whose name suddenly leads to 127.0.0.1 is, for the browser, a page of this
 * server's, but its name still stands in Host. So where this machine alone is to be let in, the
 * address that asks is not enough: the name that was asked for counts as well. */
#include "bridge/access.h"

#include "base/log.h"
#include "bridge/host.h"
#include "bridge/settings.h"
#include "wire/authority.h"
#include "wire/network.h"

#include <string.h>

static bool is_loopback(const struct http_request *r) {
  struct authority at;
  return authority_parse(http_text(r, r->host), r->host.len, &at) && authority_is_loopback(&at);
}

static bool is_listed(const struct settings *s, const struct http_request *r) {
  struct authority at;
  if (!authority_parse(http_text(r, r->host), r->host.len, &at)) return false;
  for (char **name = s->hosts; *name; name++)
    if (authority_is_below(&at, *name)) return true;
  return false;
}

bool access_names_us(const struct conn *conn, const struct http_request *r) {
  static struct log_limit limit = LOG_LIMIT(5);
  struct log_line l;
  const struct settings *s = host_of_conn(conn)->settings;
  if (!s->is_dev && !s->hosts[0]) return true;
  if (is_loopback(r) || is_listed(s, r)) return true;
  if (r->host.len == 0 && r->minor == 0) return true; /* no browser's: they all say a name */
  metric_add(&conn->worker->metrics.hosts_refused, 1);
  if (log_begin_limited(&l, &limit, LOG_WARN, "host not answered to")) {
    log_bytes(&l, "host", http_text(r, r->host), r->host.len);
    log_str(&l, "to_allow_it", "name it in the setting hosts, without a port");
    log_end(&l);
  }
  return false;
}

bool access_is_local(const struct conn *conn, const struct http_request *r) {
  static const char *const proxied[] = {"x-forwarded-for",   "forwarded", "x-forwarded-host",
                                        "x-forwarded-proto", "x-real-ip", "via"};
  char address[IP_TEXT];
  unsigned port;
  for (size_t i = 0; i < sizeof proxied / sizeof *proxied; i++)
    if (http_find(r, proxied[i])) return false;
  if (!conn_peer(conn, address, sizeof address, &port)) return false;
  return (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0) && is_loopback(r);
}

/* The inspector shows everything and asks nobody who they are, so it is for this machine alone: by
 * the peer's address, by the name it was asked for, and by the page's origin, which the handshake
 * compares with that name. Outside of dev it also has a port of its own. */
bool access_may_inspect(const struct conn *conn, const struct http_request *r) {
  const struct host *h = host_of_conn(conn);
  if (!h->inspector || !access_is_local(conn, r)) return false;
  return h->settings->is_dev || (h->admin_port && conn_local_port(conn) == h->admin_port);
}
