/* SPDX-License-Identifier: MIT */
/* memory.c -- Lua's memory: a cap, and a cache of small blocks in front of malloc.
 *
 * A call makes and drops a handful of small objects, and Lua's collector frees them by the ten
 * thousand: far more at a time than malloc's own cache of seven per size holds, and what goes back
 * to malloc's bins comes out of them slowly. Lua tells the size of what it frees, so a list per
 * size is all it takes. A list holds what a cycle of a busy worker frees, and no burst's memory for
 * ever: collector.c gives it back. */
#include "bridge/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CACHED_BYTES = 1024 * 1024 }; /* per size: 16 MiB in all */

struct memory_block {
  struct memory_block *next;
};

static inline unsigned class_of(size_t size) {
  return (unsigned)((size - 1) / MEMORY_GRAIN);
}

/* A block of the cache, or NULL. */
static inline void *take(struct memory *m, size_t size) {
  unsigned class = class_of(size);
  struct memory_block *block = class < MEMORY_CLASSES ? m->cached[class] : NULL;
  if (!block) return NULL;
  m->cached[class] = block->next;
  m->n_cached[class]--;
  return block;
}

static void *take_new(size_t size) {
  return malloc(class_of(size) < MEMORY_CLASSES ? (class_of(size) + 1) * MEMORY_GRAIN : size);
}

/* Into the cache, if it has room for it. */
static inline bool give(struct memory *m, void *p, size_t size) {
  unsigned class = class_of(size);
  if (class >= MEMORY_CLASSES || m->n_cached[class] * (class + 1) >= CACHED_BYTES / MEMORY_GRAIN)
    return false;
  struct memory_block *block = p;
  block->next = m->cached[class];
  m->cached[class] = block;
  m->n_cached[class]++;
  return true;
}

/* ---- what seldom happens is out of line: the registers it needs would be saved each time --------
 */

#define SELDOM __attribute__((noinline))

SELDOM static void *refuse(struct memory *m) {
  m->refused++;
  return NULL;
}

SELDOM static void *allocate_new(struct memory *m, size_t size) {
  void *p = take_new(size);
  if (p) m->used += size;
  return p;
}

SELDOM static void *give_up(void *p) {
  free(p);
  return NULL;
}

SELDOM static void *resize(struct memory *m, void *old, size_t old_size, size_t new_size) {
  if (new_size > old_size && new_size - old_size > m->max - m->used) return refuse(m);
  void *p;
  if (class_of(old_size) == class_of(new_size) && class_of(old_size) < MEMORY_CLASSES) {
    p = old;
  } else if (class_of(old_size) >= MEMORY_CLASSES && class_of(new_size) >= MEMORY_CLASSES) {
    p = realloc(old, new_size);
  } else {
    p = take(m, new_size);
    if (!p) p = take_new(new_size);
    if (p) {
      memcpy(p, old, old_size < new_size ? old_size : new_size);
      if (!give(m, old, old_size)) free(old);
    }
  }
  if (!p && new_size > old_size) return NULL;
  if (!p) p = old; /* too large for what it is called from now on, which harms nobody */
  m->used += new_size - old_size; /* wraps around to subtract */
  return p;
}

void *memory_allocate(void *ud, void *old, size_t old_size, size_t new_size) {
  struct memory *m = ud;
  if (old && new_size) return resize(m, old, old_size, new_size);
  if (old) {
    m->used -= old_size;
    return give(m, old, old_size) ? NULL : give_up(old);
  }
  if (new_size == 0) return NULL; /* where there is no old block, old_size tells an object's type */
  if (new_size > m->max - m->used) return refuse(m);
  void *p = take(m, new_size);
  if (!p) return allocate_new(m, new_size);
  m->used += new_size;
  return p;
}

void memory_give_back(struct memory *m) {
  for (int class = 0; class < MEMORY_CLASSES; class ++) {
    while (m->cached[class]) {
      struct memory_block *block = m->cached[class];
      m->cached[class] = block->next;
      free(block);
    }
    m->n_cached[class] = 0;
  }
}

void memory_fini(struct memory *m) {
  memory_give_back(m);
}
