/* SPDX-License-Identifier: MIT */
/* pages.c -- web files of the server's own, below /-/: the browser client, and what reloads pages.
 *
 * They are built into the binary from lua/perigee/web/ and change only with it, so a browser may
 * keep them as long as it asks whether they are still the same. */
#include "bridge/pages.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "bridge/peer.h"
#include "bridge/settings.h"
#include "bridge/state.h"
#include "hub/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page {
  const char *path;
  const char *file; /* in lua/perigee/web */
  const char *type;
  bool is_for_dev;
};

static const struct page pages[] = {
    {"/-/perigee.js", "perigee.js", "text/javascript; charset=utf-8", false},
    {"/-/perigee.d.ts", "perigee.d.ts", "text/plain; charset=utf-8", false},
    {"/-/reload.js", "reload.js", "text/javascript; charset=utf-8", true},
};

/* Anybody's page may import the client: it is no secret, and what it may reach is decided when it
 * connects (origins). */
static const char lines[] = "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
                            "Access-Control-Allow-Origin: *\r\n";

static const struct page *find(const struct http_request *r) {
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
    if (r->path.len == strlen(pages[i].path) &&
        memcmp(http_text(r, r->path), pages[i].path, r->path.len) == 0)
      return &pages[i];
  return NULL;
}

static const struct embedded_file *embedded(const struct page *page) {
  for (size_t i = 0; i < embedded_count; i++) {
    const char *name = embedded_files[i].name;
    if (strncmp(name, "perigee/web/", 12) == 0 && strcmp(name + 12, page->file) == 0)
      return &embedded_files[i];
  }
  check(!"every page is embedded");
  return NULL;
}

static void answer_embedded(struct conn *conn, const struct http_request *r,
                            const struct page *page) {
  const struct embedded_file *file = embedded(page);
  char extra[256];
  int n = snprintf(extra, sizeof extra, "ETag: %s\r\n%s", file->tag, lines);
  struct http_answer answer = {.status = 200,
                               .type = page->type,
                               .type_len = strlen(page->type),
                               .extra = extra,
                               .extra_len = (size_t)n};
  const struct http_field *known = http_find(r, "if-none-match");
  struct slice body;
  metric_add(&conn->worker->metrics.files_served, 1);
  if (known && files_tag_matches(http_text(r, known->value), known->value.len, file->tag)) {
    answer.status = 304;
    answer.type = NULL;
    http_answer_text(conn, &answer, NULL);
    return;
  }
  builder_begin(&conn->worker->out);
  builder_add(&conn->worker->out, file->text, file->len);
  builder_commit(&conn->worker->out, &body);
  http_answer(conn, &answer, body);
}

/* Those who work on Perigee itself see their changes at once (PERIGEE_LUA). */
static void answer_file(struct conn *conn, const struct page *page, const char *lua_path) {
  size_t n = strlen(lua_path) + sizeof "/perigee/web";
  char *dir = mem_alloc(n);
  snprintf(dir, n, "%s/perigee/web", lua_path);
  files_answer(conn, dir, page->file, NULL, &peer_of(conn)->transfer);
  free(dir);
}

bool pages_answer(struct conn *conn, const struct http_request *r) {
  const struct page *page = find(r);
  const struct settings *settings = host_of_conn(conn)->settings;
  const char *lua_path = settings->lua_path;
  if (!page || (page->is_for_dev && !settings->is_dev)) return false;
  if (r->method != HTTP_GET && r->method != HTTP_HEAD) {
    static const char text[] = "405 Method Not Allowed\n";
    struct http_answer answer = {.status = 405,
                                 .type = "text/plain; charset=utf-8",
                                 .type_len = 25,
                                 .extra = "Allow: GET, HEAD\r\n",
                                 .extra_len = 18,
                                 .is_last = true};
    metric_add(&conn->worker->metrics.http_refused, 1);
    http_answer_text(conn, &answer, text);
  } else if (lua_path) {
    answer_file(conn, page, lua_path);
  } else {
    answer_embedded(conn, r, page);
  }
  return true;
}
