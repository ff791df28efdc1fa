/* SPDX-License-Identifier: MIT */
/* test_ltable.c -- tables' functions do what Lua's own do, errors included, and can be ended. */
#include "plain_lua.h"

#define SHOW                                                                                       \
  "local out = {} "                                                                                \
  "local function tell(v) "                                                                        \
  "  if type(v) ~= 'table' then return math.type(v) or type(v), tostring(v):gsub('0x%x+', '') "    \
  "end "                                                                                           \
  "  local keys = {} for k in next, v do keys[#keys + 1] = tostring(k) .. '=' .. tostring(v[k]) "  \
  "end "                                                                                           \
  "  table.sort(keys) return 'table', table.concat(keys, ',') end "                                \
  "local function show(...) "                                                                      \
  "  local r = table.pack(pcall(...)) "                                                            \
  "  for i = 1, r.n do out[#out + 1] = string.format('%s:%s', tell(r[i])) end "                    \
  "  out[#out + 1] = '\\n' "                                                                       \
  "end "                                                                                           \
  "local function like(t) return setmetatable({}, {__index = t, __newindex = t, "                  \
  "  __len = function() return #t end}), t end "
#define SHOWN " return table.concat(out, ' ')"

static void insert_and_remove_as_lua(void **state) {
  (void)state;
  assert_same(
      SHOW
      "for _, f in ipairs {'insert', 'remove'} do "
      "  for _, p in ipairs {-1, 0, 1, 2, 3, 4, 5, 6, 1.0, 1.5, 'x', '2', math.maxinteger, "
      "      math.mininteger} do "
      "    local t = {10, 20, 30, 40} show(table[f], t, p, 'new') "
      "    show(function() return t end) "
      "    local e = {} show(table[f], e, p, 'new') show(function() return e end) "
      "    local l, u = like {1, 2, 3} show(table[f], l, p, 'n') show(function() return u end) "
      "  end "
      "  local t = {1, 2, 3} show(table[f], t) show(table[f], t, 9) show(function() return t end) "
      "  show(table[f]) show(table[f], 1, 2) show(table[f], {}, 1, 2, 3) show(table[f], {}, 1, 2) "
      "  show(table[f], setmetatable({}, {__len = function() return 'x' end}), 1) "
      "  show(table[f], io.stdout, 1) "
      "end" SHOWN);
}

static void move_as_lua(void **state) {
  (void)state;
  assert_same(
      SHOW
      "local n = {-1, 0, 1, 2, 3, 5, math.maxinteger, math.mininteger} "
      "for _, f in ipairs {1, 2, 3, 0, -1} do for _, e in ipairs {0, 1, 3, 5, 2} do "
      "  for _, t in ipairs {-3, 0, 1, 2, 3, 4, 7} do "
      "    local a = {10, 20, 30, 40, 50} show(table.move, a, f, e, t) "
      "    show(table.move, {10, 20, 30, 40}, f, e, t, {1, 2, 3}) "
      "    local b, u = like {1, 2, 3} show(table.move, {7, 8, 9}, f, e, t, b) "
      "    show(function() return u end) "
      "end end end "
      "show(table.move, {}, math.mininteger, 0, 1) show(table.move, {}, 1, math.maxinteger, 2) "
      "show(table.move, {}, 0, math.maxinteger, 2) show(table.move, {}, -1, math.maxinteger, 2) "
      "show(table.move, {}, 1, 2, math.maxinteger) "
      "show(table.move, {}, 1, 2, math.maxinteger - 1) "
      "show(table.move) show(table.move, 1, 1, 1, 1) show(table.move, {}, 'x', 1, 1) "
      "show(table.move, {}, 1, 1, 1, 2) show(table.move, {}, 1, 1.5, 1)" SHOWN);
}

static void concat_as_lua(void **state) {
  (void)state;
  assert_same(SHOW
              "for _, t in ipairs {{}, {'a'}, {'a', 'b'}, {1, 2.5, 'x'}, {'a', {}, 'b'}, "
              "    {'a', true}, (like {'p', 'q'}), {('x'):rep(3000), ('y'):rep(3000)}} do "
              "  show(table.concat, t) show(table.concat, t, ', ') show(table.concat, t, 7) "
              "  for _, i in ipairs {-1, 0, 1, 2, 3} do for _, j in ipairs {0, 1, 2, 3, 4} do "
              "    show(table.concat, t, '-', i, j) end end "
              "end "
              "show(table.concat) show(table.concat, 1) show(table.concat, {}, {}) "
              "show(table.concat, {}, '', 'x') show(table.concat, {}, '', math.maxinteger) "
              "show(table.concat, {[math.maxinteger] = 'z'}, '', math.maxinteger, math.maxinteger) "
              "show(table.concat, {}, '', math.maxinteger - 1, math.maxinteger) "
              "show(table.concat, {}, '', math.mininteger, 1)" SHOWN);
}

/* The order of what is equal is nobody's promise; that it stays what it was spares surprises. */
static void sort_as_lua(void **state) {
  (void)state;
  assert_same(
      SHOW
      "local seed = 1 "
      "local function chance(n) seed = (seed * 1103515245 + 12345) & 0x7fffffff "
      "  return (seed >> 8) % n + 1 end "
      "for _, n in ipairs {0, 1, 2, 3, 4, 5, 8, 20, 100, 101, 103, 1000} do "
      "  for _, range in ipairs {1, 3, 10000} do "
      "    local a, b, c = {}, {}, {} "
      "    for i = 1, n do a[i] = chance(range) b[i] = 'k' .. a[i] c[i] = {a[i], i} end "
      "    for _, t in ipairs {a, b} do "
      "      table.sort(t) out[#out + 1] = table.concat(t, ',') "
      "      table.sort(t, function(x, y) return x > y end) out[#out + 1] = table.concat(t, ',') "
      "      table.sort(t) out[#out + 1] = table.concat(t, ',') "
      "    end "
      "    table.sort(c, function(x, y) return x[1] < y[1] end) "
      "    for i = 1, n do out[#out + 1] = c[i][1] .. (n <= 101 and '/' .. c[i][2] or '') end "
      "end end "
      "local l, u = like {3, 1, 2} table.sort(l) show(function() return u end) "
      "show(table.sort, {1, 'x'}) show(table.sort, {{}, {}}) show(table.sort, {1, 2, nil, 3}) "
      "show(table.sort, {3, 2, 1}, 7) show(table.sort, {1}, 7) show(table.sort) "
      "show(table.sort, 1) show(table.sort, {3, 2, 1}, function() error('no', 0) end) "
      "show(table.sort, {1, 2, 3, 4, 5, 6}, function() return true end) "
      "show(table.sort, {3, 3, 3, 3, 3, 3, 3, 3}, function(a, b) return a <= b end) "
      "show(table.sort, {1, 2, 3}, function() return false end) "
      "show(table.sort, {3, 1, 2}, math.max) "
      "show(table.sort, setmetatable({}, {__len = function() return 1 << 31 end})) "
      "show(table.sort, setmetatable({}, {__len = function() return -1 end})) "
      "show(table.insert, setmetatable({}, {__len = function() return math.maxinteger end}), "
      "1)" SHOWN);
}

/* What is long, sorted already, or made to be hard, is sorted all the same. */
static void much_is_sorted(void **state) {
  (void)state;
  assert_string_equal(
      text_of(ours, "for _, f in ipairs {function(i) return i end, function(i) return -i end, "
                    "    function(i) return i % 7 end, function(i) return i * 7919 % 20011 end, "
                    "    function(i) return i < 1e4 and i or 2e4 - i end} do "
                    "  local t = {} for i = 1, 20000 do t[i] = f(i) end "
                    "  table.sort(t) for i = 2, #t do assert(t[i - 1] <= t[i]) end "
                    "end return 'sorted'"),
      "sorted");
}

static void the_end_of_a_slice_reaches_them(void **state) {
  (void)state;
  static const char *const chunks[] = {
      "table.move({}, 1, 1 << 60, 2)",
      "table.move({}, 1, 1 << 60, 2, {})",
      "table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 'x')",
      "table.remove(setmetatable({}, {__len = function() return 1 << 60 end}), 1)",
      "table.concat(setmetatable({}, {__index = rawlen}), '', 1, 1 << 60)",
      "local t = {} for i = 1, 1e5 do t[i] = i end table.sort(t)",
      "local t = {} for i = 1, 1e5 do t[i] = i end table.sort(t, rawequal)",
  };
  for (size_t i = 0; i < COUNT(chunks); i++) assert_reached(chunks[i]);
}

static void a_warning_changes_nothing(void **state) {
  (void)state;
  assert_warned("local t = {3, 1, 2} table.sort(t) return table.concat(t, ',')");
  assert_warned("return table.concat(table.move({1, 2, 3}, 1, 3, 2), ',')");
  assert_warned("return table.concat({1, 2, 3}, ',')");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(insert_and_remove_as_lua),
      cmocka_unit_test(move_as_lua),
      cmocka_unit_test(concat_as_lua),
      cmocka_unit_test(sort_as_lua),
      cmocka_unit_test(much_is_sorted),
      cmocka_unit_test(the_end_of_a_slice_reaches_them),
      cmocka_unit_test(a_warning_changes_nothing),
  };
  return cmocka_run_group_tests(tests, open_both, close_both);
}
