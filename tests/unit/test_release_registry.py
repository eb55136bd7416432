"""Promote and rollback on finished artifacts, on a disk and on an object store."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

import fsspec
import pytest
from huggingface_hub import ModelCard

from engine.contract.contract import Contract
from engine.errors import ContractError, GateRefused, MissingArtifact, RecipeMismatch, StorageError
from engine.records.gate import POINT, Confirmation, GateDecision, RequirementTest
from engine.records.record import Identity
from engine.records.release import RegistryEvent
from engine.records.report import Holdout, ModelEntry, Report
from engine.release import landing
from engine.release.gate import decide
from engine.release.registry import Package, Registry, default_registry
from engine.rows import EXAMPLE, HOLDOUT, PROMPT, content_id, from_rows
from engine.serving.deployment import load
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs.commands.release import Terms, promote, rollback
from jobs.commands.summary import of_release

SIZES = {"large": 300, "small": 100}


def contract(gate: dict[str, Any]) -> Contract:
    prune = {"prune": {"source": "parent", "layers": [0, 1]}}
    return Contract.model_validate(
        {
            "name": "forms",
            "specialist": {
                "goal": "Fill in the form.",
                "non_goals": ["refund"],
                "task_units": [{"name": "form", "kind": "extraction"}],
            },
            "prompts": {
                "sources": [{"path": "train.jsonl", "licence": "CC0-1.0"}],
                "holdout": {"path": "holdout.jsonl", "labels": "rule"},
            },
            "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]},
            "judges": {},
            "students": [{"name": name, "init": prune} for name in SIZES],
            "gate": gate,
        }
    )


def value(number: float) -> dict[str, Any]:
    return {"value": number, "low": number - 0.05, "high": number + 0.05, "n": 120}


def entry(name: str, role: str, exact: float) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "parameters": SIZES.get(name, 400),
        "layers": 2,
        "size_vs_teacher": SIZES.get(name, 400) / 400,
        "error": None,
        "metrics": {"exact_match": value(exact), "ece": None},
        "latency": {"p50_ms": 100.0, "p95_ms": 200.0, "n": 40},
        "cost": {"per_1000_accepted": 0.5},
        "against_teacher": None if role == "teacher" else {"teacher": "t", "retention": value(exact / 0.9)},
        "against_baselines": {},
    }


def report(exact: dict[str, float], order: Contract) -> Report:
    entries = [entry("t", "teacher", 0.9), *(entry(name, "student", value) for name, value in exact.items())]
    models = tuple(ModelEntry.model_validate(each) for each in entries)
    return Report(
        contract="forms",
        holdout=Holdout(rows=120, seen=40, unseen=80),
        models=models,
        gate=decide(models, order.gate),
        findings=("The holdout is small.",),
    )


class Run:
    """A run folder with finished artifacts, as the line would leave it."""

    def __init__(self, folder: Folder, *, exact: dict[str, float], gate: dict[str, Any], weights: str = "first") -> None:
        self.folder = folder
        order = contract(gate)
        prompts = [{"prompt_id": str(i), "licence": "CC0-1.0" if i else "CC-BY-4.0"} for i in range(3)]
        held = from_rows([{"prompt_id": "h", "text": "two apples", "reference": "2"}], HOLDOUT)
        self.finish("prompts", {"prompts": from_rows(prompts, PROMPT), "holdout": held})
        self.finish("candidates", {})
        examples = [{"example_id": str(i), "split": "train" if i else "validation"} for i in range(4)]
        clean = {"holdout": self.artifact("prompts").table("holdout").digest, "files": {}}
        self.finish("dataset", {"examples": from_rows(examples, EXAMPLE)}, needs=["prompts"], decontamination=clean)
        for name in exact:
            model = {"model/config.json": b"{}", "model/model.safetensors": f"{name} {weights}".encode(), "notes.txt": b"x"}
            self.finish(f"students/{name}", {}, files=model, needs=["dataset"])
        files = {"report.json": report(exact, order).model_dump_json().encode(), "contract.json": order.model_dump_json().encode()}
        self.finish("reports", {}, files=files, needs=["prompts", "dataset", *(f"students/{name}" for name in exact)])

    def artifact(self, name: str) -> Artifact:
        artifact = load_artifact(self.folder / name)
        assert artifact is not None
        return artifact

    def finish(
        self, name: str, tables: dict[str, Any], *, files: dict[str, bytes] | None = None, needs: Sequence[str] = (), **metrics: Any
    ) -> None:
        writer = ArtifactWriter(self.folder / name, metrics=metrics)
        for table, rows in tables.items():
            writer.put(table, rows, rows.schema)
        for path, data in (files or {}).items():
            writer.folder.write(path, data)
        inputs = {needed: self.artifact(needed).fingerprint for needed in needs}
        writer.finish(Identity(name, {}, inputs, content_id(name)), RowCounts(0, {}))


@pytest.fixture(params=["disk", "memory"])
def where(request: pytest.FixtureRequest, tmp_path) -> Iterator[Folder]:
    yield Folder(str(tmp_path)) if request.param == "disk" else Folder("memory://place")
    fsspec.filesystem("memory").store.clear()


GATE = {"exact_match": 0.8, "by": "point"}


def run_in(where: Folder, name: str = "run", **given: Any) -> Run:
    return Run(where / name, **({"exact": {"large": 0.88, "small": 0.85}, "gate": GATE} | given))


def shelf(where: Folder) -> Registry:
    return Registry(where / "registry", "forms")


def test_promote_makes_the_smallest_passing_student_the_champion(where: Folder) -> None:
    run = run_in(where)
    result = promote(run.folder.url, f"{where}/registry")
    assert (result.student, result.changed, result.before, result.passing) == ("small", True, None, ("small", "large"))
    now = shelf(where).champion
    assert now is not None and now.fingerprint == run.artifact("students/small").fingerprint
    release = Folder(result.release)
    assert release.read("model/model.safetensors") == b"small first"
    assert sorted(release.files()) == [
        "card.md", "contract.json", "deployment.json", "learnt.parquet", "lineage.json", "model/config.json",
        "model/model.safetensors", "release.json", "report.json",
    ]  # fmt: skip


def test_promote_passes_over_a_smaller_student_that_the_gate_refuses(where: Folder) -> None:
    run = run_in(where, exact={"large": 0.88, "small": 0.5})
    result = promote(run.folder.url, f"{where}/registry")
    assert result.student == "large"
    assert [number.number for number in result.refusals["small"]] == ["exact_match"]


def test_promote_of_a_named_student_takes_that_one_if_it_passes(where: Folder) -> None:
    assert promote(run_in(where).folder.url, f"{where}/registry", Terms("large")).student == "large"


def test_promote_refused_names_every_number_and_changes_nothing(where: Folder) -> None:
    run = run_in(where, exact={"large": 0.79, "small": 0.5}, gate=GATE | {"ece": 0.1})
    with pytest.raises(GateRefused) as refused:
        promote(run.folder.url, f"{where}/registry")
    lines = str(refused.value).splitlines()
    assert lines[1:5] == [
        "  small: exact_match: found 0.500, wanted at least 0.8",
        "  small: ece: found nothing, wanted at most 0.1",
        "  large: exact_match: found 0.790, wanted at least 0.8",
        "  large: ece: found nothing, wanted at most 0.1",
    ]
    assert not (where / "registry").files()


def test_promote_of_a_named_student_that_fails_says_who_would_pass(where: Folder) -> None:
    run = run_in(where, exact={"large": 0.88, "small": 0.5})
    with pytest.raises(GateRefused, match=r"small: exact_match: found 0\.500(.|\n)*large would pass"):
        promote(run.folder.url, f"{where}/registry", Terms("small"))


def test_promote_of_an_unknown_student_names_the_known(where: Folder) -> None:
    with pytest.raises(MissingArtifact, match="no student 'tiny'; it has large, small"):
        promote(run_in(where).folder.url, f"{where}/registry", Terms("tiny"))


def test_promote_without_a_report_says_what_to_run(where: Folder) -> None:
    with pytest.raises(MissingArtifact, match=r"reports: no finished job has made it\. Run the pipeline first"):
        promote(f"{where}/nothing", f"{where}/registry")


@pytest.mark.parametrize("name", ["contract.json", "report.json"])
def test_promote_of_a_damaged_file_of_the_report_names_it(where: Folder, name: str) -> None:
    run = run_in(where)
    (run.folder / "reports").write(name, b'{"name": "forms", "models": [{"name": 1}]}')
    with pytest.raises(StorageError, match=rf"reports/{name}: cannot be read by this version"):
        promote(run.folder.url, f"{where}/registry")


def test_registry_with_a_damaged_event_names_the_file(where: Folder) -> None:
    run = run_in(where)
    promote(run.folder.url, f"{where}/registry")
    shelf(where).folder.write("history/00000001.json", b'{"id": "a"')
    with pytest.raises(StorageError, match=r"history/00000001\.json: is not an event: .*\. Restore the file from a copy"):
        promote(run.folder.url, f"{where}/registry")


def test_promote_twice_adds_no_event(where: Folder) -> None:
    run = run_in(where)
    promote(run.folder.url, f"{where}/registry")
    assert promote(run.folder.url, f"{where}/registry").changed is False
    assert len(shelf(where).history()) == 1


def test_promote_of_weights_that_were_changed_is_refused(where: Folder) -> None:
    run = run_in(where)
    (run.folder / "students/small").write("model/model.safetensors", b"other bytes")
    with pytest.raises(StorageError, match=r"model\.safetensors: found sha256 \w{16}, its record says \w{16}"):
        promote(run.folder.url, f"{where}/registry")
    assert shelf(where).champion is None
    left = (where / "registry").files()  # in a store another process may write the same release: nothing is removed from it
    assert not left if where.is_local else all("/model/" in name for name in left)


def test_promote_of_a_student_trained_after_the_report_is_refused(where: Folder) -> None:
    run = run_in(where)
    run.finish("students/small", {}, files={"model/model.safetensors": b"trained again"})
    with pytest.raises(RecipeMismatch, match="the evaluated student is the promoted one"):
        promote(run.folder.url, f"{where}/registry")


def test_promote_without_a_report_of_decontamination_is_refused_and_says_what_to_run(where: Folder) -> None:
    run = run_in(where)
    examples = run.artifact("dataset").read("examples", EXAMPLE)
    run.finish("dataset", {"examples": examples}, needs=["prompts"])
    with pytest.raises(GateRefused) as refused:
        promote(run.folder.url, f"{where}/registry")
    assert "does not cover students/small, it is not released:\n  the training set was never compared with the holdout\n" in str(
        refused.value
    )
    assert f"Delete dataset, capture, students, exports and reports in {run.folder}," in str(refused.value)
    assert "rayleigh run CONTRACT" in str(refused.value)
    assert not (where / "registry").files()


def test_promote_of_a_student_of_another_dataset_is_refused(where: Folder) -> None:
    run = run_in(where)
    metrics = run.artifact("dataset").record.metrics
    run.finish("dataset", {"examples": from_rows([{"example_id": "9"}], EXAMPLE)}, needs=["prompts"], **metrics)
    with pytest.raises(GateRefused, match="students/small was made from another dataset than the run holds"):
        promote(run.folder.url, f"{where}/registry")


def test_rollback_returns_step_by_step_and_keeps_every_event(where: Folder) -> None:
    registry = f"{where}/registry"
    for weights in ("first", "second", "third"):
        promote(run_in(where, f"run-{weights}", weights=weights).folder.url, registry)
    result = rollback(registry, "forms")
    assert Folder(result.release).read("model/model.safetensors") == b"small second"
    assert Folder(rollback(registry, "forms").release).read("model/model.safetensors") == b"small first"
    with pytest.raises(MissingArtifact, match="is the first champion; there is none before it"):
        rollback(registry, "forms")
    assert [event.kind for event in shelf(where).history()] == ["promote"] * 3 + ["rollback"] * 2


def test_promote_after_a_rollback_can_be_rolled_back_to_where_it_began(where: Folder) -> None:
    registry = f"{where}/registry"
    runs = {weights: run_in(where, f"run-{weights}", weights=weights).folder.url for weights in ("first", "second", "third")}
    promote(runs["first"], registry)
    promote(runs["second"], registry)
    rollback(registry, "forms")
    promote(runs["third"], registry)
    assert Folder(rollback(registry, "forms").release).read("model/model.safetensors") == b"small first"


def test_rollback_without_a_champion_says_how_to_get_one(where: Folder) -> None:
    with pytest.raises(MissingArtifact, match=r"there is no champion to roll back\. Promote one"):
        rollback(f"{where}/registry", "forms")


def test_rollback_to_a_release_that_was_deleted_is_refused(where: Folder) -> None:
    registry = f"{where}/registry"
    first = promote(run_in(where, "one", weights="first").folder.url, registry)
    promote(run_in(where, "two", weights="second").folder.url, registry)
    Folder(first.release).remove()
    with pytest.raises(StorageError, match="is incomplete"):
        rollback(registry, "forms")
    now = shelf(where).champion
    assert now is not None and now.fingerprint != first.fingerprint


def test_promote_completes_a_release_that_a_kill_left_half_copied(where: Folder) -> None:
    run = run_in(where)
    half = shelf(where).folder / "releases" / run.artifact("students/small").fingerprint
    half.write("model/stray.bin", b"half")  # no release.json: it never landed
    release = Folder(promote(run.folder.url, f"{where}/registry").release)
    assert "model/stray.bin" not in release.files()


def require_linear(registry: Registry) -> list[RegistryEvent]:
    """Fail unless every event begins where the one before it ended, and the champion is where the last one ended."""
    events, champion = registry.history(), None
    by_id = {event.id: event for event in events}
    for event in events:
        if event.kind == "promote":
            assert event.before == (champion and champion.id)
            champion = event
        else:
            assert champion and (event.from_id, event.to_id) == (champion.id, champion.before)
            champion = by_id[event.to_id or ""]
    assert registry.champion == champion
    return events


def test_history_of_writers_at_the_same_time_is_linear_and_lacks_no_event(tmp_path) -> None:
    where = Folder(str(tmp_path))
    runs = [run_in(where, f"run{number}", weights=str(number)) for number in range(4)]
    trained = [run.artifact("students/small") for run in runs]
    shelf(where).promote(trained[0], Package("small", trained[0].fingerprint, {}))
    made: list[str] = []

    def work(number: int) -> None:
        registry = shelf(where)
        for turn in range(6):
            artifact = trained[(number + turn) % len(trained)]
            made.append(registry.promote(artifact, Package("small", artifact.fingerprint, {"card.md": "text"})).id)
            with suppress(MissingArtifact):
                registry.rollback()

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = require_linear(shelf(where))
    assert set(made) <= {event.id for event in events} and len(events) > 20
    assert RegistryEvent.model_validate_json(shelf(where).folder.read("champion.json")) == shelf(where).champion
    assert not [name for name in shelf(where).folder.files() if ".part" in name]


def test_a_process_that_is_killed_after_its_event_leaves_the_state_after_it(where: Folder) -> None:
    first = run_in(where, "one", weights="first")
    promote(first.folder.url, f"{where}/registry")
    before = shelf(where).folder.read("champion.json")
    promote(run_in(where, "two", weights="second").folder.url, f"{where}/registry")
    shelf(where).folder.write("champion.json", before)  # it was killed before it copied the event
    assert [event.student for event in require_linear(shelf(where))] == ["small", "small"]
    assert Folder(rollback(f"{where}/registry", "forms").release).read("model/model.safetensors") == b"small first"


def test_a_registry_of_an_earlier_version_goes_on(where: Folder) -> None:
    registry, names = f"{where}/registry", ("one", "two")
    for name in names:
        promote(run_in(where, name, weights=name).folder.url, registry)
    folder = shelf(where).folder
    for number, event in enumerate(shelf(where).history()):  # as it was written then
        old = event.model_dump_json(exclude={"who", "to_id"}).encode()
        folder.remove(f"history/{number + 1:08d}.json")
        folder.write(f"history/20261101T0{number}0000.000000Z-{event.id}.json", old)
        folder.write("champion.json", old)
    third = promote(run_in(where, "three", weights="three").folder.url, registry)
    assert third.before == "small" and [event.kind for event in require_linear(shelf(where))] == ["promote"] * 3
    assert Folder(rollback(registry, "forms").release).read("model/model.safetensors") == b"small two"
    assert Folder(rollback(registry, "forms").release).read("model/model.safetensors") == b"small one"


def test_rollback_to_a_release_that_was_changed_is_refused_and_names_the_file(where: Folder) -> None:
    first = promote(run_in(where, "one", weights="first").folder.url, f"{where}/registry")
    promote(run_in(where, "two", weights="second").folder.url, f"{where}/registry")
    Folder(first.release).write("card.md", b"another text")
    with pytest.raises(StorageError, match=r"card\.md: found sha256 \w{16}, its manifest says \w{16}"):
        rollback(f"{where}/registry", "forms")


@pytest.mark.parametrize("name", ["model/model.safetensors", "card.md", "learnt.parquet", "release.json"])
def test_promote_mends_the_damaged_release_of_the_champion(where: Folder, name: str) -> None:
    run = run_in(where)
    release = Folder(promote(run.folder.url, f"{where}/registry").release)
    was = release.read(name)
    release.write(name, was[:-1])
    release.write("model/chat_template.jinja", b"a further file changes every prompt")
    assert not promote(run.folder.url, f"{where}/registry").changed
    assert release.read(name) == was and "model/chat_template.jinja" not in release.files()
    shelf(where).verify(shelf(where).history()[-1])
    assert not [each for each in shelf(where).folder.files() if ".part" in each]


def test_a_damaged_release_is_mended_as_the_refused_rollback_says(where: Folder) -> None:
    registry, first = f"{where}/registry", run_in(where, "one", weights="first")
    release = Folder(promote(first.folder.url, registry).release)
    promote(run_in(where, "two", weights="second").folder.url, registry)
    release.write("model/model.safetensors", b"small first, changed")
    with pytest.raises(StorageError, match="promote the student again from its run"):
        rollback(registry, "forms")
    release.write("release.json", b"{")
    with pytest.raises(StorageError, match=r"release\.json: is damaged: promote the student again"):
        rollback(registry, "forms")
    assert promote(first.folder.url, registry).changed
    assert release.read("model/model.safetensors") == b"small first"


def test_promote_after_a_new_report_keeps_that_one_with_the_release(where: Folder) -> None:
    run = run_in(where)
    release = Folder(promote(run.folder.url, f"{where}/registry").release)
    made = report({"large": 0.88, "small": 0.86}, contract(GATE)).model_copy(update={"findings": ("The holdout grew.",)})
    files = {"report.json": made.model_dump_json().encode(), "contract.json": run.artifact("reports").folder.read("contract.json")}
    run.finish("reports", {}, files=files, needs=["prompts", "dataset", "students/large", "students/small"])
    promote(run.folder.url, f"{where}/registry")
    assert "The holdout grew." in release.read("report.json").decode()
    shelf(where).verify(shelf(where).history()[-1])


def test_a_release_that_is_as_it_should_be_is_not_written_again(where: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(where)
    promote(run.folder.url, f"{where}/registry")
    monkeypatch.setattr(landing, "_write", lambda *given: pytest.fail("it was written again"))
    assert not promote(run.folder.url, f"{where}/registry").changed


def test_a_promotion_that_fails_removes_nothing_that_another_writes(where: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(where)
    target = shelf(where).folder / "releases" / run.artifact("students/small").fingerprint
    target.write("model/config.json", b"{}")  # of another process that promotes the same student
    target.write("card.md", b"text")
    monkeypatch.setattr(landing, "_copy_file", lambda *given: (_ for _ in ()).throw(StorageError("no space left")))
    with pytest.raises(StorageError, match="no space"):
        promote(run.folder.url, f"{where}/registry")
    assert target.files() == ["card.md", "model/config.json"]


def test_header_of_the_card_is_read_by_the_hub_client(where: Folder) -> None:
    release = Folder(promote(run_in(where).folder.url, f"{where}/registry").release)
    header = ModelCard(release.read("card.md").decode()).data
    assert (header.model_name, header.base_model, header.library_name) == ("forms-small", "parent", "transformers")
    [exact_match] = [result for result in header.eval_results if result.metric_type == "exact_match"]
    assert (exact_match.metric_value, exact_match.dataset_name) == (0.85, "forms holdout")


def test_a_release_says_how_it_is_served(where: Folder) -> None:
    run = run_in(where)
    served = load(Folder(promote(run.folder.url, f"{where}/registry").release))
    assert (served.manifest.contract, served.manifest.student.name, list(served.units)) == ("forms", "small", ["form"])
    assert [file.path for file in served.manifest.files] == ["model/config.json", "model/model.safetensors"]
    fallback = served.fallback()
    assert fallback is not None and (fallback.name, fallback.role) == ("t", "teacher")  # with which the report compares it


def test_card_and_lineage_say_what_the_student_is_made_of(where: Folder) -> None:
    run = run_in(where)
    release = Folder(promote(run.folder.url, f"{where}/registry").release)
    card = release.read("card.md").decode()
    for part in (
        "Fill in the form.", "- refund", "| CC-BY-4.0 | 1 |", "| CC0-1.0 | 2 |", "3 train, 1 validation",
        "| exact_match | 0.850 | 0.800 to 0.900 | 120 |", "| ece | none |", "| retention | 0.944 |", "| t | teacher |",
        "- met: exact_match: found 0.850, wanted at least 0.8", "- The holdout is small.", "rayleigh serve",
        "2 layers of parent (0, 1)", run.artifact("students/small").fingerprint,
    ):  # fmt: skip
        assert part in card, part
    lineage = json.loads(release.read("lineage.json"))
    assert list(lineage) == ["prompts", "candidates", "dataset", "students/small", "reports"]
    assert lineage["dataset"]["fingerprint"] == run.artifact("dataset").fingerprint


def test_default_registry_is_next_to_the_runs() -> None:
    assert default_registry(Folder("runs/smoke")).url == "runs/registry"
    assert default_registry(Folder("s3-like/a/b")).url == "s3-like/a/registry"
    assert default_registry(Folder("smoke")).url == "./registry"


PROVEN = {"exact_match": 0.8}


def test_promote_refuses_an_undecided_student_unless_told_to_and_keeps_the_reason(where: Folder) -> None:
    run = run_in(where, gate=PROVEN)  # a report without tests: nothing is proven
    registry = f"{where}/registry"
    with pytest.raises(GateRefused) as refused:
        promote(run.folder.url, registry)
    text = str(refused.value)
    assert text.startswith("the gate is undecided on 2 student(s):") and "--undecided --why TEXT" in text and "--point" in text
    assert "delete the folder `reports` of the run and run again" in text
    with pytest.raises(GateRefused, match="Name the undecided one that you mean: --student small"):
        promote(run.folder.url, registry, Terms(undecided=True, why="the fair"))
    for terms in (Terms("small", undecided=True), Terms("small", undecided=True, why=" "), Terms("small", why="the fair")):
        with pytest.raises(ContractError, match="--why"):
            promote(run.folder.url, registry, terms)
    assert shelf(where).champion is None
    result = promote(run.folder.url, registry, Terms("small", undecided=True, why="the fair is on Monday"))
    event = shelf(where).champion
    assert event is not None and (event.word, event.by, event.why) == ("undecided", "prove", "the fair is on Monday")
    assert (result.word, result.why) == ("undecided", "the fair is on Monday")
    card = Folder(result.release).read("card.md").decode()
    assert "**The gate is undecided on this student. It was promoted because: the fair is on Monday**" in card
    assert "- UNDECIDED: exact_match: found 0.850" in card


def test_promote_takes_no_other_student_if_the_chosen_one_was_not_confirmed(where: Folder) -> None:
    run = run_in(where, gate=PROVEN | {"confirm": 0.3})
    made = Report.model_validate_json(run.artifact("reports").folder.read("report.json"))
    proof = RequirementTest(wanted=0.8, value=0.9, low=0.85, high=0.95, n=120, clusters=120, p_pass=0.001, p_refuse=0.999)
    models = [model.model_copy(update={"tests": {"exact_match": proof}}) for model in made.models]
    gate = GateDecision(confirmation=Confirmation(student="small", rows=40, clusters=40, word="refuse"))
    files = {"contract.json": run.artifact("reports").folder.read("contract.json")}
    files["report.json"] = made.model_copy(update={"models": tuple(models), "gate": gate}).model_dump_json().encode()
    run.finish("reports", {}, files=files, needs=["prompts", "dataset", "students/large", "students/small"])
    with pytest.raises(GateRefused, match=r"small: on the part .* kept for confirmation it is: refuse\.\n.*large: .*not looked at"):
        promote(run.folder.url, f"{where}/registry")
    assert shelf(where).champion is None


def test_promote_by_point_values_says_so(where: Folder) -> None:
    run = run_in(where, gate=PROVEN)
    result = promote(run.folder.url, f"{where}/registry", Terms(by_point=True))
    event = shelf(where).champion
    assert event is not None and (result.student, result.by, event.by, event.why) == ("small", "point", "point", None)
    assert f"**{POINT}**" in Folder(result.release).read("card.md").decode()
    assert POINT in of_release(result)


def test_undecided_option_never_promotes_a_refused_student(where: Folder) -> None:
    run = run_in(where, gate={"exact_match": 0.8, "ece": 0.1})
    with pytest.raises(GateRefused, match="ece: found nothing"):
        promote(run.folder.url, f"{where}/registry", Terms("small", undecided=True, why="the fair"))


def test_looks_at_a_closed_part_are_counted_once_for_each_student(where: Folder) -> None:
    registry = shelf(where)
    assert [registry.look("s", "ab" * 16, "p" * 32) for _ in range(2)] == [1, 1]
    assert registry.look("s", "cd" * 16, "p" * 32) == 2
    assert registry.look("s", "ab" * 16, "q" * 32) == 1
    assert registry.champion is None and registry.history() == []
