/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_REMOTE_H
#define PERIGEE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
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

/* The other side, for commands; blocks until the answer is there. number: which of the servers,
 * from 0; there may be gaps. 0, with *is_ok and the text, malloc'd; or an error of libuv's:
 * UV_ECONNREFUSED when there is none, UV_EACCES when it is another user's. */
int remote_ask(const char *apps, unsigned number, const char *line, bool *is_ok, char **text);

#endif
