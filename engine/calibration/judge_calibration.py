"""A judge as an instrument: its curve, its error bars, its audit, and whether it may decide. Learnt once, before it decides.

What is learnt is a file of the ledger, and says by name and hash what it is bound to: models, rubrics, labelled items, settings.
A judge of which any of these differs learns anew; the questions that are the same cost nothing.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from engine.calibration import audit as probes
from engine.calibration.curve import Curve, agreement, below, by_error, cross_fitted, fit
from engine.contract.judges import Audit, Calibrate, GoldItem
from engine.errors import InputError
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge, Pair
from engine.judges.rubric import Case
from engine.rows import content_id
from engine.stats import intervals


class JudgeCalibration(BaseModel):
    """What was learnt of a judge."""

    model_config = ConfigDict(frozen=True)

    bound_to: dict[str, Any]
    """judge (its hash), models and rubrics (name -> hash), gold (hash and items), settings (hash), threshold, references."""
    curve: Curve
    folds: int
    """The numbers of `agreement` but for the AUC are of curves that did not see the item, fitted in so many turns; 1: they did."""
    agreement: dict[str, Any]
    """See `calibrate.agreement`; and errors: kind -> share that is stopped, pairs: share in which right beats wrong."""
    audit: list[dict[str, Any]]
    """See `audit.judged`; empty where the contract asks for none."""
    items: list[dict[str, Any]]
    """Each labelled item: id, label, error, score, confidence (cross-fitted); null where the judge cannot be read."""
    gates: bool
    """Whether the confidence may decide."""
    why: list[str]
    """Why not."""


def name_of(judge: Judge) -> str:
    """Return the file of the ledger in which the instrument of this very judge is, once it is learnt."""
    return f"instrument-{content_id(json.dumps(_bound_to(judge), sort_keys=True))}.json"


def learnt(judge: Judge) -> JudgeCalibration | None:
    """Return the instrument if somebody has learnt it."""
    name = name_of(judge)
    return JudgeCalibration.model_validate_json(judge.spec.ledger.read(name)) if judge.spec.ledger.exists(name) else None


def learn(judge: Judge) -> JudgeCalibration | None:
    """Return the instrument, learnt now if nobody has; None if the contract has no labelled items.

    The labelled items are marked as answers are: what kills a model is set apart, and each question is paid once. They are marked
    whatever the budget says, since nothing that is marked later means anything without them; the token budget counts them.

    Raises:
        InputError: the items that the judge could read are all right, or all wrong.
    """
    section = judge.section.calibrate
    if section is None:
        return None
    return learnt(judge) or _learn(judge, section)


def about(bar: GraderSpec) -> dict[str, Any] | None:
    """Return what a run says of its judge; None without one, or if nothing was worth its time.

    name, gates, why, and of what was learnt bound_to, curve, folds, agreement, audit; {} and [] where nothing was.
    """
    if not bar.section.rubrics:
        return None
    judge = Judge(bar)
    found = learnt(judge) if bar.section.calibrate else None
    if found is None:
        bound = {"judge": judge.identity}
        return {
            "name": judge.name,
            "gates": True,
            "why": [],
            "bound_to": bound,
            "curve": {},
            "folds": 0,
            "agreement": {},
            "audit": [],
        }
    return {"name": judge.name, **found.model_dump(exclude={"items"})}


def _learn(judge: Judge, section: Calibrate) -> JudgeCalibration:
    threshold = judge.section.accept.confidence
    scores = _scores(judge, section.gold)
    read = [index for index, score in enumerate(scores) if score is not None]
    if not read:
        raise InputError(
            f"judges.rubrics: {judge.name} could not be read on any of the {len(scores)} items of judges.calibrate.gold."
        )
    values = np.array([scores[index] for index in read], dtype=float)
    right = np.array([section.gold[index].label == "right" for index in read])
    curve = fit(values, right, section.method)
    confidence, folds = cross_fitted(values, right, [section.gold[index].input for index in read], section)
    numbers = agreement(values, confidence, right, threshold)
    numbers["errors"] = by_error([section.gold[index].error for index in read], (confidence >= threshold).tolist())
    found, numbers["pairs"] = _audit(judge, section.gold, judge.section.audit)
    why = below(section.floor, numbers) + probes.accusations(found)
    known = dict(zip(read, confidence.tolist(), strict=True))
    instrument = JudgeCalibration(
        bound_to=_bound_to(judge),
        curve=curve,
        folds=folds,
        agreement=numbers,
        audit=found,
        items=[_item(item, scores[index], known.get(index)) for index, item in enumerate(section.gold)],
        gates=not why,
        why=why,
    )
    judge.spec.ledger.write(name_of(judge), instrument.model_dump_json(indent=1).encode())
    return instrument


def _audit(judge: Judge, gold: Sequence[GoldItem], section: Audit | None) -> tuple[list[dict[str, Any]], intervals.Estimate]:
    """Return the verdict of each probe, and how often a right answer beats a wrong one, if pairs are compared at all."""
    if section is None:
        return [], None
    level = probes.level_for(len(probes.PROBES))
    items = probes.sample(gold, section.items)
    forth, back = _both_orders(judge, items)
    found = {name: intervals.mean(values, level=level) for name, values in _shapes(judge, items, section).items()}
    found["position"] = intervals.mean(probes.position(forth, back), level=level)
    found["self_preference"] = probes.own_family(gold, _scores(judge, gold), judge.rubrics, level=level)
    why = {"self_preference": "too few labelled items say which model wrote them"}
    if judge.section.ranker is None:
        why["position"] = "no pairs are compared"
    return probes.judged(found, section, why), _pairs(items, forth, back)


def _shapes(judge: Judge, items: Sequence[GoldItem], section: Audit) -> dict[str, np.ndarray]:
    """What scores gain in other shapes. Longer and shorter ones are of wrong answers: they stay wrong, any gain is a bias."""
    wrong = [item for item in items if item.label == "wrong"]
    before, low = _scores(judge, items), _scores(judge, wrong)
    reworded = [_scores(judge, items, wording=wording) for wording in section.wordings]
    return {
        "padded": probes.gains(low, _scores(judge, wrong, shape=probes.padded)),
        "shortened": probes.gains(low, _scores(judge, wrong, shape=probes.shortened)),
        "paraphrase": probes.shifts(before, reworded),
    }


def _scores(
    judge: Judge, items: Sequence[GoldItem], *, shape: Callable[[str], str] = str, wording: str = "{question}"
) -> list[float | None]:
    cases = [case_of(item, judge) for item in items]
    shown = [case._replace(answer=shape(case.answer)) for case in cases]
    return [marked.score for marked in judge.score(shown, wording=wording, capped=False)]


def _both_orders(judge: Judge, items: Sequence[GoldItem]) -> tuple[list[Any], list[Any]]:
    """What is said of each item and its rival, the item first and the item second; nothing where no pairs are compared."""
    if judge.section.ranker is None:
        return [], []
    cases = [case_of(item, judge) for item in items]
    rivals = [probes.rival_of(items, index) for index in range(len(items))]
    forth = [Pair(case, rival) for case, rival in zip(cases, rivals, strict=True)]
    back = [Pair(case._replace(answer=rival), case.answer) for case, rival in zip(cases, rivals, strict=True)]
    said = [reply.probs for reply in judge.compare([*forth, *back], capped=False)]
    return said[: len(forth)], said[len(forth) :]


def _pairs(items: Sequence[GoldItem], forth: Sequence[Any], back: Sequence[Any]) -> intervals.Estimate:
    read = [
        one[1] + other[0] > one[0] + other[1]  # the rival of a wrong answer is the right one
        for item, one, other in zip(items, forth, back, strict=False)
        if item.label == "wrong" and item.reference and one and other
    ]
    return intervals.share(sum(read), len(read))


def case_of(item: GoldItem, judge: Judge) -> Case:
    """Return a labelled item as answers are shown to the judge: with its reference only if the prompts come with theirs."""
    reference = item.reference if judge.spec.references else None
    return Case(content_id(item.input), item.input, item.answer, reference or "", item.task_unit)


def _bound_to(judge: Judge) -> dict[str, Any]:
    section = judge.section
    assert section.calibrate
    gold = [item.model_dump_json() for item in section.calibrate.gold]
    settings = (
        section.calibrate.model_dump_json(exclude={"gold"}),
        section.audit and section.audit.model_dump_json(exclude={"rules"}),
    )
    return {
        "judge": judge.identity,
        "models": {one.name: {"path": one.model.path, "hash": judge.clients[one.name].client.identity} for one in judge.rubrics},
        "rubrics": {one.name: content_id(one.model_dump_json(exclude={"model", "name"})) for one in judge.rubrics},
        "gold": {"hash": content_id(*gold), "items": len(gold)},
        "settings": content_id(*settings),
        "threshold": section.accept.confidence,
        "references": judge.spec.references,
    }


def _item(item: GoldItem, score: float | None, confidence: float | None) -> dict[str, Any]:
    said = {"score": score, "confidence": confidence}
    return {"id": content_id(item.input, item.answer), "label": item.label, "error": item.error, **said}
