"""Example rows of `rayleigh init`: prompts, and a holdout of other values and partly other wordings, whose answers follow from how
they are made."""

import itertools
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

PROMPTS, HOLDOUT = 72, 48  # rows of each
SEED = 20


class Wording(NamedTuple):
    """A text with holes `{}` for values."""

    scenario: str
    text: str
    answers: bool = True
    """False: what is asked for is not there, and the right answer is null."""


Pick = random.Random
Made = tuple[str, object]
"""Text of a prompt and its right answer."""
Maker = Callable[[Wording, Pick, bool], Made]
"""Makes a row; the last argument says whether it is of the holdout, whose values occur in no prompt."""

DAYS = ("Tuesday", "Wednesday", "Thursday", "Friday")
APPOINTMENTS = (
    Wording("shift", "Can we shift the haircut to {day} at {time}?"),
    Wording("visit", "Grandma comes by on {day}, the train is due at {time}."),
    Wording("garage", "The garage has a slot for the van: {day}, {time}."),
    Wording("lesson", "Piano lesson this week is {day} {time}, please tell Tom."),
    Wording("day_only", "Some time on {day} the chimney sweep will ring.", answers=False),
    Wording("time_only", "Be at the station by {time}, I wait under the clock.", answers=False),
    Wording("lunch", "Lunch with the neighbours on {day}? They are free from {time}."),
    Wording("vet", "The vet will look at the cat at {time} on {day}."),
)
UNSEEN_APPOINTMENTS = (
    Wording("delivery", "Your sofa arrives on {day} around {time}."),
    Wording("club", "Chess club moved! New date: {day}, doors open {time}."),
    Wording("open_day", "The pottery class is on {day} next week.", answers=False),
)
GOOD = ("lovely", "spotless", "generous", "kind", "cosy", "excellent", "delicious", "charming")
BAD = ("filthy", "noisy", "greasy", "broken", "mouldy", "awful", "tasteless", "shabby")
REVIEWS = (
    Wording("plain", "The {thing} was {word}."),
    Wording("stay", "We stayed {nights} nights and found the {thing} {word}."),
    Wording("friend", "A friend told us that the {thing} is {word}, and it is so."),
    Wording("short", "{thing}: {word}, as in the year before."),
)
UNSEEN_REVIEWS = (Wording("letter", "Dear team, your {thing} on floor {nights} was {word}. Regards."),)
THINGS = ("breakfast", "bathroom", "staff", "bed", "lobby", "pool", "dinner", "balcony", "carpet")
UNSEEN_THINGS = ("parking", "sauna", "garden", "lift")
NOTES = (
    Wording("verb_first", "{verb} {thing}, {day}"),
    Wording("day_first", "{day}: {verb} {thing}"),
    Wording("dash", "{verb} {thing} - {day}"),
)
UNSEEN_NOTES = (Wording("todo", "todo {day} - {verb} {thing}"),)
VERBS = ("send", "fix", "order", "return", "check", "bring", "clean", "collect")
OBJECTS = (
    "printer", "invoice", "parcel", "bicycle", "window", "kettle", "camera", "ticket", "blanket", "carpet", "mirror", "table",
    "radio", "basket", "letter", "jacket", "hammer", "helmet", "candle", "curtain", "keyboard", "monitor", "cabinet", "contract",
    "pillow", "magazine", "battery", "cable", "bucket", "scanner", "teapot", "wallet", "poster", "trailer", "vase",
)  # fmt: skip
"""So many that a student cannot remember each: what is asked for is to copy."""
UNSEEN_OBJECTS = ("drill", "lantern", "calendar", "suitcase", "notebook", "toaster", "umbrella", "guitar")
QUESTIONS = (
    Wording("pieces", "How many pieces are in bin {bin}?"),
    Wording("count", "Count the pieces of bin {bin}, please."),
    Wording("weight", "What do {count} {part} weigh at {grams} grams each?"),
    Wording("missing", "Tell me the pieces of bin {gone}.", answers=False),
)
UNSEEN_QUESTIONS = (Wording("box", "A box holds {count} {part} of {grams} grams each. How heavy is the content?"),)
PARTS = ("bolts", "nails", "hinges", "washers", "clips")
SUMS = (
    Wording("more", "There are {high} {part}. {low} more {part} come. How many {part} are there?"),
    Wording("left", "There are {high} {part}. {low} {part} go. How many {part} are left?"),
    Wording("lost", "Of {high} {part} {low} are lost. How many {part} remain?"),
    Wording("then_more", "{high} {part} lie here, and then {low} more. How many {part}?"),
)
UNSEEN_SUMS = (Wording("given", "Mia has {high} {part} and gives away {low}. How many {part} has she now?"),)
COUNTED = ("apples", "stamps", "marbles", "coins", "shells")
UNSEEN_COUNTED = ("pears", "buttons")
BINS = {number: 3 + number * 7 % 90 for number in range(101, 165)}
"""Bin -> pieces in it."""


def seeds(kind: str) -> dict[str, str]:
    """Return the files beside the contract of a kind of task, name -> text; always the same ones."""
    wordings, unseen, maker = KINDS[kind]
    pick = random.Random(SEED)
    prompts = _rows(wordings, maker, pick, count=PROMPTS)
    taken = {row["input"] for row in prompts}
    holdout = _rows((*wordings, *unseen), maker, pick, count=HOLDOUT, held_out=True, taken=taken)
    if kind != "reasoning":  # elsewhere no prompt has a known answer: that is what the teacher is for
        prompts = [{key: value for key, value in row.items() if key != "reference"} for row in prompts]
    files = {"prompts.jsonl": _lines(prompts), "holdout.jsonl": _lines(holdout)}
    if kind == "tool-use":
        files["stock.csv"] = "bin,pieces\n" + "".join(f"{number},{pieces}\n" for number, pieces in BINS.items())
    return files


def _rows(
    wordings: Sequence[Wording], maker: Maker, pick: Pick, *, count: int, held_out: bool = False, taken: set[str] | None = None
) -> list[dict[str, str]]:
    """Return `count` rows, which take turns in their wordings. Their words differ: other signs between them make a copy."""
    rows: dict[str, dict[str, str]] = {}
    for wording in itertools.islice(itertools.cycle(wordings), count * 50):
        text, answer = maker(wording, pick, held_out)
        if text not in (taken or set()):
            reference = answer if isinstance(answer, str) else json.dumps(answer, separators=(",", ":"))
            words = " ".join(re.findall(r"\w+", text.lower()))
            rows.setdefault(words, {"input": text, "scenario": wording.scenario, "reference": reference})
        if len(rows) == count:
            break
    return list(rows.values())


def _lines(rows: Sequence[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _appointment(wording: Wording, pick: Pick, held_out: bool) -> Made:
    minutes = range(5, 60, 10) if held_out else range(0, 60, 10)
    day, time = pick.choice(DAYS), f"{pick.randint(1, 12)}.{pick.choice(minutes):02d} {pick.choice(('am', 'pm'))}"
    says = {name: value if f"{{{name}}}" in wording.text else None for name, value in (("day", day), ("time", time))}
    return wording.text.format(day=day, time=time), says


def _review(wording: Wording, pick: Pick, held_out: bool) -> Made:
    label = pick.choice(("praise", "complaint"))
    thing = pick.choice(UNSEEN_THINGS if held_out else THINGS)
    text = wording.text.format(thing=thing, word=pick.choice(GOOD if label == "praise" else BAD), nights=pick.randint(2, 9))
    return text, {"label": label}


def _note(wording: Wording, pick: Pick, held_out: bool) -> Made:
    verb, day, thing = pick.choice(VERBS), pick.choice(DAYS), pick.choice(UNSEEN_OBJECTS if held_out else OBJECTS)
    return wording.text.format(verb=verb, thing=thing, day=day), f"Please {verb} the {thing} on {day}."


def _question(wording: Wording, pick: Pick, held_out: bool) -> Made:
    numbers = [number for number in BINS if (number % 3 == 0) == held_out]
    number, count, grams = pick.choice(numbers), pick.randint(2, 40), pick.choice((3, 5, 6, 9) if held_out else (2, 4, 7, 8))
    text = wording.text.format(bin=number, count=count, part=pick.choice(PARTS), grams=grams, gone=number + 600)
    found = BINS[number] if "{bin}" in wording.text else count * grams
    return text, {"value": str(found) if wording.answers else None}


def _sum(wording: Wording, pick: Pick, held_out: bool) -> Made:
    low = pick.randint(1, 6)
    high = low + pick.randint(1, 8)
    part = pick.choice(UNSEEN_COUNTED if held_out else COUNTED)
    is_more = "more" in wording.scenario
    return wording.text.format(high=high, low=low, part=part), {"result": high + low if is_more else high - low}


KINDS: dict[str, tuple[Sequence[Wording], Sequence[Wording], Maker]] = {
    "extraction": (APPOINTMENTS, UNSEEN_APPOINTMENTS, _appointment),
    "classification": (REVIEWS, UNSEEN_REVIEWS, _review),
    "rewriting": (NOTES, UNSEEN_NOTES, _note),
    "tool-use": (QUESTIONS, UNSEEN_QUESTIONS, _question),
    "reasoning": (SUMS, UNSEEN_SUMS, _sum),
}
