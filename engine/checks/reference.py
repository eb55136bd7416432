"""Where an answer's reference comes from."""

import json
from typing import NamedTuple

import regex

from engine.checks.outcome import Outcome, Seen, outcome, parse
from engine.contract.reference import Reference

SECONDS = 1.0  # that a pattern of the contract may take over one text: some take for ever


class Given(NamedTuple):
    """A reference, or what to say without one."""

    text: str
    lacks: Outcome | None = None


def reference(seen: Seen, section: Reference, check: str) -> Given:
    """Return what `section` says the answer is compared with."""
    found = _found(seen, section)
    if found is not None and section.field is not None:
        form = parse(found)
        value = form.get(section.field) if isinstance(form, dict) else None
        found = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Given("", lacks(section, check)) if found is None else Given(found)


def lacks(section: Reference, check: str) -> Outcome:
    """Return what a check says that has nothing to compare with."""
    return outcome(check, "no_reference" if section.missing == "fail" else "", "there is nothing to compare with")


def _found(seen: Seen, section: Reference) -> str | None:
    if section.value is not None:
        return section.value
    if section.pattern is None:
        return seen.reference
    try:
        match = regex.search(section.pattern, seen.text, timeout=SECONDS)
    except TimeoutError:
        return None
    return match[1] if match else None
