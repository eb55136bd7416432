"""What xgrammar makes of a regular expression in a schema. It matches the text of the JSON, not the string that this stands for.

A quotation mark in a pattern is thus written as it is, and ends the string. Classes such as `.` leave out quotation marks,
backslashes and control characters. The whole string must match, with or without `^` and `$`.
"""

import re
from functools import lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

ESCAPED = [ord('"'), ord("\\"), *range(0x20)]
"""Characters that are escaped in the text of a JSON string."""
NO_FIRST_COUNT = re.compile(r"(?<!\\)\{,\d+\}")
LOOKS = (ops.ASSERT, ops.ASSERT_NOT)
BEGIN, END = (ops.AT, ops.AT_BEGINNING), (ops.AT, ops.AT_END)
IGNORED = (BEGIN, END)
LOOSE = "a quotation mark, backslash or line break is not written where it has a class such as . or [^x]"
WHOLE = "the decoder reads it as if it stood between ^ and $"


class PatternReading(NamedTuple):
    """How the decoder holds a pattern."""

    holds: bool  # whether whatever the decoder writes matches the pattern
    note: str = ""  # what it leaves out, or why it does not hold it
    refused: bool = False  # whether xgrammar refuses it

    @property
    def is_exact(self) -> bool:
        """Whether the decoder can write whatever matches, too."""
        return self.holds and not self.note


class _Unheld(Exception):
    def __init__(self, note: str, *, refused: bool) -> None:
        self.reading = PatternReading(False, note, refused)


@lru_cache(maxsize=256)
def read_pattern(pattern: str) -> PatternReading:
    """Return how the decoder holds `pattern`, which Python's `re` compiles."""
    try:
        return _read(pattern)
    except _Unheld as unheld:
        return unheld.reading


def _read(pattern: str) -> PatternReading:
    if NO_FIRST_COUNT.search(pattern):
        raise _Unheld("the decoder does not know {,n}; write {0,n}", refused=True)
    tree = _parser.parse(pattern)
    if tree.state.flags & ~re.UNICODE.value:
        raise _Unheld("the decoder knows no flags such as (?i)", refused=True)
    items = list(tree)
    anchored = items[:1] == [BEGIN] and items[-1:] == [END] and len(items) > 1
    atoms = list(_atoms(items[items[:1] == [BEGIN] : len(items) - (items[-1:] == [END])]))
    if any(atom == "literal" and code in ESCAPED for atom, code in atoms):
        raise _Unheld("the decoder would write its quotation mark, backslash or control character unescaped", refused=False)
    loose = [atom for atom, _ in atoms if atom == "loose"]
    if loose and len(loose) == len(atoms):
        raise _Unheld("the decoder would forbid line breaks, quotation marks and backslashes", refused=False)
    return PatternReading(True, "; ".join([LOOSE] * bool(loose) + [WHOLE] * (not anchored)))


def _atoms(items: Any) -> Any:
    """Yield (kind, code point or None) of each atom below `items`; a `loose` class matches characters that JSON escapes."""
    for op, value in items:
        if op is ops.LITERAL:
            yield "literal", value
        elif op is ops.ANY or op is ops.NOT_LITERAL:
            yield "loose", None
        elif op is ops.IN:
            yield ("loose" if _matches_escaped(value) else "class"), None
        elif op is ops.BRANCH:
            for branch in value[1]:
                yield from _atoms(branch)
        elif op is ops.SUBPATTERN:
            if value[1] or value[2]:
                raise _Unheld("the decoder knows no flags such as (?i)", refused=True)
            yield from _atoms(value[3])
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            yield from _atoms(value[2])
        else:
            raise _Unheld(f"the decoder does not hold {_named(op, value)}", refused=(op, value) not in IGNORED and op not in LOOKS)


def _named(op: Any, value: Any) -> str:
    if op is ops.AT:
        return "^ and $ in the middle" if (op, value) in IGNORED else r"\b, \B, \A and \Z"
    return "lookahead and lookbehind" if op in LOOKS else "references to groups" if op is ops.GROUPREF else "this syntax"


def _matches_escaped(members: Any) -> bool:
    source = re.compile(_class_of(members))
    return any(source.match(chr(code)) for code in ESCAPED)


def _class_of(members: Any) -> str:
    parts = []
    for op, value in members:
        if op is ops.NEGATE:
            parts.append("^")
        elif op is ops.LITERAL:
            parts.append(re.escape(chr(value)))
        elif op is ops.RANGE:
            parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        else:
            parts.append(CATEGORIES.get(value, r"\s"))
    return f"[{''.join(parts)}]"


CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}
