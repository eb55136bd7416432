"""The confidence of answers from all evidence: calibrated on the labelled items, kept in the ledger, applied to a run's answers."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from engine.calibration import audit as probes
from engine.calibration import curve as curves
from engine.calibration import judge_calibration
from engine.checks import CheckResult
from engine.contract.judges import Calibrate
from engine.errors import InputError
from engine.evidence import features, fusion
from engine.evidence.distance import LabelledPrompts
from engine.evidence.features import Seen, is_dear
from engine.evidence.fusion import Form, Fused, Items
from engine.evidence.labelled import as_items, fields_of, in_order, labelled, unit_of
from engine.evidence.reader import Reader, client_of
from engine.evidence.worth import kinds
from engine.inference.client import ModelClient
from engine.inference.token_budget import usage_in
from engine.judges.judge import Judge, RubricScore
from engine.judges.rubric import Case
from engine.records.calibration import EvidenceFit, JudgeAgreement
from engine.records.judge import JudgeCalibration, LabelledItem
from engine.rows import Row


class Answer(NamedTuple):
    """An answer of a run, with what grading has computed."""

    row: Row  # ANSWER
    outcomes: Sequence[CheckResult]
    agreement: float | None  # share of its teacher's samples that are equal to it
    teachers: float | None  # share of the other teachers that are


class Judged(NamedTuple):
    """What is known of an answer in the end."""

    scored: RubricScore
    confidence: float | None  # None: none of the evidence is known


class Confidence:
    """Computes confidences. A rubric or reader that the model does not use is asked about the labelled items alone."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.spec, self.section = judge, judge.spec, judge.section
        evidence = judge.spec.evidence
        assert evidence and self.section.calibrate
        self.evidence, self.calibrate = evidence, self.section.calibrate
        clients: list[ModelClient] = [each.client for each in judge.clients.values()]
        self.readers: dict[str, Reader] = {}
        for name, spec in {**evidence.teachers, **evidence.readers}.items():
            self.readers[name] = reader = Reader(spec)
            reader.client.lender = client_of(spec.client, clients)
            clients.append(reader.client)
        self.reduced: dict[tuple[str, ...], Fused | None] = {}

    @cached_property
    def calibration(self) -> JudgeCalibration:
        """The calibration, measured now if the ledger has none.

        Raises:
            InputError: no evidence differs among the labelled items, or their labels are all the same.
        """
        return judge_calibration.load(self.judge) or judge_calibration.save(self.judge, self._measure())

    def __call__(self, answers: Sequence[Answer]) -> list[Judged]:
        """Return score and confidence of each answer, in order."""
        numbers = self._free(answers)
        scored = [RubricScore()] * len(answers)
        for index, (of_rubrics, dear) in self._ask(answers, numbers).items():
            scored[index], numbers[index] = of_rubrics, numbers[index] | dear
        return [Judged(*each) for each in zip(scored, self.confidences(numbers), strict=True)]

    def confidences(self, numbers: Sequence[Mapping[str, float]]) -> list[float | None]:
        """Return the confidence of answers of which these numbers are known; None where none is of use."""
        result: list[float | None] = [None] * len(numbers)
        by_model: dict[tuple[str, ...], list[int]] = {}
        for index, known in enumerate(numbers):
            by_model.setdefault(tuple(name for name in self.names if name in known), []).append(index)
        for known, indices in by_model.items():
            fused = self._model(known)
            if fused:
                x = np.array([[numbers[index][name] for name in fused.model.features] for index in indices])
                for index, value in zip(indices, fused.confidence(x).tolist(), strict=True):
                    result[index] = value
        return result

    @cached_property
    def names(self) -> list[str]:
        """The numbers that may be used."""
        return [name for kind in self._fit.kinds if not kind.why for name in kind.numbers]

    @property
    def _fit(self) -> EvidenceFit:
        assert self.calibration.evidence
        return self.calibration.evidence

    @cached_property
    def _items(self) -> Items:
        return as_items(in_order(self.calibration.items))

    @cached_property
    def _labelled_prompts(self) -> LabelledPrompts:
        gold = self.calibrate.gold
        return LabelledPrompts([item.input for item in gold], [item.group or item.input for item in gold])

    def _model(self, known: tuple[str, ...]) -> Fused | None:
        """Return the calibrated model where it can be used, else the one that is fitted without what is unknown."""
        fit = self._fit
        if set(fit.model.features) <= set(known):
            return Fused(fit.model, self.calibration.curve, Form(fit.model.features), fit.why)
        if known not in self.reduced:
            self.reduced[known] = _fused(self._items, known, self)
        return self.reduced[known]

    def _free(self, answers: Sequence[Answer]) -> list[dict[str, float]]:
        kinds = self.evidence.section.of
        texts = [answer.row["text"] for answer in answers]
        distances = self._labelled_prompts.distances(texts) if "distance" in kinds and texts else [None] * len(texts)
        return [
            features.features(
                kinds,
                Seen(
                    answer=answer.row["answer"],
                    fields=fields_of(unit_of(self.spec, answer.row["task_unit"])),
                    checks=answer.outcomes,
                    tokens=answer.row["token_logprobs"],
                    logprob=answer.row["logprob"],
                    tokens_out=answer.row["tokens_out"],
                    agreement=answer.agreement,
                    teachers=answer.teachers,
                    distance=distance,
                ),
            )
            for answer, distance in zip(answers, distances, strict=True)
        ]

    def _ask(
        self, answers: Sequence[Answer], numbers: Sequence[Mapping[str, float]]
    ) -> dict[int, tuple[RubricScore, dict[str, float]]]:
        """Return position -> score and numbers of the rubrics and readers, of the answers about which they are asked."""
        if not any(is_dear(name) for name in self._fit.model.features):
            return {}
        bounds = self.evidence.section.uncertain_between
        first = self.confidences(numbers) if bounds else [None] * len(answers)
        asked = [index for index, value in enumerate(first) if bounds is None or value is None or bounds[0] <= value <= bounds[1]]
        rows = [answers[index].row for index in asked]
        scored = self.judge.score([_case(row) for row in rows]) if self.judge.rubrics and rows else [RubricScore()] * len(rows)
        reads = {name: self.readers[name](rows, payee=name) for name in self.evidence.readers} if rows else {}
        result = {}
        for position, (index, rubrics) in enumerate(zip(asked, scored, strict=True)):
            known, dimensions = features.of_rubrics(rubrics.dimension_scores), list(rubrics.dimension_scores)
            for name, of_reader in reads.items():
                tokens = of_reader[position].tokens
                known |= features.of_reader(name, tokens)
                dimensions.append({"rubric": name, "dimension": "logprob", "score": _per_token(tokens)})
            # What is known suffices for a confidence, so an exhausted budget holds nothing up.
            result[index] = (rubrics._replace(dimension_scores=dimensions, budget_exhausted=False), known)
        return result

    def _measure(self) -> JudgeCalibration:
        every = labelled(self.judge, self.readers)
        kept = in_order(every)
        items = as_items(kept)
        reasons = fusion.usable(items)
        names = [name for name, why in reasons.items() if not why]
        known = [index for index, each in enumerate(kept) if all(name in each.evidence for name in names)]
        part = items.only(names)
        fusion.require_labels(part)
        fused, crossed = self._fuse(part), fusion.cross_fit(part, self.evidence.section, self.calibrate)
        population, threshold = part.population, self.section.accept.confidence
        passed = (crossed.confidence >= threshold).tolist()
        audit, pairs = judge_calibration.audited(self.judge, self.calibrate.gold, self.section.audit)
        agreement = _agreement(part, crossed, threshold).model_copy(
            update={"errors": curves.stopped_by_error([kept[index].error for index in known], passed), "pairs": pairs}
        )
        why = [*curves.shortfalls(self.calibrate.minimum, agreement), *probes.accusations(audit)]
        numbers = {kept[index].id: each for index, each in zip(known, zip(*crossed[:2], strict=True), strict=True)}
        reasons |= {kind: "known of no labelled item" for kind in self.evidence.section.of if not _is_named(kind, reasons)}
        fit = EvidenceFit(
            model=fused.model,
            form="one" if len(fused.model.features) == 1 else "all",
            why=fused.why,
            trained_on="labelled" if fused.form.planted or population.all() else "own",
            measured_on="labelled" if population.all() else "own",
            strength=fused.form.strength,
            items=len(part.right),
            own=int(part.own.sum()),
            failed_checks=len(every) - len(kept),
            kinds=tuple(kinds(part, reasons, list(fusion.folds(part, self.calibrate.folds)), fused.model.features, self._tokens())),
            free=self._without_dear(part, threshold),
        )
        return JudgeCalibration(
            bound_to=judge_calibration.binding(self.judge),
            curve=fused.curve,
            folds=crossed.folds,
            agreement=agreement,
            audit=tuple(audit),
            items=tuple(_with_numbers(each, numbers.get(each.id) if each.kept else None) for each in every),
            decides=not why,
            why=tuple(why),
            evidence=fit,
        )

    def _fuse(self, items: Items) -> Fused:
        return fusion.fuse(items, self.evidence.section, self.calibrate)

    def _without_dear(self, items: Items, threshold: float) -> JudgeAgreement | None:
        """Return the agreement without rubrics and readers; None if there are none, or if nothing else is known."""
        free = [name for name in items.names if not is_dear(name)]
        if not free or len(free) == len(items.names):
            return None
        part = items.only(free)
        return _agreement(part, fusion.cross_fit(part, self.evidence.section, self.calibrate), threshold)

    def _tokens(self) -> dict[str, float]:
        """Return kind -> tokens that it costs for each answer, measured on all that was asked so far."""
        usage, costs = usage_in(self.spec.client.budget), {}
        for rubric in self.judge.rubrics:
            if (paid := usage.get(rubric.name)) and paid.answers:
                costs[f"rubric:{rubric.name}"] = round(paid.tokens / paid.answers * (len(rubric.dimensions) or 1), 1)
        for name in self.evidence.readers:
            if (paid := usage.get(name)) and paid.answers:
                costs[f"reader:{name}"] = round(paid.tokens / paid.answers, 1)
        return costs


def _agreement(items: Items, crossed: fusion.CrossFitted, threshold: float) -> JudgeAgreement:
    population = items.population
    scores, confidence = crossed.scores[population], crossed.confidence[population]
    return curves.agreement(scores, confidence, items.right[population], threshold)


def _fused(items: Items, known: Sequence[str], model: Confidence) -> Fused | None:
    """Return the model of some numbers; None if it cannot be fitted."""
    if not known:
        return None
    part = items.only(known)
    useful = [name for name, why in fusion.usable(part).items() if not why]
    section: Calibrate = model.calibrate
    try:
        return fusion.fuse(part.only(useful), model.evidence.section, section) if useful else None
    except InputError:  # items of one label are left
        return None


def _with_numbers(item: LabelledItem, numbers: tuple[float, float] | None) -> LabelledItem:
    if numbers is None:
        return item
    score, confidence = numbers
    return item.model_copy(update={"score": float(score), "confidence": float(confidence)})


def _is_named(kind: str, names: Mapping[str, str]) -> bool:
    return any(features.kind_of(name) == kind for name in names)


def _per_token(tokens: Sequence[Row] | None) -> float | None:
    return math.exp(sum(token["logprob"] for token in tokens) / len(tokens)) if tokens else None


def _case(row: Row) -> Case:
    return Case(row["prompt_id"], row["text"], row["answer"], row["reference"] or "", row["task_unit"])
