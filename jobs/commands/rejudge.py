"""`rayleigh rejudge`: grade the answers of a run with another judge. No teacher is asked, and no known judgement is paid again.

The result is in `RUN/rejudged`. With `--write` it becomes the run's candidates. The former candidates and all that was made from
them move to `RUN/earlier/<fingerprint>`, a run folder that `status`, `sql` and `rejudge` can read.
Relative paths of `--contract FILE`, and of `--set` beside it, start at the folder of FILE; the run keeps them relative to its own.
`rayleigh rejudge RUN --json` prints a `RejudgeComparison` (engine/records/judge.py).
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.contract import Contract
from engine.contract.load import apply_change, load_contract, parse_contract
from engine.contract.profile import Pool, load_profile
from engine.contract.sections import is_url
from engine.errors import ContractError, RecipeMismatch
from engine.inference.bundled import BUNDLED
from engine.inference.token_budget import JUDGE_TOKENS, tokens_in
from engine.readers.below import below
from engine.records.base import BeforeAfter, Json
from engine.records.judge import Move, RejudgeComparison
from engine.records.record import Identity
from engine.rows import ANSWER, POOLS, Row
from engine.runs import swap
from engine.runs.job import JobContext, run_job
from engine.runs.recipe import differences, identify, recipe_of
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts, load_artifact
from jobs import places, workspace
from jobs.pipeline import pipeline
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

REJUDGED, CANDIDATES = "rejudged", "candidates"
JUDGING = ("judges", "budget.judge_tokens")
"""Paths of the contract that may differ."""
PATHS = (
    ("vllm", "path"), ("llama_cpp", "path"), ("student", "run"), ("release", "registry"),
    ("llama_cpp", "packages"), ("sql", "tables"), ("retrieval", "corpus"),
)  # fmt: skip
"""`type` of a section of teachers or judges, and its key that holds paths: one, or a mapping from name to path."""
TOKENIZERS = "tokenizers"
"""The key of the section `judges.evidence`, which has no `type`, that holds paths."""
EXAMPLES = 3  # answer ids of a move and reason
MOVES = f"""
    select coalesce(b.pool, '') as before, coalesce(a.pool, '') as after, b.reasons as reasons_before, a.reasons as reasons_after,
        count(*) as answers, min(answer_id, {EXAMPLES}) as examples
    from before b full join after a using (answer_id) group by all order by answers desc, 1, 2, 3, 4
"""


def rejudge(
    run: str, *, contract: str | None = None, changes: Sequence[str] = (), profile: str | None = None, write: bool = False
) -> RejudgeComparison:
    """Grade the answers of `run` with the judge of the file `contract`, or its own, with `changes`; return what differs.

    Raises:
        ContractError: the contract cannot be used as written, or a change concerns more than the judge.
        RecipeMismatch: the contract asks its teachers otherwise than the run did.
        MissingArtifact: the run has no candidates.
    """
    work = workspace.reopen(run)
    after = replace(
        work,
        contract=_contract(work, contract, changes),
        contract_path=_place(contract) if contract else work.contract_path,
    )
    if profile:
        after = replace(after, profile=load_profile(places.profile_path(profile)))
    console = Console(sys.stderr)  # stdout is for the result alone
    with workspace.locked(work.folder):
        before = workspace.finished(work.folder, CANDIDATES)
        context = _context(after, console)
        head = _head(context, before)
        usage = work.folder / "ledger" / JUDGE_TOKENS
        tokens = tokens_in(usage)
        graded = (before, load_artifact(context.writer.final))  # the run's own, or those that an earlier call left
        candidates = next((each for each in graded if each and each.record.fingerprint == head.fingerprint), None)
        candidates = candidates or _graded(after, context, console)
        moves = compare(before, candidates)
        comparison = RejudgeComparison(
            run=str(work.folder),
            answers=candidates.table(CANDIDATES).rows,
            changes=tuple(differences(_judging(recipe_of(before.record)), _judging(head.recipe))),
            pools=moves.pools,
            moves=moves.moves,
            paid=tokens_in(usage) - tokens,
        )
        return _write(work, after, before, candidates, comparison) if write else comparison


def regrade(context: JobContext) -> RowCounts:
    """Grade the answers of the run's candidates, block by block as they were written, with the judge of the contract."""
    from engine.distributed import stream
    from jobs.steps.candidates import judge

    candidates = context.artifact(CANDIDATES)
    shards = candidates.table(CANDIDATES).shards  # each holds all answers to its prompts
    most = max(shard.rows for shard in shards)
    rows = stream.read(candidates, CANDIDATES, context.profile.cpu, rows=most, columns=ANSWER.names)
    rows = stream.apply(rows, without_merged, context.profile.cpu)
    return judge(context, rows, candidates.record.row_counts.rows_in - candidates.record.metrics.get("merged", 0))


def without_merged(rows: pa.Table) -> pa.Table:
    """Return ANSWER rows without merged answers: the judge merges them again."""
    return rows.filter(pc.invert(pc.and_(pc.equal(rows["teacher"], ""), pc.equal(rows["finish_reason"], "stop"))))


def joined(judge: Pool, teacher: Pool) -> Pool:
    """Return the pool `judge` with as many more actors as fit on the resources of the idle teachers."""
    free = teacher.actors * (teacher.gpus * teacher.pipeline if judge.gpus else teacher.cpus)
    each = judge.gpus * judge.pipeline if judge.gpus else judge.cpus
    return judge.model_copy(update={"actors": judge.actors + int(free / each if each else 0)})


class Moves(NamedTuple):
    """Answers by pool before and after, and the moves in between."""

    pools: BeforeAfter[dict[str, int]]
    moves: tuple[Move, ...]


def compare(before: Artifact, after: Artifact) -> Moves:
    """Return how answers moved between the pools of two candidates artifacts. DuckDB joins by id; only sums come back."""
    import duckdb

    from jobs.commands.sql import dataset

    connection = duckdb.connect(":memory:")
    with TemporaryDirectory() as migrated:
        for name, artifact in {"before": before, "after": after}.items():
            connection.register(name, dataset(artifact, CANDIDATES, migrated=migrated))
        groups: list[Row] = connection.sql(MOVES).to_arrow_table().to_pylist()
    reasons: dict[tuple[str, str], list[Row]] = {}
    counts: BeforeAfter[dict[str, int]] = BeforeAfter(before=dict.fromkeys(POOLS, 0), after=dict.fromkeys(POOLS, 0))
    for group in groups:
        for pool, pools in ((group["before"], counts.before), (group["after"], counts.after)):
            if pool:  # "": an answer that only one of the judges merged
                pools[pool] += group["answers"]
        if (group["before"], group["reasons_before"]) != (group["after"], group["reasons_after"]):
            pair = {"before": group["reasons_before"] or [], "after": group["reasons_after"] or []}
            of_move = reasons.setdefault((group["before"], group["after"]), [])
            of_move.append(pair | {name: group[name] for name in ("answers", "examples")})
    moves = [
        Move.model_validate({"from": old, "to": new, "answers": sum(reason["answers"] for reason in of_move), "reasons": of_move})
        for (old, new), of_move in reasons.items()
    ]
    return Moves(counts, tuple(sorted(moves, key=lambda move: (move.source == move.to, -move.answers))))


def _contract(work: Workspace, path: str | None, changes: Sequence[str]) -> Contract:
    """Return the run's contract with the judge of the file `path`, or its own, and `changes`; the teachers are the file's, too.

    Relative paths of the file start at its folder.
    """
    for change in changes:
        if not change.startswith(tuple(f"{place}{end}" for place in JUDGING for end in (".", "="))):
            raise ContractError(f"--set {change}: rejudge changes the judge alone, expected one of {', '.join(JUDGING)}.")
    raw = work.contract.model_dump(mode="json")
    if path is None:
        for change in changes:
            apply_change(raw, change)
        return parse_contract(raw, where=work.contract_path)
    loaded = load_contract(path, changes, is_new=False)
    other = _rebased(loaded.contract.model_dump(mode="json"), loaded.root, work.root)
    merged = {
        **raw,
        "specialist": raw["specialist"] | {"task_units": other["specialist"]["task_units"]},
        "teachers": other["teachers"],
        "judges": other["judges"],
        "budget": raw["budget"] | {"judge_tokens": other["budget"]["judge_tokens"]},
    }
    return parse_contract(merged, where=path)


def _place(contract: str) -> str:
    return contract if is_url(contract) else str(Path(contract).resolve())


def _rebased(value: Any, folder: str, root: str, *, is_path: bool = False) -> Any:
    """Return a value of a contract in `folder` with the same models and files of tools, written relative to `root`, or as a URL."""
    if isinstance(value, list):
        return [_rebased(item, folder, root) for item in value]
    if isinstance(value, dict):
        paths = {key for kind, key in PATHS if value.get("type") == kind}
        paths.add(TOKENIZERS)
        return {key: _rebased(inner, folder, root, is_path=is_path or key in paths) for key, inner in value.items()}
    if not value or not is_path or folder == root or value in BUNDLED or "://" in value or Path(value).is_absolute():
        return value
    place = below(folder, value)
    return place if is_url(folder) or is_url(root) else os.path.relpath(place, root)


def _context(work: Workspace, console: Console) -> JobContext:
    [job] = [job for job in pipeline(work.contract) if job.name == CANDIDATES]
    context = work.context(replace(job, run="jobs.commands.rejudge:regrade"), log=console.log, progress=console.progress)
    profile = work.profile.model_copy(update={"judge": joined(work.profile.judge, work.profile.teacher)})
    return replace(context, profile=profile, writer=ArtifactWriter(work.folder / REJUDGED))


def _head(context: JobContext, before: Artifact) -> Identity:
    """Return the identity of the candidates of the new judge; raise RecipeMismatch if the answers would differ, too."""
    head = identify(context)
    old, new = (_without_judge(recipe) for recipe in (recipe_of(before.record), head.recipe))
    changes = [*differences(old, new), *differences(before.record.inputs, head.inputs, "inputs")]
    if changes:
        listed = "\n".join(f"  {change}" for change in changes)
        raise RecipeMismatch(
            f"{before.folder}: its answers were made by another recipe, and rejudge asks no teacher:\n{listed}\n"
            "Give a contract that differs in `judges` alone, or run it in a new folder."
        )
    return head


def _graded(work: Workspace, context: JobContext, console: Console) -> Artifact:
    from jobs.terminal.session import ray_session

    with ray_session(work, console):
        return run_job(context)


def _write(
    work: Workspace, after: Workspace, before: Artifact, candidates: Artifact, comparison: RejudgeComparison
) -> RejudgeComparison:
    """Make `candidates` those of the run. The process may die after any step: the same call goes on from there."""
    earlier = None
    if candidates.fingerprint != before.fingerprint:
        earlier = swap.archive(work.folder, before.fingerprint)
        replace(work, folder=earlier).save()
        swap.copy(before, earlier / CANDIDATES)
        swap.swap_in(candidates, before.folder)
    after.save()
    again = swap.archive_stale(work.folder, pipeline(after.contract), CANDIDATES)
    (work.folder / REJUDGED).remove()
    update = {"written": True, "earlier": str(earlier) if earlier else None, "stale_jobs": tuple(again)}
    return comparison.model_copy(update=update)


def _judging(recipe: Json) -> Json:
    return {name: recipe.get(name) for name in JUDGING}


def _without_judge(recipe: Json) -> Json:
    return {name: value for name, value in recipe.items() if name not in JUDGING}


def as_text(comparison: RejudgeComparison) -> str:
    """Return the comparison as text: changed settings, a table from pool to pool, and the reasons of each move."""
    before, after = comparison.pools.before, comparison.pools.after
    shown = [pool for pool in POOLS if before[pool] or after[pool]]
    moved = {(move.source, move.to): move.answers for move in comparison.moves if move.source != move.to}
    staying = {pool: before[pool] - sum(count for (old, _), count in moved.items() if old == pool) for pool in shown}
    rows = [[pool, *(moved.get((pool, to), 0) if to != pool else staying[pool] for to in shown), before[pool]] for pool in shown]
    rows.append(["now", *(after[pool] for pool in shown), comparison.answers])
    parts = ["\n".join(comparison.changes) or "The judge is the same.", columns(rows, head=["from \\ to", *shown, "before"])]
    if reasons := [row for move in comparison.moves for row in _reason_rows(move)]:
        parts.append(columns(reasons, head=["from", "to", "answers", "because of", "now", "rayleigh trace"]))
    return "\n\n".join([*parts, _result(comparison)])


def _reason_rows(move: Move) -> Iterator[list[str | int]]:
    for reason in move.reasons:
        ids = " ".join(name[:12] for name in reason.examples)
        yield [move.source, move.to, reason.answers, ", ".join(reason.before), ", ".join(reason.after), ids]


def _result(comparison: RejudgeComparison) -> str:
    moved = sum(move.answers for move in comparison.moves if move.source != move.to)
    lines = [f"{moved} of {comparison.answers} answers move; {comparison.paid} judge tokens and no teacher token were paid."]
    if not comparison.written:
        return "\n".join([*lines, f"Nothing of {comparison.run} has changed; --write makes these its candidates."])
    if comparison.earlier:
        lines.append(
            f"They are the candidates of {comparison.run} now; the former ones and all made from them: {comparison.earlier}"
        )
    return "\n".join([*lines, f"`rayleigh run` will run again: {', '.join(comparison.stale_jobs) or 'nothing'}."])
