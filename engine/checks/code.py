"""Code against its tests, in the sandbox."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache, partial

from engine.checks.outcome import Outcome, Seen, outcome, pick
from engine.checks.reference import reference
from engine.contract.checks import Code
from engine.sandbox.isolation import ProgramLimits
from engine.sandbox.programs import Programs
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess

FENCED = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
GRACE = 10  # seconds to start and to end a program, beyond its own
KEEPER_MIB = 512  # of address space for the process that starts programs, beyond that of a program


def check_code(seen: Seen, check: Code) -> Outcome:
    """Pass if the answer's Python, and then the tests, run to their end.

    Raises:
        MachineError: a wall that the check wants does not stand on this machine.
    """
    found, value = pick(seen.answer, check.field)
    given = reference(seen, check.tests, check.type)
    if given.lacks:
        return given.lacks
    program = unfenced(str(value), ("python", "py", "python3", "")) if value is not None else ""
    if not found or not program.strip():
        return outcome(check.type, "no_code", seen.answer)
    limits = ProgramLimits(check.cpu_seconds, check.seconds, check.memory_mib, check.output_kib)
    try:
        tag, detail = _apart(check.walls, limits)(json.dumps({"answer": program, "tests": given.text}))
    except Exceeded as error:
        return outcome(check.type, "timed_out", str(error))
    return outcome(check.type, tag, detail)


def unfenced(text: str, languages: Sequence[str]) -> str:
    """Return the first fenced block of one of `languages`; all of `text` if it has no fence, nothing if it has only others."""
    blocks = [(name.lower(), body) for name, body in FENCED.findall(text)]
    return next((body for name, body in blocks if name in languages), "") if blocks else text


@lru_cache(maxsize=8)
def _apart(walls: tuple[str, ...], limits: ProgramLimits) -> WorkerProcess:
    outer = CallLimits(limits.seconds + GRACE, limits.memory_mib + KEEPER_MIB)
    return WorkerProcess(partial(Programs, walls, limits), outer)
