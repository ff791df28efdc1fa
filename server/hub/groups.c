/* SPDX-License-Identifier: MIT */
/* groups.c -- named sets of connections; hands one frame to all members of a set.
 *
 *   group "lobby" ──▶ members [ conn, conn, conn, ... ]      dense: delivery walks an array
 *                        ▲ index
 *   conn ──▶ membership ─┴▶ membership ──▶ ...               leaving swaps with the last */
#include "hub/groups.h"

#include "base/mem.h"
#include "net/conn.h"
#include "net/worker.h"
#include "net/ws_conn.h"

#include <stdlib.h>
#include <string.h>

/* uthash's abort hook: the same words as every other exhausted allocation */
#define uthash_malloc(n)  mem_alloc(n)
#define uthash_free(p, n) free(p)
#include <uthash.h>

struct member {
  struct conn *conn;
  struct membership *membership;
};

struct group {
  UT_hash_handle hh;
  struct member *members;
  uint32_t n, cap;
  uint32_t name_len;
  char name[];
};

struct membership {
  struct group *group;
  struct membership *next; /* of the same connection */
  uint32_t index;          /* in group->members */
};

static struct subscriber *subscriber_of(struct conn *conn) {
  return conn_upper(conn);
}

void groups_init(struct groups *g, struct worker *w) {
  *g = (struct groups){.worker = w};
}

void groups_fini(struct groups *g) {
  check(g->by_name == NULL);
  builder_fini(&g->out);
}

static struct group *find(const struct groups *g, const char *name, size_t n) {
  struct group *group = NULL;
  HASH_FIND(hh, g->by_name, name, n, group);
  return group;
}

static struct membership **find_membership(struct conn *conn, const struct group *group) {
  struct membership **at = &subscriber_of(conn)->joined;
  while (*at && (*at)->group != group) at = &(*at)->next;
  return at;
}

bool groups_add(struct groups *g, struct conn *conn, const char *name, size_t n) {
  check(n > 0 && n <= GROUP_NAME_MAX);
  struct group *group = find(g, name, n);
  if (!group) {
    group = mem_zalloc(sizeof *group + n);
    group->name_len = (uint32_t)n;
    memcpy(group->name, name, n);
    HASH_ADD_KEYPTR(hh, g->by_name, group->name, n, group);
  } else if (*find_membership(conn, group)) {
    return false;
  }
  struct subscriber *sub = subscriber_of(conn);
  struct membership *m = mem_alloc(sizeof *m);
  *m = (struct membership){group, sub->joined, group->n};
  sub->joined = m;
  sub->n_joined++;
  if (group->n == group->cap) {
    group->cap = group->cap ? group->cap * 2 : 2;
    group->members = mem_realloc(group->members, group->cap * sizeof *group->members);
  }
  group->members[group->n++] = (struct member){conn, m};
  return true;
}

static void leave(struct groups *g, struct membership *m) {
  struct group *group = m->group;
  struct member last = group->members[--group->n];
  group->members[m->index] = last;
  last.membership->index = m->index;
  if (group->n == 0) {
    HASH_DEL(g->by_name, group);
    free(group->members);
    free(group);
  } else if (group->cap > 16 && group->n < group->cap / 4) {
    group->cap /= 2;
    group->members = mem_realloc(group->members, group->cap * sizeof *group->members);
  }
  free(m);
}

bool groups_discard(struct groups *g, struct conn *conn, const char *name, size_t n) {
  struct group *group = find(g, name, n);
  if (!group) return false;
  struct membership **at = find_membership(conn, group), *m = *at;
  if (!m) return false;
  *at = m->next;
  subscriber_of(conn)->n_joined--;
  leave(g, m);
  return true;
}

void groups_leave_all(struct groups *g, struct conn *conn) {
  struct subscriber *sub = subscriber_of(conn);
  while (sub->joined) {
    struct membership *m = sub->joined;
    sub->joined = m->next;
    leave(g, m);
  }
  sub->n_joined = 0;
}

uint32_t groups_count(const struct groups *g, const char *name, size_t n) {
  struct group *group = find(g, name, n);
  return group ? group->n : 0;
}

void groups_each_of(struct conn *conn, void (*fn)(const char *name, size_t n, void *arg),
                    void *arg) {
  for (struct membership *m = subscriber_of(conn)->joined; m; m = m->next)
    fn(m->group->name, m->group->name_len, arg);
}

void groups_each_member(const struct groups *g, const char *name, size_t n,
                        void (*fn)(struct conn *conn, void *arg), void *arg) {
  struct group *group = find(g, name, n);
  for (uint32_t i = 0; group && i < group->n; i++) fn(group->members[i].conn, arg);
}

void groups_publish_begin(struct groups *g) {
  g->stamp++;
  if (g->stamp == 0) g->stamp = 1; /* 0 marks connections no publish has touched */
}

void groups_exclude(struct groups *g, struct conn *conn) {
  subscriber_of(conn)->stamp = g->stamp;
}

uint32_t groups_deliver(struct groups *g, const char *name, size_t n, struct slice frame) {
  struct group *group = find(g, name, n);
  uint32_t reached = 0;
  if (!group) return 0;
  for (uint32_t i = 0; i < group->n; i++) {
    struct conn *conn = group->members[i].conn;
    struct subscriber *sub = subscriber_of(conn);
    if (sub->stamp == g->stamp) continue;
    sub->stamp = g->stamp;
    reached += ws_send_frame(conn, frame);
  }
  metric_add(&g->worker->metrics.group_deliveries, reached);
  return reached;
}

void groups_rewind(struct groups *g) {
  builder_rewind(&g->out);
}
