/* SPDX-License-Identifier: MIT */
/* bundle.c -- the code of all apps, read once: what every worker loads. */
#include "hub/bundle.h"

#include "base/log.h"
#include "base/mem.h"
#include "hub/tree.h"
#include "wire/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIES = 20, TRY_MS = 25 }; /* for a moment in which nothing changes */

struct reading {
  struct bundle *bundle;
  size_t n_files, n_bytes;
  const char *dir;
  bool is_stable; /* nothing has changed while it was read */
};

static char *format(const char *pattern, ...) {
  char text[1024];
  va_list args;
  va_start(args, pattern);
  vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  return mem_strdup(text);
}

/* ---- reading --------------------------------------------------------------------------------- */

static struct bundle_app *app_of(struct reading *r, const struct tree_entry *e) {
  struct bundle *b = r->bundle;
  for (size_t i = 0; i < b->n_apps; i++) {
    struct bundle_app *app = &b->apps[i];
    if (e->is_single != (app->dir == NULL) || strcmp(app->name, e->app) != 0) continue;
    return app;
  }
  b->apps = mem_realloc(b->apps, (b->n_apps + 1) * sizeof *b->apps);
  struct bundle_app *app = &b->apps[b->n_apps++];
  *app = (struct bundle_app){.name = mem_strdup(e->app)};
  if (e->is_single) {
    app->file = mem_strdup(e->path);
  } else {
    app->dir = format("%s/%s", r->dir, e->app);
    app->file = format("%s/%s/init.lua", r->dir, e->app);
  }
  return app;
}

/* Reads a file that should be as stat says. False: it is not, any more. */
static bool read_text(const char *path, const struct stat *st, char **text, char **error) {
  size_t n = (size_t)st->st_size, len = 0;
  struct stat now;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return false;
  if (fd < 0 || fstat(fd, &now) != 0) {
    *error = format("%s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return true;
  }
  *text = mem_alloc(n + 1);
  while (len < n + 1) { /* one more than it should have: has it grown? */
    ssize_t k = read(fd, *text + len, n + 1 - len);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) break;
    len += (size_t)k;
  }
  close(fd);
  return len == n && now.st_mtim.tv_sec == st->st_mtim.tv_sec &&
         now.st_mtim.tv_nsec == st->st_mtim.tv_nsec && now.st_ino == st->st_ino;
}

static void add_file(struct reading *r, struct bundle_app *app, const struct tree_entry *e) {
  char *text = NULL;
  size_t n = (size_t)e->stat->st_size;
  if (app->error) return;
  if (e->stat->st_size > BUNDLE_FILE_MAX) {
    app->error = format("%s has %.1f MiB; a Lua file of an app may have %d MiB", e->path,
                        (double)e->stat->st_size / 1048576, BUNDLE_FILE_MAX >> 20);
    return;
  }
  if (++r->n_files > BUNDLE_FILES_MAX || (r->n_bytes += n) > BUNDLE_BYTES_MAX) {
    app->error = format("%s: all apps together may have %d Lua files of %d MiB", e->path,
                        BUNDLE_FILES_MAX, BUNDLE_BYTES_MAX >> 20);
    return;
  }
  if (!read_text(e->path, e->stat, &text, &app->error)) r->is_stable = false;
  if (app->error || !r->is_stable) {
    free(text);
    return;
  }
  if (!utf8_is_valid((const uint8_t *)text, n)) {
    app->error = format("%s is not UTF-8: save it in that encoding", e->path);
    free(text);
    return;
  }
  app->files = mem_realloc(app->files, (app->n_files + 1) * sizeof *app->files);
  app->files[app->n_files++] = (struct bundle_file){mem_strdup(e->path), text, n};
}

static bool on_entry(void *arg, const struct tree_entry *e) {
  struct reading *r = arg;
  if (e->app[0] == '\0') return true;
  if (e->kind == TREE_CODE)
    add_file(r, app_of(r, e), e);
  else
    app_of(r, e)->has_public |= e->kind == TREE_PUBLIC;
  return r->is_stable;
}

static void app_free(struct bundle_app *app) {
  for (size_t i = 0; i < app->n_files; i++) {
    free(app->files[i].path);
    free(app->files[i].text);
  }
  free(app->files);
  free(app->name);
  free(app->file);
  free(app->dir);
  free(app->error);
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const struct bundle_app *)a)->name, ((const struct bundle_app *)b)->name);
}

/* Folders that are no apps are put aside. */
static void sort_out(struct bundle *b) {
  size_t kept = 0;
  b->strays = mem_zalloc((b->n_apps + 1) * sizeof *b->strays);
  for (size_t i = 0; i < b->n_apps; i++) {
    struct bundle_app app = b->apps[i];
    bool has_init = app.dir == NULL;
    for (size_t k = 0; k < app.n_files && !has_init; k++)
      has_init = strcmp(app.files[k].path, app.file) == 0;
    if (has_init || app.error)
      b->apps[kept++] = app;
    else
      b->strays[b->n_strays++] = app;
  }
  b->n_apps = kept;
  if (kept) qsort(b->apps, kept, sizeof *b->apps, by_name);
  for (size_t i = 1; i < kept; i++) {
    struct bundle_app *one = &b->apps[i - 1], *other = &b->apps[i];
    if (strcmp(one->name, other->name) != 0 || one->error) continue;
    one->error = format("two apps are called '%s': %s and %s", one->name, one->file, other->file);
  }
}

struct folding {
  uint64_t sum;
};

/* What there is, how long it is, and when it was written: FNV-1a. */
static bool fold(void *arg, const struct tree_entry *e) {
  struct folding *f = arg;
  uint64_t facts[] = {(uint64_t)e->stat->st_ino, (uint64_t)e->stat->st_size,
                      (uint64_t)e->stat->st_mtim.tv_sec, (uint64_t)e->stat->st_mtim.tv_nsec};
  if (S_ISDIR(e->stat->st_mode)) return true;
  for (const char *s = e->path; *s; s++) f->sum = (f->sum ^ (uint8_t)*s) * 0x100000001b3u;
  for (size_t i = 0; i < sizeof facts; i++)
    f->sum = (f->sum ^ ((const uint8_t *)facts)[i]) * 0x100000001b3u;
  return true;
}

static void add_left_out(void *arg, const char *path, const char *why) {
  struct bundle *b = arg;
  b->left_out = mem_realloc(b->left_out, (b->n_left_out + 1) * sizeof *b->left_out);
  b->left_out[b->n_left_out++] = (struct bundle_left_out){mem_strdup(path), why};
}

void bundle_tell_left_out(const struct bundle *b, const struct bundle *before) {
  for (size_t i = 0; i < b->n_left_out; i++) {
    bool is_known = false;
    struct log_line l;
    for (size_t k = 0; before && k < before->n_left_out && !is_known; k++)
      is_known = strcmp(before->left_out[k].path, b->left_out[i].path) == 0;
    if (is_known || !log_begin(&l, LOG_WARN, "this is not served as an app")) continue;
    log_str(&l, "path", b->left_out[i].path);
    log_str(&l, "why", b->left_out[i].why);
    log_end(&l);
  }
}

struct bundle *bundle_read(const char *dir, char *error, size_t n) {
  for (int i = 0; i < TRIES; i++) {
    struct folding before = {0}, after = {0};
    struct reading r = {.bundle = mem_zalloc(sizeof *r.bundle), .dir = dir, .is_stable = true};
    atomic_init(&r.bundle->refs, 1);
    bool is_read = tree_walk(dir, false, fold, &before, error, n) &&
                   tree_walk(dir, false, on_entry, &r, error, n) &&
                   tree_walk(dir, false, fold, &after, error, n);
    if (is_read && before.sum == after.sum) {
      sort_out(r.bundle);
      tree_left_out(dir, add_left_out, r.bundle);
      return r.bundle;
    }
    bundle_unref(r.bundle);
    if (error[0]) return NULL;
    usleep(TRY_MS * 1000);
  }
  snprintf(error, n, "%s: the files change all the time, there is no moment to read them", dir);
  return NULL;
}

/* ---- comparing ------------------------------------------------------------------------------- */

bool bundle_app_equals(const struct bundle_app *a, const struct bundle_app *b) {
  if (a->n_files != b->n_files || a->has_public != b->has_public || strcmp(a->file, b->file) != 0)
    return false;
  if ((a->error == NULL) != (b->error == NULL) || (a->error && strcmp(a->error, b->error) != 0))
    return false;
  for (size_t i = 0; i < a->n_files; i++) {
    const struct bundle_file *x = &a->files[i], *y = &b->files[i];
    if (x->len != y->len || strcmp(x->path, y->path) != 0 || memcmp(x->text, y->text, x->len) != 0)
      return false;
  }
  return true;
}

const struct bundle_app *bundle_find(const struct bundle *b, const char *name) {
  for (size_t i = 0; b && i < b->n_apps; i++)
    if (strcmp(b->apps[i].name, name) == 0) return &b->apps[i];
  return NULL;
}

const struct bundle_app *bundle_find_stray(const struct bundle *b, const char *name) {
  for (size_t i = 0; b && i < b->n_strays; i++)
    if (strcmp(b->strays[i].name, name) == 0) return &b->strays[i];
  return NULL;
}

size_t bundle_compare(struct bundle *b, const struct bundle *before) {
  size_t n = 0;
  for (size_t i = 0; i < b->n_apps; i++) {
    struct bundle_app *app = &b->apps[i];
    const struct bundle_app *old = bundle_find(before, app->name);
    app->is_changed = !old || !bundle_app_equals(app, old);
    app->generation = (old ? old->generation : 0) + (app->is_changed ? 1 : 0);
    n += app->is_changed;
  }
  for (size_t i = 0; before && i < before->n_apps; i++) n += !bundle_find(b, before->apps[i].name);
  return n;
}

void bundle_retain(struct bundle *b, const struct bundle_app *app) {
  struct bundle_app *to = (struct bundle_app *)bundle_find(b, app->name);
  if (to) {
    app_free(to);
  } else {
    b->apps = mem_realloc(b->apps, (b->n_apps + 1) * sizeof *b->apps);
    to = &b->apps[b->n_apps++];
  }
  *to = (struct bundle_app){.name = mem_strdup(app->name),
                            .file = mem_strdup(app->file),
                            .dir = app->dir ? mem_strdup(app->dir) : NULL,
                            .has_public = app->has_public,
                            .generation = app->generation,
                            .files = mem_zalloc((app->n_files + 1) * sizeof *app->files),
                            .n_files = app->n_files};
  for (size_t i = 0; i < app->n_files; i++) {
    const struct bundle_file *f = &app->files[i];
    to->files[i] = (struct bundle_file){mem_strdup(f->path), mem_alloc(f->len + 1), f->len};
    memcpy(to->files[i].text, f->text, f->len);
  }
  qsort(b->apps, b->n_apps, sizeof *b->apps, by_name);
}

void bundle_refuse_stray(struct bundle *b, const char *name) {
  struct bundle_app *stray = (struct bundle_app *)bundle_find_stray(b, name);
  b->apps = mem_realloc(b->apps, (b->n_apps + 1) * sizeof *b->apps);
  b->apps[b->n_apps] = *stray;
  b->apps[b->n_apps++].error =
      format("%s has no init.lua any more; remove the folder to remove the app", stray->dir);
  *stray = b->strays[--b->n_strays];
  qsort(b->apps, b->n_apps, sizeof *b->apps, by_name);
}

void bundle_drop(struct bundle *b, const char *name) {
  struct bundle_app *app = (struct bundle_app *)bundle_find(b, name);
  size_t at = (size_t)(app - b->apps);
  app_free(app);
  memmove(app, app + 1, (--b->n_apps - at) * sizeof *app);
}

const char *bundle_app_missing(const struct bundle_app *app) {
  struct stat st;
  for (size_t i = 0; i < app->n_files; i++)
    if (stat(app->files[i].path, &st) != 0 && errno == ENOENT) return app->files[i].path;
  return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct bundle *bundle_ref(struct bundle *b) {
  atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  return b;
}

void bundle_unref(struct bundle *b) {
  if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1) return;
  for (size_t i = 0; i < b->n_apps; i++) app_free(&b->apps[i]);
  for (size_t i = 0; i < b->n_strays; i++) app_free(&b->strays[i]);
  for (size_t i = 0; i < b->n_left_out; i++) free(b->left_out[i].path);
  free(b->apps);
  free(b->strays);
  free(b->left_out);
  free(b);
}
