"""Each mode of the teachers through the command, with its own contract, on the real default models."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from engine.contract.models import VllmModel
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist, TaskUnit
from engine.contract.teachers import Shot, Shots, Teacher, Thinks
from engine.inference.client import ClientSpec
from engine.inference.locate import locate
from engine.rows import PROMPT, from_rows
from engine.storage.folder import Folder
from engine.teachers.teacher import Teacher as Answerer
from engine.teachers.teacher import TeacherSpec
from jobs.places import models_home
from tests.line import data_world as world
from tests.planted import KINDS, by_hand, planted

ROOT = Path(__file__).parents[2]
PROFILE = Path(__file__).parent / "profile.yaml"
pytestmark = [pytest.mark.modes, pytest.mark.timeout(1200)]


def rayleigh(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=1100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(run: Path, query: str) -> list[dict]:
    return [json.loads(line) for line in rayleigh("sql", run, query, "--json").splitlines()]


def candidates(mode: str, run: Path) -> list[dict]:
    """Run the contract of `mode` up to the dataset, check that no row was lost, and return every candidate."""
    rayleigh("run", ROOT / "jobs" / "contracts" / f"{mode}.yaml", run, "--profile", PROFILE, "--until", "dataset")
    for job in json.loads(rayleigh("status", run, "--json"))["jobs"][:3]:
        assert job["conserved"], job
    rows = rows_of(run, "select * from candidates order by prompt_id, teacher, sample")
    prompts = {row["prompt_id"] for row in rows_of(run, "select prompt_id from prompts")}
    assert {row["prompt_id"] for row in rows} == prompts
    assert len({row["answer_id"] for row in rows}) == len(rows)
    return rows


def test_experts_answer_what_is_sent_to_them(tmp_path: Path) -> None:
    rows = candidates("experts", tmp_path / "run")
    teachers = {"0:": {"clerk"}, "1:": {"reader"}, "2:": {"clerk", "reader"}, "no": {""}}
    assert {row["route"][:2] for row in rows} == set(teachers)
    assert all(row["teacher"] in teachers[row["route"][:2]] for row in rows)
    unrouted = [row for row in rows if row["finish_reason"] == "unrouted"]
    assert unrouted and all((row["pool"], row["reasons"], row["route"]) == ("review", ["unroutable"], "none") for row in unrouted)
    both = {row["prompt_id"] for row in rows if row["route"] == "2: nearest 4"}
    per_prompt = Counter(row["prompt_id"] for row in rows)
    assert both and all(count == 1 + (prompt in both) for prompt, count in per_prompt.items())


def test_answers_go_where_rules_relations_and_persons_send_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rows = candidates("pools", run)
    own = {reason for row in rows for reason in row["reasons"] if ":" in reason}
    assert own and own <= {"rule:hard_and_invented", "rule:hard_and_unsure"}
    sound = {row["prompt_id"] for row in rows if row["relation"]}
    assert sound and {row["relation"] for row in rows} - {""} <= {"agree", "complementary", "conflicting", "unrelated"}
    assert {row["confidence_tier"] for row in rows if row["confidence"] is not None and not row["parents"]} <= {0, 1, 2, 3}
    accepted = [row for row in rows if row["relation"] == "conflicting" and "accepted" in row["reasons"]]
    assert not accepted  # answers that contradict each other wait for a person
    before = rows_of(run, "select kind, count(*) as n from examples group by 1")
    kinds = {row["kind"]: row["n"] for row in before}
    assert kinds["answer"] and kinds["contrast"] and kinds["answer"] >= 3 * (sum(kinds.values()) - kinds["answer"])
    pairs = rows_of(run, "select * from preferences")
    assert pairs and all(0.5 <= pair["length_ratio"] <= 2 and pair["chosen"] != pair["rejected"] for pair in pairs)

    waiting = [row for row in rows if row["pool"] == "review"]
    rayleigh("review", "export", run, tmp_path / "out.jsonl", "--format", "jsonl")
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["answer_id"] for row in exported} == {row["answer_id"] for row in waiting} and exported
    (tmp_path / "in.jsonl").write_text(json.dumps({**exported[0], "label": "right"}) + "\n")
    assert json.loads(rayleigh("review", "import", run, tmp_path / "in.jsonl", "--json"))["removed"]
    candidates("pools", run)
    [labelled] = rows_of(run, f"select * from picked where answer_id = '{exported[0]['answer_id']}'")
    assert (labelled["judge"], "person_right" in labelled["reasons"]) == ("person", True)


def test_competition_leaves_one_accepted_answer_a_prompt(tmp_path: Path) -> None:
    rows = candidates("competition", tmp_path / "run")
    assert set(Counter(row["prompt_id"] for row in rows).values()) == {3}
    beaten = [row for row in rows if row["reasons"] == ["outranked"]]
    assert beaten and {row["pool"] for row in beaten} == {"contrast"}
    accepted = [row for row in rows if "accepted" in row["reasons"]]
    winner = {row["prompt_id"]: row["answer"] for row in accepted}
    assert all(row["answer"] == winner[row["prompt_id"]] for row in accepted)
    assert all(row["answer"] != winner[row["prompt_id"]] for row in beaten)
    strong = {row["answer_id"]: mark["score"] for row in rows for mark in row["dimension_scores"] if mark["dimension"] == "pairs"}
    compared = [row for row in rows if row["answer_id"] in strong]
    assert {row["prompt_id"] for row in compared} == {row["prompt_id"] for row in beaten}
    for prompt in {row["prompt_id"] for row in compared}:
        rivals = {row["answer"]: strong[row["answer_id"]] for row in compared if row["prompt_id"] == prompt}
        assert sum(rivals.values()) == pytest.approx(1, abs=1e-4)
        assert not rows[0]["judge_decides"] or rivals[winner[prompt]] == max(rivals.values())
    assert len({row["judge_decides"] for row in rows if row["score"] is not None}) == 1


MAILS = {
    "We need 12 mugs. Order number 40512.": "The mail says 12, so the quantity is 12.",
    "Order number 77310: please send 8 red chairs.": "The mail says 8, so the quantity is 8.",
    "Could you ship 45 lamps under order number 20981?": "The mail says 45, so the quantity is 45.",
}


def test_teacher_that_thinks_aloud_is_read_behind_its_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default teacher is shown how to think: its reasoning and its answer come apart, and no special token is left in them."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    shown = tuple(Shot(input=mail, output=f"<think>{why}</think>{why.split()[-1]}") for mail, why in MAILS.items())
    model = VllmModel(type="vllm", path="smollm2-135m-instruct")
    section = Teacher(name="t", model=model, shots=Shots(fixed=shown), structured=False, thinks=Thinks())
    specialist = Specialist(goal="g", task_units=(TaskUnit(name="count", kind="extraction"),))
    weights = locate(model.path, root=str(ROOT), home=models_home())
    pool = Pool(kv_cache_gib=0.25, max_num_seqs=4)
    folders = (Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget"))
    spec = TeacherSpec(section, specialist, ClientSpec(section.model, pool, weights, *folders, payee=section.name))
    prompt = world.prompt_row("Please send 31 plates. Order number 55120.") | {"task_unit": "count"}
    [row] = Answerer(spec)(from_rows([prompt], PROMPT)).to_pylist()
    assert row["finish_reason"] == "stop" and row["reasoning"].startswith("The mail says")
    assert row["answer"] and not set(row["answer"] + row["reasoning"]) & set("<|>")


def test_tools_mode_teaches_verified_trajectories_and_keeps_the_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rows = candidates("tools", run)
    assert len(rows) == 84 and all(one["reasons"] for one in rows)
    verified = [one for one in rows if one["pool"] in ("train", "hard", "refusal")]
    assert verified
    for one in verified:
        results = [turn["content"] for turn in one["trajectory"] if turn["role"] == "tool" and turn["ok"]]
        value = json.loads(one["answer"])["value"]
        assert results and bool(value) == bool(results[-1])  # null if and only if the result is empty
    assert {one["pool"] for one in rows if one not in verified} <= {"contrast", "failure"}
    examples = rows_of(run, "select example_id, messages, target from examples")
    calls, answers = ([one for one in examples if key in one["target"]] for key in ('"call"', '"answer"'))
    assert len(calls) >= len(answers) > 0 and len(calls) + len(answers) == len(examples)
    assert {one["example_id"].partition("-")[0] for one in examples} <= {one["answer_id"] for one in verified}


def test_judge_is_measured_on_planted_errors_as_they_are_counted_by_hand(tmp_path: Path) -> None:
    """Six kinds of known errors before the real judge: the numbers are those of its own marks, and are paid for once."""
    gold, run = tmp_path / "planted.jsonl", tmp_path / "run"
    gold.write_text("".join(json.dumps(item) + "\n" for item in planted(24)))
    words = ("judge", ROOT / "jobs" / "contracts" / "competition.yaml", run, "--gold", gold, "--profile", PROFILE, "--json")
    found = json.loads(rayleigh(*words))
    numbers = found["agreement"]
    expected = by_hand(found["items"], numbers["threshold"])
    assert {name: numbers[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["bound_to"]["gold"]["items"] == len(found["items"]) == 48 and found["folds"] == 5
    assert set(numbers["errors"]) == set(KINDS)
    for name in (*expected, "auc", "ece", "pairs"):
        assert numbers[name]["low"] <= numbers[name]["value"] <= numbers[name]["high"]
    probes = {one["probe"]: one["verdict"] for one in found["audit"]}
    assert set(probes) == {"position", "padded", "shortened", "self_preference", "paraphrase"}
    assert probes["position"] != "unmeasured" and probes["self_preference"] == "unmeasured"
    floor = {"kappa": 0.4, "auc": 0.7}
    may = all(numbers[name]["value"] >= least for name, least in floor.items()) and "beyond" not in probes.values()
    assert found["decides"] == may and bool(found["why"]) != may
    again = json.loads(rayleigh(*words))
    assert again == found and found["tokens"] > 0  # out of the ledger
