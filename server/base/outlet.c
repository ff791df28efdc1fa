/* SPDX-License-Identifier: MIT */
/* outlet.c -- a descriptor that is written to by a thread of its own, from a bounded queue.
 *
 * The queue is a ring of bytes. Who puts holds the lock; the thread that writes never does, so one
 * that crashed in the middle of a put does not keep the rest from being written. */
#include "base/outlet.h"

#include "base/locale.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  BATCH_BYTES = 8192,             /* written at once: a line of the log fits */
  PIECE_BYTES = OUTLET_BYTES / 4, /* a longer text is put in pieces */
};

struct outlet {
  int fd;
  outlet_notice *notice;
  void *owner;
  pthread_t thread;
  pthread_mutex_t lock; /* of put */
  sem_t ready;
  atomic_size_t put, taken;     /* bytes ever put; ever written or given up */
  atomic_uint_fast64_t missing; /* lines dropped that the thread has not seen; while there are any,
                                   everything is */
  atomic_uint_fast64_t dropped; /* ever */
  atomic_bool is_telling, is_ending, is_over;
  /* the thread's own */
  uint64_t lost; /* lines that are missing here */
  bool is_torn;  /* a line was begun and not ended */
  char batch[BATCH_BYTES];
  char ring[OUTLET_BYTES];
};

static uint64_t lines_in(const char *text, size_t n) {
  uint64_t lines = 0;
  for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
  return lines;
}

size_t outlet_write(int fd, const char *text, size_t n) {
  size_t at = 0;
  while (at < n) {
    ssize_t k = write(fd, text + at, n - at);
    if (k >= 0) {
      at += (size_t)k;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) { /* somebody who shares it wants it so */
      struct pollfd ready = {.fd = fd, .events = POLLOUT};
      if (poll(&ready, 1, -1) < 0 && errno != EINTR) return at;
    } else if (errno != EINTR) {
      return at;
    }
  }
  return at;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Copies what leaves next: whole lines in as much as a pipe takes in one piece; a line that is
 * longer alone. */
static size_t next_batch(struct outlet *o) {
  size_t from = atomic_load(&o->taken), n = atomic_load(&o->put) - from;
  if (n > BATCH_BYTES) n = BATCH_BYTES;
  size_t start = from % OUTLET_BYTES, first = n < OUTLET_BYTES - start ? n : OUTLET_BYTES - start;
  memcpy(o->batch, o->ring + start, first);
  memcpy(o->batch + first, o->ring, n - first);
  if (n <= PIPE_BUF) return n;
  const char *end = memrchr(o->batch, '\n', PIPE_BUF);
  if (!end) end = memchr(o->batch + PIPE_BUF, '\n', n - PIPE_BUF);
  return end ? (size_t)(end + 1 - o->batch) : n;
}

static bool write_lines(struct outlet *o, const char *text, size_t n) {
  if (o->is_torn && outlet_write(o->fd, "\n", 1) == 1) o->is_torn = false;
  size_t done = o->is_torn ? 0 : outlet_write(o->fd, text, n);
  if (done == n) return true;
  if (done > 0) o->is_torn = text[done - 1] != '\n';
  uint64_t lines = lines_in(text + done, n - done);
  o->lost += lines;
  atomic_fetch_add(&o->dropped, lines);
  return false;
}

/* Says what is missing here. True when nothing is, or it was said. */
static bool tell_lost(struct outlet *o) {
  char text[BATCH_BYTES];
  uint64_t lost = o->lost;
  if (lost == 0) return true;
  size_t n = o->notice(o->owner, text, sizeof text, lost);
  if (!write_lines(o, text, n)) {
    atomic_fetch_sub(&o->dropped, o->lost - lost); /* the notice itself was no loss */
    o->lost = lost;
    return false;
  }
  o->lost = 0;
  return true;
}

/* Writes the next batch. False: nothing waits. */
static bool write_batch(struct outlet *o) {
  size_t n = next_batch(o);
  if (n == 0) return false;
  if (tell_lost(o)) {
    write_lines(o, o->batch, n);
  } else {
    uint64_t lines = lines_in(o->batch, n);
    o->lost += lines;
    atomic_fetch_add(&o->dropped, lines);
  }
  atomic_fetch_add(&o->taken, n);
  return true;
}

static void drain(struct outlet *o) {
  for (;;) {
    bool is_missing = atomic_load(&o->missing) > 0;
    if (write_batch(o)) continue;
    if (!is_missing) return;
    /* nothing was put since the first line that is missing here, and all before it is written */
    atomic_store(&o->is_telling, true);
    o->lost += atomic_exchange(&o->missing, 0); /* from here on lines are taken again */
    tell_lost(o);
    atomic_store(&o->is_telling, false);
  }
}

static void *outlet_main(void *arg) {
  struct outlet *o = arg;
  locale_hold();
  do {
    while (sem_wait(&o->ready) != 0) continue;
    drain(o);
  } while (!atomic_load(&o->is_ending));
  drain(o);
  atomic_store(&o->is_over, true);
  return NULL;
}

/* ---- who has something to say ---------------------------------------------------------------- */

struct outlet *outlet_open(int fd, outlet_notice *notice, void *owner) {
  struct outlet *o = mem_zalloc(sizeof *o);
  sigset_t all, old;
  o->fd = fd;
  o->notice = notice;
  o->owner = owner;
  check(pthread_mutex_init(&o->lock, NULL) == 0 && sem_init(&o->ready, 0, 0) == 0);
  sigfillset(&all); /* signals are for the others */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int code = pthread_create(&o->thread, NULL, outlet_main, o);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (code == 0) return o;
  sem_destroy(&o->ready);
  pthread_mutex_destroy(&o->lock);
  free(o);
  errno = code;
  return NULL;
}

static void put_piece(struct outlet *o, const char *text, size_t n) {
  bool must_wake = true;
  pthread_mutex_lock(&o->lock);
  size_t at = atomic_load(&o->put);
  if (n > OUTLET_BYTES - (at - atomic_load(&o->taken)) || atomic_load(&o->missing) > 0) {
    uint64_t lines = lines_in(text, n);
    if (lines == 0) lines = 1; /* or nobody would hear of it */
    atomic_fetch_add(&o->missing, lines);
    atomic_fetch_add(&o->dropped, lines);
  } else {
    size_t start = at % OUTLET_BYTES, first = n < OUTLET_BYTES - start ? n : OUTLET_BYTES - start;
    memcpy(o->ring + start, text, first);
    memcpy(o->ring, text + first, n - first);
    atomic_store(&o->put, at + n);
    /* still at work on what came before: then it will look for more, and find this */
    must_wake = atomic_load(&o->taken) == at;
  }
  pthread_mutex_unlock(&o->lock);
  if (must_wake) sem_post(&o->ready);
}

void outlet_put(struct outlet *o, const char *text, size_t n) {
  for (size_t at = 0; at < n; at += PIECE_BYTES)
    put_piece(o, text + at, n - at < PIECE_BYTES ? n - at : PIECE_BYTES);
}

uint64_t outlet_dropped(const struct outlet *o) {
  return atomic_load(&o->dropped);
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_settled(struct outlet *o) {
  return atomic_load(&o->put) == atomic_load(&o->taken) && atomic_load(&o->missing) == 0 &&
         !atomic_load(&o->is_telling);
}

/* Looks again each millisecond: a lock or a condition must not be waited for in a signal handler.
 */
static bool wait_until(struct outlet *o, bool (*is_so)(struct outlet *), unsigned ms) {
  uint64_t end = now_ms() + ms;
  sem_post(&o->ready);
  while (!is_so(o)) {
    if (now_ms() >= end) return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return true;
}

bool outlet_settle(struct outlet *o, unsigned ms) {
  /* a crash of the very thread that writes: nobody to wait for */
  if (pthread_equal(pthread_self(), o->thread)) return false;
  return wait_until(o, is_settled, ms);
}

static bool is_over(struct outlet *o) {
  return atomic_load(&o->is_over);
}

bool outlet_close(struct outlet *o, unsigned ms) {
  atomic_store(&o->is_ending, true);
  if (!wait_until(o, is_over, ms)) {
    pthread_detach(o->thread);
    atomic_fetch_add(&o->missing, 1); /* see put_piece */
    return false;
  }
  pthread_join(o->thread, NULL);
  sem_destroy(&o->ready);
  pthread_mutex_destroy(&o->lock);
  free(o);
  return true;
}
