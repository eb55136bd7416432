"""Answers to one prompt are judged together, however large what Ray Data would hold in one block."""

import sys

import pyarrow as pa
import pytest
from data_world import prompt_row, put
from ray.cloudpickle import register_pickle_by_value
from ray.data import DataContext

from engine.contract.profile import Pool
from engine.distributed import in_process, stream
from engine.rows import PROMPT
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder

pytestmark = pytest.mark.usefixtures("cluster")
register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
SAMPLES = 50


@pytest.fixture
def tiny_blocks():
    context = DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = 1_000
    yield
    assert context.target_max_block_size == 1_000, "the context of other datasets was changed"
    context.target_max_block_size = before


def sampled(prompts: pa.Table) -> pa.Table:
    ids = [name for name in prompts["prompt_id"].to_pylist() for _ in range(SAMPLES)]
    return pa.table({"prompt_id": ids, "answer": ["x" * 200] * len(ids)})


class Sampler:
    """As a teacher: rows of prompts in, many times more bytes out."""

    def __call__(self, prompts: pa.Table) -> pa.Table:
        return sampled(prompts)


class Judge:
    """As a grader: returns how many answers to each prompt it sees at once."""

    def __call__(self, answers: pa.Table) -> pa.Table:
        return counted(answers)


def counted(answers: pa.Table) -> pa.Table:
    return answers.group_by("prompt_id").aggregate([("answer", "count")])


@pytest.mark.parametrize(("sampler", "judge"), [(Sampler, Judge), (sampled, Judge), (Sampler, counted)])
def test_blocks_with_all_answers_to_a_prompt_are_not_cut(tmp_path, tiny_blocks, sampler, judge):
    put(tmp_path, "prompts", prompts=([prompt_row(f"prompt {number}") for number in range(12)], PROMPT, 5))
    artifact = load_artifact(Folder(str(tmp_path / "run" / "prompts")))
    assert artifact
    pool = Pool.model_validate({"actors": 1, "cpus": 0.5})
    for rows in (stream.read(artifact, "prompts", pool, rows=2), stream.scan(artifact, "prompts", pool, rows=5)):
        seen = stream.apply(stream.apply(rows, sampler, pool), judge, pool)
        assert [row["answer_count"] for row in seen.iter_rows()] == [SAMPLES] * 12


class Batches:
    """As a model: returns the rows of each batch that it sees."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return pa.table({"seen": [" ".join(map(str, rows["n"].to_pylist()))]})


@pytest.mark.parametrize(("count", "blocks", "batch"), [(23, 8, 5), (23, 3, 5), (40, 1, 16), (9, 9, 4), (5, 2, 100)])
def test_threads_cut_blocks_and_batches_as_ray_does(cluster, count, blocks, batch):
    pool, seen = Pool.model_validate({"actors": 1, "cpus": 0.5}), []
    for is_here in (True, False):
        with in_process.flows(is_here, pool):
            rows = stream.from_items([{"n": number} for number in range(count)], blocks)
            sizes = [row["n"] for row in stream.apply(rows, length, pool).iter_rows()]
            seen.append((sizes, [row["seen"] for row in stream.apply(rows, Batches, pool, batch=batch).iter_rows()]))
    assert seen[0] == seen[1]


def length(rows: pa.Table) -> pa.Table:
    return pa.table({"n": [len(rows)]})
