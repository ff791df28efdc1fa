/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LLAYER_H
#define PERIGEE_LLAYER_H

#include <lua.h>

struct host;
struct parcel;

/* llayer.c -- groups, channels, mail and shared values for Lua: core.*
 *
 * What has to be asked for elsewhere returns the number of a wait of the running task, to be given
 * to park(); the waker passes what the function says. */

/* group_add(conn, name[, meta[, waits]]): joins, or changes its meta, a JSON text. Returns whether
 * it joined, and, if the caller waits, a wait when messages of other machines arrive only after it
 * (nothing is passed). */
int l_group_add(lua_State *L);
/* group_discard(conn, name): true when it was a member. */
int l_group_discard(lua_State *L);
/* groups_of(conn): list of names. */
int l_groups_of(lua_State *L);
/* group_count(name): members in this process. */
int l_group_count(lua_State *L);
/* group_workers(name): list of the workers of this process that have members, in order. */
int l_group_workers(lua_State *L);
/* members(name): ids of the connections in a group, on this worker. */
int l_members(lua_State *L);
/* members_after(name, conn, limit): the first `limit` of those whose id is higher, in order, and a
 * list of their metas, false for none. */
int l_members_after(lua_State *L);
/* publish(name or list of names, method, params, list of channels and conn ids to leave out,
 * flags): one frame for all members, once each, wherever they are. */
int l_publish(lua_State *L);
/* notify_channel(channel, method, params, flags): true, false when there is no such connection, or
 * a wait that is passed one of these. */
int l_notify_channel(lua_State *L);
/* post(channel, text[, wants_answer]): a text for perigee.mail of the worker that has the channel,
 * which may be that of a worker (conn 0). Returns as notify_channel does. */
int l_post(lua_State *L);
/* post_groups(name, text): the same, to all other workers with members of that group. */
int l_post_groups(lua_State *L);
/* redis(word, ...): a command. nil when the layer is memory, or a wait that is passed true and the
 * reply, false and an error's text, or false when Redis cannot be reached or was lost. */
int l_redis(lua_State *L);

/* Of this process; keys are strings, values what JSON can hold, ttl in seconds, 0 for none.
 * shared_get(key): the value, or nothing. */
int l_shared_get(lua_State *L);
/* shared_set(key, value, ttl, only_new): true; false when there is one; nil when there is no room.
 */
int l_shared_set(lua_State *L);
/* shared_incr(key, by, ttl): the sum; false when it is no number; nil when there is no room. */
int l_shared_incr(lua_State *L);
/* shared_expire(key, ttl), shared_delete(key): false when there is no such key. */
int l_shared_expire(lua_State *L);
int l_shared_delete(lua_State *L);

/* ---- for host.c ------------------------------------------------------------------------------ */

/* Takes a parcel that arrived. */
void llayer_take(struct host *h, struct parcel *p);

#endif
