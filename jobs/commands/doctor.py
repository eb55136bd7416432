"""What this machine has against what a profile needs, and how to mend each.

`rayleigh doctor --json` prints {profile, checks}, each check with name, ok, found, expected and mend ("" if ok).
"""

import importlib.metadata
import math
import os
import re
import shutil
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from packaging.requirements import Requirement

from engine.contract import Profile, load_profile
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference import locate
from engine.inference.bundled import BUNDLED
from engine.sandbox import isolation
from jobs import workspace
from jobs.terminal.console import columns

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
GIB = 2**30
RAY_GIB = 1.5  # driver, raylet, GCS and the helpers of Ray Data and Ray Train
ENGINE_GIB = 1.5  # an actor with vLLM and a model of 135M parameters, before its cache
TRAINER_GIB = 3.0  # a worker that trains 50M parameters
STUDENTS, EXAMINED = 2, 4  # trained at the same time; asked at the same time: a teacher, two students, a champion
ROOM_GIB = 3.0  # a small run, its checkpoints and the unpacked models
PORTS = 3  # GCS, raylet, object manager


class Finding(NamedTuple):
    """One check."""

    name: str
    ok: bool
    found: str
    expected: str
    mend: str


def doctor(profile: str) -> dict[str, Any]:
    """Return the object that the module describes.

    Raises:
        ContractError: there is no such profile.
    """
    wanted = load_profile(workspace.profile_path(profile))
    found = [
        *_packages(),
        *_memory(wanted),
        *_cpus(wanted),
        *_models(),
        *_storage(),
        *_shared_memory(wanted),
        *_ports(),
        _sandbox(),
    ]
    return {"profile": wanted.name, "checks": [one._replace(mend="" if one.ok else one.mend)._asdict() for one in found]}


def as_text(found: dict[str, Any]) -> str:
    """Return one line a check, and below how to mend what is not right."""
    checks = found["checks"]
    rows = [["ok" if one["ok"] else "NOT OK", one["name"], one["found"], one["expected"]] for one in checks]
    mends = [f"{one['name']}: {one['mend']}" for one in checks if not one["ok"]]
    return columns(rows, head=["", "check", "found", "expected"]) + "\n\n" + ("\n".join(mends) or "All is well.")


def _packages() -> Iterator[Finding]:
    """Each package that is missing or of another version; one line for all that are right."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    engine = "gpu" if _version("vllm") else "cpu"
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras[engine]]]
    wrong = [one for one in wanted if not (version := _version(one.name)) or not one.specifier.contains(version, prereleases=True)]
    mend = f"pip install -e '.[{engine}]' with cluster/constraints.txt, or `make setup`"
    yield Finding("packages", not wrong, f"{len(wanted) - len(wrong)} as ordered", f"{len(wanted)} of pyproject.toml", mend)
    for one in wrong:
        yield Finding(one.name, False, _version(one.name) or "not installed", str(one), mend)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory(profile: Profile) -> Iterator[Finding]:
    """Teachers and judges are at work at the same time; so are the trainers of students; so are examiners. Small models."""
    if profile.ray.address != "local":
        return
    streaming = _gib(profile.teacher) + _gib(profile.judge)
    training = STUDENTS * TRAINER_GIB * (not profile.trainer.gpus)
    examining = _gib(profile.evaluator, most=EXAMINED)
    need = RAY_GIB + profile.ray.object_store_gib + max(streaming, training, examining)
    free = min(psutil.virtual_memory().available, _cgroup_free()) / GIB
    mend = "end other programs, or lower actors, kv_cache_gib or object_store_gib in the profile"
    yield Finding("memory", free >= need, f"{free:.1f} GiB free", f"about {need:.1f} GiB for {profile.name}", mend)


def _gib(pool: Pool, *, most: float = math.inf) -> float:
    return 0 if pool.gpus else min(pool.actors, most) * (ENGINE_GIB + pool.kv_cache_gib)


def _cgroup_free() -> float:
    """Bytes that a container may still take; infinite where there is no limit."""
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        return math.inf if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return math.inf


def _cpus(profile: Profile) -> Iterator[Finding]:
    """Ray Data waits for ever when actors hold every logical CPU, so some must be left for tasks."""
    if profile.ray.address != "local":
        return
    streaming = sum(pool.actors * pool.cpus for pool in (profile.teacher, profile.judge))
    training = STUDENTS * (profile.trainer.cpus + 1)
    examining = min(profile.evaluator.actors, EXAMINED) * profile.evaluator.cpus
    need = max(streaming, training, examining) + profile.cpu.cpus + 1
    has = profile.ray.num_cpus or os.cpu_count() or 1
    mend = f"set ray.num_cpus to {need:g} or more in the profile: logical CPUs are places, not cores"
    yield Finding("logical cpus", has >= need, f"{has} ({os.cpu_count()} cores)", f"{need:g} or more", mend)


def _models() -> Iterator[Finding]:
    home = workspace.models_home()
    for name in sorted(BUNDLED):
        try:
            locate.check(name, root="", home=home)
            found = "unpacked" if Path(home, name).is_dir() else "packed, the first run unpacks it"
            yield Finding(f"model {name}", True, found, "there", "")
        except ModelError as error:
            yield Finding(f"model {name}", False, "missing", "there", str(error))


def _storage() -> Iterator[Finding]:
    for name, folder in (("this folder", Path.cwd()), ("models folder", Path(workspace.models_home()))):
        mend = f"make room, or give yourself the right to write in {folder}"
        if name == "models folder":
            mend += ", or set RAYLEIGH_MODELS to another folder"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_and_rename(folder)
            free = shutil.disk_usage(folder).free / GIB
            yield Finding(name, free >= ROOM_GIB, f"{free:.1f} GiB free", f"{ROOM_GIB:.0f} GiB that can be written", mend)
        except OSError as error:
            yield Finding(name, False, re.sub(r"^\[Errno \d+\] ", "", str(error)), f"{ROOM_GIB:.0f} GiB that can be written", mend)


def _write_and_rename(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
        half = Path(place, "half")
        with half.open("wb") as file:
            file.write(b"\0" * 2**20)
            file.flush()
            os.fsync(file.fileno())
        half.rename(Path(place, "whole"))


def _sandbox() -> Finding:
    problems = isolation.missing_support()
    missing = [f"{name} {problem}" for name, problem in problems.items() if problem]
    required = isolation.REQUIRED
    found = ", ".join(name for name, problem in problems.items() if not problem) or "no isolation"
    mend = f"only the check `code` needs them: {'; '.join(missing)}. Or require fewer in its `isolation`"
    return Finding("sandbox", not any(problems[name] for name in required), found, " and ".join(required), mend)


def _shared_memory(profile: Profile) -> Iterator[Finding]:
    if profile.ray.address != "local" or not Path("/dev/shm").is_dir():
        return
    free, need = shutil.disk_usage("/dev/shm").free / GIB, profile.ray.object_store_gib
    mend = "enlarge /dev/shm (docker run --shm-size), or lower ray.object_store_gib in the profile"
    yield Finding("/dev/shm", free >= need, f"{free:.1f} GiB free", f"{need:.1f} GiB for Ray's object store", mend)


def _ports() -> Iterator[Finding]:
    mend = "let this user bind ports on 127.0.0.1 (container or firewall rules)"
    sockets: list[socket.socket] = []
    try:
        for _ in range(PORTS):
            sockets.append(socket.socket())
            sockets[-1].bind(("127.0.0.1", 0))
        yield Finding("loopback ports", True, f"{PORTS} bound", f"{PORTS} that can be bound", mend)
    except OSError as error:
        yield Finding("loopback ports", False, str(error), f"{PORTS} that can be bound", mend)
    finally:
        for one in sockets:
            one.close()
