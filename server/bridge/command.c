/* SPDX-License-Identifier: MIT */
/* command.c -- a command line, understood by lua/perigee/cli in a Lua state of its own.
 *
 * The state has the same libraries as a worker's, but no connections; it is gone before the server
 * starts. */
#include "bridge/command.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/state.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
  int argc;
  char **argv;
  struct settings *settings;
  bool is_server;
  int exit_code;
};

/* perigee.cli.main(args) returns an exit code, or a table of settings to serve with. */
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
  lua_call(L, 1, 1);
  c->is_server = lua_istable(L, -1);
  if (c->is_server)
    settings_read(L, -1, c->settings);
  else
    c->exit_code = (int)luaL_checkinteger(L, -1);
  return 0;
}

bool command_run(int argc, char **argv, struct settings *settings, int *exit_code) {
  struct command c = {.argc = argc, .argv = argv, .settings = settings};
  struct host *h = mem_zalloc(sizeof *h);
  static const struct settings none;
  const char *lua_path = getenv("PERIGEE_LUA");
  h->settings = &none;
  h->lua_max = 256u * 1024 * 1024;
  worker_open(&h->worker, 0, &none.conn, NULL, NULL, (struct worker_events){0}, h, 0, 0);
  tasks_init(h);
  if (!state_open(h, lua_path && *lua_path ? lua_path : NULL) || !task_protect(h, run_body, &c, 0)) {
    const char *text = h->L && lua_type(h->L, -1) == LUA_TSTRING ? lua_tostring(h->L, -1) : NULL;
    fprintf(stderr, "perigee: %s\n", text ? text : "cannot start");
    c.is_server = false;
    c.exit_code = 1;
  }
  tasks_fini(h);
  state_close(h);
  worker_close(&h->worker);
  uv_run(&h->worker.loop, UV_RUN_DEFAULT);
  worker_fini(&h->worker);
  free(h);
  *exit_code = c.exit_code;
  return c.is_server;
}
