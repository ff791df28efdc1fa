/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_COMMAND_H
#define PERIGEE_COMMAND_H

#include "bridge/settings.h"

#include <stdbool.h>

/* command.c -- a command line, understood by lua/perigee/cli in a Lua state of its own. */

/* Runs `perigee argv[1..]`. Returns true when a server is to be started as settings say; else the
 * command is done and *exit_code says how: 0 ok, 1 failed, 2 usage. */
bool command_run(int argc, char **argv, struct settings *settings, int *exit_code);

/* remote(apps, command): a list of { ok =, text = }, one for each running server of these apps; ok
 * is nil when it did not answer, text says why then. For Lua; blocks. */
int l_remote(lua_State *L);

/* left_out(apps): a list of { path =, why = }: what looks like an app there and is none. For Lua;
 * blocks. */
int l_left_out(lua_State *L);

#endif
