"""Answers to one prompt, as the modules for derived data read them."""

import json

import pyarrow as pa

from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.curation.prompt_answers import COLUMNS
from engine.rows import PICKED

SCHEMA = {"type": "object", "properties": {"number": {}, "item": {}}}
SPECIALIST = Specialist(
    goal="g", task_units=(TaskUnit(name="form", kind="extraction", instruction="Fill in.", output=Output(json_schema=SCHEMA)),)
)
TEXT = "please send 7 blue lamps to our shop"
UNGROUNDED = {"check": "grounded", "passed": False, "tag": "ungrounded", "detail": "item=chair"}


def form(number="7", item="lamps"):
    return json.dumps({"item": item, "number": number})


def answer(name, said, *, pool="train", **more):
    """A PICKED row, kept if it is accepted."""
    turns = [{"role": "user", "content": TEXT}]
    plain = {"answer_id": name, "prompt_id": "p", "task_unit": "form", "messages": turns, "text": TEXT, "answer": said}
    why = {"train": ["accepted"], "contrast": ["ungrounded"], "failure": ["not_json"], "hard": ["samples_disagree"]}.get(pool, [])
    fate = {"finish_reason": "stop", "pool": pool, "reasons": why, "dropped_by": "" if pool == "train" else "pool", "checks": []}
    return dict.fromkeys(PICKED.names) | plain | fate | {"layer": "core", "difficulty": "easy", "cluster": 0} | more


def wrong(name="w", said=None, **more):
    return answer(name, said or form(item="chair"), pool="contrast", checks=[UNGROUNDED], **more)


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=PICKED).select(COLUMNS)
