"""Reads the READMEs: sections, code blocks, links; and compares what they show with what came.

How a block is marked, and what is done with it, is told in tests/README.md.
"""
import dataclasses
import json
import re

FENCE = re.compile(r"^```(\S*)\s*$")
HEADING = re.compile(r"^(#+) +(.*?) *$")
NOT_RUN = re.compile(r"^<!-- not run: (\S.*\S) -->$")
TITLE = re.compile(r"^-- ((?:[\w-]+/)*[\w.-]+\.lua)(, continued)?$")
LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")

MORE = "…"


@dataclasses.dataclass
class Block:
    language: str
    text: str
    line: int
    reason: str = None  # why it is not run

    @property
    def title(self):
        """Path of the file this block is, and whether it continues one."""
        found = TITLE.match(self.text.split("\n", 1)[0]) if self.language == "lua" else None
        return (found[1], bool(found[2])) if found else (None, False)


@dataclasses.dataclass
class Section:
    heading: str
    level: int
    blocks: list = dataclasses.field(default_factory=list)


class Document:
    def __init__(self, path, name):
        self.path, self.name = path, name
        self.sections = [Section("", 0)]
        self.links = []  # (line, target)
        block = reason = None
        for number, line in enumerate(path.read_text().split("\n"), 1):
            if block is not None:
                if line == "```":
                    self.sections[-1].blocks.append(block)
                    block = None
                else:
                    block.text += line + "\n"
                continue
            fence, heading, marker = FENCE.match(line), HEADING.match(line), NOT_RUN.match(line)
            if line.lstrip().startswith("```"):
                assert fence, f"{name}:{number}: a fence that begins in the first column, with one word, is needed"
                block = Block(fence[1], "", number, reason)
            elif heading:
                self.sections.append(Section(heading[2], len(heading[1])))
            else:
                code_free = re.sub(r"`[^`]*`", "``", line)
                self.links += [(number, target) for target in LINK.findall(code_free)]
            reason = marker[1] if marker else None
        assert block is None, f"{name}: a block does not end"

    @property
    def blocks(self):
        return [block for section in self.sections for block in section.blocks]

    def anchors(self):
        """The fragments that GitHub gives the headings."""
        seen, found = {}, set()
        for section in self.sections[1:]:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", section.heading).lower()
            slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            n = seen.get(slug, 0)
            seen[slug] = n + 1
            found.add(f"{slug}-{n}" if n else slug)
        return found

    def files(self):
        """The files its Lua blocks are, by path. What continues one goes before its last return."""
        files = {}
        for block in self.blocks:
            path, is_more = block.title
            if block.reason or not path:
                continue
            if is_more:
                assert path in files, f"{self.name}:{block.line}: {path} is continued before it begins"
                body, last, rest = files[path].rpartition("\nreturn ")
                assert last, f"{self.name}:{block.line}: {path} has no return to go before"
                files[path] = f"{body}\n{block.text.split(chr(10), 1)[1]}{last}{rest}"
            else:
                assert path not in files, f"{self.name}:{block.line}: {path} is there twice"
                files[path] = block.text
        return files


def why_not_run(block):
    """None when the block is run or says why it is not; else what is wrong."""
    if block.reason:
        return None
    if block.language == "lua":
        return None if block.title[0] else "a Lua block begins with '-- apps/NAME/init.lua', which makes it an app"
    if block.language in ("jsonrpc", "console"):
        return None if has_steps(block) else "nothing in it is run"
    if block.language == "text":  # a picture, a listing
        is_code = re.search(r"^(\w+ )?-->|^(\w+ )?<--|^\$ |^local ", block.text, re.M)
        return "this is no picture: say what it is" if is_code else None
    return f"a block of {block.language or 'nothing'} is not run: mark why with <!-- not run: … -->"


def has_steps(block):
    pattern = r"^\$ " if block.language == "console" else r"^(\w+: )?connect |^(\w+ )?(-->|<--) "
    return re.search(pattern, block.text, re.M) is not None


def commands(block):
    """(command, expected output lines) of a console block."""
    found = []
    lines = block.text.rstrip("\n").split("\n")
    i = 0
    while i < len(lines):
        assert lines[i].startswith("$ "), f"line {block.line + i + 1}: a console block begins with '$ COMMAND'"
        command = lines[i][2:]
        while command.endswith("\\"):
            i += 1
            command += "\n" + lines[i]
        i += 1
        output = []
        while i < len(lines) and not lines[i].startswith("$ "):
            output.append(lines[i])
            i += 1
        found.append((command, output))
    return found


def steps(block):
    """(client, what, text) of an exchange: connect, send, receive, refused, close, closed."""
    found = []
    for line in re.sub(r"\n +", " ", block.text).split("\n"):
        if not line or line.startswith("#"):
            continue
        if step := re.match(r"(?:(\w+): )?connect (/\S*)$", line):
            found.append((step[1] or "", "connect", step[2]))
            continue
        step = re.match(r"(?:(\w+) )?(-->|<--) (.*)$", line)
        assert step, f"not understood: {line}"
        client, arrow, text = step[1] or "", step[2], step[3]
        if refused := re.match(r"HTTP (\d+)$", text):
            assert found and found[-1][:2] == (client, "connect"), f"only connect is refused: {line}"
            found[-1] = (client, "refused", (found[-1][2], int(refused[1])))
        elif close := re.match(r"close (\d+)(?: (.*))?$", text):
            found.append((client, "close" if arrow == "-->" else "closed", (int(close[1]), close[2] or "")))
        else:
            found.append((client, "send" if arrow == "-->" else "receive", text))
    return found


# ---- comparing --------------------------------------------------------------------------------------

def read_pattern(text):
    """JSON in which … stands for any value, or, last in a list or an object, for any more."""
    out, i, is_string = [], 0, False
    while i < len(text):
        c = text[i]
        if is_string:
            if c == "\\":
                out.append(text[i:i + 2])
                i += 2
                continue
            is_string = c != '"'
        elif c == '"':
            is_string = True
        elif c == MORE:
            before = "".join(out).rstrip()
            is_member = before.endswith(("{", ",")) and text[i + 1:].lstrip().startswith("}")
            out.append(f'"{MORE}":"{MORE}"' if is_member else f'"{MORE}"')
            i += 1
            continue
        out.append(c)
        i += 1
    return json.loads("".join(out))


def glob(pattern, text):
    return re.fullmatch(".*".join(map(re.escape, pattern.split(MORE))), text, re.S) is not None


def fits(pattern, value):
    """Is the value what the pattern shows?"""
    if isinstance(pattern, str):
        if pattern == MORE:
            return True
        return isinstance(value, str) and glob(pattern, value)
    if isinstance(pattern, dict):
        if not isinstance(value, dict):
            return False
        shown = {key: item for key, item in pattern.items() if key != MORE}
        if MORE not in pattern and shown.keys() != value.keys():
            return False
        return all(key in value and fits(item, value[key]) for key, item in shown.items())
    if isinstance(pattern, list):
        if not isinstance(value, list):
            return False
        if pattern and pattern[-1] == MORE:
            pattern, value = pattern[:-1], value[:len(pattern) - 1]
        return len(pattern) == len(value) and all(map(fits, pattern, value))
    return type(pattern) is type(value) and pattern == value


def line_fits(pattern, line):
    """A line of output: as JSON when both are JSON, else as text; … stands for anything."""
    if glob(pattern, line):
        return True
    try:
        return fits(read_pattern(pattern), json.loads(line))
    except ValueError:
        return False


def output_fits(pattern, lines, is_prefix=False):
    """Lines against lines; a line that is … stands for any number of them."""
    if not pattern:
        return is_prefix or not lines
    if pattern[0].strip() == MORE:
        return any(output_fits(pattern[1:], lines[i:], is_prefix) for i in range(len(lines) + 1))
    return bool(lines) and line_fits(pattern[0], lines[0]) and output_fits(pattern[1:], lines[1:], is_prefix)
