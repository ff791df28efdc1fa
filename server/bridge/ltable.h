/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LTABLE_H
#define PERIGEE_LTABLE_H

#include <lua.h>

/* ltable.c -- table.concat, insert, move, remove and sort, so that the slice's end reaches them.
 *
 * They take the place of Lua's own: same arguments, results and errors. (table.pack and unpack are
 * bounded by Lua's stack.) */
void ltable_open(lua_State *L);

#endif
