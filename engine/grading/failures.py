"""Why answers were not accepted: the most frequent reasons over all CANDIDATE rows, each with one example."""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engine.inference.spending import ACCEPTED
from engine.records.candidates import FailureReason
from engine.rows import Row

KEPT, SHOWN = 50, 5  # reasons in a shard's sums and in a record; reasons that a console shows
MAX_WORDS, MAX_TEXT = 240, 80  # characters of a reason's words, and of an example's prompt
COLUMNS = ["prompt_id", "answer_id", "text", "answer", "error", "checks", "pool", "reasons"]
VARIABLE = re.compile(
    r"(?P<url>https?://[^\s,;]+)|(?P<text>'[^']*'|\"[^\"]*\"|`[^`]*`)|(?P<id>\b(?=[0-9a-f-]*\d)[0-9a-f][0-9a-f-]{7,}\b)"
    r"|(?P<number>\d+(?:[.,]\d+)*)",
    re.IGNORECASE,
)
"""Parts of an error's words that differ from row to row."""
STANDS_FOR = {"url": "URL", "text": "'...'", "id": "ID", "number": "N"}


def failure_reasons(pieces: Iterable[pa.Table]) -> list[FailureReason]:
    """Return the most frequent reasons of the rows of `pieces` (COLUMNS) that are in no accepted pool; of each row one reason."""
    found: list[FailureReason] = []
    for piece in pieces:
        failed = piece.select(COLUMNS).filter(pc.invert(pc.is_in(piece["pool"], pa.array(ACCEPTED))))
        found += map(_reason, failed.to_pylist())
    return merged(found)


def merged(reasons: Iterable[FailureReason]) -> list[FailureReason]:
    """Return `reasons` with equal ones added up, the most frequent first, at most KEPT; the example is that of the lowest id."""
    sums: dict[tuple[str, str], FailureReason] = {}
    for reason in reasons:
        key = (reason.pool, reason.reason)
        if (other := sums.get(key)) is not None:
            first = min(reason, other, key=lambda each: each.answer_id)
            reason = first.model_copy(update={"answers": reason.answers + other.answers})
        sums[key] = reason
    return sorted(sums.values(), key=lambda each: (-each.answers, each.pool, each.reason))[:KEPT]


def as_lines(reasons: Sequence[FailureReason], total: int) -> list[str]:
    """Return the most frequent of `reasons` with an example each, as lines; `total` is the number of all answers."""
    groups = []
    for each in reasons:
        words = f": {each.words}" if each.words and not each.reason.endswith(each.words) else ""
        groups.append((each.answers, f"{each.pool}: {each.reason}", f"answer {each.answer_id[:12]} to {each.text!r}{words}"))
    return _lines(groups, total)


def counted(failures: Iterable[tuple[str, str, str]], total: int) -> list[str]:
    """Return lines as `as_lines` for rows that failed, each as (who, its error's words, an example)."""
    groups: dict[str, tuple[int, str, str]] = {}
    for who, words, example in failures:
        reason = f"{who}: {normal_form(words)}" if words else who
        count, _, first = groups.get(reason, (0, reason, example))
        groups[reason] = (count + 1, reason, first)
    return _lines(sorted(groups.values(), key=lambda group: (-group[0], group[1])), total)


def _lines(groups: Sequence[tuple[int, str, str]], total: int) -> list[str]:
    lines = []
    for rows, reason, example in groups[:SHOWN]:
        lines += [f"{rows} of {total} ({100 * rows / max(1, total):.0f} %) {reason}", f"    for example {example}"]
    if len(groups) > SHOWN:
        lines.append(f"{sum(group[0] for group in groups[SHOWN:])} more for {len(groups) - SHOWN} other reasons")
    return lines


def normal_form(words: str) -> str:
    """Return an error's words with URLs, ids, numbers and quoted texts replaced, so that equal causes have equal words."""
    plain = VARIABLE.sub(lambda match: STANDS_FOR[match.lastgroup or "number"], " ".join(words.split()))
    return plain if len(plain) <= MAX_WORDS else plain[:MAX_WORDS] + "..."


def _reason(row: Row) -> FailureReason:
    tags = ", ".join(row["reasons"] or ["unknown"])
    error = row["error"] or ""
    failed = [check for check in row["checks"] or () if not check["passed"]]
    details = "; ".join(f"{check['check']}: {check['detail'] or check['tag']}" for check in failed)
    return FailureReason(
        pool=row["pool"],
        reason=f"{tags}: {normal_form(error)}" if error else tags,
        answers=1,
        answer_id=row["answer_id"] or "",
        prompt_id=row["prompt_id"],
        text=_clip(row["text"], MAX_TEXT),
        words=_clip(error or details or row["answer"], MAX_WORDS),
    )


def _clip(text: str, most: int) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= most else line[:most] + "..."
