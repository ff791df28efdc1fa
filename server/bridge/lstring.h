/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LSTRING_H
#define PERIGEE_LSTRING_H

#include <lua.h>

/* lstring.c -- string.find, match, gmatch, gsub and rep, so that the slice's end reaches them.
 *
 * They take the place of Lua's own in the table `string`, and with it for methods of strings: same
 * arguments, results and errors. */
void lstring_open(lua_State *L);

#endif
