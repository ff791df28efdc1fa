/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PLAIN_H
#define PERIGEE_PLAIN_H

#include "base/buf.h"

#include <lua.h>
#include <stdbool.h>

struct slice_watch;

/* plain.c -- plain Lua values as bytes, for other Lua states: nil, booleans, numbers, strings of
 * any bytes, perigee.null, and tables of those without a metatable (but arrays keep theirs). Not
 * for other machines: numbers lie in memory order. */

/* Appends the n values at stack indexes first, first + 1, ... to the message in progress. array_mt:
 * lua_topointer of the array metatable. slice: whose end ends the writing; or NULL. False when one
 * of them is not plain: *what says what it holds. Raises nothing. */
bool plain_write(lua_State *L, struct builder *b, int first, int n, const void *array_mt,
                 const struct slice_watch *slice, const char **what);

/* Pushes the values; returns how many [-0, +n, m]. array_mt: registry reference. */
int plain_read(lua_State *L, const uint8_t *bytes, size_t n, int array_mt);

#endif
