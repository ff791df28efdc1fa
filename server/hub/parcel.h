/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PARCEL_H
#define PERIGEE_PARCEL_H

#include "base/buf.h"
#include "hub/topics.h"
#include "net/mailbox.h"

/* parcel.c -- what workers, and the broker, send each other: one counted, immutable body and where
 * it goes. Made by one thread, freed by the one that gets it. */

enum { GROUP_NAME_MAX = 200 };

/* Kinds of mail. Kinds below PARCEL_FIRST are the host's own. */
enum parcel_kind {
  PARCEL_FIRST = 16,
  PARCEL_PUBLISH = PARCEL_FIRST, /* body, a frame, to the members of groups */
  PARCEL_SEND,                   /* body, a frame, to one connection */
  PARCEL_TEXT,                   /* body, a text, to a worker's Lua, or to all with group members */
  PARCEL_WAKE,                   /* a wait is over, with a reply */
  PARCEL_CHANGED,                /* to the broker: look at the topic */
  PARCEL_COMMAND,                /* to the broker: a Redis command */
  PARCEL_SUBSCRIBED,             /* to the broker: wake the waiter once the topic is subscribed */
};

/* Where a connection, or a worker (conn 0), is in the cluster; as text it is a channel name:
 * "<node, 16 hex digits>.<worker>.<conn, hex>". */
struct address {
  uint64_t node;
  uint64_t conn;
  uint32_t worker;
};
enum { ADDRESS_TEXT = 16 + 1 + 10 + 1 + 16 + 1 };

/* A task that waits for an answer; task 0: nobody does. */
struct waiter {
  uint64_t task;
  uint32_t wait;
  uint32_t worker; /* of this process */
};

struct group_name {
  const char *text;
  size_t len;
};

struct parcel {
  struct mail mail;  /* first */
  struct slice body; /* counted; len 0: none */
  struct address to;
  struct waiter waiter;
  struct topic *topic; /* held; or NULL */
  struct reply *reply; /* owned; or NULL */
  bool is_true;        /* PARCEL_WAKE without a reply: what the waiter gets */
  uint16_t n_names, n_except;
  struct group_name *names;     /* inside this allocation */
  const struct address *except; /* inside this allocation */
};

/* Takes a reference to the body (which may be empty) and copies names and addresses. */
struct parcel *parcel_new(enum parcel_kind kind, struct slice body, const struct group_name *names,
                          size_t n_names, const struct address *except, size_t n_except);
/* A topic it holds must have been released, as that needs the table. */
void parcel_free(struct parcel *p);

/* False when the text is no channel name. */
bool address_parse(const char *text, size_t n, struct address *out);
/* Writes the channel name; returns its length. */
int address_write(const struct address *a, char out[static ADDRESS_TEXT]);

#endif
