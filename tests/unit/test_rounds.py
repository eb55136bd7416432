"""Rounds: what is weak, who gets how many prompts, the next contract, when to stop; and the command, killed on the way."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rounds_world as world

from engine.contract.iterate import Iterate
from engine.contract.load import load_contract
from engine.contract.prompts import Source
from engine.curation.labels import LABEL
from engine.errors import ContractError, InputError, RecipeMismatch
from engine.prompts.files import source_files
from engine.records.estimate import Estimate
from engine.records.rounds import RoundOutcome, WeakSlice
from engine.release.registry import Registry
from engine.rounds import descend, writing
from engine.rounds.descend import Chosen
from engine.rounds.quotas import Draw, Offer, divide, fill
from engine.rounds.slices import ALL, Compared, layers_of, weak_slices, with_quotas
from engine.rounds.stop import why_stop
from engine.rows import content_id
from engine.serving.schemas import REQUEST
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands.iterate import as_text, iterate
from jobs.steps import labels

SECTION = Iterate(rows=10, prompts=20)


def compared(layers, right, taught):
    columns = {"layer": layers, "difficulty": [""] * len(layers), "task_unit": ["u"] * len(layers), "scenario": [""] * len(layers)}
    right, taught = np.array(right, dtype=float), np.array(taught, dtype=float)
    return Compared(columns, [""] * len(layers), right, taught, (right != taught).astype(float))


def part(dimension, value, mendable, **more):
    return WeakSlice(dimension=dimension, value=value, n=20, errors=mendable, disagreements=mendable, mendable=mendable, **more)


def test_weak_is_what_the_student_gets_wrong_and_its_teacher_right():
    layers = ["core"] * 20 + ["failure_mode"] * 20 + ["long_tail"] * 20
    right = [1] * 18 + [0] * 2 + [0] * 10 + [1] * 10 + [0] * 20
    taught = [1] * 40 + [0] * 20  # what both get wrong is no reason to ask this teacher more
    [weak] = weak_slices(compared(layers, right, taught), SECTION, level=0.95)
    assert (weak.dimension, weak.value, weak.n, weak.errors, weak.mendable) == ("layer", "failure_mode", 20, 10, 10)
    assert weak.excess and weak.excess.value == pytest.approx(0.45) and weak.excess.low > 0


def test_slice_with_too_few_rows_is_not_called_weak():
    both = compared(["core"] * 30 + ["failure_mode"] * 9, [1] * 30 + [0] * 9, [1] * 39)
    assert [each.dimension for each in weak_slices(both, SECTION, level=0.95)] == [ALL]


def test_nothing_is_weak_where_the_teacher_is_no_better():
    assert weak_slices(compared(["core"] * 20 + ["long_tail"] * 20, [0] * 40, [0] * 40), SECTION, level=0.95) == []


def test_evenly_spread_errors_make_the_whole_holdout_one_slice():
    both = compared(["core", "long_tail"] * 20, [0, 0, 1, 1] * 10, [1] * 40)
    [whole] = weak_slices(both, SECTION, level=0.95)
    assert (whole.dimension, whole.mendable) == (ALL, 20)
    assert layers_of(whole, both) == {"core": 10.0, "long_tail": 10.0}


def test_shares_are_in_proportion_and_sum_to_the_total():
    assert divide(10, {"a": 3.0, "b": 3.0, "c": 1.0}) == {"a": 4, "b": 4, "c": 2}
    assert divide(5, {"a": 0.0}) == {"a": 0} and divide(0, {"a": 1.0}) == {"a": 0}
    assert [each.wanted for each in with_quotas([part("layer", "core", 3), part("layer", "long_tail", 1)], 8)] == [6, 2]


def test_draw_does_not_depend_on_the_order_and_is_no_prefix_of_it():
    offers = [Offer(0, "a.jsonl", line) for line in range(1, 101)]
    found = []
    for order in (offers, offers[::-1]):
        draw = Draw(10)
        for offer in order:
            draw.offer(offer.order("round 1"), offer)
        found.append(draw.items())
    assert found[0] == found[1] and len(set(found[0])) == 10 and found[0] != offers[:10]


def test_row_of_two_slices_is_taken_once():
    offers = [Offer(0, "a", line) for line in range(5)]
    slices, taken = fill([part("layer", "core", 1, wanted=2), part("difficulty", "hard", 1, wanted=2)], [offers, offers])
    assert taken == offers[:4] and [each.sampled for each in slices] == [2, 2]


def test_what_no_row_fills_is_written_by_the_methods_that_can(tmp_path):
    world.write(tmp_path)
    contract = load_contract(
        tmp_path / "toy.yaml",
        ["specialist.task_units.0.output={json_schema: {type: object, properties: {a: {type: string}}}, spans: {a: 1}}"],
    ).contract
    templates = writing.methods(contract)
    assert [each.method.type for each in templates] == ["counter_example"]  # by rule: the contract names no method
    slices = [part("layer", "failure_mode", 4, wanted=6, sampled=2), part("layer", "core", 1, wanted=3, sampled=1)]
    slices, asked, unfilled = writing.shares(slices, [{"failure_mode": 1.0}, {"core": 1.0}], templates, number=2)
    assert [(each.name, each.layer, each.wanted) for each in asked] == [("counter_example-r2", "failure_mode", 4)]
    assert unfilled == 2 and [each.written for each in slices] == [4, 0]
    [synthesis] = writing.ordered(templates, asked, number=2)
    next_one = descend.descend(contract, Chosen(2, "/r/round-001", synthesize=(synthesis,)))
    assert next_one.prompts.synthesize[0].wanted == {"failure_mode": 4}
    without = contract.model_copy(update={"iterate": Iterate(counter_examples=False)})
    assert writing.methods(without) == ()


def test_later_round_keeps_all_but_prompts_gate_and_begin(tmp_path):
    world.write(tmp_path)
    base = load_contract(tmp_path / "toy.yaml", ["gate.by=prove", "iterate.begin=champion"]).contract
    champion = descend.begins(base, ("small", "ab" * 16))
    made = descend.descend(
        base, Chosen(2, "/r/round-001", [Offer(0, "seeds.jsonl", 9), Offer(0, "seeds.jsonl", 3)], champion=champion)
    )
    assert made.prompts.sources[0].lines == {"seeds.jsonl": (3, 9)} and made.prompts.sources[0].take is None
    assert made.prompts.earlier == ("/r/round-001",) and made.prompts.holdout == base.prompts.holdout
    assert made.gate.level == base.gate.level / 4 and made.gate.champion == base.evaluation.worth
    assert made.students[0].init.champion and made.students[0].init.champion.version == "ab" * 16
    for name in ("specialist", "teachers", "judges", "curation", "evaluation", "budget"):
        assert getattr(made, name) == getattr(base, name)
    assert descend.begins(base, ("small.q8_0", "ab")) is None  # an export is no model to train


def ended(**more):
    return RoundOutcome(round=1, run="r", prompts=1, examples=1, student="s", worth=0.01, **more)


@pytest.mark.parametrize(
    ("outcome", "begins"),
    [
        (ended(gain=Estimate(value=0.0, low=-0.02, high=0.009)), "gain"),
        (ended(gain=Estimate(value=0.0, low=-0.02, high=0.011)), ""),  # it may be worth it
        (ended(copies=Estimate(value=0.7, low=0.55, high=0.8)), "coverage"),
        (ended(copies=Estimate(value=0.7, low=0.45, high=0.8)), ""),
        (ended(advice="teacher", why=("It is as good as its teacher.",)), "get a better teacher"),
        (ended(advice="unknown"), ""),
    ],
)
def test_round_ends_the_iteration_where_an_interval_or_the_advice_says_so(outcome, begins):
    found = why_stop(outcome, Iterate().heed)
    assert found.startswith(begins) and bool(found) == bool(begins)
    assert why_stop(outcome, ()) == ""


@pytest.fixture
def root(tmp_path, monkeypatch):
    world.write(tmp_path)
    world.stand_in(monkeypatch)
    return tmp_path


def rounds(root, *, number=2, changes=(), traffic=None):
    path, profile = str(root / "toy.yaml"), str(root / "profile.yaml")
    return iterate(path, str(root / "rounds"), rounds=number, profile=profile, changes=changes, traffic=traffic)


def prompts(root, number):
    folder = Folder(str(root / "rounds" / f"round-{number:03d}"))
    return workspace.finished(folder, "prompts").read("prompts", world.PROMPT).to_pylist()


def test_two_rounds_add_prompts_where_the_student_is_weak_and_pay_for_nothing_twice(root):
    result = rounds(root)
    first, second = result.outcomes
    assert first.prompts == 12 and first.gain is None and first.promoted is None  # right on no layer: the gate refuses it
    assert first.paid_tokens == 120 and second.paid_tokens == 10 * (second.prompts - first.prompts)
    assert second.added == {"sources": 10} and second.prompts == 22
    before, after = prompts(root, 0), prompts(root, 1)
    by_id = {row["prompt_id"]: row for row in after}
    assert all(by_id[row["prompt_id"]] == row for row in before)
    plan = json.loads((root / "rounds/round-001/round.json").read_text())
    assert plan["before"].endswith("round-000") and plan["before_fingerprint"] and plan["student"] == "small"
    assert sum(each["sampled"] for each in plan["slices"]) == 10
    held = {world.mail(1000 + number) for number in range(24)}
    assert not held & {row["text"] for row in after}  # one of the seeds is of the holdout
    assert result.ended == "rounds: 2 were ordered" and "round 1" in as_text(result)


def test_killed_round_goes_on_with_its_plan_and_ends_as_an_unbroken_one(root, tmp_path):
    (root / world.DIES).touch()
    with pytest.raises(KeyboardInterrupt):
        rounds(root)
    assert not (root / "rounds/round-000/outcome.json").exists()
    (root / world.DIES).unlink()
    rounds(root, number=1)
    (root / world.DIES).touch()
    with pytest.raises(KeyboardInterrupt):
        rounds(root)
    plan = (root / "rounds/round-001/round.json").read_bytes()
    (root / world.DIES).unlink()
    result = rounds(root)
    assert (root / "rounds/round-001/round.json").read_bytes() == plan
    assert len(json.loads((root / "rounds/ledger/paid.json").read_text())) == result.outcomes[-1].prompts == 22
    assert sum(each.paid_tokens for each in result.outcomes) == 220
    again = rounds(root)
    assert again.outcomes == result.outcomes


def test_gain_is_paired_and_the_champion_is_promoted_and_compared_with(root):
    result = rounds(root, number=4)
    passed = [each for each in result.outcomes if each.promoted]
    registry = Registry(Folder(str(root / "rounds" / "registry")), "toy")
    assert passed and registry.champion and registry.champion.student == "small"
    assert [event.kind for event in registry.history()] == ["promote"] * len(passed)
    last = result.outcomes[-1]
    assert last.exact_match and last.exact_match.value > 0.6
    assert any(each.gain and each.gain.value > 0 and each.gain.low <= each.gain.value for each in result.outcomes)


def test_iteration_ends_when_nothing_can_be_mended(root):
    result = rounds(root, number=9)
    assert result.ended.startswith("nothing to add") and len(result.outcomes) < 9


def test_unsure_requests_become_prompts_redacted_and_others_do_not(root):
    records = root / "records"
    (records / "open").mkdir(parents=True)
    (records / "hours").mkdir()
    asked = {"unit": "", "status": 200, "error": ""}
    rows = [
        {**asked, "prompt": "kappa lambda mu from kay@example.com nu xi omicron", "reason": "confidence 0.2 below 0.9"},
        {**asked, "prompt": "an answer that the student was sure of", "reason": ""},
        {**asked, "prompt": "a question of another niche altogether", "reason": "outside the niche: language de"},
        {**asked, "prompt": world.mail(1000), "reason": "confidence 0.1 below 0.9"},  # of the holdout
        {**asked, "prompt": None, "reason": "confidence 0.3 below 0.9"},
    ]
    table = pa.Table.from_pylist([{name: row.get(name) for name in REQUEST.names} for row in rows], schema=REQUEST)
    pq.write_table(table, records / "hours" / "2026-01-01T00-w.parquet")
    result = rounds(root, traffic=str(records))
    share = result.plans[1].traffic
    assert share and (share.rows, share.unsure, share.with_text, share.new, share.chosen) == (5, 3, 2, 1, 1)
    assert result.outcomes[1].added["traffic"] == 1
    [row] = [row for row in prompts(root, 1) if row["licence"] == "traffic"]
    assert "<EMAIL>" in row["text"] and row["layer"] == "failure_mode"
    assert "kay@" not in (root / "rounds/round-001/traffic/count.jsonl").read_text()


def test_records_that_are_none_are_refused(root):
    with pytest.raises(InputError, match=r"--from-traffic .*: found no records of requests"):
        rounds(root, traffic=str(root))


def test_rounds_of_another_contract_are_refused_and_the_section_iterate_may_change(root):
    rounds(root, number=1)
    with pytest.raises(RecipeMismatch, match="its rounds are of another contract"):
        rounds(root, changes=["prompts.sources.0.take=13"])
    assert len(rounds(root, changes=["iterate.prompts=3"]).outcomes) == 2
    assert len(prompts(root, 1)) == 15


def test_changed_holdout_ends_the_rounds(root):
    rounds(root, number=1)
    lines = (root / "holdout.jsonl").read_text().splitlines(keepends=True)
    (root / "holdout.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(RecipeMismatch, match=r"holdout"):
        rounds(root)


def test_labels_of_persons_go_on_to_the_next_round(root):
    rounds(root, number=1)
    folders = [Folder(str(root / "rounds" / f"round-{number:03d}")) for number in range(2)]
    label = {name: "x" for name in LABEL.names} | {"answer_id": prompts(root, 0)[0]["prompt_id"], "label": "right"}
    labels.write(folders[0], {label["answer_id"]: label})
    rounds(root)
    assert labels.read(folders[1]) == labels.read(folders[0])


def test_lines_of_a_source_are_taken_alone_and_a_file_that_is_not_there_is_named(root):
    profile, run = str(root / "profile.yaml"), str(root / "rounds" / "round-000")
    rounds(root, number=1, changes=["prompts.sources.0.take=null", "prompts.sources.0.lines={seeds.jsonl: [2, 5]}"])
    assert sorted(row["line"] for row in prompts(root, 0)) == [2, 5]
    with pytest.raises(ContractError, match="take: found 12 beside lines"):
        workspace.create(str(root / "toy.yaml"), run, profile=profile, changes=["prompts.sources.0.lines={seeds.jsonl: [2]}"])
    lines = Source(path="seeds.jsonl", licence="CC0-1.0", lines={"others.jsonl": (1,)})
    with pytest.raises(InputError, match=r"lines: found the file others.jsonl, expected some of \['seeds.jsonl'\]"):
        source_files([("train", "count", lines)], root=str(root))


def test_new_prompt_that_is_a_copy_of_an_earlier_one_is_dropped_whatever_their_ids(root):
    rounds(root, number=1)
    twins = [{"input": row["text"].upper(), "layer": "core"} for row in prompts(root, 0)]
    (root / "twins.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*twins, {"input": world.mail(7), "layer": "core"}])
    )
    source = "[{path: twins.jsonl, licence: CC0-1.0, columns: {text: input, layer: layer}}]"
    changes = [f"prompts.earlier=[{root}/rounds/round-000]", f"prompts.sources={source}"]
    path, profile = str(root / "toy.yaml"), str(root / "profile.yaml")
    iterate(path, str(root / "later"), rounds=1, profile=profile, changes=changes)
    found = workspace.finished(Folder(str(root / "later" / "round-000")), "prompts")
    ids = {row["prompt_id"] for row in prompts(root, 0)}
    kept = found.read("prompts", world.PROMPT).to_pylist()
    assert ids < {row["prompt_id"] for row in kept} and len(kept) == len(ids) + 1
    assert found.record.row_counts.rows_out["exact_copy"] == len(twins)


def test_ids_of_the_draw_are_hashes():
    assert Offer(0, "a", 1).order("x") == content_id("x", 0, "a", 1) != Offer(0, "a", 1).order("y")
