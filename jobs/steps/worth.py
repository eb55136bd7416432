"""Return and stop: gathers what the run cost, what its tables say about copies and labels, and the results of `rayleigh ablate`.

The numbers are made in `engine/evaluation`: `decompose`, `payback`, `signals`, `advice`; the record is `engine/records/worth.py`.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.budget import CAPTURE, HOUR, MILLION, ON_POLICY, REPAIR, SYNTHESIS, Price, TokenPrice
from engine.contract.contract import Contract
from engine.evaluation import payback
from engine.evaluation.advice import concluded
from engine.evaluation.cost import falls_back
from engine.evaluation.decompose import Answered, Bootstrap, concentrations, decompose
from engine.evaluation.result import EvalResult, best_teacher
from engine.inference.spending import costs
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, TokenUsage, usage_in
from engine.records.attribution import Attribution
from engine.records.base import Record
from engine.records.candidates import CandidatesMetrics
from engine.records.capture import CaptureMetrics
from engine.records.curve import LearningCurve
from engine.records.report import ModelEntry
from engine.records.worth import Copies, LabelNoise, RunCost, Worth
from engine.runs.job import JobContext
from engine.stats import intervals
from engine.stats.bootstrap import Array
from engine.stats.paired import difference
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate
from jobs.steps import labels

BUCKETS, CURVE = "ablation/buckets.json", "ablation/curve.json"
DUPLICATES = ("exact", "minhash", "semantic")
"""Reasons for which curation drops a prompt as a copy of another."""
COPIED = ("exact_copy", "near_copy")
"""The same of the job `prompts`."""
ACCEPTED = ("train", "refusal")
R = TypeVar("R", bound=Record)


def worth(context: JobContext, results: Sequence[EvalResult], models: Sequence[ModelEntry]) -> Worth:
    """Return what the run is worth, from the evaluation of its models and from its artifacts."""
    contract, section = context.contract, context.contract.evaluation
    draws = Bootstrap(section.bootstrap, section.level, section.seed)
    teacher = best_teacher(results)
    students = [result for result in results if result.target.role == "student" and not result.evaluated.error]
    dataset = context.artifact("dataset")
    cost = run_cost(context)
    found = Worth(
        level=section.level,
        worth=section.worth,
        cost=cost,
        copies=_copies(context, section.level),
        label_noise=_label_noise(context, section.level),
    )
    found = found.model_copy(update={**_capacity(students, models, draws), **measured(context.run, dataset.fingerprint)})
    if teacher and not teacher.evaluated.error:
        taught = _answered(teacher)
        terms = payback.Terms(contract.budget.price, cost.total, contract.specialist.niche.traffic, draws)
        paybacks = [_payback(each, teacher, terms, contract) for each in students]
        found = found.model_copy(
            update={
                "decompositions": tuple(decompose(_answered(each), taught, draws) for each in students),
                "concentrations": tuple(concentrations(taught, teacher.predictions, level=section.level)),
                "paybacks": tuple(each for each in paybacks if each),
            }
        )
    return concluded(found, models, run=str(context.run))


def measured(run: Folder, dataset: str) -> dict[str, Attribution | LearningCurve | None]:
    """Return the results of `rayleigh ablate` on the dataset with this fingerprint; None where there is none."""
    return {"attribution": _result(run, BUCKETS, Attribution, dataset), "curve": _result(run, CURVE, LearningCurve, dataset)}


def _result(run: Folder, name: str, kind: type[R], dataset: str) -> R | None:
    found = kind.model_validate_json(run.read(name)) if run.exists(name) else None
    return found if getattr(found, "dataset", None) == dataset else None


def _answered(result: EvalResult) -> Answered:
    clusters = [scenario or "" for scenario in result.predictions["scenario"].to_pylist()]
    return Answered.of(result.name, result.predictions, clusters)


def _capacity(students: Sequence[EvalResult], models: Sequence[ModelEntry], draws: Bootstrap) -> dict[str, object]:
    """Return how much better the largest student is than the next smaller one; exports have their student's size."""
    sizes = {model.name: model.parameters for model in models if model.parameters and not model.exported_from}
    ranked = sorted((each for each in students if each.name in sizes), key=lambda each: -(sizes[each.name] or 0))
    smaller = [each for each in ranked[1:] if sizes[each.name] != sizes[ranked[0].name]]
    if not smaller:
        return {}
    larger, other = ranked[0], smaller[0]
    gain = draws.estimate(difference(larger.right, other.right), _answered(larger).clusters)
    return {"capacity": gain, "sizes": (larger.name, other.name)}


def _payback(student: EvalResult, teacher: EvalResult, terms: payback.Terms, contract: Contract) -> payback.Payback | None:
    above = contract.specialist.niche.answer_above
    remote = any(each.name == teacher.name and each.model.type == "endpoint" for each in contract.teachers.models)
    own = _requests(student, np.zeros(2), remote=False)
    price = terms.price.of(teacher.name)
    taught = _requests(teacher, np.array([price.per_1m_in, price.per_1m_out]) / MILLION, remote=remote)
    fallback = falls_back(*_columns(student), above).astype(np.float64)
    return payback.payback(student.name, own, taught, fallback, terms, _answered(student).clusters)


def _columns(result: EvalResult) -> tuple[Array, Array]:
    """Return confidence and soundness of each answer, as `engine.evaluation.cost.Served` has them."""
    columns = result.predictions.select(["confidence", "finish_reason"]).to_pydict()
    confidence = np.array([np.nan if value is None else value for value in columns["confidence"]], dtype=np.float64)
    return confidence, np.array([reason == "stop" for reason in columns["finish_reason"]], dtype=np.float64)


def _requests(result: EvalResult, token_prices: Array, *, remote: bool) -> payback.Requests:
    columns = result.predictions.select(["tokens_in", "tokens_out"]).to_pydict()
    tokens = np.column_stack([columns["tokens_in"], columns["tokens_out"]]).astype(np.float64)
    seconds = np.full(len(tokens), np.nan)
    for row, spent in result.evaluated.seconds.items():
        seconds[row] = 0.0 if remote else spent
    return payback.Requests(result.right, seconds, tokens @ token_prices)


def run_cost(context: JobContext) -> RunCost:
    """Return what the run cost: answers as rows, other models as this run folder paid them, trainings by their seconds."""
    price, candidates = context.contract.budget.price, context.artifact("candidates")
    dataset, prompts = context.artifact("dataset"), context.artifact("prompts")
    taught, judged = (usage_in(context.ledger / name) for name in (TEACHER_TOKENS, JUDGE_TOKENS))
    synthesis = prompts.record.metrics.get("synthesis") or {}
    written = TokenUsage(0, synthesis.get("tokens_in", 0), synthesis.get("tokens_out", 0))
    num_labels = _num_labels(context)

    def money(payee: str, usage: TokenUsage) -> float:
        return price.money(payee, usage.tokens_in, usage.tokens_out, 0.0)

    captured = _captured(context, taught.get(CAPTURE, TokenUsage()))
    parts = {
        "teachers": sum(each.money for each in costs(candidates.record.metrics, dataset.record.metrics, price)),
        "synthesis": money(SYNTHESIS, written),
        "judges": sum(money(payee, usage) for payee, usage in judged.items()),
        "derived": money(REPAIR, taught.get(REPAIR, TokenUsage())) + sum(money(*each) for each in captured.items()),
        "training": _training(context) / HOUR * price.per_machine_hour,
        "labels": num_labels * price.per_label,
    }
    parts = {name: round(value, 6) for name, value in parts.items()}
    without = ["machine time of judges, synthesis, deduplication and the report"]
    without += ["labels of persons, as budget.price.per_label is 0"] if num_labels and not price.per_label else []
    others = [(SYNTHESIS, written), (REPAIR, taught.get(REPAIR, TokenUsage())), *judged.items(), *captured.items()]
    without += _unpriced(price, others)
    without += _elsewhere(context.contract, taught)
    return RunCost(
        currency=price.currency, **parts, num_labels=num_labels, total=round(sum(parts.values()), 6), without=tuple(without)
    )


def _captured(context: JobContext, usage: TokenUsage) -> dict[str, TokenUsage]:
    """Return teacher -> its part of the tokens of the capture, by what each has read; all under CAPTURE if that is not known."""
    artifact = load_artifact(context.run / CAPTURE) if usage.tokens else None
    read = {name: each.tokens_read for name, each in artifact.metrics(CaptureMetrics).teachers.items()} if artifact else {}
    total = sum(read.values())
    if not total:
        return {CAPTURE: usage}
    return {name: TokenUsage(*(round(value * tokens / total) for value in usage)) for name, tokens in read.items()}


def _unpriced(price: Price, usage: Sequence[tuple[str, TokenUsage]]) -> list[str]:
    """Return what `without` says of tokens without a price; none where no tokens have one, as those of models on own machines."""
    free = [payee for payee, used in usage if used.tokens and price.of(payee) == TokenPrice()] if price.teachers else []
    return [f"tokens of {', '.join(free)}, as budget.price.tokens is 0"] if free else []


def _elsewhere(contract: Contract, taught: Mapping[str, TokenUsage]) -> list[str]:
    """Return what `without` says of tokens that no part has."""
    servers = [teacher.name for teacher in contract.teachers.models if teacher.model.type == "endpoint"]
    found = ["tokens of teachers that score on-policy samples"] if taught.get(ON_POLICY, TokenUsage()).tokens else []
    return found + ([f"answers to the holdout of {', '.join(servers)}"] if servers else [])


def _training(context: JobContext) -> float:
    """Return the machine seconds of the students' trainings, those of all seeds."""
    seconds = 0.0
    for student in context.contract.students:
        artifact = load_artifact(context.run / f"students/{student.name}")
        metrics = artifact.record.metrics if artifact else {}
        spent = [each["seconds"] for each in metrics.get("seeds", ())] or [metrics.get("seconds", 0.0)]
        seconds += sum(spent) * metrics.get("workers", 1)
    return seconds


def _num_labels(context: JobContext) -> int:
    holdout, gold = context.contract.prompts.holdout, context.contract.judges.calibrate
    by_hand = context.artifact("prompts").table("holdout").rows if holdout.labels == "human" else 0
    return len(labels.read(context.run)) + by_hand + (len(gold.gold) if gold else 0)


def _copies(context: JobContext, level: float) -> Copies | None:
    """Return the copies among the prompts that were written, or, without any, among those of the sources."""
    prompts, dataset = context.artifact("prompts"), context.artifact("dataset")
    kept, copies = {"": set[str](), "synthesis": set[str]()}, {"": set[str](), "synthesis": set[str]()}
    tables = ((prompts, "dropped", COPIED), (dataset, "picked", DUPLICATES))
    for artifact, name, reasons in tables:
        table = artifact.record.tables.get(name)  # older runs have no table of dropped prompts
        for piece in iterate(artifact.folder / name, table, ["prompt_id", "source", "dropped_by"]) if table else ():
            for row in piece.to_pylist():
                side = "synthesis" if (row["source"] or "").startswith("synthesize/") else ""
                (copies if row["dropped_by"] in reasons else kept)[side].add(row["prompt_id"])
    side = "synthesis" if kept["synthesis"] | copies["synthesis"] else ""
    found, every = copies[side], copies[side] | kept[side]
    share = intervals.proportion(len(found), len(every), level=level)
    return share and Copies(source=side or "sources", copies=len(found), prompts=len(every), share=share)


def _label_noise(context: JobContext, level: float) -> LabelNoise | None:
    """Return how often the answers that are learnt are wrong: by persons where they reviewed some, else by the confidence."""
    reviewed = {answer: each["label"] for answer, each in labels.read(context.run).items()}
    candidates, dataset = context.artifact("candidates"), context.artifact("dataset")
    hits = total = 0
    for piece in iterate(candidates.folder / "candidates", candidates.table("candidates"), ["answer_id", "pool"]):
        accepted = piece.filter(pc.is_in(piece["pool"], pa.array(ACCEPTED)))
        found = [reviewed[answer] for answer in accepted["answer_id"].to_pylist() if answer in reviewed]
        total, hits = total + len(found), hits + sum(label != "right" for label in found)
    if total >= intervals.MIN_VALUES:
        share = intervals.proportion(hits, total, level=level)
        return share and LabelNoise(source="persons", share=share)
    judge = candidates.metrics(CandidatesMetrics).judge
    if judge is None or not judge.decides:  # else its confidence is no probability of being right
        return None
    pieces = iterate(dataset.folder / "picked", dataset.table("picked"), ["confidence", "dropped_by"])
    kept = [piece.filter(pc.equal(piece["dropped_by"], ""))["confidence"].drop_null().to_numpy() for piece in pieces]
    share = intervals.mean(1 - np.concatenate(kept).astype(np.float64), level=level) if kept else None
    return share and LabelNoise(source="confidence", share=share)
