/* SPDX-License-Identifier: MIT */
/* tree.c -- walks a folder of apps: their code, their public files, and the folders to watch. */
#include "hub/tree.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  DEPTH_MAX = 32,       /* of folders within an app */
  ENTRIES_MAX = 100000, /* of a whole walk */
};

struct walk {
  tree_visit *visit;
  void *arg;
  bool with_public;
  unsigned n;
  char *error;
  size_t error_n;
};

static char *join(const char *dir, const char *name) {
  size_t n = strlen(dir), k = strlen(name);
  char *path = mem_alloc(n + k + 2);
  memcpy(path, dir, n);
  path[n] = '/';
  memcpy(path + n + 1, name, k + 1);
  return path;
}

static bool ends_in_lua(const char *name) {
  size_t n = strlen(name);
  return n > 4 && memcmp(name + n - 4, ".lua", 4) == 0;
}

/* The first n characters of a name: can an app be called that? */
static bool is_app_name(const char *name, size_t n) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  return strspn(name, allowed) >= n;
}

static int is_visible(const struct dirent *d) {
  return d->d_name[0] != '.' && strcmp(d->d_name, "node_modules") != 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static bool visit(struct walk *w, const struct tree_entry *entry) {
  if (++w->n > ENTRIES_MAX) {
    snprintf(w->error, w->error_n, "%s: more than %d files are below the apps folder", entry->path,
             ENTRIES_MAX);
    return false;
  }
  return w->visit(w->arg, entry);
}

/* A folder that is being walked, and those it lies in. */
struct level {
  const struct level *outer;
  const struct tree_entry *folder;
  int depth;
};

/* Has a link led back to a folder that is being walked? */
static bool is_circle(const struct level *at) {
  const struct stat *st = at->folder->stat;
  for (const struct level *l = at->outer; l; l = l->outer)
    if (l->folder->stat->st_ino == st->st_ino && l->folder->stat->st_dev == st->st_dev) return true;
  return false;
}

static bool is_link(const char *path) {
  struct stat st;
  return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/* A folder of an app, and what is in it. */
static bool walk_folder(struct walk *w, const struct level *outer,
                        const struct tree_entry *folder) {
  struct level level = {outer, folder, outer ? outer->depth + 1 : 0};
  struct dirent **list = NULL;
  bool is_public = folder->kind == TREE_PUBLIC, is_on = true;
  int n = 0, depth = level.depth;
  if (depth > DEPTH_MAX || is_circle(&level)) return true;
  is_on = visit(w, folder);
  if (is_on && (!is_public || w->with_public))
    n = scandir(folder->path, &list, is_visible, by_name);
  for (int i = 0; i < n; i++) {
    const char *name = list[i]->d_name;
    char *path = join(folder->path, name);
    struct stat st;
    struct tree_entry e = {.app = folder->app, .path = path, .stat = &st};
    if (!is_on || stat(path, &st) != 0) {
      /* ended, or gone */
    } else if (S_ISDIR(st.st_mode) && is_public && is_link(path)) {
      /* what is reached by it is not served */
    } else if (S_ISDIR(st.st_mode) && !(depth == 0 && strcmp(name, "spec") == 0)) {
      bool begins_public = depth == 0 && strcmp(name, "public") == 0;
      e.kind = is_public || begins_public ? TREE_PUBLIC : TREE_FOLDER;
      is_on = walk_folder(w, &level, &e);
    } else if (S_ISREG(st.st_mode) && (is_public || ends_in_lua(name))) {
      e.kind = is_public ? TREE_PUBLIC : TREE_CODE;
      is_on = visit(w, &e);
    }
    free(path);
    free(list[i]);
  }
  free(list);
  return is_on;
}

bool tree_walk(const char *dir, bool with_public, tree_visit *visitor, void *arg, char *error,
               size_t error_n) {
  struct walk w = {
      .visit = visitor, .arg = arg, .with_public = with_public, .error = error, .error_n = error_n};
  struct dirent **list = NULL;
  struct stat st;
  error[0] = '\0';
  int n = stat(dir, &st) == 0 ? scandir(dir, &list, is_visible, by_name) : -1;
  if (n < 0) {
    snprintf(error, error_n, "cannot read the apps folder %s: %s", dir, strerror(errno));
    return false;
  }
  bool is_on = visit(&w, &(struct tree_entry){TREE_FOLDER, "", false, dir, &st});
  for (int i = 0; i < n; i++) {
    char *name = list[i]->d_name, *path = join(dir, name);
    size_t len = strlen(name);
    struct tree_entry e = {.app = name, .path = path, .stat = &st};
    if (!is_on || stat(path, &st) != 0) {
      /* ended, or gone */
    } else if (S_ISDIR(st.st_mode) && is_app_name(name, len)) {
      e.kind = TREE_FOLDER;
      is_on = walk_folder(&w, NULL, &e);
    } else if (S_ISREG(st.st_mode) && ends_in_lua(name) && is_app_name(name, len - 4)) {
      name[len - 4] = '\0';
      e.kind = TREE_CODE;
      e.is_single = true;
      is_on = visit(&w, &e);
    }
    free(path);
    free(list[i]);
  }
  free(list);
  return is_on;
}

static int is_not_hidden(const struct dirent *d) {
  return d->d_name[0] != '.';
}

static bool has_init(const char *folder) {
  struct stat st;
  char *path = join(folder, "init.lua");
  bool is_there = stat(path, &st) == 0;
  free(path);
  return is_there;
}

void tree_left_out(const char *dir, tree_tell *tell, void *arg) {
  static const char wrong[] =
      "the name of an app has letters, digits, - and _ only: rename it to have it served";
  struct dirent **list = NULL;
  int n = scandir(dir, &list, is_not_hidden, by_name);
  for (int i = 0; i < n; i++) {
    const char *name = list[i]->d_name;
    char *path = join(dir, name);
    size_t len = strlen(name);
    struct stat st;
    if (stat(path, &st) != 0) {
      /* gone */
    } else if (S_ISDIR(st.st_mode) && strcmp(name, "node_modules") == 0) {
      if (has_init(path)) tell(arg, path, "node_modules is where npm keeps its packages");
    } else if (S_ISDIR(st.st_mode)) {
      if (!is_app_name(name, len) && has_init(path)) tell(arg, path, wrong);
    } else if (S_ISREG(st.st_mode) && ends_in_lua(name) && !is_app_name(name, len - 4)) {
      tell(arg, path, wrong);
    }
    free(path);
    free(list[i]);
  }
  free(list);
}
