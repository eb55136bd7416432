"""What differs between two runs and what moved because of it, in sentences."""

import json
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from engine.records.comparison import DatasetCompared, JobChange, KeyChange, ModelCompared, ModelsCompared, RunPair, Shift

LONGEST, MOST = 60, 4
"""Characters of a value, and shifts of one kind, in a sentence."""


def summary(pair: RunPair) -> Iterator[str]:
    """Yield the sentences, causes first. What is the same in both runs is named in one sentence at the end."""
    yield _contract(pair.contract)
    yield from _jobs(pair.jobs)
    same: list[str] = []
    if pair.prompts:
        moved = _moved(pair.prompts.shifts)
        same += [] if moved or pair.prompts.changed else ["prompts"]
        yield from [f"Prompts: {moved}."] * bool(moved)
        yield from [f"Prompts: {pair.prompts.changed} have another label or reference."] * bool(pair.prompts.changed)
    if (answers := pair.answers) and (answers.other or answers.only_before or answers.only_after):
        of = answers.same + answers.other
        yield f"Answers: {answers.other} of {of} are another; {answers.only_before} went, {answers.only_after} came."
    elif answers:
        same.append("answers")
    if pair.pools:
        moved = _moved([shift for shift in pair.pools.shifts if shift.before != shift.after])
        same += [] if moved else ["pools"]
        yield from [f"Pools: {moved}."] * bool(moved)
    if pair.dataset:
        text = _dataset(pair.dataset)
        same += [] if text else ["dataset"]
        yield from [text] * bool(text)
    yield from _models(pair.models) if pair.models else []
    yield from [f"The same in both: {', '.join(same)}."] * bool(same)


def value_text(value: JsonValue) -> str:
    """Return a value of a contract, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _contract(changes: Sequence[KeyChange]) -> str:
    if not changes:
        return "The contracts are the same."
    texts = [f"{change.key} {value_text(change.before)} -> {value_text(change.after)}" for change in changes]
    keys = "one key" if len(texts) == 1 else f"{len(texts)} keys"
    more = f"; and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return f"The contracts differ in {keys}: {'; '.join(texts[:MOST])}{more}."


def _jobs(jobs: Sequence[JobChange]) -> Iterator[str]:
    changed = {job.job for job in jobs if job.state == "changed"}
    for job in jobs:
        if job.state != "changed":
            continue
        if not job.because:
            why = f"; {', '.join(job.environment)}" if job.environment else ""
            yield f"{job.job}: the same recipe made something else{why}."
        elif keys := [cause for cause in job.because if cause not in changed]:
            yield f"{job.job} changed because of {', '.join(keys[:MOST])}" + _more(keys)
    following = [job.job for job in jobs if job.because and all(cause in changed for cause in job.because)]
    if following:
        yield f"What was made from it changed, too: {', '.join(following)}."
    if missing := [f"{job.job} ({job.state})" for job in jobs if job.state.startswith("only")]:
        yield f"Finished in one run alone: {', '.join(missing)}."


def _more(items: Sequence[str]) -> str:
    return f" and {len(items) - MOST} more keys." if len(items) > MOST else "."


def _moved(shifts: Sequence[Shift]) -> str:
    """Return the largest moves, summed over reasons."""
    sums: dict[tuple[str, str], int] = {}
    for shift in shifts:
        key = (shift.before or "nowhere", shift.after or "nowhere")
        sums[key] = sums.get(key, 0) + shift.rows
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    parts = [f"{rows} from {before} to {after}" for (before, after), rows in ordered[:MOST]]
    rest = sum(rows for _, rows in ordered[MOST:])
    return ", ".join([*parts, *([f"{rest} elsewhere"] if rest else [])])


def _dataset(dataset: DatasetCompared) -> str:
    parts = {"came in": dataset.into, "went out": dataset.out, "have another target": dataset.changed}
    parts["have another weight or split"] = dataset.reweighted
    if not any(parts.values()):
        return ""
    listed = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    return f"Dataset: {listed}; {dataset.before} -> {dataset.after} examples."


def _models(models: ModelsCompared) -> Iterator[str]:
    if not models.prompts[2]:
        yield "The holdouts have no prompt in common, so no model can be compared."
        return
    for model in models.models:
        yield from _model(model, models.level)
    if models.winners[0] != models.winners[1]:
        yield f"The gate chooses {models.winners[1] or 'no student'} in place of {models.winners[0] or 'no student'}."


def _model(model: ModelCompared, level: float) -> Iterator[str]:
    found = model.difference
    if found and (model.gained or model.lost):
        proof = "" if model.differs else ", which proves no difference"
        yield (
            f"{model.role.capitalize()} {model.name}: exact match {found.value:+.3f} "
            f"({found.low:+.3f} to {found.high:+.3f}, paired, {level:.0%}){proof}."
        )
    if model.words[0] != model.words[1]:
        yield f"The gate on {model.name}: {model.words[0] or 'no word'} -> {model.words[1] or 'no word'}."
