"""Order mails with known references: `python -m jobs.contracts.order_mail.generate` writes the .jsonl files of this folder.

A mail is a phrasing of phrasings.yaml, filled with random values of values.yaml, so that its reference is known without a model.
The output depends only on these files: each draw is seeded by the name of its row.
"""

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from engine.rows import Row

HERE = Path(__file__).parent
FIELDS = ("order_number", "product", "quantity")
PER_PHRASING = 3  # training mails of each training phrasing
UNSEEN_PER_PHRASING = 3  # holdout mails of each holdout phrasing
SHOTS_PER_PHRASING = 3  # worked examples of each training phrasing
SEEN_HOLDOUT = 214  # holdout mails of training phrasings, drawn anew
FIXED_SHOTS = 4  # worked examples that every prompt has
GOLD = 40  # half right, half wrong
LIKENESS = 0.75  # share of word runs that a holdout mail may have in common with another mail of its phrasing
RUN, TRIES = 8, 50  # words of a run; draws until a mail is unlike the others
NEW_VALUES = 0.5  # share of the names and places of the holdout that no training mail has

Form = dict[str, str | None]
Values = dict[str, str]


class Mail(NamedTuple):
    """A generated mail. `values` are all placeholders, also those that the mail does not use."""

    phrasing: Row
    text: str
    form: Form
    values: Values


def train() -> list[Mail]:
    """Return training mails with their references, which train.jsonl leaves out.

    They are shuffled, because evenly spread rows (`take`) of an ordered list would always lack the same phrasings.
    """
    mails = [_mail(p, f"train {i}") for i in range(PER_PHRASING) for p in _phrasings("train")]
    return random.Random(0).sample(mails, len(mails))


def holdout() -> list[Mail]:
    """Return holdout mails: of all phrasings that training does not have, and of those that it has, with new values.

    No mail is a near copy of a training mail, which would lose its place, or of another holdout mail.
    """
    known = _phrasings("train")
    drawn: dict[str, list[str]] = {}
    for mail in train():
        drawn.setdefault(mail.phrasing["id"], []).append(mail.text)
    unseen = [(p, f"unseen {i}") for i in range(UNSEEN_PER_PHRASING) for p in _phrasings("holdout")]
    seen = [(known[i * len(known) // SEEN_HOLDOUT], f"seen {i}") for i in range(SEEN_HOLDOUT)]
    return [_unlike(phrasing, name, drawn.setdefault(phrasing["id"], [])) for phrasing, name in [*unseen, *seen]]


def unseen(count: int, *, series: str) -> list[Row]:
    """Return `count` different rows as those of holdout.jsonl, of phrasings that training does not have, evenly many of each.

    Each `series` is a draw of its own: it has other values than the holdout or another series.
    """
    phrasings, mails, number = _phrasings("holdout"), dict[str, Mail](), 0
    while len(mails) < count:
        mail = _mail(phrasings[number % len(phrasings)], f"{series} {number}", new=True)
        mails.setdefault(mail.text, mail)
        number += 1
    return [held_row(mail) for mail in mails.values()]


def held_row(mail: Mail) -> Row:
    """Return a row of holdout.jsonl."""
    return {**row(mail), "seen": mail.phrasing["use"] == "train", "reference": compact(mail.form)}


def shots() -> list[Mail]:
    """Return mails for worked examples in the teacher's prompt: training phrasings with other values."""
    return [_mail(p, f"shot {i}") for i in range(SHOTS_PER_PHRASING) for p in _phrasings("train")]


def judge_gold() -> Iterator[Row]:
    """Yield mails of training phrasings, each with an answer that is right, or has one planted error."""
    known = _phrasings("train")
    for i in range(GOLD):
        name = f"gold {i}"
        mail = _mail(known[(i * 5) % len(known)], name)
        planted = _plant(mail, random.Random(name)) if i % 2 else None
        error, answer = planted or (None, mail.form)
        yield {
            "input": mail.text,
            "answer": compact(answer),
            "label": "wrong" if planted else "right",
            "error": error,
            "reference": compact(mail.form),
            "phrasing": mail.phrasing["id"],
        }


def draw_all(use: str, name: str) -> list[Mail]:
    """Return one mail, called `name`, of each phrasing that is for `use` (train, holdout)."""
    return [_mail(phrasing, name) for phrasing in _phrasings(use)]


def planted_error(mail: Mail, name: str) -> tuple[str, Form]:
    """Return the kind of an error and a form that has it; `name` seeds the choice."""
    return _plant(mail, random.Random(name))


def compact(form: Form) -> str:
    """Return a form as compact JSON in the order of the schema, as teachers, students and references write it."""
    return json.dumps({field: form[field] for field in FIELDS}, separators=(",", ":"))


def row(mail: Mail) -> Row:
    """Return a row of train.jsonl or holdout.jsonl, with the id of its phrasing."""
    keep = {key: mail.phrasing[key] for key in ("layer", "difficulty", "scenario")}
    return {"input": mail.text, **keep, "language": "en", "phrasing": mail.phrasing["id"]}


def worked(mail: Mail) -> dict[str, str]:
    """Return a worked example."""
    return {"input": mail.text, "output": compact(mail.form)}


def write(folder: Path) -> None:
    """Write the files of `folder`: train, holdout, shots, shots_fixed and judge_gold, each a .jsonl."""
    complete = [mail for mail in shots() if all(mail.form.values())]
    files = {
        "train": [row(mail) for mail in train()],
        "holdout": [held_row(mail) for mail in holdout()],
        "shots": [worked(mail) for mail in shots()],
        "shots_fixed": [worked(mail) for mail in random.Random(2).sample(complete, FIXED_SHOTS)],
        "judge_gold": list(judge_gold()),
    }
    for name, rows in files.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


@cache
def _content(name: str) -> Any:
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


def _phrasings(use: str) -> list[Row]:
    return [phrasing for phrasing in _content("phrasings.yaml") if phrasing["use"] == use]


def _mail(phrasing: Row, name: str, *, new: bool = False) -> Mail:
    """Return the mail called `name` of a phrasing; with `new`, some of its values are those of the holdout alone."""
    draw = random.Random(f"{phrasing['id']} {name}")
    pools = _content("values.yaml")
    values = _values(pools["train"], pools["holdout"] if new else {}, draw)
    chosen = re.sub(r"\[([^\[\]]*\|[^\[\]]*)\]", lambda match: draw.choice(match[1].split("|")), phrasing["text"])
    form = {field: values[phrasing["form"][field]] if field in phrasing["form"] else None for field in FIELDS}
    return Mail(phrasing, chosen.format(**values).strip(), form, values)


def _unlike(phrasing: Row, name: str, drawn: list[str]) -> Mail:
    """Return the first mail of a phrasing that is unlike those `drawn` so far, and add its text to them."""
    for number in range(TRIES):
        mail = _mail(phrasing, f"{name} {number}" if number else name, new=True)
        runs = _runs(mail.text)
        if all(len(runs & _runs(other)) <= LIKENESS * len(runs) for other in drawn):
            drawn.append(mail.text)
            return mail
    raise ValueError(f"phrasings.yaml: {phrasing['id']}: {TRIES} mails were all alike; give it more placeholders or choices")


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1))}


def _values(common: dict, new: dict, draw: random.Random) -> Values:
    def pick(kind: str) -> str:
        return draw.choice(new[kind] if kind in new and draw.random() < NEW_VALUES else common[kind])

    def number() -> str:
        return str(draw.randint(10000, 99999))

    first, goods = pick("first"), _distinct(lambda: pick("item"))
    orders = _distinct(number)
    return {
        "order": orders[0],
        "old_order": orders[1],
        "product": goods[0],
        "other": goods[1],
        "n": str(draw.randint(10, 99)),
        "name": f"{pick('first')} {pick('last')}",
        "first": first,
        "street": pick("street"),
        "house": str(draw.randint(2, 180)),
        "city": pick("city"),
        # Ranges that the British regulator keeps for fiction.
        "phone": draw.choice(("0113 496 0", "0161 496 0", "020 7946 0")) + f"{draw.randint(0, 999):03d}",
        "invoice": draw.choice(("INV-", "")) + str(draw.randint(10000, 99999)),
        "price": f"{draw.randint(1, 40)}.{draw.choice(('00', '25', '50', '90'))}",
        "day": draw.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")),
        "month": draw.choice(("March", "April", "May", "June", "July", "September", "October", "November")),
    }


def _distinct(draw_one: Any) -> list[str]:
    first = second = draw_one()
    while second == first:
        second = draw_one()
    return [first, second]


def _plant(mail: Mail, draw: random.Random) -> tuple[str, Form]:
    """Return (kind of error, wrong form), with one error that is possible for this mail."""
    form, values = mail.form, mail.values
    wrong: dict[str, Form] = {}
    if form["order_number"] is None:
        wrong["invented_number"] = {**form, "order_number": values["order"]}
    else:
        wrong["dropped_number"] = {**form, "order_number": None}
        wrong["altered_number"] = {**form, "order_number": _alter(form["order_number"], draw)}
    for decoy in ("phone", "invoice", "house", "old_order"):
        if values[decoy] in mail.text and "{" + decoy + "}" in mail.phrasing["text"]:
            wrong["decoy_number"] = {**form, "order_number": values[decoy]}
    if form["product"] is None:
        wrong["invented_product"] = {**form, "product": values["product"]}
    else:
        wrong["wrong_product"] = {**form, "product": values["other"]}
    if form["quantity"] is None:
        wrong["invented_quantity"] = {**form, "quantity": values["n"]}
    else:
        wrong["wrong_quantity"] = {**form, "quantity": str(10 + (int(form["quantity"]) - 10 + draw.randint(1, 89)) % 90)}
    kind = draw.choice(sorted(wrong))
    return kind, wrong[kind]


def _alter(number: str, draw: random.Random) -> str:
    at = draw.choice([i for i, sign in enumerate(number) if sign.isdigit()])
    return number[:at] + str((int(number[at]) + draw.randint(1, 9)) % 10) + number[at + 1 :]


if __name__ == "__main__":
    write(HERE)
