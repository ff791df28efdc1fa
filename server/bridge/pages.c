/* SPDX-License-Identifier: MIT */
/* pages.c -- web files of the server's own, below /-/: the browser client, the inspector, and what
 * reloads pages in dev.
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

/* Where they lie among the embedded files. */
#define WEB       "perigee/web/"
#define INSPECTOR WEB "inspector/"

/* Anybody's page may import the client: it is no secret, and what it may reach is decided when it
 * connects (origins). */
static const char public_lines[] = "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
                                   "Access-Control-Allow-Origin: *\r\n";

/* The inspector runs its own files and talks to this server, and is in nobody's frame. */
static const char private_lines[] =
    "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/* By its name below WEB. */
static const struct embedded_file *find(const char *name, size_t n) {
  static const char web[] = WEB;
  for (size_t i = 0; i < embedded_count; i++) {
    const char *at = embedded_files[i].name;
    if (strncmp(at, web, sizeof web - 1) != 0) continue;
    at += sizeof web - 1;
    if (strlen(at) == n && memcmp(at, name, n) == 0) return &embedded_files[i];
  }
  return NULL;
}

const struct embedded_file *pages_find(const char *path, size_t n) {
  static const char prefix[] = "/-/", index[] = "inspector/index.html";
  const size_t begin = sizeof prefix - 1;
  if (n < begin || memcmp(path, prefix, begin) != 0) return NULL;
  return n == begin ? find(index, sizeof index - 1) : find(path + begin, n - begin);
}

bool pages_is_private(const struct embedded_file *page) {
  return strncmp(page->name, INSPECTOR, strlen(INSPECTOR)) == 0;
}

bool pages_is_for_dev(const struct embedded_file *page) {
  return strcmp(page->name, WEB "reload.js") == 0;
}

/* With PERIGEE_LUA the file comes from that folder: those who work on Perigee itself see their
 * changes at once. */
static char *read_instead(const char *lua_path, const struct embedded_file *page, size_t *len) {
  char path[4096];
  FILE *file = NULL;
  char *text = NULL;
  int n = snprintf(path, sizeof path, "%s/%s", lua_path, page->name);
  if (n > 0 && (size_t)n < sizeof path) file = fopen(path, "rb");
  if (!file) return NULL;
  if (fseek(file, 0, SEEK_END) == 0) {
    long size = ftell(file);
    rewind(file);
    text = mem_alloc(size > 0 ? (size_t)size : 1);
    *len = fread(text, 1, size > 0 ? (size_t)size : 0, file);
  }
  fclose(file);
  return text;
}

void pages_answer(struct conn *conn, const struct http_request *r,
                  const struct embedded_file *page) {
  const char *lua_path = host_of_conn(conn)->settings->lua_path;
  const char *tag = page->tag, *lines = pages_is_private(page) ? private_lines : public_lines;
  const char *type =
      strstr(page->name, ".ts") ? "text/plain; charset=utf-8" : files_type(page->name);
  size_t len = page->len;
  char extra[800];
  char *instead = lua_path ? read_instead(lua_path, page, &len) : NULL;
  int n = instead ? snprintf(extra, sizeof extra, "%s", lines)
                  : snprintf(extra, sizeof extra, "ETag: %s\r\n%s", tag, lines);
  check(n > 0 && (size_t)n < sizeof extra);
  struct http_answer answer = {.status = 200,
                               .type = type,
                               .type_len = strlen(type),
                               .extra = extra,
                               .extra_len = (size_t)n};
  const struct http_field *known = instead ? NULL : http_find(r, "if-none-match");
  struct slice body;
  metric_add(&conn->worker->metrics.files_served, 1);
  if (known && files_tag_matches(http_text(r, known->value), known->value.len, tag)) {
    answer.status = 304;
    answer.type = NULL;
    http_answer_text(conn, &answer, NULL);
    return;
  }
  builder_begin(&conn->worker->out);
  builder_add(&conn->worker->out, instead ? instead : page->text, len);
  builder_commit(&conn->worker->out, &body);
  http_answer(conn, &answer, body);
  free(instead);
}
