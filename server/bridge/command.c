/* SPDX-License-Identifier: MIT */
/* command.c -- a command line, understood by lua/perigee/cli in a Lua state of its own.
 *
 * The state is a worker's, with a loop of its own, so that a command may wait: it is gone before a
 * server starts. */
#include "bridge/command.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/state.h"
#include "net/remote.h"
#include "hub/tree.h"
#include "hub/store.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LUA_MEMORY = 512 * 1024 * 1024, SHARED_MEMORY = 64 * 1024 * 1024 };

struct command {
  int argc;
  char **argv;
  struct settings *settings; /* of the server to be started */
  struct settings own;       /* of the command's own worker */
  struct host *host;
  bool is_server;
  int function; /* registry reference of what is left to run, or LUA_NOREF */
  int exit_code;
};

/* perigee.cli.main(args) returns an exit code; a table of settings to serve with; or a function
 * that returns an exit code and may wait, with settings for this worker. */
static int run_body(lua_State *L) {
  struct command *c = lua_touserdata(L, 1);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.cli");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "main");
  lua_createtable(L, c->argc, 0);
  for (int i = 0; i < c->argc; i++) {
    lua_pushstring(L, c->argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_call(L, 1, 2);
  int result = lua_gettop(L) - 1;
  if (lua_istable(L, result)) {
    settings_read(L, result, c->settings);
    c->is_server = true;
  } else if (lua_isfunction(L, result)) {
    settings_read(L, result + 1, &c->own);
    state_boot(L);
    lua_pushvalue(L, result);
    c->function = luaL_ref(L, LUA_REGISTRYINDEX);
  } else {
    c->exit_code = (int)luaL_checkinteger(L, result);
  }
  return 0;
}

static int returned(lua_State *L, int status, lua_KContext ctx) {
  struct command *c = (struct command *)ctx;
  (void)status;
  c->exit_code = (int)luaL_checkinteger(L, -1);
  return 0;
}

static int function_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  struct command *c;
  memcpy(&c, t->data, sizeof c);
  c->exit_code = 1; /* unless it says otherwise */
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->function);
  lua_callk(L, 0, 1, (lua_KContext)c, returned);
  return returned(L, LUA_OK, (lua_KContext)c);
}

static void function_released(struct task *t) {
  struct command *c;
  memcpy(&c, t->data, sizeof c);
  host_stop(c->host);
}

static void run_function(struct command *c) {
  static const struct task_kind kind = {.name = "command", .released = function_released};
  struct task *t = task_begin(c->host, &kind);
  if (!t) {
    c->exit_code = 1;
    return;
  }
  memcpy(t->data, &c, sizeof c);
  task_run_soon(t, function_body);
  host_run(c->host);
}

bool command_run(int argc, char **argv, struct settings *settings, int *exit_code) {
  struct command c = {.argc = argc, .argv = argv, .settings = settings, .function = LUA_NOREF};
  struct host *h = c.host = mem_alloc(sizeof *h);
  struct layer *layer = mem_alloc(sizeof *layer);
  const char *lua_path = getenv("PERIGEE_LUA");
  if (lua_path && !*lua_path) lua_path = NULL;
  struct store *store = store_new();
  layer_init(layer, 1, SHARED_MEMORY);
  if (!host_prepare(h, 0, &c.own, layer, store, lua_path, LUA_MEMORY) ||
      !task_protect(h, run_body, &c, 0)) {
    const char *text = h->L && lua_type(h->L, -1) == LUA_TSTRING ? lua_tostring(h->L, -1) : NULL;
    fprintf(stderr, "perigee: %s\n", text ? text : "cannot start");
    c.is_server = false;
    c.exit_code = 1;
  } else if (c.function != LUA_NOREF) {
    run_function(&c);
  }
  host_close(h);
  host_free(h);
  store_free(store);
  free(h);
  layer_fini(layer);
  free(layer);
  settings_fini(&c.own);
  *exit_code = c.exit_code;
  return c.is_server;
}

/* What one server says, as a table { ok, text, user, is_stranger }; nothing when there is none. */
static bool push_reply(lua_State *L, const char *apps, unsigned number, const char *line,
                       unsigned ms) {
  struct remote_reply reply;
  int code = remote_ask(apps, number, line, ms, &reply);
  if (code == UV_ECONNREFUSED) return false;
  lua_createtable(L, 0, 4);
  if (code == 0) {
    lua_pushboolean(L, reply.is_ok);
    lua_setfield(L, -2, "ok");
  }
  /* who lets nobody in may be anybody */
  lua_pushboolean(L, code == UV_EACCES || code == UV_EAGAIN);
  lua_setfield(L, -2, "is_stranger");
  if (code != UV_EAGAIN) {
    lua_pushinteger(L, reply.user);
    lua_setfield(L, -2, "user");
  }
  lua_pushstring(L, code == UV_ETIMEDOUT  ? "no answer came in time"
                    : code == UV_EMSGSIZE ? "its answer is too long to be one"
                    : code != 0           ? uv_strerror(code)
                                          : reply.text);
  lua_setfield(L, -2, "text");
  free(reply.text);
  return true;
}

int l_remote(lua_State *L) {
  const char *apps = luaL_checkstring(L, 1), *line = luaL_checkstring(L, 2);
  unsigned ms = (unsigned)(luaL_checknumber(L, 3) * 1000);
  lua_newtable(L);
  for (unsigned i = 0; i < REMOTE_SERVERS_MAX; i++)
    if (push_reply(L, apps, i, line, ms)) lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  return 1;
}

static void push_left_out(void *arg, const char *path, const char *why) {
  lua_State *L = arg;
  lua_createtable(L, 0, 2);
  lua_pushstring(L, path);
  lua_setfield(L, -2, "path");
  lua_pushstring(L, why);
  lua_setfield(L, -2, "why");
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

int l_left_out(lua_State *L) {
  const char *apps = luaL_checkstring(L, 1);
  lua_newtable(L);
  tree_left_out(apps, push_left_out, L);
  return 1;
}
