"""Forms of C that mean the same after a change, provably and by what they look like: what no test can notice."""
import re

ENDS = {",", ";", ")", "]", "}", ":"}
BEFORE = {"(", ",", ";", "=", "{", "}", "[", "?", ":", "&&", "||", "return", "+=", "-="}
ORDERS = {"<", "<=", ">", ">="}
COUNT = re.compile(r"(?:\w+_)?(?:len|n|size|cap|bytes)")  # names of what is no fraction


def forms(source):
    """{(rule, index of the token): what it would become, or None for whatever the rule makes of it}"""
    if not source.is_c:
        return {}
    found = {}
    for one in (_sizes, _capacities, _choices, _assignments):
        found.update(one(source))
    return found


def _sizes(source):
    """char text[64], const char *set[2 + 2 * BATCH]

    A declared array is only larger: nobody writes or reads what was added, as long as what is in the brackets grows with
    each of its numbers, and no `sizeof` tells its size to anyone. (A plain `char text[64]` is left alone even so: one byte
    more of a text that is cut is nothing a test should hold on to.)
    """
    for i, token in enumerate(source.tokens):
        if token.text != "[" or i not in source.pair or not _is_declared(source, i - 1):
            continue
        inner = range(i + 1, source.pair[i])
        grows = all(source.tokens[k].kind in ("number", "name") or source.tokens[k].text in "+*()" for k in inner)
        is_told = re.search(rf"\bsizeof\b[ (]*{re.escape(source.tokens[i - 1].text)}\b", source.text)
        if len(inner) == 1 or grows and not is_told:
            yield from ((("constant", k), None) for k in inner if source.tokens[k].kind == "number")


def _is_declared(source, i):
    """Whether a name is declared here: a type stands before it."""
    name, before = source.tokens[i], source.tokens[i - 1]
    if name.kind != "name" or before.text in ("return", "case", "else", "sizeof"):
        return False
    if before.kind == "name":
        return True
    if before.text not in ("*", ","):
        return False
    while i > 0 and source.tokens[i - 1].text not in (";", "{", "}", "(", "["):
        i = source.pair[i - 1] if source.tokens[i - 1].text in (")", "]") else i - 1
    first, second = source.tokens[i], source.tokens[i + 1]
    return first.kind == "name" and (second.kind == "name" or second.text == "*" and source.tokens[i - 1].text != "(")


def _capacities(source):
    """cap = cap ? cap * 2 : 256, cap = n < 128 ? 256 : n * 2

    The capacity of a buffer that grows is only larger, so it grows later; not so when it is the mask of a table
    (`cap - 1`), as that must be a power of two.
    """
    for q, condition, yes, no in _ternaries(source):
        start = q - len(condition)
        target = source.tokens[start - 2]
        if source.tokens[start - 1].text != "=" or not re.fullmatch(r"(?:\w+_)?cap", target.text):
            continue
        if re.search(rf"\b{target.text}\s*-\s*1\b", source.text):
            continue
        colon = q + len(yes) + 1
        if yes == condition + ["*", "2"] and len(no) == 1:  # the factor too
            yield ("constant", colon - 1), None
            yield ("constant", colon + 1), None
        order = _order(condition)
        if order is None or condition[order] != "<" or len(condition) - order != 2 or len(yes) != 1:
            continue
        value, limit = condition[:order], condition[order + 1]
        if no in (value + ["*", "2"], ["(", *value, ")", "*", "2"]) and _number(yes[0]) == 2 * _number(limit, -1):
            # at the limit both are the same
            yield ("comparison", start + order), None
            yield ("constant", q - 1), str(_number(limit) + 1)
            yield ("constant", q + 1), None
            yield ("constant", colon + len(no)), None


def _choices(source):
    """a < b ? a : b, a > b ? a - b : 0

    `<` and `<=` differ where both are equal, and there it is the same which one is taken, and the difference is 0. In
    `n < 100 ? n : 100`, `n < 101` is `n <= 100`; `n > 101 ? 100 : n` is another thing, as is all that is counted in fractions.
    """
    for q, condition, yes, no in _ternaries(source):
        order = _order(condition)
        if order is None:
            continue
        start = q - len(condition)
        a, b = condition[:order], condition[order + 1:]
        one, other = _without_cast(yes), _without_cast(no)
        if (one, other) in ((a, b), (b, a)):
            yield ("comparison", start + order), None
            is_less = condition[order] in ("<", ">=") if len(b) == 1 else condition[order] in (">", "<=")
            value, limit, at = (a, b, q - 1) if len(b) == 1 else (b, a, start)
            if is_less and len(limit) == 1 and _number(limit[0], -1) >= 0 and COUNT.fullmatch(value[-1]):
                yield ("constant", at), str(_number(limit[0]) + 1)
        larger, smaller = (a, b) if condition[order] in (">", ">=") else (b, a)
        if one == larger + ["-"] + smaller and no == ["0"]:
            yield ("comparison", start + order), None


def _assignments(source):
    """if (low == 0 || a < low) low = a;

    Where both are equal, nothing is assigned that was not there, whatever else is asked.
    """
    for i, token in enumerate(source.tokens):
        if token.text != "if" or token.kind != "name" or i + 2 >= len(source.tokens) or i + 1 not in source.pair:
            continue
        last = source.pair[i + 1]
        texts = [one.text for one in source.tokens[i + 2:last]]
        body = []
        for one in source.tokens[last + 1:]:
            if one.text in (";", "{"):
                break
            body.append(one.text)
        after = source.tokens[last + len(body) + 1:last + len(body) + 3]
        if "=" not in body or after[0].text != ";" or after[1].text == "else" or {"=", "++", "--"} & set(texts) \
                or any(source.tokens[k].text == "(" and source.tokens[k - 1].kind == "name" for k in range(i + 2, last)):
            continue
        to, value = body[:body.index("=")], body[body.index("=") + 1:]
        for k in range(i + 2, last):
            if source.tokens[k].text in ORDERS:
                a, b = _operand(source, k, -1), _operand(source, k, 1)
                if (a, b) in ((to, value), (value, to)):
                    yield ("comparison", k), None


def _operand(source, k, step):
    """The words on one side of a comparison, up to a bracket that is not theirs or a logical operator."""
    words, depth, at = [], 0, k + step
    while True:
        text = source.tokens[at].text
        if depth == 0 and (text in ("&&", "||", ",", ";", "?", ":") or text in ("(", "[") and step < 0 or text in (")", "]") and step > 0):
            return words[::step]
        depth += (text in ")]") - (text in "([") if step < 0 else (text in "([") - (text in ")]")
        words.append(text)
        at += step


def _ternaries(source):
    """(index of `?`, words of the condition, words of both values)"""
    for q, token in enumerate(source.tokens):
        if token.text != "?" or token.kind != "op":
            continue
        start = q
        while start > 0 and source.tokens[start - 1].text not in BEFORE:
            start = source.pair[start - 1] if source.tokens[start - 1].text in (")", "]") else start - 1
        colon = _end(source, q + 1)
        if colon is None or source.tokens[colon].text != ":":
            continue
        end = _end(source, colon + 1)
        if end is not None:
            words = [one.text for one in source.tokens[start:end]]
            yield q, words[:q - start], words[q + 1 - start:colon - start], words[colon + 1 - start:]


def _end(source, i):
    """Where a value ends that begins here; None when there is a choice in it."""
    while source.tokens[i].text not in ENDS:
        if source.tokens[i].text == "?":
            return None
        i = source.pair.get(i, i) + 1
    return i


def _order(condition):
    """Where the one comparison of a condition is; None when it is not a plain one."""
    found = [k for k, word in enumerate(condition) if word in ORDERS]
    return found[0] if len(found) == 1 and "(" not in condition[found[0]:] and not {"==", "!=", "!"} & set(condition) else None


def _without_cast(words):
    if words[:1] == ["("] and ")" in words and all(re.fullmatch(r"\w+|\*", word) for word in words[1:words.index(")")]):
        return words[words.index(")") + 1:] or words
    return words


def _number(word, otherwise=0):
    return int(word) if word.isdigit() else otherwise
