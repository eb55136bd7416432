"""Which machine this is, as far as the time that an answer takes depends on it."""

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

CPU, GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


@cache
def machine() -> str:
    """Return the models of this machine's processor and GPUs, and how many there are; equal for nodes of one kind."""
    names = [*_values(CPU, "model name")[:1], platform.machine()]
    gpus = sorted(name for file in GPUS.glob("*/information") for name in _values(file, "Model"))
    return "; ".join([f"{os.cpu_count()} x {names[0]}", *gpus])


def _values(file: Path, key: str) -> list[str]:
    """Return the values of the lines `key: value` of a file of the kernel; none if it cannot be read."""
    lines: list[str] = []
    with suppress(OSError, ValueError):
        lines = file.read_text().splitlines()
    return [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]
