/* SPDX-License-Identifier: MIT */
/* main.c -- reads the command line, starts the workers, waits for signals, stops in order. */
#include "base/first.h"
#include "base/hash.h"
#include "base/locale.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/printable.h"
#include "base/streams.h"
#include "bridge/command.h"
#include "bridge/host.h"
#include "bridge/reload.h"
#include "hub/broker.h"
#include "hub/bundle.h"
#include "hub/store.h"
#include "hub/watch.h"
#include "net/listener.h"
#include "net/remote.h"
#include "wire/handshake.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
  WATCHDOG_MS = 50,
  FILES_OF_PROCESS =
      16,              /* standard streams, loops of command and control, signals, a file of apps */
  FILES_OF_WORKER = 8, /* its loop and mailbox, one connection and one file */
  LEAVE_MS = 3000,     /* after the last grace: for what cannot be ended from outside */
};

/* One worker's thread. The control thread waits for each step before it asks for the next. */
struct crew {
  uv_thread_t thread;
  struct host host;
  struct control *control;
  uv_sem_t done, go;   /* a step is done; take the next */
  atomic_bool is_over; /* it will do nothing any more but end */
  bool is_ok;
  bool is_clean;
  bool is_cancelled; /* after `go`: end instead */
  char *error;
  unsigned ports[LISTEN_MAX];
};

struct control {
  uv_loop_t loop;
  uv_signal_t signals[3];
  uv_async_t ended; /* a worker's thread has ended its loop */
  uv_timer_t watchdog;
  uv_timer_t leave; /* runs since the first signal */
  struct crew *crews;
  unsigned n;
  bool is_stopping;
  struct store *store; /* sessions; opened by the first app that has some */
  struct settings settings;
  struct layer layer;
  struct redis_url redis; /* host NULL: the memory layer */
  struct broker broker;   /* when there is a Redis */
  unsigned ports[LISTEN_MAX];
  int reserved[LISTEN_MAX]; /* sockets that hold the ports until all workers listen */
  unsigned n_reserved;
  struct bundle *apps; /* what the workers load when they start */
  struct reload *reload;
  struct watch *watch;   /* or NULL */
  struct remote *remote; /* or NULL */
};

/* As far as this user may. Returns how many files the process may open. */
static uint64_t raise_file_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return UINT64_MAX;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : UINT64_MAX;
}

/* What a loop cannot be made without would else be found out in the middle of making it. */
static bool has_files(uint64_t files, uint64_t needed, const char *what) {
  if (files >= needed) return true;
  fprintf(
      stderr,
      "perigee: this process may open %llu files, and %s needs at least %llu (RLIMIT_NOFILE) -- "
      "raise it: ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker\n",
      (unsigned long long)files, what, (unsigned long long)needed);
  return false;
}

static const char thread_cure[] =
    "see ulimit -u and -v, TasksMax= of systemd, --pids-limit of docker";

/* libuv's pool reads files, looks names up, hashes passwords and runs perigee.blocking: what the
 * workers' blocking functions may take at most, and four threads for the rest. */
static void size_thread_pool(unsigned workers) {
  char text[16];
  snprintf(text, sizeof text, "%u", workers * BLOCKING_AT_ONCE + 4);
  setenv("UV_THREADPOOL_SIZE", text, 0);
}

/* ---- a worker's thread ----------------------------------------------------------------------- */

static void crew_main(void *arg) {
  struct crew *crew = arg;
  const struct settings *settings = &crew->control->settings;
  unsigned index = (unsigned)(crew - crew->control->crews);
  locale_hold();
  if (settings->workers > 1) log_worker(index);
  crew->is_ok = host_open(&crew->host, index, settings, &crew->control->layer, crew->control->store,
                          crew->control->apps, &crew->error);
  uv_sem_post(&crew->done);
  uv_sem_wait(&crew->go);
  if (crew->is_ok && !crew->is_cancelled) {
    memcpy(crew->ports, crew->control->ports, sizeof crew->ports);
    crew->is_ok = host_listen(&crew->host, crew->ports, &crew->error);
    if (crew->is_ok && index == 0) host_announce(&crew->host, crew->ports);
  }
  uv_sem_post(&crew->done);
  uv_sem_wait(&crew->go);
  if (crew->is_ok && !crew->is_cancelled) {
    slice_watch_begin(&crew->host);
    host_started(&crew->host);
    host_run(&crew->host);
  }
  crew->is_clean = host_close(&crew->host);
  atomic_store(&crew->is_over, true);
  uv_async_send(&crew->control->ended);
}

/* All workers have done their step? If one failed, says why. */
static bool step_done(struct control *c) {
  bool is_ok = true;
  for (unsigned i = 0; i < c->n; i++) {
    uv_sem_wait(&c->crews[i].done);
    if (c->crews[i].is_ok) continue;
    /* the first error is enough: the others are its echoes */
    if (is_ok && c->crews[i].error) fprintf(stderr, "perigee: %s\n", c->crews[i].error);
    free(c->crews[i].error);
    c->crews[i].error = NULL;
    is_ok = false;
  }
  return is_ok;
}

/* On to the next step, or to the end. */
static void step_on(struct control *c, bool is_ok) {
  for (unsigned i = 0; i < c->n; i++) {
    c->crews[i].is_cancelled = !is_ok;
    uv_sem_post(&c->crews[i].go);
  }
}

/* ---- the control thread ---------------------------------------------------------------------- */

/* Threads that run C code, or a function of perigee.blocking that loops, cannot be ended: when all
 * who could stop have had their time, the process goes without them. */
static void on_leave(uv_timer_t *timer) {
  (void)timer;
  log_say(LOG_ERROR, "a thread does not end (perigee.blocking, or a C library): leaving it behind");
  streams_close();
  _exit(1);
}

static void on_signal(uv_signal_t *handle, int signal) {
  struct control *c = handle->data;
  if (signal == SIGHUP && !c->settings.is_dev) {
    reload_ask(c->reload, NULL, NULL);
    return;
  }
  reload_stop(c->reload);
  log_say(LOG_INFO, c->is_stopping ? "stopping at once" : "draining");
  for (unsigned i = 0; i < c->n; i++)
    host_post(&c->crews[i].host, c->is_stopping ? HOST_STOP : HOST_DRAIN);
  uv_timer_start(&c->leave, on_leave,
                 (c->is_stopping ? 0 : c->settings.grace_ms + 2 * HOST_LAST_GRACE_MS) + LEAVE_MS,
                 0);
  c->is_stopping = true;
}

static void on_watchdog(uv_timer_t *timer) {
  struct control *c = timer->data;
  log_tell_suppressed(false);
  for (unsigned i = 0; i < c->n; i++)
    slice_watch_tick(&c->crews[i].host, c->crews[i].thread, uv_now(&c->loop),
                     c->settings.slice_warn_ms, c->settings.slice_stop_ms);
}

static void on_ended(uv_async_t *async) {
  struct control *c = async->data;
  /* sends are coalesced, so look at all; until the last one is over this loop must go on, as the
   * others' messages go through it */
  for (unsigned i = 0; i < c->n; i++)
    if (!atomic_load(&c->crews[i].is_over)) return;
  for (unsigned i = 0; i < c->n; i++) uv_thread_join(&c->crews[i].thread);
  uv_close((uv_handle_t *)&c->watchdog, NULL);
  uv_close((uv_handle_t *)&c->leave, NULL);
  for (int i = 0; i < 3; i++) uv_close((uv_handle_t *)&c->signals[i], NULL);
  uv_close((uv_handle_t *)async, NULL);
  if (c->redis.host) broker_close(&c->broker);
  reload_close(c->reload);
  if (c->watch) watch_close(c->watch);
  if (c->remote) remote_close(c->remote);
}

/* Reads the code of all apps. False after saying what is wrong. */
static bool read_apps(struct control *c) {
  char error[1024];
  c->apps = bundle_read(c->settings.apps, error, sizeof error);
  if (!c->apps) {
    fprintf(stderr, "perigee: %s\n", error);
    return false;
  }
  bundle_compare(c->apps, NULL);
  bundle_tell_left_out(c->apps, NULL);
  for (size_t i = 0; i < c->apps->n_apps; i++) {
    if (!c->apps->apps[i].error) continue;
    fprintf(stderr, "perigee: %s\n", c->apps->apps[i].error);
    return false;
  }
  return true;
}

static void open_reload(struct control *c) {
  struct host **hosts = mem_alloc(c->n * sizeof *hosts);
  for (unsigned i = 0; i < c->n; i++) hosts[i] = &c->crews[i].host;
  c->reload = reload_open(&c->loop, &c->settings, hosts, c->n, c->apps);
  bundle_unref(c->apps);
  c->apps = NULL;
  free(hosts);
}

static void on_code(void *owner) {
  reload_notice(((struct control *)owner)->reload);
}

static void on_pages(void *owner) {
  reload_pages(((struct control *)owner)->reload);
}

static void on_reloaded(void *owner, bool is_ok, const char *text) {
  remote_answer(owner, is_ok, text);
}

static void on_command(void *owner, struct remote_client *client, const char *line) {
  struct control *c = owner;
  if (strcmp(line, "reload") == 0)
    reload_ask(c->reload, on_reloaded, client);
  else
    remote_answer(client, false, "the server does not know this command\n");
}

/* For perigee reload. A server without it serves all the same. */
static void open_remote(struct control *c) {
  int code;
  struct log_line l;
  c->remote = remote_open(&c->loop, c->settings.apps, on_command, c, &code);
  if (code == 0 || !log_begin(&l, LOG_WARN, "'perigee reload' will not reach this server")) return;
  log_str(&l, "why", uv_strerror(code));
  log_str(&l, "instead", "send it SIGHUP");
  log_end(&l);
}

/* ---- the layer and the ports -------------------------------------------------------------------
 */

/* False, having said why, when Redis does not want us; one that is away may come later. */
static bool open_layer(struct control *c) {
  const struct settings *s = &c->settings;
  const char *why;
  if (!s->layer) return true;
  if (!redis_url_parse(s->layer, &c->redis, &why)) {
    fprintf(stderr, "perigee: setting layer: %s\n", why);
    return false;
  }
  broker_open(&c->broker, &c->layer, &c->loop,
              (struct broker_options){
                  .url = &c->redis, .prefix = s->layer_prefix, .timeout_ms = s->layer_ms});
  if (broker_settle(&c->broker, &why)) return true;
  size_t len;
  char *said = printable_copy(why, strlen(why), &len);
  fprintf(stderr, "perigee: setting layer: %s refuses: %s -- check user, password and database\n",
          c->redis.shown, said);
  free(said);
  return false;
}

/* With several workers the ports are taken here: a second server on the same port is an error, not
 * a silent partner. */
static bool reserve_ports(struct control *c) {
  const struct settings *s = &c->settings;
  for (unsigned i = 0; i < s->n_listen; i++) {
    c->ports[i] = s->listen[i].port;
    if (c->n == 1) continue;
    int code =
        listener_reserve(s->listen[i].address, &c->ports[i],
                         s->listen[i].is_v6_only ? LISTEN_V6_ONLY : 0, &c->reserved[c->n_reserved]);
    if (code == 0) {
      c->n_reserved++;
      continue;
    }
    char *error = host_listen_error(&s->listen[i], code, "--listen");
    fprintf(stderr, "perigee: %s\n", error);
    free(error);
    return false;
  }
  return true;
}

static void start_crews(struct control *c) {
  c->crews = mem_zalloc(c->n * sizeof *c->crews);
  for (unsigned i = 0; i < c->n; i++) {
    struct crew *crew = &c->crews[i];
    crew->control = c;
    check(uv_sem_init(&crew->done, 0) == 0 && uv_sem_init(&crew->go, 0) == 0);
    int code = uv_thread_create(&crew->thread, crew_main, crew);
    if (code == 0) continue;
    fprintf(stderr, "perigee: cannot start worker %u of %u: %s -- %s\n", i, c->n, uv_strerror(code),
            thread_cure);
    streams_close();
    _exit(1); /* those that have started wait for all */
  }
}

static bool end_crews(struct control *c) {
  bool is_clean = true;
  for (unsigned i = 0; i < c->n; i++) {
    is_clean = is_clean && c->crews[i].is_clean;
    uv_sem_destroy(&c->crews[i].done);
    uv_sem_destroy(&c->crews[i].go);
    free(c->crews[i].error);
  }
  if (c->redis.host) broker_fini(&c->broker); /* what it still sends finds closed mailboxes */
  for (unsigned i = 0; i < c->n; i++) host_free(&c->crews[i].host);
  free(c->crews);
  return is_clean;
}

/* SIGHUP: in dev the terminal has gone, which ends it, unless nohup said otherwise. */
static bool is_heeded(const struct control *c, int signal) {
  struct sigaction now;
  return signal != SIGHUP || !c->settings.is_dev || sigaction(signal, NULL, &now) != 0 ||
         now.sa_handler != SIG_IGN;
}

/* Until the apps are loaded a signal ends the process the usual way: nothing is lost by it. From
 * before the log says "listening" on, it is ours. */
static bool run_crews(struct control *c) {
  static const int signals[3] = {SIGINT, SIGTERM, SIGHUP};
  check(uv_async_init(&c->loop, &c->ended, on_ended) == 0);
  c->ended.data = c;
  uv_timer_init(&c->loop, &c->leave);
  start_crews(c);
  bool is_up = step_done(c);
  open_reload(c);
  if (is_up) open_remote(c);
  if (c->settings.is_watching)
    c->watch = watch_open(&c->loop, c->settings.apps, (struct watch_owner){on_code, on_pages, c});
  for (int i = 0; i < 3; i++) {
    uv_signal_init(&c->loop, &c->signals[i]);
    c->signals[i].data = c;
    if (is_heeded(c, signals[i])) uv_signal_start(&c->signals[i], on_signal, signals[i]);
  }
  step_on(c, is_up);
  is_up = step_done(c) && is_up;
  step_on(c, is_up);
  for (unsigned i = 0; i < c->n_reserved; i++) close(c->reserved[i]);
  uv_timer_init(&c->loop, &c->watchdog);
  c->watchdog.data = c;
  uv_timer_start(&c->watchdog, on_watchdog, WATCHDOG_MS, WATCHDOG_MS);
  uv_run(&c->loop, UV_RUN_DEFAULT);
  reload_free(c->reload);
  if (c->watch) watch_free(c->watch);
  if (c->remote) remote_free(c->remote);
  bool is_clean = end_crews(c);
  log_tell_suppressed(true);
  if (is_up) log_say(LOG_INFO, "stopped");
  return is_up && is_clean;
}

static int serve(struct control *c) {
  const struct settings *s = &c->settings;
  bool is_good;
  const char *no_color = getenv("NO_COLOR");
  log_open(STDERR_FILENO, s->log_level,
           s->is_dev && s->log_format == LOG_TEXT ? LOG_DEV : s->log_format,
           isatty(STDERR_FILENO) && !(no_color && *no_color));
  log_set_quiet(s->is_dev ? LOG_INFO : LOG_DEBUG);
  if (!streams_lead()) {
    fprintf(stderr, "perigee: cannot start a thread: %s -- %s\n", strerror(errno), thread_cure);
    return 1;
  }
  c->n = s->workers;
  layer_init(&c->layer, c->n, s->shared_memory);
  c->store = store_new();
  check(uv_loop_init(&c->loop) == 0);
  is_good = read_apps(c) && open_layer(c) && reserve_ports(c);
  if (is_good) {
    is_good = run_crews(c);
  } else {
    for (unsigned i = 0; i < c->n_reserved; i++) close(c->reserved[i]);
    if (c->redis.host) {
      broker_close(&c->broker);
      uv_run(&c->loop, UV_RUN_DEFAULT);
      broker_fini(&c->broker);
    }
  }
  check(uv_loop_close(&c->loop) == 0);
  store_free(c->store);
  layer_fini(&c->layer);
  bundle_unref(c->apps);
  redis_url_free(&c->redis);
  return is_good ? 0 : 1;
}

int main(int argc, char **argv) {
  static struct control control;
  int exit_code = 0;
  streams_secure();
  first_be_two();
  locale_hold();
  signal(SIGPIPE, SIG_IGN); /* libuv does not shield us: a write to a gone client would end us */
  signal(SIGXFSZ, SIG_IGN); /* nor would a file at its limit (ulimit -f): that write fails */
  uint64_t files = raise_file_limit();
  if (!has_files(files, FILES_OF_PROCESS, "the program")) return 1;
  hash_init();
  handshake_init();
  argv = uv_setup_args(argc, argv);
  if (!command_run(argc, argv, &control.settings, &exit_code)) return exit_code;
  size_thread_pool(control.settings.workers);
  unsigned per_worker = FILES_OF_WORKER + control.settings.n_listen;
  if (has_files(files, FILES_OF_PROCESS + control.settings.workers * per_worker,
                "a server with these workers"))
    exit_code = serve(&control);
  else
    exit_code = 1;
  settings_fini(&control.settings);
  uv_library_shutdown();
  return exit_code;
}
