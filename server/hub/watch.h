/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_WATCH_H
#define PERIGEE_WATCH_H

#include <stdbool.h>
#include <uv.h>

/* watch.c -- notices that files of apps have changed, and waits until whoever changes them is done.
 *
 *   an event of any folder ─▶ quiet for 40 ms ─▶ look at the whole tree ─▶ changed?
 *   once a second ─────────▶ look ─▶ different? ───────┘
 *
 * Events only say when to look, so it does not matter which ones an editor, a copy or a link that
 * is exchanged causes, or whether the file system tells at all. Loop's thread; looks on the pool.
 */

struct watch;

struct watch_owner {
  void (*code)(void *owner);  /* Lua files of apps, or whole apps */
  void (*pages)(void *owner); /* public files */
  void *owner;
};

/* dir must outlive it. Blocks on the disk, for a first look: what is there now is no change to
 * pages, and code is told of once, as it may have changed since it was read. */
struct watch *watch_open(uv_loop_t *loop, const char *dir, struct watch_owner owner);
/* No more calls to the owner; then run the loop until it returns, then watch_free. */
void watch_close(struct watch *w);
void watch_free(struct watch *w);

#endif
