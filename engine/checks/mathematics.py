"""Mathematical equality with a reference (math-verify), in a worker process: sympy does not return from `9^{9^{9^9}}`."""

import json
from functools import lru_cache
from typing import Any

from engine.checks.reference import missing_reference, resolve_reference
from engine.checks.result import CheckInput, CheckResult, field_value, result
from engine.contract.checks import Mathematics
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess


def check_math(inputs: CheckInput, check: Mathematics) -> CheckResult:
    """Pass if the value equals the reference: 1/2, 0.5 and \\frac{2}{4} are equal, {1, 2} and {2, 1} too. Null passes."""
    exists, value = field_value(inputs.answer, check.field)
    reference = resolve_reference(inputs, check.reference, check.type)
    if not exists:
        return result(check.type, "no_field", f"no field {check.field!r}")
    if reference.missing or value is None:
        return reference.missing or result(check.type, "")
    try:
        tag = _worker(check.seconds, check.memory_mib)(json.dumps([str(value), reference.text]))
    except Exceeded as error:
        return result(check.type, "timed_out", str(error))
    if tag == "no_reference":
        return missing_reference(check.reference, check.type)
    return result(check.type, tag, f"{value!r:.80}, expected {reference.text:.80}")


class Equality:
    """Compares two expressions; runs in a worker process."""

    description = "compares two expressions"

    def __init__(self) -> None:
        import math_verify  # takes a second; imported when the process starts, outside the time limit of the first call

        self.library = math_verify

    def __call__(self, argument: str) -> str:
        """Return the tag for the JSON list [answer, reference]."""
        answer, reference = (self._read(text) for text in json.loads(argument))
        if not reference:
            return "no_reference"
        if not answer:
            return "not_math"
        return "" if self.library.verify(reference, answer, timeout_seconds=None) else "off_reference"

    def _read(self, text: str) -> list[Any]:
        """Parse `text`. math-verify recognises LaTeX only between delimiters, so bare LaTeX gets dollars."""
        is_bare = "\\" in text and "$" not in text and "\\boxed" not in text and "\\(" not in text and "\\[" not in text
        return self.library.parse(f"${text}$" if is_bare else text, parsing_timeout=0)  # no timeout: the process has one


@lru_cache(maxsize=8)
def _worker(seconds: int, memory_mib: int) -> WorkerProcess:
    return WorkerProcess(Equality, CallLimits(seconds, memory_mib))
