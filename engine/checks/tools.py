"""The values of the answer occur in the result of a tool."""

import re
from collections.abc import Iterator
from decimal import Decimal

from engine.checks.grounded import occurs, values
from engine.checks.result import CheckInput, CheckResult, is_abstention, parse, result
from engine.contract.checks import Tools

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?")


def check_tools(inputs: CheckInput, check: Tools) -> CheckResult:
    """Pass if a call succeeded and each value of the answer occurs in the last result, as whole words or as an equal number.

    Of an answer in plain text, its numbers must occur there, or all of it if it has none. An abstention requires an empty result.
    Whether the model asked the tool the right question is not checked.
    """
    results = [turn["content"] for turn in inputs.trajectory if turn["role"] == "tool" and turn["ok"]]
    if not results:
        return result(check.type, "no_call", "no call of a tool succeeded")
    stated = list(_stated_values(inputs.answer))
    unsupported = [value for value in stated if not _is_supported(value, results[-1])]
    abstains = is_abstention(inputs.answer)
    if unsupported or (abstains and results[-1]) or not (stated or abstains):
        return result(check.type, "unsupported", f"{'; '.join(unsupported) or inputs.answer} / {results[-1]}")
    return result(check.type, "")


def _stated_values(answer: str) -> Iterator[str]:
    form = parse(answer)
    if isinstance(form, dict | list):
        yield from values(form)
    elif answer.strip():
        yield from NUMBER.findall(answer) or [answer]


def _is_supported(value: str, tool_result: str) -> bool:
    number = NUMBER.fullmatch(value)
    equal = number and any(_decimal(other) == _decimal(value) for other in NUMBER.findall(tool_result))
    return bool(equal) or occurs(value, tool_result)


def _decimal(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))
