/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LBOUND_H
#define PERIGEE_LBOUND_H

#include <lua.h>

/* lbound.c -- functions of C that would run for long where nothing ends them: what they are given
 * is bounded, or handed to them in pieces.
 *
 *   load           a text goes in piece by piece, each with a look at the slice
 *   string.pack    packsize and unpack, os.date: a format of at most BOUND_FORMAT bytes
 *   cjson.encode   at most BOUND_VALUES values and BOUND_TEXT bytes of strings, each counted as
 * often as it would be written: tables that share tables stand for more text than any machine can
 * hold, and cjson would end the process over it */

enum { BOUND_FORMAT = 1 << 20, BOUND_VALUES = 4 << 20, BOUND_TEXT = 64 << 20 };

/* Puts them into the place of Lua's own. */
void lbound_open(lua_State *L);
/* Pushes the module cjson. */
int lbound_open_cjson(lua_State *L);

#endif
