"""What the nodes of a cluster read by path, which must be the same on each of them; and what needs a shared mount."""

from collections.abc import Iterator

from engine.contract.contract import Contract
from engine.contract.models import TrainedModel
from engine.contract.profile import Profile
from engine.errors import InputError
from engine.inference.bundled import BUNDLED
from engine.readers.below import below
from engine.storage.folder import Folder
from jobs.commands.check import paths
from jobs.terminal.console import columns

ONE_MACHINE = ("local", "none")  # addresses of a profile whose work stays on the machine of the command


def check_nodes(contract: Contract, profile: Profile, root: str) -> str:
    """Return what of `contract` the nodes of `profile` read by path, and what needs a run folder on a shared mount; "" if all of it
    goes by URL, or if there is one machine only."""
    if profile.ray.address in ONE_MACHINE:
        return ""
    text = []
    if rows := [[key, path] for key, path in node_paths(contract) if "://" not in below(root, path)]:
        advice = "by an image, a shared mount, or `rayleigh submit`, which sends the contract's folder. Or give URLs"
        text.append(f"Read by path, which every node must have, {advice}:\n{columns(rows, head=['', 'path'])}")
    if keys := list(bound_to_disks(contract)):
        text.append(
            "These need the run folder on a mount that all nodes share, as engines load a student in training from a file system; "
            f"with a run folder behind a URL they are refused: {', '.join(keys)}."
        )
    return "\n\n".join(text)


def require_run_folder(contract: Contract, run: Folder) -> None:
    """Refuse what does not work with a run folder behind a URL, before anything is paid.

    Raises:
        InputError: it is one, and a student has `on_policy`.
    """
    if not run.is_local and (keys := list(bound_to_disks(contract))):
        raise InputError(
            f"{', '.join(keys)}: engines load a student in training from a file system only, found the run folder {run}. Use a run "
            "folder on a disk, or on a mount that all nodes share; or take these keys out."
        )


def bound_to_disks(contract: Contract) -> Iterator[str]:
    """Yield the keys that do not work with a run folder behind a URL."""
    yield from (f"students.{number}.on_policy" for number, student in enumerate(contract.students) if student.on_policy)


def node_paths(contract: Contract) -> Iterator[tuple[str, str]]:
    """Yield key and path or URL of every file and folder of `contract` that nodes read; bundled models have none."""
    yield from paths(contract)
    for number, student in enumerate(contract.students):
        if student.init.champion and student.init.champion.registry:
            yield f"students.{number}.init.champion.registry", student.init.champion.registry
    for number, teacher in enumerate(contract.teachers.models):
        if isinstance(teacher.model, TrainedModel):
            yield f"teachers.models.{number}.model", teacher.model.path
    sections = {"capture": contract.capture, "judges.evidence": contract.judges.evidence}
    for key, section in sections.items():
        if section:
            tokenizers = section.tokenizers.items()
            yield from ((f"{key}.tokenizers.{name}", path) for name, path in tokenizers if path not in BUNDLED)
