"""OpenAI's chat completions: what is read of a request, and what is written.

A parameter that would change what was measured is refused by name; one that has the measured value, or changes no answer, is taken.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.contract.specialist import TaskUnit
from engine.inference.engine import Chat
from engine.rows import Row
from engine.serving.api_error import ApiError, wrong
from engine.serving.body import Limits, kind_of, known, text_of
from engine.serving.service import Reply

MEASURED: dict[str, tuple[object, ...]] = {  # parameter -> values with which the answer is the measured one
    "temperature": (0,),
    "top_p": (1,),
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "reasoning_effort": (),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "verbosity": (),
}
HARMLESS = {"user": str, "metadata": dict, "seed": int, "store": bool, "safety_identifier": str, "prompt_cache_key": str}
HARMLESS |= {"service_tier": str, "parallel_tool_calls": bool}
OWN = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "response_format")
TURN = ("role", "content", "name", "refusal")
ROLES = ("system", "developer", "user", "assistant")


class ChatRequest(NamedTuple):
    """A chat as the engine gets it: without the system text, which the server puts in."""

    model: str
    unit: TaskUnit
    messages: Chat
    stream: bool
    stream_usage: bool


class Models(NamedTuple):
    """The models that a server offers, and the limits of their measurement."""

    units: Mapping[str, TaskUnit]
    """Name of a model -> its task unit."""
    systems: Mapping[str, str]
    """Task unit -> system text."""
    max_tokens: int


def model_names(contract: str, units: Mapping[str, TaskUnit]) -> dict[str, TaskUnit]:
    """Return model -> task unit: `CONTRACT/UNIT` for each, and `CONTRACT` alone if there is one."""
    names = {f"{contract}/{name}": unit for name, unit in units.items()}
    return {contract: next(iter(units.values())), **names} if len(units) == 1 else names


def read_chat(body: dict[str, Any], models: Models, limits: Limits) -> ChatRequest:
    """Return the chat in `body`.

    Raises:
        ApiError: something in it is of a wrong type, not known, or not what was measured.
    """
    known(body, (*OWN, *MEASURED, *HARMLESS))
    body = {key: value for key, value in body.items() if value is not None}
    name = text_of(body.get("model"), "model")
    unit = models.units.get(name)
    if unit is None:
        raise ApiError(
            404, "model_not_found", f"model: there is no {name[:64]!r}; there are {', '.join(models.units)}.", param="model"
        )
    for key, values in MEASURED.items():
        if key in body and not any(_equal(body[key], value) for value in values):
            allowed = " or ".join(json.dumps(value) for value in values) or "leave it out"
            raise wrong(key, f"changes what was measured; only {allowed} is served.", "unsupported_parameter")
    for key, kind in HARMLESS.items():
        if key in body and type(body[key]) is not kind:
            raise wrong(key, f"found {kind_of(body[key])}, expected another type.")
    _check_length(body, models.max_tokens)
    _check_format(body.get("response_format"), unit)
    options = _option(body, "stream_options", dict, {})
    known(options, ("include_usage",), "stream_options.")
    messages = _messages(body.get("messages"), models.systems.get(unit.name, ""), limits)
    usage = _option(options, "include_usage", bool, False)
    return ChatRequest(name, unit, messages, _option(body, "stream", bool, False), usage)


def completion(reply: Reply, model: str, created: int) -> dict[str, Any]:
    """Return the body of a whole answer."""
    text, refusal = message(reply)
    choice = {"index": 0, "message": {"role": "assistant", "content": text, "refusal": refusal}, "logprobs": None}
    return {
        "id": f"chatcmpl-{reply.request_id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{**choice, "finish_reason": finish_reason(reply)}],
        "usage": usage(reply),
        "system_fingerprint": reply.deployment[:16],
        "rayleigh": about(reply),
    }


def finish_reason(reply: Reply) -> str:
    """Return how the message ended: an abstention is complete, whatever became of the student's answer."""
    return "stop" if reply.abstained else reply.answer.finish_reason


def usage(reply: Reply) -> dict[str, int]:
    """Return the tokens of an answer."""
    tokens_in, tokens_out = reply.answer.tokens_in, reply.answer.tokens_out
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}


def about(reply: Reply) -> dict[str, Any]:
    """Return what a reply says beyond OpenAI's fields."""
    return {
        "unit": reply.unit.name,
        "route": reply.route,
        "abstained": reply.abstained,
        "confidence": reply.answer.confidence,
        "reason": reply.reason,
        "deployment": reply.deployment,
    }


def message(reply: Reply) -> tuple[str | None, str | None]:
    """Return content and refusal."""
    if reply.abstained:
        return None, f"The model abstains: {reply.reason or 'it is not sure enough'}."
    return reply.answer.text, None


def _messages(turns: object, system: str, limits: Limits) -> Chat:
    if not isinstance(turns, list) or not turns:
        found = "an empty list" if turns == [] else kind_of(turns)
        raise wrong("messages", f"found {found}, expected a list of messages.")
    if len(turns) > limits.messages:
        raise wrong("messages", f"found {len(turns)}, at most {limits.messages} are taken.")
    chat = [_turn(turn, f"messages.{place}") for place, turn in enumerate(turns)]
    if chat[0]["role"] in ("system", "developer"):
        if chat[0]["content"].strip() != system.strip():
            raise wrong(
                "messages.0", "this system text is not the measured one. Leave it out: the server puts it in.", "system_text"
            )
        chat = chat[1:]
    for place, turn in enumerate(chat):
        if turn["role"] in ("system", "developer"):
            raise wrong(f"messages.{place}.role", "a system text stands only at the head.", "system_text")
    if not chat or chat[-1]["role"] != "user":
        raise wrong("messages", "the last message must be the user's.")
    return chat


def _turn(turn: object, where: str) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise wrong(where, f"found {kind_of(turn)}, expected an object with role and content.")
    turn = {key: value for key, value in turn.items() if value is not None}  # a client sends back what it got, nulls included
    known(turn, TURN, f"{where}.")
    role = text_of(turn.get("role"), f"{where}.role")
    if role not in ROLES:
        raise wrong(f"{where}.role", f"found {role[:32]!r}, expected one of {', '.join(ROLES)}.")
    if "refusal" in turn and role != "assistant":
        raise wrong(f"{where}.refusal", f"found one of {role}, expected it of the assistant alone.")
    refusal = text_of(turn.get("refusal", ""), f"{where}.refusal")
    content = turn.get("content", refusal if "refusal" in turn else None)
    content = refusal if content == "" else content  # pieces of a stream put together: they begin with an empty content
    if isinstance(content, list):
        return {"role": role, "content": "\n".join(_part(part, f"{where}.content.{n}") for n, part in enumerate(content))}
    return {"role": role, "content": text_of(content, f"{where}.content")}


def _part(part: object, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise wrong(where, "only parts of type text are taken.")
    known(part, ("type", "text"), f"{where}.")
    return text_of(part.get("text"), f"{where}.text")


def _check_length(body: Row, longest: int) -> None:
    for key in ("max_tokens", "max_completion_tokens"):
        value = _option(body, key, int, longest)
        if value < longest:
            raise wrong(key, f"found {value}; the model was measured with {longest}, and a shorter answer would be cut.")


def _check_format(found: object, unit: TaskUnit) -> None:
    """A schema may be named only if it is the measured one, which the server decodes with anyway."""
    if found is None:
        return
    schema = unit.output.json_schema
    kind = found.get("type") if isinstance(found, dict) else None
    stated = found.get("json_schema") if isinstance(found, dict) else None
    same = isinstance(stated, dict) and stated.get("schema") == schema
    if not (kind == "json_schema" and same) if schema else kind != "text":
        measured = "the task unit's own json_schema" if schema else "text"
        raise wrong("response_format", f"changes what was measured; leave it out, or send {measured}.", "unsupported_parameter")


def _option(body: Row, key: str, kind: type, default: Any) -> Any:
    value = body.get(key, default)
    if type(value) is not kind:
        raise wrong(key, f"found {kind_of(value)}, expected another type.")
    return value


def _equal(found: object, value: object) -> bool:
    """Return whether two JSON values are equal; `true` is not 1."""
    return isinstance(found, bool) == isinstance(value, bool) and found == value
