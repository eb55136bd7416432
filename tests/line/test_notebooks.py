"""The notebooks run from the first cell to the last, on small runs that differ in one threshold."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from threshold_runs import threshold_run

from jobs.steps import labels

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["judge_the_judge", "compare_two_runs"])
@pytest.mark.parametrize("labelled", [False, True])
def test_notebook_runs(tmp_path, monkeypatch, name, labelled):
    import nbformat
    from nbclient import NotebookClient

    works = [threshold_run(str(tmp_path / each), tmp_path / "seeds", share) for each, share in (("low", 0.3), ("high", 0.6))]
    if labelled:
        kinds = {f"a{number:04x}0": ("right", "wrong")[number % 5 == 0] for number in range(40)}
        labels.write(works[0].folder, {key: {"answer_id": key, "label": kind, "correction": ""} for key, kind in kinds.items()})
    monkeypatch.setenv("RAYLEIGH_RUN", works[0].folder.path)
    monkeypatch.setenv("RAYLEIGH_OTHER", works[1].folder.path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    assert not [out for cell in book.cells for out in cell.get("outputs", []) if out.output_type == "error"]
