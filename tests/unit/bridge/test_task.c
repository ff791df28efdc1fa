/* SPDX-License-Identifier: MIT */
/* test_task.c -- tasks: a waker that comes late wakes nobody, whatever became of the wait it was
 * for; deadlines, ends from outside, and what a task leaves behind. Without a socket. */
#include "../unit.h"

#include "bridge/host.h"
#include "bridge/settings.h"
#include "hub/store.h"

#include <lauxlib.h>
#include <pthread.h>
#include <signal.h>

enum { PLENTY = 64 * 1024 * 1024 };

static struct settings settings;
static struct layer layer;
static struct store *store;
static struct host *h;
static uint64_t began; /* on the clock, which stands still unless it is moved */

/* rpc.stopped and report.report, as far as tasks need them. */
static int stopped(lua_State *L) {
  lua_pushfstring(L, "stopped: %d", (int)lua_tointeger(L, 1));
  return 1;
}

static int n_reported;
static char reported[200];

static int report(lua_State *L) {
  n_reported++;
  snprintf(reported, sizeof reported, "%s", luaL_tolstring(L, 1, NULL));
  return 0;
}

static int open_world(lua_State *L) {
  lua_pushcfunction(L, stopped);
  h->entries.stopped = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushcfunction(L, report);
  h->entries.report = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.core");
  lua_call(L, 1, 1);
  lua_setglobal(L, "core");
  lua_newtable(L);
  lua_setglobal(L, "seen");
  return 0;
}

static int set_up(void **state) {
  (void)state;
  n_reported = 0;
  reported[0] = '\0';
  layer_init(&layer, 1, PLENTY);
  store = store_new();
  h = malloc(sizeof *h);
  assert_non_null(h);
  assert_true(host_prepare(h, 0, &settings, &layer, store, NULL, PLENTY));
  deadlines_freeze(&h->worker.deadlines);
  began = deadlines_now(&h->worker.deadlines);
  assert_true(task_protect(h, open_world, NULL, 0));
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  assert_true(host_close(h));
  host_free(h);
  store_free(store);
  layer_fini(&layer);
  free(h);
  return 0;
}

static int load_body(lua_State *L) {
  if (luaL_loadstring(L, lua_touserdata(L, 1)) != LUA_OK) return lua_error(L);
  return 1;
}

static const struct task_kind kind = {.name = "test"};

static int ended(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 0;
}

static int code_body(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  int *ref = (int *)t->data;
  lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);
  luaL_unref(L, LUA_REGISTRYINDEX, *ref);
  lua_callk(L, 0, 0, 0, ended);
  return 0;
}

/* Runs code as a task until it waits or ends. Returns its id. */
static uint64_t run(const char *code) {
  if (!task_protect(h, load_body, (void *)code, 1)) fail_msg("%s", lua_tostring(h->L, -1));
  struct task *t = task_begin(h, &kind);
  assert_non_null(t);
  *(int *)t->data = luaL_ref(h->L, LUA_REGISTRYINDEX);
  uint64_t id = task_id(t);
  task_run(t, code_body);
  return id;
}

/* Moves the clock to that many milliseconds after the start. */
static bool advance(uint64_t ms) {
  bool has_fired = false;
  while (deadlines_advance(&h->worker.deadlines, began + ms)) has_fired = true;
  return has_fired;
}

static void turn(void) {
  while (tasks_turn(h)) {
  }
}

static void assert_seen(const char *expected) {
  lua_State *L = h->L;
  luaL_Buffer b;
  lua_getglobal(L, "seen");
  int list = lua_gettop(L);
  luaL_buffinit(L, &b);
  for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, list); i++) {
    if (i > 1) luaL_addchar(&b, ' ');
    lua_rawgeti(L, list, i);
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  assert_string_equal(lua_tostring(L, -1), expected);
  lua_settop(L, list - 1);
}

#define SEE                                                                                        \
  "local function see(...) for _, v in ipairs{...} do seen[#seen + 1] = tostring(v) end end "

/* The wait that a task has open, from outside. */
static uint32_t wait_of(uint64_t id) {
  struct task *t = task_find(h, id);
  assert_non_null(t);
  return t->wait;
}

/* ---- waking ---------------------------------------------------------------------------------- */

static void a_wait_is_woken_once(void **state) {
  (void)state;
  uint64_t id = run(SEE "local _, w = core.wait_open() see(core.park(nil, w))");
  uint32_t wait = wait_of(id);
  assert_seen("");
  assert_true(task_wake(h, id, wait));
  assert_false(task_wake(h, id, wait)); /* it is about to run */
  turn();
  assert_seen("true");
  assert_null(task_find(h, id));
  assert_false(task_wake(h, id, wait));
}

static void values_are_passed(void **state) {
  (void)state;
  run(SEE "T, W = core.wait_open() see(core.park(nil, W))");
  run(SEE "see(core.wake(T, W, 'a', 'b'), core.wake(T, W, 'c'))");
  turn();
  assert_seen("true false true a b");
}

static void waking_before_parking_counts(void **state) {
  (void)state;
  run(SEE "local t, w = core.wait_open() see(core.wake(t, w, 'a', nil, 'b'), core.wake(t, w, 'c'))"
          "see(select('#', core.park(nil, w)))");
  assert_seen("true false 4");
  run(SEE "local t, w = core.wait_open() core.wake(t, w) see(core.park(0, w))");
  assert_seen("true false 4 true");
}

static int wake_now(lua_State *L) {
  lua_pushboolean(L, task_wake(h, (uint64_t)lua_tointeger(L, 1), (uint32_t)lua_tointeger(L, 2)));
  return 1;
}

/* What C began may be done before it returns. */
static void waking_from_c_before_parking_counts(void **state) {
  (void)state;
  lua_register(h->L, "wake_now", wake_now);
  run(SEE "local t, w = core.wait_open() see(wake_now(t, w), wake_now(t, w), core.park(nil, w))");
  assert_seen("true false true");
}

/* ---- wakers that come late ------------------------------------------------------------------- */

/* Whatever ends or drops the first wait, its waker must not wake the second, nor whatever waits
 * after it. FIRST is what happens to it; its number is W. */
static void late(const char *first, bool is_over) {
  char code[600];
  snprintf(code, sizeof code,
           SEE "local _, W = core.wait_open() first = W %s "
               "local _, w = core.wait_open() see(w ~= W) "
               "local woken, value = core.park(nil, w) see(woken, value)",
           first);
  uint64_t id = run(code);
  if (is_over) {
    advance(1000000);
    turn();
  }
  lua_getglobal(h->L, "first");
  uint32_t number = (uint32_t)lua_tointeger(h->L, -1);
  lua_pop(h->L, 1);
  assert_seen("true"); /* the second wait has begun */
  assert_int_not_equal(number, wait_of(id));
  assert_false(task_wake(h, id, number));
  lua_pushinteger(h->L, (lua_Integer)id);
  lua_setglobal(h->L, "id");
  run(SEE "see(core.wake(id, first, 'late'))");
  turn();
  assert_seen("true false");
  run(SEE "core.wake(id, first + 1, 'right')");
  turn();
}

static void a_wait_that_was_dropped(void **state) {
  (void)state;
  late("", false);
  assert_seen("true false true right");
}

static void a_wait_that_was_woken_and_dropped(void **state) {
  (void)state;
  late("core.wake(core.running(), W, 'early')", false);
  assert_seen("true false true right");
}

static void a_wait_whose_time_was_over(void **state) {
  (void)state;
  late("core.park(1, W)", true);
  assert_seen("true false true right");
}

static void a_wait_that_raised(void **state) {
  (void)state;
  late("pcall(table.sort, {1, 2}, function() core.park(nil, W) end)", false);
  assert_seen("true false true right");
}

/* A wait without a number has one all the same. */
static void sleep_is_woken_by_nobody(void **state) {
  (void)state;
  uint64_t id = run(SEE "local _, w = core.wait_open() first = w see(core.park(5))");
  lua_getglobal(h->L, "first");
  assert_false(task_wake(h, id, (uint32_t)lua_tointeger(h->L, -1)));
  lua_pop(h->L, 1);
  turn();
  assert_seen("");
  advance(4999);
  turn();
  assert_seen("");
  advance(5000);
  turn();
  assert_seen("false");
}

/* Tasks are used again: neither the id nor the number may be. */
static void the_next_task_in_the_same_place(void **state) {
  (void)state;
  uint64_t first = run("local _, w = core.wait_open() core.park(nil, w)");
  uint32_t wait = wait_of(first);
  assert_true(task_wake(h, first, wait));
  turn();
  uint64_t second = run("local _, w = core.wait_open() core.park(nil, w)");
  assert_int_equal(first & 0xfffff, second & 0xfffff);
  assert_false(task_wake(h, first, wait));
  assert_false(task_wake(h, first, wait_of(second)));
  assert_false(task_wake(h, second, wait));
  assert_true(task_wake(h, second, wait_of(second)));
  turn();
}

static void after_its_time_was_over(void **state) {
  (void)state;
  uint64_t id = run(SEE "local _, w = core.wait_open() see(core.park(1, w))");
  uint32_t wait = wait_of(id);
  assert_false(advance(999));
  assert_true(advance(1000));
  assert_false(task_wake(h, id, wait)); /* it is ready, and has not run yet */
  turn();
  assert_seen("false");
}

static void after_it_was_stopped(void **state) {
  (void)state;
  uint64_t id = run(SEE "local _, w = core.wait_open() see(pcall(core.park, 1, w))");
  uint32_t wait = wait_of(id);
  task_stop(task_find(h, id), STOP_CANCELLED, 0);
  assert_false(task_wake(h, id, wait));
  turn();
  assert_seen("false stopped: 3");
}

/* ---- misuse ---------------------------------------------------------------------------------- */

static void a_wait_is_parked_on_once(void **state) {
  (void)state;
  run(SEE "local t, w = core.wait_open() core.wake(t, w) core.park(nil, w) see(pcall(core.park, "
          "nil, w))");
  assert_seen("false this wait is over");
  run(SEE "local _, w = core.wait_open() core.wait_open() see(pcall(core.park, nil, w))");
  assert_seen("false this wait is over false this wait is over");
}

/* Nothing is begun that could not be waited for. */
static void no_wait_is_opened_where_nothing_can_wait(void **state) {
  (void)state;
  run(SEE "local ok, err = pcall(table.sort, {1, 2}, core.wait_open) see(ok, err:match('^cannot "
          "wait here'))");
  assert_seen("false cannot wait here");
  run(SEE "core.loading(true) local ok, err = pcall(core.wait_open) core.loading(false)"
          "see(ok, err:match('^cannot wait here'))");
  assert_seen("false cannot wait here false cannot wait here");
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void an_error_is_reported(void **state) {
  (void)state;
  uint64_t id = run("error('oh no', 0)");
  assert_null(task_find(h, id));
  assert_int_equal(n_reported, 1);
  assert_string_equal(reported, "oh no");
}

static void what_was_not_asked_for_is_let_go(void **state) {
  (void)state;
  run("kept = setmetatable({}, {__mode = 'k'})"
      "local t, w = core.wait_open() local value = {} kept[value] = true core.wake(t, w, value)");
  lua_gc(h->L, LUA_GCCOLLECT);
  lua_gc(h->L, LUA_GCCOLLECT);
  run(SEE "see(next(kept))");
  assert_seen("");
  run(SEE "local t, w = core.wait_open() local value = {} kept[value] = true core.wake(t, w, "
          "value) value = nil "
          "core.wait_open() collectgarbage() collectgarbage() see(next(kept))");
  assert_seen("");
}

/* What it had for one goes back, and there is another once there is memory. */
static void no_task_without_memory(void **state) {
  size_t most = h->memory.max;
  uint64_t tasks = atomic_load(&h->worker.metrics.tasks);
  (void)state;
  for (size_t room = 0; room < 600; room += 100) {
    lua_gc(h->L, LUA_GCCOLLECT, 0);
    h->memory.max = h->memory.used + room;
    assert_null(task_begin(h, &kind));
    assert_int_equal(lua_gettop(h->L), 0);
  }
  h->memory.max = most;
  assert_int_equal(atomic_load(&h->worker.metrics.tasks), tasks);
  run("seen[1] = 'ran'");
  assert_seen("ran");
}

static void a_request_is_for_its_slice_only(void **state) {
  struct slice_watch s = {0};
  (void)state;
  for (unsigned want = SLICE_WARN; want <= SLICE_STOP; want++) {
    for (unsigned serial = 1; serial < 8; serial += 2) {
      atomic_store(&s.request, serial << 2 | want);
      for (unsigned now = 1; now < 8; now += 2) {
        atomic_store(&s.serial, now);
        assert_true(slice_is_due(&s));
        assert_int_equal(slice_wanted(&s), now == serial ? want : SLICE_NONE);
        assert_int_equal(slice_is_over(&s), now == serial && want == SLICE_STOP);
      }
    }
  }
  atomic_store(&s.request, SLICE_NONE);
  assert_int_equal(slice_wanted(&s), SLICE_NONE);
  assert_false(slice_is_due(&s));
}

/* ---- the watchdog -----------------------------------------------------------------------------
 */

#ifdef __x86_64__
/* The processor's trap flag: a SIGTRAP after each instruction. Below the red zone. */
static void step(bool is_on) {
  if (is_on)
    __asm__ volatile("subq $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; addq $128, %%rsp" ::
                         : "memory", "cc");
  else
    __asm__ volatile("subq $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; addq $128, %%rsp" ::
                         : "memory", "cc");
}
#else
static void step(bool is_on) {
  (void)is_on;
}
#endif

static unsigned n_asked;

static void ask(int signal) {
  (void)signal;
  n_asked++;
  holder_ask(h, atomic_load(&h->slice.serial), 1);
  raise(SIGURG);
}

static int l_step(lua_State *L) {
  step(lua_toboolean(L, 1));
  return 0;
}

/* After each instruction of whatever Lua does: a __gc runs without hooks, and stacks move. */
static void asking_is_safe_at_any_moment(void **state) {
  struct sigaction action = {.sa_handler = ask}, before;
  (void)state;
  slice_watch_begin(h);
  assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
  lua_register(h->L, "step", l_step);
  n_asked = 0;
  run("local function deep(n) if n > 0 then return (deep(n - 1)) end return 0 end\n"
      "setmetatable({}, { __gc = function()\n"
      "  step(true)\n"
      "  deep(8)\n"
      "  step(false)\n"
      "  seen[1] = 'done'\n"
      "end })\n"
      "collectgarbage()");
  assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
  assert_seen("done");
#ifdef __x86_64__
  assert_true(n_asked > 1000);
#endif
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      T(a_wait_is_woken_once),
      T(values_are_passed),
      T(waking_before_parking_counts),
      T(waking_from_c_before_parking_counts),
      T(a_wait_that_was_dropped),
      T(a_wait_that_was_woken_and_dropped),
      T(a_wait_whose_time_was_over),
      T(a_wait_that_raised),
      T(sleep_is_woken_by_nobody),
      T(the_next_task_in_the_same_place),
      T(after_its_time_was_over),
      T(after_it_was_stopped),
      T(a_wait_is_parked_on_once),
      T(no_wait_is_opened_where_nothing_can_wait),
      T(an_error_is_reported),
      T(asking_is_safe_at_any_moment),
      T(a_request_is_for_its_slice_only),
      T(no_task_without_memory),
      T(what_was_not_asked_for_is_let_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
