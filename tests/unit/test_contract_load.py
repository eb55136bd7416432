"""YAML in, frozen sections out; every mistake is named with its path, what was found and what is allowed."""

import pytest
import yaml
from pydantic import ValidationError

from engine.contract.contract import Contract
from engine.contract.load import load_contract
from engine.contract.profile import load_profile
from engine.errors import ContractError

TOY = {
    "name": "toy",
    "specialist": {"goal": "count", "task_units": [{"name": "count", "kind": "decision"}]},
    "prompts": {"sources": [{"path": "a.jsonl", "licence": "CC0-1.0"}], "holdout": {"path": "b.jsonl", "labels": "rule"}},
    "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {"checks": [{"type": "choice", "allowed": ["a", "b"]}]},
    "students": [{"name": "s", "init": {"prune": {"source": "m", "layers": [0]}}}],
    "gate": {},
}


@pytest.fixture
def write(tmp_path):
    def at(raw, name="toy.yaml"):
        path = tmp_path / name
        path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
        return path

    return at


def refused(path, *changes):
    with pytest.raises(ContractError) as caught:
        load_contract(path, changes)
    return str(caught.value)


def test_contract_loads_frozen(write):
    contract = load_contract(write(TOY)).contract
    assert contract.students[0].epochs == 3
    with pytest.raises(ValidationError):
        contract.name = "other"  # type: ignore[misc]


def test_contract_resolved_to_json_is_the_same_contract(write):
    contract = load_contract(write(TOY)).contract
    assert Contract.model_validate_json(contract.model_dump_json()) == contract


def test_contract_root_is_the_folder_of_its_file(write, tmp_path):
    assert load_contract(write(TOY)).root == str(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("teachers.modle=1", "teachers.modle: unknown key. Did you mean 'mode'? Allowed: "),
        ("studnets=1", "studnets: unknown key. Did you mean 'students'?"),
        ("students.0.epocs=1", "students.0.epocs: unknown key. Did you mean 'epochs'?"),
        ("judges.checks.0.allow=1", "unknown key. Did you mean 'allowed'? Allowed: allowed, field, name, task_units, type."),
        ("teachers.models.0.model.replys=1", "unknown key. Did you mean 'replies'?"),
        ("curation.semantic={treshold: 0.9}", "curation.semantic.treshold: unknown key. Did you mean 'threshold'?"),
        ("curation.minhash.threshold=1.2", "curation.minhash.threshold: Input should be less than or equal to 1. Found 1.2."),
        ("students.0.epochs=0", "students.0.epochs: Input should be greater than 0. Found 0."),
        ("students.0.epochs=many", "students.0.epochs: Input should be a valid integer"),
        ("students.0.zero=5", "students.0.zero: Input should be 0, 1, 2 or 3. Found 5."),
        ("teachers.models.0.model.type=oracle", "teachers.models.0.model"),
        ("budget.teacher_tokens=0", "budget.teacher_tokens: Input should be greater than 0. Found 0."),
        ("budget.price={per_1k_in: 1}", "budget.price.per_1k_in: unknown key."),
        ("name=A Name", "name: String should match pattern"),
        ("gate=null", "gate"),
        ("students=[]", "students: Tuple should have at least 1 item"),
    ],
)
def test_contract_mistake_names_path_found_and_allowed(write, change, said):
    path = write(TOY)
    message = refused(path, change)
    assert message.startswith(f"{path}: 1 problem(s):\n  ") and said in message


def test_contract_missing_section_is_named(write):
    assert "teachers: is missing." in refused(write({key: value for key, value in TOY.items() if key != "teachers"}))


def test_contract_with_several_mistakes_names_all(write):
    message = refused(write(TOY), "students.0.epochs=0", "gate.ece=2", "nam=x")
    assert "3 problem(s)" in message
    assert all(part in message for part in ("students.0.epochs", "gate.ece", "nam: unknown key"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("teachers.mode=judged", "judges.rubrics: is needed in teachers.mode judged; add one or use mode direct"),
        ("gate.beats=[rules]", "gate.beats: found 'rules', expected one of evaluation.baselines []"),
        ("prompts.sources.0.task_unit=sum", "prompts.sources.0.task_unit: found 'sum', expected one of ['count']"),
        (
            "specialist.task_units=[{name: a, kind: decision}, {name: b, kind: decision}]",
            "prompts.sources.0.task_unit: is needed, the specialist has ['a', 'b']",
        ),
        ("specialist.task_units=[{name: a, kind: decision}, {name: a, kind: decision}]", "names must differ"),
        ("budget.price.teachers={u: {per_1m_in: 1}}", "budget.price.teachers: found 'u', expected one of teachers.models ['"),
        ("prompts.synthesize=[{method: {type: counter_example}, wanted: 1}]", "prompts.synthesize.0: a counter_example needs"),
        ("curation.swaps={per_example: 2}", "curation.swaps: needs a task unit with output.spans"),
        (
            "prompts.synthesize=[{method: {type: evolve}, wanted: 1, model: {type: fake}}, "
            "{method: {type: evolve}, wanted: 2, model: {type: fake}}]",
            "synthesize: names must differ, found ['evolve', 'evolve']",
        ),
        (
            "students.0.objectives={dpo: 1}",
            "sft, dpo reads preference pairs, and none are made; write `preferences",
        ),
        ("students.0.objectives={forward_kl: 1}", "sft, forward_kl reads the teacher's distribution; write the section `capture"),
        ("students.0.objectives={uld: 1.5}", "sft, uld reads the teacher's distribution; write the section `capture"),
        ("students.0.objectives={by_tier: {0: {sft: 2}}}", "by_tier: found [0]; judges.pools.confidence_tiers has 0"),
        ("gate.hurt_by={twins: {s: u}}", "gate.hurt_by.twins.s: found 'u', expected one of students ['s']"),
    ],
)
def test_contract_rule_between_sections_names_the_way_out(write, change, said):
    assert said in refused(write(TOY), change)


def test_contract_students_of_one_name_are_refused(write):
    assert "students: names must differ, found ['s', 's']" in refused(write({**TOY, "students": TOY["students"] * 2}))


def test_change_sets_values_in_mappings_and_lists(write):
    changes = ["students.0.epochs=7", "gate.exact_match=0.5", "curation.semantic=null", "judges.checks.0.allowed=[x, y]"]
    contract = load_contract(write(TOY), changes).contract
    assert contract.students[0].epochs == 7 and contract.gate.exact_match == 0.5
    named = load_contract(write(TOY), ["students.s.epochs=8", "judges.checks.0.allowed=[x]"]).contract
    assert named.students[0].epochs == 8
    assert contract.curation.semantic is None and contract.judges.model_dump()["checks"][0]["allowed"] == ("x", "y")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("students.0.epochs", "found no '=', expected a.b=value"),
        ("=1", "found no '='"),
        ("students.5.epochs=1", "does not lead to a value; lists are counted from 0"),
        ("students.first.epochs=1", "does not lead to a value"),
        ("name.deep.er=1", "does not lead to a value"),
        ("gate=[1", "is not YAML"),
    ],
)
def test_change_that_leads_nowhere_is_told(write, change, said):
    assert said in refused(write(TOY), change)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "is not YAML"),
        ("- a\n- b\n", "found list, expected a mapping of sections"),
        ("", "found NoneType, expected a mapping of sections"),
        ("name: !include gone.yaml\n", "gone.yaml: cannot be read"),
        ("name: !include gone.json\n", "gone.json: cannot be read"),
        ("name: !!python/object/apply:os.system ['true']\n", "is not YAML"),
    ],
)
def test_contract_file_that_cannot_be_read_is_told(write, text, said):
    assert said in refused(write(text))


def test_contract_file_in_another_encoding_is_told(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: Käse".encode("latin-1"))
    assert "cannot be read as UTF-8 text" in refused(path)


def test_contract_that_is_a_folder_is_told(tmp_path):
    assert "cannot be read" in refused(tmp_path)


def test_include_takes_json_jsonl_yaml_and_text_beside_the_file(write):
    write('{"type": "object"}', "form.json")
    write('{"input": "1", "output": "one"}\n\n{"input": "2", "output": "two"}\n', "shots.jsonl")
    write("exact_match: 0.9\n", "gate.yaml")
    write("Count.\n", "system.txt")
    text = yaml.safe_dump({key: value for key, value in TOY.items() if key not in ("gate", "teachers", "specialist")})
    text += """
gate: !include gate.yaml
specialist: {goal: g, task_units: [{name: count, kind: decision, output: {json_schema: !include form.json}}]}
teachers:
  mode: direct
  models: [{name: t, model: {type: fake}, system: !include system.txt, shots: {fixed: !include shots.jsonl}}]
"""
    contract = load_contract(write(text)).contract
    teacher = contract.teachers.models[0]
    assert contract.gate.exact_match == 0.9 and teacher.system == "Count."
    assert [(shot.input, shot.output) for shot in teacher.shots.fixed] == [("1", "one"), ("2", "two")]
    assert contract.specialist.task_units[0].output.json_schema == {"type": "object"}


def test_include_broken_on_a_line_names_the_file(write):
    write('{"input": "1"\n', "shots.jsonl")
    assert "shots.jsonl: cannot be read" in refused(write("gate: !include shots.jsonl\n"))


def test_profile_is_closed_too(write):
    with pytest.raises(ContractError, match=r"teacher\.actor: unknown key\. Did you mean 'actors'"):
        load_profile(write("name: p\nteacher: {actor: 2}\n"))
    with pytest.raises(ContractError, match=r"teacher\.actors: Input should be greater than 0\. Found 0"):
        load_profile(write("name: p\nteacher: {actors: 0}\n"))
