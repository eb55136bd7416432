"""On-policy rounds on Ray: actors with the student sample, tasks reward, actors with the teacher score."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from engine.capture import flow as capture
from engine.capture.capturer import JOINED, CaptureSpec
from engine.capture.schemas import CAPTURE
from engine.capture.summary import metrics_of
from engine.capture.vocabulary import occurring, vocabulary
from engine.contract.profile import Pool
from engine.distributed import stream
from engine.distributed.environment import importing
from engine.errors import ModelError
from engine.inference.weights import described
from engine.records.capture import CaptureMetrics
from engine.storage.folder import Folder
from engine.storage.shards import read_table
from engine.students.on_policy.rewards import Rewards, rewarded
from engine.students.on_policy.rollouts import Scored
from engine.students.on_policy.sampler import Sampler, SamplerSpec
from engine.students.on_policy.schemas import SAMPLE


def sample(questions: pa.Table, spec: SamplerSpec, rewards: Rewards | None, folder: Folder, pool: Pool) -> pa.Table:
    """Return SAMPLE of the QUESTION rows, with `rewards` if there are any; `pool` rewards them and writes them into `folder`."""
    size = spec.client.pool.block(questions.num_rows, answers=spec.section.samples)
    samples = stream.apply(
        stream.of(list(_pieces(questions, size))), Sampler, spec.client.pool, variables=importing(spec.client.libraries), spec=spec
    )
    if rewards:
        samples = stream.apply(samples, rewarded, pool, rewards=rewards)
    written = stream.write(samples, stream.Target(folder, SAMPLE), pool)
    return read_table(folder, written.table, SAMPLE)


def score(samples: pa.Table, spec: CaptureSpec, folder: Folder, pool: Pool) -> Scored:
    """Return the distributions of the teacher of `spec` at the tokens of the SAMPLE rows; `pool` writes them into `folder`.

    Raises:
        ModelError: the teacher has fewer tokens than are wanted of each distribution.
    """
    name, words = spec.teacher.name, vocabulary(spec.client.model, described(spec.client.weights))
    if words.num_rows < spec.section.entries:
        raise ModelError(
            f"on_policy.k: found {spec.section.entries}, but the teacher {name} has {words.num_rows} tokens. Write at most that."
        )
    rows = joined(samples, name)
    blocks = list(_pieces(rows, spec.client.pool.block(rows.num_rows)))
    written = capture.write(stream.of(blocks), [spec], folder, pool)[0]
    ids = {token for summary in written.summaries for token in summary["ids"]}
    teachers = {name: metrics_of(written.summaries, written.table.bytes)}
    metrics = CaptureMetrics(constraint="none", gate="none", teachers=teachers, tokens_paid=0)
    return Scored(read_table(folder, written.table, CAPTURE), occurring(words, name, ids), metrics)


def joined(samples: pa.Table, teacher: str) -> pa.Table:
    """Return JOINED of those SAMPLE rows that have a token: the sample is the target, its id that of the example."""
    rows = samples.filter(pc.greater(pc.list_value_length(samples["ids"]), 0))
    columns = {
        "example_id": rows["sample_id"], "answer_id": rows["sample_id"], "target": rows["answer"],
        "teacher": pa.repeat(teacher, rows.num_rows), "reasoning": pa.repeat("", rows.num_rows),
    }  # fmt: skip
    return pa.table([columns[name] if name in columns else rows[name] for name in JOINED.names], schema=JOINED)


def _pieces(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield blocks of `rows`, at least one."""
    for start in range(0, max(1, rows.num_rows), size):
        yield rows.slice(start, size)
