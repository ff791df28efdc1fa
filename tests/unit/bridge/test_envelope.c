/* SPDX-License-Identifier: MIT */
/* test_envelope.c -- the members of a message are found as they were sent, and judged by nobody. */
#include "../unit.h"

#include "bridge/envelope.h"

#include <lauxlib.h>

static lua_State *L;
static struct json_scratch scratch;
enum { MT = 1 }; /* stack index of the array metatable */

static int start(void **state) {
  (void)state;
  L = luaL_newstate();
  lua_newtable(L);
  return 0;
}

static int stop(void **state) {
  (void)state;
  lua_close(L);
  json_scratch_fini(&scratch);
  return 0;
}

static char *text_in_use; /* spans point into it */

/* Reads a message that lies in memory of exactly its size. */
static struct envelope *read_message(const char *text, size_t n) {
  static struct envelope e;
  free(text_in_use);
  text_in_use = exact_copy(text, n);
  memset(&e, 0xEE, sizeof e); /* nothing may be taken from what was there */
  envelope_read(&e, text_in_use, n, &scratch);
  return &e;
}

static int let_go(void **state) {
  (void)state;
  free(text_in_use);
  text_in_use = NULL;
  lua_settop(L, MT);
  return 0;
}

static bool is_span(struct envelope_span span, const char *expected) {
  size_t n = expected ? strlen(expected) : 0;
  return span.len == n && (n == 0 || memcmp(span.at, expected, n) == 0);
}

/* ---- single members -------------------------------------------------------------------------- */

struct member {
  const char *value; /* NULL: not there */
  uint32_t bits;
};

static const struct member versions[] = {
    {NULL, 0},
    {"\"2.0\"", ENV_VERSION_2},
    {"\"2.\\u0030\"", ENV_VERSION_2}, /* the same string */
    {"\"\\u0032.0\"", ENV_VERSION_2},
    {"\"1.0\"", ENV_VERSION_OTHER},
    {"\"2.00\"", ENV_VERSION_OTHER},
    {"\"2.0 \"", ENV_VERSION_OTHER},
    {"\"2.0\\u0000\"", ENV_VERSION_OTHER},
    {"\"2\"", ENV_VERSION_OTHER},
    {"\"\"", ENV_VERSION_OTHER},
    {"2.0", ENV_VERSION_OTHER},
    {"2", ENV_VERSION_OTHER},
    {"null", ENV_VERSION_OTHER},
    {"true", ENV_VERSION_OTHER},
    {"[\"2.0\"]", ENV_VERSION_OTHER},
    {"{}", ENV_VERSION_OTHER},
};

static const struct member methods[] = {
    {NULL, 0},
    {"\"noun.verb\"", ENV_METHOD},
    {"\"\"", ENV_METHOD},
    {"\"\\u0061\\n\"", ENV_METHOD},
    {"1", ENV_METHOD_BAD},
    {"-1.5e3", ENV_METHOD_BAD},
    {"null", ENV_METHOD_BAD},
    {"true", ENV_METHOD_BAD},
    {"false", ENV_METHOD_BAD},
    {"[\"m\"]", ENV_METHOD_BAD},
    {"{\"a\":1}", ENV_METHOD_BAD},
};

static const struct member params[] = {
    {NULL, 0},
    {"[]", ENV_PARAMS_ARRAY},
    {"[1,[2],{\"id\":3}]", ENV_PARAMS_ARRAY},
    {"{}", ENV_PARAMS_OBJECT},
    {"{\"id\":1,\"method\":\"inner\",\"params\":[]}", ENV_PARAMS_OBJECT},
    {"null", ENV_PARAMS_NULL},
    {"\"x\"", ENV_PARAMS_OTHER},
    {"1", ENV_PARAMS_OTHER},
    {"-0.5", ENV_PARAMS_OTHER},
    {"true", ENV_PARAMS_OTHER},
    {"false", ENV_PARAMS_OTHER},
};

static const struct member ids[] = {
    {NULL, 0},
    {"1", ENV_ID},
    {"-1", ENV_ID},
    {"0", ENV_ID},
    {"1e2", ENV_ID},
    {"1.0", ENV_ID},
    {"123456789012345678901234567890", ENV_ID},
    {"1e400", ENV_ID},
    {"\"\"", ENV_ID},
    {"\"a\"", ENV_ID},
    {"\"\\u00e9\"", ENV_ID}, /* goes back as it came */
    {"\"\xc3\xa9\"", ENV_ID},
    {"null", ENV_ID_NULL},
    {"true", ENV_ID_BAD},
    {"false", ENV_ID_BAD},
    {"[1]", ENV_ID_BAD},
    {"{\"id\":1}", ENV_ID_BAD},
};

static const struct member results[] = {
    {NULL, 0}, {"null", ENV_RESULT}, {"0", ENV_RESULT}, {"{\"error\":1}", ENV_RESULT}};

static const struct member errors[] = {{NULL, 0},
                                       {"null", ENV_ERROR},
                                       {"{\"code\":1,\"message\":\"x\"}", ENV_ERROR},
                                       {"\"x\"", ENV_ERROR}};

enum { KINDS = 6 };
static const struct {
  const char *name;
  const struct member *members;
  size_t n;
} kinds[KINDS] = {
    {"jsonrpc", versions, COUNT(versions)}, {"method", methods, COUNT(methods)},
    {"params", params, COUNT(params)},      {"id", ids, COUNT(ids)},
    {"result", results, COUNT(results)},    {"error", errors, COUNT(errors)},
};

/* Checks bits and spans against the values that count, in the order of kinds. */
static void assert_found(const struct envelope *e, const struct member *const values[KINDS],
                         const char *text) {
  uint32_t bits = 0;
  for (int i = 0; i < KINDS; i++) bits |= values[i]->bits;
  bool is_right = e->bits == bits && is_span(e->method, values[1]->value) &&
                  is_span(e->params, values[2]->value) &&
                  is_span(e->id, values[3]->bits == ENV_ID ? values[3]->value : NULL) &&
                  is_span(e->result, values[4]->value) && is_span(e->error, values[5]->value);
  if (!is_right) fail_msg("%s: bits %x instead of %x", text, e->bits, bits);
}

static size_t add_member(char *text, size_t n, const char *name, const char *value,
                         uint64_t *seed) {
  static const char *const spaces[] = {"", "", "", " ", "\n\t", "\r \n"};
  char escaped[64];
  size_t len = 0, i = 0;
  for (; name[i]; i++) { /* a name may be written with escapes */
    if (random_below(seed, 40) == 0)
      len += (size_t)snprintf(escaped + len, sizeof escaped - len, "\\u%04x", (unsigned)name[i]);
    else
      escaped[len++] = name[i];
  }
  escaped[len] = '\0';
  const char *a = spaces[random_below(seed, 6)], *b = spaces[random_below(seed, 6)];
  const char *c = spaces[random_below(seed, 6)], *d = spaces[random_below(seed, 6)];
  return n + (size_t)sprintf(text + n, "%s\"%s\"%s:%s%s%s", a, escaped, b, c, value, d);
}

/* Every combination, in some order, with some white space and some members nobody asked for. */
static void every_combination_of_members_is_found(void **state) {
  (void)state;
  static const char *const others[] = {"Method",  "methods", "metho", "ID",      "i",
                                       "ids",     "para",    "param", "resul",   "err",
                                       "",        "JSONRPC", "json",  "auth",    "errors",
                                       "results", "version", "idd",   "json-rpc"};
  uint64_t seed = 4;
  char text[1024];
  for (size_t a = 0; a < COUNT(versions); a++)
    for (size_t b = 0; b < COUNT(methods); b++)
      for (size_t c = 0; c < COUNT(params); c++)
        for (size_t d = 0; d < COUNT(ids); d++) {
          const struct member *values[KINDS] = {&versions[a],
                                                &methods[b],
                                                &params[c],
                                                &ids[d],
                                                &results[random_below(&seed, COUNT(results))],
                                                &errors[random_below(&seed, COUNT(errors))]};
          unsigned order[KINDS + 1] = {0, 1, 2, 3, 4, 5, 6};
          for (unsigned i = KINDS; i; i--) {
            unsigned k = random_below(&seed, i + 1), kept = order[i];
            order[i] = order[k];
            order[k] = kept;
          }
          size_t n = 0;
          text[n++] = '{';
          for (unsigned i = 0; i <= KINDS; i++) {
            const char *name, *value;
            if (order[i] == KINDS) { /* one more, that must not matter */
              if (random_below(&seed, 2)) continue;
              name = others[random_below(&seed, COUNT(others))];
              value = "[{\"id\":9,\"method\":[]}]";
            } else {
              name = kinds[order[i]].name;
              value = values[order[i]]->value;
            }
            if (!value) continue;
            if (n > 1) text[n++] = ',';
            n = add_member(text, n, name, value, &seed);
          }
          text[n++] = '}';
          text[n] = '\0';
          assert_found(read_message(text, n), values, text);
        }
}

static void of_a_member_that_comes_twice_the_last_counts(void **state) {
  (void)state;
  uint64_t seed = 1;
  char text[1024];
  for (int kind = 0; kind < KINDS; kind++)
    for (size_t first = 1; first < kinds[kind].n; first++)
      for (size_t second = 1; second < kinds[kind].n; second++) {
        static const struct member none;
        const struct member *values[KINDS] = {&none, &none, &none, &none, &none, &none};
        size_t n = 0;
        text[n++] = '{';
        n = add_member(text, n, kinds[kind].name, kinds[kind].members[first].value, &seed);
        text[n++] = ',';
        n = add_member(text, n, "other", "1", &seed);
        text[n++] = ',';
        n = add_member(text, n, kinds[kind].name, kinds[kind].members[second].value, &seed);
        text[n++] = '}';
        text[n] = '\0';
        values[kind] = &kinds[kind].members[second];
        assert_found(read_message(text, n), values, text);
      }
}

static void an_id_has_256_bytes_at_most(void **state) {
  (void)state;
  char text[600];
  for (size_t len = 254; len <= 260; len++)
    for (int is_string = 0; is_string <= 1; is_string++) {
      size_t max = is_string ? ENVELOPE_ID_MAX + 2 : ENVELOPE_ID_MAX; /* its quotes do not count */
      size_t n = (size_t)sprintf(text, "{\"id\":"), at = n;
      memset(text + n, '7', len);
      if (is_string) text[n] = text[n + len - 1] = '"';
      n += len;
      text[n++] = '}';
      const struct envelope *e = read_message(text, n);
      assert_int_equal(e->bits, len <= max ? ENV_ID : ENV_ID_BAD);
      assert_int_equal(e->id.len, len <= max ? len : 0);
      if (e->id.len) assert_memory_equal(e->id.at, text + at, len);
    }
}

/* ---- whole texts ----------------------------------------------------------------------------- */

static void what_is_no_object_is_known_as_such(void **state) {
  (void)state;
  static const char *const values[] = {"1",  "-0.5e3", "\"x\"",           "null", "true", "false",
                                       "[]", "[{}]",   " [1,{\"id\":2}] "};
  for (size_t i = 0; i < COUNT(values); i++) {
    const struct envelope *e = read_message(values[i], strlen(values[i]));
    assert_int_equal(e->bits, ENV_NOT_OBJECT);
    assert_int_equal(e->method.len + e->params.len + e->id.len + e->result.len + e->error.len, 0);
  }
}

static void all_of_a_text_is_checked(void **state) {
  (void)state;
  static const struct {
    const char *text, *error;
    int at;
  } faults[] = {
      {"", "empty message", 0},
      {" \n", "empty message", 2},
      {"{", "object without an end", 1},
      {"{ ", "object without an end", 2},
      {"{\"id\"", "':' expected", 5},
      {"{\"id\" 1}", "':' expected", 6},
      {"{\"id\":", "value expected", 6},
      {"{\"id\":}", "value expected", 6},
      {"{\"id\":1", "object without an end", 7},
      {"{\"id\":1 ", "object without an end", 8},
      {"{\"id\":1,", "object without an end", 8},
      {"{\"id\":1,}", "string expected as a key", 8},
      {"{,}", "string expected as a key", 1},
      {"{id:1}", "string expected as a key", 1},
      {"{\"id\":1 2}", "',' or '}' expected", 8},
      {"{\"id\":1]", "',' or '}' expected", 7},
      {"{\"jsonrpc\":\"2.0\"\"id\":1}", "',' or '}' expected", 16},
      {"{\"jsonrpc\":\"2.0\"", "object without an end", 16},
      {"{\"jsonrpc\":\"2.0", "string without an end", 15},
      {"{\"jsonrpc\":\"2.0\"x}", "',' or '}' expected", 16},
      {"{}{}", "more text after the message", 2},
      {"{} x", "more text after the message", 3},
      {"1 2", "more text after the message", 2},
      {"[]]", "more text after the message", 2},
      {"{\"other\":[1,{\"a\":tru}]}", "value expected", 17},
      {"{\"other\":01}", "number with a leading zero", 10},
      {"{\"a\\x\":1}", "unknown escape", 4},
      {"{\"a\n\":1}", "control character in a string", 3},
      {"{\"method\":\"\\ud800\"}", "high surrogate without a low one", 12},
      {"nul", "value expected", 0},
  };
  for (size_t i = 0; i < COUNT(faults); i++) {
    const struct envelope *e = read_message(faults[i].text, strlen(faults[i].text));
    const struct json_reader *r = &e->reader;
    if (e->bits != ENV_MALFORMED || strcmp(r->error, faults[i].error) != 0 ||
        r->at - r->start != faults[i].at)
      fail_msg("%s: bits %x, %s at %d", faults[i].text, e->bits, r->error ? r->error : "",
               (int)(r->at - r->start));
    assert_int_equal(e->method.len + e->params.len + e->id.len + e->result.len + e->error.len, 0);
  }
}

static void a_message_cut_anywhere_is_malformed(void **state) {
  (void)state;
  static const char text[] =
      "{\"jsonrpc\":\"2.0\",\"method\":\"m\\u0061\",\"params\":{\"a\":[1,2.5e3,"
      "null,true,false,\"x\"]},\"id\":\"i\",\"x\\ud83d\\ude80\":{}}";
  for (size_t n = 0; n < sizeof text - 1; n++) {
    const struct envelope *e = read_message(text, n);
    assert_int_equal(e->bits, ENV_MALFORMED);
    assert_true(e->reader.error && *e->reader.error);
  }
  assert_int_equal(read_message(text, sizeof text - 1)->bits,
                   ENV_VERSION_2 | ENV_METHOD | ENV_PARAMS_OBJECT | ENV_ID);
}

static void nesting_has_the_bound_of_json(void **state) {
  (void)state;
  for (size_t levels = JSON_DEPTH_MAX - 1; levels <= JSON_DEPTH_MAX + 1; levels++) {
    char text[400];
    size_t n = (size_t)sprintf(text, "{\"params\":");
    memset(text + n, '[', levels);
    memset(text + n + levels, ']', levels);
    n += 2 * levels;
    text[n++] = '}';
    bool is_within = levels <= JSON_DEPTH_MAX; /* params have level 0, as for the limits */
    const struct envelope *e = read_message(text, n);
    assert_int_equal(e->bits, is_within ? ENV_PARAMS_ARRAY : ENV_MALFORMED);
    if (!is_within) assert_string_equal(e->reader.error, "nested too deeply");
  }
}

/* ---- pushing --------------------------------------------------------------------------------- */

/* Reads, pushes, and leaves method, params and id at these stack indexes. */
enum { METHOD = MT + 1, PARAMS, ID };

static struct envelope *push(const char *text, const struct json_limits *limits) {
  lua_settop(L, MT);
  struct envelope *e = read_message(text, strlen(text));
  envelope_push(L, e, limits, MT);
  assert_int_equal(lua_gettop(L), ID);
  return e;
}

static void members_are_pushed(void **state) {
  (void)state;
  push("{\"method\":\"a\\u0062\\n\",\"params\":[1,{}],\"id\":7}", NULL);
  assert_string_equal(lua_tostring(L, METHOD), "ab\n");
  assert_int_equal(lua_rawlen(L, PARAMS), 2);
  assert_true(lua_getmetatable(L, PARAMS) && lua_rawequal(L, -1, MT));
  assert_true(lua_isinteger(L, ID) && lua_tointeger(L, ID) == 7);

  push("{\"id\":\"x\\u0000\\ud83d\\ude80\",\"params\":{\"k\":null}}", NULL);
  assert_true(lua_isnil(L, METHOD));
  assert_int_equal(lua_getfield(L, PARAMS, "k"), LUA_TLIGHTUSERDATA);
  size_t n;
  const char *s = lua_tolstring(L, ID, &n);
  assert_int_equal(n, 6);
  assert_memory_equal(s, "x\0\xf0\x9f\x9a\x80", 6);

  push("{\"method\":\"\",\"id\":null}", NULL);
  assert_int_equal(lua_rawlen(L, METHOD), 0);
  assert_int_equal(lua_type(L, METHOD), LUA_TSTRING);
  assert_true(lua_isnil(L, PARAMS));
  assert_true(lua_islightuserdata(L, ID) && !lua_touserdata(L, ID));

  push("{\"method\":1,\"id\":true,\"params\":null}", NULL);
  assert_true(lua_isnil(L, METHOD) && lua_isnil(L, ID));
  assert_true(lua_islightuserdata(L, PARAMS)); /* there, and null */

  push("{\"params\":\"x\",\"id\":1.5}", NULL);
  assert_string_equal(lua_tostring(L, PARAMS), "x");
  assert_true(lua_tonumber(L, ID) == 1.5);

  push("{}", NULL);
  assert_true(lua_isnil(L, METHOD) && lua_isnil(L, PARAMS) && lua_isnil(L, ID));
}

static void an_id_no_number_can_hold_is_pushed_as_text(void **state) {
  (void)state;
  static const char *const long_ids[] = {"123456789012345678901234567890", "-9223372036854775809",
                                         "1e400"};
  char text[100];
  for (size_t i = 0; i < COUNT(long_ids); i++) {
    snprintf(text, sizeof text, "{\"id\":%s}", long_ids[i]);
    struct envelope *e = push(text, NULL);
    assert_int_equal(lua_type(L, ID), LUA_TSTRING);
    assert_string_equal(lua_tostring(L, ID), long_ids[i]);
    assert_int_equal(e->bits, ENV_ID);
  }
}

static void nothing_is_pushed_of_a_malformed_message(void **state) {
  (void)state;
  push("{\"method\":\"m\",\"params\":[],\"id\":1", NULL);
  assert_true(lua_isnil(L, METHOD) && lua_isnil(L, PARAMS) && lua_isnil(L, ID));
}

static void params_over_a_limit_are_told(void **state) {
  (void)state;
  static const struct {
    const char *params;
    const char *limit; /* NULL: a number out of range */
    const char *path;
  } over[] = {
      {"[[[1]]]", "depth", "[0][0][0]"},
      {"{\"a\":{\"b\":{\"c\":1}}}", "depth", ".a.b"},
      {"[1,2,3,4,5]", "array", ""},
      {"{\"a\":[1,2,3,4,5]}", "array", ".a"},
      {"[\"123456789\"]", "string", "[0]"},
      {"{\"123456789\":1}", "string", ""},
      {"[1,9223372036854775808]", NULL, "[1]"},
      {"{\"a\":-1e999}", NULL, ".a"},
      {"1e999", NULL, ""},
  };
  static const struct json_limits limits = {.depth = 2, .array = 4, .string = 8};
  char text[200];
  for (size_t i = 0; i < COUNT(over); i++) {
    snprintf(text, sizeof text,
             "{\"method\":\"a method name of any length\",\"params\":%s,\"id\":1}", over[i].params);
    struct envelope *e = push(text, &limits);
    assert_true(lua_isnil(L, PARAMS));
    assert_int_equal(lua_type(L, METHOD), LUA_TSTRING); /* limits are for params */
    assert_int_equal(lua_tointeger(L, ID), 1);
    bool is_right = over[i].limit ? e->bits & ENV_OVER_LIMIT && !(e->bits & ENV_OUT_OF_RANGE) &&
                                        strcmp(e->reader.limit, over[i].limit) == 0
                                  : e->bits & ENV_OUT_OF_RANGE && !(e->bits & ENV_OVER_LIMIT);
    if (!is_right || strcmp(e->reader.path + e->reader.path_at, over[i].path) != 0)
      fail_msg("%s: bits %x, path %s", over[i].params, e->bits, e->reader.path + e->reader.path_at);
  }
  /* within: nothing is said */
  struct envelope *e = push("{\"params\":[[1],\"12345678\",3,4]}", &limits);
  assert_int_equal(e->bits, ENV_PARAMS_ARRAY);
  assert_true(lua_istable(L, PARAMS));
}

/* ---- batches --------------------------------------------------------------------------------- */

static void batches_are_known_from_outside(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool is_batch;
  } all[] = {{"[", true},  {" \t\r\n[1]", true}, {"[]", true},     {"{}", false},  {"", false},
             {" ", false}, {"1", false},         {"\"[\"", false}, {"\f[", false}, {"x[", false}};
  for (size_t i = 0; i < COUNT(all); i++) {
    char *s = exact_copy(all[i].text, strlen(all[i].text));
    if (envelope_is_batch(s, strlen(all[i].text)) != all[i].is_batch) fail_msg("%s", all[i].text);
    free(s);
  }
}

static void batches_are_split(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int n; /* -1: not JSON ... */
    const char *members[5];
    const char *error; /* ... with this error ... */
    size_t at;         /* ... there */
  } all[] = {
      {"[]", 0, {0}, NULL, 0},
      {" [ ] ", 0, {0}, NULL, 0},
      {"[1]", 1, {"1"}, NULL, 0},
      {"[ 1 , \"a,b\" ,[2,3],{\"x\":[4]}\n]\t",
       4,
       {"1", "\"a,b\"", "[2,3]", "{\"x\":[4]}"},
       NULL,
       0},
      {"[null,true,false,-1.5e3,\"\\\"]\"]",
       5,
       {"null", "true", "false", "-1.5e3", "\"\\\"]\""},
       NULL,
       0},
      {"[[[]],{}]", 2, {"[[]]", "{}"}, NULL, 0},
      {"[1,{\"id\":{}}]", 2, {"1", "{\"id\":{}}"}, NULL, 0},
      {"[", -1, {0}, "value expected", 1},
      {"[1", -1, {0}, "array without an end", 2},
      {"[1 ", -1, {0}, "array without an end", 3},
      {"[1,", -1, {0}, "value expected", 3},
      {"[1,]", -1, {0}, "value expected", 3},
      {"[,1]", -1, {0}, "value expected", 1},
      {"[1 2]", -1, {0}, "',' or ']' expected", 3},
      {"[1}", -1, {0}, "',' or ']' expected", 2},
      {"[1]]", -1, {0}, "more text after the batch", 3},
      {"[] x", -1, {0}, "more text after the batch", 3},
      {"[1,{\"a\":}]", -1, {0}, "value expected", 8},
      {"[1,\"x", -1, {0}, "string without an end", 5},
      {"[1,foo]", -1, {0}, "value expected", 3},
  };
  for (size_t i = 0; i < COUNT(all); i++) {
    size_t len = strlen(all[i].text), error_at = 99;
    char *s = exact_copy(all[i].text, len);
    struct envelope_span members[5] = {0};
    const char *error = NULL;
    int n = envelope_split(s, len, members, 5, &error, &error_at);
    if (n != all[i].n) fail_msg("%s: %d, %s", all[i].text, n, error ? error : "");
    for (int k = 0; k < n; k++)
      if (!is_span(members[k], all[i].members[k])) fail_msg("%s: member %d", all[i].text, k);
    if (n < 0 && (strcmp(error, all[i].error) != 0 || error_at != all[i].at))
      fail_msg("%s: %s at %zu", all[i].text, error, error_at);
    if (n >= 0) assert_null(error);
    free(s);
  }
}

static void no_more_members_are_stored_than_there_is_room_for(void **state) {
  (void)state;
  static const char text[] = "[1,2,3,4,5]";
  for (int max = 0; max <= 6; max++) {
    struct envelope_span *members = calloc((size_t)max + !max, sizeof *members);
    const char *error;
    size_t at;
    assert_non_null(members);
    assert_int_equal(envelope_split(text, sizeof text - 1, members, max, &error, &at), 5);
    for (int i = 0; i < max && i < 5; i++) assert_ptr_equal(members[i].at, text + 1 + 2 * i);
    free(members);
  }
}

static void a_fault_behind_the_room_is_still_found(void **state) {
  (void)state;
  static const char text[] = "[1,2,3,4,oops]";
  struct envelope_span one[1];
  const char *error;
  size_t at;
  assert_int_equal(envelope_split(text, sizeof text - 1, one, 1, &error, &at), -1);
  assert_int_equal(at, 9);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void answers_are_written(void **state) {
  (void)state;
  static const struct {
    enum envelope_style style;
    const char *id, *text;
  } answers[] = {
      {ENV_RESULT_2, "1", "{\"jsonrpc\":\"2.0\",\"result\":VALUE,\"id\":1}"},
      {ENV_RESULT_2, "", "{\"jsonrpc\":\"2.0\",\"result\":VALUE,\"id\":null}"},
      {ENV_RESULT_2, "\"\\u00e9\"", "{\"jsonrpc\":\"2.0\",\"result\":VALUE,\"id\":\"\\u00e9\"}"},
      {ENV_ERROR_2, "1e2", "{\"jsonrpc\":\"2.0\",\"error\":VALUE,\"id\":1e2}"},
      {ENV_ERROR_2, "", "{\"jsonrpc\":\"2.0\",\"error\":VALUE,\"id\":null}"},
      {ENV_RESULT_1, "7", "{\"result\":VALUE,\"error\":null,\"id\":7}"},
      {ENV_ERROR_1, "7", "{\"result\":null,\"error\":VALUE,\"id\":7}"},
      {ENV_ERROR_1, "", "{\"result\":null,\"error\":VALUE,\"id\":null}"},
  };
  struct builder b = {0};
  for (size_t i = 0; i < COUNT(answers); i++) {
    struct slice s;
    builder_begin(&b);
    envelope_open(&b, answers[i].style);
    builder_text(&b, "VALUE");
    envelope_close(&b, answers[i].style, answers[i].id, (uint32_t)strlen(answers[i].id));
    assert_true(builder_commit(&b, &s));
    assert_int_equal(s.len, strlen(answers[i].text));
    assert_memory_equal(slice_data(&s), answers[i].text, s.len);
  }
  builder_fini(&b);
}

/* What came as an id goes back as the same bytes, through reading and writing. */
static void an_id_goes_back_byte_for_byte(void **state) {
  (void)state;
  struct builder b = {0};
  char text[200], expected[200];
  for (size_t i = 1; i < COUNT(ids); i++) {
    struct slice s;
    if (ids[i].bits != ENV_ID) continue;
    snprintf(text, sizeof text, "{ \"id\" :\t%s }", ids[i].value);
    const struct envelope *e = read_message(text, strlen(text));
    builder_begin(&b);
    envelope_open(&b, ENV_RESULT_2);
    builder_text(&b, "0");
    envelope_close(&b, ENV_RESULT_2, e->id.at, e->id.len);
    assert_true(builder_commit(&b, &s));
    snprintf(expected, sizeof expected, "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":%s}",
             ids[i].value);
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(slice_data(&s), expected, s.len);
  }
  builder_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(every_combination_of_members_is_found, let_go),
      cmocka_unit_test_teardown(of_a_member_that_comes_twice_the_last_counts, let_go),
      cmocka_unit_test_teardown(an_id_has_256_bytes_at_most, let_go),
      cmocka_unit_test_teardown(what_is_no_object_is_known_as_such, let_go),
      cmocka_unit_test_teardown(all_of_a_text_is_checked, let_go),
      cmocka_unit_test_teardown(a_message_cut_anywhere_is_malformed, let_go),
      cmocka_unit_test_teardown(nesting_has_the_bound_of_json, let_go),
      cmocka_unit_test_teardown(members_are_pushed, let_go),
      cmocka_unit_test_teardown(an_id_no_number_can_hold_is_pushed_as_text, let_go),
      cmocka_unit_test_teardown(nothing_is_pushed_of_a_malformed_message, let_go),
      cmocka_unit_test_teardown(params_over_a_limit_are_told, let_go),
      cmocka_unit_test(batches_are_known_from_outside),
      cmocka_unit_test(batches_are_split),
      cmocka_unit_test(no_more_members_are_stored_than_there_is_room_for),
      cmocka_unit_test(a_fault_behind_the_room_is_still_found),
      cmocka_unit_test(answers_are_written),
      cmocka_unit_test_teardown(an_id_goes_back_byte_for_byte, let_go),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
