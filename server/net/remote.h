/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_REMOTE_H
#define PERIGEE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

/* remote.c -- commands to a running server, from its own user on its own machine.
 *
 * The server listens on an abstract Unix socket that is named after its folder of apps, and a
 * number if there are several of that folder: it needs no file, and is gone with the process. Who
 * connects is asked of the kernel: the server's own user and root are heard, others are not. A
 * command is a line; the answer is "ok" or "failed", a line end, and a text; then the connection
 * ends. */

enum {
  REMOTE_LINE_MAX = 256,
  REMOTE_CLIENTS_MAX = 16,
  REMOTE_SERVERS_MAX = 16, /* of the same folder of apps */
  REMOTE_ANSWER_MAX = 64 * 1024,
};

struct remote;
struct remote_client;

/* A command has come. Must lead to one remote_answer, at any time before remote_close. */
typedef void remote_fn(void *owner, struct remote_client *client, const char *line);

/* NULL with *code (libuv's): UV_EADDRINUSE when another server of these apps listens already.
 * Loop's thread. */
struct remote *remote_open(uv_loop_t *loop, const char *apps, remote_fn *command, void *owner,
                           int *code);
void remote_answer(struct remote_client *client, bool is_ok, const char *text);
/* No more commands; then run the loop until it returns, then remote_free. */
void remote_close(struct remote *r);
void remote_free(struct remote *r);

struct remote_reply {
  bool is_ok;
  char *text; /* malloc'd, when 0 was returned; what a server says, so not to be shown as it is */
  uid_t user; /* whose server it is; with UV_EACCES whose it is instead */
};

/* The other side, for commands; waits for the answer, for ms at most. number: which of the servers,
 * from 0; there may be gaps. 0, or an error of libuv's: UV_ECONNREFUSED when there is none,
 * UV_EACCES when it is another user's and was not asked, UV_EAGAIN when it takes no connection,
 * UV_ETIMEDOUT, UV_EMSGSIZE. */
int remote_ask(const char *apps, unsigned number, const char *line, unsigned ms,
               struct remote_reply *reply);

#endif
