"""`rayleigh doctor`: compare this machine with the needs of a profile, and say how to fix what is missing.

`--json` prints a `Diagnosis`.
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
from contextlib import ExitStack
from pathlib import Path

from packaging.requirements import Requirement

from engine.contract.profile import Pool, Profile, load_profile
from engine.errors import ModelError
from engine.inference import locate
from engine.inference.bundled import BUNDLED
from engine.inference.room import ENGINE_GIB, free_gib
from engine.records.base import Record
from engine.sandbox import isolation
from jobs import places
from jobs.commands import doctor_cluster
from jobs.commands.doctor_cluster import Check
from jobs.terminal.console import columns

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
GIB = 2**30
RAY_GIB = 1.5  # driver, raylet, GCS and the helpers of Ray Data and Ray Train
TRAINER_GIB = 3.0  # a worker that trains 50M parameters
STUDENTS, EVALUATED = 2, 4  # students that train at once; models that answer the holdout at once: teacher, two students, champion;
# further engines of a teacher only take what memory and CPUs have left
DISK_GIB = 3.0  # a small run, its checkpoints and the unpacked models
PORTS = 3  # GCS, raylet, object manager


class Diagnosis(Record):
    """All checks of the machine."""

    profile: str
    """Name of the profile."""
    checks: list[Check]
    """Every check, passed or not."""


def doctor(profile: str) -> Diagnosis:
    """Check this machine against `profile`.

    Raises:
        ContractError: there is no such profile.
    """
    loaded = load_profile(places.profile_path(profile))
    machine = [*_packages(), *_memory(loaded), *_cpus(loaded), *_models(), *_storage(), *_shared_memory(loaded), *_ports()]
    return Diagnosis(profile=loaded.name, checks=[*machine, _sandbox(), *doctor_cluster.checks(loaded)])


def as_text(diagnosis: Diagnosis) -> str:
    """Return a table with a line per check, then how to fix each failed one."""
    rows = [["ok" if check.ok else "NOT OK", check.name, check.found, check.expected] for check in diagnosis.checks]
    fixes = [f"{check.name}: {check.fix}" for check in diagnosis.checks if not check.ok]
    return columns(rows, head=["", "check", "found", "expected"]) + "\n\n" + ("\n".join(fixes) or "All checks pass.")


def _check(name: str, ok: bool, found: str, expected: str, fix: str) -> Check:
    return Check(name=name, ok=ok, found=found, expected=expected, fix="" if ok else fix)


def _packages() -> Iterator[Check]:
    """One check for all packages, and a failed one for each that is missing or has another version."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    engine = "gpu" if _version("vllm") else "cpu"
    required = [Requirement(line) for line in [*project["dependencies"], *extras[engine]]]
    wrong = [need for need in required if not _satisfies(_version(need.name), need)]
    fix = f"pip install -e '.[{engine}]' with cluster/constraints.txt, or `make setup`"
    yield _check("packages", not wrong, f"{len(required) - len(wrong)} as required", f"{len(required)} of pyproject.toml", fix)
    for need in wrong:
        yield _check(need.name, False, _version(need.name) or "not installed", str(need), fix)


def _satisfies(version: str | None, need: Requirement) -> bool:
    return version is not None and need.specifier.contains(version, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory(profile: Profile) -> Iterator[Check]:
    """Teachers and judges run at the same time; so do the trainers of students; so do evaluators. For small models."""
    if profile.ray.address != "local":
        return
    streaming = _gib(profile.teacher) + _gib(profile.judge)
    training = STUDENTS * TRAINER_GIB * (not profile.trainer.gpus)
    evaluating = _gib(profile.evaluator, most=EVALUATED)
    need = RAY_GIB + profile.ray.object_store_gib + max(streaming, training, evaluating)
    free = free_gib()
    fix = "end other programs, or lower actors, kv_cache_gib or object_store_gib in the profile"
    yield _check("memory", free >= need, f"{free:.1f} GiB free", f"about {need:.1f} GiB for {profile.name}", fix)


def _gib(pool: Pool, *, most: float = math.inf) -> float:
    return 0 if pool.gpus else min(pool.actors, most) * (ENGINE_GIB + pool.kv_cache_gib)


def _cpus(profile: Profile) -> Iterator[Check]:
    """Ray Data waits forever if actors hold every logical CPU, so some must be left for tasks."""
    if profile.ray.address != "local":
        return
    streaming = sum(pool.actors * pool.cpus for pool in (profile.teacher, profile.judge))
    training = STUDENTS * (profile.trainer.cpus + 1)
    evaluating = min(profile.evaluator.actors, EVALUATED) * profile.evaluator.cpus
    need = max(streaming, training, evaluating) + profile.cpu.cpus + 1
    has = profile.ray.num_cpus or os.cpu_count() or 1
    fix = f"set ray.num_cpus to {need:g} or more in the profile: logical CPUs are slots, not cores"
    yield _check("logical cpus", has >= need, f"{has} ({os.cpu_count()} cores)", f"{need:g} or more", fix)


def _models() -> Iterator[Check]:
    home = places.models_home()
    for name in sorted(BUNDLED):
        try:
            locate.check(name, root="", home=home)
            found = "unpacked" if Path(home, name).is_dir() else "packed; the first run unpacks it"
            yield _check(f"model {name}", True, found, "there", "")
        except ModelError as error:
            yield _check(f"model {name}", False, "missing", "there", str(error))


def _storage() -> Iterator[Check]:
    for name, folder in (("this folder", Path.cwd()), ("models folder", Path(places.models_home()))):
        fix = f"make room, or give yourself the right to write in {folder}"
        if name == "models folder":
            fix += ", or set RAYLEIGH_MODELS to another folder"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_and_rename(folder)
            free = shutil.disk_usage(folder).free / GIB
            yield _check(name, free >= DISK_GIB, f"{free:.1f} GiB free", f"{DISK_GIB:.0f} GiB that can be written", fix)
        except OSError as error:
            yield _check(name, False, re.sub(r"^\[Errno \d+\] ", "", str(error)), f"{DISK_GIB:.0f} GiB that can be written", fix)


def _write_and_rename(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
        path = Path(place, "written")
        with path.open("wb") as file:
            file.write(b"\0" * 2**20)
            file.flush()
            os.fsync(file.fileno())
        path.rename(Path(place, "renamed"))


def _sandbox() -> Check:
    problems = isolation.missing_support()
    missing = [f"{name} {problem}" for name, problem in problems.items() if problem]
    required = isolation.REQUIRED
    found = ", ".join(name for name, problem in problems.items() if not problem) or "no isolation"
    fix = f"only the check `code` needs them: {'; '.join(missing)}. Or require fewer in its `isolation`"
    return _check("sandbox", not any(problems[name] for name in required), found, " and ".join(required), fix)


def _shared_memory(profile: Profile) -> Iterator[Check]:
    if profile.ray.address != "local" or not Path("/dev/shm").is_dir():
        return
    free, need = shutil.disk_usage("/dev/shm").free / GIB, profile.ray.object_store_gib
    fix = "enlarge /dev/shm (docker run --shm-size), or lower ray.object_store_gib in the profile"
    yield _check("/dev/shm", free >= need, f"{free:.1f} GiB free", f"{need:.1f} GiB for Ray's object store", fix)


def _ports() -> Iterator[Check]:
    fix = "let this user bind ports on 127.0.0.1 (container or firewall rules)"
    try:
        with ExitStack() as opened:
            for _ in range(PORTS):
                opened.enter_context(socket.socket()).bind(("127.0.0.1", 0))
        yield _check("loopback ports", True, f"{PORTS} bound", f"{PORTS} that can be bound", fix)
    except OSError as error:
        yield _check("loopback ports", False, str(error), f"{PORTS} that can be bound", fix)
