/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_GENERATION_H
#define PERIGEE_GENERATION_H

#include "net/mailbox.h"

#include <stdbool.h>
#include <stdint.h>

/* generation.c -- a worker's part of loading and reloading apps: brings their code into its Lua.
 *
 * The order of steps is the control thread's: bridge/reload.c. What each means is told in
 * lua/perigee/reload.lua. Worker's thread only, except where it says otherwise. */

struct bundle;
struct host;

enum reload_step {
  RELOAD_BUILD, /* the new beside the old */
  RELOAD_SWAP,  /* new calls run new code */
  RELOAD_KEEP,  /* the old goes; answered when that is begun */
  RELOAD_UNDO,  /* what was built goes; after a swap: back to the old */
  RELOAD_PAGES, /* public files have changed: tell the pages of developers; no answer */
};

/* Mail to a worker, of the kind HOST_RELOAD. Owns what it points at, and a reference. */
struct reload_order {
  struct mail mail;
  enum reload_step step;
  unsigned attempt;
  struct bundle *bundle;   /* BUILD; else NULL */
  struct mailbox *answers; /* where the answer goes; open until all workers have ended */
  char *app, *error; /* UNDO: who is to blame (or NULL), and why; NULL: nobody needs to know */
};

/* Mail to the control thread. Owns what it points at. */
struct reload_answer {
  struct mail mail;
  enum reload_step step;
  unsigned attempt, worker;
  bool is_ok;
  char *app, *error; /* when it is not */
  uint64_t us;       /* how long the worker did nothing else */
  uint32_t connections;
};

/* Allocates an order and an answer, zero-filled. Any thread. */
struct reload_order *reload_order_new(enum reload_step step, unsigned attempt,
                                      struct mailbox *answers);
void reload_order_free(struct reload_order *order);
void reload_answer_free(struct reload_answer *answer);

/* Loads and serves all apps of a bundle: a starting worker. False with *error, malloc'd. */
bool generation_load(struct host *h, const struct bundle *bundle, char **error);

/* Does a step and answers. Owns the order. */
void generation_order(struct host *h, struct reload_order *order);

#endif
