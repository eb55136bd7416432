"""Whether the captured teachers give log-probabilities and have as many tokens as are wanted, before anything is paid."""

from collections.abc import Iterator
from pathlib import Path

from engine.capture.vocabulary import too_many
from engine.contract.contract import Contract
from engine.contract.on_policy import SOURCE
from engine.contract.profile import Pool, WeightsCache
from engine.contract.teachers import Teacher
from engine.errors import ModelError
from engine.inference.chat_template import load_tokenizer
from engine.inference.engine import Lost
from engine.inference.locate import DEFAULT, find_tokenizer, peek
from engine.inference.scoring import Target, Unscored
from engine.inference.weights import described
from engine.students.data.preflight import configuration

PROBE = Target([{"role": "user", "content": "Say OK."}], "OK")


def verify_capture(contract: Contract, *, root: str, models: str, cache: WeightsCache = DEFAULT) -> None:
    """Check the vocabularies of the captured teachers whose folders are there; a bundled model may not be unpacked yet.

    Raises:
        ModelError: a teacher has fewer tokens than `capture` wants of each, or a folder holds no tokenizer.
    """
    for key, teacher, folder in _folders(contract, root, models, cache):
        if key and not folder.is_dir():
            raise ModelError(f"{key}: found no folder at {folder}; give the tokenizer's files of the model behind the endpoint.")
        try:
            size = len(load_tokenizer(folder)) if key else _words(folder)
        except ModelError as error:
            raise ModelError(f"{key}: {error}") from None
        if contract.capture and size and size < contract.capture.entries:
            raise ModelError(too_many(contract.capture, teacher.name, size))


def verify_rounds(contract: Contract, *, root: str, models: str, cache: WeightsCache = DEFAULT) -> None:
    """Check the vocabularies of the models that score the samples of students, as far as their folders are there.

    Raises:
        ModelError: one has fewer tokens than `on_policy.k` wants of each distribution.
    """
    named = {teacher.name: teacher.model.path for teacher in contract.teachers.models if teacher.model.type == "vllm"}
    for number, student in enumerate(contract.students):
        section = student.on_policy
        path = (student.init.source if section.teacher == SOURCE else named.get(section.teacher or "")) if section else None
        size = path and _words(peek(path, root=root, home=models, cache=cache))
        if section and size and size < section.k:
            raise ModelError(
                f"students.{number}.on_policy.k: found {section.k}, but {section.teacher} has {size} tokens. Write at most that."
            )


def ask_captured(contract: Contract, *, root: str, cache: WeightsCache = DEFAULT) -> list[str]:
    """Score one word with each captured teacher behind an endpoint; return a line for each. It costs a few prompt tokens.

    Raises:
        ModelError: a server gives no log-probabilities of a text that it did not write, or fewer than `k`.
    """
    lines = []
    for key, teacher, folder in _folders(contract, root, "", cache):
        if key and contract.capture and teacher.model.type == "endpoint":
            from engine.inference.endpoint import EndpointEngine

            [found] = EndpointEngine(teacher.model, Pool(), folder).distributions([PROBE], contract.capture.entries)
            if isinstance(found, Lost):
                raise ModelError(f"{teacher.model.url}: did not score a word for capture.teachers {teacher.name}; try again later.")
            if isinstance(found, Unscored):
                raise ModelError(f"{teacher.model.url}: did not score a word for capture.teachers {teacher.name}: {found.error}")
            lines.append(f"{teacher.model.url} scores texts, as capture wants of {teacher.name}")
    return lines


def _words(folder: Path) -> int | None:
    """Return how many tokens the model in `folder` has; None if its configuration is not there, or does not say."""
    config = configuration(folder / "config.json")
    return config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")


def _folders(contract: Contract, root: str, models: str, cache: WeightsCache) -> Iterator[tuple[str, Teacher, Path]]:
    """Yield the captured teachers with the folder of their tokenizer, and the contract's key of it; "" if it is the model's own."""
    section = contract.capture
    for teacher in contract.teachers.models if section else ():
        if section and teacher.answers and (section.teachers is None or teacher.name in section.teachers):
            if teacher.model.type == "endpoint":
                tokenizer = find_tokenizer(section.tokenizers[teacher.name], root=root, cache=cache)
                yield f"capture.tokenizers.{teacher.name}", teacher, described(tokenizer)
            elif teacher.model.type == "vllm":
                yield "", teacher, peek(teacher.model.path, root=root, home=models, cache=cache)
