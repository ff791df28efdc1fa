/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_REDIS_SESSIONS_H
#define PERIGEE_REDIS_SESSIONS_H

#include "hub/store.h"

/* redis_sessions.c -- keeps sessions in Redis, for servers on several machines.
 *
 * `where` is a URL as hub/redis.h has it, after the prefix of all keys and a space. A Redis that is
 * away when the keeper is opened may come later; one that refuses us may not. */
extern const struct store_keeper redis_keeper;

#endif
