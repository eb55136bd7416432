"""Capture on Ray: examples joined with the answers that they were made of, scored by one teacher after the other."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from engine.capture.capturer import JOINED, Capturer, CaptureSpec
from engine.capture.schemas import CAPTURE, COPY
from engine.capture.summary import summary
from engine.contract.profile import Pool
from engine.distributed import gather, stream
from engine.distributed.environment import importing
from engine.distributed.rows import Rows
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder

SCAN_ROWS = 20_000
GATHERED = 50_000  # answers; shuffling fewer takes Ray longer than joining them
ENVIRONMENT = {"VLLM_USE_V2_MODEL_RUNNER": "0"}  # scoring hooks into the first one; without Triton there is no other
EXAMPLE_COLUMNS = ["example_id", "prompt_id", "task_unit", "messages", "target"]
ANSWER_COLUMNS = ["answer_id", "teacher", "reasoning", "messages", "text"]


def examples_with_answers(dataset: Artifact, pool: Pool, *, parts: int) -> Rows:
    """Return JOINED of the examples of `dataset`, a copy (-againN) left out, in `parts` blocks that are alike in every run.

    Up to GATHERED answers are joined in one task, which takes some KB an answer; more of them by hash of the answer.
    """
    examples = stream.scan(dataset, "examples", pool, rows=SCAN_ROWS, columns=EXAMPLE_COLUMNS)
    answers = stream.scan(dataset, "picked", pool, rows=SCAN_ROWS, columns=ANSWER_COLUMNS)
    both = stream.apply(examples, of_examples, pool).union(stream.apply(answers, of_answers, pool))
    if dataset.table("picked").rows <= GATHERED:
        return ray.data.from_arrow_refs([gather.run(joined, (both, JOINED))]).repartition(parts).materialize()
    return stream.apply(both.repartition(parts, keys=["answer_id"]), joined, pool).materialize()


def of_examples(rows: pa.Table) -> pa.Table:
    """Return the columns of JOINED that examples have, without copies."""
    rows = rows.filter(pc.invert(pc.match_substring_regex(rows["example_id"], COPY)))
    return _conform(rows.append_column("answer_id", pc.list_element(pc.split_pattern(rows["example_id"], "-"), 0)))


def of_answers(rows: pa.Table) -> pa.Table:
    """Return the columns of JOINED that answers have."""
    return _conform(rows.rename_columns(["answer_id", "teacher", "reasoning", "asked", "text"]))


def joined(rows: pa.Table) -> pa.Table:
    """Return JOINED of a block that holds examples and their answers."""
    is_example = rows["example_id"].is_valid()
    examples, answers = rows.filter(is_example), rows.filter(pc.invert(is_example))
    of = answers.take(pc.index_in(examples["answer_id"], answers["answer_id"].combine_chunks()))
    for name in ("teacher", "reasoning", "asked", "text"):
        examples = examples.set_column(JOINED.get_field_index(name), JOINED.field(name), of[name])
    for name in ("teacher", "reasoning"):
        examples = examples.set_column(JOINED.get_field_index(name), JOINED.field(name), pc.fill_null(examples[name], ""))
    return examples.sort_by("example_id")


def write(rows: Rows, specs: Sequence[CaptureSpec], folder: Folder, pool: Pool) -> list[stream.Written]:
    """Score the JOINED `rows` with each teacher in turn, and write CAPTURE into `folder`; one result a teacher."""
    written = []
    for spec in specs:
        scored = stream.apply(
            rows, Capturer, spec.client.pool, variables={**ENVIRONMENT, **importing(spec.client.libraries)}, spec=spec
        )
        target = stream.Target(folder, CAPTURE, label="finish_reason", summarize=summary)
        written.append(stream.write(scored, target, pool))
    return written


def _conform(rows: pa.Table) -> pa.Table:
    columns = [
        rows[field.name].cast(field.type) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in JOINED
    ]
    return pa.table(columns, schema=JOINED)
