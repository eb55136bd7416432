"""Examples in, the teachers' distributions at their target tokens out."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from engine.capture import flow
from engine.capture.capturer import CaptureSpec
from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.capture.summary import metrics_of
from engine.capture.vocabulary import ending, occurring, too_many, vocabulary
from engine.contract.budget import CAPTURE as PAYEE
from engine.contract.capture import Capture
from engine.contract.contract import Contract
from engine.contract.teachers import Teacher
from engine.distributed.capacity import captured
from engine.distributed.stream import Written
from engine.errors import ModelError
from engine.inference.crash_isolation import MARKERS
from engine.inference.token_budget import TEACHER_TOKENS, usage_in
from engine.inference.weights import described
from engine.records.capture import CaptureMetrics, TeacherCapture
from engine.records.record import Table
from engine.records.tokens import TokensMetrics
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts
from engine.storage.shards import iterate, read_table, table_of
from engine.students.data import preflight
from engine.students.data.aligned import laid
from engine.students.init.tokenizer import fetch
from jobs.steps import trained
from jobs.steps.judging import model_client
from jobs.steps.models import tokenizer

LEDGER, TOKENS = "capture", "tokens"
SAMPLE = 2000  # captured rows on which the aligned share is measured


def run(context: JobContext) -> RowCounts:
    """Score the target of each example with its teacher, or with each teacher of the mixture.

    Raises:
        ModelError: a teacher has fewer tokens than `k`, gives no log-probabilities, or cannot be loaded.
    """
    section = context.contract.capture
    assert section, "the pipeline has the job only where the contract orders it"
    (context.ledger / MARKERS / LEDGER).remove()  # crashes of an earlier attempt say nothing about this one
    dataset, pool = context.artifact(context.job.needs[0]), context.profile.cpu
    specs = _specs(context, section)
    words = {spec.teacher.name: vocabulary(spec.client.model, described(spec.client.weights)) for spec in specs}
    for name, rows in words.items():
        if rows.num_rows < section.entries:
            raise ModelError(too_many(section, name, rows.num_rows))
    before = _paid(context)
    count = dataset.table("examples").rows
    parts = max(1, min(200, -(-count // context.profile.teacher.block(count))))
    rows = flow.examples_with_answers(dataset, pool, parts=parts)
    total = rows.count()
    written = flow.write(rows, specs, context.writer.folder / "captured", pool)
    context.writer.tables["captured"] = _together([each.table for each in written])
    context.writer.put("vocabulary", pa.concat_tables(_occurring(words, specs, written)), VOCABULARY)
    context.writer.metrics = metrics = CaptureMetrics(
        constraint=section.constraint,
        gate=section.gate,
        teachers={spec.teacher.name: _measured(section, spec, each) for spec, each in zip(specs, written, strict=True)},
        tokens_paid=_paid(context) - before,
    )
    context.writer.metrics = metrics.model_copy(update={"aligned": _aligned(context, metrics)})
    context.log("\n  ".join([f"{context.job.name}:", *metrics.lines]))
    labels: dict[str, int] = {}
    for each in written:
        for label, number in each.labels.items():
            name = "captured" if label == "stop" else label
            labels[name] = labels.get(name, 0) + number
    each_by = len(specs) if section.teachers is not None else 1
    return RowCounts(count * each_by, {**labels, "copies": (count - total) * each_by})


def captured_teachers(contract: Contract) -> list[Teacher]:
    """Return the teachers that score examples, in the order of the contract."""
    return [contract.teachers.named(name) for name in captured(contract)]


def _specs(context: JobContext, section: Capture) -> list[CaptureSpec]:
    teachers = captured_teachers(context.contract)
    names = tuple(teacher.name for teacher in teachers)
    return [_spec(context, section, teacher, names) for teacher in teachers]


def _spec(context: JobContext, section: Capture, teacher: Teacher, names: Sequence[str]) -> CaptureSpec:
    asked = trained.asked(teacher, context.contract.specialist, context.root, context.profile.weights_cache)
    client = model_client(context, asked.model, LEDGER, payee=PAYEE, teacher=teacher.name)
    if teacher.name in section.tokenizers:
        client = replace(client, weights=tokenizer(context, section.tokenizers[teacher.name]))
    return CaptureSpec(
        section=section,
        teacher=asked.section,
        specialist=asked.specialist,
        client=client,
        fallback_of=tuple(names) if teacher.name == names[0] else (),
        toolset=trained.tools_of(context, teacher),
        systems=asked.systems,
        ending=ending(described(client.weights)),
    )


def _aligned(context: JobContext, metrics: CaptureMetrics) -> dict[str, float]:
    """Return the share of target tokens with a distribution for each tokenizer of students, over the first SAMPLE captured rows."""
    tokens, folder = context.artifact(TOKENS), context.writer.folder
    tables = context.writer.tables
    rows = next(iterate(folder / "captured", tables["captured"]), CAPTURE.empty_table()).slice(0, SAMPLE)
    words = read_table(folder / "vocabulary", tables["vocabulary"], VOCABULARY)
    names = set(rows["example_id"].to_pylist())
    shares = {}
    for each in tokens.metrics(TokensMetrics).tokenizers:
        table = f"examples_{each.key}"
        pieces = iterate(tokens.folder / table, tokens.table(table), ["example_id", "ids", "target_start"])
        found = (row for piece in pieces for row in piece.to_pylist())
        targets = {row["example_id"]: row["ids"][row["target_start"] :] for row in found if row["example_id"] in names}
        with tempfile.TemporaryDirectory() as scratch:
            tokenizer = preflight.load(fetch(tokens, each.key, Path(scratch)))
        gate = laid(rows, words, metrics.model_copy(update={"gate": "none"}), targets, tokenizer).gate
        shares[each.key] = round(float(gate.mean()), 6) if len(gate) else 0.0
    return shares


def _paid(context: JobContext) -> int:
    usage = usage_in(context.ledger / TEACHER_TOKENS).get(PAYEE)
    return usage.tokens if usage else 0


def _measured(section: Capture, spec: CaptureSpec, written: Written) -> TeacherCapture:
    measured = metrics_of(written.summaries, written.table.bytes)
    return measured.model_copy(update={"weight": (section.teachers or {}).get(spec.teacher.name)})


def _together(tables: Sequence[Table]) -> Table:
    digest = sum(int(table.digest, 16) for table in tables) % 2**128
    return table_of([shard for table in tables for shard in table.shards], f"{digest:032x}")


def _occurring(words: dict[str, pa.Table], specs: Sequence[CaptureSpec], written: Sequence[Written]) -> Iterator[pa.Table]:
    """Yield VOCABULARY of the ids that occur in each teacher's distributions, and of those that end its turns."""
    for spec, each in zip(specs, written, strict=True):
        name = spec.teacher.name
        yield occurring(words[name], name, {token for summary in each.summaries for token in summary["ids"]})
