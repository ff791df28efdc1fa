/* SPDX-License-Identifier: MIT */
/* reload.c -- replaces the code of apps in all workers, or in none. */
#include "bridge/reload.h"

#include "base/locale.h"
#include "base/log.h"
#include "base/mem.h"
#include "bridge/generation.h"
#include "bridge/host.h"
#include "bridge/settings.h"
#include "hub/bundle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  PATIENCE_MS = 30000, /* for an answer of a worker: it ends code that runs on long before */
  ASKERS_MAX = 64,
};

enum state { IDLE, READING, BUILDING_FIRST, BUILDING, CHECKING, SWAPPING, KEEPING, UNDOING };

struct asker {
  reload_done *done;
  void *owner;
};

/* An app as it was when it failed: tried again when it is asked for, or when it has changed. */
struct refusal {
  struct refusal *next;
  struct bundle *bundle; /* a reference: app is part of it */
  const struct bundle_app *app;
};

struct reload {
  uv_loop_t *loop;
  const struct settings *settings;
  struct host **hosts; /* owned list of borrowed hosts */
  unsigned n;
  struct mailbox answers;
  uv_timer_t patience;
  uv_work_t work;
  struct bundle *serving;   /* a reference: what all workers run */
  struct bundle *candidate; /* a reference, or NULL */
  struct refusal *refusals; /* owned list */
  char **eaten; /* names of apps that removed their own files; NULL-terminated, or NULL */
  size_t n_eaten;
  enum state state;
  unsigned attempt, waiting; /* answers that are still to come */
  bool is_careful;           /* leaves refusals alone */
  bool is_asked, is_noticed; /* again, when this one is over */
  bool is_stopped, is_closed;
  struct asker askers[ASKERS_MAX]; /* of this attempt, then those of the next */
  unsigned n_askers, n_waiting_askers;
  uint64_t began;       /* ns */
  uint64_t us, step_us; /* longest time a worker was held: in all steps, in this one */
  uint32_t connections;
  char *app, *error; /* what went wrong in this attempt */
  bool is_of_worker; /* in this one: */
  unsigned failed_worker;
  /* of the work, which runs on another thread */
  struct bundle *read;
  char read_error[1024];
  const char *missing;
  const char *missing_app;
};

static void begin(struct reload *r, bool is_careful);
static void step_over(struct reload *r);

/* ---- orders and answers ---------------------------------------------------------------------- */

static void post(struct reload *r, unsigned worker, enum reload_step step) {
  struct reload_order *o;
  if (r->is_stopped) return; /* it may have ended */
  o = reload_order_new(step, r->attempt, &r->answers);
  if (step == RELOAD_BUILD) o->bundle = bundle_ref(r->candidate);
  if (step == RELOAD_UNDO && r->app) o->app = mem_strdup(r->app);
  if (step == RELOAD_UNDO && r->error) o->error = mem_strdup(r->error);
  if (mailbox_post_control(&r->hosts[worker]->worker.mailbox, &o->mail))
    r->waiting++;
  else
    reload_order_free(o); /* it has ended: there is nothing in it to be old or new */
}

static void on_patience(uv_timer_t *timer);

static void order(struct reload *r, enum state state, enum reload_step step, unsigned from,
                  unsigned to) {
  r->state = state;
  r->waiting = 0;
  r->connections = 0;
  r->step_us = 0;
  for (unsigned i = from; i < to; i++) post(r, i, step);
  uv_timer_start(&r->patience, on_patience, PATIENCE_MS, 0);
}

/* ---- the end of an attempt ------------------------------------------------------------------- */

static void tell(struct reload *r, bool is_ok, const char *text) {
  struct asker askers[ASKERS_MAX];
  unsigned n = r->n_askers;
  memcpy(askers, r->askers, n * sizeof *askers);
  memmove(r->askers, r->askers + n, r->n_waiting_askers * sizeof *r->askers);
  r->n_askers = r->n_waiting_askers;
  r->n_waiting_askers = 0;
  for (unsigned i = 0; i < n; i++) askers[i].done(askers[i].owner, is_ok, text);
}

static void forget_refusals(struct reload *r) {
  while (r->refusals) {
    struct refusal *next = r->refusals->next;
    bundle_unref(r->refusals->bundle);
    free(r->refusals);
    r->refusals = next;
  }
}

static void refuse(struct reload *r, struct bundle *bundle, const struct bundle_app *app) {
  struct refusal **at = &r->refusals;
  while (*at && strcmp((*at)->app->name, app->name) != 0) at = &(*at)->next;
  if (!*at) *at = mem_zalloc(sizeof **at);
  if ((*at)->bundle) bundle_unref((*at)->bundle);
  (*at)->bundle = bundle_ref(bundle);
  (*at)->app = app;
}

/* The attempt is over. retry: look again at what it left alone. */
static void finish(struct reload *r, bool is_ok, const char *text, bool retry) {
  bundle_unref(r->candidate);
  free(r->app);
  free(r->error);
  r->candidate = NULL;
  r->app = r->error = NULL;
  r->state = IDLE;
  uv_timer_stop(&r->patience);
  tell(r, is_ok, text);
  if (r->state != IDLE || r->is_stopped || (!r->is_asked && !r->is_noticed && !retry)) return;
  begin(r, !r->is_asked);
}

static void log_failure(struct reload *r) {
  struct log_line l;
  if (!log_begin(&l, LOG_ERROR, "reload failed, the old version serves on")) return;
  if (r->app) log_str(&l, "app", r->app);
  if (r->n > 1 && r->is_of_worker) log_uint(&l, "worker", r->failed_worker);
  log_block(&l, "error", r->error, strlen(r->error));
  log_end(&l);
}

static void undone(struct reload *r) {
  log_failure(r); /* not before everybody is back */
  const struct bundle_app *blamed = r->app ? bundle_find(r->candidate, r->app) : NULL;
  char *text = r->error;
  r->error = NULL;
  if (blamed) refuse(r, r->candidate, blamed);
  /* a developer's other changes must not wait for this one to be repaired */
  finish(r, false, text, blamed && r->is_careful);
  free(text);
}

/* r->app and r->error say what is wrong. */
static void undo(struct reload *r) {
  order(r, UNDOING, RELOAD_UNDO, 0, r->n);
  if (r->waiting == 0) undone(r);
}

static void fail(struct reload *r, const char *app, const char *pattern, ...) {
  char text[2048];
  va_list args;
  va_start(args, pattern);
  vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  free(r->app);
  free(r->error);
  r->app = app ? mem_strdup(app) : NULL;
  r->error = mem_strdup(text);
  undo(r);
}

/* Adds a line to text, as far as there is room. */
static void add_line(char *text, size_t n, const char *pattern, const char *name,
                     unsigned generation) {
  size_t at = strlen(text);
  snprintf(text + at, n - at, pattern, name, generation);
}

static void kept(struct reload *r) {
  unsigned ms = (unsigned)((uv_hrtime() - r->began) / 1000000);
  char text[4096] = "";
  struct log_line l;
  for (size_t i = 0; i < r->candidate->n_apps; i++) {
    const struct bundle_app *app = &r->candidate->apps[i];
    if (!app->is_changed) continue;
    bool is_new = !bundle_find(r->serving, app->name);
    add_line(text, sizeof text, is_new ? "loaded %s\n" : "reloaded %s, generation %u\n", app->name,
             app->generation);
    if (!log_begin(&l, LOG_INFO, is_new ? "app loaded" : "app reloaded")) continue;
    log_str(&l, "app", app->name);
    log_uint(&l, "generation", app->generation);
    log_uint(&l, "ms", ms);
    log_uint(&l, "pause_us", r->us);
    log_uint(&l, "connections", r->connections);
    log_end(&l);
  }
  for (size_t i = 0; i < r->serving->n_apps; i++) {
    const struct bundle_app *app = &r->serving->apps[i];
    if (bundle_find(r->candidate, app->name)) continue;
    add_line(text, sizeof text, "removed %s\n", app->name, 0);
    if (!log_begin(&l, LOG_INFO, "app removed")) continue;
    log_str(&l, "app", app->name);
    log_end(&l);
  }
  bundle_unref(r->serving);
  r->serving = bundle_ref(r->candidate);
  bool had_refusals = r->refusals != NULL;
  forget_refusals(r); /* what failed may work with what is there now */
  finish(r, true, text, had_refusals && r->is_careful);
}

/* ---- after a step ---------------------------------------------------------------------------- */

static void look_for_missing(uv_work_t *work) {
  struct reload *r = work->data;
  r->missing = NULL;
  for (size_t i = 0; i < r->candidate->n_apps && !r->missing; i++) {
    if (!r->candidate->apps[i].is_changed) continue;
    r->missing_app = r->candidate->apps[i].name;
    r->missing = bundle_app_missing(&r->candidate->apps[i]);
  }
}

static void on_looked(uv_work_t *work, int status) {
  struct reload *r = work->data;
  (void)status;
  if (r->is_closed) return;
  if (r->is_stopped) {
    fail(r, NULL, "the server is stopping");
  } else if (r->missing) {
    /* by the app itself, most likely: that it has no files any more must not end it */
    r->eaten = mem_realloc(r->eaten, (r->n_eaten + 1) * sizeof *r->eaten);
    r->eaten[r->n_eaten++] = mem_strdup(r->missing_app);
    fail(r, r->missing_app, "%s was removed while the app was loaded", r->missing);
  } else {
    order(r, SWAPPING, RELOAD_SWAP, 0, r->n);
    if (r->waiting == 0) fail(r, NULL, "the server is stopping");
  }
}

static void step_over(struct reload *r) {
  r->us += r->step_us;
  switch (r->state) {
  case BUILDING_FIRST:
    if (r->error) {
      undo(r);
      return;
    }
    order(r, BUILDING, RELOAD_BUILD, 1, r->n);
    if (r->waiting == 0) step_over(r);
    return;
  case BUILDING:
    if (r->error) {
      undo(r);
      return;
    }
    r->state = CHECKING;
    check(uv_queue_work(r->loop, &r->work, look_for_missing, on_looked) == 0);
    return;
  case SWAPPING:
    if (r->error) {
      undo(r);
      return;
    }
    order(r, KEEPING, RELOAD_KEEP, 0, r->n);
    if (r->waiting == 0) kept(r);
    return;
  case KEEPING: kept(r); return;
  case UNDOING: undone(r); return;
  case IDLE:
  case READING:
  case CHECKING: return;
  }
}

static void on_answer(void *owner, struct mail *mail) {
  struct reload *r = owner;
  struct reload_answer *a = (struct reload_answer *)mail;
  static const enum reload_step awaited[] = {
      [BUILDING_FIRST] = RELOAD_BUILD, [BUILDING] = RELOAD_BUILD, [SWAPPING] = RELOAD_SWAP,
      [KEEPING] = RELOAD_KEEP,         [UNDOING] = RELOAD_UNDO,
  };
  bool is_due = a->attempt == r->attempt && r->state != IDLE && r->state != READING &&
                r->state != CHECKING && a->step == awaited[r->state] && r->waiting > 0;
  if (!is_due) { /* patience had an end before it came */
    reload_answer_free(a);
    return;
  }
  r->connections += a->connections;
  if (a->us > r->step_us) r->step_us = a->us;
  if (!a->is_ok && !r->error) {
    r->error = a->error;
    r->app = a->app;
    r->is_of_worker = true;
    r->failed_worker = a->worker;
    a->error = a->app = NULL;
  }
  reload_answer_free(a);
  if (--r->waiting == 0) step_over(r);
}

static void on_patience(uv_timer_t *timer) {
  struct reload *r = timer->data;
  unsigned n = r->waiting;
  r->waiting = 0;
  if (r->state == KEEPING || r->state == UNDOING)
    step_over(r); /* the order stays in its mailbox and will be done */
  else if (r->state == BUILDING_FIRST || r->state == BUILDING || r->state == SWAPPING)
    fail(r, NULL, "%u of the workers did not answer within %d s", n, PATIENCE_MS / 1000);
}

/* ---- the beginning --------------------------------------------------------------------------- */

static void read_files(uv_work_t *work) {
  struct reload *r = work->data;
  locale_hold();
  r->read = bundle_read(r->settings->apps, r->read_error, sizeof r->read_error);
}

static bool was_eaten(const struct reload *r, const char *name) {
  for (size_t i = 0; i < r->n_eaten; i++)
    if (strcmp(r->eaten[i], name) == 0) return true;
  return false;
}

static void forget_eaten(struct reload *r, const char *name) {
  for (size_t i = 0; i < r->n_eaten; i++) {
    if (strcmp(r->eaten[i], name) != 0) continue;
    free(r->eaten[i]);
    r->eaten[i] = r->eaten[--r->n_eaten];
    return;
  }
}

/* What the files say is not always what is to be served. */
static void adjust(struct reload *r, struct bundle *b) {
  bundle_tell_left_out(b, r->serving);
  for (size_t i = 0; i < r->serving->n_apps; i++) {
    const struct bundle_app *old = &r->serving->apps[i];
    if (bundle_find(b, old->name))
      forget_eaten(r, old->name);
    else if (bundle_find_stray(b, old->name))
      bundle_refuse_stray(b, old->name);
    else if (was_eaten(r, old->name))
      bundle_retain(b, old);
  }
  for (const struct refusal *f = r->refusals; f && r->is_careful; f = f->next) {
    const struct bundle_app *now = bundle_find(b, f->app->name);
    const struct bundle_app *old = bundle_find(r->serving, f->app->name);
    if (!now || !bundle_app_equals(now, f->app)) continue;
    if (old)
      bundle_retain(b, old);
    else
      bundle_drop(b, f->app->name);
  }
}

static void warn_of_strays(const struct reload *r, const struct bundle *b) {
  for (size_t i = 0; i < b->n_strays; i++) {
    struct log_line l;
    if (b->strays[i].n_files == 0 || bundle_find(r->serving, b->strays[i].name)) continue;
    if (!log_begin(&l, LOG_WARN, "a folder with Lua files is no app without an init.lua")) continue;
    log_str(&l, "folder", b->strays[i].dir);
    log_end(&l);
  }
}

static void on_read(uv_work_t *work, int status) {
  struct reload *r = work->data;
  (void)status;
  r->candidate = r->read;
  r->read = NULL;
  if (r->is_closed) return;
  if (r->is_stopped) {
    fail(r, NULL, "the server is stopping");
    return;
  }
  if (!r->candidate) {
    fail(r, NULL, "%s", r->read_error);
    return;
  }
  adjust(r, r->candidate);
  warn_of_strays(r, r->candidate);
  if (bundle_compare(r->candidate, r->serving) == 0) {
    if (!r->is_careful) log_say(LOG_INFO, "nothing to reload: no app has changed");
    finish(r, true, "nothing has changed\n", false);
    return;
  }
  for (size_t i = 0; i < r->candidate->n_apps; i++) {
    const struct bundle_app *app = &r->candidate->apps[i];
    if (!app->is_changed || !app->error) continue;
    fail(r, app->name, "%s", app->error);
    return;
  }
  order(r, BUILDING_FIRST, RELOAD_BUILD, 0, 1);
  if (r->waiting == 0) fail(r, NULL, "the server is stopping");
}

static void begin(struct reload *r, bool is_careful) {
  r->state = READING;
  r->attempt++;
  r->is_careful = is_careful;
  r->is_asked = r->is_noticed = false;
  r->is_of_worker = false;
  r->us = 0;
  r->began = uv_hrtime();
  check(uv_queue_work(r->loop, &r->work, read_files, on_read) == 0);
}

void reload_ask(struct reload *r, reload_done *done, void *owner) {
  if (r->is_stopped || r->n_askers + r->n_waiting_askers >= ASKERS_MAX) {
    if (done) done(owner, false, r->is_stopped ? "the server is stopping" : "too many wait for it");
    return;
  }
  if (done) {
    r->askers[r->n_askers + r->n_waiting_askers] = (struct asker){done, owner};
    *(r->state == IDLE ? &r->n_askers : &r->n_waiting_askers) += 1;
  }
  if (r->state == IDLE)
    begin(r, false);
  else
    r->is_asked = true;
}

void reload_notice(struct reload *r) {
  if (r->is_stopped) return;
  if (r->state == IDLE)
    begin(r, true);
  else
    r->is_noticed = true;
}

void reload_pages(struct reload *r) {
  for (unsigned i = 0; i < r->n && !r->is_stopped; i++) {
    struct reload_order *o = reload_order_new(RELOAD_PAGES, 0, &r->answers);
    if (!mailbox_post_control(&r->hosts[i]->worker.mailbox, &o->mail)) reload_order_free(o);
  }
}

/* ---- life ------------------------------------------------------------------------------------ */

struct reload *reload_open(uv_loop_t *loop, const struct settings *settings, struct host *hosts[],
                           unsigned n, struct bundle *serving) {
  struct reload *r = mem_zalloc(sizeof *r);
  r->loop = loop;
  r->settings = settings;
  r->hosts = mem_dup(hosts, n * sizeof *hosts);
  r->n = n;
  r->serving = bundle_ref(serving);
  r->work.data = r;
  mailbox_open(&r->answers, loop, n * 8, 1024 * 1024, on_answer, r);
  uv_timer_init(loop, &r->patience);
  r->patience.data = r;
  return r;
}

void reload_stop(struct reload *r) {
  r->is_stopped = true;
}

void reload_close(struct reload *r) {
  r->is_stopped = r->is_closed = true;
  mailbox_close(&r->answers);
  uv_close((uv_handle_t *)&r->patience, NULL);
}

void reload_free(struct reload *r) {
  mailbox_fini(&r->answers);
  bundle_unref(r->serving);
  bundle_unref(r->candidate);
  forget_refusals(r);
  for (size_t i = 0; i < r->n_eaten; i++) free(r->eaten[i]);
  free(r->eaten);
  free(r->app);
  free(r->error);
  free(r->hosts);
  free(r);
}
