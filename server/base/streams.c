/* SPDX-License-Identifier: MIT */
/* streams.c -- standard input, output and error of the process. */
#include "base/streams.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct outlet *output, *error; /* NULL: not led */

void streams_secure(void) {
  int fd;
  do { /* the lowest free number is what open gives */
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

/* ---- what is missing ------------------------------------------------------------------------- */

static size_t notice_error(void *owner, char *text, size_t size, uint64_t lines) {
  struct log_line l;
  (void)owner;
  log_begin_always(&l, LOG_WARN, "lines were dropped here: standard error did not take them");
  log_uint(&l, "lines", lines);
  size_t n = log_finish(&l);
  if (n > size) n = size;
  memcpy(text, l.text, n);
  return n;
}

/* What reads standard output may not know our lines: it is the log that says so. */
static size_t notice_output(void *owner, char *text, size_t size, uint64_t lines) {
  struct log_line l;
  (void)owner, (void)text, (void)size;
  if (log_begin(&l, LOG_WARN, "lines were dropped: standard output did not take them")) {
    log_uint(&l, "lines", lines);
    log_end(&l);
  }
  return 0;
}

uint64_t streams_dropped(void) {
  return (output ? outlet_dropped(output) : 0) + (error ? outlet_dropped(error) : 0);
}

/* ---- the end --------------------------------------------------------------------------------- */

void streams_close(void) {
  fflush(stdout);
  fflush(stderr);
  /* kept for what is said after this; a stuck one must not be waited for twice */
  if (output) outlet_settle(output, STREAMS_LAST_MS);
  if (error) outlet_settle(error, STREAMS_LAST_MS);
}

static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
enum { N_FATAL = sizeof fatal / sizeof *fatal };
static struct sigaction before[N_FATAL];

/* The last words of a crash are what somebody will look for. Then it goes on as it would have
 * without us: a fault happens again, a signal that was sent is sent again. */
static void on_fatal(int signal, siginfo_t *info, void *context) {
  (void)context;
  for (int i = 0; i < N_FATAL; i++) sigaction(fatal[i], &before[i], NULL);
  if (error) outlet_settle(error, STREAMS_LAST_MS);
  if (info->si_code <= 0) raise(signal);
}

static void heed_fatal(void) {
  struct sigaction action = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < N_FATAL; i++) sigaction(fatal[i], &action, &before[i]);
}

/* ---- the streams of C ------------------------------------------------------------------------ */

static ssize_t write_stream(void *cookie, const char *text, size_t n) {
  outlet_put(cookie, text, n);
  return (ssize_t)n;
}

static FILE *stream_to(struct outlet *o, int mode) {
  FILE *f = fopencookie(o, "w", (cookie_io_functions_t){.write = write_stream});
  check(f && setvbuf(f, NULL, mode, BUFSIZ) == 0);
  return f;
}

bool streams_lead(void) {
  error = outlet_open(STDERR_FILENO, notice_error, NULL);
  if (!error) return false;
  output = outlet_open(STDOUT_FILENO, notice_output, NULL);
  if (!output) {
    int code = errno;
    outlet_close(error, 0);
    error = NULL;
    errno = code;
    return false;
  }
  fflush(stdout);
  stdout = stream_to(output, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF);
  stderr = stream_to(error, _IONBF);
  log_lead(error);
  atexit(streams_close);
  heed_fatal();
  return true;
}
