/* SPDX-License-Identifier: MIT */
/* files.c -- reads a public folder's files off the loop and answers GET and HEAD with them.
 *
 *   loop                          thread pool
 *   files_answer ───────────────▶ open, stat, first piece
 *   head, first piece  ◀─────────
 *   drained ────────────────────▶ next piece ...
 *
 * There is no way out of the folder: the kernel itself resolves the name beneath it. */
#include "hub/files.h"

#include "base/mem.h"
#include "net/http_conn.h"
#include "net/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef PERIGEE_TINY
enum { PIECE = 64 };
#else
enum { PIECE = 256 * 1024 };
#endif

struct transfer {
  uv_work_t work; /* must be first */
  struct worker *worker;
  uint64_t conn;          /* id: the connection may go while the pool works */
  struct transfer **slot; /* the owner's pointer to us; NULL once abandoned */
  char *dir, *name;       /* owned; for the first step */
  const char *tail;       /* what follows the file; or NULL */
  int fd;                 /* -1: not open */
  int error;              /* errno of the step, 0: none */
  uint64_t size, sent;
  char tag[48];
  struct buf *piece; /* what the step read; owned */
  bool is_working;   /* on the pool */
  bool is_started;   /* the head is out */
};

/* ---- on the thread pool ---------------------------------------------------------------------- */

/* For kernels (or sandboxes) without openat2: each part by itself, no symbolic links at all. */
static int open_by_parts(int dir, const char *name) {
  char part[256];
  int at = dup(dir);
  while (at >= 0) {
    size_t n = strcspn(name, "/");
    bool is_last = name[n] == '\0';
    if (n == 0 || n >= sizeof part) break;
    memcpy(part, name, n);
    part[n] = '\0';
    int next =
        openat(at, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (is_last ? O_NONBLOCK : O_DIRECTORY));
    close(at);
    at = next;
    if (is_last || at < 0) return at;
    name += n + 1;
  }
  if (at >= 0) close(at);
  errno = ENOENT;
  return -1;
}

static int open_beneath(const char *dir, const char *name) {
  int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return -1;
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  int fd = (int)syscall(SYS_openat2, at, name, &how, sizeof how);
  if (fd < 0 && (errno == ENOSYS || errno == EPERM)) fd = open_by_parts(at, name);
  int error = errno;
  close(at);
  errno = error;
  return fd;
}

static void read_piece(struct transfer *t) {
  uint64_t left = t->size - t->sent;
  size_t want = left < PIECE ? (size_t)left : PIECE;
  t->piece = buf_new(want);
  while (t->piece->len < want) {
    ssize_t k = read(t->fd, t->piece->data + t->piece->len, want - t->piece->len);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) { /* shorter than it was: the promised length cannot be kept */
      t->error = k < 0 ? errno : EIO;
      return;
    }
    t->piece->len += (uint32_t)k;
  }
}

static void on_pool(uv_work_t *work) {
  struct transfer *t = (struct transfer *)work;
  struct stat st;
  t->error = 0;
  if (t->fd < 0) {
    t->fd = open_beneath(t->dir, t->name);
    if (t->fd < 0 || fstat(t->fd, &st) != 0) {
      t->error = errno ? errno : EIO;
      return;
    }
    if (!S_ISREG(st.st_mode)) {
      t->error = ENOENT;
      return;
    }
    t->size = (uint64_t)st.st_size;
    snprintf(t->tag, sizeof t->tag, "\"%llx-%llx\"", (unsigned long long)st.st_size,
             (unsigned long long)st.st_mtim.tv_sec * 1000000000u +
                 (unsigned long long)st.st_mtim.tv_nsec);
  }
  read_piece(t);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void transfer_free(struct transfer *t) {
  if (t->slot) *t->slot = NULL;
  if (t->fd >= 0) close(t->fd);
  if (t->piece) buf_unref(t->piece);
  free(t->dir);
  free(t->name);
  free(t);
}

static void on_worked(uv_work_t *work, int status);

static void step(struct transfer *t) {
  t->is_working = true;
  check(uv_queue_work(&t->worker->loop, &t->work, on_pool, on_worked) == 0);
}

static void answer_error(struct conn *conn, int error) {
  bool is_missing = error == ENOENT || error == ENOTDIR || error == EXDEV || error == ELOOP ||
                    error == ENAMETOOLONG || error == EISDIR;
  struct http_answer answer = {
      .status = is_missing ? 404 : 500, .type = "text/plain; charset=utf-8", .type_len = 25};
  http_answer_text(conn, &answer, is_missing ? "404 Not Found\n" : "500 Internal Server Error\n");
}

/* All of the file is sent. */
static void finish(struct transfer *t, struct conn *conn) {
  if (t->tail) {
    size_t n = strlen(t->tail);
    struct buf *buf = buf_new(n);
    memcpy(buf->data, t->tail, n);
    buf->len = (uint32_t)n;
    conn_send(conn, (struct slice){buf, 0, buf->len});
    buf_unref(buf);
  }
  http_answer_end(conn);
}

static void start(struct transfer *t, struct conn *conn) {
  const struct http_request *r = http_request_of(conn);
  char extra[160];
  const char *type = files_type(t->name);
  if (strncmp(type, "text/html", 9) != 0) t->tail = NULL;
  if (t->tail) memcpy(t->tag + strlen(t->tag) - 1, "+\"", 3); /* another content */
  int n = snprintf(extra, sizeof extra,
                   "ETag: %s\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n",
                   t->tag);
  struct http_answer answer = {.status = 200,
                               .type = type,
                               .type_len = strlen(type),
                               .extra = extra,
                               .extra_len = (size_t)n};
  const struct http_field *known = http_find(r, "if-none-match");
  metric_add(&t->worker->metrics.files_served, 1);
  if (known && files_tag_matches(http_text(r, known->value), known->value.len, t->tag)) {
    answer.status = 304;
    answer.type = NULL;
    http_answer_text(conn, &answer, NULL);
    t->sent = t->size;
    return;
  }
  bool is_head = r->method == HTTP_HEAD;
  http_answer_head(conn, &answer, t->size + (t->tail ? strlen(t->tail) : 0));
  t->is_started = true;
  if (is_head) t->sent = t->size;
  if (!is_head && t->piece->len) {
    conn_send(conn, (struct slice){t->piece, 0, t->piece->len});
    t->sent += t->piece->len;
  }
  if (is_head)
    http_answer_end(conn);
  else if (t->sent == t->size)
    finish(t, conn);
}

static void on_worked(uv_work_t *work, int status) {
  struct transfer *t = (struct transfer *)work;
  struct conn *conn = t->slot ? worker_conn(t->worker, t->conn) : NULL;
  t->is_working = false;
  if (!conn || !conn_is_open(conn) || status != 0) {
    transfer_free(t);
    return;
  }
  if (t->error) {
    *t->slot = NULL; /* closing would abandon us, and free what is freed below */
    t->slot = NULL;
    if (t->is_started)
      conn_close(conn, "a file changed while it was sent");
    else
      answer_error(conn, t->error);
    transfer_free(t);
    return;
  }
  if (!t->is_started) {
    start(t, conn);
  } else {
    conn_send(conn, (struct slice){t->piece, 0, t->piece->len});
    t->sent += t->piece->len;
    if (t->sent == t->size) finish(t, conn);
  }
  if (t->piece) buf_unref(t->piece);
  t->piece = NULL;
  if (t->sent == t->size) transfer_free(t);
}

void files_answer(struct conn *conn, const char *dir, const char *name, const char *tail,
                  struct transfer **slot) {
  size_t n = strlen(name);
  struct transfer *t = mem_zalloc(sizeof *t);
  t->worker = conn->worker;
  t->conn = conn_id(conn);
  t->slot = slot;
  t->dir = mem_strdup(dir);
  t->tail = tail;
  t->fd = -1;
  *slot = t;
  if (n == 0 || name[n - 1] == '/') {
    t->name = mem_alloc(n + sizeof "index.html");
    memcpy(t->name, name, n);
    memcpy(t->name + n, "index.html", sizeof "index.html");
  } else {
    t->name = mem_strdup(name);
  }
  n = strlen(t->name);
  if (n > 4 && strcasecmp(t->name + n - 4, ".lua") == 0) { /* code is never content */
    answer_error(conn, ENOENT);
    transfer_free(t);
    return;
  }
  step(t);
}

void files_drained(struct transfer *t) {
  if (t->is_started && !t->is_working && t->sent < t->size) step(t);
}

void files_abandon(struct transfer *t) {
  if (t->slot) *t->slot = NULL;
  t->slot = NULL;
  if (!t->is_working) transfer_free(t); /* else when the pool has let go */
}

const char *files_type(const char *name) {
  static const char *const types[][2] = {
      {"html", "text/html; charset=utf-8"},
      {"htm", "text/html; charset=utf-8"},
      {"css", "text/css; charset=utf-8"},
      {"js", "text/javascript; charset=utf-8"},
      {"mjs", "text/javascript; charset=utf-8"},
      {"json", "application/json"},
      {"map", "application/json"},
      {"webmanifest", "application/manifest+json"},
      {"txt", "text/plain; charset=utf-8"},
      {"md", "text/markdown; charset=utf-8"},
      {"csv", "text/csv; charset=utf-8"},
      {"xml", "application/xml"},
      {"svg", "image/svg+xml"},
      {"png", "image/png"},
      {"jpg", "image/jpeg"},
      {"jpeg", "image/jpeg"},
      {"gif", "image/gif"},
      {"webp", "image/webp"},
      {"avif", "image/avif"},
      {"ico", "image/x-icon"},
      {"woff", "font/woff"},
      {"woff2", "font/woff2"},
      {"ttf", "font/ttf"},
      {"otf", "font/otf"},
      {"wasm", "application/wasm"},
      {"pdf", "application/pdf"},
      {"mp3", "audio/mpeg"},
      {"ogg", "audio/ogg"},
      {"wav", "audio/wav"},
      {"mp4", "video/mp4"},
      {"webm", "video/webm"},
      {"zip", "application/zip"},
      {"gz", "application/gzip"},
  };
  const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
  if (dot)
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
      if (strcasecmp(dot + 1, types[i][0]) == 0) return types[i][1];
  return "application/octet-stream";
}

bool files_tag_matches(const char *list, size_t n, const char *tag) {
  const char *s = list, *end = list + n;
  size_t len = strlen(tag);
  while (s < end) {
    while (s < end && (*s == ' ' || *s == '\t' || *s == ',')) s++;
    if (s < end && *s == '*') return true;
    if (end - s >= 2 && s[0] == 'W' && s[1] == '/') s += 2;
    if ((size_t)(end - s) >= len && memcmp(s, tag, len) == 0) return true;
    if (s == end || *s != '"') return false; /* not a tag: nothing sensible follows */
    for (s++; s < end && *s != '"'; s++) {
    }
    if (s < end) s++;
  }
  return false;
}
