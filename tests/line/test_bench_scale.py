"""`rayleigh bench scale` through the command, on two raylets: every quantity is measured, and its coefficients can be read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.bench.scale import ScaleBench
from jobs.bench.scale_stage import STAGES
from jobs.commands.scale_files import load_model
from jobs.commands.scale_fit import QUANTITIES

pytestmark = [pytest.mark.benches, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
SIZES = (1_000, 4_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the result and the coefficients."""
    folder = tmp_path_factory.mktemp("scale")
    sizes = [word for rows in SIZES for word in ("--rows", str(rows))]
    words = [*sizes, "--raylets", "2", "--list-rows", str(SIZES[0]), "--out", str(folder / "scale.json"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "bench", "scale", *words], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=850,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    (folder / "result.json").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> ScaleBench:
    return ScaleBench.model_validate(json.loads((folder / "result.json").read_text()))


def test_every_stage_is_measured_at_every_size(result: ScaleBench) -> None:
    assert [(use.rows, use.stage) for use in result.uses] == [(rows, stage) for rows in SIZES for stage in STAGES]
    for use in result.uses:
        measured = {name: getattr(use, name) for name in QUANTITIES if name not in ("spilled_bytes", "list_calls")}
        assert all(value > 0 for value in measured.values()), measured
        assert use.task_bytes > 50 * 2**20 and use.driver_bytes > 50 * 2**20  # a process of Python with Arrow
        assert (use.list_calls is not None) == (use.rows == SIZES[0])
    assert all(use.list_calls for use in result.uses if use.rows == SIZES[0])
    assert result.raylets == 2 and 100 < result.reference_bytes < 20_000


def test_bytes_in_storage_grow_with_rows_and_the_memory_of_the_head_does_not(result: ScaleBench) -> None:
    found = {(each.stage, each.quantity): each.verdict for each in result.growth}
    assert {found[stage, "storage_bytes"] for stage in STAGES} <= {"slower than rows", "with rows"}  # files have heads
    assert {found[stage, "head_bytes"] for stage in STAGES} == {"constant"}
    ratios = {(each.stage, each.quantity): each.ratio for each in result.growth}
    assert ratios["candidates", "storage_bytes"] > 1.5


def test_coefficients_are_those_of_the_sizes(folder: Path, result: ScaleBench) -> None:
    model = load_model(str(folder / "scale.json")).model
    assert model.sizes == SIZES and [stage.stage for stage in model.stages] == list(STAGES)
    assert all("list_calls" not in stage.lines for stage in model.stages)  # counted at one size only
    held = [check for check in result.checks if check.model != "smaller sizes"]
    assert {check.rows for check in held} == set(SIZES)
