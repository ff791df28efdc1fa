/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_RELOAD_H
#define PERIGEE_RELOAD_H

#include <stdbool.h>
#include <uv.h>

/* reload.c -- replaces the code of apps in all workers, or in none.
 *
 *   read ─▶ build on worker 0 ─▶ build on the others ─▶ swap on all ─▶ keep on all
 *    │            │                     │                   │
 *    └────────────┴──────────┬──────────┴───────────────────┘
 *                            ▼
 *                  undo on all; the old code was never away
 *
 * One snapshot of the files is read, off the loop, and every worker builds the same bytes beside
 * what it serves. Worker 0 is first: what cannot be loaded there disturbs nobody else. Nothing is
 * final before all workers have swapped. Control thread only, except where it says otherwise. */

struct bundle;
struct host;
struct settings;
struct reload;

/* What became of a reload that somebody asked for. text: what has changed, or what is wrong. */
typedef void reload_done(void *owner, bool is_ok, const char *text);

/* hosts run the code of `serving`, of which a reference is taken. All must outlive reload_close. */
struct reload *reload_open(uv_loop_t *loop, const struct settings *settings, struct host *hosts[],
                           unsigned n, struct bundle *serving);

/* Tries all that differs from what is served. done, which may be NULL, is called once, unless the
 * reload is closed before; while one is under way, the next begins after it. */
void reload_ask(struct reload *r, reload_done *done, void *owner);

/* The files have changed: the same, but what has failed and is as it was then is left alone. */
void reload_notice(struct reload *r);

/* Public files have changed. */
void reload_pages(struct reload *r);

/* No more reloads. */
void reload_stop(struct reload *r);
/* When all workers have ended; then run the loop until it returns, then reload_free. */
void reload_close(struct reload *r);
void reload_free(struct reload *r);

#endif
