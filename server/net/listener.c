/* SPDX-License-Identifier: MIT */
/* listener.c -- binds, listens, accepts, and hands each socket to a connection.
 *
 * At the limit of connections a client is accepted and told 503, not left in the queue: an error
 * that is seen can be retried, a connection that hangs cannot. */
#include "net/listener.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 }; /* the kernel cuts it to net.core.somaxconn */

struct listener {
  uv_tcp_t tcp; /* must be first */
  struct worker *worker;
  struct listener *next;
};

static void on_closed(uv_handle_t *handle) {
  free(handle);
}

/* Accepts, says 503 and closes. The answer fits any socket buffer; if not, closing says enough. */
static void turn_away(struct worker *w, uv_stream_t *from) {
  static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n";
  static struct log_limit limit = LOG_LIMIT(1);
  struct log_line l;
  uv_tcp_t *tcp = mem_alloc(sizeof *tcp);
  uv_tcp_init(&w->loop, tcp);
  if (uv_accept(from, (uv_stream_t *)tcp) == 0) {
    uv_buf_t buf = uv_buf_init((char *)answer, sizeof answer - 1);
    uv_try_write((uv_stream_t *)tcp, &buf, 1);
  }
  uv_close((uv_handle_t *)tcp, on_closed);
  metric_add(&w->metrics.connections_refused, 1);
  if (log_begin_limited(&l, &limit, LOG_WARN, "too many connections, answered 503")) {
    log_uint(&l, "open", w->n_conns);
    log_uint(&l, "max", w->max_conns);
    log_end(&l);
  }
}

static void on_connection(uv_stream_t *stream, int status) {
  struct listener *listener = (struct listener *)stream;
  struct worker *w = listener->worker;
  if (status < 0) {
    static struct log_limit limit = LOG_LIMIT(1);
    struct log_line l;
    if (log_begin_limited(&l, &limit, LOG_WARN, "cannot accept")) {
      log_str(&l, "error", uv_strerror(status));
      log_end(&l);
    }
    return;
  }
  if (w->n_conns >= w->max_conns)
    turn_away(w, stream);
  else
    conn_accept(w, stream);
}

static int resolve(const char *address, unsigned port, struct sockaddr_storage *out) {
  if (uv_ip4_addr(address, (int)port, (struct sockaddr_in *)out) == 0) return 0;
  return uv_ip6_addr(address, (int)port, (struct sockaddr_in6 *)out);
}

static unsigned port_of(const struct sockaddr_storage *sa) {
  return ntohs(sa->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)sa)->sin6_port
                                         : ((const struct sockaddr_in *)sa)->sin_port);
}

int listener_reserve(const char *address, unsigned *port, unsigned flags, int *fd) {
  struct sockaddr_storage sa;
  socklen_t len = sizeof sa;
  int on = 1, v6_only = (flags & LISTEN_V6_ONLY) != 0, error = resolve(address, *port, &sa);
  if (error) return error;
  *fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*fd < 0) return uv_translate_sys_error(errno);
  /* bound while it does not share, so this fails when anybody is there; shared from then on */
  socklen_t size =
      sa.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  if (sa.ss_family == AF_INET6)
    setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only); /* as uv_tcp_bind does */
  if (setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      bind(*fd, (struct sockaddr *)&sa, size) == 0 &&
      setsockopt(*fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
      getsockname(*fd, (struct sockaddr *)&sa, &len) == 0) {
    *port = port_of(&sa);
    return 0;
  }
  error = uv_translate_sys_error(errno);
  close(*fd);
  return error;
}

int listener_open(struct worker *w, const char *address, unsigned *port, unsigned flags) {
  struct sockaddr_storage sa;
  int len = sizeof sa;
  int error = resolve(address, *port, &sa);
  if (error) return error;
  struct listener *listener = mem_zalloc(sizeof *listener);
  listener->worker = w;
  error = uv_tcp_init_ex(&w->loop, &listener->tcp, sa.ss_family);
  if (error) {
    free(listener);
    return error;
  }
  if (flags & LISTEN_SHARED) {
    uv_os_fd_t fd;
    int on = 1;
    /* libuv 1.44 has no flag for it; the socket exists because a family was given */
    if (uv_fileno((uv_handle_t *)&listener->tcp, &fd) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
      error = UV_ENOTSUP;
  }
  bool is_v6_only = sa.ss_family == AF_INET6 && flags & LISTEN_V6_ONLY;
  if (!error)
    error = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&sa, is_v6_only ? UV_TCP_IPV6ONLY : 0);
  if (!error) error = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
  if (!error) error = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&sa, &len);
  if (error) {
    uv_close((uv_handle_t *)&listener->tcp, on_closed);
    return error;
  }
  *port = port_of(&sa);
  listener->next = w->listeners;
  w->listeners = listener;
  return 0;
}

void listeners_close(struct worker *w) {
  while (w->listeners) {
    struct listener *listener = w->listeners;
    w->listeners = listener->next;
    uv_close((uv_handle_t *)&listener->tcp, on_closed);
  }
}
