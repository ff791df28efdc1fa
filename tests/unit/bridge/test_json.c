/* SPDX-License-Identifier: MIT */
/* test_json.c -- JSON is read strictly and comes back as it was, and what has no form is refused.
 */
#include "../unit.h"

#include "bridge/json.h"
#include "bridge/task.h"
#include "wire/utf8.h"

#include <float.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lua-cjson.h>
#include <lualib.h>
#include <math.h>

static lua_State *L;
static struct json_scratch scratch;
enum { MT = 1 }; /* stack index of the array metatable */

static int l_array(lua_State *S) {
  lua_settop(S, 1);
  lua_pushvalue(S, lua_upvalueindex(1));
  lua_setmetatable(S, 1);
  return 1;
}

static int start(void **state) {
  (void)state;
  L = luaL_newstate();
  luaL_openlibs(L);
  lua_newtable(L);
  lua_pushlightuserdata(L, NULL);
  lua_setglobal(L, "null");
  lua_pushvalue(L, MT);
  lua_pushcclosure(L, l_array, 1);
  lua_setglobal(L, "array");
  luaL_requiref(L, "cjson", luaopen_cjson, 1);
  lua_settop(L, MT);
  return 0;
}

static int stop(void **state) {
  (void)state;
  lua_close(L);
  json_scratch_fini(&scratch);
  return 0;
}

/* ---- reading and writing whole texts --------------------------------------------------------- */

/* Reads a text that lies in memory of exactly its size. Pushes the value or nothing. */
static enum json_status read_text(struct json_reader *r, const char *text, size_t n,
                                  const struct json_limits *limits) {
  char *s = exact_copy(text, n);
  int top = lua_gettop(L);
  json_reader_init(r, s, n, limits, &scratch, MT);
  enum json_status status = json_read_text(L, r);
  assert_int_equal(lua_gettop(L), top + (status == JSON_OK));
  assert_true(r->at >= r->start && r->at <= r->end);
  assert_int_equal(r->error != NULL, status == JSON_MALFORMED);
  assert_int_equal(r->limit != NULL, status == JSON_LIMIT);
  assert_true(r->path_at < JSON_PATH_MAX);
  assert_int_equal(r->path[JSON_PATH_MAX - 1], '\0');
  if (status == JSON_OK) assert_string_equal(r->path + r->path_at, "");
  free(s); /* nothing that was read may point into it */
  return status;
}

/* Checks a text without making its values. */
static bool is_json(const char *text, size_t n) {
  struct json_reader r;
  char *s = exact_copy(text, n);
  json_reader_init(&r, s, n, NULL, &scratch, MT);
  bool is_good = json_skip(&r) == JSON_OK && json_at_end(&r);
  free(s);
  return is_good;
}

/* Writes the value on top of the stack; *error and *path are set when that fails. The text, to be
 * freed, or NULL. */
static char *write_value(const char **error, char path[JSON_PATH_MAX]) {
  struct builder b = {0};
  struct json_writer w;
  struct slice s;
  char *text = NULL;
  int top = lua_gettop(L);
  builder_begin(&b);
  builder_text(&b, "before"); /* a value need not be first */
  json_writer_init(&w, &b, lua_topointer(L, MT));
  bool is_written = json_write(L, &w, -1);
  assert_int_equal(lua_gettop(L), top);
  assert_int_equal(w.error == NULL, is_written);
  if (is_written) {
    assert_true(builder_commit(&b, &s));
    text = malloc(s.len - 5);
    assert_non_null(text);
    memcpy(text, slice_data(&s) + 6, s.len - 6);
    text[s.len - 6] = '\0';
    assert_string_equal(w.path + w.path_at, "");
  } else {
    builder_abort(&b);
    if (error) *error = w.error;
    if (path) strcpy(path, w.path + w.path_at);
  }
  builder_fini(&b);
  return text;
}

static void assert_writes(const char *expected) {
  const char *error = "";
  char path[JSON_PATH_MAX] = "", *text = write_value(&error, path);
  if (!text) fail_msg("%s at %s instead of %s", error, path, expected);
  assert_string_equal(text, expected);
  free(text);
}

/* The same value, of the same types, to the last bit. */
static bool is_same(int a, int b) {
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  if (lua_type(L, a) != lua_type(L, b)) return false;
  if (lua_type(L, a) == LUA_TNUMBER) {
    if (lua_isinteger(L, a) != lua_isinteger(L, b)) return false;
    if (lua_isinteger(L, a)) return lua_tointeger(L, a) == lua_tointeger(L, b);
    double x = lua_tonumber(L, a), y = lua_tonumber(L, b);
    return memcmp(&x, &y, sizeof x) == 0;
  }
  if (lua_type(L, a) != LUA_TTABLE) return lua_rawequal(L, a, b);
  const void *mt[2] = {NULL, NULL};
  int tables[2] = {a, b};
  size_t n = 0;
  luaL_checkstack(L, 8, NULL);
  for (int i = 0; i < 2; i++) {
    if (lua_getmetatable(L, tables[i])) {
      mt[i] = lua_topointer(L, -1);
      lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, tables[i]); lua_pop(L, 1)) n += i ? (size_t)-1 : 1;
  }
  if (mt[0] != mt[1] || n != 0) return false;
  for (lua_pushnil(L); lua_next(L, a); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_rawget(L, b);
    bool is_equal = is_same(-2, -1);
    lua_pop(L, 1);
    if (!is_equal) {
      lua_pop(L, 2);
      return false;
    }
  }
  return true;
}

/* Pushes what a Lua expression says; `array` and `null` are known. */
static void push(const char *expression) {
  lua_pushfstring(L, "return %s", expression);
  if (luaL_dostring(L, lua_tostring(L, -1)) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
  lua_remove(L, -2);
}

/* ---- the grammar ----------------------------------------------------------------------------- */

#define T(text) text, sizeof(text) - 1

static const struct {
  const char *name, *text; /* y_: JSON, n_: not; names as in JSONTestSuite where it has them */
  size_t n;
} texts[] = {
    {"y_array_empty", T("[]")},
    {"y_array_with_spaces", T("[ ]")},
    {"y_array_with_all_white_space", T(" \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n")},
    {"y_array_nested_empty", T("[[],[[]]]")},
    {"y_array_heterogeneous", T("[null, 1, \"1\", {}, [], true, false, 1.5]")},
    {"y_array_with_one_null", T("[null]")},
    {"y_array_with_several_null", T("[1,null,null,null,2]")},
    {"y_array_ending_with_newline", T("[\"a\"]\n")},
    {"y_array_false", T("[false]")},
    {"y_object_empty", T("{}")},
    {"y_object_with_spaces", T("{ }")},
    {"y_object_basic", T("{\"asd\":\"sdf\"}")},
    {"y_object_all_white_space", T("\r\n{\t\"a\" : 1 ,\n\"b\"\r:\t2 } ")},
    {"y_object_duplicated_key", T("{\"a\":\"b\",\"a\":\"c\"}")},
    {"y_object_duplicated_key_and_value", T("{\"a\":\"b\",\"a\":\"b\"}")},
    {"y_object_empty_key", T("{\"\":0}")},
    {"y_object_escaped_null_in_key", T("{\"foo\\u0000bar\": 42}")},
    {"y_object_long_strings",
     T("{\"x\":[{\"id\": \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}]}")},
    {"y_object_unicode_key", T("{\"\\u043f\\u043e\":\"\xd0\xbf\"}")},
    {"y_object_nested", T("{\"a\":{\"b\":{\"c\":[]}}}")},
    {"y_number_0", T("0")},
    {"y_number_minus_zero", T("-0")},
    {"y_number_1", T("1")},
    {"y_number_negative_one", T("-1")},
    {"y_number_123", T("123")},
    {"y_number_after_space", T("[ 4]")},
    {"y_number_0e1", T("0e1")},
    {"y_number_0e+1", T("0e+1")},
    {"y_number_minus_0e-1", T("-0e-1")},
    {"y_number_0.0", T("0.0")},
    {"y_number_double_close_to_zero", T("-0.000000000000000000000000000000000000000000000000001")},
    {"y_number_int_with_exp", T("20e1")},
    {"y_number_capital_e", T("1E22")},
    {"y_number_capital_e_plus", T("1E+2")},
    {"y_number_capital_e_minus", T("1E-2")},
    {"y_number_fraction_exponent", T("123.456e78")},
    {"y_number_exponent_with_zeros", T("1e0001")},
    {"y_number_exponent_minus_zeros", T("1e-000")},
    {"y_number_long_fraction", T("0.10000000000000000000000000000000000000000000000000000")},
    {"y_number_underflows_to_zero", T("1e-400")},
    {"y_number_exponent_of_many_digits_down", T("1e-99999999999999999999")},
    {"y_number_zero_with_a_huge_exponent", T("0e99999999999999999999")},
    {"y_number_most_positive", T("9223372036854775807")},
    {"y_number_most_negative", T("-9223372036854775808")},
    {"y_string_empty", T("\"\"")},
    {"y_string_space", T("\" \"")},
    {"y_string_allowed_escapes", T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
    {"y_string_backslash_and_u_escaped_zero", T("\"\\\\u0000\"")},
    {"y_string_1_2_3_bytes_utf8", T("\"\\u0060\\u012a\\u12AB\"")},
    {"y_string_accepted_surrogate_pair", T("\"\\uD801\\udc37\"")},
    {"y_string_accepted_surrogate_pairs", T("\"\\ud83d\\ude39\\ud83d\\udc8d\"")},
    {"y_string_first_surrogate_pair", T("\"\\ud800\\udc00\"")},
    {"y_string_last_surrogate_pair", T("\"\\uDBFF\\uDFFF\"")},
    {"y_string_null_escape", T("\"\\u0000\"")},
    {"y_string_last_bmp", T("\"\\uffff\"")},
    {"y_string_before_surrogates", T("\"\\ud7ff\"")},
    {"y_string_after_surrogates", T("\"\\ue000\"")},
    {"y_string_comments", T("\"a/*b*/c/*d//e\"")},
    {"y_string_double_escape_a", T("\"\\\\a\"")},
    {"y_string_double_escape_n", T("\"\\\\n\"")},
    {"y_string_unescaped_del", T("\"\x7f\"")},
    {"y_string_utf8", T("\"\xe2\x82\xac\xf0\x9d\x84\x9e\"")},
    {"y_string_u2028_line_sep", T("\"\xe2\x80\xa8\"")},
    {"y_string_noncharacter", T("\"\xef\xbf\xbf\"")},
    {"y_string_with_bom_inside", T("\"\xef\xbb\xbf\"")},
    {"y_string_brackets", T("\"[{]},:\"")},
    {"y_structure_lonely_true", T("true")},
    {"y_structure_lonely_false", T("false")},
    {"y_structure_lonely_null", T("null")},
    {"y_structure_lonely_negative_real", T("-0.1")},
    {"y_structure_lonely_string", T("\"asd\"")},
    {"y_structure_trailing_newline", T("null\n")},
    {"y_structure_white_space_in_front", T(" \t\r\n null")},

    {"n_empty", T("")},
    {"n_single_space", T(" ")},
    {"n_white_space_only", T(" \t\r\n")},
    {"n_bom", T("\xef\xbb\xbf{}")},
    {"n_bom_alone", T("\xef\xbb\xbf")},
    {"n_nul", T("\0")},
    {"n_nul_behind", T("1\0")},
    {"n_nul_in_front", T("\0"
                         "1")},
    {"n_array_1_true_without_comma", T("[1 true]")},
    {"n_array_colon_instead_of_comma", T("[\"\": 1]")},
    {"n_array_comma_after_close", T("[\"\"],")},
    {"n_array_comma_and_number", T("[,1]")},
    {"n_array_double_comma", T("[1,,2]")},
    {"n_array_double_extra_comma", T("[\"x\",,]")},
    {"n_array_extra_close", T("[\"x\"]]")},
    {"n_array_extra_comma", T("[\"\",]")},
    {"n_array_incomplete", T("[\"x\"")},
    {"n_array_incomplete_value", T("[x")},
    {"n_array_inner_without_comma", T("[3[4]]")},
    {"n_array_just_comma", T("[,]")},
    {"n_array_just_minus", T("[-]")},
    {"n_array_missing_value", T("[   , \"\"]")},
    {"n_array_newlines_unclosed", T("[\"a\",\n4\n,1,")},
    {"n_array_star_inside", T("[*]")},
    {"n_array_unclosed", T("[")},
    {"n_array_unclosed_trailing_comma", T("[1,")},
    {"n_array_unclosed_with_object_inside", T("[{}")},
    {"n_array_closed_as_object", T("[1}")},
    {"n_array_close_alone", T("]")},
    {"n_object_bad_value", T("[\"x\", truth]")},
    {"n_object_bracket_key", T("{[: \"x\"}\n")},
    {"n_object_close_alone", T("}")},
    {"n_object_closed_as_array", T("{\"a\":1]")},
    {"n_object_comma_instead_of_colon", T("{\"x\", null}")},
    {"n_object_double_colon", T("{\"x\"::\"b\"}")},
    {"n_object_garbage_at_end", T("{\"a\":\"a\" 123}")},
    {"n_object_key_with_single_quotes", T("{'a':0}")},
    {"n_object_lone_comma", T("{,}")},
    {"n_object_missing_colon", T("{\"a\" b}")},
    {"n_object_missing_key", T("{:\"b\"}")},
    {"n_object_missing_semicolon", T("{\"a\" \"b\"}")},
    {"n_object_missing_value", T("{\"a\":")},
    {"n_object_missing_value_closed", T("{\"a\":}")},
    {"n_object_no_colon", T("{\"a\"")},
    {"n_object_non_string_key", T("{1:1}")},
    {"n_object_null_key", T("{null:null,null:null}")},
    {"n_object_true_key", T("{true:1}")},
    {"n_object_several_trailing_commas", T("{\"id\":0,,,,,}")},
    {"n_object_trailing_comma", T("{\"id\":0,}")},
    {"n_object_trailing_comment", T("{\"a\":\"b\"}/**/")},
    {"n_object_trailing_comment_slash", T("{\"a\":\"b\"}//")},
    {"n_object_trailing_comment_cut", T("{\"a\":\"b\"}/")},
    {"n_object_two_commas_in_a_row", T("{\"a\":\"b\",,\"c\":\"d\"}")},
    {"n_object_unquoted_key", T("{a: \"b\"}")},
    {"n_object_unterminated_value", T("{\"a\":\"a")},
    {"n_object_with_single_string", T("{ \"foo\" : \"bar\", \"a\" }")},
    {"n_object_with_trailing_garbage", T("{\"a\":\"b\"}#")},
    {"n_object_unclosed", T("{")},
    {"n_object_unclosed_pair", T("{\"a\":1")},
    {"n_object_unclosed_comma", T("{\"a\":1,")},
    {"n_number_++", T("++1234")},
    {"n_number_+1", T("+1")},
    {"n_number_+Inf", T("+Inf")},
    {"n_number_-01", T("-01")},
    {"n_number_-1.0.", T("-1.0.")},
    {"n_number_-2.", T("-2.")},
    {"n_number_-NaN", T("-NaN")},
    {"n_number_.-1", T(".-1")},
    {"n_number_.2e-3", T(".2e-3")},
    {"n_number_0.1.2", T("0.1.2")},
    {"n_number_0.3e", T("0.3e")},
    {"n_number_0.3e+", T("0.3e+")},
    {"n_number_0.e1", T("0.e1")},
    {"n_number_0_capital_E", T("0E")},
    {"n_number_0_capital_E+", T("0E+")},
    {"n_number_00", T("00")},
    {"n_number_1.0e-", T("1.0e-")},
    {"n_number_1_000", T("1 000")},
    {"n_number_1_underscore_0", T("1_000")},
    {"n_number_1eE2", T("1eE2")},
    {"n_number_2.e3", T("2.e3")},
    {"n_number_9.e+", T("9.e+")},
    {"n_number_Inf", T("Inf")},
    {"n_number_Infinity", T("Infinity")},
    {"n_number_minus_Infinity", T("-Infinity")},
    {"n_number_NaN", T("NaN")},
    {"n_number_nan", T("nan")},
    {"n_number_fullwidth_1", T("\xef\xbc\x91")},
    {"n_number_expression", T("1+2")},
    {"n_number_hex_1_digit", T("0x1")},
    {"n_number_hex_2_digits", T("0x42")},
    {"n_number_hex_float", T("0x1p4")},
    {"n_number_octal", T("012")},
    {"n_number_minus", T("-")},
    {"n_number_minus_sign_with_trailing_garbage", T("-foo")},
    {"n_number_minus_space_1", T("- 1")},
    {"n_number_neg_real_without_int", T("-.123")},
    {"n_number_real_garbage_after_e", T("1ea")},
    {"n_number_real_without_fraction", T("1.")},
    {"n_number_starting_with_dot", T(".123")},
    {"n_number_with_alpha", T("1.2a-3")},
    {"n_number_with_leading_zero", T("0123")},
    {"n_number_with_comma", T("1,5")},
    {"n_number_with_suffix", T("1L")},
    {"n_string_1_surrogate_then_escape", T("\"\\uD800\\\"")},
    {"n_string_1_surrogate_then_escape_u", T("\"\\uD800\\u\"")},
    {"n_string_1_surrogate_then_escape_u1", T("\"\\uD800\\u1\"")},
    {"n_string_1_surrogate_then_escape_u1x", T("\"\\uD800\\u1x\"")},
    {"n_string_lone_high_surrogate", T("\"\\uD800\"")},
    {"n_string_high_surrogate_and_text", T("\"\\uD800abcdef\"")},
    {"n_string_high_surrogate_twice", T("\"\\uD800\\uD800\"")},
    {"n_string_high_surrogate_and_bmp", T("\"\\uD800\\u0041\"")},
    {"n_string_high_surrogate_and_newline", T("\"\\uD800\\n\"")},
    {"n_string_lone_low_surrogate", T("\"\\uDC00\"")},
    {"n_string_last_low_surrogate", T("\"\\uDFFF\"")},
    {"n_string_inverted_surrogates", T("\"\\uDD1E\\uD834\"")},
    {"n_string_backslash_00", T("\"\\\x00\"")},
    {"n_string_escape_x", T("\"\\x00\"")},
    {"n_string_escaped_backslash_bad", T("\"\\\\\\\"")},
    {"n_string_escaped_ctrl_char_tab", T("\"\\\t\"")},
    {"n_string_escaped_emoji", T("\"\\\xf0\x9f\x8c\x80\"")},
    {"n_string_escaped_quote_single", T("\"\\'\"")},
    {"n_string_escaped_zero", T("\"\\0\"")},
    {"n_string_escape_capital_u", T("\"\\U0041\"")},
    {"n_string_escape_capital_n", T("\"\\N\"")},
    {"n_string_escape_v", T("\"\\v\"")},
    {"n_string_escape_e", T("\"\\e\"")},
    {"n_string_incomplete_escape", T("\"\\\"")},
    {"n_string_incomplete_escape_cut", T("\"\\")},
    {"n_string_incomplete_escaped_character", T("\"\\u00A\"")},
    {"n_string_incomplete_escaped_character_cut", T("\"\\u00A")},
    {"n_string_incomplete_surrogate_cut", T("\"\\uD834\\uDd")},
    {"n_string_invalid_backslash_esc", T("\"\\a\"")},
    {"n_string_invalid_unicode_escape", T("\"\\uqqqq\"")},
    {"n_string_unicode_escape_with_sign", T("\"\\u+041\"")},
    {"n_string_unicode_escape_with_space", T("\"\\u 041\"")},
    {"n_string_unicode_escape_0x", T("\"\\u0x41\"")},
    {"n_string_leading_uescaped_thinspace", T("[\\u0020\"asd\"]")},
    {"n_string_no_quotes_with_bad_escape", T("[\\n]")},
    {"n_string_single_doublequote", T("\"")},
    {"n_string_single_quote", T("['single quote']")},
    {"n_string_single_string_no_double_quotes", T("abc")},
    {"n_string_start_escape_unclosed", T("[\"\\")},
    {"n_string_unescaped_ctrl_char", T("\"a\x00"
                                       "a\"")},
    {"n_string_unescaped_newline", T("\"new\nline\"")},
    {"n_string_unescaped_cr", T("\"a\rb\"")},
    {"n_string_unescaped_tab", T("\"\t\"")},
    {"n_string_unescaped_1f", T("\"\x1f\"")},
    {"n_string_with_trailing_garbage", T("\"\"x")},
    {"n_structure_angle_bracket", T("<.>")},
    {"n_structure_array_trailing_garbage", T("[1]x")},
    {"n_structure_ascii_unicode_identifier", T("a\xc3\xa5")},
    {"n_structure_capitalized_true", T("True")},
    {"n_structure_capital_null", T("NULL")},
    {"n_structure_incomplete_true", T("tru")},
    {"n_structure_incomplete_false", T("fals")},
    {"n_structure_incomplete_null", T("nul")},
    {"n_structure_true_and_more", T("truee")},
    {"n_structure_undefined", T("undefined")},
    {"n_structure_double_array", T("[][]")},
    {"n_structure_two_values", T("1 2")},
    {"n_structure_end_array", T("1]")},
    {"n_structure_number_with_trailing_garbage", T("2@")},
    {"n_structure_object_followed_by_closing_object", T("{}}")},
    {"n_structure_object_with_comment", T("{\"a\":/*comment*/\"b\"}")},
    {"n_structure_line_comment", T("//x\n1")},
    {"n_structure_hash_comment", T("#x\n1")},
    {"n_structure_open_array_apostrophe", T("['")},
    {"n_structure_open_array_comma", T("[,")},
    {"n_structure_open_array_open_object", T("[{")},
    {"n_structure_open_object_open_array", T("{[")},
    {"n_structure_open_object_comma", T("{,")},
    {"n_structure_single_star", T("*")},
    {"n_structure_comma", T(",")},
    {"n_structure_colon", T(":")},
    {"n_structure_u2060_word_joined", T("[\xe2\x81\xa0]")},
    {"n_structure_no_break_space", T("\xc2\xa0"
                                     "1")},
    {"n_structure_form_feed", T("[\f]")},
    {"n_structure_vertical_tab", T("\v1")},
    {"n_structure_uescaped_lf_before_string", T("[\\u000A\"\"]")},
    {"n_structure_double_quote_missing", T("{\"a:1}")},
};

static void texts_are_json_or_not(void **state) {
  (void)state;
  struct json_reader r;
  unsigned wrong = 0;
  for (size_t i = 0; i < COUNT(texts); i++) {
    bool is_good = texts[i].name[0] == 'y';
    assert_true(utf8_is_valid((const uint8_t *)texts[i].text, texts[i].n));
    enum json_status status = read_text(&r, texts[i].text, texts[i].n, NULL);
    bool is_skipped = is_json(texts[i].text, texts[i].n);
    if (status != (is_good ? JSON_OK : JSON_MALFORMED) || is_skipped != is_good) {
      print_error("%s: read %d, skipped %d\n", texts[i].name, status, is_skipped);
      wrong++;
    }
    lua_settop(L, MT);
  }
  assert_int_equal(wrong, 0);
}

/* No start of a good text is good, unless it is a number that goes on; and no byte may be read
 * behind it, which the address sanitizer watches. */
static void texts_cut_short_are_not_json(void **state) {
  (void)state;
  struct json_reader r;
  for (size_t i = 0; i < COUNT(texts); i++) {
    const char *text = texts[i].text;
    if (texts[i].name[0] != 'y' || !strchr("[{\"tfn", text[0])) continue;
    size_t n = texts[i].n;
    while (strchr(" \t\r\n", text[n - 1])) n--;
    for (size_t cut = 0; cut < n; cut++) {
      if (read_text(&r, text, cut, NULL) != JSON_MALFORMED || is_json(text, cut))
        fail_msg("%s cut at %zu", texts[i].name, cut);
    }
  }
}

static void errors_say_what_and_where(void **state) {
  (void)state;
  static const struct {
    const char *text, *error;
    int at;
    const char *path;
  } errors[] = {
      {"", "value expected", 0, ""},
      {"  ", "value expected", 2, ""},
      {"[1,]", "value expected", 3, "[1]"},
      {"[1 2]", "',' or ']' expected", 3, ""},
      {"[1", "array without an end", 2, ""},
      {"[[1,[x", "value expected", 5, "[0][1][0]"},
      {"{\"a\":1", "object without an end", 6, ""},
      {"{\"a\":1 2}", "',' or '}' expected", 7, ""},
      {"{1:2}", "string expected as a key", 1, ""},
      {"{\"a\":1,}", "string expected as a key", 7, ""},
      {"{\"a\" 1}", "':' expected", 5, ""},
      {"{\"a\":{\"b\":[0,?", "value expected", 13, ".a.b[1]"},
      {"{\"a\\u0062\":x", "value expected", 11, ".ab"},
      {"\"abc", "string without an end", 4, ""},
      {"\"abc\\", "string without an end", 5, ""},
      {"\"a\nb\"", "control character in a string", 2, ""},
      {"\"a\\x\"", "unknown escape", 3, ""},
      {"\"\\u12\"", "\\u needs four hex digits", 2, ""},
      {"\"\\u", "\\u needs four hex digits", 2, ""},
      {"\"\\u004", "\\u needs four hex digits", 2, ""},
      {"\"\\u0041", "string without an end", 7, ""},
      {"\"\\u004g\"", "\\u needs four hex digits", 2, ""},
      {"\"\\ud83d", "high surrogate without a low one", 2, ""},
      {"\"\\ud83d\\ude0", "high surrogate without a low one", 2, ""},
      {"\"\\ud83d\\ude00", "string without an end", 13, ""},
      {"\"\\udc00\"", "low surrogate without a high one", 2, ""},
      {"\"\\ud800x\"", "high surrogate without a low one", 2, ""},
      {"-x", "digit expected", 1, ""},
      {"01", "number with a leading zero", 1, ""},
      {"1.x", "digit expected after the point", 2, ""},
      {"1e+", "digit expected in the exponent", 3, ""},
      {"1 x", "more text after the value", 2, ""},
      {"[1]]", "more text after the value", 3, ""},
  };
  struct json_reader r;
  for (size_t i = 0; i < COUNT(errors); i++) {
    size_t n = strlen(errors[i].text);
    char *s = exact_copy(errors[i].text, n);
    json_reader_init(&r, s, n, NULL, &scratch, MT);
    assert_int_equal(json_read_text(L, &r), JSON_MALFORMED);
    if (strcmp(r.error, errors[i].error) != 0 || r.at - r.start != errors[i].at ||
        strcmp(r.path + r.path_at, errors[i].path) != 0)
      fail_msg("%s: %s at %d, path %s", errors[i].text, r.error, (int)(r.at - r.start),
               r.path + r.path_at);
    free(s);
  }
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void integers_are_exact(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool is_in_range;
    int64_t value;
  } integers[] = {
      {"0", true, 0},
      {"7", true, 7},
      {"-1", true, -1},
      {"9007199254740993", true, 9007199254740993}, /* 2^53 + 1 */
      {"-9007199254740993", true, -9007199254740993},
      {"999999999999999999", true, 999999999999999999},
      {"1000000000000000000", true, 1000000000000000000},
      {"9223372036854775806", true, INT64_MAX - 1},
      {"9223372036854775807", true, INT64_MAX},
      {"-9223372036854775807", true, -INT64_MAX},
      {"-9223372036854775808", true, INT64_MIN},
      {"9223372036854775808", false, 0},
      {"-9223372036854775809", false, 0},
      {"9999999999999999999", false, 0},
      {"-9999999999999999999", false, 0},
      {"10000000000000000000", false, 0},
      {"18446744073709551615", false, 0},
      {"18446744073709551616", false, 0},
      {"18446744073709551617", false, 0}, /* 1, had it wrapped */
      {"-18446744073709551617", false, 0},
      {"123456789012345678901234567890", false, 0},
  };
  struct json_reader r;
  char text[64];
  for (size_t i = 0; i < COUNT(integers); i++) {
    const char *s = integers[i].text;
    enum json_status status = read_text(&r, s, strlen(s), NULL);
    if (status != (integers[i].is_in_range ? JSON_OK : JSON_RANGE)) fail_msg("%s", s);
    assert_true(is_json(s, strlen(s))); /* it is JSON all the same */
    if (status != JSON_OK) continue;
    assert_true(lua_isinteger(L, -1));
    assert_true(lua_tointeger(L, -1) == integers[i].value);
    assert_writes(s);
    lua_settop(L, MT);
  }
  uint64_t seed = 9;
  for (int i = 0; i < 20000; i++) {
    int64_t v = (int64_t)(next_random(&seed)) >> random_below(&seed, 64);
    snprintf(text, sizeof text, "%" PRId64, v);
    assert_int_equal(read_text(&r, text, strlen(text), NULL), JSON_OK);
    assert_true(lua_isinteger(L, -1) && lua_tointeger(L, -1) == v);
    assert_writes(text);
    lua_settop(L, MT);
  }
}

static bool reads_as(const char *text, double v) {
  struct json_reader r;
  if (read_text(&r, text, strlen(text), NULL) != JSON_OK) return false;
  double got = lua_tonumber(L, -1);
  bool is_float = lua_type(L, -1) == LUA_TNUMBER && !lua_isinteger(L, -1);
  lua_settop(L, MT);
  return is_float && memcmp(&got, &v, sizeof v) == 0;
}

static void floats_are_read_to_the_last_bit(void **state) {
  (void)state;
  static const char *const texts_of_floats[] = {
      "0.0",
      "-0.0",
      "0e5",
      "1.0",
      "1e0",
      "1e2",
      "1E+2",
      "0.1",
      "0.2",
      "0.3",
      "1.5",
      "-2.5e-3",
      "1e22",
      "1e23",
      "1e-22",
      "1e-23",
      "9007199254740992.0",
      "9007199254740993.0",
      "9007199254740993e0",
      "9007199254740993e1",
      "9007199254740992e22",
      "123456789012345678e-5",
      "2.2250738585072011e-308", /* the number that hung PHP and Java */
      "2.2250738585072012e-308",
      "2.2250738585072014e-308",
      "4.9e-324",
      "5e-324",
      "2.5e-324",
      "2.4703282292062327208299439634110764e-324",
      "2.4703282292062328e-324",
      "1e-400",
      "1e-323",
      "1.7976931348623157e308",
      "1.7976931348623158e308",
      "1.79769313486231570814e308",
      "179769313486231570814527423731704356798070567525844996598917476803157260780028538760589558"
      "632766878171540458953514382464234321326889464182768467546703537516986049910576551282076245"
      "490090389328944075868508455133942304583236903222948165808559332123347747975e50",
      "0.500000000000000166533453693773481063544750213623046875",
      "1.00000000000000011102230246251565",
      "1.00000000000000011102230246251566",
      "3.518437208883201171875e13",
      "62.5364939768271845828",
      "8.10109172351e-10",
      "1.50000000000000011102230246251565",
      "9007199254740991.4999999999999",
      "10000000000000000000000.0",
      "100000000000000000000000e0",
      "0.000001e6",
      "1000000e-6",
      "123456789012345678901234567890e0",
      "0.00000000000000000000000000000000000012345678901234567890",
      "6929495644600919.5",
      "3.7455744005952583e15",
      "2.0e-1",
      "1e15",
      "1e16",
      "12345678.875",
      "89255.0e-22",
      "104110013277974872254e-225",
      "5.0e-324",
      "20e-324",
      "1.2345e-5",
  };
  char text[128];
  for (size_t i = 0; i < COUNT(texts_of_floats); i++)
    if (!reads_as(texts_of_floats[i], strtod(texts_of_floats[i], NULL)))
      fail_msg("%s", texts_of_floats[i]);
  uint64_t seed = 77;
  for (int i = 0; i < 30000; i++) { /* any number of digits, a point anywhere, any exponent */
    size_t n = 0;
    if (random_below(&seed, 2)) text[n++] = '-';
    text[n++] = (char)('1' + random_below(&seed, 9));
    for (unsigned k = random_below(&seed, 25); k; k--)
      text[n++] = (char)('0' + random_below(&seed, 10));
    text[n++] = '.';
    text[n++] = (char)('0' + random_below(&seed, 10));
    for (unsigned k = random_below(&seed, 25); k; k--)
      text[n++] = (char)('0' + random_below(&seed, 10));
    int e = (int)random_below(&seed, random_below(&seed, 2) ? 60 : 660) - (i % 2 ? 30 : 350);
    snprintf(text + n, sizeof text - n, "e%d", e);
    double v = strtod(text, NULL);
    if (isinf(v)) continue;
    if (!reads_as(text, v)) fail_msg("%s", text);
  }
}

static void floats_beyond_all_bounds_are_out_of_range(void **state) {
  (void)state;
  static const char *const huge[] = {
      "1e309",
      "-1e309",
      "1e400",
      "1.8e308",
      "1.7976931348623159e308",
      "1e99999999999999999999",
      "1e2147483648",
      "1e4294967297",
      "123456789e999999999",
      "0.1e99999999999",
  };
  struct json_reader r;
  for (size_t i = 0; i < COUNT(huge); i++) {
    if (read_text(&r, huge[i], strlen(huge[i]), NULL) != JSON_RANGE) fail_msg("%s", huge[i]);
    assert_true(is_json(huge[i], strlen(huge[i])));
  }
}

/* Digits that count: without sign, point, exponent, zeros around. */
static unsigned significant_digits(const char *text) {
  unsigned n = 0, zeros = 0;
  for (; *text && *text != 'e'; text++) {
    if (*text < '0' || *text > '9') continue;
    if (*text == '0' && n == 0) continue;
    zeros = *text == '0' ? zeros + 1 : 0;
    n++;
  }
  return n - zeros;
}

/* Is there a decimal of `digits` digits that reads back as v? Only the two around v can. */
static bool has_decimal_of(unsigned digits, double v) {
  char text[40];
  if (digits == 0) return false;
  snprintf(text, sizeof text, "%.*e", (int)digits - 1, fabs(v));
  uint64_t mantissa = 0;
  const char *p = text;
  for (; *p != 'e'; p++)
    if (*p != '.') mantissa = mantissa * 10 + (uint64_t)(*p - '0');
  int exponent = atoi(p + 1) - (int)(digits - 1);
  for (int delta = -1; delta <= 1; delta++) {
    snprintf(text, sizeof text, "%" PRIu64 "e%d", mantissa + (uint64_t)delta, exponent);
    if (strtod(text, NULL) == fabs(v)) return true;
  }
  return false;
}

static void assert_writes_shortest(double v) {
  const char *error = "";
  lua_pushnumber(L, v);
  char *text = write_value(&error, NULL);
  if (!text) fail_msg("%a: %s", v, error);
  if (strlen(text) > 26) fail_msg("%a: %s", v, text);
  if (!strpbrk(text, ".e")) fail_msg("%a: %s is an integer", v, text);
  double back = strtod(text, NULL);
  if (memcmp(&back, &v, sizeof v) != 0) fail_msg("%a: %s", v, text);
  if (!reads_as(text, v)) fail_msg("%a: %s", v, text);
  unsigned n = significant_digits(text);
  if (n > 17 || (n > 1 && has_decimal_of(n - 1, v)))
    fail_msg("%a: %s is not the shortest", v, text);
  free(text);
  lua_settop(L, MT);
}

static void floats_are_written_as_usual(void **state) {
  (void)state;
  static const struct {
    double v;
    const char *text;
  } floats[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {-1.0, "-1.0"},
      {0.1, "0.1"},
      {-0.1, "-0.1"},
      {0.5, "0.5"},
      {1.5, "1.5"},
      {100.0, "100.0"},
      {0.25, "0.25"},
      {3.14, "3.14"},
      {19.99, "19.99"},
      {1e-6, "0.000001"},
      {123456.789, "123456.789"},
      {0.1 + 0.2, "0.30000000000000004"},
      {1.0 / 3, "0.3333333333333333"},
      {2.0 / 3, "0.6666666666666666"},
      {-5e-324, "-5e-324"},
      {1e300, "1e+300"},
      {1e-7, "1e-07"},
      {DBL_MAX, "1.7976931348623157e+308"},
      {DBL_MIN, "2.2250738585072014e-308"},
      {9007199254740991.0, "9007199254740991.0"},
  };
  for (size_t i = 0; i < COUNT(floats); i++) {
    lua_pushnumber(L, floats[i].v);
    assert_writes(floats[i].text);
    lua_settop(L, MT);
  }
}

static void floats_are_written_shortest(void **state) {
  (void)state;
  for (int e = -1074; e <= 1023; e++) { /* powers of two: their neighbours are at two distances */
    double v = ldexp(1, e);
    assert_writes_shortest(v);
    assert_writes_shortest(-v);
    assert_writes_shortest(nextafter(v, 0));
    assert_writes_shortest(nextafter(v, INFINITY));
  }
  for (int e = -323; e <= 308; e++) {
    char text[16];
    snprintf(text, sizeof text, "1e%d", e);
    double v = strtod(text, NULL);
    assert_writes_shortest(v);
    assert_writes_shortest(nextafter(v, 0));
    assert_writes_shortest(nextafter(v, INFINITY));
  }
  assert_writes_shortest(nextafter(INFINITY, 0));
  uint64_t seed = 123;
  for (int i = 0; i < 20000; i++) { /* any bits */
    uint64_t bits = next_random(&seed);
    double v;
    memcpy(&v, &bits, sizeof v);
    if (isfinite(v)) assert_writes_shortest(v);
  }
  for (int i = 0; i < 5000; i++) { /* subnormal */
    uint64_t bits = next_random(&seed) >> (12 + random_below(&seed, 50));
    double v;
    memcpy(&v, &bits, sizeof v);
    assert_writes_shortest(v);
  }
  for (int i = 0; i < 20000; i++) { /* few decimals, as people send them */
    static const double tens[] = {1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};
    double v = (double)(next_random(&seed) >> (11 + random_below(&seed, 50)));
    assert_writes_shortest(v / tens[random_below(&seed, COUNT(tens))]);
  }
}

/* ---- strings --------------------------------------------------------------------------------- */

static void strings_are_unescaped(void **state) {
  (void)state;
  static const struct {
    const char *text, *value;
    size_t n;
  } strings[] = {
      {"\"\"", T("")},
      {"\"a\"", T("a")},
      {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", T("\"\\/\b\f\n\r\t")},
      {"\"\\u0041\"", T("A")},
      {"\"\\u0000\"", T("\0")},
      {"\"a\\u0000b\"", T("a\0b")},
      {"\"\\u00e9\\u00E9\"", T("\xc3\xa9\xc3\xa9")},
      {"\"\\u20ac\"", T("\xe2\x82\xac")},
      {"\"\\ud83d\\ude80\"", T("\xf0\x9f\x9a\x80")},
      {"\"\\ud800\\udc00\"", T("\xf0\x90\x80\x80")},
      {"\"\\udbff\\udfff\"", T("\xf4\x8f\xbf\xbf")},
      {"\"\\uFFFF\"", T("\xef\xbf\xbf")},
      {"\"\xc3\xa9\\n\xc3\xa9\"", T("\xc3\xa9\n\xc3\xa9")},
      {"\"\\\\u0041\"", T("\\u0041")},
      {"\"12345678\\\"\"", T("12345678\"")},
  };
  struct json_reader r;
  for (size_t i = 0; i < COUNT(strings); i++) {
    size_t n;
    assert_int_equal(read_text(&r, strings[i].text, strlen(strings[i].text), NULL), JSON_OK);
    const char *s = lua_tolstring(L, -1, &n);
    assert_int_equal(n, strings[i].n);
    assert_memory_equal(s, strings[i].value, n);
    lua_settop(L, MT);
  }
}

static void strings_are_escaped(void **state) {
  (void)state;
  static const char *const named[] = {[8] = "\\b",  [9] = "\\t",    [10] = "\\n",    [12] = "\\f",
                                      [13] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\", [255] = NULL};
  for (unsigned c = 0; c < 128; c++) { /* each byte at each place of an eight-byte step */
    for (unsigned before = 0; before <= 9; before++) {
      char value[20], expected[64], byte[8];
      memset(value, 'x', sizeof value);
      value[before] = (char)c;
      lua_pushlstring(L, value, 19);
      if (named[c])
        snprintf(byte, sizeof byte, "%s", named[c]);
      else
        snprintf(byte, sizeof byte, c < 0x20 ? "\\u%04x" : "%c", c);
      snprintf(expected, sizeof expected, "\"%s%s%s\"", "xxxxxxxxx" + 9 - before, byte,
               "xxxxxxxxxxxxxxxxxx" + before);
      assert_writes(expected);
      lua_settop(L, MT);
    }
  }
  lua_pushstring(L, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80\xef\xbf\xbf/"); /* as they are */
  assert_writes("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80\xef\xbf\xbf/\"");
  lua_settop(L, MT);
}

static void strings_of_any_length_survive(void **state) {
  (void)state;
  struct json_reader r;
  uint64_t seed = 31;
  for (int round = 0; round < 3000; round++) {
    char value[400];
    size_t n = 0;
    for (unsigned k = random_below(&seed, 90); k; k--) {
      static const uint32_t bounds[] = {0x80, 0x80, 0x20, 0x800, 0xD800};
      uint32_t c = random_below(&seed, bounds[random_below(&seed, COUNT(bounds))]);
      if (random_below(&seed, 10) == 0) c = random_below(&seed, 2) ? '"' : '\\';
      if (random_below(&seed, 20) == 0) c = 0x10000 + random_below(&seed, 0x100000);
      n += utf8_put((uint8_t *)value + n, c);
    }
    lua_pushlstring(L, value, n);
    const char *error = "";
    char *text = write_value(&error, NULL);
    assert_non_null(text);
    assert_int_equal(read_text(&r, text, strlen(text), NULL), JSON_OK);
    assert_true(is_same(-1, -2));
    free(text);
    lua_settop(L, MT);
  }
}

static void bytes_are_lent_where_possible(void **state) {
  (void)state;
  static const char text[] = "\"plain\" \"esc\\u0061ped\" \"\\";
  struct json_reader r;
  const char *s;
  size_t n;
  json_reader_init(&r, text, sizeof text - 1, NULL, &scratch, MT);
  assert_int_equal(json_read_bytes(&r, &s, &n), JSON_OK);
  assert_ptr_equal(s, text + 1);
  assert_int_equal(n, 5);
  assert_false(json_at_end(&r));
  assert_int_equal(json_read_bytes(&r, &s, &n), JSON_OK);
  assert_int_equal(n, 7);
  assert_memory_equal(s, "escaped", 7);
  assert_false(json_at_end(&r));
  assert_int_equal(json_read_bytes(&r, &s, &n), JSON_MALFORMED);
  json_scratch_fini(&scratch);
  assert_null(scratch.data); /* and ready again */
}

/* ---- arrays and objects ---------------------------------------------------------------------- */

static void arrays_of_any_length_are_read(void **state) {
  (void)state;
  struct json_reader r;
  char text[4000];
  for (int n = 0; n < 100; n++) {
    size_t len = 0;
    text[len++] = '[';
    for (int i = 1; i <= n; i++)
      len += (size_t)snprintf(text + len, sizeof text - len, i > 1 ? ",[%d]" : "[%d]", i);
    text[len++] = ']';
    assert_int_equal(read_text(&r, text, len, NULL), JSON_OK);
    assert_int_equal(lua_rawlen(L, -1), n);
    assert_true(lua_getmetatable(L, -1));
    assert_true(lua_rawequal(L, -1, MT));
    lua_pop(L, 1);
    for (int i = 1; i <= n; i++) {
      lua_rawgeti(L, -1, i);
      assert_true(lua_istable(L, -1));
      lua_rawgeti(L, -1, 1);
      assert_int_equal(lua_tointeger(L, -1), i);
      lua_pop(L, 2);
    }
    text[len] = '\0';
    assert_writes(text);
    lua_settop(L, MT);
  }
}

static void objects_of_any_size_are_read(void **state) {
  (void)state;
  struct json_reader r;
  char text[4000], key[16];
  for (int n = 0; n < 100; n++) {
    size_t len = 0;
    text[len++] = '{';
    for (int i = 1; i <= n; i++)
      len +=
          (size_t)snprintf(text + len, sizeof text - len, "%s\"k%d\":%d", i > 1 ? "," : "", i, i);
    text[len++] = '}';
    assert_int_equal(read_text(&r, text, len, NULL), JSON_OK);
    assert_false(lua_getmetatable(L, -1)); /* a plain table */
    int count = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) count++;
    assert_int_equal(count, n);
    for (int i = 1; i <= n; i++) {
      snprintf(key, sizeof key, "k%d", i);
      assert_int_equal(lua_getfield(L, -1, key), LUA_TNUMBER);
      assert_int_equal(lua_tointeger(L, -1), i);
      lua_pop(L, 1);
    }
    lua_settop(L, MT);
  }
}

/* Pairs are gathered before their table is made: equal keys may be gathered both, one, or none. */
static void the_last_of_equal_keys_wins(void **state) {
  (void)state;
  struct json_reader r;
  char text[4000];
  for (int first = 0; first < 45; first += 3)
    for (int second = first + 1; second < 50; second += 2) {
      size_t len = 0;
      for (int i = 0; i < 50; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%c\"%s%d\":%d", i ? ',' : '{',
                                i == first || i == second ? "same" : "k",
                                i == first || i == second ? 0 : i, i);
      text[len++] = '}';
      assert_int_equal(read_text(&r, text, len, NULL), JSON_OK);
      lua_getfield(L, -1, "same0");
      assert_int_equal(lua_tointeger(L, -1), second);
      lua_settop(L, MT);
    }
  static const char escaped[] = "{\"a\":1,\"\\u0061\":2}"; /* equal once unescaped */
  assert_int_equal(read_text(&r, escaped, sizeof escaped - 1, NULL), JSON_OK);
  lua_getfield(L, -1, "a");
  assert_int_equal(lua_tointeger(L, -1), 2);
  lua_settop(L, MT);
}

static void empty_arrays_and_objects_stay_what_they_are(void **state) {
  (void)state;
  static const char text[] = "{\"a\":[]}";
  struct json_reader r;
  static const char *const whole[] = {"[]",           "{}",     "[[]]",        "[{}]",
                                      "[[],{},[{}]]", "[null]", "[true,false]"};
  for (size_t i = 0; i < COUNT(whole); i++) {
    assert_int_equal(read_text(&r, whole[i], strlen(whole[i]), NULL), JSON_OK);
    assert_writes(whole[i]);
    lua_settop(L, MT);
  }
  assert_int_equal(read_text(&r, text, sizeof text - 1, NULL), JSON_OK);
  assert_writes(text);
  lua_settop(L, MT);
}

static void null_is_a_value(void **state) {
  (void)state;
  struct json_reader r;
  assert_int_equal(read_text(&r, "null", 4, NULL), JSON_OK);
  assert_true(lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == NULL);
  lua_getglobal(L, "cjson");
  lua_getfield(L, -1, "null");
  assert_true(lua_rawequal(L, -1, -3)); /* so that either's null can be given to the other */
  lua_settop(L, MT);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void limits_are_kept(void **state) {
  (void)state;
  static const struct {
    const char *text;
    struct json_limits limits;
    const char *limit; /* NULL: within */
    const char *path;
  } limited[] = {
      /* depth: the outermost value has level 0; items, keys and values lie one deeper */
      {"1", {.depth = 1}, NULL, ""},
      {"[]", {.depth = 1}, NULL, ""},
      {"{}", {.depth = 1}, NULL, ""},
      {"[1]", {.depth = 1}, NULL, ""},
      {"[[]]", {.depth = 1}, NULL, ""},
      {"[{}]", {.depth = 1}, NULL, ""},
      {"{\"a\":1}", {.depth = 1}, NULL, ""},
      {"{\"a\":{}}", {.depth = 1}, NULL, ""},
      {"[[1]]", {.depth = 1}, "depth", "[0][0]"},
      {"[[[]]]", {.depth = 1}, "depth", "[0][0]"},
      {"[1,{\"a\":1}]", {.depth = 1}, "depth", "[1]"}, /* the key is too deep already */
      {"{\"a\":[1]}", {.depth = 1}, "depth", ".a[0]"},
      {"{\"a\":{\"b\":1}}", {.depth = 1}, "depth", ".a"},
      {"[[[1]]]", {.depth = 3}, NULL, ""},
      {"[[[[1]]]]", {.depth = 3}, "depth", "[0][0][0][0]"},
      {"[[[[[]]]]]", {.depth = 4}, NULL, ""},
      {"{\"a\":{\"b\":{\"c\":{\"d\":1}}}}", {.depth = 4}, NULL, ""},
      {"{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":1}}}}}", {.depth = 4}, "depth", ".a.b.c.d"},
      {"{\"a\":{\"b\":{\"c\":{\"d\":{}}}}}", {.depth = 4}, NULL, ""},
      {"[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", {.depth = 20}, NULL, ""},
      {"[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]",
       {.depth = 20},
       "depth",
       "[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]"},
      {"[[],[],[[]]]", {.depth = 1}, "depth", "[2][0]"},
      /* arrays; objects have no limit but the message's */
      {"[1,2,3]", {.array = 3}, NULL, ""},
      {"[1,2,3,4]", {.array = 3}, "array", ""},
      {"[[1],[2,2],[3,3,3],[4,4,4,4]]", {.array = 4}, NULL, ""},
      {"{\"a\":[0,[1,2,3,4]]}", {.array = 3}, "array", ".a[1]"},
      {"{\"a\":1,\"b\":2,\"c\":3}", {.array = 1}, NULL, ""},
      {"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]", {.array = 18}, NULL, ""},
      {"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]", {.array = 17}, "array", ""},
      /* strings: bytes, once unescaped; keys too */
      {"\"abc\"", {.string = 3}, NULL, ""},
      {"\"abcd\"", {.string = 3}, "string", ""},
      {"\"\\u0061\\u0062\\u0063\"", {.string = 3}, NULL, ""},
      {"\"\\u20ac\"", {.string = 3}, NULL, ""},
      {"\"\\u20ac.\"", {.string = 3}, "string", ""},
      {"\"\xe2\x82\xac.\"", {.string = 3}, "string", ""},
      {"[\"a\",{\"b\":\"long\"}]", {.string = 3}, "string", "[1].b"},
      {"{\"a\":{\"long\":1}}", {.string = 3}, "string", ".a"},
      {"{\"abc\":\"def\"}", {.string = 3}, NULL, ""},
      /* values of all levels, keys not */
      {"1", {.values = 1}, NULL, ""},
      {"[]", {.values = 1}, NULL, ""},
      {"[1]", {.values = 1}, "values", ""},
      {"[1]", {.values = 2}, NULL, ""},
      {"[1,2]", {.values = 2}, "values", ""},
      {"[1,2]", {.values = 3}, NULL, ""},
      {"[1,2]", {.values = 4}, NULL, ""},
      {"[[],[],[]]", {.values = 4}, NULL, ""},
      {"[[],[],[]]", {.values = 3}, "values", ""},
      {"[[[]]]", {.values = 2}, "values", ""},
      {"[1,[2,[3]]]", {.values = 6}, NULL, ""},
      {"[1,[2,[3]]]", {.values = 5}, "values", ""},
      {"{\"a\":{\"b\":[1, 2]}, \"c\" : null}", {.values = 6}, NULL, ""},
      {"{\"a\":{\"b\":[1, 2]}, \"c\" : null}", {.values = 5}, "values", ""},
      {"[\",[{\\\",[\", \"\\\\\",\"\"]", {.values = 4}, NULL, ""},
      {"[\",[{\\\",[\", \"\\\\\",\"\"]", {.values = 3}, "values", ""},
      /* the first in the text is told */
      {"[\"long\",[[1]]]", {.depth = 1, .string = 3}, "string", "[0]"},
      {"[[[1]],\"long\"]", {.depth = 1, .string = 3}, "depth", "[0][0]"},
  };
  struct json_reader r;
  for (size_t i = 0; i < COUNT(limited); i++) {
    size_t n = strlen(limited[i].text);
    enum json_status status = read_text(&r, limited[i].text, n, &limited[i].limits);
    const struct json_limits *l = &limited[i].limits;
    if (status != (limited[i].limit ? JSON_LIMIT : JSON_OK) ||
        strcmp(r.path + r.path_at, limited[i].path) != 0)
      fail_msg("%s: %d, path %s", limited[i].text, status, r.path + r.path_at);
    if (limited[i].limit) {
      assert_string_equal(r.limit, limited[i].limit);
      assert_int_equal(r.max, *r.limit == 'd'   ? l->depth
                              : *r.limit == 'a' ? l->array
                              : *r.limit == 'v' ? l->values
                                                : l->string);
    }
    assert_true(is_json(limited[i].text, n)); /* a limit says nothing about the grammar */
    lua_settop(L, MT);
    assert_int_equal(read_text(&r, limited[i].text, n, NULL), JSON_OK); /* no limits */
    lua_settop(L, MT);
  }
}

static char *nested(size_t levels, char open, size_t *n) {
  char *text = malloc(levels * 6 + 2), *p = text;
  assert_non_null(text);
  for (size_t i = 0; i < levels; i++) {
    if (open == '{' && i + 1 < levels) {
      memcpy(p, "{\"a\":", 5);
      p += 5;
    } else {
      *p++ = open;
    }
  }
  for (size_t i = 0; i < levels; i++) *p++ = open == '[' ? ']' : '}';
  *n = (size_t)(p - text);
  *p = '\0';
  return text;
}

static void nesting_has_a_bound_of_its_own(void **state) {
  (void)state;
  struct json_reader r;
  size_t n;
  for (int kind = 0; kind < 2; kind++)
    for (size_t levels = JSON_DEPTH_MAX - 1; levels <= JSON_DEPTH_MAX + 1; levels++) {
      char *text = nested(levels, kind ? '{' : '[', &n);
      bool is_within = levels <= JSON_DEPTH_MAX;
      enum json_status status = read_text(&r, text, n, NULL);
      assert_int_equal(status, is_within ? JSON_OK : JSON_MALFORMED);
      if (!is_within) assert_string_equal(r.error, "nested too deeply");
      assert_int_equal(is_json(text, n), is_within);
      if (is_within) assert_writes(text); /* what was read can be written */
      lua_settop(L, MT);
      free(text);
    }
  char *text = nested(1000000, '[', &n); /* no recursion runs away */
  assert_int_equal(read_text(&r, text, n, NULL), JSON_MALFORMED);
  assert_false(is_json(text, n));
  free(text);
}

static void numbers_out_of_range_have_a_path(void **state) {
  (void)state;
  static const struct {
    const char *text, *path;
  } ranges[] = {
      {"9223372036854775808", ""},
      {"[1,9223372036854775808]", "[1]"},
      {"{\"a\":{\"b c\":[0,1,1e999]}}", ".a.b c[2]"},
      {"[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,{\"x\":1e999}]", "[20].x"},
  };
  struct json_reader r;
  for (size_t i = 0; i < COUNT(ranges); i++) {
    assert_int_equal(read_text(&r, ranges[i].text, strlen(ranges[i].text), NULL), JSON_RANGE);
    assert_string_equal(r.path + r.path_at, ranges[i].path);
  }
}

/* A long key is cut to 64 bytes, never inside a character. */
static void long_keys_are_cut_in_paths(void **state) {
  (void)state;
  struct json_reader r;
  char text[512], expected[128];
  for (size_t ascii = 0; ascii < 8; ascii++) {
    size_t len = 0;
    text[len++] = '{';
    text[len++] = '"';
    memset(text + len, 'x', ascii);
    len += ascii;
    for (int i = 0; i < 40; i++, len += 3) memcpy(text + len, "\xe2\x82\xac", 3);
    memcpy(text + len, "\":1e999}", 8);
    assert_int_equal(read_text(&r, text, len + 8, NULL), JSON_RANGE);
    size_t keep = ascii + (64 - ascii) / 3 * 3;
    snprintf(expected, sizeof expected, ".%.*s", (int)keep, text + 2);
    assert_string_equal(r.path + r.path_at, expected);
  }
}

/* A path that is too long keeps its inner end, whole characters of it. */
static void long_paths_keep_their_inner_end(void **state) {
  (void)state;
  struct json_reader r;
  char text[2048], full[2048];
  for (size_t ascii = 0; ascii < 12; ascii++) {
    size_t len = 0, full_len = 0;
    for (int level = 0; level < 8; level++) {
      char key[80];
      size_t n = ascii;
      memset(key, 'a' + level, ascii);
      for (int i = 0; i < 17; i++, n += 3) memcpy(key + n, "\xe2\x82\xac", 3);
      len += (size_t)snprintf(text + len, sizeof text - len, "{\"%.*s\":", (int)n, key);
      full_len += (size_t)snprintf(full + full_len, sizeof full - full_len, ".%.*s", (int)n, key);
    }
    len += (size_t)snprintf(text + len, sizeof text - len, "[1,1e999]}}}}}}}}");
    full_len += (size_t)snprintf(full + full_len, sizeof full - full_len, "[1]");
    assert_int_equal(read_text(&r, text, len, NULL), JSON_RANGE);
    const char *path = r.path + r.path_at;
    size_t n = strlen(path);
    assert_true(n > JSON_PATH_MAX - 80 && n < JSON_PATH_MAX); /* no more is lost than must be */
    assert_true(utf8_is_valid((const uint8_t *)path, n));     /* it goes into an answer */
    assert_int_equal(strncmp(path, "...", 3), 0);
    assert_string_equal(path + 3, full + full_len - (n - 3));
  }
}

/* ---- what cannot be written ------------------------------------------------------------------ */

static const struct {
  const char *value, *text; /* text NULL: refused ... */
  const char *error, *path; /* ... with this */
} written[] = {
    {"nil", "null", NULL, NULL},
    {"null", "null", NULL, NULL},
    {"true", "true", NULL, NULL},
    {"false", "false", NULL, NULL},
    {"42", "42", NULL, NULL},
    {"42.0", "42.0", NULL, NULL},
    {"math.mininteger", "-9223372036854775808", NULL, NULL},
    {"math.maxinteger", "9223372036854775807", NULL, NULL},
    {"'x'", "\"x\"", NULL, NULL},
    {"'\\0'", "\"\\u0000\"", NULL, NULL},
    {"{}", "{}", NULL, NULL},
    {"array{}", "[]", NULL, NULL},
    {"{array{}, {}}", "[[],{}]", NULL, NULL},
    {"{1, 2, 3}", "[1,2,3]", NULL, NULL},
    {"array{1, 2, 3}", "[1,2,3]", NULL, NULL},
    {"{1}", "[1]", NULL, NULL},
    {"{null, null}", "[null,null]", NULL, NULL},
    {"{a = 1}", "{\"a\":1}", NULL, NULL},
    {"{[''] = 1}", "{\"\":1}", NULL, NULL},
    {"{['1'] = 1}", "{\"1\":1}", NULL, NULL}, /* a string that looks like a number is a string */
    {"{a = {b = {c = array{}}}}", "{\"a\":{\"b\":{\"c\":[]}}}", NULL, NULL},
    {"{{a = 1}, {b = 2}}", "[{\"a\":1},{\"b\":2}]", NULL, NULL},
    {"{[1] = 'a', [2] = 'b'}", "[\"a\",\"b\"]", NULL, NULL},
    {"{[2] = 'b', [1] = 'a'}", "[\"a\",\"b\"]", NULL, NULL},
    {"{[3] = 3, [1] = 1, [2] = 2}", "[1,2,3]", NULL, NULL},
    {"{[1.0] = 1}", "[1]", NULL, NULL}, /* the same key as 1 */
    {"(function() local t = {} for i = 10, 1, -1 do t[i] = i end return t end)()",
     "[1,2,3,4,5,6,7,8,9,10]", NULL, NULL},
    {"(function() local t = {} for i = 1, 10 do t[i] = i end for i = 10, 4, -1 do t[i] = nil end "
     "return t end)()",
     "[1,2,3]", NULL, NULL},
    {"(function() local t = {a = 1, 1} t[1] = nil return t end)()", "{\"a\":1}", NULL, NULL},
    {"(function() local t = {a = 1, 1} t.a = nil return t end)()", "[1]", NULL, NULL},
    {"(function() local t = {a = 1} t.a = nil return t end)()", "{}", NULL, NULL},

    {"print", NULL, "a function", ""},
    {"function() end", NULL, "a function", ""},
    {"coroutine.create(print)", NULL, "a coroutine", ""},
    {"io.stdout", NULL, "a userdata", ""},
    {"0/0", NULL, "NaN", ""},
    {"1/0", NULL, "an infinite number", ""},
    {"-1/0", NULL, "an infinite number", ""},
    {"setmetatable({}, {})", NULL, "a table with a metatable", ""},
    {"setmetatable({1}, {__name = 'perigee.array'})", NULL, "a table with a metatable", ""},
    {"'\\xff'", NULL, "a string that is not UTF-8", ""},
    {"'a\\xe2\\x82'", NULL, "a string that is not UTF-8", ""},
    {"'\\xed\\xa0\\x80'", NULL, "a string that is not UTF-8", ""},
    {"'\\xc0\\x80'", NULL, "a string that is not UTF-8", ""},
    {"'12345678\\xff'", NULL, "a string that is not UTF-8", ""},
    {"'\\xe2\"\\x82\\xac'", NULL, "a string that is not UTF-8", ""},
    {"{['\\xff'] = 1}", NULL, "a key that is not UTF-8", ""},
    {"{a = {['\\xff'] = 1}}", NULL, "a key that is not UTF-8", ".a"},
    {"{a = print}", NULL, "a function", ".a"},
    {"{1, print}", NULL, "a function", "[1]"},
    {"array{1, print}", NULL, "a function", "[1]"},
    {"{a = {b = array{0, {c = 0/0}}}}", NULL, "NaN", ".a.b[1].c"},
    {"{{{'\\xff'}}}", NULL, "a string that is not UTF-8", "[0][0][0]"},
    {"{[true] = 1}", NULL, "a table with keys other than strings", ""},
    {"{[1.5] = 1}", NULL, "a table with keys other than strings", ""},
    {"{[{}] = 1}", NULL, "a table with keys other than strings", ""},
    {"{[null] = 1}", NULL, "a table with keys other than strings", ""},
    {"{a = {[print] = 1}}", NULL, "a table with keys other than strings", ".a"},
    {"{1, a = 2}", NULL, "a table with both string and integer keys", ""},
    {"{1, 2, 3, a = 2}", NULL, "a table with both string and integer keys", ""},
    {"{x = {1, a = 2}}", NULL, "a table with both string and integer keys", ".x"},
    {"{[0] = 1}", NULL, "a table with integer keys that are not 1 to n (a sparse array?)", ""},
    {"{[-1] = 1}", NULL, "a table with integer keys that are not 1 to n (a sparse array?)", ""},
    {"{[2] = 1}", NULL, "a table with integer keys that are not 1 to n (a sparse array?)", ""},
    {"{[1] = 1, [3] = 3}", NULL, "a table with integer keys that are not 1 to n (a sparse array?)",
     ""},
    {"{1, nil, 3}", NULL, "a table with integer keys that are not 1 to n (a sparse array?)", ""},
    {"{[math.maxinteger] = 1}", NULL,
     "a table with integer keys that are not 1 to n (a sparse array?)", ""},
    {"{[0] = 0, 1, 2}", NULL, "a table with integer keys that are not 1 to n (a sparse array?)",
     ""},
    {"array{1, nil, 3}", NULL, "an array with a hole", "[1]"},
    {"{a = array{1, nil, 3}}", NULL, "an array with a hole", ".a[1]"},
    /* nothing of a marked table is lost without a word */
    {"array{[1] = 1, [3] = 3}", NULL, "an array with a hole", "[1]"},
    {"array{[2] = 2}", NULL, "an array with a hole", "[0]"},
    {"array{[2] = 2, [3] = 3}", NULL, "an array with a hole", "[0]"},
    {"array{1, 2, [4] = 4}", NULL, "an array with a hole", "[2]"},
    {"array{1, 2, total = 2}", NULL, "an array with a text key", ".total"},
    {"array{total = 0}", NULL, "an array with a text key", ".total"},
    {"{{a = array{1, ['x y'] = 2}}}", NULL, "an array with a text key", "[0].a.x y"},
    {"array{[0] = 0}", NULL, "an array with keys that are not 1 to n", ""},
    {"array{[0] = 0, 1, 2}", NULL, "an array with keys that are not 1 to n", ""},
    {"array{[-1] = 1}", NULL, "an array with keys that are not 1 to n", ""},
    {"array{1, [1.5] = 2}", NULL, "an array with keys that are not 1 to n", ""},
    {"array{1, [true] = 2}", NULL, "an array with keys that are not 1 to n", ""},
    {"array{[math.maxinteger] = 1}", NULL, "an array with a hole", "[0]"},
    {"array{[3] = 3, [2] = 2, [1] = 1}", "[1,2,3]", NULL, NULL},
    {"(function() local t = array{} for i = 9, 1, -1 do t[i] = i end return t end)()",
     "[1,2,3,4,5,6,7,8,9]", NULL, NULL},
    {"(function() local t = array{1, 2, 3, x = 1} t.x = nil t[3] = nil return t end)()", "[1,2]",
     NULL, NULL},
    {"array{}", "[]", NULL, NULL},
    {"{array{}, {}}", "[[],{}]", NULL, NULL},
};

static void values_have_a_form_or_an_error(void **state) {
  (void)state;
  unsigned wrong = 0;
  for (size_t i = 0; i < COUNT(written); i++) {
    const char *error = "";
    char path[JSON_PATH_MAX] = "";
    push(written[i].value);
    char *text = write_value(&error, path);
    bool is_right = written[i].text ? text && strcmp(text, written[i].text) == 0
                                    : !text && strcmp(error, written[i].error) == 0 &&
                                          strcmp(path, written[i].path) == 0;
    if (!is_right) {
      print_error("%s: %s%s at %s\n", written[i].value, text ? text : "", error, path);
      wrong++;
    }
    free(text);
    lua_settop(L, MT);
  }
  assert_int_equal(wrong, 0);
}

static void cycles_end(void **state) {
  (void)state;
  static const char *const cycles[] = {
      "(function() local t = {} t[1] = t return t end)()",
      "(function() local t = {} t.a = t return t end)()",
      "(function() local t = array{} t[1] = t return t end)()",
      "(function() local t, u = {}, {} t.u, u[1] = u, t return t end)()",
  };
  for (size_t i = 0; i < COUNT(cycles); i++) {
    const char *error = "";
    push(cycles[i]);
    assert_null(write_value(&error, NULL));
    assert_string_equal(error, "a value nested too deeply (a cycle?)");
    lua_settop(L, MT);
  }
}

static void a_table_twice_is_no_cycle(void **state) {
  (void)state;
  push("(function() local t = {1} return {t, t} end)()");
  assert_writes("[[1],[1]]");
  lua_settop(L, MT);
}

/* A message that has all but `room` of the bytes it may have. None of them is touched. */
static void begin_full(struct builder *b, size_t room) {
  builder_begin(b);
  buf_unref(b->buf);
  b->buf = buf_new(BUF_MAX);
  b->start = 0;
  b->end = (uint32_t)(BUF_MAX - room);
}

static void too_much_is_refused_at_once(void **state) {
  (void)state;
  static const char *const values[] = {
      "('x'):rep(100)",
      "{('x'):rep(100)}",
      "{a = {b = ('x'):rep(100)}}",
      /* the first key out of order comes when the message is over already */
      "(function() local t = {('x'):rep(100)} t[3], t[2] = 3, 2 return t end)()",
      "(function() local t = {1, ('x'):rep(100)} t[4], t[3] = 4, 3 return t end)()",
      /* 2^60 leaves, if anybody went on counting */
      "(function() local t = {('x'):rep(100)} for _ = 1, 60 do t = {t, t} end return t end)()",
  };
  for (size_t i = 0; i < COUNT(values); i++) {
    struct builder b = {0};
    struct json_writer w;
    push(values[i]);
    begin_full(&b, 50);
    json_writer_init(&w, &b, lua_topointer(L, MT));
    assert_false(json_write(L, &w, -1));
    assert_string_equal(w.error, "a text longer than 1 GiB");
    builder_abort(&b);
    builder_fini(&b);
    lua_settop(L, MT);
  }
}

static void any_index_can_be_written(void **state) {
  (void)state;
  struct builder b = {0};
  struct json_writer w;
  struct slice s;
  push("{1}");
  lua_pushboolean(L, 1);
  builder_begin(&b);
  json_writer_init(&w, &b, lua_topointer(L, MT));
  assert_true(json_write(L, &w, -2));
  assert_true(json_write(L, &w, -1));
  assert_true(json_write(L, &w, MT + 1));
  assert_int_equal(lua_gettop(L), MT + 2);
  assert_true(builder_commit(&b, &s));
  assert_int_equal(s.len, 10);
  assert_memory_equal(slice_data(&s), "[1]true[1]", 10);
  builder_fini(&b);
  lua_settop(L, MT);
}

static void raw_text_is_checked(void **state) {
  (void)state;
  static const struct {
    const char *value, *error; /* error NULL: written as it is */
  } raws[] = {
      {"' {\"a\" : [1,2.50] } '", NULL},
      {"'1e400'", NULL}, /* JSON; what it means is the reader's business */
      {"''", "a codec's text that is not JSON"},
      {"'1 2'", "a codec's text that is not JSON"},
      {"'[1,]'", "a codec's text that is not JSON"},
      {"'NaN'", "a codec's text that is not JSON"},
      {"'\"\\xff\"'", "a codec's text that is not UTF-8"},
      {"1", "a codec's text that is no string"},
      {"nil", "a codec's text that is no string"},
      {"{}", "a codec's text that is no string"},
  };
  for (size_t i = 0; i < COUNT(raws); i++) {
    struct builder b = {0};
    struct json_writer w;
    struct slice s;
    push(raws[i].value);
    builder_begin(&b);
    json_writer_init(&w, &b, lua_topointer(L, MT));
    bool is_written = json_write_raw(L, &w, &scratch, MT + 1);
    assert_int_equal(lua_gettop(L), MT + 1);
    if (is_written != !raws[i].error) fail_msg("%s", raws[i].value);
    if (is_written) {
      size_t n;
      const char *text = lua_tolstring(L, -1, &n);
      assert_true(builder_commit(&b, &s));
      assert_int_equal(s.len, n);
      assert_memory_equal(slice_data(&s), text, n);
    } else {
      assert_string_equal(w.error, raws[i].error);
      builder_abort(&b);
    }
    builder_fini(&b);
    lua_settop(L, MT);
  }
}

/* ---- random values --------------------------------------------------------------------------- */

static void push_random(uint64_t *seed, unsigned depth, bool is_plain) {
  unsigned kind = random_below(seed, depth ? 9 : 6);
  luaL_checkstack(L, 8, NULL);
  switch (kind) {
  case 0: lua_pushlightuserdata(L, NULL); break;
  case 1: lua_pushboolean(L, random_below(seed, 2) == 1); break;
  case 2: /* what lua-cjson's 14 digits can hold, or anything */
    lua_pushinteger(L, is_plain ? (lua_Integer)random_below(seed, 1u << 31) - (1 << 30)
                                : (lua_Integer)next_random(seed) >> random_below(seed, 64));
    break;
  case 3: lua_pushnumber(L, ((double)random_below(seed, 1u << 30) - (1 << 29)) / 64); break;
  case 4:
  case 5: {
    char s[64];
    size_t n = 0;
    for (unsigned k = random_below(seed, 12); k; k--)
      n += utf8_put((uint8_t *)s + n, random_below(seed, random_below(seed, 2) ? 0x80 : 0xD800));
    lua_pushlstring(L, s, n);
    break;
  }
  case 6:
  case 7: {
    unsigned n = random_below(seed, 20) + (is_plain ? 1 : 0); /* cjson cannot tell {} from [] */
    lua_newtable(L);
    for (unsigned i = 1; i <= n; i++) {
      push_random(seed, depth - 1, is_plain);
      lua_rawseti(L, -2, (lua_Integer)i);
    }
    if (!is_plain) {
      lua_pushvalue(L, MT);
      lua_setmetatable(L, -2);
    }
    break;
  }
  default: {
    lua_newtable(L);
    for (unsigned n = random_below(seed, 20) + (is_plain ? 1 : 0); n; n--) {
      char key[16];
      snprintf(key, sizeof key, "k%u", random_below(seed, 1000));
      push_random(seed, depth - 1, is_plain);
      lua_setfield(L, -2, key);
    }
  }
  }
}

static void random_values_come_back(void **state) {
  (void)state;
  struct json_reader r;
  uint64_t seed = 99;
  for (int round = 0; round < 1500; round++) {
    push_random(&seed, 4, false);
    const char *error = "";
    char *text = write_value(&error, NULL);
    if (!text) fail_msg("%s", error);
    assert_true(utf8_is_valid((const uint8_t *)text, strlen(text)));
    assert_true(is_json(text, strlen(text)));
    assert_int_equal(read_text(&r, text, strlen(text), NULL), JSON_OK);
    if (!is_same(-1, -2)) fail_msg("%.1000s", text);
    free(text);
    lua_settop(L, MT);
  }
}

/* As numbers of lua-cjson are all floats, and its arrays are not marked. */
static bool is_alike(int a, int b) {
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  if (!lua_istable(L, a) || !lua_istable(L, b)) return lua_rawequal(L, a, b);
  luaL_checkstack(L, 8, NULL);
  for (int i = 0; i < 2; i++) {
    for (lua_pushnil(L); lua_next(L, i ? b : a); lua_pop(L, 1)) {
      lua_pushvalue(L, -2);
      lua_rawget(L, i ? a : b);
      bool is_equal = is_alike(-2, -1);
      lua_pop(L, 1);
      if (!is_equal) {
        lua_pop(L, 2);
        return false;
      }
    }
  }
  return true;
}

static void lua_cjson_agrees(void **state) {
  (void)state;
  struct json_reader r;
  uint64_t seed = 5;
  for (int round = 0; round < 1500; round++) {
    size_t n;
    push_random(&seed, 3, true);
    int value = lua_gettop(L);
    /* what we write it reads */
    const char *error = "";
    char *text = write_value(&error, NULL);
    if (!text) fail_msg("%s", error);
    lua_getglobal(L, "cjson");
    lua_getfield(L, -1, "decode");
    lua_pushstring(L, text);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) fail_msg("%s: %.1000s", lua_tostring(L, -1), text);
    if (!is_alike(-1, value)) fail_msg("%.1000s", text);
    free(text);
    lua_settop(L, value);
    /* what it writes we read */
    lua_getglobal(L, "cjson");
    lua_getfield(L, -1, "encode");
    lua_pushvalue(L, value);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
    const char *theirs = lua_tolstring(L, -1, &n);
    assert_int_equal(read_text(&r, theirs, n, NULL), JSON_OK);
    if (!is_alike(-1, value)) fail_msg("%.1000s", theirs);
    lua_settop(L, MT);
  }
}

/* A changed byte makes it another text or none, but never trouble; reading and skipping agree. */
static void mutilated_texts_do_no_harm(void **state) {
  (void)state;
  static const char alphabet[] = "[]{}:,\"\\u0019.eE+- \tntfDd";
  struct json_reader r;
  uint64_t seed = 8;
  for (int round = 0; round < 20000; round++) {
    char text[128];
    size_t i = random_below(&seed, COUNT(texts)), n = texts[i].n;
    if (n == 0 || n > sizeof text) continue;
    memcpy(text, texts[i].text, n);
    for (unsigned k = 1 + random_below(&seed, 3); k; k--)
      text[random_below(&seed, (unsigned)n)] = alphabet[random_below(&seed, sizeof alphabet - 1)];
    if (!utf8_is_valid((const uint8_t *)text, n)) continue;
    enum json_status status = read_text(&r, text, n, NULL);
    /* what follows a number out of range is not looked at */
    if (status != JSON_RANGE && (status == JSON_OK) != is_json(text, n))
      fail_msg("%.*s", (int)n, text);
    if (status == JSON_OK) {
      const char *error = "";
      char *back = write_value(&error, NULL);
      if (!back) fail_msg("%.*s: %s", (int)n, text, error);
      assert_int_equal(read_text(&r, back, strlen(back), NULL), JSON_OK);
      if (!is_same(-1, -2)) fail_msg("%.*s and %s", (int)n, text, back);
      free(back);
    }
    lua_settop(L, MT);
  }
}

/* ---- when Lua has no memory ------------------------------------------------------------------ */

static int allocations_left = -1; /* -1: any number */

static void *scarce(void *ud, void *old, size_t old_size, size_t new_size) {
  (void)ud;
  if (new_size == 0) {
    free(old);
    return NULL;
  }
  if (allocations_left == 0 && (!old || new_size > old_size)) return NULL;
  if (allocations_left > 0) allocations_left--;
  return realloc(old, new_size);
}

static const char rich[] =
    "{\"list\":[1,2.5,\"three\",[4,[5,[6]]],{\"seven\":8}],\"esc\\u0061ped "
    "\\\"key\\\"\":\"va\\nlue\","
    "\"many\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,"
    "32,"
    "33],\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"k\":11,"
    "\"l\":12,\"m\":13,\"n\":14,\"o\":15,\"p\":16,\"q\":17,\"r\":18,\"long\":"
    "\"0123456789012345678901234"
    "56789012345678901234567890\",\"null\":null}";

static int l_read_rich(lua_State *S) {
  struct json_reader r;
  json_reader_init(&r, rich, sizeof rich - 1, NULL, &scratch, 1);
  if (json_read_text(S, &r) != JSON_OK) abort();
  return 1;
}

static void exhausted_memory_is_an_ordinary_error(void **state) {
  (void)state;
  lua_State *S = lua_newstate(scarce, NULL);
  assert_non_null(S);
  lua_newtable(S);
  int failures = 0;
  for (int n = 0;; n++) {
    lua_settop(S, 1);
    lua_gc(S, LUA_GCCOLLECT);
    lua_pushcfunction(S, l_read_rich);
    lua_pushvalue(S, 1);
    allocations_left = n;
    int status = lua_pcall(S, 1, 1, 0);
    allocations_left = -1;
    if (status == LUA_OK) break;
    assert_int_equal(status, LUA_ERRMEM);
    failures++;
  }
  assert_true(failures > 20);
  /* writing allocates nothing of Lua's, so it works even then */
  struct builder b = {0};
  struct json_writer w;
  struct slice s;
  builder_begin(&b);
  json_writer_init(&w, &b, lua_topointer(S, 1));
  allocations_left = 0;
  assert_true(json_write(S, &w, 2));
  /* except for a stack that must grow: then it says so and raises nothing */
  allocations_left = -1;
  lua_newtable(S);
  for (int i = 1; i < JSON_DEPTH_MAX; i++) {
    lua_newtable(S);
    lua_pushvalue(S, -2);
    lua_rawseti(S, -2, 1);
    lua_replace(S, -2);
  }
  lua_gc(S, LUA_GCCOLLECT); /* which gives an unused stack back */
  allocations_left = 0;
  if (!json_write(S, &w, -1)) assert_string_equal(w.error, "a value nested too deeply (a cycle?)");
  allocations_left = -1;
  builder_abort(&b);
  builder_begin(&b);
  assert_true(builder_commit(&b, &s));
  builder_fini(&b);
  lua_close(S);
}

/* Tables that share tables: what would be written for ever ends with the slice. */
static void the_end_of_a_slice_ends_the_writing(void **state) {
  (void)state;
  struct slice_watch slice = {0};
  struct builder b = {0};
  struct json_writer w;
  lua_settop(L, MT);
  assert_int_equal(
      luaL_dostring(L, "local t = {1} for _ = 1, 60 do t = {a = t, b = t} end return t"), LUA_OK);
  builder_begin(&b);
  json_writer_init(&w, &b, lua_topointer(L, MT));
  w.slice = &slice;
  atomic_store(&slice.request, SLICE_STOP);
  assert_false(json_write(L, &w, -1));
  assert_string_equal(w.error, "a value that takes too long to write");
  builder_abort(&b);
  builder_begin(&b); /* a warning is no end */
  atomic_store(&slice.request, SLICE_WARN);
  lua_pushinteger(L, 7);
  assert_true(json_write(L, &w, -1));
  builder_abort(&b);
  builder_fini(&b);
  lua_settop(L, MT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(texts_are_json_or_not),
      cmocka_unit_test(texts_cut_short_are_not_json),
      cmocka_unit_test(errors_say_what_and_where),
      cmocka_unit_test(integers_are_exact),
      cmocka_unit_test(floats_are_read_to_the_last_bit),
      cmocka_unit_test(floats_beyond_all_bounds_are_out_of_range),
      cmocka_unit_test(floats_are_written_as_usual),
      cmocka_unit_test(floats_are_written_shortest),
      cmocka_unit_test(strings_are_unescaped),
      cmocka_unit_test(strings_are_escaped),
      cmocka_unit_test(strings_of_any_length_survive),
      cmocka_unit_test(bytes_are_lent_where_possible),
      cmocka_unit_test(arrays_of_any_length_are_read),
      cmocka_unit_test(objects_of_any_size_are_read),
      cmocka_unit_test(the_last_of_equal_keys_wins),
      cmocka_unit_test(empty_arrays_and_objects_stay_what_they_are),
      cmocka_unit_test(null_is_a_value),
      cmocka_unit_test(limits_are_kept),
      cmocka_unit_test(nesting_has_a_bound_of_its_own),
      cmocka_unit_test(numbers_out_of_range_have_a_path),
      cmocka_unit_test(long_keys_are_cut_in_paths),
      cmocka_unit_test(long_paths_keep_their_inner_end),
      cmocka_unit_test(values_have_a_form_or_an_error),
      cmocka_unit_test(cycles_end),
      cmocka_unit_test(a_table_twice_is_no_cycle),
      cmocka_unit_test(too_much_is_refused_at_once),
      cmocka_unit_test(any_index_can_be_written),
      cmocka_unit_test(raw_text_is_checked),
      cmocka_unit_test(random_values_come_back),
      cmocka_unit_test(lua_cjson_agrees),
      cmocka_unit_test(mutilated_texts_do_no_harm),
      cmocka_unit_test(exhausted_memory_is_an_ordinary_error),
      cmocka_unit_test(the_end_of_a_slice_ends_the_writing),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
