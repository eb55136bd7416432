"""Answer schemas in `rayleigh check`: each is compiled for the decoder, and what is left to the check of the answer is listed."""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import groupby

from engine.contract.answer_schema import subschemas, validator
from engine.contract.base import JsonSchema
from engine.contract.contract import Contract
from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.errors import ContractError, ModelError
from engine.inference.decodable import decodable
from engine.inference.engine import Request
from engine.inference.grammar_probe import grammar_problem
from engine.inference.intersect import ANNOTATIONS, DEFINITIONS
from engine.tools import conversation

PROBE = "Say OK."


def verify_schemas(contract: Contract) -> None:
    """Compile the schema of each task unit as vLLM does: students are evaluated with it, whoever the teachers are.

    Raises:
        ContractError: xgrammar does not compile what `decodable` makes of a schema.
    """
    problems = []
    for number, unit in enumerate(contract.specialist.task_units):
        schema = _sent(contract, unit)
        if schema is not None and (problem := grammar_problem(decodable(schema).schema)):
            key = f"specialist.task_units.{number}.output.json_schema"
            problems.append(f"{key}{problem}. The decoder (xgrammar) cannot read this: write it in another way.")
    if problems:
        raise ContractError("\n".join(problems))


def schema_notes(contract: Contract) -> list[str]:
    """Return what decoders do not hold of the schemas, and what holds it in their place: one line for a reason."""
    notes = []
    for unit in contract.specialist.task_units:
        schema = unit.output.json_schema
        left = decodable(schema).left if schema is not None else ()
        notes += [f"{unit.name}: {words}" for words in _misspelt(schema)]
        for reason, items in groupby(sorted(left, key=lambda item: item.reason), key=lambda item: item.reason):
            notes.append(f"{unit.name}: {', '.join(item.path.removeprefix('.') for item in items)}: {reason}")
        if left and not _is_checked(contract, unit):
            notes.append(f"{unit.name}: nothing else holds this: add {{type: json_schema}} to judges.checks")
        elif left:
            notes.append(f"{unit.name}: the check json_schema holds this in the decoder's place, and drops answers that do not fit")
    return notes


def ask_servers(contract: Contract) -> list[str]:
    """Send each server one short request for each schema that its teacher decodes; return a line for each.

    Raises:
        ModelError: a server is away or does not take a schema.
    """
    from engine.inference.endpoint import EndpointEngine

    lines, refusals = [], []
    for path, model, unit, schema in _served(contract):
        chat = [{"role": "user", "content": PROBE}]
        try:
            engine = EndpointEngine(model, Pool(), None)
            [completion] = engine.complete([Request(chat, 0, 0.0, schema)], Sampling(max_tokens=16))
            if completion.finish_reason in ("error", "refused", "too_long"):
                raise ModelError(f"{model.url}: {completion.error}")
            lines.append(f"{model.url} takes the schema of {unit.name}")
        except ModelError as error:
            refusals.append(f"{path}, with the schema of {unit.name}: {error}")
    if refusals:
        raise ModelError("\n".join(refusals))
    return lines


def unasked_servers(contract: Contract) -> list[str]:
    """Return a line for each server that would have to decode a schema: whether it can is not known before it is asked."""
    urls = dict.fromkeys(model.url for _, model, _, _ in _served(contract))
    return [f"{url}: not known whether it takes the schemas; `rayleigh check --ask` sends one short request each" for url in urls]


def _served(contract: Contract) -> Iterator[tuple[str, EndpointModel, TaskUnit, JsonSchema]]:
    for number, teacher in enumerate(contract.teachers.models):
        model = teacher.model
        if model.type == "endpoint" and teacher.structured and "response_format" not in (model.omit or ()):
            for unit in contract.specialist.task_units:
                schema = _sent(contract, unit)
                if schema is not None:
                    yield f"teachers.models.{number}.model", model, unit, schema


def _sent(contract: Contract, unit: TaskUnit) -> JsonSchema | None:
    """Return the schema that is sent with the requests of `unit`, as a turn with tools in mode `tools`."""
    if contract.teachers.mode != "tools":
        return unit.output.json_schema
    return conversation.schema([tool.name for tool in contract.teachers.tools], unit.output.json_schema)


def _misspelt(schema: JsonSchema | None) -> Iterator[str]:
    """Yield each key that no draft knows and that resembles one: JSON Schema ignores unknown keys."""
    if schema is None:
        return
    known = sorted({*validator(schema).VALIDATORS, *ANNOTATIONS, *DEFINITIONS, "else", "then"})
    for place in subschemas(schema):
        for key in place.schema if isinstance(place.schema, dict) else ():
            near = [] if key in known else get_close_matches(key, known, n=1, cutoff=0.8)
            if near:
                yield (
                    f"{place.path}.{key}".removeprefix(".") + f": is no keyword of JSON Schema and has no effect; perhaps {near[0]}"
                )


def _is_checked(contract: Contract, unit: TaskUnit) -> bool:
    checks = [check for check in contract.judges.checks if check.type == "json_schema"]
    return any(not check.task_units or unit.name in check.task_units for check in checks)
