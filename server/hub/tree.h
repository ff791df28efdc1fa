/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_TREE_H
#define PERIGEE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* tree.c -- walks a folder of apps: their code, their public files, and the folders to watch.
 *
 *   apps/chat/init.lua, store.lua, sub/x.lua   code of the app chat
 *   apps/chat/public/...                       its public files
 *   apps/chat/spec/, node_modules/, .hidden    nobody's
 *   apps/hello.lua                             code of the app hello
 *
 * Symbolic links are followed, except to folders below public: what lies elsewhere is not served.
 * In order of names, so that two walks of the same tree are the same. Any thread; blocks on the
 * disk. */

enum tree_kind {
  TREE_FOLDER, /* one whose entries matter; app is "" for the apps folder itself */
  TREE_CODE,
  TREE_PUBLIC, /* the folder, and what is in it */
};

struct tree_entry {
  enum tree_kind kind;
  const char *app;  /* name of the app it belongs to */
  bool is_single;   /* the app is this one file */
  const char *path; /* below the path that was given */
  const struct stat *stat;
};

/* False ends the walk. */
typedef bool tree_visit(void *arg, const struct tree_entry *entry);

/* with_public: public folders are entered. False when the visitor ended it or, with a text in
 * error, when the folder cannot be read. What vanishes while it is walked is left out. */
bool tree_walk(const char *dir, bool with_public, tree_visit *visit, void *arg, char *error,
               size_t n);

/* What looks like an app and is none: a folder with an init.lua, or a Lua file, whose name no app
 * can have. why: static text. In order of names; what begins with a dot is nobody's. */
typedef void tree_tell(void *arg, const char *path, const char *why);
void tree_left_out(const char *dir, tree_tell *tell, void *arg);

#endif
