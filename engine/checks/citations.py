"""What an answer cites and quotes stands in the prompt."""

import re
from typing import Any

import regex

from engine.checks.fields import judge_field
from engine.checks.grounded import plain
from engine.checks.outcome import Outcome, Seen
from engine.checks.reference import SECONDS
from engine.contract.checks import Citations

QUOTED = re.compile(r'"([^"]+)"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c]+)\u201c|\u00ab([^\u00bb]+)\u00bb')


def check_citations(seen: Seen, check: Citations) -> Outcome:
    """Pass if every cited id is one of the prompt's, and every quotation stands in a cited passage, blind to case and space.

    Without a citation a quotation may stand anywhere in the prompt. That a passage supports what is said of it is not seen here.
    """
    return judge_field(seen, check, lambda value: _tag(value, seen.text, check))


def _tag(value: Any, text: str, check: Citations) -> tuple[str, str]:
    answer = value if isinstance(value, str) else str(value)
    try:
        passages = dict(regex.findall(check.passages, text, timeout=SECONDS))
        cited = regex.findall(check.cited, answer, timeout=SECONDS)
    except TimeoutError:
        return "timed_out", f"the patterns took more than {SECONDS:g} s"
    if len(cited) < check.least:
        return "no_citation", f"found {len(cited)}, expected {check.least}"
    if unknown := [one for one in cited if one not in passages]:
        return "unknown_citation", f"{', '.join(unknown)}: the prompt has {', '.join(passages) or 'no passages'}"
    sources = [plain(passages[one]) for one in cited] or [plain(text)]
    quoted = [next(filter(None, found)) for found in QUOTED.findall(answer)]
    long = [one for one in quoted if len(one.split()) >= check.quoted_words]
    astray = [one for one in long if not any(plain(one).rstrip(".,;:!?") in source for source in sources)]
    return ("misquoted", "; ".join(astray)) if astray else ("", "")
