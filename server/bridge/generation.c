/* SPDX-License-Identifier: MIT */
/* generation.c -- a worker's part of loading and reloading apps: brings their code into its Lua. */
#include "bridge/generation.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/settings.h"
#include "bridge/state.h"
#include "hub/bundle.h"

#include <lauxlib.h>
#include <stdlib.h>

/* ---- mail ------------------------------------------------------------------------------------ */

struct reload_order *reload_order_new(enum reload_step step, unsigned attempt,
                                      struct mailbox *answers) {
  struct reload_order *o = mem_zalloc(sizeof *o);
  o->mail.kind = HOST_RELOAD;
  o->step = step;
  o->attempt = attempt;
  o->answers = answers;
  return o;
}

void reload_order_free(struct reload_order *o) {
  bundle_unref(o->bundle);
  free(o->app);
  free(o->error);
  free(o);
}

void reload_answer_free(struct reload_answer *a) {
  free(a->app);
  free(a->error);
  free(a);
}

/* ---- into Lua -------------------------------------------------------------------------------- */

/* Pushes a perigee.Place; the files only of one that is to be loaded [-0, +1, m]. */
static void push_place(lua_State *L, const struct bundle_app *app, bool is_changed) {
  lua_createtable(L, 0, 7);
  lua_pushstring(L, app->name);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, app->file);
  lua_setfield(L, -2, "file");
  lua_pushstring(L, app->dir);
  lua_setfield(L, -2, "dir");
  lua_pushboolean(L, app->has_public);
  lua_setfield(L, -2, "has_public");
  lua_pushinteger(L, (lua_Integer)app->generation);
  lua_setfield(L, -2, "generation");
  lua_pushboolean(L, is_changed);
  lua_setfield(L, -2, "is_changed");
  if (!is_changed) return;
  lua_createtable(L, 0, (int)app->n_files);
  for (size_t i = 0; i < app->n_files; i++) {
    lua_pushlstring(L, app->files[i].text, app->files[i].len);
    lua_setfield(L, -2, app->files[i].path);
  }
  lua_setfield(L, -2, "files");
}

static void push_places(lua_State *L, const struct bundle *b, bool all_files) {
  lua_createtable(L, (int)b->n_apps, 0);
  for (size_t i = 0; i < b->n_apps; i++) {
    push_place(L, &b->apps[i], all_files || b->apps[i].is_changed);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

static char *take_string(lua_State *L, int index) {
  const char *s = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
  return s ? mem_strdup(s) : NULL;
}

struct loading {
  struct host *host;
  const struct bundle *bundle;
};

static int load_body(lua_State *L) {
  struct loading *l = lua_touserdata(L, 1);
  state_boot(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.reload");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "load");
  push_places(L, l->bundle, true);
  lua_pushstring(L, l->host->settings->apps);
  lua_call(L, 2, 0);
  return 0;
}

bool generation_load(struct host *h, const struct bundle *bundle, char **error) {
  struct loading l = {h, bundle};
  if (task_protect(h, load_body, &l, 0)) return true;
  *error = take_string(h->L, -1);
  if (!*error) *error = mem_strdup("an error that is not a string");
  lua_pop(h->L, 1);
  return false;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* perigee.reload.step(name, ...) returns ok, error, app. */
static int step_body(lua_State *L) {
  static const char *const names[] = {"build", "swap", "keep", "undo", "pages"};
  const struct reload_order *o = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, host_of(L)->entries.reload);
  lua_pushstring(L, names[o->step]);
  if (o->bundle)
    push_places(L, o->bundle, false);
  else
    lua_pushnil(L);
  lua_pushstring(L, o->app);
  lua_pushstring(L, o->error);
  lua_call(L, 4, 3);
  return 3;
}

/* The step was ended in the middle, for its time: only afterwards Lua can say where, and clean up.
 */
static int stopped_body(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, host_of(L)->entries.reload);
  lua_pushliteral(L, "stopped");
  lua_call(L, 1, 3);
  return 3;
}

/* Fills the answer in from what a step has returned, or raised. */
static void run_step(struct host *h, struct reload_order *o, struct reload_answer *a) {
  lua_State *L = h->L;
  bool is_done = task_protect(h, step_body, o, 3);
  h->is_loading = false;
  if (!is_done && lua_type(L, -1) != LUA_TSTRING) {
    lua_pop(L, 1);
    is_done = task_protect(h, stopped_body, NULL, 3);
  }
  if (!is_done) {
    a->error = take_string(L, -1);
    if (!a->error) a->error = mem_strdup("an error that is not a string");
    lua_pop(L, 1);
    return;
  }
  a->is_ok = lua_toboolean(L, -3);
  if (!a->is_ok) a->error = take_string(L, -2);
  if (!a->is_ok) a->app = take_string(L, -1);
  lua_pop(L, 3);
}

void generation_order(struct host *h, struct reload_order *o) {
  struct reload_answer *a = mem_zalloc(sizeof *a);
  uint64_t began = uv_hrtime();
  a->step = o->step;
  a->attempt = o->attempt;
  a->worker = h->worker.index;
  a->connections = h->worker.n_conns;
  if (h->is_stopping)
    a->error = mem_strdup("the server is stopping");
  else
    run_step(h, o, a);
  if (o->step == RELOAD_KEEP && a->is_ok && a->worker == 0) {
    metric_add(&h->worker.metrics.reloads, 1);
  } else if (o->step == RELOAD_UNDO && o->error && a->worker == 0) {
    metric_add(&h->worker.metrics.reload_failures, 1);
  }
  worker_hurry(&h->worker); /* Lua may have made tasks ready */
  a->us = (uv_hrtime() - began) / 1000;
  if (o->step == RELOAD_PAGES || !mailbox_post_control(o->answers, &a->mail)) reload_answer_free(a);
  reload_order_free(o);
}
