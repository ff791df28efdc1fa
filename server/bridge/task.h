/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_TASK_H
#define PERIGEE_TASK_H

#include "bridge/holder.h"
#include "net/deadline.h"
#include "net/turn.h"

#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* task.c -- the only file that starts, resumes, wakes or ends Lua code.
 *
 *   FREE ──task_begin──▶ RUNNING ──core.park──▶ WAITING ──task_wake, deadline──▶ READY ──▶ RUNNING
 *    ▲                      │                                                      (next turn)
 *    └──── returned, or failed and was reported ◀──────────────────────────────────────┘
 *
 * A task is one coroutine with a number. Whoever wants to wake it holds that number and the number
 * of the wait, never a pointer. Each wait that is opened gets a number of its own, also after one
 * that was opened and never parked on: a waker that comes too late has an old number, and wakes
 * nobody. Waking only enqueues; the worker's turn resumes, with no Lua on the C stack. Worker's
 * thread only. */

struct host;
struct task;

/* What a task is for. All functions run on the worker's thread, outside Lua. */
struct task_kind {
  const char *name;
  /* A client waits for it: it is ended, and so answered, before the server goes. */
  bool has_client;
  /* The coroutine waits for the first time: memory it borrowed from the caller goes now. May be
   * NULL. */
  void (*waits)(struct task *t);
  /* Seconds the task may take in all, asked when it waits for the first time; 0: no limit. Runs in
   * the coroutine and may raise. NULL: no limit. */
  double (*limit)(lua_State *L, struct task *t);
  /* The Lua code returned; its results are gone. May be NULL. */
  void (*ended)(struct task *t);
  /* An error escaped. Must push a C function and one light userdata onto t->co; they run as the
   * task's second and last attempt, with `failed` at hand: see task_failure. NULL: the error is
   * reported by perigee.report. */
  void (*failed)(struct task *t);
  /* That failed as well, or there was no memory to begin: the last word, without Lua. May be NULL.
   */
  void (*gave_up)(struct task *t);
  /* The task ends, one way or the other: release what data holds. May be NULL. */
  void (*released)(struct task *t);
};

enum { TASK_DATA = 160 };

struct task {
  struct host *host;
  const struct task_kind *kind;
  lua_State *co;            /* anchored in the registry; NULL: it failed for good and is gone */
  int anchor;               /* registry reference of co */
  uint32_t slot;            /* in host->tasks */
  uint64_t serial;          /* of this use of the slot; part of the id */
  uint32_t wait;            /* number of the wait that was opened last */
  int n_args;               /* READY: values on co to resume it with */
  uint8_t state;            /* enum task_state */
  bool has_waited;          /* kind->waits was called */
  bool is_failing;          /* the second attempt runs */
  bool is_open;             /* that wait: nobody has woken or ended it yet */
  bool is_early;            /* woken before it parked: early holds the values */
  int early;                /* registry reference of a table, or of nil: there are none */
  int failure;              /* is_failing: registry reference of {error, dead coroutine} */
  bool is_exhausted;        /* its error is that Lua's memory is */
  bool is_closing;          /* an error has escaped: what is left to close is closed */
  bool is_forgiven;         /* task_forgive was called */
  bool is_unwinding;        /* a pcall has caught one, and closes what lies between */
  uint8_t excuse;           /* enum task_excuse: for the clean-up after an error */
  uint8_t stop;             /* enum task_stop: why it must end; told at its next wait */
  double stop_seconds;      /* the limit that it ran over */
  const char *path;         /* borrowed: the consumer's, for the log; or NULL */
  uint64_t conn;            /* for whose connection it works and is charged; 0: for none */
  struct task *next;        /* free or ready list */
  struct deadline deadline; /* of the wait */
  struct deadline limit;    /* of the task, or of its excuse */
  _Alignas(16) unsigned char data[TASK_DATA]; /* the kind's */
};

/* Why a task is ended from outside. */
enum task_stop { STOP_NOT, STOP_TIMEOUT, STOP_SLICE, STOP_CANCELLED, STOP_SHUTDOWN };

enum task_excuse { EXCUSE_NONE, EXCUSE_NOW, EXCUSE_OVER };

enum { TASK_EXCUSE_MS = 5000 };

enum task_state { TASK_FREE, TASK_READY, TASK_RUNNING, TASK_WAITING };

struct tasks {
  struct task **slots;
  uint32_t n_slots;
  uint32_t *vacant; /* owned stack: slots without a task */
  uint32_t n_vacant;
  uint64_t serial; /* of the last task begun */
  struct task *free;
  uint32_t n_free;
  struct task *ready, **ready_end;
  struct late *late, **late_end; /* owned: ready tasks of those who have had their share */
  struct turn_share share;       /* of what works for no connection */
  struct task *running;          /* at most one: Lua is never entered from Lua */
  struct nested *nested; /* coroutines of the app's own that run inside it, innermost first */
};

/* What the watchdog thread and a worker tell each other about a slice, the time that Lua runs
 * without waiting. Written with relaxed atomics: a late look costs a tick, nothing more. */
struct slice_watch {
  atomic_uint serial;   /* odd while Lua runs; the worker counts it up at each border */
  atomic_uint request;  /* by the watchdog: serial << 2 | enum slice_request; 0: none */
  uint32_t last;        /* watchdog's: serial at its last tick */
  uint64_t since;       /* watchdog's: when it saw that serial first, ms */
  uint8_t asked;        /* watchdog's: requests made for that serial */
  uint32_t grace;       /* worker's: looks that task_slice_due lets pass, see there */
  struct holder holder; /* what does not end */
};
enum slice_request { SLICE_NONE, SLICE_WARN, SLICE_STOP };

void tasks_init(struct host *h);
/* Releases all tasks without running them. Before lua_close. */
void tasks_fini(struct host *h);

/* A new task with an empty coroutine. NULL when there is no memory for one. */
struct task *task_begin(struct host *h, const struct task_kind *kind);

/* For the log, and whose share of the turn its time is: what the task works for. path must outlive
 * it. */
void task_names(struct task *t, const char *path, uint64_t conn);

/* Runs body(t) now, until it returns or waits. The body is a C function that gets the task as light
 * userdata; it runs protected, so it may raise and allocate. No Lua may be on the C stack. */
void task_run(struct task *t, lua_CFunction body);
/* The same for a body that protects what it calls by task_callk: that costs less than to protect it
 * all. It finds the task at index 1, and what task_callk needs at 2. */
void task_run_bare(struct task *t, lua_CFunction body);
/* lua_callk within such a body. k gets its status first to task_raised. */
int task_callk(lua_State *L, int n_args, int n_results, lua_KContext ctx, lua_KFunction k);
/* True for the status of a call that raised, whose error is on top: then on with task_raise. */
static inline bool task_raised(int status) {
  return status != LUA_OK && status != LUA_YIELD;
}
int task_raise(lua_State *L, int status);
/* As task_run, on the worker's next turn: callable from anywhere. */
void task_run_soon(struct task *t, lua_CFunction body);

/* Runs ready tasks, those that become ready meanwhile not. What a connection has more of than fits
 * into its share of a turn waits for the next, in order. True when there are some left. */
bool tasks_turn(struct host *h);

/* Never used twice within a worker. */
uint64_t task_id(const struct task *t);
struct task *task_find(struct host *h, uint64_t id);

/* Ends a task at its next wait, at once when it waits now: an error is raised there, and again at
 * each wait after it. The __close methods that run for it may wait, for TASK_EXCUSE_MS in all. */
void task_stop(struct task *t, enum task_stop why, double seconds);
/* It has been ended, and may wait again: for what deals with that, and for TASK_EXCUSE_MS in all.
 */
void task_forgive(struct task *t);

/* Ends all tasks that a client waits for: the server goes. */
void tasks_shut_down(struct host *h);

/* The worker's thread, once, before any Lua runs: from then on slice_watch_tick can reach it. */
void slice_watch_begin(struct host *h);
/* Watchdog's thread, every 50 ms or so: has this worker's Lua run for too long without waiting?
 * After warn_ms the line that runs is logged, after stop_ms the code is ended with an error that
 * pcall cannot keep. Costs the worker nothing until then. */
void slice_watch_tick(struct host *h, uv_thread_t thread, uint64_t now_ms, uint64_t warn_ms,
                      uint64_t stop_ms);

/* What is asked of the slice that runs now: one that came too late for the slice before it is not
 * this one's. */
static inline enum slice_request slice_wanted(const struct slice_watch *s) {
  unsigned request = atomic_load_explicit(&s->request, memory_order_relaxed);
  unsigned serial = atomic_load_explicit(&s->serial, memory_order_relaxed);
  return (request ^ serial << 2) < 4 ? (enum slice_request)(request & 3) : SLICE_NONE;
}

/* For C functions whose work grows with what they are given: a hook runs between Lua's instructions
 * only, so they look for themselves, at each step (see slice_check in bridge/host.h). */
static inline bool slice_is_due(const struct slice_watch *s) {
  return __builtin_expect(atomic_load_explicit(&s->request, memory_order_relaxed) != SLICE_NONE, 0);
}
/* Then: warns and returns, or ends the code as the hook does and does not return. Leaves the stack
 * as it was [-0, +0, e]. */
void task_slice_due(lua_State *L);

/* For C functions that must not raise: they fail in a way of their own, and the code that called
 * them ends at its next instruction. */
static inline bool slice_is_over(const struct slice_watch *s) {
  return slice_is_due(s) && slice_wanted(s) == SLICE_STOP;
}

/* Wakes a wait without values, or before its task has parked on it. False when it is over. */
bool task_wake(struct host *h, uint64_t id, uint32_t wait);

/* For a kind's failed body: pushes the error and the dead coroutine (or nil) [-0, +2, m]. */
void task_failure(lua_State *L, struct task *t);

/* Runs fn(L) protected on the main state, for short work that does not wait: loading, reporting.
 * fn gets arg as light userdata; up to nresults values stay on host->L. Returns false with an error
 * value on host->L instead. */
bool task_protect(struct host *h, lua_CFunction fn, void *arg, int nresults);

/* lua_pcall for states that are no worker's: without and with a message handler at that index. True
 * when it returned. */
bool task_pcall(lua_State *L, int n_args, int n_results);
bool task_pcall_with(lua_State *L, int n_args, int n_results, int handler);

/* For luv: runs a callback, function and arguments on top of L, as a task of its own, so that it
 * may wait. Matches luv_CFpcall. */
int task_callback(lua_State *L, int n_args, int n_results, int flags);

/* ---- for Lua: core.* ------------------------------------------------------------------------- */

/* spawn(fn, ...): a task for a Lua function, run on the next turn; it works for the connection that
 * the running task works for. Returns the task's id. */
int l_spawn(lua_State *L);
/* wait_open(): id of the running task and the number of a new wait, which ends the one before. To
 * be opened before what will wake it begins. Raises where nothing can wait. */
int l_wait_open(lua_State *L);
/* park(seconds or nil[, wait]): waits until woken (true, values) or the time is over (false). With
 * the number from wait_open it returns at once when that wait was woken meanwhile; without one it
 * is a wait that nobody can wake. Yields. */
int l_park(lua_State *L);
/* wake(task, wait, ...): true, or false when that wait is over. */
int l_wake(lua_State *L);
/* now(): seconds, monotonic. */
int l_now(lua_State *L);
/* running(): id of the running task, or nil. */
int l_running(lua_State *L);
/* loading(is_loading): from now on (or no longer) the code of an app that is being loaded runs. */
int l_loading(lua_State *L);
int l_is_loading(lua_State *L);
/* cancel(task): task_stop(STOP_CANCELLED). False when there is none. */
int l_cancel(lua_State *L);
/* is_task(task): is it still there? */
int l_is_task(lua_State *L);
/* deadline(task): now() at which its time is over, or nil when that is not set. */
int l_deadline(lua_State *L);
/* is_stopping(): is this code being ended because its slice is over? */
int l_is_stopped(lua_State *L);
int l_is_stopping(lua_State *L);
/* coroutine.close for everybody: as Lua's, but a __close method that loops can be ended. */
int l_close_coroutine(lua_State *L);
/* pcall and xpcall for apps: as Lua's, but what is closed for an error may wait though the task is
 * being ended. */
int l_pcall(lua_State *L);
int l_xpcall(lua_State *L);
/* coroutine.resume and coroutine.wrap for everybody: a perigee wait inside an app's own coroutine
 * suspends the whole task, not just that coroutine. */
int l_resume(lua_State *L);
int l_wrap(lua_State *L);

#endif
