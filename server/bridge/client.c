/* SPDX-License-Identifier: MIT */
/* client.c -- who asks, and for which host. */
#include "bridge/client.h"

#include "bridge/host.h"
#include "bridge/settings.h"

#include <stdio.h>

void client_read(const struct conn *conn, const struct http_request *r, struct forwarded *out) {
  char peer[IP_TEXT] = "";
  *out = (struct forwarded){
      .scheme = SCHEME_HTTP, .host = http_text(r, r->host), .host_len = r->host.len};
  conn_peer(conn, peer, sizeof peer, &out->port);
  snprintf(out->address, sizeof out->address, "%s", peer);
  forwarded_read(&host_of_conn(conn)->settings->proxies, r, peer, out);
}

void client_host(const struct conn *conn, const struct http_request *r, struct origin_self *out) {
  struct forwarded f = {
      .scheme = SCHEME_HTTP, .host = http_text(r, r->host), .host_len = r->host.len};
  if (host_of_conn(conn)->settings->proxies.n_trusted) client_read(conn, r, &f);
  *out = (struct origin_self){
      .host = f.host, .host_len = f.host_len, .is_secure = f.scheme == SCHEME_HTTPS};
}

size_t client_line(const struct conn *conn, const struct http_request *r,
                   char out[static CLIENT_LINE_MAX]) {
  struct forwarded f;
  client_read(conn, r, &f);
  int n = snprintf(out, CLIENT_LINE_MAX, "%s %u %s %.*s\r\n", f.address, f.port,
                   f.scheme == SCHEME_HTTPS ? "https" : "http", (int)f.host_len, f.host);
  return (size_t)n; /* a host has at most 255 bytes */
}
