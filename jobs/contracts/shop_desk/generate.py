"""Questions to a shop desk with known answers: `python -m jobs.contracts.shop_desk.generate` writes the files of this folder.

phrasings.yaml has the questions. Four kinds look up an order in a table, one of them with a computation in SQL; one asks for an
order that does not exist; one needs the calculator; one is answered by the handbook. The holdout has phrasings, orders and passages
that training does not have. Worked examples are conversations with real results of the tools, turn by turn.
"""

import csv
import io
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from engine.contract.tools import Calculator, Retrieval, Sql
from engine.rows import Row
from engine.tools.base import Tool
from engine.tools.conversation import message
from engine.tools.toolset import Toolset

HERE = Path(__file__).parent
PER_KIND = {"train": 6, "holdout": 3, "shots": 1}
NOWHERE = 60000  # no order has a number from here on
LAYERS = {"missing": "failure_mode", "total": "long_tail"}
TOOLS = (
    Calculator(type="calculator"),
    Sql(type="sql", tables={"orders": "orders.csv"}),
    Retrieval(type="retrieval", corpus="handbook.jsonl", top_k=1),
)


class Question(NamedTuple):
    """A question, the tool call that answers it, and the answer."""

    text: str
    kind: str
    thought: str
    call: tuple[str, str]  # tool, argument
    value: str | None


@cache
def phrasings() -> Row:
    """Return the content of phrasings.yaml."""
    return yaml.safe_load((HERE / "phrasings.yaml").read_text(encoding="utf-8"))


@cache
def orders() -> list[Row]:
    """Return the rows of orders.csv: one order for each question that looks one up."""
    draw, texts = random.Random("orders"), phrasings()
    numbers = draw.sample(range(20000, 50000), sum(PER_KIND.values()) * len(texts["lookups"]))
    return [
        {
            "id": number,
            "product": draw.choice(texts["products"]),
            "quantity": draw.randint(2, 90),
            "price": f"{draw.randint(1, 20)}.{draw.choice(('00', '25', '50'))}",
            "city": draw.choice(texts["cities"]),
        }
        for number in numbers
    ]


def questions(use: str) -> list[Question]:
    """Return all questions of a `use` (train, holdout or shots), shuffled."""
    uses = list(PER_KIND)
    first = sum(PER_KIND[name] for name in uses[: uses.index(use)])
    result = [question for turn in range(first, first + PER_KIND[use]) for question in _of_each_kind(turn, int(use == "holdout"))]
    return random.Random(use).sample(result, len(result))


@cache
def opened(folder: str) -> dict[str, Tool]:
    """Return the tools, with their files in `folder`."""
    return Toolset(TOOLS, max_calls=1, root=folder, hashes={}).open()


def conversation(question: Question, folder: Path) -> Iterator[dict[str, str]]:
    """Yield a worked example in two turns: question and call, then result and answer."""
    tool, argument = question.call
    result = opened(str(folder))[tool](argument)
    shown = message({"role": "tool", "content": result.text, "tool": tool, "ok": result.ok})
    call = {"thought": question.thought, "call": {"tool": tool, "argument": argument}}
    yield {"input": question.text, "output": compact(call)}
    yield {"input": shown["content"], "output": compact({"answer": {"value": question.value}})}


def row(question: Question) -> dict[str, str]:
    """Return a row of train.jsonl or holdout.jsonl."""
    layer = LAYERS.get(question.kind, "core")
    return {"input": question.text, "layer": layer, "difficulty": "easy", "scenario": question.kind, "language": "en"}


def compact(value: Any) -> str:
    """Return compact JSON, as structured decoding writes it."""
    return json.dumps(value, separators=(",", ":"))


def write(folder: Path) -> None:
    """Write the files of `folder`: the table, the handbook, and train, holdout and shots."""
    table = io.StringIO()
    rows = csv.DictWriter(table, list(orders()[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(orders())
    _save(folder / "orders.csv", table.getvalue())
    passages = [passage["text"] for passage in phrasings()["handbook"]["passages"]]
    _save_rows(folder / "handbook.jsonl", [{"id": text.partition(":")[0].lower(), "text": text} for text in passages])
    _save_rows(folder / "train.jsonl", map(row, questions("train")))
    held = [{**row(question), "reference": compact({"value": question.value})} for question in questions("holdout")]
    _save_rows(folder / "holdout.jsonl", held)
    _save_rows(folder / "shots.jsonl", [turn for question in questions("shots") for turn in conversation(question, folder)])


def _of_each_kind(turn: int, way: int) -> Iterator[Question]:
    """Yield question number `turn` of each kind, in phrasing `way`."""
    texts = phrasings()
    for at, (kind, lookup) in enumerate(texts["lookups"].items()):
        order = orders()[turn * len(texts["lookups"]) + at]
        value = f"{order['quantity'] * float(order['price']):.12g}" if kind == "total" else str(order[lookup["select"]])
        yield _lookup(kind, lookup["ask"][way], lookup, order["id"], value)
    lookup = texts["lookups"]["quantity"]
    yield _lookup("missing", lookup["ask"][way], lookup, NOWHERE + turn, None)
    draw = random.Random(f"price {turn}")
    count, price = draw.randint(2, 60), f"{draw.randint(1, 9)}.{draw.choice(('25', '50'))}"
    text = texts["price"]["ask"][way].format(count, draw.choice(texts["products"]), price)
    product = f"{count * float(price):.12g}"
    yield Question(text, "price", texts["price"]["thought"], ("calculator", f"{count} * {price}"), product)
    passage = texts["handbook"]["passages"][turn]
    search = ("retrieval", passage["search"])
    yield Question(passage["ask"][way], "handbook", texts["handbook"]["thought"], search, passage["value"])


def _lookup(kind: str, ask: str, lookup: Row, number: int, value: str | None) -> Question:
    query = f"select {lookup['select']} from orders where id = {number}"
    return Question(ask.format(number), kind, lookup["thought"], ("sql", query), value)


def _save_rows(path: Path, rows: Any) -> None:
    _save(path, "".join(json.dumps(row) + "\n" for row in rows))


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(HERE)
