/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_MEM_H
#define PERIGEE_MEM_H

#include <stdbool.h>
#include <stddef.h>

/* mem.c -- allocation that ends the process when memory is exhausted.
 *
 * Why abort: with overcommit the kernel kills a process long before malloc says no, and an error
 * path per allocation, hardly ever run, is where servers hide their bugs. What clients can make us
 * allocate is bounded by limits elsewhere; Lua's own memory has a cap of its own (bridge/state.c)
 * whose exhaustion is an ordinary Lua error.
 *
 * All functions: any thread; never return NULL for n > 0; release with free(). */

void *mem_alloc(size_t n);
void *mem_zalloc(size_t n);           /* zero-filled */
void *mem_realloc(void *p, size_t n); /* n > 0 */
char *mem_strdup(const char *s);
void *mem_dup(const void *p, size_t n);

/* Does the process hold much more memory than when mem_trim was called last? */
bool mem_trim_is_due(void);
/* Gives back to the system what was freed. May take a while: not on a thread that others wait for.
 */
void mem_trim(void);

/* An assertion that stays on in release builds: for what would corrupt memory if it were false. */
#define check(cond)                                                                                \
  do {                                                                                             \
    if (__builtin_expect(!(cond), 0)) check_failed(#cond, __FILE__, __LINE__);                     \
  } while (0)

_Noreturn void check_failed(const char *cond, const char *file, int line);

#endif
