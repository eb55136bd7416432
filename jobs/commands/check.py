"""`rayleigh check`: whether a contract can run here: it is valid, its files, models and keys are there, its sources can be read.

No model is unpacked.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.contract.consumers import consumers
from engine.contract.contract import Contract
from engine.contract.exports import AnyExport, Int4
from engine.contract.models import LlamaCppModel, Model, TeacherModel, TrainedModel, VllmModel
from engine.contract.profile import Profile, WeightsCache
from engine.contract.prompts import Source
from engine.contract.students import Student
from engine.contract.synthesize import Synthesis
from engine.errors import InputError, ModelError, StorageError
from engine.grading.routing import check_tags
from engine.inference import locate
from engine.inference.bundled import BUNDLED
from engine.inference.chat_template import check_template
from engine.prompts.files import source_files
from engine.readers.below import below
from engine.storage.folder import Folder
from engine.students.export import gguf, int4
from engine.students.init.source import check_source
from jobs.commands.check_capture import verify_capture, verify_rounds
from jobs.commands.check_idle import idle_notes
from jobs.commands.check_models import check_engine
from jobs.commands.check_schemas import schema_notes, verify_schemas
from jobs.commands.check_students import student_line, student_notes, twin_notes, verify_students
from jobs.steps import trained
from jobs.steps.initial_source import release
from jobs.steps.models import placed
from jobs.terminal.console import columns

FOLDERS = VllmModel | LlamaCppModel
"""Models whose files are read here."""
Folders = dict[str, Path | None]
"""Model, as the contract calls it -> folder with its configuration and tokenizer; None if it is not unpacked."""


class ChatModel(NamedTuple):
    """A model that the contract asks with chats."""

    key: str
    """Its key in the contract, such as `teachers.models.0.model`."""
    model: Model | TeacherModel
    system: str = ""
    """The system text that its chats begin with; "" = none that the contract holds."""
    system_key: str = ""


def verify(contract: Contract, *, root: str, models: str, run: Folder | None = None, cache: WeightsCache = locate.DEFAULT) -> None:
    """Check that every file, model and key that `contract` names is there, and that chat templates take its system texts.

    `root` is where relative paths start, `models` the folder of unpacked models, `run` the run folder, next to which champions are.
    Of a model behind a URL all but the weights is fetched into `cache`.

    Raises:
        ContractError: a routing rule names a tag that no check gives, no student has validation examples, or the decoder cannot
            read an answer schema.
        InputError: a source, the holdout or an evaluation list is missing.
        ModelError: a model folder or a release is missing, holds no Hugging Face model or refuses its chats, or a server's key is
            not set.
    """
    check_tags(contract.judges.pools)
    verify_students(contract)
    problems = [problem for key, path in _files(contract) if (problem := _missing(key, path, root))]
    if problems:
        raise InputError("\n".join(problems))
    asked = list(chat_models(contract))
    for key, model, *_ in asked:
        if model.type == "endpoint" and model.key_env and not os.environ.get(model.key_env):
            raise ModelError(
                f"{key}.key_env: the environment variable {model.key_env} holds no key. Set it here and where the actors run."
            )
    for number, teacher in enumerate(contract.teachers.models):
        if isinstance(teacher.model, TrainedModel):
            try:
                found = trained.find(teacher.model, root)
                locate.check(found.place, root=root, home=models, cache=cache)
            except (ModelError, StorageError) as error:
                raise ModelError(f"teachers.models.{number}.model: {error}") from None
    folders: Folders = {}
    for key, path in _weights(contract):
        try:
            folders[path] = locate.check(path, root=root, home=models, cache=cache)
        except (ModelError, StorageError) as error:
            raise ModelError(f"{key}: {error}") from None
    for chat_model in asked:
        _check_model(chat_model, folders, root)
    for number, student in enumerate(contract.students):
        key = f"students.{number}.init.{student.init.kind}"
        try:
            place = _initial(student, contract, root=root, run=run)
            if place and (folder := locate.check(place, root=root, home=models, cache=cache)):
                is_here = "://" not in below(root, place)
                check_source(folder, student, contract.specialist.task_units[0].instruction, has_weights=is_here)
        except (ModelError, StorageError) as error:
            raise ModelError(f"{key}: {error}") from None
    verify_schemas(contract)
    verify_capture(contract, root=root, models=models, cache=cache)
    verify_rounds(contract, root=root, models=models, cache=cache)


def paths(contract: Contract) -> Iterator[tuple[str, str]]:
    """Yield the key and the path of every file and model folder that `contract` names; bundled models have none."""
    yield from _files(contract)
    yield from ((key, path) for key, path in _weights(contract) if path not in BUNDLED)


def verify_exporters(contract: Contract, profile: Profile, *, root: str, models: str, run: Folder | None = None) -> None:
    """Check that the tools of all exports are installed where `profile` says, and know the architectures of the students.

    Raises:
        ModelError: one is missing, and the message has the command that installs it; or it refuses a student's source.
    """
    known = set[tuple[Path, str, int | None]]()
    for number, student in enumerate(contract.students):
        for place, export in enumerate(student.exports):
            if export.type == "int8":
                continue
            key = f"students.{number}.exports.{place}"
            tool = gguf if export.type == "gguf" else int4
            packages = tool.PACKAGES.folder(profile, models)
            if problem := tool.PACKAGES.missing(packages):
                raise ModelError(f"{key}: {problem}")
            try:
                source = _initial(student, contract, root=root, run=run)
                folder = source and locate.check(source, root=root, home=models, cache=profile.weights_cache)
                if not folder or (isinstance(export, Int4) and student.init.shrink):
                    continue  # the sizes of its layers are not known yet
                check = (folder, export.type, export.group_size if isinstance(export, Int4) else None)
                if check not in known:
                    _check_export(folder, export, packages)
                    known.add(check)
            except (ModelError, StorageError) as error:
                raise ModelError(f"{key}: {error}") from None


def _check_export(source: Path, export: AnyExport, packages: str) -> None:
    """Check that `export` can be made of a student that begins with the model in the folder `source`.

    Raises:
        ModelError: it cannot.
    """
    if isinstance(export, Int4):
        int4.check(source, export)
    else:
        gguf.check(source, packages)


def _initial(student: Student, contract: Contract, *, root: str, run: Folder | None) -> str | None:
    """Return the path or URL of the model that `student` begins with; None if it is not known yet."""
    champion = student.init.champion
    if champion is None:
        return student.init.source
    return release(champion, run=run, contract=contract.name, root=root).place if run or champion.registry else None


def verify_sources(contract: Contract, *, root: str) -> None:
    """Open the files of all sources, the holdout and the evaluation lists, and read their first rows.

    Raises:
        InputError: a file cannot be read, or a column that is mapped is in no row; a long JSONL file is not read to its end.
    """
    unit = contract.specialist.task_units[0].name
    lists = contract.curation.decontaminate.lists
    sections = [
        *contract.prompts.sources,
        *(Source(path=one.path, licence="", columns=one.columns, damaged=one.damaged) for one in lists),
    ]
    source_files([*(("train", unit, one) for one in sections), ("holdout", unit, contract.prompts.holdout)], root=root)


def _check_model(chat_model: ChatModel, folders: Folders, root: str) -> None:
    if not isinstance(chat_model.model, FOLDERS):
        return
    path = chat_model.model.path
    folder = folders[path]
    check_engine(chat_model.key, placed(chat_model.model, root), folder, has_weights="://" not in below(root, path))
    if path not in BUNDLED and folder:
        try:
            check_template(folder, chat_model.system)
        except ModelError as error:
            keys = " and ".join(filter(None, [f"{chat_model.key}.path", chat_model.system_key]))
            raise ModelError(f"{keys}: {error}") from None


def _files(contract: Contract) -> Iterator[tuple[str, str]]:
    for number, source in enumerate(contract.prompts.sources):
        yield f"prompts.sources.{number}.path", source.path
    yield "prompts.holdout.path", contract.prompts.holdout.path
    yield from ((f"prompts.earlier.{number}", path) for number, path in enumerate(contract.prompts.earlier))
    for number, evaluation_list in enumerate(contract.curation.decontaminate.lists):
        yield f"curation.decontaminate.lists.{number}.path", evaluation_list.path
    for number, tool in enumerate(contract.teachers.tools):
        yield from ((f"teachers.tools.{number}.{key}", path) for key, path in tool.files.items())


def _missing(key: str, path: str, root: str) -> str:
    """Return the problem with the file at `path`; "" if it exists or is a pattern, which is resolved when it is read."""
    where = below(root, path)
    if glob.has_magic(path) or Folder(where).exists():
        return ""
    return (
        f"{key}: found nothing at {where}. Give a file of JSON, CSV, TSV or Parquet: relative to the contract, absolute, or a URL."
    )


def chat_models(contract: Contract) -> Iterator[ChatModel]:
    systems = {teacher.name: (number, teacher.system) for number, teacher in enumerate(contract.teachers.models)}
    for consumer in consumers(contract):
        number, system = systems[consumer.payee] if consumer.kind == "teacher" else (0, "")
        yield ChatModel(consumer.path, consumer.model, system, f"teachers.models.{number}.system" if system else "")


def _weights(contract: Contract) -> Iterator[tuple[str, str]]:
    yield from (
        (f"{consumer.path}.path", consumer.model.path) for consumer in consumers(contract) if isinstance(consumer.model, FOLDERS)
    )
    yield from (
        (f"students.{number}.init.{student.init.kind}.source", student.init.source)
        for number, student in enumerate(contract.students)
        if student.init.source is not None
    )
    for number, route in enumerate(contract.teachers.routes or ()):
        if route.nearest:
            yield f"teachers.routes.{number}.nearest.model", route.nearest.model
    if contract.curation.semantic:
        yield "curation.semantic.model", contract.curation.semantic.model


def as_text(contract: Contract, path: str, servers: Sequence[str] = ()) -> str:
    """Return a summary of the contract, which was read from `path`, in a few lines; `servers` are lines about them."""
    minimums = contract.gate.model_dump(exclude_none=True, exclude_defaults=True)
    holdout, teachers = contract.prompts.holdout, contract.teachers
    rows = [
        ["specialist", contract.specialist.goal],
        ["task units", ", ".join(f"{unit.name} ({unit.kind})" for unit in contract.specialist.task_units)],
        *(["earlier", f"the prompts of {run}"] for run in contract.prompts.earlier),
        *(["prompts", f"{source.path}{_taken(_rows(source))}, {source.licence}"] for source in contract.prompts.sources),
        *(["synthesis", f"{synthesis.title}: {_size(synthesis)}"] for synthesis in contract.prompts.synthesize),
        ["holdout", f"{holdout.path}{_taken(holdout.take)}, labels by {holdout.labels}"],
        ["mode", teachers.mode],
        *(
            ["teacher", f"{teacher.name}: {teacher.model.path}, {teacher.sampling.n} answers a prompt"]
            for teacher in teachers.models
        ),
        *(["tool", f"{tool.name}: {', '.join(tool.files.values()) or 'reads no file'}"] for tool in teachers.tools),
        ["judges", ", ".join([*(check.type for check in contract.judges.checks), *_confidence(contract)]) or "none"],
        *(["student", student_line(student)] for student in contract.students),
        *(["training", note] for note in student_notes(contract)),
        *(["settings", note] for note in idle_notes(contract)),
        *(["decoder", note] for note in schema_notes(contract)),
        *(["server", line] for line in servers),
        *(["objectives", note] for note in twin_notes(contract)),
        ["gate", ", ".join(f"{name} {_value(value)}" for name, value in minimums.items()) or "asks for nothing"],
    ]
    return columns(rows, head=[contract.name, Path(path).name])


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _rows(source: Source) -> int | None:
    return source.take if source.lines is None else sum(map(len, source.lines.values()))


def _taken(rows: int | None) -> str:
    return "" if rows is None else f" ({rows} rows of it)"


def _size(synthesis: Synthesis) -> str:
    if isinstance(synthesis.wanted, int):
        return f"{synthesis.wanted} prompts"
    return ", ".join(f"{rows} {layer}" for layer, rows in synthesis.wanted.items())


def _confidence(contract: Contract) -> list[str]:
    """Return what the confidence is computed from: rubrics, kinds of evidence, readers."""
    if contract.teachers.mode == "direct":
        return []
    evidence = contract.judges.evidence
    kinds = [*evidence.of, *(reader.name for reader in evidence.readers)] if evidence else []
    return [*(rubric.name for rubric in contract.judges.rubrics), *kinds]
