/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_BROKER_H
#define PERIGEE_BROKER_H

#include "hub/layer.h"
#include "hub/redis.h"

#include <uv.h>

/* broker.c -- carries what a process's workers say to other processes, and back, through Redis.
 *
 * On the control loop; workers reach it by mail. Keys and channels, each after the prefix:
 *
 *   g:NAME     channel of a group: subscribed while it has members in this process
 *   n:NODE     channel of a process: for one of its connections or workers, and answers
 *   nodes      sorted set: processes by the time their lease ends
 *   c:NODE     hash, gone with the lease: members per group in that process
 *
 * Without Redis, or with one that fails, what is meant for other processes is dropped and counted;
 * nothing that happens inside the process notices. */

struct broker_options {
  const struct redis_url *url;
  const char *prefix; /* "perigee:" */
  uint64_t timeout_ms;
};

struct broker {
  struct layer *layer;
  uv_loop_t *loop;
  struct broker_options options;
  struct mailbox box;
  struct redis commands, events;
  struct outbox outbox; /* what arrived, for the workers */
  struct builder frames;
  uv_timer_t tick;
  uv_prepare_t prepare;
  struct subscription *by_name; /* hash */
  struct source *sources;       /* hash: processes heard of */
  uint64_t seq;                 /* of publishes to several groups */
  uint64_t lease_due;           /* uv_now at which it is renewed */
  uint64_t opened, ticked;      /* uv_now; of the last tick */
  char node[17];
  char *scratch; /* owned: payloads and channel names */
  size_t scratch_cap;
  bool is_registered; /* Redis knows our lease and counts */
  bool is_listening;  /* and our own channel is subscribed */
  bool is_stale;      /* a count could not be sent: all are written again */
  bool was_up;        /* workers were told so last */
  bool is_closing;
  bool is_settled; /* the first attempt to connect has succeeded or failed */
  bool is_refused; /* Redis is there, but does not want us */
  char why[200];   /* the last loss */
};

/* Starts connecting; the options must outlive it. */
void broker_open(struct broker *b, struct layer *layer, uv_loop_t *loop,
                 struct broker_options options);

/* Runs the loop until it is known whether Redis can be reached. False when it refuses us, for what
 * *why says; unreachable is not a refusal: the broker goes on trying. */
bool broker_settle(struct broker *b, const char **why);

/* Leaves the cluster and closes. Workers must have ended; run the loop until it returns. */
void broker_close(struct broker *b);
void broker_fini(struct broker *b);

#endif
