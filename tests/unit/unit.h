/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_UNIT_H
#define PERIGEE_UNIT_H

/* unit.h -- what every unit test needs: cmocka, repeatable random numbers, a check that code dies.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* xorshift64*: the same numbers on every machine, so that what fails once fails again. */
static inline uint64_t next_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 2685821657736338717u;
}

/* 0 to n - 1 */
static inline unsigned random_below(uint64_t *state, unsigned n) {
  return (unsigned)(next_random(state) >> 33) % n;
}

/* A copy in memory of exactly its size, so that the address sanitizer sees a read past its end. */
static inline void *exact_copy(const void *bytes, size_t n) {
  void *copy = malloc(n ? n : 1);
  assert_non_null(copy);
  if (n) memcpy(copy, bytes, n);
  return copy;
}

/* Runs fn in a child process that must not survive it; what it said on standard error goes to text,
 * cut to `room` bytes with the NUL. */
static inline void assert_dies(void (*fn)(void), char *text, size_t room) {
  int ends[2], status;
  assert_int_equal(pipe(ends), 0);
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    fn();
    _exit(0);
  }
  close(ends[1]);
  size_t used = 0;
  char rest[256];
  for (;;) { /* read to the end, or the child might die of a broken pipe instead */
    bool has_room = text && used + 1 < room;
    ssize_t k =
        has_room ? read(ends[0], text + used, room - 1 - used) : read(ends[0], rest, sizeof rest);
    if (k <= 0) break;
    if (has_room) used += (size_t)k;
  }
  if (text) text[used] = '\0';
  close(ends[0]);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
