/* SPDX-License-Identifier: MIT */
/* remote.c -- commands to a running server, from its own user on its own machine. */
#include "net/remote.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

struct remote_client {
  uv_pipe_t pipe; /* must be first */
  struct remote *remote;
  struct remote_client *next;
  uv_write_t write;
  char *answer;  /* owned, while it is written */
  size_t len;    /* of line */
  bool is_asked; /* the command has been handed on */
  bool is_gone;  /* it has hung up: nobody wants the answer */
  bool is_closing;
  char line[REMOTE_LINE_MAX];
};

struct remote {
  uv_pipe_t listener;
  uv_loop_t *loop;
  remote_fn *command;
  void *owner;
  struct remote_client *clients; /* list */
  unsigned n;
};

/* The abstract name for a folder of apps; the length of the address. */
static socklen_t address_of(const char *apps, unsigned number, struct sockaddr_un *address) {
  char path[PATH_MAX];
  uint64_t sum = 0xcbf29ce484222325u;
  const char *real = realpath(apps, path) ? path : apps;
  for (const char *s = real; *s; s++) sum = (sum ^ (uint8_t)*s) * 0x100000001b3u; /* FNV-1a */
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  int n = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "perigee/%016llx.%u",
                   (unsigned long long)sum, number);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* Is the other end our user's, or root's? */
static bool is_trusted(int fd) {
  struct ucred who;
  socklen_t n = sizeof who;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0) return false;
  return who.uid == geteuid() || who.uid == 0;
}

/* ---- the server's side ----------------------------------------------------------------------- */

static void on_client_closed(uv_handle_t *handle) {
  struct remote_client *c = (struct remote_client *)handle;
  struct remote_client **at = &c->remote->clients;
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  c->remote->n--;
  free(c->answer);
  free(c);
}

static void client_close(struct remote_client *c) {
  if (c->is_closing) return;
  c->is_closing = true;
  uv_close((uv_handle_t *)&c->pipe, on_client_closed);
}

static void on_written(uv_write_t *write, int status) {
  (void)status;
  client_close(write->data);
}

void remote_answer(struct remote_client *c, bool is_ok, const char *text) {
  if (c->is_gone) {
    client_close(c);
    return;
  }
  size_t n = strlen(text) + 16;
  c->answer = mem_alloc(n);
  uv_buf_t buf = uv_buf_init(
      c->answer, (unsigned)snprintf(c->answer, n, "%s\n%s", is_ok ? "ok" : "failed", text));
  c->write.data = c;
  if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &buf, 1, on_written) != 0) client_close(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct remote_client *c = (struct remote_client *)handle;
  (void)suggested;
  *buf = uv_buf_init(c->line + c->len, (unsigned)(sizeof c->line - 1 - c->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct remote_client *c = (struct remote_client *)stream;
  (void)buf;
  if (n < 0) { /* also a line that is too long: there was no room */
    c->is_gone = true;
    uv_read_stop(stream);
    if (!c->is_asked) client_close(c);
    return;
  }
  c->len += (size_t)n;
  c->line[c->len] = '\0';
  char *end = strchr(c->line, '\n');
  if (!end || c->is_asked) return;
  *end = '\0';
  c->is_asked = true;
  c->len = 0; /* room to read on into: so that its hanging up is noticed */
  char line[REMOTE_LINE_MAX];
  memcpy(line, c->line, sizeof line);
  c->remote->command(c->remote->owner, c, line);
}

static void on_connection(uv_stream_t *stream, int status) {
  struct remote *r = stream->data;
  uv_os_fd_t fd;
  if (status < 0) return;
  struct remote_client *c = mem_zalloc(sizeof *c);
  c->remote = r;
  c->next = r->clients;
  r->clients = c;
  r->n++;
  uv_pipe_init(r->loop, &c->pipe, 0);
  bool is_welcome = uv_accept(stream, (uv_stream_t *)&c->pipe) == 0 && r->n <= REMOTE_CLIENTS_MAX &&
                    uv_fileno((uv_handle_t *)&c->pipe, &fd) == 0 && is_trusted(fd);
  if (!is_welcome || uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) != 0)
    client_close(c);
}

struct remote *remote_open(uv_loop_t *loop, const char *apps, remote_fn *command, void *owner,
                           int *code) {
  struct sockaddr_un address;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  bool is_bound = false;
  for (unsigned i = 0; fd >= 0 && i < REMOTE_SERVERS_MAX && !is_bound; i++) {
    socklen_t n = address_of(apps, i, &address);
    is_bound = bind(fd, (struct sockaddr *)&address, n) == 0;
    if (!is_bound && errno != EADDRINUSE) break;
  }
  if (!is_bound) {
    *code = uv_translate_sys_error(errno);
    if (fd >= 0) close(fd);
    return NULL;
  }
  struct remote *r = mem_zalloc(sizeof *r);
  r->loop = loop;
  r->command = command;
  r->owner = owner;
  uv_pipe_init(loop, &r->listener, 0);
  r->listener.data = r;
  check(uv_pipe_open(&r->listener, fd) == 0);
  *code = uv_listen((uv_stream_t *)&r->listener, BACKLOG, on_connection);
  return r;
}

void remote_close(struct remote *r) {
  uv_close((uv_handle_t *)&r->listener, NULL);
  for (struct remote_client *c = r->clients; c; c = c->next) client_close(c);
}

void remote_free(struct remote *r) {
  free(r);
}

/* ---- the other side -------------------------------------------------------------------------- */

/* Waits for what poll says. 0, or an error of libuv's. */
static int wait_for(int fd, short events, uint64_t end) {
  struct pollfd ready = {.fd = fd, .events = events};
  for (;;) {
    uint64_t now = uv_hrtime() / 1000000;
    int n = now >= end ? 0 : poll(&ready, 1, (int)(end - now));
    if (n > 0) return 0;
    if (n == 0) return UV_ETIMEDOUT;
    if (errno != EINTR) return uv_translate_sys_error(errno);
  }
}

static int read_all(int fd, char *text, uint64_t end) {
  size_t len = 0;
  for (;;) {
    int code = wait_for(fd, POLLIN, end);
    if (code) return code;
    ssize_t k = read(fd, text + len, REMOTE_ANSWER_MAX + 1 - len);
    if (k < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (k <= 0) break;
    len += (size_t)k;
    if (len > REMOTE_ANSWER_MAX) return UV_EMSGSIZE;
  }
  text[len] = '\0';
  return len ? 0 : UV_ECONNRESET;
}

/* The user who listens at the other end. */
static int user_of(int fd, uid_t *user) {
  struct ucred who;
  socklen_t n = sizeof who;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0) return uv_translate_sys_error(errno);
  *user = who.uid;
  return 0;
}

/* Anybody may listen at any abstract name. Our own servers are believed, and root's; root believes
 * the owner of the apps as well, who decides anyway what the server runs. */
static bool is_believed(uid_t user, const char *apps) {
  struct stat info;
  if (user == geteuid() || user == 0) return true;
  return geteuid() == 0 && stat(apps, &info) == 0 && info.st_uid == user;
}

static int ask(int fd, const char *line, char *text, uint64_t end) {
  char command[REMOTE_LINE_MAX + 1];
  int n = snprintf(command, sizeof command, "%s\n", line);
  if (n < 0 || (size_t)n >= sizeof command) return UV_EINVAL;
  /* an empty buffer takes a line: a short write is no case */
  if (send(fd, command, (size_t)n, MSG_NOSIGNAL) != n) return uv_translate_sys_error(errno);
  return read_all(fd, text, end);
}

int remote_ask(const char *apps, unsigned number, const char *line, unsigned ms,
               struct remote_reply *reply) {
  struct sockaddr_un address;
  socklen_t n = address_of(apps, number, &address);
  *reply = (struct remote_reply){0};
  /* non-blocking: a full backlog would hold us for as long as its owner likes */
  int code, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return uv_translate_sys_error(errno);
  char *text = mem_alloc(REMOTE_ANSWER_MAX + 2);
  if (connect(fd, (struct sockaddr *)&address, n) != 0)
    code = uv_translate_sys_error(errno);
  else if ((code = user_of(fd, &reply->user)) == 0)
    code = is_believed(reply->user, apps) ? ask(fd, line, text, uv_hrtime() / 1000000 + ms)
                                          : UV_EACCES;
  close(fd);
  if (code == 0) {
    char *end = strchr(text, '\n');
    reply->is_ok = strncmp(text, "ok\n", 3) == 0;
    reply->text = mem_strdup(end ? end + 1 : text);
  }
  free(text);
  return code;
}
