"""A run in which every answer failed ends with exit code 3 and the reasons. No Ray: its jobs are finished."""

import json

import made_run
import pytest
from typer.testing import CliRunner, Result

from engine.grading.failures import failure_reasons
from engine.records.candidates import CandidatesMetrics
from engine.rows import CANDIDATE, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.cli import app
from jobs.pipeline import pipeline
from jobs.workspace import Workspace


@pytest.fixture
def toy(tmp_path) -> Workspace:
    return made_run.workspace(str(tmp_path / "run"), tmp_path)


def finish(work: Workspace, *pools: str) -> None:
    """Finish `prompts` and `candidates`, with an answer in each of `pools`."""
    work.save()
    prompts, candidates = (work.context(job, log=print, progress=print) for job in pipeline(work.contract)[:2])
    prompts.writer.finish(identify(prompts), made_run._prompts(prompts))
    failed = {**made_run.ANSWERS[0], "reasons": ["finish_reason_error"]}
    rows = [{**failed, "answer_id": f"ab{index}", "pool": pool, "error": f"full: {index}"} for index, pool in enumerate(pools)]
    table = from_rows(rows, CANDIDATE)
    candidates.writer.put("candidates", table, CANDIDATE)
    candidates.writer.metrics = CandidatesMetrics(failures=tuple(failure_reasons([table])))
    candidates.writer.finish(identify(candidates), RowCounts(len(pools), {pool: pools.count(pool) for pool in pools}))


def command(work: Workspace, *words: str) -> Result:
    return CliRunner().invoke(app, [*words], catch_exceptions=False)


def run(work: Workspace, *more: str) -> Result:
    return command(work, "run", work.contract_path, str(work.folder), *more)


@pytest.mark.parametrize("until", [["--until", "candidates"], []])
def test_no_usable_answer_has_an_exit_code_of_its_own(toy: Workspace, until: list[str]) -> None:
    finish(toy, "failure", "failure", "contrast")
    result = run(toy, *until)
    assert result.exit_code == 3 and not toy.folder.exists("dataset")
    assert "NoUsableAnswer: " in result.output and "none of 3 answers is usable: 1 contrast + 2 failure" in result.output
    assert "2 of 3 (67 %) failure: finish_reason_error: full: N" in result.output
    assert "for example answer ab0 to 'two apples': full: 0" in " ".join(result.output.split())


@pytest.mark.parametrize("pool", ["train", "refusal", "review"])
def test_one_answer_that_may_become_an_example_is_enough(toy: Workspace, pool: str) -> None:
    finish(toy, "failure", pool)
    assert run(toy, "--until", "candidates").exit_code == 0


def test_status_gives_the_reasons(toy: Workspace) -> None:
    finish(toy, "failure", "failure", "train")
    text = command(toy, "status", str(toy.folder)).stdout
    assert "answers that were not accepted, by reason\n2 of 3 (67 %) failure: finish_reason_error: full: N\n" in text
    [reason] = json.loads(command(toy, "status", str(toy.folder), "--json").stdout)["failures"]
    assert (reason["answers"], reason["answer_id"], reason["words"]) == (2, "ab0", "full: 0")


def test_help_lists_the_exit_codes(toy: Workspace) -> None:
    assert "3 no answer of the teachers was usable" in " ".join(command(toy, "--help").stdout.split())
