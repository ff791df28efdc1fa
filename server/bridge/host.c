/* SPDX-License-Identifier: MIT */
/* host.c -- a worker with Lua on it: made, loaded, listening, drained, gone.
 *
 * Stop order: apps are told; no new connections; calls in flight are answered; WebSockets get 1001,
 * idle HTTP is closed; disconnect hooks run; after the grace time calls that still run are ended,
 * and whoever is left then is cut. */
#include "bridge/host.h"

#include "base/log.h"
#include "base/mem.h"
#include "bridge/call.h"
#include "bridge/dispatch.h"
#include "bridge/generation.h"
#include "bridge/linspect.h"
#include "bridge/llayer.h"
#include "bridge/lluv.h"
#include "bridge/lstore.h"
#include "bridge/ltest.h"
#include "bridge/peer.h"
#include "bridge/routes.h"
#include "bridge/settings.h"
#include "bridge/state.h"
#include "hub/store.h"
#include "net/listener.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { RESERVED_FILES = 64 }; /* for apps, logs, libraries */

/* ---- signals --------------------------------------------------------------------------------- */

static int told(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 0;
}

/* perigee.signals.FUNCTION(name, {}): the task's kind is called as the signal. */
static int send_signal(lua_State *L, const char *function) {
  struct task *t = lua_touserdata(L, 1);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.signals");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, function);
  lua_pushstring(L, t->kind->name);
  lua_newtable(L);
  lua_callk(L, 2, 0, 0, told);
  return 0;
}

static int started_body(lua_State *L) {
  return send_signal(L, "announce");
}

static int draining_body(lua_State *L) {
  return send_signal(L, "emit");
}

static void draining_released(struct task *t) {
  t->host->n_farewells--;
}

static const struct task_kind started_kind = {.name = "server_started"};
static const struct task_kind draining_kind = {.name = "server_draining",
                                               .released = draining_released};

/* Receivers run until they wait; the worker stays until they have ended. */
static void tell_draining(struct host *h) {
  struct task *t = task_begin(h, &draining_kind);
  if (!t) return;
  h->n_farewells++;
  task_run(t, draining_body);
}

/* ---- mail and turns -------------------------------------------------------------------------- */

void host_stop(struct host *h) {
  if (h->is_stopping) return;
  h->is_stopping = true;
  collector_stop(h);
  deadline_unset(&h->worker.deadlines, &h->grace);
  layer_dismiss(h->layer, &h->worker);
  worker_close(&h->worker);
  lluv_end_handles(h);
}

static void on_last_grace(struct deadline *d) {
  log_say(LOG_WARN, "disconnect hooks did not end in time");
  host_stop((struct host *)((char *)d - offsetof(struct host, grace)));
}

static void wait_for_rest(struct host *h, uint64_t ms, deadline_fn *then) {
  h->grace.fire = then;
  deadline_set(&h->worker.deadlines, &h->grace, worker_now(&h->worker) + ms);
  worker_hurry(&h->worker);
}

static void on_cut(struct deadline *d) {
  struct host *h = (struct host *)((char *)d - offsetof(struct host, grace));
  struct log_line l;
  if (h->worker.n_conns && log_begin(&l, LOG_WARN, "cutting who is left")) {
    log_uint(&l, "connections", h->worker.n_conns);
    log_end(&l);
  }
  worker_cut(&h->worker);
  wait_for_rest(h, HOST_LAST_GRACE_MS, on_last_grace); /* disconnect hooks still run; see on_turn */
}

/* Not those that are yet to be told how their calls have ended. */
static void cut_unless_busy(struct conn *conn, void *arg) {
  const struct peer *p = peer_of(conn);
  (void)arg;
  if (peer_is_busy(p) || p->is_opening || (p->is_plain && !p->transfer)) return;
  conn_close(conn, "server stopped");
}

static void on_grace(struct deadline *d) {
  struct host *h = (struct host *)((char *)d - offsetof(struct host, grace));
  struct log_line l;
  if (log_begin(&l, LOG_WARN, "grace time is over, ending what still runs")) {
    log_uint(&l, "connections", h->worker.n_conns);
    log_end(&l);
  }
  worker_each_conn(&h->worker, cut_unless_busy, NULL);
  tasks_shut_down(h); /* their clients are answered, then leave: see dispatch_released */
  wait_for_rest(h, HOST_LAST_GRACE_MS, on_cut);
}

static void drain(struct host *h) {
  if (h->worker.is_draining) return;
  wait_for_rest(h, h->settings->grace_ms, on_grace);
  tell_draining(h); /* while everybody can still be spoken to */
  worker_drain(&h->worker);
  worker_hurry(&h->worker);
}

static void on_mail(void *owner, struct mail *mail) {
  struct host *h = owner;
  if (mail->kind >= PARCEL_FIRST) {
    llayer_take(h, (struct parcel *)mail);
    return;
  }
  enum host_mail what = (enum host_mail)mail->kind;
  if (what == HOST_STORED) {
    lstore_mail(h, mail);
    return;
  }
  if (what == HOST_RELOAD) {
    generation_order(h, (struct reload_order *)mail);
    return;
  }
  free(mail);
  if (what == HOST_DRAIN)
    drain(h);
  else
    host_stop(h);
}

void host_post(struct host *h, enum host_mail what) {
  struct mail *mail = mem_zalloc(sizeof *mail);
  mail->kind = what;
  if (!mailbox_post_control(&h->worker.mailbox, mail)) free(mail);
}

static bool on_turn(void *owner) {
  struct host *h = owner;
  bool is_more = tasks_turn(h);
  metric_set(&h->worker.metrics.lua_memory_bytes, h->memory.used);
  metric_set(&h->worker.metrics.memory_refused, h->memory.refused);
  dispatch_turn(h);
  if (h->worker.turn.is_late && h->n_late_batches) call_turn(h);
  groups_rewind(&h->groups);
  ltest_turn(h);
  collector_wake(h);
  if (h->worker.is_draining && !h->is_stopping && h->worker.n_conns == 0 && h->n_farewells == 0)
    host_stop(h);
  return is_more;
}

static void on_turned(void *owner) {
  struct host *h = owner;
  outbox_flush(&h->outbox);
}

/* ---- life ------------------------------------------------------------------------------------ */

static unsigned default_max_conns(const struct settings *s) {
  struct rlimit limit;
  if (s->max_conns) return s->max_conns;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 900;
  uint64_t files = limit.rlim_cur == RLIM_INFINITY ? 1u << 20 : limit.rlim_cur;
  unsigned workers = s->workers ? s->workers : 1;
  if (files <= RESERVED_FILES + workers) return 1;
  return (unsigned)((files - RESERVED_FILES) / workers);
}

bool host_prepare(struct host *h, unsigned index, const struct settings *settings,
                  struct layer *layer, struct store *store, const char *lua_path,
                  size_t lua_memory) {
  memset(h, 0, sizeof *h);
  h->settings = settings;
  h->layer = layer;
  h->store = store;
  h->memory.max = lua_memory;
  worker_open(&h->worker, index, &settings->conn, &dispatch_http, &dispatch_ws,
              (struct worker_events){.turn = on_turn, .turned = on_turned, .mail = on_mail}, h,
              sizeof(struct peer), default_max_conns(settings));
  outbox_init(&h->outbox, layer, &h->worker.metrics);
  groups_init(&h->groups, &h->worker, layer, &h->outbox);
  layer_enlist(layer, &h->worker);
  tasks_init(h);
  call_init(h);
  collector_init(h);
  blocking_init(h);
  return state_open(h, lua_path);
}

bool host_open(struct host *h, unsigned index, const struct settings *settings, struct layer *layer,
               struct store *store, const struct bundle *apps, char **error) {
  if (!host_prepare(h, index, settings, layer, store, settings->lua_path, settings->lua_memory)) {
    *error = mem_strdup("no memory for a Lua state (setting lua_memory)");
    return false;
  }
  return generation_load(h, apps, error);
}

char *host_listen_error(const struct listen_address *at, int code, const char *flag) {
  char text[400];
  const char *cure = code == UV_EADDRINUSE
                         ? "something else listens there; stop it or choose another with "
                     : code == UV_EACCES        ? "ports below 1024 need privileges"
                     : code == UV_EADDRNOTAVAIL ? "this machine does not have that address"
                     : code == UV_EINVAL ? "give an IPv4 address, or an IPv6 address in brackets"
                                         : "";
  snprintf(text, sizeof text, "cannot listen on %s:%u: %s%s%s%s", at->address, at->port,
           uv_strerror(code), *cure ? " -- " : "", cure, code == UV_EADDRINUSE ? flag : "");
  return mem_strdup(text);
}

bool host_listen(struct host *h, unsigned *ports, char **error) {
  const struct settings *s = h->settings;
  for (unsigned i = 0; i < s->n_listen; i++) {
    unsigned flags =
        (s->workers > 1 ? LISTEN_SHARED : 0) | (s->listen[i].is_v6_only ? LISTEN_V6_ONLY : 0);
    int code = listener_open(&h->worker, s->listen[i].address, &ports[i], flags);
    if (code == 0) continue;
    *error = host_listen_error(&s->listen[i], code, "--listen");
    return false;
  }
  if (!s->admin.address || h->worker.index > 0) return true;
  h->admin_port = s->admin.port;
  int code = listener_open(&h->worker, s->admin.address, &h->admin_port, 0);
  if (code) *error = host_listen_error(&s->admin, code, "--admin");
  return code == 0;
}

static void push_listener(lua_State *L, const struct listen_address *at, unsigned port) {
  lua_createtable(L, 0, 2);
  lua_pushstring(L, at->address);
  lua_setfield(L, -2, "address");
  lua_pushinteger(L, port);
  lua_setfield(L, -2, "port");
}

static int announce_body(lua_State *L) {
  const unsigned *ports = lua_touserdata(L, 1);
  struct host *h = host_of(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.announce");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "listening");
  lua_createtable(L, (int)h->settings->n_listen, 0);
  for (unsigned i = 0; i < h->settings->n_listen; i++) {
    push_listener(L, &h->settings->listen[i], ports[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  if (h->admin_port)
    push_listener(L, &h->settings->admin, h->admin_port);
  else
    lua_pushnil(L);
  lua_call(L, 2, 0);
  return 0;
}

void host_announce(struct host *h, const unsigned *ports) {
  if (task_protect(h, announce_body, (void *)ports, 0)) return;
  struct log_line l;
  if (log_begin(&l, LOG_ERROR, "cannot announce the server")) {
    log_str(&l, "error", lua_type(h->L, -1) == LUA_TSTRING ? lua_tostring(h->L, -1) : "?");
    log_end(&l);
  }
  lua_pop(h->L, 1);
}

void host_started(struct host *h) {
  struct task *t = task_begin(h, &started_kind);
  if (t) task_run_soon(t, started_body);
}

void host_run(struct host *h) {
  uv_run(&h->worker.loop, UV_RUN_DEFAULT);
}

bool host_close(struct host *h) {
  host_stop(h);
  uv_run(&h->worker.loop, UV_RUN_DEFAULT); /* luv's handles, while there is a state to end in */
  tasks_fini(h);
  call_fini(h);
  state_close(h);
  outbox_flush(&h->outbox); /* the broker should know who has left */
  store_forget(h->store, &h->worker.mailbox);
  bool is_clean = worker_fini(&h->worker);
  blocking_fini(h);
  groups_fini(&h->groups);
  routes_free(h->routes);
  consumers_free(h);
  linspect_fini(h);
  free(h->released.ids);
  free(h->put_off.ids);
  free(h->shared_value);
  return is_clean;
}

void host_free(struct host *h) {
  worker_free(&h->worker);
}
