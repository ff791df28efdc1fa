/* SPDX-License-Identifier: MIT */
/* llayer.c -- groups, channels, mail and shared values for Lua. */
#include "bridge/llayer.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/json.h"
#include "bridge/lconn.h"
#include "bridge/peer.h"
#include "bridge/state.h"
#include "hub/reply.h"
#include "net/ws_conn.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 1000, EXCEPT_MAX = 1000 }; /* of one publish; the broker's are higher */

static int return_bool(lua_State *L, bool value) {
  lua_pushboolean(L, value);
  return 1;
}

static const char *check_group(lua_State *L, int index, size_t *n) {
  const char *name = luaL_checklstring(L, index, n);
  luaL_argcheck(L, *n >= 1 && *n <= GROUP_NAME_MAX, index, "a group's name has 1 to 200 bytes");
  return name;
}

/* ---- waits ----------------------------------------------------------------------------------- */

/* A new wait of the running task; task 0 while apps are loaded, when nothing can wait. */
static struct waiter open_wait(lua_State *L) {
  struct host *h = host_of(L);
  if (!h->tasks.running || h->is_loading) return (struct waiter){0};
  int top = lua_gettop(L);
  l_wait_open(L);
  struct waiter waiter = {.task = (uint64_t)lua_tointeger(L, -2),
                          .wait = (uint32_t)lua_tointeger(L, -1),
                          .worker = h->worker.index};
  lua_settop(L, top);
  return waiter;
}

/* ---- groups ---------------------------------------------------------------------------------- */

int l_group_add(lua_State *L) {
  struct host *h = host_of(L);
  struct conn *conn = lconn_find(h, (uint64_t)luaL_checkinteger(L, 1));
  size_t n, n_meta = 0;
  const char *name = check_group(L, 2, &n);
  const char *meta = luaL_optlstring(L, 3, "", &n_meta);
  bool waits = lua_toboolean(L, 4) && layer_broker(h->layer);
  if (!conn) return return_bool(L, false);
  struct waiter waiter = waits ? open_wait(L) : (struct waiter){0};
  bool joined;
  struct topic *topic = groups_add(&h->groups, conn, name, n, meta, n_meta, &joined);
  lua_pushboolean(L, joined);
  if (!waiter.task || atomic_load(&topic->is_subscribed)) return 1;
  struct parcel *p = parcel_new(PARCEL_SUBSCRIBED, (struct slice){0}, NULL, 0, NULL, 0);
  p->waiter = waiter;
  p->topic = topic;
  topics_hold_again(&h->layer->topics, topic);
  outbox_add_broker(&h->outbox, p);
  lua_pushinteger(L, waiter.wait);
  return 2;
}

int l_group_discard(lua_State *L) {
  struct host *h = host_of(L);
  struct conn *conn = worker_conn(&h->worker, (uint64_t)luaL_checkinteger(L, 1));
  size_t n;
  const char *name = check_group(L, 2, &n);
  return return_bool(L, conn && groups_discard(&h->groups, conn, name, n));
}

/* What is listed is copied before the first Lua value is made: finalizers run then, and may change
 * it. */

static void note_name(const char *name, size_t n, void *arg) {
  struct builder *names = arg;
  uint32_t len = (uint32_t)n;
  builder_add(names, &len, sizeof len);
  builder_add(names, name, n);
}

int l_groups_of(lua_State *L) {
  struct conn *conn = worker_conn(&host_of(L)->worker, (uint64_t)luaL_checkinteger(L, 1));
  struct builder *names = state_push_builder(L);
  builder_begin(names);
  if (conn) groups_each_of(conn, note_name, names);
  lua_newtable(L);
  const uint8_t *at = builder_data(names), *end = at + builder_len(names);
  for (lua_Integer i = 1; at < end; i++) {
    uint32_t len;
    memcpy(&len, at, sizeof len);
    lua_pushlstring(L, (const char *)at + sizeof len, len);
    lua_rawseti(L, -2, i);
    at += sizeof len + len;
  }
  return 1;
}

int l_group_count(lua_State *L) {
  size_t n;
  const char *name = check_group(L, 1, &n);
  lua_pushinteger(L, groups_count(&host_of(L)->groups, name, n));
  return 1;
}

int l_group_workers(lua_State *L) {
  size_t n;
  const char *name = check_group(L, 1, &n);
  uint64_t workers = topics_workers(&host_of(L)->layer->topics, name, n);
  lua_newtable(L);
  for (lua_Integer i = 1; workers; workers &= workers - 1, i++) {
    lua_pushinteger(L, __builtin_ctzll(workers));
    lua_rawseti(L, -2, i);
  }
  return 1;
}

static void push_member(const struct member_view *member, void *arg) {
  lua_State *L = arg;
  lua_pushinteger(L, (lua_Integer)conn_id(member->conn));
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

int l_members(lua_State *L) {
  size_t n;
  const char *name = check_group(L, 1, &n);
  lua_newtable(L);
  groups_each_member(&host_of(L)->groups, name, n, push_member, L);
  return 1;
}

/* A page of members: the `limit` lowest ids over `after` seen so far, sorted. */
struct page {
  uint64_t after;
  size_t n, limit;
  struct page_entry {
    uint64_t id;
    struct member_view view;
  } * entries;
};

static int compare_entries(const void *a, const void *b) {
  uint64_t x = ((const struct page_entry *)a)->id, y = ((const struct page_entry *)b)->id;
  return x < y ? -1 : x > y;
}

/* Room is twice the limit: sorting and cutting back once it is full keeps a page of a large group
 * cheap. */
static void cut(struct page *p) {
  qsort(p->entries, p->n, sizeof *p->entries, compare_entries);
  if (p->n > p->limit) p->n = p->limit;
}

static void note_member(const struct member_view *member, void *arg) {
  struct page *p = arg;
  uint64_t id = conn_id(member->conn);
  if (id <= p->after) return;
  p->entries[p->n++] = (struct page_entry){id, *member};
  if (p->n == 2 * p->limit) cut(p);
}

int l_members_after(lua_State *L) {
  size_t n;
  const char *name = check_group(L, 1, &n);
  struct page page = {.after = (uint64_t)luaL_checkinteger(L, 2)};
  lua_Integer limit = luaL_checkinteger(L, 3);
  luaL_argcheck(L, limit >= 1 && limit <= 1000, 3, "1 to 1000");
  page.limit = (size_t)limit;
  page.entries = lua_newuserdatauv(L, 2 * page.limit * sizeof *page.entries, 0);
  struct builder *metas = state_push_builder(L);
  groups_each_member(&host_of(L)->groups, name, n, note_member, &page);
  cut(&page);
  builder_begin(metas);
  for (size_t i = 0; i < page.n; i++) /* see note_name */
    if (page.entries[i].view.meta)
      builder_add(metas, page.entries[i].view.meta, page.entries[i].view.n_meta);
  const char *meta = (const char *)builder_data(metas);
  lua_createtable(L, (int)page.n, 0);
  lua_createtable(L, (int)page.n, 0);
  for (size_t i = 0; i < page.n; i++) {
    const struct page_entry *e = &page.entries[i];
    lua_pushinteger(L, (lua_Integer)e->id);
    lua_rawseti(L, -3, (lua_Integer)i + 1);
    if (e->view.meta)
      lua_pushlstring(L, meta, e->view.n_meta);
    else
      lua_pushboolean(L, 0);
    meta += e->view.n_meta;
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 2;
}

/* ---- to groups ------------------------------------------------------------------------------- */

/* Names at a stack index, one or a list; text stays in Lua's strings. A list's array is a userdata
 * that is left on the stack [-0, +0|1, v]. */
static struct group_name *check_names(lua_State *L, int index, struct group_name *one, size_t *n) {
  if (!lua_istable(L, index)) {
    *n = 1;
    one->text = check_group(L, index, &one->len);
    return one;
  }
  *n = lua_rawlen(L, index);
  luaL_argcheck(L, *n <= NAMES_MAX, index, "at most 1000 groups");
  struct group_name *names = lua_newuserdatauv(L, (*n + 1) * sizeof *names, 0);
  for (size_t i = 0; i < *n; i++) {
    bool is_text = lua_rawgeti(L, index, (lua_Integer)i + 1) == LUA_TSTRING;
    luaL_argcheck(L, is_text, index, "groups are strings");
    names[i].text = check_group(L, lua_gettop(L), &names[i].len);
    lua_pop(L, 1);
  }
  return names;
}

/* Whom to leave out: ids of this worker's connections and channels. As above. */
static struct address *check_except(lua_State *L, int index, size_t *n) {
  struct host *h = host_of(L);
  *n = 0;
  if (!lua_istable(L, index)) return NULL;
  size_t given = lua_rawlen(L, index);
  luaL_argcheck(L, given <= EXCEPT_MAX, index, "at most 1000 channels can be left out");
  struct address *list = lua_newuserdatauv(L, (given + 1) * sizeof *list, 0);
  for (size_t i = 0; i < given; i++) {
    size_t len;
    struct address a = {.node = h->layer->node, .worker = h->worker.index};
    if (lua_rawgeti(L, index, (lua_Integer)i + 1) == LUA_TSTRING) {
      const char *text = lua_tolstring(L, -1, &len);
      if (address_parse(text, len, &a)) list[(*n)++] = a; /* what is none is nobody's */
    } else {
      a.conn = (uint64_t)luaL_checkinteger(L, -1);
      list[(*n)++] = a;
    }
    lua_pop(L, 1);
  }
  return list;
}

int l_publish(lua_State *L) {
  struct host *h = host_of(L);
  struct group_name one;
  struct slice frame;
  size_t n_names, n_except;
  lua_settop(L, 5);
  const struct group_name *names = check_names(L, 1, &one, &n_names);
  const struct address *except = check_except(L, 4, &n_except);
  lconn_write(L, &h->groups.out, NULL, 2, 3, 5, &frame);
  groups_publish(&h->groups, names, n_names, except, n_except, frame);
  return 0;
}

/* A text in a block of its own kind: g->out's. */
static bool write_text(struct host *h, const char *text, size_t n, struct slice *out) {
  builder_begin(&h->groups.out);
  builder_add(&h->groups.out, text, n);
  return builder_commit(&h->groups.out, out);
}

int l_post_groups(lua_State *L) {
  struct host *h = host_of(L);
  struct group_name name;
  struct slice text;
  size_t n;
  name.text = check_group(L, 1, &name.len);
  const char *s = luaL_checklstring(L, 2, &n);
  uint64_t workers = topics_workers(&h->layer->topics, name.text, name.len);
  workers &= ~(1ull << h->worker.index);
  if (!workers && !layer_broker(h->layer)) return 0;
  if (!write_text(h, s, n, &text)) return luaL_error(L, "a message longer than 1 GiB");
  for (; workers; workers &= workers - 1)
    outbox_add(&h->outbox, (unsigned)__builtin_ctzll(workers),
               parcel_new(PARCEL_TEXT, text, &name, 1, NULL, 0));
  if (layer_broker(h->layer))
    outbox_add_broker(&h->outbox, parcel_new(PARCEL_TEXT, text, &name, 1, NULL, 0));
  return 0;
}

/* ---- to one ---------------------------------------------------------------------------------- */

/* Can mail be sent there? Of connections in this process it is known whether they exist. */
static bool is_there(struct host *h, const struct address *to) {
  if (to->node != h->layer->node) return layer_broker(h->layer) != NULL;
  struct worker *w = layer_worker(h->layer, to->worker);
  return w && (to->conn == 0 || worker_reaches(w, to->conn));
}

/* Sends what was written; returns as core.notify_channel does. The wait must be open already. */
static int send_to(lua_State *L, const struct address *to, enum parcel_kind kind, struct slice body,
                   struct waiter waiter) {
  struct host *h = host_of(L);
  struct parcel *p = parcel_new(kind, body, NULL, 0, NULL, 0);
  p->to = *to;
  if (to->node == h->layer->node) {
    outbox_add(&h->outbox, to->worker, p);
    return return_bool(L, true);
  }
  p->waiter = waiter;
  outbox_add_broker(&h->outbox, p);
  if (waiter.task == 0) return return_bool(L, true);
  lua_pushinteger(L, waiter.wait);
  return 1;
}

int l_notify_channel(lua_State *L) {
  struct host *h = host_of(L);
  struct address to;
  struct slice frame;
  size_t n;
  const char *channel = luaL_checklstring(L, 1, &n);
  bool is_channel = address_parse(channel, n, &to) && to.conn != 0;
  bool is_own = is_channel && to.node == h->layer->node && to.worker == h->worker.index;
  struct conn *conn = is_own ? lconn_find(h, to.conn) : NULL;
  if (!is_channel || (is_own ? !conn : !is_there(h, &to))) return return_bool(L, false);
  if (is_own) {
    lconn_write(L, &h->worker.out, NULL, 2, 3, 4, &frame);
    return return_bool(L, ws_send_frame(conn, frame));
  }
  struct waiter waiter = to.node == h->layer->node ? (struct waiter){0} : open_wait(L);
  lconn_write(L, &h->groups.out, NULL, 2, 3, 4, &frame);
  return send_to(L, &to, PARCEL_SEND, frame, waiter);
}

int l_post(lua_State *L) {
  struct host *h = host_of(L);
  struct address to;
  struct slice text;
  size_t n, n_text;
  const char *channel = luaL_checklstring(L, 1, &n);
  const char *s = luaL_checklstring(L, 2, &n_text);
  bool wants_answer = lua_toboolean(L, 3);
  if (!address_parse(channel, n, &to) || !is_there(h, &to)) return return_bool(L, false);
  struct waiter waiter = wants_answer ? open_wait(L) : (struct waiter){0};
  if (!write_text(h, s, n_text, &text)) return luaL_error(L, "a message longer than 1 GiB");
  return send_to(L, &to, PARCEL_TEXT, text, waiter);
}

/* ---- Redis ----------------------------------------------------------------------------------- */

int l_redis(lua_State *L) {
  struct host *h = host_of(L);
  int n_words = lua_gettop(L);
  struct slice command;
  size_t n;
  char head[32];
  for (int i = 1; i <= n_words; i++) luaL_checklstring(L, i, &n); /* numbers become text here */
  luaL_argcheck(L, n_words > 0, 1, "a command");
  if (!layer_broker(h->layer)) return 0;
  struct waiter waiter = open_wait(L);
  if (waiter.task == 0) return luaL_error(L, "cannot wait for Redis while apps are loaded");
  struct builder *b = &h->groups.out;
  builder_begin(b);
  builder_add(b, head, (size_t)snprintf(head, sizeof head, "*%d\r\n", n_words));
  for (int i = 1; i <= n_words; i++) {
    const char *word = lua_tolstring(L, i, &n);
    builder_add(b, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", n));
    builder_add(b, word, n);
    builder_add(b, "\r\n", 2);
  }
  if (!builder_commit(b, &command)) return luaL_error(L, "a command longer than 1 GiB");
  struct parcel *p = parcel_new(PARCEL_COMMAND, command, NULL, 0, NULL, 0);
  p->waiter = waiter;
  outbox_add_broker(&h->outbox, p);
  lua_pushinteger(L, waiter.wait);
  return 1;
}

/* [-0, +1, m] */
static void push_reply(lua_State *L, const struct reply *r) {
  luaL_checkstack(L, 3, "a reply nested too deeply");
  switch (r->type) {
  case REPLY_NIL: lua_pushnil(L); break;
  case REPLY_INTEGER: lua_pushinteger(L, r->integer); break;
  case REPLY_ARRAY:
    lua_createtable(L, (int)r->n, 0);
    for (size_t i = 0; i < r->n; i++) {
      if (r->items[i] && r->items[i]->type != REPLY_NIL)
        push_reply(L, r->items[i]);
      else
        lua_pushlightuserdata(L, NULL); /* JSON's null: a hole would hide what follows */
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    break;
  default: lua_pushlstring(L, r->text, r->n);
  }
}

/* ---- shared values --------------------------------------------------------------------------- */

static const char *check_key(lua_State *L, size_t *n) {
  const char *key = luaL_checklstring(L, 1, n);
  luaL_argcheck(L, *n >= 1 && *n <= SHARED_KEY_MAX, 1, "a key has 1 to 1024 bytes");
  return key;
}

/* Seconds to milliseconds, at least one: 0 means none. */
static int64_t check_ttl(lua_State *L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  luaL_argcheck(L, seconds >= 0 && seconds <= 1e10, index, "seconds from 0 on");
  return (int64_t)ceil(seconds * 1000);
}

static uint64_t now_of(const struct host *h) {
  return worker_now(&h->worker);
}

/* Reads the text that h->shared_value holds [-0, +1, m]. It becomes a string first: a finalizer
 * that runs while it is read may read another. */
static int push_value(lua_State *L, struct host *h, size_t n) {
  struct json_reader r;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->array_mt_ref);
  const char *text = lua_pushlstring(L, h->shared_value, n);
  free(h->shared_value);
  h->shared_value = NULL;
  json_reader_init(&r, text, n, NULL, &h->scratch, 1);
  return json_read_text(L, &r) == JSON_OK ? 1 : 0;
}

int l_shared_get(lua_State *L) {
  struct host *h = host_of(L);
  size_t n, n_value;
  const char *key = check_key(L, &n);
  free(h->shared_value); /* of a reading that raised for lack of memory */
  h->shared_value = NULL;
  if (shared_get(&h->layer->shared, key, n, now_of(h), &h->shared_value, &n_value) != SHARED_OK)
    return 0;
  return push_value(L, h, n_value);
}

int l_shared_set(lua_State *L) {
  struct host *h = host_of(L);
  struct builder *b = &h->groups.out;
  struct json_writer w;
  size_t n;
  const char *key = check_key(L, &n);
  luaL_checkany(L, 2);
  int64_t ttl = check_ttl(L, 3);
  bool only_new = lua_toboolean(L, 4);
  builder_begin(b);
  json_writer_init(&w, b, h->array_mt);
  w.slice = &h->slice;
  if (!json_write(L, &w, 2)) {
    builder_abort(b);
    slice_check(L, h);
    return luaL_error(L, "cannot keep %s%s%s", w.error, w.path[w.path_at] ? " at " : "",
                      w.path + w.path_at);
  }
  enum shared_result result =
      b->is_failed ? SHARED_FULL
                   : shared_set(&h->layer->shared, key, n, (const char *)builder_data(b),
                                builder_len(b), now_of(h), ttl, only_new);
  builder_abort(b);
  if (result == SHARED_FULL) return 0;
  return return_bool(L, result == SHARED_OK);
}

int l_shared_incr(lua_State *L) {
  struct host *h = host_of(L);
  size_t n;
  char sum[SHARED_NUMBER];
  const char *key = check_key(L, &n);
  bool is_float = !lua_isinteger(L, 2);
  lua_Number by = luaL_checknumber(L, 2);
  int64_t ttl = check_ttl(L, 3);
  enum shared_result result =
      shared_incr(&h->layer->shared, key, n, is_float, is_float ? 0 : lua_tointeger(L, 2), by,
                  now_of(h), ttl, sum);
  if (result == SHARED_FULL) return 0;
  if (result == SHARED_OK)
    lua_stringtonumber(L, sum);
  else
    lua_pushboolean(L, 0);
  return 1;
}

int l_shared_expire(lua_State *L) {
  struct host *h = host_of(L);
  size_t n;
  const char *key = check_key(L, &n);
  int64_t ttl = check_ttl(L, 2);
  return return_bool(L, shared_expire(&h->layer->shared, key, n, now_of(h), ttl) == SHARED_OK);
}

int l_shared_delete(lua_State *L) {
  struct host *h = host_of(L);
  size_t n;
  const char *key = check_key(L, &n);
  return return_bool(L, shared_delete(&h->layer->shared, key, n, now_of(h)) == SHARED_OK);
}

/* ---- mail that arrives ----------------------------------------------------------------------- */

/* Stack: the parcel. Returns what perigee.mail.deliver does: false when it is no mail of ours. */
static int text_body(lua_State *L) {
  struct parcel *p = lua_touserdata(L, 1);
  struct host *h = host_of(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->entries.mail);
  lua_pushlstring(L, p->body.len ? (const char *)slice_data(&p->body) : "", p->body.len);
  lua_pushinteger(L, (lua_Integer)p->to.conn);
  lua_createtable(L, p->n_names, 0);
  for (unsigned i = 0; i < p->n_names; i++) {
    lua_pushlstring(L, p->names[i].text, p->names[i].len);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_call(L, 3, 1);
  return 1;
}

static int wake_body(lua_State *L) {
  struct parcel *p = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_pushcfunction(L, l_wake);
  lua_pushinteger(L, (lua_Integer)p->waiter.task);
  lua_pushinteger(L, p->waiter.wait);
  lua_pushboolean(L, p->reply ? p->reply->type != REPLY_ERROR : p->is_true);
  if (p->reply) push_reply(L, p->reply);
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

static void log_fault(struct host *h) {
  struct log_line l;
  metric_add(&h->worker.metrics.faults, 1);
  if (log_begin(&l, LOG_ERROR, "cannot take mail")) {
    log_str(&l, "error", lua_type(h->L, -1) == LUA_TSTRING ? lua_tostring(h->L, -1) : "?");
    log_end(&l);
  }
}

void llayer_take(struct host *h, struct parcel *p) {
  struct conn *conn;
  switch (p->mail.kind) {
  case PARCEL_PUBLISH: groups_take(&h->groups, p); break;
  case PARCEL_SEND:
    conn = lconn_find(h, p->to.conn);
    if (conn) ws_send_frame(conn, p->body);
    break;
  case PARCEL_TEXT:
  case PARCEL_WAKE: {
    bool is_text = p->mail.kind == PARCEL_TEXT;
    if (!h->L || (is_text && !h->entries.mail)) break; /* not up yet, or over */
    if (!task_protect(h, is_text ? text_body : wake_body, p, is_text))
      log_fault(h);
    else if (!is_text)
      break;
    else if (!lua_toboolean(h->L, -1))
      metric_add(&h->worker.metrics.layer_foreign, 1);
    lua_pop(h->L, 1);
    break;
  }
  default: log_say(LOG_ERROR, "a parcel that no worker takes");
  }
  h->worker.activity++;
  layer_discard(h->layer, p);
}
