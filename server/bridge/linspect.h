/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LINSPECT_H
#define PERIGEE_LINSPECT_H

#include <lua.h>
#include <stddef.h>

/* linspect.c -- what an inspector may see: connections, groups, who comes and who goes.
 *
 * Nothing is kept for it: all is read when it asks, page by page, but for the latest arrivals and
 * departures, of which a bounded list is written while somebody watches. */

struct conn;
struct host;
struct sightings;

/* A WebSocket was opened, or is over (code, reason). Cheap when nobody watches. */
void linspect_opened(struct conn *conn);
void linspect_closed(struct conn *conn, unsigned code, const char *reason, size_t n);
void linspect_fini(struct host *h);

/* ---- for Lua: core.* ------------------------------------------------------------------------- */

/* conns(cursor, limit, path, group, text): ids of open connections from a place in the table on (0:
 * its start), at most limit (1 to 1000) of them; and the place to go on from, or nil at the end. A
 * call looks at some thousands of connections at most, so a page may be short. path, group, text:
 * only those of that consumer, in that group, with that text in their client's address or request
 * head; nil: all. */
int l_conns(lua_State *L);
/* conn_facts(conn): a table, or nil when it is gone. */
int l_conn_facts(lua_State *L);
/* groups(limit, text): the largest groups on this worker whose name holds the text, as { name=,
 * members= }; and how many there are. */
int l_groups(lua_State *L);
/* cut(conn): closes it without a closing handshake. */
int l_cut(lua_State *L);
/* sightings(watch, dropped): what was seen since the last call, and how many more were not kept;
 * goes on watching, or stops. dropped: how many events of its own Lua did not keep, for the
 * counter. */
int l_sightings(lua_State *L);

#endif
