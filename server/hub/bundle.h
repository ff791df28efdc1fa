/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_BUNDLE_H
#define PERIGEE_BUNDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* bundle.c -- the code of all apps, read once: what every worker loads.
 *
 * Were each worker to read the files itself, a save could land between two of them. A bundle is
 * immutable once compared, counted, and may be used by any thread. */

enum {
  BUNDLE_FILE_MAX = 2 * 1024 * 1024,   /* bytes of one file */
  BUNDLE_BYTES_MAX = 64 * 1024 * 1024, /* of all */
  BUNDLE_FILES_MAX = 10000,
};

struct bundle_file {
  char *path; /* "apps/chat/init.lua" */
  char *text; /* not terminated */
  size_t len;
};

struct bundle_app {
  char *name;
  char *file; /* the one that is run first */
  char *dir;  /* NULL: a single file */
  bool has_public;
  bool is_changed;     /* set by bundle_compare */
  unsigned generation; /* of this code; from 1 */
  char *error;         /* why it cannot even be tried, or NULL: too large, not UTF-8, ... */
  struct bundle_file *files;
  size_t n_files;
};

/* Looks like an app and is none. */
struct bundle_left_out {
  char *path;
  const char *why; /* static text */
};

struct bundle {
  atomic_uint refs;
  struct bundle_app *apps; /* by name */
  size_t n_apps;
  struct bundle_app *strays; /* folders without an init.lua: no apps, but perhaps they were */
  size_t n_strays;
  struct bundle_left_out *left_out;
  size_t n_left_out;
};

/* Logs what is left out of a bundle, and was not left out before (or NULL) already. */
void bundle_tell_left_out(const struct bundle *b, const struct bundle *before);

/* Reads all apps below dir, every one as of one moment: it reads again when something changed
 * meanwhile. NULL with a text in error. Any thread; blocks on the disk. */
struct bundle *bundle_read(const char *dir, char *error, size_t n);

/* Numbers the apps: one whose code is that of `before` (NULL: nothing) keeps its generation, others
 * are changed and get the next. Returns how many are changed, appeared or are gone. */
size_t bundle_compare(struct bundle *b, const struct bundle *before);

/* Puts an app of another bundle in place of the one of that name, or beside the others: what is
 * served goes on whatever the files are. Before the bundle is shared. */
void bundle_retain(struct bundle *b, const struct bundle_app *app);

/* NULL when there is none (or b is NULL). */
const struct bundle_app *bundle_find(const struct bundle *b, const char *name);
const struct bundle_app *bundle_find_stray(const struct bundle *b, const char *name);
/* Makes a stray an app again, one that cannot be tried. Before the bundle is shared. */
void bundle_refuse_stray(struct bundle *b, const char *name);
/* Takes an app out. Before the bundle is shared. */
void bundle_drop(struct bundle *b, const char *name);
/* The same code in the same files? */
bool bundle_app_equals(const struct bundle_app *a, const struct bundle_app *b);
/* A file of it that is not there any more, or NULL. Blocks on the disk. */
const char *bundle_app_missing(const struct bundle_app *app);

struct bundle *bundle_ref(struct bundle *b);
void bundle_unref(struct bundle *b);

#endif
