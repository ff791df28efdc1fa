/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_REDIS_H
#define PERIGEE_REDIS_H

#include "hub/reply.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* redis.c -- one connection to a Redis server: commands out, replies back in the same order, and a
 * new connection after each loss.
 *
 *   WAITING ─▶ RESOLVING ─▶ CONNECTING ─▶ GREETING (AUTH, SELECT, CLIENT SETNAME) ─▶ READY
 *      ▲                                                                              │
 *      └────── backoff with jitter ◀──────── error, silence, end ◀────────────────────┘
 *
 * A name is resolved for each attempt, and its addresses are tried one after the other until one of
 * them greets; the timeout holds for all of them together. hiredis reads the protocol; the socket
 * is libuv's. Loop's thread only. */

struct redis_url {
  char *host; /* owned; or the path of a Unix socket */
  bool is_unix;
  unsigned port, db;
  char *user, *password; /* owned, or NULL; may hold any byte */
  size_t user_len, password_len;
  char *shown; /* owned: the URL without its password, for people */
};

/* redis://[user:password@]host[:port][/db], unix:/path[?db=N]. False with a static reason. */
bool redis_url_parse(const char *text, struct redis_url *out, const char **why);
void redis_url_free(struct redis_url *url);

/* Does this error reply say that Redis is there, but does not want us? Then somebody has to change
 * something; any other (LOADING, BUSY, MASTERDOWN) may have passed by the next attempt. */
bool redis_is_refusal(const char *error);

struct redis;

struct redis_events {
  /* Greeted: commands can be sent. */
  void (*ready)(struct redis *r);
  /* The connection is lost, or could not be made; every command under way was answered with NULL.
   * why: static or valid during the call. is_fatal: Redis refused us (password, database), so
   * trying again will not help unless somebody acts. */
  void (*lost)(struct redis *r, const char *why, bool is_fatal);
  /* A reply nobody sent a command for: subscriptions. Takes the reply. NULL: there are none. */
  void (*push)(struct redis *r, struct reply *reply);
};

/* Takes the reply; NULL: the connection was lost before one came. */
typedef void redis_reply_fn(void *arg, struct reply *reply);

struct redis_pending {
  redis_reply_fn *fn; /* NULL: nobody cares, errors are logged */
  void *arg;
};

enum redis_state {
  REDIS_CLOSED,
  REDIS_WAITING,
  REDIS_RESOLVING,
  REDIS_CONNECTING,
  REDIS_GREETING,
  REDIS_READY,
};

struct redis {
  uv_loop_t *loop;
  const struct redis_url *url; /* borrowed */
  const char *name;            /* for CLIENT SETNAME and the log; static */
  const struct redis_events *events;
  void *owner;
  uint64_t
      timeout_ms; /* from resolving to ready, and without a sign of life while a reply is due */
  enum redis_state state;
  struct redis_stream *stream; /* owned by libuv's close callback; NULL between connections */
  uv_timer_t timer;            /* backoff, connecting, silence */
  uv_prepare_t prepare;        /* writes what a turn gathered */
  uv_getaddrinfo_t resolver;
  struct addrinfo *addresses; /* owned: the host's, while one is looked for */
  struct addrinfo *untried;   /* those of them that are left */
  uint64_t deadline;          /* uv_now: until then one must have greeted */
  bool is_resolving, is_stopping;
  unsigned attempts;  /* since it was last ready */
  uint64_t last_sign; /* uv_now of the last bytes */
  uint64_t asked;     /* uv_now of a PING since then; 0: none */
  char *out;          /* owned: commands not handed to libuv yet */
  size_t out_len, out_cap;
  size_t unsent;                 /* with what libuv holds */
  struct redis_pending *pending; /* owned ring */
  uint32_t first, n_pending, cap_pending;
  unsigned n_greetings; /* replies to our own greeting that are due */
};

enum { REDIS_OUT_MAX = 32 * 1024 * 1024 };

/* Starts connecting and goes on for ever, until redis_close. */
void redis_open(struct redis *r, uv_loop_t *loop, const struct redis_url *url, const char *name,
                uint64_t timeout_ms, const struct redis_events *events, void *owner);
/* Pending commands are answered with NULL; handles close on the loop. */
void redis_close(struct redis *r);
/* After the loop has ended. */
void redis_fini(struct redis *r);

/* Sends a command made by redis_format. False when not ready, or when too much is unsent: fn is not
 * called then. */
bool redis_send(struct redis *r, const char *bytes, size_t n, redis_reply_fn *fn, void *arg);
/* The same, from words. */
bool redis_command(struct redis *r, redis_reply_fn *fn, void *arg, size_t argc,
                   const char *const *argv, const size_t *lens);
/* For connections whose replies are all pushes; has no limit, so only for what is rare. */
bool redis_send_only(struct redis *r, size_t argc, const char *const *argv, const size_t *lens);

/* Asks for a sign of life when there was none for half of timeout_ms, and gives the connection up
 * when none came for the other half. Call a few times within timeout_ms. */
void redis_tend(struct redis *r);
/* Our own loop stood still: the silence is not Redis's. */
void redis_excuse(struct redis *r);

#endif
