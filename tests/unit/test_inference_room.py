"""Memory of engines on CPUs: how many of them a machine has room for."""

from pathlib import Path

import pytest

from engine.contract.profile import Pool
from engine.inference.room import ENGINE_GIB, GIB, Engines, that_fit, weights_gib


def engines(fewest: int, most: int, gib: float = 1.0) -> Engines:
    """Engines of `gib` GiB each."""
    pool = Pool.model_validate({"actors": {"min": fewest, "max": most}, "kv_cache_gib": gib / 2})
    return Engines(pool, gib / 2 - ENGINE_GIB)


@pytest.mark.parametrize(
    ("wanted", "room", "counts"),
    [
        ([engines(1, 2)], 2.0, [2]),
        ([engines(1, 2)], 1.9, [1]),
        ([engines(1, 2)], 0.0, [1]),  # the fewest start in any case: the profile says so
        ([engines(1, 3), engines(1, 3)], 5.0, [3, 2]),  # in turn
        ([engines(1, 9, 4.0), engines(1, 2)], 6.5, [1, 2]),
        ([], 1.0, []),
    ],
)
def test_as_many_engines_as_memory_has_room_for(wanted: list[Engines], room: float, counts: list[int]) -> None:
    assert that_fit(wanted, room) == counts


def test_the_weights_of_a_model_are_its_heavy_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(" " * 100)
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(b"0" * 512)
    assert weights_gib(tmp_path) == 1024 / GIB
    assert weights_gib(None) == 0
