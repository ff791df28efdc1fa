/* SPDX-License-Identifier: MIT */
/* sqlite.c -- keeps sessions in an SQLite file, or in memory.
 *
 *   session  n │ id (SHA-256) │ ends          field  session │ key │ value (JSON)
 *            1 │ 9f86d0…      │ 1795219200           1       │ cart │ [3,7]
 *
 * Rotating changes one row, as fields hang on n. */
#include "hub/sqlite.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  APPLICATION = 0x50655267, /* "PeRg": how SQLite knows whose file this is */
  FORMAT = 1,               /* of our tables: goes up when an older server could not read them */
  OPEN_WAIT_MS = 2000,      /* for a lock of another program's, while opening */
  WORK_WAIT_MS = 5000,      /* later */
  CHECK_MS = 1000,          /* looking for damage while opening */
  CHECK_STEPS = 20000,      /* of SQLite's machine between two looks at the clock */
  SWEEP_AT_ONCE = 500,
  MEMORY_PAGES = 131072, /* of 4 KiB, in memory: 512 MiB */
};

static const char schema[] =
    "CREATE TABLE session(n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, ends INTEGER NOT NULL);"
    "CREATE INDEX session_ends ON session(ends);"
    "CREATE TABLE field(session INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
    " PRIMARY KEY(session, key)) WITHOUT ROWID;";

enum statement {
  FIND,
  FIELDS,
  TOUCH,
  CREATE,
  RENAME,
  PUT,
  REMOVE,
  DROP_FIELDS,
  DROP,
  OVER,
  BEGIN,
  COMMIT,
  ROLLBACK,
  STATEMENTS
};

static const char *const sql[STATEMENTS] = {
    [FIND] = "SELECT n, ends FROM session WHERE id = ?1",
    [FIELDS] = "SELECT key, value FROM field WHERE session = ?1",
    [TOUCH] = "UPDATE session SET ends = ?2 WHERE n = ?1",
    [CREATE] = "INSERT INTO session(id, ends) VALUES(?1, ?2)",
    [RENAME] = "UPDATE session SET id = ?2 WHERE n = ?1",
    [PUT] = "INSERT INTO field(session, key, value) VALUES(?1, ?2, ?3)"
            " ON CONFLICT(session, key) DO UPDATE SET value = excluded.value",
    [REMOVE] = "DELETE FROM field WHERE session = ?1 AND key = ?2",
    [DROP_FIELDS] = "DELETE FROM field WHERE session = ?1",
    [DROP] = "DELETE FROM session WHERE n = ?1",
    [OVER] = "SELECT n FROM session WHERE ends <= ?1 LIMIT ?2",
    [BEGIN] = "BEGIN IMMEDIATE", /* a lock taken later could find its snapshot outdated */
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};

/* Which file it is, whatever its name leads to later. ino 0: none. */
struct which {
  dev_t dev;
  ino_t ino;
};

struct keeper {
  sqlite3 *db; /* NULL: it could not be opened again */
  sqlite3_stmt *statements[STATEMENTS];
  char *path;
  bool is_file;
  struct which file, wal, shm;
};

static char *open_db(struct keeper *k);
static void close_db(struct keeper *k);

/* ---- what went wrong ------------------------------------------------------------------------- */

static char *text(const char *format, ...) {
  char *s = NULL;
  va_list args;
  va_start(args, format);
  check(vasprintf(&s, format, args) >= 0);
  va_end(args);
  return s;
}

/* What whoever runs the server can do about an error of SQLite's. */
static const char *cure(int code) {
  switch (code & 0xff) {
  case SQLITE_FULL: return "make room on the disk (or keep the file elsewhere: --state)";
  case SQLITE_IOERR:
    return "look at the disk, its free space and the limit on file sizes (ulimit -f)";
  case SQLITE_READONLY:
  case SQLITE_PERM:
  case SQLITE_AUTH:
  case SQLITE_CANTOPEN:
    return "make the file and its folder writable for this user, or choose another folder with "
           "--state";
  case SQLITE_BUSY:
  case SQLITE_LOCKED: return "another program keeps it locked: end that program";
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return "stop the server and put a backup in its place, or move it away: a new one is made, and "
           "visitors sign in again";
  default: return "look at the file and its disk";
  }
}

static void log_failure(struct keeper *k, const char *event) {
  static struct log_limit limit = LOG_LIMIT(2);
  struct log_line l;
  int code = sqlite3_extended_errcode(k->db);
  if (!log_begin_limited(&l, &limit, LOG_ERROR, event)) return;
  log_str(&l, "file", k->path);
  log_str(&l, "error", sqlite3_errmsg(k->db));
  log_int(&l, "code", code);
  log_str(&l, "cure", cure(code));
  log_end(&l);
}

/* ---- statements ------------------------------------------------------------------------------ */

/* Runs a statement that gives no rows. */
static bool finish(sqlite3_stmt *st) {
  int code = sqlite3_step(st);
  sqlite3_reset(st);
  return code == SQLITE_DONE;
}

static sqlite3_stmt *with_n(struct keeper *k, enum statement which, int64_t n) {
  sqlite3_stmt *st = k->statements[which];
  sqlite3_bind_int64(st, 1, n);
  return st;
}

/* -1: an error; 0: there is none; 1: *n and *ends. A session that is over counts as none, but *n is
 * set. */
static int find(struct keeper *k, const uint8_t *id, int64_t now, int64_t *n, int64_t *ends) {
  sqlite3_stmt *st = k->statements[FIND];
  *n = 0;
  sqlite3_bind_blob(st, 1, id, STORE_ID, SQLITE_STATIC);
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW) {
    *n = sqlite3_column_int64(st, 0);
    *ends = sqlite3_column_int64(st, 1);
  }
  sqlite3_reset(st);
  if (code != SQLITE_ROW && code != SQLITE_DONE) return -1;
  return code == SQLITE_ROW && *ends > now;
}

static bool drop(struct keeper *k, int64_t n) {
  return finish(with_n(k, DROP_FIELDS, n)) && finish(with_n(k, DROP, n));
}

/* Each of these returns false when the database failed. */

static bool load(struct keeper *k, struct store_job *job) {
  int64_t n, ends;
  int found = find(k, job->id, job->now, &n, &ends);
  if (found < 0) return false;
  job->status = found ? STORE_OK : STORE_ABSENT;
  if (!found) return true;
  sqlite3_stmt *st = with_n(k, FIELDS, n);
  int code;
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    const char *key = (const char *)sqlite3_column_text(st, 0);
    const char *value = (const char *)sqlite3_column_text(st, 1);
    if (key && value)
      store_field_add(&job->out, key, (size_t)sqlite3_column_bytes(st, 0), value,
                      (size_t)sqlite3_column_bytes(st, 1));
  }
  sqlite3_reset(st);
  if (code != SQLITE_DONE) return false;
  if (ends >= job->touch_below) return true;
  st = with_n(k, TOUCH, n);
  sqlite3_bind_int64(st, 2, job->ends);
  job->is_touched = finish(st);
  /* who can read but not write is better served than refused */
  if (!job->is_touched) log_failure(k, "a session's end cannot be moved");
  return true;
}

static bool write_field(struct keeper *k, int64_t n, const struct store_field *field,
                        const char *key, const char *value) {
  sqlite3_stmt *st = with_n(k, value ? PUT : REMOVE, n);
  sqlite3_bind_text(st, 2, key, (int)field->key, SQLITE_STATIC);
  if (value) sqlite3_bind_text(st, 3, value, (int)field->value, SQLITE_STATIC);
  return finish(st);
}

static bool save(struct keeper *k, struct store_job *job) {
  const uint8_t *id = job->is_rotated ? job->new_id : job->id;
  int64_t n, ends;
  sqlite3_stmt *st;
  int found = find(k, job->id, job->now, &n, &ends);
  if (found < 0) return false;
  if (!found && !job->may_create) {
    job->status = STORE_ABSENT;
    return true;
  }
  if (found) {
    st = with_n(k, TOUCH, n);
    sqlite3_bind_int64(st, 2, job->ends);
    if (!finish(st)) return false;
    if (job->is_rotated) {
      st = with_n(k, RENAME, n);
      sqlite3_bind_blob(st, 2, id, STORE_ID, SQLITE_STATIC);
      if (!finish(st)) return false;
    }
  } else {
    if (n && !drop(k, n)) return false; /* one that is over has its id */
    st = k->statements[CREATE];
    sqlite3_bind_blob(st, 1, id, STORE_ID, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, job->ends);
    if (!finish(st)) return false;
    n = sqlite3_last_insert_rowid(k->db);
  }
  struct store_field field;
  const char *key, *value;
  for (size_t at = 0; store_field_next(&job->in, &at, &field, &key, &value);)
    if (!write_field(k, n, &field, key, value)) return false;
  job->status = STORE_OK;
  return true;
}

static bool destroy(struct keeper *k, struct store_job *job) {
  int64_t n, ends;
  int found = find(k, job->id, job->now, &n, &ends);
  if (found < 0) return false;
  job->status = found ? STORE_OK : STORE_ABSENT;
  return n == 0 || drop(k, n);
}

/* ---- a keeper's work ------------------------------------------------------------------------- */

static bool write_all(struct keeper *k, struct store_job *jobs) {
  if (!finish(k->statements[BEGIN])) return false;
  for (struct store_job *job = jobs; job; job = job->next) {
    bool is_done = job->op == STORE_LOAD   ? load(k, job)
                   : job->op == STORE_SAVE ? save(k, job)
                                           : destroy(k, job);
    if (!is_done) return false;
  }
  return finish(k->statements[COMMIT]);
}

static void load_alone(struct keeper *k, struct store_job *job) {
  job->out.len = 0;
  job->is_touched = false;
  if (load(k, job)) return;
  job->status = STORE_FAILED;
  log_failure(k, "a session cannot be read");
}

static void work_once(struct keeper *k, struct store_job *jobs) {
  bool is_writing = false;
  for (struct store_job *job = jobs; job; job = job->next)
    is_writing = is_writing || job->op != STORE_LOAD;
  if (is_writing) {
    if (write_all(k, jobs)) return;
    log_failure(k, "sessions cannot be saved");
    /* some errors have rolled back already; then this one fails, which is fine */
    if (!sqlite3_get_autocommit(k->db)) finish(k->statements[ROLLBACK]);
  }
  for (struct store_job *job = jobs; job; job = job->next) {
    if (job->op == STORE_LOAD)
      load_alone(k, job);
    else
      job->status = STORE_FAILED;
  }
}

/* ---- a file that is taken away --------------------------------------------------------------- */

static struct which which_file(const char *path) {
  struct stat info;
  if (stat(path, &info) != 0) return (struct which){0};
  return (struct which){info.st_dev, info.st_ino};
}

/* SQLite's own files lie beside the one that a link leads to. False: the name is too long. */
static bool name_beside(const char *path, const char *suffix, char name[static PATH_MAX]) {
  char real[PATH_MAX];
  int n = snprintf(name, PATH_MAX, "%s%s", realpath(path, real) ? real : path, suffix);
  return n >= 0 && n < PATH_MAX;
}

static struct which which_beside(const char *path, const char *suffix) {
  char name[PATH_MAX];
  return name_beside(path, suffix, name) ? which_file(name) : (struct which){0};
}

static bool is_same(struct which a, struct which b) {
  return a.ino == b.ino && a.dev == b.dev;
}

/* Does the path still lead to the open file? */
static bool is_there(const struct keeper *k) {
  return !k->is_file || is_same(which_file(k->path), k->file);
}

/* What SQLite wrote beside the old file would be taken for the new one's. */
static void remove_old(const struct keeper *k, const char *suffix, struct which old) {
  char name[PATH_MAX];
  if (old.ino == 0 || !name_beside(k->path, suffix, name)) return;
  if (is_same(which_file(name), old)) unlink(name);
}

/* Opens what is there now, or makes it. False: that cannot be done; it is tried again next time. */
static bool settle(struct keeper *k) {
  static struct log_limit limit = LOG_LIMIT(2);
  struct log_line l;
  if (k->db && is_there(k)) return true;
  if (k->db) {
    bool is_gone = which_file(k->path).ino == 0;
    if (log_begin(&l, LOG_WARN,
                  is_gone ? "the session file was removed while it was in use"
                          : "the session file was replaced while it was in use")) {
      log_str(&l, "file", k->path);
      log_str(&l, "now",
              is_gone ? "a new one is made, and visitors sign in again" : "the new one is used");
      log_end(&l);
    }
    close_db(k);
    remove_old(k, "-wal", k->wal);
    remove_old(k, "-shm", k->shm);
  }
  char *error = open_db(k);
  if (!error) return true;
  if (log_begin_limited(&l, &limit, LOG_ERROR, "sessions cannot be kept")) {
    log_str(&l, "error", error);
    log_end(&l);
  }
  free(error);
  return false;
}

static void work(void *self, struct store_job *jobs) {
  struct keeper *k = self;
  for (int round = 0; round < 2; round++) {
    bool is_open = settle(k);
    for (struct store_job *job = jobs; job; job = job->next) {
      job->status = STORE_FAILED;
      job->out.len = 0;
      job->is_touched = false;
    }
    if (!is_open) return;
    work_once(k, jobs);
    if (is_there(k)) return; /* else it was written to a file that nobody will find */
  }
}

static bool sweep(void *self, int64_t now) {
  struct keeper *k = self;
  int64_t over[SWEEP_AT_ONCE];
  int n = 0, code;
  if (!settle(k)) return false;
  sqlite3_stmt *st = with_n(k, OVER, now);
  sqlite3_bind_int(st, 2, SWEEP_AT_ONCE);
  while ((code = sqlite3_step(st)) == SQLITE_ROW && n < SWEEP_AT_ONCE)
    over[n++] = sqlite3_column_int64(st, 0);
  sqlite3_reset(st);
  bool is_done = code == SQLITE_ROW || code == SQLITE_DONE;
  if (is_done && n == 0) return false;
  is_done = is_done && finish(k->statements[BEGIN]);
  for (int i = 0; i < n && is_done; i++) is_done = drop(k, over[i]);
  if (is_done) is_done = finish(k->statements[COMMIT]);
  if (!is_done) {
    log_failure(k, "sessions that are over cannot be removed");
    if (!sqlite3_get_autocommit(k->db)) finish(k->statements[ROLLBACK]);
  }
  return is_done && n == SWEEP_AT_ONCE;
}

static void close_db(struct keeper *k) {
  for (int i = 0; i < STATEMENTS; i++) {
    sqlite3_finalize(k->statements[i]);
    k->statements[i] = NULL;
  }
  sqlite3_close(k->db);
  k->db = NULL;
}

static void close_keeper(void *self) {
  struct keeper *k = self;
  close_db(k);
  free(k->path);
  free(k);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The first column of the only row; -1 when there is none. */
static int64_t ask(sqlite3 *db, const char *question, int *code) {
  sqlite3_stmt *st = NULL;
  int64_t answer = -1;
  *code = sqlite3_prepare_v2(db, question, -1, &st, NULL);
  if (*code == SQLITE_OK) {
    *code = sqlite3_step(st);
    if (*code == SQLITE_ROW) {
      answer = sqlite3_column_int64(st, 0);
      *code = SQLITE_OK;
    }
  }
  sqlite3_finalize(st);
  return answer;
}

static int is_late(void *until) {
  return time(NULL) > *(time_t *)until;
}

/* SQLite's own look at the file, as far as it gets in a second. */
static bool is_sound(sqlite3 *db) {
  time_t until = time(NULL) + CHECK_MS / 1000;
  sqlite3_stmt *st = NULL;
  sqlite3_progress_handler(db, CHECK_STEPS, is_late, &until);
  int code = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL);
  if (code == SQLITE_OK) code = sqlite3_step(st);
  const char *said = code == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
  bool is_fine = code == SQLITE_INTERRUPT || (said && strcmp(said, "ok") == 0);
  sqlite3_finalize(st);
  sqlite3_progress_handler(db, 0, NULL, NULL);
  return is_fine;
}

/* Makes the tables in an empty file, holds any other against what is known. Returns what is wrong
 * with it, or NULL. */
static char *prepare_tables(struct keeper *k) {
  char done[80];
  int code;
  if (sqlite3_exec(k->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) goto failed;
  int64_t tables = ask(k->db, "SELECT count(*) FROM sqlite_master", &code);
  if (code != SQLITE_OK) goto failed;
  int64_t application = ask(k->db, "PRAGMA application_id", &code);
  int64_t format = ask(k->db, "PRAGMA user_version", &code);
  if (tables > 0 && application != APPLICATION)
    return text("%s is the database of another program: choose another folder with --state, or "
                "another file with --sessions sqlite:FILE",
                k->path);
  if (format > FORMAT)
    return text("%s was written by a newer Perigee (format %lld, this one knows %d): start the "
                "newer one, or move the file away; a new one is made, and visitors sign in again",
                k->path, (long long)format, FORMAT);
  if (tables == 0) {
    snprintf(done, sizeof done, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION,
             FORMAT);
    if (sqlite3_exec(k->db, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(k->db, done, NULL, NULL, NULL) != SQLITE_OK)
      goto failed;
  } else if (!is_sound(k->db)) {
    return text("%s is damaged: %s", k->path, cure(SQLITE_CORRUPT));
  }
  if (sqlite3_exec(k->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) goto failed;
  for (int i = 0; i < STATEMENTS; i++)
    if (sqlite3_prepare_v3(k->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &k->statements[i], NULL) !=
        SQLITE_OK)
      goto failed;
  return NULL;
failed:
  return text("%s: %s: %s", k->path, sqlite3_errmsg(k->db), cure(sqlite3_extended_errcode(k->db)));
}

/* Who can write the file can sign in as anybody; who can read it sees what sessions hold. */
static char *judge_file(const char *path, const struct stat *info) {
  struct log_line l;
  if (info->st_uid != geteuid() && info->st_uid != 0)
    return text("%s belongs to another user (%u), who could sign in as anybody: run the server as "
                "that user, chown the file, or choose another folder with --state",
                path, (unsigned)info->st_uid);
  if (info->st_mode & 022)
    return text("%s may be written by others (mode %o), who could sign in as anybody: chmod 600 it",
                path, (unsigned)info->st_mode & 0777);
  if (info->st_mode & 044 && log_begin(&l, LOG_WARN, "sessions may be read by others")) {
    log_str(&l, "file", path);
    log_str(&l, "cure", "chmod 600 it");
    log_end(&l);
  }
  return NULL;
}

/* What SQLite finds beside the file it takes for the file's latest changes. */
static char *judge_beside(const char *path) {
  static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
  char *error = NULL;
  for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && !error; i++) {
    char name[PATH_MAX];
    struct stat info;
    if (!name_beside(path, suffixes[i], name)) return text("%s: the name is too long", path);
    if (lstat(name, &info) != 0) continue;
    error = S_ISREG(info.st_mode)
                ? judge_file(name, &info)
                : text("%s is no file: move it away, or choose another folder with --state", name);
  }
  return error;
}

/* Only its owner may read the file; and the system says better than SQLite what is wrong with it.
 */
static char *touch_file(const char *path, struct stat *info) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd < 0)
    return text("%s cannot be opened for writing: %s: make it and its folder writable for this "
                "user, or choose another folder with --state",
                path, strerror(errno));
  int code = fstat(fd, info);
  close(fd);
  if (code != 0 || !S_ISREG(info->st_mode))
    return text("%s is no file: choose another folder with --state", path);
  char *error = judge_file(path, info);
  return error ? error : judge_beside(path);
}

/* Returns what is wrong, or NULL. */
static char *open_db(struct keeper *k) {
  struct stat info = {0};
  char *error = k->is_file ? touch_file(k->path, &info) : NULL;
  if (error) return error;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(k->is_file ? k->path : ":memory:", &k->db, flags, NULL) != SQLITE_OK) {
    error = text("%s: %s: %s", k->path, sqlite3_errmsg(k->db), cure(SQLITE_CANTOPEN));
  } else {
    sqlite3_busy_timeout(k->db, OPEN_WAIT_MS);
    /* an error here comes again below, where it is told */
    sqlite3_exec(k->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    error = prepare_tables(k);
  }
  if (error) {
    close_db(k);
    return error;
  }
  k->file = (struct which){info.st_dev, info.st_ino};
  if (k->is_file) {
    k->wal = which_beside(k->path, "-wal");
    k->shm = which_beside(k->path, "-shm");
  } else {
    char limit[64];
    snprintf(limit, sizeof limit, "PRAGMA max_page_count = %d", MEMORY_PAGES);
    sqlite3_exec(k->db, limit, NULL, NULL, NULL);
  }
  sqlite3_busy_timeout(k->db, WORK_WAIT_MS);
  return NULL;
}

static void *open_keeper(const char *where, char **error) {
  struct keeper *k = mem_zalloc(sizeof *k);
  k->is_file = strcmp(where, ":memory:") != 0;
  k->path = mem_strdup(k->is_file ? where : "memory");
  *error = open_db(k);
  if (!*error) return k;
  close_keeper(k);
  return NULL;
}

const struct store_keeper sqlite_keeper = {
    .open = open_keeper,
    .work = work,
    .sweep = sweep,
    .close = close_keeper,
};
