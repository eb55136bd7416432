"""The earlier runs whose prompts a run takes over (`prompts.earlier`)."""

from collections.abc import Iterator

from engine.errors import MissingArtifact
from engine.prompts.earlier import Earlier
from engine.readers.below import below
from engine.runs.job import JobContext
from engine.runs.recipe import recipe_of
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder

PROMPTS = "prompts"


def runs(context: JobContext, *, first: int) -> list[Earlier]:
    """Return the earlier runs; they count as the files from number `first` on.

    Raises:
        MissingArtifact: one has no finished job `prompts`.
    """
    return [
        Earlier(found.folder / PROMPTS, found.table(PROMPTS), first + number, tuple(dict.fromkeys(_paths(found, context.root))))
        for number, found in enumerate(_artifacts(context))
    ]


def size(context: JobContext) -> int:
    """Return the bytes of their tables, as stored."""
    return sum(shard.bytes for found in _artifacts(context) for shard in found.table(PROMPTS).shards)


def hashes(context: JobContext) -> dict[str, str]:
    """Return run -> fingerprint of its prompts.

    Raises:
        MissingArtifact: one has no finished job `prompts`.
    """
    names = context.contract.prompts.earlier
    return {f"{name}/{PROMPTS}": found.fingerprint for name, found in zip(names, _artifacts(context), strict=True)}


def _artifacts(context: JobContext) -> list[Artifact]:
    return [_opened(name, context.root) for name in context.contract.prompts.earlier]


def _opened(name: str, root: str) -> Artifact:
    folder = Folder(below(root, name))
    found = load_artifact(folder / PROMPTS)
    if found is None:
        raise MissingArtifact(
            f"prompts.earlier: {folder} has no finished job `{PROMPTS}`, whose prompts come first here. Run it, or correct the key."
        )
    return found


def _paths(found: Artifact, root: str) -> Iterator[str]:
    """Yield the paths of the sources of an artifact `prompts`, and of those that it took over, as their contracts write them."""
    section = recipe_of(found.record)["prompts"]
    yield from (source["path"] for source in section["sources"])
    for name in section.get("earlier", ()):
        yield from _paths(_opened(name, root), root)
