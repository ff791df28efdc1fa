/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_MEMORY_H
#define PERIGEE_MEMORY_H

#include <stddef.h>

/* memory.c -- Lua's memory: a cap, and a cache of small blocks in front of malloc. */

enum { MEMORY_GRAIN = 16, MEMORY_CLASSES = 16 };

struct memory {
  size_t used, max;                            /* bytes, as Lua asked for them */
  size_t refused;                              /* times it asked for more than max */
  struct memory_block *cached[MEMORY_CLASSES]; /* blocks of 16, 32, ... 256 bytes */
  unsigned n_cached[MEMORY_CLASSES];
};

/* A lua_Alloc; ud is a struct memory. Over the cap it fails, which Lua answers with a full
 * collection and, if that does not help, an ordinary error in whatever asked. Shrinking never
 * fails. */
void *memory_allocate(void *ud, void *old, size_t old_size, size_t new_size);

/* Gives the cache back; it fills again. */
void memory_give_back(struct memory *m);
/* After lua_close. */
void memory_fini(struct memory *m);

#endif
