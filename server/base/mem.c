/* SPDX-License-Identifier: MIT */
/* mem.c -- allocation that ends the process when memory is exhausted. See mem.h for the reason. */
#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
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

enum { TRIM_PAGES = 16 * 1024 * 1024 / 4096 }; /* growth that is worth a look */

/* Resident pages after the last trim, or the least since. One for the process, as its memory is. */
static atomic_size_t trimmed_at;

static size_t resident_pages(void) {
  unsigned long size, resident = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  if (!f) return 0;
  if (fscanf(f, "%lu %lu", &size, &resident) != 2) resident = 0;
  fclose(f);
  return resident;
}

bool mem_trim_is_due(void) {
  size_t now = resident_pages(), last = atomic_load(&trimmed_at);
  if (now < last) atomic_store(&trimmed_at, now);
  return now > last + TRIM_PAGES;
}

/* A sanitizer puts its own allocator in front of glibc's, which is never set up then: trimming that
 * from several threads at once crashes in it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_GLIBC_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_GLIBC_MALLOC 0
#endif
#endif
#if !defined(HAS_GLIBC_MALLOC) && defined(__GLIBC__)
#define HAS_GLIBC_MALLOC 1
#endif

void mem_trim(void) {
#if HAS_GLIBC_MALLOC
  malloc_trim(0);
#endif
  atomic_store(&trimmed_at, resident_pages());
}

_Noreturn void check_failed(const char *cond, const char *file, int line) {
  fprintf(stderr, "perigee: %s:%d: this must hold and does not: %s\n", file, line, cond);
  abort();
}
