"""Run the code of an answer against tests, in the sandbox."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache, partial

from engine.checks.reference import resolve_reference
from engine.checks.result import CheckInput, CheckResult, field_value, result
from engine.contract.checks import Code
from engine.sandbox.isolation import ProgramLimits
from engine.sandbox.programs import ProgramRunner
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess

FENCED = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
STARTUP_SECONDS = 10  # to start and to end a program, in addition to its own limit
RUNNER_MIB = 512  # address space of the process that starts programs, in addition to that of a program


def check_code(inputs: CheckInput, check: Code) -> CheckResult:
    """Pass if the answer's Python, and then the tests, run without an exception to their end.

    Raises:
        MachineError: this machine lacks an isolation mechanism that the check requires.
    """
    exists, value = field_value(inputs.answer, check.field)
    tests = resolve_reference(inputs, check.tests, check.type)
    if tests.missing:
        return tests.missing
    program = first_code_block(str(value), ("python", "py", "python3", "")) if value is not None else ""
    if not exists or not program.strip():
        return result(check.type, "no_code", inputs.answer)
    limits = ProgramLimits(check.cpu_seconds, check.seconds, check.memory_mib, check.output_kib)
    try:
        tag, detail = _worker(check.isolation, limits)(json.dumps({"answer": program, "tests": tests.text}))
    except Exceeded as error:
        return result(check.type, "timed_out", str(error))
    return result(check.type, tag, detail)


def first_code_block(text: str, languages: Sequence[str]) -> str:
    """Return the first fenced block of one of `languages`; all of `text` if it has no fence, "" if it has only other languages."""
    blocks = [(name.lower(), body) for name, body in FENCED.findall(text)]
    return next((body for name, body in blocks if name in languages), "") if blocks else text


@lru_cache(maxsize=8)
def _worker(isolation: tuple[str, ...], limits: ProgramLimits) -> WorkerProcess:
    call_limits = CallLimits(limits.seconds + STARTUP_SECONDS, limits.memory_mib + RUNNER_MIB)
    return WorkerProcess(partial(ProgramRunner, isolation, limits), call_limits)
