"""The rules by which a source file is changed: each yields mutants, which differ from it in one place."""
import dataclasses
import re

from mutation import equal
from mutation.source import Source

# changed where they stand between two values
SWAPS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "~=": "==", "&&": "||", "||": "&&"}
LUA_WORDS = {"and": "or", "or": "and"}
VALUES = {"true": "false", "false": "true"}
# names of what is a time: one more changes nothing that a test may look at, ten times as much does
TIME = re.compile(r"SECONDS|_MS\b|TIME|PATIENCE|WAIT|DEADLINE|TTL|AFTER|EVERY|GRACE|timeout|patience|_ms\b|seconds")
# what is said or held against all odds, not decided
SAID = re.compile(r"log_\w+|check|check_failed|static_assert|_Static_assert|assert|log|core\.log|report\.\w+")


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    start: int
    end: int
    rule: str
    before: str  # the lines it is in, as one
    after: str
    new: str  # what stands between start and end

    @property
    def id(self):
        """Stays the same when lines are added elsewhere in the file."""
        return f"{self.file}|{self.rule}|{self.before}|{self.after}"

    def apply(self, text):
        return text[:self.start] + self.new + text[self.end:]


def mutants(name, text):
    """All changes of a file, in the order of the file."""
    source = Source(name, text)
    silent, same = _said(source), equal.forms(source)
    found, seen = [], set()
    for rule, first, last, new in _changes(source):
        if first in silent or same.get((rule, first), "") in (None, new):
            continue
        start, end = source.tokens[first].start, source.tokens[last].end
        if (start, end, new) in seen:
            continue
        seen.add((start, end, new))
        found.append(Mutant(name, source.line(start), start, end, rule, source.lines(start, end),
                            source.lines(start, end, new), new))
    return sorted(found, key=lambda one: (one.start, one.end, one.rule, one.new))


def _changes(source):
    yield from _operators(source)
    yield from _numbers(source)
    if source.is_c:
        yield from _c_conditions(source)
        yield from _c_statements(source)
    else:
        yield from _lua_conditions(source)
        yield from _lua_statements(source)


def _said(source):
    """Indices of tokens in the arguments of what only speaks or asserts."""
    silent = set()
    for i, token in enumerate(source.tokens):
        if token.text != "(" or i not in source.pair or i == 0:
            continue
        first = i - 1
        while not source.is_c and first >= 2 and source.tokens[first - 1].text in (".", ":"):
            first -= 2
        callee = source.text[source.tokens[first].start:source.tokens[i - 1].end]
        if SAID.fullmatch(callee) or re.search(r"\b(log|Log)[.:]\w+$", callee):
            silent.update(range(first, source.pair[i] + 1))
    return silent


# ---- operators and values ------------------------------------------------------------------------

def _is_value_end(token):
    return token.kind in ("name", "number", "text") and token.text not in ("return", "case", "and", "or", "not") \
        or token.text in (")", "]")


def _operators(source):
    for i, token in enumerate(source.tokens):
        before = source.tokens[i - 1] if i else None
        if token.kind == "name" and token.text in VALUES:
            yield "value", i, i, VALUES[token.text]
        elif not source.is_c and token.text in LUA_WORDS and token.kind == "name":
            yield "logic", i, i, LUA_WORDS[token.text]
        elif token.kind != "op" or not before or not _is_value_end(before):
            continue
        elif token.text in SWAPS and not _is_attribute(source, i):
            new = "~=" if token.text == "==" and not source.is_c else SWAPS[token.text]
            yield ("logic" if token.text in ("&&", "||") else "comparison"), i, i, new
        elif token.text in ("+", "-") and source.tokens[i + 1].kind != "text" and before.kind != "text":
            yield "arithmetic", i, i, "-" if token.text == "+" else "+"
        elif source.is_c and token.text in ("+=", "-="):
            yield "arithmetic", i, i, "-=" if token.text == "+=" else "+="


def _is_attribute(source, i):
    """local x <const>"""
    return not source.is_c and any(
        source.tokens[k].text in ("const", "close") for k in (i + 1, i - 1) if k < len(source.tokens))


def _numbers(source):
    results = set()  # of Lua functions in C: how many values are returned is no decision
    if source.is_c:
        for header, opens, closes in source.functions():
            if any(token.text == "lua_State" for token in source.tokens[header:opens]):
                results.update(k for k in range(opens, closes) if source.tokens[k - 1].text == "return"
                               and source.tokens[k + 1].text == ";")
    for i, token in enumerate(source.tokens):
        if token.kind != "number" or i in results:
            continue
        if source.is_c and (source.callee[i].startswith(("lua_", "luaL_"))):
            continue
        new = _other_number(token.text, source.text[source.text.rfind("\n", 0, token.start) + 1:token.end])
        if new:
            yield "constant", i, i, new


def _other_number(text, line):
    found = re.fullmatch(r"(0[xX][\da-fA-F]+|\d+)([uUlL]*)", text)
    if not found:
        is_float = re.fullmatch(r"\d+\.\d+", text)
        return repr(float(text) * 10) if is_float else None
    value = int(found[1], 16 if found[1][:2] in ("0x", "0X") else 10)
    is_unit = re.fullmatch("1000+", found[1])
    new = value * 10 if value and (is_unit or TIME.search(line)) else value + 1
    return (hex(new) if "x" in found[1].lower() else str(new)) + found[2]


# ---- C -----------------------------------------------------------------------------------------------

def _c_conditions(source):
    for i, token in enumerate(source.tokens):
        if token.text == "if" and token.kind == "name" and source.tokens[i + 1].text == "(" and i + 1 in source.pair:
            last = source.pair[i + 1]
            inner = source.text[source.tokens[i + 1].end:source.tokens[last].start]
            yield "negated condition", i + 1, last, f"(!({inner}))"
            yield "condition that never holds", i + 1, last, "(0)"


def _c_statements(source):
    for _, opens, closes in source.functions():
        for first, last in source.statements(opens + 1, closes):
            tokens = source.tokens[first:last]
            rule = _c_statement(tokens)
            if rule:
                yield rule, first, last, ";"


def _c_statement(tokens):
    """The rule by which a simple statement is taken away; None: it stays, as what only moves Lua's stack."""
    words = [token.text for token in tokens]
    if words[0] in ("break", "continue", "goto"):
        return "jump removed"
    if words[0] == "return":
        return "return removed" if len(words) == 1 else None
    if words[0] in ("++", "--") or words[-1] in ("++", "--"):
        return "count removed"
    is_plain = tokens[0].kind != "name" or len(tokens) > 1 and tokens[1].kind == "op" and words[1] != "*"
    if not is_plain or SAID.fullmatch(words[0]) or words[0].startswith("lua_") or words[:2] == ["(", "void"] and len(words) <= 4:
        return None
    depth = 0
    for word in words:
        depth += (word in "([{") - (word in ")]}")
        if depth == 0 and re.fullmatch(r"(?:[-+*/%&|^]|<<|>>)?=", word):
            return "assignment removed"
    return "call removed" if words[-1] == ")" else None


# ---- Lua -----------------------------------------------------------------------------------------------

def _lua_conditions(source):
    for i, token in enumerate(source.tokens):
        if token.kind != "name" or token.text not in ("if", "elseif"):
            continue
        k, depth = i + 1, 0
        while k < len(source.tokens) and (depth or source.tokens[k].text != "then"):
            depth += source.tokens[k].text in ("function", "if", "do")
            depth -= source.tokens[k].text == "end"
            k += 1
        inner = source.text[source.tokens[i + 1].start:source.tokens[k - 1].end]
        yield "negated condition", i + 1, k - 1, f"not ({inner})"
        yield "condition that never holds", i + 1, k - 1, "false"


def _lua_statements(source):
    """Statements that begin their line. Whether what is left is Lua, the compiler says."""
    for i, token in enumerate(source.tokens):
        begins = source.text[source.text.rfind("\n", 0, token.start) + 1:token.start].strip() == ""
        after_word = i and source.tokens[i - 1].text in ("then", "do", "else", "repeat")
        if token.kind != "name" or not (begins or after_word):
            continue
        if token.text in ("break", "return", "goto"):
            end = i + (token.text == "goto")
            if i + 1 < len(source.tokens) and (token.text != "return" or source.tokens[i + 1].text in ("end", "else", "elseif")):
                yield "jump removed", i, end, "do end"
            continue
        last, rule = _lua_statement(source, i)
        if rule:
            yield rule, i, last, "do end"


LUA_KEYWORDS = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
                "not", "or", "repeat", "return", "then", "true", "until", "while"}


def _lua_statement(source, i):
    """(last token, rule) of the call or assignment that begins at i."""
    tokens, k = source.tokens, i
    if tokens[i].text in LUA_KEYWORDS:
        return i, None
    while k + 1 < len(tokens):
        text = tokens[k + 1].text
        if text in (".", ":") and k + 2 < len(tokens) and tokens[k + 2].kind == "name":
            k += 2
        elif text in ("(", "[", "{") and k + 1 in source.pair:
            k = source.pair[k + 1]
        elif text in (",", "="):
            return _lua_assignment(source, k + 1)
        elif tokens[k + 1].kind == "text":
            k += 1
        else:
            break
    is_call = tokens[k].text == ")" or tokens[k].kind == "text"
    return k, "call removed" if is_call and k > i else None


def _lua_assignment(source, k):
    """Goes on from the comma or equals sign to the end of the last value."""
    tokens, depth = source.tokens, 0
    while k + 1 < len(tokens):
        text, line = tokens[k + 1].text, source.line(tokens[k].start)
        if tokens[k].text in OPENERS:
            depth += 1
        if tokens[k].text in CLOSERS:
            depth -= 1
        is_new_line = source.line(tokens[k + 1].start) > line
        goes_on = tokens[k].text in GOES_ON or text in GOES_ON
        if depth <= 0 and (text in ("end", "else", "elseif", ";", "until", "}") or is_new_line and not goes_on):
            return k, "assignment removed" if depth == 0 and tokens[k].text != "," else None
        k += 1
    return k, "assignment removed"


OPENERS = {"(", "[", "{", "function", "if", "do"}
CLOSERS = {")", "]", "}", "end"}
GOES_ON = {"=", ",", "+", "-", "*", "/", "//", "..", "and", "or", "==", "~=", "<", ">", "<=", ">=", "not", "("}
