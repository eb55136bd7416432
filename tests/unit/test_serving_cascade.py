"""The cascade: decisions on a request, what is outside the niche, the curve, and certified thresholds of several stages."""

import numpy as np
import pytest

from engine.contract.serving import Cascade as Section
from engine.contract.serving import NicheCheck, Stage
from engine.contract.specialist import Specialist
from engine.serving import niche
from engine.serving.cascade import Attempt, Cascade, rungs_of
from engine.serving.certify import Holdout, certified, halves, outside_of
from engine.serving.curve import Graded, cascaded, curve
from engine.serving.niche import Niche, NicheModel, Verdict

STAGES = (Stage(to="xs"), Stage(to="s"), Stage(to="smol"))
SPECIALIST = Specialist.model_validate(
    {"goal": "orders", "non_goals": ["decide a refund"], "task_units": [{"name": "order", "kind": "extraction"}]}
)


def cascade(stages=STAGES, *, expired=None, students=("xs", "s"), certified=None, **section):
    rungs = rungs_of(stages, {"xs": 0.9, "s": 0.7} if certified is None else certified, expired or {}, students)
    return Cascade(Section(stages=stages, **section), rungs)


def test_sure_student_answers_and_no_other_is_asked():
    model = cascade()
    assert (step := model.next([])).action == "ask" and step.stage == "xs"
    step = model.next([Attempt("xs", "a", 0.95)])
    assert (step.action, step.stage, step.attempt.answer, step.is_end) == ("answer", "xs", "a", True)


def test_unsure_students_hand_on_and_the_last_stage_needs_no_confidence():
    model = cascade()
    attempts = [Attempt("xs", "a", 0.89), Attempt("s", "b", None)]
    assert model.next(attempts[:1]).stage == "s"
    step = model.next(attempts)
    assert step.stage == "smol" and "confidence 0.890, 0.900 is needed" in step.reason and "no confidence" in step.reason
    assert model.next([*attempts, Attempt("smol", "c")]).attempt.answer == "c"


@pytest.mark.parametrize(
    "failed",
    [Attempt("smol", None, error="timeout after 30 s"), Attempt("smol", "half", 0.99, finish_reason="length"), Attempt("smol")],
)
def test_failing_fallback_is_an_error_never_the_answer_that_was_not_sure_enough(failed):
    step = cascade().next([Attempt("xs", "a", 0.1), Attempt("s", "b", 0.2), failed])
    assert step.action == "error" and step.attempt is None and f"smol failed: {failed.why}" in step.reason


def test_failing_student_hands_on_and_a_person_takes_what_is_left():
    stages = (Stage(to="s"), Stage(to="smol", threshold=0.5), Stage(to="person"))
    model = cascade(stages, students=("s",))
    attempts = [Attempt("s", error="crash")]
    assert model.next(attempts).stage == "smol"
    step = model.next([*attempts, Attempt("smol", "b", 0.4)])
    assert (step.action, step.stage, step.is_end) == ("queue", "person", True) and "s failed: crash" in step.reason


def test_nobody_sure_is_an_abstention_or_an_error_as_the_contract_says():
    stages = (Stage(to="xs"), Stage(to="s", threshold=0.7))
    attempts = [Attempt("xs", "a", 0.1), Attempt("s", "b", 0.2)]
    assert cascade(stages).next(attempts).action == "abstain"
    assert cascade(stages, unsure="error").next(attempts).action == "error"


def test_stage_without_a_valid_certificate_is_not_asked():
    step = cascade(expired={"xs": "certified for deployment aaa, and bbb is served"}).next([])
    assert step.stage == "s" and "bbb is served" in step.reason
    step = cascade(certified={}).next([])
    assert step.stage == "smol" and "no threshold was certified" in step.reason


def test_request_outside_the_niche_is_abstained_on_or_goes_past_the_students():
    outside = Verdict(False, "language: de")
    step = cascade().next([], outside)
    assert step.action == "abstain" and "outside the niche: language: de" in step.reason
    assert cascade(niche=NicheCheck(outside="hand_on")).next([], outside).stage == "smol"


WORDS = ("order", "refund", "weather", "ship", "blue")


def embed(texts):
    counts = np.array([[1e-3 + text.count(word) for word in WORDS] for text in texts])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def model_of(section=NicheCheck(false_alarms=0.05)):  # noqa: B008
    training = [f"order {'ship ' * (index % 3)}{'blue ' * (index % 2)}please" for index in range(60)]
    return niche.fit(training, training[:40], SPECIALIST, section, embed)


def test_niche_by_rules_length_language_non_goals_and_distance():
    section = NicheCheck.model_validate(
        {"false_alarms": 0.05, "rules": [{"name": "code", "pattern": "```"}, {"name": "order", "pattern": "o|e", "inside": True}]}
    )
    check = Niche(section, ["en"], model_of(section), embed).check
    assert check("please ship my blue order") == Verdict(True)
    assert check("order ```x```").reason.startswith("rule code")
    assert check("1234").reason.startswith("rule order")
    assert check("order " * 100).reason.startswith("length: 600")
    german = "Guten Tag, ich bestelle drei blaue Tassen"
    assert Niche(section, ["en"]).check(german).reason.startswith("language: de")
    assert check("a refund, the refund").reason.startswith("non_goal")
    assert check("the weather here").reason.startswith("distance")
    assert Niche(section, ["en"]).check("the weather here").inside


def test_share_of_the_niches_own_prompts_called_outside_is_as_stated():
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(900, 8)) + 2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lookup = {str(index): vector for index, vector in enumerate(vectors)}

    def known(texts):
        return np.array([lookup.get(text, np.zeros(8)) for text in texts])

    section = NicheCheck(false_alarms=0.05, languages=False, non_goals=False, longest=None)
    names = list(lookup)
    made = niche.fit(names[:300], names[300:600], SPECIALIST, section, known)
    test = Niche(section, ["en"], made, known)
    assert np.mean([not test.check(name).inside for name in names[600:]]) <= 0.09
    few = made._replace(distances=made.distances[:10])
    assert Niche(section, ["en"], few, known).check("nowhere").inside  # ten prompts cannot tell 1 in 20


def test_prompts_that_calibrate_are_compared_with_the_others():
    section = NicheCheck(false_alarms=0.05, non_goals=False)
    training = [f"order {'ship ' * (index % 3)}please" for index in range(60)]
    calibrating = [*training[:24], "the weather here"]
    model = niche.fit(training, calibrating, SPECIALIST, section, embed)
    check = Niche(section, ["en"], model, embed)
    assert check.check("the weather here").inside  # it is as far as itself
    reasons = check.reasons(calibrating, np.ones(25, dtype=bool))
    assert reasons[-1].startswith("distance") and not any(reasons[:-1])


def test_niche_model_survives_its_file(tmp_path):
    made = model_of()
    np.savez(tmp_path / "niche.npz", **made.arrays())
    with np.load(tmp_path / "niche.npz", allow_pickle=False) as arrays:
        again = NicheModel.of_arrays(arrays)
    assert again.longest == made.longest and all((a == b).all() for a, b in zip(again[:3], made[:3], strict=True))


def graded(right, confidence, price=1.0):
    right = np.array(right, dtype=float)
    return Graded(right, np.array(confidence, dtype=float), np.ones(len(right)), np.full(len(right), price))


def test_cascade_counts_the_price_of_every_stage_that_is_asked():
    student, teacher = graded([1, 0, 1, 0], [0.9, 0.8, 0.3, np.nan]), graded([1, 1, 0, 1], [1, 1, 1, 1], price=10.0)
    outcome = cascaded([student, teacher], [0.5, None])
    assert outcome.stage.tolist() == [0, 0, 1, 1] and outcome.accepted.tolist() == [1, 0, 0, 1]
    assert outcome.price.tolist() == [1, 1, 11, 11]
    assert cascaded([student, teacher], [np.inf, None]).price.tolist() == [10] * 4
    half = student._replace(sound=np.array([0.0, 1, 1, 1]))
    assert cascaded([half, teacher], [0.5, None]).stage.tolist() == [1, 0, 1, 1]


def test_curve_goes_from_the_teacher_to_the_student_and_holds_both_alone():
    draw = np.random.default_rng(0)
    confidence = draw.random(400)
    models = {"s": graded(draw.random(400) < confidence, confidence), "t": graded(draw.random(400) < 0.8, confidence, 5.0)}
    found = curve("s", "t", models)
    covered = [point.coverage for point in found.points]
    assert covered == sorted(covered) and covered[-1] == 1 and len(covered) <= 64
    assert found.points[-1].accuracy == found.alone["s"].accuracy and found.alone["t"].cost_per_1000 == 5000
    best = max(point.accuracy for point in found.points)
    assert best > max(found.alone["s"].accuracy, found.alone["t"].accuracy)  # a surer half beats both


def world(clusters=300, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clusters), 2)
    rows = len(labels)
    models = {}
    for name, skill, price in (("xs", 0.2, 1.0), ("s", 0.8, 2.0)):
        ease = draw.normal(1.2 + skill, 1.6, rows)
        models[name] = graded(draw.random(rows) < 1 / (1 + np.exp(-1.5 * ease)), 1 / (1 + np.exp(-ease)), price)
    models["t"] = graded(draw.random(rows) < 0.85, np.ones(rows), 10.0)
    return models, Holdout([f"p{index}" for index in range(rows)], [f"c{label}" for label in labels])


def test_certified_cascade_of_two_students_is_cheaper_and_not_worse_on_other_rows():
    models, holdout = world()
    section = Section(alpha=0.15, delta=0.1, stages=tuple(Stage(to=name) for name in models))
    found = certified(models, holdout, section, {"xs": "f1", "s": "f2"})
    assert list(found.certificates) == ["xs", "s"] and found.thresholds[-1] is None
    first = found.certificates["xs"]
    assert first.threshold is not None and first.delta == 0.05 and (first.deployment, first.model) == ("f1", "xs")
    assert first.holdout == holdout.fingerprint == Holdout(holdout.ids[::-1], holdout.labels).fingerprint
    check = found.check
    assert check.n + sum(each.n for each in found.certificates.values()) <= 600 and check.clusters == 150
    assert check.risk.value <= 0.2 and check.cost_vs_fallback.high < 0.9 and check.against_fallback.high > 0
    assert sum(check.by_stage.values()) == pytest.approx(1)


def test_rows_outside_the_niche_come_to_no_student_and_into_no_certificate():
    models, holdout = world()
    outside = np.arange(600) % 5 == 0
    stages = tuple(Stage(to=name) for name in models)
    students = ("xs", "s")
    for becomes, asked, answered in (("abstain", students, 0.8), ("hand_on", students, 1.0), ("hand_on", tuple(models), 0.8)):
        section = Section(alpha=0.15, stages=stages, niche=NicheCheck(outside=becomes))
        found = certified(models, holdout, section, {}, skipped=outside_of(outside, section, list(models), asked))
        everything = certified(models, holdout, section, {}).certificates["xs"]
        assert 0.7 < found.certificates["xs"].n / everything.n < 0.9
        assert sum(found.check.by_stage.values()) == pytest.approx(answered, abs=0.05)
        assert found.check.coverage.value < 0.8


def test_a_holdout_outside_the_niche_certifies_nothing_and_says_so():
    models, holdout = world()
    section = Section(alpha=0.15, stages=tuple(Stage(to=name) for name in models))
    skipped = outside_of(np.ones(600, dtype=bool), section, list(models), ("xs", "s"))
    found = certified(models, holdout, section, {}, skipped=skipped)
    assert {each.reason for each in found.certificates.values()} == {"every prompt that could certify it is outside the niche"}


def test_own_threshold_of_the_contract_is_kept_and_not_certified():
    models, holdout = world()
    stages = (Stage(to="xs", threshold=0.97), Stage(to="s"), Stage(to="t"))
    found = certified(models, holdout, Section(alpha=0.15, stages=stages), {})
    assert found.thresholds[0] == 0.97 and list(found.certificates) == ["s"] and found.certificates["s"].delta == 0.1


def test_halves_keep_clusters_whole_and_change_with_the_seed():
    labels = [f"c{index // 3}" for index in range(90)]
    masks = [halves(labels, seed) for seed in (0, 0, 1)]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    assert masks[0].sum() == 45 and all(len(set(masks[0][start : start + 3])) == 1 for start in range(0, 90, 3))


def test_person_must_be_last():
    with pytest.raises(ValueError, match="`person` last"):
        Section(stages=(Stage(to="person"), Stage(to="s")))
