/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HASH_H
#define PERIGEE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* hash.c -- a keyed hash (SipHash-1-3) for tables whose keys clients may choose: without knowing
 * the key nobody can make names that collide. */

/* Chooses the process's key. Once, before threads start; without it the key is zero. */
void hash_init(void);

/* Any thread. */
uint64_t hash_bytes(const void *bytes, size_t n);

#endif
