/* SPDX-License-Identifier: MIT */
/* test_lstring.c -- strings' functions do what Lua's own do, errors included, and can be ended. */
#include "plain_lua.h"

/* Tells everything that a call gives, or its error. */
#define SHOW                                                                                       \
  "local out = {} "                                                                                \
  "local function show(...) "                                                                      \
  "  local r = table.pack(pcall(...)) "                                                            \
  "  for i = 1, r.n do out[#out + 1] = string.format('%s:%s', math.type(r[i]) or type(r[i]), "     \
  "    type(r[i]) == 'string' and r[i] or tostring(r[i]):gsub('0x%x+', '')) end "                  \
  "  out[#out + 1] = '\\n' "                                                                       \
  "end "
#define SHOWN " return table.concat(out, ' ')"

#define SUBJECTS                                                                                   \
  "local subjects = {'', 'a', 'ab', 'aab', 'hello world', '  trim me  ', 'key = value', "          \
  "  'THE (quick) fox', '[[x]]', 'a.b-c', 'f(a(b)c)d)', 'x\\0y', '\\0', '\\255\\128', '%d%%', "    \
  "  '2024-01-31', 'aaa', '...', 'ab12cd', '^a$', 'a]b', ('a'):rep(300)} "

#define PATTERNS                                                                                   \
  "local patterns = {'', '.', 'a', '^', '$', '^$', 'a$', '^a', '$a', 'a^', '%a', '%A', "           \
  "'%c', '%d', '%D', '%g', '%l', '%L', '%p', '%s', '%S', '%u', '%w', '%W', '%x', '%z', "           \
  "'%Z', '%1', '%0',  '%9', '(a)%1', '(a*)%1', '()', '()a()', '(a)(b)', '((a)(b))', '(', "         \
  "')', '(a', 'a)', '(a))',  '[a', '[', '[]', '[]]', '[^]]', '[^', '[%', '[%]', '[%a', "           \
  "'[a-c]', '[a-]', '[-a]', '[a-c-e]',  '[^a-c]', '[%w_]', '[%]]', '[]-a]', '[^%s]', "             \
  "'[a^]', '[%a-z]', '[a-%%]', '%', 'a%', '%%',  'a*', 'a+', 'a-', 'a?', '.*', '.+', "             \
  "'.-', '.?', '.-b', '.*b', 'a-b', 'a?b', '^%s*(.-)%s*$',  '(%w+)%s*=%s*(%w+)', '%b()', "         \
  "'%b', '%bx', '%b((', '%b[]', '%f[%w]%w+', '%f', '%fa',  '%f[%W]', '%f[%z]', '%f[^a]', "         \
  "'%f[', '(%d+)-(%d+)-(%d+)', '()%s*()', '*', '+a', '-', '?',  'a**', 'a+*', "                    \
  "'(a*(.)%w(%s*))', '\\0', '[\\0]', '%\\0', '.\\0', '[^\\0]*', 'x\\0?y',  "                       \
  "'((((((((((((((((((((((((((((((((a', "                                                          \
  "'()()()()()()()()()()()()()()()()()()()()()()()()()()()()' .. '()()()()()', "                   \
  "('a?'):rep(199), ('a?'):rep(200), ('a?'):rep(201),  ('a*'):rep(201) .. '$', "                   \
  "('(a'):rep(3),  '[%z\\1-\\31]', '%.', '%-', '[%.%-]', 'b$', '.$', '[^b]$', 'a.-$', "            \
  "'a*$', '(a-)$', '$$',  '^^a', '^a$$', '%$$', 'a-$', '(.)%1', '(.*)%1$', '%b()$', "              \
  "'q-', 'q*a', 'q?a', 'q+a', '.-a?b'} "

static void find_and_match_as_lua(void **state) {
  (void)state;
  assert_same(SHOW SUBJECTS PATTERNS
              "for _, s in ipairs(subjects) do for _, p in ipairs(patterns) do "
              "  show(string.find, s, p) show(string.match, s, p) "
              "  for _, init in ipairs {2, 4, -1, -3, 0, 100, -100} do "
              "    show(string.find, s, p, init) show(string.match, s, p, init) end "
              "  show(string.find, s, p, 1, true) show(string.find, s, p, -2, true) "
              "end end" SHOWN);
}

static void gmatch_as_lua(void **state) {
  (void)state;
  assert_same(SHOW SUBJECTS PATTERNS
              "for _, s in ipairs(subjects) do for _, p in ipairs(patterns) do "
              "  for _, init in ipairs {1, 2, -1, -100, 100, 0} do "
              "    show(function() local all = {} "
              "      for a, b, c in string.gmatch(s, p, init) do "
              "        all[#all + 1] = ('%s,%s,%s'):format(a, b, c) end "
              "      return table.concat(all, ';') end) "
              "  end end end" SHOWN);
}

static void gsub_as_lua(void **state) {
  (void)state;
  assert_same(SHOW SUBJECTS PATTERNS
              "local replacements = {'', 'x', '<%0>', '%1', '[%1|%2]', '%%', '%', '%x', 7, 1.5, "
              "  {a = 'A', [''] = 'e', [1] = 'one', hello = false, b = 3}, {a = {}}, "
              "  function(a, b) return b end, function() end, function(a) return {} end, "
              "  function(...) return select('#', ...) end, function(a) return a end, "
              "  function() error('no', 0) end} "
              "for _, s in ipairs(subjects) do for _, p in ipairs(patterns) do "
              "  for _, r in ipairs(replacements) do "
              "    show(string.gsub, s, p, r) show(string.gsub, s, p, r, 1) "
              "  end show(string.gsub, s, p, 'x', 0) show(string.gsub, s, p, 'x', -1) "
              "end end" SHOWN);
}

static void arguments_as_lua(void **state) {
  (void)state;
  assert_same(
      SHOW
      "for _, f in ipairs {'find', 'match', 'gmatch', 'gsub', 'rep'} do "
      "  show(string[f]) show(string[f], 'a') show(string[f], {}, 'a') show(string[f], 'a', {}) "
      "  show(string[f], 12, 1, 1) show(string[f], 'a', 'a', {}) show(string[f], 'a', 'a', 1.5) "
      "  show(string[f], 'a', 'a', 'x', 'y') show(string[f], 'a', 'a', '1', '1') "
      "  show(function() return ('a')[f](nil) end) show(function() return ('a')[f]() end) "
      "end "
      "show(string.gsub, 'a', 'a') show(string.gsub, 'a', 'a', true) "
      "show(string.gsub, 'a', 'a', print, 'x') "
      "show(string.gsub, 'hello', 'l', setmetatable({}, {__index = function(_, k) return k:upper() "
      "end})) "
      "local s = 'same' show(rawequal, s:gsub('x', 'y'), s) show(('x'):gsub('x', '%1')) "
      "local it = string.gmatch('a b', '%a') it() show(it) show(it) show(it) "
      "show(coroutine.wrap(string.gmatch('a b', '%a')))" SHOWN);
}

static void rep_as_lua(void **state) {
  (void)state;
  assert_same(SHOW "for _, s in ipairs {'', 'a', 'ab', 'abc', ('x'):rep(100)} do "
                   "  for _, n in ipairs {-1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 100, 1000} do "
                   "    for _, sep in ipairs {'', ',', '--', ('y'):rep(7)} do "
                   "      show(string.rep, s, n, sep) end show(string.rep, s, n) end end "
                   "show(string.rep, 'x', 1 << 62) show(string.rep, 'x', math.maxinteger) "
                   "show(string.rep, 'xy', math.maxinteger) show(string.rep, '', 3, ',') "
                   "show(string.rep, 'x', math.mininteger)" SHOWN);
}

/* In Lua this is a loop of 2^63 turns. */
static void rep_of_nothing_is_nothing(void **state) {
  (void)state;
  assert_string_equal(text_of(ours, "return '<' .. (''):rep(math.maxinteger) .. '>'"), "<>");
}

static void strange_callbacks(void **state) {
  (void)state;
  /* patterns within patterns, and memory that moves */
  assert_same(SHOW
              "show(string.gsub, 'a b c', '%a', function(c) "
              "  collectgarbage() return (('xyz'):gsub('.', function(d) return c .. d end)) end) "
              "show(string.gsub, ('ab '):rep(500), '(%a)(%a)', function(a, b) "
              "  return (b .. a):rep(50) end) "
              "show(string.gsub, ('ab '):rep(500), '()%a', '%1') " SHOWN);
}

static void the_end_of_a_slice_reaches_them(void **state) {
  (void)state;
  static const char *const chunks[] = {
      "local s = ('a'):rep(1e5) s:find('.-.-.-.-b')",
      "local s = (' '):rep(1e6) .. 'x' s:match('^%s*(.-)%s*$')",
      "local s = ('a'):rep(1e5) for _ in s:gmatch('.-.-.-.-b') do end",
      "local s = ('a'):rep(1e5) s:gsub('.-.-.-.-b', '')",
      "local s = ('('):rep(1e6) s:find('%b()')",
      "local s = ('a'):rep(1e6) s:find('[^b]*[^b]*b')",
      "local s = ('a'):rep(1e6) s:find('a*a*a*[b]')",
      "local s = ('a'):rep(1e6) s:find('(a*)%1%1b')",
      "local s = ('a'):rep(1e6) s:find('%f[b]b')",
      "local s = ('a'):rep(1e6) s:find('a-a-a-b')",
      "local s = ('a'):rep(1e6) s:find(('a?'):rep(60) .. '[b]')",
      "local s = ('a'):rep(1e5) local co = coroutine.create(s.find) "
      "error(select(2, coroutine.resume(co, s, '.-.-.-.-b')), 0)",
  };
  for (size_t i = 0; i < COUNT(chunks); i++) assert_reached(chunks[i]);
}

static void a_warning_changes_nothing(void **state) {
  (void)state;
  assert_warned("return (('hello world'):gsub('(%w+)', '<%1>'))");
  assert_warned("return ('key = value'):match('^(%w+)')");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(find_and_match_as_lua),
      cmocka_unit_test(gmatch_as_lua),
      cmocka_unit_test(gsub_as_lua),
      cmocka_unit_test(arguments_as_lua),
      cmocka_unit_test(rep_as_lua),
      cmocka_unit_test(rep_of_nothing_is_nothing),
      cmocka_unit_test(strange_callbacks),
      cmocka_unit_test(the_end_of_a_slice_reaches_them),
      cmocka_unit_test(a_warning_changes_nothing),
  };
  return cmocka_run_group_tests(tests, open_both, close_both);
}
