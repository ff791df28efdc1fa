"""A source file as tokens, with just enough structure to change it: calls, statements, functions. C and Lua."""
import bisect
import dataclasses
import re

C_TOKEN = re.compile(r"""
    (?P<comment>/\*.*?\*/|//[^\n]*)
  | (?P<directive>^[ \t]*\#(?:\\\n|(?!/\*)[^\n])*)
  | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<op>->|\+\+|--|<<=|>>=|[-+*/%&|^<>=!]=|<<|>>|&&|\|\||\.\.\.|[^\s\w])
""", re.X | re.S | re.M)

LUA_TOKEN = re.compile(r"""
    (?P<comment>--\[(?P<c>=*)\[.*?\](?P=c)\]|--[^\n]*)
  | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\[(?P<t>=*)\[.*?\](?P=t)\])
  | (?P<number>0[xX][\da-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<op>\.\.\.|\.\.|==|~=|<=|>=|<<|>>|//|::|[^\s\w])
""", re.X | re.S)

OPEN = {"(": ")", "[": "]", "{": "}"}
CLOSE = {")", "]", "}"}


@dataclasses.dataclass
class Token:
    kind: str
    text: str
    start: int
    end: int


class Source:
    """name   path from the root of the tree
    tokens  without comments and without what the compiler's preprocessor reads
    pair    index of the bracket that belongs to the one at an index
    callee  by index: the name in front of the innermost round bracket around it
    """

    def __init__(self, name, text):
        self.name, self.text = name, text
        self.is_c = name.endswith((".c", ".h"))
        self._lines = [0] + [found.end() for found in re.finditer("\n", text)]
        self.tokens = [token for token in self._read() if not self._is_tiny(token)]
        self.pair, self.callee = self._brackets()

    def _read(self):
        for found in (C_TOKEN if self.is_c else LUA_TOKEN).finditer(self.text):
            if found.lastgroup in ("c", "t"):
                kind = "comment" if found["comment"] else "text"
            else:
                kind = found.lastgroup
            if kind not in ("comment", "directive"):
                yield Token(kind, found[0], found.start(), found.end())

    def _is_tiny(self, token):
        """Whether it is only compiled when every buffer is tiny."""
        return any(start <= token.start < end for start, end in self._tiny_parts()) if self.is_c else False

    def _tiny_parts(self):
        if not hasattr(self, "_tiny"):
            self._tiny = [found.span() for found in re.finditer(
                r"^#ifdef PERIGEE_TINY$.*?^#(?:else|endif)", self.text, re.M | re.S)]
        return self._tiny

    def _brackets(self):
        pair, callee, stack = {}, [], []
        for i, token in enumerate(self.tokens):
            callee.append(next((name for name in reversed([name for _, name in stack]) if name), ""))
            if token.kind != "op":
                continue
            if token.text in OPEN:
                before = self.tokens[i - 1] if i else None
                is_call = token.text == "(" and before and before.kind == "name"
                stack.append((i, before.text if is_call else ""))
            elif token.text in CLOSE and stack:
                at, _ = stack.pop()
                pair[at], pair[i] = i, at
        return pair, callee

    def line(self, offset):
        """The number of the line that has this byte, from 1."""
        return bisect.bisect_right(self._lines, offset)

    def lines(self, start, end, new=None):
        """The whole lines of a part, as one line; with something else in its place."""
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", end)
        last = last if last >= 0 else len(self.text)
        middle = self.text[start:end] if new is None else new
        return " ".join((self.text[first:start] + middle + self.text[end:last]).split())

    # ---- C -------------------------------------------------------------------------------------

    def functions(self):
        """(first token of the header, `{`, `}`) of each function of a C file."""
        i, header = 0, 0
        while i < len(self.tokens):
            text = self.tokens[i].text
            if text == "{" and i in self.pair:
                if self.tokens[i - 1].text == ")":
                    yield header, i, self.pair[i]
                i = self.pair[i]
                header = i + 1
            elif text == ";":
                header = i + 1
            i += 1

    def statements(self, first, last):
        """(first, last) tokens of the simple statements of a C function: those that end with a semicolon."""
        i = first
        while i < last:
            if self._begins_statement(i):
                end = self._semicolon(i, last)
                if end:
                    yield i, end
            i += 1

    def _begins_statement(self, i):
        before, token = self.tokens[i - 1].text, self.tokens[i]
        if token.text in ("{", "}", ";", "if", "for", "while", "switch", "do", "else", "case", "default"):
            return False
        if before in ("{", "}", ";", "else", "do"):
            return self.callee[i] == ""
        if before == ")":  # of if, for, while
            opens = self.pair.get(i - 1)
            return opens is not None and self.tokens[opens - 1].text in ("if", "for", "while", "switch")
        return before == ":" and self.tokens[i - 2].kind in ("name", "number") and \
            self.tokens[i - 3].text in ("case", ";", "{", "}")

    def _semicolon(self, i, last):
        while i < last:
            text = self.tokens[i].text
            if text == ";":
                return i
            if text in OPEN:
                if text == "{" and self.tokens[i - 1].text not in (")", "="):
                    return None
                i = self.pair.get(i, last)
            elif text in CLOSE:
                return None
            i += 1
        return None
