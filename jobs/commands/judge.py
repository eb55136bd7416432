"""`rayleigh judge`: the judge alone, on labelled items: what its marks are worth, what it looks at that it should not.

What that costs is paid into the ledger of RUN, so that `rayleigh run` with the same judge and items pays for none of it again.

`rayleigh judge CONTRACT --gold FILE --json` prints

    contract, name      the contract's and the judge's
    gates, why          whether its confidence may decide; why not
    bound_to            what was measured: judge (its hash), models and rubrics (by name), gold (hash, items), settings (hash),
                        threshold (`judges.accept.confidence`), references (whether it was shown the right answers)
    curve, folds        the map from score to probability; in how many turns the numbers were cross-fitted, 1: not at all
    agreement           kappa, sensitivity, specificity, auc, ece, pairs, errors {kind: share that is stopped}, each
                        {value, low, high, n}; threshold, base_rate, counts, bins
    audit               one object a probe: probe, value, low, high, n, limit, why, and found: within, unclear, beyond, measured
                        (no limit) or unmeasured
    items               each labelled item: id, label, error, score, confidence
    tokens              what was paid by now for judges in the folder RUN
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.calibration import judge_calibration
from engine.calibration.judge_calibration import JudgeCalibration
from engine.contract import Contract
from engine.contract.load import parse, read_include
from engine.errors import ContractError
from engine.inference.token_budget import usage_in
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge
from jobs import workspace
from jobs.pipeline import line
from jobs.steps.judging import grader_spec
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

FOLDER = "judge"
SHOWN = ("kappa", "sensitivity", "specificity", "auc", "ece", "pairs")


def judge(path: str, run: str | None, *, gold: str | None, profile: str, changes: Sequence[str]) -> dict[str, Any]:
    """Return the object that the module describes; what is paid lies in `runs/NAME` if no run folder is given.

    Raises:
        ContractError: the contract has no rubric, or there are no labelled items.
        InputError: the judge could read none of them, or only those of one label.
    """
    work = workspace.create(path, run or "", profile=profile, changes=changes)
    if not run:
        work = replace(work, folder=workspace.run_folder(f"runs/{work.contract.name}"))
    if gold:
        work = replace(work, contract=with_gold(work.contract, Path(gold)))
    with workspace.locked(work.folder):
        bar = _bar(work)
        found = judge_calibration.learnt(Judge(bar)) or _learn(work, bar)
    spent = sum(one.tokens for one in usage_in(bar.budget).values())
    return {"contract": work.contract.name, "name": Judge(bar).name, **found.model_dump(), "tokens": spent}


def with_gold(contract: Contract, gold: Path) -> Contract:
    """Return `contract` with the labelled items of the file `gold` in place of its own.

    Raises:
        ContractError: the file cannot be read, or an item is not one.
    """
    raw = contract.model_dump(mode="json")
    raw["judges"]["calibrate"] = {**(raw["judges"]["calibrate"] or {}), "gold": read_include(gold)}
    return parse(Contract, raw, where=gold)


def _bar(work: Workspace) -> GraderSpec:
    jobs = {job.name: job for job in line(work.contract)}
    bar = grader_spec(work.context(jobs["candidates"], log=lambda text: None, progress=lambda text: None))
    if not bar.section.rubrics or not bar.section.calibrate:
        raise ContractError(
            f"judges: mode {work.contract.teachers.mode} asks {len(bar.section.rubrics)} rubrics, and "
            f"{'there are' if bar.section.calibrate else 'there are no'} labelled items; both are needed. "
            "Add `rubrics` and another mode than direct, and `calibrate.gold` or --gold."
        )
    return bar


def _learn(work: Workspace, bar: GraderSpec) -> JudgeCalibration:
    from jobs.commands.run import at_work

    apart = replace(work, folder=work.folder / FOLDER)  # the run's own order stays as it is
    with at_work(apart, Console(sys.stderr)):
        from engine.grading.flow import learn

        bar.markers.remove()  # who died in an earlier attempt says nothing about this one
        found = learn(bar)
    assert found
    return found


def as_text(found: dict[str, Any]) -> str:
    """Return a short table: each number with its interval, each probe with its limit, and whether the judge may decide."""
    bound, numbers = found["bound_to"], found["agreement"]
    shown = " with their references" if bound["references"] else " without references"
    head = f"{found['contract']}: {found['name']} on {bound['gold']['items']} labelled items{shown}, {found['tokens']} tokens paid."
    fitted = f"cross-fitted in {found['folds']} folds" if found["folds"] > 1 else "fitted on the very items, too few for folds"
    rows = [[name, *_ends(numbers.get(name))] for name in SHOWN if numbers.get(name)]
    rows += [[f"stops {kind}", *_ends(one)] for kind, one in numbers["errors"].items()]
    probes = [[one["probe"], *_ends(one), one["limit"], one["why"] or one["found"]] for one in found["audit"]]
    word = "It may decide." if found["gates"] else "It annotates, it decides nothing: " + "; ".join(found["why"]) + "."
    parts = [
        head,
        columns(rows, head=["number", "value", "low", "high", "items"]),
        columns(probes, head=["probe", "value", "low", "high", "items", "limit", ""]) if probes else "",
        f"Right is what reaches a confidence of {numbers['threshold']:g}; all but auc and pairs: {fitted}.\n{word}",
    ]
    return "\n\n".join(part for part in parts if part)


def _ends(one: dict[str, Any] | None) -> list[Any]:
    if one is None or one["value"] is None:
        return [None, None, None, 0]
    return [f"{one[name]:.3f}" for name in ("value", "low", "high")] + [one["n"]]
