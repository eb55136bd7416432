"""The reference that an answer is compared with."""

import json
from typing import NamedTuple

import regex

from engine.checks.result import CheckInput, CheckResult, parse, result
from engine.contract.reference import Reference

PATTERN_SECONDS = 1.0  # limit for one pattern of the contract over one text: some patterns backtrack forever


class ResolvedReference(NamedTuple):
    """The text of a reference, or the result of a check without one."""

    text: str
    missing: CheckResult | None = None


def resolve_reference(inputs: CheckInput, section: Reference, check: str) -> ResolvedReference:
    """Return the reference that `section` selects; `check` is the type of the check that asks for it."""
    text = _source_text(inputs, section)
    if text is not None and section.field is not None:
        form = parse(text)
        value = form.get(section.field) if isinstance(form, dict) else None
        text = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ResolvedReference("", missing_reference(section, check)) if text is None else ResolvedReference(text)


def missing_reference(section: Reference, check: str) -> CheckResult:
    """Return the result of a check that has no reference: failed or passed, as `section.missing` demands."""
    return result(check, "no_reference" if section.missing == "fail" else "", "there is nothing to compare with")


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
