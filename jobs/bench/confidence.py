"""What the confidence of the default contract is worth, by the truth that the generator of the order mails knows and no run sees.

    python -m jobs.bench.confidence prepare FOLDER SEED          # FOLDER/contract.yaml: the default one, on other mails
    rayleigh run FOLDER/contract.yaml FOLDER/run --until candidates
    python -m jobs.bench.confidence score RUN ...                # runs of these, and of smoke.yaml itself: a line a run

AUC, calibration error and the share of right answers are over all answers that have a confidence; coverage is the share of these
that is accepted. The mails of a phrasing are not independent: intervals are too narrow by that.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from engine.checks import canonical
from engine.contract.load import load_contract
from engine.records.estimate import Estimate
from engine.rows import CANDIDATE
from engine.stats.calibration import ece_estimate
from engine.stats.discrimination import roc_auc
from engine.stats.intervals import Array, proportion
from jobs import workspace
from jobs.contracts.order_mail import generate
from jobs.terminal.console import columns

CONTRACT = generate.HERE.parent / "smoke.yaml"
USAGE = "usage: python -m jobs.bench.confidence prepare FOLDER SEED | score RUN ..."
SEED = re.compile(r"-seed-(\d+)$")  # at the end of a contract's name
READ = ["text", "answer", "confidence", "pool", "reasons", "finish_reason", "logprob", "agreement"]
ACCEPTED = ("train", "refusal")


class Worth(NamedTuple):
    """The confidences of a run against the truth."""

    answers: int
    judged: int  # answers with a confidence
    right: Estimate | None  # share of the judged ones
    auc: Estimate | None
    ece: Estimate | None
    accepted: Estimate | None  # share of the accepted ones that is right
    coverage: Estimate | None  # share of the judged ones that is accepted


def prepare(folder: Path, seed: int) -> None:
    """Write the mails of a seed, and the default contract on them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(generate.row(mail)) + "\n" for mail in mails(seed)]
    (folder / "train.jsonl").write_text("".join(rows), encoding="utf-8", newline="\n")
    raw = load_contract(CONTRACT).contract.model_dump(mode="json")
    raw["name"] = f"{raw['name']}-seed-{seed}"
    raw["prompts"]["sources"][0]["path"] = "train.jsonl"
    raw["prompts"]["holdout"]["path"] = str(generate.HERE / "holdout.jsonl")
    (folder / "contract.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")


def mails(seed: int) -> list[generate.Mail]:
    """Return the training mails of a seed; of 0 those of train.jsonl, of others as many of the same phrasings, in that order."""
    if not seed:
        return generate.train()
    drawn = [generate.draw_all("train", f"train {number} of seed {seed}") for number in range(generate.PER_PHRASING)]
    by_phrasing = {each[0].phrasing["id"]: iter(each) for each in zip(*drawn, strict=True)}
    return [next(by_phrasing[mail.phrasing["id"]]) for mail in generate.train()]


def score(run: str) -> Worth:
    """Return what the confidences of a run are worth.

    Raises:
        MissingArtifact: the run has no candidates.
    """
    work = workspace.reopen(run)
    seed = SEED.search(work.contract.name)
    truth = {mail.text: canonical(generate.compact(mail.form)) for mail in mails(int(seed[1]) if seed else 0)}
    candidates = workspace.finished(work.folder, "candidates")
    rows = candidates.read("candidates", CANDIDATE, READ).to_pylist()
    judged = [row for row in rows if row["confidence"] is not None]
    right = np.array([canonical(row["answer"]) == truth.get(row["text"]) for row in judged], bool)
    confidence = np.array([row["confidence"] for row in judged], float)
    accepted = np.array([row["pool"] in ACCEPTED for row in judged], bool)
    return Worth(
        answers=len(rows),
        judged=len(judged),
        right=_share(right),
        auc=roc_auc(confidence, right),
        ece=ece_estimate(confidence, right),
        accepted=_share(right[accepted]),
        coverage=_share(accepted),
    )


def as_text(found: Sequence[tuple[str, Worth]]) -> str:
    """Return a line for each run."""
    rows = [[name, worth.answers, worth.judged, *(_shown(each) for each in worth[2:])] for name, worth in found]
    return columns(rows, head=["run", "answers", "judged", "right", "AUC", "ECE", "right of accepted", "coverage"])


def _share(values: Array) -> Estimate | None:
    return proportion(int(values.sum()), len(values))


def _shown(estimate: Estimate | None) -> str | None:
    return estimate and f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def main(words: Sequence[str]) -> None:
    """Run the command of the module."""
    match list(words):
        case ["prepare", folder, seed]:
            prepare(Path(folder), int(seed))
        case ["score", *runs] if runs:
            print(as_text([(run, score(run)) for run in runs]))
        case _:
            raise SystemExit(USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
