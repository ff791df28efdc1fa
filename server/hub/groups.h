/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_GROUPS_H
#define PERIGEE_GROUPS_H

#include "base/buf.h"
#include "hub/layer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* groups.c -- named sets of connections; hands one frame to all members of a set.
 *
 * Delivery queues references to one block and runs no user code, so a set cannot change while it
 * is walked. Worker's thread only; members on other workers and machines are reached by mail. */

struct conn;
struct worker;
struct membership;

/* What a connection's memory above net/ begins with: conn_upper(conn) is a struct subscriber *. */
struct subscriber {
  struct membership *joined; /* owned list */
  uint32_t n_joined;
  uint32_t stamp; /* of the last publish that has dealt with this connection */
};

struct groups {
  struct worker *worker;
  struct layer *layer;
  struct outbox *outbox; /* the worker's */
  struct group *by_name; /* hash */
  struct builder out;    /* published frames: blocks of their own, as many queues share them */
  uint32_t stamp;
};

void groups_init(struct groups *g, struct worker *w, struct layer *layer, struct outbox *outbox);
/* All connections must have left. */
void groups_fini(struct groups *g);

/* A connection joins, with a JSON text that tells others who it is (n_meta 0: none). *joined is
 * false when it was a member already: its meta is the new one then. Returns the group's topic,
 * borrowed. name: 1 to GROUP_NAME_MAX bytes. */
struct topic *groups_add(struct groups *g, struct conn *conn, const char *name, size_t n,
                         const char *meta, size_t n_meta, bool *joined);
/* False when it was none. */
bool groups_discard(struct groups *g, struct conn *conn, const char *name, size_t n);
/* Call when a connection is over; repeatable. */
void groups_leave_all(struct groups *g, struct conn *conn);

/* Members in this process. */
uint32_t groups_count(const struct groups *g, const char *name, size_t n);

/* Calls fn with the name of each group the connection is in, latest first. */
void groups_each_of(struct conn *conn, void (*fn)(const char *name, size_t n, void *arg),
                    void *arg);

/* Calls fn with each group that has members here, in no particular order; fn must not change any
 * membership. */
void groups_each(const struct groups *g,
                 void (*fn)(const char *name, size_t n, uint32_t members, void *arg), void *arg);

/* Calls fn for each member on this worker, with its meta; fn must not change any membership. */
struct member_view {
  struct conn *conn;
  const char *meta; /* JSON, not terminated; NULL: none */
  size_t n_meta;
};
void groups_each_member(const struct groups *g, const char *name, size_t n,
                        void (*fn)(const struct member_view *member, void *arg), void *arg);

/* Sends a frame, made with g->out, to the members of all these groups, wherever they are: once to a
 * connection, and not to `except`. */
void groups_publish(struct groups *g, const struct group_name *names, size_t n_names,
                    const struct address *except, size_t n_except, struct slice frame);
/* A publish of another worker or machine: to the members here. */
void groups_take(struct groups *g, const struct parcel *p);

/* After a turn's flush: published bytes nobody waits for make room again. */
void groups_rewind(struct groups *g);

#endif
