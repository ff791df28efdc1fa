/* SPDX-License-Identifier: MIT */
/* test_lbound.c -- what is within bounds goes as in Lua, what is over is refused, and load ends. */
#include "plain_lua.h"

#define SHOW                                                                                       \
  "local out = {} "                                                                                \
  "local function show(...) "                                                                      \
  "  local r = table.pack(pcall(...)) "                                                            \
  "  for i = 1, r.n do out[#out + 1] = tostring(r[i]):gsub('0x%x+', '') end "                      \
  "  out[#out + 1] = '\\n' "                                                                       \
  "end "
#define SHOWN " return table.concat(out, ' ')"

static void load_as_lua(void **state) {
  (void)state;
  assert_same(
      SHOW
      "local env = {x = 7} "
      "for _, text in ipairs {'return 1, 2', 'return x', 'x = 8 return x', 'no good', '', "
      "    'return ...', string.dump(function() return 5 end), '#!/bin/lua', "
      "    'return \"' .. ('y'):rep(10000) .. '\"', ('--x\\n'):rep(5000) .. 'return 3', "
      "    ('--x\\n'):rep(5000) .. 'wrong here', 42} do "
      "  show(load, text) show(load, text, '=name') show(load, text, '@file', 't') "
      "  show(load, text, 'c', 'b') show(load, text, 'c', 'x') show(load, text, 'c', 't', env) "
      "  show(load, text, nil, nil, nil) "
      "  for _, f in ipairs {load(text) or 0, load(text, 'c', 'bt', env) or 0} do show(f, 9) end "
      "end "
      "local pieces = {'return ', '1', '2'} "
      "local n = 0 show(load(function() n = n + 1 return pieces[n] end)) "
      "show(load) show(load, {}) show(load, 'x', {}) show(load, 'return 1', 'c', {})" SHOWN);
}

static void formats_as_lua(void **state) {
  (void)state;
  assert_same(SHOW
              "show(string.pack, 'i4z', 7, 'x') show(string.packsize, 'i4') "
              "show(string.unpack, 'z', 'abc\\0def') show(string.unpack, '<i4', '\\1\\0\\0\\0', 1) "
              "show(os.date, '!%Y-%m-%d', 0) show(os.date, '!%H', 3600) show(string.pack, '?') "
              "show(string.pack) show(string.packsize, {}) show(os.date, '%Ez', 0) "
              "show(#string.pack((' '):rep(1 << 20)))" SHOWN);
}

static void formats_are_bounded(void **state) {
  (void)state;
  static const char *const calls[] = {"string.pack(f)", "string.packsize(f)",
                                      "string.unpack(f, '')", "os.date(f)"};
  for (size_t i = 0; i < COUNT(calls); i++) {
    char chunk[256];
    snprintf(chunk, sizeof chunk,
             "local f = (' '):rep((1 << 20)) %s f = f .. ' ' "
             "local ok, err = pcall(function() return (%s) end) return tostring(ok) .. err",
             strstr(calls[i], "date") ? "os.date(f)" : "string.packsize(f)", calls[i]);
    assert_non_null(strstr(text_of(ours, chunk), "false"));
    assert_non_null(strstr(text_of(ours, chunk), "a format longer than 1 MiB"));
  }
}

static void cjson_as_it_is(void **state) {
  (void)state;
  assert_same(
      SHOW "local cycle = {} cycle[1] = cycle "
           "for _, v in ipairs {1, 1.5, 'x', true, {}, {1, 2}, {a = {b = 1}}, cjson.null, cycle, "
           "    {[1e6] = 1}, print, {[true] = 1}} do show(cjson.encode, v) "
           "  show(cjson.new().encode, v) end "
           "show(cjson.decode, '[1,{\"a\":null}]') show(cjson.encode_max_depth) "
           "local own = cjson.new() own.encode_max_depth(1) show(own.encode, {{1}}) "
           "show(cjson.encode, {{1}})" SHOWN);
}

static void cjson_is_bounded(void **state) {
  (void)state;
  const char *err = text_of(ours, "local t = {} for _ = 1, 60 do t = {t, t} end "
                                  "return select(2, pcall(cjson.encode, t))");
  assert_non_null(strstr(err, "cannot encode more than 4194304 values"));
  err = text_of(ours, "local t = {} for _ = 1, 60 do t = {t, t} end "
                      "return select(2, pcall(cjson.new().encode, t))");
  assert_non_null(strstr(err, "cannot encode more than 4194304 values"));
  err = text_of(ours, "local s, t = ('x'):rep(1 << 20), {} for i = 1, 65 do t[i] = s end "
                      "return select(2, pcall(cjson.encode, t))");
  assert_non_null(strstr(err, "cannot encode more than 64 MiB of strings"));
  assert_string_equal(text_of(ours,
                              "local s, t = ('x'):rep(1 << 20), {} for i = 1, 64 do t[i] = s end "
                              "return tostring(#cjson.encode(t))"),
                      "67109057");
}

static void the_end_of_a_slice_reaches_them(void **state) {
  (void)state;
  assert_reached("error(select(2, load(('a=1 '):rep(100000))), 0)");
  assert_reached("local t = {} for _ = 1, 60 do t = {t, t} end cjson.encode(t)");
}

static void a_warning_changes_nothing(void **state) {
  (void)state;
  assert_warned("return tostring(load('return 7')())");
  assert_warned("return cjson.encode({1, 2})");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(load_as_lua),
      cmocka_unit_test(formats_as_lua),
      cmocka_unit_test(formats_are_bounded),
      cmocka_unit_test(cjson_as_it_is),
      cmocka_unit_test(cjson_is_bounded),
      cmocka_unit_test(the_end_of_a_slice_reaches_them),
      cmocka_unit_test(a_warning_changes_nothing),
  };
  return cmocka_run_group_tests(tests, open_both, close_both);
}
