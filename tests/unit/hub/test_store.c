/* SPDX-License-Identifier: MIT */
/* test_store.c -- what the store promises, the same for every keeper; and what is wrong with files.
 */
#include "../unit.h"

#include "base/log.h"
#include "base/mem.h"
#include "hub/redis_sessions.h"
#include "hub/sqlite.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

static char folder[64];
static int64_t start;

/* ---- a box that collects jobs, and jobs in one line --------------------------------------------
 */

struct desk {
  uv_loop_t loop;
  struct mailbox box;
  struct store *store;
  unsigned n_back;
};

static void take(void *owner, struct mail *mail) {
  struct desk *desk = owner;
  desk->n_back++;
  store_job_unref((struct store_job *)mail);
}

static const char *path_of(const char *name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void desk_open_with(struct desk *desk, const struct store_keeper *keeper,
                           const char *where) {
  char *error = NULL;
  *desk = (struct desk){0};
  uv_loop_init(&desk->loop);
  mailbox_open(&desk->box, &desk->loop, 1000, 1 << 20, take, desk);
  desk->store = store_new();
  if (!store_open(desk->store, keeper, where, &error)) fail_msg("%s", error);
}

static void desk_open(struct desk *desk, const char *where) {
  desk_open_with(desk, &sqlite_keeper, where);
}

static void desk_close(struct desk *desk) {
  store_free(desk->store);
  mailbox_close(&desk->box);
  uv_run(&desk->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&desk->loop), 0);
  mailbox_fini(&desk->box);
}

static struct store_job *job(struct desk *desk, enum store_op op, uint8_t id, int64_t now) {
  now += start;
  struct store_job *j = store_job_new(op);
  j->box = &desk->box;
  memset(j->id, id, sizeof j->id);
  j->now = now;
  j->ends = now + 100;
  j->touch_below = now + 50;
  return j;
}

static void field(struct store_job *j, const char *key, const char *value) {
  store_field_add(&j->in, key, strlen(key), value, value ? strlen(value) : 0);
}

/* Posts it and waits until it is back. */
static struct store_job *done(struct desk *desk, struct store_job *j) {
  unsigned want = desk->n_back + 1;
  assert_true(store_post(desk->store, j));
  while (desk->n_back < want) uv_run(&desk->loop, UV_RUN_ONCE);
  return j;
}

static enum store_status finished(struct desk *desk, struct store_job *j) {
  enum store_status status = done(desk, j)->status;
  store_job_unref(j);
  return status;
}

/* The fields in one text, "a=1 b=2" in the order of their keys; or "absent", "failed". */
static const char *loaded(struct desk *desk, uint8_t id, int64_t now) {
  static char text[512];
  struct store_job *j = done(desk, job(desk, STORE_LOAD, id, now));
  struct store_field f;
  const char *key, *value;
  size_t n = 0;
  text[0] = '\0';
  if (j->status != STORE_OK)
    snprintf(text, sizeof text, "%s", j->status == STORE_ABSENT ? "absent" : "failed");
  for (char letter = 'a'; letter <= 'z'; letter++) /* keys in these tests are letters */
    for (size_t at = 0; store_field_next(&j->out, &at, &f, &key, &value);)
      if (*key == letter)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s=%.*s", n ? " " : "", (int)f.key,
                              key, (int)f.value, value);
  store_job_unref(j);
  return text;
}

static enum store_status saved(struct desk *desk, uint8_t id, int64_t now, const char *key,
                               const char *value, bool may_create) {
  struct store_job *j = job(desk, STORE_SAVE, id, now);
  j->may_create = may_create;
  field(j, key, value);
  return finished(desk, j);
}

/* ---- the same for every keeper ------------------------------------------------------------------
 */

static void fields_are_merged(struct desk *d) {
  assert_string_equal(loaded(d, 1, 0), "absent");
  assert_int_equal(saved(d, 1, 0, "a", "1", false), STORE_ABSENT);
  assert_string_equal(loaded(d, 1, 0), "absent");
  assert_int_equal(saved(d, 1, 0, "a", "1", true), STORE_OK);
  assert_int_equal(saved(d, 1, 0, "b", "[2]", false), STORE_OK);
  assert_string_equal(loaded(d, 1, 0), "a=1 b=[2]");
  assert_int_equal(saved(d, 1, 0, "a", "{}", false), STORE_OK);
  assert_int_equal(saved(d, 1, 0, "b", NULL, false), STORE_OK);
  assert_int_equal(saved(d, 1, 0, "c", NULL, false), STORE_OK);
  assert_string_equal(loaded(d, 1, 0), "a={}");
  assert_string_equal(loaded(d, 2, 0), "absent");
}

static void keys_and_values_are_bytes(struct desk *d) {
  struct store_job *j = job(d, STORE_SAVE, 1, 0);
  char *large = malloc(300000);
  memset(large, 'x', 300000);
  j->may_create = true;
  store_field_add(&j->in, "a\0b", 3, "\"\\u0000\"", 8);
  store_field_add(&j->in, "a", 1, "1", 1);
  store_field_add(&j->in, "large", 5, large, 300000);
  assert_int_equal(finished(d, j), STORE_OK);
  j = done(d, job(d, STORE_LOAD, 1, 0));
  struct store_field f;
  const char *key, *value;
  int seen = 0;
  for (size_t at = 0; store_field_next(&j->out, &at, &f, &key, &value);) {
    if (f.key == 3) assert_memory_equal(key, "a\0b", 3);
    if (f.key == 5) {
      assert_int_equal(f.value, 300000);
      assert_memory_equal(value, large, 300000);
    }
    seen += (int)f.key;
  }
  assert_int_equal(seen, 9);
  store_job_unref(j);
  free(large);
}

static void sessions_end(struct desk *d) {
  assert_int_equal(saved(d, 1, 0, "a", "1", true), STORE_OK);
  assert_string_equal(loaded(d, 1, 49), "a=1");
  assert_string_equal(loaded(d, 1, 99), "a=1"); /* which moved the end to 199 */
  assert_string_equal(loaded(d, 1, 198), "a=1");
  assert_string_equal(loaded(d, 1, 298), "absent");
  assert_int_equal(saved(d, 1, 298, "b", "2", false), STORE_ABSENT);
  assert_int_equal(saved(d, 1, 298, "b", "2", true), STORE_OK);
  assert_string_equal(loaded(d, 1, 298), "b=2"); /* and nothing of the one that is over */
}

static void ends_move_when_they_are_near(struct desk *d) {
  assert_int_equal(saved(d, 1, 0, "a", "1", true), STORE_OK);
  struct store_job *j =
      done(d, job(d, STORE_LOAD, 1, 50)); /* it ends just when it would be moved */
  assert_false(j->is_touched);
  store_job_unref(j);
  j = done(d, job(d, STORE_LOAD, 1, 51));
  assert_true(j->is_touched);
  store_job_unref(j);
  j = done(d, job(d, STORE_LOAD, 1, 52));
  assert_false(j->is_touched);
  store_job_unref(j);
}

static void ids_are_rotated(struct desk *d) {
  assert_int_equal(saved(d, 1, 0, "a", "1", true), STORE_OK);
  struct store_job *j = job(d, STORE_SAVE, 1, 0);
  j->is_rotated = true;
  memset(j->new_id, 2, sizeof j->new_id);
  field(j, "b", "2");
  assert_int_equal(finished(d, j), STORE_OK);
  assert_string_equal(loaded(d, 1, 0), "absent");
  assert_string_equal(loaded(d, 2, 0), "a=1 b=2");
}

static void destroying_leaves_nothing(struct desk *d) {
  assert_int_equal(saved(d, 1, 0, "a", "1", true), STORE_OK);
  assert_int_equal(finished(d, job(d, STORE_DESTROY, 1, 0)), STORE_OK);
  assert_int_equal(finished(d, job(d, STORE_DESTROY, 1, 0)), STORE_ABSENT);
  assert_string_equal(loaded(d, 1, 0), "absent");
  assert_int_equal(saved(d, 1, 0, "b", "2", false), STORE_ABSENT);
  assert_int_equal(saved(d, 1, 0, "b", "2", true), STORE_OK);
  assert_string_equal(loaded(d, 1, 0), "b=2");
}

static void jobs_are_done_in_order(struct desk *d) {
  enum { N = 1000 };
  struct store_job *last = NULL;
  assert_int_equal(saved(d, 1, 0, "n", "-1", true), STORE_OK);
  unsigned want = d->n_back + N;
  for (int i = 0; i < N; i++) {
    struct store_job *j = job(d, i % 3 == 2 ? STORE_LOAD : STORE_SAVE, 1, 0);
    char value[16];
    snprintf(value, sizeof value, "%d", i);
    if (j->op == STORE_SAVE) field(j, "n", value);
    assert_true(store_post(d->store, j));
    if (last) store_job_unref(last);
    last = j;
  }
  store_job_unref(last);
  while (d->n_back < want) uv_run(&d->loop, UV_RUN_ONCE);
  assert_string_equal(loaded(d, 1, 0), "n=999");
}

static void a_box_can_go_before_its_jobs(struct desk *d) {
  for (int i = 0; i < 200; i++) {
    struct store_job *j = job(d, STORE_SAVE, 1, 0);
    j->may_create = true;
    field(j, "a", "1");
    assert_true(store_post(d->store, j));
    store_job_unref(j);
  }
  store_forget(d->store, &d->box);
}

static void the_store_ends_with_its_jobs_done(struct desk *d) {
  for (int i = 0; i < 100; i++) {
    struct store_job *j = job(d, STORE_SAVE, (uint8_t)i, 0);
    j->may_create = true;
    field(j, "a", "1");
    assert_true(store_post(d->store, j));
    store_job_unref(j);
  }
  store_free(d->store);
  d->store = NULL;
  uv_run(&d->loop, UV_RUN_NOWAIT);
  assert_int_equal(d->n_back, 100);
}

static const struct {
  const char *name;
  void (*run)(struct desk *d);
} promises[] = {
    {"fields are merged", fields_are_merged},
    {"keys and values are bytes", keys_and_values_are_bytes},
    {"sessions end", sessions_end},
    {"ends move when they are near", ends_move_when_they_are_near},
    {"ids are rotated", ids_are_rotated},
    {"destroying leaves nothing", destroying_leaves_nothing},
    {"jobs are done in order", jobs_are_done_in_order},
    {"a box can go before its jobs", a_box_can_go_before_its_jobs},
    {"the store ends with its jobs done", the_store_ends_with_its_jobs_done},
};

static void promises_hold(const struct store_keeper *keeper, const char *(*where)(void)) {
  for (size_t i = 0; i < COUNT(promises); i++) {
    struct desk desk;
    desk_open_with(&desk, keeper, where());
    promises[i].run(&desk);
    desk_close(&desk);
  }
}

static const char *in_memory(void) {
  return ":memory:";
}

static const char *in_a_new_file(void) {
  static int n;
  char name[32];
  snprintf(name, sizeof name, "new-%d.sqlite", n++);
  return path_of(name);
}

static void promises_hold_in_memory(void **state) {
  (void)state;
  promises_hold(&sqlite_keeper, in_memory);
}

static void promises_hold_in_a_file(void **state) {
  (void)state;
  promises_hold(&sqlite_keeper, in_a_new_file);
}

/* ---- Redis --------------------------------------------------------------------------------------
 */

static pid_t redis; /* 0: not there */

static const char *socket_path(void) {
  static char path[128];
  snprintf(path, sizeof path, "%s/redis.sock", folder);
  return path;
}

static bool redis_answers(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path());
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  bool is_there = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
  close(fd);
  return is_there;
}

static void start_redis(void) {
  redis = fork();
  assert_true(redis >= 0);
  if (redis == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 1);
    dup2(null, 2);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path(), "--save",
           "", "--dir", folder, NULL);
    _exit(127);
  }
  for (int i = 0; i < 1000 && !redis_answers(); i++) {
    if (waitpid(redis, NULL, WNOHANG) != 0) {
      redis = 0;
      skip(); /* it is not installed */
    }
    usleep(10000);
  }
}

static void stop_redis(void) {
  if (!redis) return;
  kill(redis, SIGKILL);
  waitpid(redis, NULL, 0);
  unlink(socket_path());
  redis = 0;
}

static const char *in_redis(void) {
  static char where[200];
  static int n;
  snprintf(where, sizeof where, "test%d: unix:%s", n++, socket_path());
  return where;
}

static void promises_hold_in_redis(void **state) {
  (void)state;
  start_redis();
  promises_hold(&redis_keeper, in_redis);
  stop_redis();
}

static void redis_may_go_and_come_back(void **state) {
  (void)state;
  struct desk desk;
  desk_open_with(&desk, &redis_keeper, in_redis()); /* it is not there yet */
  assert_string_equal(loaded(&desk, 1, 0), "failed");
  start_redis();
  assert_int_equal(saved(&desk, 1, 0, "a", "1", true), STORE_OK);
  assert_string_equal(loaded(&desk, 1, 0), "a=1");
  stop_redis();
  assert_int_equal(saved(&desk, 1, 0, "a", "2", true), STORE_FAILED);
  assert_string_equal(loaded(&desk, 1, 0), "failed");
  start_redis();
  assert_string_equal(loaded(&desk, 1, 0), "absent"); /* this one keeps nothing */
  assert_int_equal(saved(&desk, 1, 0, "a", "3", true), STORE_OK);
  assert_string_equal(loaded(&desk, 1, 0), "a=3");
  desk_close(&desk);
  stop_redis();
}

/* ---- files --------------------------------------------------------------------------------------
 */

static void a_file_keeps_sessions_for_its_owner(void **state) {
  (void)state;
  struct desk desk;
  struct stat st;
  desk_open(&desk, path_of("kept.sqlite"));
  assert_int_equal(saved(&desk, 1, 0, "a", "1", true), STORE_OK);
  desk_close(&desk);
  assert_int_equal(stat(path_of("kept.sqlite"), &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  desk_open(&desk, path_of("kept.sqlite"));
  assert_string_equal(loaded(&desk, 1, 0), "a=1");
  desk_close(&desk);
}

static void two_stores_share_a_file(void **state) {
  (void)state;
  struct desk one, two;
  desk_open(&one, path_of("shared.sqlite"));
  desk_open(&two, path_of("shared.sqlite"));
  assert_int_equal(saved(&one, 1, 0, "a", "1", true), STORE_OK);
  assert_int_equal(saved(&two, 1, 0, "b", "2", false), STORE_OK);
  assert_string_equal(loaded(&one, 1, 0), "a=1 b=2");
  desk_close(&one);
  desk_close(&two);
}

/* Runs statements of another program's on a file. */
static void by_another(const char *path, const char *statements) {
  sqlite3 *db;
  char *error = NULL;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  if (sqlite3_exec(db, statements, NULL, NULL, &error) != SQLITE_OK) fail_msg("%s", error);
  sqlite3_close(db);
}

/* An error that ends a statement and not its transaction: what was begun is taken back, and the
 * next transaction can begin. */
static void a_save_that_fails_leaves_nothing_open(void **state) {
  (void)state;
  struct desk desk;
  desk_open(&desk, path_of("refused.sqlite"));
  by_another(path_of("refused.sqlite"),
             "CREATE TRIGGER refuse BEFORE INSERT ON field WHEN NEW.key = 'x'"
             " BEGIN SELECT RAISE(ABORT, 'not this one'); END");
  assert_int_equal(saved(&desk, 1, 0, "x", "1", true), STORE_FAILED);
  assert_string_equal(loaded(&desk, 1, 0), "absent");
  assert_int_equal(saved(&desk, 2, 0, "a", "1", true), STORE_OK);
  by_another(path_of("refused.sqlite"), "BEGIN IMMEDIATE; COMMIT"); /* nobody holds a lock */
  assert_string_equal(loaded(&desk, 2, 0), "a=1");
  desk_close(&desk);
}

static void a_sweep_that_fails_leaves_nothing_open(void **state) {
  (void)state;
  char *error = NULL;
  void *keeper = sqlite_keeper.open(path_of("unswept"), &error);
  assert_non_null(keeper);
  by_another(
      path_of("unswept"),
      "INSERT INTO session VALUES(1, x'01', 1); CREATE TRIGGER refuse BEFORE DELETE ON session"
      " BEGIN SELECT RAISE(ABORT, 'not this one'); END");
  assert_false(sqlite_keeper.sweep(keeper, 100));
  by_another(path_of("unswept"), "BEGIN IMMEDIATE; DROP TRIGGER refuse; COMMIT");
  assert_false(sqlite_keeper.sweep(keeper, 100));
  by_another(path_of("unswept"), "INSERT INTO session VALUES(1, x'01', 1)"); /* n is free again */
  sqlite_keeper.close(keeper);
}

/* ---- files that are taken away -----------------------------------------------------------------
 */

static int log_fd;

static void listen_to_log(void) {
  log_fd = memfd_create("log", 0);
  assert_true(log_fd >= 0);
  log_open(log_fd, LOG_WARN, LOG_TEXT, false);
}

static bool log_has(const char *text) {
  static char page[65536];
  ssize_t n = pread(log_fd, page, sizeof page - 1, 0);
  assert_true(n >= 0);
  page[n] = '\0';
  return strstr(page, text) != NULL;
}

static void stop_listening(void) {
  close(log_fd);
  int null = open("/dev/null", O_WRONLY);
  log_open(null, LOG_ERROR, LOG_TEXT, false);
}

static bool is_file(const char *name) {
  return access(path_of(name), F_OK) == 0;
}

static void a_file_that_is_removed_is_made_anew(void **state) {
  (void)state;
  struct desk desk;
  struct stat st;
  desk_open(&desk, path_of("removed"));
  assert_int_equal(saved(&desk, 1, 0, "a", "1", true), STORE_OK);
  listen_to_log();
  assert_int_equal(unlink(path_of("removed")), 0);
  assert_string_equal(loaded(&desk, 1, 0), "absent");
  assert_true(log_has("warn  the session file was removed while it was in use file="));
  assert_int_equal(saved(&desk, 1, 0, "a", "2", false), STORE_ABSENT);
  assert_int_equal(saved(&desk, 1, 0, "a", "2", true), STORE_OK);
  stop_listening();
  assert_int_equal(stat(path_of("removed"), &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  desk_close(&desk);
  desk_open(&desk, path_of("removed")); /* what was saved is in the file that has the name */
  assert_string_equal(loaded(&desk, 1, 0), "a=2");
  desk_close(&desk);
}

/* A backup that is put in its place: what SQLite keeps beside the old file must not reach it. */
static void replace(const char *name) {
  struct desk desk;
  desk_open(&desk, path_of("backup"));
  assert_int_equal(saved(&desk, 1, 0, "a", "of the backup", true), STORE_OK);
  desk_close(&desk);
  assert_false(is_file("backup-wal"));
  desk_open(&desk, path_of(name));
  assert_int_equal(saved(&desk, 1, 0, "a", "old", true), STORE_OK);
  assert_int_equal(saved(&desk, 2, 0, "a", "old", true), STORE_OK);
  assert_true(is_file("replaced-wal"));
  listen_to_log();
  char from[128];
  snprintf(from, sizeof from, "%s", path_of("backup"));
  assert_int_equal(rename(from, path_of("replaced")), 0);
  assert_int_equal(saved(&desk, 3, 0, "a", "new", true), STORE_OK);
  assert_true(log_has("warn  the session file was replaced while it was in use file="));
  stop_listening();
  assert_string_equal(loaded(&desk, 1, 0), "a=of the backup");
  assert_string_equal(loaded(&desk, 2, 0), "absent");
  desk_close(&desk);
  desk_open(&desk, path_of(name));
  assert_string_equal(loaded(&desk, 1, 0), "a=of the backup");
  assert_string_equal(loaded(&desk, 3, 0), "a=new");
  desk_close(&desk);
  assert_int_equal(unlink(path_of("replaced")), 0);
}

static void a_file_that_is_replaced_is_used(void **state) {
  (void)state;
  replace("replaced");
  assert_int_equal(symlink("replaced", path_of("link")), 0);
  replace("link");
}

static void two_stores_find_the_same_new_file(void **state) {
  (void)state;
  struct desk one, two;
  desk_open(&one, path_of("both"));
  desk_open(&two, path_of("both"));
  assert_int_equal(saved(&one, 1, 0, "a", "1", true), STORE_OK);
  assert_string_equal(loaded(&two, 1, 0), "a=1");
  assert_int_equal(unlink(path_of("both")), 0);
  assert_int_equal(saved(&one, 2, 0, "a", "2", true), STORE_OK);
  assert_string_equal(loaded(&two, 2, 0), "a=2");
  assert_int_equal(saved(&two, 2, 0, "b", "3", false), STORE_OK);
  assert_string_equal(loaded(&one, 2, 0), "a=2 b=3");
  desk_close(&one);
  desk_close(&two);
}

/* Nothing can be made where the folder is gone: calls fail until it is back. */
static void a_folder_may_go_and_come_back(void **state) {
  (void)state;
  struct desk desk;
  char old[128], hidden[128];
  assert_int_equal(mkdir(path_of("room"), 0700), 0);
  desk_open(&desk, path_of("room/sessions"));
  assert_int_equal(saved(&desk, 1, 0, "a", "1", true), STORE_OK);
  snprintf(old, sizeof old, "%s", path_of("room"));
  snprintf(hidden, sizeof hidden, "%s", path_of("hidden"));
  listen_to_log();
  assert_int_equal(rename(old, hidden), 0);
  assert_int_equal(saved(&desk, 1, 0, "a", "2", true), STORE_FAILED);
  assert_string_equal(loaded(&desk, 1, 0), "failed");
  assert_true(log_has("error sessions cannot be kept error="));
  assert_int_equal(rename(hidden, old), 0);
  assert_string_equal(loaded(&desk, 1, 0), "a=1");
  assert_int_equal(saved(&desk, 1, 0, "a", "3", false), STORE_OK);
  stop_listening();
  desk_close(&desk);
}

/* What store_open says about a file. */
static char *complaint(const char *where) {
  struct store *s = store_new();
  char *error = NULL;
  assert_false(store_open(s, &sqlite_keeper, where, &error));
  assert_non_null(error);
  if (!strstr(error, where)) fail_msg("does not name the file: %s", error);
  store_free(s);
  return error;
}

static void assert_complains(const char *where, const char *words) {
  char *error = complaint(where);
  if (!strstr(error, words)) fail_msg("%s\nis not in: %s", words, error);
  free(error);
}

static void write_file(const char *path, const char *bytes, size_t n) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, bytes, n), n);
  close(fd);
}

static void run_sql(const char *path, const char *sql) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
}

static void files_that_cannot_be_used_are_named_with_a_cure(void **state) {
  (void)state;
  static const char junk[4096] = "this is no database";
  write_file(path_of("junk"), junk, sizeof junk);
  assert_complains(path_of("junk"), "move it away");

  assert_complains(path_of("no/such/folder"), "No such file or directory");
  assert_int_equal(mkdir(path_of("dir"), 0700), 0);
  assert_complains(path_of("dir"), "Is a directory");

  run_sql(path_of("other"), "CREATE TABLE t(x)");
  assert_complains(path_of("other"), "of another program");

  struct desk desk;
  desk_open(&desk, path_of("newer"));
  desk_close(&desk);
  run_sql(path_of("newer"), "PRAGMA user_version = 99");
  assert_complains(path_of("newer"), "format 99");

  sqlite3 *db;
  desk_open(&desk, path_of("locked"));
  desk_close(&desk);
  assert_int_equal(sqlite3_open(path_of("locked"), &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
  assert_complains(path_of("locked"), "locked");
  sqlite3_close(db);
  desk_open(&desk, path_of("locked"));
  desk_close(&desk);
}

static void a_damaged_file_is_found_out(void **state) {
  (void)state;
  struct desk desk;
  desk_open(&desk, path_of("damaged"));
  for (int i = 0; i < 200; i++)
    assert_int_equal(saved(&desk, (uint8_t)i, 0, "a", "\"some text to fill pages with\"", true),
                     STORE_OK);
  desk_close(&desk);
  int fd = open(path_of("damaged"), O_RDWR);
  static char junk[4096];
  memset(junk, 0x5a, sizeof junk);
  for (off_t at = 8192; at < 20000; at += 4096) assert_int_equal(pwrite(fd, junk, 4096, at), 4096);
  close(fd);
  assert_complains(path_of("damaged"), "move it away");
}

/* Each of these leaves the store running, and it goes on once the cause is gone. */
static void a_file_at_its_limit_fails_saves_only(void **state) {
  (void)state;
  struct desk desk;
  struct rlimit before, limit;
  desk_open(&desk, path_of("limited"));
  assert_int_equal(saved(&desk, 1, 0, "a", "1", true), STORE_OK);
  getrlimit(RLIMIT_FSIZE, &before);
  limit = before;
  limit.rlim_cur = 1;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  assert_int_equal(saved(&desk, 1, 0, "a", "2", false), STORE_FAILED);
  assert_string_equal(loaded(&desk, 1, 0), "a=1");
  setrlimit(RLIMIT_FSIZE, &before);
  assert_int_equal(saved(&desk, 1, 0, "a", "3", false), STORE_OK);
  assert_string_equal(loaded(&desk, 1, 0), "a=3");
  desk_close(&desk);
}

static void sweeping_removes_what_is_over(void **state) {
  (void)state;
  char *error = NULL;
  void *keeper = sqlite_keeper.open(path_of("swept"), &error);
  assert_non_null(keeper);
  struct store_job *jobs = NULL;
  for (int i = 0; i < 1200; i++) {
    struct store_job *j = store_job_new(STORE_SAVE);
    memcpy(j->id, &i, sizeof i);
    j->may_create = true;
    j->ends = i < 1100 ? 100 : 1000;
    field(j, "a", "1");
    j->next = jobs;
    jobs = j;
  }
  sqlite_keeper.work(keeper, jobs);
  while (jobs) {
    struct store_job *next = jobs->next;
    assert_int_equal(jobs->status, STORE_OK);
    store_job_unref(jobs);
    jobs = next;
  }
  assert_false(sqlite_keeper.sweep(keeper, 99));
  assert_true(sqlite_keeper.sweep(keeper, 100));
  assert_true(sqlite_keeper.sweep(keeper, 100));
  assert_false(sqlite_keeper.sweep(keeper, 100));
  sqlite_keeper.close(keeper);
  sqlite3 *db;
  sqlite3_stmt *st;
  assert_int_equal(sqlite3_open(path_of("swept"), &db), SQLITE_OK);
  sqlite3_prepare_v2(db, "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM field)", -1,
                     &st, NULL);
  assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  assert_int_equal(sqlite3_column_int(st, 0), 100);
  assert_int_equal(sqlite3_column_int(st, 1), 100);
  sqlite3_finalize(st);
  sqlite3_close(db);
}

/* A keeper that does nothing, and that only when it is let. */
static uv_sem_t gate;

static void *gate_open(const char *where, char **error) {
  (void)where;
  (void)error;
  return &gate;
}

static void gate_work(void *self, struct store_job *jobs) {
  uv_sem_wait(self);
  uv_sem_post(self);
  for (struct store_job *j = jobs; j; j = j->next) j->status = STORE_OK;
}

static bool gate_sweep(void *self, int64_t now) {
  (void)self;
  (void)now;
  return false;
}

static void gate_close(void *self) {
  (void)self;
}

static const struct store_keeper gate_keeper = {gate_open, gate_work, gate_sweep, gate_close};

/* How many jobs with so many bytes each it takes while it is busy. */
static unsigned room(size_t bytes) {
  struct desk desk = {0};
  char *error = NULL, *text = calloc(1, bytes + 1);
  unsigned taken = 0;
  uv_sem_init(&gate, 0);
  uv_loop_init(&desk.loop);
  mailbox_open(&desk.box, &desk.loop, 1000, 1 << 20, take, &desk);
  desk.store = store_new();
  struct store_job *early = job(&desk, STORE_LOAD, 1, 0);
  assert_false(store_post(desk.store, early)); /* it is not open yet */
  store_job_unref(early);
  assert_true(store_open(desk.store, &gate_keeper, "", &error));
  for (bool is_taken = true; is_taken; taken += is_taken) {
    struct store_job *j = job(&desk, STORE_SAVE, 1, 0);
    if (bytes) store_field_add(&j->in, "k", 1, text, bytes);
    is_taken = store_post(desk.store, j);
    store_job_unref(j);
  }
  uv_sem_post(&gate);
  while (desk.n_back < taken) uv_run(&desk.loop, UV_RUN_ONCE);
  desk_close(&desk);
  uv_sem_destroy(&gate);
  free(text);
  return taken;
}

static void the_queue_is_bounded(void **state) {
  (void)state;
  /* those that its thread has taken already do not count, whatever their number */
  unsigned small = room(0), large = room(1 << 20);
  assert_in_range(small, STORE_QUEUE_MAX, 2 * STORE_QUEUE_MAX);
  assert_in_range(large, 60, 130);
}

/* What the thread has taken does not count any more: in all much more than fits at once. */
static void room_comes_back(void **state) {
  (void)state;
  struct desk desk;
  assert_int_equal(uv_sem_init(&gate, 1), 0);
  desk_open_with(&desk, &gate_keeper, "");
  static char value[1 << 20];
  memset(value, 'x', sizeof value - 1);
  for (size_t sum = 0; sum < 2 * (size_t)STORE_QUEUE_BYTES; sum += sizeof value)
    assert_int_equal(saved(&desk, 1, 0, "a", value, true), STORE_OK);
  desk_close(&desk);
  uv_sem_destroy(&gate);
}

static uv_sem_t begun;

static void slow_work(void *self, struct store_job *jobs) {
  uv_sem_post(&begun);
  gate_work(self, jobs);
}

/* Jobs that are being done when their box goes: nothing is posted to it any more. */
static void a_box_can_go_while_its_jobs_are_done(void **state) {
  (void)state;
  static const struct store_keeper slow_keeper = {gate_open, slow_work, gate_sweep, gate_close};
  struct desk desk;
  assert_int_equal(uv_sem_init(&gate, 0), 0);
  assert_int_equal(uv_sem_init(&begun, 0), 0);
  desk_open_with(&desk, &slow_keeper, "");
  struct store_job *j = job(&desk, STORE_LOAD, 1, 0);
  assert_true(store_post(desk.store, j));
  uv_sem_wait(&begun);
  store_forget(desk.store, &desk.box);
  uv_sem_post(&gate);
  store_free(desk.store);
  assert_int_equal(atomic_load(&j->refs), 1); /* it was let go, not sent */
  store_job_unref(j);
  mailbox_close(&desk.box);
  uv_run(&desk.loop, UV_RUN_DEFAULT);
  assert_int_equal(desk.n_back, 0);
  assert_int_equal(uv_loop_close(&desk.loop), 0);
  mailbox_fini(&desk.box);
  uv_sem_destroy(&gate);
  uv_sem_destroy(&begun);
}

static int end_redis(void **state) {
  (void)state;
  stop_redis();
  return 0;
}

static int make_folder(void **state) {
  (void)state;
  signal(SIGXFSZ, SIG_IGN); /* as main.c does */
  signal(SIGPIPE, SIG_IGN);
  start = time(NULL) +
          3600; /* where times in these tests begin: the store's own sweep does not reach them */
  log_open(2, LOG_ERROR, LOG_TEXT, false);
  int null = open("/dev/null", O_WRONLY);
  if (null >= 0) log_open(null, LOG_ERROR, LOG_TEXT, false);
  strcpy(folder, "/tmp/store_XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(promises_hold_in_memory),
      cmocka_unit_test(promises_hold_in_a_file),
      cmocka_unit_test_teardown(promises_hold_in_redis, end_redis),
      cmocka_unit_test_teardown(redis_may_go_and_come_back, end_redis),
      cmocka_unit_test(the_queue_is_bounded),
      cmocka_unit_test(room_comes_back),
      cmocka_unit_test(a_box_can_go_while_its_jobs_are_done),
      cmocka_unit_test(a_file_keeps_sessions_for_its_owner),
      cmocka_unit_test(two_stores_share_a_file),
      cmocka_unit_test(files_that_cannot_be_used_are_named_with_a_cure),
      cmocka_unit_test(a_damaged_file_is_found_out),
      cmocka_unit_test(a_file_at_its_limit_fails_saves_only),
      cmocka_unit_test(sweeping_removes_what_is_over),
      cmocka_unit_test(a_save_that_fails_leaves_nothing_open),
      cmocka_unit_test(a_sweep_that_fails_leaves_nothing_open),
      cmocka_unit_test(a_file_that_is_removed_is_made_anew),
      cmocka_unit_test(a_file_that_is_replaced_is_used),
      cmocka_unit_test(two_stores_find_the_same_new_file),
      cmocka_unit_test(a_folder_may_go_and_come_back),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
