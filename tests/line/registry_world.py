"""A process that promotes and rolls back: REGISTRY RUNS SEED TURNS; prints the id of each event once it is made."""

import random
import sys
from contextlib import suppress
from pathlib import Path

from engine.errors import MissingArtifact
from engine.release.registry import Package, Registry
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder


def main(registry: str, runs: str, seed: str, turns: str) -> None:
    rng, shelf = random.Random(seed), Registry(Folder(registry), "forms")
    artifacts = [artifact for path in sorted(Path(runs).iterdir()) if (artifact := load_artifact(Folder(str(path / "student"))))]
    for _ in range(int(turns)):
        if rng.random() < 0.6:
            artifact = rng.choice(artifacts)
            print(shelf.promote(artifact, Package("small", artifact.fingerprint, {"card.md": "text"})).id, flush=True)
            continue
        with suppress(MissingArtifact):
            shelf.rollback()
        print(shelf.history()[-1].id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
