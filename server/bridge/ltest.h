/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LTEST_H
#define PERIGEE_LTEST_H

#include <lua.h>

/* ltest.c -- what only tests need: connections without ports, a clock that is moved by hand, and a
 * way to wait until nothing happens any more. For Lua: require "perigee.core.testing". */

struct host;

int ltest_open(lua_State *L);

/* At the end of each turn: wakes who waits for quiet. */
void ltest_turn(struct host *h);

#endif
