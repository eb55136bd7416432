"""The reference that an answer is compared with, and what of an answer is compared."""

import json
import re
from typing import Any, NamedTuple

import regex

from engine.checks.numbers import numbers_in
from engine.checks.result import CheckInput, CheckResult, parse, passed, result
from engine.contract.reference import Reference

PATTERN_SECONDS = 1.0  # limit for one pattern of the contract over one text: some patterns backtrack forever
LAST_CHARS = 2000  # of a text, in which the last number is searched
SHOWN_CHARS = 40
STATED = re.compile(r"(?:\b(?:is|are)\s|[:=])[\s*$(\[\\]*$")
MAX_BOXES = 5  # whose end is searched, from the last one on
BOXED = re.compile(r"\\f?box(?:ed)?\s*\{")
WRAPPED = re.compile(
    r"\$\$?(.*?)\$\$?|\\\((.*)\\\)|\\\[(.*)\\\]|\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}|\((\w)\)|\*\*(.*?)\*\*", re.DOTALL
)


class ResolvedReference(NamedTuple):
    """The text of a reference, or the result of a check without one."""

    text: str
    missing: CheckResult | None = None
    is_json_number: bool = False
    """It is written as JSON writes numbers, whatever the language of the prompt."""


def resolve_reference(inputs: CheckInput, section: Reference, check: str) -> ResolvedReference:
    """Return the reference that `section` selects; `check` is the type of the check that asks for it."""
    text, is_number = _source_text(inputs, section), False
    if text is not None and section.field is not None:
        form = parse(text)
        value = form.get(section.field) if isinstance(form, dict) else None
        is_number = isinstance(value, int | float)
        text = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text is None:
        return ResolvedReference("", missing_reference(section, check))
    return ResolvedReference(extracted(text, section), None, is_number)


def missing_reference(section: Reference, check: str, detail: str = "there is nothing to compare with") -> CheckResult:
    """Return the result of a check that has no reference: failed or passed, as `section.missing` demands."""
    return result(check, "no_reference", detail) if section.missing == "fail" else passed(check, detail)


def unreadable_reference(section: Reference, check: str, reference: str) -> CheckResult:
    """Return the result for a reference that cannot be read, and is not the same text as the answer."""
    return missing_reference(section, check, f"the reference {reference!r:.80} cannot be read, and the answer is not the same text")


def extracted(text: str, section: Reference | None) -> str:
    """Return the part of `text` that `section.extract` selects; the whole text where nothing does."""
    extract = section.extract if section else None
    if extract is None:
        return text
    if extract == "boxed":
        return boxed(text)
    if extract == "hash_marks":
        _, marks, rest = text.rpartition("####")
        return rest.strip().partition("\n")[0].strip() if marks else text
    if extract == "last_number":
        return last_number(text)
    try:
        found = regex.findall(extract, text, timeout=PATTERN_SECONDS)
    except TimeoutError:
        return text
    return found[-1].strip() if found else text


def boxed(text: str) -> str:
    """Return what the last \\boxed{...} of `text` holds; the whole text without one."""
    starts = [found.end() for found in BOXED.finditer(text)]
    for start in starts[: -MAX_BOXES - 1 : -1]:
        depth = 1
        for end, sign in enumerate(text[start:], start):
            depth += (sign == "{") - (sign == "}")
            if depth == 0:
                return text[start:end].strip()
    return text


def last_number(text: str) -> str:
    """Return the last number of `text`, with its magnitude or per cent, but without its unit; the whole text without one."""
    found = numbers_in(text[-LAST_CHARS:])
    return found[-1][0] if found else text


def same_text(answer: str, reference: str) -> bool:
    """Return whether two texts are equal but for white space, \\boxed{}, dollars, \\text{} and the brackets of an option (B)."""
    return answer.strip() == reference.strip() or _bare(answer) == _bare(reference)


def states(answer: str, reference: str) -> bool:
    """Return whether prose ends with the text of the reference, after `is`, a colon or an equals sign."""
    line, wanted = answer.rstrip().rpartition("\n")[2].rstrip(" .*$"), reference.strip(" .*$\n")
    return bool(wanted) and line.endswith(wanted) and bool(STATED.search(line[: -len(wanted)]))


def _bare(text: str) -> str:
    text = boxed(text).strip()
    while wrapped := WRAPPED.fullmatch(text.removesuffix(".")):
        text = next((part for part in wrapped.groups() if part is not None), "").strip()
    return " ".join(text.removesuffix(".").split())


def short(value: Any) -> str:
    """Return the beginning of a value, for a note."""
    return repr(value)[:SHOWN_CHARS]


def _source_text(inputs: CheckInput, section: Reference) -> str | None:
    if section.value is not None:
        return section.value
    if section.pattern is None:
        return inputs.reference
    try:
        match = regex.search(section.pattern, inputs.text, timeout=PATTERN_SECONDS)
    except TimeoutError:
        return None
    return match[1] if match else None
