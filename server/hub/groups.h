/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_GROUPS_H
#define PERIGEE_GROUPS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* groups.c -- named sets of connections; hands one frame to all members of a set.
 *
 * Delivery queues references to one block and runs no user code, so a set cannot change while it
 * is walked. Worker's thread only. */

struct conn;
struct worker;
struct membership;

enum { GROUP_NAME_MAX = 200 };

/* What a connection's memory above net/ begins with: conn_upper(conn) is a struct subscriber *. */
struct subscriber {
  struct membership *joined; /* owned list */
  uint32_t n_joined;
  uint32_t stamp; /* of the last publish that has dealt with this connection */
};

struct groups {
  struct worker *worker;
  struct group *by_name; /* hash */
  struct builder out;    /* published frames: blocks of their own, as many queues share them */
  uint32_t stamp;
};

void groups_init(struct groups *g, struct worker *w);
/* All connections must have left. */
void groups_fini(struct groups *g);

/* False when it was a member already. name: 1 to GROUP_NAME_MAX bytes. */
bool groups_add(struct groups *g, struct conn *conn, const char *name, size_t n);
/* False when it was none. */
bool groups_discard(struct groups *g, struct conn *conn, const char *name, size_t n);
/* Call when a connection is over; repeatable. */
void groups_leave_all(struct groups *g, struct conn *conn);

/* Members on this worker. */
uint32_t groups_count(const struct groups *g, const char *name, size_t n);

/* Calls fn with the name of each group the connection is in, latest first. */
void groups_each_of(struct conn *conn, void (*fn)(const char *name, size_t n, void *arg),
                    void *arg);

/* Calls fn for each member; fn must not change any membership. */
void groups_each_member(const struct groups *g, const char *name, size_t n,
                        void (*fn)(struct conn *conn, void *arg), void *arg);

/* A publish to several groups reaches a connection once: begin, exclude who is not meant, deliver
 * to each group, done. The frame must come from g->out. deliver returns how many got it. */
void groups_publish_begin(struct groups *g);
void groups_exclude(struct groups *g, struct conn *conn);
uint32_t groups_deliver(struct groups *g, const char *name, size_t n, struct slice frame);

/* After a turn's flush: published bytes nobody waits for make room again. */
void groups_rewind(struct groups *g);

#endif
