"""What replicas on Ray Serve are told: the same in every working directory."""

import pickle
from pathlib import Path

import pytest

from engine.contract.profile import Pool
from jobs.commands.serve import Options, for_replicas
from jobs.commands.serve_cascade import Order


def test_paths_are_absolute_and_only_replicas_on_cpus_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    options = Options(place="registry/orders", cascade=Order("run/cascade.json"))
    found = pickle.loads(pickle.dumps(for_replicas(options, Pool(), said.append)))
    assert Path(found.place) == tmp_path / "registry/orders" and Path(found.cascade.file) == tmp_path / "run/cascade.json"
    assert found.follow and not said
    assert not for_replicas(options, Pool(gpus=1), said.append).follow and "start the server anew" in said[0]
    assert for_replicas(Options(place="s3://bucket/orders"), Pool(), said.append).place == "s3://bucket/orders"
