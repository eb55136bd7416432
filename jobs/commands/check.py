"""Whether a contract could be run here: it is sound, its files and models are there. Nothing is read or unpacked."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from engine.contract import Contract
from engine.contract.consumers import consumers
from engine.contract.synthesize import Synthesis
from engine.errors import InputError, ModelError
from engine.grading.routing import check_tags
from engine.inference import locate
from engine.storage.shards import Folder
from jobs.terminal.console import columns


def verify(contract: Contract, *, root: str, models: str) -> None:
    """Check that every file and model that `contract` names is there.

    Raises:
        ContractError: a routing rule names a tag that no check gives.
        InputError: a source, the holdout or an evaluation list is missing.
        ModelError: a model folder is missing, holds no Hugging Face model, or a server's key is not in the environment.
    """
    check_tags(contract.judges.pools)
    absent = [problem for place, path in _files(contract) if (problem := _absent(place, path, root))]
    if absent:
        raise InputError("\n".join(absent))
    for place, name in _keys(contract):
        if not os.environ.get(name):
            raise ModelError(f"{place}: the environment variable {name} holds no key. Set it here and where the actors run.")
    for place, path in _weights(contract):
        try:
            locate.check(path, root=root, home=models)
        except ModelError as error:
            raise ModelError(f"{place}: {error}") from None


def _files(contract: Contract) -> Iterator[tuple[str, str]]:
    for number, source in enumerate(contract.prompts.sources):
        yield f"prompts.sources.{number}.path", source.path
    yield "prompts.holdout.path", contract.prompts.holdout.path
    for number, one in enumerate(contract.curation.decontaminate.lists):
        yield f"curation.decontaminate.lists.{number}.path", one.path
    for number, tool in enumerate(contract.teachers.tools):
        yield from ((f"teachers.tools.{number}.{key}", path) for key, path in tool.files.items())


def _absent(place: str, path: str, root: str) -> str:
    """What is wrong with a source, or nothing."""
    where = path if "://" in path else os.path.join(root, path)
    if glob.has_magic(path) or Folder(where).exists():  # which files a pattern means is looked up when they are read
        return ""
    return f"{place}: found nothing at {where}. Give a JSONL, CSV or Parquet file: relative to the contract, absolute, or a URL."


def _keys(contract: Contract) -> Iterator[tuple[str, str]]:
    for consumer in consumers(contract):
        if consumer.model.type == "endpoint" and consumer.model.key_env:
            yield f"{consumer.path}.key_env", consumer.model.key_env


def _weights(contract: Contract) -> Iterator[tuple[str, str]]:
    yield from ((f"{one.path}.path", one.model.path) for one in consumers(contract) if one.model.type == "vllm")
    yield from ((f"students.{number}.init.prune.source", one.init.prune.source) for number, one in enumerate(contract.students))
    for number, route in enumerate(contract.teachers.routes or ()):
        if route.nearest:
            yield f"teachers.routes.{number}.nearest.model", route.nearest.model
    if contract.curation.semantic:
        yield "curation.semantic.model", contract.curation.semantic.model


def as_text(contract: Contract, path: str) -> str:
    """Return the contract in a few lines."""
    asked = contract.gate.model_dump(exclude_none=True, exclude_defaults=True)
    rows = [
        ["specialist", contract.specialist.goal],
        ["task units", ", ".join(f"{unit.name} ({unit.kind})" for unit in contract.specialist.task_units)],
        *(["prompts", f"{source.path}{_taken(source.take)}, {source.licence}"] for source in contract.prompts.sources),
        *(["synthesis", f"{one.title}: {_wanted(one)}"] for one in contract.prompts.synthesize),
        [
            "holdout",
            f"{contract.prompts.holdout.path}{_taken(contract.prompts.holdout.take)}, labels by {contract.prompts.holdout.labels}",
        ],
        ["mode", contract.teachers.mode],
        *(["teacher", f"{one.name}: {one.model.path}, {one.sampling.n} answers a prompt"] for one in contract.teachers.models),
        *(["tool", f"{one.name}: {', '.join(one.files.values()) or 'reads no file'}"] for one in contract.teachers.tools),
        ["judges", ", ".join([*(check.type for check in contract.judges.checks), *_rubrics(contract)]) or "none"],
        *(
            [
                "student",
                f"{one.name}: {len(one.init.prune.layers)} layers of {one.init.prune.source}, {one.epochs} epochs, ZeRO {one.zero}",
            ]
            for one in contract.students
        ),
        ["gate", ", ".join(f"{name} {value}" for name, value in asked.items()) or "asks for nothing"],
    ]
    return columns(rows, head=[contract.name, Path(path).name])


def _taken(take: int | None) -> str:
    return f" ({take} rows of it)" if take else ""


def _wanted(one: Synthesis) -> str:
    if isinstance(one.wanted, int):
        return f"{one.wanted} prompts"
    return ", ".join(f"{rows} {layer}" for layer, rows in one.wanted.items())


def _rubrics(contract: Contract) -> list[str]:
    return [] if contract.teachers.mode == "direct" else [rubric.name for rubric in contract.judges.rubrics]
