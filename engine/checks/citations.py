"""Cited passages exist in the prompt, and quotations occur in them."""

import re
from typing import Any

import regex

from engine.checks.fields import check_value
from engine.checks.grounded import normalize
from engine.checks.reference import PATTERN_SECONDS
from engine.checks.result import CheckInput, CheckResult
from engine.contract.checks import Citations

QUOTED = re.compile(r'"([^"]+)"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c]+)\u201c|\u00ab([^\u00bb]+)\u00bb')


def check_citations(inputs: CheckInput, check: Citations) -> CheckResult:
    """Pass if every cited id is a passage of the prompt, and every quotation occurs in a cited passage.

    Quotations are compared without regard to case and white space. Without a citation they may occur anywhere in the prompt.
    Whether a passage supports a statement is not checked.
    """
    return check_value(inputs, check, lambda value: _tag(value, inputs.text, check))


def _tag(value: Any, text: str, check: Citations) -> tuple[str, str]:
    answer = value if isinstance(value, str) else str(value)
    try:
        passages = dict(regex.findall(check.passage_pattern, text, timeout=PATTERN_SECONDS))
        cited = regex.findall(check.citation_pattern, answer, timeout=PATTERN_SECONDS)
    except TimeoutError:
        return "timed_out", f"the patterns took more than {PATTERN_SECONDS:g} s"
    if len(cited) < check.min_citations:
        return "no_citation", f"found {len(cited)}, expected {check.min_citations}"
    if unknown := [name for name in cited if name not in passages]:
        return "unknown_citation", f"{', '.join(unknown)}: the prompt has {', '.join(passages) or 'no passages'}"
    sources = [normalize(passages[name]) for name in cited] or [normalize(text)]
    quotations = [next(filter(None, groups)) for groups in QUOTED.findall(answer)]
    long = [quotation for quotation in quotations if len(quotation.split()) >= check.min_quote_words]
    absent = [quotation for quotation in long if not any(normalize(quotation).rstrip(".,;:!?") in source for source in sources)]
    return ("misquoted", "; ".join(absent)) if absent else ("", "")
