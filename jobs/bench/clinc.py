"""CLINC150 (Larson et al., "An evaluation dataset for intent classification and out-of-scope prediction", EMNLP-IJCNLP 2019).

`python -m jobs.bench.clinc prepare FOLDER OUT` writes the rows of the published `data_full.json` as the contracts in
`jobs/contracts/clinc` read them: `train.jsonl` (`train`, `oos_train`) and `holdout.jsonl` (`val`, `oos_val`, `test`, `oos_test`).
`python -m jobs.bench.clinc score RUN ...` prints in-scope accuracy and out-of-scope recall on the test split, beside the paper's.

A request counts as out of scope if the model says so, or if its answer is less probable than a threshold that is chosen on the
validation split, as for the paper's `oos-threshold`: the one with the highest mean of in-scope accuracy and out-of-scope recall.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.errors import InputError, RayleighError
from engine.rows import PREDICTION, Row
from engine.stats.intervals import wilson
from jobs import places, workspace
from jobs.terminal.console import columns

OUT_OF_SCOPE = "out of scope"
PAPER = (("BERT, oos-train", 0.969, 0.403), ("BERT, oos-threshold", 0.962, 0.523))
"""Model, in-scope accuracy and out-of-scope recall on the full split, as the paper reports them in table 2."""
SPLITS = {"train": ("train", "oos_train"), "val": ("val", "oos_val"), "test": ("test", "oos_test")}
USAGE = "usage: python -m jobs.bench.clinc prepare FOLDER OUT [ROWS] | score RUN ..."


def prepare(source: Path, out: Path, rows: int | None = None) -> None:
    """Write the rows of the folder `source` as JSON lines into the folder `out`; with `rows`, that many of each published split.

    Raises:
        InputError: the folder does not hold the published file.
    """
    try:
        published = json.loads((source / "data_full.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source}/data_full.json: cannot be read: {error}. Name the folder of CLINC150 as published by its authors "
            "(github.com/clinc/oos-eval, folder data): make clinc CLINC=FOLDER"
        ) from None
    out.mkdir(parents=True, exist_ok=True)
    for name, splits in {"train": ["train"], "holdout": ["val", "test"]}.items():
        lines = [json.dumps(row, ensure_ascii=False) for split in splits for row in _rows(published, split, rows)]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(published: dict[str, list[tuple[str, str]]], split: str, most: int | None) -> Iterator[Row]:
    for part in SPLITS[split]:
        pairs = published[part]
        for text, intent in pairs if most is None else pairs[:: max(1, len(pairs) // most)][:most]:
            inside = intent != "oos"
            yield {
                "input": text,
                "reference": intent.replace("_", " ") if inside else OUT_OF_SCOPE,
                "layer": "core" if inside else "long_tail",
                "difficulty": "easy" if inside else "hard",
                "split": split,
            }


class Share(NamedTuple):
    """Hits of a number of requests."""

    hits: int
    total: int

    def __str__(self) -> str:
        if not self.total:
            return "no requests"
        low, high = wilson(self.hits, self.total)
        return f"{100 * self.hits / self.total:.1f} ({100 * low:.1f} to {100 * high:.1f})"


class Answered(NamedTuple):
    """One model's answers to one split."""

    answer: np.ndarray  # (n,) text
    reference: np.ndarray  # (n,) text
    confidence: np.ndarray  # (n,) probability of the whole answer, 0 where the model gives none

    def shares(self, threshold: float = 0.0) -> tuple[Share, Share]:
        """Return in-scope accuracy and out-of-scope recall; an answer below `threshold` counts as out of scope."""
        said = np.where(self.confidence < threshold, OUT_OF_SCOPE, self.answer)
        inside, right = self.reference != OUT_OF_SCOPE, said == self.reference
        return Share(int(right[inside].sum()), int(inside.sum())), Share(int(right[~inside].sum()), int((~inside).sum()))


def answered(rows: Iterable[Row]) -> Answered:
    """Return the answers of PREDICTION rows."""
    listed = list(rows)

    def texts(name: str) -> np.ndarray:
        return np.array([(row[name] or "").strip() for row in listed], dtype=object)

    return Answered(texts("answer"), texts("reference"), np.array([row["confidence"] or 0.0 for row in listed], np.float64))


def best_threshold(validation: Answered) -> float:
    """Return the threshold with the highest mean of in-scope accuracy and out-of-scope recall; 0 without any request."""

    def mean(threshold: float) -> float:
        return sum(share.hits / share.total for share in validation.shares(threshold) if share.total)

    return max([0.0, *np.unique(validation.confidence).tolist()], key=mean)


def scores(run: str) -> Iterator[list[str]]:
    """Yield a line for each model of the report of `run`, as it answers and with a threshold: model, rule, both shares."""
    reports = workspace.finished(places.run_folder(run), "reports")
    names = ["model", "scenario", "answer", "reference", "confidence"]
    rows = reports.read("predictions", PREDICTION, names).to_pylist()
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        test = answered(row for row in mine if row["scenario"] == "test")
        threshold = best_threshold(answered(row for row in mine if row["scenario"] == "val"))
        yield [model, "as it answers", *map(str, test.shares())]
        yield [model, f"at least {threshold:.2g} probable", *map(str, test.shares(threshold))]


def as_text(runs: Sequence[str]) -> str:
    """Return the table of all models of `runs`, in per cent with 95 % intervals (Wilson), and of the paper."""
    rows = [row for run in runs for row in scores(run)]
    rows += [[model, "Larson et al., 2019", f"{100 * inside:.1f}", f"{100 * outside:.1f}"] for model, inside, outside in PAPER]
    return columns(rows, head=["model", "rule", "in-scope accuracy", "out-of-scope recall"])


def main(words: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    try:
        match words:
            case ["prepare", source, out, *rows] if len(rows) <= 1:
                prepare(Path(source), Path(out), int(rows[0]) if rows else None)
            case ["score", *runs] if runs:
                sys.stdout.write(as_text(runs) + "\n")
            case _:
                raise InputError(USAGE)
    except RayleighError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
