"""`rayleigh rejudge`: the answers of a run before another judge. No teacher is asked, and no mark in the ledger is paid again.

The result rests in `RUN/rejudged`. With `--write` it becomes the run's candidates, and what was made from the old ones, which would
mix two judges, moves beside them into `RUN/earlier/<fingerprint>`: a run folder that `status`, `sql` and `rejudge` can read.

`rayleigh rejudge RUN --json` prints

    run, answers    how many were graded
    changes         what of the judge is other than in the run's candidates: `path: old -> new`
    pools           {before: {pool: answers}, after: {pool: answers}}
    moves           one object a way, most answers first: from, to (pools, "" = none), answers, because: [{before, after (reasons),
                    answers, examples (answer ids, for `rayleigh trace`)}]
    paid            tokens that the judge was paid now
    written         whether these are the run's candidates now
    earlier         where those of before lie, or null
    again           jobs that `rayleigh run` makes anew
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract import Contract, load_contract, load_profile
from engine.contract.load import apply_change, parse
from engine.contract.profile import Pool
from engine.errors import ContractError, MissingArtifact, RecipeMismatch
from engine.inference.token_budget import JUDGE_TOKENS, usage_in
from engine.rows import ANSWER, POOLS
from engine.runs import swap
from engine.runs.job import JobContext, differences, recipe_head, run_job
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts, load_artifact
from engine.storage.shards import Folder
from jobs import workspace
from jobs.pipeline import line
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

REJUDGED, CANDIDATES = "rejudged", "candidates"
JUDGING = ("judges", "budget.judge_tokens")
"""What of a contract may differ."""
EXAMPLES = 3  # ids of a way
MOVES = f"""
    select coalesce(b.pool, '') as before, coalesce(a.pool, '') as after, b.reasons as reasons_before, a.reasons as reasons_after,
        count(*) as answers, min(answer_id, {EXAMPLES}) as examples
    from before b full join after a using (answer_id) group by all order by answers desc, 1, 2, 3, 4
"""


def rejudge(
    run: str, *, contract: str | None = None, changes: Sequence[str] = (), profile: str | None = None, write: bool = False
) -> dict[str, Any]:
    """Return the object that the module describes.

    Raises:
        ContractError: the contract cannot be used as written, or a change concerns more than the judge.
        RecipeMismatch: the answers were given under another recipe than the contract's.
        MissingArtifact: the run has no candidates.
    """
    work = workspace.reopen(run)
    after = replace(
        work,
        contract=_order(work, contract, changes),
        contract_path=str(Path(contract).resolve()) if contract else work.contract_path,
    )
    if profile:
        after = replace(after, profile=load_profile(workspace.profile_path(profile)))
    console = Console(sys.stderr)  # what this command has found alone goes to stdout
    with workspace.locked(work.folder):
        before = load_artifact(work.folder / CANDIDATES)
        if before is None:
            raise MissingArtifact(f"{work.folder}: has no finished candidates. `rayleigh run` makes them.")
        context = _bench(after, console)
        head = _head(context, before)
        paid = _paid(work)
        made = next(_ready(before, context.writer.final, head), None) or _graded(after, context, console)
        found = {
            "run": str(work.folder),
            "answers": made.table(CANDIDATES).rows,
            "changes": list(differences(_judging(before.record["recipe"]), _judging(head["recipe"]))),
            **compare(before, made),
            "paid": _paid(work) - paid,
        }
        return found | (_write(work, after, before, made) if write else {"written": False, "earlier": None, "again": []})


def regrade(context: JobContext) -> RowCounts:
    """The answers of the run's candidates, block by block as they were written, before the judge of the bench's contract."""
    from engine.distributed import stream
    from jobs.steps.candidates import judge

    candidates = context.artifact(CANDIDATES)
    shards = candidates.table(CANDIDATES).shards  # each holds all answers to its prompts
    most = max(shard.rows for shard in shards)
    rows = stream.read(candidates, CANDIDATES, context.profile.cpu, rows=most, columns=ANSWER.names)
    rows = stream.apply(rows, said, context.profile.cpu)
    return judge(context, rows, candidates.record["row_counts"]["rows_in"] - candidates.record["metrics"].get("merged", 0))


def said(rows: pa.Table) -> pa.Table:
    """Return ANSWER rows without those that the judge made of several answers: it makes them anew."""
    return rows.filter(pc.invert(pc.and_(pc.equal(rows["teacher"], ""), pc.equal(rows["finish_reason"], "stop"))))


def joined(judge: Pool, teacher: Pool) -> Pool:
    """Return the pool `judge` with as many actors more as find room where the teachers would be at work."""
    free = teacher.actors * (teacher.gpus * teacher.pipeline if judge.gpus else teacher.cpus)
    each = judge.gpus * judge.pipeline if judge.gpus else judge.cpus
    return judge.model_copy(update={"actors": judge.actors + int(free / each if each else 0)})


def compare(before: Artifact, after: Artifact) -> dict[str, Any]:
    """Return `pools` and `moves` of the object that the module describes. DuckDB joins by id; only sums come back."""
    import duckdb

    from jobs.commands.sql import dataset

    connection = duckdb.connect(":memory:")
    for name, artifact in {"before": before, "after": after}.items():
        connection.register(name, dataset(artifact, CANDIDATES))
    ways = connection.sql(MOVES).to_arrow_table().to_pylist()
    moves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    counts = {side: dict.fromkeys(POOLS, 0) for side in ("before", "after")}
    for way in ways:
        for side, pools in counts.items():
            if way[side]:  # else an answer that the judge made of several, with the other judge alone
                pools[way[side]] += way["answers"]
        if (way["before"], way["reasons_before"]) != (way["after"], way["reasons_after"]):
            why = {"before": way["reasons_before"] or [], "after": way["reasons_after"] or []}
            moves.setdefault((way["before"], way["after"]), []).append(why | {name: way[name] for name in ("answers", "examples")})
    told = [
        {"from": old, "to": new, "answers": sum(one["answers"] for one in because), "because": because}
        for (old, new), because in moves.items()
    ]
    return {"pools": counts, "moves": sorted(told, key=lambda move: (move["from"] == move["to"], -move["answers"]))}


def _order(work: Workspace, path: str | None, changes: Sequence[str]) -> Contract:
    """The run's contract with the judge of the file `path`, or its own, and `changes`; what bears on answers is the file's, too."""
    for change in changes:
        if not change.startswith(tuple(f"{place}{end}" for place in JUDGING for end in (".", "="))):
            raise ContractError(f"--set {change}: rejudge changes the judge alone, expected one of {', '.join(JUDGING)}.")
    raw = work.contract.model_dump(mode="json")
    if path is None:
        for change in changes:
            apply_change(raw, change)
        return parse(Contract, raw, where=Path(work.contract_path))
    wanted = load_contract(Path(path), changes).contract.model_dump(mode="json")
    merged = {
        **raw,
        "specialist": raw["specialist"] | {"task_units": wanted["specialist"]["task_units"]},
        "teachers": wanted["teachers"],
        "judges": wanted["judges"],
        "budget": raw["budget"] | {"judge_tokens": wanted["budget"]["judge_tokens"]},
    }
    return parse(Contract, merged, where=Path(path))


def _bench(work: Workspace, console: Console) -> JobContext:
    [job] = [job for job in line(work.contract) if job.name == CANDIDATES]
    context = work.context(replace(job, run="jobs.commands.rejudge:regrade"), log=console.log, progress=console.progress)
    profile = work.profile.model_copy(update={"judge": joined(work.profile.judge, work.profile.teacher)})
    return replace(context, profile=profile, writer=ArtifactWriter(work.folder / REJUDGED))


def _head(context: JobContext, before: Artifact) -> dict[str, Any]:
    """What identifies the candidates with the new judge."""
    head = recipe_head(context)
    old, new = (_without_judge(recipe) for recipe in (before.record["recipe"], head["recipe"]))
    changes = [*differences(old, new), *differences(before.record["inputs"], head["inputs"], "inputs")]
    if changes:
        listed = "\n".join(f"  {change}" for change in changes)
        raise RecipeMismatch(
            f"{before.folder}: its answers were given under another recipe, and rejudge asks no teacher:\n{listed}\n"
            "Give a contract that differs in `judges` alone, or run it in a new folder."
        )
    return head


def _ready(before: Artifact, trial: Folder, head: dict[str, Any]) -> Iterator[Artifact]:
    """What is graded by the new judge already: the run's candidates, or what an earlier call left."""
    for found in (before, load_artifact(trial)):
        if found and found.record["fingerprint"] == head["fingerprint"]:
            yield found


def _graded(work: Workspace, context: JobContext, console: Console) -> Artifact:
    from jobs.commands.run import on_ray

    with on_ray(work, console):
        return run_job(context)


def _write(work: Workspace, after: Workspace, before: Artifact, made: Artifact) -> dict[str, Any]:
    """Make `made` the run's candidates. Each step may be the last of a dying process: the same call goes on from there."""
    kept = None
    if made.fingerprint != before.fingerprint:
        kept = swap.place(work.folder, before.fingerprint)
        replace(work, folder=kept).save()
        swap.keep(before, kept / CANDIDATES)
        swap.put(made, before.folder)
    after.save()
    again = swap.set_aside(work.folder, line(after.contract), CANDIDATES)
    (work.folder / REJUDGED).remove()
    return {"written": True, "earlier": str(kept) if kept else None, "again": again}


def _judging(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: recipe.get(name) for name in JUDGING}


def _without_judge(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name not in JUDGING}


def _paid(work: Workspace) -> int:
    return sum(spent.tokens for spent in usage_in(work.folder / "ledger" / JUDGE_TOKENS).values())


def as_text(found: dict[str, Any]) -> str:
    """Return the object in words: what of the judge changed, from which pool to which how many, and why."""
    before, after = found["pools"]["before"], found["pools"]["after"]
    shown = [pool for pool in POOLS if before[pool] or after[pool]]
    moved = {(move["from"], move["to"]): move["answers"] for move in found["moves"] if move["from"] != move["to"]}
    staying = {pool: before[pool] - sum(count for (old, _), count in moved.items() if old == pool) for pool in shown}
    rows = [[pool, *(moved.get((pool, to), 0) if to != pool else staying[pool] for to in shown), before[pool]] for pool in shown]
    rows.append(["now", *(after[pool] for pool in shown), found["answers"]])
    parts = ["\n".join(found["changes"]) or "The judge is the same.", columns(rows, head=["from \\ to", *shown, "before"])]
    why = [_why(move, one) for move in found["moves"] for one in move["because"]]
    if why:
        parts.append(columns(why, head=["from", "to", "answers", "because of", "now", "rayleigh trace"]))
    return "\n\n".join([*parts, _ending(found)])


def _why(move: dict[str, Any], one: dict[str, Any]) -> list[Any]:
    ids = " ".join(name[:12] for name in one["examples"])
    return [move["from"], move["to"], one["answers"], ", ".join(one["before"]), ", ".join(one["after"]), ids]


def _ending(found: dict[str, Any]) -> str:
    moved = sum(move["answers"] for move in found["moves"] if move["from"] != move["to"])
    lines = [f"{moved} of {found['answers']} answers move; {found['paid']} judge tokens and no teacher token were paid."]
    if not found["written"]:
        return "\n".join([*lines, f"Nothing of {found['run']} has changed; --write makes these its candidates."])
    if found["earlier"]:
        lines.append(
            f"They are the candidates of {found['run']} now; those of before, and what was made from them: {found['earlier']}"
        )
    return "\n".join([*lines, f"To do again by `rayleigh run`: {', '.join(found['again']) or 'nothing'}."])
