"""`POST /v1/tasks/<unit>`: a text in, a typed output out."""

from typing import Any

from engine.checks.json_answer import read_json
from engine.contract.specialist import TaskUnit
from engine.evaluation.metrics import is_valid
from engine.inference.engine import Chat
from engine.serving.api_error import wrong
from engine.serving.body import kind_of, known, text_of
from engine.serving.chat import usage
from engine.serving.service import Reply

KEYS = {"text": str, "user": str, "metadata": dict}


def read_task(body: dict[str, Any]) -> Chat:
    """Return the chat of a task's request.

    Raises:
        ApiError: something in it is of a wrong type, or not known.
    """
    known(body, KEYS)
    for key, kind in KEYS.items():
        if key != "text" and body.get(key) is not None and type(body[key]) is not kind:
            raise wrong(key, f"found {kind_of(body[key])}, expected another type.")
    return [{"role": "user", "content": text_of(body.get("text"), "text")}]


def task_reply(reply: Reply) -> dict[str, Any]:
    """Return the body of an answer. `output` is null if the model abstains, or its answer is not complete or not of the schema."""
    return {
        "id": reply.request_id,
        "unit": reply.unit.name,
        "output": None if reply.abstained else output_of(reply.answer.text, reply.answer.finish_reason, reply.unit),
        "abstained": reply.abstained,
        "reason": reply.reason,
        "confidence": reply.answer.confidence,
        "finish_reason": reply.answer.finish_reason,
        "route": reply.route,
        "deployment": reply.deployment,
        "usage": usage(reply),
    }


def output_of(text: str, finish_reason: str, unit: TaskUnit) -> Any:
    """Return the typed output in an answer: its JSON if that fits the task unit's schema, its text if there is no schema."""
    schema = unit.output.json_schema
    if finish_reason != "stop" or not schema:
        return text if finish_reason == "stop" else None
    found = read_json(text)
    return found.value if found is not None and is_valid(text, schema) else None
