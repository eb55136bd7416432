"""What the answer states follows from what a tool said."""

import re
from collections.abc import Iterator
from decimal import Decimal

from engine.checks.grounded import occurs, values
from engine.checks.outcome import Outcome, Seen, is_abstention, outcome, parse
from engine.contract.checks import Tools

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?")


def check_tools(seen: Seen, check: Tools) -> Outcome:
    """Pass if a call succeeded and each value of the answer stands in the last result, as whole words or as an equal number.

    Of an answer in plain text its numbers must stand there, or all of it if it has none. An abstention follows only from a result
    that is empty. That the right thing was asked of the tool is not seen here.
    """
    results = [turn["content"] for turn in seen.trajectory if turn["role"] == "tool" and turn["ok"]]
    if not results:
        return outcome(check.type, "no_call", "no call of a tool succeeded")
    stated = list(_stated(seen.answer))
    astray = [value for value in stated if not _stands(value, results[-1])]
    if astray or (is_abstention(seen.answer) and results[-1]) or not (stated or is_abstention(seen.answer)):
        return outcome(check.type, "unsupported", f"{'; '.join(astray) or seen.answer} / {results[-1]}")
    return outcome(check.type, "")


def _stated(answer: str) -> Iterator[str]:
    form = parse(answer)
    if isinstance(form, dict | list):
        yield from values(form)
    elif answer.strip():
        yield from NUMBER.findall(answer) or [answer]


def _stands(value: str, result: str) -> bool:
    number = NUMBER.fullmatch(value)
    equal = number and any(_decimal(found) == _decimal(value) for found in NUMBER.findall(result))
    return bool(equal) or occurs(value, result)


def _decimal(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))
