/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LSECRET_H
#define PERIGEE_LSECRET_H

#include <lua.h>

/* lsecret.c -- random ids, MACs and password hashes for Lua. For Lua: core.* */

/* random_id(bytes): that many bytes of the system's random source, as base64url. */
int l_random_id(lua_State *L);
/* sha256(text): 64 hex digits. */
int l_sha256(lua_State *L);
/* hmac(key, text): HMAC-SHA256 as base64url. */
int l_hmac(lua_State *L);
/* same(a, b): are two strings equal? When they are of one length, the time it takes tells nothing.
 */
int l_same(lua_State *L);
/* base64url(text), from_base64url(text): the second returns nil for what the first does not make.
 */
int l_base64url(lua_State *L);
int l_from_base64url(lua_State *L);

/* password_hash(task, wait, password): begins hashing on the thread pool (argon2id) and returns a
 * job; the wait is woken when it is done, then job() returns the hash as text. */
int l_password_hash(lua_State *L);
/* password_verify(task, wait, password, hash): job() then returns whether they belong together, and
 * whether the hash should be made anew because it is weaker than those made today. */
int l_password_verify(lua_State *L);

#endif
