/* SPDX-License-Identifier: MIT */
/* watch.c -- notices that files of apps have changed, and waits until whoever changes them is done.
 */
#include "hub/watch.h"

#include "base/log.h"
#include "base/mem.h"
#include "hub/tree.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
  QUIET_MS = 40,      /* without an event: an editor's or a copy's are closer together */
  PATIENCE_MS = 2000, /* but not longer than that after the first */
  LOOK_MS = 1000,     /* for file systems that tell nothing, and links above the folder */
  FOLDERS_MAX = 1000, /* that are watched: each costs the system some memory */
};

/* What the tree looks like: sums of names, inodes, sizes and times. */
struct looks {
  uint64_t code, pages, folders;
};

struct folder {
  uv_fs_event_t event; /* must be first */
  struct folder *next;
};

struct watch {
  uv_loop_t *loop;
  const char *dir; /* borrowed */
  struct watch_owner owner;
  uv_timer_t quiet, poll;
  struct folder *folders; /* owned list */
  struct looks told;      /* as the owner knows it */
  uint64_t moving_since;  /* the first event of those that are not dealt with; 0: none */
  bool is_looking, is_again;
  bool is_settled; /* the look under way was asked for by `quiet` */
  bool is_closed;
  /* of the look, which runs on another thread */
  uv_work_t work;
  struct looks seen;
  char **paths; /* folders there are; owned, as are the paths */
  size_t n_paths;
  bool is_seen; /* the look has worked */
};

/* ---- looking, on the pool -------------------------------------------------------------------- */

static uint64_t fold(uint64_t sum, const void *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) /* FNV-1a */
    sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
  return sum;
}

static bool on_entry(void *arg, const struct tree_entry *e) {
  struct watch *w = arg;
  uint64_t facts[] = {(uint64_t)e->stat->st_dev, (uint64_t)e->stat->st_ino,
                      (uint64_t)e->stat->st_size, (uint64_t)e->stat->st_mtim.tv_sec,
                      (uint64_t)e->stat->st_mtim.tv_nsec};
  bool is_folder = S_ISDIR(e->stat->st_mode);
  uint64_t *sum = is_folder                ? &w->seen.folders
                  : e->kind == TREE_PUBLIC ? &w->seen.pages
                                           : &w->seen.code;
  *sum = fold(*sum, e->path, strlen(e->path));
  *sum = fold(*sum, facts, is_folder ? 2 * sizeof *facts : sizeof facts);
  if (!is_folder) return true;
  /* an app's folder counts by itself: it may have lost its last file */
  if (e->kind == TREE_FOLDER) w->seen.code = fold(w->seen.code, e->path, strlen(e->path));
  if (w->n_paths == FOLDERS_MAX) return true;
  w->paths[w->n_paths++] = mem_strdup(e->path);
  return true;
}

static void look(uv_work_t *work) {
  struct watch *w = work->data;
  char error[1024];
  w->seen = (struct looks){1, 1, 1};
  w->n_paths = 0;
  w->is_seen = tree_walk(w->dir, true, on_entry, w, error, sizeof error);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void on_looked(uv_work_t *work, int status);

static void begin_look(struct watch *w, bool is_settled) {
  if (w->is_looking) {
    w->is_again = true;
    return;
  }
  w->is_looking = true;
  w->is_settled = is_settled;
  check(uv_queue_work(w->loop, &w->work, look, on_looked) == 0);
}

static void on_quiet(uv_timer_t *timer) {
  struct watch *w = timer->data;
  w->moving_since = 0;
  begin_look(w, true);
}

static void on_poll(uv_timer_t *timer) {
  begin_look(timer->data, false);
}

/* Something moves: look when it has come to rest. */
static void wait_for_quiet(struct watch *w) {
  uint64_t now = uv_now(w->loop), wait = QUIET_MS;
  if (w->is_closed) return;
  if (!w->moving_since) w->moving_since = now;
  uint64_t end = w->moving_since + PATIENCE_MS;
  if (now + wait > end) wait = end > now ? end - now : 0;
  uv_timer_start(&w->quiet, on_quiet, wait, 0);
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
  (void)name;
  (void)events;
  (void)status;
  wait_for_quiet(event->data);
}

static void on_folder_closed(uv_handle_t *handle) {
  free(handle);
}

static void unwatch(struct watch *w) {
  while (w->folders) {
    struct folder *f = w->folders;
    w->folders = f->next;
    uv_close((uv_handle_t *)&f->event, on_folder_closed);
  }
}

/* Watches the folders that the last look has found. */
static void watch_folders(struct watch *w) {
  static struct log_limit limit = LOG_LIMIT(1);
  struct log_line l;
  int failed = 0;
  unwatch(w);
  for (size_t i = 0; i < w->n_paths; i++) {
    struct folder *f = mem_zalloc(sizeof *f);
    uv_fs_event_init(w->loop, &f->event);
    f->event.data = w;
    int code = uv_fs_event_start(&f->event, on_event, w->paths[i], 0);
    if (code != 0) { /* gone again, or the system's limit: the poll notices what we miss */
      if (code != UV_ENOENT) failed = code;
      uv_close((uv_handle_t *)&f->event, on_folder_closed);
      continue;
    }
    f->next = w->folders;
    w->folders = f;
  }
  if (failed && log_begin_limited(&l, &limit, LOG_WARN,
                                  "cannot watch all folders, looks once a second instead")) {
    log_str(&l, "error", uv_strerror(failed));
    log_end(&l);
  }
}

static void forget_paths(struct watch *w) {
  for (size_t i = 0; i < w->n_paths; i++) free(w->paths[i]);
  w->n_paths = 0;
}

static void on_looked(uv_work_t *work, int status) {
  struct watch *w = work->data;
  (void)status;
  w->is_looking = false;
  if (w->is_closed) return;
  bool code = w->seen.code != w->told.code, pages = w->seen.pages != w->told.pages;
  bool folders = w->seen.folders != w->told.folders;
  if (!w->is_seen) {
    /* the folder itself is gone, for the moment */
  } else if (w->is_settled) {
    w->told = w->seen;
    if (folders) {
      watch_folders(w);
      w->is_again = true; /* what happened in new folders before they were watched */
    }
    if (code) w->owner.code(w->owner.owner);
    if (pages) w->owner.pages(w->owner.owner);
  } else if (code || pages || folders) {
    wait_for_quiet(w);
  }
  forget_paths(w);
  if (!w->is_again) return;
  w->is_again = false;
  wait_for_quiet(w);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct watch *watch_open(uv_loop_t *loop, const char *dir, struct watch_owner owner) {
  struct watch *w = mem_zalloc(sizeof *w);
  w->loop = loop;
  w->dir = dir;
  w->owner = owner;
  w->work.data = w;
  w->paths = mem_zalloc(FOLDERS_MAX * sizeof *w->paths);
  uv_timer_init(loop, &w->quiet);
  uv_timer_init(loop, &w->poll);
  w->quiet.data = w->poll.data = w;
  uv_timer_start(&w->poll, on_poll, LOOK_MS, LOOK_MS);
  look(&w->work); /* the one look on this thread: from here on nothing is missed */
  w->told = w->seen;
  watch_folders(w);
  forget_paths(w);
  owner.code(owner.owner); /* what has happened since the apps were read */
  return w;
}

void watch_close(struct watch *w) {
  w->is_closed = true;
  unwatch(w);
  uv_close((uv_handle_t *)&w->quiet, NULL);
  uv_close((uv_handle_t *)&w->poll, NULL);
}

void watch_free(struct watch *w) {
  forget_paths(w);
  free(w->paths);
  free(w);
}
