/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_STORE_H
#define PERIGEE_STORE_H

#include "net/mailbox.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* store.c -- sessions that outlive connections: one thread with a queue in front of a keeper.
 *
 *   worker ── job ──▶ queue ──▶ thread: all that waits ──▶ keeper: one transaction
 *     ▲                                                        │
 *     └──────────────── mail, when it is committed ◀───────────┘
 *
 * While a batch is being committed the next one gathers, so the busier the server the more saves
 * share a commit. A keeper (hub/sqlite.c) is what knows a database; it is called by the store's
 * thread only, after it was opened by whichever thread asked first.
 *
 * A session is a set of fields, key and JSON text, under the digest of its id: who reads the
 * database learns no id that a server would accept. Fields are kept one by one, so a save writes
 * what changed and two saves that change different fields both survive, without reading first. */

enum {
  STORE_ID = 32, /* bytes of an id's digest */
  STORE_QUEUE_MAX = 10000,
  STORE_QUEUE_BYTES = 64 * 1024 * 1024,
};

enum store_op {
  STORE_LOAD,    /* fields of a session; moves its end when that is before touch_below */
  STORE_SAVE,    /* changes fields, and the id when it has a new one */
  STORE_DESTROY, /* ends a session */
};

enum store_status {
  STORE_OK,
  STORE_ABSENT, /* there is no such session, or it is over */
  STORE_FAILED, /* the database did; it is in the log */
};

/* Fields as bytes: for each a struct store_field, the key, the value. */
struct store_field {
  uint32_t key;
  uint32_t value; /* bytes, or STORE_REMOVED */
};
#define STORE_REMOVED UINT32_MAX

struct store_bytes {
  char *data; /* owned */
  size_t len, cap;
};

/* value NULL: the field is to be removed. */
void store_field_add(struct store_bytes *b, const char *key, size_t key_len, const char *value,
                     size_t value_len);
/* The field at *at, which moves behind it. False at the end. */
bool store_field_next(const struct store_bytes *b, size_t *at, struct store_field *field,
                      const char **key, const char **value);

/* A job has two owners, the poster and the store. Times are seconds since 1970. */
struct store_job {
  struct mail mail; /* first; kind is the poster's: the job comes back as mail when it is done */
  atomic_uint refs;
  struct mailbox *box;    /* where to; under the store's lock once posted. NULL: nobody waits */
  struct store_job *next; /* the store's */
  enum store_op op;
  uint8_t id[STORE_ID];
  uint8_t new_id[STORE_ID]; /* SAVE, when is_rotated */
  bool is_rotated;
  bool may_create; /* SAVE: makes the session when it is absent */
  int64_t now;
  int64_t ends;          /* LOAD, SAVE: when the session shall end */
  int64_t touch_below;   /* LOAD */
  struct store_bytes in; /* SAVE: changes */
  enum store_status status;
  bool is_touched;        /* LOAD: its end was moved */
  struct store_bytes out; /* LOAD: what it has */
  uint64_t task;          /* this and what follows: the poster's own */
  uint32_t wait;
  bool is_home;
};

/* With one reference. */
struct store_job *store_job_new(enum store_op op);
void store_job_unref(struct store_job *job); /* any thread */

/* What knows a database. */
struct store_keeper {
  /* Opens what `where` names. NULL with *error, malloc'd: what is wrong with which file and what to
   * do about it. */
  void *(*open)(const char *where, char **error);
  /* Does all jobs, in order, and sets their status and results; logs what fails. */
  void (*work)(void *self, struct store_job *jobs);
  /* Removes sessions that are over at `now`, some at a time. True when there are more. */
  bool (*sweep)(void *self, int64_t now);
  void (*close)(void *self);
};

struct store;

/* Nothing is opened before store_open. */
struct store *store_new(void);
/* Ends the thread after the jobs it has, and closes the keeper. NULL is fine. */
void store_free(struct store *s);

/* Opens it with a keeper unless it is open already, in which case it stays as it is. where: the
 * keeper's. Any thread; may block for seconds, so while loading. False with *error, malloc'd. */
bool store_open(struct store *s, const struct store_keeper *keeper, const char *where,
                char **error);

/* Takes a reference of its own when it returns true. False: the queue is full or nothing is open.
 * Any thread. */
bool store_post(struct store *s, struct store_job *job);

/* No job comes back to this box from now on: before it goes. */
void store_forget(struct store *s, struct mailbox *box);

#endif
