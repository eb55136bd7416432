"""`rayleigh ablate --buckets`: what each bucket of the examples is worth, by training the smallest student without it.

Buckets and training sets are defined in `engine/evaluation/buckets.py`, effects and verdicts in `engine/evaluation/attribution.py`,
the trainings in `jobs/commands/ablate_trainings.py`. `RUN/ablation/buckets.json`, and `--json`, hold an `Attribution`.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InputError
from engine.evaluation import variants
from engine.evaluation.attribution import Trained, controls, effects
from engine.evaluation.buckets import ExampleFacts, TrainingSet, buckets, training_sets
from engine.evaluation.decompose import num_clusters
from engine.records.attribution import Attribution, BucketEffect
from engine.rows import EXAMPLE, Row
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.shards import iterate
from jobs import workspace
from jobs.commands.ablate_trainings import ABLATION, SUPERVISE, Sets, exact_by_seed, prepared, scenarios, smallest, train
from jobs.terminal.console import columns, interval

RESULT = f"{ABLATION}/buckets.json"
READ = ["example_id", "pool", "confidence_tier", "kind", "target", "final", "rationale", "limits"]
SYNTHESIZED = "synthesize/"


def ablate(run: str, *, student: str | None, seeds: int, epochs: int | None = None, profile: str | None = None) -> Attribution:
    """Train `student`, by default the smallest one, `seeds` times without each bucket of the examples of `run`, and with all.

    Raises:
        InputError: the contract has no such student, or no bucket can be left out.
        MissingArtifact: the run has no dataset yet.
    """
    work = workspace.reopen(run)
    student = student or smallest(work)
    work = prepared(work, student, seeds, epochs, profile)
    dataset = workspace.finished(work.folder, "dataset")
    found = buckets(facts(dataset), seeds=seeds)
    sets = {each: _sets(each, seeds) for each in training_sets(found)}
    if not sets:
        why = "".join(f"\n  {bucket.name}: {bucket.left_out}" for bucket in found)
        hint = "A run with several teachers, pools or syntheses has some."
        raise InputError(f"{work.folder}: no bucket of its examples can be left out:{why}\n{hint}")
    with workspace.locked(work.folder):
        train(work, [plan for each in sets.values() for plan in each.plans(work.contract.students)])
        evaluation, clusters = work.contract.evaluation, scenarios(work)
        trained = Trained(
            {each: exact_by_seed(work, named) for each, named in sets.items()},
            clusters,
            level=evaluation.level,
            worth=evaluation.worth,
        )
        result = Attribution(
            run=str(work.folder),
            student=student,
            seeds=seeds,
            epochs=work.contract.students[0].epochs,
            dataset=dataset.fingerprint,
            examples=dataset.table("examples").rows,
            prompts=len(clusters),
            clusters=num_clusters(clusters),
            level=evaluation.level,
            worth=evaluation.worth,
            controls=controls(found, trained),
            buckets=effects(found, trained),
        )
        work.folder.write(RESULT, result.model_dump_json(indent=1).encode())
    return result


def examples(context: JobContext) -> RowCounts:
    """Write the examples of a training set: some of those of the dataset, perhaps with another target."""
    dataset = context.artifact("dataset")
    folder = context.job.name.rpartition("/")[0]
    seeds = len(context.contract.students)
    sets = [(each, _sets(each, seeds)) for each in training_sets(buckets(facts(dataset), seeds=seeds))]
    wanted, seed = next((each, seed) for each, named in sets for seed in range(seeds) if named.prefix(seed) == folder)
    chosen, pieces = pa.array(wanted.draws[seed]), []
    for piece in iterate(dataset.folder / "examples", dataset.table("examples")):
        rows = piece.filter(pc.is_in(piece["example_id"], chosen))
        pieces.append(_changed(rows, wanted, dataset) if wanted.variant else rows)
    table = pa.concat_tables(pieces)
    context.writer.put("examples", table, EXAMPLE)
    if asked := wanted.variant and variants.VARIANTS[wanted.variant].supervise:
        context.writer.metrics = {SUPERVISE: asked}
    return RowCounts(wanted.size, {"learnt": len(table)})


def _changed(rows: pa.Table, wanted: TrainingSet, dataset: Artifact) -> pa.Table:
    """Return EXAMPLE rows with the targets of the variant; what stands before the final answer is their rationale."""
    answers = _answers(dataset, {_answer_id(name) for name in rows["example_id"].to_pylist()})
    changed = []
    for row in rows.to_pylist():
        target = variants.target(wanted.variant, row, _answer(answers, row))
        before = target.removesuffix(row["final"]).strip() if target.endswith(row["final"]) else ""
        changed.append(row if target == row["target"] else {**row, "target": target, "rationale": before})
    return pa.Table.from_pylist(changed, schema=EXAMPLE)


def facts(dataset: Artifact) -> Iterator[ExampleFacts]:
    """Yield what the buckets read of every example of the artifact `dataset`. Holds the answers of the examples in memory."""
    rows = [row for piece in iterate(dataset.folder / "examples", dataset.table("examples"), READ) for row in piece.to_pylist()]
    answers = _answers(dataset, {_answer_id(row["example_id"]) for row in rows})
    for row in rows:
        written = answers.get(_answer_id(row["example_id"]), {})
        source = written.get("source") or ""
        yield ExampleFacts(
            row["example_id"],
            teacher=written.get("teacher") or "",
            pool=row["pool"] or "",
            tier=row["confidence_tier"],
            synthesis=source.removeprefix(SYNTHESIZED) if source.startswith(SYNTHESIZED) else "",
            contrastive="" if row["kind"] == "answer" else row["kind"],
            changed=variants.changed(row, _answer(answers, row)),
        )


def _answer_id(example_id: str) -> str:
    """Return the id of the answer that an example was made of: ids are hexadecimal, what follows a dash is ours."""
    return example_id.partition("-")[0]


def _answer(answers: dict[str, Row], example: Row) -> str | None:
    """Return what the teacher wrote; None for an example that is not one whole answer, such as a turn of a trajectory."""
    written = answers.get(example["example_id"].partition("-again")[0])
    return written["answer"] if written else None


def _answers(dataset: Artifact, ids: set[str]) -> dict[str, Row]:
    wanted, found = pa.array(sorted(ids), pa.string()), {}
    for piece in iterate(dataset.folder / "picked", dataset.table("picked"), ["answer_id", "teacher", "source", "answer"]):
        rows = piece.filter(pc.is_in(piece["answer_id"], wanted)).to_pylist()
        found.update({row["answer_id"]: row for row in rows})
    return found


def _sets(each: TrainingSet, seeds: int) -> Sets:
    digests = tuple(each.digest(seed) for seed in range(seeds))
    asked = bool(each.variant and variants.VARIANTS[each.variant].supervise)
    return Sets(each.name, "jobs.commands.ablate_buckets:examples", digests, each.is_whole, asked)


def as_text(attribution: Attribution) -> str:
    """Return a table with a line per bucket."""
    head = (
        f"student {attribution.student}, {attribution.seeds} seeds, {attribution.epochs} epochs; effect: exact match with the "
        f"bucket less without it, on {attribution.prompts} prompts of {attribution.clusters} scenarios"
    )
    names = ["bucket", "examples", "trained on", "without it", "effect", "verdict"]
    rows = [
        [
            f"{bucket.kind} {bucket.value}",
            bucket.examples,
            bucket.size,
            interval(bucket.exact_match),
            _effect(bucket),
            f"not trained: {bucket.left_out}" if bucket.left_out else bucket.verdict.replace("_", " "),
        ]
        for bucket in attribution.buckets
    ]
    foot = f"Levels are corrected for the number of buckets (Holm): none is named wrongly with {attribution.level:g} confidence."
    if attribution.seeds == 1:
        foot = "One seed does not tell how much trainings differ, so no bucket is named: use --seeds 3."
    return f"{head}\n\n{columns(rows, head=names)}\n\n{foot}"


def _effect(bucket: BucketEffect) -> str | None:
    effect = bucket.effect
    return effect and f"{effect.value:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})"
