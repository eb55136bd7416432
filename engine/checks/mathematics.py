"""Mathematical equality with a reference, by math-verify; it lives apart, as sympy may take for ever over `9^{9^{9^9}}`."""

import json
from functools import lru_cache
from typing import Any

from engine.checks.outcome import Outcome, Seen, outcome, pick
from engine.checks.reference import lacks, reference
from engine.contract.checks import Mathematics
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess


def check_math(seen: Seen, check: Mathematics) -> Outcome:
    """Pass if the value is equal to the reference as mathematics: 1/2 is 0.5 is \\frac{2}{4}, {1, 2} is {2, 1}. Null passes."""
    found, value = pick(seen.answer, check.field)
    given = reference(seen, check.reference, check.type)
    if not found:
        return outcome(check.type, "no_field", f"no field {check.field!r}")
    if given.lacks or value is None:
        return given.lacks or outcome(check.type, "")
    try:
        tag = _apart(check.seconds, check.memory_mib)(json.dumps([str(value), given.text]))
    except Exceeded as error:
        return outcome(check.type, "timed_out", str(error))
    if tag == "no_reference":
        return lacks(check.reference, check.type)
    return outcome(check.type, tag, f"{value!r:.80}, expected {given.text:.80}")


class Equality:
    """Whether two expressions are equal."""

    description = "compares two expressions"

    def __init__(self) -> None:
        import math_verify  # a second; paid when the process starts, not within the first call

        self.library = math_verify

    def __call__(self, argument: str) -> str:
        """Return the tag for [answer, reference]."""
        answer, wanted = (self._read(text) for text in json.loads(argument))
        if not wanted:
            return "no_reference"
        if not answer:
            return "not_math"
        return "" if self.library.verify(wanted, answer, timeout_seconds=None) else "off_reference"

    def _read(self, text: str) -> list[Any]:
        """LaTeX without its dollars would not be seen as such."""
        is_bare = "\\" in text and "$" not in text and "\\boxed" not in text and "\\(" not in text and "\\[" not in text
        return self.library.parse(f"${text}$" if is_bare else text, parsing_timeout=0)  # none: the process itself has one


@lru_cache(maxsize=8)
def _apart(seconds: int, memory_mib: int) -> WorkerProcess:
    return WorkerProcess(Equality, CallLimits(seconds, memory_mib))
