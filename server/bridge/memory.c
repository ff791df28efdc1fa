/* SPDX-License-Identifier: MIT */
/* memory.c -- Lua's memory: a cap, and a cache of small blocks in front of malloc.
 *
 * A call makes and drops a handful of small objects, and Lua's collector frees them by the ten
 * thousand: far more at a time than malloc's own cache of seven per size holds, and what goes back
 * to malloc's bins comes out of them slowly. Lua tells the size of what it frees, so a list per
 * size is all it takes. A list holds what a cycle of a busy worker frees, and no burst's memory for
 * ever: collector.c gives it back. */
#include "bridge/memory.h"

#include <stdlib.h>
#include <string.h>

enum { CACHED_BYTES = 1024 * 1024 }; /* per size: 16 MiB in all */

struct memory_block {
  struct memory_block *next;
};

static inline unsigned class_of(size_t size) {
  return (unsigned)((size - 1) / MEMORY_GRAIN);
}

static inline void *take(struct memory *m, size_t size) {
  unsigned class = class_of(size);
  if (class >= MEMORY_CLASSES) return malloc(size);
  struct memory_block *block = m->cached[class];
  if (!block) return malloc((class + 1) * MEMORY_GRAIN);
  m->cached[class] = block->next;
  m->n_cached[class]--;
  return block;
}

static inline void give(struct memory *m, void *p, size_t size) {
  unsigned class = class_of(size);
  if (class >= MEMORY_CLASSES || m->n_cached[class] * (class + 1) >= CACHED_BYTES / MEMORY_GRAIN) {
    free(p);
    return;
  }
  struct memory_block *block = p;
  block->next = m->cached[class];
  m->cached[class] = block;
  m->n_cached[class]++;
}

static void *refuse(struct memory *m) {
  m->refused++;
  return NULL;
}

void *memory_allocate(void *ud, void *old, size_t old_size, size_t new_size) {
  struct memory *m = ud;
  if (!old) { /* old_size tells the object's type then */
    if (new_size == 0) return NULL;
    if (new_size > m->max - m->used) return refuse(m);
    void *p = take(m, new_size);
    if (p) m->used += new_size;
    return p;
  }
  if (new_size == 0) {
    m->used -= old_size;
    give(m, old, old_size);
    return NULL;
  }
  if (new_size > old_size && new_size - old_size > m->max - m->used) return refuse(m);
  void *p;
  if (class_of(old_size) == class_of(new_size) && class_of(old_size) < MEMORY_CLASSES) {
    p = old;
  } else if (class_of(old_size) >= MEMORY_CLASSES && class_of(new_size) >= MEMORY_CLASSES) {
    p = realloc(old, new_size);
  } else {
    p = take(m, new_size);
    if (p) {
      memcpy(p, old, old_size < new_size ? old_size : new_size);
      give(m, old, old_size);
    }
  }
  if (!p && new_size > old_size) return NULL;
  if (!p) p = old; /* too large for what it is called from now on, which harms nobody */
  m->used += new_size - old_size; /* wraps around to subtract */
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
