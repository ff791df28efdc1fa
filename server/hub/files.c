/* SPDX-License-Identifier: MIT */
/* files.c -- reads a public folder's files off the loop and answers GET and HEAD with them.
 *
 *   loop                          thread pool
 *   files_answer ───────────────▶ open, choose the .gz beside it, stat, first piece
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
#include <time.h>
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
  const char *tail;       /* what follows HTML, all of which then is sent as it is; or NULL */
  char *range, *if_range; /* owned: the fields of the request, or NULL */
  char *allow;            /* owned: header line for 405 when there is nothing, or NULL */
  int fd;                 /* -1: not open */
  int error;              /* errno of the step, 0: none */
  uint64_t size;          /* of the file */
  uint64_t from, at, end; /* what is sent of it: its first byte, the next one, the one behind */
  enum http_range part;
  char tag[64];
  char modified[30];
  struct buf *piece;   /* what the step read; owned */
  bool may_compress;   /* its type is worth it */
  bool accepts_gzip;   /* and the client takes it */
  bool is_gzip;        /* the .gz beside it is sent */
  bool is_fingerprint; /* its name changes with its content */
  bool is_probe;       /* the folder itself was asked for, without the slash: is there a page? */
  bool is_moved;       /* there is, at the path with a slash behind it */
  bool is_working;     /* on the pool */
  bool is_started;     /* the head is out */
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
  uint64_t left = t->end - t->at;
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

/* Takes the .gz beside the file in its place, unless it is older: then it is of what the file was.
 */
static void choose_gzip(struct transfer *t, struct stat *st) {
  struct stat gz;
  size_t n = strlen(t->name);
  char *name = mem_alloc(n + 4);
  memcpy(name, t->name, n);
  memcpy(name + n, ".gz", 4);
  int fd = open_beneath(t->dir, name);
  free(name);
  if (fd < 0) return;
  bool is_newer =
      fstat(fd, &gz) == 0 && S_ISREG(gz.st_mode) &&
      (gz.st_mtim.tv_sec > st->st_mtim.tv_sec ||
       (gz.st_mtim.tv_sec == st->st_mtim.tv_sec && gz.st_mtim.tv_nsec >= st->st_mtim.tv_nsec));
  if (!is_newer) {
    close(fd);
    return;
  }
  close(t->fd);
  t->fd = fd;
  t->is_gzip = true;
  *st = gz;
}

/* Is what the client has a part of still the same (RFC 9110 section 13.1.5)? */
static bool is_unchanged(const struct transfer *t, time_t modified) {
  if (!t->if_range) return true;
  if (t->if_range[0] == '"') return strcmp(t->if_range, t->tag) == 0;
  /* a date tells seconds: it says nothing about a file that was changed just now */
  return strcmp(t->if_range, t->modified) == 0 && time(NULL) - modified > 1;
}

/* Is there a page in the folder of that name? */
static bool has_page(const struct transfer *t) {
  struct stat st;
  size_t n = strlen(t->name) + sizeof "/index.html";
  char *name = mem_alloc(n);
  snprintf(name, n, "%s/index.html", t->name);
  int fd = open_beneath(t->dir, name);
  free(name);
  bool is_page = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  if (fd >= 0) close(fd);
  return is_page;
}

static void open_file(struct transfer *t) {
  struct stat st;
  t->fd = open_beneath(t->dir, t->name);
  if (t->fd < 0 || fstat(t->fd, &st) != 0) {
    t->error = errno ? errno : EIO;
    return;
  }
  t->is_moved = S_ISDIR(st.st_mode) ? has_page(t) : t->is_probe && S_ISREG(st.st_mode);
  if (t->is_moved) return;
  if (!S_ISREG(st.st_mode)) {
    t->error = ENOENT;
    return;
  }
  if (t->accepts_gzip) choose_gzip(t, &st);
  t->size = t->end = (uint64_t)st.st_size;
  snprintf(t->tag, sizeof t->tag, "\"%llx-%llx%s\"", (unsigned long long)st.st_size,
           (unsigned long long)st.st_mtim.tv_sec * 1000000000u +
               (unsigned long long)st.st_mtim.tv_nsec,
           t->is_gzip ? "-gz"
           : t->tail  ? "+"
                      : "");
  http_date(st.st_mtim.tv_sec, t->modified);
  if (!t->range || !is_unchanged(t, st.st_mtim.tv_sec)) return;
  uint64_t from, to;
  t->part = http_read_range(t->range, strlen(t->range), t->size, &from, &to);
  if (t->part == RANGE_NONE) t->end = 0;
  if (t->part != RANGE_PART) return;
  t->from = t->at = from;
  t->end = to;
  if (lseek(t->fd, (off_t)from, SEEK_SET) < 0) t->error = errno;
}

static void on_pool(uv_work_t *work) {
  struct transfer *t = (struct transfer *)work;
  t->error = 0;
  if (t->fd < 0) open_file(t);
  if (!t->error && !t->is_moved) read_piece(t);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void transfer_free(struct transfer *t) {
  if (t->slot) *t->slot = NULL;
  if (t->fd >= 0) close(t->fd);
  if (t->piece) buf_unref(t->piece);
  free(t->dir);
  free(t->name);
  free(t->range);
  free(t->if_range);
  free(t->allow);
  free(t);
}

static void on_worked(uv_work_t *work, int status);

static void step(struct transfer *t) {
  t->is_working = true;
  check(uv_queue_work(&t->worker->loop, &t->work, on_pool, on_worked) == 0);
}

static bool is_missing(int error) {
  return error == ENOENT || error == ENOTDIR || error == EXDEV || error == ELOOP ||
         error == ENAMETOOLONG || error == EISDIR;
}

static void answer_error(struct conn *conn, int error) {
  bool is_not_there = is_missing(error);
  struct http_answer answer = {
      .status = is_not_there ? 404 : 500, .type = "text/plain; charset=utf-8", .type_len = 25};
  http_refused(conn, answer.status, is_not_there ? NULL : "the file cannot be read");
  http_answer_text(conn, &answer, is_not_there ? "404 Not Found\n" : "500 Internal Server Error\n");
}

/* The path with a slash behind it, and the query it came with: what the page links to is below. */
static void answer_moved(struct conn *conn) {
  const struct http_request *r = http_request_of(conn);
  size_t room = r->path.len + r->query.len + sizeof "Location: /?\r\n";
  char *line = mem_alloc(room);
  int n = snprintf(line, room, "Location: %.*s/%s%.*s\r\n", (int)r->path.len, http_text(r, r->path),
                   r->query.len ? "?" : "", (int)r->query.len, http_text(r, r->query));
  struct http_answer answer = {.status = 302, .extra = line, .extra_len = (size_t)n};
  http_answer_text(conn, &answer, "");
  free(line);
}

/* There is no page, and something else than GET could be asked here. */
static void answer_not_allowed(struct conn *conn, const char *allow) {
  struct http_answer answer = {.status = 405,
                               .type = "text/plain; charset=utf-8",
                               .type_len = 25,
                               .extra = allow,
                               .extra_len = strlen(allow)};
  http_refused(conn, answer.status, NULL);
  http_answer_text(conn, &answer, "405 Method Not Allowed\n");
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

/* Has the client this very file already? */
static bool is_known(const struct transfer *t, const struct http_request *r) {
  const struct http_field *tags = http_find(r, "if-none-match");
  if (tags) return files_tag_matches(http_text(r, tags->value), tags->value.len, t->tag);
  /* compared as texts: a client sends back the date it was given */
  const struct http_field *since = http_find(r, "if-modified-since");
  return since && http_span_is(r, since->value, t->modified);
}

static void start(struct transfer *t, struct conn *conn) {
  const struct http_request *r = http_request_of(conn);
  char extra[512];
  const char *type = files_type(t->name);
  size_t n = (size_t)snprintf(
      extra, sizeof extra,
      "ETag: %s\r\nLast-Modified: %s\r\nCache-Control: %s\r\nAccept-Ranges: bytes\r\n"
      "X-Content-Type-Options: nosniff\r\n%s",
      t->tag, t->modified, t->is_fingerprint ? "public, max-age=31536000, immutable" : "no-cache",
      t->may_compress ? "Vary: Accept-Encoding\r\n" : "");
  struct http_answer answer = {
      .status = 200, .type = type, .type_len = strlen(type), .extra = extra};
  metric_add(&t->worker->metrics.files_served, 1);
  if (is_known(t, r)) {
    answer.status = 304;
    answer.type = NULL;
    answer.extra_len = n;
    http_answer_text(conn, &answer, NULL);
    t->at = t->end;
    return;
  }
  if (t->part == RANGE_NONE) {
    answer.status = 416;
    answer.type = "text/plain; charset=utf-8";
    answer.type_len = 25;
    answer.extra_len =
        n + (size_t)snprintf(extra + n, sizeof extra - n, "Content-Range: bytes */%llu\r\n",
                             (unsigned long long)t->size);
    http_answer_text(conn, &answer, "416 Range Not Satisfiable\n");
    t->at = t->end;
    return;
  }
  if (t->is_gzip) n += (size_t)snprintf(extra + n, sizeof extra - n, "Content-Encoding: gzip\r\n");
  if (t->part == RANGE_PART) {
    answer.status = 206;
    n += (size_t)snprintf(extra + n, sizeof extra - n, "Content-Range: bytes %llu-%llu/%llu\r\n",
                          (unsigned long long)t->from, (unsigned long long)t->end - 1,
                          (unsigned long long)t->size);
  }
  answer.extra_len = n;
  bool is_head = r->method == HTTP_HEAD;
  http_answer_head(conn, &answer, t->end - t->from + (t->tail ? strlen(t->tail) : 0));
  t->is_started = true;
  if (is_head) t->at = t->end;
  if (!is_head && t->piece->len) {
    conn_send(conn, (struct slice){t->piece, 0, t->piece->len});
    t->at += t->piece->len;
  }
  if (is_head)
    http_answer_end(conn);
  else if (t->at == t->end)
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
  if (t->error || t->is_moved) {
    *t->slot = NULL; /* closing would abandon us, and free what is freed below */
    t->slot = NULL;
    if (t->is_started)
      conn_close(conn, "a file changed while it was sent");
    else if (t->is_moved)
      answer_moved(conn);
    else if (t->allow && is_missing(t->error))
      answer_not_allowed(conn, t->allow);
    else
      answer_error(conn, t->error);
    transfer_free(t);
    return;
  }
  if (!t->is_started) {
    start(t, conn);
  } else {
    conn_send(conn, (struct slice){t->piece, 0, t->piece->len});
    t->at += t->piece->len;
    if (t->at == t->end) finish(t, conn);
  }
  if (t->piece) buf_unref(t->piece);
  t->piece = NULL;
  if (t->at == t->end) transfer_free(t);
}

/* The field's value, malloc'd; NULL when it is not there, or there more than once. */
static char *copy_field(const struct http_request *r, const char *name) {
  const struct http_field *found = NULL;
  for (uint32_t i = 0; i < r->n_fields; i++) {
    if (!http_span_is(r, r->fields[i].name, name)) continue;
    if (found) return NULL;
    found = &r->fields[i];
  }
  if (!found) return NULL;
  char *copy = mem_alloc(found->value.len + 1);
  memcpy(copy, http_text(r, found->value), found->value.len);
  copy[found->value.len] = '\0';
  return copy;
}

/* Reads what the request wants of the file. */
static void read_wishes(struct transfer *t, const struct http_request *r) {
  if (strncmp(files_type(t->name), "text/html", 9) != 0) t->tail = NULL;
  t->is_fingerprint = files_has_fingerprint(t->name);
  if (t->tail) return;
  t->may_compress = files_may_compress(t->name);
  t->accepts_gzip = t->may_compress && http_accepts_gzip(r);
  if (r->method != HTTP_GET || !http_find(r, "range")) return;
  t->range = copy_field(r, "range");
  t->if_range = copy_field(r, "if-range");
  if (!t->if_range && http_find(r, "if-range")) { /* there twice: then it matches nothing */
    free(t->range);
    t->range = NULL;
  }
}

static struct transfer *new_transfer(struct conn *conn, const char *dir, struct transfer **slot) {
  struct transfer *t = mem_zalloc(sizeof *t);
  t->worker = conn->worker;
  t->conn = conn_id(conn);
  t->slot = slot;
  t->dir = mem_strdup(dir);
  t->fd = -1;
  *slot = t;
  return t;
}

void files_answer_folder(struct conn *conn, const char *dir, const char *allow,
                         struct transfer **slot) {
  struct transfer *t = new_transfer(conn, dir, slot);
  t->name = mem_strdup("index.html");
  t->allow = allow ? mem_strdup(allow) : NULL;
  t->is_probe = true;
  step(t);
}

void files_answer(struct conn *conn, const char *dir, const char *name, const char *tail,
                  struct transfer **slot) {
  size_t n = strlen(name);
  struct transfer *t = new_transfer(conn, dir, slot);
  t->tail = tail;
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
  read_wishes(t, http_request_of(conn));
  step(t);
}

void files_drained(struct transfer *t) {
  if (t->is_started && !t->is_working && t->at < t->end) step(t);
}

void files_abandon(struct transfer *t) {
  if (t->slot) *t->slot = NULL;
  t->slot = NULL;
  if (!t->is_working) transfer_free(t); /* else when the pool has let go */
}

struct type {
  const char *extension, *name;
  bool may_compress; /* is not compressed already */
};

static const struct type *find_type(const char *name) {
  static const struct type types[] = {
      {"html", "text/html; charset=utf-8", true},
      {"htm", "text/html; charset=utf-8", true},
      {"css", "text/css; charset=utf-8", true},
      {"js", "text/javascript; charset=utf-8", true},
      {"mjs", "text/javascript; charset=utf-8", true},
      {"json", "application/json", true},
      {"map", "application/json", true},
      {"webmanifest", "application/manifest+json", true},
      {"txt", "text/plain; charset=utf-8", true},
      {"md", "text/markdown; charset=utf-8", true},
      {"csv", "text/csv; charset=utf-8", true},
      {"xml", "application/xml", true},
      {"svg", "image/svg+xml", true},
      {"png", "image/png", false},
      {"jpg", "image/jpeg", false},
      {"jpeg", "image/jpeg", false},
      {"gif", "image/gif", false},
      {"webp", "image/webp", false},
      {"avif", "image/avif", false},
      {"ico", "image/x-icon", true},
      {"woff", "font/woff", false},
      {"woff2", "font/woff2", false},
      {"ttf", "font/ttf", true},
      {"otf", "font/otf", true},
      {"wasm", "application/wasm", true},
      {"pdf", "application/pdf", false},
      {"mp3", "audio/mpeg", false},
      {"ogg", "audio/ogg", false},
      {"wav", "audio/wav", false},
      {"mp4", "video/mp4", false},
      {"webm", "video/webm", false},
      {"zip", "application/zip", false},
      {"gz", "application/gzip", false},
  };
  const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
  for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
    if (strcasecmp(dot + 1, types[i].extension) == 0) return &types[i];
  return NULL;
}

const char *files_type(const char *name) {
  const struct type *type = find_type(name);
  return type ? type->name : "application/octet-stream";
}

bool files_may_compress(const char *name) {
  const struct type *type = find_type(name);
  return type && type->may_compress;
}

bool files_has_fingerprint(const char *name) {
  const char *slash = strrchr(name, '/');
  const char *s = slash ? slash + 1 : name;
  while (*s) { /* parts of the name, between dots, dashes and underscores */
    size_t digits = 0, letters = 0, others = 0;
    for (; *s && !strchr(".-_", *s); s++) {
      if (*s >= '0' && *s <= '9')
        digits++;
      else if ((*s >= 'a' && *s <= 'f') || (*s >= 'A' && *s <= 'F'))
        letters++;
      else
        others++;
    }
    if (!others && digits && letters && digits + letters >= 8) return true;
    if (*s) s++;
  }
  return false;
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
