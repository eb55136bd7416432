"""`rayleigh explain`: what a key of the contract means, and which jobs a change of it runs again.

`engine/records/explain.py` documents what `--json` prints.
"""

import json
from collections.abc import Sequence
from functools import cache

import yaml

from engine.contract.contract import Contract
from engine.contract.keys import choices, default_words, limited_words, one_line, sections_in, tag_of
from engine.contract.lookup import ITEMS, Key, find, nearest, renamed, split_tag
from engine.errors import InputError
from engine.records.explain import ExplainedKey, Explanation
from engine.runs.job import Job
from jobs.pipeline import pipeline
from jobs.terminal.console import columns

DETAILED = 3  # keys that are explained in full; more are listed
NAME = "name"  # of the student and the export in EVERY_JOB
EVERY_JOB = """
name: every-job
specialist: {goal: none, task_units: [{name: unit, kind: decision}]}
prompts:
  sources: [{path: seeds.jsonl, licence: CC0-1.0}]
  holdout: {path: holdout.jsonl, labels: rule}
  synthesize: [{method: {type: self_instruct}, model: {type: vllm, path: model}, wanted: 1}]
teachers: {mode: direct, models: [{name: teacher, model: {type: vllm, path: model}}]}
judges: {}
capture: {}
students: [{name: name, init: {prune: {source: model, layers: [0]}}, exports: [{type: int8, name: name}]}]
gate: {exact_match: 0.5}
"""
"""A contract whose pipeline has every kind of job; its other values do not matter."""


def explain(wanted: str) -> Explanation:
    """Return the keys that `wanted` names: a path, or the end of one.

    Raises:
        InputError: no key has this path; the message names a new name, or the nearest ones.
    """
    found = find(wanted)
    if not found:
        older = renamed(wanted)
        near = nearest(wanted)
        hint = " ".join(older) or (f"Did you mean {', '.join(near)}?" if near else "jobs/contracts/README.md lists all.")
        raise InputError(f"{wanted}: found no such key in the contract or the cluster profile. {hint}")
    grouped: dict[tuple[object, ...], list[Key]] = {}
    for key in found:
        grouped.setdefault((key.root, key.section, key.name, _readers(key)), []).append(key)
    return Explanation(keys=tuple(_explained(group) for group in grouped.values()))


def _explained(group: Sequence[Key]) -> ExplainedKey:
    key = group[0]
    inner = sections_in(key.field.annotation)
    readers = _readers(key)
    jobs = {job.name: job for job in _jobs()}
    place = ".".join(key.parts)
    hints = {
        hint.format(run="RUN")
        for name in readers
        for path, hint in jobs[name].hints.items()
        if f"{place}.".startswith(f"{path}.") and _is_read(key.parts, jobs[name])
    }
    return ExplainedKey(
        path=key.path,
        more_paths=tuple(other.path for other in group[1:]),
        file="contract" if key.root is Contract else "cluster profile",
        yaml=_yaml(key),
        meaning=one_line(key.doc or (inner[0].__doc__ or "" if len(inner) == 1 else "")),
        type=limited_words(key.field, lambda section: tag_of(section) or "section"),
        default=None if key.field.is_required() else default_words(key.field),
        choices=tuple(json.dumps(value) for value in choices(key.field.annotation)),
        keys=tuple(dict.fromkeys(name for section in inner for name in section.model_fields)),
        read_by=tuple(map(_shown, readers)),
        reruns=tuple(map(_shown, _after(readers))),
        hints=tuple(sorted(hints)),
    )


def _yaml(key: Key) -> str:
    """Return the key at its place, as YAML."""
    has_default = not key.field.is_required() and not sections_in(key.field.annotation)
    default = key.field.get_default(call_default_factory=not key.field.default_factory_takes_validated_data)
    tree: object = json.loads(json.dumps(default, default=str)) if has_default else "..."
    steps = [key.name, *reversed(key.path.split(".")[:-1])]
    for part, tag in map(split_tag, steps):
        if tag and isinstance(tree, dict):
            tree = {"type": tag, **tree}
        tree = [tree] if part == "N" else {part: tree}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).rstrip().replace("'...'", "...")


@cache
def _jobs() -> tuple[Job, ...]:
    return pipeline(Contract.model_validate(yaml.safe_load(EVERY_JOB)))


def _readers(key: Key) -> tuple[str, ...]:
    """Return the jobs whose recipe the key is part of; none for a profile, which says only where a run runs."""
    return tuple(job.name for job in _jobs() if key.root is Contract and _is_read(key.parts, job))


def _is_read(parts: Sequence[str], job: Job) -> bool:
    """Return whether a key at `parts` is in what `job` reads, or holds it."""
    for path in job.reads:
        read = path.split(".")
        same = all(part in (wanted, *ITEMS) for part, wanted in zip(parts, read, strict=False))
        if same and not (len(parts) > len(read) and parts[len(read)] in job.ignores):
            return True
    return False


def _after(readers: Sequence[str]) -> list[str]:
    """Return `readers` and all jobs that need what they make."""
    stale: list[str] = []
    for job in _jobs():
        if job.name in readers or any(need in stale for need in job.needs if need not in job.derived):
            stale.append(job.name)
    return stale


def _shown(job: str) -> str:
    return job.replace(f"/{NAME}", "/*")


def as_text(result: Explanation) -> str:
    """Return a paragraph for each key; of more than DETAILED keys only a line."""
    if len(result.keys) > DETAILED:
        rows = [[key.path, key.type, "required" if key.default is None else key.default, key.meaning] for key in result.keys]
        note = "Give more of the path to see one in full: rayleigh explain PATH"
        return "\n".join([columns(rows, head=["key", "type", "default", "meaning"]), note])
    return "\n\n".join(map(_paragraph, result.keys))


def _paragraph(key: ExplainedKey) -> str:
    also = f" (and {len(key.more_paths)} more: {', '.join(key.more_paths[:3])})" if key.more_paths else ""
    rows = {
        "meaning": key.meaning,
        "type": key.type.replace("`", ""),
        "values": ", ".join(key.choices),
        "default": "none: the key is required" if key.default is None else key.default,
        "keys": ", ".join(key.keys),
        "a change": _change(key),
        "or": " ".join(key.hints),
    }
    lines = [f"{label:<9}{value}" for label, value in rows.items() if value]
    example = "\n".join(f"         {line}" for line in key.yaml.splitlines())
    return "\n".join([f"{key.path}{also}", *lines, f"{key.file} ...", example])


def _change(key: ExplainedKey) -> str:
    if not key.read_by:
        return "reruns nothing: it is part of no recipe."
    return (
        f"reruns {', '.join(key.reruns)}. It is part of the recipe of {', '.join(key.read_by)}: `rayleigh run` refuses to go on "
        "with a finished one."
    )
