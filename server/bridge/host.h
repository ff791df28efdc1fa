/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_HOST_H
#define PERIGEE_HOST_H

#include "bridge/collector.h"
#include "bridge/json.h"
#include "bridge/lblocking.h"
#include "bridge/memory.h"
#include "bridge/task.h"
#include "hub/groups.h"
#include "net/worker.h"

#include <lua.h>
#include <stdatomic.h>

/* host.c -- a worker with Lua on it: made, loaded, listening, drained, gone.
 *
 * One host per worker thread. Everything here belongs to that thread; others reach it by mail. */

struct batch;
struct bundle;
struct settings;
struct listen_address;
struct routes;
struct consumer;
struct sightings;
struct store;

/* Lua functions that C calls, as registry references. */
struct host_entries {
  int call;           /* perigee.rpc.call */
  int failed;         /* perigee.rpc.failed */
  int unencodable;    /* perigee.rpc.unencodable */
  int refuse;         /* perigee.rpc.refuse */
  int connect;        /* perigee.lifecycle.connect */
  int connect_failed; /* perigee.lifecycle.connect_failed */
  int disconnect;     /* perigee.lifecycle.disconnect */
  int receive;        /* perigee.lifecycle.receive */
  int report;         /* perigee.report */
  int witness;        /* perigee.report.witness */
  int first_error;    /* perigee.report.first_error */
  int slow;           /* perigee.rpc.slow */
  int stopped;        /* perigee.rpc.stopped */
  int late;           /* perigee.rpc.late */
  int limit;          /* perigee.rpc.limit */
  int mail;           /* perigee.mail.deliver */
  int reload;         /* perigee.reload.step */
  int http_call;      /* perigee.http.call */
  int http_failed;    /* perigee.http.failed */
  int http_late;      /* perigee.http.late */
};

/* Connections by id, in order. */
struct conn_list {
  uint64_t *ids; /* owned */
  uint32_t n, cap;
};

struct host {
  struct worker worker;
  struct layer *layer; /* borrowed: all hosts share it */
  struct outbox outbox;
  struct groups groups;
  lua_State *L;         /* the main state; tasks run on coroutines of it */
  struct memory memory; /* L's */
  struct collector collector;
  struct tasks tasks;
  struct slice_watch slice;
  struct json_scratch scratch;
  char *shared_value;   /* owned: what shared_get is reading, or NULL */
  const void *array_mt; /* identity of the array metatable */
  int array_mt_ref;
  struct host_entries entries;
  const struct settings *settings; /* borrowed, read-only, shared by all hosts */
  struct blocking blocking;        /* Lua states of the thread pool's */
  struct store *store;             /* borrowed; shared by all hosts */
  uint32_t n_storing;              /* jobs it has from here */
  struct routes *routes;           /* owned; what the apps of today serve */
  struct consumer *consumers;      /* owned list: also those that routes lost but connections use */
  uint32_t n_raised;               /* texts of error() that are remembered */
  bool is_loading;                 /* an app: nothing can wait */
  struct consumer *inspector;      /* owned; NULL unless there is one: none of the apps' */
  struct sightings *sightings;     /* owned; NULL unless an inspector watches */
  unsigned admin_port;        /* where the inspector is shown when this is no dev; 0: nowhere */
  bool watches_conns;         /* signals want to hear of every connection */
  struct batch *late_batches; /* owned: those that go on in the next turn (call.c) */
  struct batch **late_batches_end;
  uint32_t n_late_batches;
  size_t held;               /* bytes that what is in flight holds, by estimate (held.c) */
  struct conn_list released; /* strictly ordered connections that may go on */
  struct conn_list put_off;  /* the same that had had their share */
  uint32_t n_farewells; /* disconnect hooks and receivers of server_draining that have not ended */
  uint64_t test_task;   /* which runs tests; 0: none */
  uint64_t quiet_task;  /* a test's task that waits for quiet; 0: none */
  uint32_t quiet_wait;  /* its wait */
  uint64_t quiet_activity; /* worker.activity of the last turn */
  struct deadline grace;   /* draining ends here at the latest */
  struct deadline retire;  /* looks whether consumers that are gone are still used */
  bool is_stopping;
};

/* The host of any Lua state or coroutine made by it. The lowest bit says that it is a task's own
 * coroutine (bridge/task.c). */
static inline struct host *host_of(lua_State *L) {
  return (struct host *)(*(uintptr_t *)lua_getextraspace(L) & ~(uintptr_t)1);
}

/* For C functions whose work grows with what they are given: at each step. Costs a load while no
 * slice is over; else see task_slice_due. */
static inline void slice_check(lua_State *L, const struct host *h) {
  if (slice_is_due(&h->slice)) task_slice_due(L);
}

/* The host of a connection. */
static inline struct host *host_of_conn(const struct conn *conn) {
  return conn->worker->owner;
}

/* Opens the loop and the Lua state. limits in settings are read when they are needed, so settings
 * may be filled in later. Layer and store must outlive it. lua_path: see state_open. False: no
 * memory. */
bool host_prepare(struct host *h, unsigned index, const struct settings *settings,
                  struct layer *layer, struct store *store, const char *lua_path,
                  size_t lua_memory);

/* The same, and loads the apps. Returns false with *error, malloc'd. */
bool host_open(struct host *h, unsigned index, const struct settings *settings, struct layer *layer,
               struct store *store, const struct bundle *apps, char **error);

/* Listens as the settings say, on `ports`, one per listen address; those that are 0 are filled in.
 * Returns false with *error, malloc'd. */
bool host_listen(struct host *h, unsigned *ports, char **error);
/* Why a listen address cannot be used and what to do about it, malloc'd. code: libuv's. */
char *host_listen_error(const struct listen_address *at, int code, const char *flag);

/* Says that and what is served now: to the log, in dev to people. Before host_run. */
void host_announce(struct host *h, const unsigned *ports);
/* Tells this worker's apps that all listen (signal server_started). Before host_run. */
void host_started(struct host *h);

/* Runs the loop until host_stop has done its work. */
void host_run(struct host *h);

/* Closes everything on the loop, so that host_run returns. */
void host_stop(struct host *h);

/* Twice after the grace time: for the answers of calls that were ended, then for disconnect hooks
 * of connections that were cut. */
enum { HOST_LAST_GRACE_MS = 2000 };

/* Kinds of mail. Any thread: drain, then end; or end at once. HOST_RELOAD is bridge/reload.h's,
 * HOST_STORED the store's. */
enum host_mail { HOST_DRAIN, HOST_STOP, HOST_RELOAD, HOST_STORED };
void host_post(struct host *h, enum host_mail what);

/* After host_run, or when host_open failed. Returns false when something leaked. */
bool host_close(struct host *h);
/* When no other host can send it mail any more. */
void host_free(struct host *h);

#endif
