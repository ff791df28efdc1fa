/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_STATE_H
#define PERIGEE_STATE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* state.c -- makes a Lua state: libraries, perigee.* from the binary or a folder, core. */

struct builder;
struct host;

/* Files built into the binary: Lua, web, and the template of new projects. */
struct embedded_file {
  const char *name; /* "perigee/rpc.lua" */
  const char *text;
  size_t len;
  const char *tag; /* for ETag, quoted: changes with the text */
};
extern const struct embedded_file embedded_files[];
extern const size_t embedded_count;

/* Opens h->L with everything apps may use. h->memory.max and h->settings must be set; lua_path,
 * when not NULL, is a folder to read perigee.* from instead of the binary. False: no memory. */
bool state_open(struct host *h, const char *lua_path);
void state_close(struct host *h);

/* Pushes a builder that the collector takes care of, for code that may raise while it has one
 * [-0, +1, m]. */
struct builder *state_push_builder(lua_State *L);

/* For a task_protect: require "perigee" and its parts, and take the entries C calls. */
int state_boot(lua_State *L);

#endif
