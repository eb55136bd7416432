"""Memory of engines on CPUs."""

from pathlib import Path

import pytest

from engine.contract.profile import Pool
from engine.inference import room
from engine.inference.room import ENGINE_GIB, GIB, engine_gib, free_gib


def test_an_engine_takes_its_cache_and_the_heavy_files_of_its_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(" " * 100)
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(b"0" * 512)
    pool = Pool(kv_cache_gib=0.5)
    assert engine_gib(pool, tmp_path) == ENGINE_GIB + 0.5 + 1024 / GIB
    assert engine_gib(pool, None) == ENGINE_GIB + 0.5
    assert engine_gib(Pool(gpus=1), tmp_path) == 0


@pytest.mark.parametrize(("limit", "free"), [("1000\n", (1000 - 900 + 300) / GIB), ("max\n", None)])
def test_a_container_gives_up_its_cache_of_files_first(
    limit: str, free: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    files = {"memory.max": limit, "memory.current": "900\n", "memory.stat": "anon 600\ninactive_file 300\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    assert free_gib() == free if free is not None else free_gib() > 0.01
