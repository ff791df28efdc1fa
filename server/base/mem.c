/* SPDX-License-Identifier: MIT */
/* mem.c -- allocation that ends the process when memory is exhausted. See mem.h for the reason. */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void exhausted(size_t n) {
  fprintf(stderr, "perigee: out of memory (asked for %zu bytes), giving up\n", n);
  abort();
}

void *mem_alloc(size_t n) {
  void *p = malloc(n);
  if (!p && n) exhausted(n);
  return p;
}

void *mem_zalloc(size_t n) {
  void *p = calloc(1, n);
  if (!p && n) exhausted(n);
  return p;
}

void *mem_realloc(void *old, size_t n) {
  void *p = realloc(old, n);
  if (!p) exhausted(n);
  return p;
}

void *mem_dup(const void *p, size_t n) {
  void *copy = mem_alloc(n ? n : 1);
  if (n) memcpy(copy, p, n);
  return copy;
}

char *mem_strdup(const char *s) {
  return mem_dup(s, strlen(s) + 1);
}

_Noreturn void check_failed(const char *cond, const char *file, int line) {
  fprintf(stderr, "perigee: %s:%d: this must hold and does not: %s\n", file, line, cond);
  abort();
}
