"""`rayleigh init`: a contract and example seeds for a kind of task, to run as they are and then to replace by one's own."""

import json
from pathlib import Path
from string import Template
from typing import NamedTuple

from engine.contract.load import parse_contract
from engine.contract.yaml_text import load_yaml
from engine.errors import InputError
from engine.inference.bundled import BUNDLED
from engine.records.base import Record
from jobs.starters.seeds import KINDS, seeds

STARTERS = Path(__file__).parents[1] / "starters"
CONTRACT = "contract.yaml"
TEACHER = "smollm2-135m-instruct"


class Defaults(NamedTuple):
    """What is taken where a question is not answered."""

    goal: str
    accuracy: float
    """Of `gate.exact_match`."""
    note: str = ""
    """What one should know of the small default teacher on this task."""


DEFAULTS = {
    "extraction": Defaults("Read the day and the time of an appointment out of a message.", 0.7),
    "classification": Defaults(
        "Say whether a hotel's review is praise or a complaint.",
        0.7,
        f"{TEACHER} is right on two of three reviews, and no check can tell: for labels that you rely on name a larger teacher.",
    ),
    "rewriting": Defaults(
        "Turn a short note into one polite sentence.",
        0.7,
        "A student of six layers does not learn from 72 notes to copy unseen words: add hundreds, or leave it more layers.",
    ),
    "tool-use": Defaults(
        "Answer questions about a store room from its table and by computing.",
        0.6,
        f"{TEACHER} looks up well and computes badly; the check of tools keeps what it got right. For more name a larger teacher.",
    ),
    "reasoning": Defaults(
        "Solve a sum in words, and show the step.",
        0.5,
        f"{TEACHER} gets only a part of the sums right; the verifier keeps those. For harder ones name a larger teacher.",
    ),
}


class Answers(NamedTuple):
    """The answers to the five questions; None takes the default."""

    kind: str
    name: str | None = None
    goal: str | None = None
    teacher: str | None = None
    accuracy: float | None = None


class Started(Record):
    """What `rayleigh init --json` prints."""

    kind: str
    contract: str
    """Path of the contract."""
    files: tuple[str, ...]
    """Paths of all files that were written."""
    teacher: str
    is_bundled: bool
    """Whether the teacher comes with the installation, so that nothing has to be downloaded."""
    note: str
    """What one should know of the default teacher on this task; "" = nothing."""


def start(folder: str, answers: Answers) -> Started:
    """Write the contract and the seeds of a kind of task into `folder`, which is made if it is not there.

    Raises:
        InputError: the kind is unknown, a file is there already, or the folder cannot be written; then nothing is written.
        ContractError: an answer is no value of its key, such as a name with spaces.
    """
    if answers.kind not in KINDS:
        raise InputError(f"--kind: found {answers.kind!r}, expected one of {', '.join(KINDS)}.")
    home, default = Path(folder), DEFAULTS[answers.kind]
    teacher = answers.teacher or TEACHER
    values = {
        "name": json.dumps(answers.name or default_name(folder)),
        "goal": json.dumps(answers.goal or default.goal, ensure_ascii=False),
        "teacher": f"{{type: vllm, path: {json.dumps(teacher, ensure_ascii=False)}}}",
        "accuracy": json.dumps(default.accuracy if answers.accuracy is None else answers.accuracy),
    }
    text = Template((STARTERS / f"{answers.kind}.yaml").read_text(encoding="utf-8")).substitute(values)
    parse_contract(load_yaml(text, str(home / CONTRACT)), where=home / CONTRACT)
    files = {CONTRACT: text, **seeds(answers.kind)}
    if there := [str(home / name) for name in files if (home / name).exists()]:
        raise InputError(f"{', '.join(there)}: found a file, expected none: nothing is overwritten. Name another folder.")
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            with (home / name).open("x", encoding="utf-8") as file:
                file.write(body)
    except OSError as error:
        raise InputError(f"{home}: cannot be written: {error}. Name another folder.") from None
    return Started(
        kind=answers.kind,
        contract=str(home / CONTRACT),
        files=tuple(str(home / name) for name in files),
        teacher=teacher,
        is_bundled=teacher in BUNDLED,
        note=default.note if teacher == TEACHER else "",
    )


def default_name(folder: str) -> str:
    """Return the name of the contract in `folder`: that of the folder, in characters that a name may have."""
    letters = [letter if letter.isascii() and letter.isalnum() else "-" for letter in Path(folder).absolute().name.lower()]
    return "".join(letters).strip("-")[:40] or "task"


def as_text(result: Started) -> str:
    """Return what was written, and what to do next."""
    run = str(Path(result.contract).parent / "run")
    model = "comes with the installation" if result.is_bundled else "a folder of weights, which has to be there"
    return "\n".join(
        [
            *(f"wrote    {path}" for path in result.files),
            f"teacher  {result.teacher}: {model}. Another one, or a server: teachers.models.0.model",
            *([f"note     {result.note}"] if result.note else []),
            f"next     rayleigh check {result.contract}",
            f"         rayleigh run {result.contract} {run}    # minutes on a laptop, to a report",
            "data     put your rows into prompts.jsonl and holdout.jsonl, or name your own in prompts.sources and prompts.holdout",
        ]
    )
