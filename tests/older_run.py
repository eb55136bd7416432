"""A finished run of schema version 3, with its sources, model and ledger: see tests/data/README.md."""

import tarfile
from pathlib import Path

import yaml

from engine.contract.renames import renamed_in
from engine.contract.sections import read_yaml

PACKED = Path(__file__).parent / "data" / "run-v3.tar.xz"


def unpack(folder: Path) -> Path:
    """Unpack the run below `folder`, and return the folder of its contract, which contains the run folder `run`.

    Beside `contract.yaml`, which has the keys of that time, `today.yaml` has those of today.
    """
    with tarfile.open(PACKED) as archive:
        archive.extractall(folder, filter="data")
    root = folder / "run-v3"
    contract, _ = renamed_in(read_yaml(root / "contract.yaml"))
    (root / "today.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))  # the order of a JSON schema is part of a request
    return root
