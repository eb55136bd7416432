"""Models that this program has trained, as teachers: finds a student of another run, or a release, and how it is prompted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from engine.contract.contract import Contract
from engine.contract.init import ChampionRelease
from engine.contract.models import (
    EndpointModel,
    FakeModel,
    LlamaCppModel,
    Model,
    ReleaseModel,
    StudentModel,
    TrainedModel,
    VllmModel,
)
from engine.contract.profile import WeightsCache
from engine.contract.specialist import Specialist, TaskUnit
from engine.contract.students import Student
from engine.contract.teachers import Teacher
from engine.errors import MissingArtifact, ModelError, StorageError
from engine.evaluation.size import model_size
from engine.inference import locate
from engine.inference.identity import fingerprint_at
from engine.readers.below import below
from engine.records.release import ReleaseManifest
from engine.release.registry import CONTRACT, RELEASE
from engine.runs.job import JobContext
from engine.storage.folder import Folder
from engine.tools.toolset import Toolset
from jobs import workspace
from jobs.steps.initial_source import release
from jobs.steps.models import found, named, placed
from jobs.steps.toolset import file_hashes, toolset


@dataclass(frozen=True)
class Trained:
    """A trained model, and the contract under which it was trained."""

    place: str
    """Path or URL of its folder."""
    student: Student
    units: Mapping[str, TaskUnit]


@dataclass(frozen=True)
class AskedTeacher:
    """A teacher whose model an engine can load, and the prompts that it gets."""

    section: Teacher
    specialist: Specialist
    systems: Mapping[str, str] = field(default_factory=dict)
    """Task unit -> system text, of a model with one of its own for each."""

    @property
    def model(self) -> Model:
        """The model that an engine loads."""
        model = self.section.model
        assert isinstance(model, VllmModel | LlamaCppModel | EndpointModel | FakeModel), (
            "labels are not asked, and trained ones were found"
        )
        return model

    @property
    def units(self) -> dict[str, TaskUnit]:
        """Task units by name."""
        return {unit.name: unit for unit in self.specialist.task_units}


def asked(section: Teacher, specialist: Specialist, root: str, cache: WeightsCache = locate.DEFAULT) -> AskedTeacher:
    """Return `section` with the model that an engine loads; a trained one is prompted, and its answers are decoded, as in training.

    Relative paths start at `root`. No weights of a model behind a URL are fetched.

    Raises:
        ModelError: the model of another run, or the release, is not there.
        StorageError: the store of its URL cannot be reached.
    """
    if not isinstance(section.model, TrainedModel):
        return AskedTeacher(section.model_copy(update={"model": placed(section.model, root)}), specialist)
    trained = find(section.model, root)
    units = tuple(trained.units.get(unit.name, unit) for unit in specialist.task_units)
    described = locate.peek(trained.place, root=root, home="", cache=cache)
    longest = min(section.model.max_model_len, model_size(described).positions or section.model.max_model_len)
    model = VllmModel(type="vllm", path=trained.place, dtype=trained.student.dtype, max_model_len=longest)
    structured = section.structured and all(unit.supervise != "process" for unit in units)  # a rationale fits no schema
    return AskedTeacher(
        section.model_copy(update={"model": model, "structured": structured}),
        specialist.model_copy(update={"task_units": units}),
        {unit.name: unit.instruction for unit in units},
    )


def find(model: TrainedModel, root: str) -> Trained:
    """Return the trained model that a contract, whose relative paths start at `root`, names.

    Raises:
        ModelError: it is not there, or its contract cannot be read.
    """
    try:
        folder, student, contract = _student(model, root) if isinstance(model, StudentModel) else _release(model, root)
    except (MissingArtifact, ModelError, StorageError, ValidationError) as error:
        raise ModelError(f"{model.type} {model.path}: {error}") from None
    return Trained(named(folder), student, {unit.name: unit for unit in contract.specialist.task_units})


def tools_of(context: JobContext, section: Teacher) -> Toolset | None:
    """Return the tools of a teacher; None unless the mode is `tools`. A trained one knows them without a description."""
    tools = toolset(context)
    return replace(tools, in_system_text=False) if tools and isinstance(section.model, TrainedModel) else tools


def _student(model: StudentModel, root: str) -> tuple[Folder, Student, Contract]:
    work = workspace.reopen(below(root, model.run))
    names = [student.name for student in work.contract.students]
    if model.name not in names:
        raise MissingArtifact(f"the run has no student {model.name!r}; it has {', '.join(names)}")
    artifact = workspace.finished(work.folder, f"students/{model.name}")
    return artifact.folder / "model", work.contract.student(model.name), work.contract


def _release(model: ReleaseModel, root: str) -> tuple[Folder, Student, Contract]:
    section = ChampionRelease(registry=model.registry, contract=model.contract, version=model.version)
    folder = Folder(release(section, run=None, contract=model.contract, root=root).place)
    kept = Folder(folder.url.rpartition("/")[0])
    manifest = ReleaseManifest.model_validate_json(kept.read(RELEASE))
    contract = Contract.model_validate_json(kept.read(CONTRACT))
    return folder, contract.student(manifest.student), contract


def inputs(context: JobContext) -> dict[str, str]:
    """Return name -> hash of the weights of each trained teacher, and of the files of tools: what the answers depend on.

    Raises:
        MissingArtifact: a trained teacher is not there any more.
    """
    hashes = file_hashes(context)
    evidence = context.contract.judges.evidence
    places = {f"teachers.models.{section.name}": section for section in context.contract.teachers.models}
    places |= {f"judges.evidence.readers.{section.name}": section for section in (evidence.readers if evidence else ())}
    for place, section in places.items():
        if isinstance(section.model, TrainedModel):
            try:
                hashes[f"{place}.model"] = fingerprint_at(found(context, find(section.model, context.root).place))
            except ModelError as error:  # an artifact whose inputs were removed later is still finished
                raise MissingArtifact(str(error)) from None
    return hashes
