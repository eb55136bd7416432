"""What a run cost and saves, whose errors a student makes, the learning curve, and what to do next."""

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.budget import Price
from engine.evaluation import advice, curve
from engine.evaluation.decompose import Answered, Bootstrap, concentrations, decompose
from engine.evaluation.payback import Requests, Terms, payback
from engine.evaluation.signals import difference
from engine.evaluation.variants import changed, target
from engine.records.attribution import Attribution, BucketEffect
from engine.records.curve import LearningCurve
from engine.records.estimate import Estimate
from engine.records.report import Metrics, ModelEntry, TeacherComparison
from engine.records.worth import Copies, LabelNoise, RunCost, Worth

DRAWS = Bootstrap(400, 0.95, 0)
N = 200


def about(value, half, n=N):
    return Estimate(value=value, low=value - half, high=value + half, n=n)


# Decomposition


def answered(name, answers, reference="right"):
    right = np.array([answer == reference for answer in answers], dtype=np.float64)
    prompts = [f"p{index}" for index in range(len(answers))]
    return Answered(name, prompts, [f"s{index // 2}" for index in range(len(answers))], right, answers)


def test_every_prompt_is_in_one_class_and_is_named():
    teacher = answered("t", ["right"] * 60 + ["bad"] * 20 + ["worse"] * 20)
    student = answered("s", ["right"] * 50 + ["odd"] * 10 + ["bad"] * 15 + ["right"] * 5 + ["else"] * 20)
    found = decompose(student, teacher, DRAWS)
    classes = [found.both_right, found.error_learnt, found.not_learnt, found.better, found.both_wrong]
    assert [each.count for each in classes] == [50, 15, 10, 5, 20] and sum(each.share.value for each in classes) == pytest.approx(1)
    assert found.error_learnt.examples == ("p60", "p61", "p62", "p63", "p64") and found.not_learnt.examples[0] == "p50"
    assert found.error_learnt.share.low < 0.15 < found.error_learnt.share.high
    assert found.errors_shared.value == pytest.approx(15 / 40)
    assert found.error_consistency.low > 0 and found.answer_agreement.low > 0


def test_equal_json_is_the_same_answer():
    teacher, student = answered("t", ['{"a": 1, "b": 2}'] * 10), answered("s", ['{"b":2,"a":1}'] * 10)
    assert decompose(student, teacher, DRAWS).error_learnt.count == 10


def predictions(names, wrong_on):
    right, wrong = '{"item": 1, "count": 2}', '{"item": 1, "count": 3}'
    slices = {"task_unit": "u", "layer": "core", "difficulty": "easy"}
    rows = [{**slices, "scenario": name, "reference": right, "answer": wrong if name in wrong_on else right} for name in names]
    return pa.Table.from_pylist(rows)


def test_teacher_whose_errors_are_all_of_one_kind_is_named_with_an_interval():
    names = [f"kind {index % 8}" for index in range(N)]
    rows = predictions(names, {"kind 3"})
    teacher = answered("t", ["bad" if name == "kind 3" else "right" for name in names])
    found = concentrations(teacher._replace(answers=rows["answer"].to_pylist()), rows, level=0.95)
    assert [(each.dimension, each.value) for each in found] == [("scenario", "kind 3"), ("field", "count")]
    assert found[0].errors == found[0].of == 25 and found[0].excess.low > 0.5 and found[0].level > 0.99


def test_errors_that_are_spread_are_of_no_kind():
    names = [f"kind {index % 8}" for index in range(N)]
    named = 0
    for seed in range(20):
        wrong = np.random.default_rng(seed).random(N) < 0.2
        teacher = answered("t", ["bad" if each else "right" for each in wrong])
        named += len(concentrations(teacher, predictions(names, ()), level=0.95))
    assert named <= 2


# Return


def requests(right, *, seconds, tokens=0.0):
    count = len(right)
    timed = np.where(np.arange(count) % 5 == 0, seconds, np.nan)
    return Requests(np.array(right, dtype=np.float64), timed, np.full(count, tokens))


def test_break_even_is_the_cost_over_the_saving_with_fallbacks():
    terms = Terms(Price(per_machine_hour=3600), 50.0, 1000, DRAWS)  # a machine second costs 1
    student, teacher = requests([1] * 60 + [0] * 40, seconds=0.1), requests([1] * 100, seconds=0.5, tokens=1.0)
    fallback = np.array([0.0] * 80 + [1.0] * 20)
    found = payback("s", student, teacher, fallback, terms, [""] * 100)
    # 1.5 for the teacher; 0.1 and in one of five cases 1.5 for the student
    assert found.saving_per_1000.value == pytest.approx(1100) and found.break_even == pytest.approx(50 / 1.1, abs=0.1)
    assert found.saving_per_1000.low < 1100 < found.saving_per_1000.high
    assert found.break_even_low == pytest.approx(50_000 / found.saving_per_1000.high, abs=0.1)
    assert found.months == pytest.approx(0.045, abs=1e-3) and found.saving_per_month.value == pytest.approx(1100)
    assert found.accepted.value == pytest.approx(-0.2)


def test_break_even_is_infinite_where_nothing_is_saved():
    terms = Terms(Price(per_machine_hour=3600), 50.0, None, DRAWS)
    dear, teacher = requests([1] * 50, seconds=0.6), requests([1] * 50, seconds=0.5)
    found = payback("s", dear, teacher, np.zeros(50), terms, [""] * 50)
    assert (found.break_even, found.break_even_low, found.break_even_high, found.months) == (None, None, None, None)
    untimed = dear._replace(seconds=np.full(50, np.nan))
    assert payback("s", untimed, teacher, np.zeros(50), terms, [""] * 50) is None


def test_break_even_is_infinite_at_its_upper_end_where_the_saving_may_be_none():
    terms = Terms(Price(per_machine_hour=3600), 50.0, None, DRAWS)
    rng = np.random.default_rng(0)
    student, teacher = (requests([1] * 60, seconds=1.0)._replace(seconds=1 + rng.normal(0, 0.3, 60)) for _ in range(2))
    teacher = teacher._replace(seconds=teacher.seconds + 0.05)
    found = payback("s", student, teacher, np.zeros(60), terms, [""] * 60)
    assert found.saving_per_1000.low < 0 < found.saving_per_1000.high
    assert found.break_even_high is None and found.break_even_low is not None


# Learning curve


def curve_of(accuracies, *, seed=0, seeds=4, prompts=400):
    rng = np.random.default_rng(seed)
    hardness = rng.random(prompts)
    return [
        (hardness < each + rng.normal(0, 0.01, (seeds, 1)) + rng.normal(0, 0.05, (seeds, prompts))).astype(float)
        for each in accuracies
    ]


def test_law_finds_the_gain_of_twice_the_data():
    sizes = [100, 200, 400]
    errors = [2.0 * size**-0.4 for size in (*sizes, 800)]
    hits = 0
    for seed in range(60):
        found = curve.fit(sizes, curve_of([1 - error for error in errors[:3]], seed=seed), [""] * 400, level=0.9)
        hits += found.next_gain.low <= errors[2] - errors[3] <= found.next_gain.high
    assert 48 <= hits <= 60
    assert found.exponent == pytest.approx(0.4, abs=0.1) and found.flattening.low < 0 < found.flattening.high


def test_curve_that_is_flat_at_its_end_says_that_the_law_promises_too_much():
    found = curve.fit([100, 200, 400], curve_of([0.5, 0.8, 0.805], prompts=800), [""] * 800, level=0.95)
    assert found.flattening.low > 0 and found.next_gain.value > 0.02


@pytest.mark.parametrize(
    ("sizes", "exact", "why"),
    [
        ([100, 200], curve_of([0.5, 0.6]), "three different numbers"),
        ([1, 1, 2], curve_of([0.5, 0.6, 0.7]), "three different numbers"),
        ([1, 2, 4], curve_of([0.5, 0.6, 0.7], seeds=1), "two seeds"),
        ([1, 2, 4], curve_of([-1, 0.6, 0.7]), "answers a prompt right"),
    ],
)
def test_curve_that_cannot_be_fitted_says_why(sizes, exact, why):
    assert why in curve.fit(sizes, exact, [""] * 400, level=0.95)


def test_smaller_share_is_part_of_the_larger_one_and_each_seed_draws_its_own():
    ids = [str(number) for number in range(100)]
    assert set(curve.draw(ids, 0.25, 0)) < set(curve.draw(ids, 0.5, 0)) and len(curve.draw(ids, 0.25, 0)) == 25
    assert curve.draw(ids, 0.5, 0) != curve.draw(ids, 0.5, 1) and curve.draw(ids, 1.0, 0) == curve.draw(ids, 1.0, 1)


# Advice

CURVE = LearningCurve(
    run="r", student="s", seeds=3, epochs=1, dataset="d", prompts=N, clusters=N, level=0.95, points=[], law="power", exponent=0.3,
    next_examples=800, next_gain=about(0.03, 0.01), flattening=about(0, 0.1),
)  # fmt: skip
FLAT = CURVE.model_copy(update={"next_gain": about(0.002, 0.004)})
FRESH, STALE = (Copies(source="sources", copies=count, prompts=N, share=about(count / N, 0.05)) for count in (20, 160))
SMALLER, EQUAL = {"capacity": about(0.1, 0.02), "sizes": ("l", "s")}, {"capacity": about(0.001, 0.005, n=2000), "sizes": ("l", "s")}


def noise(share, half):
    return {"label_noise": LabelNoise(source="persons", share=about(share, half))}


def models(gap, *, exact=0.8, teacher=0.85):
    student = ModelEntry(
        name="s", role="student", metrics=Metrics(exact_match=about(exact, 0.03)),
        against_teacher=TeacherComparison(teacher="t", difference=gap),
    )  # fmt: skip
    return [ModelEntry(name="t", role="teacher", metrics=Metrics(exact_match=about(teacher, 0.005))), student]


BELOW, REACHED = about(-0.05, 0.02), about(0.005, 0.01, n=2000)


@pytest.mark.parametrize(
    ("word", "entries", "parts", "said"),
    [
        ("unknown", models(BELOW), {}, "What twice the data would bring is not known"),
        ("data", models(BELOW), {"curve": CURVE, "copies": FRESH}, "at least the 0.01"),
        ("larger_student", models(BELOW), {"curve": CURVE, "copies": STALE, **SMALLER}, "new ones mostly repeat"),
        ("larger_student", models(BELOW), {"curve": FLAT, "copies": FRESH, **SMALLER}, "which is below the 0.01"),
        ("stop", models(BELOW), {"curve": FLAT, "copies": FRESH, **EQUAL}, "l has +0.001"),
        ("unknown", models(BELOW), {"curve": FLAT, "copies": FRESH}, "one size of student"),
        ("labels", models(BELOW), noise(0.25, 0.01), "as good as its labels"),
        ("teacher", models(REACHED), noise(0.005, 0.004), "has reached its teacher"),
        ("labels", models(REACHED), noise(0.05, 0.02), "learnt answers are wrong"),
        ("stop", models(REACHED, exact=0.998, teacher=0.998), {}, "has reached its teacher"),
        ("unknown", models(None), {}, "no teacher to compare"),
    ],
)  # fmt: skip
def test_advice_is_one_word_with_the_numbers_that_say_so(word, entries, parts, said):
    found = advice.concluded(Worth(**parts), entries, run="runs/x").advice
    assert (found.word, found.student) == (word, "s") and said in " ".join(found.why)
    assert all("RUN" not in command or "CONTRACT" in command for command in found.run)
    assert bool(found.run) == (word == "unknown") or word == "teacher"


def test_missing_curve_names_the_command():
    found = advice.concluded(Worth(), models(BELOW), run="runs/x").advice
    assert found.run == ("rayleigh ablate runs/x --curve",)


def test_gain_that_is_open_asks_for_more_seeds():
    wide = CURVE.model_copy(update={"next_gain": about(0.012, 0.02)})
    found = advice.concluded(Worth(curve=wide, copies=FRESH), models(BELOW), run="r").advice
    assert found.word == "unknown" and found.run == ("rayleigh ablate r --curve --seeds 6",)


def test_student_that_is_dearer_than_the_teacher_stops_all():
    terms = Terms(Price(per_machine_hour=3600), 50.0, None, DRAWS)
    dear, teacher = requests([1] * 50, seconds=0.6), requests([1] * 50, seconds=0.5)
    found = payback("s", dear, teacher, np.zeros(50), terms, [""] * 50)
    worth = advice.concluded(Worth(paybacks=(found,), cost=RunCost(currency="EUR"), curve=CURVE), models(BELOW), run="r")
    assert worth.advice.word == "stop" and "never pays back" in worth.advice.why[0]
    assert worth.advice.why[0] in advice.findings(worth)


def test_no_student_no_advice():
    worth = advice.concluded(Worth(), [], run="r")
    assert worth.advice.word == "unknown" and worth.signals == ()


def test_findings_name_what_fired_and_what_hurts():
    effects = [
        BucketEffect(kind="pool", value=verdict, what="", examples=9, effect=about(value, 0.01), verdict=verdict)
        for verdict, value in (("hurts", -0.1), ("helps", 0.1), ("adds_nothing", 0.0), ("unclear", 0.0))
    ]
    found = Attribution(
        run="r", student="s", seeds=3, epochs=1, dataset="d", examples=9, prompts=N, clusters=N, level=0.95, worth=0.01,
        controls=[], buckets=effects,
    )  # fmt: skip
    worth = advice.concluded(Worth(attribution=found, copies=STALE, curve=FLAT), models(REACHED), run="r")
    text = "\n".join(advice.findings(worth))
    assert "The bucket pool hurts hurts: -0.100" in text and "pool adds_nothing adds less than 0.01" in text
    assert "pool helps" not in text and "pool unclear" not in text
    assert "160 of 200 prompts" in text and "which is below the 0.01" in text and "has reached its teacher" in text


def test_difference_of_independent_shares_is_wider_than_each():
    found = difference(about(0.2, 0.03), about(0.1, 0.04))
    assert found.value == pytest.approx(0.1) and found.high - found.value == pytest.approx(0.05)


# Variants of the target


def test_targets_of_the_variants():
    row = {"kind": "answer", "target": '{"a":1}', "final": '{"a":1}', "rationale": "Because.", "limits": "not stated: b"}
    assert target("rationale", row, None) == 'Because.\n{"a":1}' and target("limits", row, None) == 'not stated: b\n{"a":1}'
    assert target("final", {**row, "target": 'Because.\n{"a":1}'}, None) == '{"a":1}'
    assert target("limits", {**row, "target": 'Because.\n{"a":1}'}, None) == 'Because.\nnot stated: b\n{"a":1}'
    assert target("written", row, ' {"a": 1} ') == '{"a": 1}'
    assert changed(row, '{"a":1}') == {"rationale", "limits"}
    assert changed({**row, "kind": "contrast"}, None) == frozenset()
