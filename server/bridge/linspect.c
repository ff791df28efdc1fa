/* SPDX-License-Identifier: MIT */
/* linspect.c -- what an inspector may see: connections, groups, who comes and who goes. */
#include "bridge/linspect.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "net/ws_conn.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef PERIGEE_TINY
enum { LOOKED_AT_MAX = 4, SIGHTINGS_MAX = 2 };
#else
enum {
  LOOKED_AT_MAX = 20000, /* connections per call: a few milliseconds */
  SIGHTINGS_MAX = 256,   /* kept until Lua takes them, twice a second */
};
#endif

enum { PAGE_MAX = 1000, GROUPS_MAX = 1000 };

/* ---- connections ----------------------------------------------------------------------------- */

struct wish {
  const char *path, *group, *text; /* NULL: any */
  size_t group_len, text_len;
};

struct membership_search {
  const struct wish *wish;
  bool is_found;
};

static void compare_group(const char *name, size_t n, void *arg) {
  struct membership_search *s = arg;
  if (n == s->wish->group_len && memcmp(name, s->wish->group, n) == 0) s->is_found = true;
}

/* What serves the server's own pages, such as the one who looks, is not what is looked for. */
static bool is_own(const struct consumer *c) {
  return strncmp(c->path, "/-/", 3) == 0;
}

static bool is_wanted(struct conn *conn, const struct wish *wish) {
  const struct peer *p = peer_of(conn);
  if (!conn_is_open(conn)) return false;
  if (p->consumer && is_own(p->consumer)) return false;
  if (wish->path && !(p->consumer && strcmp(p->consumer->path, wish->path) == 0)) return false;
  if (wish->text && !(p->head && memmem(p->head, p->head_len, wish->text, wish->text_len)))
    return false;
  if (wish->group) {
    struct membership_search s = {.wish = wish};
    groups_each_of(conn, compare_group, &s);
    return s.is_found;
  }
  return true;
}

int l_conns(lua_State *L) {
  struct host *h = host_of(L);
  struct wish wish = {0};
  lua_Integer cursor = luaL_checkinteger(L, 1), limit = luaL_checkinteger(L, 2);
  luaL_argcheck(L, cursor >= 0 && cursor <= UINT32_MAX, 1, "a place that conns returned, or 0");
  luaL_argcheck(L, limit >= 1 && limit <= PAGE_MAX, 2, "1 to 1000");
  wish.path = luaL_optstring(L, 3, NULL);
  wish.group = luaL_optlstring(L, 4, NULL, &wish.group_len);
  wish.text = luaL_optlstring(L, 5, NULL, &wish.text_len);
  lua_settop(L, 5);
  lua_createtable(L, (int)limit, 0);
  uint32_t slot = (uint32_t)cursor;
  struct conn *conn = worker_next_conn(&h->worker, &slot);
  lua_Integer n = 0;
  for (int looked = 0; conn && n < limit && looked < LOOKED_AT_MAX; looked++) {
    if (is_wanted(conn, &wish)) {
      lua_pushinteger(L, (lua_Integer)conn_id(conn));
      lua_rawseti(L, -2, ++n);
    }
    conn = worker_next_conn(&h->worker, &slot);
  }
  if (!conn) return 1;
  lua_pushinteger(L, slot - 1); /* that one has not been looked at */
  return 2;
}

static void set_integer(lua_State *L, const char *key, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, key);
}

static void set_seconds(lua_State *L, const char *key, uint64_t ms) {
  lua_pushnumber(L, (lua_Number)ms / 1000);
  lua_setfield(L, -2, key);
}

int l_conn_facts(lua_State *L) {
  struct host *h = host_of(L);
  struct conn *conn = worker_conn(&h->worker, (uint64_t)luaL_checkinteger(L, 1));
  uint64_t now = worker_now(&h->worker);
  char address[64] = "";
  unsigned port = 0;
  if (!conn || !conn_is_open(conn)) return 0;
  const struct peer *p = peer_of(conn);
  lua_createtable(L, 0, 12);
  set_integer(L, "id", conn_id(conn));
  lua_pushstring(L, conn->protocol->name);
  lua_setfield(L, -2, "protocol");
  if (p->consumer) {
    lua_pushstring(L, p->consumer->path);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, p->consumer->app);
    lua_setfield(L, -2, "app");
  }
  if (p->head) { /* the line in front of the head has it: no system call */
    const char *end = memchr(p->head, ' ', p->head_len);
    lua_pushlstring(L, p->head, end ? (size_t)(end - p->head) : 0);
  } else {
    conn_peer(conn, address, sizeof address, &port);
    lua_pushstring(L, address);
  }
  lua_setfield(L, -2, "address");
  set_integer(L, "calls", p->calls);
  set_integer(L, "waiting", p->n_queued);
  set_integer(L, "groups", p->subscriber.n_joined);
  set_integer(L, "output", conn_pending(conn));
  set_seconds(L, "idle", now > conn->active ? now - conn->active : 0);
  if (p->opened) set_seconds(L, "age", now > p->opened * 1000ull ? now - p->opened * 1000ull : 0);
  lua_pushboolean(L, conn->pauses != 0);
  lua_setfield(L, -2, "paused");
  return 1;
}

int l_cut(lua_State *L) {
  struct conn *conn = worker_conn(&host_of(L)->worker, (uint64_t)luaL_checkinteger(L, 1));
  bool is_there = conn && conn_is_open(conn);
  if (is_there) conn_close(conn, "cut by the operator");
  lua_pushboolean(L, is_there);
  return 1;
}

/* ---- groups ---------------------------------------------------------------------------------- */

struct found_group {
  const char *name; /* borrowed: no group changes while we look */
  size_t len;
  uint32_t members;
};

struct group_search {
  const char *text;
  size_t text_len;
  struct found_group *found; /* largest first; owned by a userdata */
  int n, limit;
  lua_Integer total;
};

static void consider_group(const char *name, size_t n, uint32_t members, void *arg) {
  struct group_search *s = arg;
  if (n > 1 && memcmp(name, "-/", 2) == 0) return; /* the server's own */
  if (s->text && !memmem(name, n, s->text, s->text_len)) return;
  s->total++;
  if (s->n == s->limit && members <= s->found[s->n - 1].members) return;
  if (s->n < s->limit) s->n++;
  int i = s->n - 1;
  for (; i > 0 && s->found[i - 1].members < members; i--) s->found[i] = s->found[i - 1];
  s->found[i] = (struct found_group){name, n, members};
}

int l_groups(lua_State *L) {
  struct group_search s = {0};
  lua_Integer limit = luaL_checkinteger(L, 1);
  luaL_argcheck(L, limit >= 1 && limit <= GROUPS_MAX, 1, "1 to 1000");
  s.text = luaL_optlstring(L, 2, NULL, &s.text_len);
  s.limit = (int)limit;
  s.found = lua_newuserdatauv(L, (size_t)limit * sizeof *s.found, 0);
  groups_each(&host_of(L)->groups, consider_group, &s);
  lua_createtable(L, s.n, 0);
  for (int i = 0; i < s.n; i++) {
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, s.found[i].name, s.found[i].len);
    lua_setfield(L, -2, "name");
    set_integer(L, "members", s.found[i].members);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushinteger(L, s.total);
  return 2;
}

/* ---- who comes and who goes ------------------------------------------------------------------ */

struct sighting {
  uint64_t conn, at; /* at: milliseconds of worker_now */
  unsigned code;     /* 0: it was opened */
  uint8_t reason_len;
  char reason[WS_REASON_MAX];
  char path[85]; /* of the consumer, which may be gone before Lua reads this; cut if need be */
};

struct sightings {
  uint32_t n;
  uint64_t dropped;
  struct sighting kept[SIGHTINGS_MAX];
};

static struct sighting *new_sighting(struct conn *conn) {
  struct host *h = host_of_conn(conn);
  const struct consumer *c = peer_of(conn)->consumer;
  struct sightings *seen = h->sightings;
  if (is_own(c)) return NULL;
  if (seen->n == SIGHTINGS_MAX) {
    seen->dropped++;
    metric_add(&h->worker.metrics.inspector_dropped, 1);
    return NULL;
  }
  struct sighting *s = &seen->kept[seen->n++];
  *s = (struct sighting){.conn = conn_id(conn), .at = worker_now(&h->worker)};
  snprintf(s->path, sizeof s->path, "%s", c->path);
  return s;
}

void linspect_opened(struct conn *conn) {
  if (host_of_conn(conn)->sightings) new_sighting(conn);
}

void linspect_closed(struct conn *conn, unsigned code, const char *reason, size_t n) {
  struct sighting *s = host_of_conn(conn)->sightings ? new_sighting(conn) : NULL;
  if (!s) return;
  s->code = code ? code : WS_NO_STATUS;
  s->reason_len = (uint8_t)(n > WS_REASON_MAX ? WS_REASON_MAX : n);
  memcpy(s->reason, reason, s->reason_len);
}

void linspect_fini(struct host *h) {
  free(h->sightings);
  h->sightings = NULL;
}

int l_sightings(lua_State *L) {
  struct host *h = host_of(L);
  struct sightings *seen = h->sightings;
  bool is_watching = lua_toboolean(L, 1);
  lua_Integer dropped = luaL_optinteger(L, 2, 0);
  lua_createtable(L, seen ? (int)seen->n : 0, 0);
  for (uint32_t i = 0; seen && i < seen->n; i++) {
    const struct sighting *s = &seen->kept[i];
    lua_createtable(L, 0, 5);
    set_integer(L, "conn", s->conn);
    set_seconds(L, "at", s->at);
    lua_pushstring(L, s->path);
    lua_setfield(L, -2, "path");
    if (s->code) {
      set_integer(L, "code", s->code);
      lua_pushlstring(L, s->reason, s->reason_len);
      lua_setfield(L, -2, "reason");
    }
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_pushinteger(L, seen ? (lua_Integer)seen->dropped : 0);
  metric_add(&h->worker.metrics.inspector_dropped, (uint64_t)dropped);
  if (!is_watching) {
    linspect_fini(h);
  } else if (!seen) {
    h->sightings = mem_zalloc(sizeof *h->sightings);
  } else {
    seen->n = 0;
    seen->dropped = 0;
  }
  return 2;
}
