"""Every answer goes to exactly one pool with a reason, whatever the contract's rules and whatever was found of it."""

import made_run
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.checks import TAGS, CheckResult
from engine.contract.contract import Contract
from engine.contract.judges import Accept, Judges
from engine.contract.pools import TRAINING_POOLS, Band, FinishReason, Pools, Relation
from engine.contract.pools import Pool as PoolName
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.errors import ContractError
from engine.grading.grader import Grader
from engine.grading.routing import REASONS, Evidence, check_tags, confidence_tier, holds, route
from engine.judges.grader_spec import GraderSpec
from engine.rows import ANSWER, CANDIDATE, DIFFICULTIES, FINISH_REASONS, POOLS, RELATIONS
from engine.storage.artifact import RowCounts

RIGHT, ABSTAINS = '{"number": "7"}', '{"number": null}'
UNGROUNDED = CheckResult("grounded", False, "ungrounded", "x")
SURE = Evidence(RIGHT, "stop", (), 1.0, 0.9, is_judged=True)

share = st.floats(0, 1)
bands = st.tuples(share, share).map(sorted).filter(lambda pair: pair[0] < pair[1]).flatmap(
    lambda pair: st.sampled_from([{"min": pair[0]}, {"below": pair[1]}, {"min": pair[0], "below": pair[1]}])
)  # fmt: skip
some = {
    "failed": st.lists(st.sampled_from(["*", *TAGS[1:]]), min_size=1, max_size=3),
    "finish_reason": st.lists(st.sampled_from(FINISH_REASONS), min_size=1, max_size=3),
    "difficulty": st.lists(st.sampled_from(DIFFICULTIES), min_size=1, max_size=2),
    "relation": st.lists(st.sampled_from(RELATIONS[1:]), min_size=1, max_size=2),
    "abstains": st.booleans(),
    "confidence": bands,
    "agreement": bands,
    "rubric_spread": bands,
}
whens = st.fixed_dictionaries({}, optional=some).filter(bool)


def targets(when):
    """Pools into which a rule with `when` may send."""
    fails = "failed" in when or set(when.get("finish_reason", ())) - {"stop"}
    return [pool for pool in POOLS if not fails or pool not in TRAINING_POOLS]


rules = whens.flatmap(
    lambda when: st.fixed_dictionaries({"when": st.just(when), "to": st.sampled_from(targets(when)), "reason": st.just("r")})
)
sections = st.builds(
    lambda listed, falling, conflicts, merge: Pools.model_validate(
        {
            "rules": [rule | {"reason": f"r{number}"} for number, rule in enumerate(listed)],
            "confidence_tiers": sorted(falling, reverse=True),
            "relations": {"conflicts": conflicts, "merge": merge},
        }
    ),
    st.lists(rules, max_size=5),
    st.sets(share, max_size=4),
    st.sampled_from(["review", "keep"]),
    st.booleans(),
)
evidence = st.builds(
    Evidence,
    answer=st.sampled_from([RIGHT, ABSTAINS, "text", ""]),
    finish_reason=st.sampled_from(FINISH_REASONS),
    outcomes=st.lists(st.builds(CheckResult, st.just("any"), st.just(False), st.sampled_from(TAGS[1:])), max_size=3),
    agreement=st.none() | share,
    confidence=st.none() | share,
    is_judged=st.booleans(),
    budget_exhausted=st.booleans(),
    judge_decides=st.booleans(),
    rubric_spread=st.none() | share,
    difficulty=st.sampled_from(["", *DIFFICULTIES]),
    relation=st.sampled_from(RELATIONS),
    conflicts=st.sampled_from([(), ("conflict_facts",), ("conflict_conditions", "conflict_conclusion")]),
)


def known(pools):
    return {*REASONS, *TAGS[1:], *(f"rule:{rule.reason}" for rule in pools.rules)}


@settings(max_examples=100, deadline=None)
@given(evidence, st.builds(Accept, confidence=share, agreement=share), sections)
def test_any_answer_under_any_contract_goes_to_one_pool_with_known_reasons(evidence, accept, pools):
    result = route(evidence, accept, pools)
    assert result.pool in POOLS
    assert result.reasons and set(result.reasons) <= known(pools)
    is_sound = evidence.finish_reason == "stop" and not evidence.outcomes
    assert result.pool not in TRAINING_POOLS or is_sound  # nobody learns what was cut off or failed, whatever the rules say
    first = next((rule for rule in pools.rules if holds(rule.when, evidence) and (rule.to not in TRAINING_POOLS or is_sound)), None)
    assert (
        (result.reasons[0] == f"rule:{first.reason}" and result.pool == first.to) if first else "rule:" not in str(result.reasons)
    )


answers = st.lists(
    st.fixed_dictionaries(
        {
            "prompt_id": st.sampled_from(["p", "q"]),
            "teacher": st.sampled_from(["t", "u", "v"]),
            "answer": st.sampled_from([RIGHT, ABSTAINS, '{"number": "8"}', '{"number": "7", "item": "lamp"}', "no form", ""]),
            "finish_reason": st.sampled_from(FINISH_REASONS),
            "difficulty": st.sampled_from(DIFFICULTIES),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(answers, sections, st.builds(Accept, confidence=share, agreement=share), st.booleans())
def test_no_candidate_is_lost_or_invented_under_any_contract(said, pools, accept, with_checks):
    unit = TaskUnit(name="form", kind="extraction", output=Output(json_schema={"type": "object"}))
    checks = [{"type": "json_schema"}, {"type": "grounded"}] if with_checks else []
    section = Judges.model_validate({"checks": checks, "accept": accept.model_dump(), "pools": pools.model_dump()})
    spec = GraderSpec(section=section, specialist=Specialist(goal="g", task_units=(unit,)), pool=Pool())
    plain = dict.fromkeys(ANSWER.names) | {"task_unit": "form", "text": "send 7 lamp", "sample": 0}
    rows = [plain | row | {"answer_id": f"a{number}"} for number, row in enumerate(said)]
    graded = Grader(spec)(pa.Table.from_pylist(rows, schema=ANSWER))
    assert graded.schema == CANDIDATE
    result = graded.to_pylist()
    merged = [row for row in result if row["parents"]]
    pooled = {pool: sum(row["pool"] == pool for row in result) for pool in POOLS}
    assert RowCounts(len(rows) + len(merged), pooled).conserved
    assert sorted(row["answer_id"] for row in result if not row["parents"]) == sorted(row["answer_id"] for row in rows)
    assert all(row["reasons"] and set(row["reasons"]) <= known(pools) for row in result)
    assert not merged or pools.relations.merge
    assert all(set(row["parents"]) <= {other["answer_id"] for other in rows} and len(row["parents"]) > 1 for row in merged)


def rule(when, to="review", reason="mine"):
    return {"when": when, "to": to, "reason": reason}


@pytest.mark.parametrize(
    ("when", "evidence", "is_so"),
    [
        ({"failed": ["ungrounded"]}, SURE._replace(outcomes=[UNGROUNDED]), True),
        ({"failed": ["off_schema"]}, SURE._replace(outcomes=[UNGROUNDED]), False),
        ({"failed": ["*"]}, SURE, False),
        ({"finish_reason": ["length"]}, SURE._replace(finish_reason="length"), True),
        ({"confidence": {"min": 0.9}}, SURE, True),
        ({"confidence": {"below": 0.9}}, SURE, False),
        ({"confidence": {"min": 0.0}}, SURE._replace(confidence=None), False),
        ({"confidence": {"min": 0.5}}, SURE._replace(judge_decides=False), False),  # it may annotate, not decide
        ({"agreement": {"below": 0.6}}, SURE._replace(agreement=0.5), True),
        ({"rubric_spread": {"min": 0.4}}, SURE._replace(rubric_spread=0.5), True),
        ({"rubric_spread": {"min": 0.4}}, SURE, False),
        ({"difficulty": ["hard"]}, SURE._replace(difficulty="hard"), True),
        ({"difficulty": ["hard"], "agreement": {"below": 0.6}}, SURE._replace(difficulty="hard"), False),  # all must hold
        ({"relation": ["unrelated", "conflicting"]}, SURE._replace(relation="unrelated"), True),
        ({"abstains": True}, SURE._replace(answer=ABSTAINS), True),
        ({"abstains": False}, SURE._replace(answer=ABSTAINS), False),
    ],
)
def test_rule_holds_where_all_that_it_names_does(when, evidence, is_so):
    result = route(evidence, Accept(), Pools.model_validate({"rules": [rule(when)]}))
    assert (result.reasons[0] == "rule:mine") is is_so
    assert result == route(evidence, Accept()) or is_so


def test_answer_that_could_not_be_compared_is_not_wrong():
    alone = CheckResult("math", False, "no_reference", "")
    assert route(SURE._replace(outcomes=[alone]), Accept()) == ("review", ["no_reference"])
    assert route(SURE._replace(outcomes=[alone, UNGROUNDED]), Accept()) == ("contrast", ["no_reference", "ungrounded"])


def test_first_rule_that_holds_decides_and_keeps_what_failed_in_sight():
    listed = [rule({"failed": ["*"]}, "failure", "first"), rule({"failed": ["ungrounded"]}, "review", "second")]
    result = route(SURE._replace(outcomes=[UNGROUNDED]), Accept(), Pools.model_validate({"rules": listed}))
    assert result == ("failure", ["rule:first", "ungrounded"])


def test_rule_for_learning_passes_over_what_is_not_sound():
    pools = Pools.model_validate({"rules": [rule({"difficulty": ["hard"]}, "hard", "keep")]})
    hard = SURE._replace(difficulty="hard")
    assert route(hard, Accept(), pools) == ("hard", ["rule:keep"])
    assert route(hard._replace(outcomes=[UNGROUNDED]), Accept(), pools) == ("contrast", ["ungrounded"])


def test_confidence_that_may_not_gate_sends_nobody_to_review():
    unsure = SURE._replace(confidence=0.1)
    assert route(unsure, Accept(confidence=0.5)).pool == "review"
    assert route(unsure._replace(judge_decides=False), Accept(confidence=0.5)).pool == "train"


@pytest.mark.parametrize(("confidence", "expected"), [(0.95, 0), (0.9, 0), (0.8, 1), (0.7, 1), (0.1, 2), (None, None)])
def test_tier_is_the_first_bound_that_is_reached(confidence, expected):
    assert confidence_tier(confidence, Pools(confidence_tiers=(0.9, 0.7))) == expected
    assert confidence_tier(confidence, Pools()) is None


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"confidence_tiers": [0.5, 0.7]}, "expected falling numbers"),
        ({"rules": [rule({})]}, "found no condition"),
        ({"rules": [rule({"failed": []})]}, "found no condition"),
        ({"rules": [rule({"confidence": {}})]}, "found neither"),
        ({"rules": [rule({"confidence": {"min": 0.5, "below": 0.5}})]}, "expected a smaller `min`"),
        ({"rules": [rule({"abstains": True}), rule({"abstains": False})]}, "reasons must differ"),
        ({"rules": [rule({"failed": ["*"]}, "train")]}, "expected contrast, review or failure"),
        ({"rules": [rule({"finish_reason": ["stop", "length"]}, "hard")]}, "expected contrast, review or failure"),
        ({"rules": [rule({"finish_reason": ["stopped"]})]}, "stopped"),
        ({"rules": [rule({"abstains": True}, reason="Not A Name")]}, "pattern"),
    ],
)
def test_section_that_contradicts_itself_is_refused(raw, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Pools.model_validate(raw)


def test_tag_that_no_check_gives_is_named():
    with pytest.raises(ContractError, match=r"judges\.pools\.rules\.0\.when\.failed: found \['ungrouded'\]"):
        check_tags(Pools.model_validate({"rules": [rule({"failed": ["ungrouded", "*"]})]}))


def test_curriculum_of_tiers_needs_tiers():
    order = yaml.safe_load(made_run.YAML)
    order["students"][0]["curriculum"] = "confidence_tier"
    with pytest.raises(
        ValidationError, match=r"students\.0\.curriculum: found confidence_tier, but judges\.pools\.confidence_tiers is empty"
    ):
        Contract.model_validate(order)
    order["judges"] = {"pools": {"confidence_tiers": [0.5]}}
    assert Contract.model_validate(order).students[0].curriculum == "confidence_tier"


def test_closed_sets_of_the_contract_are_those_of_the_rows():
    assert PoolName.__args__ == POOLS and FinishReason.__args__ == FINISH_REASONS and Relation.__args__ == RELATIONS[1:]
    assert not set(REASONS) & set(TAGS) and not any(":" in reason for reason in (*REASONS, *TAGS))
    assert 0.5 in Band(min=0.5) and 0.5 not in Band(below=0.5)
