/* SPDX-License-Identifier: MIT */
/* groups.c -- named sets of connections; hands one frame to all members of a set.
 *
 *   group "lobby" ──▶ members [ conn, conn, conn, ... ]      dense: delivery walks an array
 *                        ▲ index
 *   conn ──▶ membership ─┴▶ membership ──▶ ...               leaving swaps with the last */
#include "hub/groups.h"

#include "net/conn.h"
#include "net/worker.h"
#include "net/ws_conn.h"

#include <string.h>

/* A frame of another worker that is not longer is copied, so that the members' references to it,
 * two atomic steps each, stay off a cache line that the workers would fight for. */
enum { COPY_MAX = 4096 };

struct member {
  struct conn *conn;
  struct membership *membership;
};

struct group {
  UT_hash_handle hh;
  struct topic *topic; /* held */
  struct member *members;
  uint32_t n, cap;
  uint32_t name_len;
  char name[];
};

struct membership {
  struct group *group;
  struct membership *next; /* of the same connection */
  struct membership **at;  /* what points at it */
  uint32_t index;          /* in group->members */
  uint32_t n_meta;
  char *meta; /* owned; NULL: none */
};

static struct subscriber *subscriber_of(struct conn *conn) {
  return conn_upper(conn);
}

void groups_init(struct groups *g, struct worker *w, struct layer *layer, struct outbox *outbox) {
  *g = (struct groups){.worker = w, .layer = layer, .outbox = outbox, .out = {.is_shared = true}};
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

/* NULL when it is no member. Looks through the shorter of the two lists: a connection in a hundred
 * thousand groups is one of few members in each. */
static struct membership *find_membership(struct conn *conn, const struct group *group) {
  struct subscriber *sub = subscriber_of(conn);
  if (group->n < sub->n_joined) {
    for (uint32_t i = 0; i < group->n; i++)
      if (group->members[i].conn == conn) return group->members[i].membership;
    return NULL;
  }
  struct membership *m = sub->joined;
  while (m && m->group != group) m = m->next;
  return m;
}

static void link_in(struct subscriber *sub, struct membership *m) {
  m->next = sub->joined;
  m->at = &sub->joined;
  if (m->next) m->next->at = &m->next;
  sub->joined = m;
  sub->n_joined++;
}

static void unlink_from(struct subscriber *sub, struct membership *m) {
  *m->at = m->next;
  if (m->next) m->next->at = m->at;
  sub->n_joined--;
}

/* The broker keeps count for other machines: it looks at the topic when it gets round to it, and is
 * told again only after that. */
static void tell_broker(struct groups *g, struct topic *topic) {
  if (!layer_broker(g->layer) || atomic_exchange(&topic->is_changed, true)) return;
  struct parcel *p = parcel_new(PARCEL_CHANGED, (struct slice){0}, NULL, 0, NULL, 0);
  topics_hold_again(&g->layer->topics, topic);
  p->topic = topic;
  outbox_add_broker(g->outbox, p);
}

static void set_meta(struct membership *m, const char *meta, size_t n) {
  free(m->meta);
  m->meta = n ? mem_dup(meta, n) : NULL;
  m->n_meta = (uint32_t)n;
}

static struct group *make(struct groups *g, const char *name, size_t n) {
  struct group *group = mem_zalloc(sizeof *group + n);
  group->name_len = (uint32_t)n;
  memcpy(group->name, name, n);
  group->topic = topics_hold(&g->layer->topics, name, n);
  atomic_fetch_or(&group->topic->workers, 1ull << g->worker->index);
  HASH_ADD_KEYPTR(hh, g->by_name, group->name, n, group);
  return group;
}

static void unmake(struct groups *g, struct group *group) {
  HASH_DEL(g->by_name, group);
  atomic_fetch_and(&group->topic->workers, ~(1ull << g->worker->index));
  topics_release(&g->layer->topics, group->topic);
  free(group->members);
  free(group);
}

struct topic *groups_add(struct groups *g, struct conn *conn, const char *name, size_t n,
                         const char *meta, size_t n_meta, bool *joined) {
  check(n > 0 && n <= GROUP_NAME_MAX);
  struct group *group = find(g, name, n);
  struct membership *m = group ? find_membership(conn, group) : NULL;
  *joined = m == NULL;
  if (m) {
    set_meta(m, meta, n_meta);
    return group->topic;
  }
  if (!group) group = make(g, name, n);
  m = mem_alloc(sizeof *m);
  *m = (struct membership){.group = group, .index = group->n};
  set_meta(m, meta, n_meta);
  link_in(subscriber_of(conn), m);
  if (group->n == group->cap) {
    group->cap = group->cap ? group->cap * 2 : 2;
    group->members = mem_realloc(group->members, group->cap * sizeof *group->members);
  }
  group->members[group->n++] = (struct member){conn, m};
  atomic_fetch_add(&group->topic->members, 1);
  tell_broker(g, group->topic);
  return group->topic;
}

static void leave(struct groups *g, struct membership *m) {
  struct group *group = m->group;
  struct member last = group->members[--group->n];
  group->members[m->index] = last;
  last.membership->index = m->index;
  atomic_fetch_sub(&group->topic->members, 1);
  tell_broker(g, group->topic);
  if (group->n == 0) {
    unmake(g, group);
  } else if (group->cap > 16 && group->n < group->cap / 4) {
    group->cap /= 2;
    group->members = mem_realloc(group->members, group->cap * sizeof *group->members);
  }
  free(m->meta);
  free(m);
}

bool groups_discard(struct groups *g, struct conn *conn, const char *name, size_t n) {
  struct group *group = find(g, name, n);
  if (!group) return false;
  struct membership *m = find_membership(conn, group);
  if (!m) return false;
  unlink_from(subscriber_of(conn), m);
  leave(g, m);
  return true;
}

void groups_leave_all(struct groups *g, struct conn *conn) {
  struct subscriber *sub = subscriber_of(conn);
  while (sub->joined) {
    struct membership *m = sub->joined;
    unlink_from(sub, m);
    leave(g, m);
  }
}

uint32_t groups_count(const struct groups *g, const char *name, size_t n) {
  struct group *group = find(g, name, n);
  return group ? atomic_load(&group->topic->members) : topics_members(&g->layer->topics, name, n);
}

void groups_each_of(struct conn *conn, void (*fn)(const char *name, size_t n, void *arg),
                    void *arg) {
  for (struct membership *m = subscriber_of(conn)->joined; m; m = m->next)
    fn(m->group->name, m->group->name_len, arg);
}

void groups_each(const struct groups *g,
                 void (*fn)(const char *name, size_t n, uint32_t members, void *arg), void *arg) {
  struct group *group, *next;
  HASH_ITER(hh, g->by_name, group, next) fn(group->name, group->name_len, group->n, arg);
}

void groups_each_member(const struct groups *g, const char *name, size_t n,
                        void (*fn)(const struct member_view *member, void *arg), void *arg) {
  struct group *group = find(g, name, n);
  for (uint32_t i = 0; group && i < group->n; i++) {
    const struct membership *m = group->members[i].membership;
    fn(&(struct member_view){group->members[i].conn, m->meta, m->n_meta}, arg);
  }
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void deliver(struct groups *g, const struct group *group, struct slice frame) {
  uint32_t reached = 0;
  for (uint32_t i = 0; i < group->n; i++) {
    struct conn *conn = group->members[i].conn;
    struct subscriber *sub = subscriber_of(conn);
    if (sub->stamp == g->stamp) continue;
    sub->stamp = g->stamp;
    reached += ws_send_frame(conn, frame);
  }
  metric_add(&g->worker->metrics.group_deliveries, reached);
}

/* A publish to several groups reaches a connection once: whoever was dealt with bears its stamp. */
static void begin(struct groups *g, const struct address *except, size_t n_except) {
  g->stamp++;
  if (g->stamp == 0) g->stamp = 1; /* 0 marks connections no publish has touched */
  for (size_t i = 0; i < n_except; i++) {
    if (except[i].node != g->layer->node || except[i].worker != g->worker->index) continue;
    struct conn *conn = worker_conn(g->worker, except[i].conn);
    if (conn) subscriber_of(conn)->stamp = g->stamp;
  }
}

void groups_publish(struct groups *g, const struct group_name *names, size_t n_names,
                    const struct address *except, size_t n_except, struct slice frame) {
  uint64_t self = 1ull << g->worker->index, workers = 0;
  begin(g, except, n_except);
  metric_add(&g->worker->metrics.group_publishes, 1);
  for (size_t i = 0; i < n_names; i++) {
    struct group *group = find(g, names[i].text, names[i].len);
    if (group) deliver(g, group, frame);
    if (g->layer->n > 1)
      workers |= group ? atomic_load(&group->topic->workers)
                       : topics_workers(&g->layer->topics, names[i].text, names[i].len);
  }
  for (workers &= ~self; workers; workers &= workers - 1) {
    unsigned to = (unsigned)__builtin_ctzll(workers);
    outbox_add(g->outbox, to, parcel_new(PARCEL_PUBLISH, frame, names, n_names, except, n_except));
  }
  if (layer_broker(g->layer))
    outbox_add_broker(g->outbox,
                      parcel_new(PARCEL_PUBLISH, frame, names, n_names, except, n_except));
}

static struct slice copy_here(struct groups *g, struct slice frame) {
  struct slice copy;
  if (frame.len > COPY_MAX) return frame;
  builder_begin(&g->out);
  builder_add(&g->out, slice_data(&frame), frame.len);
  return builder_commit(&g->out, &copy) ? copy : frame;
}

void groups_take(struct groups *g, const struct parcel *p) {
  struct slice frame = p->body;
  begin(g, p->except, p->n_except);
  frame = copy_here(g, frame);
  for (size_t i = 0; i < p->n_names; i++) {
    struct group *group = find(g, p->names[i].text, p->names[i].len);
    if (group) deliver(g, group, frame);
  }
}

void groups_rewind(struct groups *g) {
  builder_rewind(&g->out);
}
