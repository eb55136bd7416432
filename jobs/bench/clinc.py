"""CLINC150 (Larson et al., "An evaluation dataset for intent classification and out-of-scope prediction", EMNLP-IJCNLP 2019).

`python -m jobs.bench.clinc prepare FOLDER OUT` writes the rows of the published `data_full.json` as the contracts in
`jobs/contracts/clinc` read them: `train.jsonl` (`train`, `oos_train`) and `holdout.jsonl` (`val`, `oos_val`, `test`, `oos_test`).
`python -m jobs.bench.clinc score RUN ...` prints in-scope accuracy and out-of-scope recall on the test split, beside the paper's.

A request counts as out of scope if the model says so, or if its answer is less probable than a threshold that is chosen on the
validation split by one of two RULES: that of the paper's `oos-threshold`, and one of our own that weighs both shares equally.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import InputError, RayleighError
from engine.rows import CANDIDATE, PREDICTION, Row
from engine.stats.intervals import wilson
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.terminal.console import columns

OUT_OF_SCOPE = "out of scope"
PAPER = (("BERT, oos-train", 0.969, 0.403), ("BERT, oos-threshold", 0.962, 0.523))
"""Model, in-scope accuracy and out-of-scope recall on the full split, as the paper reports them in table 2."""
SPLITS = {"train": ("train", "oos_train"), "val": ("val", "oos_val"), "test": ("test", "oos_test")}
USAGE = "usage: python -m jobs.bench.clinc prepare FOLDER OUT [ROWS] | score RUN ..."
NOTES = """\
In per cent of the requests of the test split, with 95 % intervals (Wilson).
as it answers: a request is out of scope if the model says so. All models of these runs were trained with the rows of oos_train, as
  the paper's oos-train.
threshold, accuracy: as the paper chooses that of oos-threshold: most right answers over all requests of the validation split, with
  out of scope as one more intent.
threshold, balanced: our own rule, not the paper's: the highest mean of in-scope accuracy and out-of-scope recall there.
The students' training is sequence distillation: they learn the texts that their teacher answers, none of its probabilities, to the
requests on whose labels it was tuned itself."""


def prepare(source: Path, out: Path, rows: int | None = None) -> None:
    """Write the rows of the folder `source` as JSON lines into the folder `out`; with `rows`, that many of each published split.

    Raises:
        InputError: the folder does not hold the published file.
        StorageError: the rows cannot be written.
    """
    published = _published(source / "data_full.json")
    for name, splits in {"train": ["train"], "holdout": ["val", "test"]}.items():
        lines = [json.dumps(row, ensure_ascii=False) for split in splits for row in _rows(published, split, rows)]
        Folder(str(out)).write(f"{name}.jsonl", ("\n".join(lines) + "\n").encode())


def _published(path: Path) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Return the pairs (request, intent) of each split of the file."""
    wanted = (
        "Name the folder of CLINC150 as published by its authors (github.com/clinc/oos-eval, folder data): make clinc CLINC=FOLDER"
    )
    try:
        published = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}. {wanted}") from None
    if not isinstance(published, dict):
        raise InputError(f"{path}: found a JSON {type(published).__name__}, expected an object of splits. {wanted}")
    for split in (split for splits in SPLITS.values() for split in splits):
        pairs = published.get(split)
        if not isinstance(pairs, list) or not pairs:
            raise InputError(f"{path}: {split}: found {_short(pairs)}, expected a list of requests with their intents. {wanted}")
        odd = next((index for index, pair in enumerate(pairs) if not _is_pair(pair)), None)
        if odd is not None:
            raise InputError(f"{path}: {split}[{odd}]: found {_short(pairs[odd])}, expected [request, intent]. {wanted}")
    return published


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _short(value: Any) -> str:
    return "nothing" if value is None else f"{json.dumps(value):.60}"


def _rows(published: Mapping[str, Sequence[tuple[str, str]]], split: str, most: int | None) -> Iterator[Row]:
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


def accuracy(inside: Share, outside: Share) -> float:
    """Return the share of right answers to all requests, out of scope being one more intent; 0 of none."""
    return (inside.hits + outside.hits) / max(1, inside.total + outside.total)


def balanced(inside: Share, outside: Share) -> float:
    """Return the mean of in-scope accuracy and out-of-scope recall, of those that have a request; 0 if none has."""
    shares = [share.hits / share.total for share in (inside, outside) if share.total]
    return sum(shares) / max(1, len(shares))


RULES: Mapping[str, Callable[[Share, Share], float]] = {"accuracy": accuracy, "balanced": balanced}
"""What of the validation split a threshold makes highest: `accuracy` for the paper's oos-threshold, `balanced` by our own rule."""


def best_threshold(validation: Answered, rule: str = "accuracy") -> float:
    """Return the threshold that is best by one of RULES, the lowest of equal ones; 0 without any request."""
    return max([0.0, *np.unique(validation.confidence).tolist()], key=lambda threshold: RULES[rule](*validation.shares(threshold)))


def scores(run: str) -> Iterator[list[str]]:
    """Yield a line for each model of the report of `run`, as it answers and with each threshold: model, rule, both shares."""
    reports = workspace.finished(places.run_folder(run), "reports")
    names = ["model", "scenario", "answer", "reference", "confidence"]
    rows = reports.read("predictions", PREDICTION, names).to_pylist()
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        test, validation = (answered(row for row in mine if row["scenario"] == split) for split in ("test", "val"))
        yield [model, "as it answers", *map(str, test.shares())]
        for rule in RULES:
            threshold = best_threshold(validation, rule)
            yield [model, f"threshold, {rule}: {threshold:.2g}", *map(str, test.shares(threshold))]


def agreements(runs: Sequence[str]) -> Iterator[str]:
    """Yield a line for each run whose training requests have labels in another one of `runs`: how often its teacher says them."""
    names = ["prompt_id", "finish_reason", "answer", "reference"]
    found = {run: workspace.finished(places.run_folder(run), "candidates").read("candidates", CANDIDATE, names) for run in runs}
    rows = {run: [row for row in table.to_pylist() if row["finish_reason"] == "stop"] for run, table in found.items()}
    labels = {row["prompt_id"]: row["reference"].strip() for each in rows.values() for row in each if row["reference"] is not None}
    for run, each in rows.items():
        known = [row for row in each if row["reference"] is None and row["prompt_id"] in labels]
        if known:
            right = sum((row["answer"] or "").strip() == labels[row["prompt_id"]] for row in known)
            share = f"{100 * right / len(known):.1f} % of its teacher's {len(known)} answers to training requests"
            yield f"{run}: {share} are people's labels."


def as_text(runs: Sequence[str]) -> str:
    """Return the table of all models of `runs` and of the paper, and what it does not say."""
    rows = [row for run in runs for row in scores(run)]
    rows += [[model, "Larson et al., 2019", f"{100 * inside:.1f}", f"{100 * outside:.1f}"] for model, inside, outside in PAPER]
    table = columns(rows, head=["model", "rule", "in-scope accuracy", "out-of-scope recall"])
    return "\n".join([table, "", NOTES, *agreements(runs)])


def _count(word: str) -> int:
    if not (word.isdecimal() and int(word)):
        raise InputError(f"ROWS: found {word!r}, expected a number above 0: rows of each published split. {USAGE}")
    return int(word)


def main(words: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    try:
        match words:
            case ["prepare", source, out, *rows] if len(rows) <= 1:
                prepare(Path(source), Path(out), _count(rows[0]) if rows else None)
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
