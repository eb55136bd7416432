"""Labelled answers to order mails: `labelled.jsonl`, by which the confidence of the default contract is calibrated.

Two thirds are answers that the default teacher really gave, to mails of training phrasings that no other file has, with the labels
that the generator knows; one third are answers with one planted error. Made in three steps, of which the first two ask the teacher
(minutes on two cores); rows depend on its weights, and on the machine as far as bfloat16 does:

    python -m jobs.contracts.order_mail.labelled ask FOLDER                      # FOLDER/mails.jsonl and FOLDER/ask.yaml
    rayleigh run FOLDER/ask.yaml FOLDER/run --until candidates
    python -m jobs.contracts.order_mail.labelled keep FOLDER                     # labels them, and writes FOLDER/labelled.jsonl
    python -m jobs.contracts.order_mail.labelled read FOLDER                     # adds what the teacher reads in each of them
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from engine.checks import canonical
from engine.contract.judges import GoldItem, Scored
from engine.contract.load import load_contract
from engine.evidence.labelled import as_row
from engine.evidence.reader import Read, Reader, scored
from engine.rows import CANDIDATE, Row
from jobs.contracts.order_mail import generate
from jobs.contracts.order_mail.generate import FIELDS, HERE, Mail, compact

CONTRACT = HERE.parent / "smoke.yaml"
FILE = "labelled.jsonl"
PER_PHRASING = 2  # mails of each training phrasing
TEACHER, MODEL = "smol", "smollm2-135m-instruct"


def mails() -> list[Mail]:
    """Return the mails: of each training phrasing some, with values of their own."""
    return [each for number in range(PER_PHRASING) for each in generate.draw_all("train", f"labelled {number}")]


def ask(folder: Path) -> None:
    """Write the mails, and a contract by which the default teacher answers them as it does in the default run."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "mails.jsonl", ({"input": each.text} for each in mails()))
    raw = load_contract(CONTRACT).contract.model_dump(mode="json")
    holdout = {**raw["prompts"]["holdout"], "path": str(HERE / "holdout.jsonl")}
    source = {"path": "mails.jsonl", "licence": "CC0-1.0", "columns": {"text": "input"}}
    raw["prompts"] = {**raw["prompts"], "sources": [source], "holdout": holdout}
    raw["teachers"]["mode"] = "direct"
    raw["judges"] = {"checks": raw["judges"]["checks"]}
    (folder / "ask.yaml").write_text(yaml.safe_dump(raw | {"name": "order-mail-labelled"}, sort_keys=False), encoding="utf-8")


def keep(folder: Path) -> None:
    """Write labelled.jsonl from the answers of the run, with the log-probabilities that the teacher gave while it wrote them."""
    from jobs import places, workspace

    candidates = workspace.finished(places.run_folder(str(folder / "run")), "candidates")
    answers: dict[str, dict[int, str]] = {}
    tokens: dict[tuple[str, str], list[Row]] = {}
    for row in candidates.read("candidates", CANDIDATE).to_pylist():
        if row["finish_reason"] == "stop" and all(check["passed"] for check in row["checks"]):  # others are never judged
            answers.setdefault(row["text"], {})[row["sample"]] = row["answer"]
            tokens.setdefault((row["text"], row["answer"]), row["token_logprobs"])
    samples = {text: [of_mail[number] for number in sorted(of_mail)] for text, of_mail in answers.items()}
    rows = list(labelled(samples))
    reader, asked = _reader(folder, rows)
    reads = [
        Read(key, tokens.get((row["input"], row["answer"])) if row["author"] else None)
        for key, row in zip(reader.keys(asked), rows, strict=True)
    ]
    _write(folder / FILE, map(_with_score, rows, map(scored, reads)))


def labelled(samples: dict[str, list[str]]) -> Iterator[Row]:
    """Yield the rows: of each mail one of its `samples`, the first and the others in turn, and of each phrasing a planted error."""
    every = mails()
    phrasings = len(every) // PER_PHRASING
    for number, each in enumerate(every):
        if not (of_mail := samples.get(each.text)):
            continue  # redacted, a copy of another mail, or never answered
        answer = of_mail[number // phrasings % len(of_mail)]
        yield _row(each, answer, of_mail, error=mistake(each, answer), author=MODEL)
        if number < phrasings:
            kind, form = generate.planted_error(each, f"planted {number}")
            if canonical(compact(form)) != canonical(answer):
                yield _row(each, compact(form), of_mail, error=kind, author="")


def mistake(each: Mail, answer: str) -> str | None:
    """Return the kind of the first mistake in an answer that a teacher gave; None if it is right."""
    if canonical(answer) == canonical(compact(each.form)):
        return None
    form = json.loads(answer)
    for field in FIELDS:
        found, wanted = form.get(field), each.form[field]
        if found != wanted:
            kind = "missed" if found is None else "invented" if wanted is None else "mistaken"
            return f"{kind}_{field}"
    return "other_form"


def read(folder: Path) -> None:
    """Add to the rows of labelled.jsonl what the teacher reads in answers that it did not write, so that no run reads them."""
    rows = [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
    lacking = [row for row in rows if "scored" not in row]
    reader, asked = _reader(folder, lacking)
    found = iter([scored(each) for each in reader(asked, payee="labelled", capped=False)])
    _write(folder / FILE, (row if "scored" in row else _with_score(row, next(found)) for row in rows))


def _reader(folder: Path, rows: list[Row]) -> tuple[Reader, list[Row]]:
    """Return what reads answers as the teacher of FOLDER/ask.yaml, and `rows` as it is asked about them."""
    from jobs import workspace
    from jobs.pipeline import pipeline
    from jobs.steps.judging import reader_spec

    work = workspace.create(str(folder / "ask.yaml"), str(folder / "run"), profile="laptop", changes=())
    [job] = [job for job in pipeline(work.contract) if job.name == "candidates"]
    context = work.context(job, log=print, progress=print)
    asked = [as_row(GoldItem.model_validate(row), work.contract.specialist) for row in rows]
    return Reader(reader_spec(context, work.contract.teachers.models[0], "labelled")), asked


def _with_score(row: Row, known: Scored | None) -> Row:
    return row | ({"scored": known.model_dump(mode="json")} if known else {})


def _row(each: Mail, answer: str, samples: list[str], *, error: str | None, author: str) -> Row:
    return {
        "input": each.text,
        "answer": answer,
        "label": "wrong" if error else "right",
        "error": error,
        "reference": compact(each.form),
        "author": author,
        "group": each.phrasing["id"],
        "samples": {TEACHER: samples},
    }


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    step, place = sys.argv[1:]
    {"ask": ask, "keep": keep, "read": read}[step](Path(place))
