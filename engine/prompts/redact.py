"""Replace personal data in prompts, before any other step reads them. `recognizers` finds it; README.md lists what is missed."""

from collections.abc import Sequence

import pyarrow as pa

from engine.contract.prompts import Entity
from engine.prompts.recognizers import FINDERS, Span
from engine.prompts.sources import INGESTED
from engine.rows import Row


def redact(rows: pa.Table, kinds: Sequence[Entity]) -> pa.Table:
    """Return INGESTED with personal data of `kinds` replaced in messages, text, raw and the references of training prompts.

    References of the holdout are not changed: nothing is trained on them.
    """
    if not kinds or not rows.num_rows:
        return rows
    changed = []
    for row in rows.to_pylist():
        replaced: set[str] = set()
        turns = [{**turn, "content": redact_text(turn["content"], kinds, replaced)} for turn in row["messages"] or ()]
        texts: Row = {name: redact_text(row[name], kinds, set()) for name in ("raw", "detail")}
        texts["text"] = "\n".join(turn["content"] for turn in turns if turn["role"] == "user") if row["messages"] else None
        if row["reference"] and row["split"] == "train":
            texts["reference"] = redact_text(row["reference"], kinds, replaced)
        messages = turns if row["messages"] is not None else None
        changed.append({**row, **texts, "messages": messages, "redacted": sorted(replaced)})
    return pa.Table.from_pylist(changed, schema=INGESTED)


def redact_text(text: str, kinds: Sequence[Entity], replaced: set[str]) -> str:
    """Return `text` with <EMAIL>, <PHONE> ... in place of personal data; the kinds that occur are added to `replaced`."""
    parts: list[str] = []
    end = 0
    for span in spans(text, kinds):
        replaced.add(span.kind)
        parts += [text[end : span.start], f"<{span.kind.upper()}>"]
        end = span.end
    return "".join(parts) + text[end:] if parts else text


def spans(text: str, kinds: Sequence[Entity]) -> list[Span]:
    """Return the spans to replace, in order and without overlap: of overlapping matches the longest, then the first kind."""
    matches = [span for kind in kinds for span in FINDERS[kind](text)]
    matches.sort(key=lambda span: (span.start - span.end, kinds.index(span.kind), span.start))
    chosen: list[Span] = []
    for span in matches:
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen)
