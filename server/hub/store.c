/* SPDX-License-Identifier: MIT */
/* store.c -- sessions that outlive connections: one thread with a queue in front of a keeper. */
#include "hub/store.h"

#include "base/locale.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

enum {
  SWEEP_SECONDS = 60, /* between two looks for sessions that are over */
};

struct store {
  uv_mutex_t opening; /* held while a keeper is opened */
  /* written under `opening` before the thread starts */
  const struct store_keeper *keeper; /* NULL: not open */
  void *self;                        /* the keeper's */
  uv_thread_t thread;
  uv_mutex_t lock;
  uv_cond_t wake;
  /* under lock */
  struct store_job *first, **last; /* wait for their turn */
  struct store_job *batch;         /* are being done */
  uint32_t count;                  /* of those that wait */
  size_t bytes;
  bool is_open, is_ending;
};

/* ---- fields and jobs ------------------------------------------------------------------------- */

void store_field_add(struct store_bytes *b, const char *key, size_t key_len, const char *value,
                     size_t value_len) {
  struct store_field field = {(uint32_t)key_len, value ? (uint32_t)value_len : STORE_REMOVED};
  size_t need = sizeof field + key_len + (value ? value_len : 0);
  if (b->cap - b->len < need) {
    size_t cap = b->cap ? b->cap * 2 : 256;
    while (cap - b->len < need) cap *= 2;
    b->data = mem_realloc(b->data, cap);
    b->cap = cap;
  }
  memcpy(b->data + b->len, &field, sizeof field);
  memcpy(b->data + b->len + sizeof field, key, key_len);
  if (value) memcpy(b->data + b->len + sizeof field + key_len, value, value_len);
  b->len += need;
}

bool store_field_next(const struct store_bytes *b, size_t *at, struct store_field *field,
                      const char **key, const char **value) {
  if (*at >= b->len) return false;
  memcpy(field, b->data + *at, sizeof *field);
  *key = b->data + *at + sizeof *field;
  *at += sizeof *field + field->key;
  *value = field->value == STORE_REMOVED ? NULL : b->data + *at;
  if (*value) *at += field->value;
  return true;
}

struct store_job *store_job_new(enum store_op op) {
  struct store_job *job = mem_zalloc(sizeof *job);
  job->op = op;
  atomic_init(&job->refs, 1);
  return job;
}

void store_job_unref(struct store_job *job) {
  if (atomic_fetch_sub(&job->refs, 1) != 1) return;
  free(job->in.data);
  free(job->out.data);
  free(job);
}

/* ---- the store's thread ---------------------------------------------------------------------- */

/* The batch is done: sends each job home, or lets it go when nobody waits. Under the lock, so that
 * no box goes meanwhile. */
static void answer(struct store *s) {
  struct store_job *job = s->batch;
  s->batch = NULL;
  while (job) {
    struct store_job *next = job->next;
    /* the mail carries our reference */
    if (!job->box || !mailbox_post_control(job->box, &job->mail)) store_job_unref(job);
    job = next;
  }
}

static void run(void *arg) {
  struct store *s = arg;
  time_t swept = 0;
  locale_hold();
  uv_mutex_lock(&s->lock);
  for (;;) {
    if (s->first) {
      s->batch = s->first;
      s->first = NULL;
      s->last = &s->first;
      s->count = 0;
      s->bytes = 0;
      uv_mutex_unlock(&s->lock);
      s->keeper->work(s->self, s->batch);
      uv_mutex_lock(&s->lock);
      answer(s);
    } else if (s->is_ending) {
      break;
    } else {
      uint64_t left = SWEEP_SECONDS;
      time_t now = time(NULL);
      if (now - swept >= SWEEP_SECONDS || now < swept) {
        uv_mutex_unlock(&s->lock);
        bool is_more = s->keeper->sweep(s->self, now);
        uv_mutex_lock(&s->lock);
        if (is_more) continue; /* jobs first */
        swept = now;
      } else {
        left = (uint64_t)(SWEEP_SECONDS - (now - swept));
      }
      if (!s->first && !s->is_ending) uv_cond_timedwait(&s->wake, &s->lock, left * 1000000000u);
    }
  }
  uv_mutex_unlock(&s->lock);
}

/* ---- for everybody --------------------------------------------------------------------------- */

struct store *store_new(void) {
  struct store *s = mem_zalloc(sizeof *s);
  s->last = &s->first;
  check(uv_mutex_init(&s->opening) == 0 && uv_mutex_init(&s->lock) == 0 &&
        uv_cond_init(&s->wake) == 0);
  return s;
}

/* Starts the thread. Without one the keeper is closed again. */
static bool start(struct store *s, const struct store_keeper *keeper, char **error) {
  s->keeper = keeper;
  if (uv_thread_create(&s->thread, run, s) != 0) {
    s->keeper = NULL;
    keeper->close(s->self);
    *error = mem_strdup("there is no thread for sessions: see ulimit -u, TasksMax= of systemd");
    return false;
  }
  uv_mutex_lock(&s->lock);
  s->is_open = true;
  uv_mutex_unlock(&s->lock);
  return true;
}

bool store_open(struct store *s, const struct store_keeper *keeper, const char *where,
                char **error) {
  bool is_open = true;
  uv_mutex_lock(&s->opening);
  if (!s->keeper) {
    s->self = keeper->open(where, error);
    is_open = s->self && start(s, keeper, error);
  }
  uv_mutex_unlock(&s->opening);
  return is_open;
}

void store_free(struct store *s) {
  if (!s) return;
  if (s->keeper) {
    uv_mutex_lock(&s->lock);
    s->is_ending = true;
    uv_cond_signal(&s->wake);
    uv_mutex_unlock(&s->lock);
    uv_thread_join(&s->thread);
    s->keeper->close(s->self);
  }
  uv_cond_destroy(&s->wake);
  uv_mutex_destroy(&s->lock);
  uv_mutex_destroy(&s->opening);
  free(s);
}

bool store_post(struct store *s, struct store_job *job) {
  size_t bytes = sizeof *job + job->in.len;
  uv_mutex_lock(&s->lock);
  bool is_taken = s->is_open && !s->is_ending && s->count < STORE_QUEUE_MAX &&
                  s->bytes + bytes <= STORE_QUEUE_BYTES;
  if (is_taken) {
    atomic_fetch_add(&job->refs, 1);
    job->next = NULL;
    *s->last = job;
    s->last = &job->next;
    s->bytes += bytes;
    if (s->count++ == 0) uv_cond_signal(&s->wake);
  }
  uv_mutex_unlock(&s->lock);
  return is_taken;
}

void store_forget(struct store *s, struct mailbox *box) {
  uv_mutex_lock(&s->lock);
  for (struct store_job *job = s->first; job; job = job->next)
    if (job->box == box) job->box = NULL;
  for (struct store_job *job = s->batch; job; job = job->next)
    if (job->box == box) job->box = NULL;
  uv_mutex_unlock(&s->lock);
}
