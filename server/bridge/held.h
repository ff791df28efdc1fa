/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HELD_H
#define PERIGEE_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* held.c -- what is in flight holds of Lua's memory, by estimate, and what is refused for it.
 *
 * Counted by connection (peer.held) and for all of the worker (host.held), while something waits:
 * calls, batches, what hooks received, requests of plain HTTP. Worker's thread only. */

struct conn;
struct host;

/* The connection may be gone: then only the worker's count goes on. */
void held_add(struct host *h, uint64_t conn, size_t bytes);
void held_drop(struct host *h, uint64_t conn, size_t bytes);

/* What a text of JSON weighs once it is read. */
size_t held_weight(const char *text, size_t n);

/* So much is held of that memory: is one more of that weight refused, as it would not find the
 * memory or take it from what is in flight? Of little what is long, of much all but what is short,
 * which may be what lets something end. */
bool held_is_over(size_t held, size_t memory, size_t weight);

/* The same for a text or raw bytes on their way to Lua, counted when they are. The usual answer
 * costs a comparison. */
bool held_refuses_json(struct host *h, const char *text, size_t n);
bool held_refuses(struct host *h, size_t n);

/* Does it hold so much that it is not read until it holds less? factor: so many times as much. */
bool held_is_full(const struct conn *conn, uint64_t factor);

#endif
