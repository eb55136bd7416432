"""Calibration of a judge on labelled items: its curve, its agreement with the labels, its audit, and whether it may decide.

The result is a file of the judgements' ledger, named by a hash of all that it is valid for (`JudgeBinding`). A judge of which any
part differs is calibrated anew; questions that the ledger knows cost nothing.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np

from engine.calibration import audit as probes
from engine.calibration import curve as curves
from engine.contract.judges import Audit, Calibrate, GoldItem
from engine.contract.renames import older_json
from engine.errors import InputError
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge, Pair
from engine.judges.rubric import Case
from engine.records.estimate import Estimate
from engine.records.judge import AuditProbe, GoldIdentity, JudgeBinding, JudgeCalibration, JudgeMetrics, LabelledItem, ModelIdentity
from engine.rows import content_id
from engine.stats import intervals

Shares = Sequence[float] | None  # probabilities that the first answer is better, the second, neither; None: unreadable


def load(judge: Judge) -> JudgeCalibration | None:
    """Return the calibration of this judge from the ledger; None if there is none."""
    ledger = judge.spec.client.ledger
    for kind in ("calibration", "instrument"):  # the older name
        if ledger.exists(name := f"{kind}-{_binding_id(judge)}.json"):
            return JudgeCalibration.model_validate_json(ledger.read(name))
    return None


def calibrate(judge: Judge) -> JudgeCalibration | None:
    """Return the calibration of this judge, measured now if the ledger has none; None if the contract has no labelled items.

    Labelled items are scored as answers are: crashes are isolated and each question is paid once. The budget does not stop it,
    because no later score means anything without it, but its tokens are counted.

    Raises:
        InputError: the judge could read none of the items, or only items of one label.
    """
    section = judge.section.calibrate
    return (load(judge) or _measure(judge, section)) if section else None


def judge_metrics(spec: GraderSpec) -> JudgeMetrics | None:
    """Return the judge's entry in a run's metrics; None without a judge, or if no answer was good enough to be judged."""
    if not spec.has_judge:
        return None
    judge = Judge(spec)
    calibration = load(judge) if spec.section.calibrate else None
    if calibration is None:
        return JudgeMetrics(name=judge.name, decides=True, bound_to=JudgeBinding(judge=judge.identity))
    return JudgeMetrics(name=judge.name, **dict(calibration))


def _measure(judge: Judge, section: Calibrate) -> JudgeCalibration:
    threshold = judge.section.accept.confidence
    scores = _scores(judge, section.gold)
    read = [index for index, score in enumerate(scores) if score is not None]
    if not read:
        raise InputError(
            f"judges.rubrics: {judge.name} could not be read on any of the {len(scores)} items of judges.calibrate.gold. "
            "Use a judge that answers with one token of the rubric's scale."
        )
    values = np.array([scores[index] for index in read], dtype=float)
    right = np.array([section.gold[index].label == "right" for index in read])
    curve = curves.fit(values, right, section.method)
    confidence, folds = curves.cross_fit(values, right, [section.gold[index].input for index in read], section)
    audit, pairs = audited(judge, section.gold, judge.section.audit)
    errors = curves.stopped_by_error([section.gold[index].error for index in read], (confidence >= threshold).tolist())
    agreement = curves.agreement(values, confidence, right, threshold).model_copy(update={"errors": errors, "pairs": pairs})
    why = curves.shortfalls(section.minimum, agreement) + probes.accusations(audit)
    confidences = dict(zip(read, confidence.tolist(), strict=True))
    calibration = JudgeCalibration(
        bound_to=binding(judge),
        curve=curve,
        folds=folds,
        agreement=agreement,
        audit=tuple(audit),
        items=tuple(_item(item, scores[index], confidences.get(index)) for index, item in enumerate(section.gold)),
        decides=not why,
        why=tuple(why),
    )
    return save(judge, calibration)


def save(judge: Judge, calibration: JudgeCalibration) -> JudgeCalibration:
    """Write the calibration of this judge to the ledger, and return it."""
    judge.spec.client.ledger.write(f"calibration-{_binding_id(judge)}.json", calibration.model_dump_json(indent=1).encode())
    return calibration


def audited(judge: Judge, gold: Sequence[GoldItem], section: Audit | None) -> tuple[list[AuditProbe], Estimate | None]:
    """Return the probes, and the share of pairs in which a right answer beats a wrong one."""
    if section is None:
        return [], None
    level = probes.level_for(len(probes.PROBES))
    items = probes.sample(gold, section.items)
    forward, backward = _both_orders(judge, items)
    estimates = {name: intervals.mean(values, level=level) for name, values in _changes(judge, items, section).items()}
    estimates["position"] = intervals.mean(probes.position(forward, backward), level=level)
    estimates["self_preference"] = probes.self_preference(gold, _scores(judge, gold), judge.rubrics, level=level)
    why = {"self_preference": "too few labelled items state which model wrote them"}
    if judge.section.ranker is None:
        why["position"] = "no pairs are compared"
    return probes.judge_probes(estimates, section, why), _preferred(items, forward, backward)


def _changes(judge: Judge, items: Sequence[GoldItem], section: Audit) -> dict[str, np.ndarray]:
    """Return how scores change with the form. Longer and shorter answers are of wrong ones: they stay wrong, any gain is a bias."""
    wrong = [item for item in items if item.label == "wrong"]
    before, of_wrong = _scores(judge, items), _scores(judge, wrong)
    reworded = [_scores(judge, items, wording=wording) for wording in section.wordings]
    return {
        "padded": probes.gains(of_wrong, _scores(judge, wrong, change=probes.padded)),
        "shortened": probes.gains(of_wrong, _scores(judge, wrong, change=probes.shortened)),
        "paraphrase": probes.shifts(before, reworded),
    }


def _scores(
    judge: Judge, items: Sequence[GoldItem], *, change: Callable[[str], str] = str, wording: str = "{question}"
) -> list[float | None]:
    """Return the score of each item, its answer passed through `change`; None where the judge's reply cannot be read."""
    cases = [case_of(item, judge) for item in items]
    changed = [case._replace(answer=change(case.answer)) for case in cases]
    return [scored.score for scored in judge.score(changed, wording=wording, capped=False)]


def _both_orders(judge: Judge, items: Sequence[GoldItem]) -> tuple[list[Shares], list[Shares]]:
    """Compare each item with its rival, the item first and the item second; empty where no pairs are compared."""
    if judge.section.ranker is None:
        return [], []
    cases = [case_of(item, judge) for item in items]
    rivals = [probes.rival_of(items, index) for index in range(len(items))]
    forward = [Pair(case, rival) for case, rival in zip(cases, rivals, strict=True)]
    backward = [Pair(case._replace(answer=rival), case.answer) for case, rival in zip(cases, rivals, strict=True)]
    shares: list[Shares] = [reply.probs for reply in judge.compare([*forward, *backward], capped=False)]
    return shares[: len(forward)], shares[len(forward) :]


def _preferred(items: Sequence[GoldItem], forward: Sequence[Shares], backward: Sequence[Shares]) -> Estimate | None:
    """Return the share of wrong answers that lose to their reference over both orders."""
    wins = [
        first[1] + second[0] > first[0] + second[1]
        for item, first, second in zip(items, forward, backward, strict=False)
        if item.label == "wrong" and item.reference and first and second
    ]
    return intervals.proportion(sum(wins), len(wins))


def case_of(item: GoldItem, judge: Judge) -> Case:
    """Return a labelled item as answers are shown to the judge: with its reference only if the prompts of the run have some."""
    reference = item.reference if judge.spec.references else None
    return Case(content_id(item.input), item.input, item.answer, reference or "", item.task_unit)


def binding(judge: Judge) -> JudgeBinding:
    """Return what a calibration of this judge is valid for."""
    section = judge.section
    assert section.calibrate
    gold = [item.model_dump_json() for item in section.calibrate.gold]
    calibrate = older_json(section.calibrate, "judges.calibrate", exclude=("gold",))
    audit = section.audit and older_json(section.audit, "judges.audit", exclude=("rules",))
    rubrics = {rubric.name: older_json(rubric, "judges.rubrics.*", exclude=("model", "name")) for rubric in judge.rubrics}
    models = {rubric.name: rubric.model.path for rubric in judge.rubrics}
    return JudgeBinding(
        judge=judge.identity,
        models={name: ModelIdentity(path=path, hash=judge.clients[name].client.identity) for name, path in models.items()},
        rubrics={name: content_id(prompt) for name, prompt in rubrics.items()},
        gold=GoldIdentity(hash=content_id(*gold), items=len(gold)),
        settings=content_id(calibrate, audit),
        threshold=section.accept.confidence,
        references=judge.spec.references,
    )


def _binding_id(judge: Judge) -> str:
    return content_id(json.dumps(binding(judge).model_dump(mode="json"), sort_keys=True))


def _item(item: GoldItem, score: float | None, confidence: float | None) -> LabelledItem:
    identity = content_id(item.input, item.answer)
    return LabelledItem(id=identity, label=item.label, error=item.error, score=score, confidence=confidence)
